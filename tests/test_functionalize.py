"""functionalize: state and draws inside transforms that have no twin, and a real solver."""

from __future__ import annotations

from typing import Any

import chex
import diffrax
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

import jscope as js
from jscope import errors

X = jnp.array([0.5, -1.0, 2.0])
ZEROS = jax.nn.initializers.zeros


def block(x: jax.Array) -> jax.Array:
    w = js.get_variable("w", [3])
    js.get_variable("steps", initializer=0, trainable=False)
    js.assign_add("steps", 1)
    return x * w + jax.random.normal(js.next_rng_key(), x.shape)


def shard_map(pure: Any) -> Any:
    mesh = Mesh(np.array(jax.devices()[:1]), ("i",))
    whole = PartitionSpec()
    return jax.shard_map(pure, mesh=mesh, in_specs=whole, out_specs=whole)


def clipped(pure: Any) -> Any:
    """The function, with the gradient of its input clipped."""
    wrapped = jax.custom_vjp(lambda carry, x: pure(carry, x))
    wrapped.defvjp(
        lambda carry, x: (pure(carry, x), None), lambda _, g: (None, jnp.clip(g[0], -0.5, 0.5))
    )
    return wrapped


def once(transform: Any) -> Any:
    def program(x: jax.Array) -> jax.Array:
        pure, carry = js.functionalize(block)
        out, carry = transform(pure)(carry, x)
        js.put_carry(carry)
        return out.reshape(3) * jax.random.normal(js.next_rng_key(), (3,))

    return program


TRANSFORMS = {
    "none": lambda pure: pure,
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "vjp": lambda pure: lambda carry, x: jax.vjp(pure, carry, x)[0],
    "named_call": jax.named_call,
    "shard_map": shard_map,
    "custom_vjp": clipped,
    "scan": lambda pure: (
        lambda carry, x: lax.scan(lambda c, _: pure(c, x)[::-1], carry, None, length=1)[::-1]
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_first_application_equals_the_plain_program(name: str) -> None:
    plain = js.transform_with_state(lambda x: block(x) * jax.random.normal(js.next_rng_key(), (3,)))
    net = js.transform_with_state(once(TRANSFORMS[name]))
    params, state = net.init(0, X)
    chex.assert_trees_all_equal((params, state), plain.init(0, X))
    wanted, after = plain.apply(params, state, 1, X)
    for apply in (net.apply, jax.jit(net.apply)):
        out, new_state = apply(params, state, 1, X)
        chex.assert_trees_all_close(out, wanted, rtol=1e-6)
        chex.assert_trees_all_equal(new_state, after)
    if name != "custom_vjp":
        loss = lambda apply: lambda p: apply(p, state, 1, X)[0].sum()  # noqa: E731
        chex.assert_trees_all_close(
            jax.grad(loss(net.apply))(params), jax.grad(loss(plain.apply))(params), rtol=1e-5
        )


def test_custom_vjp_keeps_its_own_rule() -> None:
    net = js.transform_with_state(once(clipped))
    plain = js.transform_with_state(once(lambda pure: pure))
    params, state = net.init(0, X)
    # The gradient of the result is that of a draw; beyond 0.5 it is clipped.
    factor = jax.grad(lambda x: plain.apply(params, state, 1, x)[0].sum())(X) / params["w"]
    got = jax.grad(lambda x: net.apply(params, state, 1, x)[0].sum())(X)
    chex.assert_trees_all_close(got, jnp.clip(factor, -0.5, 0.5), rtol=1e-5)


def test_a_raw_scan_over_the_carry_draws_anew_and_counts() -> None:
    def program(x: jax.Array) -> Any:
        js.get_variable("unused", [2], initializer=ZEROS, trainable=False)
        pure, carry = js.functionalize(block)

        def body(carry: Any, _: Any) -> Any:
            out, carry = pure(carry, x)
            return carry, out

        carry, outs = lax.scan(body, carry, None, length=4)
        js.put_carry(carry)
        return outs

    net = js.transform_with_state(program)
    params, state = net.init(0, X)
    outs, after = jax.jit(net.apply)(params, state, 1, X)
    assert len({tuple(row) for row in outs.tolist()}) == 4
    assert after["steps"] == 4
    assert after["unused"] is not None
    first, _ = js.transform_with_state(block).apply(params, state, 1, X)
    chex.assert_trees_all_close(outs[0], first, rtol=1e-6)


def test_two_functions_of_one_scope_draw_different_keys() -> None:
    def program() -> Any:
        draw = lambda: jax.random.key_data(js.next_rng_key())  # noqa: E731
        first, carry_1 = js.functionalize(draw)
        second, carry_2 = js.functionalize(draw)
        return first(carry_1)[0], second(carry_2)[0], draw()

    keys = js.transform(program).apply({}, 0)
    assert len({tuple(key.tolist()) for key in keys}) == 3


def test_without_rng_the_carry_has_no_key() -> None:
    def program() -> Any:
        pure, carry = js.functionalize(js.has_rng)
        assert carry.key is None
        return pure(carry)[0]

    assert js.transform(program).apply({}, None) is False


def field(t: Any, y: jax.Array, args: Any) -> jax.Array:
    with js.variable_scope("field", reuse=js.AUTO_REUSE):
        w = js.get_variable("w", [3, 3])
        drift = js.get_variable("drift", [3], initializer=ZEROS, trainable=False)
    return jnp.tanh(w @ y) + drift


def noisy_field(y: jax.Array) -> jax.Array:
    return field(None, y, None) + jax.random.normal(js.next_rng_key(), (3,))


def solve(term: Any, y: jax.Array, args: Any = None) -> jax.Array:
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(term), diffrax.Heun(), 0.0, 1.0, 0.25, y, args=args
    )
    return solution.ys[-1]


@pytest.fixture
def _settings_of_a_user() -> Any:
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("_settings_of_a_user")
def test_a_solver_of_another_library_reads_variables_and_state() -> None:
    net = js.transform_with_state(lambda y: solve(field, y))
    params, state = net.init(0, X)
    assert list(params["field"]) == ["w"]
    state = jax.tree.map(lambda leaf: leaf + 0.5, state)

    def by_hand(w: jax.Array) -> jax.Array:
        return solve(lambda t, y, args: jnp.tanh(w @ y) + 0.5, X).sum()

    wanted = jax.value_and_grad(by_hand)(params["field"]["w"])
    loss = lambda p: net.apply(p, state, None, X)[0].sum()  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    chex.assert_trees_all_close((value, gradient["field"]["w"]), wanted, rtol=1e-4)


@pytest.mark.usefixtures("_settings_of_a_user")
def test_a_solver_takes_a_functionalized_field() -> None:
    def program(y: jax.Array) -> jax.Array:
        pure, carry = js.functionalize(noisy_field)
        return solve(lambda t, y, carry: pure(carry, y)[0], y, carry)

    net = js.transform_with_state(program)
    params, state = net.init(0, X)
    # One carry for the whole solution: one draw, the same at every evaluation.
    noise = js.transform(lambda: jax.random.normal(js.next_rng_key(), (3,))).apply({}, 1)
    w = params["field"]["w"]
    wanted = solve(lambda t, y, args: jnp.tanh(w @ y) + noise, X)
    out, _ = jax.jit(net.apply)(params, state, 1, X)
    chex.assert_trees_all_close(out, wanted, rtol=1e-4)


@pytest.mark.usefixtures("_settings_of_a_user")
def test_a_solver_with_draws_that_it_would_repeat_is_refused() -> None:
    net = js.transform_with_state(lambda y: solve(lambda t, y, args: noisy_field(y), y))
    with pytest.raises(errors.TransformError, match="A random key cannot be drawn inside"):
        net.init(0, X)


@pytest.mark.usefixtures("_settings_of_a_user")
def test_a_solver_of_another_library_that_calls_twice_is_told_what_to_do() -> None:
    def named(t: Any, y: jax.Array, args: Any) -> jax.Array:
        return -y * js.get_variable("rate", [], initializer=jax.nn.initializers.ones)

    with pytest.raises(
        errors.VariableExistsError,
        match=r"(?s)rate already exists.*jscope\.functionalize or jscope\.make_template, .*AUTO_REUSE",
    ):
        js.transform(lambda y: solve(named, y)).init(0, X)
    net = js.transform(lambda y: solve(js.make_template("field", named), y))
    params = net.init(0, X)
    assert list(js.tree.flatten(params)) == ["field/rate"]
    wanted = solve(lambda t, y, args: -2 * y, X)
    out = net.apply({"field": {"rate": jnp.float32(2)}}, None, X)
    chex.assert_trees_all_close(out, wanted, rtol=1e-5)


@pytest.mark.usefixtures("_settings_of_a_user")
def test_a_scan_of_another_library_is_one_call() -> None:
    def step(carry: jax.Array, x: jax.Array) -> Any:
        return carry * js.get_variable("rate", [], initializer=jax.nn.initializers.ones) + x, carry

    net = js.transform(lambda y: eqxi.scan(step, jnp.float32(1.0), y, kind="lax"))
    assert list(net.init(0, X)) == ["rate"]
    out, _ = jax.jit(net.apply)({"rate": jnp.float32(0.5)}, None, X)
    chex.assert_trees_all_close(out, ((1 * 0.5 + X[0]) * 0.5 + X[1]) * 0.5 + X[2], rtol=1e-6)


def test_what_is_not_a_carry() -> None:
    def program(value: Any) -> None:
        pure, _ = js.functionalize(block)
        pure(value, X)

    for value in (None, ({}, None), {"steps": 0}):
        with pytest.raises(
            errors.StateError, match=r"^carry must be what jscope\.functionalize ga"
        ):
            js.transform_with_state(program).init(0, value)
        with pytest.raises(
            errors.StateError, match=r"^carry must be what jscope\.functionalize ga"
        ):
            js.transform(js.put_carry).init(0, value)


def test_a_function_of_another_pass_is_refused() -> None:
    kept: list[Any] = []
    js.transform_with_state(lambda: kept.append(js.functionalize(block))).init(0)
    (pure, carry), *_ = kept
    with pytest.raises(errors.TransformError, match="outside the pass that made it"):
        pure(carry, X)
    with pytest.raises(errors.TransformError, match="outside the pass that made it"):
        js.transform_with_state(lambda: pure(carry, X)).init(0)


def test_a_carry_that_does_not_fit_is_refused() -> None:
    def batched(x: jax.Array) -> None:
        pure, carry = js.functionalize(block)
        _, carry = jax.vmap(pure, (None, 0))(carry, jnp.stack([x, x]))
        js.put_carry(carry)

    net = js.transform_with_state(batched)
    params, state = net.init(0, X)
    with pytest.raises(
        errors.AssignmentError, match=r"value has shape \(2,\) and the variable has"
    ):
        net.apply(params, state, 1, X)

    def leaking(x: jax.Array) -> None:
        kept: list[Any] = []
        pure, carry = js.functionalize(block)
        jax.checkpoint(lambda c: kept.append(pure(c, x)[1]) or x)(carry)
        js.put_carry(kept[-1])

    net = js.transform_with_state(leaking)
    with pytest.raises(errors.TransformError, match="value of variable steps that leaked from"):
        net.apply(params, state, 1, X)


def test_put_carry_inside_a_raw_transform_is_refused() -> None:
    def program(x: jax.Array) -> jax.Array:
        pure, carry = js.functionalize(block)

        def inner(x: jax.Array) -> jax.Array:
            out, new = pure(carry, x)
            js.put_carry(new)
            return out

        return jax.checkpoint(inner)(x)

    with pytest.raises(
        errors.TransformError, match=r"^A carry cannot be put back inside jax\.checkpoint:"
    ):
        js.transform_with_state(program).init(0, X)

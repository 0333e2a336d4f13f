"""The table of where draws, reads and assignments meet raw transforms, cell by cell."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from cases import NO_GRADIENT, NO_REVERSE, TRANSFORMS, X
from jax import lax

import jscope as js

ONCE = {
    "jit",
    "checkpoint",
    "cond",
    "switch",
    "grad",
    "value_and_grad",
    "vjp",
    "jvp",
    "linearize",
    "named_call",
    "jit of checkpoint",
}
TWINS = {
    "jit": "jscope.jit",
    "checkpoint": "jscope.checkpoint",
    "cond": "jscope.cond",
    "switch": "jscope.switch",
    "grad": "jscope.grad",
    "value_and_grad": "jscope.value_and_grad",
    "vjp": "jscope.functionalize",
    "jvp": "jscope.functionalize",
    "linearize": "jscope.functionalize",
    "named_call": "jax.named_scope",
    "scan": "jscope.scan",
    "map": "jscope.map",
    "while_loop": "jscope.while_loop",
    "fori_loop": "jscope.fori_loop",
    "associative_scan": "jscope.functionalize",
    "vmap": "jscope.vmap",
    "shard_map": "jscope.functionalize",
    "custom_vjp": "jscope.functionalize",
}
TWINS_OF_DRAWS = TWINS | {
    "shard_map": "jscope.shard_map",
    "checkpoint of scan": "jscope.scan",
    "scan of checkpoint": "jscope.scan",
    "vmap of jit": "jscope.vmap",
}
TWINS_OF_ASSIGNMENTS = TWINS | {
    "jit of checkpoint": "jscope.jit",
    "checkpoint of scan": "jscope.checkpoint",
    "scan of checkpoint": "jscope.scan",
    "vmap of jit": "jscope.vmap",
}


def drawing(x: jax.Array) -> jax.Array:
    with js.variable_scope("drawing"):
        w = js.get_variable("w", [3])
        first = jax.random.normal(js.next_rng_key(), (3,))
        second = jax.random.normal(js.next_rng_key(), (3,))
    return jnp.broadcast_to(first + second * w, x.shape) * x


def reading(x: jax.Array) -> jax.Array:
    mean = js.get_variable("mean", [3], trainable=False)
    return x - jnp.broadcast_to(mean, x.shape)


def assigning(x: jax.Array) -> jax.Array:
    js.get_variable("steps", initializer=0, trainable=False)
    js.assign_add("steps", 1)
    return x


def twice(f: Any, before: bool = False) -> Any:
    """A program with draws before, between and after two uses of a block."""

    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("drawing"):
            x = x + jax.random.normal(js.next_rng_key(), (3,))
        with js.variable_scope("a"):
            x = f(x)
        with js.variable_scope("b"):
            x = f(x)
        with js.variable_scope("b/drawing"):
            x = x + jax.random.normal(js.next_rng_key(), (3,))
        return x

    return program


@functools.cache
def plain_draws() -> tuple[Any, Any, Any]:
    net = js.transform(twice(drawing))
    params = net.init(3, X)
    run = lambda p: net.apply(p, 4, X)  # noqa: E731
    return params, run(params), jax.grad(lambda p: run(p).sum())(params)


@pytest.mark.parametrize("kind", ["fresh", "module-level"])
@pytest.mark.parametrize("name", sorted(ONCE))
def test_a_draw_inside_a_transform_that_runs_once_is_the_plain_one(name: str, kind: str) -> None:
    params, wanted, gradient = plain_draws()
    block = (lambda x: drawing(x)) if kind == "fresh" else drawing
    net = js.transform(twice(TRANSFORMS[name](block)))
    chex.assert_trees_all_equal(net.init(3, X), params)
    chex.assert_trees_all_close(net.apply(params, 4, X), wanted, rtol=1e-5)
    value, got = jax.jit(jax.value_and_grad(lambda p: net.apply(p, 4, X).sum()))(params)
    chex.assert_trees_all_close(value, wanted.sum(), rtol=1e-5)
    chex.assert_trees_all_close(got, gradient, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - ONCE))
def test_a_draw_inside_a_transform_that_repeats_is_refused(name: str) -> None:
    net = js.transform(TRANSFORMS[name](drawing))
    twin = TWINS_OF_DRAWS[name].replace(".", r"\.")
    params = js.transform(drawing).init(0, X)
    for call in (
        lambda: net.init(0, X),
        lambda: net.specs(X),
        lambda: net.apply(params, 0, X),
        lambda: jax.jit(net.apply)(params, 0, X),
        lambda: jax.jit(jax.vmap(net.apply, (None, None, 0)))(params, 0, X[None]),
    ):
        with pytest.raises(js.errors.TransformError, match=rf"(?s)drawn inside raw.*{twin}"):
            call()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_state_is_read_inside_every_raw_transform(name: str) -> None:
    plain = js.transform_with_state(reading)
    net = js.transform_with_state(TRANSFORMS[name](reading))
    params, state = net.init(0, X)
    chex.assert_trees_all_equal((params, state), plain.init(0, X))
    for values in (state, jax.tree.map(lambda leaf: leaf + 1, state)):
        wanted, _ = plain.apply(params, values, None, X)
        out, after = net.apply(params, values, None, X)
        chex.assert_trees_all_close(out, wanted, rtol=1e-6)
        assert after["mean"] is values["mean"]
        out, _ = jax.jit(net.apply)(params, values, None, X)
        chex.assert_trees_all_close(out, wanted, rtol=1e-6)
    if name not in NO_GRADIENT:
        derive = jax.jacfwd if name in NO_REVERSE else jax.grad
        got = derive(lambda s: net.apply(params, s, None, X)[0].sum())(state)
        chex.assert_trees_all_close(got["mean"], -jnp.ones(3))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_assigned_value_is_read_inside_every_raw_transform(name: str) -> None:
    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("s", reuse=js.AUTO_REUSE):
            before = TRANSFORMS[name](reading)(x)
            js.assign("mean", jnp.full(3, 7.0))
            return before + TRANSFORMS[name](reading)(x)

    net = js.transform_with_state(program)
    params, state = net.init(0, X)
    out, after = jax.jit(net.apply)(params, state, None, X)
    chex.assert_trees_all_close(out, X - state["s"]["mean"] + X - 7, rtol=1e-5)
    chex.assert_trees_all_equal(after, js.Params({"s": {"mean": jnp.full(3, 7.0)}}))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_assignment_inside_a_raw_transform_is_refused(name: str) -> None:
    net = js.transform_with_state(TRANSFORMS[name](assigning))
    state = {"steps": jnp.int32(0)}
    twin = TWINS_OF_ASSIGNMENTS[name].replace(".", r"\.")
    for call in (
        lambda: net.init(0, X),
        lambda: net.specs(X),
        lambda: net.apply({}, state, None, X),
        lambda: jax.jit(net.apply)({}, state, None, X),
    ):
        with pytest.raises(
            js.errors.TransformError, match=rf"(?s)^Variable steps cannot be assigned.*{twin}"
        ):
            call()


def custom_jvp(f: Any) -> Any:
    wrapped = jax.custom_jvp(lambda x: f(x))
    wrapped.defjvp(lambda primals, tangents: (f(primals[0]), tangents[0]))
    return wrapped


UNKNOWN: dict[str, Callable[[Any], Any]] = {
    "custom_jvp": custom_jvp,
    "closure_convert": lambda f: lambda x: jax.closure_convert(lambda y: f(y), x)[0](x),
    "jacfwd": lambda f: lambda x: jax.jacfwd(lambda y: f(y))(x),
    "hessian": lambda f: lambda x: jax.hessian(lambda y: f(y).sum())(x),
    "linear_transpose": lambda f: lambda x: jax.linear_transpose(lambda y: f(y), x)(x),
    "vectorize": lambda f: jnp.vectorize(f, signature="(n)->(n)"),
    "apply_along_axis": lambda f: lambda x: jnp.apply_along_axis(f, 0, x),
    "sequential_vmap": lambda f: jax.custom_batching.sequential_vmap(lambda x: f(x)),
    "make_jaxpr": lambda f: lambda x: jax.make_jaxpr(lambda y: f(y))(x),
    "trace": lambda f: lambda x: jax.jit(lambda y: f(y)).trace(x),
    "custom_linear_solve": lambda f: (
        lambda x: lax.custom_linear_solve(f, x, lambda _, b: b, symmetric=True)
    ),
    "platform_dependent": lambda f: lambda x: lax.platform_dependent(x, default=f),
    "jit of vectorize": lambda f: (
        lambda x: jax.jit(jnp.vectorize(lambda y: f(y), signature="(n)->(n)"))(x)
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_transform_that_is_not_known_gets_the_safe_answer(name: str) -> None:
    draws = js.transform(UNKNOWN[name](drawing))
    assigns = js.transform_with_state(UNKNOWN[name](assigning))
    for call in (lambda: draws.init(0, X), lambda: draws.apply({"drawing": {"w": X}}, 0, X)):
        with pytest.raises(js.errors.TransformError, match="A random key cannot be drawn inside"):
            call()
    with pytest.raises(js.errors.TransformError, match="Variable steps cannot be assigned inside"):
        assigns.apply({}, {"steps": jnp.int32(0)}, None, X)


def test_tree_map_is_no_transform() -> None:
    def program(x: jax.Array) -> Any:
        js.get_variable("steps", initializer=0, trainable=False)

        def leaf(y: jax.Array) -> jax.Array:
            js.assign_add("steps", 1)
            return y + jax.random.normal(js.next_rng_key(), y.shape)

        return jax.tree.map(leaf, [x, x])

    net = js.transform_with_state(program)
    (a, b), state = net.apply(*net.init(0, X), 1, X)
    assert not jnp.array_equal(a, b)
    assert state["steps"] == 2


def key_data(x: jax.Array | None = None) -> jax.Array:
    return jax.random.key_data(js.next_rng_key())


@pytest.mark.parametrize("pred", [True, False])
def test_both_branches_of_a_raw_cond_draw_the_keys_of_the_plain_program(pred: bool) -> None:
    def two(x: jax.Array) -> jax.Array:
        return jnp.stack([key_data(), key_data()])

    def one(x: jax.Array) -> jax.Array:
        nested = lax.cond(x > 0, lambda: key_data(), lambda: key_data())
        return jnp.stack([nested, jnp.zeros_like(nested)])

    def program(run: Any) -> Any:
        def inner(x: jax.Array) -> Any:
            return key_data(), run(x), key_data()

        return inner

    x = jnp.float32(1 if pred else -1)
    net = js.transform(program(lambda x: lax.cond(x > 0, two, one, x)))
    plain = js.transform(program(two if pred else one))
    before, inside, after = net.apply({}, 0, x)
    wanted = plain.apply({}, 0, x)
    chex.assert_trees_all_equal((before, inside), wanted[:2])
    # What follows continues after the branch that drew most, whichever runs.
    chex.assert_trees_all_equal(after, js.transform(program(two)).apply({}, 0, x)[2])


def test_one_function_in_two_raw_transforms_draws_twice() -> None:
    @jax.checkpoint
    def block(x: jax.Array) -> jax.Array:
        return key_data()

    def program(x: jax.Array) -> Any:
        return block(x), block(x), jax.jit(key_data)(x), jax.jit(key_data)(x)

    keys = js.transform(program).apply({}, 0, X)
    plain = js.transform(lambda x: tuple(key_data() for _ in range(4))).apply({}, 0, X)
    chex.assert_trees_all_equal(keys, plain)
    assert len({tuple(key.tolist()) for key in keys}) == 4


def test_a_twin_inside_a_raw_loop_does_not_draw_either() -> None:
    def program(x: jax.Array) -> jax.Array:
        return lax.scan(lambda c, _: (js.jit(drawing)(c), None), x, None, length=2)[0]

    with pytest.raises(js.errors.TransformError, match=r"raw jax\.lax\.scan"):
        js.transform(program).init(0, X)


def test_a_twin_inside_a_raw_transform_does_not_assign_either() -> None:
    net = js.transform_with_state(jax.checkpoint(lambda x: js.jit(assigning)(x)))
    with pytest.raises(js.errors.TransformError, match=r"raw jax\.checkpoint"):
        net.init(0, X)

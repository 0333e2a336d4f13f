"""jscope.shard_map on one device: what its function may do; on many, ``test_gather.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jscope as js
import jscope.testing
from jscope import errors
from jscope._hlo import canonical

X = jnp.array([0.5, -1.0, 2.0])
MESH = jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto,))
DIVIDED = P("i")
ZEROS = jax.nn.initializers.zeros


def shards(f: Callable[..., Any], spec: P = DIVIDED) -> Callable[..., Any]:
    return js.shard_map(f, mesh=MESH, in_specs=spec, out_specs=spec)


def scale(x: jax.Array) -> jax.Array:
    return x * js.get_variable("w", [3])


def noisy(x: jax.Array) -> jax.Array:
    return scale(x) + jax.random.normal(js.next_rng_key(), x.shape)


def test_the_program_is_that_of_the_function_with_variables_as_arguments() -> None:
    net = js.transform(shards(scale))
    params = net.init(0, X)

    def by_hand(params: Any, x: jax.Array) -> Any:
        whole = jax.shard_map(
            lambda x, w: x * w, mesh=MESH, in_specs=(P("i"), P()), out_specs=P("i")
        )
        return whole(x, params["w"])

    ours = jax.jit(lambda params, x: net.apply(params, None, x))
    texts = [f.lower(params, X).compile().as_text() for f in (ours, jax.jit(by_hand))]
    assert canonical(texts[0]) == canonical(texts[1])


def test_variables_read_before_inside_and_after_are_one() -> None:
    def program(x: jax.Array) -> Any:
        w = js.get_variable("w", [3])
        with js.variable_scope("", reuse=True):
            y = shards(scale)(x)
            after = js.get_variable("w", [3])
        with js.variable_scope("made"):
            y = shards(scale)(y)
        with js.variable_scope("made", reuse=True):
            return y, after is w, js.get_variable("w")

    net = js.transform(program)
    params = net.init(0, X)
    assert list(js.tree.flatten(params)) == ["w", "made/w"]
    for apply in (net.apply, jax.jit(net.apply)):
        y, same, made = apply(params, None, X)
        assert same
        chex.assert_trees_all_equal(made, params["made"]["w"])
        chex.assert_trees_all_close(y, X * params["w"] * params["made"]["w"], rtol=1e-6)


def test_a_function_reads_what_only_params_have() -> None:
    def lookup(x: jax.Array) -> jax.Array:
        with js.variable_scope("", reuse=True):
            return x * js.get_variable("w")

    params = {"w": X}
    chex.assert_trees_all_close(js.transform(shards(lookup)).apply(params, None, X), X * X)


def test_state_is_read_as_it_was_assigned() -> None:
    def reading(x: jax.Array) -> jax.Array:
        return x - js.get_variable("mean", [3], initializer=ZEROS, trainable=False)

    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("", reuse=js.AUTO_REUSE):
            before = shards(reading)(x)
            js.assign("mean", x)
            return jnp.stack([before, shards(reading)(x)])

    net = js.transform_with_state(program)
    out, state = jax.jit(net.apply)(*net.init(0, X), None, X)
    chex.assert_trees_all_equal((out, state["mean"]), (jnp.stack([X, 0 * X]), X))


def test_an_assignment_is_refused() -> None:
    def assigning(x: jax.Array) -> jax.Array:
        js.get_variable("steps", initializer=0, trainable=False)
        js.assign_add("steps", 1)
        return x

    net = js.transform_with_state(shards(assigning))
    for call in (lambda: net.init(0, X), lambda: net.apply({}, {"steps": 0}, None, X)):
        with pytest.raises(errors.TransformError) as caught:
            call()
        first, _, fix = str(caught.value).splitlines()
        assert first == (
            "Variable steps cannot be assigned inside jscope.shard_map: every shard would assign a "
            "value of its own."
        )
        assert fix == "  fix:    return the values and assign one outside."
        assert caught.value.transform == "jscope.shard_map"


def test_a_shard_draws_with_its_number_folded_in_and_without_one_where_nothing_is_divided() -> None:
    draw = lambda x: x + jax.random.normal(js.next_rng_key(), (3,))  # noqa: E731
    key = js.transform(js.next_rng_key).apply({}, 1)
    for spec, wanted in ((P("i"), jax.random.fold_in(key, 0)), (P(), key)):
        net = js.transform(shards(draw, spec=spec))
        for apply in (net.apply, jax.jit(net.apply)):
            noise = jax.random.normal(wanted, (3,))
            chex.assert_trees_all_close(apply({}, 1, X), X + noise, rtol=1e-6)


AROUND: dict[str, Callable[[Any], Any]] = {
    "jit": js.jit,
    "checkpoint": js.checkpoint,
    "raw jit": jax.jit,
    "scan": lambda f: lambda x: js.scan(lambda c, _: (f(c), None), x, None, length=2)[0],
    "layer_stack": lambda f: js.layer_stack(2)(f),
    "vmap": lambda f: lambda x: js.vmap(f)(x[None])[0],
    "split vmap": lambda f: lambda x: js.vmap(f, variables="split")(jnp.stack([x, x])).sum(0),
    "cond": lambda f: lambda x: js.cond(x[0] < 9, f, lambda y: y, x),
    "grad": lambda f: lambda x: js.grad(lambda y: f(y).sum())(x),
    "getter": js.variable_scope("", custom_getter=js.getters.cast(jnp.float32)),
}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", AROUND)
def test_it_works_around_and_inside_the_other_twins(name: str, inside: bool) -> None:
    wrap = AROUND[name]
    whole = lambda f: shards(f, spec=P())  # noqa: E731 - whose keys are those of the plain program
    plain = js.transform(wrap(noisy))
    net = js.transform(whole(wrap(noisy)) if inside else wrap(whole(noisy)))
    params = plain.init(0, X)
    chex.assert_trees_all_equal(net.init(0, X), params)

    @jax.jit
    def both(params: Any) -> Any:
        return [jax.value_and_grad(lambda p, n=n: n.apply(p, 1, X).sum())(params) for n in nets]

    nets = net, plain
    chex.assert_trees_all_close(*both(params), rtol=1e-5)


def test_a_block_that_holds_one_is_run_under_each_scope() -> None:
    block = js.checkpoint(shards(scale))

    def program(x: jax.Array) -> jax.Array:
        for name in "abc":
            with js.variable_scope(name):
                x = block(x)
        return x

    net = js.transform(program)
    params = net.init(0, X)
    a, b, c = js.tree.flatten(params).values()
    chex.assert_trees_all_close(jax.jit(net.apply)(params, None, X), X * a * b * c, rtol=1e-6)
    with pytest.raises(AssertionError, match="it calls shard_map"):
        js.testing.assert_traced_once(net, block, X)


def test_a_function_runs_once_in_init_and_twice_in_apply() -> None:
    runs: list[int] = []

    def counting(x: jax.Array) -> jax.Array:
        runs.append(1)
        return scale(x)

    fn: Callable[..., Any] = counting
    for axis in "ij":  # one in the other
        fn = js.shard_map(fn, in_specs=P(axis), out_specs=P(axis), axis_names={axis})
    net = js.transform(fn)
    with jax.set_mesh(jax.make_mesh((1, 1), ("i", "j"), axis_types=(AxisType.Auto,) * 2)):
        params = net.init(0, X)
        assert len(runs) == 1
        out = jax.jit(net.apply)(params, None, X)
    assert len(runs) == 3
    chex.assert_trees_all_close(out, X * params["w"], rtol=1e-6)


def test_losses_and_named_variables_see_what_was_made_inside() -> None:
    def inner(x: jax.Array) -> Any:
        y = scale(x)
        return y, js.named_variables()["w"], js.get_regularization_loss()

    def program(x: jax.Array) -> Any:
        with js.variable_scope("", regularizer=js.regularizers.l2(1.0)):
            found = shards(inner, spec=P())(x)
        return found, js.named_variables()["w"], js.get_regularization_loss()

    net = js.transform(program)
    params = net.init(0, X)
    (_, *inside), *outside = jax.jit(net.apply)(params, None, X)
    chex.assert_trees_all_equal(inside, outside)
    chex.assert_trees_all_equal(inside[0], params["w"])


def test_it_decorates_and_errors_of_jax_come_through() -> None:
    @js.shard_map(mesh=MESH, in_specs=P("i"), out_specs=P("i"))
    def decorated(x: jax.Array) -> jax.Array:
        return scale(x)

    assert decorated.__name__ == "decorated"
    net = js.transform(decorated)
    assert net.apply(net.init(0, X), None, X).shape == (3,)
    with pytest.raises(
        errors.ArgumentError, match=r"^The mesh must be a mesh of jax\.sharding, or N"
    ):
        js.shard_map(scale, mesh="i", out_specs=P())  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="The context mesh cannot be empty"):
        js.transform(js.shard_map(scale, out_specs=P())).init(0, X)
    with pytest.raises(ValueError, match="different lengths of tuple at key path"):
        js.transform(js.shard_map(scale, mesh=MESH, in_specs=(), out_specs=P())).init(0, X)

"""The laws of the design, each over all programs and wrappings of ``cases``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from cases import (
    KINDS,
    NO_GRADIENT,
    NO_REVERSE,
    PROGRAMS,
    TRACED_ONCE,
    TRANSFORMS,
    WRAPPINGS,
    Block,
    X,
    block,
    wrapped,
)
from jax import lax

import jscope as js
from jscope._hlo import canonical


def other_values(params: js.Params) -> js.Params:
    return jax.tree.map(lambda leaf: 0.5 - leaf, params)


def everything(apply: Callable[..., Any], transform: str) -> Callable[[Any, Any], dict[str, Any]]:
    """What law 2 compares, of one apply: values, gradients, outer vmaps."""

    def run(params: Any, x: jax.Array) -> dict[str, Any]:
        out = {"value": apply(params, None, x)}
        out["vmap over x"] = jax.vmap(apply, in_axes=(None, None, 0))(
            params, None, jnp.stack([x, 2 * x])
        )
        out["vmap over params"] = jax.vmap(apply, in_axes=(0, None, None))(
            jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), params), None, x
        )
        if transform not in NO_GRADIENT:
            derive = jax.jacfwd if transform in NO_REVERSE else jax.grad
            out["gradient"] = derive(lambda p: apply(p, None, x).sum())(params)
        return out

    return run


@functools.cache
def plain(program: str) -> tuple[js.Params, Any, Any]:
    """The program without a transform: initial values, and results for two sets of them."""
    net = js.transform(PROGRAMS[program](block))
    params = net.init(0, X)
    run = jax.jit(everything(net.apply, "none"))
    return params, run(params, X), run(other_values(params), X)


def assert_same(got: Any, wanted: Any, program: str) -> None:
    # A gradient through a cast to float16 may be rounded once or twice.
    rtol = 2e-3 if program == "casting getter" else 1e-5
    for name in got:
        chex.assert_trees_all_close(got[name], wanted[name], rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("transform", WRAPPINGS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_transform_changes_nothing(program: str, transform: str) -> None:
    params, first, second = plain(program)
    nets = {kind: js.transform(PROGRAMS[program](wrapped(transform, kind))) for kind in KINDS}
    for net in nets.values():
        chex.assert_trees_all_equal(net.init(0, X), params)
        chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(net.init, 0, X), params)

    @jax.jit
    def all_kinds(params: Any, x: jax.Array) -> list[Any]:
        return [everything(net.apply, transform)(params, x) for net in nets.values()]

    for got in all_kinds(params, X):
        assert_same(got, first, program)
    for got in all_kinds(other_values(params), X):
        assert_same(got, second, program)


@pytest.mark.parametrize("transform", ["jit", "checkpoint", "scan", "vmap"])
def test_init_under_an_outer_transform_makes_the_same_values(transform: str) -> None:
    program = PROGRAMS["around and inside"](wrapped(transform, "module-level function"))
    net = js.transform(program)
    params = net.init(7, X)
    chex.assert_trees_all_equal(jax.jit(net.init)(7, X), params)
    keys = jax.vmap(jax.random.key)(jnp.array([7, 8]))
    ensemble = jax.vmap(net.init, in_axes=(0, None))(keys, X)
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[0], ensemble), params)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transform", WRAPPINGS)
def test_an_eager_apply_follows_its_params(transform: str, kind: str) -> None:
    program = "distinct scopes"
    params, first, second = plain(program)
    net = js.transform(PROGRAMS[program](wrapped(transform, kind)))
    chex.assert_trees_all_close(net.apply(params, None, X), first["value"], rtol=1e-5)
    again = net.apply(other_values(params), None, X)
    chex.assert_trees_all_close(again, second["value"], rtol=1e-5)


@pytest.mark.parametrize(
    "transform", ["jit", "checkpoint", "scan", "cond", "vmap", "vjp", *TRACED_ONCE]
)
@pytest.mark.parametrize("program", PROGRAMS)
def test_eager_gradients_equal_the_plain_ones(program: str, transform: str) -> None:
    params, first, _ = plain(program)
    net = js.transform(PROGRAMS[program](wrapped(transform, "module-level function")))
    got = jax.grad(lambda p: net.apply(p, None, X).sum())(params)
    chex.assert_trees_all_close(got, first["gradient"], rtol=1e-5)


@pytest.mark.parametrize("program", PROGRAMS)
def test_init_makes_exactly_the_variables_of_specs(program: str) -> None:
    net = js.transform(PROGRAMS[program](wrapped("checkpoint", "module-level function")))
    params, specs = net.init(0, X), net.specs(X)
    js.check(params, specs)
    chex.assert_trees_all_equal_shapes_and_dtypes(params, specs.params())
    assert list(js.tree.flatten(params)) == list(specs)


@pytest.mark.parametrize("transform", [*WRAPPINGS, "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_duplicate_made_by_the_user_is_refused(transform: str, kind: str) -> None:
    f = KINDS[kind]() if transform == "none" else wrapped(transform, kind)

    def one_line(x: jax.Array) -> jax.Array:
        return f(x) + f(x)

    def mapped(x: jax.Array) -> Any:
        return jax.tree.map(f, {"a": x, "b": x})

    def loop(x: jax.Array) -> jax.Array:
        for _ in range(2):
            x = f(x)
        return x

    def nested(x: jax.Array) -> jax.Array:
        return jax.checkpoint(lambda y: f(f(y)))(x)

    params = {"w": jnp.ones(3), "b": jnp.ones(3)}
    for program in (one_line, mapped, loop, nested):
        net = js.transform(program)
        for call in (
            lambda net=net: net.init(0, X),
            lambda net=net: jax.eval_shape(net.apply, params, None, X),
        ):
            with pytest.raises(js.errors.VariableExistsError, match=r"^Variable w already exists"):
                call()


def test_the_two_branches_of_a_cond_are_two_requests() -> None:
    def program(x: jax.Array) -> jax.Array:
        return lax.cond(x.sum() > 0, lambda y: block(y), lambda y: block(2 * y), x)

    with pytest.raises(js.errors.VariableExistsError, match="w already exists"):
        js.transform(program).init(0, X)


def test_one_function_for_both_branches_of_a_cond_is_one_request() -> None:
    def program(x: jax.Array) -> jax.Array:
        return lax.cond(x.sum() > 0, block, block, x)

    net = js.transform(program)
    params = net.init(0, X)
    assert list(params) == ["w", "b"]
    chex.assert_trees_all_close(
        jax.jit(net.apply)(params, None, X), X * params["w"] + params["b"], rtol=1e-6
    )


def test_branches_through_one_wrapper_are_told_apart() -> None:
    def layer(name: str, x: jax.Array) -> jax.Array:
        return x * js.get_variable("w", [3])

    def program(x: jax.Array) -> jax.Array:
        branches = [functools.partial(layer, "a"), functools.partial(layer, "b")]
        return lax.switch(jnp.int32(x.sum() > 0), branches, x)

    with pytest.raises(js.errors.VariableExistsError, match="w already exists"):
        js.transform(program).init(0, X)


def with_activation(act: Callable[..., jax.Array]) -> Block:
    """Functions that differ only by what their closure calls."""

    def layer(x: jax.Array) -> jax.Array:
        return act(js.layers.dense(x, 3))

    return layer


def is_large(x: jax.Array) -> jax.Array:
    return x.sum() > 1e9


TWO_CALLABLES: dict[str, Callable[[Any], Block]] = {
    "switch": lambda lib: (
        lambda x: lib.switch(1, [with_activation(jnp.tanh), with_activation(jax.nn.relu)], x)
    ),
    "cond": lambda lib: (
        lambda x: lib.cond(is_large(x), with_activation(jnp.tanh), with_activation(jax.nn.relu), x)
    ),
    "while_loop": lambda lib: (
        lambda x: lib.while_loop(with_activation(is_large), with_activation(jnp.tanh), x)
    ),
}


@pytest.mark.parametrize("lib", [lax, js], ids=["raw", "twin"])
@pytest.mark.parametrize("name", TWO_CALLABLES)
def test_functions_that_differ_by_a_callable_in_their_closure_are_two_requests(
    name: str, lib: Any
) -> None:
    net = js.transform(TWO_CALLABLES[name](lib))
    x = X[None]
    assert list(net.specs(x)) == [
        f"{layer}/{part}" for layer in ("dense", "dense_1") for part in ("kernel", "bias")
    ]
    params = net.init(0, x)
    for apply in (net.apply, jax.jit(net.apply)):
        out = apply(params, None, x)
        own = params["dense_1"]  # of the branch that is taken here
        wanted = x if name == "while_loop" else jax.nn.relu(x @ own["kernel"] + own["bias"][None])
        chex.assert_trees_all_close(out, wanted, rtol=1e-5)


def repeated_by_associative_scan(x: jax.Array) -> jax.Array:
    def combine(a: jax.Array, b: jax.Array) -> jax.Array:
        with js.variable_scope(None, "combine"):
            return a + b * js.get_variable("w", [])

    return lax.associative_scan(combine, x)


def repeated_by_map(x: jax.Array) -> jax.Array:
    def row(y: jax.Array) -> jax.Array:
        with js.variable_scope(None, "row"):
            y = y * js.get_variable("w", [])
        with js.variable_scope(None, "row"):
            return y * js.get_variable("w", [])

    return lax.map(row, x, batch_size=4)


def repeated_by_while_loop(x: jax.Array) -> jax.Array:
    def body(carry: Any) -> Any:
        step, y = carry
        with js.variable_scope(None, "body"):
            return step + 1, y * js.get_variable("w", []).astype(y.dtype)

    # The weakly typed carry makes JAX trace the body again.
    return lax.while_loop(lambda c: c[0] < 2, body, (0, 1.0))[1] * x


REPEATED = {
    "associative_scan": (repeated_by_associative_scan, ["combine/w"]),
    "map with a remainder": (repeated_by_map, ["row/w", "row_1/w"]),
    "while_loop": (repeated_by_while_loop, ["body/w"]),
}


@pytest.mark.parametrize("outer", ["none", "jit", "checkpoint", "scope and checkpoint"])
@pytest.mark.parametrize("name", REPEATED)
def test_a_repeat_made_by_jax_is_accepted(name: str, outer: str) -> None:
    function, names = REPEATED[name]
    x = jnp.arange(9.0)

    def program(x: jax.Array) -> jax.Array:
        if outer == "jit":
            return jax.jit(function)(x)
        if outer == "checkpoint":
            return jax.checkpoint(lambda y: function(y))(x)
        if outer == "scope and checkpoint":
            with js.variable_scope("s"):
                return jax.checkpoint(function)(x)
        return function(x)

    net = js.transform(program)
    params = net.init(0, x)
    prefix = "s/" if outer.startswith("scope") else ""
    assert list(js.tree.flatten(params)) == [prefix + other for other in names]
    plainly = js.transform(function)
    values = params["s"] if prefix else params
    chex.assert_trees_all_close(
        jax.jit(net.apply)(params, None, x), plainly.apply(values, None, x), rtol=1e-6
    )


@pytest.mark.parametrize("name", REPEATED)
def test_numbering_goes_on_after_a_repeat(name: str) -> None:
    function, names = REPEATED[name]

    def program(x: jax.Array) -> jax.Array:
        function(x)
        with js.variable_scope(None, names[0].split("/")[0]) as scope:
            assert scope.name == f"{names[0].split('/')[0]}_{len(names)}"
        return function(x)

    specs = js.transform(program).specs(jnp.arange(9.0))
    assert len(specs) == 2 * len(names)


def test_the_whole_program_twice_in_a_scope_is_refused_even_if_jax_repeats_parts() -> None:
    def program(x: jax.Array) -> jax.Array:
        def row(y: jax.Array) -> jax.Array:
            return y * js.get_variable("w", [])

        return lax.map(row, x, batch_size=4) + lax.map(row, x, batch_size=4)

    with pytest.raises(js.errors.VariableExistsError, match="w already exists"):
        js.transform(program).init(0, jnp.arange(9.0))


def hand_written(params: Any, x: jax.Array) -> jax.Array:
    for index in range(3):
        layer = params[f"layer_{index}"]
        x = x * layer["w"] + layer["b"]
    return x


@pytest.mark.parametrize("transform", ["none", "checkpoint", "jit"])
def test_nothing_remains_at_run_time(transform: str) -> None:
    f = block if transform == "none" else wrapped(transform, "module-level function")
    net = js.transform(PROGRAMS["distinct scopes"](f))
    params = net.init(0, X)

    def by_hand(params: Any, x: jax.Array) -> jax.Array:
        for index in range(3):
            layer = params[f"layer_{index}"]
            one = lambda y, layer=layer: y * layer["w"] + layer["b"]  # noqa: E731
            x = (one if transform == "none" else TRANSFORMS[transform](one))(x)
        return x

    ours = (
        jax.jit(lambda params, x: net.apply(params, None, x)).lower(params, X).compile().as_text()
    )
    theirs = jax.jit(by_hand).lower(params, X).compile().as_text()
    assert canonical(ours) == canonical(theirs)


def test_order_and_neighbours_never_change_an_initial_value() -> None:
    def program(names: list[str]) -> Callable[[], None]:
        def make() -> None:
            for name in names:
                js.get_variable(name, [4])

        return make

    alone = js.tree.flatten(js.transform(program(["a/w"])).init(0))["a/w"]
    for names in (["b", "a/w"], ["a/w", "c/w", "b"], ["a/v", "a/w", "a/x"]):
        among = js.tree.flatten(js.transform(program(names)).init(0))["a/w"]
        chex.assert_trees_all_equal(alone, among)


def test_apply_traces_once_for_equal_shapes() -> None:
    runs = []

    def program(x: jax.Array) -> jax.Array:
        runs.append(1)
        return PROGRAMS["distinct scopes"](wrapped("checkpoint", "module-level function"))(x)

    net = js.transform(program)
    params = net.init(0, X)
    runs.clear()
    jitted = jax.jit(net.apply)
    for values in (params, other_values(params), params):
        jitted(values, None, X)
        jax.jit(net.apply)(values, None, X)
    assert len(runs) == 1


@pytest.mark.parametrize("transform", [js.transform, js.transform_with_state])
def test_init_and_apply_are_stable_function_objects(transform: Any) -> None:
    runs: list[None] = []

    def program(x: jax.Array) -> jax.Array:
        runs.append(None)
        return block(x)

    net = transform(program)
    init, apply = net
    assert (init, apply) == (net.init, net.apply)
    assert js.without_apply_rng(net).init is init
    trees = init(0, X)
    given = (trees, None, X) if transform is js.transform else (*trees, None, X)
    runs.clear()
    for seed, function in enumerate((init, net.init, init)):
        chex.assert_trees_all_equal_shapes(jax.jit(function)(seed, X), trees)
    assert len(runs) == 1
    for function in (apply, net.apply, apply):
        chex.assert_trees_all_equal_shapes(jax.jit(function)(*given), apply(*given))
    assert len(runs) == 1 + 1 + 3  # one jitted, three eager

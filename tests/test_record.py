"""record, capture and plant: values by name, out of every transform that can let them out."""

from __future__ import annotations

import functools
import gc
import re
import threading
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import PROGRAMS, X, custom_vjp
from cases import block as plain_block
from jax import lax

import jscope as js
from jscope import _cache_key, _capture, errors
from jscope._hlo import canonical
from jscope._numbering import ScopeNode
from jscope._pass import Pass
from jscope._report import brief

Block = Callable[[jax.Array], jax.Array]


def block(x: jax.Array) -> jax.Array:
    """Records ``hidden`` in its scope: [3] -> [3]."""
    hidden = js.record("hidden", jnp.tanh(x * js.get_variable("w", [3])))
    return 2 * hidden


def in_scopes(f: Block, count: int = 2) -> Block:
    def program(x: jax.Array) -> jax.Array:
        for index in range(count):
            with js.variable_scope(f"layer_{index}"):
                x = f(x)
        return x

    return program


def derived(f: Block) -> Block:
    def loss(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = f(x)
        return y.sum(), y

    return lambda x: js.grad(loss, has_aux=True)(x)[1]


OPEN: dict[str, Callable[[Block], Block]] = {
    "plain": lambda f: f,
    "jit": js.jit,
    "checkpoint": js.checkpoint,
    "grad": derived,
    "value_and_grad": lambda f: (
        lambda x: js.value_and_grad(
            lambda y: (f(y).sum(), f(y)) if False else (lambda z: (z.sum(), z))(f(y)), has_aux=True
        )(x)[0][1]
    ),
    "jit of checkpoint": lambda f: js.jit(js.checkpoint(f)),
    "raw named_call": lambda f: jax.named_call(f, name="n"),
    "raw named_scope": lambda f: jax.named_scope("n")(f),
}
"""Twins that run their function once: values come out as they are."""

AXIS: dict[str, Callable[[Block], Block]] = {
    "scan": lambda f: lambda x: js.scan(lambda c, y: (c, f(y)), None, jnp.stack([x, -x]))[1][0],
    "scan, carry": lambda f: lambda x: js.scan(lambda c, _: (f(c), None), x, None, length=2)[0],
    "scan, reverse": lambda f: lambda x: js.scan(lambda c, _: (f(c), 0), x, None, 2, True)[0],
    "map": lambda f: lambda x: js.map(f, jnp.stack([x, -x]))[0],
    "map, batches": lambda f: lambda x: js.map(f, jnp.stack([x, -x]), batch_size=2)[0],
    "vmap": lambda f: lambda x: js.vmap(f)(jnp.stack([x, -x]))[0],
    "vmap, split": lambda f: lambda x: js.vmap(f, variables="split")(jnp.stack([x, -x]))[0],
    "layer_stack": lambda f: js.layer_stack(2)(f),
    "layer_stack, checkpoint": lambda f: js.layer_stack(2, checkpoint=True)(f),
    "scan of jit": lambda f: lambda x: js.scan(lambda c, _: (js.jit(f)(c), None), x, None, 2)[0],
    "checkpoint of scan": lambda f: js.checkpoint(
        lambda x: js.scan(lambda c, _: (f(c), None), x, None, length=2)[0]
    ),
    "weakly typed carry": lambda f: (
        lambda x: js.scan(
            lambda c, _: ((c[0] + jnp.float32(1), f(c[1])), None), (0.0, x), None, length=2
        )[0][1]
    ),
}
"""Twins that give values a leading axis of 2."""

NAMES = ["layer_0/hidden", "layer_1/hidden"]


@pytest.mark.parametrize("transform", OPEN | AXIS)
def test_capture_changes_nothing_and_plant_of_what_was_captured_neither(transform: str) -> None:
    net = js.transform(in_scopes((OPEN | AXIS)[transform](block)))
    params = net.init(0, X)

    @jax.jit
    def results(params: Any, x: jax.Array) -> Any:
        _, seen = both = js.capture(net.apply)(params, None, x)
        again = js.plant(seen)(net.apply)(params, None, x)
        changed = js.plant({NAMES[1]: 2 * seen[NAMES[1]]})(net.apply)(params, None, x)
        return net.apply(params, None, x), both, again, changed

    wanted, (out, seen), again, changed = results(params, X)
    chex.assert_trees_all_close((out, again), (wanted, wanted), rtol=1e-6)
    assert not np.allclose(changed, wanted)
    assert list(seen) == NAMES
    shape = (2, 3) if transform in AXIS else (3,)
    assert [value.shape for value in seen.values()] == [shape, shape]
    chex.assert_trees_all_close(js.capture(net.apply)(params, None, X), (out, seen), rtol=1e-6)


def recording_block(x: jax.Array) -> jax.Array:
    return js.record("output", plain_block(x))


TWINS = {"jit": js.jit(recording_block), "checkpoint": js.checkpoint(recording_block)}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_values_of_a_twin_are_those_of_the_block_inlined(program: str) -> None:
    net = js.transform(PROGRAMS[program](recording_block))
    params = net.init(0, X)
    wanted = jax.jit(js.capture(net.apply))(params, None, X)
    assert wanted[1]
    for twin in TWINS.values():
        apply = js.transform(PROGRAMS[program](twin)).apply

        @jax.jit
        def results(params: Any, x: jax.Array, apply: Any = apply) -> Any:
            out = [apply(params, None, x)]
            for _ in range(2):
                out.append(js.capture(apply)(params, None, x))
                out += [js.plant(out[-1][1])(apply)(params, None, x), apply(params, None, x)]
            return out

        first, *others = results(params, X)
        assert list(others[0][1]) == list(wanted[1])
        chex.assert_trees_all_close(
            [first, *others], [wanted[0], *2 * [wanted, *2 * [first]]], rtol=1e-3
        )


def test_values_of_a_stack_are_those_of_the_loop() -> None:
    net = js.transform(js.layer_stack(2)(block))
    params = net.init(0, X)
    _, seen = js.capture(net.apply)(params, None, X)
    by_loop = js.transform(in_scopes(block))
    layers = {f"layer_{i}": jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(2)}
    _, wanted = js.capture(by_loop.apply)(layers, None, X)
    chex.assert_trees_all_close(seen["hidden"], jnp.stack(list(wanted.values())), rtol=1e-6)


def test_each_iteration_is_given_its_own_part_of_what_is_planted() -> None:
    def table(x: jax.Array) -> jax.Array:
        def row(y: jax.Array) -> jax.Array:
            return js.scan(lambda c, z: (c, js.record("cell", z)), None, y)[1]

        return js.vmap(row)(x)

    apply = js.transform(table).apply
    values = jnp.arange(6.0).reshape(2, 3)
    for wrap in (jax.jit, lambda f: f):
        _, seen = wrap(js.capture(apply))({}, None, values)
        chex.assert_trees_all_equal(seen["cell"], values)
        planted = wrap(js.plant({"cell": values[::-1]})(apply))({}, None, values)
        chex.assert_trees_all_equal(planted, values[::-1])


@pytest.mark.parametrize("program", OPEN | AXIS)
def test_a_function_is_planted_in_every_iteration(program: str) -> None:
    twin = (OPEN | AXIS)[program]
    changed = lambda x: 2 * (3 * jnp.tanh(x * js.get_variable("w", [3])))  # noqa: E731
    net = js.transform(in_scopes(twin(block)))
    params = net.init(0, X)
    _, seen = js.capture(net.apply)(params, None, X)
    planted = js.plant(dict.fromkeys(seen, lambda hidden, *_: 3 * hidden))(net.apply)
    wanted = js.transform(in_scopes(twin(changed))).apply(params, None, X)
    chex.assert_trees_all_close(jax.jit(planted)(params, None, X), wanted, rtol=1e-6)


@pytest.mark.parametrize("twin", ["scan", "map", "vmap", "layer_stack", "stack in a scan"])
def test_a_planted_function_is_told_which_iteration_it_is_in(twin: str) -> None:
    wrap = (AXIS | {"stack in a scan": lambda f: AXIS["scan, carry"](js.layer_stack(3)(f))})[twin]
    net = js.transform(wrap(block))
    params = net.init(0, X)
    _, seen = js.capture(net.apply)(params, None, X)
    sizes = seen["hidden"].shape[:-1]

    def tell(hidden: jax.Array, *numbers: jax.Array) -> jax.Array:
        code = sum(10**place * number for place, number in enumerate(numbers))
        return jnp.zeros_like(hidden) + jnp.asarray(code, hidden.dtype)

    _, found = js.capture(js.plant({"hidden": tell})(net.apply))(params, None, X)
    wanted = sum(10**place * numbers for place, numbers in enumerate(np.indices(sizes)))
    np.testing.assert_array_equal(found["hidden"], wanted[..., None] + np.zeros(3))


@pytest.mark.parametrize(
    "function",
    [
        abs,
        jnp.negative,
        jnp.zeros_like,
        jax.nn.leaky_relu,
        lambda hidden, factor=5.0: hidden * factor,
    ],
)
def test_options_of_a_planted_function_are_no_place_for_the_number(function: Any) -> None:
    net = js.transform(lambda x: js.layer_stack(2)(block)(x))
    params = net.init(0, X)
    planted = js.plant({"hidden": lambda hidden, number: function(hidden)})
    wanted = planted(net.apply)(params, None, X)
    chex.assert_trees_all_equal(js.plant({"hidden": function})(net.apply)(params, None, X), wanted)


def test_one_layer_of_a_stack_is_changed_as_in_the_loop() -> None:
    stack, loop = js.transform(js.layer_stack(3)(block)), js.transform(in_scopes(block, 3))
    params = stack.init(0, X)
    layers = {f"layer_{i}": {"w": params["w"][i]} for i in range(3)}
    change = lambda hidden, number: jnp.where(number == 1, 0 * hidden, hidden)  # noqa: E731
    found = js.plant({"hidden": change})(stack.apply)(params, None, X)
    wanted = js.plant({"layer_1/hidden": lambda hidden: 0 * hidden})(loop.apply)(layers, None, X)
    chex.assert_trees_all_close(found, wanted, rtol=1e-6)


def test_functions_are_planted_on_what_inner_plants_left() -> None:
    net = js.transform(in_scopes(block))
    params = net.init(0, X)
    name = "layer_1/hidden"
    inner = js.plant({name: lambda x: x + 1})(net.apply)
    run = js.capture(js.plant({name: lambda x: 2 * x})(inner), name)
    _, seen = run(params, None, X)
    _, plain = js.capture(net.apply, name)(params, None, X)
    chex.assert_trees_all_close(seen[name], 2 * (plain[name] + 1), rtol=1e-6)


@pytest.mark.parametrize("program", ["plain", "jit", "scan, carry"])
def test_planted_values_are_laid_out_as_what_is_recorded(program: str) -> None:
    mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Explicit,))
    net = js.transform((OPEN | AXIS)[program](block))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, jax.sharding.PartitionSpec("data"))
        params = js.sharded(net, js.sharding_rules({"w": lambda spec: ("data",)})).init(0, x)
        out, seen = js.capture(net.apply)(params, None, x)
        planted = js.plant({name: np.asarray(x) for name, x in seen.items()})(net.apply)
        again = planted(params, None, x)
    assert jax.typeof(again) == jax.typeof(out)
    assert jax.typeof(out).sharding.spec == jax.sharding.PartitionSpec("data")
    chex.assert_trees_all_equal(again, out)


def test_gradients_flow_through_planted_values() -> None:
    net = js.transform(js.layer_stack(2)(block))
    params = net.init(0, X)
    _, seen = js.capture(net.apply)(params, None, X)

    @jax.jit
    @jax.grad
    def gradient(values: Any) -> jax.Array:
        return js.plant(values)(net.apply)(params, None, X).sum()

    wanted = jnp.stack([jnp.zeros(3), jnp.full(3, 2.0)])  # the first layer's is planted over
    chex.assert_trees_all_equal(gradient(dict(seen)), {"hidden": wanted})


def test_capture_is_transformed_like_apply() -> None:
    net = js.transform(in_scopes(block))
    params = net.init(0, X)
    captured = js.capture(lambda params, x: net.apply(params, None, x).sum())
    _, wanted = captured(params, X)
    gradient, seen = jax.jit(jax.grad(captured, has_aux=True))(params, X)
    chex.assert_trees_all_close(seen, wanted, rtol=1e-6)
    chex.assert_trees_all_close(
        gradient, jax.grad(lambda p: net.apply(p, None, X).sum())(params), rtol=1e-6
    )
    _, many = jax.vmap(captured, (None, 0))(params, jnp.stack([X, X]))
    chex.assert_trees_all_close(
        many, jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), wanted), rtol=1e-6
    )


def test_capture_under_jit_keeps_the_order_of_recording() -> None:
    def program(x: jax.Array) -> jax.Array:
        return js.record("a", js.record("z", x))

    _, seen = jax.jit(js.capture(js.transform(program).apply))({}, None, X)
    assert list(seen) == ["z", "a"]


def test_state_and_draws_are_those_without_capture() -> None:
    def noisy(x: jax.Array) -> jax.Array:
        js.get_variable("steps", initializer=0, trainable=False)
        js.assign_add("steps", 1)
        return js.record("noisy", x + jax.random.normal(js.next_rng_key(), (3,)))

    for f in (noisy, js.jit(noisy), lambda x: js.scan(lambda c, _: (noisy(c), 0), x, None, 2)[0]):
        net = js.transform_with_state(in_scopes(f))
        params, state = net.init(0, X)
        wanted = jax.jit(net.apply)(params, state, 1, X)
        got, _ = jax.jit(js.capture(net.apply))(params, state, 1, X)
        chex.assert_trees_all_close(got, wanted, rtol=1e-6)


def test_a_pytree_is_recorded_as_it_is() -> None:
    def program(x: jax.Array) -> Any:
        with js.variable_scope("s"):
            return js.record("pair/both", {"a": x, "b": (x[0], 2.0)})

    apply = js.transform(program).apply
    out, seen = js.capture(apply)({}, None, X)
    chex.assert_trees_all_equal(seen["s/pair/both"], out)
    other = jax.tree.map(lambda leaf: leaf + 1, seen["s/pair/both"])
    planted = js.plant({"s/pair/both": other})(apply)({}, None, X)
    chex.assert_trees_all_equal(planted, other)


def tower(x: jax.Array) -> jax.Array:
    with js.variable_scope("tower", reuse=js.AUTO_REUSE):
        return js.record("output", x * js.get_variable("w", []))


def test_a_name_recorded_again_is_numbered() -> None:
    net = js.transform(lambda x: tower(tower(x)))
    params = {"tower": {"w": jnp.float32(3)}}
    _, seen = js.capture(net.apply)(params, None, 1.0)
    assert {name: value.item() for name, value in seen.items()} == {
        "tower/output": 3,
        "tower/output_1": 9,
    }
    out = js.plant({"tower/output_1": 5.0})(net.apply)(params, None, 1.0)
    assert out.item() == 5


def test_a_number_is_looked_for_once_in_the_body_of_a_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def body(x: jax.Array) -> jax.Array:
        for _ in range(50):
            x = js.record("hidden", x)
        return x * js.get_variable("w", [])

    def is_taken(*args: Any) -> bool:
        looks.append(args)
        return was_taken(*args)

    looks: list[Any] = []
    was_taken = ScopeNode._is_taken
    monkeypatch.setattr(ScopeNode, "_is_taken", is_taken)
    net = js.transform(lambda x: js.layer_stack(2)(body)(x))
    _, seen = js.capture(net.apply)(net.init(0, X), None, X)
    assert list(seen) == ["hidden", *[f"hidden_{number}" for number in range(1, 50)]]
    assert len(looks) < 10 * 50


def test_numbers_go_on_in_a_second_apply_of_the_captured_function() -> None:
    net = js.transform(tower)
    both = lambda p: net.apply(p, None, 1.0) + net.apply(p, None, 2.0)  # noqa: E731
    _, seen = js.capture(both)({"tower": {"w": jnp.float32(3)}})
    assert list(seen) == ["tower/output", "tower/output_1"]
    _, seen = js.capture(both, "tower/output_1")({"tower": {"w": jnp.float32(3)}})
    assert {name: value.item() for name, value in seen.items()} == {"tower/output_1": 6}


def test_captures_and_plants_nest_in_every_order() -> None:
    apply = js.transform(in_scopes(block)).apply
    params = {name: {"w": jnp.ones(3)} for name in ("layer_0", "layer_1")}
    value = jnp.full(3, 0.5)
    plant = js.plant({NAMES[0]: value})
    wanted = plant(apply)(params, None, X)
    out, seen = js.capture(plant(apply))(params, None, X)
    chex.assert_trees_all_equal((out, seen[NAMES[0]]), (wanted, value))
    out, seen = plant(js.capture(apply))(params, None, X)
    chex.assert_trees_all_equal((out, seen[NAMES[0]]), (wanted, value))
    (out, inner), outer = js.capture(js.capture(apply, "layer_1"), "layer_0")(params, None, X)
    assert (list(inner), list(outer)) == ([NAMES[1]], [NAMES[0]])
    out = js.plant({NAMES[1]: X})(js.plant({NAMES[1]: value})(apply))(params, None, X)
    chex.assert_trees_all_equal(out, 2 * X)  # what is planted from outside wins


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("layer_0", ["layer_0/hidden"]),
        ("**/hidden", NAMES),
        (re.compile("_1"), ["layer_1/hidden"]),
        (lambda name, shape: shape.shape == (3,) and "0" in name, ["layer_0/hidden"]),
        (["layer_0", "layer_1/*"], NAMES),
    ],
)
def test_a_pattern_selects(pattern: Any, names: list[str]) -> None:
    net = js.transform(in_scopes(block))
    params = net.init(0, X)
    for wrap in (jax.jit, lambda f: f):
        assert list(wrap(js.capture(net.apply, pattern))(params, None, X)[1]) == names


def test_a_pass_inside_a_pass_is_looked_into_too() -> None:
    inner = js.transform(block)

    def outer(params: Any, x: jax.Array) -> jax.Array:
        with js.variable_scope("outer"):
            x = js.record("x", x)
            return js.scan(lambda c, _: (inner.apply(params, None, c), None), x, None, 2)[0]

    apply = js.transform(outer).apply
    params = {"w": jnp.ones(3)}
    _, seen = js.capture(apply)({}, None, params, X)
    assert {name: value.shape for name, value in seen.items()} == {
        "outer/x": (3,),
        "hidden": (2, 3),
    }
    wanted = apply({}, None, params, X)
    chex.assert_trees_all_close(js.plant(seen)(apply)({}, None, params, X), wanted, rtol=1e-6)


def test_a_function_of_the_running_pass_is_captured() -> None:
    def program(x: jax.Array) -> tuple[jax.Array, Any]:
        with js.variable_scope("a"):
            x, seen = js.capture(js.jit(block))(x)
        return js.plant({"b/hidden": seen["a/hidden"]})(in_b)(x), seen

    def in_b(x: jax.Array) -> jax.Array:
        with js.variable_scope("b"):
            return block(x)

    net = js.transform(program)
    params = net.init(0, X)
    (out, inner), outer = jax.jit(js.capture(net.apply))(params, None, X)
    assert (list(inner), list(outer)) == (["a/hidden"], ["a/hidden", "b/hidden"])
    chex.assert_trees_all_equal(outer["b/hidden"], inner["a/hidden"])
    chex.assert_trees_all_close(net.apply(params, None, X)[0], out, rtol=1e-6)


def test_a_traced_once_block_may_capture_by_full_names() -> None:
    def only_in_the_second_scope(x: jax.Array) -> jax.Array:
        return js.capture(block)(x)[1].get("layer_1/hidden", x)

    net = js.transform(in_scopes(js.jit(only_in_the_second_scope)))
    params = net.init(0, X)
    wanted = jnp.tanh(X * params["layer_1"]["w"])
    chex.assert_trees_all_close(jax.jit(net.apply)(params, None, X), wanted, rtol=1e-6)


def inner_only(x: jax.Array) -> jax.Array:
    return js.record("inner", x) + 1


INNER_ONLY = jax.jit(inner_only)


def test_a_raw_transform_around_record_alone_keeps_its_trace_where_nobody_looks() -> None:
    net = js.transform(INNER_ONLY)
    net.apply({}, None, X)
    size = INNER_ONLY._cache_size()
    net.apply({}, None, X)
    assert INNER_ONLY._cache_size() == size
    with pytest.raises(errors.TransformError, match=r"^The value inner cannot be captured"):
        js.capture(net.apply)({}, None, X)

    def looking(x: jax.Array) -> Any:
        return INNER_ONLY(x), js.capture(INNER_ONLY)(x)

    with pytest.raises(errors.TransformError, match=r"^The value inner cannot be captured"):
        js.transform(looking).apply({}, None, X)


def test_nothing_is_recorded_in_init() -> None:
    net = js.transform(block)

    def program(x: jax.Array) -> jax.Array:
        return net.apply(net.init(0, x), None, x)

    assert list(js.capture(program)(X)[1]) == ["hidden"]
    nested = js.transform(lambda x: net.apply({"w": js.get_variable("w", [3])}, None, x))
    assert js.capture(nested.init)(0, X)[1] == {}


CLOSED: dict[str, tuple[Callable[[Block], Block], str, str]] = {
    "cond": (lambda f: lambda x: js.cond(True, f, f, x), "jscope.cond", "return"),
    "switch": (lambda f: lambda x: js.switch(0, [f, f], x), "jscope.switch", "return"),
    "while_loop": (
        lambda f: lambda x: js.while_loop(lambda c: c.sum() > 1e9, f, x),
        "jscope.while_loop",
        "return",
    ),
    "fori_loop": (
        lambda f: lambda x: js.fori_loop(0, 2, lambda _, c: f(c), x),
        "jscope.fori_loop",
        "return",
    ),
    "functionalize": (
        lambda f: lambda x: (lambda pure, carry: pure(carry, x)[0])(*js.functionalize(f)),
        "a function of jscope.functionalize",
        "return",
    ),
    "scan of cond": (
        lambda f: lambda x: js.scan(lambda c, _: (js.cond(True, f, f, c), 0), x, None, 2)[0],
        "jscope.cond",
        "return",
    ),
    "raw jit": (jax.jit, "raw jax.jit", "jit"),
    "raw eval_shape": (
        lambda f: lambda x: (jax.eval_shape(f, x), x)[1],
        "raw jax.eval_shape",
        "return",
    ),
    "raw make_jaxpr": (
        lambda f: lambda x: (jax.make_jaxpr(f)(x), x)[1],
        "raw jax.make_jaxpr (or trace of jax.jit)",
        "return",
    ),
    "raw checkpoint": (jax.checkpoint, "raw jax.checkpoint", "checkpoint"),
    "raw vmap": (lambda f: lambda x: jax.vmap(f)(x[None])[0], "raw jax.vmap", "vmap"),
    "raw grad": (
        lambda f: jax.grad(lambda x: f(x).sum()),
        "raw jax.grad",
        "grad",
    ),
    "raw scan": (
        lambda f: lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=2)[0],
        "raw jax.lax.scan",
        "scan",
    ),
    "raw scan of a twin": (
        lambda f: lambda x: lax.scan(lambda c, _: (js.jit(f)(c), None), x, None, length=2)[0],
        "raw jax.lax.scan",
        "scan",
    ),
    "raw cond": (lambda f: lambda x: lax.cond(True, f, f, x), "raw jax.lax.cond", "return"),
    "raw custom_vjp": (custom_vjp, "raw jax.custom_vjp", "return"),
}


@pytest.mark.parametrize("kind", ["fresh", "module-level"])
@pytest.mark.parametrize("transform", CLOSED)
def test_what_could_not_get_out_is_refused_and_else_nothing_happens(
    transform: str, kind: str
) -> None:
    wrap, place, way = CLOSED[transform]
    net = js.transform(in_scopes(wrap(block if kind == "module-level" else lambda x: block(x))))
    params = net.init(0, X)
    wanted = jax.eval_shape(net.apply, params, None, X)
    fix = (
        "return the value and record it outside."
        if way == "return"
        else f"use jscope.{way}, which takes the same arguments and lets values out."
    )
    text = (
        f"The value layer_0/hidden cannot be captured or planted: it is recorded inside {place}, "
        f"and no value could get out of it.\n  asked:  at {{}}\n  fix:    {fix} A pattern of "
        "capture may leave it out."
    )
    for look in (js.capture, js.plant({"layer_0/hidden": X})):
        for call in (look(net.apply), functools.partial(jax.eval_shape, look(net.apply))):
            with pytest.raises(errors.TransformError) as caught:
                call(params, None, X)
            asked = str(caught.value).split("asked:  at ")[1].split("\n")[0]
            assert str(caught.value) == text.format(asked)
            assert caught.value.name == "layer_0/hidden"
    assert jax.eval_shape(net.apply, params, None, X) == wanted


def test_what_a_pattern_leaves_out_may_be_recorded_where_it_could_not_get_out() -> None:
    inside = jax.checkpoint(block)
    net = js.transform(lambda x: js.record("output", in_scopes(inside)(x)))
    params = net.init(0, X)
    for wrap in (jax.jit, lambda f: f):
        for _ in range(2):
            out, seen = wrap(js.capture(net.apply, "output"))(params, None, X)
            chex.assert_trees_all_equal(out, seen["output"])
        with pytest.raises(errors.TransformError, match=r"^The value layer_0/hidden cannot be"):
            wrap(js.capture(net.apply, "layer_0"))(params, None, X)


OUTSIDE: dict[str, Callable[[Any], Any]] = {
    "jax.jit": jax.jit,
    "jax.checkpoint": jax.checkpoint,
    "jax.vmap": lambda f: lambda x: jax.vmap(f)(x[None]),
    "jax.grad": lambda f: jax.grad(lambda x: f(x).sum()),
}


@pytest.mark.parametrize("transform", OUTSIDE)
def test_a_transform_inside_the_captured_function_is_refused(transform: str) -> None:
    net = js.transform(block)
    apply = OUTSIDE[transform](functools.partial(net.apply, {"w": jnp.ones(3)}, None))
    wanted = apply(X)  # JAX may have a trace of it now
    f = "loss), has_aux=True" if transform == "jax.grad" else "net.apply)"
    text = (
        "The value hidden cannot be captured or planted: it is recorded inside raw "
        f"{transform}, and no value could get out of it.\n  asked:  at {{}}\n  fix:    transform "
        f"what capture or plant gives, as {transform}(jscope.capture({f}). A pattern of "
        "capture may leave it out."
    )
    for look in (js.capture, js.plant({"hidden": X}), lambda f: js.capture(js.capture(f))):
        with pytest.raises(errors.TransformError) as caught:
            look(apply)(X)
        asked = str(caught.value).split("asked:  at ")[1].split("\n")[0]
        assert str(caught.value) == text.format(asked)
    chex.assert_trees_all_equal(apply(X), wanted)


def test_a_captured_call_meets_no_trace_of_another() -> None:
    net = js.transform(in_scopes(block))
    params = net.init(0, X)
    jitted = jax.jit(net.apply)

    def twice(params: Any, x: jax.Array) -> jax.Array:
        return net.apply(params, None, x) + jitted(params, None, x)

    wanted = twice(params, X)
    assert list(js.capture(twice, "layer_0/hidden")(params, X)[1]) == ["layer_0/hidden"]
    for pattern in ("layer_0/hidden_1", "**"):
        with pytest.raises(errors.TransformError, match=r"^The value layer_0/hidden_1 cannot be"):
            js.capture(twice, pattern)(params, X)
    chex.assert_trees_all_close(twice(params, X), wanted, rtol=1e-6)


ONCE = js.checkpoint(block)
"""At module level, so that plans of it are kept."""


def test_a_traced_once_block_is_looked_into_before_and_after_it_was_planned() -> None:
    net = js.transform(in_scopes(ONCE))
    params = net.init(0, X)
    captured, planted = js.capture(net.apply), js.plant({NAMES[0]: X})(net.apply)
    for _ in range(2):
        out, seen = jax.jit(captured)(params, None, X)
        assert list(seen) == NAMES
        changed = planted(params, None, X)
        chex.assert_trees_all_close(jax.jit(net.apply)(params, None, X), out, rtol=1e-6)
        assert not np.allclose(changed, out)


def scaled(show: Callable[[str, jax.Array], jax.Array]) -> Block:
    def f(x: jax.Array) -> jax.Array:
        return show("h", jnp.sin(x) * js.get_variable("w", [3]))

    return f


@pytest.mark.parametrize("transform", [*OPEN, *AXIS, "cond", "raw jit", "raw scan"])
def test_without_capture_the_program_is_the_one_without_record(transform: str) -> None:
    wrap = (OPEN | AXIS | {name: f for name, (f, *_) in CLOSED.items()})[transform]
    texts = []
    for f in (scaled(js.record), scaled(lambda _, value: value)):
        net = js.transform(in_scopes(wrap(f)))
        params = net.init(0, X)
        texts.append(jax.jit(net.apply).lower(params, None, X).as_text())
    assert canonical(texts[0]) == canonical(texts[1])


def test_record_costs_no_trace_of_its_own() -> None:
    runs = []

    def program(x: jax.Array) -> jax.Array:
        runs.append(None)
        return block(x)

    net = js.transform(program)
    params = net.init(0, X)
    captured = jax.jit(js.capture(net.apply))
    runs.clear()
    for _ in range(2):
        jax.jit(net.apply)(params, None, X)
        captured(params, None, X)
        jax.jit(net.apply)(params, None, X)
    assert len(runs) == 2


def test_nothing_leaks_and_nothing_is_left_open() -> None:
    net = js.transform(in_scopes(OPEN["jit"](block)))
    params = net.init(0, X)

    def failing(x: jax.Array) -> jax.Array:
        js.record("x", x)
        raise KeyError("stop")

    with jax.checking_leaks():
        for _ in range(2):
            _, seen = jax.jit(js.capture(net.apply))(params, None, X)
            jax.jit(js.plant(seen)(net.apply))(params, None, X)
            with pytest.raises(KeyError, match="stop"):
                jax.jit(js.capture(js.transform(failing).apply))({}, None, X)
    with pytest.raises(errors.NoPassError):
        js.capture(lambda: js.record("x", X))()


def test_threads_do_not_see_each_other() -> None:
    net = js.transform(in_scopes(block))
    params = net.init(0, X)
    inside, done, found = threading.Event(), threading.Event(), []

    def waiting(x: jax.Array) -> jax.Array:
        inside.set()
        done.wait()
        return net.apply(params, None, x)

    thread = threading.Thread(target=lambda: found.append(js.capture(waiting, "layer_0")(X)[1]))
    thread.start()
    inside.wait()
    net.apply(params, None, X)
    _, own = js.capture(net.apply, "layer_1")(params, None, X)
    done.set()
    thread.join()
    assert (list(own), list(found[0])) == ([NAMES[1]], [NAMES[0]])


@pytest.mark.parametrize("transform", [*OPEN, *AXIS])
def test_without_jit_names_and_values_are_the_same(transform: str) -> None:
    net = js.transform(in_scopes((OPEN | AXIS)[transform](block)))
    params = net.init(0, X)
    wanted = jax.jit(js.capture(net.apply))(params, None, X)
    with jax.disable_jit():
        got = js.capture(net.apply)(params, None, X)
        chex.assert_trees_all_close(got, wanted, rtol=1e-6)
        planted = js.plant(wanted[1])(net.apply)(params, None, X)
    chex.assert_trees_all_close(planted, wanted[0], rtol=1e-6)


@pytest.mark.parametrize("transform", ["cond", "while_loop", "raw scan"])
def test_without_jit_the_same_is_refused(transform: str) -> None:
    net = js.transform(CLOSED[transform][0](block))
    params = net.init(0, X)
    if transform != "while_loop":  # whose body does not run
        with jax.disable_jit(), pytest.raises(errors.TransformError, match=r"^The value hidden"):
            js.capture(net.apply)(params, None, X)
    with pytest.raises(errors.TransformError, match=r"^The value hidden cannot be"):
        js.capture(net.apply)(params, None, X)


def test_a_captured_call_leaves_nothing_behind() -> None:
    net = js.transform(in_scopes(ONCE))
    params = net.init(0, X)

    def alive() -> list[Any]:
        gc.collect()
        return [thing for thing in gc.get_objects() if isinstance(thing, Pass | _capture._Look)]

    def left() -> tuple[int, int]:
        for call in (js.capture(net.apply), js.plant({NAMES[0]: X})(net.apply)):
            jax.eval_shape(call, params, None, X)
        pool = _cache_key._seen_pool
        return len([thing for thing in alive() if thing not in others]), len(pool._starts) + len(
            pool._insides
        )

    others = alive()  # of tests before
    first = left()
    assert first[0] == 0
    assert [left() for _ in range(5)] == [first] * 5


LAYERS: dict[str, tuple[Callable[[jax.Array], Any], tuple[int, ...], list[str]]] = {
    "dense": (lambda x: js.layers.dense(x, 2, jax.nn.relu), (2, 3), ["dense/output"]),
    "conv1d": (lambda x: js.layers.conv1d(x, 2, 3), (1, 5, 2), ["conv1d/output"]),
    "conv2d_transpose": (
        lambda x: js.layers.conv2d_transpose(x, 2, 3),
        (1, 4, 4, 2),
        ["conv2d_transpose/output"],
    ),
    "separable_conv2d": (
        lambda x: js.layers.separable_conv2d(x, 2, 3),
        (1, 5, 5, 2),
        ["separable_conv2d/output"],
    ),
    "depthwise_conv2d": (
        lambda x: js.layers.depthwise_conv2d(x, 3),
        (1, 5, 5, 2),
        ["depthwise_conv2d/output"],
    ),
    "dropout": (lambda x: js.layers.dropout(x, 0.5), (2, 3), ["dropout/output"]),
    "dropout, training": (
        lambda x: js.layers.dropout(x, 0.5, training=True),
        (2, 3),
        ["dropout/output"],
    ),
    "embedding": (
        lambda x: js.layers.embedding(x.astype(jnp.int32), 5, 2),
        (2, 3),
        ["embedding/output"],
    ),
    "batch_normalization": (
        js.layers.batch_normalization,
        (2, 3),
        ["batch_normalization/output"],
    ),
    "layer_norm": (js.layers.layer_norm, (2, 3), ["LayerNorm/output"]),
    "group_norm": (lambda x: js.layers.group_norm(x, 2), (1, 3, 4), ["group_norm/output"]),
    "instance_norm": (js.layers.instance_norm, (1, 3, 4), ["instance_norm/output"]),
    "rms_norm": (js.layers.rms_norm, (2, 3), ["rms_norm/output"]),
    "attention": (
        lambda x: js.layers.multi_head_attention(x, num_heads=2, is_causal=True),
        (1, 3, 4),
        [
            "multi_head_attention/weights",
            "multi_head_attention/heads",
            "multi_head_attention/output",
        ],
    ),
    "attention, dropped": (
        lambda x: js.layers.multi_head_attention(x, num_heads=2, dropout_rate=0.5, training=True),
        (1, 3, 4),
        [
            "multi_head_attention/weights",
            "multi_head_attention/dropout/output",
            "multi_head_attention/heads",
            "multi_head_attention/output",
        ],
    ),
    "lstm": (
        lambda x: js.layers.dynamic_rnn(js.layers.lstm(2), x)[0],
        (1, 3, 4),
        ["rnn/lstm_cell/output", "rnn/output"],
    ),
    "gru": (
        lambda x: js.layers.dynamic_rnn(js.layers.gru(2), x)[0],
        (1, 3, 4),
        ["rnn/gru_cell/output", "rnn/output"],
    ),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_records_its_output_in_its_scope(layer: str) -> None:
    fn, shape, names = LAYERS[layer]
    x = jnp.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    net = js.transform_with_state(fn)
    params, state = net.init(0, x)
    wanted = jax.jit(net.apply)(params, state, 1, x)
    out, seen = jax.jit(js.capture(net.apply))(params, state, 1, x)
    chex.assert_trees_all_close(out, wanted, rtol=1e-5)
    assert list(seen) == names
    chex.assert_trees_all_equal(seen[names[-1]], out[0])
    again = jax.jit(js.plant(seen)(net.apply))(params, state, 1, x)
    chex.assert_trees_all_close(again, wanted, rtol=1e-5)


def test_attention_follows_the_weights_that_are_planted() -> None:
    net = js.transform(lambda x: js.layers.multi_head_attention(x, num_heads=2))
    x = jax.random.normal(jax.random.key(0), (1, 3, 4))
    params = net.init(0, x)
    name = "multi_head_attention/weights"
    wanted, seen = jax.jit(js.capture(net.apply, name))(params, None, x)
    chex.assert_trees_all_close(seen[name].sum(-1), jnp.ones([1, 2, 3]), rtol=1e-5)
    planted = lambda weights: js.plant({name: weights})(net.apply)(params, None, x)  # noqa: E731
    chex.assert_trees_all_close(planted(seen[name]), wanted, rtol=1e-5)
    mean = planted(jnp.full([1, 2, 3, 3], 1 / 3))
    chex.assert_trees_all_close(mean, jnp.broadcast_to(mean[:, :1], mean.shape), rtol=1e-5)
    halved = js.plant({name: lambda weights: weights / 2})(net.apply)(params, None, x)
    chex.assert_trees_all_close(halved, planted(seen[name] / 2), rtol=1e-5)
    only_output = jax.make_jaxpr(js.capture(net.apply, "**/output"))(params, None, x)
    assert len(only_output.eqns) < len(jax.make_jaxpr(js.capture(net.apply))(params, None, x).eqns)


def refusals() -> dict[str, tuple[Callable[[], Any], type[Exception], str]]:
    net = js.transform(in_scopes(block))
    params = net.init(0, X)
    stack = js.transform(js.layer_stack(2)(block))
    stacked = stack.init(0, X)
    change = lambda hidden, layer, row: 2 * hidden  # noqa: E731
    asked = "<asked>\n"
    named = lambda name: lambda: js.transform(lambda: js.record(name, X)).apply({}, None)  # noqa: E731
    fix = "  fix:    plant a value of that structure, shape and dtype, as jscope.capture shows it."
    return {
        "no pass": (
            lambda: js.record("x", X),
            errors.NoPassError,
            "record was called outside a pass: it works only inside a function that runs under "
            "init, apply or specs.",
        ),
        "a name of no text": (
            named(3),
            errors.NameTypeError,
            "The name of a recorded value must be a string, got 3 of type int.",
        ),
        "a bad name": (
            named("a//b"),
            errors.InvalidNameError,
            "'a//b' is not a valid record name: it has an empty component.\n"
            "  fix:    use letters, digits and _ . \\ > - , with single slashes between components.",
        ),
        "a bad name to plant": (
            lambda: js.plant({"": X}),
            errors.InvalidNameError,
            "'' is not a valid record name: it has an empty component.\n"
            "  fix:    use letters, digits and _ . \\ > - , with single slashes between components.",
        ),
        "a name to plant of no text": (
            lambda: js.plant({0: X}),  # type: ignore[dict-item]
            errors.NameTypeError,
            "The name of a planted value must be a string, got 0 of type int.",
        ),
        "nothing to plant": (
            lambda: js.plant([X]),  # type: ignore[arg-type]
            errors.ArgumentError,
            "The values to plant must be a mapping of full names to arrays, got [Array([ 0.5, -1. , "
            "2. ], dtype=float32)] of type list.",
        ),
        "no array to plant": (
            lambda: js.plant({"a": "text"}),
            errors.ArgumentError,
            "The value planted as a must be an array or a number, got 'text' of type str.",
        ),
        "no function to capture": (
            lambda: js.capture(net),  # type: ignore[arg-type]
            errors.ArgumentError,
            f"The argument of capture must be a function, such as net.apply, got {repr(net)[:57]}... "
            "of type Transformed.\n  fix:    give net.apply, or a function that calls it.",
        ),
        "a pattern to plant": (
            lambda: js.plant({"**/hidden": X}),
            errors.ArgumentError,
            "The name of a planted value must be a full name, not a pattern, got '**/hidden' of type "
            "str.\n  fix:    plant under each of the names that jscope.capture(f, pattern) shows.",
        ),
        "a function that gives another shape": (
            lambda: js.plant({"hidden": lambda x, _: x[:2]})(stack.apply)(stacked, None, X),
            errors.CheckError,
            "The function planted as hidden returns float32[2], and what is recorded is "
            f"float32[3].\n{asked}  fix:    return a value of that structure, shape and dtype.",
        ),
        "a function that gives no array": (
            lambda: js.plant({"layer_0/hidden": lambda x: str(x.shape)})(net.apply)(
                params, None, X
            ),
            errors.ArgumentError,
            "The result of what is planted as layer_0/hidden must be an array or a number, got '(3,)' "
            "of type str.",
        ),
        "a function of more than the number of the loop": (
            lambda: js.plant({"hidden": change})(stack.apply)(stacked, None, X),
            errors.ArgumentError,
            "The function planted as hidden must be a function of what is recorded, and may take the "
            "number of the iteration of each loop around it, outermost first, got "
            f"{brief(change)} of type function.\n  fix:    make it f(value), or f(value, number).",
        ),
        "no array to record": (
            lambda: js.capture(js.transform(lambda: js.record("x", "text")).apply)({}, None),
            errors.ArgumentError,
            "The value recorded as x must be a pytree of arrays, got 'text' of type str.",
        ),
        "a pattern that selects nothing": (
            lambda: js.capture(net.apply, "**/hiden")(params, None, X),
            errors.EmptySelectionError,
            "The pattern '**/hiden' selects nothing among the record's 2 names.\n"
            "  names:  'layer_0/hidden', 'layer_1/hidden'\n"
            "  fix:    a glob is matched with the whole name, and * stays within one component.",
        ),
        "a pattern where nothing is recorded": (
            lambda: js.capture(lambda x: x, "x")(X),
            errors.EmptySelectionError,
            "The pattern 'x' selects nothing: nothing was recorded.\n"
            "  fix:    call net.apply in the function, of a net with jscope.record or jscope.layers.",
        ),
        "a name that is not reached": (
            lambda: js.plant({"layer_0/hiden": X, "layer_1/hidden": X})(net.apply)(params, None, X),
            errors.EmptySelectionError,
            "Nothing was recorded as 'layer_0/hiden', so nothing could be planted there.\n"
            "  near:   'layer_0/hidden', 'layer_1/hidden'\n"
            "  fix:    plant under a full name, as jscope.capture(f) shows it.",
        ),
        "another shape": (
            lambda: js.plant({"layer_0/hidden": X[:2]})(net.apply)(params, None, X),
            errors.CheckError,
            "The value planted as layer_0/hidden is float32[2], and what is recorded is "
            f"float32[3].\n{asked}{fix}",
        ),
        "another dtype": (
            lambda: js.plant({"layer_0/hidden": X.astype(int)})(net.apply)(params, None, X),
            errors.CheckError,
            "The value planted as layer_0/hidden is int32[3], and what is recorded is "
            f"float32[3].\n{asked}{fix}",
        ),
        "another structure": (
            lambda: js.plant({"layer_0/hidden": [X]})(net.apply)(params, None, X),
            errors.CheckError,
            "The value planted as layer_0/hidden is ['float32[3]'], and what is recorded is "
            f"float32[3].\n{asked}{fix}",
        ),
        "no leading axis": (
            lambda: js.plant({"hidden": X})(stack.apply)(stacked, None, X),
            errors.CheckError,
            "The value planted as hidden is float32[3], and what is recorded is "
            f"float32[2,3].\n{asked}  loops:  the first axis is that of the loop around it\n{fix}",
        ),
    }


@pytest.mark.parametrize("case", refusals())
def test_mistakes_are_told(case: str) -> None:
    call, kind, text = refusals()[case]
    with pytest.raises(kind) as caught:
        call()
    found = re.sub(
        r"\n  asked:  at tests/test_record.py:\d+ in block.*", "\n<asked>", str(caught.value)
    )
    assert type(caught.value) is kind
    if case == "no pass":
        found = found.partition("\n")[0]
    assert found == text


def test_a_leaked_value_is_told() -> None:
    kept: list[Any] = []
    jax.jit(lambda x: kept.append(x))(X)
    net = js.transform(lambda: js.record("x", kept[0]))
    with pytest.raises(errors.TransformError) as caught:
        js.capture(net.apply)({}, None)
    assert str(caught.value).startswith(
        "The value recorded as x is a tracer that leaked from a finished trace.\n  asked:  at "
    )
    assert str(caught.value).endswith(
        "  fix:    record values where they are computed, not tracers stored elsewhere."
    )


@pytest.mark.parametrize("value", ["text", 2**40, "leaked"])
def test_what_is_no_array_matters_only_where_it_is_asked_for(value: Any) -> None:
    kept: list[Any] = []
    jax.jit(lambda x: kept.append(x))(X)

    def f(x: jax.Array) -> jax.Array:
        js.record("mode", kept[0] if value == "leaked" else value)
        return js.record("double", 2 * x)

    net = js.transform(f)
    assert list(js.capture(net.apply, "double")({}, None, X)[1]) == ["double"]
    js.plant({"double": X})(net.apply)({}, None, X)
    assert js.summary(net, X).total.size == 0
    with pytest.raises((errors.ArgumentError, errors.TransformError), match="recorded as mode"):
        js.capture(net.apply)({}, None, X)


PROMOTED = {
    "a number for an int32": (lambda x: x, jnp.int32(50), 50, jnp.int8(3)),
    "a number for a float32": (lambda x: x, jnp.float32(1.001), 1.001, jnp.bfloat16(2)),
    "an array for a number": (lambda x: 2.0, jnp.float32(0), np.float32(2.0), jnp.bfloat16(1.5)),
}


@pytest.mark.parametrize("way", ["value", "function", "in a loop"])
@pytest.mark.parametrize("case", PROMOTED)
def test_what_is_planted_is_promoted_as_what_was_recorded(case: str, way: str) -> None:
    make, x, planted, factor = PROMOTED[case]

    def f(x: Any) -> jax.Array:
        return js.record("n", make(x)) * factor  # where their dtypes differ, one gives way

    apply: Any = js.transform(f).apply
    value: Any = planted if way == "value" else lambda _: planted
    if way == "in a loop":
        apply = js.transform(lambda x: js.scan(lambda c, _: (c, f(x)), 0, None, length=2)[1]).apply
        value = np.array([planted, planted], jnp.result_type(planted))
    with jax.numpy_dtype_promotion("standard"):
        wanted = apply({}, None, x)
        found = js.plant({"n": value})(apply)({}, None, x)
    chex.assert_trees_all_equal(found, wanted, strict=True)
    assert found.dtype == wanted.dtype


def test_a_loop_of_no_iterations_gives_and_takes_empty_values() -> None:
    apply = js.transform(
        lambda xs: js.scan(lambda c, x: (c, js.record("row", x)), None, xs)[1]
    ).apply
    _, seen = js.capture(apply)({}, None, jnp.ones([0, 2]))
    assert seen["row"].shape == (0, 2)
    assert js.plant(seen)(apply)({}, None, jnp.ones([0, 2])).shape == (0, 2)

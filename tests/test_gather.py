"""getters.gather and jscope.shard_map on eight devices: values, layouts, and what is sent."""

from __future__ import annotations

import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from devices import on_eight_devices
from gather_programs import FEW, FORMS, LAYERS, MESHES
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jscope as js
import jscope.testing
from jscope._hlo import canonical

SIZE = 16 * 32
"""Of a kernel; a block has two."""


def found(kind: str) -> Any:
    return on_eight_devices("gather_programs.py")[kind]


FORMS_ON = [
    (kind, form)
    for kind, types in MESHES.items()
    for form in (FEW if len(set(types)) > 1 else FORMS)
]


@pytest.mark.parametrize(("kind", "form"), FORMS_ON)
def test_a_step_that_gathers_gives_the_values_without_a_mesh(kind: str, form: str) -> None:
    ends = found(kind)["gathered"][form]
    assert ends["values"] == ends["new values"] == "ok"


@pytest.mark.parametrize(("kind", "form"), FORMS_ON)
def test_each_kernel_is_gathered_once_in_a_pass_one_layer_at_a_time(kind: str, form: str) -> None:
    gathers = found(kind)["gathered"][form]["gathers"]
    kernels = 2 if "stack" in form else 2 * LAYERS
    passes = 2 if "checkpoint" in form else 1  # there the backward pass gathers again
    where, other = ("in loops", "outside") if "stack" in form else ("outside", "in loops")
    assert gathers == {where: [SIZE] * kernels * passes, other: []}


@pytest.mark.parametrize(("kind", "form"), FORMS_ON)
def test_variables_stay_divided_through_a_step(kind: str, form: str) -> None:
    ends = found(kind)["gathered"][form]
    stacked = "1, " * ("stack" in form)
    assert ends["layouts"] == {"a": [f"[{stacked}8, 1]"], "b": [f"[{stacked}1, 8]"]}
    assert ends["new layouts"] == ends["layouts"]
    if kind == "explicit":
        assert ends["layouts of gradients"] == ends["layouts"]


@pytest.mark.parametrize("kind", MESHES)
def test_the_getter_that_is_open_inside_comes_last(kind: str) -> None:
    assert found(kind)["casts"] == ["bfloat16", "float32"]


@pytest.mark.parametrize("kind", MESHES)
def test_gather_needs_no_mesh_to_be_set(kind: str) -> None:
    assert found(kind)["without a set mesh"] == {"eager": ["[1, 1]"], "jit": ["[1, 1]"]}


@pytest.mark.parametrize("kind", MESHES)
def test_gather_works_around_a_function_of_shards_over_one_axis(kind: str) -> None:
    assert found(kind)["partly manual"] == "ok"


@pytest.mark.parametrize("kind", MESHES)
def test_a_function_of_shards_gives_values_and_gradients_without_a_mesh(kind: str) -> None:
    for name, ends in found(kind)["shards"].items():
        assert ends["values"] == ends["eager values"] == "ok", name
        assert ends["layouts"] == {"a": ["[8, 1]"], "b": ["[1, 8]"]}
        if kind == "explicit":
            assert ends["layouts of gradients"] == ends["layouts"], name


@pytest.mark.parametrize("kind", MESHES)
def test_shards_draw_with_their_numbers_along_the_divided_axes(kind: str) -> None:
    names = ["data", "both", "none"]
    if kind == "explicit":  # where in_specs can be left out
        names += ["data, inferred", "both, inferred"]
    assert found(kind)["draws"] == dict.fromkeys(names, "ok")


HINT = (
    ": JAX lets no value from a mesh with Explicit axes in by closure (jax#29162). Use "
    "jscope.shard_map, which takes the same arguments and gives variables to the function as "
    "arguments."
)


@pytest.mark.parametrize("kind", MESHES)
def test_where_a_raw_shard_map_refuses_a_variable_the_error_names_the_twin(kind: str) -> None:
    for call, (error, *notes) in found(kind)["refused"].items():
        if kind == "auto":
            assert error == "ok"
            continue
        assert error == "NotImplementedError"
        (note,) = notes
        assert note.endswith(HINT)
        which = note.removesuffix(HINT)
        if call == "apply":  # an eager one, of which JAX does not tell where it is
            assert which == "If it is a variable that the function reads"
        else:
            assert re.fullmatch(
                r"Variable a is read inside raw jax\.shard_map at \S*gather_programs\.py:\d+ in block",
                which,
            )


# On one device

X = jnp.array([0.5, -1.0, 2.0])
MESH = jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto,))


def scale(x: jax.Array) -> jax.Array:
    return jnp.tanh(x * js.get_variable("w", [3]))


def in_scopes(f: Any, getter: Any = None) -> Any:
    @js.variable_scope("", custom_getter=getter)
    def program(x: jax.Array) -> jax.Array:
        for name in "abc":
            with js.variable_scope(name):
                x = f(x)
        return x

    return js.transform(program)


def test_without_a_mesh_gather_leaves_nothing_in_the_program_and_blocks_traced_once() -> None:
    block = js.checkpoint(scale)
    nets = in_scopes(block), in_scopes(block, js.getters.gather())
    params = nets[0].init(0, X)
    texts = [
        jax.jit(jax.grad(lambda p, net=net: net.apply(p, None, X).sum())).lower(params).compile()
        for net in nets
    ]
    assert canonical(texts[0].as_text()) == canonical(texts[1].as_text())
    js.testing.assert_traced_once(nets[1], block, X)


def test_on_a_mesh_a_block_gathers_inside_of_its_checkpoint() -> None:
    block = js.checkpoint(scale)
    cast, net = in_scopes(block, js.getters.cast(jnp.float32)), in_scopes(block, GATHER)
    with jax.set_mesh(MESH):
        params = cast.init(0, X)
        assert in_scopes(block).apply(params, None, X).shape == (3,)  # planned, without a getter
        wanted = cast.apply(params, None, X)  # and with one
        for program in (net, in_scopes(js.checkpoint(scale), GATHER)):
            jaxpr = jax.make_jaxpr(program.apply)(params, None, X)
            names = [step.primitive.name for step in jaxpr.eqns]
            assert "sharding_constraint" not in names
            assert str(jaxpr).count("sharding_constraint[") == 3
        chex.assert_trees_all_close(net.apply(params, None, X), wanted)
        with pytest.raises(AssertionError, match=r"jscope\.getters\.gather gathers its variables"):
            js.testing.assert_traced_once(net, block, X)


GATHER = js.getters.gather()


def test_gather_takes_keys_numbers_and_what_is_no_array_of_the_mesh() -> None:
    @js.variable_scope("", custom_getter=GATHER)
    def program(x: jax.Array) -> Any:
        key = js.get_variable("key", initializer=jax.random.key(3), trainable=False)
        return jax.random.key_data(key), js.get_variable("n", initializer=7.0) * x[0]

    net = js.transform_with_state(program)
    outside, _ = net.apply(*net.init(0, X), None, X)
    for kind in (AxisType.Auto, AxisType.Explicit):
        with jax.set_mesh(jax.make_mesh((1,), ("i",), axis_types=(kind,))):
            for params, state in (
                net.init(0, X),
                ({"n": jnp.float32(7)}, {"key": jax.random.key(3)}),
            ):
                chex.assert_trees_all_equal(net.apply(params, state, None, X)[0], outside)


def test_inside_a_raw_shard_map_gather_does_nothing() -> None:
    @js.variable_scope("", custom_getter=GATHER)
    def program(x: jax.Array) -> Any:
        return jax.shard_map(scale, mesh=MESH, in_specs=P("i"), out_specs=P("i"))(x)

    net = js.transform(program)
    with jax.set_mesh(MESH):
        params = net.init(0, X)
        assert "sharding_constraint" not in str(jax.make_jaxpr(net.apply)(params, None, X))

"""Functions over trees: layers, stacked and apart."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import errors

X = jnp.array([0.5, -1.0, 2.0])


def block(x: jax.Array) -> jax.Array:
    with js.variable_scope("inner"):
        x = x * js.get_variable("w", [3])
    return jnp.tanh(x + js.get_variable("b", [3]))


def by_loop(x: jax.Array) -> jax.Array:
    scale = js.get_variable("scale", [3])
    with js.variable_scope("net"):
        for i in range(12):
            with js.variable_scope(f"layer_{i}"):
                x = block(x)
    return x * scale


def by_stack(x: jax.Array) -> jax.Array:
    scale = js.get_variable("scale", [3])
    with js.variable_scope("net"):
        x = js.layer_stack(12)(block)(x)
    return x * scale


def test_params_move_between_the_loop_and_the_stack_both_ways() -> None:
    loop, stack = js.transform(by_loop), js.transform(by_stack)
    params = loop.init(0, X)
    stacked = js.tree.stack_layers(params)
    js.check(stacked, stack.specs(X))
    chex.assert_trees_all_close(
        stack.apply(stacked, None, X), loop.apply(params, None, X), rtol=1e-5
    )
    back = js.tree.unstack_layers(stacked, "net")
    assert list(js.tree.flatten(back)) == list(js.tree.flatten(params))
    chex.assert_trees_all_equal(back, params)
    assert js.tree.stack_layers(back, "net") is not None
    chex.assert_trees_all_equal(js.tree.stack_layers(back, "net"), stacked)
    specs = js.tree.stack_layers(loop.specs(X).params())
    js.check(stacked, specs)
    js.check(back, js.tree.unstack_layers(specs, "net"))


def test_gradients_move_too_and_under_jit() -> None:
    loop, stack = js.transform(by_loop), js.transform(by_stack)
    params = loop.init(0, X)
    gradient = jax.grad(lambda p: loop.apply(p, None, X).sum())(params)
    through = jax.jit(jax.grad(lambda p: stack.apply(js.tree.stack_layers(p), None, X).sum()))
    chex.assert_trees_all_close(through(params), gradient, rtol=1e-4, atol=1e-6)


def test_nested_layers_become_nested_stacks() -> None:
    def fn(x: jax.Array) -> jax.Array:
        for i in range(2):
            for j in range(3):
                with js.variable_scope(f"outer_{i}/layer_{j}"):
                    x = x * js.get_variable("w", [3])
        return x

    params = js.transform(fn).init(0, X)
    inner = js.tree.stack_layers(params)
    assert repr(inner) == (
        "Params({'outer_0': {'w': float32[3,3]}, 'outer_1': {'w': float32[3,3]}})"
    )
    nested = js.tree.stack_layers(inner, name="outer")
    assert nested["w"].shape == (2, 3, 3)
    chex.assert_trees_all_equal(nested["w"][1, 2], params["outer_1"]["layer_2"]["w"])
    apart = js.tree.unstack_layers(nested, name="outer")
    chex.assert_trees_all_equal(apart, inner)
    again = js.tree.unstack_layers(apart, "outer_0")
    chex.assert_trees_all_equal(again["outer_0"], params["outer_0"])


def test_only_the_scope_asked_for_is_stacked() -> None:
    tree = {"a": {"layer_0": {"w": np.ones(2)}}, "b": {"layer_0": {"w": np.ones(2)}}, "v": 1.0}
    stacked = js.tree.stack_layers(tree, "a")
    assert list(js.tree.flatten(stacked)) == ["a/w", "b/layer_0/w", "v"]
    assert stacked["a"]["w"].shape == (1, 2)


W = np.ones(2)
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no layers": (
        lambda: js.tree.stack_layers({"a": {"w": W}}, "a"),
        errors.EmptySelectionError,
        "There are no layers layer_0, layer_1, ... in the scope 'a'.\n"
        "  fix:    give the name that the scopes of the layers share, name='layer'.",
    ),
    "no such scope": (
        lambda: js.tree.unstack_layers({"blocks": {"w": W}}, "block"),
        errors.EmptySelectionError,
        "There are no variables in the scope 'block'.\n"
        "  near:   'blocks'\n"
        "  fix:    give the full name of a scope, such as 'net/blocks'.",
    ),
    "an empty tree": (
        lambda: js.tree.unstack_layers({}),
        errors.EmptySelectionError,
        "There are no variables in the scope ''.\n"
        "  fix:    give the full name of a scope, such as 'net/blocks'.",
    ),
    "a gap": (
        lambda: js.tree.stack_layers({"layer_0": {"w": W}, "layer_2": {"w": W}}),
        errors.CheckError,
        "The layers of scope '' are layer_0, layer_2, which is not 0 to 1.\n"
        "  fix:    number layers from 0, with no gaps and no leading zeros.",
    ),
    "other names": (
        lambda: js.tree.stack_layers({"layer_0": {"w": W}, "layer_1": {"v": W}}),
        errors.CheckError,
        "The layers of scope '' differ: v is missing in layer_0 and float64[2] in layer_1.\n"
        "  fix:    layers of one stack have the same names, shapes and dtypes.",
    ),
    "a clash": (
        lambda: js.tree.stack_layers({"a": {"layer_0": {"w": W}, "w": W}}),
        errors.CheckError,
        "The stacked 'w' of scope 'a' would take the name of another variable.\n"
        "  fix:    rename one of them, or move the layers to a scope of their own.",
    ),
    "other axes": (
        lambda: js.tree.unstack_layers({"a": {"w": W, "v": np.ones([3, 2])}}, "a"),
        errors.CheckError,
        "a/w is float64[2] and a/v is float64[3,2]: not a stack of layers with one leading axis.\n"
        "  fix:    give the scope that holds the stack and nothing else.",
    ),
    "a scalar": (
        lambda: js.tree.unstack_layers({"w": np.float32(1)}),
        errors.CheckError,
        "w is float32[] and w is float32[]: not a stack of layers with one leading axis.\n"
        "  fix:    give the scope that holds the stack and nothing else.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_moved_is_refused(name: str) -> None:
    call, error, text = REFUSED[name]
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == text

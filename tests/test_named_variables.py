"""named_variables: the variables of a pass by name, wherever in it one asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest

import jscope as js
from jscope import errors

X = jnp.array([0.5, -1.0, 2.0])


def layer(x: jax.Array) -> jax.Array:
    """Makes w in params and calls, how often it was called, in state."""
    js.get_variable("calls", [], jnp.int32, trainable=False)
    js.assign_add("calls", 1)
    return x * js.get_variable("w", [3])


def two(x: jax.Array) -> jax.Array:
    for name in ("gen", "generator"):
        with js.variable_scope(name):
            x = layer(x)
    return x


def in_both(fn: Callable[..., Any]) -> list[Any]:
    """What ``fn`` returns in init, and in apply."""
    found: list[Any] = []
    net = js.transform_with_state(lambda x: found.append(fn(x)))
    net.apply(*net.init(0, X), None, X)
    assert len(found) == 2
    return found


def names(*args: Any, **kwargs: Any) -> list[str]:
    return list(js.named_variables(*args, **kwargs))


def test_variables_are_named_in_the_order_of_their_creation() -> None:
    def fn(x: jax.Array) -> dict[str, list[str]]:
        found = {"before": names()}
        two(x)
        found["all"] = names()
        found["root"] = names("")
        found["scope"] = names("gen")
        found["as in TF1"] = names("gen/")
        found["variable"] = names("gen/w")
        found["trainable"] = names(trainable=True)
        found["state"] = names("generator", trainable=0)  # type: ignore[arg-type]
        with js.variable_scope("gen"):  # names are full ones
            found["nothing"] = names("w")
        return found

    everything = ["gen/calls", "gen/w", "generator/calls", "generator/w"]
    for found in in_both(fn):
        assert found == {
            "before": [],
            "all": everything,
            "root": everything,
            "scope": everything[:2],
            "as in TF1": everything[:2],
            "variable": ["gen/w"],
            "trainable": ["gen/w", "generator/w"],
            "state": ["generator/calls"],
            "nothing": [],
        }


def test_a_value_is_the_variable_as_it_stands() -> None:
    def fn(x: jax.Array) -> dict[str, jax.Array]:
        with js.variable_scope("a", custom_getter=lambda getter, **kw: getter(**kw) + 1):
            js.get_variable("w", [3])
        with js.variable_scope("a", reuse=js.AUTO_REUSE):
            layer(x)
        with js.variable_scope("a", reuse=True):
            assert js.get_variable("w") is js.named_variables()["a/w"]
        return js.named_variables()

    net = js.transform_with_state(fn)
    params, state = net.init(0, X)
    found, after = net.apply(params, state, None, X)
    chex.assert_trees_all_equal(found, {"a/calls": after["a"]["calls"], "a/w": params["a"]["w"]})
    assert found["a/calls"] == 1


def test_a_penalty_by_name_has_the_gradient_of_one_by_hand() -> None:
    def loss(x: jax.Array) -> jax.Array:
        two(x)
        return sum(jnp.sum(v**2) for v in js.named_variables("gen", trainable=True).values())

    net = js.transform_with_state(loss)
    params, state = net.init(0, X)
    gradient = jax.grad(lambda p: net.apply(p, state, None, X)[0])(params)
    chex.assert_trees_all_close(gradient["gen"]["w"], 2 * params["gen"]["w"])
    assert not gradient["generator"]["w"].any()


def total(x: jax.Array) -> jax.Array:
    """The variables that there are, w of this scope included, as one number."""
    x = x * js.get_variable("w", [3])
    return x + sum(jnp.sum(v) for v in js.named_variables().values())


INSIDE: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda f: f,
    "jax.jit": jax.jit,
    "jax.checkpoint": jax.checkpoint,
    "jax.vmap": lambda f: lambda x: jax.vmap(f)(x[None])[0],
    "jax.cond": lambda f: lambda x: jax.lax.cond(True, f, f, x),
    "jax.scan": lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, 1)[0],
    "jit": js.jit,
    "checkpoint": js.checkpoint,
    "scan": lambda f: lambda x: js.scan(lambda c, _: (f(c), None), x, None, 1)[0],
    "vmap": lambda f: lambda x: js.vmap(f)(x[None])[0],
    "template": lambda f: js.make_template("t", f, unique_name_="t"),
}


@pytest.mark.parametrize("name", [name for name in INSIDE if name != "template"])
def test_inside_a_transform_they_are_those_of_the_plain_program(name: str) -> None:
    block = INSIDE[name](total)  # wrapped once, for all scopes

    def fn(x: jax.Array, block: Any) -> jax.Array:
        for scope in ("a", "b", "c"):
            with js.variable_scope(scope):
                x = block(x)
        return x

    net = js.transform(fn)
    params = net.init(0, X, block)
    for scale in (1, 2):
        given = jax.tree.map(lambda w, scale=scale: scale * w, params)
        wanted = net.apply(given, None, X, total)
        found = jax.jit(lambda p: net.apply(p, None, X, block))(given)
        chex.assert_trees_all_close(found, wanted, rtol=1e-6)


def test_in_a_template_they_are_the_same_at_every_call() -> None:
    def fn(x: jax.Array) -> list[list[str]]:
        def inner() -> list[str]:
            js.get_variable("w", [3])
            return names()

        template = js.make_template("t", inner)
        return [template(), template()]

    for found in in_both(fn):
        assert found == [["t/w"], ["t/w"]]


def test_in_a_stack_they_are_those_of_the_layer() -> None:
    def block(x: jax.Array) -> jax.Array:
        w = js.get_variable("w", [3])
        (name,), (value,) = js.named_variables().keys(), js.named_variables().values()
        assert (name, value.shape) == ("w", (3,))
        return x * w + value

    def fn(x: jax.Array) -> jax.Array:
        x = js.layer_stack(2)(block)(x)
        assert js.named_variables()["w"].shape == (2, 3)
        return x

    net = js.transform(fn)
    params = net.init(0, X)
    first, second = params["w"]
    chex.assert_trees_all_close(
        net.apply(params, None, X), (X * first + first) * second + second, rtol=1e-6
    )


def test_what_is_no_scope_or_no_flag_is_refused() -> None:
    with pytest.raises(errors.NoPassError, match=r"^named_variables was called outside a pass"):
        js.named_variables()
    for arguments, message in (
        ({"scope": 3}, "The scope must be a full name or None, got 3 of type int."),
        ({"trainable": "yes"}, "The trainable must be True, False or None, got 'yes' of type str."),
    ):
        with pytest.raises(errors.ArgumentError) as caught:
            js.transform(lambda arguments=arguments: js.named_variables(**arguments)).init(0)
        assert str(caught.value) == message
    with pytest.raises(errors.InvalidNameError, match=r"^'a//b' is not a valid scope name"):
        js.transform(lambda: js.named_variables("a//b")).init(0)

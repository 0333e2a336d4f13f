"""Placeholders of init are, to every transform of JAX, what params are to it in apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest

import jscope as js

X = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)
Get = Callable[[str, list[int]], jax.Array]


def w(get: Get) -> jax.Array:
    return get("w", [3])


def scan_from_variable(get: Get, x: Any) -> Any:
    def over(row: Any) -> Any:
        return jax.lax.scan(lambda h, _: (h * 2, None), w(get), None, length=2)[0]

    return jax.vmap(over, out_axes=None)(x)


def cond_on_variable(get: Get, x: Any) -> Any:
    def row(r: Any) -> Any:
        return jax.lax.cond(w(get)[0] > 0, lambda: w(get) * 2, lambda: w(get))

    return jax.vmap(row, out_axes=None)(x)


def custom_rule(get: Get, x: Any) -> Any:
    @jax.custom_batching.custom_vmap
    def add(a: Any, b: Any) -> Any:
        return a + b

    @add.def_vmap
    def rule(size: int, in_batched: list[bool], a: Any, b: Any) -> Any:
        return (a + b if in_batched[1] else a - b[None]), True

    return jax.vmap(lambda r: add(r, w(get)))(x)


def nested(get: Get, x: Any) -> Any:
    inner = jax.vmap(lambda e: (e, w(get)), out_axes=(0, None))
    return jax.vmap(inner, out_axes=(0, None))(x)


# Programs of a raw vmap, or of what is made of one, by ``get(name, shape)``.
ACCEPTED: dict[str, Callable[[Get, Any], Any]] = {
    "out_axes=None": lambda get, x: jax.vmap(lambda r: w(get) * 2, out_axes=None)(x),
    "out_axes of pairs": lambda get, x: jax.vmap(lambda r: (r * w(get), w(get)), 0, (0, None))(x),
    "out_axes=0 of a variable": lambda get, x: jax.vmap(lambda r: w(get))(x),
    "out_axes=1": lambda get, x: jax.vmap(lambda r: r + w(get), out_axes=1)(x),
    "in_axes=1": lambda get, x: jax.vmap(lambda c: c.sum() * w(get), 1)(x),
    "in_axes of pairs": lambda get, x: jax.vmap(lambda r, y: (r + y) * w(get), (0, None))(x, x[0]),
    "in_axes of dicts": lambda get, x: jax.vmap(lambda d: d["a"] * w(get), ({"a": 0, "b": None},))(
        {"a": x, "b": 1.0}
    ),
    "axis_size": lambda get, x: jax.vmap(lambda r: r * w(get), None, axis_size=4)(x[0]),
    "collective": lambda get, x: jax.vmap(
        lambda r: jax.lax.psum(r * w(get), "i"), axis_name="i", out_axes=None
    )(x),
    "nested": nested,
    "jacfwd": lambda get, x: jax.jacfwd(lambda x: x * w(get)[None])(x),
    "jacrev": lambda get, x: jax.jacrev(lambda x: x * w(get)[None])(x),
    "jacfwd with aux": lambda get, x: jax.jacfwd(lambda r: (r * w(get), w(get)), has_aux=True)(
        x[0]
    ),
    "jacrev with aux": lambda get, x: jax.jacrev(lambda r: (r * w(get), w(get)), has_aux=True)(
        x[0]
    ),
    "hessian": lambda get, x: jax.hessian(lambda x: jnp.sum(jnp.sin(x) * w(get)[None]))(x),
    "jacfwd of grad": lambda get, x: jax.jacfwd(jax.grad(lambda x: jnp.sum(x**3 @ w(get))))(x),
    "vmap of jacfwd": lambda get, x: jax.vmap(jax.jacfwd(lambda r: r * w(get)))(x),
    "vmap of hessian": lambda get, x: jax.vmap(jax.hessian(lambda r: r**3 @ w(get)))(x),
    "scan from a variable": scan_from_variable,
    "cond on a variable": cond_on_variable,
    "custom_vmap": custom_rule,
    "vmap of jit": lambda get, x: jax.vmap(jax.jit(lambda r: w(get)), out_axes=None)(x),
    "vmap of checkpoint": lambda get, x: jax.vmap(
        jax.checkpoint(lambda r: w(get) * 2), out_axes=None
    )(x),
    "jit of vmap": lambda get, x: jax.jit(jax.vmap(lambda r: w(get), out_axes=None))(x),
    "linear_transpose": lambda get, x: jax.linear_transpose(lambda r: r * w(get), x[0])(x[1]),
}

REFUSED: dict[str, Callable[[Get, Any], Any]] = {
    "out_axes=None of what is mapped": lambda get, x: jax.vmap(lambda r: r * w(get), out_axes=None)(
        x
    ),
    "scan from a variable that changes its type": lambda get, x: jax.vmap(
        lambda r: jax.lax.scan(lambda h, _: (h * r, None), w(get), None, length=2)[0],
        out_axes=None,
    )(x),
}


def scoped(program: Callable[[Get, Any], Any]) -> Any:
    # AUTO_REUSE: some of the programs ask several times.
    def fn(x: Any) -> Any:
        with js.variable_scope("net", reuse=js.AUTO_REUSE):
            return program(js.get_variable, x)

    return js.transform(fn)


@pytest.mark.parametrize("name", ACCEPTED)
def test_init_specs_and_apply_accept_what_jax_accepts_by_hand(name: str) -> None:
    net = scoped(ACCEPTED[name])
    params = net.init(0, X)
    assert list(net.specs(X)) == ["net/w"]
    value = params["net"]["w"]
    chex.assert_trees_all_close(
        net.apply(params, None, X), ACCEPTED[name](lambda *_: value, X), rtol=1e-6
    )


@pytest.mark.parametrize("name", REFUSED)
def test_init_specs_and_apply_refuse_what_jax_refuses_by_hand(name: str) -> None:
    net, value = scoped(REFUSED[name]), jnp.ones([3])
    for call in (
        lambda: REFUSED[name](lambda *_: value, X),
        lambda: net.init(0, X),
        lambda: net.specs(X),
        lambda: net.apply({"net": {"w": value}}, None, X),
    ):
        with pytest.raises(ValueError, match="out_axes"):
            call()


@pytest.mark.parametrize("call", ["init", "apply"])
def test_a_variable_is_one_object_in_all_traces(call: str) -> None:
    seen: list[Any] = []

    def program(x: Any) -> Any:
        with js.variable_scope("net", reuse=js.AUTO_REUSE):

            def ask(x: Any) -> Any:
                seen.append(js.get_variable("w", [3]))
                return x * seen[-1]

            ask(x[0])
            jax.jit(ask)(x[0])
            jax.vmap(jax.checkpoint(ask))(x)
            jax.lax.scan(lambda _, r: (None, ask(r)), None, x)

    net = js.transform(program)
    args = {"init": (0, X), "apply": ({"net": {"w": jnp.ones([3])}}, None, X)}[call]
    getattr(net, call)(*args)
    assert len(seen) >= 4
    assert all(value is seen[0] for value in seen)


def one_of_split(x: Any) -> Any:
    return x * js.get_variable("w", [3])


OWN = {
    "its own variable": lambda r: js.get_variable("w", [3]),
    "a value of its own variable": one_of_split,
}


@pytest.mark.parametrize("name", OWN)
def test_a_split_variable_is_mapped_in_init_as_in_apply(name: str) -> None:
    def net(out_axes: Any) -> Any:
        return js.transform(js.vmap(OWN[name], variables="split", out_axes=out_axes))

    params = net(0).init(0, X)
    assert net(0).apply(params, None, X).shape == (2, 3)
    for call in (
        lambda: net(None).init(0, X),
        lambda: net(None).specs(X),
        lambda: net(None).apply(params, None, X),
    ):
        with pytest.raises(ValueError, match="out_axes"):
            call()


def test_what_a_split_vmap_does_not_map_may_leave_it_unmapped() -> None:
    def instance(r: Any) -> Any:
        return r * js.get_variable("w", [3]), js.get_variable_scope().name == ""

    def program(x: Any) -> Any:
        shared = js.get_variable("shared", [3])
        mapped = js.vmap(
            lambda r: (instance(r)[0], shared * 2), variables="split", out_axes=(0, None)
        )
        return mapped(x)

    net = js.transform(program)
    params = net.init(0, X)
    out, twice = net.apply(params, None, X)
    assert out.shape == (2, 3)
    chex.assert_trees_all_equal(twice, params["shared"] * 2)


def test_a_stack_inside_vmap_is_mapped_where_its_carry_is() -> None:
    def block(x: Any) -> Any:
        return x + js.get_variable("w", [3])

    def over(out_axes: Any, of_row: bool) -> Any:
        def program(x: Any) -> Any:
            start = jnp.ones([3])
            return jax.vmap(
                lambda r: js.layer_stack(2)(block)(r if of_row else start), out_axes=out_axes
            )(x)

        return js.transform(program)

    params = over(None, of_row=False).init(0, X)
    assert over(None, of_row=False).apply(params, None, X).shape == (3,)
    for call in (
        lambda: over(None, of_row=True).init(0, X),
        lambda: over(None, of_row=True).apply(params, None, X),
    ):
        with pytest.raises(ValueError, match="out_axes"):
            call()

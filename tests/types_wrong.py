"""Calls that type checkers report, in the marked lines alone. Read by test_types.py, never run."""

from __future__ import annotations

import jax

import jscope as js

Array = jax.Array


def model(x: Array, units: int = 3, *, training: bool = False) -> Array:
    return js.layers.dense(x, units)


def networks(x: Array, params: js.Params) -> None:
    net = js.transform(model)
    net.init()  # wrong
    net.init(0)  # wrong
    net.init("0", x)  # wrong
    net.init(0, x, "3")  # wrong
    net.init(rng=0, x=x)  # wrong
    net.apply(params, x)  # wrong
    net.apply(params, None, x, train=True)  # wrong
    net.apply(params, None, x, 3, True)  # wrong
    net.apply(x, None, x)  # wrong
    net.specs(0, x)  # wrong
    init, apply = net
    init(0, x, units="3")  # wrong
    apply(params, None)  # wrong
    number: int = apply(params, None, x)  # wrong
    init, apply, _ = net  # wrong
    js.transform(3)  # wrong
    print(number)


def networks_without_rng(x: Array, params: js.Params) -> None:
    net = js.without_apply_rng(js.transform(model))
    net.apply(params, None, x)  # wrong
    net.init(x)  # wrong
    init, apply = net
    init(0, "x")  # wrong
    apply(params, None, x)  # wrong
    apply(params, x, train=True)  # wrong
    js.without_apply_rng(model)  # wrong


def networks_with_state(x: Array, params: js.Params) -> None:
    net = js.transform_with_state(model)
    net.apply(params, None, x)  # wrong
    net.apply(params, params, None, "x")  # wrong
    array: Array = net.apply(params, params, None, x)  # wrong
    array.sum()
    init, apply = net
    params = init(0, x)  # wrong
    apply(params, params, None, x, train=True)  # wrong
    bare = js.without_apply_rng(net)
    bare.apply(params, x)  # wrong
    bare.apply(params, params, None, x)  # wrong


def reads_on(params: js.Params) -> None:
    params.update({})  # refused when it runs; checkers must not take the rest for unreachable
    wrong: int = "text"  # wrong
    print(wrong)


@js.variable_scope("head")
def head(x: Array, units: int = 3) -> Array:
    return x


@js.add_arg_scope
def layer(x: Array, units: int = 3) -> Array:
    return x


@js.jit(static_argnames="units")
def jitted(x: Array, units: int = 3) -> Array:
    return x


@js.layer_stack(12)
def stacked(x: Array) -> Array:
    return x


def step(carry: Array, x: Array) -> tuple[Array, float]:
    return carry, 1.0


def decorated(x: Array) -> None:
    head(x, "3")  # wrong
    layer(x, unit=3)  # wrong
    jitted(x, "3")  # wrong
    js.jit(model)(x, 3, True)  # wrong
    js.checkpoint(model)()  # wrong
    stacked("x")  # wrong
    js.make_template("tower", model)(x, train=True)  # wrong
    pure, carry = js.functionalize(model)
    pure(x)  # wrong
    pure(carry, "x")  # wrong
    js.value_and_grad(model)(x, train=True)  # wrong
    js.grad(model)("x")  # wrong
    js.vmap(model)()  # wrong
    js.shard_map(model)  # wrong
    js.shard_map(model, out_specs=None)()  # wrong
    js.vmap(model, variables="splits")  # wrong
    js.no_such_name  # wrong  # noqa: B018


def text(x: Array) -> str:
    return ""


def loops(x: Array, flag: Array) -> None:
    js.scan(step, "x", x)  # wrong
    js.scan(step, x, "x")  # wrong
    js.scan(model, x, x)  # wrong
    js.map(step, x)  # wrong
    js.while_loop(lambda x: True, text, x)  # wrong
    js.fori_loop(0, 3, head, x)  # wrong
    js.fori_loop("0", 3, lambda i, x: x, x)  # wrong
    js.cond(flag, head, layer, "x")  # wrong
    js.cond(flag, head, layer)  # wrong
    js.cond(flag, step, step, x)  # wrong
    js.switch("flag", [head, layer], x)  # wrong

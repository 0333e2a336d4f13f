"""Calls that type checkers take, and the types that they find. Read by test_types.py, never run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np

import jscope as js

Array = jax.Array


def model(x: Array, units: int = 3, *, training: bool = False) -> Array:
    with js.variable_scope("a", initializer=js.initializers.zeros, reuse=js.AUTO_REUSE) as scope:
        w = js.get_variable("w", [4, units], regularizer=js.regularizers.l2(0.1))
        b = js.get_variable("b", units, jnp.float32, initializer=jax.nn.initializers.normal(1.0))
        mean = js.get_variable("mean", initializer=0.0, trainable=False)
    assert_type(scope, js.VariableScope)
    assert_type(w, Array)
    assert_type(js.assign("a/mean", mean), Array)
    assert_type(js.assign_add("a/mean", 1), Array)
    with js.variable_scope(None, "b", [x], dtype=np.float32, custom_getter=js.getters.cast("f4")):
        x = js.layers.dense(x @ w + b, units, jax.nn.relu, bias_initializer=js.initializers.zeros)
    y = js.layers.dropout(x, 0.5, training=training)
    y = js.layers.batch_normalization(y, training=training)
    y = js.layers.conv2d(y, 3, [3, 3], padding="same", activation=jnp.tanh)
    if js.has_rng() and not js.is_initializing():
        assert_type(js.next_rng_key(), Array)
    js.add_to_collection("activations", y)
    assert_type(js.get_collection("activations"), list[Any])
    cell = js.layers.lstm(units)
    outputs, last = js.layers.dynamic_rnn(cell, y, dtype="float32", scope="rnn")
    assert_type(outputs, Array)
    assert_type(cell(y, last)[0], Array)
    with js.arg_scope([js.layers.dense], use_bias=False):
        return y + js.get_regularization_loss()


def with_aux(x: Array, units: int) -> tuple[Array, str]:
    return x, str(units)


class Model:
    def __call__(self, x: Array, /) -> float:
        return 1.0

    def method(self, x: Array, name: str = "") -> str:
        return name


def meshes(x: Array, mesh: jax.sharding.Mesh) -> None:
    net = js.transform(model)
    rules = js.sharding_rules({"**/w": ("x", None)}, js.fsdp("x"), {"a": None})
    divided = js.sharded(net, rules, mesh)
    assert_type(rules, js.ShardingRules)
    assert_type(rules.report(net.specs(x)), str)
    assert_type(divided.init(0, x, 3), js.Params)
    assert_type(divided.apply(divided.init(0, x), None, x), Array)
    assert_type(js.sharded(js.transform_with_state(model), rules).init(0, x)[1], js.Params)
    assert_type(divided.specs(x).shardings(mesh), js.Params)


def networks(x: Array, key: Array) -> None:
    net = js.transform(model)
    params = net.init(key, x, 3, training=True)
    assert_type(params, js.Params)
    assert_type(net.init(0, x), js.Params)
    assert_type(net.init(None, x, units=2), js.Params)
    assert_type(net.init(np.zeros(2, np.uint32), x), js.Params)
    assert_type(net.apply(params, None, x), Array)
    assert_type(net.apply({"a": {"w": x}}, key, x, training=True), Array)
    assert_type(net.specs(x, units=2), js.Specs)

    init, apply = js.transform(model)
    assert_type(init(0, x, training=True), js.Params)
    assert_type(apply(params, 0, x, 3, training=True), Array)
    init, apply = net
    assert_type(apply(params, 0, x, 3), Array)

    bare = js.without_apply_rng(net)
    assert_type(bare.init(0, x, training=True), js.Params)
    assert_type(bare.apply(params, x, 3, training=True), Array)
    assert_type(bare.specs(x, 3), js.Specs)
    init, without_rng = js.without_apply_rng(js.transform(model))
    assert_type(init(0, x), js.Params)
    assert_type(without_rng(params, x, training=True), Array)


def networks_with_state(x: Array, key: Array) -> None:
    net = js.transform_with_state(model)
    params, state = net.init(key, x, training=True)
    assert_type(state, js.Params)
    out, state = net.apply(params, state, None, x, training=True)
    assert_type(out, Array)
    assert_type(state, js.Params)
    assert_type(net.specs(x, 3), js.Specs)
    init, apply = js.transform_with_state(with_aux)
    assert_type(init(0, x, 3), tuple[js.Params, js.Params])
    assert_type(apply(params, state, key, x, 3), tuple[tuple[Array, str], js.Params])
    _, without_rng = js.without_apply_rng(js.transform_with_state(with_aux))
    assert_type(without_rng(params, state, x, units=3), tuple[tuple[Array, str], js.Params])
    bare = js.without_apply_rng(net)
    assert_type(bare.apply(params, state, x, 3), tuple[Array, js.Params])


def callables(x: Array, params: js.Params) -> None:
    assert_type(js.transform(Model()).apply(params, None, x), float)
    assert_type(js.transform(Model().method).apply(params, None, x, name="a"), str)
    assert_type(js.transform(functools.partial(model, training=True)).apply(params, 0, x), Array)
    assert_type(js.transform(lambda: 3).apply(params, None), int)
    js.transform(jnp.tanh).apply(params, None, x)
    inner, outer = js.transform(js.jit(model)), js.transform(js.transform(model).init)
    assert_type(inner.apply(params, None, x, training=True), Array)
    assert_type(outer.apply(params, None, 0, x, training=True), js.Params)


def trees(params: js.Params, x: Array) -> None:
    specs = js.transform(model).specs(x)
    kernel: Array = params["a"]["w"]
    assert_type(params["a"]["w"] + kernel, Any)
    assert_type(list(params), list[str])
    assert_type(specs["a/w"], js.VariableSpec)
    assert_type(specs["a/w"].shape, tuple[int, ...])
    js.check(params, specs)
    assert_type(js.tree.select(params, "a/*"), js.Params)
    assert_type(js.tree.count(params), int)
    assert_type(js.restore(params, params), tuple[js.Params, js.RestoreReport])
    (restored, state), report = js.restore(specs, {"w": x}, {"/": "a/"}, cast=True)
    assert_type((restored, state), tuple[js.Params, js.Params])
    assert_type(report.missing, tuple[str, ...])
    assert_type(js.restore((params, state), params)[0], tuple[js.Params, js.Params])
    assert_type(js.restore({"opt": (x, params)}, params)[0], Mapping[str, Any])
    opt, _ = js.restore([x, params], params)
    assert_type(opt, Any)
    assert_type(js.regularization_loss(params, specs), Array)
    assert_type(js.apply_constraints(params, specs), js.Params)
    js.tree.map_with_name(lambda name, leaf: leaf, params)


@js.variable_scope("head")
def head(x: Array, units: int = 3) -> Array:
    return js.get_variable("w", [units]) * x


@js.add_arg_scope
def layer(x: Array, units: int = 3) -> Array:
    return js.get_variable("w", [units]) * x


@js.jit
def jitted(x: Array, units: int = 3) -> Array:
    return x


@js.jit(static_argnames="units")
def jitted_with_options(x: Array, units: int = 3) -> Array:
    return x


@js.checkpoint
def checkpointed(x: Array, units: int = 3) -> Array:
    return x


@js.layer_stack(12, checkpoint=True)
def stacked(x: Array, units: int = 3) -> Array:
    return x


@js.layer_stack(12)
def stacked_with_xs(carry: Array, x: float) -> tuple[Array, str]:
    return carry, ""


def getter(getter: Callable[..., Any], name: str, **request: Any) -> Any:
    return getter(name, **request)


def decorated(x: Array) -> None:
    assert_type(head(x, units=3), Array)
    assert_type(layer(x, units=3), Array)
    assert_type(jitted(x, units=3), Array)
    assert_type(jitted_with_options(x, units=3), Array)
    assert_type(checkpointed(x, units=3), Array)
    js.jit(lambda x, y: x + y)(x, x)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert_type(js.remat(model)(x, training=True), Array)
    assert_type(stacked(x), Array)
    assert_type(stacked_with_xs(x, 1.0), tuple[Array, str])
    assert_type(js.layer_stack(3)(functools.partial(model, training=True))(x), Array)
    with js.variable_scope(js.get_variable_scope(), custom_getter=getter):
        template = js.make_template("tower", model)
        assert_type(template(x, training=True), Array)
    bound = js.make_template("tower", model, training=True)
    assert_type(bound(x), Array)
    pure, carry = js.functionalize(model)
    out, carry = pure(carry, x, training=True)
    assert_type(out, Array)
    js.put_carry(carry)


def derived(x: Array) -> None:
    js.grad(model)(x, training=True)
    assert_type(js.grad(with_aux, has_aux=True)(x, 3), tuple[Any, str])
    assert_type(js.value_and_grad(model)(x, training=True), tuple[Array, Any])
    assert_type(js.value_and_grad(with_aux, has_aux=True)(x, 3), tuple[tuple[Array, str], Any])
    assert_type(js.vmap(model, in_axes=(0, None), variables="split")(x, 3), Array)
    assert_type(js.vmap(model, [0], 0, "batch", axis_size=3)(x), Array)
    assert_type(js.shard_map(model, in_specs=None, out_specs=None)(x, 3), Array)
    assert_type(js.shard_map(out_specs=None)(model)(x, 3), Array)


def step(carry: Array, x: Array) -> tuple[Array, float]:
    return carry, 1.0


def loops(x: Array) -> None:
    assert_type(js.scan(step, x, x), tuple[Array, float])
    assert_type(js.scan(step, x, xs=x, length=3, reverse=True, unroll=2), tuple[Array, float])
    assert_type(js.scan(lambda c, x: (c, x), x, (x, x)), tuple[Array, tuple[Array, Array]])
    assert_type(js.scan(lambda _, x: (None, x), None, x), tuple[None, Array])
    assert_type(js.scan(lambda c, _: (c, c), x, length=3), tuple[Array, Array])
    assert_type(js.map(head, x), Array)
    assert_type(js.map(lambda pair: pair[0] @ pair[1], (x, x), batch_size=2), Array)
    assert_type(js.while_loop(lambda x: x.sum() > 1, head, x), Array)
    assert_type(js.while_loop(lambda x: x[0].all(), lambda x: x, (x, x)), tuple[Array, Array])
    assert_type(js.fori_loop(0, x.size, lambda i, x: x + i, x), Array)


def branches(x: Array, flag: Array, functions: list[Callable[[Array], Array]]) -> None:
    assert_type(js.cond(flag, head, layer, x), Array)
    assert_type(js.cond(True, jnp.tanh, functools.partial(head, units=3), x), Array)
    assert_type(js.cond(flag, lambda x, y: x, lambda x, y: y, x, x), Array)
    assert_type(js.cond(flag, lambda: x, lambda: x), Array)
    assert_type(js.cond(flag, head, lambda x: x, operand=x), Array)
    assert_type(js.switch(flag, [head, layer], x), Array)
    assert_type(js.switch(3, functions, x), Array)
    assert_type(js.switch(flag, [lambda: x, lambda: x]), Array)
    js.switch(flag, [head, jnp.tanh, Model(), functools.partial(head, units=3)], x)


def looked_into(params: js.Params, x: Array) -> None:
    net = js.transform(model)
    assert_type(js.record("x", x), Array)
    assert_type(js.summary(net, x, depth=1, training=True), js.Summary)
    out, seen = js.capture(net.apply, "**/output")(params, None, x, training=True)
    assert_type(out, Array)
    assert_type(seen, dict[str, Any])
    assert_type(js.plant(seen)(net.apply)(params, 0, x, 3), Array)
    assert_type(js.plant({"a": x})(js.capture(net.apply))(params, 0, x)[0], Array)

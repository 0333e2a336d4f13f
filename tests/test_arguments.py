"""What counts as an integer, a flag, a number and an array: one rule each, wherever it is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import errors

X = jnp.ones([2, 3])


def run(fn: Callable[[], Any]) -> Any:
    return js.transform_with_state(fn).init(0)


# Each takes a dtype, a class with attributes ``shape`` and ``dtype``, in place of an array.
OF_ARRAYS: dict[str, Callable[[Any], Any]] = {
    "rng": lambda x: js.transform(lambda: None).init(x),
    "params": lambda x: js.transform(lambda: js.get_variable("w", [])).apply({"w": x}, None),
    "state": lambda x: js.transform_with_state(
        lambda: js.get_variable("w", [], trainable=False)
    ).apply({}, {"w": x}, None),
    "check": lambda x: js.check({"w": x}, js.transform(lambda: js.get_variable("w", [])).specs()),
    "initializer": lambda x: run(lambda: js.get_variable("w", [2], initializer=x)),
    "shape": lambda x: run(lambda: js.get_variable("w", x)),
    "size": lambda x: run(lambda: js.get_variable("w", [x])),
    "assign": lambda x: run(lambda: (js.get_variable("w", [], trainable=False), js.assign("w", x))),
    "values": lambda x: run(lambda: js.variable_scope("a", values=[x]).__enter__()),
    "inputs": lambda x: run(lambda: js.layers.dense(x, 3)),
    "inputs of dropout": lambda x: run(lambda: js.layers.dropout(x, training=True)),
    "ids": lambda x: run(lambda: js.layers.embedding(x, 3, 3)),
    "images": lambda x: run(lambda: js.layers.max_pooling2d(x, 3, 3)),
    "carry of layer_stack": lambda x: run(lambda: js.layer_stack(2)(lambda y: y)(x)),
    "xs of layer_stack": lambda x: run(lambda: js.layer_stack(2)(lambda y, _: (y, y))(0.0, x)),
    "xs of scan": lambda x: run(lambda: js.scan(lambda y, _: (y, y), 0.0, x)),
    "xs of map": lambda x: run(lambda: js.map(lambda y: y, x)),
    "count": lambda x: js.tree.count({"w": x}),
    "nbytes": lambda x: js.tree.nbytes({"w": x}),
    "stack_layers": lambda x: js.tree.stack_layers({"layer_0": {"w": x}, "layer_1": {"w": x}}),
    "unstack_layers": lambda x: js.tree.unstack_layers({"w": x}),
}


@pytest.mark.parametrize("kind", [np.float32, jnp.float32, np.int32])
@pytest.mark.parametrize("place", OF_ARRAYS)
def test_a_dtype_is_no_array(place: str, kind: Any) -> None:
    with pytest.raises(errors.JscopeError):
        OF_ARRAYS[place](kind)
    assert repr(js.Params({"w": kind})) == f"Params({{'w': {type(kind).__name__}}})"


FLAGS: dict[str, Callable[[Any], Any]] = {
    "trainable": lambda flag: run(lambda: js.get_variable("w", [2], trainable=flag)),
    "trainable, shared": lambda flag: run(
        lambda: [
            js.variable_scope("a", reuse=js.AUTO_REUSE)(js.get_variable)("w", [2], trainable=flag)
            for _ in range(2)
        ]
    ),
    "auxiliary_name_scope": lambda flag: run(
        lambda: js.variable_scope("a", auxiliary_name_scope=flag)(js.get_variable)("w", [2])
    ),
    "training": lambda flag: run(lambda: js.layers.dropout(X, training=flag)),
    "checkpoint": lambda flag: run(lambda: js.layer_stack(2, checkpoint=flag)(jnp.sin)(X)),
    "use_bias": lambda flag: run(lambda: js.layers.dense(X, 3, use_bias=flag)),
    "use_bias of a convolution": lambda flag: run(
        lambda: js.layers.conv1d(X[None], 3, 1, use_bias=flag)
    ),
    "center": lambda flag: run(lambda: js.layers.batch_normalization(X, center=flag)),
    "scale": lambda flag: run(lambda: js.layers.batch_normalization(X, scale=flag)),
    "training of a norm": lambda flag: run(lambda: js.layers.batch_normalization(X, training=flag)),
    "fused": lambda flag: run(lambda: js.layers.batch_normalization(X, training=True, fused=flag)),
    "zero_debias": lambda flag: run(
        lambda: (
            js.get_variable("w", [], trainable=False),
            js.assign_moving_average("w", 1.0, 0.5, zero_debias=flag),
        )
    ),
}


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("as_given", [int, np.int32, np.bool_, np.array, jnp.array, jnp.int32])
@pytest.mark.parametrize("place", FLAGS)
def test_a_truth_value_is_one_of_python(place: str, as_given: Any, flag: bool) -> None:
    made, wanted = FLAGS[place](as_given(flag)), FLAGS[place](flag)
    assert jax.tree.structure(made) == jax.tree.structure(wanted)


@pytest.mark.parametrize(
    "flag", [2, -1, 1.0, "yes", np.array([True]), np.array(1.0), jax.ShapeDtypeStruct((), bool)]
)
@pytest.mark.parametrize("place", FLAGS)
def test_other_values_are_no_flags(place: str, flag: Any) -> None:
    with pytest.raises(errors.ArgumentError):
        FLAGS[place](flag)


@pytest.mark.parametrize("kind", [bool, jnp.int32])
@pytest.mark.parametrize("place", FLAGS)
def test_a_traced_value_is_no_flag(place: str, kind: Any) -> None:
    with pytest.raises(errors.ArgumentError):
        jax.jit(FLAGS[place])(jnp.array(True, kind))


COUNTS: dict[str, Callable[[Any], Any]] = {
    "units": lambda count: run(lambda: js.layers.dense(X, count)),
    "layers": lambda count: run(
        lambda: js.layer_stack(count)(lambda x: x * js.get_variable("w", []))(X)
    ),
    "size": lambda count: run(lambda: js.get_variable("w", [count])),
    "shape": lambda count: run(lambda: js.get_variable("w", count)),
    "rank": lambda count: run(
        lambda: js.variable_scope("a", custom_getter=js.getters.low_rank(count))(js.get_variable)(
            "kernel", [4, 4]
        )
    ),
    "kernel_size": lambda count: run(lambda: js.layers.conv1d(X[None], 2, count)),
    "units of a cell": lambda count: run(
        lambda: js.layers.lstm(count)(X, js.layers.lstm(count).zero_state(2))
    ),
}


@pytest.mark.parametrize("place", COUNTS)
def test_an_integer_of_numpy_is_one_of_python(place: str) -> None:
    made, wanted = COUNTS[place](np.int64(2)), COUNTS[place](2)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, wanted)


@pytest.mark.parametrize("count", [True, np.bool_(True), 2.0, np.float32(2), "2", np.float32])
@pytest.mark.parametrize("place", COUNTS)
def test_other_values_are_no_integers(place: str, count: Any) -> None:
    with pytest.raises(errors.JscopeError):
        COUNTS[place](count)

"""A dialect whose names differ, TF1's slim, written over jscope's layers: names by a getter."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js

SLIM_NAMES = js.getters.rename({r"/kernel$": "/weights", r"/bias$": "/biases"})


@js.add_arg_scope
def conv2d(
    inputs: jax.Array,
    num_outputs: int,
    kernel_size: Any,
    stride: int = 1,
    padding: str = "SAME",
    activation_fn: Any = jax.nn.relu,
    weights_regularizer: Any = None,
    scope: str | None = None,
) -> jax.Array:
    """``slim.conv2d``."""
    with js.variable_scope(scope, "Conv", custom_getter=SLIM_NAMES) as here:
        return js.layers.conv2d(
            inputs,
            num_outputs,
            kernel_size,
            stride,
            padding,
            activation=activation_fn,
            kernel_regularizer=weights_regularizer,
            name=here,
        )


@js.add_arg_scope
def fully_connected(
    inputs: jax.Array,
    num_outputs: int,
    activation_fn: Any = jax.nn.relu,
    weights_regularizer: Any = None,
    scope: str | None = None,
) -> jax.Array:
    """``slim.fully_connected``."""
    with js.variable_scope(scope, "fully_connected", custom_getter=SLIM_NAMES) as here:
        return js.layers.dense(
            inputs,
            num_outputs,
            activation_fn,
            kernel_regularizer=weights_regularizer,
            name=here,
        )


def lenet(images: jax.Array, weight_decay: float = 0.5) -> jax.Array:
    """As slim's, but smaller: [batch, 8, 8, 1] -> [batch, 3]."""
    with (
        js.variable_scope("LeNet"),
        js.arg_scope(
            [conv2d, fully_connected], weights_regularizer=js.regularizers.l2(weight_decay)
        ),
        js.arg_scope([js.layers.max_pooling2d], pool_size=2, strides=2),
    ):
        net = js.layers.max_pooling2d(conv2d(images, 4, [3, 3], scope="conv1"))
        net = js.layers.max_pooling2d(conv2d(net, 5, [3, 3], padding="VALID"))
        net = conv2d(net, 5, [1, 1])
        net = fully_connected(js.layers.flatten(net), 6, scope="fc1")
        return fully_connected(net, 3, activation_fn=None)


NAMES = {
    "LeNet/conv1/weights": (3, 3, 1, 4),
    "LeNet/conv1/biases": (4,),
    "LeNet/Conv/weights": (3, 3, 4, 5),
    "LeNet/Conv/biases": (5,),
    "LeNet/Conv_1/weights": (1, 1, 5, 5),
    "LeNet/Conv_1/biases": (5,),
    "LeNet/fc1/weights": (5, 6),
    "LeNet/fc1/biases": (6,),
    "LeNet/fully_connected/weights": (6, 3),
    "LeNet/fully_connected/biases": (3,),
}

IMAGES = np.linspace(0, 1, 128, dtype=np.float32).reshape(2, 8, 8, 1)


def test_variables_have_the_names_of_slim() -> None:
    specs = js.transform(lenet).specs(IMAGES)
    assert {name: spec.shape for name, spec in specs.items()} == NAMES
    assert list(specs) == list(NAMES)


def test_weights_alone_are_regularized_by_the_arg_scope() -> None:
    net = js.transform(lenet)
    params, specs = net.init(0, IMAGES), net.specs(IMAGES)
    weights = js.tree.select(params, "**/weights")
    expected = sum(0.25 * jnp.square(value).sum() for value in jax.tree.leaves(weights))
    loss = js.regularization_loss(params, specs)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


def test_the_outputs_are_those_of_the_layers_by_their_own_names() -> None:
    def plain(images: jax.Array) -> jax.Array:
        relu = jax.nn.relu
        with js.variable_scope("LeNet"):
            net = js.layers.conv2d(images, 4, 3, 1, "same", activation=relu, name="conv1")
            net = js.layers.max_pooling2d(net, 2, 2)
            net = js.layers.conv2d(net, 5, 3, activation=relu, name="Conv")
            net = js.layers.max_pooling2d(net, 2, 2)
            net = js.layers.conv2d(net, 5, 1, activation=relu, name="Conv_1")
            net = js.layers.dense(js.layers.flatten(net), 6, relu, name="fc1")
            return js.layers.dense(net, 3, name="fully_connected")

    net, other = js.transform(lenet), js.transform(plain)
    params = net.init(0, IMAGES)
    own = {
        name.replace("weights", "kernel").replace("biases", "bias"): value
        for name, value in js.tree.flatten(params).items()
    }
    js.check(js.tree.unflatten(own), other.specs(IMAGES))
    np.testing.assert_array_equal(
        net.apply(params, None, IMAGES), other.apply(js.tree.unflatten(own), None, IMAGES)
    )


def test_every_layer_takes_defaults_from_an_arg_scope() -> None:
    def fn(x: jax.Array) -> jax.Array:
        with js.arg_scope([js.layers.dense], use_bias=False, activation=jnp.tanh):
            return js.layers.dense(js.layers.dense(x, 3), 2, use_bias=True)

    assert list(js.transform(fn).specs(np.ones([1, 4], np.float32))) == [
        "dense/kernel",
        "dense_1/kernel",
        "dense_1/bias",
    ]
    functions = [getattr(js.layers, name) for name in js.layers.__all__ if name.islower()]
    assert len(functions) > 15
    with js.arg_scope(functions):
        pass


def test_a_default_for_a_layer_must_be_one_of_its_arguments() -> None:
    with (
        pytest.raises(
            js.errors.ArgumentError,
            match=r"^The default of arg_scope must be an argument of conv2d, got 'padd' of type str\.$",
        ),
        js.arg_scope([js.layers.conv2d], padd="same"),
    ):
        pass


def test_a_function_without_a_name_takes_defaults_too() -> None:
    scaled = js.add_arg_scope(functools.partial(lambda x, units=3: js.layers.dense(x, units)))

    def fn(x: jax.Array) -> jax.Array:
        with js.arg_scope([scaled], units=5):
            return scaled(x)

    assert js.transform(fn).specs(np.ones([1, 2], np.float32))["dense/kernel"].shape == (2, 5)

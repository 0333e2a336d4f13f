"""Convolutions of each channel: depthwise_conv2d, separable_conv1d, separable_conv2d."""

from __future__ import annotations

import functools

import jax

from jscope._arg_scope import add_arg_scope
from jscope._arguments import check_size
from jscope._reuse import Reuse
from jscope._sharding import layout
from jscope._spec import Constraint, InitializerLike, Regularizer
from jscope.layers._arguments import OF_LAYERS, Activation, Name, Sizes, check_activation, takes_tf1
from jscope.layers._conv import convolved, opened, slide
from jscope.layers._depthwise import apart
from jscope.layers._weights import Weight, finish, if_flag, layer_scope, zeros
from jscope.layers._windows import Grid, check_images


@add_arg_scope
@takes_tf1()
def depthwise_conv2d(
    inputs: jax.Array,
    kernel_size: Sizes,
    depth_multiplier: int = 1,
    strides: Sizes = (1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Sizes = (1, 1),
    activation: Activation | None = None,
    use_bias: bool = True,
    depthwise_initializer: InitializerLike = None,
    bias_initializer: InitializerLike = zeros,
    depthwise_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    *,
    depthwise_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Convolves each channel by itself, as Keras' ``DepthwiseConv2D``.

    Makes ``depthwise_kernel`` [kernel height, kernel width, channels, depth_multiplier] and
    ``bias`` [channels * depth_multiplier]. Sizes are those of ``conv2d``.

    As ``conv2d``, with:
      kernel_size: Height and width of the kernel; an int stands for both.
      depth_multiplier: Number of channels that each channel becomes.
      depthwise_initializer: Else the scope's, else glorot_uniform.
      depthwise_regularizer: Function of the kernel, kept in its spec; else the scope's.
      depthwise_constraint: Function of the kernel, kept in its spec; else the scope's.

    Returns:
      Floats [batch, new height, new width, channels * depth_multiplier], those of one channel side
      by side; or with them as the second axis.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.depthwise_conv2d(x, 3, 2, padding="same"))
      >>> x = jnp.ones([1, 8, 8, 3])
      >>> params = net.init(0, x)
      >>> params
      Params({'depthwise_conv2d': {'depthwise_kernel': float32[3,3,3,2], 'bias': float32[6]}})
      >>> net.apply(params, None, x).shape
      (1, 8, 8, 6)
    """
    kernel = Weight(depthwise_initializer, depthwise_regularizer, depthwise_constraint, trainable)
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    window = "kernel_size", kernel_size
    inputs, grid = check_images(inputs, 2, window, strides, padding, data_format, dilation_rate)
    check_activation(activation)
    with layer_scope(name, "depthwise_conv2d", reuse):
        outputs = _apart(inputs, grid, kernel, depth_multiplier)
        return finish(outputs, if_flag("use_bias", use_bias, bias), activation, grid.channels)


@add_arg_scope
@takes_tf1(*OF_LAYERS)
def separable_conv1d(
    inputs: jax.Array,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Sizes = 1,
    depth_multiplier: int = 1,
    activation: Activation | None = None,
    use_bias: bool = True,
    depthwise_initializer: InitializerLike = None,
    pointwise_initializer: InitializerLike = None,
    bias_initializer: InitializerLike = zeros,
    depthwise_regularizer: Regularizer | None = None,
    pointwise_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    *,
    depthwise_constraint: Constraint | None = None,
    pointwise_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Convolves each channel by itself, then mixes them, as TF1's ``tf.layers.separable_conv1d``.

    Makes ``depthwise_kernel`` [kernel_size, channels, depth_multiplier], ``pointwise_kernel``
    [1, channels * depth_multiplier, filters] and ``bias`` [filters]. Lengths are those of
    ``conv1d``.

    As ``conv2d``, with:
      inputs: Floats [batch, length, channels], or [batch, channels, length] if channels_first.
      kernel_size: Length of the depthwise kernel.
      strides: Steps between outputs.
      dilation_rate: Steps between the parts of the depthwise kernel.
      depth_multiplier: Number of channels that each channel becomes before they are mixed.
      depthwise_initializer: Else the scope's, else glorot_uniform.
      pointwise_initializer: Else the scope's, else glorot_uniform.
      depthwise_regularizer: Function of the depthwise kernel, kept in its spec; else the scope's.
      pointwise_regularizer: Function of the pointwise kernel, kept in its spec; else the scope's.
      depthwise_constraint: Function of the depthwise kernel, kept in its spec; else the scope's.
      pointwise_constraint: Function of the pointwise kernel, kept in its spec; else the scope's.

    Returns:
      Floats [batch, new length, filters], or [batch, filters, new length].

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.separable_conv1d(x, 16, 3, depth_multiplier=2))
      >>> params = net.init(0, jnp.ones([1, 8, 3]))["separable_conv1d"]
      >>> params["depthwise_kernel"].shape, params["pointwise_kernel"].shape
      ((3, 3, 2), (1, 6, 16))
    """
    depthwise = Weight(
        depthwise_initializer, depthwise_regularizer, depthwise_constraint, trainable
    )
    pointwise = Weight(
        pointwise_initializer, pointwise_regularizer, pointwise_constraint, trainable
    )
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    window = "kernel_size", kernel_size
    inputs, grid = check_images(inputs, 1, window, strides, padding, data_format, dilation_rate)
    with opened("separable_conv1d", filters, activation, name, reuse):
        hidden = _apart(inputs, grid, depthwise, depth_multiplier)
        outputs = _mixed(hidden, grid, pointwise, filters)
        return finish(outputs, if_flag("use_bias", use_bias, bias), activation, grid.channels)


@add_arg_scope
@takes_tf1(*OF_LAYERS)
def separable_conv2d(
    inputs: jax.Array,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes = (1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Sizes = (1, 1),
    depth_multiplier: int = 1,
    activation: Activation | None = None,
    use_bias: bool = True,
    depthwise_initializer: InitializerLike = None,
    pointwise_initializer: InitializerLike = None,
    bias_initializer: InitializerLike = zeros,
    depthwise_regularizer: Regularizer | None = None,
    pointwise_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    *,
    depthwise_constraint: Constraint | None = None,
    pointwise_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Convolves each channel by itself, then mixes them, as TF1's ``tf.layers.separable_conv2d``.

    Makes ``depthwise_kernel`` [kernel height, kernel width, channels, depth_multiplier],
    ``pointwise_kernel`` [1, 1, channels * depth_multiplier, filters] and ``bias`` [filters]. Shapes
    are those of ``conv2d``.

    As ``conv2d``, with:
      kernel_size: Height and width of the depthwise kernel; an int stands for both.
      dilation_rate: Steps between the parts of the depthwise kernel.
      depth_multiplier: Number of channels that each channel becomes before they are mixed.
      depthwise_initializer: Else the scope's, else glorot_uniform.
      pointwise_initializer: Else the scope's, else glorot_uniform.
      depthwise_regularizer: Function of the depthwise kernel, kept in its spec; else the scope's.
      pointwise_regularizer: Function of the pointwise kernel, kept in its spec; else the scope's.
      depthwise_constraint: Function of the depthwise kernel, kept in its spec; else the scope's.
      pointwise_constraint: Function of the pointwise kernel, kept in its spec; else the scope's.

    Returns:
      Floats [batch, new height, new width, filters], or [batch, filters, new height, new width].

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.separable_conv2d(x, 16, 3, depth_multiplier=2))
      >>> params = net.init(0, jnp.ones([1, 8, 8, 3]))["separable_conv2d"]
      >>> params["depthwise_kernel"].shape, params["pointwise_kernel"].shape
      ((3, 3, 3, 2), (1, 1, 6, 16))
    """
    depthwise = Weight(
        depthwise_initializer, depthwise_regularizer, depthwise_constraint, trainable
    )
    pointwise = Weight(
        pointwise_initializer, pointwise_regularizer, pointwise_constraint, trainable
    )
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    window = "kernel_size", kernel_size
    inputs, grid = check_images(inputs, 2, window, strides, padding, data_format, dilation_rate)
    with opened("separable_conv2d", filters, activation, name, reuse):
        hidden = _apart(inputs, grid, depthwise, depth_multiplier)
        outputs = _mixed(hidden, grid, pointwise, filters)
        return finish(outputs, if_flag("use_bias", use_bias, bias), activation, grid.channels)


def _apart(inputs: jax.Array, grid: Grid, kernel: Weight, depth_multiplier: int) -> jax.Array:
    """Each channel convolved by itself, with as many kernels as the multiplier says."""
    many = check_size("depth_multiplier", depth_multiplier)
    channels = inputs.shape[grid.channels]
    made = kernel.use("depthwise_kernel", (*grid.window, channels, many), inputs.dtype)
    divided = layout(inputs)[grid.channels] or layout(made)[-2]
    return convolved(functools.partial(apart, grid=grid), inputs, made, grid, divided)


def _mixed(hidden: jax.Array, grid: Grid, kernel: Weight, filters: int) -> jax.Array:
    """The channels of each position mixed."""
    ones = (1,) * grid.rank
    shape = (*ones, hidden.shape[grid.channels], filters)
    made = kernel.use("pointwise_kernel", shape, hidden.dtype)
    still = functools.partial(slide, grid=grid._replace(strides=ones, dilation=ones))
    return convolved(still, hidden, made, grid, layout(made)[-1])

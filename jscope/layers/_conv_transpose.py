"""Transposed convolutions: conv1d_transpose, conv2d_transpose, conv3d_transpose."""

from __future__ import annotations

import functools

import jax

from jscope._arg_scope import add_arg_scope
from jscope._reuse import Reuse
from jscope._sharding import layout
from jscope._spec import Constraint, InitializerLike, Regularizer
from jscope.layers._arguments import OF_LAYERS, Activation, Name, Sizes, takes_tf1
from jscope.layers._conv import convolved, opened
from jscope.layers._weights import Weight, finish, if_flag, zeros
from jscope.layers._windows import Grid, check_images


@add_arg_scope
@takes_tf1(*OF_LAYERS)
def conv1d_transpose(
    inputs: jax.Array,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str = "channels_last",
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: InitializerLike = None,
    bias_initializer: InitializerLike = zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    *,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Moves from outputs of a ``conv1d`` back to inputs, as Keras' ``Conv1DTranspose``.

    It is the gradient of ``conv1d``, but without a dilation rate. Makes ``kernel`` [kernel_size,
    filters, channels], its last two axes the other way round, and ``bias`` [filters]. Lengths are
    as of ``conv2d_transpose``.

    As ``conv2d``, with:
      inputs: Floats [batch, length, channels], or [batch, channels, length] if channels_first.
      kernel_size: Length of the kernel.
      strides: Steps between inputs.
      padding: "valid" or "same".

    Returns:
      Floats [batch, new length, filters], or [batch, filters, new length].

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.conv1d_transpose(x, 3, 5, 2, "same"))
      >>> x = jnp.ones([2, 7, 16])
      >>> net.apply(net.init(0, x), None, x).shape
      (2, 14, 3)
    """
    kernel = Weight(kernel_initializer, kernel_regularizer, kernel_constraint, trainable)
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    window = "kernel_size", kernel_size
    inputs, grid = check_images(inputs, 1, window, strides, padding, data_format, grows=True)
    with opened("conv1d_transpose", filters, activation, name, reuse):
        return _transposed(
            inputs, grid, filters, kernel, if_flag("use_bias", use_bias, bias), activation
        )


@add_arg_scope
@takes_tf1(*OF_LAYERS)
def conv2d_transpose(
    inputs: jax.Array,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes = (1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: InitializerLike = None,
    bias_initializer: InitializerLike = zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    *,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Moves from outputs of a ``conv2d`` back to inputs, as TF1's ``tf.layers.conv2d_transpose``.

    It is the gradient of ``conv2d``, but without a dilation rate. Makes ``kernel`` [kernel height,
    kernel width, filters, channels], its last two axes the other way round, and ``bias`` [filters].
    With strides s and kernel size k, an axis of size n becomes n * s under "same" and
    n * s + max(k - s, 0) under "valid".

    As ``conv2d``, with:
      strides: Steps between inputs along each axis; an int stands for both.
      padding: "valid" or "same".

    Returns:
      Floats [batch, new height, new width, filters], or [batch, filters, new height, new width].

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.conv2d_transpose(x, 3, 5, 2, "same"))
      >>> x = jnp.ones([2, 7, 7, 16])
      >>> net.apply(net.init(0, x), None, x).shape
      (2, 14, 14, 3)
    """
    kernel = Weight(kernel_initializer, kernel_regularizer, kernel_constraint, trainable)
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    window = "kernel_size", kernel_size
    inputs, grid = check_images(inputs, 2, window, strides, padding, data_format, grows=True)
    with opened("conv2d_transpose", filters, activation, name, reuse):
        return _transposed(
            inputs, grid, filters, kernel, if_flag("use_bias", use_bias, bias), activation
        )


@add_arg_scope
@takes_tf1(*OF_LAYERS)
def conv3d_transpose(
    inputs: jax.Array,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes = (1, 1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: InitializerLike = None,
    bias_initializer: InitializerLike = zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    *,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Moves from outputs of a ``conv3d`` back to inputs, as TF1's ``tf.layers.conv3d_transpose``.

    It is the gradient of ``conv3d``, but without a dilation rate. Makes ``kernel`` [kernel depth,
    height, width, filters, channels], its last two axes the other way round, and ``bias``
    [filters]. Sizes are as of ``conv2d_transpose``.

    As ``conv2d``, with:
      inputs: Floats [batch, depth, height, width, channels], or [batch, channels, depth, height,
        width] if channels_first.
      kernel_size: Depth, height and width of the kernel; an int stands for all.
      strides: Steps between inputs along each axis; an int stands for all.
      padding: "valid" or "same".

    Returns:
      Floats [batch, new depth, new height, new width, filters], or with filters as the second axis.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.conv3d_transpose(x, 3, 2, 2))
      >>> x = jnp.ones([1, 2, 4, 4, 8])
      >>> net.apply(net.init(0, x), None, x).shape
      (1, 4, 8, 8, 3)
    """
    kernel = Weight(kernel_initializer, kernel_regularizer, kernel_constraint, trainable)
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    window = "kernel_size", kernel_size
    inputs, grid = check_images(inputs, 3, window, strides, padding, data_format, grows=True)
    with opened("conv3d_transpose", filters, activation, name, reuse):
        return _transposed(
            inputs, grid, filters, kernel, if_flag("use_bias", use_bias, bias), activation
        )


def _transposed(
    inputs: jax.Array,
    grid: Grid,
    filters: int,
    kernel: Weight,
    bias: Weight | None,
    activation: Activation | None,
) -> jax.Array:
    shape = (*grid.window, filters, inputs.shape[grid.channels])
    made = kernel.use("kernel", shape, inputs.dtype)
    convolve = functools.partial(
        jax.lax.conv_transpose,
        strides=grid.strides,
        padding=grid.padding.upper(),
        dimension_numbers=(grid.letters, grid.kernel_letters, grid.letters),
        transpose_kernel=True,  # flips the kernel, and swaps the axes called I and O
    )
    outputs = convolved(convolve, inputs, made, grid, layout(made)[-2])
    return finish(outputs, bias, activation, grid.channels)

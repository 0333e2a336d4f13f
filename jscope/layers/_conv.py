"""Convolutions: conv1d, conv2d, conv3d."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax

from jscope._arg_scope import add_arg_scope
from jscope._arguments import check_size
from jscope._reuse import Reuse
from jscope._scope import variable_scope
from jscope._sharding import divided_along, laid_out, layout, without
from jscope._spec import Constraint, InitializerLike, Regularizer
from jscope.layers._arguments import OF_LAYERS, Activation, Name, Sizes, check_activation, takes_tf1
from jscope.layers._weights import Weight, finish, if_flag, layer_scope, zeros
from jscope.layers._windows import Grid, check_images


@add_arg_scope
@takes_tf1(*OF_LAYERS)
def conv1d(
    inputs: jax.Array,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Sizes = 1,
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
    """Moves a kernel along a sequence, as TF1's ``tf.layers.conv1d``.

    Makes ``kernel`` [kernel_size, channels, filters] and ``bias`` [filters].

    As ``conv2d``, with:
      inputs: Floats [batch, length, channels], or [batch, channels, length] if channels_first.
      kernel_size: Length of the kernel.
      strides: Steps between outputs.
      dilation_rate: Steps between the parts of the kernel.

    Returns:
      Floats [batch, new length, filters], or [batch, filters, new length].

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.conv1d(x, 8, 3))
      >>> x = jnp.ones([2, 10, 4])
      >>> net.apply(net.init(0, x), None, x).shape
      (2, 8, 8)
    """
    kernel = Weight(kernel_initializer, kernel_regularizer, kernel_constraint, trainable)
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    window = "kernel_size", kernel_size
    inputs, grid = check_images(inputs, 1, window, strides, padding, data_format, dilation_rate)
    with opened("conv1d", filters, activation, name, reuse):
        return _convolve(
            inputs, grid, filters, kernel, if_flag("use_bias", use_bias, bias), activation
        )


@add_arg_scope
@takes_tf1(*OF_LAYERS)
def conv2d(
    inputs: jax.Array,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes = (1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Sizes = (1, 1),
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
    """Moves a kernel over an image, as TF1's ``tf.layers.conv2d``.

    Makes ``kernel`` [kernel height, kernel width, channels, filters] in either data format, and
    ``bias`` [filters], of the dtype that a scope sets, else the inputs'; the layer computes in the
    inputs' dtype. With strides s, dilation rate d and kernel size k, an axis of size n becomes
    ceil(n / s) under "same" and ceil((n - (k - 1) * d) / s) under "valid".

    Args:
      inputs: Floats [batch, height, width, channels], or [batch, channels, height, width] if
        channels_first.
      filters: Number of channels of the outputs.
      kernel_size: Height and width of the kernel; an int stands for both.
      strides: Steps between outputs along each axis; an int stands for both.
      padding: "valid" for none, "same" for zeros around the inputs.
      data_format: "channels_last" or "channels_first".
      dilation_rate: Steps between the parts of the kernel. Strides may differ from 1 as well, which
        TF1 refused.
      activation: Function of the outputs; None for none.
      use_bias: Whether to add a bias.
      kernel_initializer: Else the scope's, else glorot_uniform.
      bias_initializer: Zeros unless given.
      kernel_regularizer: Function of the kernel, kept in its spec; else the scope's.
      bias_regularizer: Function of the bias, kept in its spec; else the scope's.
      kernel_constraint: Function of the kernel, kept in its spec; else the scope's.
      bias_constraint: Function of the bias, kept in its spec; else the scope's.
      trainable: Whether the variables live in params; if not, in state.
      name: Name of the scope, or a scope; else the function's, numbered: "conv2d", "conv2d_1", ...
      reuse: As of ``variable_scope``; without a name it shares with the first layer of that kind,
        "conv2d", as in TF1.

    Returns:
      Floats [batch, new height, new width, filters], or [batch, filters, new height, new width].

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      JscopeError: As ``get_variable`` and ``variable_scope``.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.conv2d(x, 8, 3, 2, "same", activation=jax.nn.relu))
      >>> x = jnp.ones([2, 28, 28, 1])
      >>> params = net.init(0, x)
      >>> params
      Params({'conv2d': {'kernel': float32[3,3,1,8], 'bias': float32[8]}})
      >>> net.apply(params, None, x).shape
      (2, 14, 14, 8)
    """
    kernel = Weight(kernel_initializer, kernel_regularizer, kernel_constraint, trainable)
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    window = "kernel_size", kernel_size
    inputs, grid = check_images(inputs, 2, window, strides, padding, data_format, dilation_rate)
    with opened("conv2d", filters, activation, name, reuse):
        return _convolve(
            inputs, grid, filters, kernel, if_flag("use_bias", use_bias, bias), activation
        )


@add_arg_scope
@takes_tf1(*OF_LAYERS)
def conv3d(
    inputs: jax.Array,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes = (1, 1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Sizes = (1, 1, 1),
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
    """Moves a kernel through a volume, as TF1's ``tf.layers.conv3d``.

    Makes ``kernel`` [kernel depth, height, width, channels, filters] and ``bias`` [filters].

    As ``conv2d``, with:
      inputs: Floats [batch, depth, height, width, channels], or [batch, channels, depth, height,
        width] if channels_first.
      kernel_size: Depth, height and width of the kernel; an int stands for all.
      strides: Steps between outputs along each axis; an int stands for all.
      dilation_rate: Steps between the parts of the kernel; an int stands for all.

    Returns:
      Floats [batch, new depth, new height, new width, filters], or with filters as the second axis.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.conv3d(x, 8, 2, 2))
      >>> x = jnp.ones([1, 4, 8, 8, 3])
      >>> net.apply(net.init(0, x), None, x).shape
      (1, 2, 4, 4, 8)
    """
    kernel = Weight(kernel_initializer, kernel_regularizer, kernel_constraint, trainable)
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    window = "kernel_size", kernel_size
    inputs, grid = check_images(inputs, 3, window, strides, padding, data_format, dilation_rate)
    with opened("conv3d", filters, activation, name, reuse):
        return _convolve(
            inputs, grid, filters, kernel, if_flag("use_bias", use_bias, bias), activation
        )


def opened(
    default_name: str, filters: object, activation: object, name: Name, reuse: Reuse | None
) -> variable_scope:
    """The scope of a convolution, after checks that all of them make."""
    check_size("filters", filters)
    check_activation(activation)
    return layer_scope(name, default_name, reuse)


def _convolve(
    inputs: jax.Array,
    grid: Grid,
    filters: int,
    kernel: Weight,
    bias: Weight | None,
    activation: Activation | None,
) -> jax.Array:
    shape = (*grid.window, inputs.shape[grid.channels], filters)
    made = kernel.use("kernel", shape, inputs.dtype)
    convolve = functools.partial(slide, grid=grid)
    outputs = convolved(convolve, inputs, made, grid, layout(made)[-1])
    return finish(outputs, bias, activation, grid.channels)


def slide(inputs: jax.Array, kernel: jax.Array, grid: Grid, groups: int = 1) -> jax.Array:
    """The convolution itself; the kernel is [*window, channels / groups, filters]."""
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        grid.strides,
        grid.padding.upper(),
        rhs_dilation=grid.dilation,
        dimension_numbers=(grid.letters, grid.kernel_letters, grid.letters),
        feature_group_count=groups,
    )


def convolved(
    convolve: Callable[[jax.Array, jax.Array], jax.Array],
    inputs: jax.Array,
    kernel: jax.Array,
    grid: Grid,
    channels: object,
) -> jax.Array:
    """What ``convolve`` makes of images and a kernel, laid out where JAX does not say how.

    The batch stays divided as it is; ``channels`` says how those of the outputs are, as far as mesh
    axes are left. Neither images nor windows are divided in space: XLA multiplies the results of
    such images and a kernel that is divided too by the number of devices along another mesh axis.
    """
    images = 0, grid.channels

    def compute(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        kernel = divided_along(kernel, (grid.rank, grid.rank + 1))
        return divided_along(convolve(divided_along(inputs, images), kernel), images)

    axes: list[object] = [None] * inputs.ndim
    axes[0] = layout(inputs)[0]
    (axes[grid.channels],) = without([channels], axes)
    return laid_out(compute, inputs, kernel, axes=[axes])

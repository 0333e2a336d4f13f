"""Pooling: the largest number, or the mean, of what lies in a window."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jscope._arg_scope import add_arg_scope
from jscope._arguments import widened
from jscope._layout import parts
from jscope._sharding import laid_out, layout
from jscope.layers._arguments import Sizes, takes_tf1
from jscope.layers._windows import Grid, check_images


@add_arg_scope
@takes_tf1()
def max_pooling1d(
    inputs: jax.Array,
    pool_size: Sizes,
    strides: Sizes,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> jax.Array:
    """Takes the largest number of each window of a sequence, as TF1's ``tf.layers.max_pooling1d``.

    As ``max_pooling2d``, with:
      inputs: Numbers [batch, length, channels], or [batch, channels, length] if channels_first.
      pool_size: Length of a window.

    Returns:
      Numbers [batch, new length, channels], or [batch, channels, new length].

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.layers.max_pooling1d(jnp.array([[[1.0], [3.0], [2.0], [0.0]]]), 2, 2).ravel().tolist()
      [3.0, 2.0]
    """
    window = "pool_size", pool_size
    inputs, grid = check_images(inputs, 1, window, strides, padding, data_format, kind=jnp.number)
    return _pool(_largest, inputs, grid, name or "max_pooling1d")


@add_arg_scope
@takes_tf1()
def max_pooling2d(
    inputs: jax.Array,
    pool_size: Sizes,
    strides: Sizes,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> jax.Array:
    """Takes the largest number of each window of an image, as TF1's ``tf.layers.max_pooling2d``.

    With strides s and windows of k, an axis of size n becomes ceil(n / s) under "same" and
    ceil((n - k + 1) / s) under "valid".

    Args:
      inputs: Numbers [batch, height, width, channels], or [batch, channels, height, width] if
        channels_first.
      pool_size: Height and width of a window; an int stands for both.
      strides: Steps between windows along each axis; an int stands for all.
      padding: "valid" for whole windows only, "same" for windows that reach over the edges; what
        lies outside does not count.
      data_format: "channels_last" or "channels_first".
      name: Name in profiles and HLO; else the function's.

    Returns:
      Numbers [batch, new height, new width, channels], or with channels as the second axis.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.layers.max_pooling2d(jnp.ones([2, 28, 28, 3]), 2, 2).shape
      (2, 14, 14, 3)
    """
    window = "pool_size", pool_size
    inputs, grid = check_images(inputs, 2, window, strides, padding, data_format, kind=jnp.number)
    return _pool(_largest, inputs, grid, name or "max_pooling2d")


@add_arg_scope
@takes_tf1()
def max_pooling3d(
    inputs: jax.Array,
    pool_size: Sizes,
    strides: Sizes,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> jax.Array:
    """Takes the largest number of each window of a volume, as TF1's ``tf.layers.max_pooling3d``.

    As ``max_pooling2d``, with:
      inputs: Numbers [batch, depth, height, width, channels], or [batch, channels, depth, height,
        width] if channels_first.
      pool_size: Depth, height and width of a window; an int stands for all.

    Returns:
      Numbers [batch, new depth, new height, new width, channels], or with channels as the second
      axis.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.layers.max_pooling3d(jnp.ones([2, 8, 8, 8, 3]), 2, 2).shape
      (2, 4, 4, 4, 3)
    """
    window = "pool_size", pool_size
    inputs, grid = check_images(inputs, 3, window, strides, padding, data_format, kind=jnp.number)
    return _pool(_largest, inputs, grid, name or "max_pooling3d")


@add_arg_scope
@takes_tf1()
def average_pooling1d(
    inputs: jax.Array,
    pool_size: Sizes,
    strides: Sizes,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> jax.Array:
    """Takes the mean of each window of a sequence, as TF1's ``tf.layers.average_pooling1d``.

    As ``max_pooling2d``, with:
      inputs: Floats [batch, length, channels], or [batch, channels, length] if channels_first.
      pool_size: Length of a window.

    Returns:
      Floats [batch, new length, channels], or [batch, channels, new length].

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> x = jnp.array([[[1.0], [3.0], [5.0]]])
      >>> js.layers.average_pooling1d(x, 2, 2, "same").ravel().tolist()
      [2.0, 5.0]
    """
    inputs, grid = check_images(inputs, 1, ("pool_size", pool_size), strides, padding, data_format)
    return _pool(_mean, inputs, grid, name or "average_pooling1d")


@add_arg_scope
@takes_tf1()
def average_pooling2d(
    inputs: jax.Array,
    pool_size: Sizes,
    strides: Sizes,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> jax.Array:
    """Takes the mean of each window of an image, as TF1's ``tf.layers.average_pooling2d``.

    As ``max_pooling2d``, with:
      inputs: Floats [batch, height, width, channels], or [batch, channels, height, width] if
        channels_first.

    Returns:
      Floats [batch, new height, new width, channels], or with channels as the second axis.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.layers.average_pooling2d(jnp.ones([2, 7, 7, 3]), (7, 7), 1).shape
      (2, 1, 1, 3)
    """
    inputs, grid = check_images(inputs, 2, ("pool_size", pool_size), strides, padding, data_format)
    return _pool(_mean, inputs, grid, name or "average_pooling2d")


@add_arg_scope
@takes_tf1()
def average_pooling3d(
    inputs: jax.Array,
    pool_size: Sizes,
    strides: Sizes,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> jax.Array:
    """Takes the mean of each window of a volume, as TF1's ``tf.layers.average_pooling3d``.

    As ``max_pooling2d``, with:
      inputs: Floats [batch, depth, height, width, channels], or [batch, channels, depth, height,
        width] if channels_first.
      pool_size: Depth, height and width of a window; an int stands for all.

    Returns:
      Floats [batch, new depth, new height, new width, channels], or with channels as the second
      axis.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.layers.average_pooling3d(jnp.ones([2, 8, 8, 8, 3]), 2, 2).shape
      (2, 4, 4, 4, 3)
    """
    inputs, grid = check_images(inputs, 3, ("pool_size", pool_size), strides, padding, data_format)
    return _pool(_mean, inputs, grid, name or "average_pooling3d")


def _pool(
    reduce: Callable[[jax.Array, Grid], jax.Array], inputs: jax.Array, grid: Grid, name: str
) -> jax.Array:
    with jax.named_scope(name):
        if not any(grid.spatial(layout(inputs))):
            return reduce(inputs, grid)

        def slide(images: jax.Array) -> jax.Array:
            return reduce(images, grid)

        # JAX does not lay out windows that reach over the edges of parts.
        return laid_out(slide, inputs, axes=[_axes(slide, inputs)])


def _axes(slide: Callable[[jax.Array], jax.Array], inputs: jax.Array) -> list[object]:
    """The mesh axes that a result is divided over: the inputs', where its sizes allow."""
    new = jax.eval_shape(slide, jax.ShapeDtypeStruct(inputs.shape, inputs.dtype))
    sizes = jax.typeof(inputs).sharding.mesh.shape
    pairs = zip(layout(inputs), new.shape, strict=True)
    return [entry if size % parts([entry], sizes) == 0 else None for entry, size in pairs]


def _largest(inputs: jax.Array, grid: Grid) -> jax.Array:
    if jnp.issubdtype(inputs.dtype, jnp.floating):
        lowest: float = -np.inf
    else:
        lowest = np.iinfo(inputs.dtype).min
    return _slide(inputs, lowest, jax.lax.max, grid)


def _mean(inputs: jax.Array, grid: Grid) -> jax.Array:
    # Sums and counts of a large window are beyond half precision.
    wide = widened(inputs)
    sums = _slide(wide, 0, jax.lax.add, grid)
    if grid.padding == "valid":
        means = sums / math.prod(grid.window)
    else:
        inside = jnp.ones(grid.spread(grid.spatial(inputs.shape)), wide.dtype)
        means = sums / _slide(inside, 0, jax.lax.add, grid)
    return means.astype(inputs.dtype)


def _slide(
    inputs: jax.Array,
    start: float,
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    grid: Grid,
) -> jax.Array:
    pooled: jax.Array = jax.lax.reduce_window(
        inputs,
        np.asarray(start, inputs.dtype),
        combine,
        grid.spread(grid.window),
        grid.spread(grid.strides),
        grid.padding.upper(),
    )
    return pooled

"""The convolution of each channel by itself, in a form that is right on every mesh."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jscope._arguments import widened
from jscope._sharding import is_grid
from jscope.layers._conv import slide
from jscope.layers._windows import Grid


def apart(inputs: jax.Array, kernel: jax.Array, grid: Grid) -> jax.Array:
    """Each channel convolved by itself; the kernel is [*window, channels, multiplier].

    XLA divides the kernel's gradient of a grouped convolution wrongly: where the batch is divided
    over one axis of a mesh, it adds up the same sums from all devices along the others. What is
    done there instead is as fast on a CPU, and right.
    """
    if is_grid(inputs, kernel):
        return _by_shifts(inputs, kernel, grid)
    # As JAX has it: a group per channel, and the outputs of all groups on one axis.
    channels, many = kernel.shape[-2:]
    return slide(inputs, kernel.reshape(*grid.window, 1, channels * many), grid, groups=channels)


def _by_shifts(inputs: jax.Array, kernel: jax.Array, grid: Grid) -> jax.Array:
    """The images once for each place of the window, shifted there and times the kernel's part."""
    reach = [(size - 1) * rate + 1 for size, rate in zip(grid.window, grid.dilation, strict=True)]
    steps = grid.spread(grid.strides)
    pads = jax.lax.padtype_to_pads(inputs.shape, grid.spread(reach), steps, grid.padding.upper())
    padded = jnp.pad(widened(inputs), pads)
    spans = [size - past for size, past in zip(grid.spatial(padded.shape), reach, strict=True)]
    apart = slice(grid.channels, grid.channels + 2)  # the channels, and the multiplier beside them
    parts = [1] * (inputs.ndim + 1)
    parts[apart] = kernel.shape[-2:]
    total = jnp.zeros([], padded.dtype)
    for place in np.ndindex(*grid.window):
        starts = [at * rate for at, rate in zip(place, grid.dilation, strict=True)]
        stops = [start + span + 1 for start, span in zip(starts, spans, strict=True)]
        window = [slice(None), *map(slice, starts, stops, grid.strides)]
        window.insert(grid.channels, slice(None))
        shifted = jnp.expand_dims(padded[tuple(window)], grid.channels + 1)
        total = total + shifted * kernel[place].reshape(parts).astype(padded.dtype)
    shape = list(total.shape)
    shape[apart] = [math.prod(kernel.shape[-2:])]
    return total.reshape(shape).astype(inputs.dtype)

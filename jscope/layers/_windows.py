"""The windows that convolutions and poolings move over images of 1 to 3 dimensions."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jscope._arguments import bad_argument
from jscope.layers._arguments import (
    Kind,
    check_array,
    check_channels_first,
    check_sizes,
    check_word,
)

T = TypeVar("T")


class Grid(NamedTuple):
    """The axes of images of 1 to 3 dimensions, and how windows move over them."""

    rank: int
    channels_first: bool
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    dilation: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Where the channels are."""
        return 1 if self.channels_first else self.rank + 1

    @property
    def letters(self) -> str:
        """The axes in the notation of ``jax.lax.conv_general_dilated``."""
        spatial = "DHW"[-self.rank :]
        return f"NC{spatial}" if self.channels_first else f"N{spatial}C"

    @property
    def kernel_letters(self) -> str:
        """The axes of a kernel in that notation."""
        return "DHW"[-self.rank :] + "IO"

    def spread(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Sizes for the spatial axes, and 1 for the others."""
        return (1, 1, *sizes) if self.channels_first else (1, *sizes, 1)

    def spatial(self, shape: Sequence[T]) -> tuple[T, ...]:
        """The spatial ones of the sizes of all axes, or of what else is known of each."""
        return tuple(shape[2:] if self.channels_first else shape[1:-1])


def check_images(
    inputs: object,
    rank: int,
    window: tuple[str, object],
    strides: object,
    padding: object,
    data_format: object,
    dilation: object = 1,
    *,
    grows: bool = False,
    kind: Kind = jnp.floating,
) -> tuple[jax.Array, Grid]:
    """The inputs as an array, and their grid; ``window`` is the argument's name and value.

    Windows must fit into the inputs where nothing is padded, unless the layer ``grows`` them.
    """
    grid = Grid(
        rank,
        check_channels_first(data_format),
        check_sizes(*window, rank),
        check_sizes("strides", strides, rank),
        check_word("padding", padding, ("valid", "same")),
        check_sizes("dilation_rate", dilation, rank),
    )
    spatial = ", ".join(("depth", "height", "width")[-rank:]) if rank > 1 else "length"
    axes = f"channels, {spatial}" if grid.channels_first else f"{spatial}, channels"
    array = check_array("inputs", inputs, f"[batch, {axes}]", lambda ndim: ndim == rank + 2, kind)
    sizes = grid.spatial(array.shape)
    reach = [(size - 1) * rate + 1 for size, rate in zip(grid.window, grid.dilation, strict=True)]
    if not grows and grid.padding == "valid" and any(map(operator.gt, reach, sizes)):
        around = "the inputs' " + " x ".join(map(str, sizes))
        raise bad_argument(*window, f"at most {around} where padding is 'valid'")
    return array, grid

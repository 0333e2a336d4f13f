"""What the layers are made of: their scope, checked arguments, kernels, biases and axes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jscope._arguments import as_bool, as_int, bad_argument
from jscope._reuse import Reuse
from jscope._scope import VariableScope, variable_scope
from jscope._spec import Constraint, Initializer, Regularizer
from jscope._variable import get_variable

Activation: TypeAlias = Callable[[jax.Array], jax.Array]
Name: TypeAlias = str | VariableScope | None
Sizes: TypeAlias = int | Sequence[int]

zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones


def layer_scope(name: Name, default_name: str, reuse: Reuse | None = None) -> variable_scope:
    """The scope of one layer: its name, else the default name, numbered unless it is shared."""
    if name is None and reuse:
        name = default_name  # as in TF1: shares with the first layer of that kind
    return variable_scope(name, default_name, reuse=reuse)


class Weight(NamedTuple):
    """How a layer makes one of its variables."""

    initializer: Initializer | Any = None
    regularizer: Regularizer | None = None
    constraint: Constraint | None = None
    trainable: bool = True

    def make(self, name: str, shape: Sequence[int], dtype: Any) -> jax.Array:
        return get_variable(
            name,
            shape,
            dtype,
            self.initializer,
            regularizer=self.regularizer,
            trainable=self.trainable,
            constraint=self.constraint,
        )


def finish(
    outputs: jax.Array, bias: Weight | None, activation: Activation | None, axis: int = -1
) -> jax.Array:
    """Adds a bias along an axis, if there is one, and applies the activation."""
    if bias is not None:
        size = outputs.shape[axis]
        outputs = outputs + along(bias.make("bias", [size], outputs.dtype), outputs.ndim, axis)
    return outputs if activation is None else activation(outputs)


def along(vector: jax.Array, ndim: int, axis: int) -> jax.Array:
    """A vector [n] as an array of ``ndim`` axes, n of them along ``axis``: [1, ..., n, ..., 1]."""
    shape = [1] * ndim
    shape[axis] = vector.shape[0]
    return vector.reshape(shape)


def check_array(
    argument: str, value: Any, axes: str, fits: Callable[[int], bool], kind: Any = jnp.floating
) -> jax.Array:
    """The value as an array, whose dtype is of a kind and whose number of axes fits."""
    if isinstance(value, jax.Array | np.ndarray):
        array = jnp.asarray(value)
        if jnp.issubdtype(array.dtype, kind) and fits(array.ndim):
            return array
    raise bad_argument(argument, value, f"{_KINDS[kind]} {axes}")


_KINDS = {
    jnp.floating: "floats",
    jnp.integer: "integers",
    jnp.number: "numbers",
    jnp.generic: "an array",
}


def check_activation(activation: Any, argument: str = "activation") -> None:
    if activation is not None and not callable(activation):
        raise bad_argument(argument, activation, "a function of the outputs, or None")


def check_size(argument: str, value: Any) -> int:
    """A number of units, filters, ...: an int of 1 or more."""
    size = as_int(value)
    if size is None or size < 1:
        raise bad_argument(argument, value, "an int of 1 or more")
    return size


def check_sizes(argument: str, value: Any, rank: int) -> tuple[int, ...]:
    """A size for each spatial axis; an int stands for all of them."""
    found = value if isinstance(value, list | tuple) else [value] * rank
    sizes = [as_int(size) for size in found]
    if len(sizes) != rank or not all(size is not None and size >= 1 for size in sizes):
        wanted = "an int of 1 or more" if rank == 1 else f"an int of 1 or more, or {rank} of them"
        raise bad_argument(argument, value, wanted)
    return tuple(size for size in sizes if size is not None)


def check_word(argument: str, value: Any, words: tuple[str, str]) -> str:
    """One of two words, in lower case; TF1 takes them in any case."""
    word = value.lower() if isinstance(value, str) else value
    if word not in words:
        raise bad_argument(argument, value, f"{words[0]!r} or {words[1]!r}")
    return str(word)


def check_channels_first(data_format: Any) -> bool:
    formats = ("channels_last", "channels_first")
    return check_word("data_format", data_format, formats) == "channels_first"


def check_training(training: Any) -> None:
    """Raises unless it is a bool: TF1's placeholder is a Python argument of the function here."""
    if as_bool(training) is None:
        wanted = "True or False in Python, static under jit, as it decides what is traced"
        raise bad_argument("training", training, wanted)


def layout(array: jax.Array) -> tuple[Any, ...]:
    """The explicit mesh axes that each axis of an array is divided over; mostly None."""
    return tuple(jax.typeof(array).sharding.spec)


def sharding(array: jax.Array, axes: Sequence[Any]) -> jax.sharding.NamedSharding:
    """The sharding of a result that is divided over these axes of the array's mesh."""
    mesh = jax.typeof(array).sharding.mesh
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def along_batch(array: jax.Array, inputs: jax.Array) -> jax.Array:
    """An array [batch, ...] that has no layout there, divided like the batch of the inputs."""
    batch, own = layout(inputs)[0], layout(array)
    if batch is None or own[0] is not None:
        return array
    divided: jax.Array = jax.sharding.reshard(array, sharding(inputs, (batch, *own[1:])))
    return divided


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

    def spread(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Sizes for the spatial axes, and 1 for the others."""
        return (1, 1, *sizes) if self.channels_first else (1, *sizes, 1)

    def spatial(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The spatial sizes of a shape."""
        return tuple(shape[2:] if self.channels_first else shape[1:-1])


def check_images(
    inputs: Any,
    rank: int,
    window: tuple[str, Any],
    strides: Any,
    padding: Any,
    data_format: Any,
    dilation: Any = 1,
    *,
    grows: bool = False,
    kind: Any = jnp.floating,
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

"""What users may give to a layer, and the checks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jscope._arguments import as_bool, as_int, bad_argument, bad_static
from jscope._scope import VariableScope

Activation: TypeAlias = Callable[[jax.Array], jax.Array]
Name: TypeAlias = str | VariableScope | None
Sizes: TypeAlias = int | Sequence[int]
Kind: TypeAlias = type
"""A kind of dtypes, such as ``jnp.floating``."""


def check_array(
    argument: str, value: object, axes: str, fits: Callable[[int], bool], kind: Kind = jnp.floating
) -> jax.Array:
    """The value as an array, whose dtype is of a kind and whose number of axes fits."""
    if isinstance(value, jax.Array | np.ndarray):
        array = jnp.asarray(value)
        if jnp.issubdtype(array.dtype, kind) and fits(array.ndim):
            return array
    raise bad_argument(argument, value, f"{_KINDS[kind]} {axes}")


_KINDS: dict[Kind, str] = {
    jnp.floating: "floats",
    jnp.integer: "integers",
    jnp.number: "numbers",
    jnp.generic: "an array",
}


def check_activation(activation: object, argument: str = "activation") -> None:
    if activation is not None and not callable(activation):
        raise bad_argument(argument, activation, "a function of the outputs, or None")


def check_sizes(argument: str, value: Any, rank: int) -> tuple[int, ...]:
    """A size for each spatial axis; an int stands for all of them."""
    found = value if isinstance(value, list | tuple) else [value] * rank
    sizes = [as_int(size) for size in found]
    if len(sizes) != rank or not all(size is not None and size >= 1 for size in sizes):
        wanted = "an int of 1 or more" if rank == 1 else f"an int of 1 or more, or {rank} of them"
        raise bad_argument(argument, value, wanted)
    return tuple(size for size in sizes if size is not None)


def check_word(argument: str, value: object, words: tuple[str, str]) -> str:
    """One of two words, in lower case; TF1 takes them in any case."""
    word = value.lower() if isinstance(value, str) else value
    if word not in words:
        raise bad_argument(argument, value, f"{words[0]!r} or {words[1]!r}")
    return str(word)


def check_channels_first(data_format: object) -> bool:
    formats = ("channels_last", "channels_first")
    return check_word("data_format", data_format, formats) == "channels_first"


def check_training(training: object) -> None:
    """Raises unless it is a bool: TF1's placeholder is a Python argument of the function here."""
    if as_bool(training) is None:
        wanted = "True or False in Python, static under jit, as it decides what is traced"
        raise bad_static("training", training, wanted)

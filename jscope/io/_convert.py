"""A checkpoint under other names or in another dtype; nothing is read until it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jscope._report import describe, dims
from jscope.errors import CheckError, NameClashError
from jscope.io._assignment import AssignmentMap, assign, entries_of
from jscope.io._cast import survives
from jscope.io._checkpoint import Checkpoint, Tensor
from jscope.io._file import read_only, release
from jscope.io._layers import Names

_PART = 1 << 23
"""Elements that are cast at a time."""


class _AnyNames(Names):
    """The names of a target that takes what it is given."""

    def __contains__(self, name: str) -> bool:
        return True

    def has_scope(self, scope: str) -> bool:
        return True


def new_names(names: Collection[str], assignment_map: AssignmentMap) -> dict[str, str]:
    """New name -> old name, of all ``names``: those that no entry of the map takes stay."""
    entries = entries_of(assignment_map)
    found = assign(entries, Names(names), _AnyNames(()))
    renamed = {new: origin.sources[0] for new, origin in found.items()}
    kept = set(names).difference(renamed.values())
    for name in kept & renamed.keys():
        raise _taken(name, renamed[name])
    return renamed | {name: name for name in names if name in kept}


def _taken(name: str, old: str) -> NameClashError:
    return NameClashError(
        f"Two tensors would have the name {name}.",
        {"first": f"{name}, not renamed", "again": f"{name}, renamed from {old}"},
        name=name,
        other=name,
        sites=(),
    )


def convert(
    checkpoint: Checkpoint,
    names: Mapping[str, str],
    *,
    dtype: np.dtype[Any] | None = None,
    turned: Collection[str] = (),
    advance: Callable[[int], None] = lambda nbytes: None,
) -> Checkpoint:
    """The tensors of ``names``, new -> old.

    Args:
      checkpoint: Where they are.
      names: New name -> old name.
      dtype: Of all floats; None leaves them.
      turned: The new names of kernels that are laid out as PyTorch's.
      advance: Told the bytes of each tensor when it is read.
    """

    def tensor(new: str, old: str) -> Tensor:
        shape, stored = checkpoint.shapes[old], checkpoint.dtypes[old]
        wanted = dtype if dtype is not None and jnp.issubdtype(stored, jnp.floating) else stored
        axes = _turned_axes(new, shape) if new in turned else tuple(range(len(shape)))

        def read() -> np.ndarray:
            array = checkpoint[old].transpose(axes)
            advance(array.nbytes)
            return array if wanted == stored else _cast(array, wanted, new)

        def parts() -> Iterator[np.ndarray]:
            array = checkpoint[old]
            flat = array.transpose(axes).reshape(-1)
            for start in range(0, flat.size, _PART):
                part = flat[start : start + _PART]
                advance(part.nbytes)
                yield _cast(part, wanted, new)
                release(array)

        turned_shape = tuple(shape[axis] for axis in axes)
        return Tensor(turned_shape, wanted, read, parts=None if wanted == stored else parts)

    tensors = {new: tensor(new, old) for new, old in names.items()}
    return Checkpoint(checkpoint.path, checkpoint.format, tensors, metadata=checkpoint.metadata)


def kernel_axes(ndim: int) -> tuple[int, ...]:
    """The axes of PyTorch's kernel, [out, in, ...window], in their order here, [..., in, out]."""
    return (*range(2, ndim), 1, 0)


def _turned_axes(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) < 2:
        raise CheckError(
            f"{name} cannot be transposed: it has the shape {dims(shape)}, and a kernel two axes "
            "or more.",
            {"fix": "narrow the pattern to kernels, such as '**/kernel'."},
        )
    return kernel_axes(len(shape))


def _cast(array: np.ndarray, dtype: np.dtype[Any], name: str) -> np.ndarray:
    if not survives(array, dtype):
        raise CheckError(
            f"{name} cannot be written as {dtype}: it is {describe(array)} with values beyond it.",
            {"fix": "choose a dtype with a wider range, such as bfloat16, or drop the tensor."},
        )
    with np.errstate(under="ignore"):  # floats round
        return read_only(array.astype(dtype))

"""Checkpoint: the named tensors of a file, read when they are asked for."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import jax
import numpy as np

from jscope._report import near_names, quoted
from jscope.tree._patterns import Pattern, choose


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor before it is read.

    Attributes:
      shape: Tuple of sizes.
      dtype: NumPy dtype.
      read: Gives the array, read-only.
      check: Raises FileError where the tensor's bytes are not those that were written; None where
        the format has no checksum, or none is to be verified.
      parts: Gives the same in parts, flat and in the order of C, where it would not come from a
        mapped file but be computed in memory; None elsewhere.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    read: Callable[[], np.ndarray]
    check: Callable[[], None] | None = None
    parts: Callable[[], Iterator[np.ndarray]] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def nbytes_of(checkpoint: Checkpoint, name: str) -> int:
    """Bytes of one of its tensors, which is not read."""
    return checkpoint._tensors[name].nbytes


class Checkpoint(Mapping[str, np.ndarray]):
    """The named tensors of a file: a lazy, read-only mapping of full names to arrays of NumPy.

    ``jscope.io.open`` makes it. Names, shapes and dtypes cost no tensor; ``checkpoint[name]`` is a
    read-only slice of the memory-mapped file where the format allows it. It is flat: ``w`` and
    ``w/Adam``, a variable and the slot of its optimizer, stand beside each other.

    Attributes:
      path: What was opened.
      format: ``"TF V2"``, ``"TF V1"``, ``"safetensors"``, ``"npz"`` or ``"npy"``.
      shapes: Name -> tuple of sizes.
      dtypes: Name -> NumPy dtype.
      metadata: What the file says about itself, text -> text.
      notes: Name -> why there is no array of it: strings, resources, four-bit integers.
      nbytes: Bytes of all tensors.
      size: Elements of all tensors.

    Example:
      >>> import pathlib, tempfile
      >>> import numpy as np
      >>> import jscope as js
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.npz"
      >>> np.savez(path, **{"net/w": np.ones([3, 4], np.float32)})
      >>> checkpoint = js.io.open(path)
      >>> checkpoint.shapes["net/w"], checkpoint["net/w"].sum()
      ((3, 4), np.float32(12.0))
    """

    __slots__ = ("_checked", "_tensors", "dtypes", "format", "metadata", "notes", "path", "shapes")

    def __init__(
        self,
        path: str,
        format: str,  # noqa: A002 # as the attribute is called
        tensors: Mapping[str, Tensor],
        *,
        metadata: Mapping[str, str] = MappingProxyType({}),
        notes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.path = path
        self.format = format
        self.metadata = MappingProxyType(dict(metadata))
        self.notes = MappingProxyType(dict(notes))
        self.shapes = MappingProxyType({name: tensor.shape for name, tensor in tensors.items()})
        self.dtypes = MappingProxyType({name: tensor.dtype for name, tensor in tensors.items()})
        self._tensors = dict(tensors)
        self._checked = set[str]()

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise KeyError(self._no_tensor(name))
        if tensor.check and name not in self._checked:
            tensor.check()
            self._checked.add(name)
        return tensor.read()

    def _no_tensor(self, name: object) -> str:
        if name in self.notes:
            return f"{name!r} has no array in {self.path}: {self.notes[str(name)]}"
        near = near_names(name, self) if isinstance(name, str) else []
        return f"{name!r} is not in {self.path}" + (f"; near: {quoted(near)}" if near else "")

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:  # Mapping's own would read the tensor
        return name in self._tensors

    def __repr__(self) -> str:
        return f"Checkpoint({self.path!r}, {self.format}, {len(self)} tensors, {self.nbytes} bytes)"

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    @property
    def size(self) -> int:
        """Elements of all tensors."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def select(self, pattern: Pattern, *, allow_empty: bool = False) -> Checkpoint:
        """The tensors that a pattern means; as ``jscope.tree.select``, and nothing is read.

        Args:
          pattern: A path, glob, regular expression, function of (name, ``jax.ShapeDtypeStruct``),
            or a list of these; see ``help(jscope.tree)``.
          allow_empty: Whether it may select nothing.

        Raises:
          EmptySelectionError: (ValueError) it selects nothing.
        """
        return self._kept(pattern, True, allow_empty)

    def drop(self, pattern: Pattern, *, allow_empty: bool = False) -> Checkpoint:
        """The tensors that a pattern does not mean, such as all but an optimizer's slots.

        Args:
          pattern: As in ``select``.
          allow_empty: Whether it may mean nothing.

        Raises:
          EmptySelectionError: (ValueError) it means nothing.
        """
        return self._kept(pattern, False, allow_empty)

    def _kept(self, pattern: Pattern, wanted: bool, allow_empty: bool) -> Checkpoint:
        items = [
            (name, jax.ShapeDtypeStruct(tensor.shape, tensor.dtype))
            for name, tensor in self._tensors.items()
        ]
        chosen = choose(pattern, items, allow_empty=allow_empty)
        kept = itertools.compress(self._tensors, [flag is wanted for flag in chosen])
        part = Checkpoint(
            self.path,
            self.format,
            {name: self._tensors[name] for name in kept},
            metadata=self.metadata,
            notes=self.notes,
        )
        part._checked = self._checked  # one memory of what was verified
        return part

"""Checkpoints of TensorFlow's first format: tables whose values are messages with tensors.

The empty key has the names, dtypes and shapes of all tensors of a file, and the parts that it holds
of each; a whole tensor is one part. The numbers of a part are under a key of its own. Several files
are one checkpoint where it was written in shards.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from jscope.io._checkpoint import Checkpoint, Tensor
from jscope.io._dtypes import tensorflow_dtype
from jscope.io._file import File, file_error
from jscope.io._ordered_code import part_key
from jscope.io._protobuf import BYTES, VARINT, fields, signed, tag, text
from jscope.io._slices import Extents, Part, boxes_of, extents_of, joined, shape_of
from jscope.io._span import Span
from jscope.io._table import Table
from jscope.io._tensor_proto import tensor_in

_META, _DATA = tag(1, BYTES), tag(2, BYTES)
_TENSOR = tag(1, BYTES)
_NAME, _SHAPE, _DTYPE, _SLICE = tag(1, BYTES), tag(2, BYTES), tag(3, VARINT), tag(4, BYTES)
_DATA_NAME, _DATA_TENSOR = tag(1, BYTES), tag(3, BYTES)


@dataclasses.dataclass(slots=True)
class _Entry:
    """What a file says about a tensor."""

    span: Span
    name: str = ""
    dtype: int = 0
    shape: tuple[int, ...] = ()
    parts: list[tuple[Extents, Table]] = dataclasses.field(default_factory=list)


def open_tf1(path: str, files: Sequence[str], *, verify: bool = True) -> Checkpoint:
    """The checkpoint that is in one file, or in several.

    Args:
      path: What it is called.
      files: Its files.
      verify: Whether checksums are compared, when something of a block is first read.

    Raises:
      FileError: (ValueError, OSError) a file is not there, or is damaged.
    """
    entries: dict[str, _Entry] = {}
    for file in files:
        for entry in _entries(Table(File(file), verify=verify)):
            known = entries.setdefault(entry.name, entry)
            if known is entry:
                continue
            if (known.dtype, known.shape) != (entry.dtype, entry.shape):
                raise entry.span.error(f"{entry.name!r} has two shapes or dtypes")
            known.parts += entry.parts
    tensors: dict[str, Tensor] = {}
    notes: dict[str, str] = {}
    for name in sorted(entries):
        found = _tensor(entries[name])
        if isinstance(found, Tensor):
            tensors[name] = found
        else:
            notes[name] = found
    return Checkpoint(path, "TF V1", tensors, notes=notes)


def _entries(table: Table) -> Iterator[_Entry]:
    """What a file says about its tensors."""
    about = table.find(b"")
    found = [] if about is None else [value for field, value in fields(about) if field == _META]
    if not found:
        raise file_error(
            table.file.path,
            "this is a table of TensorFlow's, but no checkpoint: it does not say what is in it",
        )
    for meta in found:
        for field, value in fields(meta):
            if field == _TENSOR:
                yield _entry(value, table)


def _entry(span: Span, table: Table) -> _Entry:
    entry = _Entry(span)
    for found, value in fields(span):
        if found == _NAME:
            entry.name = text(value)
        elif found == _SHAPE:
            entry.shape = shape_of(value)
        elif found == _DTYPE:
            entry.dtype = signed(value)
        elif found == _SLICE:
            entry.parts.append((extents_of(value), table))
    return entry


def _tensor(entry: _Entry) -> Tensor | str:
    """The tensor of an entry, or why there is none."""
    dtype = tensorflow_dtype(entry.dtype)
    if dtype is None:
        raise entry.span.error(f"{entry.name!r} has no dtype")
    if isinstance(dtype, str):
        return dtype
    extents = [part for part, _ in entry.parts]
    boxes = boxes_of(entry.shape, extents, entry.span, repr(entry.name))
    parts = []
    for box, (part, table) in zip(boxes, entry.parts, strict=True):
        shape = tuple(side.stop - side.start for side in box)
        read = functools.partial(_read, table, entry.name, part, dtype, shape)
        parts.append(Part(box, read))
    return Tensor(entry.shape, dtype, functools.partial(joined, entry.shape, dtype, parts))


def _read(
    table: Table,
    name: str,
    part: Extents,
    dtype: np.dtype[np.generic],
    shape: tuple[int, ...],
) -> np.ndarray:
    """The numbers of a part."""
    found = table.find(part_key(name.encode(), part))
    if found is None:
        raise file_error(
            table.file.path,
            f"{name!r} is said to be here, and is not",
            fix="the file is damaged: fetch it again.",
        )
    for field, data in fields(found):
        if field == _DATA:
            message = dict(fields(data))
            if {_DATA_NAME, _DATA_TENSOR} <= set(message) and text(message[_DATA_NAME]) == name:
                return tensor_in(message[_DATA_TENSOR], dtype, shape, repr(name))
    raise found.error(f"the numbers of {name!r} are not under its key")

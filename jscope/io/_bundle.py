"""Checkpoints of TensorFlow's second format: a table of entries, and files of nothing but data.

``prefix.index`` is a table. Its first key, the empty one, has the header; the others are names of
tensors, with dtype, shape, where the data are (which file, from where on, how many bytes) and their
checksum. A variable that was stored in parts has the list of them in place of data, and each part
an entry of its own under a key that no name equals.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jscope._report import dims
from jscope.io._checkpoint import Checkpoint, Tensor
from jscope.io._crc32c import masked_crc32c
from jscope.io._dtypes import tensorflow_dtype
from jscope.io._file import File, file_error, missing_file
from jscope.io._ordered_code import part_key
from jscope.io._protobuf import BYTES, FIXED32, VARINT, fields, signed, tag, text
from jscope.io._slices import Extents, Part, boxes_of, extents_of, joined, shape_of
from jscope.io._span import Span
from jscope.io._table import Table

_VERSION = 1  # of the format, which readers need at least

_SHARDS, _ENDIANNESS, _HEADER_VERSION = tag(1, VARINT), tag(2, VARINT), tag(3, BYTES)
_LEAST_READER = tag(2, VARINT)

_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE = (
    tag(1, VARINT),
    tag(2, BYTES),
    tag(3, VARINT),
    tag(4, VARINT),
    tag(5, VARINT),
)
_CRC, _SLICE = tag(6, FIXED32), tag(7, BYTES)


@dataclasses.dataclass(slots=True)
class _Entry:
    """What the index says about a tensor, or about a part of one."""

    what: str  # for messages
    span: Span
    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    parts: list[Extents] = dataclasses.field(default_factory=list)


def open_bundle(prefix: str, *, verify: bool = True) -> Checkpoint:
    """The checkpoint whose files begin with ``prefix``.

    Args:
      prefix: Such as ``"logs/model.ckpt-1000"``.
      verify: Whether checksums are compared: of the index now, of a tensor when it is first read.

    Raises:
      FileError: (ValueError, OSError) a file is not there, or is damaged.
    """
    table = Table(File(f"{prefix}.index"), verify=verify)
    items = table.items()
    key, value = next(items, (None, None))
    if key or value is None:
        raise file_error(table.file.path, "this index has no header", offset=0)
    bundle = _Bundle(prefix, _shards(value), verify)
    shapes: dict[bytes, tuple[int, ...]] = {}
    entries = {key: _entry(key, value, shapes) for key, value in items}
    parts = _parts_by_name(entries)
    of_parts = {key for keys in parts.values() for key in keys}
    tensors: dict[str, Tensor] = {}
    notes: dict[str, str] = {}
    for key, entry in entries.items():
        if key in of_parts:
            continue
        name = _name(key, entry.span)
        found = bundle.tensor(entry, [entries[part] for part in parts.get(key, ())])
        if isinstance(found, Tensor):
            tensors[name] = found
        else:
            notes[name] = found
    bundle.check_disjoint()
    return Checkpoint(prefix, "TF V2", tensors, notes=notes)


def _shards(header: Span) -> int:
    """How many files of data there are, where the header says that this is for us to read."""
    shards = 0
    for found, value in fields(header):
        if found == _SHARDS:
            shards = value
        elif found == _ENDIANNESS and value:
            raise header.error(
                "the tensors are big-endian: they were written on a machine of another kind, and "
                "jscope reads little-endian ones"
            )
        elif found == _HEADER_VERSION:
            for number, least in fields(value):
                if number == _LEAST_READER and signed(least) > _VERSION:
                    raise header.error(
                        f"this is for readers of version {signed(least)}, and jscope reads "
                        f"version {_VERSION}"
                    )
    return shards


def _entry(key: bytes, span: Span, shapes: dict[bytes, tuple[int, ...]]) -> _Entry:
    """What the index says under a key; ``shapes`` are those read so far, as many are equal."""
    entry = _Entry(repr(str(key, "utf-8", "backslashreplace")), span)
    for found, value in fields(span):
        if found == _DTYPE:
            entry.dtype = signed(value)
        elif found == _SHAPE:
            data = bytes(value.view)
            entry.shape = shapes[data] = shapes.get(data) or shape_of(value)
        elif found == _SHARD:
            entry.shard = value
        elif found == _OFFSET:
            entry.offset = value
        elif found == _SIZE:
            entry.size = value
        elif found == _CRC:
            entry.crc = value
        elif found == _SLICE:
            entry.parts.append(extents_of(value))
    return entry


def _parts_by_name(entries: Mapping[bytes, _Entry]) -> dict[bytes, list[bytes]]:
    """The keys of variables in parts, and those of their parts."""
    found = {}
    for key, entry in entries.items():
        if entry.parts:
            found[key] = [part_key(key, extents) for extents in entry.parts]
            if not all(part in entries for part in found[key]):
                raise entry.span.error(f"a part of {entry.what} is not in the index")
    return found


def _name(key: bytes, span: Span) -> str:
    if key.startswith(b"\0"):
        raise span.error("the index has a part of no variable")
    return text(Span(memoryview(key), span.path, span.offset, span.compressed))


class _Data(NamedTuple):
    """Where bytes are in a file, and whose they are."""

    file: File
    entry: _Entry

    def verify(self) -> None:
        file, entry = self
        found = masked_crc32c(file.pieces(entry.offset, entry.size, entry.what))
        if found != entry.crc:
            raise file_error(
                file.path,
                f"the checksum of the {entry.size} bytes of {entry.what} does not match",
                offset=entry.offset,
                fix="the file is damaged: fetch it again.",
            )


class _Bundle:
    """The files of data, each opened when an entry first names it."""

    def __init__(self, prefix: str, shards: int, verify: bool) -> None:
        self._prefix = prefix
        self._shards = shards
        self._verify = verify
        self._files: dict[int, File] = {}
        self._found: list[_Data] = []

    def tensor(self, entry: _Entry, parts: Sequence[_Entry]) -> Tensor | str:
        """The tensor of an entry, or why there is none."""
        dtype = tensorflow_dtype(entry.dtype)
        if dtype is None:
            raise entry.span.error(f"{entry.what} has no dtype")
        for part in parts:
            part.what = f"a part of {entry.what}"
        if isinstance(dtype, str):
            for part in parts or [entry]:
                self._data(part)
            return dtype
        if not parts:
            data = self._numbers(entry, entry.dtype, dtype, entry.shape)
            read = _reader(data, dtype, entry.shape)
            return Tensor(entry.shape, dtype, read, data.verify if self._verify else None)
        return self._joined(entry, parts, dtype)

    def _joined(
        self, entry: _Entry, parts: Sequence[_Entry], dtype: np.dtype[np.generic]
    ) -> Tensor:
        boxes = boxes_of(entry.shape, entry.parts, entry.span, entry.what)
        shapes = [tuple(side.stop - side.start for side in box) for box in boxes]
        all_data = [
            self._numbers(part, entry.dtype, dtype, shape)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        readers = map(_reader, all_data, [dtype] * len(parts), shapes)
        read = functools.partial(joined, entry.shape, dtype, list(map(Part, boxes, readers)))
        check = functools.partial(_verify_all, all_data) if self._verify else None
        return Tensor(entry.shape, dtype, read, check)

    def _numbers(
        self, entry: _Entry, number: int, dtype: np.dtype[np.generic], shape: tuple[int, ...]
    ) -> _Data:
        """The data of an entry that has to be of a dtype and shape."""
        if entry.parts or entry.dtype != number or entry.shape != shape:
            raise entry.span.error(f"{entry.what} is not what the variable says it is")
        size = math.prod(shape) * dtype.itemsize
        if entry.size != size:
            raise entry.span.error(
                f"{entry.what} has {entry.size} bytes, and {dtype} of shape {dims(shape)} has "
                f"{size}"
            )
        return self._data(entry)

    def _data(self, entry: _Entry) -> _Data:
        if entry.shard not in self._files:
            if entry.shard >= self._shards:
                raise entry.span.error(
                    f"{entry.what} is in file {entry.shard} of {self._shards}, counted from 0"
                )
            path = f"{self._prefix}.data-{entry.shard:05}-of-{self._shards:05}"
            if not os.path.lexists(path):
                raise missing_file(
                    path,
                    "there is no such file",
                    "a checkpoint is its .index and its .data files: fetch this one too.",
                )
            self._files[entry.shard] = File(path)
        data = _Data(self._files[entry.shard], entry)
        data.file.view(entry.offset, entry.size, entry.what)
        self._found.append(data)
        return data

    def check_disjoint(self) -> None:
        """Raises FileError where bytes would belong to two tensors."""
        used = [data for data in self._found if data.entry.size]
        used.sort(key=lambda data: (data.entry.shard, data.entry.offset))
        for (file, first), (_, second) in itertools.pairwise(used):
            if first.shard == second.shard and first.offset + first.size > second.offset:
                raise file_error(
                    file.path,
                    f"{first.what} and {second.what} would share bytes",
                    offset=second.offset,
                    fix="the index is damaged: fetch it again.",
                )


def _reader(
    data: _Data, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> functools.partial[np.ndarray]:
    return functools.partial(data.file.array, data.entry.offset, dtype, shape, data.entry.what)


def _verify_all(parts: Sequence[_Data]) -> None:
    for part in parts:
        part.verify()

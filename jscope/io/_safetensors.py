"""Safetensors: a header of names, dtypes, shapes and places, then the bytes of the tensors."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jscope.io._checkpoint import Checkpoint, Tensor
from jscope.io._dtypes import SAFETENSORS, SAFETENSORS_BITS, SAFETENSORS_WORDS
from jscope.io._file import File, check_shape, file_error, shown
from jscope.io._json import Scanner

MAX_HEADER = 100_000_000
"""How many bytes of header readers of this format take."""
METADATA = "__metadata__"
_MAX_TENSORS = 1 << 18
_FIELDS = {"dtype", "shape", "data_offsets"}


class _Entry(NamedTuple):
    """A tensor as the header tells it; ``begin`` and ``end`` count from the end of the header."""

    begin: int
    end: int
    name: str
    word: str
    shape: tuple[int, ...]


def open_safetensors(path: str) -> Checkpoint:
    """The tensors of one file."""
    file = File(path)
    size = _header_size(file)
    entries, metadata = _header(Scanner(file, 8, size, "the header"))
    _check_places(file, entries, 8 + size)
    tensors = dict[str, Tensor]()
    notes = dict[str, str]()
    for entry in entries:
        _check_size(file, entry)
        if entry.word in SAFETENSORS_BITS:
            notes[entry.name] = f"{entry.word}: NumPy has no array of elements below a byte"
        else:
            tensors[entry.name] = _tensor(file, entry, 8 + size)
    return Checkpoint(path, "safetensors", tensors, metadata=metadata, notes=notes)


def _header_size(file: File) -> int:
    size = int.from_bytes(file.view(0, 8, "the length of the header"), "little")
    if size > MAX_HEADER:
        raise file_error(
            file.path,
            f"the header would be {size} bytes, and a safetensors file has {MAX_HEADER} at most",
            offset=0,
            fix="this is no safetensors file, or a damaged one: fetch it again.",
        )
    if bytes(file.view(8, size, "the header")[:1]) != b"{":
        raise file_error(file.path, "the header of a safetensors file begins with '{'", offset=8)
    return size


def _header(header: Scanner) -> tuple[list[_Entry], dict[str, str]]:
    entries = list[_Entry]()
    metadata = dict[str, str]()
    for name in header.keys():  # noqa: SIM118 # a scanner is no mapping
        if name == METADATA:
            metadata = header.texts()
        elif len(entries) == _MAX_TENSORS:
            raise header.error(f"names more than {_MAX_TENSORS} tensors")
        else:
            entries.append(_entry(header, name))
    header.end()
    return entries, metadata


def _entry(header: Scanner, name: str) -> _Entry:
    word, shape, places = "", tuple[int, ...](), tuple[int, ...]()
    missing = set(_FIELDS)
    for field in header.keys():  # noqa: SIM118 # a scanner is no mapping
        missing.discard(field)
        if field == "dtype":
            word = header.string()
        elif field == "shape":
            shape = header.integers()
        elif field == "data_offsets":
            places = header.integers()
        else:
            raise header.error(
                f"says {shown(field)} of {shown(name)}, which the format does not know"
            )
    if missing:
        raise header.error(f"does not say the {min(missing)} of {shown(name)}")
    if word not in SAFETENSORS and word not in SAFETENSORS_BITS:
        raise header.error(f"gives {shown(name)} the dtype {shown(word)}, which the format has not")
    if len(places) != 2:
        raise header.error(f"gives {shown(name)} {len(places)} offsets in place of two")
    return _Entry(*places, name, word, shape)


def _check_places(file: File, entries: Iterable[_Entry], start: int) -> None:
    """The tensors must lie one after the other and fill the file: nothing hidden, nothing twice."""
    at = 0
    for entry in sorted(entries):
        if entry.begin != at or entry.end < at:
            raise file_error(
                file.path,
                f"{shown(entry.name)} is to lie at {entry.begin} to {entry.end} of the data, and "
                f"what comes before it ends at {at}",
                offset=min(start + entry.begin, file.size),
            )
        at = entry.end
    if start + at != file.size:
        cut = start + at > file.size
        raise file_error(
            file.path,
            f"its tensors end at byte {start + at}, and the file at byte {file.size}",
            offset=min(start + at, file.size),
            fix="the file is cut off: fetch it again." if cut else None,
        )


def _check_size(file: File, entry: _Entry) -> None:
    what = shown(entry.name)
    bits = SAFETENSORS_BITS.get(entry.word)
    dtype = np.dtype(np.uint8) if bits else SAFETENSORS[entry.word]
    check_shape(file.path, entry.shape, dtype, what)
    size, rest = divmod(math.prod(entry.shape) * (bits or 8 * dtype.itemsize), 8)
    if rest or size != entry.end - entry.begin:
        raise file_error(
            file.path,
            f"{what} has {entry.end - entry.begin} bytes, and {entry.word} of shape "
            f"{entry.shape} needs {size}{' and a part of one' if rest else ''}",
        )


def _tensor(file: File, entry: _Entry, start: int) -> Tensor:
    dtype = SAFETENSORS[entry.word]
    read = functools.partial(
        file.array, start + entry.begin, dtype, entry.shape, f"the tensor {shown(entry.name)}"
    )
    return Tensor(entry.shape, dtype, read)


def header_of(
    tensors: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]], metadata: Mapping[str, str]
) -> bytes:
    """The header of a file whose tensors, name -> (shape, dtype), lie in the order given."""
    header = dict[str, object]({METADATA: dict(metadata)} if metadata else {})
    at = 0
    for name, (shape, dtype) in tensors.items():
        end = at + math.prod(shape) * dtype.itemsize
        word = SAFETENSORS_WORDS[dtype]
        header[name] = {"dtype": word, "shape": shape, "data_offsets": (at, end)}
        at = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    # Padded to eight bytes: the widest elements come first, so that all of them lie aligned.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text

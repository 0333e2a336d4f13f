"""Tensors inside messages: a field of numbers for each kind of dtype."""

from __future__ import annotations

import itertools
import math
import operator

import ml_dtypes
import numpy as np

from jscope._report import array_type
from jscope.io._file import read_only
from jscope.io._protobuf import BYTES, FIXED32, FIXED64, VARINT, fields, tag
from jscope.io._span import Span

_CONTENT = tag(4, BYTES)
_CHUNK = 1 << 20

# Those that TensorFlow writes so, and bfloat16, for which protobuf's own comment names a field.
_FIELDS: dict[type[np.generic], tuple[int, int]] = {
    np.float32: (5, FIXED32),
    np.float64: (6, FIXED64),
    np.int8: (7, VARINT),
    np.int16: (7, VARINT),
    np.int32: (7, VARINT),
    np.uint8: (7, VARINT),
    np.uint16: (7, VARINT),
    np.complex64: (9, FIXED32),
    np.int64: (10, VARINT),
    np.bool_: (11, VARINT),
    np.complex128: (12, FIXED64),
    np.float16: (13, VARINT),
    ml_dtypes.bfloat16: (13, VARINT),
    np.uint32: (16, VARINT),
    np.uint64: (17, VARINT),
}
"""The field of a dtype, and how a number of it is written."""


def tensor_in(
    span: Span, dtype: np.dtype[np.generic], shape: tuple[int, ...], what: str
) -> np.ndarray:
    """The array of a message of known dtype and shape: in the file itself where it lies so there.

    Args:
      span: The message.
      dtype: What its numbers are.
      shape: How many they are.
      what: Whose, for messages.
    """
    number, kind = _FIELDS.get(dtype.type, (0, VARINT))
    if not number:
        raise span.error(f"{what} is of {dtype}, which messages have no field for")
    content = [value for found, value in fields(span) if found == _CONTENT]
    pieces = _pieces(span, number, kind)
    if content and pieces:
        raise span.error(f"{what} has its numbers twice")
    coded = kind == VARINT and not content
    size = sum(map(_count, pieces)) if coded else sum(len(x.view) for x in content or pieces)
    if size != math.prod(shape) * (1 if coded else dtype.itemsize):
        raise span.error(
            f"{what} has {size} {'numbers' if coded else 'bytes'}, and is to be "
            f"{array_type(shape, dtype)}"
        )
    if coded:
        arrays = [_varints(piece, dtype) for piece in pieces]
    else:
        arrays = [np.frombuffer(piece.view, np.uint8) for piece in content or pieces]
    if len(arrays) != 1:
        arrays = [np.concatenate([np.empty(0, dtype if coded else np.uint8), *arrays])]
    found = arrays[0].view(dtype).reshape(shape)
    return read_only(found if found.flags.aligned else found.copy())


def _pieces(span: Span, number: int, kind: int) -> list[Span]:
    """The numbers of a field, in order: as a rule all in one piece.

    Protobuf reads them one by one too, each a field of its own; those are put together here.
    """
    together, alone = tag(number, BYTES), tag(number, kind)
    found = [item for item in fields(span) if item[0] in (together, alone)]
    pieces: list[Span] = []
    for key, items in itertools.groupby(found, operator.itemgetter(0)):
        values = [value for _, value in items]
        if key == alone:
            data = b"".join(_written(value, kind) for value in values)
            values = [span._replace(view=memoryview(data))]
        pieces += values
    return pieces


def _written(value: int, kind: int) -> bytes:
    """A number as it stands among others."""
    if kind != VARINT:
        return value.to_bytes(4 if kind == FIXED32 else 8, "little")
    groups = [value >> shift & 127 | 128 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*groups[:-1], groups[-1] & 127])


def _count(span: Span) -> int:
    """How many numbers varints are."""
    data = np.frombuffer(span.view, np.uint8)
    if len(data) and data[-1] > 127:
        raise span.error("a number is cut off", len(data) - 1)
    return sum(
        int(np.count_nonzero(data[start : start + _CHUNK] < 128))
        for start in range(0, len(data), _CHUNK)
    )


def _varints(span: Span, dtype: np.dtype[np.generic]) -> np.ndarray:
    """Many varints at once, some at a time: what is computed with takes many times their bytes."""
    data = np.frombuffer(span.view, np.uint8)
    out, done, start = np.empty(_count(span), dtype), 0, 0
    while start < len(data):
        chunk = data[start : start + _CHUNK]
        ends = np.flatnonzero(chunk < 128)
        if not len(ends):
            raise span.error("a number has more than 64 bits", start)
        values = _decoded(chunk, ends, span, start)
        out[done : done + len(values)] = _as_dtype(values, dtype)
        done += len(values)
        start += int(ends[-1]) + 1
    return out


def _decoded(chunk: np.ndarray, ends: np.ndarray, span: Span, place: int) -> np.ndarray:
    """The numbers that end at ``ends``."""
    starts = np.concatenate([np.zeros(1, ends.dtype), ends[:-1] + 1])
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > 10:
        at = place + int(starts[int(lengths.argmax())])
        raise span.error("a number has more than 64 bits", at)
    values = np.zeros(len(ends), np.uint64)
    for byte in range(longest):
        has = np.flatnonzero(lengths > byte)
        bits = (chunk[starts[has] + byte] & 127).astype(np.uint64)
        values[has] |= bits << np.uint64(7 * byte)
    return values


def _as_dtype(values: np.ndarray, dtype: np.dtype[np.generic]) -> np.ndarray:
    """Numbers of 64 bits as the lowest bits of them that the dtype has; halves are such bits."""
    bits = np.minimum(values, 1) if dtype == np.bool_ else values
    found: np.ndarray = bits.astype(f"u{dtype.itemsize}").view(dtype)
    return found

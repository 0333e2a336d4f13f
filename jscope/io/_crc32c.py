"""CRC-32C of many bytes, and the mask under which TensorFlow stores it.

``google_crc32c`` computes it where its compiled half is installed (the extra ``io``); NumPy does
at about an eighth of that speed.

The register after some bytes is linear in them (over the field of two elements), so a word of the
message can be moved to a later place: "advance" it by the bytes in between and add it there. A row
of words is moved onto the row below, all words at once, until one row is left; shorter rows fold
that one, and bytes are done singly at the end.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable

import numpy as np

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_WIDTHS = (16384, 1024, 64, 8)  # words in a row: tables of the widest one stay in the cache
_STEP = 1 << 24  # bytes that are handed over at once


def masked_crc32c(pieces: Iterable[memoryview]) -> int:
    """The checksum of bytes one after the other, as it stands in files."""
    extend = _compiled() or extend_crc32c
    crc = 0
    for piece in pieces:
        # An array: the compiled function refuses views, and would need a copy.
        data = np.frombuffer(piece, np.uint8)
        for start in range(0, len(data), _STEP):
            crc = extend(crc, data[start : start + _STEP])
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@functools.cache
def _compiled() -> Callable[[int, np.ndarray], int] | None:
    try:
        google_crc32c = importlib.import_module("google_crc32c")
    except ImportError:
        return None
    return google_crc32c.extend if google_crc32c.implementation == "c" else None


def extend_crc32c(crc: int, data: np.ndarray) -> int:
    """The CRC-32C of what ``crc`` is that of, followed by ``data``, an array of bytes."""
    register = crc ^ 0xFFFFFFFF
    for width in _WIDTHS:
        rows = len(data) // (4 * width)
        if rows > 1:
            size = 4 * width * rows
            words = data[:size].view(np.uint32).reshape(rows, width)
            row = _fold(words, register)
            register, data = 0, np.concatenate([row.view(np.uint8), data[size:]])
    table = _byte_table()
    for byte in data.tobytes():
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register ^ 0xFFFFFFFF


def _fold(rows: np.ndarray, register: int) -> np.ndarray:
    """One row of words whose register is that of all the rows, begun with ``register``."""
    low, high = _tables(4 * rows.shape[1])
    total: np.ndarray = rows[0].copy()
    total[0] ^= register
    for row in rows[1:]:
        halves = total.view(np.uint16)
        total = low.take(halves[::2])
        total ^= high.take(halves[1::2])
        total ^= row
    return total


@functools.cache
def _tables(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper halves of words, each advanced by ``size`` zero bytes."""
    columns = _advance(size)
    halves = []
    for start in (0, 16):
        table = np.zeros(1, np.uint32)
        for column in columns[start : start + 16]:
            table = np.concatenate([table, table ^ np.uint32(column)])
        halves.append(table)
    return halves[0], halves[1]


def _advance(size: int) -> list[int]:
    """What becomes of each bit of the register after ``size`` zero bytes, a power of two."""
    table = _byte_table()
    columns = [table[bit & 0xFF] ^ bit >> 8 for bit in (1 << place for place in range(32))]
    while size > 1:
        columns = [_apply(columns, column) for column in columns]  # twice as far
        size //= 2
    return columns


def _apply(columns: list[int], register: int) -> int:
    result = 0
    for place, column in enumerate(columns):
        if register >> place & 1:
            result ^= column
    return result


@functools.cache
def _byte_table() -> tuple[int, ...]:
    table = []
    for register in range(256):
        for _ in range(8):
            register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
        table.append(register)
    return tuple(table)

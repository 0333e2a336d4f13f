"""Keys of the parts of variables, in an encoding whose bytes sort as what they stand for."""

from __future__ import annotations

from collections.abc import Iterable


def part_key(name: bytes, extents: Iterable[tuple[int, int]]) -> bytes:
    """The key of a part: its variable's name, and (start, length) along each axis.

    The length -1 stands for all of an axis.
    """
    numbers = [number for extent in extents for number in extent]
    axes = _unsigned(len(numbers) // 2)
    return _unsigned(0) + _escaped(name) + axes + b"".join(map(_signed, numbers))


def _unsigned(number: int) -> bytes:
    size = (number.bit_length() + 7) // 8
    return bytes([size]) + number.to_bytes(size, "big")


def _escaped(name: bytes) -> bytes:
    # A byte 255 would be escaped too, and UTF-8 has none.
    return name.replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def _signed(number: int) -> bytes:
    """As many leading ones as there are bytes, and the number in what is left; flipped below 0."""
    size = 1
    while not -(1 << 7 * size - 1) <= number < 1 << 7 * size - 1:
        size += 1
    ones = (1 << size) - 1 << 7 * size
    return (number % (1 << 8 * size) ^ ones).to_bytes(size, "big")

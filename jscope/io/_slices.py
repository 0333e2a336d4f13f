"""Shapes of tensors, and variables that are stored in parts."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from jscope._report import dims
from jscope.io._file import MAX_RANK, read_only
from jscope.io._protobuf import BYTES, VARINT, fields, signed, tag
from jscope.io._span import Span

Extents: TypeAlias = tuple[tuple[int, int], ...]
"""Along each axis where a part starts, and its length; the length -1 stands for the whole axis."""

Box: TypeAlias = tuple[slice, ...]
"""Along each axis where a part starts and stops."""

_ELEMENTS = 1 << 58  # the most that NumPy can count the bytes of
_PRIME = (1 << 61) - 1

_DIM = tag(2, BYTES)
_UNKNOWN_RANK = tag(3, VARINT)
_SIZE = tag(1, VARINT)
_EXTENT = tag(1, BYTES)
_START, _LENGTH = tag(1, VARINT), tag(2, VARINT)


def shape_of(span: Span) -> tuple[int, ...]:
    """The shape that a message says."""
    shape = []
    for found, value in fields(span):
        if found == _DIM:
            sizes = [signed(size) for number, size in fields(value) if number == _SIZE]
            shape.append(sizes[-1] if sizes else 0)
        elif found == _UNKNOWN_RANK and value:
            raise span.error("a tensor has no known rank")
    if any(size < 0 for size in shape):
        raise span.error(f"a tensor has the shape {dims(shape)}")
    if len(shape) > MAX_RANK:
        raise span.error(f"a tensor has {len(shape)} axes, and NumPy has at most {MAX_RANK}")
    # Of an empty tensor too: NumPy multiplies the sizes that are not 0.
    if math.prod(filter(None, shape)) > _ELEMENTS:
        raise span.error(f"a tensor of shape {dims(shape)} is larger than any memory")
    return tuple(shape)


def extents_of(span: Span) -> Extents:
    """The part of a variable that a message says."""
    extents = []
    for found, value in fields(span):
        if found == _EXTENT:
            start, length = 0, -1
            for number, size in fields(value):
                if number == _START:
                    start = signed(size)
                elif number == _LENGTH:
                    length = signed(size)
            extents.append((start, length))
    return tuple(extents)


def boxes_of(shape: tuple[int, ...], parts: Sequence[Extents], span: Span, what: str) -> list[Box]:
    """Where the parts of a variable lie, which have to be disjoint and all of it."""
    boxes = []
    for extents in parts:
        if len(extents) != len(shape):
            raise span.error(f"a part of {what} has {len(extents)} axes, and not {len(shape)}")
        box = tuple(
            slice(0, size) if length == -1 and not start else slice(start, start + length)
            for (start, length), size in zip(extents, shape, strict=True)
        )
        if not all(0 <= x.start <= x.stop <= size for x, size in zip(box, shape, strict=True)):
            raise span.error(f"a part of {what}, of shape {dims(shape)}, lies outside it")
        boxes.append(box)
    if not _is_partition(shape, boxes):
        raise span.error(f"the parts of {what} overlap, or are not all of it")
    return boxes


def _is_partition(shape: tuple[int, ...], boxes: list[Box]) -> bool:
    """Whether boxes inside a shape are disjoint and cover it.

    Elements get weights: products, over the axes, of random numbers. If each element is in one
    box, the boxes weigh as much as the whole. If not, they do so with a probability of about
    rank / 2^61: a polynomial that is not zero would have to vanish at random numbers. This takes
    time in proportion to the number of boxes, where looking at pairs would take its square.
    """
    whole_box = tuple(slice(0, size) for size in shape)
    if boxes == [whole_box]:  # as nearly always in files of the first format
        return True
    generator = random.SystemRandom()
    up_to: list[dict[int, int]] = [{0: 0} for _ in shape]  # axis -> place -> sum of the numbers

    def weight(box: Box) -> int:
        product = 1
        for axis, side in zip(up_to, box, strict=True):
            for place in (side.start, side.stop):
                if place not in axis:
                    axis[place] = generator.randrange(_PRIME)
            product = product * (axis[side.stop] - axis[side.start]) % _PRIME
        return product

    whole = weight(whole_box)
    # The plain sum too, which is the bound of what may be allocated.
    count = sum(math.prod(x.stop - x.start for x in box) for box in boxes)
    return count == math.prod(shape) and sum(map(weight, boxes)) % _PRIME == whole


class Part(NamedTuple):
    """A part of a variable: where it lies, and what reads it."""

    box: Box
    read: Callable[[], np.ndarray]


def joined(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], parts: Sequence[Part]
) -> np.ndarray:
    """The array of parts that are all of it; of one part that part itself."""
    if len(parts) == 1:
        return parts[0].read()
    # Read first: what is allocated is no more than what was found.
    values = [part.read() for part in parts]
    whole = np.empty(shape, dtype)
    for part, value in zip(parts, values, strict=True):
        whole[part.box] = value
    return read_only(whole)

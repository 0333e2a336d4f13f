"""Messages of protobuf as they are written, without their schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jscope.io._span import Span

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""How a field is written."""
_WIDTHS = {FIXED64: 8, FIXED32: 4}


def tag(number: int, kind: int) -> int:
    """What a field begins with: its number in the schema, and how it is written."""
    return number << 3 | kind


def fields(span: Span) -> Iterator[tuple[int, Any]]:
    """The tags and values of a message in turn: unsigned ints, and Spans for BYTES.

    A known number with an unknown kind has an unknown tag, and is passed over as such, as protobuf
    itself does.
    """
    view, at, end = span.view, 0, len(span.view)
    while at < end:
        start = at
        found, at = span.varint(at)
        kind = found & 7
        value: int | Span
        if kind == VARINT:
            value, at = span.varint(at)
        elif kind == BYTES:
            size, at = span.varint(at)
            if size > end - at:
                raise span.error(
                    f"a field of {size} bytes does not fit into its message of {end}", start
                )
            value = span.part(at, at + size)
            at += size
        else:
            width = _WIDTHS.get(kind)
            if width is None or found >> 3 == 0:
                raise span.error(f"no field of a message begins with {found}", start)
            if width > end - at:
                raise span.error(f"a field of {width} bytes is cut off", start)
            value = int.from_bytes(view[at : at + width], "little")
            at += width
        yield found, value


def signed(value: int) -> int:
    """A number of 64 bits as an int64."""
    return value - (1 << 64) if value >> 63 else value


def text(span: Span) -> str:
    """A field that is text."""
    try:
        return str(span.view, "utf-8")
    except UnicodeDecodeError:
        raise span.error("a name is not text in UTF-8") from None

"""Blocks that are compressed by snappy, as some versions of TensorFlow wrote indices."""

from __future__ import annotations

from jscope.errors import FileError
from jscope.io._span import Span

_MOST = 22  # times smaller at most: a copy gives 64 bytes and takes three


def unpack(span: Span) -> Span:
    """The bytes of a compressed block."""
    size, at = span.varint(0)
    if size > _MOST * len(span.view):
        raise span.error(
            f"a compressed block announces {size} bytes, more than {len(span.view)} can hold"
        )
    out, end = bytearray(), len(span.view)
    while at < end:
        at = _element(span, at, out)
        if len(out) > size:
            raise span.error(f"a compressed block holds more than the {size} bytes it announces")
    if len(out) != size:
        raise span.error(f"a compressed block ends after {len(out)} of its {size} bytes")
    return Span(memoryview(out).toreadonly(), span.path, span.offset, compressed=True)


def _element(span: Span, at: int, out: bytearray) -> int:
    """Appends one literal or copy; gives the place after it."""
    tag = span.view[at]
    kind, length = tag & 3, (tag >> 2) + 1
    if kind == 0:
        if length > 60:
            extra = length - 60
            length, at = _number(span, at + 1, extra) + 1, at + extra
        literal = span.view[at + 1 : at + 1 + length]
        if len(literal) < length:
            raise _cut_off(span, at)
        out += literal
        return at + 1 + length
    if kind == 1:
        length = (tag >> 2 & 7) + 4
        back, width = (tag >> 5) << 8 | _number(span, at + 1, 1), 1
    else:
        width = 2 if kind == 2 else 4
        back = _number(span, at + 1, width)
    if not 0 < back <= len(out):
        raise span.error("a compressed block copies from before its beginning", at)
    start = len(out) - back
    piece = bytes(out[start : start + length])
    out += (piece * (length // back + 1))[:length]  # which may repeat what it has just copied
    return at + 1 + width


def _number(span: Span, at: int, width: int) -> int:
    data = span.view[at : at + width]
    if len(data) < width:
        raise _cut_off(span, at)
    return int.from_bytes(data, "little")


def _cut_off(span: Span, at: int) -> FileError:
    return span.error("a compressed block is cut off", at)

"""Writes what TensorFlow's checkpoints are made of, right or wrong: tables, messages, snappy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jscope.io._crc32c import masked_crc32c
from jscope.io._protobuf import BYTES, FIXED32, VARINT
from jscope.io._table import MAGIC

Message = list[tuple[int, int, Any]]
"""Number, kind and value of the fields; the value of BYTES is bytes or a message."""


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def message(fields: Message) -> bytes:
    out = b""
    for number, kind, value in fields:
        out += varint(number << 3 | kind)
        if kind == VARINT:
            out += varint(value % (1 << 64))
        elif kind == BYTES:
            data = value if isinstance(value, bytes) else message(value)
            out += varint(len(data)) + data
        else:
            out += value.to_bytes(4 if kind == FIXED32 else 8, "little")
    return out


def shape_message(shape: Iterable[int]) -> Message:
    return [(2, BYTES, [(1, VARINT, size)]) for size in shape]


def slice_message(extents: Iterable[tuple[int, int]]) -> Message:
    """The length -1 is that of the whole axis, which is not written."""
    return [
        (1, BYTES, [(1, VARINT, start), *([(2, VARINT, length)] if length != -1 else [])])
        for start, length in extents
    ]


def block_of(entries: Iterable[tuple[bytes, bytes]], interval: int = 16) -> bytes:
    out, restarts, previous = bytearray(), [0], b""
    for count, (key, value) in enumerate(entries):
        shared = 0
        if count % interval == 0:
            restarts += [len(out)] if count else []
        else:
            limit = min(len(key), len(previous))
            shared = next((i for i in range(limit) if key[i] != previous[i]), limit)
        own = key[shared:]
        out += varint(shared) + varint(len(own)) + varint(len(value)) + own + value
        previous = key
    numbers = [*restarts, len(restarts)]
    return bytes(out) + b"".join(number.to_bytes(4, "little") for number in numbers)


def sealed(block: bytes, kind: int = 0) -> bytes:
    """A block with its trailer."""
    whole = block + bytes([kind])
    return whole + masked_crc32c([memoryview(whole)]).to_bytes(4, "little")


def footer_of(index: tuple[int, int], metaindex: tuple[int, int] = (0, 0)) -> bytes:
    handles = b"".join(map(varint, (*metaindex, *index)))
    return handles + bytes(40 - len(handles)) + MAGIC


def table_of(
    entries: Iterable[tuple[bytes, bytes]],
    *,
    block_size: int = 4096,
    interval: int = 16,
    snappy: bool = False,
    spoil: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """A table; ``spoil`` is called with each block before it is sealed, the index last."""
    groups: list[list[tuple[bytes, bytes]]] = [[]]
    for key, value in entries:
        if sum(len(k) + len(v) for k, v in groups[-1]) >= block_size:
            groups.append([])
        groups[-1].append((key, value))
    out = bytearray()

    def add(block: bytes) -> bytes:
        """Writes a block; where it is, as the index says that."""
        data = spoil(block)
        data = snapped(data) if snappy else data
        place = varint(len(out)) + varint(len(data))
        out.extend(sealed(data, int(snappy)))
        return place

    index = [(group[-1][0], add(block_of(group, interval))) for group in groups if group]
    start = len(out)
    add(block_of(index, 1))
    return bytes(out) + footer_of((start, len(out) - start - 5))


def snapped(data: bytes) -> bytes:
    """Bytes as snappy writes them: copies of what was there, and literals."""
    out, at, literal, seen = bytearray(varint(len(data))), 0, bytearray(), dict[bytes, int]()

    def flush() -> None:
        if literal:
            size = len(literal) - 1
            width = (size.bit_length() + 7) // 8
            head = (
                [size << 2] if size < 60 else [(59 + width) << 2, *size.to_bytes(width, "little")]
            )
            out.extend(bytes(head) + literal)
            literal.clear()

    while at < len(data):
        piece = data[at : at + 4]
        start = seen.get(piece, -1)
        seen[piece] = at
        if start < 0 or len(piece) < 4 or at - start > 0xFFFF:
            literal += data[at : at + 1]
            at += 1
            continue
        size = 4
        while size < 64 and at + size < len(data) and data[start + size] == data[at + size]:
            size += 1
        flush()
        back = at - start
        if size < 12 and back < 2048:
            out += bytes([1 | size - 4 << 2 | back >> 8 << 5, back & 255])
        else:
            out += bytes([2 | size - 1 << 2]) + back.to_bytes(2, "little")
        at += size
    flush()
    return bytes(out)

"""Sorted tables of keys and values (LevelDB's format), which TensorFlow's checkpoints are made of.

A table is a sequence of blocks and a footer of 48 bytes: where two blocks are, padded, and the
magic number. The second of them is the index: for each block a key that is not less than any in it
and less than those of the next, and where it is. A block is a sequence of entries and an array of
restarts, followed by how it is compressed (one byte) and a checksum of both. The key of an entry
leaves out what it shares with the key before it.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from jscope.io._crc32c import masked_crc32c
from jscope.io._file import File
from jscope.io._snappy import unpack
from jscope.io._span import Span

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER = 48
_TRAILER = 5
_EXPANSION = 64  # of keys, by what they share; tables that are written as usual stay below 16

Entry: TypeAlias = tuple[bytes, Span]


class Handle(NamedTuple):
    """Where a block is, and its size without the trailer."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size + _TRAILER


def is_table(path: str) -> bool:
    """Whether a file that can be read ends as tables do."""
    try:
        if not os.path.isfile(path):  # a pipe would wait for its other end
            return False
        with open(path, "rb") as file:
            file.seek(-len(MAGIC), os.SEEK_END)
            return file.read() == MAGIC
    except OSError:
        return False


class Table:
    """A table, of which the footer and the index have been read.

    Args:
      file: The file.
      verify: Whether checksums are compared.

    Raises:
      FileError: (ValueError, OSError) it is no table, or a damaged one.
    """

    def __init__(self, file: File, *, verify: bool) -> None:
        self.file = file
        self._verify = verify
        self._verified = set[int]()
        self._found: dict[int, dict[bytes, Span]] = {}  # by block, of those that were searched
        index = self._footer()
        self._handles: list[Handle] = []
        self._limits: list[bytes] = []  # by handle: no key of its block is greater
        end = 0
        for key, value in _entries(self._block(index), index.size):
            handle = _handle(value, 0)[0]
            # Written one after the other: so no block can be read twice, nor be the index.
            if handle.offset < end or handle.end > index.offset:
                raise value.error(
                    f"a block would be {handle.size} bytes from byte {handle.offset} on, where "
                    f"only bytes {end} to {index.offset} are left"
                )
            end = handle.end
            self._handles.append(handle)
            self._limits.append(key)

    def _footer(self) -> Handle:
        """Where the index is."""
        footer = Span(
            self.file.view(self.file.size - _FOOTER, _FOOTER, "the footer"),
            self.file.path,
            self.file.size - _FOOTER,
        )
        if footer.view[-len(MAGIC) :] != MAGIC:
            raise footer.error("this does not end as a table of TensorFlow's checkpoints does")
        _, at = _handle(footer, 0)
        index, _ = _handle(footer, at)
        if index.end > footer.offset:
            raise footer.error(
                f"the index would be {index.size} bytes from byte {index.offset} on, and the "
                f"footer begins at byte {footer.offset}"
            )
        return index

    def items(self) -> Iterator[Entry]:
        """All keys and values, in the order of the keys."""
        for number in range(len(self._handles)):
            yield from self._entries_of(number)

    def find(self, key: bytes) -> Span | None:
        """The value of a key."""
        number = bisect.bisect_left(self._limits, key)
        if number == len(self._limits):
            return None
        if number not in self._found:
            entries = dict(self._entries_of(number))
            if any(value.compressed for value in entries.values()):
                self._found.clear()  # their values lie in memory: one block is enough
            self._found[number] = entries
        return self._found[number].get(key)

    def _entries_of(self, number: int) -> Iterator[Entry]:
        """The entries of a block, whose keys have to be within the limits that the index gives."""
        handle = self._handles[number]
        above = self._limits[number - 1] if number else None
        for key, value in _entries(self._block(handle), handle.size):
            if (above is not None and key <= above) or key > self._limits[number]:
                raise value.error("a key is in another block than the index says")
            yield key, value

    def _block(self, handle: Handle) -> Span:
        """What is in a block: verified once, and unpacked."""
        path, size = self.file.path, handle.size
        whole = Span(self.file.view(handle.offset, size + _TRAILER, "a block"), path, handle.offset)
        kind = whole.view[size]
        if self._verify and handle.offset not in self._verified:
            stored = int.from_bytes(whole.view[size + 1 :], "little")
            if masked_crc32c([whole.view[: size + 1]]) != stored:
                raise whole.error(f"the checksum of a block of {size} bytes does not match")
            self._verified.add(handle.offset)
        block = whole.part(0, size)
        if kind > 1:
            raise whole.error(f"a block is compressed in an unknown way ({kind})", size)
        return unpack(block) if kind else block


def _handle(span: Span, at: int) -> tuple[Handle, int]:
    """Where a block is, and the place after what says so."""
    offset, at = span.varint(at)
    size, at = span.varint(at)
    return Handle(offset, size), at


def _entries(block: Span, stored: int) -> Iterator[Entry]:
    """The keys, strictly ascending, and values of a block that takes ``stored`` bytes."""
    view, at, key = block.view, 0, None
    end, room = _end_of_entries(block), _EXPANSION * stored
    while at < end:
        start = at
        shared, at = block.varint(at)
        own, at = block.varint(at)
        size, at = block.varint(at)
        if shared > len(key or b"") or own + size > end - at:
            raise block.error("an entry goes beyond its block", start)
        # Before any of it is made: a small file could ask for any amount of memory.
        room -= shared + own
        if room < 0:
            raise block.error(
                f"the keys of a block of {stored} bytes take more than {_EXPANSION} times that",
                start,
            )
        following = (key or b"")[:shared] + bytes(view[at : at + own])
        if key is not None and following <= key:
            raise block.error("the keys are not in ascending order", start)
        key, at = following, at + own
        yield key, block.part(at, at + size)
        at += size


def _end_of_entries(block: Span) -> int:
    """Where the array of restarts begins; it is of use only to who does not read all entries."""
    size = len(block.view)
    if size >= 4:
        end = size - 4 * (1 + int.from_bytes(block.view[-4:], "little"))
        if end >= 0:
            return end
    raise block.error(f"a block of {size} bytes has no room for its restarts")

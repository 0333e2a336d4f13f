"""Span: bytes of a file that know where they are, for messages."""

from __future__ import annotations

from typing import NamedTuple

from jscope.errors import FileError
from jscope.io._file import file_error


class Span(NamedTuple):
    """Bytes of a file, and where they are in it.

    Attributes:
      view: The bytes.
      path: The file.
      offset: Where they begin in it; of what was compressed, where that begins.
      compressed: Whether they were, so that their parts have no places of their own.
    """

    view: memoryview
    path: str
    offset: int
    compressed: bool = False

    def part(self, start: int, stop: int) -> Span:
        """The bytes from ``start`` to ``stop``, both within."""
        place = self.offset if self.compressed else self.offset + start
        return Span(self.view[start:stop], self.path, place, self.compressed)

    def error(self, problem: str, at: int = 0) -> FileError:
        """What is wrong with these bytes, at a place in them."""
        return file_error(
            self.path,
            problem,
            offset=self.offset if self.compressed else self.offset + at,
            fix="the file is damaged: fetch it again.",
        )

    def varint(self, at: int) -> tuple[int, int]:
        """The number that is written at a place in groups of seven bits, and the place after it."""
        view = self.view
        try:
            byte = view[at]
            if byte < 128:
                return byte, at + 1
            value = byte & 127
            for place in range(1, 10):
                byte = view[at + place]
                value |= (byte & 127) << 7 * place
                if byte < 128 and value < 1 << 64:
                    return value, at + place + 1
        except IndexError:
            raise self.error("a number is cut off", at) from None
        raise self.error("a number has more than 64 bits", at)

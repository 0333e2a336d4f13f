"""The little JSON of headers and indexes, read strictly: one pass, no recursion, bounded memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from jscope.errors import FileError
from jscope.io._file import File, file_error, shown

# Possessive, so that nothing is kept for going back, however long a string is.
_STRING = re.compile(rb'[ \t\r\n]*+"((?:[^"\\\x00-\x1f]++|\\.)*+)"')
_SCALAR = re.compile(rb"[ \t\r\n]*+(true|false|null|-?[0-9][0-9.eE+-]{0,40}+)")
_INTEGERS = re.compile(rb"[ \t\r\n]*+\[([0-9, \t\r\n]{0,4000}+)\]")
_INTEGER = re.compile(rb"[ \t\r\n]*+(0|[1-9][0-9]{0,19})[ \t\r\n]*+")
_MARKS = {mark: re.compile(rb"[ \t\r\n]*+" + re.escape(mark)) for mark in (b"{", b"}", b":", b",")}
_REST = re.compile(rb"[ \t\r\n]*+(.?)", re.DOTALL)


class Scanner:
    """A place in the JSON text of a file, from which one thing after the other is taken.

    ``json.loads`` of a hostile header would recurse, or make gigabytes of empty lists.

    Args:
      file: Where the text is.
      offset: Where it begins.
      size: Its length in bytes.
      what: What it is, for messages: "the header".
    """

    __slots__ = ("_at", "_file", "_offset", "_text", "_what")

    def __init__(self, file: File, offset: int, size: int, what: str) -> None:
        self._file = file
        self._offset = offset
        self._what = what
        self._text = file.view(offset, size, what)
        self._at = 0

    def error(self, problem: str) -> FileError:
        """What is wrong at this place."""
        return file_error(
            self._file.path, f"{self._what} {problem}", offset=self._offset + self._at
        )

    def _take(self, pattern: re.Pattern[bytes], wanted: str) -> bytes:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self.error(f"is damaged: {wanted} should be here")
        self._at = found.end()
        return found.group(1)

    def _take_if(self, mark: bytes) -> bool:
        found = _MARKS[mark].match(self._text, self._at)
        if found:
            self._at = found.end()
        return bool(found)

    def _need(self, mark: bytes) -> None:
        if not self._take_if(mark):
            raise self.error(f"is damaged: {mark.decode()!r} should be here")

    def _next(self) -> bytes:
        """The character that is here, which stays; none at the end."""
        found = _REST.match(self._text, self._at)
        return found.group(1) if found else b""

    def string(self) -> str:
        """The string that is here."""
        start = self._at
        inner = self._take(_STRING, "a string")
        try:
            text = inner.decode("utf-8")
            if b"\\" in inner:
                text = str(json.loads(f'"{text}"'))
                text.encode("utf-8")  # half of a surrogate pair is no text
        except ValueError:
            self._at = start
            raise self.error("holds a string that is no text") from None
        return text

    def integers(self) -> tuple[int, ...]:
        """The list of whole numbers that is here, none of more than 20 digits."""
        start = self._at
        inner = self._take(_INTEGERS, "a list of whole numbers")
        if not inner.strip():
            return ()
        found = [_INTEGER.fullmatch(part) for part in inner.split(b",")]
        if not all(found):
            self._at = start
            raise self.error("is damaged: a list of whole numbers should be here")
        return tuple([int(match.group(1)) for match in found if match])

    def scalar(self) -> str:
        """The string, number, true, false or null that is here, as text."""
        if self._next() == b'"':
            return self.string()
        return self._take(_SCALAR, "a string or a number").decode()

    def at_object(self) -> bool:
        """Whether an object is here."""
        return self._next() == b"{"

    def keys(self) -> Iterator[str]:
        """Yields the keys of the object that is here; whoever asks takes each value."""
        self._need(b"{")
        seen = set[str]()
        more = not self._take_if(b"}")
        while more:
            key = self.string()
            if key in seen:
                raise self.error(f"has the key {shown(key)} twice")
            seen.add(key)
            self._need(b":")
            yield key
            more = self._take_if(b",")
            if not more:
                self._need(b"}")

    def texts(self) -> dict[str, str]:
        """The object that is here, whose values are strings."""
        return {key: self.string() for key in self.keys()}

    def end(self) -> None:
        """Checks that nothing but white space follows."""
        if self._next():
            raise self.error("goes on after its end")

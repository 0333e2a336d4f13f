"""The header of NumPy's arrays in files, read without evaluating it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jscope.errors import FileError
from jscope.io._file import File, read_only

MAGIC = b"\x93NUMPY"
MAX_HEADER = 1 << 16
"""How many bytes of header are looked at; that of numbers in 64 axes has under two thousand."""

_FIELD = re.compile(
    rb"""[ \t\n]*(?:
      (?P<q>['"])descr(?P=q)[ ]*:[ ]*(?:(?P<r>['"])(?P<descr>[^'"\\\n]{1,100})(?P=r)|(?P<record>\[))
    | (?P<s>['"])fortran_order(?P=s)[ ]*:[ ]*(?P<fortran>True|False)
    | (?P<t>['"])shape(?P=t)[ ]*:[ ]*\((?P<shape>[0-9L, ]{0,4000}+)\)
    )[ \t\n]*+(?:,[ \t\n]*+|(?=\})|(?<=\[))""",
    re.VERBOSE,
)
_DESCR = re.compile(r"[<>|=]?[?A-Za-z][0-9]{0,9}(\[[0-9]{0,4}[A-Za-z]{1,2}\])?")
_SIZE = re.compile(rb" *(0|[1-9][0-9]{0,19})L? *")  # an L where Python 2 wrote it
_KINDS = {"O": "Python objects", "S": "bytes", "U": "text", "M": "dates", "m": "times", "T": "text"}


class Header(NamedTuple):
    """What stands before an array.

    Attributes:
      size: Bytes of the header; the array follows.
      stored: Dtype as it is stored, of either byte order.
      shape: Tuple of sizes.
      fortran: Whether the first axis varies fastest.
      note: Why there is no array of numbers; empty where there is one.
    """

    size: int
    stored: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    note: str = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the array that is read, in the byte order of the machine."""
        return self.stored.newbyteorder("=")


def parse(text: bytes, error: Callable[[str], FileError]) -> Header:
    """The header at the beginning of ``text``, ``MAX_HEADER`` bytes or all that there are."""
    if text[:6] != MAGIC or len(text) < 12:
        raise error("does not begin as an array of NumPy")
    width = {(1, 0): 2, (2, 0): 4, (3, 0): 4}.get((text[6], text[7]))
    if width is None:
        raise error(f"is of version {text[6]}.{text[7]} of NumPy's format, which is not known")
    size = 8 + width + int.from_bytes(text[8 : 8 + width], "little")
    if size > len(text):
        raise error(f"has a header of {size} bytes, which is too long")
    fields = _fields(text[8 + width : size].strip(b" \n"), error)
    if "record" in fields:
        return Header(size, np.dtype(np.void), (), False, "records of several fields")
    stored = _dtype(fields["descr"].decode("latin-1"), error)
    note = "" if stored.kind in "biufc" else _note(stored)
    return Header(size, stored, _shape(fields["shape"], error), fields["fortran"] == b"True", note)


def _fields(text: bytes, error: Callable[[str], FileError]) -> dict[str, bytes]:
    found = dict[str, bytes]()
    at = 1
    while at < len(text) - 1:
        match = _FIELD.match(text, at)
        if match is None:
            break
        new = {
            key: match[key]
            for key in ("descr", "record", "fortran", "shape")
            if match[key] is not None
        }
        if "record" in new:
            return new
        if new.keys() & found.keys():
            break
        found |= new
        at = match.end()
    if text[:1] != b"{" or text[at:] != b"}" or len(found) != 3:
        raise error("has a damaged header")
    return found


def _dtype(text: str, error: Callable[[str], FileError]) -> np.dtype[Any]:
    try:
        if _DESCR.fullmatch(text):  # of another text NumPy may evaluate parts
            return np.dtype(text)
    except (TypeError, ValueError):
        pass
    raise error(f"has the dtype {text!r}, which NumPy does not know")


def _shape(text: bytes, error: Callable[[str], FileError]) -> tuple[int, ...]:
    parts = text.split(b",")
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()  # of (3,)
    elif len(parts) == 1:
        if text.strip():
            raise error("has a damaged header")
        return ()
    sizes = [_SIZE.fullmatch(part) for part in parts]
    if not all(sizes):
        raise error("has a damaged header")
    return tuple([int(size[1]) for size in sizes if size])


def _note(stored: np.dtype[Any]) -> str:
    what = _KINDS.get(stored.kind, f"raw bytes, {stored.str}")
    return f"{what}, no numbers" + (" (pickled)" if stored.kind == "O" else "")


def mapped(file: File, offset: int, header: Header, what: str) -> np.ndarray:
    """The array whose bytes lie in a file from ``offset`` on."""
    shape = header.shape[::-1] if header.fortran else header.shape
    return _turned(file.array(offset, header.stored, shape, what), header)


def formed(raw: np.ndarray, header: Header) -> np.ndarray:
    """The array of bytes that have been read."""
    shape = header.shape[::-1] if header.fortran else header.shape
    found = raw.view(header.stored).reshape(shape)
    return read_only(_turned(found if found.flags.aligned else found.copy(), header))


def _turned(found: np.ndarray, header: Header) -> np.ndarray:
    found = found.T if header.fortran else found
    return found if found.dtype.isnative else read_only(found.astype(header.dtype))

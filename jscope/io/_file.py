"""Files as they are read: mapped into memory, and never beyond their ends."""

from __future__ import annotations

import math
import mmap
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jscope._arguments import bad_argument
from jscope.errors import FileError, MissingFileError

PIECE = 64 << 20
"""How many bytes of a file are held at a time where all of them pass by."""

MAX_RANK = 64
"""How many axes an array of NumPy can have."""


def file_error(
    path: str, problem: str, *, offset: int | None = None, fix: str | None = None
) -> FileError:
    """What is wrong with a file, and where: ``problem`` is a clause, "the header is cut off"."""
    place = path if offset is None else f"{path}, byte {offset}"
    return FileError(f"{place}: {problem}.", {"fix": fix}, path=path, offset=offset)


def missing_file(path: str, problem: str, fix: str | None = None) -> MissingFileError:
    """What should be at a path and is not."""
    return MissingFileError(f"{path}: {problem}.", {"fix": fix}, path=path, offset=None)


class File:
    """A regular file, mapped into memory for reading.

    The map lives as long as anything that was taken from it.

    Args:
      path: Where it is.

    Raises:
      FileError: (ValueError, OSError) it is not there, no regular file, or cannot be read.
    """

    __slots__ = ("_bytes", "path", "size")

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            # A pipe would wait for its other end.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise file_error(path, "this is no regular file")
            with open(path, "rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else b""
        except FileNotFoundError:
            raise missing_file(path, "there is no such file") from None
        except OSError as error:
            if isinstance(error, FileError):
                raise
            reason = (error.strerror or str(error)).lower()
            raise file_error(path, f"it cannot be read ({reason})") from None
        self._bytes = memoryview(mapped)

    def view(self, offset: int, size: int, what: str) -> memoryview:
        """``size`` bytes from ``offset`` on, uncopied; ``what`` they are is for the message."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise file_error(
                self.path,
                f"{what} would be {size} bytes from byte {offset} on, and the file ends at byte "
                f"{self.size}",
                offset=min(max(offset, 0), self.size),
                fix="the file is cut off or damaged: fetch it again.",
            )
        return self._bytes[offset : offset + size]

    def pieces(self, offset: int, size: int, what: str) -> Iterator[memoryview]:
        """The same in turn, letting each piece's pages go: what is large need not fit in memory."""
        view = self.view(offset, size, what)
        for start in range(0, size, PIECE):
            yield view[start : start + PIECE]
            if size > PIECE:
                _let_go(view.obj)

    def array(
        self, offset: int, dtype: np.dtype[np.generic], shape: tuple[int, ...], what: str
    ) -> np.ndarray:
        """An array that lies in the file, read-only; copied only where it is not aligned."""
        size = math.prod(shape) * dtype.itemsize
        found = np.frombuffer(self.view(offset, size, what), np.uint8)
        check_bools(self.path, found, dtype, what)
        found = found.view(dtype).reshape(shape)
        return found if found.flags.aligned else read_only(found.copy())


def shown(name: str) -> str:
    """A name in a message, of any length in the file."""
    return repr(name if len(name) <= 200 else f"{name[:197]}...")


def check_bools(path: str, found: np.ndarray, dtype: np.dtype[Any], what: str) -> None:
    """Refuses bytes that are no truth values: NumPy counts each of them as it likes."""
    if dtype == np.bool_ and found.max(initial=0) > 1:
        raise file_error(path, f"{what} is of bool and holds the byte {found.max()}")


def check_shape(path: str, shape: Sequence[int], dtype: np.dtype[Any], what: str) -> None:
    """Refuses a shape that no array of NumPy can have: too many axes, or sizes beyond memory."""
    if len(shape) > MAX_RANK:
        raise file_error(path, f"{what} has {len(shape)} axes, and arrays have {MAX_RANK} at most")
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > sys.maxsize:
        raise file_error(path, f"{what} has sizes whose product is beyond any memory")


def release(array: np.ndarray) -> None:
    """Lets the pages go that a map has read: they are in the file, and can be read once more."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        _let_go(base.obj)


def _let_go(mapped: object) -> None:
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def path_text(path: object) -> str:
    """A path that was given, as text."""
    if not isinstance(path, str | os.PathLike):
        raise bad_argument("path", path, "text or a pathlib.Path")
    text = os.fsdecode(path)
    if "\0" in text:
        raise bad_argument("path", path, "a path, which has no zero in it")
    return text


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def beside(folder: str, name: str, path: str) -> str:
    """The path of a file that another one, ``path``, names; in its folder or below, or refused."""
    parts = name.replace("\\", "/").split("/")
    if os.path.isabs(name) or ".." in parts or "\0" in name or not name:
        raise file_error(
            path,
            f"it names the file {name!r}, which is not in its folder",
            fix="put the files of a checkpoint into one folder.",
        )
    return os.path.join(folder, name)

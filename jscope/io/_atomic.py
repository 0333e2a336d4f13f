"""Files that are whole or not there: written beside, synced, and put in place by one call."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

from jscope.errors import FileError
from jscope.io._file import file_error, missing_file


@contextlib.contextmanager
def replacing(path: str, mode: int | None) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` once all of it is on the disk.

    A kill at any point leaves the old one whole, an exception leaves nothing else either.

    Args:
      path: The file, no symbolic link.
      mode: Its permissions; None for those of any new file.
    """
    # Its own name: that of the file and more could be too long for the file system.
    beside = os.path.join(os.path.dirname(path), f".jscope-{secrets.token_hex(8)}.tmp")
    try:
        with new_file(beside, mode) as file:
            yield file
        os.replace(beside, path)
    except BaseException:  # an interrupt from the keyboard too
        remove(beside)
        raise
    sync_folder(path)


@contextlib.contextmanager
def new_file(path: str, mode: int | None) -> Iterator[BinaryIO]:
    """A new file, on the disk when it is closed, with the permissions of a plain write."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        yield file
        file.flush()
        os.fsync(file.fileno())


def remove(path: str) -> None:
    """Removes a file if it is there and can be removed."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def sync_folder(path: str) -> None:
    """Puts the names in the folder of ``path`` onto the disk, where the file system can."""
    with contextlib.suppress(OSError):
        number = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def mode_of(path: str) -> int | None:
    """The permissions of the file that a write would replace; None where there is none.

    Raises:
      FileError: (ValueError, OSError) a plain write could not write there.
    """
    try:
        found = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found):
        kind = "a folder" if stat.S_ISDIR(found) else "no regular file"
        raise file_error(path, f"it cannot be written: there is {kind} of this name")
    if not os.access(path, os.W_OK):  # which a rename would not ask for
        raise file_error(path, "it cannot be written (permission denied)")
    return stat.S_IMODE(found)


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Gives the errors of the system while ``path`` is written as those of jscope."""
    try:
        yield
    except FileError:  # of a file that is read meanwhile
        raise
    except (FileNotFoundError, NotADirectoryError):
        folder = os.path.dirname(path)
        raise missing_file(
            path, f"there is no folder {folder}", "make it by os.makedirs(folder)."
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise file_error(path, f"it cannot be written ({reason})") from None

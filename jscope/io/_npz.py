"""Arrays in NumPy's files: ``.npz`` archives, and ``.npy`` of one array or of a pickled dict."""

from __future__ import annotations

import functools
import math
import os
import pickle
from typing import Any

import jax
import numpy as np

from jscope.errors import FileError, JscopeError
from jscope.io._checkpoint import Checkpoint, Tensor
from jscope.io._dtypes import SAFETENSORS_WORDS, is_numpys
from jscope.io._file import File, check_bools, check_shape, file_error, read_only, shown
from jscope.io._npy import MAX_HEADER, Header, formed, mapped, parse
from jscope.io._tree import named_leaves
from jscope.io._unzip import beginning, check_crc, unpacked
from jscope.io._zip import Member, members


def open_npz(path: str, *, verify: bool) -> Checkpoint:
    """The arrays of an archive; what is in it and is no array of numbers is in the notes."""
    file = File(path)
    tensors = dict[str, Tensor]()
    notes = dict[str, str]()
    for member in members(file):
        name = member.name.removesuffix(".npy")
        if name == member.name:
            notes[name] = "a file in the archive, no array"
            continue
        header = _header(file, member)
        if header.note:
            notes[name] = header.note
            if verify:  # now, because no read will follow
                check_crc(file, member)
        else:
            tensors[name] = _tensor(file, member, header, verify)
    return Checkpoint(path, "npz", tensors, notes=notes)


def _header(file: File, member: Member) -> Header:
    what = shown(member.name)

    def error(problem: str) -> FileError:
        return file_error(file.path, f"{what} {problem}", offset=member.start)

    header = parse(beginning(file, member, MAX_HEADER), error)
    _check_size(file, header, member.size, member.start, what)
    return header


def _check_size(file: File, header: Header, size: int, offset: int, what: str) -> None:
    if header.stored.kind in "OT" or not header.stored.itemsize:
        return  # pickled, or records, whose size is not known here
    check_shape(file.path, header.shape, header.stored, what)
    needed = header.size + math.prod(header.shape) * header.stored.itemsize
    if needed != size:
        raise file_error(
            file.path,
            f"{what} has {size} bytes, and {header.dtype} of shape {header.shape} needs {needed}",
            offset=offset,
        )


def _tensor(file: File, member: Member, header: Header, verify: bool) -> Tensor:
    if member.deflated:
        return Tensor(
            header.shape, header.dtype, functools.partial(_unpacked, file, member, header, verify)
        )
    return Tensor(
        header.shape,
        header.dtype,
        functools.partial(mapped, file, member.start + header.size, header, shown(member.name)),
        functools.partial(check_crc, file, member) if verify else None,
    )


def _unpacked(file: File, member: Member, header: Header, verify: bool) -> np.ndarray:
    raw = unpacked(file, member, verify=verify)[header.size :]
    check_bools(file.path, raw, header.stored, shown(member.name))
    return formed(raw, header)


def open_npy(path: str, *, allow_pickle: bool) -> Checkpoint:
    """One array, under the name of the file; or the arrays of a pickled tree."""
    file = File(path)

    def error(problem: str) -> FileError:
        return file_error(path, f"it {problem}")

    header = parse(bytes(file.view(0, min(file.size, MAX_HEADER), "the header")), error)
    if header.stored.kind == "O":
        if not allow_pickle:
            raise _pickled(path)
        pickled = file.view(header.size, file.size - header.size, "the objects")
        return _of_pickle(path, pickled)
    name = os.path.splitext(os.path.basename(path))[0]
    _check_size(file, header, file.size, 0, "the array")
    if header.note:
        return Checkpoint(path, "npy", {}, notes={name: header.note})
    read = functools.partial(mapped, file, header.size, header, "the array")
    return Checkpoint(path, "npy", {name: Tensor(header.shape, header.dtype, read)})


def _pickled(path: str) -> FileError:
    return file_error(
        path,
        "it holds pickled Python objects, and to unpickle them can run any code",
        fix="if you trust where it comes from: jscope.io.open(path, allow_pickle=True).",
    )


def _of_pickle(path: str, data: memoryview) -> Checkpoint:
    try:
        # latin1 reads the arrays that Python 2 pickled, and changes nothing in others.
        objects = pickle.loads(data, encoding="latin1")
        leaves = dict(named_leaves(objects.tolist()))
    except JscopeError as error:
        raise file_error(path, f"its objects are no named arrays ({error.args[0]})") from None
    except Exception as error:  # of whatever class is in the pickle
        reason = f"{type(error).__name__}: {error}"
        raise file_error(path, f"its objects cannot be unpickled ({reason[:200]})") from None
    tensors = dict[str, Tensor]()
    notes = dict[str, str]()
    for name, leaf in leaves.items():
        array = _as_numbers(leaf)
        if array is None:
            notes[name] = f"{type(leaf).__name__}, no numbers"
        else:
            tensors[name] = Tensor(array.shape, array.dtype, functools.partial(np.asarray, array))
    return Checkpoint(path, "npy", tensors, notes=notes)


def _as_numbers(leaf: Any) -> np.ndarray | None:
    """A read-only array in the byte order of the machine; None for what has no numbers."""
    if not isinstance(leaf, np.ndarray | np.generic | jax.Array | bool | int | float | complex):
        return None
    array = np.asarray(leaf)
    if not (is_numpys(array.dtype) or array.dtype in SAFETENSORS_WORDS):
        return None
    return read_only(array.astype(array.dtype.newbyteorder("="), copy=True))

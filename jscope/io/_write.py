"""Tensors into open files, one in memory at a time."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from typing import IO, BinaryIO, TypeAlias

import numpy as np

from jscope.errors import ArgumentError
from jscope.io._checkpoint import Tensor
from jscope.io._file import PIECE, release
from jscope.io._safetensors import MAX_HEADER, header_of

Tensors: TypeAlias = Mapping[str, Tensor]

_ALIGNMENT = 64  # of arrays within an .npz file, so that they can be mapped
_ZIP64 = 20  # bytes of extra field
_PADDING = struct.Struct("<HHH")  # an extra field that zipalign knows, and all others skip
_PADDING_KIND = 0xD935


def write_safetensors(file: BinaryIO, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """The tensors, the widest dtypes first, so that each is aligned."""
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header = header_of(
        {name: (tensors[name].shape, tensors[name].dtype) for name in names}, metadata
    )
    if len(header) - 8 > MAX_HEADER:
        raise ArgumentError(
            f"The names and the metadata take {len(header)} bytes, and the header of a safetensors "
            f"file {MAX_HEADER} at most.",
            {"fix": "save less metadata, or pass max_shard_bytes."},
            argument="metadata",
            value=str(len(header)),
        )
    file.write(header)
    for name in names:
        _write(file, tensors[name])


def _write(file: IO[bytes], tensor: Tensor) -> None:
    """The elements of a tensor in the order of C."""
    for part in [tensor.read()] if tensor.parts is None else tensor.parts():
        _write_array(file, part)


def _write_array(file: IO[bytes], array: np.ndarray) -> None:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if array.dtype == np.bool_:
        flat = (flat != 0).view(np.uint8)  # a view of other bytes may hold more than 0 and 1
    for at in range(0, flat.size, PIECE):
        file.write(flat[at : at + PIECE].data)
        release(array)


def write_npz(file: BinaryIO, tensors: Tensors) -> None:
    """An archive as ``numpy.savez`` writes it, whose arrays are aligned."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, tensor in tensors.items():
            info = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o600 << 16  # as numpy.savez
            info.extra = _padding(file.tell(), info)
            with archive.open(info, "w", force_zip64=True) as member:
                descr = np.lib.format.dtype_to_descr(tensor.dtype)
                np.lib.format.write_array_header_1_0(
                    member, {"descr": descr, "fortran_order": False, "shape": tensor.shape}
                )
                _write(member, tensor)


def _padding(at: int, info: zipfile.ZipInfo) -> bytes:
    """The extra field after which an array of the member at ``at`` begins aligned."""
    start = at + 30 + len(info.filename.encode("utf-8")) + _PADDING.size + _ZIP64
    size = -start % _ALIGNMENT
    return _PADDING.pack(_PADDING_KIND, 2 + size, _ALIGNMENT) + bytes(size)

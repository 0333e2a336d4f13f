"""What people will try to open and this package does not read: what it is, and what to do."""

from __future__ import annotations

import os

from jscope.errors import FileError
from jscope.io._file import file_error

_TORCH = (
    "a PyTorch file, which can only be read by PyTorch",
    "in PyTorch: safetensors.torch.save_file(torch.load(path, weights_only=True), "
    "'weights.safetensors').",
)
_CKPT = (
    "a checkpoint of PyTorch Lightning, or a damaged one of TensorFlow",
    "if it is PyTorch's, save its state_dict by safetensors.torch.save_file.",
)
_KERAS = (
    "a file of Keras (HDF5)",
    "in Keras: load it, and numpy.savez('weights.npz', **{w.path: w.numpy() for w in "
    "model.weights}).",
)
_MSGPACK = (
    "a file of Flax (msgpack)",
    "in Flax: jscope.io.save('weights.safetensors', flax.serialization.msgpack_restore(bytes)).",
)
_ORBAX = (
    "a checkpoint of orbax",
    "restore it by orbax: orbax.checkpoint.StandardCheckpointer().restore(path, specs.params()).",
)
_GRAPH = ("a graph of TensorFlow", "open the variables beside it, a checkpoint or a SavedModel.")
_GGUF = ("a GGUF file, whose weights are quantized", "take the safetensors of the same model.")
_ONNX = ("an ONNX graph", "save its initializers by numpy.savez.")
_LFS = (
    "a pointer of Git LFS, which stands for a file that is not there",
    "run git lfs pull, or download the file itself.",
)
_PAGE = ("a web page", "download the file itself: on a page about it, this is its raw link.")
_PACKED = ("a packed file", "unpack it, and open what is in it.")
_PICKLE = ("a pickle of Python", "load it by pickle, and save its arrays by jscope.io.save.")

_BEGINNINGS = {
    b"\x89HDF\r\n\x1a\n": _KERAS,
    b"GGUF": _GGUF,
    b"version https://git-lfs": _LFS,
    b"<!DOCTYPE": _PAGE,
    b"<!doctype": _PAGE,
    b"<html": _PAGE,
    b"\x1f\x8b": _PACKED,
    b"BZh": _PACKED,
    b"\xfd7zXZ": _PACKED,
    b"(\xb5/\xfd": _PACKED,
    b"7z\xbc\xaf": _PACKED,
}
_ENDINGS = {
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".bin": _TORCH,
    ".ckpt": _CKPT,
    ".h5": _KERAS,
    ".hdf5": _KERAS,
    ".keras": _KERAS,
    ".msgpack": _MSGPACK,
    ".gguf": _GGUF,
    ".onnx": _ONNX,
    ".pb": _GRAPH,
    ".pbtxt": _GRAPH,
    ".pkl": _PICKLE,
    ".pickle": _PICKLE,
    ".tar": _PACKED,
}
_CAN_BE_READ = "TensorFlow's (.index), .safetensors, .npz and .npy files can be."
_OF_ORBAX = ("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt")


def begins_as_foreign(path: str, beginning: bytes) -> FileError | None:
    """The error of a file that begins as one of another kind."""
    for mark, (what, fix) in _BEGINNINGS.items():
        if beginning.startswith(mark):
            return file_error(path, f"it is {what}", fix=fix)
    # A zip archive of PyTorch or of Keras: its first member says so.
    first = beginning[30:] if beginning.startswith(b"PK\3\4") else b""
    size = int.from_bytes(beginning[26:28], "little")
    for name, (what, fix) in {b"data.pkl": _TORCH, b"metadata.json": _KERAS}.items():
        if first[:size].endswith(name):
            return file_error(path, f"it is {what}", fix=fix)
    return None


def ends_as_foreign(path: str) -> FileError:
    """The error of a file that is none of those that can be read."""
    if found := _by_ending(path):
        return file_error(path, f"by its name it is {found[0]}", fix=found[1])
    return file_error(path, "it is no checkpoint that can be read", fix=_CAN_BE_READ)


def _by_ending(name: str) -> tuple[str, str] | None:
    """What a file is by the end of its name, and what to do about it."""
    return _ENDINGS.get(os.path.splitext(name)[1].lower())


def foreign_folder(path: str, names: list[str]) -> FileError:
    """The error of a folder that holds nothing that can be read."""
    inner = [os.path.join(path, name, "_METADATA") for name in ("default", "params")]
    if any(name in names for name in _OF_ORBAX) or any(os.path.exists(name) for name in inner):
        return file_error(path, f"it is {_ORBAX[0]}", fix=_ORBAX[1])
    for name in sorted(names):
        if found := _by_ending(name):
            return file_error(path, f"{name} in it is by its name {found[0]}", fix=found[1])
    return file_error(path, "nothing in this folder can be read", fix=_CAN_BE_READ)

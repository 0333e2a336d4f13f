"""save: arrays into a file by name, all of it or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from jscope._arguments import bad_argument, check_size
from jscope._params import PyTree
from jscope._report import array_type, brief
from jscope.errors import ArgumentError, InvalidNameError
from jscope.io._atomic import mode_of, new_file, remove, replacing, sync_folder, writing
from jscope.io._checkpoint import Checkpoint, Tensor
from jscope.io._dtypes import SAFETENSORS_WORDS, is_numpys
from jscope.io._file import path_text
from jscope.io._shards import SUFFIX, index_text, own_listed, shard_names
from jscope.io._tree import tensors_of
from jscope.io._write import Tensors, write_npz, write_safetensors

_CASTS = {
    "complex128": "save it as .npz, or cast it to complex64.",
    "int4": "cast it to int8.",
    "uint4": "cast it to uint8.",
    "float128": "save it as .npz, or cast it to float64.",
}


def save(
    path: str | os.PathLike[str],
    tree: PyTree,
    *,
    metadata: Mapping[str, str] | None = None,
    max_shard_bytes: int | None = None,
) -> None:
    """Writes arrays by name into a ``.safetensors`` or ``.npz`` file, which ``open`` reads.

    The file is written beside, synced, and put in place by one call of the system: a kill at any
    point leaves the old one whole. Arrays of any strides and byte order are written as the values
    they hold, one at a time, those of JAX from wherever they are; a ``Checkpoint`` of any size
    passes through in the memory of its largest tensor. What a kill leaves beside it can be removed:
    files called ``.jscope-*.tmp``, and parts that no index lists.

    Args:
      path: Where to. The suffix says the format: ``.safetensors`` holds what JAX computes with but
        complex128 and integers of less than a byte; ``.npz`` what NumPy has of itself, so neither
        bfloat16 nor float8.
      tree: Params or state; a flat mapping, whose names may hold slashes, ``w`` and ``w/Adam``
        both; a ``Checkpoint``, without its notes; or any pytree, such as the state of an
        optimizer, where the path to a leaf is its name: ``0/mu/a/w``.
      metadata: Text by name, for ``.safetensors``. None keeps a ``Checkpoint``'s own there.
      max_shard_bytes: Above this many bytes of tensors, several files and
        ``<path>.index.json``, as Hugging Face has it; for ``.safetensors``. ``open`` takes
        ``path`` either way, and what an earlier ``save`` left of the other way is removed.

    Raises:
      ArgumentError: (ValueError, TypeError) a suffix of neither format, a leaf that is no array or
        number, a dtype that the format has not, a PRNG key, or an array that is in part with
        other processes.
      CheckError: (ValueError) a key is neither text nor an integer.
      NameClashError: (ValueError) two leaves have one name.
      InvalidNameError: (ValueError) a name is empty, ``__metadata__``, or one that the format
        cannot hold.
      TransformError: (ValueError) a leaf is traced.
      FileError: (ValueError, OSError) it cannot be written, or a ``Checkpoint`` cannot be read.

    Example:
      >>> import pathlib, tempfile
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
      >>> js.io.save(path, {"net": {"w": jnp.ones([3, 4])}}, metadata={"step": "7"})
      >>> checkpoint = js.io.open(path)
      >>> checkpoint.shapes["net/w"], checkpoint.metadata["step"]
      ((3, 4), '7')
    """
    given = path_text(path)
    suffix = os.path.splitext(given)[1]
    if suffix not in (".safetensors", ".npz"):
        raise _bad_suffix(given)
    texts = _check_metadata(metadata)
    tensors = tensors_of(tree)
    target = os.path.realpath(given)  # a plain write follows links too
    if suffix == ".npz":
        if texts or max_shard_bytes is not None:
            raise _not_in_npz("metadata" if texts else "max_shard_bytes")
        _check_npz(tensors)
        with writing(target), replacing(target, mode_of(target)) as file:
            write_npz(file, tensors)
        return
    _check_safetensors(tensors)
    if metadata is None and isinstance(tree, Checkpoint):
        texts = dict(tree.metadata)
    if max_shard_bytes is None:
        parts: Sequence[Tensors] = [tensors]
    else:
        parts = _split(tensors, check_size("max_shard_bytes", max_shard_bytes))
    with writing(target):
        if len(parts) == 1:
            _save_one(target, parts[0], texts)
        else:
            _save_shards(target, parts, texts)


def _save_one(path: str, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    index = path + SUFFIX
    old = own_listed(index)
    with replacing(path, _mode(path)) as file:
        write_safetensors(file, tensors, metadata)
    _remove(path, [os.path.basename(index), *old])


def _save_shards(path: str, parts: Sequence[Tensors], metadata: Mapping[str, str]) -> None:
    index = path + SUFFIX
    old, mode = own_listed(index), _mode(path)
    names = shard_names(path, len(parts))
    try:
        for name, part in zip(names, parts, strict=True):
            with new_file(os.path.join(os.path.dirname(path), name), mode) as file:
                write_safetensors(file, part, metadata)
        sync_folder(path)
        with replacing(index, mode) as file:
            file.write(index_text(dict(zip(names, parts, strict=True)), metadata))
    except BaseException:
        if names[0] not in own_listed(index):  # an interrupt may come after it was put in place
            _remove(path, names)
        raise
    if os.path.lexists(path):
        os.unlink(path)  # until here, it is what open takes
        sync_folder(path)
    _remove(path, old)


def _mode(path: str) -> int | None:
    """The permissions of what is there, in one file or in several."""
    modes = [mode_of(path), mode_of(path + SUFFIX)]
    return next((mode for mode in modes if mode is not None), None)


def _remove(path: str, names: Iterable[str]) -> None:
    """Removes files beside ``path``; what cannot be removed is not in the way."""
    for name in names:
        remove(os.path.join(os.path.dirname(path), name))


def _split(tensors: Tensors, most: int) -> Sequence[Tensors]:
    """The tensors in turn, in parts of ``most`` bytes, or of one tensor that has more."""
    parts, free = [dict[str, Tensor]()], most
    for name, tensor in tensors.items():
        if tensor.nbytes > free and parts[-1]:
            parts.append({})
            free = most
        parts[-1][name] = tensor
        free -= tensor.nbytes
    return parts


def _bad_suffix(path: str) -> ArgumentError:
    return ArgumentError(
        f"The path must end in .safetensors or .npz, got {path!r}.",
        {"fix": "name it .safetensors, which holds all that JAX computes with, and metadata."},
        argument="path",
        value=brief(path),
    )


def _check_metadata(metadata: object) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise bad_argument("metadata", metadata, "a mapping of text to text")
    for key, value in metadata.items():
        for text in (key, value):
            if not isinstance(text, str):
                raise bad_argument("metadata", text, f"text throughout (at {key!r})")
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                raise bad_argument("metadata", text, "text, no half of a surrogate pair") from None
    return dict(metadata)


def _not_in_npz(argument: str) -> ArgumentError:
    return ArgumentError(
        f"An .npz file has no place for {argument}.",
        {"fix": "save it as .safetensors."},
        argument=argument,
        value="",
    )


def _check_npz(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if not is_numpys(tensor.dtype):
            raise _bad_dtype(name, tensor, "npz", "save it as .safetensors, or cast it.")
        if "\0" in name or name.endswith(".npy"):
            raise InvalidNameError(
                f"{name!r} cannot be the name of a variable in an .npz file.",
                {"fix": "save it as .safetensors, or rename it."},
                name=name,
                kind="variable",
            )


def _check_safetensors(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype not in SAFETENSORS_WORDS:
            fix = _CASTS.get(str(tensor.dtype), "cast it to a dtype that the format has.")
            raise _bad_dtype(name, tensor, "safetensors", fix)


def _bad_dtype(name: str, tensor: Tensor, kind: str, fix: str) -> ArgumentError:
    shown = array_type(tensor.shape, tensor.dtype)
    return ArgumentError(
        f"{name} cannot be saved as {kind}: the format has no {tensor.dtype}, and it is {shown}.",
        {"fix": fix},
        argument="tree",
        value=shown,
    )

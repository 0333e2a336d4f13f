"""open: one mapping of names to arrays, whatever wrote the file."""

from __future__ import annotations

import os

from jscope._arguments import check_flag
from jscope._report import near_names, quoted
from jscope.errors import FileError, MissingFileError
from jscope.io._checkpoint import Checkpoint
from jscope.io._file import File, file_error, missing_file, path_text
from jscope.io._foreign import begins_as_foreign, ends_as_foreign, foreign_folder
from jscope.io._npy import MAGIC
from jscope.io._npz import open_npy, open_npz
from jscope.io._safetensors import open_safetensors
from jscope.io._shards import SUFFIX, index_of, is_shard, listed, open_index
from jscope.io._tensorflow import is_tensorflow, open_tensorflow, says_tensorflow

# A save in between may have replaced the files of an index, or the one by the other. What is
# missing because of that has another name each time, what is missing has not.
_TRIES = 3
_MOST_TRIES = 100


def open(  # noqa: A001 # as gzip.open
    path: str | os.PathLike[str], *, verify: bool = True, allow_pickle: bool = False
) -> Checkpoint:
    """Opens a checkpoint: its names, shapes and dtypes now, each tensor when it is asked for.

    What it is shows in what is in it:

    - TensorFlow's checkpoints, V2 and V1, by their prefix, ``.index`` file, folder or SavedModel;
    - ``.safetensors``, one file or several with their ``.index.json``;
    - ``.npz`` archives, ``.npy`` arrays under the name of their file, and pickled dicts of arrays
      in ``.npy``, whose nested keys are joined to names;
    - a folder with one of these.

    Whatever is no array of numbers stands in the checkpoint's ``notes``, as does a tensor that is
    in a shard and not in the index. No package but JAX's own is needed.

    Args:
      path: A file, a folder, or the prefix of a TensorFlow checkpoint.
      verify: Whether checksums are compared where the format has them (TensorFlow, ``.npz``): of
        a tensor at its first read.
      allow_pickle: Whether Python objects in a ``.npy`` file are unpickled, which can run any code
        that the file's author liked.

    Returns:
      A Checkpoint: a mapping of names to read-only NumPy arrays.

    Raises:
      FileError: (ValueError, OSError) it is no checkpoint, a damaged one, or one of several in a
        folder.
      MissingFileError: (FileNotFoundError) there is no such file.
      ArgumentError: (ValueError, TypeError) ``path`` is no path.

    Example:
      >>> import pathlib, tempfile
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
      >>> js.io.save(path, {"net": {"w": jnp.ones([3, 4]), "b": jnp.zeros([4])}})
      >>> checkpoint = js.io.open(path)
      >>> list(checkpoint), checkpoint["net/w"].shape
      (['net/b', 'net/w'], (3, 4))
    """
    text = path_text(path)
    checked = check_flag("verify", verify)
    unpickle = check_flag("allow_pickle", allow_pickle)
    said: list[str] = []
    while True:
        try:
            return _opened(text, checked, unpickle)
        except MissingFileError as error:
            said.append(str(error))
            if said[-_TRIES:] == said[-1:] * _TRIES or len(said) == _MOST_TRIES:
                raise


def _opened(path: str, verify: bool, allow_pickle: bool) -> Checkpoint:
    if os.path.isdir(path):
        path = _in_folder(path)
    index = index_of(path)
    return open_index(index) if index else _of_file(path, verify, allow_pickle)


def _of_file(path: str, verify: bool, allow_pickle: bool) -> Checkpoint:
    """What a file, a prefix or a folder of TensorFlow's holds."""
    beginning = _beginning(path)
    if is_tensorflow(path):  # first: its files of data may begin with anything
        return open_tensorflow(path, verify=verify)
    if not os.path.exists(path):
        raise _missing(path)
    foreign = begins_as_foreign(path, beginning)
    if foreign:
        raise foreign
    if beginning.startswith((b"PK\3\4", b"PK\5\6")):
        return open_npz(path, verify=verify)
    if beginning.startswith(MAGIC):
        return open_npy(path, allow_pickle=allow_pickle)
    if path.endswith(SUFFIX):
        return open_index(path)
    if path.endswith(".safetensors") or beginning[8:9] == b"{":
        return open_safetensors(path)
    if path.endswith(".npz"):
        return open_npz(path, verify=verify)
    raise ends_as_foreign(path)


def _beginning(path: str) -> bytes:
    """The first bytes of a file; none of a folder, or where there is no file."""
    if os.path.isdir(path) or not os.path.lexists(path):
        return b""
    file = File(path)
    return bytes(file.view(0, min(file.size, 256), "the beginning"))


def _missing(path: str) -> FileError:
    folder, name = os.path.split(path)
    if not os.path.isdir(folder or "."):
        return missing_file(path, f"there is no folder {folder}")
    near = near_names(name, _names_in(folder or "."))
    return missing_file(
        path, "there is no such file", f"near it there is {quoted(near)}." if near else None
    )


def _names_in(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise file_error(folder, f"this folder cannot be read ({reason})") from None


def _in_folder(folder: str) -> str:
    """The one checkpoint in a folder; the folder itself if TensorFlow wrote it."""
    if says_tensorflow(folder):
        return folder
    names = [name for name in _names_in(folder) if not name.startswith(".")]
    indexes = [name for name in names if name.endswith(".safetensors" + SUFFIX)]
    parts = {part for name in indexes for part in listed(os.path.join(folder, name))}
    whole = [name for name in names if name.endswith(".safetensors") and not is_shard(name)]
    # A file and an index of its name are one checkpoint; index_of says which of them counts.
    single = {*indexes, *whole} - parts
    found = {os.path.join(folder, name.removesuffix(SUFFIX)) for name in single}
    found |= {os.path.join(folder, name) for name in names if name.endswith(".npz")}
    if is_tensorflow(folder):
        found.add(folder)
    if len(found) > 1:
        raise _several(folder, sorted(found))
    if found:
        return found.pop()
    if any(is_shard(name) for name in names):
        raise file_error(
            folder,
            "it has files that are parts of a checkpoint, and no index of them",
            fix=f"fetch the file that ends in .safetensors{SUFFIX} too.",
        )
    raise foreign_folder(folder, names)


def _several(folder: str, found: list[str]) -> FileError:
    names = [os.path.basename(path) if path != folder else "TensorFlow's" for path in found]
    return file_error(
        folder,
        f"it has {len(found)} checkpoints: {', '.join(names)}",
        fix="open one of them by its own path.",
    )

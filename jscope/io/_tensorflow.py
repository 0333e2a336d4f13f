"""Where TensorFlow's checkpoints are: all that people hand over for one."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable

from jscope._report import near_names, quoted, some_of
from jscope.errors import FileError
from jscope.io._bundle import open_bundle
from jscope.io._checkpoint import Checkpoint
from jscope.io._file import File, beside, file_error, missing_file
from jscope.io._table import is_table
from jscope.io._tf1_file import open_tf1

_STATE = "checkpoint"  # a file of text that names the newest checkpoint of its folder
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
_VARIABLES = "variables"  # of a SavedModel: a folder, and the prefix in it

_SHARD = re.compile(r"(.+)-(?:\d{5}|\?{5})-of-(\d{5})", re.DOTALL)
_SUFFIX = re.compile(r"(.+)\.(index|meta|data-\d{5}-of-\d{5})", re.DOTALL)
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]|\w+://")

_STRING = rb"""(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_NEWEST = re.compile(
    rb"^[ \t]*model_checkpoint_path\s*:\s*(%s(?:\s*%s)*)" % (_STRING, _STRING), re.MULTILINE
)
_IN_STRING = re.compile(rb"\\[xX]([0-9a-fA-F]{1,2})|\\([0-7]{1,3})|\\?(.)", re.DOTALL)
_LETTERS = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))
_STATE_READ = 1 << 20  # bytes; the newest checkpoint is named first


def is_tensorflow(path: str) -> bool:
    """Whether a path is for ``open_tensorflow``, from names and the last bytes of files."""
    if os.path.isdir(path):
        return says_tensorflow(path) or bool(_candidates(path))
    name = os.path.basename(path)
    if os.path.exists(path) and (name in (_STATE, *_SAVED_MODEL) or _SUFFIX.fullmatch(name)):
        return True
    tables = itertools.chain.from_iterable(_tf1_files(path).values())
    return os.path.isfile(f"{path}.index") or any(map(is_table, tables))


def says_tensorflow(folder: str) -> bool:
    """Whether a folder has a file that says so, whatever else is in it."""
    return any(_has(folder, name) for name in (_STATE, *_SAVED_MODEL))


def open_tensorflow(path: str, *, verify: bool = True) -> Checkpoint:
    """Opens a checkpoint of TensorFlow by whatever people call it.

    Args:
      path: The prefix of a bundle; one of its files; a file of the first format, or the name that
        its shards share; a folder with a file ``checkpoint``, or with one checkpoint only; a
        SavedModel or its ``variables``.
      verify: Whether checksums are compared.

    Raises:
      FileError: (ValueError, OSError) there is no checkpoint, or it is damaged.
    """
    folder, name = os.path.split(path)
    if os.path.isdir(path):
        return _open_folder(path, verify)
    if name == _STATE and os.path.isfile(path) and not is_table(path):
        return _open_newest(folder, verify)
    if name in _SAVED_MODEL:
        return _open_saved_model(folder, verify)
    suffixed = _SUFFIX.fullmatch(path)
    # A prefix may itself end like that.
    if suffixed is None or os.path.isfile(f"{path}.index"):
        return _open_prefix(path, verify, _nothing_at)
    if suffixed[2] == "meta":
        return _open_prefix(suffixed[1], verify, _graph_only)
    return open_bundle(suffixed[1], verify=verify)


def _open_prefix(prefix: str, verify: bool, missing: Callable[[str], FileError]) -> Checkpoint:
    """The checkpoint that TensorFlow calls so; where there is none, ``missing`` makes the error."""
    if os.path.isfile(f"{prefix}.index"):
        return open_bundle(prefix, verify=verify)
    found = _tf1_files(prefix)
    if not found:
        raise missing(prefix)
    if len(found) > 1:
        counts = " and of ".join(map(str, sorted(found)))
        raise file_error(prefix, f"there are checkpoints of {counts} files here")
    ((count, files),) = found.items()
    if len(files) != count:
        raise missing_file(
            prefix, f"only {len(files)} of the {count} files of this checkpoint are there"
        )
    return open_tf1(prefix, files, verify=verify)


def _tf1_files(path: str) -> dict[int, list[str]]:
    """The files that a name, a shard or TensorFlow's pattern stands for in the first format.

    By how many they should be: there may be the shards of several checkpoints.
    """
    folder, name = os.path.split(path)
    shard = _SHARD.fullmatch(name)
    if shard is None and os.path.exists(path):
        return {1: [path]}
    prefix, count = (shard[1], int(shard[2])) if shard else (name, None)
    files: dict[int, list[str]] = {}
    for other in _names(folder):
        found = _SHARD.fullmatch(other)
        if found and found[1] == prefix and count in (None, int(found[2])):
            files.setdefault(int(found[2]), []).append(os.path.join(folder, other))
    return files


def _open_folder(folder: str, verify: bool) -> Checkpoint:
    if _has(folder, _STATE):
        return _open_newest(folder, verify)
    if any(_has(folder, name) for name in _SAVED_MODEL):
        return _open_saved_model(folder, verify)
    names = _candidates(folder)
    if not names:
        raise missing_file(folder, "there is no checkpoint of TensorFlow in this folder")
    if len(names) > 1:
        raise file_error(
            folder,
            f"this folder has {len(names)} checkpoints, {some_of(names)}, and no file "
            f"{_STATE!r} that says which is meant",
            fix=f"open one of them: {os.path.join(folder, names[-1])!r}.",
        )
    return _open_prefix(os.path.join(folder, names[0]), verify, _nothing_at)


def _candidates(folder: str) -> list[str]:
    """The names of the checkpoints in a folder."""
    names = _names(folder)
    bundles = [name.removesuffix(".index") for name in names if name.endswith(".index")]
    if bundles:
        return [name for name in bundles if is_table(os.path.join(folder, f"{name}.index"))]
    tables = [name for name in names if is_table(os.path.join(folder, name))]
    shards = {name: _SHARD.fullmatch(name) for name in tables}
    return sorted({shard[1] if shard else name for name, shard in shards.items()})


def _open_saved_model(folder: str, verify: bool) -> Checkpoint:
    def missing(_: str) -> FileError:
        return missing_file(
            folder, "this SavedModel has no variables, or its folder 'variables' was left behind"
        )

    return _open_prefix(os.path.join(folder, _VARIABLES, _VARIABLES), verify, missing)


def _open_newest(folder: str, verify: bool) -> Checkpoint:
    """The checkpoint that the file of this name says is the newest."""
    path = os.path.join(folder, _STATE)
    name = _newest(path)

    def missing(_: str) -> FileError:
        names = _candidates(folder)
        return missing_file(
            path,
            f"it names the checkpoint {name!r}, which is not in its folder",
            f"open another one by its own name: {some_of(names)}." if names else None,
        )

    # An absolute path is that of the machine where it was written.
    here = re.split(r"[/\\]", name)[-1] if _ABSOLUTE.match(name) else name
    return _open_prefix(beside(folder, here, path), verify, missing)


def _newest(path: str) -> str:
    """The path of a checkpoint that a file of text gives."""
    file = File(path)
    found = _NEWEST.search(file.view(0, min(file.size, _STATE_READ), "its text"))
    if found is None:
        raise file_error(
            path, "this is no file of TensorFlow's that names a checkpoint (model_checkpoint_path)"
        )
    strings = [string[1:-1] for string in re.findall(_STRING, found[1], re.DOTALL)]
    try:
        return b"".join(_IN_STRING.sub(_character, string) for string in strings).decode()
    except UnicodeDecodeError:
        raise file_error(
            path, "the name of the checkpoint is not text in UTF-8", offset=found.start(1)
        ) from None


def _character(found: re.Match[bytes]) -> bytes:
    """What a character of a string, or an escape, stands for."""
    hexadecimal, octal, other = found.groups()
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if octal:
        return bytes([int(octal, 8) & 0xFF])
    return bytes([_LETTERS.get(other[0], other[0])]) if len(found[0]) > 1 else bytes(other)


def _has(folder: str, name: str) -> bool:
    return os.path.isfile(os.path.join(folder, name))


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or os.curdir))
    except OSError:
        return []


def _nothing_at(path: str) -> FileError:
    near = near_names(os.path.basename(path), _candidates(os.path.dirname(path)))
    return missing_file(
        path,
        "there is no checkpoint of this name",
        f"there is {quoted(near)} in this folder." if near else None,
    )


def _graph_only(prefix: str) -> FileError:
    name = os.path.basename(prefix)
    return missing_file(
        f"{prefix}.meta",
        "this file has a graph and no weights, and the checkpoint is not beside it",
        f"the files {name}.index and {name}.data-... are needed, or a file {name} alone.",
    )

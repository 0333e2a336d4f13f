"""Checkpoints of several safetensors files, and the index that says which tensor is where."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping

from jscope.errors import FileError
from jscope.io._checkpoint import Checkpoint, Tensor
from jscope.io._file import File, beside, file_error, missing_file, shown
from jscope.io._json import Scanner
from jscope.io._safetensors import MAX_HEADER, open_safetensors

SUFFIX = ".index.json"
_TOTAL = "total_size"  # of the tensors, as Checkpoint.nbytes tells
_SHARD = re.compile(r".+-[0-9]{5}-of-[0-9]{5}\.safetensors", re.DOTALL)


def open_index(path: str) -> Checkpoint:
    """The tensors that an index lists, each in its shard; what it leaves out is in the notes."""
    places, metadata = read_index(path)
    folder = os.path.dirname(path)
    shards = {name: _shard(folder, name, path) for name in dict.fromkeys(places.values())}
    tensors, notes = dict[str, Tensor](), dict[str, str]()
    for name, shard in places.items():
        found = shards[shard]
        if name in found:
            tensors[name] = found._tensors[name]
        elif name in found.notes:
            notes[name] = found.notes[name]
        else:
            raise file_error(path, f"{shown(name)} is to be in {shard}, and is not there")
    for shard, found in shards.items():
        metadata = {**found.metadata, **metadata}
        unlisted = f"in {shard}, and the index does not list it"
        notes |= {name: unlisted for name in [*found, *found.notes] if name not in places}
    return Checkpoint(path, "safetensors", tensors, metadata=metadata, notes=notes)


def _shard(folder: str, name: str, index: str) -> Checkpoint:
    path = beside(folder, name, index)
    if not os.path.exists(path):
        raise missing_file(
            path, f"the index {os.path.basename(index)} names this file, and it is not there"
        )
    return open_safetensors(path)


def read_index(path: str) -> tuple[dict[str, str], dict[str, str]]:
    """Which file each tensor is in, and the metadata of an index."""
    file = File(path)
    if file.size > MAX_HEADER:
        raise file_error(path, f"an index has {MAX_HEADER} bytes at most, and it has {file.size}")
    text = Scanner(file, 0, file.size, "the index")
    places: dict[str, str] | None = None
    metadata = dict[str, str]()
    for key in text.keys():  # noqa: SIM118 # a scanner is no mapping
        if key == "weight_map":
            places = text.texts()
        elif text.at_object():
            found = {name: text.scalar() for name in text.keys()}  # noqa: SIM118
            metadata = found if key == "metadata" else metadata
        else:
            text.scalar()
    text.end()
    if places is None:
        raise file_error(path, "it has no weight_map, which says where each tensor is")
    metadata.pop(_TOTAL, None)
    return places, metadata


def index_text(shards: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, str]) -> bytes:
    """The text of an index, of the tensors in each file."""
    size = sum(tensor.nbytes for shard in shards.values() for tensor in shard.values())
    places = {name: file for file, shard in shards.items() for name in shard}
    index = {"metadata": {**metadata, _TOTAL: size}, "weight_map": places}
    return json.dumps(index, ensure_ascii=False, indent=2).encode("utf-8")


def shard_names(path: str, count: int) -> list[str]:
    """Names for the shards of ``path`` that no file has had before."""
    fresh = secrets.token_hex(6)
    stem = _stem(path)
    return [
        f"{stem}-{fresh}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)
    ]


def _stem(path: str) -> str:
    return os.path.basename(path).removesuffix(".safetensors")


def is_shard(name: str) -> bool:
    """Whether a file is named as one of several, by jscope or the Hugging Face way."""
    return bool(_SHARD.fullmatch(name))


def index_of(path: str) -> str | None:
    """The index that stands for ``path``, where no such file is; None if there is none either.

    A file is what was asked for, whatever lies beside it. So a save in several files has happened
    when it removes the file that was there, and one in a single file when that is in place.
    """
    if path.endswith(".safetensors") and not os.path.exists(path):
        for index in (path + SUFFIX, os.path.realpath(path) + SUFFIX):
            if os.path.exists(index):
                return index
    return None


def listed(index: str) -> set[str]:
    """The files that an index lists."""
    return set(read_index(index)[0].values())


def own_listed(index: str) -> list[str]:
    """Those of them that ``save`` has named; none of a damaged index, or of none."""
    stem = re.escape(_stem(index.removesuffix(SUFFIX)))
    own = re.compile(stem + r"-[0-9a-f]{12}-[0-9]{5}-of-[0-9]{5}\.safetensors")
    try:
        return [name for name in listed(index) if own.fullmatch(name)]
    except FileError:
        return []

"""TensorFlow's checkpoints, as it wrote them and damaged, read without it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_io import entries_of
from tf_tables import Message, message, shape_message, slice_message, table_of

from jscope.errors import FileError, MissingFileError
from jscope.io import _crc32c
from jscope.io._bundle import open_bundle
from jscope.io._checkpoint import Checkpoint
from jscope.io._crc32c import masked_crc32c
from jscope.io._dtypes import tensorflow_dtype
from jscope.io._ordered_code import part_key
from jscope.io._protobuf import BYTES, FIXED32, VARINT
from jscope.io._tensorflow import is_tensorflow, open_tensorflow
from jscope.io._tf1_file import open_tf1

DATA = Path(__file__).parent / "data" / "checkpoints"
TRUTH = json.loads((DATA / "truth.json").read_text())
FIX = "\n  fix:    the file is damaged: fetch it again."
FLOAT, STRING = 1, 7


def check_truth(checkpoint: Checkpoint, truth: dict[str, Any]) -> None:
    assert set(checkpoint) == set(truth)
    for name, (dtype, shape, data) in truth.items():
        assert checkpoint.dtypes[name].name == dtype
        assert checkpoint.shapes[name] == tuple(shape)
        array = checkpoint[name]
        assert array.dtype.name == dtype
        assert array.shape == tuple(shape)
        assert array.tobytes() == zlib.decompress(base64.b64decode(data)), name
        assert not array.flags.writeable


# What TensorFlow wrote


@pytest.mark.parametrize("folder", TRUTH)
@pytest.mark.parametrize("verify", [True, False])
def test_every_bit_that_tensorflow_wrote_is_read(folder: str, verify: bool) -> None:
    assert is_tensorflow(str(DATA / folder))
    checkpoint = open_tensorflow(str(DATA / folder), verify=verify)
    check_truth(checkpoint, TRUTH[folder])
    assert checkpoint.format == ("TF V1" if folder.startswith("v1") else "TF V2")
    assert list(checkpoint) == sorted(checkpoint, key=str.encode)


@pytest.mark.parametrize("folder", TRUTH)
def test_all_of_it_is_read_without_the_compiled_checksums(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_crc32c, "_compiled", lambda: None)
    check_truth(open_tensorflow(str(DATA / folder), verify=True), TRUTH[folder])


def test_what_has_no_array_is_in_the_notes() -> None:
    checkpoint = open_tensorflow(str(DATA / "v2"), verify=True)
    assert checkpoint.notes == {
        "notes/float4_e2m1fn": "it is of four-bit floats (DT_FLOAT4_E2M1FN)",
        "notes/int2": "it is of two-bit integers (DT_INT2)",
        "notes/int4": "it is of four-bit integers (DT_INT4)",
        "notes/string": "it is of strings (DT_STRING)",
        "notes/uint2": "it is of two-bit integers (DT_UINT2)",
        "notes/uint4": "it is of four-bit integers (DT_UINT4)",
        "notes/variant": "it is of objects of TensorFlow (DT_VARIANT)",
    }
    assert open_tensorflow(str(DATA / "v1"), verify=True).notes == {
        "notes/string": "it is of strings (DT_STRING)"
    }
    graph = "_CHECKPOINTABLE_OBJECT_GRAPH"
    assert set(open_tensorflow(str(DATA / "tf2"), verify=True).notes) == {graph}


def test_dtypes_that_are_not_known_are_told_by_their_number() -> None:
    assert tensorflow_dtype(99) == "its dtype is not known here (number 99)"
    assert tensorflow_dtype(101) == np.float32  # of a variable
    assert tensorflow_dtype(20) == "it is a resource of a running program (DT_RESOURCE)"
    assert [tensorflow_dtype(number) for number in (0, -1)] == [None, None]


def test_arrays_lie_in_the_file_where_they_are_aligned() -> None:
    for folder in ("v2", "v2_sharded", "v1"):
        checkpoint = open_tensorflow(str(DATA / folder), verify=True)
        arrays = [checkpoint[name] for name in checkpoint if checkpoint.dtypes[name] == np.float32]
        assert not all(array.flags.owndata for array in arrays)
        assert all(array.flags.aligned for array in arrays)


# How people call them

PATHS = {
    "v2/model.ckpt-1": "v2",
    "v2/model.ckpt-1.index": "v2",
    "v2/model.ckpt-1.data-00000-of-00001": "v2",
    "v2": "v2",
    "v2/": "v2",
    "v2_sharded/model.ckpt.data-00002-of-00003": "v2_sharded",
    "v2_partitioned/checkpoint": "v2_partitioned",
    "tf2": "tf2",
    "tf2/ckpt-1": "tf2",
    "saved_model": "saved_model",
    "saved_model/variables": "saved_model",
    "saved_model/variables/variables": "saved_model",
    "saved_model/variables/variables.index": "saved_model",
    "saved_model/saved_model.pb": "saved_model",
    "v1/model.ckpt": "v1",
    "v1": "v1",
    "v1_partitioned/model.ckpt": "v1_partitioned",
    "v1_sharded/model.ckpt": "v1_sharded",
    "v1_sharded/model.ckpt-?????-of-00003": "v1_sharded",
    "v1_sharded/model.ckpt-00001-of-00003": "v1_sharded",
}


@pytest.mark.parametrize("path", PATHS)
def test_a_checkpoint_is_found_by_whatever_it_is_called(path: str) -> None:
    assert is_tensorflow(f"{DATA}/{path}")
    check_truth(open_tensorflow(f"{DATA}/{path}", verify=True), TRUTH[PATHS[path]])


def test_a_name_in_the_working_directory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA / "v2_partitioned")
    for path in ("model.ckpt", "checkpoint", ".", "model.ckpt.index"):
        assert is_tensorflow(path)
        check_truth(open_tensorflow(path, verify=True), TRUTH["v2_partitioned"])
    monkeypatch.chdir(DATA / "v1_sharded")
    check_truth(open_tensorflow("model.ckpt", verify=True), TRUTH["v1_sharded"])


def test_the_graph_of_a_checkpoint_stands_for_it(tmp_path: Path) -> None:
    for folder, name in [
        ("v2", "model.ckpt-1"),
        ("v1", "model.ckpt"),
        ("v1_sharded", "model.ckpt"),
    ]:
        here = shutil.copytree(DATA / folder, tmp_path / folder)
        (here / f"{name}.meta").write_bytes(b"graph")
        path = str(here / f"{name}.meta")
        assert is_tensorflow(path)
        check_truth(open_tensorflow(path, verify=True), TRUTH[folder])
    alone = tmp_path / "alone.meta"
    alone.write_bytes(b"graph")
    assert missing(alone) == (
        f"{alone}: this file has a graph and no weights, and the checkpoint is not beside it.\n"
        "  fix:    the files alone.index and alone.data-... are needed, or a file alone "
        "alone."
    )


def test_a_prefix_may_end_as_a_file_does(tmp_path: Path) -> None:
    for path in (DATA / "v2_grid").iterdir():
        shutil.copy(path, tmp_path / path.name.replace("model", "my.index"))
    for path in ("my.index", "my.index.index", ""):
        check_truth(open_tensorflow(f"{tmp_path}/{path}", verify=True), TRUTH["v2_grid"])


OTHERS = ["x.safetensors", "model.safetensors.index.json", "x.npz", "none", "none.index"]


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_not_taken_for_checkpoints(name: str, tmp_path: Path) -> None:
    if not name.startswith("none"):
        (tmp_path / name).write_bytes(b"x" * 100)
    assert not is_tensorflow(f"{tmp_path}/{name}")
    assert not is_tensorflow(str(tmp_path))
    assert not is_tensorflow(str(tmp_path / "no such folder" / name))


def missing(path: Path | str) -> str:
    with pytest.raises(MissingFileError) as caught:
        open_tensorflow(str(path), verify=True)
    return str(caught.value)


def test_a_name_that_nothing_has_is_told_with_near_ones() -> None:
    path = f"{DATA}/v2/model.ckpt-2"
    assert not is_tensorflow(path)
    assert missing(path) == (
        f"{path}: there is no checkpoint of this name.\n"
        "  fix:    there is 'model.ckpt-1' in this folder."
    )


def test_a_folder_without_a_checkpoint_is_told(tmp_path: Path) -> None:
    assert missing(tmp_path) == f"{tmp_path}: there is no checkpoint of TensorFlow in this folder."
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert is_tensorflow(str(tmp_path))
    assert missing(tmp_path) == (
        f"{tmp_path}: this SavedModel has no variables, or its folder 'variables' was left behind."
    )


def test_a_folder_with_several_checkpoints_lists_them(tmp_path: Path) -> None:
    for number in range(2):
        for path in (DATA / "v2_grid").iterdir():
            shutil.copy(path, tmp_path / path.name.replace("model", f"model-{number}"))
    assert is_tensorflow(str(tmp_path))
    with pytest.raises(FileError) as caught:
        open_tensorflow(str(tmp_path), verify=True)
    assert str(caught.value) == (
        f"{tmp_path}: this folder has 2 checkpoints, 'model-0', 'model-1', and no file "
        "'checkpoint' that says which is meant.\n"
        f"  fix:    open one of them: '{tmp_path}/model-1'."
    )


def test_folders_with_the_names_of_files_are_no_checkpoint(tmp_path: Path) -> None:
    for name in ("checkpoint", "saved_model.pb"):
        (tmp_path / name).mkdir()
    assert not is_tensorflow(str(tmp_path))


def test_files_of_data_without_their_index_are_told(tmp_path: Path) -> None:
    path = shutil.copy(DATA / "v2_grid/model.data-00000-of-00001", tmp_path)
    assert is_tensorflow(path)
    assert missing(path) == f"{tmp_path}/model.index: there is no such file."


def test_a_file_of_data_that_is_not_there_is_told(tmp_path: Path) -> None:
    shutil.copytree(DATA / "v2_sharded", tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.ckpt.data-00001-of-00003").unlink()
    assert missing(tmp_path) == (
        f"{tmp_path}/model.ckpt.data-00001-of-00003: there is no such file.\n"
        "  fix:    a checkpoint is its .index and its .data files: fetch this one too."
    )


def test_shards_that_are_not_all_there_are_told(tmp_path: Path) -> None:
    shutil.copytree(DATA / "v1_sharded", tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.ckpt-00001-of-00003").unlink()
    path = f"{tmp_path}/model.ckpt"
    assert is_tensorflow(path)
    assert missing(path) == f"{path}: only 2 of the 3 files of this checkpoint are there."
    (tmp_path / "model.ckpt-00000-of-00002").write_bytes(b"")
    with pytest.raises(FileError) as caught:
        open_tensorflow(path, verify=True)
    assert str(caught.value) == f"{path}: there are checkpoints of 2 and of 3 files here."


# The file that names the newest checkpoint

STATES = {
    "as it is written": 'model_checkpoint_path: "model"\nall_model_checkpoint_paths: "old"\n',
    "of another machine": 'model_checkpoint_path: "/home/someone/runs/7/model"',
    "of another machine with other slashes": r'model_checkpoint_path: "C:\\runs\\7\\model"',
    "of a bucket": 'model_checkpoint_path: "gs://bucket/runs/model"',
    "after the others": 'all_model_checkpoint_paths: "old"\nmodel_checkpoint_path: "model"',
    "with little space": "model_checkpoint_path:'model'",
    "with much space": 'model_checkpoint_path  :\n  "model"  ',
    "in pieces": "model_checkpoint_path: \"mo\" 'del'",
    "in escapes": r'model_checkpoint_path: "\155\x6F\144e\l"',
    "of the folder itself": 'model_checkpoint_path: "./model"',
}


@pytest.mark.parametrize("name", STATES)
def test_the_newest_checkpoint_is_found_beside_the_file_that_names_it(
    name: str, tmp_path: Path
) -> None:
    for path in (DATA / "v2_grid").iterdir():
        shutil.copy(path, tmp_path)
        shutil.copy(path, tmp_path / path.name.replace("model", "old"))
    (tmp_path / "checkpoint").write_text(STATES[name])
    check_truth(open_tensorflow(str(tmp_path), verify=True), TRUTH["v2_grid"])


def test_names_with_escapes_are_those_of_the_files(tmp_path: Path) -> None:
    name = "ünd \"so'\tweiter"
    for path in (DATA / "v2_grid").iterdir():
        shutil.copy(path, tmp_path / path.name.replace("model", name))
    text = r'model_checkpoint_path: "\303\274nd \"so\'\tweiter"'
    (tmp_path / "checkpoint").write_text(text)
    check_truth(open_tensorflow(str(tmp_path), verify=True), TRUTH["v2_grid"])


def test_a_folder_below_may_be_named(tmp_path: Path) -> None:
    shutil.copytree(DATA / "v2_grid", tmp_path / "below")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "below/model"')
    check_truth(open_tensorflow(str(tmp_path), verify=True), TRUTH["v2_grid"])


BAD_STATES = {
    '"../other/model"': "it names the file '../other/model', which is not in its folder.\n"
    "  fix:    put the files of a checkpoint into one folder.",
    '"/elsewhere/.."': "it names the file '..', which is not in its folder.\n"
    "  fix:    put the files of a checkpoint into one folder.",
    '"/"': "it names the file '', which is not in its folder.\n"
    "  fix:    put the files of a checkpoint into one folder.",
    '"new"': "it names the checkpoint 'new', which is not in its folder.\n"
    "  fix:    open another one by its own name: 'model'.",
    "model": "this is no file of TensorFlow's that names a checkpoint (model_checkpoint_path).",
    '"model': "this is no file of TensorFlow's that names a checkpoint (model_checkpoint_path).",
    '"mo\n"': "this is no file of TensorFlow's that names a checkpoint (model_checkpoint_path).",
}


@pytest.mark.parametrize("text", BAD_STATES)
def test_a_file_that_names_no_checkpoint_here_is_refused(text: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / "v2_grid", tmp_path, dirs_exist_ok=True)
    state = tmp_path / "checkpoint"
    state.write_text(f"model_checkpoint_path: {text}")
    with pytest.raises(FileError) as caught:
        open_tensorflow(str(tmp_path), verify=True)
    assert str(caught.value) == f"{state}: {BAD_STATES[text]}"


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "checkpoint"
    state.write_bytes(b'model_checkpoint_path: "\xff"')
    with pytest.raises(FileError) as caught:
        open_tensorflow(str(tmp_path), verify=True)
    assert str(caught.value) == (
        f"{state}, byte 23: the name of the checkpoint is not text in UTF-8."
    )


# Lazily, and verified


def damaged_copy(folder: str, to: Path, file: str, at: int) -> str:
    shutil.copytree(DATA / folder, to, dirs_exist_ok=True)
    data = bytearray((to / file).read_bytes())
    data[at] ^= 1
    (to / file).write_bytes(data)
    return str(to)


def test_a_damaged_tensor_is_refused_when_it_is_read_and_no_other(tmp_path: Path) -> None:
    file = "model.ckpt.data-00001-of-00003"
    path = damaged_copy("v2_sharded", tmp_path, file, 3)
    checkpoint = open_tensorflow(path, verify=True)
    good = {name for name in checkpoint if name != "whole_0"}
    for _ in range(2):
        with pytest.raises(FileError) as caught:
            checkpoint["whole_0"]
        assert str(caught.value) == (
            f"{tmp_path}/{file}, byte 0: the checksum of the 16 bytes of 'whole_0' does not match."
            + FIX
        )
        assert (caught.value.path, caught.value.offset) == (f"{tmp_path}/{file}", 0)
    for name in good:
        checkpoint[name]
    unverified = open_tensorflow(path, verify=False)
    assert unverified["whole_0"].shape == (2, 2)


def test_a_damaged_part_is_refused(tmp_path: Path) -> None:
    file = "model.ckpt.data-00000-of-00001"
    checkpoint = open_tensorflow(damaged_copy("v2_partitioned", tmp_path, file, 50), verify=True)
    refused = []
    for name in checkpoint:
        try:
            checkpoint[name]
        except FileError as error:
            assert "the checksum of the " in str(error)  # noqa: PT017 # of one of many
            refused.append(name)
    assert len(refused) == 1


def test_a_damaged_index_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = damaged_copy("v2_grid", tmp_path, "model.index", 40)
    with pytest.raises(FileError, match="byte 0: the checksum of a block of 208 bytes does not"):
        open_tensorflow(path, verify=True)


def test_a_damaged_block_of_the_first_format_is_refused_when_it_is_read(tmp_path: Path) -> None:
    values = {"a": np.arange(300, dtype=np.float32), "b": -np.arange(3, dtype=np.float32)}
    path = write_tf1(tmp_path / "model", values, block_size=1000)
    data = bytearray(path.read_bytes())
    data[data.index(values["b"].tobytes())] ^= 1
    path.write_bytes(data)
    checkpoint = open_tensorflow(str(path), verify=True)
    assert checkpoint.shapes == {"a": (300,), "b": (3,)}
    np.testing.assert_array_equal(checkpoint["a"], values["a"])
    with pytest.raises(FileError, match="the checksum of a block of"):
        checkpoint["b"]
    assert open_tensorflow(str(path), verify=False)["b"].shape == (3,)


# Bundles that are wrong


class Bundle:
    """A bundle of one tensor ``w`` and one ``v``, and what is to be changed about it."""

    def __init__(self) -> None:
        self.header: Message = [(1, VARINT, 1), (3, BYTES, [(1, VARINT, 1)])]
        self.data = np.arange(6, dtype=np.float32).tobytes()
        self.entries = {"v": self.entry([2], 0, 8), "w": self.entry([2, 2], 8, 16)}
        self.extra: dict[bytes, bytes] = {}

    def entry(self, shape: list[int], offset: int, size: int, dtype: int = FLOAT) -> dict[int, Any]:
        data = self.data[offset : offset + size]
        return {
            1: (VARINT, dtype),
            2: (BYTES, shape_message(shape)),
            4: (VARINT, offset),
            5: (VARINT, size),
            6: (FIXED32, masked_crc32c([memoryview(data)])),
        }

    def parts(self, shape: list[int], *parts: Any) -> None:
        """Makes ``w`` a variable of parts, which all take the same bytes each."""
        extents = [slice_message(part) for part in parts]
        self.entries["w"] = {1: (VARINT, FLOAT), 2: (BYTES, shape_message(shape))}
        self.slices = [(7, BYTES, extent) for extent in extents]
        for number, part in enumerate(parts):
            entry = self.entry([2], 8 + 8 * number, 8)
            self.extra[part_key(b"w", part)] = self.written(entry)

    slices: Message = []  # noqa: RUF012 # replaced, not changed

    @staticmethod
    def written(entry: dict[int, Any]) -> bytes:
        return message([(number, kind, value) for number, (kind, value) in entry.items()])

    def write(self, folder: Path) -> str:
        entries = {name.encode(): self.written(entry) for name, entry in self.entries.items()}
        if "w" in self.entries:
            entries[b"w"] += message(self.slices)
        entries |= self.extra
        entries[b""] = message(self.header)
        self.table, self.all = table_of(sorted(entries.items())), entries
        (folder / "model.index").write_bytes(self.table)
        (folder / "model.data-00000-of-00001").write_bytes(self.data)
        return str(folder / "model")

    def entry_at(self, offset: int | None) -> str:
        """Whose value is at a place in the index."""
        for key, value in self.all.items():
            start = self.table.index(value)
            if offset is not None and start <= offset < start + len(value):
                return {b"": "the header", b"\0": "a part"}.get(key[:1], str(key, "latin-1"))
        return "no entry"


def test_the_bundle_that_is_changed_below_is_right(tmp_path: Path) -> None:
    checkpoint = open_bundle(Bundle().write(tmp_path))
    np.testing.assert_array_equal(checkpoint["v"], np.float32([0, 1]))
    np.testing.assert_array_equal(checkpoint["w"], np.float32([[2, 3], [4, 5]]))
    bundle = Bundle()
    bundle.parts([4], [(0, 2)], [(2, 2)])
    np.testing.assert_array_equal(
        open_bundle(bundle.write(tmp_path))["w"], np.float32([2, 3, 4, 5])
    )


def changed(number: int, kind: int, value: Any) -> Callable[[Bundle], Any]:
    """Changes one field of the entry of ``w``."""
    return lambda bundle: bundle.entries["w"].update({number: (kind, value)})


def in_parts(*parts: Any, shape: tuple[int, ...] = (4,)) -> Callable[[Bundle], Any]:
    return lambda bundle: bundle.parts(list(shape), *parts)


def other_part(**fields: Any) -> Callable[[Bundle], Any]:
    """Two parts, of which one has an entry with other fields."""

    def change(bundle: Bundle) -> None:
        bundle.parts([4], [(0, 2)], [(2, 2)])
        entry = bundle.entry([2], 8, 8)
        entry.update({int(number[1:]): value for number, value in fields.items()})
        bundle.extra[part_key(b"w", [(0, 2)])] = bundle.written(entry)

    return change


WRONG: dict[str, tuple[Callable[[Bundle], Any], str]] = {
    "big-endian numbers": (
        lambda bundle: bundle.header.append((2, VARINT, 1)),
        "INDEX, in the header: the tensors are big-endian: they were written on a machine of another "
        "kind, and jscope reads little-endian ones.",
    ),
    "for newer readers": (
        lambda bundle: bundle.header.append((3, BYTES, [(2, VARINT, 2)])),
        "INDEX, in the header: this is for readers of version 2, and jscope reads version 1.",
    ),
    "no dtype": (changed(1, VARINT, 0), "INDEX, in w: 'w' has no dtype."),
    "another dtype": (
        changed(1, VARINT, 2),
        "INDEX, in w: 'w' has 16 bytes, and float64 of shape (2, 2) has 32.",
    ),
    "another shape": (
        changed(2, BYTES, shape_message([2, 3])),
        "INDEX, in w: 'w' has 16 bytes, and float32 of shape (2, 3) has 24.",
    ),
    "another size": (
        changed(5, VARINT, 12),
        "INDEX, in w: 'w' has 12 bytes, and float32 of shape (2, 2) has 16.",
    ),
    "an axis of less than nothing": (
        changed(2, BYTES, shape_message([-2, -2])),
        "INDEX, in w: a tensor has the shape (-2, -2).",
    ),
    "more axes than NumPy has": (
        changed(2, BYTES, shape_message([1] * 65)),
        "INDEX, in w: a tensor has 65 axes, and NumPy has at most 64.",
    ),
    "a shape whose product overflows": (
        changed(2, BYTES, shape_message([2**32, 2**32, 2])),
        "INDEX, in w: a tensor of shape (4294967296, 4294967296, 2) is larger than any memory.",
    ),
    "an empty shape whose product overflows": (
        changed(2, BYTES, shape_message([0, 2**62])),
        "INDEX, in w: a tensor of shape (0, 4611686018427387904) is larger than any memory.",
    ),
    "an unknown rank": (
        changed(2, BYTES, [(3, VARINT, 1)]),
        "INDEX, in w: a tensor has no known rank.",
    ),
    "data beyond the end": (
        changed(4, VARINT, 12),
        "DATA, byte 12: 'w' would be 16 bytes from byte 12 on, and the file ends at byte 24.",
    ),
    "data from far away": (
        changed(4, VARINT, 2**63),
        "DATA, byte 24: 'w' would be 16 bytes from byte 9223372036854775808 on, and the file ends "
        "at byte 24.",
    ),
    "a file that is not one of them": (
        changed(3, VARINT, 1),
        "INDEX, in w: 'w' is in file 1 of 1, counted from 0.",
    ),
    "bytes of two tensors": (
        changed(4, VARINT, 4),
        "DATA, byte 4: 'v' and 'w' would share bytes.",
    ),
    "a part that is not there": (
        lambda bundle: (bundle.parts([4], [(0, 2)], [(2, 2)]), bundle.extra.popitem()),
        "INDEX, in w: a part of 'w' is not in the index.",
    ),
    "a part of nothing": (
        lambda bundle: (bundle.parts([4], [(0, 2)], [(2, 2)]), bundle.entries.pop("w")),
        "INDEX, in a part: the index has a part of no variable.",
    ),
    "parts with a hole": (
        in_parts([(0, 2)], [(3, 2)], shape=(5,)),
        "INDEX, in w: the parts of 'w' overlap, or are not all of it.",
    ),
    "parts that overlap": (
        in_parts([(0, 2)], [(1, 2)]),
        "INDEX, in w: the parts of 'w' overlap, or are not all of it.",
    ),
    "a part outside": (
        in_parts([(0, 2)], [(3, 2)]),
        "INDEX, in w: a part of 'w', of shape (4,), lies outside it.",
    ),
    "a part of another rank": (
        in_parts([(0, 2)], [(2, 2), (0, -1)]),
        "INDEX, in w: a part of 'w' has 2 axes, and not 1.",
    ),
    "a part of another dtype": (
        other_part(_1=(VARINT, 3)),
        "INDEX, in a part: a part of 'w' is not what the variable says it is.",
    ),
    "a part of another shape": (
        other_part(_2=(BYTES, shape_message([1, 2]))),
        "INDEX, in a part: a part of 'w' is not what the variable says it is.",
    ),
    "a part that has parts": (
        other_part(_7=(BYTES, slice_message([(0, -1)]))),
        "INDEX, in a part: a part of "
        r"'\x00w\x00\x01\x01\x01\\x80\\x82' is not in the index.",
    ),
    "a message that is none": (
        lambda bundle: bundle.extra.update({b"x": b"\x0b"}),
        "INDEX, in x: no field of a message begins with 11.",
    ),
    "a name that is not text": (
        lambda bundle: bundle.extra.update({b"\xff": b"\x08\x07\x18\x00"}),
        "INDEX, in \xff: a name is not text in UTF-8.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("verify", [True, False])
def test_a_bundle_that_is_wrong_is_refused(name: str, verify: bool, tmp_path: Path) -> None:
    change, wanted = WRONG[name]
    bundle = Bundle()
    change(bundle)
    path = bundle.write(tmp_path)
    with pytest.raises(FileError) as caught:
        open_bundle(path, verify=verify)
    text = str(caught.value).partition("\n")[0]
    text = text.replace(f"{path}.data-00000-of-00001", "DATA")
    place = f"{path}.index, byte {caught.value.offset}"
    assert text.replace(place, f"INDEX, in {bundle.entry_at(caught.value.offset)}") == wanted


@pytest.mark.parametrize("entries", [[], [(b"w", b"")]])
def test_an_index_without_a_header_is_refused(entries: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.index"
    path.write_bytes(table_of(entries))
    with pytest.raises(FileError) as caught:
        open_tensorflow(str(path), verify=True)
    assert str(caught.value) == f"{path}, byte 0: this index has no header."


def test_a_compressed_index_is_read(tmp_path: Path) -> None:
    shutil.copytree(DATA / "v2", tmp_path, dirs_exist_ok=True)
    index = tmp_path / "model.ckpt-1.index"
    entries = entries_of(index.read_bytes())
    index.write_bytes(table_of(entries, block_size=300, snappy=True))
    check_truth(open_tensorflow(str(tmp_path), verify=True), TRUTH["v2"])


def test_parts_of_strings_are_a_note(tmp_path: Path) -> None:
    bundle = Bundle()
    bundle.parts([4], [(0, 2)], [(2, 2)])
    bundle.entries["w"][1] = (VARINT, STRING)
    checkpoint = open_bundle(bundle.write(tmp_path))
    assert dict(checkpoint.notes) == {"w": "it is of strings (DT_STRING)"}
    with pytest.raises(KeyError, match=r"'w' has no array in .*: it is of strings"):
        checkpoint["w"]


# Files of the first format


def tf1_entries(values: dict[str, np.ndarray]) -> dict[bytes, bytes]:
    tensors: Message = []
    entries = {}
    for name, value in values.items():
        whole = slice_message([(0, -1)] * value.ndim)
        fields: Message = [
            (1, BYTES, name.encode()),
            (2, BYTES, shape_message(value.shape)),
            (3, VARINT, FLOAT),
            (4, BYTES, whole),
        ]
        tensors.append((1, BYTES, fields))
        data: Message = [(1, BYTES, name.encode()), (2, BYTES, whole)]
        data.append((3, BYTES, [(5, BYTES, value.tobytes())]))
        entries[part_key(name.encode(), [(0, -1)] * value.ndim)] = message([(2, BYTES, data)])
    entries[b""] = message([(1, BYTES, tensors)])
    return entries


def write_tf1(path: Path, values: dict[str, np.ndarray], block_size: int = 4096) -> Path:
    entries = sorted(tf1_entries(values).items())
    path.write_bytes(table_of(entries, block_size=block_size))
    return path


A, B = np.float32([1, 2]), np.float32([[3], [4]])


def test_shards_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    files = [
        str(write_tf1(tmp_path / "one", {"a": A})),
        str(write_tf1(tmp_path / "two", {"a": B})),
    ]
    with pytest.raises(FileError, match=r"two, byte \d+: 'a' has two shapes or dtypes\."):
        open_tf1("both", files)
    with pytest.raises(FileError, match=r"one, byte \d+: the parts of 'a' overlap, or are not all"):
        open_tf1("twice", [files[0], files[0]])


def other_tf1(change: Callable[[dict[bytes, bytes]], Any]) -> dict[bytes, bytes]:
    entries = tf1_entries({"a": A, "b": B})
    change(entries)
    return entries


KEY_A, KEY_B = part_key(b"a", [(0, -1)]), part_key(b"b", [(0, -1), (0, -1)])
WRONG_TF1: dict[str, tuple[Callable[[dict[bytes, bytes]], Any], str]] = {
    "another table": (
        lambda entries: entries.pop(b""),
        "FILE: this is a table of TensorFlow's, but no checkpoint: it does not say what is in it.",
    ),
    "an index of the second format": (
        lambda entries: entries.update({b"": message([(1, VARINT, 1)])}),
        "FILE: this is a table of TensorFlow's, but no checkpoint: it does not say what is in it.",
    ),
    "numbers that are not there": (
        lambda entries: entries.pop(KEY_B),
        "FILE: 'b' is said to be here, and is not.",
    ),
    "numbers of another tensor": (
        lambda entries: entries.update({KEY_B: entries[KEY_A]}),
        "FILE, byte 97: the numbers of 'b' are not under its key.",
    ),
    "no dtype": (
        lambda entries: entries.update({b"": entries[b""].replace(b"\x18\x01", b"\x18\x00")}),
        "FILE, byte 7: 'a' has no dtype.",
    ),
    "another dtype": (
        lambda entries: entries.update({b"": entries[b""].replace(b"\x18\x01", b"\x18\x03")}),
        "FILE, byte 75: 'a' has 0 numbers, and is to be int32[2].",
    ),
}


@pytest.mark.parametrize("name", WRONG_TF1)
def test_a_file_of_the_first_format_that_is_wrong_is_refused(name: str, tmp_path: Path) -> None:
    change, wanted = WRONG_TF1[name]
    path = tmp_path / "model"
    path.write_bytes(table_of(sorted(other_tf1(change).items())))
    with pytest.raises(FileError) as caught:
        dict(open_tensorflow(str(path), verify=True))
    assert str(caught.value).partition("\n")[0].replace(str(path), "FILE") == wanted


# Damaged at random


@pytest.mark.parametrize("kind", ["tf1", "tf2"])
def test_damaged_files_are_refused_or_give_what_was_there(kind: str) -> None:
    """In a process of its own, whose memory is limited; 10,000 cases by tests/fuzz_io.py itself."""
    command = [sys.executable, str(Path(__file__).with_name("fuzz_io.py"))]
    done = subprocess.run(
        [*command, "--format", kind, "--cases", "400"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kind}: 400 cases in " in done.stdout

"""open: safetensors and NumPy files, whole, damaged and hostile; and which file a path means."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_files
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from child import output_of

import jscope as js
from jscope import errors
from jscope.io import _npz

ONE = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}


def st(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def message(path: Path, **options: Any) -> str:
    """The text of the error that the file gives, when it is opened or read; without its folder."""
    with pytest.raises(errors.FileError) as caught:
        dict(js.io.open(path, **options))
    assert caught.value.path.startswith(str(path.parent))
    return str(caught.value).replace(f"{path.parent}/", "")


# safetensors


def test_what_the_package_writes_is_read_as_slices_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    arrays = {"w": np.arange(6.0).reshape(2, 3), "b": np.ones(3, np.float16), "n": np.array(3)}
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})
    found = js.io.open(path)
    assert found.format == "safetensors"
    assert found.metadata == {"format": "pt"}
    assert found.shapes == {name: array.shape for name, array in arrays.items()}
    assert found.nbytes == 48 + 6 + 8
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
        assert not found[name].flags.owndata


READ: dict[str, tuple[bytes, dict[str, Any]]] = {
    "nothing": (st({}), {}),
    "white space": (
        st(b'{ "a" :\n{"shape":[ 1 , 2 ],"data_offsets" : [0,2],\t"dtype":"I8"} }   ', b"\1\2"),
        {"a": np.array([[1, 2]], np.int8)},
    ),
    "escapes in a name": (
        st(b'{"\\u0061\\n\\ud83d\\ude42\\/":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', b"a"),
        {"a\n🙂/": np.uint8(97)},
    ),
    "no name": (st({"": ONE}, b"a"), {"": np.array([97], np.uint8)}),
    "tensors in another order than their bytes": (
        st({"a": entry("U8", [1], 1, 2), "b": ONE}, b"xy"),
        {"a": np.array([121], np.uint8), "b": np.array([120], np.uint8)},
    ),
    "empty tensors between others": (
        st({"e": entry("F32", [0, 9], 1, 1), "b": entry("U8", [1], 1, 2), "a": ONE}, b"xy"),
        {
            "e": np.zeros([0, 9], np.float32),
            "a": np.array([120], np.uint8),
            "b": np.array([121], np.uint8),
        },
    ),
    "as many axes as NumPy has": (
        st({"a": entry("U8", [1] * 64, 0, 1)}, b"a"),
        {"a": np.full([1] * 64, 97, np.uint8)},
    ),
    "bytes that are not aligned": (
        st({"a": ONE, "b": entry("F32", [1], 1, 5)}, b"a" + np.float32(2.5).tobytes()),
        {"a": np.array([97], np.uint8), "b": np.array([2.5], np.float32)},
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_safetensors_file_may_have(name: str, tmp_path: Path) -> None:
    data, wanted = READ[name]
    (tmp_path / "a.safetensors").write_bytes(data)
    found = js.io.open(tmp_path / "a.safetensors")
    assert set(found) == set(wanted)
    for key, array in wanted.items():
        np.testing.assert_array_equal(found[key], array, strict=True)
        assert not found[key].flags.writeable


@pytest.mark.parametrize(("word", "bits"), [("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6)])
def test_elements_below_a_byte_are_noted(word: str, bits: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(st({"a": ONE, "q": entry(word, [8], 1, 1 + bits)}, bytes(1 + bits)))
    found = js.io.open(path)
    assert list(found) == ["a"]
    assert found.notes == {"q": f"{word}: NumPy has no array of elements below a byte"}
    with pytest.raises(KeyError, match=r"'q' has no array in .*: NumPy has no array of elements"):
        found["q"]


FETCH = "\n  fix:    the file is cut off or damaged: fetch it again."

HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing at all": (
        b"",
        "a.safetensors, byte 0: the length of the header would be 8 bytes from byte 0 on, and the "
        f"file ends at byte 0.{FETCH}",
    ),
    "no length": (
        b"1234567",
        "a.safetensors, byte 0: the length of the header would be 8 bytes from byte 0 on, and the "
        f"file ends at byte 7.{FETCH}",
    ),
    "a header beyond the limit": (
        (100_000_001).to_bytes(8, "little") + b"{}",
        "a.safetensors, byte 0: the header would be 100000001 bytes, and a safetensors file has "
        "100000000 at most.\n  fix:    this is no safetensors file, or a damaged one: fetch it "
        "again.",
    ),
    "a header of 64 bits": (
        b"\xff" * 8 + b"{}",
        "a.safetensors, byte 0: the header would be 18446744073709551615 bytes, and a safetensors "
        "file has 100000000 at most.\n  fix:    this is no safetensors file, or a damaged one: "
        "fetch it again.",
    ),
    "a header beyond the end": (
        (90).to_bytes(8, "little") + b"{}",
        "a.safetensors, byte 8: the header would be 90 bytes from byte 8 on, and the file ends at "
        f"byte 10.{FETCH}",
    ),
    "no header": (
        bytes(8),
        "a.safetensors, byte 8: the header of a safetensors file begins with '{'.",
    ),
    "another beginning": (
        st(b" {}"),
        "a.safetensors, byte 8: the header of a safetensors file begins with '{'.",
    ),
    "a list": (
        st(b"[]"),
        "a.safetensors, byte 8: the header of a safetensors file begins with '{'.",
    ),
    "no end of the header": (
        st(b'{"a":'),
        "a.safetensors, byte 13: the header is damaged: '{' should be here.",
    ),
    "something after the header": (
        st(b"{}\0"),
        "a.safetensors, byte 10: the header goes on after its end.",
    ),
    "a second header": (
        st(b"{}{}"),
        "a.safetensors, byte 10: the header goes on after its end.",
    ),
    "a comma too many": (
        st(b'{"__metadata__":{},}'),
        "a.safetensors, byte 27: the header is damaged: a string should be here.",
    ),
    "a name twice": (
        st(b'{"a":%b,"a":%b}' % ((json.dumps(ONE).encode(),) * 2), b"x"),
        "a.safetensors, byte 70: the header has the key 'a' twice.",
    ),
    "a name twice, by an escape": (
        st(b'{"a":%b,"\\u0061":%b}' % ((json.dumps(ONE).encode(),) * 2), b"x"),
        "a.safetensors, byte 75: the header has the key 'a' twice.",
    ),
    "metadata twice": (
        st(b'{"__metadata__":{},"__metadata__":{}}'),
        "a.safetensors, byte 41: the header has the key '__metadata__' twice.",
    ),
    "metadata that is no text": (
        st({"__metadata__": {"a": 1}}),
        "a.safetensors, byte 30: the header is damaged: a string should be here.",
    ),
    "no metadata": (
        st({"__metadata__": None}),
        "a.safetensors, byte 24: the header is damaged: '{' should be here.",
    ),
    "a field twice": (
        st(b'{"a":{"dtype":"U8","dtype":"U8"}}'),
        "a.safetensors, byte 34: the header has the key 'dtype' twice.",
    ),
    "a field that is not known": (
        st({"a": {**ONE, "strides": [1]}}, b"x"),
        "a.safetensors, byte 78: the header says 'strides' of 'a', which the format does not know.",
    ),
    "no dtype": (
        st({"a": {"shape": [1], "data_offsets": [0, 1]}}, b"x"),
        "a.safetensors, byte 52: the header does not say the dtype of 'a'.",
    ),
    "a dtype that is not known": (
        st({"a": entry("Q8", [1], 0, 1)}, b"x"),
        "a.safetensors, byte 67: the header gives 'a' the dtype 'Q8', which the format has not.",
    ),
    "one offset": (
        st({"a": {**ONE, "data_offsets": [0]}}, b"x"),
        "a.safetensors, byte 64: the header gives 'a' 1 offsets in place of two.",
    ),
    "a negative size": (
        st({"a": entry("U8", [-1], 0, 1)}, b"x"),
        "a.safetensors, byte 38: the header is damaged: a list of whole numbers should be here.",
    ),
    "a size with a point": (
        st(b'{"a":{"shape":[1.0]}}'),
        "a.safetensors, byte 22: the header is damaged: a list of whole numbers should be here.",
    ),
    "a size with a leading zero": (
        st(b'{"a":{"shape":[01]}}'),
        "a.safetensors, byte 22: the header is damaged: a list of whole numbers should be here.",
    ),
    "a number of a thousand digits": (
        st(b'{"a":{"shape":[' + b"1" * 1000 + b"]}}"),
        "a.safetensors, byte 22: the header is damaged: a list of whole numbers should be here.",
    ),
    "65 axes": (
        st({"a": entry("U8", [1] * 65, 0, 1)}, b"x"),
        "a.safetensors: 'a' has 65 axes, and arrays have 64 at most.",
    ),
    "sizes beyond memory": (
        st({"a": entry("U8", [2**32, 2**32], 0, 1)}, b"x"),
        "a.safetensors: 'a' has sizes whose product is beyond any memory.",
    ),
    "sizes whose product is small in 64 bits": (
        st({"a": entry("U8", [2**32, 2**32 + 1, 2**63], 0, 0)}),
        "a.safetensors: 'a' has sizes whose product is beyond any memory.",
    ),
    "sizes beyond memory, and none": (
        st({"a": entry("U8", [0, 2**63], 0, 0)}),
        "a.safetensors: 'a' has sizes whose product is beyond any memory.",
    ),
    "too few bytes": (
        st({"a": entry("F32", [2], 0, 4)}, b"xxxx"),
        "a.safetensors: 'a' has 4 bytes, and F32 of shape (2,) needs 8.",
    ),
    "a part of a byte": (
        st({"a": entry("F4", [3], 0, 1)}, b"x"),
        "a.safetensors: 'a' has 1 bytes, and F4 of shape (3,) needs 1 and a part of one.",
    ),
    "a hole": (
        st({"a": ONE, "b": entry("U8", [1], 2, 3)}, b"xyz"),
        "a.safetensors, byte 130: 'b' is to lie at 2 to 3 of the data, and what comes before it "
        "ends at 1.",
    ),
    "a hole at the beginning": (
        st({"a": entry("U8", [1], 1, 2)}, b"xy"),
        "a.safetensors, byte 69: 'a' is to lie at 1 to 2 of the data, and what comes before it "
        "ends at 0.",
    ),
    "an overlap": (
        st({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"xyz"),
        "a.safetensors, byte 129: 'b' is to lie at 1 to 3 of the data, and what comes before it "
        "ends at 2.",
    ),
    "one place for two": (
        st({"a": ONE, "b": ONE}, b"x"),
        "a.safetensors, byte 128: 'b' is to lie at 0 to 1 of the data, and what comes before it "
        "ends at 1.",
    ),
    "an empty tensor inside another": (
        st({"a": entry("U8", [2], 0, 2), "b": entry("U8", [0], 1, 1)}, b"xy"),
        "a.safetensors, byte 129: 'b' is to lie at 1 to 1 of the data, and what comes before it "
        "ends at 2.",
    ),
    "an end before the beginning": (
        st({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 1, 0)}, b"x"),
        "a.safetensors, byte 129: 'b' is to lie at 1 to 0 of the data, and what comes before it "
        "ends at 1.",
    ),
    "a tensor that is cut off": (
        st({"a": entry("U8", [9], 0, 9)}, b"xyz"),
        "a.safetensors, byte 71: its tensors end at byte 77, and the file at byte 71.\n"
        "  fix:    the file is cut off: fetch it again.",
    ),
    "something after the tensors": (
        st({"a": ONE}, b"xyz"),
        "a.safetensors, byte 69: its tensors end at byte 69, and the file at byte 71.",
    ),
    "a name that is no UTF-8": (
        st(b'{"\xff":{}}'),
        "a.safetensors, byte 9: the header holds a string that is no text.",
    ),
    "half of a surrogate pair": (
        st(b'{"\\ud800":{}}'),
        "a.safetensors, byte 9: the header holds a string that is no text.",
    ),
    "an escape that is none": (
        st(b'{"\\x41":{}}'),
        "a.safetensors, byte 9: the header holds a string that is no text.",
    ),
    "a line's end in a name": (
        st(b'{"a\n":{}}'),
        "a.safetensors, byte 9: the header is damaged: a string should be here.",
    ),
    "a truth value of two": (
        st({"a": entry("BOOL", [2], 0, 2)}, b"\1\2"),
        "a.safetensors: the tensor 'a' is of bool and holds the byte 2.",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_safetensors_file_must_not_have(name: str, tmp_path: Path) -> None:
    data, text = HOSTILE[name]
    (tmp_path / "a.safetensors").write_bytes(data)
    assert message(tmp_path / "a.safetensors") == text


BOMBS: dict[str, bytes] = {
    "lists in lists": b'{"a":' + b"[" * 2_000_000,
    "objects in objects": b'{"a":' * 400_000,
    "lists beside lists": b'{"a":[' + b"[]," * 700_000,
    "digits": b'{"a":{"shape":[' + b"1" * 2_000_000 + b"]}}",
    "numbers": b'{"a":{"shape":[' + b"1," * 1_000_000 + b"1]}}",
    "white space": b"{" + b" " * 2_000_000 + b"]",
    "backslashes": b'{"' + b"\\" * 2_000_001,
    "text without an end": b'{"' + b"a" * 2_000_000,
    "a long key": b'{"' + b"a" * 2_000_000 + b'":3}',
    "a long exponent": b'{"__metadata__":{"a":1e' + b"9" * 2_000_000 + b"}}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_in_a_header_is_a_short_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(st(BOMBS[name]))
    (tmp_path / "a.safetensors.index.json").write_bytes(BOMBS[name])
    for file in tmp_path.iterdir():
        assert len(message(file)) < 400


def test_large_headers_take_little_memory(tmp_path: Path) -> None:
    code = """
import pathlib, resource, sys, jscope as js
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
path = pathlib.Path(sys.argv[1]) / "a.safetensors"
for text in (b'{"a":' + b"[" * 5_000_000, b'{"a":[' + b"[]," * 2_000_000,
             b'{"__metadata__":{"a":"' + b'\\\\"' * 5_000_000,
             b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % n for n in range(30_000))):
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    del text
    before = peak()
    try:
        js.io.open(path)
    except js.errors.FileError:
        print(peak() - before)
"""
    grown = [float(line) for line in run(code, str(tmp_path)).split()]
    assert len(grown) == 4
    assert max(grown) < 50


def run(code: str, *arguments: str) -> str:
    """What a program prints."""
    environment = {"PYTHONPATH": str(Path(js.__file__).parent.parent), "JAX_PLATFORMS": "cpu"}
    return output_of("-W", "ignore", "-c", code, *arguments, **environment)


# shards

INDEX = "a.safetensors.index.json"


def sharded(folder: Path, index: Any) -> Path:
    """Two shards, of ``a`` and of ``b`` and ``c``, and an index."""
    safetensors.numpy.save_file({"a": np.ones(2)}, folder / "x.safetensors", {"format": "pt"})
    safetensors.numpy.save_file({"b": np.ones(3), "c": np.ones(1)}, folder / "y.safetensors")
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    (folder / INDEX).write_bytes(text)
    return folder / INDEX


PLACES = {"a": "x.safetensors", "b": "y.safetensors", "c": "y.safetensors"}


def test_an_index_joins_its_shards(tmp_path: Path) -> None:
    metadata = {"total_size": 48, "total_parameters": 6, "note": "ö", "tied": True, "none": None}
    path = sharded(tmp_path, {"metadata": metadata, "weight_map": PLACES, "version": 1, "x": {}})
    for opened in (path, tmp_path / "a.safetensors", tmp_path):
        found = js.io.open(opened)
        assert found.shapes == {"a": (2,), "b": (3,), "c": (1,)}
        assert found["b"].tolist() == [1, 1, 1]
        assert found.metadata == {
            "format": "pt", "total_parameters": "6", "note": "ö", "tied": "true", "none": "null",
        }  # fmt: skip


def test_a_tensor_that_the_index_does_not_list_is_noted(tmp_path: Path) -> None:
    path = sharded(tmp_path, {"weight_map": {"a": "x.safetensors", "c": "y.safetensors"}})
    found = js.io.open(path)
    assert set(found) == {"a", "c"}
    assert found.notes == {"b": "in y.safetensors, and the index does not list it"}


def test_shards_may_lie_in_folders_below(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "in" / "x.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "in/x.safetensors"}}))
    assert js.io.open(tmp_path / INDEX).shapes == {"a": (2,)}


BAD_INDEXES: dict[str, tuple[Any, str]] = {
    "a name that its shard lacks": (
        {"weight_map": {**PLACES, "d": "x.safetensors"}},
        f"{INDEX}: 'd' is to be in x.safetensors, and is not there.",
    ),
    "a shard that is not there": (
        {"weight_map": {"a": "z.safetensors"}},
        f"z.safetensors: the index {INDEX} names this file, and it is not there.",
    ),
    "a shard in another folder": (
        {"weight_map": {"a": "../x.safetensors"}},
        f"{INDEX}: it names the file '../x.safetensors', which is not in its folder.\n"
        "  fix:    put the files of a checkpoint into one folder.",
    ),
    "a shard at another place": (
        {"weight_map": {"a": "/etc/passwd"}},
        f"{INDEX}: it names the file '/etc/passwd', which is not in its folder.\n"
        "  fix:    put the files of a checkpoint into one folder.",
    ),
    "a shard that is no text": (
        {"weight_map": {"a": 3}},
        f"{INDEX}, byte 20: the index is damaged: a string should be here.",
    ),
    "a shard of another kind": (
        {"weight_map": {"a": INDEX}},
        f"{INDEX}, byte 0: the header would be 8388068008349082235 bytes, and a safetensors file "
        "has 100000000 at most.\n  fix:    this is no safetensors file, or a damaged one: fetch "
        "it again.",
    ),
    "no weight_map": (
        {"metadata": {}},
        f"{INDEX}: it has no weight_map, which says where each tensor is.",
    ),
    "lists": (
        {"metadata": {"a": []}, "weight_map": PLACES},
        f"{INDEX}, byte 18: the index is damaged: a string or a number should be here.",
    ),
    "a name twice": (
        b'{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}',
        f"{INDEX}, byte 38: the index has the key 'a' twice.",
    ),
    "nothing": (b"", f"{INDEX}, byte 0: the index is damaged: '{{' should be here."),
    "more": (
        b'{"weight_map":{}}}',
        f"{INDEX}, byte 17: the index goes on after its end.",
    ),
}


@pytest.mark.parametrize("name", BAD_INDEXES)
def test_an_index_must_not_have(name: str, tmp_path: Path) -> None:
    index, text = BAD_INDEXES[name]
    assert message(sharded(tmp_path, index)) == text


# .npy


def npy(header: bytes, data: bytes = b"", version: int = 1) -> bytes:
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + data


def saved(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("code", ["?", "u1", ">i2", "<i4", ">f8", "<f2", ">c16", "<c8", "u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_read_under_the_name_of_its_file(code: str, order: Any, tmp_path: Path) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4) % 5, code, order=order)
    np.save(tmp_path / "kernel.npy", array)
    found = js.io.open(tmp_path / "kernel.npy")
    assert (found.format, list(found)) == ("npy", ["kernel"])
    native = array.dtype.newbyteorder("=")
    assert found.dtypes == {"kernel": native}
    np.testing.assert_array_equal(found["kernel"], array.astype(native), strict=True)
    assert not found["kernel"].flags.writeable
    assert found["kernel"].flags.owndata == (array.dtype != native)


NPY_READ: dict[str, tuple[bytes, Any]] = {
    "0-d": (saved(np.float32(3)), np.float32(3)),
    "empty": (saved(np.zeros((0, 3))), np.zeros((0, 3))),
    "of version 2": (
        npy(b"{'descr': '<i2', 'fortran_order': False, 'shape': (1,), }\n", b"\1\0", 2),
        np.ones(1, np.int16),
    ),
    "of Python 2": (
        npy(b"{'descr': '<i2', 'fortran_order': False, 'shape': (1L, 1L), }\n", b"\1\0"),
        np.ones((1, 1), np.int16),
    ),
    "in another order and with other quotes": (
        npy(b'{"shape":(1,),"fortran_order":True,"descr":"<i2"}', b"\1\0"),
        np.ones(1, np.int16),
    ),
}


@pytest.mark.parametrize("name", NPY_READ)
def test_an_array_may_be(name: str, tmp_path: Path) -> None:
    data, wanted = NPY_READ[name]
    (tmp_path / "a.npy").write_bytes(data)
    np.testing.assert_array_equal(js.io.open(tmp_path / "a.npy")["a"], wanted, strict=True)


NOTED: dict[str, tuple[Any, str]] = {
    "text": (np.array(["a"]), "text, no numbers"),
    "bytes": (np.array([b"a"]), "bytes, no numbers"),
    "dates": (np.array(["2020"], "M8[Y]"), "dates, no numbers"),
    "times": (np.array([3], "m8[s]"), "times, no numbers"),
    "records": (np.zeros(2, [("a", "f4"), ("b", "i2")]), "records of several fields"),
    "bfloat16": (np.zeros(2, ml_dtypes.bfloat16).view("V2"), "raw bytes, |V2, no numbers"),
}


@pytest.mark.parametrize("name", NOTED)
def test_an_array_of_no_numbers_is_noted(name: str, tmp_path: Path) -> None:
    array, note = NOTED[name]
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", a=array, b=1.0)
    assert js.io.open(tmp_path / "a.npy").notes == {"a": note}
    found = js.io.open(tmp_path / "a.npz")
    assert (list(found), found.notes) == (["b"], {"a": note})


GOOD = b"{'descr': '<i2', 'fortran_order': False, 'shape': (1,), }"

NPY_BAD: dict[str, tuple[bytes, str]] = {
    "too short": (b"\x93NUMPY\1\0", "it does not begin as an array of NumPy"),
    "another version": (
        npy(GOOD, b"\1\0", 9),
        "it is of version 9.0 of NumPy's format, which is not known",
    ),
    "another version after the point": (
        npy(GOOD, b"\1\0")[:7] + b"\1" + npy(GOOD, b"\1\0")[8:],
        "it is of version 1.1 of NumPy's format, which is not known",
    ),
    "no comma": (
        npy(GOOD.replace(b"False,", b"False"), b"\1\0"),
        "it has a damaged header",
    ),
    "a header beyond the end": (
        npy(GOOD)[:30],
        "it has a header of 67 bytes, which is too long",
    ),
    "a header of gigabytes": (
        b"\x93NUMPY\2\0\xff\xff\xff\x7f" + bytes(100),
        "it has a header of 2147483659 bytes, which is too long",
    ),
    "no dict": (npy(b"[1, 2, 3]"), "it has a damaged header"),
    "nothing": (npy(b"  "), "it has a damaged header"),
    "an expression": (
        npy(GOOD.replace(b"(1,)", b"(1+1,)"), b"\1\0"),
        "it has a damaged header",
    ),
    "brackets in brackets": (npy(b"(" * 60000), "it has a damaged header"),
    "a dtype that is evaluated": (
        npy(GOOD.replace(b"<i2", b"(((,)i2,"), b"\1\0"),
        "it has the dtype '(((,)i2,', which NumPy does not know",
    ),
    "a field twice": (npy(GOOD[:-1] + b"'shape': (1,)}", b"\1\0"), "it has a damaged header"),
    "no shape": (npy(b"{'descr': '<i2', 'fortran_order': False}"), "it has a damaged header"),
    "a shape that is no tuple": (
        npy(GOOD.replace(b"1,", b"1"), b"\1\0"),
        "it has a damaged header",
    ),
    "a negative size": (npy(GOOD.replace(b"1,", b"-1,"), b"\1\0"), "it has a damaged header"),
    "a comma alone": (npy(GOOD.replace(b"1,", b","), b"\1\0"), "it has a damaged header"),
    "sizes beyond memory": (
        npy(GOOD.replace(b"1,", b"%d, 4" % 2**62)),
        "the array has sizes whose product is beyond any memory",
    ),
    "65 axes": (
        npy(GOOD.replace(b"1,", b"1, " * 65), b"\1\0"),
        "the array has 65 axes, and arrays have 64 at most",
    ),
    "too few bytes": (
        npy(GOOD, b"\1"),
        "the array has 68 bytes, and int16 of shape (1,) needs 69",
    ),
    "too many bytes": (
        npy(GOOD, b"\1\0\0"),
        "the array has 70 bytes, and int16 of shape (1,) needs 69",
    ),
    "a truth value of two": (
        npy(GOOD.replace(b"<i2", b"|b1"), b"\2"),
        "the array is of bool and holds the byte 2",
    ),
    "no dtype": (
        npy(GOOD.replace(b"<i2", b"<f3"), b"\1\0"),
        "it has the dtype '<f3', which NumPy does not know",
    ),
}


@pytest.mark.parametrize("name", NPY_BAD)
def test_an_array_must_not_have(name: str, tmp_path: Path) -> None:
    data, problem = NPY_BAD[name]
    (tmp_path / "a.npy").write_bytes(data)
    assert re.fullmatch(
        rf"a\.npy(, byte \d+)?: {re.escape(problem)}\.", message(tmp_path / "a.npy")
    )


def test_a_pickled_dict_is_read_only_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    tree = {
        "conv1_1": [np.ones([2, 3], ">f4"), np.zeros(3)],
        "fc": {"w": np.float32(2), "half": np.ones(2, ml_dtypes.bfloat16)},
        "step": 3,
        "name": "vgg",
        "none": None,
        "pixels": np.array(["x"]),
    }
    np.save(path, tree)  # type: ignore[arg-type]
    assert message(path) == (
        "a.npy: it holds pickled Python objects, and to unpickle them can run any code.\n"
        "  fix:    if you trust where it comes from: jscope.io.open(path, allow_pickle=True)."
    )
    found = js.io.open(path, allow_pickle=True)
    assert found.shapes == {
        "conv1_1/0": (2, 3), "conv1_1/1": (3,), "fc/w": (), "fc/half": (2,), "step": (),
    }  # fmt: skip
    assert found["conv1_1/0"].dtype == np.dtype("f4")
    assert found["conv1_1/0"].dtype.isnative
    assert found["fc/half"].dtype == ml_dtypes.bfloat16
    assert not found["fc/half"].flags.writeable
    assert found.notes == {
        "name": "str, no numbers", "none": "NoneType, no numbers", "pixels": "ndarray, no numbers",
    }  # fmt: skip


def test_a_dict_that_python_2_pickled_is_read(tmp_path: Path) -> None:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    pickled = pickle.dumps(np.array({"w": np.arange(3)}, object), protocol=2)
    old = pickled.replace(b"X\1\0\0\0w", b"U\1\xe9")  # a str of bytes
    assert old != pickled
    (tmp_path / "a.npy").write_bytes(npy(header, old))
    found = js.io.open(tmp_path / "a.npy", allow_pickle=True)
    assert found["é"].tolist() == [0, 1, 2]


def looped() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return {"a": loop}


PICKLES: dict[str, tuple[Any, str]] = {
    "no tree": ("text", "its objects are no named arrays (The tree must be a mapping of names to "),
    "one name twice": ({"a/b": 1, "a": {"b": 2}}, "its objects are no named arrays (Two variables"),
    "keys that are no names": ({(1, 2): 3}, "its objects are no named arrays ((1, 2) is not a key"),
    "no end": (looped(), "its objects are no named arrays (a/0 holds itself: such a tree has no"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_is_no_tree_of_arrays_is_refused(name: str, tmp_path: Path) -> None:
    tree, problem = PICKLES[name]
    np.save(tmp_path / "a.npy", np.array(tree, object))
    assert message(tmp_path / "a.npy", allow_pickle=True).startswith(f"a.npy: {problem}")


def test_a_damaged_pickle_is_one_of_our_errors(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", {"a": np.ones(3)})  # type: ignore[arg-type]
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[:-9])
    text = message(tmp_path / "a.npy", allow_pickle=True)
    assert text.startswith("a.npy: its objects cannot be unpickled (UnpicklingError: ")


# .npz

ARRAYS: dict[str, np.ndarray] = {
    "net/w": np.arange(6.0, dtype="f4").reshape(2, 3),
    "net/w/Adam": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "flag": np.array([True, False]),
    "empty": np.zeros((0, 2)),
    "step": np.array(7),
}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path / "a.npz", **ARRAYS)
    found = js.io.open(tmp_path / "a.npz")
    assert (found.format, list(found)) == ("npz", list(ARRAYS))
    assert found.shapes == {name: array.shape for name, array in ARRAYS.items()}
    for name, array in ARRAYS.items():
        native = array.astype(array.dtype.newbyteorder("="))
        for _ in range(2):
            np.testing.assert_array_equal(found[name], native, strict=True)
        assert not found[name].flags.writeable


def test_names_and_shapes_cost_no_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", w=np.zeros([1000, 1000]))
    unpacked = list[str]()

    def unpack(file: Any, member: Any, *, verify: bool) -> np.ndarray:
        unpacked.append(member.name)
        return np.zeros(member.size, np.uint8)

    monkeypatch.setattr(_npz, "unpacked", unpack)
    found = js.io.open(tmp_path / "a.npz")
    assert found.shapes == {"w": (1000, 1000)}
    assert found.nbytes == 8_000_000
    assert "w" in found
    assert unpacked == []
    assert not found["w"].any()
    assert unpacked == ["w.npy"]


def test_files_in_an_archive_that_are_no_arrays_are_noted(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=1.0)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("read.me", "text")
    found = js.io.open(tmp_path / "a.npz")
    assert (list(found), found.notes) == (["w"], {"read.me": "a file in the archive, no array"})


def zipped(*members: tuple[str, bytes], method: int = 0, **info: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            member = zipfile.ZipInfo(name)
            member.compress_type = method
            for key, value in info.items():
                setattr(member, key, value)
            archive.writestr(member, data)
    return file.getvalue()


def streamed(method: int) -> bytes:
    """As an archive is written into a pipe: sizes and checksum come after each member."""
    file = fuzz_files.Unseekable()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, array in ARRAYS.items():
            archive.writestr(f"{name}.npy", saved(array))
    return file.getvalue()


@pytest.mark.parametrize("method", [0, 8])
def test_an_archive_that_was_written_to_a_pipe_is_read(method: int, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(streamed(method))
    found = js.io.open(tmp_path / "a.npz")
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_comment_and_a_large_directory_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)  # so that it is written as large ones
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        archive.comment = b"PK\5\6, and more"
        for name, array in ARRAYS.items():
            archive.writestr(f"{name}.npy", saved(array))
    assert b"PK\6\6" in path.read_bytes()
    found = js.io.open(path)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def without(data: bytes, name: bytes) -> bytes:
    """The archive whose directory does not know a member: zipfile and NumPy open it."""
    end = data.rindex(b"PK\5\6")
    count, _, start = struct.unpack("<HLL", data[end + 10 : end + 20])
    directory = data[start:end]
    at = directory.index(name) - 46
    lengths = struct.unpack("<3H", directory[at + 28 : at + 34])
    directory = directory[:at] + directory[at + 46 + sum(lengths) :]
    tail = struct.pack("<HHLL", count - 1, count - 1, len(directory), start)
    return data[:start] + directory + data[end : end + 8] + tail + data[end + 20 :]


@pytest.mark.parametrize("name", ["net/w.npy", "flag.npy", "step.npy"])
def test_a_member_lost_by_the_directory_is_noticed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **ARRAYS)
    path.write_bytes(without(path.read_bytes(), name.encode()))
    with np.load(path) as lost:
        assert len(lost.files) == len(ARRAYS) - 1
    assert re.fullmatch(
        r"a\.npz, byte \d+: what lies at byte \d+ of the archive is not known to the directory\.\n"
        r"  fix:    a member is lost or the directory is damaged: fetch the file again\.",
        message(path),
    )


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_damage_is_noticed_at_the_first_read(write: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write(path, a=np.arange(50.0), b=np.arange(50.0))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\1\2", 0, data.rindex(b"PK\1\2")) - 20] ^= 4  # at the end of b
    path.write_bytes(data)
    found = js.io.open(path)
    assert found["a"].tolist() == list(range(50))
    with pytest.raises(errors.FileError, match=r"'b\.npy'"):
        found["b"]
    with pytest.raises(errors.FileError, match=r"'b\.npy'"):
        found["b"]
    if write is np.savez:
        assert js.io.open(path, verify=False)["b"].shape == (50,)


def test_damage_of_what_is_noted_is_noticed_at_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(9.0))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data.replace(b"<f8", b"<V8"))
    assert message(tmp_path / "a.npz") == (
        "a.npz, byte 55: the bytes of 'a.npy' are not those that were written (CRC-32).\n"
        "  fix:    the file is damaged: fetch it again."
    )
    assert list(js.io.open(tmp_path / "a.npz", verify=False).notes) == ["a"]


ONES = saved(np.ones(3))


def field(data: bytes, mark: bytes, at: int, new: bytes) -> bytes:
    """The archive with other bytes in its last record of a kind."""
    place = data.rindex(mark) + at
    return data[:place] + new + data[place + len(new) :]


def both(data: bytes, at: int, new: bytes) -> bytes:
    """The same in the header of the first member and in the directory."""
    place = data.index(b"PK\3\4") + at
    data = data[:place] + new + data[place + len(new) :]
    return field(data, b"PK\1\2", at + 2, new)


def deflated(data: bytes, size: int | None = None) -> bytes:
    """An archive whose member is packed, and is said to have another size."""
    whole = zipped(("a.npy", data), method=8)
    return whole if size is None else both(whole, 22, size.to_bytes(4, "little"))


PLAIN = zipped(("a.npy", ONES))
LOST = "\n  fix:    a member is lost or the directory is damaged: fetch the file again."

ZIP_BAD: dict[str, tuple[bytes, str]] = {
    "no end": (
        PLAIN[:-22],
        "the archive has no end.\n  fix:    the file is cut off: fetch it again.",
    ),
    "something before it": (b"PK\3\4junk" + PLAIN, "the directory would lie at "),
    "something after it": (PLAIN + b"junk", "the archive has no end."),
    "two archives": (PLAIN + PLAIN, "the directory would lie at "),
    "fewer members than it says": (
        field(PLAIN, b"PK\5\6", 8, b"\2\0\2\0"),
        "an entry of the directory is damaged.",
    ),
    "more members than it says": (
        field(PLAIN, b"PK\5\6", 8, b"\0\0\0\0"),
        "the directory goes on after its 0 entries.",
    ),
    "several disks": (
        field(PLAIN, b"PK\5\6", 4, b"\1\0"),
        "it is a part of an archive of several files.",
    ),
    "one name twice": (
        zipped(("a.npy", ONES), ("b.npy", ONES)).replace(b"b.npy", b"a.npy"),
        "two members are called 'a.npy'.",
    ),
    "another name in the directory": (
        field(PLAIN, b"PK\1\2", 46, b"b"),
        "'b.npy' and the directory differ about it.",
    ),
    "another checksum in the directory": (
        field(PLAIN, b"PK\1\2", 16, b"abcd"),
        "'a.npy' and the directory differ about it.",
    ),
    "members that overlap": (
        field(zipped(("a.npy", ONES), ("b.npy", ONES)), b"PK\1\2", 42, bytes(4)),
        "what lies at byte 0 of the archive overlaps the one before it." + LOST,
    ),
    "encrypted": (both(PLAIN, 6, b"\1\0"), "'a.npy' is encrypted."),
    "flags": (both(PLAIN, 6, b"\0\x40"), "'a.npy' has flags that are not known."),
    "a version to come": (
        field(PLAIN, b"PK\1\2", 6, b"\xff\0"),
        "'a.npy' needs version 25.5 of the format, which is not known.",
    ),
    "bzip2": (
        zipped(("a.npy", ONES), method=12),
        "'a.npy' is packed by bzip2, which numpy.savez does not write.\n"
        "  fix:    write it by numpy.savez or numpy.savez_compressed.",
    ),
    "LZMA": (
        zipped(("a.npy", ONES), method=14),
        "'a.npy' is packed by LZMA, which numpy.savez does not write.\n"
        "  fix:    write it by numpy.savez or numpy.savez_compressed.",
    ),
    "another method": (
        both(PLAIN, 8, b"\x63\0"),
        "'a.npy' is packed by method 99, which numpy.savez does not write.\n"
        "  fix:    write it by numpy.savez or numpy.savez_compressed.",
    ),
    "two sizes of what is not packed": (
        both(PLAIN, 22, b"\xff\0\0\0"),
        "'a.npy' is not packed, and would be 152 and 255 bytes.",
    ),
    "a size that deflate cannot give": (
        deflated(ONES, 200_000_000),
        "'a.npy' would be 200000000 bytes out of 75, which deflate cannot do.",
    ),
    "an end before the announced one": (
        deflated(npy(GOOD.replace(b"1,", b"999,"), b"\1\0"), 65 + 999 * 2 + 4),
        "'a.npy' does not unpack to its 2067 bytes.",
    ),
    "an extra field beyond its end": (
        zipped(("a.npy", ONES), extra=b"\1\0\xff\0"),
        "an extra field is damaged.",
    ),
    "a name that is no text": (
        both(PLAIN, 6, b"\0\x08").replace(b"a.npy", b"\xff.npy"),
        "the name '\ufffd.npy' is no text.",
    ),
    "no array": (
        zipped(("a.npy", b"text")),
        "'a.npy' does not begin as an array of NumPy.",
    ),
    "a size that is not the array's": (
        zipped(("a.npy", ONES + b"x")),
        "'a.npy' has 153 bytes, and float64 of shape (3,) needs 152.",
    ),
    "a truth value of two, packed": (
        deflated(npy(GOOD.replace(b"<i2", b"|b1"), b"\2")),
        "'a.npy' is of bool and holds the byte 2.",
    ),
}


@pytest.mark.parametrize("name", ZIP_BAD)
def test_an_archive_must_not_have(name: str, tmp_path: Path) -> None:
    data, problem = ZIP_BAD[name]
    (tmp_path / "a.npz").write_bytes(data)
    found = re.sub(r"^a\.npz(, byte \d+)?: ", "", message(tmp_path / "a.npz"))
    assert found.startswith(problem)


def test_a_zip_bomb_is_refused_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    header = npy(GOOD.replace(b"<i2", b"|u1").replace(b"1,", b"%d," % (300 << 20)))
    packed = packer.compress(header)
    for _ in range(300):
        packed += packer.compress(bytes(1 << 20))
    packed += packer.flush()
    size = len(header) + (300 << 20)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 33, 0, len(packed), size, 5, 0)
    entry = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 33, 0, len(packed), size, 5, 0, 0, 0, 0, 0, 0
    )
    start = len(local) + 5 + len(packed)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry) + 5, start, 0)
    path.write_bytes(local + b"a.npy" + packed + entry + b"a.npy" + end)
    with np.load(path) as theirs:
        assert theirs.files == ["a"]
    assert message(path) == (
        f"a.npz, byte 0: 'a.npy' would be {size} bytes out of {len(packed)}: a zip bomb, or an "
        "array of one value.\n"
        "  fix:    if you trust it, unpack it by numpy.load and save it by numpy.savez."
    )


@pytest.mark.parametrize("kind", fuzz_files.FORMATS)
def test_damaged_files_are_refused_or_read_as_they_say(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = fuzz_files.fuzz(kind, cases=600, seed=1)
    assert counts["FAILED"] == 0, capsys.readouterr().err
    assert counts["refused"] > 300
    assert counts["the same"] > 20


# which file a path means


def test_the_format_is_found_by_what_is_in_a_file(tmp_path: Path) -> None:
    js.io.save(tmp_path / "a.safetensors", {"w": 1.0})
    js.io.save(tmp_path / "a.npz", {"w": 1.0})
    np.save(tmp_path / "a.npy", 1.0)
    for number, name in enumerate(["a.safetensors", "a.npz", "a.npy"]):
        for ending in (".bin", "", ".pt"):
            other = tmp_path / f"weights{number}{ending}"
            other.write_bytes((tmp_path / name).read_bytes())
            found = js.io.open(other)
            assert found.format == name.removeprefix("a.")
            assert [array.item() for array in found.values()] == [1.0]


HDF5 = b"\x89HDF\r\n\x1a\n"
TORCH = (
    "a PyTorch file, which can only be read by PyTorch.\n"
    "  fix:    in PyTorch: safetensors.torch.save_file(torch.load(path, weights_only=True), "
    "'weights.safetensors')."
)
KERAS = (
    "a file of Keras (HDF5).\n"
    "  fix:    in Keras: load it, and numpy.savez('weights.npz', **{w.path: w.numpy() for w in "
    "model.weights})."
)
GRAPH = (
    "a graph of TensorFlow.\n  fix:    open the variables beside it, a checkpoint or a SavedModel."
)

FOREIGN: dict[str, tuple[str, bytes, str]] = {
    "PyTorch": ("a.pt", zipped(("archive/data.pkl", b"x")), f"it is {TORCH}"),
    "PyTorch as .bin": ("a.bin", zipped(("model/data.pkl", b"x")), f"it is {TORCH}"),
    "PyTorch before zip": ("a.pth", b"\x80\x02\x8a\nl\xfc", f"by its name it is {TORCH}"),
    "Keras": ("a.h5", HDF5, f"it is {KERAS}"),
    "Keras under any name": ("weights", HDF5, f"it is {KERAS}"),
    "Keras in a zip": ("a.keras", zipped(("metadata.json", b"x")), f"it is {KERAS}"),
    "Flax": (
        "a.msgpack",
        b"\x81",
        "by its name it is a file of Flax (msgpack).\n  fix:    in Flax: jscope.io.save("
        "'weights.safetensors', flax.serialization.msgpack_restore(bytes)).",
    ),
    "GGUF": (
        "a.gguf",
        b"GGUF\3\0\0\0",
        "it is a GGUF file, whose weights are quantized.\n"
        "  fix:    take the safetensors of the same model.",
    ),
    "ONNX": (
        "a.onnx",
        b"\x08\x07",
        "by its name it is an ONNX graph.\n  fix:    save its initializers by numpy.savez.",
    ),
    "a graph": ("a.pb", b"\n\x10", f"by its name it is {GRAPH}"),
    "a pointer of Git LFS": (
        "a.safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "it is a pointer of Git LFS, which stands for a file that is not there.\n"
        "  fix:    run git lfs pull, or download the file itself.",
    ),
    "a web page": (
        "a.safetensors",
        b"<!DOCTYPE html><html>",
        "it is a web page.\n"
        "  fix:    download the file itself: on a page about it, this is its raw link.",
    ),
    "gzip": (
        "a.npz",
        b"\x1f\x8b\x08\0",
        "it is a packed file.\n  fix:    unpack it, and open what is in it.",
    ),
    "nothing": (
        "a.txt",
        b"",
        "it is no checkpoint that can be read.\n  fix:    TensorFlow's (.index), .safetensors, "
        ".npz and .npy files can be.",
    ),
}


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.FileError, match="nothing in this folder can be read"):
        js.io.open(tmp_path)
    np.savez(tmp_path / "weights.npz", w=np.ones(2))
    assert list(js.io.open(tmp_path)) == ["w"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_kind_is_told_what_it_is(name: str, tmp_path: Path) -> None:
    file, data, text = FOREIGN[name]
    (tmp_path / file).write_bytes(data)
    assert message(tmp_path / file) == f"{file}: {text}"


def test_a_file_that_is_not_there_is_told_with_what_is_near(tmp_path: Path) -> None:
    js.io.save(tmp_path / "weights.safetensors", {"w": 1.0})
    with pytest.raises(errors.MissingFileError) as caught:
        js.io.open(tmp_path / "weight.safetensors")
    assert str(caught.value) == (
        f"{tmp_path}/weight.safetensors: there is no such file.\n"
        "  fix:    near it there is 'weights.safetensors'."
    )
    with pytest.raises(FileNotFoundError) as lost:
        js.io.open(tmp_path / "no" / "a.npz")
    assert str(lost.value) == f"{tmp_path}/no/a.npz: there is no folder {tmp_path}/no."


def test_a_folder_with_one_checkpoint_is_opened(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    js.io.save(tmp_path / "model.safetensors", {"w": 1.0})
    for folder in (tmp_path, f"{tmp_path}/"):
        assert js.io.open(folder).path == f"{str(folder).rstrip('/')}/model.safetensors"
    js.io.save(tmp_path / "more.npz", {"w": 1.0})
    assert message(tmp_path).replace(tmp_path.name, "FOLDER") == (
        "FOLDER: it has 2 checkpoints: model.safetensors, more.npz.\n"
        "  fix:    open one of them by its own path."
    )


def test_parts_that_a_killed_save_left_are_not_in_the_way_of_a_folder(tmp_path: Path) -> None:
    js.io.save(tmp_path / "a.safetensors", {"a": 1.0, "b": 2.0}, max_shard_bytes=8)
    (tmp_path / "a.safetensors.index.json").unlink()
    assert message(tmp_path).replace(tmp_path.name, "FOLDER") == (
        "FOLDER: it has files that are parts of a checkpoint, and no index of them.\n"
        "  fix:    fetch the file that ends in .safetensors.index.json too."
    )
    js.io.save(tmp_path / "a.safetensors", {"a": 1.0})
    assert js.io.open(tmp_path).shapes == {"a": ()}


FOLDERS: dict[str, tuple[list[str], str]] = {
    "nothing": (
        [],
        "nothing in this folder can be read.\n  fix:    TensorFlow's (.index), .safetensors, .npz "
        "and .npy files can be.",
    ),
    "PyTorch": (["pytorch_model.bin", "x.txt"], f"pytorch_model.bin in it is by its name {TORCH}"),
    "orbax": (
        ["_CHECKPOINT_METADATA", "default"],
        "it is a checkpoint of orbax.\n  fix:    restore it by orbax: "
        "orbax.checkpoint.StandardCheckpointer().restore(path, specs.params()).",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_other_files_is_told_what_it_is(name: str, tmp_path: Path) -> None:
    names, text = FOLDERS[name]
    for file in names:
        (tmp_path / file).touch()
    assert message(tmp_path).replace(tmp_path.name, "FOLDER") == f"FOLDER: {text}"


@pytest.mark.parametrize("made", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
def test_a_path_that_is_no_file_does_not_wait(made: Callable[[Path], None], tmp_path: Path) -> None:
    made(tmp_path / "a.safetensors")
    with pytest.raises(errors.FileError, match=r"no regular file|nothing in this folder"):
        js.io.open(tmp_path / "a.safetensors")


def test_a_path_that_is_no_path_is_refused() -> None:
    with pytest.raises(errors.ArgumentError) as caught:
        js.io.open(3)  # type: ignore[arg-type]
    assert str(caught.value) == "The path must be text or a pathlib.Path, got 3 of type int."
    with pytest.raises(errors.ArgumentError, match=r"^The verify must be True or False, got 'no'"):
        js.io.open("a", verify="no")  # type: ignore[arg-type]


def test_a_folder_of_tensorflow_is_one_by_its_file_or_by_its_only_checkpoint(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(Path(__file__).parent / "data" / "checkpoints" / "v2_partitioned", folder)
    for path in (folder, folder / "model.ckpt"):
        assert js.io.open(path, verify=False).format == "TF V2"
    js.io.save(folder / "a.npz", {"w": 1.0})
    assert js.io.open(folder).format == "TF V2"  # its file "checkpoint" says so
    (folder / "checkpoint").unlink()
    assert message(folder) == (
        "model: it has 2 checkpoints: TensorFlow's, a.npz.\n"
        "  fix:    open one of them by its own path."
    )

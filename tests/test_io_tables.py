"""What TensorFlow's checkpoints are made of: checksums, snappy, messages, keys, sorted tables."""

from __future__ import annotations

import itertools
import os
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tf_tables import block_of, footer_of, message, sealed, snapped, table_of, varint

from jscope.errors import FileError
from jscope.io import _crc32c, _protobuf
from jscope.io._crc32c import extend_crc32c, masked_crc32c
from jscope.io._file import File
from jscope.io._ordered_code import part_key
from jscope.io._protobuf import BYTES, FIXED32, FIXED64, VARINT, fields, signed
from jscope.io._slices import boxes_of
from jscope.io._snappy import unpack
from jscope.io._span import Span
from jscope.io._table import Table, is_table
from jscope.io._tensor_proto import tensor_in

FIX = "\n  fix:    the file is damaged: fetch it again."


def span_of(data: bytes) -> Span:
    return Span(memoryview(data), "FILE", 100)


def refused(function: Callable[[], Any]) -> str:
    """The text of the error, without the line that says to fetch the file again."""
    with pytest.raises(FileError) as caught:
        function()
    text = str(caught.value)
    assert text.endswith(FIX)
    return text.removesuffix(FIX)


# Checksums

# Of RFC 3720, and the usual check value.
CHECKSUMS = {
    b"": 0,
    b"123456789": 0xE3069283,
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(reversed(range(32))): 0x113FDB5C,
}


@pytest.mark.parametrize("data", CHECKSUMS)
def test_checksums_are_those_of_the_standard(data: bytes) -> None:
    assert extend_crc32c(0, np.frombuffer(data, np.uint8)) == CHECKSUMS[data]


def slow_crc32c(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


SIZES = [1, 3, 63, 64, 65, 128, 511, 512, 513, 4096, 8191, 8192, 8193]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("start", [0, 1])
def test_rows_of_words_have_the_checksum_of_their_bytes(size: int, start: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size + start, np.uint8)[start:]
    assert extend_crc32c(0, data) == slow_crc32c(data.tobytes())
    part = size // 3
    assert extend_crc32c(extend_crc32c(0, data[:part]), data[part:]) == extend_crc32c(0, data)


def test_a_checksum_over_the_widest_rows_is_that_of_its_pieces() -> None:
    data = np.random.default_rng(0).integers(0, 256, 400_001, np.uint8)
    crc = 0
    for start in range(0, len(data), 60_000):  # less than two of the widest rows
        crc = extend_crc32c(crc, data[start : start + 60_000])
    assert extend_crc32c(0, data) == crc


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_numpy_computes_what_the_compiled_package_does(size: int) -> None:
    compiled = pytest.importorskip("google_crc32c")
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    assert extend_crc32c(7, data) == compiled.extend(7, data.tobytes())


@pytest.fixture
def no_compiled_checksums(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    _crc32c._compiled.cache_clear()
    yield
    _crc32c._compiled.cache_clear()


def test_checksums_are_masked_and_run_over_several_pieces(no_compiled_checksums: None) -> None:
    assert masked_crc32c([memoryview(b"")]) == 0xA282EAD8
    assert masked_crc32c([memoryview(b"1234"), memoryview(b"56789")]) == 0xC78AB0E5
    assert _crc32c._compiled() is None


@pytest.mark.parametrize("implementation", ["c", "python"])
def test_only_the_compiled_half_of_the_package_is_used(
    implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    package = SimpleNamespace(
        implementation=implementation, extend=lambda crc, data: seen.append(data) or 0
    )
    monkeypatch.setitem(sys.modules, "google_crc32c", package)
    _crc32c._compiled.cache_clear()
    masked_crc32c([memoryview(bytes(10))])
    _crc32c._compiled.cache_clear()
    assert len(seen) == (implementation == "c")


# Snappy


def test_a_block_of_snappy_itself_is_read() -> None:
    data = bytes.fromhex("b20108616263fe0300a20300f045") + bytes(range(70))
    assert bytes(unpack(span_of(data)).view) == b"abc" * 36 + bytes(range(70))


@pytest.mark.parametrize("letters", [1, 2, 4, 256])
def test_what_was_compressed_comes_back(letters: int) -> None:
    draw = random.Random(letters)
    for size in (0, 1, 4, 60, 61, 257, 5000, 70_000):
        data = bytes(draw.randrange(letters) for _ in range(size))
        assert bytes(unpack(span_of(snapped(data))).view) == data


def test_far_copies_and_long_literals_are_read() -> None:
    literal = bytes(range(256)) * 2
    data = varint(516) + bytes([63 << 2, *(511).to_bytes(4, "little")]) + literal
    data += bytes([3 << 2 | 3, *(512).to_bytes(4, "little")])  # four bytes from 512 before
    assert bytes(unpack(span_of(data)).view) == literal + literal[:4]


SNAPPY = {
    "a size that cannot be": (
        varint(10**9) + bytes([0, 65]),
        "FILE, byte 100: a compressed block announces 1000000000 bytes, more than 7 can hold.",
    ),
    "no size": (b"", "FILE, byte 100: a number is cut off."),
    "too few bytes": (
        bytes([9, 0, 65]),
        "FILE, byte 100: a compressed block ends after 1 of its 9 bytes.",
    ),
    "too many bytes": (
        bytes([1, 4, 65, 66]),
        "FILE, byte 100: a compressed block holds more than the 1 bytes it announces.",
    ),
    "a literal that is cut off": (
        bytes([9, 32, 65]),
        "FILE, byte 101: a compressed block is cut off.",
    ),
    "a length that is cut off": (
        bytes([9, 62 << 2, 65]),
        "FILE, byte 102: a compressed block is cut off.",
    ),
    "a copy that is cut off": (
        bytes([9, 0, 65, 2]),
        "FILE, byte 104: a compressed block is cut off.",
    ),
    "a copy of nothing": (
        bytes([9, 0, 65, 2, 0, 0]),
        "FILE, byte 103: a compressed block copies from before its beginning.",
    ),
    "a copy from before": (
        bytes([9, 0, 65, 1, 2]),
        "FILE, byte 103: a compressed block copies from before its beginning.",
    ),
}


@pytest.mark.parametrize("name", SNAPPY)
def test_a_compressed_block_that_is_wrong_is_refused(name: str) -> None:
    data, text = SNAPPY[name]
    assert refused(lambda: unpack(span_of(data))) == text


# Messages

VARINTS = [0, 1, 127, 128, 300, 2**31, 2**63, 2**64 - 1]


@pytest.mark.parametrize("number", VARINTS)
def test_numbers_come_back(number: int) -> None:
    data = varint(number)
    assert span_of(b"\x80" + data).varint(1) == (number, 1 + len(data))
    assert signed(number) % 2**64 == number


def test_a_message_gives_its_fields_with_their_places() -> None:
    data = message(
        [(1, VARINT, 5), (2, BYTES, b"ab"), (3, FIXED32, 7), (9, FIXED64, 8), (1, VARINT, -1)]
    )
    found = list(fields(span_of(data)))
    assert [(tag >> 3, tag & 7) for tag, _ in found] == [(1, 0), (2, 2), (3, 5), (9, 1), (1, 0)]
    assert [value for tag, value in found if tag & 7 != BYTES] == [5, 7, 8, 2**64 - 1]
    inner = found[1][1]
    assert (bytes(inner.view), inner.offset) == (b"ab", 104)


MESSAGES = {
    "a field longer than the message": (
        bytes([8, 1, 18, 5, 65]),
        "FILE, byte 102: a field of 5 bytes does not fit into its message of 5.",
    ),
    "a field of enormous size": (
        bytes([18]) + varint(2**63),
        "FILE, byte 100: a field of 9223372036854775808 bytes does not fit into its message of 11.",
    ),
    "a number that is cut off": (bytes([8, 200]), "FILE, byte 101: a number is cut off."),
    "a number of eleven bytes": (
        bytes([8]) + b"\xff" * 10 + b"\x01",
        "FILE, byte 101: a number has more than 64 bits.",
    ),
    "a number of 65 bits": (
        bytes([8]) + b"\xff" * 9 + b"\x02",
        "FILE, byte 101: a number has more than 64 bits.",
    ),
    "a fixed number that is cut off": (
        bytes([13, 1, 2]),
        "FILE, byte 100: a field of 4 bytes is cut off.",
    ),
    "a group": (bytes([11, 12]), "FILE, byte 100: no field of a message begins with 11."),
    "the field 0": (bytes([1]) + bytes(8), "FILE, byte 100: no field of a message begins with 1."),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_is_wrong_is_refused(name: str) -> None:
    data, text = MESSAGES[name]
    assert refused(lambda: list(fields(span_of(data)))) == text


def test_a_name_that_is_not_text_is_refused() -> None:
    text = refused(lambda: _protobuf.text(span_of(b"a\xff")))
    assert text == "FILE, byte 100: a name is not text in UTF-8."


NUMBERS = [
    -(2**63),
    -8193,
    -8192,
    -65,
    -64,
    -2,
    -1,
    0,
    1,
    63,
    64,
    8191,
    8192,
    2**31,
    2**62,
    2**63 - 1,
]


def test_keys_of_parts_sort_as_their_places_do() -> None:
    keys = [part_key(b"w", [pair]) for pair in itertools.product(NUMBERS, NUMBERS)]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    names = [part_key(name.encode(), []) for name in ("", "\0", "a", "a\0b", "a\1", "ab", "ß")]
    assert names == sorted(names)


def test_keys_of_parts_are_encoded_as_in_tensorflow() -> None:
    # As they stand in the files of tests/data/checkpoints.
    assert part_key(b"rows", [(0, 3), (0, -1)]).hex() == "00726f7773000101028083807f"
    assert part_key(b"long", [(8200, 8200)]).hex() == "006c6f6e6700010101e02008e02008"


# Numbers in messages

PROTO_CASES: dict[str, tuple[Any, list[int], list[tuple[int, int, Any]], list[Any]]] = {
    "packed floats": (
        np.float32,
        [2],
        [(5, BYTES, np.array([1, 2], np.float32).tobytes())],
        [1, 2],
    ),
    "floats one by one": (
        np.float32,
        [2],
        [(5, FIXED32, 0x3F800000), (5, FIXED32, 0x40000000)],
        [1, 2],
    ),
    "floats in two pieces": (
        np.float32,
        [2],
        [(5, BYTES, np.float32(1).tobytes()), (5, BYTES, np.float32(2).tobytes())],
        [1, 2],
    ),
    "doubles one by one": (np.float64, [1], [(6, FIXED64, 0x3FF0000000000000)], [1]),
    "packed integers": (
        np.int32,
        [4],
        [(7, BYTES, varint(5) + varint(2**64 - 1) + varint(300) + varint(0))],
        [5, -1, 300, 0],
    ),
    "integers one by one": (np.int8, [2], [(7, VARINT, 5), (7, VARINT, -1)], [5, -1]),
    "integers in two ways": (
        np.uint16,
        [5],
        [(7, VARINT, 1), (7, VARINT, 300), (7, BYTES, varint(2) + varint(3)), (7, VARINT, 4)],
        [1, 300, 2, 3, 4],
    ),
    "small integers in two pieces": (
        np.int8,
        [2],
        [(7, BYTES, varint(2**64 - 1)), (7, BYTES, varint(3))],
        [-1, 3],
    ),
    "halves in two pieces": (
        np.float16,
        [2],
        [(13, BYTES, varint(0x3C00)), (13, VARINT, 0xC000)],
        [1, -2],
    ),
    "floats in two ways": (
        np.float32,
        [3],
        [(5, FIXED32, 0x3F800000), (5, BYTES, np.float32(2).tobytes()), (5, FIXED32, 0)],
        [1, 2, 0],
    ),
    "content": (np.int16, [2], [(4, BYTES, np.array([1, -2], np.int16).tobytes())], [1, -2]),
    "halves": (np.float16, [2], [(13, BYTES, varint(0x3C00) + varint(0xC000))], [1, -2]),
    "bfloat16": (ml_dtypes.bfloat16, [1], [(13, BYTES, varint(0x3F80))], [1]),
    "bools": (
        np.bool_,
        [3],
        [(11, BYTES, varint(1) + varint(0) + varint(256))],
        [True, False, True],
    ),
    "long integers": (np.int64, [2], [(10, BYTES, varint(2**63) + varint(7))], [-(2**63), 7]),
    "unsigned": (np.uint32, [1], [(16, BYTES, varint(2**32 - 1))], [2**32 - 1]),
    "long unsigned": (np.uint64, [1], [(17, BYTES, varint(2**64 - 1))], [2**64 - 1]),
    "complex": (
        np.complex64,
        [1],
        [(9, BYTES, np.array([1 + 2j], np.complex64).tobytes())],
        [1 + 2j],
    ),
    "long complex": (
        np.complex128,
        [1],
        [(12, FIXED64, 0x3FF0000000000000), (12, FIXED64, 0)],
        [1],
    ),
    "a scalar": (np.int32, [], [(7, VARINT, 3)], 3),
    "nothing": (np.float32, [0, 2], [], np.zeros([0, 2])),
    "no integers": (np.int32, [0], [], []),
}


@pytest.mark.parametrize("name", PROTO_CASES)
def test_numbers_of_a_message_are_read(name: str) -> None:
    dtype, shape, written, wanted = PROTO_CASES[name]
    found = tensor_in(span_of(message(written)), np.dtype(dtype), tuple(shape), "'w'")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.array(wanted, dtype).reshape(shape))
    assert not found.flags.writeable


def test_many_packed_integers_are_read_in_chunks() -> None:
    generator = np.random.default_rng(0)
    values = generator.integers(-(2**40), 2**40, 200_000) >> generator.integers(0, 40, 200_000)
    data = b"".join(varint(int(value) % 2**64) for value in values)
    assert len(data) > 1 << 20
    found = tensor_in(
        span_of(message([(10, BYTES, data)])), np.dtype(np.int64), values.shape, "'w'"
    )
    np.testing.assert_array_equal(found, values)


PROTO_ERRORS: dict[str, tuple[list[tuple[int, int, Any]], str]] = {
    "too few": (
        [(7, BYTES, varint(1))],
        "FILE, byte 100: 'w' has 1 numbers, and is to be int32[2].",
    ),
    "too many": (
        [(7, BYTES, bytes(9))],
        "FILE, byte 100: 'w' has 9 numbers, and is to be int32[2].",
    ),
    "another field": (
        [(5, BYTES, bytes(8))],
        "FILE, byte 100: 'w' has 0 numbers, and is to be int32[2].",
    ),
    "two fields": (
        [(4, BYTES, bytes(8)), (7, BYTES, bytes(2))],
        "FILE, byte 100: 'w' has its numbers twice.",
    ),
    "too much content": (
        [(4, BYTES, bytes(9))],
        "FILE, byte 100: 'w' has 9 bytes, and is to be int32[2].",
    ),
    "a number that is cut off": ([(7, BYTES, b"\x01\x80")], "FILE, byte 103: a number is cut off."),
    "a number that is too long": (
        [(7, BYTES, b"\x01" + b"\x80" * 10 + b"\x01")],
        "FILE, byte 103: a number has more than 64 bits.",
    ),
    "a number that does not end": (
        [(7, BYTES, b"\x80" * ((1 << 20) + 5) + b"\x01\x01")],
        "FILE, byte 104: a number has more than 64 bits.",
    ),
}


@pytest.mark.parametrize("name", PROTO_ERRORS)
def test_numbers_that_are_wrong_are_refused(name: str) -> None:
    written, text = PROTO_ERRORS[name]
    span = span_of(message(written))
    assert refused(lambda: tensor_in(span, np.dtype(np.int32), (2,), "'w'")) == text


def test_a_dtype_without_a_field_is_refused() -> None:
    span = span_of(b"")
    text = refused(lambda: tensor_in(span, np.dtype(ml_dtypes.float8_e5m2), (2,), "'w'"))
    assert text == "FILE, byte 100: 'w' is of float8_e5m2, which messages have no field for."


# Parts

SHAPE = (4, 6)
COVERS: dict[str, tuple[list[list[tuple[int, int]]], bool]] = {
    "the whole": ([[(0, -1), (0, -1)]], True),
    "the whole in numbers": ([[(0, 4), (0, 6)]], True),
    "rows": ([[(0, 1), (0, -1)], [(1, 3), (0, -1)]], True),
    "a grid": ([[(r, 2), (c, 3)] for r in (0, 2) for c in (0, 3)], True),
    "a pinwheel": (
        [[(0, 1), (0, 4)], [(0, 3), (4, 2)], [(3, 1), (2, 4)], [(1, 3), (0, 2)], [(1, 2), (2, 2)]],
        True,
    ),
    "an empty part too": ([[(0, -1), (0, -1)], [(1, 0), (0, -1)]], True),
    "a hole": ([[(0, 1), (0, -1)], [(2, 2), (0, -1)]], False),
    "an overlap": ([[(0, 3), (0, -1)], [(2, 2), (0, -1)]], False),
    "an overlap and a hole of the same size": ([[(0, 2), (0, -1)], [(1, 2), (0, -1)]], False),
    "one part twice": ([[(0, 2), (0, -1)], [(0, 2), (0, -1)]], False),
    "nothing": ([], False),
}


@pytest.mark.parametrize("name", COVERS)
def test_parts_have_to_be_disjoint_and_everything(name: str) -> None:
    parts, right = COVERS[name]
    given = [tuple(part) for part in parts]
    if right:
        boxes = boxes_of(SHAPE, given, span_of(b""), "'w'")
        count = np.zeros(SHAPE, int)
        for box in boxes:
            count[box] += 1
        assert (count == 1).all()
    else:
        text = refused(lambda: boxes_of(SHAPE, given, span_of(b""), "'w'"))
        assert text == "FILE, byte 100: the parts of 'w' overlap, or are not all of it."


@pytest.mark.parametrize("extent", [(-1, 2), (0, 5), (5, 0), (1, -1), (2, -2), (2**62, 2**62)])
def test_a_part_outside_its_variable_is_refused(extent: tuple[int, int]) -> None:
    text = refused(lambda: boxes_of(SHAPE, [(extent, (0, -1))], span_of(b""), "'w'"))
    assert text == "FILE, byte 100: a part of 'w', of shape (4, 6), lies outside it."


def test_a_part_of_another_rank_is_refused() -> None:
    text = refused(lambda: boxes_of(SHAPE, [((0, -1),)], span_of(b""), "'w'"))
    assert text == "FILE, byte 100: a part of 'w' has 1 axes, and not 2."


def test_many_parts_take_no_time() -> None:
    size = 50_000  # pairs of which would take minutes
    parts = [((row, 1),) for row in range(size)]
    assert len(boxes_of((size,), parts, span_of(b""), "'w'")) == size


# Tables

ENTRIES = [(b"", b"header")] + [
    (f"layer_{number:04}/kernel".encode(), bytes([number % 256]) * (number % 40))
    for number in range(200)
]


def table_at(path: Path, data: bytes, *, verify: bool = True) -> Table:
    path.write_bytes(data)
    return Table(File(str(path)), verify=verify)


@pytest.mark.parametrize("block_size", [1, 500, 1 << 20])
@pytest.mark.parametrize("interval", [1, 2, 16])
@pytest.mark.parametrize("snappy", [False, True])
def test_a_table_gives_its_entries(
    block_size: int, interval: int, snappy: bool, tmp_path: Path
) -> None:
    data = table_of(ENTRIES, block_size=block_size, interval=interval, snappy=snappy)
    table = table_at(tmp_path / "table", data)
    assert [(key, bytes(value.view)) for key, value in table.items()] == ENTRIES
    for key, value in random.Random(0).sample(ENTRIES, 50):
        found = table.find(key)
        assert found is not None
        assert bytes(found.view) == value
        if not snappy:
            assert data[found.offset : found.offset + len(value)] == value
    for key in (b"\0", b"layer_0000/kerne", b"layer_0010/kernel/", b"z"):
        assert table.find(key) is None


def test_an_empty_table_has_no_entries(tmp_path: Path) -> None:
    table = table_at(tmp_path / "table", table_of([]))
    assert list(table.items()) == []
    assert table.find(b"") is None


def test_tables_are_told_by_their_last_bytes(tmp_path: Path) -> None:
    path = tmp_path / "table"
    for data, wanted in [(table_of([]), True), (b"", False), (b"text", False), (bytes(48), False)]:
        path.write_bytes(data)
        assert is_table(str(path)) is wanted
    assert not is_table(str(tmp_path / "none"))
    assert not is_table(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")  # which nobody writes to
    assert not is_table(str(tmp_path / "pipe"))


ONE = sealed(block_of([(b"", b"x")]))
A_BLOCK = sealed(block_of([(b"a", b"x")]))  # 18 bytes, 13 of them the block's


def with_index(*handles: tuple[bytes, int, int], before: bytes = ONE) -> bytes:
    index = block_of([(key, varint(offset) + varint(size)) for key, offset, size in handles], 1)
    return before + sealed(index) + footer_of((len(before), len(index)))


def bomb() -> bytes:
    """Keys that share nearly all of a long one."""
    body = varint(0) + varint(1000) + varint(0) + b"a" * 1000
    body += (varint(1000) + varint(1) + varint(0) + b"b") + b"".join(
        varint(1000) + varint(1) + varint(0) + bytes([number]) for number in range(99, 256)
    )
    block = body + bytes(4) + (1).to_bytes(4, "little")
    return with_index((b"b", 0, len(block)), before=sealed(block))


LEN = len(ONE)
TABLES: dict[str, tuple[bytes, str]] = {
    "another magic number": (
        bytes(48),
        "FILE, byte 0: this does not end as a table of TensorFlow's checkpoints does.",
    ),
    "an index beyond the end": (
        footer_of((1000, 10)),
        "FILE, byte 0: the index would be 10 bytes from byte 1000 on, and the footer begins at byte 0.",
    ),
    "an index that is too long": (
        footer_of((0, 2**63)),
        "FILE, byte 0: the index would be 9223372036854775808 bytes from byte 0 on, and the footer begins at byte 0.",
    ),
    "numbers into the magic one": (
        b"\xff" * 9
        + b"\x01"
        + b"\xff" * 9
        + b"\x01"
        + b"\xff" * 19
        + b"\x01"
        + footer_of((0, 0))[-8:],
        "FILE, byte 20: a number has more than 64 bits.",
    ),
    "a block beyond the index": (
        with_index((b"", 0, 500)),
        f"FILE, byte {LEN + 3}: a block would be 500 bytes from byte 0 on, where only bytes 0 to {LEN} are left.",
    ),
    "a block twice": (
        with_index((b"", 0, LEN - 5), (b"a", 0, LEN - 5)),
        f"FILE, byte {LEN + 9}: a block would be {LEN - 5} bytes from byte 0 on, where only bytes {LEN} to {LEN} are left.",
    ),
    "the index as a block": (
        with_index((b"", LEN, 14)),
        f"FILE, byte {LEN + 3}: a block would be 14 bytes from byte {LEN} on, where only bytes 0 to {LEN} are left.",
    ),
    "a bad checksum": (
        with_index((b"", 0, LEN - 5), before=b"\x01" + ONE[1:]),
        f"FILE, byte 0: the checksum of a block of {LEN - 5} bytes does not match.",
    ),
    "another type under the same checksum": (
        with_index((b"", 0, LEN - 5), before=ONE[:-5] + b"\x01" + ONE[-4:]),
        f"FILE, byte 0: the checksum of a block of {LEN - 5} bytes does not match.",
    ),
    "an unknown compression": (
        with_index((b"", 0, LEN - 5), before=sealed(ONE[:-5], 2)),
        f"FILE, byte {LEN - 5}: a block is compressed in an unknown way (2).",
    ),
    "keys that descend": (
        with_index((b"z", 0, 19), before=sealed(block_of([(b"", b""), (b"b", b""), (b"a", b"")]))),
        "FILE, byte 7: the keys are not in ascending order.",
    ),
    "a key twice": (
        table_of([(b"", b""), (b"b", b""), (b"b", b"")]),
        "FILE, byte 7: the keys are not in ascending order.",
    ),
    "keys that descend from block to block": (
        with_index((b"b", 0, 13), (b"c", 18, 13), before=2 * A_BLOCK),
        "FILE, byte 22: a key is in another block than the index says.",
    ),
    "a key above what the index says": (
        with_index((b"Z", 0, 13), before=A_BLOCK),
        "FILE, byte 4: a key is in another block than the index says.",
    ),
    "a key that shares more than there is": (
        with_index((b"z", 0, 12), before=sealed(b"\x05\x01\x00a" + bytes(4) + b"\x01\0\0\0")),
        "FILE, byte 0: an entry goes beyond its block.",
    ),
    "an entry that is too long": (
        with_index((b"z", 0, 12), before=sealed(b"\x00\x01\x09a" + bytes(4) + b"\x01\0\0\0")),
        "FILE, byte 0: an entry goes beyond its block.",
    ),
    "more restarts than there is room for": (
        with_index((b"z", 0, 8), before=sealed(bytes(4) + b"\xff\xff\xff\xff")),
        "FILE, byte 0: a block of 8 bytes has no room for its restarts.",
    ),
    "a block without restarts": (
        with_index((b"z", 0, 3), before=sealed(bytes(3))),
        "FILE, byte 0: a block of 3 bytes has no room for its restarts.",
    ),
    "keys that take much more than the file": (
        bomb(),
        "FILE, byte 1574: the keys of a block of 1802 bytes take more than 64 times that.",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_wrong_is_refused(name: str, tmp_path: Path) -> None:
    data, wanted = TABLES[name]
    path = tmp_path / "table"
    text = refused(lambda: list(table_at(path, data).items()))
    assert text.replace(str(path), "FILE") == wanted


def test_a_file_shorter_than_a_footer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table"
    with pytest.raises(FileError, match=re.escape(f"{path}, byte 0: the footer would be 48 bytes")):
        table_at(path, b"short")


def test_checksums_are_not_compared_where_nobody_asks(tmp_path: Path) -> None:
    data, _ = TABLES["a bad checksum"]
    with pytest.raises(FileError, match="the checksum of a block"):
        list(table_at(tmp_path / "table", data).items())
    data = ONE[:-4] + bytes(4) + with_index((b"", 0, LEN - 5))[LEN:]
    (entry,) = table_at(tmp_path / "table", data, verify=False).items()
    assert bytes(entry[1].view) == b"x"

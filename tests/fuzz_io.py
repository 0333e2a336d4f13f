"""Damages files of weights in many ways, and looks at what reading them does.

    python tests/fuzz_io.py --format tf2 --cases 10000

A case has a number, from which it follows. Either it is refused with a FileError whose path is in
the folder and whose offset is in the file, or it gives arrays: those that were there before where
checksums are verified and were not made anew (``raw``), and arrays of the shapes and dtypes that
were announced where they were (``resealed``) or are not looked at (``unverified``). A process has
little more memory than it begins with, and a case has ten seconds. The rest is a failure, whose
number is printed; ``--first NUMBER --cases 1`` runs it again.
"""

from __future__ import annotations

import argparse
import collections
import functools
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tf_tables import Message, message, table_of

from jscope.errors import FileError
from jscope.io._checkpoint import Checkpoint
from jscope.io._file import File
from jscope.io._protobuf import BYTES, VARINT, fields
from jscope.io._span import Span
from jscope.io._table import Table
from jscope.io._tensorflow import open_tensorflow

MEMORY = 256 << 20  # bytes that cases may take
SECONDS = 10  # of a case
DATA = Path(__file__).parent / "data" / "checkpoints"
NUMBERS = [0, 1, 2, 5, 127, 128, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63]
NUMBERS += [2**64 - 1, 2**64 - 2]


class Source(NamedTuple):
    """A checkpoint that is whole: the files by name, and what of them is opened."""

    files: Mapping[str, bytes]
    path: str


class Format(NamedTuple):
    """What is fuzzed.

    Attributes:
      sources: Gives whole checkpoints.
      open: Opens a path, with or without checksums verified.
      reseal: Damages the file of a name below its checksums, and makes those anew; None where the
        format has none, or this file has not.
    """

    sources: Callable[[], list[Source]]
    open: Callable[[str, bool], Checkpoint]
    reseal: Callable[[random.Random, str, bytes], bytes | None]


# Damages


def flip(draw: random.Random, data: bytearray) -> None:
    """Some bits."""
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def cut(draw: random.Random, data: bytearray) -> None:
    """The end, often a long one."""
    del data[draw.randrange(len(data)) :]


def remove(draw: random.Random, data: bytearray) -> None:
    at = draw.randrange(len(data))
    del data[at : at + draw.choice([1, 2, 4, 8, 100])]


def insert(draw: random.Random, data: bytearray) -> None:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.choice([bytes(4), b"\xff" * 9, draw.randbytes(8), data[:50]])


def overwrite(draw: random.Random, data: bytearray) -> None:
    at, size = draw.randrange(len(data)), draw.choice([1, 2, 4, 8, 32])
    patch = draw.choice([bytes(size), b"\xff" * size, draw.randbytes(size)])
    data[at : at + size] = patch[: len(data) - at]


def swap(draw: random.Random, data: bytearray) -> None:
    """Two stretches of the same length."""
    size = draw.choice([1, 4, 16, 100])
    one, other = (draw.randrange(max(len(data) - size, 1)) for _ in range(2))
    first, second = bytes(data[one : one + size]), bytes(data[other : other + size])
    if len(first) == len(second) and abs(one - other) >= size:
        data[one : one + size], data[other : other + size] = second, first


def copy(draw: random.Random, data: bytearray) -> None:
    """A stretch over another one."""
    size = draw.choice([4, 16, 100, 1000])
    one, other = draw.randrange(len(data)), draw.randrange(len(data))
    patch = data[one : one + size][: len(data) - other]
    data[other : other + len(patch)] = patch


def renumber(draw: random.Random, data: bytearray) -> None:
    """A number of a fixed size, as lengths and offsets are."""
    width = draw.choice([1, 2, 4, 8])
    at = draw.randrange(max(len(data) - width, 1))
    number = draw.choice([*NUMBERS, len(data), draw.randrange(2 * len(data))])
    patch = (number % (1 << 8 * width)).to_bytes(width, "little")
    data[at : at + width] = patch[: len(data) - at]


DAMAGES = [flip, flip, cut, remove, insert, overwrite, swap, copy, renumber]


def damaged(draw: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        if found:
            draw.choice(DAMAGES)(draw, found)
    return bytes(found)


# TensorFlow


def parsed(data: bytes, depth: int = 4) -> Message | None:
    """The fields of a message and of those in it; None where it is none."""
    try:
        found = list(fields(Span(memoryview(data), "", 0)))
    except FileError:
        return None
    out: Message = []
    for tag, value in found:
        if tag & 7 == BYTES:
            inner = bytes(value.view)
            value = (parsed(inner, depth - 1) if depth and inner else None) or inner
        out.append((tag >> 3, tag & 7, value))
    return out


def changed(draw: random.Random, fields: Message) -> Message:
    """A message of which one field, here or further in, is another one, gone, or there twice."""
    if not fields:
        return [(draw.randrange(1, 8), VARINT, draw.choice(NUMBERS))]
    out = list(fields)
    at = draw.randrange(len(out))
    number, kind, value = out[at]
    if isinstance(value, list) and draw.random() < 0.7:
        out[at] = (number, kind, changed(draw, value))
        return out
    what = draw.randrange(5)
    if what == 0:
        del out[at]
    elif what == 1:
        out.insert(draw.randrange(len(out) + 1), out[draw.randrange(len(out))])
    elif kind == VARINT:
        near = [value + 1, max(value - 1, 0), value * 2, value ^ 1 << draw.randrange(64)]
        out[at] = (number, kind, draw.choice([*NUMBERS, *near]))
    elif kind == BYTES:
        data = value if isinstance(value, bytes) else message(value)
        out[at] = (number, kind, damaged(draw, data) if data else draw.randbytes(3))
    else:
        out[at] = (number, kind, draw.getrandbits(32 if kind == 5 else 64))
    return out


@functools.cache
def entries_of(data: bytes) -> list[tuple[bytes, bytes]]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        table = Table(File(file.name), verify=True)
        return [(key, bytes(value.view)) for key, value in table.items()]


def reseal_table(draw: random.Random, name: str, data: bytes) -> bytes | None:
    """A table of other entries, or of other blocks, whose checksums are right."""
    if ".data-" in name or name == "checkpoint":
        return None
    entries = list(entries_of(data))
    spoil: Callable[[bytes], bytes] = bytes
    what = draw.randrange(8)
    at, other = draw.randrange(len(entries)), draw.randrange(len(entries))
    key, value = entries[at]
    if what == 0:  # of keys that are not in order, or twice
        entries[at], entries[other] = entries[other], entries[at]
    elif what == 1:
        entries[at] = (damaged(draw, key), value)
    elif what == 2:
        entries[at] = (key, entries[other][1])
    elif what == 3:
        entries[at] = (key, damaged(draw, value))
    elif what == 4:
        number = draw.choice([0, 0, 1, 2])  # a block; or the index, where there are fewer
        counter = iter(range(100))
        spoil = lambda block: damaged(draw, block) if next(counter) == number else block  # noqa: E731
    else:
        fields = parsed(value)
        for _ in range(draw.choice([1, 1, 2])):
            fields = None if fields is None else changed(draw, fields)
        entries[at] = (key, damaged(draw, value) if fields is None else message(fields))
    return table_of(
        entries,
        block_size=draw.choice([50, 1000, 1 << 20]),
        interval=draw.choice([1, 3, 16]),
        snappy=draw.random() < 0.2,
        spoil=spoil,
    )


def tf_sources(*folders: str) -> Callable[[], list[Source]]:
    def sources() -> list[Source]:
        found = []
        for folder in folders:
            paths = [path for path in (DATA / folder).rglob("*") if path.is_file()]
            files = {str(path.relative_to(DATA / folder)): path.read_bytes() for path in paths}
            found.append(Source(files, ""))
        return found

    return sources


def open_tf(path: str, verify: bool) -> Checkpoint:
    return open_tensorflow(path, verify=verify)


FORMATS = {
    "tf2": Format(
        tf_sources("v2", "v2_partitioned", "v2_sharded", "v2_grid", "tf2"), open_tf, reseal_table
    ),
    "tf1": Format(tf_sources("v1", "v1_partitioned", "v1_sharded"), open_tf, reseal_table),
}


# Cases


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def read_all(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """All arrays, copied: each has to be as it was announced."""
    shapes, dtypes, found = checkpoint.shapes, checkpoint.dtypes, {}
    for name in checkpoint:
        array = checkpoint[name]
        assert array.shape == shapes[name], f"{name}: {array.shape}, not {shapes[name]}"
        assert array.dtype == dtypes[name], f"{name}: {array.dtype}, not {dtypes[name]}"
        found[name] = array.copy()
    return found


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in ((one[name], other[name]) for name in one)
    )


@functools.cache
def whole(kind: str) -> list[tuple[Source, dict[str, np.ndarray]]]:
    """The checkpoints of a format, and what is in them."""
    found = []
    for source in FORMATS[kind].sources():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), source.files)
            found.append((source, read_all(FORMATS[kind].open(f"{folder}/{source.path}", True))))
    return found


def run_case(kind: str, number: int) -> tuple[str, str]:
    """How a case was damaged, and what came of it; raises AssertionError for what must not be."""
    draw = random.Random(f"{kind} {number}")
    source, before = draw.choice(whole(kind))
    name = draw.choice(sorted(source.files))
    mode = draw.choice(["raw", "resealed", "resealed", "unverified"])
    data = source.files[name]
    after = FORMATS[kind].reseal(draw, name, data) if mode == "resealed" else None
    if after is None:
        mode = "unverified" if mode == "unverified" else "raw"
        after = damaged(draw, data)
    verify = mode == "raw" or (mode == "resealed" and draw.random() < 0.5)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), {**source.files, name: after})
        try:
            found = read_all(FORMATS[kind].open(f"{folder}/{source.path}", verify))
        except FileError as error:
            check_refusal(error, folder)
            return mode, "refused"
    if same(before, found):
        return mode, "equal"
    assert mode != "raw", f"other arrays: {before.keys() ^ found.keys()}"
    return mode, "other"


def check_refusal(error: FileError, folder: str) -> None:
    path = Path(error.path)
    assert Path(folder) in [path, *path.parents], f"a path outside the folder: {path}"
    assert str(path) in str(error)
    if error.offset is not None:
        assert 0 <= error.offset <= path.stat().st_size, f"no offset: {error.offset}"


def out_of_time(*_: Any) -> None:
    raise AssertionError(f"it takes more than {SECONDS} s")


def limit_memory() -> None:
    """Leaves this process ``MEMORY`` more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def run(kind: str, first: int, cases: int) -> int:
    """Runs cases, and prints what came of them; the number of failures."""
    whole(kind)
    if sys.platform == "linux":
        limit_memory()
    signal.signal(signal.SIGALRM, out_of_time)
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    failures, slowest, began = 0, (0.0, 0), time.perf_counter()
    for number in range(first, first + cases):
        start = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            outcomes[run_case(kind, number)] += 1
        except Exception:
            failures += 1
            print(f"case {number} of {kind}:\n{traceback.format_exc()}", file=sys.stderr)
        finally:
            signal.alarm(0)
        slowest = max(slowest, (time.perf_counter() - start, number))
    print(f"{kind}: {cases} cases in {time.perf_counter() - began:.0f} s, {failures} failures")
    for (mode, outcome), count in sorted(outcomes.items()):
        print(f"  {mode:<10} {outcome:<8} {count}")
    print(f"  slowest: {slowest[0] * 1000:.0f} ms (case {slowest[1]})")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--format", choices=FORMATS, action="append")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    kinds = given.format or list(FORMATS)
    return min(sum(run(kind, given.first, given.cases) for kind in kinds), 1)


if __name__ == "__main__":
    sys.exit(main())

"""Damaged safetensors and NumPy files: each is refused, or reads as what it says.

    python tests/fuzz_files.py --cases 10000 --format npz

Every case damages a real file in up to three ways. What may come of it is a FileError, or arrays
whose shapes and dtypes are those announced; where the format has checksums and the damage did not
mend them, only the arrays that were written, and all of them. Nothing else: no other exception, no
more than 5 seconds, no more than 512 MiB.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

import jscope as js
from jscope import errors

SECONDS = 5
MEMORY = 512 << 20
Damage = Callable[[bytearray, random.Random], None]

NUMBERS = [0, 1, 2, 3, 7, 8, 63, 64, 65, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]
NUMBERS += [2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30]


# the files


def arrays() -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(0)
    return {
        "net/dense/kernel": numbers.normal(size=(7, 5)).astype(np.float32),
        "net/dense/bias": np.zeros(5, np.float32),
        "net/dense/bias/Adam": np.full(300, 0.5, np.float32),
        "step": np.int64(12345),
        "mask": np.arange(9) % 2 == 0,
        "empty": np.zeros((3, 0, 2), np.uint8),
        "turned": np.asfortranarray(numbers.integers(0, 99, (4, 6))),
    }


def safetensors_files() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        narrow = {"half": np.ones(3, ml_dtypes.bfloat16), "f8": np.ones(3, ml_dtypes.float8_e5m2)}
        for tree in ({}, {"w": np.ones(3)}, arrays(), arrays() | narrow):
            js.io.save(path, tree, metadata={"format": "pt", "a\n": "ö"})
            yield path.read_bytes()
    header = json.dumps({"q": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
    yield len(header).to_bytes(8, "little") + header + b"ab"


def npz_files() -> Iterator[bytes]:
    text = {"text": np.array(["a", "b"]), "pickled": np.array([{"a": 1}])}
    for write in (np.savez, np.savez_compressed):
        for tree in ({}, {"w": np.ones(3)}, arrays(), arrays() | text):
            file = io.BytesIO()
            write(file, **tree)
            yield file.getvalue()
    stream = Unseekable()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"written to a pipe"
        for name, array in arrays().items():
            archive.writestr(f"{name}.npy", npy(array))
    yield stream.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        js.io.save(Path(folder) / "a.npz", arrays())
        yield (Path(folder) / "a.npz").read_bytes()


class Unseekable(io.BytesIO):
    """A stream into which sizes can only be written after what they are of."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_files() -> Iterator[bytes]:
    for array in arrays().values():
        yield npy(array)
    yield npy(np.arange(6).astype(">i4").reshape(2, 3))
    yield npy(np.zeros(2, [("a", "f4"), ("b", "i2", (3,))]))
    yield npy(np.array(["text"]))
    file = io.BytesIO()
    np.lib.format.write_array(file, np.arange(5.0), version=(2, 0))
    yield file.getvalue()


# damage to any file


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    new = rng.choice([b"\0", b"\xff", b"\x7f", rng.randbytes(4), b"\xff" * 8, b"\0" * 30])
    data[at : at + len(new)] = new[: len(data) - at]


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def append(data: bytearray, rng: random.Random) -> None:
    data += rng.choice([b"\0", rng.randbytes(rng.randrange(1, 100)), bytes(data)])


def splice(data: bytearray, rng: random.Random) -> None:
    """Moves, repeats, removes or inserts a piece."""
    at, size = rng.randrange(len(data) + 1), rng.choice([1, 2, 4, 8, 30, 64, 200])
    piece = data[at : at + size]
    to = rng.randrange(len(data) + 1)
    kind = rng.randrange(4)
    if kind == 0:
        data[to:to] = piece
    elif kind == 1:
        data[to : to + len(piece)] = piece
    elif kind == 2:
        del data[at : at + size]
    else:
        data[to:to] = rng.randbytes(size)


def edit_text(text: bytes, rng: random.Random, words: list[bytes]) -> bytes:
    """Another number, another word, a piece twice or a piece less."""
    kind = rng.randrange(5)
    if kind < 2:
        found = list(re.finditer(rb"[0-9]+", text))
        new = str(rng.choice([*NUMBERS, -1, 1.5, rng.randrange(100)])).encode()
    elif kind == 2:
        found = list(re.finditer(rb"[A-Za-z_0-9]+|[<>|]..", text))
        new = rng.choice(words)
    elif kind == 3:
        found = list(re.finditer(rb"[{}\[\](),:\"']", text))
        new = rng.choice([b"", b"{", b"}", b"[", b"]", b",", b":", b'"', b"'", b" ", b"((" * 50])
    else:
        start = rng.randrange(len(text) + 1)
        piece = text[start : start + rng.randrange(1, 80)]
        at = rng.randrange(len(text) + 1)
        return text[:at] + piece + text[at:]
    if not found:
        return text
    match = rng.choice(found)
    return text[: match.start()] + new + text[match.end() :]


ANY: list[Damage] = [flip, flip, overwrite, cut, append, splice, splice]


# damage to safetensors

WORDS = [b"F32", b"F64", b"U8", b"BOOL", b"F4", b"BF16", b"C64", b"Q8", b"dtype", b"shape", b"a"]
WORDS += [b"__metadata__", b"data_offsets", b"null", b"true", b"\\ud800", b"\\u0061", b"\xff"]


def header_length(data: bytearray, rng: random.Random) -> None:
    old = int.from_bytes(data[:8], "little")
    new = rng.choice([*NUMBERS, old + 1, old - 1, old + 8, old * 2, len(data), len(data) - 8])
    data[:8] = (new % 2**64).to_bytes(8, "little")


def header_text(data: bytearray, rng: random.Random) -> None:
    """Edits the header, whose length stays right."""
    size = int.from_bytes(data[:8], "little")
    text = bytes(data[8 : 8 + size])
    for _ in range(rng.choice([1, 1, 2, 4])):
        text = edit_text(text, rng, WORDS)
    data[: 8 + size] = len(text).to_bytes(8, "little") + text


def header_values(data: bytearray, rng: random.Random) -> None:
    """Edits what the header means: places that overlap, entries twice, shapes that do not fit."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
        names = [name for name in header if name != "__metadata__"]
        entry = header[rng.choice(names)]
        other = header[rng.choice(names)]
        key = rng.choice(["dtype", "shape", "data_offsets"])
        old, entry[key] = entry[key], other[key]
        if isinstance(old, list) and rng.random() < 0.5:
            entry[key] = old
            old[rng.randrange(len(old))] += rng.choice([-8, -1, 1, 8, 2**62])
        if rng.random() < 0.2:
            del header[rng.choice(names)]
        text = json.dumps(header).encode()
    except (ValueError, LookupError, TypeError, AttributeError):
        return  # by an earlier damage
    data[: 8 + size] = len(text).to_bytes(8, "little") + text


# damage to .npy

DESCRS = [b"<f4", b">f8", b"|b1", b"|O", b"<U4", b"|S9", b"<V8", b"<m8[s]", b"<c16", b"|u1", b"=i8"]
DESCRS += [b"f4,f4", b"descr", b"shape", b"fortran_order", b"True", b"False", b"None", b"<f3", b"T"]


def npy_length(data: bytearray, rng: random.Random) -> None:
    data[8:10] = rng.choice([0, 1, 10, 117, 118, 119, 2**15, 2**16 - 1, len(data)]).to_bytes(
        3, "little"
    )[:2]


def npy_version(data: bytearray, rng: random.Random) -> None:
    data[6:8] = bytes([rng.choice([0, 1, 2, 3, 4, 255]), rng.randrange(3)])


def npy_text(data: bytearray, rng: random.Random) -> None:
    """Edits the header, whose length stays right."""
    size = int.from_bytes(data[8:10], "little")
    text = bytes(data[10 : 10 + size])
    for _ in range(rng.choice([1, 1, 2, 4])):
        text = edit_text(text, rng, DESCRS)
    data[8 : 10 + size] = (len(text) % 2**16).to_bytes(2, "little") + text


# damage to zip archives

FORMS = {
    b"PK\1\2": "<4sBBHHHHHLLLHHHHHLL",
    b"PK\3\4": "<4sHHHHHLLLHH",
    b"PK\5\6": "<4sHHHHLLH",
    b"PK\6\6": "<4sQHHLLQQQQ",
    b"PK\6\7": "<4sLQL",
    b"PK\7\10": "<4sLLL",
}
METHODS = [0, 8, 9, 12, 14, 93, 99]


def records(data: bytes) -> list[tuple[bytes, int]]:
    return [(match.group(), match.start()) for match in re.finditer(rb"PK[\1-\7][\2-\10]", data)]


def zip_field(data: bytearray, rng: random.Random) -> None:
    """Another value in a field of a header, an entry or the end."""
    found = [(mark, at) for mark, at in records(bytes(data)) if mark in FORMS]
    if not found:
        return
    mark, at = rng.choice(found)
    form = struct.Struct(FORMS[mark])
    if at + form.size > len(data):
        return
    fields = list(form.unpack_from(data, at))
    number = rng.randrange(1, len(fields))
    new = rng.choice([*NUMBERS, *METHODS, fields[number] + 1, fields[number] - 1, len(data)])
    width = struct.calcsize("<" + FORMS[mark][2 + number])
    fields[number] = new % 256**width
    form.pack_into(data, at, *fields)


def entries(data: bytes) -> tuple[list[bytes], int, int] | None:
    """The entries of the directory, its place, and that of the end."""
    end = data.rfind(b"PK\5\6")
    if end < 0 or end + 22 > len(data):
        return None
    start = int.from_bytes(data[end + 16 : end + 20], "little")
    places = [at for mark, at in records(data) if mark == b"PK\1\2" and start <= at < end]
    if not places or places[0] != start:
        return None
    return [data[a:b] for a, b in zip(places, [*places[1:], end], strict=True)], start, end


def zip_directory(data: bytearray, rng: random.Random) -> None:
    """An entry less, twice, or the places of two exchanged; count and size stay right."""
    found = entries(bytes(data))
    if found is None:
        return
    rows, start, end = found
    kind, one, other = rng.randrange(4), rng.randrange(len(rows)), rng.randrange(len(rows))
    if kind == 0:
        del rows[one]
    elif kind == 1:
        rows.insert(other, rows[one])
    elif kind == 2:
        a, b = rows[one], rows[other]
        rows[one], rows[other] = a[:42] + b[42:46] + a[46:], b[:42] + a[42:46] + b[46:]
    else:
        rng.shuffle(rows)
    tail = bytearray(data[end:])
    count = len(rows).to_bytes(2, "little")
    tail[8:12], tail[12:16] = count * 2, sum(map(len, rows)).to_bytes(4, "little")
    data[start:] = b"".join(rows) + tail


def zip_mended(data: bytearray, rng: random.Random) -> None:
    """Other bytes in a member, packed anew, all sizes and checksums right: only the header tells."""
    try:
        with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
    except Exception:  # by an earlier damage
        return
    if not members:
        return
    name = rng.choice(list(members))
    inner = bytearray(members[name])
    rng.choice([npy_text, npy_text, npy_length, npy_version, flip, cut, append, splice])(inner, rng)
    members[name] = bytes(inner)
    file = io.BytesIO()
    with zipfile.ZipFile(
        file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    ) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    data[:] = file.getvalue()


def zip_crc(data: bytearray, rng: random.Random) -> None:
    """A checksum that is right for what has been packed or stored wrongly."""
    found = entries(bytes(data))
    if found is None:
        return
    rows, start, _ = found
    row = rng.choice(rows)
    at = int.from_bytes(row[42:46], "little")
    skip = 30 + int.from_bytes(data[at + 26 : at + 28], "little")
    skip += int.from_bytes(data[at + 28 : at + 30], "little")
    size = int.from_bytes(row[20:24], "little")
    if size == 0 or at + skip + size > len(data) or row[10:12] != b"\0\0":
        return
    data[at + skip + rng.randrange(size)] ^= 1 << rng.randrange(8)
    crc = zlib.crc32(data[at + skip : at + skip + size]).to_bytes(4, "little")
    place = start + sum(map(len, rows[: rows.index(row)]))
    data[at + 14 : at + 18] = data[place + 16 : place + 20] = crc


# the cases

FORMATS: dict[str, tuple[Callable[[], Iterator[bytes]], list[Damage], bool]] = {
    "safetensors": (
        safetensors_files,
        [*ANY, header_length, header_text, header_text, header_values, header_values],
        False,
    ),
    "npz": (
        npz_files,
        [*ANY, zip_field, zip_field, zip_field, zip_directory, zip_mended, zip_crc],
        True,
    ),
    "npy": (npy_files, [*ANY, npy_length, npy_version, npy_text, npy_text, npy_text], False),
}
MENDING = (zip_mended, zip_crc)
"""What makes checksums right again, so that they cannot tell."""

Content = tuple[dict[str, tuple[Any, Any, bytes]], set[str]]


def content(path: Path) -> Content:
    """All that a file says: names, shapes, dtypes and bytes, and which names have no array."""
    checkpoint = js.io.open(path)
    found = {}
    for name, array in checkpoint.items():
        assert array.shape == checkpoint.shapes[name], f"{name} is not of its announced shape"
        assert array.dtype == checkpoint.dtypes[name], f"{name} is not of its announced dtype"
        assert not array.flags.writeable, f"{name} can be written"
        found[name] = (array.shape, array.dtype, array.tobytes())
    return found, set(checkpoint.notes)


def agree(path: Path, found: Content) -> None:
    """What was read must be what the packages that define the formats read."""
    if path.suffix == ".safetensors":
        for name, tensor in safetensors.deserialize(path.read_bytes()):
            if name in found[0]:
                shape, _, bits = found[0][name]
                assert (tuple(tensor["shape"]), bytes(tensor["data"])) == (shape, bits)
            else:
                assert name in found[1], f"{name} is lost"
        return
    if not found[0]:
        return
    loaded = np.load(path)
    theirs = loaded if path.suffix == ".npz" else {path.stem: loaded}
    for name, (shape, dtype, bits) in found[0].items():
        array = theirs[name]
        native = array.astype(array.dtype.newbyteorder("="))
        assert (native.shape, native.dtype, native.tobytes()) == (shape, dtype, bits)
    assert found[0].keys() | found[1] == set(theirs), "names are lost"


def case(path: Path, original: bytes, damages: list[Damage], checked: bool, seed: str) -> str:
    """What came of one case; an exception if it must not have."""
    rng = random.Random(seed)
    data = bytearray(original)
    chosen = rng.choices(damages, k=rng.choice([1, 1, 1, 2, 3]))
    path.write_bytes(original)
    wanted = content(path)
    for damage in chosen:
        damage(data, rng)
    path.unlink()  # which a map may still have
    path.write_bytes(data)
    try:
        found = content(path)
    except errors.FileError:
        return "refused"
    agree(path, found)
    if found == wanted:
        return "the same"
    told = ", ".join(damage.__name__ for damage in chosen)
    assert not checked or set(chosen) & set(MENDING), f"other arrays after {told}"
    assert sum(len(bits) for _, _, bits in found[0].values()) <= 1040 * len(data)
    return "as it says"


def too_slow(*_: Any) -> None:
    raise AssertionError(f"took more than {SECONDS} seconds")


def fuzz(kind: str, cases: int, seed: int) -> collections.Counter[str]:
    files, damages, checked = FORMATS[kind]
    originals = list(files())
    counts = collections.Counter[str]()
    signal.signal(signal.SIGALRM, too_slow)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"case.{kind}"
        for number in range(cases):
            name = f"{kind}-{seed}-{number}"
            signal.alarm(SECONDS)
            try:
                original = originals[number % len(originals)]
                counts[case(path, original, damages, checked, name)] += 1
            except Exception as error:
                kept = Path(tempfile.gettempdir()) / f"{name}.{kind}"
                if path.exists():
                    kept.write_bytes(path.read_bytes())
                counts["FAILED"] += 1
                print(f"{name}: {type(error).__name__}: {error} (kept as {kept})", file=sys.stderr)
            finally:
                signal.alarm(0)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--format", choices=FORMATS, action="append")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    failed = 0
    for kind in options.format or FORMATS:
        counts = fuzz(kind, options.cases, options.seed)
        failed += counts["FAILED"]
        told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        print(f"{kind}: {options.cases} cases: {told}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

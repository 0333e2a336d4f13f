"""Measures how long it takes to read a checkpoint of TensorFlow, and prints a table.

    pip install -e '.[io]'        # and tensorflow-cpu, for a line about its own reader
    python tests/benchmarks/checkpoints.py [PATH] [--rounds N]

Without a PATH it writes a checkpoint of 22 MB in 167 tensors, as many as a small network of
convolutions has. The baseline is what cannot be spared: the files of data mapped into memory, as
many bytes as each tensor has copied into an array, and the checksum of them. The line with one copy
of all bytes is there for comparison: one large array costs the system less than many. All readers
take turns in one process (A B C A B C ...), open the checkpoint anew each time and read all
tensors; the file stays in the system's cache. A figure is the median over the rounds of the ratio
to the baseline in the same round. jscope's arrays lie in the mapped file, verified; a line tells
what copying them adds.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import mmap
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from tf_tables import message, shape_message, table_of

from jscope.io import _crc32c
from jscope.io._crc32c import masked_crc32c
from jscope.io._protobuf import BYTES, FIXED32, VARINT
from jscope.io._tensorflow import open_tensorflow

BUDGET = 1.5
BASELINE = "map, copy, crc32c"
JSCOPE = "jscope"
PACKAGES = ["jscope-jax", "numpy", "google-crc32c", "tensorflow-cpu", "tensorflow"]

Reader = Callable[[], object]


def network() -> dict[str, np.ndarray]:
    """5.5 million numbers in 167 tensors: kernels, and four vectors beside each."""
    generator = np.random.default_rng(0)
    values: dict[str, np.ndarray] = {"global_step": np.array(1000, np.int64)}
    for layer in range(33):
        width = 64 + 12 * layer
        values[f"net/conv_{layer}/kernel"] = generator.normal(size=[1, 1, width, 2 * width])
        for name in ("beta", "gamma", "moving_mean", "moving_variance"):
            values[f"net/conv_{layer}/{name}"] = generator.normal(size=[2 * width])
    values["net/logits/kernel"] = generator.normal(size=[1024, 200])
    return {
        name: value.astype(np.float32) if value.dtype == np.float64 else value
        for name, value in values.items()
    }


def write_bundle(folder: Path, values: Mapping[str, np.ndarray]) -> str:
    """Writes a checkpoint as TensorFlow does."""
    numbers = {np.dtype(np.float32): 1, np.dtype(np.int64): 9}
    entries, offset = {b"": message([(1, VARINT, 1), (3, BYTES, [(1, VARINT, 1)])])}, 0
    with (folder / "model.data-00000-of-00001").open("wb") as file:
        for name, value in sorted(values.items()):
            data = value.tobytes()
            file.write(data)
            entries[name.encode()] = message(
                [
                    (1, VARINT, numbers[value.dtype]),
                    (2, BYTES, shape_message(value.shape)),
                    (4, VARINT, offset),
                    (5, VARINT, len(data)),
                    (6, FIXED32, masked_crc32c([memoryview(data)])),
                ]
            )
            offset += len(data)
    (folder / "model.index").write_bytes(table_of(entries.items(), block_size=1 << 18))
    return str(folder / "model")


def read_bytes(files: list[Path], sizes: list[int]) -> object:
    """The baseline; the sizes run on from file to file."""
    copies, todo = [], list(reversed(sizes))
    for path in files:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data, at = np.frombuffer(mapped, np.uint8), 0
        while at < len(data):
            size = todo.pop() if todo else len(data)
            copies.append(data[at : at + size].copy())
            masked_crc32c([memoryview(copies[-1])])
            at += size
    return copies


def read_jscope(path: str, *, copied: bool = False, verify: bool = True) -> object:
    checkpoint = open_tensorflow(path, verify=verify)
    return {name: checkpoint[name].copy() if copied else checkpoint[name] for name in checkpoint}


def read_slowly(path: str) -> object:
    """As jscope reads where google-crc32c is not installed."""
    compiled = _crc32c._compiled
    try:
        _crc32c._compiled = lambda: None
        return read_jscope(path)
    finally:
        _crc32c._compiled = compiled


def read_npz(path: Path) -> object:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def readers(path: str, folder: Path) -> dict[str, Reader]:
    """The contestants, the baseline first."""
    prefix = Path(open_tensorflow(path, verify=True).path)
    files = sorted(prefix.parent.glob(f"{prefix.name}.data-*")) or [prefix]
    checkpoint = open_tensorflow(path, verify=True)
    sizes = [checkpoint[name].nbytes for name in checkpoint]
    np.savez(folder / "weights.npz", **{name: checkpoint[name] for name in checkpoint})
    found: dict[str, Reader] = {
        BASELINE: lambda: read_bytes(files, sizes),
        "map, one copy of all, crc32c": lambda: read_bytes(files, []),
        JSCOPE: lambda: read_jscope(path),
        "jscope, and copied": lambda: read_jscope(path, copied=True),
        "jscope, and copied, unverified": lambda: read_jscope(path, copied=True, verify=False),
        "jscope without google-crc32c": lambda: read_slowly(path),
        "np.load of an .npz": lambda: read_npz(folder / "weights.npz"),
    }
    try:
        import tensorflow as tf
    except ImportError:
        return found

    def theirs() -> object:
        reader = tf.train.load_checkpoint(str(prefix))
        return {name: reader.get_tensor(name) for name in checkpoint}

    return {**found, "tensorflow": theirs}


def measure(found: Mapping[str, Reader], rounds: int) -> dict[str, list[float]]:
    """Seconds by reader and round; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for number in range(-1, rounds):
        for name, read in found.items():
            gc.collect()
            start = time.perf_counter()
            read()
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def versions() -> str:
    known = []
    for package in PACKAGES:
        try:
            known.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"Python {platform.python_version()}, {', '.join(known)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", nargs="?")
    parser.add_argument("--rounds", type=int, default=31)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.path or write_bundle(Path(folder), network())
        checkpoint = open_tensorflow(path, verify=True)
        print(f"{len(checkpoint)} tensors, {checkpoint.nbytes / 1e6:.1f} MB\n{versions()}")
        seconds = measure(readers(path, Path(folder)), given.rounds)
    for name, times in seconds.items():
        ratios = [mine / base for mine, base in zip(times, seconds[BASELINE], strict=True)]
        ratio = statistics.median(ratios)
        verdict = f"  budget {BUDGET}: {'met' if ratio <= BUDGET else 'NOT met'}"
        print(
            f"{name:<34}{statistics.median(times) * 1000:8.2f} ms {ratio:6.2f}x"
            + (verdict if name == JSCOPE else "")
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes the checkpoints that ``tests/test_io_tensorflow.py`` reads, and what is in them.

Writes the folder checkpoints/ beside this file, with truth.json: by checkpoint and name the dtype,
the shape and the bytes (zlib, base64) that TensorFlow was given. Needs TensorFlow 2 (``pip install -e '.[tf]'``):

    python tests/data/record_tf_checkpoints.py
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as v1

FOLDER = Path(__file__).parent / "checkpoints"

QUANTIZED = {
    tf.qint8: np.int8,
    tf.quint8: np.uint8,
    tf.qint16: np.int16,
    tf.quint16: np.uint16,
    tf.qint32: np.int32,
}
# What is saved in the second format; its op aborts the process for a resource.
DTYPES = [
    *(tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.complex64, tf.complex128, tf.bool),
    *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
    *QUANTIZED,
    *map(tf.dtypes.as_dtype, range(24, 29)),  # of eight-bit floats
]
SMALL = [*map(tf.dtypes.as_dtype, range(29, 34))]  # of four and two bits
NOT_IN_THE_FIRST = {
    *(tf.bfloat16, tf.uint32, tf.uint64, tf.qint16, tf.quint16),
    *map(tf.dtypes.as_dtype, range(24, 29)),
}

Truth = dict[str, list[Any]]


def array_of(dtype: tf.DType, shape: list[int], seed: int) -> np.ndarray:
    """Any bits, those of NaN, infinities and denormal numbers among them."""
    kind = np.dtype(QUANTIZED.get(dtype, dtype.as_numpy_dtype))
    generator = np.random.default_rng(seed)
    if kind == np.bool_:
        return generator.integers(0, 2, shape).astype(bool)
    size = int(np.prod(shape)) * kind.itemsize
    return np.frombuffer(generator.bytes(size), kind).reshape(shape)


def tensor_of(array: np.ndarray, dtype: tf.DType) -> Any:
    return tf.bitcast(array, dtype) if dtype in QUANTIZED else tf.constant(array, dtype)


def described(array: np.ndarray) -> list[Any]:
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
    return [array.dtype.name, list(array.shape), data]


def values_of(dtypes: list[tf.DType]) -> dict[str, tuple[tf.DType, np.ndarray]]:
    """A matrix of each dtype; scalars, empty ones and names that share much or sort oddly."""
    found = {
        f"dtypes/{dtype.name}": (dtype, array_of(dtype, [3, 5], number))
        for number, dtype in enumerate(dtypes)
    }
    shapes = {
        "scalar": [],
        "empty": [0, 3],
        "one": [1],
        "deep": [1, 2, 1, 3, 1, 2],
        "empty_too": [0],
    }
    for number, (name, shape) in enumerate(shapes.items()):
        found[f"shapes/{name}"] = (tf.float32, array_of(tf.float32, shape, 100 + number))
    for number in range(40):
        name = f"encoder/layer_{number}/attention/self/kernel"
        found[name] = (tf.int16, array_of(tf.int16, [2], 200 + number))
    for number, name in enumerate(["w", "w/Adam", "w_1", "Ünïcode/ß", "a b:c"]):
        found[name] = (tf.float32, array_of(tf.float32, [2, 2], 300 + number))
    found["numbers"] = (
        tf.int64,
        np.array([0, 1, -1, 127, 128, -128, 2**31, -(2**31), 2**63 - 1, -(2**63)]),
    )
    return found


def write_v2() -> Truth:
    values = values_of(DTYPES)
    tensors = {name: tensor_of(array, dtype) for name, (dtype, array) in values.items()}
    tensors["notes/string"] = tf.constant(["a", "", "longer"])
    tensors["notes/variant"] = tf.raw_ops.EmptyTensorList(
        element_shape=[2], max_num_elements=3, element_dtype=tf.float32
    )
    for dtype in SMALL:
        tensors[f"notes/{dtype.name}"] = tf.constant(
            np.array([1, 0, 1]).astype(dtype.as_numpy_dtype)
        )
    tf.raw_ops.SaveV2(
        prefix=str(FOLDER / "v2/model.ckpt-1"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return {name: described(array) for name, (_, array) in values.items()}


def write_v1() -> Truth:
    values = values_of([dtype for dtype in DTYPES if dtype not in NOT_IN_THE_FIRST])
    tensors = {name: tensor_of(array, dtype) for name, (dtype, array) in values.items()}
    tensors["notes/string"] = tf.constant(["a", "", "longer"])
    (FOLDER / "v1").mkdir()
    tf.raw_ops.Save(
        filename=str(FOLDER / "v1/model.ckpt"),
        tensor_names=list(tensors),
        data=list(tensors.values()),
    )
    return {name: described(array) for name, (_, array) in values.items()}


# Name -> shape, dtype, along each axis how many parts. Starts of 64 and 8192 take longer keys.
PARTITIONED: dict[str, tuple[list[int], tf.DType, list[int]]] = {
    "rows": ([7, 3], tf.float32, [3, 1]),
    "columns": ([2, 200], tf.float32, [1, 3]),
    "halves": ([6, 2], tf.float16, [3, 1]),
    "long": ([16400], tf.int8, [2]),
    "cube": ([4, 3, 2], tf.int64, [2, 1, 1]),
}


def write_partitioned(path: str, version: int, *, sharded: bool = False) -> Truth:
    """Variables of a partitioner, through TensorFlow 1's Saver."""
    truth: Truth = {}
    with tf.Graph().as_default():
        for number, (name, (shape, dtype, parts)) in enumerate(PARTITIONED.items()):
            array = array_of(dtype, shape, 400 + number)
            if name == "long":
                array = (np.arange(16400) % 3).astype(np.int8)  # which compresses
            truth[name] = described(array)
            with v1.variable_scope("", partitioner=lambda parts=parts, **_: parts):
                whole = v1.get_variable(
                    name, shape, dtype, _PartOf(array), use_resource=version == 1
                )
            del whole
        for number in range(3):
            array = array_of(tf.float32, [2, 2], 500 + number)
            truth[f"whole_{number}"] = described(array)
            with tf.device(f"/cpu:{number % 2}"):
                v1.get_variable(f"whole_{number}", initializer=tf.constant(array))
        saver = v1.train.Saver(write_version=version, sharded=sharded, max_to_keep=None)
        with v1.Session(config=v1.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(v1.global_variables_initializer())
            saver.save(session, path, write_meta_graph=False)
    return truth


class _PartOf:
    """An initializer that gives a part of an array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
        start = partition_info.var_offset if partition_info else [0] * self.array.ndim
        box = tuple(slice(at, at + size) for at, size in zip(start, shape, strict=True))
        return tf.constant(self.array[box], dtype)


def write_grid() -> Truth:
    """A matrix in parts along both axes, which TensorFlow 1's Saver does not write."""
    array = array_of(tf.float32, [5, 70], 600)
    boxes = [((r, h), (c, w)) for r, h in ((0, 2), (2, 3)) for c, w in ((0, 64), (64, 6))]
    tf.raw_ops.SaveV2(
        prefix=str(FOLDER / "v2_grid/model"),
        tensor_names=["grid"] * 4,
        shape_and_slices=[f"5 70 {r},{h}:{c},{w}" for (r, h), (c, w) in boxes],
        tensors=[array[r : r + h, c : c + w] for (r, h), (c, w) in boxes],
    )
    return {"grid": described(array)}


def objects() -> tuple[tf.Module, dict[str, np.ndarray]]:
    module = tf.Module()
    arrays = {"kernel": array_of(tf.float32, [3, 2], 700), "bias": array_of(tf.bfloat16, [2], 701)}
    module.dense = tf.Module()
    for name, array in arrays.items():
        setattr(module.dense, name, tf.Variable(array))
    return module, arrays


def write_objects() -> Truth:
    module, arrays = objects()
    step = np.array(3, np.int64)
    checkpoint = tf.train.Checkpoint(net=module, step=tf.Variable(step))
    manager = tf.train.CheckpointManager(checkpoint, str(FOLDER / "tf2"), max_to_keep=2)
    manager.save()
    named = {f"net/dense/{name}": array for name, array in arrays.items()}
    named |= {"step": step, "save_counter": np.array(1, np.int64)}
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    return {name + suffix: described(array) for name, array in named.items()}


def write_saved_model() -> Truth:
    module, arrays = objects()
    folder = FOLDER / "saved_model"
    tf.saved_model.save(module, str(folder))
    (folder / "fingerprint.pb").unlink()
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    return {f"dense/{name}{suffix}": described(array) for name, array in arrays.items()}


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    saver = v1.train.SaverDef
    for folder in ("v2_sharded", "v2_partitioned", "v1_partitioned", "v1_sharded"):
        (FOLDER / folder).mkdir()
    truth = {
        "v2": write_v2(),
        "v1": write_v1(),
        "v2_grid": write_grid(),
        "tf2": write_objects(),
        "saved_model": write_saved_model(),
    }
    for folder in ("v2_sharded", "v2_partitioned", "v1_partitioned", "v1_sharded"):
        version = saver.V1 if folder.startswith("v1") else saver.V2
        path = str(FOLDER / folder / "model.ckpt")
        truth[folder] = write_partitioned(path, version, sharded="sharded" in folder)
    for state in FOLDER.glob("*/checkpoint"):  # as if it came from somewhere else
        state.write_text(state.read_text().replace(str(FOLDER), "/home/someone/runs"))
    (FOLDER / "truth.json").write_text(json.dumps(truth, indent=0, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{size} bytes in {FOLDER}")


if __name__ == "__main__":
    main()

"""Compares checkpoints as TensorFlow reads them with how jscope does, bit by bit.

A development check, which needs TensorFlow 2 beside jscope (``pip install -e '.[tf]'``). It prints
a line for each checkpoint and exits with 1 where anything differs:

    python tests/data/compare_with_tf.py tests/data/checkpoints/* path/to/model.ckpt-1000
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from jscope.io._checkpoint import Checkpoint
from jscope.io._tensorflow import is_tensorflow, open_tensorflow


def theirs(reader: Any, checkpoint: Checkpoint, name: str) -> np.ndarray | None:
    """TensorFlow's array: its reader's, or its Restore operation's; None where both refuse."""
    try:
        return np.asarray(reader.get_tensor(name))
    except (tf.errors.OpError, RuntimeError, ValueError, TypeError):
        pass
    dtype = tf.dtypes.as_dtype(reader.get_variable_to_dtype_map()[name])
    try:
        if checkpoint.format == "TF V2":
            found = tf.raw_ops.RestoreV2(
                prefix=checkpoint.path, tensor_names=[name], shape_and_slices=[""], dtypes=[dtype]
            )[0]
        else:
            found = tf.raw_ops.Restore(file_pattern=checkpoint.path, tensor_name=name, dt=dtype)
        return found.numpy()
    except tf.errors.OpError:
        return None


def compare(path: str) -> tuple[str, int]:
    """A line about a checkpoint, and how many of its tensors differ."""
    checkpoint = open_tensorflow(path, verify=True)
    pattern = checkpoint.path
    shards = sorted(Path(pattern).parent.glob(f"{Path(pattern).name}-?????-of-?????"))
    if checkpoint.format == "TF V1" and shards:
        pattern = f"{pattern}-?????-of-{shards[0].name[-5:]}"
    reader = tf.train.load_checkpoint(pattern)
    listed = set(reader.get_variable_to_shape_map())
    bad = sorted(listed ^ {*checkpoint, *checkpoint.notes})
    refused, equal = [], 0
    for name in checkpoint:
        wanted = theirs(reader, checkpoint, name)
        if wanted is None:
            refused.append(name)
            continue
        found = checkpoint[name]
        same = found.shape == wanted.shape and found.tobytes() == wanted.tobytes()
        same = same and (found.dtype == wanted.dtype or found.dtype.itemsize == wanted.itemsize)
        equal += same
        if not same:
            bad.append(name)
    return (
        f"{checkpoint.format}  {equal:5} equal  {len(bad):3} different {bad[:3]}  "
        f"{len(refused)} refused by TensorFlow {refused[:3]}  {len(checkpoint.notes)} without "
        f"arrays  {checkpoint.nbytes} bytes  {path}"
    ), len(bad)


def main(paths: list[str]) -> int:
    if not paths:
        print(__doc__)
        return 2
    results = [compare(path) for path in paths if is_tensorflow(path)]
    print("\n".join(line for line, _ in results))
    return int(any(bad for _, bad in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

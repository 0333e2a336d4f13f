"""Layers, initializers and averages to compare with TensorFlow 1, and the numbers to run them on.

Read by ``data/record_tf1.py``, which runs them in TensorFlow, and by ``test_tf1_parity.py``.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import numpy as np


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1) for a name, the same on every machine; variances are in [0.5, 1.5)."""
    count = math.prod(shape)
    seed = zlib.crc32(name.encode()) % 1009
    whole = (np.arange(1, count + 1) * 389 + seed * 97) * (np.arange(count) % 7 + 3) % 1009
    numbers = (whole / 1009 * 2 - 1).reshape(shape).astype(np.float32)
    return numbers / 2 + 1 if name.endswith("variance") else numbers


class Case(NamedTuple):
    """One call of a layer; texts among the options stand for functions of ``nn``."""

    layer: str
    shape: tuple[int, ...]
    options: dict[str, Any]

    @property
    def title(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{self.layer}({list(self.shape)}{options})"

    def options_with(self, nn: Any) -> dict[str, Any]:
        """The options, with the functions of ``nn`` in place of their names."""
        return {
            name: getattr(nn, value) if name == "activation" else value
            for name, value in self.options.items()
        }

    @property
    def inputs(self) -> np.ndarray:
        return fill("inputs", self.shape)


def _case(layer: str, shape: list[int], **options: Any) -> Case:
    return Case(layer, tuple(shape), options)


def _pools(rank: int, size: int) -> list[Case]:
    shape = [2, *[size] * rank, 2]
    odd = [2, 3, 2][:rank] if rank > 1 else 3
    return [
        _case(f"{kind}_pooling{rank}d", shape, pool_size=window, strides=strides, padding=padding)
        for kind in ("max", "average")
        for window, strides in ((2, 2), (3, 2), (odd, 1))
        for padding in ("valid", "same")
    ]


LAYERS = [
    _case("dense", [2, 3], units=4),
    _case("dense", [2, 3], units=4, activation="relu"),
    _case("dense", [2, 3], units=2, activation="tanh", use_bias=False),
    _case("dense", [2, 2, 3], units=4),
    _case("dense", [2, 2, 2, 3], units=2, name="named/layer"),
    _case("conv1d", [2, 7, 3], filters=4, kernel_size=3),
    _case("conv1d", [2, 7, 3], filters=4, kernel_size=3, padding="same", strides=2),
    _case("conv1d", [2, 8, 3], filters=4, kernel_size=4, padding="same", strides=3),
    _case("conv1d", [2, 7, 3], filters=2, kernel_size=2, padding="same", dilation_rate=2),
    _case("conv1d", [2, 7, 3], filters=2, kernel_size=3, dilation_rate=3, use_bias=False),
    _case("conv2d", [2, 5, 5, 3], filters=2, kernel_size=3),
    _case("conv2d", [2, 5, 5, 3], filters=2, kernel_size=3, padding="SAME", activation="relu"),
    _case("conv2d", [1, 6, 5, 2], filters=3, kernel_size=[2, 3], strides=[2, 1], padding="same"),
    _case("conv2d", [1, 6, 5, 2], filters=3, kernel_size=3, strides=2, padding="same"),
    _case("conv2d", [1, 7, 6, 2], filters=3, kernel_size=(3, 2), strides=(1, 2)),
    _case("conv2d", [1, 7, 6, 2], filters=2, kernel_size=3, dilation_rate=2),
    _case("conv2d", [1, 7, 6, 2], filters=2, kernel_size=2, dilation_rate=(2, 3), padding="same"),
    _case("conv2d", [2, 4, 4, 3], filters=5, kernel_size=1, use_bias=False),
    _case("conv3d", [1, 4, 4, 4, 2], filters=2, kernel_size=3),
    _case("conv3d", [1, 5, 4, 3, 2], filters=2, kernel_size=(2, 3, 2), strides=2, padding="same"),
    _case("conv3d", [1, 3, 4, 3, 2], filters=2, kernel_size=2, padding="same", activation="tanh"),
    _case("conv2d_transpose", [2, 3, 3, 2], filters=3, kernel_size=3),
    _case("conv2d_transpose", [1, 3, 4, 2], filters=3, kernel_size=3, strides=2, padding="same"),
    _case("conv2d_transpose", [1, 3, 4, 2], filters=2, kernel_size=3, strides=2),
    _case("conv2d_transpose", [1, 3, 4, 2], filters=2, kernel_size=5, strides=2, padding="same"),
    _case("conv2d_transpose", [1, 3, 4, 2], filters=2, kernel_size=2, strides=3),
    _case("conv2d_transpose", [1, 3, 4, 2], filters=2, kernel_size=2, strides=3, padding="same"),
    _case(
        "conv2d_transpose",
        [1, 3, 3, 2],
        filters=2,
        kernel_size=[4, 2],
        strides=[2, 1],
        padding="same",
        use_bias=False,
        activation="relu",
    ),
    _case(
        "conv2d_transpose",
        [1, 2, 3, 4],
        filters=3,
        kernel_size=3,
        strides=2,
        padding="same",
        data_format="channels_first",
    ),
    _case("separable_conv2d", [2, 5, 5, 3], filters=2, kernel_size=3),
    _case("separable_conv2d", [1, 5, 6, 2], filters=3, kernel_size=3, depth_multiplier=2),
    _case("separable_conv2d", [1, 5, 6, 2], filters=3, kernel_size=(2, 3), padding="same"),
    _case("separable_conv2d", [1, 6, 6, 2], filters=2, kernel_size=3, strides=2, padding="same"),
    _case("separable_conv2d", [1, 7, 7, 2], filters=2, kernel_size=3, dilation_rate=2),
    _case(
        "separable_conv2d",
        [1, 5, 5, 3],
        filters=2,
        kernel_size=2,
        padding="same",
        depth_multiplier=3,
        use_bias=False,
        activation="relu",
    ),
    *_pools(1, 6),
    *_pools(2, 5),
    *_pools(3, 4),
    _case("max_pooling1d", [2, 3, 5], pool_size=2, strides=2, data_format="channels_first"),
    _case(
        "average_pooling3d", [1, 2, 4, 4, 4], pool_size=2, strides=2, data_format="channels_first"
    ),
    _case("batch_normalization", [6, 3]),
    _case("batch_normalization", [6, 3], training=True),
    _case("batch_normalization", [4, 5, 3], training=True, momentum=0.9, epsilon=0.1),
    _case("batch_normalization", [2, 3, 3, 2]),
    _case("batch_normalization", [2, 3, 3, 2], training=True),
    _case("batch_normalization", [2, 3, 3, 2], training=True, fused=False),
    _case("batch_normalization", [2, 3, 3, 2], training=True, fused=True, momentum=0.5),
    _case("batch_normalization", [2, 3, 2, 2], axis=1, training=True),
    _case("batch_normalization", [2, 3, 2, 2], axis=1, training=False),
    _case("batch_normalization", [2, 3, 2, 2], axis=2, training=True),
    _case("batch_normalization", [2, 3, 2, 2], axis=[1, 3], training=True, fused=False),
    _case("batch_normalization", [2, 2, 2, 2, 3], training=True),
    _case("batch_normalization", [6, 3], training=True, center=False),
    _case("batch_normalization", [6, 3], training=True, scale=False),
    _case("batch_normalization", [2, 3, 3, 2], training=True, center=False, scale=False),
    _case("batch_normalization", [2, 3, 3, 2], training=True, trainable=False),
    _case("dropout", [2, 3]),
    _case("dropout", [2, 3], rate=0.9, training=False),
    _case("dropout", [2, 3], rate=0.0, training=True),
    _case("flatten", [2, 3, 4]),
    _case("flatten", [2, 3]),
    _case("flatten", [3]),
    _case("flatten", [2, 3, 2, 2], data_format="channels_first"),
]
"""Calls of ``tf.compat.v1.layers``."""

LAYER_NORMS = [
    _case("layer_norm", [2, 5]),
    _case("layer_norm", [2, 4, 3], begin_norm_axis=1),
    _case("layer_norm", [2, 4, 3], begin_norm_axis=-1),
    _case("layer_norm", [2, 4, 3], begin_norm_axis=1, begin_params_axis=1),
    _case("layer_norm", [2, 3, 3, 2], begin_norm_axis=1, center=False),
    _case("layer_norm", [2, 3, 3, 2], scale=False, begin_norm_axis=2),
]
"""Of ``tf.contrib.layers``, which is gone: recorded from what it computed, in ``tf.nn``."""

RNNS = [
    _case("BasicLSTMCell", [2, 4, 3], units=3),
    _case("BasicLSTMCell", [2, 4, 3], units=3, forget_bias=0.0),
    _case("BasicLSTMCell", [3, 4, 2], units=4, sequence_length=[4, 0, 2]),
    _case("LSTMCell", [2, 4, 3], units=3),
    _case("LSTMCell", [3, 4, 2], units=4, sequence_length=[1, 4, 3]),
    _case("LSTMCell", [2, 4, 3], units=3, activation="relu"),
    _case("LSTMCell", [4, 2, 3], units=2, time_major=True, sequence_length=[4, 3]),
    _case("GRUCell", [2, 4, 3], units=3),
    _case("GRUCell", [2, 4, 3], units=3, activation="relu"),
    _case("GRUCell", [3, 4, 2], units=4, sequence_length=[2, 4, 0]),
]
"""Cells of ``tf.compat.v1.nn.rnn_cell``, under ``dynamic_rnn``."""

OF_THE_LOOP = ("sequence_length", "time_major")
"""The options that are those of ``dynamic_rnn``."""

LOOKUPS = [[3, 0, 3], [[1, 2], [4, 0]], 2]
"""Ids for ``tf.nn.embedding_lookup`` in a table of 5 rows."""

INITIALIZERS: list[tuple[str, dict[str, Any]]] = [
    ("zeros", {}),
    ("ones", {}),
    ("constant", {"value": 2.5}),
    ("identity", {}),
    ("identity", {"gain": 3.0}),
    ("orthogonal", {}),
    ("orthogonal", {"gain": 2.0}),
    ("random_normal", {}),
    ("random_normal", {"mean": 1.0, "stddev": 0.5}),
    ("random_uniform", {"minval": -2.0, "maxval": 3.0}),
    ("truncated_normal", {}),
    ("truncated_normal", {"mean": -1.0, "stddev": 0.25}),
    ("glorot_normal", {}),
    ("glorot_uniform", {}),
    ("he_normal", {}),
    ("he_uniform", {}),
    ("lecun_normal", {}),
    ("lecun_uniform", {}),
    ("variance_scaling", {}),
    ("variance_scaling", {"scale": 2.0, "mode": "fan_out"}),
    ("variance_scaling", {"mode": "fan_avg", "distribution": "normal"}),
    ("variance_scaling", {"mode": "fan_out", "distribution": "truncated_normal"}),
    ("variance_scaling", {"mode": "fan_in", "distribution": "untruncated_normal"}),
    ("variance_scaling", {"scale": 0.5, "mode": "fan_in", "distribution": "uniform"}),
]
"""Names of ``tf.compat.v1.initializers``, with ``_initializer`` or not, and options."""

SHAPES: list[list[int]] = [[], [7], [4, 6], [3, 3, 8, 16]]

QUANTILES = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]


def statistics(values: np.ndarray) -> dict[str, Any]:
    """The mean, the deviation and ``QUANTILES`` of a sample."""
    return {
        "mean": float(values.mean()),
        "stddev": float(values.std()),
        "quantiles": np.quantile(values, QUANTILES).tolist(),
    }


class Average(NamedTuple):
    """A variable, moved towards one row of ``fill("values", ...)`` in each step."""

    start: float
    decay: float
    zero_debias: bool


AVERAGES = [
    Average(start, decay, zero_debias)
    for start in (0.0, 2.0)
    for decay in (0.9, 0.5)
    for zero_debias in (False, True)
]

STEPS = 5

"""Layers on batches divided along time too, as ``sharded_layers.py`` has them on others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import sharded_layers
from jax.sharding import PartitionSpec as P
from sharded_layers import AUTO, EXPLICIT, MESHES, RULES, on_meshes

import jscope as js

layers = js.layers


def attend(x: Any, *others: Any, **options: Any) -> Any:
    """Eight heads, which kernels may be divided by, and an output that is divided as the input."""
    outputs = layers.multi_head_attention(x, *others, num_heads=8, **options)
    assert jax.typeof(outputs).sharding.spec[:2] == jax.typeof(x).sharding.spec[:2]
    return outputs


def dense(x: Any) -> Any:
    return layers.dense(x, 8)


def planted(x: Any) -> Any:
    weights = jax.nn.softmax(jnp.sin(jnp.arange(4 * 4, dtype=x.dtype).reshape(1, 1, 4, 4)))
    given = {"multi_head_attention/weights": jnp.tile(weights, (8, 8, 1, 1))}
    return js.plant(given)(attend)(x)


# Layers of x[:, 0] are of sequences [8, 4, 8]; what is taken along the second axis is no slice.
LAYERS: dict[str, Callable[[Any], Any]] = {
    "attention": lambda x: attend(x[:, 0]),
    "attention, causal": lambda x: attend(x[:, 0], is_causal=True),
    "attention to another sequence": lambda x: attend(x[:, 0], x[:, 1], x[:, 2]),
    "attention to one that is whole": lambda x: attend(x[:, 0], x.mean(2)),
    "attention from one that is whole": lambda x: attend(x.mean(2), x[:, 0]),
    "attention, masked by queries": lambda x: attend(
        x[:, 0], mask=x[:, 1, :, :4] > 0, is_causal=True
    ),
    "attention, masked by keys": lambda x: attend(x[:, 0], mask=x[:, 1, None, :, 0] > 0),
    "attention, masked by heads and keys": lambda x: attend(
        x[:, 0], mask=x.transpose(0, 3, 1, 2) > 0
    ),
    "attention, with dropout": lambda x: attend(x[:, 0], dropout_rate=0.5, training=True),
    "attention, with a cache": lambda x: attend(x[:, 0], cache_size=8, is_causal=True),
    "attention, captured": lambda x: js.capture(attend)(x[:, 0]),
    "attention, planted": lambda x: planted(x[:, 0]),
    "layer_stack of transformers": lambda x: js.layer_stack(2, checkpoint=True)(
        sharded_layers.transformer
    )(x[:, 0]),
    "dynamic_rnn": lambda x: layers.dynamic_rnn(
        layers.lstm(8), x[:, 0], jnp.array([4, 2, 1, 0, 3, 4, 4, 2])
    ),
    "dynamic_rnn, time_major": lambda x: layers.dynamic_rnn(
        layers.gru(8), x[:, 0].swapaxes(0, 1), time_major=True
    ),
    "max_pooling1d": lambda x: layers.max_pooling1d(dense(x[:, 0]), 2, 1, padding="same"),
    "average_pooling1d": lambda x: layers.average_pooling1d(
        dense(x[:, 0]).swapaxes(1, 2), 3, 1, data_format="channels_first"
    ),
    "max_pooling2d": lambda x: layers.max_pooling2d(dense(x), (2, 1), (2, 1)),
    "average_pooling2d": lambda x: layers.average_pooling2d(dense(x), 2, 1, padding="same"),
    "flatten": lambda x: layers.dense(layers.flatten(x), 8),
    "embedding": lambda x: layers.embedding(abs(5 * x[:, 0, :, 0]).astype(int), 16, 8),
    "conv1d": lambda x: layers.conv1d(x[:, 0], 16, 2),
    "layer_norm": lambda x: layers.layer_norm(x, begin_norm_axis=1),
    "batch_normalization": lambda x: layers.batch_normalization(x, training=True),
    "group_norm": lambda x: layers.group_norm(x, 4),
}
WITH_AUTO_DATA = {**MESHES, "auto data, explicit model": (AUTO, EXPLICIT)}
# What is compiled, for each mesh.
KINDS = {
    "explicit": "both",
    "explicit data, auto model": "both",
    "auto data, explicit model": "columns",
}


if __name__ == "__main__":
    batch = P("data", None, "model")
    print(json.dumps(on_meshes(LAYERS, WITH_AUTO_DATA, KINDS, RULES, batch)))

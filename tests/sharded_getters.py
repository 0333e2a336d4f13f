"""Getters, regularizers and constraints of sharded weights, as ``sharded_layers.py`` has layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from sharded_layers import RULES, divided, on_meshes
from sharded_sequences import KINDS, WITH_AUTO_DATA

import jscope as js

getters = js.getters


def two_layers(x: Any) -> Any:
    """A kernel of two axes and one of four; their biases are of one."""
    return js.layers.dense(x[:, 0, 0], 16), js.layers.conv2d(x, 16, 2)


def under(*of_scopes: Any) -> Callable[[Any], Any]:
    fn: Callable[[Any], Any] = two_layers
    for getter in of_scopes:
        fn = js.variable_scope("", custom_getter=getter)(fn)
    return fn


def stacked(getter: Any) -> Callable[[Any], Any]:
    layer = js.variable_scope("", custom_getter=getter)(lambda x: js.layers.dense(x, 8))
    return lambda x: js.layer_stack(2)(layer)(x[:, 0, 0])


def of_kernels(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    shapes = {"matrix/kernel": [8, 16], "images/kernel": [2, 2, 8, 16]}
    return lambda x: [fn(js.get_variable(name, shape)) for name, shape in shapes.items()]


VALUES = {"dense/kernel": np.ones([8, 16], np.float32)}
spectral, low_rank = getters.spectral_normalization, getters.low_rank

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "spectral_normalization": under(spectral(iterations=2)),
    "spectral_normalization, evaluated": under(spectral(training=False)),
    "spectral_normalization of a stack": stacked(spectral()),
    "weight_normalization": under(getters.weight_normalization()),
    "weight_normalization of a stack": stacked(getters.weight_normalization()),
    "low_rank": under(low_rank(8)),
    "low_rank, all trained": under(low_rank(2, train_base=True)),
    "low_rank of a stack": stacked(low_rank(8)),
    "low_rank, of a normalised base": under(spectral(), low_rank(8)),
    "cast": under(getters.cast(jnp.float32, store=jnp.bfloat16)),
    "freeze": under(getters.freeze()),
    "gather": under(getters.gather()),
    "rename": under(getters.rename({"kernel$": "weights"})),
    "moving_average": under(getters.moving_average(VALUES)),
    "initial_values": under(getters.initial_values(VALUES)),
    "l1_l2": of_kernels(js.regularizers.l1_l2(0.1, 0.1)),
    "orthogonal": of_kernels(js.regularizers.orthogonal(0.1)),
    "max_norm": of_kernels(js.constraints.max_norm(0.5, axis=(-2, -1))),
    "unit_norm": of_kernels(js.constraints.unit_norm(axis=-1)),
    "non_neg": of_kernels(js.constraints.non_neg()),
}


def crossed(spec: Any) -> P:
    """Vectors are divided over the mesh axis that the other axis of a kernel is."""
    rank = len(spec.shape) - len(spec.stack)
    return divided(spec, "model", "data" if rank > 1 else "model")


if __name__ == "__main__":
    rules = {**RULES, "crossed": crossed}
    print(json.dumps(on_meshes(FUNCTIONS, WITH_AUTO_DATA, KINDS, rules)))

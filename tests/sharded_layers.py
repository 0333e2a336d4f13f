"""Layers on sharded weights and batches, for ``test_sharded_layers.py``; needs 8 devices.

On each mesh, by each of the rules, every layer is traced with its gradients. By one of the rules
it is computed too, and compared with what it gives without a mesh: the layers of a mesh are one
compiled program, a tenth of the time of many.
"""

from __future__ import annotations

import functools
import json
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jscope as js

BATCH, SIDE, WIDTH = 8, 4, 8
BY_EXAMPLE = P("data")
layers = js.layers


def steps(make: Callable[[int], Any], x: Any) -> Any:
    cell = make(WIDTH)
    _, state = cell(x[:, 0], cell.zero_state(len(x)))
    return cell(x[:, 1], state)


def scanned(make: Callable[[int], Any], x: Any, state: Any) -> Any:
    cell = make(WIDTH)
    state = cell.zero_state(len(x)) if state is None else state
    return js.scan(lambda state, x: cell(x, state)[::-1], state, x.swapaxes(0, 1))


def decoded(x: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        return carry, layers.multi_head_attention(x[:, None], num_heads=8, cache_size=SIDE)

    return js.scan(step, None, x.swapaxes(0, 1))[1]


def perceptron(x: Any) -> Any:
    return layers.dense(layers.dense(x, 2 * WIDTH, jax.nn.gelu), x.shape[-1])


def transformer(x: Any) -> Any:
    attended = layers.layer_norm(x, begin_norm_axis=-1)
    x = x + layers.multi_head_attention(attended, num_heads=8, is_causal=True)
    return x + perceptron(layers.rms_norm(x))


def flattened_images(x: Any) -> Any:
    """Compilers divide these images in space: as the kernel of the dense layer is."""
    x = layers.max_pooling2d(layers.conv2d(x, 16, 2, padding="same", activation=jnp.tanh), 2, 1)
    x = layers.batch_normalization(layers.separable_conv2d(x, 16, 1), training=True)
    x = layers.conv2d_transpose(x, 8, 2, strides=2)
    return layers.dense(layers.flatten(x), 16, jnp.tanh)


# Layers of images [8, 4, 4, 8]; of sequences where they take x[:, 0], [8, 4, 8].
LAYERS: dict[str, Callable[[Any], Any]] = {
    "dense": lambda x: layers.dense(x, 16, jax.nn.relu),
    "perceptron": lambda x: perceptron(x[:, 0, 0]),
    "embedding": lambda x: layers.embedding(abs(5 * x[:, 0, 0]).astype(int), 16, 8),
    "dropout": lambda x: layers.dropout(layers.dense(x, 16), training=True),
    "flatten": lambda x: layers.dense(layers.flatten(layers.dense(x, 16)), 8),
    "lstm": lambda x: steps(layers.lstm, x[:, 0]),
    "gru": lambda x: scanned(layers.gru, x[:, 0], jnp.zeros_like(x[:, 0, 0])),
    "dynamic_rnn of gru": lambda x: layers.dynamic_rnn(layers.gru(WIDTH), x[:, 0]),
    "dynamic_rnn of lstm, with lengths": lambda x: layers.dynamic_rnn(
        layers.lstm(WIDTH), layers.dense(x[:, 0], 8), jnp.array([4, 2, 1, 0, 3, 4, 4, 2])
    ),
    "batch_normalization": lambda x: layers.batch_normalization(layers.dense(x, 16), training=True),
    "batch_normalization, evaluated": layers.batch_normalization,
    "layer_norm": lambda x: layers.layer_norm(layers.dense(x, 16), begin_norm_axis=-1),
    "group_norm": lambda x: layers.group_norm(layers.dense(x, 16), 4),
    "instance_norm": lambda x: layers.instance_norm(layers.dense(x, 16)),
    "rms_norm": lambda x: layers.rms_norm(layers.dense(x, 16)),
    "multi_head_attention": lambda x: layers.multi_head_attention(
        x[:, 0], x[:, 1, :2], num_heads=8, head_size=8, use_bias=False
    ),
    "multi_head_attention, with dropout": lambda x: layers.multi_head_attention(
        x[:, 0], num_heads=8, dropout_rate=0.5, training=True
    ),
    "multi_head_attention, with a cache": lambda x: decoded(x[:, 0]),
    "layer_stack of dense": lambda x: js.layer_stack(3)(lambda x: layers.dense(x, WIDTH))(x),
    "layer_stack of transformers": lambda x: js.layer_stack(2, checkpoint=True)(transformer)(
        x[:, 0]
    ),
    "conv1d": lambda x: layers.conv1d(x[:, 0], 16, 2),
    "conv2d": lambda x: layers.conv2d(layers.conv2d(x, 16, 2), 8, 2, strides=2, padding="same"),
    "conv2d, channels_first": lambda x: layers.conv2d(
        x.transpose(0, 3, 1, 2), 16, 2, data_format="channels_first"
    ),
    "conv3d": lambda x: layers.conv3d(x[:, :, :, None], 8, (2, 2, 1)),
    "conv1d_transpose": lambda x: layers.conv1d_transpose(x[:, 0], 8, 2),
    "conv2d_transpose": lambda x: layers.conv2d_transpose(layers.conv2d(x, 16, 2), 8, 2),
    "conv3d_transpose": lambda x: layers.conv3d_transpose(x[:, :, :, None], 8, 2),
    "depthwise_conv2d": lambda x: layers.depthwise_conv2d(layers.conv2d(x, 16, 2), 2, 2),
    "depthwise_conv2d, channels_first": lambda x: layers.depthwise_conv2d(
        x.transpose(0, 3, 1, 2), 2, 8, dilation_rate=(1, 2), data_format="channels_first"
    ),
    "separable_conv1d": lambda x: layers.separable_conv1d(x[:, 0], 8, 2),
    "separable_conv2d": lambda x: layers.separable_conv2d(x, 8, 2, strides=2, depth_multiplier=8),
    "max_pooling2d": lambda x: layers.max_pooling2d(layers.dense(x, 16), 2, 2),
    "average_pooling2d": lambda x: layers.average_pooling2d(
        layers.dense(x, 16), 2, 1, padding="same"
    ),
    "flattened images": flattened_images,
}
# What explicit axes refuse, as JAX does by hand: a loop of one's own whose state starts undivided.
REFUSED = {"gru under scan, from zero_state": lambda x: scanned(layers.gru, x[:, 0], None)}

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
# Mesh -> types of the axes "data" and "model".
MESHES = {
    "auto": (AUTO, AUTO),
    "explicit": (EXPLICIT, EXPLICIT),
    "explicit data, auto model": (EXPLICIT, AUTO),
}


def divided(spec: Any, inputs: str | None, outputs: str | None) -> P:
    """A kernel's inputs and outputs divided over mesh axes, as far as their sizes allow."""
    sizes, ndim = jax.sharding.get_abstract_mesh().shape, len(spec.shape)
    rank = ndim - len(spec.stack)
    heads = spec.name.rpartition("/")[0].endswith(("query", "key", "value"))
    axes: list[Any] = [None] * ndim
    if rank > 1 or not heads:
        where = {2: -2, 3: -3, 1: ndim}.get(rank, -2) if "attention" in spec.name else -2
        for axis, name in ((where, inputs), (-2 if heads else -1, outputs)):
            if rank and name in sizes and -rank <= axis < 0 and spec.shape[axis] % sizes[name] == 0:
                axes[axis] = name
    return P(*axes)


fsdp = js.fsdp("data", min_bytes=48)
RULES: dict[str, Any] = {
    "fsdp": fsdp,
    "columns": lambda spec: divided(spec, None, "model"),
    "rows": lambda spec: divided(spec, "model", None),
    "both": lambda spec: divided(spec, "data", "model"),
}
# What is compiled, for each mesh; the other rules are traced where all types tell of them.
TABLE = {
    "auto": "both",
    "explicit": "both",
    "explicit data, auto model": "fsdp",
}


def inputs() -> jax.Array:
    return jax.random.normal(jax.random.key(7), [BATCH, SIDE, SIDE, WIDTH])


def variables(specs: Any) -> Any:
    """Values for all variables: as good as initial ones, and sooner made."""

    def value(spec: Any) -> Any:
        rng = np.random.default_rng(zlib.crc32(spec.name.encode()))
        inputs = math.prod(spec.shape[len(spec.stack) : -1])
        drawn = rng.normal(size=spec.shape) / math.sqrt(inputs)
        drawn = 1 + drawn**2 if "variance" in spec.name else drawn
        integers = jnp.issubdtype(spec.dtype, jnp.integer)
        return jnp.asarray(np.zeros_like(drawn) if integers else drawn, spec.dtype)

    params = {spec.name: value(spec) for spec in specs.values() if spec.trainable}
    state = {spec.name: value(spec) for spec in specs.values() if not spec.trainable}
    return js.tree.unflatten(params), js.tree.unflatten(state)


def results(net: Any, params: Any, state: Any, x: Any) -> Any:
    """Values, new state and gradients; the loss looks at every number of the values."""

    def loss(params: Any, x: Any) -> Any:
        found = net.apply(params, state, jax.random.key(1), x)
        parts = [
            jnp.sum(jnp.sin(leaf + jnp.arange(leaf.size).reshape(leaf.shape)))
            for leaf in jax.tree.leaves(found[0])
        ]
        return sum(parts), found

    grads, found = jax.grad(loss, (0, 1), has_aux=True)(params, x)
    return found, grads


def plain(functions: Mapping[str, Callable[[Any], Any]], x: Any) -> dict[str, Any]:
    """Name -> network of a function, params, state, and what it gives without a mesh."""
    nets = {name: js.transform_with_state(function) for name, function in functions.items()}
    made = {name: variables(net.specs(x)) for name, net in nets.items()}
    computed = jax.jit(lambda made, x: {n: results(nets[n], *made[n], x) for n in nets})(made, x)
    return {name: (nets[name], *made[name], computed[name]) for name in nets}


def agreement(
    types: tuple[AxisType, AxisType],
    rule: Callable[[Any], Any],
    without: dict[str, Any],
    x: Any,
    *,
    compiled: bool,
    batch: P = BY_EXAMPLE,
    all_auto: bool = False,
) -> dict[str, str]:
    """Name -> "ok", the error, or what differs.

    Args:
      types: Of the axes of the mesh.
      rule: Of all variables.
      without: Of ``plain``.
      x: The batch.
      compiled: Whether values are compared, too.
      batch: How the batch is divided.
      all_auto: Whether it is all run where no axis is explicit.
    """
    sizes, names = (2, 4), ("data", "model")
    mesh = jax.make_mesh(sizes, names, axis_types=types)
    ends: dict[str, str] = {}
    auto = jax.sharding.AbstractMesh(sizes, names, (AUTO, AUTO))  # not every JAX's default
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    with jax.set_mesh(mesh):
        x = jax.device_put(x, batch)
        given, runs = {}, {}
        for name, (net, params, state, _) in without.items():
            net = js.sharded(net, js.sharding_rules({"**": rule}))
            try:
                if all_auto:
                    with jax.sharding.use_abstract_mesh(auto):
                        specs = net.specs(shape)
                else:
                    specs = net.specs(x)
                found = jax.device_put(
                    (params, state), (specs.shardings(mesh), specs.state_shardings(mesh))
                )
                run = functools.partial(results, net)
                if all_auto:
                    run = jax.sharding.auto_axes(run, out_sharding=P())
                jax.eval_shape(run, *found, x)
            except Exception as error:
                ends[name] = f"{type(error).__name__}: {error}"
            else:
                runs[name], given[name] = run, found
        if not compiled:
            return ends | dict.fromkeys(given, "ok")
        compute = jax.jit(lambda given, x: {n: runs[n](*given[n], x) for n in runs})
        for name, found in compute(given, x).items():
            ends[name] = compare(found, without[name][-1])
    return ends


def compare(found: Any, wanted: Any) -> str:
    """ "ok", or how far two trees are apart."""
    for part, tree, other in zip(("values", "gradients"), found, wanted, strict=True):
        pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
        for a, b in [(np.asarray(a), np.asarray(b)) for a, b in pairs]:
            gap = np.max(np.abs(a - b), initial=0) / max(np.max(np.abs(b), initial=0), 1)
            if not gap < 1e-3:
                return f"{part} differ by {gap:.1e}"
    return "ok"


def on_meshes(
    functions: Mapping[str, Callable[[Any], Any]],
    meshes: Mapping[str, tuple[AxisType, AxisType]],
    table: Mapping[str, str],
    rules: Mapping[str, Callable[[Any], Any]],
    batch: P = BY_EXAMPLE,
) -> dict[str, dict[str, dict[str, str]]]:
    """Mesh -> rule -> the agreement of the functions; by ``table`` compiled, else traced."""
    x = inputs()
    without = plain(functions, x)
    ends: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in table}
    for kind, name in [*table.items(), *(("explicit", name) for name in rules)]:
        if name not in ends[kind]:
            compiled = table[kind] == name
            ends[kind][name] = agreement(
                meshes[kind], rules[name], without, x, compiled=compiled, batch=batch
            )
    return ends


if __name__ == "__main__":
    print(json.dumps(on_meshes(LAYERS | REFUSED, MESHES, TABLE, RULES)))

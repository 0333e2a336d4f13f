"""Records what Keras 3 and Haiku do, for ``tests/test_peers.py``.

Writes peers.json beside this file. Needs Keras 3 over JAX and Haiku
(``pip install 'keras>=3' dm-haiku``):

    python tests/data/record_peers.py
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"
sys.path.insert(0, str(Path(__file__).parent.parent))

import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import peer_tables
from tf1_tables import Case, fill

DATA = Path(__file__).parent

CLASSES = {
    "conv1d_transpose": keras.layers.Conv1DTranspose,
    "conv3d_transpose": keras.layers.Conv3DTranspose,
    "separable_conv1d": keras.layers.SeparableConv1D,
    "depthwise_conv2d": keras.layers.DepthwiseConv2D,
    "group_norm": keras.layers.GroupNormalization,
    "instance_norm": keras.layers.GroupNormalization,
    "rms_norm": keras.layers.RMSNormalization,
}

# What Keras calls otherwise.
NAMES = {
    "multi_head_attention/attention_output/": "multi_head_attention/output/",
    "depthwise_conv2d/kernel": "depthwise_conv2d/depthwise_kernel",
    "rms_norm/scale": "rms_norm/gamma",
}


def name_of(layer: str, path: str) -> str:
    """The name that jscope gives to a variable of Keras."""
    depth = 2 if layer == "multi_head_attention" else 1
    name = "/".join([layer, *path.split("/")[-depth:]])
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def record(case: Case, layer: Any, *args: Any, itself: bool = False, **kwargs: Any) -> Any:
    """Outputs, and gradients by the inputs and variables, with the values of ``fill``."""
    inputs = jnp.asarray(case.inputs)
    layer(inputs, *([inputs] if itself else args), **kwargs)
    names = [name_of(case.layer, v.path) for v in layer.trainable_variables]
    shapes = [tuple(v.shape) for v in layer.trainable_variables]
    values = [jnp.asarray(fill(*pair)) for pair in zip(names, shapes, strict=True)]

    def loss(inputs: Any, values: Any) -> Any:
        outputs, _ = layer.stateless_call(
            values, [], inputs, *([inputs] if itself else args), **kwargs
        )
        return (outputs * fill("weights", outputs.shape)).sum(), outputs

    (_, outputs), (by_inputs, by_values) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        inputs, values
    )
    return {
        "variables": dict(zip(names, map(list, shapes), strict=True)),
        "outputs": digits(outputs),
        "gradient": digits(by_inputs),
        "by_variables": digits(sum((a * b).sum() for a, b in zip(values, by_values, strict=True))),
    }


def run_layer(case: Case) -> Any:
    options = dict(case.options)
    if case.layer == "instance_norm":
        options["groups"] = -1
    if case.layer.endswith("norm"):
        options.setdefault("epsilon", 1e-6)
    return record(case, CLASSES[case.layer](**options))


def run_attention(case: Case) -> Any:
    options = dict(case.options)
    heads = options["num_heads"]
    keys, values = options.get("keys"), options.get("values")
    key = case.inputs if keys is None else fill("keys", tuple(keys))
    value = key if values is None else fill("values", tuple(values))
    mask = options.get("mask") and fill("mask", tuple(options["mask"])) > -0.2
    layer = keras.layers.MultiHeadAttention(
        heads,
        options.get("head_size", case.shape[-1] // heads),
        use_bias=options.get("use_bias", True),
    )
    call = {
        "attention_mask": mask,
        "use_causal_mask": options.get("is_causal", False),
    }
    if keys is None:
        return record(case, layer, itself=True, **call)
    return record(case, layer, jnp.asarray(value), jnp.asarray(key), **call)


def run_spectral(case: Any) -> Any:
    """The kernel of two reads, and the vector after each."""
    kernel = fill("kernel", tuple(case["shape"]))
    steps = case["iterations"]
    norm = hk.transform_with_state(lambda x: hk.SpectralNorm(eps=1e-12, n_steps=steps)(x))
    params, state = norm.init(jax.random.key(0), kernel)
    (module,) = state
    reads = []
    state = {module: {**state[module], "u0": jnp.asarray(fill("kernel_u", (1, kernel.shape[-1])))}}
    for _ in range(2):
        out, state = norm.apply(params, state, None, kernel)
        reads.append({"kernel": digits(out), "u": digits(state[module]["u0"][0])})
    return {**case, "reads": reads}


def digits(array: Any) -> Any:
    """Nested lists of an array, each number in the fewest digits that give it again."""
    array = np.asarray(array, np.float32)
    shortest = [float(str(number)) for number in array.reshape(-1)]
    return np.array(shortest).reshape(array.shape).tolist()


def to_json(value: Any, indent: str = "\n") -> str:
    """JSON with each item of a mapping on a line of its own."""
    inner = indent + " "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {to_json(item, inner)}" for key, item in value.items()]
        return "{" + inner + ("," + inner).join(items) + indent + "}"
    return json.dumps(value)


def main() -> None:
    layers = {case.title: run_layer(case) for case in peer_tables.LAYERS}
    layers |= {case.title: run_attention(case) for case in peer_tables.ATTENTIONS}
    content = {
        "keras": keras.__version__,
        "haiku": hk.__version__,
        "layers": layers,
        "spectral_normalization": [run_spectral(case) for case in peer_tables.SPECTRAL],
    }
    (DATA / "peers.json").write_text(to_json(content) + "\n")


if __name__ == "__main__":
    main()

"""What restore does where there are several devices, for ``test_restore.py``; needs 8 of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jscope as js
from jscope import errors
from jscope.io._checkpoint import Checkpoint, Tensor

MESH = jax.make_mesh((8,), ("x",))
PAIR = jax.make_mesh((4, 2), ("x", "y"))
LAYOUTS = {
    "replicated": NamedSharding(PAIR, P()),
    "rows": NamedSharding(MESH, P("x")),
    "columns": NamedSharding(MESH, P(None, "x")),
    "both": NamedSharding(PAIR, P("x", "y")),
    "rows twice": NamedSharding(PAIR, P(("x", "y"))),
}
BASE = np.arange(16 * 8, dtype=np.float32).reshape(16, 8)


def struct(array: Any, sharding: Any) -> Any:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


def outcome(wanted: np.ndarray, sharding: Any, **kwargs: Any) -> str:
    result, _ = js.restore({"w": struct(wanted, sharding)}, **kwargs)
    if result["w"].sharding != sharding or result["w"].dtype != wanted.dtype:
        return f"{result['w'].sharding}, {result['w'].dtype}"
    if not np.array_equal(result["w"], wanted):
        return "other values"
    # A device may give its memory away, whoever shares it.
    doubled = jax.jit(lambda x: x * 2, donate_argnums=0)(result["w"])
    return "ok" if np.array_equal(doubled, 2 * wanted) else "other values when donated"


def unstacked(sharding: Any, **transforms: Any) -> str:
    target = {f"layer_{i}": {"w": struct(BASE, sharding)} for i in range(2)}
    source = {"w": np.stack([BASE, BASE + 1])}
    result, _ = js.restore(target, source, transforms={"": "unstack"} | transforms)
    second = result["layer_1"]["w"]
    wanted = -BASE - 1 if transforms else BASE + 1
    return "ok" if second.sharding == sharding and np.array_equal(second, wanted) else "wrong"


LAYERS = {f"layer_{i}": {"w": BASE + i} for i in range(16)}
PLACED: dict[str, Callable[[Any], str]] = {
    "as it is": lambda sharding: outcome(BASE, sharding, source={"w": BASE}),
    "stack": lambda sharding: outcome(
        np.stack([BASE + i for i in range(16)]),
        sharding,
        source=LAYERS,
        transforms={"w": "stack"},
    ),
    "unstack": unstacked,
    "function": lambda sharding: outcome(
        BASE, sharding, source={"w": BASE.T}, transforms={"w": np.transpose}
    ),
    "function, stack": lambda sharding: outcome(
        np.stack([-BASE - i for i in range(16)]),
        sharding,
        source=LAYERS,
        transforms={"w": "stack", "*": np.negative},
    ),
    "unstack, function": lambda sharding: unstacked(sharding, **{"**": np.negative}),
    "cast": lambda sharding: outcome(
        BASE.astype(np.float16), sharding, source={"w": BASE}, cast=True
    ),
}


class Watched(np.ndarray):
    """An array that tells the shapes of what is taken from it."""

    taken: list[list[int]]

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        self.taken.append(list(part.shape))
        return part


def reads(target: Any, arrays: dict[str, np.ndarray], **kwargs: Any) -> list[list[int]]:
    taken: list[list[int]] = []

    def read(array: np.ndarray) -> np.ndarray:
        watched = array.view(Watched)
        watched.taken = taken
        return watched

    tensors = {
        name: Tensor(array.shape, array.dtype, lambda array=array: read(array))
        for name, array in arrays.items()
    }
    js.restore(target, Checkpoint("model", "npy", tensors), **kwargs)
    return taken


def all_reads() -> dict[str, Any]:
    layers = {f"layer_{i}/w": BASE[:8] for i in range(8)}
    stacked = np.zeros([8, 8, 8], np.float32)
    return {
        "as it is": reads({"w": struct(BASE, LAYOUTS["rows"])}, {"w": BASE}),
        "stack": reads(
            {"w": struct(stacked, NamedSharding(MESH, P(None, None, "x")))},
            layers,
            transforms={"w": "stack"},
        ),
        "stack by layers": reads(
            {"w": struct(stacked, LAYOUTS["rows"])}, layers, transforms={"w": "stack"}
        ),
    }


def refusal(shape: list[int], sharding: Any) -> str:
    array = np.zeros(shape, np.float32)
    try:
        js.restore({"w": struct(array, sharding)}, {"w": array})
    except errors.ArgumentError as error:
        return str(error)
    return "none"


def others() -> dict[str, str]:
    sharding = LAYOUTS["rows"]
    keys = jax.device_put(jax.random.split(jax.random.key(0), 8), sharding)
    found = js.restore({"k": keys}, {"k": keys})[0]["k"]
    same = jnp.array_equal(jax.random.key_data(found), jax.random.key_data(keys))
    there = jax.device_put(jnp.zeros(3), jax.devices()[3])
    moved = js.restore({"w": there}, {"w": np.ones(3, np.float32)})[0]["w"]
    return {
        "keys": "ok" if same and found.sharding == sharding else "wrong",
        "committed": "ok" if moved.committed and moved.devices() == there.devices() else "wrong",
    }


if __name__ == "__main__":
    abstract = NamedSharding(AbstractMesh((8,), ("x",)), P("x"))
    found = {
        "placed": {
            how: {name: place(layout) for name, layout in LAYOUTS.items()}
            for how, place in PLACED.items()
        },
        "read": all_reads(),
        "refused": {"uneven": refusal([6], LAYOUTS["rows"]), "abstract": refusal([8], abstract)},
        "others": others(),
    }
    print(json.dumps(found))

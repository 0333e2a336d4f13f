"""Nets whose variables are divided over 8 devices, for ``test_sharding.py``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jscope as js

AXES = ("data", "model")
KINDS = {
    "auto": (AxisType.Auto, AxisType.Auto),
    "explicit": (AxisType.Explicit, AxisType.Explicit),
    "mixed": (AxisType.Explicit, AxisType.Auto),
}
X = np.arange(8 * 16, dtype=np.float32).reshape(8, 16) / 128
Outcomes = dict[str, str]


@js.checkpoint
def block(x: jax.Array) -> jax.Array:
    return x + jnp.tanh(js.layers.dense(x, 16, name="fc"))


def model(x: jax.Array) -> jax.Array:
    """Blocks that are traced once, others in a stack, and state."""
    for number in range(2):
        with js.variable_scope(f"layer_{number}"):
            x = block(x)
    with js.variable_scope("h", initializer=jax.nn.initializers.normal(0.02)):
        x = js.layer_stack(3)(lambda x: x + js.layers.dense(x, 16, name="fc"))(x)
    js.get_variable("norm", [16], trainable=False, initializer=jax.nn.initializers.normal())
    js.get_variable("calls", initializer=0, trainable=False)
    js.assign_add("calls", 1)
    return js.layers.dense(x, 24, name="out")


RULES = js.sharding_rules(
    {
        "layer_0/**/kernel": P("data", "model"),
        "layer_1/**/kernel": P(None, "model"),
        "h/**/kernel": P("model", None),
        "out/kernel": js.fsdp(AXES, min_bytes=0),
        "norm": P("model"),
    },
    default=P(),
)
PLAIN = js.transform_with_state(model)
NET = js.sharded(PLAIN, RULES)


def differences(found: Any, expected: Any, tolerance: float = 0.0) -> list[str]:
    """Names whose values differ by more."""
    pairs = js.tree.flatten(found), js.tree.flatten(expected)
    assert pairs[0].keys() == pairs[1].keys()
    gap = {n: np.abs(np.asarray(x) - np.asarray(pairs[1][n])).max() for n, x in pairs[0].items()}
    return [name for name, value in gap.items() if not value <= tolerance]


def misplaced(found: Any, places: Any) -> list[str]:
    """Names of arrays that are divided in another way."""
    wanted = js.tree.flatten(places)
    return [
        name
        for name, x in js.tree.flatten(found).items()
        if not x.sharding.is_equivalent_to(wanted[name], x.ndim)
    ]


def births(mesh: jax.sharding.Mesh) -> Outcomes:
    """How it is born -> what is not as without a mesh, or not where the specs say."""
    plain = PLAIN.init(0, X)
    late = PLAIN.specs(X)
    ways: dict[str, Callable[[], Any]] = {
        "set": lambda: NET.init(0, X),
        "shapes": lambda: NET.init(0, jax.ShapeDtypeStruct(X.shape, X.dtype)),
        "jit": lambda: jax.jit(NET.init)(0, X),
        "key on the mesh": lambda: NET.init(jax.device_put(jax.random.key(0), P()), X),
        "legacy key": lambda: NET.init(jax.random.PRNGKey(0), X),
        "given": lambda: js.sharded(PLAIN, RULES, mesh).init(0, X),
    }
    found = {}
    for way, run in ways.items():
        if way == "given":
            made, specs = run(), js.sharded(PLAIN, RULES, mesh).specs(X)
        else:
            with jax.set_mesh(mesh):
                made, specs = run(), NET.specs(X)
        assert list(specs) == list(late)
        places = specs.shardings(mesh), specs.state_shardings(mesh)
        wrong = [misplaced(*pair) for pair in zip(made, places, strict=True)]
        # The last place is free inside a jit of the user's.
        values = [
            differences(*pair, 1e-6 if way == "jit" else 0.0)
            for pair in zip(made, plain, strict=True)
        ]
        found[way] = str(wrong + values)
    with jax.set_mesh(mesh):
        many = jax.vmap(lambda key: NET.init(key, X)[0])(jax.random.split(jax.random.key(1), 2))
    one = PLAIN.init(jax.random.split(jax.random.key(1), 2)[1], X)[0]
    found["vmap"] = str(differences(jax.tree.map(lambda leaf: leaf[1], many), one, 1e-6))
    return found


def loss(params: Any, state: Any, x: jax.Array) -> Any:
    out, state = NET.apply(params, state, None, x)
    return (out**2).mean(), state


OPTIMIZER = optax.adam(1e-2)


def step(params: Any, state: Any, opt_state: Any, x: jax.Array) -> Any:
    (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params, state, x)
    updates, opt_state = OPTIMIZER.update(grads, opt_state)
    return optax.apply_updates(params, updates), state, opt_state, value, grads


def training(mesh: jax.sharding.Mesh) -> dict[str, Any]:
    """Three steps without a mesh and on it: losses, where all that is kept lies, donation."""
    params, state = PLAIN.init(0, X)
    opt_state = OPTIMIZER.init(params)
    run = jax.jit(step)
    expected = []
    for _ in range(3):
        params, state, opt_state, value, first = run(params, state, opt_state, X)
        expected.append(float(value))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, P("data")))
        sharded, kept = NET.init(0, X)
        opt = OPTIMIZER.init(sharded)
        places = NET.specs(X).shardings(mesh)
        of_moments = misplaced(opt[0].mu, places)
        # Along Auto axes the compiler would lay out what comes back as it likes.
        kept_places = jax.tree.map(lambda leaf: leaf.sharding, (sharded, kept, opt))
        run = jax.jit(step, donate_argnums=(0, 1, 2), out_shardings=(*kept_places, None, places))
        old, losses = sharded["out"]["kernel"], []
        for _ in range(3):
            sharded, kept, opt, value, grads = run(sharded, kept, opt, x)
            losses.append(float(value))
    return {
        "losses": float(np.abs(np.array(losses) - expected).max()),
        "params": differences(sharded, params, 1e-5),
        "gradients": differences(grads, first, 1e-5),
        "calls": int(kept["calls"]),
        "misplaced": [
            *of_moments,
            *misplaced(sharded, places),
            *misplaced(opt[0].nu, places),
            *misplaced(grads, places),
        ],
        "donated": old.is_deleted(),
    }


def ahead(mesh: jax.sharding.Mesh) -> Outcomes:
    """Compiled ahead of time from structs, restored into structs, with other random bits."""
    with jax.set_mesh(mesh):
        specs = NET.specs(X)
        params, state = NET.init(0, X)
        structs = specs.params(mesh), specs.state(mesh)
        x = jax.ShapeDtypeStruct(X.shape, X.dtype, sharding=NamedSharding(mesh, P("data")))
        compiled = jax.jit(loss).lower(*structs, x).compile()
        on_mesh = jax.device_put(X, NamedSharding(mesh, P("data")))
        gap = abs(compiled(params, state, on_mesh)[0] - loss(*PLAIN.init(0, X), X)[0])
        rbg = jax.random.key(0, impl="rbg")
        other = NET.init(rbg, X)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.safetensors"
        js.io.save(path, PLAIN.init(0, X)[0])
        restored, _ = js.restore(specs.params(mesh), js.io.open(path))
    places = specs.shardings(mesh)
    return {
        "compiled": "ok" if float(gap) < 1e-6 else str(gap),
        "restored": str(differences(restored, params) + misplaced(restored, places)),
        "rbg": str(differences(other, PLAIN.init(rbg, X)[0]) + misplaced(other, places)),
    }


def main() -> None:
    found: dict[str, Any] = {"births": {}, "training": {}, "ahead": {}}
    for kind, types in KINDS.items():
        mesh = jax.make_mesh((2, 4), AXES, axis_types=types)
        found["births"][kind] = births(mesh)
        found["training"][kind] = training(mesh)
        found["ahead"][kind] = ahead(mesh)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

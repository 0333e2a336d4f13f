"""What inits over 8 devices compile and hold, for ``test_sharded_init.py``."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jscope as js
from jscope import _program, _sampling

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import scale

AXES = ("data", "model")
KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
TYPES = {
    **{name: (kind, kind) for name, kind in KINDS.items()},
    "mixed": (AxisType.Auto, AxisType.Explicit),
    "mixed, explicit first": (AxisType.Explicit, AxisType.Auto),
}
LAYOUTS = {
    "divided": P(*AXES),
    "divided over one axis": P("data"),
    "replicated": P(),
}


def looped(key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
    def add(_: Any, total: jax.Array) -> jax.Array:
        return total + jax.random.normal(key, shape, dtype)

    return jax.lax.fori_loop(0, 3, add, jnp.zeros(shape, dtype))


def laid(key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
    value = jax.random.normal(key, shape, dtype)
    mesh = jax.sharding.get_abstract_mesh()
    return value if mesh.empty else jax.sharding.reshard(value, P("data"))


INITIALIZERS: dict[str, Any] = {
    "normal": jax.nn.initializers.normal(0.02),
    "truncated normal": jax.nn.initializers.truncated_normal(),
    "scaled": jax.nn.initializers.glorot_uniform(),
    "orthogonal": jax.nn.initializers.orthogonal(),
    "constant": np.arange(128, dtype=np.float32).reshape(8, 16),
    "a function of an array": lambda *_: jnp.arange(128.0).reshape(8, 16),
    "a function": lambda key, shape, dtype: 0.1 * jax.random.gamma(key, 2.0, shape, dtype),
    "with a rule of derivatives": lambda *args: jax.nn.relu(jax.random.normal(*args)),
    "with a loop": looped,
    "with a layout": laid,
}


def mesh_of(kind: str) -> jax.sharding.Mesh:
    return jax.make_mesh((4, 2), AXES, axis_types=TYPES[kind])


def one(initializer: Any) -> None:
    js.get_variable(
        "w",
        None if isinstance(initializer, np.ndarray) else [8, 16],
        jnp.float32,
        initializer=initializer,
    )


def values(kind: str) -> dict[str, str]:
    """Initializer and layout -> whether init gives the values without a mesh, laid out so."""
    found = {}
    for name, initializer in INITIALIZERS.items():
        net = js.transform(functools.partial(one, initializer))
        if name == "with a layout" and kind == "auto":
            continue  # JAX has such only on explicit axes
        wanted = np.asarray(net.init(0)["w"])
        for layout, value in LAYOUTS.items():
            with jax.set_mesh(mesh_of(kind)):
                made = js.sharded(net, js.sharding_rules({"w": value})).init(0)["w"]
            place = NamedSharding(mesh_of(kind), value)
            same = np.array_equal(np.asarray(made), wanted)
            found[f"{name}, {layout}"] = "ok" if same and made.sharding == place else repr(made)
    return found


def cubed(key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
    return 1.1 + 0.7 * (value := jax.random.normal(key, shape, dtype)) + 0.3 * value**3


def single_numbers(kind: str) -> dict[str, bool]:
    """Shape -> whether a variable with one number a device has the values without a mesh."""
    found = {}
    for name, shape, entries in (("vector", [8], (AXES,)), ("matrix", [4, 2], AXES)):
        net = js.transform(lambda shape=shape: js.get_variable("w", shape, initializer=cubed))
        with jax.set_mesh(mesh_of(kind)):
            made = js.sharded(net, js.sharding_rules({"w": P(*entries)})).init(5)["w"]
        found[name] = np.array_equal(np.asarray(made), np.asarray(net.init(5)["w"]))
    return found


def affine(x: Any) -> jax.Array:
    y = x @ js.get_variable("w", [4, 8])
    js.get_variable("scale", initializer=jnp.full([8, 8], x.sum()))  # computed in the function
    return y


WAYS: dict[str, Callable[..., Any]] = {
    "eager": lambda init, x: init(0, x),
    "jit": lambda init, x: jax.jit(init)(0, x),
    "vmap": lambda init, x: jax.vmap(lambda x: init(0, x))(x[None]),
    "jit of vmap": lambda init, x: jax.jit(jax.vmap(lambda x: init(0, x)))(x[None]),
    "vmap of jit": lambda init, x: jax.vmap(jax.jit(lambda x: init(0, x)))(x[None]),
    "eval_shape": lambda init, x: jax.eval_shape(init, jax.random.key(0), x),
    "grad": lambda init, x: jax.grad(lambda s: (s * init(0, x)["w"]).sum())(1.0),
}


def transformed(kind: str) -> dict[str, str]:
    """Transform -> what becomes of an init in it, whose mesh is given, and set or not."""
    mesh, x = mesh_of(kind), np.ones([2, 4], np.float32)
    net = js.sharded(js.transform(affine), js.sharding_rules({}, P(*AXES)), mesh)
    places = net.specs(x).shardings(mesh)
    wanted = js.transform(affine).init(0, x)
    found = {}
    for way, call in WAYS.items():
        for is_set in (False, True):
            with jax.set_mesh(mesh) if is_set else contextlib.nullcontext():
                try:
                    made = call(net.init, x)
                except ValueError as error:
                    found[f"{way}, {is_set}"] = str(error)
                    continue
            assert jax.sharding.get_abstract_mesh().empty
            if isinstance(made, js.Params) and way != "eval_shape":
                whole = jax.tree.map(
                    lambda a, b: np.array_equal(a.reshape(b.shape), b), made, wanted
                )
                laid = jax.tree.map(
                    lambda a, place: a.sharding.is_equivalent_to(
                        NamedSharding(mesh, P(*[None] * (a.ndim - 2), *place.spec)), a.ndim
                    ),
                    made,
                    places,
                )
                assert jax.tree.all(whole), way
                found[f"{way}, {is_set}"] = "ok" if jax.tree.all(laid) else "elsewhere"
            else:
                found[f"{way}, {is_set}"] = "ok"
    return found


def to_the_letter(kind: str) -> bool:
    """Whether sampled and computed values have the order of axes that is asked for."""
    mesh, x = mesh_of(kind), np.ones([8, 4], np.float32)
    rules = js.sharding_rules({"w": P(None, AXES[::-1]), "scale": P(AXES[::-1])})
    with jax.set_mesh(mesh):
        net = js.sharded(js.transform(affine), rules)
        made = net.init(0, x)
        places = net.specs(x).shardings(mesh)
    return all(made[name].sharding == places[name] for name in ("w", "scale"))


def from_elsewhere(kind: str) -> bool:
    """Whether constants on one device, some, or all in another order are moved to the mesh."""
    devices = np.array(jax.devices())
    places = [
        jax.sharding.SingleDeviceSharding(devices[3]),
        NamedSharding(jax.sharding.Mesh(devices[:4], "x"), P("x")),
        NamedSharding(jax.sharding.Mesh(devices[::-1], "x"), P("x")),
    ]
    whole = np.arange(32, dtype=np.float32).reshape(8, 4)
    for place in places:
        constant = jax.device_put(whole, place)
        one = js.transform(lambda constant=constant: js.get_variable("w", initializer=constant))
        stack = js.transform(
            lambda constant=constant: js.layer_stack(2)(
                lambda c: c + js.get_variable("w", initializer=constant)
            )(jnp.zeros([8, 4]))
        )
        for net in (one, stack):
            with jax.set_mesh(mesh_of(kind)):
                made = js.sharded(net, js.sharding_rules({"w": P(*AXES)})).init(0)["w"]
                spec = js.sharded(net, js.sharding_rules({"w": P(*AXES)})).specs()
            assert made.sharding == spec.shardings(mesh_of(kind))["w"]
            np.testing.assert_array_equal(made, np.broadcast_to(whole, made.shape))
    return True


def unplaced(kind: str) -> dict[str, bool]:
    """Whether a stack whose variables divide the carry takes inputs that are on no mesh."""
    net = js.transform(js.layer_stack(2)(lambda x: jnp.tanh(x + js.get_variable("b", [8]))))
    divided = js.sharded(net, js.sharding_rules({"b": P("data")}))
    x = np.ones([8], np.float32)
    wanted = net.apply(net.init(0, x), None, x)
    with jax.set_mesh(mesh_of(kind)):
        params = divided.init(0, jax.ShapeDtypeStruct(x.shape, x.dtype))
        outs = divided.apply(params, None, x), jax.jit(divided.apply)(params, None, x)
        shape = jax.eval_shape(divided.apply, params, None, x).shape
        loss = jax.jit(jax.grad(lambda params: divided.apply(params, None, x).sum()))
        gradient = loss(params)["b"]
        seen = js.transform(lambda x: js.record("in", x) * js.get_variable("b", [8]))
        value = jax.device_put(x, NamedSharding(mesh_of(kind), P("data")))
        b = {"b": value}
        planted = jax.jit(lambda b, v, x: js.plant({"in": v})(seen.apply)(b, None, x))(b, value, x)
    return {
        "values": all(np.allclose(out, wanted, atol=1e-6) for out in outs),
        "shape": shape == (8,),
        "gradient": gradient.shape == (2, 8),
        "planted": np.array_equal(planted, x),
    }


def matrices() -> None:
    """12 variables of 3 shapes, in 2 layouts each."""
    for number in range(12):
        with js.variable_scope(f"{('even', 'odd')[number % 2]}/layer_{number}"):
            js.get_variable("w", [16, 8 * (1 + number % 3)])


def compilations(kind: str) -> list[int]:
    """How much is compiled by an init, by a second one, and by one of another key."""
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name)
    )
    rules = js.sharding_rules({"even/**": P(*AXES), "odd/**": P(None, "model")})
    net = js.sharded(js.transform(matrices), rules)
    counts = []
    with jax.set_mesh(mesh_of(kind)):
        for key in jax.block_until_ready([jax.random.key(seed) for seed in (0, 0, 1)]):
            del compiled[:]
            net.init(key)
            counts.append(sum(name.endswith("backend_compile_duration") for name in compiled))
    jax.monitoring.clear_event_listeners()
    return counts


def temporaries(kind: str, initializer: Callable[..., Any]) -> float:
    """What sampling needs on one device, as a part of a variable that is divided by 8."""
    shape, dtype = (1024, 512), jnp.dtype(jnp.float32)
    mesh, key = mesh_of(kind), jax.random.key(0)
    with jax.set_mesh(mesh):
        program = _program.trace(initializer, shape, dtype, key.dtype, {})
    twin = jax.sharding.Mesh(mesh.devices, mesh.axis_names)
    place = NamedSharding(twin, P(*AXES))
    with jax.set_mesh(twin):
        sampler = _sampling._compile(program.jaxpr, (), jax.random.key_impl(key), place)
        inputs = jax.random.key_data(key), np.zeros(2, np.uint32), *program.consts
        needed = jax.jit(sampler).lower(*inputs).compile().memory_analysis()
    return (needed.temp_size_in_bytes + needed.output_size_in_bytes) / (4 * 1024 * 512)


def held() -> list[int]:
    """Bytes that each device holds of a variable of 1 MiB: at most, and at least."""
    with jax.set_mesh(mesh_of("explicit")):
        net = js.transform(lambda: js.get_variable("w", [512, 512]))
        made = js.sharded(net, js.sharding_rules({"w": js.fsdp(AXES)})).init(0)
    sizes = [shard.data.nbytes for shard in made["w"].addressable_shards]
    return [max(sizes), min(sizes)]


def simulated() -> dict[str, Any]:
    """The step of ``scale.py`` for 64 devices that are nowhere, and one compiled for 8."""
    mesh = jax.sharding.AbstractMesh(scale.SHAPES[64], scale.AXES, (AxisType.Auto,) * 3)
    before = len(jax.live_arrays())
    lowered, size, _ = scale.lower(mesh, layers=2, width=64)
    return {
        "parameters": size,
        "allocated": len(jax.live_arrays()) - before,
        "partitions": "num_partitions = 64" in lowered.as_text(),
        "divided": '"model"' in lowered.as_text(),
    }


if __name__ == "__main__":
    initializers = {name: INITIALIZERS[name] for name in ("normal", "truncated normal", "scaled")}
    users = {"a function": lambda *args: 0.1 * jax.random.normal(*args)}
    print(
        json.dumps(
            {
                "values": {kind: values(kind) for kind in KINDS},
                "single numbers": {kind: single_numbers(kind) for kind in KINDS},
                "transformed": {kind: transformed(kind) for kind in TYPES},
                "to the letter": {kind: to_the_letter(kind) for kind in TYPES},
                "from elsewhere": {kind: from_elsewhere(kind) for kind in TYPES},
                "unplaced": {kind: unplaced(kind) for kind in TYPES},
                "compilations": {kind: compilations(kind) for kind in KINDS},
                "temporaries": {
                    kind: {
                        name: temporaries(kind, f) for name, f in {**initializers, **users}.items()
                    }
                    for kind in KINDS
                },
                "held": held(),
                "simulated": simulated(),
            }
        )
    )

"""What each of several processes under jax.distributed runs, for ``test_processes.py``.

python tests/process_programs.py TASK NUMBER INDEX PORT FOLDER

All processes together have 8 devices. What a task returns is written to FOLDER/INDEX.json.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jscope as js

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
KINDS = {"auto": (AUTO, AUTO), "explicit": (EXPLICIT, EXPLICIT), "mixed": (AUTO, EXPLICIT)}
STEPS, KILLED_AT = 6, 3
BATCH, SIZE = 8, 4


def mesh_of(kind: str) -> Mesh:
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=KINDS[kind])


def model(x: Any) -> Any:
    """[batch, 4] -> [batch, 4], with all kinds of variables."""
    normal = jax.nn.initializers.normal
    with js.variable_scope("net", initializer=normal(0.3)):
        h = jnp.tanh(js.layers.dense(x, 8, name="up"))
        with js.variable_scope("stack"):
            h = js.layer_stack(2)(lambda h: jnp.tanh(js.layers.dense(h, 8)))(h)
        h = js.layers.batch_normalization(h, training=True)
        h = (
            h
            * js.get_variable("scale", initializer=np.ones(8, np.float32))
            * js.get_variable("gain", initializer=1.0)
        )
        js.get_variable("calls", initializer=0, trainable=False)
        js.assign_add("calls", 1)
        js.get_variable("seen", x.shape, initializer=jax.nn.initializers.zeros, trainable=False)
        js.assign_add("seen", x)
        return js.layers.dense(h, 4, name="down")


RULES = js.sharding_rules(
    {
        "net/stack/**/kernel": lambda spec: P(None, "data", "model"),
        "net/up/kernel": P("data", "model"),
        "net/down/kernel": P("model", "data"),
        "net/seen": P("data"),
    },
    default=js.fsdp("data", min_bytes=1 << 10),
)
plain = js.transform_with_state(model)
net = js.sharded(plain, RULES)
STRUCT = jax.ShapeDtypeStruct((BATCH, SIZE), np.float32)
optimizer = optax.adam(1e-2)


def batch(step: int) -> np.ndarray:
    numbers = np.arange(BATCH * SIZE, dtype=np.float32).reshape(BATCH, SIZE)
    return np.sin(numbers + step)


def global_batch(mesh: Mesh, step: int) -> jax.Array:
    """Each process has some rows of it."""
    place = NamedSharding(mesh, P("data"))
    whole = batch(step)
    return jax.make_array_from_callback(whole.shape, place, lambda part: whole[part])


def fault(value: jax.Array, wanted: Any, spec: P | None = None) -> str:
    """What is wrong with a global array; "" if nothing is."""
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value, wanted = jax.random.key_data(value), jax.random.key_data(wanted)
    wanted = np.asarray(wanted)
    if value.is_fully_addressable or len(value.addressable_shards) != jax.local_device_count():
        return f"not on all devices: {value.sharding}"
    if spec is not None and not value.sharding.is_equivalent_to(
        NamedSharding(value.sharding.mesh, spec), value.ndim
    ):
        return f"laid out as {value.sharding}, not {spec}"
    if value.dtype != wanted.dtype or value.shape != wanted.shape:
        return f"{value.dtype}{value.shape}"
    same = (np.array_equal(shard.data, wanted[shard.index]) for shard in value.addressable_shards)
    return "" if all(same) else "other values"


def faults(found: Any, wanted: Any, specs: Any) -> dict[str, str]:
    """Name -> what is wrong with it, of params and state."""
    pairs = js.tree.flatten(js.tree.merge(*found)), js.tree.flatten(js.tree.merge(*wanted))
    told = {
        name: fault(value, pairs[1][name], specs[name].partition)
        for name, value in pairs[0].items()
    }
    return {name: text for name, text in told.items() if text}


def other_ways() -> dict[str, str]:
    """How else than by rules and a mesh that is set -> what is wrong with initial values."""
    mesh, small = mesh_of("explicit"), js.transform(lambda: js.get_variable("w", [8, 2]))
    wanted, rules = small.init(0)["w"], js.sharding_rules({"w": P("data")})
    told = {"mesh=": fault(js.sharded(small, rules, mesh).init(0)["w"], wanted, P("data"))}
    with jax.set_mesh(mesh):
        told["no rules"] = fault(small.init(0)["w"], wanted, P())
        told["jit"] = fault(jax.jit(js.sharded(small, rules).init)(0)["w"], wanted, P("data"))
    return told


def starts(kind: str) -> dict[str, str]:
    """Where initial values come from -> what is wrong with them."""
    mesh, key, values = mesh_of(kind), jax.random.key(7), batch(0)
    local = jnp.asarray(values)
    whole = jax.make_array_from_callback(
        values.shape, NamedSharding(mesh, P("model", "data")), lambda part: values[part]
    )
    draw = functools.partial(jax.random.randint, shape=values.shape, minval=0, maxval=100)
    got = js.get_variable
    shape = values.shape
    programs: dict[str, tuple[Callable[[], Any], Any]] = {
        "NumPy": (lambda: got("w", initializer=values), values),
        "local": (lambda: got("w", initializer=local), values),
        "global": (lambda: got("w", initializer=whole), values),
        "number": (lambda: got("w", initializer=2.5, dtype=np.float32), np.float32(2.5)),
        "lists": (lambda: got("w", initializer=[[1, 2]] * 8), np.array([[1, 2]] * 8, np.int32)),
        "closure over local": (
            lambda: got("w", shape, initializer=lambda *_: local + 1),
            values + 1,
        ),
        "closure over global": (
            lambda: got("w", shape, initializer=lambda *_: whole + 1),
            values + 1,
        ),
        "closure over a key": (
            lambda: got("w", shape, np.int32, initializer=lambda *_: draw(key)),
            draw(key),
        ),
        "a key": (lambda: got("w", initializer=key, trainable=False), key),
        "keys": (
            lambda: got(
                "w",
                [4],
                key.dtype,
                initializer=lambda *_: jax.random.split(key, 4),
                trainable=False,
            ),
            jax.random.split(key, 4),
        ),
        "a stack of constants": (
            lambda: js.layer_stack(3)(lambda x: x * got("w", initializer=np.ones(4, np.float32)))(
                local
            ),
            np.ones([3, 4], np.float32),
        ),
        "computed": (
            lambda: got("w", initializer=jnp.ones(shape) * 2),
            2 * np.ones(shape, np.float32),
        ),
    }
    rules = js.sharding_rules({"w": lambda spec: P("data") if spec.shape[:1] == (8,) else P()})
    told = {}
    for name, (program, wanted) in programs.items():
        with jax.set_mesh(mesh):
            params, state = js.sharded(js.transform_with_state(program), rules).init(0)
        told[name] = fault({**params, **state}["w"], wanted)
    with jax.set_mesh(mesh):  # data-dependent: of all examples, though no process has them
        scaled = js.sharded(js.transform(lambda x: x * got("w", initializer=x.mean(0))), rules)
        found = scaled.init(0, global_batch(mesh, 0))["w"]
    close = np.allclose(found.addressable_data(0), values.mean(0), rtol=1e-5)
    told["the data"] = "" if close and not found.is_fully_addressable else "other values"
    return told


def refusals() -> dict[str, str]:
    """What processes differ in -> the error that each of them gets."""
    index, got = jax.process_index(), js.get_variable
    attempts: dict[str, Callable[[], Any]] = {
        "rng": lambda: js.transform(lambda: got("w", [4])).init(index),
        "variables": lambda: js.transform(lambda: got(f"w{index}", [4])).init(0),
        "layouts": lambda: js.sharded(
            js.transform(lambda: got("w", [4])),
            js.sharding_rules({"w": P("model") if index else P()}),
        ).init(0),
        "constants": lambda: js.transform(lambda: got("w", initializer=[index])).init(0),
        "arguments": lambda: js.transform(lambda x: got("w", initializer=x.mean(0))).init(
            0, np.full([8, 4], index, np.float32)
        ),
        "layout": lambda: js.sharded(
            js.transform(lambda: got("w", [3])), js.sharding_rules({"w": P("data")})
        ).init(0),
    }
    told = {}
    for name, attempt in attempts.items():
        try:
            with jax.set_mesh(mesh_of("auto")):
                attempt()
            told[name] = "nothing"
        except js.errors.ShardingError as error:
            told[name] = str(error)
    return told


def loss_fn(params: Any, state: Any, x: Any) -> Any:
    out, state = plain.apply(params, state, None, x)
    return jnp.square(out - x).mean(), state


def step(params: Any, state: Any, opt_state: Any, x: Any) -> Any:
    (loss, state), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, state, x)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), state, opt_state, loss


@functools.cache
def alone() -> tuple[Any, list[float]]:
    """The initial values and the losses of one process on one device."""
    begun, losses = plain.init(0, STRUCT), []
    carry, run = [*begun, optimizer.init(begun[0])], jax.jit(step)
    for number in range(STEPS):
        *carry, loss = run(*carry, batch(number))
        losses.append(float(loss))
    return begun, losses


def laid_out(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.sharding, tree)


def train(mesh: Mesh, carry: Any, first: int, after: Callable[[int, Any], None]) -> list[str]:
    """The losses from a step on, exactly."""
    everywhere, losses = NamedSharding(mesh, P()), []
    run = jax.jit(step, donate_argnums=(0, 1, 2), out_shardings=(*laid_out(carry), everywhere))
    for number in range(first, STEPS):
        *carry, loss = run(*carry, global_batch(mesh, number))
        losses.append(float(loss).hex())
        after(number + 1, carry)
    return losses


def start() -> list[Any]:
    params, state = net.init(0, STRUCT)
    return [params, state, optimizer.init(params)]


def trains(kind: str) -> dict[str, Any]:
    """What is wrong with initial values, and how training goes on from them."""
    mesh, (begun, losses) = mesh_of(kind), alone()
    with jax.set_mesh(mesh):
        specs, carry = net.specs(STRUCT), start()
        wrong = faults(carry[:2], begun, specs)
        slots = laid_out(carry[2][0].mu) == laid_out(carry[0]) == specs.shardings(mesh)
        found = train(mesh, carry, 0, lambda number, carry: None)
    close = np.allclose([float.fromhex(loss) for loss in found], losses, rtol=1e-4)
    return {"wrong": wrong, "slots": slots, "as on one device": bool(close), "losses": found}


def wanted(mesh: Mesh) -> list[Any]:
    """Shapes and layouts of all that training needs."""
    specs = net.specs(STRUCT)
    params, everywhere = specs.params(mesh), NamedSharding(mesh, P())
    slots = optax.tree_map_params(
        optimizer,
        lambda _, param: param,
        jax.eval_shape(optimizer.init, specs.params()),
        params,
        transform_non_params=lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
    )
    return [params, specs.state(mesh), slots]


def resumes(folder: Path, die: bool) -> dict[str, Any]:
    """Trains from the last checkpoint on; the last process dies on the way if it is to."""
    mesh = mesh_of("auto")
    with jax.set_mesh(mesh), ocp.CheckpointManager(folder / "run") as manager:
        first = manager.latest_step() or 0
        if first:
            like = dict(zip(("params", "state", "opt_state"), wanted(mesh), strict=True))
            found = manager.restore(first, args=ocp.args.StandardRestore(like))
            if laid_out(found) != laid_out(like):
                return {"restored as": str(laid_out(found))}
            carry = [found["params"], found["state"], found["opt_state"]]
        else:
            carry = start()

        def after(number: int, carry: Any) -> None:
            if die and number == KILLED_AT + 1 and jax.process_index() == jax.process_count() - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            tree = dict(zip(("params", "state", "opt_state"), carry, strict=True))
            manager.save(number, args=ocp.args.StandardSave(tree))
            if die and number == KILLED_AT:
                manager.wait_until_finished()

        losses = train(mesh, carry, first, after)
    return {"first": first, "losses": losses}


def everything(folder: Path) -> dict[str, Any]:
    found = {"starts": starts("explicit"), "ways": other_ways(), "refusals": refusals()}
    return {**found, **{kind: trains(kind) for kind in KINDS}}


TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "everything": everything,
    "train": lambda folder: {"auto": trains("auto")},
    "killed": functools.partial(resumes, die=True),
    "resumed": functools.partial(resumes, die=False),
}


def end_with_parent() -> None:
    """Ends this process when the one that holds its standard input does."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(task: str, number: int, index: int, port: int, folder: Path) -> None:
    end_with_parent()
    jax.config.update("jax_num_cpu_devices", 8 // number)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", number, index)
    (folder / f"{index}.json").write_text(json.dumps(TASKS[task](folder)))


if __name__ == "__main__":
    task, number, index, port, folder = sys.argv[1:]
    main(task, int(number), int(index), int(port), Path(folder))

"""Measures what large parameters cost, and what a model would cost on machines not at hand.

    pip install -e '.[examples]'
    python tests/benchmarks/scale.py [--size MB] [--cases NAME ...]
    python tests/benchmarks/scale.py --simulate [DEVICES ...] [--layers N] [--width N]

The first measures the memory that init takes, each case in a process of its own: the peak of the
resident memory (VmHWM) above what it was just before, after the imports and one trivial
compilation, against the bytes of the parameters; and the bytes that each device holds at the end.
Host devices share the process's memory, so the peak is that of all of them together.

The second compiles one training step of the language model of ``examples/char_lm.py``, of ten
billion parameters, for 8, 64 and 512 devices, data x fsdp x model, and allocates nothing: what is
given to the compiler are ``jax.ShapeDtypeStruct``s. Host devices stand for the real ones, so bytes
are those of XLA's CPU backend, whose temporaries are larger than a GPU's or a TPU's.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import functools
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jscope as js

EXAMPLES = Path(__file__).parents[2] / "examples"
MiB = 1 << 20
BUDGET = 1.2

# Memory.

INITIALIZERS: dict[str, Any] = {
    "normal": jax.nn.initializers.normal(0.02),
    "truncated_normal": jax.nn.initializers.truncated_normal(0.02),
    "variance_scaling": jax.nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
    "zeros": jax.nn.initializers.zeros,
}


def many(initializer: Any, size: int) -> None:
    """Matrices of 4 MiB."""
    for number in range(size // 4):
        js.get_variable(f"layer_{number}/w", [1024, 1024], initializer=initializer)


def stack(initializer: Any, size: int) -> None:
    """Matrices of 4 MiB, in stacks of 16."""

    def layer(x: jax.Array) -> jax.Array:
        js.get_variable("w", [1024, 1024], initializer=initializer)
        return x

    for number in range(size // 64):
        with js.variable_scope(f"stack_{number}"):
            js.layer_stack(16)(layer)(jnp.ones(()))


def large(initializer: Any, size: int) -> None:
    """One matrix."""
    js.get_variable("table", [size * MiB // 4096, 1024], initializer=initializer)


def array(initializer: Any, size: int) -> None:
    """One array that the user has on the host."""
    js.get_variable("table", initializer=np.ones([size * MiB // 4096, 1024], np.float32))


MODELS = {function.__name__: function for function in (many, stack, large, array)}
MESHES = {"one": None, "auto": AxisType.Auto, "explicit": AxisType.Explicit}
KINDS = [f"many {kind}" for kind in INITIALIZERS]
KINDS += ["stack normal", "large normal", "large zeros", "array given"]
CASES = [f"{kind} {devices}" for kind in KINDS for devices in MESHES]


def memory_child(case: str, size: int) -> dict[str, float]:
    """What one init takes in this process, in MiB."""
    model, kind, devices = case.split()
    net = js.transform(functools.partial(MODELS[model], INITIALIZERS.get(kind), size))
    mesh: Any = contextlib.nullcontext()
    if MESHES[devices] is not None:
        jax.config.update("jax_num_cpu_devices", 8)
        net = js.sharded(net, js.sharding_rules({"**": js.fsdp("data")}))
        mesh = jax.set_mesh(jax.make_mesh((8,), ("data",), axis_types=(MESHES[devices],)))
    jax.block_until_ready(jax.jit(lambda x: x + 1)(jnp.ones(())))
    with mesh:
        before = status("VmRSS")
        params = jax.block_until_ready(net.init(0))
        peak = status("VmHWM") - before
    held = collections.Counter[Any]()
    for live in jax.live_arrays():
        for shard in live.addressable_shards:
            held[shard.device] += shard.data.nbytes
    params_size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return {"size": params_size / MiB, "peak": peak, "device": max(held.values()) / MiB}


def status(what: str) -> float:
    """A figure of this process, in MiB."""
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(what)]
    return int(line.split()[1]) / 1024


def memory(cases: list[str], size: int) -> Iterator[list[str]]:
    yield ["parameters", "devices", "MiB", "peak of the process", "most on one device", "budget"]
    for case in cases:
        model, kind, devices = case.split()
        found = run_child("memory", case, str(size))
        total, peak, device = found["size"], found["peak"] / found["size"], found["device"]
        share = device / total * (1 if MESHES[devices] is None else 8)
        met = "met" if max(peak, share) <= BUDGET else "MISSED"
        where = "one" if MESHES[devices] is None else f"8, {devices} axes"
        peaks = f"{found['peak']:.0f} MiB, {peak:.2f}x"
        yield [
            f"{(MODELS[model].__doc__ or '').rstrip('.')}, {kind}",
            where,
            f"{total:.0f}",
            peaks,
            f"{device:.0f} MiB",
            met,
        ]


# Simulation.

SHAPES = {8: (2, 2, 2), 64: (2, 8, 4), 512: (4, 32, 4)}
AXES = ("data", "fsdp", "model")
# What both inputs and weights have along "fsdp" is not summed over: the compiler would divide the
# features along it, not the batch, and keep the activations of many texts on each device.
RULES = js.sharding_rules(
    {
        "**/c_attn/w": P(None, ("model", "fsdp")),
        "**/c_fc/w": P(None, ("model", "fsdp")),
        "**/c_proj/w": P(("model", "fsdp"), None),
        "**/table": P("model", None),
    },
    default=P(),
)
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


def char_lm() -> Any:
    """The example, as a module."""
    sys.path.insert(0, str(EXAMPLES))
    import char_lm

    return char_lm


def step(mesh: Any, layers: int, width: int) -> tuple[Any, tuple[Any, ...], dict[str, float]]:
    """A jitted training step, what describes its arguments, and seconds of tracing."""
    import optax

    model, seconds = char_lm(), {}
    data, fsdp, _ = mesh.axis_sizes
    sizes = model.Sizes(32768, 2048, width, layers, heads=32)
    text = jax.ShapeDtypeStruct(
        (2 * data * fsdp, sizes.context + 1),
        jnp.int32,
        sharding=NamedSharding(mesh, P(("data", "fsdp"))),
    )
    start = time.perf_counter()
    specs = js.sharded(model.net, RULES).specs(sizes, jax.ShapeDtypeStruct((1, 8), jnp.int32))
    seconds["init"] = time.perf_counter() - start
    params = specs.params(mesh)
    start = time.perf_counter()
    chars = jax.ShapeDtypeStruct((text.shape[0], sizes.context), jnp.int32)
    jax.eval_shape(lambda params, x: model.net.apply(params, None, sizes, x), params, chars)
    seconds["apply"] = time.perf_counter() - start
    optimizer = optax.adam(1e-4)
    state = optax.tree_map_params(
        optimizer,
        lambda leaf, struct: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=struct.sharding),
        jax.eval_shape(optimizer.init, params),
        params,
        transform_non_params=lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, P())
        ),
    )
    places = jax.tree.map(lambda struct: struct.sharding, (params, state))
    train = functools.partial(model.train_step.__wrapped__, sizes=sizes, optimizer=optimizer)
    jitted = jax.jit(
        train, donate_argnums=(0, 1), out_shardings=(*places, NamedSharding(mesh, P()))
    )
    return jitted, (params, state, text), seconds


def lower(mesh: Any, layers: int, width: int) -> tuple[Any, int, dict[str, float]]:
    """A training step lowered for a mesh, how many parameters it has, and seconds."""
    jitted, arguments, seconds = step(mesh, layers, width)
    start = time.perf_counter()
    traced = jitted.trace(*arguments)
    seconds["step"] = time.perf_counter() - start
    start = time.perf_counter()
    abstract = isinstance(mesh, jax.sharding.AbstractMesh)  # which can be lowered, not compiled
    lowered = traced.lower(lowering_platforms=("cpu",) if abstract else None)
    seconds["lower"] = time.perf_counter() - start
    return lowered, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(arguments[0])), seconds


def collectives(text: str) -> dict[str, tuple[int, int]]:
    """Collective -> how often a compiled program names it, and how often one run does it."""
    bodies: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            name = "ENTRY" if line.startswith("ENTRY") else line.split()[0]
            bodies[name] = []
        elif name:
            bodies[name].append(line)
    runs = collections.Counter[str]()

    def visit(name: str, times: int) -> None:
        runs[name] += times
        for line in bodies[name]:
            trips = re.search(r"known_trip_count[^0-9]*(\d+)", line)
            for called in re.findall(r"(?:body|to_apply|calls)=(%[\w.\-]+)", line):
                visit(called, times * int(trips.group(1)) if trips else times)

    visit("ENTRY", 1)
    found = {}
    for kind in COLLECTIVES:
        asks = re.compile(rf" {kind}(?:-start)?\(")
        named = {name: sum(map(bool, map(asks.search, body))) for name, body in bodies.items()}
        found[kind] = sum(named.values()), sum(named[name] * runs[name] for name in named)
    return found


def simulate_child(devices: int, layers: int, width: int) -> dict[str, Any]:
    jax.config.update("jax_num_cpu_devices", devices)
    mesh = jax.make_mesh(SHAPES[devices], AXES, axis_types=(AxisType.Auto,) * 3)
    lowered, size, seconds = lower(mesh, layers, width)
    held = sum(live.nbytes for live in jax.live_arrays())
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds["compile"] = time.perf_counter() - start
    analysis = compiled.memory_analysis()
    return {
        "parameters": size,
        "seconds": seconds,
        "arguments": analysis.argument_size_in_bytes,
        "temporaries": analysis.temp_size_in_bytes,
        "outputs": analysis.output_size_in_bytes,
        "collectives": collectives(compiled.as_text()),
        "allocated": held,
        "peak": status("VmHWM"),
    }


def simulate(devices: list[int], layers: int, width: int) -> Iterator[list[str]]:
    rows = ("init", "apply", "step", "lower", "compile")
    yield [
        "devices",
        "data x fsdp x model",
        "parameters",
        "a device: arguments, temporaries (GiB)",
        *COLLECTIVES,
        "seconds: " + ", ".join(rows),
        "allocated, peak of the process",
    ]
    for count in devices:
        found = run_child("simulate", str(count), str(layers), str(width))
        sizes = [f"{found[what] / 2**30:.2f}" for what in ("arguments", "temporaries")]
        yield [
            str(count),
            " x ".join(map(str, SHAPES[count])),
            f"{found['parameters'] / 1e9:.2f} B",
            ", ".join(sizes),
            *(
                f"{found['collectives'][kind][0]}, run {found['collectives'][kind][1]}"
                for kind in COLLECTIVES
            ),
            ", ".join(f"{found['seconds'][row]:.1f}" for row in rows),
            f"{found['allocated']} bytes, {found['peak']:.0f} MiB",
        ]


# What is printed.


def run_child(*arguments: str) -> Any:
    """What this script finds out in a process of its own."""
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def describe() -> str:
    packages = ("jax", "jaxlib", "jscope-jax", "numpy", "optax")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{datetime.date.today()}; Python {platform.python_version()}; {versions}; {machine}"


def show(rows: Iterator[list[str]]) -> None:
    """Prints a table in Markdown as its rows come."""
    for number, row in enumerate(rows):
        print("| " + " | ".join(row) + " |", flush=True)
        if not number:
            print("|" + " --- |" * len(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB of parameters")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, metavar="NAME")
    parser.add_argument("--simulate", nargs="*", type=int, choices=SHAPES, metavar="DEVICES")
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        what, *arguments = given.child
        if what == "memory":
            found: Mapping[str, Any] = memory_child(arguments[0], int(arguments[1]))
        else:
            found = simulate_child(*map(int, arguments))
        print(json.dumps(found))
        return
    print(describe(), end="\n\n", flush=True)
    if given.simulate is None:
        show(memory(given.cases, given.size))
    else:
        show(simulate(given.simulate or list(SHAPES), given.layers, given.width))


if __name__ == "__main__":
    main()

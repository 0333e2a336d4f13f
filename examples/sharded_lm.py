"""Does a language model spread over eight devices learn what it learns on one?

The model is that of ``char_lm.py`` as it stands there: nothing in it says where anything lies.
Rules by name do, from outside: over a mesh of data x fsdp x model, kernels are divided by the last
two, batches by the first two. It trains on the same text twice, on one device and on the mesh, and
prints the losses side by side, with the bytes that a device holds. Where there are no four devices
of another kind, the CPU plays eight. Several processes share one mesh as well:

    pip install -e ".[examples]"
    python examples/sharded_lm.py                  # a minute on two CPU cores
    python examples/sharded_lm.py --processes 2    # the same, in two processes that it starts

Both save sharded_lm.png. On a cluster, the same line on each host, with a number of its own:

    python examples/sharded_lm.py --processes 4 --address HOST0:1234 --index 0
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from char_lm import Sizes, net, read_plays, train_step
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from matplotlib.figure import Figure
from tqdm import tqdm

import jscope as js

# The first rule that means a variable decides. Stacked layers have an axis before those named here.
# Kernels are divided by both axes along one of theirs: along "fsdp" the batch is divided too, and
# what is summed over is not to be, or the compiler would rather divide the features than the batch.
rules = js.sharding_rules(
    {
        "**/c_attn/w": P(None, ("model", "fsdp")),
        "**/c_fc/w": P(None, ("model", "fsdp")),
        "**/c_proj/w": P(("model", "fsdp"), None),
        "**/table": P(None, ("fsdp", "model")),
    },
    default=js.fsdp("fsdp", min_bytes=1 << 12),  # what is smaller is on every device
)
rows = P(("data", "fsdp"))  # of a batch
CHARS = jax.ShapeDtypeStruct([1, 8], np.int32)

SIZES = {"steps": 150, "batch": 16, "context": 64, "width": 96, "layers": 4, "heads": 4}


def start(processes: int, address: str | None, index: int | None) -> None:
    """Asks for host devices, eight in all, and meets the other processes."""
    jax.config.update("jax_num_cpu_devices", max(1, 8 // processes))  # before JAX looks for any
    if processes > 1:
        # Gloo tells of its connections in pieces of lines: to stderr, away from what we print.
        sys.stdout = open(os.dup(1), "w", encoding=sys.stdout.encoding)  # noqa: SIM115
        os.dup2(2, 1)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, processes, index)


def make_mesh() -> Mesh:
    """All devices, as data x fsdp x model; host devices if there are no four of another kind."""
    devices = jax.devices() if jax.device_count() % 4 == 0 else jax.devices("cpu")
    shape = len(devices) // 4, 2, 2
    # The model is plain JAX, which is left to the compiler: explicit axes would have it say more.
    return jax.make_mesh(shape, ("data", "fsdp", "model"), (AxisType.Auto,) * 3, devices=devices)


def bytes_of_a_device(tree: object) -> int:
    """What the first device of this process holds of a tree."""
    shards = [leaf.addressable_shards[0] for leaf in jax.tree.leaves(tree)]
    return sum(shard.data.nbytes for shard in shards)


def begin(
    net: js.Transformed, sizes: Sizes, optimizer: optax.GradientTransformation
) -> tuple[Any, js.Params, optax.OptState]:
    """A step, and the params and the optimizer's state that it starts from, where they are made."""
    params = net.init(jax.random.key(0), sizes, CHARS)
    opt_state = optimizer.init(params)  # zeros like the params, and laid out as they are
    places = jax.tree.map(lambda x: x.sharding, (params, opt_state))
    step = jax.jit(
        lambda *carry_and_text: train_step(*carry_and_text, sizes, optimizer),
        out_shardings=(*places, None),  # where they are they stay
        donate_argnums=(0, 1),
    )
    return step, *jax.device_put((params, opt_state), places)


def draw(losses: np.ndarray, picture: str) -> None:
    """Saves a picture of the losses on one device and on the mesh, and how far they are apart."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=[2, 1])
    numbers = range(1, len(losses) + 1)
    above.plot(numbers, losses[:, 0], linewidth=3, alpha=0.4, label="one device")
    above.plot(numbers, losses[:, 1], linewidth=0.8, color="black", label="mesh")
    above.set(ylabel="bits per character")
    above.legend()
    below.plot(numbers, losses[:, 1] - losses[:, 0], linewidth=0.8, color="black")
    below.set(xlabel="step", ylabel="difference")
    figure.savefig(picture, dpi=120)


def show(losses: np.ndarray, held: tuple[int, int]) -> None:
    """Prints losses and bytes, of one device beside the mesh."""
    print(f"\n{'':14}{'one device':>12}{'mesh':>12}")
    for number in np.unique(np.linspace(0, len(losses) - 1, 11).astype(int)):
        print(f"step {number + 1:<9}{losses[number, 0]:12.5f}{losses[number, 1]:12.5f}")
    print(f"{'bytes a device':14}{held[0]:12,}{held[1]:12,}")


def main(
    steps: int = 150,
    picture: str = "sharded_lm.png",
    batch: int = 16,
    context: int = 64,
    width: int = 96,
    layers: int = 4,
    heads: int = 4,
) -> tuple[float, float]:
    """Trains twice, prints, saves the picture.

    Returns how far the losses are apart at most, and the part of all bytes that a device holds.
    """
    mesh, is_first = make_mesh(), jax.process_index() == 0
    train, _ = read_plays()
    letters = sorted(set(train))
    train = np.searchsorted(letters, list(train)).astype(np.int32)
    sizes = Sizes(len(letters), context, width, layers, heads)
    rate = optax.warmup_cosine_decay_schedule(0.0, 5e-3, steps // 10, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.99))

    with jax.default_device(mesh.local_devices[0]):
        step, *carry = begin(net, sizes, optimizer)
    with jax.set_mesh(mesh):
        mesh_step, *mesh_carry = begin(js.sharded(net, rules), sizes, optimizer)
    if is_first:
        print(f"{mesh.size} devices of kind {mesh.devices.flat[0].device_kind}, {dict(mesh.shape)}")
        print(js.summary(js.sharded(net, rules, mesh), sizes, CHARS, depth=3))
        print(rules.report(net.specs(sizes, CHARS), mesh))
    held = bytes_of_a_device(carry), bytes_of_a_device(mesh_carry)

    rng, losses = np.random.default_rng(0), []  # one seed: all processes draw the same batches
    for _ in (bar := tqdm(range(steps), unit="step", disable=not is_first)):
        starts = rng.integers(len(train) - context, size=[batch, 1])
        text = train[starts + np.arange(context + 1)]
        *carry, loss = step(*carry, jax.device_put(text, mesh.local_devices[0]))
        # Of a global array, a process gives the rows of its own devices.
        place = NamedSharding(mesh, rows)
        text = jax.make_array_from_callback(text.shape, place, lambda part, text=text: text[part])
        with jax.set_mesh(mesh):
            *mesh_carry, mesh_loss = mesh_step(*mesh_carry, text)
        losses.append((float(loss), float(mesh_loss)))
        bar.set_postfix(one=f"{loss:.4f}", mesh=f"{losses[-1][1]:.4f}", refresh=False)

    losses = np.array(losses)
    gap, part = float(abs(losses[:, 0] - losses[:, 1]).max()), held[1] / held[0]
    if is_first:
        draw(losses, picture)
        show(losses, held)
        print(f"the losses differ by {gap:.1e} at most, picture saved to {picture}")
    return gap, part


def launch(processes: int) -> int:
    """Starts this program in several processes; returns an exit code."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    command = [sys.executable, *sys.argv, "--address", address, "--index"]
    running = [subprocess.Popen([*command, str(index)]) for index in range(processes)]
    try:
        while any(process.poll() is None for process in running):
            if any(process.poll() for process in running):  # one failed: the others wait for it
                return 1
            time.sleep(0.1)
        return max(process.returncode for process in running)
    finally:
        for process in running:
            process.kill()
            process.wait()


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=1, help="in all")
    parser.add_argument(
        "--address", help="of process 0, HOST:PORT; without it all are started here"
    )
    parser.add_argument("--index", type=int, help="of this process, from 0")
    parser.add_argument("--picture", default="sharded_lm.png")
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    found = parser.parse_args(arguments)
    if (found.address is None) != (found.index is None):
        parser.error("--address and --index go together: a host's own line has both.")
    if found.address is None and found.processes not in (1, 2, 4, 8):
        parser.error("--processes must be 1, 2, 4 or 8, which share eight devices.")
    return found


if __name__ == "__main__":
    options = vars(read_arguments())
    processes, address, index = (options.pop(name) for name in ("processes", "address", "index"))
    if processes > 1 and address is None:
        sys.exit(launch(processes))
    start(processes, address, index)
    main(**options)

"""Programs that orbax saves and restores, for test_orbax.py; some run in a process of their own.

python tests/orbax_programs.py shardings FOLDER      needs 8 devices
python tests/orbax_programs.py kill API FOLDER MARK  a save that is cut off by SIGKILL
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as v0
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from orbax.checkpoint import v1

import jscope as js

STEPS = 7
KILLED_AT = 4


def save_v0(path: Path, tree: Any) -> None:
    with v0.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)


def load_v0(path: Path, like: Any) -> Any:
    with v0.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, like)


# How a tree is saved, and restored into shapes.
APIS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "v0": (save_v0, load_v0),
    "v1": (v1.save, v1.load),
}


class ManagerV0:
    """A sequence of checkpoints by orbax's CheckpointManager, saved in the background."""

    def __init__(self, folder: Path) -> None:
        self.manager = v0.CheckpointManager(folder)

    def save(self, step: int, tree: Any) -> None:
        self.manager.save(step, args=v0.args.StandardSave(tree))

    def latest(self, like: Any) -> tuple[int, Any] | None:
        step = self.manager.latest_step()
        if step is None:
            return None
        return step, self.manager.restore(step, args=v0.args.StandardRestore(like))

    def close(self) -> None:
        self.manager.close()  # waits for what is being saved


class ManagerV1:
    """The same by the Checkpointer of its newer API."""

    def __init__(self, folder: Path) -> None:
        # By default it leaves out a step while another one is being saved.
        every = v1.training.save_decision_policies.FixedIntervalPolicy(1)
        self.manager = v1.training.Checkpointer(folder, save_decision_policy=every)

    def save(self, step: int, tree: Any) -> None:
        self.manager.save_async(step, tree)

    def latest(self, like: Any) -> tuple[int, Any] | None:
        found = self.manager.latest
        return None if found is None else (found.step, self.manager.load(found, like))

    def close(self) -> None:
        self.manager.close()


MANAGERS: dict[str, Callable[[Path], ManagerV0 | ManagerV1]] = {"v0": ManagerV0, "v1": ManagerV1}


def model(x: jax.Array) -> jax.Array:
    x = js.layers.batch_normalization(js.layers.dense(x, 16, name="a"), training=True, name="norm")
    x = js.layers.dropout(jax.nn.relu(x), 0.5, training=True)
    return js.layers.dense(x, 8, name="b")


NET = js.transform_with_state(model)
OPTIMIZER = optax.adam(1e-2)
X = np.sin(np.arange(64, dtype=np.float32)).reshape(4, 16)


def start() -> dict[str, Any]:
    """All that a step reads and writes; every dtype that training has, a typed key included."""
    params, state = NET.init(0, X)
    opt_state = OPTIMIZER.init(params)
    rng = jax.random.key(1)
    return {"params": params, "state": state, "opt_state": opt_state, "rng": rng}


def shapes(sharding: Callable[[tuple[int, ...]], Any]) -> dict[str, Any]:
    """What ``start`` gives, as specs tell it, each to be laid out as its shape asks for."""
    specs = NET.specs(X)
    opt_state = jax.eval_shape(OPTIMIZER.init, specs.params())
    rng = jax.eval_shape(lambda: jax.random.key(0))
    like = {"params": specs.params(), "state": specs.state(), "opt_state": opt_state, "rng": rng}
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding(x.shape)), like
    )


def on_one_device(shape: tuple[int, ...]) -> Any:
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])


@jax.jit
def train_step(now: dict[str, Any]) -> tuple[dict[str, Any], jax.Array]:
    rng, key = jax.random.split(now["rng"])

    def loss_of(params: Any) -> Any:
        out, state = NET.apply(params, now["state"], key, X)
        return jnp.square(out - X[:, :8]).mean(), state

    (loss, state), gradients = jax.value_and_grad(loss_of, has_aux=True)(now["params"])
    updates, opt_state = OPTIMIZER.update(gradients, now["opt_state"])
    params = optax.apply_updates(now["params"], updates)
    return {"params": params, "state": state, "opt_state": opt_state, "rng": rng}, loss


def train(api: str, folder: Path) -> Iterator[tuple[int, float]]:
    """Goes on from the last checkpoint in a folder; the number and the loss of each step."""
    manager = MANAGERS[api](folder)
    first, now = manager.latest(shapes(on_one_device)) or (0, start())
    for step in range(first + 1, STEPS + 1):
        now, loss = train_step(now)
        manager.save(step, now)
        yield step, float(loss)
    manager.close()


# What has to be there, in the folder of a step that is being saved, when the process is killed.
MOMENTS = {
    "as saving begins": "",
    "with data": "/d",
    "before the folder is renamed": "commit_success.txt",
    "when all is done": "done",
}


def wait_for(folder: Path, mark: str) -> None:
    """Returns when a mark is seen; or when it can no more be, for the step has been saved."""
    done, end = folder / str(KILLED_AT), time.monotonic() + 60
    while mark and not done.exists():
        assert time.monotonic() < end, f"step {KILLED_AT} is never saved"
        found = [
            f"{at}/{name}" for at, *names in os.walk(folder) for name in itertools.chain(*names)
        ]
        if any(f"/{KILLED_AT}.orbax" in path and path.endswith(mark) for path in found):
            return
        time.sleep(0.0005)


def kill(api: str, folder: Path, mark: str) -> None:
    """Trains until a save has come that far, and ends as if the machine had failed."""
    for step, _ in train(api, folder):
        if step == KILLED_AT:
            wait_for(folder, mark)
            os.kill(os.getpid(), signal.SIGKILL)


def equal(found: Any, wanted: Any) -> bool:
    """Whether two trees have the same nodes and the same bits."""

    def bits(leaf: Any) -> np.ndarray:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    same = jax.tree.map(lambda a, b: bool(np.array_equal(bits(a), bits(b))), found, wanted)
    return all(jax.tree.leaves(same))


def shardings(folder: Path) -> dict[str, Any]:
    """Saves from one layout, restores in others; what came of it."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    def split(*axes: Any) -> Callable[[tuple[int, ...]], Any]:
        return lambda shape: NamedSharding(mesh, P(*axes) if len(shape) == 2 else P())

    layouts = {
        "one device": on_one_device,
        "replicated": split(),
        "rows": split("data"),
        "both": split("model", "data"),
        "columns over all": split(None, ("data", "model")),
    }
    tree, ends = start(), dict[str, Any]()
    for api, (save, load) in APIS.items():
        for saved in ("one device", "rows"):
            like = shapes(layouts[saved])
            path = folder / api / saved
            save(path, jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), tree, like))
            for wanted, layout in layouts.items():
                like = shapes(layout)
                found = load(path, like)
                laid_out = jax.tree.map(
                    lambda x, s: x.sharding.is_equivalent_to(s.sharding, x.ndim), found, like
                )
                kernel = found["params"]["a"]["kernel"]
                ends[f"{api}: {saved} to {wanted}"] = {
                    "equal": equal(found, tree),
                    "laid out": all(jax.tree.leaves(laid_out)),
                    "shard": kernel.addressable_shards[0].data.shape,
                }
            # Laid out and cast at once.
            like = shapes(layouts["both"])
            like["params"] = jax.tree.map(
                lambda s: jax.ShapeDtypeStruct(s.shape, jnp.bfloat16, sharding=s.sharding),
                like["params"],
            )
            found = load(path, like)
            half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree["params"])
            kernel = found["params"]["a"]["kernel"]
            ends[f"{api}: {saved} to bfloat16"] = {
                "equal": equal(found, {**tree, "params": half}),
                "laid out": kernel.sharding == layouts["both"]((1, 1)),
                "shard": kernel.addressable_shards[0].data.shape,
            }
    return ends


if __name__ == "__main__":
    if sys.argv[1] == "shardings":
        print(json.dumps(shardings(Path(sys.argv[2]))))
    else:
        kill(sys.argv[2], Path(sys.argv[3]), sys.argv[4])

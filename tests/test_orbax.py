"""Trees of jscope in orbax, by its older and its newer API: saved, restored, cast, laid out."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import orbax.checkpoint as v0
import pytest
from orbax_programs import (
    APIS,
    KILLED_AT,
    MANAGERS,
    MOMENTS,
    STEPS,
    equal,
    on_one_device,
    shapes,
    start,
    train,
    train_step,
)

import jscope as js
from jscope import errors

SCRIPT = Path(__file__).parent / "orbax_programs.py"


@pytest.fixture(autouse=True)
def _as_users_have_it() -> Iterator[None]:
    """Optax multiplies arrays of other ranks and dtypes."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def program(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(SCRIPT.parent.parent)
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), *args],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": root, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def trained() -> dict[str, Any]:
    """Where training is after a step: no value is the initial one."""
    return train_step(start())[0]


@pytest.mark.parametrize("api", APIS)
def test_all_of_training_is_restored_into_what_specs_tell(api: str, tmp_path: Path) -> None:
    save, load = APIS[api]
    now = trained()
    save(tmp_path / "a", now)
    found = load(tmp_path / "a", shapes(on_one_device))
    assert equal(found, now)
    assert jax.tree.structure(found) == jax.tree.structure(now)
    assert type(found["params"]) is type(found["state"]) is js.Params
    assert type(found["opt_state"][0].mu) is js.Params
    assert found["rng"].dtype == now["rng"].dtype  # a typed key, as it was
    again, loss = train_step(found)
    other, wanted = train_step(now)
    assert loss == wanted
    assert equal(again, other)


def test_the_newer_api_reads_what_the_older_wrote(tmp_path: Path) -> None:
    now = trained()
    APIS["v0"][0](tmp_path / "a", now)
    assert equal(APIS["v1"][1](tmp_path / "a", shapes(on_one_device)), now)


@pytest.mark.parametrize("api", APIS)
def test_keys_are_restored_in_both_of_their_forms(api: str, tmp_path: Path) -> None:
    save, load = APIS[api]
    for number, key in enumerate(
        [
            jax.random.key(3),
            jax.random.key_data(jax.random.key(3)),
            jax.random.key(3, impl="rbg"),
            jax.random.split(jax.random.key(4)),
        ]
    ):
        save(tmp_path / str(number), {"rng": key})
        like = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=on_one_device(key.shape))
        found = load(tmp_path / str(number), {"rng": like})["rng"]
        assert found.dtype == key.dtype
        assert equal(found, key)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_params_are_cast_to_the_dtype_that_is_asked_for(
    dtype: str, api: str, tmp_path: Path
) -> None:
    save, load = APIS[api]
    now = trained()["params"]
    save(tmp_path / "a", now)
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, dtype, sharding=on_one_device(x.shape)), now
    )
    found = load(tmp_path / "a", like)
    js.check(found, like)
    assert equal(found, jax.tree.map(lambda x: x.astype(dtype), now))


@functools.cache
def laid_out(folder: str) -> Any:
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    done = program("shardings", folder, XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout)


def test_trees_are_restored_in_any_layout_from_any_other(tmp_path: Path) -> None:
    ends = laid_out(str(tmp_path))
    assert len(ends) == 2 * 2 * 6
    assert {name: end for name, end in ends.items() if not (end["equal"] and end["laid out"])} == {}
    for api in APIS:
        shards = {
            name: tuple(ends[f"{api}: rows to {name}"]["shard"])
            for name in ("one device", "rows", "both", "columns over all", "bfloat16")
        }
        assert shards == {  # of a kernel of shape (16, 16), on a mesh of 4 x 2
            "one device": (16, 16),
            "rows": (4, 16),
            "both": (8, 4),
            "columns over all": (16, 2),
            "bfloat16": (8, 4),
        }


@functools.cache
def whole_run(folder: str) -> dict[int, float]:
    return dict(train("v0", Path(folder)))


def test_a_training_that_is_killed_while_saving_goes_on_with_the_same_losses(
    tmp_path: Path,
) -> None:
    losses = whole_run(str(tmp_path / "whole"))
    assert len(set(losses.values())) == STEPS
    runs = {
        (api, mark): tmp_path / api / moment for api in APIS for moment, mark in MOMENTS.items()
    }
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda run: program("kill", run[0], str(runs[run]), run[1]), runs))
    unfinished = set()
    for (api, mark), folder in runs.items():
        left = sorted(path.name for path in folder.iterdir())
        last = max(int(name) for name in left if name.isdigit())
        assert last in (KILLED_AT - 1, KILLED_AT), (api, mark)
        if any(name.startswith(f"{KILLED_AT}.") for name in left):
            unfinished.add(api)
        resumed = dict(train(api, folder))
        assert list(resumed) == list(range(last + 1, STEPS + 1)), (api, mark)
        assert resumed == {step: losses[step] for step in resumed}, (api, mark)
    assert [end.returncode for end in ends] == [-signal.SIGKILL] * len(runs)
    assert unfinished == set(APIS)  # saves were in the middle indeed


# A net without state has an empty tree of it.
EMPTY: dict[str, Any] = {
    "state": {"params": js.Params({"w": jnp.ones(2)}), "state": js.Params({})},
    "state as a dict": {"params": js.Params({"w": jnp.ones(2)}), "state": {}},
    "a scope": js.Params({"a": {"w": jnp.ones(2)}, "b": {}}),
    "state of a stateless optimizer": {"w": jnp.ones(2), "opt_state": ((), ())},
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_tree_beside_others_is_restored(name: str, api: str, tmp_path: Path) -> None:
    save, load = APIS[api]
    save(tmp_path / "a", EMPTY[name])
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_one_device(x.shape)),
        EMPTY[name],
    )
    found = load(tmp_path / "a", like)
    assert jax.tree.structure(found) == jax.tree.structure(EMPTY[name])
    chex.assert_trees_all_equal(found, EMPTY[name])


def test_an_empty_tree_beside_others_is_restored_by_managers_too(tmp_path: Path) -> None:
    tree = EMPTY["state"]
    for api, manager_of in MANAGERS.items():
        manager = manager_of(tmp_path / api)
        manager.save(1, tree)
        manager.close()
        manager = manager_of(tmp_path / api)
        step, found = manager.latest(jax.tree.map(lambda x: x, tree)) or (0, None)
        manager.close()
        assert step == 1
        chex.assert_trees_all_equal(found, tree)


def leaves_coroutines(test: Any) -> Any:
    """A test of what orbax refuses: it never awaits some then, which Python tells at any time."""

    @functools.wraps(test)
    def collected(**kwargs: Any) -> None:
        test(**kwargs)
        gc.collect()

    for warning in (
        "ignore:coroutine .* was never awaited:RuntimeWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",
    ):
        collected = pytest.mark.filterwarnings(warning)(collected)
    return collected


@leaves_coroutines
@pytest.mark.parametrize("api", APIS)
def test_an_empty_tree_alone_is_refused_by_orbax(api: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Found empty item"):
        APIS[api][0](tmp_path / "a", js.Params({}))


# What orbax does with a checkpoint of 12 layers where 16 are wanted.


def layers(number: int) -> js.Params:
    return js.Params({f"layer_{i}": {"w": jnp.full([2], i, jnp.float32)} for i in range(number)})


def stack(number: int) -> js.Params:
    return js.Params({"blocks": {"w": jnp.ones([number, 2])}})


def abstract(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_one_device(x.shape)), tree
    )


@leaves_coroutines
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("tree_of", [layers, stack])
def test_orbax_refuses_other_layers_where_it_is_given_shapes(
    tree_of: Any, api: str, tmp_path: Path
) -> None:
    save, load = APIS[api]
    save(tmp_path / "a", tree_of(12))
    for number in (8, 16):
        with pytest.raises(ValueError, match=r"structure|Structure|Requested shape"):
            load(tmp_path / "a", abstract(tree_of(number)))


def test_check_sees_a_stack_of_other_layers_that_orbax_restores_in_silence(tmp_path: Path) -> None:
    APIS["v0"][0](tmp_path / "a", stack(12))
    with (
        v0.PyTreeCheckpointer() as checkpointer,
        pytest.warns(UserWarning, match="Sharding info not provided") as warned,
    ):
        found = checkpointer.restore(tmp_path / "a", item=abstract(stack(16)))
    assert len(warned) == 1
    assert found["blocks"]["w"].shape == (12, 2)  # and not a word of it
    with pytest.raises(errors.CheckError) as caught:
        js.check(found, stack(16))
    assert caught.value.mismatched == {"blocks/w": ("float32[16,2]", "float32[12,2]")}


def test_check_sees_layers_that_a_partial_restore_leaves_out_in_silence(tmp_path: Path) -> None:
    APIS["v0"][0](tmp_path / "a", layers(12))
    wanted = abstract(layers(16))
    arguments = v0.checkpoint_utils.construct_restore_args(wanted)
    restore = v0.args.PyTreeRestore(wanted, restore_args=arguments, partial_restore=True)
    with v0.PyTreeCheckpointer() as checkpointer:
        found = checkpointer.restore(tmp_path / "a", args=restore)
    kinds = {name: type(leaf) for name, leaf in js.tree.flatten(found).items()}
    left = [name for name, kind in kinds.items() if not issubclass(kind, jax.Array)]
    assert left == [f"layer_{number}/w" for number in range(12, 16)]  # shapes, and not a word
    values = js.tree.select(found, lambda name, leaf: isinstance(leaf, jax.Array))
    with pytest.raises(errors.CheckError) as caught:
        js.check(values, wanted)
    assert caught.value.missing == tuple(left)

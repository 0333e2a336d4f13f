"""restore into any pytree: what save writes comes back, by the names that save gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jscope as js
from jscope import errors


def net() -> None:
    js.get_variable("net/dense/kernel", [3, 2])
    js.get_variable("net/dense/bias", [2], initializer=js.initializers.random_normal())
    js.get_variable("net/mean", [2], trainable=False, initializer=js.initializers.random_normal())


PARAMS, STATE = js.transform_with_state(net).init(0)
ADAM = optax.adam(1e-3)
OPT = jax.tree.map(lambda x: x + jnp.ones([], x.dtype), ADAM.init(PARAMS))

HAIKU = {f"mlp/~/linear_{i}": {"w": jnp.full([2, 2], float(i)), "b": jnp.ones(2)} for i in range(2)}


class Pair(NamedTuple):
    fast: Any
    slow: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Train:
    step: Any
    params: Any
    best: Any = None


TREES: dict[str, Any] = {
    "params": PARAMS,
    "state": STATE,
    "adam": OPT,
    "a dict of all": {"params": PARAMS, "state": STATE, "opt": OPT, "step": 7},
    "params and a state of an optimizer": (PARAMS, OPT),
    "three": (PARAMS, STATE, OPT),
    "a list": [jnp.ones(2), PARAMS],
    "numbers of Python": {"n": 2**40, "x": 0.1, "ok": True, "w": jnp.ones(2)},
    "None": {"params": PARAMS, "ema": None, "opt": (None, OPT)},
    "a named tuple of two": Pair(PARAMS, PARAMS),
    "a dataclass": Train(jnp.int32(3), PARAMS),
    "keys out of order": {"b": {"z": 1, "a": jnp.ones(1)}, "a": [jnp.zeros(2)], "opt": OPT},
    "schedules and masks": optax.chain(
        optax.clip(1.0), optax.masked(optax.sgd(0.1, momentum=0.9), jax.tree.map(jnp.ndim, PARAMS))
    ).init(PARAMS),
    "keys with slashes": HAIKU,
    "keys with slashes in a tree": {"params": HAIKU, "opt": ADAM.init(HAIKU), "step": 7},
    "a pair with keys with slashes": (HAIKU, HAIKU),
    "keys with slashes beside params": {"theirs": HAIKU, "ours": PARAMS},
    "of NumPy": ({"w": np.arange(3.0)}, [np.arange(4)]),
}


def abstract(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.eval_shape(lambda: leaf) if isinstance(leaf, jax.Array) else leaf, tree
    )


def zeros(tree: Any) -> Any:
    def zero(leaf: Any) -> Any:
        return jnp.zeros_like(leaf) if isinstance(leaf, jax.Array) else np.zeros_like(leaf)

    return jax.tree.map(lambda leaf: zero(leaf) if hasattr(leaf, "shape") else type(leaf)(0), tree)


@pytest.mark.parametrize("of", [abstract, zeros])
@pytest.mark.parametrize("name", TREES)
def test_what_is_saved_comes_back(name: str, of: Callable[[Any], Any], tmp_path: Path) -> None:
    tree, path = TREES[name], tmp_path / "tree.safetensors"
    js.io.save(path, tree)
    result, report = js.restore(of(tree), js.io.open(path))
    assert jax.tree.structure(result) == jax.tree.structure(tree)
    assert list(map(type, jax.tree.leaves(result))) == list(map(type, jax.tree.leaves(tree)))
    chex.assert_trees_all_equal(result, tree)
    assert set(report.restored) == set(js.io.open(path))


def test_the_shapes_of_a_whole_training_state_are_enough(tmp_path: Path) -> None:
    def start() -> Any:
        params, state = js.transform_with_state(net).init(0)
        return {"params": params, "state": state, "opt": ADAM.init(params)}

    made = start()
    js.io.save(tmp_path / "a.safetensors", made)
    result, _ = js.restore(jax.eval_shape(start), js.io.open(tmp_path / "a.safetensors"))
    chex.assert_trees_all_equal(result, made)
    assert isinstance(result["params"], js.Params)


def test_a_part_of_a_saved_tree_is_restored_through_a_map(tmp_path: Path) -> None:
    js.io.save(tmp_path / "a.safetensors", {"params": PARAMS, "opt": OPT})
    checkpoint = js.io.open(tmp_path / "a.safetensors")
    params, _ = js.restore(PARAMS, checkpoint, {"params/": "/"})
    chex.assert_trees_all_equal(params, PARAMS)
    opt, report = js.restore(ADAM.init(PARAMS), checkpoint, {"opt/": "/"})
    chex.assert_trees_all_equal(opt, OPT)
    assert report.restored["0/mu/net/dense/kernel"] == "opt/0/mu/net/dense/kernel"


def test_a_pair_of_params_and_state_has_the_names_of_its_variables() -> None:
    result, report = js.restore((PARAMS, STATE), js.tree.merge(PARAMS, STATE))
    chex.assert_trees_all_equal(result, (PARAMS, STATE))
    assert "net/mean" in report.restored


def test_leaves_of_a_pytree_are_transformed_and_cast_by_name() -> None:
    source = {"0/a": np.ones([2, 3]), "1/w": np.full([1, 2], 3, np.float32)}
    target = [{"a": jnp.zeros([3, 2])}, {"layer_0": {"w": jnp.zeros(2)}}]
    result, _ = js.restore(
        target, source, cast=True, transforms={"0/a": np.transpose, "1": "unstack"}
    )
    chex.assert_trees_all_equal(
        result, [{"a": jnp.ones([3, 2])}, {"layer_0": {"w": jnp.full(2, 3.0)}}]
    )


@pytest.mark.parametrize(
    ("number", "found", "wanted"),
    [
        (0, np.int32(7), 7),
        (0, np.uint8(7), 7),
        (0, 7, 7),
        (0.0, np.float32(0.5), 0.5),
        (0.0, jnp.bfloat16(0.5), 0.5),
        (False, np.True_, True),
        (0j, np.complex64(1j), 1j),
    ],
)
def test_a_number_is_of_any_size(number: Any, found: Any, wanted: Any) -> None:
    result, _ = js.restore({"n": number}, {"n": found})
    assert result == {"n": wanted}
    assert type(result["n"]) is type(number)
    assert type(result) is dict


@pytest.mark.parametrize(
    ("number", "found", "text"),
    [
        (0, np.float32(7), "n is float32[], should be int64[]"),
        (0, np.zeros(1, np.int32), "n is int32[1], should be int64[]"),
        (True, np.int8(1), "n is int8[], should be bool[]"),
        (0.0, np.int8(1), "n is int8[], should be float64[]"),
    ],
)
def test_a_number_is_of_its_kind(number: Any, found: Any, text: str) -> None:
    with pytest.raises(errors.CheckError) as raised:
        js.restore({"n": number}, {"n": found})
    assert str(raised.value).splitlines()[1] == f"  mismatched: {text}"


def test_keys_with_slashes_are_parts_of_names() -> None:
    source = {"net/linear_0/w": np.ones([2, 2], np.float32)}
    result, report = js.restore(HAIKU, source, {"net/": "mlp/~/"}, cast=True, strict=False)
    assert type(result) is dict
    assert result.keys() == HAIKU.keys()
    assert result["mlp/~/linear_0"]["w"].tolist() == [[1, 1], [1, 1]]
    assert result["mlp/~/linear_1"]["w"] is HAIKU["mlp/~/linear_1"]["w"]
    assert report.restored == {"mlp/~/linear_0/w": "net/linear_0/w"}


def test_without_strict_the_trees_own_leaves_are_kept() -> None:
    own = {"a": [jnp.ones(2), None, 5], "b": (np.ones(3), PARAMS)}
    result, report = js.restore(own, {"a/0": np.zeros(2, np.float32), "b/0": 1.0}, strict=False)
    assert jax.tree.structure(result) == jax.tree.structure(own)
    assert result["a"][0].tolist() == [0, 0]
    assert result["a"][2] == 5
    assert result["b"][0] is own["b"][0]
    assert report.missing == ("a/2", "b/1/net/dense/bias", "b/1/net/dense/kernel")
    assert report.mismatched == {"b/0": ("float64[3]", "float32[]")}


EMPTY = jax.ShapeDtypeStruct((2,), np.float32)
LEFT_OUT = (
    "  fix:        strict=False keeps the target's own arrays, and these are shapes, which only "
    "nested mappings of arrays can do without: give arrays."
)
WRONG: dict[str, tuple[Any, Mapping[str, Any], dict[str, Any], type[Exception], str]] = {
    "an abstract leaf is missing": (
        {"a": [EMPTY, jnp.ones(2), EMPTY], "n": 1},
        {"a/0": np.ones(2, np.float32), "b/2": np.ones(2, np.float32)},
        {"strict": False},
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 mismatched.\n"
        f"  missing:    a/2 (near 'b/2')\n{LEFT_OUT}",
    ),
    "an abstract leaf does not fit": (
        [EMPTY, np.ones(3)],
        {"0": np.ones(3, np.float32), "1": np.ones(3)},
        {"strict": False},
        errors.CheckError,
        "The source does not fit the target: 0 missing, 1 mismatched.\n"
        f"  mismatched: 0 is float32[3], should be float32[2]\n{LEFT_OUT}",
    ),
    "a function's shape for an abstract leaf": (
        [EMPTY, np.ones(3)],
        {"0": np.ones(2, np.float32), "1": np.ones(3)},
        {"strict": False, "transforms": {"0": np.sum}},
        errors.CheckError,
        "The source does not fit the target: 0 missing, 1 mismatched.\n"
        f"  mismatched: 0 is float32[] by transforms['0'], should be float32[2]\n{LEFT_OUT}",
    ),
    "missing and unused": (
        (PARAMS, [EMPTY]),
        {"0/net/dense/kernel": np.ones([3, 2], np.float32), "opt/0": np.ones(2, np.float32)},
        {},
        errors.CheckError,
        "The source does not fit the target: 2 missing, 1 unused, 0 mismatched.\n"
        "  missing:    0/net/dense/bias (of its shape and dtype: 'opt/0')\n"
        "  missing:    1/0 (near 'opt/0')\n"
        "  unused:     opt/0 (near '1/0')\n"
        "  fix:        map names, {'old/': 'new/'}; or keep the target's own values of what is "
        "missing by strict=False.",
    ),
    "two leaves of a name": (
        {"a/b": EMPTY, "a": {"b": EMPTY}, "n": 1},
        {},
        {},
        errors.NameClashError,
        "Two variables would have the name a/b.\n  fix:    rename or leave out one of the two.",
    ),
    "a leaf that is no array": (
        [EMPTY, "x"],
        {},
        {},
        errors.TreeTypeError,
        "The target's '1' is no array: it is 'x' of type str.\n"
        "  fix:    give arrays of JAX or NumPy, jax.ShapeDtypeStruct, or numbers.",
    ),
    "a number that no array holds": (
        {"n": 2**70},
        {},
        {},
        errors.TreeTypeError,
        "The target's 'n' is no array: it is 1180591620717411303424 of type int.\n"
        "  fix:    give arrays of JAX or NumPy, jax.ShapeDtypeStruct, or numbers.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_whole(name: str) -> None:
    target, source, kwargs, kind, text = WRONG[name]
    with pytest.raises(kind) as raised:
        js.restore(target, source, **kwargs)
    assert str(raised.value) == text
    assert type(raised.value) is kind

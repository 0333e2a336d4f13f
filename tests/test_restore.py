"""restore: assignment maps, transforms, casts; what is wrong is told whole; reads are lazy."""

from __future__ import annotations

import functools
import json
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from cases import PROGRAMS, X, block
from child import output_of
from hypothesis import given, settings
from hypothesis import strategies as st

import jscope as js
from jscope import errors
from jscope.io._checkpoint import Checkpoint, Tensor
from jscope.io._convert import new_names
from jscope.io._file import File

SCRIPT = Path(__file__).parent / "restore_on_devices.py"


def empty(*shape: int, dtype: Any = np.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def full(value: float, *shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.full(shape, value, dtype)


def lazy(arrays: Mapping[str, np.ndarray], **kwargs: Any) -> tuple[Checkpoint, list[str]]:
    """A checkpoint of arrays, and the names that are read of it."""
    read: list[str] = []

    def tensor(name: str, array: np.ndarray) -> Tensor:
        def reading() -> np.ndarray:
            read.append(name)
            return array

        return Tensor(array.shape, array.dtype, reading)

    tensors = {name: tensor(name, array) for name, array in arrays.items()}
    return Checkpoint("model.ckpt", "TF V2", tensors, **kwargs), read


def numbers(tree: Any) -> dict[str, float]:
    """A tree of equal elements: name -> what they are."""
    return {name: float(np.asarray(x).reshape(-1)[0]) for name, x in js.tree.flatten(tree).items()}


# The checkpoint of the rows of TF1's: each tensor is told by its values.
ROWS = {
    "old1/v1": full(1, 2),
    "old1/deep/w": full(2, 2),
    "old1/extra": full(3, 2),
    "old1x/v1": full(4, 2),
    "old1x/w": full(6, 2),
    "rootv": full(5, 2),
}


MAPS: dict[str, tuple[list[str], Any, dict[str, float]]] = {
    "scopes, and what is nested in them": (
        ["new/v1", "new/deep/w"],
        {"old1/": "new/"},
        {"new/v1": 1, "new/deep/w": 2},
    ),
    "names": (["n/a", "b"], {"old1/v1": "n/a", "rootv": "b"}, {"n/a": 1, "b": 5}),
    "the root to a scope": (["new/rootv"], {"/": "new/"}, {"new/rootv": 5}),
    "a scope to the root": (["v1", "deep/w"], {"old1/": "/"}, {"v1": 1, "deep/w": 2}),
    "the root to the root": (["rootv", "old1/v1"], {"/": "/"}, {"rootv": 5, "old1/v1": 1}),
    "a list of pairs, and one source for several": (
        ["a", "b"],
        [("rootv", "a"), ("rootv", "b")],
        {"a": 5, "b": 5},
    ),
    "pairs as lists": (["a"], [["rootv", "a"]], {"a": 5}),
    "scopes are whole components": (
        ["new/v1", "newer/v1"],
        {"old1/": "new/", "old1x/": "newer/"},
        {"new/v1": 1, "newer/v1": 4},
    ),
    "scopes of the same source": (
        ["a/v1", "b/v1"],
        [("old1/", "a/"), ("old1/", "b/")],
        {"a/v1": 1, "b/v1": 1},
    ),
    "nothing of nothing": ([], {}, {}),
    "no map": (sorted(ROWS), None, dict(zip(sorted(ROWS), [2, 3, 1, 4, 6, 5], strict=True))),
    "the rest": (["new/v1", "rootv"], {"old1/": "new/", "/": "/"}, {"new/v1": 1, "rootv": 5}),
    "an empty rest": (["new/v1"], {"old1/": "new/", "/": "/"}, {"new/v1": 1}),
    "a name over a scope": (
        ["new/v1", "new/deep/w"],
        {"rootv": "new/v1", "old1/": "new/"},
        {"new/v1": 5, "new/deep/w": 2},
    ),
    "a name over a regex": (["v1"], {re.compile("^old1/"): "", "rootv": "v1"}, {"v1": 5}),
    "a deeper target scope over one above": (
        ["n/deep/w", "n/v1"],
        {"old1/": "n/", "old1/deep/": "n/deep/"},
        {"n/deep/w": 2, "n/v1": 1},
    ),
    "a deeper target scope of another source": (
        ["n/v1", "n/deep/w"],
        {"old1/": "n/", "old1x/": "n/deep/"},
        {"n/v1": 1, "n/deep/w": 6},
    ),
    "a regex over the root": (
        ["rootv", "old1/v1"],
        {re.compile("^old1x/"): "old1/", "/": "/"},
        {"rootv": 5, "old1/v1": 4},
    ),
    "groups": (["v1_1"], {re.compile(r"^old(\d)/(v1)$"): r"\2_\1"}, {"v1_1": 1}),
    "a function": (["V1"], {re.compile(r"^old1/(v1)$"): lambda m: m[1].upper()}, {"V1": 1}),
    "the empty replacement": (["v1"], {re.compile("^old1/"): ""}, {"v1": 1}),
    "a tuple of targets": (["a", "b"], {"rootv": ("a", "b")}, {"a": 5, "b": 5}),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_goes_from_the_source_to_the_target(name: str) -> None:
    target, assignment_map, wanted = MAPS[name]
    tree = js.tree.unflatten({each: empty(2) for each in target})
    for source in (ROWS, lazy(ROWS)[0], js.tree.unflatten(ROWS)):
        result, report = js.restore(tree, source, assignment_map)
        assert isinstance(result, js.Params)
        assert list(js.tree.flatten(result)) == target
        assert numbers(result) == wanted
        by_value = {float(array[0]): each for each, array in ROWS.items()}
        assert report.restored == {each: by_value[value] for each, value in wanted.items()}
        assert set(report.unused) == set(ROWS) - set(report.restored.values())
        assert not report.missing
        assert not report.mismatched


COMPONENTS = st.sampled_from(["a", "b", "ab", "layer_0", "w"])
TREES = st.recursive(
    st.dictionaries(COMPONENTS, st.integers(0, 9).map(float), min_size=1, max_size=3),
    lambda inner: st.dictionaries(COMPONENTS, inner, min_size=1, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(TREES, st.data())
def test_a_map_of_a_scope_renames_as_the_tree_does(tree: dict[str, Any], data: Any) -> None:
    flat = js.tree.flatten(tree)
    scopes = sorted({name.rpartition("/")[0] for name in flat if "/" in name})
    scope = data.draw(st.sampled_from(scopes)) if scopes else ""
    part = js.tree.select(tree, scope)
    renamed = js.tree.rename(part, {scope: "new/x"})
    target = jax.tree.map(lambda leaf: empty(), renamed)
    result, _ = js.restore(target, tree, {f"{scope}/": "new/x/"}, cast=True)
    chex.assert_trees_all_equal(result, jax.tree.map(jnp.float32, renamed))
    regex = re.compile(f"^{re.escape(scope)}/" if scope else "^")
    assert js.restore(target, tree, {regex: "new/x/"})[0] == result


@pytest.mark.parametrize("program", PROGRAMS)
def test_restoring_a_tree_from_itself_gives_it_again(program: str) -> None:
    net = js.transform(PROGRAMS[program](block))
    params = net.init(0, X)
    chex.assert_trees_all_equal(js.restore(params, params)[0], params)
    again, state = js.restore(net.specs(X), params)[0]
    chex.assert_trees_all_equal(again, params)
    assert state == {}


def test_specs_stand_for_the_pair_of_params_and_state() -> None:
    def net() -> None:
        js.get_variable("a/w", [2])
        js.get_variable("a/mean", [2], trainable=False)

    specs = js.transform_with_state(net).specs()
    source = {"a/w": full(1, 2), "a/mean": full(2, 2)}
    (params, state), report = js.restore(specs, source)
    assert numbers(params) == {"a/w": 1}
    assert numbers(state) == {"a/mean": 2}
    assert report.restored == {"a/w": "a/w", "a/mean": "a/mean"}
    pair, _ = js.restore((specs.params(), specs.state()), source)
    assert type(pair) is tuple
    chex.assert_trees_all_equal(pair, (params, state))
    with pytest.raises(errors.CheckError, match=r"0 missing, 1 unused"):
        js.restore(specs.params(), source)


def test_the_result_has_the_order_and_the_empty_scopes_of_the_target() -> None:
    target = {"b": {"w": empty(2)}, "nothing": {}, "a": empty(2)}
    result, _ = js.restore(target, {"a": full(1, 2), "b/w": full(2, 2)})
    assert list(result) == ["b", "nothing", "a"]
    assert result["nothing"] == {}


LAYERS = {
    f"net/layer_{i}": {"dense": {"w": np.arange(i, i + 3.0, dtype=np.float32)}, "b": full(i, 1)}
    for i in range(12)
}


def test_stacked_layers_are_those_of_the_tree() -> None:
    tree = js.Params({"net": {name[4:]: layer for name, layer in LAYERS.items()}})
    stacked = js.tree.stack_layers(tree)
    result, report = js.restore(stacked, tree, transforms={"net": "stack"})
    chex.assert_trees_all_equal(result, stacked)
    assert report.restored["net/b"] == "net/layer_0/b, ..., net/layer_11/b"
    assert report.arrays["net/dense/w"] == "float32[12,3] by stack"
    again, report = js.restore(tree, stacked, transforms={"net/layer_*/": "unstack"})
    chex.assert_trees_all_equal(again, jax.tree.map(jnp.asarray, tree))
    assert report.restored["net/layer_3/b"] == "net/b[3]"


@pytest.mark.parametrize(
    "renamed",
    [
        ("old/layer_{}/w", {"old/": "net/"}),
        ("net/block{}/w", {re.compile(r"block(\d+)"): r"layer_\1"}),
        ("{}/w", {re.compile(r"^(\d+)/"): r"net/layer_\1/"}),
        ("x{}", [(f"x{i}", f"net/layer_{i}/w") for i in range(3)]),
        ("x{}/w", [(f"x{i}/", f"net/layer_{i}/") for i in range(3)]),
        ("x{}", {f"x{i}": (f"net/layer_{i}/w",) for i in range(3)}),
        ("layer_{}/net/w", None),
        ("net/layer_{}/w", None),
    ],
)
def test_layers_stack_under_the_names_that_a_map_gives_them(renamed: tuple[str, Any]) -> None:
    name, assignment_map = renamed
    source = {name.format(i): full(i, 2) for i in range(3)}
    target = {"net": {"w": empty(3, 2)}}
    result, _ = js.restore(target, source, assignment_map, transforms={"net/w": "stack"})
    assert np.asarray(result["net"]["w"]).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_a_stack_is_taken_apart_under_the_names_that_a_map_gives_it() -> None:
    target = {"net": {f"layer_{i}": {"w": empty(2)} for i in range(3)}}
    source = {"old/w": np.arange(6, dtype=np.float32).reshape(3, 2), "old/x": full(1)}
    result, _ = js.restore(target, source, {"old/": "net/"}, transforms={"": "unstack"})
    assert numbers(result) == {"net/layer_0/w": 0, "net/layer_1/w": 2, "net/layer_2/w": 4}


def test_functions_get_arrays_and_are_called_once() -> None:
    calls: list[Any] = []

    def both(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        calls.append((type(x), type(y)))
        return np.concatenate([x, y])

    def halves(x: np.ndarray) -> list[np.ndarray]:
        calls.append(type(x))
        return np.split(x, 2)

    source = {"a": full(1, 2), "b": full(2, 2), "qk": np.arange(4, dtype=np.float32)}
    source["t"] = np.arange(6, dtype=np.float32).reshape(3, 2)
    target = {"ab": empty(4), "q": empty(2), "k": empty(2), "s": {"t": empty(2, 3)}}
    result, report = js.restore(
        target,
        {name: jnp.asarray(x) for name, x in source.items()},
        {("a", "b"): "ab", "qk": ("q", "k"), "t": "s/t"},
        transforms={"ab": both, "qk": halves, "**/t": np.transpose},
    )
    assert np.asarray(result["ab"]).tolist() == [1, 1, 2, 2]
    assert np.asarray(result["q"]).tolist() == [0, 1]
    assert np.asarray(result["k"]).tolist() == [2, 3]
    assert np.asarray(result["s"]["t"]).tolist() == source["t"].T.tolist()
    assert calls == [(np.ndarray, np.ndarray), np.ndarray]
    assert report.restored == {"ab": "a, b", "q": "qk", "k": "qk", "s/t": "t"}
    assert report.arrays == {
        "ab": "float32[4] by both",
        "q": "float32[2] by halves",
        "k": "float32[2] by halves",
        "s/t": "float32[2,3] by transpose",
    }


def test_a_part_of_an_array_can_be_transformed_and_stacked() -> None:
    source = {f"layer_{i}/qk": np.arange(4, dtype=np.float32) + i for i in range(2)}
    parts = {f"layer_{i}/qk": (f"layer_{i}/q", f"layer_{i}/k") for i in range(2)}
    split: dict[Any, Any] = dict.fromkeys(source, lambda x: np.split(x, 2))
    target = {"q": empty(2, 2), "k": empty(2, 2)}
    result, _ = js.restore(target, source, parts, transforms=split | {"": "stack"})
    assert np.asarray(result["k"]).tolist() == [[2, 3], [3, 4]]
    flipped, _ = js.restore(
        {"layer_0": {"q": empty(2), "k": empty(2)}},
        source,
        {"layer_0/qk": ("layer_0/q", "layer_0/k")},
        transforms={"layer_0/qk": split["layer_0/qk"], "**/q": np.flip},
    )
    assert np.asarray(flipped["layer_0"]["q"]).tolist() == [1, 0]


def test_a_function_is_of_one_layers_array_where_layers_are_stacked_or_taken_apart() -> None:
    calls: list[tuple[int, ...]] = []

    def turned(x: np.ndarray) -> np.ndarray:
        calls.append(x.shape)
        return x.T

    def layer(i: int) -> dict[str, np.ndarray]:
        kernel = np.arange(6, dtype=np.float32).reshape(3, 2) + i
        return {"dense/kernel": kernel, "dense/bias": full(i, 2)}

    plain = {f"net/layer_{i}/{n}": x for i in range(3) for n, x in layer(i).items()}
    plain["head/kernel"] = np.arange(8, dtype=np.float32).reshape(2, 4)
    turn = {n: x.T if n.endswith("kernel") else x for n, x in plain.items()}
    stacked = js.tree.stack_layers(js.tree.unflatten(turn))
    checkpoint, read = lazy(plain)
    transforms = {"**/kernel": turned, "net": "stack"}
    result, report = js.restore(stacked, checkpoint, transforms=transforms)
    chex.assert_trees_all_equal(result, jax.tree.map(jnp.asarray, stacked))
    assert sorted(calls) == [(2, 4), (3, 2), (3, 2), (3, 2)]
    assert sorted(read) == sorted(plain)
    assert report.arrays["net/dense/kernel"] == "float32[3,2,3] by turned, stack"
    assert report.arrays["net/dense/bias"] == "float32[3,2] by stack"
    assert report.arrays["head/kernel"] == "float32[4,2] by turned"
    calls.clear()
    words = {"net": "unstack", "**/kernel": turned}
    again, report = js.restore(js.tree.unflatten(plain), result, transforms=words)
    chex.assert_trees_all_equal(
        again, jax.tree.map(jnp.asarray, js.Params(js.tree.unflatten(plain)))
    )
    assert sorted(calls) == [(2, 3), (2, 3), (2, 3), (4, 2)]
    assert report.arrays["net/layer_1/dense/kernel"] == "float32[3,2] by unstack, turned"


def test_a_part_of_an_array_is_transformed_before_it_is_stacked() -> None:
    parts = {f"layer_{i}/qk": (f"layer_{i}/q", f"layer_{i}/k") for i in range(2)}
    source = {f"layer_{i}/qk": np.arange(4, dtype=np.float32) + i for i in range(2)}
    split: dict[Any, Any] = dict.fromkeys(source, lambda x: np.split(x, 2))
    result, report = js.restore(
        {"q": empty(2, 2), "k": empty(2, 2)},
        source,
        parts,
        transforms=split | {"": "stack", "k": np.flip},
    )
    assert np.asarray(result["q"]).tolist() == [[0, 1], [1, 2]]
    assert np.asarray(result["k"]).tolist() == [[3, 2], [4, 3]]
    assert report.arrays["k"] == "float32[2,2] by a function, flip, stack"


@pytest.mark.parametrize("by", ["a function", "a function of parts"])
def test_an_exception_of_a_function_says_for_what_it_was_called(by: str) -> None:
    def fails(x: np.ndarray) -> np.ndarray:
        raise RuntimeError("no")

    key, assignment_map = ("w", None) if by == "a function" else ("v", {"v": ("w",)})
    source = {"w" if assignment_map is None else "v": full(1)}
    with pytest.raises(RuntimeError, match="no") as raised:
        js.restore({"w": empty()}, source, assignment_map, transforms={key: fails})
    note = "in transforms['w'], for w" if assignment_map is None else "in transforms['v']"
    assert raised.value.__notes__ == [note]


CAST = (
    "fix:        cast goes between floats, and to wider integers or complex numbers; all else is "
    "for a function, transforms={{'{}': lambda x: x.astype('{}')}}."
)

# From, to, whether a cast takes it.
CASTS = [
    *[(a, b, True) for a in ("f2", "f4", "f8", ml_dtypes.bfloat16) for b in ("f2", "f4")],
    ("f4", ml_dtypes.bfloat16, True),
    ("f4", ml_dtypes.float8_e4m3fn, True),
    (ml_dtypes.float8_e5m2, "f4", True),
    ("f4", ml_dtypes.float4_e2m1fn, False),
    ("i4", "i8", True),
    ("u1", "i2", True),
    (ml_dtypes.int4, "i1", True),
    ("i8", "i4", False),
    ("i4", "u4", False),
    ("i4", "f4", False),
    ("f4", "i4", False),
    ("?", "i4", False),
    ("i4", "?", False),
    ("c8", "c16", True),
    ("c16", "c8", False),
    ("f4", "c8", False),
    ("c8", "f4", False),
]


@pytest.mark.parametrize(("found", "wanted", "able"), CASTS)
def test_a_cast_keeps_what_values_mean(found: Any, wanted: Any, able: bool) -> None:
    found, wanted = np.dtype(found), np.dtype(wanted)
    source = {"w": np.array([1, 0, 1], found)}
    target = {"w": np.zeros(3, wanted)}  # of NumPy, which has all of them
    if found == wanted:
        assert js.restore(target, source)[0]["w"].dtype == wanted
        return
    hint = r" \(cast=True takes it\)" if able else ""
    fix = re.escape(f"\n  {CAST.format('w', wanted)}")
    text = rf"mismatched: w is {found}\[3\], should be {wanted}\[3\]{hint or fix}$"
    with pytest.raises(errors.CheckError, match=text):
        js.restore(target, source)
    if able:
        result, report = js.restore(target, source, cast=True)
        assert result["w"].dtype == wanted
        assert result["w"].tolist() == [1, 0, 1]
        assert report.arrays == {"w": f"{wanted}[3] from {found}"}
    else:
        with pytest.raises(errors.CheckError, match=text):
            js.restore(target, source, cast=True)


@pytest.mark.parametrize(
    ("value", "wanted", "kept"),
    [
        (65504, "f2", True),
        (65520, "f2", False),
        (-7e4, "f2", False),
        (np.inf, "f2", True),
        (np.nan, "f2", True),
        (1e-30, "f2", True),
        (3.4e38, ml_dtypes.bfloat16, False),
        (3e38, ml_dtypes.bfloat16, True),
        (449, ml_dtypes.float8_e4m3fn, True),
        (500, ml_dtypes.float8_e4m3fn, False),
        (np.inf, ml_dtypes.float8_e4m3fn, False),
        (np.inf, ml_dtypes.float8_e5m2, True),
        (-1, ml_dtypes.float8_e8m0fnu, False),
        (1e39, "f4", False),
    ],
)
@pytest.mark.parametrize("how", [None, "stack", "unstack", np.negative])
def test_no_finite_value_becomes_infinite(value: float, wanted: Any, kept: bool, how: Any) -> None:
    wanted, dtype = np.dtype(wanted), np.float64 if value == 1e39 else np.float32
    array = np.array([1, value, 2], dtype)
    source: dict[str, Any] = {"w": array}
    target: dict[str, Any] = {"w": np.zeros(3, wanted)}
    if how == "stack":
        source, target = {"layer_0": {"w": array}}, {"w": np.zeros([1, 3], wanted)}
    if how == "unstack":
        source, target = {"w": array[None]}, {"layer_0": target}
    if how is np.negative:
        source = {"w": -array}
    transforms = None if how is None else {"": how}
    if kept:
        (found,) = jax.tree.leaves(js.restore(target, source, transforms=transforms, cast=True)[0])
        with np.errstate(all="ignore"):
            assert np.array_equal(
                found.reshape(-1).astype("f8"), array.astype(wanted).astype("f8"), equal_nan=True
            )
        return
    with pytest.raises(
        errors.CheckError, match=rf"with values beyond {wanted}( \(from .*\))?, should"
    ):
        js.restore(target, source, transforms=transforms, cast=True)
    source["other"] = target["other"] = np.ones(1, np.float32)
    transforms = None if how is None else {"other": np.positive, "": how}
    if isinstance(how, str):
        transforms = {"w" if how == "stack" else "layer_0": how}
    result, report = js.restore(target, source, transforms=transforms, cast=True, strict=False)
    chex.assert_trees_all_equal(result, js.Params(target))
    assert list(report.mismatched) == [x for x in js.tree.flatten(target) if x != "other"]


def test_the_order_of_bytes_is_no_part_of_a_dtype() -> None:
    source = {"w": np.arange(3, dtype=">f4")}
    result, _ = js.restore({"w": empty(3)}, source)
    assert result["w"].tolist() == [0, 1, 2]
    other, _ = js.restore({"w": np.zeros(3, ">f4")}, {"w": np.arange(3, dtype="<f4")})
    assert other["w"].dtype == np.dtype(">f4")
    assert other["w"].tolist() == [0, 1, 2]


def test_results_are_of_the_targets_kind() -> None:
    source = {name: full(1, 2) for name in "abcd"} | {"e": 1.0}
    target = {
        "a": empty(2),
        "b": np.zeros(2, np.float32),
        "c": jnp.zeros(2),
        "d": jax.device_put(jnp.zeros(2), jax.devices()[0]),
        "e": jax.lax.full((), 2.0),
    }
    assert target["e"].weak_type
    result, _ = js.restore(target, source)
    assert {name: type(x) for name, x in result.items() if name == "b"} == {"b": np.ndarray}
    assert result["b"].flags.writeable
    assert not np.shares_memory(result["b"], source["b"])
    assert [result[name].committed for name in "acd"] == [False, False, True]
    assert not result["e"].weak_type


def test_typed_keys_are_restored_as_such() -> None:
    keys = jax.random.split(jax.random.key(1), 2)
    target = {"rng": jax.eval_shape(lambda: keys), "one": jax.random.key(0)}
    source = {"rng": keys, "one": keys[1]}
    result, _ = js.restore(target, source)
    assert result["rng"].dtype == keys.dtype
    assert jnp.array_equal(jax.random.key_data(result["rng"]), jax.random.key_data(keys))
    layers = {"layer_0": {"k": keys[0]}, "layer_1": {"k": keys[1]}}
    stacked, _ = js.restore({"k": keys}, layers, transforms={"k": "stack"})
    assert jnp.array_equal(jax.random.key_data(stacked["k"]), jax.random.key_data(keys))
    apart, _ = js.restore(layers, stacked, transforms={"": "unstack"})
    chex.assert_trees_all_equal(
        *(jax.tree.map(jax.random.key_data, x) for x in (apart, js.Params(layers)))
    )
    data = {"one": np.asarray(jax.random.key_data(keys[1]))}
    with pytest.raises(errors.CheckError, match=r"one is uint32\[2\], should be key<fry>\[\]$"):
        js.restore({"one": keys[0]}, data, cast=True)
    made, _ = js.restore({"one": keys[0]}, data, transforms={"one": jax.random.wrap_key_data})
    assert made["one"].dtype == keys.dtype


def test_results_hold_no_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "data"
    values = np.arange(1024, dtype=np.float32).reshape(4, 256)
    path.write_bytes(values.tobytes())
    file = File(str(path))
    tensor = Tensor(
        (4, 256), np.dtype(np.float32), lambda: file.array(0, np.dtype(np.float32), (4, 256), "w")
    )
    target = {"w": empty(4, 256), "t": empty(256, 4), "n": np.zeros([4, 256], np.float32)}
    target |= {"part": {f"layer_{i}": {"w": empty(256)} for i in range(4)}}
    target |= {"c": jax.device_put(jnp.zeros([4, 256]), jax.devices()[0])}
    result, _ = js.restore(
        target,
        Checkpoint(str(path), "npy", {"w": tensor}),
        {"w": ("w", "t", "n", "part/w", "c")},
        transforms={"t": np.transpose, "part": "unstack"},
    )
    double = jax.jit(lambda x: x * 2, donate_argnums=0)
    donated = [
        double(jnp.copy(result["w"])),
        double(
            js.restore({"w": empty(4, 256)}, Checkpoint(str(path), "npy", {"w": tensor}))[0]["w"]
        ),
    ]
    path.write_bytes(bytes(values.nbytes))
    assert file.array(0, np.dtype(np.float32), (4,), "w").tolist() == [0, 0, 0, 0]
    assert all(np.array_equal(x, 2 * values) for x in donated)
    assert np.array_equal(result["w"], values)
    assert np.array_equal(result["n"], values)
    assert np.array_equal(result["c"], values)
    assert np.array_equal(result["t"], values.T)
    assert np.array_equal(jnp.stack([result["part"][f"layer_{i}"]["w"] for i in range(4)]), values)


def test_only_what_is_needed_is_read() -> None:
    arrays = {"a/w": full(1, 2), "a/w/Adam": full(9, 2), "b": full(2, 3), "c": full(3, 2)}
    checkpoint, read = lazy(arrays)
    result, _ = js.restore({"a": {"w": empty(2)}, "c": empty(2)}, checkpoint, {"/": "/"})
    assert numbers(result) == {"a/w": 1, "c": 3}
    assert read == ["a/w", "c"]
    for target in ({"a": {"w": empty(2)}}, {"b": empty(2)}, {"d": empty(2)}):
        with pytest.raises(errors.CheckError, match="does not fit"):
            js.restore(target, checkpoint, transforms={"": np.negative} if "a" in target else None)
    assert read == ["a/w", "c"]


def test_an_error_of_a_file_is_told_as_it_is() -> None:
    def damaged() -> np.ndarray:
        raise errors.FileError("model: the checksum is wrong.", path="model", offset=7)

    checkpoint = Checkpoint("model", "TF V2", {"w": Tensor((2,), np.dtype("f4"), damaged)})
    with pytest.raises(errors.FileError, match="the checksum is wrong"):
        js.restore({"w": empty(2)}, checkpoint)


def test_without_strict_the_targets_own_arrays_are_kept() -> None:
    own = jnp.ones(2)
    target = {"a": {"w": own, "v": empty(2)}, "b": {"x": empty(2)}, "c": full(7, 2), "d": empty(2)}
    source = {"d": full(1, 2), "c": full(3, 4), "a/wx": full(2, 2)}
    result, report = js.restore(target, source, strict=False)
    assert result["a"]["w"] is own
    assert result["c"] is target["c"]
    assert numbers(result) == {"a/w": 1, "c": 7, "d": 1}
    assert set(result) == {"a", "c", "d"}
    assert report == js.RestoreReport(
        restored={"d": "d"},
        missing=("a/w", "a/v", "b/x"),
        unused=("a/wx",),
        mismatched={"c": ("float32[2]", "float32[4]")},
        arrays={"d": "float32[2]"},
        others={
            "a/w": "kept yours: nothing in the source",
            "a/v": "left out: nothing in the source",
            "b/x": "left out: nothing in the source",
            "c": "kept yours: the source has float32[4], not float32[2]",
        },
    )
    assert repr(report) == (
        "RestoreReport: 1 restored, 3 missing, 1 unused, 1 mismatched.\n"
        "  target  source\n"
        "  a/w     -       kept yours: nothing in the source\n"
        "  a/v     -       left out: nothing in the source\n"
        "  b/x     -       left out: nothing in the source\n"
        "  c       -       kept yours: the source has float32[4], not float32[2]\n"
        "  d       d       float32[2]\n"
        "  -       a/wx    unused"
    )
    assert pickle.loads(pickle.dumps(report)) == report


def test_a_report_says_what_became_of_the_targets_own() -> None:
    target = {"head": {"w": full(0, 8, 3)}, "h": full(0, 2), "s": full(0, 3, 2), "t": empty(2)}
    source = {"old/w": full(1, 8, 10), "h": full(1, 2, dtype=np.float16), "t": full(1, 2)}
    source |= {**layers(2), "b": full(1)}
    renamed = {"old/": "head/", "h": "h", "b": "b", re.compile("^(layer_.*)/w"): r"\1/s"}
    _, report = js.restore(
        target | {"b": full(0)}, source, renamed, transforms={"s": "stack"}, strict=False
    )
    assert str(report) == (
        "RestoreReport: 1 restored, 2 missing, 3 unused, 2 mismatched.\n"
        "  target  source\n"
        "  s       -          kept yours: layer_2 of 3 is not there\n"
        "  t       -          left out: the source has it, and the map does not take it\n"
        "  head/w  -          kept yours: the source has float32[8,10] (from old/w), not "
        "float32[8,3]\n"
        "  h       -          kept yours: the source has float16[2], not float32[2] "
        "(cast=True takes it)\n"
        "  b       b          float32[]\n"
        "  -       t          unused\n"
        "  -       layer_0/w  unused\n"
        "  -       layer_1/w  unused"
    )


def test_a_report_says_what_would_have_given_a_stack() -> None:
    target = {"n": {"w": full(0, 2, 2)}, "b": empty()}
    source = {f"n/{name}": layer for name, layer in layers(2).items()} | {"b": full(1)}
    _, report = js.restore(target, source, strict=False)
    assert report.others == {
        "n/w": "kept yours: its layers are there (add {'n': 'stack'} to transforms)"
    }


def test_a_report_is_folded_and_cuts_no_name() -> None:
    names = [
        f"bert/encoder/layer_{i}/attention/self/query/kernel_of_a_long_name" for i in range(99)
    ]
    reason = "float32[3,4] by transforms['**/kernel'] (from model/of/a/long/name), not float32[4,3]"
    wanted, _, found = reason.partition(", not ")
    report = js.RestoreReport(
        {n: f"model/{n}" for n in names}, tuple(names), tuple(names), {"w": (found, wanted)}
    )
    lines = str(report).splitlines()
    assert lines[0] == "RestoreReport: 99 restored, 99 missing, 99 unused, 1 mismatched."
    assert len(lines) == 2 + 3 * 21 + 1
    starts = [lines[1].index("source"), len(lines[1]), lines[2].index("missing")]
    for line in lines[2:]:
        assert line[starts[0] - 2 : starts[0]] == "  "
        assert line[starts[0]] != " "
        assert line[starts[2] - 2 : starts[2]].strip() == ""
        assert line[starts[2] : starts[2] + 1] != " "
    rows = [[cell.strip() for cell in re.split(" {2,}", line.strip())] for line in lines[2:]]
    assert rows[0] == [names[0], "-", "missing"]
    assert rows[20] == ["... (99 in all)", "...", "missing"]
    assert rows[21] == ["w", "-", reason]
    assert rows[22] == [names[0], f"model/{names[0]}"]
    assert rows[42] == ["... (99 in all)", "...", "restored"]
    assert rows[43] == ["-", names[0], "unused"]
    assert str(js.RestoreReport({})) == (
        "RestoreReport: 0 restored, 0 missing, 0 unused, 0 mismatched."
    )


TARGET = {"new": {"w": empty(2), "deep": {"v": empty(2)}}, "b": empty(3)}
SOURCE = {"old/w": full(1, 2), "old/deep/v": full(2, 2), "b": full(3, 3), "w/Adam": full(4, 1)}


def restoring(*args: Any, source: Any = SOURCE, target: Any = TARGET, **kwargs: Any) -> Any:
    return lambda: js.restore(target, source, *args, **kwargs)


def layers(count: int) -> dict[str, np.ndarray]:
    return {f"layer_{i}/w": full(i, 2) for i in range(count)}


NET = js.transform(lambda: js.get_variable("w", [2]))
TO_MAP = "fix:        map names, {'old/': 'new/'}; or keep the target's own values of what is missing by strict=False."
NOT_ALL = "fix:        strict=False keeps the target's own values of a part, and here nothing is restored."


def to_transform(words: dict[str, str]) -> str:
    return (
        f"fix:        add {words} to transforms; or keep the target's own values of what is "
        "missing by strict=False."
    )


NARROW = (
    'fix:        narrow the pattern of "stack" in transforms to the scope of the stack; or keep '
    "the target's own values of what is missing by strict=False."
)
CORRECT = "  fix:    correct the name; for a pattern write re.compile(...)."
FORMS = (
    "  fix:    {'old/': 'new/'} for scopes ('/' is the root), {'a/w': 'b/w'} for names, "
    "{('a', 'b'): 'c'} or {'a': ('b', 'c')} for several names, {re.compile(...): '...'}."
)

WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no map": (
        restoring(),
        errors.CheckError,
        "The source does not fit the target: 2 missing, 3 unused, 0 mismatched.\n"
        "  missing:    new/w (near 'old/w')\n"
        "  missing:    new/deep/v (near 'old/deep/v')\n"
        "  unused:     old/w (near 'new/w')\n"
        "  unused:     old/deep/v (near 'new/deep/v')\n"
        f"  unused:     w/Adam\n  {TO_MAP}",
    ),
    "all but the unused": (
        restoring(target={"b": empty(3)}, source={"b": full(3, 3), "b/Adam": full(1, 3)}),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 1 unused, 0 mismatched.\n"
        "  unused:     b/Adam\n"
        "  fix:        with the map {'/': '/'} what is not used may be left over.",
    ),
    "shapes and dtypes": (
        restoring(
            target={"a": empty(2), "b": empty(3), "c": empty(2, dtype=np.int32)},
            source={"a": full(1, 4), "b": full(1, 3, dtype=np.float16), "c": full(1, 2)},
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 3 mismatched.\n"
        "  mismatched: a is float32[4], should be float32[2]\n"
        "  mismatched: b is float16[3], should be float32[3] (cast=True takes it)\n"
        "  mismatched: c is float32[2], should be int32[2]\n"
        f"  {CAST.format('c', 'int32')}",
    ),
    "nothing for what is not strict": (
        restoring(
            target={"a": full(0, 2), "b": empty(3), "c": empty(1)},
            source={"a": full(1, 2, dtype=np.float16), "b": full(1, 4)},
            strict=False,
        ),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 unused, 2 mismatched.\n"
        "  missing:    c\n"
        "  mismatched: a is float16[2], should be float32[2] (cast=True takes it)\n"
        "  mismatched: b is float32[4], should be float32[3]\n"
        "  fix:        map names, {'old/': 'new/'}.\n"
        f"  {NOT_ALL}",
    ),
    "only a function's shapes for what is not strict": (
        restoring(
            {"/": "/"},
            target={"w": full(0, 2, 3)},
            source={"w": full(1, 2, 3)},
            transforms={"w": np.transpose},
            strict=False,
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 1 mismatched.\n"
        "  mismatched: w is float32[3,2] by transforms['w'], should be float32[2,3]\n"
        f"  {NOT_ALL}",
    ),
    "axes in reverse": (
        restoring(
            target={
                "n": {
                    "a": {"kernel": empty(2, 3)},
                    "b": {"kernel": empty(5, 3)},
                    "c": {"kernel": empty(2, 2)},
                },
                "some": {"v": empty(2, 3)},
                "other": {"v": empty(3, 2)},
                "s": empty(2, 3, 4),
                "x": empty(4),
            },
            source={
                "n/a/kernel": full(1, 3, 2),
                "n/b/kernel": full(1, 3, 5),
                "n/c/kernel": full(1, 2, 2),
                "some/v": full(1, 3, 2),
                "other/v": full(1, 3, 2),
                **{f"layer_{i}/s": full(1, 4, 3) for i in range(2)},
            },
            transforms={"s": "stack"},
        ),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 unused, 4 mismatched.\n"
        "  missing:    x\n"
        "  mismatched: n/a/kernel is float32[3,2], should be float32[2,3]\n"
        "  mismatched: n/b/kernel is float32[3,5], should be float32[5,3]\n"
        "  mismatched: some/v is float32[3,2], should be float32[2,3]\n"
        "  mismatched: s is layers of float32[4,3] (from layer_0/s, layer_1/s), should be "
        "float32[2,3,4]\n"
        "  fix:        map names, {'old/': 'new/'}; or keep the target's own values of what is "
        "missing or does not fit by strict=False.\n"
        "  fix:        turn the axes round, transforms={'**/kernel': numpy.transpose, "
        "'some/v': numpy.transpose, '**/s': numpy.transpose}.",
    ),
    "missing and mismatched": (
        restoring(target={"a": empty(2), "b": empty(4)}, source={"b": full(1, 3)}),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 unused, 1 mismatched.\n"
        "  missing:    a\n"
        "  mismatched: b is float32[3], should be float32[4]\n"
        "  fix:        map names, {'old/': 'new/'}; or keep the target's own values of what is "
        "missing or does not fit by strict=False.",
    ),
    "11.1: a name of the scope that the source lacks": (
        restoring({"old/": "new/"}, target={"new": {"w": empty(2), "zzz": empty(2)}}),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 mismatched.\n"
        "  missing:    new/zzz (of its shape and dtype: 'old/deep/v')\n"
        "  fix:        give each a source in the map; or keep the target's own values of what is "
        "missing by strict=False.",
    ),
    "11.13: a map of nothing": (
        restoring({}, target={"b": empty(3)}),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 mismatched.\n"
        "  missing:    b (the source has it, and the map does not take it)\n"
        "  fix:        add '/': '/' to the map; or keep the target's own values of what is "
        "missing by strict=False.",
    ),
    "a map that has the root": (
        restoring({"/": "/"}, target={"b": empty(3), "bb": empty(3), "c": empty(7)}),
        errors.CheckError,
        "The source does not fit the target: 2 missing, 0 mismatched.\n"
        "  missing:    bb\n"
        "  missing:    c\n"
        "  fix:        give each a source in the map; or keep the target's own values of what is "
        "missing by strict=False.",
    ),
    "near names that the map does not take": (
        restoring({"old/deep/": "new/deep/"}, target=TARGET | {"c": empty(3)}),
        errors.CheckError,
        "The source does not fit the target: 3 missing, 0 mismatched.\n"
        "  missing:    new/w (near 'old/w')\n"
        "  missing:    b (the source has it, and the map does not take it)\n"
        "  missing:    c (of its shape and dtype: 'b')\n"
        "  fix:        add '/': '/' to the map; or keep the target's own values of what is "
        "missing by strict=False.",
    ),
    "a name that the map takes elsewhere": (
        restoring({"b": "c"}, target={"b": empty(3), "c": empty(3)}),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 mismatched.\n"
        "  missing:    b\n"
        "  fix:        give each a source in the map; or keep the target's own values of what is "
        "missing by strict=False.",
    ),
    "dtypes of other kinds": (
        restoring(
            {"step": "global_step", "/": "/"},
            target={"global_step": empty(dtype=np.int32), "on": empty(2), "x": empty(2)},
            source={
                "step": full(1, dtype=np.int64),
                "on": full(1, 2, dtype=np.bool_),
                "x": full(1, 2, dtype=np.float64),
            },
            cast=True,
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 2 mismatched.\n"
        "  mismatched: global_step is int64[] (from step), should be int32[]\n"
        "  mismatched: on is bool[2], should be float32[2]\n"
        f"  {CAST.format('global_step', 'int32')}",
    ),
    "a name that has no array": (
        restoring(
            target={"table": empty(2)},
            source=lazy({}, notes={"table": "strings"})[0],
        ),
        errors.CheckError,
        "The checkpoint model.ckpt does not fit the target: 1 missing, 0 unused, 0 mismatched.\n"
        f"  missing:    table (it has no array: strings)\n  {TO_MAP}",
    ),
    "11.5: two sources": (
        restoring({"old/w": "new/w", "b": "new/w"}),
        errors.NameClashError,
        "The assignment map brings two sources to new/w.\n"
        "  first:  old/w\n"
        "  again:  b\n"
        "  fix:    narrow one of the entries; one by name wins over scopes and regular expressions.",
    ),
    "two scopes for one": (
        restoring(
            {"a/": "n/", "b/": "n/"},
            source={"a/w": full(1), "b/w": full(2)},
            target={"n": {"w": empty()}},
        ),
        errors.NameClashError,
        "The assignment map brings two sources to n/w.\n"
        "  first:  a/w\n"
        "  again:  b/w\n"
        "  fix:    narrow one of the entries; one by name wins over scopes and regular expressions.",
    ),
    "11.7: a target that is not there": (
        restoring({"old/w": "new/vv"}),
        errors.EmptySelectionError,
        "The target has no 'new/vv', which the map's 'old/w': 'new/vv' names.\n"
        f"  near:   'new/w', 'new/deep/v'\n{CORRECT}",
    ),
    "11.7: a scope without its slash": (
        restoring({"old": "new"}),
        errors.ArgumentError,
        "The entry 'old': 'new' has a name, and 'old' is a scope of the source.\n"
        "  fix:    write 'old/': 'new/' for all that is in a scope.",
    ),
    "11.7: a name of a tensor": (
        restoring({"old/w:0": "new/w"}),
        errors.ArgumentError,
        "The entry 'old/w:0': 'new/w' has the name of a tensor.\n"
        "  fix:    leave ':0' off: names are those of variables, 'old/w'.",
    ),
    "a name of a tensor of the target": (
        restoring({"old/w": "new/w:0"}),
        errors.ArgumentError,
        "The entry 'old/w': 'new/w:0' has the name of a tensor.\n"
        "  fix:    leave ':0' off: names are those of variables, 'new/w'.",
    ),
    "11.8: one slash": (
        restoring({"old/": "new"}),
        errors.ArgumentError,
        "The entry 'old/': 'new' has a scope of the source, and none of the target.\n"
        "  fix:    write 'old/': 'new/' for all that is in a scope; entries of names have no slash at the end.",
    ),
    "the other slash": (
        restoring({"old": "new/"}),
        errors.ArgumentError,
        "The entry 'old': 'new/' has a scope of the target, and none of the source.\n"
        "  fix:    write 'old/': 'new/' for all that is in a scope; entries of names have no slash at the end.",
    ),
    "11.9: a target scope that is not there": (
        restoring({"old/": "newer/"}),
        errors.EmptySelectionError,
        "The target has no scope 'newer', which the map's 'old/': 'newer/' names.\n"
        f"  near:   'new', 'new/deep'\n{CORRECT}",
    ),
    "a source scope that is not there": (
        restoring({"older/": "new/"}),
        errors.EmptySelectionError,
        "The source has no scope 'older', which the map's 'older/': 'new/' names.\n"
        f"  near:   'old', 'old/deep'\n{CORRECT}",
    ),
    "11.10: a shape": (
        restoring({"b": "new/w"}, target={"new": {"w": empty(2)}}),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 1 mismatched.\n"
        "  mismatched: new/w is float32[3] (from b), should be float32[2]",
    ),
    "11.11: a dtype": (
        restoring({"b": "b"}, target={"b": empty(3)}, source={"b": full(1, 3, dtype=np.float64)}),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 1 mismatched.\n"
        "  mismatched: b is float64[3], should be float32[3] (cast=True takes it)",
    ),
    "11.12: a tensor that is not there": (
        restoring({"nope": "b"}),
        errors.EmptySelectionError,
        f"The source has no 'nope', which the map's 'nope': 'b' names.\n{CORRECT}",
    ),
    "a variable as a scope": (
        restoring({"old/w/": "new/w/"}),
        errors.ArgumentError,
        "The entry 'old/w/': 'new/w/' has a scope, and 'old/w' is a name of the source.\n"
        "  fix:    leave the slashes at the ends off for an entry of names.",
    ),
    "scopes with nothing in common": (
        restoring({"old/deep/": "new/"}),
        errors.EmptySelectionError,
        "The map's 'old/deep/': 'new/' gives no name of the target.\n"
        "  source: 'old/deep/v'\n"
        "  gives:  'new/v'\n"
        "  near:   'new/w', 'new/deep/v'\n"
        "  fix:    what it gives has to be full names of the target.",
    ),
    "a regex that matches nothing": (
        restoring({re.compile("zzz"): "b"}),
        errors.EmptySelectionError,
        "The map's re.compile('zzz') matches no name of the source.\n"
        "  names:  'old/w', 'old/deep/v', 'b', ... (4 in all)\n"
        "  fix:    a regular expression is searched in the full name.",
    ),
    "a regex that matches nearly": (
        restoring(
            {re.compile(r"^old\.(?:deep|shallow)[.](\w+)\d*$"): "b"},
            source=SOURCE | {"olden/deepest/v": full(1), "x/y": full(1)},
        ),
        errors.EmptySelectionError,
        "The map's re.compile('^old\\\\.(?:deep|shallow)[.](\\\\w+)\\\\d*$') matches no name of the source.\n"
        "  near:   'old/deep/v', 'olden/deepest/v'\n"
        "  fix:    a regular expression is searched in the full name.",
    ),
    "layers for a stack": (
        restoring({"l": "n/layer_0/w"}, source={"l": full(1)}, target={"n": {"w": empty(1)}}),
        errors.EmptySelectionError,
        "The target has no 'n/layer_0/w', which the map's 'l': 'n/layer_0/w' names.\n"
        "  near:   'n/w'\n"
        "  fix:    'n' is a stack of layers: add {'n': 'stack'} to transforms.",
    ),
    "a scope of a layer for a stack": (
        restoring({"l/": "n/layer_0/"}, source={"l/w": full(1)}, target={"n": {"w": empty(1)}}),
        errors.EmptySelectionError,
        "The target has no scope 'n/layer_0', which the map's 'l/': 'n/layer_0/' names.\n"
        "  fix:    'n' is a stack of layers: add {'n': 'stack'} to transforms.",
    ),
    "scopes with layers for a stack": (
        restoring({"l/": "n/"}, source={"l/layer_0/w": full(1)}, target={"n": {"w": empty(1)}}),
        errors.EmptySelectionError,
        "The map's 'l/': 'n/' gives no name of the target.\n"
        "  source: 'l/layer_0/w'\n"
        "  gives:  'n/layer_0/w'\n"
        "  near:   'n/w'\n"
        "  fix:    'n' is a stack of layers: add {'n': 'stack'} to transforms.",
    ),
    "a regex that gives layers for a stack": (
        restoring(
            {re.compile(r"^h(\d+)/"): r"n/layer_\1/"},
            source={"h0/w": full(1), "h1/w": full(1)},
            target={"n": {"w": empty(2)}},
        ),
        errors.EmptySelectionError,
        "The map's re.compile('^h(\\\\d+)/'): 'n/layer_\\\\1/' gives no name of the target.\n"
        "  source: 'h0/w', 'h1/w'\n"
        "  gives:  'n/layer_0/w', 'n/layer_1/w'\n"
        "  near:   'n/w'\n"
        "  fix:    'n' is a stack of layers: add {'n': 'stack'} to transforms.",
    ),
    "a stack for layers": (
        restoring(
            {"l/": "n/"}, source={"l/w": full(1, 1)}, target={"n": {"layer_0": {"w": empty()}}}
        ),
        errors.EmptySelectionError,
        "The map's 'l/': 'n/' gives no name of the target.\n"
        "  source: 'l/w'\n"
        "  gives:  'n/w'\n"
        "  near:   'n/layer_0/w'\n"
        "  fix:    'n/w' is in layers there: add {'n/layer_*/': 'unstack'} to transforms.",
    ),
    "layers for a stack without a map": (
        restoring(
            target={"n": {"w": empty(2, 2), "v": empty(5)}},
            source={**{f"n/{name}": x for name, x in layers(2).items()}, "n/layer_0/v": full(1)},
        ),
        errors.CheckError,
        "The source does not fit the target: 2 missing, 1 unused, 0 mismatched.\n"
        "  missing:    n/w (its layers are there)\n"
        "  missing:    n/v (near 'n/layer_0/v')\n"
        "  unused:     n/layer_0/v (near 'n/v')\n"
        f"  {to_transform({'n': 'stack'})}",
    ),
    "layers for stacks of a scope that has more": (
        restoring(
            target={"n": {"w": empty(2, 2), "v": empty(2, 2), "b": empty(1)}, "w": empty(2, 2)},
            source={
                **{f"n/{name}": x for name, x in layers(2).items()},
                **{f"n/layer_{i}/v": full(i, 2) for i in range(2)},
                **layers(2),
                "n/b": full(1, 1),
            },
        ),
        errors.CheckError,
        "The source does not fit the target: 3 missing, 0 unused, 0 mismatched.\n"
        "  missing:    n/w (its layers are there)\n"
        "  missing:    n/v (its layers are there)\n"
        "  missing:    w (its layers are there)\n"
        f"  {to_transform({'n/w': 'stack', 'n/v': 'stack', 'w': 'stack'})}",
    ),
    "a stack for layers without a map": (
        restoring(
            target={"n": {"layer_0": {"w": empty(2), "v": empty()}, "v": empty()}},
            source={"n/w": full(1, 1, 2), "n/v": full(1)},
        ),
        errors.CheckError,
        "The source does not fit the target: 2 missing, 0 unused, 0 mismatched.\n"
        "  missing:    n/layer_0/w ('n/w' is there)\n"
        "  missing:    n/layer_0/v\n"
        f"  {to_transform({'n/layer_*/': 'unstack'})}",
    ),
    **{
        f"names with dots, {old} to {new}": (
            restoring({old: new}, target={"n": {"w": empty()}}, source={"t.h.w": full(1)}),
            errors.ArgumentError,
            f"The entry {old!r}: {new!r} has a scope of the source, whose names have dots, which "
            "are no scopes.\n"
            rf'  fix:    write {{re.compile(r"^{regex}\."): "{scope}"}}, or give '
            "jscope.interop.from_torch(source), which makes scopes of dots.",
        )
        for old, new, regex, scope in [
            ("t.h.", "n/", r"t\.h", "n/"),
            ("t.h/", "n/", r"t\.h", "n/"),
            ("t/h/", "n/", r"t\.h", "n/"),
            ("t/", "/", "t", ""),
            ("t", "n", "t", "n/"),
            ("t.", "n.", "t", "n/"),
        ]
    },
    **{
        f"the wrong way round, {old} to {new}": (
            restoring(
                {old: new},
                target={"q": {"in": {"kernel": empty()}}},
                source={"theirs/in/weights": full(1)},
            ),
            errors.ArgumentError,
            f"The entry {old!r}: {new!r} goes from the target to the source.\n"
            f"  fix:    the map runs from source to target: turn it round, {new!r}: {old!r}.",
        )
        for old, new in [
            ("q/in/kernel", "theirs/in/weights"),
            ("q/", "theirs/"),
            ("/", "theirs/"),
            ("q/in/", "/"),
        ]
    },
    "slots are near last": (
        restoring(
            {"/": "/"},
            target={"a": {"w": empty(2)}, "z": empty(3)},
            source={"w": full(1, 2), "w/w": full(1, 2), "a/v/w": full(1, 2), "a/v": full(1, 2)}
            | {"k/s": full(1, 3), "k": full(1, 3)},
        ),
        errors.CheckError,
        "The source does not fit the target: 2 missing, 0 mismatched.\n"
        "  missing:    a/w (near 'a/v', 'w', 'a/v/w')\n"
        "  missing:    z (of its shape and dtype: 'k', 'k/s')\n"
        "  fix:        give each a source in the map; or keep the target's own values of what is "
        "missing by strict=False.",
    ),
    "a name of the source with slots": (
        restoring({"ww": "b"}, source={"w/ww": full(1, 3), "w": full(1, 3)}),
        errors.EmptySelectionError,
        "The source has no 'ww', which the map's 'ww': 'b' names.\n"
        f"  near:   'w', 'w/ww'\n{CORRECT}",
    ),
    "a regular expression as text": (
        restoring({r"re:^old/(\w+)$": r"new/\1"}),
        errors.ArgumentError,
        r"The entry 're:^old/(\\w+)$': 'new/\\1' has a regular expression as text."
        "\n"
        r"  fix:    write {re.compile('^old/(\\w+)$'): 'new/\\1'}.",
    ),
    "all that restore returns as the source": (
        restoring(source=js.restore({"w": empty()}, {"w": full(1)})),
        errors.ArgumentError,
        "The source must be a Checkpoint, or a mapping of names to arrays, got (Params({'w': "
        "float32[]}), RestoreReport: 1 restored, 0 m... of type tuple.\n"
        "  fix:    restore returns two things: params, report = jscope.restore(...).",
    ),
    "all that restore returns as the target": (
        restoring(target=js.restore({"w": empty()}, {"w": full(1)})),
        errors.ArgumentError,
        "The target must be params, a pair (params, state), what net.specs(...) returned, or "
        "another tree of arrays, got (Params({'w': float32[]}), RestoreReport: 1 restored, 0 m... "
        "of type tuple.\n"
        "  fix:    restore returns two things: params, report = jscope.restore(...).",
    ),
    **{
        f"all that restore returns for {what}": (
            call,
            errors.TreeTypeError,
            f"{what} must be a nested mapping of names to arrays, got tuple.\n"
            "  fix:    restore returns two things: params, report = jscope.restore(...).",
        )
        for what, call in {
            "params": lambda: NET.apply(js.restore(NET.init(0), NET.init(0)), None),
            "state": lambda: js.transform_with_state(lambda: None).apply(
                {}, js.restore({"w": empty()}, {"w": full(1)}), None
            ),
        }.items()
    },
    "several entries that mean nothing": (
        restoring({"old/w": "new/ww", "old/deep/v": "new/deep/v", "bb": "b"}),
        errors.EmptySelectionError,
        "2 entries of the map mean nothing.\n"
        "The target has no 'new/ww', which the map's 'old/w': 'new/ww' names.\n"
        f"  near:   'new/w'\n{CORRECT}\n"
        f"The source has no 'bb', which the map's 'bb': 'b' names.\n  near:   'b'\n{CORRECT}",
    ),
    "names with dots without a map": (
        restoring(
            target={"head": {"bias": empty(), "kernel": empty(2)}},
            source={"head.bias": full(1), "head.weight": full(1, 3)},
        ),
        errors.CheckError,
        "The source does not fit the target: 2 missing, 2 unused, 0 mismatched.\n"
        "  missing:    head/bias (near 'head.bias')\n"
        "  missing:    head/kernel\n"
        "  unused:     head.bias (near 'head/bias')\n"
        "  unused:     head.weight\n"
        r'  fix:        map the dots of names, {re.compile(r"\."): "/"}, or give '
        "jscope.interop.from_torch(source), which makes scopes of dots; or keep the target's own "
        "values of what is missing by strict=False.",
    ),
    "a regex that gives nothing": (
        restoring({re.compile("^old/"): "n/"}),
        errors.EmptySelectionError,
        "The map's re.compile('^old/'): 'n/' gives no name of the target.\n"
        "  source: 'old/w', 'old/deep/v'\n"
        "  gives:  'n/w', 'n/deep/v'\n"
        "  near:   'new/w'\n"
        "  fix:    what it gives has to be full names of the target.",
    ),
    "a group that is not there": (
        restoring({re.compile("^old/"): r"\3"}),
        errors.ArgumentError,
        "The replacement of re.compile('^old/'): '\\\\3' cannot be made: invalid group reference 3 at position 1.\n"
        "  fix:    groups are written \\1 or \\g<name>, as in re.sub.",
    ),
    "several sources without a function": (
        restoring({("old/w", "b"): "new/w"}),
        errors.ArgumentError,
        "new/w comes from 2 sources, and no function makes one of them.\n"
        "  fix:    give one of as many arguments, transforms={'new/w': f}.",
    ),
    "several sources to stack": (
        restoring({("old/w", "b"): "layer_0/w"}, target={"w": empty(1)}, transforms={"w": "stack"}),
        errors.ArgumentError,
        "layer_0/w comes from 2 sources, and 'stack' takes one for each layer.\n"
        "  fix:    restore the layers with a function of several, without 'stack'; then call "
        "jscope.tree.stack_layers.",
    ),
    "several sources to stack by a function": (
        restoring(
            {("old/w", "b"): "layer_0/w"},
            target={"w": empty(1)},
            transforms={"w": "stack", "**/w": np.concatenate},
        ),
        errors.ArgumentError,
        "layer_0/w comes from 2 sources, and 'stack' takes one for each layer.\n"
        "  fix:    restore the layers with a function of several, without 'stack'; then call "
        "jscope.tree.stack_layers.",
    ),
    "several sources to unstack": (
        restoring(
            {("old/w", "b"): "w"}, target={"layer_0": {"w": empty(1)}}, transforms={"": "unstack"}
        ),
        errors.ArgumentError,
        "w comes from 2 sources, and 'unstack' takes one for all layers.\n"
        "  fix:    restore the stack with a function of several, without 'unstack'; then call "
        "jscope.tree.unstack_layers.",
    ),
    "a map of other things": (
        restoring({3: "w"}),
        errors.ArgumentError,
        f"3: 'w' is no entry of an assignment map.\n{FORMS}",
    ),
    "the empty name": (
        restoring({"": "new/"}),
        errors.ArgumentError,
        f"'': 'new/' is no entry of an assignment map.\n{FORMS}",
    ),
    "several of several": (
        restoring({("b", "old/w"): ("b", "new/w")}),
        errors.ArgumentError,
        f"('b', 'old/w'): ('b', 'new/w') is no entry of an assignment map.\n{FORMS}",
    ),
    "several of a scope": (
        restoring({"old/": ("new/w", "b")}),
        errors.ArgumentError,
        f"'old/': ('new/w', 'b') is no entry of an assignment map.\n{FORMS}",
    ),
    "a scope of several": (
        restoring({("old/w", "b"): "new/"}),
        errors.ArgumentError,
        f"('old/w', 'b'): 'new/' is no entry of an assignment map.\n{FORMS}",
    ),
    "an empty source": (
        restoring({"/": "new/"}, source={}, target={"new": {"w": empty(2)}}),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 mismatched.\n"
        "  missing:    new/w\n"
        "  fix:        give each a source in the map; or keep the target's own values of what is "
        "missing by strict=False.",
    ),
    "a regex of bytes": (
        restoring({re.compile(b"x"): "new/"}),
        errors.ArgumentError,
        f"re.compile(b'x'): 'new/' is no entry of an assignment map.\n{FORMS}",
    ),
    "a function for a name": (
        restoring({"b": len}),
        errors.ArgumentError,
        f"'b': <built-in function len> is no entry of an assignment map.\n{FORMS}",
    ),
    "no map but text": (
        restoring("old/"),
        errors.ArgumentError,
        "The assignment_map must be a mapping or a list of pairs, source to target, got 'old/' of type str.",
    ),
    "a triple": (
        restoring([("a", "b", "c")]),
        errors.ArgumentError,
        "The assignment_map must be a mapping or a list of pairs, source to target, got ('a', 'b', 'c') of type tuple.",
    ),
    "a path": (
        restoring(source="model.ckpt"),
        errors.ArgumentError,
        "The source must be a Checkpoint, or a mapping of names to arrays, got 'model.ckpt' of type str.\n"
        "  fix:    open the file, jscope.io.open('model.ckpt').",
    ),
    "specs as the source": (
        restoring(source=js.Specs()),
        errors.ArgumentError,
        "The source must be a Checkpoint, or a mapping of names to arrays, got Specs([]) of type Specs.\n"
        "  fix:    specs say what is wanted and hold no values: give them as the target.",
    ),
    "a pair as the source": (
        restoring(source=({}, {})),
        errors.ArgumentError,
        "The source must be a Checkpoint, or a mapping of names to arrays, got ({}, {}) of type tuple.\n"
        "  fix:    give one tree: of (params, state) jscope.tree.merge(params, state).",
    ),
    "a net as the source": (
        restoring(source=NET),
        errors.ArgumentError,
        "The source must be a Checkpoint, or a mapping of names to arrays, got a Transformed.\n"
        "  fix:    give values, such as net.init(...) returns.",
    ),
    "structs as the source": (
        restoring(source={"a": {"w": empty(2)}}),
        errors.TreeTypeError,
        "The source has no values for 'a/w': it is a jax.ShapeDtypeStruct.\n"
        "  fix:    give arrays of JAX or NumPy, or numbers; what is wanted comes first.",
    ),
    "text in the source": (
        restoring(source={"w": "x"}),
        errors.TreeTypeError,
        "The source has no values for 'w': it is 'x' of type str.\n"
        "  fix:    give arrays of JAX or NumPy, or numbers.",
    ),
    "strings in the source": (
        restoring(source={"w": np.array(["x"])}),
        errors.TreeTypeError,
        "The source has no values for 'w': it is <U1[1].\n"
        "  fix:    give arrays of JAX or NumPy, or numbers.",
    ),
    "a traced source": (
        lambda: jax.jit(lambda x: js.restore({"w": empty(2)}, {"w": x})[0])(full(1, 2)),
        errors.TreeTypeError,
        "The source has no values for 'w': it is traced.\n"
        "  fix:    restore outside jit, and pass the result in.",
    ),
    "a name twice in the source": (
        restoring(source={"a/w": full(1), "a": {"w": full(2)}}),
        errors.NameClashError,
        "The source has a/w twice, by its full name and in nested mappings.\n"
        "  fix:    leave out one of the two.",
    ),
    "a key that is no text": (
        restoring(source={1: full(1)}),
        errors.TreeTypeError,
        "1 is not a key of params: keys are strings, one per scope, never empty.\n"
        "  fix:    make it a string, such as 'layer_0' for 1.",
    ),
    "an array as the target": (
        restoring(target=empty(2)),
        errors.ArgumentError,
        "The target must be params, a pair (params, state), what net.specs(...) returned, or another "
        "tree of arrays, got float32[2].\n"
        "  fix:    give it a name: jscope.restore({'w': array}, source).",
    ),
    "the two swapped": (
        restoring(target=lazy({})[0], source=NET.specs()),
        errors.ArgumentError,
        "The target must be params, a pair (params, state), what net.specs(...) returned, or another "
        "tree of arrays, got Checkpoint('model.ckpt', TF V2, 0 tensors, 0 bytes) of type Checkpoint.\n"
        "  fix:    the target comes first: jscope.restore(target, checkpoint).",
    ),
    "a path as the target": (
        restoring(target="model.ckpt"),
        errors.ArgumentError,
        "The target must be params, a pair (params, state), what net.specs(...) returned, or another "
        "tree of arrays, got 'model.ckpt' of type str.\n"
        "  fix:    the target comes first: jscope.restore(target, jscope.io.open('model.ckpt')).",
    ),
    "a net as the target": (
        restoring(target=NET),
        errors.ArgumentError,
        "The target must be params, a pair (params, state), what net.specs(...) returned, or another "
        "tree of arrays, got a Transformed.\n"
        "  fix:    give what it makes: jscope.restore(net.specs(...), source).",
    ),
    "a method that is not called": (
        restoring(target=NET.specs().params),
        errors.ArgumentError,
        "The target must be params, a pair (params, state), what net.specs(...) returned, or another "
        "tree of arrays, got a function that is not called.\n"
        "  fix:    call it: jscope.restore(specs.params(), source).",
    ),
    "a function as the target": (
        restoring(target=NET.specs),
        errors.ArgumentError,
        "The target must be params, a pair (params, state), what net.specs(...) returned, or another "
        "tree of arrays, got a function that is not called.\n"
        "  fix:    call it: jscope.restore(net.specs(...), source).",
    ),
    "None as the target": (
        restoring(target=None),
        errors.ArgumentError,
        "The target must be params, a pair (params, state), what net.specs(...) returned, or another "
        "tree of arrays, got None of type NoneType.",
    ),
    "specs in a tree": (
        restoring(target={"params": NET.specs(), "n": 1}),
        errors.TreeTypeError,
        "Specs are no tree of arrays.\n"
        "  specs:  'w'\n"
        "  fix:    give the trees of jax.ShapeDtypeStruct in them: specs.params(), and specs.state() "
        "for what is not trainable; where values are wanted, those of init.",
    ),
    "text in the target": (
        restoring(target={"a": {"n": "x"}}),
        errors.TreeTypeError,
        "The target's 'a/n' is no array: it is 'x' of type str.\n"
        "  fix:    give arrays of JAX or NumPy, jax.ShapeDtypeStruct, or numbers.",
    ),
    "a name in params and state": (
        restoring(target=({"a": {"w": empty(2)}}, {"a": {"w": empty(2)}})),
        errors.NameClashError,
        "Two variables would have the name a/w.\n"
        "  first:  in params\n"
        "  again:  in state\n"
        "  fix:    rename or leave out one of the two.",
    ),
    "a dtype that JAX does not make": (
        restoring(target={"w": empty(2, dtype=np.float64)}),
        errors.ArgumentError,
        "The target's 'w' is float64[2], and JAX makes no float64 as it is set.\n"
        "  fix:    switch jax_enable_x64 on, or give arrays of NumPy as the target.",
    ),
    "a pattern that selects nothing": (
        restoring(target={"b": empty(3)}, transforms={"c": np.negative}),
        errors.EmptySelectionError,
        "The pattern 'c' selects nothing among the tree's 1 name.\n"
        "  names:  'b'\n"
        "  fix:    a path is matched from the root, by whole components.",
    ),
    "a pattern that is shadowed": (
        restoring(target={"b": empty(3)}, transforms={"*": np.negative, "b": np.flip}),
        errors.EmptySelectionError,
        "The pattern 'b' selects nothing that the patterns before it leave.\n"
        "  taken:  'b'\n"
        "  fix:    the first pattern that matches takes a name: put the narrower pattern first.",
    ),
    "a word that is shadowed": (
        restoring(target={"b": empty(3)}, transforms={"*": "stack", "**": np.flip, "b": "unstack"}),
        errors.EmptySelectionError,
        "The pattern 'b' selects nothing that the patterns before it leave.\n"
        "  taken:  'b'\n"
        "  fix:    the first pattern that matches takes a name: put the narrower pattern first.",
    ),
    "no transform": (
        restoring(target={"b": empty(3)}, transforms={"b": "transpose"}),
        errors.ArgumentError,
        "The transform of 'b' must be a function, 'stack' or 'unstack', got 'transpose' of type str.",
    ),
    "no function of parts": (
        restoring({"b": ("b",)}, target={"b": empty(3)}, transforms={"b": "stack"}),
        errors.ArgumentError,
        "The transform of 'b' must be a function, got 'stack' of type str.",
    ),
    "transforms of another type": (
        restoring(transforms=[np.negative]),
        errors.ArgumentError,
        "The transforms must be a mapping of patterns to functions, got [<ufunc 'negative'>] of type list.",
    ),
    "a function's shape": (
        restoring(
            target={"w": empty(2, 3)}, source={"w": full(1, 2, 3)}, transforms={"w": np.transpose}
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 1 mismatched.\n"
        "  mismatched: w is float32[3,2] by transforms['w'], should be float32[2,3]",
    ),
    "a function's dtype": (
        restoring(
            target={"w": empty(2)},
            source={"w": full(1, 2)},
            transforms={re.compile("w"): lambda x: x > 0},
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 1 mismatched.\n"
        "  mismatched: w is bool[2] by transforms[re.compile('w')], should be float32[2]",
    ),
    "a function that gives no array": (
        restoring(target={"w": empty(2)}, source={"w": full(1, 2)}, transforms={"*": list}),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 1 mismatched.\n"
        "  mismatched: w is list by transforms['*'], should be float32[2]",
    ),
    "too many parts": (
        restoring({"b": ("p", "q")}, target={"p": empty(1), "q": empty(1)}, transforms={"b": list}),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 2 mismatched.\n"
        "  mismatched: p is one of 3 arrays by transforms['b'], not of 2 (from b), should be float32[1]\n"
        "  mismatched: q is one of 3 arrays by transforms['b'], not of 2 (from b), should be float32[1]",
    ),
    "no parts": (
        restoring({"b": ("p",)}, target={"p": empty(1)}, transforms={"b": len}),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 1 mismatched.\n"
        "  mismatched: p is int by transforms['b'], not a list (from b), should be float32[1]",
    ),
    "a function's shape for each layer": (
        restoring(
            target={"w": empty(2, 2)},
            source=layers(2),
            transforms={"*": lambda x: x[:1], "w": "stack"},
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 1 mismatched.\n"
        "  mismatched: w is layers of float32[1] by transforms['*'] (from layer_0/w, layer_1/w), should be float32[2,2]",
    ),
    "a function that gives no layer": (
        restoring(
            target={"w": empty(2, 2)}, source=layers(2), transforms={"*": list, "w": "stack"}
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 1 mismatched.\n"
        "  mismatched: w is list by transforms['*'] (from layer_0/w, layer_1/w), should be float32[2,2]",
    ),
    "a layer too many for a function": (
        restoring(target={"w": empty(3, 2)}, source=layers(4), transforms={"": len, "w": "stack"}),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 1 mismatched.\n"
        "  mismatched: w is 4 layers of float32[2] (from layer_0/w, ..., layer_3/w), should be float32[3,2]",
    ),
    "a layer too many of parts": (
        restoring(
            {f"layer_{i}/w": (f"layer_{i}/v",) for i in range(2)},
            target={"v": empty(1, 2)},
            source=layers(2),
            transforms={"v": "stack"} | {f"layer_{i}/w": lambda x: [x[:1]] for i in range(2)},
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 1 mismatched.\n"
        "  mismatched: v is 2 layers of float32[1] (from layer_0/w, layer_1/w), should be float32[1,2]",
    ),
    "a slice of another shape": (
        restoring(
            target={"layer_0": {"w": empty(2)}},
            source={"w": full(1, 1, 3)},
            transforms={"": "unstack"},
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 1 mismatched.\n"
        "  mismatched: layer_0/w is float32[3] by transforms[''] (from w[0]), should be float32[2]",
    ),
    "other layers to unstack of parts": (
        restoring(
            {"v": ("w",)},
            target={"layer_0": {"w": empty(2)}},
            source={"v": full(1, 2)},
            transforms={"": "unstack", "v": lambda x: [np.stack([x] * 3)]},
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 1 mismatched.\n"
        "  mismatched: layer_0/w is layer 0 of float32[3,2], not of 1 in all (from v[0]), should be float32[2]",
    ),
    "a layer too few": (
        restoring(target={"w": empty(3, 2)}, source=layers(2), transforms={"w": "stack"}),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 unused, 0 mismatched.\n"
        f"  missing:    w (layer_2 of 3 is not there)\n  {TO_MAP}",
    ),
    "a layer too many": (
        restoring(target={"w": empty(3, 2)}, source=layers(4), transforms={"w": "stack"}),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 1 mismatched.\n"
        "  mismatched: w is 4 layers of float32[2] (from layer_0/w, ..., layer_3/w), should be float32[3,2]",
    ),
    "a layer too many under a map": (
        restoring(
            {"/": "n/"},
            target={"n": {"w": empty(3, 2)}},
            source=layers(4),
            transforms={"": "stack"},
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 1 mismatched.\n"
        "  mismatched: n/w is 4 layers of float32[2] (from layer_0/w, ..., layer_3/w), should be float32[3,2]",
    ),
    "a gap between layers": (
        restoring(
            target={"w": empty(2, 2)},
            source={"layer_0/w": full(1, 2), "layer_2/w": full(1, 2)},
            transforms={"w": "stack"},
        ),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 unused, 0 mismatched.\n"
        f"  missing:    w (layer_1 of 3 is not there)\n  {TO_MAP}",
    ),
    "layers of another shape": (
        restoring(
            target={"w": empty(2, 2)},
            source={"layer_0/w": full(1, 2), "layer_1/w": full(1, 3)},
            transforms={"w": "stack"},
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 1 mismatched.\n"
        "  mismatched: w is layers of float32[3] (from layer_0/w, layer_1/w), should be float32[2,2]",
    ),
    "no layers": (
        restoring(
            target={"w": empty(2, 2)}, source={"w": full(1, 2, 2)}, transforms={"w": "stack"}
        ),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 unused, 0 mismatched.\n"
        "  missing:    w (the source has it as it is, with no layers)\n"
        f"  {NARROW}",
    ),
    **{
        f"a pattern that is too wide, map {assignment_map}": (
            restoring(
                assignment_map,
                target={"e": empty(3), "n": {"w": empty(2, 2)}},
                source={"e": full(1, 3), **{f"n/{k}": x for k, x in layers(2).items()}},
                transforms={"**": "stack"},
            ),
            errors.CheckError,
            f"The source does not fit the target: 1 missing,{unused} 0 mismatched.\n"
            "  missing:    e (the source has it as it is, with no layers)\n"
            f"  {NARROW}",
        )
        for assignment_map, unused in [(None, " 0 unused,"), ({"/": "/"}, "")]
    },
    "a layer too few under a map": (
        restoring(
            {"l/": "/"},
            target={"n": {"w": empty(2, 2)}},
            source={"l/n/v": full(1), "l/layer_0/n/w": full(1, 2)},
            transforms={"**": "stack"},
        ),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 0 mismatched.\n"
        "  missing:    n/w (layer_1 of 2 is not there)\n"
        "  fix:        give each a source in the map; or keep the target's own values of what is "
        "missing by strict=False.",
    ),
    "no layers at all": (
        restoring(target={"w": empty(2, 2)}, source={"v": full(1)}, transforms={"w": "stack"}),
        errors.CheckError,
        "The source does not fit the target: 1 missing, 1 unused, 0 mismatched.\n"
        "  missing:    w (no layers layer_0, layer_1, ... of it)\n"
        f"  unused:     v\n  {TO_MAP}",
    ),
    "a name under stack that is no stack": (
        restoring(
            {"b": "q/in/kernel"},
            target={"q": {"in": {"kernel": empty(3)}, "mid": {"w": empty(2, 2)}}},
            transforms={"q": "stack"},
        ),
        errors.EmptySelectionError,
        "The map's 'b': 'q/in/kernel' gives 'q/in/kernel' itself, and no layers to stack.\n"
        "  fix:    'q/in/kernel' is under \"stack\" in transforms: map to its layers, "
        "q/layer_0/in/kernel, or narrow the pattern to the scope of the stack.",
    ),
    "a scope under stack that is no stack": (
        restoring(
            {"b/": "e/"},
            source={"b/w": full(1, 3)},
            target={"e": {"w": empty(3)}},
            transforms={"**": "stack"},
        ),
        errors.EmptySelectionError,
        "The map's 'b/': 'e/' gives 'e/w' itself, and no layers to stack.\n"
        "  fix:    'e/w' is under \"stack\" in transforms: map to its layers, e/layer_0/w, or "
        "narrow the pattern to the scope of the stack.",
    ),
    "a name without a scope under stack": (
        restoring({"b": "w"}, target={"w": empty(3)}, transforms={"**": "stack"}),
        errors.EmptySelectionError,
        "The map's 'b': 'w' gives 'w' itself, and no layers to stack.\n"
        "  fix:    'w' is under \"stack\" in transforms: map to its layers, layer_0/w, or "
        "narrow the pattern to the scope of the stack.",
    ),
    "layers at two places": (
        restoring(
            target={"a": {"w": empty(1, 2)}},
            source={"layer_0/a/w": full(1, 2), "a/layer_0/w": full(1, 2)},
            transforms={"": "stack"},
        ),
        errors.NameClashError,
        "a/w can come from layers at two places.\n"
        "  first:  layer_0/a/w\n"
        "  again:  a/layer_0/w\n"
        "  fix:    rename one of them by the assignment_map.",
    ),
    "other layers to unstack": (
        restoring(
            target={"layer_0": {"w": empty(2)}},
            source={"w": full(1, 3, 2)},
            transforms={"": "unstack"},
        ),
        errors.CheckError,
        "The source does not fit the target: 0 missing, 0 unused, 1 mismatched.\n"
        "  mismatched: layer_0/w is layer 0 of float32[3,2], not of 1 in all (from w[0]), should be float32[2]",
    ),
    "nothing to unstack": (
        restoring(
            target={"layer_0": {"w": empty(2)}, "w": empty(2)},
            source={"v": full(1, 3, 2)},
            transforms={"": "unstack"},
        ),
        errors.CheckError,
        "The source does not fit the target: 2 missing, 1 unused, 0 mismatched.\n"
        "  missing:    layer_0/w (no w with all layers)\n"
        "  missing:    w (its name has no layer_0, layer_1, ...)\n"
        f"  unused:     v\n  {TO_MAP}",
    ),
    "a flag": (
        restoring(cast="yes"),
        errors.ArgumentError,
        "The cast must be True or False, got 'yes' of type str.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_whole(name: str) -> None:
    restore, kind, text = WRONG[name]
    with pytest.raises(kind) as raised:
        restore()
    assert str(raised.value) == text
    assert type(raised.value) is kind
    assert str(pickle.loads(pickle.dumps(raised.value))) == text


PREFIXES: list[tuple[list[str], dict[str, str]]] = [
    (["params/n/w", "params/v"], {"params/": "/"}),
    (["a/params/n/w", "a/params/v"], {"a/params/": "/"}),
    (["opt/mu/n/w", "opt/mu/v", "params/n/w", "params/v"], {"params/": "/"}),
    (["0/n/w", "1/v"], {"0/": "/", "1/": "/"}),
    (["params/n/w", "v"], {"params/": "/", "/": "/"}),
    (["0/n/w", "b/0/v", "1/v"], {"0/": "/", "1/": "/"}),
    (["params/n/w", "params/v", "v"], {"params/": "/"}),
    (["0/n/w", "1/v", "1/n/w", "2/n/w"], {"1/": "/"}),
    (["params/n/w"], {"old/": "new/"}),
    (["n/wx", "vx"], {"old/": "new/"}),
]


@pytest.mark.parametrize(("names", "wanted"), PREFIXES)
def test_a_map_of_the_scopes_that_are_too_much_is_told(
    names: list[str], wanted: dict[str, str]
) -> None:
    target, source = {"n": {"w": empty()}, "v": empty()}, {name: full(1) for name in names}
    fix = f"  fix:        map names, {wanted}; or keep the target's own values of"
    with pytest.raises(errors.CheckError) as raised:
        js.restore(target, source)
    assert fix in str(raised.value)
    if "old/" not in wanted:
        assert not js.restore(target, source, wanted)[1].missing


def test_a_slip_in_a_map_to_any_name_is_not_taken_for_a_map_turned_round() -> None:
    with pytest.raises(errors.EmptySelectionError, match="The source has no scope 'oldd'"):
        new_names(["old/w", "b"], {"oldd/": "/"})


def test_no_map_is_told_that_brings_two_sources() -> None:
    target, source = {name: empty() for name in "uvw"}, ["0/u", "0/w", "1/v", "1/w"]
    with pytest.raises(errors.CheckError, match=r"map names, \{'old/': 'new/'\}; or"):
        js.restore(target, {name: full(1) for name in source})
    with pytest.raises(errors.CheckError, match=r"map names, \{'old/': 'new/'\}; or"):
        js.restore(target, {name: full(1) for name in ["w", "v", "x/v", "x/u"]})


def test_ten_entries_that_mean_nothing_are_told_at_most() -> None:
    with pytest.raises(errors.EmptySelectionError) as raised:
        js.restore(TARGET, SOURCE, {f"x{i}/": "new/" for i in range(20)})
    lines = str(raised.value).splitlines()
    assert lines[0] == "10 or more entries of the map mean nothing."
    assert sum(line.startswith("The source has no scope 'x") for line in lines) == 10
    assert raised.value.pattern == "x0"


def test_the_facts_of_a_misfit_are_names() -> None:
    target = {"a": empty(2), "b": empty(3)}
    with pytest.raises(errors.CheckError, match="does not fit") as raised:
        js.restore(target, {"b": full(1, 3, dtype=np.float16), "c": full(1)})
    assert raised.value.missing == ("a",)
    assert raised.value.unexpected == ("c",)
    assert raised.value.mismatched == {"b": ("float32[3]", "float16[3]")}


@functools.cache
def on_devices() -> Any:
    """What one process with 8 devices finds, for all tests of this file."""
    root = str(SCRIPT.parent.parent)
    flags = "--xla_force_host_platform_device_count=8"
    environment = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": root}
    return json.loads(output_of("-W", "error", SCRIPT, **environment))


@pytest.mark.parametrize(
    "how",
    ["as it is", "stack", "unstack", "function", "function, stack", "unstack, function", "cast"],
)
def test_values_arrive_where_the_target_has_them(how: str) -> None:
    ends = on_devices()["placed"][how]
    assert len(ends) == 5
    assert {layout: end for layout, end in ends.items() if end != "ok"} == {}


def test_only_the_parts_of_the_devices_are_read() -> None:
    read = on_devices()["read"]
    assert read["as it is"] == [[2, 8]] * 8
    assert read["stack"] == [[8, 1]] * 64  # of 8 layers, by 8 devices that split the columns
    assert read["stack by layers"] == [[8, 8]] * 8


def test_a_layout_that_cannot_be_is_refused() -> None:
    refused = on_devices()["refused"]
    assert refused["uneven"].startswith("The target's 'w', float32[6], cannot be laid out as Named")
    assert "its mesh is abstract: it has no devices" in refused["abstract"]


def test_keys_and_committed_arrays_keep_their_devices() -> None:
    assert on_devices()["others"] == {"keys": "ok", "committed": "ok"}

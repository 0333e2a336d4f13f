"""Params and Specs: immutable, nested, pytrees, and at home in the libraries around JAX."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict

import jscope as js
from jscope import errors

NESTED = {"encoder": {"w": jnp.ones([3, 4]), "b": jnp.zeros([4])}, "v": jnp.float32(2)}


def params() -> js.Params:
    return js.Params(NESTED)


def test_sub_scopes_are_params_too() -> None:
    assert isinstance(params()["encoder"], js.Params)
    assert params()["encoder"]["w"] is NESTED["encoder"]["w"]
    assert list(params()) == ["encoder", "v"]
    assert len(params()) == 2
    assert "encoder" in params()
    assert {**params()}.keys() == NESTED.keys()


def test_a_missing_key_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        params()["nothing"]


def change(action: str, p: Any) -> None:
    match action:
        case "item":
            p["v"] = 1
        case "deletion":
            del p["v"]
        case "attribute":
            p.v = 1
        case "private attribute":
            p._tree = {}
        case "attribute deletion":
            del p._tree
        case "union":
            p |= {"v": 1}
        case method:
            getattr(p, method)({"v": 1})


@pytest.mark.parametrize(
    "action",
    [
        "item",
        "deletion",
        "attribute",
        "private attribute",
        "attribute deletion",
        "union",
        "update",
        "pop",
        "setdefault",
        "clear",
        "popitem",
    ],
)
def test_nothing_can_be_changed(action: str) -> None:
    for p in (params(), params()["encoder"]):
        before = p.to_dict()
        with pytest.raises(TypeError, match=r"^Params are immutable\. Make new ones"):
            change(action, p)
        assert p.to_dict() == before


def test_to_dict_and_params_copy_the_nesting() -> None:
    nested = {"a": {"w": 1.0}}
    p = js.Params(nested)
    nested["a"]["w"] = 2.0
    out = p.to_dict()
    out["a"]["w"] = 3.0
    assert type(out["a"]) is dict
    assert p["a"]["w"] == 1.0


def test_repr_shows_shapes_and_never_values() -> None:
    assert repr(params()) == (
        "Params({'encoder': {'w': float32[3,4], 'b': float32[4]}, 'v': float32[]})"
    )
    assert repr(js.Params({"a": {}, "n": 7})) == "Params({'a': {}, 'n': int})"


def test_leaves_and_key_paths_are_those_of_the_nested_dict() -> None:
    ours = jax.tree_util.tree_flatten_with_path(params())[0]
    theirs = jax.tree_util.tree_flatten_with_path(NESTED)[0]
    assert [path for path, _ in ours] == [path for path, _ in theirs]
    assert all(a is b for (_, a), (_, b) in zip(ours, theirs, strict=True))
    assert jax.tree.leaves(params()) == jax.tree.leaves(NESTED)


def test_tree_map_gives_params() -> None:
    doubled = jax.tree.map(lambda x: 2 * x, params())
    assert isinstance(doubled, js.Params)
    chex.assert_trees_all_equal(doubled.to_dict(), jax.tree.map(lambda x: 2 * x, NESTED))
    assert jax.tree.map(lambda *_: None, params(), params())["encoder"]["w"] is None


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies_are_equal(again: Any) -> None:
    chex.assert_trees_all_equal(again(params()), params())
    empty = js.Params({"a": {"b": {}}})
    assert again(empty).to_dict() == {"a": {"b": {}}}


@pytest.mark.parametrize("bad", [3, [1, 2], None])
def test_what_is_no_mapping_is_refused(bad: Any) -> None:
    with pytest.raises(js.errors.TreeTypeError, match=r"^Params must be a nested mapping"):
        js.Params(bad)


@pytest.mark.parametrize("key", ["", "a/b", 3])
def test_keys_that_cannot_be_part_of_a_name_are_refused(key: Any) -> None:
    with pytest.raises(js.errors.CheckError, match=r"is not a key of params"):
        js.Params({"a": {key: 1}})


def test_flatten_and_unflatten_are_inverse() -> None:
    flat = js.tree.flatten(params())
    assert list(flat) == ["encoder/w", "encoder/b", "v"]
    chex.assert_trees_all_equal(js.tree.unflatten(flat), params())


def test_unflatten_refuses_a_name_that_is_also_a_scope() -> None:
    with pytest.raises(js.errors.NameClashError, match="a would be a variable and also the scope"):
        js.tree.unflatten({"a/b": 1, "a": 2})
    with pytest.raises(js.errors.CheckError, match="'a//b' is not a key"):
        js.tree.unflatten({"a//b": 1})
    with pytest.raises(js.errors.TreeTypeError, match="must be a nested mapping"):
        js.tree.unflatten([1])
    with pytest.raises(js.errors.TreeTypeError, match="must be a nested mapping"):
        js.tree.flatten([1])


def linear(x: jax.Array) -> jax.Array:
    with js.variable_scope("linear"):
        return x @ js.get_variable("w", [3, 1]) + js.get_variable("b", [1, 1])


def test_optax_trains_params() -> None:
    net = js.without_apply_rng(js.transform(linear))
    x = jax.random.normal(jax.random.key(1), [64, 3])
    y = x @ jnp.array([[1.0], [-2.0], [0.5]]) + 3
    values = net.init(0, x)
    optimizer = optax.adam(0.1)
    state = optimizer.init(values)

    @jax.jit
    def step(values: js.Params, state: Any) -> Any:
        gradient = jax.grad(lambda p: jnp.square(net.apply(p, x) - y).mean())(values)
        updates, state = optimizer.update(gradient, state, values)
        return optax.apply_updates(values, updates), state

    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in int32
        for _ in range(300):
            values, state = step(values, state)
    assert isinstance(values, js.Params)
    chex.assert_trees_all_close(values["linear"]["b"], jnp.array([[3.0]]), atol=0.05)


def test_optax_masks_by_params() -> None:
    mask = jax.tree.map(lambda leaf: leaf.ndim > 1, params())
    optimizer = optax.masked(optax.sgd(1.0), mask)
    updates, _ = optimizer.update(params(), optimizer.init(params()))
    chex.assert_trees_all_close(updates["encoder"]["w"], -NESTED["encoder"]["w"])


def test_orbax_saves_and_restores_params(tmp_path: Path) -> None:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "params", params())
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "params", params())
    assert isinstance(restored, js.Params)
    chex.assert_trees_all_equal(restored, params())


def test_safetensors_saves_and_loads_params(tmp_path: Path) -> None:
    from safetensors.flax import load_file, save_file

    save_file(js.tree.flatten(params()), tmp_path / "params.safetensors")
    again = js.tree.unflatten(load_file(tmp_path / "params.safetensors"))
    chex.assert_trees_all_equal(again, params())


X = jnp.ones([2, 3])


@pytest.mark.parametrize("kind", [dict, js.Params, FrozenDict])
def test_apply_takes_any_nested_mapping(kind: Any) -> None:
    net = js.transform(linear)
    values = net.init(0, X)
    given = kind(values.to_dict())
    chex.assert_trees_all_equal(net.apply(given, None, X), net.apply(values, None, X))
    chex.assert_trees_all_equal(jax.jit(net.apply)(given, None, X), net.apply(values, None, X))


def test_apply_takes_numpy_and_numbers_and_gives_one_jax_array_for_each() -> None:
    def program() -> tuple[jax.Array, jax.Array]:
        first = js.get_variable("w", [2])
        with js.variable_scope(js.get_variable_scope(), reuse=True):
            inner = []
            jax.vmap(lambda _: inner.append(js.get_variable("w")))(X)
            assert inner[0] is first
            assert js.get_variable("w") is first
        return first, js.get_variable("n", [])

    w, n = js.transform(program).apply({"w": np.ones(2, np.float32), "n": 3.0}, None)
    assert isinstance(w, jax.Array)
    assert isinstance(n, jax.Array)


def test_apply_ignores_extra_names_and_changes_nothing() -> None:
    net = js.transform(linear)
    values = {**net.init(0, X).to_dict(), "extra": {"w": 1.0}}
    before = copy.copy(values["linear"])
    net.apply(values, None, X)
    assert values["linear"] == before
    assert values.keys() == {"linear", "extra"}


def test_two_functions_read_one_tree() -> None:
    def encode(x: jax.Array) -> jax.Array:
        with js.variable_scope("encode"):
            return x @ js.get_variable("w", [3, 2])

    def autoencoder(x: jax.Array) -> jax.Array:
        code = encode(x)
        with js.variable_scope("decode"):
            return code @ js.get_variable("w", [2, 3])

    values = js.transform(autoencoder).init(0, X)
    code = js.transform(encode).apply(values, None, X)
    chex.assert_trees_all_close(code, X @ values["encode"]["w"])


def test_specs_are_immutable_ordered_and_pickle() -> None:
    specs = js.transform(linear).specs(X)
    assert list(specs) == ["linear/w", "linear/b"]
    assert repr(specs) == (
        "Specs([VariableSpec('linear/w', float32[3,1]), VariableSpec('linear/b', float32[1,1])])"
    )
    with pytest.raises(TypeError, match="does not support item assignment"):
        specs["x"] = 1
    with pytest.raises(TypeError, match="immutable"):
        specs.x = 1
    with pytest.raises(AttributeError, match="cannot assign to field 'name'"):
        specs["linear/w"].name = "x"
    again = pickle.loads(pickle.dumps(specs))
    assert list(again) == list(specs)
    assert again["linear/w"].sites == specs["linear/w"].sites
    assert specs.state().to_dict() == {}
    assert specs.params()["linear"]["w"] == jax.ShapeDtypeStruct([3, 1], jnp.float32)


def test_a_transformed_pickles_when_its_function_does() -> None:
    net = js.without_apply_rng(js.transform(linear))
    again = pickle.loads(pickle.dumps(net))
    values = again.init(0, X)
    chex.assert_trees_all_equal(again.apply(values, X), net.apply(values, X))


def test_params_go_through_jax_export_in_and_out() -> None:
    pytest.importorskip("flatbuffers")  # JAX needs it to write and read exported functions
    given = js.Params({"b": {"w": jnp.arange(3.0)}, "a": jnp.ones([2]), "empty": {"inner": {}}})

    def scaled(params: js.Params, factor: jax.Array) -> tuple[js.Params, jax.Array]:
        return jax.tree.map(lambda leaf: leaf * factor, params), params["b"]["w"].sum()

    exported = jax.export.export(jax.jit(scaled))(given, jnp.float32(2))
    read = jax.export.deserialize(exported.serialize())
    assert (read.in_tree, read.out_tree) == (exported.in_tree, exported.out_tree)
    (out, total), wanted = read.call(given, jnp.float32(2)), scaled(given, jnp.float32(2))
    assert repr(out) == repr(wanted[0])
    assert isinstance(out["empty"]["inner"], js.Params)
    chex.assert_trees_all_equal((out, total), wanted)


READS = """
import sys, jax, jscope as js
exported = jax.export.deserialize(bytearray(sys.stdin.buffer.read()))
(params, state, x), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
arrays = jax.tree.map(lambda aval: jax.numpy.ones(aval.shape, aval.dtype), (params, state, x))
out, state = exported.call(*arrays)
print(type(params).__name__, list(params), out.tolist(), state["net"]["calls"])
"""


def test_an_exported_apply_is_read_and_called_in_another_process() -> None:
    pytest.importorskip("flatbuffers")

    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("net"):
            js.get_variable("calls", initializer=0, trainable=False)
            js.assign_add("calls", 1)
            return x * js.get_variable("w", [3])

    net = js.without_apply_rng(js.transform_with_state(program))
    params, state = net.init(0, X[0])
    data = jax.export.export(jax.jit(net.apply))(params, state, jnp.ones([3])).serialize()
    done = subprocess.run([sys.executable, "-c", READS], input=bytes(data), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert done.stdout.decode().strip() == "Params ['net'] [1.0, 1.0, 1.0] 2"


def test_the_form_of_params_in_an_exported_function_is_fixed() -> None:
    pytest.importorskip("flatbuffers")
    given = js.Params({"w": 1.0, "\u00e4": {"b": 2.0}})
    data = bytes(jax.export.export(jax.jit(lambda params: params["w"]))(given).serialize())
    assert b"jscope.Params" in data
    assert rb'["w", "\u00e4"]' in data


def test_specs_where_arrays_are_wanted_say_what_holds_them(tmp_path: Path) -> None:
    import orbax.checkpoint as ocp

    net = js.transform(lambda: js.get_variable("net/w", [2]))
    made, specs = net.init(0), net.specs()
    calls: list[Callable[[], Any]] = [
        lambda: jax.tree.map(jnp.zeros_like, {"params": specs}),
        lambda: jax.tree.leaves(specs),
        lambda: jax.jit(lambda specs: 0)(specs),
        lambda: jax.eval_shape(net.specs),
        lambda: optax.sgd(0.1, momentum=0.9).init(specs),
        lambda: net.apply(specs, None),
    ]
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", made)
        checkpointer.wait_until_finished()
        calls.append(lambda: checkpointer.restore(tmp_path / "saved", specs))
        calls.append(lambda: checkpointer.save(tmp_path / "again", specs))
        for call in calls:
            with pytest.raises(errors.TreeTypeError) as caught:
                call()
            assert str(caught.value) == (
                "Specs are no tree of arrays.\n"
                "  specs:  'net/w'\n"
                "  fix:    give the trees of jax.ShapeDtypeStruct in them: specs.params(), and "
                "specs.state() for what is not trainable; where values are wanted, those of init."
            )
        chex.assert_trees_all_equal(checkpointer.restore(tmp_path / "saved", specs.params()), made)


def test_a_function_may_be_given_specs() -> None:
    def fn(given: dict[str, Any]) -> Any:
        return [js.get_variable(name, spec.shape) for name, spec in given["specs"].items()]

    specs = js.transform(lambda: js.get_variable("net/w", [2])).specs()
    net = js.transform(fn)
    given = {"specs": specs, "x": jnp.ones(3)}
    assert repr(net.init(0, given)) == "Params({'net': {'w': float32[2]}})"
    assert net.apply(net.init(0, given), None, given)[0].shape == (2,)


def test_the_partition_of_a_spec_goes_by_the_name_of_the_argument_too() -> None:
    partition = jax.sharding.PartitionSpec("data")
    spec = js.transform(lambda: js.get_variable("w", [2], partitioner=partition)).specs()["w"]
    assert spec.partition is spec.partitioner is partition


def test_a_long_tree_is_shown_in_lines_that_fit() -> None:
    wide = jax.ShapeDtypeStruct((9,) * 4, jnp.int16)
    tree = {"net": {"first": {"kernel": wide, "bias": wide}, "second": {"kernel": wide}}, "v": wide}
    assert repr(js.Params(tree)) == (
        "Params({'net': {'first': {'kernel': int16[9,9,9,9], 'bias': int16[9,9,9,9]},\n"
        "                'second': {'kernel': int16[9,9,9,9]}},\n"
        "        'v': int16[9,9,9,9]})"
    )


@pytest.mark.parametrize("size", range(1, 30))
def test_a_tree_is_on_one_line_if_that_fits(size: int) -> None:
    shown = repr(js.Params({"a": {"b": {"x" * size: 1, "y" * size: True}}}))
    line = " ".join(shown.split())
    assert ("\n" in shown) is (len(line) > 88)
    assert eval(line, {"Params": js.Params, "int": 1}) == js.Params(
        {"a": {"b": {"x" * size: 1, "y" * size: True}}}
    )


def test_a_deep_tree_is_shown_without_a_mass_of_blanks() -> None:
    deep: dict[str, Any] = {"w": True}
    for _ in range(5000):
        deep = {"scope": deep, "v": True}
    shown = repr(js.Params(deep))
    assert len(shown) < 200_000
    assert shown.count("'v': True") == 5000


def test_masks_labels_and_partitions_show_what_they_say_and_numbers_do_not() -> None:
    kind = jax.sharding.PartitionSpec("data", None)
    shown = js.Params({"a": True, "b": "adam", "c": kind, "d": 1, "e": np.bool_(True)})
    assert repr(shown) == f"Params({{'a': True, 'b': 'adam', 'c': {kind}, 'd': int, 'e': bool[]}})"


def test_long_specs_are_shown_one_a_line() -> None:
    def fn() -> None:
        for name in ("first", "second", "third"):
            js.get_variable(name, [2])

    assert repr(js.transform(fn).specs()) == (
        "Specs([VariableSpec('first', float32[2]),\n"
        "       VariableSpec('second', float32[2]),\n"
        "       VariableSpec('third', float32[2])])"
    )


@pytest.mark.filterwarnings("ignore:The chararray class:DeprecationWarning")  # in treescope
def test_treescope_folds_params_and_specs() -> None:
    treescope = pytest.importorskip("treescope")
    specs = js.transform(lambda: js.get_variable("net/w", [2])).specs()
    tree = js.Params({"net": {"w": "adam"}, "v": {"u": 3}})
    assert treescope.render_to_text(tree) == "Params({'net': {'w': 'adam'}, 'v': {'u': 3}})"
    assert treescope.render_to_text(specs).startswith("Specs({\n  'net/w': VariableSpec(\n")

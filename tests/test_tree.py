"""Functions over trees: parts by pattern, other names, masks for optax; layers and stacks."""

from __future__ import annotations

import operator
import pickle
import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict
from hypothesis import given, settings
from hypothesis import strategies as st

import jscope as js
from jscope import errors

TREE = {
    "gen": {"dense": {"kernel": 1, "bias": 2}, "out": {"kernel": 3}},
    "generator": {"kernel": 4},
    "disc": {"layer_0": {"w": 5}, "layer_1": {"w": 6}, "layer_12": {"w": 7}, "b": 8},
    "step": 9,
}


def is_odd(name: str, leaf: Any) -> bool:
    return bool(leaf % 2)


PATTERNS: dict[str, tuple[Any, set[int]]] = {
    "a scope": ("gen", {1, 2, 3}),
    "a scope, not one whose name begins with it": ("disc/layer_1", {6}),
    "a variable": ("gen/out/kernel", {3}),
    "a variable at the root": ("step", {9}),
    "everything": ("", set(range(1, 10))),
    "what is in a scope": ("gen/", {1, 2, 3}),
    "a star is one component": ("gen/*", set()),
    "two stars are two": ("*/*/kernel", {1, 3}),
    "a star within a component": ("disc/layer_1*/w", {6, 7}),
    "a glob has to match the whole name": ("disc/layer_*", set()),
    "a glob and what is in the scope": ("disc/layer_*/", {5, 6, 7}),
    "one component": ("*", {9}),
    "any depth": ("**/kernel", {1, 3, 4}),
    "any depth, none included": ("**/step", {9}),
    "all in a scope": ("disc/**", {5, 6, 7, 8}),
    "any number in between": ("gen/**/kernel", {1, 3}),
    "two any": ("**/dense/**", {1, 2}),
    "everything as a glob": ("**", set(range(1, 10))),
    "a character": ("disc/?", {8}),
    "a set of characters": ("disc/layer_[12]/*", {6}),
    "not of a set": ("disc/layer_[!1]/w", {5}),
    "a star is no slash": ("gen*/kernel", {4}),
    "a set is no slash": ("step[!x]", set()),
    "a star may be empty": ("gen*/**", {1, 2, 3, 4}),
    "case matters": ("GEN/**", set()),
    "a regular expression is searched": (re.compile("er"), {1, 3, 4, 5, 6, 7}),
    "a regular expression with an anchor": (re.compile(r"/b\w*$"), {2, 8}),
    "a function": (is_odd, {1, 3, 5, 7, 9}),
    "a function of the name": (lambda name, _: len(name) < 5, {9}),
    "a list": (["gen/out", "**/b"], {3, 8}),
    "a tuple of other kinds": ((re.compile("bias"), is_odd), {1, 2, 3, 5, 7, 9}),
    "a set": ({"step", "generator"}, {4, 9}),
    "keys": ({"step": 0}.keys(), {9}),
    "lists in lists": (["step", ["disc/b"]], {8, 9}),
    "an empty list": ([], set()),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_selects_by_full_name(name: str) -> None:
    pattern, wanted = PATTERNS[name]
    part = js.tree.select(TREE, pattern, allow_empty=not wanted)
    assert isinstance(part, js.Params)
    flat = js.tree.flatten(TREE)
    assert js.tree.flatten(part) == {name: leaf for name, leaf in flat.items() if leaf in wanted}
    chosen = js.tree.mask(TREE, pattern, allow_empty=not wanted)
    assert js.tree.flatten(chosen) == {name: leaf in wanted for name, leaf in flat.items()}
    assert all(type(leaf) is bool for leaf in jax.tree.leaves(chosen))
    if not wanted:
        for function in (js.tree.select, js.tree.partition, js.tree.mask):
            with pytest.raises(errors.EmptySelectionError, match="selects nothing"):
                function(TREE, pattern)
        key = tuple(pattern) if isinstance(pattern, list) else pattern
        with pytest.raises(errors.EmptySelectionError, match="selects nothing"):
            js.tree.labels(TREE, {key: 1}, default=0)


COMPONENTS = st.sampled_from(["a", "b", "ab", "w", "w_1", "[x"])
TREES = st.recursive(
    st.dictionaries(COMPONENTS, st.integers(), max_size=4),
    lambda inner: st.dictionaries(COMPONENTS, st.one_of(st.integers(), inner), max_size=4),
    max_leaves=12,
)
PARTS = st.sampled_from(["a", "b", "ab", "w", "w_1", "*", "**", "?", "a*", "*_?", "[ab]", "[!w]*"])
GLOBS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
ANY_PATTERN = st.one_of(
    GLOBS, st.just(""), st.just(is_odd), st.sampled_from([re.compile("a"), re.compile("^w|_1$")])
)


@settings(deadline=None)
@given(TREES, st.lists(st.one_of(ANY_PATTERN, st.lists(ANY_PATTERN)), max_size=3))
def test_merge_is_the_inverse_of_partition(tree: dict[str, Any], patterns: list[Any]) -> None:
    parts = js.tree.partition(tree, *patterns, allow_empty=True)
    assert len(parts) == len(patterns) + 1
    assert js.tree.merge(*parts) == tree
    assert js.tree.merge(*reversed(parts)) == tree
    names = [name for part in parts for name in js.tree.flatten(part)]
    assert sorted(names) == sorted(js.tree.flatten(tree))
    left = js.Params(tree)
    for part, pattern in zip(parts, patterns, strict=False):
        chosen, left = js.tree.partition(left, pattern, allow_empty=True)
        assert part == chosen
        assert js.tree.select(part, pattern, allow_empty=True) == part
    assert left == parts[-1]


@settings(deadline=None)
@given(TREES, ANY_PATTERN)
def test_every_function_chooses_as_select_does(tree: dict[str, Any], pattern: Any) -> None:
    chosen = js.tree.flatten(js.tree.select(tree, pattern, allow_empty=True))
    mask = js.tree.mask(tree, pattern, allow_empty=True)
    assert jax.tree.structure(mask) == jax.tree.structure(tree)
    assert {name for name, hit in js.tree.flatten(mask).items() if hit} == chosen.keys()
    labels = js.tree.labels(tree, {pattern: True}, default=False, allow_empty=True)
    assert labels == mask
    assert js.tree.flatten(js.tree.partition(tree, pattern, allow_empty=True)[0]) == chosen
    assert bool(chosen) is not raises_empty(lambda: js.tree.mask(tree, pattern))


def raises_empty(call: Callable[[], Any]) -> bool:
    try:
        call()
    except errors.EmptySelectionError:
        return True
    return False


@settings(deadline=None)
@given(TREES, GLOBS)
def test_globs_are_a_known_regular_language(tree: dict[str, Any], glob: str) -> None:
    if not any(character in glob for character in "*?["):
        return
    text = "".join(
        "([^/]+/)*"
        if part == "**"
        else part.replace("*", "[^/]*").replace("?", "[^/]").replace("[!", "[^/") + "/"
        for part in glob.split("/")
    )
    chosen = js.tree.select(tree, glob, allow_empty=True)
    assert chosen == js.tree.select(
        tree, lambda name, _: bool(re.fullmatch(text, f"{name}/")), allow_empty=True
    )


@settings(deadline=None)
@given(TREES)
def test_renaming_there_and_back_changes_nothing(tree: dict[str, Any]) -> None:
    flat = js.tree.flatten(tree)
    moved = js.tree.rename(tree, {"": "x/y"}, allow_empty=True)
    assert js.tree.flatten(moved) == {f"x/y/{name}": leaf for name, leaf in flat.items()}
    assert js.tree.flatten(js.tree.rename(moved, {"x/y": ""}, allow_empty=True)) == flat
    swapped = js.tree.rename(tree, {"a": "b", "b": "a"}, allow_empty=True)
    assert js.tree.flatten(js.tree.rename(swapped, {"a": "b", "b": "a"}, allow_empty=True)) == flat


def test_a_leaf_goes_to_the_first_pattern_that_matches() -> None:
    kernels, disc, rest = js.tree.partition(TREE, "**/kernel", ["disc", "gen"])
    assert set(js.tree.flatten(kernels).values()) == {1, 3, 4}
    assert set(js.tree.flatten(disc).values()) == {2, 5, 6, 7, 8}
    assert rest == {"step": 9}
    gen, everything, nothing = js.tree.partition(TREE, "gen", "")
    assert gen == js.tree.select(TREE, "gen")
    assert len(js.tree.flatten(everything)) == 6
    assert nothing == {}
    assert js.tree.partition(TREE) == (TREE,)
    assert js.tree.partition({}) == ({},)


def test_empty_scopes_stay_with_the_rest() -> None:
    tree = {"a": {"w": 1, "none": {}}, "none": {"at": {"all": {}}}}
    part, rest = js.tree.partition(tree, "a")
    assert part == {"a": {"w": 1}}
    assert rest == {"a": {"none": {}}, "none": {"at": {"all": {}}}}
    assert js.tree.merge(part, rest) == tree
    assert js.tree.merge({"none": {"at": {}}}, {"none": {}}, tree) == tree
    assert js.tree.merge({"b": {}, "a": {}}, {"a": {"w": 1}}) == {"a": {"w": 1}, "b": {}}
    assert js.tree.mask(tree, "a") == {
        "a": {"w": True, "none": {}},
        "none": {"at": {"all": {}}},
    }


def test_update_takes_the_leaves_of_the_last_tree_that_has_them() -> None:
    tree = {"a": {"w": 1, "b": 2}, "empty": {}, "v": 3}
    first, second = {"a": {"w": 10, "b": 20}}, FrozenDict({"a": {"b": 200}})
    updated = js.tree.update(tree, first, second)
    assert isinstance(updated, js.Params)
    assert updated.to_dict() == {"a": {"w": 10, "b": 200}, "empty": {}, "v": 3}
    assert list(js.tree.flatten(updated)) == ["a/w", "a/b", "v"]
    assert js.tree.update(tree) == js.tree.update(tree, {}, {"v": {}}) == tree
    assert tree["a"] == {"w": 1, "b": 2}


def test_update_adds_names_where_it_is_told_to() -> None:
    updated = js.tree.update({"a": {"w": 1}}, {"b": 2, "a": {"w": 3}}, {"b": 4}, new=True)
    assert updated.to_dict() == {"a": {"w": 3}, "b": 4}


def test_update_takes_full_names() -> None:
    values = {"gen/dense/bias": 20, "disc": {"layer_0/w": 50}}
    changed = js.tree.flatten(js.tree.update(TREE, values))
    assert changed == {**js.tree.flatten(TREE), "gen/dense/bias": 20, "disc/layer_0/w": 50}


def test_update_of_specs_gives_specs() -> None:
    narrow, wide = (js.transform(lambda n=n: js.get_variable("w", [n])).specs() for n in (2, 3))
    updated = js.tree.update(narrow, wide)
    assert isinstance(updated, js.Specs)
    assert updated["w"].shape == (3,)


def test_what_a_function_returns_by_name_goes_into_its_params() -> None:
    def whiten(x: jax.Array) -> dict[str, jax.Array]:  # sets what an optimizer trains later
        with js.variable_scope("norm"):
            js.get_variable("shift", [3])
        return {name: -x.mean(0) for name in js.named_variables("norm")}

    net = js.transform(whiten)
    x = jnp.arange(6.0).reshape(2, 3)
    params = net.init(0, x)
    params = js.tree.update(params, net.apply(params, None, x))
    chex.assert_trees_all_equal(
        params.to_dict(), {"norm": {"shift": jnp.array([-1.5, -2.5, -3.5])}}
    )


def test_update_with_other_names_is_refused() -> None:
    tree = {"net": {"kernel": 1, "bias": 2}}
    with pytest.raises(errors.CheckError) as caught:
        js.tree.update(tree, {"net": {"bias": 0}}, {"net": {"kernl": 0}})
    assert str(caught.value) == (
        "net/kernl is not in the tree to update.\n"
        "  asked:  by others[1]\n"
        "  near:   'net/kernel'\n"
        "  fix:    correct the name; pass new=True to add what is not there."
    )
    assert caught.value.unexpected == ("net/kernl",)
    with pytest.raises(errors.CheckError) as caught:
        js.tree.update(tree, {"net": 0, "kernel": {"w": 0}})
    assert str(caught.value) == (
        "net is not in the tree to update, nor 1 more.\n"
        "  names:  'net', 'kernel/w'\n"
        "  asked:  by others[0]\n"
        "  fix:    correct the name; pass new=True to add what is not there."
    )
    with pytest.raises(errors.NameClashError) as clash:
        js.tree.update(tree, {"net/bias": 0}, {"net": 0}, new=True)
    assert str(clash.value) == (
        "Variable net/kernel cannot be made: net would be a variable and also the scope of "
        "net/kernel.\n"
        "  first:  net in others[1]\n"
        "  again:  net/kernel in the tree\n"
        "  fix:    rename or leave out one of the two."
    )
    with pytest.raises(errors.NameClashError, match=r"^Two variables would have the name net/bias"):
        js.tree.update(tree, {"net/bias": 0, "net": {"bias": 0}})
    with pytest.raises(errors.CheckError, match=r"^'net//bias' is not a key of params"):
        js.tree.update(tree, {"net//bias": 0})
    for trees in ((tree, 3), (3, tree)):
        with pytest.raises(errors.TreeTypeError, match=r"^The tree must be a nested mapping"):
            js.tree.update(*trees)  # type: ignore[call-overload]
    with pytest.raises(errors.ArgumentError, match=r"^The new must be True or False, got 'yes'"):
        js.tree.update(tree, new="yes")  # type: ignore[call-overload]


def test_merge_of_nothing_is_empty() -> None:
    assert js.tree.merge() == {}
    assert js.tree.merge(TREE) == TREE
    assert isinstance(js.tree.merge(TREE), js.Params)


def test_structures_keep_their_types() -> None:
    leaf = jnp.ones(2)
    nested = {"a": {"w": leaf}, "b": {}, "n": None}
    trees: list[Any] = [
        nested,
        js.Params(nested),
        FrozenDict(nested),
        (nested, [js.Params(nested)]),
    ]
    for tree in trees:
        for same in (
            js.tree.mask(tree, "a"),
            js.tree.labels(tree, {"a": "x"}),
            js.tree.map_with_name(lambda name, x: (x * 2).sum(), tree),
        ):
            assert jax.tree.structure(same) == jax.tree.structure(tree)
    # JAX knows nothing of these, so they become what it knows.
    proxy = MappingProxyType({"a": MappingProxyType({"w": leaf})})
    assert js.tree.mask(proxy, "a") == js.Params({"a": {"w": True}})
    assert js.tree.mask([proxy], "a") == [js.Params({"a": {"w": True}})]
    assert js.tree.flatten(js.tree.select(proxy, "a")) == {"a/w": leaf}


def test_names_in_other_pytrees_are_those_of_the_innermost_mapping() -> None:
    tree = ({"a": {"w": 1}}, [{"a": [2, {"v": 3}]}], 4, {"m": optax.EmptyState()})
    named = js.tree.map_with_name(lambda name, leaf: (name, leaf), tree)
    assert named == (
        {"a": {"w": ("a/w", 1)}},
        [{"a": [("a/0", 2), {"v": ("a/1/v", 3)}]}],
        ("", 4),
        {"m": optax.EmptyState()},
    )
    assert js.tree.mask({1: {"w": 5}}, "1/w") == {1: {"w": True}}
    assert js.tree.mask((1, {"a": 2}), "*") == (False, {"a": True})
    assert js.tree.mask((1, {"a": 2}), "") == (True, {"a": True})


def test_rename_takes_scopes_variables_and_regular_expressions() -> None:
    tree = {"q": {"w": 1, "b": 2}, "q_1": {"w": 3}, "layer_0": {"k": 4}, "layer_12": {"k": 5}}
    assert js.tree.rename(tree, {"q": "target_q", "q_1/w": "v"}) == {
        "target_q": {"w": 1, "b": 2},
        "v": 3,
        "layer_0": {"k": 4},
        "layer_12": {"k": 5},
    }
    layers = js.tree.rename(tree, {re.compile(r"^layer_(\d+)/k"): r"block/\1/kernel"})
    assert layers["block"] == {"0": {"kernel": 4}, "12": {"kernel": 5}}
    upper = {re.compile("_(.)"): lambda match: match[1].upper()}
    assert list(js.tree.rename(tree, upper)) == ["q", "q1", "layer0", "layer12"]
    assert js.tree.rename(tree, {"q/": "t/"})["t"] == {"w": 1, "b": 2}
    assert js.tree.rename(tree, {"layer_0": "q"})["q"] == {"w": 1, "b": 2, "k": 4}
    assert js.tree.rename(tree, {"q/w": "q/b", "q/b": "q/w"})["q"] == {"b": 1, "w": 2}
    assert js.tree.rename(tree, {}) == tree
    assert js.tree.rename(tree, {"nothing": "at all"}, allow_empty=True) == tree


def test_the_first_name_that_matches_is_the_one_renamed() -> None:
    tree = {"a": {"b": {"w": 1}, "c": {"w": 2}}}
    renamed = js.tree.rename(tree, {"a/b": "x", "a": "y"})
    assert renamed == {"x": {"w": 1}, "y": {"c": {"w": 2}}}


def test_sizes_are_those_of_the_arrays() -> None:
    tree = {
        "a": jnp.ones([3, 4], jnp.bfloat16),
        "b": {"c": np.ones([2], np.float64), "d": jax.ShapeDtypeStruct((5,), jnp.int8)},
        "scalars": [1.0, 2, True, np.float64(3), 2**70],
        "key": jax.random.key(0),
        "none": {},
    }
    assert js.tree.count(tree) == 12 + 2 + 5 + 5 + 1
    assert js.tree.nbytes(tree) == 24 + 16 + 5 + (4 + 4 + 1 + 8 + 4) + 8
    assert js.tree.count({}) == js.tree.nbytes({}) == 0
    assert js.tree.count(jnp.ones([2, 3])) == 6
    opt_state = optax.adam(0.1).init(js.Params({"w": jnp.ones([10])}))
    assert js.tree.count(opt_state) == 21
    assert jax.jit(lambda tree: jnp.zeros(js.tree.count(tree)))({"w": jnp.ones([3])}).shape == (3,)


def dense(x: jax.Array, units: int, name: str) -> jax.Array:
    with js.variable_scope(name):
        kernel = js.get_variable("kernel", [x.shape[-1], units])
        bias = js.get_variable("bias", [units], initializer=jax.nn.initializers.zeros)
    return x @ kernel + bias[None]


def norm(x: jax.Array, name: str) -> jax.Array:
    with js.variable_scope(name):
        scale = js.get_variable("scale", [x.shape[-1]], initializer=jax.nn.initializers.ones)
        js.get_variable("mean", [x.shape[-1]], trainable=False)
    return x * scale[None]


def model(x: jax.Array) -> jax.Array:
    for index in range(3):
        with js.variable_scope(f"layer_{index}"):
            x = jnp.tanh(norm(dense(x, 3, "dense"), "norm"))
    return dense(x, 1, "head")


BATCH = jnp.array([[0.5, -1.0, 2.0], [1.0, 0.1, -0.3]])


def test_parts_of_specs_are_specs() -> None:
    specs = js.transform_with_state(model).specs(BATCH)
    assert js.tree.flatten(specs) == dict(specs)
    kernels = js.tree.select(specs, "**/kernel")
    assert isinstance(kernels, js.Specs)
    assert list(kernels) == [*(f"layer_{i}/dense/kernel" for i in range(3)), "head/kernel"]
    trainable, state = js.tree.partition(specs, lambda name, spec: spec.trainable)
    assert isinstance(state, js.Specs)
    assert list(state) == [f"layer_{i}/norm/mean" for i in range(3)]
    chex.assert_trees_all_equal(trainable.params(), specs.params())
    merged = js.tree.merge(trainable, state)
    assert isinstance(merged, js.Specs)
    assert dict(merged) == dict(specs)
    renamed = js.tree.rename(specs, {"head": "score/head"})
    assert isinstance(renamed, js.Specs)
    assert renamed["score/head/kernel"].name == "score/head/kernel"
    assert renamed["score/head/kernel"].sites == specs["head/kernel"].sites
    assert js.tree.count(specs) == 3 * (9 + 3 + 3 + 3) + 4
    assert js.tree.nbytes(specs) == 4 * js.tree.count(specs)


def test_masks_of_specs_are_those_of_params() -> None:
    net = js.without_apply_rng(js.transform(lambda x: dense(x, 1, "head")))
    specs, params = net.specs(BATCH), net.init(0, BATCH)
    assert js.tree.mask(specs, "**/bias") == js.tree.mask(params, "**/bias")
    assert js.tree.labels(specs, {"head": 1}) == {"head": {"kernel": 1, "bias": 1}}
    shapes = js.tree.map_with_name(lambda name, spec: (name, spec.shape), specs)
    assert shapes == {"head": {"kernel": ("head/kernel", (3, 1)), "bias": ("head/bias", (1,))}}
    assert js.tree.unflatten(specs)["head"]["bias"] is specs["head/bias"]


def params_of(fn: Callable[..., Any]) -> js.Params:
    return js.transform_with_state(fn).init(0, BATCH)[0]


def changed(before: Any, after: Any) -> set[str]:
    """The names whose values differ."""
    old, new = js.tree.flatten(before), js.tree.flatten(after)
    assert old.keys() == new.keys()
    return {name for name in old if not np.array_equal(old[name], new[name])}


NO_DECAY = ("**/bias", "**/norm/*")


@pytest.mark.parametrize(
    "mask",
    [
        lambda p: js.tree.mask(p, "**/kernel"),
        lambda p: js.tree.mask(p, lambda name, leaf: leaf.ndim > 1),
        lambda p: jax.tree.map(operator.not_, js.tree.mask(p, NO_DECAY)),
    ],
    ids=["kernels", "by rank", "not biases and norms"],
)
def test_weight_decay_skips_biases_and_norms(mask: Callable[[Any], Any]) -> None:
    params = params_of(model)
    zeros = jax.tree.map(jnp.zeros_like, params)
    for given_mask in (mask, mask(params)):
        decay = optax.masked(optax.add_decayed_weights(0.5), given_mask)
        updates, _ = jax.jit(decay.update)(zeros, decay.init(params), params)
        assert isinstance(updates, js.Params)
        kernels = {name for name in js.tree.flatten(params) if name.endswith("kernel")}
        assert changed(zeros, updates) == kernels
        chex.assert_trees_all_close(updates["head"]["kernel"], 0.5 * params["head"]["kernel"])


def test_layers_learn_at_their_own_rates() -> None:
    params = params_of(model)
    rates = {"layer_0": 0.1, "layer_1": 0.2, "layer_2": 0.4}
    labels = js.tree.labels(params, {name: name for name in rates}, default="rest")
    transforms = {name: optax.sgd(rate) for name, rate in rates.items()}
    tx = optax.multi_transform({**transforms, "rest": optax.sgd(1.0)}, labels)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = jax.jit(tx.update)(ones, tx.init(params), params)
    for name, update in js.tree.flatten(updates).items():
        np.testing.assert_allclose(update, -rates.get(name.partition("/")[0], 1.0), rtol=1e-6)


def test_a_frozen_scope_does_not_move_and_has_no_moments() -> None:
    net = js.transform_with_state(model)
    params, state = net.init(0, BATCH)
    tx = optax.multi_transform(
        {"frozen": optax.set_to_zero(), "trained": optax.sgd(0.1, momentum=0.9)},
        lambda p: js.tree.labels(p, {"layer_[01]/**": "frozen"}, default="trained"),
    )

    @jax.jit
    def step(params: Any, opt_state: Any) -> Any:
        grads = jax.grad(lambda p: net.apply(p, state, None, BATCH)[0].sum())(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    before, opt_state = params, tx.init(params)
    for _ in range(3):
        params, opt_state = step(params, opt_state)
    trained = js.tree.select(before, ["layer_2", "head"])
    assert changed(before, params) == js.tree.flatten(trained).keys()
    assert js.tree.count(opt_state) == js.tree.count(trained)


def gan(noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    with js.variable_scope("generator"):
        fake = dense(noise, 3, "out")
    with js.variable_scope("discriminator", reuse=js.AUTO_REUSE):
        return dense(fake, 1, "score").mean(), dense(BATCH, 1, "score").mean()


def test_two_optimizers_train_the_two_sides_of_a_gan() -> None:
    net = js.without_apply_rng(js.transform(gan))
    before = net.init(0, BATCH)
    gen, disc, rest = js.tree.partition(before, "generator", "discriminator")
    assert rest == {}
    gen_tx, disc_tx = optax.sgd(0.1, momentum=0.9), optax.sgd(0.2)
    gen_state, disc_state = gen_tx.init(gen), disc_tx.init(disc)

    def gen_loss(gen: Any, disc: Any) -> jax.Array:
        return -net.apply(js.tree.merge(gen, disc), BATCH)[0]

    def disc_loss(disc: Any, gen: Any) -> jax.Array:
        fake, real = net.apply(js.tree.merge(gen, disc), BATCH)
        return fake - real

    @jax.jit
    def step(disc: Any, disc_state: Any, gen: Any) -> Any:
        updates, disc_state = disc_tx.update(jax.grad(disc_loss)(disc, gen), disc_state)
        return optax.apply_updates(disc, updates), disc_state

    disc, disc_state = step(disc, disc_state, gen)
    after = js.tree.merge(gen, disc)
    assert changed(before, after) == {"discriminator/score/kernel"}  # the biases cancel out
    updates, gen_state = gen_tx.update(jax.grad(gen_loss)(gen, disc), gen_state)
    gen = optax.apply_updates(gen, updates)
    assert changed(after, js.tree.merge(gen, disc)) == {
        "generator/out/kernel",
        "generator/out/bias",
    }
    assert js.tree.count(gen_state) == js.tree.count(gen)


def agent(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    with js.variable_scope("q"):
        q = dense(x, 2, "out")
    with js.variable_scope("target_q"):
        return q, dense(x, 2, "out")


def test_a_target_network_starts_equal_and_follows_by_polyak_averaging() -> None:
    net = js.without_apply_rng(js.transform(agent))
    q, rest = js.tree.partition(net.init(0, BATCH), "q")
    assert list(rest) == ["target_q"]  # a scope, whole; not by the text of its name
    params = js.tree.merge(q, js.tree.rename(q, {"q": "target_q"}))
    js.check(params, net.specs(BATCH))
    np.testing.assert_array_equal(*net.apply(params, BATCH))

    @jax.jit
    def follow(params: Any) -> js.Params:
        q, target = js.tree.partition(params, "q")
        now = js.tree.rename(q, {"q": "target_q"})
        return js.tree.merge(q, optax.incremental_update(now, target, 0.25))

    moved = js.Params({**params, "q": jax.tree.map(lambda x: x + 1, params["q"])})
    followed = follow(moved)
    assert changed(moved, followed) == {"target_q/out/kernel", "target_q/out/bias"}
    chex.assert_trees_all_close(
        followed["target_q"], jax.tree.map(lambda x: x + 0.25, params["q"]), rtol=1e-6
    )


def optimizers(params: js.Params) -> dict[str, optax.GradientTransformation]:
    labels = js.tree.labels(params, {"head": "fast"}, default="slow")
    return {
        "adamw": optax.adamw(0.1, mask=lambda p: js.tree.mask(p, "**/kernel")),
        "sgd": optax.sgd(0.1, momentum=0.9),
        "chain": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1), optax.ema(0.9)),
        "named_chain": optax.named_chain(("first", optax.adam(0.1)), ("then", optax.ema(0.9))),
        "multi_transform": optax.multi_transform(
            {"fast": optax.adam(0.1), "slow": optax.sgd(0.1, momentum=0.9)}, labels
        ),
        "inject": optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    }


@pytest.mark.parametrize("name", optimizers(params_of(model)))
@pytest.mark.parametrize("kind", [js.Params, dict])
def test_leaves_of_an_optimizer_have_the_names_of_their_variables(name: str, kind: Any) -> None:
    params = params_of(model) if kind is js.Params else params_of(model).to_dict()
    opt_state = optimizers(params)[name].init(params)
    shapes = {name: leaf.shape for name, leaf in js.tree.flatten(params).items()}
    seen = set()

    def check(name: str, leaf: jax.Array) -> jax.Array:
        seen.add(name)
        assert leaf.shape == shapes.get(name, ())
        return leaf

    again = js.tree.map_with_name(check, opt_state)
    assert jax.tree.structure(again) == jax.tree.structure(opt_state)
    assert (
        shapes.keys()
        <= seen
        <= shapes.keys() | {"", "learning_rate", "b1", "b2", "eps", "eps_root"}
    )
    heads = jax.tree.leaves(js.tree.mask(opt_state, "head"))
    assert 0 < sum(heads) < len(heads)
    labels = js.tree.labels(opt_state, {"head": "a", "layer_*/**": "b"}, default="c")
    assert jax.tree.structure(labels) == jax.tree.structure(opt_state)


def test_the_moments_of_one_scope_can_be_looked_at_and_reset() -> None:
    params = params_of(model)
    tx = optax.sgd(0.1, momentum=0.9)
    _, opt_state = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params))
    moments = js.tree.select(opt_state[0].trace, "head")
    assert js.tree.flatten(moments).keys() == {"head/bias", "head/kernel"}
    head = js.tree.mask(opt_state, "head")
    reset = jax.tree.map(lambda m, hit: jnp.zeros_like(m) if hit else m, opt_state, head)
    assert changed(opt_state[0].trace, reset[0].trace) == {"head/bias", "head/kernel"}


X = jnp.array([0.5, -1.0, 2.0])


def block(x: jax.Array) -> jax.Array:
    with js.variable_scope("inner"):
        x = x * js.get_variable("w", [3])
    return jnp.tanh(x + js.get_variable("b", [3]))


def by_loop(x: jax.Array) -> jax.Array:
    scale = js.get_variable("scale", [3])
    with js.variable_scope("net"):
        for i in range(12):
            with js.variable_scope(f"layer_{i}"):
                x = block(x)
    return x * scale


def by_stack(x: jax.Array) -> jax.Array:
    scale = js.get_variable("scale", [3])
    with js.variable_scope("net"):
        x = js.layer_stack(12)(block)(x)
    return x * scale


def test_params_move_between_the_loop_and_the_stack_both_ways() -> None:
    loop, stack = js.transform(by_loop), js.transform(by_stack)
    params = loop.init(0, X)
    stacked = js.tree.stack_layers(params)
    js.check(stacked, stack.specs(X))
    chex.assert_trees_all_close(
        stack.apply(stacked, None, X), loop.apply(params, None, X), rtol=1e-5
    )
    back = js.tree.unstack_layers(stacked, "net")
    assert list(js.tree.flatten(back)) == list(js.tree.flatten(params))
    chex.assert_trees_all_equal(back, params)
    assert js.tree.stack_layers(back, "net") is not None
    chex.assert_trees_all_equal(js.tree.stack_layers(back, "net"), stacked)
    specs = js.tree.stack_layers(loop.specs(X).params())
    js.check(stacked, specs)
    js.check(back, js.tree.unstack_layers(specs, "net"))


def test_gradients_move_too_and_under_jit() -> None:
    loop, stack = js.transform(by_loop), js.transform(by_stack)
    params = loop.init(0, X)
    gradient = jax.grad(lambda p: loop.apply(p, None, X).sum())(params)
    through = jax.jit(jax.grad(lambda p: stack.apply(js.tree.stack_layers(p), None, X).sum()))
    chex.assert_trees_all_close(through(params), gradient, rtol=1e-4, atol=1e-6)


def test_nested_layers_become_nested_stacks() -> None:
    def fn(x: jax.Array) -> jax.Array:
        for i in range(2):
            for j in range(3):
                with js.variable_scope(f"outer_{i}/layer_{j}"):
                    x = x * js.get_variable("w", [3])
        return x

    params = js.transform(fn).init(0, X)
    inner = js.tree.stack_layers(params)
    assert repr(inner) == (
        "Params({'outer_0': {'w': float32[3,3]}, 'outer_1': {'w': float32[3,3]}})"
    )
    nested = js.tree.stack_layers(inner, name="outer")
    assert nested["w"].shape == (2, 3, 3)
    chex.assert_trees_all_equal(nested["w"][1, 2], params["outer_1"]["layer_2"]["w"])
    apart = js.tree.unstack_layers(nested, name="outer")
    chex.assert_trees_all_equal(apart, inner)
    again = js.tree.unstack_layers(apart, "outer_0")
    chex.assert_trees_all_equal(again["outer_0"], params["outer_0"])


def test_only_the_scope_asked_for_is_stacked() -> None:
    tree = {"a": {"layer_0": {"w": np.ones(2)}}, "b": {"layer_0": {"w": np.ones(2)}}, "v": 1.0}
    stacked = js.tree.stack_layers(tree, "a")
    assert list(js.tree.flatten(stacked)) == ["a/w", "b/layer_0/w", "v"]
    assert stacked["a"]["w"].shape == (1, 2)


W = np.ones(2)
NET = {
    "generator": {"dense": {"kernel": 1.0, "bias": 2.0}, "out": {"kernel": 3.0}},
    "disc": {"layer_0": {"w": 1.0}, "layer_1": {"w": 2.0}},
    "step": 0,
}
FIRST = "'generator/dense/kernel', 'generator/dense/bias', 'generator/out/kernel'"
PATH = "  fix:    a path is matched from the root, by whole components"
GLOB = "  fix:    a glob is matched with the whole name, and * stays within one component"
ALLOW = " Pass allow_empty=True to allow an empty result."
NOT_A_PATTERN = (
    "The pattern must be a path, a glob, a compiled regular expression of text, a function of "
    "(name, leaf), or a list of these, got "
)
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "a function of the name alone": (
        lambda: js.tree.select(NET, str.isidentifier),
        errors.ArgumentError,
        f"{NOT_A_PATTERN}<method 'isidentifier' of 'str' objects> of type method_descriptor.",
    ),
    "a path by its text": (
        lambda: js.tree.select(NET, "gen"),
        errors.EmptySelectionError,
        f"The pattern 'gen' selects nothing among the tree's 6 names.\n"
        f"  near:   {FIRST}\n{PATH}: 'gen*/**' selects these.{ALLOW}",
    ),
    "a misspelt path": (
        lambda: js.tree.mask(NET, "generatr"),
        errors.EmptySelectionError,
        f"The pattern 'generatr' selects nothing among the tree's 6 names.\n"
        f"  near:   'generator', 'generator/out', 'generator/dense'\n{PATH}.{ALLOW}",
    ),
    "a variable that is deeper": (
        lambda: js.tree.partition(NET, "kernel"),
        errors.EmptySelectionError,
        "The pattern 'kernel' selects nothing among the tree's 6 names.\n"
        "  near:   'generator/dense/kernel', 'generator/out/kernel'\n"
        f"{PATH}: '**/kernel' selects these.{ALLOW}",
    ),
    "a scope that is deeper": (
        lambda: js.tree.labels(NET, {"dense": 1}, default=0),
        errors.EmptySelectionError,
        "The pattern 'dense' selects nothing among the tree's 6 names.\n"
        "  near:   'generator/dense/bias', 'generator/dense/kernel'\n"
        f"{PATH}: '**/dense/**' selects these.{ALLOW}",
    ),
    "a path with a slash before it": (
        lambda: js.tree.select({"net": {"w": W}}, "/net"),
        errors.EmptySelectionError,
        "The pattern '/net' selects nothing among the tree's 1 name.\n"
        f"  near:   'net/w'\n{PATH}: 'net/**' selects these.{ALLOW}",
    ),
    "a path that is like nothing": (
        lambda: js.tree.rename(NET, {"q": "target_q"}),
        errors.EmptySelectionError,
        "The pattern 'q' selects nothing among the tree's 6 names.\n"
        f"  names:  {FIRST}, ... (6 in all)\n{PATH}.{ALLOW}",
    ),
    "a glob of too few components": (
        lambda: js.tree.select(NET, "*/bias"),
        errors.EmptySelectionError,
        "The pattern '*/bias' selects nothing among the tree's 6 names.\n"
        f"  near:   'generator/dense/bias'\n{GLOB}: '**/bias' selects these.{ALLOW}",
    ),
    "a glob of scopes": (
        lambda: js.tree.select(NET, "disc/layer_*"),
        errors.EmptySelectionError,
        "The pattern 'disc/layer_*' selects nothing among the tree's 6 names.\n"
        "  near:   'disc/layer_0/w', 'disc/layer_1/w'\n"
        f"{GLOB}: 'disc/layer_*/**' selects these.{ALLOW}",
    ),
    "a regular expression": (
        lambda: js.tree.select(NET, re.compile("Generator")),
        errors.EmptySelectionError,
        "The pattern re.compile('Generator') selects nothing among the tree's 6 names.\n"
        f"  names:  {FIRST}, ... (6 in all)\n"
        f"  fix:    a regular expression is searched in the full name.{ALLOW}",
    ),
    "a function": (
        lambda: js.tree.select({"w": 2}, is_odd),
        errors.EmptySelectionError,
        "The pattern is_odd (a function) selects nothing among the tree's 1 name.\n"
        "  names:  'w'\n"
        "  fix:    a function is called with (name, leaf) and selects where it returns True."
        f"{ALLOW}",
    ),
    "an empty list": (
        lambda: js.tree.select({"w": 2}, []),
        errors.EmptySelectionError,
        "The pattern [] selects nothing among the tree's 1 name.\n"
        "  names:  'w'\n"
        "  fix:    a list selects what any of its patterns does, and this one is empty."
        f"{ALLOW}",
    ),
    "one of a list": (
        lambda: js.tree.mask(NET, ["disc", "dics"]),
        errors.EmptySelectionError,
        "The pattern 'dics' selects nothing among the tree's 6 names.\n"
        f"  near:   'disc'\n{PATH}.{ALLOW}",
    ),
    "nothing to select from": (
        lambda: js.tree.select({"a": {}}, ""),
        errors.EmptySelectionError,
        f"The pattern '' selects nothing: the tree is empty.\n{PATH}.{ALLOW}",
    ),
    "nothing left to select": (
        lambda: js.tree.partition(NET, "disc", ["disc/layer_0", re.compile("layer_1")]),
        errors.EmptySelectionError,
        "The pattern ['disc/layer_0', re.compile('layer_1')] selects nothing that the patterns "
        "before it leave.\n"
        "  taken:  'disc/layer_0/w', 'disc/layer_1/w'\n"
        "  fix:    the first pattern that matches takes a name: put the narrower pattern first."
        f"{ALLOW}",
    ),
    "no pattern": (
        lambda: js.tree.select(NET, 3),
        errors.ArgumentError,
        NOT_A_PATTERN + "3 of type int.",
    ),
    "no text": (
        lambda: js.tree.mask(NET, b"disc"),
        errors.ArgumentError,
        NOT_A_PATTERN + "b'disc' of type bytes.",
    ),
    "a regular expression of bytes": (
        lambda: js.tree.mask(NET, re.compile(b"disc")),
        errors.ArgumentError,
        NOT_A_PATTERN + "re.compile(b'disc') of type Pattern.",
    ),
    "no tree": (
        lambda: js.tree.select((1, 2), ""),
        errors.TreeTypeError,
        "The tree must be a nested mapping of names to arrays, got tuple.\n"
        "  fix:    pass params, state, gradients or specs, or such a mapping inside it, as "
        "opt_state[0].mu; mask, labels, map_with_name, count and nbytes take any pytree.",
    ),
    "a name in two trees": (
        lambda: js.tree.merge({"a": {"w": 1}}, {"b": 1}, {"a": {"w": 1}}),
        errors.NameClashError,
        "Two variables would have the name a/w.\n"
        "  first:  a/w in trees[0]\n"
        "  again:  a/w in trees[2]\n"
        "  fix:    rename or leave out one of the two.",
    ),
    "a variable and a scope": (
        lambda: js.tree.merge({"a": {"b": {"w": 1}}}, {"a": {"b": 1}}),
        errors.NameClashError,
        "Variable a/b/w cannot be made: a/b would be a variable and also the scope of a/b/w.\n"
        "  first:  a/b in trees[1]\n"
        "  again:  a/b/w in trees[0]\n"
        "  fix:    rename or leave out one of the two.",
    ),
    "a key that is a scope of another": (
        lambda: js.tree.unflatten({"a/b": 1, "a": 2}),
        errors.NameClashError,
        "Variable a/b cannot be made: a would be a variable and also the scope of a/b.\n"
        "  first:  the key 'a'\n"
        "  again:  the key 'a/b'\n"
        "  fix:    rename or leave out one of the two.",
    ),
    "a new name that is taken": (
        lambda: js.tree.rename(NET, {"disc/layer_0": "disc/layer_1"}),
        errors.NameClashError,
        "Two variables would have the name disc/layer_1/w.\n"
        "  first:  disc/layer_1/w, renamed from disc/layer_0/w\n"
        "  again:  disc/layer_1/w, not renamed\n"
        "  fix:    rename or leave out one of the two.",
    ),
    "a new name that is a scope": (
        lambda: js.tree.rename(NET, {"step": "disc"}),
        errors.NameClashError,
        "Variable disc/layer_0/w cannot be made: disc would be a variable and also the scope of "
        "disc/layer_0/w.\n"
        "  first:  disc, renamed from step\n"
        "  again:  disc/layer_0/w, not renamed\n"
        "  fix:    rename or leave out one of the two.",
    ),
    "a new name that is none": (
        lambda: js.tree.rename(NET, {"step": "a//b"}),
        errors.InvalidNameError,
        "'a//b' is not a valid variable name: it has an empty component.\n"
        "  fix:    use letters, digits and _ . \\ > - , with single slashes between components.",
    ),
    "an old name that is a glob": (
        lambda: js.tree.rename(NET, {"**/w": "v"}),
        errors.ArgumentError,
        "The old name must be a path or a compiled regular expression, got '**/w' of type str.",
    ),
    "a new name that is no text": (
        lambda: js.tree.rename(NET, {"disc": 3}),
        errors.ArgumentError,
        "The new name must be a string, as in {'q': 'target_q'}, got 3 of type int.",
    ),
    "names that are no mapping": (
        lambda: js.tree.rename(NET, "disc"),
        errors.ArgumentError,
        "The names must be a mapping of old paths to new ones, got 'disc' of type str.",
    ),
    "an old name that an earlier one takes": (
        lambda: js.tree.rename(NET, {"disc": "d", "disc/layer_0": "e"}),
        errors.EmptySelectionError,
        "The pattern 'disc/layer_0' selects nothing that the patterns before it leave.\n"
        "  taken:  'disc/layer_0/w'\n"
        "  fix:    the first pattern that matches takes a name: put the narrower pattern first."
        f"{ALLOW}",
    ),
    "two labels": (
        lambda: js.tree.labels(NET, {"disc": "slow", is_odd: "odd"}),
        errors.LabelError,
        "Two patterns give disc/layer_0/w different labels.\n"
        "  first:  'disc' gives 'slow'\n"
        "  again:  is_odd (a function) gives 'odd'\n"
        "  fix:    narrow one of the patterns, so that no name has two labels.",
    ),
    "no label": (
        lambda: js.tree.labels(NET, {"disc": "slow"}),
        errors.LabelError,
        "No pattern gives generator/dense/bias a label, nor 3 more.\n"
        "  names:  'generator/dense/bias', 'generator/dense/kernel', 'generator/out/kernel', "
        "... (4 in all)\n"
        "  fix:    add a pattern that selects what is left, or pass default=.",
    ),
    "one without a label": (
        lambda: js.tree.labels(NET, {"disc": "slow", "generator": "slow"}),
        errors.LabelError,
        "No pattern gives step a label.\n"
        "  fix:    add a pattern that selects what is left, or pass default=.",
    ),
    "a label that is None": (
        lambda: js.tree.labels(NET, {"disc": "slow"}, default=None),
        errors.ArgumentError,
        "The label must be anything but None, which JAX takes for no leaf, got None of type "
        "NoneType.",
    ),
    "labels that are no mapping": (
        lambda: js.tree.labels(NET, ["disc"]),
        errors.ArgumentError,
        "The patterns must be a mapping of patterns to labels, got ['disc'] of type list.",
    ),
    "the size of text": (
        lambda: js.tree.nbytes({"a": {"w": "text"}}),
        errors.TreeTypeError,
        "The value of 'a/w' has no size: it is not an array but str.\n"
        "  fix:    give a tree of arrays, numbers or specs.",
    ),
    "no layers": (
        lambda: js.tree.stack_layers({"a": {"w": W}}, "a"),
        errors.EmptySelectionError,
        "There are no layers layer_0, layer_1, ... in the scope 'a'.\n"
        "  fix:    give the name that the scopes of the layers share, name='layer'.",
    ),
    "no such scope": (
        lambda: js.tree.unstack_layers({"blocks": {"w": W}}, "block"),
        errors.EmptySelectionError,
        "There are no variables in the scope 'block'.\n"
        "  near:   'blocks'\n"
        "  fix:    give the full name of a scope, such as 'net/blocks'.",
    ),
    "an empty tree": (
        lambda: js.tree.unstack_layers({}),
        errors.EmptySelectionError,
        "There are no variables in the scope ''.\n"
        "  fix:    give the full name of a scope, such as 'net/blocks'.",
    ),
    "a gap": (
        lambda: js.tree.stack_layers({"layer_0": {"w": W}, "layer_2": {"w": W}}),
        errors.LayersError,
        "The layers of scope '' are layer_0, layer_2, which is not 0 to 1.\n"
        "  fix:    number layers from 0, with no gaps and no leading zeros.",
    ),
    "other names": (
        lambda: js.tree.stack_layers({"layer_0": {"w": W}, "layer_1": {"v": W}}),
        errors.LayersError,
        "The layers of scope '' differ: v is missing in layer_0 and float64[2] in layer_1.\n"
        "  fix:    layers of one stack have the same names, shapes and dtypes.",
    ),
    "a clash": (
        lambda: js.tree.stack_layers({"a": {"layer_0": {"w": W}, "w": W}}),
        errors.LayersError,
        "The stacked 'w' of scope 'a' would take the name of another variable.\n"
        "  fix:    rename one of them, or move the layers to a scope of their own.",
    ),
    "other axes": (
        lambda: js.tree.unstack_layers({"a": {"w": W, "v": np.ones([3, 2])}}, "a"),
        errors.LayersError,
        "a/w is float64[2] and a/v is float64[3,2]: not a stack of layers with one leading axis.\n"
        "  fix:    give the scope that holds the stack and nothing else.",
    ),
    "a scalar": (
        lambda: js.tree.unstack_layers({"w": np.float32(1)}),
        errors.LayersError,
        "w is float32[] and w is float32[]: not a stack of layers with one leading axis.\n"
        "  fix:    give the scope that holds the stack and nothing else.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused(name: str) -> None:
    call, error, text = REFUSED[name]
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == text
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), vars(again)) == (text, vars(caught.value))


def test_an_empty_selection_tells_what_is_near() -> None:
    with pytest.raises(errors.EmptySelectionError) as caught:
        js.tree.select(NET, "gen")
    assert caught.value.pattern == "gen"
    assert caught.value.near == (
        "generator/dense/kernel",
        "generator/dense/bias",
        "generator/out/kernel",
    )

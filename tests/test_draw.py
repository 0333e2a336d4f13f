"""Randomness: next_rng_key, has_rng; and is_initializing."""

from __future__ import annotations

import pickle
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import _keys, errors


def words() -> jax.Array:
    return jax.random.key_data(js.next_rng_key())


def in_scopes(*names: str) -> Any:
    """The keys drawn in these scopes, in turn."""

    def fn() -> list[jax.Array]:
        keys = []
        for name in names:
            with js.variable_scope(name):
                keys.append(words())
        return keys

    return fn


def drawn(fn: Any, rng: Any = 0) -> list[tuple[int, ...]]:
    return [tuple(key.tolist()) for key in jax.tree.leaves(js.transform(fn).apply({}, rng))]


def test_every_draw_has_its_own_key() -> None:
    keys = drawn(in_scopes("a", "b", "a", "a/b", "b/a", "a", "ab"))
    assert len(set(keys)) == 7


def test_a_key_follows_from_the_scope_and_the_draws_made_in_it() -> None:
    a, b, a1 = drawn(in_scopes("a", "b", "a"))
    assert drawn(in_scopes("a")) == [a]
    assert drawn(in_scopes("c", "a", "c", "b", "d", "a")) == [
        *drawn(in_scopes("c")),
        a,
        drawn(in_scopes("c", "c"))[1],
        b,
        *drawn(in_scopes("d")),
        a1,
    ]


def test_how_a_scope_was_opened_does_not_matter() -> None:
    def jumping() -> Any:
        with js.variable_scope("a") as a, js.variable_scope("b"), js.variable_scope(a):
            return words()

    assert drawn(jumping) == drawn(in_scopes("a"))
    nested = lambda: js.variable_scope("a")(js.variable_scope("b")(words))()  # noqa: E731
    assert drawn(nested) == drawn(in_scopes("a/b"))


def test_the_same_keys_eagerly_and_under_jit() -> None:
    fn = in_scopes("a", "b", "a")
    jitted = jax.jit(js.transform(fn).apply)({}, 5)
    assert [tuple(key.tolist()) for key in jitted] == drawn(fn, 5)


def test_every_kind_of_rng_gives_the_keys_of_its_typed_key() -> None:
    fn = in_scopes("a")
    wanted = drawn(fn, jax.random.key(7))
    assert drawn(fn, 7) == wanted
    assert drawn(fn, np.int32(7)) == wanted
    assert drawn(fn, jax.random.PRNGKey(7)) == wanted
    assert drawn(fn, jax.random.key(8)) != wanted
    key = js.transform(js.next_rng_key).apply({}, jax.random.key(0, impl="rbg"))
    assert str(jax.random.key_impl(key)) == "rbg"


def test_the_derivation_of_keys_is_a_file_format() -> None:
    assert _keys.draw_words("a/b", 3).tolist() == [3342137612, 1327174619]
    key = jax.random.key(0)
    for word in _keys.draw_words("a", 0):
        key = jax.random.fold_in(key, word)
    assert drawn(in_scopes("a")) == [tuple(jax.random.key_data(key).tolist())]
    assert _keys.draw_words("a", 0).tolist() != _keys.words("a").tolist()


def test_without_rng_a_draw_is_an_error() -> None:
    net = js.transform(words)
    line = words.__code__.co_firstlineno + 1
    for call in (lambda: net.init(None), lambda: net.apply({}, None)):
        with pytest.raises(errors.RngError) as caught:
            call()
        assert str(caught.value) == (
            "next_rng_key was called, but rng is None.\n"
            f"  asked:  at tests/test_draw.py:{line} in words\n"
            "  fix:    pass a key, such as jax.random.key(0), as the rng of init or apply; "
            "jscope.has_rng() tells whether there is one."
        )
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(errors.RngError, match=r"^next_rng_key was called, but rng is None"):
        js.without_apply_rng(net).apply({})
    assert len(net.specs()) == 0


def test_has_rng_and_is_initializing() -> None:
    seen: list[tuple[bool, bool]] = []
    net = js.transform(lambda: seen.append((js.has_rng(), js.is_initializing())))
    net.init(0)
    net.init(None)
    net.specs()
    net.apply({}, 0)
    net.apply({}, None)
    assert seen == [(True, True), (False, True), (True, True), (True, False), (False, False)]
    for call in (js.next_rng_key, js.has_rng, js.is_initializing):
        with pytest.raises(errors.NoPassError, match=f"^{call.__name__} was called outside"):
            call()


def dropout_layers(names: tuple[str, ...], x: jax.Array) -> list[jax.Array]:
    masks = []
    for name in names:
        with js.variable_scope(name):
            js.get_variable("w", [4])
            masks.append(jax.random.bernoulli(js.next_rng_key(), 0.5, x.shape))
    return masks


def test_a_new_dropout_leaves_the_masks_of_the_others_unchanged() -> None:
    x = jnp.ones(64)

    def masks(*names: str) -> list[jax.Array]:
        net = js.transform(lambda x: dropout_layers(names, x))
        return net.apply(net.init(0, x), 1, x)

    two = masks("a", "b")
    three = masks("a", "new", "b")
    chex.assert_trees_all_equal(two, [three[0], three[2]])
    assert not jnp.array_equal(two[0], two[1])


def test_an_ensemble_draws_for_each_member() -> None:
    net = js.transform(words)
    keys = jax.vmap(lambda key: net.apply({}, key))(jax.random.split(jax.random.key(0), 3))
    assert len({tuple(key.tolist()) for key in keys}) == 3


def test_a_nested_pass_draws_from_its_own_rng() -> None:
    inner = js.transform(words)

    def outer() -> Any:
        with js.variable_scope("a"):
            return words(), inner.apply({}, 3), words()

    first, other, second = drawn(outer)
    assert [first, second] == drawn(in_scopes("a", "a"))
    assert [other] == drawn(words, 3)


def test_a_computed_initial_value_may_draw() -> None:
    def fn(x: jax.Array) -> jax.Array:
        noise = jax.random.normal(js.next_rng_key(), x.shape)
        return js.get_variable("v", initializer=noise * x)

    net = js.transform(fn)
    params = net.init(3, jnp.ones(4))
    chex.assert_trees_all_equal(params, net.init(3, jnp.ones(4)))
    assert not jnp.array_equal(params["v"], net.init(4, jnp.ones(4))["v"])
    with pytest.raises(errors.RngError, match=r"^next_rng_key was called, but rng is None"):
        net.init(None, jnp.ones(4))

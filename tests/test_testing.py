"""What users' tests are given: it says what differs, and that nothing does."""

from __future__ import annotations

import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest

import jscope as js
from jscope.testing import (
    assert_no_open_scope,
    assert_same_program,
    assert_same_sites,
    assert_specs_equal,
)

X = jnp.ones([2, 3])


def encode(x: jax.Array) -> jax.Array:
    return js.layers.dense(x, 3)


def decode(x: jax.Array) -> jax.Array:
    return js.layers.dense(x, 3)


def autoencode(x: jax.Array) -> jax.Array:
    return decode(encode(x))


def test_equal_specs_are_equal_however_they_are_made() -> None:
    def by_hand(x: jax.Array) -> jax.Array:
        with js.variable_scope("dense"):
            kernel = js.get_variable("kernel", [3, 3])
            return x @ kernel + jnp.broadcast_to(js.get_variable("bias", [3]), [2, 3])

    assert_specs_equal(js.transform(encode).specs(X), js.transform(by_hand).specs(X))


def test_specs_that_differ_are_shown_line_by_line() -> None:
    def other(x: jax.Array) -> None:
        with js.variable_scope("dense"):
            js.get_variable("kernel", [3, 4])
            js.get_variable("bias", [3], collections=["special"])
            js.get_variable("mean", [3], trainable=False)

    with pytest.raises(AssertionError) as caught:
        assert_specs_equal(js.transform_with_state(other).specs(X), js.transform(encode).specs(X))
    assert str(caught.value).splitlines() == [
        "The specs differ (- expected, + found):",
        "- dense/kernel float32[3,3]",
        "+ dense/kernel float32[3,4]",
        "- dense/bias float32[3]",
        "+ dense/bias float32[3], ('special',)",
        "+ dense/mean float32[3], not trainable",
    ]


def test_the_order_of_specs_counts() -> None:
    def swapped(x: jax.Array) -> None:
        js.get_variable("dense/bias", [3])
        js.get_variable("dense/kernel", [3, 3])

    with pytest.raises(AssertionError, match=r"^The specs differ"):
        assert_specs_equal(js.transform(swapped).specs(X), js.transform(encode).specs(X))


def test_an_entry_point_that_numbers_layers_anew_is_seen() -> None:
    whole = js.transform(autoencode).specs(X)
    assert_same_sites(js.transform(encode).specs(X), whole)
    line = decode.__code__.co_firstlineno + 1
    with pytest.raises(
        AssertionError,
        match=rf"(?s)^dense/kernel is made at \S+test_testing.py:{line} in decode, and in the "
        rf"whole at .* in encode < .* in autoencode: give each entry point a scope of its own\.",
    ):
        assert_same_sites(js.transform(decode).specs(X), whole)


def test_who_calls_an_entry_point_does_not_matter_and_nor_does_state() -> None:
    def scoped(x: jax.Array) -> jax.Array:
        with js.variable_scope("decoder"):
            for index in range(2):
                with js.variable_scope(f"layer_{index}"):
                    x = decode(x)
        return x

    def alone(x: jax.Array) -> jax.Array:
        js.get_variable("steps", initializer=0, trainable=False)
        return jnp.tanh(scoped(x))

    whole = js.transform_with_state(lambda x: scoped(encode(x))).specs(X)
    assert_same_sites(js.transform_with_state(alone).specs(X), whole)


def test_a_helper_of_both_does_not_hide_an_entry_point_that_numbers_anew() -> None:
    def layer(x: jax.Array) -> jax.Array:
        with js.variable_scope(None, "layer"):
            return x @ js.get_variable("w", [3, 3])

    def first(x: jax.Array) -> jax.Array:
        return layer(x)

    def second(x: jax.Array) -> jax.Array:
        return layer(x)

    whole = js.transform(lambda x: second(first(x))).specs(X)
    assert_same_sites(js.transform(first).specs(X), whole)
    with pytest.raises(AssertionError, match=r"^layer/w is made at .* in second"):
        assert_same_sites(js.transform(second).specs(X), whole)


def test_a_name_that_the_whole_does_not_have_is_seen() -> None:
    def other(x: jax.Array) -> None:
        js.get_variable("w", [3])

    with pytest.raises(AssertionError, match=r"^w is not in the whole; near: nothing\.$"):
        assert_same_sites(js.transform(other).specs(X), js.transform(encode).specs(X))


def test_programs_are_compared_without_names() -> None:
    def f(x: jax.Array) -> jax.Array:
        with jax.named_scope("here"):
            return jnp.sin(x) * 2

    def g(y: jax.Array) -> jax.Array:
        return jnp.sin(y) * 2

    assert_same_program(f, g, X)
    with pytest.raises(AssertionError, match=r"(?s)^The programs differ:.*\n-.*sine.*\n\+.*cosine"):
        assert_same_program(f, lambda x: jnp.cos(x) * 2, X)


def test_a_scope_that_a_generator_left_open_is_seen() -> None:
    def leaving() -> Iterator[None]:
        def fn() -> None:
            assert_no_open_scope()

        js.transform(fn).init(0)
        yield

    assert_no_open_scope()
    with pytest.raises(AssertionError, match=re.escape("A pass is running, with the scope ''")):
        next(leaving())
    assert_no_open_scope()

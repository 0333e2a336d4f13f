"""Constraints: Keras' values, of the shape and dtype given."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import constraints, errors

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4, 5)), jnp.float32)
ALL = [constraints.max_norm(), constraints.unit_norm(), constraints.non_neg()]
KERNEL = jnp.array([[3.0, 0.0, 0.3], [4.0, 0.0, -0.4]])


def norms(value: Any, axis: Any) -> Any:
    return np.sqrt((np.abs(np.asarray(value)) ** 2).sum(axis))


@pytest.mark.parametrize("axis", [0, 2, -1, (0, 1, 2), [0, 1], (-2, -3), np.int64(1)])
def test_max_norm_bounds_the_norm_over_the_axes(axis: Any) -> None:
    where = tuple(axis) if isinstance(axis, list) else axis
    before = norms(X, where)
    after = norms(js.constraints.max_norm(2.0, axis)(X), where)
    assert (before > 2).any()
    np.testing.assert_allclose(after, np.minimum(before, 2), rtol=1e-5)
    np.testing.assert_allclose(norms(js.constraints.unit_norm(axis)(X), where), 1, rtol=1e-5)


def test_values_are_those_of_the_definition() -> None:
    limited = js.constraints.max_norm(1.0)(KERNEL)
    np.testing.assert_allclose(limited, [[0.6, 0.0, 0.3], [0.8, 0.0, -0.4]], rtol=1e-6)
    unit = js.constraints.unit_norm()(KERNEL)
    np.testing.assert_allclose(unit, [[0.6, 0.0, 0.6], [0.8, 0.0, -0.8]], rtol=1e-6)
    assert js.constraints.non_neg()(KERNEL).tolist() == jnp.maximum(KERNEL, 0.0).tolist()


def test_tiny_norms_feel_the_epsilon_of_keras() -> None:
    tiny = jnp.array([3e-7, 4e-7])
    np.testing.assert_allclose(js.constraints.unit_norm()(tiny), [0.5, 2 / 3], rtol=1e-5)
    np.testing.assert_allclose(js.constraints.max_norm()(tiny), [2.5e-7, 1e-6 / 3], rtol=1e-5)
    np.testing.assert_allclose(js.constraints.max_norm(0)(KERNEL), 0 * KERNEL)


def test_the_defaults_are_those_of_keras() -> None:
    for defaults, given in [
        (js.constraints.max_norm(), js.constraints.max_norm(max_value=2, axis=0)),
        (js.constraints.unit_norm(), js.constraints.unit_norm(axis=0)),
    ]:
        np.testing.assert_array_equal(defaults(X), given(X))


@pytest.mark.parametrize("constraint", ALL, ids=["max_norm", "unit_norm", "non_neg"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float8_e4m3fn"])
@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 4), (0, 3), (3, 0)])
def test_shape_and_dtype_stay(constraint: Any, dtype: str, shape: tuple[int, ...]) -> None:
    value = jax.random.normal(jax.random.key(0), shape).astype(dtype)
    for found in (constraint(value), jax.jit(constraint)(value)):
        assert (found.shape, found.dtype) == (value.shape, value.dtype)
        assert np.isfinite(np.asarray(found, np.float32)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_norms_of_narrow_values_are_computed_in_float32(dtype: str) -> None:
    value = jnp.full([10_000], 60.0, dtype)  # a norm of 6,000, whose square float16 cannot hold
    unit = js.constraints.unit_norm()(value)
    np.testing.assert_allclose(np.asarray(unit, np.float32), 0.01, rtol=0.01)


def test_complex_values_are_scaled_by_their_absolute_value() -> None:
    value = jnp.array([3.0 + 0j, 4j])
    np.testing.assert_allclose(js.constraints.unit_norm()(value), [0.6, 0.8j], rtol=1e-6)
    np.testing.assert_allclose(js.constraints.max_norm(1)(value), [0.6, 0.8j], rtol=1e-6)


def test_non_neg_of_integers_infinities_and_nan() -> None:
    non_neg = js.constraints.non_neg()
    assert non_neg(jnp.array([-1, 0, 2])).tolist() == [0, 0, 2]
    found = non_neg(jnp.array([-jnp.inf, jnp.inf, jnp.nan]))
    np.testing.assert_array_equal(found, [0, jnp.inf, jnp.nan])


@pytest.mark.parametrize("constraint", ALL, ids=["max_norm", "unit_norm", "non_neg"])
def test_constraints_pickle(constraint: Any) -> None:
    again = pickle.loads(pickle.dumps(constraint))
    np.testing.assert_array_equal(again(X), constraint(X))


def test_a_variable_keeps_its_constraint() -> None:
    def program() -> None:
        js.get_variable("w", [3, 4], constraint=js.constraints.max_norm(1.0))

    constraint = js.transform(program).specs()["w"].constraint
    assert constraint is not None
    assert norms(constraint(jnp.ones([3, 4])), 0).max() == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: constraints.max_norm(-1),
            "The max_value must be a finite number, of Python or NumPy, of at least 0, got -1 of type int.",
        ),
        (
            lambda: constraints.max_norm(axis=0.5),  # type: ignore[arg-type]
            "The axis must be an integer, or a list or tuple of them, got 0.5 of type float.",
        ),
        (
            lambda: constraints.unit_norm([0, None]),  # type: ignore[list-item]
            "The axis must be an integer, or a list or tuple of them, got [0, None] of type list.",
        ),
        (
            lambda: constraints.unit_norm(True),
            "The axis must be an integer, or a list or tuple of them, got True of type bool.",
        ),
        (
            lambda: constraints.unit_norm(1)(jnp.ones([3])),
            "The axis must be different axes of the value, which has 1, got 1 of type int.",
        ),
        (
            lambda: constraints.max_norm()(jnp.ones([])),
            "The axis must be different axes of the value, which has 0, got 0 of type int.",
        ),
        (
            lambda: constraints.unit_norm((0, -2))(jnp.ones([3, 3])),
            "The axis must be different axes of the value, which has 2, got (0, -2) of type tuple.",
        ),
        (
            lambda: constraints.unit_norm()(jnp.ones([3], jnp.int32)),
            "The value must be of a floating dtype, got int32[3].",
        ),
        (
            lambda: constraints.non_neg()(jnp.ones([3], jnp.complex64)),
            "The value must be real, got complex64[3].",
        ),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(errors.ArgumentError) as caught:
        call()
    assert str(caught.value) == text

"""Regularizers: TF1's values, in at least float32."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import errors, regularizers

X = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
VECTOR = jnp.array([1.0, -3.0])


def loss(regularizer: Any, value: Any) -> float:
    found = regularizer(value)
    assert found.shape == ()
    return float(found)


def off_diagonal(matrix: Any) -> float:
    """The definition of ``orthogonal``, one pair of columns at a time."""
    columns = matrix.shape[1]
    pairs = [(i, j) for i in range(columns) for j in range(columns) if i != j]
    return math.fsum(abs(np.vdot(matrix[:, i], matrix[:, j])) ** 2 for i, j in pairs)


DEFINITIONS: dict[str, tuple[Any, Callable[[Any], float]]] = {
    "l1": (regularizers.l1(0.5), lambda x: 0.5 * np.abs(x).sum()),
    "l2": (regularizers.l2(0.5), lambda x: 0.25 * (np.abs(x) ** 2).sum()),
    "l1_l2": (
        regularizers.l1_l2(0.5, 2.0),
        lambda x: 0.5 * np.abs(x).sum() + (np.abs(x) ** 2).sum(),
    ),
    "orthogonal": (
        regularizers.orthogonal(0.5),
        lambda x: 0.5 * off_diagonal(x.reshape(-1, x.shape[-1])),
    ),
    "sum": (
        regularizers.sum([regularizers.l1(1), None, regularizers.l1(2)]),
        lambda x: 3 * np.abs(x).sum(),
    ),
}


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("value", [X, X[0, 0], X + 1j * X[::-1]], ids=["conv", "dense", "complex"])
def test_every_regularizer_is_its_definition(name: str, value: np.ndarray[Any, Any]) -> None:
    regularizer, definition = DEFINITIONS[name]
    array = jnp.asarray(value, jnp.complex64 if np.iscomplexobj(value) else jnp.float32)
    assert regularizer(array).dtype == jnp.float32
    assert loss(regularizer, array) == pytest.approx(definition(value), rel=1e-5)
    assert loss(jax.jit(regularizer), array) == pytest.approx(definition(value), rel=1e-5)


def test_l2_is_half_of_the_sum_of_squares_as_in_tf1() -> None:
    assert loss(js.regularizers.l2(0.1), VECTOR) == pytest.approx(0.1 * 10 / 2)
    assert jax.grad(js.regularizers.l2(0.5))(VECTOR).tolist() == [0.5, -1.5]
    assert loss(js.regularizers.l1_l2(), VECTOR) == 4 + 5


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_losses_of_narrow_values_are_float32(name: str, dtype: str) -> None:
    regularizer, definition = DEFINITIONS[name]
    value = jnp.full([300, 40], 3.0, dtype)  # sums of 36,000 to 3e10, past what float16 holds
    found = regularizer(value)
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(definition(np.full([300, 40], 3.0)), rel=1e-5)
    gradient = jax.grad(regularizers.l2(0.5))(value)
    assert gradient.dtype == value.dtype
    np.testing.assert_array_equal(np.asarray(gradient, np.float32), 1.5)


def test_losses_of_integers_are_float32_and_of_doubles_float64() -> None:
    for name in ("l1", "l2", "l1_l2", "orthogonal", "sum"):
        regularizer, definition = DEFINITIONS[name]
        whole = np.arange(-3, 3).reshape(2, 3)
        assert regularizer(jnp.asarray(whole)).dtype == jnp.float32
        assert loss(regularizer, jnp.asarray(whole)) == pytest.approx(definition(whole))
        with jax.enable_x64(True):
            found = regularizer(jnp.asarray(X, jnp.float64))
            assert found.dtype == jnp.float64
            assert float(found) == pytest.approx(definition(X), rel=1e-12)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_regularizers_pickle(name: str) -> None:
    regularizer, _ = DEFINITIONS[name]
    assert loss(pickle.loads(pickle.dumps(regularizer)), X) == loss(regularizer, X)


# orthogonal


def test_orthogonal_is_zero_where_columns_are_orthogonal_whatever_their_norms() -> None:
    penalty = js.regularizers.orthogonal(1.0)
    assert loss(penalty, jnp.array([[2.0, 0.0], [0.0, -5.0], [0.0, 0.0]])) == 0
    assert loss(penalty, js.initializers.orthogonal(jax.random.key(0), (3, 3, 4, 8))) < 1e-10
    assert loss(penalty, jnp.ones([3, 2])) == 2 * 3**2


def test_orthogonal_penalises_columns_and_not_rows() -> None:
    value = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    assert loss(js.regularizers.orthogonal(1.0), value) == 0
    assert loss(js.regularizers.orthogonal(1.0), value.T) == 2


@pytest.mark.parametrize("shape", [(), (4,)])
def test_orthogonal_is_none_for_scalars_and_vectors(shape: tuple[int, ...]) -> None:
    assert js.regularizers.orthogonal(1.0)(jnp.ones(shape)) is None


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_losses_of_empty_values_are_zero(name: str, shape: tuple[int, ...]) -> None:
    assert loss(DEFINITIONS[name][0], jnp.ones(shape)) == 0


def test_the_gradient_of_orthogonal_is_finite_and_right() -> None:
    value = jnp.asarray(X[0, 0], jnp.float32)
    gram = value.T @ value
    expected = 4 * value @ (gram - jnp.diag(jnp.diag(gram)))
    found = jax.grad(js.regularizers.orthogonal(1.0))(value)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# Nothing to add


def test_a_scale_of_zero_is_no_regularizer() -> None:
    for regularizer in (js.regularizers.l1, js.regularizers.l2, js.regularizers.orthogonal):
        assert regularizer(0.0) is js.no_regularizer
    assert js.regularizers.l1_l2(0, 0.0) is js.no_regularizer
    assert loss(js.regularizers.l1_l2(0.0, 2.0), VECTOR) == 10
    assert loss(js.regularizers.l1_l2(2.0, 0.0), VECTOR) == 8


def test_a_sum_leaves_out_what_is_none_and_what_returns_none() -> None:
    l1 = js.regularizers.l1(1.0)
    total = js.regularizers.sum
    assert total() is js.no_regularizer
    assert total([]) is js.no_regularizer
    assert total(None, js.no_regularizer) is js.no_regularizer
    assert total([None, l1]) is l1
    assert loss(total(l1, lambda value: None, [l1, l1]), VECTOR) == 12
    assert total(lambda value: None, js.regularizers.orthogonal(1.0))(VECTOR) is None


def test_zero_switches_the_scopes_regularizer_off() -> None:
    def program() -> None:
        with js.variable_scope("net", regularizer=js.regularizers.l2(1.0)):
            js.get_variable("w", [3])
            js.get_variable("b", [3], regularizer=js.regularizers.l2(0.0))

    specs = js.transform(program).specs()
    regularizer = specs["net/w"].regularizer
    assert regularizer is not None
    assert loss(regularizer, jnp.ones(3)) == 1.5
    assert specs["net/b"].regularizer is None


# Refusals


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: regularizers.l1(-0.5),
            "The scale must be a finite number, of Python or NumPy, of at least 0, got -0.5 of type float.",
        ),
        (
            lambda: regularizers.l2("a"),  # type: ignore[arg-type]
            "The scale must be a finite number, of Python or NumPy, of at least 0, got 'a' of type str.",
        ),
        (
            lambda: regularizers.orthogonal(float("inf")),
            "The scale must be a finite number, of Python or NumPy, of at least 0, got inf of type float.",
        ),
        (
            lambda: regularizers.l1_l2(1.0, -1),
            "The scale_l2 must be a finite number, of Python or NumPy, of at least 0, got -1 of type int.",
        ),
        (
            lambda: regularizers.l2(jnp.ones([])),  # type: ignore[arg-type]
            "The scale must be a finite number, of Python or NumPy, of at least 0, got float32[].",
        ),
        (
            lambda: regularizers.sum(regularizers.l1(1.0), 3),  # type: ignore[arg-type]
            "The regularizers must be functions of the value, or None, got 3 of type int.",
        ),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(errors.ArgumentError) as caught:
        call()
    assert str(caught.value) == text


def test_the_gradient_of_l1_is_the_sign_as_in_tf1() -> None:
    values = jnp.array([-2.0, 0.0, 3.0])
    gradient = jax.grad(js.regularizers.l1(0.5))(values)
    assert gradient.tolist() == [-0.5, 0.0, 0.5]

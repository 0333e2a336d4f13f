"""Initializers: TF1's names, distributions and refusals."""

from __future__ import annotations

import functools
import math
import pickle
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import _program, errors, initializers

KEY = jax.random.key(0)
NAMES = initializers.__all__
FLOATS = ["float16", "bfloat16", "float32"]


def named(name: str) -> Any:
    return getattr(js.initializers, name)


def made(initializer: Any, shape: Any = (4, 6), dtype: Any = jnp.float32) -> jax.Array:
    net = js.transform(lambda: js.get_variable("w", shape, dtype, initializer=initializer))
    value: jax.Array = net.init(0)["w"]
    return value


def sample(initializer: Any, shape: Any, dtype: Any = jnp.float32, least: int = 100_000) -> Any:
    """At least that many values of variables of a shape, as [draws, *shape] of float64."""
    draws = math.ceil(least / max(1, math.prod(shape)))
    draw = jax.jit(jax.vmap(lambda key: initializer(key, shape, dtype)))
    values = draw(jax.random.split(KEY, draws))
    assert (values.shape, values.dtype) == ((draws, *shape), dtype)
    return np.asarray(values, np.float64)


# Names


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_an_initializer_and_called_with_nothing_it_is_itself(name: str) -> None:
    initializer = named(name)
    assert initializer() is initializer
    assert initializer()() is initializer
    value = made(initializer)
    assert (value.shape, value.dtype) == ((4, 6), jnp.dtype("float32"))
    direct = initializer(KEY, (4, 6), jnp.float32)
    chex.assert_trees_all_equal(initializer(KEY, [4, 6]), direct)
    chex.assert_trees_all_equal(initializer(KEY, (4, 6), dtype=jnp.float32), direct)
    narrow = jax.eval_shape(lambda: initializer(KEY, (4, 6), "float16"))
    assert (narrow.shape, narrow.dtype) == ((4, 6), np.float16)
    assert initializer.__name__ == name


WITH_OPTIONS: dict[str, Callable[[], Any]] = {
    "constant": lambda: initializers.constant(2.5),
    "identity": lambda: initializers.identity(gain=2),
    "orthogonal": lambda: initializers.orthogonal(2.0),
    "random_normal": lambda: initializers.random_normal(1.0, 0.5),
    "random_uniform": lambda: initializers.random_uniform(-1, 1),
    "truncated_normal": lambda: initializers.truncated_normal(stddev=0.5),
    "variance_scaling": lambda: initializers.variance_scaling(2.0, "fan_out", "uniform"),
}


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_options_give_an_initializer_with_these_options(name: str) -> None:
    with_options = WITH_OPTIONS[name]()
    assert made(with_options).shape == (4, 6)
    assert not jnp.array_equal(made(with_options), made(named(name)))


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_the_defaults_are_those_of_tf1(name: str) -> None:
    defaults: dict[str, dict[str, Any]] = {
        "constant": {"value": 0},
        "identity": {"gain": 1.0},
        "orthogonal": {"gain": 1.0},
        "random_normal": {"mean": 0.0, "stddev": 1.0},
        "random_uniform": {"minval": 0, "maxval": None},
        "truncated_normal": {"mean": 0.0, "stddev": 1.0},
        "variance_scaling": {
            "scale": 1.0,
            "mode": "fan_in",
            "distribution": "truncated_normal",
        },
    }
    chex.assert_trees_all_equal(made(named(name)(**defaults[name])), made(named(name)))
    chex.assert_trees_all_equal(made(named(name)(*defaults[name].values())), made(named(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_dtype_counts_where_the_call_gives_none(name: str) -> None:
    initializer = named(name)(seed=None, dtype="bfloat16")
    assert initializer(KEY, [4, 6]).dtype == jnp.bfloat16
    chex.assert_trees_all_equal(
        initializer(KEY, (4, 6), jnp.float32), named(name)(KEY, (4, 6), jnp.float32)
    )
    # As in TF1, the variable's dtype, float32 unless somebody says so, has the last word.
    assert made(initializer).dtype == made(initializer, dtype=None).dtype == jnp.float32
    assert made(initializer, dtype=jnp.float16).dtype == jnp.float16
    again = pickle.loads(pickle.dumps(initializer))
    chex.assert_trees_all_equal(made(again), made(initializer))


@pytest.mark.parametrize("name", NAMES)
def test_no_seed_is_needed_and_no_other_is_taken(name: str) -> None:
    assert key_of(named(name)(seed=None, dtype=None)) == key_of(named(name))
    with pytest.raises(errors.ArgumentError) as caught:
        named(name)(seed=3)
    assert str(caught.value) == (
        "The seed must be None, as the key follows from rng and the variable's name, got 3 of "
        "type int."
    )
    with pytest.raises(errors.ArgumentError) as caught:
        named(name)(dtype="flat")
    assert str(caught.value) == "The dtype must be a dtype or None, got 'flat' of type str."


def test_seed_and_dtype_have_their_places_in_tf1() -> None:
    assert initializers.zeros(jnp.int32)(KEY, (2,)).dtype == jnp.int32
    assert initializers.constant(3, jnp.int32)(KEY, (2,)).dtype == jnp.int32
    assert initializers.random_normal(0.0, 1.0, None, jnp.float16)(KEY, (2,)).dtype == jnp.float16
    with pytest.raises(errors.ArgumentError, match=r"^The seed must be None"):
        initializers.truncated_normal(0.0, 0.02, 1234)


def key_of(initializer: Any) -> Any:
    return _program.trace(initializer, (4, 4), np.dtype("float32"), KEY.dtype, {}).key


@pytest.mark.parametrize("initializer", [*map(named, NAMES), *[f() for f in WITH_OPTIONS.values()]])
def test_initializers_pickle(initializer: Any) -> None:
    again = pickle.loads(pickle.dumps(initializer))
    assert key_of(again) == key_of(initializer)
    chex.assert_trees_all_equal(made(again), made(initializer))


@pytest.mark.parametrize("make", WITH_OPTIONS.values(), ids=WITH_OPTIONS)
def test_layers_share_one_sampler(make: Callable[[], Any], compiled: list[Any]) -> None:
    def program() -> None:
        for i in range(5):
            with js.variable_scope(f"layer_{i}"):
                js.get_variable("w", [4, 6], initializer=make())

    js.transform(program).init(0)
    assert len(compiled) == 1
    assert len({key_of(make()) for make in WITH_OPTIONS.values()}) == len(WITH_OPTIONS)


def test_the_default_of_floats_is_glorot_uniform_itself() -> None:
    net = js.transform(lambda: (js.get_variable("w", [4, 6]), js.get_variable("n", [], "int32")))
    specs = net.specs()
    assert specs["w"].initializer is js.initializers.glorot_uniform
    assert specs["n"].initializer is js.initializers.zeros
    chex.assert_trees_all_equal(net.init(0)["w"], made(js.initializers.glorot_uniform))
    chex.assert_trees_all_equal(net.init(0)["w"], made(js.initializers.glorot_uniform()))


def test_an_initial_value_is_pinned() -> None:
    # Initial values are kept between versions: a change here is a breaking change.
    value = made(js.initializers.glorot_uniform, [2])
    chex.assert_trees_all_close(value, jnp.array(PINNED), rtol=1e-6)


PINNED = [0.32876089215278625, -1.0883902311325073]


# Fans, and the distributions of variance_scaling

FANS = [
    ((), 1, 1),
    ((1,), 1, 1),
    ((7,), 7, 7),
    ((4, 6), 4, 6),
    ((6, 4), 6, 4),
    ((5, 2, 3), 10, 15),
    ((3, 3, 8, 16), 72, 144),
    ((2, 2, 2, 3, 5), 24, 40),
]
SCALED = {
    "glorot_uniform": (1.0, "fan_avg", "uniform"),
    "glorot_normal": (1.0, "fan_avg", "truncated_normal"),
    "he_uniform": (2.0, "fan_in", "uniform"),
    "he_normal": (2.0, "fan_in", "truncated_normal"),
    "lecun_uniform": (1.0, "fan_in", "uniform"),
    "lecun_normal": (1.0, "fan_in", "truncated_normal"),
}
TRUNCATED = 0.87962566103423978


def test_the_truncation_correction_is_the_standard_deviation_of_the_truncated_normal() -> None:
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    inside = math.erf(math.sqrt(2))
    assert math.sqrt(1 - 4 * density / inside) == pytest.approx(TRUNCATED, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "shape", "fan_in", "fan_out"),
    [
        *[(name, *fans) for name in ("glorot_uniform", "he_normal") for fans in FANS],
        *[(name, *FANS[4]) for name in SCALED if name not in ("glorot_uniform", "he_normal")],
    ],
)
def test_variances_and_limits_follow_the_fans(
    name: str, shape: tuple[int, ...], fan_in: int, fan_out: int
) -> None:
    scale, mode, distribution = SCALED[name]
    n = {"fan_in": fan_in, "fan_avg": (fan_in + fan_out) / 2}[mode]
    stddev = math.sqrt(scale / n)
    limit = stddev * math.sqrt(3) if distribution == "uniform" else stddev * 2 / TRUNCATED
    values = sample(named(name), shape)
    assert values.std() == pytest.approx(stddev, rel=0.01)
    assert abs(values.mean()) < 0.02 * stddev
    assert 0.99 * limit < np.abs(values).max() <= limit * (1 + 1e-6)


@pytest.mark.parametrize(
    ("mode", "distribution", "reach"),
    [
        ("fan_in", "uniform", math.sqrt(3)),
        ("fan_out", "truncated_normal", 2 / TRUNCATED),
        ("fan_avg", "normal", 2 / TRUNCATED),
        ("fan_avg", "untruncated_normal", None),
        ("fan_out", "Uniform", math.sqrt(3)),
    ],
)
def test_every_mode_and_distribution(mode: str, distribution: str, reach: float | None) -> None:
    initializer = js.initializers.variance_scaling(3.0, mode, distribution)
    n = {"fan_in": 36, "fan_out": 45, "fan_avg": 40.5}[mode]
    stddev = math.sqrt(3.0 / n)
    values = sample(initializer, (3, 3, 4, 5))
    assert values.std() == pytest.approx(stddev, rel=0.01)
    assert abs(values.mean()) < 0.02 * stddev
    if reach is None:
        assert np.abs(values).max() > 3.5 * stddev
        kurtosis = (values**4).mean() / (values**2).mean() ** 2
        assert kurtosis == pytest.approx(3.0, abs=0.1)
    else:
        assert 0.99 * reach * stddev < np.abs(values).max() <= reach * stddev * (1 + 1e-6)


@pytest.mark.parametrize("name", SCALED)
def test_matrices_and_kernels_have_the_values_of_jax(name: str) -> None:
    for shape in [(4, 6), (3, 3, 8, 16)]:
        jaxs = getattr(jax.nn.initializers, name)()(KEY, shape, jnp.float32)
        np.testing.assert_allclose(named(name)(KEY, shape, jnp.float32), jaxs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0, 3)])
def test_empty_shapes_are_made(name: str, shape: tuple[int, ...]) -> None:
    assert made(named(name), shape).shape == shape


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
@pytest.mark.parametrize(("name", "variance"), [("glorot_uniform", 1 / 8), ("he_normal", 2 / 8)])
def test_narrow_floats_have_the_same_variance(name: str, variance: float, dtype: str) -> None:
    values = sample(named(name), (8, 8), jnp.dtype(dtype))
    assert np.isfinite(values).all()
    assert values.var() == pytest.approx(variance, rel=0.05)
    assert abs(values.mean()) < 0.02


# Plain distributions


@pytest.mark.parametrize(("mean", "stddev"), [(0.0, 1.0), (3.0, 0.5), (-1, 2), (0.0, 0)])
def test_random_normal(mean: float, stddev: float) -> None:
    values = sample(js.initializers.random_normal(mean, stddev), (10,))
    assert values.mean() == pytest.approx(mean, abs=0.02 * stddev)
    assert values.std() == pytest.approx(stddev, rel=0.01)
    beyond = (np.abs(values - mean) > 2 * stddev).mean()
    assert beyond == pytest.approx(math.erfc(math.sqrt(2)) if stddev else 0.0, abs=0.003)


def test_random_normal_without_a_mean_is_that_of_jax() -> None:
    ours = js.initializers.random_normal(stddev=0.02)(KEY, (3, 4), jnp.float32)
    chex.assert_trees_all_equal(ours, jax.nn.initializers.normal(0.02)(KEY, (3, 4), jnp.float32))


@pytest.mark.parametrize(("mean", "stddev"), [(0.0, 1.0), (3.0, 0.5), (-1, 2)])
def test_the_stddev_of_truncated_normal_is_the_one_before_truncation(
    mean: float, stddev: float
) -> None:
    values = sample(js.initializers.truncated_normal(mean, stddev), (10,))
    assert values.mean() == pytest.approx(mean, abs=0.02 * stddev)
    assert values.std() == pytest.approx(TRUNCATED * stddev, rel=0.01)
    assert 1.99 * stddev < np.abs(values - mean).max() <= 2 * stddev * (1 + 1e-6)


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [((), 0, 1), ((-0.05, 0.05), -0.05, 0.05), ((2, 5), 2, 5), ((-1,), -1, 1), ((3, 3), 3, 3)],
)
def test_random_uniform(given: tuple[float, ...], low: float, high: float) -> None:
    values = sample(js.initializers.random_uniform(*given), (10,))
    width = high - low
    assert values.mean() == pytest.approx((low + high) / 2, abs=0.01 * width)
    assert values.std() == pytest.approx(width / math.sqrt(12), rel=0.01)
    assert low <= values.min() <= low + 0.01 * width
    assert high - 0.01 * width <= values.max() <= high


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint32"])
def test_integers_are_uniform_below_maxval(dtype: str) -> None:
    initializer = js.initializers.random_uniform(2, 7.0)  # a whole number, as in TF1's examples
    values = sample(initializer, (10,), jnp.dtype(dtype))
    found, counts = np.unique(values, return_counts=True)
    assert found.tolist() == [2, 3, 4, 5, 6]
    np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.006)


def test_integers_reach_the_limits_of_their_dtype() -> None:
    high = sample(js.initializers.random_uniform(0, 2**32 - 1), (10,), jnp.dtype("uint32"))
    assert high.max() > 0.999 * 2**32
    low = sample(js.initializers.random_uniform(-(2**31), 0), (10,), jnp.dtype("int32"))
    assert -(2**31) <= low.min() < -0.999 * 2**31
    assert low.max() < 0


# Matrices


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *[(shape, "float32") for shape in [(5, 5), (7, 3), (3, 7), (3, 2, 8), (2, 2, 16), (1, 1)]],
        ((7, 3), "float16"),
        ((3, 7), "bfloat16"),
    ],
)
def test_orthogonal_has_orthonormal_columns_or_rows(shape: tuple[int, ...], dtype: str) -> None:
    value = made(js.initializers.orthogonal(gain=1.5), shape, dtype)
    assert value.dtype == jnp.dtype(dtype)
    matrix = np.asarray(value, np.float32).reshape(-1, shape[-1])
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    atol = {"float16": 0.01, "bfloat16": 0.05, "float32": 1e-5}[dtype]
    np.testing.assert_allclose(matrix.T @ matrix, 2.25 * np.eye(len(matrix.T)), atol=atol)


def test_orthogonal_is_uniform_over_orthogonal_matrices() -> None:
    values = sample(js.initializers.orthogonal, (3, 3), least=30_000)
    assert abs(values.mean(0)).max() < 0.03
    np.testing.assert_allclose((values**2).mean(0), 1 / 3, atol=0.02)
    assert (np.linalg.det(values) > 0).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2), (0, 2)])
def test_identity(shape: tuple[int, int]) -> None:
    np.testing.assert_array_equal(made(js.initializers.identity, shape), np.eye(*shape))
    np.testing.assert_array_equal(made(js.initializers.identity(-2), shape), -2 * np.eye(*shape))


# Constants

DTYPES = [*FLOATS, "int8", "int32", "uint8", "bool", "complex64", "float8_e4m3fn"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)])
def test_zeros_ones_and_constants_of_every_dtype(dtype: str, shape: tuple[int, ...]) -> None:
    for initializer, number in [
        (js.initializers.zeros, 0),
        (js.initializers.ones, 1),
        (js.initializers.constant, 0),
        (js.initializers.constant(True), 1),
    ]:
        value = initializer(KEY, shape, jnp.dtype(dtype))
        assert (value.shape, value.dtype) == (shape, jnp.dtype(dtype))
        np.testing.assert_array_equal(np.asarray(value, complex), np.full(shape, number))


def test_constants_broadcast() -> None:
    constant = js.initializers.constant
    assert made(constant(3), [2], "int32").tolist() == [3, 3]
    assert made(constant(np.float64(2.5)), [2]).tolist() == [2.5, 2.5]
    assert made(constant([[1], [2]]), [2, 2], "bfloat16").tolist() == [[1, 1], [2, 2]]
    assert made(constant(jnp.arange(2)), [2]).tolist() == [0, 1]
    assert made(constant(1 + 2j), [1], "complex64").tolist() == [1 + 2j]
    assert made(constant(jnp.bfloat16(1.5)), [1], "float16").tolist() == [1.5]
    assert made(constant((np.nan, -np.inf)), [2]).tolist()[1] == -np.inf


def test_a_constant_does_not_follow_its_array() -> None:
    table = np.array([1.0, 2.0])
    initializer = js.initializers.constant(table)
    table[0] = 5.0
    assert made(initializer, [2]).tolist() == [1.0, 2.0]


# Refusals


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: initializers.random_normal(stddev=-1),
            "The stddev must be a finite number, of Python or NumPy, of at least 0, got -1 of type int.",
        ),
        (
            lambda: initializers.truncated_normal("a"),  # type: ignore[call-overload]
            "The mean must be a finite number, of Python or NumPy, got 'a' of type str.",
        ),
        (
            lambda: initializers.orthogonal(True),
            "The gain must be a finite number, of Python or NumPy, got True of type bool.",
        ),
        (
            lambda: initializers.identity(float("nan")),
            "The gain must be a finite number, of Python or NumPy, got nan of type float.",
        ),
        (
            lambda: initializers.random_normal(jnp.ones([])),  # type: ignore[call-overload]
            "The mean must be a finite number, of Python or NumPy, got float32[].",
        ),
        (
            lambda: initializers.random_uniform(5),
            "The maxval must be a finite number, of Python or NumPy, of at least 5, got None of type NoneType.",
        ),
        (
            lambda: initializers.random_uniform(0.5, -0.5),
            "The maxval must be a finite number, of Python or NumPy, of at least 0.5, got -0.5 of type float.",
        ),
        (
            lambda: initializers.variance_scaling(0),
            "The scale must be a finite number, of Python or NumPy, above 0, got 0 of type int.",
        ),
        (
            lambda: initializers.variance_scaling(1.0, "fan"),
            "The mode must be one of 'fan_in', 'fan_out', 'fan_avg', got 'fan' of type str.",
        ),
        (
            lambda: initializers.variance_scaling(distribution="gauss"),
            "The distribution must be one of 'truncated_normal', 'normal', 'untruncated_normal', "
            "'uniform', got 'gauss' of type str.",
        ),
        (
            lambda: initializers.variance_scaling(distribution=None),  # type: ignore[call-overload]
            "The distribution must be one of 'truncated_normal', 'normal', 'untruncated_normal', "
            "'uniform', got None of type NoneType.",
        ),
        (
            lambda: initializers.constant("a"),
            "The value must be a number or an array, known before the pass, got 'a' of type str.",
        ),
        (
            lambda: initializers.constant([[1], [1, 2]]),
            "The value must be a number or an array, known before the pass, got [[1], [1, 2]] of type list.",
        ),
        (
            lambda: initializers.constant(None),
            "The value must be a number or an array, known before the pass, got None of type NoneType.",
        ),
        (
            lambda: jax.jit(initializers.constant)(jnp.ones([2])),
            "The value must be a number or an array, known before the pass, got float32[2].",
        ),
    ],
)
def test_bad_options_are_refused(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(errors.ArgumentError) as caught:
        call()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("initializer", "shape", "dtype", "text"),
    [
        (
            initializers.identity,
            [3],
            "float32",
            "The initializer identity makes two-dimensional shapes only, got (3,).",
        ),
        (
            initializers.identity(),
            [3, 3],
            "int32",
            "The initializer identity makes floating dtypes only, got int32.",
        ),
        (
            initializers.orthogonal,
            [3],
            "float32",
            "The initializer orthogonal makes shapes of at least two dimensions only, got (3,).",
        ),
        (
            initializers.random_normal,
            [3],
            "int32",
            "The initializer random_normal makes floating dtypes only, got int32.",
        ),
        (
            initializers.glorot_uniform,
            [3],
            "complex64",
            "The initializer variance_scaling makes floating dtypes only, got complex64.",
        ),
        (
            initializers.random_uniform,
            [3],
            "int32",
            "The maxval must be given for the integer dtype int32, got None of type NoneType.",
        ),
        (
            initializers.random_uniform(0, 2.5),
            [3],
            "int32",
            "The maxval must be an integer that int32 can hold, got 2.5 of type float.",
        ),
        (
            initializers.random_uniform(-1, 2),
            [3],
            "uint8",
            "The minval must be an integer that uint8 can hold, got -1 of type int.",
        ),
        (
            initializers.random_uniform(2, 2),
            [3],
            "uint8",
            "The maxval must be above minval for the integer dtype uint8, got 2 of type int.",
        ),
        (
            initializers.constant([1, 2, 3]),
            [2],
            "float32",
            "The value of constant must be one that broadcasts to (2,), got int64[3].",
        ),
        (
            initializers.constant(2.5),
            [2],
            "int32",
            "The value of constant must be one that int32 can hold, got 2.5 of type float.",
        ),
        (
            initializers.constant(1e10),
            [2],
            "float16",
            "The value of constant must be one that float16 can hold, got 10000000000.0 of type float.",
        ),
        (
            initializers.constant(300),
            [2],
            "uint8",
            "The value of constant must be one that uint8 can hold, got 300 of type int.",
        ),
        (
            initializers.constant(2),
            [2],
            "bool",
            "The value of constant must be one that bool can hold, got 2 of type int.",
        ),
    ],
)
def test_bad_shapes_and_dtypes_are_refused(
    initializer: Any, shape: list[int], dtype: str, text: str
) -> None:
    with pytest.raises(errors.ArgumentError) as caught:
        made(initializer, shape, dtype)
    assert str(caught.value) == text
    assert any("in the initializer of variable w" in note for note in caught.value.__notes__)


def test_all_work_inside_stacks_and_scopes() -> None:
    layer = functools.partial(js.get_variable, "w", [2, 3])

    def program() -> Any:
        with js.variable_scope("net", initializer=js.initializers.he_normal):
            return js.layer_stack(3)(lambda x: (layer(), x)[1])(jnp.ones(2))

    value = js.transform(program).init(0)["net"]["w"]
    assert value.shape == (3, 2, 3)
    assert len(np.unique(np.asarray(value))) == value.size

"""get_variable: names, shapes, dtypes, initial values and what a spec keeps, as in TF1."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from both import both, names, refused, spec
from cases import INNER

import jscope as js
from jscope import errors

AUTO = js.AUTO_REUSE
ones = jax.nn.initializers.ones
zeros = jax.nn.initializers.zeros
F16 = np.dtype("float16")
F32 = np.dtype("float32")


def variable(*args: Any, **kwargs: Any) -> Callable[[], Any]:
    """A program of one request."""
    return lambda: js.get_variable(*args, **kwargs)


def initial(fn: Callable[..., Any], *args: Any, name: str = "v", rng: Any = 0) -> Any:
    """The initial value of one variable, which apply must give back as it is."""
    net = js.transform(fn)
    params = net.init(rng, *args)
    value = js.tree.flatten(params)[name]
    net.apply(params, None, *args)
    return value


def refused_with(
    fn: Callable[[], Any], error: type[Exception], match: str, params: dict[str, Any]
) -> None:
    """Both refuse, and apply does so although the params have all that it could want."""
    refused(fn, error, match, params={})
    refused(fn, error, match, params=params)


# Names


def test_a_name_with_slashes_is_a_variable_in_nested_scopes() -> None:
    def fn():
        made = js.get_variable("a/b/v", [1])
        with js.variable_scope("a"), js.variable_scope("b", reuse=True):
            return js.get_variable("v") is made

    assert names(fn) == ["a/b/v"]
    assert both(fn)


@pytest.mark.parametrize(
    "name", ["", "v/", "/v", "a//v", "/", "a b", "a:0", "v+", "é", "v\n", "a/b c"]
)
def test_a_name_with_a_bad_component_is_refused(name: str) -> None:
    def in_scope():
        with js.variable_scope("o"):
            js.get_variable(name, [1])

    for fn in (variable(name, [1]), in_scope):
        for error in refused(fn, errors.InvalidNameError, "is not a valid variable name"):
            assert isinstance(error, ValueError)
            assert error.name == name


@pytest.mark.parametrize("name", ["_v", "v.1", "a-b", "a>b", "a\\b", "0", "V_0"])
def test_letters_digits_and_some_marks_make_a_name(name: str) -> None:
    def fn():
        js.get_variable(name, [1])
        with js.variable_scope("o"):
            js.get_variable(name, [1])

    assert names(fn) == [name, f"o/{name}"]


@pytest.mark.parametrize("name", [None, 3, b"v", ["v"]])
def test_a_name_is_a_string(name: Any) -> None:
    def in_scope():
        with js.variable_scope("o"):
            js.get_variable(name, [1])

    for fn in (variable(name, [1]), in_scope):
        refused(fn, TypeError, "name of a variable must be a string")


def test_named_scopes_of_jax_do_not_change_names() -> None:
    def fn():
        with jax.named_scope("n"), js.variable_scope("a"), jax.named_scope("m"):
            js.get_variable("v", [1])

    assert names(fn) == ["a/v"]


def test_get_variable_needs_a_pass() -> None:
    with pytest.raises(errors.NoPassError, match="get_variable was called outside a pass") as error:
        js.get_variable("v", [1])
    assert isinstance(error.value, RuntimeError)


def test_name_shape_dtype_and_initializer_are_positional_and_no_more() -> None:
    made = spec(variable("v", [2], "float16", ones))
    assert (made.name, made.shape, made.dtype, made.initializer) == ("v", (2,), F16, ones)
    refused(variable("v", [2], None, ones, None), TypeError, "positional argument")


# What comes back


def test_apply_returns_the_array_of_the_params_itself() -> None:
    net = js.transform(variable("a/v", [2]))
    params = net.init(0)
    assert net.apply(params, None) is params["a"]["v"]


def test_init_returns_an_array_of_the_asked_shape_and_dtype() -> None:
    def fn():
        v = js.get_variable("v", [2, 3], jnp.bfloat16)
        return isinstance(v, jax.Array), v.shape, v.dtype, v.ndim, (v + v).shape

    assert both(fn) == (True, (2, 3), np.dtype(jnp.bfloat16), 2, (2, 3))


def test_init_makes_arrays_of_the_asked_shape_and_dtype() -> None:
    value = js.transform(variable("v", [2, 3], jnp.bfloat16)).init(0)["v"]
    assert isinstance(value, jax.Array)
    assert (value.shape, value.dtype) == ((2, 3), jnp.bfloat16)


def test_initial_values_depend_on_the_seed_and_the_full_name_only() -> None:
    def one():
        js.get_variable("a/v", [3])

    def many():
        js.get_variable("first", [3])
        with js.variable_scope("a", reuse=AUTO):
            js.get_variable("w", [3])
            js.get_variable("v", [3])

    alone, among = js.transform(one).init(0), js.transform(many).init(0)
    np.testing.assert_array_equal(alone["a"]["v"], among["a"]["v"])
    assert not np.array_equal(among["a"]["v"], among["a"]["w"])
    assert not np.array_equal(alone["a"]["v"], js.transform(one).init(1)["a"]["v"])


# Shapes


def test_a_variable_needs_a_shape() -> None:
    match = "^Variable v did not get an initializer, so its `shape` argument must be specified"
    refused(variable("v"), errors.InitializerError, match)
    refused(variable("v"), ValueError, match)


@pytest.mark.parametrize(
    ("shape", "meant"),
    [
        (3, (3,)),
        (0, (0,)),
        ([], ()),
        ((), ()),
        ([2, 3], (2, 3)),
        ((2, 3), (2, 3)),
        ([0, 3], (0, 3)),
        (np.array([2, 3]), (2, 3)),
        (np.array(3), (3,)),
        (np.int64(3), (3,)),
        ([np.int32(2), 3], (2, 3)),
        (iter([2, 3]), (2, 3)),
        (range(1, 3), (1, 2)),
    ],
)
def test_a_shape_is_an_int_or_ints(shape: Any, meant: tuple[int, ...]) -> None:
    made = js.transform(variable("v", shape)).specs()["v"]
    assert made.shape == meant
    assert all(type(size) is int for size in made.shape)


def test_a_shape_may_come_from_an_argument() -> None:
    def fn(x):
        return js.get_variable("v", [x.shape[-1], *x.shape]).shape

    assert both(fn, jnp.ones([2, 3])) == (3, 2, 3)


@pytest.mark.parametrize("shape", [-1, [-1], [2, -1], np.array([2, -1])])
def test_a_negative_size_is_refused(shape: Any) -> None:
    for error in refused(variable("v", shape), ValueError, "^Dimension -1 must be >= 0"):
        assert isinstance(error, errors.InitializerError)


@pytest.mark.parametrize(
    ("shape", "value", "kind"),
    [
        (2.0, "2.0", "float"),
        ([2.0], "2.0", "float"),
        ([2, "3"], "3", "str"),
        ("23", "23", "str"),
        ([[2], 3], "[2]", "list"),
    ],
)
def test_a_size_is_an_integer(shape: Any, value: str, kind: str) -> None:
    for error in refused(
        variable("v", shape), TypeError, "^Dimension value must be integer or None or have an"
    ):
        assert isinstance(error, errors.InitializerError)
        assert f"got value '{value}' with type '<class '{kind}'>'" in str(error)


def test_a_traced_size_is_refused() -> None:
    net = js.transform(lambda n: js.get_variable("v", [n]))
    for call in (net.init, functools.partial(jax.jit(net.apply), {"v": jnp.ones(3)})):
        with pytest.raises(TypeError, match="Dimension value must be integer"):
            call(0, jnp.int32(3))


@pytest.mark.parametrize("shape", [[None, 3], [None], [2, None]])
def test_a_new_variable_needs_a_full_shape(shape: Any) -> None:
    for options in ({}, {"initializer": ones}):
        refused(variable("v", shape, **options), errors.InitializerError, "fully defined")


def test_a_function_as_initializer_needs_a_shape() -> None:
    for initializer in (ones, lambda: [2], jax.nn.initializers.normal()):
        fn = variable("v", initializer=initializer)
        refused(fn, errors.InitializerError, "^The initializer passed is not valid")


def test_a_function_as_the_scopes_initializer_needs_a_shape() -> None:
    def fn():
        with js.variable_scope("a", initializer=ones):
            js.get_variable("v")

    refused(fn, ValueError, "^The initializer passed is not valid")


# Constants


@pytest.mark.parametrize(
    ("constant", "shape", "dtype"),
    [
        (1.5, (), "float32"),
        (3, (), "int32"),
        (True, (), "bool"),
        (1j, (), "complex64"),
        ([1, 2, 3], (3,), "int32"),
        ([[1.5], [2.0]], (2, 1), "float32"),
        ((True, False), (2,), "bool"),
        ([], (0,), "float32"),
        (np.arange(3.0), (3,), "float32"),
        (np.arange(3), (3,), "int32"),
        (np.arange(3, dtype=np.int8), (3,), "int8"),
        (np.float64(1.5), (), "float32"),
        (np.float16(1.5), (), "float16"),
        (np.ones([2, 0], np.float16), (2, 0), "float16"),
        (jnp.arange(3), (3,), "int32"),
        (jnp.ones([2, 1], jnp.bfloat16), (2, 1), "bfloat16"),
    ],
)
def test_a_constant_gives_value_shape_and_dtype(constant: Any, shape: Any, dtype: str) -> None:
    fn = variable("v", initializer=constant)
    value = initial(fn)
    assert (value.shape, value.dtype) == (shape, np.dtype(dtype))
    np.testing.assert_array_equal(value, np.asarray(constant))
    made = spec(fn)
    assert (made.shape, made.dtype) == (shape, np.dtype(dtype))
    np.testing.assert_array_equal(made.initializer, constant)


def test_numpy_doubles_stay_doubles_where_they_are_enabled() -> None:
    with jax.enable_x64(True):
        made = js.transform(variable("v", initializer=np.arange(3.0))).init(0)["v"]
        asked = js.transform(variable("v", [2], np.float64)).init(0)["v"]
        plain = js.transform(variable("v", [2])).init(0)["v"]
    assert (made.dtype, asked.dtype, plain.dtype) == (np.float64, np.float64, F32)


@pytest.mark.parametrize("constant", [1.5, np.float32(1.5), jnp.ones([2]), [1, 2]])
def test_the_dtype_of_a_constant_wins_over_the_scopes(constant: Any) -> None:
    def fn():
        with js.variable_scope("", dtype=jnp.float16):
            return js.get_variable("v", initializer=constant).dtype

    assert both(fn) == jnp.asarray(constant).dtype
    assert both(fn) != F16


@pytest.mark.parametrize("shape", [[2, 1], (2, 1), np.array([2, 1])])
def test_a_constant_may_come_with_its_own_shape(shape: Any) -> None:
    value = initial(variable("v", shape, initializer=[[1.0], [2.0]]))
    np.testing.assert_array_equal(value, [[1.0], [2.0]])


def test_a_number_may_come_with_the_shape_of_a_scalar() -> None:
    assert initial(variable("v", [], initializer=1.5)) == 1.5


@pytest.mark.parametrize("shape", [[2], [], [1, 2], [2, 1, 1], [2, 2]])
def test_a_constant_of_another_shape_is_refused(shape: Any) -> None:
    fn = variable("v", shape, initializer=np.ones([2, 1], np.float32))
    match = "^If initializer is a constant, do not specify shape"
    refused_with(fn, errors.InitializerError, match, {"v": jnp.ones([2, 1])})
    refused_with(fn, errors.InitializerError, match, {"v": jnp.ones(shape)})


def test_a_number_is_not_spread_over_a_shape() -> None:
    fn = variable("v", [2], initializer=0.5)
    refused(fn, errors.InitializerError, r"shape \(2,\) and the constant has shape \(\)")


def test_the_scopes_constant_is_checked_against_the_shape() -> None:
    def fn(shape):
        with js.variable_scope("", initializer=np.ones([2], np.float32)):
            js.get_variable("v", shape)

    np.testing.assert_array_equal(initial(lambda: fn(None)), [1, 1])
    np.testing.assert_array_equal(initial(lambda: fn([2])), [1, 1])
    refused(lambda: fn([3]), errors.InitializerError, "If initializer is a constant")


TWO_BY_THREE = np.arange(6, dtype=np.float32).reshape(2, 3)

CONSTANTS: dict[str, Callable[[Any], Any]] = {
    "NumPy": lambda x: TWO_BY_THREE,
    "JAX": lambda x: jnp.asarray(TWO_BY_THREE),
    "lists": lambda x: TWO_BY_THREE.tolist(),
    "traced": lambda x: x * jnp.asarray(TWO_BY_THREE),
}


def ask_by_argument(name: str, shape: Any, constant: Any) -> jax.Array:
    return js.get_variable(name, shape, initializer=constant)


def ask_by_scope(name: str, shape: Any, constant: Any) -> jax.Array:
    with js.variable_scope(js.get_variable_scope(), initializer=constant):
        return js.get_variable(name, shape)


def ask_by_getter(name: str, shape: Any, constant: Any) -> jax.Array:
    def getter(getter: Any, name: str, **request: Any) -> Any:
        return getter(name, **request)

    return js.get_variable(name, shape, initializer=constant, custom_getter=getter)


ASKING = [ask_by_argument, ask_by_scope, ask_by_getter]


@pytest.mark.parametrize("shape", [[None, 3], [2, None], [None, None], (2, 3), None])
@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("ask", ASKING)
def test_a_constant_goes_with_a_partial_shape_that_agrees(
    ask: Any, constant: str, shape: Any
) -> None:
    def fn(x: jax.Array) -> Any:
        first = ask("v", shape, CONSTANTS[constant](x))
        with js.variable_scope("", reuse=True):
            again = ask("v", shape, CONSTANTS[constant](x))
        assert again is first
        return again

    net = js.transform(fn)
    x = jnp.float32(1)
    params = net.init(0, x)
    np.testing.assert_array_equal(params["v"], TWO_BY_THREE)
    assert net.specs(x)["v"].shape == (2, 3)
    assert net.apply(params, None, x) is params["v"]


@pytest.mark.parametrize("shape", [[None, 4], [None], [None, None, 3], [], [3, None]])
@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("ask", ASKING)
def test_a_constant_is_refused_with_a_partial_shape_that_disagrees(
    ask: Any, constant: str, shape: Any
) -> None:
    x = jnp.float32(1)
    dims = ", ".join("?" if dim is None else str(dim) for dim in shape)
    dims = f"({dims},)" if len(shape) == 1 else f"({dims})"
    match = re.escape(
        f"If initializer is a constant, do not specify shape. Specified shape {dims} and the "
        "constant has shape (2, 3)."
    )
    given = {"v": TWO_BY_THREE}
    refused(
        lambda x: ask("v", shape, CONSTANTS[constant](x)),
        errors.InitializerError,
        match,
        x,
        params=given,
    )

    def lookup(x: jax.Array) -> None:
        js.get_variable("v", [2, 3])
        with js.variable_scope("", reuse=True):
            ask("v", shape, CONSTANTS[constant](x))

    match = re.escape(f"but specified shape {dims} and found shape (2, 3).")
    refused(lookup, errors.VariableMismatchError, match, x)


@pytest.mark.parametrize("shape", [[2, 3], [None, 3], None])
@pytest.mark.parametrize("ask", ASKING)
def test_a_constant_is_checked_beside_the_shape_that_a_lookup_gives(ask: Any, shape: Any) -> None:
    def lookup() -> None:
        js.get_variable("v", [2, 3])
        with js.variable_scope("", reuse=True):
            ask("v", shape, np.zeros([5, 3], np.float32))

    match = r"but specified shape \(5, 3\) and found shape \(2, 3\)"
    refused(lookup, errors.VariableMismatchError, match)


def test_each_layer_of_a_stack_may_start_from_a_constant_of_a_partial_shape() -> None:
    def layer(x: jax.Array) -> jax.Array:
        return x @ js.get_variable("v", [None, 3], initializer=np.eye(3, dtype=np.float32))

    net = js.transform(js.layer_stack(4)(layer))
    x = jnp.ones([2, 3])
    params = net.init(0, x)
    np.testing.assert_array_equal(params["v"], np.broadcast_to(np.eye(3), [4, 3, 3]))
    np.testing.assert_array_equal(net.apply(params, None, x), x)


@pytest.mark.parametrize(
    ("number", "dtype"),
    [(1.0, "float16"), (1, "float32"), (3, "bfloat16"), (0, "int8"), (True, "int32"), (1, "bool")],
)
def test_a_python_number_takes_the_asked_dtype(number: Any, dtype: str) -> None:
    value = initial(variable("v", dtype=dtype, initializer=number))
    assert (value.dtype, value.shape) == (np.dtype(dtype), ())
    assert np.asarray(value) == number


@pytest.mark.parametrize("constant", [np.ones(2, np.float32), jnp.ones(2), np.float32(1)])
def test_a_constant_of_another_dtype_is_refused(constant: Any) -> None:
    fn = variable("v", dtype=jnp.float16, initializer=constant)
    match = "^Initializer type 'float32' and explicit dtype 'float16' don't match"
    refused_with(fn, errors.InitializerError, match, {"v": jnp.ones(constant.shape, jnp.float16)})


def test_the_scopes_constant_is_checked_against_the_dtype() -> None:
    def fn(dtype):
        with js.variable_scope("", initializer=np.ones([2], np.float32)):
            js.get_variable("v", dtype=dtype)

    assert initial(lambda: fn(None)).dtype == F32
    assert initial(lambda: fn("float32")).dtype == F32
    refused(lambda: fn("float16"), ValueError, "'float32' and explicit dtype 'float16' don't match")


def test_a_constant_is_checked_when_it_comes_with_a_shared_variable() -> None:
    def fn(constant):
        js.get_variable("v", [2])
        with js.variable_scope("", reuse=True):
            js.get_variable("v", initializer=constant)

    both(lambda: [fn(np.zeros(2, np.float32)), None][1])
    for constant, what in ((np.zeros(5, np.float32), "shape"), (np.zeros(2, np.int32), "dtype")):
        for error in refused(
            functools.partial(fn, constant), errors.VariableMismatchError, f"specified {what}"
        ):
            assert error.what == what


@pytest.mark.parametrize("constant", ["zeros", b"zeros", {}, {"a": 1}, object(), ["a"], [None]])
def test_what_is_neither_function_nor_numbers_is_no_initializer(constant: Any) -> None:
    fn = variable("v", [2], initializer=constant)
    for error in refused(fn, TypeError, "^The initializer passed is not valid"):
        assert isinstance(error, errors.InitializerError)


@pytest.mark.parametrize("constant", ["zeros", b"zeros", {}, {"a": 1}])
def test_text_is_no_initializer_of_a_scope(constant: Any) -> None:
    with pytest.raises(TypeError, match="initializer passed is not valid"):
        js.variable_scope("a", initializer=constant)


def test_an_initial_value_is_a_copy_of_the_constant() -> None:
    constant = np.ones(3, np.float32)
    value = initial(variable("v", initializer=constant))
    constant[:] = 7
    np.testing.assert_array_equal(value, [1, 1, 1])


def test_two_variables_of_one_constant_are_two_arrays() -> None:
    constant = jnp.arange(3.0)

    def fn():
        js.get_variable("v", initializer=constant)
        js.get_variable("w", initializer=constant)

    params = js.transform(fn).init(0)
    params["v"].delete()
    np.testing.assert_array_equal(params["w"], [0, 1, 2])
    np.testing.assert_array_equal(constant, [0, 1, 2])


def test_a_constant_is_taken_as_it_was_when_it_was_given() -> None:
    def fn():
        buffer = np.zeros(1, np.float32)
        for level in range(3):
            buffer[:] = level
            js.get_variable(f"v{level}", initializer=buffer)

    params = js.transform(fn).init(0)
    assert [int(params[f"v{level}"][0]) for level in range(3)] == [0, 1, 2]


# Functions as initializers


def test_an_initializer_gets_a_key_a_shape_and_a_dtype() -> None:
    seen = []

    def initializer(*args, **kwargs):
        key, shape, dtype = args
        seen.append((key.shape, key.dtype == jax.random.key(0).dtype, shape, dtype, kwargs))
        return jnp.full(shape, 3, dtype)

    value = initial(variable("v", [2], jnp.float16, initializer=initializer))
    np.testing.assert_array_equal(value, [3, 3])
    assert seen == [((), True, (2,), F16, {})] * len(seen)
    assert seen
    assert type(seen[0][2]) is tuple


class Fill:
    dtype = jnp.int32  # ignored

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, key: Any, shape: Any, dtype: Any) -> Any:
        return jnp.full(shape, self.value, dtype)

    def method(self, key: Any, shape: Any, dtype: Any) -> Any:
        return self(key, shape, dtype)


@pytest.mark.parametrize(
    "initializer",
    [
        lambda key, shape, dtype: jnp.full(shape, 3, dtype),
        functools.partial(lambda value, key, shape, dtype: jnp.full(shape, value, dtype), 3),
        Fill(3),
        Fill(3).method,
        jax.nn.initializers.constant(3),
        lambda key, shape, dtype=jnp.int32: jnp.full(shape, 3, dtype),
        lambda *args: jnp.full(args[1], 3, args[2]),
    ],
    ids=["function", "partial", "object", "method", "jax", "default", "starred"],
)
def test_any_callable_initializes(initializer: Any) -> None:
    fn = variable("v", [2, 1], initializer=initializer)
    value = initial(fn)
    assert value.dtype == F32
    np.testing.assert_array_equal(value, [[3], [3]])
    assert spec(fn).initializer is initializer


def filling(value: float) -> Any:
    return lambda key, shape, dtype: jnp.full(shape, value, dtype)


def test_equal_objects_with_other_values_initialize_otherwise() -> None:
    def fn():
        for name, value in (("a", 1.0), ("b", 2.0)):
            js.get_variable(name, [1], initializer=Fill(value))
            js.get_variable(f"{name}_jax", [1], initializer=jax.nn.initializers.constant(value))
            js.get_variable(f"{name}_closure", [1], initializer=filling(value))

    params = js.tree.flatten(js.transform(fn).init(0))
    assert {name: float(leaf[0]) for name, leaf in params.items()} == {
        **dict.fromkeys(["a", "a_jax", "a_closure"], 1.0),
        **dict.fromkeys(["b", "b_jax", "b_closure"], 2.0),
    }


def test_an_initializer_sees_the_variables_around_it_as_they_were_when_it_was_given() -> None:
    def fn():
        for level in range(3):
            fill = lambda key, shape, dtype: jnp.full(shape, level, dtype)  # noqa: B023, E731
            js.get_variable(f"v{level}", [1], initializer=fill)

    params = js.transform(fn).init(0)
    assert [int(params[f"v{level}"][0]) for level in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (lambda shape, dtype: jnp.ones([3], dtype), "float32[3]"),
        (lambda shape, dtype: jnp.ones([], dtype), "float32[]"),
        (lambda shape, dtype: jnp.ones([*shape, 1], dtype), "float32[2,1]"),
        (lambda shape, dtype: jnp.ones(shape, jnp.int32), "int32[2]"),
        (lambda shape, dtype: jnp.ones(shape, jnp.float16), "float16[2]"),
        (lambda shape, dtype: np.ones([3], dtype), "float32[3]"),
        (lambda shape, dtype: None, "NoneType"),
        (lambda shape, dtype: "text", "str"),
    ],
    ids=["shape", "scalar", "rank", "int", "half", "numpy", "none", "text"],
)
def test_an_initializer_that_returns_something_else_is_refused(result: Any, shown: str) -> None:
    def initializer(key, shape, dtype):
        return result(shape, dtype)

    with pytest.raises(
        errors.InitializerError, match=r"^The initializer of variable a/v returned"
    ) as caught:
        js.transform(variable("a/v", [2], initializer=initializer)).init(0)
    assert isinstance(caught.value, ValueError)
    assert f"returned {shown}, not float32[2]." in str(caught.value)
    assert caught.value.name == "a/v"
    assert caught.value.sites[0].file == __file__


@pytest.mark.parametrize(
    "result", [[1, 2], (1.0, 2.0), np.array([1, 2]), np.array([1.0, 2.0]), [True, 2]]
)
def test_numpy_and_python_results_of_an_initializer_are_cast(result: Any) -> None:
    value = initial(variable("v", [2], jnp.float16, initializer=lambda *args: result))
    assert value.dtype == F16
    np.testing.assert_array_equal(value, np.asarray(result, F16))


def test_an_initializer_of_the_wrong_signature_is_its_own_type_error() -> None:
    with pytest.raises(TypeError, match="positional argument") as caught:
        js.transform(variable("a/v", [2], initializer=lambda: [1.0, 2.0])).init(0)
    assert any("a/v" in note for note in caught.value.__notes__)


def test_the_argument_wins_over_the_nearest_scope_and_that_over_the_next() -> None:
    twos, threes = jax.nn.initializers.constant(2), jax.nn.initializers.constant(3)

    def fn():
        with js.variable_scope("a", initializer=ones):
            js.get_variable("v", [1])
            with js.variable_scope("b", initializer=twos):
                js.get_variable("v", [1])
                js.get_variable("w", [1], initializer=threes)
                js.get_variable("none", [1], initializer=None)
            with js.variable_scope("c", initializer=None):
                js.get_variable("v", [1])

    params = js.tree.flatten(js.transform(fn).init(0))
    found = {name: int(value[0]) for name, value in params.items()}
    assert found == {"a/v": 1, "a/b/v": 2, "a/b/w": 3, "a/b/none": 2, "a/c/v": 1}


def test_the_scopes_initializer_makes_integers_too() -> None:
    def fn():
        with js.variable_scope("", initializer=ones):
            js.get_variable("v", [2], jnp.int32)

    value = initial(fn)
    assert value.dtype == np.int32
    np.testing.assert_array_equal(value, [1, 1])


def test_a_scopes_constant_makes_variables() -> None:
    def fn():
        with js.variable_scope("", initializer=0.25):
            return js.get_variable("v").dtype

    assert both(fn) == F32
    assert initial(fn) == 0.25


# Default initializers


LIMITS = [
    ([], math.sqrt(3)),
    ([7], math.sqrt(3 / 7)),
    ([1], math.sqrt(3)),
    ([4, 6], math.sqrt(3 / 5)),
    ([6, 4], math.sqrt(3 / 5)),
    ([3, 3, 8, 16], 1 / 6),
    ([5, 2, 3], math.sqrt(3 / 12.5)),
    ([2000], math.sqrt(3 / 2000)),
]


@pytest.mark.parametrize(("shape", "limit"), LIMITS)
def test_floats_start_glorot_uniform(shape: list[int], limit: float) -> None:
    net = js.transform(variable("v", shape))
    draws = max(1, 4000 // math.prod(shape))
    keys = jax.random.split(jax.random.key(0), draws)
    values = np.asarray(jax.jit(jax.vmap(net.init))(keys)["v"])
    assert values.shape == (draws, *shape)
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    assert values.max() > 0.98 * limit
    assert values.min() < -0.98 * limit
    assert abs(values.mean()) < 0.06 * limit
    assert values.std() == pytest.approx(limit / math.sqrt(3), rel=0.06)


@pytest.mark.parametrize(
    ("shape", "limit"),
    [([], 1.732), ([7], 0.6547), ([2000], 0.0387), ([4, 6], 0.7746), ([3, 3, 8, 16], 0.16667)],
)
def test_the_limits_are_those_measured_in_tf1(shape: list[int], limit: float) -> None:
    assert {tuple(s): x for s, x in LIMITS}[tuple(shape)] == pytest.approx(limit, rel=1e-3)


def test_glorot_equals_jaxs_for_matrices() -> None:
    key = jax.random.key(0)
    ours = js.transform(variable("v", [4, 6])).init(key)["v"]
    jaxs = js.transform(
        variable("v", [4, 6], initializer=jax.nn.initializers.glorot_uniform())
    ).init(key)["v"]
    np.testing.assert_allclose(ours, jaxs, rtol=1e-6)


@pytest.mark.parametrize("shape", [[0], [0, 3], [3, 0], [0, 0, 3]])
def test_empty_variables_are_made(shape: list[int]) -> None:
    assert initial(variable("v", shape)).shape == tuple(shape)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_start_glorot_uniform(dtype: str) -> None:
    value = initial(variable("v", [4, 6], dtype))
    assert value.dtype == np.dtype(jnp.dtype(dtype))
    assert 0.5 < np.abs(np.asarray(value, np.float32)).max() <= 0.7746 * 1.01
    assert len(np.unique(np.asarray(value, np.float32))) > 12


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16", "uint32", "bool"])
@pytest.mark.parametrize("shape", [[], [2, 3]])
def test_integers_and_bools_start_at_zero(dtype: str, shape: list[int]) -> None:
    value = initial(variable("v", shape, dtype))
    assert (value.dtype, value.shape) == (np.dtype(dtype), tuple(shape))
    assert not value.any()


@pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn", "float8_e5m2"])
def test_other_dtypes_need_an_initializer(dtype: str) -> None:
    match = f"^An initializer for variable v of {dtype} is required"
    params = {"v": jnp.zeros([1], dtype)}
    refused_with(variable("v", [1], dtype), errors.InitializerError, match, params)


def test_other_dtypes_are_made_by_an_initializer() -> None:
    value = initial(variable("v", [2], "complex64", initializer=ones))
    np.testing.assert_array_equal(value, np.ones(2, np.complex64))


# Dtypes


@pytest.mark.parametrize(
    ("dtype", "meant"),
    [
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        (np.float16, "float16"),
        (np.dtype("int8"), "int8"),
        (jnp.bfloat16, "bfloat16"),
        (jnp.int32, "int32"),
        (jnp.dtype("uint8"), "uint8"),
        (float, "float32"),
        (bool, "bool"),
        (np.float64, "float32"),
        (None, "float32"),
    ],
)
def test_a_dtype_is_anything_that_jax_takes(dtype: Any, meant: str) -> None:
    meant_dtype = np.dtype(jnp.dtype(meant))

    def by_scope():
        with js.variable_scope("", dtype=dtype) as scope:
            return js.get_variable("v", [1]).dtype, scope.dtype

    assert both(lambda: js.get_variable("v", [1], dtype).dtype) == meant_dtype
    assert both(by_scope) == (meant_dtype, meant_dtype)


@pytest.mark.parametrize("dtype", ["nope", str, object, "datetime64[s]", 3, [1]])
def test_what_is_no_dtype_is_refused(dtype: Any) -> None:
    for error in refused(variable("v", [1], dtype), TypeError, "^Cannot convert .* to a dtype"):
        assert isinstance(error, errors.InitializerError)
    with pytest.raises(TypeError, match=r"^Cannot convert .* to a dtype"):
        js.variable_scope("a", dtype=dtype)
    with pytest.raises(TypeError, match=r"^Cannot convert .* to a dtype"):
        js.VariableScope("a", dtype=dtype)


def test_the_dtype_of_the_argument_wins_over_the_scopes() -> None:
    def fn():
        with js.variable_scope("a", dtype="float16"):
            js.get_variable("v", [1])
            js.get_variable("w", [1], "bfloat16")
            with js.variable_scope("b"):
                js.get_variable("v", [1])

    dtypes = {name: str(made.dtype) for name, made in js.transform(fn).specs().items()}
    assert dtypes == {"a/v": "float16", "a/w": "bfloat16", "a/b/v": "float16"}
    both(lambda: [fn(), None][1])


def test_a_scope_without_a_dtype_reads_float32() -> None:
    def fn():
        with js.variable_scope("a") as scope:
            return scope.dtype, js.get_variable_scope().dtype

    assert both(fn) == (F32, F32)


def test_an_integer_constant_is_found_by_the_same_call() -> None:
    def fn():
        with js.variable_scope("f", reuse=AUTO):
            first = js.get_variable("k", initializer=3)
            return first is js.get_variable("k", initializer=3), first is js.get_variable("k")

    assert both(fn) == (True, True)
    assert initial(fn, name="f/k").dtype == np.int32


def test_a_dtype_that_nobody_asked_for_is_not_checked() -> None:
    def fn():
        with js.variable_scope("a", dtype="float16"):
            v = js.get_variable("v", [1])
        with js.variable_scope("a", reuse=True):
            by_name = js.get_variable("v", [1])
        js.get_variable("b/w", [1], "int8")
        with js.variable_scope("b", reuse=AUTO):
            js.get_variable("w")
        return by_name is v

    assert both(fn)


def test_apply_takes_params_of_any_dtype_where_nobody_asked_for_one() -> None:
    params = {"v": jnp.ones(2, jnp.bfloat16)}
    assert js.transform(variable("v", [2])).apply(params, None) is params["v"]


@pytest.mark.parametrize("asked", ["argument", "scope", "constant"])
def test_a_dtype_that_somebody_asked_for_is_checked(asked: str) -> None:
    def lookup():
        options = {"argument": {"dtype": "float16"}, "constant": {"initializer": np.float16(1)}}
        with js.variable_scope("", reuse=AUTO, dtype="float16" if asked == "scope" else None):
            js.get_variable("v", [], **options.get(asked, {}))

    def fn():
        js.get_variable("v", [])
        lookup()

    refused(fn, errors.VariableMismatchError, "dtype float16 and found dtype float32")
    with pytest.raises(errors.VariableMismatchError, match="dtype float16 and found dtype float32"):
        js.transform(lookup).apply({"v": jnp.ones([])}, None)


@pytest.mark.parametrize("shape", [[3], [], [2, 1], [None, 2]])
def test_apply_checks_the_shape_of_the_params(shape: Any) -> None:
    def fn():
        js.get_variable("v", [2])

    params = {"v": jnp.ones([size or 1 for size in shape])}
    with pytest.raises(errors.VariableMismatchError, match=r"specified shape \(2,\)") as caught:
        js.transform(fn).apply(params, None)
    assert "in the params given to apply" in str(caught.value)


# Order of checks


def test_the_name_is_checked_first() -> None:
    def fn():
        js.get_variable("a b", dtype="float16", initializer=np.float32(1))

    refused(fn, errors.InvalidNameError, "not a valid variable name")


def test_a_name_clash_comes_before_the_dtype_of_a_constant() -> None:
    def fn():
        js.get_variable("a", [1])
        js.get_variable("a/b", dtype="float16", initializer=np.float32(1))

    refused(fn, errors.NameClashError, "Variable a/b cannot be made")


def test_a_name_clash_comes_before_reuse() -> None:
    def fn():
        js.get_variable("a", [1])
        with js.variable_scope("", reuse=True):
            js.get_variable("a/b")

    refused(fn, errors.NameClashError, "Variable a/b cannot be made")


def uncalled(getter: Any, name: str, **kwargs: Any) -> Any:
    raise AssertionError("the getter was called")


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("a b", {}, errors.InvalidNameError),
        ("a/b", {}, errors.NameClashError),
        ("v", {"dtype": "float16", "initializer": np.float32(1)}, errors.InitializerError),
    ],
)
@pytest.mark.parametrize("where", ["scope", "call"])
def test_name_clash_and_constant_dtype_are_checked_before_a_getter_runs(
    where: str, name: str, options: dict[str, Any], error: type[Exception]
) -> None:
    def fn():
        js.get_variable("a", [1])
        on_call = {"custom_getter": uncalled} if where == "call" else {}
        with js.variable_scope("", custom_getter=uncalled if where == "scope" else None):
            js.get_variable(name, [], **options, **on_call)

    refused(fn, error, "valid|clash|cannot|match")


def test_a_getter_runs_before_an_existing_name_is_refused() -> None:
    def rename(getter, name, **kwargs):
        return getter(name + "_2", **kwargs)

    def fn():
        js.get_variable("v", [1])
        js.get_variable("v", [1], custom_getter=rename)

    assert names(fn) == ["v", "v_2"]


def test_the_dtype_of_a_constant_comes_before_an_existing_name() -> None:
    def fn():
        js.get_variable("v", [1])
        js.get_variable("v", dtype="float16", initializer=np.float32(1))

    refused(fn, errors.InitializerError, "don't match")


def test_the_dtype_of_a_constant_comes_before_a_missing_name() -> None:
    def fn():
        with js.variable_scope("", reuse=True):
            js.get_variable("v", dtype="float16", initializer=np.float32(1))

    refused(fn, errors.InitializerError, "don't match")


def test_an_existing_name_comes_before_its_shape_and_dtype() -> None:
    def fn():
        js.get_variable("v", [1])
        js.get_variable("v", [2], "int32")

    refused(fn, errors.VariableExistsError, "already exists")


def test_an_existing_name_comes_before_a_missing_shape() -> None:
    def fn():
        js.get_variable("v", [1])
        js.get_variable("v")

    refused(fn, errors.VariableExistsError, "already exists")


@pytest.mark.parametrize(
    "request_v",
    [
        variable("v"),
        variable("v", [None]),
        variable("v", [1], "complex64"),
        variable("v", initializer=ones),
        variable("v", [2], initializer=np.ones(1, np.float32)),
        variable("v", [1], trainable=False),
    ],
    ids=["no shape", "partial", "complex", "function", "constant", "not trainable"],
)
def test_a_missing_name_under_reuse_comes_before_what_creation_needs(request_v: Any) -> None:
    def fn():
        with js.variable_scope("", reuse=True):
            request_v()

    refused(fn, errors.VariableNotFoundError, "v does not exist, or was not created", params={})


def test_shape_comes_before_dtype() -> None:
    def fn():
        js.get_variable("v", [1])
        with js.variable_scope("", reuse=True):
            js.get_variable("v", [2], "int32")

    refused(fn, errors.VariableMismatchError, "specified shape")


@pytest.mark.parametrize(
    ("options", "held", "match"),
    [
        ({}, jnp.ones(2), "did not get an initializer"),
        ({"shape": [None]}, jnp.ones(2), "fully defined"),
        ({"initializer": ones}, jnp.ones(2), "The initializer passed is not valid"),
        ({"shape": [2], "dtype": "complex64"}, jnp.ones(2, "complex64"), "is required"),
        ({"shape": [2], "initializer": np.float32(1)}, jnp.ones(2), "do not specify shape"),
        ({"shape": [2], "initializer": "zeros"}, jnp.ones(2), "is not valid"),
        ({"shape": [2], "trainable": False}, jnp.ones(2), "not trainable"),
        ({"shape": [2], "collections": "foo"}, jnp.ones(2), "collections"),
        ({"shape": [2], "regularizer": 3}, jnp.ones(2), "regularizer"),
        ({"shape": [2], "constraint": 3}, jnp.ones(2), "constraint"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_could_not_be_made_in_init_is_refused_in_apply(
    options: dict[str, Any], held: Any, match: str
) -> None:
    refused_with(variable("v", **options), ValueError, match, {"v": held})


def test_a_missing_name_in_apply_comes_last() -> None:
    with pytest.raises(errors.VariableNotFoundError, match="v does not exist in the params"):
        js.transform(variable("v", [1])).apply({}, None)


def test_a_refused_request_makes_nothing() -> None:
    bad = (
        {},
        {"shape": [-1]},
        {"shape": [2], "initializer": np.float32(1)},
        {"shape": [2], "collections": "foo"},
        {"shape": [2], "regularizer": 3},
        {"shape": [2], "trainable": False},
    )

    def fn():
        for options in bad:
            with pytest.raises(ValueError, match=r"v|Dimension|constant|collections|regularizer"):
                js.get_variable("a/v", **options)
        js.get_variable("a", [1])

    assert names(fn) == ["a"]


# What a spec keeps


def rule(value: Any) -> Any:
    raise AssertionError


def other_rule(value: Any) -> Any:
    raise AssertionError


def test_a_spec_keeps_what_the_call_gave() -> None:
    made = spec(
        variable(
            "v",
            [2],
            regularizer=rule,
            constraint=other_rule,
            partitioner=("x",),
            collections=["losses", "mine"],
        )
    )
    assert (made.regularizer, made.constraint) == (rule, other_rule)
    assert (made.partition, made.collections) == (("x",), ("losses", "mine"))


def test_a_spec_of_a_plain_variable_has_no_extras() -> None:
    made = spec(variable("v", [2]))
    assert (made.name, made.shape, made.dtype, made.trainable) == ("v", (2,), F32, True)
    assert (made.regularizer, made.constraint, made.partition) == (None, None, None)
    assert callable(made.initializer)


def test_a_spec_keeps_where_the_variable_was_made() -> None:
    def layer():
        return js.get_variable("v", [1])

    def fn():
        layer()

    made = spec(fn)
    assert [site.function for site in made.sites[:2]] == ["layer", "fn"]
    assert made.sites[0].file == __file__
    assert made.sites[0].line == layer.__code__.co_firstlineno + 1
    assert made.sites[1].line == fn.__code__.co_firstlineno + 1
    assert len(made.sites) <= 5


def test_a_spec_keeps_at_most_five_places() -> None:
    def deep(level):
        if level:
            deep(level - 1)
        else:
            js.get_variable("v", [1])

    assert [site.function for site in js.transform(deep).specs(9)["v"].sites] == ["deep"] * 5


@pytest.mark.parametrize("trainable", [True, None])
def test_a_variable_is_trainable_unless_told(trainable: Any) -> None:
    assert spec(variable("v", [1], trainable=trainable)).trainable is True
    assert list(js.transform(variable("v", [1], trainable=trainable)).init(0)) == ["v"]


def test_a_variable_that_is_not_trainable_needs_state() -> None:
    fn = variable("v", [1], trainable=False)
    for error in refused(fn, errors.StateError, "Variable v is not trainable"):
        assert isinstance(error, ValueError)
        assert "transform_with_state" in str(error)


@pytest.mark.parametrize("collections", [["a", "b"], ("a", "b"), {"a"}, frozenset("a"), []])
def test_collections_are_a_list_tuple_or_set(collections: Any) -> None:
    assert spec(variable("v", [1], collections=collections)).collections == tuple(collections)


def test_collections_are_copied() -> None:
    collections = ["a"]
    specs = js.transform(variable("v", [1], collections=collections)).specs()
    collections.append("b")
    assert specs["v"].collections == ("a",)


@pytest.mark.parametrize("collections", ["foo", b"foo", 3, {"a": 1}, [1]])
def test_other_collections_are_refused(collections: Any) -> None:
    fn = variable("v", [1], collections=collections)
    refused(fn, ValueError, "collections argument to .* must be a list, tuple, or set")


def test_a_regularizer_comes_from_the_call_or_the_nearest_scope() -> None:
    def fn():
        js.get_variable("none", [1])
        with js.variable_scope("a", regularizer=rule):
            js.get_variable("v", [1])
            js.get_variable("own", [1], regularizer=other_rule)
            with js.variable_scope("b"):
                js.get_variable("v", [1], regularizer=None)
            with js.variable_scope("c", regularizer=other_rule):
                js.get_variable("v", [1])

    found = {name: made.regularizer for name, made in js.transform(fn).specs().items()}
    assert found == {
        "none": None,
        "a/v": rule,
        "a/own": other_rule,
        "a/b/v": rule,
        "a/c/v": other_rule,
    }
    both(lambda: [fn(), None][1])


@pytest.mark.parametrize("off", [js.no_regularizer, False])
def test_an_inherited_regularizer_can_be_switched_off_and_on_again(off: Any) -> None:
    def fn():
        with js.variable_scope("a", regularizer=rule):
            js.get_variable("off", [1], regularizer=off)
            with js.variable_scope("b", regularizer=off):
                js.get_variable("v", [1])
                js.get_variable("on", [1], regularizer=rule)
                with js.variable_scope("c"):
                    js.get_variable("v", [1])
                with js.variable_scope("d", regularizer=rule):
                    js.get_variable("v", [1])
            js.get_variable("v", [1])

    found = {name: made.regularizer for name, made in js.transform(fn).specs().items()}
    on = {name for name, regularizer in found.items() if regularizer is rule}
    assert on == {"a/b/on", "a/b/d/v", "a/v"}
    assert {found[name] for name in found if name not in on} <= {None, js.no_regularizer}
    both(lambda: [fn(), None][1])


@pytest.mark.parametrize("off", [js.no_regularizer, False])
def test_an_inherited_regularizer_can_be_switched_off_by_the_setter(off: Any) -> None:
    def fn():
        with js.variable_scope("a", regularizer=rule) as scope:
            scope.set_regularizer(off)
            js.get_variable("v", [1])

    assert spec(fn, "a/v").regularizer in (None, js.no_regularizer)


def test_no_regularizer_gives_no_loss() -> None:
    assert js.no_regularizer(jnp.ones(2)) is None


def test_a_constraint_is_inherited_like_the_rest() -> None:
    def fn():
        with js.variable_scope("a", constraint=rule) as a:
            js.get_variable("v", [1])
            with js.variable_scope("b"), js.variable_scope("c"):
                js.get_variable("v", [1])
                js.get_variable("own", [1], constraint=other_rule)
        with js.variable_scope(a):
            js.get_variable("jump", [1])
        js.get_variable("none", [1])

    found = {name: made.constraint for name, made in js.transform(fn).specs().items()}
    assert found == {
        "a/v": rule,
        "a/b/c/v": rule,
        "a/b/c/own": other_rule,
        "a/jump": rule,
        "none": None,
    }
    both(lambda: [fn(), None][1])


def test_a_partitioner_is_inherited_and_overridden() -> None:
    def fn():
        with js.variable_scope("a", partitioner=("x", None)), js.variable_scope("b"):
            js.get_variable("v", [1, 1])
            js.get_variable("own", [1, 1], partitioner=(None, "y"))
        js.get_variable("none", [1])

    found = {name: made.partition for name, made in js.transform(fn).specs().items()}
    assert found == {"a/b/v": ("x", None), "a/b/own": (None, "y"), "none": None}
    both(lambda: [fn(), None][1])


@pytest.mark.parametrize("option", ["regularizer", "constraint"])
def test_a_rule_that_is_no_function_is_refused(option: str) -> None:
    refused(variable("v", [1], **{option: 3}), ValueError, f"{option} must be a function")
    with pytest.raises(ValueError, match=f"{option} must be a function"):
        js.variable_scope("a", **{option: 3})
    with pytest.raises(ValueError, match=f"{option} must be a function"):
        js.VariableScope("a", **{option: 3})


# Initial values that the function computes


X = jnp.array([[1.0, 2.0, 4.0], [3.0, 6.0, 0.0]])
MEAN = np.array([2.0, 4.0, 2.0], np.float32)


def test_an_array_made_in_the_function_is_an_initial_value() -> None:
    def fn():
        v = js.get_variable("v", initializer=jnp.linspace(0.0, 1.0, 5))
        return v.shape, v.dtype

    assert both(fn) == ((5,), F32)
    np.testing.assert_allclose(initial(fn), np.linspace(0, 1, 5), rtol=1e-6)
    assert spec(fn).initializer is None


def test_an_initial_value_may_depend_on_an_argument() -> None:
    def fn(x):
        js.get_variable("v", initializer=-x.mean(0))

    value = initial(fn, X)
    assert isinstance(value, jax.Array)
    np.testing.assert_allclose(value, -MEAN)


def test_an_initial_value_is_a_copy_of_the_argument() -> None:
    def fn(x):
        js.get_variable("v", initializer=x)
        js.get_variable("w", initializer=x)

    x = jnp.arange(3.0)
    params = js.transform(fn).init(0, x)
    assert params["v"] is not params["w"]
    jax.tree.map(lambda leaf: leaf.delete(), params)
    np.testing.assert_array_equal(x, [0, 1, 2])


def test_an_initial_value_may_depend_on_a_keyword_argument() -> None:
    def fn(*, x, scale):
        return js.get_variable("v", initializer=x * scale)

    net = js.transform(fn)
    np.testing.assert_allclose(net.init(0, x=X, scale=2)["v"], 2 * X)


def test_computed_initial_values_are_computed_in_order_of_creation() -> None:
    def fn(x):
        first = js.get_variable("z_first", initializer=x.mean(0))
        second = js.get_variable("a_second", initializer=first * 10)
        js.get_variable("m_third", initializer=first + second)

    params = js.transform(fn).init(0, X)
    np.testing.assert_allclose(params["z_first"], MEAN)
    np.testing.assert_allclose(params["a_second"], 10 * MEAN)
    np.testing.assert_allclose(params["m_third"], 11 * MEAN)
    assert names(fn, X) == ["z_first", "a_second", "m_third"]


def test_a_computed_initial_value_sees_the_others_at_their_initial_values() -> None:
    def fn(x):
        w = js.get_variable("w", [3, 2])
        b = js.get_variable("b", initializer=-(x @ w).mean(0))
        return x @ w + b[None]

    net = js.transform(fn)
    params = net.init(3, X)
    np.testing.assert_allclose(params["b"], -(X @ params["w"]).mean(0), rtol=1e-6)
    np.testing.assert_allclose(net.apply(params, None, X).mean(0), [0, 0], atol=1e-6)
    plain = js.transform(variable("w", [3, 2])).init(3)
    np.testing.assert_array_equal(params["w"], plain["w"])


def test_a_shared_computed_variable_is_computed_once() -> None:
    def fn(x):
        with js.variable_scope("", reuse=AUTO):
            first = js.get_variable("v", initializer=x.mean(0))
            again = js.get_variable("v", initializer=x.sum(0))
        return first is again

    assert both(fn, X)
    np.testing.assert_allclose(initial(fn, X), MEAN)


def test_another_variable_may_be_the_initial_value() -> None:
    def fn():
        a = js.get_variable("a", [3])
        b = js.get_variable("b", initializer=a)
        return a is b

    net = js.transform(fn)
    params = net.init(0)
    np.testing.assert_array_equal(params["a"], params["b"])
    assert params["a"] is not params["b"]
    assert not net.apply(params, None)


def test_a_scopes_default_may_be_computed() -> None:
    def fn(x):
        with js.variable_scope("a", initializer=x.mean(0)):
            js.get_variable("v")
            js.get_variable("w", [3])

    params = js.transform(fn).init(0, X)
    np.testing.assert_allclose(params["a"]["v"], MEAN)
    np.testing.assert_allclose(params["a"]["w"], MEAN)
    assert names(fn, X) == ["a/v", "a/w"]


@pytest.mark.parametrize("shape", [[3], (3,)])
def test_a_computed_initial_value_may_come_with_its_own_shape(shape: Any) -> None:
    def fn(x):
        js.get_variable("v", shape, "float32", initializer=x.mean(0))

    np.testing.assert_allclose(initial(fn, X), MEAN)


def test_a_computed_initial_value_of_another_shape_or_dtype_is_refused() -> None:
    def other_shape(x):
        js.get_variable("v", [4], initializer=x.mean(0))

    def other_dtype(x):
        js.get_variable("v", dtype="float16", initializer=x.mean(0))

    refused(other_shape, errors.InitializerError, "If initializer is a constant", X)
    refused(other_dtype, errors.InitializerError, "'float32' and explicit dtype 'float16'", X)


def test_a_computed_initial_value_needs_a_real_argument() -> None:
    def fn(x, y):
        js.get_variable("a/v", initializer=-y["data"].mean(0))

    struct = jax.ShapeDtypeStruct(X.shape, X.dtype)
    net = js.transform(fn)
    with pytest.raises(
        errors.InitializerError,
        match=r"initial value of variable a/v is computed from the argument",
    ) as caught:
        net.init(0, X, {"data": struct})
    assert isinstance(caught.value, ValueError)
    assert "args[1]['data']" in str(caught.value)
    assert "ShapeDtypeStruct" in str(caught.value)
    assert caught.value.name == "a/v"
    np.testing.assert_allclose(net.init(0, struct, {"data": X})["a"]["v"], -MEAN)
    assert net.specs(struct, {"data": struct})["a/v"].shape == (3,)


def test_the_variable_that_needs_a_real_argument_is_named() -> None:
    def fn(*, x):
        js.get_variable("line", initializer=jnp.linspace(0.0, 1.0, x.shape[0]))
        js.get_variable("data", initializer=x.mean(0))

    with pytest.raises(
        errors.InitializerError, match=r"variable data is computed from the argument kwargs\['x'\]"
    ):
        js.transform(fn).init(0, x=jax.ShapeDtypeStruct(X.shape, X.dtype))


def test_a_value_that_needs_no_data_is_computed_from_shapes_alone() -> None:
    def fn(x):
        js.get_variable("w", [x.shape[-1]])
        js.get_variable("v", initializer=jnp.linspace(0.0, 1.0, x.shape[-1]))
        return x * 2

    params = js.transform(fn).init(0, jax.ShapeDtypeStruct([2, 3], jnp.float32))
    np.testing.assert_allclose(params["v"], [0, 0.5, 1])


@pytest.mark.parametrize("transform", INNER)
def test_a_value_computed_inside_an_inner_transform_is_refused(transform: str) -> None:
    def fn(x):
        def inner(x):
            js.get_variable("a/v", initializer=x * 2)
            return x

        INNER[transform](inner)(x)

    match = "initial value of variable a/v was computed inside an inner JAX transform"
    for error in refused(fn, errors.InitializerError, match, X):
        assert isinstance(error, ValueError)
        assert error.name == "a/v"


@pytest.mark.parametrize("transform", INNER)
def test_a_value_computed_outside_may_be_used_inside_an_inner_transform(transform: str) -> None:
    def fn(x):
        start = x.mean(0)

        def inner(y):
            js.get_variable("v", initializer=start)
            js.get_variable("c", initializer=np.ones(2, np.float32))
            return y * 2

        INNER[transform](inner)(x)

    np.testing.assert_allclose(initial(fn, X), MEAN)
    np.testing.assert_allclose(initial(fn, X, name="c"), [1, 1])


def test_a_leaked_initial_value_is_refused() -> None:
    leaked = []

    def fn():
        js.get_variable("v", initializer=leaked[0])

    with jax.check_tracer_leaks(False):
        jax.jit(lambda x: leaked.append(x * 2) or x)(X)
        refused(fn, errors.InitializerError, "initial value of variable v is a tracer that leaked")


def test_computed_initial_values_work_under_outer_transforms() -> None:
    def fn(x):
        w = js.get_variable("w", [3])
        js.get_variable("v", initializer=x.mean(0) + w)

    net = js.transform(fn)
    plain = net.init(0, X)
    for init in (jax.jit(net.init), jax.jit(lambda rng, x: js.transform(fn).init(rng, x))):
        found = init(0, X)
        np.testing.assert_allclose(found["v"], plain["v"], rtol=1e-6)
    keys = jax.random.split(jax.random.key(0), 2)
    many = jax.vmap(net.init, in_axes=(0, None))(keys, X)
    np.testing.assert_allclose(many["v"], MEAN[None] + many["w"], rtol=1e-6)
    slope = jax.grad(lambda x: net.init(0, x)["v"].sum())(X)
    np.testing.assert_allclose(slope, np.full([2, 3], 0.5))


def test_apply_does_not_compute_initial_values() -> None:
    def fn(x):
        return js.get_variable("v", initializer=jnp.sin(x).mean(0)) * 2

    net = js.transform(fn)
    params = {"v": jnp.ones(3)}
    np.testing.assert_array_equal(net.apply(params, None, X), [2, 2, 2])
    text = jax.jit(net.apply).lower(params, None, X).compile().as_text()
    assert "sine" not in text
    assert "multiply" in text


def test_a_computed_value_is_not_an_argument_of_the_pass_kept_alive() -> None:
    made = js.transform(lambda x: js.get_variable("v", initializer=x * 2)).specs(X)["v"]
    assert made.initializer is None
    assert not any(isinstance(fact, jax.core.Tracer) for fact in (made.dtype, *made.sites))


def test_a_program_that_changes_between_runs_is_refused() -> None:
    runs = []

    def fn(x):
        runs.append(None)
        js.get_variable(f"v{len(runs)}", initializer=x * 2)

    with pytest.raises(errors.InitializerError, match="did not make variable v1 again"):
        js.transform(fn).init(0, X)

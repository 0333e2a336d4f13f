"""Law 11: an initial value is what the initializer computes when called at its request."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import pathlib
import random
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import INNER

import jscope as js
from jscope import _keys, _sampling, errors

X = jnp.array([[1.0, 2.0, 4.0], [3.0, 6.0, 0.0]])

# Kinds of initializers. Each makes a function of the number of a turn, called just before the
# request of that turn, that gives the initializer.

Kind = Callable[[int], Any]


def full(key: Any, shape: Any, dtype: Any, value: Any = 0.0) -> jax.Array:
    return jnp.full(shape, value, dtype)


def wrapped(f: Any) -> Any:
    @functools.wraps(f)
    def wrapper(*args: Any) -> Any:
        return f(*args)

    return wrapper


def late(wrap: Callable[[Any], Any] = lambda f: f) -> Kind:
    def make() -> Kind:
        number = 0
        made = wrap(lambda key, shape, dtype: jnp.full(shape, number, dtype))

        def turn(i: int) -> Any:
            nonlocal number
            number = i
            return made

        return turn

    return make()


class Mutable:
    """Its value is an attribute; equal to all others of its kind."""

    value: Any = 0.0

    def __call__(self, key: Any, shape: Any, dtype: Any) -> Any:
        return jnp.full(shape, self.value, dtype)

    def method(self, key: Any, shape: Any, dtype: Any) -> Any:
        return self(key, shape, dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mutable)

    def __hash__(self) -> int:
        return 0


def mutable(choose: Callable[[Mutable], Any]) -> Kind:
    thing = Mutable()

    def turn(i: int) -> Any:
        thing.value = float(i)
        return choose(thing)

    return turn


config = types.SimpleNamespace(STD=0.0)
STD = 0.0


def from_module(key: Any, shape: Any, dtype: Any) -> jax.Array:
    return jnp.full(shape, config.STD, dtype)


def from_global(key: Any, shape: Any, dtype: Any) -> jax.Array:
    return jnp.full(shape, STD, dtype)


def of_module() -> Kind:
    def turn(i: int) -> Any:
        config.STD = float(i)
        return from_module

    return turn


def of_global() -> Kind:
    def turn(i: int) -> Any:
        globals()["STD"] = float(i)
        return from_global

    return turn


def of_code() -> Kind:
    def replaced(key: Any, shape: Any, dtype: Any) -> jax.Array:
        return jnp.full(shape, 0.0, dtype)

    bodies = [lambda k, s, d: jnp.zeros(s, d), lambda k, s, d: jnp.ones(s, d)]

    def turn(i: int) -> Any:
        replaced.__code__ = bodies[i % 2].__code__
        return replaced

    return turn


def of_default() -> Kind:
    def turn(i: int) -> Any:
        full_copy.__defaults__ = (float(i),)
        return full_copy

    def full_copy(key: Any, shape: Any, dtype: Any, value: float = 0.0) -> jax.Array:
        return jnp.full(shape, value, dtype)

    return turn


def numpy_draws(wrap: Callable[[Any], Any] = lambda f: f) -> Kind:
    made = wrap(lambda key, shape, dtype: np.random.randn(*shape))
    return lambda i: made


def python_draws() -> Kind:
    generator = random.Random(3)
    return lambda i: lambda key, shape, dtype: jnp.full(shape, generator.random(), dtype)


class Unit(np.ndarray):
    """As astropy's quantities: what tells two apart is not in ``vars``."""


def array_kind(wrap: Callable[[Any], Any], written: bool) -> Kind:
    table = wrap(np.zeros(2, np.float32))

    def turn(i: int) -> Any:
        if written:
            table[...] = i
            held = table
        else:
            held = wrap(np.full(2, i, np.float32))
        return lambda key, shape, dtype: held * jnp.ones(shape, dtype)

    return turn


def returned(wrap: Callable[[Any], Any]) -> Kind:
    table = np.zeros(2, np.float32)

    def turn(i: int) -> Any:
        table[...] = i
        return lambda key, shape, dtype: wrap(table)

    return turn


def fresh_jit() -> Kind:
    table = np.zeros(2, np.float32)

    def turn(i: int) -> Any:
        table[...] = i
        inner = jax.jit(lambda key: table * jnp.ones(2))
        return lambda key, shape, dtype: inner(key)

    return turn


def container(held: Any, put: Callable[[Any, float], None], get: Callable[[Any], Any]) -> Kind:
    made = lambda key, shape, dtype: jnp.full(shape, get(held), dtype)  # noqa: E731

    def turn(i: int) -> Any:
        put(held, float(i))
        return made

    return turn


def counter() -> Kind:
    calls = 0

    def count(key: Any, shape: Any, dtype: Any) -> jax.Array:
        nonlocal calls
        calls += 1
        return jnp.full(shape, calls, dtype)

    return lambda i: count


def signs() -> Kind:
    values = [0.0, -0.0, float("nan")]
    return lambda i: functools.partial(full, value=values[i % 3])


def native(**_: Any) -> Kind:
    numbers = iter(range(1, 1000))
    ready = functools.partial(next, numbers)

    def call(key: Any, shape: Any, dtype: Any) -> Any:
        return np.full(shape, ready())

    return lambda i: functools.partial(call)


def other_key(i: int) -> Any:
    own = jax.random.key(i)
    return lambda key, shape, dtype: jax.random.normal(own, shape, dtype)


KINDS: dict[str, Callable[[], Kind]] = {
    "closure": late,
    "wrapper": lambda: late(wrapped),
    "two wrappers": lambda: late(lambda f: wrapped(wrapped(f))),
    "partial": lambda: late(functools.partial),
    "partial of a wrapper": lambda: late(lambda f: functools.partial(wrapped(f))),
    "lru_cache object": lambda: late(lambda f: types.SimpleNamespace(f=f).f),
    "mutable callable": lambda: mutable(lambda thing: thing),
    "bound method": lambda: mutable(lambda thing: thing.method),
    "wrapper of a method": lambda: mutable(lambda thing: wrapped(thing.method)),
    "module attribute": of_module,
    "global": of_global,
    "replaced code": of_code,
    "replaced default": of_default,
    "default argument": lambda: lambda i: lambda key, shape, dtype, i=i: jnp.full(shape, i, dtype),
    "argument of a partial": lambda: lambda i: functools.partial(full, value=float(i)),
    "wrapper of the library": lambda: lambda i: wrapped(jax.nn.initializers.constant(i)),
    "the library": lambda: lambda i: jax.nn.initializers.constant(float(i)),
    "the library, an array": lambda: lambda i: jax.nn.initializers.constant(np.full(2, i)),
    "jscope's": lambda: lambda i: js.initializers.constant(i),
    "jscope's, an array": lambda: lambda i: js.initializers.constant([i, i + 1]),
    "signed zeros and NaN": signs,
    "NumPy draws": numpy_draws,
    "wrapped NumPy draws": lambda: numpy_draws(wrapped),
    "random.Random": python_draws,
    "state in C": native,
    "counter": counter,
    "array": lambda: array_kind(np.array, written=False),
    "ndarray subclass": lambda: array_kind(lambda a: a.view(Unit), written=False),
    "JAX array": lambda: array_kind(jnp.asarray, written=False),
    "array written into": lambda: array_kind(lambda a: a, written=True),
    "array written into, returned": lambda: returned(lambda a: a),
    "array written into, in JAX": lambda: returned(jnp.asarray),
    "array written into, in a fresh jit": fresh_jit,
    "list": lambda: container([0.0], lambda a, i: a.__setitem__(0, i), lambda a: a[0]),
    "dict": lambda: container({}, lambda a, i: a.update(x=i), lambda a: a["x"]),
    "attribute": lambda: container(
        types.SimpleNamespace(), lambda a, i: setattr(a, "x", i), lambda a: a.x
    ),
    "draws": lambda: late(lambda f: lambda k, s, d: f(k, s, d) + jax.random.normal(k, s, d)),
    "draws of another key": lambda: other_key,
}


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    state = np.random.get_state()
    np.random.seed(5)
    yield
    np.random.set_state(state)


def key_of(seed: int, name: str) -> jax.Array:
    words = _keys.words(name)
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), words[0]), words[1])


def plainly(kind: Callable[[], Kind], inits: int) -> list[np.ndarray]:
    """What plain Python gives, with the keys of init."""
    turn = kind()
    values = []
    for number in range(inits * 3):
        key = key_of(number // 3, f"v{number % 3}")
        values.append(np.array(turn(number)(key, (2,), np.dtype("float32")), np.float32))
    return values


@pytest.mark.parametrize("where", ["plain", "jit", "checkpoint", "scan"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_value_is_what_a_call_at_the_request_gives(kind: str, where: str) -> None:
    with seeded():
        expected = plainly(KINDS[kind], inits=2)
    turn = KINDS[kind]()

    def program(first: int) -> None:
        for i in range(3):
            ask = functools.partial(js.get_variable, f"v{i}", [2])
            made = turn(first + i)
            inside = lambda x, ask=ask, made=made: x + ask(initializer=made)  # noqa: E731
            if where == "scan":
                jax.lax.scan(lambda c, _, f=inside: (f(c), None), jnp.ones(2), None, length=2)
            else:
                {"plain": lambda f: f, "jit": jax.jit, "checkpoint": jax.checkpoint}[where](inside)(
                    jnp.ones(2)
                )

    with seeded():
        trees = [js.transform(program).init(seed, 3 * seed) for seed in (0, 1)]
    values = [np.asarray(tree[f"v{i}"]) for tree in trees for i in range(3)]
    for value, wanted in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-6)
        np.testing.assert_array_equal(np.signbit(value), np.signbit(wanted))


@pytest.mark.parametrize("kind", KINDS)
def test_a_jitted_or_mapped_init_gives_the_same(kind: str) -> None:
    with seeded():
        expected = plainly(KINDS[kind], inits=1)

    def init(seed: Any) -> Any:
        turn = KINDS[kind]()

        def program() -> None:
            for i in range(3):
                js.get_variable(f"v{i}", [2], initializer=turn(i))

        return js.transform(program).init(seed)

    with seeded():
        eager = init(0)
    with seeded():
        jitted = jax.jit(init)(0)
    with seeded():
        mapped = jax.tree.map(lambda x: x[0], jax.vmap(init)(jax.random.split(jax.random.key(0))))
    with seeded():
        alone = init(jax.random.split(jax.random.key(0))[0])
    np.testing.assert_allclose([*jax.tree.leaves(eager)], np.stack(expected), rtol=1e-6)
    chex.assert_trees_all_equal(jitted, eager)
    chex.assert_trees_all_equal(mapped, alone)


def test_a_reloaded_module_is_not_its_old_self(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "jscope_test_reloaded.py"
    text = (
        "import jax.numpy as jnp\ndef start(key, shape, dtype): return jnp.full(shape, {}, dtype)\n"
    )
    file.write_text(text.format("1.0"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("jscope_test_reloaded")
    net = js.transform(lambda: js.get_variable("w", [], initializer=module.start))
    assert net.init(0)["w"] == 1
    file.write_text(text.format("2.5"))
    importlib.invalidate_caches()
    importlib.reload(module)
    assert net.init(0)["w"] == 2.5
    monkeypatch.delitem(sys.modules, "jscope_test_reloaded")


TABLE = np.linspace(0, 1, 6, dtype=np.float32)

OVER_ARRAYS: dict[str, Any] = {
    "itself": lambda key, shape, dtype: jnp.asarray(TABLE),
    "JAX's": functools.partial(lambda table, key, shape, dtype: table, jnp.asarray(TABLE)),
    "computed with": lambda key, shape, dtype: jnp.exp(TABLE) + jnp.tanh(TABLE),
    "and draws": lambda key, shape, dtype: jnp.exp(TABLE) * jax.random.uniform(key, shape),
}


@pytest.mark.parametrize("kind", OVER_ARRAYS)
def test_bits_over_arrays_are_those_of_the_call_eager_jitted_and_mapped(kind: str) -> None:
    net = js.transform(lambda: js.get_variable("w", [6], initializer=OVER_ARRAYS[kind]))
    key = jax.random.key(0)
    expected = OVER_ARRAYS[kind](key_of(0, "w"), (6,), np.dtype("float32"))
    for init in (net.init, jax.jit(net.init)):
        chex.assert_trees_all_equal(init(key)["w"], expected)
    chex.assert_trees_all_equal(jax.vmap(net.init)(key[None])["w"][0], expected)


def test_values_are_the_same_without_jit() -> None:
    kinds = [
        jax.nn.initializers.truncated_normal(),
        wrapped(gamma),
        jax.nn.initializers.orthogonal(),
    ]

    def program() -> None:
        for i, kind in enumerate(kinds):
            js.get_variable(f"v{i}", [4, 4], initializer=kind)

    net = js.transform(program)
    with jax.disable_jit():
        found = net.init(0)
    chex.assert_trees_all_equal(found, net.init(0))


def gamma(key: Any, shape: Any, dtype: Any) -> jax.Array:
    return jax.random.gamma(key, 2.0, shape, dtype)


def test_initial_values_are_copies_of_an_initializers_array() -> None:
    table = jnp.arange(6.0)
    net = js.transform(lambda: js.get_variable("w", [6], initializer=lambda k, s, d: table))
    for _ in range(2):
        jax.tree.map(lambda leaf: leaf.delete(), net.init(0))
    assert table.tolist() == [0, 1, 2, 3, 4, 5]


# How often, and where


def test_an_initializer_is_called_once_per_variable_and_never_in_apply() -> None:
    calls = []

    def initializer(key: Any, shape: Any, dtype: Any) -> jax.Array:
        calls.append(1)
        return jnp.zeros(shape, dtype)

    def program(x: Any) -> Any:
        with js.variable_scope("a", reuse=js.AUTO_REUSE):
            for _ in range(2):
                x += js.get_variable("v", [], initializer=initializer)

        def body(carry: Any, _: Any) -> Any:  # which JAX traces again, as its type changes
            return carry * 1.0 + js.get_variable("w", [], initializer=initializer), None

        x += jax.lax.scan(body, 0, None, length=2)[0]
        x += js.layer_stack(3)(lambda c: c + js.get_variable("s", [], initializer=initializer))(x)
        js.get_variable("late", initializer=x)  # has init run the program again
        return x

    with jax.numpy_dtype_promotion("standard"):
        net = js.transform(program)
        net.specs(1.0)
        assert len(calls) == 3
        params = net.init(0, jnp.float32(1))
        assert len(calls) == 6
        jax.jit(net.apply)(params, None, 1.0)
        net.apply(params, None, 1.0)
        assert len(calls) == 6


def test_errors_of_an_initializer_come_from_its_line_in_init_and_in_specs() -> None:
    after = []

    def program() -> None:
        js.get_variable("a/w", [1], initializer=lambda key, shape, dtype: 1 / 0)
        after.append(1)

    net = js.transform(program)
    for run in (lambda: net.init(0), net.specs):
        with pytest.raises(ZeroDivisionError) as caught:
            run()
        assert (
            "in the initializer of variable a/w, float32[1], asked for at"
            in (caught.value.__notes__[0])
        )
    assert not after


def test_errors_of_a_callback_name_the_variable() -> None:
    def broken(key: Any, shape: Any, dtype: Any) -> Any:
        return jax.pure_callback(lambda: 1 / 0, jax.ShapeDtypeStruct(shape, dtype))

    net = js.transform(lambda: js.get_variable("a/w", [1], initializer=broken))
    with pytest.raises(jax.errors.JaxRuntimeError, match="division by zero") as caught:
        jax.block_until_ready(net.init(0))
    assert "in the initializer of variable a/w, float32[1]" in "\n".join(caught.value.__notes__)


def test_an_initializer_makes_no_variables() -> None:
    def nested(key: Any, shape: Any, dtype: Any) -> Any:
        return js.get_variable("inner", shape, dtype)

    net = js.transform(lambda: js.get_variable("w", [2], initializer=nested))
    for run in (lambda: net.init(0), net.specs):
        with pytest.raises(errors.NoPassError, match="get_variable"):
            run()


def test_an_initializer_may_initialise_another_network() -> None:
    inner = js.transform(lambda: js.get_variable("v", [2]))

    def nested(key: Any, shape: Any, dtype: Any) -> Any:
        return inner.init(key)["v"]

    value = js.transform(lambda: js.get_variable("w", [2], initializer=nested)).init(0)["w"]
    chex.assert_trees_all_equal(value, inner.init(key_of(0, "w"))["v"])


def test_a_key_that_is_not_used_is_not_needed() -> None:
    zeros = lambda key, shape, dtype: jnp.zeros(shape, dtype) + 0 * key.ndim  # noqa: E731
    assert js.transform(lambda: js.get_variable("w", [2], initializer=zeros)).init(None)["w"].shape
    draws = js.transform(lambda: js.get_variable("w", [2], initializer=full_draw))
    assert draws.specs()["w"].shape == (2,)
    with pytest.raises(errors.RngError, match="initializer of variable w draws random numbers"):
        draws.init(None)


def full_draw(key: Any, shape: Any, dtype: Any) -> jax.Array:
    return jax.random.normal(key, shape, dtype)


def test_a_template_whose_first_call_failed_leaves_no_initializer() -> None:
    starts = [2.0, 3.0]

    def tower() -> Any:
        start = starts.pop(0)
        js.get_variable("w", [1], initializer=lambda k, s, d: jnp.full(s, start, d))
        if starts:
            raise KeyError("again")

    def program() -> None:
        made = js.make_template("tower", tower)
        with contextlib.suppress(KeyError):
            made()
        made()

    assert js.transform(program).init(0)["tower"]["w"].tolist() == [3.0]


# Values traced in the function


def over(value: Any) -> Any:
    return lambda key, shape, dtype: value * jnp.ones(shape, dtype)


def test_an_initializer_over_a_traced_value_is_computed_in_order_of_creation() -> None:
    def program(x: Any) -> Any:
        w = js.get_variable("w", [3, 3])
        shift = js.get_variable("b", [3], initializer=over(-(x @ w).mean(0)))
        js.get_variable("c", [3], initializer=over(shift * 10))
        js.get_variable("whole", [3], initializer=lambda key, shape, dtype: shift)
        return x @ w + shift[None]

    net = js.transform(program)
    params = net.init(3, X)
    np.testing.assert_allclose(net.apply(params, None, X).mean(0), [0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(params["c"], 10 * params["b"], rtol=1e-6)
    chex.assert_trees_all_equal(params["whole"], params["b"])
    assert params["whole"] is not params["b"]
    chex.assert_trees_all_close(jax.jit(net.init)(3, X), params, rtol=1e-5)
    assert net.specs(X)["b"].initializer is None
    assert js.transform(program).specs(X)["w"].initializer is not None


def test_such_an_initializer_draws_from_the_key_of_its_name() -> None:
    def noisy(x: Any) -> Any:
        scale = x.mean()
        return js.get_variable("w", [3], initializer=lambda k, s, d: scale * full_draw(k, s, d))

    net = js.transform(noisy)
    expected = X.mean() * full_draw(key_of(5, "w"), (3,), jnp.float32)
    np.testing.assert_allclose(net.init(5, X)["w"], expected, rtol=1e-6)
    with pytest.raises(errors.RngError, match="initializer of variable w draws random numbers"):
        net.init(None, X)
    with pytest.raises(errors.InitializerError, match=r"computed from the argument args\[0\]"):
        net.init(0, jax.ShapeDtypeStruct([2, 3], jnp.float32))


@pytest.mark.parametrize("transform", INNER)
def test_an_initializer_over_a_value_of_an_inner_transform_is_refused(transform: str) -> None:
    def program(x: Any) -> None:
        def inner(x: Any) -> Any:
            js.get_variable("a/v", x.shape, initializer=lambda key, shape, dtype: x * 2)
            return x

        INNER[transform](inner)(x)

    net = js.transform(program)
    for run in (lambda: net.init(0, X), lambda: net.specs(X)):
        with pytest.raises(
            errors.InitializerError, match="variable a/v was computed inside an inner JAX transf"
        ) as caught:
            run()
        assert caught.value.name == "a/v"


@pytest.mark.parametrize("transform", INNER)
def test_an_initializer_over_a_value_from_outside_works_inside(transform: str) -> None:
    def program(x: Any) -> None:
        start, weak = x.mean(0), jnp.asarray(2.0) * 1.5
        assert weak.weak_type

        def inner(y: Any) -> Any:
            js.get_variable("v", [3], initializer=over(start))
            js.get_variable("weak", [], initializer=lambda key, shape, dtype: weak)
            js.get_variable("value", initializer=weak)
            return y * 2

        INNER[transform](inner)(x)

    params = js.transform(program).init(0, X)
    np.testing.assert_allclose(params["v"], [2, 4, 2])
    assert params["weak"] == params["value"] == 3


def test_a_stack_refuses_initializers_over_traced_values() -> None:
    def program(initializer: Callable[[Any, Any], Any]) -> Any:
        def fn(x: Any) -> Any:
            stack = js.layer_stack(2)
            return stack(lambda c: c * js.get_variable("w", [2, 3], initializer=initializer(c, x)))(
                x
            )

        return js.transform(fn)

    with pytest.raises(errors.InitializerError, match="cannot be that of every layer"):
        program(lambda c, x: over(x)).init(0, X)
    with pytest.raises(errors.InitializerError, match=r"every layer|inside an inner"):
        program(lambda c, x: over(c * 2)).specs(X)


def test_an_initializer_over_a_leaked_value_is_refused() -> None:
    leaked: list[Any] = []
    with jax.check_tracer_leaks(False):
        jax.jit(lambda x: leaked.append(x * 2) or x)(X)
        net = js.transform(lambda: js.get_variable("v", [2, 3], initializer=over(leaked[0])))
        with pytest.raises(errors.InitializerError, match="variable v is a tracer that leaked"):
            net.init(0)


def test_an_initializer_over_a_value_of_an_outer_trace() -> None:
    def outer(x: Any) -> Any:
        return js.transform(lambda: js.get_variable("w", [3], initializer=over(x))).init(0)["w"]

    chex.assert_trees_all_close(jax.jit(outer)(X[0]), X[0])
    chex.assert_trees_all_close(jax.vmap(outer)(X), X)
    chex.assert_trees_all_close(jax.grad(lambda x: outer(x).sum())(X[0]), jnp.ones(3))


# Stacks


def test_layer_i_of_a_stack_is_what_the_initializer_gives_for_its_key() -> None:
    def initializer(key: Any, shape: Any, dtype: Any) -> jax.Array:
        return 0.5 * jax.random.normal(key, shape, dtype) + np.float32(number)

    number = 7
    block = lambda x: x + js.get_variable("w", [2], initializer=initializer)  # noqa: E731
    program = lambda: js.layer_stack(3)(block)(jnp.ones(2))  # noqa: E731
    value = js.transform(program).init(4)["w"]
    for i in range(3):
        own = jax.random.fold_in(key_of(4, "w"), i)
        np.testing.assert_allclose(value[i], initializer(own, (2,), jnp.float32), rtol=1e-6)


def test_an_initializer_that_draws_from_numpy_draws_once_for_a_stack() -> None:
    block = lambda x: x + js.get_variable("w", [2], initializer=numpy_draws()(0))  # noqa: E731
    value = js.transform(lambda: js.layer_stack(3)(block)(jnp.ones(2))).init(4)["w"]
    chex.assert_trees_all_equal(value[0], value[1])


# Sharing and memory


def shares_helpers(depth: int) -> Any:
    def leaf(key: Any, shape: Any, dtype: Any) -> jax.Array:
        return jnp.ones(shape, dtype)

    helper: Any = leaf
    for _ in range(depth):
        helper = lambda *args, f=helper, g=helper: f(*args)  # noqa: E731
    return helper


def callback(key: Any, shape: Any, dtype: Any) -> Any:
    return jax.pure_callback(lambda: np.ones(shape, dtype), jax.ShapeDtypeStruct(shape, dtype))


def rectified(key: Any, shape: Any, dtype: Any) -> jax.Array:
    return jax.nn.relu(jax.random.normal(key, shape, dtype))


def looped(key: Any, shape: Any, dtype: Any) -> jax.Array:
    return jax.lax.scan(lambda c, x: (c + 1, x * c), 0.0, jnp.ones(shape, dtype))[1]


SHARED: dict[str, tuple[Callable[[int], Any], int]] = {
    "library": (lambda i: jax.nn.initializers.normal(0.02), 1),
    "library, other numbers": (lambda i: jax.nn.initializers.normal(0.02 + i), 30),
    "closure": (lambda i: over(0.5), 1),
    "draws": (lambda i: wrapped(full_draw), 1),
    "arrays": (lambda i: over(np.full(2, i, np.float32)), 1),
    "NumPy draws": (lambda i: lambda k, s, d: np.random.randn(*s), 1),
    "deep helpers": (lambda i: shares_helpers(25), 1),
    "custom derivatives": (lambda i: rectified, 1),
    "loops": (lambda i: looped, 1),
    "callbacks": (lambda i: callback, 30),
}


@pytest.mark.parametrize("case", SHARED)
def test_equal_programs_are_compiled_once(case: str, compiled: list[Any]) -> None:
    make, count = SHARED[case]

    def program() -> None:
        for i in range(30):
            js.get_variable(f"v{i}", [2], initializer=make(i))

    js.transform(program).init(0)
    assert len(compiled) == count


class Big:
    def __init__(self) -> None:
        self.table = np.ones(10_000, np.float32)


def custom(f: Any) -> Any:
    made = jax.custom_vjp(f)
    made.defvjp(lambda x: (f(x), x), lambda x, g: (g,))
    return made


HOLDS: dict[str, Callable[[Big], Any]] = {
    "closure": lambda big: lambda k, s, d: jnp.asarray(big.table[: s[0]]),
    "partial": lambda big: functools.partial(lambda big, k, s, d: big.table[: s[0]] * 2, big),
    "array": lambda big: over(big.table[0]),
    "not computed with": lambda big: lambda k, s, d: jnp.full(s, float(big.table[0]), d),
    "jit": lambda big: jax.jit(
        lambda k, s, d: big.table[: s[0]] * jnp.ones(s), static_argnums=(1, 2)
    ),
    "callback": lambda big: (
        lambda k, s, d: jax.pure_callback(lambda: big.table[: s[0]], jax.ShapeDtypeStruct(s, d))
    ),
    "custom_vjp": lambda big: lambda k, s, d: custom(lambda x: x * big.table[0])(jnp.ones(s, d)),
}


@pytest.mark.parametrize("case", HOLDS)
def test_nothing_of_the_users_stays_alive(case: str) -> None:
    big = Big()
    made = functools.partial(js.get_variable, "w", [3], initializer=HOLDS[case](big))
    net = js.transform(made)
    net.init(0)
    net.specs()
    watched = [weakref.ref(big)]
    del big, made, net
    jax.clear_caches() if case in ("jit", "callback", "custom_vjp") else None
    gc.collect()
    assert [ref() for ref in watched] == [None]


def test_shared_samplers_are_few(monkeypatch: pytest.MonkeyPatch, compiled: list[Any]) -> None:
    monkeypatch.setattr(_sampling, "_CACHED_SAMPLERS", 5)

    def program() -> None:
        for i in range(20):
            js.get_variable(f"v{i}", [2], initializer=jax.nn.initializers.constant(1e-3 * i))

    js.transform(program).init(0)
    assert len(compiled) == 20
    assert len(_sampling._samplers) == 5

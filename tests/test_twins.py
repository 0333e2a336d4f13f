"""The lifted transforms: state and randomness as in the plain program, or as in the Python loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jscope as js
from jscope import _pass, errors
from jscope._hlo import canonical

X = jnp.array([0.5, -1.0, 2.0])
ZEROS = jax.nn.initializers.zeros


def block(x: jax.Array) -> jax.Array:
    """Reads a variable and state, draws, and assigns: [3] -> [3]."""
    w = js.get_variable("w", [3])
    mean = js.get_variable("mean", [3], initializer=ZEROS, trainable=False)
    noise = jax.random.normal(js.next_rng_key(), (3,))
    js.get_variable("steps", initializer=0, trainable=False)
    js.assign_add("steps", 1)
    js.assign("mean", mean * 0.5 + x + noise)
    return jnp.tanh(x * w) + noise - mean


def first(f: Any) -> Any:
    def loss(x: jax.Array) -> Any:
        y = f(x)
        return y.sum(), y

    return loss


ONCE: dict[str, Callable[[Any], Any]] = {
    "jit": lambda f: js.jit(f),
    "checkpoint": lambda f: js.checkpoint(f),
    "remat": lambda f: js.remat(f, policy=jax.checkpoint_policies.dots_saveable),
    "cond": lambda f: lambda x: js.cond(x.sum() < 1e9, f, lambda y: y, x),
    "cond, other branch": lambda f: lambda x: js.cond(x.sum() > 1e9, lambda y: y, f, x),
    "cond, operand": lambda f: lambda x: js.cond(x.sum() < 1e9, f, lambda y: y, operand=x),
    "switch": lambda f: lambda x: js.switch(jnp.int32(x.sum() < 1e9), [lambda y: y, f], x),
    "grad": lambda f: lambda x: js.grad(first(f), has_aux=True)(x)[1],
    "value_and_grad": lambda f: lambda x: js.value_and_grad(first(f), has_aux=True)(x)[0][1],
    "jit of checkpoint": lambda f: js.jit(js.checkpoint(f)),
    "checkpoint of cond": lambda f: js.checkpoint(lambda x: js.cond(x[0] < 9, f, lambda y: y, x)),
    "twin of raw": lambda f: js.jit(lambda x: f(jax.checkpoint(jnp.sin)(x))),
    "functionalized": lambda f: functools.partial(through_carry, f),
}


def through_carry(f: Any, x: jax.Array) -> jax.Array:
    pure, carry = js.functionalize(f)
    out, carry = jax.checkpoint(pure)(carry, x)
    js.put_carry(carry)
    return out


def program(f: Any) -> Any:
    def run(x: jax.Array) -> jax.Array:
        with js.variable_scope("a"):
            x = f(x)
        with js.variable_scope("b") as b:
            x = f(x) + jax.random.normal(js.next_rng_key(), (3,))
        with js.variable_scope(b, reuse=True):
            return f(x)

    return run


@functools.cache
def results(name: str) -> tuple[Any, ...]:
    sin = (lambda f: lambda x: f(jnp.sin(x))) if name == "twin of raw" else (lambda f: f)
    return everything(js.transform_with_state(program(sin(block))))


def everything(net: Any) -> tuple[Any, ...]:
    params, state = net.init(0, X)
    state = jax.tree.map(lambda leaf: leaf + 1, state)

    @jax.jit
    def run(params: Any, state: Any) -> Any:
        loss = lambda p: (net.apply(p, state, 1, X)[0].sum(), 0)  # noqa: E731
        gradient = jax.grad(loss, has_aux=True)(params)[0]
        batch = jax.vmap(net.apply, (None, None, None, 0))(params, state, 1, jnp.stack([X, -X]))
        return net.apply(params, state, 1, X), gradient, batch

    return params, state, run(params, state)


@pytest.mark.parametrize("name", ONCE)
def test_a_twin_that_runs_once_equals_the_plain_program(name: str) -> None:
    wanted = results("twin of raw" if name == "twin of raw" else "plain")
    net = js.transform_with_state(program(ONCE[name](block)))
    got = everything(net)
    chex.assert_trees_all_close(got, wanted, rtol=1e-5, atol=1e-6)
    params, state, (applied, _, _) = wanted
    chex.assert_trees_all_close(net.apply(params, state, 1, X), applied, rtol=1e-5, atol=1e-6)


N = 3


def unfold(w: Any, mean: Any, keys: Any, x: Any) -> tuple[Any, Any]:
    """The block, once for every key, by hand: the last value and the last mean."""
    for key in keys:
        noise = jax.random.normal(key, (3,))
        mean, x = mean * 0.5 + x + noise, jnp.tanh(x * w) + noise - mean
    return x, mean


def plain_key(scope: str, rng: Any, number: int = 0) -> jax.Array:
    """The key of a draw of a scope, without a loop."""

    def fn() -> jax.Array:
        with js.variable_scope(scope):
            return [js.next_rng_key() for _ in range(number + 1)][-1]

    return js.transform(fn).apply({}, rng)


def by_map(f: Any, x: jax.Array) -> jax.Array:
    js.get_variable("carried", [3], initializer=ZEROS, trainable=False)
    js.assign("carried", x)

    def element(_: Any) -> Any:
        with js.variable_scope(js.get_variable_scope(), reuse=True):
            carried = js.get_variable("carried")
        return js.assign("carried", f(carried))

    return js.map(element, jnp.arange(N))[-1]


def scan_n(f: Any, x: Any, **options: Any) -> Any:
    return js.scan(lambda c, _: (f(c), None), x, None, length=N, **options)[0]


LOOPS: dict[str, Callable[[Any], Any]] = {
    "scan": lambda f: functools.partial(scan_n, f),
    "scan, unrolled": lambda f: functools.partial(scan_n, f, unroll=2),
    "scan over xs": lambda f: lambda x: js.scan(lambda c, i: (f(c), i), x, jnp.arange(N))[0],
    "map": lambda f: functools.partial(by_map, f),
    "fori_loop": lambda f: lambda x: js.fori_loop(0, N, lambda i, c: f(c), x),
    "while_loop": lambda f: (
        lambda x: js.while_loop(lambda c: c[0] < N, lambda c: (c[0] + 1, f(c[1])), (0, x))[1]
    ),
    "checkpoint of scan": lambda f: js.checkpoint(functools.partial(scan_n, f)),
    "scan of checkpoint": lambda f: functools.partial(scan_n, js.checkpoint(f)),
    "scan of jit of cond": lambda f: functools.partial(
        scan_n, js.jit(lambda x: js.cond(x[0] < 1e9, f, lambda y: y, x))
    ),
    "scan of raw checkpoint of rest": lambda f: functools.partial(
        scan_n, lambda x: jax.checkpoint(lambda y: y)(f(x))
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_equals_the_python_loop_with_its_number_folded_into_keys(name: str) -> None:
    def run(x: jax.Array) -> Any:
        with js.variable_scope("loop"):
            x = LOOPS[name](block)(x)
        with js.variable_scope("loop"):
            return x, jax.random.key_data(js.next_rng_key())

    net = js.transform_with_state(run)
    params, state = net.init(0, X)
    assert list(params["loop"]) == ["w"]
    chex.assert_trees_all_equal(params, js.transform_with_state(in_loop).init(0, X)[0])
    state = jax.tree.map(lambda leaf: leaf + 1, state)
    keys = [jax.random.fold_in(plain_key("loop", 1), i) for i in range(N)]

    def by_hand(w: Any) -> Any:
        return unfold(w, state["loop"]["mean"], keys, X)

    wanted, mean = by_hand(params["loop"]["w"])
    for apply in (net.apply, jax.jit(net.apply)):
        (got, after), new_state = apply(params, state, 1, X)
        chex.assert_trees_all_close(got, wanted, rtol=1e-5)
        chex.assert_trees_all_close(new_state["loop"]["mean"], mean, rtol=1e-5)
        assert new_state["loop"]["steps"] == 1 + N
        chex.assert_trees_all_equal(after, jax.random.key_data(plain_key("loop", 1, 1)))
    derive = jax.jacfwd if name == "while_loop" else jax.grad
    gradient = jax.jit(derive(lambda p: net.apply(p, state, 1, X)[0][0].sum()))(params)
    chex.assert_trees_all_close(
        gradient["loop"]["w"],
        jax.grad(lambda w: by_hand(w)[0].sum())(params["loop"]["w"]),
        rtol=1e-4,
    )


def in_loop(x: jax.Array) -> jax.Array:
    with js.variable_scope("loop"):
        return block(x)


def test_a_loop_in_a_loop_folds_the_inner_number_first() -> None:
    def draws(_: Any) -> Any:
        return None, jax.random.key_data(js.next_rng_key())

    def run() -> Any:
        return js.map(lambda _: js.map(lambda _: draws(None)[1], jnp.arange(2)), jnp.arange(3))

    got = js.transform(run).apply({}, 1)
    key = js.transform(js.next_rng_key).apply({}, 1)
    for i in range(3):
        for j in range(2):
            wanted = jax.random.fold_in(jax.random.fold_in(key, j), i)
            chex.assert_trees_all_equal(got[i, j], jax.random.key_data(wanted))


def test_a_scan_in_reverse_keeps_the_number_of_each_x() -> None:
    def draw(carry: Any, x: jax.Array) -> Any:
        return carry, jax.random.key_data(js.next_rng_key())

    xs = jnp.arange(3)
    forwards = js.transform(lambda: js.scan(draw, 0, xs)[1]).apply({}, 1)
    backwards = js.transform(lambda: js.scan(draw, 0, xs, reverse=True)[1]).apply({}, 1)
    chex.assert_trees_all_equal(forwards, backwards)
    assert len({tuple(key.tolist()) for key in forwards}) == 3


def key_words(*_: Any) -> jax.Array:
    return jax.random.key_data(js.next_rng_key())


@pytest.mark.parametrize("variables", ["share", "split"])
@pytest.mark.parametrize("jitted", [False, True])
def test_vmap_gives_every_instance_keys_of_its_own(variables: str, jitted: bool) -> None:
    def run(x: jax.Array) -> jax.Array:
        return js.vmap(key_words, variables=variables)(x)

    net = js.transform(run)
    apply = jax.jit(net.apply) if jitted else net.apply
    key = js.transform(js.next_rng_key).apply({}, 1)
    wanted = [jax.random.key_data(jax.random.fold_in(key, i)) for i in range(3)]
    chex.assert_trees_all_equal(apply({}, 1, X), jnp.stack(wanted))
    twice = js.transform(lambda x: js.vmap(js.vmap(key_words))(x)).apply({}, 1, jnp.ones([2, 3]))
    assert len({tuple(k.tolist()) for k in twice.reshape(6, -1)}) == 6


def test_map_with_a_batch_size_draws_as_without() -> None:
    with_batches = js.transform(lambda x: js.map(key_words, x, batch_size=2)).apply({}, 1, X)
    without = js.transform(lambda x: js.map(key_words, x)).apply({}, 1, X)
    chex.assert_trees_all_equal(with_batches, without)


def test_vmap_takes_the_arguments_of_the_original() -> None:
    def scale(x: jax.Array, y: Any, *, z: jax.Array) -> Any:
        total = lax.psum(x, "i")
        return x * js.get_variable("w", []) * y["a"] + z, total

    def run(vmap: Any, **options: Any) -> Any:
        mapped = vmap(
            scale, in_axes=(1, None), out_axes=(1, None), axis_name="i", axis_size=4, **options
        )
        return lambda x: mapped(x, {"a": 2.0}, z=jnp.ones([4, 2]))

    x = jnp.arange(8.0).reshape(2, 4)
    plain = js.transform(run(jax.vmap))
    params = plain.init(0, x)
    wanted = plain.apply(params, None, x)
    shared = js.transform(run(js.vmap))
    chex.assert_trees_all_equal(shared.init(0, x), params)
    chex.assert_trees_all_close(shared.apply(params, None, x), wanted)
    split = js.transform(run(js.vmap, variables="split"))
    stacked = split.init(0, x)
    assert stacked["w"].shape == (4,)
    out, total = split.apply(stacked, None, x)
    chex.assert_trees_all_close(out, x * stacked["w"][None] * 2 + 1, rtol=1e-5)
    chex.assert_trees_all_close(total, wanted[1])


def test_split_instances_have_variables_state_and_keys_of_their_own() -> None:
    def run(x: jax.Array) -> jax.Array:
        with js.variable_scope("loop"):
            return js.vmap(block, variables="split")(x)

    net = js.transform_with_state(run)
    xs = jnp.stack([X, -X])
    params, state = net.init(0, xs)
    assert params["loop"]["w"].shape == (2, 3)
    assert state["loop"]["steps"].shape == (2,)
    state = jax.tree.map(lambda leaf: leaf + 1, state)
    key = plain_key("loop", 1)

    def by_hand(w: Any) -> Any:
        return [
            unfold(w[i], state["loop"]["mean"][i], [jax.random.fold_in(key, i)], xs[i])
            for i in range(2)
        ]

    wanted = by_hand(params["loop"]["w"])
    for apply in (net.apply, jax.jit(net.apply)):
        out, after = apply(params, state, 1, xs)
        chex.assert_trees_all_close(out, jnp.stack([y for y, _ in wanted]), rtol=1e-5)
        means = jnp.stack([mean for _, mean in wanted])
        chex.assert_trees_all_close(after["loop"]["mean"], means, rtol=1e-5)
        assert after["loop"]["steps"].tolist() == [2, 2]
    gradient = jax.grad(lambda p: net.apply(p, state, 1, xs)[0].sum())(params)["loop"]["w"]
    by_loop = jax.grad(lambda w: sum(y.sum() for y, _ in by_hand(w)))(params["loop"]["w"])
    chex.assert_trees_all_close(gradient, by_loop, rtol=1e-4)


def test_a_shared_variable_cannot_be_assigned_by_one_of_many() -> None:
    def assigning(x: jax.Array) -> jax.Array:
        js.get_variable("v", [], initializer=ZEROS, trainable=False)
        return js.assign("v", x)

    def outside(x: jax.Array) -> jax.Array:
        js.get_variable("v", [], initializer=ZEROS, trainable=False)
        return js.vmap(lambda y: js.assign("v", y), variables="split")(x)

    def test(c: Any) -> Any:
        assigning(jnp.float32(0))
        return c < 3

    state = {"v": jnp.float32(0)}
    for place, fn in {
        "jscope.vmap(variables='share')": lambda x: js.vmap(assigning)(x),
        "jscope.vmap(variables='split')": outside,
        "jscope.map(batch_size=...)": lambda x: js.map(assigning, x, batch_size=2),
        "jscope.while_loop(cond_fun)": lambda x: js.while_loop(test, lambda c: c + 1, 0),
    }.items():
        net = js.transform_with_state(fn)
        for call in (lambda net=net: net.init(0, X), lambda net=net: net.apply({}, state, None, X)):
            with pytest.raises(errors.TransformError) as caught:
                call()
            assert str(caught.value).startswith(f"Variable v cannot be assigned inside {place}: ")


def test_the_state_of_a_loop_is_what_its_condition_sees() -> None:
    def run() -> Any:
        js.get_variable("v", initializer=0, trainable=False)

        def low(_: Any) -> Any:
            with js.variable_scope("", reuse=True):
                return js.get_variable("v") < 5

        def body(c: Any) -> Any:
            js.assign_add("v", 2)
            return c + 1

        return js.while_loop(low, body, 0)

    net = js.transform_with_state(run)
    rounds, state = jax.jit(net.apply)(*net.init(0), None)
    assert (int(rounds), int(state["v"])) == (3, 6)


def test_the_branches_of_a_cond_assign_different_variables() -> None:
    def run(pred: Any) -> Any:
        for name in "ab":
            js.get_variable(name, initializer=0, trainable=False)

        def left() -> Any:
            js.assign("a", 1)
            return js.next_rng_key(), js.next_rng_key()

        def right() -> Any:
            js.assign("b", 2)
            key = js.next_rng_key()
            return key, key

        first, _ = js.cond(pred, left, right)
        return jax.random.key_data(first)

    net = js.transform_with_state(run)
    params, state = net.init(0, True)
    for pred, wanted in ((True, [1, 0]), (False, [0, 2])):
        key, after = jax.jit(net.apply)(params, state, 1, pred)
        assert [int(after[name]) for name in "ab"] == wanted
        chex.assert_trees_all_equal(
            key, jax.random.key_data(js.transform(js.next_rng_key).apply({}, 1))
        )


def test_jit_and_checkpoint_take_the_options_of_the_originals() -> None:
    calls = []

    @js.jit(static_argnames="power")
    def f(x: jax.Array, power: int) -> jax.Array:
        calls.append(power)
        js.get_variable("steps", initializer=0, trainable=False)
        js.assign_add("steps", 1)
        return x**power

    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    g = js.checkpoint(lambda x, power: x**power, static_argnums=(1,), prevent_cse=False)

    def run(x: jax.Array) -> Any:
        return f(x, power=3), g(x, 2), js.jit(jnp.sin, out_shardings=here)(x)

    net = js.transform_with_state(run)
    params, state = net.init(0, X)
    (cube, square, sine), after = net.apply(params, state, None, X)
    chex.assert_trees_all_close((cube, square, sine), (X**3, X**2, jnp.sin(X)), rtol=1e-6)
    assert after["steps"] == 1
    assert set(calls) == {3}


def test_grad_takes_the_arguments_of_the_original() -> None:
    def f(x: jax.Array, y: jax.Array) -> Any:
        return (x * y).sum() * js.get_variable("w", initializer=2.0), {"aux": y}

    def run(x: jax.Array) -> Any:
        with js.variable_scope("", reuse=js.AUTO_REUSE):
            return (
                js.grad(f, argnums=(0, 1), has_aux=True)(x, 3 * x),
                js.grad(lambda x, y: f(x, y)[0], 1)(x, 3 * x),
                js.value_and_grad(lambda x, y: f(x, y)[0])(x, 3 * x),
            )

    net = js.transform(run)
    ((dx, dy), aux), by_y, (value, by_x) = net.apply(net.init(0, X), None, X)
    chex.assert_trees_all_close((dx, dy, by_y, by_x), (6 * X, 2 * X, 2 * X, 6 * X))
    chex.assert_trees_all_close((aux["aux"], value), (3 * X, 6 * (X * X).sum()))


def test_what_is_no_pair_is_refused() -> None:
    rows = lambda c, _: jnp.stack([c + 1, c * 2])  # noqa: E731 - which unpacks, but is no pair
    for call in (
        lambda: js.scan(rows, 0.0, length=3),
        lambda: js.scan(lambda c, _: None, 0.0, length=3),
        lambda: js.value_and_grad(lambda x: jnp.stack([x, x]), has_aux=True)(1.0),
    ):
        with pytest.raises(
            errors.ArgumentError, match=r"must be a pair \((carry, y|value, aux)\), got"
        ):
            js.transform(call).init(0)


TWINS = {
    "jit": lambda: js.jit(abs)(1),
    "checkpoint": lambda: js.checkpoint(abs)(1),
    "grad": lambda: js.grad(abs)(1.0),
    "value_and_grad": lambda: js.value_and_grad(abs)(1.0),
    "vmap": lambda: js.vmap(abs)(X),
    "scan": lambda: js.scan(abs, 0, X),
    "map": lambda: js.map(abs, X, batch_size=1),
    "while_loop": lambda: js.while_loop(abs, abs, 0),
    "fori_loop": lambda: js.fori_loop(0, 1, abs, 0),
    "cond": lambda: js.cond(True, abs, abs, 0),
    "switch": lambda: js.switch(0, [abs], 0),
    "shard_map": lambda: js.shard_map(abs, out_specs=None)(X),
    "layer_stack": lambda: js.layer_stack(2)(abs)(X),
    "functionalize": lambda: js.functionalize(abs),
    "put_carry": lambda: js.put_carry(None),
}


@pytest.mark.parametrize("name", TWINS)
def test_outside_a_pass_a_twin_says_so(name: str) -> None:
    with pytest.raises(errors.NoPassError, match=f"^{name} was called outside a pass"):
        TWINS[name]()


@pytest.mark.parametrize(
    ("twin", "original"),
    [
        (js.scan, lax.scan),
        (js.map, lax.map),
        (js.while_loop, lax.while_loop),
        (js.fori_loop, lax.fori_loop),
        (js.cond, lax.cond),
        (js.switch, lax.switch),
        (js.vmap, jax.vmap),
        (js.grad, jax.grad),
        (js.value_and_grad, jax.value_and_grad),
        (js.jit, jax.jit),
        (js.checkpoint, jax.checkpoint),
        (js.shard_map, jax.shard_map),
    ],
)
def test_a_twin_takes_the_positional_arguments_of_its_original(twin: Any, original: Any) -> None:
    by_position = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)

    def names(function: Any) -> list[str]:
        parameters = inspect.signature(function).parameters.items()
        return [name for name, parameter in parameters if parameter.kind in by_position]

    rare = {"_split_transpose", "sum_match", "reduce_axes"}  # taken by keyword
    assert names(twin) == [name for name in names(original) if name not in rare]


def test_arguments_that_cannot_be_used() -> None:
    shard_map = functools.partial(js.shard_map, out_specs=None)
    for call in (js.jit, js.checkpoint, js.grad, js.value_and_grad, js.vmap, shard_map):
        with pytest.raises(errors.ArgumentError, match="must be a function, got 3 of type int"):
            call(3)
    with pytest.raises(errors.ArgumentError, match="The variables must be 'share' or 'split', got"):
        js.vmap(abs, variables="both")


@pytest.mark.parametrize("name", [*ONCE, *LOOPS])
def test_a_duplicate_inside_a_twin_is_refused(name: str) -> None:
    def run(x: jax.Array) -> jax.Array:
        wrap = (ONCE | LOOPS)[name]
        return wrap(lambda y: block(block(y)))(x)

    with pytest.raises(errors.VariableExistsError, match=r"^Variable w already exists"):
        js.transform_with_state(run).init(0, X)

    def two(x: jax.Array) -> jax.Array:
        f = (ONCE | LOOPS)[name](block)
        return f(x) + f(x)

    with pytest.raises(errors.VariableExistsError, match=r"already exists, disallowed"):
        js.transform_with_state(two).init(0, X)


@pytest.mark.parametrize("name", [*ONCE, *LOOPS])
def test_an_exception_inside_a_twin_restores_everything(name: str) -> None:
    restored: list[bool] = []

    def run(x: jax.Array) -> jax.Array:
        def stop(y: jax.Array) -> jax.Array:
            with js.variable_scope("deep"):
                block(y)
                raise KeyError("stop")

        with js.variable_scope("s") as scope:
            running = _pass.peek()
            assert running is not None
            level = running.level
            with pytest.raises(KeyError, match="stop"):
                (ONCE | LOOPS)[name](stop)(x)
            assert js.get_variable_scope() is scope
            restored.append(_pass.peek() is running and running.level is level)
        return x

    net = js.transform_with_state(run)
    given = js.transform_with_state(in_scopes).init(0, X)
    net.init(0, X)
    net.apply(*given, 1, X)
    assert restored == [True, True]


def in_scopes(x: jax.Array) -> jax.Array:
    js.get_variable("s/carried", [3], initializer=ZEROS, trainable=False)
    with js.variable_scope("s/deep"):
        return block(x)


# Gradients and keys in state


def weight_and_state() -> tuple[jax.Array, jax.Array]:
    w = js.get_variable("w", [3])
    return w, js.get_variable("h", [3], initializer=ZEROS, trainable=False)


def remember(x: jax.Array) -> jax.Array:
    """A recurrent step, [3] -> [3], whose result passes through a variable of state."""
    w, h = weight_and_state()
    js.assign("h", jnp.tanh(h * w + x))
    js.assign_sub("h", 0.1 * x)
    js.assign_add("h", 0.2 * w)
    with js.variable_scope(js.get_variable_scope(), reuse=True):
        return js.get_variable("h")


def remember_by_hand(w: Any, h: Any, x: Any) -> tuple[Any, Any]:
    h = jnp.tanh(h * w + x) - 0.1 * x + 0.2 * w
    return h, h


def average(x: jax.Array, zero_debias: bool = False) -> jax.Array:
    """A statistic of what depends on everything, [3] -> [3]."""
    w, h = weight_and_state()
    new = js.assign_moving_average("h", x * w + h, jax.nn.sigmoid(w[0]), zero_debias)
    with js.variable_scope(js.get_variable_scope(), reuse=True):
        return new + js.get_variable("h")


def functionalized_scan(f: Any) -> Any:
    def run(x: jax.Array) -> jax.Array:
        pure, carry = js.functionalize(f)

        def body(carry: Any, _: Any) -> Any:
            x, carry = pure(*carry)
            return (carry, x), None

        (carry, x), _ = lax.scan(body, (carry, x), None, length=N)
        js.put_carry(carry)
        return x

    return run


def split_in_two(f: Any) -> Any:
    return lambda x: js.vmap(f, variables="split")(jnp.stack([x, 2 * x])).sum(0)


WRAPS = ONCE | LOOPS
WRAPS |= {
    "functionalized scan": functionalized_scan,
    "split": split_in_two,
    "split in a scan": lambda f: functools.partial(scan_n, split_in_two(f)),
    "layer_stack": lambda f: js.layer_stack(N)(f),
    "layer_stack with checkpoint": lambda f: js.layer_stack(N, checkpoint=True)(f),
    "scan of layer_stack": lambda f: functools.partial(scan_n, js.layer_stack(2)(f)),
    "shared layer_stack": lambda f: js.layer_stack(N)(shared(f)),
}


def shared(f: Any) -> Any:
    """In a stack: of one variable, made outside."""

    def run(x: jax.Array) -> jax.Array:
        with js.variable_scope(js.get_variable_scope(), reuse=True):
            return f(x)

    return run


def follow(name: str, step: Any, w: Any, h: Any, x: Any) -> tuple[Any, Any]:
    """The state and the result of ``WRAPS[name]`` by hand, of ``step: w, h, x -> h, x``."""
    times = N if name in LOOPS or name.startswith(("functionalized scan", "shared", "scan")) else 1
    times = N if name == "split in a scan" else times
    x = jnp.sin(x) if name == "twin of raw" else x
    for _ in range(times):
        if name.startswith("split"):
            h, xs = jax.vmap(step)(w, h, jnp.stack([x, 2 * x]))
            x = xs.sum(0)
        elif "layer_stack" in name and "shared" not in name:
            layers = []
            for layer in zip(w, h, strict=True):
                new, x = step(*layer, x)
                layers.append(new)
            h = jnp.stack(layers)
        else:
            h, x = step(w, h, x)
    return h, x


def through(name: str, f: Any, make: Any = weight_and_state) -> Any:
    """Everything that ``f`` leaves behind in a transform: the result, a later read, the state."""

    def run(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        with js.variable_scope("a") as scope:
            if name in ("functionalized scan", "shared layer_stack"):
                make()
                with js.variable_scope(scope, reuse=True):
                    x = WRAPS[name](f)(x)
            else:
                x = WRAPS[name](f)(x)
        with js.variable_scope(scope, reuse=True):
            return x, js.get_variable("h")

    return js.transform_with_state(run)


def weighed(tree: Any) -> jax.Array:
    """A scalar that depends on each number in its own way."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    return sum(jnp.vdot(leaf, jnp.arange(1.0, leaf.size + 1)) for leaf in leaves)


@pytest.mark.parametrize("name", WRAPS)
def test_gradients_flow_through_assigned_values(name: str) -> None:
    net = through(name, remember)
    params, state = net.init(0, X)
    state = jax.tree.map(lambda leaf: leaf + 0.3, state)

    def loss(params: Any, state: Any, x: Any) -> jax.Array:
        (out, later), new_state = net.apply(params, state, 1, x)
        return weighed([out, later, new_state["a"]["h"]])

    def by_hand(params: Any, state: Any, x: Any) -> jax.Array:
        h, out = follow(name, remember_by_hand, params["a"]["w"], state["a"]["h"], x)
        return weighed([out, h, h])

    derive = jax.jacfwd if name == "while_loop" else jax.grad
    got = jax.jit(derive(loss, argnums=(0, 1, 2)))(params, state, X)
    wanted = derive(by_hand, argnums=(0, 1, 2))(params, state, X)
    assert all(jnp.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves((wanted[0], wanted[2])))
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path(got), jax.tree.leaves(wanted), strict=True
    ):
        if "carried" not in jax.tree_util.keystr(path):  # which is overwritten
            chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("zero_debias", [False, True])
@pytest.mark.parametrize("name", WRAPS)
def test_a_moving_average_has_no_gradient(name: str, zero_debias: bool) -> None:
    net = through(name, functools.partial(average, zero_debias=zero_debias))
    params, state = net.init(0, X)
    state = jax.tree.map(lambda leaf: leaf + 0.3, state)

    def outcome(params: Any, state: Any, x: Any) -> Any:
        (_, later), new_state = net.apply(params, state, 1, x)
        return later, {key: leaf for key, leaf in new_state["a"].items() if key != "carried"}

    given = params, state, X
    (_, moved), changes = jax.jit(lambda *args: jax.jvp(outcome, given, args))(
        *jax.tree.map(jnp.ones_like, given)
    )
    assert len(moved) == (3 if zero_debias else 1)
    assert all((moved[key] != state["a"][key]).all() for key in moved)
    chex.assert_trees_all_equal(changes, jax.tree.map(jnp.zeros_like, changes))
    if name != "while_loop":
        loss = lambda *args: weighed(outcome(*args))  # noqa: E731
        gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*given)
        chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, gradients))


KEY = jax.random.key(0).dtype


def weight_and_key() -> tuple[jax.Array, jax.Array]:
    start = lambda key, shape, dtype: key  # noqa: E731
    w = js.get_variable("w", [3])
    return w, js.get_variable("h", [], KEY, start, trainable=False)


def walk_at_random(x: jax.Array) -> jax.Array:
    """[3] -> [3]: draws from a key that is kept in the state."""
    w, key = weight_and_key()
    key, other = jax.random.split(key)
    js.assign("h", key)
    return x * w + jax.random.normal(other, (3,))


def walk_by_hand(w: Any, key: Any, x: Any) -> tuple[Any, Any]:
    key, other = jax.random.split(key)
    return key, x * w + jax.random.normal(other, (3,))


@pytest.mark.parametrize("name", WRAPS)
def test_a_typed_key_is_state_like_any_other(name: str) -> None:
    net = through(name, walk_at_random, weight_and_key)
    params, state = net.init(0, X)
    assert state["a"]["h"].dtype == KEY
    js.check(state, net.specs(X).state())

    def run(params: Any, state: Any) -> Any:
        (out, later), new_state = net.apply(params, state, 1, X)
        return out, jax.random.key_data(later), jax.random.key_data(new_state["a"]["h"])

    def by_hand(params: Any, state: Any) -> Any:
        h, out = follow(name, walk_by_hand, params["a"]["w"], state["a"]["h"], X)
        return out, jax.random.key_data(h), jax.random.key_data(h)

    chex.assert_trees_all_close(jax.jit(run)(params, state), by_hand(params, state), rtol=1e-5)
    if name != "while_loop":
        derive = lambda f: jax.grad(lambda p: f(p, state)[0].sum())  # noqa: E731
        got, wanted = jax.jit(derive(run))(params), derive(by_hand)(params)
        chex.assert_trees_all_close(got, wanted, rtol=1e-4, atol=1e-5)


# Name -> a transform of jscope around a function of nothing, the same of JAX, and how often its
# function is traced at most.
AROUND: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any] | None, int]] = {
    "jit": (js.jit, jax.jit, 1),
    "checkpoint": (js.checkpoint, jax.checkpoint, 1),
    "scan": (lambda f: lambda: loop(js.scan, f), lambda f: lambda: loop(lax.scan, f), 1),
    "map": (
        lambda f: lambda: js.map(lambda _: f(), X).sum(),
        lambda f: lambda: lax.map(lambda _: f(), X).sum(),
        1,
    ),
    "while_loop": (
        lambda f: lambda: turn(js.while_loop, f),
        lambda f: lambda: turn(lax.while_loop, f),
        1,
    ),
    "fori_loop": (
        lambda f: lambda: js.fori_loop(0, 2, lambda _, y: y + f(), 0.0),
        lambda f: lambda: lax.fori_loop(0, 2, lambda _, y: y + f(), 0.0),
        1,
    ),
    "cond": (
        lambda f: lambda: js.cond(flag(), f, lambda: 0.0),
        lambda f: lambda: lax.cond(flag(), f, lambda: 0.0),
        1,
    ),
    "switch": (
        lambda f: lambda: js.switch(flag() + 0, [f, lambda: 0.0]),
        lambda f: lambda: lax.switch(flag() + 0, [f, lambda: 0.0]),
        1,
    ),
    "layer_stack": (lambda f: lambda: js.layer_stack(2)(lambda y: y + f())(0.0), None, 2),
    "split": (
        lambda f: lambda: js.vmap(lambda _: f(), variables="split")(jnp.arange(2)).sum(),
        None,
        2,
    ),
}


def loop(scan: Any, f: Any) -> Any:
    return scan(lambda y, _: (y + f(), None), 0.0, None, length=2)[0]


def turn(while_loop: Any, f: Any) -> Any:
    return while_loop(lambda given: given[0] < 2, lambda given: (given[0] + 1, f()), (0, 0.0))[1]


def flag() -> jax.Array:
    return js.get_variable("flag", initializer=0, dtype=jnp.int32, trainable=False)


def reads(assigns: bool, runs: list[int]) -> Callable[[], jax.Array]:
    def read() -> jax.Array:
        runs.append(1)
        count = js.get_variable("count", initializer=1.0, trainable=False)
        if assigns:
            js.assign_add("count", 1.0)
        return jnp.sin(js.get_variable("w", [])) * count

    return read


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("assigns", [True, False])
@pytest.mark.parametrize("name", AROUND)
def test_functions_are_traced_once_at_any_depth_and_twice_in_stacks(
    name: str, assigns: bool, depth: int
) -> None:
    around, _, most = AROUND[name]
    runs: list[int] = []
    fn = reads(assigns, runs)
    for _ in range(depth):
        fn = around(fn)

    def program() -> jax.Array:
        with js.variable_scope("", reuse=js.AUTO_REUSE):  # flag, at any depth
            return fn()

    net = js.transform_with_state(program)
    params, state = net.init(0)
    assert len(runs) == 1
    runs.clear()
    jax.jit(net.apply).lower(params, state, None)
    assert len(runs) == most


@pytest.mark.parametrize("name", [name for name, (_, raw, _) in AROUND.items() if raw])
def test_state_that_is_not_assigned_leaves_nothing_in_the_program(name: str) -> None:
    ours, raw, _ = AROUND[name]
    assert raw is not None
    params, state = js.transform_with_state(ours(reads(False, []))).init(0)
    texts = []
    for fn in (ours(reads(False, [])), raw(reads(False, []))):

        def apply(params: Any, state: Any, fn: Any = fn) -> Any:
            return js.transform_with_state(fn).apply(params, state, None)[0]

        # JAX keeps what a while loop is given and does not use, as an argument.
        other = {} if name == "while_loop" else {"other": jnp.ones(3)}
        compiled = jax.jit(apply).lower(params, {**state, **other}).compile()
        texts.append(canonical(compiled.as_text()))
    assert texts[0] == texts[1]

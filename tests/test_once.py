"""Law 15: a function in js.jit or js.checkpoint is traced once, and equals the function inlined."""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope._hlo import canonical
from jscope.testing import assert_traced_once

X = jnp.array([[0.5, -1.0, 2.0], [1.0, 0.25, -0.5]])
ZEROS = jax.nn.initializers.zeros
Block = Callable[[jax.Array], jax.Array]


def square(w: jax.Array) -> jax.Array:
    return jnp.sum(w**2)


def weight(x: jax.Array, name: str = "w", **options: Any) -> jax.Array:
    w = js.get_variable(name, [3], **options)
    return jnp.tanh(x * jnp.broadcast_to(w, x.shape))


def numbered(x: jax.Array) -> jax.Array:
    return js.layers.dense(jnp.tanh(js.layers.dense(x, 3)), 3)


def nested(x: jax.Array) -> jax.Array:
    with js.variable_scope("a", initializer=jax.nn.initializers.ones, regularizer=square):
        x = weight(x) + weight(x, "b/c/v", collections=["special"])
        for _ in range(2):
            with js.variable_scope(None, "inner"):
                x = weight(x, constraint=jnp.abs)
    with js.variable_scope("a"):
        return weight(x, "later")


def reused(x: jax.Array) -> jax.Array:
    with js.variable_scope("tower", reuse=js.AUTO_REUSE) as scope:
        x = weight(x)
    with js.variable_scope("tower", reuse=True):
        x = weight(x)
    with js.variable_scope(scope, reuse=True):
        return weight(x)


def here_again(x: jax.Array) -> jax.Array:
    x = weight(x)
    with js.variable_scope(js.get_variable_scope(), reuse=js.AUTO_REUSE):
        return weight(x) + weight(x, "second")


def state(x: jax.Array) -> jax.Array:
    mean = js.get_variable("mean", [3], initializer=ZEROS, trainable=False)
    js.get_variable("steps", initializer=0, trainable=False)
    js.assign_add("steps", 1)
    new = js.assign("mean", mean * 0.5 + x.mean(0))
    js.assign_moving_average("mean", x.sum(0), 0.9)
    return weight(x) - jnp.broadcast_to(new, x.shape)


def debiased(x: jax.Array) -> jax.Array:
    js.get_variable("mean", [3], initializer=ZEROS, trainable=False)
    mean = js.assign_moving_average("mean", x.mean(0), 0.9, zero_debias=True)
    return x - jnp.broadcast_to(mean, x.shape)


def noisy(x: jax.Array) -> jax.Array:
    x = x + jax.random.normal(js.next_rng_key(), x.shape)
    with js.variable_scope("a"):
        x = weight(x) + jax.random.normal(js.next_rng_key(), x.shape)
    return x + jax.random.normal(js.next_rng_key(), x.shape)


def looping(x: jax.Array) -> jax.Array:
    js.get_variable("total", x.shape, initializer=ZEROS, trainable=False)

    def step(carry: jax.Array, _: Any) -> Any:
        carry = weight(carry) + jax.random.normal(js.next_rng_key(), carry.shape)
        js.assign_add("total", carry)
        return carry, None

    x = js.scan(step, x, None, length=2)[0]
    return jax.lax.scan(lambda y, _: (weight(y, "raw"), None), x, None, length=2)[0]


def branching(x: jax.Array) -> jax.Array:
    js.get_variable("calls", initializer=0, trainable=False)

    def taken(x: jax.Array) -> jax.Array:
        js.assign_add("calls", 1)
        return weight(x) + jax.random.normal(js.next_rng_key(), x.shape)

    x = js.cond(x.sum() < 1e9, taken, lambda x: weight(x, "other"), x)
    return jax.lax.cond(x.sum() < 1e9, noisy, jnp.sin, x)


def collected(x: jax.Array) -> jax.Array:
    with js.variable_scope("a"):
        js.add_to_collection("seen", weight(x))
    js.add_to_collection("seen", {"x": x})
    return x * 2


def derived(x: jax.Array) -> jax.Array:
    return js.grad(lambda x: weight(x).sum())(x) + jax.grad(lambda x: weight(x, "v").sum())(x)


def norms(x: jax.Array) -> jax.Array:
    x = js.layers.batch_normalization(x, training=True)
    return js.layers.dropout(js.layers.dense(x, 3), 0.5, training=True)


def inside(x: jax.Array) -> jax.Array:
    for twin in (js.jit, js.checkpoint):
        block = twin(lambda x: noisy(numbered(x)))
        for name in ("first", "second"):
            with js.variable_scope(f"{name}_{twin.__name__}"):
                x = block(x)
    return x


def flags(x: jax.Array) -> jax.Array:
    if js.is_initializing() or js.has_rng():
        return weight(x)
    return weight(x) + 1


def constants(x: jax.Array) -> jax.Array:
    table = js.get_variable("table", initializer=np.arange(3.0, dtype=np.float32))
    return x * jnp.broadcast_to(table, x.shape) + js.get_variable("scale", initializer=2.0)


# Depend on their scope in a way that cannot be asked for again.
def named(x: jax.Array) -> jax.Array:
    return weight(x) * len(js.get_variable_scope().name)


def defaulted(x: jax.Array) -> jax.Array:
    return weight(x) if js.get_variable_scope().initializer is None else weight(x, "other")


def getting(x: jax.Array) -> jax.Array:
    with js.variable_scope("a", custom_getter=js.getters.cast(jnp.float16)):
        return weight(x.astype(jnp.float16)).astype(x.dtype)


def asking(x: jax.Array) -> jax.Array:
    getter = lambda getter, name, *args, **kwargs: 2.0 * getter(name, *args, **kwargs)  # noqa: E731
    return weight(x, custom_getter=getter)


def templated(x: jax.Array) -> jax.Array:
    template = js.make_template("t", weight)
    return template(x) + template(x)


def stacking(x: jax.Array) -> jax.Array:
    return js.layer_stack(2)(weight)(x)


def splitting(x: jax.Array) -> jax.Array:
    return js.vmap(weight, variables="split")(x[None])[0]


def functional(x: jax.Array) -> jax.Array:
    pure, carry = js.functionalize(noisy)
    out, carry = pure(carry, x)
    js.put_carry(carry)
    return out


def penalized(x: jax.Array) -> jax.Array:
    x = weight(x, regularizer=square)
    return x + js.get_regularization_loss()


def recurrent(x: jax.Array) -> jax.Array:
    return js.layers.dynamic_rnn(js.layers.gru(3), x[None], dtype=jnp.float32)[0][0]


ONCE: dict[str, Block] = {
    f.__name__: f
    for f in (
        numbered,
        nested,
        reused,
        here_again,
        state,
        debiased,
        noisy,
        looping,
        branching,
        collected,
        derived,
        norms,
        inside,
        flags,
        constants,
    )
}
REASONS: dict[str, tuple[Block, str]] = {
    "named": (named, "it looks at the name of a scope"),
    "defaulted": (defaulted, "it looks at the defaults of a scope"),
    "getting": (getting, "it opens a scope with a custom getter"),
    "asking": (asking, "it gives a request a custom getter"),
    "templated": (templated, "it calls a template"),
    "stacking": (stacking, "w is stacked inside it"),
    "splitting": (splitting, "w is stacked inside it"),
    "functional": (functional, "it calls functionalize"),
    "penalized": (penalized, "it looks at the variables of other functions"),
    "recurrent": (recurrent, "it calls a template"),
}
BLOCKS = {**ONCE, **{name: block for name, (block, _) in REASONS.items()}}


def in_scopes(f: Block, x: jax.Array) -> jax.Array:
    for index in range(3):
        with js.variable_scope(f"layer_{index}"):
            x = f(x)
    return x


def in_numbered_scopes(f: Block, x: jax.Array) -> jax.Array:
    for _ in range(3):
        with js.variable_scope(None, "layer"):
            x = f(x)
    return x


def shared(f: Block, x: jax.Array) -> jax.Array:
    for _ in range(3):
        with js.variable_scope("layer", reuse=js.AUTO_REUSE):
            x = f(x)
    return x


def at_the_root(f: Block, x: jax.Array) -> jax.Array:
    return f(js.layers.dense(x, 3))


def after_others(f: Block, x: jax.Array) -> jax.Array:
    with js.variable_scope("first"):
        x = f(x)
    with js.variable_scope("second"):
        with js.variable_scope("inner"), js.variable_scope("dense"):
            x = weight(x, "before")
        x = x + jax.random.normal(js.next_rng_key(), x.shape) if js.has_rng() else x
        x = f(js.layers.dense(x, 3))
        x = x + jax.random.normal(js.next_rng_key(), x.shape) if js.has_rng() else x
        return js.layers.dense(x, 3)


def with_defaults(f: Block, x: jax.Array) -> jax.Array:
    with js.variable_scope("a", initializer=jax.nn.initializers.ones, regularizer=square):
        x = f(x)
    with js.variable_scope("b", constraint=jnp.abs):
        x = f(x)
    with js.variable_scope("c"):
        return f(x)


def with_getters(f: Block, x: jax.Array) -> jax.Array:
    def doubled(getter: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        found = getter(name, *args, **kwargs)
        return 2.0 * found if name.endswith("w") and "b/" in name else found

    for name in ("a", "b", "c"):
        with js.variable_scope(name, custom_getter=doubled):
            x = f(x)
    return x


def in_a_stack(f: Block, x: jax.Array) -> jax.Array:
    def layer(x: jax.Array) -> jax.Array:
        for name in ("a", "b"):
            with js.variable_scope(name):
                x = f(x)
        return x

    return js.layer_stack(2)(layer)(x)


def in_a_loop(f: Block, x: jax.Array) -> jax.Array:
    def step(x: jax.Array, _: Any) -> Any:
        with js.variable_scope("step", reuse=js.AUTO_REUSE):
            return f(x), None

    x = js.scan(step, x, None, length=2)[0]
    with js.variable_scope("after"):
        return f(x)


def in_raw_transforms(f: Block, x: jax.Array) -> jax.Array:
    with js.variable_scope("a"):
        x = f(x)
    with js.variable_scope("b"):
        return jax.checkpoint(f)(x)


USES: dict[str, Callable[[Block, jax.Array], jax.Array]] = {
    f.__name__: f
    for f in (
        in_scopes,
        in_numbered_scopes,
        shared,
        at_the_root,
        after_others,
        with_defaults,
        with_getters,
        in_a_stack,
        in_a_loop,
        in_raw_transforms,
    )
}


def facts(net: Any) -> list[Any]:
    return [
        (
            spec.name,
            spec.shape,
            spec.dtype,
            spec.trainable,
            spec.collections,
            spec.initializer if callable(spec.initializer) else None,
            spec.regularizer,
            spec.constraint,
            spec.stack,
            [(site.line, site.function) for site in spec.sites],
        )
        for spec in net.specs(X).values()
    ]


def everything(use: Any, f: Block) -> Any:
    """What law 15 compares; an error by its type and first line."""

    def program(x: jax.Array) -> Any:
        out = use(f, x)
        return out, js.get_collection("seen"), js.get_regularization_loss()

    net = js.transform_with_state(program)
    try:
        specs = facts(net)
        params, state = net.init(0, X)
        params = jax.tree.map(lambda leaf: leaf + 0.1, params)

        def run(params: Any, state: Any) -> Any:
            (out, seen, loss), new = net.apply(params, state, 1, X)
            return out, seen, loss, new

        def loss(params: Any) -> Any:
            out, _, loss, new = run(params, state)
            return out.sum() + loss, new

        every = lambda params, state: (run(params, state), jax.grad(loss, has_aux=True)(params)[0])  # noqa: E731
        outs = jax.jit(every)(params, state)
    except Exception as error:
        return type(error), str(error).splitlines()[0]
    return specs, (params, state, outs)


@functools.cache
def inlined(use: str, block: str) -> Any:
    return everything(USES[use], BLOCKS[block])


SOME = ("numbered", "nested", "state", "noisy", "inside", "named")
CASES = [(block, "in_scopes", twin) for block in BLOCKS for twin in (js.jit, js.checkpoint)]
CASES += [
    (block, use, (js.jit, js.checkpoint)[(number + other) % 2])
    for number, use in enumerate(USES)
    for other, block in enumerate(SOME)
    if use != "in_scopes"
]


@pytest.mark.parametrize(("block", "use", "twin"), CASES)
def test_a_block_that_is_traced_once_equals_the_block_inlined(
    block: str, use: str, twin: Any
) -> None:
    wanted = inlined(use, block)
    got = everything(USES[use], twin(BLOCKS[block]))
    if isinstance(wanted[0], type):
        assert block == "state"
        assert use in ("in_raw_transforms", "with_defaults")  # a loss of integers
        assert got == wanted
    else:
        assert got[0] == wanted[0]
        chex.assert_trees_all_close(got[1], wanted[1], rtol=1e-5, atol=1e-5)


def count_runs(block: Block) -> tuple[Block, list[int]]:
    runs: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> jax.Array:
        runs.append(1)
        return block(*args, **kwargs)

    return counted, runs


def deep(f: Block, x: jax.Array, depth: int = 5) -> jax.Array:
    for index in range(depth):
        with js.variable_scope(f"layer_{index}"):
            x = f(x)
    return x


def counting_and_norming(x: jax.Array) -> jax.Array:
    mean = js.get_variable("mean", [3], initializer=ZEROS, trainable=False)
    new = js.assign("mean", x.mean(0).astype(jnp.float32) + 1)
    js.assign_add("mean", jnp.ones(3))
    x = js.layers.batch_normalization(js.layers.dense(x, 3), training=True)
    return x + jnp.broadcast_to(mean + new.astype(mean.dtype), x.shape).astype(x.dtype)


@pytest.mark.parametrize("twin", [js.jit, js.checkpoint])
def test_a_getter_around_a_block_with_state_costs_no_second_trace(twin: Any) -> None:
    counted, runs = count_runs(counting_and_norming)

    def program(block: Block) -> Block:
        def run(x: jax.Array) -> jax.Array:
            getter = js.getters.cast(jnp.bfloat16)
            with js.variable_scope("model", dtype=jnp.float32, custom_getter=getter):
                return deep(block, x)

        return run

    net, plain = (
        js.transform_with_state(program(block)) for block in (twin(counted), counting_and_norming)
    )
    trees = net.init(0, X)
    chex.assert_trees_all_equal(trees, plain.init(0, X))
    runs.clear()
    got, wanted = (jax.jit(each.apply)(*trees, None, X) for each in (net, plain))
    assert len(runs) == 2
    chex.assert_trees_all_close(got, wanted, rtol=1e-2)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(got[1]))


@pytest.mark.parametrize("twin", [js.jit, js.checkpoint])
@pytest.mark.parametrize("block", ONCE)
def test_python_runs_twice_however_many_scopes_there_are_and_not_in_later_passes(
    block: str, twin: Any
) -> None:
    counted, runs = count_runs(ONCE[block])
    once = twin(counted)
    net = js.transform_with_state(lambda x: deep(once, x))

    def ran(fn: Callable[..., Any], *args: Any) -> int:
        runs.clear()
        fn(*args)
        return len(runs)

    assert ran(net.init, 0, X) == 2
    assert once.__jscope_once__.reason is None
    assert ran(net.init, 0, X) == ran(net.specs, X) == 0
    params, state = net.init(0, X)
    loss = lambda params: net.apply(params, state, 1, X)[0].sum()  # noqa: E731
    assert ran(jax.jit(loss).lower, params) == 2
    assert ran(jax.jit(lambda params: loss(params)).lower, params) == 0
    assert ran(jax.jit(jax.grad(loss)).lower, params) == 0
    assert ran(loss, params) == 0
    assert ran(lambda: net.init(0, jnp.ones([4, 3]))) == 2


@pytest.mark.parametrize("twin", [js.jit, js.checkpoint])
@pytest.mark.parametrize("block", REASONS)
def test_a_block_that_depends_on_its_scope_is_run_under_each(block: str, twin: Any) -> None:
    counted, runs = count_runs(BLOCKS[block])
    once = twin(counted)
    net = js.transform_with_state(lambda x: deep(once, x))
    net.init(0, X)
    assert len(runs) >= 5
    assert REASONS[block][1] in once.__jscope_once__.reason


def bert_layer(x: jax.Array) -> jax.Array:
    width = x.shape[-1]
    with js.variable_scope("attention"):
        with js.variable_scope("self"):
            query, key, value = (
                js.layers.dense(x, width, name=name) for name in ("query", "key", "value")
            )
            scores = jax.nn.softmax(query @ jnp.swapaxes(key, -1, -2) / width**0.5)
            context = js.layers.dropout(scores, 0.1, training=True) @ value
        with js.variable_scope("output"):
            x = normed(x + js.layers.dropout(js.layers.dense(context, width), 0.1, training=True))
    with js.variable_scope("intermediate"):
        inner = js.layers.dense(x, 4 * width, activation=jax.nn.gelu)
    with js.variable_scope("output"):
        return normed(x + js.layers.dense(inner, width))


def normed(x: jax.Array) -> jax.Array:
    return js.layers.layer_norm(x, begin_norm_axis=-1, scope="LayerNorm")


@pytest.mark.parametrize("twin", [js.jit, js.checkpoint])
def test_a_bert_encoder_traces_its_layer_once(twin: Any) -> None:
    counted, runs = count_runs(bert_layer)
    layer = twin(counted)

    def encoder(x: jax.Array) -> jax.Array:
        with js.variable_scope("bert/encoder"):
            return deep(layer, x, 12)

    x = jnp.ones([2, 4, 8])
    net = js.transform(encoder)
    assert_traced_once(net, layer, x)
    params = net.init(0, x)
    names = list(js.tree.flatten(params))
    assert names == list(js.transform(lambda x: bert(x)).specs(x))
    assert "bert/encoder/layer_11/attention/self/query/kernel" in names
    assert len(names) == 12 * 16
    runs.clear()
    jax.jit(jax.grad(lambda params: net.apply(params, 1, x).sum())).lower(params)
    assert not runs


def bert(x: jax.Array) -> jax.Array:
    with js.variable_scope("bert/encoder"):
        return deep(bert_layer, x, 12)


def test_assert_traced_once_says_why_not() -> None:
    block = js.jit(named)
    with pytest.raises(AssertionError) as caught:
        assert_traced_once(js.transform(lambda x: deep(block, x)), block, X)
    assert str(caught.value) == (
        "In net.specs the block was run 5 times in 5 calls: it looks at the name of a scope."
    )
    halves = js.jit(lambda x: jnp.concatenate([weight(x), weight(x, "v")]))
    with pytest.raises(AssertionError) as caught:
        assert_traced_once(js.transform(lambda x: deep(halves, x)), halves, X)
    assert str(caught.value) == (
        "In net.specs the block was run 5 times in 5 calls: its calls differ in shapes, dtypes, "
        "static arguments or flags."
    )
    with pytest.raises(AssertionError, match=r"net\.specs does not call the block"):
        assert_traced_once(js.transform(lambda x: x), block, X)
    with pytest.raises(TypeError, match=r"must be what jscope\.jit or jscope\.checkpoint returned"):
        assert_traced_once(js.transform(named), named, X)


def test_both_places_are_named_where_a_traced_block_makes_a_variable_again() -> None:
    block = js.checkpoint(weight)

    def program(x: jax.Array) -> jax.Array:
        for name in ("a", "b"):
            with js.variable_scope(name):
                x = block(x)
        with js.variable_scope("b"):
            return block(x)

    with pytest.raises(
        js.errors.VariableExistsError, match="Variable b/w already exists"
    ) as caught:
        js.transform(program).init(0, X)
    for sites in (caught.value.first, caught.value.again):
        assert [site.function for site in sites] == ["weight", "program"]
    assert caught.value.first[1].line < caught.value.again[1].line


def test_a_block_that_asks_for_something_else_is_run_again_and_leaves_nothing() -> None:
    names = ["w"]
    block = js.jit(lambda x: weight(x, names[0]))

    def program(x: jax.Array) -> jax.Array:
        for scope, name in zip("abc", "wvw", strict=True):
            names[0] = name
            with js.variable_scope(scope):
                x = block(x)
        return x

    net = js.transform(program)
    assert list(net.specs(X)) == ["a/w", "b/v", "c/w"]
    assert block.__jscope_once__.reason == "it asked for v, which it did not ask for before"
    chex.assert_trees_all_close(net.apply(net.init(0, X), None, X).shape, X.shape)


OPTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any, int], Any]]] = {
    "static_argnums": (
        functools.partial(js.jit, static_argnums=1),
        lambda f, x, number: f(x, number),
    ),
    "static_argnames": (
        functools.partial(js.jit, static_argnames="times"),
        lambda f, x, number: f(x, times=number),
    ),
    "static by position": (
        functools.partial(js.jit, static_argnames="times"),
        lambda f, x, number: f(x, number),
    ),
    "static from the end": (
        functools.partial(js.jit, static_argnums=-1),
        lambda f, x, number: f(x, number),
    ),
    "donated": (
        functools.partial(js.jit, static_argnums=1, donate_argnums=0),
        lambda f, x, number: f(x, number),
    ),
    "out_shardings": (
        functools.partial(js.jit, static_argnums=1, out_shardings=None),
        lambda f, x, number: f(x, number),
    ),
    "policy": (
        functools.partial(
            js.checkpoint, static_argnums=(1,), policy=jax.checkpoint_policies.dots_saveable
        ),
        lambda f, x, number: f(x, number),
    ),
    "checkpoint, static_argnames": (
        functools.partial(js.checkpoint, static_argnames="times"),
        lambda f, x, number: f(x, times=number),
    ),
    "checkpoint, static_argnames, by position": (
        js.checkpoint(static_argnames=("times",)),
        lambda f, x, number: f(x, number),
    ),
    "checkpoint, static_argnums, by keyword": (
        js.checkpoint(static_argnums=1),
        lambda f, x, number: f(x, times=number),
    ),
    "in a pytree": (js.jit, lambda f, x, number: f({"x": x}, jnp.arange(number + 1.0))),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_kind_of_call_is_traced_once(name: str) -> None:
    twin, call = OPTIONS[name]

    def block(x: Any, times: Any) -> jax.Array:
        if isinstance(times, jax.Array):
            return weight(x["x"]) * times.shape[0]
        return weight(x) * times

    counted, runs = count_runs(block)
    counted = functools.wraps(block)(counted)
    once = twin(counted)

    def program(f: Any, x: jax.Array) -> jax.Array:
        for index in range(6):
            with js.variable_scope(f"layer_{index}"):
                x = call(f, jnp.sin(x), index % 2)
        return x

    net, plain = js.transform(lambda x: program(once, x)), js.transform(lambda x: program(block, x))
    params = plain.init(0, X)
    assert list(net.specs(X)) == list(plain.specs(X))
    runs.clear()
    chex.assert_trees_all_close(jax.jit(net.apply)(params, None, X), plain.apply(params, None, X))
    assert len(runs) == 4


@pytest.mark.parametrize("held", ["regularizer", "default", "partial"])
def test_an_option_that_holds_a_traced_value_is_given_anew(held: str) -> None:
    def block(x: jax.Array) -> jax.Array:
        loss = lambda w: x.sum() * w.sum()  # noqa: E731
        if held == "partial":
            loss = functools.partial(lambda x, w: x.sum() * w.sum(), x)
        with js.variable_scope("a", regularizer=loss if held == "default" else None):
            return weight(x, regularizer=None if held == "default" else loss)

    def program(f: Any, x: jax.Array) -> Any:
        return deep(f, x), js.get_regularization_loss()

    # A checkpoint of a traced value is a value of it: the loss is taken in the scope around.
    once = js.checkpoint(block)
    net = js.transform(lambda x: (deep(once, x), 0))
    plain = js.transform(lambda x: program(block, x))
    params = plain.init(0, X)
    for _ in range(2):
        found = jax.jit(net.apply)(params, None, X)[0]
        chex.assert_trees_all_close(found, plain.apply(params, None, X)[0], rtol=1e-5)
    assert "holds a traced value" in str(once.__jscope_once__.reason)


def test_threads_share_what_is_known_of_a_block() -> None:
    block = js.jit(noisy)
    net = js.transform(lambda x: deep(block, x))
    params = net.init(0, X)
    wanted = net.apply(params, 1, X)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        shapes = [jnp.ones([size, 3]) for size in (2, 3, 2, 3, 2, 3, 2, 3)]
        found = list(pool.map(lambda x: (net.init(0, x), net.apply(params, 1, X)), shapes))
    for made, out in found:
        chex.assert_trees_all_close(made, params)
        chex.assert_trees_all_close(out, wanted)


@pytest.mark.parametrize("place", ["init", "apply"])
def test_a_plan_keeps_no_initializer_of_the_users(place: str) -> None:
    class Marker:
        def __call__(self, key: Any, shape: Any, dtype: Any) -> jax.Array:
            return jnp.full(shape, len(markers), dtype)

    def fresh(x: jax.Array) -> jax.Array:
        markers.append(weakref.ref(marker := Marker()))
        return weight(x, initializer=marker)

    markers: list[Any] = []
    counted, runs = count_runs(fresh)
    block = js.jit(counted)
    net = js.transform(lambda x: deep(block, x))
    params = net.init(0, X)
    if place == "apply":
        jax.jit(net.apply)(params, None, X)
    gc.collect()
    assert [marker() for marker in markers] == [None] * len(markers)
    before = len(runs)
    assert before == (2 if place == "init" else 4)
    again = net.init(0, X)  # is planned anew
    assert len(runs) == before + 2
    assert again["layer_4"]["w"].tolist() == [before + 2.0] * 3


@pytest.mark.parametrize(("twin", "raw"), [(js.jit, jax.jit), (js.checkpoint, jax.checkpoint)])
def test_nothing_remains_of_a_traced_block_at_run_time(twin: Any, raw: Any) -> None:
    block = twin(lambda x: jnp.tanh(x @ js.get_variable("w", [3, 3])))
    net = js.without_apply_rng(js.transform(lambda x: deep(block, x)))
    one = raw(lambda w, x: jnp.tanh(x @ w))

    def by_hand(params: Any, x: jax.Array) -> jax.Array:
        for index in range(5):
            x = one(params[f"layer_{index}"]["w"], x)
        return x

    params = net.init(0, X).to_dict()
    ours, theirs = (
        canonical(
            jax.jit(lambda params, x, fn=fn: fn(params, x)).lower(params, X).compile().as_text()
        )
        for fn in (net.apply, by_hand)
    )
    assert ours == theirs


@pytest.mark.parametrize("outer", [js.jit, js.checkpoint])
@pytest.mark.parametrize("block", ["noisy", "state", "numbered", "looping", "branching"])
def test_a_traced_block_in_a_traced_block_equals_both_inlined(block: str, outer: Any) -> None:
    inner = js.jit(ONCE[block])  # one object for all calls, as at module level

    def program(around: Callable[[Block], Block], f: Block) -> Callable[[jax.Array], jax.Array]:
        layer = around(lambda x: deep(f, x, 3))
        return lambda x: deep(layer, x, 4)

    plain = js.transform_with_state(program(lambda f: f, ONCE[block]))
    net = js.transform_with_state(program(outer, inner))
    params, state = plain.init(0, X)
    chex.assert_trees_all_equal(net.init(0, X), (params, state))
    wanted = jax.jit(plain.apply)(params, state, 1, X)
    for _ in range(2):
        got = jax.jit(lambda *args: net.apply(*args))(params, state, 1, X)
        chex.assert_trees_all_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert inner.__jscope_once__.reason is None

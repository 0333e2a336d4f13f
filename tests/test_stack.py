"""layer_stack: one scan that equals the Python loop over layers."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jscope as js
from jscope import errors

X = jnp.array([0.5, -1.0, 2.0])
ZEROS = jax.nn.initializers.zeros
N = 3


def layer(x: jax.Array) -> jax.Array:
    """Reads variables and state, draws, and assigns: [3] -> [3]."""
    with js.variable_scope(None, "mix"):
        w = js.get_variable("w", [3])
        js.get_variable("calls", initializer=0, trainable=False)
        js.assign_add("calls", 1)
    with js.variable_scope(None, "mix"):
        mean = js.get_variable("w", [3], initializer=ZEROS, trainable=False)
        js.assign_moving_average("w", x, 0.5)
        noise = jax.random.normal(js.next_rng_key(), (3,))
    return jnp.tanh(x * w) + 0.1 * noise - mean


def stacked(x: jax.Array) -> jax.Array:
    with js.variable_scope("net"):
        return js.layer_stack(N)(layer)(x)


def part(tree: Any, *index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def key_of_the_layer(rng: Any) -> jax.Array:
    def fn() -> jax.Array:
        with js.variable_scope("net/mix_1"):
            return js.next_rng_key()

    return js.transform(fn).apply({}, rng)


def by_hand(params: Any, state: Any, rng: Any, x: jax.Array, *, folds: Any = range(N)) -> Any:
    """The Python loop over layer i's part of params, state and keys."""
    after = []
    for i in folds:
        p, s = part(params["net"], i), part(state["net"], i)
        mean = s["mix_1"]["w"]
        noise = jax.random.normal(jax.random.fold_in(key_of_the_layer(rng), i), (3,))
        after.append((s["mix"]["calls"] + 1, lax.stop_gradient(mean - (mean - x) * 0.5)))
        x = jnp.tanh(x * p["mix"]["w"]) + 0.1 * noise - mean
    return x, after


def test_the_variables_of_the_block_get_a_leading_axis() -> None:
    net = js.transform_with_state(stacked)
    params, state = net.init(0, X)
    assert repr(params) == "Params({'net': {'mix': {'w': float32[3,3]}}})"
    assert (
        repr(state) == "Params({'net': {'mix': {'calls': int32[3]}, 'mix_1': {'w': float32[3,3]}}})"
    )
    specs = net.specs(X)
    assert [spec.stack for spec in specs.values()] == [(3,), (3,), (3,)]
    js.check(params, specs)
    js.check(state, specs.state())


def test_initial_values_of_layer_i_follow_from_name_and_i() -> None:
    key_words = lambda key, shape, dtype: jax.random.key_data(key).astype(dtype)  # noqa: E731

    def block(x: Any) -> Any:
        js.get_variable("w", [4, 5])
        js.get_variable("o", [4, 4], initializer=jax.nn.initializers.orthogonal())
        js.get_variable("k", [2], jnp.uint32, key_words)
        js.get_variable("c", initializer=np.arange(2.0))
        return x

    def in_scope(f: Any) -> Any:
        return js.transform(js.variable_scope("a")(f))

    plain = in_scope(block).init(7, 0.0)["a"]
    for n in (1, 3, 5):
        many = in_scope(js.layer_stack(n)(block)).init(7, 0.0)["a"]
        assert {name: leaf.shape for name, leaf in many.items()} == {
            "w": (n, 4, 5),
            "o": (n, 4, 4),
            "k": (n, 2),
            "c": (n, 2),
        }
        key = jax.random.wrap_key_data(plain["k"])
        for i in range(n):
            folded = jax.random.key_data(jax.random.fold_in(key, i))
            chex.assert_trees_all_equal(many["k"][i], folded)
            chex.assert_trees_all_equal(many["c"][i], plain["c"])
        longer = in_scope(js.layer_stack(n + 1)(block)).init(7, 0.0)["a"]
        chex.assert_trees_all_close(part(longer, slice(n)), part(many, slice(n)), rtol=1e-6)
    assert len({tuple(row.tolist()) for row in many["k"]}) == 5
    jitted = jax.jit(in_scope(js.layer_stack(5)(block)).init)(7, 0.0)["a"]
    chex.assert_trees_all_close(jitted, many, rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"unroll": 2}, {"unroll": True}, {"checkpoint": True}], ids=str
)
def test_a_stack_equals_the_python_loop(options: dict[str, Any]) -> None:
    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("net"):
            return js.layer_stack(N, **options)(layer)(x)

    net = js.transform_with_state(fn)
    params, state = net.init(0, X)
    chex.assert_trees_all_equal((params, state), js.transform_with_state(stacked).init(0, X))
    state = jax.tree.map(lambda leaf: leaf + 1, state)
    wanted, after = by_hand(params, state, 1, X)

    def check(apply: Any) -> None:
        out, new_state = apply(params, state, 1, X)
        chex.assert_trees_all_close(out, wanted, rtol=1e-5)
        for i, (calls, mean) in enumerate(after):
            assert new_state["net"]["mix"]["calls"][i] == calls
            chex.assert_trees_all_close(new_state["net"]["mix_1"]["w"][i], mean, rtol=1e-5)

    check(net.apply)
    check(jax.jit(net.apply))
    gradients = jax.jit(
        jax.grad(lambda p, s: net.apply(p, s, 1, X)[0].sum(), argnums=(0, 1), allow_int=True)
    )(params, state)
    expected = jax.grad(lambda p, s: by_hand(p, s, 1, X)[0].sum(), argnums=(0, 1), allow_int=True)(
        params, state
    )
    for got, wanted in zip(*map(jax.tree.leaves, (gradients, expected)), strict=True):
        if got.dtype == jnp.float32:
            chex.assert_trees_all_close(got, wanted, rtol=1e-4, atol=1e-6)
    second = jax.jit(jax.hessian(lambda p: net.apply(p, state, 1, X)[0].sum()))(params)
    chex.assert_trees_all_close(
        second["net"]["mix"]["w"]["net"]["mix"]["w"],
        jax.hessian(lambda p: by_hand(p, state, 1, X)[0].sum())(params)["net"]["mix"]["w"]["net"][
            "mix"
        ]["w"],
        rtol=1e-3,
        atol=1e-5,
    )


def test_xs_and_ys_are_per_layer() -> None:
    def block(carry: Any, x: Any) -> Any:
        w = js.get_variable("w", [3])
        return {"h": carry["h"] * w + x["a"]}, (carry["h"].sum(), x["b"] * 2)

    net = js.transform(lambda h, xs: js.layer_stack(N)(block)({"h": h}, xs))
    xs = {"a": jnp.arange(9.0).reshape(3, 3), "b": jnp.arange(3)}
    params = net.init(0, X, xs)
    carry, (sums, doubled) = jax.jit(net.apply)(params, None, X, xs)
    h = X
    for i in range(N):
        chex.assert_trees_all_close(sums[i], h.sum(), rtol=1e-5)
        h = h * params["w"][i] + xs["a"][i]
    chex.assert_trees_all_close(carry["h"], h, rtol=1e-5)
    assert doubled.tolist() == [0, 2, 4]


def test_nested_stacks() -> None:
    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("net"):
            return js.layer_stack(2)(js.layer_stack(N)(layer))(x)

    net = js.transform_with_state(fn)
    params, state = net.init(0, X)
    assert params["net"]["mix"]["w"].shape == (2, N, 3)
    key = lambda i, j: jax.random.fold_in(jax.random.fold_in(key_of_the_layer(1), j), i)  # noqa: E731
    x, calls = X, state["net"]["mix"]["calls"]
    for i in range(2):
        for j in range(N):
            p, s = part(params["net"], i, j), part(state["net"], i, j)
            noise = jax.random.normal(key(i, j), (3,))
            x = jnp.tanh(x * p["mix"]["w"]) + 0.1 * noise - s["mix_1"]["w"]
    for apply in (net.apply, jax.jit(net.apply)):
        out, after = apply(params, state, 1, X)
        chex.assert_trees_all_close(out, x, rtol=1e-5)
        chex.assert_trees_all_equal(after["net"]["mix"]["calls"], calls + 1)
    values = js.transform_with_state(stacked).init(0, X)[0]
    assert not jnp.array_equal(params["net"]["mix"]["w"][0], values["net"]["mix"]["w"])


def test_variables_made_outside_are_shared_and_state_made_outside_is_carried() -> None:
    def block(x: jax.Array) -> jax.Array:
        with js.variable_scope("outside", reuse=True):
            shared = js.get_variable("w", [3])
            count = js.assign_add("count", 1)
        return x * shared * js.get_variable("own", [3]) + count.astype(x.dtype)

    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("outside"):
            js.get_variable("w", [3])
            js.get_variable("count", initializer=0, trainable=False)
        root = js.get_variable_scope()

        def at_root(x: jax.Array) -> jax.Array:
            with js.variable_scope(root):
                return block(x)

        with js.variable_scope("elsewhere"):
            return js.layer_stack(N)(at_root)(x)

    net = js.transform_with_state(fn)
    params, state = net.init(0, X)
    shapes = {name: leaf.shape for name, leaf in js.tree.flatten(params).items()}
    assert shapes == {"outside/w": (3,), "own": (3, 3)}
    x = X
    for i in range(N):
        x = x * params["outside"]["w"] * params["own"][i] + i + 1
    out, after = jax.jit(net.apply)(params, state, None, X)
    chex.assert_trees_all_close(out, x, rtol=1e-5)
    assert after["outside"]["count"] == N


def test_a_stack_is_shared_as_a_whole() -> None:
    def block(x: jax.Array) -> jax.Array:
        return x * js.get_variable("w", [3])

    def fn(x: jax.Array, n: int = N) -> Any:
        with js.variable_scope("s"):
            first = js.layer_stack(N)(block)(x)
        with js.variable_scope("s", reuse=True):
            again = js.layer_stack(n)(block)(x)
            whole = js.get_variable("w")
        return first, again, whole

    net = js.transform(fn)
    params = net.init(0, X)
    first, again, whole = net.apply(params, None, X)
    chex.assert_trees_all_equal(first, again)
    assert whole is params["s"]["w"]
    only = js.transform(js.variable_scope("s", reuse=True)(lambda x: js.layer_stack(N)(block)(x)))
    chex.assert_trees_all_equal(only.apply(params, None, X), first)
    for call in (lambda: net.init(0, X, N + 1), lambda: net.apply(params, None, X, N + 1)):
        with pytest.raises(
            errors.VariableMismatchError,
            match=r"variable s/w, but specified shape \(4, 3\) and found shape \(3, 3\)\.",
        ):
            call()


def test_a_stack_inside_transforms_and_transforms_inside_a_stack() -> None:
    def block(x: jax.Array) -> jax.Array:
        def inner(y: jax.Array) -> jax.Array:
            return jnp.tanh(y * js.get_variable("w", [3]))

        return lax.scan(lambda c, _: (jax.checkpoint(inner)(c), None), x, None, length=2)[0]

    plain = js.transform(js.layer_stack(N)(block))
    params = plain.init(0, X)
    wanted = plain.apply(params, None, X)
    x = X
    for i in range(N):
        x = jnp.tanh(jnp.tanh(x * params["w"][i]) * params["w"][i])
    chex.assert_trees_all_close(wanted, x, rtol=1e-5)
    for wrap in (
        jax.jit,
        jax.checkpoint,
        js.jit,
        js.checkpoint,
        lambda f: lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=1)[0],
        lambda f: lambda x: js.scan(lambda c, _: (f(c), None), x, None, length=1)[0],
        lambda f: lambda x: jax.vmap(f)(x[None])[0],
        lambda f: lambda x: js.cond(x[0] < 1e9, f, lambda y: y, x),
    ):
        net = js.transform(wrap(js.layer_stack(N)(block)))
        chex.assert_trees_all_equal(net.init(0, X), params)
        chex.assert_trees_all_close(jax.jit(net.apply)(params, None, X), wanted, rtol=1e-5)


def test_a_stack_of_split_instances_with_state_inside_a_scan() -> None:
    def run(x: jax.Array) -> jax.Array:
        def step(carry: jax.Array, _: Any) -> Any:
            return js.layer_stack(2)(lambda xs: js.vmap(layer, variables="split")(xs))(carry), None

        with js.variable_scope("net"):
            return js.scan(step, x, None, length=4)[0]

    xs = jnp.stack([X, -X])
    net = js.transform_with_state(run)
    params, state = net.init(0, xs)
    assert params["net"]["mix"]["w"].shape == (2, 2, 3)
    fold = jax.random.fold_in
    x, s = list(xs), jax.tree.map(lambda leaf: leaf, state.to_dict())
    for step in range(4):
        for i in range(2):
            for j in range(2):
                key = fold(fold(fold(key_of_the_layer(1), j), i), step)
                mean = s["net"]["mix_1"]["w"][i, j]
                moved = mean - (mean - x[j]) * 0.5
                s["net"]["mix_1"]["w"] = s["net"]["mix_1"]["w"].at[i, j].set(moved)
                noise = jax.random.normal(key, (3,))
                x[j] = jnp.tanh(x[j] * params["net"]["mix"]["w"][i, j]) + 0.1 * noise - mean
    out, after = jax.jit(net.apply)(params, state, 1, xs)
    chex.assert_trees_all_close(out, jnp.stack(x), rtol=1e-4)
    chex.assert_trees_all_close(after["net"]["mix_1"]["w"], s["net"]["mix_1"]["w"], rtol=1e-4)
    assert after["net"]["mix"]["calls"].tolist() == [[4, 4], [4, 4]]


def test_twins_inside_a_block_carry_the_state_of_the_layer() -> None:
    def twice(x: jax.Array) -> jax.Array:
        step = lambda c, _: (js.cond(c[0] < 1e9, js.checkpoint(layer), lambda y: y, c), None)  # noqa: E731
        return js.scan(step, x, None, length=2)[0]

    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("net"):
            return js.layer_stack(N)(twice)(x)

    net = js.transform_with_state(fn)
    params, state = net.init(0, X)
    chex.assert_trees_all_equal((params, state), js.transform_with_state(stacked).init(0, X))
    fold = jax.random.fold_in
    x, means = X, []
    for i in range(N):
        p, mean = params["net"]["mix"]["w"][i], state["net"]["mix_1"]["w"][i]
        for step in range(2):
            noise = jax.random.normal(fold(fold(key_of_the_layer(1), step), i), (3,))
            mean, x = mean - (mean - x) * 0.5, jnp.tanh(x * p) + 0.1 * noise - mean
        means.append(mean)
    out, after = jax.jit(net.apply)(params, state, 1, X)
    chex.assert_trees_all_close(out, x, rtol=1e-5)
    chex.assert_trees_all_close(after["net"]["mix_1"]["w"], jnp.stack(means), rtol=1e-5)
    assert after["net"]["mix"]["calls"].tolist() == [2, 2, 2]


def test_templates_and_getters_inside_a_block() -> None:
    def double(getter: Any, name: str, **request: Any) -> Any:
        return 2 * getter(name, **request)

    def block(x: jax.Array) -> jax.Array:
        tower = js.make_template("tower", lambda y: y * js.get_variable("w", [3]))
        with js.variable_scope("cast", custom_getter=double):
            return tower(tower(x)) + js.get_variable("b", [3])

    net = js.transform(js.layer_stack(N)(block))
    params = net.init(0, X)
    x = X
    for i in range(N):
        x = x * params["cast"]["tower"]["w"][i] ** 2 * 4 + 2 * params["cast"]["b"][i]
    chex.assert_trees_all_close(jax.jit(net.apply)(params, None, X), x, rtol=1e-5)


def test_a_duplicate_in_a_block_is_refused_and_so_is_a_second_stack() -> None:
    def twice(x: jax.Array) -> jax.Array:
        return x * js.get_variable("w", [3]) * js.get_variable("w", [3])

    def once(x: jax.Array) -> jax.Array:
        return x * js.get_variable("w", [3])

    stack = js.layer_stack(2)(once)
    for fn in (js.layer_stack(2)(twice), lambda x: stack(stack(x))):
        with pytest.raises(errors.VariableExistsError, match=r"^Variable w already exists"):
            js.transform(fn).init(0, X)
        with pytest.raises(errors.VariableExistsError, match=r"^Variable w already exists"):
            js.transform(fn).apply({"w": jnp.ones([2, 3])}, None, X)


def test_what_the_params_must_look_like() -> None:
    net = js.transform(js.layer_stack(N)(lambda x: x * js.get_variable("w", [3])))
    for shape, wanted in (((4, 3), r"\(3, 3\)"), ((3,), r"\(3, 3\)"), ((3, 4), r"\(3, 3\)")):
        with pytest.raises(
            errors.VariableMismatchError, match=rf"variable w, but specified shape {wanted}"
        ):
            net.apply({"w": jnp.ones(shape)}, None, X)
    with pytest.raises(errors.VariableNotFoundError, match=r"^Variable w does not exist"):
        net.apply({}, None, X)


def test_a_block_must_return_a_carry_like_the_one_it_was_given() -> None:
    for block, given in (
        (lambda x: x[:2], X),
        (lambda x: (x, x), X),
        (lambda x: x.astype(jnp.int32), X),
    ):
        net = js.transform(js.layer_stack(N)(block))
        for call in (net.init, net.apply):
            with pytest.raises(errors.TransformError) as caught:
                call(*([0] if call is net.init else [{}, None]), given)
            assert str(caught.value).startswith(
                "The block of layer_stack was given a carry of float32[3] and returned "
            )
            assert "\n  asked:  at " in str(caught.value)
            assert "the next layer is given it" in str(caught.value)
    out = js.transform(js.layer_stack(N)(lambda x: x * 2.0)).apply({}, None, 1.0)
    assert out == 8


def test_the_arguments_are_checked() -> None:
    for n in (-1, 2.0, True, "3"):
        with pytest.raises(errors.ArgumentError, match="number of layers must be an int of 0 or"):
            js.layer_stack(n)
    with pytest.raises(errors.ArgumentError, match="checkpoint must be True or False"):
        js.layer_stack(2, checkpoint=2)
    with pytest.raises(errors.ArgumentError, match="must be a function, got 3"):
        js.layer_stack(2)(3)
    stack = js.layer_stack(2)(lambda c, x: (c, x))
    for call, match in (
        (lambda: stack(X, jnp.ones(3)), r"xs of layer_stack must be arrays \[2, ...\], got float"),
        (lambda: stack(X, X, X), "arguments of a layer stack must be a carry, and xs or not"),
        (lambda: stack(X, training=True), "arguments of a layer stack must be a carry, and xs or"),
        (
            lambda: js.layer_stack(2)(lambda c, x: c)(X, jnp.ones(2)),
            r"result of a block with xs must be a pair \(carry, y\)",
        ),
    ):
        with pytest.raises(errors.ArgumentError, match=match):
            js.transform(call).init(0)


def test_no_layers_are_the_identity() -> None:
    net = js.transform(js.layer_stack(0)(lambda x: x * js.get_variable("w", [3])))
    params = net.init(0, X)
    assert params["w"].shape == (0, 3)
    chex.assert_trees_all_equal(net.apply(params, None, X), X)


def test_a_value_computed_inside_a_block_cannot_initialise() -> None:
    net = js.transform(js.layer_stack(2)(lambda x: x * js.get_variable("w", initializer=x * 2)))
    with pytest.raises(errors.InitializerError, match="was computed inside an inner JAX transform"):
        net.init(0, X)
    outside = js.transform(
        lambda x, y: js.layer_stack(2)(lambda c: c * js.get_variable("w", initializer=y))(x)
    )
    with pytest.raises(errors.InitializerError, match="which cannot be that of every layer or ins"):
        outside.init(0, X, X)


def test_a_data_dependent_value_may_follow_a_stack() -> None:
    def fn(x: jax.Array) -> jax.Array:
        y = js.layer_stack(2)(lambda c: c * js.get_variable("w", [3]))(x)
        return js.get_variable("shift", initializer=-y)

    params = js.transform(fn).init(0, X)
    chex.assert_trees_all_close(params["shift"], -X * params["w"][0] * params["w"][1], rtol=1e-5)


def test_the_program_does_not_grow_with_the_number_of_layers() -> None:
    def lines(n: int) -> int:
        net = js.transform(js.layer_stack(n)(lambda x: jnp.tanh(x * js.get_variable("w", [3]))))
        params = net.specs(X).params()
        return len(jax.jit(net.apply).lower(params, None, X).as_text().splitlines())

    assert lines(2) == lines(50)

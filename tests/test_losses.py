"""Regularizers, constraints and collections."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

import jscope as js
from jscope import errors

X = jnp.array([0.5, -1.0, 2.0])


def square(w: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(w))


def layer(x: jax.Array, **options: Any) -> jax.Array:
    return x * js.get_variable("w", [3], **options)


def net(x: jax.Array) -> Any:
    with js.variable_scope("a", regularizer=square):
        x = layer(x)
        with js.variable_scope("off", regularizer=js.no_regularizer):
            x = layer(x)
    with js.variable_scope("a", reuse=True):
        x = layer(x)
    with js.variable_scope("ab"):
        x = layer(x, regularizer=lambda w: 10 * square(w))
    losses = js.get_regularization_losses()
    return losses, js.get_regularization_losses("a"), js.get_regularization_loss()


def test_each_variable_with_a_regularizer_gives_one_loss() -> None:
    pair = js.transform(net)
    params = pair.init(0, X)
    losses, in_a, total = jax.jit(pair.apply)(params, None, X)
    a, ab = square(params["a"]["w"]), 10 * square(params["ab"]["w"])
    chex.assert_trees_all_close(losses, [a, ab], rtol=1e-6)
    chex.assert_trees_all_close(in_a, [a], rtol=1e-6)
    chex.assert_trees_all_close(total, a + ab, rtol=1e-6)
    outside = js.regularization_loss(params, pair.specs(X))
    chex.assert_trees_all_close(outside, total, rtol=1e-6)
    gradient = jax.grad(js.regularization_loss)(params, pair.specs(X))
    chex.assert_trees_all_close(gradient["a"]["w"], 2 * params["a"]["w"], rtol=1e-6)
    chex.assert_trees_all_equal(gradient["a"]["off"]["w"], jnp.zeros(3))


def test_nothing_is_computed_unless_asked() -> None:
    calls: list[Any] = []
    pair = js.transform(lambda x: layer(x, regularizer=lambda w: calls.append(w) or square(w)))
    pair.apply(pair.init(0, X), None, X)
    assert calls == []


def test_a_regularizer_sees_the_variable_and_none_of_the_getters() -> None:
    def fn(x: jax.Array) -> Any:
        double = lambda getter, name, **kw: 2 * getter(name, **kw)  # noqa: E731
        with js.variable_scope("a", regularizer=square, custom_getter=double):
            layer(x)
            layer_scope = js.get_variable_scope()
        del layer_scope
        return js.get_regularization_loss()

    pair = js.transform(fn)
    params = pair.init(0, X)
    chex.assert_trees_all_close(pair.apply(params, None, X), square(params["a"]["w"]))


def test_variables_made_inside_transforms_and_stacks_count_too() -> None:
    largest = lambda w: jnp.max(w)  # noqa: E731 - of each layer, not of the stack

    def fn(x: jax.Array) -> Any:
        with js.variable_scope("s", regularizer=largest):
            x = js.layer_stack(4)(layer)(x)
        with js.variable_scope("c", regularizer=square):
            x = jax.checkpoint(lambda y: layer(y))(x)
        return js.get_regularization_losses()

    pair = js.transform(fn)
    params = pair.init(0, X)
    losses = jax.jit(pair.apply)(params, None, X)
    wanted = [params["s"]["w"].max(1).sum(), square(params["c"]["w"])]
    chex.assert_trees_all_close(losses, wanted, rtol=1e-6)
    total = js.regularization_loss(params, pair.specs(X))
    chex.assert_trees_all_close(total, sum(wanted), rtol=1e-6)


def test_inside_a_block_a_regularizer_sees_the_layer_it_is_in() -> None:
    largest = lambda w: jnp.max(w)  # noqa: E731 - of a layer, and not of what is smaller

    def inner(x: jax.Array) -> Any:
        x = x * js.get_variable("w", [3])
        return x, js.get_regularization_losses("s")

    def outer(x: jax.Array) -> Any:
        x = x * js.get_variable("v", [3])
        with js.variable_scope("inner"):
            x, seen = js.layer_stack(2)(lambda carry, _: inner(carry))(x, jnp.zeros(2))
        return x, (seen, js.get_regularization_losses("s"))

    def fn(x: jax.Array) -> Any:
        with js.variable_scope("s", regularizer=largest):
            js.get_variable("u", [3])
            _, (inside, around) = js.layer_stack(4)(lambda carry, _: outer(carry))(x, jnp.zeros(4))
        return inside, around, js.get_regularization_losses("s")

    net = js.transform(fn)
    params = net.init(0, X)
    u, v, w = (params["s"][name] for name in ("u", "v", "inner"))
    w = w["w"]
    assert (v.shape, w.shape) == ((4, 3), (4, 2, 3))
    inside, around, after = jax.jit(net.apply)(params, None, X)
    # u, v and w as each inner layer sees them, as each outer one does, and as all of the function.
    wanted = [jnp.full([4, 2], u.max()), jnp.stack([v.max(1)] * 2, 1), w.max(2)]
    chex.assert_trees_all_equal(inside, wanted)
    wanted = [jnp.full(4, u.max()), v.max(1), w.max(2).sum(1)]
    chex.assert_trees_all_close(around, wanted, rtol=1e-6)
    chex.assert_trees_all_close(after, [u.max(), v.max(1).sum(), w.max(2).sum()], rtol=1e-6)


def test_what_is_not_trainable_has_a_loss_inside_only() -> None:
    def fn() -> jax.Array:
        js.get_variable("v", initializer=3.0, trainable=False, regularizer=square)
        return js.get_regularization_loss()

    pair = js.transform_with_state(fn)
    params, state = pair.init(0)
    assert pair.apply(params, state, None)[0] == 9
    assert js.regularization_loss(params, pair.specs()) == 0


def test_constraints_after_an_update() -> None:
    def fn(x: jax.Array) -> jax.Array:
        unit = lambda w: w / jnp.linalg.norm(w)  # noqa: E731
        with js.variable_scope("s", constraint=unit):
            x = js.layer_stack(4)(layer)(x)
        return layer(x, constraint=lambda w: jnp.maximum(w, 0)) + js.get_variable("free", [3])

    pair = js.transform(fn)
    params, specs = pair.init(0, X), pair.specs(X)
    optimizer = optax.sgd(1.0)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        gradient = jax.grad(lambda p: pair.apply(p, None, X).sum())(params)
        updates, state = optimizer.update(gradient, state)
        moved = optax.apply_updates(params, updates)
        return moved, js.apply_constraints(moved, specs), state

    moved, held, _ = step(params, optimizer.init(params))
    chex.assert_trees_all_close(jnp.linalg.norm(held["s"]["w"], axis=1), jnp.ones(4), rtol=1e-5)
    chex.assert_trees_all_equal(held["w"], jnp.maximum(moved["w"], 0))
    chex.assert_trees_all_equal(held["free"], moved["free"])
    same = js.apply_constraints(params.to_dict(), js.transform(layer).specs(X))
    assert same["free"] is params["free"]


def test_what_cannot_be_constrained_or_regularized() -> None:
    specs = js.transform(lambda x: layer(x, constraint=lambda w: w[:1], regularizer=square)).specs(
        X
    )
    with pytest.raises(errors.CheckError) as caught:
        js.apply_constraints({"w": X}, specs)
    assert str(caught.value) == (
        "The constraint of variable w returned float32[1] for float32[3].\n"
        "  fix:    a constraint returns a value of the same shape and dtype."
    )
    for call in (js.apply_constraints, js.regularization_loss):
        with pytest.raises(errors.CheckError, match=r"missing:    w"):
            call({"v": X}, specs)
        with pytest.raises(errors.ArgumentError, match=r"specs must be what net\.specs"):
            call({"w": X}, {"w": X})


def test_collections_hold_variables_and_values_in_order() -> None:
    def fn(x: jax.Array) -> Any:
        with js.variable_scope("a"):
            layer(x, collections=["mine"])
            js.add_to_collection("mine", {"x": x})
        with js.variable_scope("ab"):
            js.get_variable("v", [], trainable=False)
            js.add_to_collection("mine", 2 * x)
        keys = ("mine", "variables", "trainable_variables", "nothing")
        return {key: js.get_collection(key) for key in keys}, js.get_collection("mine", "a")

    pair = js.transform_with_state(fn)
    params, state = pair.init(0, X)
    (found, in_a), _ = pair.apply(params, state, None, X)
    w, v = params["a"]["w"], state["ab"]["v"]
    chex.assert_trees_all_equal(found["mine"], [w, {"x": X}, 2 * X])
    chex.assert_trees_all_equal((found["variables"], found["trainable_variables"]), ([v], [w]))
    assert found["nothing"] == []
    chex.assert_trees_all_equal(in_a, [w, {"x": X}])


@pytest.mark.parametrize("twin", [js.jit, js.checkpoint, lambda f: lambda x: js.grad(f)(x)])
def test_values_added_inside_a_twin_that_runs_once_get_out(twin: Any) -> None:
    def inner(x: jax.Array) -> jax.Array:
        js.add_to_collection("end_points", 2 * x)
        assert len(js.get_collection("end_points")) == 2
        return x.sum()

    def fn(x: jax.Array) -> Any:
        js.add_to_collection("end_points", x)
        twin(lambda y: twin(inner)(y).sum())(x)
        return js.get_collection("end_points")

    with jax.checking_leaks():
        out = jax.jit(js.transform(fn).apply)({}, None, X)
    chex.assert_trees_all_equal(out, [X, 2 * X])
    js.transform(fn).init(0, X)


LOSING = {
    "jax.checkpoint": lambda f: jax.checkpoint(f),
    "jax.lax.scan": lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, 2),
    "layer_stack": lambda f: lambda x: js.layer_stack(2)(f)(x),
    "scan": lambda f: lambda x: js.scan(lambda c, _: (f(c), None), x, None, 2),
    "cond": lambda f: lambda x: js.cond(x[0] > 0, f, lambda y: y, x),
    "while_loop": lambda f: lambda x: js.while_loop(lambda c: c[0] < 1, f, x),
    "split": lambda f: lambda x: js.vmap(f, variables="split")(x[None])[0],
    # A twin lets values out as far as what is around it does.
    "jit in scan": lambda f: LOSING["scan"](js.jit(f)),
    "checkpoint of jit in cond": lambda f: LOSING["cond"](js.checkpoint(js.jit(f))),
    "grad in layer_stack": lambda f: LOSING["layer_stack"](
        lambda x: js.grad(lambda y: f(y).sum())(x)
    ),
    "scan in jit": lambda f: js.jit(LOSING["scan"](f)),
    "checkpoint in split in jit": lambda f: js.jit(LOSING["split"](js.checkpoint(f))),
}


@pytest.mark.parametrize("name", LOSING)
def test_values_that_could_not_get_out_are_refused(name: str) -> None:
    place = f"raw {name}" if name.startswith("jax.") else "a loop, branch or stack"

    def add(x: jax.Array) -> jax.Array:
        js.add_to_collection("mine", x)
        return x

    with pytest.raises(errors.TransformError) as caught:
        js.transform(LOSING[name](add)).init(0, X)
    line = add.__code__.co_firstlineno + 1
    assert str(caught.value).startswith(
        f"Nothing can be added to the collection 'mine' inside {place}: the value could not get out "
        f"of it.\n  asked:  at tests/test_losses.py:{line} in "
    )
    assert str(caught.value).endswith(
        "\n  fix:    return the value and add it outside; jscope.jit, jscope.checkpoint, jscope.grad "
        "and jscope.value_and_grad take it out by themselves."
    )


def test_a_value_of_a_finished_trace_in_a_collection_is_refused() -> None:
    def fn(x: jax.Array) -> Any:
        kept: list[jax.Array] = []
        jax.jit(lambda y: kept.append(y) or y)(x)
        js.add_to_collection("mine", kept)
        return js.get_collection("mine")

    with pytest.raises(errors.TransformError) as caught:
        js.transform(fn).apply({}, None, X)
    line = fn.__code__.co_firstlineno + 4
    assert str(caught.value).startswith(
        "The collection 'mine' holds a tracer that leaked from a finished trace.\n"
        f"  asked:  at tests/test_losses.py:{line} in fn"
    )
    assert str(caught.value).endswith(
        "\n  fix:    add values where they are computed, not tracers stored elsewhere."
    )


def test_the_arguments_are_checked() -> None:
    for call in (js.get_collection, lambda key: js.add_to_collection(key, 1)):
        with pytest.raises(errors.ArgumentError, match="The key of a collection must be a string"):
            js.transform(call).init(0, 3)
        with pytest.raises(errors.NoPassError, match="_collection was called outside a pass"):
            call("k")
    with pytest.raises(errors.InvalidNameError, match="'a//b' is not a valid scope name"):
        js.transform(js.get_regularization_losses).init(0, "a//b")
    with pytest.raises(errors.ArgumentError, match="scope must be a full name or None, got 3"):
        js.transform(lambda: js.get_collection("k", 3)).init(0)
    assert js.transform(js.get_regularization_loss).apply({}, None) == 0


def test_the_collection_of_tf1_holds_the_regularization_losses() -> None:
    def fn() -> list[jax.Array]:
        with js.variable_scope("a", regularizer=js.regularizers.l2(2.0)):
            js.get_variable("w", initializer=3.0)
        with js.variable_scope("b", regularizer=js.regularizers.l1(1.0)):
            js.get_variable("w", initializer=4.0)
        js.add_to_collection("regularization_losses", jnp.asarray(0.5))
        both = js.get_collection("regularization_losses")
        return both + js.get_collection("regularization_losses", "b")

    net = js.transform(fn)
    assert [loss.item() for loss in net.apply(net.init(0), None)] == [9.0, 4.0, 0.5, 4.0]


def test_a_regularizer_may_return_a_number_and_a_constraint_must_return_an_array() -> None:
    def fn() -> jax.Array:
        js.get_variable("w", [2], regularizer=lambda w: 0.5, constraint=lambda w: [1.0, 2.0])
        return js.get_regularization_loss()

    net = js.transform(fn)
    params = net.init(0)
    assert net.apply(params, None) == js.regularization_loss(params, net.specs()) == 0.5
    with pytest.raises(errors.ConstraintError, match=r"^The constraint of variable w returned"):
        js.apply_constraints(params, net.specs())

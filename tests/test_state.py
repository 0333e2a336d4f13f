"""State: variables that are not trainable, and assigning to them."""

from __future__ import annotations

import pickle
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import errors

ZEROS = jax.nn.initializers.zeros
X = jnp.array([[1.0, 2.0], [3.0, 6.0]])


def batch_norm(x: jax.Array, training: bool) -> jax.Array:
    with js.variable_scope("norm", reuse=js.AUTO_REUSE):
        gamma = js.get_variable("gamma", [2], initializer=jax.nn.initializers.ones)
        mean = js.get_variable("moving_mean", [2], initializer=ZEROS, trainable=False)
        if training:
            js.assign_moving_average("moving_mean", x.mean(0), 0.5)
            mean = x.mean(0)
    return gamma[None] * (x - mean[None])


NET = js.transform_with_state(batch_norm)


def test_init_returns_initial_values_in_two_trees() -> None:
    params, state = NET.init(0, X, True)
    chex.assert_trees_all_equal(params, js.Params({"norm": {"gamma": jnp.ones(2)}}))
    chex.assert_trees_all_equal(state, js.Params({"norm": {"moving_mean": jnp.zeros(2)}}))
    assert isinstance(state, js.Params)


def test_specs_tell_params_from_state() -> None:
    specs = NET.specs(X, True)
    assert list(specs) == ["norm/gamma", "norm/moving_mean"]
    assert repr(specs.params()) == "Params({'norm': {'gamma': float32[2]}})"
    assert repr(specs.state()) == "Params({'norm': {'moving_mean': float32[2]}})"
    params, state = NET.init(0, X, True)
    js.check(params, specs)
    js.check(state, specs.state())


def test_apply_returns_the_new_state_and_changes_nothing_given() -> None:
    params, state = NET.init(0, X, True)
    _, after = NET.apply(params, state, None, X, True)
    chex.assert_trees_all_close(after["norm"]["moving_mean"], jnp.array([1.0, 2.0]))
    chex.assert_trees_all_equal(state["norm"]["moving_mean"], jnp.zeros(2))
    _, again = NET.apply(params, after, None, X, True)
    chex.assert_trees_all_close(again["norm"]["moving_mean"], jnp.array([1.5, 3.0]))


def test_an_apply_that_assigns_nothing_returns_the_same_arrays() -> None:
    params, state = NET.init(0, X, True)
    _, after = NET.apply(params, state, None, X, False)
    assert after is state
    _, after = NET.apply(params, state.to_dict(), None, X, False)
    assert isinstance(after, js.Params)
    assert after["norm"]["moving_mean"] is state["norm"]["moving_mean"]


def test_state_that_the_function_does_not_know_is_kept() -> None:
    params, state = NET.init(0, X, True)
    extra = js.Params({**state, "other": {"v": jnp.ones(1), "empty": {}}})
    _, after = NET.apply(params, extra, None, X, True)
    assert jax.tree.structure(after) == jax.tree.structure(extra)
    assert after["other"]["v"] is extra["other"]["v"]


def test_any_mapping_will_do_for_state() -> None:
    params, state = NET.init(0, X, True)
    plain = {"norm": {"moving_mean": np.zeros(2, np.float32)}}
    _, after = NET.apply(params.to_dict(), plain, None, X, True)
    chex.assert_trees_all_close(after, NET.apply(params, state, None, X, True)[1])


def test_later_reads_in_the_pass_see_the_new_value() -> None:
    def fn() -> Any:
        old = js.get_variable("v", initializer=1.0, trainable=False)
        with js.variable_scope("", reuse=True):
            assert js.get_variable("v") is old
            new = js.assign("v", 5.0)
            # init returns initial values: it sees no assignment.
            assert (js.get_variable("v") is new) is not js.is_initializing()
            return old, new, js.get_variable("v", []), js.assign_sub("v", 2.0)

    net = js.transform_with_state(fn)
    values, state = net.apply(*net.init(0), None)
    assert [float(value) for value in values] == [1, 5, 5, 3]
    assert float(state["v"]) == 3


def test_the_first_request_decides_whether_a_variable_is_trainable() -> None:
    def fn(first: Any, then: Any) -> Any:
        with js.variable_scope("s", reuse=js.AUTO_REUSE):
            js.get_variable("v", [], trainable=first)
            return js.get_variable("v", [], trainable=then)

    net = js.transform_with_state(fn)
    assert list(net.specs(False, True).state()["s"]) == ["v"]
    assert list(net.specs(True, None).params()["s"]) == ["v"]
    with pytest.raises(errors.StateError) as caught:
        net.specs(True, False)
    line = fn.__code__.co_firstlineno
    assert str(caught.value) == (
        "Trying to share variable s/v with trainable=False, but it was made trainable.\n"
        f"  first:  at tests/test_state.py:{line + 2} in fn\n"
        f"  again:  at tests/test_state.py:{line + 3} in fn\n"
        "  fix:    give both requests the same trainable."
    )


def make(**options: Any) -> None:
    js.get_variable("a/v", [2], initializer=ZEROS, trainable=False, **options)


@pytest.mark.parametrize(
    ("value", "what"), [(jnp.zeros(3), "shape"), (1.0, "shape"), (jnp.zeros(2, int), "dtype")]
)
def test_a_value_of_another_shape_or_dtype_is_refused(value: Any, what: str) -> None:
    def fn() -> None:
        make()
        js.assign("a/v", value)

    net = js.transform_with_state(fn)
    found = {"shape": "(2,)", "dtype": "float32"}[what]
    given = {"shape": "(3,)" if np.ndim(value) else "()", "dtype": "int32"}[what]
    for call in (
        lambda: net.init(0),
        lambda: net.apply({}, {"a": {"v": jnp.zeros(2)}}, None),
    ):
        with pytest.raises(errors.AssignmentError) as caught:
            call()
        assert isinstance(caught.value, errors.StateError | errors.VariableMismatchError)
        first, *rest = str(caught.value).splitlines()
        assert first == (
            f"Trying to assign to variable a/v, but the value has {what} {given} and the variable "
            f"has {what} {found}."
        )
        assert rest[0].startswith("  first:  float32[2] at tests/test_state.py:")
        assert rest[1].startswith("  again:  at tests/test_state.py:")
        assert rest[2] == f"  fix:    assign a value whose {what} is {found}."
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.found) == (str(caught.value), caught.value.found)


def assign_average(name: str, value: Any) -> jax.Array:
    return js.assign_moving_average(name, value, 0.5)


CALLS = [js.assign, js.assign_add, js.assign_sub, assign_average]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", [jnp.zeros(3), jnp.zeros(()), jnp.zeros(2, jnp.bfloat16)])
def test_nothing_is_broadcast_or_promoted_silently(call: Any, value: Any) -> None:
    with pytest.raises(errors.AssignmentError, match=r"^Trying to assign to variable a/v"):
        js.transform_with_state(lambda: (make(), call("a/v", value))).init(0)


@pytest.mark.parametrize("call", CALLS)
def test_what_cannot_be_assigned(call: Any) -> None:
    def trainable() -> None:
        js.get_variable("w", [2])
        call("w", jnp.zeros(2))

    def missing() -> None:
        make()
        call("v", jnp.zeros(2))

    with pytest.raises(errors.StateError, match=r"^Variable w is trainable, so it cannot be assig"):
        js.transform_with_state(trainable).init(0)
    with pytest.raises(errors.StateError, match=r"^Variable w is trainable, so it cannot be assig"):
        js.transform_with_state(lambda: call("w", 0.0)).apply({"w": 1.0}, {}, None)
    for run in (
        lambda: js.transform_with_state(missing).init(0),
        lambda: js.transform_with_state(missing).apply({}, {"a": {"v": jnp.zeros(2)}}, None),
    ):
        with pytest.raises(
            errors.VariableNotFoundError, match=r"(?s)^Variable v does not exist.*near:   'a/v'"
        ):
            run()
    with pytest.raises(errors.ArgumentError, match="value assigned to a/v must be an array"):
        js.transform_with_state(lambda: (make(), call("a/v", "text"))).init(0)
    with pytest.raises(errors.NameTypeError, match="name of a variable must be a string, got 3"):
        js.transform_with_state(lambda: call(3, 0.0)).init(0)
    with pytest.raises(errors.InvalidNameError, match="'a//v' is not a valid variable name"):
        js.transform_with_state(lambda: call("a//v", 0.0)).init(0)
    with pytest.raises(errors.NoPassError, match=r"^assign.* was called outside a pass"):
        call("v", 0.0)


def test_transform_points_to_transform_with_state() -> None:
    with pytest.raises(errors.StateError, match=r"use jscope\.transform_with_state"):
        js.transform(make).init(0)
    with pytest.raises(errors.StateError) as caught:
        js.transform(lambda: js.assign("v", 0.0)).init(0)
    assert str(caught.value).splitlines()[0] == (
        "Variable v cannot be assigned: jscope.transform keeps no state."
    )


def test_a_variable_in_the_other_tree_is_pointed_to() -> None:
    net = js.transform_with_state(make)
    with pytest.raises(errors.VariableNotFoundError) as caught:
        net.apply({"a": {"v": jnp.zeros(2)}}, {}, None)
    first, _, *rest = str(caught.value).splitlines()
    assert first == "Variable a/v does not exist in the state given to apply."
    assert rest[-1] == (
        "  fix:    it is in the params: ask for it with trainable=True, as init did, or give params "
        "and state in this order."
    )
    with pytest.raises(errors.VariableMismatchError, match="in the state given to apply"):
        net.apply({}, {"a": {"v": jnp.zeros(3)}}, None)
    with pytest.raises(errors.NameClashError, match="in the state given to apply"):
        net.apply({}, {"a": jnp.zeros(3)}, None)
    with pytest.raises(errors.TreeTypeError, match=r"^state must be a nested mapping"):
        net.apply({}, jnp.zeros(3), None)
    with pytest.raises(errors.TreeTypeError, match=r"as two arguments, apply\(params, state, "):
        net.apply(({}, {"a": {"v": jnp.zeros(2)}}), None, None)


def shared(**options: Any) -> jax.Array:
    with js.variable_scope("a", reuse=True):
        return js.get_variable("v", [2], **options)


def test_reuse_finds_state_that_was_given() -> None:
    net = js.transform_with_state(shared)
    here, there = {"a": {"v": jnp.ones(2)}}, {"a": {"v": jnp.zeros(2)}}
    for options in ({"trainable": False}, {}):
        out, _ = net.apply({}, here, None, **options)
        chex.assert_trees_all_equal(out, jnp.ones(2))
    out, _ = net.apply(there, here, None, trainable=False)
    chex.assert_trees_all_equal(out, jnp.ones(2))
    with pytest.raises(errors.VariableNotFoundError, match=r"^Variable a/v does not exist"):
        net.apply(here, {}, None, trainable=False)
    # Where there is no state, sharing does not look at it, as in TF1.
    assert js.transform(shared).apply(here, None, trainable=False) is here["a"]["v"]
    with pytest.raises(errors.VariableNotFoundError, match=r"^Variable a/v does not exist"):
        js.transform(shared).apply({}, None, trainable=False)


def test_assigning_without_a_request_works_in_apply() -> None:
    net = js.transform_with_state(lambda: js.assign("a/v", jnp.ones(2)))
    _, state = net.apply({}, {"a": {"v": jnp.zeros(2)}}, None)
    chex.assert_trees_all_equal(state["a"]["v"], jnp.ones(2))


def test_python_numbers_take_the_dtype_of_the_variable() -> None:
    def fn(dtype: Any, value: Any) -> jax.Array:
        js.get_variable("v", [], dtype, ZEROS, trainable=False)
        return js.assign("v", value)

    net = js.transform_with_state(fn)
    for dtype, value in ((jnp.bfloat16, 0.5), (jnp.int8, 3), (jnp.float16, 2), (jnp.bool_, True)):
        out, state = net.apply(*net.init(0, dtype, value), None, dtype, value)
        assert state["v"].dtype == dtype
        assert not state["v"].weak_type
        assert out == value
    with pytest.raises(errors.AssignmentError, match="has dtype float32 and the variable has dtyp"):
        net.init(0, jnp.int32, 0.5)


def hidden(x: jax.Array) -> jax.Array:
    """A recurrent step whose hidden state is a variable, [3] -> []."""
    w = js.get_variable("w", [3])
    js.get_variable("h", [3], initializer=ZEROS, trainable=False)
    with js.variable_scope("", reuse=True):
        js.assign("h", jnp.tanh(js.get_variable("h") * w + x))
        return js.get_variable("h").sum()


def test_a_hidden_state_trains_through_time() -> None:
    net = js.transform_with_state(lambda xs: sum([hidden_again(x) for x in xs]))

    def hidden_again(x: jax.Array) -> jax.Array:
        with js.variable_scope("", reuse=js.AUTO_REUSE):
            return hidden(x)

    step = js.transform_with_state(hidden)
    xs = [jnp.array([0.5, -1.0, 2.0]) * i for i in (1, 2, 3)]
    params, state = net.init(0, xs)
    state = jax.tree.map(lambda leaf: leaf + 0.3, state)

    def in_one_pass(params: Any, state: Any) -> Any:
        return net.apply(params, state, None, xs)

    def in_several_passes(params: Any, state: Any) -> Any:
        total = jnp.zeros([])
        for x in xs:
            out, state = step.apply(params, state, None, x)
            total += out
        return total, state

    def in_a_scan_of_passes(params: Any, state: Any) -> Any:
        def body(state: Any, x: Any) -> Any:
            out, state = step.apply(params, state, None, x)
            return state, out

        state, outs = jax.lax.scan(body, state, jnp.stack(xs))
        return outs.sum(), state

    def by_hand(params: Any, state: Any) -> Any:
        total, h = jnp.zeros([]), state["h"]
        for x in xs:
            h = jnp.tanh(h * params["w"] + x)
            total += h.sum()
        return total, {"h": h}

    def everything(f: Any) -> Any:
        loss = lambda *args: f(*args)[0] + jnp.vdot(f(*args)[1]["h"], xs[0])  # noqa: E731
        return f(params, state)[0], jax.grad(loss, argnums=(0, 1))(params, state)

    wanted = jax.tree.leaves(everything(by_hand))
    assert all(jnp.abs(leaf).max() > 1e-2 for leaf in wanted)
    for f in (in_one_pass, in_several_passes, in_a_scan_of_passes):
        for ours, theirs in zip(jax.tree.leaves(everything(f)), wanted, strict=True):
            chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-6)


ASSIGNING: dict[str, Any] = {
    "assign": (lambda w, x: js.assign("v", w * x), lambda v, w, x: w * x),
    "assign_add": (lambda w, x: js.assign_add("v", w * x), lambda v, w, x: v + w * x),
    "assign_sub": (lambda w, x: js.assign_sub("v", w * x), lambda v, w, x: v - w * x),
}


@pytest.mark.parametrize("read", ["returned", "read later", "new state"])
@pytest.mark.parametrize("name", ASSIGNING)
def test_an_assigned_value_is_the_value_given_gradients_included(name: str, read: str) -> None:
    assign, by_hand = ASSIGNING[name]

    def fn(x: jax.Array) -> Any:
        w = js.get_variable("w", initializer=2.0)
        js.get_variable("v", initializer=1.0, trainable=False)
        new = assign(w, x)
        with js.variable_scope("", reuse=True):
            return {"returned": new, "read later": js.get_variable("v"), "new state": x}[read]

    net = js.transform_with_state(fn)
    params, state = net.init(0, 3.0)

    def ours(w: Any, v: Any, x: Any) -> jax.Array:
        out, new = net.apply({"w": w}, {"v": v}, None, x)
        return (new["v"] if read == "new state" else out) ** 2

    def theirs(w: Any, v: Any, x: Any) -> Any:
        return by_hand(v, w, x) ** 2

    given = params["w"], state["v"], jnp.float32(3)
    for derive in (jax.grad, jax.hessian, jax.jacfwd):
        chex.assert_trees_all_close(
            derive(ours, argnums=(0, 1, 2))(*given), derive(theirs, argnums=(0, 1, 2))(*given)
        )


@pytest.mark.parametrize("zero_debias", [False, True])
def test_what_a_moving_average_returns_and_stores_has_no_gradient(zero_debias: bool) -> None:
    def fn(x: jax.Array) -> Any:
        w = js.get_variable("w", initializer=2.0)
        js.get_variable("v", initializer=1.0, trainable=False)
        new = js.assign_moving_average("v", w * x, jax.nn.sigmoid(w * x), zero_debias)
        with js.variable_scope("", reuse=True):
            return new, js.get_variable("v")

    net = js.transform_with_state(fn)
    params, state = net.init(0, 3.0)
    for derive in (jax.jacrev, jax.jacfwd):
        gradients = derive(net.apply, argnums=(0, 1, 3))(params, state, None, 3.0)
        chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, gradients))


def test_the_averages_of_batch_normalization_have_no_gradient() -> None:
    def fn(x: jax.Array) -> jax.Array:
        w = js.get_variable("w", [2])
        return js.layers.batch_normalization(x * w[None], momentum=0.5, training=True)

    net = js.transform_with_state(fn)
    x = jnp.array([[1.0, 2.0], [3.0, 6.0], [4.0, 0.0]])
    params, state = net.init(0, x)

    def moved(params: Any, state: Any, x: Any) -> Any:
        return net.apply(params, state, None, x)[1]

    for old, new in zip(*map(jax.tree.leaves, (state, moved(params, state, x))), strict=True):
        assert (old != new).all()
    gradients = jax.jacrev(moved, argnums=(0, 1, 2))(params, state, x)
    chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, gradients))
    # Those of the batch itself, which normalise it while training, have theirs, as in TF1.
    scaled = lambda x: net.apply(params, state, None, x)[0][0, 0]  # noqa: E731
    assert jnp.abs(jax.grad(scaled)(x)).max() > 1e-4


def test_moving_average_follows_tf1() -> None:
    # moving_averages.assign_moving_average of TF 2.21, v starting at 10, decay 0.9, values 1 2 4;
    # by its definition: v -= (v - value) * (1 - decay); zero_debias: biased / (1 - decay**step).
    plain, debiased, biased = 10.0, [], 0.0
    wanted = []
    for step, value in enumerate([1.0, 2.0, 4.0], 1):
        plain -= (plain - value) * 0.1
        biased -= (biased - value) * 0.1
        wanted.append(plain)
        debiased.append(biased / (1 - 0.9**step))

    def fn(value: Any, zero_debias: bool) -> jax.Array:
        js.get_variable("v", initializer=10.0, trainable=False)
        return js.assign_moving_average("v", value, 0.9, zero_debias)

    net = js.transform_with_state(fn)
    for zero_debias, expected in ((False, wanted), (True, debiased)):
        params, state = net.init(0, 1.0, zero_debias)
        for value, new in zip([1.0, 2.0, 4.0], expected, strict=True):
            out, state = net.apply(params, state, None, value, zero_debias)
            chex.assert_trees_all_close(out, jnp.float32(new), rtol=1e-5)
            assert state["v"] == out
    assert list(state) == ["v", "v_biased", "v_local_step"]
    assert float(state["v_local_step"]) == 3


def test_the_arguments_of_a_moving_average_are_checked() -> None:
    def fn(decay: Any = 0.5, zero_debias: Any = False, dtype: Any = jnp.float32) -> None:
        js.get_variable("v", [], dtype, ZEROS, trainable=False)
        js.assign_moving_average("v", jnp.zeros([], dtype), decay, zero_debias)

    net = js.transform_with_state(fn)
    net.init(0)
    net.init(0, jnp.float32(0.5))
    with pytest.raises(errors.ArgumentError, match="The decay must be a scalar"):
        net.init(0, jnp.zeros(2))
    with pytest.raises(errors.ArgumentError, match="The zero_debias must be True or False"):
        net.init(0, 0.5, 2)
    with pytest.raises(errors.ArgumentError, match="variable of a moving average must be of float"):
        net.init(0, 0.5, False, jnp.int32)
    with pytest.raises(errors.AssignmentError, match=r"value has shape \(3,\) and the variable"):
        js.transform_with_state(
            lambda: (make(), js.assign_moving_average("a/v", jnp.zeros(3), 0.5, True))
        ).init(0)


def test_a_leaked_value_is_refused() -> None:
    kept: list[Any] = []

    def fn(x: jax.Array) -> None:
        make()
        jax.checkpoint(lambda y: kept.append(y) or y)(x)
        js.assign("a/v", kept[-1])

    with pytest.raises(
        errors.TransformError, match=r"^The value assigned to variable a/v is a tracer that leaked"
    ):
        js.transform_with_state(fn).init(0, jnp.zeros(2))


def test_an_initial_value_of_state_can_be_computed_in_the_function() -> None:
    def fn(x: jax.Array) -> jax.Array:
        js.get_variable("shift", initializer=-x.mean(0), trainable=False)
        js.assign("shift", jnp.zeros(2))
        with js.variable_scope("", reuse=True):
            return js.get_variable("shift")

    net = js.transform_with_state(fn)
    params, state = net.init(0, X)
    chex.assert_trees_all_close(state["shift"], jnp.array([-2.0, -4.0]))
    assert params == js.Params({})


def test_state_survives_jit_and_scan_over_steps() -> None:
    params, state = NET.init(0, X, True)

    def step(state: Any, x: jax.Array) -> Any:
        out, state = NET.apply(params, state, None, x, True)
        return state, out

    batches = jnp.stack([X, 2 * X, 3 * X])
    scanned, outs = jax.jit(lambda s: jax.lax.scan(step, s, batches))(state)
    looped = state
    for batch, out in zip(batches, outs, strict=True):
        looped, wanted = step(looped, batch)
        chex.assert_trees_all_close(out, wanted, rtol=1e-6)
    chex.assert_trees_all_close(scanned, looped, rtol=1e-6)


def test_the_call_shapes() -> None:
    net = js.transform_with_state(batch_norm)
    assert repr(net) == f"TransformedWithState({batch_norm!r})"
    init, apply = net
    assert (init, apply) == (net.init, net.apply)
    again = pickle.loads(pickle.dumps(js.transform_with_state(make)))
    assert isinstance(again, js.TransformedWithState)
    bare = js.without_apply_rng(net)
    params, state = bare.init(0, X, True)
    chex.assert_trees_all_equal(
        bare.apply(params, state, X, True), net.apply(params, state, None, X, True)
    )
    assert isinstance(bare, js.TransformedWithState)
    with pytest.raises(
        errors.ArgumentError, match="argument of transform_with_state must be a fun"
    ):
        js.transform_with_state(3)
    both = jax.vmap(net.apply, (None, 0, None, None, None))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1]), state)
    assert both(params, stacked, None, X, False)[0].shape == (2, 2, 2)


def test_a_failed_pass_leaves_state_alone() -> None:
    def fn() -> None:
        make()
        js.assign("a/v", jnp.ones(2))
        raise KeyError("stop")

    net = js.transform_with_state(fn)
    state = {"a": {"v": jnp.zeros(2)}}
    with pytest.raises(KeyError, match="stop"):
        net.apply({}, state, None)
    assert state["a"]["v"].tolist() == [0, 0]


# Typed keys

KEY = jax.random.key(0).dtype


def as_data(tree: Any) -> Any:
    """Trees whose keys are their words, which can be compared."""
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


STARTS: dict[str, Any] = {
    "constant": lambda given: {"initializer": jax.random.key(3)},
    "constant with a shape": lambda given: {"shape": [], "initializer": jax.random.key(3)},
    "constant with a dtype": lambda given: {"dtype": KEY, "initializer": jax.random.key(3)},
    "argument": lambda given: {"initializer": given},
    "computed": lambda given: {"initializer": jax.random.fold_in(given, 1)},
    "function": lambda given: {"shape": (), "dtype": KEY, "initializer": lambda key, *_: key},
    "many": lambda given: {
        "shape": [2, 3],
        "dtype": KEY,
        "initializer": lambda key, shape, dtype: jax.random.split(key, shape),
    },
}


def split_every_time(given: jax.Array, start: str) -> jax.Array:
    rng = js.get_variable("rng", trainable=False, **STARTS[start](given))
    new, use = jnp.moveaxis(jax.vmap(jax.random.split)(rng.ravel()), 1, 0)
    js.assign("rng", new.reshape(rng.shape))
    return jax.vmap(jax.random.normal)(use)


@pytest.mark.parametrize("start", STARTS)
def test_a_key_is_made_split_and_returned_in_the_state(start: str) -> None:
    net = js.transform_with_state(split_every_time)
    given = jax.random.key(7)
    shape = (2, 3) if start == "many" else ()
    params, state = net.init(5, given, start)
    assert (state["rng"].shape, state["rng"].dtype) == (shape, KEY)
    wanted = {"argument": given, "computed": jax.random.fold_in(given, 1)}
    if start.startswith("constant") or start in wanted:
        first = wanted.get(start, jax.random.key(3))
        chex.assert_trees_all_equal(*as_data([state["rng"], first]))
    for jitted in (False, True):
        apply = jax.jit(net.apply, static_argnums=4) if jitted else net.apply
        key = state["rng"]
        out, after = apply(params, state, None, given, start)
        for index, one in enumerate(key.ravel()):
            new, use = jax.random.split(one)
            chex.assert_trees_all_close(out[index], jax.random.normal(use), rtol=1e-6)
            chex.assert_trees_all_equal(*as_data([after["rng"].ravel()[index], new]))
    again = jax.jit(net.init, static_argnums=2)(5, given, start)
    chex.assert_trees_all_equal(as_data(again), as_data((params, state)))


def test_keys_made_by_a_function_follow_from_the_name_and_the_seed() -> None:
    def fn() -> None:
        for name in "ab":
            js.get_variable(name, [], KEY, lambda key, *_: key, trainable=False)

    net = js.transform_with_state(fn)
    many = jax.vmap(net.init)(jnp.arange(3))[1]
    words = {tuple(row.tolist()) for leaf in as_data(many).values() for row in leaf}
    assert len(words) == 6
    alone = as_data(net.init(1)[1])
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[1], as_data(many)), alone)


def test_an_ensemble_of_keys_in_the_state() -> None:
    net = js.transform_with_state(split_every_time)
    given = jax.random.key(7)
    states = jax.vmap(lambda seed: net.init(seed, given, "many")[1])(jnp.arange(4))
    apply = lambda state: net.apply({}, state, None, given, "many")  # noqa: E731
    outs, after = jax.vmap(apply)(states)
    for index in range(4):
        out, new = apply(jax.tree.map(lambda leaf, i=index: leaf[i], states))
        chex.assert_trees_all_close(outs[index], out, rtol=1e-6)
        chex.assert_trees_all_equal(as_data(after)["rng"][index], as_data(new)["rng"])


def test_trees_with_keys() -> None:
    net = js.transform_with_state(split_every_time)
    given = jax.random.key(7)
    _, state = net.init(0, given, "many")
    specs = net.specs(given, "many")
    assert repr(specs) == "Specs([VariableSpec('rng', key<fry>[2,3], trainable=False)])"
    assert repr(state) == repr(specs.state()) == "Params({'rng': key<fry>[2,3]})"
    assert specs["rng"].dtype == KEY
    js.check(state, specs.state())
    with pytest.raises(errors.CheckError, match=r"rng is float32\[\], should be key<fry>\[2,3\]"):
        js.check({"rng": jnp.zeros([])}, specs.state())
    assert (js.tree.count(state), js.tree.nbytes(state)) == (6, 48)
    assert (js.tree.count(specs), js.tree.nbytes(specs)) == (6, 48)
    assert list(js.tree.select(state, "rng")) == ["rng"]
    layers = js.tree.unstack_layers({"s": state}, "s")
    assert repr(layers["s"]["layer_0"]) == "Params({'rng': key<fry>[3]})"
    chex.assert_trees_all_equal(*map(as_data, (js.tree.stack_layers(layers)["s"], state)))
    chex.assert_trees_all_equal(*map(as_data, (pickle.loads(pickle.dumps(state)), state)))
    assert pickle.loads(pickle.dumps(specs.state())) == specs.state()


@pytest.mark.parametrize("trainable", [True, None])
@pytest.mark.parametrize("transform", [js.transform, js.transform_with_state])
def test_a_key_cannot_be_trained(transform: Any, trainable: Any) -> None:
    def fn() -> None:
        js.get_variable("a/rng", initializer=jax.random.key(0), trainable=trainable)

    net = transform(fn)
    given = {"a": {"rng": jax.random.key(0)}}
    trees = (given,) if transform is js.transform else (given, {})
    line = fn.__code__.co_firstlineno + 1
    for call in (lambda: net.init(0), net.specs, lambda: net.apply(*trees, None)):
        with pytest.raises(errors.StateError) as caught:
            call()
        assert str(caught.value) == (
            "Variable a/rng is of key<fry>, and a key cannot be trained.\n"
            f"  asked:  at tests/test_state.py:{line} in fn\n"
            "  fix:    make it with trainable=False, under jscope.transform_with_state."
        )


@pytest.mark.parametrize("transform", [lambda f: f, jax.checkpoint, js.checkpoint, js.jit])
def test_a_key_is_shared_as_other_state(transform: Any) -> None:
    constant = jax.random.key(0)  # which would be a tracer inside

    def fn() -> Any:
        with js.variable_scope("s", reuse=js.AUTO_REUSE):
            first = js.get_variable("rng", initializer=constant, trainable=False)
            again = [
                js.get_variable("rng"),
                js.get_variable("rng", []),
                js.get_variable("rng", (), KEY),
            ]
        return [jax.random.key_data(key) for key in (first, *again)]

    net = js.transform_with_state(transform(fn))
    (first, *others), _ = net.apply(*net.init(0), None)
    for other in others:
        chex.assert_trees_all_equal(first, other)


@pytest.mark.parametrize(
    ("ask", "error", "match"),
    [
        (lambda: js.get_variable("rng", [2]), errors.VariableMismatchError, "shape"),
        (
            lambda: js.get_variable("rng", dtype=jnp.float32),
            errors.VariableMismatchError,
            "specified dtype float32 and found dtype key<fry>",
        ),
        (
            lambda: js.get_variable("rng", initializer=jax.random.key(0, impl="rbg")),
            errors.VariableMismatchError,
            "specified dtype key<rbg> and found dtype key<fry>",
        ),
        (
            lambda: js.get_variable("rng", dtype=jax.dtypes.prng_key),
            errors.InitializerTypeError,
            "^Cannot convert <class 'jax.dtypes.prng_key'> to a dtype of JAX",
        ),
        (
            lambda: js.get_variable("rng", dtype="float32", initializer=jax.random.key(0)),
            errors.InitializerError,
            "Initializer type 'key<fry>' and explicit dtype 'float32' don't match",
        ),
        (lambda: js.assign("rng", jnp.zeros(2, jnp.uint32)), errors.AssignmentError, "has shape"),
        (
            lambda: js.assign("rng", 1),
            errors.AssignmentError,
            "dtype int32 and the variable has dtype key",
        ),
        (lambda: js.assign_add("rng", 1), errors.AssignmentError, "dtype int32 and the variable"),
        (
            lambda: js.assign("rng", jax.random.key(0, impl="rbg")),
            errors.AssignmentError,
            "the value has dtype key<rbg> and the variable has dtype key<fry>",
        ),
        (
            lambda: js.assign("rng", jax.random.split(jax.random.key(0))),
            errors.AssignmentError,
            r"the value has shape \(2,\) and the variable has shape \(\)",
        ),
        (
            lambda: js.assign_moving_average("rng", jax.random.key(0), 0.5),
            errors.ArgumentError,
            "variable of a moving average must be of floats",
        ),
    ],
)
def test_what_does_not_fit_a_key_is_refused(ask: Any, error: Any, match: str) -> None:
    def fn() -> None:
        js.get_variable("rng", initializer=jax.random.key(0), trainable=False)
        with js.variable_scope("", reuse=True):
            ask()

    net = js.transform_with_state(fn)
    state = {"rng": jax.random.key(0)}
    for call in (lambda: net.init(0), lambda: net.apply({}, state, None)):
        with pytest.raises(error, match=match):
            call()


def test_a_key_needs_an_initializer_that_makes_keys() -> None:
    plain = js.transform_with_state(lambda: js.get_variable("rng", [], KEY, trainable=False))
    with pytest.raises(
        errors.InitializerError, match=r"^An initializer for variable rng of key<fry> is required"
    ):
        plain.init(0)
    zeros = js.transform_with_state(
        lambda: js.get_variable(
            "rng", [], KEY, lambda *_: jnp.zeros(2, jnp.uint32), trainable=False
        )
    )
    with pytest.raises(errors.InitializerError, match=r"returned uint32\[2\]"):
        zeros.init(0)


def test_the_defaults_of_a_scope_for_numbers_are_not_for_keys() -> None:
    def fail(value: Any) -> Any:
        raise AssertionError

    def same(getter: Any, name: str, **request: Any) -> Any:
        return getter(name, **request)

    def fn() -> Any:
        options = {"regularizer": fail, "constraint": fail, "dtype": jnp.bfloat16}
        with js.variable_scope("s", **options) as scope:
            js.get_variable("rng", initializer=jax.random.key(0), trainable=False)
        with js.variable_scope(scope, custom_getter=same):
            js.get_variable("other", initializer=jax.random.key(0), trainable=False)
        return js.get_regularization_loss()

    net = js.transform_with_state(fn)
    assert net.apply(*net.init(0), None)[0] == 0
    for spec in net.specs().values():
        assert (spec.regularizer, spec.constraint, spec.dtype) == (None, None, KEY)


@pytest.mark.parametrize(
    "getter",
    [
        js.getters.cast(jnp.bfloat16),
        js.getters.freeze(),
        js.getters.rename({"x": "y"}),
        js.getters.weight_normalization(allow_empty=True),
        js.getters.low_rank(2, allow_empty=True),
        js.getters.initial_values({"rng": jax.random.key(9)}),
    ],
    ids=["cast", "freeze", "rename", "weight_normalization", "low_rank", "initial_values"],
)
def test_keys_pass_through_getters(getter: Any) -> None:
    def fn() -> jax.Array:
        options = {"trainable": False, "custom_getter": getter}
        return js.get_variable("rng", [], KEY, lambda key, *_: key, **options)

    net = js.transform_with_state(fn)
    params, state = net.init(0)
    out, after = net.apply(params, state, None)
    chex.assert_trees_all_equal(*as_data([out, state["rng"]]))
    assert after is state


def test_initial_values_of_keys_are_keys() -> None:
    def fn(value: Any, dtype: Any) -> None:
        getter = js.getters.initial_values({"v": value})
        start = lambda key, *_: key  # noqa: E731
        js.get_variable("v", [], dtype, start, trainable=False, custom_getter=getter)

    net = js.transform_with_state(fn)
    with pytest.raises(errors.ArgumentError, match="must be numbers that key<fry> can hold"):
        net.init(0, 1.0, KEY)
    with pytest.raises(errors.ArgumentError, match="must be numbers that float32 can hold"):
        net.init(0, jax.random.key(0), jnp.float32)


@pytest.mark.parametrize("twin", [lambda f: f, js.jit, js.checkpoint, jax.jit, jax.checkpoint])
def test_the_first_request_after_an_assignment_sees_it(twin: Any) -> None:
    def fn() -> jax.Array:
        js.assign("count", 5.0)
        return twin(lambda: js.get_variable("count", [], trainable=False))()

    out, state = js.transform_with_state(fn).apply({}, {"count": jnp.float32(1.0)}, None)
    assert (out, state["count"]) == (5.0, 5.0)

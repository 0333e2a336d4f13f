"""Reuse: who makes, who shares and who is refused, as in TF1."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from both import both, names, refused, spec

import jscope as js
from jscope import errors
from jscope._reuse import Action, decide

AUTO = js.AUTO_REUSE
ones = jax.nn.initializers.ones
zeros = jax.nn.initializers.zeros

EXISTS = "already exists, disallowed"
MISSING = "does not exist, or was not created with get_variable"


def make(name: str = "v") -> Any:
    return js.get_variable(name, [1])


def tried(name: str) -> str:
    """What one request does now: "ok", "exists" or "missing"."""
    try:
        make(name)
    except errors.VariableExistsError:
        return "exists"
    except errors.VariableNotFoundError:
        return "missing"
    return "ok"


# The rule


@pytest.mark.parametrize(
    ("reuse", "seen", "action"),
    [
        (False, False, Action.CREATE),
        (False, True, Action.REFUSE_EXISTING),
        (True, False, Action.REFUSE_MISSING),
        (True, True, Action.SHARE),
        (AUTO, False, Action.CREATE),
        (AUTO, True, Action.SHARE),
    ],
)
def test_mode_and_history_decide_a_request(reuse: Any, seen: bool, action: Action) -> None:
    assert decide(reuse, seen=seen) is action


def test_the_actions_are_four() -> None:
    decided = {decide(r, seen=s) for r, s in itertools.product((False, True, AUTO), (False, True))}
    assert decided == set(Action)
    assert len(Action) == 4


@pytest.mark.parametrize(
    ("reuse", "old", "new"),
    [
        (None, "exists", "ok"),
        (False, "exists", "ok"),
        (True, "ok", "missing"),
        (AUTO, "ok", "ok"),
    ],
)
def test_a_mode_acts_on_old_and_new_names(reuse: Any, old: str, new: str) -> None:
    def fn():
        make("a/old")
        with js.variable_scope("a", reuse=reuse):
            return tried("old"), tried("new")

    assert both(fn) == (old, new)


# The modes


@pytest.mark.parametrize(
    "reuse", [0, 1, 1.0, "x", "AUTO_REUSE", "", np.bool_(True), np.bool_(False), [], object]
)
def test_any_other_reuse_mode_is_refused(reuse: Any) -> None:
    match = "The reuse parameter must be True or False or None"
    for call in (
        lambda: js.variable_scope("a", reuse=reuse),
        lambda: js.variable_scope(None, "a", reuse=reuse),
        lambda: js.VariableScope("a", reuse=reuse),
    ):
        with pytest.raises(errors.ReuseError, match=match) as caught:
            call()
        assert isinstance(caught.value, ValueError)
        assert "AUTO_REUSE" in str(caught.value)
        assert repr(reuse) in str(caught.value)


def test_auto_reuse_is_one_object_that_shows_its_name() -> None:
    assert repr(AUTO) == "jscope.AUTO_REUSE"
    assert copy.deepcopy(AUTO) is AUTO
    assert copy.copy(AUTO) is AUTO
    assert pickle.loads(pickle.dumps(AUTO)) is AUTO


# Inheritance

INHERITED = {
    # parent: the mode for an argument of (None, False, True, AUTO_REUSE)
    False: (False, False, True, AUTO),
    True: (True, True, True, AUTO),
    AUTO: (AUTO, AUTO, True, AUTO),
}
ARGUMENTS = (None, False, True, AUTO)
TABLE = [
    (parent, argument, mode)
    for parent, modes in INHERITED.items()
    for argument, mode in zip(ARGUMENTS, modes, strict=True)
]


def test_the_table_of_inheritance_is_total() -> None:
    assert len(TABLE) == 12


@pytest.mark.parametrize(("parent", "argument", "mode"), TABLE)
def test_a_scope_by_name_takes_its_argument_or_else_its_parents_mode(
    parent: Any, argument: Any, mode: Any
) -> None:
    def fn():
        make("p/c/old")
        with js.variable_scope("p", reuse=parent), js.variable_scope("c", reuse=argument) as scope:
            return scope.reuse, tried("old"), tried("new")

    found, old, new = both(fn)
    assert found is mode
    assert old == ("exists" if mode is False else "ok")
    assert new == ("missing" if mode is True else "ok")


def test_none_means_false_at_the_root() -> None:
    def fn():
        with js.variable_scope("a", reuse=None) as a, js.variable_scope("b", reuse=False) as b:
            return a.reuse is False, b.reuse is False

    assert both(fn) == (True, True)


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("captured", [False, True, AUTO])
@pytest.mark.parametrize("enclosing", [False, True, AUTO])
def test_a_jump_takes_its_argument_or_else_the_objects_mode(
    enclosing: Any, captured: Any, argument: Any
) -> None:
    mode = INHERITED[captured][ARGUMENTS.index(argument)]  # the enclosing scope never matters

    def fn():
        make("o/old")
        with js.variable_scope("o", reuse=captured) as scope:
            pass
        with (
            js.variable_scope("e", reuse=enclosing),
            js.variable_scope(scope, reuse=argument) as again,
        ):
            return again.reuse, scope.reuse, tried("old"), tried("new")

    found, of_object, old, new = both(fn)
    assert found is mode
    assert of_object is captured
    assert old == ("exists" if mode is False else "ok")
    assert new == ("missing" if mode is True else "ok")


def test_all_scopes_inside_a_reusing_scope_reuse() -> None:
    def fn():
        with js.variable_scope("root"):
            first = js.get_variable_scope().reuse
            with js.variable_scope("foo"):
                second = js.get_variable_scope().reuse
            with js.variable_scope("foo", reuse=True):
                third = js.get_variable_scope().reuse
                with js.variable_scope("bar"):
                    fourth = js.get_variable_scope().reuse
                    with js.variable_scope("deep", reuse=False):
                        fifth = js.get_variable_scope().reuse
            return first, second, third, fourth, fifth, js.get_variable_scope().reuse

    assert both(fn) == (False, False, True, True, True, False)


def test_reuse_ends_with_its_scope() -> None:
    def fn():
        make("a/v")
        with js.variable_scope("a", reuse=True):
            make("v")
        with js.variable_scope("a"):
            return tried("v"), tried("w")

    assert both(fn) == ("exists", "ok")


# The documented uses


def test_nested_with_blocks_give_the_full_name() -> None:
    def fn():
        with js.variable_scope("foo"):
            with js.variable_scope("bar"):
                make()
            make("after")

    assert names(fn) == ["foo/bar/v", "foo/after"]


def test_auto_reuse_returns_the_same_array() -> None:
    def foo():
        with js.variable_scope("foo", reuse=AUTO):
            return make()

    def fn():
        v1 = foo()
        v2 = foo()
        return v1 is v2

    assert both(fn)
    assert names(lambda: [foo(), foo()]) == ["foo/v"]


def test_reuse_true_returns_the_array_made_before() -> None:
    def fn():
        with js.variable_scope("foo"):
            v = make()
        with js.variable_scope("foo", reuse=True):
            v1 = js.get_variable("v", [1])
        return v1 is v

    assert both(fn)


def test_reuse_variables_makes_the_rest_of_the_scope_share() -> None:
    def fn():
        with js.variable_scope("foo") as scope:
            v = make()
            scope.reuse_variables()
            v1 = js.get_variable("v", [1])
        return v1 is v

    assert both(fn)


def test_the_same_name_twice_already_exists() -> None:
    def fn():
        with js.variable_scope("foo"):
            make()
            make()

    for error in refused(
        fn,
        ValueError,
        r"^Variable foo/v already exists, disallowed\. Did you mean to set reuse=True or "
        r"reuse=jscope\.AUTO_REUSE in VarScope\?",
    ):
        assert isinstance(error, errors.VariableExistsError)
        assert error.name == "foo/v"
        assert error.first[0].line == error.again[0].line
        assert error.first[1].line + 1 == error.again[1].line
        assert error.first[0].function == "make"
        assert error.first[1].function == "fn"


def test_a_missing_name_under_reuse_does_not_exist() -> None:
    def fn():
        with js.variable_scope("foo", reuse=True):
            make()

    for error in refused(
        fn,
        ValueError,
        r"^Variable foo/v does not exist, or was not created with get_variable\(\)\. Did you mean "
        r"to set reuse=jscope\.AUTO_REUSE in VarScope\?",
        params={},
    ):
        assert isinstance(error, errors.VariableNotFoundError)
        assert error.name == "foo/v"
        assert error.sites[1].function == "fn"


def test_a_missing_name_names_what_is_near() -> None:
    def fn():
        js.get_variable("encoder/kernel", [1])
        with js.variable_scope("encoder", reuse=True):
            js.get_variable("kernle")

    for error in refused(fn, errors.VariableNotFoundError, MISSING):
        assert error.near == ("encoder/kernel",)
        assert "'encoder/kernel'" in str(error)


def test_a_default_name_used_twice_gets_a_number() -> None:
    def fn():
        for _ in range(2):
            with js.variable_scope(None, "layer"):
                make()

    assert names(fn) == ["layer/v", "layer_1/v"]


def test_errors_can_be_caught_as_in_tf1() -> None:
    def layer():
        with js.variable_scope("layer") as scope:
            try:
                return make()
            except ValueError:
                scope.reuse_variables()
                return make()

    def fn():
        first = layer()
        return first is layer()

    assert both(fn)
    assert names(lambda: [layer(), layer()]) == ["layer/v"]


def test_a_missing_variable_can_be_made_after_the_error() -> None:
    def layer():
        try:
            with js.variable_scope("layer", reuse=True):
                return make()
        except ValueError:
            with js.variable_scope("layer"):
                return make()

    def fn():
        first = layer()
        return first is layer()

    assert both(fn)
    assert names(lambda: [layer(), layer()]) == ["layer/v"]


# What a request under reuse does


def test_opening_a_reusing_scope_that_was_never_made_is_no_error() -> None:
    def fn():
        with js.variable_scope("never", reuse=True) as scope:
            return scope.name, scope.reuse

    assert both(fn) == ("never", True)


def test_auto_reuse_makes_what_is_missing() -> None:
    def fn():
        with js.variable_scope("a", reuse=AUTO):
            make("v")
        with js.variable_scope("a", reuse=AUTO):
            make("w")
            make("v")

    assert names(fn) == ["a/v", "a/w"]


def test_auto_reuse_under_reuse_makes() -> None:
    def fn():
        with js.variable_scope("a", reuse=True), js.variable_scope("c", reuse=AUTO):
            make("new")

    assert names(fn) == ["a/c/new"]


def test_reuse_inside_auto_reuse_is_strict_again() -> None:
    def fn():
        with js.variable_scope("a", reuse=AUTO), js.variable_scope("c", reuse=True):
            make("new")

    refused(fn, ValueError, f"Variable a/c/new {MISSING}", params={})


def test_a_variable_made_without_reuse_is_shared_by_auto_reuse() -> None:
    def fn():
        v = make("a/v")
        with js.variable_scope("a", reuse=AUTO):
            return make("v") is v

    assert both(fn)


def test_a_variable_made_by_auto_reuse_already_exists_without_reuse() -> None:
    def fn():
        with js.variable_scope("a", reuse=AUTO):
            make()
        make("a/v")

    refused(fn, ValueError, f"Variable a/v {EXISTS}")


def test_reuse_before_making_fails_even_if_the_variable_is_made_later() -> None:
    def fn():
        with js.variable_scope("a", reuse=True):
            found = tried("v")
        make("a/v")
        return found

    facts = []
    js.transform(lambda: facts.append(fn())).init(0)
    assert facts == ["missing"]


def test_a_scope_object_captured_without_reuse_leaves_reuse() -> None:
    def fn():
        with js.variable_scope("o") as scope:
            pass
        with js.variable_scope("a", reuse=True), js.variable_scope(scope):
            make()

    assert names(fn) == ["o/v"]


def test_the_root_scope_object_leaves_reuse() -> None:
    def fn():
        root = js.get_variable_scope()
        with js.variable_scope("a", reuse=True), js.variable_scope(root):
            make()

    assert names(fn) == ["v"]


def test_reuse_takes_no_shape() -> None:
    def fn():
        v = js.get_variable("a/v", [2, 3])
        with js.variable_scope("a", reuse=True):
            return js.get_variable("v") is v

    assert both(fn)


@pytest.mark.parametrize("shape", [[None, 3], [2, None], [None, None], (2, 3), [2, 3]])
def test_reuse_takes_a_shape_that_fits(shape: Any) -> None:
    def fn():
        v = js.get_variable("a/v", [2, 3])
        with js.variable_scope("a", reuse=True):
            return js.get_variable("v", shape) is v

    assert both(fn)


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ([2], "(2,)"),
        ([3, 2], "(3, 2)"),
        ([None, 4], "(?, 4)"),
        ([None], "(?,)"),
        ([None, None, None], "(?, ?, ?)"),
        ([2, 3, 1], "(2, 3, 1)"),
        ([], "()"),
        (2, "(2,)"),
    ],
)
@pytest.mark.parametrize("reuse", [True, AUTO])
def test_reuse_refuses_another_shape(reuse: Any, shape: Any, shown: str) -> None:
    def fn():
        js.get_variable("a/v", [2, 3])
        with js.variable_scope("a", reuse=reuse):
            js.get_variable("v", shape)

    caught = refused(fn, ValueError, "^Trying to share variable a/v, but specified shape ")
    for error in caught:
        assert isinstance(error, errors.VariableMismatchError)
        assert f"specified shape {shown} and found shape (2, 3)." in str(error)
        assert (error.name, error.what, error.found) == ("a/v", "shape", (2, 3))


def test_a_scalar_is_not_found_by_another_shape() -> None:
    def fn():
        js.get_variable("v", [])
        with js.variable_scope("", reuse=True):
            js.get_variable("v", [1])

    refused(fn, ValueError, r"specified shape \(1,\) and found shape \(\)\.")


@pytest.mark.parametrize("reuse", [True, AUTO])
def test_reuse_refuses_another_dtype(reuse: Any) -> None:
    def fn():
        js.get_variable("a/v", [1])
        with js.variable_scope("a", reuse=reuse):
            js.get_variable("v", [1], jnp.int32)

    for error in refused(
        fn,
        ValueError,
        "^Trying to share variable a/v, but specified dtype int32 and found dtype float32",
    ):
        assert isinstance(error, errors.VariableMismatchError)
        assert error.what == "dtype"


def test_shape_is_checked_before_dtype() -> None:
    def fn():
        js.get_variable("v", [1])
        with js.variable_scope("", reuse=True):
            js.get_variable("v", [2], jnp.int32)

    refused(fn, ValueError, "but specified shape")


def test_a_refused_share_leaves_the_variable_as_it_was() -> None:
    def fn():
        v = make("a/v")
        with js.variable_scope("a", reuse=True):
            with pytest.raises(ValueError, match="specified shape"):
                js.get_variable("v", [7])
            return make("v") is v

    assert both(fn)
    assert names(fn) == ["a/v"]


def test_the_first_request_decides_how_the_variable_is_made() -> None:
    def first_rule(value):
        raise AssertionError

    def second_rule(value):
        raise AssertionError

    def fn():
        with js.variable_scope("a", reuse=AUTO):
            for init, rule in ((ones, first_rule), (zeros, second_rule), (None, None)):
                js.get_variable(
                    "v",
                    [1],
                    initializer=init,
                    regularizer=rule,
                    constraint=rule,
                    partitioner=None if rule is None else (rule.__name__,),
                    collections=None if rule is None else [rule.__name__],
                )

    made = spec(fn, "a/v")
    assert made.initializer is ones
    assert made.regularizer is first_rule
    assert made.constraint is first_rule
    assert made.partition == ("first_rule",)
    assert made.collections == ("first_rule",)
    assert js.transform(fn).init(0)["a"]["v"] == 1


@pytest.mark.parametrize("reuse", [True, AUTO])
def test_sharing_a_trainable_variable_as_not_trainable_is_refused_or_warned_of(reuse: Any) -> None:
    def fn():
        js.get_variable("a/v", [1], trainable=True)
        with js.variable_scope("a", reuse=reuse):
            js.get_variable("v", [1], trainable=False)

    net = js.transform(fn)
    with pytest.raises((ValueError, Warning), match="trainable"):
        net.init(0)
    with pytest.raises((ValueError, Warning), match="trainable"):
        net.apply({"a": {"v": jnp.ones(1)}}, None)


def test_a_variable_and_a_scope_of_one_name_cannot_both_exist() -> None:
    def fn():
        make("a")
        with js.variable_scope("a", reuse=AUTO):
            make("b")

    refused(fn, errors.NameClashError, "a would be a variable and also the scope of a/b")


def test_get_variable_takes_no_reuse() -> None:
    def fn():
        js.get_variable("v", [1], reuse=True)

    refused(fn, TypeError, "unexpected keyword argument 'reuse'")


# reuse_variables


def test_reuse_variables_acts_on_later_children_and_not_on_open_ones() -> None:
    def fn():
        make("a/open/v")
        with js.variable_scope("a") as a:
            with js.variable_scope("open") as child:
                a.reuse_variables()
                already_open = child.reuse, tried("v"), tried("w")
            with js.variable_scope("open") as child:
                later = child.reuse, tried("v"), tried("x")
            return already_open, later, a.reuse

    assert both(fn) == ((False, "exists", "ok"), (True, "ok", "missing"), True)


def test_reuse_variables_acts_on_later_jumps_and_not_by_name() -> None:
    def fn():
        make("a/v")
        with js.variable_scope("a") as a:
            a.reuse_variables()
        with js.variable_scope("a") as by_name:
            pass
        with js.variable_scope(a) as by_object:
            found = tried("v"), tried("w")
        return by_name.reuse, by_object.reuse, found

    assert both(fn) == (False, True, ("ok", "missing"))


def test_reuse_variables_works_on_a_scope_that_is_closed() -> None:
    def fn():
        with js.variable_scope("a") as a:
            make()
        a.reuse_variables()
        with js.variable_scope(a):
            return tried("v"), tried("w")

    assert both(fn) == ("ok", "missing")


@pytest.mark.parametrize("argument", [None, False])
def test_reuse_variables_cannot_be_undone(argument: Any) -> None:
    def fn():
        with js.variable_scope("a") as a:
            a.reuse_variables()
            with js.variable_scope("b", reuse=argument) as b:
                pass
            with js.variable_scope(a, reuse=argument) as again:
                pass
        return b.reuse, again.reuse

    assert both(fn) == (True, True)


def test_reuse_variables_turns_auto_reuse_strict() -> None:
    def fn():
        with js.variable_scope("a", reuse=AUTO) as a:
            make("v")
            a.reuse_variables()
            return a.reuse, tried("v"), tried("w")

    assert both(fn) == (True, "ok", "missing")


def test_reuse_variables_at_the_root_lasts_for_the_pass() -> None:
    def fn():
        before = js.get_variable_scope().reuse
        v = make("a/v")
        js.get_variable_scope().reuse_variables()
        with js.variable_scope("a"):
            return before, make("v") is v, tried("w"), js.get_variable_scope().reuse

    assert both(fn) == (False, True, "missing", True)
    assert both(fn) == (False, True, "missing", True)


def test_reuse_variables_lasts_for_one_pass_only() -> None:
    captured = []

    def fn():
        if not captured:
            with js.variable_scope("a") as scope:
                captured.append(scope)
                scope.reuse_variables()
        with js.variable_scope(captured[0]) as scope:
            return scope.reuse

    facts = []
    net = js.transform(lambda: facts.append(fn()))
    net.init(0)
    net.init(0)
    net.apply({}, None)
    assert facts == [True, False, False]
    assert captured[0].reuse is False


def test_reuse_is_set_by_method_only() -> None:
    def fn():
        with js.variable_scope("a") as scope:
            scope.reuse = True

    refused(fn, AttributeError, "reuse")


# default_name and reuse


@pytest.mark.parametrize("reuse", [True, AUTO])
def test_a_default_name_cannot_reuse(reuse: Any) -> None:
    with pytest.raises(
        errors.ReuseError, match="reuse=True cannot be used without a name_or_scope"
    ) as caught:
        js.variable_scope(None, "d", reuse=reuse)
    assert isinstance(caught.value, ValueError)
    assert f"reuse={reuse!r}" in str(caught.value)


@pytest.mark.parametrize("reuse", [None, False])
def test_a_default_name_takes_no_reuse(reuse: Any) -> None:
    def fn():
        with js.variable_scope(None, "d", reuse=reuse):
            make()

    assert names(fn) == ["d/v"]


@pytest.mark.parametrize("reuse", [True, AUTO])
def test_a_default_name_beside_a_name_may_reuse(reuse: Any) -> None:
    def fn():
        with js.variable_scope("n", "d", reuse=reuse) as scope:
            return scope.name, scope.reuse is reuse

    assert both(fn) == ("n", True)


@pytest.mark.parametrize("reuse", [True, AUTO])
def test_a_default_name_inherits_reuse(reuse: Any) -> None:
    def fn():
        v = make("p/d/v")
        with js.variable_scope("p", reuse=reuse), js.variable_scope(None, "d") as scope:
            return scope.name, scope.reuse is reuse, make("v") is v

    assert both(fn) == ("p/d", True, True)


# Apply finds names in the params


def test_reuse_in_apply_finds_what_the_params_hold() -> None:
    def evaluate():
        with js.variable_scope("net", reuse=True):
            return js.get_variable("v", [1])

    params = js.transform(lambda: make("net/v")).init(0)
    assert js.transform(evaluate).apply(params, None) is params["net"]["v"]


def test_reuse_in_apply_does_not_count_as_a_request() -> None:
    def fn():
        with js.variable_scope("", reuse=True):
            read = make()
        requested = make()
        return read is requested, tried("v")

    found = []
    js.transform(lambda: found.append(fn())).apply({"v": jnp.ones(1)}, None)
    assert found == [(True, "exists")]


def test_reuse_in_apply_reads_one_object_of_a_numpy_array_as_well() -> None:
    def fn():
        with js.variable_scope("", reuse=True):
            first, second = make(), make()
        third = make()
        return first is second, first is third, isinstance(first, jax.Array)

    found = []
    js.transform(lambda: found.append(fn())).apply({"v": np.ones(1, np.float32)}, None)
    assert found == [(True, True, True)]


def test_reuse_in_apply_checks_what_the_params_hold() -> None:
    def fn(shape, dtype):
        with js.variable_scope("", reuse=True):
            js.get_variable("v", shape, dtype)

    net = js.transform(fn)
    params = {"v": jnp.ones(1)}
    with pytest.raises(errors.VariableMismatchError, match=r"shape \(2,\) and found shape \(1,\)"):
        net.apply(params, None, [2], None)
    with pytest.raises(errors.VariableMismatchError, match="dtype int32 and found dtype float32"):
        net.apply(params, None, [1], "int32")


@pytest.mark.parametrize("reuse", [False, AUTO])
def test_apply_refuses_a_name_that_is_not_in_the_params(reuse: Any) -> None:
    def fn():
        with js.variable_scope("a", reuse=reuse):
            make()

    with pytest.raises(
        errors.VariableNotFoundError, match="Variable a/v does not exist in the params"
    ) as caught:
        js.transform(fn).apply({"a": {"w": jnp.ones(1)}}, None)
    assert isinstance(caught.value, ValueError)
    assert caught.value.name == "a/v"


def test_apply_under_reuse_refuses_a_name_that_is_not_in_the_params() -> None:
    def fn():
        with js.variable_scope("a", reuse=True):
            js.get_variable("kernle", [1])

    with pytest.raises(
        errors.VariableNotFoundError, match="Variable a/kernle does not exist"
    ) as caught:
        js.transform(fn).apply({"a": {"kernel": jnp.ones(1)}}, None)
    assert caught.value.near == ("a/kernel",)


def test_apply_refuses_a_second_request_like_init() -> None:
    def fn():
        make("a/v")
        with js.variable_scope("a"):
            make("v")

    in_init, in_apply = refused(fn, errors.VariableExistsError, EXISTS)
    assert str(in_init) == str(in_apply)
    assert in_init.first == in_apply.first


# Inside JAX's transforms


@pytest.mark.parametrize("transform", [jax.jit, jax.checkpoint, jax.vmap])
def test_sharing_works_across_inner_transforms(transform: Any) -> None:
    def fn(x):
        js.get_variable("a/v", [2])

        def inner(x):
            with js.variable_scope("a", reuse=True):
                return x * js.get_variable("v", [2]).sum()

        transform(inner)(x)
        with js.variable_scope("b", reuse=AUTO):
            transform(lambda x: x * js.get_variable("w", [2]).sum())(x)
            js.get_variable("w", [2])

    assert names(fn, jnp.ones(3)) == ["a/v", "b/w"]


@pytest.mark.parametrize("transform", [jax.jit, jax.checkpoint, jax.vmap])
def test_a_second_request_inside_an_inner_transform_already_exists(transform: Any) -> None:
    def fn(x):
        make("v")
        transform(lambda x: x * make("v").sum())(x)

    refused(fn, ValueError, f"Variable v {EXISTS}", jnp.ones(3))

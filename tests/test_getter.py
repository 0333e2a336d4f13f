"""Custom getters: functions around every request, as in TF1."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from both import both, names, refused, spec

import jscope as js
from jscope import errors

AUTO = js.AUTO_REUSE
ones = jax.nn.initializers.ones
F16 = np.dtype("float16")
BF16 = np.dtype(jnp.bfloat16)
F32 = np.dtype("float32")


def rule(value: Any) -> Any:
    raise AssertionError


def same(getter: Any, name: str, **kwargs: Any) -> Any:
    """Changes nothing."""
    return getter(name, **kwargs)


def suffix(text: str) -> Any:
    return lambda getter, name, **kwargs: getter(name + text, **kwargs)


# What a getter sees


def seen_by_getter(*args: Any, scope: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    """The keyword arguments of a getter around one request, in init and apply alike."""
    seen: list[dict[str, Any]] = []

    def watch(getter, **kwargs):
        seen.append(dict(kwargs))
        return getter(**kwargs)

    def fn():
        with js.variable_scope("s", custom_getter=watch, **(scope or {})):
            js.get_variable(*args, **kwargs)
        return seen.pop()

    return both(fn)


def test_a_getter_gets_the_whole_request_by_keyword() -> None:
    assert seen_by_getter("a/v", [2]) == {
        "name": "s/a/v",
        "shape": [2],
        "dtype": F32,
        "initializer": None,
        "regularizer": None,
        "reuse": False,
        "trainable": True,
        "collections": None,
        "partitioner": None,
        "constraint": None,
    }


def test_a_getter_gets_what_the_call_gave() -> None:
    def other(value):
        raise AssertionError

    given = {
        "initializer": ones,
        "regularizer": rule,
        "trainable": None,
        "collections": ["mine"],
        "partitioner": ("x",),
        "constraint": other,
    }
    seen = seen_by_getter("v", (2,), "float16", **given)
    assert seen == {"name": "s/v", "shape": (2,), "dtype": F16, "reuse": False, **given}


def test_a_getter_gets_the_defaults_of_the_scope() -> None:
    defaults = {
        "initializer": ones,
        "regularizer": rule,
        "constraint": rule,
        "partitioner": ("x",),
        "dtype": BF16,
        "reuse": AUTO,
    }
    seen = seen_by_getter("v", [2], scope=defaults)
    assert {key: seen[key] for key in defaults} == defaults


def test_a_getter_gets_the_arguments_of_the_call_before_those_of_the_scope() -> None:
    scope = {"initializer": ones, "regularizer": rule, "constraint": rule, "dtype": BF16}
    call = {
        "initializer": jax.nn.initializers.zeros,
        "regularizer": js.no_regularizer,
        "constraint": jnp.abs,
        "dtype": F16,
    }
    seen = seen_by_getter("v", [2], scope=scope, **call)
    assert {key: seen[key] for key in call} == call


@pytest.mark.parametrize(
    ("constant", "dtype"), [(3, "int32"), (1.5, "float32"), (np.float16(1), "float16")]
)
def test_a_getter_gets_the_dtype_of_a_constant(constant: Any, dtype: str) -> None:
    seen = seen_by_getter("v", initializer=constant, scope={"dtype": "bfloat16"})
    assert (seen["dtype"], seen["initializer"]) == (np.dtype(dtype), constant)


def test_a_getter_gets_the_name_and_the_true_getter_by_keyword_only() -> None:
    def watch(*args, **kwargs):
        assert args == ()
        getter = kwargs.pop("getter")
        return getter(**kwargs)

    def fn():
        with js.variable_scope("s", custom_getter=watch):
            js.get_variable("v", [2])

    assert names(fn) == ["s/v"]


def test_the_true_getter_takes_name_shape_dtype_and_initializer_by_position() -> None:
    def positional(getter, name, shape, dtype, initializer, **kwargs):
        return getter(name, shape, dtype, initializer, **kwargs)

    def fn():
        with js.variable_scope("s", custom_getter=positional):
            js.get_variable("v", [2], "float16", ones)

    made = spec(fn, "s/v")
    assert (made.shape, made.dtype, made.initializer) == ((2,), F16, ones)


def test_a_getter_is_called_for_every_request() -> None:
    called = []

    def watch(getter, name, reuse, **kwargs):
        called.append((name, reuse))
        return getter(name, reuse=reuse, **kwargs)

    def fn():
        called.clear()
        with js.variable_scope("s", custom_getter=watch):
            first = js.get_variable("v", [2])
            with js.variable_scope("t"):
                js.get_variable("w", [2])
        with js.variable_scope("s", custom_getter=watch, reuse=True):
            second = js.get_variable("v")
        with js.variable_scope("s", custom_getter=watch, reuse=AUTO):
            third = js.get_variable("v")
        js.get_variable("outside", [1])
        return list(called), first is second, first is third

    requests = [("s/v", False), ("s/t/w", False), ("s/v", True), ("s/v", AUTO)]
    assert both(fn) == (requests, True, True)


# What a getter may do


def test_a_getter_that_changes_nothing_returns_the_array_itself() -> None:
    def fn():
        with js.variable_scope("s", custom_getter=same, reuse=AUTO):
            return js.get_variable("v", [2])

    assert both(lambda: fn() is fn())
    net = js.transform(fn)
    params = net.init(0)
    assert net.apply(params, None) is params["s"]["v"]


def test_a_getter_may_rename() -> None:
    def fn():
        with js.variable_scope("s", custom_getter=suffix("_suffix")):
            return js.get_variable("v", [2])

    assert names(fn) == ["s/v_suffix"]
    params = js.transform(fn).init(0)
    assert js.transform(fn).apply(params, None) is params["s"]["v_suffix"]


def test_a_getter_may_leave_the_scope() -> None:
    def leave(getter, name, **kwargs):
        return getter("elsewhere/" + name.rpartition("/")[2], **kwargs)

    def fn():
        with js.variable_scope("s", custom_getter=leave):
            js.get_variable("v", [2])

    assert names(fn) == ["elsewhere/v"]


def test_a_renamed_variable_has_the_value_of_its_new_name() -> None:
    def fn():
        with js.variable_scope("s", custom_getter=suffix("_2")):
            js.get_variable("v", [2])

    plain = js.transform(lambda: js.get_variable("s/v_2", [2])).init(0)
    np.testing.assert_array_equal(js.transform(fn).init(0)["s"]["v_2"], plain["s"]["v_2"])


@pytest.mark.parametrize("name", ["", "s/", "a b", "/v"])
def test_a_getter_cannot_give_a_bad_name(name: str) -> None:
    def fn():
        with js.variable_scope("s", custom_getter=lambda getter, **kw: getter(name, [1])):
            js.get_variable("v", [1])

    refused(fn, errors.InvalidNameError, "is not a valid variable name")


def test_a_getter_cannot_give_a_name_that_clashes() -> None:
    def fn():
        js.get_variable("s/a/b", [1])
        with js.variable_scope("s", custom_getter=lambda getter, **kw: getter("s/a", [1])):
            js.get_variable("v", [1])

    refused(fn, errors.NameClashError, "Variable s/a cannot be made")


def test_a_getter_may_share_under_a_new_name() -> None:
    def fn():
        made = js.get_variable("shared", [2])
        with js.variable_scope(
            "s", custom_getter=lambda getter, name, reuse, **kw: getter("shared", reuse=True, **kw)
        ):
            return js.get_variable("v", [2]) is made

    assert both(fn)
    assert names(lambda: [fn(), None][1]) == ["shared"]


def test_a_getter_may_store_one_dtype_and_give_another() -> None:
    def master(getter, name, dtype, **kwargs):
        return getter(name, dtype=F32, **kwargs).astype(dtype)

    def fn():
        with js.variable_scope("s", dtype=jnp.bfloat16, custom_getter=master):
            return js.get_variable("v", [2]).dtype

    assert both(fn) == BF16
    assert spec(fn, "s/v").dtype == F32
    assert js.transform(fn).init(0)["s"]["v"].dtype == F32


def test_a_cast_variable_is_shared_in_its_stored_dtype() -> None:
    def master(getter, name, dtype, **kwargs):
        stored = getter(name, dtype=F32, **kwargs)
        return stored.astype(BF16) if stored.dtype == F32 else stored

    def fn(x):
        with js.variable_scope("s", custom_getter=master, reuse=AUTO):
            first = js.get_variable("v", [2])
            second = js.get_variable("v", [2])
        with js.variable_scope("s", reuse=True):
            stored = js.get_variable("v")
        return first.dtype, second.dtype, stored.dtype

    assert both(fn, jnp.ones(2)) == (BF16, BF16, F32)


def test_gradients_reach_the_stored_variable_through_a_cast() -> None:
    def master(getter, name, dtype, **kwargs):
        return getter(name, dtype=F32, **kwargs).astype(dtype)

    def fn(x):
        with js.variable_scope("s", dtype=jnp.bfloat16, custom_getter=master):
            return (js.get_variable("v", [2]) * x).sum().astype(F32)

    net = js.transform(fn)
    x = jnp.array([1, 2], jnp.bfloat16)
    slope = jax.grad(lambda params: net.apply(params, None, x))(net.init(0, x))["s"]["v"]
    assert slope.dtype == F32
    np.testing.assert_array_equal(slope, [1, 2])


def test_a_getter_may_make_two_variables() -> None:
    def difference(getter, name, **kwargs):
        return getter(name + "_plus", **kwargs) - getter(name + "_minus", **kwargs)

    def fn():
        with js.variable_scope("s", custom_getter=difference):
            v = js.get_variable("v", [2])
        with js.variable_scope("s", custom_getter=difference, reuse=True):
            js.get_variable("v", [2])
        return v

    assert names(fn) == ["s/v_plus", "s/v_minus"]
    net = js.transform(fn)
    params = net.init(0)
    np.testing.assert_array_equal(
        net.apply(params, None), params["s"]["v_plus"] - params["s"]["v_minus"]
    )
    assert not np.array_equal(params["s"]["v_plus"], params["s"]["v_minus"])


@pytest.mark.parametrize("value", [None, "anything", (1, 2)])
def test_a_getter_may_make_nothing_and_return_anything(value: Any) -> None:
    def fn():
        with js.variable_scope("s", custom_getter=lambda getter, **kwargs: value):
            return js.get_variable("v", [2]) is value

    assert both(fn)
    assert names(fn) == []


@pytest.mark.parametrize(("reuse", "error"), [(False, "already exists"), (True, "does not exist")])
def test_a_getter_may_turn_reuse_to_a_stricter_mode(reuse: bool, error: str) -> None:
    def fn():
        name = "w"
        if reuse is False:
            js.get_variable("s/w", [1])

        def strict(getter, **kwargs):
            return getter(**{**kwargs, "reuse": reuse})

        with js.variable_scope("s", custom_getter=strict, reuse=AUTO):
            js.get_variable(name, [1])

    refused(fn, ValueError, f"Variable s/w {error}")


def test_a_getter_may_turn_reuse_on() -> None:
    def share(getter, **kwargs):
        assert kwargs["reuse"] is False
        return getter(**{**kwargs, "reuse": AUTO})

    def fn():
        with js.variable_scope("s", custom_getter=share):
            return js.get_variable("v", [1]) is js.get_variable("v", [1])

    assert both(fn)


def test_a_getter_cannot_give_an_unknown_reuse_mode() -> None:
    def fn():
        with js.variable_scope("s", custom_getter=lambda getter, **kw: getter("s/v", [1], reuse=1)):
            js.get_variable("v", [1])

    refused(fn, ValueError, "The reuse parameter must be True or False or None")


def test_a_getter_may_change_what_the_spec_keeps() -> None:
    def other(value):
        raise AssertionError

    def change(getter, name, **kwargs):
        kwargs |= {"regularizer": other, "constraint": None, "initializer": ones, "shape": [3]}
        return getter(name, **kwargs)

    def fn():
        with js.variable_scope("s", custom_getter=change, regularizer=rule):
            return js.get_variable("v", [2]).shape

    assert both(fn) == (3,)
    made = spec(lambda: [fn(), None][1], "s/v")
    assert (made.regularizer, made.constraint, made.initializer) == (other, None, ones)


def test_errors_of_a_getter_are_its_own() -> None:
    def fails(getter, **kwargs):
        raise KeyError("mine")

    def fn():
        with js.variable_scope("s", custom_getter=fails):
            js.get_variable("v", [1])

    refused(fn, KeyError, "mine")


def test_a_request_inside_a_getter_runs_in_the_open_scope() -> None:
    def scaled(getter, name, **kwargs):
        scale = js.get_variable(
            name.rpartition("/")[2] + "_scale", [], initializer=ones, custom_getter=same
        )
        return getter(name, **kwargs) * scale

    def fn():
        with js.variable_scope("s", custom_getter=scaled):
            js.get_variable("v", [2])

    assert names(fn) == ["s/v_scale", "s/v"]


def test_a_getter_may_open_scopes() -> None:
    def scoped(getter, name, **kwargs):
        with js.variable_scope("inner", custom_getter=same):
            here = js.get_variable_scope().name
        assert here == "s/inner"
        return getter(name, **kwargs)

    def fn():
        with js.variable_scope("s", custom_getter=scoped):
            js.get_variable("v", [2])

    assert names(fn) == ["s/v"]


def test_a_getter_works_inside_inner_transforms() -> None:
    def master(getter, name, dtype, **kwargs):
        return getter(name, dtype=F32, **kwargs).astype(BF16)

    def block(x):
        with js.variable_scope("s", custom_getter=master, reuse=AUTO):
            return x * js.get_variable("v", [2])

    def fn(x):
        jax.jit(block)(x)
        jax.checkpoint(block)(x)
        return jax.grad(lambda x: block(x).sum())(x).dtype

    assert both(fn, jnp.ones(2, jnp.bfloat16)) == BF16
    assert names(fn, jnp.ones(2, jnp.bfloat16)) == ["s/v"]


# The default dtype stays a default


@pytest.mark.parametrize("getters", [1, 2, 3])
def test_passing_the_default_dtype_on_does_not_ask_for_it(getters: int) -> None:
    def fn():
        v = js.get_variable("s/v", [2], "float16")
        with (
            js.variable_scope("", custom_getter=same if getters > 1 else None),
            js.variable_scope("", custom_getter=same if getters > 2 else None),
            js.variable_scope("s", custom_getter=same, reuse=True),
        ):
            return js.get_variable("v", [2]) is v

    assert both(fn)


def test_passing_the_default_dtype_on_takes_params_of_any_dtype() -> None:
    def fn():
        with js.variable_scope("s", custom_getter=same):
            return js.get_variable("v", [2])

    params = {"s": {"v": jnp.ones(2, jnp.bfloat16)}}
    assert js.transform(fn).apply(params, None) is params["s"]["v"]


def test_passing_an_asked_dtype_on_asks_for_it() -> None:
    def by_argument():
        with js.variable_scope("s", custom_getter=same):
            js.get_variable("v", [2], "float32")

    def by_scope():
        with js.variable_scope("s", custom_getter=same, dtype="float32"):
            js.get_variable("v", [2])

    for fn in (by_argument, by_scope):
        with pytest.raises(errors.VariableMismatchError, match="dtype float32 and found dtype"):
            js.transform(fn).apply({"s": {"v": jnp.ones(2, jnp.bfloat16)}}, None)


def test_another_dtype_of_a_getter_is_asked_for() -> None:
    def half(getter, name, dtype, **kwargs):
        return getter(name, dtype="float16", **kwargs)

    def fn():
        with js.variable_scope("s", custom_getter=half):
            return js.get_variable("v", [2]).dtype

    assert both(fn) == F16
    with pytest.raises(errors.VariableMismatchError, match="dtype float16 and found dtype float32"):
        js.transform(fn).apply({"s": {"v": jnp.ones(2)}}, None)


def test_a_default_dtype_passed_on_by_two_getters_makes_float32() -> None:
    def fn():
        with (
            js.variable_scope("s", custom_getter=same),
            js.variable_scope("t", custom_getter=same),
        ):
            js.get_variable("v", [2])

    assert spec(fn, "s/t/v").dtype == F32


# A getter that drops keyword arguments


def only_shape(getter: Any, name: str, shape: Any = None, **_: Any) -> Any:
    return getter(name, shape)


def test_a_getter_that_drops_reuse_does_not_share_by_accident() -> None:
    def fn():
        with js.variable_scope("s", custom_getter=only_shape):
            js.get_variable("v", [1])
            js.get_variable("v", [1])

    refused(fn, errors.VariableExistsError, "Variable s/v already exists")


def test_a_getter_that_drops_reuse_does_not_make_by_accident() -> None:
    def fn():
        with js.variable_scope("s", custom_getter=only_shape, reuse=True):
            js.get_variable("v", [1])

    refused(fn, errors.VariableNotFoundError, "Variable s/v does not exist", params={})


@pytest.mark.parametrize("reuse", [True, AUTO])
def test_a_getter_that_drops_reuse_takes_the_scopes(reuse: Any) -> None:
    def fn():
        v = js.get_variable("s/v", [1])
        with js.variable_scope("s", custom_getter=only_shape, reuse=reuse):
            return js.get_variable("v", [1]) is v

    assert both(fn)


@pytest.mark.parametrize("reuse", [False, True, AUTO])
def test_a_getter_that_passes_reuse_none_takes_the_scopes(reuse: Any) -> None:
    def unset(getter, name, reuse, **kwargs):
        return getter(name, reuse=None, **kwargs)

    def fn():
        js.get_variable("s/old", [1])
        found = []
        with js.variable_scope("s", custom_getter=unset, reuse=reuse):
            for name in ("old", "new"):
                try:
                    js.get_variable(name, [1])
                    found.append("ok")
                except ValueError as error:
                    found.append(type(error))
        return found

    exists, missing = errors.VariableExistsError, errors.VariableNotFoundError
    assert both(fn) == {False: [exists, "ok"], True: ["ok", missing], AUTO: ["ok", "ok"]}[reuse]


def test_a_getter_that_drops_everything_takes_the_scopes_defaults() -> None:
    def fn():
        with js.variable_scope(
            "s",
            custom_getter=only_shape,
            initializer=ones,
            regularizer=rule,
            constraint=rule,
            partitioner=("x",),
            dtype="float16",
        ):
            return js.get_variable("v", [1]).dtype

    assert both(fn) == F16
    made = spec(lambda: [fn(), None][1], "s/v")
    assert (made.initializer, made.regularizer, made.constraint) == (ones, rule, rule)
    assert (made.partition, made.dtype, made.trainable) == (("x",), F16, True)


def test_a_nested_getter_that_drops_everything_takes_the_scopes_defaults() -> None:
    seen = []

    def watch(getter, name, **kwargs):
        seen.append(name)
        return getter(name, **kwargs)

    def fn():
        with (
            js.variable_scope("s", custom_getter=watch),
            js.variable_scope(
                "t", custom_getter=lambda getter, name, shape, **_: getter(name=name, shape=shape)
            ),
        ):
            js.get_variable("v", [1])
            js.get_variable("v", [1])

    refused(fn, errors.VariableExistsError, "Variable s/t/v already exists")
    assert set(seen) == {"s/t/v"}


# Order


def tagged(tag: str, log: list[str]) -> Any:
    def getter(getter, name, **kwargs):
        log.append(">" + tag)
        value = getter(name + "_" + tag, **kwargs)
        log.append("<" + tag)
        return value

    return getter


def test_the_innermost_scopes_getter_runs_first_and_sees_the_value_last() -> None:
    log: list[str] = []

    def fn():
        log.clear()
        with (
            js.variable_scope("a", custom_getter=tagged("outer", log)),
            js.variable_scope("b", custom_getter=tagged("mid", log)),
            js.variable_scope("c", custom_getter=tagged("inner", log)),
        ):
            js.get_variable("v", [1])
        return " ".join(log)

    assert both(fn) == ">inner >mid >outer <outer <mid <inner"
    assert names(fn) == ["a/b/c/v_inner_mid_outer"]


def test_the_innermost_getter_changes_the_final_value_last() -> None:
    def doubled(getter, name, **kwargs):
        return getter(name, **kwargs) * 2

    def plus_one(getter, name, **kwargs):
        return getter(name, **kwargs) + 1

    def fn():
        with (
            js.variable_scope("a", custom_getter=doubled),
            js.variable_scope("b", custom_getter=plus_one),
        ):
            return js.get_variable("v", [], initializer=ones)

    net = js.transform(fn)
    assert net.apply(net.init(0), None) == 3


def test_a_scope_without_a_getter_keeps_the_outer_ones() -> None:
    def fn():
        with js.variable_scope("a", custom_getter=suffix("_1")), js.variable_scope("b"):
            js.get_variable("v", [1])
        js.get_variable("v", [1])

    assert names(fn) == ["a/b/v_1", "v"]


def test_a_getter_of_the_call_replaces_those_of_the_scopes() -> None:
    def fn():
        with (
            js.variable_scope("a", custom_getter=suffix("_1")),
            js.variable_scope("b", custom_getter=suffix("_2")),
        ):
            js.get_variable("v", [1], custom_getter=suffix("_call"))
            js.get_variable("w", [1])

    assert names(fn) == ["a/b/v_call", "a/b/w_2_1"]


def test_set_custom_getter_replaces_the_inherited_ones() -> None:
    def fn():
        with (
            js.variable_scope("a", custom_getter=suffix("_1")),
            js.variable_scope("b", custom_getter=suffix("_2")) as b,
        ):
            b.set_custom_getter(suffix("_set"))
            js.get_variable("v", [1])
            with js.variable_scope("c", custom_getter=suffix("_3")):
                js.get_variable("v", [1])
            b.set_custom_getter(None)
            js.get_variable("w", [1])

    assert names(fn) == ["a/b/v_set", "a/b/c/v_3_set", "a/b/w"]


def test_a_getter_given_at_a_jump_wraps_that_of_the_object_alone() -> None:
    def fn():
        with js.variable_scope("a", custom_getter=suffix("_object")) as a:
            pass
        with (
            js.variable_scope("o", custom_getter=suffix("_enclosing")),
            js.variable_scope(a, custom_getter=suffix("_jump")),
        ):
            js.get_variable("v", [1])
        with js.variable_scope(a):
            js.get_variable("v", [1])

    assert names(fn) == ["a/v_jump_object", "a/v_object"]


def test_the_getter_of_a_scope_object_holds_the_outer_ones() -> None:
    def fn():
        with (
            js.variable_scope("a", custom_getter=suffix("_1")),
            js.variable_scope("b", custom_getter=suffix("_2")) as b,
        ):
            pass
        with js.variable_scope(b):
            js.get_variable("v", [1])
        js.get_variable("called", [1], custom_getter=b.custom_getter)

    assert names(fn) == ["a/b/v_2_1", "called_2_1"]


# Not callable


def test_a_getter_of_a_scope_that_is_not_callable_is_refused_at_once() -> None:
    match = "^Passed a custom_getter which is not callable: 3$"
    for call in (
        lambda: js.variable_scope("a", custom_getter=3),
        lambda: js.VariableScope("a", custom_getter=3),
    ):
        with pytest.raises(ValueError, match=match) as caught:
            call()
        assert isinstance(caught.value, errors.JscopeError)


def test_a_getter_of_a_call_or_setter_that_is_not_callable_is_refused() -> None:
    def by_call():
        js.get_variable("v", [1], custom_getter=3)

    def by_setter():
        js.get_variable_scope().set_custom_getter(3)

    def under_another():
        with js.variable_scope("a", custom_getter=same):
            js.get_variable("v", [1], custom_getter=3)

    for fn in (by_call, by_setter, under_another):
        refused(fn, ValueError, "Passed a custom_getter which is not callable: 3")


# A getter that makes a scope of the name


def parts(getter: Any, name: str, **kwargs: Any) -> Any:
    """``k`` as the sum of ``k/0`` and ``k/1``."""
    return getter(f"{name}/0", **kwargs) + getter(f"{name}/1", **kwargs)


def halves(getter: Any, name: str, **kwargs: Any) -> Any:
    """``k`` as the pair of ``k/l`` and ``k/r``."""
    return getter(f"{name}/l", **kwargs), getter(f"{name}/r", **kwargs)


def unlike(getter: Any, name: str, shape: Any, initializer: Any, **kwargs: Any) -> Any:
    """``k`` as a direction ``k/v`` and a length ``k/g``, of different shapes."""
    v = getter(f"{name}/v", shape=shape, initializer=initializer, **kwargs)
    return v * getter(f"{name}/g", shape=[], initializer=ones, **kwargs)


def one_below(getter: Any, name: str, **kwargs: Any) -> Any:
    return getter(f"{name}/value", **kwargs)


SPLITTING = {
    "parts": (parts, ["k/0", "k/1"]),
    "halves": (halves, ["k/l", "k/r"]),
    "unlike": (unlike, ["k/v", "k/g"]),
    "one below": (one_below, ["k/value"]),
}


def shared_by_scope(getter: Any) -> list[Any]:
    with js.variable_scope("s", custom_getter=getter):
        first = js.get_variable("k", [2])
    with js.variable_scope("s", custom_getter=getter, reuse=True):
        return [first, js.get_variable("k", [2]), js.get_variable("k")]


def shared_by_auto_reuse(getter: Any) -> list[Any]:
    with js.variable_scope("s", custom_getter=getter, reuse=AUTO):
        return [js.get_variable("k", [2]) for _ in range(3)]


def shared_by_a_template(getter: Any) -> list[Any]:
    share = js.make_template("s", lambda: js.get_variable("k", [2]), custom_getter_=getter)
    return [share() for _ in range(3)]


def shared_by_the_getter_of_the_call(getter: Any) -> list[Any]:
    with js.variable_scope("s", reuse=AUTO):
        return [js.get_variable("k", [2], custom_getter=getter) for _ in range(3)]


def shared_by_a_getter_that_says_so(getter: Any) -> list[Any]:
    def sharing(getter_: Any, **kwargs: Any) -> Any:
        return getter(lambda *args, **kw: getter_(*args, **{**kw, "reuse": AUTO}), **kwargs)

    with js.variable_scope("s", custom_getter=lambda getter, **kwargs: sharing(getter, **kwargs)):
        return [js.get_variable("k", [2]) for _ in range(3)]


def shared_below_another_getter(getter: Any) -> list[Any]:
    with (
        js.variable_scope("s", custom_getter=same, reuse=AUTO),
        js.variable_scope(js.get_variable_scope(), custom_getter=getter),
        js.variable_scope(js.get_variable_scope(), custom_getter=same),
    ):
        return [js.get_variable("k", [2]) for _ in range(3)]


def shared_inside_inner_transforms(getter: Any) -> list[Any]:
    with js.variable_scope("s", custom_getter=getter, reuse=AUTO):
        ask = lambda: js.get_variable("k", [2])  # noqa: E731
        return [ask(), jax.checkpoint(ask)(), jax.jit(ask)(), js.checkpoint(ask)()]


SHARING = [
    shared_by_scope,
    shared_by_auto_reuse,
    shared_by_a_template,
    shared_by_the_getter_of_the_call,
    shared_by_a_getter_that_says_so,
    shared_below_another_getter,
    shared_inside_inner_transforms,
]


@pytest.mark.parametrize("share", SHARING)
@pytest.mark.parametrize("kind", SPLITTING)
def test_what_a_getter_made_below_a_name_is_shared_by_that_name(kind: str, share: Any) -> None:
    getter, made = SPLITTING[kind]
    net = js.transform(lambda: share(getter))
    params = net.init(0)
    assert [f"s/{name}" for name in made] == list(net.specs())
    for out in (net.apply(params, None), jax.jit(net.apply)(params, None)):
        first, *others = out
        assert others
        for other in others:
            chex.assert_trees_all_equal(first, other)


def test_getters_that_make_scopes_of_names_nest() -> None:
    def fn():
        with js.variable_scope("s", custom_getter=parts, reuse=AUTO):
            js.get_variable("plain", [2])
            with js.variable_scope("t", custom_getter=halves):
                first = js.get_variable("k", [2])
                again = js.get_variable("k", [2])
        return first, again

    made = ["s/plain/0", "s/plain/1", *(f"s/t/k/{side}/{i}" for side in "lr" for i in (0, 1))]
    net = js.transform(fn)
    assert list(net.specs()) == made
    chex.assert_trees_all_equal(*net.apply(net.init(0), None))


def test_asking_such_a_getter_again_without_reuse_is_refused_for_what_it_makes() -> None:
    def fn():
        with js.variable_scope("s", custom_getter=parts):
            js.get_variable("k", [2])
            js.get_variable("k", [2])

    refused(fn, errors.VariableExistsError, "Variable s/k/0 already exists, disallowed")


def test_asking_such_a_getter_for_another_shape_is_refused_for_what_it_makes() -> None:
    def fn():
        with js.variable_scope("s", custom_getter=parts, reuse=AUTO):
            js.get_variable("k", [2])
            js.get_variable("k", [3])

    refused(fn, errors.VariableMismatchError, "Trying to share variable s/k/0, but specified shape")


def test_a_later_call_of_a_template_makes_no_more_below_a_name() -> None:
    def fn():
        many = iter([["0", "1"], ["0", "1", "2"]])

        def growing(getter, name, **kwargs):
            return [getter(f"{name}/{part}", **kwargs) for part in next(many)]

        share = js.make_template("t", lambda: js.get_variable("k", [2]), custom_getter_=growing)
        share()
        share()

    refused(fn, errors.VariableNotFoundError, "Variable t/k/2 does not exist")


@pytest.mark.parametrize("reuse", [False, AUTO, True])
@pytest.mark.parametrize("getter", [None, same], ids=["plain", "getter that passes on"])
def test_a_name_of_which_a_getter_made_a_scope_is_no_variable(reuse: Any, getter: Any) -> None:
    def fn():
        js.get_variable("k", [2], custom_getter=parts)
        with js.variable_scope("", reuse=reuse):
            js.get_variable("k", [2], custom_getter=getter)

    error, _ = refused(fn, errors.NameClashError, "^Variable k cannot be made: k would be a variab")
    assert error.other == "k/0"


def test_a_variable_is_no_scope_for_a_getter_to_make_more_in() -> None:
    def fn():
        js.get_variable("k", [2])
        js.get_variable("k", [2], custom_getter=parts)

    refused(fn, errors.NameClashError, "Variable k/0 cannot be made: k would be a variable and")


def test_a_getter_may_make_a_scope_of_some_names_and_pass_others_on() -> None:
    def matrices(getter, name, shape, **kwargs):
        if shape is not None and len(shape) < 2:
            return getter(name, shape, **kwargs)
        return parts(getter, name, shape=shape, **kwargs)

    def fn(x):
        with js.variable_scope("s", custom_getter=matrices, reuse=AUTO):
            for _ in range(2):
                x = x @ js.get_variable("kernel", [3, 3]) + js.get_variable("bias", [3])[None]
        return x

    net = js.transform(fn)
    x = jnp.ones([2, 3])
    params = net.init(0, x)
    assert list(net.specs(x)) == ["s/kernel/0", "s/kernel/1", "s/bias"]
    kernel, bias = params["s"]["kernel"]["0"] + params["s"]["kernel"]["1"], params["s"]["bias"]
    expected = (x @ kernel + bias[None]) @ kernel + bias[None]
    np.testing.assert_allclose(net.apply(params, None, x), expected, rtol=1e-6)


def test_layers_share_what_a_getter_made_below_their_names() -> None:
    def fn(x):
        with js.variable_scope("s", custom_getter=unlike, reuse=AUTO):
            return js.layers.dense(js.layers.dense(x, 3, name="d"), 3, name="d")

    net = js.transform(fn)
    x = jnp.ones([2, 3])
    assert list(net.specs(x)) == [f"s/d/{v}/{part}" for v in ("kernel", "bias") for part in "vg"]
    assert net.apply(net.init(0, x), None, x).shape == (2, 3)


def test_what_one_getter_made_below_a_name_is_assigned_by_that_name() -> None:
    def fn():
        options = {"initializer": 1.0, "trainable": False, "custom_getter": one_below}
        js.get_variable("k", **options)
        return js.assign("k", 5.0)

    net = js.transform_with_state(fn)
    out, state = net.apply(*net.init(0), None)
    assert (out, state) == (5, js.Params({"k": {"value": jnp.float32(5)}}))


def test_a_name_of_which_a_getter_made_several_cannot_be_assigned() -> None:
    def fn():
        js.get_variable("k", initializer=1.0, trainable=False, custom_getter=parts)
        js.assign("k/0", 2.0)
        js.assign("k", 5.0)

    net = js.transform_with_state(fn)
    state = {"k": {"0": jnp.zeros([]), "1": jnp.zeros([])}}
    line = fn.__code__.co_firstlineno + 3
    for call in (lambda: net.init(0), lambda: net.apply({}, state, None)):
        with pytest.raises(errors.VariableNotFoundError) as caught:
            call()
        assert str(caught.value) == (
            "Variable k does not exist, so it cannot be assigned.\n"
            f"  asked:  at tests/test_getter.py:{line} in fn\n"
            "  near:   'k/0', 'k/1'\n"
            "  fix:    it is a scope, as of a custom getter that made several variables for this "
            "name: assign to one of them."
        )

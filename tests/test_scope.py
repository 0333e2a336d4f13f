"""Scopes: names, defaults, jumps, numbering and the way in and out, as in TF1."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from both import both, names, refused, spec

import jscope as js
from jscope import errors

ones = jax.nn.initializers.ones
zeros = jax.nn.initializers.zeros


def here() -> str:
    return js.get_variable_scope().name


def make(name: str = "v") -> None:
    js.get_variable(name, [1])


def opened(default_name: str) -> str:
    """The name that ``default_name`` gets now."""
    with js.variable_scope(None, default_name) as scope:
        return scope.name


# Opening by name


def test_a_scope_prefixes_the_names_of_its_variables() -> None:
    def fn():
        with js.variable_scope("foo"):
            make()

    assert names(fn) == ["foo/v"]


def test_nested_scopes_join_their_names() -> None:
    def fn():
        with js.variable_scope("a"), js.variable_scope("b"):
            make()
            return here()

    assert names(fn) == ["a/b/v"]
    assert both(fn) == "a/b"


def test_a_scope_opened_twice_is_not_renamed() -> None:
    def fn():
        with js.variable_scope("foo") as first:
            make("v")
        with js.variable_scope("foo") as second:
            make("w")
        return first is second, first.name, second.name

    assert names(fn) == ["foo/v", "foo/w"]
    assert both(fn) == (False, "foo", "foo")


def test_the_same_variable_in_a_scope_opened_twice_already_exists() -> None:
    def fn():
        for _ in range(2):
            with js.variable_scope("foo"):
                make()

    refused(fn, ValueError, "Variable foo/v already exists, disallowed")


def test_a_slash_in_a_name_is_a_nested_scope() -> None:
    def fn():
        with js.variable_scope("a/b"):
            made = js.get_variable("v", [1])
        with js.variable_scope("", reuse=True):
            from_root = js.get_variable("a/b/v")
        with js.variable_scope("a", reuse=True):
            from_a = js.get_variable("b/v")
            with js.variable_scope("b"):
                nested = js.get_variable("v")
        return made is from_root, made is from_a, made is nested

    assert names(fn) == ["a/b/v"]
    assert both(fn) == (True, True, True)


def test_a_scope_inside_one_of_the_same_name_is_another_scope() -> None:
    def fn():
        with js.variable_scope("a"), js.variable_scope("a"):
            make()

    assert names(fn) == ["a/a/v"]


def test_the_empty_name_at_the_root_is_the_root() -> None:
    def fn():
        with js.variable_scope("") as scope:
            make()
            with js.variable_scope("a"):
                make()
            return scope.name

    assert names(fn) == ["v", "a/v"]
    assert both(fn) == ""


def test_the_empty_name_is_refused_inside_a_scope() -> None:
    def fn():
        with js.variable_scope("o"), js.variable_scope("", custom_getter=lambda getter: None):
            make()

    error, _ = refused(fn, errors.InvalidNameError, "'' is not a valid scope name")
    assert isinstance(error, ValueError)
    assert re.sub(r"\S+\.py:\d+", "FILE:N", str(error)) == (
        "'' is not a valid scope name: variable_scope('') is the root scope and can be opened at "
        "the root only.\n"
        "  asked:  in scope o at FILE:N in fn\n"
        "  fix:    to give options to the open scope, variable_scope(get_variable_scope(), "
        "custom_getter=...); to return to the root, capture it there, root = "
        "get_variable_scope(), and open variable_scope(root)."
    )


def doubled(getter, *args, **kwargs):
    return 2 * getter(*args, **kwargs)


def with_options(x: jax.Array) -> jax.Array:
    with js.variable_scope(js.get_variable_scope(), custom_getter=doubled):
        x = js.layers.dense(x, 3)
    return js.layers.dense(x, 3)


def plain(x: jax.Array) -> jax.Array:
    with js.variable_scope(None, "dense", custom_getter=doubled):
        kernel, bias = js.get_variable("kernel", [3, 3]), js.get_variable("bias", [3])
    return js.layers.dense(x @ kernel + bias[None], 3)


BLOCK, PLAIN = js.jit(with_options), js.jit(plain)


def in_scopes(block: Any, x: jax.Array) -> jax.Array:
    for i in range(2):
        with js.variable_scope(f"a/layer_{i}"):
            x = block(x)
    return x


@pytest.mark.parametrize(
    "place",
    [
        lambda block, x: block(x),
        in_scopes,
        lambda block, x: in_scopes(BLOCK if block is with_options else PLAIN, x),
        lambda block, x: js.layer_stack(2)(block)(x),
        lambda block, x: js.make_template("t", block)(x),
        lambda block, x: js.variable_scope("d")(block)(x),
        lambda block, x: jax.checkpoint(block)(x),
    ],
    ids=["root", "scope", "traced once", "stack", "template", "decorator", "checkpoint"],
)
def test_options_are_added_where_one_stands(place: Any) -> None:
    x = jnp.ones([2, 3])
    net, other = (js.transform(functools.partial(place, f)) for f in (with_options, plain))
    params = net.init(0, x)
    assert jax.tree.structure(params) == jax.tree.structure(other.init(0, x))
    found, wanted = (jax.jit(n.apply)(params, None, x) for n in (net, other))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["a/", "/a", "a//b", "/", " ", "a b", "a+b", "a:0", "é", "a\n", "a/b c", "a/é"]
)
def test_a_scope_name_with_a_bad_component_is_refused(name: str) -> None:
    with pytest.raises(errors.InvalidNameError, match="is not a valid scope name") as caught:
        js.variable_scope(name)
    assert caught.value.name == name
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["_a", "a.b-c>d", "a\\b", "0", ".", "-", "A_0/b.1"])
def test_letters_digits_and_some_marks_make_a_scope_name(name: str) -> None:
    def fn():
        with js.variable_scope(name):
            make()
            with js.variable_scope(name):
                make()

    assert names(fn) == [f"{name}/v", f"{name}/{name}/v"]


def test_a_scope_needs_a_name_or_a_default_name() -> None:
    with pytest.raises(
        TypeError, match="If default_name is None then name_or_scope is required"
    ) as caught:
        js.variable_scope(None)
    assert isinstance(caught.value, errors.InvalidNameError)


@pytest.mark.parametrize("name", [3, b"a", 1.5, ["a"], js.variable_scope("cm")])
def test_only_a_string_or_a_scope_can_be_opened(name: Any) -> None:
    match = "VariableScope: name_or_scope must be a string or VariableScope"
    with pytest.raises(TypeError, match=match):
        js.variable_scope(name)


def test_the_options_of_a_scope_are_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        js.variable_scope("a", None, None, ones)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'caching_device'"):
        js.variable_scope("a", caching_device="")


def test_a_default_name_beside_a_name_is_ignored() -> None:
    def fn():
        with js.variable_scope("n", "d") as scope:
            pass
        with js.variable_scope("o"), js.variable_scope(scope, "d") as again:
            pass
        return scope.name, again.name, opened("d")

    assert both(fn) == ("n", "n", "d")


def test_get_variable_scope_is_the_object_that_with_gave() -> None:
    def fn():
        root = js.get_variable_scope()
        with js.variable_scope("a") as a:
            in_a = js.get_variable_scope() is a
            with js.variable_scope("b") as b:
                in_b = js.get_variable_scope() is b
            back_in_a = js.get_variable_scope() is a
        return in_a, in_b, back_in_a, js.get_variable_scope() is root, a.name, b.name

    assert both(fn) == (True, True, True, True, "a", "a/b")


def test_the_root_scope_has_no_name_and_no_defaults() -> None:
    def fn():
        root = js.get_variable_scope()
        return (
            root.name,
            root.reuse,
            root.dtype,
            root.initializer,
            root.regularizer,
            root.constraint,
            root.partitioner,
            root.custom_getter,
        )

    assert both(fn) == ("", False, np.dtype("float32"), None, None, None, None, None)


def test_a_scope_object_is_built_from_a_name_outside_a_pass() -> None:
    scope = js.VariableScope("n/m", initializer=ones, dtype=jnp.float16)
    assert (scope.name, scope.reuse, scope.dtype) == ("n/m", False, np.dtype("float16"))

    def fn():
        with js.variable_scope("o"), js.variable_scope(scope) as opened:
            make()
            return opened.name

    assert both(fn) == "n/m"
    assert names(fn) == ["n/m/v"]
    assert spec(fn, "n/m/v").dtype == jnp.float16
    assert spec(fn, "n/m/v").initializer is ones


def test_a_scope_object_takes_reuse_and_name_by_keyword() -> None:
    scope = js.VariableScope(reuse=True, name="n")
    assert (scope.name, scope.reuse) == ("n", True)


def test_a_scope_object_with_reuse_none_does_not_reuse() -> None:
    def fn():
        with js.variable_scope(js.VariableScope("n", reuse=None)) as scope:
            reuse = scope.reuse
            make()
            make()
        return reuse

    assert js.VariableScope("n", reuse=None).reuse is False
    refused(fn, ValueError, "Variable n/v already exists")


@pytest.mark.parametrize("name", ["a/", "/a", "a b"])
def test_a_scope_object_with_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(errors.InvalidNameError, match="is not a valid scope name"):
        js.VariableScope(name)


def test_names_and_reuse_of_a_scope_object_are_read_only() -> None:
    scope = js.VariableScope("a")
    with pytest.raises(AttributeError, match="name"):
        scope.name = "b"
    with pytest.raises(AttributeError, match="reuse"):
        scope.reuse = True


@pytest.mark.parametrize("option", ["initializer", "regularizer", "constraint", "custom_getter"])
def test_a_scope_object_tells_its_defaults(option: str) -> None:
    def value(*args, **kwargs):
        raise AssertionError

    def fn():
        with js.variable_scope("a", **{option: value}) as a, js.variable_scope("b") as b:
            return getattr(a, option) is value, getattr(b, option) is value

    assert both(fn) == (True, True)


def test_a_scope_object_tells_its_partitioner_and_dtype() -> None:
    def fn():
        with (
            js.variable_scope("a", partitioner=("x", None), dtype="bfloat16"),
            js.variable_scope("b") as b,
        ):
            return b.partitioner, b.dtype

    assert both(fn) == (("x", None), np.dtype(jnp.bfloat16))


# Variables and scopes share the keys of one nested tree


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a", "a/b"),
        ("a/b", "a"),
        ("a", "a/b/c"),
        ("a/b/c", "a"),
        ("o/a", "o/a/b"),
        ("o/a/b", "o/a"),
    ],
)
def test_a_variable_and_a_scope_of_one_name_clash(first: str, second: str) -> None:
    def fn():
        make(first)
        make(second)

    for error in refused(fn, errors.NameClashError, f"Variable {second} cannot be made"):
        assert isinstance(error, ValueError)
        assert error.name == second
        assert error.other == first


def test_a_variable_made_through_a_scope_clashes_as_well() -> None:
    def fn():
        make("o/a")
        with js.variable_scope("o"), js.variable_scope("a"):
            make("b")

    refused(fn, errors.NameClashError, "o/a would be a variable and also the scope of o/a/b")


@pytest.mark.parametrize("reuse", [True, js.AUTO_REUSE])
def test_reuse_does_not_hide_a_name_clash(reuse: Any) -> None:
    def fn():
        make("a")
        with js.variable_scope("", reuse=reuse):
            make("a/b")

    refused(fn, errors.NameClashError, "a would be a variable and also the scope of a/b")


def test_opening_a_scope_named_like_a_variable_makes_no_clash_by_itself() -> None:
    def fn():
        make("a")
        with js.variable_scope("a"):
            pass

    assert names(fn) == ["a"]


@pytest.mark.parametrize(("first", "second"), [("a", "ab/c"), ("ab/c", "a"), ("a/b", "a/bc/d")])
def test_names_clash_by_whole_components_only(first: str, second: str) -> None:
    def fn():
        make(first)
        make(second)

    assert names(fn) == [first, second]


# Jumps: re-entering by scope object


def test_a_jump_goes_to_the_full_name_from_anywhere() -> None:
    def fn():
        with js.variable_scope("a"), js.variable_scope("b") as b:
            pass
        with js.variable_scope("o"), js.variable_scope(b) as again:
            make()
            inside = again.name
            with js.variable_scope("c"):
                make()
        return inside, here()

    assert names(fn) == ["a/b/v", "a/b/c/v"]
    assert both(fn) == ("a/b", "")


def test_a_jump_comes_back_to_where_it_left() -> None:
    def fn():
        with js.variable_scope("a") as a:
            pass
        with js.variable_scope("o", initializer=ones, dtype=jnp.float16) as o:
            with js.variable_scope(a):
                make()
            make()
            return js.get_variable_scope() is o

    assert names(fn) == ["a/v", "o/v"]
    assert both(fn)
    assert spec(fn, "o/v").initializer is ones
    assert spec(fn, "o/v").dtype == jnp.float16


def test_a_jump_gives_a_new_object() -> None:
    def fn():
        with js.variable_scope("a") as a:
            pass
        with js.variable_scope(a) as again:
            again.reuse_variables()
            again.set_dtype(jnp.float16)
            again.set_initializer(ones)
        return again is a, a.reuse, a.dtype, a.initializer, again.reuse, again.dtype

    f16, f32 = np.dtype("float16"), np.dtype("float32")
    assert both(fn) == (False, False, f32, None, True, f16)


def test_a_jump_to_the_root_scope_leaves_all_scopes() -> None:
    def fn():
        root = js.get_variable_scope()
        with js.variable_scope("o", reuse=True), js.variable_scope(root) as again:
            make()
            return again.name, again.reuse

    assert names(fn) == ["v"]
    assert both(fn) == ("", False)


def test_a_jump_to_the_open_scope_keeps_the_name() -> None:
    def fn():
        with js.variable_scope("o") as o, js.variable_scope(o) as again, js.variable_scope(again):
            make()

    assert names(fn) == ["o/v"]


def regularizer(value):
    raise AssertionError


def constraint(value):
    raise AssertionError


def getter(getter, name, **kwargs):
    return getter(name + "_got", **kwargs)


OPTIONS: dict[str, Any] = {
    "initializer": ones,
    "regularizer": regularizer,
    "constraint": constraint,
    "partitioner": ("x",),
    "dtype": np.dtype("float16"),
}
FIELD = {"partitioner": "partition"}
UNSET: dict[str, Any] = {"dtype": np.dtype("float32")}


def made_with(option: str, program: Callable[[], None], name: str = "v") -> Any:
    return getattr(spec(program, name), FIELD.get(option, option))


@pytest.mark.parametrize("option", OPTIONS)
def test_a_default_of_a_scope_reaches_its_variables_and_inner_scopes(option: str) -> None:
    def fn():
        with js.variable_scope("a", **{option: OPTIONS[option]}):
            make()
            with js.variable_scope("b"), js.variable_scope("c"):
                make()
        js.get_variable("outside", [1], initializer=zeros)

    assert made_with(option, fn, "a/v") == OPTIONS[option]
    assert made_with(option, fn, "a/b/c/v") == OPTIONS[option]
    if option != "initializer":
        assert made_with(option, fn, "outside") == UNSET.get(option)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_jump_takes_every_default_from_the_object(option: str) -> None:
    def fn():
        with js.variable_scope("a", **{option: OPTIONS[option]}) as a:
            pass
        with js.variable_scope("o"), js.variable_scope(a):
            make()

    assert made_with(option, fn, "a/v") == OPTIONS[option]


@pytest.mark.parametrize("option", OPTIONS)
def test_a_jump_takes_no_default_from_the_enclosing_scope(option: str) -> None:
    def fn():
        with js.variable_scope("a") as a:
            pass
        with js.variable_scope("o", **{option: OPTIONS[option]}), js.variable_scope(a):
            make()

    assert made_with(option, fn, "a/v") != OPTIONS[option]


OTHERS: dict[str, Any] = {
    "initializer": zeros,
    "regularizer": lambda value: None,
    "constraint": lambda value: value,
    "partitioner": ("y",),
    "dtype": np.dtype(jnp.bfloat16),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_default_given_at_a_jump_wins(option: str) -> None:
    def fn():
        with js.variable_scope("a", **{option: OPTIONS[option]}) as a:
            pass
        with js.variable_scope(a, **{option: OTHERS[option]}):
            make("v")
        with js.variable_scope(a):
            make("w")

    assert made_with(option, fn, "a/v") == OTHERS[option]
    assert made_with(option, fn, "a/w") == OPTIONS[option]


@pytest.mark.parametrize("option", OPTIONS)
def test_the_nearest_scope_wins(option: str) -> None:
    def fn():
        with (
            js.variable_scope("a", **{option: OPTIONS[option]}),
            js.variable_scope("b", **{option: OTHERS[option]}),
        ):
            make()

    assert made_with(option, fn, "a/b/v") == OTHERS[option]


@pytest.mark.parametrize("option", OPTIONS)
def test_none_inherits(option: str) -> None:
    def fn():
        with (
            js.variable_scope("a", **{option: OPTIONS[option]}),
            js.variable_scope("b", **{option: None}),
        ):
            js.get_variable("v", [1], **{option: None})

    assert made_with(option, fn, "a/b/v") == OPTIONS[option]


def test_a_jump_takes_the_getter_from_the_object_alone() -> None:
    def fn():
        with js.variable_scope("a", custom_getter=getter) as a:
            pass
        with js.variable_scope("b") as b:
            pass
        with js.variable_scope("o"), js.variable_scope(a):
            make()
        with js.variable_scope("o", custom_getter=getter), js.variable_scope(b):
            make()

    assert names(fn) == ["a/v_got", "b/v"]


# Changing a scope object


@pytest.mark.parametrize("option", OPTIONS)
def test_a_setter_acts_on_the_scope_on_later_children_and_on_later_jumps(option: str) -> None:
    def fn():
        with js.variable_scope("a") as a:
            make("before")
            getattr(a, f"set_{option}")(OPTIONS[option])
            make("after")
            with js.variable_scope("child"):
                make()
        with js.variable_scope("o"), js.variable_scope(a):
            make("jump")
        with js.variable_scope("a"):
            make("by_name")

    assert made_with(option, fn, "a/before") != OPTIONS[option]
    for name in ("a/after", "a/child/v", "a/jump"):
        assert made_with(option, fn, name) == OPTIONS[option]
    assert made_with(option, fn, "a/by_name") != OPTIONS[option]


@pytest.mark.parametrize("option", OPTIONS)
def test_a_setter_does_not_act_on_scopes_already_open(option: str) -> None:
    def fn():
        with js.variable_scope("a") as a:
            with js.variable_scope("b"):
                getattr(a, f"set_{option}")(OPTIONS[option])
                make()
            make()

    assert made_with(option, fn, "a/b/v") != OPTIONS[option]
    assert made_with(option, fn, "a/v") == OPTIONS[option]


@pytest.mark.parametrize("option", OPTIONS)
def test_a_setter_acts_on_a_closed_scope_for_later_jumps(option: str) -> None:
    def fn():
        with js.variable_scope("a") as a:
            pass
        getattr(a, f"set_{option}")(OPTIONS[option])
        with js.variable_scope(a):
            make()

    assert made_with(option, fn, "a/v") == OPTIONS[option]


@pytest.mark.parametrize("option", OPTIONS)
def test_a_setter_is_seen_on_the_object(option: str) -> None:
    def fn():
        with js.variable_scope("a") as a:
            getattr(a, f"set_{option}")(OPTIONS[option])
            return getattr(a, option) == OPTIONS[option]

    assert both(fn)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_setter_leaves_nothing_for_the_next_pass(option: str) -> None:
    scope = js.VariableScope("a")
    change = True

    def fn():
        if change:
            getattr(scope, f"set_{option}")(OPTIONS[option])
        with js.variable_scope(scope):
            make()

    net = js.transform(fn)
    field = FIELD.get(option, option)
    assert getattr(net.specs()["a/v"], field) == OPTIONS[option]
    change = False
    assert getattr(net.specs()["a/v"], field) != OPTIONS[option]
    assert getattr(scope, option) == UNSET.get(option)


def test_setters_of_two_options_add_up() -> None:
    def fn():
        with js.variable_scope("a", dtype=jnp.float16) as a:
            a.set_initializer(ones)
            a.set_constraint(constraint)
            make()

    made = spec(fn, "a/v")
    assert (made.dtype, made.initializer, made.constraint) == (jnp.float16, ones, constraint)


def test_set_custom_getter_acts_like_the_other_setters() -> None:
    def fn():
        with js.variable_scope("a") as a:
            make("before")
            a.set_custom_getter(getter)
            make("after")
            with js.variable_scope("child"):
                make()
        with js.variable_scope(a):
            make("jump")

    assert names(fn) == ["a/before", "a/after_got", "a/child/v_got", "a/jump_got"]


@pytest.mark.parametrize(
    ("setter", "value"),
    [
        ("set_initializer", ones),
        ("set_regularizer", regularizer),
        ("set_constraint", constraint),
        ("set_partitioner", None),
        ("set_dtype", jnp.float32),
        ("set_custom_getter", None),
    ],
)
def test_a_setter_needs_a_pass(setter: str, value: Any) -> None:
    scope = js.VariableScope("a")
    with pytest.raises(errors.NoPassError, match=rf"VariableScope\.{setter} was called outside"):
        getattr(scope, setter)(value)
    with pytest.raises(RuntimeError, match=r"VariableScope\.reuse_variables was called outside"):
        scope.reuse_variables()


# Numbering of default names


def test_a_default_name_is_numbered() -> None:
    def fn():
        for _ in range(3):
            with js.variable_scope(None, "d"):
                make()

    assert names(fn) == ["d/v", "d_1/v", "d_2/v"]


def test_a_default_name_is_numbered_below_the_open_scope() -> None:
    def fn():
        with js.variable_scope("d"):
            inner = opened("d"), opened("d")
        with js.variable_scope("o"):
            return inner, opened("d"), opened("e"), opened("d")

    assert both(fn) == (("d/d", "d/d_1"), "o/d", "o/e", "o/d_1")


def test_opening_by_name_counts_for_default_names() -> None:
    def fn():
        with js.variable_scope("d"):
            pass
        first = opened("d")
        with js.variable_scope("d"):
            pass
        return first, opened("d")

    assert both(fn) == ("d_1", "d_2")


def test_a_number_taken_by_name_is_passed_over() -> None:
    def fn():
        with js.variable_scope("d_1"):
            pass
        return opened("d"), opened("d"), opened("d")

    assert both(fn) == ("d", "d_2", "d_3")


def test_an_explicit_name_is_never_changed() -> None:
    def fn():
        for _ in range(2):
            with js.variable_scope(None, "d"):
                make()
        with js.variable_scope("d_1"):
            make()

    refused(fn, ValueError, "Variable d_1/v already exists")


def test_a_default_name_with_a_number_gets_another() -> None:
    def fn():
        return opened("d_1"), opened("d"), opened("d_1"), opened("d")

    assert both(fn) == ("d_1", "d", "d_1_1", "d_2")


def test_opening_a_path_counts_the_path_and_not_its_parts() -> None:
    def fn():
        with js.variable_scope("a/b"):
            pass
        return opened("a/b"), opened("a"), opened("a")

    assert both(fn) == ("a/b_1", "a", "a_1")


def test_a_default_name_may_hold_slashes() -> None:
    def fn():
        return opened("a/b"), opened("a/b"), opened("b")

    assert both(fn) == ("a/b", "a/b_1", "b")


def test_variables_do_not_count_for_default_names() -> None:
    def fn():
        make("d")
        return opened("d")

    assert both(fn) == "d"


def test_a_default_name_can_meet_a_variable_of_that_name() -> None:
    def fn():
        make("d")
        with js.variable_scope(None, "d"):
            make()

    refused(fn, errors.NameClashError, "Variable d/v cannot be made")


def test_a_default_name_can_meet_a_variable_below_that_name() -> None:
    def fn():
        make("d/v")
        with js.variable_scope(None, "d"):
            make()

    refused(fn, ValueError, "Variable d/v already exists")


def test_named_scopes_of_jax_do_not_count_for_default_names() -> None:
    def fn():
        with jax.named_scope("d"):
            return opened("d")

    assert both(fn) == "d"


def test_numbers_start_afresh_once_the_parent_closed() -> None:
    def fn():
        found = []
        for _ in range(2):
            with js.variable_scope("p"):
                found += [opened("d") for _ in range(4)]
        return found

    assert both(fn) == ["p/d", "p/d_1", "p/d_2", "p/d_3"] * 2


def test_numbers_of_deeper_scopes_start_afresh_once_a_scope_closed() -> None:
    def fn():
        with js.variable_scope("p"):
            with js.variable_scope("q"):
                first = opened("d")
            with js.variable_scope("q"):
                second = opened("d")
            return first, second, opened("q")

    assert both(fn) == ("p/q/d", "p/q/d", "p/q_1")


def test_default_names_collide_when_a_scope_is_opened_again() -> None:
    def fn():
        for _ in range(2):
            with js.variable_scope("p"), js.variable_scope(None, "d"):
                make()

    refused(fn, ValueError, "Variable p/d/v already exists")


@pytest.mark.parametrize("reuse", [True, js.AUTO_REUSE])
def test_default_names_find_the_same_variables_under_reuse(reuse: Any) -> None:
    def layers(scope_reuse):
        found = []
        with js.variable_scope("p", reuse=scope_reuse):
            for _ in range(2):
                with js.variable_scope(None, "d"):
                    found.append(js.get_variable("v", [1]))
        return found

    def fn():
        first, second = layers(None), layers(reuse)
        return [a is b for a, b in zip(first, second, strict=True)], first[0] is first[1]

    assert both(fn) == ([True, True], False)


def test_default_names_number_afresh_in_every_pass() -> None:
    found = []
    net = js.transform(lambda: found.append((opened("d"), opened("d"))))
    for _ in range(2):
        net.init(0)
        net.apply({}, None)
        net.specs()
    assert found == [("d", "d_1")] * 6


def test_default_names_number_alike_in_nested_passes() -> None:
    def fn():
        before = opened("d")
        inner = both(lambda: (opened("d"), here()))
        return before, inner, opened("d")

    assert both(fn) == ("d", ("d", ""), "d_1")


def test_a_jump_to_a_closed_scope_numbers_afresh() -> None:
    def fn():
        found = []
        with js.variable_scope("o") as o:
            found.append(opened("layer"))
        for _ in range(2):
            with js.variable_scope(o):
                found.append(opened("layer"))
        return found

    assert both(fn) == ["o/layer", "o/layer", "o/layer"]


def test_a_jump_to_an_open_scope_goes_on_numbering() -> None:
    def fn():
        with js.variable_scope("o") as o:
            first = opened("layer")
            with js.variable_scope(o):
                second = opened("layer")
            return first, second, opened("layer")

    assert both(fn) == ("o/layer", "o/layer_1", "o/layer_2")


def test_a_jump_to_an_outer_open_scope_goes_on_numbering() -> None:
    def fn():
        with js.variable_scope("o") as o:
            first = opened("layer")
            with js.variable_scope("inner"):
                with js.variable_scope(o):
                    second = opened("layer")
                inner = opened("layer")
            return first, second, inner, opened("layer")

    assert both(fn) == ("o/layer", "o/layer_1", "o/inner/layer", "o/layer_2")


def test_a_jump_to_the_root_goes_on_numbering() -> None:
    def fn():
        root = js.get_variable_scope()
        first = opened("layer")
        with js.variable_scope("o"), js.variable_scope(root):
            second = opened("layer")
        return first, second, opened("layer")

    assert both(fn) == ("layer", "layer_1", "layer_2")


def test_a_jump_itself_counts_for_default_names() -> None:
    def fn():
        with js.variable_scope("o"), js.variable_scope("p/d") as scope:
            pass
        with js.variable_scope("o/p"):
            with js.variable_scope(scope):
                pass
            return opened("d")

    assert both(fn) == "o/p/d_1"


def test_an_empty_default_name_is_refused() -> None:
    with pytest.raises(errors.InvalidNameError, match="'' is not a valid scope name"):
        js.variable_scope(None, "")


@pytest.mark.parametrize("name", ["a b", "a/", "/a"])
def test_a_bad_default_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a valid scope name"):
        js.variable_scope(None, default_name=name)


def test_a_default_name_that_is_no_string_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match="default_name"):
        js.variable_scope(None, 3)


# Context managers


def test_a_context_manager_works_once() -> None:
    def fn():
        manager = js.variable_scope("a")
        with manager:
            make()
        with manager:
            make("w")

    refused(fn, RuntimeError, "can be entered only once")


def test_a_context_manager_cannot_be_entered_inside_itself() -> None:
    def fn():
        manager = js.variable_scope("a")
        with manager, manager:
            make()

    for error in refused(fn, errors.NestingError, "Improper nesting of variable_scope"):
        assert isinstance(error, RuntimeError)


def test_a_refused_second_entry_changes_nothing() -> None:
    def fn():
        manager = js.variable_scope(None, "x")
        with manager:
            with pytest.raises(RuntimeError, match="only once"):
                manager.__enter__()
            inside = here()
        return inside, here(), opened("x")

    assert both(fn) == ("x", "", "x_1")


def test_scopes_close_in_the_reverse_order_of_opening() -> None:
    def fn():
        a, b = js.variable_scope("a"), js.variable_scope("b")
        a.__enter__()
        b.__enter__()
        a.__exit__(None, None, None)

    for error in refused(fn, RuntimeError, "Improper nesting of variable_scope", params={}):
        assert isinstance(error, errors.NestingError)
        assert "'a'" in str(error)
        assert "'a/b'" in str(error)


def test_a_refused_exit_changes_nothing() -> None:
    def fn():
        a, b = js.variable_scope("a", reuse=True), js.variable_scope("b")
        a.__enter__()
        b.__enter__()
        with pytest.raises(RuntimeError, match="Improper nesting"):
            a.__exit__(None, None, None)
        found = [here()]
        b.__exit__(None, None, None)
        found.append(here())
        a.__exit__(None, None, None)
        return [*found, here(), js.get_variable_scope().reuse]

    assert both(fn) == ["a/b", "a", "", False]


def test_a_scope_cannot_be_closed_twice() -> None:
    def fn():
        a = js.variable_scope("a")
        with js.variable_scope("o"):
            with a:
                pass
            a.__exit__(None, None, None)

    refused(fn, RuntimeError, "Improper nesting of variable_scope")


def test_a_scope_that_was_never_entered_cannot_be_closed() -> None:
    def fn():
        with js.variable_scope("o"):
            js.variable_scope("a").__exit__(None, None, None)

    refused(fn, RuntimeError, "Improper nesting of variable_scope")
    with pytest.raises(RuntimeError, match="Improper nesting of variable_scope"):
        js.variable_scope("a").__exit__(None, None, None)


def test_an_exception_restores_the_scope() -> None:
    def fn():
        found = []
        with js.variable_scope("o", initializer=ones) as o:
            try:
                with js.variable_scope("a", reuse=True), js.variable_scope("b"):
                    raise KeyError("inside")
            except KeyError:
                found += [here(), js.get_variable_scope() is o, js.get_variable_scope().reuse]
            make()
        return [*found, here()]

    assert both(fn) == ["o", True, False, ""]
    assert names(fn) == ["o/v"]
    assert spec(fn, "o/v").initializer is ones


def test_a_scope_does_not_swallow_exceptions() -> None:
    def fn():
        with js.variable_scope("a"):
            raise KeyError("mine")

    refused(fn, KeyError, "mine")


def test_an_exception_restores_the_numbers_of_default_names() -> None:
    def fn():
        found = []
        for _ in range(2):
            try:
                with js.variable_scope("p"):
                    found.append(opened("d"))
                    raise KeyError("inside")
            except KeyError:
                pass
        return found

    assert both(fn) == ["p/d", "p/d"]


def test_variables_made_before_an_exception_stay() -> None:
    def fn():
        try:
            with js.variable_scope("a"):
                make()
                raise KeyError("inside")
        except KeyError:
            pass
        with js.variable_scope("a", reuse=True):
            js.get_variable("v")

    assert names(fn) == ["a/v"]


def test_a_refused_option_opens_nothing() -> None:
    def fn():
        with js.variable_scope("o"):
            with pytest.raises(ValueError, match="not callable"):
                js.variable_scope("a", custom_getter=3).__enter__()
            return here(), opened("a")

    assert both(fn) == ("o", "o/a")


def test_the_next_pass_starts_at_the_root_whatever_happened() -> None:
    def leaves_open():
        js.variable_scope("a", reuse=True).__enter__()
        raise KeyError("mine")

    net = js.transform(leaves_open)
    for call in (lambda: net.init(0), lambda: net.apply({}, None), net.specs):
        with pytest.raises(KeyError, match="mine"):
            call()
        with pytest.raises(errors.NoPassError, match="get_variable_scope was called outside"):
            js.get_variable_scope()
        assert both(lambda: (here(), js.get_variable_scope().reuse)) == ("", False)


def test_a_scope_left_open_is_refused_when_the_function_returns() -> None:
    def fn():
        js.variable_scope("a").__enter__()

    net = js.transform(fn)
    for call in (lambda: net.init(0), lambda: net.apply({}, None)):
        with pytest.raises(RuntimeError, match="Improper nesting of variable_scope"):
            call()


def test_a_scope_opened_by_a_suspended_generator_stays_open_for_the_caller() -> None:
    def scoped():
        with js.variable_scope("gen"):
            yield

    def fn():
        generator = scoped()
        next(generator)
        inside = here()
        next(generator, None)
        return inside, here()

    assert both(fn) == ("gen", "")


def test_a_generator_resumed_inside_another_scope_cannot_close_its_own() -> None:
    def scoped():
        with js.variable_scope("gen"):
            yield

    def fn():
        generator = scoped()
        next(generator)
        with js.variable_scope("o"):
            next(generator, None)

    for error in refused(fn, RuntimeError, "Improper nesting of variable_scope", params={}):
        assert "'gen'" in str(error)
        assert "'gen/o'" in str(error)


def test_a_scope_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match="has no truth value"):
        not js.variable_scope("a")
    with pytest.raises(TypeError, match="get_variable_scope"):
        bool(js.variable_scope(None, "a"))


def test_a_scope_is_opened_inside_a_pass_only() -> None:
    manager = js.variable_scope("a")
    with pytest.raises(errors.NoPassError, match="variable_scope was called outside a pass"):
        manager.__enter__()
    with pytest.raises(RuntimeError, match="get_variable_scope was called outside a pass"):
        js.get_variable_scope()


def test_an_entry_refused_outside_a_pass_does_not_use_the_manager_up() -> None:
    manager = js.variable_scope("a")
    with pytest.raises(RuntimeError, match="outside a pass"):
        manager.__enter__()

    def fn():
        with manager:
            return here()

    assert js.transform(fn).apply({}, None) == "a"


# Threads


def in_thread(call: Callable[[], Any]) -> Any:
    found: list[Any] = []

    def run():
        try:
            found.append(call())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_a_new_thread_has_no_pass() -> None:
    def fn():
        with js.variable_scope("a") as scope:
            calls = (
                js.get_variable_scope,
                lambda: js.get_variable("v", [1]),
                lambda: js.variable_scope("b").__enter__(),
                lambda: js.variable_scope(scope).__enter__(),
                scope.reuse_variables,
            )
            found = [type(in_thread(call)) for call in calls]
            return found, here(), scope.reuse

    assert both(fn) == ([errors.NoPassError] * 5, "a", False)


def test_passes_of_two_threads_do_not_see_each_other() -> None:
    meet = threading.Barrier(2, timeout=60)
    found: dict[str, Any] = {}

    def fn(name):
        with js.variable_scope(name, dtype=jnp.float16 if name == "a" else None) as scope:
            meet.wait()
            first = opened("d")
            meet.wait()
            second = opened("d")
            js.get_variable("v", [1])
            meet.wait()
            return first, second, js.get_variable_scope() is scope

    def run(name):
        net = js.transform(lambda: fn(name))
        params = net.init(0)
        found[name] = net.apply(params, None), js.tree.flatten(params)

    threads = [threading.Thread(target=run, args=name) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, dtype in (("a", jnp.float16), ("b", jnp.float32)):
        facts, params = found[name]
        assert facts == (f"{name}/d", f"{name}/d_1", True)
        assert list(params) == [f"{name}/v"]
        assert params[f"{name}/v"].dtype == dtype


# As a decorator


def test_a_decorated_function_runs_in_the_scope() -> None:
    @js.variable_scope("tower", initializer=ones)
    def tower(left, *, right):
        """Doc of tower."""
        make()
        return here(), left, right

    def fn():
        with js.variable_scope("o"):
            return tower(1, right=2), here()

    assert both(fn) == (("o/tower", 1, 2), "o")
    assert names(fn) == ["o/tower/v"]
    assert spec(fn, "o/tower/v").initializer is ones
    assert (tower.__name__, tower.__doc__) == ("tower", "Doc of tower.")


def test_a_decorator_opens_the_scope_anew_at_each_call() -> None:
    @js.variable_scope(None, "tower")
    def tower():
        make()

    def fn():
        tower()
        tower()

    assert names(fn) == ["tower/v", "tower_1/v"]
    assert names(fn) == ["tower/v", "tower_1/v"]


def test_a_decorated_function_called_twice_makes_its_variables_twice() -> None:
    @js.variable_scope("tower")
    def tower():
        make()

    def fn():
        tower()
        tower()

    refused(fn, ValueError, "Variable tower/v already exists")


def test_a_decorator_with_auto_reuse_shares() -> None:
    @js.variable_scope("tower", reuse=js.AUTO_REUSE)
    def tower():
        return js.get_variable("v", [1])

    def fn():
        first = tower()
        return first is tower()

    assert both(fn)


def test_a_decorated_function_can_call_itself() -> None:
    @js.variable_scope("r")
    def recurse(depth):
        make()
        return recurse(depth - 1) if depth else here()

    assert both(lambda: recurse(2)) == "r/r/r"
    assert names(lambda: recurse(2)) == ["r/v", "r/r/v", "r/r/r/v"]


def test_a_decorator_takes_a_scope_object_and_values() -> None:
    def fn():
        with js.variable_scope("a") as a:
            pass

        @js.variable_scope(a, values=[np.ones(2)])
        def inside():
            return here()

        with js.variable_scope("o"):
            return inside(), inside()

    assert both(fn) == ("a", "a")


def test_a_decorator_checks_its_values_at_each_call() -> None:
    value = jnp.ones(2)

    @js.variable_scope("a", values=[value])
    def scoped():
        return here()

    assert both(scoped) == "a"
    value.delete()
    refused(scoped, ValueError, r"values\[0\]")


def test_a_decorator_that_was_used_can_still_be_entered_once() -> None:
    manager = js.variable_scope("a")
    scoped = manager(here)

    def fn():
        manager = js.variable_scope("a")
        scoped = manager(here)
        first = scoped()
        with manager:
            second = here(), scoped()
        return first, second, scoped()

    assert both(fn) == ("a", ("a", "a/a"), "a")
    assert js.transform(scoped).apply({}, None) == "a"


def test_a_decorator_closes_the_scope_on_an_exception() -> None:
    @js.variable_scope("a")
    def fails():
        raise KeyError("inside")

    def fn():
        with pytest.raises(KeyError, match="inside"):
            fails()
        return here()

    assert both(fn) == ""


def test_a_decorated_function_needs_a_pass_when_it_is_called() -> None:
    @js.variable_scope("a")
    def fn():
        return here()

    with pytest.raises(RuntimeError, match="outside a pass"):
        fn()
    assert js.transform(fn).apply({}, None) == "a"


# values


def test_live_values_are_accepted() -> None:
    def fn(x):
        y = x * 2
        values = [x, y, np.ones(2), np.float32(1), 1.0, 3, True, None]
        with js.variable_scope("a", values=values), js.variable_scope(None, "d", [x]) as scope:
            return scope.name

    assert both(fn, jnp.ones(2)) == "a/d"


def test_values_may_be_trees() -> None:
    def fn(x):
        with js.variable_scope("a", values=({"x": x}, [x, (x,)])):
            return here()

    assert both(fn, jnp.ones(2)) == "a"


def test_values_of_an_outer_trace_are_alive_in_an_inner_one() -> None:
    def fn(x):
        found = []

        def inner(y):
            with js.variable_scope("a", values=[x, y]):
                found.append(here())
            return y

        jax.jit(inner)(x)
        jax.grad(lambda y: inner(y).sum())(x)
        jax.vmap(inner)(x)
        jax.lax.scan(lambda carry, y: (carry, inner(y)), x, x)
        return found[:3], set(found)

    assert both(fn, jnp.ones(2)) == (["a"] * 3, {"a"})


def test_a_leaked_tracer_is_refused_with_its_index() -> None:
    leaked = []

    def fn(x):
        with js.variable_scope("a", values=[x, leaked[0]]):
            make()

    with jax.check_tracer_leaks(False):
        jax.jit(lambda x: leaked.append(x) or x)(jnp.ones(2))
        match = r"values\[1\] is a tracer that leaked from a finished trace"
        for error in refused(fn, errors.TransformError, match, jnp.ones(2)):
            assert isinstance(error, ValueError)
            assert error.index == 1
            assert "float32[2]" in str(error)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.checkpoint])
def test_a_tracer_leaked_from_an_inner_transform_is_refused(transform: Any) -> None:
    def fn(x):
        leaked = []
        transform(lambda y: leaked.append(y * 2) or y)(x)
        with js.variable_scope("a", values=leaked):
            make()

    with jax.check_tracer_leaks(False):
        refused(fn, ValueError, r"values\[0\] is a tracer that leaked", jnp.ones(2))


def test_a_leaked_tracer_inside_a_tree_has_the_index_of_the_tree() -> None:
    def fn(x):
        leaked = []
        jax.jit(lambda y: leaked.append(y * 2) or y)(x)
        with js.variable_scope("a", values=[x, x, {"deep": leaked}]):
            make()

    with jax.check_tracer_leaks(False):
        refused(fn, ValueError, r"values\[2\] is a tracer that leaked", jnp.ones(2))


def test_a_refused_value_opens_nothing() -> None:
    dead = jnp.ones(2)
    dead.delete()

    def fn():
        with js.variable_scope("o"):
            with pytest.raises(ValueError, match=r"values\[0\]"):
                js.variable_scope("a", values=[dead]).__enter__()
            return here(), opened("a")

    assert both(fn) == ("o", "o/a")


def test_a_deleted_array_is_refused_with_its_index() -> None:
    dead = jnp.ones([2, 3])
    dead.delete()

    def fn():
        with js.variable_scope("a", values=[jnp.ones(1), np.ones(1), dead]):
            make()

    for error in refused(fn, ValueError, r"values\[2\]"):
        assert isinstance(error, errors.JscopeError)
        assert "deleted" in str(error)
        assert "float32[2,3]" in str(error)


def test_a_value_that_is_no_array_is_refused_with_its_index() -> None:
    def fn():
        with js.variable_scope("a", values=[jnp.ones(1), "text"]):
            make()

    refused(fn, ValueError, r"values\[1\]")


@pytest.mark.parametrize("values", [3, "ab", np.ones(2)])
def test_values_are_a_list_or_a_tuple(values: Any) -> None:
    with pytest.raises(TypeError, match="values must be a list or tuple"):
        js.variable_scope("a", values=values)


# jax.named_scope


def stacks(fn: Callable[..., Any]) -> dict[str, str]:
    """Primitive -> the name scopes around it, in apply."""
    net = js.transform(fn)
    x = jnp.ones(2)
    jaxpr = jax.make_jaxpr(net.apply)(net.init(0, x), None, x)
    return {eqn.primitive.name: str(eqn.source_info.name_stack) for eqn in jaxpr.jaxpr.eqns}


def nested(x):
    with js.variable_scope("a"), js.variable_scope("b/c"):
        x = jnp.sin(x * js.get_variable("w", [2]))
    return jnp.cos(x)


def test_operations_carry_the_scopes_in_the_jaxpr() -> None:
    assert stacks(nested) == {"mul": "a/b/c", "sin": "a/b/c", "cos": ""}


def test_operations_carry_the_scopes_in_compiled_hlo() -> None:
    net = js.transform(nested)
    x = jnp.ones(2)
    text = jax.jit(net.apply).lower(net.init(0, x), None, x).compile().as_text()
    found = set(re.findall(r'op_name="[^"]*?((?:a/b/c/)?(?:mul|sin|cos))"', text))
    assert found == {"a/b/c/mul", "a/b/c/sin", "cos"}


def test_a_default_name_gives_its_number_to_the_name_scope() -> None:
    def fn(x):
        with js.variable_scope(None, "d"):
            x = jnp.sin(x)
        with js.variable_scope(None, "d"):
            return jnp.cos(x)

    assert stacks(fn) == {"sin": "d", "cos": "d_1"}


def test_a_name_scope_goes_on_inside_inner_transforms() -> None:
    def fn(x):
        with js.variable_scope("a"):

            def inner(x):
                with js.variable_scope("b"):
                    return jnp.sin(x * js.get_variable("w", [2]))

            return jax.grad(lambda x: inner(x).sum())(x)

    found = stacks(fn)
    assert found["sin"].startswith("a/")
    assert "b" in found["sin"]


def test_a_jump_opens_a_name_scope_of_its_last_component() -> None:
    def fn(x):
        with js.variable_scope("a/b") as b:
            pass
        with js.variable_scope("o"), js.variable_scope(b):
            return jnp.sin(x)

    assert stacks(fn) == {"sin": "o/b"}


def test_the_root_opens_no_name_scope() -> None:
    def fn(x):
        root = js.get_variable_scope()
        with js.variable_scope(""):
            x = jnp.cos(x)
        with js.variable_scope("o"), js.variable_scope(root):
            return jnp.sin(x)

    assert stacks(fn) == {"cos": "", "sin": "o"}


def test_without_auxiliary_name_scope_only_variables_carry_the_name() -> None:
    def fn(x):
        with js.variable_scope("a"), js.variable_scope("b", auxiliary_name_scope=False):
            with js.variable_scope("c"):
                x = jnp.sin(x * js.get_variable("w", [2]))
            return jnp.cos(x)

    assert names(fn, jnp.ones(2)) == ["a/b/c/w"]
    assert stacks(fn) == {"mul": "a/c", "sin": "a/c", "cos": "a"}


@pytest.mark.parametrize("value", ["x", 2, None])
def test_auxiliary_name_scope_is_a_bool(value: Any) -> None:
    with pytest.raises(TypeError, match="auxiliary_name_scope must be"):
        js.variable_scope("a", auxiliary_name_scope=value)


def test_an_exception_closes_the_name_scope() -> None:
    def fn(x):
        try:
            with js.variable_scope("a"), js.variable_scope("b"):
                raise KeyError("inside")
        except KeyError:
            return jnp.sin(x)

    assert stacks(fn) == {"sin": ""}


def test_a_function_that_fails_leaves_no_name_scope_open() -> None:
    def fn(x):
        js.variable_scope("a").__enter__()
        raise KeyError("mine")

    def outer(x):
        with pytest.raises(KeyError, match="mine"):
            js.transform(fn).apply({}, None, x)
        return jnp.sin(x)

    eqn = jax.make_jaxpr(outer)(jnp.ones(2)).jaxpr.eqns[-1]
    assert str(eqn.source_info.name_stack) == ""


def test_a_decorator_opens_the_name_scope() -> None:
    @js.variable_scope("a")
    def scoped(x):
        return jnp.sin(x)

    assert stacks(lambda x: jnp.cos(scoped(x))) == {"sin": "a", "cos": ""}


def test_the_original_name_scope_is_the_name_with_a_slash() -> None:
    def fn() -> list[str]:
        found = [js.get_variable_scope().original_name_scope]
        with js.variable_scope("a"), js.variable_scope(None, "b") as scope:
            found.append(scope.original_name_scope)
            with jax.named_scope(found[-1]), js.variable_scope(scope) as again:
                found.append(again.original_name_scope)
        return found

    assert js.transform(fn).apply({}, None) == ["", "a/b/", "a/b/"]
    assert js.VariableScope("a").original_name_scope == "a/"


def test_a_block_that_looks_at_the_original_name_scope_is_run_under_each() -> None:
    @js.jit
    def length() -> int:
        return len(js.get_variable_scope().original_name_scope)

    def fn() -> list[int]:
        return [js.variable_scope(name)(length)() for name in ("a", "bcd", "ef")]

    net = js.transform(fn)
    assert [net.apply({}, None) for _ in range(2)] == [[2, 4, 3]] * 2

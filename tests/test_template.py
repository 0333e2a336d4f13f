"""make_template: a function that makes its variables once and shares them afterwards, as in TF1."""

from __future__ import annotations

import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from both import both, names, refused, spec

import jscope as js
from jscope import errors

AUTO = js.AUTO_REUSE
ones = jax.nn.initializers.ones


def make(name: str = "v") -> Any:
    return js.get_variable(name, [1])


# First and later calls


def test_later_calls_share_what_the_first_made() -> None:
    def fn():
        template = js.make_template("s1", make)
        first, second, third = template(), template(), template()
        return first is second, first is third

    assert both(fn) == (True, True)
    assert names(fn) == ["s1/v"]


def test_a_plain_function_called_twice_makes_its_variables_twice() -> None:
    def fn():
        make()
        make()

    refused(fn, ValueError, "Variable v already exists")


def test_two_templates_of_one_name_share_nothing() -> None:
    def fn():
        one = js.make_template("s1", make)
        two = js.make_template("s1", make)
        first, second = one(), two()
        return first is second, one() is first, two() is second

    assert both(fn) == (False, True, True)
    assert names(fn) == ["s1/v", "s1_1/v"]


def test_templates_are_numbered_by_first_call_with_the_other_default_names() -> None:
    def fn():
        one, two = js.make_template("s", make), js.make_template("s", make)
        with js.variable_scope(None, "s"):
            make()
        two()
        one()
        return one.variable_scope.name, two.variable_scope.name

    assert both(fn) == ("s_2", "s_1")
    assert names(fn) == ["s/v", "s_1/v", "s_2/v"]


def test_the_scope_is_that_of_the_first_call() -> None:
    def fn():
        with js.variable_scope("made"):
            template = js.make_template("t", make)
        with js.variable_scope("first"):
            v = template()
        with js.variable_scope("later", reuse=True, initializer=ones, dtype="float16"):
            again = template()
        return v is again, template.variable_scope.name

    assert both(fn) == (True, "first/t")
    assert names(fn) == ["first/t/v"]


def test_create_scope_now_takes_the_scope_of_the_construction() -> None:
    def fn():
        with js.variable_scope("ctor"):
            template = js.make_template("a", make, create_scope_now_=True)
            other = js.make_template("a", make, True)
            before = template.variable_scope.name, other.variable_scope.name
        with js.variable_scope("call"):
            later = js.make_template("b", make)
            return before, template() is template(), [other(), later()] == []

    assert both(fn) == (("ctor/a", "ctor/a_1"), True, False)
    assert names(fn) == ["ctor/a/v", "ctor/a_1/v", "call/b/v"]


def test_create_scope_now_keeps_the_defaults_of_the_scope() -> None:
    def rule(value):
        raise AssertionError

    def fn():
        with js.variable_scope("ctor", dtype="float16", initializer=ones, regularizer=rule):
            template = js.make_template("a", make, create_scope_now_=True)
        with js.variable_scope("call", dtype="bfloat16"):
            template()

    made = spec(fn, "ctor/a/v")
    assert (made.dtype, made.initializer, made.regularizer) == (np.dtype("float16"), ones, rule)


def test_a_template_takes_the_defaults_of_the_first_call() -> None:
    def fn():
        with js.variable_scope("ctor", dtype="float16"):
            template = js.make_template("a", make)
        with js.variable_scope("call", dtype="bfloat16", initializer=ones):
            template()

    made = spec(fn, "call/a/v")
    assert (made.dtype, made.initializer) == (np.dtype(jnp.bfloat16), ones)


def test_create_scope_now_needs_a_pass() -> None:
    with pytest.raises(RuntimeError, match="outside a pass"):
        js.make_template("a", make, create_scope_now_=True)


def test_a_template_is_called_inside_a_pass_only() -> None:
    template = js.make_template("a", make)
    with pytest.raises(errors.NoPassError, match="template was called outside a pass"):
        template()


def test_a_template_made_outside_starts_afresh_in_every_pass() -> None:
    template = js.make_template("t", make)

    def fn():
        before = template.variable_scope
        first = template()
        return before, first is template(), template.variable_scope.name

    for _ in range(2):
        assert both(fn) == (None, True, "t")
        assert names(fn) == ["t/v"]
    assert template.variable_scope is None


def test_a_template_called_in_another_scope_in_the_next_pass_goes_there() -> None:
    template = js.make_template("t", make)

    def fn(name):
        with js.variable_scope(name):
            template()
            template()

    assert names(lambda: fn("a")) == ["a/t/v"]
    assert names(lambda: fn("b")) == ["b/t/v"]


def test_passes_of_two_threads_do_not_share_a_template() -> None:
    meet = threading.Barrier(2, timeout=60)
    found: dict[str, Any] = {}

    def body():
        meet.wait()
        return make()

    template = js.make_template("t", body)

    def fn(name):
        with js.variable_scope(name):
            template()
            template()

    def run(name):
        found[name] = list(js.tree.flatten(js.transform(lambda: fn(name)).init(0)))

    threads = [threading.Thread(target=run, args=name) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"a": ["a/t/v"], "b": ["b/t/v"]}


def test_a_template_shows_its_name() -> None:
    template = js.make_template("tower", make)
    assert template.name == "tower"
    assert "tower" in repr(template)

    def fn():
        template()
        other = js.make_template("tower", make)
        other()
        return template.name, other.name, other.variable_scope.name

    assert both(fn) == ("tower", "tower", "tower_1")


def test_the_scope_of_a_template_can_be_opened() -> None:
    def fn():
        template = js.make_template("t", make)
        v = template()
        with js.variable_scope(template.variable_scope, reuse=True):
            return isinstance(template.variable_scope, js.VariableScope), make() is v

    assert both(fn) == (True, True)


# Arguments


def test_a_template_passes_arguments_and_results() -> None:
    def body(*args, **kwargs):
        make()
        return args, kwargs

    def fn():
        template = js.make_template("t", body, keyword=1, other=2)
        return template(3, 4), template(5, keyword=6)

    assert both(fn) == (((3, 4), {"keyword": 1, "other": 2}), ((5,), {"keyword": 6, "other": 2}))


def test_a_positional_argument_for_a_given_keyword_is_a_type_error() -> None:
    def body(x):
        return x

    def fn():
        js.make_template("t", body, x=1)(2)

    refused(fn, TypeError, "multiple values for argument 'x'")


def test_a_template_needs_a_name() -> None:
    with pytest.raises(ValueError, match=r"^name cannot be None\.$"):
        js.make_template(None, make)


@pytest.mark.parametrize("name", ["", "a b", "a/", "/a"])
def test_a_template_needs_a_valid_name(name: str) -> None:
    with pytest.raises(errors.InvalidNameError, match="is not a valid scope name"):
        js.make_template(name, make)
    with pytest.raises(errors.InvalidNameError, match="is not a valid scope name"):
        js.make_template("t", make, unique_name_=name)


def test_a_template_needs_a_function() -> None:
    with pytest.raises(TypeError, match="func_ must be a function"):
        js.make_template("t", 3)
    with pytest.raises(ValueError, match="Passed a custom_getter which is not callable: 3"):
        js.make_template("t", make, custom_getter_=3)


# unique_name_


def test_a_unique_name_is_not_numbered() -> None:
    def fn():
        with js.variable_scope("u"):
            make("other")
        template = js.make_template("t", make, unique_name_="u")
        return template() is template(), template.name, template.variable_scope.name

    assert both(fn) == (True, "t", "u")
    assert names(fn) == ["u/other", "u/v"]


def test_two_templates_of_one_unique_name_already_exist() -> None:
    def fn():
        js.make_template("s1", make, unique_name_="s1")()
        js.make_template("s1", make, unique_name_="s1")()

    refused(fn, ValueError, "Variable s1/v already exists")


def test_two_templates_of_one_unique_name_share_under_reuse() -> None:
    def fn():
        with js.variable_scope("o", reuse=AUTO):
            first = js.make_template("t", make, unique_name_="s1")()
            return js.make_template("t", make, unique_name_="s1")() is first

    assert both(fn)


# Reuse around a template


def test_templates_rebuilt_in_a_scope_with_auto_reuse_share() -> None:
    def layer():
        with js.variable_scope("m", reuse=AUTO):
            return js.make_template("t", make)()

    def fn():
        first = layer()
        return layer() is first

    assert both(fn)
    assert names(lambda: [layer(), layer()]) == ["m/t/v"]


def test_templates_rebuilt_at_the_root_do_not_share() -> None:
    def fn():
        for _ in range(2):
            js.make_template("t", make)()

    assert names(fn) == ["t/v", "t_1/v"]


def test_a_template_in_a_scope_opened_again_with_reuse_shares() -> None:
    def fn():
        with js.variable_scope("s") as scope:
            first = js.make_template("t", make)()
        with js.variable_scope(scope, reuse=True):
            return js.make_template("t", make)() is first

    assert both(fn)


def test_a_first_call_inside_a_reusing_scope_makes_nothing() -> None:
    def fn():
        with js.variable_scope("x", reuse=True):
            js.make_template("t", make)()

    refused(fn, ValueError, "Variable x/t/v does not exist", params={})


# A later call makes nothing


def grow(counter: list[int]) -> Any:
    counter.append(len(counter))
    return make(f"v{counter[-1]}")


def test_a_later_call_runs_under_reuse() -> None:
    def body():
        make()
        return js.get_variable_scope().reuse

    def fn():
        template = js.make_template("t", body)
        return template(), template(), template()

    assert both(fn) == (False, True, True)


def test_a_later_call_cannot_make_a_variable() -> None:
    def fn():
        counter: list[int] = []
        template = js.make_template("t", grow, counter=counter)
        template()
        template()

    for error in refused(fn, errors.VariableNotFoundError, "Variable t/v1 does not exist"):
        assert isinstance(error, ValueError)


def test_a_later_call_cannot_make_a_variable_under_auto_reuse_either() -> None:
    def body(counter):
        with js.variable_scope("x", reuse=AUTO):
            return grow(counter)

    def fn():
        template = js.make_template("t", body, counter=[])
        template()
        template()

    refused(fn, errors.VariableNotFoundError, "Variable t/x/v1 does not exist")


def test_a_later_call_cannot_make_a_variable_in_a_jump_either() -> None:
    def body(counter, root):
        with js.variable_scope(root):
            return grow(counter)

    def fn():
        template = js.make_template("t", body, counter=[], root=js.get_variable_scope())
        template()
        template()

    refused(fn, errors.VariableNotFoundError, "Variable v1 does not exist")


def test_a_later_call_cannot_make_a_variable_by_a_getter_either() -> None:
    def sharing(getter, name, reuse, **kwargs):
        return getter(name, reuse=AUTO, **kwargs)

    def fn():
        template = js.make_template("t", grow, custom_getter_=sharing, counter=[])
        template()
        template()

    refused(fn, errors.VariableNotFoundError, "Variable t/v1 does not exist")


def test_a_template_first_called_in_a_later_call_makes_nothing() -> None:
    def fn():
        inner = js.make_template("inner", make)
        calls = []

        def body():
            calls.append(None)
            return inner() if len(calls) > 1 else make("w")

        template = js.make_template("t", body)
        template()
        template()

    refused(fn, errors.VariableNotFoundError, "Variable t/inner/v does not exist")


def test_variables_can_be_made_again_after_a_later_call() -> None:
    def fn():
        template = js.make_template("t", make)
        template()
        template()
        make("after")

    assert names(fn) == ["t/v", "after"]


def test_variables_can_be_made_again_after_a_later_call_that_failed() -> None:
    def body(counter):
        return grow(counter)

    def fn():
        template = js.make_template("t", body, counter=[])
        template()
        with pytest.raises(ValueError, match="does not exist"):
            template()
        make("after")

    assert names(fn) == ["t/v0", "after"]


def test_default_names_inside_a_template_are_numbered_alike_in_every_call() -> None:
    def body():
        found = []
        for _ in range(2):
            with js.variable_scope(None, "layer"):
                found.append(make())
        return found

    def fn():
        template = js.make_template("t", body)
        first, second = template(), template()
        return [a is b for a, b in zip(first, second, strict=True)]

    assert both(fn) == [True, True]
    assert names(fn) == ["t/layer/v", "t/layer_1/v"]


# Templates in templates


def test_templates_made_in_every_call_of_a_template_are_shared() -> None:
    def body():
        return [js.make_template("n", make)() for _ in range(2)]

    def fn():
        template = js.make_template("t", body)
        first, second = template(), template()
        return first[0] is second[0], first[1] is second[1], first[0] is first[1]

    assert both(fn) == (True, True, False)
    assert names(fn) == ["t/n/v", "t/n_1/v"]


def test_a_template_called_in_another_lives_where_it_was_first_called() -> None:
    def fn():
        inner = js.make_template("inner", make)
        outer = js.make_template("outer", lambda: inner())
        first = outer()
        return outer() is first, inner() is first

    assert both(fn) == (True, True)
    assert names(fn) == ["outer/inner/v"]


def test_two_templates_may_call_a_third() -> None:
    def fn():
        shared = js.make_template("shared", make)
        one = js.make_template("one", lambda: (make("own"), shared()))
        two = js.make_template("two", lambda: (make("own"), shared()))
        found = one(), two(), one(), two()
        return [pair[1] is found[0][1] for pair in found]

    assert both(fn) == [True] * 4
    assert names(fn) == ["one/own", "one/shared/v", "two/own"]


def test_a_template_may_call_itself() -> None:
    def fn():
        def body(depth):
            v = make()
            if depth:
                assert template(depth - 1) is v
            return v

        template = js.make_template("t", body)
        return template(3) is template(1)

    assert both(fn)
    assert names(fn) == ["t/v"]


def test_the_inner_call_of_a_recursion_makes_nothing() -> None:
    def fn():
        def body(depth):
            make(f"v{depth}")
            if depth:
                template(depth - 1)

        template = js.make_template("t", body)
        template(1)

    held = {"t": {"v1": jnp.ones(1)}}
    refused(fn, errors.VariableNotFoundError, "Variable t/v0 does not exist", params=held)


# A first call that failed


def failing(times: int, before: Any = None) -> Any:
    """A function that fails ``times`` times, after ``before``, and then makes a variable."""
    left = [times]

    def body():
        if before is not None:
            before()
        if left[0]:
            left[0] -= 1
            raise KeyError("mine")
        return make()

    return body


def retried(template: Any) -> None:
    with pytest.raises(KeyError, match="mine"):
        template()


def test_a_first_call_that_failed_at_once_can_be_tried_again() -> None:
    def fn():
        template = js.make_template("t", failing(2))
        retried(template)
        retried(template)
        return template() is template(), template.variable_scope.name

    assert both(fn) == (True, "t")
    assert names(fn) == ["t/v"]


def test_a_first_call_that_failed_may_request_the_same_again() -> None:
    def fn():
        template = js.make_template("t", failing(1, before=lambda: make("w")))
        retried(template)
        return template() is template(), template.variable_scope.name

    assert both(fn) == (True, "t")
    assert names(fn) == ["t/w", "t/v"]


def test_a_first_call_that_failed_may_request_default_names_again() -> None:
    def before():
        with js.variable_scope(None, "layer"):
            make()

    def fn():
        template = js.make_template("t", failing(1, before))
        retried(template)
        template()

    assert names(fn) == ["t/layer/v", "t/v"]


def test_a_first_call_that_failed_leaves_no_scopes_behind() -> None:
    def fn():
        parts = iter(["v/part", "v/deep/part"])  # in the first call only
        template = js.make_template("t", failing(1, before=lambda: [make(part) for part in parts]))
        retried(template)
        template()

    assert list(js.transform(fn).specs()) == ["t/v"]
    assert list(js.tree.flatten(js.transform(fn).init(0))) == ["t/v"]


def test_a_first_call_that_failed_leaves_the_scopes_that_were_there() -> None:
    def fn():
        make("t/v/part")
        template = js.make_template("t", failing(1, before=lambda: make("v/other")))
        retried(template)
        js.get_variable("t/v", [1])

    with pytest.raises(
        errors.NameClashError, match="t/v would be a variable and also the scope of t/v/part"
    ):
        js.transform(fn).init(0)


def test_a_first_call_that_failed_may_call_its_inner_templates_again() -> None:
    def fn():
        inner = js.make_template("inner", make)
        template = js.make_template("t", failing(1, before=inner))
        retried(template)
        template()
        return template() is template(), inner.variable_scope.name

    assert both(fn) == (True, "t/inner")
    assert names(fn) == ["t/inner/v", "t/v"]


def test_a_first_call_that_failed_keeps_inner_templates_that_were_called_before() -> None:
    def fn():
        inner = js.make_template("inner", make)
        first = inner()
        template = js.make_template("t", failing(1, before=inner))
        retried(template)
        template()
        return inner() is first

    assert both(fn)
    assert names(fn) == ["inner/v", "t/v"]


def test_a_first_call_that_failed_is_no_reason_to_share_by_accident() -> None:
    def fn():
        make("w")
        template = js.make_template("t", failing(1, before=lambda: make("v2")))
        retried(template)
        template()
        make("w")

    refused(fn, errors.VariableExistsError, "Variable w already exists")


def test_a_retry_may_come_from_another_scope() -> None:
    def fn():
        template = js.make_template("t", failing(1, before=lambda: make("w")))
        with js.variable_scope("a"):
            retried(template)
        with js.variable_scope("b"):
            template()

    assert names(fn) == ["a/t/w", "a/t/v"]


def test_a_later_call_that_failed_changes_nothing() -> None:
    def body(fail):
        v = make()
        if fail:
            raise KeyError("mine")
        return v

    def fn():
        template = js.make_template("t", body)
        first = template(False)
        with pytest.raises(KeyError, match="mine"):
            template(True)
        return template(False) is first

    assert both(fn)
    assert names(fn) == ["t/v"]


def test_a_failed_call_restores_the_scope() -> None:
    def fn():
        template = js.make_template("t", failing(1))
        with js.variable_scope("o"):
            retried(template)
            return js.get_variable_scope().name, js.get_variable_scope().reuse

    assert both(fn) == ("o", False)


# Errors tell where the template was made


def noted(error: BaseException) -> list[str]:
    return [note for note in error.__notes__ if "originally defined at" in note]


def test_an_error_of_the_first_call_tells_where_the_template_was_made() -> None:
    def fn():
        template = js.make_template("t", failing(9))
        template()

    for error in refused(fn, KeyError, "mine", params={}):
        assert error.args == ("mine",)
        (note,) = noted(error)
        line = fn.__code__.co_firstlineno + 1
        assert f"test_template.py:{line} in fn" in note


def test_an_error_of_a_later_call_tells_where_the_template_was_made() -> None:
    def fn():
        template = js.make_template("t", grow, counter=[])
        template()
        template()

    for error in refused(fn, ValueError, "Variable t/v1 does not exist"):
        (note,) = noted(error)
        line = fn.__code__.co_firstlineno + 1
        assert f"test_template.py:{line} in fn" in note


def test_the_note_of_a_template_made_outside_a_pass_tells_where() -> None:
    template = js.make_template("t", failing(9))

    for error in refused(lambda: template(), KeyError, "mine", params={}):
        (note,) = noted(error)
        assert "test_template.py" in note
        assert "test_the_note_of_a_template_made_outside_a_pass_tells_where" in note


def test_an_error_inside_nested_templates_tells_of_both() -> None:
    def fn():
        inner = js.make_template("inner", failing(9))
        outer = js.make_template("outer", inner)
        outer()

    for error in refused(fn, KeyError, "mine", params={}):
        first, second = noted(error)
        line = fn.__code__.co_firstlineno
        assert f"test_template.py:{line + 1} in fn" in first
        assert f"test_template.py:{line + 2} in fn" in second


def test_an_error_inside_a_recursion_tells_once_of_the_template() -> None:
    def fn():
        def body(depth):
            make()
            if not depth:
                raise KeyError("mine")
            template(depth - 1)

        template = js.make_template("t", body)
        template(3)

    for error in refused(fn, KeyError, "mine", params={"t": {"v": jnp.ones(1)}}):
        assert len(noted(error)) == 1


# Getters


def test_the_getter_of_a_template_is_around_that_of_the_enclosing_scope() -> None:
    log: list[str] = []

    def tagged(tag):
        def getter(getter, name, **kwargs):
            log.append(">" + tag)
            value = getter(name + "_" + tag, **kwargs)
            log.append("<" + tag)
            return value

        return getter

    def fn():
        log.clear()
        with js.variable_scope("o", custom_getter=tagged("enclosing")):
            template = js.make_template("t", make, custom_getter_=tagged("template"))
            template()
        called = " ".join(log)
        log.clear()
        template()
        return called, " ".join(log)

    order = ">template >enclosing <enclosing <template"
    assert both(fn) == (order, order)
    assert names(fn) == ["o/t/v_template_enclosing"]


def test_the_getter_of_a_template_is_used_with_create_scope_now() -> None:
    def rename(getter, name, **kwargs):
        return getter(name + "_got", **kwargs)

    def fn():
        template = js.make_template("t", make, create_scope_now_=True, custom_getter_=rename)
        template()
        template()

    assert names(fn) == ["t/v_got"]


# Templates and JAX's transforms


def test_a_template_works_inside_inner_transforms() -> None:
    def fn(x):
        template = js.make_template("t", lambda x: x * make().sum())
        found = jax.jit(template)(x) + jax.checkpoint(template)(x)
        found += jax.grad(lambda x: template(x).sum())(x) + jax.vmap(template)(x)
        _, rows = jax.lax.scan(lambda carry, row: (carry, template(row)), 0.0, x)
        return found + rows

    x = jnp.ones(2)
    assert names(fn, x) == ["t/v"]
    net = js.transform(fn)
    params = net.init(0, x)
    np.testing.assert_allclose(net.apply(params, None, x), 5 * params["t"]["v"] * x, rtol=1e-6)


def test_the_branches_of_a_cond_share_a_template() -> None:
    def fn(x):
        template = js.make_template("t", lambda x: x * make().sum())
        return jax.lax.cond(x.sum() > 0, template, lambda x: template(-x), x)

    x = jnp.ones(2)
    assert names(fn, x) == ["t/v"]
    net = js.transform(fn)
    params = net.init(0, x)
    for y in (x, -x):
        np.testing.assert_allclose(net.apply(params, None, y), params["t"]["v"] * x, rtol=1e-6)


def test_variables_made_in_control_flow_are_made_once() -> None:
    def fn(x):
        def branch(name):
            def body(x):
                with js.variable_scope(name):
                    return x * make().sum()

            return body

        x = jax.lax.cond(x.sum() > 0, branch("yes"), branch("no"), x)
        x = jax.lax.fori_loop(0, 3, lambda i, x: branch("loop")(x), x)
        return jax.lax.map(branch("map"), x)

    x = jnp.ones(2)
    assert names(fn, x) == ["yes/v", "no/v", "loop/v", "map/v"]

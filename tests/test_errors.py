"""Every error by its whole text; bad input gets one of ours; all of them pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import errors

X = jnp.ones([2, 3])


def dense(x: jax.Array, units: int) -> jax.Array:
    return x @ js.get_variable("w", [x.shape[-1], units])


def report(error: BaseException) -> str:
    """The text, with line numbers and this file's path taken out."""
    return re.sub(r"\S*test_errors\.py:\d+", "FILE:N", str(error))


def raised(program: Callable[..., Any], *args: Any) -> errors.JscopeError:
    with pytest.raises(errors.JscopeError) as caught:
        js.transform(program).init(0, *args)
    return caught.value


def raised_in_apply(program: Callable[..., Any], params: Any, *args: Any) -> errors.JscopeError:
    with pytest.raises(errors.JscopeError) as caught:
        js.transform(program).apply(params, None, *args)
    return caught.value


def test_variable_exists() -> None:
    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("net"):
            return dense(x, 4) + dense(x, 4)

    error = raised(program, X)
    assert type(error) is errors.VariableExistsError
    assert report(error) == (
        "Variable net/w already exists, disallowed. Did you mean to set reuse=True or "
        "reuse=jscope.AUTO_REUSE in VarScope?\n"
        "  first:  float32[3,4] at FILE:N in dense < FILE:N in program\n"
        "  again:  at FILE:N in dense < FILE:N in program (the same place, reached again)\n"
        "  fix:    to share it, open the scope with reuse=True or jscope.AUTO_REUSE; to make "
        "another variable, use another name or another variable_scope."
    )
    assert error.name == "net/w"
    assert [site.function for site in error.first] == ["dense", "program"]
    assert error.first[0].file == __file__


def test_at_most_three_frames_are_shown_and_five_kept() -> None:
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        else:
            js.get_variable("w", [1])
            js.get_variable("w", [1])

    error = raised(lambda: deep(7))
    assert isinstance(error, errors.VariableExistsError)
    assert report(error).splitlines()[1] == (
        "  first:  float32[1] at FILE:N in deep < FILE:N in deep < FILE:N in deep"
    )
    assert len(error.first) == len(error.again) == 5
    assert error.first[0].line + 1 == error.again[0].line


def test_variable_not_found_under_reuse() -> None:
    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("encoder"):
            dense(x, 4)
        with js.variable_scope("encodr", reuse=True):
            return dense(x, 4)

    error = raised(program, X)
    assert type(error) is errors.VariableNotFoundError
    assert report(error) == (
        "Variable encodr/w does not exist, or was not created with get_variable(). Did you mean to "
        "set reuse=jscope.AUTO_REUSE in VarScope?\n"
        "  asked:  at FILE:N in dense < FILE:N in program\n"
        "  near:   'encoder/w'\n"
        "  fix:    make the variable before the scope that reuses it, correct the name, or use "
        "jscope.AUTO_REUSE. A function that takes its params from another's init has no need of "
        "init: call apply."
    )
    assert error.near == ("encoder/w",)


def test_variable_not_in_params() -> None:
    error = raised_in_apply(lambda x: dense(x, 4), {"v": jnp.ones([3, 4])}, X)
    assert type(error) is errors.VariableNotFoundError
    assert report(error) == (
        "Variable w does not exist in the params given to apply.\n"
        "  asked:  at FILE:N in dense < FILE:N in <lambda>\n"
        "  fix:    give params of this function's init; jscope.check(params, specs) lists every "
        "difference at once."
    )


def scoped(x: jax.Array) -> jax.Array:
    with js.variable_scope("net"):
        return dense(x, 4)


def test_params_with_a_level_too_many() -> None:
    params = js.transform(scoped).init(0, X)
    error = raised_in_apply(scoped, {"params": params}, X)
    assert report(error) == (
        "Variable net/w does not exist in the params given to apply.\n"
        "  asked:  at FILE:N in dense < FILE:N in scoped\n"
        "  near:   'params/net/w'\n"
        "  fix:    there is a level too many: give params['params']."
    )


def test_params_with_a_level_missing() -> None:
    params = js.transform(scoped).init(0, X)
    error = raised_in_apply(scoped, params["net"], X)
    assert report(error) == (
        "Variable net/w does not exist in the params given to apply.\n"
        "  asked:  at FILE:N in dense < FILE:N in scoped\n"
        "  near:   'w'\n"
        "  fix:    a level is missing: give params in which 'net' holds what was given."
    )


def test_params_where_a_scope_should_be_an_array_and_the_reverse() -> None:
    fix = (
        "  fix:    give params of this function's init, with neither a level more nor a level less; "
        "jscope.check(params, specs) lists every difference at once."
    )
    error = raised_in_apply(scoped, {"net": {"w": {"w": X}}}, X)
    assert type(error) is errors.NameClashError
    assert report(error) == (
        "Variable net/w cannot be read: in the params given to apply it is a scope (a mapping).\n"
        "  asked:  at FILE:N in dense < FILE:N in scoped\n" + fix
    )
    error = raised_in_apply(scoped, {"net": X}, X)
    assert type(error) is errors.NameClashError
    assert report(error) == (
        "Variable net/w cannot be read: in the params given to apply a scope on its path is "
        "an array.\n  asked:  at FILE:N in dense < FILE:N in scoped\n" + fix
    )


def test_params_that_are_no_mapping() -> None:
    error = raised_in_apply(scoped, [X], X)
    assert type(error) is errors.TreeTypeError
    assert report(error) == (
        "params must be a nested mapping of names to arrays, got list.\n"
        "  fix:    pass what init returned, or any nested mapping of names to arrays."
    )
    error = raised_in_apply(scoped, ({}, {}), X)
    assert report(error) == (
        "params must be a nested mapping of names to arrays, got tuple.\n"
        "  fix:    a pair (params, state) goes to a network of jscope.transform_with_state; this "
        "one takes params alone."
    )


def test_params_that_hold_no_arrays() -> None:
    error = raised_in_apply(scoped, {"net": {"w": "zeros"}}, X)
    assert type(error) is errors.TreeTypeError
    assert report(error) == (
        "The value of 'net/w' in the params given to apply is not an array but str.\n"
        "  fix:    pass arrays: jax.Array, NumPy or Python numbers."
    )


def test_variable_mismatch() -> None:
    def program(x: jax.Array) -> jax.Array:
        dense(x, 4)
        js.get_variable_scope().reuse_variables()
        return dense(x, 5)

    error = raised(program, X)
    assert type(error) is errors.VariableMismatchError
    assert report(error) == (
        "Trying to share variable w, but specified shape (3, 5) and found shape (3, 4).\n"
        "  first:  float32[3,4] at FILE:N in dense < FILE:N in program\n"
        "  again:  at FILE:N in dense < FILE:N in program\n"
        "  fix:    ask for shape (3, 4), or open another scope."
    )
    assert (error.what, error.asked, error.found) == ("shape", (3, 5), (3, 4))


def test_params_of_another_shape_or_dtype() -> None:
    error = raised_in_apply(scoped, {"net": {"w": jnp.ones([3])}}, X)
    assert type(error) is errors.VariableMismatchError
    assert report(error) == (
        "Trying to share variable net/w, but specified shape (3, 4) and found shape (3,).\n"
        "  first:  float32[3] in the params given to apply\n"
        "  again:  at FILE:N in dense < FILE:N in scoped\n"
        "  fix:    give params whose shape is (3, 4), or ask for (3,)."
    )
    error = raised_in_apply(
        lambda: js.get_variable("w", [1], jnp.float32), {"w": jnp.ones([1], jnp.int32)}
    )
    assert report(error) == (
        "Trying to share variable w, but specified dtype float32 and found dtype int32.\n"
        "  first:  int32[1] in the params given to apply\n"
        "  again:  at FILE:N in <lambda>\n"
        "  fix:    give params whose dtype is float32, or ask for int32."
    )


def test_name_clash() -> None:
    def program() -> None:
        js.get_variable("a", [1])
        with js.variable_scope("a"):
            js.get_variable("b", [1])

    error = raised(program)
    assert type(error) is errors.NameClashError
    assert report(error) == (
        "Variable a/b cannot be made: a would be a variable and also the scope of a/b.\n"
        "  first:  a at FILE:N in program\n"
        "  again:  a/b at FILE:N in program\n"
        "  fix:    rename one of the two; params are a nested dict, where one key holds an array or "
        "a scope."
    )

    def reverse() -> None:
        js.get_variable("a/b/c", [1])
        js.get_variable("a", [1])

    assert report(raised(reverse)).splitlines()[0] == (
        "Variable a cannot be made: a would be a variable and also the scope of a/b/c."
    )


@pytest.mark.parametrize("name", ["", "a//b", "/v", "v/"])
def test_empty_components(name: str) -> None:
    error = raised(lambda: js.get_variable(name, [1]))
    assert type(error) is errors.InvalidNameError
    assert report(error) == (
        f"{name!r} is not a valid variable name: it has an empty component.\n"
        "  fix:    use letters, digits and _ . \\ > - , with single slashes between components."
    )


@pytest.mark.parametrize("name", ["a b", "a:0", "é", "a+b", "a/b c"])
def test_bad_characters(name: str) -> None:
    error = raised(lambda: js.get_variable(name, [1]))
    assert type(error) is errors.InvalidNameError
    assert report(error) == (
        f"{name!r} is not a valid variable name: each component between slashes has to match "
        "[A-Za-z0-9_.\\\\>-]+.\n"
        "  fix:    use letters, digits and _ . \\ > - , with single slashes between components."
    )


def test_names_of_the_wrong_type() -> None:
    error = raised(lambda: js.get_variable(3, [1]))
    assert isinstance(error, TypeError)
    assert isinstance(error, errors.InvalidNameError)
    assert report(error) == "The name of a variable must be a string, got 3 of type int."
    with pytest.raises(TypeError, match=r"^VariableScope: name_or_scope must be a string or Var"):
        js.variable_scope(3)
    with pytest.raises(TypeError, match=r"^If default_name is None then name_or_scope is req"):
        js.variable_scope(None)


def test_reuse_errors() -> None:
    with pytest.raises(errors.ReuseError) as caught:
        js.variable_scope("a", reuse=1)
    assert str(caught.value) == (
        "The reuse parameter must be True or False or None.\n"
        "  asked:  1\n"
        "  fix:    pass True, False, None or jscope.AUTO_REUSE."
    )
    with pytest.raises(errors.ReuseError) as caught:
        js.variable_scope(None, "dense", reuse=js.AUTO_REUSE)
    assert str(caught.value) == (
        "reuse=True cannot be used without a name_or_scope\n"
        "  asked:  reuse=jscope.AUTO_REUSE with default_name='dense', which always opens a scope "
        "that is new\n"
        "  fix:    name the scope, variable_scope('dense', reuse=...)."
    )


def returns(value: Any) -> Callable[..., Any]:
    def initializer(key: Any, shape: Any, dtype: Any) -> Any:
        return value

    return initializer


AT = "\n  asked:  w at FILE:N in <lambda>\n  fix:    "
WRONG = (
    "returns.<locals>.initializer is called as f(key, shape, dtype) and must return an array of "
)

INITIALIZERS: dict[str, tuple[Callable[[], Any], type[errors.JscopeError], str]] = {
    "no shape": (
        lambda: js.get_variable("w"),
        errors.InitializerError,
        "Variable w did not get an initializer, so its `shape` argument must be specified."
        + AT
        + "give a shape of integers, such as [3, 4].",
    ),
    "no shape for a function": (
        lambda: js.get_variable("w", initializer=jax.nn.initializers.zeros),
        errors.InitializerError,
        "The initializer passed is not valid. It should be a callable f(key, shape, dtype), and "
        "`shape` of variable w should be fully defined."
        + AT
        + "give a shape of integers, such as [3, 4].",
    ),
    "no default": (
        lambda: js.get_variable("w", [1], jnp.complex64),
        errors.InitializerError,
        "An initializer for variable w of complex64 is required"
        + AT
        + "pass initializer=f(key, shape, dtype); floats, integers and bools have a default.",
    ),
    "negative dimension": (
        lambda: js.get_variable("w", [2, -1]),
        errors.InitializerError,
        "Dimension -1 must be >= 0" + AT + "give a shape of sizes.",
    ),
    "float dimension": (
        lambda: js.get_variable("w", [2.0]),
        errors.InitializerTypeError,
        "Dimension value must be integer or None or have an __index__ method, got value '2.0' with "
        "type '<class 'float'>'"
        + AT
        + "give a shape of integers, such as [3, 4]; shapes are static in JAX.",
    ),
    "constant and another shape": (
        lambda: js.get_variable("w", [2], initializer=np.zeros(3, np.float32)),
        errors.InitializerError,
        "If initializer is a constant, do not specify shape. Specified shape (2,) and the constant "
        "has shape (3,)."
        + AT
        + "leave the shape out, give the constant's, or pass a function, such as "
        "jax.nn.initializers.constant(value).",
    ),
    "constant and another dtype": (
        lambda: js.get_variable("w", dtype=jnp.float32, initializer=np.int32(3)),
        errors.InitializerError,
        "Initializer type 'int32' and explicit dtype 'float32' don't match."
        + AT
        + "cast the constant, or ask for dtype int32.",
    ),
    "a string": (
        lambda: js.get_variable("w", [2], initializer="zeros"),
        errors.InitializerTypeError,
        "The initializer passed is not valid. Variable w got 'zeros' of type str."
        + AT
        + "pass a function f(key, shape, dtype), such as jax.nn.initializers.zeros, or a constant "
        "(an array or a number).",
    ),
    "a dict": (
        lambda: js.get_variable("w", [2], initializer={}),
        errors.InitializerTypeError,
        "The initializer passed is not valid. Variable w got {} of type dict."
        + AT
        + "pass a function f(key, shape, dtype), such as jax.nn.initializers.zeros, or a constant "
        "(an array or a number).",
    ),
    "unknown dtype": (
        lambda: js.get_variable("w", [2], "float33"),
        errors.InitializerTypeError,
        "Cannot convert 'float33' to a dtype of JAX."
        + AT
        + "pass a dtype such as jnp.float32, 'bfloat16' or np.int32.",
    ),
    "wrong shape returned": (
        lambda: js.get_variable("w", [2], initializer=returns(jnp.ones(3))),
        errors.InitializerError,
        "The initializer of variable w returned float32[3], not float32[2]."
        + AT
        + WRONG
        + "that shape and dtype.",
    ),
    "wrong dtype returned": (
        lambda: js.get_variable("w", [2], initializer=returns(jnp.ones(2, jnp.int32))),
        errors.InitializerError,
        "The initializer of variable w returned int32[2], not float32[2]."
        + AT
        + WRONG
        + "that shape and dtype.",
    ),
    "a factory not called": (
        lambda: js.get_variable("w", [2], initializer=returns(jnp.tanh)),
        errors.InitializerError,
        "The initializer of variable w returned a function, not float32[2]."
        + AT
        + "returns.<locals>.initializer makes initializers: call it, and pass what it returns.",
    ),
    "not trainable": (
        lambda: js.get_variable("w", [2], trainable=False),
        errors.StateError,
        "Variable w is not trainable, and jscope.transform keeps only trainable ones.\n"
        "  asked:  at FILE:N in <lambda>\n"
        "  fix:    use jscope.transform_with_state, which returns (params, state); or make the "
        "variable trainable.",
    ),
}


@pytest.mark.parametrize("case", INITIALIZERS)
def test_variables_that_cannot_be_made(case: str) -> None:
    program, kind, text = INITIALIZERS[case]
    error = raised(program)
    assert type(error) is kind
    assert report(error) == text


def test_initial_values_on_the_wrong_side_of_a_transform() -> None:
    def inner(x: jax.Array) -> jax.Array:
        return jax.vmap(lambda row: row + js.get_variable("w", initializer=row.mean()))(x)

    error = raised(inner, X)
    assert type(error) is errors.InitializerError
    assert report(error) == (
        "The initial value of variable w was computed inside an inner JAX transform, and cannot get "
        "out of it.\n"
        "  asked:  w at FILE:N in <lambda> < FILE:N in inner\n"
        "  fix:    compute it before the transform (jit, checkpoint, scan, vmap, ...), or pass a "
        "function f(key, shape, dtype) that uses no value of the transform."
    )

    leaked: list[jax.Array] = []
    jax.jit(lambda x: leaked.append(x))(X)
    error = raised(lambda: js.get_variable("w", initializer=leaked[0]))
    assert report(error) == (
        "The initial value of variable w is a tracer that leaked from a finished trace."
        + AT
        + "compute the value inside this function, or pass a concrete array."
    )

    def program(batch: dict[str, jax.Array]) -> jax.Array:
        return js.get_variable("w", initializer=-batch["x"].mean(0))

    with pytest.raises(errors.InitializerError) as caught:
        js.transform(program).init(0, {"x": jax.ShapeDtypeStruct([2, 3], jnp.float32)})
    assert report(caught.value) == (
        "The initial value of variable w is computed from the argument args[0]['x'], which was "
        "given as a jax.ShapeDtypeStruct.\n"
        "  asked:  w at FILE:N in program\n"
        "  fix:    pass a real array for it to init."
    )


def test_leaked_tracers_in_params_and_values() -> None:
    leaked: list[jax.Array] = []
    jax.jit(lambda x: leaked.append(x))(X)
    error = raised_in_apply(lambda: js.get_variable("w", [2, 3]), {"w": leaked[0]})
    assert type(error) is errors.TransformError
    assert report(error) == (
        "The value of variable w in the params given to apply is a tracer that leaked from a "
        "finished trace.\n"
        "  asked:  at FILE:N in <lambda>\n"
        "  fix:    return params from the transformed function instead of storing them."
    )

    def program() -> None:
        with js.variable_scope("a", values=[X, leaked[0]]):
            pass

    error = raised(program)
    assert type(error) is errors.TransformError
    assert report(error) == (
        "values[1] is a tracer that leaked from a finished trace.\n"
        "  value:  float32[2,3]\n"
        "  fix:    return the value from the transformed function instead of storing it."
    )


def stateful(program: Callable[..., Any], *args: Any) -> errors.JscopeError:
    with pytest.raises(errors.JscopeError) as caught:
        js.transform_with_state(program).init(0, *args)
    return caught.value


def draw(x: jax.Array) -> jax.Array:
    return x + jax.random.normal(js.next_rng_key(), x.shape)


def count(x: jax.Array) -> jax.Array:
    js.get_variable("net/calls", initializer=0, trainable=False)
    js.assign_add("net/calls", 1)
    return x


FUNCTIONALIZE = (
    "wrap the function, pure, carry = jscope.functionalize(fn), pass the carry through the "
    "transform, and write it back, jscope.put_carry(carry)."
)


def test_draws_inside_raw_transforms() -> None:
    error = raised(lambda x: jax.lax.map(draw, x), X)
    assert type(error) is errors.TransformError
    assert error.transform == "jax.lax.map"
    assert report(error) == (
        "A random key cannot be drawn inside raw jax.lax.map: every run of the function would get "
        "the same one.\n"
        "  asked:  at FILE:N in draw < FILE:N in <lambda>\n"
        "  fix:    use jscope.map, which takes the same arguments and gives every run keys of its "
        "own."
    )
    error = raised(lambda x: jax.lax.associative_scan(lambda a, b: a + draw(b), x), X)
    assert (
        report(error)
        .splitlines()[0]
        .startswith("A random key cannot be drawn inside raw jax.lax.associative_scan: ")
    )
    assert report(error).endswith(f"  fix:    {FUNCTIONALIZE}")


def test_assignments_inside_raw_transforms() -> None:
    error = stateful(lambda x: jax.checkpoint(count)(x), X)
    assert type(error) is errors.TransformError
    assert (error.name, error.transform) == ("net/calls", "jax.checkpoint")
    assert report(error) == (
        "Variable net/calls cannot be assigned inside raw jax.checkpoint: the value could not get "
        "out of it.\n"
        "  asked:  at FILE:N in count < FILE:N in <lambda>\n"
        "  fix:    use jscope.checkpoint, which takes the same arguments and carries state."
    )
    error = stateful(lambda x: jax.vjp(count, x), X)
    assert report(error).endswith(f"  fix:    {FUNCTIONALIZE}")
    error = stateful(lambda x: jax.named_call(count, name="n")(x), X)
    assert report(error).endswith(
        "  fix:    open `with jax.named_scope(name):` instead, which is no function of its own."
    )
    error = stateful(lambda x: js.vmap(count)(x), X)
    assert report(error) == (
        "Variable net/calls cannot be assigned inside jscope.vmap(variables='share'): every "
        "instance would assign a value of its own.\n"
        "  asked:  at FILE:N in count < FILE:N in <lambda>\n"
        "  fix:    return the values and assign one outside, or use "
        "jscope.vmap(variables='split'), where each instance has variables of its own."
    )

    def put(x: jax.Array) -> jax.Array:
        _, carry = js.functionalize(count)
        return jax.checkpoint(lambda y: js.put_carry(carry) or y)(x)

    assert report(stateful(put, X)) == (
        "A carry cannot be put back inside jax.checkpoint: its state could not get out.\n"
        "  asked:  at FILE:N in <lambda> < FILE:N in put\n"
        "  fix:    return the carry from the transformed function, and put what the transform "
        "returns."
    )


def test_variables_that_cannot_be_assigned() -> None:
    def trainable() -> None:
        js.get_variable("w", [1])
        js.assign("w", 0.0)

    assert report(stateful(trainable)) == (
        "Variable w is trainable, so it cannot be assigned.\n"
        "  first:  at FILE:N in trainable\n"
        "  asked:  at FILE:N in trainable\n"
        "  fix:    make it with get_variable(name, ..., trainable=False). What an optimizer trains "
        "is changed outside: return {name: value} from the function, and pass it to "
        "jscope.tree.update(params, ...)."
    )

    def misspelt(x: jax.Array) -> None:
        count(x)
        js.assign("net/call", 0)

    error = stateful(misspelt, X)
    assert type(error) is errors.VariableNotFoundError
    assert report(error) == (
        "Variable net/call does not exist, so it cannot be assigned.\n"
        "  asked:  at FILE:N in misspelt\n"
        "  near:   'net/calls'\n"
        "  fix:    make it first, get_variable(name, ..., trainable=False), or correct the name; it "
        "is relative to the open scope."
    )
    assert report(raised(lambda: js.assign("v", 0.0))) == (
        "Variable v cannot be assigned: jscope.transform keeps no state.\n"
        "  asked:  at FILE:N in <lambda>\n"
        "  fix:    use jscope.transform_with_state, and make the variable with trainable=False."
    )


def test_functions_that_change_when_they_are_traced_again() -> None:
    names = iter("abcdefgh")

    def block(x: jax.Array) -> jax.Array:
        return x * js.get_variable(next(names), [3])

    params = {name: jnp.ones([2, 3]) for name in "abcdefgh"}
    error = raised_in_apply(js.layer_stack(2)(block), params, jnp.ones(3))
    assert report(error) == (
        "Variable b was used when a function was traced again, but not the first time.\n"
        "  fix:    make the function pure: the same calls for the same arguments."
    )


def test_carries_that_are_none() -> None:
    error = stateful(lambda: js.put_carry({"state": 1}))
    assert type(error) is errors.StateError
    assert report(error) == (
        "carry must be what jscope.functionalize gave, or what its function returned, got "
        "{'state': 1} of type dict.\n"
        "  fix:    pure, carry = functionalize(fn); out, carry = pure(carry, ...)."
    )


CALLS: dict[str, Callable[[], Any]] = {
    "assign": lambda: js.assign("v", 0.0),
    "next_rng_key": lambda: js.next_rng_key(),
    "has_rng": lambda: js.has_rng(),
    "is_initializing": lambda: js.is_initializing(),
    "functionalize": lambda: js.functionalize(abs),
    "layer_stack": lambda: js.layer_stack(1)(abs)(X[0]),
    "scan": lambda: js.scan(abs, 0, X),
    "get_variable": lambda: js.get_variable("w", [1]),
    "variable_scope": lambda: js.variable_scope("a").__enter__(),
    "get_variable_scope": lambda: js.get_variable_scope(),
    "VariableScope.reuse_variables": lambda: js.VariableScope("a").reuse_variables(),
    "a template": lambda: js.make_template("t", lambda: None)(),
}


@pytest.mark.parametrize("call", CALLS)
def test_calls_outside_a_pass(call: str) -> None:
    with pytest.raises(errors.NoPassError) as caught:
        CALLS[call]()
    assert isinstance(caught.value, RuntimeError)
    assert str(caught.value) == (
        f"{call} was called outside a pass: it works only inside a function that runs under init, "
        "apply or specs.\n"
        "  fix:    wrap the outermost function, net = jscope.transform(fn), and call net.init(rng, "
        "...) and net.apply(params, rng, ...). A pass belongs to the thread that started it; the "
        "backward rule of a custom_vjp runs after it, so give it what it needs as residuals."
    )


@pytest.mark.parametrize(
    "rng",
    [1.5, "seed", True, np.zeros(3, np.uint32), np.zeros(2, np.int32), [1, 2], 2**70, object()],
    ids=range(8),
)
def test_what_is_no_rng(rng: Any) -> None:
    with pytest.raises(
        errors.RngError, match=r"^rng must be a key, an int seed or None, got "
    ) as c:
        js.transform(lambda: js.get_variable("w", [1])).init(rng)
    assert str(c.value).endswith(
        "  fix:    pass jax.random.key(0), jax.random.PRNGKey(0), an int, or None."
    )
    with pytest.raises(errors.RngError, match=r"^rng must be a key, an int seed or None, got "):
        js.transform(lambda: None).apply({}, rng)


def test_a_batch_of_keys_is_no_rng() -> None:
    with pytest.raises(errors.RngError, match=r"got key<fry>\[4\]\."):
        js.transform(lambda: None).init(jax.random.split(jax.random.key(0), 4))


def test_no_rng_where_an_initializer_draws() -> None:
    with pytest.raises(errors.RngError) as caught:
        js.transform(lambda: js.get_variable("w", [1])).init(None)
    assert report(caught.value) == (
        "The initializer of variable w draws random numbers, but rng is None.\n"
        "  asked:  at FILE:N in <lambda>\n"
        "  fix:    pass a key to init: net.init(jax.random.key(0), ...)."
    )
    zeros = js.transform(lambda: js.get_variable("w", [1], initializer=jax.nn.initializers.zeros))
    assert zeros.init(None)["w"] == 0


def test_check_lists_every_difference_at_once() -> None:
    specs = js.transform(scoped).specs(X)
    params = {"nett": {"w": X}, "b": X}
    with pytest.raises(errors.CheckError) as caught:
        js.check(params, specs)
    assert str(caught.value) == (
        "The params do not fit the specs: 1 missing, 2 unexpected, 0 mismatched.\n"
        "  missing:    net/w\n"
        "  unexpected: nett/w (near 'net/w')\n"
        "  unexpected: b"
    )
    with pytest.raises(errors.CheckError) as caught:
        js.check({"net": {"w": X}}, specs)
    assert str(caught.value) == (
        "The params do not fit the specs: 0 missing, 0 unexpected, 1 mismatched.\n"
        "  mismatched: net/w is float32[2,3], should be float32[3,4]"
    )
    assert caught.value.mismatched == {"net/w": ("float32[3,4]", "float32[2,3]")}


def test_arguments_that_cannot_be_used() -> None:
    with pytest.raises(ValueError, match=r"^Passed a custom_getter which is not callable: 3$"):
        js.variable_scope("a", custom_getter=3)
    with pytest.raises(ValueError, match=r"^collections argument to get_variable must be a list, "):
        js.transform(lambda: js.get_variable("w", [1], collections="foo")).init(0)
    with pytest.raises(ValueError, match=r"^The regularizer must be a function of the value, or N"):
        js.variable_scope("a", regularizer=3)
    with pytest.raises(TypeError, match=r"^The argument of transform must be a function, got 3 "):
        js.transform(3)
    with pytest.raises(ValueError, match=r"^The trainable must be True, False or None, got 2 of "):
        js.transform(lambda: js.get_variable("w", [1], trainable=2)).init(0)


def every_error() -> list[errors.JscopeError]:
    found: list[errors.JscopeError] = [raised(program) for program, *_ in INITIALIZERS.values()]
    for program in (scoped, lambda x: scoped(x) + scoped(x)):
        found.append(raised_in_apply(program, {}, X))
        found.append(raised_in_apply(program, {"net": {"w": X}}, X))
        found.append(
            raised_in_apply(program, {"net": {"w": jnp.ones([3, 4])}, "x": 1}, X)
            if program is not scoped
            else raised_in_apply(program, 3, X)
        )
    with pytest.raises(errors.NoPassError) as caught:
        js.get_variable("w")
    return [*found, caught.value]


def test_every_error_pickles_with_its_facts_and_notes() -> None:
    for error in every_error():
        error.add_note("a note")
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(again) is type(error)
            assert str(again) == str(error)
            assert vars(again) == vars(error)
            assert again.__notes__ == error.__notes__


def test_every_class_is_in_the_tree_and_exported() -> None:
    classes = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.JscopeError) and kind.__module__ == errors.__name__
    ]
    assert errors.__doc__ is not None
    for kind in classes:
        assert kind.__name__ in errors.__doc__
        assert kind.__name__ in errors.__all__
        assert kind is errors.JscopeError or issubclass(kind, ValueError | RuntimeError)


def test_classes_have_facts_with_defaults_and_no_other_public_attributes() -> None:
    builtin = set(dir(TypeError)) | set(dir(OSError))
    for name in errors.__all__:
        kind = getattr(errors, name)
        if issubclass(kind, errors.JscopeError):
            error = kind("A summary.", {"asked": "at a place", "near": None, "fix": "mend it."})
            assert str(error) == "A summary.\n  asked:  at a place\n  fix:    mend it."
            facts = {fact for base in kind.__mro__ for fact in inspect.get_annotations(base)}
            assert {x for x in dir(error) if not x.startswith("_")} - builtin <= facts
            for fact in facts:
                assert not getattr(error, fact)


def test_a_failed_pass_leaves_nothing_behind() -> None:
    def program(fail: bool) -> None:
        with js.variable_scope("a"), jax.named_scope("b"):
            js.get_variable("w", [1])
            if fail:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        js.transform(program).init(0, True)
    assert js.transform(program).init(0, False).to_dict().keys() == {"a"}

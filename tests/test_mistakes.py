"""What newcomers get wrong, each with the place and the fix."""

from __future__ import annotations

import contextlib
import re
import sys
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import errors

X = jnp.ones([2, 3])


def report(error: BaseException) -> str:
    return re.sub(r"\S*test_mistakes\.py:\d+", "FILE:N", str(error))


def raised(call: Callable[[], Any], kind: type[Exception]) -> Any:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return caught.value


def asked(*args: Any, **kwargs: Any) -> Callable[[], Any]:
    """Init of one variable in a scope."""

    def fn() -> jax.Array:
        with js.variable_scope("net"):
            return js.get_variable(*args, **kwargs)

    return lambda: js.transform(fn).init(0)


class TF1:
    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> jax.Array:
        return jnp.zeros(shape, dtype)


def needs_partition_info(shape: Any, dtype: Any, partition_info: Any) -> jax.Array:
    return jnp.zeros(shape, dtype)


def half(shape: Any, dtype: Any = None) -> float:
    return 0.5


ADAPT = (
    "adapt it: initializer=lambda key, shape, dtype: f(shape, dtype), where f is this one; what it "
    "draws should come from the key, or every init gives other values."
)
OTHERS = (
    "pass a function f(key, shape, dtype), such as jax.nn.initializers.zeros; one that makes "
    "initializers is called first, jax.nn.initializers.normal(0.02)."
)
UNFIT: dict[str, tuple[Any, str, str]] = {
    "jnp.zeros": (jnp.zeros, "zeros(shape, dtype", "pass jax.nn.initializers.zeros."),
    "np.zeros": (np.zeros, "zeros(", "pass jax.nn.initializers.zeros."),
    "np.ones": (np.ones, "ones(", "pass jax.nn.initializers.ones."),
    "jnp.full": (jnp.full, "full(shape, fill_value", ADAPT),
    "jnp.eye": (jnp.eye, "eye(N, M, k", OTHERS),
    "TF1's": (TF1(), "TF1(shape, dtype, partition_info)", ADAPT),
    "TF1's without defaults": (
        needs_partition_info,
        "needs_partition_info(shape, dtype, partition_info)",
        ADAPT.replace("f(shape, dtype),", "f(shape, dtype, None),"),
    ),
    "of a shape": (half, "half(shape, dtype)", ADAPT),
    "a factory": (jax.nn.initializers.normal, "normal(stddev, dtype)", OTHERS),
    "of nothing": (lambda: 0.5, "<lambda>()", OTHERS),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_is_no_initializer_says_how_it_is_called(case: str) -> None:
    initializer, shown, fix = UNFIT[case]
    error = raised(asked("w", [3], initializer=initializer), errors.InitializerTypeError)
    first, place, last = report(error).split("\n")
    assert first.startswith(f"The initializer of variable net/w, {shown}")
    assert "cannot be called as f(key, shape, dtype): " in first
    assert (place, last) == ("  asked:  net/w at FILE:N in fn", f"  fix:    {fix}")
    assert isinstance(error, TypeError)


def test_the_adapter_of_the_error_works() -> None:
    f = TF1()
    params = asked("w", [3], initializer=lambda key, shape, dtype: f(shape, dtype))()
    assert params["net"]["w"].shape == (3,)


def test_what_an_initializer_raises_itself_is_left_as_it_is() -> None:
    def broken(key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
        raise TypeError("mine")

    error = raised(asked("w", [3], initializer=broken), TypeError)
    assert str(error) == "mine"
    assert error.__notes__[0].startswith("in the initializer of variable net/w, float32[3], asked")


zeros = jax.nn.initializers.zeros
MISPLACED: dict[str, tuple[tuple[Any, ...], str]] = {
    "Flax's order": (("w", zeros, [3]), "a shape: give it as shape=..."),
    "Flax's order with a dtype": (("w", zeros, [3], jnp.float32), "a dtype: give it as dtype=..."),
    "an initializer as dtype": (("w", [3], zeros), "an initializer: give it as initializer=..."),
    "an initializer as shape": (("w", zeros), "an initializer: give it as initializer=..."),
    "a dtype as shape": (("w", np.float32), "a dtype: give it as dtype=..."),
    "a dtype as initializer": (("w", [3], None, np.float32), "a dtype: give it as dtype=..."),
    "text as initializer": (("w", [3], None, "float32"), "a dtype: give it as dtype=..."),
}


@pytest.mark.parametrize("case", MISPLACED)
def test_arguments_in_each_others_place_are_told(case: str) -> None:
    args, kind = MISPLACED[case]
    error = raised(asked(*args), errors.InitializerTypeError)
    assert report(error).splitlines()[1:] == [
        "  asked:  net/w at FILE:N in fn",
        f"  fix:    this is {kind}; the order of get_variable is name, shape, dtype, initializer.",
    ]


@pytest.mark.parametrize("argument", ["regularizer", "constraint"])
@pytest.mark.parametrize("value", [X, np.ones(3), np.zeros(()), np.float32, 0.1], ids=range(5))
def test_what_is_no_function_of_a_value_is_refused(argument: str, value: Any) -> None:
    text = f"The {argument} must be a function of the value, or None, got "
    for call in (
        asked("w", [3], **{argument: value}),
        lambda: js.variable_scope("a", **{argument: value}),
        lambda: js.VariableScope("a", **{argument: value}),
    ):
        assert str(raised(call, errors.ArgumentError)).startswith(text)


@pytest.mark.parametrize(
    ("value", "dtype", "shown"),
    [
        (2**40, None, "1099511627776, which int32"),
        (-(2**70), None, "-1180591620717411303424, which int32"),
        ([1, 2**40], None, "1099511627776, which int32"),
        ([2**70], None, "1180591620717411303424, which int32"),
        (np.int64(2**40), None, "1099511627776, which int32"),
        ([0, -1], jnp.uint8, "-1, which uint8"),
        (300, jnp.int8, "300, which int8"),
    ],
)
def test_an_integer_that_the_dtype_cannot_hold_is_refused(
    value: Any, dtype: Any, shown: str
) -> None:
    error = raised(asked("w", None, dtype, value), errors.InitializerError)
    assert report(error) == (
        f"The initial value of variable net/w holds {shown} cannot.\n"
        "  asked:  net/w at FILE:N in fn\n"
        "  fix:    ask for a dtype that can; int64 and uint64 need jax_enable_x64."
    )


def test_a_size_that_no_array_has_is_refused() -> None:
    error = raised(asked("w", [2**70]), errors.InitializerError)
    assert str(error).startswith("Dimension 1180591620717411303424 must be below 2**63\n")
    assert asked("w", [0])()["net"]["w"].shape == (0,)


def test_an_assigned_integer_that_overflows_is_refused() -> None:
    def fn() -> None:
        js.get_variable("v", initializer=0, trainable=False)
        js.assign("v", 2**40)

    error = raised(lambda: js.transform_with_state(fn).init(0), errors.ArgumentError)
    assert "must be a number that JAX's default dtype can hold, got 1099511627776" in str(error)


def net(x: jax.Array) -> jax.Array:
    with js.variable_scope("online"):
        return js.layers.dense(x, 3)


NET = js.transform(net)


def params() -> js.Params:
    return NET.init(0, X)


def apply(given: Any) -> Callable[[], Any]:
    return lambda: NET.apply(given, None, X)


def test_keys_that_are_no_strings_are_told() -> None:
    for given in ({0: X}, {"online": {0: X}}):
        assert str(raised(apply(given), errors.TreeTypeError)) == (
            "0 is not a key of params: keys are strings, one per scope, never empty.\n"
            "  fix:    make it a string, such as 'layer_0' for 0."
        )


def test_flat_params_are_told() -> None:
    flat = js.tree.flatten(params())
    half_flat = {"online/dense": dict.fromkeys(("kernel", "bias"), X)}
    for given in (flat, half_flat):
        assert report(raised(apply(given), errors.VariableNotFoundError)) == (
            "Variable online/dense/kernel does not exist in the params given to apply.\n"
            "  asked:  at FILE:N in net\n"
            "  near:   'online/dense/bias'\n"
            "  fix:    the names are flat: give jscope.tree.unflatten(params)."
        )
    assert apply(js.tree.unflatten(flat))().shape == (2, 3)
    dotted = {name.replace("/", "."): value for name, value in flat.items()}
    error = raised(apply(dotted), errors.VariableNotFoundError)
    assert "unflatten({name.replace('.', '/'): value for name, value in params.items()})" in str(
        error
    )
    error = raised(apply(NET.specs(X)), errors.TreeTypeError)
    assert str(error).endswith("for what is not trainable; where values are wanted, those of init.")


def test_full_names_are_no_keys_of_params() -> None:
    error = raised(lambda: params()["online/dense/kernel"], KeyError)
    assert error.args == (
        "'online/dense/kernel' is no key: scopes are nested, params['online']['dense']['kernel']; "
        "by full names they are jscope.tree.flatten(params).",
    )
    assert raised(lambda: params()["onlin"], KeyError).args == ("onlin",)
    assert params().get("a/b") is None


STATIC: dict[str, Callable[[Any], Any]] = {
    "training": lambda flag: js.layers.dropout(X, 0.5, training=flag),
    "trainable": lambda flag: js.get_variable("w", [3], trainable=flag),
    "checkpoint": lambda flag: js.layer_stack(2, checkpoint=flag),
    "auxiliary_name_scope": lambda flag: js.variable_scope("a", auxiliary_name_scope=flag),
    "units": lambda flag: js.layers.dense(X, flag),
}


@pytest.mark.parametrize("argument", STATIC)
def test_a_traced_argument_that_decides_what_is_traced_is_told(argument: str) -> None:
    traced = jax.jit(js.transform(STATIC[argument]).init)
    error = raised(lambda: traced(0, True), errors.ArgumentError)
    assert str(error).splitlines()[1] == (
        "  fix:    pass a Python value, which decides what is traced: "
        f"{argument} is an array here. Under jit or checkpoint name it in static_argnames."
    )


def test_static_argnames_are_the_fix_for_traced_flags() -> None:
    init = jax.jit(js.transform(STATIC["training"]).init, static_argnames="flag")
    assert init(0, flag=True) == {}


def named_otherwise(next_getter: Any, *args: Any, **kwargs: Any) -> Any:
    return next_getter(*args, **kwargs)


def passing(getter: Any, *args: Any, **kwargs: Any) -> Any:
    return getter(*args, **kwargs)


GETTERS: dict[str, Callable[[], Any]] = {
    "of a scope": lambda: js.variable_scope("a", custom_getter=named_otherwise)(
        lambda: js.get_variable("w", [2])
    )(),
    "of an inner scope": lambda: js.variable_scope("a", custom_getter=passing)(
        js.variable_scope("b", custom_getter=named_otherwise)(lambda: js.get_variable("w", [2]))
    )(),
    "of a request": lambda: js.get_variable("w", [2], custom_getter=named_otherwise),
    "of a template": lambda: js.make_template(
        "t", lambda: js.get_variable("w", [2]), custom_getter_=named_otherwise
    )(),
}


@pytest.mark.parametrize("case", GETTERS)
def test_a_getter_whose_first_argument_has_another_name_is_told(case: str) -> None:
    error = raised(lambda: js.transform(GETTERS[case]).init(0), errors.ArgumentError)
    assert str(error) == (
        "The custom_getter named_otherwise(next_getter, *args, **kwargs) cannot be called by "
        "keyword, as in TF1: named_otherwise() missing 1 required positional argument: "
        "'next_getter'.\n"
        "  fix:    name its first argument getter: def f(getter, name, *args, **kwargs)."
    )


def test_what_a_getter_raises_itself_is_left_as_it_is() -> None:
    def broken(getter: Any, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("mine")

    assert str(raised(asked("w", [2], custom_getter=broken), TypeError)) == "mine"
    error = raised(asked("w", [2], custom_getter=np.float32), errors.ArgumentError)
    assert str(error).startswith("Passed a custom_getter which is not callable: ")


class KeepsWhatOpens:
    opened: js.variable_scope | None = None

    def __call__(self) -> jax.Array:
        if self.opened is None:
            self.opened = js.variable_scope("dense")
        with self.opened:
            return js.get_variable("w", [3])


class KeepsScope:
    scope: js.VariableScope | None = None

    def __call__(self) -> jax.Array:
        if self.scope is None:
            with js.variable_scope("dense") as self.scope:
                return js.get_variable("w", [3])
        with js.variable_scope(self.scope, reuse=True):
            return js.get_variable("w", [3])


def test_a_class_that_keeps_a_scope_between_runs_is_told() -> None:
    kept = js.transform(KeepsWhatOpens())
    params = kept.init(0)
    error = raised(lambda: kept.apply(params, None), errors.NestingError)
    assert report(error) == (
        "Improper nesting of variable_scope: a variable_scope object can be entered only once.\n"
        "  asked:  to open 'dense' again at FILE:N in __call__\n"
        "  fix:    call variable_scope(...) in each `with`: each run of init, apply and specs opens "
        "its own, so an object that outlives them keeps the name. To open the same scope again in "
        "one run pass the scope that `with ... as scope` gives."
    )
    again = js.transform(KeepsScope())
    assert again.apply(again.init(0), None).shape == (3,)
    error = raised(again.specs, errors.VariableNotFoundError)
    assert report(error).splitlines()[-1] == (
        "  fix:    make the variable in this run too: each run of init, apply and specs starts "
        "anew, and a scope object that outlives one holds a name. jscope.make_template makes at "
        "the first call of a run and shares at the later ones."
    )


def test_five_thousand_nested_scopes_can_be_read() -> None:
    def deep() -> jax.Array:
        with contextlib.ExitStack() as stack:
            for _ in range(5000):
                stack.enter_context(js.variable_scope("s", auxiliary_name_scope=False))
            return js.get_variable("w", [1])

    given = js.tree.unflatten({"/".join(["s"] * 5000 + ["w"]): jnp.ones(1)})
    assert js.transform(deep).apply(given, None).shape == (1,)


def test_the_note_of_a_deep_scope_is_short() -> None:
    def fn() -> None:
        with js.variable_scope("/".join(["scope"] * 1000)):
            raise KeyError("mine")

    note = raised(lambda: js.transform(fn).init(0), KeyError).__notes__[0]
    assert note.startswith("in scope scope/scope/")
    assert len(note) < 220


ELSEWHERE = (
    "jscope was called on another stack than that of the running pass: a greenlet has its own.\n"
    "  fix:    let one greenlet run a pass from its start to its end, and no other meanwhile."
)


def test_a_call_on_another_stack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fn() -> None:
        # The stack of a greenlet ends where it was started, below the frame of the pass.
        top = types.SimpleNamespace(
            f_code=compile("0", "greenlet.py", "eval"), f_lasti=0, f_back=None
        )
        with monkeypatch.context() as patched:
            patched.setattr(sys, "_getframe", lambda depth=0: top)
            js.get_variable("w", [1])

    error = raised(lambda: js.transform(fn).init(0), errors.NoPassError)
    assert str(error) == ELSEWHERE


def test_a_call_from_between_two_passes_on_two_stacks_is_refused() -> None:
    greenlet = pytest.importorskip("greenlet")

    def first() -> None:
        other.switch()
        js.get_variable("w", [1])

    main = greenlet.getcurrent()
    other = greenlet.greenlet(lambda: js.transform(lambda: main.switch()).init(0))
    error = raised(lambda: js.transform(first).init(0), errors.NoPassError)
    assert str(error) == ELSEWHERE


def test_what_makes_initializers_is_to_be_called() -> None:
    error = raised(
        asked("w", [4, 4], initializer=jax.nn.initializers.he_normal), errors.InitializerError
    )
    assert report(error) == (
        "The initializer of variable net/w returned a function, not float32[4,4].\n"
        "  asked:  net/w at FILE:N in fn\n"
        "  fix:    he_normal makes initializers: call it, and pass what it returns."
    )


@pytest.mark.parametrize(
    ("argument", "module", "name"),
    [("regularizer", js.regularizers, "l2"), ("constraint", js.constraints, "max_norm")],
)
def test_what_makes_regularizers_and_constraints_is_to_be_called(
    argument: str, module: Any, name: str
) -> None:
    error = raised(asked("w", [4], **{argument: getattr(module, name)}), errors.ArgumentError)
    assert str(error).startswith(
        f"The {argument} must be a function of the value, which {module.__name__}.{name}(...) "
        "makes, got <function "
    )
    asked("w", [4], **{argument: getattr(module, name)(1.0)})()


def test_reuse_of_one_request_is_that_of_its_scope() -> None:
    error = raised(asked("w", [4], reuse=True), errors.ArgumentError)
    assert str(error) == (
        "get_variable() got an unexpected keyword argument 'reuse'\n"
        "  fix:    open the scope with it, variable_scope(name, reuse=...)."
    )


def test_state_among_params_is_to_be_checked_with_the_state() -> None:
    def fn() -> None:
        js.get_variable("net/w", [2])
        js.get_variable("net/steps", initializer=0, trainable=False)

    net = js.transform_with_state(fn)
    params, state = net.init(0)
    error = raised(lambda: js.check(js.tree.merge(params, state), net.specs()), errors.CheckError)
    assert str(error) == (
        "The params do not fit the specs: 0 missing, 1 unexpected, 0 mismatched.\n"
        "  unexpected: net/steps\n"
        "  fix:        net/steps is state: check that by jscope.check(state, specs.state())."
    )


def test_near_names_are_those_that_nobody_asked_for_yet() -> None:
    def fn() -> None:
        for index in (1, 10, 0):
            js.get_variable(f"layer_{index}/query/kernel", [2])

    names = ["layer_1/query/kernel", "layer_10/query/kernel", "layer_0/qurey/kernel"]
    given = js.tree.unflatten(dict.fromkeys(names, jnp.ones(2)))
    error = raised(lambda: js.transform(fn).apply(given, None), errors.VariableNotFoundError)
    assert error.name == "layer_0/query/kernel"
    assert error.near == ("layer_0/qurey/kernel",)

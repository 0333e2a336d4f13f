"""What help and ``inspect.signature`` show: the arguments of jscope, then those of the user."""

from __future__ import annotations

import copy
import functools
import inspect
import pydoc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jscope as js

X = jnp.ones([2, 3])


def model(x: jax.Array, units: int = 3, *, training: bool = False) -> jax.Array:
    """The model.

    More:
      of it.
    """
    w = js.get_variable("w", [x.shape[-1], units])
    return x @ w + 1 if training else x @ w


def shown(function: Callable[..., Any]) -> str:
    return str(inspect.signature(function)).replace("'", "")


USERS = "x: jax.Array, units: int = 3, *, training: bool = False"


def test_the_functions_of_a_network_show_our_arguments_and_the_users() -> None:
    net = js.transform(model)
    assert shown(net.init) == f"(rng: Rng, /, {USERS}) -> Params"
    assert shown(net.apply) == f"(params: Mapping[str, Any], rng: Rng, /, {USERS}) -> jax.Array"
    assert shown(net.specs) == f"({USERS}) -> Specs"
    bare = js.without_apply_rng(net)
    assert shown(bare.init) == shown(net.init)
    assert shown(bare.apply) == f"(params: Mapping[str, Any], /, {USERS}) -> jax.Array"


def test_the_functions_of_a_network_with_state_do_too() -> None:
    net = js.transform_with_state(model)
    trees = "params: Mapping[str, Any], state: Mapping[str, Any]"
    out = "tuple[jax.Array, Params]"
    assert shown(net.init) == f"(rng: Rng, /, {USERS}) -> tuple[Params, Params]"
    assert shown(net.apply) == f"({trees}, rng: Rng, /, {USERS}) -> {out}"
    assert shown(net.specs) == f"({USERS}) -> Specs"
    assert shown(js.without_apply_rng(net).apply) == f"({trees}, /, {USERS}) -> {out}"


def test_the_result_of_a_function_without_annotations_may_be_anything() -> None:
    def fn(x):  # type: ignore[no-untyped-def]
        return x

    assert shown(js.transform(fn).apply) == "(params: Mapping[str, Any], rng: Rng, /, x)"
    assert shown(js.transform_with_state(fn).apply).endswith("/, x) -> tuple[Any, Params]")


def test_ours_give_way_where_the_user_has_an_argument_of_that_name() -> None:
    def fn(params: Any, rng: int, *, state: int = 0, rng_: int = 0, **more: Any) -> Any:
        return params, rng, state, rng_, more

    net = js.transform_with_state(fn)
    assert next(iter(inspect.signature(net.init).parameters)) == "rng__"
    assert list(inspect.signature(net.apply).parameters) == [
        *("params_", "state_", "rng__"),
        *("params", "rng", "state", "rng_", "more"),
    ]
    assert list(inspect.signature(js.without_apply_rng(net).apply).parameters)[:3] == [
        *("params_", "state_", "params"),
    ]
    out, _ = net.apply({}, {}, None, params="p", rng=1, state=2, rng_=3, fn=4)
    assert out == ("p", 1, 2, 3, {"fn": 4})
    assert net.init(0, params="p", rng=1) == (js.Params(), js.Params())
    assert net.specs(params="p", rng=1) == {}


class Model:
    """A class."""

    def __call__(self, x: jax.Array, /, *rest: int) -> jax.Array:
        return x

    def method(self, x: jax.Array) -> jax.Array:
        """The method."""
        return x


@pytest.mark.parametrize(
    ("fn", "users", "name", "doc"),
    [
        (Model(), "x: jax.Array, /, *rest: int", "Model", None),
        (Model().method, "x: jax.Array", "Model.method", "The method."),
        (functools.partial(model, X), USERS.partition(", ")[2], "model", None),
        (jax.jit(model), USERS, "model", inspect.getdoc(model)),
        (js.make_template("t", model), "*args: P.args, **kwargs: P.kwargs", "Template", None),
    ],
    ids=["instance", "method", "partial", "jitted", "template"],
)
def test_any_callable_shows_its_own(fn: Any, users: str, name: str, doc: str | None) -> None:
    apply = js.transform(fn).apply
    comma = "" if users.startswith("x: jax.Array, /") else " /,"
    wanted = f"(params: Mapping[str, Any], rng: Rng,{comma} {users})"
    assert shown(apply).partition(" -> ")[0] == wanted
    first = f"apply of {name}, see transform."
    assert apply.__doc__ == (f"{first}\n\n{doc}" if doc else first)


class Refuses:
    @property
    def __signature__(self) -> inspect.Signature:
        raise RuntimeError("no signature")

    def __call__(self, *args: Any) -> Any:
        return args


@pytest.mark.parametrize("fn", [max, Refuses()], ids=["builtin", "own error"])
def test_a_function_without_a_signature_works_as_well(fn: Any) -> None:
    net = js.without_apply_rng(js.transform(fn))
    assert net.apply({}, 1, 2) in (2, (1, 2))
    assert shown(net.apply).startswith("(params: Mapping[str, Any], /, *args")


def test_help_shows_the_docstring_of_the_user() -> None:
    bare = js.without_apply_rng(js.transform(model))
    for apply in (js.transform(model).apply, bare.apply):
        text = pydoc.plain(pydoc.render_doc(apply))
        assert text.index("apply(") < text.index("params: ") < text.index("units: ")
        lines = [line.strip() for line in text.splitlines()]
        doc = ["apply of model, see transform.", "", "The model.", "", "More:", "of it."]
        assert lines[-len(doc) :] == doc
    with_state = js.without_apply_rng(js.transform_with_state(model))
    assert with_state.apply.__name__ == "apply"


def test_a_docstring_formats_no_array() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise AssertionError("formatted")

        def __call__(self, x: Any) -> Any:
            return x

    js.transform(functools.partial(Silent(), Silent()))
    js.transform(Silent())


def test_jit_resolves_arguments_by_name_and_by_number() -> None:
    net = js.transform(model)
    params = net.init(0, X)
    plain, trained = net.apply(params, None, X), net.apply(params, None, X, training=True)
    by_name = jax.jit(net.apply, static_argnames=("training", "units"))
    assert jnp.array_equal(by_name(params, None, X, training=True), trained)
    assert jnp.array_equal(by_name(params, None, X, 3), plain)  # by position
    by_number = jax.jit(net.apply, static_argnums=3)
    assert jnp.array_equal(by_number(params, None, X, 3), plain)
    assert jnp.array_equal(by_number(params, None, X, units=3), plain)  # by name
    assert by_number(params, None, X).shape == plain.shape
    bare = jax.jit(js.without_apply_rng(net).apply, static_argnums=2)
    assert jnp.array_equal(bare(params, X, 3), plain)
    initial = jax.jit(net.init, static_argnames="units")(0, X, 3)
    assert jnp.array_equal(initial["w"], params["w"])


def test_jit_gives_arguments_away_by_name_and_by_number() -> None:
    net = js.transform(lambda x, params: x + params + js.get_variable("w", []))
    params = net.init(0, 1.0, 1.0)
    given = jax.tree.map(jnp.copy, params)
    jax.jit(net.apply, donate_argnums=0)(given, None, 1.0, 1.0)
    assert given["w"].is_deleted()
    given, x = jax.tree.map(jnp.copy, params), jnp.float32(1)
    jax.jit(net.apply, donate_argnames="params")(given, None, 1.0, x)  # the user's
    assert not given["w"].is_deleted()
    assert x.is_deleted()


def test_jit_refuses_a_name_that_the_user_does_not_have() -> None:
    with pytest.raises(ValueError, match="train"):
        jax.jit(js.transform(model).apply, static_argnames="train")


def test_a_network_is_a_pair_and_a_leaf() -> None:
    net = js.transform(model)
    init, apply = net
    assert (init, apply) == (net.init, net.apply) == net
    assert len(net) == 2
    assert jax.tree.leaves(net) == [net]
    assert repr(copy.copy(net)) == repr(net) == f"Transformed({model!r})"
    assert {net: 1}[net] == 1


def test_init_and_apply_are_the_same_objects_at_every_use() -> None:
    runs = []

    def fn(x: jax.Array) -> jax.Array:
        runs.append(1)
        return x * js.get_variable("w", x.shape)

    net = js.transform(fn)
    for _ in range(2):
        params = jax.jit(net.init)(0, X)
    count = len(runs)
    for function in (net.apply, net[1], list(net)[1]):
        jax.jit(function)(params, None, X)
    assert (count, len(runs)) == (1, 2)


TWINS: dict[str, Callable[[Any], Any]] = {
    "jit": js.jit,
    "jit with options": js.jit(static_argnames="units"),
    "checkpoint": js.checkpoint,
    "grad": js.grad,
    "value_and_grad": js.value_and_grad,
    "vmap": js.vmap,
    "vmap split": functools.partial(js.vmap, variables="split"),
    "layer_stack": js.layer_stack(3),
    "add_arg_scope": js.add_arg_scope,
    "variable_scope": js.variable_scope("a"),
}


@pytest.mark.parametrize("name", TWINS)
def test_what_takes_a_function_and_returns_one_keeps_its_signature(name: str) -> None:
    lifted = TWINS[name](model)
    assert shown(lifted) == f"({USERS}) -> jax.Array"
    assert lifted.__doc__ == model.__doc__
    assert shown(js.transform(lifted).specs) == f"({USERS}) -> Specs"


@pytest.mark.parametrize("module", [js, js.layers, js.getters, js.initializers, js.tree])
def test_no_signature_shows_the_address_of_a_default(module: Any) -> None:
    functions = [getattr(module, name) for name in module.__all__]
    for function in filter(inspect.isfunction, functions):
        assert " at 0x" not in shown(function)


def test_a_default_initializer_is_shown_by_its_name_and_works() -> None:
    parameters = inspect.signature(js.layers.batch_normalization).parameters
    gamma, beta = (parameters[f"{name}_initializer"].default for name in ("gamma", "beta"))
    assert (repr(gamma), repr(beta)) == ("ones", "zeros")
    assert gamma == parameters["moving_variance_initializer"].default != beta
    assert len({gamma, beta, parameters["moving_mean_initializer"].default}) == 2
    assert gamma(jax.random.key(0), (2,), jnp.float32).tolist() == [1.0, 1.0]
    assert "bias_initializer: 'InitializerLike' = zeros" in pydoc.render_doc(js.layers.dense)

"""Which call of JAX, which run of it, which transform: told by JAX, not by how code looks."""

from __future__ import annotations

import functools
import pdb
import sys
from collections.abc import Callable
from typing import Any

import cases
import chex
import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jscope as js
from jscope import errors
from jscope.errors import TransformError, VariableExistsError

X = jnp.arange(6.0).reshape(2, 3)
XS = jnp.arange(21.0).reshape(7, 3)
ZEROS = jax.nn.initializers.zeros
NORMAL = jax.nn.initializers.normal(1.0)


def names(fn: Callable[..., Any], *args: Any) -> list[str]:
    """The names that init makes; init and apply agree on values, compiled and eager."""
    net = js.transform(fn)
    params = net.init(0, *args)
    chex.assert_trees_all_close(
        net.apply(params, 1, *args), jax.jit(net.apply)(params, 1, *args), rtol=1e-5
    )
    return list(js.tree.flatten(params))


def weight(x: jax.Array) -> jax.Array:
    return x * js.get_variable("w", [], initializer=NORMAL)


def layer(x: jax.Array) -> jax.Array:
    with js.variable_scope(None, "layer"):
        return weight(x)


class Instance:
    """A callable without a function of its own."""

    def __init__(self, act: Callable[..., Any], run: Callable[..., Any] = layer) -> None:
        self.act = act
        self.run = run

    def __call__(self, *args: Any) -> jax.Array:
        return self.act(self.run(args[-1]))

    def method(self, *args: Any) -> jax.Array:
        return self(*args)


def closure(act: Callable[..., Any]) -> Callable[..., Any]:
    settings = {"act": act}
    return lambda *args: settings["act"](layer(args[-1]))


def default(act: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, act=act: act(layer(x))


KINDS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "instance": Instance,
    "bound method": lambda act: Instance(act).method,
    "partial": lambda act: functools.partial(lambda act, *args: act(layer(args[-1])), act),
    "closure over a dict": closure,
    "default argument": default,
    "scope as decorator": lambda act: js.variable_scope(None, "deco")(
        functools.partial(lambda act, *args: act(layer(args[-1])), act)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("branching", ["cond", "switch", "js.cond", "js.switch", "platform"])
def test_branches_are_requests_of_their_own_whatever_they_are_made_of(
    kind: str, branching: str
) -> None:
    first, second = KINDS[kind](jnp.tanh), KINDS[kind](jnp.sin)
    choose: dict[str, Callable[..., Any]] = {
        "cond": lambda x: lax.cond(x.sum() < 0, first, second, x),
        "switch": lambda x: lax.switch(jnp.int32(x.sum() > 0), [first, second], x),
        "js.cond": lambda x: js.cond(x.sum() < 0, first, second, x),
        "js.switch": lambda x: js.switch(jnp.int32(x.sum() > 0), [first, second], x),
        "platform": lambda x: lax.platform_dependent(x, tpu=first, default=second),
    }
    net = js.transform(lambda x: layer(choose[branching](x)))
    params = net.init(0, X)
    prefixes = (
        ("deco/layer", "deco_1/layer") if kind == "scope as decorator" else ("layer", "layer_1")
    )
    after = "layer" if kind == "scope as decorator" else "layer_2"
    assert list(js.tree.flatten(params)) == [f"{name}/w" for name in (*prefixes, after)]
    flat = js.tree.flatten(params)
    wanted = jnp.sin(X * flat[f"{prefixes[1]}/w"]) * flat[f"{after}/w"]
    chex.assert_trees_all_close(jax.jit(net.apply)(params, None, X), wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_test_and_body_of_a_while_loop_are_requests_of_their_own(kind: str) -> None:
    test, body = KINDS[kind](lambda y: y.sum() < 0), KINDS[kind](jnp.abs)

    def program(x: jax.Array) -> jax.Array:
        return lax.while_loop(test, body, x)

    assert len(names(program, X)) == 2


def test_a_named_variable_in_two_branches_is_refused() -> None:
    for make in (
        lambda act: Instance(act, weight),
        lambda act: functools.partial(lambda act, x: act(weight(x)), act),
    ):
        branches = [make(jnp.tanh), make(jnp.sin)]
        with pytest.raises(VariableExistsError, match=r"^Variable w already exists"):
            js.transform(lambda x, b=branches: lax.switch(jnp.int32(x.sum()), b, x)).init(0, X)


@pytest.mark.parametrize("equal", ["function", "bound method"])
def test_branches_that_are_equal_are_one_request(equal: str) -> None:
    expert = Instance(jnp.tanh, weight)
    branch = weight if equal == "function" else None

    def program(x: jax.Array) -> jax.Array:
        return lax.cond(x.sum() < 0, branch or expert.method, branch or expert.method, x)

    assert names(program, X) == ["w"]
    assert names(lambda x: js.cond(x.sum() < 0, weight, weight, x), X) == ["w"]


@pytest.mark.parametrize("choose", [lax.switch, js.switch])
def test_experts_that_are_equal_have_layers_of_their_own(choose: Any) -> None:
    def expert(x: jax.Array) -> jax.Array:
        return layer(x)

    net = js.transform(lambda i, x: layer(choose(i, [expert] * 3, x)))
    params = net.init(0, 1, X)
    assert list(params) == ["layer", "layer_1", "layer_2", "layer_3"]
    out = jax.jit(net.apply)(params, None, 1, X)
    wanted = X * params["layer_1"]["w"] * params["layer_3"]["w"]
    chex.assert_trees_all_close(out, wanted, rtol=1e-6)


def test_experts_that_are_equal_draw_as_the_plain_program() -> None:
    def program(i: int, x: jax.Array) -> jax.Array:
        return drawing(lax.switch(i, [drawing] * 3, x))

    out = js.transform(program).apply({}, 0, 2, X)
    plain = js.transform(lambda x: drawing(drawing(x))).apply({}, 0, X)
    chex.assert_trees_all_close(out, plain, rtol=1e-6)


# What JAX runs again for one call of the user's, made of nothing that is a function of the user's.
DENSE = functools.partial(js.layers.dense, units=3)
AGAIN: dict[str, Callable[[jax.Array], Any]] = {
    "map with a remainder": lambda xs: lax.map(DENSE, xs[:, None], batch_size=3),
    "map with a remainder, named": lambda xs: lax.map(
        functools.partial(DENSE, name="dense"), xs[:, None], batch_size=3
    ),
    "map with a remainder alone": lambda xs: lax.map(DENSE, xs[:, None], batch_size=9),
    "map": lambda xs: lax.map(DENSE, xs[:, None]),
    "twin map": lambda xs: js.map(DENSE, xs[:, None], batch_size=3),
    "map of a twin": lambda xs: lax.map(js.checkpoint(DENSE), xs[:, None], batch_size=3),
    "associative_scan": lambda xs: lax.associative_scan(lambda a, b: DENSE(a, name=None) + b, xs),
    "associative_scan of an instance": lambda xs: (
        lax.associative_scan(Instance(DENSE, sum), xs)
        if False
        else lax.associative_scan(lambda a, b: jax.checkpoint(DENSE)(a) + b, xs)
    ),
    "weakly typed carry": lambda xs: lax.scan(lambda c, x: (c + DENSE(x[None]).sum(), x), 0.0, xs),
    "twin with a weakly typed carry": lambda xs: js.scan(
        lambda c, x: (c + DENSE(x[None]).sum(), x), 0.0, xs
    ),
    "weakly typed carry around custom_vjp": lambda xs: lax.scan(
        lambda c, x: (c + custom_vjp(DENSE)(x[None]).sum(), x), 0.0, xs
    ),
    "weakly typed carry around shard_map": lambda xs: lax.scan(
        lambda c, x: (c + cases.shard_map(jax.checkpoint(DENSE))(x[None]).sum(), x), 0.0, xs
    ),
    "fori_loop": lambda xs: lax.fori_loop(0, 3, lambda i, c: DENSE(c), xs),
    "custom_vmap": lambda xs: jax.vmap(
        jax.custom_batching.sequential_vmap(lambda x: DENSE(x[None])[0])
    )(xs),
}


@pytest.mark.parametrize("name", AGAIN)
def test_what_jax_runs_again_makes_one_set_of_variables(name: str) -> None:
    def program(xs: jax.Array) -> Any:
        out = AGAIN[name](xs)
        return out, js.layers.dense(xs, 2)

    assert names(program, XS) == [
        "dense/kernel",
        "dense/bias",
        "dense_1/kernel",
        "dense_1/bias",
    ]


@pytest.mark.parametrize("name", AGAIN)
def test_two_calls_of_one_line_are_two(name: str) -> None:
    def program(xs: jax.Array) -> Any:
        return [AGAIN[name](xs) for _ in range(2)]

    if name.endswith("named"):
        with pytest.raises(VariableExistsError, match="dense/kernel already exists"):
            js.transform(program).init(0, XS)
    else:
        assert len(names(program, XS)) == 4


def custom_jvp(f: Callable[..., Any]) -> Callable[..., Any]:
    wrapped = jax.custom_jvp(lambda x: f(x))
    wrapped.defjvp(lambda p, t: (f(p[0]), t[0]))
    return wrapped


def custom_vjp(f: Callable[..., Any]) -> Callable[..., Any]:
    wrapped = jax.custom_vjp(lambda x: f(x))
    wrapped.defvjp(lambda x: (f(x), None), lambda _, g: (g,))
    return wrapped


@pytest.mark.parametrize("custom", [custom_jvp, custom_vjp])
@pytest.mark.parametrize("inner", [lambda f: f, jax.jit, jax.checkpoint])
def test_a_function_and_its_derivative_rule_are_one(custom: Any, inner: Any) -> None:
    def program(x: jax.Array) -> Any:
        value = jax.grad(lambda y: inner(custom(layer))(y).sum())(x)
        return value, layer(x)

    if inner in (jax.jit, jax.checkpoint):  # JAX runs the rule later, and does not say of what
        with pytest.raises(
            TransformError, match=r"^A scope cannot be numbered from 'layer' inside"
        ):
            js.transform(program).init(0, X)
    else:
        assert names(program, X) == ["layer/w", "layer_1/w"]


def drawing(x: Any, *_: Any) -> jax.Array:
    return x + jax.random.normal(js.next_rng_key(), jnp.shape(x))


def step(carry: jax.Array, x: jax.Array) -> Any:
    return carry + drawing(x).sum(), None


DROPOUT = functools.partial(js.layers.dropout, rate=0.5, training=True)


@js.add_arg_scope
def scoped_noise(x: jax.Array) -> jax.Array:
    return drawing(x)


REPEATS: dict[str, Callable[[], Any]] = {
    "scan of checkpoint": lambda: lax.scan(js.checkpoint(step), 0.0, XS),
    "scan of jit": lambda: lax.scan(js.jit(step), 0.0, XS),
    "scan of raw jit": lambda: lax.scan(jax.jit(step), 0.0, XS),
    "map of a layer": lambda: lax.map(DROPOUT, XS),
    "map of a layer in batches": lambda: lax.map(DROPOUT, XS, batch_size=3),
    "map of vmap": lambda: lax.map(js.vmap(drawing), XS),
    "map of a stack": lambda: lax.map(js.layer_stack(2)(drawing), XS),
    "map of a scope": lambda: lax.map(js.variable_scope("s")(functools.partial(drawing)), XS),
    "map of an arg_scope function": lambda: lax.map(scoped_noise, XS),
    "vmap of a twin": lambda: jax.vmap(js.checkpoint(drawing))(XS),
    "fori_loop of a twin": lambda: lax.fori_loop(0, 3, lambda i, c: js.jit(drawing)(c), X),
    "while_loop of a twin": lambda: lax.while_loop(
        lambda c: c.sum() < 100, js.checkpoint(drawing), X
    ),
    "custom_vjp of a twin": lambda: custom_vjp(js.checkpoint(drawing))(X),
    "custom_vjp": lambda: custom_vjp(drawing)(X),
    "custom_jvp of a twin": lambda: custom_jvp(js.checkpoint(drawing))(X),
    "associative_scan of a twin": lambda: lax.associative_scan(
        js.jit(lambda a, b: drawing(a) + b), XS
    ),
}


@pytest.mark.parametrize("disabled", [False, True])
@pytest.mark.parametrize("name", REPEATS)
def test_draws_that_would_repeat_are_refused_whoever_calls(name: str, disabled: bool) -> None:
    net = js.transform(REPEATS[name])
    for call in (
        lambda: net.init(0),
        lambda: net.specs(),
        lambda: net.apply({}, 0),
        lambda: jax.jit(net.apply)({}, 0),
    ):
        with (
            jax.disable_jit(disabled),
            pytest.raises(TransformError, match=r"^A random key cannot be drawn inside raw jax\."),
        ):
            call()


def test_a_transform_is_named_whoever_calls_jscope() -> None:
    net = js.transform_with_state(
        jax.jit(functools.partial(js.layers.batch_normalization, training=True))
    )
    with pytest.raises(
        TransformError, match=r"assigned inside raw jax\.jit: .*\n.*\n.*jscope\.jit,"
    ):
        net.init(0, X)


def test_a_solver_that_calls_a_function_again_is_told_what_to_do() -> None:
    def residual(z: jax.Array) -> jax.Array:
        return z * js.get_variable("w", [], initializer=jax.nn.initializers.ones) - 1.0

    def newton(f: Any, z: jax.Array) -> jax.Array:
        return z - f(z) / jax.grad(f)(z)

    def program(x: jax.Array) -> jax.Array:
        return lax.custom_root(residual, x, newton, lambda g, y: y / g(jnp.float32(1.0)))

    def shared(x: jax.Array) -> jax.Array:
        with js.variable_scope("", reuse=js.AUTO_REUSE):
            return program(x)

    assert names(shared, jnp.float32(3.0)) == ["w"]
    if jax.__version_info__ >= (0, 12):  # which traces the function once
        assert names(program, jnp.float32(3.0)) == ["w"]
        return
    with pytest.raises(VariableExistsError) as caught:
        js.transform(program).init(0, jnp.float32(3.0))
    assert str(caught.value).endswith(
        "use another name or another variable_scope.\n"
        "          where a library calls one function several times, as solvers do: wrap it by "
        "jscope.functionalize or jscope.make_template, or share by reuse=jscope.AUTO_REUSE."
    )


def test_a_numbered_layer_of_a_solver_is_never_made_anew() -> None:
    def program(x: jax.Array) -> jax.Array:
        solve = lambda f, z: z - f(z)  # noqa: E731
        return lax.custom_root(lambda z: layer(z) - 1, x, solve, lambda g, y: y / g(1.0))

    if jax.__version_info__ >= (0, 12):
        assert names(program, jnp.float32(3.0)) == ["layer/w"]
    else:
        with pytest.raises(
            TransformError, match=r"^A scope cannot be numbered from 'layer' inside"
        ):
            js.transform(program).init(0, jnp.float32(3.0))


def test_a_numbered_layer_of_a_solver_is_shared_by_what_the_error_says() -> None:
    def solved(f: Any) -> Any:
        solve = lambda f, z: z - f(z)  # noqa: E731
        return lambda x: lax.custom_root(
            lambda z: f(z) - 1, x, solve, lambda g, y: y / g(jnp.float32(1.0))
        )

    def scoped(z: jax.Array) -> jax.Array:
        with js.variable_scope("s", reuse=js.AUTO_REUSE):
            return layer(z)

    def functionalized(x: jax.Array) -> jax.Array:
        pure, carry = js.functionalize(layer)
        return solved(lambda z: pure(carry, z)[0])(x)

    x = jnp.float32(3.0)
    assert names(solved(scoped), x) == ["s/layer/w"]
    assert names(lambda x: solved(js.make_template("s", layer))(x), x) == ["s/layer/w"]
    assert names(functionalized, x) == ["layer/w"]


@pytest.mark.parametrize("ask", [jax.make_jaxpr, jax.eval_shape, "trace"])
def test_a_numbered_layer_that_is_traced_for_others_is_never_made_anew(ask: Any) -> None:
    def program(f: Any, x: jax.Array) -> jax.Array:
        if ask == "trace":
            jax.jit(lambda y: f(y)).trace(x)
        elif ask is jax.eval_shape:
            jax.eval_shape(lambda y: f(y), x)
        else:
            jax.make_jaxpr(lambda y: f(y))(x)
        return f(x)

    with pytest.raises(
        TransformError, match=r"^A scope cannot be numbered from 'layer' inside jax"
    ):
        js.transform(functools.partial(program, layer)).init(0, X)
    shared = lambda x: program(js.make_template("s", layer), x)  # noqa: E731
    assert names(shared, X) == ["s/layer/w"]


def test_a_functionalized_function_is_pure() -> None:
    def block(x: jax.Array) -> jax.Array:
        js.get_variable("calls", initializer=0, trainable=False)
        js.assign_add("calls", 1)
        return layer(x) + jax.random.normal(js.next_rng_key(), x.shape)

    def program(x: jax.Array) -> Any:
        pure, carry = js.functionalize(block)
        results = [pure(carry, x) for _ in range(3)]
        results.append(jax.jit(pure)(carry, x))
        js.put_carry(results[0][1])
        return results, layer(x)

    net = js.transform_with_state(program)
    params, state = net.init(0, X)
    assert list(js.tree.flatten(params)) == ["layer/w", "layer_1/w"]
    (results, _), after = net.apply(params, state, 1, X)
    for other in results[1:]:
        chex.assert_trees_all_close(other, results[0], rtol=1e-6)
    assert after["calls"] == 1


UNDER_DISABLE_JIT: dict[str, Callable[[jax.Array], Any]] = {
    "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, c: layer(c), x),
    "fori_loop, named": lambda x: lax.fori_loop(0, 3, lambda i, c: weight(c), x),
    "scan": lambda x: lax.scan(lambda c, y: (layer(c), layer(y)), x, jnp.stack([x, x]))[0],
    "while_loop": lambda x: lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, layer(c[1])), (0, x)
    )[1],
    "while_loop with a test": lambda x: lax.while_loop(
        lambda c: layer(c).sum() ** 2 > 1e-6, lambda c: c / 2 + 0 * layer(c), x
    ),
    "map": lambda x: lax.map(layer, x),
    "jit": lambda x: jax.jit(layer)(x),
    "js.fori_loop": lambda x: js.fori_loop(0, 3, lambda i, c: layer(c), x),
    "js.scan": lambda x: js.scan(lambda c, y: (layer(c), layer(y)), x, jnp.stack([x, x]))[0],
    "js.while_loop": lambda x: js.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, layer(c[1])), (0, x)
    )[1],
    "js.map": lambda x: js.map(lambda y: drawing(layer(y)), x),
    "js.cond": lambda x: js.cond(x.sum() < 0, layer, lambda y: drawing(layer(y)), x),
    "js.switch": lambda x: js.switch(2, [layer, lambda y: y, lambda y: drawing(layer(y))], x),
    "js.layer_stack": lambda x: js.layer_stack(2)(lambda y: drawing(layer(y)))(x),
    "js.vmap": lambda x: js.vmap(lambda y: drawing(layer(y)), variables="split")(x),
    "cond with names": lambda x: lax.cond(x.sum() < 0, lambda y: y, weight, x),
    "js.cond of equal layers": lambda x: js.cond(x.sum() < 0, layer, layer, x),
}


@pytest.mark.parametrize("name", UNDER_DISABLE_JIT)
def test_disable_jit_changes_no_name_no_key_and_no_value(name: str) -> None:
    net = js.transform(lambda x: drawing(layer(UNDER_DISABLE_JIT[name](x))))
    params, out = net.init(0, X), None
    out = net.apply(params, 1, X)
    with jax.disable_jit():
        chex.assert_trees_all_equal(net.init(0, X), params)
        assert list(net.specs(X)) == list(js.tree.flatten(params))
        chex.assert_trees_all_close(net.apply(params, 1, X), out, rtol=1e-5)


SKIPPED: dict[str, Callable[[jax.Array], Any]] = {
    "switch": lambda x: lax.switch(1, [layer, layer_of(2.0)], x),
    "cond": lambda x: lax.cond(False, layer, layer_of(2.0), x),
    "cond that skips all": lambda x: lax.cond(False, layer, lambda y: y, x),
    "a loop that does not run": lambda x: lax.while_loop(lambda c: c.sum() < 0, layer, x),
    "draws": lambda x: lax.cond(False, drawing, lambda y: y, x),
    "another shape": lambda x: lax.cond(False, lambda y: layer(y)[0], lambda y: bias(y)[0], x),
}


def bias(x: jax.Array) -> jax.Array:
    with js.variable_scope(None, "layer"):
        return x + js.get_variable("w", [2, 3])


def layer_of(factor: float) -> Callable[[jax.Array], jax.Array]:
    return lambda x: factor * layer(x)


@pytest.mark.parametrize("name", SKIPPED)
def test_a_branch_that_does_not_run_never_lends_its_weights_or_keys(name: str) -> None:
    net = js.transform(lambda x: drawing(layer(SKIPPED[name](x))))
    params = net.init(0, X)
    with jax.disable_jit():
        chex.assert_trees_all_equal(net.init(0, X), params)
        with pytest.raises(TransformError, match=r"^Names or keys would be other than in"):
            net.apply(params, 1, X)
    net.apply(params, 1, X)


def test_an_eager_platform_dependent_never_lends_weights() -> None:
    def program(x: jax.Array) -> jax.Array:
        return layer(lax.platform_dependent(x, tpu=layer, default=layer_of(2.0)))

    net = js.transform(program)
    params = net.init(0, X)
    assert list(params) == ["layer", "layer_1", "layer_2"]
    wanted = 2 * X * params["layer_1"]["w"] * params["layer_2"]["w"]
    chex.assert_trees_all_close(jax.jit(net.apply)(params, None, X), wanted, rtol=1e-6)
    with pytest.raises(TransformError, match=r"^Names or keys would be other than in"):
        net.apply(params, None, X)


def test_code_in_a_folder_of_jax_is_the_users() -> None:
    file = jax.__file__.replace("__init__.py", "users.py")
    source = "def block(x):\n    return js.get_variable('w', []) * x\n"
    scope: dict[str, Any] = {"js": js, "__name__": "users"}
    exec(compile(source, file, "exec"), scope)
    program = lambda x: scope["block"](x) + scope["block"](x)  # noqa: E731
    with pytest.raises(VariableExistsError, match=r"already exists") as caught:
        js.transform(program).init(0, X)
    assert [site.function for site in caught.value.first[:2]] == ["block", "<lambda>"]
    net = js.transform_with_state(lambda x: js.cond(True, scope["block"], lambda y: y, x))
    assert list(net.init(0, X)[0]) == ["w"]


@pytest.mark.parametrize("tracer", [None, lambda *_: None])
def test_no_frame_of_the_user_is_marked(tracer: Any) -> None:
    marked: list[bool] = []

    def program(x: jax.Array) -> jax.Array:
        y = jax.checkpoint(lambda z: jax.random.normal(js.next_rng_key(), z.shape) + layer(z))(x)
        frame: Any = sys._getframe()
        while frame is not None:
            marked.append(frame.f_trace_opcodes)
            frame = frame.f_back
        return y

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        js.transform(program).init(0, X)
    finally:
        sys.settrace(before)
    assert marked
    assert not any(marked)


def test_stepping_with_pdb_prints_what_it_prints_without_jscope(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def printed(inner: Callable[[jax.Array], jax.Array], run: Callable[..., Any]) -> list[str]:
        debugger = pdb.Pdb(nosigint=True, readrc=False)
        debugger.cmdqueue = ["step"] * 6 + ["continue"]
        debugger.use_rawinput = False

        def program(x: jax.Array) -> jax.Array:
            return lax.fori_loop(0, 2, lambda i, c: inner(c), x)

        debugger.runcall(run, program)
        lines = capsys.readouterr().out.splitlines()
        return [line.split("/")[-1] for line in lines if "opcode" in line]

    with_jscope = printed(weight, lambda program: js.transform(program).init(0, X))
    assert with_jscope == printed(lambda c: c, lambda program: jax.eval_shape(program, X)) == []


FACTOR = js.add_arg_scope(lambda x, factor=1.0: factor * x)
BLOCKS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "jit": jax.jit(lambda x: FACTOR(x)),
    "checkpoint": jax.checkpoint(lambda x: FACTOR(x)),
    "scan": lambda x: lax.scan(_scan_body, x, None, length=1)[0],
}


def _scan_body(x: jax.Array, _: Any) -> Any:
    return FACTOR(x), None


@pytest.mark.parametrize("place", ["init", "apply", "jitted apply", "outside"])
@pytest.mark.parametrize("order", [(2.0, 3.0, None), (None, 2.0, 3.0), (2.0, None, 2.0)])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_cached_block_follows_arg_scope(block: str, order: Any, place: str) -> None:
    found: list[Any] = []

    def one(factor: float | None) -> Any:
        if factor is None:
            return BLOCKS[block](jnp.float32(1.0))
        with js.arg_scope([FACTOR], factor=factor):
            return BLOCKS[block](jnp.float32(1.0))

    def program() -> Any:
        values = [one(factor) for factor in order]
        found.append(values)
        return values

    BLOCKS[block](jnp.float32(1.0))  # traced once before, outside any pass
    wanted = [factor or 1.0 for factor in order]
    if place == "outside":
        assert [float(value) for value in program()] == wanted
    elif place == "init":
        computed = lambda: js.get_variable("v", initializer=jnp.stack(program()))  # noqa: E731
        assert js.transform(computed).init(0)["v"].tolist() == wanted
    else:
        apply = js.transform(program).apply
        apply = jax.jit(apply) if place == "jitted apply" else apply
        assert [float(value) for value in apply({}, None)] == wanted


def test_defaults_are_told_apart_by_what_they_are_and_not_how_they_print() -> None:
    runs: list[int] = []
    shift = js.add_arg_scope(lambda x, by=(0.0,): x + by[0])

    @jax.jit
    def block(x: jax.Array) -> jax.Array:
        runs.append(1)
        return jax.numpy.sum(shift(x))

    def call(by: Any) -> float:
        with js.arg_scope([shift], by=by):
            return float(block(jnp.zeros(2000)))

    one, two = jnp.zeros(2000), jnp.zeros(2000).at[1000].set(1.0)
    assert repr(one) == repr(two)
    assert [call((one,)), call((two,)), call((one,))] == [0.0, 1.0, 0.0]
    assert len(runs) == 2
    assert [call([2.0]), call([2.0]), call([2])] == [4000.0] * 3  # a list is as good as its parts
    assert len(runs) == 4


def test_a_cached_block_follows_the_scope_that_it_reads() -> None:
    seen: list[Any] = []

    @jax.checkpoint
    def block(x: jax.Array) -> jax.Array:
        return 2.0 * x if scopes[-1].reuse is True else x

    scopes: list[Any] = []

    def program(x: jax.Array) -> Any:
        with js.variable_scope("a") as scope:
            scopes.append(scope)
            before = block(x)
            scope.reuse_variables()
            seen.append(scope.reuse)
            return before, block(x)

    net = js.transform(program)
    out = jax.jit(net.apply)({}, None, jnp.float32(1.0))
    assert [float(value) for value in out] == [1.0, 2.0]
    assert seen == [True]


def test_a_cached_block_follows_the_template_that_it_reads() -> None:
    template = js.make_template("t", layer)

    @jax.checkpoint
    def block(x: jax.Array) -> jax.Array:
        return x if template.variable_scope is None else 2.0 * x

    def program(x: jax.Array) -> Any:
        before = block(x)
        template(x)
        return before, block(x)

    net = js.transform(program)
    params = net.init(0, X)
    before, after = jax.jit(net.apply)(params, None, X)
    chex.assert_trees_all_equal((before, after), (X, 2 * X))


def test_errors_of_skipped_branches_are_pinned() -> None:
    def branch(x: jax.Array) -> jax.Array:
        with js.variable_scope(None, "layer"):
            return x * js.get_variable("w", [])

    net = js.transform(lambda x: jax.lax.cond(x > 0, branch, lambda x: -branch(x), x))
    params = net.init(0, jnp.float32(1.0))
    with jax.disable_jit(), pytest.raises(TransformError) as caught:
        net.apply(params, None, jnp.float32(1.0))
    assert str(caught.value) == (
        "Names or keys would be other than in the compiled function: JAX ran one branch of a cond "
        "or switch alone, or a loop not once, so that scopes were numbered without layer_1.\n"
        "  fix:    give scopes names of their own, use jscope.cond and jscope.switch, or run it "
        "compiled: under jax.jit, without jax.disable_jit."
    )


@pytest.mark.parametrize("custom", [custom_jvp, custom_vjp])
def test_a_gradient_by_a_variable_read_inside_a_custom_rule_is_explained(custom: Any) -> None:
    params = {"w": jnp.float32(2.0)}
    net = js.transform(lambda x: custom(weight)(x))
    name = f"jax.{custom.__name__}"
    loss = lambda p: net.apply(p, None, X).sum()  # noqa: E731
    loss(params)
    for call in (jax.grad(loss), jax.jit(jax.grad(loss)), jax.value_and_grad(loss)):
        with pytest.raises(TransformError) as caught:
            call(params)
        first, asked, fix = str(caught.value).splitlines()[:3]
        assert first == (
            f"Variable w is read inside raw {name} where a gradient by it is taken: JAX does not "
            "derive by what such a function closes over."
        )
        assert "in weight < " in asked
        assert fix == (
            "  fix:    read it outside and pass it as an argument, whose gradient the rule gives."
        )
        assert (caught.value.name, caught.value.transform) == ("w", name)


@pytest.mark.parametrize("custom", [custom_jvp, custom_vjp])
def test_a_gradient_inside_a_custom_rule_of_a_functionalized_function_is_explained(
    custom: Any,
) -> None:
    def program(x: jax.Array) -> jax.Array:
        pure, carry = js.functionalize(weight)
        return custom(lambda y: pure(carry, y)[0])(x)

    net = js.transform(program)
    loss = lambda p: net.apply(p, None, X).sum()  # noqa: E731
    for call in (jax.grad(loss), jax.jit(jax.grad(loss))):
        with pytest.raises(TransformError, match=r"^Variable w is read inside raw jax\.custom_"):
            call({"w": jnp.float32(2.0)})


def test_jax_says_which_variable_it_cannot_derive_by() -> None:
    net = js.transform(lambda x: jax.jit(custom_vjp(weight))(x))
    with pytest.raises(Exception, match="closed-over value") as caught:
        jax.grad(lambda p: net.apply(p, None, X).sum())({"w": jnp.float32(2.0)})
    (note,) = [note for note in caught.value.__notes__ if note.startswith("Variable")]
    assert note.startswith("Variable w is read inside raw jax.custom_vjp at ")
    assert note.endswith("to take gradients by it, read it outside and pass it as an argument.")


def test_a_rule_that_jax_runs_after_the_pass_says_so() -> None:
    net = js.transform(lambda x: custom_jvp(weight)(x))
    with pytest.raises(errors.NoPassError) as caught:
        jax.grad(lambda p: jax.jit(net.apply)(p, None, X).sum())({"w": jnp.float32(2.0)})
    first, _, fix = str(caught.value).splitlines()[:3]
    assert first == (
        "get_variable was called outside a pass: by a rule of jax.custom_jvp, which JAX runs when "
        "the pass is over."
    )
    assert fix == (
        "  fix:    read variables outside the jax.custom_jvp and pass them as arguments, whose "
        "gradients the rule gives."
    )


def test_what_other_libraries_call_twice_is_accepted_or_explained() -> None:
    def by_name(x: jax.Array) -> jax.Array:
        return lax.custom_linear_solve(
            weight, x, lambda mv, b: b / mv(jnp.ones_like(b)), symmetric=True
        )

    def in_rule(x: jax.Array) -> jax.Array:
        return jax.vmap(jax.custom_batching.sequential_vmap(lambda y: weight(y)))(x)

    assert names(in_rule, X) == ["w"]
    with pytest.raises(
        VariableExistsError,
        match=r"(?s)jscope\.functionalize or jscope\.make_template, .*AUTO_REUSE",
    ):
        js.transform(by_name).init(0, X)

    def functionalized(x: jax.Array) -> jax.Array:
        pure, carry = js.functionalize(weight)
        return lax.custom_linear_solve(
            lambda y: pure(carry, y)[0],
            x,
            lambda mv, b: b / mv(jnp.ones_like(b)),
            symmetric=True,
        )

    assert names(functionalized, X) == ["w"]


def test_jax_keeps_a_bounded_number_of_traces() -> None:
    cache: Any = jax._src.interpreters.partial_eval.trace_to_jaxpr
    block = jax.checkpoint(lambda x: jnp.where(x > 0, layer(x), jnp.var(x)))

    def program(x: jax.Array) -> jax.Array:
        for index in range(8):
            with js.variable_scope(f"s{index}"):
                x = jax.nn.silu(block(x))
        return x

    net = js.transform(program)
    wanted = list(net.specs(X))
    sizes = []
    for _ in range(3 * 512 // 8):
        assert list(net.specs(X)) == wanted
        sizes.append(cache.cache_info().currsize)
    assert max(sizes[128:]) <= max(sizes[:128])

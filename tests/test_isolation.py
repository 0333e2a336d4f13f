"""Nothing outlives a pass; threads do not see each other; eager use is right and says it is slow."""

from __future__ import annotations

import functools
import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from cases import KINDS, PROGRAMS, TRANSFORMS, X, block, wrapped
from child import output_of
from test_twins import LOOPS, ONCE
from test_twins import block as stateful_block

import jscope as js
from jscope import _cache_key, _jaxapi, _pass


@pytest.fixture
def leak_checker() -> Any:
    with jax.checking_leaks():
        yield


@pytest.mark.usefixtures("leak_checker")
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("program", ["distinct scopes", "default names", "around and inside"])
def test_the_leak_checker_finds_nothing(program: str, transform: str) -> None:
    wrap = TRANSFORMS[transform]
    net = js.transform(PROGRAMS[program](lambda x: wrap(lambda y: block(y))(x)))
    params = net.init(0, X)
    jax.eval_shape(net.init, 0, X)
    jax.make_jaxpr(net.apply)(params, None, X)
    jax.jit(lambda p, x: net.apply(p, None, x))(params, X)


KEPT_BY_JAX = {"jit", "checkpoint", "cond", "switch", "jit of checkpoint", "vmap of jit"}
KEPT_BY_JAX |= {"scan of checkpoint", "checkpoint of scan"}


def closed_over(transform: str) -> Any:
    """Without jscope: a module-level function that reads a tracer of the trace around it."""
    values: list[jax.Array] = []

    def scaled(x: jax.Array) -> jax.Array:
        return x * jnp.broadcast_to(values[-1], x.shape)

    f = TRANSFORMS[transform](scaled)

    def program(w: jax.Array, x: jax.Array) -> jax.Array:
        values.append(w)
        try:
            return f(x)
        finally:
            values.clear()

    return program


def kept(transform: str) -> tuple[bool, bool, bool]:
    """Whether JAX keeps what a module-level function reads: in apply, in init, without jscope."""
    net = js.transform(PROGRAMS["distinct scopes"](wrapped(transform, "module-level function")))
    params = net.init(0, X)

    def leaks(function: Any, *args: Any) -> bool:
        try:
            with jax.checking_leaks():
                jax.make_jaxpr(function)(*args)
        except Exception as error:
            assert "leaked trace" in str(error).lower()  # noqa: PT017 - either outcome is compared
            return True
        return False

    # Twice: the one may be the pass, of some hundreds, after which jscope has JAX drop its traces.
    applied = any(leaks(lambda p, x: net.apply(p, None, x), params, X) for _ in range(2))
    begun = any(leaks(lambda x: net.init(0, x), X) for _ in range(2))
    return applied, begun, leaks(closed_over(transform), X, X)


@functools.cache
def all_kept() -> dict[str, tuple[bool, bool, bool]]:
    """In a process of its own: JAX looks for what holds a trace among all objects that there are."""
    code = (
        "import json, test_isolation as t; print(json.dumps({f: t.kept(f) for f in t.TRANSFORMS}))"
    )
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    return json.loads(output_of("-W", "ignore", "-c", code, **own))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_what_jax_keeps_of_a_module_level_function_it_keeps_without_jscope_too(
    transform: str,
) -> None:
    applied, begun, without = all_kept()[transform]
    assert applied is (transform in KEPT_BY_JAX)
    assert begun is applied  # for placeholders of init are values as params are
    assert without or not applied


def passes() -> list[_pass.Pass]:
    """The passes that something still holds."""
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is _pass.Pass]


CALLS: dict[str, tuple[Any, ...]] = {
    "init": (0, X),
    "apply": ({"a": {"w": X}}, None, X),
    "specs": (X,),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_a_finished_pass_is_freed(call: str, jitted: bool, fails: bool) -> None:
    seen: list[Any] = []
    before = passes()  # equinox keeps those of the solvers in test_functionalize.py

    def program(x: jax.Array) -> jax.Array:
        template = js.make_template("a", lambda: js.get_variable("w", [3]))
        values = jax.vmap(lambda y: y * template())(x[None])[0] + template()
        running = _pass.peek()
        assert running is not None
        assert running in passes()
        seen.append(weakref.ref(running.values))  # which lives at least as long as the pass
        if fails:
            raise KeyError("stop")
        return values

    function = getattr(js.transform(program), call)
    if jitted:
        function = functools.partial(jax.eval_shape, function)
    if fails:
        with pytest.raises(KeyError, match="stop"):
            function(*CALLS[call])
    elif jitted and call == "specs":
        with pytest.raises(TypeError, match=r"^Specs are no tree of arrays"):
            function(*CALLS[call])
    else:
        function(*CALLS[call])
    assert seen
    assert [other for other in passes() if other not in before] == []
    assert [ref() for ref in seen] == [None] * len(seen)


@pytest.mark.parametrize("call", ["init", "apply", "specs"])
def test_everything_is_restored_after_any_exception(call: str) -> None:
    class MineError(BaseException):
        pass

    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("a"):

            def inner(y: jax.Array) -> jax.Array:
                with js.variable_scope("b"):
                    js.get_variable("w", [3])
                    raise MineError

            return jax.checkpoint(inner)(x)

    net = js.transform(program)
    before = _jaxapi.get_context()
    args = {"init": (0, X), "apply": ({"a": {"b": {"w": X}}}, None, X), "specs": (X,)}[call]
    with pytest.raises(MineError):
        getattr(net, call)(*args)
    assert _pass.peek() is None
    assert _jaxapi.get_context() is before

    def outer(x: jax.Array) -> jax.Array:
        with js.variable_scope("outer"), pytest.raises(MineError):
            getattr(net, call)(*args)
        assert js.get_variable_scope().name == ""
        return js.get_variable("v", [3])

    assert js.transform(outer).init(0, X).keys() == {"v"}


def test_a_scope_left_open_is_an_error_and_is_closed() -> None:
    def program() -> None:
        js.variable_scope("a").__enter__()

    with pytest.raises(js.errors.NestingError) as caught:
        js.transform(program).init(0)
    assert str(caught.value) == (
        "Improper nesting of variable_scope: the function returned with a scope still open.\n"
        "  open:   'a'\n"
        "  fix:    open scopes with `with`, so that they close by themselves."
    )
    jaxpr = jax.make_jaxpr(lambda x: x + 1)(1)
    assert str(jaxpr.eqns[0].source_info.name_stack) == ""


def test_threads_do_not_see_each_other() -> None:
    barrier = threading.Barrier(8)
    f = wrapped("checkpoint", "module-level function")

    def program(name: str, x: jax.Array) -> jax.Array:
        for index in range(4):
            with js.variable_scope(f"{name}_{index}"):
                barrier.wait()
                x = f(x)
                assert js.get_variable_scope().name == f"{name}_{index}"
        return x

    net = js.transform(program)

    def work(number: int) -> Any:
        params = net.init(number, f"n{number}", X)
        other = jax.tree.map(lambda leaf: leaf + number, params)
        return params, jax.jit(net.apply, static_argnums=2)(other, None, f"n{number}", X)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    for number, (params, value) in enumerate(results):
        assert list(params) == [f"n{number}_{index}" for index in range(4)]
        expected = X
        for index in range(4):
            layer = params[f"n{number}_{index}"]
            expected = expected * (layer["w"] + number) + layer["b"] + number
        chex.assert_trees_all_close(value, expected, rtol=1e-5)


def test_a_pass_is_not_seen_in_another_thread() -> None:
    def program() -> None:
        with (
            ThreadPoolExecutor(1) as pool,
            pytest.raises(js.errors.NoPassError, match="belongs to the thread that started it"),
        ):
            pool.submit(js.get_variable, "w", [1]).result()

    js.transform(program).init(0)


def test_no_two_passes_hold_one_cache_key() -> None:
    keys: list[Any] = []

    def program(depth: int) -> None:
        keys.append(_jaxapi.get_context())
        if depth:
            js.transform(program).specs(depth - 1)

    js.transform(program).specs(3)
    assert len(set(keys)) == 4


def test_a_key_of_a_trace_that_called_jscope_is_never_used_again() -> None:
    used: list[Any] = []

    def spy(x: jax.Array) -> jax.Array:
        used.append(_jaxapi.get_context())
        return block(x)

    f = jax.checkpoint(spy)
    net = js.transform(PROGRAMS["distinct scopes"](f))
    for _ in range(5):
        net.specs(X)
    assert len(used) == len(set(used)) == 15


def test_a_model_without_cached_inner_traces_gives_its_cache_key_back() -> None:
    js.transform(block).specs(X)
    free = list(_cache_key._pool._starts)
    js.transform(PROGRAMS["distinct scopes"](block)).init(0, X)
    js.transform(PROGRAMS["distinct scopes"](lambda x: jax.vmap(block)(x[None])[0])).init(0, X)
    assert free == _cache_key._pool._starts


EAGER = """
import warnings, jax, jax.numpy as jnp, jscope as js
def fn(x):
    return jax.checkpoint(lambda y: y * js.get_variable("w", [3]))(x)
net = js.transform(fn)
x = jnp.ones(3)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    params = net.init(0, x)
    jax.jit(net.apply)(params, None, x)
    js.transform(lambda x: x * js.get_variable("w", [3])).apply(params, None, x)
    js.transform(lambda x: jax.vmap(lambda y: y * js.get_variable("w", []))(x)).apply({"w": 1.0}, None, x)
    assert not caught, caught
    for _ in range(3):
        js.capture(net.apply)(params, None, x)
print(len(caught), caught[0].category.__name__, caught[0].filename.endswith("<string>"), caught[0].message)
"""


def test_an_eager_apply_that_recompiles_says_so_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EAGER], capture_output=True, text=True, check=False
    )
    assert done.stdout == (
        "1 EagerRecompileWarning True an eager apply recompiled the JAX transforms inside it (jit, "
        "checkpoint, scan, ...), as it does at every call, because they use variables. The results "
        "are right, but it is slow: wrap the outermost call, as jax.jit(net.apply), "
        "jax.jit(jscope.capture(f)). This is said once.\n"
    ), done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_an_eager_apply_equals_the_compiled_one(kind: str) -> None:
    net = js.transform(PROGRAMS["around and inside"](wrapped("scan", kind)))
    params = net.init(0, X)
    chex.assert_trees_all_close(
        net.apply(params, None, X), jax.jit(net.apply)(params, None, X), rtol=1e-6
    )


@pytest.mark.usefixtures("leak_checker")
@pytest.mark.parametrize("name", [*ONCE, *LOOPS, "split", "stack"])
def test_the_leak_checker_finds_nothing_in_twins(name: str) -> None:
    wraps = ONCE | LOOPS
    wraps |= {
        "split": lambda f: lambda x: js.vmap(f, variables="split")(x[None])[0],
        "stack": lambda f: lambda x: js.layer_stack(2, checkpoint=True)(f)(x),
    }

    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("a"):
            return wraps[name](lambda y: stateful_block(y))(x)

    net = js.transform_with_state(program)
    params, state = net.init(0, X)
    jax.eval_shape(net.init, 0, X)
    jax.make_jaxpr(net.apply)(params, state, 1, X)
    if name != "while_loop":
        loss = lambda p: net.apply(p, state, 1, X)[0].sum()  # noqa: E731
        jax.jit(lambda p: jax.grad(loss)(p))(params)

"""The transforms of JAX with state and randomness: jscope.jit, jscope.scan, ...

Each takes the arguments of its original. Values come in by closure and go out beside the result.
Those that run their function once draw the keys of the plain program; loops and ``vmap`` fold the
number of the iteration or instance in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, TypeVarTuple, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jscope import _jaxapi, _pass
from jscope._arguments import as_array, bad_argument
from jscope._bars import TWINS
from jscope._level import Bar
from jscope._lift import Lift, pair
from jscope._once import static_arguments, traced_once
from jscope._params import PyTree
from jscope._spec import Function
from jscope._split import split

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Aux = TypeVar("Aux")
Carry = TypeVar("Carry")
X = TypeVar("X")
Y = TypeVar("Y")
Operands = TypeVarTuple("Operands")

Option: TypeAlias = Any
"""An option of JAX's own transform, which checks it."""


@overload
def jit(fun: Callable[P, R], /, **options: Option) -> Callable[P, R]: ...
@overload
def jit(**options: Option) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def jit(fun: Function | None = None, /, **options: Option) -> Function:
    """``jax.jit`` for functions that assign state; draws are those of the plain program.

    Args:
      fun: A function of arrays. Left out, a decorator is returned.
      **options: Of ``jax.jit``: ``static_argnums``, ``static_argnames``, ``out_shardings``, ...

    Returns:
      A function to be called inside a pass.

    Raises:
      NoPassError: (RuntimeError) the function was called outside init, apply and specs.

    Example:
      >>> import jscope as js
      >>> @js.jit
      ... def count():
      ...     js.get_variable("calls", initializer=0, trainable=False)
      ...     return js.assign_add("calls", 1)
      >>> net = js.transform_with_state(count)
      >>> net.apply(*net.init(0), None)[1]["calls"].tolist()
      1
    """
    if fun is None:
        return functools.partial(jit, **options)
    if "out_shardings" in options:
        options["out_shardings"] = (options["out_shardings"], None)
    static = options.get("static_argnums"), options.get("static_argnames")
    # JAX takes no arguments by keyword beside in_shardings.
    shares = "in_shardings" not in options
    return traced_once("jit", fun, lambda f: jax.jit(f, **options), static if shares else None)


@overload
def checkpoint(fun: Callable[P, R], /, **options: Option) -> Callable[P, R]: ...
@overload
def checkpoint(**options: Option) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def checkpoint(fun: Function | None = None, /, **options: Option) -> Function:
    """``jax.checkpoint`` for functions that assign state; draws are those of the plain program.

    Also called ``jscope.remat``.

    As ``jit``, with:
      **options: Of ``jax.checkpoint``: ``policy``, ``prevent_cse``, ``static_argnums``, ... Static
        arguments may be given by keyword, and ``static_argnames`` holds, as with ``jax.jit``.

    Example:
      >>> import jscope as js
      >>> @js.checkpoint
      ... def count():
      ...     js.get_variable("calls", initializer=0, trainable=False)
      ...     return js.assign_add("calls", 1)
      >>> net = js.transform_with_state(count)
      >>> net.apply(*net.init(0), None)[1]["calls"].tolist()
      1
    """
    if fun is None:
        return functools.partial(checkpoint, **options)
    if isinstance(options.get("prevent_cse"), tuple):  # which says it for each argument
        return traced_once("checkpoint", fun, functools.partial(jax.checkpoint, **options), None)
    static = options.pop("static_argnums", None), options.pop("static_argnames", None)
    known = static_arguments(fun, *static) if callable(fun) and any(static) else None
    if known is None:
        transformer = functools.partial(jax.checkpoint, **options)
    else:
        transformer = functools.partial(_checkpoint_with_static, *known, options)
    return traced_once("checkpoint", fun, transformer, static)


def _checkpoint_with_static(
    positions: frozenset[int], names: frozenset[str], options: dict[str, Option], fun: Function
) -> Function:
    """``jax.checkpoint``, which knows static arguments by the positions that are given alone."""

    @functools.cache  # JAX's caches know a function by its identity
    def checkpointed(count: int) -> Function:
        def inner(given: tuple[tuple[str, PyTree], ...], *args: PyTree, **kwargs: PyTree) -> PyTree:
            return fun(*args, **kwargs, **dict(given))

        numbers = {x + count if x < 0 else x for x in positions}
        static = (0, *(x + 1 for x in sorted(numbers) if x < count))
        return jax.checkpoint(inner, static_argnums=static, **options)

    @functools.wraps(fun)
    def call(*args: PyTree, **kwargs: PyTree) -> PyTree:
        given = tuple((name, kwargs.pop(name)) for name in sorted(names & kwargs.keys()))
        return checkpointed(len(args))(given, *args, **kwargs)

    return call


def value_and_grad(
    fun: Callable[P, R],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    **options: Option,
) -> Callable[P, tuple[R, PyTree]]:
    """``jax.value_and_grad`` for functions that assign state; draws are those of the plain program.

    Derives by arguments of ``fun``. Gradients by variables are taken outside, by params.

    Args:
      fun: A function of arrays whose result, or first result with ``has_aux``, is a scalar.
      argnums: Which arguments to derive by.
      has_aux: Whether ``fun`` returns a pair (value, aux).
      holomorphic: As of ``jax.value_and_grad``.
      allow_int: As of ``jax.value_and_grad``.
      **options: Others of ``jax.value_and_grad``.

    Returns:
      A function to be called inside a pass, of the results of the original: ``(value, gradient)``,
      or ``((value, aux), gradient)``.

    Raises:
      NoPassError: (RuntimeError) the function was called outside init, apply and specs.

    Example:
      >>> import jscope as js
      >>> def square(x):
      ...     js.get_variable("calls", initializer=0, trainable=False)
      ...     js.assign_add("calls", 1)
      ...     return x**2
      >>> net = js.transform_with_state(js.value_and_grad(square))
      >>> (value, gradient), state = net.apply(*net.init(0, 3.0), None, 3.0)
      >>> print(value, gradient, state["calls"])
      9.0 6.0 1
    """
    return _derived("value_and_grad", fun, argnums, has_aux, holomorphic, allow_int, options)


@overload
def grad(
    fun: Callable[P, tuple[PyTree, Aux]],
    argnums: int | Sequence[int] = 0,
    *,
    has_aux: Literal[True],
    holomorphic: bool = False,
    allow_int: bool = False,
    **options: Option,
) -> Callable[P, tuple[PyTree, Aux]]: ...
@overload
def grad(
    fun: Callable[P, PyTree],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    **options: Option,
) -> Callable[P, PyTree]: ...
def grad(
    fun: Callable[P, PyTree],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    **options: Option,
) -> Callable[P, PyTree]:
    """``jax.grad`` for functions that assign state; draws are those of the plain program.

    As ``value_and_grad``, with:
      fun: A function of arrays whose result, or first result with ``has_aux``, is a scalar.

    Returns:
      A function to be called inside a pass: ``gradient``, or ``(gradient, aux)``.

    Example:
      >>> import jscope as js
      >>> def square(x):
      ...     js.get_variable("calls", initializer=0, trainable=False)
      ...     js.assign_add("calls", 1)
      ...     return x**2
      >>> net = js.transform_with_state(js.grad(square))
      >>> gradient, state = net.apply(*net.init(0, 3.0), None, 3.0)
      >>> print(gradient, state["calls"])
      6.0 1
    """
    both = _derived("grad", fun, argnums, has_aux, holomorphic, allow_int, options)

    @functools.wraps(fun)
    def gradient(*args: PyTree, **kwargs: PyTree) -> PyTree:
        value, derivative = both(*args, **kwargs)
        return (derivative, value[1]) if has_aux else derivative

    return gradient


def _derived(
    name: str,
    fun: Function,
    argnums: int | Sequence[int],
    has_aux: bool,
    holomorphic: bool,
    allow_int: bool,
    options: Mapping[str, Option],
) -> Function:
    """``value_and_grad``, for a twin of this name."""

    def transform(inner: Function) -> Function:
        @functools.wraps(inner)
        def with_state(*args: PyTree, **kwargs: PyTree) -> PyTree:
            out, state = inner(*args, **kwargs)
            if not has_aux:
                return out, (None, state)
            value, aux = pair("result of a function with has_aux", out, "(value, aux)")
            return value, (aux, state)

        derived = jax.value_and_grad(with_state, argnums, True, holomorphic, allow_int, **options)

        def call(*args: PyTree, **kwargs: PyTree) -> PyTree:
            (value, (aux, state)), gradient = derived(*args, **kwargs)
            return (((value, aux) if has_aux else value), gradient), state

        return call

    return traced_once(name, fun, transform, None)


def vmap(
    fun: Callable[P, R],
    in_axes: int | Sequence[PyTree] | None = 0,
    out_axes: PyTree = 0,
    axis_name: Hashable | None = None,
    axis_size: int | None = None,
    spmd_axis_name: Hashable | None = None,
    *,
    variables: Literal["share", "split"] = "share",
    **options: Option,
) -> Callable[P, R]:
    """``jax.vmap`` in which every instance draws keys of its own: a draw with its number folded in.

    Args:
      fun: A function of arrays.
      in_axes: As of ``jax.vmap``.
      out_axes: As of ``jax.vmap``.
      axis_name: As of ``jax.vmap``.
      axis_size: As of ``jax.vmap``.
      spmd_axis_name: As of ``jax.vmap``.
      variables: "share": all instances use the same variables, as under ``jax.vmap``, and none can
        be assigned. "split": variables made in ``fun`` get a leading axis, [axis_size, ...], one
        part for each instance (experts, ensembles inside a model); instance i's part starts from
        the variable's key with i folded in.
      **options: Others of ``jax.vmap``.

    Returns:
      A function to be called inside a pass.

    Raises:
      ArgumentError: (ValueError, TypeError) ``variables`` is neither.
      NoPassError: (RuntimeError) the function was called outside init, apply and specs.
      TransformError: (ValueError) a shared variable was assigned.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def expert(x):
      ...     return x @ js.get_variable("w", [3, 4])
      >>> net = js.transform(js.vmap(expert, in_axes=None, variables="split", axis_size=8))
      >>> params = net.init(0, jnp.ones([2, 3]))
      >>> params
      Params({'w': float32[8,3,4]})
      >>> net.apply(params, None, jnp.ones([2, 3])).shape
      (8, 2, 4)
    """
    if not callable(fun):
        raise bad_argument("argument of vmap", fun, "a function")
    if variables not in ("share", "split"):
        raise bad_argument("variables", variables, "'share' or 'split'")
    in_axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes

    @functools.wraps(fun)
    def lifted(*args: PyTree, **kwargs: PyTree) -> PyTree:
        running = _pass.current("vmap")
        # Named, so that an instance can ask for its number; by depth, so that names recur and JAX
        # finds what it traced before.
        name = f"jscope.vmap.{running.level.depth}" if axis_name is None else axis_name
        more = {"axis_size": axis_size, "spmd_axis_name": spmd_axis_name, **options}
        if variables == "split":
            return split(running, fun, args, kwargs, in_axes, out_axes, name, more)
        lift = Lift(running)

        def instance(*args: PyTree, **kwargs: PyTree) -> tuple[PyTree, list[PyTree]]:
            out, level = lift.call(
                fun,
                args,
                kwargs,
                values={},
                fold=lambda: jax.lax.axis_index(name),
                axis=jax.lax.axis_size(name),
                bar=_SHARED,
            )
            return out, lift.recorded(level)

        mapped = jax.vmap(instance, in_axes, (out_axes, 0), axis_name=name, **more)
        out, recorded = mapped(*args, **kwargs)
        return lift.finish(out, {}, recorded)

    return lifted


def scan(
    f: Callable[[Carry, X], tuple[Carry, Y]],
    init: Carry,
    xs: X | None = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    **options: Option,
) -> tuple[Carry, Y]:
    """``jax.lax.scan`` that carries state; iteration i draws keys with i folded in.

    Variables are the same in every iteration; for one per iteration see ``layer_stack``.

    Args:
      f: ``f(carry, x) -> (carry, y)``.
      init: The first carry, a pytree of arrays.
      xs: Pytree of arrays [length, ...], or None.
      length: Number of iterations, where ``xs`` does not say it.
      reverse: Whether to run from the last x to the first; the last x has the highest number still.
      unroll: As of ``jax.lax.scan``.
      **options: Others of ``jax.lax.scan``.

    Returns:
      ``(carry, ys)``, ys [length, ...].

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def total(_, x):
      ...     js.get_variable("total", initializer=0.0, trainable=False)
      ...     return None, js.assign_add("total", x)
      >>> net = js.transform_with_state(lambda xs: js.scan(total, None, xs)[1])
      >>> xs = jnp.array([1.0, 2.0, 3.0])
      >>> out, state = net.apply(*net.init(0, xs), None, xs)
      >>> print(out, state["total"])
      [1. 3. 6.] 6.0
    """
    lift = Lift(_pass.current("scan"))
    count = _length(xs) if length is None else length
    numbers = None if count is None else lift.numbers(count)
    step = lift.pure(f, axis=count)

    def body(carry: PyTree, x: PyTree) -> PyTree:
        (carry, state), (number, x) = carry, x
        out, state, recorded = step(state, number, carry, x)
        carry, y = pair("result of f of scan", out, "(carry, y)")
        return (carry, state), (y, recorded)

    carry: PyTree = init, lift.state()
    (carry, state), (ys, recorded) = jax.lax.scan(
        body, carry, (numbers, xs), length, reverse, unroll, **options
    )
    out: tuple[Carry, Y] = lift.finish((carry, ys), state, recorded)
    return out


def _length(xs: PyTree) -> int | None:
    """The number of iterations, as what is looped over says it."""
    for leaf in jax.tree.leaves(xs)[:1]:
        return next(iter(as_array("xs of a loop", leaf).shape), None)
    return None


def map(f: Callable[[X], Y], xs: X, *, batch_size: int | None = None) -> Y:  # noqa: A001
    """``jax.lax.map`` that carries state; element i draws keys with i folded in.

    Args:
      f: ``f(x) -> y``.
      xs: Pytree of arrays [n, ...].
      batch_size: As of ``jax.lax.map``; then nothing can be assigned.

    Returns:
      ys, [n, ...].

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      TransformError: (ValueError) a variable was assigned, with a ``batch_size``.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def noisy(x):
      ...     return x + jax.random.normal(js.next_rng_key(), x.shape)
      >>> net = js.transform(lambda xs: js.map(noisy, xs))
      >>> y = net.apply({}, 0, jnp.zeros([2]))
      >>> bool(y[0] == y[1])
      False
    """
    if batch_size is None:
        return scan(lambda _, x: (None, f(x)), None, xs)[1]
    lift = Lift(_pass.current("map"))
    count = _length(xs)
    numbers = None if count is None else lift.numbers(count)
    element = lift.pure(f, axis=count, bar=_BATCHED)

    def pure(given: PyTree) -> PyTree:
        out, _, recorded = element({}, *given)
        return out, recorded

    y, recorded = jax.lax.map(pure, (numbers, xs), batch_size=batch_size)
    out: Y = lift.finish(y, {}, recorded)
    return out


def while_loop(cond_fun: Callable[[T], ArrayLike], body_fun: Callable[[T], T], init_val: T) -> T:
    """``jax.lax.while_loop`` that carries state; iteration i draws keys with i folded in.

    Args:
      cond_fun: ``cond_fun(val) -> bool``; may read state and draw, but not assign.
      body_fun: ``body_fun(val) -> val``.
      init_val: Pytree of arrays.

    Returns:
      The last ``val``.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      TransformError: (ValueError) ``cond_fun`` assigned a variable.

    Example:
      >>> import jscope as js
      >>> def fn():
      ...     steps = js.get_variable("steps", initializer=0, trainable=False)
      ...     def halve(x):
      ...         js.assign_add("steps", 1)
      ...         return x / 2
      ...     return js.while_loop(lambda x: x > 1, halve, 10.0)
      >>> net = js.transform_with_state(fn)
      >>> out, state = net.apply(*net.init(0), None)
      >>> print(out, state["steps"])
      0.625 4
    """
    running = _pass.current("while_loop")
    test = Lift(running, closed="jscope.while_loop").pure(cond_fun, bar=_CONDITION)
    lift = Lift(running, closed="jscope.while_loop")
    step = lift.pure(body_fun)

    def body(given: PyTree) -> PyTree:
        number, state, value = given
        value, state, _ = step(state, number, value)
        return None if number is None else number + 1, state, value

    def go_on(given: PyTree) -> PyTree:
        number, state, value = given
        return test(state, number, value)[0]

    number = jnp.int32(0) if lift.has_rng else None
    _, state, value = jax.lax.while_loop(go_on, body, (number, lift.state(), init_val))
    out: T = lift.finish(value, state)
    return out


def fori_loop(
    lower: ArrayLike,
    upper: ArrayLike,
    body_fun: Callable[[jax.Array, T], T],
    init_val: T,
    *,
    unroll: int | bool | None = None,
) -> T:
    """``jax.lax.fori_loop`` that carries state; iteration i draws keys with i folded in.

    Args:
      lower: First i.
      upper: One more than the last i.
      body_fun: ``body_fun(i, val) -> val``.
      init_val: Pytree of arrays.
      unroll: As of ``jax.lax.fori_loop``.

    Returns:
      The last ``val``.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.

    Example:
      >>> import jscope as js
      >>> def fn():
      ...     js.get_variable("total", initializer=0, trainable=False)
      ...     def add(i, _):
      ...         return js.assign_add("total", i)
      ...     return js.fori_loop(0, 4, add, 0)
      >>> net = js.transform_with_state(fn)
      >>> out, state = net.apply(*net.init(0), None)
      >>> print(out, state["total"])
      6 6
    """
    lift = Lift(_pass.current("fori_loop"), closed="jscope.fori_loop")
    step = lift.pure(body_fun)

    def body(i: jax.Array, given: PyTree) -> PyTree:
        state, value = given
        value, state, _ = step(state, i, i, value)
        return state, value

    given = lift.state(), init_val
    state, value = jax.lax.fori_loop(lower, upper, body, given, unroll=unroll)
    out: T = lift.finish(value, state)
    return out


@overload
def cond(
    pred: ArrayLike,
    true_fun: Callable[[X], R],
    false_fun: Callable[[X], R],
    *,
    operand: X,
    **options: Option,
) -> R: ...
@overload
def cond(
    pred: ArrayLike,
    true_fun: Callable[[*Operands], R],
    false_fun: Callable[[*Operands], R],
    *operands: *Operands,
    **options: Option,
) -> R: ...
def cond(  # type: ignore[misc] # mypy: the first has no place for *operands
    pred: ArrayLike,
    true_fun: Function,
    false_fun: Function,
    *operands: *Operands,
    **options: Option,
) -> PyTree:
    """``jax.lax.cond`` whose branches may assign state; draws are those of the plain program.

    A variable that only one branch assigns keeps its value in the other.

    Args:
      pred: Scalar bool.
      true_fun: ``true_fun(*operands) -> out``.
      false_fun: ``false_fun(*operands) -> out``, of the same structure, shapes and dtypes.
      *operands: Pytrees of arrays.
      **options: Of ``jax.lax.cond``.

    Returns:
      What the branch returned.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.

    Example:
      >>> import jscope as js
      >>> def fn(train):
      ...     calls = js.get_variable("calls", initializer=0, trainable=False)
      ...     return js.cond(train, lambda: js.assign_add("calls", 1), lambda: calls)
      >>> net = js.transform_with_state(fn)
      >>> params, state = net.init(0, True)
      >>> print(net.apply(params, state, None, True)[0], net.apply(params, state, None, False)[0])
      1 0
    """
    lift = Lift(_pass.current("cond"), closed="jscope.cond")
    true, false = _branches(lift, (true_fun, false_fun), operands)
    out, state, _ = jax.lax.cond(pred, true, false, *operands, **options)
    return lift.finish(out, state)


@overload
def switch(
    index: ArrayLike,
    branches: Sequence[Callable[[*Operands], R]],
    *operands: *Operands,
    **options: Option,
) -> R: ...
@overload  # mypy takes a list of functions of several kinds for one of objects
def switch(
    index: ArrayLike, branches: Sequence[Function], *operands: PyTree, **options: Option
) -> PyTree: ...
def switch(
    index: ArrayLike, branches: Sequence[Function], *operands: *Operands, **options: Option
) -> PyTree:
    """``jax.lax.switch`` whose branches may assign state; draws are those of the plain program.

    As ``cond``, with:
      index: Scalar int, clamped to the number of branches.
      branches: Functions of the operands, of results of the same structure, shapes and dtypes.
      **options: Of ``jax.lax.switch``.

    Example:
      >>> import jscope as js
      >>> def fn(index):
      ...     js.get_variable("total", initializer=0, trainable=False)
      ...     add = [lambda: js.assign_add("total", 1), lambda: js.assign_add("total", 10)]
      ...     return js.switch(index, add)
      >>> net = js.transform_with_state(fn)
      >>> print(net.apply(*net.init(0, 1), None, 1)[0])
      10
    """
    lift = Lift(_pass.current("switch"), closed="jscope.switch")
    lifted = _branches(lift, branches, operands)
    out, state, _ = jax.lax.switch(index, lifted, *operands, **options)
    return lift.finish(out, state)


def _branches(
    lift: Lift, branches: Sequence[Function], operands: Sequence[PyTree]
) -> list[Function]:
    functions = list(branches)
    steps = [
        lift.pure(function, which=which, alike=functions.index(function))
        for which, function in enumerate(functions)
    ]
    if _jaxapi.is_jit_disabled():
        # JAX runs one branch alone; the others count in names and draws all the same.
        lift.plan(lambda: [step({}, None, *operands) for step in steps] and None)
    state = lift.state()
    return [functools.partial(step, state, None) for step in steps]


_APART = "every instance would assign a value of its own"
_OUTSIDE = "return the values and assign one outside"
_SHARED = Bar(
    "jscope.vmap(variables='share')",
    _APART,
    f"{_OUTSIDE}, or use jscope.vmap(variables='split'), where each instance has variables of its "
    "own.",
)
_BATCHED = Bar(
    "jscope.map(batch_size=...)",
    "the elements of a batch run side by side, and each would assign a value of its own",
    f"leave batch_size out, or {_OUTSIDE}.",
)
_CONDITION = Bar(
    "jscope.while_loop(cond_fun)",
    "the condition of a loop only looks at its state",
    "assign it in body_fun.",
)

_TWINS = checkpoint, cond, fori_loop, grad, jit, map, scan, switch, value_and_grad, vmap, while_loop
TWINS.update(twin.__name__ for twin in _TWINS)

"""Recorded values: record, and who looks at them.

A *seer* is one call of ``capture`` or ``plant``. A pass that starts while a seer's function runs
records for it; the values are kept on levels, and leave twins beside the results, as state does.
Where there is no seer nothing is kept, and no trace differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp

from jscope import _jaxapi, _pass
from jscope._arguments import as_arrays, bad_argument, can_call, parameters
from jscope._bars import outlets
from jscope._cache_key import TraceGuard
from jscope._calls import Place
from jscope._level import Axis, Bar, Outlet, Seer
from jscope._names import check_name, join, not_text
from jscope._params import PyTree
from jscope._pass import Pass, Sink
from jscope._report import describe, report_at, where
from jscope._sharding import laid_like
from jscope.errors import ArgumentError, CheckError, Site, TransformError

T = TypeVar("T")


def record(name: str, value: T) -> T:
    """Gives a value of the running pass a name, for ``capture`` to show and ``plant`` to replace.

    Its full name is that of the open scope and ``name``, numbered where it was recorded before in
    the same call: ``tower/output``, then ``tower/output_1``. Functions of ``jscope.layers`` record
    their result as ``output`` in their scope. Unless ``capture`` or ``plant`` asks for it, nothing
    is computed or kept, in init and specs never.

    Out of ``jscope.jit``, ``checkpoint``, ``grad`` and ``value_and_grad`` a value comes as it is,
    and out of ``scan``, ``map``, ``vmap`` and ``layer_stack`` with a leading axis. Out of other
    functions and raw JAX transforms it cannot come: what is asked for there is refused.

    Args:
      name: Relative to the open scope.
      value: Array, or pytree of arrays.

    Returns:
      The value, or what is planted in its place.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      NameTypeError: (ValueError, TypeError) ``name`` is no string.
      InvalidNameError: (ValueError) ``name`` is not valid.
      ArgumentError: (ValueError, TypeError) the value is asked for, and is no pytree of arrays.
      TransformError: (ValueError) the value is asked for, and could not get out, or leaked from a
        finished trace.
      CheckError: (ValueError) what is planted has another structure, shape or dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def net(x):
      ...     with js.variable_scope("body"):
      ...         return 2 * js.record("hidden", jnp.tanh(x))
      >>> out, seen = js.capture(js.transform(net).apply)({}, None, jnp.zeros([3]))
      >>> list(seen), seen["body/hidden"].shape
      (['body/hidden'], (3,))
    """
    running, full = _named(name)
    if not running.level.seers:
        return value
    planted, keepers = _ask(running, full, _shapes(value), lambda: value)
    found: T = value
    if planted is not None:
        found = jax.tree.map(lambda new, old: laid_like(new, jnp.asarray(old)), planted, value)
    _keep(running, keepers, found)
    return found


def planted_or_none(name: str, compute: Callable[[], jax.Array]) -> jax.Array | None:
    """What is planted as ``name``; records what is computed only where somebody looks at it."""
    running, full = _named(name)
    if not running.level.seers:
        return None
    planted: jax.Array | None
    planted, keepers = _ask(running, full, jax.eval_shape(compute), compute)
    if keepers:
        _keep(running, keepers, compute() if planted is None else planted)
    return planted


def _named(name: str) -> tuple[Pass, str]:
    running = _pass.peek()
    if running is None or running.level.seers:  # else no cache of JAX's is to know of the call
        running = _pass.current("record")
    if not isinstance(name, str):
        raise not_text("name of a recorded value", name)
    check_name(name, "record")
    return running, join(running.prefix, name)


def _shapes(value: PyTree) -> PyTree:
    """The value with ``jax.ShapeDtypeStruct`` for arrays; what is no usable array stays."""

    def shape(leaf: object) -> object:
        if isinstance(leaf, _jaxapi.Tracer) and not _jaxapi.is_live(leaf):
            return leaf
        try:
            found = jax.typeof(leaf)
        except (OverflowError, TypeError):  # the first of an int that is too large
            return leaf
        return jax.ShapeDtypeStruct(found.shape, found.dtype, weak_type=found.weak_type)

    return jax.tree.map(shape, value)


def _check_arrays(running: Pass, name: str, shapes: PyTree) -> None:
    """Refuses what ``_shapes`` left: only where somebody asks for the value does it matter."""
    for leaf in jax.tree.leaves(shapes):
        if isinstance(leaf, _jaxapi.Tracer):
            raise _leaked(name, running.here())
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            raise bad_argument(f"value recorded as {name}", leaf, "a pytree of arrays")


def _ask(
    running: Pass, full: str, shapes: PyTree, compute: Callable[[], PyTree]
) -> tuple[PyTree, list[tuple[Seer, str]]]:
    """What is planted in place of a value, or None; who keeps it, and under which name."""
    level = running.level
    place = running.calls.observe(level)[1]
    planted, keepers = None, []
    for seer, outlet in outlets(level, running.calls.crossing(level)).items():
        name = seer.name(full, place, shapes)
        if not seer.is_meant(name, shapes):
            continue
        if outlet.bar is not None:
            raise _stays(name, outlet.bar, running.here())
        _check_arrays(running, name, shapes)
        new = seer.planted.get(name)
        if callable(new):
            value = compute() if planted is None else planted
            planted = _given(running, name, new, value, shapes, outlet.axes)
        elif name in seer.planted:  # of two the outer one, which was planted later
            planted = _part(running, name, new, shapes, outlet.axes)
        else:
            keepers.append((seer, name))
    return planted, keepers


def _keep(running: Pass, keepers: Sequence[tuple[Seer, str]], value: PyTree) -> None:
    if keepers:
        arrays = jax.tree.map(jnp.asarray, value)
        running.level.recorded.update(dict.fromkeys(keepers, arrays))


def _part(
    running: Pass, name: str, planted: PyTree, shapes: PyTree, axes: Sequence[Axis]
) -> PyTree:
    """What is planted for this iteration of the loops around."""
    sizes = tuple([axis.size for axis in axes])
    wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(sizes + leaf.shape, leaf.dtype), shapes)
    if not _fits(planted, wanted):
        raise _unfit(_VALUE, name, planted, wanted, running.here(), _first(len(sizes)))
    if 0 in sizes:  # nothing runs that could be given a part
        return None

    def part(leaf: jax.Array) -> jax.Array:
        for axis in axes:
            leaf = jax.lax.dynamic_index_in_dim(leaf, axis.number(), keepdims=False)
        return leaf

    return _promoted_like(jax.tree.map(part, planted), shapes)


def _given(
    running: Pass,
    name: str,
    function: Callable[..., PyTree],
    value: PyTree,
    shapes: PyTree,
    axes: Sequence[Axis],
) -> PyTree:
    """What a planted function gives for a value of this iteration of the loops around."""
    numbers = [axis.number() for axis in axes] if _wants_numbers(function, value) else []
    if not can_call(function, value, *numbers):
        raise _cannot_take(name, function, len(axes))
    found = function(value, *numbers)
    given = as_arrays(f"result of what is planted as {name}", found)
    if not _fits(given, shapes):
        raise _unfit(_RESULT, name, given, shapes, running.here())
    return _promoted_like(given, shapes)


def _wants_numbers(function: Callable[..., PyTree], value: PyTree) -> bool:
    """Whether it needs more than the value, or takes ``*numbers`` beside it.

    Others may have options, such as the ``dtype`` of ``jnp.zeros_like``.
    """
    first, second = [*parameters(function), "", ""][:2]
    if not first.startswith("*") and second.startswith("*") and not second.startswith("**"):
        return True
    return not can_call(function, value)


def _promoted_like(planted: PyTree, shapes: PyTree) -> PyTree:
    """The same values, whose dtypes give way to others where those of what is recorded do."""
    return jax.tree.map(
        lambda new, old: _jaxapi.with_weak_type(new, old.weak_type), planted, shapes
    )


def _fits(planted: PyTree, wanted: PyTree) -> bool:
    facts = [
        (jax.tree.structure(tree), [describe(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (wanted, planted)
    ]
    return facts[0] == facts[1]


def connect(running: Pass) -> dict[tuple[Seer, str], PyTree] | None:
    """Makes a pass that starts here record for those who look, and says where the values go."""
    sink = _pass.around()
    if sink is None or not sink.level.seers:
        return None
    _pass.touch(sink)
    level = running.level
    level.seers, level.place = ways_from(sink)
    running.guard = running.calls.guard = TraceGuard(looked_at=True)
    return sink.level.recorded


def ways_from(sink: Sink) -> tuple[dict[Seer, Outlet], Place]:
    """Who looks at what is recorded by a function that starts here, and its place."""
    level = sink.level
    crossing, place = sink.calls.crossing(level), sink.calls.observe(level)[1]
    return outlets(level, crossing, in_pass=isinstance(sink, Pass)), place


def _stays(name: str, bar: Bar, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"The value {name} cannot be captured or planted: it is recorded inside {bar.name}, and "
        f"{bar.reason}.",
        sites,
        f"{bar.fix} A pattern of capture may leave it out.",
        name=name,
        transform=bar.name.removeprefix("raw "),
    )


def _leaked(name: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"The value recorded as {name} is a tracer that leaked from a finished trace.",
        sites,
        "record values where they are computed, not tracers stored elsewhere.",
        name=name,
    )


_VALUE = (
    "The value planted as {} is",
    "plant a value of that structure, shape and dtype, as jscope.capture shows it.",
)
_RESULT = (
    "The function planted as {} returns",
    "return a value of that structure, shape and dtype.",
)


def _unfit(
    what: tuple[str, str],
    name: str,
    found: PyTree,
    wanted: PyTree,
    sites: tuple[Site, ...],
    loops: str | None = None,
) -> CheckError:
    """``what`` is how the error begins and what to do, ``loops`` what is said of first axes."""
    begins, fix = what
    shown = [str(jax.tree.map(describe, tree)) for tree in (wanted, found)]
    return CheckError(
        f"{begins.format(name)} {shown[1]}, and what is recorded is {shown[0]}.",
        {"asked": f"at {where(sites)}", "loops": loops, "fix": fix},
        mismatched={name: (shown[0], shown[1])},
    )


def _first(loops: int) -> str | None:
    if loops > 1:
        return f"the first {loops} axes are of loops"
    return "the first axis is that of the loop around it" if loops else None


def _cannot_take(name: str, function: object, loops: int) -> ArgumentError:
    each = ", and may take the number of the iteration of each loop around it, outermost first"
    wanted = f"a function of what is recorded{each * bool(loops)}"
    call = ", ".join(["value", *["number"] * loops])
    either = "f(value), or " * bool(loops)
    return bad_argument(
        f"function planted as {name}", function, wanted, f"make it {either}f({call})."
    )

"""The one file that touches JAX's less public corners, for JAX 0.10 to 0.12."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax._src import array as _array
from jax._src import core as _core
from jax._src import tree_util as _tree_util
from jax._src.interpreters import ad as _ad
from jax._src.interpreters import batching as _batching
from jax._src.interpreters import partial_eval as _partial_eval

Tracer = jax.core.Tracer
ARRAYS = frozenset({_array.ArrayImpl, _partial_eval.DynamicJaxprTracer})
"""The usual types of values; asking for them is faster than ``isinstance(value, jax.Array)``."""

JAX_FOLDER = os.path.dirname(jax.__file__) + os.sep
"""Code below this folder is JAX's."""

TREE_FILES = frozenset(
    {_tree_util.__file__, *(JAX_FOLDER + file for file in ("tree_util.py", "_src/tree.py"))}
)
"""JAX's files whose functions call the user's once per leaf because the user asked them to."""

# A context whose value is part of the key of every trace, lowering and compilation cache of JAX.
_context: Any = jax.make_user_context(None)

# Traces that JAX never caches: the function they run is called anew each time. Any other trace,
# one that this version does not know included, is taken for one that JAX may keep.
_UNCACHED = (_ad.JVPTrace, _ad.LinearizeTrace, _batching.BatchTrace)

_trace_context = _core.trace_ctx


def get_context() -> Any:
    """The value of jscope's trace-cache key in this thread."""
    return _context.value


def set_context(value: Any) -> None:
    """Sets jscope's trace-cache key in this thread, until it is set again."""
    _context(value).__enter__()


def current_trace() -> Any:
    """The trace that JAX is in; the caller must not keep it, see ``trace_ref``."""
    return _trace_context.trace


def current_ref() -> Any:
    """``trace_ref`` of the current trace."""
    return _trace_context.trace._weakref


def trace_ref(trace: Any) -> Any:
    """A weak reference to ``trace``, hashable, one object per trace."""
    return trace._weakref


def staged(trace: Any) -> Any:
    """The innermost trace around (or of) ``trace`` whose result JAX may cache."""
    while type(trace) in _UNCACHED:
        trace = trace.parent_trace
    return trace


def is_around(tracer: Any, trace: Any) -> bool:
    """Whether ``tracer`` belongs to ``trace`` or to one that it is known to be inside of."""
    owner = tracer._trace
    while trace is not None:
        if trace is owner or getattr(trace, "tangent_trace", None) is owner:
            return True
        trace = getattr(trace, "parent_trace", None)
    return False


def is_live(tracer: Any) -> bool:
    """Whether the trace that ``tracer`` belongs to still runs."""
    # Some transforms (shard_map, custom_vjp) do not say which trace is around theirs. A running
    # trace is a local variable of the function of JAX that runs it.
    trace = _trace_context.trace
    if tracer._trace is trace:
        return True
    return is_around(tracer, trace) or _is_local_of_jax(tracer._trace)


def _is_local_of_jax(thing: Any) -> bool:
    frame: types.FrameType | None = sys._getframe(1)
    found = False
    while frame is not None and not found:
        code = frame.f_code
        if code.co_filename.startswith(JAX_FOLDER) and code.co_flags & inspect.CO_OPTIMIZED:
            values = frame.f_locals
            found = any(value is thing for value in values.values())
            if type(values) is dict:  # before Python 3.13 a copy, which would keep values alive
                values.clear()
        frame = frame.f_back
    return found


def is_eager(trace: Any) -> bool:
    """Whether operations under ``trace`` run now, rather than being recorded for a compiler."""
    return isinstance(staged(trace), _core.EvalTrace)


def placeholder(trace: Any, mesh: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """An array without values, made in ``trace``, which may lie around the current one.

    Args:
      trace: A staged trace that runs.
      mesh: The abstract mesh that is set there, over which the array is replicated; may be empty.
      shape: Sizes.
      dtype: Any.
    """
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    with _core.set_current_trace(trace), jax.sharding.use_abstract_mesh(mesh):
        array: jax.Array = jax.lax.empty(shape, dtype, out_sharding=sharding)
        return array


def layer(trace: Any, mesh: Any, whole: jax.Array) -> jax.Array:
    """A layer of an array [n, ...], in the trace and on the mesh of the body of a scan."""
    if not whole.shape[0]:
        return placeholder(trace, mesh, whole.shape[1:], whole.dtype)
    # Of the array, so that it is mapped, varies and is laid out as the array is.
    with _core.set_current_trace(trace), jax.sharding.use_abstract_mesh(mesh):
        return jax.lax.squeeze(jax.lax.slice_in_dim(whole, 0, 1), (0,))


def on_mesh(value: Any) -> Any:
    """An initial value as a placeholder stands for it: replicated over the mesh that is set."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or jax.sharding.AxisType.Manual in mesh.axis_types:
        return value
    found: Any = jax.typeof(value).sharding
    if found.mesh == mesh and not any(found.spec):
        return value
    return jax.sharding.reshard(value, jax.sharding.PartitionSpec())


def instance(trace: Any, array: Any) -> Any:
    """One instance's part of an array [axis_size, ...], in the trace of a ``vmap``."""
    return _batching.BatchTracer(trace, array, 0, None)


class Transform(NamedTuple):
    """A transform of JAX, as recognised by its frame on the Python stack."""

    name: str
    twin: str | None
    """The function of jscope that takes its place, where there is one."""
    once: bool
    """Whether one call of it runs its function once, for one value of each argument."""


def _once(name: str, twin: str | None = None) -> Transform:
    return Transform(name, twin, once=True)


def _repeats(name: str, twin: str | None = None) -> Transform:
    return Transform(name, twin, once=False)


# File of JAX -> outermost function there -> transform. Traces do not tell a scan from a jit.
_TRANSFORMS: dict[str, dict[str, Transform | None]] = {
    "_src/pjit.py": {"_cpp_pjit": _once("jax.jit", "jit"), "jit_trace": None},
    "_src/ad_checkpoint.py": {"checkpoint": _once("jax.checkpoint", "checkpoint")},
    "_src/lax/control_flow/conditionals.py": {
        "cond": _once("jax.lax.cond", "cond"),
        "switch": _once("jax.lax.switch", "switch"),
    },
    "_src/api.py": {
        "eval_shape": _once("jax.eval_shape"),
        "grad": _once("jax.grad", "grad"),
        "jacrev": _once("jax.jacrev"),
        "jvp": _once("jax.jvp"),
        "linearize": _once("jax.linearize"),
        "value_and_grad": _once("jax.value_and_grad", "value_and_grad"),
        "vjp": _once("jax.vjp"),
        "vmap": _repeats("jax.vmap", "vmap"),
    },
    "_src/source_info_util.py": {"ExtendNameStackContextManager": _once("jax.named_call")},
    "_src/lax/control_flow/loops.py": {
        "associative_scan": _repeats("jax.lax.associative_scan"),
        "fori_loop": _repeats("jax.lax.fori_loop", "fori_loop"),
        "map": _repeats("jax.lax.map", "map"),
        "scan": _repeats("jax.lax.scan", "scan"),
        "while_loop": _repeats("jax.lax.while_loop", "while_loop"),
    },
    "_src/custom_derivatives.py": {
        "closure_convert": _repeats("jax.closure_convert"),
        "custom_jvp": _repeats("jax.custom_jvp"),
        "custom_vjp": _repeats("jax.custom_vjp"),
    },
    "_src/shard_map.py": {"_shard_map": _repeats("jax.shard_map")},
    "_src/pmap.py": {"pmap": _repeats("jax.pmap")},
}

# Files that only pass a call on. Private functions of the files above do so too.
_PLUMBING = frozenset(
    "_src/" + file
    for file in (
        "api_util.py",
        "core.py",
        "interpreters/ad.py",
        "interpreters/partial_eval.py",
        "linear_util.py",
        "profiler.py",
        "traceback_util.py",
        "util.py",
    )
)

_ONCE_TRACES = (_ad.JVPTrace, _ad.LinearizeTrace, _partial_eval.DynamicJaxprTrace)


@functools.lru_cache(maxsize=4096)
def transform_of(code: types.CodeType) -> Transform | None:
    """The transform that a function of JAX implements; None where it only passes a call on.

    Functions that this file does not know count as transforms that repeat.
    """
    file = code.co_filename.removeprefix(JAX_FOLDER).replace(os.sep, "/")
    outermost = code.co_qualname.partition(".")[0]
    known = _TRANSFORMS.get(file)
    if known is not None:
        if outermost in known:
            return known[outermost]
        if outermost.startswith("_"):
            return None
    if file in _PLUMBING:
        return None
    return Transform(f"{outermost} of {file}", None, once=False)


def is_once_inside(outer: Any) -> bool:
    """Whether all traces inside that of the reference ``outer`` are of transforms that run once."""
    trace = _trace_context.trace
    while trace is not None and trace._weakref is not outer:
        if type(trace) not in _ONCE_TRACES:
            return False
        trace = getattr(trace, "parent_trace", None)
    return trace is not None


def used_inputs(closed: Any, output: int | None = None) -> tuple[bool, ...]:
    """Which inputs of a jaxpr one output (or any output) depends on."""
    _, used = _dce(closed, output)
    return tuple(used)


def _dce(closed: Any, output: int | None) -> tuple[Any, Sequence[bool]]:
    count = len(closed.jaxpr.outvars)
    wanted = [output is None or index == output for index in range(count)]
    jaxpr, used = _partial_eval.dce_jaxpr(closed.jaxpr, wanted)
    return jaxpr, used


def prune(closed: Any) -> tuple[Callable[..., Sequence[Any]], tuple[bool, ...]]:
    """A function of only the inputs that the outputs depend on, and which inputs those are."""
    from jax.extend.core import ClosedJaxpr, jaxpr_as_fun  # here, because it imports Pallas

    jaxpr, used = _dce(closed, None)
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, closed.consts)), tuple(used)

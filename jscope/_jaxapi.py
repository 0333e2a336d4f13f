"""The one file that touches JAX's less public corners, for JAX 0.10 to 0.12."""

from __future__ import annotations

import inspect
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

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

TREE_FILES = frozenset({_tree_util.__file__, JAX_FOLDER + "tree_util.py"})
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

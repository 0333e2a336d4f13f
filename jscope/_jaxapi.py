"""The one file that touches JAX's less public corners, for JAX 0.10 to 0.12."""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import os
import sys
import types
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import numpy as np
from jax._src import array as _array
from jax._src import config as _config
from jax._src import core as _core
from jax._src import linear_util as _linear_util
from jax._src import literals as _literals
from jax._src import named_sharding as _named_sharding
from jax._src import pjit as _pjit
from jax._src import shard_map as _shard_map
from jax._src import traceback_util as _traceback_util
from jax._src.interpreters import ad as _ad
from jax._src.interpreters import batching as _batching
from jax._src.interpreters import partial_eval as _partial_eval
from jax._src.lax import lax as _lax
from jax.custom_batching import custom_vmap
from jax.typing import ArrayLike

from jscope._layout import axes_of, entry_of
from jscope._spec import DType, Function, Shape

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Trace: TypeAlias = Any
"""One of JAX's traces, which is in no version public."""
TraceRef: TypeAlias = Any
"""See ``trace_ref``."""
CallInfo: TypeAlias = Any
"""JAX's description of a call, see ``call_info``."""
Jaxpr: TypeAlias = Any
"""A jaxpr, or a closed one."""
ContextKey: TypeAlias = Any
"""A value of jscope's part of the keys of JAX's caches of traces: hashable."""
Inspected: TypeAlias = Any
"""A value whose private attributes are looked at."""

Tracer = jax.core.Tracer
ARRAYS = frozenset({_array.ArrayImpl, _partial_eval.DynamicJaxprTracer})
"""The usual types of values; asking for them is faster than ``isinstance(value, jax.Array)``."""
Literal = _core.Literal
JAXPRS: tuple[type, ...] = (_core.Jaxpr, getattr(_core, "ClosedJaxpr", _core.Jaxpr))
STATIC = (
    _core.AbstractValue,
    _named_sharding.UnspecifiedValue,
    jax.sharding.AbstractMesh,
    jax.sharding.Mesh,
    jax.sharding.PartitionSpec,
    jax.sharding.Sharding,
)
"""Parameters of equations that are compared by what they mean."""

INFER: Any = inspect.signature(jax.shard_map).parameters["in_specs"].default
"""What ``jax.shard_map`` has for ``in_specs`` that follow from the arguments, public by no name."""

JAX_FOLDER = os.path.dirname(jax.__file__) + os.sep
"""Code below this folder is JAX's."""

OWN_FOLDER = os.path.dirname(__file__) + os.sep
"""Code below this folder is jscope's."""

# As JAX's own files: not shown below an ``entry``, unless jax_traceback_filtering says so.
_traceback_util.register_exclusion(OWN_FOLDER)

# A context whose value is part of the key of every trace, lowering and compilation cache of JAX.
_context: Any = jax.make_user_context(None)

# Traces that JAX never caches: the function they run is called anew each time. Any other trace,
# one that this version does not know included, is taken for one that JAX may keep.
_UNCACHED = (_ad.JVPTrace, _ad.LinearizeTrace, _batching.BatchTrace)

_trace_context = _core.trace_ctx


def entry(function: F) -> F:
    """The function, whose errors show no frames of jscope and JAX, as those of ``jax.jit``."""
    bounded: F = _traceback_util.api_boundary(function)
    return bounded


def get_context() -> ContextKey:
    """The value of jscope's trace-cache key in this thread."""
    return _context.value


def set_context(value: ContextKey) -> None:
    """Sets jscope's trace-cache key in this thread, until it is set again."""
    _context(value).__enter__()


def current_trace() -> Trace:
    """The trace that JAX is in; the caller must not keep it, see ``trace_ref``."""
    return _trace_context.trace


def current_ref() -> TraceRef:
    """``trace_ref`` of the current trace."""
    return _trace_context.trace._weakref


def trace_ref(trace: Trace) -> TraceRef:
    """A weak reference to ``trace``, hashable, one object per trace."""
    return trace._weakref


def staged(trace: Trace) -> Trace:
    """The innermost trace around (or of) ``trace`` whose result JAX may cache."""
    while type(trace) in _UNCACHED:
        trace = trace.parent_trace
    return trace


def is_around(tracer: Inspected, trace: Trace) -> bool:
    """Whether ``tracer`` belongs to ``trace`` or to one that it is known to be inside of."""
    owner = tracer._trace
    while trace is not None:
        if trace is owner or getattr(trace, "tangent_trace", None) is owner:
            return True
        trace = getattr(trace, "parent_trace", None)
    return False


def is_current(value: object) -> bool:
    """Whether a value is a tracer of the current trace, so that operations here can take it."""
    return getattr(value, "_trace", None) is _trace_context.trace


def is_live(tracer: Inspected) -> bool:
    """Whether the trace that ``tracer`` belongs to still runs."""
    # Some transforms (shard_map, custom_vjp) do not say which trace is around theirs. A running
    # trace is a local variable of the function of JAX that runs it.
    trace = _trace_context.trace
    if tracer._trace is trace:
        return True
    return is_around(tracer, trace) or _is_local_of_jax(tracer._trace)


def is_derived(tracer: Inspected) -> bool:
    """Whether ``tracer`` belongs to a trace that takes derivatives."""
    return isinstance(tracer._trace, _ad.JVPTrace | _ad.LinearizeTrace)


def is_beyond(tracer: Inspected, around: list[Trace]) -> bool:
    """Whether ``tracer`` belongs to a trace that lies inside one of those ``around`` us."""
    trace = tracer._trace
    while trace is not None:
        if any(trace is other for other in around):
            return trace is not tracer._trace
        trace = parent(trace)
    return False


def frames(
    start: types.FrameType, ends: Sequence[types.CodeType] = ()
) -> Iterator[types.FrameType]:
    """The frames from ``start`` outwards, up to one that runs one of the codes ``ends``."""
    frame: types.FrameType | None = start
    while frame is not None and frame.f_code not in ends:
        yield frame
        frame = frame.f_back


def _is_local_of_jax(thing: object) -> bool:
    return any(
        value is thing
        for frame in frames(sys._getframe(1))
        if frame.f_code.co_filename.startswith(JAX_FOLDER)
        for value in locals_of(frame).values()
    )


def is_jit_disabled() -> bool:
    """Whether ``jax.disable_jit`` is in force."""
    return bool(jax.config.jax_disable_jit)  # type: ignore[attr-defined]


def is_eager(trace: Trace) -> bool:
    """Whether operations under ``trace`` run now, rather than being recorded for a compiler."""
    return isinstance(staged(trace), _core.EvalTrace)


def set_mesh(mesh: jax.sharding.Mesh) -> contextlib.AbstractContextManager[object]:
    """``jax.set_mesh``, which JAX refuses in a ``vmap`` or ``grad`` of operations that run now."""
    with _core.eval_context():
        return jax.set_mesh(mesh)


def concrete_mesh() -> jax.sharding.Mesh | None:
    """The mesh of devices that is set, where operations run now; None without one."""
    if not _core.trace_state_clean():
        return None
    mesh = jax.sharding.get_mesh()
    return None if mesh.empty else mesh


def is_trace(value: object) -> bool:
    """Whether ``value`` is one of JAX's traces, other than that of eager operations."""
    return isinstance(value, _core.Trace) and not isinstance(value, _core.EvalTrace)


def parent(trace: Trace) -> Trace | None:
    """The trace around ``trace``, or None where it is the outermost or does not say."""
    return getattr(trace, "parent_trace", None)


def call_info(trace: Trace) -> CallInfo:
    """JAX's description of the call that a trace is of: one object for each call, or None."""
    return getattr(getattr(trace, "frame", None), "debug_info", None)


def is_branch(info: CallInfo | None) -> bool:
    """Whether a description is of a branch of ``cond``, ``switch`` or ``platform_dependent``."""
    return info is not None and info.traced_for in ("cond", "switch")


def custom_rule(info: CallInfo | None) -> str | None:
    """The transform with a rule of derivatives that a description is of, if it is of one."""
    purpose = "" if info is None else info.traced_for.partition(" ")[0]
    return f"jax.{purpose}" if purpose in ("custom_jvp", "custom_vjp") else None


def current_rule() -> str | None:
    """The transform whose rule of derivatives JAX is running, if traces tell it."""
    return custom_rule(call_info(staged(_trace_context.trace)))


def is_of_shards(info: CallInfo | None) -> bool:
    """Whether a description is of a function of ``shard_map``."""
    return info is not None and info.traced_for == "shard_map"


_AFTER = ("custom_root ", "custom_linear_solve ", "custom_jvp jvp", "custom_vjp fwd")


def is_later(info: CallInfo | None) -> bool:
    """Whether a description is of a function that may call one that JAX traced before it."""
    return info is not None and info.traced_for.startswith(_AFTER)


def is_own(frame: types.FrameType) -> bool:
    """Whether a frame whose file lies in JAX's folder is of one of JAX's modules."""
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.partition(".")[0] == "jax"


def _is_tracing(code: types.CodeType) -> bool:
    """Whether a code is of a function of JAX that traces its argument ``fun``."""
    names = code.co_varnames[: code.co_argcount]
    return "fun" in names and "debug_info" in names and code.co_filename.startswith(JAX_FOLDER)


def tracing_frame(info: CallInfo, start: types.FrameType) -> types.FrameType | None:
    """The frame of JAX's that traces its local ``fun`` for a call."""
    for frame in frames(start):
        if _is_tracing(frame.f_code) and locals_of(frame).get("debug_info") is info:
            return frame
    return None


def forget_traces(is_dead: Callable[[object], bool]) -> None:
    """Drops functions from JAX's trace cache that it traced under a context value that is dead.

    That cache keeps every trace of a function for as long as the function lives. What it drops
    with them, of living values, is traced again when next asked for.
    """
    cache: Any = _partial_eval.trace_to_jaxpr
    if not hasattr(cache, "evict_weakref") or not hasattr(cache, "cache_keys"):
        return
    functions = {ref for ref, context, *_ in cache.cache_keys() if any(map(is_dead, context))}
    for ref in functions:
        function = ref()
        if function is not None:
            cache.evict_weakref(function)


def placeholder(
    trace: Trace,
    mesh: jax.sharding.AbstractMesh,
    shape: Shape,
    dtype: DType,
    partition: jax.sharding.PartitionSpec | None = None,
) -> jax.Array:
    """An array without values, made in ``trace``, which may lie around the current one.

    Args:
      trace: A staged trace that runs.
      mesh: The abstract mesh that is set there; may be empty.
      shape: Sizes.
      dtype: Any.
      partition: How it is laid out there; replicated if None.
    """
    sharding = jax.sharding.NamedSharding(
        mesh, _part(mesh, partition, jax.sharding.AxisType.Explicit)
    )
    with _core.set_current_trace(trace), jax.sharding.use_abstract_mesh(mesh):
        array: jax.Array = jax.lax.empty(shape, dtype, out_sharding=sharding)
        return array


def layer(trace: Trace, mesh: jax.sharding.AbstractMesh, whole: jax.Array) -> jax.Array:
    """A layer of an array [n, ...], in the trace and on the mesh of the body of a scan."""
    if not whole.shape[0]:
        return placeholder(trace, mesh, whole.shape[1:], whole.dtype)
    # Of the array, so that it is mapped, varies and is laid out as the array is.
    with _core.set_current_trace(trace), jax.sharding.use_abstract_mesh(mesh):
        return jax.lax.squeeze(jax.lax.slice_in_dim(whole, 0, 1), (0,))


def _part(
    mesh: jax.sharding.AbstractMesh,
    partition: jax.sharding.PartitionSpec | None,
    kind: jax.sharding.AxisType,
) -> jax.sharding.PartitionSpec:
    """The part of a layout that is over the axes of one kind: types tell that of explicit ones."""
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))

    asked = () if mesh.empty else partition or ()
    entries = [
        entry_of(name for name in axes_of(entry) if kinds.get(name) == kind) for entry in asked
    ]
    while entries and entries[-1] is None:
        entries.pop()
    return jax.sharding.PartitionSpec(*entries)


def on_mesh(
    value: jax.Array,
    partition: jax.sharding.PartitionSpec | None = None,
    own: jax.sharding.Mesh | None = None,
) -> jax.Array:
    """An initial value as a placeholder stands for it: laid out so over the mesh that is set.

    ``own`` is the mesh of devices where a network has set it, which a ``jit`` around it does not
    know: it takes its devices from what is constrained to be on them.
    """
    mesh, kinds = jax.sharding.get_abstract_mesh(), jax.sharding.AxisType
    if mesh.empty or kinds.Manual in mesh.axis_types:
        return value
    typed, constrained = (_part(mesh, partition, kind) for kind in (kinds.Explicit, kinds.Auto))
    place = constrained if own is None else jax.sharding.NamedSharding(own, constrained)

    def lay(value: jax.Array) -> jax.Array:
        found = jax.typeof(value).sharding
        if found.mesh != mesh or _part(mesh, found.spec, kinds.Explicit) != typed:
            value = jax.sharding.reshard(value, typed)
        if constrained or (own is not None and kinds.Auto in mesh.axis_types):
            value = jax.lax.with_sharding_constraint(value, place)
        return value

    # One after the other, each would undo the other where operations run now.
    both = typed and constrained and is_eager(current_trace())
    laid: jax.Array = (jax.jit(lay) if both else lay)(value)
    return laid


def instance(trace: Trace, array: jax.Array) -> jax.Array:
    """One instance's part of an array [axis_size, ...], in the trace of a ``vmap``."""
    part: jax.Array = _batching.BatchTracer(trace, array, 0, None)
    return part


def with_weak_type(value: jax.Array, weak_type: bool) -> jax.Array:
    """The value with a dtype that gives way in promotion, as Python numbers do, or with one not."""
    if jax.typeof(value).weak_type == weak_type:
        return value
    found: jax.Array = _lax._convert_element_type(value, value.dtype, weak_type=weak_type)
    return found


class Transform(NamedTuple):
    """A transform of JAX."""

    name: str
    once: bool
    """Whether one call of it runs its function once, for one value of each argument."""


# The type of a trace -> transform; each trace is a call of its own.
_BY_TYPE: dict[type, Transform] = {
    _ad.JVPTrace: Transform("jax.jvp", once=True),
    _ad.LinearizeTrace: Transform("jax.linearize", once=True),
    _batching.BatchTrace: Transform("jax.vmap", once=False),
    _shard_map.ShardMapTrace: Transform("jax.shard_map", once=False),  # of an eager one
}

# What JAX says a function was traced for -> transform.
_BY_PURPOSE = {
    "jit": Transform("jax.jit", once=True),
    "checkpoint / remat": Transform("jax.checkpoint", once=True),
    "cond": Transform("jax.lax.cond", once=True),
    "switch": Transform("jax.lax.switch", once=True),
    "scan": Transform("jax.lax.scan", once=False),
    "while_cond": Transform("jax.lax.while_loop", once=False),
    "while_body": Transform("jax.lax.while_loop", once=False),
    "fori_loop": Transform("jax.lax.fori_loop", once=False),
    "shard_map": Transform("jax.shard_map", once=False),
    "custom_jvp fun": Transform("jax.custom_jvp", once=False),
    "custom_vjp fun": Transform("jax.custom_vjp", once=False),
}
_MAP = Transform("jax.lax.map", once=False)


def transform_of(trace: Trace) -> Transform:
    """The transform that a trace belongs to; one that is not known here counts as repeating."""
    info = call_info(trace)
    if info is None:
        name = type(trace).__name__.removesuffix("Trace")
        return _BY_TYPE.get(type(trace), Transform(f"transform of JAX ({name})", once=False))
    if info.traced_for == "scan" and JAX_FOLDER in info.func_src_info:
        return _MAP  # a scan of a function of JAX's own
    known = _BY_PURPOSE.get(info.traced_for)
    return known or Transform(f"{info.traced_for} of JAX", once=False)


def _code(function: Function) -> types.CodeType:
    code: types.CodeType = inspect.unwrap(function).__code__
    return code


_API_FILE = _code(jax.grad).co_filename
_DERIVATIVES = {"grad", "value_and_grad", "vjp", "jacrev"}


def derivative_of(code: types.CodeType) -> Transform | None:
    """The transform that a frame of JAX's belongs to, of those whose traces look alike."""
    name = code.co_qualname.partition(".")[0] if code.co_filename == _API_FILE else ""
    return Transform(f"jax.{name}", once=True) if name in _DERIVATIVES else None


SCAN = _code(jax.lax.scan)
WHILE_LOOP = _code(jax.lax.while_loop)

# The functions of JAX that call the user's again within one trace, by their code. A rule of
# custom_jvp, custom_vjp and custom_vmap stands for the function itself.
_AGAIN = {
    _code(jax.lax.associative_scan): Transform("jax.lax.associative_scan", once=False),
    _code(jax.lax.map): _MAP,
    _code(jax.custom_jvp.__call__): _BY_PURPOSE["custom_jvp fun"],
    _code(jax.custom_vjp.__call__): _BY_PURPOSE["custom_vjp fun"],
    _code(custom_vmap.__call__): Transform("jax.custom_batching.custom_vmap", once=False),
    SCAN: _BY_PURPOSE["scan"],  # under jax.disable_jit, as the next one
    WHILE_LOOP: _BY_PURPOSE["while_body"],
}
AGAIN = frozenset(_AGAIN)
AGAIN_FILES = frozenset(code.co_filename for code in _AGAIN)

PLATFORM_DEPENDENT = _code(jax.lax.platform_dependent)
RULES = {
    code: transform.name
    for code, transform in _AGAIN.items()
    if transform.name in ("jax.custom_jvp", "jax.custom_vjp")
}
JIT_TRACE = _code(_pjit.jit_trace)
SOLVERS = frozenset({_code(jax.lax.custom_root), _code(jax.lax.custom_linear_solve)})
TRACED = Transform("jax.make_jaxpr (or trace of jax.jit)", once=False)
EVAL_SHAPE = _code(jax.eval_shape)
SHAPES = Transform("jax.eval_shape", once=True)
NAMED_CALL = Transform("jax.named_call", once=True)  # which makes no trace: a value gets out of it

# Those that show in no trace, or in traces that look like another transform's. The numpy ones map
# or not by the rank of what they are given.
UNSEEN: dict[types.CodeType, Transform] = {
    **_AGAIN,
    JIT_TRACE: TRACED,
    jax.numpy.vectorize(lambda: None).__code__: Transform("jnp.vectorize", once=False),
    _code(jax.numpy.apply_along_axis): Transform("jnp.apply_along_axis", once=False),
    _code(jax.lax.custom_root): Transform("jax.lax.custom_root", once=False),
    _code(jax.lax.custom_linear_solve): Transform("jax.lax.custom_linear_solve", once=False),
    PLATFORM_DEPENDENT: Transform("jax.lax.platform_dependent", once=False),
    jax.named_call(lambda: None, name="_").__code__: NAMED_CALL,
}
BRANCHING = frozenset({_code(jax.lax.cond), _code(jax.lax.switch), PLATFORM_DEPENDENT})


@functools.cache
def callee(code: types.CodeType, at: int) -> str | None:
    """Which of its two functions a ``while_loop`` calls at an instruction; else None."""
    found = None
    for instruction in dis.get_instructions(code) if code is WHILE_LOOP else ():
        if instruction.offset < at and instruction.argval in ("cond_fun", "body_fun"):
            found = instruction.argval
    return found


_MARK = "__jscope_mark__"


def locals_of(frame: types.FrameType) -> dict[str, Inspected]:
    """The local variables of a frame of JAX's."""
    return _locals(frame)[0]


def mark_of(frame: types.FrameType, make: Callable[[], T]) -> T:
    """What stands for one call of a function of JAX's: it lives among the locals of its frame."""
    found, values = _locals(frame)
    if _MARK not in found:
        found[_MARK] = values[_MARK] = make()
    mark: T = found[_MARK]
    return mark


def _locals(frame: types.FrameType) -> tuple[dict[str, Inspected], Inspected]:
    values = frame.f_locals
    found = dict(values)
    copied = type(values) is dict and frame.f_code.co_flags & inspect.CO_OPTIMIZED
    if copied:  # before Python 3.13, of a function: it would keep values alive
        values.clear()
        if _MARK in found:
            values[_MARK] = found[_MARK]
    return found, values


def trace_key(
    function: Callable[[jax.Array], jax.Array], dtype: DType
) -> tuple[Jaxpr, Sequence[ArrayLike]]:
    """The jaxpr of a function of one key, and the arrays it holds: the first inputs of the jaxpr.

    A fifth of the time of ``jax.make_jaxpr``, and no cache of JAX sees the function.
    """
    about = _linear_util.DebugInfo("initializer", "initializer", ("key",), None)
    wrapped = _linear_util.wrap_init(lambda key: [function(key)], debug_info=about)
    inputs = [_core.ShapedArray((), dtype)]
    with jax.disable_jit(False):  # which would give another program
        jaxpr, _, consts = _partial_eval.trace_to_jaxpr_dynamic(wrapped, inputs)
    return _partial_eval.convert_constvars_jaxpr(jaxpr), consts


def needs_mesh(jaxpr: Jaxpr) -> bool:
    """Whether it was traced under a mesh."""
    return any(not eqn.ctx.cur_abstract_mesh.empty for eqn in jaxpr.eqns)


def evaluate(jaxpr: Jaxpr, *inputs: ArrayLike) -> jax.Array:
    """The one result of a jaxpr."""
    value: jax.Array
    (value,) = _core.eval_jaxpr(jaxpr, (), *inputs)
    return value


def within(trace: Trace) -> contextlib.AbstractContextManager[None]:
    """Makes ``trace``, which is around the current one or is it, the current one."""
    return _core.set_current_trace(trace)


def config_key() -> Hashable:
    """All settings that JAX's own caches of traces look at; hashable."""
    key: Hashable = _config.trace_context()
    return key


def copy_constant(const: T) -> T | ArrayLike:
    """A copy of what a jaxpr holds for a NumPy array; anything else as it is."""
    if isinstance(const, _literals.TypedNdArray):
        return _literals.TypedNdArray(np.array(const), const.aval)
    return const


def used_inputs(closed: Jaxpr, output: int | None = None) -> tuple[bool, ...]:
    """Which inputs of a jaxpr one output (or any output) depends on."""
    _, used = _dce(closed, output)
    return tuple(used)


def _dce(closed: Jaxpr, output: int | None) -> tuple[Jaxpr, Sequence[bool]]:
    jaxpr: Jaxpr = getattr(closed, "jaxpr", closed)
    wanted = [output is None or index == output for index in range(len(jaxpr.outvars))]
    jaxpr, used = _partial_eval.dce_jaxpr(jaxpr, wanted)
    return jaxpr, used


def prune(closed: Jaxpr) -> tuple[Callable[..., Sequence[jax.Array]], tuple[bool, ...]]:
    """A function of only the inputs that the outputs depend on, and which inputs those are."""
    from jax.extend.core import ClosedJaxpr, jaxpr_as_fun  # here, because it imports Pallas

    jaxpr, used = _dce(closed, None)
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, closed.consts)), tuple(used)


def shared_config_key() -> Any:
    """The same without jscope's own key."""
    context = get_context()
    set_context(None)
    try:
        return config_key()
    finally:
        set_context(context)

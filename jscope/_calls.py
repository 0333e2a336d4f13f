"""Who asks: the user's frames behind a request, the calls of JAX around it, and which runs of them.

JAX runs some functions several times for one call of the user's: loop bodies whose carry changes
its type, ``associative_scan``, ``map`` with a remainder. Such a repeat must not be mistaken for the
user asking twice. JAX knows: every trace of a function has a description of what was called, one
object for each call, however often JAX traces the function for it. So a *call* is that object, and
a *run* of it is a trace. Two requests are one in two runs if they share a call and not its run.

Only where JAX calls a function again within one trace do traces not tell. The few functions of JAX
that do so are found on the stack, by their code, and marked by an entry among their own locals. The
frames of users are never marked: debuggers would show it.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import sysconfig
import types
import weakref
from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax

from jscope import _jaxapi
from jscope._cache_key import TraceGuard
from jscope._jaxapi import CallInfo, Trace, TraceRef, Transform
from jscope.errors import NoPassError, Site

MAX_SITES = 5

_USER, _JAX, _HIDDEN = range(1, 4)
_STDLIB_FOLDER = sysconfig.get_path("stdlib") + os.sep

_kinds: dict[str, int] = {}
"""File name of a code object -> whose code it is."""


def _classify(file: str) -> int:
    if file.startswith(_jaxapi.JAX_FOLDER):
        kind = _JAX
    elif file.startswith(_jaxapi.OWN_FOLDER) or (
        file.startswith(_STDLIB_FOLDER) and "site-packages" not in file
    ):
        kind = _HIDDEN
    else:
        kind = _USER
    _kinds[file] = kind
    return kind


def _is_users(frame: types.FrameType) -> bool:
    """Whether to show a frame as one of the user's; code in JAX's folder need not be JAX's."""
    file = frame.f_code.co_filename
    kind = _kinds.get(file) or _classify(file)
    return kind == _USER or (kind == _JAX and not _jaxapi.is_own(frame))


RawSites: TypeAlias = tuple[Any, ...]
"""Code and instruction of each user frame of a request in turn; lines are looked up when shown."""


@functools.lru_cache(maxsize=4096)
def _line(code: types.CodeType, instruction: int) -> int:
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


def sites(raw: RawSites) -> tuple[Site, ...]:
    """The places of a request, innermost first."""
    pairs = zip(raw[::2], raw[1::2], strict=True)
    return tuple(Site(c.co_filename, _line(c, at), c.co_name) for c, at in list(pairs)[:MAX_SITES])


def here() -> tuple[Site, ...]:
    """The user frames around a jscope call, innermost first, inside a pass or outside."""
    users = filter(_is_users, _jaxapi.frames(sys._getframe(1)))
    found: list[types.CodeType | int] = []
    for frame in itertools.islice(users, MAX_SITES):
        found += (frame.f_code, frame.f_lasti)
        if frame.f_code.co_name == "<module>":  # around it is who runs the module, or the cell
            break
    return sites(tuple(found))


Call: TypeAlias = Any
"""One call of a function: a number, a mark, ``Alike``, ...; hashable."""

Place: TypeAlias = tuple[tuple[Call, Hashable], ...]
"""The calls around a request, each with its run; empty where JAX called nothing in between."""


class Part(Protocol):
    """A part of a pass that has state and keys of its own."""

    place: Place
    """The calls around it."""
    trace: TraceRef
    """The trace that it runs in."""


class Alike(NamedTuple):
    """All branches of one ``cond`` or ``switch`` whose functions are equal: JAX takes them for one.

    So what they ask for by name is one request. A numbered scope is each branch's own.
    """

    call: Call
    function: Hashable


def is_rerun(earlier: Place, now: Place, *, exactly: bool = False) -> bool:
    """Whether ``earlier`` and ``now`` lie in two runs of one call.

    What lies around a shared call is shared too, so their order does not matter.

    Args:
      earlier: Of one request.
      now: Of another.
      exactly: Whether equal branches are calls of their own.
    """
    runs = dict(earlier)
    return any(
        call in runs and runs[call] != run and not (exactly and isinstance(call, Alike))
        for call, run in now
    )


class Crossing(NamedTuple):
    """What lies between a jscope call and the function whose state and keys it would use."""

    transforms: tuple[Transform, ...]
    """The raw transforms; those that JAX's traces tell of first, outermost first."""
    branches: tuple[tuple[Hashable, Hashable], ...]
    """For each raw ``cond`` and ``switch``, outermost first: that call, and the branch."""


class Calls:
    """Recognises calls and their runs during one pass, which starts in the code ``entry``.

    Parts of the pass that have state and keys of their own start in the code ``inner_entry``.
    """

    __slots__ = ("_entries", "_entry", "_infos", "_runs", "frame", "guard", "replayed", "skips")

    def __init__(
        self, entry: types.CodeType, inner_entry: types.CodeType, guard: TraceGuard
    ) -> None:
        self.guard = guard  # knows the current trace
        self._entry = entry
        self._entries = (entry, inner_entry)
        # Where a planned function asked for what is asked for now, in its place, and how many parts
        # of raw sites are of frames around the function.
        self.replayed: tuple[RawSites, int] | None = None
        self.frame: types.FrameType | None = None  # that runs the entry, while it does
        self.skips = False  # whether JAX chose a branch by itself, and may have left others out
        self._infos: dict[Hashable, CallInfo] = {}  # held, so that their addresses stay theirs
        self._runs: dict[TraceRef, Place] = {}  # trace -> its call and itself

    def observe(self, level: Part) -> tuple[RawSites, Place]:
        """Where the jscope function was called, and the calls of JAX's around it."""
        # Runs at every request, hence the care: a frame costs about 0.1 us.
        found: list[types.CodeType | int] = []
        kinds = _kinds
        entry = self._entry
        by_jax = False
        start = frame = sys._getframe(2)
        code = frame.f_code
        try:
            while code is not entry:
                kind = kinds.get(code.co_filename) or _classify(code.co_filename)
                if kind == _USER:
                    found += (code, frame.f_lasti)
                elif kind == _JAX:
                    if _jaxapi.is_own(frame):
                        by_jax = True
                    else:
                        found += (code, frame.f_lasti)
                frame = frame.f_back  # type: ignore[assignment] # the entry is further out
                code = frame.f_code
        except AttributeError:  # there is no frame further out
            raise _elsewhere() from None
        if frame is not self.frame:
            raise _elsewhere()
        if by_jax or self.guard.last is not level.trace:
            place = level.place + self._inside(start, level)
        else:
            place = level.place
        if self.replayed is not None:
            sites, depth = self.replayed
            found[len(found) - depth : len(found) - depth] = sites
        return tuple(found), place

    def _inside(self, start: types.FrameType, level: Part) -> Place:
        """The calls between a request and the function of its level."""
        found = [
            run for trace in self._traces(start, level.trace) for run in self._run(trace, start)
        ]
        steps: list[int] = []  # where JAX's helpers inside a call stand: another place, another run
        for frame in _jaxapi.frames(start, self._entries):
            code = frame.f_code
            if code in _jaxapi.AGAIN:
                mark: _Mark = _jaxapi.mark_of(frame, functools.partial(_Mark, code))
                turn = mark.turn(frame)
                if turn is not None:
                    call = mark, _jaxapi.callee(code, frame.f_lasti)
                    found.append((call, (frame.f_lasti, turn, *steps)))
                steps = []
            elif code.co_filename in _jaxapi.AGAIN_FILES:
                steps.append(frame.f_lasti)
            else:
                steps = []
                self.skips |= code is _jaxapi.PLATFORM_DEPENDENT
        return tuple(found)

    def _traces(
        self, start: types.FrameType, end: TraceRef, entries: tuple[types.CodeType, ...] = ()
    ) -> list[Trace]:
        """The traces inside the one ``end``, which runs in one of the codes, outermost first."""
        entries = entries or self._entries
        found: list[Trace] = []
        trace = _jaxapi.current_trace()
        while trace is not None and _jaxapi.trace_ref(trace) is not end:
            found.append(trace)
            trace = _jaxapi.parent(trace)
            at_end = trace is not None and _jaxapi.trace_ref(trace) is end
            if not (at_end or _jaxapi.is_trace(trace)):
                trace = self._around(start, entries, found)
        found.reverse()
        return found

    def _around(
        self, start: types.FrameType, entries: tuple[types.CodeType, ...], known: list[Trace]
    ) -> Trace | None:
        """The trace around the last one of ``known``, which does not say it: JAX's frames do."""
        for frame in _jaxapi.frames(start, entries):
            if frame.f_code.co_filename.startswith(_jaxapi.JAX_FOLDER):
                for value in _jaxapi.locals_of(frame).values():
                    if _jaxapi.is_trace(value) and all(value is not trace for trace in known):
                        return value
        return None

    def _run(self, trace: Trace, start: types.FrameType) -> Place:
        """The call that a trace is a run of; empty where each trace is a call of its own."""
        info = _jaxapi.call_info(trace)
        if info is None:
            return ()
        ref = _jaxapi.trace_ref(trace)
        found = self._runs.get(ref)
        if found is None:
            self._infos[id(info)] = info
            found = ((id(info), ref),)
            alike = _alike(info, start) if _jaxapi.is_branch(info) else None
            if alike is not None:
                found += ((alike, ref),)
            self._runs[ref] = found
        return found

    def custom_rule(self, place: Place) -> str | None:
        """The ``custom_jvp`` or ``custom_vjp`` around a request, if any."""
        for call, _ in place:
            if isinstance(call, tuple) and isinstance(call[0], _Mark):
                found = _jaxapi.RULES.get(call[0].code)
            else:
                found = _jaxapi.custom_rule(self._infos.get(call))
            if found is not None:
                return found
        return None

    def is_in_shards(self, place: Place) -> bool:
        """Whether a request was inside ``shard_map``; an eager one does not tell."""
        return any(_jaxapi.is_of_shards(self._infos.get(call)) for call, _ in place)

    def rule_beyond(self, value: jax.Array, root: TraceRef) -> str | None:
        """The ``custom_jvp`` or ``custom_vjp`` for which JAX has left the trace of a value.

        No operation here could take the value. Looked for in all of the pass, whose trace is
        ``root``.
        """
        if not _jaxapi.is_derived(value):
            return None
        start = sys._getframe(1)
        rule = None
        for frame in _jaxapi.frames(start, (self._entry,)):
            rule = _jaxapi.RULES.get(frame.f_code) or rule
        if rule is None:
            return None
        return rule if _jaxapi.is_beyond(value, self._traces(start, root, (self._entry,))) else None

    def later(self, level: Part, opened: Place) -> str | None:
        """What around the caller may run a function again without saying so, if anything.

        A solver of JAX's, a derivative rule, or who asked for a jaxpr: which calls they make, no
        trace tells. None if the open scope was opened inside it, at ``opened``.
        """
        start = sys._getframe(1)
        jaxpr = False
        for frame in _jaxapi.frames(start, self._entries):
            jaxpr = (jaxpr or frame.f_code is _jaxapi.JIT_TRACE) and (
                frame.f_code not in _jaxapi.SOLVERS  # which trace a function once
            )
        inside = dict(opened)
        for trace in self._traces(start, level.trace):
            info = _jaxapi.call_info(trace)
            asked = jaxpr and info is not None and info.traced_for == "jit"
            if (asked or _jaxapi.is_later(info)) and id(info) not in inside:
                return _jaxapi.TRACED.name if asked else str(info.traced_for)
        return None

    def crossing(self, level: Part) -> Crossing:
        """What lies between the caller and the innermost function with state of its own."""
        start = sys._getframe(1)
        unseen: list[Transform] = []  # transforms that traces do not tell
        derivative = None  # the outermost: traces do not tell grad from vjp
        asked = None  # the same: nor what asks for shapes or a jaxpr from jit
        for frame in _jaxapi.frames(start, self._entries):
            transform = _jaxapi.UNSEEN.get(frame.f_code)
            if transform is not None:
                unseen.append(transform)
                asked = transform if transform is _jaxapi.TRACED else asked
            elif frame.f_code is _jaxapi.EVAL_SHAPE and unseen and unseen[-1] is _jaxapi.TRACED:
                unseen.pop()  # what it uses to trace: here nothing runs later
                asked = _jaxapi.SHAPES
            derivative = _jaxapi.derivative_of(frame.f_code) or derivative
        traces = self._traces(start, level.trace)
        branches = []
        for trace in traces:
            (call, _), *alike = self._run(trace, start) or ((None, None),)
            branches += [(function.call, call) for function, _ in alike]
        seen = [_jaxapi.transform_of(trace) for trace in traces]
        if derivative is not None and seen and seen[0].name == "jax.linearize":
            seen[0] = derivative
        if asked is not None and seen and seen[0].name == "jax.jit":
            seen[0] = asked
        return Crossing((*seen, *reversed(unseen)), tuple(branches))


class _Mark:
    """Stands for one call of a function of JAX."""

    __slots__ = ("_number", "_value", "code")

    def __init__(self, code: types.CodeType) -> None:
        self.code = code
        self._number = 0
        self._value: object = None

    def turn(self, frame: types.FrameType) -> int | None:
        """Which turn of its own loop the function is in; None where it has compiled the loop."""
        if frame.f_code is _jaxapi.SCAN:
            turn: int | None = _jaxapi.locals_of(frame).get("i")
            return turn
        if frame.f_code is _jaxapi.WHILE_LOOP:
            value = _jaxapi.locals_of(frame).get("val")
            if value is not self._value:
                self._value = value
                self._number += 1
            return self._number or None
        return 0


def _elsewhere() -> NoPassError:
    return NoPassError(
        "jscope was called on another stack than that of the running pass: a greenlet has its own.",
        {"fix": "let one greenlet run a pass from its start to its end, and no other meanwhile."},
    )


def _alike(info: CallInfo, start: types.FrameType) -> Alike | None:
    """The branches that are one to JAX with the one that a description is of."""
    tracing = _jaxapi.tracing_frame(info, start)
    if tracing is None:
        return None
    function = _jaxapi.locals_of(tracing).get("fun")
    for frame in _jaxapi.frames(tracing):
        if frame.f_code in _jaxapi.BRANCHING:
            mark = _jaxapi.mark_of(frame, functools.partial(_Mark, frame.f_code))
            try:
                hash(ref := weakref.ref(function))
            except TypeError:
                return Alike(mark, id(info))
            return Alike(mark, ref)
    return None

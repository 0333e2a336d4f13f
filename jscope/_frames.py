"""Who asks: the user's frames behind a request, and whether JAX called them more than once.

JAX runs some functions several times for one call of the user's: ``associative_scan``, ``map``
with a remainder, loop bodies whose carry changes its type. Such a repeat must not be mistaken for
the user asking twice. A *call* is one stretch of user frames that JAX called. Two calls are runs
of one call if the innermost frame they share is JAX's own and the same user functions follow.

To compare frames one must recognise them. The address of a frame is used again once it has ended,
and a frame that is held keeps its locals (activations, tracers) alive. So each frame in question
gets a mark while it lives: ``f_trace_opcodes``, a flag that only debuggers read. A marked frame at
a known address is the known frame; an unmarked one is new, whatever its address.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
import sysconfig
import types
from typing import Any, NamedTuple, TypeAlias

from jscope import _jaxapi
from jscope._jaxapi import Transform
from jscope.errors import Site

MAX_SITES = 5

_USER, _JAX, _TREE, _OWN, _STDLIB = range(1, 6)
_OWN_FOLDER = os.path.dirname(__file__) + os.sep
_LIFTING = frozenset(_OWN_FOLDER + file for file in ("_lift.py", "_stack.py", "_twins.py"))
"""Files of jscope whose functions call the user's several times for one call, as JAX's do."""

_STDLIB_FOLDER = sysconfig.get_path("stdlib") + os.sep

_kinds: dict[str, int] = {}
"""File name of a code object -> whose code it is."""


def _classify(file: str) -> int:
    if file in _jaxapi.TREE_FILES:
        kind = _TREE
    elif file.startswith(_jaxapi.JAX_FOLDER) or file in _LIFTING:
        kind = _JAX
    elif file.startswith(_OWN_FOLDER):
        kind = _OWN
    elif file.startswith(_STDLIB_FOLDER) and "site-packages" not in file:
        kind = _STDLIB
    else:
        kind = _USER
    _kinds[file] = kind
    return kind


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
    found: list[Any] = []
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < 2 * MAX_SITES:
        file = frame.f_code.co_filename
        if (_kinds.get(file) or _classify(file)) == _USER:
            found += (frame.f_code, frame.f_lasti)
        frame = frame.f_back
    return sites(tuple(found))


class Call:
    """One stretch of user frames that JAX called; ``group`` is the first run of the same call."""

    __slots__ = ("codes", "group")

    def __init__(self, codes: tuple[types.CodeType, ...], group: Call | None) -> None:
        self.codes = codes  # held, so that their addresses stay theirs
        self.group = group or self


Calls: TypeAlias = tuple[Call, ...]
"""The calls around a request, outermost first; empty where JAX called nothing in between."""


def is_rerun(earlier: Calls, now: Calls) -> bool:
    """Whether ``earlier`` and ``now`` lie in two runs of one call."""
    for before, after in zip(earlier, now, strict=False):
        if before is not after:
            return before.group is after.group
    return False


class Crossing(NamedTuple):
    """What lies between a jscope call and the function whose state and keys it would use."""

    transforms: tuple[Transform, ...]
    """The raw transforms, outermost first."""
    branches: tuple[tuple[int, int], ...]
    """For each raw ``cond`` and ``switch``, outermost first: its number, and that of the branch."""


class CallStacks:
    """Recognises frames and calls during one pass, which starts in the code ``entry``.

    Parts of the pass that have state and keys of their own start in the code ``inner_entry``.
    """

    __slots__ = ("_by_frame", "_count", "_entry", "_groups", "_inner_entry", "_serials")

    def __init__(self, entry: types.CodeType, inner_entry: types.CodeType) -> None:
        self._entry = entry
        self._inner_entry = inner_entry
        self._count = 0
        self._serials: dict[int, int] = {}  # address of a live, marked frame -> its number
        self._by_frame: dict[int, Call] = {}  # number of a call's first frame -> the call
        self._groups: dict[tuple[Any, ...], Call] = {}

    def observe(self) -> tuple[RawSites, Calls]:
        """Where the jscope function was called, and the calls of JAX's around it."""
        # Runs at every request, hence the care: a frame costs about 0.1 us.
        found: list[Any] = []
        kinds = _kinds
        entry = self._entry
        by_jax = False
        start = frame = sys._getframe(2)
        code = frame.f_code
        while code is not entry:
            kind = kinds.get(code.co_filename) or _classify(code.co_filename)
            if kind == _USER:
                found += (code, frame.f_lasti)
            elif kind == _JAX:
                by_jax = True
            frame = frame.f_back  # type: ignore[assignment] # the entry is further out
            code = frame.f_code
        return tuple(found), self._calls(start) if by_jax else ()

    def _calls(self, start: types.FrameType) -> Calls:
        frames = []
        frame: types.FrameType | None = start
        while frame is not None and frame.f_code is not self._entry:
            if _kinds.get(frame.f_code.co_filename) != _OWN:
                frames.append(frame)
            frame = frame.f_back
        frames.reverse()

        calls: list[Call] = []
        callers: list[int] = []  # numbers of the JAX frames since the last user frame
        stretch: list[types.FrameType] = []  # user frames since the last JAX frame
        stretch_callers: list[int] = []
        for frame in frames:
            number = self._number(frame)
            if _kinds.get(frame.f_code.co_filename) == _JAX:
                if stretch and stretch_callers:
                    calls.append(self._call(stretch, stretch_callers))
                if stretch:
                    stretch, callers = [], []
                callers.append(number)
            else:
                if not stretch:
                    stretch_callers = callers
                stretch.append(frame)
        if stretch and stretch_callers:
            calls.append(self._call(stretch, stretch_callers))
        return tuple(calls)

    def crossing(self) -> Crossing:
        """What lies between the caller and the innermost function with state of its own."""
        frames: list[types.FrameType] = []
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code not in (self._entry, self._inner_entry):
            kind = _kinds.get(frame.f_code.co_filename) or _classify(frame.f_code.co_filename)
            if kind == _USER or (kind == _JAX and frame.f_code.co_filename not in _LIFTING):
                frames.append(frame)
            frame = frame.f_back
        frames.reverse()

        transforms: list[Transform] = []
        branches: list[tuple[int, int]] = []
        stretch: list[types.FrameType] = []  # JAX frames since the last user frame
        for frame in frames:
            if _kinds.get(frame.f_code.co_filename) == _JAX:
                stretch.append(frame)
            elif stretch:
                crossed = _transforms(stretch)
                transforms += crossed
                for other in stretch:
                    known = _jaxapi.transform_of(other.f_code)
                    if known is not None and known.twin in ("cond", "switch"):
                        branches.append((self._number(other), self._number(frame)))
                        break
                stretch = []
        return Crossing(tuple(transforms), tuple(branches))

    def _number(self, frame: types.FrameType) -> int:
        address = id(frame)
        if frame.f_trace_opcodes:
            number = self._serials.get(address)
            if number is not None:
                return number
        frame.f_trace_opcodes = True
        self._count += 1
        self._serials[address] = self._count
        return self._count

    def _call(self, stretch: list[types.FrameType], callers: list[int]) -> Call:
        """The call of a stretch; a call gets its identity at its first request."""
        first = self._number(stretch[0])
        call = self._by_frame.get(first)
        if call is None:
            codes = tuple(frame.f_code for frame in stretch)
            what = (*map(id, codes), _static_values(stretch[0]))
            group = None
            for caller in reversed(callers):
                group = self._groups.get((caller, what))
                if group is not None:
                    break
            call = self._by_frame[first] = Call(codes, group)
            if group is None:
                for caller in callers:
                    self._groups[caller, what] = call
        return call


def _transforms(stretch: list[types.FrameType]) -> list[Transform]:
    """The transforms in a stretch of JAX frames, outermost first.

    Transforms are made of others, ``grad`` of ``vjp``: the outermost is what the user called, and
    one inside it counts only if it repeats where the outermost does not.
    """
    found = [_jaxapi.transform_of(frame.f_code) for frame in stretch]
    known = [transform for transform in found if transform is not None]
    if not known:
        code = stretch[0].f_code
        file = os.path.relpath(code.co_filename, _jaxapi.JAX_FOLDER)
        return [Transform(f"{code.co_qualname.partition('.')[0]} of {file}", None, once=False)]
    repeats = [transform for transform in known if not transform.once]
    return [known[0], repeats[0]] if known[0].once and repeats else known[:1]


@functools.lru_cache(maxsize=4096)
def _fixed_names(code: types.CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Arguments, and the closure variables that the function does not rebind itself."""
    rebound = {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_DEREF"}
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return arguments, tuple(name for name in code.co_freevars if name not in rebound)


def _static_values(frame: types.FrameType) -> tuple[Any, ...]:
    """What tells ``partial(f, 0)`` from ``partial(f, 1)``: plain Python values that f was given.

    JAX hands every run of a call the same ones; arrays and containers are made anew for each.
    """
    values = frame.f_locals
    arguments, free = _fixed_names(frame.f_code)
    found: list[Any] = []
    for name in arguments + free:
        value = values.get(name)
        if isinstance(value, bool | int | float | str | bytes):
            found.append((name, type(value), value))
    found.extend((name, id(values.get(name))) for name in free if callable(values.get(name)))
    return tuple(found)

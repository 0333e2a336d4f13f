"""Everything mutable in one pass, and nowhere else; it dies with the pass.

A pass is one run of the user's function under init, apply or specs. It belongs to one thread.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, TypeVar

import jax

from jscope import _jaxapi
from jscope._arguments import bad_argument
from jscope._cache_key import TraceGuard
from jscope._calls import Calls, Place, here, sites
from jscope._keys import Keys
from jscope._level import Level
from jscope._names import check_name, is_in
from jscope._numbering import Numbering
from jscope._program import Program
from jscope._reading import Values
from jscope._record import Record, Records
from jscope._recorder import Recorder
from jscope._report import where
from jscope._settings import Settings
from jscope._spec import Args, Kwargs, Shape, VariableSpec
from jscope.errors import (
    EagerRecompileWarning,
    NestingError,
    NoPassError,
    Site,
    TransformError,
)

R = TypeVar("R")


class Scope(Protocol):
    """A scope, of ``variable_scope``."""

    def _in(self, running: Pass | None) -> Settings: ...


class Entry(Protocol):
    """A scope that is open."""

    place: Place

    @property
    def is_fresh(self) -> bool: ...

    def close(self, running: Pass) -> None: ...


class Lifted(Protocol):
    """A call of ``functionalize``."""

    assigned: dict[str, None]


class Watcher(Protocol):
    """Who notes facts in ``Pass.watched``, and checks them when the function has returned."""

    def at_end(self, facts: Any, /) -> None: ...


class Pass:
    """One run of the user's function."""

    __slots__ = (
        "calls",
        "changed",
        "entries",
        "frozen",
        "guard",
        "homes",
        "kept",
        "level",
        "lifts",
        "numbering",
        "prefix",
        "programs",
        "recorder",
        "records",
        "scope",
        "settings",
        "templates",
        "values",
        "watched",
    )

    def __init__(self, values: Values, root: Scope, key: jax.Array | None) -> None:
        self.values = values
        self.level = Level(None, Keys(key), planning=values.planning)
        self.lifts: list[Lifted] = []  # of functionalize; functions of it do not keep them alive
        self.recorder: Recorder | None = None
        self.records = Records()
        self.programs: dict[Hashable, Program] = {}  # of the library's initializers
        self.changed: dict[Scope, Settings] = {}  # by setters, for this pass
        self.templates: dict[Hashable, Any] = {}
        self.homes: dict[Hashable, tuple[str, tuple[Site, ...]]] = {}  # where cells were first
        self.numbering = Numbering()
        self.guard = TraceGuard()
        self.calls = Calls(run.__code__, enter.__code__, self.guard)
        self.kept: set[str] = set()  # scopes first opened by an object, which may be an old one
        self.scope: Scope = root
        self.prefix = ""
        self.settings: Settings = root._in(None)
        self.entries: list[Entry] = []
        self.frozen = 0  # how many calls are open that must not make variables
        self.watched: dict[Watcher, Any] = {}  # who checks the pass once ``fn`` is done -> facts

    def read(self, record: Record) -> jax.Array:
        """The value of a variable as the open level sees it."""
        if record.value is not None and not self.level.is_closed:
            return record.value
        found, layers = self.look(record.name, record.sizes, record.facts.trainable)
        return self.part(record.name, found, layers)

    def value(self, name: str) -> Any:
        """The value of a name as the open level sees it, which may not have been requested."""
        record = self.records.get(name)
        if record is not None:
            return self.read(record)
        state, _ = self.look(name, (), trainable=False)
        return self.look(name, (), trainable=True)[0] if state is None else state

    def part(self, name: str, found: jax.Array, layers: list[Level]) -> jax.Array:
        """The part of a value that is left by these levels, outermost last, of its layers."""
        for level in reversed(layers):
            found = level.part(name, found)
        return found

    def look(self, name: str, sizes: Shape, trainable: bool) -> tuple[Any, list[Level]]:
        """What the pass has for a variable, and the levels that see a part of it, from inside.

        These are levels that plan, of one of its layers or of a value that they take: they have no
        values yet.

        Args:
          name: Full name.
          sizes: The leading axes that levels added to the variable.
          trainable: Whether it is in params.
        """
        level: Level | None = self.level
        layers: list[Level] = []
        while level is not None:
            if name in level.values:
                return level.values[name], layers
            if level.takes or (level.is_layer and len(sizes) >= len(level.sizes)):
                if not level.planning:
                    raise unplanned(name)
                level.used[name] = None
                layers.append(level)
            level = level.parent
        return self.values.read(name, trainable), layers

    def is_visible(self, name: str) -> bool:
        """Whether the open level has a value for a name, or plans one: not of other stacks."""
        record = self.records.get(name)
        level: Level | None = self.level
        if record is None or not record.sizes or not self.level.sizes:
            return True
        while level is not None:
            if name in level.values or name in level.used:
                return True
            level = level.parent
        return False

    def within(self, scope: str | None) -> list[Record]:
        """The variables of a scope, given by its full name, that the open level sees."""
        if self.recorder is not None:
            self.recorder.refuse("it looks at the variables of other functions")
        if scope is not None:
            if not isinstance(scope, str):
                raise bad_argument("scope", scope, "a full name or None")
            if scope:
                check_name(scope.removesuffix("/"), "scope")
        return [
            record
            for record in self.records.values()
            if is_in(record.name, scope) and self.is_visible(record.name)
        ]

    def write(self, name: str, value: Any) -> None:
        """Assigns to a variable on the open level; while planning, only notes it."""
        if self.values.initializing:
            return
        self.level.assigned[name] = None
        if not self.level.planning:
            self.level.values[name] = value

    def here(self) -> tuple[Site, ...]:
        """Where the user's function called jscope."""
        return sites(self.calls.observe(self.level)[0])

    def specs(self) -> tuple[VariableSpec, ...]:
        """What the pass made, in order."""
        return tuple(record.spec() for record in self.records.values())


def unplanned(name: str) -> TransformError:
    return TransformError(
        f"Variable {name} was used when a function was traced again, but not the first time.",
        {"fix": "make the function pure: the same calls for the same arguments."},
        name=name,
    )


class Sink(Protocol):
    """Where recorded values come to: a pass, or a function outside that somebody looks into."""

    level: Level
    calls: Calls
    guard: TraceGuard


class _Local(threading.local):
    current: Pass | None = None
    outside: Sink | None = None


_local = _Local()


def peek() -> Pass | None:
    """The running pass of this thread, if any, untouched."""
    return _local.current


def current(call: str) -> Pass:
    """The running pass, its trace guard touched.

    Raises:
      NoPassError: nothing runs in this thread.
    """
    running = _local.current
    if running is None:
        rule = _jaxapi.current_rule()
        raise _no_pass_here(call) if rule is None else _in_rule(call, rule, here())
    guard = running.guard  # as in touch, without its call: this runs at every request
    if _jaxapi.current_ref() is not guard.last:
        guard.touch()
    return running


def touch(sink: Sink) -> None:
    """Notes a jscope call in the trace guard."""
    guard = sink.guard
    if _jaxapi.current_ref() is not guard.last:
        guard.touch()


def around() -> Sink | None:
    """Where values that are recorded here come to, untouched."""
    return _local.current or _local.outside


@contextlib.contextmanager
def outside(sink: Sink) -> Iterator[None]:
    """Makes what is recorded where no pass runs come to a sink."""
    outer, _local.outside = _local.outside, sink
    sink.level.enter()
    sink.guard.enter()
    try:
        yield
    finally:
        sink.guard.exit()
        _local.outside = outer


def _no_pass_here(call: str) -> NoPassError:
    return NoPassError(
        f"{call} was called outside a pass: it works only inside a function that runs under "
        "init, apply or specs.",
        {
            "fix": "wrap the outermost function, net = jscope.transform(fn), and call "
            "net.init(rng, ...) and net.apply(params, rng, ...). A pass belongs to the "
            "thread that started it; the backward rule of a custom_vjp runs after it, so give "
            "it what it needs as residuals."
        },
        call=call,
    )


def _in_rule(call: str, rule: str, sites: tuple[Site, ...]) -> NoPassError:
    return NoPassError(
        f"{call} was called outside a pass: by a rule of {rule}, which JAX runs when the pass "
        "is over.",
        {
            "asked": f"at {where(sites)}",
            "fix": f"read variables outside the {rule} and pass them as arguments, whose "
            "gradients the rule gives.",
        },
        call=call,
    )


def find() -> Pass | None:
    """As ``current``, but None where nothing runs."""
    if _local.current is None:
        if _local.outside is not None:
            touch(_local.outside)
        return None
    return current("")


def is_initializing() -> bool:
    """Whether variables are being made: True in init and specs, False in apply.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.

    Example:
      >>> import jscope as js
      >>> js.transform(js.is_initializing).apply({}, None)
      False
    """
    return current("is_initializing").values.initializing


@contextlib.contextmanager
def no_pass() -> Iterator[None]:
    """Hides the running pass, for code that is not the user's function."""
    outer, _local.current = _local.current, None
    context = _jaxapi.get_context()
    _jaxapi.set_context(None)
    try:
        yield
    finally:
        _local.current = outer
        _jaxapi.set_context(context)


_warned = False


def _outside() -> int:
    """The stack level of a warning in the function that calls this, of who called jscope."""
    frame, level, inside = sys._getframe(1), 1, (_jaxapi.OWN_FOLDER, _jaxapi.JAX_FOLDER)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        frame, level = frame.f_back, level + 1
    return level


def _warn_eager() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            "an eager apply recompiled the JAX transforms inside it (jit, checkpoint, scan, ...), "
            "as it does at every call, because they use variables. The results are right, but it "
            "is slow: wrap the outermost call, as jax.jit(net.apply), jax.jit(jscope.capture(f)). "
            "This is said once.",
            EagerRecompileWarning,
            stacklevel=_outside(),
        )


def _note_rules(running: Pass, error: Exception) -> None:
    """Adds to JAX's error about a derivative which variables it cannot derive by."""
    if type(error).__name__ not in ("CustomVJPException", "UnexpectedTracerError"):
        return
    for record in running.records.values():
        rule = running.calls.custom_rule(record.place)
        if rule is not None:
            error.add_note(
                f"Variable {record.name} is read inside raw {rule} at {where(record.sites)}: "
                "to take gradients by it, read it outside and pass it as an argument."
            )


def _note_shards(running: Pass, error: Exception) -> None:
    """Adds to JAX's error about what a function of shards closes over which variables it reads."""
    if type(error) is not NotImplementedError or "inputs to shard_map" not in str(error):
        return
    inside = (x for x in running.records.values() if running.calls.is_in_shards(x.place))
    read = next(inside, None)
    which = "If it is a variable that the function reads"
    if read is not None:
        which = f"Variable {read.name} is read inside raw jax.shard_map at {where(read.sites)}"
    error.add_note(
        f"{which}: JAX lets no value from a mesh with Explicit axes in by closure (jax#29162). Use "
        "jscope.shard_map, which takes the same arguments and gives variables to the function as "
        "arguments."
    )


def _note_explicit(error: Exception) -> None:
    """Adds to JAX's error about what it does not lay out what to do about a model in plain JAX."""
    if type(error).__name__ == "ShardingTypeError" and _EXPLICIT not in getattr(
        error, "__notes__", ()
    ):
        error.add_note(_EXPLICIT)


_EXPLICIT = (
    "Along Explicit axes of a mesh JAX asks how this is laid out. Functions of jscope.layers say "
    "it; for others say it there, use a mesh whose axis_types are jax.sharding.AxisType.Auto, or "
    "run apply in jax.sharding.auto_axes."
)


def run(running: Pass, fn: Callable[..., R], args: Args, kwargs: Kwargs) -> R:
    """Runs ``fn`` as the pass ``running``; whatever happens, nothing of the pass stays behind."""
    outer = _local.current
    running.level.enter()
    eager = _jaxapi.is_eager(_jaxapi.current_trace())
    running.guard.enter()
    _local.current = running
    running.calls.frame = sys._getframe()
    try:
        out = fn(*args, **kwargs)
        if running.entries:
            raise _left_open(running.prefix)
        for watcher, facts in running.watched.items():
            watcher.at_end(facts)
    except Exception as error:
        _note_rules(running, error)
        _note_shards(running, error)
        _note_explicit(error)
        raise
    finally:
        while running.entries:
            running.entries[-1].close(running)
        running.calls.frame = None
        _local.current = outer
        running.guard.exit()
    if eager and running.guard.dirty:
        _warn_eager()
    return out


def _left_open(scope: str) -> NestingError:
    return NestingError(
        "Improper nesting of variable_scope: the function returned with a scope still open.",
        {
            "open": repr(scope),
            "fix": "open scopes with `with`, so that they close by themselves.",
        },
        scope=scope,
    )


def enter(running: Pass, level: Level, fn: Callable[..., R], args: Args, kwargs: Kwargs) -> R:
    """Runs ``fn`` on ``level``, a part of the running pass; afterwards all is as before."""
    outer, depth = running.level, len(running.entries)
    level.enter()
    running.level = level
    try:
        out = fn(*args, **kwargs)
        if len(running.entries) > depth:
            raise _left_open(running.prefix)
        return out
    finally:
        while len(running.entries) > depth:
            running.entries[-1].close(running)
        running.level = outer

"""Everything mutable in one pass, and nowhere else; it dies with the pass.

A pass is one run of the user's function under init, apply or specs. It belongs to one thread.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np

from jscope import _jaxapi
from jscope._fingerprint import freeze
from jscope._frames import Calls, CallStacks, RawSites, is_rerun, sites
from jscope._guard import TraceGuard
from jscope._params import Params, walk
from jscope._reuse import Reuse
from jscope._spec import Constraint, Initializer, Partitioner, Regularizer, Shape, VariableSpec
from jscope.errors import (
    CheckError,
    EagerRecompileWarning,
    NameClashError,
    NestingError,
    NoPassError,
    Site,
    VariableNotFoundError,
)


class Settings(NamedTuple):
    """What a scope hands to the requests and scopes inside it."""

    reuse: Reuse = False
    dtype: np.dtype[Any] | None = None  # None: nobody asked for one
    initializer: Initializer | Any = None
    regularizer: Regularizer | None = None
    constraint: Constraint | None = None
    partitioner: Partitioner = None
    custom_getter: Callable[..., Any] | None = None


Facts: TypeAlias = tuple[bool, tuple[str, ...], Any, Any, Any, Any]
"""Trainable, collections, initializer, regularizer, constraint and partition of a variable."""


class ScopeNode:
    """Which scopes were opened below one scope, for numbering ``default_name``."""

    __slots__ = ("always", "below", "free", "open", "opened_by")

    def __init__(self) -> None:
        self.below: dict[str, ScopeNode] = {}
        self.free: dict[str, int] = {}  # default name -> a number below which all are taken
        self.open = 0  # how often this scope is open right now
        self.always = False  # opened where JAX calls nothing, so every request sees it
        self.opened_by: list[Calls] = []

    def child(self, name: str) -> ScopeNode:
        node = self
        for component in name.split("/"):
            found = node.below.get(component)
            if found is None:
                found = node.below[component] = ScopeNode()
            node = found
        return node

    def count_opening(self, calls: Calls) -> None:
        if not calls:
            self.always = True
        elif calls not in self.opened_by:
            self.opened_by.append(calls)

    def _is_taken(self, calls: Calls) -> bool:
        # What another run of the same call opened does not count: JAX repeated it.
        return self.always or any(not is_rerun(earlier, calls) for earlier in self.opened_by)

    def unique(self, name: str, calls: Calls) -> str:
        """``name``, ``name_1``, ... : the first that is not taken."""
        if not self.child(name)._is_taken(calls):
            return name
        number = self.free.get(name, 1)
        while self.child(f"{name}_{number}")._is_taken(calls):
            number += 1
        if not calls:
            self.free[name] = number
        return f"{name}_{number}"

    def close(self) -> None:
        """Numbers below a scope start afresh once it is open nowhere, as in TF1."""
        if not self.open:
            self.below.clear()
            self.free.clear()


class Record:
    """One variable of the pass, from its first request on."""

    __slots__ = ("aval", "calls", "facts", "name", "raw_sites", "value")

    def __init__(
        self, name: str, aval: Any, value: Any, raw_sites: RawSites, calls: Calls, facts: Facts
    ) -> None:
        self.name = name
        self.aval = aval
        self.value = value
        self.raw_sites = raw_sites
        self.calls = calls
        self.facts = facts

    @property
    def sites(self) -> tuple[Site, ...]:
        return sites(self.raw_sites)

    def spec(self) -> VariableSpec:
        trainable, collections, initializer, regularizer, constraint, partition = self.facts
        if isinstance(initializer, _jaxapi.Tracer):
            initializer = None
        return VariableSpec(
            self.name,
            self.aval.shape,
            np.dtype(self.aval.dtype),
            trainable,
            collections,
            initializer,
            regularizer,
            constraint,
            partition,
            self.sites,
        )


class Values(Protocol):
    """Where a pass takes the values of variables from."""

    keeps: bool
    """Whether a value may be kept for later requests, which may come from another trace."""

    def make(self, name: str, shape: Shape, dtype: np.dtype[Any], initializer: Any) -> Any:
        """The value of a variable at its first request, or None where there is none."""
        ...

    def read(self, record: Record) -> Any:
        """The value of a variable that was requested before."""
        ...

    def find(self, name: str) -> Any:
        """The value of a name that was not requested yet, or None."""
        ...

    def names(self) -> list[str]:
        """The names that could be found."""
        ...

    def refuse(self, name: str, places: tuple[Site, ...]) -> Exception:
        """The error for a name that has no value."""
        ...


class Blank:
    """Values of init and specs: placeholders of the right shape, made in the current trace."""

    keeps = False

    def __init__(self) -> None:
        # Weak, so that no inner trace is kept alive; a value that the user holds stays the same.
        self._made: weakref.WeakValueDictionary[tuple[Any, str], Any] = (
            weakref.WeakValueDictionary()
        )
        self.initializers: dict[str, Any] = {}

    def make(self, name: str, shape: Shape, dtype: np.dtype[Any], initializer: Any) -> Any:
        if name not in self.initializers:
            self.initializers[name] = freeze(initializer)
        key = (_jaxapi.trace_ref(_jaxapi.current_trace()), name)
        value = self._made.get(key)
        if value is None:
            value = self._made[key] = jax.lax.empty(shape, dtype)
        return value

    def read(self, record: Record) -> Any:
        return self.make(record.name, record.aval.shape, record.aval.dtype, None)

    def find(self, name: str) -> Any:
        return None

    def names(self) -> list[str]:
        return []

    def refuse(self, name: str, places: tuple[Site, ...]) -> Exception:
        raise AssertionError(name)  # every name can be made in init


class Given:
    """Values of apply: read from any nested mapping, never changed."""

    keeps = True

    def __init__(self, params: object) -> None:
        if not isinstance(params, Mapping):
            raise CheckError.not_a_mapping("params", params)
        self._params = params
        self._scopes: dict[str, Any] = {"": params._tree if isinstance(params, Params) else params}
        self._converted: dict[str, Any] = {}

    def _scope(self, prefix: str) -> Any:
        try:
            return self._scopes[prefix]
        except KeyError:
            above, _, last = prefix.rpartition("/")
            scope = self._scope(above)
            found = scope.get(last) if isinstance(scope, Mapping) else None
            if isinstance(found, Params):
                found = found._tree
            self._scopes[prefix] = found
            return found

    def find(self, name: str) -> Any:
        prefix, _, last = name.rpartition("/")
        try:
            scope = self._scopes[prefix]
        except KeyError:
            scope = self._scope(prefix)
        if type(scope) is not dict and not isinstance(scope, Mapping):
            return None
        value = scope.get(last)
        if type(value) in _jaxapi.ARRAYS or value is None or isinstance(value, jax.Array):
            return value
        return None if isinstance(value, Mapping) else self._convert(name, value)

    def _convert(self, name: str, value: Any) -> Any:
        found = self._converted.get(name)
        if found is None:
            if not isinstance(value, np.ndarray | np.generic | int | float | complex):
                raise CheckError.not_an_array(name, value)
            with jax.ensure_compile_time_eval():  # an array of no trace, the same for every request
                found = self._converted[name] = jax.numpy.asarray(value)
        return found

    def make(self, name: str, shape: Shape, dtype: np.dtype[Any], initializer: Any) -> Any:
        return self.find(name)

    def read(self, record: Record) -> Any:
        return record.value

    def names(self) -> list[str]:
        return ["/".join(path) for path, _ in walk(self._params)]

    def refuse(self, name: str, places: tuple[Site, ...]) -> Exception:
        prefix, _, last = name.rpartition("/")
        scope = self._scope(prefix)
        if isinstance(scope, Mapping) and isinstance(scope.get(last), Mapping):
            return NameClashError.in_params(name, is_scope=True, sites=places)
        while prefix:
            above, _, last = prefix.rpartition("/")
            scope = self._scope(above)
            held = scope.get(last) if isinstance(scope, Mapping) else None
            if held is not None and not isinstance(held, Mapping):
                return NameClashError.in_params(name, is_scope=False, sites=places)
            prefix = above
        known = self.names()
        return VariableNotFoundError.in_params(
            name, known=known, sites=places, hint=_nesting_hint(name, known)
        )


def _nesting_hint(name: str, known: list[str]) -> str | None:
    for other in known:
        if other.endswith("/" + name):
            level = other.removesuffix("/" + name)
            path = "".join(f"[{component!r}]" for component in level.split("/"))
            return f"there is a level too many: give params{path}."
        if name.endswith("/" + other):
            level = name.removesuffix("/" + other)
            return f"a level is missing: give params in which {level!r} holds what was given."
    return None


class Pass:
    """One run of the user's function."""

    __slots__ = (
        "changed",
        "entries",
        "frozen",
        "guard",
        "prefix",
        "records",
        "root",
        "scope",
        "scope_names",
        "settings",
        "stacks",
        "templates",
        "trace",
        "values",
    )

    def __init__(self, values: Values, root: Any) -> None:
        self.values = values
        self.records: dict[str, Record] = {}
        self.scope_names: dict[str, Any] = {"": None}  # scope -> a variable below it
        self.changed: dict[Any, Settings] = {}  # scopes changed by setters -> settings in this pass
        self.templates: dict[Any, Any] = {}
        self.root = ScopeNode()
        self.root.open = 1
        self.guard = TraceGuard()
        self.stacks = CallStacks(run.__code__)
        self.scope = root
        self.prefix = ""
        self.settings: Settings = root._settings
        self.entries: list[Any] = []
        self.trace: Any = None
        self.frozen = 0  # how many calls are open that must not make variables

    def forget(self, count: int) -> None:
        """Drops all variables but the first ``count``."""
        for name in list(self.records)[count:]:
            dropped = self.records.pop(name)
            for scope in [s for s, record in self.scope_names.items() if record is dropped]:
                del self.scope_names[scope]

    def specs(self) -> tuple[VariableSpec, ...]:
        """What the pass made, in order."""
        return tuple(record.spec() for record in self.records.values())


class _Local(threading.local):
    current: Pass | None = None


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
        raise NoPassError.make(call)
    guard = running.guard
    if _jaxapi.current_ref() is not guard.last:
        guard.touch()
    return running


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


def _warn_eager() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            "an eager apply recompiled the JAX transforms inside it (jit, checkpoint, scan, ...), "
            "as it does at every call, because they use variables. The results are right, but it "
            "is slow: wrap the outermost call, jax.jit(net.apply). This is said once.",
            EagerRecompileWarning,
            stacklevel=4,
        )


def run(running: Pass, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Runs ``fn`` as the pass ``running``; whatever happens, nothing of the pass stays behind."""
    outer = _local.current
    trace = _jaxapi.current_trace()
    running.trace = _jaxapi.trace_ref(trace)
    eager = _jaxapi.is_eager(trace)
    del trace
    running.guard.enter()
    _local.current = running
    try:
        out = fn(*args, **kwargs)
        if running.entries:
            raise NestingError.left_open(running.prefix)
    finally:
        while running.entries:
            running.entries[-1].close(running)
        _local.current = outer
        running.guard.exit()
    if eager and running.guard.dirty:
        _warn_eager()
    return out

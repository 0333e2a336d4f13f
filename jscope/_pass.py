"""Everything mutable in one pass, and nowhere else; it dies with the pass.

A pass is one run of the user's function under init, apply or specs. It belongs to one thread.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from jscope import _jaxapi
from jscope._calls import Calls, Place, RawSites, here, is_rerun, sites
from jscope._guard import TraceGuard
from jscope._level import Level
from jscope._params import Params, not_a_mapping, walk
from jscope._program import Program
from jscope._report import near_names, quoted, where
from jscope._reuse import Reuse
from jscope._spec import Constraint, Initializer, Partitioner, Regularizer, Shape, VariableSpec
from jscope.errors import (
    EagerRecompileWarning,
    NameClashError,
    NestingError,
    NoPassError,
    Site,
    TransformError,
    TreeTypeError,
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


class Facts(NamedTuple):
    """What a spec says of a variable, beside its name and type."""

    trainable: bool
    collections: tuple[str, ...]
    initializer: Any
    regularizer: Any
    constraint: Any
    partition: Any


class ScopeNode:
    """Which scopes were opened below one scope, for numbering ``default_name``."""

    __slots__ = ("always", "below", "free", "open", "opened_by")

    def __init__(self) -> None:
        self.below: dict[str, ScopeNode] = {}
        self.free: dict[str, int] = {}  # default name -> a number below which all are taken
        self.open = 0  # how often this scope is open right now
        self.always = False  # opened where JAX calls nothing, so every request sees it
        self.opened_by: list[Place] = []

    def child(self, name: str) -> ScopeNode:
        node = self
        for component in name.split("/"):
            found = node.below.get(component)
            if found is None:
                found = node.below[component] = ScopeNode()
            node = found
        return node

    def count_opening(self, place: Place) -> None:
        if not place:
            self.always = True
        elif place not in self.opened_by:
            self.opened_by.append(place)

    def _is_taken(self, place: Place) -> bool:
        # What another run of the same call opened does not count: JAX repeated it.
        return self.always or any(
            not is_rerun(earlier, place, exactly=True) for earlier in self.opened_by
        )

    def unique(self, name: str, place: Place) -> str:
        """``name``, ``name_1``, ... : the first that is not taken."""
        if not self.child(name)._is_taken(place):
            return name
        number = self.free.get(name, 1)
        while self.child(f"{name}_{number}")._is_taken(place):
            number += 1
        if not place:
            self.free[name] = number
        return f"{name}_{number}"

    def close(self) -> None:
        """Numbers below a scope start afresh once it is open nowhere, as in TF1."""
        if not self.open:
            self.below.clear()
            self.free.clear()


class Record:
    """One variable of the pass, from its first request on.

    ``sizes`` are the leading axes of ``aval`` that the levels around the request added; ``start``
    is what its initial value is made from: a ``Program``, or a constant.
    """

    __slots__ = ("aval", "facts", "name", "place", "raw_sites", "sizes", "start", "value")

    def __init__(
        self,
        name: str,
        aval: Any,
        sizes: Shape,
        value: Any,
        raw_sites: RawSites,
        place: Place,
        facts: Facts,
        start: Any,
    ) -> None:
        self.name = name
        self.aval = aval
        self.sizes = sizes
        self.value = value
        self.raw_sites = raw_sites
        self.place = place
        self.facts = facts
        self.start = start

    @property
    def sites(self) -> tuple[Site, ...]:
        return sites(self.raw_sites)

    @property
    def is_computed(self) -> bool:
        """Whether its initial value is computed from values traced in the user's function."""
        if isinstance(self.start, Program):
            return bool(self.start.traced)
        return isinstance(self.start, _jaxapi.Tracer)

    def spec(self) -> VariableSpec:
        facts = self.facts._replace(initializer=None) if self.is_computed else self.facts
        return VariableSpec(
            self.name,
            self.aval.shape,
            self.aval.dtype,
            **facts._asdict(),
            sites=self.sites,
            stack=self.sizes,
        )


class Values(Protocol):
    """Where a pass takes the values of variables from."""

    keeps: bool
    """Whether there are values, which may be kept for later requests from other traces."""
    has_state: bool
    """Whether there may be variables that are not trainable."""
    initializing: bool
    """Whether variables are being made; then nothing is assigned."""

    def make(
        self, name: str, shape: Shape, dtype: np.dtype[Any], start: Any, trainable: bool
    ) -> Any:
        """The value of a variable at its first request, or None where there is none.

        ``start`` is what its initial value is made from, where variables are being made.
        """
        ...

    def read(self, name: str, trainable: bool) -> Any:
        """The value of a variable that was requested before."""
        ...

    def find(self, name: str, trainable: bool = True) -> Any:
        """The value of a name that was not requested yet, or None; in state if not trainable."""
        ...

    def names(self) -> list[str]:
        """The names that could be found."""
        ...

    def state_names(self) -> list[str]:
        """The names of the given variables that may be assigned."""
        ...

    def refuse(self, name: str, places: tuple[Site, ...], trainable: bool) -> Exception:
        """The error for a name that has no value."""
        ...


class Blank:
    """Values of init and specs: placeholders that have the types of what apply will be given.

    They are values of the trace that the pass runs in, as the params of a jitted apply are. So all
    that JAX does to a value from outside of a transform it does to them: batches it or not, keeps
    its mesh, refuses it.
    """

    keeps = False
    initializing = True

    def __init__(self, has_state: bool) -> None:
        self.has_state = has_state
        self._made: dict[str, Any] = {}
        self._trace = _jaxapi.current_ref()
        self._mesh = jax.sharding.get_abstract_mesh()

    def make(
        self, name: str, shape: Shape, dtype: np.dtype[Any], start: Any, trainable: bool
    ) -> Any:
        value = self._made.get(name)  # there if a template's first call failed and is tried again
        if value is None or (value.shape, value.dtype) != (shape, dtype):
            value = _jaxapi.placeholder(self._trace(), self._mesh, shape, dtype)
            self._made[name] = value
        return value

    def read(self, name: str, trainable: bool) -> Any:
        return self._made.get(name)

    def find(self, name: str, trainable: bool = True) -> Any:
        return None

    def names(self) -> list[str]:
        return []

    def state_names(self) -> list[str]:
        return []

    def refuse(self, name: str, places: tuple[Site, ...], trainable: bool) -> Exception:
        raise AssertionError(name)  # every name can be made in init


class _Tree:
    """Reads a nested mapping of arrays by full names, and never changes it."""

    def __init__(self, label: str, tree: object, *, has_state: bool) -> None:
        if not isinstance(tree, Mapping):
            raise not_a_mapping(label, tree, has_state=has_state)
        self.label = label
        self.tree = tree
        self._scopes: dict[str, Any] = {"": tree._tree if isinstance(tree, Params) else tree}
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
                raise _not_an_array(name, value, self.label)
            with jax.ensure_compile_time_eval():  # an array of no trace, the same for every request
                found = self._converted[name] = jax.numpy.asarray(value)
        return found

    def names(self) -> list[str]:
        return ["/".join(path) for path, leaf in walk(self.tree) if not isinstance(leaf, Mapping)]

    def clash(self, name: str, places: tuple[Site, ...]) -> NameClashError | None:
        """The error for a name that is a scope here, or has an array on its path."""
        prefix, _, last = name.rpartition("/")
        scope = self._scope(prefix)
        if isinstance(scope, Mapping) and isinstance(scope.get(last), Mapping):
            return _clash_in_tree(name, self.label, is_scope=True, sites=places)
        while prefix:
            above, _, last = prefix.rpartition("/")
            scope = self._scope(above)
            held = scope.get(last) if isinstance(scope, Mapping) else None
            if held is not None and not isinstance(held, Mapping):
                return _clash_in_tree(name, self.label, is_scope=False, sites=places)
            prefix = above
        return None


def _not_an_array(name: str, value: object, tree: str) -> TreeTypeError:
    found = type(value).__name__
    return TreeTypeError(
        f"The value of {name!r} in the {tree} given to apply is not an array but {found}.",
        {"fix": "pass arrays: jax.Array, NumPy or Python numbers."},
        mismatched={name: ("an array", found)},
    )


def _clash_in_tree(
    name: str, tree: str, *, is_scope: bool, sites: tuple[Site, ...]
) -> NameClashError:
    held = "it is a scope (a mapping)" if is_scope else "a scope on its path is an array"
    return NameClashError(
        f"Variable {name} cannot be read: in the {tree} given to apply {held}.",
        {
            "asked": f"at {where(sites)}",
            "fix": f"give {tree} of this function's init, with neither a level more nor a "
            f"level less; {_check_call(tree)} lists every difference at once.",
        },
        name=name,
        other=name,
        sites=sites,
    )


class Given:
    """Values of apply: read from any nested mappings, never changed."""

    keeps = True
    initializing = False

    def __init__(self, params: object, state: object = None, *, has_state: bool = False) -> None:
        self.has_state = has_state
        self._params = _Tree("params", params, has_state=has_state)
        self._state = _Tree("state", state if has_state else {}, has_state=has_state)

    def find(self, name: str, trainable: bool = True) -> Any:
        value = self._params.find(name) if trainable else None
        return self._state.find(name) if value is None else value

    def make(
        self, name: str, shape: Shape, dtype: np.dtype[Any], start: Any, trainable: bool
    ) -> Any:
        return (self._params if trainable else self._state).find(name)

    def read(self, name: str, trainable: bool) -> Any:
        return (self._params if trainable else self._state).find(name)

    def names(self) -> list[str]:
        return self._params.names() + self._state.names()

    def state_names(self) -> list[str]:
        return self._state.names()

    def refuse(self, name: str, places: tuple[Site, ...], trainable: bool) -> Exception:
        tree, other = self._params, self._state
        if not trainable:
            tree, other = other, tree
        clash = tree.clash(name, places)
        if clash is not None:
            return clash
        known = tree.names()
        hint = _nesting_hint(name, tree.label, known)
        if other.find(name) is not None:
            hint = (
                f"it is in the {other.label}: ask for it with trainable={not trainable}, "
                "as init did, or give params and state in this order."
            )
        return _not_in_tree(name, tree.label, known=known, sites=places, hint=hint)


def _not_in_tree(
    name: str,
    tree: str,
    *,
    known: Iterable[str],
    sites: tuple[Site, ...],
    hint: str | None,
) -> VariableNotFoundError:
    near = tuple(near_names(name, known))
    return VariableNotFoundError(
        f"Variable {name} does not exist in the {tree} given to apply.",
        {
            "asked": f"at {where(sites)}",
            "near": quoted(near),
            "fix": hint
            or f"give {tree} of this function's init; {_check_call(tree)} lists "
            "every difference at once.",
        },
        name=name,
        near=near,
        sites=sites,
    )


def _check_call(tree: str) -> str:
    return f"jscope.check({tree}, specs{'' if tree == 'params' else '.state()'})"


def _nesting_hint(name: str, label: str, known: list[str]) -> str | None:
    for other in known:
        if other.endswith("/" + name):
            level = other.removesuffix("/" + name)
            path = "".join(f"[{component!r}]" for component in level.split("/"))
            return f"there is a level too many: give {label}{path}."
        if name.endswith("/" + other):
            level = name.removesuffix("/" + other)
            return f"a level is missing: give {label} in which {level!r} holds what was given."
    return None


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
        "level",
        "lifts",
        "numbered",
        "prefix",
        "programs",
        "records",
        "renamed",
        "root",
        "scope",
        "scope_names",
        "settings",
        "templates",
        "trace",
        "values",
        "watched",
    )

    def __init__(self, values: Values, root: Any, key: jax.Array | None) -> None:
        self.values = values
        self.level = Level(None, key=key, planning=not values.keeps)
        self.lifts: list[Any] = []  # of functionalize; functions of it do not keep them alive
        self.records: dict[str, Record] = {}
        self.programs: dict[Any, Program] = {}  # of the library's initializers
        self.scope_names: dict[str, Any] = {"": None}  # scope -> a variable below it
        self.changed: dict[Any, Settings] = {}  # scopes changed by setters -> settings in this pass
        self.templates: dict[Any, Any] = {}
        self.numbered: set[str] = set()  # scopes whose name was counted
        self.root = ScopeNode()
        self.root.open = 1
        self.guard = TraceGuard()
        self.calls = Calls(run.__code__, enter.__code__, self.guard)
        self.scope = root
        self.prefix = ""
        self.settings: Settings = root._settings
        self.entries: list[Any] = []
        self.trace: Any = None
        self.frozen = 0  # how many calls are open that must not make variables
        # What a custom getter asked for in place of a name.
        self.renamed: dict[str, str] = {}
        self.watched: dict[Watcher, Any] = {}  # who checks the pass once ``fn`` is done -> facts

    def forget(self, count: int) -> None:
        """Drops all variables but the first ``count``."""
        for name in list(self.records)[count:]:
            dropped = self.records.pop(name)
            for scope in [s for s, record in self.scope_names.items() if record is dropped]:
                del self.scope_names[scope]

    def read(self, record: Record) -> Any:
        """The value of a variable as the open level sees it."""
        if record.value is not None:
            return record.value
        found, layers = self.look(record.name, record.sizes, record.facts.trainable)
        return self.part(record.name, found, layers)

    def part(self, name: str, found: Any, layers: list[Level]) -> Any:
        """The part of a value that is left by these levels, outermost last, of its layers."""
        for level in reversed(layers):
            found = level.part(name, found)
        return found

    def look(self, name: str, sizes: Shape, trainable: bool) -> tuple[Any, list[Level]]:
        """What the pass has for a variable, and the levels that see one layer of it, from inside.

        These are levels that plan: they have no values yet.

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
            if level.is_layer and len(sizes) >= len(level.sizes):
                if not level.planning:
                    raise unplanned(name)
                level.used[name] = None
                layers.append(level)
            level = level.parent
        return self.values.read(name, trainable), layers

    def is_visible(self, name: str) -> bool:
        """Whether the open level has a value for a name: not for variables of other stacks."""
        record = self.records.get(name)
        level: Level | None = self.level
        if record is None or not record.sizes or not self.level.sizes:
            return True
        while level is not None:
            if name in level.values:
                return True
            level = level.parent
        return False

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
        rule = _jaxapi.current_rule()
        raise _no_pass_here(call) if rule is None else _in_rule(call, rule, here())
    guard = running.guard
    if _jaxapi.current_ref() is not guard.last:
        guard.touch()
    return running


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
    return None if _local.current is None else current("")


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


def run(running: Pass, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Runs ``fn`` as the pass ``running``; whatever happens, nothing of the pass stays behind."""
    outer = _local.current
    running.level.enter()
    running.trace = running.level.trace
    eager = _jaxapi.is_eager(_jaxapi.current_trace())
    running.guard.enter()
    _local.current = running
    try:
        out = fn(*args, **kwargs)
        if running.entries:
            raise _left_open(running.prefix)
        for watcher, facts in running.watched.items():
            watcher.at_end(facts)
    except Exception as error:
        _note_rules(running, error)
        raise
    finally:
        while running.entries:
            running.entries[-1].close(running)
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


def enter(
    running: Pass, level: Level, fn: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
) -> Any:
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

"""Functions that are traced once, however many scopes they are used in: jscope.jit, checkpoint.

The first call runs the function as it is, and records what it asks of jscope. Later calls ask for
the same under their own scope, and give what they get to the function as arguments: run so, in a
pass of its own, it is a pure function, which JAX traces once. A function that depends on its scope
in another way is run under each.
"""

from __future__ import annotations

import collections
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax

from jscope import _arg_scope, _jaxapi, _pass
from jscope._arguments import bad_argument
from jscope._bars import check_assign, check_draw
from jscope._getter import ask
from jscope._keys import Keys, draw_name, or_any
from jscope._level import Level
from jscope._lift import Lift, assigned_values
from jscope._names import join
from jscope._pass import Pass
from jscope._reading import Inner, NotPlannedError
from jscope._recorder import Closed, Drew, Looked, Opened, Recorder, Requested
from jscope._scope import VariableScope, open_scope
from jscope._spec import Shape
from jscope.errors import JscopeError

_PLANS = 64
_INPUTS = "jscope_inputs"  # the argument that the values of variables come in by

_Function = Callable[..., Any]
_Transformer = Callable[[_Function], _Function]


class Plan:
    """What one call of a function asked for, by the names that it gave at its own root.

    Attributes:
      events: What was opened, asked for and drawn, in order.
      assigned: Names of the state that it assigned.
      collected: Key and scope of what it added to collections.
      counts: How many keys it drew in each scope.
      initializing: Whether variables were being made.
      has_state: Whether there may be state.
      has_rng: Whether keys can be drawn.
      refused: Why it cannot be asked for under another scope, if so.
    """

    __slots__ = (
        "assigned",
        "collected",
        "counts",
        "events",
        "has_rng",
        "has_state",
        "initializing",
        "refused",
    )

    def __init__(self, running: Pass, recorder: Recorder, before: Mapping[str, int], level: Level):
        hold = _weakly if running.values.initializing else _never_called
        self.events = tuple([_replace_initializer(event, hold) for event in recorder.events])
        self.initializing = running.values.initializing
        self.has_state = running.values.has_state
        self.has_rng = running.level.keys.key is not None
        self.refused = recorder.refused
        self.assigned: tuple[str, ...] = ()
        self.collected: tuple[tuple[str, str], ...] = ()
        self.counts: dict[str, int] = {}
        try:
            self.assigned = tuple(recorder.names[name] for name in level.assigned)
            self.collected = tuple(
                (key, recorder.scopes[scope]) for key, scope, _ in level.collected
            )
            for scope, count in level.keys.counts.items():
                if count != before.get(scope, 0):
                    self.counts[recorder.scopes[scope]] = count - before.get(scope, 0)
        except KeyError as missing:
            self.refused = self.refused or f"it uses {missing} of another function"


def _replace_initializer(event: Any, by: Callable[[Any], Any]) -> Any:
    """The event with another initializer, for a request or as the default of a scope."""
    if type(event) is Requested and callable(event.asked.initializer):
        return event._replace(asked=event.asked._replace(initializer=by(event.asked.initializer)))
    if type(event) is Opened and callable(event.options.get("initializer")):
        initializer = by(event.options["initializer"])
        return event._replace(options={**event.options, "initializer": initializer})
    return event


def _weakly(initializer: Any) -> Any:
    """A reference that keeps nothing of the user's alive; what a library made is kept."""
    made = getattr(initializer, "func", initializer)
    if str(getattr(made, "__module__", "")).startswith(("jax.", "jscope.")):
        return initializer
    try:
        return weakref.ref(initializer)
    except TypeError:
        return initializer


def _there(initializer: Any) -> Any:
    found = initializer() if type(initializer) is weakref.ref else initializer
    if found is None:
        raise _GoneError("an initializer of it is gone")
    return found


def _never_called(_: Any) -> Any:
    return _not_called


def _not_called(key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
    """Stands for an initializer where values are given."""
    raise AssertionError


class _GoneError(NotPlannedError):
    """Something of the user's that a plan refers to is no more: the function is to be planned."""


class _Inputs(NamedTuple):
    """What a planned function is given beside its arguments."""

    values: dict[str, Any]
    state: dict[str, jax.Array]
    keys: dict[str, jax.Array]
    numbers: tuple[Any, ...]
    plan: _Static


@jax.tree_util.register_static
class _Static:
    """A plan as a part of the key of JAX's caches: each plan is its own program."""

    __slots__ = ("plan",)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and self.plan is other.plan

    def __hash__(self) -> int:
        return hash(id(self.plan))


class Once:
    """A function in a transform that runs it once, and what is known of its calls.

    Attributes:
      runs: How often the function's Python ran.
      calls: How often it was called.
      reason: Why it was last run where it had been planned, or could not be planned.
    """

    def __init__(
        self,
        name: str,
        fun: _Function,
        transformer: _Transformer,
        static: tuple[frozenset[int], frozenset[str]] | None,
    ) -> None:
        self.runs = self.calls = 0
        self.reason: str | None = None
        self._name = name
        self._fun = fun
        self._transformer = transformer
        self._static = static
        self._plans: collections.OrderedDict[Any, Plan] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        running = _pass.current(self._name)
        self.calls += 1
        lift = Lift(running)
        if running.level.seers:
            self.reason = "somebody looks at the values that it records"
            return self._inline(lift, None, args, kwargs)
        key = self._key(running, args, kwargs)
        plan = None if key is None else self._find(key)
        if plan is None or plan.refused is not None:
            if plan is not None:
                self.reason = plan.refused
            elif key is None:
                self.reason = "its arguments or options cannot be compared"
            return self._inline(lift, key if plan is None else None, args, kwargs)
        count = len(running.records)
        try:
            return lift.inline(self._replay, (running, plan, args, kwargs), {})[0]
        except _GoneError:
            pass  # planned anew
        except NotPlannedError as error:
            plan.refused = self.reason = str(error)
            key = None
        except JscopeError as error:  # the function itself says whether it asks for that
            self.reason = str(error)
            key = None
        running.records.forget(count)
        return self._inline(lift, key, args, kwargs)

    def _inline(self, lift: Lift, key: Any, args: Any, kwargs: Any) -> Any:
        """Runs the function as it is, and notes what it asks for under ``key``."""
        running = lift.running
        places: list[tuple[str, str]] = []

        @functools.wraps(self._fun)
        def inner(*args: Any, **kwargs: Any) -> Any:
            self.runs += 1
            if key is None:
                out, level = lift.call(self._fun, args, kwargs, collects=True)
            else:
                out, level = self._record(lift, key, args, kwargs)
            places[:] = [(key, scope) for key, scope, _ in level.collected]
            values = [value for *_, value in level.collected]
            return out, (assigned_values(level), values, lift.recorded(level))

        out, (state, values, recorded) = self._transformer(inner)(*args, **kwargs)
        for place, value in zip(places, values, strict=True):
            running.level.collected.append((*place, value))
        return lift.finish(out, state, recorded)

    def _record(self, lift: Lift, key: Any, args: Any, kwargs: Any) -> tuple[Any, Level]:
        running, outer = lift.running, lift.running.recorder
        before = dict(lift.counts if lift.counts is not None else lift.parent.keys.counts)
        recorder = running.recorder = Recorder(
            outer,
            running.scope,
            running.prefix,
            running.level.sizes,
            before,
            len(running.calls.observe(running.level)[0]),
        )
        try:
            out, level = lift.call(self._fun, args, kwargs, collects=True)
        finally:
            running.recorder = outer
        plan = Plan(running, recorder, before, level)
        with self._lock:
            self._plans[key] = plan
            if len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        return out, level

    def _find(self, key: Any) -> Plan | None:
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
        return plan

    def _key(self, running: Pass, args: Any, kwargs: Any) -> Hashable:
        """Equal for calls that ask for the same; None if that cannot be known."""
        if self._static is None or _jaxapi.is_jit_disabled():
            return None
        positions, names = self._static
        positions = frozenset(x + len(args) if x < 0 else x for x in positions)
        static = [(x, value) for x, value in enumerate(args) if x in positions]
        static += [(x, value) for x, value in sorted(kwargs.items()) if x in names]
        leaves, structure = jax.tree.flatten(
            (
                [value for x, value in enumerate(args) if x not in positions],
                {x: value for x, value in kwargs.items() if x not in names},
            )
        )
        keys = running.level.keys
        try:
            key = (
                tuple(static),
                structure,
                tuple([jax.typeof(leaf) for leaf in leaves]),
                running.values.initializing,
                running.values.has_state,
                None if keys.key is None else keys.key.dtype,
                running.settings.custom_getter is None,
                running.settings.dtype,
                running.settings.initializer is None,
                _jaxapi.shared_config_key(),
                _arg_scope.current_key(),
            )
            hash(key)
        except TypeError:
            return None
        return key

    def _replay(self, running: Pass, plan: Plan, args: Any, kwargs: Any) -> Any:
        """Asks for what was planned under the open scope, and calls the function with it."""
        level = running.level
        asked = _Asked(running, plan)
        counts = dict(level.keys.counts)
        asked.replay()
        if len({*asked.names.values()}) != len(asked.names):
            raise NotPlannedError("two of its variables are one here")
        for scope in plan.counts:
            full = asked.scopes[scope]
            if level.keys.counts.get(full, 0) != counts.get(full, 0):
                raise NotPlannedError("a custom getter draws keys in a scope where it draws too")
        for scope, count in plan.counts.items():
            full = asked.scopes[scope]
            level.keys.counts[full] = counts.get(full, 0) + count
        inputs = _Inputs(
            asked.values,
            asked.state,
            asked.keys,
            tuple([fold() for fold in level.keys.folds]) if asked.keys else (),
            _Static(plan),
        )
        context = _jaxapi.get_context()
        _jaxapi.set_context(None)  # the plan is the key
        try:
            out, (state, values) = self._transformed(*args, **kwargs, **{_INPUTS: inputs})
        finally:
            _jaxapi.set_context(context)
        for name in plan.assigned:
            full = asked.names[name]
            check_assign(running, full)
            running.write(full, state.get(name))
        for (key, scope), value in zip(plan.collected, values, strict=True):
            level.collected.append((key, asked.scopes[scope], value))
        return out

    @functools.cached_property
    def _transformed(self) -> _Function:
        @functools.wraps(self._fun)  # whose signature says which arguments are static
        def pure(*args: Any, **kwargs: Any) -> Any:
            return self._pure(args, kwargs)

        return self._transformer(pure)

    def _pure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The function, of what it asks for; JAX traces it once for each plan."""
        inputs: _Inputs = kwargs.pop(_INPUTS)
        plan = inputs.plan.plan
        self.runs += 1
        values = Inner(
            inputs.values,
            inputs.state,
            initializing=plan.initializing,
            has_state=plan.has_state,
        )
        running = Pass(values, VariableScope(), None)
        if plan.has_rng:  # no key follows from this one: all are given
            folds = tuple([lambda number=number: number for number in inputs.numbers])
            running.level.keys = Keys(or_any(None), folds, given=inputs.keys)
        out = _pass.run(running, self._fun, args, kwargs)
        level = running.level
        if (
            tuple(level.assigned) != (() if plan.initializing else plan.assigned)
            or tuple((key, scope) for key, scope, _ in level.collected) != plan.collected
            or dict(level.keys.counts) != plan.counts
        ):
            raise NotPlannedError("it assigned, collected or drew other than before")
        return out, (assigned_values(level), [value for *_, value in level.collected])


class _Asked:
    """What was planned, asked for under another scope."""

    def __init__(self, running: Pass, plan: Plan) -> None:
        self.names: dict[str, str] = {}
        self.scopes = {"": running.prefix}
        self.values: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        self.keys: dict[str, jax.Array] = {}
        self._running = running
        self._plan = plan
        self._counts = dict(running.level.keys.counts)
        self._opened: dict[int, Any] = {-1: running.scope}
        self._depth = len(running.calls.observe(running.level)[0])

    def replay(self) -> None:
        running, open_scopes = self._running, []
        initializing = self._plan.initializing
        for number, planned in enumerate(self._plan.events):
            event = _replace_initializer(planned, _there) if initializing else planned
            if type(event) is Requested:
                self._request(event)
            elif type(event) is Opened:
                open_scopes.append(self._open(number, event))
            elif type(event) is Closed:
                open_scopes.pop().close(running)
            elif type(event) is Drew:
                self._draw(event)
            elif type(event) is Looked:
                full = join(running.prefix, event.local)
                check_assign(running, full)
                self.names[event.name] = full
                self.state[event.name] = running.value(full)

    def _request(self, event: Requested) -> None:
        running = self._running
        full = join(running.prefix, event.local)
        asked = event.asked._replace(name=full)
        if event.inherits:
            asked = asked._replace(reuse=running.settings.reuse)
        running.calls.replayed = event.sites, self._depth
        try:
            value = ask(running, asked, inherits=event.inherits)
        finally:
            running.calls.replayed = None
        self.names[event.name] = full
        record = running.records.get(full)
        if record is None:  # of a getter, or where values are arguments
            is_state = full in running.values.state_names()
        else:
            is_state = not record.facts.trainable
        if not is_state:
            if not event.trainable:
                raise NotPlannedError(f"{full} is not state here")
            self.values[event.name] = value
        else:
            self.state[event.name] = value
            if event.got:  # what it is given, and what it assigns to, are two things
                if running.records.renamed.get(full) != full:
                    raise NotPlannedError("a custom getter gives it other state than it asks for")
                self.values[event.name] = value
                self.state[event.name] = running.value(full)

    def _open(self, number: int, event: Opened) -> Any:
        asked = event.name if event.again is None else self._opened[event.again]
        entry = open_scope(
            self._running, asked, event.default_name, event.reuse, event.options, False, False
        )
        self._opened[number] = entry.scope
        full = self._running.prefix
        if self.scopes.setdefault(event.scope, full) != full:
            raise NotPlannedError("one of its scopes has two names here")
        return entry

    def _draw(self, event: Drew) -> None:
        running = self._running
        scope = running.prefix
        if not self.keys:
            check_draw(running)
        number = self._counts.get(scope, 0) + event.number
        if running.recorder is not None:
            running.recorder.drew(scope, number)
        key = running.level.keys.named(scope, number)
        self.keys[draw_name(event.scope, event.number)] = key


def traced_once(
    name: str,
    fun: _Function,
    transformer: _Transformer,
    static: tuple[Any, Any] | None,
) -> _Function:
    """Lifts a transform that runs its function once, and traces it once for all scopes.

    Args:
      name: Of the transform.
      fun: The user's function.
      transformer: The transform with its options.
      static: Positions and names of the arguments that are static; None to run the function under
        each scope.
    """
    if not callable(fun):
        raise bad_argument(f"argument of {name}", fun, "a function")
    once = Once(name, fun, transformer, None if static is None else static_arguments(fun, *static))

    @functools.wraps(fun)
    def lifted(*args: Any, **kwargs: Any) -> Any:
        return once(args, kwargs)

    lifted.__jscope_once__ = once  # type: ignore[attr-defined] # for jscope.testing
    return lifted


def static_arguments(
    fun: _Function, positions: Any, names: Any
) -> tuple[frozenset[int], frozenset[str]] | None:
    """Which arguments are static, as ``jax.jit`` finds them: by both, where only one is given."""
    given = (positions,) if isinstance(positions, int) else tuple(positions or ())
    words = (names,) if isinstance(names, str) else tuple(names or ())
    if not given and not words:
        return frozenset(), frozenset()
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        return None
    for number, parameter in enumerate(parameters):
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            if positions is None and parameter.name in words:
                given += (number,)
            elif names is None and (number in given or number - len(parameters) in given):
                words += (parameter.name,)
    return frozenset(given), frozenset(words)

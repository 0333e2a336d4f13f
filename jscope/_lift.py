"""functionalize: a function of the pass as a pure one, and what all lifted transforms are made of.

A *lift* runs functions of the user on levels of their own, inside a transform. State comes in with
their values, and out with what they return; keys are derived from the same key as outside.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import jax

from jscope import _jaxapi, _pass
from jscope._arguments import bad_argument
from jscope._calls import Alike
from jscope._effects import bars_assign, bars_draw, check_assign, check_put
from jscope._keys import Fold, Keys, after
from jscope._level import Bar, Bars, Level
from jscope._params import PyTree
from jscope._pass import Pass, unplanned
from jscope._report import brief, report_at
from jscope._spec import Args, Kwargs
from jscope._state import unfit
from jscope.errors import Site, StateError, TransformError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Lift:
    """One call of a lifted transform."""

    def __init__(self, running: Pass) -> None:
        self.running = running
        self.parent = running.level
        crossing = running.calls.crossing(self.parent)
        self._place = running.calls.observe(self.parent)[1]
        self._calls: dict[int, object] = {}
        self._bars = Bars(
            draw=bars_draw(self.parent, crossing), assign=bars_assign(self.parent, crossing)
        )
        self.parent.keys.enter_branches(crossing.branches)
        self.counts: dict[str, int] | None = None
        self.planning = self.parent.planning
        self._plan = self.parent.next_plan()
        self.assigned: dict[str, None] = {}
        self.used: dict[str, None] = {}

    @property
    def has_rng(self) -> bool:
        return self.parent.keys.key is not None

    def call(
        self,
        fn: Callable[..., R],
        args: Args,
        kwargs: Kwargs | None = None,
        *,
        values: Mapping[str, jax.Array] | None = None,
        fold: Fold | None = None,
        key: jax.Array | None = None,
        sizes: tuple[int, ...] = (),
        bar: Bar | None = None,
        outside: Bar | None = None,
        collects: bool = False,
        which: int = 0,
        alike: int = 0,
    ) -> tuple[R, Level]:
        """Runs ``fn`` on a level of its own, and returns what it returned, and the level.

        Every run starts with the counts of draws of the first one: JAX may trace ``fn`` again.

        Args:
          fn: The user's function.
          args: For ``fn``.
          kwargs: For ``fn``.
          values: Values that are the level's own; only these can be assigned. None if what is
            assigned is returned from the transform, whatever it is.
          fold: Gives the number of this iteration, to be folded into keys.
          key: The key, if not that of the level around.
          sizes: The axis that variables made in ``fn`` get.
          bar: Why nothing can be assigned.
          outside: Why variables that were made outside cannot be assigned.
          collects: Whether what is added to collections is returned from the transform.
          which: Number of the function, where the transform has several: runs of one are one call.
          alike: Number of the first function that is equal to it.
        """
        around, run = self.parent.keys, object()
        if self.counts is None:
            self.counts = dict(around.counts)
        bars = self._bars._replace(
            assign=bar or self._bars.assign,
            outside=outside,
            collect=self.parent.bars.collect or not collects,
        )
        level = Level(
            self.parent,
            Keys(
                around.key if key is None else key,
                (fold, *around.folds) if fold else around.folds,
                self.counts,
            ),
            values=values,
            carried=None if values is None else tuple(values),
            bars=bars,
            sizes=self.parent.sizes + sizes,
            planning=self.planning,
            plans=None if self.planning else self._plan.inner.get(which),
            place=(*self._place, (self._call(which), run), (Alike(self._call(-1), alike), run)),
        )
        out = _pass.enter(self.running, level, fn, args, kwargs or {})
        level.keys.enter_branches(())
        around.raise_counts(level.keys.counts)
        self.assigned |= level.assigned
        self.used |= level.used
        if self.planning:
            self._plan.inner[which] = level.plans
        return out, level

    def _call(self, which: int) -> object:
        return self._calls.setdefault(which, object())

    def pure(
        self,
        fn: Callable[..., R],
        *,
        sizes: tuple[int, ...] = (),
        bar: Bar | None = None,
        which: int = 0,
        alike: int = 0,
    ) -> Callable[..., tuple[R, dict[str, jax.Array]]]:
        """``pure(state, number, *args) -> (out, state)``: ``fn`` as a function of the state.

        Args:
          fn: The user's function.
          sizes: As of ``call``, like all that follow.
          bar: Why nothing can be assigned.
          which: Number of the function.
          alike: Number of the first function that is equal to it.
        """

        def pure(
            state: dict[str, jax.Array], number: jax.Array | None, *args: PyTree
        ) -> tuple[R, dict[str, jax.Array]]:
            out, level = self.call(
                fn,
                args,
                values=state,
                fold=None if number is None else lambda: number,
                sizes=sizes,
                bar=bar,
                which=which,
                alike=alike,
            )
            return out, {name: level.values[name] for name in state}

        return pure

    def state(self) -> dict[str, jax.Array]:
        """The current values of all that functions of this transform may assign."""
        values = self.running.values
        if self.planning or values.initializing:
            return {}
        level = self.parent
        while level.carried is None and level.parent is not None:
            level = level.parent
        names = values.state_names() if level.carried is None else level.carried
        return {
            name: strong(value)
            for name, value in self.read(names).items()
            if self.running.is_visible(name)
        }

    def read(self, names: Iterable[str]) -> dict[str, jax.Array]:
        """The current values of variables, as the level around sees them."""
        return {name: _current(self.running, name) for name in names}

    def plan(self, run: Callable[[], PyTree]) -> None:
        """Finds out what functions use and assign when ``run`` runs them."""
        self.planning = True
        try:
            jax.eval_shape(run)
        finally:
            self.planning = self.parent.planning

    def planned(self, run: Callable[[], T]) -> T:
        """The result of ``run``, which needs to know what its functions use and assign.

        It is run to find out, but where that was done when the function around was planned.
        """
        if not self.planning:
            if not self._plan.made:
                self.plan(run)
                self._note_plan()
            self.assigned = dict(self._plan.assigned)
            self.used = dict(self._plan.used)
        out = run()
        if self.planning:
            self._note_plan()
        return out

    def _note_plan(self) -> None:
        self._plan.assigned, self._plan.used = dict(self.assigned), dict(self.used)
        self._plan.made = True

    def finish(self, out: R, state: Mapping[str, jax.Array]) -> R:
        """Writes what was assigned inside to the level around."""
        for name in self.assigned:
            if name in state:
                self.running.write(name, state[name])
            elif self.planning:
                self.parent.assigned[name] = None
            else:
                raise unplanned(name)
        return out


def strong(array: jax.Array) -> jax.Array:
    """An array whose dtype is its own: what a loop carries must not change its type."""
    return jax.lax.convert_element_type(array, array.dtype)


def pair(what: str, out: object, wanted: str) -> tuple[PyTree, PyTree]:
    """What a function returned, which has to be a pair: an array of two rows is none."""
    if not isinstance(out, tuple | list) or len(out) != 2:
        raise bad_argument(what, out, f"a pair {wanted}")
    return out[0], out[1]


def assigned_values(level: Level) -> dict[str, jax.Array]:
    """What was assigned on a level, to be returned from the transform; nothing while planning."""
    return {} if level.planning else {name: level.values[name] for name in level.assigned}


def _current(running: Pass, name: str) -> Any:
    record = running.records.get(name)
    if record is not None:
        return running.read(record)
    state, _ = running.look(name, (), trainable=False)
    return running.look(name, (), trainable=True)[0] if state is None else state


class Carry(NamedTuple):
    """State and randomness of a functionalized function: a pytree of arrays.

    Attributes:
      state: Full name -> value of each variable that is not trainable; empty while initializing.
      key: Words of the key that draws are derived from, uint32; None where there is no ``rng``.
    """

    state: dict[str, jax.Array]
    key: jax.Array | None


def functionalize(
    fn: Callable[P, R],
) -> tuple[Callable[Concatenate[Carry, P], tuple[R, Carry]], Carry]:
    """Makes a function of the running pass pure, for transforms that jscope has no twin of.

    State and randomness go in and out by a carry, so the pure function can be used inside
    ``shard_map``, ``custom_vjp``, a solver of another library, or a loop. Trainable variables are
    read as everywhere, and state may be read outside the carry too.

    Each application moves the carry's key on: a loop that threads the carry draws new keys in every
    iteration, and the first application draws those of the plain program. A transform that maps
    over instances needs an own key for each: ``carry._replace(key=keys)`` with ``keys`` of
    ``jax.vmap(jax.random.fold_in, (None, 0))(carry.key, numbers)``, mapped over.

    The carry holds state as it is now: apply the function and put its carry back before anything
    else assigns. In a ``custom_vjp`` give variables as arguments: JAX does not derive by what such
    a function closes over. Its backward rule gets and returns cotangents of the carry too, None
    will do.

    Args:
      fn: A function that may assign state and draw keys.

    Returns:
      ``pure, carry``: ``pure(carry, *args, **kwargs) -> (out, carry)``, and the carry to start
      with, a pytree of arrays. Both are of use in this pass only. ``jscope.put_carry`` writes the
      carry that came out back into the pass.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def count(x):
      ...     js.get_variable("calls", initializer=0.0, trainable=False)
      ...     return x + js.assign_add("calls", 1)
      >>> def fn(x):
      ...     pure, carry = js.functionalize(count)
      ...     out, carry = jax.checkpoint(pure)(carry, x)
      ...     js.put_carry(carry)
      ...     return out
      >>> net = js.transform_with_state(fn)
      >>> params, state = net.init(0, jnp.ones([2]))
      >>> out, state = net.apply(params, state, None, jnp.ones([2]))
      >>> print(out, state["calls"])
      [2. 2.] 1.0
    """
    running = _pass.current("functionalize")
    lift = Lift(running)
    running.lifts.append(lift)
    weak = weakref.ref(lift)  # other libraries' caches keep functions, and must not keep the pass

    @functools.wraps(fn)
    def pure(carry: Carry, /, *args: PyTree, **kwargs: PyTree) -> tuple[R, Carry]:
        lift = weak()
        if lift is None or lift.running is not _pass.peek():
            raise _other_pass()
        if not isinstance(carry, Carry):
            raise _not_a_carry(carry)
        _pass.current("functionalize")
        key, outer = None, lift.parent.keys.key
        if carry.key is not None and outer is not None:
            key = jax.random.wrap_key_data(carry.key, impl=jax.random.key_impl(outer))
        out, level = lift.call(fn, args, kwargs, values=carry.state, key=key)
        state = {name: level.values[name] for name in carry.state}
        if key is not None and level.keys.counts != lift.counts:
            carry = carry._replace(key=jax.random.key_data(after(key)))
        return out, carry._replace(state=state)

    del pure.__wrapped__  # its signature is not that of fn
    key = lift.parent.keys.key
    return pure, Carry(lift.state(), None if key is None else jax.random.key_data(key))


def _other_pass() -> TransformError:
    return TransformError(
        "A function of jscope.functionalize was called outside the pass that made it: it "
        "belongs to one run of init, apply or specs."
    )


def _not_a_carry(value: object) -> StateError:
    return StateError(
        f"carry must be what jscope.functionalize gave, or what its function returned, got "
        f"{brief(value)} of type {type(value).__name__}.",
        {"fix": "pure, carry = functionalize(fn); out, carry = pure(carry, ...)."},
        name="",
        sites=(),
    )


def put_carry(carry: Carry) -> None:
    """Writes the state of a carry back into the running pass, as ``jscope.assign`` does.

    Only what functionalized functions assigned is written. See ``functionalize``.

    Args:
      carry: What a function of ``functionalize`` returned, out of the transform.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      StateError: (ValueError) ``carry`` is no carry; AssignmentError if a value has another shape
        or dtype than its variable.
      TransformError: (ValueError) called inside a raw JAX transform, or a value leaked from one.

    Example:
      >>> import jscope as js
      >>> def fn():
      ...     pure, carry = js.functionalize(lambda: js.next_rng_key())
      ...     key, carry = pure(carry)
      ...     js.put_carry(carry)
      ...     return key
      >>> js.transform(fn).apply({}, 0).shape
      ()
    """
    running = _pass.current("put_carry")
    if not isinstance(carry, Carry):
        raise _not_a_carry(carry)
    check_put(running)
    for name in {name: None for lift in running.lifts for name in lift.assigned}:
        check_assign(running, name)
        if running.values.initializing or running.level.planning:
            running.write(name, None)
            continue
        value, old = carry.state[name], _current(running, name)
        if isinstance(value, _jaxapi.Tracer) and not _jaxapi.is_live(value):
            raise _leaked(name, running.here())
        for what in ("shape", "dtype"):
            if getattr(value, what) != getattr(old, what):
                raise unfit(
                    name,
                    what,
                    asked=getattr(value, what),
                    found=getattr(old, what),
                    aval=(old.shape, old.dtype),
                    first=(),
                    again=running.here(),
                )
        running.write(name, value)


def _leaked(name: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"The carry holds a value of variable {name} that leaked from a finished trace.",
        sites,
        "return the carry from the transformed function, and put what the transform returns.",
        name=name,
    )

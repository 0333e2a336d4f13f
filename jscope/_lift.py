"""functionalize: a function of the pass as a pure one, and what all lifted transforms are made of.

A *lift* runs functions of the user on levels of their own, inside a transform. State comes in with
their values, and out with what they return; keys are derived from the same key as outside.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import jax

from jscope import _jaxapi, _pass
from jscope._calls import Alike
from jscope._effects import bars_assign, bars_draw, check_assign, check_put
from jscope._jaxapi import Transform
from jscope._level import Fold, Level
from jscope._pass import Pass
from jscope.errors import ArgumentError, AssignmentError, StateError, TransformError

P = ParamSpec("P")
R = TypeVar("R")


class Lift:
    """One call of a lifted transform."""

    def __init__(self, running: Pass) -> None:
        self.running = running
        self.parent = running.level
        crossing = running.calls.crossing(self.parent)
        self._place = running.calls.observe(self.parent)[1]
        self._calls: dict[Any, object] = {}
        self._bars_draw = bars_draw(self.parent, crossing)
        self._bars_assign = bars_assign(self.parent, crossing)
        self.parent.enter_branches(crossing.branches)
        self.counts: dict[str, int] | None = None
        self.planning = self.parent.planning
        self.assigned: dict[str, None] = {}
        self.used: dict[str, None] = {}

    @property
    def has_rng(self) -> bool:
        return self.parent.key is not None

    def call(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        values: Mapping[str, Any] | None = None,
        fold: Fold | None = None,
        key: jax.Array | None = None,
        sizes: tuple[int, ...] = (),
        splits: bool = False,
        collects: bool = False,
        bars_assign: str | None = None,
        which: int = 0,
        alike: int = 0,
    ) -> tuple[Any, Level]:
        """Runs ``fn`` on a level of its own, and returns what it returned, and the level.

        Every run starts with the counts of draws of the first one: JAX may trace ``fn`` again.

        Args:
          fn: The user's function.
          args: For ``fn``.
          kwargs: For ``fn``.
          values: Values that are the level's own.
          fold: Gives the number of this iteration, to be folded into keys.
          key: The key, if not that of the level around.
          sizes: The axis that variables made in ``fn`` get.
          splits: Whether only variables made in ``fn`` can be assigned.
          collects: Whether what is added to collections is returned from the transform.
          bars_assign: The place, if nothing can be assigned in it.
          which: Number of the function, where the transform has several: runs of one are one call.
          alike: Number of the first function that is equal to it.
        """
        if self.counts is None:
            self.counts = dict(self.parent.counts)
        bar, run = self._bars_assign, object()
        if bars_assign is not None:
            bar = Transform(bars_assign, None, once=False)
        level = Level(
            self.parent,
            key=self.parent.key if key is None else key,
            fold=fold,
            counts=self.counts,
            values=values,
            sizes=self.parent.sizes + sizes,
            planning=self.planning,
            splits=splits,
            collects=collects and self.parent.collects,
            bars_draw=self._bars_draw,
            bars_assign=bar,
            place=(*self._place, (self._call(which), run), (Alike(self._call(-1), alike), run)),
        )
        out = _pass.enter(self.running, level, fn, args, kwargs or {})
        level.enter_branches(())
        self.parent.raise_counts(level.counts)
        self.assigned |= level.assigned
        self.used |= level.used
        return out, level

    def _call(self, which: int) -> object:
        return self._calls.setdefault(which, object())

    def read(self, names: Sequence[str]) -> dict[str, Any]:
        """The current values of variables, as the level around sees them."""
        return {name: _current(self.running, name) for name in names}

    def resolve(self, run: Callable[[Sequence[str]], tuple[R, Mapping[str, Any]]]) -> R:
        """Runs a transform that has to know beforehand which variables its functions assign.

        Args:
          run: Given those names, returns the result and their new values.
        """
        if self._may_assign:
            self.plan(lambda: (run(()), None)[1])
        names = tuple(self.assigned)
        out, state = run(() if self.planning else names)
        return self.finish(out, state)

    @property
    def _may_assign(self) -> bool:
        values = self.running.values
        return values.has_state and not values.initializing and not self.planning

    def plan(self, run: Callable[[], Any]) -> Any:
        """Finds out what functions use and assign, and the shapes of the result of ``run``."""
        self.planning = True
        try:
            return jax.eval_shape(run)
        finally:
            self.planning = self.parent.planning

    def finish(self, out: R, state: Mapping[str, Any]) -> R:
        """Writes what was assigned inside to the level around."""
        for name in self.assigned:
            if name in state:
                self.running.write(name, state[name])
            elif self.planning:
                self.parent.assigned[name] = None
            else:
                raise TransformError.unplanned(name)
        return out


def pair(what: str, out: Any, wanted: str) -> tuple[Any, Any]:
    """What a function returned, which has to be a pair: an array of two rows is none."""
    if not isinstance(out, tuple | list) or len(out) != 2:
        raise ArgumentError.make(what, out, f"a pair {wanted}")
    return out[0], out[1]


def assigned_values(level: Level) -> dict[str, Any]:
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

    state: dict[str, Any]
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
    def pure(carry: Carry, /, *args: Any, **kwargs: Any) -> tuple[R, Carry]:
        lift = weak()
        if lift is None or lift.running is not _pass.peek():
            raise TransformError.other_pass()
        if not isinstance(carry, Carry):
            raise StateError.not_a_carry(carry)
        _pass.current("functionalize")
        key, outer = None, lift.parent.key
        if carry.key is not None and outer is not None:
            key = jax.random.wrap_key_data(carry.key, impl=jax.random.key_impl(outer))
        out, level = lift.call(fn, args, kwargs, values=carry.state, key=key)
        state = {name: level.values[name] for name in carry.state}
        if key is not None and level.counts != lift.counts:
            carry = carry._replace(key=jax.random.key_data(jax.random.fold_in(key, _NEXT)))
        return out, carry._replace(state=state)

    del pure.__wrapped__  # its signature is not that of fn
    names = () if lift.planning else running.values.state_names()
    state = lift.read([name for name in names if running.is_visible(name)])
    state = {name: jax.lax.convert_element_type(x, x.dtype) for name, x in state.items()}
    key = lift.parent.key
    return pure, Carry(state, None if key is None else jax.random.key_data(key))


_NEXT = 0x6E657874
"""Folded into a carry's key after each application that draws; the text "next"."""


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
        raise StateError.not_a_carry(carry)
    check_put(running)
    for name in {name: None for lift in running.lifts for name in lift.assigned}:
        check_assign(running, name)
        if running.values.initializing or running.level.planning:
            running.write(name, None)
            continue
        value, old = carry.state[name], _current(running, name)
        if isinstance(value, _jaxapi.Tracer) and not _jaxapi.is_live(value):
            raise TransformError.leaked_carry(name, running.here())
        for what in ("shape", "dtype"):
            if getattr(value, what) != getattr(old, what):
                raise AssignmentError.of(
                    name,
                    what,
                    asked=getattr(value, what),
                    found=getattr(old, what),
                    aval=(old.shape, old.dtype),
                    first=(),
                    again=running.here(),
                )
        running.write(name, value)

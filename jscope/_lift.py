"""What all lifted transforms are made of.

A *lift* runs functions of the user on levels of their own, inside a transform. State comes in with
their values, and out with what they return; keys are derived from the same key as outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from jscope import _pass
from jscope._arguments import bad_argument
from jscope._bars import bars_assign, bars_draw, outlets
from jscope._calls import Alike
from jscope._keys import Fold, Keys
from jscope._level import Axis, Bar, Bars, Level, Outlet, Seer
from jscope._params import PyTree
from jscope._pass import Pass, unplanned
from jscope._spec import Args, Kwargs

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Lift:
    """One call of a lifted transform; ``closed`` is its name if it lets out nothing recorded."""

    def __init__(self, running: Pass, closed: str | None = None) -> None:
        self.running = running
        self.parent = running.level
        crossing = running.calls.crossing(self.parent)
        self._place = running.calls.observe(self.parent)[1]
        self._calls: dict[int, object] = {}
        self._bars = Bars(
            draw=bars_draw(self.parent, crossing), assign=bars_assign(self.parent, crossing)
        )
        self._seers = outlets(self.parent, crossing, closed=closed)
        self._recorded: tuple[tuple[Seer, str], ...] = ()
        self.parent.keys.enter_branches(crossing.branches)
        self.counts: dict[str, int] | None = None
        self.planning = self.parent.planning
        self._plan = self.parent.next_plan()
        self.assigned: dict[str, None] = {}
        self.used: dict[str, None] = {}

    @property
    def has_rng(self) -> bool:
        return self.parent.keys.key is not None

    def numbers(self, count: int) -> jax.Array | None:
        """The numbers of the iterations, [count], where somebody asks for them."""
        return jnp.arange(count) if self.has_rng or self._seers else None

    def call(
        self,
        fn: Callable[..., R],
        args: Args,
        kwargs: Kwargs | None = None,
        *,
        values: Mapping[str, jax.Array] | None = None,
        fold: Fold | None = None,
        key: jax.Array | None = None,
        folds: tuple[Fold, ...] | None = None,
        axis: int | None = None,
        sizes: tuple[int, ...] = (),
        takes: bool = False,
        bar: Bar | None = None,
        outside: Bar | None = None,
        seer: Seer | None = None,
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
          values: Values that are the level's own; only these can be assigned, and none that it
            takes. None if what is assigned is returned from the transform, whatever it is.
          fold: Gives the number of this iteration, to be folded into keys.
          key: The key, if not that of the level around.
          folds: The numbers of the iterations around, if not those of the level around.
          axis: How many iterations there are, if values recorded in ``fn`` get an axis for them.
          sizes: The axis that variables made in ``fn`` get.
          takes: Whether ``fn`` has all values from outside as arguments, the ``values``.
          bar: Why nothing can be assigned.
          outside: Why variables that were made outside cannot be assigned.
          seer: Who looks at the values that ``fn`` records, beside those who look from outside.
          collects: Whether what is added to collections is returned from the transform.
          which: Number of the function, where the transform has several: runs of one are one call.
          alike: Number of the first function that is equal to it.
        """
        around, run = self.parent.keys, object()
        if self.counts is None:
            self.counts = dict(around.counts)
        folds = around.folds if folds is None else folds
        bars = self._bars._replace(
            assign=bar or self._bars.assign,
            outside=outside,
            collect=self.parent.bars.collect or not collects,
        )
        seers = self._seers
        if axis is not None and fold is not None:
            axes = (Axis(axis, fold),)
            seers = {who: way._replace(axes=way.axes + axes) for who, way in seers.items()}
        level = Level(
            self.parent,
            Keys(
                around.key if key is None else key,
                (fold, *folds) if fold else folds,
                self.counts,
                around.given if key is None else None,
            ),
            values=values,
            carried=None if values is None else () if takes else tuple(values),
            bars=bars,
            sizes=self.parent.sizes + sizes,
            takes=takes,
            planning=self.planning,
            plans=None if self.planning else self._plan.inner.get(which),
            place=(*self._place, (self._call(which), run), (Alike(self._call(-1), alike), run)),
            seers=seers if seer is None else {seer: Outlet(), **seers},
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
        axis: int | None = None,
        sizes: tuple[int, ...] = (),
        bar: Bar | None = None,
        which: int = 0,
        alike: int = 0,
    ) -> Callable[..., tuple[R, dict[str, jax.Array], list[PyTree]]]:
        """``pure(state, number, *args) -> (out, state, recorded)``: ``fn`` as a function of state.

        Args:
          fn: The user's function.
          axis: As of ``call``, like all that follow.
          sizes: As of ``call``.
          bar: Why nothing can be assigned.
          which: Number of the function.
          alike: Number of the first function that is equal to it.
        """

        def pure(
            state: dict[str, jax.Array], number: jax.Array | None, *args: PyTree
        ) -> tuple[R, dict[str, jax.Array], list[PyTree]]:
            out, level = self.call(
                fn,
                args,
                values=state,
                fold=None if number is None else lambda: number,
                axis=axis,
                sizes=sizes,
                bar=bar,
                which=which,
                alike=alike,
            )
            return out, {name: level.values[name] for name in state}, self.recorded(level)

        return pure

    def recorded(self, level: Level) -> list[PyTree]:
        """What was recorded on a level of this transform, to be returned from it."""
        self._recorded = tuple(level.recorded)
        return list(level.recorded.values())

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
        return {name: self.running.value(name) for name in names}

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

    def inline(
        self, fn: Callable[..., R], args: Args, kwargs: Kwargs, seer: Seer | None = None
    ) -> tuple[R, dict[tuple[Seer, str], PyTree]]:
        """What ``fn`` returns on a level of its own, without a transform, and what it records."""
        out, level = self.call(fn, args, kwargs, collects=True, seer=seer)
        self.parent.collected.extend(level.collected)
        return self.finish(out, assigned_values(level)), level.recorded

    def finish(self, out: R, state: Mapping[str, jax.Array], recorded: Sequence[PyTree] = ()) -> R:
        """Brings what was assigned and recorded inside to the level around."""
        if recorded:
            self.parent.recorded.update(zip(self._recorded, recorded, strict=True))
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


def divide(lift: Lift) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Current values of what the layers have parts of, and of what else they assign."""
    if lift.planning:
        return {}, {}
    return lift.read(list(lift.used)), lift.read([x for x in lift.assigned if x not in lift.used])

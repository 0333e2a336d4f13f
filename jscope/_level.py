"""Levels: parts of a pass that have state and random keys of their own.

The function of a pass runs on its outermost level. A function that jscope runs inside a transform
(``jscope.scan``, ``layer_stack``, ``functionalize``, ...) runs on a level of its own, whose values
and keys come in and go out through the transform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax

from jscope import _jaxapi
from jscope._calls import Place
from jscope._jaxapi import TraceRef, Transform
from jscope._keys import Fold, Keys
from jscope._params import PyTree


class Bar(NamedTuple):
    """A place in a transform of jscope's that values assigned in it cannot leave."""

    name: str
    reason: str
    fix: str


class Bars(NamedTuple):
    """What cannot be done on a level, and why not."""

    draw: Transform | None = None
    """The raw transform around it that would repeat its keys."""
    assign: Transform | Bar | None = None
    """What keeps values that are assigned in it from getting out."""
    outside: Bar | None = None
    """The same, of variables that were made outside: of one of several instances, each of which
    has variables of its own."""
    collect: bool = False
    """Whether what is added to collections cannot get out."""


class Axis(NamedTuple):
    """A loop or a ``vmap`` of jscope's: what its iterations record has an axis for them."""

    size: int
    number: Fold
    """Gives the number of this one."""


class Outlet(NamedTuple):
    """How what is recorded on a level gets to somebody who looks at it."""

    bar: Bar | None = None
    """What keeps it from getting there."""
    axes: tuple[Axis, ...] = ()
    """Those that it gets on the way, outermost first."""


class Seer(Protocol):
    """Who looks at recorded values: a call of ``capture`` or of ``plant``; hashable."""

    @property
    def planted(self) -> Mapping[str, PyTree]:
        """What takes the place of a value."""
        ...

    def name(self, full: str, place: Place, shapes: PyTree, /) -> str:
        """The numbered name of what is recorded at a place."""
        ...

    def is_meant(self, name: str, shapes: PyTree, /) -> object:
        """Whether it is asked for."""
        ...


class Plan:
    """What a function used and assigned when it was run without values.

    Attributes:
      used: The variables of which it had one layer, or that it took.
      assigned: Names, in order.
      inner: For each function of the transform the plans of the transforms in it, in order.
      made: Whether it is whole.
    """

    __slots__ = ("assigned", "inner", "made", "used")

    def __init__(self) -> None:
        self.used: dict[str, None] = {}
        self.assigned: dict[str, None] = {}
        self.inner: dict[int, list[Plan]] = {}
        self.made = False


class Level:
    """State and keys as one function of the pass sees them.

    Attributes:
      keys: What is drawn from.
      values: Values that are this level's own, by full name: assigned here, carried into it by a
        loop, or this layer's part of a stacked variable.
      carried: Names of the variables that may be assigned; None for those of the level around.
      assigned: Names that were assigned here, in order.
      collected: Key, scope and value of what was added to collections here.
      seers: Who looks at values that are recorded here, innermost first, and how they get there.
      recorded: Those values, by who looks at them and their names.
      bars: What cannot be done here.
      sizes: Leading axes of the variables that are made here, outermost first.
      takes: Whether values from outside are arguments of its function, for which no value can come
        in by closure.
      is_closed: Whether this level or one around it takes values so.
      planning: Whether this run only finds out what is used and assigned: nothing is computed.
      used: While planning, the variables of which this level has one layer, or that it takes.
      parts: Placeholders for them, by full name.
      place: The calls around it.
      trace: The trace that it runs in.
      mesh: The mesh that is set there.
    """

    __slots__ = (
        "_next",
        "assigned",
        "bars",
        "carried",
        "collected",
        "is_closed",
        "keys",
        "mesh",
        "parent",
        "parts",
        "place",
        "planning",
        "plans",
        "recorded",
        "seers",
        "sizes",
        "takes",
        "trace",
        "used",
        "values",
    )

    def __init__(
        self,
        parent: Level | None,
        keys: Keys,
        *,
        values: Mapping[str, jax.Array] | None = None,
        carried: tuple[str, ...] | None = None,
        bars: Bars = Bars(),  # noqa: B008 - it is immutable
        sizes: tuple[int, ...] = (),
        takes: bool = False,
        planning: bool = False,
        plans: list[Plan] | None = None,
        place: Place = (),
        seers: Mapping[Seer, Outlet] | None = None,
    ) -> None:
        self.parent = parent
        self.keys = keys
        self.values = dict(values or {})
        self.carried = carried
        self.assigned: dict[str, None] = {}
        self.collected: list[tuple[str, str, PyTree]] = []
        self.seers = dict(seers or {})
        self.recorded: dict[tuple[Seer, str], PyTree] = {}
        self.bars = bars
        self.sizes = sizes
        self.takes = takes
        self.is_closed: bool = takes or (parent is not None and parent.is_closed)
        self.planning = planning
        self.plans = [] if plans is None else plans  # of the transforms in it, in order
        self._next = 0
        self.used: dict[str, None] = {}
        self.parts: dict[str, jax.Array] = {}
        self.place = place
        self.trace: TraceRef = None
        self.mesh: Any = None

    def enter(self) -> None:
        """Notes where the level runs."""
        self.trace = _jaxapi.current_ref()
        self.mesh = jax.sharding.get_abstract_mesh()

    def next_plan(self) -> Plan:
        """The plan of the next transform in it: as recorded while planning, or a new one."""
        number, self._next = self._next, self._next + 1
        if number < len(self.plans):
            return self.plans[number]
        plan = Plan()
        if self.planning:
            self.plans.append(plan)
        return plan

    def part(self, name: str, whole: jax.Array) -> jax.Array:
        """While planning, this layer's or instance's part of a variable [n, ...], or all of one."""
        part = self.parts.get(name)
        if part is None:
            if self.takes:
                layout = jax.typeof(whole).sharding.spec
                part = _jaxapi.placeholder(
                    self.trace(), self.mesh, whole.shape, whole.dtype, layout
                )
            elif self.bars.outside is not None:
                part = _jaxapi.instance(self.trace(), whole)
            else:
                part = _jaxapi.layer(self.trace(), self.mesh, whole)
            self.parts[name] = part
        return part

    @property
    def is_layer(self) -> bool:
        """Whether variables made here are stacked along an axis of this level."""
        return len(self.sizes) > (len(self.parent.sizes) if self.parent else 0)

    @property
    def outermost(self) -> Level:
        """The level of the function of the pass."""
        return self.parent.outermost if self.parent else self

    @property
    def depth(self) -> int:
        """How many levels are around this one."""
        return self.parent.depth + 1 if self.parent else 0

    def all_collected(self) -> list[tuple[str, str, PyTree]]:
        """What was added to collections here and before on the levels around."""
        around = self.parent.all_collected() if self.parent else []
        return around + self.collected

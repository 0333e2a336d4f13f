"""Levels: parts of a pass that have state and random keys of their own.

The function of a pass runs on its outermost level. A function that jscope runs inside a transform
(``jscope.scan``, ``layer_stack``, ``functionalize``, ...) runs on a level of its own, whose values
and keys come in and go out through the transform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jscope import _jaxapi, _path
from jscope._calls import Place
from jscope._jaxapi import Transform

Fold = Callable[[], Any]
"""Gives the number of this iteration, layer or instance."""


class Level:
    """State and keys as one function of the pass sees them.

    Attributes:
      key: What draws are derived from; None where there is no randomness.
      folds: Numbers of this iteration and those around it, innermost first, for keys.
      counts: How many keys were drawn in each scope.
      values: Values that are this level's own, by full name: assigned here, carried into it by a
        loop, or this layer's part of a stacked variable.
      collected: Key, scope and value of what was added to collections here.
      collects: Whether such values can get out.
      assigned: Names that were assigned here, in order.
      sizes: Leading axes of the variables that are made here, outermost first.
      splits: Whether this is one of several instances, each with variables of its own.
      planning: Whether this run only finds out what is read and assigned: nothing is computed.
      used: While planning, the stacked variables of which this level has one layer.
      parts: Placeholders for that layer, by full name.
      bars_draw: The raw transform around this level that would repeat its keys, if any.
      bars_assign: What around this level keeps assigned values from getting out, if anything.
      trace: The trace that it runs in.
      place: The calls around it.
      mesh: The mesh that is set there.
    """

    __slots__ = (
        "_forks",
        "assigned",
        "bars_assign",
        "bars_draw",
        "collected",
        "collects",
        "counts",
        "folds",
        "key",
        "mesh",
        "parent",
        "parts",
        "place",
        "planning",
        "sizes",
        "splits",
        "trace",
        "used",
        "values",
    )

    def __init__(
        self,
        parent: Level | None,
        *,
        key: jax.Array | None,
        fold: Fold | None = None,
        counts: Mapping[str, int] | None = None,
        values: Mapping[str, Any] | None = None,
        sizes: tuple[int, ...] = (),
        splits: bool = False,
        collects: bool = True,
        planning: bool = False,
        bars_draw: Transform | None = None,
        bars_assign: Transform | None = None,
        place: Place = (),
    ) -> None:
        self.parent = parent
        self.key = key
        outer = parent.folds if parent else ()
        self.folds: tuple[Fold, ...] = (fold, *outer) if fold else outer
        self.counts = dict(counts or {})
        self._forks: list[_Fork] = []
        self.values = dict(values or {})
        self.assigned: dict[str, None] = {}
        self.sizes = sizes
        self.splits = splits
        self.collected: list[tuple[str, str, Any]] = []
        self.collects = collects
        self.planning = planning
        self.used: dict[str, None] = {}
        self.parts: dict[str, Any] = {}
        self.bars_draw = bars_draw
        self.bars_assign = bars_assign
        self.place = place
        self.trace: Any = None
        self.mesh: Any = None

    def enter(self) -> None:
        """Notes where the level runs."""
        self.trace = _jaxapi.current_ref()
        self.mesh = jax.sharding.get_abstract_mesh()

    def part(self, name: str, whole: Any) -> Any:
        """While planning, this layer's or instance's part of a variable [n, ...]."""
        part = self.parts.get(name)
        if part is None:
            if self.splits:
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
    def depth(self) -> int:
        """How many levels are around this one."""
        return self.parent.depth + 1 if self.parent else 0

    def all_collected(self) -> list[tuple[str, str, Any]]:
        """What was added to collections here and before on the levels around."""
        around = self.parent.all_collected() if self.parent else []
        return around + self.collected

    def raise_counts(self, counts: Mapping[str, int]) -> None:
        """Notes draws made on a level inside this one."""
        for scope, count in counts.items():
            self.counts[scope] = max(count, self.counts.get(scope, 0))

    def draw(self, scope: str) -> jax.Array:
        """The next key of a scope; the caller has made sure that there is one."""
        number = self.counts.get(scope, 0)
        self.counts[scope] = number + 1
        words = _path.draw_words(scope, number)
        assert self.key is not None
        key = jax.random.fold_in(jax.random.fold_in(self.key, words[0]), words[1])
        for fold in self.folds:  # the innermost iteration first
            key = jax.random.fold_in(key, fold())
        return key

    def enter_branches(self, branches: tuple[tuple[Any, Any], ...]) -> None:
        """To be called before draws, with the raw ``cond`` and ``switch`` calls around them.

        Only one branch runs. So each starts from the counts at the ``cond``, as in the program
        without it, and what follows the ``cond`` continues after the branch that drew most.
        """
        depth = 0
        while depth < min(len(branches), len(self._forks)):
            fork, (call, branch) = self._forks[depth], branches[depth]
            if fork.call != call:
                break
            depth += 1
            if fork.branch != branch:
                self._leave(depth)
                fork.raise_most(self.counts)
                fork.branch = branch
                self.counts = dict(fork.start)
        self._leave(depth)
        for call, branch in branches[depth:]:
            self._forks.append(_Fork(call, branch, dict(self.counts)))

    def _leave(self, depth: int) -> None:
        while len(self._forks) > depth:
            self.raise_counts(self._forks.pop().most)


class _Fork:
    """A raw ``cond`` or ``switch`` whose branches are being traced."""

    __slots__ = ("branch", "call", "most", "start")

    def __init__(self, call: Any, branch: Any, start: dict[str, int]) -> None:
        self.call = call
        self.branch = branch
        self.start = start
        self.most: dict[str, int] = {}

    def raise_most(self, counts: Mapping[str, int]) -> None:
        for scope, count in counts.items():
            self.most[scope] = max(count, self.most.get(scope, 0))

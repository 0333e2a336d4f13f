"""One run of a network without values, and what is seen of it: scopes, requests, results.

The run is that of ``specs``, traced to a jaxpr. It is watched as functions of ``jscope.jit`` are
while they are planned, so nothing is added to what a pass does; and each opening of a scope gets a
mark of its own among the names that JAX keeps with every operation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from jscope import _jaxapi
from jscope._cache_key import TraceGuard
from jscope._calls import Place, RawSites, is_rerun, sites
from jscope._layout import Sizes, sizes_of
from jscope._level import Outlet
from jscope._names import is_in
from jscope._params import PyTree
from jscope._pass import Pass
from jscope._recorder import Recorder
from jscope._spec import Args, Kwargs, Specs
from jscope._transform import observe
from jscope.errors import Site

_MARK = "jscope_opening_"
_MARKED = re.compile(_MARK + r"(\d+)")


class Opening(NamedTuple):
    """One opening of a scope; the first of a run is that of the root.

    Attributes:
      scope: Full name.
      around: The numbers of the openings around it, outermost first, and its own.
    """

    scope: str
    around: tuple[int, ...]


class Share(NamedTuple):
    """A variable was asked for again.

    Attributes:
      scope: The scope that it was asked from: the innermost open one that the variable is not in;
        its own scope if there is none.
      sites: Where, innermost user frame first.
    """

    scope: str
    sites: tuple[Site, ...]


class Run:
    """What one run of a network tells.

    Attributes:
      title: The name of the function.
      specs: Its variables.
      jaxpr: What it computes.
      sizes: The axes of the mesh that is set, or None.
      openings: Of scopes, by number.
      entries: Names in the order of their creation, and whether each is a scope's.
      shares: Full name -> who asks for the variable again.
      outputs: Full name of a scope -> the shapes that it recorded as ``output``.
    """

    title: str
    specs: Specs
    jaxpr: _jaxapi.Jaxpr
    sizes: Sizes | None

    def __init__(self, net: PyTree, args: Args, kwargs: Kwargs) -> None:
        self.openings = [Opening("", (0,))]
        self.entries: dict[tuple[str, bool], None] = {}
        self.shares: dict[str, list[Share]] = {}
        self.outputs: dict[str, tuple[jax.ShapeDtypeStruct, ...]] = {}
        self.title, self.specs, self.jaxpr = observe(net, self._watch, args, kwargs)

    def _watch(self, running: Pass) -> None:
        running.recorder = _Watcher(self, running)
        # Somebody who looks at recorded values, and wants none: functions run under each scope.
        running.level.seers = {_Shapes(self.outputs): Outlet()}
        running.guard = running.calls.guard = TraceGuard(looked_at=True)
        self.sizes = sizes_of(jax.sharding.get_abstract_mesh())


def opening_of(names: str) -> int | None:
    """The number of the innermost opening among the names of an operation, if there is one."""
    found = _MARKED.findall(names)
    return int(found[-1]) if found else None


class _Watcher(Recorder):
    """Notes what one pass opens and asks for."""

    def __init__(self, run: Run, running: Pass) -> None:
        self.outer = None
        self._run = run
        self._running = running
        self._around = [0]
        self._marks: list[Any] = []
        self._places: dict[str, list[Place]] = {}

    def opened(self, scope: object, full: str, *_: object) -> None:
        openings, number = self._run.openings, len(self._run.openings)
        openings.append(Opening(full, (*openings[self._around[-1]].around, number)))
        if full:
            self._run.entries[full, True] = None
        self._around.append(number)
        self._marks.append(jax.named_scope(f"{_MARK}{number}"))
        self._marks[-1].__enter__()

    def closed(self) -> None:
        self._around.pop()
        self._marks.pop().__exit__(None, None, None)

    def requested(
        self,
        prefix: str,
        asked: object,
        record: object,
        raw: RawSites,
        *,
        names: Collection[str],
        **_: object,
    ) -> None:
        records = self._running.records
        for made in itertools.islice(records, len(self._places), None):  # by a getter, several
            self._run.entries[made, False] = None
            self._places[made] = []
        place = self._running.calls.observe(self._running.level)[1]
        for name in sorted(names):
            if name in records:
                self._found(name, place, raw)

    def _found(self, name: str, place: Place, raw: RawSites) -> None:
        """Notes where a variable is asked for, the first time or again."""
        places = self._places[name]
        if not any(is_rerun(other, place) for other in places if other):
            if places:
                self._run.shares.setdefault(name, []).append(Share(self._asker(name), sites(raw)))
            places.append(place)

    def _asker(self, name: str) -> str:
        scopes = [self._run.openings[number].scope for number in reversed(self._around[1:])]
        outside = (scope for scope in scopes if not is_in(name, scope))
        return next(outside, name.rpartition("/")[0])

    def refuse(self, reason: str) -> None: ...

    def looked(self, prefix: str, full: str) -> None: ...

    def drew(self, prefix: str, number: int) -> None: ...


class _Shapes:
    """Notes the shapes of what scopes record as their output, and asks for no value."""

    planted: Mapping[str, PyTree] = MappingProxyType({})

    def __init__(self, outputs: dict[str, tuple[jax.ShapeDtypeStruct, ...]]) -> None:
        self._outputs = outputs

    def name(self, full: str, place: Place, shapes: PyTree, /) -> str:
        scope, _, last = full.rpartition("/")
        if last == "output" and scope:  # of the root is told what the function returns
            arrays = [x for x in jax.tree.leaves(shapes) if isinstance(x, jax.ShapeDtypeStruct)]
            self._outputs.setdefault(
                scope, tuple([jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays])
            )
        return full

    def is_meant(self, name: str, shapes: PyTree, /) -> bool:
        return False

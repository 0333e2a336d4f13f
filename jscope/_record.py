"""What a pass knows of one variable, from its first request on."""

from __future__ import annotations

from typing import NamedTuple

import jax

from jscope import _jaxapi
from jscope._calls import Place, RawSites, sites
from jscope._program import Program, Start
from jscope._report import Shaped
from jscope._spec import Constraint, InitializerLike, Partitioner, Regularizer, Shape, VariableSpec
from jscope.errors import Site


class Facts(NamedTuple):
    """What a spec says of a variable, beside its name, type and initializer."""

    trainable: bool = True
    collections: tuple[str, ...] = ()
    regularizer: Regularizer | None = None
    constraint: Constraint | None = None
    partition: Partitioner = None
    partitioner: Partitioner = None


class Record:
    """One variable of the pass, from its first request on.

    ``sizes`` are the leading axes of ``aval`` that the levels around the request added; ``start``
    is what its initial value is made from: a ``Program``, or a constant.
    """

    __slots__ = (
        "aval",
        "facts",
        "initializer",
        "name",
        "place",
        "raw_sites",
        "sizes",
        "start",
        "value",
    )

    def __init__(
        self,
        name: str,
        aval: Shaped,
        sizes: Shape,
        value: jax.Array | None,
        raw_sites: RawSites,
        place: Place,
        facts: Facts,
        initializer: InitializerLike,
        start: Start,
    ) -> None:
        self.name = name
        self.aval = aval
        self.sizes = sizes
        self.value = value
        self.raw_sites = raw_sites
        self.place = place
        self.facts = facts
        self.initializer = initializer
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
        return VariableSpec(
            self.name,
            self.aval.shape,
            self.aval.dtype,
            initializer=None if self.is_computed else self.initializer,
            **self.facts._asdict(),
            sites=self.sites,
            stack=self.sizes,
        )


class Records(dict[str, Record]):
    """The variables of a pass by full name, in the order of their first requests.

    Attributes:
      scopes: Full name of each scope that variables are in -> the first of them.
      renamed: What a custom getter asked for in place of a name.
      last: The name that a custom getter asked for last.
    """

    __slots__ = ("last", "renamed", "scopes")

    def __init__(self) -> None:
        self.scopes: dict[str, Record | None] = {"": None}
        self.renamed: dict[str, str] = {}
        self.last = ""

    def add(self, record: Record) -> None:
        self[record.name] = record
        scope = record.name.rpartition("/")[0]
        while scope not in self.scopes:
            self.scopes[scope] = record
            scope = scope.rpartition("/")[0]

    def forget(self, count: int) -> None:
        """Drops all but the first ``count``."""
        for name in list(self)[count:]:
            dropped = self.pop(name)
            for scope in [s for s, record in self.scopes.items() if record is dropped]:
                del self.scopes[scope]

    def above(self, name: str) -> Record | None:
        """The variable whose name is a scope of ``name``, if any."""
        scope = name.rpartition("/")[0]
        while scope not in self.scopes:
            found = self.get(scope)
            if found is not None:
                return found
            scope = scope.rpartition("/")[0]
        return None

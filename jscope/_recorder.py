"""What one run of a function asks of jscope, recorded to be asked again under other scopes.

Names are those that the function gives at the root of a pass of its own. Where the function may do
something else under another scope, because it looks at the scope's name or at its defaults, the
recorder says why: then it has to be run under each.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from jscope._arguments import as_bool
from jscope._calls import Place, RawSites
from jscope._jaxapi import Tracer
from jscope._names import join
from jscope._numbering import Numbering
from jscope._record import Record


class Opened(NamedTuple):
    """A scope was opened."""

    scope: str
    """Its name."""
    name: str | None
    """As it was given; None if ``default_name`` was numbered."""
    default_name: str | None
    again: int | None
    """The number of the event that opened a scope object which was opened again; -1: of the scope
    that the function was called in."""
    reuse: Any
    options: dict[str, Any]


class Closed(NamedTuple):
    """The scope opened last was closed."""


class Requested(NamedTuple):
    """A variable was asked for, for the first time."""

    name: str
    local: str
    """As it was given in the open scope."""
    asked: Any
    inherits: bool
    """Whether its mode of reuse is that of the open scope."""
    sites: RawSites
    trainable: bool
    got: bool
    """Whether a custom getter of a scope around answered."""


class Looked(NamedTuple):
    """State was assigned that was not asked for."""

    name: str
    local: str


class Drew(NamedTuple):
    """A key was drawn: in this scope, the ``number``-th since the function was called."""

    scope: str
    number: int


class Recorder:
    """Records one run of a function.

    Attributes:
      events: What it did, in order.
      refused: Why it has to be run under each scope, if it has.
      scopes: Full name of each scope -> its name in the function.
      names: The same, of variables.
    """

    def __init__(
        self,
        outer: Recorder | None,
        base: object,
        prefix: str,
        sizes: tuple[int, ...],
        counts: Mapping[str, int],
        depth: int,
    ) -> None:
        self.outer = outer
        self.events: list[Any] = []
        self.refused: str | None = None
        self.scopes: dict[str, str] = {prefix: ""}
        self.names: dict[str, str] = {}
        self._base = base
        self._sizes = sizes
        self._counts = dict(counts)
        self._depth = depth  # how many parts of raw sites are of frames around the call
        self._numbering = Numbering()
        self._open = [""]
        self._made: dict[int, tuple[object, str, int]] = {}
        self._inside: set[str] = set()
        self._drawn: set[Drew] = set()

    def refuse(self, reason: str) -> None:
        """Notes that the function has to be run under each scope."""
        self.refused = self.refused or reason
        if self.outer is not None:
            self.outer.refuse(reason)

    def opened(
        self,
        scope: object,
        full: str,
        asked: Any,
        default_name: str | None,
        reuse: Any,
        options: dict[str, Any],
        place: Place,
    ) -> None:
        """A scope of the full name was opened: ``asked``, or numbered from ``default_name``."""
        if self.outer is not None:
            self.outer.opened(scope, full, asked, default_name, reuse, options, place)
        again: int | None = None
        if "custom_getter" in options:
            self.refuse("it opens a scope with a custom getter")
        elif any(map(holds_tracer, options.values())):
            self.refuse(f"a default of the scope {full} holds a traced value")
        if isinstance(asked, str):
            inside = join(self._open[-1], asked)
            if not asked:
                self.refuse("it opens the root scope")
        elif asked is None:
            assert default_name is not None
            known = len(self._numbering.numbered)
            name = self._numbering.unique(self._open[-1], default_name, place)
            inside = join(self._open[-1], name)
            if len(self._numbering.numbered) == known:  # JAX ran the code again
                asked = inside.rpartition("/")[2]
        elif asked is self._base:
            again, asked, inside = -1, None, ""
        elif id(asked) in self._made:
            (_, inside, again), asked = self._made[id(asked)], None
        else:
            self.refuse("it opens a scope object from outside")
            inside = full
        node = self._numbering.node(inside)
        node.count_opening(place)
        node.open += 1
        self._open.append(inside)
        self._made[id(scope)] = scope, inside, len(self.events)
        if self.scopes.setdefault(full, inside) != inside:
            self.refuse("one of its scopes has two names")
        self.events.append(Opened(inside, asked, default_name, again, reuse, options))

    def closed(self) -> None:
        """The scope opened last was closed."""
        if self.outer is not None:
            self.outer.closed()
        node = self._numbering.node(self._open.pop())
        node.open -= 1
        node.close()
        self.events.append(Closed())

    def requested(
        self,
        prefix: str,
        asked: Any,
        record: Record | None,
        raw: RawSites,
        *,
        inherits: bool,
        getter: str,
        names: Collection[str],
    ) -> None:
        """A variable was asked for in the scope ``prefix``.

        Args:
          prefix: Full name of the scope.
          asked: The request.
          record: What is known of the variable, if no custom getter took its place.
          raw: Where it was asked for.
          inherits: Whether its mode of reuse is that of the scope.
          getter: "", "own" if the request gave a custom getter, or "scope" if a scope did.
          names: What that getter asked for, or the name of the request.
        """
        if self.outer is not None:
            self.outer.requested(
                prefix, asked, record, raw, inherits=inherits, getter=getter, names=names
            )
        if record is None:
            trainable = as_bool(asked.trainable) is not False
        else:
            trainable = record.facts.trainable
        functions = asked.regularizer, asked.constraint, asked.initializer
        if getter == "own":
            self.refuse("it gives a request a custom getter")
        elif any(map(holds_tracer, functions)):
            self.refuse(f"an option of {asked.name} holds a traced value")
        elif {*names} != {asked.name} and not trainable:
            self.refuse("a custom getter gives it other state than it asks for")
        elif record is not None and record.is_computed:
            self.refuse(f"the initial value of {record.name} is computed from traced values")
        elif record is not None and record.sizes != self._sizes:
            self.refuse(f"{record.name} is stacked inside it")
        local = asked.name[len(prefix) + 1 :] if prefix else asked.name
        if self._is_new(asked.name, local):
            name, here = self.names[asked.name], raw[: len(raw) - self._depth]
            got = bool(getter)
            self.events.append(Requested(name, local, asked, inherits, here, trainable, got))
        elif getter:
            self.refuse("it asks a custom getter twice for one variable")

    def looked(self, prefix: str, full: str) -> None:
        """A variable was assigned that was perhaps not asked for."""
        if self.outer is not None:
            self.outer.looked(prefix, full)
        local = full[len(prefix) + 1 :] if prefix else full
        if self._is_new(full, local):
            self.events.append(Looked(self.names[full], local))

    def _is_new(self, full: str, local: str) -> bool:
        name = join(self._open[-1], local)
        known = self.names.get(full)
        if known is None and name not in self._inside:
            self.names[full] = name
            self._inside.add(name)
            return True
        if known != name:
            self.refuse("one of its variables has two names")
        return False

    def drew(self, prefix: str, number: int) -> None:
        """The ``number``-th key of the scope ``prefix`` was drawn."""
        if self.outer is not None:
            self.outer.drew(prefix, number)
        drew = Drew(self._open[-1], number - self._counts.get(prefix, 0))
        if drew not in self._drawn:
            self._drawn.add(drew)
            self.events.append(drew)


def holds_tracer(thing: Any, depth: int = 3) -> bool:
    """Whether a value is traced, or a function that closes over one, as far as can be seen."""
    if isinstance(thing, Tracer):
        return True
    if depth == 0 or thing is None:
        return False
    held: list[Any] = []
    if isinstance(thing, functools.partial):
        held = [thing.func, *thing.args, *thing.keywords.values()]
    elif isinstance(thing, types.MethodType):
        held = [thing.__func__, *getattr(thing.__self__, "__dict__", {}).values()]
    elif isinstance(thing, types.FunctionType):
        held = [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
        for cell in thing.__closure__ or ():
            with contextlib.suppress(ValueError):  # it is empty
                held.append(cell.cell_contents)
    elif isinstance(thing, list | tuple):
        held = list(thing)
    elif isinstance(thing, dict):
        held = list(thing.values())
    elif callable(thing) and hasattr(thing, "__dict__"):
        held = list(vars(thing).values())
    return any(holds_tracer(part, depth - 1) for part in held)

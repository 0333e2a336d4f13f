"""Plans: how each variable of a target comes from the arrays of a source, before any is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jscope._report import Shaped, describe
from jscope._spec import DType
from jscope.io._assignment import assign
from jscope.io._cast import can_cast
from jscope.io._entries import Entry
from jscope.io._layers import Names, layers, places
from jscope.io._offers import Origin
from jscope.io._routes import Atom, MissingError, Route, Search
from jscope.io._source import Source, Type, is_key, type_of
from jscope.io._target import Number
from jscope.io._transforms import How, Split, hows_of, sorted_out


@dataclasses.dataclass(slots=True)
class Plan:
    """What is known before anything is read.

    Attributes:
      routes: Name of the target -> route.
      missing: Names that have none -> why, where there is more to say than that.
      mismatched: Names whose source is of another type -> what is wanted, and found.
      castable: Names that are mismatched only for the want of a cast.
      of_other_kinds: Names that no cast is for -> the dtype that is wanted.
      turned: Names whose source, or each layer of it, has the axes in reverse.
      unused: Names of the source that nothing is made of.
      transforms: Names that are missing -> the entry of transforms by which they would not be.
      hinted: Those of them that the reasons of what is missing are about.
      splits: Names of the source that several arrays are made of -> how.
    """

    routes: dict[str, Route] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    mismatched: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    castable: set[str] = dataclasses.field(default_factory=set)
    of_other_kinds: dict[str, DType] = dataclasses.field(default_factory=dict)
    turned: set[str] = dataclasses.field(default_factory=set)
    unused: tuple[str, ...] = ()
    transforms: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    hinted: set[str] = dataclasses.field(default_factory=set)
    splits: Mapping[str, Split] = dataclasses.field(default_factory=dict)

    @property
    def unexplained(self) -> tuple[str, ...]:
        """What is not used, and which no other line of a message is about."""
        return tuple(name for name in self.unused if name not in self.hinted)

    def refuse(self, name: str, leaf: Shaped, problem: str) -> None:
        """Notes that what a variable would be made of does not fit, and where it is from."""
        origin = str(self.routes[name])
        found = problem if origin == name else f"{problem} (from {origin})"
        self.mismatched[name] = describe(leaf), found


def make_plan(
    target: Mapping[str, Shaped],
    source: Source,
    entries: list[Entry] | None,
    transforms: Mapping[Any, Any],
    *,
    cast: bool,
) -> Plan:
    """Plans how all of a target comes from a source.

    Args:
      target: Full name -> array or shape.
      source: Where from.
      entries: Of an assignment map; None where names are equal on both sides.
      transforms: As the user gave them.
      cast: Whether dtypes may differ.
    """
    splits, patterns = sorted_out(transforms, entries or [])
    hows = hows_of(target, patterns)
    origins = _origins(target, source, entries, hows)
    plan = Plan(splits=splits)
    search = Search(origins, layers(origins), source.types, target, layers(target))
    for name, leaf in target.items():
        try:
            plan.routes[name] = route = search.route(name, leaf, hows.get(name, How()))
        except MissingError as missing:
            plan.missing[name] = missing.why
            if missing.transform:
                plan.transforms[name] = missing.transform
            for part in missing.found:
                plan.hinted.update(origins[part].sources if part in origins else [part])
            continue
        casts = may_cast(leaf, cast=cast)
        if problem := _static_problem(plan, route, type_of(leaf), source, cast=casts):
            plan.refuse(name, leaf, problem)
            _note_nearly(plan, name, route, type_of(leaf), source)
    used = {atom.source for route in plan.routes.values() for atom in route.atoms}
    plan.unused = tuple(name for name in source.types if name not in used)
    return plan


def _note_nearly(plan: Plan, name: str, route: Route, wanted: Type, source: Source) -> None:
    """Notes what would be right but for the dtype, or the order of axes."""
    if not _static_problem(plan, route, wanted, source, cast=True):
        plan.castable.add(name)
        return
    found = source.types[route.atoms[0].source].dtype
    alike = Type(wanted.shape, found)
    if not is_key(found) and not _static_problem(plan, route, alike, source, cast=False):
        plan.of_other_kinds[name] = wanted.dtype
    first = int(route.how.word == "stack")  # of the axes of one layer
    back = Type(wanted.shape[:first] + wanted.shape[first:][::-1], wanted.dtype)
    if not _static_problem(plan, route, back, source, cast=True):
        plan.turned.add(name)


def _origins(
    target: Mapping[str, Shaped],
    source: Source,
    entries: list[Entry] | None,
    hows: Mapping[str, How],
) -> dict[str, Origin]:
    if entries is None:
        return {name: Origin((name,)) for name in source.types}
    words = {name: hows[name].word if name in hows else None for name in target}
    stacks = {name: None for name, word in words.items() if word == "stack"}
    plain = {name: None for name, word in words.items() if word is None}
    for name, word in words.items():
        if word == "unstack":
            plain |= {place.rest: None for place in places(name)}
    return assign(entries, Names(source.types), Names(plain, stacks))


def may_cast(leaf: Any, *, cast: bool) -> bool:
    """Whether the dtype may differ; a number of Python has none that anyone chose."""
    return cast or isinstance(leaf, Number)


def is_split(atom: Atom, plan: Plan) -> bool:
    return atom.part is not None and atom.source in plan.splits


def _static_problem(
    plan: Plan, route: Route, wanted: Type, source: Source, *, cast: bool
) -> str | None:
    """What is wrong with the types of a route's arrays; None where only a function knows them."""
    if any(is_split(atom, plan) for atom in route.atoms):
        return None
    found = [source.types[atom.source] for atom in route.atoms]
    if (problem := layers_problem(route, wanted, found[0])) or route.how.function:
        return problem
    if route.how.word == "unstack":
        found = [Type(found[0].shape[1:], found[0].dtype)]
    return type_problem(route, wanted, found, cast=cast)


def layers_problem(route: Route, wanted: Type, found: Type) -> str | None:
    """What is wrong with the number of layers, of which ``found`` is one or which it holds."""
    if route.how.word == "stack" and wanted.shape[:1] != (len(route.atoms),):
        return f"{len(route.atoms)} layers of {found}"
    if route.how.word == "unstack" and found.shape[:1] != (route.count,):
        return f"layer {route.layer} of {found}, not of {route.count} in all"
    return None


def type_problem(route: Route, wanted: Type, found: list[Type], *, cast: bool) -> str | None:
    """What is wrong with what is there to be stacked, or with the one array."""
    word, function, by = route.how
    if word == "stack":
        wanted = Type(wanted.shape[1:], wanted.dtype)
    bad = next((each for each in found if not _fits(wanted, each, cast)), None)
    if bad is None:
        return None
    is_told = function or word == "unstack"
    return "layers of " * (word == "stack") + f"{bad}" + (f" by {by}" if is_told else "")


def _fits(wanted: Type, found: Type, cast: bool) -> bool:
    if found.shape != wanted.shape:
        return False
    return found.dtype == wanted.dtype or (cast and can_cast(found.dtype, wanted.dtype))

"""Routes: of which arrays of a source each variable of a target is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Container, Iterable, Mapping
from typing import NamedTuple

from jscope._names import is_in
from jscope._report import Shaped
from jscope.errors import ArgumentError, NameClashError
from jscope.io._layers import Layers, all_layers, fullest, places, stack_scope
from jscope.io._offers import Origin
from jscope.io._transforms import How

NO_STACK = "the source has it as it is, with no layers"


class Atom(NamedTuple):
    """An array before it is transformed: a tensor, or one of those that a function makes of it."""

    source: str
    part: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """How a variable is made.

    Attributes:
      atoms: The arrays that it is made of: layers to stack, one, or several for a function.
      how: What is done with them.
      layer: The number of the layer that is unstacked.
      count: How many layers of that kind the target has.
    """

    atoms: tuple[Atom, ...]
    how: How
    layer: int = 0
    count: int = 0

    def __str__(self) -> str:
        names = [atom.source for atom in self.atoms]
        if self.how.word == "unstack":
            return f"{names[0]}[{self.layer}]"
        return ", ".join(names) if len(names) < 3 else f"{names[0]}, ..., {names[-1]}"


class MissingError(Exception):
    """There is no route to a variable; it never leaves the plan.

    Args:
      why: What there is to say of it.
      found: Names, of layers that a route would have had, or of the source.
      transform: The entry of transforms by which there would be one.
    """

    def __init__(
        self,
        why: str = "",
        found: Iterable[str] = (),
        transform: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(why)
        self.why = why
        self.found = found
        self.transform = transform


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """Finds the arrays that variables are made of.

    Attributes:
      origins: Name of the target, or of a layer of its stacks -> where from.
      layers: As ``_layers.layers`` gives them, of the origins.
      sources: All names of the source.
      targets: All names of the target.
      wanted_layers: The layers of these.
    """

    origins: Mapping[str, Origin]
    layers: Layers
    sources: Container[str]
    targets: Collection[str]
    wanted_layers: Layers

    def route(self, name: str, leaf: Shaped, how: How) -> Route:
        if how.word == "stack":
            return Route(self._stacked(name, leaf), how)
        if how.word == "unstack":
            return self._unstacked(name, how)
        origin = self.origins.get(name)
        if origin is None:
            raise self._in_another_form(name, leaf)
        if how.function is None and len(origin.sources) > 1:
            raise _no_function(name, origin)
        return Route(_atoms(origin), how)

    def _in_another_form(self, name: str, leaf: Shaped) -> MissingError:
        found = fullest(self.layers.get(name, {}))
        if found and leaf.shape[:1] == (len(found[0]),):
            layer = next(iter(found[0].values()))
            place = next(place for place in places(layer) if place.rest == name)
            pattern = stack_scope(place)
            if any(is_in(other, pattern) and other in self.origins for other in self.targets):
                pattern = name  # others of the scope are there as they are
            return MissingError("its layers are there", found[0].values(), (pattern, "stack"))
        for place in places(name):
            if place.rest in self.origins and place.rest not in self.targets:
                pattern = all_layers(name, place.depth)
                why = f"{place.rest!r} is there"
                return MissingError(why, [place.rest], (pattern, "unstack"))
        return MissingError()

    def _stacked(self, name: str, leaf: Shaped) -> tuple[Atom, ...]:
        found = fullest(self.layers.get(name, {}))
        if not found and name in self.sources:
            raise MissingError(NO_STACK, [name])
        if not found:
            raise MissingError("no layers layer_0, layer_1, ... of it")
        if len(found) > 1:
            raise _two_routes(name, *(next(iter(kind.values())) for kind in found[:2]))
        size = leaf.shape[0] if leaf.shape else 0
        count = max(size, max(found[0]) + 1)
        lost = next((number for number in range(count) if number not in found[0]), None)
        if lost is not None:
            raise MissingError(f"layer_{lost} of {count} is not there", found[0].values())
        return tuple(self._one(found[0][number], "stack") for number in range(count))

    def _unstacked(self, name: str, how: How) -> Route:
        every = list(places(name))
        if not every:
            raise MissingError("its name has no layer_0, layer_1, ...")
        found = [place for place in every if place.rest in self.origins]
        if not found:
            raise MissingError(f"no {' or '.join(place.rest for place in every)} with all layers")
        if len(found) > 1:
            raise _two_routes(name, found[0].rest, found[1].rest)
        rest, depth, number = found[0]
        count = len(self.wanted_layers[rest][depth])
        return Route((self._one(rest, "unstack"),), how, number, count)

    def _one(self, name: str, word: str) -> Atom:
        atoms = _atoms(self.origins[name])
        if len(atoms) > 1:
            raise _several(name, self.origins[name], word)
        return atoms[0]


def _atoms(origin: Origin) -> tuple[Atom, ...]:
    return tuple(Atom(source, origin.part) for source in origin.sources)


def _no_function(name: str, origin: Origin) -> ArgumentError:
    return ArgumentError(
        f"{name} comes from {len(origin.sources)} sources, and no function makes one of them.",
        {"fix": f"give one of as many arguments, transforms={{{name!r}: f}}."},
        argument="transforms",
        value=", ".join(origin.sources),
    )


def _several(name: str, origin: Origin, word: str) -> ArgumentError:
    kind, other = ("each layer", "layers") if word == "stack" else ("all layers", "stack")
    return ArgumentError(
        f"{name} comes from {len(origin.sources)} sources, and {word!r} takes one for {kind}.",
        {
            "fix": f"restore the {other} with a function of several, without {word!r}; then call "
            f"jscope.tree.{word}_layers."
        },
        argument="transforms",
        value=", ".join(origin.sources),
    )


def _two_routes(name: str, first: str, again: str) -> NameClashError:
    return NameClashError(
        f"{name} can come from layers at two places.",
        {"first": first, "again": again, "fix": "rename one of them by the assignment_map."},
        name=name,
        other=again,
        sites=(),
    )

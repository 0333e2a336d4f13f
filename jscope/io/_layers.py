"""Names of layers, ``.../layer_3/...``, and of the stacks that hold all layers of a kind."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

# So few digits that any number is soon made: names come from files.
_LAYER = re.compile(r"layer_(0|[1-9][0-9]{0,8})")


def without_slots(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names apart: those that lie below none, and those below another, as an optimizer's slots."""
    known = dict.fromkeys(names)
    apart: tuple[list[str], list[str]] = [], []
    for name in known:
        scopes = itertools.accumulate(name.split("/")[:-1], "{}/{}".format)
        apart[any(scope in known for scope in scopes)].append(name)
    return apart


class Place(NamedTuple):
    """Where a name has a component ``layer_i``."""

    rest: str
    """The name without it."""
    depth: int
    """How many components are before it."""
    number: int


def places(name: str) -> Iterator[Place]:
    """Every component of a name that is one of a layer; there are several in layers of layers."""
    path = name.split("/")
    for depth, component in enumerate(path):
        if found := _LAYER.fullmatch(component):
            yield Place("/".join(path[:depth] + path[depth + 1 :]), depth, int(found[1]))


def all_layers(name: str, depth: int) -> str:
    """A pattern of what is in the layers that ``name`` is in one of."""
    return "/".join([*name.split("/")[:depth], "layer_*", ""])


def stack_scope(place: Place) -> str:
    """A pattern of the stacks whose layers are at a place; at the root, that of what is in them."""
    return "/".join(place.rest.split("/")[: max(place.depth, 1)])


Layers: TypeAlias = dict[str, dict[int, dict[int, str]]]
"""Name of a stack -> depth at which its layers are -> number -> name of the layer."""


def layers(names: Iterable[str]) -> Layers:
    """The stacks that names are layers of, or may be."""
    found: Layers = {}
    for name in names:
        for place in places(name):
            found.setdefault(place.rest, {}).setdefault(place.depth, {})[place.number] = name
    return found


def fullest(kinds: Mapping[int, Mapping[int, str]]) -> list[Mapping[int, str]]:
    """Of the depths at which a stack has layers, those with the most of them: one, if all is well.

    A few variables of another scope may look like layers of it.
    """
    most = max(map(len, kinds.values()), default=0)
    return [kind for kind in kinds.values() if len(kind) == most]


class Names:
    """The names of one side of an assignment map.

    Args:
      plain: Names that can be meant as they are.
      stacks: Names that are meant by those of their layers.
    """

    __slots__ = ("plain", "stacks")

    def __init__(self, plain: Collection[str], stacks: Collection[str] = ()) -> None:
        self.plain = plain
        self.stacks = stacks

    def __contains__(self, name: str) -> bool:
        return name in self.plain or any(place.rest in self.stacks for place in places(name))

    def __iter__(self) -> Iterator[str]:
        yield from self.plain
        yield from self.stacks

    def has_scope(self, scope: str) -> bool:
        """Whether a name begins with ``scope``, which ends with a slash or is empty."""
        below = [place.rest for place in places(scope)]
        return any(name.startswith(scope) for name in self) or any(
            name.startswith(rest) for name in self.stacks for rest in below
        )

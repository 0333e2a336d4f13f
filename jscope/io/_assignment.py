"""Assignment maps: which names of a source go to which names of a target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from jscope._arguments import bad_argument
from jscope.errors import ArgumentError, EmptySelectionError, NameClashError
from jscope.io._entries import Entry, entry_error, is_scope, shown
from jscope.io._layers import Names
from jscope.io._offers import Offer, Origin, offers_of

AssignmentMap: TypeAlias = Mapping[Any, Any] | Sequence[tuple[Any, Any]]

_TOLD = 10
"""How many entries that mean nothing are told; near names of each take their time."""


def entries_of(assignment_map: AssignmentMap) -> list[Entry]:
    """The pairs of a map, each of the right types."""
    if isinstance(assignment_map, Mapping):
        pairs = list(assignment_map.items())
    elif isinstance(assignment_map, Sequence) and not isinstance(assignment_map, str | bytes):
        pairs = list(assignment_map)
    else:
        raise _no_map(assignment_map)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise _no_map(pair)
        _check_types(*pair)
    return [(_frozen(old), _frozen(new)) for old, new in pairs]


def _frozen(side: Any) -> Any:
    return tuple(side) if isinstance(side, list) else side


def _no_map(value: object) -> ArgumentError:
    return bad_argument("assignment_map", value, "a mapping or a list of pairs, source to target")


def _check_types(old: Any, new: Any) -> None:
    if isinstance(old, re.Pattern):
        is_right = isinstance(old.pattern, str) and (isinstance(new, str) or callable(new))
    elif isinstance(old, str):
        is_right = _is_name(old) and (_is_name(new) or (_are_names(new) and not is_scope(old)))
    else:
        is_right = _are_names(old) and _is_name(new) and not is_scope(new)
    if not is_right:
        raise _bad_entry(old, new)


def _is_name(side: object) -> bool:
    """Whether it is a name or a scope."""
    return isinstance(side, str) and side != ""


def _are_names(side: object) -> bool:
    if not isinstance(side, tuple | list) or not side:
        return False
    return all(_is_name(name) and not is_scope(name) for name in side)


_FORMS = (
    "{'old/': 'new/'} for scopes ('/' is the root), {'a/w': 'b/w'} for names, {('a', 'b'): 'c'} or "
    "{'a': ('b', 'c')} for several names, {re.compile(...): '...'}."
)


def _bad_entry(old: Any, new: Any) -> ArgumentError:
    return entry_error(f"{shown((old, new))} is no entry of an assignment map.", old, new, _FORMS)


def assign(entries: Iterable[Entry], sources: Names, targets: Names) -> dict[str, Origin]:
    """Decides where each name of the target comes from.

    An entry by name wins over those of scopes and regular expressions, a scope that is deeper in
    the target over one above it, and all win over the root. Two others may not bring different
    sources to one name.

    Args:
      entries: As ``entries_of`` gives them.
      sources: All names there are.
      targets: All names that are wanted.

    Returns:
      Name of the target -> origin, for what an entry brings something to.
    """
    offers: dict[str, list[Offer]] = {}
    wrong: list[EmptySelectionError] = []
    for entry in entries:
        try:
            for name, offer in offers_of(entry, sources, targets):
                offers.setdefault(name, []).append(offer)
        except EmptySelectionError as error:
            wrong.append(error)
            if len(wrong) == _TOLD:
                break
    if wrong:
        raise wrong[0] if len(wrong) == 1 else _all_of(wrong)
    return {name: _best(name, rivals) for name, rivals in offers.items()}


def _all_of(wrong: Sequence[EmptySelectionError]) -> EmptySelectionError:
    """One error of several entries; its facts are those of the first."""
    count = f"{len(wrong)} or more" if len(wrong) == _TOLD else len(wrong)
    return EmptySelectionError(
        "\n".join([f"{count} entries of the map mean nothing.", *map(str, wrong)]),
        pattern=wrong[0].pattern,
        near=wrong[0].near,
    )


def _best(name: str, offers: list[Offer]) -> Origin:
    depth = max(offer.depth for offer in offers)
    # A regular expression has no depth: only names win over it, and it over the root.
    is_left = [
        offer.depth == depth or (offer.is_regex and depth < float("inf")) for offer in offers
    ]
    origins = dict.fromkeys(
        offer.origin for offer, kept in zip(offers, is_left, strict=True) if kept
    )
    if len(origins) > 1:
        raise _two_sources(name, [", ".join(origin.sources) for origin in origins])
    return next(iter(origins))


def _two_sources(name: str, sources: Sequence[str]) -> NameClashError:
    return NameClashError(
        f"The assignment map brings two sources to {name}.",
        {
            "first": sources[0],
            "again": sources[1],
            "fix": "narrow one of the entries; one by name wins over scopes and regular "
            "expressions.",
        },
        name=name,
        other=sources[1],
        sites=(),
    )

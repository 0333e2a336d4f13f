"""Offers: what one entry of an assignment map would bring to names of a target."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from jscope.io._entries import (
    Entry,
    check_meaning,
    entry_error,
    gives_nothing,
    is_scope,
    matches_nothing,
    no_such_name,
    no_such_scope,
    one_slash,
    shown,
)
from jscope.io._layers import Names


class Origin(NamedTuple):
    """Where the value of a name comes from."""

    sources: tuple[str, ...]
    """Names of the source; of several, a function makes one array."""
    part: int | None = None
    """Which of several targets of one source the name is."""


class Offer(NamedTuple):
    """What an entry would bring to a name."""

    origin: Origin
    depth: float
    """Components of the target's scope: 0 is the root; infinity for an entry by name."""
    is_regex: bool = False


def offers_of(entry: Entry, sources: Names, targets: Names) -> Iterator[tuple[str, Offer]]:
    old, new = entry
    if isinstance(old, re.Pattern):
        return _by_regex(old, new, sources, targets)
    if isinstance(old, str) and isinstance(new, str):
        check_meaning(old, new, sources, targets)
    if is_scope(old) and is_scope(new):
        return _by_scope(old, new, sources, targets)
    if is_scope(old) or is_scope(new):
        raise one_slash(old, new)
    return _by_name(old, new, sources, targets)


def _by_name(
    old: str | tuple[str, ...], new: str | tuple[str, ...], sources: Names, targets: Names
) -> Iterator[tuple[str, Offer]]:
    olds = (old,) if isinstance(old, str) else old
    news = (new,) if isinstance(new, str) else new
    for where, names, known in (("source", olds, sources), ("target", news, targets)):
        for name in names:
            if name not in known:
                raise no_such_name(where, name, known, (old, new))
    for part, name in enumerate(news):
        yield name, Offer(Origin(olds, None if isinstance(new, str) else part), float("inf"))


def _by_scope(old: str, new: str, sources: Names, targets: Names) -> Iterator[tuple[str, Offer]]:
    above, below = old.removesuffix("/"), new.removesuffix("/")
    heads = [f"{scope}/" if scope else "" for scope in (above, below)]
    for where, scope, head, known in (
        ("source", above, heads[0], sources),
        ("target", below, heads[1], targets),
    ):
        if scope and not known.has_scope(head):
            raise no_such_scope(where, scope, known, (old, new))
    depth = below.count("/") + 1 if below else 0
    found = [
        (heads[1] + name.removeprefix(heads[0]), name)
        for name in sources
        if name.startswith(heads[0])
    ]
    taken = [(name, Offer(Origin((source,)), depth)) for name, source in found if name in targets]
    # The root to the root is for what is left, which may be nothing.
    if found and not taken and (above or below):
        raise gives_nothing((old, new), found, targets)
    yield from taken


def _by_regex(
    old: re.Pattern[str], new: str | Callable[..., str], sources: Names, targets: Names
) -> Iterator[tuple[str, Offer]]:
    matched = [name for name in sources if old.search(name)]
    if not matched:
        raise matches_nothing(old, list(sources))
    try:
        found = [(old.sub(new, name), name) for name in matched]
    except (re.error, IndexError) as error:
        if callable(new):
            raise
        raise entry_error(
            f"The replacement of {shown((old, new))} cannot be made: {error}.",
            old,
            new,
            r"groups are written \1 or \g<name>, as in re.sub.",
        ) from None
    taken = [(name, source) for name, source in found if name in targets]
    if not taken:
        raise gives_nothing((old, new), found, targets)
    for name, source in taken:
        yield name, Offer(Origin((source,)), 0.5, is_regex=True)

"""Offers: what one entry of an assignment map would bring to names of a target."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from jscope._report import brief, near_names, quoted, some_of
from jscope.errors import ArgumentError, EmptySelectionError
from jscope.io._layers import Names, all_layers, layers, places
from jscope.tree._patterns import scopes_of

Entry: TypeAlias = tuple[Any, Any]
"""From a source, to a target: names, scopes, or tuples of names; or a regular expression."""


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
    if is_scope(old) and is_scope(new):
        return _by_scope(old, new, sources, targets)
    if is_scope(old) or is_scope(new):
        raise _one_slash(old, new)
    return _by_name(old, new, sources, targets)


def _one_slash(old: Any, new: Any) -> ArgumentError:
    has, lacks = ("source", "target") if is_scope(old) else ("target", "source")
    right = shown((_with_slash(old), _with_slash(new)))
    return entry_error(
        f"The entry {shown((old, new))} has a scope of the {has}, and none of the {lacks}.",
        old,
        new,
        f"write {right} for all that is in a scope; entries of names have no slash at the end.",
    )


def _with_slash(side: Any) -> Any:
    return side if is_scope(side) or not isinstance(side, str) else side + "/"


def _by_name(
    old: str | tuple[str, ...], new: str | tuple[str, ...], sources: Names, targets: Names
) -> Iterator[tuple[str, Offer]]:
    olds = (old,) if isinstance(old, str) else old
    news = (new,) if isinstance(new, str) else new
    for where, names, known in (("source", olds, sources), ("target", news, targets)):
        for name in names:
            if name not in known:
                raise _no_such_name(where, name, known, (old, new))
    for part, name in enumerate(news):
        yield name, Offer(Origin(olds, None if isinstance(new, str) else part), float("inf"))


def _no_such_name(
    where: str, name: str, known: Names, entry: Entry
) -> EmptySelectionError | ArgumentError:
    text = shown(entry)
    plain = re.sub(r":\d+$", "", name)
    if plain != name:
        fix = f"leave {name.removeprefix(plain)!r} off: names are those of variables, {plain!r}."
        return entry_error(f"The entry {text} has the name of a tensor.", *entry, fix)
    if known.has_scope(name + "/"):
        return entry_error(
            f"The entry {text} has a name, and {name!r} is a scope of the {where}.",
            *entry,
            f"write {shown((_with_slash(entry[0]), _with_slash(entry[1])))} for all that is in a "
            "scope.",
        )
    summary = f"The {where} has no {name!r}, which the map's {text} names."
    return _lacks(summary, name, known, _word_fix([name], known) if where == "target" else None)


def _word_fix(names: Iterable[str], targets: Names) -> str | None:
    """What to do where a map gives layers and the target has their stack, or the converse."""
    apart = layers(targets.plain)
    for name in names:
        for place in places(name):
            if place.rest in targets.plain or (
                name.endswith("/") and targets.has_scope(place.rest)
            ):
                stack = place.rest.removesuffix("/")
                return f"{stack!r} is a stack of layers: add {{{stack!r}: 'stack'}} to transforms."
        for depth, kind in apart.get(name, {}).items():
            pattern = all_layers(next(iter(kind.values())), depth)
            return f"{name!r} is in layers there: add {{{pattern!r}: 'unstack'}} to transforms."
    return None


def _lacks(
    summary: str, name: str, known: Iterable[str], fix: str | None = None
) -> EmptySelectionError:
    near = near_names(name, known)
    fix = fix or "correct the name; for a pattern write re.compile(...)."
    return EmptySelectionError(
        summary,
        {"near": quoted(near), "fix": fix},
        pattern=name,
        near=tuple(near),
    )


def _by_scope(old: str, new: str, sources: Names, targets: Names) -> Iterator[tuple[str, Offer]]:
    above, below = old.removesuffix("/"), new.removesuffix("/")
    heads = [f"{scope}/" if scope else "" for scope in (above, below)]
    for where, scope, head, known in (
        ("source", above, heads[0], sources),
        ("target", below, heads[1], targets),
    ):
        if scope and not known.has_scope(head):
            raise _no_such_scope(where, scope, known, (old, new))
    depth = below.count("/") + 1 if below else 0
    found = [
        (heads[1] + name.removeprefix(heads[0]), name)
        for name in sources
        if name.startswith(heads[0])
    ]
    taken = [(name, Offer(Origin((source,)), depth)) for name, source in found if name in targets]
    # The root to the root is for what is left, which may be nothing.
    if found and not taken and (above or below):
        raise _gives_nothing((old, new), found, targets)
    yield from taken


def _no_such_scope(
    where: str, scope: str, known: Names, entry: Entry
) -> EmptySelectionError | ArgumentError:
    if scope in known:
        return entry_error(
            f"The entry {shown(entry)} has a scope, and {scope!r} is a name of the {where}.",
            *entry,
            "leave the slashes at the ends off for an entry of names.",
        )
    summary = f"The {where} has no scope {scope!r}, which the map's {shown(entry)} names."
    fix = _word_fix([scope + "/"], known) if where == "target" else None
    return _lacks(summary, scope, scopes_of(list(known)), fix)


def _gives_nothing(
    entry: Entry, found: Sequence[tuple[str, str]], targets: Names
) -> EmptySelectionError:
    """``found`` are the names that it would give the target, and those of the source."""
    near = near_names(found[0][0], targets)
    by_word = _word_fix([name for name, _ in found], targets)
    return EmptySelectionError(
        f"The map's {shown(entry)} gives no name of the target.",
        {
            "source": some_of([source for _, source in found]),
            "gives": some_of([name for name, _ in found]),
            "near": quoted(near),
            "fix": by_word or "what it gives has to be full names of the target.",
        },
        pattern=brief(entry[0]),
        near=tuple(near),
    )


def _matches_nothing(regex: re.Pattern[str], names: Sequence[str]) -> EmptySelectionError:
    near = _near_regex(regex.pattern, names)
    return EmptySelectionError(
        f"The map's {brief(regex)} matches no name of the source.",
        {
            "near": quoted(near),
            "names": None if near else some_of(names),
            "fix": "a regular expression is searched in the full name.",
        },
        pattern=brief(regex),
        near=tuple(near),
    )


# What is no text to be matched as it is: escapes, classes, marks of groups, numbers, operators.
_SYNTAX = re.compile(
    r"\\(?P<text>\W)|\\.|\[[^]]*\]|\(\?(P?<\w+>|[^)>:=!]*[>:=!])|\{[^}]*\}|[\^$.*+?|()]"
)


def _near_regex(pattern: str, names: Sequence[str]) -> list[str]:
    """Names that have at least a third of the pattern's text, in pieces of three or more."""
    import difflib  # here, because most programs never need it

    text = _SYNTAX.sub(lambda found: found["text"] or "", pattern)
    matcher = difflib.SequenceMatcher(None, b=text, autojunk=False)
    scores = {}
    for name in names:
        matcher.set_seq1(name)
        scores[name] = sum(x.size for x in matcher.get_matching_blocks() if x.size > 2)
    best = sorted(names, key=lambda name: -scores[name])[:3]
    return [name for name in best if 3 * scores[name] >= len(text) > 0]


def _by_regex(
    old: re.Pattern[str], new: str | Callable[..., str], sources: Names, targets: Names
) -> Iterator[tuple[str, Offer]]:
    matched = [name for name in sources if old.search(name)]
    if not matched:
        raise _matches_nothing(old, list(sources))
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
        raise _gives_nothing((old, new), found, targets)
    for name, source in taken:
        yield name, Offer(Origin((source,)), 0.5, is_regex=True)


def is_scope(name: object) -> bool:
    return isinstance(name, str) and name.endswith("/")


def entry_error(summary: str, old: Any, new: Any, fix: str) -> ArgumentError:
    return ArgumentError(summary, {"fix": fix}, argument="assignment_map", value=shown((old, new)))


def shown(entry: Entry) -> str:
    return ": ".join(map(brief, entry))

"""Entries of assignment maps, and what can be wrong with one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from jscope._report import brief, near_names, quoted, some_of
from jscope.errors import ArgumentError, EmptySelectionError
from jscope.io._layers import Names, all_layers, layers, places, stack_scope, without_slots
from jscope.tree._patterns import scopes_of

Entry: TypeAlias = tuple[Any, Any]
"""From a source, to a target: names, scopes, or tuples of names; or a regular expression."""


def is_scope(name: object) -> bool:
    return isinstance(name, str) and name.endswith("/")


def entry_error(summary: str, old: Any, new: Any, fix: str) -> ArgumentError:
    return ArgumentError(summary, {"fix": fix}, argument="assignment_map", value=shown((old, new)))


def shown(entry: Entry) -> str:
    return ": ".join(map(brief, entry))


def check_meaning(old: str, new: str, sources: Names, targets: Names) -> None:
    """Raises where it is plain what an entry of text that means nothing was to mean."""
    problem = (
        _regex_as_text(old, new, sources)
        or _dotted(old, new, sources)
        or _turned_round(old, new, sources, targets)
    )
    if problem:
        raise problem


def _regex_as_text(old: str, new: str, sources: Names) -> ArgumentError | None:
    """Of an entry as the command line takes it."""
    if not old.startswith("re:") or old in sources:
        return None
    return entry_error(
        f"The entry {shown((old, new))} has a regular expression as text.",
        old,
        new,
        f"write {{re.compile({old[3:]!r}): {new!r}}}.",
    )


FROM_TORCH = "give jscope.interop.from_torch(source), which makes scopes of dots"


def _dotted(old: str, new: str, sources: Names) -> ArgumentError | None:
    """Of an entry whose source is written as a scope where the names have dots."""
    stem = old.rstrip("./")
    head = stem.replace("/", ".") + "."
    if not stem or old in sources or sources.has_scope(stem + "/"):
        return None
    if not any(name.startswith(head) for name in sources):
        return None
    regex = "^" + re.escape(head)
    right = "" if new in ("/", ".") else re.sub(r"[./]?$", "/", new, count=1)
    return entry_error(
        f"The entry {shown((old, new))} has a scope of the source, whose names have dots, which "
        "are no scopes.",
        old,
        new,
        f'write {{re.compile(r"{regex}"): "{right}"}}, or {FROM_TORCH}.',
    )


def _turned_round(old: str, new: str, sources: Names, targets: Names) -> ArgumentError | None:
    """Of an entry that only means something from the target to the source."""
    if _has(sources, old) and _has(targets, new):
        return None
    # Where any name is a target none is listed, and all of this would be true of a slip.
    if not (any(targets) and _has(sources, new) and _has(targets, old)):
        return None
    return entry_error(
        f"The entry {shown((old, new))} goes from the target to the source.",
        old,
        new,
        f"the map runs from source to target: turn it round, {shown((new, old))}.",
    )


def _has(names: Names, side: str) -> bool:
    return side == "/" or (names.has_scope(side) if is_scope(side) else side in names)


def one_slash(old: Any, new: Any) -> ArgumentError:
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


def no_such_name(
    where: str, name: str, known: Names, entry: Entry
) -> EmptySelectionError | ArgumentError:
    text = shown(entry)
    if name in known.stacks:
        return _no_layers(name, entry)
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
    near = [other for kind in without_slots(known) for other in near_names(name, kind)][:3]
    return _lacks(summary, name, near, _word_fix([name], known) if where == "target" else None)


def _no_layers(name: str, entry: Entry) -> EmptySelectionError:
    """Of an entry that gives a stack by its own name."""
    *scope, rest = name.split("/", 1)
    layer = "/".join([*scope, "layer_0", rest])
    return EmptySelectionError(
        f"The map's {shown(entry)} gives {name!r} itself, and no layers to stack.",
        {
            "fix": f'{name!r} is under "stack" in transforms: map to its layers, '
            f"{layer}, or narrow the pattern to the scope of the stack."
        },
        pattern=brief(entry[0]),
        near=(),
    )


def _word_fix(names: Iterable[str], targets: Names) -> str | None:
    """What to do where a map gives layers and the target has their stack, or the converse."""
    apart = layers(targets.plain)
    for name in names:
        for place in places(name):
            if place.rest in targets.plain or (
                name.endswith("/") and targets.has_scope(place.rest)
            ):
                stack = stack_scope(place).removesuffix("/")
                return f"{stack!r} is a stack of layers: add {{{stack!r}: 'stack'}} to transforms."
        for depth, kind in apart.get(name, {}).items():
            pattern = all_layers(next(iter(kind.values())), depth)
            return f"{name!r} is in layers there: add {{{pattern!r}: 'unstack'}} to transforms."
    return None


def _lacks(summary: str, name: str, near: list[str], fix: str | None = None) -> EmptySelectionError:
    fix = fix or "correct the name; for a pattern write re.compile(...)."
    return EmptySelectionError(
        summary,
        {"near": quoted(near), "fix": fix},
        pattern=name,
        near=tuple(near),
    )


def no_such_scope(
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
    return _lacks(summary, scope, near_names(scope, scopes_of(list(known))), fix)


def gives_nothing(
    entry: Entry, found: Sequence[tuple[str, str]], targets: Names
) -> EmptySelectionError:
    """``found`` are the names that it would give the target, and those of the source."""
    if whole := [name for name, _ in found if name in targets.stacks]:
        return _no_layers(whole[0], entry)
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


def matches_nothing(regex: re.Pattern[str], names: Sequence[str]) -> EmptySelectionError:
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

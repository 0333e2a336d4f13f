"""Patterns: which names of a tree are meant, and what to say where none is."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeAlias, TypeGuard

from jscope._arguments import bad_argument, can_call
from jscope._params import PyTree
from jscope._report import near_names, quoted, some_of
from jscope.errors import EmptySelectionError
from jscope.tree._names import Item

Pattern: TypeAlias = "str | re.Pattern[str] | Predicate | Sequence[Pattern] | AbstractSet[Pattern]"
Predicate: TypeAlias = Callable[[str, PyTree], object]
Part: TypeAlias = Callable[[str], re.Match[str] | None]


def choose(
    pattern: Pattern, items: Sequence[Item], *, allow_empty: bool | None, held: str = "tree"
) -> list[bool]:
    """Tells for each item whether ``pattern`` means it.

    Each pattern of a list has to mean something: a misspelt one among others would be as silent as
    one alone. ``allow_empty`` is None where a user has no such choice; ``held`` is what has them.
    """
    if _is_list(pattern):
        columns = [choose(one, items, allow_empty=allow_empty, held=held) for one in pattern]
        chosen = [any(column[row] for column in columns) for row in range(len(items))]
    else:
        is_meant = _predicate(pattern)
        chosen = [bool(is_meant(name, leaf)) for name, leaf in items]
    if not allow_empty and not any(chosen):
        names = [name for name, _ in items]
        raise _refusal(pattern, names, held, has_choice=allow_empty is not None)
    return chosen


def claim(
    patterns: Sequence[Pattern], items: Sequence[Item], *, allow_empty: bool | None
) -> list[int]:
    """Gives each item the number of the first pattern that means it; ``len(patterns)`` if none."""
    columns = [choose(pattern, items, allow_empty=allow_empty) for pattern in patterns]
    owners = [
        next((number for number, column in enumerate(columns) if column[row]), len(patterns))
        for row in range(len(items))
    ]
    shadowed = set(range(len(patterns))).difference(owners)
    if shadowed and not allow_empty:
        number = min(shadowed)
        names = [name for (name, _), hit in zip(items, columns[number], strict=True) if hit]
        raise _taken(patterns[number], names, has_choice=allow_empty is not None)
    return owners


_CHOICE = " Pass allow_empty=True to allow an empty result."


def _taken(pattern: Pattern, names: Sequence[str], *, has_choice: bool) -> EmptySelectionError:
    return EmptySelectionError(
        f"The pattern {show(pattern)} selects nothing that the patterns before it leave.",
        {
            "taken": some_of(names),
            "fix": "the first pattern that matches takes a name: put the narrower pattern first."
            + _CHOICE * has_choice,
        },
        pattern=as_text(pattern),
        near=tuple(names[:3]),
    )


def predicate(pattern: Pattern) -> Predicate:
    """A function of (name, leaf) that tells whether a pattern means it."""
    if _is_list(pattern):
        parts = [predicate(one) for one in pattern]
        return lambda name, leaf: any(part(name, leaf) for part in parts)
    return _predicate(pattern)


def show(pattern: Pattern) -> str:
    """A pattern in a message."""
    if _is_list(pattern):
        return f"[{', '.join(show(one) for one in pattern)}]"
    if isinstance(pattern, str | re.Pattern):
        return repr(pattern)
    return f"{getattr(pattern, '__name__', type(pattern).__name__)} (a function)"


def as_text(pattern: Pattern) -> str:
    return pattern if isinstance(pattern, str) else show(pattern)


def is_glob(pattern: str) -> bool:
    """Whether a string is a glob rather than a path."""
    return any(character in pattern for character in "*?[")


def _is_list(pattern: Pattern) -> TypeGuard[Sequence[Pattern] | AbstractSet[Pattern]]:
    return isinstance(pattern, Sequence | AbstractSet) and not isinstance(pattern, str | bytes)


def _predicate(pattern: Pattern) -> Predicate:
    match pattern:
        case str():
            if not pattern:  # the name of the root scope
                return lambda name, leaf: True
            # "gen/", as users of TF1 write, is what lies in the scope.
            path = pattern + "**/*" if pattern.endswith("/") else pattern
            if is_glob(path):
                parts = [None if part == "**" else _part(part) for part in path.split("/")]
                return lambda name, leaf: _matches(parts, name.split("/") if name else [])
            return lambda name, leaf: name == path or name.startswith(path + "/")
        case re.Pattern() if isinstance(pattern.pattern, str):
            regex = pattern
            return lambda name, leaf: regex.search(name)
        case _ if callable(pattern) and can_call(pattern, "", None):
            return pattern
    raise bad_argument(
        "pattern",
        pattern,
        "a path, a glob, a compiled regular expression of text, a function of (name, leaf), or a "
        "list of these",
    )


def _part(part: str) -> Part:
    return re.compile(fnmatch.translate(part)).match


def _matches(parts: Sequence[Part | None], path: Sequence[str]) -> bool:
    """Whether the components of a glob, None for ``**``, match all those of a name."""
    if not parts:
        return not path
    first, rest = parts[0], parts[1:]
    if first is None:
        return any(_matches(rest, path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and first(path[0]) is not None and _matches(rest, path[1:])


def _refusal(
    pattern: Pattern, names: Sequence[str], held: str, *, has_choice: bool
) -> EmptySelectionError:
    if isinstance(pattern, str):
        kind = "glob" if is_glob(pattern) else "path"
    elif isinstance(pattern, re.Pattern):
        kind = "regex"
    else:
        kind = "list" if _is_list(pattern) else "function"
    return _nothing(
        as_text(pattern),
        show(pattern),
        kind,
        held=held,
        names=names,
        scopes=scopes_of(names),
        instead=_instead(pattern, names) if isinstance(pattern, str) else None,
        choice=_CHOICE * has_choice,
    )


_MATCHING = {
    "path": "a path is matched from the root, by whole components",
    "glob": "a glob is matched with the whole name, and * stays within one component",
    "regex": "a regular expression is searched in the full name",
    "function": "a function is called with (name, leaf) and selects where it returns True",
    "list": "a list selects what any of its patterns does, and this one is empty",
}


def _nothing(
    pattern: str,
    shown: str,
    kind: str,
    *,
    held: str,
    names: Sequence[str],
    scopes: Sequence[str],
    instead: tuple[str, Sequence[str]] | None,
    choice: str,
) -> EmptySelectionError:
    """With ``instead``, a glob that was perhaps meant and the names that it selects."""
    near: tuple[str, ...] = ()
    fix = _MATCHING[kind]
    if instead is not None:
        near = tuple(instead[1][:3])
        fix += f": {instead[0]!r} selects these"
    elif kind in ("path", "glob"):
        near = tuple(near_names(pattern, [*scopes, *names]))
    number = f"{len(names)} name" + ("s" if len(names) != 1 else "")
    return EmptySelectionError(
        f"The pattern {shown} selects nothing among the {held}'s {number}."
        if names
        else f"The pattern {shown} selects nothing: the {held} is empty.",
        {
            "near": quoted(near),
            "names": None if near else some_of(names),
            "fix": f"{fix}.{choice}",
        },
        pattern=pattern,
        near=near,
    )


def scopes_of(names: Sequence[str]) -> list[str]:
    """Every scope on the paths of ``names``, each once."""
    found: dict[str, None] = {}
    for name in names:
        above = name.rpartition("/")[0]
        while above and above not in found:
            found[above] = None
            above = above.rpartition("/")[0]
    return list(found)


def _instead(pattern: str, names: Sequence[str]) -> tuple[str, list[str]] | None:
    """A glob that was perhaps meant, and the names that it selects.

    Deeper in the tree ("w" for "net/w"), all in a scope ("layer_*"), or by text as in TF1 ("gen"
    for "generator/w").
    """
    plain = pattern.strip("/")
    below = plain.removeprefix("*/")
    if not plain:
        return None
    deeper = f"**/{below}"
    for glob in (deeper, f"{plain}/**", f"{deeper}/**", f"{plain}*/**", f"{deeper}*/**"):
        is_meant = _predicate(glob)
        found = [name for name in names if is_meant(name, None)]
        if found:
            return glob, found
    return None

"""How a tree of names is drawn: a line for each scope and each variable, with columns."""

from __future__ import annotations

import collections
import itertools
import numbers
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

_BYTES = ("B", "kB", "MB", "GB", "TB")
_NUMBERS = ("", "k", "M", "G", "T", "P")

Entry: TypeAlias = tuple[str, bool]
"""A full name, and whether it is a scope's."""


class Line(NamedTuple):
    """One line of a tree.

    Attributes:
      name: Full name.
      label: Its last part; a scope's ends with a slash.
      depth: How many scopes are around it.
      is_scope: Whether it is a scope's.
    """

    name: str
    label: str
    depth: int
    is_scope: bool


def outline(entries: Iterable[Entry]) -> list[Line]:
    """The lines of a tree: what is in a scope below it, else in the order given."""
    root: dict[Entry, dict[Entry, object]] = {}
    for name, is_scope in entries:
        *scopes, last = name.split("/")
        node = root
        for part in scopes:
            node = node.setdefault((part, True), {})  # type: ignore[assignment]
        node.setdefault((last, is_scope), {})
    lines: list[Line] = []
    todo = [("", 0, entry, node) for entry, node in reversed(root.items())]
    while todo:  # no recursion: scopes may be nested deeper than Python's stack
        above, depth, (part, is_scope), below = todo.pop()
        name = above + part
        lines.append(Line(name, part + "/" * is_scope, depth, is_scope))
        todo += [(f"{name}/", depth + 1, *item) for item in reversed(below.items())]  # type: ignore
    return lines


def scopes_around(name: str) -> list[str]:
    """The scopes that a full name is in, outermost first: the root, ``"a"``, ``"a/b"``."""
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(len(parts))]


def totals(sizes: Iterable[tuple[str, int]]) -> collections.Counter[str]:
    """Scope -> the sum of what is in it, of full names and their sizes."""
    found = collections.Counter[str]()
    for name, size in sizes:
        for scope in scopes_around(name):
            found[scope] += size
    return found


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Rows of cells as lines of columns; those numbered in ``right`` end where others begin."""
    ends = set(right)
    widths = [max(map(cell_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        pads = [" " * (width - cell_width(x)) for x, width in zip(row, widths, strict=True)]
        padded = enumerate(zip(row, pads, strict=True))
        lines.append("  ".join(p + x if number in ends else x + p for number, (x, p) in padded))
    return [line.rstrip() for line in lines]


def cell_width(text: str) -> int:
    """How many cells of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):  # drawn with the character before it
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def start_of(text: str, width: int) -> str:
    """As many of the first characters as there is room for."""
    ends = itertools.accumulate(map(_cells, text))
    return text[: sum(end <= width for end in ends)]


def wrapped(text: str, width: int) -> list[str]:
    """The words of a text in lines that are no wider; a word that is wider is cut."""
    lines: list[str] = []
    for word in text.split():
        if lines and cell_width(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        while word:
            lines.append(start_of(word, width) or word[0])
            word = word.removeprefix(lines[-1])
    return lines


def size_text(nbytes: float) -> str:
    """``1.2 MB``; a kB has 1,000 bytes."""
    return _scaled(nbytes, _BYTES)


def number_text(number: float) -> str:
    """``1.2 M``."""
    return _scaled(number, _NUMBERS).rstrip()


def _scaled(number: float, units: Sequence[str]) -> str:
    if not isinstance(number, numbers.Real):  # of symbolic sizes
        return f"{number} {units[0]}"
    unit = 0
    while number >= 999.5 and unit < len(units) - 1:
        number, unit = number / 1000, unit + 1
    digits = 0 if unit == 0 or number >= 99.5 else 1
    return f"{number:.{digits}f} {units[unit]}"

"""A summary as text: a tree with columns, fitted to a width."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from jax.sharding import PartitionSpec

from jscope._layout import show
from jscope._outline import (
    Entry,
    Line,
    cell_width,
    columns,
    number_text,
    outline,
    size_text,
    start_of,
    wrapped,
)
from jscope._report import array_type, describe
from jscope._summary._cost import Shapes
from jscope._summary._facts import Row, ScopeRow, Total
from jscope.errors import Site

HEADS = ("name", "type", "size", "bytes", "FLOPs", "accessed", "about", "made at")
NUMBERS = (2, 3, 4, 5)
_ABOUT = HEADS.index("about")
_GOES = ("accessed", "made at", "about", "FLOPs", "bytes", "size")
"""The columns that are left out of a narrow table, the first ones first."""
_SHARED = 5
"""How many shared variables are named below the table."""
_LEAST = 24
"""How much of what is about a variable is worth a column."""


class Tree(NamedTuple):
    """The lines of a summary, and the row that each is of."""

    lines: Sequence[Line]
    rows: dict[str, Row]
    scopes: dict[str, ScopeRow]

    def row(self, line: Line) -> Row | ScopeRow:
        return (self.scopes if line.is_scope else self.rows)[line.name]


def tree_of(rows: Iterable[Row], scopes: Iterable[ScopeRow], entries: Iterable[Entry]) -> Tree:
    return Tree(
        outline(entries), {row.name: row for row in rows}, {row.name: row for row in scopes}
    )


def text(title: str, tree: Tree, total: Total, depth: int | None, width: int) -> list[str]:
    """What it is of, a table that is no wider than ``width`` if it can be, and totals."""
    root = tree.scopes[""]
    lines = [line for line in tree.lines if depth is None or line.depth < depth]
    drawn = [cells(line, tree.row(line)) for line in lines]
    named = [("  " * line.depth + row[0], *row[1:]) for line, row in zip(lines, drawn, strict=True)]
    table = _fitted([HEADS, *named], width) if named else []
    first, last = heading(title, root), total_text(len(tree.rows), total)
    shared = shared_text(tree.rows.values())
    return [*wrapped(first, width), *table, *wrapped(last, width), *wrapped(shared, width)]


def cells(line: Line, row: Row | ScopeRow) -> tuple[str, ...]:
    """What stands in the columns of a line."""
    size, nbytes = f"{row.size:,}", size_text(row.nbytes)
    if isinstance(row, ScopeRow):
        accessed = size_text(row.accessed) if row.accessed else ""
        about = ", ".join(about_scope(row))
        return line.label, "", size, nbytes, flops_text(row), accessed, about, ""
    about = ", ".join(about_variable(row))
    kind = array_type(row.shape, row.dtype)
    return line.label, kind, size, nbytes, "", "", about, _place(row.sites)


def heading(title: str, root: ScopeRow) -> str:
    return ": ".join(filter(None, [title, exchanged(root)]))


def flops_text(row: ScopeRow) -> str:
    """Nothing where nothing is counted: it may compute all the same."""
    return number_text(row.flops) if row.flops else ""


def exchanged(row: ScopeRow) -> str:
    """``float32[2,3] -> float32[2,4]``; nothing of a scope that was never opened."""
    if not row.inputs and not row.outputs:
        return ""
    return f"{_shapes(row.inputs)} -> {_shapes(row.outputs)}"


def about_scope(row: ScopeRow) -> Iterator[str]:
    if row.calls > 1:
        yield f"{row.calls:,} calls"
    if row.inputs or row.outputs:
        yield exchanged(row)


def _shapes(shapes: Shapes) -> str:
    shown = list(map(describe, shapes[:3])) + ["..."] * (len(shapes) > 3)
    return ", ".join(shown) or "()"


def about_variable(row: Row) -> Iterator[str]:
    """What is read first comes first: a narrow table cuts the rest."""
    if not row.trainable:
        yield "state"
    yield from sharing(row)
    if row.partition is not None and row.device_nbytes != row.nbytes:
        yield partition_text(row.partition)
        if row.device_nbytes is not None:
            yield f"{size_text(row.device_nbytes)} a device"
    yield row.initializer
    if row.regularizer is not None:
        yield row.regularizer


def partition_text(partition: PartitionSpec | str) -> str:
    return partition if isinstance(partition, str) else show(partition)


def sharing(row: Row) -> Iterator[str]:
    """Who asks for a variable again, and how often if more than once."""
    counts = collections.Counter(share.scope for share in row.shared_by)
    again = counts.pop(row.name.rpartition("/")[0], 0)
    others = [f"{name or 'the root'}{_times(n)}" for name, n in counts.items()]
    if others:
        yield "shared by " + ", ".join(others)
    if again:
        yield f"used again{_times(again)}"


def shared_text(rows: Iterable[Row]) -> str:
    """Which variables are shared between scopes, and with which; nothing where none is."""
    found = []
    for row in rows:
        home = row.name.rpartition("/")[0]
        askers: dict[str, str] = {}
        for share in row.shared_by:
            if share.scope != home:
                asker = f"{share.scope or 'the root'} ({_place(share.sites)})"
                askers.setdefault(share.scope, asker)
        if askers:
            found.append(f"{row.name} by {', '.join(askers.values())}")
    more = [f"and {len(found) - _SHARED:,} more"] if len(found) > _SHARED else []
    return f"shared: {'; '.join([*found[:_SHARED], *more])}" if found else ""


def _times(count: int) -> str:
    return f" ({count} times)" if count > 1 else ""


def _place(sites: Sequence[Site]) -> str:
    """``model.py:12``."""
    if not sites:
        return "an unknown place"
    place = str(sites[0]).rpartition(" in ")[0]
    return place.replace("\\", "/").rpartition("/")[2]


def total_text(count: int, total: Total) -> str:
    """How many variables and elements there are, their bytes by dtype, and FLOPs."""
    state = f" and {total.state_size:,} of state" if total.state_size else ""
    dtypes = ", ".join(f"{dtype} {size_text(size)}" for dtype, size in total.dtypes.items())
    device = total.device_nbytes
    shard = "" if device is None else f", {size_text(device)} a device"
    return (
        f"{count:,} variable{'s' * (count != 1)}, {total.size:,} parameters{state}, "
        f"{size_text(total.nbytes)}{shard}{': ' * bool(dtypes)}{dtypes}; "
        f"{number_text(total.flops)} FLOPs"
    )


def _fitted(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The table without some of its columns, or with a shorter one, if it is too wide."""
    empty = {head for head, *column in zip(*rows, strict=True) if not any(column)}
    kept = [number for number, head in enumerate(HEADS) if head not in empty]
    for goes in (None, *_GOES):
        if goes is not None:
            kept = [number for number in kept if HEADS[number] != goes]
        table = _table(rows, kept)
        over = max(map(cell_width, table)) - width
        if over <= 0:
            return table
        if kept[-1] == _ABOUT:
            room = max(cell_width(row[_ABOUT]) for row in rows) - over
            if room >= _LEAST:
                cut = [[*row[:_ABOUT], _cut(row[_ABOUT], room), row[-1]] for row in rows]
                return _table(cut, kept)
    return [_cut(line, width) for line in table]


def _table(rows: Sequence[Sequence[str]], kept: Sequence[int]) -> list[str]:
    right = [place for place, number in enumerate(kept) if number in NUMBERS]
    return columns([[row[number] for number in kept] for row in rows], right)


def _cut(text: str, width: int) -> str:
    return text if cell_width(text) <= width else start_of(text, width - 3) + "..."


def coloured(lines: Sequence[str]) -> Any:
    """The lines with styles, as a text of ``rich``, which is there where it asks for one."""
    from rich.text import Text

    drawn = Text("\n".join(lines), no_wrap=True)
    drawn.highlight_regex(rf"(?m)^{HEADS[0]}  .*$", "dim")
    drawn.highlight_regex(r"(?m)^ *\S+/(?= |$)", "bold cyan")
    drawn.highlight_regex(r"\b[a-z]+\d*\[[\d,]*\]", "green")
    drawn.highlight_regex(r"(?m)shared by .*?(?=  |$)", "yellow")
    return drawn

"""A summary as HTML: for notebooks, and as one page that needs nothing else."""

from __future__ import annotations

import importlib.resources
import operator
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jscope import _markup
from jscope._markup import text
from jscope._outline import Entry, Line, size_text
from jscope._report import array_type
from jscope._summary._facts import Row, ScopeRow, Total
from jscope._summary._text import (
    HEADS,
    NUMBERS,
    Tree,
    about_variable,
    cells,
    exchanged,
    heading,
    partition_text,
    total_text,
)

_NUMBERS = [number - 1 for number in NUMBERS]  # of the cells after the name
_WIDTHS = "14em 8em 6em 6em 6em minmax(24em, 2fr) 12em"
_FEWER = "14em 8em 6em 6em minmax(16em, 1fr)"  # where the page is narrower
_IN_NOTEBOOKS = ("type", "size", "bytes", "FLOPs", "about")  # what there is room for
_NOTEBOOK = "11em 6em 4.5em 4.5em minmax(14em, 2fr)"

# It may run nothing but its own script, and load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Page(NamedTuple):
    """What a page shows."""

    title: str
    tree: Tree
    total: Total

    def fragment(self, depth: int | None) -> str:
        """A tree with its style, of fewer columns; without a script or links."""
        first, last = heading(self.title, self.tree.scopes[""]), self._total()
        lines = [line for line in self.tree.lines if depth is None or line.depth < depth]
        shown, unlinked = [HEADS.index(head) - 1 for head in _IN_NOTEBOOKS], _Links([])
        drawn = _markup.tree(
            lines,
            [HEADS[0], *_IN_NOTEBOOKS],
            lambda line: operator.itemgetter(*shown)(self._cells(line)),
            numbers=[number for number, cell in enumerate(shown) if cell in _NUMBERS],
            wide=[_IN_NOTEBOOKS.index(head) for head in ("type", "size", "about")],
            details=lambda line: _details(self.tree.rows[line.name], unlinked),
        )
        return _markup.box(
            f"<p><b>{text(first)}</b></p><p>{text(last)}</p>{drawn}", _NOTEBOOK, "5em 5em"
        )

    def document(self) -> str:
        """A whole page, with search, folding, sorting, details of variables, and sharing."""
        links = _Links(self.tree.lines)
        drawn = _markup.tree(
            self.tree.lines,
            HEADS,
            self._cells,
            numbers=_NUMBERS,
            attributes=lambda line: _attributes(line, self.tree.row(line), links),
            details=lambda line: _details(self.tree.rows[line.name], links),
        )
        return _DOCUMENT.format(
            policy=text(_POLICY),
            title=text(self.title),
            style=_asset("page.css") + _markup.STYLE,
            exchanged=text(exchanged(self.tree.scopes[""])),
            total=text(self._total()),
            widths=f"--widths: {_WIDTHS}; --fewer: {_FEWER}",
            tree=drawn,
            shared=_shared(self.tree.rows.values(), links),
            script=_asset("page.js"),
        )

    def _total(self) -> str:
        return total_text(len(self.tree.rows), self.total)

    def _cells(self, line: Line) -> tuple[str, ...]:
        return cells(line, self.tree.row(line))[1:]


class _Links(dict[Entry, int]):
    """The number of each line, which the page has a link to it by."""

    def __init__(self, lines: Iterable[Line]) -> None:
        super().__init__({(x.name, x.is_scope): number for number, x in enumerate(lines)})

    def __call__(self, name: str, is_scope: bool) -> str:
        number, shown = self.get((name, is_scope)), text(name or "the root")
        return shown if number is None else f'<a href="#n{number}">{shown}</a>'


def _attributes(line: Line, row: Row | ScopeRow, links: _Links) -> str:
    """What the script of the page finds, sorts and links lines by."""
    about, number = line.name, links[line.name, line.is_scope]
    if isinstance(row, Row):
        kind = array_type(row.shape, row.dtype)
        places = [row.sites, *[share.sites for share in row.shared_by]]
        about = " ".join([line.name, kind, *about_variable(row), *map(_places, places)])
    values = {
        "name": line.name,
        "text": about.lower(),
        "made": number,
        "size": row.size,
        "bytes": row.nbytes,
        "flops": row.flops if isinstance(row, ScopeRow) else 0,
    }
    data = "".join(f' data-{key}="{text(value)}"' for key, value in values.items())
    return f' id="n{number}"{data}'


def _details(row: Row, links: _Links) -> str:
    """What a variable unfolds."""
    facts = [(label, text(fact)) for label, fact in _facts(row) if fact is not None]
    facts += [
        ("asked for again", f"{links(share.scope, True)}: {text(_places(share.sites))}")
        for share in row.shared_by
    ]
    return "".join(["<dl>", *[f"<dt>{k}</dt><dd>{v}</dd>" for k, v in facts], "</dl>"])


def _facts(row: Row) -> Iterator[tuple[str, str | None]]:
    yield "name", row.name
    yield "type", array_type(row.shape, row.dtype)
    yield "kept in", "params" if row.trainable else "state"
    yield "initializer", row.initializer
    yield "regularizer", row.regularizer
    yield "partition", None if row.partition is None else partition_text(row.partition)
    yield "bytes a device", None if row.device_nbytes is None else size_text(row.device_nbytes)
    yield "made at", _places(row.sites)


def _shared(rows: Iterable[Row], links: _Links) -> str:
    """A table of what is shared; nothing where nothing is."""
    lines = []
    for row in rows:
        if row.shared_by:
            scopes = dict.fromkeys(share.scope for share in row.shared_by)
            asks = ", ".join(links(scope, True) for scope in scopes)
            lines.append(
                f"<tr><td>{links(row.name, False)}</td><td>{asks}</td>"
                f"<td>{len(row.shared_by)}</td></tr>"
            )
    return _SHARED.format("\n".join(lines)) if lines else ""


def _places(sites: tuple[object, ...]) -> str:
    return " < ".join(map(str, sites)) or "an unknown place"


def _asset(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


_SHARED = """<h2>Shared variables</h2>
<table>
<thead><tr><th>variable</th><th>asked for again from</th><th>times</th></tr></thead>
<tbody>
{}
</tbody>
</table>"""

_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}: summary</title>
<style>
{style}</style>
</head>
<body>
<h1>{title}</h1>
<p><code>{exchanged}</code></p>
<p>{total}</p>
<div class="tools" id="tools" hidden>
<input id="search" type="search" aria-label="Search"
 placeholder="Search names, types, initializers, lines of code">
<label>Sort by <select id="sort">
<option value="made">creation</option>
<option value="name">name</option>
<option value="size">size</option>
<option value="bytes">bytes</option>
<option value="flops">FLOPs</option>
</select></label>
<button id="unfold" type="button">Unfold all</button>
<button id="fold" type="button">Fold all</button>
<span id="found" aria-live="polite"></span>
</div>
<div class="jscope" id="tree" style="{widths}">
{tree}
</div>
{shared}
<script>
{script}</script>
</body>
</html>
"""

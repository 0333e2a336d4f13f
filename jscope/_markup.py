"""A tree of names as HTML, which folds by itself: for notebooks, and for pages."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from jscope._outline import Line, outline, size_text, totals
from jscope._report import describe, is_shaped

Cells: TypeAlias = Callable[[Line], Sequence[str]]
More: TypeAlias = Callable[[Line], str]

_OPEN = 60
"""Lines up to which a tree is shown unfolded."""

# Colours of text and background are those of the page around it.
STYLE = """
.jscope { overflow-x: auto;
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
.jscope summary, .jscope .leaf, .jscope .heads { display: grid; column-gap: 1.2em;
  grid-template-columns: minmax(10em, 1fr) var(--widths); list-style: none; text-align: left;
  border-bottom: 1px solid rgba(128, 128, 128, .25) }
.jscope summary { cursor: pointer }
.jscope summary::-webkit-details-marker { display: none }
.jscope .name { padding-left: calc(var(--depth, 0) * 1.4em + 1.2em); white-space: pre;
  overflow: hidden; text-overflow: ellipsis }
.jscope summary > .name::before { content: "\\25b8"; display: inline-block; width: 1.2em;
  margin-left: -1.2em; opacity: .7 }
.jscope details[open] > summary > .name::before { content: "\\25be" }
.jscope .scope > summary > .name { font-weight: 600 }
.jscope .heads { opacity: .75 }
.jscope .number { text-align: right }
.jscope .cell { white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
.jscope dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0;
  padding: .4rem .6rem .6rem calc(var(--depth, 0) * 1.4em + 2.4em) }
.jscope dt { opacity: .75; font-weight: inherit }
.jscope dd { margin: 0; overflow-wrap: anywhere }
"""

# Where a notebook is narrow, which a page by itself asks of its window.
_NARROW = """
.jscope { container-type: inline-size }
@container (max-width: 46rem) {
  .jscope summary, .jscope .leaf, .jscope .heads { column-gap: .6em;
    grid-template-columns: minmax(8em, 1fr) var(--narrow) }
  .jscope .name { padding-left: calc(var(--depth, 0) * .8em + 1.2em) }
  .jscope .wide { display: none }
}
"""


def tree(
    lines: Sequence[Line],
    heads: Sequence[str],
    cells: Cells,
    *,
    numbers: Iterable[int] = (),
    wide: Iterable[int] = (),
    attributes: More = lambda line: "",
    details: More = lambda line: "",
) -> str:
    """The lines as nested ``details``, without a style.

    Args:
      lines: Of ``outline``.
      heads: What is above the names, and above each cell.
      cells: The text of the cells of a line.
      numbers: Which cells are numbers, from 0.
      wide: Which cells are left out where there is little room.
      attributes: HTML for the element of a line.
      details: HTML that a leaf unfolds, or nothing.
    """
    kinds = dict.fromkeys(numbers, " number")
    for number in wide:
        kinds[number] = kinds.get(number, "") + " wide"
    parts = [f'<div class="heads">{_cells(heads[0], heads[1:], kinds)}</div>']
    open_scopes = 0
    for line in lines:
        parts += ["</details>"] * (open_scopes - line.depth)
        open_scopes = line.depth + line.is_scope
        parts.append(
            _line(line, _cells(line.label, cells(line), kinds), attributes, details, len(lines))
        )
    return "\n".join([*parts, *["</details>"] * open_scopes])


def _line(line: Line, cells: str, attributes: More, details: More, count: int) -> str:
    given = f'style="--depth: {line.depth}"{attributes(line)}'
    more = "" if line.is_scope else details(line)
    if line.is_scope:
        is_open = " open" if count <= _OPEN or not line.depth else ""
        return f'<details class="scope" {given}{is_open}><summary>{cells}</summary>'
    if more:
        return f'<details class="leaf-more" {given}><summary>{cells}</summary>{more}</details>'
    return f'<div class="leaf" {given}>{cells}</div>'


def _cells(name: str, cells: Sequence[str], kinds: Mapping[int, str]) -> str:
    shown = [f'<span class="name" title="{text(name)}">{text(name)}</span>']
    for number, cell in enumerate(cells):
        kind = "cell" + kinds.get(number, "")
        whole = f' title="{text(cell)}"' if len(cell) > 20 else ""  # where it may be cut
        shown.append(f'<span class="{kind}"{whole}>{text(cell)}</span>')
    return "".join(shown)


def text(shown: object) -> str:
    """Any text as HTML."""
    return html.escape(str(shown))


def box(inside: str, widths: str, narrow: str) -> str:
    """A tree with its style, whose cells have these widths in CSS, and those if it is narrow."""
    return (
        f'<div class="jscope" style="--widths: {widths}; --narrow: {narrow}">'
        f"<style>{STYLE}{_NARROW}</style>\n{inside}\n</div>"
    )


def arrays(
    title: str,
    leaves: Iterable[tuple[str, object]],
    about: Callable[[Any], str] | None = None,
) -> str:
    """Arrays, or what has their shape and dtype, by full name, with the sizes of scopes.

    ``about`` is what else is said of one.
    """
    found = dict(leaves)
    sizes = totals((name, _nbytes(leaf)) for name, leaf in found.items())

    def cells(line: Line) -> Iterator[str]:
        leaf = found.get(line.name)
        yield "" if line.is_scope else describe(leaf)
        yield size_text(sizes[line.name] if line.is_scope else _nbytes(leaf))
        if about is not None:
            yield "" if line.is_scope else about(leaf)

    lines = outline((name, isinstance(leaf, Mapping)) for name, leaf in found.items())
    count = sum(map(is_shaped, found.values()))
    noun = "array" if count == 1 else "arrays"
    heads = [f"{title}: {count:,} {noun}, {size_text(sizes[''])}", "type", "bytes"]
    heads += ["about"] * (about is not None)
    drawn = tree(lines, heads, lambda line: list(cells(line)), numbers=[1], wide=[2])
    return box(drawn, "12em 6em" + " minmax(14em, 1fr)" * (about is not None), "10em 5em")


def _nbytes(leaf: object) -> int:
    if not is_shaped(leaf):
        return 0
    size: int = math.prod(leaf.shape) * leaf.dtype.itemsize  # type: ignore[attr-defined]
    return size

"""A summary as a graph: its scopes, and who shares their variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from jscope._outline import number_text, scopes_around
from jscope._summary._facts import Row, ScopeRow


class Graph(NamedTuple):
    """Scopes and edges between them, by their numbers.

    Attributes:
      labels: Lines of text of each scope; the first is its name, and its numbers follow.
      inside: From a scope to one that is in it.
      shared: From a scope to one whose variables it asks for, with the names of these.
    """

    labels: Sequence[tuple[str, str]]
    inside: Sequence[tuple[int, int]]
    shared: Sequence[tuple[int, int, str]]


def graph_of(
    title: str, rows: Iterable[Row], scopes: Iterable[ScopeRow], depth: int | None
) -> Graph:
    """The scopes of at most ``depth`` components; what is below is drawn at their place."""
    kept = [scope for scope in scopes if depth is None or _depth(scope.name) <= depth]
    numbers = {scope.name: number for number, scope in enumerate(kept)}

    def number(name: str) -> int:
        return numbers[name if name in numbers else _cut(name, depth)]

    shared: dict[tuple[int, int], dict[str, None]] = {}
    for row in rows:
        home, _, last = row.name.rpartition("/")
        for share in row.shared_by:
            edge = number(share.scope), number(home)
            if edge[0] != edge[1]:
                shared.setdefault(edge, {})[last] = None
    labels = [(x.name.rpartition("/")[2] or title, _numbers(x)) for x in kept]
    inside = [(number(scopes_around(x.name)[-1]), number(x.name)) for x in kept if x.name]
    return Graph(labels, inside, [(*edge, _names(list(x))) for edge, x in shared.items()])


def _numbers(scope: ScopeRow) -> str:
    elements = f"{scope.size:,} element{'s' * (scope.size != 1)}"
    flops = f", {number_text(scope.flops)} FLOPs" if scope.flops else ""
    return elements + flops + (f", {scope.calls:,} calls" if scope.calls > 1 else "")


def _depth(name: str) -> int:
    return name.count("/") + 1 if name else 0


def _cut(name: str, depth: int | None) -> str:
    return "/".join(name.split("/")[:depth])


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)


def mermaid(graph: Graph) -> str:
    """A flowchart in Mermaid's language; sharing is dotted."""
    return "\n".join(["flowchart TD", *_mermaid_lines(graph)]) + "\n"


def _mermaid_lines(graph: Graph) -> Iterator[str]:
    for number, label in enumerate(graph.labels):
        text = "<br/>".join(map(_mermaid_text, label))
        yield f'  n{number}["{text}"]'
    for outer, inner in graph.inside:
        yield f"  n{outer} --> n{inner}"
    for asks, holds, names in graph.shared:
        yield f'  n{asks} -. "{_mermaid_text(names)}" .-> n{holds}'


def _mermaid_text(text: str) -> str:
    """Text with all but plain characters as entities, which Mermaid writes with a # alone."""
    return _escaped(text, lambda char: f"#{ord(char)};")


def dot(graph: Graph) -> str:
    """A digraph in Graphviz' language; sharing is dashed."""
    return "\n".join(["digraph {", "  node [shape=box];", *_dot_lines(graph), "}"]) + "\n"


def _dot_lines(graph: Graph) -> Iterator[str]:
    for number, label in enumerate(graph.labels):
        text = r"\n".join(map(_dot_text, label))
        yield f'  n{number} [label="{text}"];'
    for outer, inner in graph.inside:
        yield f"  n{outer} -> n{inner};"
    for asks, holds, names in graph.shared:
        options = f'style=dashed, constraint=false, label="{_dot_text(names)}"'
        yield f"  n{asks} -> n{holds} [{options}];"


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return "".join(char if char.isalnum() or char in " _-.,:" else escape(char) for char in text)

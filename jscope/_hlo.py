"""Compiled programs as text that can be compared."""

from __future__ import annotations

import re

_METADATA = re.compile(r', metadata=\{(?:"(?:[^"\\]|\\.)*"|[^{}"])*\}')
_PARAMETER = re.compile(r"(?<=[( ])[\w.\-]+(?=: )")  # in the first line of a computation
_NAME = re.compile(r"%[\w.\-]+")


def canonical(text: str) -> list[str]:
    """Lines of an HLO module without metadata; names are numbered in order of appearance."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return numbers.setdefault(match.group(), f"%{len(numbers)}")

    lines = []
    for line in _METADATA.sub("", text).splitlines():
        if line.startswith("HloModule"):
            line = re.sub(r"^HloModule [^,]+", "HloModule", line)
        elif not line.startswith(("%", "ENTRY", "  ", "}")):
            continue  # tables of source files and stack frames
        if line.endswith("{"):
            line = _PARAMETER.sub("", line)
        lines.append(_NAME.sub(number, line))
    return lines

"""The README and every guide: their code runs where it is pasted, and prints what they say."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from pathlib import Path
from typing import Any

import jax
import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "examples" / "guides").glob("*.md"))


def python_blocks(text: str) -> list[str]:
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


def outputs(block: str) -> list[tuple[str, str]]:
    """Each ``print`` of a block with a comment behind or below it, and what the comment says."""
    lines, found = block.splitlines(), []
    for node in ast.parse(block).body:
        if (
            isinstance(node, ast.Expr)
            and (ast.get_source_segment(block, node) or "")[:6] == "print("
        ):
            assert node.end_lineno is not None
            said = [lines[node.end_lineno - 1][node.end_col_offset or 0 :].strip()]
            below = itertools.takewhile(lambda line: line.startswith("#"), lines[node.end_lineno :])
            said += below if not said[0] else []
            text = "\n".join(line.removeprefix("# ") for line in said if line)
            if text:
                found.append((f"line {node.lineno}", text))
    return found


def test_outputs_are_the_comments_behind_or_below_a_print() -> None:
    block = "print(1)  # 1\nprint(2)\n# 2\n#   3\nprint(4)\n\n# more\nx = 5  # five\n"
    assert outputs(block) == [("line 1", "1"), ("line 2", "2\n  3")]


def run(block: str, names: dict[str, Any]) -> None:
    """Runs a block and compares what it prints with what it says."""
    printed: dict[str, str] = {}

    def note(*values: Any) -> None:
        printed[f"line {inspect.stack()[1].lineno}"] = " ".join(map(str, values))

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        names["print"] = note
        exec(block, names)
    told = outputs(block)
    assert [(line, printed[line]) for line, _ in told] == told


@pytest.mark.parametrize("number", range(len(python_blocks(README.read_text()))))
def test_a_block_of_the_readme_runs_by_itself(number: int) -> None:
    run(python_blocks(README.read_text())[number], {"__name__": "readme"})


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_runs_from_top_to_bottom(guide: Path) -> None:
    names: dict[str, Any] = {"__name__": "guide"}
    for block in python_blocks(guide.read_text()):
        run(block, names)


@pytest.mark.parametrize("file", [README, *GUIDES], ids=lambda path: path.stem)
def test_every_link_leads_to_a_file(file: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", file.read_text())
    assert all((file.parent / link).is_file() for link in links), links
    if file == README:
        assert {(ROOT / link).resolve() for link in links} >= set(GUIDES)

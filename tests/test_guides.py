"""The README and every guide: their code runs where it is pasted, and prints what they say."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import jax
import pytest
from child import output_of

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "examples" / "guides").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "examples" / "guides").glob("*.ipynb"))


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
    found = [(line, printed[line]) for line, _ in told]
    assert found == told, "\n".join(["printed:", *[text for _, text in found]])


@pytest.mark.parametrize("number", range(len(python_blocks(README.read_text()))))
def test_a_block_of_the_readme_runs_by_itself(number: int) -> None:
    run(python_blocks(README.read_text())[number], {"__name__": "readme"})


def run_guide(guide: Path) -> None:
    names: dict[str, Any] = {"__name__": "guide"}
    for block in python_blocks(guide.read_text()):
        run(block, names)


OWN_DEVICES = [guide for guide in GUIDES if "jax_num_cpu_devices" in guide.read_text()]


@pytest.mark.parametrize(
    "guide", [guide for guide in GUIDES if guide not in OWN_DEVICES], ids=lambda path: path.stem
)
def test_a_guide_runs_from_top_to_bottom(guide: Path) -> None:
    run_guide(guide)


@pytest.mark.parametrize("guide", OWN_DEVICES, ids=lambda path: path.stem)
def test_a_guide_with_devices_of_its_own_runs_in_a_process_of_its_own(guide: Path) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    code = f"import test_guides as t; t.run_guide(t.Path({str(guide)!r}))"
    output_of("-c", code, JAX_PLATFORMS="cpu", PYTHONPATH=paths)


def shown(cells: list[Any]) -> list[Any]:
    """What cells of code show: kinds of output, and text unless it is tagged to vary."""
    found = []
    for cell in cells:
        if cell["cell_type"] == "code":
            text = "varies" not in cell["metadata"].get("tags", [])
            for output in cell["outputs"]:
                data = output.get("data", {"text/plain": output.get("text", "")})
                found.append((sorted(data), data["text/plain"] if text else None))
    return found


# Not here, where warnings of any tool are errors. Its --inplace stores what a notebook now shows.
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_says(notebook: Path, tmp_path: Path) -> None:
    to = tmp_path / "found.ipynb"
    own = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "COLUMNS": "100"}
    output_of("-m", "jupyter", "execute", notebook, f"--output={to}", **own)
    found, told = (json.loads(path.read_text())["cells"] for path in (to, notebook))
    assert shown(found) == shown(told)
    assert len(shown(told)) > 5


@pytest.mark.parametrize("file", [README, *GUIDES, *NOTEBOOKS], ids=lambda path: path.stem)
def test_every_link_leads_to_a_file(file: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", file.read_text())
    assert all((file.parent / link).is_file() for link in links), links
    if file == README:
        assert {(ROOT / link).resolve() for link in links} >= {*GUIDES, *NOTEBOOKS}

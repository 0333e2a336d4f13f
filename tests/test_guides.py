"""Every guide runs from top to bottom, as it is pasted."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

GUIDES = Path(__file__).parent.parent / "examples" / "guides"


def python_blocks(text: str) -> list[str]:
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


@pytest.mark.parametrize("guide", sorted(GUIDES.glob("*.md")), ids=lambda path: path.stem)
def test_a_guide_runs(guide: Path) -> None:
    names: dict[str, object] = {"__name__": "guide"}
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for block in python_blocks(guide.read_text()):
            exec(block, names)


def test_the_readme_links_to_every_guide() -> None:
    text = (GUIDES.parent.parent / "README.md").read_text()
    for guide in GUIDES.glob("*.md"):
        assert f"(examples/guides/{guide.name})" in text, guide.name

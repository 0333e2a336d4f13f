"""The package as a whole: who imports whom, what is exported, and that every example runs."""

from __future__ import annotations

import ast
import doctest
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

import jscope as js

PACKAGE = Path(js.__file__).parent

# Each file may import only from files further up: the table of contents, from the ground.
ORDER = [
    "errors",
    "_jaxapi",
    "_reuse",
    "_path",
    "_params",
    "_guard",
    "_calls",
    "_spec",
    "_rng",
    "_number",
    "initializers",
    "constraints",
    "_program",
    "_sampling",
    "_names",
    "_pattern",
    "_restack",
    "tree",
    "_check",
    "_level",
    "_pass",
    "_arg_scope",
    "_effects",
    "_losses",
    "_draw",
    "_variable",
    "regularizers",
    "_state",
    "getters",
    "_scope",
    "_template",
    "_signature",
    "_transform",
    "_lift",
    "_stack",
    "_twins",
    "_layer",
    "_dense",
    "_conv",
    "_pool",
    "_norm",
    "_recurrent",
    "layers",
    "_tf1",
    "__init__",
]


# The modules whose names users write.
PUBLIC = [
    js,
    js.constraints,
    js.getters,
    js.initializers,
    js.layers,
    js.regularizers,
    js.tree,
]


def imports(file: Path) -> set[str]:
    """The modules of jscope that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "jscope":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jscope."):
            found.add(node.module.removeprefix("jscope."))
    return found & set(ORDER)


def test_the_order_names_every_file() -> None:
    assert sorted(ORDER) == sorted(file.stem for file in PACKAGE.glob("*.py"))


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_down_only(name: str) -> None:
    below = set(ORDER[: ORDER.index(name)])
    assert imports(PACKAGE / f"{name}.py") <= below


@pytest.mark.parametrize("name", [name for name in ORDER if name != "_jaxapi"])
def test_only_one_file_touches_the_less_public_corners_of_jax(name: str) -> None:
    text = (PACKAGE / f"{name}.py").read_text()
    for corner in ("jax._src", "jax.extend", "jax.interpreters", "make_user_context"):
        assert corner not in text


def test_all_is_what_can_be_imported() -> None:
    for module in (js.errors, *PUBLIC):
        assert sorted(module.__all__) == list(module.__all__)
        for name in module.__all__:
            assert hasattr(module, name)
    public = {name for name in vars(js) if not name.startswith("_")}
    assert public == set(js.__all__)


def public_things() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in PUBLIC:
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found[f"{module.__name__}.{name}"] = thing
    return found


@pytest.mark.parametrize("name", public_things())
def test_the_docstring_of_a_public_name_has_an_example_that_runs_alone(name: str) -> None:
    thing = public_things()[name]
    text = inspect.getdoc(thing) or ""
    examples = doctest.DocTestParser().get_examples(text)
    assert examples, "no example"
    test = doctest.DocTest(examples, {}, name, None, 0, text)
    with jax.numpy_rank_promotion("allow"):  # as users have it
        results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("name", public_things())
def test_every_public_function_tells_its_arguments(name: str) -> None:
    thing = public_things()[name]
    text = inspect.getdoc(thing) or ""
    if inspect.isfunction(thing) and inspect.signature(thing).parameters:
        assert "Args:" in text or name.endswith("no_regularizer")
        for argument in inspect.signature(thing).parameters:
            assert f"{argument}: " in text or name.endswith("no_regularizer")


def test_importing_jscope_imports_nothing_but_jax() -> None:
    code = (
        "import jax, sys; before = set(sys.modules); import jscope; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before} - {'jscope', 'jax'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    third_party = {"chex", "flax", "optax", "haiku", "matplotlib", "sklearn", "tqdm", "orbax"}
    assert not third_party & set(ast.literal_eval(done.stdout))


README = PACKAGE.parent / "README.md"


def python_blocks() -> list[str]:
    parts = README.read_text().split("```python\n")[1:]
    return [part.split("```")[0] for part in parts]


@pytest.mark.parametrize("number", range(len(python_blocks())))
def test_every_python_block_of_the_readme_runs(number: int) -> None:
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec(python_blocks()[number], {"__name__": "readme"})


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_completion_shows_public_names_only(module: Any) -> None:
    shown = [name for name in dir(module) if not name.startswith("_")]
    assert sorted(shown) == sorted(name for name in module.__all__ if not name.startswith("_"))

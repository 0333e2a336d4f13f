"""The package as a whole: who imports whom, what is exported, and that every example runs."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib.metadata
import inspect
import re
from pathlib import Path
from typing import Any

import jax
import pytest
from child import output_of

import jscope as js
import jscope.testing

PACKAGE = Path(js.__file__).parent

# Each file may import only from files further up: the table of contents, from the ground.
ORDER = [
    "_hints",
    "errors",
    "_report",
    "_names",
    "_arguments",
    "_outline",
    "_markup",
    "_others",
    "_reuse",
    "_params",
    "_layout",
    "_sharding",
    "_spec",
    "_whole",
    "_jaxapi",
    "_cache_key",
    "_calls",
    "_numbering",
    "_keys",
    "_divisible",
    "_settings",
    "regularizers",
    "constraints",
    "initializers",
    "_program",
    "_sampling",
    "_processes",
    "_record",
    "_recorder",
    "_level",
    "_reading",
    "_check",
    "_constrain",
    "_pass",
    "_arg_scope",
    "_bars",
    "_draw",
    "_losses",
    "_collections",
    "_shape_dtype",
    "_initial",
    "_request",
    "_getter",
    "_variable",
    "_state",
    "_scope",
    "_template",
    "tree._names",
    "tree._patterns",
    "tree._select",
    "tree._rename",
    "tree._size",
    "tree._stacks",
    "tree",
    "_rules",
    "_seeing",
    "getters",
    "_signature",
    "_transform",
    "_lift",
    "_capture",
    "_functionalize",
    "_stack",
    "_split",
    "_once",
    "_twins",
    "_shard_map",
    "layers._arguments",
    "layers._weights",
    "layers._windows",
    "layers._dense",
    "layers._embedding",
    "layers._dropout",
    "layers._flatten",
    "layers._conv",
    "layers._conv_transpose",
    "layers._depthwise",
    "layers._separable_conv",
    "layers._pool",
    "layers._norm",
    "layers._group_norm",
    "layers._attention",
    "layers._recurrent",
    "layers",
    "_summary._run",
    "_summary._cost",
    "_summary._facts",
    "_summary._text",
    "_summary._graph",
    "_summary._page",
    "_summary._summary",
    "_summary",
    "io._file",
    "io._dtypes",
    "io._checkpoint",
    "io._crc32c",
    "io._span",
    "io._snappy",
    "io._protobuf",
    "io._ordered_code",
    "io._table",
    "io._slices",
    "io._bundle",
    "io._tensor_proto",
    "io._tf1_file",
    "io._tensorflow",
    "io._json",
    "io._safetensors",
    "io._shards",
    "io._zip",
    "io._unzip",
    "io._npy",
    "io._tree",
    "io._npz",
    "io._foreign",
    "io._open",
    "io._atomic",
    "io._write",
    "io._save",
    "io._layers",
    "io._entries",
    "io._offers",
    "io._assignment",
    "io._source",
    "io._cast",
    "io._target",
    "io._transforms",
    "io._routes",
    "io._plan",
    "io._fixes",
    "io._misfit",
    "io._values",
    "io._restore_report",
    "io._restore",
    "io._inspect",
    "io._diff",
    "io._convert",
    "io",
    "interop._names",
    "interop._haiku",
    "interop._nnx",
    "interop._torch",
    "interop.numpyro",
    "interop",
    "_hlo",
    "testing",
    "__init__",
    "io._command_line",
    "__main__",
]


# The modules whose names users write.
PUBLIC = [
    js,
    js.constraints,
    js.getters,
    js.initializers,
    js.interop,
    js.interop.numpyro,
    js.io,
    js.layers,
    js.regularizers,
    jscope.testing,
    js.tree,
]


def name_of(file: Path) -> str:
    """The name of a file's module below jscope: ``layers._conv``; a package goes by its own."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(file): file for file in PACKAGE.rglob("*.py")}


def imports(file: Path) -> set[str]:
    """The modules of jscope that a file imports, a package and what is in it alike."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0, "imports are absolute"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    inside = {name.removeprefix("jscope.") for name in found if name.startswith("jscope.")}
    return inside & set(ORDER)


def test_the_order_names_every_file() -> None:
    assert sorted(ORDER) == sorted(FILES)


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_down_only(name: str) -> None:
    below = set(ORDER[: ORDER.index(name)])
    assert imports(FILES[name]) <= below


@pytest.mark.parametrize("name", [name for name in ORDER if name != "_jaxapi"])
def test_only_one_file_touches_the_less_public_corners_of_jax(name: str) -> None:
    text = FILES[name].read_text()
    for corner in ("jax._src", "jax.extend", "jax.interpreters", "make_user_context"):
        assert corner not in text


def test_all_is_what_can_be_imported() -> None:
    for module in (js.errors, *PUBLIC):
        assert sorted(module.__all__) == list(module.__all__)
        for name in module.__all__:
            assert hasattr(module, name)
    public = {name for name in vars(js) if not name.startswith("_")}
    assert public == {*js.__all__, "testing"}  # which is there once it is imported


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


# What a docstring says that tells only where the function differs from another one.
LIKE = re.compile(r"^(?:As ``(\w+)``, with(?=:\n)|All else as in ``(\w+)``\.\n)", re.MULTILINE)


def words_under(heading: str, text: str) -> set[str]:
    """The words that a section of a docstring tells, each as ``word: what it is``."""
    section = re.search(rf"(?m)^{heading}:\n(?:  .*\n|\n)+", text + "\n")
    return set(re.findall(r"(?m)^  \*{0,2}(\w+): ", section[0])) if section else set()


def doc_of(name: str) -> tuple[str, str | None]:
    """A docstring, and the public function whose arguments, result and errors it takes over."""
    text = inspect.getdoc(public_things()[name]) or ""
    like = LIKE.search(text)
    return text, like and f"{name.rpartition('.')[0]}.{like[1] or like[2]}"


@pytest.mark.parametrize("name", public_things())
def test_every_public_function_tells_its_arguments(name: str) -> None:
    thing, (text, like) = public_things()[name], doc_of(name)
    if not inspect.isfunction(thing) or name.endswith("no_regularizer"):
        return
    arguments = inspect.signature(thing).parameters
    told = words_under(LIKE.pattern if like else "Args", text)
    if like:
        theirs = inspect.signature(public_things()[like]).parameters
        assert words_under("Args", doc_of(like)[0]) == set(theirs), (
            f"{like} must tell all of its own"
        )
        for argument in set(arguments) - told:
            # Of the same kind, default and annotation; what differs must be told.
            assert arguments[argument] == theirs.get(argument)
            told.add(argument)
    assert told == set(arguments)


@pytest.mark.parametrize("name", public_things())
def test_every_error_that_a_docstring_tells_can_be_caught(name: str) -> None:
    text, like = doc_of(name)
    told = words_under("Raises", text)
    if like:
        told = told or words_under("Raises", doc_of(like)[0])
        assert told
    assert told <= {*js.errors.__all__, *vars(builtins)}


def test_importing_jscope_imports_nothing_but_jax() -> None:
    code = (
        "import jax, sys; before = set(sys.modules); import jscope; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before} - {'jscope', 'jax'}))"
    )
    said = output_of("-c", code)
    third_party = {"chex", "flax", "optax", "haiku", "matplotlib", "sklearn", "tqdm", "orbax"}
    assert not third_party & set(ast.literal_eval(said))


def test_what_few_programs_need_is_imported_when_it_is_used() -> None:
    code = (
        "import sys, jscope as js; edges = {'jscope.io', 'jscope.interop'}; "
        "before = edges & set(sys.modules); js.restore, js.interop; "
        "print([sorted(before), sorted(edges & set(sys.modules)), 'numpyro' in sys.modules])"
    )
    said = output_of("-c", code)
    assert ast.literal_eval(said) == [[], ["jscope.interop", "jscope.io"], False]


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_completion_shows_public_names_only(module: Any) -> None:
    shown = [name for name in dir(module) if not name.startswith("_") and name != "testing"]
    assert sorted(shown) == sorted(name for name in module.__all__ if not name.startswith("_"))


def test_what_is_told_to_install_is_this_package_and_not_anothers() -> None:
    """Another project holds the name of the import in the registry."""
    root = PACKAGE.parent
    files = [
        root / "README.md",
        *root.glob("examples/**/*.py"),
        *root.glob("tests/benchmarks/*.py"),
    ]
    told = re.compile(r"install [^\n]*\bjscope(?!-jax)\b[\[\"' ]|\[?\bjscope\[")
    for file in [*files, *PACKAGE.rglob("*.py")]:
        assert not told.search(file.read_text()), file
    metadata = importlib.metadata.metadata("jscope-jax")
    assert metadata["Author"] == "The jscope developers"
    assert metadata.get_all("Project-URL")
    assert metadata["Name"] == "jscope-jax"

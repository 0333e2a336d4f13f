"""The command line: ``jscope inspect``, ``jscope diff``, ``jscope convert``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import jscope
from jscope._arguments import bad_argument
from jscope.errors import FileError, JscopeError
from jscope.io._checkpoint import Checkpoint, nbytes_of
from jscope.io._convert import convert, new_names
from jscope.io._diff import diff
from jscope.io._file import file_error, release
from jscope.io._inspect import as_json, total_text, tree_text
from jscope.io._open import open as open_checkpoint
from jscope.io._save import save
from jscope.tree._patterns import choose

_UNCHECKED = ("safetensors", "npy")
"""Formats without checksums."""

EQUAL, DIFFERENT, TROUBLE, INTERRUPTED = 0, 1, 2, 130

_EPILOG = """\
PATH is what jscope.io.open takes: a checkpoint of TensorFlow (prefix, index, directory,
SavedModel, or a file of 2016), .safetensors, Hugging Face's index.json, .npz, .npy.
TensorFlow is not needed.

exit codes:
  0  done; of diff: equal
  1  of diff: different
  2  trouble: a file that cannot be read, a pattern that selects nothing, a wrong argument
"""

_PATTERNS = """\
PATTERN is a path by whole components ("bert/encoder", which is not "bert/encoder_2"),
a glob ("**/kernel", "layer_[0-3]/**"), or a regular expression that is searched in the
name ("re:[Aa]dam"). The option may be given several times.
"""

_MAPS = """\
FILE holds JSON, old names to new ones, as jscope.restore takes them:
  {"old/": "new/",                              a scope; "/" is the root
   "a/w": "b/w",                                one tensor
   "re:^layer\\\\.(\\\\d+)\\\\.": "layer_\\\\1/"}       a regular expression, as re.sub has it
or a list of such pairs, [["old/", "new/"], ...]. Names that it does not mention stay as they
are. A file of PyTorch's has dots, which are no scopes: {"re:\\\\.": "/"} makes them slashes.
"""

_INSPECT = f"""\
Shows the names, shapes, dtypes and sizes of a checkpoint as a tree, and totals. Reads no
tensor, unless --verify asks for all of them: their checksums are compared, where the format has
some (TensorFlow's and .npz).

{_PATTERNS}
--json prints an object with path, format, tensors (name, shape, dtype, nbytes), metadata,
notes (name -> why it has no array) and total (tensors, elements, nbytes, dtypes).

examples:
  jscope inspect model.ckpt-1000
  jscope inspect model.ckpt-1000 --drop 're:[Aa]dam' --drop 're:beta._power' --drop global_step
  jscope inspect model.ckpt-1000 --json | jq '.total'
"""

_DIFF = f"""\
Compares names, shapes, dtypes and values. NaN equals NaN. Prints a line for each difference:
  - in A alone, + in B alone, ! another shape or dtype, ~ other values
With --rtol or --atol, floats of different dtypes are compared by their values.

{_MAPS}
examples:
  jscope diff before.safetensors after.safetensors --rtol 1e-5
  jscope diff model.ckpt-1000 in_bfloat16.safetensors --rtol 0.004 --drop 're:[Aa]dam'
  jscope diff model.ckpt-1000 converted.safetensors --map names.json
"""

_CONVERT = f"""\
Writes A as B, .safetensors or .npz by its suffix, one tensor at a time. B appears when it is
whole, and takes the place of a file of that name.

{_MAPS}
{_PATTERNS}--select, --drop and --transpose mean the new names.

examples:
  jscope convert model.ckpt-1000 weights.safetensors --drop 're:[Aa]dam|beta._power' --dtype bf16
  jscope convert pytorch.safetensors bert.safetensors --map names.json --transpose '**/kernel'
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    given = _parser().parse_args(arguments)
    try:
        code = given.command(given)
        sys.stdout.flush()
    except JscopeError as error:
        code = _trouble(str(error))
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = _trouble(f"{error.filename or given.path}: {error.strerror or error}")
    except KeyboardInterrupt:
        code = INTERRUPTED
    return int(code)


def _trouble(text: str) -> int:
    print(f"jscope: {text}", file=sys.stderr)
    return TROUBLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "jscope",
        description="Looks at, compares and converts files of weights.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jscope {jscope.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    inspect = _command(commands, "inspect", _inspect, "show what is in a checkpoint", _INSPECT)
    inspect.add_argument("path", metavar="PATH", help="the checkpoint")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    _patterns(inspect, "--select", "show only these")
    _patterns(inspect, "--drop", "leave these out")
    compare = _command(commands, "diff", _diff, "compare two checkpoints", _DIFF)
    compare.add_argument("path", metavar="A", help="a checkpoint")
    compare.add_argument("other", metavar="B", help="another one")
    compare.add_argument("--map", metavar="FILE", help="new names for the tensors of A")
    compare.add_argument(
        "--rtol", type=_tolerance, default=0.0, help="relative tolerance, to B (default 0)"
    )
    compare.add_argument(
        "--atol", type=_tolerance, default=0.0, help="absolute tolerance (default 0)"
    )
    _patterns(compare, "--select", "compare only these; of A by its new names")
    _patterns(compare, "--drop", "leave these out; of A by its new names")
    write = _command(commands, "convert", _convert, "write a checkpoint in another form", _CONVERT)
    write.add_argument("path", metavar="A", help="the checkpoint")
    write.add_argument("other", metavar="B", help="the file to write")
    write.add_argument("--map", metavar="FILE", help="new names for the tensors of A")
    _patterns(write, "--select", "write only these")
    _patterns(write, "--drop", "leave these out")
    _patterns(write, "--transpose", "turn PyTorch's [out, in, ...] kernels into [..., in, out]")
    write.add_argument("--dtype", type=_float_dtype, help="dtype of all floats, such as bfloat16")
    write.add_argument(
        "--max-shard-bytes", type=int, metavar="N", help="several files and an index"
    )
    for each in (inspect, compare, write):
        checks = each.add_mutually_exclusive_group()
        checks.add_argument("--no-verify", action="store_true", help="skip the checksums")
        if each is inspect:
            checks.add_argument("--verify", action="store_true", help="read and check all tensors")
    return parser


def _command(commands: Any, name: str, run: Any, line: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=line, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(command=run)
    return parser


def _patterns(parser: argparse.ArgumentParser, option: str, line: str) -> None:
    parser.add_argument(option, action="append", metavar="PATTERN", default=[], help=line)


def _tolerance(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text} is no tolerance: give 0 or more")
    return value


def _float_dtype(text: str) -> np.dtype[np.generic]:
    short = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
    with contextlib.suppress(TypeError):
        dtype = np.dtype(jnp.dtype(short.get(text, text)))
        if jnp.issubdtype(dtype, jnp.floating):
            return dtype
    raise argparse.ArgumentTypeError(f"{text} is no dtype of floats, such as bfloat16")


def _inspect(given: argparse.Namespace) -> int:
    checkpoint = _kept(_opened(given.path, given), given, ())
    if given.verify:
        with _progress("verifying", checkpoint.nbytes) as advance:
            for name in checkpoint:
                release(checkpoint[name])
                advance(nbytes_of(checkpoint, name))
    if given.json:
        print(json.dumps(as_json(checkpoint), indent=2))
    else:
        _show(tree_text(checkpoint))
        if given.verify:
            has = "the format has none" if checkpoint.format in _UNCHECKED else "they agree"
            print(f"checksums of {len(checkpoint):,} tensors: {has}")
    return 0


def _diff(given: argparse.Namespace) -> int:
    left, right = _opened(given.path, given), _opened(given.other, given)
    left = convert(left, _names(left, given.map))
    left, right = _kept(left, given, right), _kept(right, given, left)
    with _progress("comparing", left.nbytes) as advance:
        found = diff(left, right, rtol=given.rtol, atol=given.atol, advance=advance)
    _show(str(found))
    return DIFFERENT if found else EQUAL


def _convert(given: argparse.Namespace) -> int:
    checkpoint = _opened(given.path, given)
    names = _names(checkpoint, given.map)
    kept = _chosen_of(given, names)
    names = {new: old for new, old in names.items() if new in kept}
    turned = _chosen(given.transpose, names) if given.transpose else set()
    with _progress("writing", checkpoint.nbytes) as advance:
        result = convert(checkpoint, names, dtype=given.dtype, turned=turned, advance=advance)
        save(given.other, result, max_shard_bytes=given.max_shard_bytes)
    for name, reason in checkpoint.notes.items():
        print(f"left out {name}: {reason}")
    print(f"{given.other}: {total_text(result)}")
    return 0


def _opened(path: str, given: argparse.Namespace) -> Checkpoint:
    return open_checkpoint(path, verify=not given.no_verify)


def _chosen(patterns: Sequence[str], names: Iterable[str]) -> set[str]:
    names = list(names)
    compiled = [_compiled(text) for text in patterns]
    chosen = choose(compiled, [(name, None) for name in names], allow_empty=None)
    return set(itertools.compress(names, chosen))


def _kept(checkpoint: Checkpoint, given: argparse.Namespace, other: Iterable[str]) -> Checkpoint:
    """What --select means, without what --drop does; each pattern means something here or there."""
    kept = _chosen_of(given, dict.fromkeys([*checkpoint, *other]))
    return checkpoint.select(lambda name, _: name in kept, allow_empty=True)


def _chosen_of(given: argparse.Namespace, names: Collection[str]) -> set[str]:
    kept = _chosen(given.select, names) if given.select else set(names)
    return kept - _chosen(given.drop, names) if given.drop else kept


def _names(checkpoint: Checkpoint, file: str | None) -> dict[str, str]:
    """New name -> old name of each tensor."""
    if file is None:
        return {name: name for name in checkpoint}
    return new_names(list(checkpoint), _assignment_map(file))


def _assignment_map(file: str) -> list[tuple[Any, Any]]:
    """The pairs of a file of JSON, with its regular expressions compiled."""
    try:
        with open(file, encoding="utf-8") as stream:
            found = json.load(stream)
    except (ValueError, RecursionError) as error:
        raise _no_map(file, f"it is no JSON ({error})") from None
    pairs = list(found.items()) if isinstance(found, dict) else found
    texts = isinstance(pairs, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in pairs
    )
    if not texts:
        raise _no_map(file, "it is neither an object of names nor a list of pairs of names")
    return [(_compiled(old), new) for old, new in pairs]


def _compiled(text: str) -> str | re.Pattern[str]:
    """A name or a pattern; a regular expression where ``re:`` says so."""
    if not text.startswith("re:"):
        return text
    try:
        return re.compile(text.removeprefix("re:"))
    except re.error as error:
        raise bad_argument(f"text after re: ({error})", text, "a regular expression") from None


def _no_map(file: str, problem: str) -> FileError:
    return file_error(file, problem, fix="--help shows what a map is.")


def _rich(module: str) -> Any:
    """A module of rich; None where it is not installed."""
    return importlib.import_module(module) if importlib.util.find_spec("rich") else None


def _show(text: str) -> None:
    """Prints, with colours where a terminal reads it."""
    console = _rich("rich.console") if sys.stdout.isatty() else None
    if console is None:
        print(text)
    else:
        console.Console(soft_wrap=True).print(text, markup=False)


@contextlib.contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of the bytes that are done, on a terminal, for as long as the block takes."""
    progress = _rich("rich.progress") if sys.stderr.isatty() else None
    if progress is None:
        yield lambda nbytes: None
        return
    console = _rich("rich.console").Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda nbytes: bar.advance(task, nbytes)

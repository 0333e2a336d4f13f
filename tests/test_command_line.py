"""The command line: what it prints, its exit codes, and that nothing ends in a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import jscope as js
from jscope._outline import size_text
from jscope.io._command_line import main

CHECKPOINTS = Path(__file__).parent / "data" / "checkpoints"
TREE = {
    "step": np.int64(7),
    "net/dense/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "net/dense/kernel/Adam": np.zeros([3, 4], np.float32),
    "net/dense/bias": np.array([1.0, np.nan, 3.0, 4.0], np.float32),
    "net/norm/gamma": np.ones([4], ml_dtypes.bfloat16),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    js.io.save(path, TREE, metadata={"made by": "a test"})
    return path


def changed(file: Path, **arrays: np.ndarray) -> Path:
    path = file.with_name("changed.safetensors")
    js.io.save(path, {**TREE, **{name.replace("__", "/"): x for name, x in arrays.items()}})
    return path


def ran(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(list(map(str, arguments)))
    return code, *capsys.readouterr()


def test_inspect_draws_scopes_types_sizes_and_totals(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(capsys, "inspect", file) == (
        0,
        f"{file} (safetensors)\n"
        "net/                       120 B\n"
        "  dense/                   112 B\n"
        "    bias     float32[4]     16 B\n"
        "    kernel   float32[3,4]   48 B\n"
        "    kernel/                 48 B\n"
        "      Adam   float32[3,4]   48 B\n"
        "  norm/                      8 B\n"
        "    gamma    bfloat16[4]     8 B\n"
        "step         int64[]         8 B\n"
        "metadata made by: a test\n"
        "5 tensors, 33 elements, 128 B: float32 112 B, int64 8 B, bfloat16 8 B\n",
        "",
    )


def test_wide_characters_take_two_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"net": {"模型": np.float32([1]), "w": np.float32([1, 2])}}
    js.io.save(tmp_path / "a.npz", names)
    assert ran(capsys, "inspect", tmp_path / "a.npz")[1].splitlines()[1:4] == [
        "net/                12 B",
        "  w     float32[2]   8 B",
        "  模型  float32[1]   4 B",
    ]


def test_inspect_selects_by_patterns(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran(capsys, "inspect", file, "--select", "**/bias", "--select", "step")
    assert code == 0
    assert out.splitlines()[-1] == "2 tensors, 5 elements, 24 B: float32 16 B, int64 8 B"
    rest = ran(capsys, "inspect", file, "--drop", "re:[Aa]dam", "--drop", "net/norm")[1]
    assert rest.splitlines()[-1] == "3 tensors, 17 elements, 72 B: float32 64 B, int64 8 B"


def test_inspect_as_json_has_what_the_checkpoint_has(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = ran(capsys, "inspect", file, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["path"] == str(file)
    assert found["format"] == "safetensors"
    assert found["metadata"] == {"made by": "a test"}
    assert found["notes"] == {}
    assert {(x["name"], tuple(x["shape"]), x["dtype"], x["nbytes"]) for x in found["tensors"]} == {
        (name, array.shape, str(array.dtype), array.nbytes) for name, array in TREE.items()
    }
    assert found["total"] == {
        "tensors": 5,
        "elements": 33,
        "nbytes": 128,
        "dtypes": {"float32": 112, "int64": 8, "bfloat16": 8},
    }


def test_inspect_reads_no_tensor(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checksum that does not match is found where a tensor is read, and nowhere else."""
    path = file.with_suffix(".npz")
    js.io.save(path, {"w": np.arange(4.0)})
    data = path.read_bytes()
    path.write_bytes(data.replace(np.float64(2).tobytes(), np.float64(5).tobytes()))
    assert ran(capsys, "inspect", path)[0] == 0
    for command in (["diff", path, path], ["inspect", path, "--verify"]):
        code, out, error = ran(capsys, *command)
        assert (code, out, "CRC-32" in error) == (2, "", True)
    assert ran(capsys, "diff", path, path, "--no-verify")[0] == 0
    code, out, _ = ran(capsys, "inspect", file, "--verify")
    assert (code, out.splitlines()[-1]) == (0, "checksums of 5 tensors: the format has none")
    js.io.save(path, {"w": np.arange(4.0)})
    code, out, _ = ran(capsys, "inspect", path, "--verify")
    assert (code, out.splitlines()[-1]) == (0, "checksums of 1 tensors: they agree")


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_400, "99.4 kB"), (99_500, "100 kB")),
        *((999_499, "999 kB"), (999_500, "1.0 MB"), (1.234e9, "1.2 GB"), (5e15, "5000 TB")),
    ],
)
def test_sizes_have_two_or_three_digits(nbytes: float, text: str) -> None:
    assert size_text(nbytes) == text


def test_equal_checkpoints_are_equal_and_nan_equals_nan(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = file.with_name("other.safetensors")
    js.io.save(other, TREE)
    assert ran(capsys, "diff", file, other) == (
        0,
        "0 in A alone, 0 in B alone, 0 of another type, 0 of other values, 5 equal\n",
        "",
    )


def test_diff_tells_names_types_and_values(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = TREE["net/dense/kernel"].copy()
    kernel[1, 2] += 0.5
    other = file.with_name("other.safetensors")
    tree = {**TREE, "net/dense/kernel": kernel, "step": np.int32(7)}
    tree["net/dense/biases"] = tree.pop("net/dense/bias")
    js.io.save(other, tree)
    assert ran(capsys, "diff", file, other) == (
        1,
        "- net/dense/bias  float32[4]  (near 'net/dense/biases')\n"
        "+ net/dense/biases  float32[4]  (near 'net/dense/bias')\n"
        "! step  int64[] and int32[]\n"
        "~ net/dense/kernel  float32[3,4]: 1 of 12 differ, the furthest by 0.5 (absolute)\n"
        "1 in A alone, 1 in B alone, 1 of another type, 1 of other values, 2 equal\n",
        "",
    )


@pytest.mark.parametrize(
    ("options", "code"),
    [
        *(([], 1), (["--rtol", "0.01"], 0), (["--rtol", "0.001"], 1)),
        *((["--atol", "0.02"], 0), (["--atol", "0.005"], 1)),
    ],
)
def test_tolerances_are_relative_to_the_second_and_absolute(
    file: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int
) -> None:
    other = changed(file, net__dense__bias=np.array([1.01, np.nan, 3.0, 4.0], np.float32))
    assert ran(capsys, "diff", file, other, *options)[0] == code


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_no_tolerance_takes_a_number_for_infinity_or_nan(
    file: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    other = changed(file, net__dense__bias=np.array([value, np.nan, 3.0, 4.0], np.float32))
    for paths in ((file, other), (other, file)):
        assert ran(capsys, "diff", *paths, "--rtol", "1", "--atol", "9")[0] == 1


def test_diff_of_selected_names(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = changed(file, step=np.int64(8))
    code, out, _ = ran(capsys, "diff", file, other, "--select", "net")
    assert (code, out[-9:]) == (0, " 4 equal\n")
    assert ran(capsys, "diff", file, other, "--select", "step")[0] == 1
    code, out, _ = ran(capsys, "diff", file, other, "--drop", "re:^st[aeiou]p$")
    assert (code, out[-9:]) == (0, " 4 equal\n")


def test_with_a_tolerance_floats_of_different_dtypes_are_compared(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = file.with_name("other.safetensors")
    assert ran(capsys, "convert", file, other, "--dtype", "bf16")[0] == 0
    assert ran(capsys, "diff", file, other)[1].splitlines()[-2:] == [
        "--rtol compares floats of different dtypes by their values",
        "0 in A alone, 0 in B alone, 3 of another type, 0 of other values, 2 equal",
    ]
    assert ran(capsys, "diff", file, other, "--rtol", "0.004")[0] == 0
    other = changed(file, net__dense__bias=np.array([1.0, np.nan, 3.0, 5.0], np.float64))
    assert ran(capsys, "diff", file, other, "--rtol", "0.004")[1] == (
        "~ net/dense/bias  float32[4] and float64[4]: 1 of 4 differ, the furthest by 1 (absolute)\n"
        "0 in A alone, 0 in B alone, 0 of another type, 1 of other values, 4 equal\n"
    )


MAPS = {
    "a scope": {"net/": "model/"},
    "a name": {"step": "global_step"},
    "regular expressions": {r"re:^net/(\w+)/kernel": r"\1/weights", "re:^step$": "steps"},
    "pairs": [["net/dense/", "dense/"], ["net/norm/", "norm/"]],
    "two targets": {"step": ["step_a", "step_b"]},
    "the root": {"/": "all/"},
}


@pytest.mark.parametrize("name", MAPS)
def test_convert_renames_and_diff_finds_it_again(
    file: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    names, target = file.with_name("names.json"), file.with_name("new.safetensors")
    names.write_text(json.dumps(MAPS[name]))
    assert ran(capsys, "convert", file, target, "--map", names)[0] == 0
    assert set(js.io.open(target)) != set(TREE)
    count = len(js.io.open(target))
    code, out, error = ran(capsys, "diff", file, target, "--map", names)
    assert (code, out.splitlines()[-1].split(", ")[-1], error) == (0, f"{count} equal", "")


def test_names_that_a_map_does_not_mention_stay(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, target = file.with_name("names.json"), file.with_name("new.safetensors")
    names.write_text('{"net/dense/": "layer_0/"}')
    assert ran(capsys, "convert", file, target, "--map", names)[0] == 0
    assert set(js.io.open(target)) == {
        *("layer_0/kernel", "layer_0/kernel/Adam", "layer_0/bias", "net/norm/gamma", "step")
    }


def test_convert_drops_and_casts_floats_only(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = file.with_name("new.safetensors")
    code, out, _ = ran(capsys, "convert", file, target, "--drop", "**/Adam", "--dtype", "bfloat16")
    assert code == 0
    assert out == f"{target}: 4 tensors, 21 elements, 48 B: bfloat16 40 B, int64 8 B\n"
    found = js.io.open(target)
    assert found["step"] == 7
    assert found.metadata == {"made by": "a test"}
    np.testing.assert_array_equal(
        found["net/dense/kernel"], TREE["net/dense/kernel"].astype(ml_dtypes.bfloat16)
    )


def test_convert_selects(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = file.with_name("new.safetensors")
    options = ["--select", "net", "--drop", "re:Adam"]
    assert ran(capsys, "convert", file, target, *options)[0] == 0
    assert set(js.io.open(target)) == {"net/dense/bias", "net/dense/kernel", "net/norm/gamma"}


def test_convert_turns_the_kernels_of_pytorch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linear, conv = np.arange(6.0).reshape(2, 3), np.arange(120.0).reshape(2, 3, 4, 5)
    tree = {"linear.weight": linear, "conv.weight": conv, "embed.weight": linear}
    js.io.save(tmp_path / "a.npz", tree)
    names = tmp_path / "names.json"
    names.write_text(r'{"re:^(linear|conv)\\.weight": "\\1/kernel", "embed.weight": "embed/table"}')
    options = ["--map", names, "--transpose", "**/kernel"]
    assert ran(capsys, "convert", tmp_path / "a.npz", tmp_path / "b.npz", *options)[0] == 0
    found = js.io.open(tmp_path / "b.npz")
    np.testing.assert_array_equal(found["linear/kernel"], linear.T)
    np.testing.assert_array_equal(found["conv/kernel"], conv.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(found["embed/table"], linear)


def test_dots_become_slashes_by_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    js.io.save(tmp_path / "a.npz", {"encoder.layer.0.weight": np.ones(2)})
    (tmp_path / "dots.json").write_text(r'{"re:\\.": "/"}')
    options = ["--map", tmp_path / "dots.json"]
    assert ran(capsys, "convert", tmp_path / "a.npz", tmp_path / "b.npz", *options)[0] == 0
    assert list(js.io.open(tmp_path / "b.npz")) == ["encoder/layer/0/weight"]


def test_transposed_kernels_in_another_dtype(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = np.arange(6.0).reshape(2, 3)
    js.io.save(tmp_path / "a.npz", {"kernel": kernel})
    options = ["--transpose", "kernel", "--dtype", "float16"]
    assert ran(capsys, "convert", tmp_path / "a.npz", tmp_path / "b.npz", *options)[0] == 0
    np.testing.assert_array_equal(
        js.io.open(tmp_path / "b.npz")["kernel"], kernel.T.astype(np.float16)
    )


def test_convert_writes_several_files(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = file.with_name("new.safetensors")
    assert ran(capsys, "convert", file, target, "--max-shard-bytes", 60)[0] == 0
    assert len(list(file.parent.glob("new-*.safetensors"))) > 1
    assert ran(capsys, "diff", file, target)[0] == 0


def test_what_has_no_array_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", words=np.array(["a", "b"]), w=np.ones(2))
    _, out, _ = ran(capsys, "inspect", tmp_path / "a.npz")
    assert "no array words: " in out
    target = tmp_path / "b.safetensors"
    code, out, _ = ran(capsys, "convert", tmp_path / "a.npz", target)
    assert (code, "left out words: " in out, list(js.io.open(target))) == (0, True, ["w"])


@pytest.fixture
def folder(file: Path) -> Path:
    """Where ``weights.safetensors`` is, beside things that are wrong."""
    texts = {
        "no.json": "[1,",
        "flat.json": "[1, 2]",
        "number.json": '{"step": 3}',
        "regex.json": '{"re:(": "x"}',
        "nowhere.json": '{"nett/": "model/"}',
        "twice.json": '{"step": "net/dense/bias"}',
    }
    for name, text in texts.items():
        (file.parent / name).write_text(text)
    (file.parent / "broken.safetensors").write_bytes(file.read_bytes()[:-1])
    js.io.save(file.parent / "large.npz", {"w": np.array([7e4])})
    return file.parent


# The arguments, with the folder of the files left out, and how the report begins.
TROUBLE = {
    "no file": ("inspect @nothing", "@nothing: there is no such file."),
    "a broken file": ("inspect @broken.safetensors", "@broken.safetensors"),
    "a pattern for nothing": (
        "inspect @weights.safetensors --select nett",
        "The pattern 'nett' selects nothing among",
    ),
    "a pattern for nothing on both sides": (
        "diff @weights.safetensors @weights.safetensors --select nett",
        "The pattern 'nett' selects nothing among",
    ),
    "to drop nothing": (
        "convert @weights.safetensors @new.npz --drop **/Adamm",
        "The pattern '**/Adamm' selects nothing among",
    ),
    "no JSON": (
        "convert @weights.safetensors @new.npz --map @no.json",
        "@no.json: it is no JSON (",
    ),
    "no pairs": (
        "convert @weights.safetensors @new.npz --map @flat.json",
        "@flat.json: it is neither an object of names nor a list of pairs of names.",
    ),
    "no name": (
        "convert @weights.safetensors @new.npz --map @number.json",
        "'step': 3 is no entry of an assignment map.",
    ),
    "no regular expression": (
        "convert @weights.safetensors @new.npz --map @regex.json",
        "The text after re: (missing ), unterminated subpattern at position 0) must be a regular",
    ),
    "no scope of the file": (
        "convert @weights.safetensors @new.npz --map @nowhere.json",
        "The source has no scope 'nett', which the map's 'nett/': 'model/' names.",
    ),
    "no map": (
        "convert @weights.safetensors @new.npz --map @nomap.json",
        "@nomap.json: No such file or directory",
    ),
    "two of one name": (
        "convert @weights.safetensors @new.safetensors --map @twice.json",
        "Two tensors would have the name net/dense/bias.",
    ),
    "no format": (
        "convert @weights.safetensors @new.txt",
        "The path must end in .safetensors or .npz",
    ),
    "values beyond a dtype": (
        "convert @large.npz @new.npz --dtype float16",
        "w cannot be written as float16: it is float64[1] with values beyond it.",
    ),
    "no kernel": (
        "convert @weights.safetensors @new.safetensors --transpose step",
        "step cannot be transposed: it has the shape ()",
    ),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_is_a_report_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, report = (text.replace("@", f"{folder}/") for text in TROUBLE[name])
    before = set(folder.iterdir())
    code, out, error = ran(capsys, *arguments.split())
    assert (code, out) == (2, "")
    assert error.startswith(f"jscope: {report}")
    assert set(folder.iterdir()) == before  # nothing is left of a file that failed


@pytest.mark.parametrize(
    ("arguments", "report"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["show"], "invalid choice: 'show'"),
        (["convert", "a", "b.npz", "--dtype", "int8"], "int8 is no dtype of floats"),
        (["convert", "a", "b.npz", "--dtype", "wide"], "wide is no dtype of floats"),
        (["diff", "a", "b", "--rtol", "-1"], "-1 is no tolerance"),
        (["diff", "a", "b", "--rtol", "nan"], "nan is no tolerance"),
        (["diff", "a"], "the following arguments are required: B"),
        (["inspect", "a", "--verify", "--no-verify"], "not allowed with argument --verify"),
    ],
)
def test_a_wrong_argument_is_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], report: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert report in capsys.readouterr().err


@pytest.mark.parametrize("command", ["inspect", "diff", "convert"])
def test_help_has_examples_and_what_patterns_or_maps_are(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"examples:\n  jscope {command} " in text
    assert "PATTERN is a path" in text or "FILE holds JSON" in text


def test_the_map_that_help_shows_is_one(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    text = capsys.readouterr().out
    shown = re.search(r"\{.*?\}(?= )", text, re.DOTALL)
    assert shown is not None
    map_text = re.sub(r" {4,}[^\n]*$", "", shown[0], flags=re.MULTILINE)
    assert json.loads(map_text)[r"re:^layer\.(\d+)\."] == r"layer_\1/"


def test_it_runs_as_a_module_and_a_closed_pipe_is_no_trouble(file: Path) -> None:
    command = [sys.executable, "-m", "jscope", "inspect", str(file)]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_checkpoint_of_tensorflow_is_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new.safetensors"
    source = next(path for path in sorted(CHECKPOINTS.rglob("*.index")) if "part" in str(path))
    assert ran(capsys, "convert", source, target)[0] == 0
    assert ran(capsys, "diff", source, target)[0] == 0

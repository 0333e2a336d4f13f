"""What mypy and pyright, both strict, find in programs of users."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mypy.api
import pytest

import jscope as js

ROOT = Path(js.__file__).parent.parent
RIGHT, WRONG = (Path(__file__).with_name(f"types_{kind}.py") for kind in ("right", "wrong"))

Reports = dict[str, dict[int, str]]
"""File -> line -> what is wrong with it."""


def of_mypy(folder: Path) -> Reports:
    config = folder / "mypy.ini"
    config.write_text(f"[mypy]\nmypy_path = {ROOT}\n")
    strictly = ("--strict", "--follow-imports=silent", "--no-incremental", "--output=json")
    out, errors, _ = mypy.api.run([*strictly, f"--config-file={config}", str(RIGHT), str(WRONG)])
    assert not errors
    reports: Reports = {RIGHT.name: {}, WRONG.name: {}}
    for found in map(json.loads, out.splitlines()):
        reports[Path(found["file"]).name][found["line"]] = found["message"]
    return reports


def of_pyright(folder: Path) -> Reports:
    config = folder / "pyrightconfig.json"
    files = [str(RIGHT), str(WRONG)]
    config.write_text(json.dumps({"typeCheckingMode": "strict", "include": files}))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", f"--project={config}"]
    done = subprocess.run(
        [*command, f"--pythonpath={sys.executable}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # as an installed package, with py.typed
    )
    result = json.loads(done.stdout)
    assert result["summary"]["filesAnalyzed"] == 2
    reports: Reports = {RIGHT.name: {}, WRONG.name: {}}
    for found in result["generalDiagnostics"]:
        line = found["range"]["start"]["line"] + 1
        reports[Path(found["file"]).name][line] = found["message"]
    return reports


@pytest.fixture(scope="module", params=[of_mypy, of_pyright], ids=["mypy", "pyright"])
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    found: Reports = request.param(tmp_path_factory.mktemp("types"))
    return found


def test_right_calls_have_the_types_that_they_say(reports: Reports) -> None:
    assert reports[RIGHT.name] == {}


def test_wrong_calls_are_reported_and_nothing_else(reports: Reports) -> None:
    lines = WRONG.read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if "  # wrong" in line}
    found = reports[WRONG.name]
    assert {number: lines[number - 1] for number in marked - set(found)} == {}
    assert {number: found[number] for number in set(found) - marked} == {}

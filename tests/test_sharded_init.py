"""Sharded inits compile each program once, hold no variable whole, and give the same bits."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "sharded_init_programs.py"
KINDS = ("auto", "explicit")


@functools.cache
def run() -> subprocess.CompletedProcess[str]:
    """One process with 8 devices, for all tests of this file."""
    root = str(SCRIPT.parent.parent)
    flags = "--xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": root}
    command = [sys.executable, "-W", "ignore", str(SCRIPT)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def found() -> Any:
    done = run()
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_every_initializer_gives_the_bits_without_a_mesh_on(kind: str) -> None:
    ends = found()["values"][kind]
    assert len(ends) == {"auto": 27, "explicit": 30}[kind]
    assert {name: end for name, end in ends.items() if end != "ok"} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_each_program_shape_and_layout_is_compiled_once_on(kind: str) -> None:
    assert found()["compilations"][kind] == [6, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_no_device_samples_the_whole_of_what_is_divided_on(kind: str) -> None:
    assert found()["temporaries"][kind]
    for name, part in found()["temporaries"][kind].items():
        assert part < 0.6, name  # an eighth of it, and three such of random bits


def test_each_device_holds_its_part_alone() -> None:
    assert found()["held"] == [512 * 512 * 4 // 8] * 2


def test_a_step_for_devices_that_are_nowhere_is_lowered_without_an_array() -> None:
    simulated = found()["simulated"]
    assert simulated == {
        "parameters": simulated["parameters"],
        "allocated": 0,
        "partitions": True,
        "divided": True,
    }
    assert simulated["parameters"] > 2_000_000

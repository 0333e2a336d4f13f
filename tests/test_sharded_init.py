"""Sharded inits compile each program once, hold no variable whole, and give the same bits."""

from __future__ import annotations

from typing import Any

import pytest
from devices import on_eight_devices

KINDS = ("auto", "explicit")


def found() -> Any:
    return on_eight_devices("sharded_init_programs.py", optimized=True)


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

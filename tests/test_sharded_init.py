"""Sharded inits compile each program once, hold no variable whole, and give the same bits."""

from __future__ import annotations

from typing import Any

import pytest
from devices import on_eight_devices

KINDS = ("auto", "explicit")
MESHES = (*KINDS, "mixed", "mixed, explicit first")


def found() -> Any:
    return on_eight_devices("sharded_init_programs.py", optimized=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_initializer_gives_the_bits_without_a_mesh_on(kind: str) -> None:
    ends = found()["values"][kind]
    assert len(ends) == {"auto": 27, "explicit": 30}[kind]
    assert {name: end for name, end in ends.items() if end != "ok"} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_so_do_variables_of_one_number_a_device_on(kind: str) -> None:
    assert found()["single numbers"][kind] == {"vector": True, "matrix": True}


@pytest.mark.parametrize("kind", MESHES)
def test_a_mesh_that_is_given_holds_inside_transforms_on(kind: str) -> None:
    ends = found()["transformed"][kind]
    assert len(ends) == 14
    refused = {name: end for name, end in ends.items() if end != "ok"}
    # A jit or a gradient around it is to know the devices of explicit axes.
    by_jax = {"auto": 0, "explicit": 4}.get(kind, 1)
    assert len(refused) == by_jax, refused
    assert all(name.endswith("False") for name in refused)


@pytest.mark.parametrize("kind", MESHES)
def test_axes_have_the_order_that_is_asked_for_on(kind: str) -> None:
    assert found()["to the letter"][kind]


@pytest.mark.parametrize("kind", MESHES)
def test_constants_come_from_wherever_they_are_on(kind: str) -> None:
    assert found()["from elsewhere"][kind]


@pytest.mark.parametrize("kind", MESHES)
def test_stacks_and_plants_take_inputs_that_are_on_no_mesh_on(kind: str) -> None:
    ends = found()["unplaced"][kind]
    assert ends == dict.fromkeys(ends, True)
    assert len(ends) == 4


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

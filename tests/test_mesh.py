"""On every mesh init, specs and apply accept the same programs, with the values without a mesh."""

from __future__ import annotations

from typing import Any

import pytest
from devices import on_eight_devices
from mesh_programs import COMPILED, LAYERS, MESHES, PAIRS, PROGRAMS


def found() -> Any:
    return on_eight_devices("mesh_programs.py")


@pytest.mark.parametrize("kind", MESHES)
def test_init_specs_apply_and_the_program_by_hand_end_alike_on(kind: str) -> None:
    outcomes = found()["programs"][kind]
    assert outcomes.keys() == PROGRAMS.keys() | PAIRS.keys()
    differ = {name: ends for name, ends in outcomes.items() if len(set(ends.values())) > 1}
    assert not differ
    accepted = [name for name, ends in outcomes.items() if ends["apply"] == "ok"]
    assert len(accepted) > len(outcomes) / 2


def test_explicit_meshes_refuse_what_is_refused_by_hand() -> None:
    outcomes = found()["programs"]["explicit"]
    assert {name for name, ends in outcomes.items() if ends["init"] == "ShardingTypeError"} >= {
        "gather",
        "concatenate",
        "dynamic_update_slice of the batch",
    }
    assert outcomes["shard_map"]["init"] == "NotImplementedError"
    assert outcomes["vmap"]["init"] == outcomes["dynamic_update_slice"]["init"] == "ok"


@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_arguments_have_the_types_in_init_that_they_have_in_apply(kind: str) -> None:
    for argument, types in found()["arguments"][kind].items():
        assert len(types) >= 3, argument
        assert len(set(types)) == 1, argument


@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_initial_values_are_born_on_the_mesh_as_their_placeholders_say(kind: str) -> None:
    ends = found()["initial values"][kind]
    assert len(ends) == 18
    assert {name: end for name, end in ends.items() if end != "ok"} == {}


@pytest.mark.parametrize("kind", COMPILED)
def test_layers_of_a_sharded_batch_give_the_values_without_a_mesh(kind: str) -> None:
    ends = found()["layers"][kind]
    assert ends.keys() == LAYERS.keys()
    assert {name: end for name, end in ends.items() if end != "ok"} == {}

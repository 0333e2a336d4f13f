"""Layers of sharded weights and batches give the values and gradients of whole ones, or refuse."""

from __future__ import annotations

from typing import Any

import pytest
import sharded_getters
import sharded_sequences
from devices import on_eight_devices
from sharded_layers import LAYERS, MESHES, REFUSED, RULES, TABLE


def found(script: str = "sharded_layers.py") -> Any:
    return on_eight_devices(script)


@pytest.mark.parametrize(
    ("kind", "rules"), sorted({*TABLE.items(), *(("explicit", rules) for rules in RULES)})
)
def test_sharded_layers_are_accepted_and_equal_whole_ones_on(kind: str, rules: str) -> None:
    ends = found()[kind][rules]
    assert ends.keys() == LAYERS.keys() | REFUSED.keys()
    assert {name: ends[name] for name in LAYERS if ends[name] != "ok"} == {}


@pytest.mark.parametrize("kind", MESHES)
def test_a_loop_from_an_undivided_state_is_refused_where_types_tell_on(kind: str) -> None:
    for ends in found()[kind].values():
        for name in REFUSED:
            refused = ends[name].startswith("TypeError: scan body function carry input")
            assert refused == kind.startswith("explicit"), ends[name]


ON = sorted({*sharded_sequences.KINDS.items(), *(("explicit", rules) for rules in RULES)})


@pytest.mark.parametrize(("kind", "rules"), ON)
def test_layers_of_what_is_divided_in_time_equal_those_of_whole_batches_on(
    kind: str, rules: str
) -> None:
    ends = found("sharded_sequences.py")[kind][rules]
    assert ends == dict.fromkeys(sharded_sequences.LAYERS, "ok")


@pytest.mark.parametrize(("kind", "rules"), [*ON, ("explicit", "crossed")])
def test_getters_and_regularizers_of_sharded_weights_equal_those_of_whole_ones_on(
    kind: str, rules: str
) -> None:
    ends = found("sharded_getters.py")[kind][rules]
    assert ends == dict.fromkeys(sharded_getters.FUNCTIONS, "ok")


MODELS_ON = list(MESHES)


@pytest.mark.parametrize("kind", MODELS_ON)
def test_sharded_models_of_the_examples_equal_whole_ones_on(kind: str) -> None:
    ends = found("sharded_models.py")["compiled"][kind]
    assert len(ends) == 8
    assert {name: end for name, end in ends.items() if end != "ok"} == {}


@pytest.mark.parametrize("kind", MODELS_ON[1:])
def test_what_models_do_by_hand_is_refused_by_jax_as_they_stand_on(kind: str) -> None:
    import sharded_models  # here, because it imports what the examples need

    ends = found("sharded_models.py")["traced"][kind]
    refused = {name for name, end in ends.items() if end.startswith("ShardingTypeError: ")}
    assert refused == sharded_models.REFUSED[kind]
    assert {end for name, end in ends.items() if name not in refused} == {"ok"}

"""jscope against what Keras 3 and Haiku did, as recorded in ``data`` by ``data/record_peers.py``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peer_tables
import pytest
from tf1_tables import Case, fill

import jscope as js

PEERS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "peers.json").read_text())
LAYERS: dict[str, Any] = PEERS["layers"]


def assert_as_recorded(case: Case, fn: Callable[[jax.Array], jax.Array]) -> None:
    """Variables, outputs, and gradients of the outputs times weights."""
    wanted = LAYERS[case.title]
    net, inputs = js.transform(fn), jnp.asarray(case.inputs)
    specs = net.specs(inputs)
    assert {name: list(spec.shape) for name, spec in specs.items()} == wanted["variables"]
    params = js.tree.unflatten({name: fill(name, spec.shape) for name, spec in specs.items()})

    def loss(inputs: jax.Array, params: Any) -> tuple[jax.Array, jax.Array]:
        outputs = net.apply(params, None, inputs)
        return (outputs * fill("weights", outputs.shape)).sum(), outputs

    (_, outputs), (by_inputs, by_params) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
        inputs, params
    )
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(outputs, np.array(wanted["outputs"]), **close)
    np.testing.assert_allclose(by_inputs, np.array(wanted["gradient"]), **close)
    products = jax.tree.map(lambda a, b: (a * b).sum(), params, by_params)
    total = sum(jax.tree.leaves(products))
    np.testing.assert_allclose(total, wanted["by_variables"], rtol=1e-4, atol=1e-4)


def by_title(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case.title for case in cases])


@by_title(peer_tables.LAYERS)
def test_a_layer_computes_what_it_does_in_keras(case: Case) -> None:
    layer = getattr(js.layers, case.layer)
    assert_as_recorded(case, lambda x: layer(x, **case.options))


SPATIAL = [case for case in peer_tables.LAYERS if "conv" in case.layer]


@by_title(SPATIAL)
def test_channels_first_is_the_transpose_of_channels_last(case: Case) -> None:
    layer = getattr(js.layers, case.layer)

    def transposed(x: jax.Array) -> jax.Array:
        outputs = layer(jnp.moveaxis(x, -1, 1), data_format="channels_first", **case.options)
        return jnp.moveaxis(outputs, 1, -1)

    assert_as_recorded(case, transposed)


@pytest.mark.parametrize("dropping", [False, True], ids=["", "in the code of dropout"])
@by_title(peer_tables.ATTENTIONS)
def test_attention_computes_what_it_does_in_keras(
    case: Case, dropping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dict(case.options)
    for name in ("keys", "values", "mask"):
        if name in options:
            options[name] = jnp.asarray(fill(name, tuple(options[name])))
    if "mask" in options:
        options["mask"] = options["mask"] > -0.2
    if dropping:  # which drops nothing
        monkeypatch.setattr("jscope.layers._attention.dropout", lambda x, rate, training: x)
        options |= {"dropout_rate": 0.5, "training": True}
    assert_as_recorded(case, lambda x: js.layers.multi_head_attention(x, **options))


@pytest.mark.parametrize("index", range(len(peer_tables.SPECTRAL)))
def test_spectral_normalization_iterates_as_in_haiku(index: int) -> None:
    case = PEERS["spectral_normalization"][index]
    shape = tuple(case["shape"])
    normal = js.getters.spectral_normalization(iterations=case["iterations"])

    def fn() -> jax.Array:
        with js.variable_scope("a", custom_getter=normal):
            return js.get_variable("kernel", shape)

    net = js.transform_with_state(fn)
    params = {"a": {"kernel": fill("kernel", shape)}}
    state: Any = {"a": {"kernel_u": fill("kernel_u", (1, shape[-1]))[0]}}
    for read in case["reads"]:
        kernel, state = net.apply(params, state, None)
        np.testing.assert_allclose(kernel, np.array(read["kernel"]), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state["a"]["kernel_u"], np.array(read["u"]), atol=1e-5)


def test_every_case_is_recorded() -> None:
    cases = peer_tables.LAYERS + peer_tables.ATTENTIONS
    assert list(LAYERS) == [case.title for case in cases]
    found = [
        {word: case[word] for word in ("shape", "iterations")}
        for case in PEERS["spectral_normalization"]
    ]
    assert found == peer_tables.SPECTRAL

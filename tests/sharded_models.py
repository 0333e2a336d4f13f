"""The models of the examples on sharded weights and batches, as ``sharded_layers.py`` has layers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from sharded_layers import MESHES, RULES, agreement, inputs, plain

sys.path.append(str(Path(__file__).parent.parent / "examples"))
import char_lm
import digits
import dqn
import gan
import lora
import minilm
import mnist
import siamese


def ids(x: Any, count: int) -> jax.Array:
    """Numbers below a count, [8, 4]."""
    return abs(9 * x[:, :, 0, 0]).astype(int) % count


def images(x: Any) -> jax.Array:
    return x.reshape(8, 128).reshape(8, 8, 16, 1)


def rows(x: Any, start: int) -> jax.Array:
    return x.reshape(8, 128)[:, start : start + 64]


def transitions(x: Any) -> dict[str, jax.Array]:
    states = {"state": x[:, 0, 0, :4], "after": x[:, 0, 1, :4]}
    return {**states, "action": ids(x, 2)[:, 0], "fell": x[:, 0, 0, 0] > 1, "reward": x[:, 0, 0, 1]}


LANGUAGE = char_lm.Sizes(alphabet=16, context=8, width=16, layers=2, heads=4)
BERT = minilm.Sizes(16, 8, 16, 32, 2, 4)
# Each is a function of what the layers are functions of, [8, 4, 4, 8].
MODELS: dict[str, Callable[[Any], Any]] = {
    "char_lm": lambda x: char_lm.gpt(LANGUAGE, ids(x, 16)),
    "digits": lambda x: digits.classify(images(x)),
    "dqn": lambda x: dqn.td_loss(transitions(x)),
    "gan": lambda x: gan.gan(rows(x, 0), ids(x, 10)[:, 0]),
    "lora": lambda x: lora.with_adapters(lora.classify)(images(x)),
    "minilm": lambda x: minilm.encode(minilm.embed(ids(x, 16), BERT), ids(x, 9) > 0, sizes=BERT),
    # Values alone: a millionth more of x moves these gradients by half, without a mesh too.
    "mnist": lambda x: jax.lax.stop_gradient(mnist.towers(images(x), ids(x, 10)[:, 0], images(x))),
    "siamese": lambda x: siamese.compare(rows(x, 0), rows(x, 64), reuse=True),
}

# What the models do by hand, and JAX asks how it is laid out: lookups, reshapes, convolutions.
BY_HAND = {"char_lm", "digits", "gan", "minilm", "mnist"}
REFUSED = {
    "explicit": BY_HAND | {"siamese"},
    "explicit data, auto model": BY_HAND,
}
COMPILED = ("auto", *REFUSED)


def main() -> None:
    """As they stand, traced; and compiled in ``jax.sharding.auto_axes``, which asks for nothing."""
    x = inputs()
    without = plain(MODELS, x)

    def ends(kind: str, **options: bool) -> dict[str, str]:
        return agreement(MESHES[kind], RULES["both"], without, x, **options)

    traced = {kind: ends(kind, compiled=False) for kind in REFUSED}
    compiled = {kind: ends(kind, compiled=True, all_auto=True) for kind in COMPILED}
    print(json.dumps({"traced": traced, "compiled": compiled}))


if __name__ == "__main__":
    main()

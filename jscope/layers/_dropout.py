"""dropout: masks that follow from the rng of the pass."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jscope._arg_scope import add_arg_scope
from jscope._arguments import bad_argument, widened
from jscope._draw import next_rng_key
from jscope._seeing import record
from jscope._sharding import layout, sharding
from jscope.layers._arguments import Name, check_array, check_training, takes_tf1
from jscope.layers._weights import layer_scope


@add_arg_scope
@takes_tf1()
def dropout(
    inputs: jax.Array,
    rate: float | jax.Array = 0.5,
    noise_shape: Sequence[int | None] | None = None,
    seed: None = None,
    training: bool = False,
    name: Name = None,
) -> jax.Array:
    """Drops units at random while training, as TF1's ``tf.layers.dropout``; scales the others up.

    The mask follows from the ``rng`` of the pass and the layer's own scope ("dropout", "dropout_1",
    ...): other layers change nothing about it. Without training, and at rate 0, no key is drawn.

    Args:
      inputs: Floats of any shape.
      rate: Fraction to drop, 0 <= rate < 1. A number, or a scalar array, which is not checked.
      noise_shape: Shape of the mask, to be broadcast: 1 where an axis shares one draw, and None
        where it has the inputs' size. The inputs' shape unless given.
      seed: None. TF1's seeds have no counterpart, as ``rng`` says it all: another is refused.
      training: Whether to drop anything; a Python bool.
      name: Name of the scope, or a scope; else "dropout", "dropout_1", ...

    Returns:
      Floats of the inputs' shape.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      RngError: (ValueError) there is a mask to draw and ``rng`` is None.
      TransformError: (ValueError) called inside a raw transform that would repeat the mask.
      JscopeError: As ``variable_scope``.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.dropout(x, 0.5, training=True))
      >>> sorted(set(net.apply({}, 0, jnp.ones(100)).tolist()))
      [0.0, 2.0]
    """
    inputs = check_array("inputs", inputs, "of any shape", lambda _: True)
    if seed is not None:
        raise bad_argument("seed", seed, "None, as the mask follows from rng")
    drops = check_rate("rate", rate)
    shape = _noise_shape(noise_shape, inputs.shape)
    training = check_training(training)
    with layer_scope(name, "dropout"):
        if not (training and drops):
            return record("output", inputs)
        # Half precision would round the rate, and draw from few numbers.
        wide = widened(inputs)
        kept = jnp.asarray(1 - rate, wide.dtype)
        mask = _mask(next_rng_key(), kept, shape, inputs)
        scaled = (wide / kept).astype(inputs.dtype)
        return record("output", jnp.where(mask, scaled, jnp.zeros_like(inputs)))


def check_rate(argument: str, rate: float | jax.Array) -> bool:
    """Whether a rate drops anything, as far as can be told while tracing."""
    number = isinstance(rate, int | float | np.floating)
    if not (0 <= rate < 1 if number else isinstance(rate, jax.Array) and rate.ndim == 0):
        raise bad_argument(argument, rate, "a scalar of at least 0 and less than 1")
    return not (number and rate == 0)


def _mask(key: jax.Array, kept: jax.Array, shape: tuple[int, ...], inputs: jax.Array) -> jax.Array:
    """What is kept, bools of a shape, laid out over devices as the inputs are."""
    axes = [axis if size > 1 else None for axis, size in zip(layout(inputs), shape, strict=True)]
    if not any(axes):
        return jax.random.bernoulli(key, kept, shape)
    return jax.random.bernoulli(key, kept, shape, out_sharding=sharding(inputs, axes))


def _noise_shape(
    noise_shape: Sequence[int | None] | None, shape: tuple[int, ...]
) -> tuple[int, ...]:
    if noise_shape is None:
        return shape
    if isinstance(noise_shape, list | tuple) and len(noise_shape) == len(shape):
        pairs = list(zip(noise_shape, shape, strict=True))
        if all(given in (None, 1, size) for given, size in pairs):
            return tuple(size if given is None else given for given, size in pairs)
    raise bad_argument(
        "noise_shape", noise_shape, f"None, or 1, None or the size for each of {shape}"
    )

"""flatten: all axes but that of the batch as one."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jscope._arg_scope import add_arg_scope
from jscope._sharding import along_batch, layout
from jscope.layers._arguments import check_array, check_channels_first, takes_tf1


@add_arg_scope
@takes_tf1()
def flatten(
    inputs: jax.Array, name: str | None = None, data_format: str = "channels_last"
) -> jax.Array:
    """Makes all axes but the first one, as TF1's ``tf.layers.flatten``.

    Args:
      inputs: Array [batch, ...].
      name: Name in profiles and HLO; else "flatten".
      data_format: "channels_last", or "channels_first" [batch, channels, ...], whose channels are
        moved to the end before, as in TF1: both give features in the same order.

    Returns:
      Array [batch, features]; [batch, 1] for inputs [batch].

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.layers.flatten(jnp.ones([2, 4, 4, 3])).shape
      (2, 48)
    """
    inputs = check_array("inputs", inputs, "[batch, ...]", lambda ndim: ndim >= 1, jnp.generic)
    with jax.named_scope(name or "flatten"):
        if check_channels_first(data_format) and inputs.ndim > 1:
            inputs = jnp.moveaxis(inputs, 1, -1)
        if any(layout(inputs)[2:]):  # JAX does not say how an axis that holds them is divided
            inputs = along_batch(inputs, inputs)
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))

"""Layers without axes of space or time: dense, embedding, dropout, flatten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jscope._arg_scope import add_arg_scope
from jscope._draw import next_rng_key
from jscope._layer import (
    Activation,
    Name,
    Weight,
    check_activation,
    check_array,
    check_channels_first,
    check_size,
    check_training,
    finish,
    layer_scope,
    layout,
    sharding,
    zeros,
)
from jscope._number import widened
from jscope._reuse import Reuse
from jscope._spec import Constraint, Initializer, Regularizer
from jscope.errors import ArgumentError


@add_arg_scope
def dense(
    inputs: jax.Array,
    units: int,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Initializer | Any = None,
    bias_initializer: Initializer | Any = zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    *,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Multiplies by a kernel and adds a bias, as TF1's ``tf.layers.dense``.

    Makes ``kernel`` [features, units] and ``bias`` [units], of the inputs' dtype.

    Args:
      inputs: Floats [batch, ..., features].
      units: Size of the last axis of the outputs.
      activation: Function of the outputs; None for none.
      use_bias: Whether to add a bias.
      kernel_initializer: Else the scope's, else glorot_uniform.
      bias_initializer: Zeros unless given.
      kernel_regularizer: Function of the kernel, kept in its spec; else the scope's.
      bias_regularizer: Function of the bias, kept in its spec; else the scope's.
      kernel_constraint: Function of the kernel, kept in its spec; else the scope's.
      bias_constraint: Function of the bias, kept in its spec; else the scope's.
      trainable: Whether the variables live in params; if not, in state.
      name: Name of the scope, or a scope; else "dense", "dense_1", ...
      reuse: As of ``variable_scope``; without a name it shares with "dense", as in TF1.

    Returns:
      Floats [batch, ..., units].

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      JscopeError: As ``get_variable`` and ``variable_scope``.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def mlp(x):
      ...     return js.layers.dense(js.layers.dense(x, 8, jax.nn.relu), 2)
      >>> net = js.transform(mlp)
      >>> params = net.init(0, jnp.ones([1, 4]))
      >>> js.tree.flatten(params)["dense_1/kernel"].shape
      (8, 2)
    """
    inputs = check_array("inputs", inputs, "[batch, ..., features]", lambda ndim: ndim >= 2)
    units = check_size("units", units)
    check_activation(activation)
    kernel = Weight(kernel_initializer, kernel_regularizer, kernel_constraint, trainable)
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    with layer_scope(name, "dense", reuse):
        outputs = jnp.dot(inputs, kernel.make("kernel", [inputs.shape[-1], units], inputs.dtype))
        return finish(outputs, bias if use_bias else None, activation)


@add_arg_scope
def embedding(
    ids: jax.Array,
    vocabulary: int,
    units: int,
    initializer: Initializer | Any = None,
    regularizer: Regularizer | None = None,
    *,
    constraint: Constraint | None = None,
    trainable: bool = True,
    dtype: DTypeLike | None = None,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Gives each id a vector of its own: a row of a table that is a variable.

    TF1 has no such layer: it is ``tf.get_variable`` and ``tf.nn.embedding_lookup``, with the names
    of Keras. Makes ``embeddings`` [vocabulary, units].

    Args:
      ids: Integers [...], from 0 to vocabulary - 1; see ``embedding_lookup``.
      vocabulary: Number of rows.
      units: Size of a row.
      initializer: Else the scope's, else glorot_uniform.
      regularizer: Function of the table, kept in its spec; else the scope's.
      constraint: Function of the table, kept in its spec; else the scope's.
      trainable: Whether the table lives in params; if not, in state.
      dtype: Of the table; else the scope's, else float32.
      name: Name of the scope, or a scope; else "embedding", "embedding_1", ...
      reuse: As of ``variable_scope``; without a name it shares with "embedding".

    Returns:
      Floats [..., units].

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      JscopeError: As ``get_variable`` and ``variable_scope``.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda ids: js.layers.embedding(ids, 100, 8))
      >>> ids = jnp.array([[3, 1, 4]])
      >>> params = net.init(0, ids)
      >>> net.apply(params, None, ids).shape
      (1, 3, 8)
    """
    ids = check_array("ids", ids, "of any shape", lambda _: True, jnp.integer)
    shape = [check_size("vocabulary", vocabulary), check_size("units", units)]
    with layer_scope(name, "embedding", reuse):
        table = Weight(initializer, regularizer, constraint, trainable)
        return embedding_lookup(table.make("embeddings", shape, dtype), ids)


@add_arg_scope
def embedding_lookup(params: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows of a table: ``params[ids]``, as TF1's ``tf.nn.embedding_lookup`` of one table.

    An id out of range is not an error in a compiled program: as JAX indexes, one that is too large
    gives the last row, and a negative one counts from the end. (TF1 raises, or gives zeros.)

    Args:
      params: Table [rows, ...].
      ids: Integers [...].

    Returns:
      Rows, of the ids' shape and then the rows'.

    Raises:
      ArgumentError: (ValueError, TypeError) no table, or ids that are no integers.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> table = jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> js.layers.embedding_lookup(table, jnp.array([1, 0, 1])).tolist()
      [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
    """
    params = check_array("params", params, "[rows, ...]", lambda ndim: ndim >= 1, jnp.generic)
    ids = check_array("ids", ids, "of any shape", lambda _: True, jnp.integer)
    rows, columns = layout(ids), layout(params)[1:]
    if not any(rows + columns):
        return params[ids]
    # JAX does not guess how the rows that it gathers are to be laid out over an explicit mesh.
    divided = ids if any(rows) else params
    return params.at[ids].get(out_sharding=sharding(divided, rows + columns))


@add_arg_scope
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
        raise ArgumentError.make("seed", seed, "None, as the mask follows from rng")
    number = isinstance(rate, int | float | np.floating)
    if not (0 <= rate < 1 if number else isinstance(rate, jax.Array) and rate.ndim == 0):
        raise ArgumentError.make("rate", rate, "a scalar of at least 0 and less than 1")
    shape = _noise_shape(noise_shape, inputs.shape)
    check_training(training)
    with layer_scope(name, "dropout"):
        if not training or (number and rate == 0):
            return inputs
        # Half precision would round the rate, and draw from few numbers.
        wide = widened(inputs)
        kept = jnp.asarray(1 - rate, wide.dtype)
        mask = _mask(next_rng_key(), kept, shape, inputs)
        scaled = (wide / kept).astype(inputs.dtype)
        return jnp.where(mask, scaled, jnp.zeros_like(inputs))


def _mask(key: jax.Array, kept: jax.Array, shape: tuple[int, ...], inputs: jax.Array) -> jax.Array:
    """What is kept, bools of a shape, laid out over devices as the inputs are."""
    axes = [axis if size > 1 else None for axis, size in zip(layout(inputs), shape, strict=True)]
    if not any(axes):
        return jax.random.bernoulli(key, kept, shape)
    return jax.random.bernoulli(key, kept, shape, out_sharding=sharding(inputs, axes))


def _noise_shape(noise_shape: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    if noise_shape is None:
        return shape
    if isinstance(noise_shape, list | tuple) and len(noise_shape) == len(shape):
        pairs = list(zip(noise_shape, shape, strict=True))
        if all(given in (None, 1, size) for given, size in pairs):
            return tuple(size if given is None else given for given, size in pairs)
    raise ArgumentError.make(
        "noise_shape", noise_shape, f"None, or 1, None or the size for each of {shape}"
    )


@add_arg_scope
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
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))

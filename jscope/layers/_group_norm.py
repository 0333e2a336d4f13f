"""Normalisation of each example by itself: group_norm, instance_norm, rms_norm."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jscope._arg_scope import add_arg_scope
from jscope._arguments import bad_argument, check_size, widened
from jscope._reuse import Reuse
from jscope._seeing import record
from jscope._sharding import whole
from jscope._spec import Constraint, InitializerLike, Regularizer
from jscope.layers._arguments import Name, check_array, takes_tf1
from jscope.layers._norm import check_axes, normalised, scale_and_shift
from jscope.layers._weights import Weight, if_flag, layer_scope, ones, zeros


@add_arg_scope
@takes_tf1()
def group_norm(
    inputs: jax.Array,
    groups: int,
    axis: int = -1,
    epsilon: float = 1e-6,
    center: bool = True,
    scale: bool = True,
    beta_initializer: InitializerLike = zeros,
    gamma_initializer: InitializerLike = ones,
    beta_regularizer: Regularizer | None = None,
    gamma_regularizer: Regularizer | None = None,
    beta_constraint: Constraint | None = None,
    gamma_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Normalises groups of channels (Wu and He 2018), as ``tf.contrib.layers.group_norm``.

    Each example by itself: over all axes but the batch, and the channels of one group. So a
    position of a sequence sees the ones that follow. Makes ``gamma`` and ``beta``, each [channels],
    of the dtype that a scope sets, else the inputs'. float16 and bfloat16 are normalised in
    float32.

    Args:
      inputs: Floats [batch, ..., channels].
      groups: Number of groups, which divides that of the channels.
      axis: Axis of the channels; not the first.
      epsilon: Added to the variance.
      center: Whether to add beta.
      scale: Whether to multiply by gamma.
      beta_initializer: Zeros unless given.
      gamma_initializer: Ones unless given.
      beta_regularizer: Function of beta, kept in its spec; else the scope's.
      gamma_regularizer: Function of gamma, kept in its spec; else the scope's.
      beta_constraint: Function of beta, kept in its spec; else the scope's.
      gamma_constraint: Function of gamma, kept in its spec; else the scope's.
      trainable: Whether the variables live in params; if not, in state.
      name: Name of the scope, or a scope; else the function's, numbered: "group_norm",
        "group_norm_1", ... (contrib: "GroupNorm").
      reuse: As of ``variable_scope``; without a name it shares with the first layer of that kind.

    Returns:
      Floats of the inputs' shape and dtype.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      JscopeError: As ``get_variable`` and ``variable_scope``.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda x: js.layers.group_norm(x, 2))
      >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
      >>> params = net.init(0, x)
      >>> params
      Params({'group_norm': {'gamma': float32[4], 'beta': float32[4]}})
      >>> net.apply(params, None, x).round(3).tolist()
      [[-1.0, 1.0, -1.0, 1.0]]
    """
    inputs = check_array("inputs", inputs, "[batch, ..., channels]", lambda ndim: ndim >= 2)
    where = _channels(axis, inputs)
    shape = inputs.shape
    if shape[where] % check_size("groups", groups):
        raise bad_argument("groups", groups, f"a divisor of the {shape[where]} channels")
    gamma = Weight(gamma_initializer, gamma_regularizer, gamma_constraint, trainable)
    beta = Weight(beta_initializer, beta_regularizer, beta_constraint, trainable)
    with layer_scope(name, "group_norm", reuse):
        split = (*shape[:where], groups, shape[where] // groups, *shape[where + 1 :])
        over = [index for index in range(1, len(split)) if index != where]
        grouped = whole(inputs, where).reshape(split)
        outputs = normalised(grouped, over, epsilon).reshape(shape)
        return _finish(
            outputs, where, if_flag("scale", scale, gamma), if_flag("center", center, beta)
        )


@add_arg_scope
@takes_tf1()
def instance_norm(
    inputs: jax.Array,
    axis: int = -1,
    epsilon: float = 1e-6,
    center: bool = True,
    scale: bool = True,
    beta_initializer: InitializerLike = zeros,
    gamma_initializer: InitializerLike = ones,
    beta_regularizer: Regularizer | None = None,
    gamma_regularizer: Regularizer | None = None,
    beta_constraint: Constraint | None = None,
    gamma_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Normalises each channel of an image (Ulyanov et al. 2016), as contrib's ``instance_norm``.

    It is ``group_norm`` with a group for each channel.

    As ``group_norm``, with:
      inputs: Floats [batch, ..., channels] of at least three axes.
      name: Name of the scope, or a scope; else the function's, numbered: "instance_norm",
        "instance_norm_1", ... (contrib: "InstanceNorm").

    Returns:
      Floats of the inputs' shape and dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(js.layers.instance_norm)
      >>> x = jnp.array([[[1.0, 10.0], [3.0, 30.0]]])
      >>> net.apply(net.init(0, x), None, x).round(3).tolist()
      [[[-1.0, -1.0], [1.0, 1.0]]]
    """
    inputs = check_array("inputs", inputs, "[batch, ..., channels]", lambda ndim: ndim >= 3)
    where = _channels(axis, inputs)
    gamma = Weight(gamma_initializer, gamma_regularizer, gamma_constraint, trainable)
    beta = Weight(beta_initializer, beta_regularizer, beta_constraint, trainable)
    with layer_scope(name, "instance_norm", reuse):
        over = [index for index in range(1, inputs.ndim) if index != where]
        outputs = normalised(inputs, over, epsilon)
        return _finish(
            outputs, where, if_flag("scale", scale, gamma), if_flag("center", center, beta)
        )


@add_arg_scope
@takes_tf1()
def rms_norm(
    inputs: jax.Array,
    epsilon: float = 1e-6,
    scale: bool = True,
    gamma_initializer: InitializerLike = ones,
    gamma_regularizer: Regularizer | None = None,
    gamma_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Divides the features of each position by their root mean square (Zhang and Sennrich 2019).

    Makes ``gamma`` [features], of the dtype that a scope sets, else the inputs'. float16 and
    bfloat16 are normalised in float32. There is no mean to subtract, and no beta.

    As ``group_norm``, with:
      inputs: Floats [..., features].
      epsilon: Added to the mean of the squares.
      name: Name of the scope, or a scope; else the function's, numbered: "rms_norm", ...

    Returns:
      Floats of the inputs' shape and dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(js.layers.rms_norm)
      >>> x = jnp.array([[-3.0, 3.0]])
      >>> params = net.init(0, x)
      >>> params
      Params({'rms_norm': {'gamma': float32[2]}})
      >>> net.apply(params, None, x).round(3).tolist()
      [[-1.0, 1.0]]
    """
    inputs = check_array("inputs", inputs, "[..., features]", lambda ndim: ndim >= 1)
    gamma = Weight(gamma_initializer, gamma_regularizer, gamma_constraint, trainable)
    with layer_scope(name, "rms_norm", reuse):
        wide = widened(inputs)
        squares = jnp.mean(jnp.square(wide), -1, keepdims=True)
        outputs = (wide * jax.lax.rsqrt(squares + epsilon)).astype(inputs.dtype)
        return _finish(outputs, inputs.ndim - 1, if_flag("scale", scale, gamma), None)


def _channels(axis: object, inputs: jax.Array) -> int:
    (where,) = check_axes(axis, inputs.ndim)
    if where == 0:
        raise bad_argument("axis", axis, "another one than the batch's")
    return where


def _finish(
    outputs: jax.Array, where: int, gammas: Weight | None, betas: Weight | None
) -> jax.Array:
    """Times gamma, plus beta, along the axis of the channels; recorded."""
    size, dtype = outputs.shape[where], outputs.dtype
    gamma = None if gammas is None else gammas.use("gamma", [size], dtype)
    beta = None if betas is None else betas.use("beta", [size], dtype)
    across = [size if index == where else 1 for index in range(outputs.ndim)]
    return record("output", scale_and_shift(outputs, gamma, beta, across))

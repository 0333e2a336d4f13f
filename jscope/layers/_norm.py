"""Normalisation: batch_normalization, layer_norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jscope._arg_scope import add_arg_scope
from jscope._arguments import as_int, bad_argument, check_flag, widened
from jscope._report import describe
from jscope._reuse import Reuse
from jscope._seeing import record
from jscope._sharding import layout, like, relaid
from jscope._spec import Constraint, InitializerLike, Regularizer
from jscope._state import assign_moving_average
from jscope.errors import ArgumentError
from jscope.layers._arguments import (
    Activation,
    Name,
    check_activation,
    check_array,
    check_training,
    takes_tf1,
)
from jscope.layers._weights import Weight, kept_in, layer_scope, ones, zeros
from jscope.regularizers import no_regularizer


@add_arg_scope
@takes_tf1(
    "_reuse",
    "_scope",
    "adjustment",
    "outputs_collections",
    "renorm",
    "renorm_clipping",
    "renorm_momentum",
    "updates_collections",
    "variables_collections",
    "virtual_batch_size",
)
def batch_normalization(
    inputs: jax.Array,
    axis: int | Sequence[int] = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: InitializerLike = zeros,
    gamma_initializer: InitializerLike = ones,
    moving_mean_initializer: InitializerLike = zeros,
    moving_variance_initializer: InitializerLike = ones,
    beta_regularizer: Regularizer | None = None,
    gamma_regularizer: Regularizer | None = None,
    beta_constraint: Constraint | None = None,
    gamma_constraint: Constraint | None = None,
    training: bool = False,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
    *,
    fused: bool | None = None,
) -> jax.Array:
    """Gives each channel a mean and a deviation, as TF1's ``tf.layers.batch_normalization``.

    Normalises by the mean and variance of the batch while training, which also moves the averages
    ``moving_mean`` and ``moving_variance``; otherwise by those averages. Then multiplies by gamma
    and adds beta. The averages are state, so the function needs ``transform_with_state``; they move
    at once, where TF1 had ``UPDATE_OPS`` to be run.

    Makes ``gamma``, ``beta``, ``moving_mean`` and ``moving_variance``, each [channels]; for several
    axes with the inputs' rank, of size 1 on the others. They have the dtype that a scope sets, else
    the inputs', but float32 in place of float16 and bfloat16, which are normalised in float32.

    Args:
      inputs: Floats of any shape.
      axis: Axis of the channels, or several; all others are averaged.
      momentum: How much of themselves the averages keep, of the batch they take 1 - momentum.
      epsilon: Added to the variance.
      center: Whether to add beta.
      scale: Whether to multiply by gamma.
      beta_initializer: Zeros unless given.
      gamma_initializer: Ones unless given.
      moving_mean_initializer: Zeros unless given.
      moving_variance_initializer: Ones unless given.
      beta_regularizer: Function of beta, kept in its spec; else the scope's.
      gamma_regularizer: Function of gamma, kept in its spec; else the scope's.
      beta_constraint: Function of beta, kept in its spec; else the scope's.
      gamma_constraint: Function of gamma, kept in its spec; else the scope's.
      training: Whether to normalise by the batch and to move the averages; a Python bool.
      trainable: Whether beta and gamma live in params; if not, they live in state and, as in TF1,
        the averages stay as they are.
      name: Name of the scope, or a scope; else "batch_normalization", "batch_normalization_1", ...
      reuse: As of ``variable_scope``; without a name it shares with "batch_normalization", as in
        TF1.
      fused: Whether ``moving_variance`` takes the batch's variance times N / (N - 1), for N numbers
        per channel, as TF's fused kernel gives it. None: as TF chooses that kernel, for inputs of
        rank 4 and 5 with the channels second or last, but not for float64. Other versions differ in
        ranks but 4: TF 1.14 did not take it (pass False), TF 1.15 always did (pass True).

    Returns:
      Floats of the inputs' shape and dtype.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      StateError: (ValueError) the pass is of ``jscope.transform``.
      TransformError: (ValueError) training inside a raw JAX transform.
      JscopeError: As ``get_variable`` and ``variable_scope``.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def norm(x, training):
      ...     return js.layers.batch_normalization(x, momentum=0.5, training=training)
      >>> net = js.transform_with_state(norm)
      >>> x = jnp.array([[1.0], [5.0]])
      >>> params, state = net.init(0, x, True)
      >>> out, state = net.apply(params, state, None, x, True)
      >>> state["batch_normalization"]["moving_mean"].tolist()
      [1.5]
    """
    inputs = check_array("inputs", inputs, "[batch, ..., channels]", lambda ndim: ndim >= 2)
    axes = check_axes(axis, inputs.ndim, several=True)
    training = check_training(training)
    # The shape that fits the inputs, and that of the variables.
    across = [size if index in axes else 1 for index, size in enumerate(inputs.shape)]
    shape = across if len(axes) > 1 else [inputs.shape[axes[0]]]
    wide = widened(inputs)  # as TF1 keeps statistics of half precision
    gammas = Weight(gamma_initializer, gamma_regularizer, gamma_constraint, trainable)
    betas = Weight(beta_initializer, beta_regularizer, beta_constraint, trainable)
    means, variances = (
        Weight(initializer, no_regularizer, trainable=False)
        for initializer in (moving_mean_initializer, moving_variance_initializer)
    )
    with layer_scope(name, "batch_normalization", reuse):
        kept = kept_in(inputs.dtype)
        dtypes = wide.dtype, kept if kept.itemsize >= 4 else jnp.float32
        gamma = gammas.use("gamma", shape, *dtypes) if check_flag("scale", scale) else None
        beta = betas.use("beta", shape, *dtypes) if check_flag("center", center) else None
        mean = means.use("moving_mean", shape, *dtypes)
        variance = variances.use("moving_variance", shape, *dtypes)
        if training:
            others = [index for index in range(inputs.ndim) if index not in axes]
            laid = layout(mean), layout(variance)
            mean, variance = wide.mean(others).reshape(shape), wide.var(others).reshape(shape)
        if training and trainable:
            factor = _bessel(inputs.size, math.prod(shape)) if _is_fused(fused, axes, inputs) else 1
            assign_moving_average("moving_mean", relaid(mean, laid[0]).astype(dtypes[1]), momentum)
            assign_moving_average(
                "moving_variance", relaid(variance * factor, laid[1]).astype(dtypes[1]), momentum
            )
        mean, variance = (like(found.reshape(across), wide) for found in (mean, variance))
        outputs = (wide - mean) * jax.lax.rsqrt(variance + epsilon)
        outputs = scale_and_shift(outputs, gamma, beta, across).astype(inputs.dtype)
        return record("output", outputs)


@add_arg_scope
@takes_tf1("outputs_collections", "variables_collections")
def layer_norm(
    inputs: jax.Array,
    center: bool = True,
    scale: bool = True,
    activation_fn: Activation | None = None,
    reuse: Reuse | None = None,
    *,
    trainable: bool = True,
    begin_norm_axis: int | None = None,
    begin_params_axis: int = -1,
    scope: Name = None,
    name: Name = None,
    epsilon: float | None = None,
) -> jax.Array:
    """Normalises each example by itself, as TF1's ``tf.contrib.layers.layer_norm``.

    Over all axes from ``begin_norm_axis`` on, which inputs of more than two axes must be given: 1,
    contrib's default, would let each position of a sequence see the ones that follow.

    Makes ``beta`` and ``gamma``, of the inputs' shape from ``begin_params_axis`` on and the dtype
    that a scope sets, else the inputs'. float16 and bfloat16 are normalised in float32.

    Args:
      inputs: Floats [batch, ..., features].
      center: Whether to add beta, zeros at first.
      scale: Whether to multiply by gamma, ones at first.
      activation_fn: Function of the outputs; None for none.
      reuse: As of ``variable_scope``; without a scope it shares with "LayerNorm".
      trainable: Whether the variables live in params; if not, in state.
      begin_norm_axis: First axis to normalise over: 1 takes a whole example, as contrib does, and
        -1 the features of each position, as transformers do. May be left out for [batch, features].
      begin_params_axis: First axis along which beta and gamma differ.
      scope: Name of the scope, or a scope; else "LayerNorm", "LayerNorm_1", ...
      name: Another word for ``scope``, as of other layers; one of them.
      epsilon: Added to the variance; else 1e-12, and 1e-3 for float16.

    Returns:
      Floats of the inputs' shape and dtype.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      JscopeError: As ``get_variable`` and ``variable_scope``.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(js.layers.layer_norm)
      >>> x = jnp.array([[1.0, 3.0]])
      >>> params = net.init(0, x)
      >>> params
      Params({'LayerNorm': {'beta': float32[2], 'gamma': float32[2]}})
      >>> net.apply(params, None, x).tolist()
      [[-1.0, 1.0]]
    """
    inputs = check_array("inputs", inputs, "[batch, ..., features]", lambda ndim: ndim >= 2)
    check_activation(activation_fn, "activation_fn")
    if name is not None and scope is not None:
        raise bad_argument("name", name, "left out where there is a scope")
    if begin_norm_axis is None and inputs.ndim > 2:
        raise _no_norm_axis(inputs)
    (first,) = check_axes(
        1 if begin_norm_axis is None else begin_norm_axis, inputs.ndim, "begin_norm_axis"
    )
    (params_from,) = check_axes(begin_params_axis, inputs.ndim, "begin_params_axis")
    shape = inputs.shape[params_from:]
    across = [1] * params_from + list(shape)
    if epsilon is None:
        epsilon = 1e-3 if inputs.dtype == jnp.float16 else 1e-12
    with layer_scope(scope if name is None else name, "LayerNorm", reuse):
        made = [("beta", zeros, center), ("gamma", ones, scale)]
        beta, gamma = (
            Weight(start, trainable=trainable).use(word, shape, inputs.dtype) if asked else None
            for word, start, asked in made
        )
        outputs = normalised(inputs, range(first, inputs.ndim), epsilon)
        outputs = scale_and_shift(outputs, gamma, beta, across)
        return record("output", outputs if activation_fn is None else activation_fn(outputs))


def _no_norm_axis(inputs: jax.Array) -> ArgumentError:
    return ArgumentError(
        f"The begin_norm_axis must be given for inputs of rank {inputs.ndim}, got None.",
        {
            "asked": f"layer_norm of {describe(inputs)}",
            "fix": "begin_norm_axis=1 normalises each example as a whole, as tf.contrib.layers did "
            "by default; begin_norm_axis=-1 the features of each position, as transformers do.",
        },
        argument="begin_norm_axis",
        value="None",
    )


def normalised(inputs: jax.Array, over: Sequence[int], epsilon: float) -> jax.Array:
    """The inputs with a mean of 0 and a variance of 1 over these axes, in their own dtype."""
    wide = widened(inputs)
    mean, variance = wide.mean(over, keepdims=True), wide.var(over, keepdims=True)
    return ((wide - mean) * jax.lax.rsqrt(variance + epsilon)).astype(inputs.dtype)


def scale_and_shift(
    outputs: jax.Array, gamma: jax.Array | None, beta: jax.Array | None, across: Sequence[int]
) -> jax.Array:
    """Times gamma, plus beta, where they are there, in a shape that fits the outputs."""
    if gamma is not None:
        outputs = outputs * like(gamma.reshape(across), outputs)
    return outputs if beta is None else outputs + like(beta.reshape(across), outputs)


def check_axes(
    axis: object, ndim: int, argument: str = "axis", *, several: bool = False
) -> tuple[int, ...]:
    """Axes counted from the front, in order."""
    given = axis if several and isinstance(axis, list | tuple) else [axis]
    indices = [index for index in map(as_int, given) if index is not None]
    found = sorted(index + ndim if index < 0 else index for index in indices)
    if len(found) < len(given):
        found = []
    if not found or found[0] < 0 or found[-1] >= ndim or len(set(found)) < len(found):
        kind = "an axis, or different axes," if several else "an axis"
        raise bad_argument(argument, axis, f"{kind} of inputs of rank {ndim}")
    return tuple(found)


def _bessel(size: int, channels: int) -> float:
    """Turns the variance of a sample into an estimate of the variance that it is drawn from."""
    count = size // max(channels, 1)
    return count / max(count - 1, 1)


def _is_fused(fused: bool | None, axes: tuple[int, ...], inputs: jax.Array) -> bool:
    """Whether TF would have used its fused kernel, which changes the moving variance only."""
    if fused is not None:
        return check_flag("fused", fused)
    channels = axes in ((1,), (inputs.ndim - 1,))
    return channels and inputs.ndim in (4, 5) and inputs.dtype != jnp.float64

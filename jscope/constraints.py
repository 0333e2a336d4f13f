"""Keras' constraints, which TF1's ``get_variable`` took: functions from a value to a nearby one.

They return the shape and dtype that they get. Norms of dtypes with fewer bits are computed in
float32. ``axis`` are the axes that one norm is taken over: 0 for a kernel [in, out] (a norm for
each output), (0, 1, 2) for one of [height, width, in, out].
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jscope._arguments import as_int, bad_argument, number, widened
from jscope._hints import watch
from jscope._spec import Constraint

__all__ = ["max_norm", "non_neg", "unit_norm"]


def __dir__() -> list[str]:
    return __all__


watch(__name__)


_EPSILON = 1e-7  # Keras' default


def max_norm(max_value: float = 2.0, axis: int | Sequence[int] = 0) -> Constraint:
    """Scales what has a norm above ``max_value`` down to it, as ``tf.keras.constraints.MaxNorm``.

    That is ``x * clip(norm, 0, max_value) / (norm + 1e-7)``, of Srivastava et al. 2014, "Dropout".

    Args:
      max_value: The largest norm, at least 0.
      axis: One axis or several, that a norm is taken over.

    Returns:
      Function of a value [...] that returns one of the same shape and dtype.

    Raises:
      ArgumentError: (ValueError, TypeError) ``max_value`` is negative or no number, or ``axis`` is
        not of integers; and, from the function, the value has no such axis or is of integers.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> limit = js.constraints.max_norm(1.0)
      >>> limit(jnp.array([[3.0, 0.0], [4.0, 0.5]])).round(3).tolist()
      [[0.6000000238418579, 0.0], [0.800000011920929, 0.5]]
    """
    return functools.partial(
        _max_norm, max_value=number("max_value", max_value, least=0), axis=_axes(axis)
    )


def unit_norm(axis: int | Sequence[int] = 0) -> Constraint:
    """Scales to a norm of 1, as ``tf.keras.constraints.UnitNorm``: ``x / (norm + 1e-7)``.

    All else as in ``max_norm``.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.constraints.unit_norm()(jnp.array([[4.0, 0.0], [0.0, 0.5]])).round(3).tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    return functools.partial(_unit_norm, axis=_axes(axis))


def non_neg() -> Constraint:
    """Sets what is negative to 0, as ``tf.keras.constraints.NonNeg``.

    Returns:
      Function of a value [...], real, that returns one of the same shape and dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.constraints.non_neg()(jnp.array([-1.0, 2.0])).tolist()
      [0.0, 2.0]
    """
    return _non_neg


def _max_norm(value: jax.Array, *, max_value: float, axis: tuple[int, ...]) -> jax.Array:
    value, wide, norms = _norms(value, axis)
    factors = jnp.minimum(norms, max_value) / (norms + _EPSILON)
    return (wide * factors.astype(wide.dtype)).astype(value.dtype)


def _unit_norm(value: jax.Array, *, axis: tuple[int, ...]) -> jax.Array:
    value, wide, norms = _norms(value, axis)
    return (wide / (norms + _EPSILON).astype(wide.dtype)).astype(value.dtype)


def _non_neg(value: jax.Array) -> jax.Array:
    # Not x * (x >= 0), which is Keras': it makes NaN of -inf, and is the same otherwise.
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise bad_argument("value", value, "real")
    return jnp.maximum(value, jnp.zeros_like(value))


def _norms(value: jax.Array, axis: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The value; it in at least float32; and its norms, with axes of size 1."""
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        raise bad_argument("value", value, "of a floating dtype")
    places = {at % value.ndim for at in axis if -value.ndim <= at < value.ndim}
    if len(places) < len(axis):
        given = axis[0] if len(axis) == 1 else axis
        wanted = f"different axes of the value, which has {value.ndim}"
        raise bad_argument("axis", given, wanted)
    wide = widened(value)
    squares = (wide * wide.conj()).real
    return value, wide, jnp.sqrt(jnp.sum(squares, axis=axis, keepdims=True))


def _axes(axis: object) -> tuple[int, ...]:
    given = axis if isinstance(axis, list | tuple) else (axis,)
    found = [index for index in map(as_int, given) if index is not None]
    if len(found) < len(given):
        raise bad_argument("axis", axis, "an integer, or a list or tuple of them")
    return tuple(found)

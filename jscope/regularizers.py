"""TF1's regularizers: functions of a variable's value that return a loss, a scalar, or None.

The loss is computed and returned in float32 for values of fewer bits (and for integers), in the
value's own precision otherwise: sums over a kernel overflow float16 and are lost in bfloat16.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jscope._arguments import bad_argument, number, widened
from jscope._hints import watch
from jscope._sharding import laid_out
from jscope._spec import Regularizer

__all__ = ["l1", "l1_l2", "l2", "orthogonal", "sum"]


def __dir__() -> list[str]:
    return __all__


watch(__name__)


def no_regularizer(value: jax.Array) -> None:
    """Switches an inherited regularizer off: ``variable_scope("a", regularizer=no_regularizer)``.

    As in TF1. Takes an array of any shape, returns None.

    Example:
      >>> import jscope as js
      >>> js.no_regularizer(1.0)
    """


def l1(scale: float) -> Regularizer:
    """The sum of absolute values: ``scale * sum(|x|)``, as ``tf.contrib.layers.l1_regularizer``.

    The gradient is ``scale * sign(x)``, 0 at 0.

    Args:
      scale: What the sum is multiplied by, at least 0. As in TF1, 0 is no regularizer at all:
        ``jscope.no_regularizer``.

    Returns:
      Function of a value [...] that returns a scalar.

    Raises:
      ArgumentError: (ValueError, TypeError) ``scale`` is negative, or no number.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.regularizers.l1(0.5)(jnp.array([1.0, -3.0])).item()
      2.0
    """
    scale = number("scale", scale, least=0)
    return functools.partial(_l1, scale=scale) if scale else no_regularizer


def l2(scale: float) -> Regularizer:
    """Half the sum of squares: ``scale * sum(x**2) / 2``.

    That is ``tf.contrib.layers.l2_regularizer``, which is ``scale * tf.nn.l2_loss(x)``. It is not
    ``tf.keras.regularizers.l2``, which has no half: for that one give twice its number. The
    gradient is ``scale * x``.

    All else as in ``l1``.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.regularizers.l2(0.5)(jnp.array([1.0, -3.0])).item()
      2.5
    """
    scale = number("scale", scale, least=0)
    return functools.partial(_l2, scale=scale) if scale else no_regularizer


def l1_l2(scale_l1: float = 1.0, scale_l2: float = 1.0) -> Regularizer:
    """The sum of ``l1`` and ``l2``, as ``tf.contrib.layers.l1_l2_regularizer``.

    As ``l1``, with:
      scale_l1: The scale of ``l1``, at least 0.
      scale_l2: The scale of ``l2``, at least 0.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.regularizers.l1_l2(0.5, 0.5)(jnp.array([1.0, -3.0])).item()
      4.5
    """
    number("scale_l1", scale_l1, least=0)
    number("scale_l2", scale_l2, least=0)
    return sum(l1(scale_l1), l2(scale_l2))


def orthogonal(scale: float) -> Regularizer:
    """Keeps columns orthogonal, whatever their norms: ``scale * sum over i != j of (W^T W)_ij^2``.

    Of Brock, Donahue and Simonyan 2018 (arXiv:1809.11096, equation 3), ``||W^T W * (1 - I)||^2``
    (Frobenius): the entries of ``W^T W - I`` that are off the diagonal. A value [..., in, out] is
    the matrix W [product of ... and in, out], so that each pair of outputs is penalised once from
    either side. There is no half. The product is computed in full precision on every device.

    A value with fewer than two axes has no columns: None, so that a scope's biases may inherit it.

    As ``l1``, with:
      scale: What the sum is multiplied by, at least 0; 1e-4 in the paper. 0 is no regularizer.

    Returns:
      Function of a value [..., in, out] that returns a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> penalty = js.regularizers.orthogonal(1.0)
      >>> penalty(7 * jnp.eye(3)).item(), penalty(jnp.ones([3, 2])).item()
      (0.0, 18.0)
    """
    scale = number("scale", scale, least=0)
    return functools.partial(_orthogonal, scale=scale) if scale else no_regularizer


def sum(  # noqa: A001 # as in regularizers.sum(a, b)
    *regularizers: Regularizer | Sequence[Regularizer | None] | None,
) -> Regularizer:
    """The sum of regularizers, as ``tf.contrib.layers.sum_regularizer``.

    Args:
      *regularizers: Functions of the value, or a list of them, as in TF1. None is left out, and so
        is what returns None.

    Returns:
      Function of a value that returns the sum of what they return, or None if none returns a loss.

    Raises:
      ArgumentError: (ValueError, TypeError) one of them is no function.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> both = js.regularizers.sum(js.regularizers.l2(1.0), lambda value: value.max())
      >>> both(jnp.array([1.0, 2.0])).item()
      4.5
    """
    parts: list[Regularizer] = []
    for given in regularizers:
        for part in given if isinstance(given, list | tuple) else (given,):
            if part is not None and not callable(part):
                raise bad_argument("regularizers", part, "functions of the value, or None")
            if part is not None and part is not no_regularizer:
                parts.append(part)
    if len(parts) < 2:
        return parts[0] if parts else no_regularizer
    return functools.partial(_sum, parts=tuple(parts))


# What the functions above return are partials of these: picklable, and compared by value.


def _l1(value: jax.Array, *, scale: float) -> jax.Array:
    wide = widened(jnp.asarray(value))
    if jnp.issubdtype(wide.dtype, jnp.complexfloating):
        return scale * jnp.sum(jnp.abs(wide))
    # abs, whose gradient at 0 is 1 in JAX: as in TF1 it is 0 here.
    return scale * jnp.sum(wide * jax.lax.stop_gradient(jnp.sign(wide)))


def _l2(value: jax.Array, *, scale: float) -> jax.Array:
    return scale / 2 * _sum_of_squares(widened(jnp.asarray(value)))


def _orthogonal(value: jax.Array, *, scale: float) -> jax.Array | None:
    wide = widened(jnp.asarray(value))
    if wide.ndim < 2:
        return None
    return scale * laid_out(_off_diagonal, wide, axes=[()])


def _off_diagonal(kernel: jax.Array) -> jax.Array:
    """The sum of the squares of the Gram matrix of the columns, off its diagonal."""
    matrix = kernel.reshape(math.prod(kernel.shape[:-1]), kernel.shape[-1])
    gram = jnp.matmul(matrix.conj().T, matrix, precision=jax.lax.Precision.HIGHEST)
    off_diagonal = jnp.where(jnp.eye(len(gram), dtype=bool), jnp.zeros_like(gram), gram)
    return _sum_of_squares(off_diagonal)


def _sum(value: jax.Array, *, parts: tuple[Regularizer, ...]) -> jax.Array | None:
    losses = [part(value) for part in parts]
    known = [loss for loss in losses if loss is not None]
    return functools.reduce(operator.add, known) if known else None


def _sum_of_squares(wide: jax.Array) -> jax.Array:
    return jnp.sum((wide * wide.conj()).real)

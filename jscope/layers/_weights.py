"""What a layer makes: its scope, its variables, and the bias and activation at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jscope import _pass
from jscope._arguments import check_flag
from jscope._reuse import Reuse
from jscope._scope import variable_scope
from jscope._seeing import record
from jscope._sharding import like
from jscope._spec import Constraint, DType, InitializerLike, Regularizer
from jscope._variable import get_variable
from jscope.layers._arguments import Activation, Name

zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones


def layer_scope(name: Name, default_name: str, reuse: Reuse | None = None) -> variable_scope:
    """The scope of one layer: its name, else the default name, numbered unless it is shared."""
    if name is None and reuse:
        name = default_name  # as in TF1: shares with the first layer of that kind
    return variable_scope(name, default_name, reuse=reuse)


class Weight(NamedTuple):
    """How a layer makes one of its variables."""

    initializer: InitializerLike = None
    regularizer: Regularizer | None = None
    constraint: Constraint | None = None
    trainable: bool = True

    def use(
        self, name: str, shape: Sequence[int], dtype: DTypeLike, kept: DTypeLike | None = None
    ) -> jax.Array:
        """The variable in the dtype that the layer computes in, whichever it is kept in."""
        value = self.make(name, shape, kept or kept_in(dtype))
        return value if value.dtype == dtype else value.astype(dtype)

    def make(self, name: str, shape: Sequence[int], dtype: DTypeLike | None) -> jax.Array:
        return get_variable(
            name,
            shape,
            dtype,
            self.initializer,
            regularizer=self.regularizer,
            trainable=self.trainable,
            constraint=self.constraint,
        )


def if_flag(argument: str, flag: object, weight: Weight) -> Weight | None:
    """The weight if a flag, given as that argument, says so."""
    return weight if check_flag(argument, flag) else None


def kept_in(dtype: DTypeLike) -> DType:
    """The dtype of a layer's variables: the scope's, if somebody set one of floats; else this."""
    asked = _pass.current("get_variable").settings.dtype
    is_float = asked is not None and jnp.issubdtype(asked, jnp.floating)
    return np.dtype(asked if is_float else dtype)


def finish(
    outputs: jax.Array, bias: Weight | None, activation: Activation | None, axis: int = -1
) -> jax.Array:
    """Adds a bias along an axis, if there is one, applies the activation, and records it all."""
    if bias is not None:
        size = outputs.shape[axis]
        vector = along(bias.use("bias", [size], outputs.dtype), outputs.ndim, axis)
        outputs = outputs + like(vector, outputs)
    return record("output", outputs if activation is None else activation(outputs))


def along(vector: jax.Array, ndim: int, axis: int) -> jax.Array:
    """A vector [n] as an array of ``ndim`` axes, n of them along ``axis``: [1, ..., n, ..., 1]."""
    shape = [1] * ndim
    shape[axis] = vector.shape[0]
    return vector.reshape(shape)

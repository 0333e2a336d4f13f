"""A vector for each id: embedding, embedding_lookup."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jscope._arg_scope import add_arg_scope
from jscope._arguments import check_size
from jscope._reuse import Reuse
from jscope._seeing import record
from jscope._sharding import layout, sharding, without
from jscope._spec import Constraint, InitializerLike, Regularizer
from jscope.layers._arguments import Name, check_array, takes_tf1
from jscope.layers._weights import Weight, layer_scope


@add_arg_scope
@takes_tf1()
def embedding(
    ids: jax.Array,
    vocabulary: int,
    units: int,
    initializer: InitializerLike = None,
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
        return record("output", embedding_lookup(table.make("embeddings", shape, dtype), ids))


@add_arg_scope
@takes_tf1("max_norm", "name", "partition_strategy", "validate_indices")
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
    if not any(rows + layout(params)):
        return params[ids]
    # JAX does not guess how the rows that it gathers are to be laid out over an explicit mesh.
    divided = ids if any(rows) else params
    laid = sharding(divided, rows + without(columns, rows))
    return params.at[ids].get(out_sharding=laid)

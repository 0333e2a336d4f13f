"""How much a tree holds: count and nbytes."""

from __future__ import annotations

import math

import jax.numpy as jnp

from jscope._params import PyTree
from jscope._report import is_shaped
from jscope.errors import TreeTypeError
from jscope.tree._names import Item, named


def count(tree: PyTree) -> int:
    """The number of elements of all arrays of a tree.

    Args:
      tree: Any pytree of arrays, shapes (``jax.ShapeDtypeStruct``) or numbers; or Specs.

    Raises:
      CheckError: (ValueError) a leaf is something else.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.tree.count({"w": jnp.ones([3, 4]), "b": jnp.ones([4])})
      16
    """
    return sum(elements for elements, _ in map(_size, named(tree)[0]))


def nbytes(tree: PyTree) -> int:
    """The number of bytes of all arrays of a tree, each counted whole however it is sharded.

    All else as in ``count``.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.tree.nbytes({"w": jnp.ones([3, 4]), "b": jnp.ones([4], jnp.bfloat16)})
      56
    """
    return sum(elements * width for elements, width in map(_size, named(tree)[0]))


def _size(item: Item) -> tuple[int, int]:
    """The number of elements of a leaf, and the bytes of each."""
    name, leaf = item
    if is_shaped(leaf):
        return math.prod(leaf.shape), leaf.dtype.itemsize
    if isinstance(leaf, bool | int | float | complex):
        return 1, jnp.result_type(type(leaf)).itemsize  # as JAX would hold it
    raise _no_size(name, leaf)


def _no_size(name: str, value: object) -> TreeTypeError:
    found = type(value).__name__
    return TreeTypeError(
        f"The value of {name!r} has no size: it is not an array but {found}.",
        {"fix": "give a tree of arrays, numbers or specs."},
        mismatched={name: ("an array", found)},
    )

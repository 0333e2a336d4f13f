"""Params of Flax NNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jscope._params import Params, PyTree, walk
from jscope.errors import TreeTypeError
from jscope.interop._names import check_mapping, params_under, wrong_kind


def from_nnx(tree: Mapping[Any, Any]) -> Params:
    """Params of a state of Flax NNX, under its names; integer keys become text.

    Args:
      tree: A state, ``nnx.state(module)`` or one of the parts of ``nnx.split``, or its pure dict.
        What is in it is taken as it is: filters choose, ``nnx.state(module, nnx.Param)`` for
        params and ``nnx.state(module, nnx.BatchStat)`` for state. Without one the random streams
        of a module, such as dropout's, are in it too: their counts, and their typed keys.

    Returns:
      Params of the same arrays, without NNX's variables around them.

    Raises:
      CheckError: (ValueError) ``tree`` is no mapping, or a key is neither text nor an integer.
      NameClashError: (ValueError) two names meet, those of ``0`` and ``"0"``.
      InvalidNameError: (ValueError) a name cannot be one here.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> import jscope as js
      >>> layer = nnx.Linear(3, 4, use_bias=False, rngs=nnx.Rngs(0))
      >>> js.interop.from_nnx(nnx.state(layer, nnx.Param))
      Params({'kernel': float32[3,4]})
      >>> js.interop.from_nnx({"layers": {0: {"w": jax.numpy.ones(3)}}})
      Params({'layers': {'0': {'w': float32[3]}}})
    """
    if _is_of_nnx(tree) and not isinstance(tree, Mapping):
        raise _not_a_state(tree)
    check_mapping("The state of NNX", tree, "pass nnx.state(module), or its pure dict.")
    items = [(path, leaf) for path, leaf in walk(tree) if not isinstance(leaf, Mapping)]
    names = ["/".join(map(_component, path)) for path, _ in items]
    leaves = (_value(leaf) for _, leaf in items)
    return params_under(names, leaves, lambda number: f"the path {items[number][0]}")


def _is_of_nnx(value: object) -> bool:
    """Whether its class, or one that this derives from, is NNX's; which is not imported for it."""
    return any(base.__module__.startswith("flax.nnx") for base in type(value).__mro__)


def _component(key: object) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise wrong_kind(
            f"A key of a state of NNX is text or an integer, got {key!r}.",
            "pass nnx.state(module), or its pure dict, which is nested.",
        )
    return str(key)


def _value(leaf: Any) -> PyTree:
    if not _is_of_nnx(leaf):
        return leaf
    if hasattr(leaf, "get_value"):
        return leaf.get_value()
    if hasattr(leaf, "raw_value") or hasattr(leaf, "value"):  # before Flax 0.12
        return leaf.value
    raise _not_a_state(leaf)


def _not_a_state(value: object) -> TreeTypeError:
    return wrong_kind(
        f"from_nnx takes the state of a module, got the {type(value).__name__} itself.",
        "pass nnx.state(module), or nnx.state(module, nnx.Param) for its params alone.",
    )

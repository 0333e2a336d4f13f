"""Pure functions over params, gradients and other nested trees, by full name.

Nothing here knows about passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jscope._params import Params, grow, walk, wrap
from jscope.errors import CheckError, NameClashError

__all__ = ["flatten", "unflatten"]


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a nested mapping by full name, in order; empty scopes are left out.

    Args:
      tree: Nested mapping of strings, such as Params.

    Returns:
      ``{"a/b/w": leaf}``.

    Raises:
      CheckError: (ValueError) ``tree`` is no mapping, or a key cannot be part of a name.

    Example:
      >>> import jscope as js
      >>> js.tree.flatten({"a": {"b": {"w": 1}}, "v": 2})
      {'a/b/w': 1, 'v': 2}
    """
    if not isinstance(tree, Mapping):
        raise CheckError.not_a_mapping("the tree", tree)
    return {
        "/".join(path): leaf for path, leaf in walk(Params(tree)) if not isinstance(leaf, Mapping)
    }


def unflatten(mapping: Mapping[str, Any]) -> Params:
    """Params of leaves by full name; the inverse of ``flatten``.

    Args:
      mapping: ``{"a/b/w": leaf}``.

    Raises:
      CheckError: (ValueError) ``mapping`` is no mapping, or a key is no name.
      NameClashError: (ValueError) one key is a scope of another.

    Example:
      >>> import jscope as js
      >>> js.tree.unflatten({"a/b/w": 1, "v": 2}).to_dict()
      {'a': {'b': {'w': 1}}, 'v': 2}
    """
    if not isinstance(mapping, Mapping):
        raise CheckError.not_a_mapping("the tree", mapping)
    for name in mapping:
        if not isinstance(name, str) or not all(name.split("/")):
            raise CheckError.bad_key(name)
        above = name
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in mapping:
                raise NameClashError.make(name, above, first=(), again=())
    return wrap(grow((tuple(name.split("/")), leaf) for name, leaf in mapping.items()))

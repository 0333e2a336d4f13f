"""The full names of the leaves of a tree, and trees of names and leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax

from jscope._params import Params, PyTree, grow, walk, wrap
from jscope._spec import Specs
from jscope.errors import CheckError, NameClashError

Item: TypeAlias = tuple[str, Any]
"""A full name and a leaf."""


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a nested mapping by full name; empty scopes are left out.

    In the mapping's own order: params of ``init`` have that of creation; JAX sorts the keys of all
    it rebuilds (``jax.tree.map``, ``jax.jit``), as with dicts. So go by name, not by position.

    Args:
      tree: Nested mapping of strings, such as Params; or Specs.

    Returns:
      ``{"a/b/w": leaf}``; of Specs, ``{"a/b/w": spec}``.

    Raises:
      CheckError: (ValueError) ``tree`` is no mapping, or a key cannot be part of a name.

    Example:
      >>> import jscope as js
      >>> js.tree.flatten({"a": {"b": {"w": 1}}, "v": 2})
      {'a/b/w': 1, 'v': 2}
    """
    if not isinstance(tree, Mapping):
        raise CheckError.not_a_tree(tree)
    if isinstance(tree, Specs):
        return dict(tree)
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
        raise CheckError.not_a_tree(mapping)
    for name in mapping:
        if not isinstance(name, str) or not all(name.split("/")):
            raise CheckError.bad_key(name)
    names = list(mapping)
    check_distinct(names, lambda number: f"the key {names[number]!r}")
    return params_of(mapping.items())


def leaves_of(tree: Mapping[str, Any]) -> list[Item]:
    return list(flatten(tree).items())


def empty_scopes(tree: Mapping[str, Any]) -> list[Item]:
    """The scopes that hold nothing, as items with an empty dict."""
    if isinstance(tree, Specs):
        return []
    return [
        ("/".join(path), leaf) for path, leaf in walk(Params(tree)) if isinstance(leaf, Mapping)
    ]


def params_of(items: Iterable[Item]) -> Params:
    return wrap(grow((tuple(name.split("/")), leaf) for name, leaf in items))


def like(tree: Mapping[str, Any], items: Iterable[Item]) -> Params | Specs:
    """Specs if ``tree`` is Specs, else Params."""
    return Specs(leaf for _, leaf in items) if isinstance(tree, Specs) else params_of(items)


def named(tree: PyTree) -> tuple[list[Item], Any]:
    """The leaves of any pytree with their names, and the structure to put others in."""
    if isinstance(tree, Specs):
        tree = params_of(tree.items())
    # A mapping that JAX does not know would be one leaf.
    tree = jax.tree.map(lambda leaf: Params(leaf) if isinstance(leaf, Mapping) else leaf, tree)
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    return [(_name(path), leaf) for path, leaf in leaves], structure


def _name(path: Iterable[Any]) -> str:
    """The name that a key path of JAX ends with: the keys of the innermost nested mapping."""
    components: list[str] = []
    for key in path:
        if isinstance(key, jax.tree_util.DictKey):
            components.append(str(key.key))
        elif not isinstance(key, jax.tree_util.SequenceKey):
            components.clear()  # the attribute of a state, such as mu
        elif components:
            components.append(str(key.idx))
    return "/".join(components)


def check_distinct(names: Sequence[str], origin: Callable[[int], str]) -> None:
    """Refuses equal names, and names that are scopes of others; ``origin(i)`` describes one."""
    found: dict[str, int] = {}
    for number, name in enumerate(names):
        first = found.setdefault(name, number)
        if first != number:
            raise NameClashError.among(name, name, first=origin(first), again=origin(number))
    for name, number in found.items():
        above = name
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in found:
                raise NameClashError.among(
                    name, above, first=origin(found[above]), again=origin(number)
                )

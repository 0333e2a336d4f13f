"""The full names of the leaves of a tree, and trees of names and leaves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax

from jscope._params import NestedMapping, Params, PyTree, bad_key, params_of, walk
from jscope._spec import Specs
from jscope.errors import NameClashError, TreeTypeError

Item: TypeAlias = tuple[str, PyTree]
"""A full name and a leaf."""


def flatten(tree: NestedMapping) -> dict[str, PyTree]:
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
        raise _not_a_tree(tree)
    if isinstance(tree, Specs):
        return dict(tree)
    return {
        "/".join(path): leaf for path, leaf in walk(Params(tree)) if not isinstance(leaf, Mapping)
    }


def _not_a_tree(value: object) -> TreeTypeError:
    return TreeTypeError(
        f"The tree must be a nested mapping of names to arrays, got {type(value).__name__}.",
        {
            "fix": "pass params, state, gradients or specs, or such a mapping inside it, as "
            "opt_state[0].mu; mask, labels, map_with_name, count and nbytes take any pytree."
        },
    )


def unflatten(mapping: NestedMapping) -> Params:
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
        raise _not_a_tree(mapping)
    for name in mapping:
        check_full_name(name)
    names = list(mapping)
    check_distinct(names, lambda number: f"the key {names[number]!r}")
    return params_of(mapping.items())


def leaves_of(tree: NestedMapping) -> list[Item]:
    return list(flatten(tree).items())


def full_names(tree: NestedMapping) -> dict[str, PyTree]:
    """As ``flatten``, of a mapping whose keys may be full names too."""
    if not isinstance(tree, Mapping) or isinstance(tree, Specs):
        return flatten(tree)
    items = [(path, leaf) for path, leaf in walk(tree) if not isinstance(leaf, Mapping)]
    for key in itertools.chain.from_iterable(path for path, _ in items):
        check_full_name(key)
    names = ["/".join(path) for path, _ in items]
    check_distinct(names, lambda number: f"the path {items[number][0]}")
    return dict(zip(names, [leaf for _, leaf in items], strict=True))


def check_full_name(key: object) -> None:
    if not isinstance(key, str) or not all(key.split("/")):
        raise bad_key(key)


def empty_scopes(tree: NestedMapping) -> list[Item]:
    """The scopes that hold nothing, as items with an empty dict."""
    if isinstance(tree, Specs):
        return []
    return [
        ("/".join(path), leaf) for path, leaf in walk(Params(tree)) if isinstance(leaf, Mapping)
    ]


def like(tree: Mapping[str, Any], items: Iterable[Item]) -> Params | Specs:
    """Specs if ``tree`` is Specs, else Params."""
    return Specs(leaf for _, leaf in items) if isinstance(tree, Specs) else params_of(items)


def named(tree: PyTree) -> tuple[list[Item], jax.tree_util.PyTreeDef]:
    """The leaves of any pytree with their names, and the structure to put others in."""
    if isinstance(tree, Specs):
        tree = params_of(tree.items())
    # A mapping that JAX does not know would be one leaf.
    tree = jax.tree.map(lambda leaf: Params(leaf) if isinstance(leaf, Mapping) else leaf, tree)
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    return [(_name(path), leaf) for path, leaf in leaves], structure


def _name(path: Iterable[object]) -> str:
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
            raise _clash(name, name, first=origin(first), again=origin(number))
    for name, number in found.items():
        above = name
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in found:
                raise _clash(name, above, first=origin(found[above]), again=origin(number))


def _clash(name: str, other: str, *, first: str, again: str) -> NameClashError:
    """Between the names of trees, which were made nowhere in particular."""
    if name == other:
        summary = f"Two variables would have the name {name}."
    else:
        summary = (
            f"Variable {name} cannot be made: {other} would be a variable and also the scope "
            f"of {name}."
        )
    return NameClashError(
        summary,
        {"first": first, "again": again, "fix": "rename or leave out one of the two."},
        name=name,
        other=other,
        sites=(),
    )


def map_with_name(f: Callable[[str, PyTree], PyTree], tree: PyTree) -> PyTree:
    """The same structure with ``f(name, leaf)`` for each leaf.

    Args:
      f: Function of a full name and a leaf.
      tree: Nested mapping or any pytree that holds some, such as the state of an optimizer; or
        Specs.

    Returns:
      The tree with the results; of Specs, Params of those.

    Example:
      >>> import jscope as js
      >>> js.tree.map_with_name(lambda name, x: f"{name} = {x}", {"net": {"w": 1.0}})
      {'net': {'w': 'net/w = 1.0'}}
    """
    items, structure = named(tree)
    return jax.tree.unflatten(structure, [f(name, leaf) for name, leaf in items])

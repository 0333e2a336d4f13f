"""Pure functions over params, state, gradients, specs and optimizer states, by full name.

A pattern says which names are meant. It is

- a path, matched by whole components: ``"gen"`` is the variable ``gen``, or the scope ``gen`` and
  all in it, and never ``generator/w``; ``""`` is everything, ``"gen/"`` what is in the scope;
- a glob, matched with the whole name: ``*`` stands for any text within one component, ``?`` for
  one character, ``[ab]`` and ``[!ab]`` for one of a set, and the component ``**`` for any number
  of components, none included: ``"**/bias"``, ``"encoder/**"``, ``"layer_[0-3]/**"``;
- a compiled ``re.Pattern``, searched in the full name;
- a function of (name, leaf) that returns a bool;
- a list, tuple or set of patterns: what any of them means, where each has to mean something.

A pattern that selects nothing is an ``EmptySelectionError``, unless ``allow_empty=True``.

The name of a leaf is its path in the nested mapping. In a pytree that holds such mappings, as the
state of an optimizer does, it is the path in the innermost one; a leaf in none, such as a count of
steps, has the empty name.

Nothing here knows about passes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, overload

import jax
import jax.numpy as jnp

from jscope._names import (
    Item,
    check_distinct,
    empty_scopes,
    leaves_of,
    like,
    named,
    params_of,
)
from jscope._names import flatten as flatten
from jscope._names import unflatten as unflatten
from jscope._params import Params, PyTree
from jscope._pattern import Pattern, choose, claim, is_glob, show
from jscope._restack import stack_layers as stack_layers
from jscope._restack import unstack_layers as unstack_layers
from jscope._spec import Specs
from jscope.errors import ArgumentError, CheckError, InvalidNameError

__all__ = [
    "count",
    "flatten",
    "labels",
    "map_with_name",
    "mask",
    "merge",
    "nbytes",
    "partition",
    "rename",
    "select",
    "stack_layers",
    "unflatten",
    "unstack_layers",
]


def __dir__() -> list[str]:
    return __all__


@overload
def select(tree: Specs, pattern: Pattern, *, allow_empty: bool = ...) -> Specs: ...
@overload
def select(tree: Mapping[str, Any], pattern: Pattern, *, allow_empty: bool = ...) -> Params: ...
def select(
    tree: Mapping[str, Any], pattern: Pattern, *, allow_empty: bool = False
) -> Params | Specs:
    """The part of a tree that a pattern means, under the same full names; no empty scopes.

    Args:
      tree: Nested mapping, such as params, state or gradients; or Specs.
      pattern: A path, glob, regular expression, function of (name, leaf), or a list of these; see
        ``help(jscope.tree)``.
      allow_empty: Whether a pattern may select nothing.

    Returns:
      Params; of Specs, Specs.

    Raises:
      EmptySelectionError: (ValueError) the pattern selects nothing.
      CheckError: (ValueError) ``tree`` is no nested mapping.
      ArgumentError: (ValueError, TypeError) ``pattern`` is no pattern.

    Example:
      >>> import jscope as js
      >>> params = {"gen": {"w": 1.0, "b": 2.0}, "generator": {"w": 3.0}}
      >>> js.tree.select(params, "gen").to_dict()
      {'gen': {'w': 1.0, 'b': 2.0}}
      >>> js.tree.select(params, "*/w").to_dict()
      {'gen': {'w': 1.0}, 'generator': {'w': 3.0}}
    """
    items = leaves_of(tree)
    chosen = choose(pattern, items, allow_empty=allow_empty)
    return like(tree, itertools.compress(items, chosen))


@overload
def partition(tree: Specs, *patterns: Pattern, allow_empty: bool = ...) -> tuple[Specs, ...]: ...
@overload
def partition(
    tree: Mapping[str, Any], *patterns: Pattern, allow_empty: bool = ...
) -> tuple[Params, ...]: ...
def partition(
    tree: Mapping[str, Any], *patterns: Pattern, allow_empty: bool = False
) -> tuple[Params | Specs, ...]:
    """Splits a tree into one part for each pattern, and the rest; ``merge`` puts them together.

    Args:
      tree: Nested mapping, such as params, state or gradients; or Specs.
      *patterns: As in ``select``. A leaf goes to the first that matches, so a narrow pattern goes
        before a wide one.
      allow_empty: Whether the part of a pattern may be empty; the rest always may.

    Returns:
      A tuple of Params, one longer than ``patterns``: the last is the rest, with the scopes that
      are empty. Of Specs, Specs.

    Raises:
      EmptySelectionError: (ValueError) a pattern selects nothing, or nothing that the patterns
        before it leave.
      CheckError: (ValueError) ``tree`` is no nested mapping.
      ArgumentError: (ValueError, TypeError) one of ``patterns`` is no pattern.

    Example:
      >>> import jscope as js
      >>> params = {"gen": {"w": 1.0}, "disc": {"w": 2.0}, "step": 0}
      >>> gen, disc, rest = js.tree.partition(params, "gen", "disc")
      >>> gen.to_dict(), disc.to_dict(), rest.to_dict()
      ({'gen': {'w': 1.0}}, {'disc': {'w': 2.0}}, {'step': 0})
    """
    items = leaves_of(tree)
    owners = claim(patterns, items, allow_empty=allow_empty)
    parts: list[list[Item]] = [[] for _ in range(len(patterns) + 1)]
    parts[-1] += empty_scopes(tree)
    for item, owner in zip(items, owners, strict=True):
        parts[owner].append(item)
    return tuple(like(tree, part) for part in parts)


@overload
def merge(*trees: Specs) -> Specs: ...
@overload
def merge(*trees: Mapping[str, Any]) -> Params: ...
def merge(*trees: Mapping[str, Any]) -> Params | Specs:
    """One tree of the variables and scopes of several, the inverse of ``partition``.

    Args:
      *trees: Nested mappings, such as Params; or Specs. No name may be in two of them.

    Returns:
      Params; Specs if there are only Specs.

    Raises:
      NameClashError: (ValueError) two trees have a variable of one name, or a variable of one is a
        scope of another.
      CheckError: (ValueError) one of ``trees`` is no nested mapping.

    Example:
      >>> import jscope as js
      >>> js.tree.merge({"gen": {"w": 1.0}}, {"disc": {"w": 2.0}, "gen": {"b": 3.0}}).to_dict()
      {'gen': {'w': 1.0, 'b': 3.0}, 'disc': {'w': 2.0}}
    """
    found = [(index, item) for index, tree in enumerate(trees) for item in leaves_of(tree)]
    names = [name for _, (name, _) in found]
    check_distinct(names, lambda at: f"{names[at]} in trees[{found[at][0]}]")
    items = [item for _, item in found]
    if trees and all(isinstance(tree, Specs) for tree in trees):
        return like(trees[0], items)
    # Empty scopes first, the outer before the inner, so that they cover nothing.
    empty = sorted(item for tree in trees for item in empty_scopes(tree))
    return params_of([*empty, *items])


def mask(tree: PyTree, pattern: Pattern, *, allow_empty: bool = False) -> PyTree:
    """The same structure with True where a pattern matches, for ``optax.masked`` and the like.

    Args:
      tree: Nested mapping or any pytree that holds some, such as the state of an optimizer; or
        Specs.
      pattern: As in ``select``.
      allow_empty: Whether a pattern may select nothing.

    Returns:
      The tree with True or False, Python's, for each leaf; of Specs, Params of those.

    Raises:
      EmptySelectionError: (ValueError) the pattern selects nothing.
      ArgumentError: (ValueError, TypeError) ``pattern`` is no pattern.

    Example:
      >>> import jscope as js
      >>> js.tree.mask({"dense": {"kernel": 1.0, "bias": 2.0}}, "**/kernel")
      {'dense': {'bias': False, 'kernel': True}}
    """
    items, structure = named(tree)
    return jax.tree.unflatten(structure, choose(pattern, items, allow_empty=allow_empty))


def labels(
    tree: PyTree,
    patterns: Mapping[Any, Any],
    *,
    default: Any = ...,
    allow_empty: bool = False,
) -> PyTree:
    """The same structure with a label for each leaf, for ``optax.multi_transform``.

    Args:
      tree: Nested mapping or any pytree that holds some; or Specs.
      patterns: ``{pattern: label}``, with patterns as in ``select``. A label is anything but None,
        which JAX takes for the absence of a leaf.
      default: Label of what no pattern matches. If it is left out, every leaf has to have one.
      allow_empty: Whether patterns may select nothing.

    Returns:
      The tree with a label for each leaf; of Specs, Params of those.

    Raises:
      EmptySelectionError: (ValueError) a pattern selects nothing.
      CheckError: (ValueError) two patterns give a leaf different labels, or none gives it one.
      ArgumentError: (ValueError, TypeError) what is given is no mapping, no pattern or no label.

    Example:
      >>> import jscope as js
      >>> params = {"encoder": {"w": 1.0}, "decoder": {"w": 2.0}}
      >>> js.tree.labels(params, {"encoder": "frozen"}, default="adam")
      {'decoder': {'w': 'adam'}, 'encoder': {'w': 'frozen'}}
    """
    if not isinstance(patterns, Mapping):
        raise ArgumentError.make("patterns", patterns, "a mapping of patterns to labels")
    if any(label is None for label in (default, *patterns.values())):
        raise ArgumentError.make("label", None, "anything but None, which JAX takes for no leaf")
    items, structure = named(tree)
    found: list[tuple[str, Any]] = [("", default)] * len(items)
    for pattern, label in patterns.items():
        for row, chosen in enumerate(choose(pattern, items, allow_empty=allow_empty)):
            if chosen and found[row][0] and found[row][1] != label:
                raise CheckError.two_labels(items[row][0], found[row], (show(pattern), label))
            if chosen:
                found[row] = show(pattern), label
    without = [name for (name, _), (_, label) in zip(items, found, strict=True) if label is ...]
    if without:
        raise CheckError.no_label(without)
    return jax.tree.unflatten(structure, [label for _, label in found])


@overload
def rename(tree: Specs, names: Mapping[Any, Any], *, allow_empty: bool = ...) -> Specs: ...
@overload
def rename(
    tree: Mapping[str, Any], names: Mapping[Any, Any], *, allow_empty: bool = ...
) -> Params: ...
def rename(
    tree: Mapping[str, Any],
    names: Mapping[Any, Any],
    *,
    allow_empty: bool = False,
) -> Params | Specs:
    r"""The tree with other names, all changed at once; empty scopes are left out.

    Args:
      tree: Nested mapping, such as params, state or gradients; or Specs.
      names: ``{"q": "target_q"}``, the paths of variables or scopes and their new ones: ``q/w``
        becomes ``target_q/w``, and ``q_2/w`` stays. The empty path is the root, so ``{"net": ""}``
        takes ``net/`` off. A key may be a compiled ``re.Pattern``, its value as in ``re.sub``. The
        first that matches a name renames it.
      allow_empty: Whether one of ``names`` may match nothing.

    Returns:
      Params; of Specs, Specs.

    Raises:
      EmptySelectionError: (ValueError) a key matches nothing, or nothing that the keys before it
        leave.
      NameClashError: (ValueError) two variables would have one name, or one would be the scope of
        another.
      InvalidNameError: (ValueError) a new name is empty or has an empty component.
      CheckError: (ValueError) ``tree`` is no nested mapping.
      ArgumentError: (ValueError, TypeError) a key or a value of ``names`` is something else.

    Example:
      >>> import re
      >>> import jscope as js
      >>> params = {"q": {"w": 1.0}, "q_2": {"w": 2.0}}
      >>> js.tree.rename(params, {"q": "target_q"}).to_dict()
      {'target_q': {'w': 1.0}, 'q_2': {'w': 2.0}}
      >>> layers = {re.compile(r"layer_(\d+)"): r"block\1"}
      >>> js.tree.rename({"layer_0": {"w": 1.0}}, layers).to_dict()
      {'block0': {'w': 1.0}}
    """
    rules = _rules(names)
    items = leaves_of(tree)
    owners = claim([old for old, _ in rules], items, allow_empty=allow_empty)
    renamed: list[Item] = []
    for (name, leaf), owner in zip(items, owners, strict=True):
        new = _renamed(name, *rules[owner]) if owner < len(rules) else name
        if not all(new.split("/")):
            raise InvalidNameError.make(new, "variable")
        renamed.append(
            (new, dataclasses.replace(leaf, name=new)) if isinstance(tree, Specs) else (new, leaf)
        )

    def origin(number: int) -> str:
        old, new = items[number][0], renamed[number][0]
        return f"{new}, not renamed" if old == new else f"{new}, renamed from {old}"

    check_distinct([name for name, _ in renamed], origin)
    return like(tree, renamed)


def map_with_name(f: Callable[[str, Any], Any], tree: PyTree) -> PyTree:
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

    Args:
      tree: Any pytree of arrays, shapes (``jax.ShapeDtypeStruct``) or numbers; or Specs.

    Raises:
      CheckError: (ValueError) a leaf is something else.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.tree.nbytes({"w": jnp.ones([3, 4]), "b": jnp.ones([4], jnp.bfloat16)})
      56
    """
    return sum(elements * width for elements, width in map(_size, named(tree)[0]))


def _rules(names: Mapping[Any, Any]) -> list[tuple[str | re.Pattern[str], Any]]:
    if not isinstance(names, Mapping):
        raise ArgumentError.make("names", names, "a mapping of old paths to new ones")
    for old, new in names.items():
        if not isinstance(old, str | re.Pattern) or (isinstance(old, str) and is_glob(old)):
            raise ArgumentError.make("old name", old, "a path or a compiled regular expression")
        if not isinstance(new, str) and (isinstance(old, str) or not callable(new)):
            raise ArgumentError.make("new name", new, "a string, as in {'q': 'target_q'}")
    return list(names.items())


def _renamed(name: str, old: str | re.Pattern[str], new: Any) -> str:
    if isinstance(old, re.Pattern):
        return old.sub(new, name)
    inner = name[len(old) :].removeprefix("/")
    return "/".join(part for part in (new.removesuffix("/"), inner) if part)


def _size(item: Item) -> tuple[int, int]:
    """The number of elements of a leaf, and the bytes of each."""
    name, leaf = item
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if shape is None and isinstance(leaf, bool | int | float | complex):
        shape, dtype = (), jnp.result_type(type(leaf))  # as JAX would hold it
    if shape is None or dtype is None:
        raise CheckError.no_size(name, leaf)
    return math.prod(shape), dtype.itemsize

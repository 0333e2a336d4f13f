"""Parts of trees: select, partition, merge, update, mask and labels."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, overload

import jax

from jscope._arguments import bad_argument, check_flag
from jscope._params import NestedMapping, Params, PyTree, params_of
from jscope._report import brief, near_names, quoted, some_of
from jscope._spec import Specs
from jscope.errors import CheckError, LabelError
from jscope.tree._names import (
    Item,
    check_distinct,
    empty_scopes,
    full_names,
    leaves_of,
    like,
    named,
)
from jscope.tree._patterns import Pattern, choose, claim, show


@overload
def select(tree: Specs, pattern: Pattern, *, allow_empty: bool = ...) -> Specs: ...
@overload
def select(tree: NestedMapping, pattern: Pattern, *, allow_empty: bool = ...) -> Params: ...
def select(tree: NestedMapping, pattern: Pattern, *, allow_empty: bool = False) -> Params | Specs:
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
    tree: NestedMapping, *patterns: Pattern, allow_empty: bool = ...
) -> tuple[Params, ...]: ...
def partition(
    tree: NestedMapping, *patterns: Pattern, allow_empty: bool = False
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
def merge(*trees: NestedMapping) -> Params: ...
def merge(*trees: NestedMapping) -> Params | Specs:
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


@overload
def update(tree: Specs, *others: Specs, new: bool = ...) -> Specs: ...
@overload
def update(tree: NestedMapping, *others: NestedMapping, new: bool = ...) -> Params: ...
def update(tree: NestedMapping, *others: NestedMapping, new: bool = False) -> Params | Specs:
    """The tree with the leaves of others in place of its own; later ones win.

    Leaves are taken as they are, of whatever shape: ``jscope.check`` compares params with specs.

    Args:
      tree: Nested mapping, such as params, state or gradients; or Specs.
      *others: Such mappings, of parts of the tree. Here a key may be a full name, so that what a
        function returns by name, ``{"net/w": value}``, can be put into its params.
      new: Whether they may have names that ``tree`` has not.

    Returns:
      Params; Specs if there are only Specs.

    Raises:
      CheckError: (ValueError) a name is not in ``tree``; or one of the trees is no nested mapping.
      NameClashError: (ValueError) with ``new``, a variable of one tree is a scope of another.
      ArgumentError: (ValueError, TypeError) ``new`` is no bool.

    Example:
      >>> import jscope as js
      >>> params = {"net": {"w": 1.0, "b": 2.0}}
      >>> js.tree.update(params, {"net": {"b": 0.0}}, {"net/w": 3.0}).to_dict()
      {'net': {'w': 3.0, 'b': 0.0}}
    """
    new = check_flag("new", new)
    found = dict(leaves_of(tree))
    origin = dict.fromkeys(found, "the tree")
    for number, other in enumerate(others):
        items = full_names(other)
        if not new:
            _check_known(items, found, number)
        origin |= dict.fromkeys(items, f"others[{number}]")
        found |= items
    if new:
        names = list(found)
        check_distinct(names, lambda at: f"{names[at]} in {origin[names[at]]}")
    if all(isinstance(each, Specs) for each in (tree, *others)):
        return like(tree, found.items())
    return params_of([*empty_scopes(tree), *found.items()])


def _check_known(items: Iterable[str], known: Collection[str], number: int) -> None:
    unknown = [name for name in items if name not in known]
    if unknown:
        raise _not_in_tree(unknown, known, number)


def _not_in_tree(unknown: Sequence[str], known: Iterable[str], number: int) -> CheckError:
    near = near_names(unknown[0], known)
    return CheckError(
        f"{unknown[0]} is not in the tree to update"
        + (f", nor {len(unknown) - 1} more." if len(unknown) > 1 else "."),
        {
            "names": some_of(unknown) if len(unknown) > 1 else None,
            "asked": f"by others[{number}]",
            "near": quoted(near) if near else None,
            "fix": "correct the name; pass new=True to add what is not there.",
        },
        unexpected=tuple(unknown),
    )


def mask(tree: PyTree, pattern: Pattern, *, allow_empty: bool = False) -> PyTree:
    """The same structure with True where a pattern matches, for ``optax.masked`` and the like.

    As ``select``, with:
      tree: Nested mapping or any pytree that holds some, such as the state of an optimizer; or
        Specs.

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
    default: object = ...,
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
        raise bad_argument("patterns", patterns, "a mapping of patterns to labels")
    if any(label is None for label in (default, *patterns.values())):
        raise bad_argument("label", None, "anything but None, which JAX takes for no leaf")
    items, structure = named(tree)
    found: list[tuple[str, object]] = [("", default)] * len(items)
    for pattern, label in patterns.items():
        for row, chosen in enumerate(choose(pattern, items, allow_empty=allow_empty)):
            if chosen and found[row][0] and found[row][1] != label:
                raise _two_labels(items[row][0], found[row], (show(pattern), label))
            if chosen:
                found[row] = show(pattern), label
    without = [name for (name, _), (_, label) in zip(items, found, strict=True) if label is ...]
    if without:
        raise _no_label(without)
    return jax.tree.unflatten(structure, [label for _, label in found])


def _no_label(names: Sequence[str]) -> LabelError:
    return LabelError(
        f"No pattern gives {names[0]} a label"
        + (f", nor {len(names) - 1} more." if len(names) > 1 else "."),
        {
            "names": some_of(names) if len(names) > 1 else None,
            "fix": "add a pattern that selects what is left, or pass default=.",
        },
        missing=tuple(names),
    )


def _two_labels(name: str, first: tuple[str, object], again: tuple[str, object]) -> LabelError:
    return LabelError(
        f"Two patterns give {name} different labels.",
        {
            "first": f"{first[0]} gives {brief(first[1])}",
            "again": f"{again[0]} gives {brief(again[1])}",
            "fix": "narrow one of the patterns, so that no name has two labels.",
        },
        unexpected=(name,),
    )

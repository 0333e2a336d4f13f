"""Targets: what is to be restored, by full name, and the form of the result."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import jax
import numpy as np
from jax.sharding import AbstractMesh, Sharding

from jscope._arguments import bad_argument
from jscope._params import (
    RESTORED,
    NestedMapping,
    Params,
    PyTree,
    grow,
    is_array,
    is_restored,
    walk,
    wrap,
)
from jscope._report import brief, describe
from jscope._spec import DType, Shape, Specs
from jscope._transform import Transformed, TransformedWithState
from jscope.errors import ArgumentError, TreeTypeError
from jscope.io._checkpoint import Checkpoint
from jscope.io._source import is_key
from jscope.io._tree import named_leaves
from jscope.tree._names import check_distinct


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """A number of Python in a target, for which a number of its kind comes, of any size."""

    dtype: DType
    shape: Shape = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Arrays, or what stands for them, by full name.

    Attributes:
      leaves: Full name -> array, ``jax.ShapeDtypeStruct`` or Number.
      shardings: Full name -> where a result belongs, if that is said.
      rebuilt: Gives the target with values, by full name: what has none keeps its own.
      leaves_out: Whether what has no value may be left out if it is abstract.
    """

    leaves: Mapping[str, Any]
    shardings: Mapping[str, Sharding]
    rebuilt: Callable[[Mapping[str, Any]], Any]
    leaves_out: bool = True


def target_of(target: Any) -> Target:
    """The target that a user gave.

    Raises:
      ArgumentError: (ValueError, TypeError) it is none, or a sharding cannot be met.
      CheckError: (ValueError) a key or a leaf cannot be used.
      NameClashError: (ValueError) two leaves have the same name.
    """
    if isinstance(target, Specs):
        target = target.params(), target.state()
    if isinstance(target, Checkpoint) or is_restored(target):
        raise _no_target(target)
    if _is_nested(target):
        return _of_trees((Params(target),), lambda trees: trees[0])
    if type(target) is tuple and len(target) == 2 and all(map(_is_nested, target)):
        return _of_trees(tuple(map(Params, target)), tuple)
    return _of_pytree(target)


def _is_nested(tree: PyTree) -> TypeGuard[NestedMapping]:
    """Whether it is a nested mapping of arrays and nothing else, with keys that Params may have."""
    return isinstance(tree, Mapping) and all(
        (is_array(leaf) or isinstance(leaf, Mapping))
        and not any("/" in key for key in path if isinstance(key, str))
        for path, leaf in walk(tree)
    )


def _of_trees(trees: tuple[Params, ...], form: Callable[[tuple[Params, ...]], Any]) -> Target:
    items = [
        ("/".join(path), leaf, what)
        for tree, what in zip(trees, ("params", "state"), strict=False)
        for path, leaf in walk(tree)
        if not isinstance(leaf, Mapping)
    ]
    check_distinct([name for name, _, _ in items], lambda number: f"in {items[number][2]}")
    leaves = {name: leaf for name, leaf, _ in items}
    return Target(
        leaves,
        _shardings(leaves),
        lambda values: form(tuple(_filled(tree, values) for tree in trees)),
    )


def _filled(tree: Params, values: Mapping[str, Any]) -> Params:
    filled = ((path, values.get("/".join(path), leaf)) for path, leaf in walk(tree))
    return wrap(grow(item for item in filled if not isinstance(item[1], jax.ShapeDtypeStruct)))


def _of_pytree(tree: PyTree) -> Target:
    """Any other tree, by the names that ``save`` gives its leaves."""
    leaves, structure = jax.tree.flatten(tree)
    if tree is None or jax.tree_util.treedef_is_leaf(structure):
        raise _no_target(tree)
    numbered = jax.tree.unflatten(structure, range(len(leaves)))
    numbers = {name: number for name, number in named_leaves(numbered) if number is not None}
    own = {name: leaves[number] for name, number in numbers.items()}
    names = sorted(numbers, key=numbers.__getitem__)

    def rebuilt(values: Mapping[str, Any]) -> PyTree:
        return jax.tree.unflatten(structure, [values.get(name, own[name]) for name in names])

    wanted = {name: _number(leaf) for name, leaf in own.items()}
    return Target(wanted, _shardings(wanted), rebuilt, leaves_out=False)


def _number(leaf: Any) -> Any:
    if is_array(leaf) or not isinstance(leaf, bool | int | float | complex):
        return leaf
    dtype = np.asarray(leaf).dtype
    return leaf if dtype.kind == "O" else Number(dtype)


def _no_target(value: object) -> ArgumentError:
    wanted = (
        "params, a pair (params, state), what net.specs(...) returned, or another tree of arrays"
    )
    error = bad_argument("target", value, wanted)
    text, fix = str(error), None
    if isinstance(value, Checkpoint):
        fix = "the target comes first: jscope.restore(target, checkpoint)."
    elif is_restored(value):
        fix = RESTORED
    elif isinstance(value, str | os.PathLike):
        file = f"jscope.io.open({os.fspath(value)!r})"
        fix = f"the target comes first: jscope.restore(target, {file})."
    elif isinstance(value, Transformed | TransformedWithState):
        text = f"The target must be {wanted}, got a {type(value).__name__}."
        fix = "give what it makes: jscope.restore(net.specs(...), source)."
    elif callable(value):
        text = f"The target must be {wanted}, got a function that is not called."
        fix = f"call it: jscope.restore({_call(value)}, source)."
    elif is_array(value):
        fix = "give it a name: jscope.restore({'w': array}, source)."
    return ArgumentError(text, {"fix": fix}, argument="target", value=error.value)


def _call(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(getattr(function, "__self__", None), Specs):
        return f"specs.{name}()"
    return f"net.{name}(...)" if name == "specs" else f"{name}(...)"


def _shardings(leaves: Mapping[str, Any]) -> dict[str, Sharding]:
    found = {name: _sharding(name, leaf) for name, leaf in leaves.items()}
    return {name: sharding for name, sharding in found.items() if sharding is not None}


def _sharding(name: str, leaf: Any) -> Sharding | None:
    """Where a result belongs: None for the default device, and for what is not JAX's."""
    if isinstance(leaf, Number):
        return None
    if not is_array(leaf):
        raise _no_array(name, leaf)
    if isinstance(leaf, np.ndarray | np.generic):
        return None
    if not is_key(leaf.dtype) and jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
        raise _too_wide(name, leaf)
    is_set = isinstance(leaf, jax.ShapeDtypeStruct) or (
        not isinstance(leaf, jax.core.Tracer) and leaf.committed
    )
    sharding: Sharding | None = leaf.sharding if is_set else None
    if sharding is not None:
        _check_sharding(name, leaf, sharding)
    return sharding


def _no_array(name: str, leaf: object) -> TreeTypeError:
    return TreeTypeError(
        f"The target's {name!r} is no array: it is {brief(leaf)} of type {type(leaf).__name__}.",
        {"fix": "give arrays of JAX or NumPy, jax.ShapeDtypeStruct, or numbers."},
        mismatched={name: ("an array", type(leaf).__name__)},
    )


def _too_wide(name: str, leaf: Any) -> ArgumentError:
    return ArgumentError(
        f"The target's {name!r} is {describe(leaf)}, and JAX makes no {leaf.dtype} as it is set.",
        {"fix": "switch jax_enable_x64 on, or give arrays of NumPy as the target."},
        argument="target",
        value=describe(leaf),
    )


def _check_sharding(name: str, leaf: Any, sharding: Sharding) -> None:
    try:
        is_abstract = isinstance(getattr(sharding, "mesh", None), AbstractMesh)
        reason = "its mesh is abstract: it has no devices" if is_abstract else ""
        sharding.shard_shape(leaf.shape)
    except ValueError as error:
        reason = str(error)
    if reason:
        raise ArgumentError(
            f"The target's {name!r}, {describe(leaf)}, cannot be laid out as {brief(sharding)}.",
            {"reason": reason},
            argument="target",
            value=brief(sharding),
        )

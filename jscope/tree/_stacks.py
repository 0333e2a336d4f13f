"""Params between layers, ``layer_0 ... layer_{n-1}``, and the stacks of ``layer_stack``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jscope._arguments import as_array
from jscope._params import NestedMapping, Params, PyTree
from jscope._report import describe, is_shaped, near_names, quoted
from jscope.errors import EmptySelectionError, LayersError
from jscope.tree._names import flatten, unflatten


def stack_layers(tree: NestedMapping, scope: str = "", *, name: str = "layer") -> Params:
    """Moves params of layers ``layer_0 ... layer_{n-1}`` to the form of ``jscope.layer_stack``.

    Wherever a scope holds layers, their variables move into that scope, with a leading axis; layers
    inside layers first, so that they become nested stacks.

    Args:
      tree: Params, state, gradients or specs' ShapeDtypeStructs; nested mapping.
      scope: Full name of the scope to look in, and below; all of the tree if empty.
      name: What the names of the layers start with.

    Returns:
      The tree in which ``layer_i/w`` of shape [...], for all i, became ``w`` of shape [n, ...].

    Raises:
      EmptySelectionError: (ValueError) there are no layers.
      CheckError: (ValueError) a number is missing, layers differ in names, shapes or dtypes, or a
        stacked variable would have the name of another.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> params = {"net": {"layer_0": {"w": jnp.ones([3])}, "layer_1": {"w": jnp.ones([3])}}}
      >>> js.tree.stack_layers(params)
      Params({'net': {'w': float32[2,3]}})
    """
    found: list[str] = []

    def stack(at: str, tree: NestedMapping) -> dict[str, PyTree]:
        inner = {
            key: stack(f"{at}/{key}" if at else key, value) if isinstance(value, Mapping) else value
            for key, value in tree.items()
        }
        layers = [key for key in inner if re.fullmatch(f"{re.escape(name)}_[0-9]+", key)]
        if not layers or not (at == scope or at.startswith(scope + "/") or not scope):
            return inner
        found.append(at)
        ordered = [f"{name}_{number}" for number in range(len(layers))]
        if sorted(layers) != sorted(ordered):
            raise _layers(
                f"The layers of scope {at!r} are {', '.join(sorted(layers))}, which is not 0 to "
                f"{len(layers) - 1}.",
                "number layers from 0, with no gaps and no leading zeros.",
            )
        stacked = _stack([inner[key] for key in ordered], ordered, at)
        rest = {key: value for key, value in inner.items() if key not in layers}
        if rest.keys() & stacked.keys():
            clash = min(rest.keys() & stacked.keys())
            raise _layers(
                f"The stacked {clash!r} of scope {at!r} would take the name of another variable.",
                "rename one of them, or move the layers to a scope of their own.",
            )
        return rest | stacked

    _check_scope(tree, scope)
    result = stack("", Params(tree).to_dict())
    if not found:
        raise _no_layers(scope, name)
    return Params(result)


def _layers(first: str, fix: str) -> LayersError:
    return LayersError(first, {"fix": fix})


def _no_layers(scope: str, name: str) -> EmptySelectionError:
    place = f"in the scope {scope!r}" if scope else "in the tree"
    return EmptySelectionError(
        f"There are no layers {name}_0, {name}_1, ... {place}.",
        {"fix": "give the name that the scopes of the layers share, name='layer'."},
        pattern=f"{name}_*",
    )


def unstack_layers(tree: NestedMapping, scope: str = "", *, name: str = "layer") -> Params:
    """Moves params of a ``jscope.layer_stack`` to layers ``layer_0 ... layer_{n-1}``.

    The inverse of ``stack_layers`` where everything in ``scope`` belongs to the layers.

    As ``stack_layers``, with:
      scope: Full name of the scope that the stack was called in; the root if empty.

    Returns:
      The tree in which ``w`` of shape [n, ...] in ``scope`` became ``layer_i/w`` of shape [...].

    Raises:
      EmptySelectionError: (ValueError) there are no variables in ``scope``.
      CheckError: (ValueError) they do not all have the same leading axis.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.tree.unstack_layers({"net": {"w": jnp.ones([2, 3])}}, "net")
      Params({'net': {'layer_0': {'w': float32[3]}, 'layer_1': {'w': float32[3]}}})
    """
    _check_scope(tree, scope)
    prefix = f"{scope}/" if scope else ""
    flat = flatten(tree)
    inside = {key.removeprefix(prefix): x for key, x in flat.items() if key.startswith(prefix)}
    axes = {key: tuple(leaf.shape[:1]) if is_shaped(leaf) else () for key, leaf in inside.items()}
    first, (*size,) = next(iter(axes.items()))
    for key, axis in axes.items():
        if axis != tuple(size) or not axis:
            raise _layers(
                f"{prefix}{first} is {describe(inside[first])} and {prefix}{key} is "
                f"{describe(inside[key])}: not a stack of layers with one leading axis.",
                "give the scope that holds the stack and nothing else.",
            )
    done = False
    result: dict[str, PyTree] = {}
    for key, leaf in flat.items():
        if not key.startswith(prefix):
            result[key] = leaf
        elif not done:
            done = True
            for number in range(size[0]):
                for inner, value in inside.items():
                    result[f"{prefix}{name}_{number}/{inner}"] = _layer(value, number)
    return unflatten(result)


def _check_scope(tree: NestedMapping, scope: str) -> None:
    names = flatten(tree)
    if not any(name.startswith(f"{scope}/") for name in names) and (scope or not names):
        known = {"/".join(name.split("/")[:-1]) for name in names}
        raise _no_scope(scope, sorted(known - {""}))


def _no_scope(scope: str, known: Iterable[str]) -> EmptySelectionError:
    near = tuple(near_names(scope, known))
    return EmptySelectionError(
        f"There are no variables in the scope {scope!r}.",
        {"near": quoted(near), "fix": "give the full name of a scope, such as 'net/blocks'."},
        pattern=scope,
        near=near,
    )


def _stack(layers: Sequence[NestedMapping], names: Sequence[str], at: str) -> dict[str, PyTree]:
    """Layers as one tree whose leaves have a leading axis."""
    flat = [flatten(layer) for layer in layers]
    first, *others = ({name: describe(leaf) for name, leaf in layer.items()} for layer in flat)
    for name, other in zip(names[1:], others, strict=True):
        if first != other:
            where = min(key for key in first | other if first.get(key) != other.get(key))
            raise _layers(
                f"The layers of scope {at!r} differ: {where} is {first.get(where, 'missing')} in "
                f"{names[0]} and {other.get(where, 'missing')} in {name}.",
                "layers of one stack have the same names, shapes and dtypes.",
            )

    def stack(leaves: Sequence[PyTree]) -> PyTree:
        if isinstance(leaves[0], jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct((len(leaves), *leaves[0].shape), leaves[0].dtype)
        return jnp.stack([as_array("leaves of the layers", leaf) for leaf in leaves])

    return unflatten({name: stack([layer[name] for layer in flat]) for name in first}).to_dict()


def _layer(leaf: PyTree, number: int) -> PyTree:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
    return leaf[number]

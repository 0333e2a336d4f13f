"""Params: an immutable nested mapping of arrays, and a pytree."""

from __future__ import annotations

import enum
import importlib
import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import jax
import numpy as np

from jscope._report import WIDTH, brief, describe
from jscope.errors import CheckError, TreeTypeError

PyTree: TypeAlias = Any
"""What ``jax.tree`` takes apart: arrays in tuples, lists, mappings, ..."""

NestedMapping: TypeAlias = Mapping[str, PyTree]
"""Names -> arrays or further such mappings: what users give for params and state."""

Tree: TypeAlias = dict[str, PyTree]
"""Plain nested dicts, the storage behind Params."""

Leaf: TypeAlias = tuple[tuple[str, ...], PyTree]
"""A path, and what is there."""


class OfInstances:
    """A method that its class does not have: treescope, which asks that, draws us without it."""

    def __init__(self, method: Callable[[Any], str]) -> None:
        self._method = method

    def __get__(self, instance: object, owner: type) -> Callable[[], str]:
        if instance is None:
            raise AttributeError(self._method.__name__)
        return types.MethodType(self._method, instance)


class Params(Mapping[str, PyTree]):
    """Immutable nested mapping of scopes: ``params["encoder"]["w"]``.

    A registered pytree whose leaves and key paths are those of the nested dict, so it works with
    ``jax.tree``, optax, orbax and pickle. Nothing can be set, deleted or updated: make a new one,
    for example by ``jax.tree.map`` or from ``params.to_dict()``. ``repr`` shows the shapes of
    arrays, never their values.

    Args:
      mapping: Nested mapping of strings to arrays or mappings; the nesting is copied, the arrays
        are shared.

    Raises:
      CheckError: (a ValueError) ``mapping`` is no mapping, or a key is not a string, is empty or
        holds a slash.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> params = js.Params({"encoder": {"w": jnp.zeros([3, 4])}})
      >>> params
      Params({'encoder': {'w': float32[3,4]}})
      >>> params["encoder"]["w"].shape
      (3, 4)
    """

    __slots__ = ("_keys", "_tree")
    _tree: Tree
    _keys: tuple[str, ...]

    def __init__(self, mapping: NestedMapping | Iterable[tuple[str, PyTree]] = ()) -> None:
        if not isinstance(mapping, Mapping):
            try:
                mapping = dict(mapping)
            except (TypeError, ValueError):
                raise not_a_mapping("Params", mapping) from None
        _fill(self, _copy(mapping))

    def __getitem__(self, key: str) -> PyTree:
        try:
            value = self._tree[key]
        except KeyError:
            if isinstance(key, str) and "/" in key:
                raise _no_key(key) from None
            raise
        return wrap(value) if type(value) is dict else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._tree)

    def __len__(self) -> int:
        return len(self._tree)

    def __contains__(self, key: object) -> bool:
        return key in self._tree

    def to_dict(self) -> dict[str, PyTree]:
        """A copy as plain nested dicts; the arrays are shared.

        Example:
          >>> import jscope as js
          >>> js.Params({"a": {"w": 1.0}}).to_dict()
          {'a': {'w': 1.0}}
        """
        return _copy(self._tree)

    def __repr__(self) -> str:
        return f"Params({_show(self._tree, len('Params('))})"

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        return fold(Params, self._tree, path, subtree_renderer)

    @OfInstances
    def _repr_html_(self) -> str:
        from jscope import _markup  # here, because only notebooks ask for it

        return _markup.arrays("Params", (("/".join(path), leaf) for path, leaf in walk(self._tree)))

    def __reduce__(self) -> tuple[object, ...]:
        # Flat, because pickle recurses and Python's limit is a thousand frames.
        return _from_items, (list(walk(self._tree)),)

    def __copy__(self) -> Params:
        return self

    def _refuse(self, *_: object, **__: object) -> None:
        raise TypeError(
            "Params are immutable. Make new ones: by jax.tree.map, or Params(mapping) of an edited "
            "params.to_dict()."
        )

    __setattr__ = __delattr__ = _refuse
    __setitem__ = __delitem__ = _refuse
    update = pop = popitem = clear = setdefault = __ior__ = _refuse


def _no_key(key: str) -> KeyError:
    path = "".join(f"[{component!r}]" for component in key.split("/"))
    return KeyError(
        f"{key!r} is no key: scopes are nested, params{path}; by full names they are "
        "jscope.tree.flatten(params)."
    )


RESTORED = "restore returns two things: params, report = jscope.restore(...)."


def is_restored(value: object) -> bool:
    """Whether it is all that ``restore`` returns; told by a name, for this file imports no io."""
    return isinstance(value, tuple) and [type(x).__name__ for x in value[-1:]] == ["RestoreReport"]


def not_a_mapping(what: str, value: object, *, has_state: bool = False) -> TreeTypeError:
    if is_restored(value):
        fix = RESTORED
    elif what == "specs":
        fix = "pass what net.specs(...) returned."
    elif what == "state" and has_state:
        fix = "call apply(params, state, rng, ...) with the state that init returned."
    elif not isinstance(value, tuple):
        fix = "pass what init returned, or any nested mapping of names to arrays."
    elif has_state:
        fix = "pass the pair that init returned as two arguments, apply(params, state, ...)."
    else:
        fix = (
            "a pair (params, state) goes to a network of jscope.transform_with_state; this one "
            "takes params alone."
        )
    return TreeTypeError(
        f"{what} must be a nested mapping of names to arrays, got {type(value).__name__}.",
        {"fix": fix},
    )


def _fill(params: Params, tree: Tree) -> Params:
    # Sorted once: JAX orders the keys of dicts, and flattening is on the path of every jitted call.
    object.__setattr__(params, "_tree", tree)
    object.__setattr__(params, "_keys", tuple(sorted(tree)))
    return params


def wrap(tree: Tree) -> Params:
    """Params over plain nested dicts that nobody else holds."""
    return _fill(object.__new__(Params), tree)


def _copy(mapping: NestedMapping) -> Tree:
    # A loop rather than recursion: scopes may be nested deeper than Python's stack.
    root: Tree = {}
    todo: list[tuple[NestedMapping, Tree]] = [(mapping, root)]
    while todo:
        source, target = todo.pop()
        if isinstance(source, Params):
            source = source._tree
        for key, value in source.items():
            if not isinstance(key, str) or not key or "/" in key:
                raise bad_key(key)
            if isinstance(value, Mapping):
                child: Tree = {}
                target[key] = child
                todo.append((value, child))
            else:
                target[key] = value
    return root


def bad_key(key: object) -> CheckError:
    kind, fix = (
        CheckError,
        "nest names with slashes, {'a/w': x}, by jscope.tree.unflatten(mapping).",
    )
    if not isinstance(key, str):
        kind, fix = TreeTypeError, f"make it a string, such as 'layer_0' for {key!r}."
    return kind(
        f"{key!r} is not a key of params: keys are strings, one per scope, never empty.",
        {"fix": fix},
        unexpected=(repr(key),),
    )


_END = object()


def walk(tree: NestedMapping) -> Iterator[Leaf]:
    """Yields (path, leaf) in order; an empty scope yields an empty dict, so that it is not lost."""
    path: list[str] = []
    todo = [iter(tree.items())]
    while todo:
        item = next(todo[-1], _END)
        if item is _END:
            todo.pop()
            if path:
                path.pop()
            continue
        key, value = cast(tuple[str, PyTree], item)
        if isinstance(value, Mapping) and value:
            path.append(key)
            inner = value._tree if isinstance(value, Params) else value
            todo.append(iter(inner.items()))
        else:
            yield (*path, key), {} if isinstance(value, Mapping) else value


def grow(items: Iterable[Leaf]) -> Tree:
    """Nested dicts of (path, leaf) pairs, the inverse of ``walk``."""
    root: Tree = {}
    for path, leaf in items:
        node = root
        for component in path[:-1]:
            node = node.setdefault(component, {})
        node[path[-1]] = leaf
    return root


def params_of(items: Iterable[tuple[str, Any]]) -> Params:
    """Params of full names and leaves."""
    return wrap(grow((tuple(name.split("/")), leaf) for name, leaf in items))


def _from_items(items: list[tuple[tuple[str, ...], Any]]) -> Params:
    return wrap(grow(items))


def fold(kind: type, items: Mapping[str, PyTree], path: str | None, renderer: Any) -> Any:
    """A mapping as treescope shows it, which has been imported by whoever asks for it."""
    wrapper = importlib.import_module("treescope.repr_lib").render_dictionary_wrapper
    return wrapper(kind, items, path, renderer)


def _show(tree: Tree, column: int) -> str:
    """Nested dicts as text that starts at a column, in lines of ``WIDTH`` where that can be."""
    sizes, parts = _sizes(tree), list[str]()
    # Text; or a dict, its column (None: all of it on one line) and what follows it on its line.
    todo: list[str | tuple[Tree, int | None, int]] = [(tree, column, 1)]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            parts.append(item)
            continue
        node, at, after = item
        # Far to the right nothing is gained, and deep trees would be mostly blanks.
        if at is not None and (at + sizes[id(node)] + after <= WIDTH or at > WIDTH // 2):
            at = None
        between = ", " if at is None else ",\n" + " " * (at + 1)
        pieces: list[str | tuple[Tree, int | None, int]] = ["{"]
        for index, (key, value) in enumerate(node.items()):
            label = f"{key!r}: "
            pieces.append(f"{between if index else ''}{label}")
            if isinstance(value, dict):
                inner = None if at is None else at + 1 + len(label)
                pieces.append((value, inner, after + 1 if index == len(node) - 1 else 1))
            else:
                pieces.append(_show_leaf(value))
        todo.extend(reversed([*pieces, "}"]))
    return "".join(parts)


def _sizes(tree: Tree) -> dict[int, int]:
    """How long the text of each dict is on one line, by its address."""
    nodes = [tree]
    for node in nodes:  # which grows
        nodes.extend(value for value in node.values() if isinstance(value, dict))
    sizes: dict[int, int] = {}
    for node in reversed(nodes):  # what is inside first
        length = sum(
            len(repr(key))
            + len(": , ")
            + (sizes[id(value)] if isinstance(value, dict) else len(_show_leaf(value)))
            for key, value in node.items()
        )
        sizes[id(node)] = len("{}") + max(length - len(", "), 0)
    return sizes


def _show_leaf(leaf: object) -> str:
    """What is no number is shown as it is: the flags of a mask, labels, how arrays are laid out."""
    shown = isinstance(leaf, bool | str | enum.Enum | jax.sharding.PartitionSpec)
    return brief(leaf) if shown else describe(leaf)


# Only the root is a node of its own kind; what lies below is plain dicts, which JAX flattens
# without calling Python.
def _flatten(params: Params) -> tuple[tuple[PyTree, ...], tuple[str, ...]]:
    tree = params._tree
    return tuple([tree[key] for key in params._keys]), params._keys


def _flatten_with_keys(
    params: Params,
) -> tuple[tuple[tuple[object, PyTree], ...], tuple[str, ...]]:
    tree = params._tree
    keys = params._keys
    return tuple([(jax.tree_util.DictKey(key), tree[key]) for key in keys]), keys


def _unflatten(keys: tuple[str, ...], children: Iterable[PyTree]) -> Params:
    params = object.__new__(Params)
    object.__setattr__(params, "_tree", dict(zip(keys, children, strict=True)))
    object.__setattr__(params, "_keys", keys)
    return params


jax.tree_util.register_pytree_with_keys(Params, _flatten_with_keys, _unflatten, _flatten)

# The name and the encoding of the keys are a file format.
jax.export.register_pytree_node_serialization(
    Params,
    serialized_name="jscope.Params",
    serialize_auxdata=lambda keys: json.dumps(keys).encode(),
    deserialize_auxdata=lambda data: tuple(json.loads(data)),
)


def is_array(leaf: object) -> bool:
    """Whether JAX computes with ``leaf``: an array, a NumPy one of a numeric dtype, or a shape."""
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.kind in "biufcV"
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)

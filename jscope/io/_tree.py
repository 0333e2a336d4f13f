"""The leaves of any pytree by name, as tensors that are read when they are written."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jscope._params import PyTree, bad_key
from jscope._report import brief
from jscope._spec import Specs
from jscope.errors import ArgumentError, InvalidNameError, NameClashError, TransformError
from jscope.io._checkpoint import Checkpoint, Tensor

_NUMBERS = (bool, int, float, complex)
_ARRAYS = (jax.Array, np.ndarray, np.generic, Tensor)


def named_leaves(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """Yields names and leaves: a name is the path of keys, indices and attributes to the leaf.

    None is a leaf here, so that whoever asks can tell it from nothing.
    """
    root = _children(tree)
    if root is None:
        raise _no_tree(tree)
    seen = set[str]()
    path, above, todo = [""], [tree], [iter(root)]
    while todo:
        item = next(todo[-1], None)
        if item is None:
            todo.pop(), path.pop(), above.pop()
            continue
        key, node = item
        name = "/".join([*path[1:], key])
        inner = _children(node)
        if inner is None:
            if name in seen:
                raise _clash(name)
            seen.add(name)
            yield name, node
        elif any(node is other for other in above):
            raise _cycle(name)
        else:
            path.append(key)
            above.append(node)
            todo.append(iter(inner))


def _children(node: Any) -> list[tuple[str, Any]] | None:
    """What is one level down, by key; None where a leaf is."""
    if isinstance(node, Checkpoint):
        return [(name, lazy(node, name)) for name in node]
    if isinstance(node, Specs):
        raise ArgumentError(
            "Specs cannot be saved: they have shapes and no values.",
            {"fix": "save the params that init returns."},
            argument="tree",
            value=brief(node),
        )
    if isinstance(node, Mapping):
        return [(_text(key), value) for key, value in node.items()]
    if node is None or isinstance(node, (*_ARRAYS, *_NUMBERS, str, bytes)):
        return None
    # One level: the node itself is taken apart, and nothing below it.
    first = itertools.chain([False], itertools.repeat(True))
    found = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda _: next(first))[0]
    if len(found) == 1 and not found[0][0]:
        return None
    return [(jax.tree_util.keystr(keys, simple=True, separator="/"), x) for keys, x in found]


def _text(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return str(int(key))  # of a list that became a dict
    raise bad_key(key)


def _clash(name: str) -> NameClashError:
    return NameClashError(
        f"Two variables would have the name {name}.",
        {"fix": "rename or leave out one of the two."},
        name=name,
        other=name,
        sites=(),
    )


def _cycle(name: str) -> ArgumentError:
    return ArgumentError(
        f"{name} holds itself: such a tree has no end.", argument="tree", value=name
    )


def lazy(checkpoint: Checkpoint, name: str) -> Tensor:
    """A tensor of a checkpoint, checked when it is read."""
    tensor = checkpoint._tensors[name]
    read = functools.partial(checkpoint.__getitem__, name)
    return Tensor(tensor.shape, tensor.dtype, read, parts=tensor.parts)


def tensors_of(tree: PyTree) -> dict[str, Tensor]:
    """The leaves of a tree, by name; whatever is no array or number is refused."""
    leaves = dict(named_leaves(tree))
    found = {name: _tensor(name, leaf) for name, leaf in leaves.items() if leaf is not None}
    if leaves and not found:
        raise _no_tree(tree)
    for name in found:
        _check_name(name)
    return found


def _no_tree(tree: PyTree) -> ArgumentError:
    return ArgumentError(
        f"The tree must be a mapping of names to arrays, or another pytree of arrays, got "
        f"{brief(tree)} of type {type(tree).__name__}.",
        {"fix": "give an array a name, {'w': array}."},
        argument="tree",
        value=brief(tree),
    )


def _check_name(name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        problem = "half of a surrogate pair is no text"
    else:
        if name and name != "__metadata__":
            return
        problem = "a file keeps its metadata there" if name else "a variable needs a name"
    raise InvalidNameError(
        f"{name!r} cannot be the name of a variable in a file: {problem}.",
        {"fix": "rename it before it is saved."},
        name=name,
        kind="variable",
    )


def _tensor(name: str, leaf: Any) -> Tensor:
    if isinstance(leaf, Tensor):
        return leaf
    if isinstance(leaf, jax.core.Tracer):
        raise _traced(name)
    if isinstance(leaf, jax.Array):
        _check_array(name, leaf)
    elif isinstance(leaf, _NUMBERS):
        number, leaf = leaf, np.asarray(leaf)
        if leaf.dtype == object:
            raise _refused(name, number, "pass a number that fits into 64 bits.")
    elif not isinstance(leaf, np.ndarray | np.generic) or isinstance(leaf, np.ma.MaskedArray):
        raise _refused(name, leaf, "pass arrays and numbers, or leave it out.")
    if leaf.dtype.kind in "OSUMmT" or leaf.dtype.names or leaf.dtype == np.void:
        raise _refused(name, leaf, "pass arrays of numbers, or leave it out.")
    return Tensor(leaf.shape, leaf.dtype.newbyteorder("="), functools.partial(_gathered, leaf))


def _traced(name: str) -> TransformError:
    return TransformError(
        f"{name} is traced: it has no values yet.",
        {"fix": "call jscope.io.save outside of jit, grad and vmap."},
        transform="",
        name=name,
        sites=(),
    )


def _check_array(name: str, array: jax.Array) -> None:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        fix = "save jax.random.key_data(key); jax.random.wrap_key_data gives the key back."
    elif array.is_deleted():
        fix = "its memory was donated or deleted: save it before, or save what took its place."
    elif not array.is_fully_addressable:
        fix = "parts of it are with other processes: save it by orbax, which writes from each."
    else:
        return
    raise _refused(name, array, fix)


def _refused(name: str, leaf: Any, fix: str) -> ArgumentError:
    return ArgumentError(
        f"{name} cannot be saved: it is {brief(leaf)} of type {type(leaf).__name__}.",
        {"fix": fix},
        argument="tree",
        value=brief(leaf),
    )


def _gathered(leaf: Any) -> np.ndarray:
    """The array in the memory of the host, in the byte order of the machine."""
    array = _of_shards(leaf) if isinstance(leaf, jax.Array) else np.asarray(leaf)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _of_shards(array: jax.Array) -> np.ndarray:
    # np.asarray(array) would keep its copy for as long as the array lives: that of a whole tree, in
    # the end. The arrays of shards are new ones, and go.
    if array.is_fully_replicated:
        return np.asarray(array.addressable_data(0))
    whole = np.empty(array.shape, array.dtype)
    for shard in array.addressable_shards:
        if shard.replica_id == 0:
            whole[shard.index] = np.asarray(shard.data)
    return whole

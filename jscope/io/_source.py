"""Sources of values by full name: checkpoints that are read lazily, and trees."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jscope._arguments import bad_argument
from jscope._params import RESTORED, bad_key, is_array, is_restored, walk
from jscope._report import brief, describe, is_shaped
from jscope._spec import DType, Shape, Specs
from jscope._transform import Transformed, TransformedWithState
from jscope.errors import ArgumentError, NameClashError, TreeTypeError
from jscope.io._checkpoint import Checkpoint


class Type(NamedTuple):
    """What is known of an array before it is read."""

    shape: Shape
    dtype: DType

    def __str__(self) -> str:
        return describe(self)


def type_of(array: Any) -> Type:
    """The type of an array, in this machine's order of bytes, which is no part of what it means."""
    dtype = array.dtype
    return Type(tuple(array.shape), dtype if is_key(dtype) else dtype.newbyteorder("="))


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Arrays by full name.

    Attributes:
      label: What messages call it.
      types: Full name -> type.
      read: Gives an array of NumPy, or of JAX if it holds typed keys. It may be a part of a file.
      notes: Names that have no array -> why.
    """

    label: str
    types: Mapping[str, Type]
    read: Callable[[str], Any]
    notes: Mapping[str, str]


def source_of(source: Any) -> Source:
    """The source that a user gave.

    Raises:
      ArgumentError: (ValueError, TypeError) it is none.
      CheckError: (ValueError) a key or a leaf of a mapping cannot be used.
    """
    if isinstance(source, Checkpoint):
        shapes, dtypes = source.shapes, source.dtypes
        types = {name: Type(shapes[name], dtypes[name].newbyteorder("=")) for name in source}
        return Source(f"The checkpoint {source.path}", types, source.__getitem__, source.notes)
    if not isinstance(source, Mapping) or isinstance(source, Specs):
        raise _no_source(source)
    leaves = _by_name(source)
    types = {name: type_of(leaf) for name, leaf in leaves.items()}
    return Source("The source", types, lambda name: _in_numpy(leaves[name]), {})


def _no_source(value: object) -> ArgumentError:
    wanted = "a Checkpoint, or a mapping of names to arrays"
    error = bad_argument("source", value, wanted)
    text, fix = str(error), None
    if isinstance(value, str | os.PathLike):
        fix = f"open the file, jscope.io.open({os.fspath(value)!r})."
    elif isinstance(value, Specs):
        fix = "specs say what is wanted and hold no values: give them as the target."
    elif isinstance(value, Transformed | TransformedWithState):
        text = f"The source must be {wanted}, got a {type(value).__name__}."
        fix = "give values, such as net.init(...) returns."
    elif is_restored(value):
        fix = RESTORED
    elif isinstance(value, tuple | list):
        fix = "give one tree: of (params, state) jscope.tree.merge(params, state)."
    return ArgumentError(text, {"fix": fix}, argument="source", value=error.value)


def _by_name(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by full name; a name may be above others: a variable, and a slot of its optimizer."""
    found: dict[str, Any] = {}
    for path, leaf in walk(tree):
        for key in path:
            if not isinstance(key, str):
                raise bad_key(key)
        if isinstance(leaf, Mapping):  # an empty scope
            continue
        name = "/".join(path)
        if name in found:
            raise _twice(name)
        found[name] = _leaf(name, leaf)
    return found


def _twice(name: str) -> NameClashError:
    return NameClashError(
        f"The source has {name} twice, by its full name and in nested mappings.",
        {"fix": "leave out one of the two."},
        name=name,
        other=name,
        sites=(),
    )


def _leaf(name: str, leaf: Any) -> Any:
    if isinstance(leaf, bool | int | float | complex):
        return np.asarray(leaf, jnp.result_type(type(leaf)))  # as JAX would hold it
    if not is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct | jax.core.Tracer):
        raise _no_values(name, leaf)
    return leaf


def _no_values(name: str, leaf: object) -> TreeTypeError:
    what, fix = brief(leaf), "give arrays of JAX or NumPy, or numbers"
    if isinstance(leaf, jax.core.Tracer):
        what, fix = "traced", "restore outside jit, and pass the result in"
    elif isinstance(leaf, jax.ShapeDtypeStruct):
        what = "a jax.ShapeDtypeStruct"
        fix += "; what is wanted comes first"
    elif not is_shaped(leaf):
        what += f" of type {type(leaf).__name__}"
    return TreeTypeError(
        f"The source has no values for {name!r}: it is {what}.",
        {"fix": f"{fix}."},
        mismatched={name: ("an array", what)},
    )


def is_key(dtype: Any) -> bool:
    """Whether it is the dtype of typed keys, which NumPy has not."""
    return bool(jnp.issubdtype(dtype, jax.dtypes.extended))


def _in_numpy(leaf: Any) -> Any:
    return leaf if is_key(leaf.dtype) else np.asarray(leaf)

"""Values: the arrays of a plan's routes, read, transformed and checked, and made into results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jscope._params import is_array
from jscope._spec import DType
from jscope.io._cast import may_spoil, survives
from jscope.io._plan import Plan, is_split, layers_problem, may_cast, type_problem
from jscope.io._routes import Atom, Route
from jscope.io._source import Source, Type, is_key, type_of
from jscope.io._target import Number

Index: TypeAlias = tuple[slice, ...]

_ALIGNMENT = 64
"""Of which multiple an address has to be for a CPU device to use what is there."""


class _NoArrayError(Exception):
    """A function gave something else than it should; never leaves this file."""


class Values:
    """The values of a target's variables.

    What functions give is kept, so that each is called once; all else is read when it is needed,
    one tensor at a time.

    Args:
      plan: Routes, of which each is one of a name of the target.
      source: What they start at.
      cast: Whether dtypes may differ.
    """

    def __init__(self, plan: Plan, source: Source, *, cast: bool) -> None:
        self._plan = plan
        self._source = source
        self._cast = cast
        self._parts: dict[str, list[Any]] = {}
        self._made: dict[str, dict[int, Any]] = {}

    def problem(self, name: str, leaf: Any) -> str | None:
        """What is wrong with the values of a variable that their types do not tell."""
        route = self._plan.routes[name]
        is_split = any(map(self._is_split, route.atoms))
        found = [self._source.types[atom.source].dtype for atom in route.atoms]
        is_known = not route.how.function and not is_split
        if is_known and not any(may_spoil(dtype, leaf.dtype) for dtype in found):
            return None
        wanted = type_of(leaf)
        try:
            if is_split and (
                problem := layers_problem(route, wanted, type_of(self._read(route.atoms[0])))
            ):
                return problem
            return self._misfit(name, route, wanted, cast=may_cast(leaf, cast=self._cast))
        except _NoArrayError as error:
            return str(error)

    def _misfit(self, name: str, route: Route, wanted: Type, *, cast: bool) -> str | None:
        types: list[Type] = []
        beyond = None
        for number in range(len(route.atoms) if route.how.word == "stack" else 1):
            array = self._layer(name, route, number)
            types.append(type_of(array))
            if not beyond and not survives(array, wanted.dtype):
                beyond = f"{types[-1]} with values beyond {wanted.dtype}"
        return type_problem(route, wanted, types, cast=cast) or beyond

    def _is_split(self, atom: Atom) -> bool:
        return is_split(atom, self._plan)

    def _layer(self, name: str, route: Route, number: int = 0) -> Any:
        """One of the layers to stack, or the only array: as it is read, or as a function gives it.

        What a function gives is kept until the variable is delivered.
        """
        made = self._made.get(name, {})
        if number in made:
            return made[number]
        word, function, by = route.how
        atoms = route.atoms[number : number + 1] if word == "stack" else route.atoms
        arrays = [self._read(atom) for atom in atoms]
        if word == "unstack":
            arrays = [array[route.layer, ...] for array in arrays]
        if function is None:
            return arrays[0]
        array = _array(_called(function, arrays, f"{by}, for {name}"), by)
        return self._made.setdefault(name, made).setdefault(number, array)

    def _read(self, atom: Atom) -> Any:
        if self._is_split(atom):
            return self._split(atom.source)[atom.part or 0]
        return self._source.read(atom.source)

    def _split(self, source: str) -> list[Any]:
        if source not in self._parts:
            function, size = self._plan.splits[source]
            by = f"transforms[{source!r}]"
            parts = _called(function, [self._source.read(source)], by)
            try:
                parts = list(parts)
            except TypeError:
                raise _NoArrayError(f"{type(parts).__name__} by {by}, not a list") from None
            if len(parts) != size:
                raise _NoArrayError(f"one of {len(parts)} arrays by {by}, not of {size}")
            self._parts[source] = [_array(part, by) for part in parts]
        return self._parts[source]

    def delivered(self, name: str, leaf: Any, sharding: Any) -> Any:
        """The variable, in memory of its own: of NumPy if the target's is, else where it belongs.

        Args:
          name: Of the target.
          leaf: What is wanted: a type, and whether it is NumPy's.
          sharding: Where it belongs; None for the default device.
        """
        try:
            return self._delivered(name, leaf, sharding)
        finally:
            self._made.pop(name, None)

    def _delivered(self, name: str, leaf: Any, sharding: Any) -> Any:
        route = self._plan.routes[name]
        if is_key(leaf.dtype):
            return self._keys(name, route, sharding)
        if sharding is not None:
            return jax.make_array_from_callback(
                leaf.shape,
                sharding,
                lambda index: self._piece(name, route, leaf, index or ()),
                leaf.dtype,
            )
        whole = tuple(slice(0, size) for size in leaf.shape)
        piece = self._piece(name, route, leaf, whole)
        if isinstance(leaf, Number):
            return piece.item()
        # JAX may use the memory of the piece, which nobody else holds.
        return piece if isinstance(leaf, np.ndarray | np.generic) else jax.device_put(piece)

    def _piece(self, name: str, route: Route, leaf: Any, index: Index) -> np.ndarray:
        """A part of a variable, copied and cast; only that part is read of what is mapped."""
        piece = _aligned(
            [len(range(*part.indices(n))) for part, n in zip(index, leaf.shape, strict=True)],
            leaf.dtype,
        )
        with np.errstate(all="ignore"):  # what a cast may do to values has been seen
            if route.how.word != "stack":
                piece[...] = self._layer(name, route)[index]
                return piece
            for place, row in enumerate(range(*index[0].indices(leaf.shape[0]))):
                piece[place] = self._layer(name, route, row)[index[1:]]
            return piece

    def _keys(self, name: str, route: Route, sharding: Any) -> jax.Array:
        if route.how.word == "stack":
            numbers = range(len(route.atoms))
            keys = jnp.stack([self._layer(name, route, number) for number in numbers])
        else:
            keys = jnp.copy(self._layer(name, route))
        return keys if sharding is None else jax.device_put(keys, sharding)


def _aligned(shape: Sequence[int], dtype: DType) -> np.ndarray:
    """Memory that JAX can take as it is, rather than copy."""
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def _called(function: Callable[..., Any], arrays: list[Any], what: str) -> Any:
    try:
        return function(*arrays)
    except Exception as error:
        error.add_note(f"in {what}")
        raise


def _array(value: Any, by: str) -> Any:
    """The result of a function as an array of NumPy, or of typed keys."""
    if not is_array(value) or isinstance(value, jax.ShapeDtypeStruct):
        raise _NoArrayError(f"{type(value).__name__} by {by}")
    return value if is_key(value.dtype) else np.asarray(value)

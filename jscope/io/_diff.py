"""How two checkpoints differ: in names, in shapes and dtypes, in values."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from jscope._report import array_type, near_names, quoted
from jscope.io._checkpoint import Checkpoint, nbytes_of
from jscope.io._file import release

_CHUNK = 1 << 22
"""Elements that are compared at a time, so that no large tensor is held thrice."""


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """What differs, a line for each name, by kind; and how many tensors are equal."""

    lines: Mapping[str, Sequence[str]]
    equal: int
    by_dtype: bool
    """Whether floats of other dtypes were not compared, for the want of a tolerance."""

    def __bool__(self) -> bool:
        return any(self.lines.values())

    def __str__(self) -> str:
        counts = [f"{len(lines):,} {kind}" for kind, lines in self.lines.items()]
        every = itertools.chain.from_iterable(self.lines.values())
        hint = ["--rtol compares floats of different dtypes by their values"] * self.by_dtype
        return "\n".join([*every, *hint, ", ".join([*counts, f"{self.equal:,} equal"])])


def diff(
    left: Checkpoint,
    right: Checkpoint,
    *,
    rtol: float,
    atol: float,
    advance: Callable[[int], None],
) -> Difference:
    """Compares by name; NaN equals NaN.

    With a tolerance, floats of different dtypes are compared by their values. ``advance`` is told
    of the bytes of the left one.
    """
    types, values, equal, by_dtype = [], [], 0, False
    for name in left:
        if name not in right:
            continue
        if not _comparable(name, left, right, by_value=bool(rtol or atol)):
            types.append(f"! {name}  {_type(name, left)} and {_type(name, right)}")
            by_dtype |= _comparable(name, left, right, by_value=True)
        elif line := _compare(name, left, right, rtol, atol):
            values.append(line)
        else:
            equal += 1
        advance(nbytes_of(left, name))
    lines = {
        "in A alone": [_lonely("-", name, left, right) for name in left if name not in right],
        "in B alone": [_lonely("+", name, right, left) for name in right if name not in left],
        "of another type": types,
        "of other values": values,
    }
    return Difference(lines, equal, by_dtype)


def _type(name: str, checkpoint: Checkpoint) -> str:
    return array_type(checkpoint.shapes[name], checkpoint.dtypes[name])


def _lonely(sign: str, name: str, mine: Checkpoint, other: Checkpoint) -> str:
    near = near_names(name, (each for each in other if each not in mine))
    return f"{sign} {name}  {_type(name, mine)}" + (f"  (near {quoted(near)})" if near else "")


def _comparable(name: str, left: Checkpoint, right: Checkpoint, *, by_value: bool) -> bool:
    dtypes = left.dtypes[name], right.dtypes[name]
    floats = by_value and all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes)
    return left.shapes[name] == right.shapes[name] and (floats or dtypes[0] == dtypes[1])


def _compare(
    name: str, left: Checkpoint, right: Checkpoint, rtol: float, atol: float
) -> str | None:
    """The line of a name whose tensors differ; None where they are equal."""
    differing, largest = 0, 0.0
    arrays = left[name], right[name]
    for one, other in _chunks(*arrays):
        equal = _equal(one, other, rtol, atol)
        differing += int(equal.size - np.count_nonzero(equal))
        largest = max(largest, _distance(one[~equal], other[~equal]))
        for array in arrays:
            release(array)
    if not differing:
        return None
    types = " and ".join(dict.fromkeys([_type(name, left), _type(name, right)]))
    count = f"{differing:,} of {arrays[0].size:,}"
    return f"~ {name}  {types}: {count} differ, the furthest by {largest:.3g} (absolute)"


def _chunks(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    flat = left.reshape(-1), right.reshape(-1)
    for start in range(0, flat[0].size, _CHUNK):
        yield flat[0][start : start + _CHUNK], flat[1][start : start + _CHUNK]


def _wide(array: np.ndarray) -> np.ndarray:
    """In a dtype in which differences are computed: those of uint8 or bool would wrap around."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _equal(one: np.ndarray, other: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    if one.dtype != other.dtype:
        one, other = _wide(one), _wide(other)
    equal = (one == other) | ((one != one) & (other != other))
    if not (rtol or atol) or equal.all():
        return np.asarray(equal)
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = _wide(one), _wide(other)
        near = np.abs(a - b) <= atol + rtol * np.abs(b)
    return np.asarray(equal | (near & np.isfinite(b)))  # an infinite tolerance takes anything


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference; infinite where one of the two is NaN."""
    if not one.size:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        largest = float(np.max(np.abs(_wide(one) - _wide(other))))
    return float("inf") if np.isnan(largest) else largest

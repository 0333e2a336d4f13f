"""Casts that keep what values mean: which there are, and whether values survive them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jscope._spec import DType
from jscope.io._source import is_key

_CHUNK = 1 << 20
"""Elements that are looked at together: what is computed of a mapped file must not be as large."""


def can_cast(found: DType, wanted: DType) -> bool:
    """Whether a cast may be asked for: between floats, to wider integers or complex numbers."""
    if is_key(found) or is_key(wanted):
        return False
    for kind in (np.integer, np.complexfloating):
        if _is(found, kind) and _is(wanted, kind):
            return bool(np.can_cast(found, wanted, "safe"))
    # Floats of four and six bits have neither infinity nor NaN: they would be cut to the largest.
    return all(
        _is(dtype, np.floating) and _limits(dtype).bits == 8 * dtype.itemsize
        for dtype in (found, wanted)
    )


def _is(dtype: DType, kind: Any) -> bool:
    return bool(jnp.issubdtype(dtype, kind))


def _limits(dtype: DType) -> Any:
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


def may_spoil(found: DType, wanted: DType) -> bool:
    """Whether a cast that there is could make a finite value infinite or NaN."""
    if not can_cast(found, wanted) or not _is(wanted, np.floating):
        return False
    # Of floats of eight bits some have no infinity, which is a value too.
    return wanted.itemsize == 1 or float(_limits(wanted).max) < float(_limits(found).max)


def survives(array: np.ndarray, wanted: DType) -> bool:
    """Whether no value becomes infinite or NaN by a cast that there is; they round, though."""
    if not may_spoil(array.dtype, wanted):
        return True
    flat = array.ravel(order="K")  # a copy only of what lies scattered
    with np.errstate(all="ignore"):
        return all(
            _is_kept(flat[start : start + _CHUNK], wanted) for start in range(0, flat.size, _CHUNK)
        )


def _is_kept(values: np.ndarray, wanted: DType) -> bool:
    # In float64, which every float fits: NumPy's isinf knows few of the narrow ones.
    before, after = (x.astype(np.float64) for x in (values, values.astype(wanted)))
    spoilt = (np.isnan(after) & ~np.isnan(before)) | (np.isinf(after) & np.isfinite(before))
    return not spoilt.any()

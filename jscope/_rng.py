"""What users give as ``rng``."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import numpy as np

from jscope._report import describe
from jscope.errors import RngError

Rng: TypeAlias = jax.Array | np.ndarray | int | None


def as_key(rng: Any) -> jax.Array | None:
    """A typed key of a typed key, a legacy ``uint32[2]`` key, an int seed, or None.

    Raises:
      RngError: (ValueError) ``rng`` is none of these.
    """
    if rng is None:
        return None
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool):
        return _from_seed(int(rng), repr(rng))
    shape, dtype = getattr(rng, "shape", None), getattr(rng, "dtype", None)
    if shape is None or dtype is None or isinstance(rng, jax.ShapeDtypeStruct):
        raise _not_a_key(f"{rng!r} of type {type(rng).__name__}")
    if jax.numpy.issubdtype(dtype, jax.dtypes.prng_key):
        if shape == ():
            key: jax.Array = rng
            return key
    elif shape == () and np.issubdtype(dtype, np.integer):
        return _from_seed(rng, describe(rng))
    elif len(shape) == 1 and dtype == np.uint32:
        try:
            wrapped: jax.Array = jax.random.wrap_key_data(jax.numpy.asarray(rng))
            return wrapped
        except (TypeError, ValueError):
            pass
    raise _not_a_key(describe(rng))


def _not_a_key(rng: str) -> RngError:
    return RngError(
        f"rng must be a key, an int seed or None, got {rng}.",
        {"fix": "pass jax.random.key(0), jax.random.PRNGKey(0), an int, or None."},
        rng=rng,
    )


def _from_seed(seed: Any, shown: str) -> jax.Array:
    try:
        return jax.random.key(seed)
    except (OverflowError, TypeError, ValueError):
        raise _not_a_key(shown) from None

"""Settings of the whole suite: fast compilations, strict arrays, and no scope left open."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before JAX starts: the tests compare results, so the compiler need not optimise much.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from jscope import _jaxapi, _pass

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True)
def _nothing_outlives_a_pass() -> Iterator[None]:
    yield
    assert _pass.peek() is None
    assert _jaxapi.get_context() is None

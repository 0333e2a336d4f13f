"""Settings of the whole suite: fast compilations, strict arrays, and no scope left open."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

# Before JAX starts: the tests compare results, so the compiler need not optimise much.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from jscope import _jaxapi, _pass, _sampling

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    """Drops compiled programs where they have become many: all tests make some 4 GB of them."""
    yield
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if resident > 1.2 * 2**30:
            jax.clear_caches()
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # which glibc does not do by itself


@pytest.fixture(autouse=True)
def _nothing_outlives_a_pass() -> Iterator[None]:
    yield
    assert _pass.peek() is None
    assert _jaxapi.get_context() is None


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The samplers that are compiled from here on, with none kept from before."""
    made: list[Any] = []
    original = _sampling._compile

    def counting(*args: Any) -> Any:
        made.append(args)
        return original(*args)

    monkeypatch.setattr(_sampling, "_samplers", type(_sampling._samplers)())
    monkeypatch.setattr(_sampling, "_compile", counting)
    return made

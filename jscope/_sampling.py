"""From specs to arrays: one compiled sampler per initializer, shape and dtype."""

from __future__ import annotations

import collections
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jscope import _jaxapi, _path, initializers
from jscope._fingerprint import NotComparableError, fingerprint
from jscope._params import describe
from jscope._spec import Initializer, Shape, VariableSpec
from jscope.errors import InitializerError, RngError, where

_CACHED_SAMPLERS = 4096
_EFFORT = "xla_backend_optimization_level"  # a flag of XLA, left as it is where the user sets it


@functools.cache
def default_initializer(dtype: np.dtype[Any]) -> Initializer | None:
    """TF1's default by dtype: glorot_uniform, zeros, or None where it has none."""
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize > 1:
        return initializers.glorot_uniform
    if jnp.issubdtype(dtype, jnp.integer) or dtype == np.bool_:
        return initializers.zeros
    return None


class _WrongResultError(Exception):
    """An initializer returned something else; the variable's name is added by the caller."""


def _checked(value: Any, shape: Shape, dtype: np.dtype[Any]) -> jax.Array:
    """The result of an initializer. JAX arrays must fit; NumPy and Python values are cast."""
    if not isinstance(value, jax.Array):
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind not in "biufcV" or array.shape != shape:
            found = "a function" if callable(value) else describe(value)
            raise _WrongResultError(found)
        value = jnp.asarray(array, dtype)
    result: jax.Array = value
    if result.shape != shape or result.dtype != dtype:
        raise _WrongResultError(describe(result))
    return result


def _compile(
    initializer: Initializer, shape: Shape, stack: Shape, dtype: np.dtype[Any], impl: Any
) -> Callable[[jax.Array, np.ndarray], jax.Array]:
    # Takes the words of the key, because a call with a typed key takes JAX's slow path.
    def sample(key_data: jax.Array, words: jax.Array) -> jax.Array:
        key = jax.random.wrap_key_data(key_data, impl=impl)
        key = jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1])

        def one(key: jax.Array) -> jax.Array:
            return _checked(initializer(key, shape, dtype), shape, dtype)

        if not stack:
            return one(key)

        def layer(numbers: jax.Array) -> jax.Array:
            own = key
            for axis in reversed(range(len(stack))):  # the innermost stack first
                own = jax.random.fold_in(own, numbers[axis])
            return one(own)

        numbers = jnp.indices(stack).reshape(len(stack), -1).T
        # A loop, which gives the same bits as without a stack.
        values: jax.Array = jax.lax.map(layer, numbers)
        return values.reshape(stack + shape)

    traced = jax.jit(sample)
    if jax.default_backend() != "cpu" or _EFFORT in os.environ.get("XLA_FLAGS", ""):
        return traced
    # A sampler runs once: compiled with little effort it gives the same bits, in a third of the
    # time. JAX takes such options outside of other compilations only.
    quick = jax.jit(sample, compiler_options={_EFFORT: 1})

    def choose(key_data: jax.Array, words: np.ndarray) -> jax.Array:
        eager = _jaxapi.is_eager(_jaxapi.current_trace())
        value: jax.Array = (quick if eager else traced)(key_data, words)
        return value

    return choose


_lock = threading.Lock()
_samplers: collections.OrderedDict[Any, Callable[..., jax.Array]] = collections.OrderedDict()


class Sampler:
    """Makes initial values for one init.

    Samplers are shared between inits where an initializer can be recognised by what it computes;
    one that holds arrays or other such things is recognised as an object, within this init.
    """

    def __init__(self, key: jax.Array | None) -> None:
        self._has_key = key is not None
        key = jax.random.key(0) if key is None else key
        self._key_data = jax.random.key_data(key)
        self._impl = jax.random.key_impl(key)
        self._own: dict[Any, tuple[Any, Callable[..., jax.Array]]] = {}

    def __call__(self, spec: VariableSpec, initializer: Any) -> jax.Array:
        """The initial value of ``spec``, [*spec.shape] of spec.dtype."""
        stack, shape = spec.stack, spec.shape[len(spec.stack) :]
        if not callable(initializer):
            # A copy: nobody may write into it later.
            value = jnp.array(initializer, spec.dtype)
            return jnp.broadcast_to(value, spec.shape) if stack else value
        sampler = self._find(initializer, shape, stack, spec.dtype)
        words = _path.words(spec.name)
        try:
            if not self._has_key:
                self._check_draws_nothing(sampler, words, spec)
            return sampler(self._key_data, words)
        except _WrongResultError as wrong:
            name = getattr(initializer, "__qualname__", type(initializer).__name__)
            raise InitializerError.wrong_result(
                spec.name, name, (shape, spec.dtype), str(wrong), spec.sites
            ) from None
        except jax.errors.UnexpectedTracerError:
            raise InitializerError.holds_tracer(spec.name, spec.sites) from None
        except Exception as error:
            error.add_note(
                f"in the initializer of variable {spec.name}, {describe(spec)}, asked for at "
                f"{where(spec.sites)}"
            )
            raise

    def _find(
        self, initializer: Initializer, shape: Shape, stack: Shape, dtype: np.dtype[Any]
    ) -> Callable[..., jax.Array]:
        own = id(initializer), shape, stack, dtype
        found = self._own.get(own)
        if found is None:
            sampler = self._find_shared(initializer, shape, stack, dtype)
            found = self._own[own] = initializer, sampler  # held, so that its address stays its own
        return found[1]

    def _find_shared(
        self, initializer: Initializer, shape: Shape, stack: Shape, dtype: np.dtype[Any]
    ) -> Callable[..., jax.Array]:
        try:
            key = fingerprint(initializer), shape, stack, dtype, str(self._impl)
        except NotComparableError:
            return _compile(initializer, shape, stack, dtype, self._impl)
        with _lock:
            sampler = _samplers.get(key)
            if sampler is None:
                sampler = _samplers[key] = _compile(initializer, shape, stack, dtype, self._impl)
                if len(_samplers) > _CACHED_SAMPLERS:
                    _samplers.popitem(last=False)
            else:
                _samplers.move_to_end(key)
        return sampler

    def _check_draws_nothing(
        self, sampler: Callable[..., jax.Array], words: np.ndarray, spec: VariableSpec
    ) -> None:
        traced = jax.make_jaxpr(sampler)(self._key_data, words)
        if _jaxapi.used_inputs(traced)[0]:
            raise RngError.needed(spec.name, spec.sites)

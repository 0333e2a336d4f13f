"""From programs to arrays: one compiled sampler for each program."""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable, Hashable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jscope import _jaxapi
from jscope._jaxapi import Jaxpr
from jscope._keys import named_key, numbered_key, or_any, words
from jscope._program import Program, Start, add_place
from jscope._spec import Shape, VariableSpec

_Sampler: TypeAlias = Callable[..., jax.Array]

_CACHED_SAMPLERS = 4096
_EFFORT = "xla_backend_optimization_level"  # a flag of XLA, left as it is where the user sets it


def _compile(jaxpr: Jaxpr, stack: Shape, impl: Hashable) -> _Sampler:
    """A function of the pass's key, the words of a name and the arrays of a program.

    The arrays come as arguments, so that programs over other arrays share it, and none is kept.
    """

    # Takes the words of the key, because a call with a typed key takes JAX's slow path.
    def sample(key_data: jax.Array, words: jax.Array, *consts: jax.Array) -> jax.Array:
        key = named_key(jax.random.wrap_key_data(key_data, impl=impl), words)
        # Inside a jitted init they are constants, which XLA would fold to other bits.
        consts = jax.lax.optimization_barrier(consts)

        def one(key: jax.Array) -> jax.Array:
            value: jax.Array = _jaxapi.evaluate(jaxpr, *consts, key)
            return value

        if not stack:
            return one(key)

        def layer(numbers: jax.Array) -> jax.Array:
            axes = reversed(range(len(stack)))  # the innermost stack first
            return one(numbered_key(key, (numbers[axis] for axis in axes)))

        numbers = jnp.indices(stack).reshape(len(stack), -1).T
        # A loop, which gives the same bits as without a stack.
        values: jax.Array = jax.lax.map(layer, numbers)
        return values.reshape(stack + values.shape[1:])

    traced = jax.jit(sample)
    if jax.default_backend() != "cpu" or _EFFORT in os.environ.get("XLA_FLAGS", ""):
        return traced
    # A sampler runs once: compiled with little effort it gives the same bits, in a third of the
    # time. JAX takes such options outside of other compilations only.
    quick = jax.jit(sample, compiler_options={_EFFORT: 1})

    def choose(*inputs: ArrayLike) -> jax.Array:
        eager = _jaxapi.is_eager(_jaxapi.current_trace())
        value: jax.Array = (quick if eager else traced)(*inputs)
        return value

    return choose


_lock = threading.Lock()
_samplers: collections.OrderedDict[Hashable, _Sampler] = collections.OrderedDict()


class Sampler:
    """Makes initial values for one init.

    Samplers are shared between inits by the program, unless it holds something of the user's.
    """

    def __init__(self, key: jax.Array | None) -> None:
        key = or_any(key)
        self._key_data = jax.random.key_data(key)
        self._impl = jax.random.key_impl(key)
        self._own: dict[Hashable, _Sampler] = {}

    def __call__(self, spec: VariableSpec, start: Start) -> jax.Array:
        """The initial value of ``spec``, [*spec.shape] of spec.dtype."""
        if isinstance(start, Program):
            sampler = self._find(start, spec.stack)
            try:
                return sampler(self._key_data, words(spec.name), *start.consts)
            except Exception as error:  # of a compiler, or of a callback
                add_place(error, spec.name, spec, spec.sites)
                raise
        # A copy: nobody may write into it later.
        value = jnp.array(start, spec.dtype)
        return jnp.broadcast_to(value, spec.shape) if spec.stack else value

    def _find(self, program: Program, stack: Shape) -> _Sampler:
        known = program, stack  # the library's programs are one object, found without their key
        sampler = self._own.get(known)
        if sampler is None:
            key = program.key, stack, str(self._impl)
            if program.shared:
                sampler = _find_shared(key, program.jaxpr, stack, self._impl)
            else:
                sampler = self._own.get(key)
                if sampler is None:
                    sampler = self._own[key] = _compile(program.jaxpr, stack, self._impl)
            self._own[known] = sampler
        return sampler


def _find_shared(key: Hashable, jaxpr: Jaxpr, stack: Shape, impl: Hashable) -> _Sampler:
    with _lock:
        sampler = _samplers.get(key)
        if sampler is None:
            sampler = _samplers[key] = _compile(jaxpr, stack, impl)
            if len(_samplers) > _CACHED_SAMPLERS:
                _samplers.popitem(last=False)
        else:
            _samplers.move_to_end(key)
    return sampler

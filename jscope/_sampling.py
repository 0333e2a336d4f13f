"""From programs to arrays: one compiled sampler for each program."""

from __future__ import annotations

import collections
import math
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jscope import _jaxapi
from jscope._divisible import is_divisible
from jscope._jaxapi import Jaxpr
from jscope._keys import is_key, named_key, numbered_key, or_any, words
from jscope._layout import Mesh as AnyMesh
from jscope._layout import axes_of, parts
from jscope._program import Program, Start, add_place
from jscope._spec import Shape, VariableSpec

_Sampler: TypeAlias = Callable[..., jax.Array]

_CACHED_SAMPLERS = 4096
_EFFORT = "xla_backend_optimization_level"  # a flag of XLA, left as it is where the user sets it


def _compile(
    jaxpr: Jaxpr, stack: Shape, impl: Hashable, place: NamedSharding | None = None
) -> _Sampler:
    """A function of the pass's key, the words of a name and the arrays of a program.

    The arrays come as arguments, so that programs over other arrays share it, and none is kept.
    With a place it makes each shard where it is to be.
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

    options: dict[str, Any] = {} if place is None else {"out_shardings": place}
    traced = jax.jit(sample, **options)
    if jax.default_backend() != "cpu" or _EFFORT in os.environ.get("XLA_FLAGS", ""):
        return traced
    # A sampler runs once: compiled with little effort it gives the same bits, in a third of the
    # time. JAX takes such options outside of other compilations only.
    quick = jax.jit(sample, compiler_options={_EFFORT: 1}, **options)

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

    def __init__(self, key: jax.Array | None, mesh: Mesh | None = None) -> None:
        """``mesh`` is one of the network's own."""
        key = or_any(key)
        self._key_data: ArrayLike = jax.random.key_data(key)
        self._impl = jax.random.key_impl(key)
        self._own: dict[Hashable, _Sampler] = {}
        self._given_mesh = mesh
        self._mesh = _jaxapi.concrete_mesh()
        if self._mesh is not None:
            self._key_data = np.asarray(self._key_data)  # from wherever it is

    def __call__(self, spec: VariableSpec, start: Start) -> jax.Array:
        """The initial value of ``spec``, [*spec.shape] of spec.dtype, where it is to be."""
        partition = spec.partition if isinstance(spec.partition, PartitionSpec) else None
        if self._mesh is None:
            return _jaxapi.on_mesh(self._sample(spec, start, None), partition, self._given_mesh)
        partition = partition or PartitionSpec()
        place = NamedSharding(self._mesh, partition)
        if not isinstance(start, Program) or _jaxapi.needs_mesh(start.jaxpr) or is_key(spec.dtype):
            return self._sample(spec, start, place)  # JAX does not move keys to other meshes
        divided = partition if self._can_divide(start, spec, partition) else PartitionSpec()
        birthplace = self._birthplace(divided)
        with jax.set_mesh(birthplace):
            born = self._sample(spec, start, NamedSharding(birthplace, divided))
        value: jax.Array = jax.device_put(born, place)
        return value

    def _can_divide(self, program: Program, spec: VariableSpec, partition: PartitionSpec) -> bool:
        """Whether the parts of a value, computed on several devices, have the bits of the whole.

        Single numbers may not: they are compiled otherwise than several.
        """
        assert self._mesh is not None
        layers = len(spec.stack)
        count = parts(tuple(partition)[layers:], self._mesh.shape)
        has_several = math.prod(spec.shape[layers:]) > count
        return has_several and self._impl == "threefry2x32" and is_divisible(program.jaxpr)

    def _birthplace(self, divided: PartitionSpec) -> Mesh:
        """The mesh without explicit axes, which would give other last bits than none.

        What several devices are to have is made by one of them, unless others belong to other
        processes.
        """
        mesh = self._mesh
        assert mesh is not None
        devices = mesh.devices
        if not mesh.is_multi_process:
            used = {name for entry in divided for name in axes_of(entry)}
            devices = devices[tuple([slice(None if x in used else 1) for x in mesh.axis_names])]
        return Mesh(devices, mesh.axis_names)

    def _sample(self, spec: VariableSpec, start: Start, place: NamedSharding | None) -> jax.Array:
        if isinstance(start, Program):
            sampler = self._find(start, spec.stack, place)
            inputs = self._key_data, words(spec.name), *start.consts
            if place is not None:
                inputs = tuple([_movable(value, place.mesh) for value in inputs])
            try:
                return sampler(*inputs)
            except Exception as error:  # of a compiler, or of a callback
                add_place(error, spec.name, spec, spec.sites)
                raise
        # Copies: nobody may write into them later.
        if place is not None and isinstance(start, jax.Array) and is_key(start.dtype):
            return _key_at(place, start, spec.shape)
        if place is None or isinstance(start, jax.Array):
            if place is not None:  # from wherever it is
                own = PartitionSpec(*tuple(place.spec)[len(spec.stack) :])
                start = jax.device_put(start, NamedSharding(place.mesh, own))
            value = jnp.array(start, spec.dtype)
            value = jnp.broadcast_to(value, spec.shape) if spec.stack else value
            return value if place is None else jax.device_put(value, place)
        whole = np.broadcast_to(np.asarray(start, spec.dtype), spec.shape)
        return jax.make_array_from_callback(spec.shape, place, lambda part: whole[part].copy())

    def _find(self, program: Program, stack: Shape, place: NamedSharding | None) -> _Sampler:
        # The library's programs are one object, found without their key.
        known = program, stack, place
        sampler = self._own.get(known)
        if sampler is None:
            given = program.jaxpr, stack, self._impl, place
            key = program.key, stack, str(self._impl), place
            if program.shared:
                sampler = _find_shared(key, *given)
            else:
                sampler = self._own.get(key)
                if sampler is None:
                    sampler = self._own[key] = _compile(*given)
            self._own[known] = sampler
        return sampler


def _movable(value: ArrayLike, mesh: AnyMesh) -> ArrayLike:
    """An input of a sampler on a mesh, from wherever it is."""
    if not isinstance(value, jax.Array):
        return value
    spec, found = PartitionSpec(), value.sharding
    if is_key(value.dtype):
        return _key_at(NamedSharding(mesh, spec), value, value.shape)
    if value.is_fully_replicated:
        return np.asarray(value)
    if isinstance(found, NamedSharding) and found.mesh.axis_names == mesh.axis_names:
        spec = found.spec
    moved: jax.Array = jax.device_put(value, NamedSharding(mesh, spec))
    return moved


def _key_at(place: NamedSharding, key: jax.Array, shape: Shape) -> jax.Array:
    """Keys elsewhere, broadcast to a shape: JAX moves their words only."""
    impl, words = jax.random.key_impl(key), np.asarray(jax.random.key_data(key))
    words = np.broadcast_to(words, (*shape, words.shape[-1]))
    found: jax.Array = jax.jit(
        lambda words: jax.random.wrap_key_data(words, impl=impl), out_shardings=place
    )(words)
    return found


def _find_shared(
    key: Hashable, jaxpr: Jaxpr, stack: Shape, impl: Hashable, place: NamedSharding | None
) -> _Sampler:
    with _lock:
        sampler = _samplers.get(key)
        if sampler is None:
            sampler = _samplers[key] = _compile(jaxpr, stack, impl, place)
            if len(_samplers) > _CACHED_SAMPLERS:
                _samplers.popitem(last=False)
        else:
            _samplers.move_to_end(key)
    return sampler

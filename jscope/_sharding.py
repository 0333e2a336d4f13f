"""How arrays are laid out over a mesh, where their types tell and JAX asks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import jax

from jscope._layout import axes_of, entry_of

T = TypeVar("T")


def layout(array: jax.Array) -> tuple[object, ...]:
    """The explicit mesh axes that each axis of an array is divided over; mostly None."""
    return tuple(jax.typeof(array).sharding.spec)


def sharding(array: jax.Array, axes: Sequence[object]) -> jax.sharding.NamedSharding:
    """The sharding of a result that is divided over these axes of the array's mesh."""
    mesh = jax.typeof(array).sharding.mesh
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def like(weight: jax.Array, outputs: jax.Array) -> jax.Array:
    """A weight of the outputs' rank, [1, ..., n], laid out as they are, to be added or multiplied.

    JAX refuses what is divided along another mesh axis, and vectors are small.
    """
    pairs = zip(weight.shape, layout(outputs), strict=True)
    axes = tuple(axis if size > 1 else None for size, axis in pairs)
    return relaid(weight, axes) if any(layout(weight)) else weight


def relaid(array: jax.Array, axes: Sequence[object], of_mesh: jax.Array | None = None) -> jax.Array:
    """An array divided over these axes of its mesh, or another array's, and no others."""
    if layout(array) == tuple(axes):
        return array
    at = sharding(array if of_mesh is None else of_mesh, axes)
    laid: jax.Array = jax.sharding.reshard(array, at)
    return laid


def laid_like(value: jax.Array, other: jax.Array) -> jax.Array:
    """A value of the shape of another, divided over the explicit axes of a mesh as that is.

    Where the other one is on no mesh, as arguments that were never put on one, it says nothing.
    """
    if jax.typeof(other).sharding.mesh.empty:
        return value
    return relaid(value, layout(other), other)


def whole(array: jax.Array, axis: int) -> jax.Array:
    """An array that is divided over nothing along an axis."""
    axes = list(layout(array))
    axes[axis] = None
    return relaid(array, axes)


def product(
    inputs: jax.Array, kernel: jax.Array, contracted: int
) -> jax.sharding.NamedSharding | None:
    """How the product along the inputs' last and the kernel's first axes is laid out.

    JAX does not guess where an axis that is summed over is divided, nor where inputs and kernel
    are divided along one mesh axis: here the inputs' batch keeps it. None where it need not guess.
    """
    outer = layout(inputs)[: inputs.ndim - contracted]
    columns = layout(kernel)[contracted:]
    summed = (*layout(inputs)[inputs.ndim - contracted :], *layout(kernel)[:contracted])
    free = without(columns, outer)
    if not any(summed) and free == columns:
        return None
    return sharding(inputs if any(layout(inputs)) else kernel, (*outer, *free))


def rows_of(inputs: jax.Array, kernel: jax.Array) -> jax.sharding.NamedSharding | None:
    """As ``product`` of inputs [batch, any], for a result that is divided like the batch alone.

    So is the state of a loop, whatever the kernel is divided over: it keeps its layout.
    """
    if not any(layout(kernel)):
        return None
    return sharding(inputs if any(layout(inputs)) else kernel, (layout(inputs)[0], None))


def without(entries: Sequence[object], others: Sequence[object]) -> tuple[object, ...]:
    """Entries without the mesh axes that others name already."""
    taken = {name for entry in others for name in axes_of(entry)}
    return tuple([entry_of(x for x in axes_of(entry) if x not in taken) for entry in entries])


def along_batch(array: jax.Array, inputs: jax.Array) -> jax.Array:
    """An array [batch, ...] divided like the batch of the inputs, and along no other axis."""
    axes = (layout(inputs)[0] or layout(array)[0], *(None,) * (array.ndim - 1))
    return relaid(array, axes, inputs)


def laid_out(compute: Callable[..., T], *arrays: jax.Array, axes: Sequence[Sequence[object]]) -> T:
    """What JAX cannot lay out by itself: the compiler may choose, except for the results.

    Args:
      compute: Function of the arrays, which returns one or several.
      *arrays: As for it.
      axes: For each result, the mesh axes that it is divided over.
    """
    divided = [array for array in arrays if any(layout(array))]
    if not divided:
        return compute(*arrays)
    laid = tuple(sharding(divided[0], each) for each in axes)
    of_all = jax.sharding.auto_axes(compute, out_sharding=laid if len(laid) > 1 else laid[0])
    results: T = of_all(*arrays)
    return results


def is_grid(*arrays: jax.Array) -> bool:
    """Whether arrays live on a mesh of several axes."""
    return len([size for size in _mesh(*arrays).shape.values() if size > 1]) > 1


def divided_along(array: jax.Array, axes: Collection[int]) -> jax.Array:
    """The same array, which a compiler that lays out arrays divides along these axes alone."""
    mesh, kinds = _mesh(array), jax.sharding.AxisType
    if mesh.empty or kinds.Manual in mesh.axis_types or kinds.Auto not in mesh.axis_types:
        return array
    free = jax.sharding.PartitionSpec.UNCONSTRAINED
    entries = [free if axis in axes else None for axis in range(array.ndim)]
    laid = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*entries))
    constrained: jax.Array = jax.lax.with_sharding_constraint(array, laid)
    return constrained


def _mesh(*arrays: jax.Array) -> jax.sharding.AbstractMesh:
    """The mesh of the first array that has one in its type, else the one that is set."""
    meshes = [jax.typeof(array).sharding.mesh for array in arrays]
    found: jax.sharding.AbstractMesh = next(
        (mesh for mesh in meshes if not mesh.empty), jax.sharding.get_abstract_mesh()
    )
    return found

"""How the arrays of a layer are laid out over an explicit mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax


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
    if not any(layout(weight)) or layout(weight) == axes:
        return weight
    laid: jax.Array = jax.sharding.reshard(weight, sharding(weight, axes))
    return laid


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


def without(entries: Sequence[object], others: Sequence[object]) -> tuple[object, ...]:
    """Entries without the mesh axes that others name already."""
    taken = {name for entry in others for name in _names(entry)}
    kept = [tuple(x for x in _names(entry) if x not in taken) for entry in entries]
    return tuple(names[0] if len(names) == 1 else names or None for names in kept)


def _names(entry: Any) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else entry or ()


def along_batch(array: jax.Array, inputs: jax.Array) -> jax.Array:
    """An array [batch, ...] that has no layout there, divided like the batch of the inputs."""
    batch, own = layout(inputs)[0], layout(array)
    if batch is None or own[0] is not None:
        return array
    divided: jax.Array = jax.sharding.reshard(array, sharding(inputs, (batch, *own[1:])))
    return divided

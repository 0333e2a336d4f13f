"""How the arrays of a layer are laid out over an explicit mesh."""

from __future__ import annotations

from collections.abc import Sequence

import jax


def layout(array: jax.Array) -> tuple[object, ...]:
    """The explicit mesh axes that each axis of an array is divided over; mostly None."""
    return tuple(jax.typeof(array).sharding.spec)


def sharding(array: jax.Array, axes: Sequence[object]) -> jax.sharding.NamedSharding:
    """The sharding of a result that is divided over these axes of the array's mesh."""
    mesh = jax.typeof(array).sharding.mesh
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def along_batch(array: jax.Array, inputs: jax.Array) -> jax.Array:
    """An array [batch, ...] that has no layout there, divided like the batch of the inputs."""
    batch, own = layout(inputs)[0], layout(array)
    if batch is None or own[0] is not None:
        return array
    divided: jax.Array = jax.sharding.reshard(array, sharding(inputs, (batch, *own[1:])))
    return divided

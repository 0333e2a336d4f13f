"""Whole values of variables that are divided over the devices of a mesh."""

from __future__ import annotations

from collections.abc import Collection

import jax
from jax.sharding import AxisType, PartitionSpec

from jscope._layout import axes_of, entry_of


def undivided(value: jax.Array, axes: Collection[str] | None = None) -> jax.Array:
    """A value that its type divides along none of these axes of its mesh; along none at all."""
    sharding = jax.typeof(value).sharding
    entries = [
        entry_of(name for name in axes_of(entry) if axes is not None and name not in axes)
        for entry in sharding.spec
    ]
    if entries == list(sharding.spec):
        return value
    whole = jax.sharding.NamedSharding(sharding.mesh, PartitionSpec(*entries))
    laid: jax.Array = jax.sharding.reshard(value, whole)
    return laid


def is_on_mesh(value: jax.Array) -> bool:
    """Whether a value may be divided over a mesh here: not where all of it is manual."""
    return any(kind != AxisType.Manual for kind in _mesh(value).axis_types)


def _mesh(value: jax.Array) -> jax.sharding.AbstractMesh:
    """The mesh that is set, which inside ``shard_map`` is another than outside; else its own."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.typeof(value).sharding.mesh if mesh.empty else mesh


def gathered(value: jax.Array) -> jax.Array:
    """The value on every device of its mesh."""
    value, mesh = undivided(value), _mesh(value)
    if AxisType.Auto in mesh.axis_types:
        # Types do not tell whether it is divided along these axes; if not, this is no operation.
        whole = jax.sharding.NamedSharding(mesh, PartitionSpec())
        value = jax.lax.with_sharding_constraint(value, whole)
    return value

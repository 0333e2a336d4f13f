"""Whether the processes of a mesh initialize alike, which JAX takes on trust."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jscope._jaxapi import Tracer
from jscope._keys import is_key
from jscope._program import Program, Start
from jscope._spec import VariableSpec
from jscope.errors import ShardingError

FIXES = {
    "rng": "give all processes one seed or key",
    "variables": "let all processes make the same variables, of the same shapes, in one order",
    "layouts": "give all processes the same rules and partitioners",
    "constants": "give all processes the same constants, or draw them from the initializer's key",
    "arguments": "give a global array of all examples, jax.make_array_from_process_local_data",
}


def check_starts(
    mesh: Mesh | None,
    key: jax.Array | None,
    specs: Sequence[VariableSpec],
    starts: Mapping[str, Start],
) -> None:
    """Raises ShardingError unless all processes of a mesh would make the same initial values."""
    if mesh is None or not mesh.is_multi_process:
        return
    made = [starts[spec.name] for spec in specs if spec.name in starts]
    constants = [
        x for start in made for x in (start.consts if isinstance(start, Program) else [start])
    ]
    parts = {
        "rng": _digest([] if key is None else [key]),
        "variables": _text(f"{x.name} {x.shape} {x.dtype} {x.trainable}" for x in specs),
        "layouts": _text(repr(spec.partition) for spec in specs),
        "constants": _digest(constants),
    }
    _check_equal(mesh, parts)


def check_arguments(mesh: Mesh | None, arguments: Iterable[ArrayLike]) -> None:
    """Raises ShardingError where initial values follow from arrays that differ by process."""
    if mesh is not None and mesh.is_multi_process:
        _check_equal(mesh, {"arguments": _digest(arguments)})


def _digest(values: Iterable[Any]) -> int:
    """Of the values that each process has whole: of others it has parts that nobody compares."""
    found = 0
    for value in values:
        if isinstance(value, jax.Array):
            if isinstance(value, Tracer) or not value.is_fully_replicated:
                continue
            if is_key(value.dtype):
                value = jax.random.key_data(value)
        found = zlib.crc32(np.ascontiguousarray(value).view(np.uint8).data, found)
    return found


def _text(lines: Iterable[str]) -> int:
    return zlib.crc32("\n".join(lines).encode())


def _check_equal(mesh: Mesh, parts: Mapping[str, int]) -> None:
    """Raises ShardingError, in each process alike, unless all have the same numbers."""
    flat = Mesh(mesh.devices.ravel(), ("all",))  # of this mesh: others may not take part
    own = np.array([list(parts.values())], np.uint32)
    shape = mesh.size, len(parts)
    with jax.set_mesh(flat):
        rows = jax.make_array_from_callback(
            shape, NamedSharding(flat, PartitionSpec("all")), lambda _: own
        )
        shared = jax.jit(lambda x: x, out_shardings=NamedSharding(flat, PartitionSpec()))(rows)
    differs = np.asarray(shared) != own
    processes = [device.process_index for device in flat.devices]
    unlike = {
        part: sorted({x for x, other in zip(processes, column, strict=True) if other})
        for part, column in zip(parts, differs.T, strict=True)
        if column.any()
    }
    if unlike:
        raise _unlike(unlike)


def _unlike(unlike: Mapping[str, Sequence[int]]) -> ShardingError:
    numbers = sorted({number for found in unlike.values() for number in found})
    others = f"process{'es' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
    return ShardingError(
        "The processes of the mesh do not initialize alike: "
        f"process {jax.process_index()} differs from {others} in {' and '.join(unlike)}.",
        {"fix": "; ".join(FIXES[part] for part in unlike) + "."},
        problems={part: f"differs from processes {found}" for part, found in unlike.items()},
    )

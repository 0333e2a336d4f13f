"""What a summary says: a row for each variable, one for each scope, and totals."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jax.sharding import PartitionSpec

from jscope._layout import Sizes, parts, show
from jscope._outline import scopes_around, totals
from jscope._report import short
from jscope._spec import DType, Shape, VariableSpec, initial
from jscope._summary._cost import Costs, Shapes
from jscope._summary._run import Run, Share
from jscope.errors import Site


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One variable.

    Attributes:
      name: Full name.
      shape: Tuple of sizes.
      dtype: NumPy dtype, or that of typed keys.
      size: Number of elements.
      nbytes: Bytes of the whole array.
      trainable: Whether it lives in params; otherwise in state.
      partition: A ``PartitionSpec``; the text of what decides it, where no mesh is known; or None.
      device_nbytes: Bytes of its largest shard, if a mesh is known.
      initializer: Short name, such as ``glorot_uniform``.
      regularizer: The same, or None.
      sites: Where it was made, innermost user frame first.
      shared_by: Who asks for it again: ``scope`` and ``sites`` of each.
    """

    name: str
    shape: Shape
    dtype: DType
    size: int
    nbytes: int
    trainable: bool
    partition: PartitionSpec | str | None
    device_nbytes: int | None
    initializer: str
    regularizer: str | None
    sites: tuple[Site, ...]
    shared_by: tuple[Share, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ScopeRow:
    """One scope, with all that is in it by its name; the root's name is empty.

    Attributes:
      name: Full name.
      calls: How often it is run, by calls and by the scans around them. FLOPs are of all.
      size: Number of elements of its variables, trainable or not.
      state_size: Of those, not trainable.
      nbytes: Bytes of all.
      device_nbytes: Bytes on each device, if a mesh is known.
      flops: FLOPs of matrix products and convolutions, two for each multiplication.
      accessed: Bytes that its operations read and write, each by itself: more than is moved,
        because XLA joins operations.
      inputs: Shapes of the values from outside that depend on the arguments, in its first call.
      outputs: Shapes of what it recorded as ``output``, as functions of ``jscope.layers`` do, with
        the axes of ``vmap``; else of its values that are used outside.
    """

    name: str
    calls: int
    size: int
    state_size: int
    nbytes: int
    device_nbytes: int | None
    flops: int
    accessed: int
    inputs: Shapes
    outputs: Shapes


@dataclasses.dataclass(frozen=True, slots=True)
class Total:
    """What all variables and operations come to.

    Attributes:
      size: Number of elements of the trainable variables.
      state_size: Of the others.
      nbytes: Bytes of both.
      device_nbytes: Bytes on each device, if a mesh is known.
      flops: FLOPs of one call, as in ``scopes``.
      accessed: Bytes that operations read and write, as in ``scopes``.
      dtypes: Name of a dtype -> bytes.
    """

    size: int
    state_size: int
    nbytes: int
    device_nbytes: int | None
    flops: int
    accessed: int
    dtypes: Mapping[str, int]


def rows_of(run: Run) -> tuple[Row, ...]:
    return tuple([_row(spec, run) for spec in run.specs.values()])


def _row(spec: VariableSpec, run: Run) -> Row:
    size = math.prod(spec.shape)
    nbytes, partition = size * spec.dtype.itemsize, spec.partition
    return Row(
        spec.name,
        spec.shape,
        spec.dtype,
        size,
        nbytes,
        spec.trainable,
        partition if isinstance(partition, PartitionSpec | None) else show(partition),
        _device_nbytes(nbytes, partition, run.sizes),
        initial(spec),
        None if spec.regularizer is None else short(spec.regularizer),
        spec.sites,
        tuple(run.shares.get(spec.name, ())),
    )


def _device_nbytes(nbytes: int, partition: Any, sizes: Sizes | None) -> int | None:
    if sizes is None or not isinstance(partition, PartitionSpec | None):
        return None
    return nbytes // parts(partition or (), sizes)


def scopes_of(run: Run, rows: tuple[Row, ...], costs: Costs) -> tuple[ScopeRow, ...]:
    """The root, and scopes in the order in which they were opened or variables made in them."""
    size = totals((row.name, row.size) for row in rows)
    state_size = totals((row.name, row.size) for row in rows if not row.trainable)
    nbytes = totals((row.name, row.nbytes) for row in rows)
    shards = totals((row.name, row.device_nbytes or 0) for row in rows)
    laid_out = bool(rows) and all(row.device_nbytes is not None for row in rows)
    names = {"": None}
    for name, is_scope in run.entries:
        names |= dict.fromkeys([*scopes_around(name), *[name] * is_scope])
    return tuple(
        [
            ScopeRow(
                name,
                costs.calls.get(name, 0),
                size[name],
                state_size[name],
                nbytes[name],
                shards[name] if laid_out else None,
                costs.flops.get(name, 0),
                costs.accessed.get(name, 0),
                _inputs(name, run, costs),
                _outputs(run.outputs.get(name, ()), costs.outputs.get(name, ())),
            )
            for name in names
        ]
    )


def _inputs(name: str, run: Run, costs: Costs) -> Shapes:
    """What a scope is given; of one that computes nothing, what it gives back as it is."""
    recorded = run.outputs.get(name, ())
    return costs.inputs.get(name, () if name in costs.calls else recorded)


def _outputs(recorded: Shapes, used: Shapes) -> Shapes:
    """What a scope recorded; what leaves it where that is the same with axes of ``vmap`` added."""
    if not recorded or {*recorded} <= {*used}:
        return recorded or used
    sizes = [[collections.Counter(x.shape) for x in shapes] for shapes in (recorded, used)]
    wider = [inner < outer for inner, outer in zip(*sizes, strict=False)]
    return used if len(wider) == len(recorded) and all(wider) else recorded


def total_of(rows: tuple[Row, ...], root: ScopeRow) -> Total:
    dtypes = collections.Counter[str]()
    for row in rows:
        dtypes[str(row.dtype)] += row.nbytes
    return Total(
        root.size - root.state_size,
        root.state_size,
        root.nbytes,
        root.device_nbytes,
        root.flops,
        root.accessed,
        dict(dtypes.most_common()),
    )

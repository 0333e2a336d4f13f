"""What is in a checkpoint, as text and as JSON; no tensor is read."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

from jscope._outline import columns, outline, size_text, totals
from jscope._report import array_type
from jscope.io._checkpoint import Checkpoint, nbytes_of


def tree_text(checkpoint: Checkpoint) -> str:
    """A line for each scope and each tensor, what the file says of itself, and totals.

    The bytes of a scope are those of all that is in it.
    """
    names = sorted(checkpoint, key=lambda name: name.split("/"))
    shapes, dtypes = checkpoint.shapes, checkpoint.dtypes
    sizes = {name: nbytes_of(checkpoint, name) for name in names}
    scopes = totals(sizes.items())
    rows = [
        (
            "  " * line.depth + line.label,
            "" if line.is_scope else array_type(shapes[line.name], dtypes[line.name]),
            size_text((scopes if line.is_scope else sizes)[line.name]),
        )
        for line in outline((name, False) for name in names)
    ]
    lines = [f"{checkpoint.path} ({checkpoint.format})", *columns(rows, right=[2])]
    lines += [f"metadata {key}: {value}" for key, value in checkpoint.metadata.items()]
    lines += [f"no array {name}: {reason}" for name, reason in checkpoint.notes.items()]
    return "\n".join([*lines, total_text(checkpoint)])


def total_text(checkpoint: Checkpoint) -> str:
    """``169 tensors, 5,612,133 elements, 22.4 MB: float32 22.4 MB, int64 8 B``."""
    totals = total(checkpoint)
    by_dtype = ", ".join(f"{dtype} {size_text(size)}" for dtype, size in totals["dtypes"].items())
    noun = "tensor" if totals["tensors"] == 1 else "tensors"
    return (
        f"{totals['tensors']:,} {noun}, {totals['elements']:,} elements, "
        f"{size_text(totals['nbytes'])}" + (f": {by_dtype}" if by_dtype else "")
    )


def total(checkpoint: Checkpoint) -> dict[str, Any]:
    by_dtype = collections.Counter[str]()
    for name, dtype in checkpoint.dtypes.items():
        by_dtype[str(dtype)] += nbytes_of(checkpoint, name)
    return {
        "tensors": len(checkpoint),
        "elements": checkpoint.size,
        "nbytes": checkpoint.nbytes,
        "dtypes": dict(by_dtype.most_common()),
    }


def as_json(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """What ``json.dumps`` takes, with the keys that ``jscope inspect --help`` tells."""
    shapes, dtypes = checkpoint.shapes, checkpoint.dtypes
    return {
        "path": checkpoint.path,
        "format": checkpoint.format,
        "tensors": [
            {
                "name": name,
                "shape": list(shape),
                "dtype": str(dtypes[name]),
                "nbytes": nbytes_of(checkpoint, name),
            }
            for name, shape in shapes.items()
        ],
        "metadata": dict(checkpoint.metadata),
        "notes": dict(checkpoint.notes),
        "total": total(checkpoint),
    }

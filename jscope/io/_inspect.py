"""What is in a checkpoint, as text and as JSON; no tensor is read."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from jscope._report import array_type
from jscope.io._checkpoint import Checkpoint, nbytes_of

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size_text(nbytes: float) -> str:
    """``1.2 MB``; a kB has 1,000 bytes."""
    unit = 0
    while nbytes >= 999.5 and unit < len(_UNITS) - 1:
        nbytes, unit = nbytes / 1000, unit + 1
    digits = 0 if unit == 0 or nbytes >= 99.5 else 1
    return f"{nbytes:.{digits}f} {_UNITS[unit]}"


def tree_text(checkpoint: Checkpoint) -> str:
    """A line for each scope and each tensor, what the file says of itself, and totals."""
    rows = list(_rows(checkpoint))
    cells = list(zip(*[row for row in rows if row[1]], strict=True)) or [()] * 3
    widths = [max(map(len, column), default=0) for column in cells]
    lines = [f"{checkpoint.path} ({checkpoint.format})"]
    for label, dtype, size in rows:
        line = f"{label:{widths[0]}}  {dtype:{widths[1]}}  {size:>{widths[2]}}"
        lines.append(line.rstrip())
    lines += [f"metadata {key}: {value}" for key, value in checkpoint.metadata.items()]
    lines += [f"no array {name}: {reason}" for name, reason in checkpoint.notes.items()]
    return "\n".join([*lines, total_text(checkpoint)])


def _rows(checkpoint: Checkpoint) -> Iterator[tuple[str, str, str]]:
    """Label, type and size of each line; a scope has a label alone, said when it is entered."""
    open_scopes: tuple[str, ...] = ()
    shapes, dtypes = checkpoint.shapes, checkpoint.dtypes
    for name in sorted(checkpoint, key=lambda name: name.split("/")):
        *scopes, last = name.split("/")
        shared = _common(open_scopes, scopes)
        for depth in range(shared, len(scopes)):
            yield f"{'  ' * depth}{scopes[depth]}/", "", ""
        open_scopes = tuple(scopes)
        size = size_text(nbytes_of(checkpoint, name))
        yield f"{'  ' * len(scopes)}{last}", array_type(shapes[name], dtypes[name]), size


def _common(left: tuple[str, ...], right: list[str]) -> int:
    """How many components two paths begin with together."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return sum(1 for _ in pairs)


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

"""RestoreReport: what was restored from where, as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

_SHOWN = 20
"""How many rows of a kind are shown."""


@dataclasses.dataclass(frozen=True, repr=False, slots=True)
class RestoreReport:
    """What ``jscope.restore`` took from where, and what it left; prints as a table.

    Attributes:
      restored: Name of the target -> name of the source, or names.
      missing: Names of the target that the source has nothing for.
      unused: Names of the source that nothing was taken from, but for those in mismatched.
      mismatched: Name of the target -> (wanted, found), as text, whose source did not fit; found
        tells the source where it has another name.
      arrays: Name of the target -> what was restored, ``"float32[3,4]"``, and by which cast or
        transform.
      others: Name of the target that has no value from the source -> whether the target's own is
        kept or it is left out, and why.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> source = {"old": {"w": jnp.ones([3])}, "step": 7}
      >>> _, report = js.restore({"new": {"w": jnp.zeros([3])}}, source, {"old/": "new/"})
      >>> report
      RestoreReport: 1 restored, 0 missing, 1 unused, 0 mismatched.
        target  source
        new/w   old/w   float32[3]
        -       step    unused
    """

    restored: Mapping[str, str]
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    arrays: Mapping[str, str] = dataclasses.field(default_factory=dict)
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        kinds = {
            "missing": [(name, "-", self.others.get(name, "missing")) for name in self.missing],
            "mismatched": [
                (name, "-", self.others.get(name, f"{found}, not {wanted}"))
                for name, (wanted, found) in self.mismatched.items()
            ],
            "restored": [
                (name, source, self.arrays.get(name, "")) for name, source in self.restored.items()
            ],
            "unused": [("-", name, "unused") for name in self.unused],
        }
        order = ("restored", "missing", "unused", "mismatched")
        counts = ", ".join(f"{len(kinds[kind])} {kind}" for kind in order)
        rows = [("target", "source", "")]
        for kind, every in kinds.items():
            rows += every[:_SHOWN]
            if len(every) > _SHOWN:
                rows.append((f"... ({len(every)} in all)", "...", kind))
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines = [
            f"  {target:<{widths[0]}}  {source:<{widths[1]}}  {what}".rstrip()
            for target, source, what in rows
        ]
        return "\n".join([f"RestoreReport: {counts}.", *lines[: len(lines) * bool(rows[1:])]])

"""What does not fit, and what to do about it: the errors of a plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Container

from jscope._check import misfit
from jscope._report import near_names, quoted, some_of
from jscope.errors import CheckError
from jscope.io._fixes import fixes_of
from jscope.io._layers import without_slots
from jscope.io._plan import Plan
from jscope.io._source import Source, type_of
from jscope.io._target import Target

_NEAR = 10
"""For how many names of a kind near ones are looked up, which takes its time."""
CASTABLE = "cast=True takes it"
_NOT_TAKEN = "the source has it, and the map does not take it"


def does_not_fit(
    plan: Plan, target: Target, source: Source, *, strict: bool, has_map: bool
) -> CheckError:
    missing = _missing(plan, target, source, has_map=has_map)
    absent = {"missing": missing}
    if not has_map:
        wanted = [*plan.missing, *plan.mismatched]
        absent["unused"] = dict.fromkeys(plan.unexplained, "")
        for name in plan.unexplained[:_NEAR]:
            if near := near_names(name, wanted):
                absent["unused"][name] = f"near {quoted(near)}"
    is_left = _NOT_TAKEN in missing.values()
    fixes = fixes_of(plan, target.leaves, strict=strict, has_map=has_map, is_left=is_left)
    return _misfit(plan, source, absent, fixes)


def cannot_be_left_out(
    plan: Plan, target: Target, source: Source, names: Collection[str], *, has_map: bool
) -> CheckError:
    """Of abstract leaves without values, where the result needs all of its leaves."""
    part = dataclasses.replace(
        plan,
        missing={name: why for name, why in plan.missing.items() if name in names},
        mismatched={name: what for name, what in plan.mismatched.items() if name in names},
    )
    fix = (
        "strict=False keeps the target's own arrays, and these are shapes, which only nested "
        "mappings of arrays can do without: give arrays."
    )
    return _misfit(
        part, source, {"missing": _missing(part, target, source, has_map=has_map)}, [fix]
    )


def _misfit(
    plan: Plan, source: Source, absent: dict[str, dict[str, str]], fixes: list[str]
) -> CheckError:
    notes = dict.fromkeys(plan.castable, CASTABLE)
    summary = f"{source.label} does not fit the target"
    return misfit(summary, absent, plan.mismatched, fixes, notes)


def _missing(plan: Plan, target: Target, source: Source, *, has_map: bool) -> dict[str, str]:
    notes, unused = reasons(plan, source, has_map=has_map), dict.fromkeys(plan.unexplained)
    for name in list(notes)[:_NEAR]:
        if not notes[name]:
            notes[name] = _near(name, target, source, unused)
    return notes


def reasons(plan: Plan, source: Source, *, has_map: bool) -> dict[str, str]:
    """Name that is missing -> why, where there is more to say than that."""
    notes, unused = dict(plan.missing), set(plan.unexplained)
    for name, note in notes.items():
        if name in source.notes:
            notes[name] = f"it has no array: {source.notes[name]}"
        elif not note and has_map and name in unused:
            notes[name] = _NOT_TAKEN
    return notes


def _near(name: str, target: Target, source: Source, unused: Container[str]) -> str:
    """Names that are not used and spelled alike; without any, those of such arrays.

    The slots of an optimizer, which lie below the name of a variable, come last.
    """
    kinds = [[x for x in kind if x in unused] for kind in without_slots(source.types)]
    if near := [other for kind in kinds for other in near_names(name, kind)][:3]:
        return f"near {quoted(near)}"
    wanted = type_of(target.leaves[name])
    alike = [other for kind in kinds for other in kind if source.types[other] == wanted]
    return f"of its shape and dtype: {some_of(alike)}" if alike else ""

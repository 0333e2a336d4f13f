"""The reuse rule of TensorFlow 1, and how it refuses: pure tables, no JAX."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final, TypeAlias

import numpy as np

from jscope._report import brief, near_names, quoted, report_at, where
from jscope.errors import ReuseError, Site, VariableExistsError, VariableNotFoundError


class ReuseMode(enum.Enum):
    """The third mode beside True and False."""

    AUTO_REUSE = 1

    def __repr__(self) -> str:
        return "jscope.AUTO_REUSE"


AUTO_REUSE: Final = ReuseMode.AUTO_REUSE
"""Make a variable at its first request and share it at the later ones, as in TF1."""

Reuse: TypeAlias = bool | ReuseMode


class Action(enum.Enum):
    """What one request of a name does."""

    CREATE = enum.auto()
    SHARE = enum.auto()
    REFUSE_EXISTING = enum.auto()
    REFUSE_MISSING = enum.auto()


def decide(reuse: Reuse, *, seen: bool) -> Action:
    """Decides one request from the scope's mode and whether the name was seen."""
    if seen:
        return Action.REFUSE_EXISTING if reuse is False else Action.SHARE
    return Action.REFUSE_MISSING if reuse is True else Action.CREATE


def exists(
    name: str, shown: str, first: tuple[Site, ...], again: tuple[Site, ...], *, by_jax: bool
) -> VariableExistsError:
    """Of REFUSE_EXISTING; ``by_jax`` if calls of JAX lie between that are not those of before."""
    reached = " (the same place, reached again)" if first == again else ""
    fix = (
        "to share it, open the scope with reuse=True or jscope.AUTO_REUSE; to make another "
        "variable, use another name or another variable_scope."
    )
    if by_jax:
        fix += (
            "\n          where a library calls one function several times, as solvers do: wrap it "
            "by jscope.functionalize or jscope.make_template, or share by reuse=jscope.AUTO_REUSE."
        )
    return VariableExistsError(
        f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or "
        "reuse=jscope.AUTO_REUSE in VarScope?",
        {
            "first": f"{shown} at {where(first)}",
            "again": f"at {where(again)}{reached}",
            "fix": fix,
        },
        name=name,
        first=first,
        again=again,
    )


def is_missing(
    name: str,
    known: Iterable[str],
    sites: tuple[Site, ...],
    *,
    in_template: bool = False,
    kept: bool = False,
) -> VariableNotFoundError:
    """Of REFUSE_MISSING; ``kept`` if the scope is known by a scope object alone."""
    near = tuple(near_names(name, known))
    if in_template:
        fix = "make the variable in the template's first call: later calls only share."
    elif kept:
        fix = (
            "make the variable in this run too: each run of init, apply and specs starts anew, and "
            "a scope object that outlives one holds a name. jscope.make_template makes at the "
            "first call of a run and shares at the later ones."
        )
    else:
        fix = (
            "make the variable before the scope that reuses it, correct the name, or use "
            "jscope.AUTO_REUSE. A function that takes its params from another's init has no need "
            "of init: call apply."
        )
    return report_at(
        VariableNotFoundError,
        f"Variable {name} does not exist, or was not created with get_variable(). "
        "Did you mean to set reuse=jscope.AUTO_REUSE in VarScope?",
        sites,
        fix,
        name=name,
        near=near,
        shown=quoted(near),
    )


def check_reuse(reuse: object) -> None:
    """Raises ReuseError unless ``reuse`` is True, False, None or AUTO_REUSE."""
    if not (reuse is None or reuse is True or reuse is False or reuse is AUTO_REUSE):
        raise _unknown(reuse)


def _unknown(reuse: object) -> ReuseError:
    shown = repr(reuse) if isinstance(reuse, np.generic) else brief(reuse)
    return ReuseError(
        "The reuse parameter must be True or False or None.",
        {"asked": shown, "fix": "pass True, False, None or jscope.AUTO_REUSE."},
        reuse=brief(reuse),
    )


def inherit(asked: Reuse | None, parent: Reuse) -> Reuse:
    """The mode of a scope that asks for ``asked`` inside ``parent``: False cannot undo reuse."""
    return asked or parent

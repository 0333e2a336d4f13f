"""The reuse rule of TensorFlow 1: pure tables, no JAX."""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

from jscope._report import brief
from jscope.errors import ReuseError


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


def check_reuse(reuse: object) -> None:
    """Raises ReuseError unless ``reuse`` is True, False, None or AUTO_REUSE."""
    if not (reuse is None or reuse is True or reuse is False or reuse is AUTO_REUSE):
        raise _unknown(reuse)


def _unknown(reuse: object) -> ReuseError:
    return ReuseError(
        "The reuse parameter must be True or False or None.",
        {"asked": repr(reuse), "fix": "pass True, False, None or jscope.AUTO_REUSE."},
        reuse=brief(reuse),
    )


def inherit(asked: Reuse | None, parent: Reuse) -> Reuse:
    """The mode of a scope that asks for ``asked`` inside ``parent``: False cannot undo reuse."""
    return asked or parent

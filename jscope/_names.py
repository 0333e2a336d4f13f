"""Names of variables and scopes: which are valid, and how they are joined."""

from __future__ import annotations

import functools
import re

from jscope._report import brief
from jscope.errors import InvalidNameError, NameTypeError

_COMPONENT = r"[A-Za-z0-9_.\\>-]+"
_NAME = re.compile(f"{_COMPONENT}(/{_COMPONENT})*")


@functools.lru_cache(maxsize=65536)
def is_name(name: str) -> bool:
    """Whether ``name`` is one or more valid components joined by slashes."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str, kind: str) -> None:
    """Raises InvalidNameError unless ``name`` can name a ``kind`` ("variable" or "scope")."""
    if not is_name(name):
        raise invalid_name(name, kind)


def invalid_name(name: str, kind: str) -> InvalidNameError:
    reason = (
        "it has an empty component"
        if not name or "" in name.split("/")
        else f"each component between slashes has to match {_COMPONENT}"
    )
    return InvalidNameError(
        f"{name!r} is not a valid {kind} name: {reason}.",
        {"fix": "use letters, digits and _ . \\ > - , with single slashes between components."},
        name=name,
        kind=kind,
    )


def join(prefix: str, name: str) -> str:
    """The full name of ``name`` in the scope ``prefix``; the root's prefix is empty."""
    return f"{prefix}/{name}" if prefix else name


def not_a_name(name: object) -> NameTypeError:
    return NameTypeError(
        f"The name of a variable must be a string, got {brief(name)} of type "
        f"{type(name).__name__}.",
        name=brief(name),
        kind="variable",
    )


def not_text(argument: str, name: object) -> NameTypeError:
    return NameTypeError(
        f"The {argument} must be a string, got {brief(name)} of type {type(name).__name__}.",
        name=brief(name),
        kind="scope",
    )


def is_in(name: str, scope: str | None) -> bool:
    """Whether a name is in a scope, by whole components; None and the root hold all.

    With a slash at its end, as TF1's filters have it, the scope is not itself the name.
    """
    return not scope or name == scope or name.startswith(f"{scope.removesuffix('/')}/")

"""Params of the names that other libraries give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from jscope._names import check_name
from jscope._params import Params, PyTree, params_of
from jscope.errors import TreeTypeError
from jscope.tree._names import check_distinct


def params_under(
    names: Sequence[str], leaves: Iterable[PyTree], origin: Callable[[int], str]
) -> Params:
    """Params of leaves by full name; ``origin(i)`` says in messages where the i-th comes from.

    The names are checked before the first leaf is asked for.
    """
    for name in names:
        check_name(name, "variable")
    check_distinct(names, origin)
    return params_of(zip(names, leaves, strict=True))


def check_mapping(what: str, value: object, fix: str) -> None:
    if not isinstance(value, Mapping):
        raise wrong_kind(f"{what} must be a mapping, got {type(value).__name__}.", fix)


def wrong_kind(summary: str, fix: str) -> TreeTypeError:
    return TreeTypeError(summary, {"fix": fix})

"""What a scope hands to the requests and scopes inside it."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from jscope._report import brief
from jscope._reuse import Reuse
from jscope._spec import Constraint, DType, Function, InitializerLike, Partitioner, Regularizer
from jscope.errors import ArgumentError

CustomGetter: TypeAlias = Function
"""``f(getter, name, shape, dtype, ...)``, called by keyword."""


class Settings(NamedTuple):
    """What a scope hands to the requests and scopes inside it."""

    reuse: Reuse = False
    dtype: DType | None = None  # None: nobody asked for one
    initializer: InitializerLike = None
    regularizer: Regularizer | None = None
    constraint: Constraint | None = None
    partitioner: Partitioner = None
    custom_getter: CustomGetter | None = None


def check_getter(getter: Any) -> CustomGetter | None:
    """The custom getter; None where none was given."""
    if getter is not None and not callable(getter):
        raise ArgumentError(
            f"Passed a custom_getter which is not callable: {brief(getter)}",
            argument="custom_getter",
            value=brief(getter),
        )
    return getter  # type: ignore[no-any-return]

"""What a scope hands to the requests and scopes inside it."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from jscope._arguments import call_shape, can_call, is_dtype_class
from jscope._params import PyTree
from jscope._report import brief
from jscope._reuse import Reuse
from jscope._spec import (
    Constraint,
    DType,
    Function,
    InitializerLike,
    Kwargs,
    Partitioner,
    Regularizer,
)
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


def call(custom: CustomGetter, getter: CustomGetter, request: Kwargs) -> PyTree:
    """Calls a custom getter, by keyword as in TF1.

    Raises:
      ArgumentError: (ValueError, TypeError) it cannot be called so.
    """
    try:
        return custom(getter=getter, **request)
    except TypeError as error:
        if can_call(custom, getter=getter, **request):
            raise  # of what it does
        shown = call_shape(custom)
        raise _not_a_getter(shown, str(error)) from None


def _not_a_getter(shown: str, reason: str) -> ArgumentError:
    return ArgumentError(
        f"The custom_getter {shown} cannot be called by keyword, as in TF1: {reason}.",
        {"fix": "name its first argument getter: def f(getter, name, *args, **kwargs)."},
        argument="custom_getter",
        value=shown,
    )


def check_getter(getter: Any) -> CustomGetter | None:
    """The custom getter; None where none was given."""
    if getter is not None and (not callable(getter) or is_dtype_class(getter)):
        raise ArgumentError(
            f"Passed a custom_getter which is not callable: {brief(getter)}",
            argument="custom_getter",
            value=brief(getter),
        )
    return getter  # type: ignore[no-any-return]

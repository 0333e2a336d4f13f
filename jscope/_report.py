"""How reports show places, values and names."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from jscope.errors import JscopeError, Site

E = TypeVar("E", bound=JscopeError)

WIDTH = 88
"""How long lines of trees are."""
_SITES_SHOWN = 3


class Shaped(Protocol):
    """An array, or what stands for one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[np.generic]: ...


def where(sites: Sequence[Site]) -> str:
    """The places of a request as messages show them: three frames, innermost first."""
    return " < ".join(str(site) for site in sites[:_SITES_SHOWN]) or "an unknown place"


def brief(value: object) -> str:
    """A value in a message: never an array's values, never more than a line."""
    if is_shaped(value):
        return describe(value)
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def is_shaped(value: object) -> bool:
    """Whether a value has a shape and a dtype; a class, such as ``np.float32``, has none."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return shape is not None and dtype is not None and not isinstance(value, type)


def describe(leaf: Any) -> str:
    """``float32[3,4]`` for arrays and their like, else the type's name."""
    return array_type(leaf.shape, leaf.dtype) if is_shaped(leaf) else type(leaf).__name__


def array_type(shape: Iterable[object], dtype: object) -> str:
    """``float32[3,4]``."""
    return f"{dtype}[{','.join(map(str, shape))}]"


def dims(shape: Iterable[object]) -> str:
    """``(3, ?)``."""
    sizes = ["?" if dim is None else str(dim) for dim in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def short(thing: Any) -> str:
    """A function by its name and the numbers that it was made with; or ``constant``."""
    if isinstance(thing, functools.partial):
        options = [*thing.args, *thing.keywords.values()]
        numbers = [f"{x:g}" for x in options if isinstance(x, int | float)]
        return short(thing.func).lstrip("_") + (f"({', '.join(numbers)})" if numbers else "")
    if not callable(thing):
        return "constant"
    name: str = getattr(thing, "__qualname__", type(thing).__name__)
    if str(thing.__module__).startswith(("jax.", "jscope.")):  # a function that another one made
        name = name.partition(".<locals>")[0]
    return name.rpartition(".")[2].strip("<>")


def near_names(name: str, names: Iterable[str]) -> list[str]:
    """Up to three names that are spelled like ``name``, or end like it."""
    import difflib  # here, because most programs never need it

    known = list(dict.fromkeys(names))
    tail = name.rsplit("/", 1)[-1]
    same_tail = [other for other in known if other.rsplit("/", 1)[-1] == tail]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return list(dict.fromkeys(close + same_tail))[:3]


def quoted(names: Iterable[str]) -> str:
    """``'a', 'b'``."""
    return ", ".join(repr(name) for name in names)


def some_of(names: Sequence[str]) -> str:
    """``'a', 'b', 'c', ... (12 in all)``."""
    return quoted(names[:3]) + (f", ... ({len(names)} in all)" if len(names) > 3 else "")


def report_at(
    kind: type[E],
    summary: str,
    sites: tuple[Site, ...],
    fix: str,
    shown: str | None = None,
    **facts: object,
) -> E:
    """The error of a call by its places, names that are near (as ``shown``), and the fix."""
    lines = {"asked": f"at {where(sites)}", "near": shown, "fix": fix}
    return kind(summary, lines, sites=sites, **facts)


def initializer_error(
    kind: type[E], summary: str, name: str, sites: tuple[Site, ...], fix: str
) -> E:
    """The error about a variable's initial value, by its name, the places of its request, a fix."""
    lines = {"asked": f"{name} at {where(sites)}", "fix": fix}
    return kind(summary, lines, name=name, sites=sites)

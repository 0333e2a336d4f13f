"""What a function computes, as a key: equal fingerprints, equal functions.

People write ``initializer=jax.nn.initializers.normal(0.02)`` in every layer, which makes a new
function object each time. Compiled once per object that would cost a compilation per layer.
"""

from __future__ import annotations

import enum
import functools
import types
from typing import Any

import numpy as np

_LIBRARIES = ("jax", "jaxlib", "jscope", "numpy", "builtins", "math")
_PLAIN = (int, float, complex, str, bytes, bool, type(None), np.dtype, np.generic)


class NotComparableError(Exception):
    """The function holds something that cannot be compared by value, such as an array."""


class _Same:
    """Compares an object by identity and keeps it alive, so that its address stays its own."""

    __slots__ = ("_object",)

    def __init__(self, thing: object) -> None:
        self._object = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._object is other._object

    def __hash__(self) -> int:
        return id(self._object)


def fingerprint(thing: Any) -> Any:
    """A hashable key of a function: its code, defaults, closure values and globals.

    Raises:
      NotComparableError: it holds something that may change or is too large to compare.
    """
    return _key(thing, ())


def freeze(thing: Any) -> Any:
    """A function as it is now: later assignments to variables of its closure do not reach it.

    Initializers are called when the pass is over, but ``lambda key, shape, dtype: ... i ...`` in a
    loop means the ``i`` of its turn.
    """
    if not isinstance(thing, types.FunctionType) or not thing.__closure__:
        return thing
    if (thing.__module__ or "").partition(".")[0] in _LIBRARIES:
        return thing
    try:
        cells = tuple(types.CellType(cell.cell_contents) for cell in thing.__closure__)
    except ValueError:  # a variable that is not set yet: leave it to be set
        return thing
    frozen = types.FunctionType(
        thing.__code__, thing.__globals__, thing.__name__, thing.__defaults__, cells
    )
    frozen.__kwdefaults__ = thing.__kwdefaults__
    return functools.update_wrapper(frozen, thing)


def _key(thing: Any, above: tuple[int, ...]) -> Any:
    if isinstance(thing, _PLAIN):
        return type(thing), repr(thing)  # repr tells 0.0 from -0.0, and nan equals nan
    if isinstance(thing, tuple | list):
        return type(thing), tuple([_key(item, above) for item in thing])
    if isinstance(thing, dict):
        return dict, tuple([(_key(k, above), _key(v, above)) for k, v in thing.items()])
    if isinstance(thing, enum.Enum | type | types.ModuleType | types.BuiltinFunctionType):
        return _Same(thing)
    library = (getattr(thing, "__module__", None) or "").partition(".")[0] in _LIBRARIES
    if library and callable(thing) and not getattr(thing, "__closure__", None):
        return _Same(thing)
    if id(thing) in above:
        return "recursion", above.index(id(thing))
    above = (*above, id(thing))
    if isinstance(thing, types.FunctionType):
        return _function(thing, above)
    if isinstance(thing, types.MethodType):
        return "method", _key(thing.__func__, above), _key(thing.__self__, above)
    if isinstance(thing, functools.partial):
        return "partial", _key([thing.func, thing.args, thing.keywords], above)
    if type(thing).__module__.partition(".")[0] in (*_LIBRARIES, "_thread"):
        raise NotComparableError(thing)
    if hasattr(thing, "__dict__") and not hasattr(type(thing), "__slots__"):
        return _Same(type(thing)), _key(vars(thing), above)
    raise NotComparableError(thing)


def _function(thing: types.FunctionType, above: tuple[int, ...]) -> Any:
    try:
        closed = [cell.cell_contents for cell in thing.__closure__ or ()]
    except ValueError:  # a variable of the closure that is not set yet
        raise NotComparableError(thing) from None
    known = thing.__globals__
    library = (thing.__module__ or "").partition(".")[0] in _LIBRARIES
    names = () if library else _global_names(thing.__code__)
    return (
        _Same(known),
        thing.__code__,
        _key(thing.__defaults__, above),
        _key(thing.__kwdefaults__, above),
        _key(closed, above),
        tuple([(name, _key(known[name], above)) for name in names if name in known]),
    )


def _global_names(code: types.CodeType) -> tuple[str, ...]:
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(dict.fromkeys(_global_names(constant)))
    return tuple(names)

"""arg_scope: default arguments for layer functions, as in TF1's slim."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

from jscope import _guard, _jaxapi, _pass
from jscope.errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")

Defaults = Mapping[Callable[..., Any], Mapping[str, Any]]
"""Function -> its default arguments; what ``arg_scope(...) as scope`` gives."""

# Not of the pass: TF1 programs also open arg_scopes around whole networks.
_NOTHING: Defaults = types.MappingProxyType({})
_current = contextvars.ContextVar("arg_scope", default=_NOTHING)


def add_arg_scope(fn: Callable[P, R]) -> Callable[P, R]:
    """Lets ``arg_scope`` give default arguments to a function, as in TF1's slim.

    Args:
      fn: A function.

    Returns:
      A function of the same signature; what a call gives wins over what scopes give.

    Raises:
      ArgumentError: (ValueError, TypeError) ``fn`` is not callable.

    Example:
      >>> import jscope as js
      >>> @js.add_arg_scope
      ... def power(x, exponent=1):
      ...     return x**exponent
      >>> with js.arg_scope([power], exponent=2):
      ...     power(3), power(3, exponent=3)
      (9, 27)
    """
    if not callable(fn):
        raise ArgumentError.make("argument of add_arg_scope", fn, "a function")

    @functools.wraps(fn)
    def scoped(*args: P.args, **kwargs: P.kwargs) -> R:
        # Also where there are no defaults: JAX must not take this trace for one that has some.
        if _pass.find() is None:
            _guard.retire()
        defaults = _current.get().get(scoped)
        if not defaults:
            return fn(*args, **kwargs)
        given = _positional(fn, len(args))
        missing = {name: value for name, value in defaults.items() if name not in given}
        return fn(*args, **{**missing, **kwargs})

    scoped._takes_arg_scope = True  # type: ignore[attr-defined]
    return scoped


@contextlib.contextmanager
def arg_scope(
    functions: Iterable[Callable[..., Any]] | Defaults, **defaults: Any
) -> Iterator[Defaults]:
    """Gives functions of ``add_arg_scope`` default arguments in a ``with`` block, as TF1's slim.

    Scopes nest: an inner one adds to an outer one, and wins where both give an argument. JAX traces
    a function anew for other defaults.

    Args:
      functions: List of functions; or what an earlier ``arg_scope(...) as scope`` gave, to open
        just that again.
      **defaults: Arguments for each of them.

    Yields:
      The scope, to be opened again later.

    Raises:
      ArgumentError: (ValueError, TypeError) a function has not been through ``add_arg_scope`` or
        does not take an argument, or defaults are given for a scope that is opened again.

    Example:
      >>> import jscope as js
      >>> @js.add_arg_scope
      ... def layer(x, scale=1, shift=0):
      ...     return x * scale + shift
      >>> with js.arg_scope([layer], scale=2) as scope:
      ...     with js.arg_scope([layer], shift=1):
      ...         layer(3)
      7
      >>> with js.arg_scope(scope):
      ...     layer(3)
      6
    """
    if isinstance(functions, Mapping):
        if defaults:
            raise ArgumentError.make("defaults of a scope that is opened again", defaults, "none")
        opened: Defaults = functions
    else:
        opened = dict(_current.get())
        for fn in _checked(functions, defaults):
            opened[fn] = {**opened.get(fn, {}), **defaults}
    token = _current.set(opened)
    outside = _pass.find() is None
    context = _jaxapi.get_context()
    if outside:  # in a pass the guard sees to it
        _jaxapi.set_context(_Key(opened))
    try:
        yield opened
    finally:
        _current.reset(token)
        if outside:
            _jaxapi.set_context(context)


class _Key:
    """Defaults as a part of the key of JAX's caches, equal to another of the same defaults."""

    __slots__ = ("_defaults",)

    def __init__(self, defaults: Defaults) -> None:
        self._defaults = {fn: dict(values) for fn, values in defaults.items()}

    def __hash__(self) -> int:
        return hash(frozenset((fn, *values) for fn, values in self._defaults.items()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Key) or self._defaults.keys() != other._defaults.keys():
            return False
        return all(
            mine.keys() == other._defaults[fn].keys()
            and all(_same(value, other._defaults[fn][name]) for name, value in mine.items())
            for fn, mine in self._defaults.items()
        )


def _same(one: Any, other: Any) -> bool:
    plain = isinstance(one, bool | int | float | str | bytes | None | tuple)
    return one is other or (plain and type(one) is type(other) and repr(one) == repr(other))


def _checked(functions: Any, defaults: Mapping[str, Any]) -> list[Callable[..., Any]]:
    if not isinstance(functions, list | tuple | set | frozenset):
        raise ArgumentError.make("functions of arg_scope", functions, "a list or tuple")
    for fn in functions:
        if not getattr(fn, "_takes_arg_scope", False):
            raise ArgumentError.make("function of arg_scope", fn, "decorated by add_arg_scope")
        parameters = inspect.signature(fn).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            for name in defaults:
                if name not in parameters:
                    raise ArgumentError.make(
                        "default of arg_scope", name, f"an argument of {_name(fn)}"
                    )
    return list(functions)


def _name(fn: Callable[..., Any]) -> str:
    fn = inspect.unwrap(fn)
    return str(getattr(fn, "__name__", fn))


@functools.lru_cache(maxsize=1024)
def _positional(fn: Callable[..., Any], count: int) -> frozenset[str]:
    """The names of the arguments that ``count`` positional ones give."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, p in inspect.signature(fn).parameters.items() if p.kind in kinds]
    return frozenset(names[:count])

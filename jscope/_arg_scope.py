"""arg_scope: default arguments for layer functions, as in TF1's slim."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import ParamSpec, TypeVar

from jscope import _cache_key, _jaxapi, _pass
from jscope._arguments import bad_argument
from jscope._params import PyTree
from jscope._program import plain
from jscope._spec import Function, Kwargs

P = ParamSpec("P")
R = TypeVar("R")

Defaults = Mapping[Function, Kwargs]
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
        raise bad_argument("argument of add_arg_scope", fn, "a function")

    @functools.wraps(fn)
    def scoped(*args: P.args, **kwargs: P.kwargs) -> R:
        # Also where there are no defaults: JAX must not take this trace for one that has some.
        if _pass.find() is None:
            _cache_key.retire()
        defaults = _current.get().get(scoped)
        if not defaults:
            return fn(*args, **kwargs)
        given = _positional(fn, len(args))
        missing = {name: value for name, value in defaults.items() if name not in given}
        return fn(*args, **{**missing, **kwargs})

    scoped._takes_arg_scope = True  # type: ignore[attr-defined]
    return scoped


@contextlib.contextmanager
def arg_scope(functions: Iterable[Function] | Defaults, **defaults: PyTree) -> Iterator[Defaults]:
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
            raise bad_argument("defaults of a scope that is opened again", defaults, "none")
        opened: Defaults = functions
    else:
        opened = dict(_current.get())
        for fn in _checked(functions, defaults):
            opened[fn] = {**opened.get(fn, {}), **defaults}
    token = _current.set(opened)
    _pass.find()
    outside = _pass.around() is None
    context = _jaxapi.get_context()
    if outside:  # elsewhere a guard sees to it
        _jaxapi.set_context(_key(opened))
    try:
        yield opened
    finally:
        _current.reset(token)
        if outside:
            _jaxapi.set_context(context)


def current_key() -> Hashable:
    """What is equal where the same defaults are in force."""
    return _key(_current.get())


def _key(defaults: Defaults) -> Hashable:
    """Defaults as a part of the key of JAX's caches: equal for equal ones, and it holds them."""
    return frozenset(
        (fn, name, _frozen(value))
        for fn, given in defaults.items()
        for name, value in given.items()
    )


def _frozen(value: PyTree) -> Hashable:
    if type(value) in (tuple, list):
        return type(value), tuple([_frozen(item) for item in value])
    key = plain(value)
    return _Same(value) if key is None else key


class _Same:
    """A default that is equal to itself alone; held, so that its address stays its own."""

    __slots__ = ("_thing",)

    def __init__(self, thing: object) -> None:
        self._thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._thing is other._thing

    def __hash__(self) -> int:
        return id(self._thing)


def _checked(functions: Iterable[Function], defaults: Kwargs) -> list[Function]:
    if not isinstance(functions, list | tuple | set | frozenset):
        raise bad_argument("functions of arg_scope", functions, "a list or tuple")
    for fn in functions:
        if not getattr(fn, "_takes_arg_scope", False):
            raise bad_argument("function of arg_scope", fn, "decorated by add_arg_scope")
        parameters = inspect.signature(fn).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            for name in defaults:
                if name not in parameters:
                    raise bad_argument("default of arg_scope", name, f"an argument of {_name(fn)}")
    return list(functions)


def _name(fn: Function) -> str:
    fn = inspect.unwrap(fn)
    return str(getattr(fn, "__name__", fn))


@functools.lru_cache(maxsize=1024)
def _positional(fn: Function, count: int) -> frozenset[str]:
    """The names of the arguments that ``count`` positional ones give."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, p in inspect.signature(fn).parameters.items() if p.kind in kinds]
    return frozenset(names[:count])

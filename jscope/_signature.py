"""What help shows of init, apply and specs: our arguments, then those of the user's function."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

from jscope._spec import Function

_OURS = inspect.Parameter.POSITIONAL_ONLY


def show(fn: Function, *functions: Function) -> None:
    """Gives functions that take ``fn``'s arguments after their own its signature and docstring.

    JAX resolves ``static_argnames`` and its like by the signature, too.

    Args:
      fn: The user's function.
      *functions: Functions ``f(*, /, *args, **kwargs)``; in their annotations R is what ``fn``
        returns.
    """
    signature, name, doc = _signature(fn), _name(fn), _doc(fn)
    for function in functions:
        function.__doc__ = f"{function.__name__} of {name}, see transform.{doc}"
        if signature is not None:
            _sign(function, _with_ours(function, signature))


def show_without(function: Function, inner: Function, argument: int) -> None:
    """Gives a function the name, docstring and signature of another, less one argument."""
    function.__name__, function.__doc__ = inner.__name__, inner.__doc__
    signature: inspect.Signature | None = getattr(inner, "__signature__", None)
    if signature is not None:
        parameters = list(signature.parameters.values())
        del parameters[argument]
        _sign(function, signature.replace(parameters=parameters))


def _sign(function: Any, signature: inspect.Signature) -> None:
    function.__signature__ = signature


def _signature(fn: Function) -> inspect.Signature | None:
    """None where Python knows no signature, as of some builtins."""
    try:
        return inspect.signature(fn)
    except Exception:  # also what annotations or a ``__signature__`` of the user's raise
        return None


def _with_ours(function: Function, signature: inspect.Signature) -> inspect.Signature:
    code, annotations = inspect.unwrap(function).__code__, function.__annotations__
    ours = []
    for name in code.co_varnames[: code.co_posonlyargcount]:
        shown = name
        while shown in signature.parameters:  # the user's is called by name, ours never is
            shown += "_"
        ours.append(inspect.Parameter(shown, _OURS, annotation=annotations[name]))
    returned = _returned(annotations["return"], signature.return_annotation)
    return inspect.Signature([*ours, *signature.parameters.values()], return_annotation=returned)


def _returned(ours: str, users: object) -> object:
    if ours == "R":
        return users
    if users is inspect.Signature.empty:
        users = "Any"
    return re.sub(r"\bR\b", lambda _: _text(users), ours)


def _text(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _name(fn: Function) -> str:
    while isinstance(fn, functools.partial):  # whose repr may hold arrays
        fn = fn.func
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))


def _doc(fn: Function) -> str:
    """The function's own docstring, as a part of another; a class's says nothing of the call."""
    doc: object = getattr(fn, "__doc__", None)
    if not isinstance(doc, str) or doc is type(fn).__doc__:
        return ""
    return f"\n\n{inspect.cleandoc(doc)}"

"""Runs one program in init and in apply, which must behave alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

import jscope as js


def both(fn: Callable[..., Any], *args: Any) -> Any:
    """What ``fn`` returns, in init and in apply alike: plain facts, never arrays."""
    facts: list[Any] = []
    net = js.transform(lambda *args: facts.append(fn(*args)))
    params = net.init(0, *args)
    in_init = len(facts)
    net.apply(params, None, *args)
    assert in_init
    assert len(facts) == in_init + 1
    for fact in facts:
        assert fact == facts[0], f"init and apply gave {facts!r}"
    return facts[0]


def names(fn: Callable[..., Any], *args: Any) -> list[str]:
    """The full names that ``fn`` makes, in order of creation; apply must find each of them."""
    both(lambda *args: [fn(*args), None][1], *args)
    return list(js.transform(fn).specs(*args))


def spec(fn: Callable[..., Any], name: str = "v") -> js.VariableSpec:
    """The spec of one variable of ``fn``."""
    both(lambda: [fn(), None][1])
    return js.transform(fn).specs()[name]


def refused(
    fn: Callable[..., Any],
    error: type[Exception],
    match: str,
    *args: Any,
    params: Mapping[str, Any] | None = None,
) -> tuple[Any, Any]:
    """The errors by which init and apply refuse ``fn``.

    Apply is given ``params``, by default all that ``fn`` makes before the error, so that it cannot
    fail earlier.
    """

    def until_the_error(*args: Any) -> None:
        try:
            fn(*args)
        except error:
            return
        pytest.fail(f"no {error.__name__}")

    if params is None:
        params = js.transform(until_the_error).init(0, *args)
    net = js.transform(fn)
    with pytest.raises(error, match=match) as in_init:
        net.init(0, *args)
    with pytest.raises(error, match=match) as in_apply:
        net.apply(params, None, *args)
    assert type(in_init.value) is type(in_apply.value)
    return in_init.value, in_apply.value

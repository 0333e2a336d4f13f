"""Keeps JAX's trace caches from answering for the wrong scope.

JAX caches traces by the identity of the function, so a module-level block under ``jax.checkpoint``
in two scopes would run its Python once, and the second scope would get the first one's variables.
A user context of JAX is part of the key of every such cache. Setting it to something new at every
call would make jax.numpy's own cached functions retrace all the time. So only this holds: *each
value is the key of at most one cached trace that called jscope*.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from jscope import _jaxapi

_BURIALS = 512
"""After so many dead keys JAX's trace cache, which has no bound, is rid of them."""


class _Key:
    """One value of the context; equal to itself alone."""

    __slots__ = ("dead",)

    def __init__(self) -> None:
        self.dead = False


class _Pool:
    """Context values that key no trace which called jscope.

    One for the whole process, because JAX's caches are shared between threads: no two passes may
    hold one value. ``None``, the value outside every pass, comes first: a model without inner
    transforms shares the traces of jax.numpy's functions with the code around it.
    """

    def __init__(self, *starts: _Key | None) -> None:
        self._lock = threading.Lock()
        self._dead = 0
        self._starts = list(starts)
        self._insides: list[_Key | None] = []

    def fresh(self) -> _Key:
        return _Key()

    def take_start(self) -> _Key | None:
        with self._lock:
            return self._starts.pop() if self._starts else self.fresh()

    def take_inside(self) -> _Key | None:
        with self._lock:
            return self._insides.pop() if self._insides else self.fresh()

    def give_start(self, value: _Key | None) -> None:
        with self._lock:
            self._starts.append(value)

    def drop_start(self, value: object) -> None:
        with self._lock:
            if value in self._starts:
                self._starts.remove(value)

    def give_inside(self, value: _Key) -> None:
        with self._lock:
            self._insides.append(value)

    def bury(self, keys: Iterable[_Key | None]) -> None:
        """Notes keys of traces that called jscope: no pass will have them again."""
        with self._lock:
            for key in keys:
                if key is not None:
                    key.dead = True
                    self._dead += 1
            if self._dead < _BURIALS:
                return
            self._dead = 0
        _jaxapi.forget_traces(lambda value: type(value) is _Key and value.dead)


_pool = _Pool(None)
_seen_pool = _Pool()
"""Those of passes, and of code around them, whose recorded values are looked at: what JAX traced
where nobody looks must not answer there."""


def retire() -> None:
    """To be called in jscope calls outside a pass: no pass may start with the key they had."""
    if not _jaxapi.is_eager(_jaxapi.current_trace()):
        _pool.drop_start(_jaxapi.get_context())


class TraceGuard:
    """Changes the cache key of the running pass whenever it enters or leaves a cached trace.

    ``dirty`` says whether the pass called jscope inside an inner trace that JAX may cache; with
    ``looked_at`` it shares no trace with passes whose recorded values nobody looks at.
    """

    __slots__ = (
        "_inside",
        "_outer",
        "_pool",
        "_seen",
        "_staged",
        "_start",
        "_value",
        "_values",
        "dirty",
        "last",
    )

    def __init__(self, *, looked_at: bool = False) -> None:
        self._pool = _seen_pool if looked_at else _pool
        self.dirty = False
        self._inside: _Key | None = None

    def enter(self) -> None:
        """Starts in the current trace, with a value of its own."""
        trace = _jaxapi.current_trace()
        self.last = _jaxapi.trace_ref(trace)
        self._staged = _jaxapi.trace_ref(_jaxapi.staged(trace))
        self._seen = {self._staged}
        self._outer = _jaxapi.get_context()
        self._start = self._value = self._pool.take_start()
        self._values = {self._value}
        _jaxapi.set_context(self._value)

    def exit(self) -> None:
        """Restores the context and gives back the values that key nothing."""
        _jaxapi.set_context(self._outer)
        if not self.dirty:
            self._pool.give_start(self._start)
            return
        if self._inside is not None:
            self._pool.give_inside(self._inside)
        self._pool.bury(value for value in self._values if value is not self._inside)

    def touch(self) -> None:
        """To be called first in every jscope call that comes from another trace than the last."""
        trace = _jaxapi.current_trace()
        self.last = _jaxapi.trace_ref(trace)
        now = _jaxapi.trace_ref(_jaxapi.staged(trace))
        if now is self._staged:
            return
        self._staged = now
        if now in self._seen:
            # Out of a cached trace: the value now set may be its key, or that of one beside it.
            self._set(self._pool.fresh())
            return
        # Into a cached trace, whose key is the value now set: nothing else may have that key.
        self._seen.add(now)
        self.dirty = True
        if self._inside is None or self._inside == self._value:
            self._inside = self._pool.take_inside()
        self._set(self._inside)

    def _set(self, value: _Key | None) -> None:
        self._value = value
        self._values.add(value)
        _jaxapi.set_context(value)

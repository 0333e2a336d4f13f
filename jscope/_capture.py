"""capture and plant: looking at the values that a function records, and replacing them."""

from __future__ import annotations

import collections
import functools
import sys
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from jscope import _jaxapi, _pass
from jscope._arguments import as_arrays, bad_argument
from jscope._cache_key import TraceGuard
from jscope._calls import Calls, Place
from jscope._keys import Keys
from jscope._level import Level, Outlet, Seer
from jscope._lift import Lift
from jscope._names import check_name, join, not_text
from jscope._numbering import Numbering
from jscope._params import PyTree
from jscope._pass import Pass
from jscope._report import near_names, quoted, some_of
from jscope._seeing import ways_from
from jscope._spec import Args, Kwargs
from jscope.errors import EmptySelectionError
from jscope.tree._patterns import Pattern, as_text, choose, is_glob, predicate, show

P = ParamSpec("P")
R = TypeVar("R")


def capture(
    f: Callable[P, R], pattern: Pattern | None = None
) -> Callable[P, tuple[R, dict[str, PyTree]]]:
    """Makes a function also return the values that it records, by their full names.

    What is recorded is what ``jscope.record`` and functions of ``jscope.layers`` name, in every
    ``apply`` that ``f`` calls; a name that comes again, in the same pass or in a later one, is
    numbered on. The result is that of ``f``. Under ``jax.jit``, ``jax.grad``, ``jax.vmap`` and so
    on transform what ``capture`` returns: out of ``jscope.capture(jax.jit(net.apply))`` no value
    can come, so that is an error. Captures and plants nest, in every order, and each sees what
    ``record`` returned.

    Values from ``jscope.scan``, ``map``, ``vmap`` and ``layer_stack`` have a leading axis. Those
    recorded inside ``jscope.cond``, ``switch``, ``while_loop`` and ``fori_loop``, or inside raw
    JAX transforms of the pass, cannot come out: an error, unless the pattern leaves them out.
    Functions in ``jscope.jit`` and ``jscope.checkpoint`` are traced for each of their scopes.

    Args:
      f: ``net.apply``, a function that calls it, such as a loss, or one to be called in a pass.
      pattern: Which values are meant, by their names: as of ``jscope.tree.select``; a predicate
        is called with the name and shapes (``jax.ShapeDtypeStruct``, without the axes of loops).
        None: all.

    Returns:
      A function ``(...) -> (out, seen)`` of the arguments of ``f``; ``seen`` is a flat, ordered
      dict of full name -> value, in the order in which they were recorded.

    Raises:
      ArgumentError: (ValueError, TypeError) ``f`` is no function, or ``pattern`` no pattern.
      EmptySelectionError: (ValueError) from the call: ``pattern`` means nothing that was recorded.
      TransformError: (ValueError) from the call: a value that is meant could not get out.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def mlp(x):
      ...     return js.layers.dense(js.layers.dense(x, 8, jax.nn.relu, name="hidden"), 2)
      >>> net = js.transform(mlp)
      >>> params = net.init(0, jnp.ones([3, 4]))
      >>> out, seen = jax.jit(js.capture(net.apply))(params, None, jnp.ones([3, 4]))
      >>> {name: value.shape for name, value in seen.items()}
      {'hidden/output': (3, 8), 'dense/output': (3, 2)}
    """
    _check_function("argument of capture", f)
    is_meant = (lambda name, shapes: True) if pattern is None else predicate(pattern)

    @_jaxapi.entry
    @functools.wraps(f)
    def captured(*args: P.args, **kwargs: P.kwargs) -> tuple[R, dict[str, PyTree]]:
        seer = _Look(is_meant, {})
        out, seen = _look(seer, f, args, kwargs)
        if pattern is not None:
            if not seer.names:
                raise _empty(pattern)
            choose(pattern, list(seer.names.items()), allow_empty=None, held="record")
        return out, seen

    return captured


def plant(values: Mapping[str, PyTree]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Replaces values that a function records: ``record`` returns the planted ones.

    Names and leading axes are those that ``capture`` shows, so that planting what was captured
    changes nothing. Gradients flow through planted values. Whoever ignores what ``record`` returns
    is not changed.

    Args:
      values: Full name -> value, of the structure, shape and dtype of what is recorded; or a
        function of what is recorded that returns such a value. In loops it is called in each
        iteration, as ``f(value)``, or if it needs more than that or takes ``*numbers``, as
        ``f(value, number)`` with the number of the iteration, or those of all loops around it,
        outermost first.

    Returns:
      A decorator for ``net.apply``, or a function that calls it; see ``capture`` for what holds
      about transforms.

    Raises:
      ArgumentError: (ValueError, TypeError) ``values`` is no mapping, a value is neither an array
        nor a function, or what is decorated is no function.
      NameTypeError: (ValueError, TypeError) a name is no string.
      InvalidNameError: (ValueError) a name is not valid.
      CheckError: (ValueError) from the call: another structure, shape or dtype was recorded.
      EmptySelectionError: (ValueError) from the call: nothing was recorded under a name.
      TransformError: (ValueError) from the call: as from that of ``capture``.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def double(x):
      ...     return 2 * js.record("hidden", jnp.tanh(x))
      >>> apply = js.transform(double).apply
      >>> js.plant({"hidden": 3.0})(apply)({}, None, 0.0).item()
      6.0
      >>> jax.grad(lambda hidden: js.plant({"hidden": hidden})(apply)({}, None, 0.0))(3.0).item()
      2.0
      >>> js.plant({"hidden": lambda hidden: hidden + 1})(apply)({}, None, 0.0).item()
      2.0
    """
    if not isinstance(values, Mapping):
        raise bad_argument("values to plant", values, "a mapping of full names to arrays")
    for name in values:
        if not isinstance(name, str):
            raise not_text("name of a planted value", name)
        if is_glob(name):
            raise bad_argument("name of a planted value", name, "a full name, not a pattern", _EACH)
        check_name(name, "record")
    planted = {
        name: value if callable(value) else as_arrays(f"value planted as {name}", value)
        for name, value in values.items()
    }

    def decorate(f: Callable[P, R]) -> Callable[P, R]:
        _check_function("argument of plant(values)", f)

        @_jaxapi.entry
        @functools.wraps(f)
        def intervened(*args: P.args, **kwargs: P.kwargs) -> R:
            seer = _Look(lambda name, shapes: name in planted, planted)
            out, _ = _look(seer, f, args, kwargs)
            missed = [name for name in planted if name not in seer.names]
            if missed:
                raise _not_reached(missed, list(seer.names))
            return out

        return intervened

    return decorate


_EACH = "plant under each of the names that jscope.capture(f, pattern) shows."


def _check_function(argument: str, f: object) -> None:
    if not callable(f):
        fix = "give net.apply, or a function that calls it." if hasattr(f, "apply") else None
        raise bad_argument(argument, f, "a function, such as net.apply", fix)


class _Look:
    """One call of ``capture`` or ``plant``.

    Attributes:
      is_meant: Tells of a name and shapes whether they are asked for.
      planted: Name -> value that takes the place of what is recorded.
      names: What was recorded -> its shapes, without axes of loops.
    """

    def __init__(
        self, is_meant: Callable[[str, PyTree], object], planted: Mapping[str, PyTree]
    ) -> None:
        self.is_meant = is_meant
        self.planted = planted
        self.names: dict[str, PyTree] = {}
        self._numbering = Numbering()

    def name(self, full: str, place: Place, shapes: PyTree) -> str:
        """The name of what is recorded at a place: the same where JAX runs one call again."""
        scope, _, last = full.rpartition("/")
        found = join(scope, self._numbering.unique(scope, last, place))
        self._numbering.node(found).count_opening(place)
        self.names[found] = shapes
        return found


class _Outside:
    """A function that somebody looks into where no pass runs."""

    def __init__(self, seers: Mapping[Seer, Outlet], place: Place) -> None:
        self.guard = TraceGuard(looked_at=True)
        self.calls = Calls(self.run.__code__, self.run.__code__, self.guard)
        self.level = Level(None, Keys(None), place=place, seers=seers)

    def run(self, f: Callable[..., R], args: Args, kwargs: Kwargs) -> R:
        self.calls.frame = sys._getframe()
        try:
            with _pass.outside(self):
                return f(*args, **kwargs)
        finally:
            self.calls.frame = None


def _look(
    seer: _Look, f: Callable[..., R], args: Args, kwargs: Kwargs
) -> tuple[R, dict[str, PyTree]]:
    """Runs a function while a seer looks, and gives what it records for the seer."""
    _pass.find()
    around = _pass.around()
    if isinstance(around, Pass):
        out, recorded = _look_inside(around, seer, f, args, kwargs)
    else:
        seers, place = ({}, ()) if around is None else ways_from(around)
        outside = _Outside({seer: Outlet(), **seers}, place)
        out, recorded = outside.run(f, args, kwargs), outside.level.recorded
    seen: dict[str, PyTree] = collections.OrderedDict()  # JAX would sort a plain dict
    for (who, name), value in recorded.items():
        if who is seer:
            seen[name] = value
        elif around is not None:
            around.level.recorded[who, name] = value
    return out, seen


def _look_inside(
    running: Pass, seer: _Look, f: Callable[..., R], args: Args, kwargs: Kwargs
) -> tuple[R, dict[tuple[Seer, str], PyTree]]:
    """The same for a function of the running pass."""
    if running.recorder is not None:
        running.recorder.refuse("it captures or plants values by their full names")
    guard = running.guard
    running.guard = running.calls.guard = TraceGuard(looked_at=True)
    running.guard.enter()
    try:
        return Lift(running).inline(f, args, kwargs, seer)
    finally:
        running.guard.exit()
        running.guard = running.calls.guard = guard


def _empty(pattern: Pattern) -> EmptySelectionError:
    return EmptySelectionError(
        f"The pattern {show(pattern)} selects nothing: nothing was recorded.",
        {"fix": "call net.apply in the function, of a net with jscope.record or jscope.layers."},
        pattern=as_text(pattern),
        near=(),
    )


def _not_reached(missed: list[str], known: list[str]) -> EmptySelectionError:
    near = list(dict.fromkeys(other for name in missed for other in near_names(name, known)))[:3]
    return EmptySelectionError(
        f"Nothing was recorded as {some_of(missed)}, so nothing could be planted there.",
        {
            "near": quoted(near),
            "names": None if near or not known else some_of(known),
            "fix": "plant under a full name, as jscope.capture(f) shows it.",
        },
        pattern=missed[0],
        near=tuple(near),
    )

"""State: assigning to variables that are not trainable."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jscope import _jaxapi, _pass
from jscope._arguments import as_array, as_bool, bad_argument, bad_static
from jscope._bars import check_assign
from jscope._getter import ask
from jscope._names import check_name, join, not_a_name
from jscope._pass import Pass
from jscope._report import describe, dims, near_names, report_at, some_of, where
from jscope._request import Request
from jscope._reuse import AUTO_REUSE
from jscope._spec import Shape
from jscope.errors import (
    AssignmentError,
    Site,
    StateError,
    TransformError,
    VariableNotFoundError,
)
from jscope.regularizers import no_regularizer


def assign(name: str, value: ArrayLike) -> jax.Array:
    """Gives a variable that is not trainable a new value, for the rest of the pass and after it.

    ``apply`` of ``transform_with_state`` returns it in ``new_state``. It is the value given,
    gradients included: they flow through later reads and the returned state as through any other
    value. A statistic is to be given without them, by ``jax.lax.stop_gradient``;
    ``assign_moving_average`` does so itself. While initializing the value is checked and dropped,
    so that init returns initial values. Inside raw JAX transforms it could not get out: use
    ``jscope.scan``, ``jscope.checkpoint``, ...

    Args:
      name: Relative to the open scope; of a variable made with ``trainable=False``.
      value: Array of the variable's shape and dtype. Python numbers take its dtype.

    Returns:
      The new value, of the variable's shape and dtype.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      VariableNotFoundError: (ValueError) there is no such variable.
      StateError: (ValueError) the variable is trainable, or the pass is of ``jscope.transform``.
      AssignmentError: (ValueError) the shape or dtype is not the variable's.
      TransformError: (ValueError) called inside a raw JAX transform.

    Example:
      >>> import jscope as js
      >>> def remember(x):
      ...     last = js.get_variable("last", initializer=0.0, trainable=False)
      ...     js.assign("last", x)
      ...     return last
      >>> net = js.transform_with_state(remember)
      >>> params, state = net.init(0, 1.0)
      >>> out, state = net.apply(params, state, None, 5.0)
      >>> print(out, state["last"])
      0.0 5.0
    """
    running, full = _named("assign", name)
    return _assign(running, full, _old(running, full), value)


def assign_add(name: str, value: ArrayLike) -> jax.Array:
    """Adds to a variable that is not trainable.

    As ``assign``, with:
      value: What is added; an array of the variable's shape and dtype, or a Python number.

    Example:
      >>> import jscope as js
      >>> def count():
      ...     js.get_variable("calls", initializer=0, trainable=False)
      ...     return js.assign_add("calls", 1)
      >>> net = js.transform_with_state(count)
      >>> print(net.apply(*net.init(0), None)[0])
      1
    """
    return _combine("assign_add", name, value, operator.add)


def assign_sub(name: str, value: ArrayLike) -> jax.Array:
    """Subtracts from a variable that is not trainable.

    As ``assign``, with:
      value: What is subtracted; an array of the variable's shape and dtype, or a Python number.

    Example:
      >>> import jscope as js
      >>> def countdown():
      ...     js.get_variable("left", initializer=3, trainable=False)
      ...     return js.assign_sub("left", 1)
      >>> net = js.transform_with_state(countdown)
      >>> print(net.apply(*net.init(0), None)[0])
      2
    """
    return _combine("assign_sub", name, value, operator.sub)


def assign_moving_average(
    name: str, value: ArrayLike, decay: ArrayLike, zero_debias: bool = False
) -> jax.Array:
    """Moves a variable that is not trainable towards a value, as TF1's function of that name.

    The new value is ``old - (old - value) * (1 - decay)``. With ``zero_debias`` it is what that
    recurrence gives from a start of zero, divided by ``1 - decay ** step`` (Kingma and Ba 2015,
    section 3), so that the variable's own initial value has no influence. The recurrence and its
    steps are kept beside the variable, as ``<name>_biased`` and ``<name>_local_step`` (TF1:
    ``<name>/biased``, but here a variable cannot be a scope).

    What is stored and returned is a statistic, without any gradient.

    As ``assign``, with:
      name: Relative to the open scope; of a variable of floats made with ``trainable=False``.
      decay: Scalar in [0, 1], a Python number or an array; cast to the variable's dtype.
      zero_debias: Whether to correct for the start at zero. TF1's default is True.

    Raises:
      JscopeError: As ``assign``.
      ArgumentError: (ValueError, TypeError) ``decay`` is not a scalar, ``zero_debias`` not a bool.

    Example:
      >>> import jscope as js
      >>> def average(x):
      ...     js.get_variable("mean", initializer=0.0, trainable=False)
      ...     return js.assign_moving_average("mean", x, decay=0.75)
      >>> net = js.transform_with_state(average)
      >>> params, state = net.init(0, 4.0)
      >>> out, state = net.apply(params, state, None, 4.0)
      >>> print(out)
      1.0
    """
    running, full = _named("assign_moving_average", name)
    if as_bool(zero_debias) is None:
        raise bad_static("zero_debias", zero_debias, "True or False")
    old = _old(running, full)
    if not jnp.issubdtype(old.dtype, jnp.inexact):
        raise bad_argument("variable of a moving average", old.dtype, "of floats")
    if np.shape(decay) != () or not isinstance(decay, int | float | np.floating | jax.Array):
        raise bad_argument("decay", decay, "a scalar")
    value = _fitting(running, full, value, old)
    rate = jnp.asarray(1 - decay, old.dtype)
    old, value, rate = jax.lax.stop_gradient((old, value, rate))
    if not zero_debias:
        return _assign(running, full, old, old - (old - value) * rate)
    biased = _beside(running, f"{full}_biased", old.shape, old.dtype)
    step = _beside(running, f"{full}_local_step", (), old.dtype)
    moved = _assign(running, f"{full}_biased", biased, biased - (biased - value) * rate)
    step = _assign(running, f"{full}_local_step", step, step + 1)
    return _assign(running, full, old, moved / (1 - (1 - rate) ** step))


def _combine(
    call: str, name: str, value: Any, change: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    running, full = _named(call, name)
    old = _old(running, full)
    return _assign(running, full, old, change(old, _fitting(running, full, value, old)))


def _named(call: str, name: str) -> tuple[Pass, str]:
    running = _pass.current(call)
    if not isinstance(name, str):
        raise not_a_name(name)
    check_name(name, "variable")
    full = join(running.prefix, name)
    return running, running.records.renamed.get(full, full)  # as get_variable(name) did


def _beside(running: Pass, full: str, shape: Shape, dtype: DTypeLike) -> jax.Array:
    """A variable of zeros that goes with another one, without any gradient."""
    zeros = jax.nn.initializers.zeros
    asked = Request(full, shape, dtype, zeros, no_regularizer, AUTO_REUSE, trainable=False)
    value: jax.Array = jax.lax.stop_gradient(ask(running, asked))
    return value


def _old(running: Pass, full: str) -> jax.Array:
    """The current value of a variable, which may be assigned here."""
    if not running.values.has_state:
        raise _no_state(full, running.here())
    record = running.records.get(full)
    known = running.values.state_names() if record is None else []
    if record is None and full not in known:
        if running.values.find(full) is not None:
            raise _is_trainable(full, first=(), again=running.here())
        known = [*running.records, *known]
        raise _not_there(full, known=known, sites=running.here())
    if record is not None and record.facts.trainable:
        raise _is_trainable(full, first=record.sites, again=running.here())
    check_assign(running, full)
    if running.recorder is not None:
        running.recorder.looked(running.prefix, full)
    found: jax.Array = running.value(full)
    return found


def _is_trainable(name: str, *, first: tuple[Site, ...], again: tuple[Site, ...]) -> StateError:
    return StateError(
        f"Variable {name} is trainable, so it cannot be assigned.",
        {
            "first": f"at {where(first)}" if first else "in the params given to apply",
            "asked": f"at {where(again)}",
            "fix": "make it with get_variable(name, ..., trainable=False); what an optimizer "
            "trains is changed outside, in params.",
        },
        name=name,
        sites=again,
    )


def _no_state(name: str, sites: tuple[Site, ...]) -> StateError:
    return report_at(
        StateError,
        f"Variable {name} cannot be assigned: jscope.transform keeps no state.",
        sites,
        "use jscope.transform_with_state, and make the variable with trainable=False.",
        name=name,
    )


def _not_there(
    name: str, *, known: Iterable[str], sites: tuple[Site, ...]
) -> VariableNotFoundError:
    names = list(dict.fromkeys(known))
    below = [other for other in names if other.startswith(f"{name}/")]
    near = tuple(below or near_names(name, names))
    fix = (
        "it is a scope, as of a custom getter that made several variables for this name: "
        "assign to one of them."
        if below
        else "make it first, get_variable(name, ..., trainable=False), or correct the name; it "
        "is relative to the open scope."
    )
    return report_at(
        VariableNotFoundError,
        f"Variable {name} does not exist, so it cannot be assigned.",
        sites,
        fix,
        name=name,
        near=near,
        shown=some_of(near) if near else None,
    )


def _assign(running: Pass, full: str, old: jax.Array, value: ArrayLike) -> jax.Array:
    new = _fitting(running, full, value, old)
    running.write(full, new)
    return new


def _fitting(running: Pass, full: str, value: ArrayLike, old: jax.Array) -> jax.Array:
    """The value as an array of the old one's shape and dtype; Python numbers take its dtype."""
    if isinstance(value, _jaxapi.Tracer) and not _jaxapi.is_live(value):
        raise _leaked(full, running.here())
    array = as_array(f"value assigned to {full}", value)
    if getattr(array, "weak_type", False) and jnp.issubdtype(old.dtype, _WEAK[array.dtype.kind]):
        array = array.astype(old.dtype)
    record = running.records.get(full)
    check_fits(running, full, array, old, record.sites if record else ())
    return jax.lax.convert_element_type(array, array.dtype)  # no longer weakly typed


def _leaked(name: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"The value assigned to variable {name} is a tracer that leaked from a finished trace.",
        sites,
        "return the value from the transformed function instead of storing it.",
        name=name,
    )


def check_fits(running: Pass, name: str, value: Any, old: Any, first: tuple[Site, ...]) -> None:
    """Raises AssignmentError unless a value has the shape and dtype of a variable's old one."""
    for what in ("shape", "dtype"):
        if getattr(value, what) != getattr(old, what):
            raise _unfit(name, what, value, old, first, running.here())


def _unfit(
    name: str, what: str, value: Any, old: Any, first: tuple[Site, ...], again: tuple[Site, ...]
) -> AssignmentError:
    asked, found = getattr(value, what), getattr(old, what)
    show = dims if what == "shape" else str
    origin = f"at {where(first)}" if first else "in the state given to apply"
    return AssignmentError(
        f"Trying to assign to variable {name}, but the value has {what} {show(asked)} and the "
        f"variable has {what} {show(found)}.",
        {
            "first": f"{describe(old)} {origin}",
            "again": f"at {where(again)}",
            "fix": f"assign a value whose {what} is {show(found)}.",
        },
        name=name,
        what=what,
        asked=asked,
        found=found,
        first=first,
        again=again,
        sites=again,
    )


_WEAK = {"i": jnp.number, "f": jnp.inexact, "c": jnp.complexfloating}
"""Kind of a Python number -> the dtypes that it can take."""

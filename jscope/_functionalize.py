"""functionalize: a function of the pass as a pure one, for transforms of others."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import jax

from jscope import _jaxapi, _pass
from jscope._bars import check_assign, check_put
from jscope._keys import after
from jscope._lift import Lift
from jscope._report import brief, report_at
from jscope._state import check_fits
from jscope.errors import Site, StateError, TransformError

P = ParamSpec("P")
R = TypeVar("R")


class Carry(NamedTuple):
    """State and randomness of a functionalized function: a pytree of arrays.

    Attributes:
      state: Full name -> value of each variable that is not trainable; empty while initializing.
      key: Words of the key that draws are derived from, uint32; None where there is no ``rng``.
    """

    state: dict[str, Any]
    key: jax.Array | None


def functionalize(
    fn: Callable[P, R],
) -> tuple[Callable[Concatenate[Carry, P], tuple[R, Carry]], Carry]:
    """Makes a function of the running pass pure, for transforms that jscope has no twin of.

    State and randomness go in and out by a carry, so the pure function can be used inside
    ``shard_map``, ``custom_vjp``, a solver of another library, or a loop. Trainable variables are
    read as everywhere, and state may be read outside the carry too.

    Each application moves the carry's key on: a loop that threads the carry draws new keys in every
    iteration, and the first application draws those of the plain program. A transform that maps
    over instances needs an own key for each: ``carry._replace(key=keys)`` with ``keys`` of
    ``jax.vmap(jax.random.fold_in, (None, 0))(carry.key, numbers)``, mapped over.

    The carry holds state as it is now: apply the function and put its carry back before anything
    else assigns. In a ``custom_vjp`` give variables as arguments: JAX does not derive by what such
    a function closes over. Its backward rule gets and returns cotangents of the carry too, None
    will do.

    Args:
      fn: A function that may assign state and draw keys.

    Returns:
      ``pure, carry``: ``pure(carry, *args, **kwargs) -> (out, carry)``, and the carry to start
      with, a pytree of arrays. Both are of use in this pass only. ``jscope.put_carry`` writes the
      carry that came out back into the pass.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def count(x):
      ...     js.get_variable("calls", initializer=0.0, trainable=False)
      ...     return x + js.assign_add("calls", 1)
      >>> def fn(x):
      ...     pure, carry = js.functionalize(count)
      ...     out, carry = jax.checkpoint(pure)(carry, x)
      ...     js.put_carry(carry)
      ...     return out
      >>> net = js.transform_with_state(fn)
      >>> params, state = net.init(0, jnp.ones([2]))
      >>> out, state = net.apply(params, state, None, jnp.ones([2]))
      >>> print(out, state["calls"])
      [2. 2.] 1.0
    """
    running = _pass.current("functionalize")
    if running.recorder is not None:
        running.recorder.refuse("it calls functionalize")
    lift = Lift(running, closed="a function of jscope.functionalize")
    running.lifts.append(lift)
    weak = weakref.ref(lift)  # other libraries' caches keep functions, and must not keep the pass

    @functools.wraps(fn)
    def pure(carry: Carry, /, *args: Any, **kwargs: Any) -> tuple[R, Carry]:
        lift = weak()
        if lift is None or lift.running is not _pass.peek():
            raise _other_pass()
        if not isinstance(carry, Carry):
            raise _not_a_carry(carry)
        _pass.current("functionalize")
        key, outer = None, lift.parent.keys.key
        if carry.key is not None and outer is not None:
            key = jax.random.wrap_key_data(carry.key, impl=jax.random.key_impl(outer))
        out, level = lift.call(fn, args, kwargs, values=carry.state, key=key)
        state = {name: level.values[name] for name in carry.state}
        if key is not None and level.keys.counts != lift.counts:
            carry = carry._replace(key=jax.random.key_data(after(key)))
        return out, carry._replace(state=state)

    del pure.__wrapped__  # its signature is not that of fn
    key = lift.parent.keys.key
    return pure, Carry(lift.state(), None if key is None else jax.random.key_data(key))


def _other_pass() -> TransformError:
    return TransformError(
        "A function of jscope.functionalize was called outside the pass that made it: it "
        "belongs to one run of init, apply or specs."
    )


def _not_a_carry(value: object) -> StateError:
    return StateError(
        f"carry must be what jscope.functionalize gave, or what its function returned, got "
        f"{brief(value)} of type {type(value).__name__}.",
        {"fix": "pure, carry = functionalize(fn); out, carry = pure(carry, ...)."},
        name="",
        sites=(),
    )


def put_carry(carry: Carry) -> None:
    """Writes the state of a carry back into the running pass, as ``jscope.assign`` does.

    Only what functionalized functions assigned is written. See ``functionalize``.

    Args:
      carry: What a function of ``functionalize`` returned, out of the transform.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      StateError: (ValueError) ``carry`` is no carry; AssignmentError if a value has another shape
        or dtype than its variable.
      TransformError: (ValueError) called inside a raw JAX transform, or a value leaked from one.

    Example:
      >>> import jscope as js
      >>> def fn():
      ...     pure, carry = js.functionalize(lambda: js.next_rng_key())
      ...     key, carry = pure(carry)
      ...     js.put_carry(carry)
      ...     return key
      >>> js.transform(fn).apply({}, 0).shape
      ()
    """
    running = _pass.current("put_carry")
    if not isinstance(carry, Carry):
        raise _not_a_carry(carry)
    check_put(running)
    for name in {name: None for lift in running.lifts for name in lift.assigned}:
        check_assign(running, name)
        if running.values.initializing or running.level.planning:
            running.write(name, None)
            continue
        value, old = carry.state[name], running.value(name)
        if isinstance(value, _jaxapi.Tracer) and not _jaxapi.is_live(value):
            raise _leaked(name, running.here())
        check_fits(running, name, value, old, ())
        running.write(name, value)


def _leaked(name: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"The carry holds a value of variable {name} that leaked from a finished trace.",
        sites,
        "return the carry from the transformed function, and put what the transform returns.",
        name=name,
    )

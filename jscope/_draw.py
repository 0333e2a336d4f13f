"""Randomness of a pass: next_rng_key, has_rng."""

from __future__ import annotations

import jax

from jscope import _pass
from jscope._bars import check_draw
from jscope._report import report_at
from jscope.errors import RngError, Site


def next_rng_key() -> jax.Array:
    """Draws a key that is this call's own, from the ``rng`` that init or apply was given.

    It follows from ``rng``, the open scope and the number of keys that were drawn in that scope
    before: what other scopes draw changes nothing here. The same code draws the same keys eagerly
    and under ``jax.jit``.

    Works inside raw ``jit``, ``checkpoint``, ``cond``, ``switch``, ``grad``, ``value_and_grad``,
    ``vjp``, ``jvp``, ``linearize`` and ``named_call``. Loops and ``vmap`` would repeat one key: use
    ``jscope.scan``, ``jscope.vmap``, ..., which give each iteration and instance its own.

    Returns:
      A typed key, shape [].

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      RngError: (ValueError) ``rng`` is None.
      TransformError: (ValueError) called inside a raw transform that would repeat the key, or that
        jscope does not know.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def dropout(x, rate):
      ...     keep = jax.random.bernoulli(js.next_rng_key(), 1 - rate, x.shape)
      ...     return jnp.where(keep, x / (1 - rate), 0)
      >>> net = js.transform(dropout)
      >>> net.apply({}, jax.random.key(0), jnp.ones([2, 3]), 0.5).shape
      (2, 3)
    """
    running = _pass.current("next_rng_key")
    if running.level.keys.key is None:
        raise _no_rng(running.here())
    check_draw(running)
    return draw(running)


def draw(running: _pass.Pass) -> jax.Array:
    """The next key of the open scope, where keys may be drawn."""
    keys, scope = running.level.keys, running.prefix
    if running.recorder is not None:
        running.recorder.drew(scope, keys.counts.get(scope, 0))
    return keys.draw(scope)


def _no_rng(sites: tuple[Site, ...]) -> RngError:
    return report_at(
        RngError,
        "next_rng_key was called, but rng is None.",
        sites,
        "pass a key, such as jax.random.key(0), as the rng of init or apply; "
        "jscope.has_rng() tells whether there is one.",
        rng="None",
    )


def has_rng() -> bool:
    """Whether keys can be drawn: init and apply were given an ``rng``; in specs always.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.

    Example:
      >>> import jscope as js
      >>> net = js.transform(js.has_rng)
      >>> net.apply({}, 0), net.apply({}, None)
      (True, False)
    """
    return _pass.current("has_rng").level.keys.key is not None

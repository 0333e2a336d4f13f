"""The losses of regularizers, inside a pass and outside."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jscope import _pass
from jscope._check import specified
from jscope._params import NestedMapping
from jscope._spec import Specs, of_layers


def get_regularization_losses(scope: str | None = None) -> list[jax.Array]:
    """The losses of the variables requested so far in the pass: one for each regularizer.

    As in TF1, each variable counts once, however often it is shared, and a regularizer sees the
    variable itself, not what custom getters made of it. Nothing is computed unless this is called.

    Args:
      scope: Only variables in the scope of this full name; whole components, unlike in TF1.

    Returns:
      Scalars, in the order of creation. For stacked variables the sum over layers.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("a", regularizer=lambda w: jnp.sum(w**2)):
      ...         js.get_variable("w", initializer=3.0)
      ...     return js.get_regularization_losses()
      >>> net = js.transform(fn)
      >>> [loss.item() for loss in net.apply(net.init(0), None)]
      [9.0]
    """
    running = _pass.current("get_regularization_losses")
    losses = []
    for record in running.within(scope):
        regularizer = record.facts.regularizer
        if regularizer is not None:
            axes = len(record.sizes) - len(running.level.sizes)
            losses.append(of_layers(regularizer, running.read(record), axes))
    return [jnp.sum(jnp.asarray(loss)) for loss in losses if loss is not None]


def get_regularization_loss(scope: str | None = None) -> jax.Array:
    """The sum of ``get_regularization_losses(scope)``; 0 where there are none.

    All else as in ``get_regularization_losses``.

    Returns:
      Scalar.

    Example:
      >>> import jscope as js
      >>> js.transform(js.get_regularization_loss).apply({}, None).item()
      0.0
    """
    losses = get_regularization_losses(scope)
    return sum(losses[1:], start=losses[0]) if losses else jnp.zeros(())


def regularization_loss(params: NestedMapping, specs: Specs) -> jax.Array:
    """The sum of the losses of all regularizers, outside a pass.

    Equals ``get_regularization_loss()`` at the end of the function for its trainable variables;
    others have no gradient to give.

    Args:
      params: Nested mapping of arrays.
      specs: Of ``net.specs(...)``; says which variable has which regularizer.

    Returns:
      Scalar; 0 where there are none.

    Raises:
      CheckError: (ValueError) a variable with a regularizer is missing from ``params``.
      ArgumentError: (ValueError, TypeError) ``specs`` are none.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> square = lambda w: jnp.sum(w**2)
      >>> net = js.transform(lambda: js.get_variable("w", initializer=3.0, regularizer=square))
      >>> js.regularization_loss(net.init(0), net.specs()).item()
      9.0
    """
    total = jnp.zeros(())
    for spec, value in specified(params, specs, lambda spec: spec.regularizer is not None):
        assert spec.regularizer is not None
        loss = of_layers(spec.regularizer, value, len(spec.stack))
        total = total if loss is None else total + jnp.sum(jnp.asarray(loss))
    return total

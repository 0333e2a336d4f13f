"""Collections: what a function adds to them, and variables: those in them, and all by name."""

from __future__ import annotations

import jax

from jscope import _jaxapi, _pass
from jscope._arguments import bad_argument, check_flag
from jscope._bars import check_collect
from jscope._losses import get_regularization_losses
from jscope._names import is_in
from jscope._params import PyTree
from jscope._report import report_at
from jscope.errors import Site, TransformError

_VARIABLES = "variables"
_TRAINABLE = "trainable_variables"
_REGULARIZATION = "regularization_losses"


def add_to_collection(key: str, value: PyTree) -> None:
    """Adds a value to a collection of the running pass, for ``get_collection``.

    Losses or end points, say. Inside raw JAX transforms and loops the value could not get out: use
    ``jscope.jit``, ``jscope.checkpoint``, ``jscope.grad``, or return the value.

    Args:
      key: Name of the collection.
      value: A pytree of arrays; inside twins arrays only, elsewhere anything.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      ArgumentError: (ValueError, TypeError) ``key`` is not a string.
      TransformError: (ValueError) called where the value could not get out.

    Example:
      >>> import jscope as js
      >>> def fn(x):
      ...     js.add_to_collection("end_points", 2 * x)
      ...     return js.get_collection("end_points")
      >>> js.transform(fn).apply({}, None, 3)
      [6]
    """
    running = _pass.current("add_to_collection")
    _check_key(key)
    check_collect(running, key)
    running.level.collected.append((key, running.prefix, value))


def get_collection(key: str, scope: str | None = None) -> list[PyTree]:
    """What a collection of the running pass holds, in order; empty if nothing was added.

    Variables are in "variables" and, if they are, in "trainable_variables", as in TF1; or in the
    ``collections`` given to ``get_variable`` in place of "variables". In front of what
    ``add_to_collection`` added come their current values; in "regularization_losses" what
    ``get_regularization_losses`` gives.

    Args:
      key: Name of the collection.
      scope: Only what was added in the scope of this full name; whole components, unlike in TF1.

    Returns:
      A new list.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      ArgumentError: (ValueError, TypeError) ``key`` is not a string.
      TransformError: (ValueError) a value leaked from a finished trace.

    Example:
      >>> import jscope as js
      >>> def fn():
      ...     js.get_variable("a/w", initializer=1.0, collections=["special"])
      ...     js.get_variable("b/w", initializer=2.0)
      ...     return js.get_collection("special"), len(js.get_collection("trainable_variables"))
      >>> net = js.transform(fn)
      >>> special, count = net.apply(net.init(0), None)
      >>> [value.item() for value in special], count
      ([1.0], 2)
    """
    running = _pass.current("get_collection")
    _check_key(key)
    found = []
    for record in running.within(scope):
        facts = record.facts
        if key in (facts.collections or (_VARIABLES,)) or (key == _TRAINABLE and facts.trainable):
            found.append(running.read(record))
    if key == _REGULARIZATION:
        found += get_regularization_losses(scope)
    for other, place, value in running.level.all_collected():
        if other == key and is_in(f"{place}/", scope):
            for leaf in jax.tree.leaves(value):
                if isinstance(leaf, _jaxapi.Tracer) and not _jaxapi.is_live(leaf):
                    raise _leaked(key, running.here())
            found.append(value)
    return found


def named_variables(
    scope: str | None = None, *, trainable: bool | None = None
) -> dict[str, jax.Array]:
    """The variables requested so far in the running pass, by full name, as their values stand.

    TF1's ``tf.trainable_variables(scope)`` with ``v.name``, for code that picks variables by name.
    A value is the variable's own, not what custom getters made of it; of state it is what was
    assigned last; inside ``layer_stack`` it is this layer's. Outside a pass ``jscope.tree.flatten``
    gives the names of params.

    Args:
      scope: Only variables in the scope of this full name; whole components, unlike in TF1.
      trainable: True for those in params only, False for those in state; None for both.

    Returns:
      A new dict, in the order of creation.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      InvalidNameError: (ValueError) ``scope`` cannot be the name of a scope.
      ArgumentError: (ValueError, TypeError) ``scope`` is no string, or ``trainable`` no bool.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def loss(x):
      ...     error = jnp.mean(js.layers.dense(x, 2) ** 2)
      ...     kernels = [v for name, v in js.named_variables().items() if name.endswith("kernel")]
      ...     return error + 0.01 * sum(jnp.sum(kernel**2) for kernel in kernels)
      >>> def names(x):
      ...     loss(x)
      ...     return list(js.named_variables("dense"))
      >>> js.transform(names).apply({"dense": {"kernel": jnp.ones([3, 2]), "bias": jnp.zeros(2)}},
      ...                           None, jnp.ones([1, 3]))
      ['dense/kernel', 'dense/bias']
    """
    running = _pass.current("named_variables")
    if trainable is not None:
        trainable = check_flag("trainable", trainable, "True, False or None")
    return {
        record.name: running.read(record)
        for record in running.within(scope)
        if trainable is None or record.facts.trainable is trainable
    }


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise bad_argument("key of a collection", key, "a string")


def _leaked(key: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"The collection {key!r} holds a tracer that leaked from a finished trace.",
        sites,
        "add values where they are computed, not tracers stored elsewhere.",
        key=key,
    )

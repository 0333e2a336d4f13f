"""Losses of regularizers, constraints and collections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jscope import _jaxapi, _pass
from jscope._effects import check_collect
from jscope._params import Params, PyTree, grow, walk, wrap
from jscope._pass import Pass, Record
from jscope._path import check_name
from jscope._spec import Specs, VariableSpec
from jscope.errors import ArgumentError, CheckError, TransformError

_VARIABLES = "variables"
_TRAINABLE = "trainable_variables"
_REGULARIZATION = "regularization_losses"


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
    for record in _in_scope(running, scope):
        regularizer = record.facts.regularizer
        if regularizer is not None:
            axes = len(record.sizes) - len(running.level.sizes)
            losses.append(_of_layers(regularizer, running.read(record), axes))
    return [jnp.sum(jnp.asarray(loss)) for loss in losses if loss is not None]


def get_regularization_loss(scope: str | None = None) -> jax.Array:
    """The sum of ``get_regularization_losses(scope)``; 0 where there are none.

    Args:
      scope: As of ``get_regularization_losses``.

    Returns:
      Scalar.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.

    Example:
      >>> import jscope as js
      >>> js.transform(js.get_regularization_loss).apply({}, None).item()
      0.0
    """
    losses = get_regularization_losses(scope)
    return sum(losses[1:], start=losses[0]) if losses else jnp.zeros(())


def regularization_loss(params: Mapping[str, Any], specs: Specs) -> jax.Array:
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
    for spec, value in _specified(params, specs, lambda spec: spec.regularizer is not None):
        assert spec.regularizer is not None
        loss = _of_layers(spec.regularizer, value, len(spec.stack))
        total = total if loss is None else total + jnp.sum(jnp.asarray(loss))
    return total


def apply_constraints(params: Mapping[str, Any], specs: Specs) -> Params:
    """Params with each variable's constraint applied, to be called after an optimizer's update.

    Args:
      params: Nested mapping of arrays.
      specs: Of ``net.specs(...)``; says which variable has which constraint.

    Returns:
      Params of the same names; variables without a constraint are the same arrays.

    Raises:
      CheckError: (ValueError) a variable with a constraint is missing from ``params``, or a
        constraint returned another shape or dtype.
      ArgumentError: (ValueError, TypeError) ``specs`` are none.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> clip = lambda w: jnp.maximum(w, 0.0)
      >>> net = js.transform(lambda: js.get_variable("w", initializer=-3.0, constraint=clip))
      >>> js.apply_constraints(net.init(0), net.specs())["w"].item()
      0.0
    """
    changed = {}
    for spec, value in _specified(params, specs, lambda spec: spec.constraint is not None):
        assert spec.constraint is not None
        new = _of_layers(spec.constraint, value, len(spec.stack))
        dtype = getattr(new, "dtype", None)
        if dtype != jnp.result_type(value) or jnp.shape(new) != jnp.shape(value):
            raise CheckError.constraint(spec.name, value, new)
        changed[spec.name] = new
    return wrap(
        grow((path, changed.get("/".join(path), leaf)) for path, leaf in walk(Params(params)))
    )


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
    for record in _in_scope(running, scope):
        facts = record.facts
        if key in (facts.collections or (_VARIABLES,)) or (key == _TRAINABLE and facts.trainable):
            found.append(running.read(record))
    if key == _REGULARIZATION:
        found += get_regularization_losses(scope)
    for other, place, value in running.level.all_collected():
        if other == key and _is_in(place, scope):
            for leaf in jax.tree.leaves(value):
                if isinstance(leaf, _jaxapi.Tracer) and not _jaxapi.is_live(leaf):
                    raise TransformError.leaked_collection(key, running.here())
            found.append(value)
    return found


def _check_key(key: Any) -> None:
    if not isinstance(key, str):
        raise ArgumentError.make("key of a collection", key, "a string")


def _is_in(name: str, scope: str | None) -> bool:
    return not scope or name == scope or name.startswith(f"{scope}/")


def _in_scope(running: Pass, scope: str | None) -> list[Record]:
    if scope is not None:
        if not isinstance(scope, str):
            raise ArgumentError.make("scope", scope, "a full name or None")
        if scope:
            check_name(scope, "scope")
    return [
        record
        for record in running.records.values()
        if _is_in(record.name, scope) and running.is_visible(record.name)
    ]


def _of_layers(fn: Callable[[Any], Any], value: Any, axes: int) -> Any:
    """A regularizer or constraint, of each layer of a stacked variable by itself."""
    for _ in range(axes):  # none if negative: the open level is one layer
        fn = jax.vmap(fn)
    return fn(value)


def _specified(
    params: Mapping[str, Any], specs: Specs, wanted: Callable[[VariableSpec], bool]
) -> list[tuple[VariableSpec, Any]]:
    """The specs asked for, with their values in params."""
    if not isinstance(specs, Specs):
        raise ArgumentError.make("specs", specs, "what net.specs(...) returned")
    flat = {"/".join(path): leaf for path, leaf in walk(Params(params))}
    found = [spec for spec in specs.values() if spec.trainable and wanted(spec)]
    missing = [spec.name for spec in found if spec.name not in flat]
    if missing:
        raise CheckError.make(missing, [], {})
    return [(spec, flat[spec.name]) for spec in found]

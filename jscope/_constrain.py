"""apply_constraints: the constraints of variables, after an update."""

from __future__ import annotations

import jax.numpy as jnp

from jscope._check import specified
from jscope._params import NestedMapping, Params, grow, walk, wrap
from jscope._report import brief
from jscope._spec import Specs, of_layers
from jscope.errors import ConstraintError


def apply_constraints(params: NestedMapping, specs: Specs) -> Params:
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
    for spec, value in specified(params, specs, lambda spec: spec.constraint is not None):
        assert spec.constraint is not None
        new = of_layers(spec.constraint, value, len(spec.stack))
        dtype = getattr(new, "dtype", None)
        if dtype != jnp.result_type(value) or jnp.shape(new) != jnp.shape(value):
            raise _constraint(spec.name, value, new)
        changed[spec.name] = new
    return wrap(
        grow((path, changed.get("/".join(path), leaf)) for path, leaf in walk(Params(params)))
    )


def _constraint(name: str, value: object, found: object) -> ConstraintError:
    return ConstraintError(
        f"The constraint of variable {name} returned {brief(found)} for {brief(value)}.",
        {"fix": "a constraint returns a value of the same shape and dtype."},
        mismatched={name: (brief(value), brief(found))},
    )

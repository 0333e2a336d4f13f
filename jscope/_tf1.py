"""Names of TF1 that a port may still hold after ``import jscope as tf``: what stands for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from jscope import initializers

_INSTEAD = {
    "GraphKeys": "strings, as in jscope.get_collection('trainable_variables')",
    "Session": "the functions of a transform, net.init(rng, ...) and net.apply(params, rng, ...)",
    "Variable": "jscope.get_variable(name, initializer=value)",
    "contrib": "jscope.layers, jscope.regularizers, jscope.arg_scope",
    "get_local_variable": "jscope.get_variable(name, trainable=False)",
    "global_variables": "jscope.named_variables(scope) in a pass, jscope.tree.flatten outside",
    "global_variables_initializer": "net.init(rng, ...)",
    "losses": "jscope.get_regularization_loss(scope) and jscope.get_regularization_losses(scope)",
    "name_scope": "jax.named_scope, which every variable_scope opens too",
    "nn": "jax.nn, and jscope.layers for what has variables",
    "placeholder": "an argument of the function",
    "train": "optax, and jscope.getters.moving_average",
    "trainable_variables": "jscope.named_variables(scope, trainable=True) in a pass, "
    "jscope.tree.flatten(params) outside",
    "variable_creator_scope": "variable_scope(custom_getter=...)",
    "variable_op_scope": "jscope.variable_scope(name, default_name, values)",
    **{f"{name}_initializer": f"jscope.initializers.{name}" for name in initializers.__all__},
}


def missing(name: str, known: Iterable[str]) -> AttributeError:
    """The error for an attribute that jscope has not."""
    text = f"module 'jscope' has no attribute {name!r}"
    near = difflib.get_close_matches(name, known, 1)
    if name in _INSTEAD:
        text += f": here it is {_INSTEAD[name]}"
    elif near:
        text += f". Did you mean: {near[0]!r}?"
    return AttributeError(text, name=name)

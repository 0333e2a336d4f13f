"""jscope: named, scoped, shared and checked variables for plain functions, in JAX.

import jax, jax.numpy as jnp, jscope as js

def net(x):
    with js.variable_scope("dense"):
        kernel = js.get_variable("kernel", [x.shape[-1], 10])
    return x @ kernel

init, apply = js.transform(net)
params = init(jax.random.key(0), jnp.ones([1, 64]))   # {"dense": {"kernel": [64, 10]}}
out = jax.jit(apply)(params, None, jnp.ones([1, 64]))
"""

import typing as _typing

from jscope import constraints, errors, getters, initializers, layers, regularizers, tree
from jscope._arg_scope import add_arg_scope, arg_scope
from jscope._capture import capture, plant
from jscope._check import check
from jscope._collections import add_to_collection, get_collection, named_variables
from jscope._constrain import apply_constraints
from jscope._draw import has_rng, next_rng_key
from jscope._functionalize import functionalize, put_carry
from jscope._hints import watch as _watch
from jscope._losses import get_regularization_loss, get_regularization_losses, regularization_loss
from jscope._params import Params
from jscope._pass import is_initializing
from jscope._reuse import AUTO_REUSE
from jscope._rules import ShardingRules, fsdp, sharding_rules
from jscope._scope import VariableScope, get_variable_scope, variable_scope
from jscope._seeing import record
from jscope._shard_map import shard_map
from jscope._spec import Specs, VariableSpec
from jscope._stack import layer_stack
from jscope._state import assign, assign_add, assign_moving_average, assign_sub
from jscope._template import make_template
from jscope._transform import (
    Transformed,
    TransformedWithState,
    sharded,
    transform,
    transform_with_state,
    without_apply_rng,
)
from jscope._twins import (
    checkpoint,
    cond,
    fori_loop,
    grad,
    jit,
    map,  # noqa: A004 # as in jax.lax
    scan,
    switch,
    value_and_grad,
    vmap,
    while_loop,
)
from jscope._twins import checkpoint as remat
from jscope._variable import get_variable
from jscope.regularizers import no_regularizer

if (
    _typing.TYPE_CHECKING
):  # below they are imported at their first use, which most programs never come to
    from jscope import interop, io
    from jscope._summary import Summary, summary
    from jscope.io import RestoreReport, restore

__version__ = "0.1.0"
__all__ = [
    "AUTO_REUSE",
    "Params",
    "RestoreReport",
    "ShardingRules",
    "Specs",
    "Summary",
    "Transformed",
    "TransformedWithState",
    "VariableScope",
    "VariableSpec",
    "add_arg_scope",
    "add_to_collection",
    "apply_constraints",
    "arg_scope",
    "assign",
    "assign_add",
    "assign_moving_average",
    "assign_sub",
    "capture",
    "check",
    "checkpoint",
    "cond",
    "constraints",
    "errors",
    "fori_loop",
    "fsdp",
    "functionalize",
    "get_collection",
    "get_regularization_loss",
    "get_regularization_losses",
    "get_variable",
    "get_variable_scope",
    "getters",
    "grad",
    "has_rng",
    "initializers",
    "interop",
    "io",
    "is_initializing",
    "jit",
    "layer_stack",
    "layers",
    "make_template",
    "map",
    "named_variables",
    "next_rng_key",
    "no_regularizer",
    "plant",
    "put_carry",
    "record",
    "regularization_loss",
    "regularizers",
    "remat",
    "restore",
    "scan",
    "shard_map",
    "sharded",
    "sharding_rules",
    "summary",
    "switch",
    "transform",
    "transform_with_state",
    "tree",
    "value_and_grad",
    "variable_scope",
    "vmap",
    "while_loop",
    "without_apply_rng",
]

_watch(
    __name__,
    {
        "RestoreReport": "jscope.io",
        "Summary": "jscope._summary",
        "interop": "jscope.interop",
        "io": "jscope.io",
        "restore": "jscope.io",
        "summary": "jscope._summary",
    },
)

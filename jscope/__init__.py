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

from jscope import constraints as constraints
from jscope import errors as errors
from jscope import getters as getters
from jscope import initializers as initializers
from jscope import layers as layers
from jscope import regularizers as regularizers
from jscope import tree as tree
from jscope._arg_scope import add_arg_scope as add_arg_scope
from jscope._arg_scope import arg_scope as arg_scope
from jscope._check import check as check
from jscope._draw import has_rng as has_rng
from jscope._draw import is_initializing as is_initializing
from jscope._draw import next_rng_key as next_rng_key
from jscope._lift import functionalize as functionalize
from jscope._lift import put_carry as put_carry
from jscope._losses import add_to_collection as add_to_collection
from jscope._losses import apply_constraints as apply_constraints
from jscope._losses import get_collection as get_collection
from jscope._losses import get_regularization_loss as get_regularization_loss
from jscope._losses import get_regularization_losses as get_regularization_losses
from jscope._losses import regularization_loss as regularization_loss
from jscope._params import Params as Params
from jscope._reuse import AUTO_REUSE as AUTO_REUSE
from jscope._scope import VariableScope as VariableScope
from jscope._scope import get_variable_scope as get_variable_scope
from jscope._scope import variable_scope as variable_scope
from jscope._spec import Specs as Specs
from jscope._spec import VariableSpec as VariableSpec
from jscope._stack import layer_stack as layer_stack
from jscope._state import assign as assign
from jscope._state import assign_add as assign_add
from jscope._state import assign_moving_average as assign_moving_average
from jscope._state import assign_sub as assign_sub
from jscope._template import make_template as make_template
from jscope._tf1 import missing as _missing
from jscope._transform import Transformed as Transformed
from jscope._transform import TransformedWithState as TransformedWithState
from jscope._transform import transform as transform
from jscope._transform import transform_with_state as transform_with_state
from jscope._transform import without_apply_rng as without_apply_rng
from jscope._twins import checkpoint as checkpoint
from jscope._twins import checkpoint as remat
from jscope._twins import cond as cond
from jscope._twins import fori_loop as fori_loop
from jscope._twins import grad as grad
from jscope._twins import jit as jit
from jscope._twins import map as map  # noqa: A004 # as in jax.lax
from jscope._twins import scan as scan
from jscope._twins import switch as switch
from jscope._twins import value_and_grad as value_and_grad
from jscope._twins import vmap as vmap
from jscope._twins import while_loop as while_loop
from jscope._variable import get_variable as get_variable
from jscope._variable import no_regularizer as no_regularizer

__version__ = "0.1.0"
__all__ = [
    "AUTO_REUSE",
    "Params",
    "Specs",
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
    "check",
    "checkpoint",
    "cond",
    "constraints",
    "errors",
    "fori_loop",
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
    "is_initializing",
    "jit",
    "layer_stack",
    "layers",
    "make_template",
    "map",
    "next_rng_key",
    "no_regularizer",
    "put_carry",
    "regularization_loss",
    "regularizers",
    "remat",
    "scan",
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

if not _typing.TYPE_CHECKING:  # or type checkers would accept every name

    def __getattr__(name: str) -> object:
        raise _missing(name, __all__)

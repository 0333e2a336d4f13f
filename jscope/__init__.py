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

from jscope import errors as errors
from jscope import tree as tree
from jscope._check import check as check
from jscope._params import Params as Params
from jscope._reuse import AUTO_REUSE as AUTO_REUSE
from jscope._scope import VariableScope as VariableScope
from jscope._scope import get_variable_scope as get_variable_scope
from jscope._scope import variable_scope as variable_scope
from jscope._spec import Specs as Specs
from jscope._spec import VariableSpec as VariableSpec
from jscope._template import make_template as make_template
from jscope._transform import Transformed as Transformed
from jscope._transform import transform as transform
from jscope._transform import without_apply_rng as without_apply_rng
from jscope._variable import get_variable as get_variable
from jscope._variable import no_regularizer as no_regularizer

__version__ = "0.1.0"
__all__ = [
    "AUTO_REUSE",
    "Params",
    "Specs",
    "Transformed",
    "VariableScope",
    "VariableSpec",
    "check",
    "errors",
    "get_variable",
    "get_variable_scope",
    "make_template",
    "no_regularizer",
    "transform",
    "tree",
    "variable_scope",
    "without_apply_rng",
]

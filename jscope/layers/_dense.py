"""dense: a kernel along the last axis."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jscope._arg_scope import add_arg_scope
from jscope._arguments import check_size
from jscope._reuse import Reuse
from jscope._sharding import product
from jscope._spec import Constraint, InitializerLike, Regularizer
from jscope.layers._arguments import (
    OF_LAYERS,
    Activation,
    Name,
    check_activation,
    check_array,
    takes_tf1,
)
from jscope.layers._weights import Weight, finish, if_flag, layer_scope, zeros


@add_arg_scope
@takes_tf1(*OF_LAYERS)
def dense(
    inputs: jax.Array,
    units: int,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: InitializerLike = None,
    bias_initializer: InitializerLike = zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    *,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Multiplies by a kernel and adds a bias, as TF1's ``tf.layers.dense``.

    Makes ``kernel`` [features, units] and ``bias`` [units], of the dtype that a scope sets,
    else the inputs'; the layer computes in the inputs' dtype.

    Args:
      inputs: Floats [batch, ..., features].
      units: Size of the last axis of the outputs.
      activation: Function of the outputs; None for none.
      use_bias: Whether to add a bias.
      kernel_initializer: Else the scope's, else glorot_uniform.
      bias_initializer: Zeros unless given.
      kernel_regularizer: Function of the kernel, kept in its spec; else the scope's.
      bias_regularizer: Function of the bias, kept in its spec; else the scope's.
      kernel_constraint: Function of the kernel, kept in its spec; else the scope's.
      bias_constraint: Function of the bias, kept in its spec; else the scope's.
      trainable: Whether the variables live in params; if not, in state.
      name: Name of the scope, or a scope; else "dense", "dense_1", ...
      reuse: As of ``variable_scope``; without a name it shares with "dense", as in TF1.

    Returns:
      Floats [batch, ..., units].

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      JscopeError: As ``get_variable`` and ``variable_scope``.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def mlp(x):
      ...     return js.layers.dense(js.layers.dense(x, 8, jax.nn.relu), 2)
      >>> net = js.transform(mlp)
      >>> params = net.init(0, jnp.ones([1, 4]))
      >>> js.tree.flatten(params)["dense_1/kernel"].shape
      (8, 2)
    """
    inputs = check_array("inputs", inputs, "[batch, ..., features]", lambda ndim: ndim >= 2)
    units = check_size("units", units)
    check_activation(activation)
    kernel = Weight(kernel_initializer, kernel_regularizer, kernel_constraint, trainable)
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    with layer_scope(name, "dense", reuse):
        used = kernel.use("kernel", [inputs.shape[-1], units], inputs.dtype)
        outputs = jnp.dot(inputs, used, out_sharding=product(inputs, used, 1))
        return finish(outputs, if_flag("use_bias", use_bias, bias), activation)

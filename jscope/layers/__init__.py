"""Layers with the arguments, names and variables of TF1's ``tf.layers``, as plain functions.

import jax, jax.numpy as jnp, jscope as js

def net(images, training):                                             # [batch, 28, 28, 1]
    x = js.layers.conv2d(images, 32, 5, activation=jax.nn.relu)        # conv2d/kernel, conv2d/bias
    x = js.layers.max_pooling2d(x, 2, 2)
    x = js.layers.dense(js.layers.flatten(x), 128, jax.nn.relu)        # dense/kernel, dense/bias
    x = js.layers.dropout(x, 0.4, training=training)
    return js.layers.dense(x, 10)                                      # dense_1/kernel, ...

Each layer opens a scope: its ``name``, else its default name, numbered. Layers compute in the dtype
of their inputs. Their variables have that dtype too, unless a scope sets another one of floats:
``variable_scope("net", dtype=jnp.float32)`` keeps float32 for inputs of bfloat16. ``arg_scope``
gives any of them default arguments. Each records its result as ``output`` in its scope, for
``jscope.capture``. Arguments of TF1's that ask for nothing, such as
``activity_regularizer=None``, are taken although ``help`` does not show them.

On a mesh, variables and inputs may be divided as one likes. Outputs keep the inputs' division of
the batch, and have that of the kernel's columns along the features, where mesh axes are left for
it. State keeps the layout of its variable. Recurrent cells divide their state like the batch alone.
Convolutions divide images and kernels by batch and channels, never in space: XLA gets it wrong.
"""

from jscope._hints import watch as _watch
from jscope.layers._attention import multi_head_attention
from jscope.layers._conv import conv1d, conv2d, conv3d
from jscope.layers._conv_transpose import conv1d_transpose, conv2d_transpose, conv3d_transpose
from jscope.layers._dense import dense
from jscope.layers._dropout import dropout
from jscope.layers._embedding import embedding, embedding_lookup
from jscope.layers._flatten import flatten
from jscope.layers._group_norm import group_norm, instance_norm, rms_norm
from jscope.layers._norm import batch_normalization, layer_norm
from jscope.layers._pool import (
    average_pooling1d,
    average_pooling2d,
    average_pooling3d,
    max_pooling1d,
    max_pooling2d,
    max_pooling3d,
)
from jscope.layers._recurrent import LSTMStateTuple, dynamic_rnn, gru, lstm
from jscope.layers._separable_conv import depthwise_conv2d, separable_conv1d, separable_conv2d

__all__ = [
    "LSTMStateTuple",
    "average_pooling1d",
    "average_pooling2d",
    "average_pooling3d",
    "batch_normalization",
    "conv1d",
    "conv1d_transpose",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "conv3d_transpose",
    "dense",
    "depthwise_conv2d",
    "dropout",
    "dynamic_rnn",
    "embedding",
    "embedding_lookup",
    "flatten",
    "group_norm",
    "gru",
    "instance_norm",
    "layer_norm",
    "lstm",
    "max_pooling1d",
    "max_pooling2d",
    "max_pooling3d",
    "multi_head_attention",
    "rms_norm",
    "separable_conv1d",
    "separable_conv2d",
]

_watch(__name__)

"""Layers with the arguments, names and variables of TF1's ``tf.layers``, as plain functions.

import jax, jax.numpy as jnp, jscope as js

def net(images, training):                                             # [batch, 28, 28, 1]
    x = js.layers.conv2d(images, 32, 5, activation=jax.nn.relu)        # conv2d/kernel, conv2d/bias
    x = js.layers.max_pooling2d(x, 2, 2)
    x = js.layers.dense(js.layers.flatten(x), 128, jax.nn.relu)        # dense/kernel, dense/bias
    x = js.layers.dropout(x, 0.4, training=training)
    return js.layers.dense(x, 10)                                      # dense_1/kernel, ...

Each layer opens a scope: its ``name``, else its default name, numbered. Variables take the inputs'
dtype. ``arg_scope`` gives any of them default arguments.
"""

from jscope._conv import conv1d as conv1d
from jscope._conv import conv2d as conv2d
from jscope._conv import conv2d_transpose as conv2d_transpose
from jscope._conv import conv3d as conv3d
from jscope._conv import separable_conv2d as separable_conv2d
from jscope._dense import dense as dense
from jscope._dense import dropout as dropout
from jscope._dense import embedding as embedding
from jscope._dense import embedding_lookup as embedding_lookup
from jscope._dense import flatten as flatten
from jscope._norm import batch_normalization as batch_normalization
from jscope._norm import layer_norm as layer_norm
from jscope._pool import average_pooling1d as average_pooling1d
from jscope._pool import average_pooling2d as average_pooling2d
from jscope._pool import average_pooling3d as average_pooling3d
from jscope._pool import max_pooling1d as max_pooling1d
from jscope._pool import max_pooling2d as max_pooling2d
from jscope._pool import max_pooling3d as max_pooling3d
from jscope._recurrent import LSTMStateTuple as LSTMStateTuple
from jscope._recurrent import dynamic_rnn as dynamic_rnn
from jscope._recurrent import gru as gru
from jscope._recurrent import lstm as lstm

__all__ = [
    "LSTMStateTuple",
    "average_pooling1d",
    "average_pooling2d",
    "average_pooling3d",
    "batch_normalization",
    "conv1d",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "dense",
    "dropout",
    "dynamic_rnn",
    "embedding",
    "embedding_lookup",
    "flatten",
    "gru",
    "layer_norm",
    "lstm",
    "max_pooling1d",
    "max_pooling2d",
    "max_pooling3d",
    "separable_conv2d",
]

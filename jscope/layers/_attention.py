"""Attention: multi_head_attention."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jscope import _pass
from jscope._arg_scope import add_arg_scope
from jscope._arguments import bad_argument, check_flag, check_size
from jscope._names import join
from jscope._reuse import Reuse
from jscope._seeing import planted_or_none, record
from jscope._sharding import layout, like, product, relaid, whole
from jscope._spec import Constraint, InitializerLike, Regularizer
from jscope._state import assign_full
from jscope.layers._arguments import Name, check_array, check_training, takes_tf1
from jscope.layers._dropout import check_rate, dropout
from jscope.layers._weights import Weight, if_flag, layer_scope, zeros
from jscope.regularizers import no_regularizer


@add_arg_scope
@takes_tf1()
def multi_head_attention(
    queries: jax.Array,
    keys: jax.Array | None = None,
    values: jax.Array | None = None,
    *,
    num_heads: int,
    head_size: int | None = None,
    mask: jax.Array | None = None,
    is_causal: bool = False,
    dropout_rate: float | jax.Array = 0.0,
    training: bool = False,
    cache_size: int | None = None,
    use_bias: bool = True,
    kernel_initializer: InitializerLike = None,
    bias_initializer: InitializerLike = zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: Name = None,
    reuse: Reuse | None = None,
) -> jax.Array:
    """Attends with several heads (Vaswani et al. 2017), by ``jax.nn.dot_product_attention``.

    Makes ``query/kernel``, ``key/kernel`` and ``value/kernel`` [features, heads, size],
    ``output/kernel`` [heads, size, features], ``query/bias``, ``key/bias`` and ``value/bias``
    [heads, size], and ``output/bias`` [features]. They have the dtype that a scope sets, else the
    queries', in which the layer computes.

    With ``cache_size`` it decodes: each call appends its keys and values to those of earlier calls,
    in the state ``cached_key`` and ``cached_value`` [batch, cache_size, heads, size], and the
    queries attend to all that were given so far; ``cache_index`` counts them. The function needs
    ``transform_with_state``, and a loop that is jscope's, as ``js.scan``. The variables are those
    of training without a cache, so its params fit. State as ``init`` gives it is an empty cache,
    for the batch that ``init`` was given.

    Records ``weights`` [batch, heads, time, other time], how much each query attends to each key
    before dropout, which are computed for that only where somebody looks at them, and ``heads``
    [batch, time, heads, size], what each head gives.

    Queries that are divided in time over Explicit axes of a mesh stay so: each device has the keys
    and values of all times for them.

    Args:
      queries: Floats [batch, time, features].
      keys: Floats [batch, other time, any features]; else the queries.
      values: Floats [batch, other time, any features]; else the keys.
      num_heads: Number of heads.
      head_size: Size of a head; else the queries' features divided by ``num_heads``.
      mask: Bools, True where a query may attend to a key: [time, other time], [batch, time, other
        time] or [batch, heads, time, other time], with 1 where an axis shares them; with a cache
        the other time is ``cache_size``. A query that may attend to nothing gets the mean value.
      is_causal: Whether a query attends to no key after its own position.
      dropout_rate: Fraction of the attention to drop while training, as of ``dropout``.
      training: Whether to drop anything; a Python bool.
      cache_size: How many positions a cache holds, for self-attention; None for no cache. From
        calls that go beyond it the outputs are NaN.
      use_bias: Whether to add biases.
      kernel_initializer: Else the scope's, else glorot_uniform of the matrix [features,
        heads * size], or [heads * size, features].
      bias_initializer: Zeros unless given.
      kernel_regularizer: Function of each kernel, kept in its spec; else the scope's.
      bias_regularizer: Function of each bias, kept in its spec; else the scope's.
      kernel_constraint: Function of each kernel, kept in its spec; else the scope's.
      bias_constraint: Function of each bias, kept in its spec; else the scope's.
      trainable: Whether the variables live in params; if not, in state.
      name: Name of the scope, or a scope; else the function's, numbered: "multi_head_attention",
        "multi_head_attention_1", ...
      reuse: As of ``variable_scope``; without a name it shares with the first layer of that kind.

    Returns:
      Floats [batch, time, features], of the queries' features and dtype.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.
      RngError: (ValueError) there is attention to drop and ``rng`` is None.
      StateError: (ValueError) a cache in a pass of ``jscope.transform``.
      TransformError: (ValueError) a cache or dropout inside a raw JAX transform.
      JscopeError: As ``get_variable`` and ``variable_scope``.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def attend(x, cache_size=None):
      ...     attention = js.layers.multi_head_attention
      ...     return attention(x, num_heads=2, is_causal=True, cache_size=cache_size)
      >>> x = jax.random.normal(jax.random.key(0), [1, 5, 8])
      >>> net = js.transform(attend)
      >>> params = net.init(0, x)
      >>> params["multi_head_attention"]["query"]
      Params({'kernel': float32[8,2,4], 'bias': float32[2,4]})

      Position by position, with the params of the network above:

      >>> def decode(x):
      ...     def step(carry, position):
      ...         return carry, attend(position[:, None], cache_size=5)[:, 0]
      ...     return js.scan(step, None, x.swapaxes(0, 1))[1].swapaxes(0, 1)
      >>> decoder = js.transform_with_state(decode)
      >>> _, state = decoder.init(0, x)
      >>> out, state = decoder.apply(params, state, None, x)
      >>> bool(jnp.allclose(out, net.apply(params, None, x), atol=1e-5))
      True
    """
    training = check_training(training)
    drops = check_rate("dropout_rate", dropout_rate)
    causal = check_flag("is_causal", is_causal)
    queries, keys, values = _check_inputs(queries, keys, values, cached=cache_size is not None)
    features = queries.shape[-1]
    num_heads = check_size("num_heads", num_heads)
    if head_size is None:
        if features % num_heads:
            wanted = f"a divisor of the {features} features where there is no head_size"
            raise bad_argument("num_heads", num_heads, wanted)
        head_size = features // num_heads
    heads = num_heads, check_size("head_size", head_size)
    if cache_size is not None:
        cache_size = check_size("cache_size", cache_size, queries.shape[1])
    shape = (queries.shape[0], num_heads, queries.shape[1], cache_size or keys.shape[1])
    allowed = None if mask is None else _check_mask(mask, shape)
    kernel = Weight(kernel_initializer, kernel_regularizer, kernel_constraint, trainable)
    bias = Weight(bias_initializer, bias_regularizer, bias_constraint, trainable)
    with layer_scope(name, "multi_head_attention", reuse):
        project = _Projection(kernel, if_flag("use_bias", use_bias, bias))
        q, k, v = (
            project(word, x, (x.shape[-1], *heads), 1)
            for word, x in (("query", queries), ("key", keys), ("value", values))
        )
        q = whole(q, 3)  # is summed over, and JAX does not say how that is laid out
        batch, _, split_heads, _ = layout(q)
        k, v = (relaid(x, (batch, None, split_heads, None), q) for x in (k, v))
        fits = None
        if cache_size is not None:
            k, v, seen, fits = _append(k, v, cache_size, causal=causal)
            allowed, causal = seen if allowed is None else seen & allowed, False
        if allowed is not None:
            allowed = _as_weights(allowed, q)
        if training and drops:
            weights = record("weights", _weights(q, k, allowed, causal=causal))
            attended = _mean(dropout(weights, dropout_rate, training=True), v)
        else:
            attended = _attend(q, k, v, allowed, causal=causal)
        attended = record("heads", attended)
        outputs = project("output", attended, (*heads, features), 2)
        if fits is not None:
            outputs = jnp.where(fits, outputs, jnp.full_like(outputs, jnp.nan))
        return record("output", outputs)


class _Projection(NamedTuple):
    """The kernels and biases between features and heads."""

    kernel: Weight
    bias: Weight | None

    def __call__(
        self, name: str, inputs: jax.Array, shape: tuple[int, ...], contracted: int
    ) -> jax.Array:
        """The inputs' last axes times a kernel, plus a bias, in a scope of their own."""
        with layer_scope(name, name):
            return self._project(inputs, shape, contracted)

    def _project(self, inputs: jax.Array, shape: tuple[int, ...], contracted: int) -> jax.Array:
        weight = self.kernel
        if (
            weight.initializer is None
            and _pass.current("multi_head_attention").settings.initializer is None
        ):
            axes = [range(contracted), range(contracted, len(shape))]
            glorot = jax.nn.initializers.glorot_uniform(*map(tuple, axes))
            weight = weight._replace(initializer=glorot)
        kernel = weight.use("kernel", shape, inputs.dtype)
        laid = product(inputs, kernel, contracted)
        outputs = jnp.tensordot(inputs, kernel, contracted, out_sharding=laid)
        if self.bias is None:
            return outputs
        bias = self.bias.use("bias", shape[contracted:], inputs.dtype)
        return outputs + like(bias[None, None], outputs)


def _append(
    k: jax.Array, v: jax.Array, size: int, *, causal: bool
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Keys and values, all that were given so far; which of them queries see; whether they fit."""
    state = Weight(zeros, no_regularizer, trainable=False)
    prefix = _pass.current("multi_head_attention").prefix
    index = state.make("cache_index", [], jnp.int32)
    end = index + k.shape[1]
    filled = []
    for name, new in (("cached_key", k), ("cached_value", v)):
        # Kept in the dtype of the computation: it is no weight.
        cache = state.make(name, (new.shape[0], size, *new.shape[2:]), new.dtype)
        own = layout(cache)  # which the state keeps, as a loop asks
        cache = relaid(cache.astype(new.dtype), layout(new), new)
        start = (0, index, 0, 0)
        filled.append(jax.lax.dynamic_update_slice(cache, new, start))
        assign_full(join(prefix, name), relaid(filled[-1], own))
    assign_full(join(prefix, "cache_index"), end)
    last = index + jnp.arange(k.shape[1]) if causal else jnp.full([k.shape[1]], end - 1)
    seen = jnp.arange(size)[None] <= last[:, None]
    return filled[0], filled[1], seen[None, None], end <= size


def _attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, *, causal: bool
) -> jax.Array:
    """Attention by JAX's own function, which has no weights to show; they may be planted."""
    weights = planted_or_none("weights", lambda: _weights(q, k, mask, causal=causal))
    if weights is not None:
        return _mean(_as_weights(weights, q), v)
    with jax.numpy_dtype_promotion("standard"):  # which JAX's own function relies on
        return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal)


def _as_weights(array: jax.Array, q: jax.Array) -> jax.Array:
    """An array [batch, heads, time, other time], or with 1 there, divided as the weights are."""
    batch, time, heads, _ = layout(q)
    pairs = zip(array.shape, (batch, heads, time, None), strict=True)
    return relaid(array, tuple(axis if size > 1 else None for size, axis in pairs), q)


def _mean(weights: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.einsum("bhqk,bkhs->bqhs", weights, v)


def _weights(q: jax.Array, k: jax.Array, mask: jax.Array | None, *, causal: bool) -> jax.Array:
    """How much each query attends to each key [batch, heads, time, other time]."""
    wide = jnp.float32 if q.dtype.itemsize < 4 else q.dtype
    logits = jnp.einsum("bqhs,bkhs->bhqk", q, k, preferred_element_type=wide)
    logits = logits / math.sqrt(q.shape[-1])
    least = jnp.full_like(logits, -2e38)  # finite, so that a row of these has a mean
    if causal:
        logits = jnp.where(jnp.tri(q.shape[1], k.shape[1], dtype=bool)[None, None], logits, least)
    if mask is not None:
        logits = jnp.where(mask, logits, least)
    return jax.nn.softmax(logits).astype(q.dtype)


def _check_inputs(
    queries: object, keys: object, values: object, *, cached: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    axes = "[batch, time, features]"
    q = check_array("queries", queries, axes, lambda ndim: ndim == 3)
    if keys is None and values is not None:
        raise bad_argument("values", values, "left out where there are no keys")
    if keys is not None and cached:
        raise bad_argument("keys", keys, "left out where there is a cache, of self-attention")
    k = q if keys is None else check_array("keys", keys, axes, lambda ndim: ndim == 3)
    v = k if values is None else check_array("values", values, axes, lambda ndim: ndim == 3)
    if k.shape[0] != q.shape[0]:
        raise bad_argument("keys", k, f"of the queries' batch, {q.shape[0]}")
    if v.shape[:2] != k.shape[:2]:
        raise bad_argument("values", v, f"of the keys' batch and time, {list(k.shape[:2])}")
    return q, k.astype(q.dtype), v.astype(q.dtype)


def _check_mask(mask: object, shape: tuple[int, ...]) -> jax.Array:
    """The mask with all of [batch, heads, time, other time], each of 1 or the size."""
    found = check_array("mask", mask, "of 2 to 4 axes", lambda ndim: 2 <= ndim <= 4, jnp.bool_)
    if found.ndim == 2:
        found = found[None]
    if found.ndim == 3:
        found = found[:, None]
    if all(own in (1, size) for own, size in zip(found.shape, shape, strict=True)):
        return found
    batch, heads, time, other = shape
    wanted = f"bools {[time, other]}, {[batch, time, other]} or {[batch, heads, time, other]}"
    raise bad_argument("mask", mask, f"{wanted}, or 1 in place of a size")

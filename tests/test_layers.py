"""Layers: TF1's names, numbers, shapes and values, as plain functions."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import errors, layers


def numbers(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def shapes(fn: Callable[..., Any], *args: Any) -> dict[str, tuple[int, ...]]:
    """Full name -> shape, in order of creation."""
    return {name: spec.shape for name, spec in js.transform_with_state(fn).specs(*args).items()}


def run(fn: Callable[..., Any], *args: Any, rng: Any = None) -> Any:
    """What a function gives with its initial values."""
    net = js.transform_with_state(fn)
    return jax.jit(lambda params, state: net.apply(params, state, rng, *args)[0])(
        *net.init(0, *args)
    )


# What TF1 names them


ARGUMENTS = {
    "dense": "inputs units activation use_bias kernel_initializer bias_initializer "
    "kernel_regularizer bias_regularizer * kernel_constraint bias_constraint trainable name reuse",
    **{
        f"conv{rank}d": "inputs filters kernel_size strides padding data_format dilation_rate "
        "activation use_bias kernel_initializer bias_initializer kernel_regularizer "
        "bias_regularizer * kernel_constraint bias_constraint trainable name reuse"
        for rank in (1, 2, 3)
    },
    **{
        f"conv{rank}d_transpose": "inputs filters kernel_size strides padding data_format "
        "activation use_bias kernel_initializer bias_initializer kernel_regularizer "
        "bias_regularizer * kernel_constraint bias_constraint trainable name reuse"
        for rank in (1, 2, 3)
    },
    **{
        f"separable_conv{rank}d": "inputs filters kernel_size strides padding data_format "
        "dilation_rate depth_multiplier activation use_bias depthwise_initializer "
        "pointwise_initializer bias_initializer depthwise_regularizer pointwise_regularizer "
        "bias_regularizer * depthwise_constraint pointwise_constraint bias_constraint trainable "
        "name reuse"
        for rank in (1, 2)
    },
    "depthwise_conv2d": "inputs kernel_size depth_multiplier strides padding data_format "
    "dilation_rate activation use_bias depthwise_initializer bias_initializer "
    "depthwise_regularizer bias_regularizer * depthwise_constraint bias_constraint trainable name "
    "reuse",
    "multi_head_attention": "queries keys values * num_heads head_size mask is_causal dropout_rate "
    "training cache_size use_bias kernel_initializer bias_initializer kernel_regularizer "
    "bias_regularizer kernel_constraint bias_constraint trainable name reuse",
    "group_norm": "inputs groups axis epsilon center scale beta_initializer gamma_initializer "
    "beta_regularizer gamma_regularizer beta_constraint gamma_constraint trainable name reuse",
    "instance_norm": "inputs axis epsilon center scale beta_initializer gamma_initializer "
    "beta_regularizer gamma_regularizer beta_constraint gamma_constraint trainable name reuse",
    "rms_norm": "inputs epsilon scale gamma_initializer gamma_regularizer gamma_constraint "
    "trainable name reuse",
    **{
        f"{kind}_pooling{rank}d": "inputs pool_size strides padding data_format name"
        for kind in ("max", "average")
        for rank in (1, 2, 3)
    },
    "batch_normalization": "inputs axis momentum epsilon center scale beta_initializer "
    "gamma_initializer moving_mean_initializer moving_variance_initializer beta_regularizer "
    "gamma_regularizer beta_constraint gamma_constraint training trainable name reuse * fused",
    "layer_norm": "inputs center scale activation_fn reuse * trainable begin_norm_axis "
    "begin_params_axis scope name epsilon",
    "dropout": "inputs rate noise_shape seed training name",
    "flatten": "inputs name data_format",
    "embedding_lookup": "params ids",
    "embedding": "ids vocabulary units initializer regularizer * constraint trainable dtype name "
    "reuse",
    "lstm": "units forget_bias * activation initializer name reuse",
    "gru": "units activation reuse kernel_initializer bias_initializer name",
    "dynamic_rnn": "cell inputs sequence_length initial_state dtype * time_major scope",
    "LSTMStateTuple": "c h",
}


@pytest.mark.parametrize("name", layers.__all__)
def test_the_arguments_have_the_names_and_order_of_tf1(name: str) -> None:
    words = []
    for argument in inspect.signature(getattr(layers, name)).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY and "*" not in words:
            words.append("*")  # from where TF1 has an argument that is left out
        words.append(argument.name)
    assert " ".join(words) == ARGUMENTS[name]


def test_an_embedding_has_the_name_of_keras() -> None:
    found = shapes(lambda ids: layers.embedding(ids, 100, 8), jnp.arange(6))
    assert found == {"embedding/embeddings": (100, 8)}


# Scopes


def test_layers_without_a_name_are_numbered_in_their_scope_by_kind() -> None:
    def fn(x: jax.Array) -> None:
        layers.dense(layers.dense(layers.layer_norm(x), 3), 3)
        with js.variable_scope("net"):
            layers.dense(layers.layer_norm(layers.layer_norm(x)), 3)

    assert list(shapes(fn, jnp.ones([1, 2]))) == [
        "LayerNorm/beta",
        "LayerNorm/gamma",
        "dense/kernel",
        "dense/bias",
        "dense_1/kernel",
        "dense_1/bias",
        "net/LayerNorm/beta",
        "net/LayerNorm/gamma",
        "net/LayerNorm_1/beta",
        "net/LayerNorm_1/gamma",
        "net/dense/kernel",
        "net/dense/bias",
    ]


def test_a_name_is_a_path_or_a_scope() -> None:
    def fn(x: jax.Array) -> None:
        layers.dense(x, 3, name="head/out", use_bias=False)
        with js.variable_scope("tail") as tail:
            pass
        layers.dense(x, 3, name=tail, use_bias=False)

    assert list(shapes(fn, jnp.ones([1, 2]))) == ["head/out/kernel", "tail/kernel"]


def test_a_name_twice_is_refused_and_shared_with_reuse() -> None:
    def fn(x: jax.Array, reuse: Any) -> jax.Array:
        first = layers.dense(x, 3, name="out", use_bias=False)
        return layers.dense(x, 3, name="out", use_bias=False, reuse=reuse) - first

    x = jnp.ones([1, 2])
    for reuse in (True, js.AUTO_REUSE):
        assert list(shapes(fn, x, reuse)) == ["out/kernel"]
        chex.assert_trees_all_equal(run(fn, x, reuse), jnp.zeros([1, 3]))
    for reuse in (False, None):
        with pytest.raises(
            errors.VariableExistsError, match=r"^Variable out/kernel already exists, disallowed\."
        ):
            shapes(fn, x, reuse)


def test_reuse_without_a_name_shares_with_the_first_layer_as_in_tf1() -> None:
    def fn(x: jax.Array) -> None:
        layers.dense(x, 3)
        layers.dense(x, 3)
        layers.dense(x, 3, reuse=True)
        layers.dense(x, 3, reuse=js.AUTO_REUSE)

    assert list(js.tree.flatten(js.transform(fn).init(0, jnp.ones([1, 2])))) == [
        "dense/kernel",
        "dense/bias",
        "dense_1/kernel",
        "dense_1/bias",
    ]
    with pytest.raises(
        errors.VariableNotFoundError, match=r"^Variable dense/kernel does not exist"
    ):
        shapes(lambda x: layers.dense(x, 3, reuse=True), jnp.ones([1, 2]))


def test_towers_share_their_unnamed_layers_by_the_reuse_of_a_scope() -> None:
    def tower(x: jax.Array) -> jax.Array:
        x = layers.conv1d(layers.batch_normalization(x), 4, 3)
        return layers.dynamic_rnn(layers.lstm(4), layers.dense(x, 3))[0]

    def towers(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        with js.variable_scope("tower"):
            first = tower(x)
        with js.variable_scope("tower", reuse=True):
            return first, tower(x)

    def alone(x: jax.Array) -> jax.Array:
        with js.variable_scope("tower"):
            return tower(x)

    x = numbers(2, 8, 3)
    assert shapes(towers, x) == shapes(alone, x)
    chex.assert_trees_all_equal(*run(towers, x))


def test_the_scope_gives_kernels_their_initializer_and_biases_keep_theirs() -> None:
    def fn(x: jax.Array) -> None:
        with js.variable_scope("net", initializer=jax.nn.initializers.constant(7)):
            layers.dense(x, 3)
            layers.dense(x, 3, kernel_initializer=jax.nn.initializers.ones)

    params = js.transform(fn).init(0, jnp.ones([1, 2]))["net"]
    chex.assert_trees_all_equal(params["dense"]["kernel"], jnp.full([2, 3], 7.0))
    chex.assert_trees_all_equal(params["dense"]["bias"], jnp.zeros([3]))
    chex.assert_trees_all_equal(params["dense_1"]["kernel"], jnp.ones([2, 3]))


def test_regularizers_constraints_and_trainable_reach_the_variables() -> None:
    square, clip = jnp.square, jnp.abs

    def fn(x: jax.Array) -> None:
        layers.conv2d(x, 3, 1, kernel_regularizer=square, bias_constraint=clip)
        layers.separable_conv2d(x, 3, 1, depthwise_constraint=clip, pointwise_regularizer=square)
        layers.conv2d_transpose(x, 3, 1, bias_regularizer=square, kernel_constraint=clip)
        layers.batch_normalization(x, beta_regularizer=square, gamma_constraint=clip)
        layers.embedding(jnp.arange(3), 3, 3, regularizer=square, constraint=clip)

    specs = js.transform_with_state(fn).specs(jnp.ones([1, 4, 4, 2]))
    assert {name for name, spec in specs.items() if spec.regularizer is square} == {
        "conv2d/kernel",
        "separable_conv2d/pointwise_kernel",
        "conv2d_transpose/bias",
        "batch_normalization/beta",
        "embedding/embeddings",
    }
    assert {name for name, spec in specs.items() if spec.constraint is clip} == {
        "conv2d/bias",
        "separable_conv2d/depthwise_kernel",
        "conv2d_transpose/kernel",
        "batch_normalization/gamma",
        "embedding/embeddings",
    }


FROZEN: dict[str, Callable[[jax.Array], Any]] = {
    "dense": lambda x: layers.dense(x, 3, trainable=False),
    "conv2d": lambda x: layers.conv2d(x, 3, 1, trainable=False),
    "conv2d_transpose": lambda x: layers.conv2d_transpose(x, 3, 1, trainable=False),
    "separable_conv2d": lambda x: layers.separable_conv2d(x, 3, 1, trainable=False),
    "batch_normalization": lambda x: layers.batch_normalization(x, trainable=False),
    "layer_norm": lambda x: layers.layer_norm(x, trainable=False, begin_norm_axis=1),
    "embedding": lambda x: layers.embedding(x.astype(int), 3, 3, trainable=False),
    "depthwise_conv2d": lambda x: layers.depthwise_conv2d(x, 3, trainable=False),
    "group_norm": lambda x: layers.group_norm(x, 2, trainable=False),
    "instance_norm": lambda x: layers.instance_norm(x, trainable=False),
    "rms_norm": lambda x: layers.rms_norm(x, trainable=False),
    "multi_head_attention": lambda x: layers.multi_head_attention(
        x[0], num_heads=2, trainable=False
    ),
}


@pytest.mark.parametrize("name", FROZEN)
def test_variables_that_are_not_trainable_are_state(name: str) -> None:
    x = jnp.ones([1, 4, 4, 2])
    params, state = js.transform_with_state(FROZEN[name]).init(0, x)
    assert params == {}
    assert list(state) == [name if name != "layer_norm" else "LayerNorm"]
    with pytest.raises(
        errors.StateError, match=r"is not trainable, and jscope\.transform keeps only"
    ):
        js.transform(FROZEN[name]).init(0, x)


DTYPES = {
    "dense": lambda x: layers.dense(x, 3),
    "conv1d": lambda x: layers.conv1d(x, 3, 1),
    "layer_norm": lambda x: layers.layer_norm(x, begin_norm_axis=-1),
    "lstm": lambda x: layers.dynamic_rnn(layers.lstm(3), x)[0],
    "gru": lambda x: layers.dynamic_rnn(layers.gru(3), x, [2])[0],
    "conv1d_transpose": lambda x: layers.conv1d_transpose(x, 3, 2),
    "separable_conv1d": lambda x: layers.separable_conv1d(x, 3, 1),
    "depthwise_conv2d": lambda x: layers.depthwise_conv2d(x[..., None], 1),
    "group_norm": lambda x: layers.group_norm(x, 2),
    "instance_norm": layers.instance_norm,
    "rms_norm": layers.rms_norm,
    "multi_head_attention": lambda x: layers.multi_head_attention(x, num_heads=2),
}


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("asked", [None, jnp.float32, jnp.float16, jnp.int32])
def test_variables_take_a_scopes_dtype_of_floats_and_the_computation_that_of_the_inputs(
    name: str, asked: Any
) -> None:
    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("net", dtype=asked):
            out: jax.Array = DTYPES[name](x)
        return out

    x = jnp.ones([1, 2, 2], jnp.bfloat16)
    kept = asked if asked in (jnp.float32, jnp.float16) else jnp.bfloat16
    assert {spec.dtype for spec in js.transform(fn).specs(x).values()} == {jnp.dtype(kept)}
    assert run(fn, x).dtype == jnp.bfloat16


@pytest.mark.parametrize("asked", [jnp.float16, jnp.float32])
def test_statistics_of_a_batch_are_float32_in_a_scope_of_half_precision(asked: Any) -> None:
    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("net", dtype=asked):
            return layers.batch_normalization(x, training=True)

    net = js.transform_with_state(fn)
    x = jnp.ones([4, 2], jnp.bfloat16)
    out, state = net.apply(*net.init(0, x), None, x)
    assert {spec.dtype for spec in net.specs(x).values()} == {jnp.dtype(jnp.float32)}
    assert out.dtype == jnp.bfloat16
    assert state["net"]["batch_normalization"]["moving_mean"].tolist() == pytest.approx([0.01] * 2)


def test_a_scope_of_float32_around_inputs_of_bfloat16_is_the_network_cast() -> None:
    def fn(x: jax.Array, dtype: Any) -> jax.Array:
        with js.variable_scope("net", dtype=dtype):
            return layers.dense(layers.dense(x, 4, jax.nn.relu), 2)

    x = numbers(3, 5).astype(jnp.bfloat16)
    net = js.transform(fn)
    params = net.init(0, x, jnp.float32)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    chex.assert_trees_all_equal(
        net.apply(params, None, x, jnp.float32), net.apply(half, None, x, None)
    )
    gradients = jax.grad(lambda p: net.apply(p, None, x, jnp.float32).sum().astype(float))(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {np.dtype(np.float32)}


def test_a_block_that_is_traced_once_keeps_its_variables_as_each_scope_says() -> None:
    block = js.jit(lambda x: layers.dense(x, 2))

    def fn(x: jax.Array) -> list[jax.Array]:
        outs = []
        for name, dtype in (("a", jnp.float32), ("b", None), ("c", jnp.float16)):
            with js.variable_scope(name, dtype=dtype):
                outs.append(block(x))
        return outs

    net = js.transform(fn)
    x = jnp.ones([3, 5], jnp.bfloat16)
    kernels = [spec.dtype for name, spec in net.specs(x).items() if name.endswith("kernel")]
    assert kernels == [jnp.float32, jnp.bfloat16, jnp.float16]
    for _ in range(2):
        outs = net.apply(net.init(0, x), None, x)
        assert {out.dtype for out in outs} == {jnp.dtype(jnp.bfloat16)}


def test_the_dtype_of_an_embedding_is_the_argument_or_the_scopes() -> None:
    def fn(ids: jax.Array) -> None:
        layers.embedding(ids, 3, 3, dtype=jnp.float16)
        with js.variable_scope("net", dtype=jnp.bfloat16):
            layers.embedding(ids, 3, 3)

    specs = js.transform(fn).specs(jnp.arange(3))
    assert [spec.dtype for spec in specs.values()] == [jnp.float16, jnp.bfloat16]


def test_numpy_arrays_are_inputs_too() -> None:
    assert run(lambda x: layers.dense(x, 3), np.ones([2, 4], np.float32)).shape == (2, 3)
    assert layers.flatten(np.ones([2, 4, 3])).shape == (2, 12)


def test_layers_with_variables_need_a_pass_and_others_do_not() -> None:
    with pytest.raises(errors.NoPassError, match="was called outside a pass"):
        layers.dense(jnp.ones([1, 2]), 3)
    assert layers.max_pooling1d(jnp.ones([1, 4, 2]), 2, 2).shape == (1, 2, 2)


# dense, embedding, flatten


def test_embedding_gives_each_id_its_row() -> None:
    ids = jnp.array([[1, 0, 2], [2, 2, 1]])
    net = js.transform(lambda ids: layers.embedding(ids, 3, 4))
    params = net.init(0, ids)
    table = params["embedding"]["embeddings"]
    chex.assert_trees_all_equal(net.apply(params, None, ids), table[ids])
    chex.assert_trees_all_equal(layers.embedding_lookup(table, ids), table[ids])


def test_flatten_gives_both_data_formats_the_same_order() -> None:
    x = numbers(2, 4, 5, 3)
    flat = layers.flatten(x)
    chex.assert_trees_all_equal(flat, x.reshape(2, 60))
    first = layers.flatten(jnp.moveaxis(x, -1, 1), data_format="channels_first")
    chex.assert_trees_all_equal(first, flat)
    assert layers.flatten(jnp.ones([3])).shape == (3, 1)
    assert layers.flatten(jnp.ones([0, 2, 3])).shape == (0, 6)


# Convolutions and pooling

WINDOWS = [
    (window, stride, padding)
    for window, stride in [(1, 2), (2, 1), (2, 3), (3, 2), (5, 2)]
    for padding in ("valid", "same")
]


def sizes_after(size: int, window: int, stride: int, padding: str) -> int:
    """TF's formula for the size of a convolution or a pooling."""
    return math.ceil((size if padding == "same" else size - window + 1) / stride)


def shape_after(layer: Callable[[jax.Array], jax.Array], *shape: int) -> tuple[int, ...]:
    net, x = js.transform(layer), jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(net.apply, net.specs(x).params(), None, x).shape


@pytest.mark.parametrize(("window", "stride", "padding"), WINDOWS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_sizes_follow_the_formulas_of_tf(rank: int, window: int, stride: int, padding: str) -> None:
    conv, *pools = (
        getattr(layers, f"{kind}{rank}d") for kind in ("conv", "max_pooling", "average_pooling")
    )
    before = (9, 8, 7)[:rank]
    after = tuple(sizes_after(size, window, stride, padding) for size in before)
    assert shape_after(lambda x: conv(x, 4, window, stride, padding), 2, *before, 3) == (
        2,
        *after,
        4,
    )
    for pool in pools:
        found = shape_after(lambda x, p=pool: p(x, window, stride, padding.upper()), 2, *before, 3)
        assert found == (2, *after, 3)


@pytest.mark.parametrize(("window", "stride", "padding"), WINDOWS)
def test_sizes_of_transposed_convolutions_follow_the_formula_of_tf(
    window: int, stride: int, padding: str
) -> None:
    more = 0 if padding == "same" else max(window - stride, 0)
    found = shape_after(
        lambda x: layers.conv2d_transpose(x, 4, window, stride, padding), 2, 9, 8, 3
    )
    assert found == (2, 9 * stride + more, 8 * stride + more, 4)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_convolution_is_that_of_jax(rank: int, padding: str) -> None:
    x, kernel = numbers(2, *(7, 6, 5)[:rank], 3), numbers(*(3, 2, 1)[:rank], 3, 4, seed=1)
    layer = getattr(layers, f"conv{rank}d")
    window, strides, rates = kernel.shape[:rank], [1, 1, 2][:rank], [2, 1, 1][:rank]
    net = js.transform(
        lambda x: layer(x, 4, window, strides, padding, dilation_rate=rates, name="c")
    )
    bias = numbers(4, seed=2)
    out = net.apply({"c": {"kernel": kernel, "bias": bias}}, None, x)
    letters = "DHW"[:rank]
    expected = jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding.upper(),
        rhs_dilation=rates,
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )
    chex.assert_trees_all_close(out, np.asarray(expected) + np.asarray(bias), atol=1e-5)


@pytest.mark.parametrize(("window", "stride", "padding"), WINDOWS)
def test_a_transposed_convolution_is_the_gradient_of_one(
    window: int, stride: int, padding: str
) -> None:
    small, kernel = numbers(2, 4, 5, 3), numbers(window, window, 6, 3, seed=1)
    back = js.transform(lambda x: layers.conv2d_transpose(x, 6, window, stride, padding, name="c"))
    large = back.apply({"c": {"kernel": kernel, "bias": jnp.zeros(6)}}, None, small)

    def conv(x: jax.Array) -> jax.Array:
        net = js.transform(lambda x: layers.conv2d(x, 3, window, stride, padding, name="c"))
        return net.apply({"c": {"kernel": kernel, "bias": jnp.zeros(3)}}, None, x)

    out, pullback = jax.vjp(conv, jnp.zeros(large.shape))
    assert out.shape == small.shape
    chex.assert_trees_all_close(pullback(small)[0], large, atol=1e-4)


def test_a_separable_convolution_convolves_channels_apart_and_mixes_them() -> None:
    x, depthwise, pointwise = (
        numbers(1, 6, 6, 2),
        numbers(3, 3, 2, 2, seed=1),
        numbers(1, 1, 4, 5, seed=2),
    )
    net = js.transform(
        lambda x: layers.separable_conv2d(x, 5, 3, 2, depth_multiplier=2, use_bias=False)
    )
    kernels = {"depthwise_kernel": depthwise, "pointwise_kernel": pointwise}
    out = net.apply({"separable_conv2d": kernels}, None, x)

    def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, [2, 2], "VALID", dimension_numbers=axes)

    apart = [
        conv(x[..., channel : channel + 1], depthwise[:, :, channel : channel + 1])
        for channel in (0, 1)
    ]
    expected = jnp.concatenate(apart, -1) @ pointwise[0, 0]
    chex.assert_trees_all_close(out, expected, atol=1e-5)


@pytest.mark.parametrize(("window", "stride", "padding"), WINDOWS)
def test_pooling_is_numpys_over_what_lies_inside(window: int, stride: int, padding: str) -> None:
    x = np.asarray(numbers(2, 7, 3))
    count = sizes_after(7, window, stride, padding)
    total = 0 if padding == "valid" else max((count - 1) * stride + window - 7, 0)
    starts = [index * stride - total // 2 for index in range(count)]
    windows = [x[:, max(start, 0) : start + window] for start in starts]
    largest = layers.max_pooling1d(x, window, stride, padding)
    mean = layers.average_pooling1d(x, window, stride, padding)
    chex.assert_trees_all_close(largest, np.stack([part.max(1) for part in windows], 1))
    chex.assert_trees_all_close(mean, np.stack([part.mean(1) for part in windows], 1), atol=1e-6)


def test_pooling_of_integers_and_half_precision() -> None:
    x = jnp.array([[[-5], [-3], [-9]]])
    assert layers.max_pooling1d(x, 2, 2, "same").ravel().tolist() == [-3, -9]
    x = jnp.ones([1, 3, 1], jnp.bfloat16)
    for pool in (layers.max_pooling1d, layers.average_pooling1d):
        out = pool(x, 2, 2, "same")
        assert out.dtype == jnp.bfloat16
        assert out.ravel().tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_means_of_large_windows_are_right_in_half_precision(dtype: Any, padding: str) -> None:
    x = jnp.full([1, 48, 48, 1], 100, dtype)
    mean = layers.average_pooling2d(x, 48, 48, padding)
    assert mean.dtype == dtype
    assert mean.item() == 100


# batch_normalization


def norm(x: jax.Array, training: bool, **options: Any) -> jax.Array:
    return layers.batch_normalization(x, training=training, name="norm", **options)


NORM = js.transform_with_state(norm)


def test_training_normalises_by_the_batch_and_moves_the_averages() -> None:
    x = 3 * numbers(6, 4) + 2
    params, state = NORM.init(0, x, True)
    chex.assert_trees_all_equal(
        state, js.Params({"norm": {"moving_mean": jnp.zeros(4), "moving_variance": jnp.ones(4)}})
    )
    params = {"norm": {"gamma": numbers(4, seed=1), "beta": numbers(4, seed=2)}}
    out, after = jax.jit(NORM.apply, static_argnums=4)(params, state, None, x, True)
    mean, variance = np.mean(x, 0), np.var(x, 0)
    expected = (x - mean[None]) / np.sqrt(variance + 1e-3)[None]
    expected = expected * params["norm"]["gamma"][None] + params["norm"]["beta"][None]
    chex.assert_trees_all_close(out, expected, atol=1e-5)
    averages = {"moving_mean": 0.01 * mean, "moving_variance": 0.99 + 0.01 * variance}
    chex.assert_trees_all_close(after["norm"].to_dict(), averages, atol=1e-6)


def test_inference_normalises_by_the_averages_and_leaves_them() -> None:
    x, mean, variance = numbers(6, 4), numbers(4, seed=1), 1 + numbers(4, seed=2) ** 2
    params = {"norm": {"gamma": jnp.ones(4), "beta": jnp.zeros(4)}}
    state = js.Params({"norm": {"moving_mean": mean, "moving_variance": variance}})
    out, after = NORM.apply(params, state, None, x, False)
    expected = (x - mean[None]) / jnp.sqrt(variance + 1e-3)[None]
    chex.assert_trees_all_close(out, expected, atol=1e-5)
    assert after["norm"]["moving_mean"] is mean


FUSED = {
    "rank 2": ((6, 4), {}, False),
    "rank 3": ((6, 2, 4), {}, False),
    "rank 4": ((3, 2, 2, 4), {}, True),
    "rank 4, channels first": ((3, 4, 2, 2), {"axis": 1}, True),
    "rank 4, another axis": ((3, 2, 4, 2), {"axis": 2}, False),
    "rank 4, two axes": ((3, 2, 2, 4), {"axis": [1, 3]}, False),
    "rank 4, if asked not to": ((3, 2, 2, 4), {"fused": False}, False),
    "rank 5": ((3, 2, 2, 2, 4), {}, True),
    "rank 2, as TF 1.15": ((6, 4), {"fused": True}, True),
    "one number per channel": ((1, 1, 1, 4), {}, True),
}


@pytest.mark.parametrize("case", FUSED)
def test_the_fused_kernels_correct_the_moving_variance_as_in_tf(case: str) -> None:
    shape, options, corrected = FUSED[case]
    x = numbers(*shape)
    net = js.transform_with_state(lambda x: norm(x, True, momentum=0.0, **options))
    params, state = net.init(0, x)
    variance = net.apply(params, state, None, x)[1]["norm"]["moving_variance"]
    count = x.size // variance.size
    axes = options.get("axis", -1)
    others = set(range(x.ndim)) - {axis % x.ndim for axis in np.atleast_1d(axes)}
    expected = np.var(x, tuple(others)).reshape(variance.shape)
    expected = expected * (count / max(count - 1, 1) if corrected else 1)
    chex.assert_trees_all_close(variance, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_statistics_of_half_precision_are_float32(dtype: Any) -> None:
    x = numbers(6, 4).astype(dtype)
    params, state = NORM.init(0, x, True)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, state))} == {np.dtype(np.float32)}
    out, _ = NORM.apply(params, state, None, x, True)
    assert out.dtype == dtype


def test_an_eval_tower_reads_the_averages_of_the_train_tower() -> None:
    def towers(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        train = norm(x, True, momentum=0.0)
        return train, norm(x, False, reuse=True)

    train, evaluated = run(towers, numbers(6, 4))
    chex.assert_trees_all_close(train, evaluated, atol=1e-5)


def test_averages_are_not_regularized_by_the_scope() -> None:
    def fn(x: jax.Array) -> None:
        with js.variable_scope("net", regularizer=jnp.square):
            norm(x, True)

    specs = js.transform_with_state(fn).specs(jnp.ones([2, 3]))
    regularized = [name for name, spec in specs.items() if spec.regularizer]
    assert regularized == ["net/norm/gamma", "net/norm/beta"]


def test_gradients_flow_through_the_statistics_of_the_batch() -> None:
    x = numbers(6, 4)
    params, state = NORM.init(0, x, True)

    def total(x: jax.Array) -> jax.Array:
        return NORM.apply(params, state, None, x, True)[0].sum()

    chex.assert_trees_all_close(jax.grad(total)(x), jnp.zeros([6, 4]), atol=1e-5)


def test_averages_that_a_getter_renamed_are_moved() -> None:
    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("a"):
            layers.batch_normalization(x, training=True, momentum=0.0)
        other = js.getters.rename({"^a/": "b/", "moving_mean$": "mean"})
        with js.variable_scope("a", custom_getter=other):
            layers.batch_normalization(x + 100, training=True, momentum=0.0)
        with js.variable_scope("a", reuse=True):
            return layers.batch_normalization(x + 7, training=True, momentum=0.0)

    net = js.transform_with_state(fn)
    x = numbers(4, 3)
    params, state = net.init(0, x)
    assert list(state) == ["a", "b"]
    moved = js.tree.flatten(net.apply(params, state, None, x)[1])
    mean = np.asarray(x.mean(0))
    np.testing.assert_allclose(moved["b/batch_normalization/mean"], mean + 100, rtol=1e-5)
    np.testing.assert_allclose(moved["a/batch_normalization/moving_mean"], mean + 7, rtol=1e-5)


@pytest.mark.parametrize(
    "make", [js.getters.weight_normalization, lambda: js.getters.low_rank(1, names="")]
)
def test_getters_of_weights_leave_averages_alone(make: Any) -> None:
    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("a", custom_getter=make()):
            layers.dense(x[0], 2)
            return layers.batch_normalization(x, axis=[1, 2], training=True)

    net = js.transform_with_state(fn)
    x = numbers(4, 3, 2)
    params, state = net.init(0, x)
    assert list(state["a"]["batch_normalization"]) == ["moving_mean", "moving_variance"]
    net.apply(params, state, None, x)


# layer_norm


@pytest.mark.parametrize(("first", "params_from"), [(1, -1), (-1, -1), (2, 1), (1, 1)])
def test_layer_norm_normalises_each_example(first: int, params_from: int) -> None:
    x = np.asarray(3 * numbers(2, 5, 4) + 1)
    shape = x.shape[params_from:]
    beta, gamma = numbers(*shape, seed=1), numbers(*shape, seed=2)
    net = js.transform(
        lambda x: layers.layer_norm(
            x, activation_fn=jnp.tanh, begin_norm_axis=first, begin_params_axis=params_from
        )
    )
    out = net.apply({"LayerNorm": {"beta": beta, "gamma": gamma}}, None, x)
    axes = tuple(range(first % 3, 3))
    mean, deviation = np.mean(x, axes, keepdims=True), np.std(x, axes, keepdims=True)
    expected = np.tanh((x - mean) / deviation * np.asarray(gamma) + np.asarray(beta))
    chex.assert_trees_all_close(out, expected, atol=1e-5)


def test_layer_norm_takes_a_name_and_an_epsilon() -> None:
    x = numbers(4, 3)
    net = js.transform(lambda x: layers.layer_norm(x, name="norm", epsilon=0.5))
    params = net.init(0, x)
    assert list(params) == ["norm"]
    expected = (x - x.mean(1, keepdims=True)) / jnp.sqrt(x.var(1, keepdims=True) + 0.5)
    chex.assert_trees_all_close(net.apply(params, None, x), expected, atol=1e-6)


# multi_head_attention


def attend(x: jax.Array, *args: Any, num_heads: int = 2, **options: Any) -> jax.Array:
    return layers.multi_head_attention(x, *args, num_heads=num_heads, name="attend", **options)


@pytest.mark.parametrize("blocks", [[1] * 6, [3, 1, 2], [6]], ids=str)
def test_a_cache_decodes_what_one_call_computes(blocks: list[int]) -> None:
    x = numbers(2, 6, 8)
    whole = js.transform(lambda x: attend(x, is_causal=True))
    decoder = js.transform_with_state(lambda x: attend(x, is_causal=True, cache_size=7))
    params, start = whole.init(0, x), 0
    empty, state = decoder.init(0, x[:, :1])
    assert jax.tree.structure(empty) == jax.tree.structure(params)
    found = []
    for size in blocks:
        out, state = jax.jit(decoder.apply)(params, state, None, x[:, start : start + size])
        found.append(out)
        start += size
    wanted = whole.apply(params, None, x)
    chex.assert_trees_all_close(jnp.concatenate(found, 1), wanted, atol=1e-5)
    assert state["attend"]["cache_index"] == 6


def test_without_causality_a_block_sees_itself_and_what_came_before() -> None:
    x = numbers(1, 5, 4)
    decoder = js.transform_with_state(lambda x: attend(x, cache_size=5))
    params, state = decoder.init(0, x[:, :3])
    first, state = decoder.apply(params, state, None, x[:, :3])
    second, _ = decoder.apply(params, state, None, x[:, 3:])
    plain = js.transform(attend)
    chex.assert_trees_all_close(first, plain.apply(params, None, x[:, :3]), atol=1e-5)
    chex.assert_trees_all_close(second, plain.apply(params, None, x)[:, 3:], atol=1e-5)


def test_a_cache_works_in_a_scan_a_stack_and_under_getters_of_other_dtypes() -> None:
    def block(x: jax.Array) -> jax.Array:
        return x + attend(layers.rms_norm(x), cache_size=4)

    def decode(x: jax.Array) -> jax.Array:
        def step(carry: None, position: jax.Array) -> tuple[None, jax.Array]:
            return carry, js.layer_stack(2)(block)(position[:, None])[:, 0]

        with js.variable_scope("net", custom_getter=js.getters.cast(jnp.bfloat16)):
            return js.scan(step, None, x.swapaxes(0, 1))[1].swapaxes(0, 1)

    def whole(x: jax.Array) -> jax.Array:
        def causal(x: jax.Array) -> jax.Array:
            return x + attend(layers.rms_norm(x), is_causal=True)

        with js.variable_scope("net", custom_getter=js.getters.cast(jnp.bfloat16)):
            return js.layer_stack(2)(causal)(x)

    x = numbers(2, 4, 8).astype(jnp.bfloat16)
    net = js.transform_with_state(decode)
    params, state = net.init(0, x)
    out, state = jax.jit(net.apply)(params, state, None, x)
    assert state["net"]["attend"]["cache_index"].tolist() == [4, 4]
    wanted = js.transform(whole).apply(params, None, x)
    chex.assert_trees_all_close(out.astype(float), wanted.astype(float), atol=0.05)


def test_a_full_cache_gives_nan_and_never_overwrites_in_silence() -> None:
    net = js.transform_with_state(lambda x: attend(x, cache_size=2))
    x = numbers(1, 1, 4)
    params, state = net.init(0, x)
    found = []
    for _ in range(3):
        out, state = net.apply(params, state, None, x)
        found.append(bool(jnp.isnan(out).any()))
    assert found == [False, False, True]


def test_a_cache_is_state_and_refused_where_it_cannot_be_assigned() -> None:
    x = jnp.ones([1, 1, 4])
    with pytest.raises(errors.StateError, match=r"is not trainable, and jscope\.transform keeps"):
        js.transform(lambda x: attend(x, cache_size=2)).init(0, x)
    with pytest.raises(errors.TransformError, match=r"cannot be assigned inside raw jax\.jit"):
        shapes(jax.jit(lambda x: attend(x, cache_size=2)), x)


def test_attention_is_dropped_in_training_by_keys_of_its_own() -> None:
    x = numbers(2, 5, 8)
    net = js.transform(lambda x, training: attend(x, dropout_rate=0.5, training=training))
    params = net.init(0, x, False)
    kept = net.apply(params, None, x, False)
    one, same, other = (net.apply(params, rng, x, True) for rng in (1, 1, 2))
    chex.assert_trees_all_equal(one, same)
    assert (one != other).any()
    chex.assert_trees_all_close(kept, js.transform(attend).apply(params, None, x), atol=1e-6)
    with pytest.raises(errors.RngError, match=r"^next_rng_key was called, but rng is None"):
        net.apply(params, None, x, True)


def test_masks_of_fewer_axes_are_shared_by_heads_and_by_examples() -> None:
    x, mask = numbers(2, 4, 8), jnp.tri(4, dtype=bool)
    net = js.transform(lambda x, mask: attend(x, mask=mask))
    params = net.init(0, x, mask)
    wanted = js.transform(lambda x: attend(x, is_causal=True)).apply(params, None, x)
    for found in (mask, mask[None], jnp.stack([mask, mask]), mask[None, None]):
        chex.assert_trees_all_close(net.apply(params, None, x, found), wanted, atol=1e-6)


def test_kernels_of_attention_start_as_the_matrices_that_they_are() -> None:
    def fn(x: jax.Array, initializer: Any) -> None:
        with js.variable_scope("net", initializer=initializer):
            attend(x, num_heads=8)

    net, x = js.transform(fn), jnp.ones([1, 2, 128])
    kernels = net.init(0, x, None)["net"]["attend"]
    for name in ("query", "key", "value", "output"):
        limit = math.sqrt(6 / 256)  # of Glorot's distribution for [128, 128]
        assert jnp.abs(kernels[name]["kernel"]).max() == pytest.approx(limit, rel=0.01)
    ones = net.init(0, x, jax.nn.initializers.ones)["net"]["attend"]
    assert (ones["output"]["kernel"] == 1).all()


# dropout


def drop(x: jax.Array, **options: Any) -> jax.Array:
    return layers.dropout(x, training=True, **options)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("rate", [0.003, 0.25, 0.9, 0.99])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(dtype: Any, rate: float) -> None:
    out = run(lambda x: drop(x, rate=rate), jnp.ones(400_000, dtype), rng=0)
    assert out.dtype == dtype
    values = np.asarray(out, np.float32)
    scaled = np.float32(1) / np.float32(1 - rate)
    assert np.unique(values).tolist() == [0, np.float32(jnp.asarray(scaled, dtype))]
    deviation = math.sqrt(rate * (1 - rate) / values.size)
    assert np.mean(values == 0) == pytest.approx(rate, abs=5 * deviation)
    assert values.mean() == pytest.approx(1, abs=0.02)


NOTHING = [{"training": False}, *({"rate": kind(0)} for kind in (int, np.float32, np.float64))]


@pytest.mark.parametrize("options", NOTHING, ids=repr)
def test_dropout_that_drops_nothing_draws_no_key(options: dict[str, Any]) -> None:
    x = numbers(2, 3)
    options = {"training": True, **options}
    chex.assert_trees_all_equal(run(lambda x: layers.dropout(x, **options), x, rng=None), x)


def test_dropout_needs_a_key() -> None:
    with pytest.raises(errors.RngError, match=r"^next_rng_key was called, but rng is None"):
        run(drop, numbers(3), rng=None)


def test_masks_differ_by_layer_and_other_layers_change_nothing() -> None:
    x = jnp.ones([64])
    first, second = run(lambda x: (drop(x), drop(x)), x, rng=0)
    assert (first != second).any()

    def more(x: jax.Array) -> jax.Array:
        with js.variable_scope("before"):
            drop(x)
        layers.dense(x[None], 3)
        js.next_rng_key()
        layers.dropout(x)  # takes the number of a dropout, but no key
        return drop(x)

    chex.assert_trees_all_equal(run(more, x, rng=0), second)


def test_a_noise_shape_shares_draws_along_its_axes_of_size_1() -> None:
    x = jnp.ones([4, 5, 6])
    for noise_shape in ([4, 1, 6], (None, 1, None)):
        out = np.asarray(run(lambda x, s=noise_shape: drop(x, noise_shape=s), x, rng=0))
        assert (out == out[:, :1]).all()
        assert (out != out[:1]).any()


def test_the_rate_can_be_a_traced_scalar() -> None:
    net = js.transform(lambda x, rate: drop(x, rate=rate))
    apply = jax.jit(net.apply)
    x = jnp.ones([64])
    chex.assert_trees_all_equal(apply({}, 0, x, 0.5), run(drop, x, rng=0))
    chex.assert_trees_all_equal(apply({}, 0, x, 0.0), x)


# Recurrent networks

CELLS: dict[str, Callable[[], Any]] = {"lstm": lambda: layers.lstm(4), "gru": lambda: layers.gru(4)}


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def numpy_step(kind: str, params: Any, x: Any, state: Any) -> tuple[Any, Any]:
    """A step as the papers and TF1 have it, in NumPy."""
    if kind == "lstm":
        c, h = state
        gates = np.concatenate([x, h], 1) @ params["kernel"] + params["bias"][None]
        i, j, f, o = np.split(np.asarray(gates), 4, axis=1)
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
        h = sigmoid(o) * np.tanh(c)
        return h, (c, h)
    gates, candidate = params["gates"], params["candidate"]
    both = sigmoid(np.concatenate([x, state], 1) @ gates["kernel"] + gates["bias"][None])
    r, u = np.split(np.asarray(both), 2, axis=1)
    new = np.concatenate([x, r * state], 1) @ candidate["kernel"] + candidate["bias"][None]
    h = u * state + (1 - u) * np.tanh(new)
    return h, h


@pytest.mark.parametrize("lengths", [None, [6, 2, 0]])
@pytest.mark.parametrize("kind", CELLS)
def test_a_recurrent_network_is_a_loop_over_time(kind: str, lengths: list[int] | None) -> None:
    x = numbers(3, 6, 5)
    net = js.transform(lambda x, n: layers.dynamic_rnn(CELLS[kind](), x, n))
    params = jax.tree.map(lambda leaf: leaf + 0.1, net.init(0, x, lengths))
    outputs, last = jax.jit(net.apply)(params, None, x, lengths and jnp.array(lengths))
    (cell,) = params["rnn"].values()
    for example in range(3):
        state: Any = np.zeros([1, 4])
        state = (state, state) if kind == "lstm" else state
        for step in range(6):
            h = np.zeros([1, 4])
            if lengths is None or step < lengths[example]:
                h, state = numpy_step(kind, cell, x[example : example + 1, step], state)
            chex.assert_trees_all_close(outputs[example, step], h[0], atol=1e-5)
        found = jax.tree.map(lambda leaf, row=example: leaf[row : row + 1], last)
        chex.assert_trees_all_close(tuple(found), tuple(state), atol=1e-5)


@pytest.mark.parametrize("kind", CELLS)
def test_gradients_equal_those_of_the_python_loop(kind: str) -> None:
    x = numbers(2, 5, 3)

    def loop(x: jax.Array) -> jax.Array:
        with js.variable_scope("rnn"):
            cell = CELLS[kind]()
            state, outputs = cell.zero_state(2), []
            for step in range(5):
                out, state = cell(x[:, step], state)
                outputs.append(out)
        return jnp.stack(outputs, 1)

    def scanned(x: jax.Array) -> jax.Array:
        outputs: jax.Array = layers.dynamic_rnn(CELLS[kind](), x)[0]
        return outputs

    nets = js.transform(loop), js.transform(scanned)
    params = nets[0].init(0, x)
    chex.assert_trees_all_equal(params, nets[1].init(0, x))
    values, gradients = zip(
        *(
            jax.jit(jax.value_and_grad(lambda p, net=net: (net.apply(p, None, x) ** 2).sum()))(
                params
            )
            for net in nets
        ),
        strict=True,
    )
    chex.assert_trees_all_close(*values, rtol=1e-5)
    chex.assert_trees_all_close(*gradients, atol=1e-5)


def test_time_major_and_an_initial_state() -> None:
    x = numbers(2, 5, 3)
    state = layers.LSTMStateTuple(numbers(2, 4, seed=1), numbers(2, 4, seed=2))

    def fn(x: jax.Array, state: Any, time_major: bool) -> Any:
        cell = layers.lstm(4)
        return layers.dynamic_rnn(cell, x, [5, 3], state, time_major=time_major)

    outputs, last = run(fn, x, state, False)
    turned, same = run(fn, x.swapaxes(0, 1), state, True)
    chex.assert_trees_all_equal(turned.swapaxes(0, 1), outputs)
    chex.assert_trees_all_equal(same, last)
    assert isinstance(last, layers.LSTMStateTuple)
    assert (outputs != run(fn, x, jax.tree.map(jnp.zeros_like, state), False)[0]).any()


def test_a_plain_pair_is_a_state_of_an_lstm() -> None:
    c, h = numbers(2, 4, seed=1), numbers(2, 4, seed=2)

    def fn(x: jax.Array, initial_state: Any) -> Any:
        return layers.dynamic_rnn(layers.lstm(4), x, initial_state=initial_state)

    net = js.transform(fn)
    x = numbers(2, 5, 3)
    params = net.init(0, x, (c, h))
    named = net.apply(params, None, x, layers.LSTMStateTuple(c, h))
    chex.assert_trees_all_equal(net.apply(params, None, x, (c, h)), named)


def test_one_cell_shares_and_two_cells_are_numbered() -> None:
    def fn(x: jax.Array) -> None:
        with js.variable_scope("net"):
            cell, other = layers.lstm(4), layers.lstm(4, name="lstm_cell")
            state = cell.zero_state(2)
            cell(x, state)
            other(x, state)
            cell(x, state)
        with js.variable_scope("other", reuse=True):
            cell(x, state)  # still its own variables

    assert list(shapes(fn, jnp.ones([2, 3]))) == [
        "net/lstm_cell/kernel",
        "net/lstm_cell/bias",
        "net/lstm_cell_1/kernel",
        "net/lstm_cell_1/bias",
    ]


@pytest.mark.parametrize("loop", [True, False])
@pytest.mark.parametrize("make", [layers.lstm, layers.gru])
def test_a_cell_under_another_scope_is_refused_with_both_names(make: Any, loop: bool) -> None:
    def fn(x: jax.Array) -> None:
        for index, cell in enumerate([make(3)] * 2):
            with js.variable_scope(f"layer_{index}"):
                if loop:
                    x = layers.dynamic_rnn(cell, x)[0]
                else:
                    cell(x[:, 0], cell.zero_state(2))

    net, x = js.transform(fn), jnp.ones([2, 5, 3])
    for call in (net.specs, lambda x: net.init(0, x)):
        with pytest.raises(errors.ReuseError) as caught:
            call(x)
        inner = "/rnn" if loop else ""
        text = re.sub(r"\S*test_layers\.py:\d+", "FILE:N", str(caught.value))
        assert text == (
            f"Attempt to reuse cell {make.__name__}_cell with a different variable scope than its "
            f"first use: first 'layer_0{inner}', now 'layer_1{inner}'.\n"
            "  first:  at FILE:N in fn\n"
            "  again:  at FILE:N in fn\n"
            "  fix:    make a cell for each layer, [lstm(n) for _ in range(2)] in place of "
            "[lstm(n)] * 2; to share the first's variables, open the scope with reuse=True."
        )


@pytest.mark.parametrize("reuse", [True, js.AUTO_REUSE])
def test_a_cell_is_shared_with_another_scope_that_reuses(reuse: Any) -> None:
    def fn(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        cell = layers.gru(3)
        with js.variable_scope("a"):
            first = layers.dynamic_rnn(cell, x)[0]
        with js.variable_scope("b", reuse=reuse):
            return first, layers.dynamic_rnn(cell, x)[0]

    x = numbers(2, 5, 3)
    assert list(js.transform(fn).init(0, x)) == ["a"]
    chex.assert_trees_all_equal(*run(fn, x))


def test_a_cell_called_at_the_root_is_told_from_one_in_a_scope() -> None:
    def fn(x: jax.Array) -> None:
        cell = layers.gru(3)
        cell(x, cell.zero_state(2))
        with js.variable_scope("a"):
            cell(x, cell.zero_state(2))

    with pytest.raises(errors.ReuseError, match=r"first the root scope, now 'a'\."):
        shapes(fn, jnp.ones([2, 3]))


def test_a_cell_with_reuse_shares_the_variables_of_its_name() -> None:
    def fn(x: jax.Array, reuse: Any) -> Any:
        first = layers.gru(4)(x, jnp.zeros([2, 4]))[0]
        again = layers.gru(4, reuse=reuse)
        again(x, jnp.zeros([2, 4]))
        return first - again(x, jnp.zeros([2, 4]))[0]

    for reuse in (True, js.AUTO_REUSE):
        chex.assert_trees_all_equal(run(fn, numbers(2, 3), reuse), jnp.zeros([2, 4]))
    with pytest.raises(errors.VariableNotFoundError, match=r"^Variable gru_cell/gates/kernel does"):
        shapes(lambda x: layers.gru(4, reuse=True)(x, jnp.zeros([2, 4])), jnp.ones([2, 3]))


def test_two_networks_in_one_scope_need_scopes_of_their_own() -> None:
    def fn(x: jax.Array, scope: str | None) -> None:
        layers.dynamic_rnn(layers.lstm(4), x)
        layers.dynamic_rnn(layers.lstm(4), x, scope=scope)

    x = jnp.ones([2, 5, 3])
    assert list(js.transform(fn).init(0, x, "second")) == ["rnn", "second"]
    with pytest.raises(
        errors.VariableExistsError, match=r"^Variable rnn/lstm_cell/kernel already exists"
    ):
        shapes(fn, x, None)


MODULE_CELL = layers.lstm(4)


def test_a_cell_made_outside_serves_any_number_of_passes() -> None:
    def fn(x: jax.Array) -> Any:
        return layers.dynamic_rnn(MODULE_CELL, x)[0]

    x = numbers(2, 5, 3)
    assert list(shapes(fn, x)) == ["rnn/lstm_cell/kernel", "rnn/lstm_cell/bias"]
    net = js.transform(fn)
    params = net.init(0, x)
    chex.assert_trees_all_equal(net.apply(params, None, x), net.apply(params, None, x))


def test_a_cell_is_any_function_and_may_draw_and_assign() -> None:
    def cell(x: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        js.get_variable("steps", initializer=0, trainable=False)
        js.assign_add("steps", 1)
        state = jnp.tanh(layers.dense(x, 4) + layers.dense(state, 4))
        return layers.dropout(state, training=True), state

    def fn(x: jax.Array) -> jax.Array:
        outputs: jax.Array = layers.dynamic_rnn(cell, x, initial_state=jnp.zeros([2, 4]))[0]
        return outputs

    x = numbers(2, 5, 3)
    net = js.transform_with_state(fn)
    params, state = net.init(0, x)
    outputs, state = jax.jit(net.apply)(params, state, 1, x)
    assert state["rnn"]["steps"] == 5
    dropped = np.asarray(outputs == 0).transpose(1, 0, 2)
    assert len({step.tobytes() for step in dropped}) > 1
    assert list(params["rnn"]) == ["dense", "dense_1"]


def test_the_sizes_of_a_cell_tell_its_zero_state() -> None:
    cell = layers.lstm(4)
    assert cell.state_size == layers.LSTMStateTuple(4, 4)
    assert (cell.output_size, layers.gru(3).state_size, layers.gru(3).output_size) == (4, 3, 3)
    state = cell.zero_state(2, jnp.bfloat16)
    assert [leaf.shape for leaf in state] == [(2, 4), (2, 4)]
    assert state.c.dtype == jnp.bfloat16


# Under transforms


def block(x: jax.Array) -> jax.Array:
    x = x + layers.dense(layers.layer_norm(x), 4, jax.nn.relu)
    x = layers.batch_normalization(x, momentum=0.5, training=True)
    return layers.dropout(x, 0.5, training=True)


def test_a_stack_of_layers_equals_its_unstacked_variables() -> None:
    def stack(x: jax.Array) -> jax.Array:
        with js.variable_scope("blocks"):
            out: jax.Array = js.layer_stack(3)(block)(x)
        return out

    x = numbers(6, 4)
    net = js.transform_with_state(stack)
    params, state = net.init(0, x)
    assert params["blocks"]["dense"]["kernel"].shape == (3, 4, 4)
    out, after = jax.jit(net.apply)(params, state, 0, x)
    assert out.shape == x.shape
    means = np.asarray(after["blocks"]["batch_normalization"]["moving_mean"])
    assert len({row.tobytes() for row in means}) == 3
    first = js.transform_with_state(lambda x: layers.dense(layers.layer_norm(x), 4, jax.nn.relu))
    layer = jax.tree.map(lambda leaf: leaf[0], params["blocks"])
    hidden = x + first.apply(layer, {}, None, x)[0]
    chex.assert_trees_all_close(means[0], 0.5 * np.mean(hidden, 0), atol=1e-5)


@jax.checkpoint
def module_block(x: jax.Array) -> jax.Array:
    return jax.nn.relu(layers.conv1d(layers.dense(x, 4), 4, 3, padding="same"))


def test_layers_in_raw_transforms_keep_their_scopes() -> None:
    def deep(x: jax.Array) -> jax.Array:
        for index in range(3):
            with js.variable_scope(f"layer_{index}"):
                x = jax.jit(module_block)(x)
        return x.sum()

    def plain(x: jax.Array) -> jax.Array:
        for index in range(3):
            with js.variable_scope(f"layer_{index}"):
                x = jax.nn.relu(layers.conv1d(layers.dense(x, 4), 4, 3, padding="same"))
        return x.sum()

    x = numbers(2, 6, 4)
    nets = js.transform(deep), js.transform(plain)
    params = nets[0].init(0, x)
    assert list(params) == ["layer_0", "layer_1", "layer_2"]
    gradients = [jax.jit(jax.grad(net.apply))(params, None, x) for net in nets]
    chex.assert_trees_all_close(*gradients, atol=1e-5)


def test_nothing_is_left_of_the_layers_in_the_compiled_program() -> None:
    def net(x: jax.Array) -> jax.Array:
        x = layers.conv2d(x, 4, 3, padding="same", activation=jax.nn.relu)
        return layers.dense(layers.flatten(layers.max_pooling2d(x, 2, 2)), 10)

    def by_hand(params: Any, x: jax.Array) -> jax.Array:
        conv, dense = params["conv2d"], params["dense"]
        axes = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            x, conv["kernel"], [1, 1], "SAME", dimension_numbers=axes, rhs_dilation=[1, 1]
        )
        x = jax.nn.relu(x + conv["bias"].reshape(1, 1, 1, 4))
        window = (1, 2, 2, 1)
        x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, window, "VALID")
        return jnp.dot(x.reshape(2, -1), dense["kernel"]) + dense["bias"].reshape(1, 10)

    x = jnp.ones([2, 8, 8, 3])
    apply = js.without_apply_rng(js.transform(net)).apply
    params = js.transform(net).init(0, x)
    texts = [
        jax.jit(fn).lower(params, x).as_text().replace(name, "f")
        for fn, name in ((apply, "apply"), (by_hand, "by_hand"))
    ]
    assert texts[0] == texts[1]


# Errors

IMAGES, ROWS = jnp.ones([1, 4, 4, 2]), jnp.ones([2, 3])

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "inputs of too few axes": (
        lambda: layers.dense(jnp.ones(3), 2),
        "The inputs must be floats [batch, ..., features], got float32[3].",
    ),
    "inputs of integers": (
        lambda: layers.dense(jnp.ones([2, 3], int), 2),
        "The inputs must be floats [batch, ..., features], got int32[2,3].",
    ),
    "inputs that are no array": (
        lambda: layers.dense([[1.0]], 2),  # type: ignore[arg-type]
        "The inputs must be floats [batch, ..., features], got [[1.0]] of type list.",
    ),
    "images without channels": (
        lambda: layers.conv2d(jnp.ones([1, 4, 4]), 2, 2),
        "The inputs must be floats [batch, height, width, channels], got float32[1,4,4].",
    ),
    "images, channels first": (
        lambda: layers.conv2d(jnp.ones([4, 4]), 2, 2, data_format="channels_first"),
        "The inputs must be floats [batch, channels, height, width], got float32[4,4].",
    ),
    "a sequence": (
        lambda: layers.conv1d(IMAGES, 2, 2),
        "The inputs must be floats [batch, length, channels], got float32[1,4,4,2].",
    ),
    "a volume": (
        lambda: layers.max_pooling3d(IMAGES, 2, 2),
        "The inputs must be numbers [batch, depth, height, width, channels], got float32[1,4,4,2].",
    ),
    "units": (
        lambda: layers.dense(ROWS, 2.5),  # type: ignore[arg-type]
        "The units must be an int of 1 or more, got 2.5 of type float.",
    ),
    "filters": (
        lambda: layers.conv2d(IMAGES, 0, 2),
        "The filters must be an int of 1 or more, got 0 of type int.",
    ),
    "depth_multiplier": (
        lambda: layers.separable_conv2d(IMAGES, 2, 2, depth_multiplier=0),
        "The depth_multiplier must be an int of 1 or more, got 0 of type int.",
    ),
    "kernel_size": (
        lambda: layers.conv2d(IMAGES, 2, (2, 2, 2)),
        "The kernel_size must be an int of 1 or more, or 2 of them, got (2, 2, 2) of type tuple.",
    ),
    "kernel_size of one axis": (
        lambda: layers.conv1d(jnp.ones([1, 4, 2]), 2, None),  # type: ignore[arg-type]
        "The kernel_size must be an int of 1 or more, got None of type NoneType.",
    ),
    "kernel_size that does not fit": (
        lambda: layers.conv2d(IMAGES, 2, 3, dilation_rate=2),
        "The kernel_size must be at most the inputs' 4 x 4 where padding is 'valid', "
        "got 3 of type int.",
    ),
    "pool_size that does not fit": (
        lambda: layers.average_pooling2d(IMAGES, 5, 1),
        "The pool_size must be at most the inputs' 4 x 4 where padding is 'valid', "
        "got 5 of type int.",
    ),
    "strides": (
        lambda: layers.conv2d(IMAGES, 2, 2, "2"),  # type: ignore[arg-type]
        "The strides must be an int of 1 or more, or 2 of them, got '2' of type str.",
    ),
    "dilation_rate": (
        lambda: layers.conv2d(IMAGES, 2, 2, dilation_rate=0),
        "The dilation_rate must be an int of 1 or more, or 2 of them, got 0 of type int.",
    ),
    "padding": (
        lambda: layers.conv2d(IMAGES, 2, 2, padding="causal"),
        "The padding must be 'valid' or 'same', got 'causal' of type str.",
    ),
    "data_format": (
        lambda: layers.flatten(IMAGES, data_format="NHWC"),
        "The data_format must be 'channels_last' or 'channels_first', got 'NHWC' of type str.",
    ),
    "activation": (
        lambda: layers.dense(ROWS, 2, "relu"),  # type: ignore[arg-type]
        "The activation must be a function of the outputs, or None, got 'relu' of type str.",
    ),
    "activation_fn": (
        lambda: layers.layer_norm(ROWS, activation_fn="relu"),  # type: ignore[arg-type]
        "The activation_fn must be a function of the outputs, or None, got 'relu' of type str.",
    ),
    "axis": (
        lambda: layers.batch_normalization(ROWS, 2),
        "The axis must be an axis, or different axes, of inputs of rank 2, got 2 of type int.",
    ),
    "an axis twice": (
        lambda: layers.batch_normalization(ROWS, [1, -1]),
        "The axis must be an axis, or different axes, of inputs of rank 2, got [1, -1] of type "
        "list.",
    ),
    "begin_norm_axis": (
        lambda: layers.layer_norm(ROWS, begin_norm_axis=2),
        "The begin_norm_axis must be an axis of inputs of rank 2, got 2 of type int.",
    ),
    "begin_norm_axis with several axes": (
        lambda: layers.layer_norm(IMAGES, begin_norm_axis=[1, 2]),  # type: ignore[arg-type]
        "The begin_norm_axis must be an axis of inputs of rank 4, got [1, 2] of type list.",
    ),
    "a name and a scope": (
        lambda: layers.layer_norm(ROWS, scope="a", name="b"),
        "The name must be left out where there is a scope, got 'b' of type str.",
    ),
    "no begin_norm_axis": (
        lambda: layers.layer_norm(jnp.ones([2, 5, 3])),
        "The begin_norm_axis must be given for inputs of rank 3, got None.\n"
        "  asked:  layer_norm of float32[2,5,3]\n"
        "  fix:    begin_norm_axis=1 normalises each example as a whole, as tf.contrib.layers did "
        "by default; begin_norm_axis=-1 the features of each position, as transformers do.",
    ),
    "groups": (
        lambda: layers.group_norm(IMAGES, 3),
        "The groups must be a divisor of the 2 channels, got 3 of type int.",
    ),
    "axis of a group_norm": (
        lambda: layers.group_norm(IMAGES, 2, axis=0),
        "The axis must be another one than the batch's, got 0 of type int.",
    ),
    "inputs of an instance_norm": (
        lambda: layers.instance_norm(ROWS),
        "The inputs must be floats [batch, ..., channels], got float32[2,3].",
    ),
    "queries": (
        lambda: layers.multi_head_attention(ROWS, num_heads=1),
        "The queries must be floats [batch, time, features], got float32[2,3].",
    ),
    "num_heads": (
        lambda: layers.multi_head_attention(IMAGES[0], num_heads=3),
        "The num_heads must be a divisor of the 2 features where there is no head_size, got 3 of "
        "type int.",
    ),
    "keys of another batch": (
        lambda: layers.multi_head_attention(IMAGES[0], jnp.ones([3, 4, 2]), num_heads=1),
        "The keys must be of the queries' batch, 4, got float32[3,4,2].",
    ),
    "values of another time": (
        lambda: layers.multi_head_attention(IMAGES[0], IMAGES[0], jnp.ones([4, 5, 2]), num_heads=1),
        "The values must be of the keys' batch and time, [4, 4], got float32[4,5,2].",
    ),
    "values without keys": (
        lambda: layers.multi_head_attention(IMAGES[0], values=IMAGES[0], num_heads=1),
        "The values must be left out where there are no keys, got float32[4,4,2].",
    ),
    "keys with a cache": (
        lambda: layers.multi_head_attention(IMAGES[0], IMAGES[0], num_heads=1, cache_size=8),
        "The keys must be left out where there is a cache, of self-attention, got float32[4,4,2].",
    ),
    "cache_size": (
        lambda: layers.multi_head_attention(IMAGES[0], num_heads=1, cache_size=3),
        "The cache_size must be an int of 4 or more, got 3 of type int.",
    ),
    "mask of floats": (
        lambda: layers.multi_head_attention(IMAGES[0], num_heads=1, mask=jnp.ones([4, 4])),
        "The mask must be bools of 2 to 4 axes, got float32[4,4].",
    ),
    "mask of another size": (
        lambda: layers.multi_head_attention(IMAGES[0], num_heads=1, mask=jnp.ones([4, 5], bool)),
        "The mask must be bools [4, 4], [4, 4, 4] or [4, 1, 4, 4], or 1 in place of a size, got "
        "bool[4,5].",
    ),
    "is_causal": (
        lambda: layers.multi_head_attention(IMAGES[0], num_heads=1, is_causal=2),  # type: ignore[arg-type]
        "The is_causal must be True or False, got 2 of type int.",
    ),
    "dropout_rate": (
        lambda: layers.multi_head_attention(IMAGES[0], num_heads=1, dropout_rate=1.0),
        "The dropout_rate must be a scalar of at least 0 and less than 1, got 1.0 of type float.",
    ),
    "begin_params_axis": (
        lambda: layers.layer_norm(ROWS, begin_params_axis=-3),
        "The begin_params_axis must be an axis of inputs of rank 2, got -3 of type int.",
    ),
    "training": (
        lambda: layers.batch_normalization(ROWS, training=jnp.array(True)),  # type: ignore[arg-type]
        "The training must be True or False in Python, static under jit, as it decides what is traced, got bool[].\n"
        "  fix:    pass a Python value, which decides what is traced: training is an array here. Under "
        "jit or checkpoint name it in static_argnames.",
    ),
    "training of dropout": (
        lambda: layers.dropout(ROWS, training=2),  # type: ignore[arg-type]
        "The training must be True or False in Python, static under jit, as it decides what is traced, got 2 of type "
        "int.",
    ),
    "rate": (
        lambda: layers.dropout(ROWS, 1.0),
        "The rate must be a scalar of at least 0 and less than 1, got 1.0 of type float.",
    ),
    "rate that is no scalar": (
        lambda: layers.dropout(ROWS, ROWS),
        "The rate must be a scalar of at least 0 and less than 1, got float32[2,3].",
    ),
    "seed": (
        lambda: layers.dropout(ROWS, seed=3),  # type: ignore[arg-type]
        "The seed must be None, as the mask follows from rng, got 3 of type int.",
    ),
    "noise_shape": (
        lambda: layers.dropout(ROWS, noise_shape=[2, 2]),
        "The noise_shape must be None, or 1, None or the size for each of (2, 3), got [2, 2] of "
        "type list.",
    ),
    "ids": (
        lambda: layers.embedding(ROWS, 3, 3),
        "The ids must be integers of any shape, got float32[2,3].",
    ),
    "vocabulary": (
        lambda: layers.embedding(jnp.arange(3), 0, 3),
        "The vocabulary must be an int of 1 or more, got 0 of type int.",
    ),
    "params": (
        lambda: layers.embedding_lookup(jnp.array(1.0), jnp.arange(3)),
        "The params must be an array [rows, ...], got float32[].",
    ),
    "state": (
        lambda: layers.lstm(4)(ROWS, jnp.zeros([2, 4])),
        "The state must be 2 arrays [2, 4], got float32[2,4].",
    ),
    "state of another size": (
        lambda: layers.gru(4)(ROWS, jnp.zeros([2, 5])),
        "The state must be an array [2, 4], got float32[2,5].",
    ),
    "inputs of a cell": (
        lambda: layers.gru(4)(IMAGES, jnp.zeros([2, 4])),
        "The inputs must be floats [batch, features], got float32[1,4,4,2].",
    ),
    "cell": (
        lambda: layers.dynamic_rnn(None, jnp.ones([2, 5, 3])),  # type: ignore[arg-type]
        "The cell must be a function of inputs and state, got None of type NoneType.",
    ),
    "a cell without a zero_state": (
        lambda: layers.dynamic_rnn(max, jnp.ones([2, 5, 3])),
        "The cell must be given an initial_state, or have a zero_state, "
        "got <built-in function max> of type builtin_function_or_method.",
    ),
    "inputs of a network": (
        lambda: layers.dynamic_rnn(layers.gru(4), jnp.ones(3), time_major=True),
        "The inputs must be an array [time, batch, ...], got float32[3].",
    ),
    "sequence_length": (
        lambda: layers.dynamic_rnn(layers.gru(4), jnp.ones([2, 5, 3]), [5, 5, 5]),
        "The sequence_length must be integers [2], got [5, 5, 5] of type list.",
    ),
    "sequence_length of floats": (
        lambda: layers.dynamic_rnn(layers.gru(4), jnp.ones([2, 5, 3]), jnp.ones(2)),
        "The sequence_length must be integers [2], got float32[2].",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_cannot_be_used_are_refused_while_tracing(case: str) -> None:
    call, text = REFUSED[case]
    with pytest.raises(errors.ArgumentError) as caught:
        js.transform_with_state(call).init(0)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"name": "a//b"}, errors.InvalidNameError, "'a//b' is not a valid scope name"),
        ({"name": 3}, errors.InvalidNameError, "must be a string"),
        ({"reuse": "yes"}, errors.ReuseError, r"^The reuse parameter must be True or False"),
    ],
)
def test_names_and_reuse_are_checked_as_those_of_scopes(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        js.transform(lambda: layers.dense(ROWS, 2, **options)).init(0)

"""Arguments that a call has not: TF1's that ask for nothing, and which argument was meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import _others, errors

X = jnp.arange(6.0).reshape(2, 3)
LINE, IMAGE, VOLUME = (jnp.ones([1, *[4] * rank, 2]) for rank in (1, 2, 3))
TABLE, IDS = jnp.ones([3, 2]), jnp.array([0, 2])


def run(fn: Callable[[], Any]) -> Any:
    net = js.transform_with_state(fn)
    return net.init(0), net.apply(*net.init(0), 0)


def step(cell: Any) -> Any:
    return cell(X, cell.zero_state(2))


def rnn(**others: Any) -> Any:
    return js.layers.dynamic_rnn(js.layers.gru(2), X[None], **others)


# The arguments of TF 1.15's functions that the layers have not, at their defaults.
KERNEL = {"activity_regularizer": None, "_reuse": None, "_scope": None}
LAYERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "conv1d": (lambda **o: js.layers.conv1d(LINE, 2, 2, **o), KERNEL),
    "conv2d": (lambda **o: js.layers.conv2d(IMAGE, 2, 2, **o), KERNEL),
    "conv3d": (lambda **o: js.layers.conv3d(VOLUME, 2, 2, **o), KERNEL),
    "conv2d_transpose": (lambda **o: js.layers.conv2d_transpose(IMAGE, 2, 2, **o), KERNEL),
    "separable_conv2d": (lambda **o: js.layers.separable_conv2d(IMAGE, 2, 2, **o), KERNEL),
    "dense": (lambda **o: js.layers.dense(X, 2, **o), KERNEL),
    "batch_normalization": (
        lambda **o: js.layers.batch_normalization(X, training=True, **o),
        {
            "_reuse": False,
            "_scope": None,
            "renorm": False,
            "renorm_clipping": None,
            "renorm_momentum": 0.99,
            "fused": None,
            "virtual_batch_size": None,
            "adjustment": None,
        },
    ),
    "embedding_lookup": (
        lambda **o: js.layers.embedding_lookup(TABLE, IDS, **o),
        {"partition_strategy": "mod", "name": "words", "validate_indices": True, "max_norm": None},
    ),
    "lstm": (
        lambda **o: step(js.layers.lstm(2, **o)),
        {
            "use_peepholes": False,
            "cell_clip": None,
            "num_proj": None,
            "proj_clip": None,
            "num_unit_shards": None,
            "num_proj_shards": None,
            "state_is_tuple": True,
        },
    ),
    "dynamic_rnn": (rnn, {"parallel_iterations": 32, "swap_memory": True}),
    "layer_norm": (
        lambda **o: js.layers.layer_norm(X, **o),
        {"variables_collections": None, "outputs_collections": None},
    ),
    "get_variable": (
        lambda **o: js.get_variable("w", [2], **o),
        {
            "caching_device": None,
            "validate_shape": True,
            "use_resource": True,
            "synchronization": "ON_READ",
            "aggregation": "MEAN",
        },
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_tf1s_arguments_are_taken_where_they_ask_for_nothing(name: str) -> None:
    layer, defaults = LAYERS[name]
    with_them, without = run(lambda: layer(**defaults)), run(layer)
    chex.assert_trees_all_equal(with_them, without)


CELL = "write the cell, a function (inputs, state) -> (outputs, state), for dynamic_rnn."
MORE: dict[tuple[str, str], tuple[Any, str, str]] = {
    ("dense", "activity_regularizer"): (3, "None, got 3", "add the loss of the outputs to yours."),
    ("conv2d", "_reuse"): (True, "None or False, got True", "call it 'reuse', as it is here."),
    ("conv2d", "_scope"): ("a", "None, got 'a'", "call it 'name', as it is here."),
    ("batch_normalization", "renorm"): (
        True,
        "False, got True",
        "normalise by the batch, renorm=False.",
    ),
    ("batch_normalization", "virtual_batch_size"): (
        2,
        "None, got 2",
        "split the batch yourself, by jax.vmap.",
    ),
    ("batch_normalization", "adjustment"): (
        X,
        "None, got float32[2,3]",
        "scale and shift the outputs yourself.",
    ),
    ("embedding_lookup", "max_norm"): (
        1.0,
        "None, got 1.0",
        "scale the rows that are longer yourself.",
    ),
    ("lstm", "use_peepholes"): (True, "False, got True", CELL),
    ("lstm", "num_proj"): (4, "None, got 4", CELL),
    ("lstm", "state_is_tuple"): (
        False,
        "True, got False",
        "join and split c and h yourself.",
    ),
    ("layer_norm", "outputs_collections"): (
        "mine",
        "None, got 'mine'",
        "call jscope.add_to_collection(key, outputs).",
    ),
    ("get_variable", "validate_shape"): (
        False,
        "True, got False",
        "give the shape: that of a variable never changes.",
    ),
}


@pytest.mark.parametrize(("name", "argument"), MORE)
def test_where_they_ask_for_more_the_error_says_what_to_do(name: str, argument: str) -> None:
    value, first, fix = MORE[name, argument]
    with pytest.raises(errors.ArgumentError) as caught:
        run(lambda: LAYERS[name][0](**{argument: value}))
    assert str(caught.value) == f"{name} takes no {argument} but {first}.\n  fix:    {fix}"
    assert caught.value.argument == argument


def test_a_flag_that_asks_for_nothing_may_be_numpys() -> None:
    run(lambda: js.layers.batch_normalization(X, renorm=np.bool_(False)))
    with pytest.raises(errors.ArgumentError):
        run(lambda: js.layers.batch_normalization(X, renorm=np.bool_(True)))


RENAMED: dict[str, tuple[Callable[[], Any], str]] = {
    "units": (lambda: js.layers.dense(X, num_outputs=2), "num_outputs"),
    "filters": (lambda: js.layers.conv2d(IMAGE, num_outputs=2, kernel_size=2), "num_outputs"),
    "strides": (lambda: js.layers.conv2d(IMAGE, 2, 2, stride=2), "stride"),
    "dilation_rate": (lambda: js.layers.conv1d(LINE, 2, 2, rate=2), "rate"),
    "activation": (lambda: js.layers.dense(X, 2, activation_fn=None), "activation_fn"),
    "training": (lambda: js.layers.dropout(X, is_training=True), "is_training"),
    "name": (lambda: js.layers.dense(X, 2, scope="a"), "scope"),
    "scope": (lambda: rnn(name="a"), "name"),
    "momentum": (lambda: js.layers.batch_normalization(X, decay=0.9), "decay"),
    "pool_size": (lambda: js.layers.max_pooling2d(IMAGE, ksize=2, strides=2), "ksize"),
    "vocabulary": (lambda: js.layers.embedding(IDS, input_dim=3, units=2), "input_dim"),
    "partitioner": (lambda: js.get_variable("w", [2], partition=None), "partition"),
    "partitioner of a scope": (lambda: js.variable_scope("a", partition=None), "partition"),
    "units of lstm": (lambda: js.layers.lstm(num_units=2), "num_units"),
    "units of gru": (lambda: js.layers.gru(num_units=2), "num_units"),
}


@pytest.mark.parametrize("name", RENAMED)
def test_an_argument_of_another_name_is_refused_with_the_name_here(name: str) -> None:
    call, old = RENAMED[name]
    new = name.partition(" ")[0]
    with pytest.raises(errors.ArgumentError) as caught:
        run(call)
    first, fix = str(caught.value).split("\n")
    assert first.endswith(f"() got an unexpected keyword argument {old!r}")
    assert fix == f"  fix:    call it {new!r}, as it is here."


def test_other_arguments_are_refused_in_pythons_words() -> None:
    with pytest.raises(TypeError) as caught:
        run(lambda: js.layers.dropout(X, keep_prob=0.5))  # type: ignore[call-arg]
    assert str(caught.value) == (
        "dropout() got an unexpected keyword argument 'keep_prob'\n"
        "  fix:    call it 'rate', as it is here, which is 1 - keep_prob."
    )
    with pytest.raises(TypeError) as caught:
        run(lambda: js.get_variable("w", [2], regulariser=None))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "get_variable() got an unexpected keyword argument 'regulariser'\n  near:   'regularizer'"
    )
    with pytest.raises(TypeError) as caught:
        run(lambda: js.layers.max_pooling2d(IMAGE, 2, 2, renorm=False))  # type: ignore[call-arg]
    assert str(caught.value) == "max_pooling2d() got an unexpected keyword argument 'renorm'"


def test_no_argument_of_a_layer_is_hidden_by_one_of_tf1() -> None:
    for name in js.layers.__all__:
        layer = getattr(js.layers, name)
        if inspect.isfunction(layer):
            own = inspect.signature(layer).parameters
            assert not own.keys() & (_others._GONE.keys() - {"name"})
            assert not any(old in own and new in own for old, news in NEW for new in news)


NEW = [
    (old, news)
    for old, news in _others._NEW_NAMES.items()
    if old not in ("kernel_size", "name", "scope")
]

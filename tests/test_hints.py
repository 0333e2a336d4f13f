"""What an attribute error says of names that come from elsewhere."""

from __future__ import annotations

import operator
import re

import jax
import pytest

import jscope as js
import jscope.testing
from jscope import _hints

INSTEAD = {
    # TF1's names
    "jscope.Dense": "jscope.layers.dense",
    "jscope.layers.Dense": "jscope.layers.dense",
    "jscope.layers.Conv2DTranspose": "jscope.layers.conv2d_transpose",
    "jscope.layers.batch_norm": "jscope.layers.batch_normalization",
    "jscope.layers.fully_connected": "jscope.layers.dense",
    "jscope.layers.get_variable": "jscope.get_variable",
    "jscope.initializers.xavier": "jscope.initializers.glorot_uniform",
    "jscope.initializers.xavier_initializer": "jscope.initializers.glorot_uniform",
    "jscope.initializers.random_normal_initializer": "jscope.initializers.random_normal",
    "jscope.random_normal_initializer": "jscope.initializers.random_normal",
    "jscope.truncated_normal_initializer": "jscope.initializers.truncated_normal",
    "jscope.regularizers.l2_regularizer": "jscope.regularizers.l2",
    "jscope.orthogonal_regularizer": "jscope.regularizers.orthogonal",
    "jscope.constraints.MaxNorm": "jscope.constraints.max_norm",
    "jscope.getters.ExponentialMovingAverage": "jscope.getters.moving_average",
    "jscope.map_fn": "jscope.map",
    "jscope.trainable_variables": (
        "jscope.named_variables(scope, trainable=True) in a pass, jscope.tree.flatten(params) outside"
    ),
    # of arrays
    "jscope.concat": "jax.numpy.concat",
    "jscope.reshape": "jax.numpy.reshape",
    "jscope.float32": "jax.numpy.float32",
    "jscope.layers.concat": "jax.numpy.concat",
    "jscope.errors.zeros_like": "jax.numpy.zeros_like",
    "jscope.initializers.eye": "jax.numpy.eye",
    "jscope.zeros": "jax.numpy.zeros or jscope.initializers.zeros",
    "jscope.reduce_mean": "jax.numpy.mean",
    "jscope.is_nan": "jax.numpy.isnan",
    "jscope.clip_by_value": "jax.numpy.clip",
    "jscope.cast": "jscope.getters.cast or jax.numpy.astype",
    "jscope.layers.relu": "jax.nn.relu",
    "jscope.stop_gradient": "jax.lax.stop_gradient",
    "jscope.hessian": "jax.hessian",
    "jscope.tree.leaves": "jax.tree.leaves",
    "jscope.tree.tree_structure": "jax.tree.structure",
    # Haiku's and Flax's
    "jscope.Linear": "jscope.layers.dense",
    "jscope.layers.linear": "jscope.layers.dense",
    "jscope.layers.BatchNorm": "jscope.layers.batch_normalization",
    "jscope.get_parameter": "jscope.get_variable",
    "jscope.get_state": "jscope.get_variable(name, shape, initializer=..., trainable=False)",
    "jscope.set_state": "jscope.assign(name, value)",
    "jscope.make_rng": "jscope.next_rng_key",
    "jscope.Module": "a plain function under jscope.variable_scope",
    "jscope.initializers.RandomNormal": "jscope.initializers.random_normal",
    "jscope.initializers.kaiming_uniform": "jscope.initializers.he_uniform",
}


def error_of(path: str) -> AttributeError:
    module, _, name = path.rpartition(".")
    with pytest.raises(AttributeError) as caught:
        operator.attrgetter(path.removeprefix("jscope."))(js)
    text = f"module {module!r} has no attribute {name!r}"
    assert str(caught.value).startswith(text)
    assert caught.value.name == name
    return caught.value


@pytest.mark.parametrize("path", INSTEAD)
def test_names_from_elsewhere_tell_what_is_here_instead(path: str) -> None:
    assert str(error_of(path)).partition(": ")[2] == f"here it is {INSTEAD[path]}"


MODULES = [js, js.layers, js.initializers, js.getters, js.regularizers, js.constraints, js.tree]
MODULES += [js.errors, jscope.testing]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_module_tells_of_near_names(module: object) -> None:
    name = str(module.__all__[0])
    near = name[:-1] + name[-2:]
    assert str(error_of(f"{module.__name__}.{near}")).endswith(f". Did you mean: {name!r}?")
    assert not hasattr(module, "__wrapped__")


def test_a_name_that_is_near_to_nothing_gets_no_guess() -> None:
    for path in ("jscope.concatt", "jscope.getters.bf16"):
        assert str(error_of(path)).endswith(repr(path.rpartition(".")[2]))


def test_a_name_of_jax_numpy_is_never_taken_for_another() -> None:
    for name in ("concatenate", "split", "squeeze", "dot", "add", "round", "scan", "swapaxes"):
        if not hasattr(js, name):
            assert str(error_of(f"jscope.{name}")).endswith(f"here it is jax.numpy.{name}")


def test_what_hints_point_to_exists() -> None:
    texts = [*_hints._INSTEAD.values(), *_hints._SPELLINGS]
    paths = {path for text in texts for path in re.findall(r"jscope\.([\w.]+)", text)}
    assert len(paths) > 40
    for path in paths:
        operator.attrgetter(path)(js)
    for path in _hints._SPELLINGS:
        if path.startswith("jax."):
            operator.attrgetter(path.removeprefix("jax."))(jax)

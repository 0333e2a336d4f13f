"""Weights of Haiku, Flax and PyTorch: the same network, here and there, computes the same."""

from __future__ import annotations

import functools
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import chex
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from child import output_of
from flax import nnx
from safetensors.numpy import load_file

import jscope as js
from jscope import errors
from jscope.io._checkpoint import Checkpoint, Tensor

DATA = Path(__file__).parent / "data"
X = jnp.sin(jnp.arange(10.0)).reshape(2, 5)


@pytest.fixture(autouse=True)
def _as_users_have_it() -> Iterator[None]:
    """Haiku and Flax add vectors to matrices."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def stirred(tree: Any) -> Any:
    """The tree with other values, so that zeros and ones hide nothing; all positive."""
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(
        structure,
        [
            leaf
            + 0.1 * (n + 1)
            + 0.01 * jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
            else leaf
            for n, leaf in enumerate(leaves)
        ],
    )


def test_importing_interop_imports_no_other_library() -> None:
    code = (
        "import sys, jscope; jscope.interop.from_torch; jscope.interop.from_nnx({}); "
        "print({'flax', 'haiku', 'torch', 'numpyro'} & set(sys.modules))"
    )
    said = output_of("-c", code)
    assert said.strip() == "set()"


# Haiku.


def haiku_net(x: jax.Array) -> jax.Array:
    """With names of all kinds: of a method, of the constructor, of the root."""

    class Coder(hk.Module):
        def __init__(self) -> None:
            super().__init__(name="coder")
            self.first = hk.Linear(4, name="first")

        def encode(self, x: jax.Array) -> jax.Array:
            return hk.Linear(3, name="last")(jax.nn.relu(self.first(x)))

    x = Coder().encode(x)
    x = hk.nets.MLP([3, 2])(x)
    x = hk.BatchNorm(True, True, 0.9, name="norm")(x, is_training=hk.running_init())
    return x * hk.get_parameter("scale", [2], init=jnp.ones)


def our_haiku_net(x: jax.Array) -> jax.Array:
    def linear(x: jax.Array, units: int, name: str) -> jax.Array:
        with js.variable_scope(name):
            w = js.get_variable("w", [x.shape[-1], units])
            return x @ w + js.get_variable("b", [units])

    def average(name: str) -> jax.Array:
        with js.variable_scope(name):
            js.get_variable("counter", [], jnp.int32, jax.nn.initializers.zeros, trainable=False)
            js.get_variable("hidden", [1, 2], trainable=False)
            return js.get_variable("average", [1, 2], trainable=False)

    with js.variable_scope("coder"):
        x = linear(jax.nn.relu(linear(x, 4, "first")), 3, "last")
    with js.variable_scope("mlp"):
        x = linear(jax.nn.relu(linear(x, 3, "linear_0")), 2, "linear_1")
    with js.variable_scope("norm"):
        x = (x - average("mean_ema")) * jax.lax.rsqrt(average("var_ema") + 1e-5)
        x = x * js.get_variable("scale", [1, 2]) + js.get_variable("offset", [1, 2])
    return x * js.get_variable("scale", [2])


@functools.cache
def haiku_weights() -> tuple[Any, Any]:
    net = hk.transform_with_state(haiku_net)
    params, state = net.init(jax.random.key(0), X)
    assert "coder/~encode/last" in params
    assert "mlp/~/linear_0" in params
    assert "~" in params
    return stirred(params), stirred(state)


def test_a_net_computes_with_haikus_weights_what_haiku_computes() -> None:
    params, state = haiku_weights()
    net = js.transform_with_state(our_haiku_net)
    ours, our_state = js.interop.from_haiku(params), js.interop.from_haiku(state)
    js.check(ours, net.specs(X))
    js.check(our_state, net.specs(X).state())
    wanted, _ = hk.transform_with_state(haiku_net).apply(params, state, None, X)
    close(net.apply(ours, our_state, None, X)[0], wanted)


def test_to_haiku_is_the_inverse_of_from_haiku() -> None:
    for theirs in haiku_weights():
        again = js.interop.to_haiku(js.interop.from_haiku(theirs), like=theirs)
        chex.assert_trees_all_equal(again, theirs)
        assert type(again) is dict


def test_trained_params_go_back_to_haiku() -> None:
    net = js.transform_with_state(our_haiku_net)
    params, state = net.init(1, X)
    haiku = hk.transform_with_state(haiku_net)
    like, like_state = jax.eval_shape(haiku.init, jax.random.key(0), X)
    theirs = js.interop.to_haiku(params, like=like)
    their_state = js.interop.to_haiku(state, like=like_state)
    out, _ = haiku.apply(theirs, their_state, None, X)
    close(out, net.apply(params, state, None, X)[0])


def test_two_names_of_haiku_that_meet_are_refused() -> None:
    theirs = {"a/~/b": {"w": X}, "a/b": {"w": X}}
    with pytest.raises(errors.NameClashError) as caught:
        js.interop.from_haiku(theirs)
    assert str(caught.value) == (
        "Two variables would have the name a/b/w.\n"
        "  first:  'w' of module 'a/~/b'\n"
        "  again:  'w' of module 'a/b'\n"
        "  fix:    rename or leave out one of the two."
    )
    with pytest.raises(errors.NameClashError, match="Two variables would have the name a/b/w"):
        js.interop.to_haiku({"a": {"b": {"w": X}}}, like=theirs)
    with pytest.raises(errors.NameClashError, match="a/b would be a variable and also the scope"):
        js.interop.from_haiku({"a": {"b": X}, "a/~f/b": {"w": X}})


def test_all_that_differs_from_haikus_params_is_told_at_once() -> None:
    like = {"mlp/~/linear_0": {"w": X, "b": X[0]}, "mlp/~/linear_1": {"w": X}}
    params = {"mlp": {"linear_0": {"w": X.T, "b": X[0]}, "linear_2": {"w": X}}}
    with pytest.raises(errors.CheckError) as caught:
        js.interop.to_haiku(params, like=like)
    assert caught.value.missing == ("mlp/linear_1/w",)
    assert caught.value.unexpected == ("mlp/linear_2/w",)
    assert caught.value.mismatched == {"mlp/linear_0/w": ("float32[2,5]", "float32[5,2]")}


HAIKU = "  fix:    pass what Haiku's init returned: {'mlp/~/linear_0': {'w': array}}."


@pytest.mark.parametrize(
    ("theirs", "text"),
    [
        ([1], "Haiku's params must be a mapping, got list."),
        ({"a": X}, "What Haiku's params hold under 'a' must be a mapping, got ArrayImpl."),
        (
            {"a": {"b": {"w": X}}},
            "Haiku's params have text for names and an array for each, got 'b' of module 'a' with "
            "dict.",
        ),
        (
            {"a": {1: X}},
            "Haiku's params have text for names and an array for each, got 1 of module 'a' with "
            "ArrayImpl.",
        ),
    ],
)
def test_what_is_no_tree_of_haikus_is_refused(theirs: Any, text: str) -> None:
    with pytest.raises(errors.TreeTypeError) as caught:
        js.interop.from_haiku(theirs)
    assert str(caught.value) == f"{text}\n{HAIKU}"


def test_a_name_that_cannot_be_one_here_is_refused() -> None:
    for call in (
        lambda: js.interop.from_haiku({"a b": {"w": X}}),
        lambda: js.interop.from_nnx({"a b": {"w": X}}),
        lambda: js.interop.from_torch({"a b.w": X}),
    ):
        with pytest.raises(errors.InvalidNameError, match=r"^'a b/w' is not a valid variable name"):
            call()


# Flax.


def our_dense_net(x: jax.Array, first: str, norm: str, last: str) -> jax.Array:
    def norm_of(x: jax.Array) -> jax.Array:
        scale, bias = js.get_variable("scale", [3]), js.get_variable("bias", [3])
        mean = js.get_variable("mean", [3], trainable=False)
        var = js.get_variable("var", [3], trainable=False)
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * scale + bias

    x = jax.nn.relu(js.layers.dense(x, 3, name=first))
    with js.variable_scope(norm):
        x = norm_of(x)
    return js.layers.dense(x, 2, name=last)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.BatchNorm(use_running_average=True)(nn.relu(nn.Dense(3)(x)))
        return nn.Dense(2)(x)


def test_linens_trees_are_params_as_they_are() -> None:
    variables = stirred(Linen().init(jax.random.key(0), X))
    params, state = js.Params(variables["params"]), js.Params(variables["batch_stats"])
    net = js.transform_with_state(
        functools.partial(our_dense_net, first="Dense_0", norm="BatchNorm_0", last="Dense_1")
    )
    js.check(params, net.specs(X))
    js.check(state, net.specs(X).state())
    close(net.apply(params, state, None, X)[0], Linen().apply(variables, X))
    chex.assert_trees_all_equal(params.to_dict(), variables["params"])


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(5, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)])
        self.norm = nnx.BatchNorm(3, use_running_average=True, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm(nnx.relu(self.layers[0](x)))
        return self.layers[1](self.dropout(x))


@functools.cache
def nnx_module() -> Nnx:
    module = Nnx(nnx.Rngs(0))
    nnx.update(module, stirred(nnx.state(module, (nnx.Param, nnx.BatchStat))))
    return module


def test_a_net_computes_with_the_state_of_nnx_what_nnx_computes() -> None:
    module = nnx_module()
    params = js.interop.from_nnx(nnx.state(module, nnx.Param))
    state = js.interop.from_nnx(nnx.state(module, nnx.BatchStat))
    net = js.transform_with_state(
        functools.partial(our_dense_net, first="layers/0", norm="norm", last="layers/1")
    )
    js.check(params, net.specs(X))
    js.check(state, net.specs(X).state())
    close(net.apply(params, state, None, X)[0], module(X))


def test_a_state_of_nnx_its_pure_dict_and_its_shapes_have_the_same_names() -> None:
    state = nnx.state(nnx_module())
    params = js.interop.from_nnx(state)
    assert list(js.tree.flatten(params)) == [
        *("dropout/rngs/count", "dropout/rngs/key"),
        *("layers/0/bias", "layers/0/kernel", "layers/1/bias", "layers/1/kernel"),
        *("norm/bias", "norm/mean", "norm/scale", "norm/var"),
    ]
    chex.assert_trees_all_equal(params, js.interop.from_nnx(nnx.to_pure_dict(state)))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
    assert jax.dtypes.issubdtype(params["dropout"]["rngs"]["key"].dtype, jax.dtypes.prng_key)
    shapes = js.interop.from_nnx(nnx.eval_shape(lambda: nnx.state(Nnx(nnx.Rngs(0)))))
    assert isinstance(shapes["norm"]["mean"], jax.ShapeDtypeStruct)
    js.check(params, shapes)


def test_plain_arrays_and_unused_scopes_of_nnx_do_no_harm() -> None:
    found = js.interop.from_nnx({"a": {0: {}, 1: X}, "w": np.ones(2)})
    assert list(js.tree.flatten(found)) == ["a/1", "w"]


class OldVariable:
    """As Flax had them before 0.12: ``VariableState``, with a value and no ``get_value``."""

    __module__ = "flax.nnx.variablelib"

    def __init__(self, value: Any) -> None:
        self.value = value


def test_states_of_nnx_before_flax_0_12_are_understood() -> None:
    found = js.interop.from_nnx({"w": OldVariable(X)})
    assert found["w"] is X


MODULE = (
    "from_nnx takes the state of a module, got the {} itself.\n"
    "  fix:    pass nnx.state(module), or nnx.state(module, nnx.Param) for its params alone."
)


def test_a_module_of_nnx_and_what_is_no_state_are_refused() -> None:
    for given, kind in ((nnx_module(), "Nnx"), ({"a": nnx_module()}, "Nnx")):
        with pytest.raises(errors.TreeTypeError) as caught:
            js.interop.from_nnx(given)
        assert str(caught.value) == MODULE.format(kind)
    fix = "  fix:    pass nnx.state(module), or its pure dict"
    with pytest.raises(
        errors.TreeTypeError, match=re.escape(f"must be a mapping, got list.\n{fix}")
    ):
        js.interop.from_nnx([X])
    for key in (("a", "b"), True, None):
        with pytest.raises(errors.TreeTypeError) as caught:
            js.interop.from_nnx({key: X})
        assert str(caught.value) == (
            f"A key of a state of NNX is text or an integer, got {key!r}.\n{fix}, which is nested."
        )


def test_an_integer_key_of_nnx_that_meets_text_is_refused() -> None:
    with pytest.raises(errors.NameClashError) as caught:
        js.interop.from_nnx({"a": {0: X, "0": X}})
    assert str(caught.value) == (
        "Two variables would have the name a/0.\n"
        "  first:  the path ('a', 0)\n"
        "  again:  the path ('a', '0')\n"
        "  fix:    rename or leave out one of the two."
    )


# PyTorch.


@functools.cache
def torch_outputs() -> Any:
    return dict(np.load(DATA / "torch.npz"))


def torch_weights() -> dict[str, np.ndarray]:
    return load_file(DATA / "torch.safetensors")


KERNELS = ["encoder/0/weight", re.compile("^(conv.|grouped|up)/weight")]
THEIR_NAMES = {
    "table/weight": "table/embeddings",
    "encoder/0": "encoder/dense",
    "encoder/1/weight": "encoder/norm/gamma",
    "encoder/1/bias": "encoder/norm/beta",
    "norm/weight": "norm/gamma",
    "norm/bias": "norm/beta",
    "norm/running_mean": "norm/moving_mean",
    "norm/running_var": "norm/moving_variance",
}


def our_torch_net(ids: jax.Array) -> dict[str, jax.Array]:
    """The net of ``record_torch.py``, channels last."""
    out = {"table": js.layers.embedding(ids, 11, 8, name="table")}
    with js.variable_scope("encoder"):
        hidden = js.layers.dense(out["table"], 6, name="dense")
        out["encoder"] = js.layers.layer_norm(hidden, begin_norm_axis=-1, epsilon=1e-5, name="norm")
    out["conv1"] = js.layers.conv1d(out["encoder"], 5, 3, name="conv1")
    image = out["conv1"][:, :, None] * jnp.arange(1.0, 6.0)[:, None]
    out["conv2"] = js.layers.conv2d(image, 4, (3, 2), name="conv2")
    with js.variable_scope("grouped"):
        kernel = js.get_variable("kernel", [2, 1, 2, 6])
        layout = ("NHWC", "HWIO", "NHWC")
        image = jax.lax.conv_general_dilated(
            out["conv2"], kernel, (1, 1), "VALID", dimension_numbers=layout, feature_group_count=2
        )
        out["grouped"] = image + js.get_variable("bias", [6])
    volume = jnp.stack([out["grouped"], -out["grouped"]], 1)
    out["conv3"] = js.layers.conv3d(volume, 7, (1, 2, 3), name="conv3")
    out["up"] = js.layers.conv2d_transpose(out["conv3"][:, 0], 3, (3, 2), 2, name="up")
    out["norm"] = js.layers.batch_normalization(out["up"], epsilon=1e-5, name="norm")
    return out


def test_kernels_may_be_meant_with_dots_as_pytorch_names_them() -> None:
    weights = {f"layer.{i}.{kind}.weight": np.ones([2, 3]) for i in (0, 1) for kind in "ab"}
    for pattern in ("layer.*.a.weight", ["layer.0.a", "layer.1.a.weight"], "layer/*/a/weight"):
        found = js.tree.flatten(js.interop.from_torch(weights, pattern))
        assert {name: x.shape for name, x in found.items()} == {
            f"layer/{i}/{rest}": shape
            for i in (0, 1)
            for rest, shape in (("a/kernel", (3, 2)), ("b/weight", (2, 3)))
        }


def test_layers_compute_with_pytorchs_weights_what_pytorch_computes() -> None:
    found = js.interop.from_torch(torch_weights(), KERNELS)
    assert found["table"]["weight"].dtype == jnp.bfloat16
    found = js.tree.rename(found, THEIR_NAMES)
    net = js.transform_with_state(our_torch_net)
    ids = jnp.asarray(torch_outputs()["ids"], jnp.int32)
    specs = net.specs(ids)
    floats = jax.tree.map(lambda x: x.astype(jnp.float32), found)
    state, params, rest = js.tree.partition(
        floats, list(js.tree.flatten(specs.state())), list(js.tree.flatten(specs.params()))
    )
    assert list(js.tree.flatten(rest)) == ["norm/num_batches_tracked"]
    js.check(params, specs)
    outputs, _ = net.apply(params, state, None, ids)
    for name, output in outputs.items():
        wanted = torch_outputs()[name]
        channels_last = wanted if name in ("table", "encoder") else np.moveaxis(wanted, 1, -1)
        np.testing.assert_allclose(output, channels_last, rtol=1e-4, atol=1e-5, err_msg=name)


def test_only_what_the_patterns_take_is_transposed_and_renamed() -> None:
    weights = torch_weights()
    plain = js.interop.from_torch(weights)
    assert sorted(js.tree.flatten(plain)) == sorted(name.replace(".", "/") for name in weights)
    for name, leaf in js.tree.flatten(plain).items():
        np.testing.assert_array_equal(leaf, weights[name.replace("/", ".")])
    found = js.tree.flatten(js.interop.from_torch(weights, KERNELS))
    changed = {"encoder/0", "conv1", "conv2", "grouped", "conv3", "up"}
    assert {name.removesuffix("/kernel") for name in found if name.endswith("kernel")} == changed
    shapes = {name: found[f"{name}/kernel"].shape for name in changed}
    assert shapes == {
        "encoder/0": (8, 6),
        "conv1": (3, 6, 5),
        "conv2": (3, 2, 5, 4),
        "grouped": (2, 1, 2, 6),
        "conv3": (1, 2, 3, 6, 7),
        "up": (3, 2, 3, 7),
    }
    assert found["table/weight"].shape == (11, 8)


def test_what_jax_cannot_hold_stays_an_array_of_numpy() -> None:
    wide = {"i": np.array([2**40]), "f": np.array([[np.pi, 0.1]]), "w.weight": np.full([2, 3], 0.1)}
    found = js.interop.from_torch(wide, "w/weight")
    for name in ("i", "f"):
        assert type(found[name]) is np.ndarray
        assert found[name].dtype == wide[name].dtype
        np.testing.assert_array_equal(found[name], wide[name])
        assert not np.shares_memory(found[name], wide[name])
    assert found["w"]["kernel"].shape == (3, 2)
    assert found["w"]["kernel"].dtype == np.float64
    with jax.enable_x64(True):
        found = js.interop.from_torch(wide)
    assert isinstance(found["i"], jax.Array)
    assert int(found["i"][0]) == 2**40


def test_the_arrays_are_copies() -> None:
    weights = np.zeros([64, 64], np.float32)
    found = js.interop.from_torch({"a.weight": weights, "b.weight": weights}, "b/weight")
    weights[:] = 7.0
    assert not np.any(found["a"]["weight"])
    assert not np.any(found["b"]["kernel"])


def test_the_tensors_of_a_file_are_read_one_at_a_time_and_only_once_all_names_are_right() -> None:
    reads: list[str] = []

    def tensor(name: str) -> Tensor:
        def read() -> np.ndarray:
            reads.append(name)
            return np.ones([2, 3], np.float32)

        return Tensor((2, 3), np.dtype(np.float32), read)

    def checkpoint(*names: str) -> Checkpoint:
        return Checkpoint("a", "safetensors", {name: tensor(name) for name in names})

    def is_wide(name: str, leaf: Any) -> bool:
        return name.startswith("b") and leaf.shape == (2, 3)

    found = js.interop.from_torch(checkpoint("a.weight", "b.weight"), is_wide)
    assert reads == ["a.weight", "b.weight"]
    assert found["b"]["kernel"].shape == (3, 2)
    for names in (("c", "c.d"), ("c", "c d")):
        with pytest.raises((errors.NameClashError, errors.InvalidNameError)):
            js.interop.from_torch(checkpoint(*names))
    with pytest.raises(errors.EmptySelectionError):
        js.interop.from_torch(checkpoint("c"), "d/weight")
    assert len(reads) == 2


class Lazy(Mapping[str, np.ndarray]):
    """A mapping of a user's own."""

    def __getitem__(self, name: str) -> np.ndarray:
        return np.ones([2, 3], np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(["a.weight"])

    def __len__(self) -> int:
        return 1


def test_any_mapping_will_do() -> None:
    for given in (Lazy(), {"a.weight": X[:, :3]}, {"a/weight": np.float32(X[:, :3])}):
        assert js.interop.from_torch(given, "a/weight")["a"]["kernel"].shape == (3, 2)
    assert js.interop.from_torch({"a": np.float32(2.0)})["a"].shape == ()
    assert js.interop.from_torch({}) == {}


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a path": (
        lambda: js.interop.from_torch("model.safetensors"),  # type: ignore[arg-type]
        errors.TreeTypeError,
        "The state_dict must be a mapping, got str.\n  fix:    open the file: jscope.io.open(path).",
    ),
    "a pattern that takes nothing": (
        lambda: js.interop.from_torch({"a.weight": X}, ["a/weight", "b/weight"]),
        errors.EmptySelectionError,
        "The pattern 'b/weight' selects nothing among the tree's 1 name.\n"
        "  near:   'a/weight'\n"
        "  fix:    a path is matched from the root, by whole components.",
    ),
    "a kernel of another name": (
        lambda: js.interop.from_torch({"a.weight": X, "a.bias": X[0], "a.in_weight": X}, "a"),
        errors.ArgumentError,
        "The pattern of kernels selects what is not called 'weight': 'a/bias', 'a/in_weight'.\n"
        "  fix:    narrow it to kernels, as '**/query/weight'.",
    ),
    "kernels of no layer": (
        lambda: js.interop.from_torch(
            {"a.weight": X, "b.weight": X[0], "c.weight": np.ones([1] * 6)}, "**/weight"
        ),
        errors.ArgumentError,
        "The pattern of kernels selects what is not of two to five axes: 'b/weight' (5,), "
        "'c/weight' (1, 1, 1, 1, 1, 1).\n"
        "  fix:    leave out what is no kernel: the weight of a norm is its scale.",
    ),
    "a variable that is a scope": (
        lambda: js.interop.from_torch({"a": X, "a.b": X}),
        errors.NameClashError,
        "Variable a/b cannot be made: a would be a variable and also the scope of a/b.\n"
        "  first:  'a'\n"
        "  again:  'a.b'\n"
        "  fix:    rename or leave out one of the two.",
    ),
    "a kernel that is there": (
        lambda: js.interop.from_torch({"a.weight": X, "a.kernel": X}, "a/weight"),
        errors.NameClashError,
        "Two variables would have the name a/kernel.\n"
        "  first:  'a.weight'\n"
        "  again:  'a.kernel'\n"
        "  fix:    rename or leave out one of the two.",
    ),
    "no mapping": (
        lambda: js.interop.from_torch([X]),
        errors.TreeTypeError,
        "The state_dict must be a mapping, got list.\n  fix:    pass module.state_dict().",
    ),
    "a name that is no text": (
        lambda: js.interop.from_torch({1: X}),
        errors.TreeTypeError,
        "The names of a state_dict are text, got 1.\n  fix:    pass module.state_dict().",
    ),
    "what is no tensor": (
        lambda: js.interop.from_torch({"model": {"w": X}}),
        errors.TreeTypeError,
        "The value of 'model' is no tensor or array of numbers: dict.\n"
        "  fix:    pass the state_dict itself, as checkpoint['model'], and leave out what is no "
        "tensor.",
    ),
    "an array of text": (
        lambda: js.interop.from_torch({"w": np.array(["a"])}),
        errors.TreeTypeError,
        "The value of 'w' is no tensor or array of numbers: ndarray of <U1.\n"
        "  fix:    pass the state_dict itself, as checkpoint['model'], and leave out what is no "
        "tensor.",
    ),
    "an array of records": (
        lambda: js.interop.from_torch({"w": np.zeros(1, [("a", "f4")])}),
        errors.TreeTypeError,
        "The value of 'w' is no tensor or array of numbers: ndarray of [('a', '<f4')].\n"
        "  fix:    pass the state_dict itself, as checkpoint['model'], and leave out what is no "
        "tensor.",
    ),
    "a shape": (
        lambda: js.interop.from_torch({"w": jax.ShapeDtypeStruct([2], jnp.float32)}),
        errors.TreeTypeError,
        "The value of 'w' is no tensor or array of numbers: ShapeDtypeStruct of float32.\n"
        "  fix:    pass the state_dict itself, as checkpoint['model'], and leave out what is no "
        "tensor.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_from_torch_refuses(name: str) -> None:
    call, kind, text = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text
    assert str(pickle.loads(pickle.dumps(caught.value))) == text

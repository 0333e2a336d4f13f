"""Ready getters put under code that knows nothing of them; arg_scope."""

from __future__ import annotations

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import errors

X = jnp.ones([2, 3])
getters = js.getters


def dense(x: jax.Array, units: int) -> jax.Array:
    """Somebody else's layer."""
    with js.variable_scope(None, "dense"):
        kernel = js.get_variable("kernel", [x.shape[-1], units])
        bias = js.get_variable("bias", [units], initializer=jax.nn.initializers.zeros)
        steps = js.get_variable("steps", initializer=0)
    del steps
    return jnp.dot(x, kernel.astype(x.dtype)) + bias.astype(x.dtype)[None]


def mlp(x: jax.Array) -> jax.Array:
    return dense(jnp.tanh(dense(x, 4)), 2)


def under(getter: Any, fn: Any = mlp) -> Any:
    return js.transform(js.variable_scope("net", custom_getter=getter)(fn))


PLAIN = under(None)


@pytest.fixture(scope="module")
def params() -> Any:
    return PLAIN.init(0, X)


def test_cast_stores_one_dtype_and_computes_in_another(params: Any) -> None:
    seen: list[Any] = []

    def fn(x: jax.Array) -> jax.Array:
        w = js.get_variable("w", [3], jnp.bfloat16)
        n = js.get_variable("n", initializer=1)
        seen.append((w.dtype, n.dtype))
        return x * w[None].astype(x.dtype)

    net = under(getters.cast(jnp.bfloat16), fn)
    stored = net.init(0, X)["net"]
    assert (stored["w"].dtype, stored["n"].dtype) == (jnp.float32, jnp.int32)
    assert set(seen) == {(jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.int32))}
    cast = under(getters.cast(jnp.bfloat16))
    chex.assert_trees_all_equal(cast.init(0, X), params)
    chex.assert_trees_all_close(
        cast.apply(params, None, X), PLAIN.apply(params, None, X), rtol=0.05
    )


def test_freeze_stops_the_gradients_of_what_it_is_given(params: Any) -> None:
    def gradient(getter: Any) -> Any:
        net = under(getter)
        return jax.grad(lambda p: net.apply(p, None, X).sum(), allow_int=True)(params)["net"]

    plain = gradient(None)
    for getter, frozen in (
        (getters.freeze(), ["dense", "dense_1"]),
        (getters.freeze("net/dense"), ["dense"]),
        (getters.freeze("**/kernel"), []),
    ):
        got = gradient(getter)
        for name in ("dense", "dense_1"):
            kernel = got[name]["kernel"]
            still = name in frozen or (getter is not None and not frozen)
            wanted = jnp.zeros_like(kernel) if still else plain[name]["kernel"]
            chex.assert_trees_all_close(kernel, wanted)
        if not frozen:
            chex.assert_trees_all_close(got["dense"]["bias"], plain["dense"]["bias"])


def test_rename_speaks_the_dialect_of_slim() -> None:
    slim = getters.rename(
        {r"/kernel$": "/weights", r"/bias$": "/biases", r"dense": "fully_connected"}
    )
    specs = under(slim).specs(X)
    assert list(specs) == [
        "net/fully_connected/weights",
        "net/fully_connected/biases",
        "net/fully_connected/steps",
        "net/fully_connected_1/weights",
        "net/fully_connected_1/biases",
        "net/fully_connected_1/steps",
    ]


def test_moving_average_reads_averages(params: Any) -> None:
    averages = jax.tree.map(lambda leaf: leaf * 2, params)
    net = under(getters.moving_average(averages))
    chex.assert_trees_all_equal(net.apply(params, None, X), PLAIN.apply(averages, None, X))
    part = under(getters.moving_average({"net": {"dense": averages["net"]["dense"]}}))
    mixed = {"net": {**params["net"], "dense": averages["net"]["dense"]}}
    chex.assert_trees_all_equal(part.apply(params, None, X), PLAIN.apply(mixed, None, X))
    slopes = jax.grad(lambda p: part.apply(p, None, X).sum(), allow_int=True)(params)["net"]
    assert not slopes["dense"]["kernel"].any()  # an average in its place has no gradient for it
    assert slopes["dense_1"]["kernel"].any()
    with pytest.raises(
        errors.ArgumentError, match=r"average of net/dense/bias must be of shape \(4,"
    ):
        under(getters.moving_average({"net/dense/bias": np.zeros(3)})).apply(params, None, X)


def test_initial_values_replace_initializers_and_nothing_else(params: Any) -> None:
    given = {"net/dense/kernel": np.full([3, 4], 0.5), "net/dense/steps": np.int64(7)}
    net = under(getters.initial_values(given))
    got = net.init(0, X)["net"]
    assert got["dense"]["kernel"].dtype == jnp.float32
    chex.assert_trees_all_equal(got["dense"]["kernel"], jnp.full([3, 4], 0.5))
    assert got["dense"]["steps"] == 7
    chex.assert_trees_all_equal(got["dense_1"], params["net"]["dense_1"])
    chex.assert_trees_all_equal(net.apply(params, None, X), PLAIN.apply(params, None, X))
    with pytest.raises(errors.InitializerError, match=r"shape \(3, 4\) and the constant has shape"):
        under(getters.initial_values({"net/dense/kernel": np.zeros(3)})).init(0, X)
    with pytest.raises(errors.VariableNotFoundError) as caught:
        under(getters.initial_values(given, strict=True)).init(0, X)
    assert str(caught.value) == (
        "Variable net/dense/bias does not exist in the values given to initial_values.\n"
        "  near:   'net/dense/steps', 'net/dense/kernel'\n"
        "  fix:    give a value for it, or leave strict out."
    )


def test_weight_normalization_splits_matrices() -> None:
    net = under(getters.weight_normalization("**/kernel"))
    params = net.init(0, X)
    assert list(params["net"]["dense"]) == ["kernel_v", "kernel_g", "bias", "steps"]
    v, g = params["net"]["dense"]["kernel_v"], jnp.arange(4.0)
    params = js.tree.unflatten({**js.tree.flatten(params), "net/dense/kernel_g": g})

    def first(x: jax.Array) -> jax.Array:
        return dense(x, 4)

    out = under(getters.weight_normalization(), first).apply(params, None, jnp.eye(3))
    chex.assert_trees_all_close(
        out, v / jnp.linalg.norm(v, axis=0, keepdims=True) * g[None], rtol=1e-5
    )


def test_low_rank_changes_nothing_at_first_and_trains_only_the_adapters(params: Any) -> None:
    net = under(getters.low_rank(2, scale=4.0))
    adapted = net.init(0, X)
    flat = js.tree.flatten(adapted)
    assert {name: leaf.shape for name, leaf in flat.items() if name.endswith(("_a", "_b"))} == {
        "net/dense/kernel_a": (3, 2),
        "net/dense/kernel_b": (2, 4),
        "net/dense_1/kernel_a": (4, 2),
        "net/dense_1/kernel_b": (2, 2),
    }
    chex.assert_trees_all_equal(net.apply(adapted, None, X), PLAIN.apply(params, None, X))
    chex.assert_trees_all_equal(
        {name: flat[name] for name in js.tree.flatten(params)}, js.tree.flatten(params)
    )
    moved = {k: leaf + 1 if k.endswith("_b") else leaf for k, leaf in flat.items()}
    gradient = jax.grad(lambda p: net.apply(p, None, X).sum(), allow_int=True)(
        js.tree.unflatten(moved)
    )
    for name, leaf in js.tree.flatten(gradient).items():
        if name.endswith(("_a", "_b")):
            assert jnp.any(leaf != 0), name
        elif leaf.dtype == jnp.float32:
            assert jnp.all(leaf == 0), name
    kernel = (
        flat["net/dense/kernel"] + 2 * flat["net/dense/kernel_a"] @ (moved["net/dense/kernel_b"])
    )
    out = under(getters.low_rank(2, scale=4.0), lambda x: dense(x, 4)).apply(
        js.tree.unflatten(moved), None, jnp.eye(3)
    )
    chex.assert_trees_all_close(out, kernel, rtol=1e-5)
    free = under(getters.low_rank(2, train_base=True))
    other = jax.grad(lambda p: free.apply(p, None, X).sum(), allow_int=True)(adapted)
    assert jnp.any(other["net"]["dense"]["kernel"] != 0)
    with pytest.raises(errors.ArgumentError, match="rank must be an int of 1 or more"):
        getters.low_rank(0)


def test_getters_compose_innermost_first(params: Any) -> None:
    @js.variable_scope("net", custom_getter=getters.cast(jnp.float16))
    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("inner", custom_getter=getters.low_rank(2)):
            return js.get_variable("kernel", [3, 4])

    net = js.transform(fn)
    assert net.init(0, X)["net"]["inner"]["kernel_a"].dtype == jnp.float32
    assert net.apply(net.init(0, X), None, X).dtype == jnp.float16


@js.add_arg_scope
def layer(x: Any, scale: Any = 1, shift: Any = 0) -> Any:
    return x * scale + shift


@js.add_arg_scope
def other(x: Any, scale: Any = 1, **options: Any) -> Any:
    return x * scale, options


def test_arg_scope_gives_defaults_and_calls_win() -> None:
    with js.arg_scope([layer, other], scale=2):
        assert layer(3) == 6
        assert layer(3, 5) == 15
        assert layer(3, scale=5) == 15
        with js.arg_scope([layer], shift=1), js.arg_scope([other], anything=0):
            assert layer(3) == 7
            assert other(3) == (6, {"anything": 0})
        assert layer(3) == 6
    assert layer(3) == 3


def test_an_arg_scope_can_be_opened_again() -> None:
    with js.arg_scope([layer], scale=2) as scope:
        pass
    with js.arg_scope([layer], shift=1), js.arg_scope(scope):
        assert layer(3) == 6
    assert layer(3) == 3


def test_arg_scopes_are_restored_on_exceptions() -> None:
    with pytest.raises(KeyError, match="stop"), js.arg_scope([layer], scale=2):
        raise KeyError("stop")
    assert layer(3) == 3


def test_what_arg_scope_refuses() -> None:
    for functions, defaults, text in (
        ([len], {}, "function of arg_scope must be decorated by add_arg_scope, got <built-in"),
        (layer, {}, "functions of arg_scope must be a list or tuple"),
        ([layer], {"sclae": 2}, "default of arg_scope must be an argument of layer, got 'sclae'"),
        ({}, {"scale": 2}, "defaults of a scope that is opened again must be none"),
    ):
        with pytest.raises(errors.ArgumentError, match=text), js.arg_scope(functions, **defaults):
            pass
    with pytest.raises(errors.ArgumentError, match="add_arg_scope must be a function, got 3"):
        js.add_arg_scope(3)


@jax.jit
def scaled(x: jax.Array) -> jax.Array:
    return layer(x) * js.get_variable("w", [])


def test_jax_does_not_take_the_trace_of_another_arg_scope() -> None:
    def fn(x: jax.Array) -> Any:
        outs = []
        for scale in (2.0, 3.0):
            with js.variable_scope("s", reuse=js.AUTO_REUSE), js.arg_scope([layer], scale=scale):
                outs.append(scaled(x))
        return outs

    a, b = js.transform(fn).apply({"s": {"w": jnp.float32(1)}}, None, jnp.float32(1))
    assert (float(a), float(b)) == (2, 3)


UNFIT: dict[str, tuple[Any, str]] = {
    "moving_average": (
        getters.moving_average({"net/dense/kernel:0": X}),
        "  given:  'net/dense/kernel:0'\n"
        "  near:   'net/dense/kernel:0'\n"
        "  fix:    values are found by full names,",
    ),
    "initial_values": (
        getters.initial_values({"dense": {"kernel": X}}),
        "  given:  'dense/kernel'\n"
        "  near:   'dense/kernel'\n"
        "  fix:    values are found by full names,",
    ),
    "freeze": (
        getters.freeze("dense"),
        "  given:  'dense'\n  fix:    patterns are matched with full names,",
    ),
    "weight_normalization": (
        getters.weight_normalization("**/kernels"),
        "  given:  '**/kernels'\n  fix:    patterns are matched with full names,",
    ),
    "low_rank": (
        getters.low_rank(2, names="kernel"),
        "  given:  'kernel'\n  fix:    patterns are matched with full names,",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_getter_that_fits_nothing_is_refused_in_every_pass(name: str, params: Any) -> None:
    getter, text = UNFIT[name]
    net = under(getter)
    for call in (net.specs, lambda x: net.init(0, x), lambda x: net.apply(params, None, x)):
        with pytest.raises(errors.EmptySelectionError) as caught:
            call(X)
        first = f"jscope.getters.{name} fits none of the variables that this pass asked it for.\n"
        assert str(caught.value).startswith(f"{first}  asked:  'net/dense/kernel', ")
        assert str(caught.value).endswith(
            f"{text} those of jscope.tree.flatten(params). Pass allow_empty=True to allow this."
        )


def test_a_getter_may_fit_nothing_if_asked_to_or_if_nothing_was_asked_for() -> None:
    for getter in (
        getters.moving_average({}),
        getters.moving_average({"v": X}, allow_empty=True),
        getters.initial_values({"v": X}, allow_empty=True),
        getters.freeze("v", allow_empty=True),
        getters.weight_normalization("v", allow_empty=True),
        getters.low_rank(2, names="v", allow_empty=True),
    ):
        assert list(under(getter).specs(X)) == list(PLAIN.specs(X))

    def unused() -> None:
        with js.variable_scope("net", custom_getter=getters.freeze("v")):
            pass

    js.transform(unused).init(0)


def test_one_fit_in_a_pass_is_enough() -> None:
    def fn() -> None:
        getter = getters.freeze("b")
        for scope in ("a", "b", "c"):
            with js.variable_scope(scope, custom_getter=getter):
                js.get_variable("w", [2])

    assert list(js.transform(fn).init(0)) == ["a", "b", "c"]


def kernel_of(initializer: Any, dtype: Any = None, shape: Any = None) -> Any:
    def fn() -> jax.Array:
        getter = getters.weight_normalization()
        with js.variable_scope("a", custom_getter=getter):
            made = js.get_variable("kernel", shape, dtype, initializer)
        with js.variable_scope("a", custom_getter=getter, reuse=True):
            chex.assert_trees_all_equal_shapes(js.get_variable("kernel"), made)
        return made

    return js.transform(fn)


def test_weight_normalization_keeps_zeros_and_their_gradients_finite() -> None:
    net = kernel_of(jax.nn.initializers.zeros, shape=[3, 2])
    params = net.init(0)
    chex.assert_trees_all_equal(net.apply(params, None), jnp.zeros([3, 2]))
    gradient = jax.grad(lambda p: net.apply(p, None).sum())(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert gradient["a"]["kernel_v"].all()


def test_weight_normalization_takes_norms_in_float32() -> None:
    net = kernel_of(js.initializers.constant(20.0), jnp.float16, [300, 2])
    kernel = net.apply(net.init(0), None)
    assert kernel.dtype == jnp.float16
    norms = np.linalg.norm(np.asarray(kernel, np.float32), axis=0)
    np.testing.assert_allclose(norms, 1, rtol=1e-2)


def test_weight_normalization_splits_what_starts_as_an_array() -> None:
    net = kernel_of(np.full([3, 4], 2, np.float32))
    assert js.tree.map_with_name(lambda name, leaf: leaf.shape, net.init(0)) == {
        "a": {"kernel_v": (3, 4), "kernel_g": (4,)}
    }
    specs = js.transform(
        lambda: js.get_variable(
            "v", 4, custom_getter=getters.weight_normalization(allow_empty=True)
        )
    ).specs()
    assert specs["v"].shape == (4,)


@pytest.mark.parametrize(
    "getter", [getters.weight_normalization("b"), getters.low_rank(2, names="b")]
)
def test_a_getter_of_matrices_that_fits_a_vector_fits_nothing(getter: Any) -> None:
    net = js.transform(lambda: js.get_variable("b", [4], custom_getter=getter))
    with pytest.raises(
        errors.EmptySelectionError, match=r"fits none of the variables that this pass asked it for"
    ):
        net.init(0)


def test_cast_stores_typed_constants_too() -> None:
    getter = getters.cast(jnp.bfloat16)
    for initial in (np.ones(2, np.float16), jnp.ones(2, jnp.bfloat16)):
        make = functools.partial(js.get_variable, "w", initializer=initial, custom_getter=getter)
        net = js.transform(make)
        assert net.init(0)["w"].dtype == jnp.float32
        assert net.apply(net.init(0), None).dtype == jnp.bfloat16
    for arguments in ({"compute": "foo"}, {"compute": jnp.float32, "store": jnp.int32}):
        with pytest.raises(errors.ArgumentError, match="must be a floating dtype"):
            getters.cast(**arguments)


def test_initial_values_take_the_dtype_of_the_variable_and_lose_nothing() -> None:
    def fn() -> jax.Array:
        getter = getters.initial_values({"a/w": np.ones(2, np.float32)})
        with js.variable_scope("a", custom_getter=getter):
            js.get_variable("w", [2], jnp.bfloat16)
        with js.variable_scope("a", custom_getter=getter, reuse=True):
            return js.get_variable("w")

    net = js.transform(fn)
    assert net.apply(net.init(0), None).dtype == jnp.bfloat16
    for value, dtype in (([1.5], jnp.int32), ([1j], jnp.float32), (["a"], jnp.float32)):
        getter = getters.initial_values({"w": np.array(value)})
        with pytest.raises(errors.ArgumentError, match=r"^The initial value of w must be numbers"):
            js.transform(lambda: js.get_variable("w", [1], dtype, custom_getter=getter)).init(0)  # noqa: B023


def test_averages_of_stacked_variables_are_params() -> None:
    def fn(x: jax.Array, averages: Any = None) -> jax.Array:
        getter = getters.moving_average(averages) if averages else None
        with js.variable_scope("s", custom_getter=getter):
            return js.layer_stack(2)(lambda h: js.layers.dense(h, 3))(x)

    net = js.transform(fn)
    params = net.init(0, X)
    with pytest.raises(
        errors.ArgumentError, match="give apply the averages as params, got float32"
    ):
        net.apply(params, None, X, params)


def spectral(shape: list[int], **options: Any) -> Any:
    def fn() -> jax.Array:
        with js.variable_scope("a", custom_getter=getters.spectral_normalization(**options)):
            return js.get_variable("w", shape)

    return js.transform_with_state(fn)


def test_spectral_normalization_divides_by_the_largest_singular_value() -> None:
    net = spectral([2, 3, 4], iterations=30)
    params, state = net.init(0)
    assert list(js.tree.flatten(state)) == ["a/w_u"]
    kernel, moved = net.apply(params, state, None)
    largest = np.linalg.norm(np.asarray(params["a"]["w"]).reshape(6, 4), 2)
    np.testing.assert_allclose(kernel, params["a"]["w"] / largest, rtol=1e-3)
    assert (moved["a"]["w_u"] != state["a"]["w_u"]).any()


def test_spectral_normalization_that_does_not_train_leaves_its_state_and_may_be_in_raw_jit() -> (
    None
):
    params, state = spectral([3, 4]).init(0)
    net = spectral([3, 4], training=False)
    _, after = net.apply(params, state, None)
    chex.assert_trees_all_equal(after, state)

    def fn(training: bool) -> jax.Array:
        normal = getters.spectral_normalization(training=training)
        with js.variable_scope("a", custom_getter=normal):
            return jax.jit(lambda: js.get_variable("w", [3, 4]))()

    js.transform_with_state(fn).init(0, False)
    with pytest.raises(
        errors.TransformError, match=r"^Variable a/w_u cannot be assigned inside raw"
    ):
        js.transform_with_state(fn).init(0, True)


def test_spectral_normalization_has_the_gradient_of_a_fixed_direction() -> None:
    net = spectral([3, 4], iterations=50)
    params, state = net.init(0)
    gradient = jax.grad(lambda p: net.apply(p, state, None)[0][0, 0])(params)["a"]["w"]
    w = params["a"]["w"]

    def exact(w: jax.Array) -> jax.Array:
        return w[0, 0] / jnp.linalg.norm(w, 2)

    np.testing.assert_allclose(gradient, jax.grad(exact)(w), atol=1e-3)


def test_spectral_normalization_leaves_vectors_and_zeros() -> None:
    def fn() -> tuple[jax.Array, jax.Array]:
        with js.variable_scope("a", custom_getter=getters.spectral_normalization()):
            zeros = jax.nn.initializers.zeros
            return js.get_variable("w", [2, 2], initializer=zeros), js.get_variable("b", [2])

    net = js.transform_with_state(fn)
    params, state = net.init(0)
    (w, b), _ = net.apply(params, state, None)
    assert list(state["a"]) == ["w_u"]
    chex.assert_trees_all_equal((w, b), (jnp.zeros([2, 2]), params["a"]["b"]))


@pytest.mark.parametrize(
    ("outer", "kept"),
    [
        (getters.rename({"^a/": "b/"}), "b/in/dense/kernel_u"),
        (getters.cast(jnp.bfloat16), "a/in/dense/kernel_u"),
    ],
)
def test_spectral_normalization_moves_a_state_that_getters_around_it_change(
    outer: Any, kept: str
) -> None:
    block = js.jit(lambda x: js.layers.dense(x, 3))

    def fn(x: jax.Array) -> jax.Array:
        with (
            js.variable_scope("a", custom_getter=outer),
            js.variable_scope("in", custom_getter=getters.spectral_normalization()),
        ):
            return block(block(x))

    net = js.transform_with_state(fn)
    x = jnp.ones([2, 3])
    params, state = net.init(0, x)
    _, after = net.apply(params, state, None, x)
    before, moved = js.tree.flatten(state), js.tree.flatten(after)
    assert list(before) == [kept, kept.replace("dense", "dense_1")]
    for name, value in moved.items():
        assert value.dtype == jnp.float32
        assert (value != before[name]).any()


def test_spectral_normalization_keeps_a_vector_for_each_layer_of_a_stack() -> None:
    def fn(x: jax.Array) -> jax.Array:
        with js.variable_scope("a", custom_getter=getters.spectral_normalization()):
            out: jax.Array = js.layer_stack(3)(lambda x: js.layers.dense(x, 3))(x)
            return out

    net = js.transform_with_state(fn)
    x = jnp.ones([2, 3])
    params, state = net.init(0, x)
    after = net.apply(params, state, None, x)[1]["a"]["dense"]["kernel_u"]
    assert after.shape == (3, 3)
    assert len({row.tobytes() for row in np.asarray(after)}) == 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"iterations": 0},
            "The iterations must be an int of 1 or more, got 0 of type int.",
        ),
        ({"training": 2}, "The training must be True or False, got 2 of type int."),
    ],
)
def test_spectral_normalization_checks_its_options(options: Any, text: str) -> None:
    with pytest.raises(errors.ArgumentError) as caught:
        getters.spectral_normalization(**options)
    assert str(caught.value) == text

"""init: what it takes, that it is nearly free, and where its values come from."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import _keys

X = jnp.ones([2, 3])


def weight() -> jax.Array:
    return js.get_variable("w", [3], initializer=jax.nn.initializers.normal(1.0))


NET = js.transform(weight)


@pytest.mark.parametrize(
    "rng",
    [
        7,
        np.int64(7),
        jax.random.key(7),
        jax.random.PRNGKey(7),
        np.asarray(jax.random.PRNGKey(7)),
        jnp.int32(7),
    ],
    ids=["int", "NumPy int", "typed key", "legacy key", "NumPy legacy key", "integer scalar"],
)
def test_every_form_of_rng_gives_the_same_values(rng: Any) -> None:
    chex.assert_trees_all_equal(NET.init(rng), NET.init(7))
    chex.assert_trees_all_equal(jax.jit(NET.init)(rng), NET.init(7))


def test_other_seeds_and_names_give_other_values() -> None:
    def two() -> None:
        js.get_variable("v", [3], initializer=jax.nn.initializers.normal(1.0))
        weight()

    params = js.transform(two).init(7)
    assert not jnp.array_equal(params["v"], params["w"])
    assert not jnp.array_equal(NET.init(7)["w"], NET.init(8)["w"])


def test_the_hash_of_names_is_pinned() -> None:
    # A file format: initial values depend on it. A change here is a breaking change.
    assert _keys.words("w").tolist() == [3662133389, 3833210311]
    assert _keys.words("a/bc/w").tolist() != _keys.words("ab/c/w").tolist()


def test_ten_thousand_names_do_not_collide() -> None:
    names = {tuple(_keys.words(f"layer_{i // 10}/v{i % 10}").tolist()) for i in range(10_000)}
    assert len(names) == 10_000


def test_an_initial_value_is_pinned() -> None:
    value = js.transform(
        lambda: js.get_variable("a/w", [2], initializer=jax.nn.initializers.normal(1.0))
    )
    chex.assert_trees_all_close(value.init(0)["a"]["w"], PINNED, rtol=1e-6)


PINNED = jnp.array([0.015189041383564472, -0.3847678005695343])


def test_arrays_are_used_for_shape_and_dtype_and_all_else_reaches_the_function() -> None:
    seen: dict[str, Any] = {}

    def program(x: Any, batch: Any, *, is_training: bool, name: str, nothing: None) -> None:
        seen.update(x=x, batch=batch, is_training=is_training, name=name, nothing=nothing)
        js.get_variable(name, [x.shape[-1] if is_training else 1])

    net = js.transform(program)
    marker = object()
    batch = {"n": 3, "s": np.float32(2), "o": marker, "shape": jax.ShapeDtypeStruct([5], jnp.int8)}
    given = {"is_training": True, "name": "v", "nothing": None}
    params = net.init(0, np.ones([2, 3]), batch, **given)
    assert params["v"].shape == (3,)
    assert seen["x"].shape == (2, 3)
    assert isinstance(seen["x"], jax.core.Tracer)
    assert isinstance(seen["batch"]["s"], jax.core.Tracer)
    assert seen["batch"]["shape"].dtype == jnp.int8
    assert seen["batch"]["n"] == 3
    assert seen["batch"]["o"] is marker
    assert seen["is_training"] is True
    assert seen["nothing"] is None
    seen.clear()


def test_a_model_that_would_not_fit_in_memory_is_initialised_from_shapes() -> None:
    def program(x: jax.Array) -> jax.Array:
        hidden = x @ js.get_variable("w", [4, 8])
        return jnp.einsum("ac,bc->ab", hidden, hidden).sum()  # 4 TiB if it were computed

    x = jax.ShapeDtypeStruct([2**20, 4], jnp.float32)
    assert js.transform(program).init(0, x)["w"].shape == (4, 8)


def test_the_function_runs_once_and_never_on_values() -> None:
    runs = []
    callbacks = []

    def program(x: jax.Array) -> jax.Array:
        runs.append(1)
        jax.debug.callback(lambda: callbacks.append(1))
        return x * js.get_variable("w", [3])

    js.transform(program).init(0, jnp.ones([3]))
    jax.effects_barrier()
    assert (len(runs), len(callbacks)) == (1, 0)


class Counter:
    """Counts the compilations of XLA."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: str, duration: float, **_: Any) -> None:
        self.count += event == "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations() -> Iterator[Counter]:
    counter = Counter()
    jax.monitoring.register_event_duration_secs_listener(counter)
    yield counter
    jax.monitoring.unregister_event_duration_listener(counter)


def fresh_objects(layers: int, stddev: float) -> Callable[[], None]:
    def program() -> None:
        for index in range(layers):
            with js.variable_scope(f"layer_{index}"):
                js.get_variable("w", [5, 7], initializer=jax.nn.initializers.normal(stddev))
                js.get_variable(
                    "b", [7], initializer=lambda key, shape, dtype: jnp.zeros(shape, dtype)
                )
                js.get_variable("s", [7], initializer=functools.partial(scaled, scale=stddev))

    return program


def scaled(key: jax.Array, shape: Any, dtype: Any, scale: float) -> jax.Array:
    return scale * jax.random.normal(key, shape, dtype)


def test_a_fresh_initializer_in_every_layer_compiles_once(compilations: Counter) -> None:
    js.transform(fresh_objects(1, 0.5)).init(0)
    compilations.count = 0
    js.transform(fresh_objects(1, 0.25)).init(0)
    once = compilations.count
    assert once > 0
    compilations.count = 0
    params = js.transform(fresh_objects(20, 0.125)).init(0)
    assert compilations.count == once
    assert not jnp.array_equal(params["layer_0"]["w"], params["layer_1"]["w"])
    compilations.count = 0
    js.transform(fresh_objects(20, 0.125)).init(1)
    assert compilations.count == 0


def test_an_init_inside_another_pass_compiles_no_sampler_again(compilations: Counter) -> None:
    inner = js.transform(
        lambda: js.get_variable("w", [5, 11], initializer=jax.nn.initializers.normal(0.375))
    )
    key = jax.random.key(0)
    compilations.count = 0
    wanted = inner.init(key)
    assert compilations.count == 1
    found: list[Any] = []

    def outer(depth: int) -> None:
        found.append(inner.init(key))
        if depth:
            js.transform(outer).apply({}, None, depth - 1)

    js.transform(outer).apply({}, None, 2)
    assert compilations.count == 1
    assert len(found) == 3
    for values in found:
        chex.assert_trees_all_equal(values, wanted)


SCALE = 1.0


def from_a_global(key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
    return jnp.full(shape, SCALE, dtype)


def test_a_changed_global_or_attribute_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fill:
        def __init__(self, value: float) -> None:
            self.value = value

        def __call__(self, key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
            return jnp.full(shape, self.value, dtype)

    fill = Fill(1.0)

    def program() -> None:
        js.get_variable("a", [], initializer=from_a_global)
        js.get_variable("b", [], initializer=fill)

    net = js.transform(program)
    assert net.init(0).to_dict() == {"a": 1.0, "b": 1.0}
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    fill.value = 3.0
    assert net.init(0).to_dict() == {"a": 2.0, "b": 3.0}


def test_an_initializer_that_holds_an_array_follows_the_array() -> None:
    table = np.array([1.0, 2.0], np.float32)

    def from_table(key: jax.Array, shape: Any, dtype: Any) -> np.ndarray:
        return table.astype(dtype)

    net = js.transform(lambda: js.get_variable("w", [2], initializer=from_table))
    assert net.init(0)["w"].tolist() == [1.0, 2.0]
    table[0] = 5.0
    assert net.init(0)["w"].tolist() == [5.0, 2.0]


def test_an_initializer_that_fails_names_its_variable() -> None:
    def broken(key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        js.transform(lambda: js.get_variable("a/w", [1], initializer=broken)).init(0)
    note = next(note for note in caught.value.__notes__ if "initializer" in note)
    assert note.startswith("in the initializer of variable a/w, float32[")
    assert "tests/test_init.py:" in note


def test_values_computed_in_the_function_are_made_in_order_with_the_others_at_their_values() -> (
    None
):
    def program(x: jax.Array) -> jax.Array:
        y = x @ js.get_variable("w", [3, 3])
        shift = js.get_variable("shift", initializer=-y.mean(0, keepdims=True))
        y = jax.checkpoint(lambda z: z + shift)(y)
        scale = js.get_variable("scale", [1, 3], initializer=1 / y.std(0, keepdims=True))
        return y * scale

    x = jax.random.normal(jax.random.key(1), [64, 3])
    net = js.transform(program)
    params = net.init(0, x)
    out = net.apply(params, None, x)
    chex.assert_trees_all_close(out.mean(0), jnp.zeros(3), atol=1e-5)
    chex.assert_trees_all_close(out.std(0), jnp.ones(3), atol=1e-5)
    chex.assert_trees_all_close(jax.jit(net.init)(0, x), params, rtol=1e-5)
    assert net.specs(x)["shift"].initializer is None
    assert js.transform(lambda: js.get_variable("w", [3, 3])).init(0)["w"].shape == (3, 3)


def test_a_computed_value_that_needs_no_argument_works_from_shapes() -> None:
    def program(x: jax.Array) -> jax.Array:
        return x * js.get_variable("w", initializer=jnp.linspace(0.0, 1.0, x.shape[-1]))

    params = js.transform(program).init(0, jax.ShapeDtypeStruct([3], jnp.float32))
    chex.assert_trees_all_close(params["w"], jnp.array([0.0, 0.5, 1.0]))


def test_a_value_of_an_outer_trace_initialises_a_variable() -> None:
    def outer(x: jax.Array) -> js.Params:
        return js.transform(lambda: js.get_variable("w", initializer=x + 1)).init(0)

    chex.assert_trees_all_close(jax.jit(outer)(X)["w"], X + 1)
    chex.assert_trees_all_close(jax.vmap(outer)(X)["w"], X + 1)


def test_a_nested_transform_starts_at_the_root_scope() -> None:
    inner = js.transform(weight)

    def program() -> Any:
        with js.variable_scope("outer", reuse=js.AUTO_REUSE):
            js.get_variable("v", [1])
            values = inner.init(0)
            assert js.get_variable_scope().name == "outer"
            return inner.apply(values, None)

    net = js.transform(program)
    params = net.init(0)
    assert list(js.tree.flatten(params)) == ["outer/v"]
    chex.assert_trees_all_equal(net.apply(params, None), inner.init(0)["w"])


def test_init_works_in_shard_map_and_eval_shape() -> None:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("i",))
    spec = jax.sharding.PartitionSpec()
    sharded = jax.shard_map(lambda: NET.init(7), mesh=mesh, in_specs=(), out_specs=spec)
    chex.assert_trees_all_equal(sharded(), NET.init(7))
    assert jax.eval_shape(NET.init, 7)["w"].shape == (3,)


DEEP = """
import sys, jax, jax.numpy as jnp, jscope as js, pickle, copy
assert sys.getrecursionlimit() == 1000

def nested(x):
    import contextlib
    with contextlib.ExitStack() as stack:
        for index in range(300):
            stack.enter_context(js.variable_scope(f"s{index}"))
        return x * js.get_variable("w", [])

def layers(x):
    for index in range(3000):
        with js.variable_scope(None, "layer"):
            x = x + js.get_variable("w", [], initializer=jax.nn.initializers.zeros)
    return x

for fn, count in ((nested, 1), (layers, 3000)):
    net = js.transform(fn)
    params = net.init(0, jnp.float32(1))
    assert len(jax.tree.leaves(params)) == count
    jax.eval_shape(jax.grad(net.apply), params, None, jnp.float32(1))
    js.check(params, net.specs(jnp.float32(1)))
    assert len(repr(params)) > 0
    assert len(js.tree.flatten(pickle.loads(pickle.dumps(params)))) == count
    assert len(js.tree.flatten(copy.deepcopy(params))) == count
    js.Params(params.to_dict())
print("ok")
"""


def test_deep_scopes_and_many_layers_need_no_higher_recursion_limit() -> None:
    done = subprocess.run([sys.executable, "-c", DEEP], capture_output=True, text=True, check=False)
    assert done.stdout == "ok\n", done.stderr


def test_samplers_compiled_with_little_effort_give_the_same_bits() -> None:
    # In a process of its own, because this suite sets the effort for everything.
    code = """if True:
        import jax, numpy as np, jscope as js
        import jax.nn.initializers as init
        kinds = [None, init.normal(0.02), init.he_normal(), init.orthogonal(), init.zeros]
        def fn():
            for number, kind in enumerate(kinds):
                js.get_variable(f"v{number}", [5, 7], initializer=kind)
        init = js.transform(fn).init
        for a, b in zip(*map(jax.tree.leaves, (init(3), jax.jit(init)(3))), strict=True):
            np.testing.assert_array_equal(a, b)
        print("equal")
    """
    clean = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=False
    )
    assert done.stdout == "equal\n", done.stderr

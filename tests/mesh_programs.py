"""Programs, meshes and their outcomes, for ``test_mesh.py``; needs a process with 8 devices.

A program is one function of ``get(name, shape)`` and a batch ``x`` [8, 4]: with ``get_variable`` it
is jscope's, with a dict of params the hand-written one. Those of jscope's own transforms are pairs.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jscope as js

Get = Callable[..., jax.Array]
BATCH, SIZE = 8, 4


def w(get: Get, *shape: int) -> jax.Array:
    return get("w", shape or (SIZE, SIZE))


def dynamic_update(get: Get, x: Any) -> Any:
    return jax.lax.dynamic_update_slice(w(get, BATCH, SIZE), jnp.ones([1, SIZE]), (0, 0))


def into_batch(get: Get, x: Any) -> Any:
    return jax.lax.dynamic_update_slice(x, w(get, 1, SIZE), (0, 0))


def scan(get: Get, x: Any) -> Any:
    return jax.lax.scan(lambda h, y: (jnp.tanh(h @ w(get)) + y, h.sum()), x, jnp.ones([3, 1, 1]))


def scan_from_variable(get: Get, x: Any) -> Any:
    return jax.lax.scan(lambda h, row: (h + row, h), get("h", (SIZE,)), x)


def scan_over_variable(get: Get, x: Any) -> Any:
    return jax.lax.scan(lambda h, row: (h + row[None], None), x, w(get))[0]


def scan_over_time(get: Get, x: Any) -> Any:
    return jax.lax.scan(lambda h, y: (jnp.tanh(h @ w(get) + y), h), x, jnp.stack([x, x]))


def cond(get: Get, x: Any) -> Any:
    return jax.lax.cond(x.sum() > 0, lambda x: x @ w(get), lambda x: x * 2, x)


def switch(get: Get, x: Any) -> Any:
    return jax.lax.switch(1, [lambda x: x, lambda x: x + get("b", (SIZE,))[None]], x)


def while_loop(get: Get, x: Any) -> Any:
    return jax.lax.while_loop(lambda h: h.sum() > 1e9, lambda h: h @ w(get), x)


def fori_loop(get: Get, x: Any) -> Any:
    return jax.lax.fori_loop(0, 2, lambda _, h: h @ w(get), x)


def conv(get: Get, x: Any) -> Any:
    return jax.lax.conv_general_dilated(
        x[..., None], get("k", (2, 1, 3)), (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
    )


def custom_jvp(get: Get, x: Any) -> Any:
    @jax.custom_jvp
    def f(x: Any) -> Any:
        return x @ w(get)

    f.defjvp(lambda xs, ts: (f(*xs), ts[0] * 2))
    return jax.jvp(f, (x,), (x,))


def custom_vjp(get: Get, x: Any) -> Any:
    @jax.custom_vjp
    def f(x: Any) -> Any:
        return x @ w(get)

    f.defvjp(lambda x: (f(x), None), lambda _, g: (g * 2,))
    return f(x)


def shard_map(get: Get, x: Any) -> Any:
    return jax.shard_map(lambda x: x @ w(get), in_specs=P("data"), out_specs=P("data"))(x)


def shard_map_of_arguments(get: Get, x: Any) -> Any:
    specs = (P("data"), P(None, None))
    return jax.shard_map(jnp.dot, in_specs=specs, out_specs=P("data"))(x, w(get))


def auto_axes(get: Get, x: Any) -> Any:
    return jax.sharding.auto_axes(lambda x: x @ w(get), out_sharding=P("data"))(x)


def auto_axes_of_arguments(get: Get, x: Any) -> Any:
    return jax.sharding.auto_axes(jnp.dot, out_sharding=P("data"))(x, w(get))


def explicit_axes(get: Get, x: Any) -> Any:
    return jax.sharding.explicit_axes(lambda x: x @ w(get), in_sharding=P("data"))(x)


def gradient(get: Get, x: Any) -> Any:
    return jax.grad(lambda x: jnp.sum(jnp.tanh(x @ w(get))))(x)


def checkpointed_gradient(get: Get, x: Any) -> Any:
    return jax.grad(lambda x: jnp.sum(jax.checkpoint(lambda x: jnp.tanh(x @ w(get)))(x)))(x)


def attention(get: Get, x: Any) -> Any:
    q, k = (jnp.einsum("bi,ihd->bhd", x, get(name, (SIZE, 2, 2))) for name in "qk")
    return jax.nn.softmax(jnp.einsum("bhd,bgd->bhg", q, k))


def by_two_maps(get: Get, x: Any) -> Any:
    return jax.vmap(lambda r: jax.vmap(lambda e: e * w(get))(r))(x)


def with_numbers(get: Get, x: Any) -> Any:
    return jax.vmap(lambda r, i: r @ w(get) + i, (0, None))(x, 2.0)


PROGRAMS: dict[str, Callable[[Get, Any], Any]] = {
    "matmul": lambda get, x: x @ w(get),
    "matmul from the left": lambda get, x: w(get, SIZE, BATCH) @ x,
    "matmul laid out": lambda get, x: jnp.dot(x, w(get), out_sharding=P("data", None)),
    "einsum": lambda get, x: jnp.einsum("bi,ij->bj", x, w(get)),
    "contraction over the batch": lambda get, x: jnp.einsum("bi,bj->ij", x, w(get, BATCH, 3)),
    "attention": attention,
    "add": lambda get, x: x + w(get, BATCH, SIZE),
    "add a row": lambda get, x: x + get("b", (SIZE,))[None],
    "add a column": lambda get, x: x + get("b", (BATCH, 1)),
    "scale": lambda get, x: x * get("s", ()),
    "broadcast": lambda get, x: x + jnp.broadcast_to(get("b", (SIZE,)), x.shape),
    "where": lambda get, x: jnp.where(x > 0, x, w(get, BATCH, SIZE)),
    "maximum of a row": lambda get, x: jnp.maximum(x, get("b", (1, SIZE))),
    "clip": lambda get, x: jax.lax.clamp(get("low", ()), x, get("high", ())),
    "dynamic_update_slice": dynamic_update,
    "dynamic_update_slice of the batch": into_batch,
    "dynamic_slice": lambda get, x: jax.lax.dynamic_slice(w(get), (1, 0), (1, SIZE)) + x,
    "slice": lambda get, x: x + w(get, 9, SIZE)[1:],
    "concatenate": lambda get, x: jnp.concatenate([x, w(get, BATCH, SIZE)], axis=1),
    "concatenate batches": lambda get, x: jnp.concatenate([x, w(get)]),
    "stack": lambda get, x: jnp.stack([x, w(get, BATCH, SIZE)]),
    "gather": lambda get, x: w(get)[x.astype(int)],
    "take": lambda get, x: jnp.take(w(get), x.astype(int)[:, 0], axis=0),
    "take_along_axis": lambda get, x: jnp.take_along_axis(w(get), jnp.array([[0]] * SIZE), axis=1),
    "scatter": lambda get, x: w(get).at[jnp.array([0, 2])].add(1.0),
    "scatter into the batch": lambda get, x: x.at[0].set(get("b", (SIZE,))),
    "one_hot": lambda get, x: jax.nn.one_hot(x.astype(int)[:, 0], SIZE) @ w(get),
    "reshape": lambda get, x: x @ w(get, SIZE * SIZE).reshape(SIZE, SIZE),
    "reshape with the batch": lambda get, x: (x[:, None] * w(get)).reshape(BATCH, SIZE * SIZE),
    "flat with the batch": lambda get, x: (x[:, None] * w(get)).reshape(-1),
    "transpose": lambda get, x: x.T * w(get, SIZE, BATCH),
    "sort": lambda get, x: jnp.sort(x @ w(get), axis=-1),
    "top_k": lambda get, x: jax.lax.top_k(x @ w(get), 2),
    "argmax": lambda get, x: jnp.argmax(x @ w(get), axis=-1),
    "cumsum": lambda get, x: jnp.cumsum(x @ w(get), axis=-1),
    "mean": lambda get, x: x - x.mean(0, keepdims=True) * get("b", (1, SIZE)),
    "pad": lambda get, x: jnp.pad(w(get), ((0, 4), (0, 0))) + x,
    "split": lambda get, x: jnp.split(x @ w(get), 2, axis=1),
    "conv": conv,
    "vmap": lambda get, x: jax.vmap(lambda r: r @ w(get))(x),
    "vmap in vmap": by_two_maps,
    "vmap and a number": with_numbers,
    "vmap over a variable": lambda get, x: jax.vmap(lambda r, b: r * b)(x, w(get, BATCH, SIZE)),
    "vmap, spmd_axis_name": lambda get, x: jax.vmap(lambda r: r @ w(get), spmd_axis_name="data")(x),
    "vmap of the variable alone": lambda get, x: jax.vmap(lambda r: w(get), out_axes=None)(x),
    "jacfwd": lambda get, x: jax.jacfwd(lambda x: x @ w(get))(x[:1]),
    "map": lambda get, x: jax.lax.map(lambda r: r @ w(get), x),
    "scan": scan,
    "scan from a variable": scan_from_variable,
    "scan over a variable": scan_over_variable,
    "scan over time": scan_over_time,
    "cond": cond,
    "switch": switch,
    "while_loop": while_loop,
    "fori_loop": fori_loop,
    "jit": lambda get, x: jax.jit(lambda x: x @ w(get))(x),
    "checkpoint": lambda get, x: jax.checkpoint(lambda x: x @ w(get))(x),
    "grad": gradient,
    "grad of checkpoint": checkpointed_gradient,
    "custom_jvp": custom_jvp,
    "custom_vjp": custom_vjp,
    "reshard": lambda get, x: x @ jax.sharding.reshard(w(get), P(None, "data")),
    "reshard the batch": lambda get, x: jax.sharding.reshard(x, P()) @ w(get),
    "constraint": lambda get, x: jax.lax.with_sharding_constraint(x @ w(get), P("data")),
    "shard_map": shard_map,
    "shard_map of arguments": shard_map_of_arguments,
    "auto_axes": auto_axes,
    "auto_axes of arguments": auto_axes_of_arguments,
    "explicit_axes": explicit_axes,
    "its type": lambda get, x: x * (1 + len(str(jax.typeof(w(get)).sharding.spec))),
}


def _get(name: str, shape: Any) -> jax.Array:
    return js.get_variable(name, shape)


def _layer(get: Get, x: Any) -> Any:
    return jnp.tanh(x @ w(get)) + get("b", (1, SIZE))


def _tail(get: Get, x: Any, parts: int) -> tuple[Any, Any]:
    return get("w", (parts, SIZE, SIZE)), get("b", (parts, 1, SIZE))


def _by_scan(get: Get, x: Any) -> Any:
    def body(x: Any, part: Any) -> Any:
        y = _layer(lambda name, _: dict(zip("wb", part, strict=True))[name], x)
        at = jax.typeof(x).sharding  # which the carry of a stack keeps
        return (y if jax.typeof(y).sharding == at else jax.sharding.reshard(y, at)), None

    return jax.lax.scan(body, x, _tail(get, x, 3))[0]


def _by_vmap(in_axes: Any, get: Get, x: Any) -> Any:
    def one(part: Any, x: Any) -> Any:
        return _layer(lambda name, _: dict(zip("wb", part, strict=True))[name], x)

    return jax.vmap(one, (0, in_axes))(_tail(get, x, BATCH), x)


def _split(in_axes: Any) -> Callable[..., Any]:
    def instance(x: Any) -> Any:
        return _layer(_get, x)

    return js.vmap(instance, in_axes, variables="split", axis_size=BATCH)


# What jscope's own transforms do: with them, and by hand.
PAIRS: dict[str, tuple[Callable[[Any], Any], Callable[[Get, Any], Any]]] = {
    "layer_stack": (lambda x: js.layer_stack(3)(functools.partial(_layer, _get))(x), _by_scan),
    "layer_stack, checkpoint": (
        lambda x: js.layer_stack(3, checkpoint=True)(functools.partial(_layer, _get))(x),
        _by_scan,
    ),
    "layer_stack in vmap": (
        lambda x: jax.vmap(js.layer_stack(3)(functools.partial(_layer, _get)))(x[:, None]),
        lambda get, x: jax.vmap(functools.partial(_by_scan, get))(x[:, None]),
    ),
    "split vmap": (_split(None), functools.partial(_by_vmap, None)),
    "split vmap over the batch": (
        lambda x: _split(0)(x[:, None]),
        lambda get, x: _by_vmap(0, get, x[:, None]),
    ),
    "js.vmap": (
        lambda x: js.vmap(lambda r: r @ w(_get))(x),
        lambda get, x: jax.vmap(lambda r: r @ w(get))(x),
    ),
    "js.scan": (lambda x: js.scan(lambda h, y: (h @ w(_get) + y, h), x, jnp.ones([3, 1, 1])), None),
    "js.cond": (lambda x: js.cond(x.sum() > 0, lambda x: x @ w(_get), lambda x: x, x), None),
    "js.jit": (lambda x: js.jit(lambda x: x @ w(_get))(x), PROGRAMS["jit"]),
    "js.checkpoint": (lambda x: js.checkpoint(lambda x: x @ w(_get))(x), PROGRAMS["checkpoint"]),
    "js.grad": (lambda x: js.grad(lambda x: jnp.sum(jnp.tanh(x @ w(_get))))(x), gradient),
}


def _by_hand_scan(get: Get, x: Any) -> Any:
    return jax.lax.scan(lambda h, y: (h @ w(get) + y, h), x, jnp.ones([3, 1, 1]))


PAIRS["js.scan"] = PAIRS["js.scan"][0], _by_hand_scan
PAIRS["js.cond"] = (
    PAIRS["js.cond"][0],
    lambda get, x: jax.lax.cond(x.sum() > 0, lambda x: x @ w(get), lambda x: x, x),
)

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
# Name -> sizes and types of the axes "data" and "model", and the layout of x.
MESHES: dict[str, tuple[tuple[int, ...], tuple[AxisType, ...], P]] = {
    "auto": ((8,), (AUTO,), P("data")),
    "explicit": ((8,), (EXPLICIT,), P("data")),
    "explicit, replicated": ((8,), (EXPLICIT,), P()),
    "explicit, two axes": ((4, 2), (EXPLICIT, EXPLICIT), P("data", "model")),
    "explicit data, auto model": ((4, 2), (EXPLICIT, AUTO), P("data")),
    "auto data, explicit model": ((4, 2), (AUTO, EXPLICIT), P("data", "model")),
}


def mesh_of(name: str) -> jax.sharding.Mesh:
    sizes, types, _ = MESHES[name]
    return jax.make_mesh(sizes, ("data", "model")[: len(sizes)], axis_types=types)


def batch() -> np.ndarray:
    return np.linspace(-1, 3, BATCH * SIZE, dtype=np.float32).reshape(BATCH, SIZE)


def programs() -> Iterator[tuple[str, Callable[[Any], Any], Callable[[Get, Any], Any]]]:
    for name, program in PROGRAMS.items():
        yield name, functools.partial(program, _get), program
    for name, (scoped, hand) in PAIRS.items():
        yield name, scoped, hand


def attempt(function: Callable[[], Any]) -> tuple[str, Any]:
    """ "ok" or the name of the error, and the result or the error's text."""
    try:
        return "ok", function()
    except Exception as error:
        return type(error).__name__, str(error)


def zeros_of(hand: Callable[[Get, Any], Any], x: Any) -> dict[str, jax.Array]:
    """Params for the hand-written program, also where it is refused."""
    shapes: dict[str, Any] = {}

    def get(name: str, shape: Any) -> jax.Array:
        shapes[name] = shape
        return jnp.zeros(shape)

    attempt(lambda: jax.eval_shape(functools.partial(hand, get), x))
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}


def by_hand(hand: Callable[[Get, Any], Any], params: Any, x: Any) -> Any:
    return hand(lambda name, _: params[name], x)


def outcomes(scoped: Callable[[Any], Any], hand: Callable[[Get, Any], Any], x: Any) -> Any:
    """How init, specs, apply and the hand-written program end on the mesh that is set."""
    net = js.transform(scoped)
    plain = functools.partial(by_hand, hand)
    init, params = attempt(lambda: net.init(0, x))
    given = params if init == "ok" else zeros_of(hand, x)

    def apply(params: Any, x: Any) -> Any:
        return net.apply(params, None, x)

    found = {
        "init": init,
        "specs": attempt(lambda: net.specs(x))[0],
        "init in jit": attempt(lambda: jax.eval_shape(net.init, 0, x))[0],
        "apply": attempt(lambda: jax.eval_shape(apply, given, x))[0],
        "by hand": attempt(lambda: jax.eval_shape(plain, given, x))[0],
    }
    if set(found.values()) == {"ok"}:
        types = [jax.tree.map(str, jax.eval_shape(f, given, x)) for f in (apply, plain)]
        found["types"] = "ok" if types[0] == types[1] else repr(types)
        found["its params"] = lives_on_the_mesh(params)
    return found


def lives_on_the_mesh(params: Any) -> str:
    """ "ok" if all the arrays have the mesh that is set in their type, and no layout."""
    mesh = jax.sharding.get_abstract_mesh()
    for name, value in js.tree.flatten(params).items():
        if jax.typeof(value).sharding.mesh != mesh or len(value.devices()) != 8:
            return f"{name} is not on the mesh: {value.sharding}"
        if not value.sharding.is_fully_replicated:
            return f"{name} is not replicated: {value.sharding}"
    return "ok"


def differ(found: Any, wanted: Any) -> str:
    """ "ok" if two trees have the same values, to the last places."""
    try:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                np.asarray(a, float), np.asarray(b, float), rtol=1e-5, atol=1e-5
            ),
            found,
            wanted,
        )
    except (AssertionError, ValueError) as error:
        return str(error)
    return "ok"


def without_mesh(x: jax.Array) -> dict[str, tuple[Any, Any]]:
    """Program -> initial and computed values, of those that need no mesh."""
    found = {}
    for name, scoped, _ in programs():
        net = js.transform(scoped)
        ended, params = attempt(lambda net=net: net.init(0, x))
        if ended == "ok":
            found[name] = params, jax.jit(net.apply)(params, None, x)
    return found


def agreement(kind: str, plain: Any, without: Any) -> dict[str, Any]:
    """Program -> outcomes on one kind of mesh, with the values that it has without a mesh."""
    found: dict[str, Any] = {}
    with jax.set_mesh(mesh_of(kind)):
        x = jax.device_put(plain, MESHES[kind][2])
        for name, scoped, hand in programs():
            found[name] = outcomes(scoped, hand, x)
            if found[name]["init"] != "ok" or kind not in COMPILED:
                continue
            net = js.transform(scoped)
            here = net.init(0, x)
            value = jax.jit(net.apply)(here, None, x)
            if name in without:
                params, wanted = without[name]
                same = [bool((a == np.asarray(here[n])).all()) for n, a in params.items()]
                found[name]["initial values"] = "ok" if all(same) else repr(here)
            else:
                wanted = jax.jit(functools.partial(by_hand, hand))(here, x)
            found[name]["values"] = differ(value, wanted)
    return found


def types_of_arguments(kind: str) -> dict[str, list[str]]:
    """Kind of argument -> its type in init, specs and apply, eager and in jit."""
    mesh = mesh_of(kind)
    outside = jnp.asarray(batch())
    over = NamedSharding(mesh, MESHES[kind][2])
    found: dict[str, list[str]] = {}
    with jax.set_mesh(mesh):
        arguments = {
            "NumPy array": batch(),
            "array from outside": outside,
            "array": jnp.asarray(batch()),
            "sharded array": jax.device_put(outside, over),
            "shape": jax.ShapeDtypeStruct((BATCH, SIZE), jnp.float32),
            "sharded shape": jax.ShapeDtypeStruct((BATCH, SIZE), jnp.float32, sharding=over),
        }
        for name, argument in arguments.items():
            seen = found[name] = []

            def program(x: Any, seen: list[str] = seen) -> Any:
                seen.append(repr(jax.typeof(x).sharding))
                return x

            net = js.transform(program)
            net.specs(argument)
            net.init(0, argument)
            if not isinstance(argument, jax.ShapeDtypeStruct):
                jax.jit(net.apply)({}, None, argument)
                net.apply({}, None, argument)
            elif name == "sharded shape":
                seen += found["sharded array"]
            else:
                seen += found["NumPy array"]
    return found


def initial_values(kind: str) -> dict[str, str]:
    """Kind of initializer -> whether init gives what its placeholder stands for."""
    outside = jnp.arange(8.0)
    found: dict[str, str] = {}
    with jax.set_mesh(mesh_of(kind)):
        x = jax.device_put(jnp.asarray(batch()), MESHES[kind][2])
        column = jax.device_put(outside, P(MESHES[kind][2][0] if len(MESHES[kind][2]) else None))
        initializers: dict[str, Callable[[Any], Any]] = {
            "number": lambda x: 1.0,
            "NumPy array": lambda x: np.ones(8, np.float32),
            "array from outside": lambda x: outside,
            "sharded array": lambda x: column,
            "function": lambda x: jax.nn.initializers.normal(),
            "function of an array from outside": lambda x: lambda *_: outside,
            "function of a sharded array": lambda x: lambda *_: column,
            "value": lambda x: x[:, 0] * 2,
            "mean": lambda x: x.mean(1),
        }
        for name, initializer in initializers.items():
            types: list[str] = []

            def program(x: Any, initializer: Any = initializer, types: Any = types) -> None:
                chosen = initializer(x)
                shape = [8] if callable(chosen) else None
                v = js.get_variable("v", shape, initializer=chosen)
                types.append(repr(jax.typeof(v).sharding))

            net = js.transform(program)
            for how, init in (("", net.init), (" in jit", jax.jit(net.init))):
                params = init(0, x)
                net.apply(params, None, x)
                plain = len(set(types)) == 1
                found[name + how] = lives_on_the_mesh(params) if plain else repr(types)
                if kind == "auto":  # where a compiler may lay out as it likes
                    found[name + how] = found[name + how].replace(
                        f"v is not replicated: {params['v'].sharding}", "ok"
                    )
    return found


def _steps(make: Callable[[int], Any], x: Any) -> Any:
    cell = make(SIZE)
    _, state = cell(x[:, 0], cell.zero_state(len(x)))
    return cell(x[:, 1], state)


# Layers of images [8, 4, 4, 4], or of sequences of them.
LAYERS: dict[str, Callable[[Any], Any]] = {
    "dense": lambda x: js.layers.dense(x[:, 0, 0], 3, jax.nn.relu),
    "dense over time": lambda x: js.layers.dense(x[:, 0], 3),
    "embedding": lambda x: js.layers.embedding(x[:, 0, 0].astype(int), 4, 3),
    "embedding of one id": lambda x: js.layers.embedding(x[:, 0, 0, 0].astype(int), 4, 3),
    "dropout": lambda x: js.layers.dropout(x, training=True),
    "dropout, one draw per example": lambda x: js.layers.dropout(
        x[:, 0, 0], noise_shape=(None, 1), training=True
    ),
    "dropout, one draw for all": lambda x: js.layers.dropout(
        x[:, 0, 0], noise_shape=(1, None), training=True
    ),
    "dropout in half precision": lambda x: js.layers.dropout(x.astype(jnp.bfloat16), training=True),
    "flatten": js.layers.flatten,
    "lstm": lambda x: _steps(js.layers.lstm, x[:, 0]),
    "gru": lambda x: _steps(js.layers.gru, x[:, 0]),
    "dynamic_rnn of lstm": lambda x: js.layers.dynamic_rnn(js.layers.lstm(SIZE), x[:, 0]),
    "dynamic_rnn of gru": lambda x: js.layers.dynamic_rnn(
        js.layers.gru(SIZE), x[:, 0].swapaxes(0, 1), time_major=True
    ),
    "dynamic_rnn with lengths": lambda x: js.layers.dynamic_rnn(
        js.layers.lstm(SIZE), x[:, 0], jnp.array([4, 2, 1, 0, 3, 4, 4, 2])
    ),
    "dynamic_rnn with a state": lambda x: js.layers.dynamic_rnn(
        js.layers.lstm(SIZE), x[:, 0], initial_state=(jnp.zeros([8, SIZE]), x[:, 0, 0])
    ),
    "batch_normalization": lambda x: js.layers.batch_normalization(x, training=True),
    "batch_normalization, axis=1": lambda x: js.layers.batch_normalization(
        x, axis=1, training=True
    ),
    "layer_norm": lambda x: js.layers.layer_norm(x, begin_norm_axis=1),
    "group_norm": lambda x: js.layers.group_norm(x, 2),
    "instance_norm": js.layers.instance_norm,
    "rms_norm": js.layers.rms_norm,
    "multi_head_attention": lambda x: js.layers.multi_head_attention(
        x[:, 0], num_heads=2, is_causal=True
    ),
    "multi_head_attention, with dropout": lambda x: js.layers.multi_head_attention(
        x[:, 0], num_heads=2, dropout_rate=0.5, training=True
    ),
    "multi_head_attention, with a cache": lambda x: js.layers.multi_head_attention(
        x[:, 0], num_heads=2, cache_size=6
    ),
    "depthwise_conv2d": lambda x: js.layers.depthwise_conv2d(x, 2),
    "separable_conv1d": lambda x: js.layers.separable_conv1d(x[:, 0], 3, 2),
    "conv1d_transpose": lambda x: js.layers.conv1d_transpose(x[:, 0], 3, 2),
    "conv3d_transpose": lambda x: js.layers.conv3d_transpose(x[..., None], 3, 2),
    "conv1d": lambda x: js.layers.conv1d(x[:, 0], 3, 2),
    "conv2d": lambda x: js.layers.conv2d(x, 3, 2, padding="same"),
    "separable_conv2d": lambda x: js.layers.separable_conv2d(x, 3, 2),
    "conv2d_transpose": lambda x: js.layers.conv2d_transpose(x, 3, 2, strides=2),
    "max_pooling2d": lambda x: js.layers.max_pooling2d(x, 2, 2),
    "average_pooling2d": lambda x: js.layers.average_pooling2d(x, 2, 2, padding="same"),
}


def layers(kind: str) -> dict[str, str]:
    """Layer -> whether a sharded batch gives the values that one has without a mesh."""
    sizes = (BATCH, SIZE, SIZE, SIZE)
    plain = jnp.linspace(0, 3.9, BATCH * SIZE**3, dtype=jnp.float32).reshape(sizes)
    found = {}
    for name, layer in LAYERS.items():
        net = js.transform_with_state(layer)
        params, state = net.init(0, plain)
        wanted = jax.jit(net.apply)(params, state, 1, plain)
        with jax.set_mesh(mesh_of(kind)):
            x = jax.device_put(plain, P("data"))
            net.specs(x)
            out, new_state = jax.jit(net.apply)(*net.init(0, x), 1, x)
            axes = [jax.typeof(leaf).sharding.spec for leaf in jax.tree.leaves(out)]
        found[name] = differ((out, new_state), wanted)
        if "explicit" in kind and not all("data" in spec for spec in axes):
            found[name] = f"the batch lost its layout: {axes}"
    return found


COMPILED = ("auto", "explicit", "explicit data, auto model")

if __name__ == "__main__":
    x = jnp.asarray(batch())
    without = without_mesh(x)
    found = {
        "programs": {kind: agreement(kind, x, without) for kind in MESHES},
        "arguments": {kind: types_of_arguments(kind) for kind in ("auto", "explicit")},
        "initial values": {kind: initial_values(kind) for kind in ("auto", "explicit")},
        "layers": {kind: layers(kind) for kind in COMPILED},
    }
    print(json.dumps(found))

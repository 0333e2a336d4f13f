"""Three networks, each written as its users would in plain JAX, jscope and four other libraries.

``mlp``: 1000 variables in 100 scopes, 500 layers of matrix product, bias and tanh.
``transformer``: layers of one block function, each rematerialised by ``jax.checkpoint`` around it,
or each in ``jax.jit``.
``stack``: layers of that transformer, as many as asked for, compiled as one loop.

Scopes are numbered with leading zeros and biases come first, so that every library keeps its
arrays in the same order and the compiled programs can be compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

SCOPES = 100
LAYERS = 5  # in each scope
DEPTH = 12  # of the transformer
HEADS = 4
STDDEV = 0.02

Params = Any  # whatever the library keeps
Apply = Callable[[Params, jax.Array], jax.Array]


class Network(NamedTuple):
    """One network in one library."""

    init: Callable[[jax.Array, jax.Array], Params]
    fresh_apply: Callable[[], Apply]  # a new function each time, which no cache of JAX knows


class Library(NamedTuple):
    """The networks in one library; the functions import it."""

    name: str
    module: str  # what users import
    distribution: str  # what they install
    mlp: Callable[[str], Network]  # argument: initializer objects, one of OBJECTS
    transformer: Callable[..., Network]  # arguments: how many layers, and one of WAYS
    stack: Callable[[int], Network]  # argument: how many layers
    copies: Mapping[str, str] = {}  # of the transforms in WAYS, where the raw ones share weights


WAYS = ("checkpoint", "jit")  # the transform around the block
RAW = {"checkpoint": jax.checkpoint, "jit": jax.jit}

# Whether all layers have one initializer object, or each its own, or functions that users write.
OBJECTS = ("shared", "fresh", "users")


def _maker(make: Callable[[], Any], objects: str) -> Callable[[], Any]:
    shared = make()
    return (lambda: shared) if objects == "shared" else make


class _Config:
    """What a function reads that no cache may take for constant."""

    stddev = STDDEV


def _users_weights(number: int, draw: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The function of a layer: half of them are closures over a number, half read an object."""
    stddev = STDDEV
    if number % 2:
        return lambda *args: draw(*args) * _Config.stddev
    return lambda *args: draw(*args) * stddev


def _normal() -> Any:
    return jax.nn.initializers.normal(STDDEV)


_zeros = jax.nn.initializers.zeros


def _norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6) * scale + bias
    )


def _attend(x: jax.Array, qkv: jax.Array) -> jax.Array:
    """Causal attention of x, [batch, time, features], with qkv [features, 3 * features]."""
    batch, time, features = x.shape
    q, k, v = jnp.split((x @ qkv).reshape(batch, time, HEADS, -1), 3, axis=-1)
    logits = jnp.einsum("bthd,bshd->bhts", q, k) / (features // HEADS) ** 0.5
    logits = jnp.where(jnp.tril(jnp.ones([time, time], bool)), logits, -1e30)
    return jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(logits), v).reshape(x.shape)


def shapes(features: int) -> dict[str, tuple[int, ...]]:
    """The variables of one layer of the transformer, in the order of their names."""
    return {
        "attend_norm_bias": (features,),
        "attend_norm_scale": (features,),
        "attend_out": (features, features),
        "attend_qkv": (features, 3 * features),
        "mlp_down": (4 * features, features),
        "mlp_down_bias": (features,),
        "mlp_norm_bias": (features,),
        "mlp_norm_scale": (features,),
        "mlp_up": (features, 4 * features),
        "mlp_up_bias": (4 * features,),
    }


def layer(w: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """One layer of the transformer: x [batch, time, features] to the same."""
    h = _attend(_norm(x, w["attend_norm_scale"], w["attend_norm_bias"]), w["attend_qkv"])
    x = x + h @ w["attend_out"]
    h = _norm(x, w["mlp_norm_scale"], w["mlp_norm_bias"])
    h = jax.nn.gelu(h @ w["mlp_up"] + w["mlp_up_bias"])
    return x + h @ w["mlp_down"] + w["mlp_down_bias"]


# Plain JAX: nested dicts.


def plain_mlp(objects: str) -> Network:
    normal = _maker(_normal, objects)

    def init(key: jax.Array, x: jax.Array) -> Params:
        width = x.shape[-1]
        params: dict[str, dict[str, jax.Array]] = {}
        for i in range(SCOPES):
            scope = params[f"block_{i:03}"] = {}
            for j in range(LAYERS):
                key, inner = jax.random.split(key)
                scope[f"w_{j}"] = normal()(inner, (width, width))
                scope[f"b_{j}"] = _zeros(inner, (width,))
        return params

    def fresh_apply() -> Apply:
        def apply(params: Params, x: jax.Array) -> jax.Array:
            for i in range(SCOPES):
                scope = params[f"block_{i:03}"]
                for j in range(LAYERS):
                    x = jnp.tanh(x @ scope[f"w_{j}"] + scope[f"b_{j}"])
            return x

        return apply

    return Network(init, fresh_apply)


def plain_transformer(depth: int = DEPTH, way: str = "checkpoint") -> Network:
    def init(key: jax.Array, x: jax.Array) -> Params:
        return {
            f"layer_{i:02}": {
                name: _normal()(jax.random.fold_in(key, i), shape)
                for name, shape in shapes(x.shape[-1]).items()
            }
            for i in range(depth)
        }

    def fresh_apply() -> Apply:
        def block(w: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
            return layer(w, x)

        wrapped = RAW[way](block)  # JAX traces it once for all layers

        def apply(params: Params, x: jax.Array) -> jax.Array:
            for i in range(depth):
                x = wrapped(params[f"layer_{i:02}"], x)
            return x

        return apply

    return Network(init, fresh_apply)


def plain_transformer_per_layer() -> Network:
    def fresh_apply() -> Apply:
        def apply(params: Params, x: jax.Array) -> jax.Array:
            for i in range(DEPTH):

                def block(w: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
                    return layer(w, x)

                x = jax.checkpoint(block)(params[f"layer_{i:02}"], x)
            return x

        return apply

    return Network(plain_transformer().init, fresh_apply)


def plain_stack(depth: int) -> Network:
    def init(key: jax.Array, x: jax.Array) -> Params:
        return {
            name: _normal()(key, (depth, *shape)) for name, shape in shapes(x.shape[-1]).items()
        }

    def fresh_apply() -> Apply:
        return lambda params, x: jax.lax.scan(lambda x, w: (layer(w, x), None), x, params)[0]

    return Network(init, fresh_apply)


# jscope.


def jscope_mlp(objects: str) -> Network:
    import jscope as js

    normal = _maker(_normal, objects)

    def net(x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        for i in range(SCOPES):
            with js.variable_scope(f"block_{i:03}"):
                for j in range(LAYERS):
                    weights, zeros = normal(), _zeros
                    if objects == "users":
                        weights = _users_weights(j, jax.random.normal)
                        zeros = lambda key, shape, dtype: jnp.zeros(shape, dtype)  # noqa: E731
                    w = js.get_variable(f"w_{j}", [width, width], initializer=weights)
                    b = js.get_variable(f"b_{j}", [width], initializer=zeros)
                    x = jnp.tanh(x @ w + b)
        return x

    init, apply = js.transform(net)
    return Network(init, lambda: lambda params, x: apply(params, None, x))


def _jscope_block() -> Callable[[jax.Array], jax.Array]:
    import jscope as js

    def block(x: jax.Array) -> jax.Array:
        normal = _normal()
        w = {
            name: js.get_variable(name, shape, initializer=normal)
            for name, shape in shapes(x.shape[-1]).items()
        }
        return layer(w, x)

    return block


def jscope_transformer(depth: int = DEPTH, way: str = "checkpoint") -> Network:
    return jscope_loop(depth, RAW[way])


def jscope_once(depth: int = DEPTH, way: str = "checkpoint") -> Network:
    import jscope as js

    return jscope_loop(depth, {"checkpoint": js.checkpoint, "jit": js.jit}[way])


def jscope_loop(depth: int, wrap: Callable[[Any], Any] = lambda block: block) -> Network:
    import jscope as js

    def transform() -> Any:
        block = wrap(_jscope_block())

        def net(x: jax.Array) -> jax.Array:
            for i in range(depth):
                with js.variable_scope(f"layer_{i:02}"):
                    x = block(x)
            return x

        return js.without_apply_rng(js.transform(net))

    return Network(transform().init, lambda: transform().apply)


def jscope_stack(depth: int) -> Network:
    import jscope as js

    def transform() -> Any:
        return js.without_apply_rng(js.transform(js.layer_stack(depth)(_jscope_block())))

    return Network(transform().init, lambda: transform().apply)


# Haiku.


def haiku_mlp(objects: str) -> Network:
    import haiku as hk

    normal = _maker(lambda: hk.initializers.RandomNormal(STDDEV), objects)

    def draw(shape: Any, dtype: Any) -> jax.Array:
        return jax.random.normal(hk.next_rng_key(), shape, dtype)

    class Block(hk.Module):
        def __call__(self, x: jax.Array) -> jax.Array:
            width = x.shape[-1]
            for j in range(LAYERS):
                weights, zeros = normal(), jnp.zeros
                if objects == "users":
                    weights = _users_weights(j, draw)
                    zeros = lambda shape, dtype: jnp.zeros(shape, dtype)  # noqa: E731
                w = hk.get_parameter(f"w_{j}", [width, width], init=weights)
                b = hk.get_parameter(f"b_{j}", [width], init=zeros)
                x = jnp.tanh(x @ w + b)
            return x

    def net(x: jax.Array) -> jax.Array:
        for i in range(SCOPES):
            x = Block(name=f"block_{i:03}")(x)
        return x

    init, apply = hk.without_apply_rng(hk.transform(net))
    return Network(init, lambda: lambda params, x: apply(params, x))


def _haiku_block() -> Any:
    import haiku as hk

    class Block(hk.Module):
        def __call__(self, x: jax.Array) -> jax.Array:
            normal = hk.initializers.RandomNormal(STDDEV)
            w = {
                name: hk.get_parameter(name, shape, init=normal)
                for name, shape in shapes(x.shape[-1]).items()
            }
            return layer(w, x)

    return Block


def haiku_transformer(depth: int = DEPTH, way: str = "checkpoint") -> Network:
    import haiku as hk

    if way == "jit":
        raise NotImplementedError("raw jax.jit shares weights, and it has no copy of it")
    block = _haiku_block()

    def transform() -> Any:
        def net(x: jax.Array) -> jax.Array:
            for i in range(depth):
                x = hk.remat(block(name=f"layer_{i:02}"))(x)
            return x

        return hk.without_apply_rng(hk.transform(net))

    return Network(transform().init, lambda: transform().apply)


def haiku_stack(depth: int) -> Network:
    import haiku as hk

    block = _haiku_block()

    def transform() -> Any:
        def net(x: jax.Array) -> jax.Array:
            return hk.experimental.layer_stack(depth)(lambda x: block(name="block")(x))(x)

        return hk.without_apply_rng(hk.transform(net))

    return Network(transform().init, lambda: transform().apply)


# Flax Linen.


def linen_mlp(objects: str) -> Network:
    from flax import linen as nn

    normal = _maker(_normal, objects)

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            width = x.shape[-1]
            for j in range(LAYERS):
                w = self.param(f"w_{j}", normal(), (width, width))
                b = self.param(f"b_{j}", _zeros, (width,))
                x = jnp.tanh(x @ w + b)
            return x

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for i in range(SCOPES):
                x = Block(name=f"block_{i:03}")(x)
            return x

    net = Net()
    return Network(net.init, lambda: lambda params, x: net.apply(params, x))


def _linen_block() -> Any:
    from flax import linen as nn

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            normal = _normal()
            w = {
                name: self.param(name, normal, shape) for name, shape in shapes(x.shape[-1]).items()
            }
            return layer(w, x)

    return Block


def linen_transformer(depth: int = DEPTH, way: str = "checkpoint") -> Network:
    from flax import linen as nn

    def module() -> Any:
        wrapped = {"checkpoint": nn.remat, "jit": nn.jit}[way](_linen_block())

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x: jax.Array) -> jax.Array:
                for i in range(depth):
                    x = wrapped(name=f"layer_{i:02}")(x)
                return x

        return Net()

    return Network(module().init, lambda: module().apply)


def linen_stack(depth: int) -> Network:
    from flax import linen as nn

    def module() -> Any:
        block = _linen_block()
        stack = nn.scan(
            lambda module, x, _: (module(x), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=depth,
        )

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x: jax.Array) -> jax.Array:
                return stack(block(name="block"), x, None)[0]

        return Net()

    return Network(module().init, lambda: module().apply)


# Flax NNX.


def _nnx_network(build: Callable[[Any, int], Any], forward: Callable[[], Apply]) -> Network:
    """A network of the module that ``build`` makes, its state split off and merged by apply."""
    from flax import nnx

    def init(key: jax.Array, x: jax.Array) -> Params:
        return nnx.state(build(nnx.Rngs(key), x.shape[-1]))

    @functools.cache
    def graphdef(width: int) -> Any:
        return nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0), width)))

    def fresh_apply() -> Apply:
        call = forward()
        return lambda state, x: call(nnx.merge(graphdef(x.shape[-1]), state), x)

    return Network(init, fresh_apply)


def nnx_mlp(objects: str) -> Network:
    from flax import nnx

    normal = _maker(_normal, objects)

    class Block(nnx.Module):
        def __init__(self, rngs: Any, width: int) -> None:
            for j in range(LAYERS):
                setattr(self, f"b_{j}", nnx.Param(_zeros(rngs.params(), (width,))))
                setattr(self, f"w_{j}", nnx.Param(normal()(rngs.params(), (width, width))))

        def __call__(self, x: jax.Array) -> jax.Array:
            for j in range(LAYERS):
                x = jnp.tanh(x @ getattr(self, f"w_{j}") + getattr(self, f"b_{j}"))
            return x

    class Net(nnx.Module):
        def __init__(self, rngs: Any, width: int) -> None:
            for i in range(SCOPES):
                setattr(self, f"block_{i:03}", Block(rngs, width))

        def __call__(self, x: jax.Array) -> jax.Array:
            for i in range(SCOPES):
                x = getattr(self, f"block_{i:03}")(x)
            return x

    return _nnx_network(Net, lambda: lambda net, x: net(x))


def _nnx_block() -> Any:
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, rngs: Any, width: int) -> None:
            for name, shape in shapes(width).items():
                setattr(self, name, nnx.Param(_normal()(rngs.params(), shape)))

        def __call__(self, x: jax.Array) -> jax.Array:
            return layer({name: getattr(self, name)[...] for name in shapes(x.shape[-1])}, x)

    return Block


def nnx_transformer(depth: int = DEPTH, way: str = "checkpoint") -> Network:
    from flax import nnx

    make = _nnx_block()

    class Net(nnx.Module):
        def __init__(self, rngs: Any, width: int) -> None:
            for i in range(depth):
                setattr(self, f"layer_{i:02}", make(rngs, width))

    def forward() -> Apply:
        def block(module: Any, x: jax.Array) -> jax.Array:
            return module(x)

        wrapped = RAW[way](block)

        def call(net: Any, x: jax.Array) -> jax.Array:
            for i in range(depth):
                x = wrapped(getattr(net, f"layer_{i:02}"), x)
            return x

        return call

    return _nnx_network(Net, forward)


def nnx_stack(depth: int) -> Network:
    from flax import nnx

    make = _nnx_block()

    def build(rngs: Any, width: int) -> Any:
        keys = jax.random.split(rngs.params(), depth)
        return nnx.vmap(lambda key: make(nnx.Rngs(key), width))(keys)

    def forward() -> Apply:
        scan = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return lambda net, x: scan(x, net)

    return _nnx_network(build, forward)


# Equinox.


def equinox_mlp(objects: str) -> Network:
    import equinox as eqx

    normal = _maker(_normal, objects)

    class Block(eqx.Module):
        b: list[jax.Array]
        w: list[jax.Array]

        def __init__(self, key: jax.Array, width: int) -> None:
            keys = jax.random.split(key, LAYERS)
            self.b = [_zeros(k, (width,)) for k in keys]
            self.w = [normal()(k, (width, width)) for k in keys]

        def __call__(self, x: jax.Array) -> jax.Array:
            for w, b in zip(self.w, self.b, strict=True):
                x = jnp.tanh(x @ w + b)
            return x

    class Net(eqx.Module):
        blocks: list[Block]

        def __init__(self, key: jax.Array, width: int) -> None:
            self.blocks = [Block(k, width) for k in jax.random.split(key, SCOPES)]

        def __call__(self, x: jax.Array) -> jax.Array:
            for block in self.blocks:
                x = block(x)
            return x

    return Network(lambda key, x: Net(key, x.shape[-1]), lambda: lambda net, x: net(x))


def _equinox_block() -> Any:
    import equinox as eqx

    class Block(eqx.Module):
        weights: dict[str, jax.Array]

        def __init__(self, key: jax.Array, width: int) -> None:
            self.weights = {name: _normal()(key, shape) for name, shape in shapes(width).items()}

        def __call__(self, x: jax.Array) -> jax.Array:
            return layer(self.weights, x)

    return Block


def equinox_transformer(depth: int = DEPTH, way: str = "checkpoint") -> Network:
    import equinox as eqx

    make = _equinox_block()

    class Net(eqx.Module):
        layers: list[Any]

        def __init__(self, key: jax.Array, width: int) -> None:
            self.layers = [make(k, width) for k in jax.random.split(key, depth)]

    def fresh_apply() -> Apply:
        def block(module: Any, x: jax.Array) -> jax.Array:
            return module(x)

        wrapped = RAW[way](block)

        def apply(net: Any, x: jax.Array) -> jax.Array:
            for module in net.layers:
                x = wrapped(module, x)
            return x

        return apply

    return Network(lambda key, x: Net(key, x.shape[-1]), fresh_apply)


def equinox_stack(depth: int) -> Network:
    import equinox as eqx

    make = _equinox_block()

    def init(key: jax.Array, x: jax.Array) -> Params:
        return eqx.filter_vmap(lambda key: make(key, x.shape[-1]))(jax.random.split(key, depth))

    def fresh_apply() -> Apply:
        return lambda net, x: jax.lax.scan(lambda x, block: (block(x), None), x, net)[0]

    return Network(init, fresh_apply)


PLAIN = Library("plain JAX", "jax", "jax", plain_mlp, plain_transformer, plain_stack)
PLAIN_PER_LAYER = PLAIN._replace(
    name="plain JAX, a block function per layer", transformer=plain_transformer_per_layer
)
JSCOPE = Library("jscope", "jscope", "jscope-jax", jscope_mlp, jscope_transformer, jscope_stack)
JSCOPE_LOOP = JSCOPE._replace(stack=jscope_loop)  # in Python, for contrast
JSCOPE_ONCE = JSCOPE._replace(
    transformer=jscope_once, copies={"checkpoint": "js.checkpoint", "jit": "js.jit"}
)
HAIKU = Library(
    "Haiku",
    "haiku",
    "dm-haiku",
    haiku_mlp,
    haiku_transformer,
    haiku_stack,
    {"checkpoint": "hk.remat"},
)
LINEN = Library(
    "Linen",
    "flax.linen",
    "flax",
    linen_mlp,
    linen_transformer,
    linen_stack,
    {"checkpoint": "nn.remat", "jit": "nn.jit"},
)
NNX = Library("NNX", "flax.nnx", "flax", nnx_mlp, nnx_transformer, nnx_stack)
EQUINOX = Library("Equinox", "equinox", "equinox", equinox_mlp, equinox_transformer, equinox_stack)
LIBRARIES = {lib.name: lib for lib in (PLAIN, JSCOPE, HAIKU, LINEN, NNX, EQUINOX)}

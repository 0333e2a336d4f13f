"""Small programs, and every way of wrapping their block in a raw JAX transform.

A program is a function of a block; the block makes ``w`` and ``b`` of shape [3] and maps [..., 3]
to [..., 3]. The law tests run all programs over all wrappings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

import jscope as js

Block = Callable[[jax.Array], jax.Array]
Program = Callable[[Block], Block]


def block(x: jax.Array) -> jax.Array:
    w = js.get_variable("w", [3])
    b = js.get_variable("b", [3])
    return x * jnp.broadcast_to(w, x.shape) + jnp.broadcast_to(b, x.shape)


class Model:
    def block(self, x: jax.Array) -> jax.Array:
        return block(x)


def block_with_option(option: str, x: jax.Array) -> jax.Array:
    assert option == "plain"
    return block(x)


MODEL = Model()
PARTIAL = functools.partial(block_with_option, "plain")

KINDS: dict[str, Callable[[], Block]] = {
    "fresh function": lambda: lambda x: block(x),
    "module-level function": lambda: block,
    "bound method": lambda: MODEL.block,
    "partial": lambda: PARTIAL,
}


def identity(x: jax.Array) -> jax.Array:
    return x


def grad(f: Block) -> Block:
    def loss(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = f(x)
        return y.sum(), y

    return lambda x: jax.grad(loss, has_aux=True)(x)[1]


def value_and_grad(f: Block) -> Block:
    def loss(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = f(x)
        return y.sum(), y

    return lambda x: jax.value_and_grad(loss, has_aux=True)(x)[0][1]


def scan(f: Block) -> Block:
    return lambda x: lax.scan(lambda carry, _: (f(carry), None), x, None, length=1)[0]


def while_loop(f: Block) -> Block:
    def run(x: jax.Array) -> jax.Array:
        once = lambda c: (c[0] + 1, f(c[1]))  # noqa: E731
        return lax.while_loop(lambda c: c[0] < 1, once, (0, x))[1]

    return run


def associative_scan(f: Block) -> Block:
    # With two elements the second result is combine(x, x).
    return lambda x: lax.associative_scan(lambda a, b: f(b) + 0 * a, jnp.stack([x, x]))[1]


def shard_map(f: Block, by: Any = jax.shard_map) -> Block:
    mesh = Mesh(np.array(jax.devices()[:1]), ("i",))
    whole = PartitionSpec()
    mapped: Block = by(f, mesh=mesh, in_specs=whole, out_specs=whole)
    return mapped


def custom_vjp(f: Block) -> Block:
    wrapped = jax.custom_vjp(lambda x: f(x))
    wrapped.defvjp(lambda x: (f(x), None), lambda _, g: (g,))
    return wrapped


TRANSFORMS: dict[str, Callable[[Block], Block]] = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "cond": lambda f: lambda x: lax.cond(x.sum() < 1e9, f, identity, x),
    "switch": lambda f: lambda x: lax.switch(jnp.int32(x.sum() < 1e9), [identity, f], x),
    "grad": grad,
    "value_and_grad": value_and_grad,
    "vjp": lambda f: lambda x: jax.vjp(f, x)[0],
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (x,))[0],
    "linearize": lambda f: lambda x: jax.linearize(f, x)[0],
    "named_call": lambda f: jax.named_call(f, name="named"),
    "scan": scan,
    "map": lambda f: lambda x: lax.map(f, x[None])[0],
    "while_loop": while_loop,
    "fori_loop": lambda f: lambda x: lax.fori_loop(0, 1, lambda _, c: f(c), x),
    "associative_scan": associative_scan,
    "vmap": lambda f: lambda x: jax.vmap(f)(x[None])[0],
    "shard_map": shard_map,
    "custom_vjp": custom_vjp,
    "jit of checkpoint": lambda f: jax.jit(jax.checkpoint(f)),
    "checkpoint of scan": lambda f: jax.checkpoint(scan(f)),
    "scan of checkpoint": lambda f: scan(jax.checkpoint(f)),
    "vmap of jit": lambda f: lambda x: jax.vmap(jax.jit(f))(x[None])[0],
}

TRACED_ONCE: dict[str, Callable[[Block], Block]] = {
    "js.jit": js.jit,
    "js.checkpoint": js.checkpoint,
    "scan of js.checkpoint": lambda f: scan(js.checkpoint(f)),
    "jit of js.jit": lambda f: jax.jit(js.jit(f)),
}
"""What traces a block once for all of its scopes, where laws 2 and 5 hold too: law 15."""

WRAPPINGS = (
    TRANSFORMS | TRACED_ONCE | {"js.shard_map": functools.partial(shard_map, by=js.shard_map)}
)

INNER: dict[str, Callable[[Any], Any]] = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "vmap": jax.vmap,
    "scan": lambda f: lambda x: jax.lax.scan(lambda carry, row: (carry, f(row)), 0.0, x),
    "grad": lambda f: jax.grad(lambda x: f(x).sum()),
    "cond": lambda f: lambda x: jax.lax.cond(x.sum() > 0, f, lambda x: x, x),
}
"""Ways to trace a function of rows of an array, [n, 3]: one of each kind."""

NO_REVERSE = {"while_loop"}
"""JAX differentiates these forwards only."""

NO_GRADIENT = {"custom_vjp"}
"""JAX does not differentiate these with respect to what the function closes over."""

_WRAPPED = {name: wrap(block) for name, wrap in WRAPPINGS.items()}
_WRAPPED_METHOD = {name: wrap(MODEL.block) for name, wrap in WRAPPINGS.items()}
_WRAPPED_PARTIAL = {name: wrap(PARTIAL) for name, wrap in WRAPPINGS.items()}


def wrapped(transform: str, kind: str) -> Block:
    """The block in a transform: one object for the whole process, or a fresh one."""
    match kind:
        case "module-level function":
            return _WRAPPED[transform]
        case "bound method":
            return _WRAPPED_METHOD[transform]
        case "partial":
            return _WRAPPED_PARTIAL[transform]
        case _:
            return WRAPPINGS[transform](KINDS[kind]())


def distinct_scopes(f: Block) -> Block:
    def program(x: jax.Array) -> jax.Array:
        for index in range(3):
            with js.variable_scope(f"layer_{index}"):
                x = f(x)
        return x

    return program


def default_names(f: Block) -> Block:
    def program(x: jax.Array) -> jax.Array:
        for _ in range(3):
            with js.variable_scope(None, "layer"):
                x = f(x)
        return x

    return program


def shared_three_times(f: Block) -> Block:
    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("shared", reuse=js.AUTO_REUSE):
            return f(f(f(x)))

    return program


def second_tower(f: Block) -> Block:
    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("tower"):
            first = f(x)
        with js.variable_scope("tower", reuse=True):
            return first * f(2 * x)

    return program


def casting_getter(f: Block) -> Block:
    def cast(getter: Any, name: str, **request: Any) -> Any:
        return getter(name, **request).astype(jnp.float16).astype(jnp.float32)

    def program(x: jax.Array) -> jax.Array:
        for name in "ab":
            with js.variable_scope(name, custom_getter=cast):
                x = f(x)
        return x

    return program


def only_inside(f: Block) -> Block:
    return f


def around_and_inside(f: Block) -> Block:
    def program(x: jax.Array) -> jax.Array:
        with js.variable_scope("a"):
            x = f(x) * js.get_variable("scale", [])
        with js.variable_scope("b"):
            x = f(x * js.get_variable("scale", []))
        return x

    return program


PROGRAMS: dict[str, Program] = {
    "distinct scopes": distinct_scopes,
    "default names": default_names,
    "shared three times": shared_three_times,
    "second tower": second_tower,
    "casting getter": casting_getter,
    "only inside": only_inside,
    "around and inside": around_and_inside,
}

X = jnp.array([0.5, -1.0, 2.0])

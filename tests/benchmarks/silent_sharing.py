"""Shows whose weights a network uses when its block is wrapped in ``jax.checkpoint``.

    pip install -e '.[bench]'
    python tests/benchmarks/silent_sharing.py

One block function is used in three layers, as a function at module level is. In jscope, Haiku and
Linen it makes its weight itself; in NNX and Equinox it is given the layer that holds the weight.

Columns of the table:
  init, jit(init): how many of the three weights are made through the checkpointed block.
  gradient: how many layers' weights have a gradient in a jitted gradient of the checkpointed
    network. Its params come from init without a checkpoint, which makes all three everywhere.
  same output: whether that network computes what it computes without a checkpoint.
  traced again: the gradient column for a second jitted gradient, as a second step function has it.
  new params: whether a second apply with other params, without jit, uses them or the first ones.
  own copy: the gradient column with the library's own copy of ``jax.checkpoint``.
"""

from __future__ import annotations

import importlib.metadata
import platform
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

LAYERS = 3
WIDTH = 4
NOT_INSTALLED = "not installed: pip install -e '.[bench]'"

Apply = Callable[[Any, jax.Array], jax.Array]


class Net(NamedTuple):
    """The pure functions of one network."""

    init: Callable[[jax.Array, jax.Array], Any]
    apply: Apply


class Case(NamedTuple):
    """One library's network."""

    build: Callable[[Any], Net]  # of the block, checkpointed or not
    block: Any
    own: Net | None = None  # with the library's own copy of jax.checkpoint
    own_name: str = "not needed"


def jscope() -> Case:
    import jscope as js

    def block(x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ js.get_variable("kernel", [WIDTH, WIDTH]))

    def build(block: Any) -> Net:
        def net(x: jax.Array) -> jax.Array:
            for i in range(LAYERS):
                with js.variable_scope(f"layer_{i}"):
                    x = block(x)
            return x

        return Net(*js.without_apply_rng(js.transform(net)))

    return Case(build, block)


def haiku() -> Case:
    import haiku as hk

    def block(x: jax.Array) -> jax.Array:
        return jnp.tanh(hk.Linear(WIDTH, with_bias=False, name="dense")(x))

    def build(block: Any) -> Net:
        class Layer(hk.Module):
            def __call__(self, x: jax.Array) -> jax.Array:
                return block(x)

        def net(x: jax.Array) -> jax.Array:
            for i in range(LAYERS):
                x = Layer(name=f"layer_{i}")(x)
            return x

        return Net(*hk.without_apply_rng(hk.transform(net)))

    return Case(build, block, build(lambda x: hk.remat(block)(x)), "hk.remat")


def linen() -> Case:
    from flax import linen as nn

    def block(x: jax.Array) -> jax.Array:
        return jnp.tanh(nn.Dense(WIDTH, use_bias=False, name="dense")(x))

    def build(block: Any, lift: Callable[[Any], Any] = lambda module: module) -> Net:
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x: jax.Array) -> jax.Array:
                return block(x)

        lifted = lift(Layer)

        class Layers(nn.Module):
            @nn.compact
            def __call__(self, x: jax.Array) -> jax.Array:
                for i in range(LAYERS):
                    x = lifted(name=f"layer_{i}")(x)
                return x

        return Net(Layers().init, Layers().apply)

    return Case(build, block, build(block, nn.remat), "nn.remat")


def nnx() -> Case:
    from flax import nnx

    class Layers(nnx.Module):
        def __init__(self, key: jax.Array) -> None:
            rngs = nnx.Rngs(key)
            for i in range(LAYERS):
                setattr(self, f"layer_{i}", nnx.Linear(WIDTH, WIDTH, use_bias=False, rngs=rngs))

    def block(layer: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(layer(x))

    graphdef, _, rest = nnx.split(Layers(jax.random.key(0)), nnx.Param, ...)

    def build(block: Any) -> Net:
        def apply(params: Any, x: jax.Array) -> jax.Array:
            net = nnx.merge(graphdef, params, rest)
            for i in range(LAYERS):
                x = block(getattr(net, f"layer_{i}"), x)
            return x

        return Net(lambda key, x: nnx.state(Layers(key), nnx.Param), apply)

    return Case(build, block, build(nnx.remat(block)), "nnx.remat")


def equinox() -> Case:
    import equinox as eqx

    def block(layer: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(jax.vmap(layer)(x))

    def init(key: jax.Array, x: jax.Array) -> list[Any]:
        keys = jax.random.split(key, LAYERS)
        return [eqx.nn.Linear(WIDTH, WIDTH, use_bias=False, key=key) for key in keys]

    def build(block: Any) -> Net:
        def apply(layers: list[Any], x: jax.Array) -> jax.Array:
            for layer in layers:
                x = block(layer, x)
            return x

        return Net(init, apply)

    return Case(build, block, build(eqx.filter_checkpoint(block)), "eqx.filter_checkpoint")


def gradient(apply: Apply, params: Any, x: jax.Array) -> tuple[str, jax.Array]:
    """How many layers' weights have a gradient in a new jitted function, and its output."""

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        out = apply(params, x)
        return jnp.square(out).sum(), out

    gradients, out = jax.jit(jax.grad(loss, has_aux=True))(params)
    used = sum(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradients))
    return f"{used} of {LAYERS}", out


def attempt(action: Callable[[], str]) -> str:
    """What the action returns, or the type of its error."""
    try:
        return action()
    except Exception as error:
        return type(error).__name__


def columns(case: Case) -> list[str]:
    """What one library does; JAX's caches are cleared first, as if in a process of its own."""
    key, x = jax.random.key(0), jnp.linspace(-1.0, 1.0, 2 * WIDTH).reshape(2, WIDTH)
    plain = case.build(case.block)
    params = plain.init(key, x)
    expected = plain.apply(params, x)

    def made(jit: Callable[[Any], Any]) -> str:
        jax.clear_caches()
        weights = jax.tree.leaves(jit(case.build(jax.checkpoint(case.block)).init)(key, x))
        leaked = any(isinstance(weight, jax.core.Tracer) for weight in weights)
        return f"{len(weights)} of {LAYERS}{', leaked tracers' if leaked else ''}"

    def used(net: Net) -> tuple[str, str, str]:
        jax.clear_caches()
        same = "-"

        def first() -> str:
            nonlocal same
            count, out = gradient(net.apply, params, x)
            same = "yes" if jnp.allclose(out, expected, atol=1e-6) else "no"
            return count

        count = attempt(first)
        return count, same, attempt(lambda: gradient(net.apply, params, x)[0])

    def follows(net: Net) -> str:
        jax.clear_caches()
        others = jax.tree.map(lambda array: -array, params)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            net.apply(params, x)
            out = net.apply(others, x)
        same = jnp.allclose(out, plain.apply(others, x), atol=1e-6)
        return f"{'used' if same else 'ignored'}{', with a warning' if warned else ''}"

    checkpointed = case.build(jax.checkpoint(case.block))
    own = case.own_name
    if case.own is not None:
        own = f"{used(case.own)[0]} ({case.own_name})"
    return [
        attempt(lambda: made(lambda init: init)),
        attempt(lambda: made(jax.jit)),
        *used(checkpointed),
        attempt(lambda: follows(checkpointed)),
        own,
    ]


def row(name: str, package: str, make: Callable[[], Case]) -> list[str]:
    """One line of the table."""
    try:
        return [f"{name} {importlib.metadata.version(package)}", *columns(make())]
    except importlib.metadata.PackageNotFoundError:
        return [name, NOT_INSTALLED]
    except Exception as error:
        text = str(error).strip().partition("\n")[0]
        return [name, f"{type(error).__name__}: {text}"]


HEAD = [
    "library",
    "init",
    "jit(init)",
    "gradient",
    "same output",
    "traced again",
    "new params",
    "own copy",
]
CASES: dict[str, tuple[str, Callable[[], Case]]] = {
    "jscope": ("jscope", jscope),
    "Haiku": ("dm-haiku", haiku),
    "Flax Linen": ("flax", linen),
    "Flax NNX": ("flax", nnx),
    "Equinox": ("equinox", equinox),
}


def main() -> None:
    print(f"Python {platform.python_version()}, jax {jax.__version__}\n")
    rows = [row(name, package, make) for name, (package, make) in CASES.items()]
    rows = [cells + [""] * (len(HEAD) - len(cells)) for cells in rows]
    widths = [max(len(cells[i]) for cells in [HEAD, *rows]) for i in range(len(HEAD))]
    for cells in [HEAD, ["-" * width for width in widths], *rows]:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        print(f"| {' | '.join(padded)} |")


if __name__ == "__main__":
    main()

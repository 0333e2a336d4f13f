"""layer_stack: layers with variables of their own, in one scan."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

from jscope import _pass
from jscope._arguments import as_arrays, bad_argument, check_flag, check_size
from jscope._lift import Lift, divide, pair, strong
from jscope._params import PyTree
from jscope._pass import Pass
from jscope._report import describe, report_at
from jscope._sharding import laid_like
from jscope._spec import Args, Function
from jscope.errors import Site, TransformError

P = ParamSpec("P")
R = TypeVar("R")


def layer_stack(
    n: int, *, unroll: int | bool = 1, checkpoint: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Stacks ``n`` layers of one block into one scan: compiled once, whatever ``n`` is.

    The block's variables get a leading axis, [n, ...], in params and state. Layer i starts from,
    and draws from, the block's keys with i folded in: all equals the Python loop over layer i's
    part of params and state. Variables that were made before the call are shared by all layers.
    Stacks can be nested, the outer axis comes first. ``jscope.tree.unstack_layers`` moves params to
    the form of a loop over scopes ``layer_0``, ``layer_1``, ..., and ``stack_layers`` back.

    Args:
      n: Number of layers, 0 or more.
      unroll: As of ``jax.lax.scan``.
      checkpoint: Whether to keep only the carry between layers for the backward pass, and compute
        the rest again, as ``jax.checkpoint``.

    Returns:
      A decorator. Of ``block: carry -> carry`` it makes ``stacked(carry) -> carry``; of
      ``block: (carry, x) -> (carry, y)`` it makes ``stacked(carry, xs) -> (carry, ys)``, where
      layer i gets xs[i] and gives ys[i]; xs may be None. ``carry``, ``x`` and ``y`` are any pytrees
      of arrays. Other arguments of the block are bound by ``functools.partial``.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used, or xs do not have n parts.
      TransformError: (ValueError) the block returned a carry of another structure, shape or dtype.
      NoPassError: (RuntimeError) the stack was called outside init, apply and specs.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def block(x):
      ...     return x + jnp.tanh(x @ js.get_variable("w", [3, 3]))
      >>> net = js.transform(lambda x: js.layer_stack(12)(block)(x))
      >>> net.init(0, jnp.ones([2, 3]))
      Params({'w': float32[12,3,3]})
    """
    n = check_size("number of layers", n, least=0)
    checkpoint = check_flag("checkpoint", checkpoint)

    def decorate(block: Function) -> Function:
        if not callable(block):
            raise bad_argument("argument of layer_stack(n)", block, "a function")

        @functools.wraps(block)
        def stacked(carry: PyTree, /, *xs: PyTree, **others: PyTree) -> PyTree:
            running = _pass.current("layer_stack")
            if len(xs) > 1 or others:
                wanted = "a carry, and xs or not; bind others by functools.partial(block, ...)"
                raise bad_argument("arguments of a layer stack", (*xs, others), wanted)
            xs = as_arrays("xs of layer_stack", xs)
            for leaf in jax.tree.leaves(xs):
                if leaf.shape[:1] != (n,):
                    raise bad_argument("xs of layer_stack", leaf, f"arrays [{n}, ...]")
            return _scan(running, block, n, unroll, checkpoint, carry, xs)

        return stacked

    return decorate


def _scan(
    running: Pass,
    block: Function,
    n: int,
    unroll: int | bool,
    checkpoint: bool,
    carry: PyTree,
    xs: Args,
) -> PyTree:
    lift = Lift(running)
    carry = jax.tree.map(strong, as_arrays("carry of layer_stack", carry))
    given = jax.tree.map(describe, carry)
    numbers = lift.numbers(n)
    layer = lift.pure(block, axis=n, sizes=(n,))

    def run() -> tuple[Any, Any, Any]:
        stacks, outer = divide(lift)

        def body(carry: PyTree, x: PyTree) -> PyTree:  # a new one, or JAX knows the plan's
            (carry, outer), (number, slices, x) = carry, x
            out, state, recorded = layer({**outer, **slices}, number, carry, *x)
            after, y = pair("result of a block with xs", out, "(carry, y)") if x else (out, None)
            found = jax.tree.map(describe, after)
            if given != found:
                raise _carry_changed(str(given), str(found), running.here())
            after = jax.tree.map(laid_like, after, carry)
            changed = {name: state[name] for name in slices if name in lift.assigned}
            return (after, {name: state[name] for name in outer}), (y, changed, recorded)

        (after, outer), (ys, changed, recorded) = jax.lax.scan(
            jax.checkpoint(body, prevent_cse=False) if checkpoint else body,
            (carry, outer),
            (numbers, stacks, xs),
            length=n,
            unroll=unroll,
        )
        return (after, ys) if xs else after, {**outer, **changed}, recorded

    return lift.finish(*lift.planned(run))


def _carry_changed(asked: str, found: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"The block of layer_stack was given a carry of {asked} and returned {found}.",
        sites,
        "return a carry of the same structure, shapes and dtypes: the next layer is given it.",
        asked=asked,
        found=found,
    )

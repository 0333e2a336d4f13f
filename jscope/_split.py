"""vmap(variables="split"): instances with variables of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jscope._level import Bar
from jscope._lift import Lift, assigned_values, divide
from jscope._pass import Pass


def split(
    running: Pass,
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    in_axes: Any,
    out_axes: Any,
    axis_name: Any,
    options: Mapping[str, Any],
) -> Any:
    """``jax.vmap`` of ``fn`` in which each instance has variables of its own, [axis_size, ...]."""
    lift = Lift(running)

    def instance(slices: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        out, level = lift.call(
            fn,
            args,
            kwargs,
            fold=lambda: jax.lax.axis_index(axis_name),
            values=slices,
            sizes=(jax.lax.axis_size(axis_name),),
            outside=_SPLIT,
        )
        return out, assigned_values(level)

    def over(call: Callable[..., Any], stacks: Any, out_axes: Any) -> Any:
        mapped = jax.vmap(call, (0, in_axes, 0), out_axes, axis_name=axis_name, **options)
        return mapped(stacks, args, kwargs)

    def run() -> tuple[Any, Any]:
        out: tuple[Any, Any] = over(instance, divide(lift)[0], (out_axes, 0))
        if lift.planning:  # JAX may refuse the variables beside the arguments
            over(lambda *_: None, lift.read(list(lift.used)), 0)
        return out

    return lift.finish(*lift.planned(run))


_SPLIT = Bar(
    "jscope.vmap(variables='split')",
    "it was made outside, and every instance would assign a value of its own",
    "make the variable inside the function, or return the values and assign one outside.",
)

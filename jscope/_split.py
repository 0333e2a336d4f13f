"""vmap(variables="split"): instances with variables of their own."""

from __future__ import annotations

from collections.abc import Hashable

import jax

from jscope._level import Bar
from jscope._lift import Lift, assigned_values, divide
from jscope._params import PyTree
from jscope._pass import Pass
from jscope._spec import Args, Function, Kwargs


def split(
    running: Pass,
    fn: Function,
    args: Args,
    kwargs: Kwargs,
    in_axes: PyTree,
    out_axes: PyTree,
    axis_name: Hashable,
    options: Kwargs,
) -> PyTree:
    """``jax.vmap`` of ``fn`` in which each instance has variables of its own, [axis_size, ...]."""
    lift = Lift(running)

    def instance(
        slices: dict[str, jax.Array], args: Args, kwargs: Kwargs
    ) -> tuple[PyTree, dict[str, jax.Array], list[PyTree]]:
        size = jax.lax.axis_size(axis_name)
        out, level = lift.call(
            fn,
            args,
            kwargs,
            fold=lambda: jax.lax.axis_index(axis_name),
            values=slices,
            axis=size,
            sizes=(size,),
            outside=_SPLIT,
        )
        return out, assigned_values(level), lift.recorded(level)

    def over(call: Function, stacks: dict[str, jax.Array], out_axes: PyTree) -> PyTree:
        mapped = jax.vmap(call, (0, in_axes, 0), out_axes, axis_name=axis_name, **options)
        return mapped(stacks, args, kwargs)

    def run() -> tuple[PyTree, dict[str, jax.Array], list[PyTree]]:
        out: tuple[PyTree, dict[str, jax.Array], list[PyTree]]
        out = over(instance, divide(lift)[0], (out_axes, 0, 0))
        if lift.planning:  # JAX may refuse the variables beside the arguments
            over(lambda *_: None, lift.read(list(lift.used)), 0)
        return out

    return lift.finish(*lift.planned(run))


_SPLIT = Bar(
    "jscope.vmap(variables='split')",
    "it was made outside, and every instance would assign a value of its own",
    "make the variable inside the function, or return the values and assign one outside.",
)

"""shard_map: a function of shards that reads whole variables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Set
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, overload

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jscope import _pass
from jscope._arguments import bad_argument
from jscope._bars import TWINS
from jscope._jaxapi import INFER
from jscope._layout import axes_of
from jscope._level import Bar
from jscope._lift import Lift
from jscope._params import PyTree
from jscope._pass import Pass
from jscope._spec import Args, Function
from jscope._whole import undivided

P = ParamSpec("P")
R = TypeVar("R")
Mesh: TypeAlias = jax.sharding.Mesh | jax.sharding.AbstractMesh


@overload
def shard_map(
    f: Callable[P, R],
    /,
    *,
    out_specs: PyTree,
    in_specs: PyTree = ...,
    mesh: Mesh | None = ...,
    axis_names: Set[Any] = ...,
    check_vma: bool = ...,
) -> Callable[P, R]: ...
@overload
def shard_map(
    *,
    out_specs: PyTree,
    in_specs: PyTree = ...,
    mesh: Mesh | None = ...,
    axis_names: Set[Any] = ...,
    check_vma: bool = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def shard_map(
    f: Function | None = None,
    /,
    *,
    out_specs: PyTree,
    in_specs: PyTree = INFER,
    mesh: Mesh | None = None,
    axis_names: Set[Any] = frozenset(),
    check_vma: bool = True,
) -> Function:
    """``jax.shard_map`` whose function gets variables whole, as arguments beside its own.

    A variable that is divided over axes of the mesh that the function maps is gathered first, and
    its gradient is divided as it is; along Auto axes the compiler lays gradients out, as the
    variables where the same ``jax.jit`` updates these. To compute with the parts of a variable,
    read it outside and pass it as an argument with a spec of its own. State can be read, and none
    assigned. A shard draws keys with its number folded in: that along the axes which ``in_specs``
    divide arguments over. Along other axes all shards compute the same, and draw the same.

    Args:
      f: A function of the shards of arrays. Left out, a decorator is returned.
      out_specs: As of ``jax.shard_map``, like all that follow.
      in_specs: Of the arguments alone.
      mesh: The mesh; else the one that is set.
      axis_names: The axes that are mapped; all of the mesh if empty.
      check_vma: Whether JAX checks what ``out_specs`` say of results that do not vary.

    Returns:
      A function to be called inside a pass.

    Raises:
      ArgumentError: (ValueError, TypeError) ``f`` is no function, or ``mesh`` no mesh.
      NoPassError: (RuntimeError) the function was called outside init, apply and specs.
      TransformError: (ValueError) a variable was assigned.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> from jax.sharding import PartitionSpec as P
      >>> def center(x):
      ...     return x - jax.lax.pmean(x.mean(0), "data") * js.get_variable("scale", [2])
      >>> def fn(x):
      ...     return js.shard_map(center, in_specs=P("data"), out_specs=P("data"))(x)
      >>> net = js.transform(fn)
      >>> with jax.set_mesh(jax.make_mesh((1,), ("data",))):
      ...     x = jax.device_put(jnp.ones([4, 2]), P("data"))
      ...     net.apply(net.init(0, x), None, x).shape
      (4, 2)
    """
    options = {
        "out_specs": out_specs,
        "mesh": mesh,
        "axis_names": axis_names,
        "check_vma": check_vma,
    }
    if f is None:
        return functools.partial(shard_map, in_specs=in_specs, **options)
    if not callable(f):
        raise bad_argument("argument of shard_map", f, "a function")
    if mesh is not None and not isinstance(mesh, Mesh):
        raise bad_argument("mesh", mesh, "a mesh of jax.sharding, or None")

    @functools.wraps(f)
    def lifted(*args: PyTree) -> PyTree:
        return _shards(_pass.current("shard_map"), f, args, in_specs, options)

    return lifted


class _Taken(NamedTuple):
    """What the function of shards takes beside its arguments."""

    values: dict[str, jax.Array]
    key: jax.Array | None
    numbers: list[jax.Array]
    """Of the iterations around, to be folded into keys."""


def _shards(
    running: Pass, f: Function, args: Args, in_specs: PyTree, options: dict[str, Any]
) -> PyTree:
    """One call of a function of shards."""
    if running.recorder is not None:
        running.recorder.refuse("it calls shard_map")
    lift = Lift(running, closed="jscope.shard_map")
    mesh = jax.sharding.get_abstract_mesh() if options["mesh"] is None else options["mesh"]
    mapped = options["axis_names"] or mesh.axis_names
    inferred = in_specs is INFER
    named = _axes(_specs_of(args) if inferred else in_specs)
    axes = tuple([axis for axis in mesh.axis_names if axis in named and axis in mapped])

    @functools.wraps(f)
    def shard(args: Args, taken: _Taken) -> PyTree:
        return lift.call(
            f,
            args,
            values=taken.values,
            fold=functools.partial(jax.lax.axis_index, axes) if axes else None,
            folds=tuple([functools.partial(_same, number) for number in taken.numbers]),
            key=taken.key,
            takes=True,
            bar=_SHARDS,
        )[0]

    specs = INFER if inferred else (in_specs, PartitionSpec())
    over = jax.shard_map(shard, in_specs=specs, **options)
    return lift.planned(
        lambda: over(args, jax.tree.map(lambda leaf: undivided(leaf, mapped), _taken(lift)))
    )


def _taken(lift: Lift) -> _Taken:
    keys = lift.parent.keys
    return _Taken(
        {} if lift.planning else lift.read(list(lift.used)),
        keys.key,
        [jnp.asarray(fold()) for fold in keys.folds] if lift.has_rng else [],
    )


def _same(number: jax.Array) -> jax.Array:
    return number


def _specs_of(args: Args) -> list[PartitionSpec]:
    """How the types of arguments say that these are divided."""
    return [jax.typeof(leaf).sharding.spec for leaf in jax.tree.leaves(args)]


def _axes(specs: PyTree) -> set[str]:
    """The mesh axes that specs divide anything over."""
    leaves = jax.tree.leaves(specs, is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))
    entries = [entry for leaf in leaves if isinstance(leaf, PartitionSpec) for entry in leaf]
    return {axis for entry in entries for axis in axes_of(entry)}


_SHARDS = Bar(
    "jscope.shard_map",
    "every shard would assign a value of its own",
    "return the values and assign one outside.",
)
TWINS.add("shard_map")

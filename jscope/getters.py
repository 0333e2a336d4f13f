"""Ready custom getters: ``variable_scope("net", custom_getter=js.getters.cast(jnp.bfloat16))``.

A getter stands between code that asks for variables and the variables: code that somebody else
wrote can be frozen, cast, renamed or adapted without a change. Getters of nested scopes compose,
the innermost is called first. Each here is a few lines; write your own the same way.

A getter that picks variables by name and fits none that a pass asks it for is an error, unless
``allow_empty``: a mistyped pattern, or values with other names, would go unnoticed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jscope import _pass, tree
from jscope._arguments import bad_argument, check_flag, check_size, widened
from jscope._hints import watch
from jscope._params import NestedMapping
from jscope._reading import NotPlannedError
from jscope._report import near_names, quoted, some_of
from jscope._settings import CustomGetter
from jscope._shape_dtype import PartialShape, dtype_or_none
from jscope._sharding import laid_out, layout, like
from jscope._spec import DType
from jscope._state import assign_full
from jscope._whole import gathered, is_on_mesh
from jscope.errors import EmptySelectionError, VariableNotFoundError
from jscope.regularizers import no_regularizer
from jscope.tree._patterns import Pattern, choose, show

__all__ = [
    "cast",
    "freeze",
    "gather",
    "initial_values",
    "low_rank",
    "moving_average",
    "rename",
    "spectral_normalization",
    "weight_normalization",
]


def __dir__() -> list[str]:
    return __all__


watch(__name__)


_Getter: TypeAlias = Callable[..., jax.Array]
"""The getter that a custom one is given."""
_Asked: TypeAlias = Any
"""What is asked for, by keyword: shape, dtype, initializer, ..."""


def cast(compute: DTypeLike, *, store: DTypeLike = jnp.float32) -> CustomGetter:
    """Stores variables of floats in one dtype and hands them out in another.

    Args:
      compute: Dtype of the values that the code gets, such as ``jnp.bfloat16``.
      store: Dtype of the variables in params, whatever float dtype the code asks for.

    Returns:
      A custom getter; integers and bools pass as they are.

    Raises:
      ArgumentError: (ValueError, TypeError) one is no floating dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("net", custom_getter=js.getters.cast(jnp.bfloat16)):
      ...         return js.get_variable("w", [2])
      >>> net = js.transform(fn)
      >>> params = net.init(0)
      >>> params["net"]["w"].dtype, net.apply(params, None).dtype
      (dtype('float32'), dtype(bfloat16))
    """
    for argument, dtype in (("compute", compute), ("store", store)):
        found = dtype_or_none(dtype)
        if found is None or not jnp.issubdtype(found, jnp.floating):
            raise bad_argument(argument, dtype, "a floating dtype")

    def getter(getter: _Getter, name: str, **request: _Asked) -> jax.Array:
        if not jnp.issubdtype(request["dtype"], jnp.floating):
            return getter(name, **request)
        if isinstance(request["initializer"], jax.Array | np.ndarray | np.generic):
            request["initializer"] = request["initializer"].astype(store)
        return getter(name, **{**request, "dtype": store}).astype(compute)

    return getter


def freeze(names: Pattern = "", *, allow_empty: bool = False) -> CustomGetter:
    """Stops gradients: variables stay in params, and an optimizer gets gradients of zero for them.

    Args:
      names: Which variables: a pattern of ``jscope.tree``, of full names. All by default.
      allow_empty: Whether the pattern may fit nothing.

    Returns:
      A custom getter.

    Raises:
      EmptySelectionError: (ValueError) at the end of a pass, if no variable asked for fits.

    Example:
      >>> import jax
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("base", custom_getter=js.getters.freeze()):
      ...         w = js.get_variable("w", initializer=2.0)
      ...     return w * js.get_variable("v", initializer=3.0)
      >>> net = js.transform(fn)
      >>> gradient = jax.grad(net.apply)(net.init(0), None)
      >>> gradient["base"]["w"].item(), gradient["v"].item()
      (0.0, 2.0)
    """
    fits = _Fits("freeze", names, allow_empty)

    def getter(getter: _Getter, name: str, **request: _Asked) -> jax.Array:
        value = getter(name, **request)
        return jax.lax.stop_gradient(value) if fits(name, value) else value

    return getter


def gather() -> CustomGetter:
    """Reads variables that are divided over a mesh whole, on every device (ZeRO-3, FSDP).

    For code that knows nothing of meshes: it computes with whole variables, and each device keeps
    its part of them. One layer is gathered at a time in ``layer_stack``. So that the backward pass
    gathers again, rather than keep all that was gathered, use ``layer_stack(checkpoint=True)`` or
    ``jscope.checkpoint``, which this getter makes trace its function in each scope.

    Along Explicit axes of the mesh gradients are divided as the variables are. Along Auto axes
    the compiler lays them out: as the variables where the same ``jax.jit`` updates these, else as
    its ``out_shardings`` say, which may be ``specs.shardings(mesh)``; with neither they may be
    whole.

    Returns:
      A custom getter. Without a mesh, and inside ``shard_map`` over all of it, it does nothing.
      With ``cast`` open this one inside: ``with variable_scope(..., custom_getter=cast(...))``
      around ``with variable_scope(..., custom_getter=gather())`` casts first, and half the bytes
      are sent.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> from jax.sharding import PartitionSpec as P
      >>> def model(x):
      ...     return js.layers.dense(x, 4)
      >>> whole = js.variable_scope("", custom_getter=js.getters.gather())(model)
      >>> net = js.sharded(js.transform(whole), js.sharding_rules({}, default=P("data")))
      >>> with jax.set_mesh(jax.make_mesh((1,), ("data",))):
      ...     params = net.init(0, jnp.ones([1, 2]))
      ...     net.apply(params, None, jnp.ones([1, 2])).shape
      (1, 4)
    """

    def getter(getter: _Getter, name: str, **request: _Asked) -> jax.Array:
        value = getter(name, **request)
        if not is_on_mesh(value):
            return value
        _ask_inside()
        return gathered(value)

    return getter


def _ask_inside() -> None:
    """Has a function that would be traced once be run under each scope.

    Else a getter runs outside of it, where a checkpoint would keep what was gathered.
    """
    running = _pass.current("get_variable")
    if running.calls.replayed is not None:
        raise NotPlannedError(_GATHERS)
    if running.recorder is not None:
        running.recorder.refuse(_GATHERS)


_GATHERS = "jscope.getters.gather gathers its variables"


def rename(names: Mapping[str, str]) -> CustomGetter:
    r"""Gives variables other names: for checkpoints of another dialect, say.

    Args:
      names: Regular expression -> replacement, as in ``re.sub``, applied to full names in turn.

    Returns:
      A custom getter.

    Example:
      >>> import jscope as js
      >>> slim = js.getters.rename({r"/kernel$": "/weights", r"/bias$": "/biases"})
      >>> def fn():
      ...     with js.variable_scope("conv1", custom_getter=slim):
      ...         js.get_variable("kernel", [2])
      ...         js.get_variable("bias", [2])
      >>> list(js.transform(fn).specs())
      ['conv1/weights', 'conv1/biases']
    """
    compiled = [(re.compile(pattern), new) for pattern, new in dict(names).items()]

    def getter(getter: _Getter, name: str, **request: _Asked) -> jax.Array:
        for pattern, new in compiled:
            name = pattern.sub(new, name)
        return getter(name, **request)

    return getter


def moving_average(averages: NestedMapping, *, allow_empty: bool = False) -> CustomGetter:
    """Reads averages in place of the variables, as TF1 code did with ``ema.average``.

    Args:
      averages: Nested mapping like params, or full name -> array; for example of
        ``optax.incremental_update``, or the ``ema`` of ``optax.ema``'s state.
      allow_empty: Whether the averages may hold nothing that is asked for.

    Returns:
      A custom getter. Variables that the averages do not hold are read themselves. Not for what is
      stacked, in ``layer_stack`` or a split ``vmap``: there, give ``apply`` the averages as params.

    Raises:
      EmptySelectionError: (ValueError) at the end of a pass, if they hold nothing asked for.
      ArgumentError: (ValueError, TypeError) from the request, if an average has another shape.

    Example:
      >>> import jscope as js
      >>> def fn(averages=None):
      ...     getter = js.getters.moving_average(averages) if averages else None
      ...     with js.variable_scope("net", custom_getter=getter):
      ...         return js.get_variable("w", initializer=2.0)
      >>> net = js.transform(fn)
      >>> net.apply(net.init(0), None, {"net": {"w": 5.0}}).item()
      5.0
    """
    flat = _flat(averages)
    fits = _Fits("moving_average", flat, allow_empty)

    def getter(getter: _Getter, name: str, **request: _Asked) -> jax.Array:
        value = getter(name, **request)
        if not fits(name, value):
            return value
        average = jnp.asarray(flat[name])
        if average.shape != value.shape:
            wanted = f"of shape {value.shape}"
            if average.shape[-value.ndim or average.ndim :] == value.shape:
                wanted += (
                    "; what is stacked cannot be read here, so give apply the averages as params"
                )
            raise bad_argument(f"average of {name}", average, wanted)
        return average.astype(value.dtype)

    return getter


def initial_values(
    values: NestedMapping, *, strict: bool = False, allow_empty: bool = False
) -> CustomGetter:
    """Starts variables from given values instead of their initializers, as ELMo's loader did.

    Args:
      values: Nested mapping, or full name -> array.
      strict: Whether every variable must be there.
      allow_empty: Whether the values may hold nothing that is asked for.

    Returns:
      A custom getter. Shapes must agree; the dtype asked for is kept. Not for what is stacked.

    Raises:
      EmptySelectionError: (ValueError) at the end of a pass, if they hold nothing asked for.
      VariableNotFoundError: (ValueError) from the request, if strict and a name is missing.
      InitializerError: (ValueError) from the request, if a value has another shape.
      ArgumentError: (ValueError, TypeError) from the request, if a value is no array or number, or
        one of floats for integers, or of complex numbers for floats.

    Example:
      >>> import numpy as np
      >>> import jscope as js
      >>> pretrained = {"lm/embedding": np.ones([5, 2], np.float32)}
      >>> def fn():
      ...     with js.variable_scope("lm", custom_getter=js.getters.initial_values(pretrained)):
      ...         js.get_variable("embedding", [5, 2])
      >>> js.transform(fn).init(0)["lm"]["embedding"].sum().item()
      10.0
    """
    flat = _flat(values)
    fits = _Fits("initial_values", flat, allow_empty)

    def getter(getter: _Getter, name: str, **request: _Asked) -> jax.Array:
        if fits(name, None):
            if name not in _pass.current("get_variable").records and request["reuse"] is not True:
                request["initializer"] = _value(name, flat[name], request["dtype"])
        elif strict:
            raise _not_in_values(name, known=flat)
        return getter(name, **request)

    return getter


def _not_in_values(name: str, *, known: Iterable[str]) -> VariableNotFoundError:
    near = tuple(near_names(name, known))
    return VariableNotFoundError(
        f"Variable {name} does not exist in the values given to initial_values.",
        {"near": quoted(near), "fix": "give a value for it, or leave strict out."},
        name=name,
        near=near,
        sites=(),
    )


def weight_normalization(names: Pattern = "", *, allow_empty: bool = False) -> CustomGetter:
    """Splits a variable into direction and length (Salimans and Kingma 2016): w = g v / |v|.

    As ``freeze``, with:
      names: Which variables: a pattern of ``jscope.tree``. Those of less than two axes pass as they
        are, as biases do, and so do those that are not trainable.

    Returns:
      A custom getter. ``kernel`` of shape [..., units] becomes ``kernel_v`` of that shape and
      ``kernel_g`` [units], which starts at 1.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("a", custom_getter=js.getters.weight_normalization()):
      ...         return js.get_variable("kernel", [3, 4])
      >>> net = js.transform(fn)
      >>> params = net.init(0)
      >>> params
      Params({'a': {'kernel_v': float32[3,4], 'kernel_g': float32[4]}})
      >>> bool(jnp.allclose(jnp.linalg.norm(net.apply(params, None), axis=0), 1))
      True
    """
    fits = _Fits("weight_normalization", names, allow_empty)

    def getter(getter: _Getter, name: str, **request: _Asked) -> jax.Array:
        shape = _shape(request)
        if request["shape"] is not None:
            request["shape"] = shape
        able = _is_known(f"{name}_v") if shape is None else len(shape) > 1
        if not fits(name, None, able=able and request["trainable"] is not False):
            return getter(name, **request)
        direction = getter(f"{name}_v", **request)
        one = jax.nn.initializers.ones
        plain = {**request, "regularizer": no_regularizer, "constraint": no_regularizer}
        sizes = direction.shape[-1:]
        length = getter(f"{name}_g", **{**plain, "shape": sizes, "initializer": one})
        wide = widened(direction)
        squares = jnp.sum(jnp.square(wide), tuple(range(wide.ndim - 1)), keepdims=True)
        norm = jnp.sqrt(jnp.where(squares > 0, squares, 1))  # zeros stay zeros, with a gradient
        lengths = like(jnp.reshape(length, norm.shape), direction)
        return direction * (lengths.astype(norm.dtype) / norm).astype(direction.dtype)

    return getter


def spectral_normalization(
    names: Pattern = "",
    *,
    training: bool = True,
    iterations: int = 1,
    epsilon: float = 1e-12,
    allow_empty: bool = False,
) -> CustomGetter:
    """Divides a variable by its largest singular value (Miyato et al. 2018, algorithm 1).

    That value is found by power iteration, whose vector is kept as state: each read in training
    goes on from where the last one ended. No gradient flows through the iteration.

    As ``freeze``, with:
      names: Which variables: a pattern of ``jscope.tree``. Those of less than two axes pass as they
        are, as biases do, and so do those that are not trainable.
      training: Whether reads move the kept vector; a Python bool. Pass False to evaluate, and
        inside raw JAX transforms, where state cannot be assigned.
      iterations: Steps of the power iteration at each read.
      epsilon: Added to squared lengths, so that zeros stay zeros.

    Returns:
      A custom getter, for functions of ``transform_with_state``. Beside ``kernel`` [..., units],
      taken as a matrix [any, units], it makes the state ``kernel_u`` [units].

    Raises:
      EmptySelectionError: (ValueError) at the end of a pass, if no variable asked for fits.
      StateError: (ValueError) from the request, if the pass is of ``jscope.transform``.
      TransformError: (ValueError) from the request, if training inside a raw JAX transform.
      ArgumentError: (ValueError, TypeError) another argument cannot be used.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def fn(training=True):
      ...     normal = js.getters.spectral_normalization(training=training, iterations=50)
      ...     with js.variable_scope("a", custom_getter=normal):
      ...         return js.get_variable("kernel", [3, 4])
      >>> net = js.transform_with_state(fn)
      >>> params, state = net.init(0)
      >>> state
      Params({'a': {'kernel_u': float32[4]}})
      >>> kernel, state = net.apply(params, state, None)
      >>> bool(jnp.allclose(jnp.linalg.norm(kernel, 2), 1, atol=1e-3))
      True
    """
    iterations = check_size("iterations", iterations)
    moves = check_flag("training", training)
    fits = _Fits("spectral_normalization", names, allow_empty)

    def getter(getter: _Getter, name: str, **request: _Asked) -> jax.Array:
        kernel = getter(name, **request)
        if not fits(name, kernel, able=kernel.ndim > 1 and request["trainable"] is not False):
            return kernel
        wide = widened(kernel)
        still = {
            **request,
            "shape": kernel.shape[-1:],
            "dtype": wide.dtype,
            "initializer": jax.nn.initializers.normal(1.0),
            "regularizer": no_regularizer,
            "constraint": no_regularizer,
            "partitioner": None,
            "collections": None,
            "trainable": False,
        }
        u = getter(f"{name}_u", **still).astype(wide.dtype)
        kept = _pass.current("get_variable").records.last  # getters further out may rename it
        find = functools.partial(_largest, iterations=iterations, epsilon=epsilon)
        largest, u = laid_out(find, wide, u, axes=[(), layout(u)])
        if moves:
            assign_full(kept, u)
        return kernel / jnp.where(largest == 0, 1, largest).astype(kernel.dtype)

    return getter


def _largest(
    kernel: jax.Array, u: jax.Array, *, iterations: int, epsilon: float
) -> tuple[jax.Array, jax.Array]:
    """The largest singular value, by a guess of its vector [columns], and a better guess."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    u, v = _iterated(jax.lax.stop_gradient(matrix), u, iterations, epsilon)
    return v @ matrix @ u, u


def _iterated(
    matrix: jax.Array, u: jax.Array, iterations: int, epsilon: float
) -> tuple[jax.Array, jax.Array]:
    """The singular vectors [columns] and [rows] of the largest value, from a guess of the first."""

    def unit(vector: jax.Array) -> jax.Array:
        return vector * jax.lax.rsqrt(jnp.sum(jnp.square(vector)) + epsilon)

    u = v = jax.lax.stop_gradient(u)
    for _ in range(iterations):
        v = unit(matrix @ u)
        u = unit(v @ matrix)
    return u, v


def low_rank(
    rank: int,
    *,
    scale: float = 1.0,
    names: Pattern = "**/kernel",
    train_base: bool = False,
    allow_empty: bool = False,
) -> CustomGetter:
    """Adapts frozen matrices by low-rank ones (LoRA, Hu et al. 2021): w + scale / rank * a b.

    Args:
      rank: Inner size of the product.
      scale: LoRA's alpha.
      names: Which variables: a pattern of ``jscope.tree``. Only matrices, [..., in, out] flattened
        to [any, out], are adapted.
      train_base: Whether gradients reach the adapted variables themselves.
      allow_empty: Whether the pattern may fit nothing.

    Returns:
      A custom getter. ``kernel`` [in, out] gets ``kernel_a`` [in, rank], random, and ``kernel_b``
      [rank, out], zeros, beside it, so that nothing changes at first. All other variables are
      frozen unless ``train_base``.

    Raises:
      ArgumentError: (ValueError, TypeError) ``rank`` is not a positive int.
      EmptySelectionError: (ValueError) at the end of a pass, if no variable asked for fits.

    Example:
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("a", custom_getter=js.getters.low_rank(2)):
      ...         return js.get_variable("kernel", [8, 4])
      >>> js.transform(fn).init(0)
      Params({'a': {'kernel': float32[8,4], 'kernel_a': float32[8,2], 'kernel_b': float32[2,4]}})
    """
    rank = check_size("rank", rank)
    fits = _Fits("low_rank", names, allow_empty)

    def getter(getter: _Getter, name: str, **request: _Asked) -> jax.Array:
        base = getter(name, **request)
        if not train_base:
            base = jax.lax.stop_gradient(base)
        if not fits(name, base, able=base.ndim > 1 and request["trainable"] is not False):
            return base
        inputs, outputs = base.size // base.shape[-1], base.shape[-1]
        plain = {
            **request,
            "dtype": base.dtype,
            "regularizer": no_regularizer,
            "constraint": no_regularizer,
            "partitioner": None,
        }
        small = jax.nn.initializers.normal(1 / np.sqrt(inputs))
        a = getter(f"{name}_a", **{**plain, "shape": [inputs, rank], "initializer": small})
        zeros = jax.nn.initializers.zeros
        b = getter(f"{name}_b", **{**plain, "shape": [rank, outputs], "initializer": zeros})
        add = functools.partial(_plus_product, scale=scale / rank)
        return laid_out(add, base, a, b, axes=[layout(base)])

    return getter


def _plus_product(base: jax.Array, a: jax.Array, b: jax.Array, *, scale: float) -> jax.Array:
    return base + jnp.reshape(a @ b, base.shape) * jnp.asarray(scale, base.dtype)


def _flat(values: NestedMapping) -> dict[str, ArrayLike]:
    """Full name -> leaf, of a nested mapping or of one that is flat already."""
    if not isinstance(values, Mapping):
        raise bad_argument("argument of a getter", values, "a mapping of names to arrays")
    flat: dict[str, ArrayLike] = {}
    for key, value in values.items():
        inner = tree.flatten(value) if isinstance(value, Mapping) else {"": value}
        flat.update({f"{key}/{name}".rstrip("/"): leaf for name, leaf in inner.items()})
    return flat


def _shape(request: Mapping[str, _Asked]) -> PartialShape | None:
    """The shape asked for; None where nothing tells it, as in a lookup."""
    shape, start = request["shape"], request["initializer"]
    if shape is None:
        return None if start is None or callable(start) else np.shape(start)
    return tuple(shape) if hasattr(shape, "__iter__") else (shape,)


def _is_known(name: str) -> bool:
    running = _pass.current("get_variable")
    return name in running.records or running.values.find(name) is not None


def _value(name: str, value: ArrayLike, dtype: DType) -> jax.Array | np.ndarray:
    """A value as an initial one, of a dtype that holds it."""
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    ranks = [
        next((rank for rank, kind in enumerate(kinds) if jnp.issubdtype(other, kind)), len(kinds))
        for other in (array.dtype, dtype)
    ]
    if array.dtype == dtype:
        return array
    if ranks[0] > ranks[1] or ranks[1] == len(kinds):
        raise bad_argument(f"initial value of {name}", value, f"numbers that {dtype} can hold")
    return array.astype(dtype)


class _Fits:
    """Whether a variable is among those that a getter is for: by a pattern, or a mapping's names.

    Refuses a pass that asks the getter for variables of which none is.
    """

    def __init__(
        self, getter: str, given: Pattern | dict[str, ArrayLike], allow_empty: bool
    ) -> None:
        self._getter = getter
        self._given = given
        self._allow_empty = allow_empty

    def __call__(self, name: str, value: jax.Array | None, *, able: bool = True) -> bool:
        """Also not if the getter is not able to do anything with this one."""
        if not able:
            found = False
        elif isinstance(self._given, dict):
            found = name in self._given
        else:
            (found,) = choose(self._given, [(name, value)], allow_empty=True)
        if not self._allow_empty and self._given != {}:
            watched = _pass.current("get_variable").watched
            missed = watched.setdefault(self, [])
            if found:
                watched[self] = None
            elif missed is not None:
                missed.append(name)
        return found

    def at_end(self, missed: list[str] | None) -> None:
        """Checks a pass that is done, by the names it missed; None if one fitted."""
        if missed:
            given = list(self._given) if isinstance(self._given, dict) else show(self._given)
            raise _fits_none(self._getter, given, missed)


def _fits_none(
    getter: str, given: Sequence[str] | str, asked: Sequence[str]
) -> EmptySelectionError:
    """Of a custom getter, by what it was given: a pattern, or names."""
    some = given if isinstance(given, str) else some_of(given)
    near = () if isinstance(given, str) else tuple(near_names(asked[0], given))
    fix = "patterns are matched with" if isinstance(given, str) else "values are found by"
    return EmptySelectionError(
        f"jscope.getters.{getter} fits none of the variables that this pass asked it for.",
        {
            "asked": some_of(asked),
            "given": some,
            "near": quoted(near),
            "fix": f"{fix} full names, those of jscope.tree.flatten(params). Pass "
            "allow_empty=True to allow this.",
        },
        pattern=some,
        near=near,
    )

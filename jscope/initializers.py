"""TF1's initializers, as functions ``f(key, shape, dtype)`` like those of ``jax.nn.initializers``.

Every name can be used in three ways, as TF1's classes could::

    get_variable("w", [3, 4], initializer=glorot_uniform)       # as it is: with TF1's defaults
    get_variable("w", [3, 4], initializer=glorot_uniform())     # the same
    get_variable("w", [3, 4], initializer=random_normal(stddev=0.02))

Called with nothing a name returns itself; called with options it returns an initializer that has
them; called with a key and a shape it returns an array. The values are those of
``jax.nn.initializers``, up to rounding, wherever TF1's distribution is the same.

TF1's ``seed`` must be None: the key comes from the pass and the name of the variable. A ``dtype``
counts where an initializer is called without one, by hand: ``get_variable`` always has one, and has
the last word, as in TF1.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import ParamSpec, Protocol, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jscope._arguments import bad_argument, number
from jscope._hints import watch
from jscope._params import PyTree
from jscope._spec import Initializer
from jscope.errors import ArgumentError

__all__ = [
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]


def __dir__() -> list[str]:
    return __all__


watch(__name__)


_MODES = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS = ("truncated_normal", "normal", "untruncated_normal", "uniform")
# Of the standard normal distribution between -2 and 2, in the digits that TF1 and JAX write.
_TRUNCATED_STDDEV = 0.87962566103423978

_Options = ParamSpec("_Options")


class _Named(Protocol[_Options]):
    """A name of this module: an initializer, and what makes others of its kind."""

    @overload  # no option has the place of the shape
    def __call__(  # type: ignore[overload-overlap]
        self, key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, /
    ) -> jax.Array: ...

    @overload
    def __call__(self, *args: _Options.args, **kwargs: _Options.kwargs) -> Initializer: ...


def _named(make: Callable[_Options, Initializer]) -> _Named[_Options]:
    """Makes ``make`` an initializer too; only that has a shape, by name or as second argument.

    All have ``seed`` and ``dtype``, which mean the same for each, so they are seen to here.
    """
    signature = inspect.signature(make)

    @functools.wraps(make)
    def named(*args: PyTree, **kwargs: PyTree) -> PyTree:
        if "shape" in kwargs or (len(args) > 1 and isinstance(args[1], tuple | list)):
            return make()(*args, **kwargs)  # type: ignore[call-arg] # the defaults are all there
        if not args and not kwargs:
            return named
        initializer = make(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        if given.get("seed") is not None:
            wanted = "None, as the key follows from rng and the variable's name"
            raise bad_argument("seed", given["seed"], wanted)
        return _with_dtype(initializer, given.get("dtype"))

    return named


def _with_dtype(initializer: Initializer, dtype: DTypeLike | None) -> Initializer:
    """The initializer with a dtype of its own, for calls that give none."""
    if dtype is None:
        return initializer
    try:
        known = jnp.dtype(dtype)
    except TypeError:
        raise bad_argument("dtype", dtype, "a dtype or None") from None
    return functools.partial(_of_dtype, initializer=initializer, default=known)


@_named
def zeros(dtype: DTypeLike | None = None, *, seed: None = None) -> Initializer:
    """Zeros, of any dtype.

    Args:
      dtype: Where the initializer is called without one; ``get_variable`` always gives one.
      seed: None.

    Raises:
      ArgumentError: (ValueError, TypeError) a seed is given, or no dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def net():
      ...     return js.get_variable("step", [], jnp.int32, initializer=js.initializers.zeros)
      >>> js.transform(net).init(0)["step"].item()
      0
    """
    return jax.nn.initializers.zeros


@_named
def ones(dtype: DTypeLike | None = None, *, seed: None = None) -> Initializer:
    """Ones, of any dtype.

    All else as in ``zeros``.

    Example:
      >>> import jscope as js
      >>> def net():
      ...     return js.get_variable("scale", [3], initializer=js.initializers.ones())
      >>> js.transform(net).init(0)["scale"].tolist()
      [1.0, 1.0, 1.0]
    """
    return jax.nn.initializers.ones


@_named
def constant(
    value: ArrayLike | Sequence[PyTree] = 0, dtype: DTypeLike | None = None, *, seed: None = None
) -> Initializer:
    """A number everywhere, or an array.

    Unlike TF1, which fills up with the last element, an array must broadcast to the shape.

    Args:
      value: Number or array [...]; a NumPy array is copied. A value computed in the function needs
        no ``constant``: give it to ``get_variable`` as the initializer.
      dtype: Where the initializer is called without one; ``get_variable`` always gives one.
      seed: None.

    Raises:
      ArgumentError: (ValueError, TypeError) the value is no number or array; and, when a variable
        is made, it does not broadcast to the shape or cannot be held by the dtype.

    Example:
      >>> import jscope as js
      >>> def net():
      ...     return js.get_variable("b", [2, 3], initializer=js.initializers.constant([1, 2, 3]))
      >>> js.transform(net).init(0)["b"].tolist()
      [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    """
    try:
        array = np.array(value)
    except (ValueError, TypeError):  # a ragged list, or a tracer
        array = np.asarray(None)
    if not jnp.issubdtype(array.dtype, jnp.number) and array.dtype != np.bool_:
        raise bad_argument("value", value, "a number or an array, known before the pass")
    # A number is recognised by value wherever it is made, an array only as the same object.
    return functools.partial(_constant, value=array if array.ndim else array.item())


@_named
def identity(
    gain: float = 1.0, dtype: DTypeLike | None = None, *, seed: None = None
) -> Initializer:
    """The identity matrix, times a number; shapes [rows, columns] only, which may differ.

    Args:
      gain: What the diagonal is filled with.
      dtype: Where the initializer is called without one; ``get_variable`` always gives one.
      seed: None.

    Raises:
      ArgumentError: (ValueError, TypeError) ``gain`` is no number; and, when a variable is made,
        the shape has not two axes or the dtype is no floating one.

    Example:
      >>> import jscope as js
      >>> def net():
      ...     return js.get_variable("w", [2, 3], initializer=js.initializers.identity)
      >>> js.transform(net).init(0)["w"].tolist()
      [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    return functools.partial(_identity, gain=number("gain", gain))


@_named
def orthogonal(gain: float = 1.0, seed: None = None, dtype: DTypeLike | None = None) -> Initializer:
    """A random orthogonal matrix, of Saxe et al. 2013 (arXiv:1312.6120).

    A shape [..., out] is taken as the matrix [product of ..., out]: its columns are orthonormal, or
    its rows where it has fewer of them. Uniform over all such matrices (Haar), as in TF1. Computed
    in float32 for narrower dtypes.

    Args:
      gain: What the matrix is multiplied by.
      seed: None: the key follows from the rng of the pass and the variable's name.
      dtype: Where the initializer is called without one; ``get_variable`` always gives one.

    Raises:
      ArgumentError: (ValueError, TypeError) ``gain`` is no number; and, when a variable is made,
        the shape has fewer than two axes or the dtype is no floating one.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> w = js.initializers.orthogonal(gain=2.0)(jax.random.key(0), (5, 3), jnp.float32)
      >>> bool(jnp.allclose(w.T @ w, 4 * jnp.eye(3), atol=1e-5))
      True
    """
    return functools.partial(_orthogonal, gain=number("gain", gain))


@_named
def random_normal(
    mean: float = 0.0, stddev: float = 1.0, seed: None = None, dtype: DTypeLike | None = None
) -> Initializer:
    """Draws from a normal distribution.

    Args:
      mean: The mean.
      stddev: The standard deviation.
      seed: None: the key follows from the rng of the pass and the variable's name.
      dtype: Where the initializer is called without one; ``get_variable`` always gives one.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument is no number, or ``stddev`` is negative;
        and, when a variable is made, its dtype is no floating one.

    Example:
      >>> import jscope as js
      >>> init = js.initializers.random_normal(stddev=0.02)
      >>> js.transform(lambda: js.get_variable("w", [3, 4], initializer=init)).init(0)
      Params({'w': float32[3,4]})
    """
    return functools.partial(
        _normal, mean=number("mean", mean), stddev=number("stddev", stddev, least=0)
    )


@_named
def truncated_normal(
    mean: float = 0.0, stddev: float = 1.0, seed: None = None, dtype: DTypeLike | None = None
) -> Initializer:
    """Draws from a normal distribution, none further than two ``stddev`` from the mean.

    As in TF1, ``stddev`` is that of the distribution before it is cut: what is left of it has a
    standard deviation of 0.8796 ``stddev``. ``variance_scaling`` makes up for it, this does not.

    All else as in ``random_normal``.

    Example:
      >>> import jscope as js
      >>> init = js.initializers.truncated_normal(stddev=0.02)
      >>> net = js.transform(lambda: js.get_variable("w", [3, 4], initializer=init))
      >>> bool(abs(net.init(0)["w"]).max() <= 0.04)
      True
    """
    return functools.partial(
        _truncated, mean=number("mean", mean), stddev=number("stddev", stddev, least=0)
    )


@_named
def random_uniform(
    minval: float = 0,
    maxval: float | None = None,
    seed: None = None,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draws uniformly from [minval, maxval), for floats and for integers; floats are rounded.

    Args:
      minval: The lower bound.
      maxval: The upper bound, drawn only by rounding; None is 1 for floats. Integers need one.
      seed: None: the key follows from the rng of the pass and the variable's name.
      dtype: Where the initializer is called without one; ``get_variable`` always gives one.

    Raises:
      ArgumentError: (ValueError, TypeError) a bound is no number, or ``maxval`` is less than
        ``minval``; and, when a variable is made, its dtype is neither a floating nor an integer
        one, or an integer one where the bounds are not integers that it can hold, or are equal.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> init = js.initializers.random_uniform(0, 10)
      >>> net = js.transform(lambda: js.get_variable("digits", [5], jnp.int32, initializer=init))
      >>> bool((net.init(0)["digits"] < 10).all())
      True
    """
    low = number("minval", minval)
    if maxval is None and low <= 1:
        return functools.partial(_uniform, minval=_whole(low), maxval=None)
    high = number("maxval", maxval, least=low)
    return functools.partial(_uniform, minval=_whole(low), maxval=_whole(high))


@_named
def variance_scaling(
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    seed: None = None,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draws with a variance of ``scale / n``, n from the shape.

    A kernel [..., in, out] has a fan in of ``in`` and a fan out of ``out``, each times the product
    of the other axes. As in TF1 a vector [n] has fans of n and a scalar has fans of 1, and n is at
    least 1, so that empty shapes are fine.

    The others are special cases: ``glorot`` is (1, "fan_avg"), ``he`` (2, "fan_in") and ``lecun``
    (1, "fan_in"), ``..._uniform`` with "uniform" and ``..._normal`` with "truncated_normal".

    Args:
      scale: Positive number.
      mode: What n is: "fan_in", "fan_out", or "fan_avg" for their mean.
      distribution: "uniform" (between ``-limit`` and ``limit = sqrt(3 * scale / n)``),
        "truncated_normal" (within two standard deviations, which are made larger for it so that
        the variance after truncation is ``scale / n``), "normal" (in TF1 the same as
        "truncated_normal") or "untruncated_normal".
      seed: None: the key follows from the rng of the pass and the variable's name.
      dtype: Where the initializer is called without one; ``get_variable`` always gives one.

    Raises:
      ArgumentError: (ValueError, TypeError) ``scale`` is not positive, or another argument is none
        of these words; and, when a variable is made, its dtype is no floating one.

    Example:
      >>> import jscope as js
      >>> init = js.initializers.variance_scaling(2.0, "fan_out", "untruncated_normal")
      >>> js.transform(lambda: js.get_variable("w", [3, 3, 8, 16], initializer=init)).init(0)
      Params({'w': float32[3,3,8,16]})
    """
    if mode not in _MODES:
        raise bad_argument("mode", mode, "one of " + ", ".join(map(repr, _MODES)))
    word = distribution.lower() if isinstance(distribution, str) else distribution
    if word not in _DISTRIBUTIONS:
        known = ", ".join(map(repr, _DISTRIBUTIONS))
        raise bad_argument("distribution", distribution, f"one of {known}")
    return functools.partial(
        _scaled,
        scale=number("scale", scale, above=0),
        mode=mode,
        distribution="truncated_normal" if word == "normal" else word,
    )


@_named
def glorot_uniform(seed: None = None, dtype: DTypeLike | None = None) -> Initializer:
    """Uniform, with a variance of 1 / fan_avg: TF1's default for floats.

    Of Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural
    networks"; also named after Xavier. The fans are those of ``variance_scaling``.

    Args:
      seed: None: the key follows from the rng of the pass and the variable's name.
      dtype: Where the initializer is called without one; ``get_variable`` always gives one.

    Raises:
      ArgumentError: (ValueError, TypeError) a seed is given, or no dtype; and, when a variable is
        made, its dtype is no floating one.

    Example:
      >>> import jscope as js
      >>> net = js.transform(lambda: js.get_variable("w", [3, 4]))
      >>> net.specs()["w"].initializer is js.initializers.glorot_uniform
      True
    """
    return variance_scaling(1.0, "fan_avg", "uniform")


@_named
def glorot_normal(seed: None = None, dtype: DTypeLike | None = None) -> Initializer:
    """Truncated normal, with a variance of 1 / fan_avg, of Glorot and Bengio 2010.

    All else as in ``glorot_uniform``.

    Example:
      >>> import jscope as js
      >>> init = js.initializers.glorot_normal
      >>> js.transform(lambda: js.get_variable("w", [3, 4], initializer=init)).init(0)
      Params({'w': float32[3,4]})
    """
    return variance_scaling(1.0, "fan_avg", "truncated_normal")


@_named
def he_uniform(seed: None = None, dtype: DTypeLike | None = None) -> Initializer:
    """Uniform, with a variance of 2 / fan_in, of He et al. 2015 (arXiv:1502.01852), for relu.

    All else as in ``glorot_uniform``.

    Example:
      >>> import jscope as js
      >>> init = js.initializers.he_uniform
      >>> js.transform(lambda: js.get_variable("w", [3, 4], initializer=init)).init(0)
      Params({'w': float32[3,4]})
    """
    return variance_scaling(2.0, "fan_in", "uniform")


@_named
def he_normal(seed: None = None, dtype: DTypeLike | None = None) -> Initializer:
    """Truncated normal, with a variance of 2 / fan_in, of He et al. 2015 (arXiv:1502.01852).

    All else as in ``glorot_uniform``.

    Example:
      >>> import jscope as js
      >>> init = js.initializers.he_normal
      >>> js.transform(lambda: js.get_variable("w", [3, 4], initializer=init)).init(0)
      Params({'w': float32[3,4]})
    """
    return variance_scaling(2.0, "fan_in", "truncated_normal")


@_named
def lecun_uniform(seed: None = None, dtype: DTypeLike | None = None) -> Initializer:
    """Uniform, with a variance of 1 / fan_in, of LeCun et al. 1998, "Efficient BackProp".

    All else as in ``glorot_uniform``.

    Example:
      >>> import jscope as js
      >>> init = js.initializers.lecun_uniform
      >>> js.transform(lambda: js.get_variable("w", [3, 4], initializer=init)).init(0)
      Params({'w': float32[3,4]})
    """
    return variance_scaling(1.0, "fan_in", "uniform")


@_named
def lecun_normal(seed: None = None, dtype: DTypeLike | None = None) -> Initializer:
    """Truncated normal, with a variance of 1 / fan_in, of LeCun et al. 1998, "Efficient BackProp".

    All else as in ``glorot_uniform``.

    Example:
      >>> import jscope as js
      >>> init = js.initializers.lecun_normal
      >>> js.transform(lambda: js.get_variable("w", [3, 4], initializer=init)).init(0)
      Params({'w': float32[3,4]})
    """
    return variance_scaling(1.0, "fan_in", "truncated_normal")


# What the initializers with options are partials of: picklable, and recognised by value.


def _of_dtype(
    key: jax.Array,
    shape: Sequence[int],
    dtype: DTypeLike | None = None,
    *,
    initializer: Initializer,
    default: DTypeLike,
) -> jax.Array:
    return initializer(key, tuple(shape), default if dtype is None else dtype)


def _constant(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, value: ArrayLike
) -> jax.Array:
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    array = np.asarray(value)
    # As in TF1, a float is no integer, not even 3.0.
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if jnp.issubdtype(dtype, jnp.inexact):
        lost = np.isfinite(array) & ~np.isfinite(cast)
    else:
        lost = cast != array
    if _kind(array.dtype) > _kind(dtype) or lost.any():
        raise bad_argument("value of constant", value, f"one that {dtype} can hold")
    try:
        np.broadcast_to(array, shape)
    except ValueError:
        wanted = f"one that broadcasts to {tuple(shape)}"
        raise bad_argument("value of constant", value, wanted) from None
    return jax.nn.initializers.constant(array)(key, shape, dtype)


def _identity(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, gain: float
) -> jax.Array:
    if len(shape) != 2:
        raise _cannot_make("identity", "two-dimensional shapes", tuple(shape))
    _check_floating("identity", dtype)
    return jnp.eye(shape[0], shape[1], dtype=dtype) * gain


def _cannot_make(initializer: str, wanted: str, found: object) -> ArgumentError:
    return ArgumentError(
        f"The initializer {initializer} makes {wanted} only, got {found}.",
        argument="initializer",
        value=str(found),
    )


def _orthogonal(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, gain: float
) -> jax.Array:
    if len(shape) < 2:
        wanted = "shapes of at least two dimensions"
        raise _cannot_make("orthogonal", wanted, tuple(shape))
    wide = _check_floating("orthogonal", dtype, least=4)  # LAPACK has nothing narrower
    return jax.nn.initializers.orthogonal(gain)(key, shape, wide).astype(dtype)


def _normal(
    key: jax.Array,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    mean: float,
    stddev: float,
) -> jax.Array:
    wide = _check_floating("random_normal", dtype)
    return (jax.nn.initializers.normal(stddev)(key, shape, wide) + mean).astype(dtype)


def _truncated(
    key: jax.Array,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    mean: float,
    stddev: float,
) -> jax.Array:
    wide = _check_floating("truncated_normal", dtype)
    return (jax.nn.initializers.truncated_normal(stddev)(key, shape, wide) + mean).astype(dtype)


def _uniform(
    key: jax.Array,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    minval: float,
    maxval: float | None,
) -> jax.Array:
    if not jnp.issubdtype(dtype, jnp.integer):
        wide = _check_floating("random_uniform", dtype)
        high = 1.0 if maxval is None else maxval
        return jax.random.uniform(key, shape, wide, minval, high).astype(dtype)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if maxval is None:
        raise bad_argument("maxval", maxval, f"given for the integer dtype {dtype}")
    limits = jnp.iinfo(dtype)  # type: ignore[no-untyped-call]
    for argument, bound in (("minval", minval), ("maxval", maxval)):
        if not isinstance(bound, int) or not limits.min <= bound <= limits.max:
            raise bad_argument(argument, bound, f"an integer that {dtype} can hold")
    if minval == maxval:
        raise bad_argument("maxval", maxval, f"above minval for the integer dtype {dtype}")
    bounds = jnp.array([minval, maxval], dtype)
    return jax.random.randint(key, shape, bounds[0], bounds[1], dtype)


def _scaled(
    key: jax.Array,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    scale: float,
    mode: str,
    distribution: str,
) -> jax.Array:
    _check_floating("variance_scaling", dtype)
    # Own fans: JAX has none for scalars and vectors, and divides by zero for empty shapes.
    fan_in, fan_out = _fans(shape)
    n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    variance = scale / max(1.0, n)
    if distribution == "uniform":
        limit = math.sqrt(3 * variance)
        return _uniform(key, shape, dtype, minval=-limit, maxval=limit)
    if distribution == "untruncated_normal":
        return _normal(key, shape, dtype, mean=0.0, stddev=math.sqrt(variance))
    stddev = math.sqrt(variance) / _TRUNCATED_STDDEV
    return _truncated(key, shape, dtype, mean=0.0, stddev=stddev)


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    receptive = math.prod(shape[:-2])
    return shape[-2] * receptive, shape[-1] * receptive


def _check_floating(name: str, dtype: DTypeLike, *, least: int = 2) -> DTypeLike:
    """The dtype to draw in: of at least ``least`` bytes, as JAX draws NaN in one byte."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise _cannot_make(name, "floating dtypes", jnp.dtype(dtype))
    return dtype if jnp.dtype(dtype).itemsize >= least else jnp.float32


def _whole(value: float) -> float:
    return int(value) if value.is_integer() else value


def _kind(dtype: DTypeLike) -> int:
    """0 for integers and bools, 1 for floats, 2 for complex numbers."""
    return jnp.issubdtype(dtype, jnp.inexact) + jnp.issubdtype(dtype, jnp.complexfloating)

"""The shape, the dtype and the constant that a request asks for."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jscope import _jaxapi
from jscope._arguments import as_int, is_dtype_class, static_fix
from jscope._pass import Pass
from jscope._report import brief, initializer_error, is_shaped
from jscope._settings import Settings
from jscope._spec import DType, Shape
from jscope.errors import InitializerError, InitializerTypeError, Site

ShapeLike: TypeAlias = int | Iterable[int | None]
PartialShape: TypeAlias = tuple[int | None, ...]
"""The sizes asked for; None for any."""

FLOAT32 = np.dtype(np.float32)


class Constant(NamedTuple):
    """Shape and dtype of a constant initializer; ``weak`` marks Python numbers."""

    shape: Shape
    dtype: DType
    weak: bool


def as_constant(running: Pass, full: str, initializer: object) -> Constant | None:
    if initializer is None or (callable(initializer) and not is_dtype_class(initializer)):
        return None
    if isinstance(initializer, jax.Array):
        return Constant(initializer.shape, initializer.dtype, weak=False)
    if isinstance(initializer, bool | int | float | complex):
        try:
            kind = np.result_type(jnp.result_type(initializer))
        except OverflowError:
            kind = np.result_type(jnp.result_type(int))
        return Constant((), kind, weak=True)
    if isinstance(initializer, list | tuple | np.ndarray | np.generic):
        try:
            array = np.asarray(initializer)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind == "O" and all(as_int(value) is not None for value in array.flat):
            return Constant(array.shape, np.result_type(jnp.result_type(int)), weak=True)
        if array.dtype.kind in "biufcV":
            typed = isinstance(initializer, np.ndarray | np.generic)
            # As jnp.asarray: Python floats are float32, and 64 bits only where they are enabled.
            kind = array.dtype if typed else np.dtype(jnp.result_type(array.dtype.type(0).item()))
            kind = jax.dtypes.canonicalize_dtype(kind)
            return Constant(array.shape, kind, weak=not typed)
    raise not_an_initializer(f"Variable {full}", initializer, running.here())


def not_an_initializer(
    subject: str, initializer: object, sites: tuple[Site, ...]
) -> InitializerTypeError:
    return initializer_error(
        InitializerTypeError,
        f"The initializer passed is not valid. {subject} got {brief(initializer)} of type "
        f"{type(initializer).__name__}.",
        subject.removeprefix("Variable "),
        sites,
        _misplaced("initializer", initializer)
        or "pass a function f(key, shape, dtype), such as jax.nn.initializers.zeros, or a "
        "constant (an array or a number).",
    )


def _misplaced(argument: str, value: Any) -> str | None:
    """What to do about a shape, a dtype or an initializer in the place of another."""
    if is_dtype_class(value) or isinstance(value, np.dtype):
        kind = "dtype"
    elif isinstance(value, str):
        kind = "dtype" if dtype_or_none(value) is not None else argument
    elif callable(value):
        kind = "initializer"
    elif isinstance(value, list | tuple) and argument == "dtype":
        kind = "shape"
    else:
        return None
    if kind == argument:
        return None
    return (
        f"this is a{'n' * (kind == 'initializer')} {kind}: give it as {kind}=...; the order of "
        "get_variable is name, shape, dtype, initializer."
    )


def asked_dtype(
    running: Pass, full: str, dtype: DTypeLike | None, constant: Constant | None, settings: Settings
) -> DType | None:
    """The dtype that somebody asked for: the argument's, else the constant's, else the scope's."""
    if dtype is None:
        return settings.dtype if constant is None else constant.dtype
    asked = dtype_or_none(dtype)
    if asked is None:
        raise not_a_dtype(full, dtype, running.here())
    if constant is not None and not constant.weak and constant.dtype != asked:
        raise _constant_dtype(full, asked, constant.dtype, running.here())
    return asked


def _constant_dtype(
    name: str, dtype: object, found: object, sites: tuple[Site, ...]
) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"Initializer type '{found}' and explicit dtype '{dtype}' don't match.",
        name,
        sites,
        f"cast the constant, or ask for dtype {found}.",
    )


def not_a_dtype(name: str, dtype: object, sites: tuple[Site, ...]) -> InitializerTypeError:
    return initializer_error(
        InitializerTypeError,
        f"Cannot convert {brief(dtype)} to a dtype of JAX.",
        name,
        sites,
        _misplaced("dtype", dtype) or "pass a dtype such as jnp.float32, 'bfloat16' or np.int32.",
    )


def dtype_or_none(dtype: Any) -> DType | None:
    try:
        return _canonical(dtype, bool(jax.config.read("jax_enable_x64")))
    except TypeError:
        return None


@functools.lru_cache(maxsize=1024)
def _canonical(dtype: Any, x64: bool) -> DType:
    if not isinstance(dtype, type) and jnp.issubdtype(dtype, jax.dtypes.extended):
        keys: DType = dtype  # of typed keys: JAX's own, no dtype of NumPy
        return keys
    if dtype is int:  # as in TF1, which does not say how many bits it would have
        raise TypeError(dtype)
    found = jnp.dtype(dtype)
    if found.kind in "OSUMm":
        raise TypeError(dtype)
    return np.dtype(jax.dtypes.canonicalize_dtype(found))


def as_shape(running: Pass, full: str, shape: Any) -> PartialShape:
    if type(shape) is tuple or type(shape) is list:
        for dim in shape:
            if type(dim) is not int or dim < 0:
                break
        else:
            return tuple(shape)
    elif isinstance(shape, _jaxapi.Tracer):
        raise _not_a_size(full, shape, running.here())
    elif isinstance(shape, str | bytes) or not hasattr(shape, "__iter__"):
        shape = (shape,)
    elif isinstance(shape, np.ndarray):
        shape = shape.ravel()
    return tuple([_dimension(running, full, dim) for dim in shape])


def _dimension(running: Pass, full: str, dim: object) -> int | None:
    if dim is None:
        return None
    size = as_int(dim)
    if size is None:
        raise _not_a_size(full, dim, running.here())
    if size < 0:
        raise _negative(full, size, running.here())
    return size


def _not_a_size(name: str, dim: object, sites: tuple[Site, ...]) -> InitializerTypeError:
    return initializer_error(
        InitializerTypeError,
        "Dimension value must be integer or None or have an __index__ method, got value "
        f"'{brief(dim) if is_shaped(dim) else dim}' with type '{type(dim)}'",
        name,
        sites,
        _misplaced("shape", dim)
        or static_fix(dim, "a size")
        or "give a shape of integers, such as [3, 4]; shapes are static in JAX.",
    )


def _negative(name: str, dim: int, sites: tuple[Site, ...]) -> InitializerError:
    return initializer_error(
        InitializerError, f"Dimension {dim} must be >= 0", name, sites, "give a shape of sizes."
    )


def fits(wanted: PartialShape, shape: Shape) -> bool:
    """Whether a shape is the one asked for, in which None matches any size."""
    return wanted == shape or (
        len(wanted) == len(shape)
        and all(dim is None or dim == size for dim, size in zip(wanted, shape, strict=True))
    )

"""What users may give: one rule for integers, for flags, for numbers and for arrays."""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jscope._report import brief, is_shaped
from jscope.errors import ArgumentError


def as_int(value: Any) -> int | None:
    """A Python or NumPy integer as an int; None for all else, bools included."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)
    except (TypeError, jax.errors.JAXTypeError):
        return None


def check_size(argument: str, value: Any, least: int = 1) -> int:
    """A number of units, layers, ...: an int of ``least`` or more."""
    size = as_int(value)
    if size is None or size < least:
        raise bad_static(argument, value, f"an int of {least} or more")
    return size


def as_bool(value: Any) -> bool | None:
    """A truth value as a bool: True or 1, of Python, NumPy or a scalar array; else None.

    None for a traced value too: JAX knows it when what it decides has been traced.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    try:
        if isinstance(value, np.ndarray | jax.Array) and value.dtype == np.bool_:
            return bool(value) if value.ndim == 0 else None
        found = operator.index(value)
    except (TypeError, jax.errors.JAXTypeError):
        return None
    return bool(found) if found in (0, 1) else None


def check_flag(argument: str, value: object, wanted: str = "True or False") -> bool:
    """A truth value, known in Python, as a bool."""
    flag = as_bool(value)
    if flag is None:
        raise bad_static(argument, value, wanted)
    return flag


def as_array(argument: str, value: object) -> jax.Array:
    """An array of JAX or NumPy, or a Python number, as an array of JAX."""
    numeric = jax.Array | np.ndarray | np.generic | bool | int | float | complex
    if not isinstance(value, numeric) and not hasattr(value, "__jax_array__"):
        raise bad_argument(argument, value, "an array or a number")
    try:
        return jnp.asarray(value)
    except OverflowError:
        raise bad_argument(argument, value, "a number that JAX's default dtype can hold") from None


def as_arrays(argument: str, tree: Any) -> Any:
    """``as_array`` of every leaf."""
    return jax.tree.map(functools.partial(as_array, argument), tree)


def number(
    argument: str, value: Any, *, least: float = -math.inf, above: float = -math.inf
) -> float:
    """A finite Python or NumPy number as a float.

    Not an array: what holds the number is compared by value, and may outlive a trace.
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if real and math.isfinite(value) and value >= least and value > above:
        return float(value)
    wanted = "a finite number, of Python or NumPy"
    if math.isfinite(least):
        wanted += f", of at least {least:g}"
    if math.isfinite(above):
        wanted += f", above {above:g}"
    raise bad_argument(argument, value, wanted)


def is_dtype_class(value: object) -> bool:
    """Whether it is a dtype and no function, though it can be called: ``np.float32``, ``float``."""
    return isinstance(value, type) and (
        issubclass(value, np.generic | bool | int | float | complex)
        or isinstance(value, type(jnp.float32))
    )


def can_call(function: Callable[..., Any], /, *args: object, **kwargs: object) -> bool:
    """Whether a function takes these arguments; True where Python does not know."""
    signature = _signature(function)
    try:
        return signature is None or bool(signature.bind(*args, **kwargs))
    except TypeError:
        return False


def call_shape(function: Callable[..., Any]) -> str:
    """A function's name and the names of its parameters, for messages: ``zeros(shape, dtype)``."""
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}({', '.join(parameters(function))})"


def parameters(function: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters in turn; ``...`` where Python does not know."""
    signature = _signature(function)
    if signature is None:
        return ["..."]
    return [
        str(x.replace(annotation=x.empty, default=x.empty)) for x in signature.parameters.values()
    ]


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def bad_argument(
    argument: str, value: object, wanted: str, fix: str | None = None
) -> ArgumentError:
    kind = "" if is_shaped(value) else f" of type {type(value).__name__}"
    return ArgumentError(
        f"The {argument} must be {wanted}, got {brief(value)}{kind}.",
        {"fix": fix},
        argument=argument,
        value=brief(value),
    )


def bad_static(argument: str, value: object, wanted: str) -> ArgumentError:
    """Of an argument that decides what is traced, and so cannot be traced itself."""
    return bad_argument(argument, value, wanted, static_fix(value, argument))


def static_fix(value: object, argument: str) -> str | None:
    """What to do about an array where Python is to decide; None for any other value."""
    if not isinstance(value, jax.Array):
        return None
    return (
        f"pass a Python value, which decides what is traced: {argument} is an array here. Under "
        "jit or checkpoint name it in static_argnames."
    )


def widened(array: jax.Array) -> jax.Array:
    """The array in float32 if it has fewer bits or holds integers: sums are beyond those."""
    narrow = not jnp.issubdtype(array.dtype, jnp.inexact) or array.dtype.itemsize < 4
    return array.astype(jnp.float32) if narrow else array

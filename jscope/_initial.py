"""What the first value of a new variable is made from: its initializer, or the default."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jscope import _jaxapi, _pass, _program, initializers
from jscope._arguments import call_shape, can_call, parameters
from jscope._keys import or_any
from jscope._pass import Pass
from jscope._report import array_type, dims, initializer_error, report_at
from jscope._shape_dtype import Constant, PartialShape, fits
from jscope._spec import DType, Initializer, InitializerLike, Shape
from jscope.errors import InitializerError, InitializerTypeError, JscopeError, RngError, Site

_LARGEST = 2**63 - 1
"""The largest size of an axis."""
_SHAPES = ("shape", "size")
"""What initializers that take no key call their first argument."""


@functools.cache
def default_initializer(dtype: np.dtype[Any]) -> Initializer | None:
    """TF1's default by dtype: glorot_uniform, zeros, or None where it has none."""
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize > 1:
        return initializers.glorot_uniform
    if jnp.issubdtype(dtype, jnp.integer) or dtype == np.bool_:
        return initializers.zeros
    return None


def initial(
    running: Pass,
    full: str,
    given: InitializerLike,
    dtype: DType,
    shape: Any,
    constant: Constant | None,
) -> tuple[Shape, InitializerLike]:
    """The whole shape of a new variable, and its initializer: ``given``, or the default."""
    if constant is not None:
        if shape is not None and not fits(shape, constant.shape):
            raise _constant_shape(full, shape, constant.shape, running.here())
        if isinstance(given, _jaxapi.Tracer):
            _check_traced(running, full, given)
        elif not isinstance(given, jax.Array):
            given = _cast(running, full, given, dtype)
        return constant.shape, given
    if shape is None or None in shape:
        partial = shape is not None or given is not None
        raise _no_shape(full, running.here(), partial=partial)
    if given is None:
        given = default_initializer(dtype)
        if given is None:
            raise _no_default(full, dtype, running.here())
    return shape, given


def start_of(
    running: Pass, full: str, shape: Shape, dtype: DType, initializer: Initializer
) -> _program.Program:
    """Calls an initializer without computing anything: what it does is the initial value."""
    key = running.level.keys.key
    if shape and max(shape) > _LARGEST:
        raise _too_large(full, max(shape), running.here())
    try:
        with _pass.no_pass():
            kind = or_any(key).dtype
            program = _program.trace(initializer, shape, dtype, kind, running.programs)
    except _program.WrongResultError as wrong:
        name = getattr(initializer, "__qualname__", type(initializer).__name__)
        unfit = _unfit(full, initializer, f"it returned {wrong}", running.here())
        place = name, (shape, dtype), str(wrong), running.here()
        raise unfit or _wrong_result(full, *place) from None
    except jax.errors.UnexpectedTracerError:
        raise _leaked_initial(full, running.here()) from None
    except JscopeError as error:
        _program.add_place(error, full, jax.ShapeDtypeStruct(shape, dtype), running.here())
        raise
    except Exception as error:
        unfit = _unfit(full, initializer, str(error).partition("\n")[0], running.here())
        raised = unfit or error
        _program.add_place(raised, full, jax.ShapeDtypeStruct(shape, dtype), running.here())
        if unfit is None:
            raise
        raise unfit from error
    for value in program.traced:
        _check_traced(running, full, value)
    if key is None and program.draws:
        raise _needs_rng(full, running.here())
    return program


def _cast(running: Pass, full: str, given: object, dtype: DType) -> np.ndarray[Any, Any]:
    """A constant as an array of its own: the user may change what was given."""
    array = np.asarray(given)
    whole = dtype.kind in "iu" and array.dtype.kind in "iuO" and array.size
    if whole and running.values.initializing:  # NumPy would take the lower bits
        bounds = np.iinfo(dtype.name)
        for value in (array.min(), array.max()):
            if not bounds.min <= int(value) <= bounds.max:
                raise _overflow(full, int(value), dtype, running.here())
    return np.array(given, dtype)


def _unfit(
    name: str, initializer: Initializer, reason: str, sites: tuple[Site, ...]
) -> InitializerTypeError | None:
    """Of an initializer that failed and is none by its parameters; None of any other.

    Its parameters are looked at to word the error alone: what can be called is called.
    """
    first, *others = (*parameters(initializer), "")
    module = str(getattr(initializer, "__module__", ""))
    is_library = module.startswith(("numpy", "jax.numpy"))
    if module.startswith("jscope"):  # whose signatures are of what makes initializers
        return None
    if first == "..." and not is_library:
        return None
    if first not in _SHAPES and not is_library and can_call(initializer, None, (), None):
        return None
    own = getattr(initializer, "__name__", type(initializer).__name__)
    if own in ("zeros", "ones"):
        fix = f"pass jax.nn.initializers.{own}."
    elif first in _SHAPES and any(x in others for x in ("dtype", "partition_info")):
        call = "f(shape, dtype)" if can_call(initializer, (), None) else "f(shape, dtype, None)"
        fix = (
            f"adapt it: initializer=lambda key, shape, dtype: {call}, where f is this one; what it "
            "draws should come from the key, or every init gives other values."
        )
    else:
        fix = (
            "pass a function f(key, shape, dtype), such as jax.nn.initializers.zeros; one that "
            "makes initializers is called first, jax.nn.initializers.normal(0.02)."
        )
    return initializer_error(
        InitializerTypeError,
        f"The initializer of variable {name}, {call_shape(initializer)}, cannot be called as "
        f"f(key, shape, dtype): {reason.removesuffix('.')}.",
        name,
        sites,
        fix,
    )


def _check_traced(running: Pass, full: str, value: jax.Array) -> None:
    """Raises unless the initial value of a variable can be computed from ``value`` by init."""
    if _jaxapi.is_around(value, running.level.outermost.trace()):
        if running.level.sizes:
            raise _stacked(full, running.here())
        return
    error = _inner_trace if _jaxapi.is_live(value) else _leaked_initial
    raise error(full, running.here())


def _constant_shape(
    name: str, shape: PartialShape, found: Shape, sites: tuple[Site, ...]
) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"If initializer is a constant, do not specify shape. Specified shape {dims(shape)} "
        f"and the constant has shape {dims(found)}.",
        name,
        sites,
        "leave the shape out, give the constant's, or pass a function, "
        "such as jax.nn.initializers.constant(value).",
    )


def _no_shape(name: str, sites: tuple[Site, ...], *, partial: bool) -> InitializerError:
    if partial:
        first = (
            "The initializer passed is not valid. It should be a callable "
            f"f(key, shape, dtype), and `shape` of variable {name} should be fully defined."
        )
    else:
        first = (
            f"Variable {name} did not get an initializer, so its `shape` argument must be "
            "specified."
        )
    return initializer_error(
        InitializerError, first, name, sites, "give a shape of integers, such as [3, 4]."
    )


def _overflow(name: str, value: int, dtype: object, sites: tuple[Site, ...]) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"The initial value of variable {name} holds {value}, which {dtype} cannot.",
        name,
        sites,
        "ask for a dtype that can; int64 and uint64 need jax_enable_x64.",
    )


def _too_large(name: str, dim: int, sites: tuple[Site, ...]) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"Dimension {dim} must be below 2**63",
        name,
        sites,
        "give a shape of sizes.",
    )


def _no_default(name: str, dtype: object, sites: tuple[Site, ...]) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"An initializer for variable {name} of {dtype} is required",
        name,
        sites,
        "pass initializer=f(key, shape, dtype); floats, integers and bools have a default.",
    )


def _wrong_result(
    name: str,
    initializer: str,
    asked: tuple[Shape, DType],
    found: str,
    sites: tuple[Site, ...],
) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"The initializer of variable {name} returned {found}, not {array_type(*asked)}.",
        name,
        sites,
        f"{initializer} makes initializers: call it, and pass what it returns."
        if found == "a function"
        else f"{initializer} is called as f(key, shape, dtype) and must return an array of that "
        "shape and dtype.",
    )


def _leaked_initial(name: str, sites: tuple[Site, ...]) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"The initial value of variable {name} is a tracer that leaked from a finished trace.",
        name,
        sites,
        "compute the value inside this function, or pass a concrete array.",
    )


def _inner_trace(name: str, sites: tuple[Site, ...]) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"The initial value of variable {name} was computed inside an inner JAX transform, and "
        "cannot get out of it.",
        name,
        sites,
        "compute it before the transform (jit, checkpoint, scan, vmap, ...), or pass a "
        "function f(key, shape, dtype) that uses no value of the transform.",
    )


def _stacked(name: str, sites: tuple[Site, ...]) -> InitializerError:
    return initializer_error(
        InitializerError,
        f"The initial value of variable {name} is a traced value, which cannot be that of "
        "every layer or instance of a stack.",
        name,
        sites,
        "pass a function f(key, shape, dtype), or a constant that is not traced.",
    )


def _needs_rng(name: str, sites: tuple[Site, ...]) -> RngError:
    return report_at(
        RngError,
        f"The initializer of variable {name} draws random numbers, but rng is None.",
        sites,
        "pass a key to init: net.init(jax.random.key(0), ...).",
        rng="None",
        name=name,
    )

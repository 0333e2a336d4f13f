"""What an initializer computes: the program that it traces to, and which programs are the same.

What a Python function will compute cannot be read off its code and its closure: late binding,
objects with state, modules, NumPy's generator. So it is called, once for each variable, where the
variable is requested. Only the library's own are known by their options.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import types
import weakref
from collections.abc import Callable, Hashable
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jscope import _jaxapi, initializers
from jscope._jaxapi import Inspected, Jaxpr
from jscope._params import PyTree
from jscope._report import Shaped, describe, where
from jscope._spec import DType, Initializer, InitializerLike, Shape
from jscope.errors import Site

T = TypeVar("T")

# The functions of these modules, and what they return, depend on nothing but their options.
_LIBRARIES = (jax.nn.initializers.normal.__globals__, vars(initializers))
_SMALL = 1024  # bytes of an array that is part of a program's key


class WrongResultError(Exception):
    """An initializer returned something else; the variable's name is added by the caller."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Program:
    """What one call of an initializer does.

    Attributes:
      jaxpr: A jaxpr of the arrays in ``consts`` and the key.
      consts: The arrays that the initializer held, or drew from other generators, as they were.
      key: Equal for programs that do the same with their consts and key.
      shared: Whether the jaxpr holds nothing of the user's, so that it may outlive a pass.
    """

    jaxpr: Jaxpr
    consts: tuple[ArrayLike, ...]
    key: Hashable
    shared: bool

    @property
    def traced(self) -> tuple[jax.Array, ...]:
        """The values traced in the user's function that it is computed from."""
        return tuple([const for const in self.consts if isinstance(const, _jaxapi.Tracer)])

    @property
    def draws(self) -> bool:
        """Whether it uses the key."""
        return _jaxapi.used_inputs(self.jaxpr)[-1]

    def __call__(self, key: jax.Array) -> jax.Array:
        value: jax.Array = _jaxapi.evaluate(self.jaxpr, *self.consts, key)
        return value


Start: TypeAlias = Program | InitializerLike
"""What the initial value of a variable is made from; an initializer only where nothing is made."""


def trace(
    initializer: Initializer,
    shape: Shape,
    dtype: DType,
    key_dtype: DType,
    known: dict[Hashable, Program],
) -> Program:
    """The program of an initializer, one object for all of a pass that are the same.

    Args:
      initializer: Called with a key, the shape and the dtype, unless it is the library's.
      shape: Of the variable, without the axes of stacks.
      dtype: Of the variable.
      key_dtype: Of the pass's key.
      known: The programs of the pass.

    Raises:
      WrongResultError: the result has not the shape and dtype.
    """
    library = _library_key(initializer)
    if library is None:
        program = _trace(initializer, shape, dtype, key_dtype)
        return program if program.consts else known.setdefault(program.key, program)
    key = library, shape, dtype, key_dtype, _jaxapi.config_key()
    if key not in known:
        known[key] = _trace(initializer, shape, dtype, key_dtype)
    return known[key]


def _trace(initializer: Initializer, shape: Shape, dtype: DType, key_dtype: DType) -> Program:
    jaxpr, consts = _without_mesh(
        lambda: _jaxapi.trace_key(
            lambda key: _checked(initializer(key, shape, dtype), shape, dtype), key_dtype
        )
    )
    # NumPy arrays are copied: the user may write into them before they are used.
    own = tuple([np.array(c) if isinstance(c, np.ndarray) else c for c in consts])
    return Program(jaxpr, own, *_jaxpr_key(jaxpr))


def _without_mesh(trace: Callable[[], T]) -> T:
    """Traces as without a mesh, for the bits of there; with it where an initializer needs it."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or jax.sharding.AxisType.Manual in mesh.axis_types:
        return trace()
    try:
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            return trace()
    except Exception:
        return trace()


def _checked(value: object, shape: Shape, dtype: DType) -> jax.Array:
    """The result of an initializer. JAX arrays must fit; NumPy and Python values are cast."""
    if not isinstance(value, jax.Array):
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind not in "biufcV" or array.shape != shape:
            raise WrongResultError("a function" if callable(value) else describe(value))
        value = jnp.asarray(array, dtype)
    result: jax.Array = value
    if result.shape != shape or result.dtype != dtype:
        raise WrongResultError(describe(result))
    return result


def add_place(error: Exception, name: str, made: Shaped, places: tuple[Site, ...]) -> None:
    """Notes on an error which variable, of the shape and dtype of ``made``, was being made."""
    error.add_note(
        f"in the initializer of variable {name}, {describe(made)}, asked for at {where(places)}"
    )


# Initializers of the library


def _library_key(initializer: object) -> Hashable | None:
    """Equal for initializers of the library that do the same; None for all others."""
    if type(initializer) is functools.partial:
        function = _library_key(initializer.func)
        options = plain((initializer.args, *initializer.keywords.items()))
        return None if function is None or options is None else (function, options)
    if type(initializer) is not types.FunctionType:
        return None
    known = initializer.__globals__
    if not any(known is library for library in _LIBRARIES):
        return None
    if known.get(initializer.__name__) is initializer:
        return initializer
    cells = tuple([cell.cell_contents for cell in initializer.__closure__ or ()])
    options = plain((initializer.__defaults__, cells))
    return None if options is None else (initializer.__code__, options)


def plain(thing: PyTree) -> Hashable | None:
    """A key of a value that cannot change, or None."""
    kind = type(thing)
    if kind is tuple:
        items = tuple([plain(item) for item in thing])
        return None if None in items else items
    if kind in (int, bool, str, types.NoneType) or isinstance(thing, np.dtype | type):
        return kind, thing
    return (kind, repr(thing)) if kind is float else None  # repr tells 0.0 from -0.0


# Programs that are the same

_PLAIN = (str, bytes, int, bool, types.NoneType)
# Values that hold nothing of the user's and are equal only if they are the same to a program.
_COMPARED = (type, np.dtype, enum.Enum, *_jaxapi.STATIC)

# How custom_jvp and custom_vjp derive, which nobody does here: the user's, and made anew each time.
_RULES = frozenset(("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "out_trees"))

# Keys of the inner jaxprs, which JAX traces once: of those that are shared and hold no arrays.
_known: weakref.WeakKeyDictionary[Jaxpr, Hashable] = weakref.WeakKeyDictionary()


def _jaxpr_key(jaxpr: Jaxpr) -> tuple[Hashable, bool]:
    """A key of a jaxpr, and whether neither the jaxpr nor the key holds anything of the user's.

    What cannot be compared by value counts as itself alone, by its address, which stays its own as
    long as the jaxpr lives.
    """
    foreign: list[object] = []
    return _lines(jaxpr, foreign), not foreign


def _lines(jaxpr: Jaxpr, foreign: list[object]) -> Hashable:
    numbers: dict[Hashable, int] = {}

    def number(atom: Inspected) -> Hashable:
        if isinstance(atom, _jaxapi.Literal):
            return atom.aval, np.asarray(atom.val).tobytes()
        return numbers.setdefault(atom, len(numbers))

    inputs = [*jaxpr.constvars, *jaxpr.invars]
    lines: list[Hashable] = [tuple([(number(var), var.aval) for var in inputs])]
    for eqn in jaxpr.eqns:
        operands = tuple([number(atom) for atom in eqn.invars])
        results = tuple([(number(var), var.aval) for var in eqn.outvars])
        params = tuple(
            [
                (name, None if name in _RULES else _value(value, foreign))
                for name, value in eqn.params.items()
            ]
        )
        if not _RULES.isdisjoint(eqn.params):
            foreign.append(eqn)
        lines.append((eqn.primitive, eqn.ctx, operands, results, params))
    return (*lines, tuple([number(atom) for atom in jaxpr.outvars]))


def _value(value: object, foreign: list[object]) -> Hashable:
    """A key of one parameter of an equation."""
    kind = type(value)
    if kind in _PLAIN or isinstance(value, _COMPARED):
        return kind, value
    if isinstance(value, tuple | list):
        return kind, tuple([_value(item, foreign) for item in value])
    if isinstance(value, float | complex | np.generic):
        return kind, np.asarray(value).tobytes()
    if isinstance(value, _jaxapi.JAXPRS):
        return _inner(value, foreign)
    foreign.append(value)
    if kind.__module__.startswith("jax") and not callable(value):
        with contextlib.suppress(TypeError):  # some trees cannot be hashed
            hash(value)
            return kind, value
    return kind, id(value)


def _inner(jaxpr: Jaxpr, foreign: list[object]) -> Hashable:
    consts = getattr(jaxpr, "consts", ())
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    if consts:
        # Held by reference inside an inner jit: as they are now, or a later write would reach them.
        consts[:] = [_jaxapi.copy_constant(const) for const in consts]
        return _lines(jaxpr, foreign), tuple([_constant(const, foreign) for const in consts])
    key = _known.get(jaxpr)
    if key is None:
        inside: list[object] = []
        key = _lines(jaxpr, inside)
        if inside:
            foreign += inside
        else:
            _known[jaxpr] = key
    return key


def _constant(const: object, foreign: list[object]) -> Hashable:
    if isinstance(const, np.ndarray) and const.nbytes <= _SMALL:
        return const.dtype, const.shape, const.tobytes()
    foreign.append(const)
    return id(const)

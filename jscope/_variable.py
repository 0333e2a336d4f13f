"""get_variable: from a request to a value."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jscope import _jaxapi, _pass, _program
from jscope._calls import Place, RawSites, is_rerun, sites
from jscope._number import as_int
from jscope._pass import Facts, Pass, Record, Settings
from jscope._path import check_name, is_name
from jscope._reuse import Action, Reuse, check_reuse, decide
from jscope._sampling import default_initializer
from jscope._spec import Constraint, Initializer, Partitioner, Regularizer
from jscope.errors import (
    ArgumentError,
    InitializerError,
    InitializerTypeError,
    NameClashError,
    NameTypeError,
    RngError,
    StateError,
    TransformError,
    VariableExistsError,
    VariableMismatchError,
    VariableNotFoundError,
)

ShapeLike: TypeAlias = int | Iterable[int | None]
CustomGetter: TypeAlias = Callable[..., Any]

_FLOAT32 = np.dtype(np.float32)


class _Constant(NamedTuple):
    """Shape and dtype of a constant initializer; ``weak`` marks Python numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    weak: bool


def no_regularizer(value: jax.Array) -> None:
    """Switches an inherited regularizer off: ``variable_scope("a", regularizer=no_regularizer)``.

    As in TF1. Takes an array of any shape, returns None.

    Example:
      >>> import jscope as js
      >>> js.no_regularizer(1.0)
    """


def get_variable(
    name: str,
    shape: ShapeLike | None = None,
    dtype: DTypeLike | None = None,
    initializer: Initializer | Any = None,
    *,
    regularizer: Regularizer | None = None,
    trainable: bool | None = True,
    collections: Iterable[str] | None = None,
    constraint: Constraint | None = None,
    partitioner: Partitioner = None,
    custom_getter: CustomGetter | None = None,
) -> jax.Array:
    """Makes or shares the variable ``name`` of the open scope, as in TF1.

    Works inside every raw JAX transform, in init and in apply. Returns the array itself, the same
    object for every request of a name: in init a placeholder of its type, on the mesh that is set.
    Everything is checked while tracing; nothing is left at run time.

    Args:
      name: Relative to the open scope; may hold slashes, ``"a/v"`` is ``v`` in the scope ``a``.
      shape: Sizes; an int stands for one axis, ``[]`` for a scalar. May be left out where the
        initializer is a constant or the variable is shared; there, ``None`` dimensions match any
        size.
      dtype: Any JAX dtype, that of typed keys too. Else the constant's, else the scope's, else
        float32. A shared variable is checked against it only if the argument, a constant or a
        scope asked for one.
      initializer: ``f(key, shape, dtype) -> array`` as in ``jax.nn.initializers``, called here when
        the variable is made; a constant; or an array computed in the function. Else the scope's,
        else by dtype: glorot_uniform for floats (of any rank, as in TF1), zeros for integers and
        bools.
      regularizer: Function of the value, kept in the spec. Else the scope's; ``no_regularizer``
        switches it off.
      trainable: Whether it lives in params; if not, in the state of ``transform_with_state``, where
        ``jscope.assign`` can change it. The first request decides, as in TF1.
      collections: Names of collections, kept in the spec.
      constraint: Function of the value, kept in the spec. Else the scope's.
      partitioner: How the variable is laid out, kept in the spec. Else the scope's.
      custom_getter: Replaces the scopes' getters for this request, as in TF1.

    Returns:
      The array, of the variable's shape and dtype; with a custom getter, whatever it returns.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      InvalidNameError: (ValueError) the name is not valid; NameTypeError if it is no string.
      NameClashError: (ValueError) the name is a scope's, or a component of it is a variable's.
      VariableExistsError: (ValueError) asked for twice where reuse is False.
      VariableNotFoundError: (ValueError) asked for under ``reuse=True`` before it was made, or
        missing from the params given to apply.
      VariableMismatchError: (ValueError) found with another shape or dtype.
      InitializerError: (ValueError) no shape, no default initializer, or one that does not agree.
      StateError: (ValueError) ``trainable=False`` under ``jscope.transform``, or of a variable that
        was made trainable; or a trainable key.
      ArgumentError: (ValueError, TypeError) another argument cannot be used.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def dense(x, units):
      ...     kernel = js.get_variable("kernel", [x.shape[-1], units])
      ...     bias = js.get_variable("bias", [units], initializer=jax.nn.initializers.zeros)
      ...     return x @ kernel + bias
      >>> net = js.transform(lambda x: dense(x, 4))
      >>> net.init(jax.random.key(0), jnp.ones([2, 3]))
      Params({'kernel': float32[3,4], 'bias': float32[4]})
    """
    running = _pass.current("get_variable")
    if type(name) is not str and not isinstance(name, str):
        raise NameTypeError.variable(name)
    if not is_name(name):
        check_name(name, "variable")
    settings = running.settings
    asked = Request(
        f"{running.prefix}/{name}" if running.prefix else name,
        shape,
        dtype,
        initializer,
        regularizer,
        settings.reuse,
        trainable,
        collections,
        partitioner,
        constraint,
    )
    getter = settings.custom_getter if custom_getter is None else custom_getter
    value: jax.Array
    if getter is None:
        if running.renamed:
            running.renamed.pop(asked.name, None)
        value = answer(running, asked)
    else:
        if not callable(getter):
            raise ArgumentError.getter(getter)
        value = _through(running, getter, asked)
    return value


class Request(NamedTuple):
    """What is asked for, in TF1's order: the keyword arguments of a custom getter."""

    name: str
    """Full name."""
    shape: Any = None
    dtype: Any = None
    initializer: Any = None
    regularizer: Any = None
    reuse: Reuse | None = None
    trainable: Any = True
    collections: Any = None
    partitioner: Any = None
    constraint: Any = None


def _through(running: Pass, getter: CustomGetter, asked: Request) -> Any:
    """Calls a custom getter as TF1 does: by keyword, with full name and the scope's defaults."""
    settings = running.settings
    initializer = settings.initializer if asked.initializer is None else asked.initializer
    constant = _constant(running, asked.name, initializer)
    _check_above(running, asked.name)  # a getter may have made a scope of the name itself
    found = _asked_dtype(running, asked.name, asked.dtype, constant, settings)
    resolved = found or _FLOAT32
    names: set[str] = set()  # what the getter asks for

    def true_getter(*args: Any, **kwargs: Any) -> Any:
        inner = _pass.current("a custom getter's getter")
        wanted = Request(*args, **kwargs)
        if not isinstance(wanted.name, str):
            raise NameTypeError.variable(wanted.name)
        check_name(wanted.name, "variable")
        names.add(wanted.name)
        if wanted.reuse is None:
            wanted = wanted._replace(reuse=settings.reuse)
        else:
            check_reuse(wanted.reuse)
        if found is None and wanted.dtype is not None and dtype_or_none(wanted.dtype) == resolved:
            wanted = wanted._replace(dtype=None)  # the default, passed on: nobody asked for it
        return answer(inner, wanted)

    inherited = {
        name: getattr(settings, name)
        for name in ("regularizer", "partitioner", "constraint")
        if getattr(asked, name) is None
    }
    asked = asked._replace(dtype=resolved, initializer=initializer, **inherited)
    result = getter(getter=true_getter, **asked._asdict())
    running.renamed.pop(asked.name, None)
    if len(names) == 1:
        (running.renamed[asked.name],) = names
    return result


class _Terms(NamedTuple):
    """Where a request comes from, and what it fixes of the variable."""

    raw_sites: RawSites
    calls: Place
    shape: Any
    """Tuple of sizes, None for any; or None where none was given."""
    dtype: Any
    """None where nobody asked for one."""
    constant: _Constant | None


def answer(running: Pass, asked: Request) -> Any:
    """The value of the variable that is asked for, with the scope's defaults for what is None."""
    settings, full = running.settings, asked.name
    record = running.records.get(full)
    raw_sites, calls = running.calls.observe(running.level)
    if record is None:
        prefix = full.rpartition("/")[0]
        if prefix not in running.scope_names or full in running.scope_names:
            _check_clash(running, full)
    initializer = settings.initializer if asked.initializer is None else asked.initializer
    constant = _constant(running, full, initializer)
    if asked.dtype is None and constant is None:
        dtype = settings.dtype
    else:
        dtype = _asked_dtype(running, full, asked.dtype, constant, settings)
    shape = None if asked.shape is None else _shape(running, full, asked.shape)
    terms = _Terms(raw_sites, calls, shape, dtype, constant)

    assert asked.reuse is not None
    action = decide(asked.reuse, seen=record is not None)
    if record is not None:
        if action is Action.REFUSE_EXISTING and not is_rerun(record.place, calls):
            raise VariableExistsError.make(
                full,
                shape=record.aval.shape,
                dtype=record.aval.dtype,
                first=record.sites,
                again=sites(raw_sites),
                by_jax=calls != record.place,
            )
        return _share(running, asked, record, terms)
    if action is Action.REFUSE_MISSING or running.frozen:
        return _find_given(running, asked, terms)
    return _create(running, asked, initializer, terms)


def _share(running: Pass, asked: Request, record: Record, terms: _Terms) -> Any:
    """The value of a variable that was asked for before."""
    if asked.trainable is not True and not _trainable(running, asked.name, asked.trainable):
        _check_state(running, record)
    if record.sizes or running.level.sizes:
        _check_sizes(running, record)
    found = running.read(record)
    if terms.calls and running.values.keeps and not _jaxapi.is_current(found):
        _check_usable(running, asked.name, found)
    _check_found(running, asked.name, found, terms)
    return found


def _find_given(running: Pass, asked: Request, terms: _Terms) -> Any:
    """The value of a name under reuse that was given to apply, but not asked for yet."""
    in_state = asked.trainable is False and running.values.has_state
    found = _find(running, asked.name, terms.shape, trainable=not in_state)
    if found is None:
        raise VariableNotFoundError.under_reuse(
            asked.name,
            known=[*running.records, *running.values.names()],
            sites=sites(terms.raw_sites),
            in_template=bool(running.frozen),
        )
    _check_found(running, asked.name, found, terms)
    return found


def _create(running: Pass, asked: Request, initializer: Any, terms: _Terms) -> Any:
    """The value of a variable that is asked for for the first time."""
    full, values = asked.name, running.values
    dtype = terms.dtype or _FLOAT32
    shape, initializer = _initial(running, full, initializer, dtype, terms)
    facts = _facts(running, asked, initializer, dtype, terms)
    start = initializer
    if terms.constant is None and values.initializing and values.find(full) is None:
        start = _start(running, full, shape, dtype, initializer)

    layers = running.level.sizes
    value: Any = None
    if not (values.keeps and (layers or running.level.values)):
        value = values.make(full, layers + shape, dtype, start, facts.trainable)
    if layers or (values.keeps and running.level.values):
        value = _first(running, full, shape, facts.trainable)
    if value is None:
        raise values.refuse(full, sites(terms.raw_sites), facts.trainable)
    aval = value.aval
    if aval.shape != shape or (terms.dtype is not None and aval.dtype != terms.dtype):
        _check_found(running, full, value, terms._replace(shape=shape))
    if values.keeps and not _jaxapi.is_current(value):
        _check_usable(running, full, value)
    running.records[full] = made = Record(
        full,
        aval if not layers else jax.ShapeDtypeStruct(layers + aval.shape, aval.dtype),
        layers,
        value if not layers and (facts.trainable or values.initializing) else None,
        terms.raw_sites,
        terms.calls,
        facts,
        start,
    )
    prefix = full.rpartition("/")[0]
    while prefix not in running.scope_names:
        running.scope_names[prefix] = made
        prefix = prefix.rpartition("/")[0]
    return value


def _initial(
    running: Pass, full: str, initializer: Any, dtype: Any, terms: _Terms
) -> tuple[tuple[int, ...], Any]:
    """The whole shape of a new variable, and what initializes it."""
    shape, constant = terms.shape, terms.constant
    if constant is not None:
        if shape is not None and not _fits(shape, constant.shape):
            raise InitializerError.constant_shape(
                full, shape, constant.shape, sites(terms.raw_sites)
            )
        if isinstance(initializer, _jaxapi.Tracer):
            _check_traced(running, full, initializer)
        elif not isinstance(initializer, jax.Array):
            initializer = np.array(initializer, dtype)  # as it is now: the user may change it
        return constant.shape, initializer
    if shape is None or None in shape:
        partial = shape is not None or initializer is not None
        raise InitializerError.missing_shape(full, sites(terms.raw_sites), partial=partial)
    if initializer is None:
        initializer = default_initializer(dtype)
        if initializer is None:
            raise InitializerError.no_default(full, dtype, sites(terms.raw_sites))
    return shape, initializer


def _facts(running: Pass, asked: Request, initializer: Any, dtype: Any, terms: _Terms) -> Facts:
    """What is kept of a new variable beside its value."""
    settings, trainable = running.settings, asked.trainable
    if trainable is not True:
        trainable = _trainable(running, asked.name, trainable)
    is_key = not isinstance(dtype, np.dtype)
    if is_key and trainable:
        raise StateError.trainable_key(asked.name, dtype, sites(terms.raw_sites))
    collections = () if asked.collections is None else _collections(asked.collections)
    regularizer, constraint = asked.regularizer, asked.constraint
    if regularizer is not None or settings.regularizer is not None:
        regularizer = check_function("regularizer", regularizer, settings.regularizer)
    if constraint is not None or settings.constraint is not None:
        constraint = check_function("constraint", constraint, settings.constraint)
    if is_key:
        regularizer = constraint = None  # those of a scope are for numbers
    partitioner = settings.partitioner if asked.partitioner is None else asked.partitioner
    return Facts(trainable, collections, initializer, regularizer, constraint, partitioner)


def _check_usable(running: Pass, full: str, value: Any) -> None:
    """Raises TransformError if no operation here could take the value."""
    if not isinstance(value, _jaxapi.Tracer):
        return
    if not _jaxapi.is_live(value):
        raise TransformError.leaked_param(full, running.here())
    rule = running.calls.rule_beyond(value, running.trace)
    if rule is not None:
        raise TransformError.custom_rule(full, rule, running.here())


def _start(
    running: Pass, full: str, shape: Any, dtype: np.dtype[Any], initializer: Initializer
) -> _program.Program:
    """Calls an initializer without computing anything: what it does is the initial value."""
    key = running.level.key
    try:
        with _pass.no_pass():
            kind = (jax.random.key(0) if key is None else key).dtype
            program = _program.trace(initializer, shape, dtype, kind, running.programs)
    except _program.WrongResultError as wrong:
        name = getattr(initializer, "__qualname__", type(initializer).__name__)
        raise InitializerError.wrong_result(
            full, name, (shape, dtype), str(wrong), running.here()
        ) from None
    except jax.errors.UnexpectedTracerError:
        raise InitializerError.leaked(full, running.here()) from None
    except Exception as error:
        made = jax.ShapeDtypeStruct(shape, dtype)
        _program.add_place(error, full, made, running.here())
        raise
    for value in program.traced:
        _check_traced(running, full, value)
    if key is None and program.draws:
        raise RngError.needed(full, running.here())
    return program


def _first(running: Pass, full: str, wanted: Any, trainable: bool) -> Any:
    """The value given for a variable that is first requested on a level of its own."""
    value, layers = running.look(full, running.level.sizes, trainable)
    if not layers or value is None:
        return value
    asked = running.level.sizes[-len(layers) :] + wanted
    if value.shape != asked:
        raise _mismatch(running, full, "shape", asked, value.shape, value, len(layers))
    return running.part(full, value, layers)


def _find(running: Pass, full: str, wanted: Any, trainable: bool) -> Any:
    """The value of a name that was given but not requested yet, or None."""
    found = running.values.find(full, trainable)
    sizes = running.level.sizes
    if found is None:
        return None
    # Whether it is stacked was not recorded: it is, unless the shape asked for says otherwise.
    if wanted is not None and len(wanted) == len(found.shape):
        sizes = ()
    if trainable:  # which nobody may have asked for: as in TF1, sharing does not look at it
        trainable = running.values.read(full, True) is not None
    value, layers = running.look(full, sizes, trainable)
    if not layers:
        return value
    count = len(layers)
    if value.shape[:count] != sizes[-count:]:
        asked = sizes[-count:] + (wanted or value.shape[count:])
        raise _mismatch(running, full, "shape", asked, value.shape, value)
    return running.part(full, value, layers)


def _check_sizes(running: Pass, record: Record) -> None:
    """Raises unless this level has as many layers as the one that made the variable."""
    sizes = running.level.sizes[: len(record.sizes)]
    if record.sizes[: len(sizes)] != sizes:
        shape = record.aval.shape[len(sizes) :]
        raise _mismatch(
            running, record.name, "shape", sizes + shape, record.aval.shape, record.aval
        )


def _check_state(running: Pass, record: Record) -> None:
    if record.facts.trainable:
        raise StateError.conflict(record.name, first=record.sites, again=running.here())


def _check_clash(running: Pass, full: str) -> None:
    below = running.scope_names.get(full)
    if below is not None:
        raise NameClashError.make(full, below.name, first=below.sites, again=running.here())
    _check_above(running, full)


def _check_above(running: Pass, full: str) -> None:
    prefix = full.rpartition("/")[0]
    while prefix not in running.scope_names:
        above = running.records.get(prefix)
        if above is not None:
            raise NameClashError.make(full, above.name, first=above.sites, again=running.here())
        prefix = prefix.rpartition("/")[0]


def _constant(running: Pass, full: str, initializer: Any) -> _Constant | None:
    if initializer is None or callable(initializer):
        return None
    if isinstance(initializer, jax.Array):
        return _Constant(initializer.shape, initializer.dtype, weak=False)
    if isinstance(initializer, bool | int | float | complex):
        kind = np.result_type(jnp.result_type(initializer))
        return _Constant((), kind, weak=True)
    if isinstance(initializer, list | tuple | np.ndarray | np.generic):
        try:
            array = np.asarray(initializer)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind in "biufcV":
            typed = isinstance(initializer, np.ndarray | np.generic)
            # As jnp.asarray: Python floats are float32, and 64 bits only where they are enabled.
            kind = array.dtype if typed else np.dtype(jnp.result_type(array.dtype.type(0).item()))
            kind = jax.dtypes.canonicalize_dtype(kind)
            return _Constant(array.shape, kind, weak=not typed)
    raise InitializerTypeError.not_callable(f"Variable {full}", initializer, running.here())


def _asked_dtype(
    running: Pass, full: str, dtype: Any, constant: Any, settings: Settings
) -> np.dtype[Any] | None:
    """The dtype that somebody asked for: the argument's, else the constant's, else the scope's."""
    if dtype is None:
        return settings.dtype if constant is None else constant.dtype
    asked = dtype_or_none(dtype)
    if asked is None:
        raise InitializerTypeError.dtype(full, dtype, running.here())
    if constant is not None and not constant.weak and constant.dtype != asked:
        raise InitializerError.constant_dtype(full, asked, constant.dtype, running.here())
    return asked


def dtype_or_none(dtype: Any) -> np.dtype[Any] | None:
    try:
        return _canonical(dtype, bool(jax.config.read("jax_enable_x64")))
    except TypeError:
        return None


@functools.lru_cache(maxsize=1024)
def _canonical(dtype: Any, x64: bool) -> np.dtype[Any]:
    if not isinstance(dtype, type) and jnp.issubdtype(dtype, jax.dtypes.extended):
        keys: np.dtype[Any] = dtype  # of typed keys: JAX's own, no dtype of NumPy
        return keys
    if dtype is int:  # as in TF1, which does not say how many bits it would have
        raise TypeError(dtype)
    found = jnp.dtype(dtype)
    if found.kind in "OSUMm":
        raise TypeError(dtype)
    return np.dtype(jax.dtypes.canonicalize_dtype(found))


def _shape(running: Pass, full: str, shape: Any) -> tuple[Any, ...]:
    if type(shape) is tuple or type(shape) is list:
        for dim in shape:
            if type(dim) is not int or dim < 0:
                break
        else:
            return tuple(shape)
    elif isinstance(shape, _jaxapi.Tracer):
        raise InitializerTypeError.dimension(full, shape, running.here())
    elif isinstance(shape, str | bytes) or not hasattr(shape, "__iter__"):
        shape = (shape,)
    elif isinstance(shape, np.ndarray):
        shape = shape.ravel()
    return tuple([_dimension(running, full, dim) for dim in shape])


def _dimension(running: Pass, full: str, dim: Any) -> int | None:
    if dim is None:
        return None
    size = as_int(dim)
    if size is None:
        raise InitializerTypeError.dimension(full, dim, running.here())
    if size < 0:
        raise InitializerError.negative(full, size, running.here())
    return size


def _fits(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    """Whether a shape is the one asked for, in which None matches any size."""
    return wanted == shape or (
        len(wanted) == len(shape)
        and all(dim is None or dim == size for dim, size in zip(wanted, shape, strict=True))
    )


def _check_found(running: Pass, full: str, found: Any, terms: _Terms) -> None:
    """Raises VariableMismatchError unless ``found`` has the shape and dtype asked for."""
    asked = terms.dtype
    for shape in (terms.shape, None if terms.constant is None else terms.constant.shape):
        if shape is not None and not _fits(shape, found.shape):
            raise _mismatch(running, full, "shape", shape, found.shape, found)
    if asked is not None and found.dtype != asked:
        raise _mismatch(running, full, "dtype", asked, found.dtype, found)


def _mismatch(
    running: Pass, full: str, what: str, asked: Any, found: Any, value: Any, layers: int = 0
) -> VariableMismatchError:
    record = running.records.get(full)
    return VariableMismatchError.make(
        full,
        what,
        asked=asked,
        found=found,
        aval=(value.shape, value.dtype),
        first=record.sites if record else (),
        again=running.here(),
        tree="state" if full in running.values.state_names() else "params",
        layers=layers,
    )


def _check_traced(running: Pass, full: str, value: Any) -> None:
    """Raises unless the initial value of a variable can be computed from ``value`` by init."""
    if _jaxapi.is_around(value, running.trace()):
        if running.level.sizes:
            raise InitializerError.stacked(full, running.here())
        return
    error = InitializerError.inner_trace if _jaxapi.is_live(value) else InitializerError.leaked
    raise error(full, running.here())


def _trainable(running: Pass, full: str, trainable: Any) -> bool:
    if trainable is None:
        return True
    if trainable is not False:
        raise ArgumentError.make("trainable", trainable, "True, False or None")
    if not running.values.has_state:
        raise StateError.no_state(full, running.here())
    return False


def _collections(collections: Any) -> tuple[str, ...]:
    if not isinstance(collections, list | tuple | set | frozenset):
        raise ArgumentError.collections(collections)
    if not all(isinstance(key, str) for key in collections):
        raise ArgumentError.collections(collections)
    return tuple(collections)


def check_function(argument: str, given: Any, inherited: Any) -> Any:
    """A regularizer or constraint: None inherits, False and ``no_regularizer`` switch off."""
    found = inherited if given is None else given
    if found is None or found is no_regularizer:
        return None
    if not callable(found):
        if not found:
            return None
        raise ArgumentError.make(argument, found, "a function of the value, or None")
    return found

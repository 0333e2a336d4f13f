"""One request for a variable: share it, find it, or create it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import numpy as np
from jax.typing import DTypeLike

from jscope import _jaxapi, constraints, regularizers
from jscope._arguments import as_bool, bad_argument, bad_static, is_dtype_class
from jscope._calls import Place, RawSites, is_rerun, sites
from jscope._initial import initial, start_of
from jscope._layout import check_layout
from jscope._level import Level
from jscope._pass import Pass
from jscope._record import Facts, Record
from jscope._report import Shaped, brief, describe, dims, is_shaped, report_at, where
from jscope._reuse import Action, Reuse, decide, exists, is_missing
from jscope._shape_dtype import (
    FLOAT32,
    Constant,
    PartialShape,
    ShapeLike,
    as_constant,
    as_shape,
    asked_dtype,
    fits,
)
from jscope._spec import (
    Constraint,
    DType,
    InitializerLike,
    Partitioner,
    Regularizer,
    Shape,
    VariableSpec,
)
from jscope.errors import (
    ArgumentError,
    NameClashError,
    Site,
    StateError,
    TransformError,
    VariableMismatchError,
)

F = TypeVar("F")


class Request(NamedTuple):
    """What is asked for, in TF1's order: the keyword arguments of a custom getter."""

    name: str
    """Full name."""
    shape: ShapeLike | None = None
    dtype: DTypeLike | None = None
    initializer: InitializerLike = None
    regularizer: Regularizer | None = None
    reuse: Reuse | None = None
    trainable: bool | None = True
    collections: Iterable[str] | None = None
    partitioner: Partitioner = None
    constraint: Constraint | None = None


_Terms: TypeAlias = tuple[RawSites, Place, PartialShape | None, DType | None, Constant | None]
"""Where a request comes from, and what it fixes of the variable: shape, dtype, constant."""

_NO_FACTS = Facts()


def answer(running: Pass, asked: Request) -> jax.Array:
    """The value of the variable that is asked for, with the scope's defaults for what is None."""
    # Runs at every request: a tuple where a NamedTuple took three times as long, facts that most
    # variables share, and names taken apart once.
    settings, full, records = running.settings, asked.name, running.records
    record = records.get(full)
    raw_sites, place = running.calls.observe(running.level)
    if record is None and (full in records.scopes or full.rpartition("/")[0] not in records.scopes):
        _check_clash(running, full)
    initializer = settings.initializer if asked.initializer is None else asked.initializer
    constant = as_constant(running, full, initializer)
    if asked.dtype is None and constant is None:
        dtype = settings.dtype
    else:
        dtype = asked_dtype(running, full, asked.dtype, constant, settings)
    shape = None if asked.shape is None else as_shape(running, full, asked.shape)
    terms = raw_sites, place, shape, dtype, constant

    assert asked.reuse is not None
    action = decide(asked.reuse, seen=record is not None)
    if record is not None:
        if action is Action.REFUSE_EXISTING and not is_rerun(record.place, place):
            raise exists(
                full,
                describe(record.aval),
                record.sites,
                sites(raw_sites),
                by_jax=place != record.place,
            )
        return _share(running, asked, record, terms)
    if action is Action.REFUSE_MISSING or running.frozen:
        return _find(running, asked, terms)
    return _create(running, asked, initializer, terms)


def _share(running: Pass, asked: Request, record: Record, terms: _Terms) -> jax.Array:
    """The value of a variable that was asked for before."""
    may_train = asked.trainable is True or _trainable(running, asked.name, asked.trainable)
    if record.facts.trainable and not may_train:
        raise _made_trainable(record, running.here())
    if record.sizes or running.level.sizes:
        _check_sizes(running, record)
    found = running.read(record)
    if terms[1] and not running.values.planning and not _jaxapi.is_current(found):
        _check_usable(running, asked.name, found)
    _check_found(running, asked.name, found, terms)
    return found


def _made_trainable(record: Record, again: tuple[Site, ...]) -> StateError:
    return StateError(
        f"Trying to share variable {record.name} with trainable=False, but it was made trainable.",
        {
            "first": f"at {where(record.sites)}",
            "again": f"at {where(again)}",
            "fix": "give both requests the same trainable.",
        },
        name=record.name,
        sites=again,
    )


def _find(running: Pass, asked: Request, terms: _Terms) -> jax.Array:
    """The value of a name under reuse that was given to apply, but not asked for yet."""
    trainable = as_bool(asked.trainable) is not False or not running.values.has_state
    found = _given(running, asked.name, terms[2], trainable)
    if found is None:
        known = [*running.records, *running.values.names()]
        raise is_missing(
            asked.name,
            known,
            sites(terms[0]),
            in_template=bool(running.frozen),
            kept=running.prefix in running.kept,
        )
    _check_found(running, asked.name, found, terms)
    return found


def _given(
    running: Pass, full: str, wanted: PartialShape | None, trainable: bool
) -> jax.Array | None:
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
    value: jax.Array
    value, layers = running.look(full, sizes, trainable)
    if not layers:
        return value
    own = _axes(sizes, layers)
    if value.shape[: len(own)] != own:
        asked = own + (wanted or value.shape[len(own) :])
        raise _mismatch(running, full, "shape", asked, value)
    return running.part(full, value, layers)


def _create(
    running: Pass, asked: Request, initializer: InitializerLike, terms: _Terms
) -> jax.Array:
    """The value of a variable that is asked for for the first time."""
    full, values = asked.name, running.values
    raw_sites, place, wanted, asked_dtype, constant = terms
    dtype = asked_dtype or FLOAT32
    shape, initializer = initial(running, full, initializer, dtype, wanted, constant)
    facts = _facts(running, asked, dtype)
    if values.layout is not None and (values.layout.rules or facts.partition is not None):
        spec = VariableSpec(
            full,
            running.level.sizes + shape,
            dtype,
            initializer=initializer,
            **facts._asdict(),
            sites=sites(raw_sites),
            stack=running.level.sizes,
        )
        facts = facts._replace(partition=values.layout(spec))
    start = initializer
    if constant is None and values.initializing and values.find(full) is None:
        start = start_of(running, full, shape, dtype, initializer)

    level, layers = running.level, running.level.sizes
    # Levels may have values of their own, or parts of those of stacks.
    looks = level.is_closed or bool(
        layers or (not values.planning and (level.values or level.parent))
    )
    value: jax.Array | None = None
    if values.initializing or not looks:
        value = values.make(full, layers + shape, dtype, start, facts)
    if looks:
        value = _first(running, full, shape, facts.trainable)
    if value is None:
        raise values.refuse(full, sites(raw_sites), facts.trainable, running.records)
    aval, is_part = value.aval, level.is_closed or bool(layers)
    if aval.shape != shape or (asked_dtype is not None and aval.dtype != asked_dtype):
        _check_found(running, full, value, (raw_sites, place, shape, asked_dtype, constant))
    if not values.planning and not _jaxapi.is_current(value):
        _check_usable(running, full, value)
    made = Record(
        full,
        jax.ShapeDtypeStruct(layers + aval.shape, aval.dtype) if is_part else aval,
        layers,
        None if is_part or not (facts.trainable or values.initializing) else value,
        raw_sites,
        place,
        facts,
        initializer,
        start,
    )
    running.records.add(made)
    return value


def _first(running: Pass, full: str, wanted: Shape, trainable: bool) -> jax.Array | None:
    """The value given for a variable that is first requested on a level of its own."""
    value: jax.Array | None
    value, layers = running.look(full, running.level.sizes, trainable)
    if not layers or value is None:
        return value
    own = _axes(running.level.sizes, layers)
    if value.shape != own + wanted:
        raise _mismatch(running, full, "shape", own + wanted, value, len(own))
    return running.part(full, value, layers)


def _axes(sizes: Shape, levels: Sequence[Level]) -> Shape:
    """The leading axes of a variable of which these levels, the innermost ones, see a part."""
    return sizes[len(sizes) - sum(level.is_layer for level in levels) :]


def _facts(running: Pass, asked: Request, dtype: DType) -> Facts:
    """What is kept of a new variable beside its value."""
    settings, is_key = running.settings, not isinstance(dtype, np.dtype)
    if (
        asked.trainable is True
        and asked.regularizer is settings.regularizer is None
        and asked.constraint is settings.constraint is None
        and asked.partitioner is settings.partitioner is None
        and asked.collections is None
        and not is_key
    ):
        return _NO_FACTS
    trainable = asked.trainable is True or _trainable(running, asked.name, asked.trainable)
    if is_key and trainable:
        raise _trainable_key(asked.name, dtype, running.here())
    collections = () if asked.collections is None else _collections(asked.collections)
    regularizer = check_function("regularizer", asked.regularizer, settings.regularizer)
    constraint = check_function("constraint", asked.constraint, settings.constraint)
    if is_key:
        regularizer = constraint = None  # those of a scope are for numbers
    partitioner = settings.partitioner if asked.partitioner is None else asked.partitioner
    if partitioner is not None:
        check_layout("partitioner", partitioner, "(shape, dtype)")
    return Facts(trainable, collections, regularizer, constraint, partitioner, partitioner)


def _trainable_key(name: str, dtype: object, sites: tuple[Site, ...]) -> StateError:
    return report_at(
        StateError,
        f"Variable {name} is of {dtype}, and a key cannot be trained.",
        sites,
        "make it with trainable=False, under jscope.transform_with_state.",
        name=name,
    )


def _check_usable(running: Pass, full: str, value: jax.Array) -> None:
    """Raises TransformError if no operation here could take the value."""
    if not isinstance(value, _jaxapi.Tracer):
        return
    if not _jaxapi.is_live(value):
        raise _leaked_param(full, running.here())
    rule = running.calls.rule_beyond(value, running.level.outermost.trace)
    if rule is not None:
        raise _in_custom_rule(full, rule, running.here())


def _leaked_param(name: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"The value of variable {name} in the params given to apply is a tracer that leaked "
        "from a finished trace.",
        sites,
        "return params from the transformed function instead of storing them.",
        name=name,
    )


def _in_custom_rule(name: str, transform: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"Variable {name} is read inside raw {transform} where a gradient by it is taken: JAX "
        "does not derive by what such a function closes over.",
        sites,
        "read it outside and pass it as an argument, whose gradient the rule gives.",
        name=name,
        transform=transform,
    )


def _check_sizes(running: Pass, record: Record) -> None:
    """Raises unless this level has as many layers as the one that made the variable."""
    sizes = running.level.sizes[: len(record.sizes)]
    if record.sizes[: len(sizes)] != sizes:
        shape = record.aval.shape[len(sizes) :]
        raise _mismatch(running, record.name, "shape", sizes + shape, record.aval)


def _check_clash(running: Pass, full: str) -> None:
    """Raises NameClashError if a name is a scope's, or a scope of it is a variable's."""
    below = running.records.scopes.get(full)
    if below is not None:
        raise _clash(full, below, running.here())
    check_above(running, full)


def check_above(running: Pass, full: str) -> None:
    """Raises NameClashError if a scope of a name is a variable's."""
    above = running.records.above(full)
    if above is not None:
        raise _clash(full, above, running.here())


def _clash(name: str, other: Record, again: tuple[Site, ...]) -> NameClashError:
    variable, below = sorted((name, other.name), key=len)
    return NameClashError(
        f"Variable {name} cannot be made: {variable} would be a variable and also the scope "
        f"of {below}.",
        {
            "first": f"{other.name} at {where(other.sites)}",
            "again": f"{name} at {where(again)}",
            "fix": "rename one of the two; params are a nested dict, where one key holds an "
            "array or a scope.",
        },
        name=name,
        other=other.name,
        sites=again,
    )


def _check_found(running: Pass, full: str, found: jax.Array, terms: _Terms) -> None:
    """Raises VariableMismatchError unless ``found`` has the shape and dtype asked for."""
    _, _, wanted, asked, constant = terms
    for shape in (wanted, None if constant is None else constant.shape):
        if shape is not None and not fits(shape, found.shape):
            raise _mismatch(running, full, "shape", shape, found)
    if asked is not None and found.dtype != asked:
        raise _mismatch(running, full, "dtype", asked, found)


def _mismatch(
    running: Pass, name: str, what: str, asked: Any, found: Shaped, layers: int = 0
) -> VariableMismatchError:
    """Of a value that was found, one layer of which has ``layers`` axes less."""
    record = running.records.get(name)
    first, again = record.sites if record else (), running.here()
    tree = "state" if name in running.values.state_names() else "params"
    given = getattr(found, what)
    show = dims if what == "shape" else str
    own = show(given[layers:] if what == "shape" else given)
    fix = (
        f"ask for {what} {own}, or open another scope."
        if first
        else f"give {tree} whose {what} is {show(asked)}, or ask for {own}."
    )
    origin = f"at {where(first)}" if first else f"in the {tree} given to apply"
    return VariableMismatchError(
        f"Trying to share variable {name}, but specified {what} {show(asked)} and found "
        f"{what} {show(given)}.",
        {"first": f"{describe(found)} {origin}", "again": f"at {where(again)}", "fix": fix},
        name=name,
        what=what,
        asked=asked,
        found=given,
        first=first,
        again=again,
    )


def _trainable(running: Pass, full: str, trainable: bool | None) -> bool:
    if trainable is None:
        return True
    flag = as_bool(trainable)
    if flag is None:
        raise bad_static("trainable", trainable, "True, False or None")
    if not flag and not running.values.has_state:
        raise _no_state(full, running.here())
    return flag


def _no_state(name: str, sites: tuple[Site, ...]) -> StateError:
    return report_at(
        StateError,
        f"Variable {name} is not trainable, and jscope.transform keeps only trainable ones.",
        sites,
        "use jscope.transform_with_state, which returns (params, state); or make "
        "the variable trainable.",
        name=name,
    )


def _collections(collections: object) -> tuple[str, ...]:
    if not isinstance(collections, list | tuple | set | frozenset):
        raise _not_collections(collections)
    if not all(isinstance(key, str) for key in collections):
        raise _not_collections(collections)
    return tuple(collections)


def _not_collections(value: object) -> ArgumentError:
    return ArgumentError(
        "collections argument to get_variable must be a list, tuple, or set of strings. "
        f"Got {brief(value)} of type {type(value).__name__}",
        argument="collections",
        value=brief(value),
    )


def check_function(argument: str, given: F | None, inherited: F | None) -> F | None:
    """A regularizer or constraint: None inherits, False and ``no_regularizer`` switch off."""
    found = inherited if given is None else given
    if found is None or found is regularizers.no_regularizer:
        return None
    if not callable(found) or is_dtype_class(found):
        if not is_shaped(found) and not found:
            return None
        raise bad_argument(argument, found, "a function of the value, or None")
    maker = _maker(found)
    if maker is not None:
        raise bad_argument(argument, found, f"a function of the value, which {maker}(...) makes")
    return found


def _maker(function: object) -> str | None:
    """The name of a function that makes regularizers or constraints, if it is one of ours."""
    for module in (regularizers, constraints):
        for name in module.__all__:
            if getattr(module, name) is function:
                return f"{module.__name__}.{name}"
    return None

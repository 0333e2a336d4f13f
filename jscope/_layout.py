"""How variables are laid out over the devices of a mesh: what was asked for, as PartitionSpecs."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
from jax.sharding import PartitionSpec

from jscope._arguments import bad_argument
from jscope._report import brief, describe, dims, near_names, quoted, where
from jscope.errors import ShardingError, Site

Axis: TypeAlias = "str | tuple[str, ...] | None"
Axes: TypeAlias = Mapping[str, Axis]
"""Logical name -> the mesh axes that it stands for."""
Sizes: TypeAlias = Mapping[str, int]
"""Mesh axis -> number of devices along it."""
Mesh: TypeAlias = jax.sharding.Mesh | jax.sharding.AbstractMesh


class Variable(Protocol):
    """What of a VariableSpec its layout depends on."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    @property
    def stack(self) -> tuple[int, ...]: ...

    @property
    def partition(self) -> Any: ...

    @property
    def partitioner(self) -> Any: ...

    @property
    def sites(self) -> tuple[Site, ...]: ...


class UnfitError(Exception):
    """What is wrong with one variable or rule, and the fix; raised for all of them together."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix

    def of(self, source: str) -> UnfitError:
        """The same, with what said so: a rule, a partitioner."""
        return UnfitError(f"{source}, {self.problem}", self.fix)


class Deferred(abc.ABC):
    """A layout that depends on the mesh, such as ``jscope.fsdp`` makes."""

    @abc.abstractmethod
    def renamed(self, axes: Axes) -> Deferred:
        """The same, with logical names replaced."""

    @abc.abstractmethod
    def partition(self, spec: Variable, sizes: Sizes) -> PartitionSpec:
        """The layout of a variable over a mesh; raises UnfitError."""


def check_layout(argument: str, value: Any, arguments: str) -> None:
    """Raises ArgumentError unless it is of the kinds that ``partition_of`` takes."""
    is_one = callable(value) or isinstance(value, PartitionSpec | tuple | list | Deferred)
    if isinstance(value, type) or not is_one:
        raise bad_argument(
            argument,
            value,
            f"a PartitionSpec, a tuple of axis names, jscope.fsdp(...), or a function of "
            f"{arguments} that returns one",
            "PartitionSpec('model') divides the first axis, PartitionSpec() replicates.",
        )


def is_scalar(spec: Variable) -> bool:
    """Whether it can be laid out in one way only, whatever a scope or a default says."""
    return len(spec.shape) == len(spec.stack)


def partition_of(
    spec: Variable, value: Any, axes: Axes, sizes: Sizes | None, *, of_spec: bool
) -> Any:
    """The layout that a rule's value or a partitioner gives a variable.

    Args:
      spec: The variable.
      value: A PartitionSpec, a sequence of axis names, a Deferred, or a function: of the spec,
        which answers for the axes that stacks added too, or of shape and dtype.
      axes: Of logical names.
      sizes: Of the mesh; None if it is not known yet.
      of_spec: Whether a function is one of the spec.

    Returns:
      A PartitionSpec of mesh axes; a Deferred where the mesh decides and is not known.

    Raises:
      UnfitError: it cannot be laid out so.
    """
    shape = spec.shape[len(spec.stack) :]
    whole = False
    if callable(value):
        value, whole = (value(spec) if of_spec else value(shape, spec.dtype)), of_spec
    if isinstance(value, Deferred):
        value = value.renamed(axes)
        return value if sizes is None else value.partition(spec, sizes)
    entries = _entries(value, axes, spec.shape if whole else shape)
    above = () if whole or not entries else (None,) * len(spec.stack)
    found = PartitionSpec(*above, *entries)
    _check(spec, found, value, sizes)
    return found


def _entries(value: Any, axes: Axes, shape: tuple[int, ...]) -> list[Axis]:
    if not isinstance(value, PartitionSpec | tuple | list):
        fix = "give a PartitionSpec; PartitionSpec() replicates."
        raise UnfitError(f"{brief(value)} is no PartitionSpec", fix)
    if getattr(value, "unreduced", None) or getattr(value, "reduced", None):
        raise UnfitError(
            f"{show(value)} is of sums that are still to be taken, as variables never are",
            "give a PartitionSpec without reduced and unreduced axes.",
        )
    if len(value) > len(shape):
        raise UnfitError(
            f"{show(value)} has {len(value)} entr{'ies' if len(value) > 1 else 'y'} for the shape "
            f"{dims(shape)}",
            "give at most one entry for each axis that get_variable was asked for; for variables "
            "of several ranks a partitioner is a function of (shape, dtype), and a rule that is a "
            "function of the VariableSpec answers for the axes of stacks too.",
        )
    return [_entry(entry, axes) for entry in value]


def _entry(entry: object, axes: Axes) -> Axis:
    """An entry with logical names replaced; several of one entry become one tuple."""
    if entry is None:
        return None
    if isinstance(entry, str):
        return axes.get(entry, entry)
    if not isinstance(entry, tuple | list) or not all(isinstance(name, str) for name in entry):
        fix = "an entry is the name of an axis, a tuple of names, or None."
        raise UnfitError(f"{brief(entry)} is no name of an axis", fix)
    return resolved(entry, axes)


def resolved(names: Iterable[str], axes: Axes) -> tuple[str, ...]:
    """Mesh axes for names that may be logical."""
    return tuple([axis for name in names for axis in axes_of(axes.get(name, name))])


def entry_of(names: Iterable[str]) -> Axis:
    """The entry of a PartitionSpec that names these mesh axes."""
    found = tuple(names)
    return found[0] if len(found) == 1 else found or None


def axes_of(entry: object) -> tuple[str, ...]:
    """The mesh axes of one entry of a PartitionSpec."""
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)  # type: ignore[arg-type]


def parts(entries: Iterable[object], sizes: Sizes) -> int:
    """How many parts entries of a PartitionSpec divide an array into."""
    return math.prod(sizes[name] for entry in entries for name in axes_of(entry))


def _check(spec: Variable, partition: PartitionSpec, asked: Any, sizes: Sizes | None) -> None:
    """Raises UnfitError unless a variable can be laid out so."""
    names = [name for entry in partition for name in axes_of(entry)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        given = tuple(partition)[len(partition) - len(asked) :]
        stands = "" if given == tuple(asked) else f", which stands for {show(given)},"
        raise UnfitError(
            f"{show(asked)}{stands} uses the mesh axis {twice[0]!r} twice",
            "a mesh axis can divide one axis of an array; let another one stay whole, by None.",
        )
    if sizes is None:
        return
    check_known(names, sizes, asked)
    for number, (size, entry) in enumerate(zip(spec.shape, partition, strict=False)):
        count = parts([entry], sizes)
        if size % count:
            raise UnfitError(
                f"axis {number} of {dims(spec.shape)} does not divide into {count} parts, along "
                f"{entry!r} of {show(asked)}",
                "divide another axis, as jscope.fsdp(...) looks for one, or let it be replicated.",
            )


def check_known(names: Iterable[str], sizes: Sizes, asked: object) -> None:
    """Raises UnfitError for a name that is no axis of the mesh."""
    for name in names:
        if name not in sizes:
            near = near_names(name, sizes)
            raise UnfitError(
                f"{show(asked)} names {name!r}, which is no axis of the mesh"
                + (f"; near: {quoted(near)}" if near else ""),
                "name axes of the mesh; jscope.sharding_rules(..., axes={...}) says what logical "
                "names stand for.",
            )


def show(value: object) -> str:
    """A layout in a message."""
    if isinstance(value, PartitionSpec | tuple | list):
        entries = getattr(value, "partitions", value)  # which those of sums are iterated by alone
        return f"P({', '.join(map(repr, entries))})"
    return getattr(value, "__name__", None) or brief(value)


@runtime_checkable
class Rules(Protocol):
    """What ``jscope.sharding_rules`` makes."""

    def layout(self, spec: Any, sizes: Sizes | None) -> Any:
        """As ``partition_of``; a variable that no rule lays out has the UnfitError to say so."""
        ...

    def unused(self, specs: Sequence[Any]) -> Mapping[str, UnfitError]:
        """The text of each rule that takes nothing -> what is wrong with it."""
        ...


class Layout:
    """Lays out the variables of one pass, and keeps what is wrong until all are known.

    Args:
      rules: What says so from outside; None if the variables' own partitioners do alone.
      mesh: The mesh that is set; may be empty.
    """

    __slots__ = ("_problems", "_sizes", "rules")

    def __init__(self, rules: Rules | None, mesh: Mesh) -> None:
        self.rules = rules
        self._sizes = sizes_of(mesh)
        self._problems: dict[str, UnfitError] = {}

    def __call__(self, spec: Variable) -> Any:
        """What is kept as the spec's partition."""
        try:
            if self.rules is not None:
                return self.rules.layout(spec, self._sizes)
            return self._own(spec)
        except UnfitError as error:
            self._problems[spec.name] = error.of(f"{describe(spec)} at {where(spec.sites)}")
            return PartitionSpec()
        except Exception as error:  # of a function of the user's
            error.add_note(f"in the layout of variable {spec.name}, {describe(spec)}")
            raise

    def _own(self, spec: Variable) -> Any:
        """By what the spec itself says."""
        partition, sizes = spec.partition, self._sizes
        if sizes is None or partition is None:
            return partition
        is_asked = partition is spec.partitioner
        if is_asked and is_scalar(spec):
            return PartitionSpec()
        try:
            if isinstance(partition, PartitionSpec) and not is_asked:
                # Rules or a mesh have answered, for the axes of stacks too.
                _check(spec, partition, partition, sizes)
                return partition
            return partition_of(spec, partition, {}, sizes, of_spec=False)
        except UnfitError as error:
            raise error.of("its partitioner" if is_asked else "its layout") from None

    def check(self, specs: Sequence[Variable]) -> None:
        """Raises ShardingError if a variable cannot be laid out, or a rule takes nothing."""
        problems = dict(self._problems)
        if self.rules is not None:
            problems |= self.rules.unused(specs)
        if problems:
            raise _cannot_lay_out(problems, self._sizes)


def sizes_of(mesh: Mesh) -> Sizes | None:
    """The axes of a mesh that variables can be divided over; None for the empty mesh."""
    if mesh.empty:
        return None
    manual = jax.sharding.AxisType.Manual
    kinds = zip(mesh.shape.items(), mesh.axis_types, strict=True)
    return {name: size for (name, size), kind in kinds if kind != manual}


def _cannot_lay_out(problems: Mapping[str, UnfitError], sizes: Sizes | None) -> ShardingError:
    shown = ", ".join(f"{name}={size}" for name, size in (sizes or {}).items())
    over = "" if sizes is None else f" over the mesh ({shown})"
    number = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
    lines = [f"  {name}: {error.problem}" for name, error in problems.items()]
    fixes = dict.fromkeys(error.fix for error in problems.values())
    lines += [f"  fix:    {fix}" for fix in fixes]
    return ShardingError(
        "\n".join([f"Variables cannot be laid out{over}: {number}.", *lines]),
        problems={name: error.problem for name, error in problems.items()},
    )


def laid_out(
    specs: Sequence[Variable], mesh: Mesh, rules: Rules | None = None
) -> dict[str, PartitionSpec]:
    """Full name -> the layout over a mesh; whole where nothing says how."""
    if not isinstance(mesh, Mesh):
        raise bad_argument("mesh", mesh, "a jax.sharding.Mesh or AbstractMesh")
    layout = Layout(rules, mesh)
    found = {spec.name: layout(spec) or PartitionSpec() for spec in specs}
    layout.check(specs)
    return found


def shardings(specs: Sequence[Variable], mesh: Mesh) -> dict[str, jax.sharding.NamedSharding]:
    """Full name -> the sharding over a mesh."""
    found = laid_out(specs, mesh)
    return {name: jax.sharding.NamedSharding(mesh, layout) for name, layout in found.items()}

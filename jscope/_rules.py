"""Rules: how variables are laid out over a mesh, by name and from outside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import PartitionSpec

from jscope._arguments import bad_argument, check_size
from jscope._layout import (
    Axes,
    Axis,
    Deferred,
    Mesh,
    Sizes,
    UnfitError,
    Variable,
    axes_of,
    check_known,
    check_layout,
    entry_of,
    is_scalar,
    laid_out,
    partition_of,
    parts,
    resolved,
    show,
)
from jscope._report import brief, dims, some_of
from jscope._spec import Specs, VariableSpec
from jscope.errors import EmptySelectionError
from jscope.tree import _patterns


class _Fsdp(Deferred):
    """What ``fsdp`` makes."""

    def __init__(self, axis: Axis, min_bytes: int) -> None:
        self.axis, self.min_bytes = axis, min_bytes

    def __repr__(self) -> str:
        return f"fsdp({self.axis!r}, min_bytes={self.min_bytes})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fsdp) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def renamed(self, axes: Axes) -> _Fsdp:
        return _Fsdp(entry_of(resolved(axes_of(self.axis), axes)), self.min_bytes)

    def partition(self, spec: Variable, sizes: Sizes) -> PartitionSpec:
        names = axes_of(self.axis)
        check_known(names, sizes, self)
        count = parts(names, sizes)
        if nbytes(spec) < self.min_bytes or count == 1:
            return PartitionSpec()
        asked = range(len(spec.stack), len(spec.shape))
        if not asked:
            return PartitionSpec()
        fitting = [axis for axis in asked if spec.shape[axis] % count == 0]
        if not fitting:
            raise UnfitError(
                f"{self!r} finds no axis of {dims(spec.shape)} that divides into {count} parts",
                "give it a rule of its own, PartitionSpec() to replicate it, or raise min_bytes.",
            )
        largest = max(fitting, key=lambda axis: spec.shape[axis])  # the first of equal ones
        return PartitionSpec(*(None,) * largest, self.axis)


def nbytes(spec: Variable) -> int:
    size: int = math.prod(spec.shape) * spec.dtype.itemsize
    return size


def fsdp(axis: str | tuple[str, ...], min_bytes: int = 1 << 20) -> Any:
    """A layout that divides the largest axis that can be divided, as fully sharded data parallel.

    For a value of ``sharding_rules``, or their default. Axes that ``layer_stack`` added are never
    divided; of equal axes the first is.

    Args:
      axis: Name of the mesh axis, or several as a tuple, which divide one axis together.
      min_bytes: Variables of fewer bytes are replicated: each of them costs a message.

    Raises:
      ArgumentError: (ValueError, TypeError) an argument cannot be used.

    Example:
      >>> import jscope as js
      >>> js.fsdp("data", min_bytes=1 << 16)
      fsdp('data', min_bytes=65536)
    """
    names = (axis,) if isinstance(axis, str) else axis
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise bad_argument("axis", axis, "the name of a mesh axis, or several as a tuple")
    return _Fsdp(
        axis if isinstance(axis, str) else tuple(axis), check_size("min_bytes", min_bytes, 0)
    )


class ShardingRules:
    """Rules by name; ``jscope.sharding_rules`` makes them.

    Example:
      >>> import jscope as js
      >>> from jax.sharding import PartitionSpec as P
      >>> js.sharding_rules({"**/kernel": P(None, "model")}, default=P())
      ShardingRules(['**/kernel'])
    """

    __slots__ = ("_axes", "_patterns", "_predicates", "_values")

    def __init__(self, rules: Mapping[Any, Any], default: Any, axes: Axes) -> None:
        self._patterns = list(rules)
        self._predicates = [_patterns.predicate(pattern) for pattern in rules]
        self._values = [*rules.values(), default]
        self._axes = dict(axes)

    def __reduce__(self) -> tuple[object, ...]:
        *values, default = self._values
        return ShardingRules, (dict(zip(self._patterns, values, strict=True)), default, self._axes)

    def __repr__(self) -> str:
        return f"ShardingRules([{', '.join(map(_patterns.show, self._patterns))}])"

    def layout(self, spec: VariableSpec, sizes: Sizes | None) -> Any:
        """What lays out a variable: the first rule that means it, its partitioner, the default."""
        number = self._number(spec)
        value, of_spec = self._values[number], True
        source = "the default"
        if number < len(self._patterns):
            source = self._rule(number)
        elif is_scalar(spec):
            return PartitionSpec()
        elif spec.partitioner is not None:
            value, of_spec, source = spec.partitioner, False, "its partitioner"
        elif value is None:
            raise UnfitError(
                "no rule takes it, and there is no default",
                "give a rule that takes it, or default=PartitionSpec() to replicate the others.",
            )
        try:
            return partition_of(spec, value, self._axes, sizes, of_spec=of_spec)
        except UnfitError as error:
            raise error.of(source) from None

    def _number(self, spec: VariableSpec) -> int:
        """The number of the first rule that means a variable; how many there are if none does."""
        meant = enumerate(is_meant(spec.name, spec) for is_meant in self._predicates)
        return next((number for number, hit in meant if hit), len(self._predicates))

    def _rule(self, number: int) -> str:
        return f"rule {_patterns.show(self._patterns[number])}"

    def unused(self, specs: Sequence[VariableSpec]) -> Mapping[str, UnfitError]:
        """The text of each rule that takes nothing -> what is wrong with it."""
        used = {self._number(spec) for spec in specs}
        left = [number for number in range(len(self._patterns)) if number not in used]
        return {self._rule(number): _unused(self._patterns[number], specs) for number in left}

    def report(self, specs: Specs, mesh: Mesh | None = None) -> str:
        """What each rule takes: how many variables, how many bytes, and the first names.

        Args:
          specs: Of ``net.specs(...)``.
          mesh: Over which they are laid out, so that the bytes of a device and the layouts are told
            too: those of ``fsdp`` are known there only.

        Returns:
          A line for each rule, for the partitioners of variables, and for the default.

        Raises:
          ArgumentError: (ValueError, TypeError) an argument is something else.
          ShardingError: (ValueError) some cannot be laid out over the mesh.
        """
        if not isinstance(specs, Specs):
            raise bad_argument("specs", specs, "what net.specs(...) returned")
        layouts = {} if mesh is None else laid_out(list(specs.values()), mesh, self)
        rules = len(self._patterns)
        taken: list[list[VariableSpec]] = [[] for _ in range(rules + 2)]
        for spec in specs.values():
            number = self._number(spec)
            taken[number + (number == rules and spec.partitioner is None)].append(spec)
        values = list(map(show, self._values))
        labels = [
            f"{_patterns.show(x)} -> {y}" for x, y in zip(self._patterns, values, strict=False)
        ]
        labels += ["partitioners of variables", f"default -> {values[-1]}"]
        rows = [
            (label, _taken(part, layouts, mesh)) for label, part in zip(labels, taken, strict=True)
        ]
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:{width}}  {text}" for label, text in rows)


def _unused(pattern: Any, specs: Sequence[VariableSpec]) -> UnfitError:
    """What is wrong with a rule that takes nothing."""
    items = [(spec.name, spec) for spec in specs]
    try:
        chosen = _patterns.choose(pattern, items, allow_empty=None)
    except EmptySelectionError as error:
        near = f"; near: {some_of(error.near)}" if error.near else ""
        fix = "mend the pattern, as jscope.tree has them, or leave out rules that take nothing."
        return UnfitError(f"it takes nothing{near}", fix)
    names = [name for (name, _), hit in zip(items, chosen, strict=True) if hit]
    return UnfitError(
        f"rules before it take all that it means: {some_of(names)}",
        "the first rule that means a variable takes it: put the narrower pattern first.",
    )


def _taken(
    specs: Sequence[VariableSpec], layouts: Mapping[str, PartitionSpec], mesh: Mesh | None
) -> str:
    if not specs:
        return "nothing"
    text = f"{len(specs)} variable" + ("s" if len(specs) > 1 else "")
    text += f", {sum(map(nbytes, specs)):,} bytes"
    if mesh is None:
        return f"{text}: {some_of([spec.name for spec in specs])}"
    on_one = sum(nbytes(spec) // parts(layouts[spec.name], mesh.shape) for spec in specs)
    shown = [f"{spec.name!r} {show(layouts[spec.name])}" for spec in specs[:3]]
    more = f", ... ({len(specs)} in all)" if len(specs) > 3 else ""
    return f"{text}, {on_one:,} a device: {', '.join(shown)}{more}"


def sharding_rules(
    rules: Mapping[Any, Any], default: Any = None, axes: Axes | None = None
) -> ShardingRules:
    """Rules that lay out variables over a mesh, by name; ``jscope.sharded`` puts them to use.

    The first rule that means a variable decides. Then comes the variable's own ``partitioner``,
    then the default; a scalar needs none of them. A layout says for each axis of the array that the
    request asked for which mesh axes divide it. Axes that ``layer_stack`` or ``vmap`` added are not
    divided, unless the rule is a function, which answers for all.

    Args:
      rules: ``{pattern: layout}``, with patterns as in ``jscope.tree``. A layout is a
        ``PartitionSpec``, ``jscope.fsdp(...)``, or a function of the ``VariableSpec`` that returns
        a ``PartitionSpec``.
      default: Layout of what no rule means and no partitioner lays out; without one such a variable
        is an error. ``PartitionSpec()`` replicates.
      axes: Logical names, as partitioners and rules may use them, -> a mesh axis, a tuple of some,
        or None.

    Raises:
      ArgumentError: (ValueError, TypeError) a pattern, a layout or an axis is none.

    Example:
      >>> import jscope as js
      >>> from jax.sharding import PartitionSpec as P
      >>> rules = js.sharding_rules({"**/kernel": P(None, "model"), "**/bias": P()})
      >>> net = js.sharded(js.transform(lambda x: js.layers.dense(x, 4)), rules)
      >>> import jax.numpy as jnp
      >>> net.specs(jnp.ones([1, 2]))["dense/kernel"].partition == P(None, "model")
      True
    """
    if not isinstance(rules, Mapping):
        raise bad_argument("rules", rules, "a mapping of patterns to layouts")
    layouts = {f"layout of {brief(pattern)}": value for pattern, value in rules.items()}
    if default is not None:
        layouts["default"] = default
    for argument, value in layouts.items():
        if value is fsdp:
            raise bad_argument(argument, value, "what a call of it gives, jscope.fsdp('data')")
        check_layout(argument, value, "the VariableSpec")
    axes = {} if axes is None else axes
    if not isinstance(axes, Mapping):
        raise bad_argument("axes", axes, "a mapping of logical names to mesh axes")
    for name, axis in axes.items():
        names = axis if isinstance(axis, tuple | list) else () if axis is None else (axis,)
        if not all(isinstance(part, str) for part in names):
            wanted = "the name of a mesh axis, a tuple of some, or None"
            raise bad_argument(f"value of {brief(name)} in axes", axis, wanted)
    return ShardingRules(rules, default, axes)

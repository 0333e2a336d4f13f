"""What the operations of a jaxpr cost, by the scopes that they are in, and what scopes exchange.

No program is compiled: a jaxpr has the shapes, how often a loop runs, and the scope of each
operation. XLA's own analysis has totals only.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax

from jscope._jaxapi import JAXPRS, Inspected, Jaxpr, Literal
from jscope._outline import totals
from jscope._summary._run import Opening, opening_of

Shapes: TypeAlias = tuple[jax.ShapeDtypeStruct, ...]

# They move nothing, or XLA makes them part of what uses their results.
_FREE = {"broadcast_in_dim", "empty", "random_seed", "reshape", "squeeze"}

# Their bodies are of blocks or of single elements, not of arrays.
_WHOLE = ("pallas_call", "reduce", "scatter", "select_and_scatter")

_Crossed: TypeAlias = dict[int, dict[Inspected, None]]
"""The number of an opening -> values that go into it, or out of it, in order."""


class _Origin(NamedTuple):
    """Where a value was made."""

    opening: int
    is_data: bool
    """Whether it depends on arguments of the network."""
    is_variable: bool = False
    """Or else may be a variable."""


class Costs:
    """What a jaxpr costs.

    Attributes:
      flops: Full name of a scope -> FLOPs of the matrix products and convolutions in it.
      accessed: The same, of the bytes that each operation by itself reads and writes.
      calls: Full name of a scope -> how often its openings are run.
      inputs: Full name of a scope -> what is made outside and used inside, in its first opening.
      outputs: The same, of what is made inside and used outside.
    """

    def __init__(self, jaxpr: Jaxpr, openings: Sequence[Opening]) -> None:
        self._openings = openings
        self._flops = collections.Counter[int]()
        self._accessed = collections.Counter[int]()
        self._times: dict[int, int] = {}
        # Values that are data, and others that are no variables either.
        self._ins: dict[bool, _Crossed] = {False: {}, True: {}}
        self._outs: dict[bool, _Crossed] = {False: {}, True: {}}
        whole = jaxpr.jaxpr
        self._ins[True][0] = dict.fromkeys(whole.invars)
        self._walk(whole, 0, 1, [True] * len(whole.invars))
        self.flops = self._by_scope(self._flops)
        self.accessed = self._by_scope(self._accessed)
        self.calls = self._count()
        self.inputs = self._of_first(self._ins)
        self.outputs = {**self._of_first(self._outs), "": _shapes(whole.outvars)}

    def _walk(self, jaxpr: Jaxpr, around: int, times: int, data: Sequence[bool]) -> None:
        """Counts a jaxpr that is run a number of times in an opening.

        ``data`` says of its inputs whether they depend on arguments of the network.
        """
        origins = dict.fromkeys(jaxpr.constvars, _Origin(around, False))
        pairs = zip(jaxpr.invars, data, strict=True)
        origins |= {x: _Origin(around, flag, is_variable=not flag) for x, flag in pairs}
        for equation in jaxpr.eqns:
            own = opening_of(str(equation.source_info.name_stack))
            at = around if own is None else own
            if own is not None:  # the names in a body are those from the body on
                self._times[own] = max(times, self._times.get(own, 0))
            used = [None if isinstance(x, Literal) else origins[x] for x in equation.invars]
            for value, origin in zip(equation.invars, used, strict=True):
                if origin is not None and not origin.is_variable:
                    self._cross(value, origin, at)
            flags = [origin is not None and origin.is_data for origin in used]
            bodies = list(_bodies(equation, flags))
            for body, count, inner in bodies:
                self._walk(body, at, times * count, inner)
            if not bodies:
                self._flops[at] += times * _flops(equation)
                self._accessed[at] += times * _accessed(equation)
            made = _Origin(at, any(flags), equation.primitive.name == "empty")
            origins |= dict.fromkeys(equation.outvars, made)
        for value in jaxpr.outvars:
            if not isinstance(value, Literal) and not origins[value].is_variable:
                self._cross(value, origins[value], around)

    def _cross(self, value: Inspected, made: _Origin, used: int) -> None:
        """Notes a value that is made in one opening and used in another."""
        if made.opening == used:
            return
        inside, outside = self._openings[made.opening].around, self._openings[used].around
        for opening in set(inside).difference(outside):
            self._outs[made.is_data].setdefault(opening, {})[value] = None
        for opening in set(outside).difference(inside):
            self._ins[made.is_data].setdefault(opening, {})[value] = None

    def _by_scope(self, counts: Mapping[int, int]) -> dict[str, int]:
        """Counts of scopes, with all that is in them by its name."""
        named = [(self._openings[number].scope, count) for number, count in counts.items()]
        found = totals((scope, count) for scope, count in named if scope)
        for scope, count in named:
            found[scope] += count
        return dict(found)

    def _count(self) -> dict[str, int]:
        """How often scopes are run: as their operations, or as the scopes in them."""
        found, inner = collections.Counter[str](), dict[int, int]()
        for number in range(len(self._openings) - 1, 0, -1):
            scope, (*_, outer, _) = self._openings[number]
            times = self._times.get(number, inner.get(number))
            if times is not None:  # else it computes nothing, as where a variable is looked up
                inner[outer] = min(times, inner.get(outer, times))
                found[scope] += times
        return {"": 1, **found}

    def _of_first(self, values: Mapping[bool, _Crossed]) -> dict[str, Shapes]:
        """Data, in the first opening with some; else what else there is."""
        found: dict[str, Shapes] = {}
        for is_data in (True, False):
            for number, opening in enumerate(self._openings):
                if number in values[is_data] and opening.scope not in found:
                    found[opening.scope] = _shapes(values[is_data][number])
        return found


def _shapes(values: Iterable[Inspected]) -> Shapes:
    avals = [value.aval for value in values]
    return tuple([jax.ShapeDtypeStruct(x.shape, x.dtype) for x in avals if _is_array(x)])


def _bodies(equation: Inspected, flags: Sequence[bool]) -> Iterator[tuple[Jaxpr, int, list[bool]]]:
    """The jaxprs that an operation runs, how often, and which of their inputs are data."""
    name, params = equation.primitive.name, equation.params
    if name.startswith(_WHOLE):
        return
    params, count = getattr(params.get("_prim"), "params", params), 1  # custom_root since JAX 0.12
    if name == "scan":
        count = params["length"]
    elif name == "shard_map":
        count = math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
    elif name == "custom_linear_solve":  # the others are for derivatives
        params = {"solve": params["jaxprs"].solve}
    for key, value in params.items():
        for part in value if isinstance(value, tuple | list) else [value]:
            if isinstance(part, JAXPRS):
                body: Jaxpr = getattr(part, "jaxpr", part)
                yield body, count, _data(equation, key, body, flags)


def _data(equation: Inspected, key: str, body: Jaxpr, flags: Sequence[bool]) -> list[bool]:
    """Which inputs of a jaxpr, a parameter of an operation, are data; all that a loop carries."""
    name, params, count = equation.primitive.name, equation.params, len(body.invars)
    if name == "while":
        first = params["cond_nconsts"]
        end = first + params["body_nconsts"]
        own = flags[:first] if key == "cond_jaxpr" else flags[first:end]
        return [*own, *[True] * (count - len(own))]
    if name == "custom_linear_solve":
        lengths = params["const_lengths"]
        first = lengths.matvec + lengths.vecmat
        return [*flags[first : first + lengths.solve], *flags[sum(lengths) :]]
    if len(flags) < count:
        return [True] * count
    found = list(flags[len(flags) - count :])  # the number of a branch comes first
    if name == "scan":  # by their ranks: how it is said which they are differs between versions
        carried = _alike(equation.outvars, body.outvars)
        end = _alike(equation.invars, body.invars)
        found[end - carried : end] = [True] * carried
    return found


def _alike(outside: Sequence[Inspected], inside: Sequence[Inspected]) -> int:
    """How many values of a loop are not cut into those of its iterations."""
    pairs = zip(outside, inside, strict=True)
    return sum(len(x.aval.shape) == len(y.aval.shape) for x, y in pairs)


def _flops(equation: Inspected) -> int:
    """Multiplications and additions of a matrix product or convolution: two for each pair."""
    name = equation.primitive.name
    if name not in ("dot_general", "conv_general_dilated", "ragged_dot_general"):
        return 0
    left, right = [x.aval.shape for x in equation.invars[:2]]
    size: int = math.prod(equation.outvars[0].aval.shape)
    if name == "ragged_dot_general":  # each row is multiplied with the matrix of one group
        numbers = equation.params["ragged_dot_dimension_numbers"]
        (contracted, _), _ = numbers.dot_dimension_numbers
        inner = {*numbers.lhs_ragged_dimensions} <= {*contracted}
        groups = equation.invars[2].aval.shape[-1] if inner else 1
        rows: int = math.prod(left[axis] for axis in contracted)
        return 2 * size * rows // max(groups, 1)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        terms: int = math.prod(left[axis] for axis in contracted)
        return 2 * size * terms
    numbers = equation.params["dimension_numbers"]
    taps: int = math.prod(right) // max(right[numbers.rhs_spec[0]], 1)
    spread: int = math.prod(equation.params["lhs_dilation"])  # by zeros, of a transposed one
    return 2 * size * taps // spread


def _accessed(equation: Inspected) -> int:
    if equation.primitive.name in _FREE:
        return 0
    values = [x for x in equation.invars if not isinstance(x, Literal)] + list(equation.outvars)
    return sum(math.prod(x.aval.shape) * x.aval.dtype.itemsize for x in values if _is_array(x.aval))


def _is_array(aval: Any) -> bool:
    return hasattr(aval, "shape") and hasattr(aval, "dtype")

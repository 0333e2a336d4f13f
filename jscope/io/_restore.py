"""restore: the values of a checkpoint in a tree of known names, all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, overload

import jax

from jscope._arguments import check_flag
from jscope._params import NestedMapping, Params, PyTree
from jscope._report import describe
from jscope._spec import Specs
from jscope.io._assignment import AssignmentMap, entries_of
from jscope.io._checkpoint import Checkpoint
from jscope.io._misfit import CASTABLE, cannot_be_left_out, does_not_fit, reasons
from jscope.io._plan import Plan, is_split, make_plan
from jscope.io._restore_report import RestoreReport
from jscope.io._source import Source, source_of
from jscope.io._target import Target, target_of
from jscope.io._values import Values

Transforms: TypeAlias = Mapping[Any, Any]


@overload
def restore(
    target: Specs | tuple[Params, Params],
    source: Checkpoint | NestedMapping,
    assignment_map: AssignmentMap | None = ...,
    *,
    transforms: Transforms | None = ...,
    cast: bool = ...,
    strict: bool = ...,
) -> tuple[tuple[Params, Params], RestoreReport]: ...
@overload
def restore(
    target: Params,
    source: Checkpoint | NestedMapping,
    assignment_map: AssignmentMap | None = ...,
    *,
    transforms: Transforms | None = ...,
    cast: bool = ...,
    strict: bool = ...,
) -> tuple[Params, RestoreReport]: ...
@overload
def restore(
    target: NestedMapping,
    source: Checkpoint | NestedMapping,
    assignment_map: AssignmentMap | None = ...,
    *,
    transforms: Transforms | None = ...,
    cast: bool = ...,
    strict: bool = ...,
) -> tuple[Mapping[str, Any], RestoreReport]: ...
@overload
def restore(
    target: PyTree,
    source: Checkpoint | NestedMapping,
    assignment_map: AssignmentMap | None = ...,
    *,
    transforms: Transforms | None = ...,
    cast: bool = ...,
    strict: bool = ...,
) -> tuple[PyTree, RestoreReport]: ...
def restore(
    target: PyTree,
    source: Checkpoint | NestedMapping,
    assignment_map: AssignmentMap | None = None,
    *,
    transforms: Transforms | None = None,
    cast: bool = False,
    strict: bool = True,
) -> tuple[PyTree, RestoreReport]:
    r"""Restores values by name: all that the target names, or none.

    Every name, shape and dtype is checked before anything is read. The results are copies: they
    hold no part of a file, nor of the arrays of the source.

    Args:
      target: What is wanted: nested mapping of arrays or ``jax.ShapeDtypeStruct``; a pair of those,
        (params, state); Specs, which stand for such a pair; or any other pytree, such as
        ``{"params": params, "opt": opt_state}`` or a dict whose keys have slashes, by the names
        that ``jscope.io.save`` gives its leaves, ``opt/0/mu/net/w``. A leaf with a sharding, of a
        struct or of a committed array, arrives with it, and of a mapped file each device's part is
        read alone. For an array of NumPy there comes one of NumPy, and for a number of Python one
        of its kind.
      source: A Checkpoint of ``jscope.io.open``, of which what is needed is read, one tensor at a
        time; Params or another nested mapping; or a flat one of full names, where ``w`` and
        ``w/Adam`` may stand beside each other.
      assignment_map: From names of the source to names of the target, as in TF1: a mapping or a
        list of pairs. ``"old/": "new/"`` is for all that is in a scope, where ``"/"`` is the root;
        ``"a/w": "b/w"`` for a name; ``re.compile(r"layer(\d+)"): r"layer_\1"`` is searched in
        names, as by ``re.sub``, those of an optimizer's slots too: ``^`` and ``$`` keep it to whole
        names; ``("a", "b"): "c"`` needs a function in ``transforms`` that makes one array of
        several; ``"a": ("b", "c")`` gives one to several. Names win over scopes and regular
        expressions, and a scope deeper in the target over one above it. With ``"stack"`` in
        ``transforms`` the names to map to are those of the layers, ``scope/layer_0/w``, which the
        target does not have; with ``"unstack"`` that of their stack, ``scope/w``. Nothing else is
        taken; add ``"/": "/"`` for the rest. Without a map names are equal on both sides, and all
        of the source has to be used.
      transforms: ``{pattern of names of the target: transform}``; see ``help(jscope.tree)``. A
        function is of the array, or of several, of NumPy, and called once. ``"stack"`` is where the
        source has ``layer_0``, ``layer_1``, ... for what ``layer_stack`` keeps in one array, and
        ``"unstack"`` where it is the other way round; with one of these a function is of one
        layer's array: ``{"**/kernel": numpy.transpose, "encoder": "stack"}``. Of functions, and of
        the words, the first that matches counts. With the entry ``"a": ("b", "c")``, the key
        ``"a"`` is for a function that gives as many arrays.
      cast: Whether dtypes may differ: between floats, where a finite value may be rounded but never
        become infinite or NaN, and to wider integers or complex numbers. Never between kinds.
      strict: Whether all has to be there and fit. If not, what is missing or does not fit keeps the
        target's own arrays, and is left out where the target has none, which only nested mappings
        can do without; the report tells. It is an error that nothing at all is restored.

    Returns:
      The values, in the form of the target: Params, a pair of Params, or a pytree of the same
      structure; and a RestoreReport.

    Raises:
      CheckError: (ValueError) lists every name that is missing, that does not fit or, without a
        map, is not used, unless ``strict=False`` and a name gets its value; or a tree holds
        something else than arrays.
      EmptySelectionError: (ValueError) an entry of the map, or a pattern, means nothing.
      NameClashError: (ValueError) a name would have two sources.
      ArgumentError: (ValueError, TypeError) an argument or an entry of the map cannot be used.
      FileError: (ValueError, OSError) the checkpoint is damaged.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> net = js.transform(lambda: js.get_variable("new/w", [3]))
      >>> source = {"old": {"w": jnp.ones([3])}}
      >>> (params, state), report = js.restore(net.specs(), source, {"old/": "new/"})
      >>> params["new"]["w"].sum(), report.restored
      (Array(3., dtype=float32), {'new/w': 'old/w'})
    """
    cast, strict = check_flag("cast", cast), check_flag("strict", strict)
    entries = None if assignment_map is None else entries_of(assignment_map)
    wanted, given = target_of(target), source_of(source)
    transforms = {} if transforms is None else transforms
    plan = make_plan(wanted.leaves, given, entries, transforms, cast=cast)
    kwargs = {"strict": strict, "has_map": entries is not None}
    _check(plan, wanted, given, **kwargs)
    values = Values(plan, given, cast=cast)
    left = [name for name in plan.routes if name not in plan.mismatched]
    for name in left:
        if problem := values.problem(name, wanted.leaves[name]):
            plan.refuse(name, wanted.leaves[name], problem)
    _check(plan, wanted, given, **kwargs)
    restored = {
        name: values.delivered(name, wanted.leaves[name], wanted.shardings.get(name))
        for name in left
        if name not in plan.mismatched
    }
    return wanted.rebuilt(restored), _report(
        plan, wanted, given, restored, has_map=entries is not None
    )


def _check(plan: Plan, target: Target, source: Source, *, strict: bool, has_map: bool) -> None:
    is_bare = not target.leaves.keys() - plan.missing.keys() - plan.mismatched.keys()
    if strict or (target.leaves and is_bare):
        if plan.missing or plan.mismatched or (plan.unused and not has_map):
            raise does_not_fit(plan, target, source, strict=strict, has_map=has_map)
    elif not target.leaves_out:
        without = [*plan.missing, *plan.mismatched]
        if lost := {x for x in without if isinstance(target.leaves[x], jax.ShapeDtypeStruct)}:
            raise cannot_be_left_out(plan, target, source, lost, has_map=has_map)


def _report(
    plan: Plan, target: Target, source: Source, restored: Mapping[str, Any], *, has_map: bool
) -> RestoreReport:
    why = {
        name: reason or "nothing in the source"
        for name, reason in reasons(plan, source, has_map=has_map).items()
    }
    for name, entry in plan.transforms.items():
        why[name] += f" (add {dict([entry])} to transforms)"
    for name, (wanted, found) in plan.mismatched.items():
        hint = f" ({CASTABLE})" if name in plan.castable else ""
        why[name] = f"the source has {found}, not {wanted}{hint}"
    return RestoreReport(
        {name: str(plan.routes[name]) for name in restored},
        tuple(plan.missing),
        plan.unused,
        plan.mismatched,
        {name: _how(plan, name, target.leaves[name], source) for name in restored},
        {name: f"{_without(target.leaves[name])}: {reason}" for name, reason in why.items()},
    )


def _without(leaf: Any) -> str:
    return "left out" if isinstance(leaf, jax.ShapeDtypeStruct) else "kept yours"


def _how(plan: Plan, name: str, leaf: Any, source: Source) -> str:
    """What was restored: ``float32[3,4]``, and by which transform or cast."""
    route, words = plan.routes[name], [describe(leaf)]
    found = source.types[route.atoms[0].source].dtype
    if found != leaf.dtype:
        words.append(f"from {found}")
    splits = [plan.splits[atom.source].function for atom in route.atoms if is_split(atom, plan)]
    word, function, _ = route.how
    how = [word, function] if word == "unstack" else [function, word]
    steps = [_name(step) for step in [*splits[:1], *how] if step]
    return " ".join(words) + (f" by {', '.join(steps)}" if steps else "")


def _name(how: Callable[..., Any] | str) -> str:
    name = how if isinstance(how, str) else getattr(how, "__name__", "<")
    return "a function" if name.startswith("<") else name

"""What to do about what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jscope._report import Shaped
from jscope.io._entries import FROM_TORCH
from jscope.io._plan import Plan
from jscope.io._routes import NO_STACK


def fixes_of(
    plan: Plan, target: Mapping[str, Shaped], *, strict: bool, has_map: bool, is_left: bool
) -> list[str]:
    """Sentences on a plan.

    Args:
      plan: One that has something that is missing or does not fit, or which leaves something over.
      target: Full name -> array or shape.
      strict: Whether all has to be there and fit.
      has_map: Whether there is an assignment map.
      is_left: Whether the source has what is missing, by its name, and the map does not take it.
    """
    fixes = []
    if plan.missing:
        what = "is missing or does not fit" if plan.mismatched else "is missing"
        own = f"; or keep the target's own values of what {what} by strict=False" if strict else ""
        more = _fix_of_layers(plan) or _fix_of_names(plan, has_map=has_map, is_left=is_left)
        fixes.append(f"{more}{own}.")
    elif plan.unexplained and not plan.mismatched and not has_map:
        fixes.append("with the map {'/': '/'} what is not used may be left over.")
    fixes += [*_fixes_of_dtypes(plan), *_fixes_of_axes(plan, target)]
    if not strict:
        fixes.append(
            "strict=False keeps the target's own values of a part, and here nothing is restored."
        )
    return fixes


def _fix_of_layers(plan: Plan) -> str:
    transforms = dict(plan.transforms.values())
    return f"add {transforms} to transforms" if transforms else ""


def _fix_of_names(plan: Plan, *, has_map: bool, is_left: bool) -> str:
    if NO_STACK in plan.missing.values():
        return 'narrow the pattern of "stack" in transforms to the scope of the stack'
    if is_left:
        return "add '/': '/' to the map"
    if has_map:
        return "give each a source in the map"
    if any("." in name and name.replace(".", "/") in plan.missing for name in plan.unused):
        return f'map the dots of names, {{re.compile(r"\\."): "/"}}, or {FROM_TORCH}'
    return f"map names, {_map_of_scopes(plan) or {'old/': 'new/'}}"


def _map_of_scopes(plan: Plan) -> dict[str, str]:
    """The map where all that is missing is in more scopes of the source; empty if it is not."""
    above: dict[str, list[str]] = {name: [] for name in plan.missing}
    left = dict.fromkeys(plan.unexplained)
    for name in left:
        path = name.split("/")
        for depth in range(1, len(path)):
            if (rest := "/".join(path[depth:])) in above:
                above[rest].append(name.removesuffix(rest))
    every = [sorted(scopes, key=lambda scope: scope.count("/")) for scopes in above.values()]
    if not all(every):
        return {}
    of_all = [scope for scope in every[0] if all(scope in scopes for scopes in every)]
    chosen = of_all[:1] or list(dict.fromkeys(scopes[0] for scopes in every))
    if any(len(set(chosen).intersection(scopes)) > 1 for scopes in every):
        return {}  # a name would have two sources
    both = [name for name in plan.routes if any(scope + name in left for scope in chosen)]
    if not both and plan.routes:
        chosen.append("/")
    return dict.fromkeys(chosen, "/") if len(both) in (0, len(plan.routes)) else {}


def _fixes_of_axes(plan: Plan, target: Mapping[str, Shaped]) -> Iterator[str]:
    fit = [name for name in plan.routes if name not in plan.turned]
    ends = {
        name.rpartition("/")[2] for name in fit if target[name].shape != target[name].shape[::-1]
    }
    patterns = dict.fromkeys(
        name if (end := name.rpartition("/")[2]) in ends else f"**/{end}"
        for name in plan.routes
        if name in plan.turned
    )
    if patterns:
        told = ", ".join(f"{pattern!r}: numpy.transpose" for pattern in patterns)
        yield f"turn the axes round, transforms={{{told}}}."


def _fixes_of_dtypes(plan: Plan) -> Iterator[str]:
    for name, dtype in list(plan.of_other_kinds.items())[:1]:
        yield (
            "cast goes between floats, and to wider integers or complex numbers; all else is for a "
            f"function, transforms={{{name!r}: lambda x: x.astype({str(dtype)!r})}}."
        )

"""check: every difference between params and specs, at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax

from jscope._arguments import bad_argument
from jscope._params import NestedMapping, Params, not_a_mapping, walk
from jscope._report import describe, near_names, quoted
from jscope._spec import Specs, VariableSpec
from jscope.errors import CheckError


def check(params: NestedMapping, specs: Specs | NestedMapping) -> None:
    """Checks that params have the names, shapes and dtypes of the specs.

    Args:
      params: Nested mapping of arrays.
      specs: Of ``net.specs(...)``, whose trainable variables are compared; or a nested mapping of
        arrays or ``jax.ShapeDtypeStruct``, such as ``specs.state()``.

    Raises:
      CheckError: (ValueError) lists every missing, unexpected and mismatched name.

    Example:
      >>> import jscope as js
      >>> net = js.transform(lambda: js.get_variable("w", [2]))
      >>> js.check(net.init(0), net.specs())
    """
    wanted_tree = specs.params() if isinstance(specs, Specs) else specs
    for what, tree in (("params", params), ("specs", wanted_tree)):
        if not isinstance(tree, Mapping):
            raise not_a_mapping(what, tree)
    wanted = {
        "/".join(path): leaf for path, leaf in walk(Params(wanted_tree)) if not is_empty(leaf)
    }
    found = {"/".join(path): leaf for path, leaf in walk(Params(params))}
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name, leaf in found.items() if name not in wanted and not is_empty(leaf)]
    mismatched = {
        name: (describe(wanted[name]), describe(found[name]))
        for name in wanted
        if name in found and describe(wanted[name]) != describe(found[name])
    }
    if missing or unexpected or mismatched:
        fix = None
        if isinstance(specs, Specs):
            kept = [name for name in unexpected if name in specs and not specs[name].trainable]
            if kept:
                fix = f"{kept[0]} is state: check that by jscope.check(state, specs.state())."
        raise do_not_fit(missing, unexpected, mismatched, fix)


def do_not_fit(
    missing: Sequence[str],
    unexpected: Sequence[str],
    mismatched: Mapping[str, tuple[str, str]],
    fix: str | None = None,
) -> CheckError:
    lines = [f"  missing:    {name}" for name in missing]
    for name in unexpected:
        near = near_names(name, missing)
        lines.append(f"  unexpected: {name}" + (f" (near {quoted(near)})" if near else ""))
    for name, (wanted, found) in mismatched.items():
        lines.append(f"  mismatched: {name} is {found}, should be {wanted}")
    first = (
        f"The params do not fit the specs: {len(missing)} missing, {len(unexpected)} "
        f"unexpected, {len(mismatched)} mismatched."
    )
    lines += [f"  fix:        {fix}"] if fix else []
    return CheckError(
        "\n".join([first, *lines]),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        mismatched=dict(mismatched),
    )


def specified(
    params: NestedMapping, specs: Specs, wanted: Callable[[VariableSpec], bool]
) -> list[tuple[VariableSpec, jax.Array]]:
    """The specs asked for, with their values in params."""
    if not isinstance(specs, Specs):
        raise bad_argument("specs", specs, "what net.specs(...) returned")
    flat = {"/".join(path): leaf for path, leaf in walk(Params(params))}
    found = [spec for spec in specs.values() if spec.trainable and wanted(spec)]
    missing = [spec.name for spec in found if spec.name not in flat]
    if missing:
        raise do_not_fit(missing, [], {})
    return [(spec, flat[spec.name]) for spec in found]


def is_empty(leaf: object) -> bool:
    """Whether ``walk`` gave an empty scope rather than a leaf."""
    return isinstance(leaf, Mapping)

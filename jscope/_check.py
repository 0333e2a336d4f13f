"""check: every difference between params and specs, at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

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
    near = {name: quoted(near_names(name, missing)) for name in unexpected}
    return misfit(
        "The params do not fit the specs",
        {
            "missing": dict.fromkeys(missing, ""),
            "unexpected": {name: f"near {names}" if names else "" for name, names in near.items()},
        },
        mismatched,
        [fix] if fix else [],
    )


def misfit(
    summary: str,
    absent: Mapping[str, Mapping[str, str]],
    mismatched: Mapping[str, tuple[str, str]],
    fixes: Sequence[str] = (),
    notes: Mapping[str, str] = MappingProxyType({}),
) -> CheckError:
    """Every name that is not in both of two trees, or not alike.

    Args:
      summary: The clause that the numbers follow.
      absent: ``"missing"`` and a word for what is not wanted -> name -> a note on it, or "".
      mismatched: Name -> what is wanted, and found.
      fixes: What to do.
      notes: Name that is mismatched -> a note on it.
    """
    counts = {word: len(names) for word, names in absent.items()} | {"mismatched": len(mismatched)}
    told = [(word, name, note) for word, names in absent.items() for name, note in names.items()]
    for name, (wanted, found) in mismatched.items():
        told.append(("mismatched", f"{name} is {found}, should be {wanted}", notes.get(name, "")))
    lines = [
        f"  {word + ':':<12}{text}" + (f" ({note})" if note else "") for word, text, note in told
    ]
    lines += [f"  fix:        {fix}" for fix in fixes]
    first = f"{summary}: {', '.join(f'{count} {word}' for word, count in counts.items())}."
    return CheckError(
        "\n".join([first, *lines]),
        missing=tuple(absent["missing"]),
        unexpected=tuple(
            name for word, names in absent.items() if word != "missing" for name in names
        ),
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

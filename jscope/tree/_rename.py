"""rename: trees under other names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeAlias, overload

from jscope._arguments import bad_argument
from jscope._names import invalid_name
from jscope._params import NestedMapping, Params
from jscope._spec import Specs
from jscope.tree._names import Item, check_distinct, leaves_of, like
from jscope.tree._patterns import claim, is_glob

NewNames: TypeAlias = Mapping[Any, Any]
"""Old names or patterns -> new names; checkers take no mapping of one kind of key for a union."""


@overload
def rename(tree: Specs, names: NewNames, *, allow_empty: bool = ...) -> Specs: ...
@overload
def rename(tree: NestedMapping, names: NewNames, *, allow_empty: bool = ...) -> Params: ...
def rename(
    tree: NestedMapping,
    names: NewNames,
    *,
    allow_empty: bool = False,
) -> Params | Specs:
    r"""The tree with other names, all changed at once; empty scopes are left out.

    Args:
      tree: Nested mapping, such as params, state or gradients; or Specs.
      names: ``{"q": "target_q"}``, the paths of variables or scopes and their new ones: ``q/w``
        becomes ``target_q/w``, and ``q_2/w`` stays. The empty path is the root, so ``{"net": ""}``
        takes ``net/`` off. A key may be a compiled ``re.Pattern``, its value as in ``re.sub``. The
        first that matches a name renames it.
      allow_empty: Whether one of ``names`` may match nothing.

    Returns:
      Params; of Specs, Specs.

    Raises:
      EmptySelectionError: (ValueError) a key matches nothing, or nothing that the keys before it
        leave.
      NameClashError: (ValueError) two variables would have one name, or one would be the scope of
        another.
      InvalidNameError: (ValueError) a new name is empty or has an empty component.
      CheckError: (ValueError) ``tree`` is no nested mapping.
      ArgumentError: (ValueError, TypeError) a key or a value of ``names`` is something else.

    Example:
      >>> import re
      >>> import jscope as js
      >>> params = {"q": {"w": 1.0}, "q_2": {"w": 2.0}}
      >>> js.tree.rename(params, {"q": "target_q"}).to_dict()
      {'target_q': {'w': 1.0}, 'q_2': {'w': 2.0}}
      >>> layers = {re.compile(r"layer_(\d+)"): r"block\1"}
      >>> js.tree.rename({"layer_0": {"w": 1.0}}, layers).to_dict()
      {'block0': {'w': 1.0}}
    """
    rules = _rules(names)
    items = leaves_of(tree)
    owners = claim([old for old, _ in rules], items, allow_empty=allow_empty)
    renamed: list[Item] = []
    for (name, leaf), owner in zip(items, owners, strict=True):
        new = _renamed(name, *rules[owner]) if owner < len(rules) else name
        if not all(new.split("/")):
            raise invalid_name(new, "variable")
        renamed.append(
            (new, dataclasses.replace(leaf, name=new)) if isinstance(tree, Specs) else (new, leaf)
        )

    def origin(number: int) -> str:
        old, new = items[number][0], renamed[number][0]
        return f"{new}, not renamed" if old == new else f"{new}, renamed from {old}"

    check_distinct([name for name, _ in renamed], origin)
    return like(tree, renamed)


def _rules(names: NewNames) -> list[tuple[str | re.Pattern[str], Any]]:
    if not isinstance(names, Mapping):
        raise bad_argument("names", names, "a mapping of old paths to new ones")
    for old, new in names.items():
        if not isinstance(old, str | re.Pattern) or (isinstance(old, str) and is_glob(old)):
            raise bad_argument("old name", old, "a path or a compiled regular expression")
        if not isinstance(new, str) and (isinstance(old, str) or not callable(new)):
            raise bad_argument("new name", new, "a string, as in {'q': 'target_q'}")
    return list(names.items())


def _renamed(name: str, old: str | re.Pattern[str], new: Any) -> str:
    if isinstance(old, re.Pattern):
        return old.sub(new, name)
    inner = name[len(old) :].removeprefix("/")
    return "/".join(part for part in (new.removesuffix("/"), inner) if part)

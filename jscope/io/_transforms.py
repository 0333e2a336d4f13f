"""Transforms: which function, and whether layers are stacked, for each name of a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from jscope._arguments import bad_argument
from jscope._report import Shaped
from jscope.errors import ArgumentError
from jscope.io._entries import Entry
from jscope.tree._patterns import Pattern, claim, show


class How(NamedTuple):
    """How a variable is made of arrays."""

    word: Literal["stack", "unstack"] | None = None
    """Whether the arrays are layers that are stacked, or a layer is taken of a stack."""
    function: Callable[..., Any] | None = None
    """Of the arrays; with a word of one layer's array."""
    by: str = ""
    """What messages call the function, or the word if there is none."""


class Split(NamedTuple):
    """A function of one array that gives ``size`` of them, one for each of several targets."""

    function: Callable[..., Any]
    size: int


def sorted_out(
    transforms: Mapping[Any, Any], entries: Iterable[Entry]
) -> tuple[dict[str, Split], dict[Pattern, Any]]:
    """The functions that make several arrays, by source, and the other transforms."""
    if not isinstance(transforms, Mapping):
        raise bad_argument("transforms", transforms, "a mapping of patterns to functions")
    several = {old: len(new) for old, new in entries if isinstance(new, tuple)}
    splits: dict[str, Split] = {}
    patterns: dict[Pattern, Any] = {}
    for key, how in transforms.items():
        is_split = isinstance(key, str) and key in several
        is_word = isinstance(how, str) and how in ("stack", "unstack") and not is_split
        if not callable(how) and not is_word:
            raise _no_transform(key, how, is_split)
        if is_split:
            splits[key] = Split(how, several[key])
        else:
            patterns[key] = how
    return splits, patterns


def _no_transform(key: Any, how: object, is_split: bool) -> ArgumentError:
    more = "" if is_split else ", 'stack' or 'unstack'"
    return bad_argument(f"transform of {show(key)}", how, f"a function{more}")


def hows_of(target: Mapping[str, Shaped], patterns: Mapping[Pattern, Any]) -> dict[str, How]:
    """How each name is made: words and functions are claimed apart, so that a name may have both.

    Args:
      target: Full name -> array or shape.
      patterns: Which names are meant -> a word, or a function.
    """
    words, functions = (
        _claimed([key for key, how in patterns.items() if isinstance(how, str) is is_word], target)
        for is_word in (True, False)
    )
    return {
        name: How(
            patterns[words[name]] if name in words else None,
            patterns[functions[name]] if name in functions else None,
            f"transforms[{show((words | functions)[name])}]",
        )
        for name in words | functions
    }


def _claimed(keys: list[Pattern], target: Mapping[str, Shaped]) -> dict[str, Pattern]:
    owners = claim(keys, list(target.items()), allow_empty=None)
    return {
        name: keys[owner] for name, owner in zip(target, owners, strict=True) if owner < len(keys)
    }

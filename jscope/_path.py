"""Names of variables and scopes: which are valid, and what number each one stands for."""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Any

import numpy as np

from jscope._report import brief
from jscope.errors import InvalidNameError, NameTypeError

_COMPONENT = r"[A-Za-z0-9_.\\>-]+"
_NAME = re.compile(f"{_COMPONENT}(/{_COMPONENT})*")


@functools.lru_cache(maxsize=65536)
def is_name(name: str) -> bool:
    """Whether ``name`` is one or more valid components joined by slashes."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str, kind: str) -> None:
    """Raises InvalidNameError unless ``name`` can name a ``kind`` ("variable" or "scope")."""
    if not is_name(name):
        raise invalid_name(name, kind)


def invalid_name(name: str, kind: str) -> InvalidNameError:
    reason = (
        "it has an empty component"
        if not name or "" in name.split("/")
        else f"each component between slashes has to match {_COMPONENT}"
    )
    return InvalidNameError(
        f"{name!r} is not a valid {kind} name: {reason}.",
        {"fix": "use letters, digits and _ . \\ > - , with single slashes between components."},
        name=name,
        kind=kind,
    )


def join(prefix: str, name: str) -> str:
    """The full name of ``name`` in the scope ``prefix``; the root's prefix is empty."""
    return f"{prefix}/{name}" if prefix else name


def split(name: str) -> tuple[str, str]:
    """The scope and the last component of a full name."""
    prefix, _, last = name.rpartition("/")
    return prefix, last


def words(name: str) -> np.ndarray:
    """Two 32-bit words that stand for a full name in the derivation of keys.

    They are the BLAKE2b hash (8 bytes, little endian) of the components, each preceded by its
    length in bytes (4 bytes, little endian): ``a/bc`` and ``ab/c`` differ. Initial values depend
    on it, so it is a file format: a change is a breaking change.
    """
    return _words(hashlib.blake2b(_encode(name), digest_size=8))


def draw_words(scope: str, number: int) -> np.ndarray:
    """Two 32-bit words that stand for the draw ``number`` of a scope.

    As ``words``, of the scope's components and then the number (4 bytes, little endian), with the
    personalization ``draw``: a draw never has the words of a variable. Also a file format.
    """
    text = _encode(scope) + number.to_bytes(4, "little")
    return _words(hashlib.blake2b(text, digest_size=8, person=b"draw"))


def _encode(name: str) -> bytes:
    texts = [component.encode() for component in name.split("/")]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _words(digest: Any) -> np.ndarray:
    return np.frombuffer(digest.digest(), dtype="<u4").astype(np.uint32)


def not_a_name(name: object) -> NameTypeError:
    return NameTypeError(
        f"The name of a variable must be a string, got {brief(name)} of type "
        f"{type(name).__name__}.",
        name=brief(name),
        kind="variable",
    )


def not_text(argument: str, name: object) -> NameTypeError:
    return NameTypeError(
        f"The {argument} must be a string, got {brief(name)} of type {type(name).__name__}.",
        name=brief(name),
        kind="scope",
    )

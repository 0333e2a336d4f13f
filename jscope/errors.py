"""Every error of jscope.

    JscopeError
    ├── NoPassError (RuntimeError)            called outside init / apply / specs
    ├── NestingError (RuntimeError)           scopes closed in the wrong order, or opened twice
    ├── VariableExistsError (ValueError)      made twice without reuse
    ├── VariableNotFoundError (ValueError)    reused before it was made, or not in the params
    ├── VariableMismatchError (ValueError)    found with another shape or dtype
    ├── NameClashError (ValueError)           one name for a variable and a scope, or for two
    ├── InvalidNameError (ValueError)         not a name
    │   └── NameTypeError (TypeError)         not even text
    ├── ReuseError (ValueError)               not a reuse mode, or one that cannot be here
    ├── InitializerError (ValueError)         no initial value of that shape and dtype
    │   └── InitializerTypeError (TypeError)  not a shape, a dtype or an initializer
    ├── ArgumentError (ValueError, TypeError) any other argument that cannot be used
    ├── StateError (ValueError)               state where there is none, or of the wrong variable
    │   └── AssignmentError (also a VariableMismatchError)  a value of another shape or dtype
    ├── RngError (ValueError)                 no key, or not a key
    ├── TransformError (ValueError)           a value or a call on the wrong side of a JAX transform
    ├── EmptySelectionError (ValueError)      a pattern that selects nothing
    ├── FileError (ValueError, OSError)       a file that cannot be read, or is not what it says
    │   └── MissingFileError (FileNotFoundError)  there is no such file
    ├── ShardingError (ValueError)            variables that cannot be laid out as they are to be
    └── CheckError (ValueError)               params that do not fit
        ├── TreeTypeError (TypeError)         not a nested mapping of names to arrays
        ├── LabelError                        no label for a name, or two
        ├── LayersError                       scopes that are not the layers of one stack
        └── ConstraintError                   a constraint that changed a shape or dtype

Each derives from the builtin that TensorFlow 1 raised in its place, so ``except ValueError`` ports
as it is. The first line of a message is TensorFlow's wherever it had one; the lines below say what
was asked and where, where it was first made, what is near, and the fix. The facts stay as
attributes, and every error pickles.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jscope._hints import watch

__all__ = [
    "ArgumentError",
    "AssignmentError",
    "CheckError",
    "ConstraintError",
    "EagerRecompileWarning",
    "EmptySelectionError",
    "FileError",
    "InitializerError",
    "InitializerTypeError",
    "InvalidNameError",
    "JscopeError",
    "LabelError",
    "LayersError",
    "MissingFileError",
    "NameClashError",
    "NameTypeError",
    "NestingError",
    "NoPassError",
    "ReuseError",
    "RngError",
    "ShardingError",
    "Site",
    "StateError",
    "TransformError",
    "TreeTypeError",
    "VariableExistsError",
    "VariableMismatchError",
    "VariableNotFoundError",
]


def __dir__() -> list[str]:
    return __all__


watch(__name__)


class Site(NamedTuple):
    """One frame of the user's code: where a variable was asked for."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        inside = self.file.startswith(os.getcwd() + os.sep)
        file = os.path.relpath(self.file) if inside else _cell(self.file) or self.file
        return f"{file}:{self.line} in {self.function}"


def _cell(file: str) -> str | None:
    """The cell of a notebook or of IPython that a code's file stands for: ``Cell In[9]``."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    shown = getattr(getattr(shell, "compile", None), "format_code_name", lambda _: None)(file)
    if shown is not None:
        return " ".join(shown)
    numbered = re.match(r"<ipython-input-(\d+)-", file)  # of IPython 7, which has no such names
    return f"Cell In[{numbered[1]}]" if numbered else None


class JscopeError(Exception):
    """Base of every error that jscope raises.

    Attributes are the facts that the message was written from; each subclass names its own.

    Args:
      summary: The first line, which is enough by itself.
      lines: Label -> text of the lines below; those without a text are left out.
      **facts: Become attributes.
    """

    def __init__(
        self, summary: str, lines: Mapping[str, str | None] | None = None, /, **facts: object
    ) -> None:
        shown = [f"  {label + ':':<8}{text}" for label, text in (lines or {}).items() if text]
        super().__init__("\n".join([summary, *shown]))
        self.__dict__.update(facts)
        self._facts = facts

    def __reduce__(self) -> tuple[object, ...]:
        notes = {"__notes__": self.__notes__} if hasattr(self, "__notes__") else None
        return _revive, (type(self), self.args[0], self._facts), notes


def _revive(cls: type[JscopeError], message: str, facts: dict[str, object]) -> JscopeError:
    return cls(message, **facts)


class NoPassError(JscopeError, RuntimeError):
    """A jscope call was made where no init, apply or specs runs. Fact: ``call``."""

    call: str = ""


class NestingError(JscopeError, RuntimeError):
    """Scopes were closed in the wrong order, opened twice or never closed. Fact: ``scope``."""

    scope: str = ""


class VariableExistsError(JscopeError, ValueError):
    """A name was asked for again without reuse.

    Facts: ``name``, ``first`` and ``again`` (sites, innermost first).
    """

    name: str = ""
    first: tuple[Site, ...] = ()
    again: tuple[Site, ...] = ()


class VariableNotFoundError(JscopeError, ValueError):
    """A name was reused before it was made, or is not in the params given to apply.

    Facts: ``name``, ``near`` (names that exist and look alike), ``sites``.
    """

    name: str = ""
    near: tuple[str, ...] = ()
    sites: tuple[Site, ...] = ()


class VariableMismatchError(JscopeError, ValueError):
    """A variable was found with another shape or dtype than asked for.

    Facts: ``name``, ``what`` ("shape" or "dtype"), ``asked``, ``found``, ``first`` (sites where it
    was made; empty where it came with the params), ``again``.
    """

    name: str = ""
    what: str = ""
    asked: Any = None
    found: Any = None
    first: tuple[Site, ...] = ()
    again: tuple[Site, ...] = ()


class NameClashError(JscopeError, ValueError):
    """One name would be both a variable and a scope, or two variables.

    Facts: ``name``, ``other``, ``sites``.
    """

    name: str = ""
    other: str = ""
    sites: tuple[Site, ...] = ()


class InvalidNameError(JscopeError, ValueError):
    """A name that cannot be a variable's or a scope's. Facts: ``name``, ``kind``."""

    name: Any = ""
    kind: str = ""


class NameTypeError(InvalidNameError, TypeError):
    """A name that is not text. Facts: ``name`` (its repr), ``kind``."""


class ReuseError(JscopeError, ValueError):
    """A reuse mode that is none, or cannot be used here. Fact: ``reuse`` (its repr)."""

    reuse: str = ""


class InitializerError(JscopeError, ValueError):
    """No initial value of the shape and dtype that were asked for. Facts: ``name``, ``sites``."""

    name: str = ""
    sites: tuple[Site, ...] = ()


class InitializerTypeError(InitializerError, TypeError):
    """A shape, dtype or initializer of the wrong type. Facts: ``name``, ``sites``."""


class ArgumentError(JscopeError, ValueError, TypeError):
    """An argument that cannot be used. Facts: ``argument``, ``value`` (its repr)."""

    argument: str = ""
    value: str = ""


class StateError(JscopeError, ValueError):
    """State where there is none, or of a variable that has none. Facts: ``name``, ``sites``."""

    name: str = ""
    sites: tuple[Site, ...] = ()


class AssignmentError(StateError, VariableMismatchError):
    """A value was assigned whose shape or dtype is not the variable's.

    Facts: those of VariableMismatchError, and ``sites``.
    """


class RngError(JscopeError, ValueError):
    """No key where one is needed, or not a key.

    Facts: ``rng`` (its description), ``name`` (of the variable that needs one), ``sites``.
    """

    rng: str = ""
    name: str = ""
    sites: tuple[Site, ...] = ()


class TransformError(JscopeError, ValueError):
    """A value or a call on the wrong side of a JAX transform.

    Facts: ``transform``, ``name`` (of the variable or scope), ``sites``; and ``key`` of a
    collection, ``names`` of scopes, ``index`` of a value, or ``asked`` and ``found`` of a carry.
    """

    transform: str = ""
    name: str = ""
    sites: tuple[Site, ...] = ()


class EmptySelectionError(JscopeError, ValueError):
    """A pattern that selects nothing. Facts: ``pattern``, ``near``."""

    pattern: str = ""
    near: tuple[str, ...] = ()


class ShardingError(JscopeError, ValueError):
    """Variables that cannot be laid out over a mesh as rules or partitioners say.

    Or the processes of the mesh would not make the same. Facts: ``problems`` (full name, the text
    of a rule, or what differs -> what is wrong with it).
    """

    problems: Mapping[str, str] = MappingProxyType({})


class FileError(JscopeError, ValueError, OSError):
    """A file that cannot be read or written, or that is not what it says.

    Facts: ``path``, ``offset`` (in bytes; None where the whole file is meant).
    """

    path: str = ""
    offset: int | None = None


class MissingFileError(FileError, FileNotFoundError):
    """A file that is not there. Facts: those of FileError."""


class CheckError(JscopeError, ValueError):
    """Params that do not fit the specs, or another tree that cannot be used.

    Facts: ``missing`` and ``unexpected`` (names), ``mismatched`` (name -> (wanted, found)).
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[str, str]] = MappingProxyType({})


class TreeTypeError(CheckError, TypeError):
    """Not a nested mapping of names to arrays. Facts: those of CheckError."""


class LabelError(CheckError):
    """A name that no pattern gives a label, or two give different ones. Fact: ``names``."""

    names: tuple[str, ...] = ()


class LayersError(CheckError):
    """Scopes that are not the layers of one stack, or arrays that are no stacks."""


class ConstraintError(CheckError):
    """A constraint returned another shape or dtype. Fact: ``mismatched``."""


class EagerRecompileWarning(UserWarning):
    """An eager apply recompiles its inner transforms on every call; jit the outer call."""

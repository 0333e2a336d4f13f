"""variable_scope: names, defaults and reuse for the requests inside it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Never, ParamSpec, TypeVar

import jax
import numpy as np
from jax.typing import DTypeLike

from jscope import _jaxapi, _pass
from jscope._arguments import bad_argument, check_flag
from jscope._calls import Place, here
from jscope._names import check_name, join, not_text
from jscope._numbering import ScopeNode
from jscope._others import check_others
from jscope._params import PyTree
from jscope._pass import Pass
from jscope._reading import Inner
from jscope._report import brief, describe, report_at, where
from jscope._request import check_function
from jscope._reuse import Reuse, check_reuse, inherit
from jscope._settings import CustomGetter, Settings, call, check_getter
from jscope._shape_dtype import dtype_or_none, not_a_dtype, not_an_initializer
from jscope._spec import (
    Args,
    Constraint,
    DType,
    InitializerLike,
    Kwargs,
    Partitioner,
    Regularizer,
)
from jscope.errors import (
    ArgumentError,
    InvalidNameError,
    NameTypeError,
    NestingError,
    ReuseError,
    Site,
    TransformError,
)

P = ParamSpec("P")
R = TypeVar("R")


class VariableScope:
    """A scope: a full name and the defaults for what is made in it.

    ``with variable_scope(...) as scope`` gives one; pass it to ``variable_scope`` to open the same
    scope again from anywhere, as in TF1. The setters and ``reuse_variables`` work inside a pass and
    act on this scope, on scopes opened in it later and on later jumps to it, until the pass ends.

    Args:
      name: Full name; empty for the root.
      reuse: True, False, None or AUTO_REUSE.
      initializer: Default initializer, and so on for the other options of ``variable_scope``.

    Raises:
      InvalidNameError, ReuseError, InitializerTypeError, ArgumentError: (ValueError) an option
        cannot be used.

    Example:
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("a") as scope:
      ...         first = js.get_variable("v", [2])
      ...     with js.variable_scope(scope, reuse=True):
      ...         return first is js.get_variable("v")
      >>> net = js.transform(fn)
      >>> net.apply(net.init(0), None)
      True
    """

    __slots__ = ("__weakref__", "_base", "_name")

    def __init__(
        self,
        name: str = "",
        reuse: Reuse | None = None,
        *,
        initializer: InitializerLike = None,
        regularizer: Regularizer | None = None,
        constraint: Constraint | None = None,
        partitioner: Partitioner = None,
        custom_getter: CustomGetter | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise _not_a_scope(name)
        if name:
            check_name(name, "scope")
        check_reuse(reuse)
        self._name = name
        self._base = Settings(
            reuse=reuse or False,
            dtype=_scope_dtype(dtype),
            initializer=_scope_initializer(initializer),
            regularizer=check_function("regularizer", regularizer, None),
            constraint=check_function("constraint", constraint, None),
            partitioner=partitioner,
            custom_getter=check_getter(custom_getter),
        )

    @classmethod
    def _make(cls, name: str, settings: Settings) -> VariableScope:
        scope = object.__new__(cls)
        scope._name = name
        scope._base = settings
        return scope

    @property
    def _settings(self) -> Settings:
        _looks("it looks at the defaults of a scope")
        running = _pass.find()
        return self._in(running)

    def _in(self, running: Pass | None) -> Settings:
        return self._base if running is None else running.changed.get(self, self._base)

    @property
    def name(self) -> str:
        """Full name, without a trailing slash; empty for the root."""
        _looks("it looks at the name of a scope")
        return self._name

    @property
    def original_name_scope(self) -> str:
        """The full name with a trailing slash, as TF1's name scopes have it; empty for the root."""
        return join(self.name, "") if self.name else ""

    @property
    def reuse(self) -> Reuse:
        """True, False or AUTO_REUSE."""
        return self._settings.reuse

    @property
    def dtype(self) -> DType:
        """The default dtype; float32 where no scope sets one."""
        return self._settings.dtype or np.dtype(np.float32)

    @property
    def initializer(self) -> InitializerLike:
        """The default initializer, or None."""
        return self._settings.initializer

    @property
    def regularizer(self) -> Regularizer | None:
        """The default regularizer, or None."""
        return self._settings.regularizer

    @property
    def constraint(self) -> Constraint | None:
        """The default constraint, or None."""
        return self._settings.constraint

    @property
    def partitioner(self) -> Partitioner:
        """The default partitioner, or None."""
        return self._settings.partitioner

    @property
    def custom_getter(self) -> CustomGetter | None:
        """The getter around every request, those of outer scopes included; or None."""
        return self._settings.custom_getter

    def reuse_variables(self) -> None:
        """Turns reuse on for the rest of this scope; it cannot be undone, as in TF1."""
        self._change("reuse_variables", reuse=True)

    def set_initializer(self, initializer: InitializerLike) -> None:
        """Sets the default initializer."""
        self._change("set_initializer", initializer=_scope_initializer(initializer))

    def set_regularizer(self, regularizer: Regularizer | None) -> None:
        """Sets the default regularizer."""
        self._change(
            "set_regularizer", regularizer=check_function("regularizer", regularizer, None)
        )

    def set_constraint(self, constraint: Constraint | None) -> None:
        """Sets the default constraint."""
        self._change("set_constraint", constraint=check_function("constraint", constraint, None))

    def set_partitioner(self, partitioner: Partitioner) -> None:
        """Sets the default partitioner."""
        self._change("set_partitioner", partitioner=partitioner)

    def set_dtype(self, dtype: DTypeLike | None) -> None:
        """Sets the default dtype."""
        self._change("set_dtype", dtype=_scope_dtype(dtype))

    def set_custom_getter(self, custom_getter: CustomGetter | None) -> None:
        """Sets the getter; it replaces the inherited ones, as in TF1."""
        self._change("set_custom_getter", custom_getter=check_getter(custom_getter))

    def _change(self, call: str, **settings: Any) -> None:
        running = _pass.current(f"VariableScope.{call}")
        changed = self._settings._replace(**settings)
        running.changed[self] = changed
        if running.scope is self:
            running.settings = changed

    def __repr__(self) -> str:
        return f"VariableScope({self._name!r}, reuse={self.reuse!r})"


def _not_a_scope(name: object) -> NameTypeError:
    return NameTypeError(
        "VariableScope: name_or_scope must be a string or VariableScope.",
        {"asked": f"{brief(name)} of type {type(name).__name__}"},
        name=brief(name),
        kind="scope",
    )


def _scope_dtype(dtype: DTypeLike | None) -> DType | None:
    if dtype is None:
        return None
    found = dtype_or_none(dtype)
    if found is None:
        raise not_a_dtype("variable_scope", dtype, here())
    return found


def _scope_initializer(initializer: InitializerLike) -> InitializerLike:
    if isinstance(initializer, str | bytes | dict):
        raise not_an_initializer("variable_scope", initializer, here())
    return initializer


def _compose(inner: CustomGetter, outer: CustomGetter | None) -> CustomGetter:
    """The inner scope's getter around the outer one's, which is nearer to the variable."""
    if outer is None:
        return inner

    def composed(getter: CustomGetter, *args: PyTree, **request: PyTree) -> PyTree:
        def outer_getter(*args: PyTree, **request: PyTree) -> PyTree:
            return _call_getter(outer, getter, args, request)

        return _call_getter(inner, outer_getter, args, request)

    return composed


def _call_getter(custom: CustomGetter, getter: CustomGetter, args: Args, request: Kwargs) -> PyTree:
    """By keyword, unless a getter passed the name on by position."""
    return custom(getter, *args, **request) if args else call(custom, getter, request)


def _looks(reason: str) -> None:
    """Notes that a function depends on the scope around it."""
    running = _pass.peek()
    if running is not None and running.recorder is not None:
        running.recorder.refuse(reason)


def get_variable_scope() -> VariableScope:
    """The open scope; the root scope where none is open. As in TF1.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.

    Example:
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("a"), js.variable_scope("b"):
      ...         return js.get_variable_scope().name
      >>> js.transform(fn).apply({}, None)
      'a/b'
    """
    scope = _pass.current("get_variable_scope").scope
    assert isinstance(scope, VariableScope)
    return scope


class variable_scope:  # noqa: N801 - a function's name, as in TF1
    """Opens a scope: variables made inside get its name as a prefix and its defaults. As in TF1.

    A context manager, or a decorator that opens the scope anew at each call. Names are never
    changed: opening "a" twice gives the same scope, and sharing needs ``reuse``. Also opens
    ``jax.named_scope``, so that profiles and HLO carry the names.

    Args:
      name_or_scope: A name relative to the open scope, slashes allowed; a VariableScope, opened
        under its full name wherever we are; or None, to number ``default_name``.
      default_name: Used where the name is None: "dense", then "dense_1", ... in the open scope.
      values: List or tuple of values; each must be a live JAX value (a tracer that leaked from a
        finished trace is refused here).
      initializer: Default initializer of ``get_variable``; inherited, like all that follow.
      regularizer: Default regularizer; ``no_regularizer`` switches an inherited one off.
      constraint: Default constraint.
      partitioner: Default partitioner.
      custom_getter: ``f(getter, name, shape, dtype, ...)`` around every request, called by keyword.
        Getters of inner scopes are called before it, and ``getter`` calls those of outer ones.
      reuse: True shares only; AUTO_REUSE makes or shares; None and False inherit, and so does any
        scope inside: no way leads out of reuse but a scope object.
      dtype: Default dtype.
      auxiliary_name_scope: Whether to open ``jax.named_scope``.
      **others: Refused, by an ArgumentError that says which was meant.

    Yields:
      The VariableScope.

    Raises:
      NoPassError: (RuntimeError) entered outside init, apply and specs.
      InvalidNameError: (ValueError) a name is not valid; NameTypeError (also TypeError) if it is
        missing, or neither a string nor a scope.
      ReuseError: (ValueError) no reuse mode, or reuse where the name is None.
      TransformError: (ValueError) a leaked tracer among ``values``.
      NestingError: (RuntimeError) entered twice, or left in the wrong order.
      ArgumentError, InitializerTypeError: (ValueError, TypeError) another option cannot be used.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def fn(x):
      ...     with js.variable_scope("generator"):
      ...         with js.variable_scope("conv1"):
      ...             return x * js.get_variable("kernel", [3])
      >>> js.transform(fn).init(0, jnp.ones([3]))
      Params({'generator': {'conv1': {'kernel': float32[3]}}})
    """

    __slots__ = (
        "_default_name",
        "_entry",
        "_name_or_scope",
        "_named",
        "_once",
        "_options",
        "_reuse",
        "_values",
    )

    def __init__(
        self,
        name_or_scope: str | VariableScope | None,
        default_name: str | None = None,
        values: Iterable[PyTree] | None = None,
        *,
        initializer: InitializerLike = None,
        regularizer: Regularizer | None = None,
        constraint: Constraint | None = None,
        partitioner: Partitioner = None,
        custom_getter: CustomGetter | None = None,
        reuse: Reuse | None = None,
        dtype: DTypeLike | None = None,
        auxiliary_name_scope: bool = True,
        **others: Never,
    ) -> None:
        if others:
            known = [*Settings._fields, "auxiliary_name_scope", "default_name", "values"]
            check_others("variable_scope", others, known)
        check_reuse(reuse)
        if isinstance(name_or_scope, str):
            if name_or_scope:
                check_name(name_or_scope, "scope")
        elif name_or_scope is None:
            if default_name is None:
                raise _no_name()
            if not isinstance(default_name, str):
                raise not_text("default_name", default_name)
            check_name(default_name, "scope")
            if reuse:
                raise _reuse_without_name(reuse, default_name)
        elif not isinstance(name_or_scope, VariableScope):
            raise _not_a_scope(name_or_scope)
        named = check_flag("auxiliary_name_scope", auxiliary_name_scope)
        if values is not None and not isinstance(values, list | tuple):
            raise bad_argument("values", values, "a list or tuple")
        options: dict[str, Any] = {}
        if initializer is not None:
            options["initializer"] = _scope_initializer(initializer)
        if regularizer is not None:
            options["regularizer"] = check_function("regularizer", regularizer, None)
        if constraint is not None:
            options["constraint"] = check_function("constraint", constraint, None)
        if partitioner is not None:
            options["partitioner"] = partitioner
        if custom_getter is not None:
            options["custom_getter"] = check_getter(custom_getter)
        if dtype is not None:
            options["dtype"] = _scope_dtype(dtype)
        self._name_or_scope = name_or_scope
        self._default_name = default_name
        self._values = values
        self._options = options
        self._reuse = reuse
        self._named = named
        self._entry: _Entry | None = None
        self._once = False

    def numbered_once(self) -> variable_scope:
        """The same, for who keeps the scope that it numbers, however often it is run again."""
        self._once = True
        return self

    def __enter__(self) -> VariableScope:
        running = _pass.current("variable_scope")
        if self._entry is not None:
            raise _twice(self._label(), running.here())
        if self._values is not None:
            _check_values(self._values)
        self._entry = entry = open_scope(
            running,
            self._name_or_scope,
            self._default_name,
            self._reuse,
            self._options,
            self._named,
            self._once,
        )
        return entry.scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running = _pass.peek()
        entry = self._entry
        label = entry.scope._name if entry else self._label()
        if running is None or entry is None or not running.entries:
            raise _wrong_order(label, None)
        if running.entries[-1] is not entry:
            raise _wrong_order(label, running.prefix)
        running.guard.touch()
        entry.close(running)
        if isinstance(error, Exception) and type(running.values) is not Inner:
            _note_scope(error, label)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorates ``fn``: each call runs in the scope, opened anew."""

        @functools.wraps(fn)
        def scoped(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._again():
                return fn(*args, **kwargs)

        return scoped

    def _again(self) -> variable_scope:
        again = object.__new__(variable_scope)
        for slot in self.__slots__:
            setattr(again, slot, getattr(self, slot))
        again._entry = None
        return again

    def _label(self) -> str:
        scope = self._name_or_scope
        return scope._name if isinstance(scope, VariableScope) else scope or str(self._default_name)

    def __repr__(self) -> str:
        return f"variable_scope({self._label()!r})"

    def __bool__(self) -> bool:
        raise TypeError(
            "variable_scope(...) has no truth value. Open it with `with`; to ask for the open "
            "scope use get_variable_scope()."
        )


_NOTE = "in scope "


def _note_scope(error: Exception, scope: str) -> None:
    """Notes the innermost scope on an error, unless it tells the place itself."""
    told = getattr(error, "sites", ()) or getattr(error, "again", ())
    notes: list[str] = getattr(error, "__notes__", [])
    if scope and not told and not any(note.startswith(_NOTE) for note in notes):
        shown = scope if len(scope) <= 200 else f"{scope[:98]}...{scope[-99:]}"
        error.add_note(_NOTE + shown)


def _reuse_without_name(reuse: object, default_name: str) -> ReuseError:
    return ReuseError(
        "reuse=True cannot be used without a name_or_scope",
        {
            "asked": f"reuse={brief(reuse)} with default_name={brief(default_name)}, which "
            "always opens a scope that is new",
            "fix": f"name the scope, variable_scope({brief(default_name)}, reuse=...).",
        },
        reuse=brief(reuse),
    )


def _no_name() -> NameTypeError:
    return NameTypeError(
        "If default_name is None then name_or_scope is required", name="None", kind="scope"
    )


def _twice(scope: str, sites: tuple[Site, ...]) -> NestingError:
    return NestingError(
        "Improper nesting of variable_scope: a variable_scope object can be entered only once.",
        {
            "asked": f"to open {scope!r} again at {where(sites)}",
            "fix": "call variable_scope(...) in each `with`: each run of init, apply and specs "
            "opens its own, so an object that outlives them keeps the name. To open the same "
            "scope again in one run pass the scope that `with ... as scope` gives.",
        },
        scope=scope,
    )


def _wrong_order(scope: str, open_scope: str | None) -> NestingError:
    is_open = "no scope is open" if open_scope is None else f"the open scope is {open_scope!r}"
    return NestingError(
        "Improper nesting of variable_scope.",
        {
            "asked": f"to close {scope!r}, but {is_open}",
            "fix": "close scopes in the reverse order of opening: use `with`.",
        },
        scope=scope,
    )


class _Entry:
    """One open scope of a pass."""

    __slots__ = ("_label", "_named", "_node", "_outer", "place", "scope")

    def __init__(
        self,
        running: Pass,
        scope: VariableScope,
        node: ScopeNode,
        label: str | None,
        place: Place,
    ) -> None:
        self.place = place
        self.scope = scope
        self._label = label
        self._node = node
        self._outer = running.scope, running.prefix

    @property
    def is_fresh(self) -> bool:
        """Whether the scope is not open further out too, so that its numbers started here."""
        return self._node.open == 1

    def push(self, running: Pass) -> None:
        self._named = None
        if self._label is not None:
            self._named = jax.named_scope(self._label)
            self._named.__enter__()
        self._node.open += 1
        running.entries.append(self)
        running.scope = self.scope
        running.prefix = self.scope._name
        running.settings = self.scope._base

    def close(self, running: Pass) -> None:
        if running.recorder is not None:
            running.recorder.closed()
        running.entries.pop()
        running.scope, running.prefix = self._outer
        running.settings = running.scope._in(running)
        self._node.open -= 1
        self._node.close()
        if self._named is not None:
            self._named.__exit__(None, None, None)


def open_scope(
    running: Pass,
    name_or_scope: str | VariableScope | None,
    default_name: str | None,
    reuse: Reuse | None,
    options: dict[str, Any],
    named: bool,
    once: bool,
) -> _Entry:
    place = running.calls.observe(running.level)[1]
    outer = running.settings
    if isinstance(name_or_scope, VariableScope):
        full, outer = name_or_scope._name, name_or_scope._in(running)
        label = full.rpartition("/")[2]
        if full and not running.numbering.node(full).is_known:
            running.kept.add(full)
    else:
        name = name_or_scope
        if name is None:
            assert default_name is not None
            if place and not once:
                _check_runs_once(running, default_name)
            name = running.numbering.unique(running.prefix, default_name, place)
        elif not name and running.prefix:
            raise _nested_root(running.prefix, running.here())
        full = join(running.prefix, name) if name else ""
        label = name
    mode, settings = inherit(reuse, outer.reuse), outer
    if options or mode is not outer.reuse:
        settings = outer._replace(reuse=mode, **options)
    if "custom_getter" in options:
        getter = _compose(options["custom_getter"], outer.custom_getter)
        settings = settings._replace(custom_getter=getter)
    node = running.numbering.node(full)
    node.count_opening(place)
    scope = VariableScope._make(full, settings)
    entry = _Entry(running, scope, node, label if named and label else None, place)
    entry.push(running)
    if running.recorder is not None:
        running.recorder.opened(scope, full, name_or_scope, default_name, reuse, options, place)
    return entry


def _nested_root(scope: str, sites: tuple[Site, ...]) -> InvalidNameError:
    return InvalidNameError(
        "'' is not a valid scope name: variable_scope('') is the root scope and can be opened "
        "at the root only.",
        {
            "asked": f"in scope {scope} at {where(sites)}",
            "fix": "to give options to the open scope, variable_scope(get_variable_scope(), "
            "custom_getter=...); to return to the root, capture it there, root = "
            "get_variable_scope(), and open variable_scope(root).",
        },
        name="",
        kind="scope",
    )


def _check_runs_once(running: Pass, default_name: str) -> None:
    """Raises TransformError where a numbered scope may be numbered anew."""
    entry = running.entries[-1] if running.entries else None
    later = running.calls.later(running.level, entry.place if entry and entry.is_fresh else ())
    if later is not None:
        raise _numbered_again(default_name, later, running.here())


def _numbered_again(name: str, transform: str, sites: tuple[Site, ...]) -> TransformError:
    return report_at(
        TransformError,
        f"A scope cannot be numbered from {name!r} inside {transform}: JAX or who "
        "called it may run the function again, which would get variables of its own.",
        sites,
        "wrap the function by jscope.make_template or jscope.functionalize, or open "
        "a scope in it by name, with reuse=jscope.AUTO_REUSE.",
        name=name,
        transform=transform,
    )


def _check_values(values: Iterable[PyTree]) -> None:
    for index, value in enumerate(values):
        for leaf in jax.tree.leaves(value):
            if isinstance(leaf, _jaxapi.Tracer):
                if not _jaxapi.is_live(leaf):
                    raise _leaked(index, describe(leaf))
            elif isinstance(leaf, jax.Array):
                if leaf.is_deleted():
                    raise _deleted(f"values[{index}]", describe(leaf))
            elif not isinstance(leaf, np.ndarray | np.generic | bool | int | float | complex):
                raise bad_argument(f"values[{index}]", leaf, "a JAX value")


def _leaked(index: int, value: str) -> TransformError:
    return TransformError(
        f"values[{index}] is a tracer that leaked from a finished trace.",
        {
            "value": value,
            "fix": "return the value from the transformed function instead of storing it.",
        },
        index=index,
    )


def _deleted(argument: str, value: str) -> ArgumentError:
    return ArgumentError(
        f"The {argument}, {value}, was deleted, for example by a call that it was donated to.",
        argument=argument,
        value=value,
    )

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
    └── CheckError (ValueError)               params that do not fit

Each derives from the builtin that TensorFlow 1 raised in its place, so ``except ValueError`` ports
as it is. The first line of a message is TensorFlow's wherever it had one; the lines below say what
was asked and where, where it was first made, what is near, and the fix. The facts stay as
attributes, and every error pickles.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

__all__ = [
    "ArgumentError",
    "AssignmentError",
    "CheckError",
    "EagerRecompileWarning",
    "EmptySelectionError",
    "InitializerError",
    "InitializerTypeError",
    "InvalidNameError",
    "JscopeError",
    "NameClashError",
    "NameTypeError",
    "NestingError",
    "NoPassError",
    "ReuseError",
    "RngError",
    "Site",
    "StateError",
    "TransformError",
    "VariableExistsError",
    "VariableMismatchError",
    "VariableNotFoundError",
]


def __dir__() -> list[str]:
    return __all__


_SITES_SHOWN = 3


class Site(NamedTuple):
    """One frame of the user's code: where a variable was asked for."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        inside = self.file.startswith(os.getcwd() + os.sep)
        file = os.path.relpath(self.file) if inside else self.file
        return f"{file}:{self.line} in {self.function}"


def where(sites: Sequence[Site]) -> str:
    """The places of a request as messages show them: three frames, innermost first."""
    return " < ".join(str(site) for site in sites[:_SITES_SHOWN]) or "an unknown place"


def _brief(value: object) -> str:
    """A value in a message: never an array's values, never more than a line."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and not isinstance(value, type):
        return _aval(shape, dtype)
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _aval(shape: Any, dtype: Any) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def _dims(shape: Iterable[Any]) -> str:
    dims = ["?" if dim is None else str(dim) for dim in shape]
    return f"({dims[0]},)" if len(dims) == 1 else f"({', '.join(dims)})"


def _near(name: str, names: Iterable[str]) -> list[str]:
    import difflib  # here, because most programs never need it

    known = list(dict.fromkeys(names))
    tail = name.rsplit("/", 1)[-1]
    same_tail = [other for other in known if other.rsplit("/", 1)[-1] == tail]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return list(dict.fromkeys(close + same_tail))[:3]


def _quote(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _some(names: Sequence[str]) -> str:
    return _quote(names[:3]) + (f", ... ({len(names)} in all)" if len(names) > 3 else "")


def _check_call(tree: str) -> str:
    return f"jscope.check({tree}, specs{'' if tree == 'params' else '.state()'})"


def _revive(cls: type[JscopeError], message: str, facts: dict[str, Any]) -> JscopeError:
    return cls(message, **facts)


class JscopeError(Exception):
    """Base of every error that jscope raises.

    Attributes are the facts that the message was written from; each subclass names its own.
    """

    def __init__(self, message: str, /, **facts: Any) -> None:
        super().__init__(message)
        self.__dict__.update(facts)
        self._facts = facts

    @classmethod
    def _report(cls, summary: str, lines: Mapping[str, str | None], /, **facts: Any) -> Self:
        """Writes the report: TF1's sentence, then one labelled line for each fact that is known."""
        body = [f"  {label + ':':<8}{text}" for label, text in lines.items() if text]
        return cls("\n".join([summary, *body]), **facts)

    def __reduce__(self) -> tuple[Any, ...]:
        notes = {"__notes__": self.__notes__} if hasattr(self, "__notes__") else None
        return _revive, (type(self), self.args[0], self._facts), notes


class NoPassError(JscopeError, RuntimeError):
    """A jscope call was made where no init, apply or specs runs. Fact: ``call``."""

    @classmethod
    def in_rule(cls, call: str, rule: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"{call} was called outside a pass: by a rule of {rule}, which JAX runs when the pass "
            "is over.",
            {
                "asked": f"at {where(sites)}",
                "fix": f"read variables outside the {rule} and pass them as arguments, whose "
                "gradients the rule gives.",
            },
            call=call,
        )

    @classmethod
    def make(cls, call: str) -> Self:
        return cls._report(
            f"{call} was called outside a pass: it works only inside a function that runs under "
            "init, apply or specs.",
            {
                "fix": "wrap the outermost function, net = jscope.transform(fn), and call "
                "net.init(rng, ...) and net.apply(params, rng, ...). A pass belongs to the "
                "thread that started it; the backward rule of a custom_vjp runs after it, so give "
                "it what it needs as residuals."
            },
            call=call,
        )


class NestingError(JscopeError, RuntimeError):
    """Scopes were closed in the wrong order, opened twice or never closed. Fact: ``scope``."""

    @classmethod
    def wrong_order(cls, scope: str, open_scope: str | None) -> Self:
        is_open = "no scope is open" if open_scope is None else f"the open scope is {open_scope!r}"
        return cls._report(
            "Improper nesting of variable_scope.",
            {
                "asked": f"to close {scope!r}, but {is_open}",
                "fix": "close scopes in the reverse order of opening: use `with`.",
            },
            scope=scope,
        )

    @classmethod
    def twice(cls, scope: str) -> Self:
        return cls._report(
            "Improper nesting of variable_scope: a variable_scope object can be entered only once.",
            {
                "asked": f"to open {scope!r} again",
                "fix": "call variable_scope(...) in each `with`; to open the same scope again pass "
                "the scope that `with ... as scope` gives.",
            },
            scope=scope,
        )

    @classmethod
    def left_open(cls, scope: str) -> Self:
        return cls._report(
            "Improper nesting of variable_scope: the function returned with a scope still open.",
            {
                "open": repr(scope),
                "fix": "open scopes with `with`, so that they close by themselves.",
            },
            scope=scope,
        )


class VariableExistsError(JscopeError, ValueError):
    """A name was asked for again without reuse.

    Facts: ``name``, ``first`` and ``again`` (sites, innermost first).
    """

    name: str
    first: tuple[Site, ...]
    again: tuple[Site, ...]

    @classmethod
    def make(
        cls,
        name: str,
        *,
        shape: Any,
        dtype: Any,
        first: tuple[Site, ...],
        again: tuple[Site, ...],
        by_jax: bool = False,
    ) -> Self:
        again_text = f"at {where(again)}"
        if first == again:
            again_text += " (the same place, reached again)"
        library = (
            "\n          where a library calls one function several times, as solvers do: wrap it "
            "by jscope.functionalize or jscope.make_template, or share by reuse=jscope.AUTO_REUSE."
        )
        return cls._report(
            f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or "
            "reuse=jscope.AUTO_REUSE in VarScope?",
            {
                "first": f"{_aval(shape, dtype)} at {where(first)}",
                "again": again_text,
                "fix": "to share it, open the scope with reuse=True or jscope.AUTO_REUSE; to make "
                "another variable, use another name or another variable_scope."
                + (library if by_jax else ""),
            },
            name=name,
            first=first,
            again=again,
        )


class VariableNotFoundError(JscopeError, ValueError):
    """A name was reused before it was made, or is not in the params given to apply.

    Facts: ``name``, ``near`` (names that exist and look alike), ``sites``.
    """

    name: str
    near: tuple[str, ...]
    sites: tuple[Site, ...]

    @classmethod
    def under_reuse(
        cls,
        name: str,
        *,
        known: Iterable[str],
        sites: tuple[Site, ...],
        in_template: bool,
    ) -> Self:
        near = tuple(_near(name, known))
        fix = (
            "make the variable in the template's first call: later calls only share."
            if in_template
            else "make the variable before the scope that reuses it, correct the name, or use "
            "jscope.AUTO_REUSE. A function that takes its params from another's init has no need "
            "of init: call apply."
        )
        return cls._report(
            f"Variable {name} does not exist, or was not created with get_variable(). "
            "Did you mean to set reuse=jscope.AUTO_REUSE in VarScope?",
            {
                "asked": f"at {where(sites)}",
                "near": _quote(near),
                "fix": fix,
            },
            name=name,
            near=near,
            sites=sites,
        )

    @classmethod
    def in_tree(
        cls,
        name: str,
        tree: str,
        *,
        known: Iterable[str],
        sites: tuple[Site, ...],
        hint: str | None,
    ) -> Self:
        near = tuple(_near(name, known))
        return cls._report(
            f"Variable {name} does not exist in the {tree} given to apply.",
            {
                "asked": f"at {where(sites)}",
                "near": _quote(near),
                "fix": hint
                or f"give {tree} of this function's init; {_check_call(tree)} lists "
                "every difference at once.",
            },
            name=name,
            near=near,
            sites=sites,
        )

    @classmethod
    def in_values(cls, name: str, *, known: Iterable[str]) -> Self:
        near = tuple(_near(name, known))
        return cls._report(
            f"Variable {name} does not exist in the values given to initial_values.",
            {"near": _quote(near), "fix": "give a value for it, or leave strict out."},
            name=name,
            near=near,
            sites=(),
        )

    @classmethod
    def to_assign(cls, name: str, *, known: Iterable[str], sites: tuple[Site, ...]) -> Self:
        names = list(dict.fromkeys(known))
        below = [other for other in names if other.startswith(f"{name}/")]
        near = tuple(below or _near(name, names))
        fix = (
            "it is a scope, as of a custom getter that made several variables for this name: "
            "assign to one of them."
            if below
            else "make it first, get_variable(name, ..., trainable=False), or correct the name; it "
            "is relative to the open scope."
        )
        return cls._report(
            f"Variable {name} does not exist, so it cannot be assigned.",
            {
                "asked": f"at {where(sites)}",
                "near": _some(near) if near else None,
                "fix": fix,
            },
            name=name,
            near=near,
            sites=sites,
        )


class VariableMismatchError(JscopeError, ValueError):
    """A variable was found with another shape or dtype than asked for.

    Facts: ``name``, ``what`` ("shape" or "dtype"), ``asked``, ``found``, ``first`` (sites where it
    was made; empty where it came with the params), ``again``.
    """

    name: str
    what: str
    asked: Any
    found: Any
    first: tuple[Site, ...]
    again: tuple[Site, ...]

    @classmethod
    def make(
        cls,
        name: str,
        what: str,
        *,
        asked: Any,
        found: Any,
        aval: tuple[Any, Any],
        first: tuple[Site, ...],
        again: tuple[Site, ...],
        tree: str = "params",
        layers: int = 0,
    ) -> Self:
        show = _dims if what == "shape" else str
        origin = f"at {where(first)}" if first else f"in the {tree} given to apply"
        own = show(found[layers:] if what == "shape" else found)  # of one layer
        fix = (
            f"ask for {what} {own}, or open another scope."
            if first
            else f"give {tree} whose {what} is {show(asked)}, or ask for {own}."
        )
        return cls._report(
            f"Trying to share variable {name}, but specified {what} {show(asked)} and found "
            f"{what} {show(found)}.",
            {"first": f"{_aval(*aval)} {origin}", "again": f"at {where(again)}", "fix": fix},
            name=name,
            what=what,
            asked=asked,
            found=found,
            first=first,
            again=again,
        )


class NameClashError(JscopeError, ValueError):
    """One name would be both a variable and a scope, or two variables.

    Facts: ``name``, ``other``, ``sites``.
    """

    name: str
    other: str
    sites: tuple[Site, ...]

    @classmethod
    def make(
        cls, name: str, other: str, *, first: tuple[Site, ...], again: tuple[Site, ...]
    ) -> Self:
        variable, below = sorted((name, other), key=len)
        return cls._report(
            f"Variable {name} cannot be made: {variable} would be a variable and also the scope "
            f"of {below}.",
            {
                "first": f"{other} at {where(first)}",
                "again": f"{name} at {where(again)}",
                "fix": "rename one of the two; params are a nested dict, where one key holds an "
                "array or a scope.",
            },
            name=name,
            other=other,
            sites=again,
        )

    @classmethod
    def in_tree(cls, name: str, tree: str, *, is_scope: bool, sites: tuple[Site, ...]) -> Self:
        held = "it is a scope (a mapping)" if is_scope else "a scope on its path is an array"
        return cls._report(
            f"Variable {name} cannot be read: in the {tree} given to apply {held}.",
            {
                "asked": f"at {where(sites)}",
                "fix": f"give {tree} of this function's init, with neither a level more nor a "
                f"level less; {_check_call(tree)} lists every difference at once.",
            },
            name=name,
            other=name,
            sites=sites,
        )

    @classmethod
    def among(cls, name: str, other: str, *, first: str, again: str) -> Self:
        """Between the names of trees, which were made nowhere in particular."""
        if name == other:
            summary = f"Two variables would have the name {name}."
        else:
            summary = (
                f"Variable {name} cannot be made: {other} would be a variable and also the scope "
                f"of {name}."
            )
        return cls._report(
            summary,
            {"first": first, "again": again, "fix": "rename or leave out one of the two."},
            name=name,
            other=other,
            sites=(),
        )


_PATTERN = "[A-Za-z0-9_.\\\\>-]+"


class InvalidNameError(JscopeError, ValueError):
    """A name that cannot be a variable's or a scope's. Facts: ``name``, ``kind``."""

    name: Any
    kind: str

    @classmethod
    def make(cls, name: str, kind: str) -> Self:
        reason = (
            "it has an empty component"
            if not name or "" in name.split("/")
            else f"each component between slashes has to match {_PATTERN}"
        )
        return cls._report(
            f"{name!r} is not a valid {kind} name: {reason}.",
            {"fix": "use letters, digits and _ . \\ > - , with single slashes between components."},
            name=name,
            kind=kind,
        )

    @classmethod
    def nested_root(cls) -> Self:
        return cls._report(
            "'' is not a valid scope name: variable_scope('') is the root scope and can be opened "
            "at the root only.",
            {
                "fix": "to return to the root, capture it there, root = get_variable_scope(), and "
                "open variable_scope(root)."
            },
            name="",
            kind="scope",
        )


class NameTypeError(InvalidNameError, TypeError):
    """A name that is not text. Facts: ``name`` (its repr), ``kind``."""

    @classmethod
    def variable(cls, name: object) -> Self:
        return cls(
            f"The name of a variable must be a string, got {_brief(name)} of type "
            f"{type(name).__name__}.",
            name=_brief(name),
            kind="variable",
        )

    @classmethod
    def scope(cls, name: object) -> Self:
        return cls._report(
            "VariableScope: name_or_scope must be a string or VariableScope.",
            {"asked": f"{_brief(name)} of type {type(name).__name__}"},
            name=_brief(name),
            kind="scope",
        )

    @classmethod
    def argument(cls, argument: str, name: object) -> Self:
        return cls(
            f"The {argument} must be a string, got {_brief(name)} of type {type(name).__name__}.",
            name=_brief(name),
            kind="scope",
        )

    @classmethod
    def missing(cls) -> Self:
        return cls(
            "If default_name is None then name_or_scope is required", name="None", kind="scope"
        )

    @classmethod
    def template(cls) -> Self:
        return cls("name cannot be None.", name="None", kind="template")


class ReuseError(JscopeError, ValueError):
    """A reuse mode that is none, or cannot be used here. Fact: ``reuse`` (its repr)."""

    reuse: str

    @classmethod
    def unknown(cls, reuse: object) -> Self:
        return cls._report(
            "The reuse parameter must be True or False or None.",
            {"asked": repr(reuse), "fix": "pass True, False, None or jscope.AUTO_REUSE."},
            reuse=_brief(reuse),
        )

    @classmethod
    def without_name(cls, reuse: object, default_name: str) -> Self:
        return cls._report(
            "reuse=True cannot be used without a name_or_scope",
            {
                "asked": f"reuse={_brief(reuse)} with default_name={_brief(default_name)}, which "
                "always opens a scope that is new",
                "fix": f"name the scope, variable_scope({_brief(default_name)}, reuse=...).",
            },
            reuse=_brief(reuse),
        )


class InitializerError(JscopeError, ValueError):
    """No initial value of the shape and dtype that were asked for. Facts: ``name``, ``sites``."""

    name: str
    sites: tuple[Site, ...]

    @classmethod
    def _at(cls, first: str, name: str, sites: tuple[Site, ...], fix: str) -> Self:
        return cls._report(
            first, {"asked": f"{name} at {where(sites)}", "fix": fix}, name=name, sites=sites
        )

    @classmethod
    def missing_shape(cls, name: str, sites: tuple[Site, ...], *, partial: bool) -> Self:
        if partial:
            first = (
                "The initializer passed is not valid. It should be a callable "
                f"f(key, shape, dtype), and `shape` of variable {name} should be fully defined."
            )
        else:
            first = (
                f"Variable {name} did not get an initializer, so its `shape` argument must be "
                "specified."
            )
        return cls._at(first, name, sites, "give a shape of integers, such as [3, 4].")

    @classmethod
    def no_default(cls, name: str, dtype: object, sites: tuple[Site, ...]) -> Self:
        return cls._at(
            f"An initializer for variable {name} of {dtype} is required",
            name,
            sites,
            "pass initializer=f(key, shape, dtype); floats, integers and bools have a default.",
        )

    @classmethod
    def negative(cls, name: str, dim: int, sites: tuple[Site, ...]) -> Self:
        return cls._at(f"Dimension {dim} must be >= 0", name, sites, "give a shape of sizes.")

    @classmethod
    def constant_shape(cls, name: str, shape: Any, found: Any, sites: tuple[Site, ...]) -> Self:
        return cls._at(
            f"If initializer is a constant, do not specify shape. Specified shape {_dims(shape)} "
            f"and the constant has shape {_dims(found)}.",
            name,
            sites,
            "leave the shape out, give the constant's, or pass a function, "
            "such as jax.nn.initializers.constant(value).",
        )

    @classmethod
    def constant_dtype(
        cls, name: str, dtype: object, found: object, sites: tuple[Site, ...]
    ) -> Self:
        return cls._at(
            f"Initializer type '{found}' and explicit dtype '{dtype}' don't match.",
            name,
            sites,
            f"cast the constant, or ask for dtype {found}.",
        )

    @classmethod
    def wrong_result(
        cls,
        name: str,
        initializer: str,
        asked: tuple[Any, Any],
        found: str,
        sites: tuple[Site, ...],
    ) -> Self:
        return cls._at(
            f"The initializer of variable {name} returned {found}, not {_aval(*asked)}.",
            name,
            sites,
            f"{initializer} is called as f(key, shape, dtype) and must return an array of that "
            "shape and dtype.",
        )

    @classmethod
    def inner_trace(cls, name: str, sites: tuple[Site, ...]) -> Self:
        return cls._at(
            f"The initial value of variable {name} was computed inside an inner JAX transform, and "
            "cannot get out of it.",
            name,
            sites,
            "compute it before the transform (jit, checkpoint, scan, vmap, ...), or pass a "
            "function f(key, shape, dtype) that uses no value of the transform.",
        )

    @classmethod
    def stacked(cls, name: str, sites: tuple[Site, ...]) -> Self:
        return cls._at(
            f"The initial value of variable {name} is a traced value, which cannot be that of "
            "every layer or instance of a stack.",
            name,
            sites,
            "pass a function f(key, shape, dtype), or a constant that is not traced.",
        )

    @classmethod
    def leaked(cls, name: str, sites: tuple[Site, ...]) -> Self:
        return cls._at(
            f"The initial value of variable {name} is a tracer that leaked from a finished trace.",
            name,
            sites,
            "compute the value inside this function, or pass a concrete array.",
        )

    @classmethod
    def needs_data(cls, name: str, argument: str, sites: tuple[Site, ...]) -> Self:
        return cls._at(
            f"The initial value of variable {name} is computed from the argument {argument}, which "
            "was given as a jax.ShapeDtypeStruct.",
            name,
            sites,
            "pass a real array for it to init.",
        )

    @classmethod
    def unstable(cls, name: str) -> Self:
        return cls._at(
            f"The function did not make variable {name} again when it was run a second time to "
            "compute initial values.",
            name,
            (),
            "make the function pure: the same calls for the same arguments.",
        )


class InitializerTypeError(InitializerError, TypeError):
    """A shape, dtype or initializer of the wrong type. Facts: ``name``, ``sites``."""

    @classmethod
    def not_callable(cls, subject: str, initializer: object, sites: tuple[Site, ...]) -> Self:
        return cls._at(
            f"The initializer passed is not valid. {subject} got {_brief(initializer)} of type "
            f"{type(initializer).__name__}.",
            subject.removeprefix("Variable "),
            sites,
            "pass a function f(key, shape, dtype), such as jax.nn.initializers.zeros, or a "
            "constant (an array or a number).",
        )

    @classmethod
    def dimension(cls, name: str, dim: object, sites: tuple[Site, ...]) -> Self:
        return cls._at(
            "Dimension value must be integer or None or have an __index__ method, got value "
            f"'{dim}' with type '{type(dim)}'",
            name,
            sites,
            "give a shape of integers, such as [3, 4]; shapes are static in JAX.",
        )

    @classmethod
    def dtype(cls, name: str, dtype: object, sites: tuple[Site, ...]) -> Self:
        return cls._at(
            f"Cannot convert {_brief(dtype)} to a dtype of JAX.",
            name,
            sites,
            "pass a dtype such as jnp.float32, 'bfloat16' or np.int32.",
        )


class ArgumentError(JscopeError, ValueError, TypeError):
    """An argument that cannot be used. Facts: ``argument``, ``value`` (its repr)."""

    argument: str
    value: str

    @classmethod
    def getter(cls, value: object) -> Self:
        return cls(
            f"Passed a custom_getter which is not callable: {_brief(value)}",
            argument="custom_getter",
            value=_brief(value),
        )

    @classmethod
    def collections(cls, value: object) -> Self:
        return cls(
            "collections argument to get_variable must be a list, tuple, or set of strings. "
            f"Got {_brief(value)} of type {type(value).__name__}",
            argument="collections",
            value=_brief(value),
        )

    @classmethod
    def deleted(cls, argument: str, value: str) -> Self:
        return cls(
            f"The {argument}, {value}, was deleted, for example by a call that it was donated to.",
            argument=argument,
            value=value,
        )

    @classmethod
    def cannot_make(cls, initializer: str, wanted: str, found: object) -> Self:
        return cls(
            f"The initializer {initializer} makes {wanted} only, got {found}.",
            argument="initializer",
            value=str(found),
        )

    @classmethod
    def make(cls, argument: str, value: object, wanted: str) -> Self:
        is_array = hasattr(value, "shape") and hasattr(value, "dtype")  # its type says no more
        kind = "" if is_array else f" of type {type(value).__name__}"
        return cls(
            f"The {argument} must be {wanted}, got {_brief(value)}{kind}.",
            argument=argument,
            value=_brief(value),
        )


class StateError(JscopeError, ValueError):
    """State where there is none, or of a variable that has none. Facts: ``name``, ``sites``."""

    name: str
    sites: tuple[Site, ...]

    @classmethod
    def no_state(cls, name: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"Variable {name} is not trainable, and jscope.transform keeps only trainable ones.",
            {
                "asked": f"at {where(sites)}",
                "fix": "use jscope.transform_with_state, which returns (params, state); or make "
                "the variable trainable.",
            },
            name=name,
            sites=sites,
        )

    @classmethod
    def trainable_key(cls, name: str, dtype: object, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"Variable {name} is of {dtype}, and a key cannot be trained.",
            {
                "asked": f"at {where(sites)}",
                "fix": "make it with trainable=False, under jscope.transform_with_state.",
            },
            name=name,
            sites=sites,
        )

    @classmethod
    def nothing_to_assign(cls, name: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"Variable {name} cannot be assigned: jscope.transform keeps no state.",
            {
                "asked": f"at {where(sites)}",
                "fix": "use jscope.transform_with_state, and make the variable with "
                "trainable=False.",
            },
            name=name,
            sites=sites,
        )

    @classmethod
    def trainable(cls, name: str, *, first: tuple[Site, ...], again: tuple[Site, ...]) -> Self:
        return cls._report(
            f"Variable {name} is trainable, so it cannot be assigned.",
            {
                "first": f"at {where(first)}" if first else "in the params given to apply",
                "asked": f"at {where(again)}",
                "fix": "make it with get_variable(name, ..., trainable=False); what an optimizer "
                "trains is changed outside, in params.",
            },
            name=name,
            sites=again,
        )

    @classmethod
    def conflict(cls, name: str, *, first: tuple[Site, ...], again: tuple[Site, ...]) -> Self:
        return cls._report(
            f"Trying to share variable {name} with trainable=False, but it was made trainable.",
            {
                "first": f"at {where(first)}",
                "again": f"at {where(again)}",
                "fix": "give both requests the same trainable.",
            },
            name=name,
            sites=again,
        )

    @classmethod
    def not_a_carry(cls, value: object) -> Self:
        return cls._report(
            f"carry must be what jscope.functionalize gave, or what its function returned, got "
            f"{_brief(value)} of type {type(value).__name__}.",
            {"fix": "pure, carry = functionalize(fn); out, carry = pure(carry, ...)."},
            name="",
            sites=(),
        )


class AssignmentError(StateError, VariableMismatchError):
    """A value was assigned whose shape or dtype is not the variable's.

    Facts: those of VariableMismatchError, and ``sites``.
    """

    @classmethod
    def of(
        cls,
        name: str,
        what: str,
        *,
        asked: Any,
        found: Any,
        aval: tuple[Any, Any],
        first: tuple[Site, ...],
        again: tuple[Site, ...],
    ) -> Self:
        show = _dims if what == "shape" else str
        origin = f"at {where(first)}" if first else "in the state given to apply"
        return cls._report(
            f"Trying to assign to variable {name}, but the value has {what} {show(asked)} and the "
            f"variable has {what} {show(found)}.",
            {
                "first": f"{_aval(*aval)} {origin}",
                "again": f"at {where(again)}",
                "fix": f"assign a value whose {what} is {show(found)}.",
            },
            name=name,
            what=what,
            asked=asked,
            found=found,
            first=first,
            again=again,
            sites=again,
        )


class RngError(JscopeError, ValueError):
    """No key where one is needed, or not a key. Fact: ``rng`` (its description)."""

    @classmethod
    def not_a_key(cls, rng: str) -> Self:
        return cls._report(
            f"rng must be a key, an int seed or None, got {rng}.",
            {"fix": "pass jax.random.key(0), jax.random.PRNGKey(0), an int, or None."},
            rng=rng,
        )

    @classmethod
    def needed(cls, name: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"The initializer of variable {name} draws random numbers, but rng is None.",
            {
                "asked": f"at {where(sites)}",
                "fix": "pass a key to init: net.init(jax.random.key(0), ...).",
            },
            rng="None",
            name=name,
            sites=sites,
        )

    @classmethod
    def no_draws(cls, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            "next_rng_key was called, but rng is None.",
            {
                "asked": f"at {where(sites)}",
                "fix": "pass a key, such as jax.random.key(0), as the rng of init or apply; "
                "jscope.has_rng() tells whether there is one.",
            },
            rng="None",
            sites=sites,
        )


def _instead(transform: str, twin: str | None, *, why: str) -> str:
    if transform == "jax.named_call":
        return "open `with jax.named_scope(name):` instead, which is no function of its own."
    if twin == "vmap" and "state" in why:
        return (
            "use jscope.vmap(variables='split'), where each instance has variables of its own, or "
            "return the values and assign one outside."
        )
    if twin is not None:
        return f"use jscope.{twin}, which takes the same arguments and {why}."
    return (
        "wrap the function, pure, carry = jscope.functionalize(fn), pass the carry through the "
        "transform, and write it back, jscope.put_carry(carry)."
    )


_SHARED = {
    "jscope.vmap(variables='share')": (
        "every instance would assign a value of its own",
        "return the values and assign one outside, or use jscope.vmap(variables='split'), where "
        "each instance has variables of its own.",
    ),
    "jscope.vmap(variables='split')": (
        "it was made outside, and every instance would assign a value of its own",
        "make the variable inside the function, or return the values and assign one outside.",
    ),
    "jscope.map(batch_size=...)": (
        "the elements of a batch run side by side, and each would assign a value of its own",
        "leave batch_size out, or return the values and assign one outside.",
    ),
    "jscope.while_loop(cond_fun)": (
        "the condition of a loop only looks at its state",
        "assign it in body_fun.",
    ),
}


class TransformError(JscopeError, ValueError):
    """A value or a call on the wrong side of a JAX transform."""

    @classmethod
    def draw(cls, transform: str, twin: str | None, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"A random key cannot be drawn inside raw {transform}: every run of the function would "
            "get the same one.",
            {
                "asked": f"at {where(sites)}",
                "fix": _instead(transform, twin, why="gives every run keys of its own"),
            },
            transform=transform,
            sites=sites,
        )

    @classmethod
    def assign(cls, name: str, transform: str, twin: str | None, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"Variable {name} cannot be assigned inside raw {transform}: the value could not get "
            "out of it.",
            {
                "asked": f"at {where(sites)}",
                "fix": _instead(transform, twin, why="carries state"),
            },
            name=name,
            transform=transform,
            sites=sites,
        )

    @classmethod
    def custom_rule(cls, name: str, transform: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"Variable {name} is read inside raw {transform} where a gradient by it is taken: JAX "
            "does not derive by what such a function closes over.",
            {
                "asked": f"at {where(sites)}",
                "fix": "read it outside and pass it as an argument, whose gradient the rule gives.",
            },
            name=name,
            transform=transform,
            sites=sites,
        )

    @classmethod
    def numbered(cls, name: str, transform: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"A scope cannot be numbered from {name!r} inside {transform}: JAX or who "
            "called it may run the function again, which would get variables of its own.",
            {
                "asked": f"at {where(sites)}",
                "fix": "wrap the function by jscope.make_template or jscope.functionalize, or open "
                "a scope in it by name, with reuse=jscope.AUTO_REUSE.",
            },
            name=name,
            transform=transform,
            sites=sites,
        )

    @classmethod
    def skipped(cls, names: Sequence[str]) -> Self:
        what = f"scopes were numbered without {', '.join(names)}" if names else "keys were skipped"
        return cls._report(
            "Names or keys would be other than in the compiled function: JAX ran one branch of a "
            f"cond or switch alone, or a loop not once, so that {what}.",
            {
                "fix": "give scopes names of their own, use jscope.cond and jscope.switch, or run "
                "it compiled: under jax.jit, without jax.disable_jit.",
            },
            names=tuple(names),
        )

    @classmethod
    def put(cls, transform: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"A carry cannot be put back inside {transform}: its state could not get out.",
            {
                "asked": f"at {where(sites)}",
                "fix": "return the carry from the transformed function, and put what the transform "
                "returns.",
            },
            transform=transform,
            sites=sites,
        )

    @classmethod
    def collect(cls, key: str, place: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"Nothing can be added to the collection {key!r} inside {place}: the value could not "
            "get out of it.",
            {
                "asked": f"at {where(sites)}",
                "fix": "return the value and add it outside; jscope.jit, jscope.checkpoint, "
                "jscope.grad and jscope.value_and_grad take it out by themselves.",
            },
            key=key,
            transform=place,
            sites=sites,
        )

    @classmethod
    def leaked_collection(cls, key: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"The collection {key!r} holds a tracer that leaked from a finished trace.",
            {
                "asked": f"at {where(sites)}",
                "fix": "add values where they are computed, not tracers stored elsewhere.",
            },
            key=key,
            sites=sites,
        )

    @classmethod
    def assign_shared(cls, name: str, place: str, sites: tuple[Site, ...]) -> Self:
        reason, fix = _SHARED[place]
        return cls._report(
            f"Variable {name} cannot be assigned inside {place}: {reason}.",
            {"asked": f"at {where(sites)}", "fix": fix},
            name=name,
            transform=place,
            sites=sites,
        )

    @classmethod
    def carry_changed(cls, asked: str, found: str) -> Self:
        return cls._report(
            f"The block of layer_stack was given a carry of {asked} and returned {found}.",
            {
                "fix": "return a carry of the same structure, shapes and dtypes: the next layer "
                "is given it."
            },
            asked=asked,
            found=found,
        )

    @classmethod
    def unplanned(cls, name: str) -> Self:
        return cls._report(
            f"Variable {name} was used when a function was traced again, but not the first time.",
            {"fix": "make the function pure: the same calls for the same arguments."},
            name=name,
        )

    @classmethod
    def other_pass(cls) -> Self:
        return cls(
            "A function of jscope.functionalize was called outside the pass that made it: it "
            "belongs to one run of init, apply or specs."
        )

    @classmethod
    def leaked_assignment(cls, name: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"The value assigned to variable {name} is a tracer that leaked from a finished trace.",
            {
                "asked": f"at {where(sites)}",
                "fix": "return the value from the transformed function instead of storing it.",
            },
            name=name,
            sites=sites,
        )

    @classmethod
    def leaked_carry(cls, name: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"The carry holds a value of variable {name} that leaked from a finished trace.",
            {
                "asked": f"at {where(sites)}",
                "fix": "return the carry from the transformed function, and put what the transform "
                "returns.",
            },
            name=name,
            sites=sites,
        )

    @classmethod
    def leaked_value(cls, index: int, value: str) -> Self:
        return cls._report(
            f"values[{index}] is a tracer that leaked from a finished trace.",
            {
                "value": value,
                "fix": "return the value from the transformed function instead of storing it.",
            },
            index=index,
        )

    @classmethod
    def leaked_param(cls, name: str, sites: tuple[Site, ...]) -> Self:
        return cls._report(
            f"The value of variable {name} in the params given to apply is a tracer that leaked "
            "from a finished trace.",
            {
                "asked": f"at {where(sites)}",
                "fix": "return params from the transformed function instead of storing them.",
            },
            name=name,
            sites=sites,
        )


_MATCHING = {
    "path": "a path is matched from the root, by whole components",
    "glob": "a glob is matched with the whole name, and * stays within one component",
    "regex": "a regular expression is searched in the full name",
    "function": "a function is called with (name, leaf) and selects where it returns True",
    "list": "a list selects what any of its patterns does, and this one is empty",
}


class EmptySelectionError(JscopeError, ValueError):
    """A pattern that selects nothing. Facts: ``pattern``, ``near``."""

    pattern: str
    near: tuple[str, ...]

    @classmethod
    def nothing(
        cls,
        pattern: str,
        shown: str,
        kind: str,
        *,
        names: Sequence[str],
        scopes: Sequence[str],
        instead: tuple[str, Sequence[str]] | None,
    ) -> Self:
        """With ``instead``, a glob that was perhaps meant and the names that it selects."""
        near: tuple[str, ...] = ()
        fix = _MATCHING[kind]
        if instead is not None:
            near = tuple(instead[1][:3])
            fix += f": {instead[0]!r} selects these"
        elif kind in ("path", "glob"):
            near = tuple(_near(pattern, [*scopes, *names]))
        number = f"{len(names)} name" + ("s" if len(names) != 1 else "")
        return cls._report(
            f"The pattern {shown} selects nothing among the tree's {number}."
            if names
            else f"The pattern {shown} selects nothing: the tree is empty.",
            {
                "near": _quote(near),
                "names": None if near else _some(names),
                "fix": f"{fix}. Pass allow_empty=True to allow an empty result.",
            },
            pattern=pattern,
            near=near,
        )

    @classmethod
    def unfit(cls, getter: str, given: Sequence[str] | str, asked: Sequence[str]) -> Self:
        """Of a custom getter, by what it was given: a pattern, or names."""
        some = given if isinstance(given, str) else _some(given)
        near = () if isinstance(given, str) else tuple(_near(asked[0], given))
        fix = "patterns are matched with" if isinstance(given, str) else "values are found by"
        return cls._report(
            f"jscope.getters.{getter} fits none of the variables that this pass asked it for.",
            {
                "asked": _some(asked),
                "given": some,
                "near": _quote(near),
                "fix": f"{fix} full names, those of jscope.tree.flatten(params). Pass "
                "allow_empty=True to allow this.",
            },
            pattern=some,
            near=near,
        )

    @classmethod
    def taken(cls, pattern: str, shown: str, names: Sequence[str]) -> Self:
        return cls._report(
            f"The pattern {shown} selects nothing that the patterns before it leave.",
            {
                "taken": _some(names),
                "fix": "the first pattern that matches takes a name: put the narrower pattern "
                "first. Pass allow_empty=True to allow an empty result.",
            },
            pattern=pattern,
            near=tuple(names[:3]),
        )

    @classmethod
    def scope(cls, scope: str, known: Iterable[str]) -> Self:
        near = tuple(_near(scope, known))
        return cls._report(
            f"There are no variables in the scope {scope!r}.",
            {"near": _quote(near), "fix": "give the full name of a scope, such as 'net/blocks'."},
            pattern=scope,
            near=near,
        )

    @classmethod
    def layers(cls, scope: str, name: str) -> Self:
        place = f"in the scope {scope!r}" if scope else "in the tree"
        return cls._report(
            f"There are no layers {name}_0, {name}_1, ... {place}.",
            {"fix": "give the name that the scopes of the layers share, name='layer'."},
            pattern=f"{name}_*",
            near=(),
        )


class CheckError(JscopeError, ValueError):
    """Params that do not fit.

    Facts: ``missing`` and ``unexpected`` (names), ``mismatched`` (name -> (wanted, found)).
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: Mapping[str, tuple[str, str]]

    @classmethod
    def make(
        cls,
        missing: Sequence[str],
        unexpected: Sequence[str],
        mismatched: Mapping[str, tuple[str, str]],
    ) -> Self:
        lines = [f"  missing:    {name}" for name in missing]
        for name in unexpected:
            near = _near(name, missing)
            lines.append(f"  unexpected: {name}" + (f" (near {_quote(near)})" if near else ""))
        for name, (wanted, found) in mismatched.items():
            lines.append(f"  mismatched: {name} is {found}, should be {wanted}")
        first = (
            f"The params do not fit the specs: {len(missing)} missing, {len(unexpected)} "
            f"unexpected, {len(mismatched)} mismatched."
        )
        return cls(
            "\n".join([first, *lines]),
            missing=tuple(missing),
            unexpected=tuple(unexpected),
            mismatched=dict(mismatched),
        )

    @classmethod
    def not_a_mapping(cls, what: str, value: object, *, has_state: bool = False) -> Self:
        if what == "state" and has_state:
            fix = "call apply(params, state, rng, ...) with the state that init returned."
        elif not isinstance(value, tuple):
            fix = "pass what init returned, or any nested mapping of names to arrays."
        elif has_state:
            fix = "pass the pair that init returned as two arguments, apply(params, state, ...)."
        else:
            fix = (
                "a pair (params, state) goes to a network of jscope.transform_with_state; this one "
                "takes params alone."
            )
        return cls._report(
            f"{what} must be a nested mapping of names to arrays, got {type(value).__name__}.",
            {"fix": fix},
            missing=(),
            unexpected=(),
            mismatched={},
        )

    @classmethod
    def not_an_array(cls, name: str, value: object, tree: str) -> Self:
        found = type(value).__name__
        return cls._report(
            f"The value of {name!r} in the {tree} given to apply is not an array but {found}.",
            {"fix": "pass arrays: jax.Array, NumPy or Python numbers."},
            missing=(),
            unexpected=(),
            mismatched={name: ("an array", found)},
        )

    @classmethod
    def not_a_tree(cls, value: object) -> Self:
        return cls._report(
            f"The tree must be a nested mapping of names to arrays, got {type(value).__name__}.",
            {
                "fix": "pass params, state, gradients or specs, or such a mapping inside it, as "
                "opt_state[0].mu; mask, labels, map_with_name, count and nbytes take any pytree."
            },
            missing=(),
            unexpected=(),
            mismatched={},
        )

    @classmethod
    def no_size(cls, name: str, value: object) -> Self:
        found = type(value).__name__
        return cls._report(
            f"The value of {name!r} has no size: it is not an array but {found}.",
            {"fix": "give a tree of arrays, numbers or specs."},
            missing=(),
            unexpected=(),
            mismatched={name: ("an array", found)},
        )

    @classmethod
    def two_labels(cls, name: str, first: tuple[str, object], again: tuple[str, object]) -> Self:
        return cls._report(
            f"Two patterns give {name} different labels.",
            {
                "first": f"{first[0]} gives {_brief(first[1])}",
                "again": f"{again[0]} gives {_brief(again[1])}",
                "fix": "narrow one of the patterns, so that no name has two labels.",
            },
            missing=(),
            unexpected=(name,),
            mismatched={},
        )

    @classmethod
    def no_label(cls, names: Sequence[str]) -> Self:
        return cls._report(
            f"No pattern gives {names[0]} a label"
            + (f", nor {len(names) - 1} more." if len(names) > 1 else "."),
            {
                "names": _some(names) if len(names) > 1 else None,
                "fix": "add a pattern that selects what is left, or pass default=.",
            },
            missing=tuple(names),
            unexpected=(),
            mismatched={},
        )

    @classmethod
    def layers(cls, first: str, fix: str) -> Self:
        return cls._report(first, {"fix": fix}, missing=(), unexpected=(), mismatched={})

    @classmethod
    def constraint(cls, name: str, value: object, found: object) -> Self:
        return cls._report(
            f"The constraint of variable {name} returned {_brief(found)} for {_brief(value)}.",
            {"fix": "a constraint returns a value of the same shape and dtype."},
            missing=(),
            unexpected=(),
            mismatched={name: (_brief(value), _brief(found))},
        )

    @classmethod
    def bad_key(cls, key: object) -> Self:
        return cls._report(
            f"{key!r} is not a key of params: keys are strings, one per scope, never empty.",
            {"fix": "nest names with slashes, {'a/w': x}, by jscope.tree.unflatten(mapping)."},
            missing=(),
            unexpected=(repr(key),),
            mismatched={},
        )


class EagerRecompileWarning(UserWarning):
    """An eager apply recompiles its inner transforms on every call; jit the outer call."""

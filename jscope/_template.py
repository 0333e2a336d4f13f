"""make_template: a function that makes its variables once and shares them afterwards."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar, overload

from jscope import _calls, _pass
from jscope._arguments import bad_argument
from jscope._names import check_name, not_text
from jscope._params import PyTree
from jscope._report import where
from jscope._scope import VariableScope, variable_scope
from jscope._settings import CustomGetter, check_getter
from jscope._spec import Args, Kwargs
from jscope.errors import NameTypeError

P = ParamSpec("P")
R = TypeVar("R")


class _Progress:
    """What one pass knows of a template."""

    __slots__ = ("called", "scope")

    def __init__(self, scope: VariableScope | None) -> None:
        self.scope = scope
        self.called = False


class Template(Generic[P, R]):
    """A function with variables of its own, see ``make_template``."""

    __slots__ = ("__weakref__", "_function", "_getter", "_name", "_scope", "_sites", "_unique_name")

    def __init__(
        self,
        name: str,
        function: Callable[P, R],
        create_scope_now: bool,
        unique_name: str | None,
        getter: CustomGetter | None,
    ) -> None:
        self._name = name
        self._function = function
        self._unique_name = unique_name
        self._getter = getter
        self._sites = _calls.here()
        self._scope: VariableScope | None = None
        if create_scope_now:
            with self._open_new() as scope:
                self._scope = scope

    def _open_new(self) -> variable_scope:
        opened = variable_scope(self._unique_name, self._name, custom_getter=self._getter)
        return opened.numbered_once()

    @property
    def name(self) -> str:
        """The name that the template was given."""
        return self._name

    @property
    def variable_scope(self) -> VariableScope | None:
        """The scope of its variables; None before the first call of the running pass."""
        running = _pass.find()
        if running is not None and running.recorder is not None:
            running.recorder.refuse("it looks at the scope of a template")
        progress = running.templates.get(self) if running else None
        return progress.scope if progress else self._scope

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function in the template's scope."""
        running = _pass.current("a template")
        if running.recorder is not None:
            running.recorder.refuse("it calls a template")
        progress = running.templates.setdefault(self, _Progress(self._scope))
        try:
            if progress.called:
                return self._call_again(running, progress, args, kwargs)
            return self._call_first(running, progress, args, kwargs)
        except Exception as error:
            note = f"originally defined at:\n{where(self._sites)} (template {self._name!r})"
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise

    def _call_first(
        self, running: _pass.Pass, progress: _Progress, args: Args, kwargs: Kwargs
    ) -> R:
        count = len(running.records)
        called = {other for other, state in running.templates.items() if state.called}
        opened = self._open_new() if progress.scope is None else variable_scope(progress.scope)
        try:
            with opened as scope:
                progress.scope = progress.scope or scope
                progress.called = True
                return self._function(*args, **kwargs)
        except BaseException:
            for other, state in running.templates.items():
                state.called = other in called
            running.records.forget(count)
            raise

    def _call_again(
        self, running: _pass.Pass, progress: _Progress, args: Args, kwargs: Kwargs
    ) -> R:
        assert progress.scope is not None
        with variable_scope(progress.scope, reuse=True):
            running.frozen += 1
            try:
                return self._function(*args, **kwargs)
            finally:
                running.frozen -= 1

    def __repr__(self) -> str:
        return f"Template({self._name!r})"


@overload
def make_template(
    name_: str,
    func_: Callable[P, R],
    create_scope_now_: bool = False,
    unique_name_: str | None = None,
    custom_getter_: CustomGetter | None = None,
) -> Template[P, R]: ...
@overload
def make_template(
    name_: str,
    func_: Callable[..., R],
    create_scope_now_: bool = False,
    unique_name_: str | None = None,
    custom_getter_: CustomGetter | None = None,
    **kwargs: PyTree,
) -> Template[..., R]: ...
def make_template(
    name_: str,
    func_: Callable[..., R],
    create_scope_now_: bool = False,
    unique_name_: str | None = None,
    custom_getter_: CustomGetter | None = None,
    **kwargs: PyTree,
) -> Template[..., R]:
    """Wraps a function so that its first call in a pass makes variables and later calls share them.

    As in TF1, with one difference: a first call that failed can be tried again.

    Args:
      name_: Name of the scope, numbered like a ``default_name``: "tower", then "tower_1".
      func_: The function.
      create_scope_now_: Fix the scope here, inside a pass, rather than at the first call.
      unique_name_: Name of the scope, not numbered.
      custom_getter_: Getter around every request in the function.
      **kwargs: Passed to ``func_`` at every call; a call's own arguments win.

    Returns:
      A callable with the attributes ``name`` and ``variable_scope``. Exceptions of the function
      carry a note that says where the template was made.

    Raises:
      NameTypeError: (ValueError, TypeError) ``name_`` is None or no string.
      InvalidNameError: (ValueError) a name is not valid.
      ArgumentError: (ValueError, TypeError) ``func_`` or ``custom_getter_`` is not callable.
      NoPassError: (RuntimeError) ``create_scope_now_`` outside a pass.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def scale(x):
      ...     return x * js.get_variable("w", [2])
      >>> def fn(x):
      ...     tower = js.make_template("tower", scale)
      ...     return tower(x) + tower(x)
      >>> js.transform(fn).init(0, jnp.ones([2]))
      Params({'tower': {'w': float32[2]}})
    """
    if name_ is None:
        raise _no_name()
    for argument, name in (("name_", name_), ("unique_name_", unique_name_)):
        if name is not None:
            if not isinstance(name, str):
                raise not_text(argument, name)
            check_name(name, "scope")
    if not callable(func_):
        raise bad_argument("func_", func_, "a function")
    function = functools.partial(func_, **kwargs) if kwargs else func_
    return Template(name_, function, create_scope_now_, unique_name_, check_getter(custom_getter_))


def _no_name() -> NameTypeError:
    return NameTypeError("name cannot be None.", name="None", kind="template")

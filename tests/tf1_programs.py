"""Small programs of variable scopes, written so that TensorFlow 1 and jscope can both run them.

Each takes a ``Namespace``: the calls of ``tf.compat.v1`` on one side (``data/record_tf1.py``), those
of jscope on the other (``test_tf1_parity.py``). What it did is a list of lines: one for every request
of a variable (``got 0`` is the first variable seen, ``got 0`` again the same object), every ``note``
and every refusal, then one for every variable made, in order of creation.

``SAME`` holds the programs that do the same in both. ``CHANGED`` holds those where jscope differs on
purpose, each with why and with what jscope does instead, and ``CHANGED_IN_APPLY`` those that differ in
apply only.
"""

# ruff: noqa: SIM117 - nesting is what these programs are about

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np


class Tagged:
    """A regularizer or a constraint that the results can name."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.names: list[str] = []

    def __call__(self, value: Any) -> None:
        self.names.append(value.op.name)  # only a graph of TensorFlow calls it


class Namespace:
    """What a program sees: the calls of one library, and a log of what they did.

    Attributes:
      lines: For each event the spellings that describe it; an error has one per class of it.
      tagged: The regularizers that the program made.
    """

    def __init__(self, calls: Any) -> None:
        self._calls = calls
        self._values: list[Any] = []
        self.lines: list[list[str]] = []
        self.tagged: list[Tagged] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    def get_variable(self, *args: Any, **kwargs: Any) -> Any:
        value = self._calls.get_variable(*args, **kwargs)
        known = [index for index, other in enumerate(self._values) if other is value]
        self._values += [] if known else [value]
        number = known[0] if known else len(self._values) - 1
        self.lines.append([f"got {number}"])
        return value

    def note(self, *facts: Any) -> None:
        """Logs names, modes, dtypes, booleans."""
        shown = [str(getattr(fact, "name", fact)) for fact in facts]
        self.lines.append([f"note {' '.join(shown)}"])

    def regularizer(self, tag: str) -> Tagged:
        self.tagged.append(Tagged(tag))
        return self.tagged[-1]

    def constraint(self, tag: str) -> Tagged:
        return Tagged(tag)

    @contextlib.contextmanager
    def refused(self) -> Iterator[None]:
        """Logs the error that the block raises, and that it raises one."""
        try:
            yield
        except Exception as error:
            text = str(error).partition("\n")[0].partition(" Originally defined at:")[0]
            classes = type(error).__mro__
            self.lines.append([f"error {cls.__name__}: {text.strip()}" for cls in classes])
        else:
            self.lines.append(["no error"])


def describe(
    name: str,
    dtype: str,
    shape: Sequence[int],
    *,
    trainable: bool,
    values: tuple[Any, Any],
    regularizer: str | None = None,
    constraint: str | None = None,
) -> str:
    """The line of one variable; ``values`` are its initial values from two seeds."""
    first, second = [np.asarray(value).reshape(-1).tolist() for value in values]
    if first != second:
        initial = "random"
    elif len(set(first)) == 1:
        initial = f"all {first[0]}"
    else:
        initial = str(first)
    line = f"made {name} {dtype}[{','.join(map(str, shape))}] {initial}"
    line += "" if trainable else ", not trainable"
    line += f", regularizer {regularizer}" if regularizer else ""
    return line + (f", constraint {constraint}" if constraint else "")


Program = Callable[[Any], None]


class Changed(NamedTuple):
    """A program that jscope runs otherwise, why, and the lines that jscope gives instead."""

    program: Program
    why: str
    instead: list[str]


SAME: dict[str, Program] = {}
CHANGED: dict[str, Changed] = {}
CHANGED_IN_APPLY: dict[str, Changed] = {}


def same(program: Program) -> Program:
    """Registers a program that does the same in jscope, in init and in apply."""
    SAME[program.__name__] = program
    return program


def changed(why: str, *instead: str) -> Callable[[Program], Program]:
    """Registers a program that does ``instead`` in jscope, in init and in apply."""

    def register(program: Program) -> Program:
        CHANGED[program.__name__] = Changed(program, why, list(instead))
        return program

    return register


def same_in_init(why: str, *instead: str) -> Callable[[Program], Program]:
    """Registers a program that does the same in init, and ``instead`` in apply."""

    def register(program: Program) -> Program:
        CHANGED_IN_APPLY[program.__name__] = Changed(program, why, list(instead))
        return program

    return register


# Names


@same
def nested_scopes_join_their_names(v1: Any) -> None:
    v1.get_variable("v", [1])
    with v1.variable_scope("a") as a:
        v1.get_variable("v", [1])
        with v1.variable_scope("b") as b:
            v1.get_variable("v", [1])
        v1.get_variable("w", [1])
    v1.note(a.name, b.name)


@same
def opening_a_scope_twice_does_not_rename_it(v1: Any) -> None:
    with v1.variable_scope("a") as first:
        v1.get_variable("v", [1])
    with v1.variable_scope("a") as second:
        v1.get_variable("w", [1])
        with v1.refused():
            v1.get_variable("v", [1])
    v1.note(first.name, second.name, first is second)


@same
def a_second_request_is_refused(v1: Any) -> None:
    with v1.variable_scope("a"):
        v1.get_variable("v", [1])
        for shape in ([1], [2]):
            with v1.refused():
                v1.get_variable("v", shape)
        v1.get_variable("w", [1])


@same
def slashes_are_nested_scopes(v1: Any) -> None:
    with v1.variable_scope("a/b") as scope:
        v1.get_variable("v", [1])
        v1.get_variable("c/v", [1])
    v1.note(scope.name)
    with v1.variable_scope("a"), v1.variable_scope("b", reuse=True):
        v1.get_variable("v", [1])
    with v1.variable_scope("a", reuse=True):
        v1.get_variable("b/v", [1])
    with v1.refused():
        v1.get_variable("a/b/c/v", [1])


@same
def a_joined_name_does_not_count_as_opening_its_first_part(v1: Any) -> None:
    with v1.variable_scope("a/b"):
        v1.get_variable("v", [1])
    for _ in range(2):
        with v1.variable_scope(None, "a") as scope:
            v1.note(scope.name)


@same
def a_scope_in_itself_is_another_scope(v1: Any) -> None:
    with v1.variable_scope("a"), v1.variable_scope("a") as inner:
        v1.get_variable("v", [1])
    v1.note(inner.name)


@same
def the_empty_name_is_the_root(v1: Any) -> None:
    with v1.variable_scope("") as scope:
        v1.get_variable("v", [1])
        with v1.variable_scope("a"):
            v1.get_variable("v", [1])
    v1.note(repr(scope.name), scope.reuse)


@same
def names_may_hold_some_punctuation(v1: Any) -> None:
    with v1.variable_scope("a.b-c>d"):
        v1.get_variable("v.1", [1])
        v1.get_variable("_v", [1])
        with v1.variable_scope("_a"):
            v1.get_variable("-v", [1])


@same
def a_scope_needs_a_name(v1: Any) -> None:
    with v1.refused(), v1.variable_scope(None):
        pass
    for name in (3, b"a", 1.5):
        with v1.refused(), v1.variable_scope(name):
            pass


@same
def a_name_wins_over_the_default_name(v1: Any) -> None:
    with v1.variable_scope("n", "d") as scope:
        v1.note(scope.name)
    with v1.variable_scope(scope, "d") as scope:
        v1.note(scope.name)
    with v1.variable_scope(None, "d") as scope:
        v1.note(scope.name)


@same
def the_open_scope_can_be_asked_for(v1: Any) -> None:
    root = v1.get_variable_scope()
    v1.note(repr(root.name), root.reuse, root.dtype, root.initializer, root.regularizer)
    v1.note(root.custom_getter, root.constraint, root.partitioner)
    with v1.variable_scope("a") as a:
        v1.note(v1.get_variable_scope() is a)
        with v1.variable_scope("b") as b:
            v1.note(v1.get_variable_scope() is b, v1.get_variable_scope().name)
        v1.note(v1.get_variable_scope() is a)
    v1.note(v1.get_variable_scope() is root)


@same
def a_scope_is_left_when_its_block_fails(v1: Any) -> None:
    with v1.refused(), v1.variable_scope("a", reuse=v1.AUTO_REUSE), v1.variable_scope("b"):
        v1.get_variable("v", [1])
        raise KeyError("mine")
    scope = v1.get_variable_scope()
    v1.note(repr(scope.name), scope.reuse)
    v1.get_variable("v", [1])
    with v1.variable_scope("a/b"), v1.refused():
        v1.get_variable("v", [1])


@same
def scopes_close_in_the_reverse_order(v1: Any) -> None:
    outer, inner = v1.variable_scope("a"), v1.variable_scope("b")
    outer.__enter__()
    inner.__enter__()
    with v1.refused():
        outer.__exit__(None, None, None)
    v1.note(v1.get_variable_scope().name)
    inner.__exit__(None, None, None)
    v1.note(v1.get_variable_scope().name)
    outer.__exit__(None, None, None)
    v1.note(repr(v1.get_variable_scope().name))


@changed(
    "the empty name is the root, and only there",
    "error InvalidNameError: '' is not a valid scope name: variable_scope('') is the root scope and "
    "can be opened at the root only.",
)
def an_empty_name_in_a_scope(v1: Any) -> None:
    with v1.variable_scope("o"), v1.refused(), v1.variable_scope("") as scope:
        v1.note(repr(scope.name))
        v1.get_variable("v", [1])


@changed(
    "no component is empty",
    "error InvalidNameError: 'a/' is not a valid scope name: it has an empty component.",
    "error InvalidNameError: 'v/' is not a valid variable name: it has an empty component.",
    "error InvalidNameError: '/v' is not a valid variable name: it has an empty component.",
    "error InvalidNameError: '' is not a valid variable name: it has an empty component.",
)
def empty_components(v1: Any) -> None:
    with v1.refused(), v1.variable_scope("a/"):
        v1.get_variable("v", [1])
    with v1.variable_scope("o"):
        for name in ("v/", "/v", ""):
            with v1.refused():
                v1.get_variable(name, [1])


@changed(
    "one rule at the root and below; another text",
    "error InvalidNameError: 'a b' is not a valid scope name: each component between slashes has to "
    "match [A-Za-z0-9_.\\\\>-]+.",
    "error InvalidNameError: 'a+b' is not a valid scope name: each component between slashes has to "
    "match [A-Za-z0-9_.\\\\>-]+.",
    "error InvalidNameError: 'é' is not a valid scope name: each component between slashes has to "
    "match [A-Za-z0-9_.\\\\>-]+.",
    "error InvalidNameError: 'a:0' is not a valid variable name: each component between slashes has "
    "to match [A-Za-z0-9_.\\\\>-]+.",
    "error InvalidNameError: 'a b' is not a valid scope name: each component between slashes has to "
    "match [A-Za-z0-9_.\\\\>-]+.",
)
def letters_that_no_name_may_hold(v1: Any) -> None:
    for name in ("a b", "a+b", "é"):
        with v1.refused(), v1.variable_scope(name):
            pass
    with v1.refused():
        v1.get_variable("a:0", [1])
    with v1.variable_scope("o"), v1.refused(), v1.variable_scope("a b"):
        pass


@changed(
    "an underscore may begin a name at the root too",
    "got 0",
    "no error",
    "got 1",
    "no error",
    "made _a/v float32[1] random",
    "made _v float32[1] random",
)
def an_underscore_at_the_root(v1: Any) -> None:
    with v1.refused(), v1.variable_scope("_a"):
        v1.get_variable("v", [1])
    with v1.refused():
        v1.get_variable("_v", [1])


@changed(
    "params are a nested mapping",
    "got 0",
    "error NameClashError: Variable a/b cannot be made: a would be a variable and also the scope of "
    "a/b.",
    "got 1",
    "error NameClashError: Variable c cannot be made: c would be a variable and also the scope of "
    "c/v.",
    "made a float32[1] random",
    "made c/v float32[1] random",
)
def a_variable_and_a_scope_of_one_name(v1: Any) -> None:
    v1.get_variable("a", [1])
    with v1.variable_scope("a"), v1.refused():
        v1.get_variable("b", [1])
    with v1.variable_scope("c"):
        v1.get_variable("v", [1])
    with v1.refused():
        v1.get_variable("c", [1])


@changed(
    "and so a default name cannot be a variable's either",
    "got 0",
    "note d",
    "error NameClashError: Variable d/v cannot be made: d would be a variable and also the scope of "
    "d/v.",
    "made d float32[1] random",
)
def a_default_name_that_a_variable_has(v1: Any) -> None:
    v1.get_variable("d", [1])
    with v1.variable_scope(None, "d") as scope:
        v1.note(scope.name)
        with v1.refused():
            v1.get_variable("v", [1])


@changed(
    "the text says what is wrong",
    "error NameTypeError: The name of a variable must be a string, got 3 of type int.",
    "error NameTypeError: The name of a variable must be a string, got None of type NoneType.",
)
def a_name_that_is_no_text(v1: Any) -> None:
    with v1.refused():
        v1.get_variable(3, [1])
    with v1.variable_scope("a"), v1.refused():
        v1.get_variable(None, [1])


@changed(
    "a context manager is entered once",
    "note a",
    "error NestingError: Improper nesting of variable_scope: a variable_scope object can be entered "
    "only once.",
    "note d",
    "error NestingError: Improper nesting of variable_scope: a variable_scope object can be entered "
    "only once.",
    "note d_1",
)
def one_context_manager_entered_twice(v1: Any) -> None:
    for opened in (v1.variable_scope("a"), v1.variable_scope(None, "d")):
        with opened as scope:
            v1.note(scope.name)
        with v1.refused(), opened as scope:
            v1.note(scope.name)
    with v1.variable_scope(None, "d") as scope:
        v1.note(scope.name)


@changed(
    "a scope is a decorator too",
    "got 0",
    "no error",
    "made a/v float32[1] random",
)
def a_scope_as_a_decorator(v1: Any) -> None:
    with v1.refused():
        v1.variable_scope("a")(v1.get_variable)("v", [1])


@changed(
    "the error says what is wrong",
    "error RuntimeError: Improper nesting of variable_scope.",
)
def leaving_a_scope_that_was_not_entered(v1: Any) -> None:
    with v1.refused():
        v1.variable_scope("a").__exit__(None, None, None)


# Reuse


@same
def reuse_is_one_of_four_values(v1: Any) -> None:
    for reuse in (1, "x", 0.0, np.True_):
        with v1.refused(), v1.variable_scope("a", reuse=reuse):
            pass


@same
def a_named_scope_inherits_reuse(v1: Any) -> None:
    modes = (None, False, True, v1.AUTO_REUSE)
    for outer in modes:
        for inner in modes:
            with v1.variable_scope("a", reuse=outer), v1.variable_scope("b", reuse=inner) as scope:
                v1.note(outer, inner, "gives", scope.reuse)


@same
def a_scope_object_keeps_its_own_reuse(v1: Any) -> None:
    modes = (False, True, v1.AUTO_REUSE)
    scopes = {}
    for mode in modes:
        with v1.variable_scope("a", reuse=mode) as scope:
            scopes[mode] = scope
    for own in modes:
        for around in modes:
            for asked in (None, *modes):
                with v1.variable_scope("b", reuse=around):
                    with v1.variable_scope(scopes[own], reuse=asked) as scope:
                        v1.note(own, around, asked, "gives", scope.reuse)


@same
def reuse_refuses_what_was_never_made(v1: Any) -> None:
    with v1.variable_scope("never", reuse=True):
        pass
    with v1.variable_scope("a", reuse=True):
        with v1.refused():
            v1.get_variable("v", [1])
        with v1.refused():
            v1.get_variable("v")
    v1.get_variable("v", [1])
    with v1.variable_scope("", reuse=True):
        v1.get_variable("v", [1])
        with v1.refused():
            v1.get_variable("w", [1])


@same
def auto_reuse_makes_and_then_shares(v1: Any) -> None:
    for _ in range(2):
        with v1.variable_scope("a", reuse=v1.AUTO_REUSE):
            v1.get_variable("v", [1])
            v1.get_variable("v", [1])
            with v1.variable_scope("b"):
                v1.get_variable("v", [1])
    with v1.variable_scope("a"), v1.refused():
        v1.get_variable("v", [1])


@same
def auto_reuse_checks_shape_and_dtype(v1: Any) -> None:
    with v1.variable_scope("a", reuse=v1.AUTO_REUSE):
        v1.get_variable("v", [1, 2])
        with v1.refused():
            v1.get_variable("v", [2, 1])
        with v1.refused():
            v1.get_variable("v", [1, 2], "int32")
        with v1.refused():
            v1.get_variable("v", [2], "int32")


@same
def auto_reuse_inside_reuse_makes_variables(v1: Any) -> None:
    with v1.variable_scope("a", reuse=True), v1.variable_scope("c", reuse=v1.AUTO_REUSE):
        v1.get_variable("new", [1])
        with v1.variable_scope("d", reuse=True), v1.refused():
            v1.get_variable("never", [1])
        with v1.variable_scope("d", reuse=False):
            v1.get_variable("new", [1])


@same
def reuse_false_does_not_leave_reuse(v1: Any) -> None:
    with v1.variable_scope("a"):
        v1.get_variable("v", [1])
        v1.get_variable("b/v", [1])
    with v1.variable_scope("a", reuse=True), v1.variable_scope("b", reuse=False) as scope:
        v1.note(scope.reuse)
        v1.get_variable("v", [1])
        with v1.refused():
            v1.get_variable("w", [1])


@same
def reuse_variables_turns_reuse_on_for_the_rest_of_the_scope(v1: Any) -> None:
    with v1.variable_scope("a") as a:
        v1.get_variable("v", [1])
        v1.get_variable("b/v", [1])
        a.reuse_variables()
        v1.get_variable("v", [1])
        with v1.variable_scope("b") as b:
            v1.note(b.reuse)
            v1.get_variable("v", [1])
        with v1.refused():
            v1.get_variable("never", [1])
    v1.note(a.reuse, v1.get_variable_scope().reuse)
    with v1.variable_scope("a") as by_name:
        v1.note(by_name.reuse)
        v1.get_variable("w", [1])
    with v1.variable_scope(a) as by_object:
        v1.note(by_object.reuse)
        v1.get_variable("v", [1])


@same
def reuse_variables_does_not_reach_children_that_are_open(v1: Any) -> None:
    with v1.variable_scope("a") as a, v1.variable_scope("b") as b:
        a.reuse_variables()
        v1.note(a.reuse, b.reuse)
        v1.get_variable("v", [1])
        with v1.variable_scope("c") as c:
            v1.note(c.reuse)


@same
def reuse_variables_of_the_root_holds_for_everything_after(v1: Any) -> None:
    v1.get_variable("v", [1])
    v1.get_variable("a/v", [1])
    v1.get_variable_scope().reuse_variables()
    v1.get_variable("v", [1])
    with v1.variable_scope("a", reuse=False):
        v1.get_variable("v", [1])
    with v1.refused():
        v1.get_variable("w", [1])


@same
def a_tower_used_twice(v1: Any) -> None:
    def tower(reuse: bool = False) -> None:
        with v1.variable_scope("tower") as scope:
            if reuse:
                scope.reuse_variables()
            for name in ("conv", "out"):
                with v1.variable_scope(name):
                    v1.get_variable("w", [2, 3])
                    v1.get_variable("b", [3], initializer=v1.zeros_initializer())

    tower()
    tower(reuse=True)
    with v1.refused():
        tower()


@same
def a_scope_that_shares_with_itself(v1: Any) -> None:
    with v1.variable_scope("a") as a:
        v1.get_variable("v", [1])
        with v1.variable_scope(a, reuse=True):
            v1.get_variable("v", [1])
        with v1.variable_scope(v1.get_variable_scope(), reuse=True) as again:
            v1.note(again.name)
            v1.get_variable("v", [1])
        v1.get_variable("w", [1])


@same
def reuse_needs_a_name(v1: Any) -> None:
    for reuse in (True, v1.AUTO_REUSE):
        with v1.refused(), v1.variable_scope(None, "d", reuse=reuse):
            pass
    with v1.variable_scope(None, "d", reuse=False) as scope:
        v1.note(scope.name, scope.reuse)


@same
def default_names_inside_reuse_find_the_same_variables(v1: Any) -> None:
    def layer() -> None:
        with v1.variable_scope(None, "layer"):
            v1.get_variable("v", [1])

    with v1.variable_scope("net"):
        layer()
        layer()
    for reuse in (True, v1.AUTO_REUSE):
        with v1.variable_scope("net", reuse=reuse):
            layer()
            layer()
    with v1.variable_scope("net", reuse=True):
        layer()
        layer()
        with v1.refused():
            layer()


@same
def reuse_is_a_property_that_cannot_be_set(v1: Any) -> None:
    with v1.variable_scope("a") as scope, v1.refused():
        scope.reuse = True


@same
def get_variable_has_no_reuse(v1: Any) -> None:
    with v1.refused():
        v1.get_variable("v", [1], reuse=True)


@same
def the_first_request_decides(v1: Any) -> None:
    with v1.variable_scope("a", reuse=v1.AUTO_REUSE):
        v1.get_variable(
            "v", [2], initializer=v1.constant_initializer(3.0), regularizer=v1.regularizer("first")
        )
        v1.get_variable(
            "v",
            [2],
            initializer=v1.zeros_initializer(),
            regularizer=v1.regularizer("second"),
            collections=["other"],
        )
        v1.get_variable("s", [], initializer=v1.zeros_initializer(), trainable=False)
        v1.get_variable("s", [], trainable=True)


@same
def sharing_needs_no_shape(v1: Any) -> None:
    v1.get_variable("v", [2, 3])
    v1.get_variable("s", [])
    with v1.variable_scope("", reuse=True):
        v1.get_variable("v")
        v1.get_variable("s")
        v1.get_variable("v", [None, 3])
        v1.get_variable("v", [None, None])
        with v1.refused():
            v1.get_variable("v", [None, 4])
        with v1.refused():
            v1.get_variable("v", [None])
        with v1.refused():
            v1.get_variable("v", [])
        with v1.refused():
            v1.get_variable("s", [1])


@same
def shape_is_checked_before_dtype(v1: Any) -> None:
    v1.get_variable("v", [2], "float16")
    with v1.variable_scope("", reuse=True):
        with v1.refused():
            v1.get_variable("v", [3], "int32")
        with v1.refused():
            v1.get_variable("v", [2], "int32")
        with v1.refused():
            v1.get_variable("v", dtype="float32")
        v1.get_variable("v", dtype="float16")


@same_in_init(
    "in apply reuse=True finds the names of the params too",
    "got 0",
    "no error",
    "got 0",
    "got 0",
)
def sharing_before_making_is_refused(v1: Any) -> None:
    with v1.variable_scope("a", reuse=True), v1.refused():
        v1.get_variable("v", [1])
    with v1.variable_scope("a"):
        v1.get_variable("v", [1])
    with v1.variable_scope("a", reuse=True):
        v1.get_variable("v", [1])


@changed(
    "a scope of nothing in particular does not share by itself",
    "note a False",
    "got 0",
    "error VariableExistsError: Variable a/v already exists, disallowed. Did you mean to set "
    "reuse=True or reuse=jscope.AUTO_REUSE in VarScope?",
    "made a/v float32[1] random",
)
def a_scope_object_built_with_reuse_none(v1: Any) -> None:
    with v1.variable_scope(v1.VariableScope(reuse=None, name="a")) as scope:
        v1.note(scope.name, scope.reuse)
        v1.get_variable("v", [1])
        with v1.refused():
            v1.get_variable("v", [1])


@same
def a_scope_object_can_be_built(v1: Any) -> None:
    built = v1.VariableScope(reuse=False, name="n")
    with v1.variable_scope("outer"), v1.variable_scope(built) as scope:
        v1.get_variable("v", [1])
        v1.note(scope.name, scope.reuse)
    with v1.variable_scope(v1.VariableScope(reuse=True, name="n")):
        v1.get_variable("v", [1])
        with v1.refused():
            v1.get_variable("w", [1])


@changed(
    "asking for a variable that is not trainable does not give a trainable one",
    "got 0",
    "error StateError: Trying to share variable v with trainable=False, but it was made trainable.",
    "made v float32[1] random",
)
def sharing_with_another_trainable(v1: Any) -> None:
    v1.get_variable("v", [1])
    with v1.variable_scope("", reuse=True), v1.refused():
        v1.get_variable("v", [1], trainable=False)


# Scope objects


@same
def a_scope_object_is_opened_under_its_full_name(v1: Any) -> None:
    with v1.variable_scope("a"), v1.variable_scope("b") as b:
        v1.get_variable("v", [1])
    with v1.variable_scope("other"):
        with v1.variable_scope(b) as again:
            v1.get_variable("w", [1])
            with v1.variable_scope("c") as c:
                v1.get_variable("v", [1])
        v1.get_variable("v", [1])
    v1.note(b.name, again.name, again is b, c.name)


@same
def a_jump_into_the_scope_itself_keeps_its_name(v1: Any) -> None:
    with v1.variable_scope("o") as o:
        with v1.variable_scope(o) as inner:
            v1.get_variable("v", [1])
        v1.get_variable("w", [1])
        v1.note(inner.name, inner is o)


@same
def a_jump_takes_defaults_from_its_object_only(v1: Any) -> None:
    with v1.variable_scope(
        "a", initializer=v1.constant_initializer(1.0), regularizer=v1.regularizer("a")
    ) as a:
        v1.get_variable("v", [1])
    with v1.variable_scope("plain") as plain:
        pass
    with v1.variable_scope(
        "outer",
        initializer=v1.constant_initializer(2.0),
        regularizer=v1.regularizer("outer"),
        dtype="float16",
        reuse=v1.AUTO_REUSE,
    ):
        with v1.variable_scope(a) as scope:
            v1.note(scope.dtype, scope.reuse)
            v1.get_variable("w", [1])
        with v1.variable_scope(plain) as scope:
            v1.note(scope.dtype, scope.reuse)
            v1.get_variable("w", [1])
        with v1.variable_scope(a, initializer=v1.zeros_initializer(), dtype="float16"):
            v1.get_variable("x", [1])


@same
def changes_of_a_jump_do_not_reach_its_object(v1: Any) -> None:
    with v1.variable_scope("a") as a:
        pass
    with v1.variable_scope(a) as again:
        again.reuse_variables()
        again.set_initializer(v1.zeros_initializer())
    v1.note(again.reuse, a.reuse, a.initializer)


@same
def changes_of_an_object_hold_for_later_jumps(v1: Any) -> None:
    with v1.variable_scope("a") as a:
        pass
    a.set_initializer(v1.constant_initializer(5.0))
    a.set_regularizer(v1.regularizer("late"))
    with v1.variable_scope(a):
        v1.get_variable("v", [1])
    with v1.variable_scope("a"):
        v1.get_variable("w", [1])
    a.reuse_variables()
    with v1.variable_scope(a) as scope:
        v1.note(scope.reuse)


@same
def the_root_object_leads_back_to_the_root(v1: Any) -> None:
    root = v1.get_variable_scope()
    with v1.variable_scope("o", reuse=True), v1.variable_scope(root) as scope:
        v1.note(repr(scope.name), scope.reuse)
        v1.get_variable("v", [1])
        with v1.variable_scope("a"):
            v1.get_variable("v", [1])


@same
def a_jump_ignores_the_reuse_around_it(v1: Any) -> None:
    with v1.variable_scope("a") as a:
        v1.get_variable("v", [1])
    with v1.variable_scope("b", reuse=True):
        with v1.variable_scope(a):
            v1.get_variable("w", [1])
            with v1.refused():
                v1.get_variable("v", [1])
        with v1.variable_scope(a, reuse=True):
            v1.get_variable("v", [1])


@same
def the_auxiliary_name_scope_changes_no_variable(v1: Any) -> None:
    with v1.variable_scope("a", auxiliary_name_scope=False) as a:
        v1.get_variable("v", [1])
    with v1.variable_scope(a, auxiliary_name_scope=False):
        v1.get_variable("w", [1])


# Default names


@same
def default_names_are_numbered(v1: Any) -> None:
    for _ in range(3):
        with v1.variable_scope(None, "d") as scope:
            v1.note(scope.name)
            v1.get_variable("v", [1])
    with v1.variable_scope("o"):
        for _ in range(2):
            with v1.variable_scope(None, "d"):
                v1.get_variable("v", [1])


@same
def named_scopes_count_too(v1: Any) -> None:
    for name in ("d", None, "d", None):
        with v1.variable_scope(name, "d") as scope:
            v1.note(scope.name)


@same
def numbers_that_are_taken_are_skipped(v1: Any) -> None:
    for name in ("d_1", None, None, None):
        with v1.variable_scope(name, "d") as scope:
            v1.note(scope.name)


@same
def a_name_is_never_numbered(v1: Any) -> None:
    for _ in range(2):
        with v1.variable_scope(None, "d"):
            v1.get_variable("v", [1])
    with v1.variable_scope("d_1"), v1.refused():
        v1.get_variable("v", [1])


@same
def variables_do_not_count(v1: Any) -> None:
    v1.get_variable("d/v", [1])
    with v1.variable_scope(None, "d") as scope:
        v1.note(scope.name)
        with v1.refused():
            v1.get_variable("v", [1])


@same
def the_count_of_a_scope_starts_again_when_it_closes(v1: Any) -> None:
    for _ in range(2):
        with v1.variable_scope("p") as p:
            for _ in range(2):
                with v1.variable_scope(None, "d") as scope:
                    v1.note(scope.name)
    for _ in range(2):
        with v1.variable_scope(p), v1.variable_scope(None, "d") as scope:
            v1.note(scope.name)


@same
def the_count_of_the_root_goes_on(v1: Any) -> None:
    for _ in range(2):
        for _ in range(2):
            with v1.variable_scope(None, "d") as scope:
                v1.note(scope.name)


@same
def counts_differ_by_name_and_by_scope(v1: Any) -> None:
    with v1.variable_scope("o"):
        for name in ("a", "b", "a", "a_1", "b"):
            with v1.variable_scope(None, name) as scope:
                v1.note(scope.name)
                with v1.variable_scope(None, "a") as inner:
                    v1.note(inner.name)


@same
def default_names_may_hold_slashes(v1: Any) -> None:
    for _ in range(2):
        with v1.variable_scope(None, "a/b") as scope:
            v1.note(scope.name)
            v1.get_variable("v", [1])


@same
def a_failed_block_still_counts(v1: Any) -> None:
    with v1.refused(), v1.variable_scope(None, "d"):
        raise KeyError("mine")
    with v1.variable_scope(None, "d") as scope:
        v1.note(scope.name)


@changed(
    "a jump continues the numbers of an open scope",
    "got 0",
    "got 1",
    "got 2",
    "no error",
    "made o/d/v float32[1] random",
    "made o/d_1/v float32[1] random",
    "made o/d_2/v float32[1] random",
)
def default_names_around_a_jump(v1: Any) -> None:
    def layer() -> None:
        with v1.variable_scope(None, "d"):
            v1.get_variable("v", [1])

    with v1.variable_scope("o") as o:
        layer()
        with v1.variable_scope(o):
            layer()
        with v1.refused():
            layer()


@changed(
    "a default name is a name",
    "error InvalidNameError: '' is not a valid scope name: it has an empty component.",
)
def an_empty_default_name(v1: Any) -> None:
    with v1.refused(), v1.variable_scope(None, ""):
        pass


# Shape, dtype, initializer


@same
def a_new_variable_needs_a_shape(v1: Any) -> None:
    with v1.refused():
        v1.get_variable("v")
    with v1.variable_scope("a", reuse=v1.AUTO_REUSE), v1.refused():
        v1.get_variable("v")
    v1.get_variable("v", [1])


@same
def shapes_are_sizes(v1: Any) -> None:
    v1.get_variable("a", 3)
    v1.get_variable("b", (2, 3))
    v1.get_variable("c", [])
    v1.get_variable("d", ())
    v1.get_variable("e", [0, 3])
    v1.get_variable("g", np.array([2, 3]))
    v1.get_variable("h", [np.int64(2)])
    with v1.refused():
        v1.get_variable("f", [2, -1])
    with v1.refused():
        v1.get_variable("f", [2.0])


@same
def constants_bring_shape_and_dtype(v1: Any) -> None:
    v1.get_variable("a", initializer=1.0)
    v1.get_variable("b", initializer=3)
    v1.get_variable("c", initializer=True)
    v1.get_variable("d", initializer=[[1.0, 2.0], [3.0, 4.0]])
    v1.get_variable("e", initializer=[1, 2])
    with v1.variable_scope("s", dtype="float16"):
        v1.get_variable("a", initializer=1.0)


@same
def defaults_follow_the_dtype(v1: Any) -> None:
    for dtype in ("float16", "bfloat16", "float32"):
        v1.get_variable(f"{dtype}_v", [2, 3], dtype)
    for dtype in ("int8", "int32", "uint8", "bool"):
        v1.get_variable(f"{dtype}_v", [2, 3], dtype)
    v1.get_variable("scalar", [])
    v1.get_variable("vector", [5])


@same
def the_nearest_initializer_is_taken(v1: Any) -> None:
    with v1.variable_scope("a", initializer=v1.constant_initializer(1.0)):
        v1.get_variable("v", [1])
        v1.get_variable("w", [1], initializer=v1.zeros_initializer())
        with v1.variable_scope("b"):
            v1.get_variable("v", [1])
        with v1.variable_scope("c", initializer=v1.constant_initializer(2.0)):
            v1.get_variable("v", [1], initializer=None)
        with v1.variable_scope("d", initializer=None):
            v1.get_variable("v", [1])
        v1.get_variable("x", [1])


@same
def the_nearest_dtype_is_taken(v1: Any) -> None:
    with v1.variable_scope("a", dtype="float16") as a:
        v1.get_variable("v", [1])
        v1.get_variable("w", [1], "int32")
        with v1.variable_scope("b") as b:
            v1.note(b.dtype)
            v1.get_variable("v", [1])
        with v1.variable_scope("c", dtype="int32"):
            v1.get_variable("v", [1])
    v1.note(a.dtype, v1.get_variable_scope().dtype)
    with v1.variable_scope(a) as again:
        v1.note(again.dtype)
        v1.get_variable("x", [1])
    with v1.variable_scope("a") as by_name:
        v1.note(by_name.dtype)
        v1.get_variable("y", [1])


@same
def setters_act_on_the_scope_and_its_later_children(v1: Any) -> None:
    with v1.variable_scope("a") as a:
        v1.get_variable("v", [1])
        a.set_initializer(v1.constant_initializer(4.0))
        a.set_dtype("float16")
        a.set_regularizer(v1.regularizer("set"))
        v1.get_variable("w", [1])
        with v1.variable_scope("b"):
            v1.get_variable("v", [1])
    v1.get_variable("v", [1])


@same
def a_scope_with_another_dtype_is_found_by_its_object(v1: Any) -> None:
    with v1.variable_scope("a", dtype="float16") as a:
        v1.get_variable("v", [1])
    with v1.variable_scope(a, reuse=True):
        v1.get_variable("v", [1])


@same
def python_types_can_be_dtypes(v1: Any) -> None:
    v1.get_variable("f", [1], float)
    v1.get_variable("b", [1], bool)


@changed(
    "int has no size; another text",
    "error TypeError: Cannot convert <class 'int'> to a dtype of JAX.",
)
def int_is_no_dtype(v1: Any) -> None:
    with v1.refused():
        v1.get_variable("v", [1], int)


@changed(
    "the text shows a dtype by its name",
    "error InitializerError: An initializer for variable v of complex64 is required",
)
def a_dtype_without_a_default(v1: Any) -> None:
    with v1.refused():
        v1.get_variable("v", [2], "complex64")


@changed(
    "the text names the variable and what an initializer is here",
    "error InitializerError: The initializer passed is not valid. It should be a callable "
    "f(key, shape, dtype), and `shape` of variable v should be fully defined.",
    "error InitializerError: The initializer passed is not valid. It should be a callable "
    "f(key, shape, dtype), and `shape` of variable v should be fully defined.",
    "error InitializerError: The initializer passed is not valid. It should be a callable "
    "f(key, shape, dtype), and `shape` of variable v should be fully defined.",
)
def a_shape_that_is_not_known(v1: Any) -> None:
    with v1.refused():
        v1.get_variable("v", initializer=v1.zeros_initializer())
    with v1.refused():
        v1.get_variable("v", [None, 3])
    with v1.refused():
        v1.get_variable("v", [None, 3], initializer=v1.zeros_initializer())


@changed(
    "a constant's own shape may be given",
    "got 0",
    "no error",
    "got 1",
    "no error",
    "error InitializerError: If initializer is a constant, do not specify shape. Specified shape "
    "(3,) and the constant has shape (2,).",
    "got 2",
    "no error",
    "made a float32[2] [1.0, 2.0]",
    "made b float32[] all 1.0",
    "made s/v float32[] all 7.0",
)
def a_constant_with_a_shape(v1: Any) -> None:
    with v1.refused():
        v1.get_variable("a", [2], initializer=[1.0, 2.0])
    with v1.refused():
        v1.get_variable("b", [], initializer=1.0)
    with v1.refused():
        v1.get_variable("c", [3], initializer=[1.0, 2.0])
    with v1.variable_scope("s", initializer=7.0), v1.refused():
        v1.get_variable("v", [])


@changed(
    "Python numbers take the dtype asked for",
    "got 0",
    "no error",
    "got 1",
    "no error",
    "error InitializerError: Initializer type 'int32' and explicit dtype 'float32' don't match.",
    "made a float16[] all 1.0",
    "made b float32[] all 1.0",
)
def a_constant_with_a_dtype(v1: Any) -> None:
    with v1.refused():
        v1.get_variable("a", dtype="float16", initializer=1.0)
    with v1.refused():
        v1.get_variable("b", dtype="float32", initializer=1)
    with v1.refused():
        v1.get_variable("c", dtype="float32", initializer=v1.array([1, 2], "int32"))


@changed(
    "a constant of the scope is checked as one of the call is",
    "error InitializerError: Initializer type 'float32' and explicit dtype 'int32' don't match.",
    "got 0",
    "no error",
    "made s/w float32[2] [1.0, 2.0]",
)
def a_constant_of_the_scope_with_a_dtype(v1: Any) -> None:
    with v1.variable_scope("s", initializer=v1.array([1, 2], "float32")):
        with v1.refused():
            v1.get_variable("v", dtype="int32")
        with v1.refused():
            v1.get_variable("w")


@changed(
    "a constant is checked against what is found",
    "got 0",
    "error VariableMismatchError: Trying to share variable v, but specified shape (5,) and found "
    "shape (2,).",
    "made v float32[2] random",
)
def another_constant_when_sharing(v1: Any) -> None:
    v1.get_variable("v", [2])
    with v1.variable_scope("", reuse=True), v1.refused():
        v1.get_variable("v", initializer=[0.0] * 5)


@changed(
    "a lookup finds the dtype by the rule of creation",
    "got 0",
    "got 0",
    "no error",
    "got 0",
    "no error",
    "made a/steps int32[] all 3",
)
def an_integer_constant_twice(v1: Any) -> None:
    with v1.variable_scope("a", reuse=v1.AUTO_REUSE):
        v1.get_variable("steps", initializer=3)
        with v1.refused():
            v1.get_variable("steps", initializer=3)
        with v1.refused():
            v1.get_variable("steps")


@changed(
    "a lookup checks a dtype only if somebody asked for one",
    "got 0",
    "got 0",
    "no error",
    "error VariableMismatchError: Trying to share variable a/v, but specified dtype float32 and "
    "found dtype float16.",
    "error VariableMismatchError: Trying to share variable a/v, but specified dtype int32 and "
    "found dtype float16.",
    "made a/v float16[1] random",
)
def a_scope_with_another_dtype_found_by_its_name(v1: Any) -> None:
    with v1.variable_scope("a", dtype="float16"):
        v1.get_variable("v", [1])
    with v1.variable_scope("a", reuse=True), v1.refused():
        v1.get_variable("v", [1])
    with v1.variable_scope("a", reuse=True), v1.refused():
        v1.get_variable("v", [1], "float32")
    with v1.variable_scope("a", reuse=True, dtype="int32"), v1.refused():
        v1.get_variable("v", [1])


@changed(
    "an initializer is a function or a constant; strings are no variables in JAX",
    "error InitializerTypeError: The initializer passed is not valid. Variable v got {} of type "
    "dict.",
    "error InitializerTypeError: The initializer passed is not valid. Variable v got 'zeros' of "
    "type str.",
)
def an_initializer_that_is_none(v1: Any) -> None:
    for initializer in ({}, "zeros"):
        with v1.refused():
            v1.get_variable("v", initializer=initializer)


# Trainable, collections, regularizer, constraint


@same
def trainable_or_not(v1: Any) -> None:
    v1.get_variable("a", [1], trainable=True)
    v1.get_variable("b", [1], trainable=False)
    v1.get_variable("c", [1], trainable=None)
    v1.get_variable("d", initializer=0, trainable=False)


@same
def the_nearest_regularizer_is_taken(v1: Any) -> None:
    with v1.variable_scope("a", regularizer=v1.regularizer("outer")):
        v1.get_variable("v", [1])
        v1.get_variable("w", [1], regularizer=v1.regularizer("own"))
        v1.get_variable("x", [1], regularizer=v1.no_regularizer)
        v1.get_variable("y", [1], regularizer=None, trainable=False)
        v1.get_variable("z", [1], regularizer=False)
        with v1.variable_scope("b", regularizer=None):
            v1.get_variable("v", [1])
        with v1.variable_scope("c", regularizer=v1.no_regularizer):
            v1.get_variable("v", [1])
            with v1.variable_scope("d", regularizer=v1.regularizer("inner")):
                v1.get_variable("v", [1])
        with v1.variable_scope("e", regularizer=v1.regularizer("other")):
            v1.get_variable("v", [1])
    v1.get_variable("v", [1])


@same
def a_shared_variable_keeps_its_regularizer(v1: Any) -> None:
    with v1.variable_scope("a", regularizer=v1.regularizer("first")):
        v1.get_variable("v", [1])
    with v1.variable_scope("b"):
        v1.get_variable("v", [1])
    with v1.variable_scope("a", regularizer=v1.regularizer("second"), reuse=True):
        v1.get_variable("v", [1])
    with v1.variable_scope("b", regularizer=v1.regularizer("second"), reuse=True):
        v1.get_variable("v", [1])


@same
def a_constraint_holds_in_its_own_scope(v1: Any) -> None:
    with v1.variable_scope("a", constraint=v1.constraint("scope")):
        v1.get_variable("v", [1])
        v1.get_variable("w", [1], constraint=v1.constraint("own"))
    v1.get_variable("v", [1], constraint=v1.constraint("own"))
    v1.get_variable("w", [1])


@changed(
    "a constraint is inherited like every other default",
    "got 0",
    "got 1",
    "made a/b/v float32[1] random, constraint outer",
    "made a/w float32[1] random, constraint outer",
)
def a_constraint_below_its_scope(v1: Any) -> None:
    with v1.variable_scope("a", constraint=v1.constraint("outer")) as a, v1.variable_scope("b"):
        v1.get_variable("v", [1])
    with v1.variable_scope(a):
        v1.get_variable("w", [1])


@changed(
    "the text names the call",
    "error ArgumentError: collections argument to get_variable must be a list, tuple, or set of "
    "strings. Got 'foo' of type str",
)
def collections_that_are_none(v1: Any) -> None:
    with v1.refused():
        v1.get_variable("v", [1], collections="foo")


# Custom getters


def tracing(v1: Any, tag: str) -> Any:
    """A getter that notes when it begins and when it has its variable."""

    def getter(getter: Any, name: str, **request: Any) -> Any:
        v1.note(tag, "begins", name)
        value = getter(name, **request)
        v1.note(tag, "ends", name)
        return value

    return getter


@same
def a_getter_is_called_for_every_request(v1: Any) -> None:
    with v1.variable_scope("a", custom_getter=tracing(v1, "g"), reuse=v1.AUTO_REUSE):
        v1.get_variable("v", [1])
        v1.get_variable("v", [1])
        with v1.variable_scope("b"):
            v1.get_variable("v", [1])
    v1.get_variable("v", [1])


@same
def a_getter_sees_what_the_scope_says(v1: Any) -> None:
    def getter(getter: Any, name: str, **request: Any) -> Any:
        v1.note(name, request["shape"], request["dtype"], request["reuse"], request["trainable"])
        v1.note(request["initializer"] is ones, request["regularizer"] is l2)
        return getter(name, **request)

    ones, l2 = v1.ones_initializer(), v1.regularizer("l2")
    with v1.variable_scope("a", custom_getter=getter):
        v1.get_variable("v", [1])
        v1.get_variable("w", [1], initializer=ones, regularizer=l2, trainable=False)
        with v1.variable_scope(
            "b", initializer=ones, regularizer=l2, dtype="float16", reuse=v1.AUTO_REUSE
        ):
            v1.get_variable("v", [2])
            v1.get_variable("w", [2], "int32")


@same
def the_getter_of_the_innermost_scope_begins(v1: Any) -> None:
    with v1.variable_scope("a", custom_getter=tracing(v1, "outer")):
        with v1.variable_scope("b", custom_getter=tracing(v1, "mid")):
            with v1.variable_scope("c", custom_getter=tracing(v1, "inner")):
                v1.get_variable("v", [1])


@same
def a_getter_of_the_request_replaces_those_of_the_scopes(v1: Any) -> None:
    with v1.variable_scope("a", custom_getter=tracing(v1, "scope")):
        v1.get_variable("v", [1], custom_getter=tracing(v1, "own"))


@same
def a_getter_that_is_set_replaces_the_others(v1: Any) -> None:
    with v1.variable_scope("a", custom_getter=tracing(v1, "outer")):
        with v1.variable_scope("b", custom_getter=tracing(v1, "inner")) as scope:
            scope.set_custom_getter(tracing(v1, "set"))
            v1.get_variable("v", [1])


@same
def a_jump_brings_the_getter_of_its_object(v1: Any) -> None:
    with v1.variable_scope("a", custom_getter=tracing(v1, "a")) as a:
        pass
    with v1.variable_scope("b", custom_getter=tracing(v1, "b")):
        with v1.variable_scope(a, custom_getter=tracing(v1, "jump")):
            v1.get_variable("v", [1])


@same
def a_getter_may_rename_and_make_others(v1: Any) -> None:
    def getter(getter: Any, name: str, **request: Any) -> Any:
        getter("elsewhere/" + name, **request)
        getter(name + "_g", **request)
        return getter(name + "_v", **request)

    with v1.variable_scope("a", custom_getter=getter):
        v1.get_variable("v", [1])
        with v1.refused():
            v1.get_variable("v", [1])


@same
def a_getter_may_return_something_else(v1: Any) -> None:
    with v1.variable_scope("a", custom_getter=lambda getter, name, **request: None):
        v1.note(v1.get_variable("v", [1]))
    with v1.variable_scope("b", custom_getter=lambda getter, name, **request: "text"):
        v1.note(v1.get_variable("v", [1]))


@same
def a_getter_may_change_the_request(v1: Any) -> None:
    def getter(getter: Any, name: str, **request: Any) -> Any:
        request.update(dtype="float16", reuse=v1.AUTO_REUSE, initializer=v1.ones_initializer())
        request.update(regularizer=v1.regularizer("getter"))
        return getter(name, **request)

    with v1.variable_scope("a", custom_getter=getter):
        v1.get_variable("v", [1])
        v1.get_variable("v", [1])


@same
def requests_inside_a_getter_are_requests_of_the_scope(v1: Any) -> None:
    def plain(getter: Any, name: str, **request: Any) -> Any:
        return getter(name, **request)

    def getter(getter: Any, name: str, **request: Any) -> Any:
        if name.endswith("/v"):
            v1.get_variable("helper", [1], custom_getter=plain)
        return getter(name, **request)

    with v1.variable_scope("a", custom_getter=getter):
        v1.get_variable("v", [1])
    with v1.variable_scope("a", custom_getter=getter, reuse=True):
        v1.get_variable("v", [1])


@same
def a_getter_of_a_request_must_be_callable(v1: Any) -> None:
    with v1.refused():
        v1.get_variable("v", [1], custom_getter=3)


@changed(
    "a getter that drops arguments gets the scope's",
    "got 0",
    "error VariableExistsError: Variable a/v already exists, disallowed. Did you mean to set "
    "reuse=True or reuse=jscope.AUTO_REUSE in VarScope?",
    "made a/v float16[1] random",
)
def a_getter_that_drops_arguments(v1: Any) -> None:
    def getter(getter: Any, name: str, shape: Any, **request: Any) -> Any:
        return getter(name, shape)

    with v1.variable_scope("a", custom_getter=getter, dtype="float16"):
        v1.get_variable("v", [1])
        with v1.refused():
            v1.get_variable("v", [1])


@changed(
    "a scope's getter is checked when the scope is opened",
    "error ArgumentError: Passed a custom_getter which is not callable: 3",
    "error ArgumentError: Passed a custom_getter which is not callable: 3",
)
def a_getter_of_a_scope_that_is_not_callable(v1: Any) -> None:
    with v1.refused(), v1.variable_scope("a", custom_getter=3):
        v1.note("inside")
        v1.get_variable("v", [1])
    with v1.variable_scope("b", custom_getter=tracing(v1, "b")):
        with v1.refused(), v1.variable_scope("c", custom_getter=3):
            v1.note("inside")
            v1.get_variable("v", [1])


# Templates


def make(v1: Any, name: str = "v") -> Any:
    return v1.get_variable(name, [1])


@same
def a_template_makes_once_and_shares_afterwards(v1: Any) -> None:
    one, two = v1.make_template("t", make), v1.make_template("t", make)
    v1.note(one(v1) is one(v1), two(v1) is one(v1))
    v1.note(one.name, one.variable_scope.name, two.variable_scope.name)


@same
def a_template_takes_the_scope_of_its_first_call(v1: Any) -> None:
    with v1.variable_scope("made"):
        late = v1.make_template("late", make)
        now = v1.make_template("now", make, create_scope_now_=True)
    with v1.variable_scope("called"):
        late(v1)
        now(v1)
    late(v1)
    now(v1)
    v1.note(late.variable_scope.name, now.variable_scope.name)


@same
def templates_share_the_numbers_of_default_names(v1: Any) -> None:
    one, two = v1.make_template("s", make), v1.make_template("s", make)
    with v1.variable_scope(None, "s"):
        make(v1)
    two(v1)
    one(v1)
    v1.note(one.variable_scope.name, two.variable_scope.name)


@same
def a_template_needs_a_name(v1: Any) -> None:
    with v1.refused():
        v1.make_template(None, make)


@same
def a_unique_name_is_not_numbered(v1: Any) -> None:
    one = v1.make_template("t", make, unique_name_="u")
    two = v1.make_template("t", make, unique_name_="u")
    one(v1)
    with v1.refused():
        two(v1)
    with v1.variable_scope("s"):
        v1.make_template("t", make, unique_name_="u")(v1)
    with v1.variable_scope("s", reuse=True):
        v1.make_template("t", make, unique_name_="u")(v1)


@same
def a_later_call_makes_nothing(v1: Any) -> None:
    template = v1.make_template("t", make)
    template(v1)
    with v1.refused():
        template(v1, "w")
    template(v1)


@same
def arguments_of_a_template(v1: Any) -> None:
    template = v1.make_template("t", make, name="w")
    template(v1)
    template(v1, name="w")
    with v1.refused():
        template(v1, "w")
    with v1.refused():
        template(v1, name="x")


@same
def a_first_call_that_failed_before_any_request_can_be_repeated(v1: Any) -> None:
    fail = [True]

    def function() -> None:
        if fail[0]:
            raise ArithmeticError("mine")
        v1.get_variable("v", [1])

    template = v1.make_template("t", function)
    with v1.refused():
        template()
    fail[0] = False
    template()
    template()
    v1.note(template.variable_scope.name)


@same
def templates_inside_a_template(v1: Any) -> None:
    def function() -> None:
        for _ in range(2):
            v1.make_template("n", make)(v1)
        with v1.variable_scope(None, "d"):
            make(v1)

    template = v1.make_template("t", function)
    template()
    template()


@same
def a_template_that_calls_itself(v1: Any) -> None:
    def function(depth: int) -> None:
        v1.get_variable("v", [1])
        if depth:
            template(depth - 1)

    template = v1.make_template("t", function)
    template(2)
    template(0)


@same
def templates_in_a_scope_that_is_shared(v1: Any) -> None:
    for _ in range(2):
        with v1.variable_scope("m", reuse=v1.AUTO_REUSE):
            v1.make_template("t", make)(v1)
    with v1.variable_scope("m", reuse=True):
        v1.make_template("t", make)(v1)
    for _ in range(2):
        v1.make_template("t", make)(v1)


@same
def the_getter_of_a_template_is_around_those_of_the_scope(v1: Any) -> None:
    with v1.variable_scope("a", custom_getter=tracing(v1, "scope")):
        v1.make_template("t", make, custom_getter_=tracing(v1, "template"))(v1)


@same
def a_template_takes_the_defaults_of_its_scope(v1: Any) -> None:
    template = v1.make_template("t", make)
    with v1.variable_scope("a", initializer=v1.ones_initializer(), regularizer=v1.regularizer("a")):
        template(v1)
    with v1.variable_scope("b", initializer=v1.zeros_initializer(), reuse=True):
        template(v1)


@same
def a_function_called_twice_is_no_template(v1: Any) -> None:
    with v1.variable_scope("a"):
        make(v1)
        with v1.refused():
            make(v1)


@changed(
    "a template whose first call failed is not poisoned",
    "got 0",
    "error ArithmeticError: mine",
    "got 0",
    "no error",
    "note t",
    "made t/v float32[1] random",
)
def a_first_call_that_failed_after_a_request(v1: Any) -> None:
    fail = [True]

    def function() -> None:
        v1.get_variable("v", [1])
        if fail[0]:
            raise ArithmeticError("mine")

    template = v1.make_template("t", function)
    with v1.refused():
        template()
    fail[0] = False
    with v1.refused():
        template()
    v1.note(template.variable_scope.name)


@changed(
    "a later call makes nothing, not even under AUTO_REUSE",
    "got 0",
    "error VariableNotFoundError: Variable t/s/w does not exist, or was not created with "
    "get_variable(). Did you mean to set reuse=jscope.AUTO_REUSE in VarScope?",
    "made t/s/v float32[1] random",
)
def auto_reuse_inside_a_later_call(v1: Any) -> None:
    def function(name: str) -> None:
        with v1.variable_scope("s", reuse=v1.AUTO_REUSE):
            v1.get_variable(name, [1])

    template = v1.make_template("t", function)
    template("v")
    with v1.refused():
        template("w")


@changed(
    "create_scope_now_ keeps the dtype of the scope",
    "got 0",
    "made a/t/v float16[1] random",
)
def the_dtype_of_a_template_with_a_scope_of_its_own(v1: Any) -> None:
    with v1.variable_scope("a", dtype="float16"):
        template = v1.make_template("t", make, create_scope_now_=True)
    template(v1)


@same
def a_template_first_called_inside_reuse(v1: Any) -> None:
    template = v1.make_template("t", make)
    with v1.variable_scope("x", reuse=True), v1.refused():
        template(v1)
    with v1.refused():
        template(v1)
    with v1.variable_scope("y"), v1.refused():
        template(v1)


# Layers


@same
def layers_are_numbered_by_kind(v1: Any) -> None:
    x = v1.ones([2, 4, 4, 3])
    x = v1.layers.conv2d(x, 2, 3)
    x = v1.layers.conv2d(x, 2, 2)
    x = v1.layers.batch_normalization(x)
    x = v1.layers.dense(v1.layers.flatten(x), 2)
    with v1.variable_scope("top"):
        x = v1.layers.dense(x, 2)
        x = v1.layers.dense(x, 2, use_bias=False)
    x = v1.layers.dense(x, 2)
    with v1.variable_scope("top"), v1.refused():
        v1.layers.dense(x, 2)


@same
def layers_without_variables_count_nothing_but_their_own_kind(v1: Any) -> None:
    x = v1.layers.max_pooling2d(v1.ones([2, 4, 4, 3]), 2, 2)
    x = v1.layers.dropout(v1.layers.flatten(x))
    v1.layers.dense(v1.layers.dropout(x), 2)


@same
def a_named_layer_is_made_once(v1: Any) -> None:
    x = v1.ones([2, 3])
    v1.layers.dense(x, 2, name="fc")
    with v1.refused():
        v1.layers.dense(x, 2, name="fc")
    v1.layers.dense(x, 2, name="fc", reuse=True)
    v1.layers.dense(x, 2, name="fc", reuse=v1.AUTO_REUSE)
    v1.layers.dense(x, 2, name="other", reuse=v1.AUTO_REUSE)
    with v1.refused():
        v1.layers.dense(x, 3, name="fc", reuse=True)
    with v1.refused():
        v1.layers.dense(x, 2, name="third", reuse=True)
    with v1.variable_scope("fc"):
        v1.layers.dense(x, 2, name="a/b")


@same
def a_layer_that_shares_without_a_name_takes_the_first(v1: Any) -> None:
    x = v1.ones([2, 3])
    v1.layers.dense(x, 2)
    v1.layers.dense(x, 2)
    v1.layers.dense(x, 2, reuse=True)
    v1.layers.dense(x, 2, reuse=v1.AUTO_REUSE)
    v1.layers.dense(x, 2)


@same
def layers_in_a_scope_that_is_shared(v1: Any) -> None:
    def net() -> None:
        x = v1.layers.conv2d(v1.ones([2, 4, 4, 3]), 2, 3, name="conv")
        x = v1.layers.batch_normalization(x)
        for _ in range(2):
            x = v1.layers.dense(v1.layers.flatten(x), 2)

    with v1.variable_scope("net"):
        net()
    for reuse in (True, v1.AUTO_REUSE):
        with v1.variable_scope("net", reuse=reuse):
            net()
    with v1.variable_scope("net"), v1.refused():
        net()


@same
def layers_share_inside_a_template(v1: Any) -> None:
    template = v1.make_template("t", lambda: v1.layers.dense(v1.ones([2, 3]), 2))
    template()
    template()


@same
def layers_take_initializer_and_constraint(v1: Any) -> None:
    x = v1.ones([2, 3])
    with v1.variable_scope("a", initializer=v1.constant_initializer(3.0)):
        v1.layers.dense(x, 2)
        v1.layers.dense(x, 2, bias_initializer=v1.ones_initializer())
        v1.layers.dense(x, 2, kernel_initializer=v1.zeros_initializer(), bias_initializer=None)
        v1.layers.batch_normalization(x)
        v1.layers.dense(x, 2, kernel_constraint=v1.constraint("own"))


@same
def a_regularizer_of_a_layer(v1: Any) -> None:
    x = v1.ones([2, 3])
    v1.layers.dense(x, 2, kernel_regularizer=v1.regularizer("kernel"))
    v1.layers.dense(x, 2, bias_regularizer=v1.regularizer("bias"))
    v1.layers.batch_normalization(x, gamma_regularizer=v1.regularizer("gamma"))


@same
def layers_take_the_regularizer_of_the_scope(v1: Any) -> None:
    with v1.variable_scope("a", regularizer=v1.regularizer("scope")):
        v1.layers.dense(v1.ones([2, 3]), 2)
        v1.layers.dense(v1.ones([2, 3]), 2, kernel_regularizer=None)


@changed(
    "in TF1 a layer adds its own regularizer to that of the scope; here it replaces it, as everywhere",
    "made a/dense/kernel float32[3,2] random, regularizer own",
    "made a/dense/bias float32[2] all 0.0, regularizer scope",
    "made a/dense_1/kernel float32[3,2] random",
    "made a/dense_1/bias float32[2] all 0.0, regularizer scope",
)
def a_regularizer_of_a_layer_and_of_the_scope(v1: Any) -> None:
    with v1.variable_scope("a", regularizer=v1.regularizer("scope")):
        v1.layers.dense(v1.ones([2, 3]), 2, kernel_regularizer=v1.regularizer("own"))
        v1.layers.dense(v1.ones([2, 3]), 2, kernel_regularizer=v1.no_regularizer)


@changed(
    "moving averages are no weights: the regularizer of the scope is not for them",
    "made a/batch_normalization/gamma float32[3] all 1.0, regularizer scope",
    "made a/batch_normalization/beta float32[3] all 0.0, regularizer scope",
    "made a/batch_normalization/moving_mean float32[3] all 0.0, not trainable",
    "made a/batch_normalization/moving_variance float32[3] all 1.0, not trainable",
)
def moving_averages_in_a_scope_with_a_regularizer(v1: Any) -> None:
    with v1.variable_scope("a", regularizer=v1.regularizer("scope")):
        v1.layers.batch_normalization(v1.ones([2, 3]))


@same
def layers_ask_the_getter_of_the_scope(v1: Any) -> None:
    def getter(getter: Any, name: str, **request: Any) -> Any:
        v1.note(name, list(request["shape"]), request["dtype"], request["trainable"])
        return getter(name, **request)

    with v1.variable_scope("a", custom_getter=getter):
        v1.layers.dense(v1.ones([2, 3]), 2)
        v1.layers.batch_normalization(v1.ones([2, 3]))


@same
def a_layer_that_is_not_trained(v1: Any) -> None:
    v1.layers.dense(v1.ones([2, 3]), 2, trainable=False)
    v1.layers.batch_normalization(v1.ones([2, 3]), trainable=False)


@same
def recurrent_cells_and_their_names(v1: Any) -> None:
    x = v1.ones([2, 4, 3])
    v1.dynamic_rnn(v1.gru(2), x)
    with v1.variable_scope("a"):
        v1.dynamic_rnn(v1.lstm(2), x)
    v1.dynamic_rnn(v1.lstm(2), x, scope="b")
    v1.dynamic_rnn(v1.lstm(2, name="mine"), x)
    with v1.variable_scope("a", reuse=True):
        v1.dynamic_rnn(v1.lstm(2), x)


@same
def two_cells_in_one_scope(v1: Any) -> None:
    x = v1.ones([2, 4, 3])
    v1.dynamic_rnn(v1.gru(2), x)
    with v1.refused():
        v1.dynamic_rnn(v1.gru(2), x)
    with v1.variable_scope("a", reuse=v1.AUTO_REUSE):
        v1.dynamic_rnn(v1.gru(2), x)
        v1.dynamic_rnn(v1.gru(2), x)


@changed(
    "a dtype that a scope sets is that of the variables of layers",
    "made a/dense/kernel float16[3,2] random",
    "made a/dense/bias float16[2] all 0.0",
    "made dense/kernel float16[3,2] random",
    "made dense/bias float16[2] all 0.0",
    "made batch_normalization/gamma float32[3] all 1.0",
    "made batch_normalization/beta float32[3] all 0.0",
    "made batch_normalization/moving_mean float32[3] all 0.0, not trainable",
    "made batch_normalization/moving_variance float32[3] all 1.0, not trainable",
)
def layers_take_the_dtype_of_their_inputs(v1: Any) -> None:
    with v1.variable_scope("a", dtype="float16"):
        v1.layers.dense(v1.ones([2, 3]), 2)
    v1.layers.dense(v1.ones([2, 3], "float16"), 2)
    v1.layers.batch_normalization(v1.ones([2, 3], "float16"))


@changed(
    "a cell belongs to the scope of its first call, as in TF 1.1",
    "error ReuseError: Attempt to reuse cell gru_cell with a different variable scope than its first "
    "use: first 'rnn', now 'other/rnn'.",
    "made rnn/gru_cell/gates/kernel float32[5,4] random",
    "made rnn/gru_cell/gates/bias float32[4] all 1.0",
    "made rnn/gru_cell/candidate/kernel float32[5,2] random",
    "made rnn/gru_cell/candidate/bias float32[2] all 0.0",
)
def a_cell_used_twice(v1: Any) -> None:
    x = v1.ones([2, 4, 3])
    cell = v1.gru(2)
    v1.dynamic_rnn(cell, x)
    v1.dynamic_rnn(cell, x)
    with v1.refused(), v1.variable_scope("other"):
        v1.dynamic_rnn(cell, x)

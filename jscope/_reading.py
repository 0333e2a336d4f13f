"""What a pass reads: placeholders, given trees, or both while init computes values."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jscope import _jaxapi
from jscope._keys import named_key, or_any, words
from jscope._layout import Layout, Rules
from jscope._level import Level
from jscope._params import Params, PyTree, bad_key, not_a_mapping, walk
from jscope._program import Program, Start
from jscope._record import Facts
from jscope._report import near_names, quoted, report_at
from jscope._spec import DType, Shape, Specs, refuse_as_tree
from jscope.errors import NameClashError, Site, TreeTypeError, VariableNotFoundError


class Values(Protocol):
    """Where a pass takes the values of variables from."""

    planning: bool
    """Whether there are none: the pass only finds out which variables there are."""
    has_state: bool
    """Whether there may be variables that are not trainable."""
    initializing: bool
    """Whether variables are being made; then nothing is assigned."""

    @property
    def layout(self) -> Layout | None:
        """What lays new variables out over a mesh."""
        ...

    def make(
        self, name: str, shape: Shape, dtype: DType, start: Start, facts: Facts
    ) -> jax.Array | None:
        """The value of a variable at its first request, or None where there is none.

        ``start`` is what its initial value is made from, where variables are being made.
        """
        ...

    def read(self, name: str, trainable: bool) -> jax.Array | None:
        """The value of a variable that was requested before."""
        ...

    def find(self, name: str, trainable: bool = True) -> jax.Array | None:
        """The value of a name that was not requested yet, or None; in state if not trainable."""
        ...

    def names(self) -> list[str]:
        """The names that could be found."""
        ...

    def state_names(self) -> list[str]:
        """The names of the given variables that may be assigned."""
        ...

    def refuse(
        self, name: str, places: tuple[Site, ...], trainable: bool, asked: Container[str]
    ) -> Exception:
        """The error for a name that has no value; others were ``asked`` for before."""
        ...


class Blank:
    """Values of init and specs: placeholders that have the types of what apply will be given.

    They are values of the trace that the pass runs in, as the params of a jitted apply are. So all
    that JAX does to a value from outside of a transform it does to them: batches it or not, keeps
    its mesh, refuses it.
    """

    planning = True
    initializing = True

    def __init__(self, has_state: bool, rules: Rules | None = None) -> None:
        self.has_state = has_state
        self._made: dict[str, jax.Array] = {}
        self._trace = _jaxapi.current_ref()
        self._mesh = jax.sharding.get_abstract_mesh()
        self.layout = Layout(rules, self._mesh)

    def make(
        self, name: str, shape: Shape, dtype: DType, start: Start, facts: Facts
    ) -> jax.Array | None:
        value = self._made.get(name)  # there if a template's first call failed and is tried again
        if value is None or (value.shape, value.dtype) != (shape, dtype):
            mesh, partition = self._mesh, facts.partition
            value = _jaxapi.placeholder(self._trace(), mesh, shape, dtype, partition)
            self._made[name] = value
        return value

    def read(self, name: str, trainable: bool) -> jax.Array | None:
        return self._made.get(name)

    def find(self, name: str, trainable: bool = True) -> jax.Array | None:
        return None

    def names(self) -> list[str]:
        return []

    def state_names(self) -> list[str]:
        return []

    def refuse(
        self, name: str, places: tuple[Site, ...], trainable: bool, asked: Container[str]
    ) -> Exception:
        raise AssertionError(name)  # every name can be made in init


class Given:
    """Values of apply: read from any nested mappings, never changed."""

    planning = False
    initializing = False
    layout: Layout | None = None

    def __init__(self, params: object, state: object = None, *, has_state: bool = False) -> None:
        self.has_state = has_state
        self._params = _Tree("params", params, has_state=has_state)
        self._state = _Tree("state", state if has_state else {}, has_state=has_state)

    def find(self, name: str, trainable: bool = True) -> jax.Array | None:
        value = self._params.find(name) if trainable else None
        return self._state.find(name) if value is None else value

    def make(
        self, name: str, shape: Shape, dtype: DType, start: Start, facts: Facts
    ) -> jax.Array | None:
        return (self._params if facts.trainable else self._state).find(name)

    def read(self, name: str, trainable: bool) -> jax.Array | None:
        return (self._params if trainable else self._state).find(name)

    def names(self) -> list[str]:
        return self._params.names() + self._state.names()

    def state_names(self) -> list[str]:
        return self._state.names()

    def refuse(
        self, name: str, places: tuple[Site, ...], trainable: bool, asked: Container[str]
    ) -> Exception:
        tree, other = self._params, self._state
        if not trainable:
            tree, other = other, tree
        clash = tree.clash(name, places)
        if clash is not None:
            return clash
        known = tree.names()
        hint = _flat_hint(name, tree, known) or _nesting_hint(name, tree.label, known)
        if other.find(name) is not None:
            hint = (
                f"it is in the {other.label}: ask for it with trainable={not trainable}, "
                "as init did, or give params and state in this order."
            )
        # What was found is less likely meant than what nobody asked for yet.
        left = [other for other in known if other not in asked]
        near = near_names(name, left) or near_names(name, known)
        return _not_in_tree(name, tree.label, near=near, sites=places, hint=hint)


class _Tree:
    """Reads a nested mapping of arrays by full names, and never changes it."""

    def __init__(self, label: str, tree: object, *, has_state: bool) -> None:
        if not isinstance(tree, Mapping):
            raise not_a_mapping(label, tree, has_state=has_state)
        if isinstance(tree, Specs):
            refuse_as_tree(tree)
        self.label = label
        self.tree = tree
        self._scopes: dict[str, PyTree] = {"": tree._tree if isinstance(tree, Params) else tree}
        self._converted: dict[str, jax.Array] = {}

    def _scope(self, prefix: str) -> PyTree:
        above = prefix
        while above not in self._scopes:
            above = above.rpartition("/")[0]
        scope = self._scopes[above]
        while above != prefix:  # a loop: scopes may be nested deeper than Python's stack
            start = len(above) + 1 if above else 0
            end = prefix.find("/", start)
            above = prefix if end < 0 else prefix[:end]
            scope = scope.get(above[start:]) if isinstance(scope, Mapping) else None
            if isinstance(scope, Params):
                scope = scope._tree
            self._scopes[above] = scope
        return scope

    def find(self, name: str) -> jax.Array | None:
        prefix, _, last = name.rpartition("/")
        try:
            scope = self._scopes[prefix]
        except KeyError:
            scope = self._scope(prefix)
        if type(scope) is not dict and not isinstance(scope, Mapping):
            return None
        value = scope.get(last)
        if type(value) in _jaxapi.ARRAYS or value is None or isinstance(value, jax.Array):
            return value
        return None if isinstance(value, Mapping) else self._convert(name, value)

    def _convert(self, name: str, value: object) -> jax.Array:
        found = self._converted.get(name)
        if found is None:
            if not isinstance(value, np.ndarray | np.generic | int | float | complex):
                raise _not_an_array(name, value, self.label)
            with jax.ensure_compile_time_eval():  # an array of no trace, the same for every request
                found = self._converted[name] = jax.numpy.asarray(value)
        return found

    def names(self) -> list[str]:
        found = []
        for path, leaf in walk(self.tree):
            for key in path:
                if not isinstance(key, str):
                    raise bad_key(key)
            if not isinstance(leaf, Mapping):
                found.append("/".join(path))
        return found

    def clash(self, name: str, places: tuple[Site, ...]) -> NameClashError | None:
        """The error for a name that is a scope here, or has an array on its path."""
        prefix, _, last = name.rpartition("/")
        scope = self._scope(prefix)
        if isinstance(scope, Mapping) and isinstance(scope.get(last), Mapping):
            return _clash_in_tree(name, self.label, is_scope=True, sites=places)
        while prefix:
            above, _, last = prefix.rpartition("/")
            scope = self._scope(above)
            held = scope.get(last) if isinstance(scope, Mapping) else None
            if held is not None and not isinstance(held, Mapping):
                return _clash_in_tree(name, self.label, is_scope=False, sites=places)
            prefix = above
        return None


def _not_an_array(name: str, value: object, tree: str) -> TreeTypeError:
    found = type(value).__name__
    return TreeTypeError(
        f"The value of {name!r} in the {tree} given to apply is not an array but {found}.",
        {"fix": "pass arrays: jax.Array, NumPy or Python numbers."},
        mismatched={name: ("an array", found)},
    )


def _clash_in_tree(
    name: str, tree: str, *, is_scope: bool, sites: tuple[Site, ...]
) -> NameClashError:
    held = "it is a scope (a mapping)" if is_scope else "a scope on its path is an array"
    return report_at(
        NameClashError,
        f"Variable {name} cannot be read: in the {tree} given to apply {held}.",
        sites,
        f"give {tree} of this function's init, with neither a level more nor a "
        f"level less; {_check_call(tree)} lists every difference at once.",
        name=name,
        other=name,
    )


def _not_in_tree(
    name: str,
    tree: str,
    *,
    near: Iterable[str],
    sites: tuple[Site, ...],
    hint: str | None,
) -> VariableNotFoundError:
    near = tuple([other for other in near if other != name])
    return report_at(
        VariableNotFoundError,
        f"Variable {name} does not exist in the {tree} given to apply.",
        sites,
        hint
        or f"give {tree} of this function's init; {_check_call(tree)} lists "
        "every difference at once.",
        name=name,
        near=near,
        shown=quoted(near),
    )


def _flat_hint(name: str, tree: _Tree, known: list[str]) -> str | None:
    """What to do about a tree whose keys are names of several components."""
    if name in known:
        return f"the names are flat: give jscope.tree.unflatten({tree.label})."
    if "/" in name and name.replace("/", ".") in known:
        return (
            "the names are flat: give jscope.tree.unflatten({name.replace('.', '/'): value for "
            f"name, value in {tree.label}.items()}})."
        )
    return None


def _nesting_hint(name: str, label: str, known: list[str]) -> str | None:
    for other in known:
        if other.endswith("/" + name):
            level = other.removesuffix("/" + name)
            path = "".join(f"[{component!r}]" for component in level.split("/"))
            return f"there is a level too many: give {label}{path}."
        if name.endswith("/" + other):
            level = name.removesuffix("/" + other)
            return f"a level is missing: give {label} in which {level!r} holds what was given."
    return None


def _check_call(tree: str) -> str:
    return f"jscope.check({tree}, specs{'' if tree == 'params' else '.state()'})"


class Replay(Given):
    """Values of the second run of init: sampled ones are given, computed ones are kept."""

    initializing = True

    def __init__(
        self,
        given: Params,
        key: jax.Array | None,
        rules: Rules | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ) -> None:
        super().__init__(given, {}, has_state=True)
        self.layout = Layout(rules, jax.sharding.get_abstract_mesh())
        self._mesh = mesh
        self.computed: dict[str, jax.Array] = {}
        self._key = key
        self._trace = _jaxapi.current_ref()

    def make(
        self, name: str, shape: Shape, dtype: DType, start: Start, facts: Facts
    ) -> jax.Array | None:
        value = self.find(name)
        if value is None and isinstance(start, jax.Array | Program):
            with _jaxapi.within(self._trace()):  # the request may be inside a transform
                found = self._compute(name, start, dtype)
                value = _jaxapi.on_mesh(found, facts.partition, self._mesh)
                self.computed[name] = value
        return value

    def _compute(self, name: str, start: jax.Array | Program, dtype: DType) -> jax.Array:
        if not isinstance(start, Program):
            return jnp.asarray(start, dtype)
        return start(named_key(or_any(self._key), words(name)))

    def read(self, name: str, trainable: bool) -> jax.Array | None:
        return self.computed.get(name, self.find(name))


class NotPlannedError(Exception):
    """A function asked for something else than when it was planned."""


class Inner:
    """Values of a function that was planned, and now runs as a pure one: they are arguments."""

    planning = False
    layout = None

    def __init__(
        self,
        values: Mapping[str, PyTree],
        state: Mapping[str, jax.Array],
        *,
        initializing: bool,
        has_state: bool,
    ) -> None:
        self.initializing = initializing
        self.has_state = has_state
        self._values = values
        self._state = state

    def asked(self, level: Level | None, name: str) -> PyTree:
        """The answer to a request from ``level``."""
        while level is not None:
            if name in level.values:
                return level.values[name]
            level = level.parent
        found = self._values if name in self._values else self._state
        if name not in found:
            raise NotPlannedError(f"it asked for {name}, which it did not ask for before")
        return found[name]

    def make(
        self, name: str, shape: Shape, dtype: DType, start: Start, facts: Facts
    ) -> jax.Array | None:
        raise AssertionError(name)  # nothing is made

    def read(self, name: str, trainable: bool) -> jax.Array | None:
        return self.find(name, trainable)

    def find(self, name: str, trainable: bool = True) -> jax.Array | None:
        return (self._values if trainable else self._state).get(name)

    def names(self) -> list[str]:
        return [*self._values, *self._state]

    def state_names(self) -> list[str]:
        return list(self._state)

    def refuse(
        self, name: str, places: tuple[Site, ...], trainable: bool, asked: Container[str]
    ) -> Exception:
        return NotPlannedError(f"it asked for {name}, which it did not ask for before")

"""How ``default_name`` is numbered: ``dense``, ``dense_1``, ... below each scope, as in TF1."""

from __future__ import annotations

from jscope._calls import Place, is_rerun
from jscope._names import join


class ScopeNode:
    """Which scopes were opened below one scope, for numbering ``default_name``."""

    __slots__ = ("always", "below", "free", "open", "opened_by")

    def __init__(self) -> None:
        self.below: dict[str, ScopeNode] = {}
        # Default name and place -> a number below which all are taken there; of an empty place, a
        # number below which all are taken everywhere.
        self.free: dict[tuple[str, Place], int] = {}
        self.open = 0  # how often this scope is open right now
        self.always = False  # opened where JAX calls nothing, so every request sees it
        self.opened_by: tuple[Place, ...] = ()

    def child(self, name: str) -> ScopeNode:
        node = self
        for component in name.split("/"):
            found = node.below.get(component)
            if found is None:
                found = node.below[component] = ScopeNode()
            node = found
        return node

    @property
    def is_known(self) -> bool:
        """Whether the scope, or one below it, was opened before."""
        return self.always or bool(self.opened_by) or bool(self.below)

    def count_opening(self, place: Place) -> None:
        if not place:
            self.always = True
        elif place not in self.opened_by:
            self.opened_by += (place,)

    def _is_taken(self, place: Place) -> bool:
        # What another run of the same call opened does not count: JAX repeated it.
        return self.always or any(
            not is_rerun(earlier, place, exactly=True) for earlier in self.opened_by
        )

    def unique(self, name: str, place: Place) -> str:
        """``name``, ``name_1``, ... : the first that is not taken."""
        if not self.child(name)._is_taken(place):
            return name
        number = max(self.free.get((name, known), 1) for known in ((), place))
        while self.child(f"{name}_{number}")._is_taken(place):
            number += 1
        self.free[name, place] = number
        return f"{name}_{number}"

    def close(self) -> None:
        """Numbers below a scope start afresh once it is open nowhere, as in TF1."""
        if not self.open:
            self.below.clear()
            self.free.clear()


class Numbering:
    """The scopes that a pass opened, and the names that it made by numbering."""

    __slots__ = ("_root", "numbered")

    def __init__(self) -> None:
        self._root = ScopeNode()
        self._root.open = 1
        self.numbered: set[str] = set()

    def node(self, scope: str) -> ScopeNode:
        """What was opened below a scope, given by its full name."""
        return self._root.child(scope) if scope else self._root

    def unique(self, scope: str, default_name: str, place: Place) -> str:
        """``default_name``, or the first numbered name that is not taken below a scope."""
        name = self.node(scope).unique(default_name, place)
        self.numbered.add(join(scope, name))
        return name

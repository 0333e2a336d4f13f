"""Every key and every fold of one: of names, of draws, of layers and iterations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

from jscope._report import describe, is_shaped
from jscope.errors import RngError


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


def draw_name(scope: str, number: int) -> str:
    """What the draw ``number`` of a scope is called among keys that are given."""
    return f"{scope}#{number}"


def _encode(name: str) -> bytes:
    texts = [component.encode() for component in name.split("/")]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _words(digest: hashlib.blake2b) -> np.ndarray:
    return np.frombuffer(digest.digest(), dtype="<u4").astype(np.uint32)


def named_key(key: jax.Array, words: np.ndarray | jax.Array) -> jax.Array:
    """The key of the variable, or of the draw, that has these words."""
    return jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1])


def or_any(key: jax.Array | None) -> jax.Array:
    """A key where there is none, for what draws nothing."""
    return jax.random.key(0) if key is None else key


def numbered_key(key: jax.Array, numbers: Iterable[Any]) -> jax.Array:
    """The key of one layer, instance or iteration: its number first, then those around it."""
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def after(key: jax.Array) -> jax.Array:
    """The key of a carry whose function has drawn from ``key``."""
    return jax.random.fold_in(key, _AFTER)


_AFTER = 0x6E657874
"""The text "next"."""


Fold: TypeAlias = Callable[[], ArrayLike]
"""Gives the number of this iteration, layer or instance."""


class Keys:
    """What one function of the pass draws from.

    Attributes:
      key: None where there is no randomness.
      folds: Numbers of this iteration and of those around it, innermost first.
      counts: How many keys were drawn in each scope.
      given: The keys of draws, where they do not follow from ``key``: those of ``draw_name``.
    """

    __slots__ = ("_forks", "counts", "folds", "given", "key")

    def __init__(
        self,
        key: jax.Array | None,
        folds: tuple[Fold, ...] = (),
        counts: Mapping[str, int] | None = None,
        given: Mapping[str, jax.Array] | None = None,
    ) -> None:
        self.key = key
        self.given = given
        self.folds = folds
        self.counts = dict(counts or {})
        self._forks: list[_Fork] = []

    def draw(self, scope: str) -> jax.Array:
        """The next key of a scope; the caller has made sure that there is one."""
        number = self.counts.get(scope, 0)
        self.counts[scope] = number + 1
        return numbered_key(self.named(scope, number), (fold() for fold in self.folds))

    def named(self, scope: str, number: int) -> jax.Array:
        """The key of the draw ``number`` of a scope, the same for all iterations and layers."""
        if self.given is not None:
            return self.given[draw_name(scope, number)]
        assert self.key is not None
        return named_key(self.key, draw_words(scope, number))

    def raise_counts(self, counts: Mapping[str, int]) -> None:
        """Notes draws of a function that was run inside this one."""
        _raise(self.counts, counts)

    def enter_branches(self, branches: tuple[tuple[Hashable, Hashable], ...]) -> None:
        """To be called before draws, with the raw ``cond`` and ``switch`` calls around them.

        Only one branch runs. So each starts from the counts at the ``cond``, as in the program
        without it, and what follows the ``cond`` continues after the branch that drew most.
        """
        depth = 0
        while depth < min(len(branches), len(self._forks)):
            fork, (call, branch) = self._forks[depth], branches[depth]
            if fork.call != call:
                break
            depth += 1
            if fork.branch != branch:
                self._leave(depth)
                _raise(fork.most, self.counts)
                fork.branch = branch
                self.counts = dict(fork.start)
        self._leave(depth)
        for call, branch in branches[depth:]:
            self._forks.append(_Fork(call, branch, dict(self.counts)))

    def _leave(self, depth: int) -> None:
        while len(self._forks) > depth:
            self.raise_counts(self._forks.pop().most)


class _Fork:
    """A raw ``cond`` or ``switch`` whose branches are being traced."""

    __slots__ = ("branch", "call", "most", "start")

    def __init__(self, call: Hashable, branch: Hashable, start: dict[str, int]) -> None:
        self.call = call
        self.branch = branch
        self.start = start
        self.most: dict[str, int] = {}


def _raise(counts: dict[str, int], others: Mapping[str, int]) -> None:
    for scope, count in others.items():
        counts[scope] = max(count, counts.get(scope, 0))


Rng: TypeAlias = jax.Array | np.ndarray | int | None


def is_key(dtype: Any) -> bool:
    """Whether a dtype is that of typed keys."""
    return bool(jax.numpy.issubdtype(dtype, jax.dtypes.prng_key))


def as_key(rng: Any) -> jax.Array | None:
    """A typed key of a typed key, a legacy ``uint32[2]`` key, an int seed, or None.

    Raises:
      RngError: (ValueError) ``rng`` is none of these.
    """
    if rng is None:
        return None
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool):
        return _from_seed(int(rng), repr(rng))
    if not is_shaped(rng) or isinstance(rng, jax.ShapeDtypeStruct):
        raise _not_a_key(f"{rng!r} of type {type(rng).__name__}")
    shape, dtype = rng.shape, rng.dtype
    if is_key(dtype):
        if shape == ():
            key: jax.Array = rng
            return key
    elif shape == () and np.issubdtype(dtype, np.integer):
        return _from_seed(rng, describe(rng))
    elif len(shape) == 1 and dtype == np.uint32:
        try:
            wrapped: jax.Array = jax.random.wrap_key_data(jax.numpy.asarray(rng))
            return wrapped
        except (TypeError, ValueError):
            pass
    raise _not_a_key(describe(rng))


def _from_seed(seed: int | jax.Array, shown: str) -> jax.Array:
    try:
        return jax.random.key(seed)
    except (OverflowError, TypeError, ValueError):
        raise _not_a_key(shown) from None


def _not_a_key(rng: str) -> RngError:
    return RngError(
        f"rng must be a key, an int seed or None, got {rng}.",
        {"fix": "pass jax.random.key(0), jax.random.PRNGKey(0), an int, or None."},
        rng=rng,
    )

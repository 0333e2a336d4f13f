"""Params of Haiku, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from jscope._check import check
from jscope._params import NestedMapping, Params, PyTree
from jscope.interop._names import check_mapping, params_under, wrong_kind
from jscope.tree._names import flatten

Modules: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Name of a module -> name in it -> array, as Haiku has params and state."""

_FORM = "pass what Haiku's init returned: {'mlp/~/linear_0': {'w': array}}."


def from_haiku(params: Modules) -> Params:
    """Params under the names that Haiku gave, without the parts that start with ``~``.

    Such a part, ``~`` or ``~encode``, says which method made a module. The two levels of Haiku
    become nested scopes, one for each component.

    Args:
      params: Haiku's params or state, ``{"mlp/~/linear_0": {"w": array}}``; or
        ``jax.ShapeDtypeStruct`` in place of arrays.

    Returns:
      Params with the same arrays.

    Raises:
      CheckError: (ValueError) ``params`` is not a mapping of such mappings.
      NameClashError: (ValueError) two names meet, as ``a/~/b`` and ``a/b``, or one is a scope of
        the other.
      InvalidNameError: (ValueError) a name cannot be one here.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> js.interop.from_haiku({"mlp/~/linear_0": {"w": jnp.ones([3, 4])}})
      Params({'mlp': {'linear_0': {'w': float32[3,4]}}})
    """
    items = _items(params)
    names = [_name(module, name) for module, name, _ in items]

    def origin(number: int) -> str:
        module, name, _ = items[number]
        return f"{name!r} of module {module!r}"

    return params_under(names, (leaf for _, _, leaf in items), origin)


def to_haiku(params: NestedMapping, *, like: Modules) -> dict[str, dict[str, PyTree]]:
    """Params in the form and under the names of Haiku's; the inverse of ``from_haiku``.

    Args:
      params: Nested mapping of arrays, such as Params.
      like: Haiku's params or state, whose names, shapes and dtypes are wanted: arrays, or
        ``jax.ShapeDtypeStruct`` as of ``jax.eval_shape(net.init, ...)``.

    Returns:
      ``{"mlp/~/linear_0": {"w": array}}`` with the same arrays.

    Raises:
      CheckError: (ValueError) lists every missing, unexpected and mismatched name; or one of the
        two is no such mapping.
      NameClashError: (ValueError) two names of ``like`` meet.
      InvalidNameError: (ValueError) a name of ``like`` cannot be one here.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> theirs = {"mlp/~/linear_0": {"w": jnp.zeros([2])}}
      >>> ours = js.Params({"mlp": {"linear_0": {"w": jnp.ones([2])}}})
      >>> js.interop.to_haiku(ours, like=theirs)
      {'mlp/~/linear_0': {'w': Array([1., 1.], dtype=float32)}}
    """
    check(params, from_haiku(like))
    flat = flatten(params)
    return {
        module: {name: flat[_name(module, name)] for name in members}
        for module, members in like.items()
    }


def _name(module: str, name: str) -> str:
    """The full name here of a name in a module of Haiku."""
    return "/".join(part for part in [*module.split("/"), name] if not part.startswith("~"))


def _items(params: Modules) -> list[tuple[str, str, PyTree]]:
    """The module, name and leaf of each variable."""
    check_mapping("Haiku's params", params, _FORM)
    found = []
    for module, members in params.items():
        check_mapping(f"What Haiku's params hold under {module!r}", members, _FORM)
        for name, leaf in members.items():
            if (
                isinstance(leaf, Mapping)
                or not isinstance(module, str)
                or not isinstance(name, str)
            ):
                raise _no_variable(module, name, leaf)
            found.append((module, name, leaf))
    return found


def _no_variable(module: object, name: object, leaf: object) -> Exception:
    return wrong_kind(
        f"Haiku's params have text for names and an array for each, got {name!r} of module "
        f"{module!r} with {type(leaf).__name__}.",
        _FORM,
    )

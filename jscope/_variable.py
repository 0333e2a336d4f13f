"""get_variable."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Never, TypeAlias

import jax
from jax.typing import DTypeLike

from jscope import _pass
from jscope._getter import ask
from jscope._names import check_name, is_name, not_a_name
from jscope._others import check_others
from jscope._request import Request
from jscope._settings import CustomGetter, check_getter
from jscope._spec import Constraint, InitializerLike, Partitioner, Regularizer

ShapeLike: TypeAlias = int | Iterable[int | None]

_KNOWN = [*(name for name in Request._fields if name != "reuse"), "custom_getter"]
_GONE = ("aggregation", "caching_device", "synchronization", "use_resource", "validate_shape")


def get_variable(
    name: str,
    shape: ShapeLike | None = None,
    dtype: DTypeLike | None = None,
    initializer: InitializerLike = None,
    *,
    regularizer: Regularizer | None = None,
    trainable: bool | None = True,
    collections: Iterable[str] | None = None,
    constraint: Constraint | None = None,
    partitioner: Partitioner = None,
    custom_getter: CustomGetter | None = None,
    **others: Never,
) -> jax.Array:
    """Makes or shares the variable ``name`` of the open scope, as in TF1.

    Works inside every raw JAX transform, in init and in apply. Returns the array itself, the same
    object for every request of a name: in init a placeholder of its type, on the mesh that is set.
    Everything is checked while tracing; nothing is left at run time.

    Args:
      name: Relative to the open scope; may hold slashes, ``"a/v"`` is ``v`` in the scope ``a``.
      shape: Sizes; an int stands for one axis, ``[]`` for a scalar. May be left out where the
        initializer is a constant or the variable is shared; there, ``None`` dimensions match any
        size.
      dtype: Any JAX dtype, that of typed keys too. Else the constant's, else the scope's, else
        float32. A shared variable is checked against it only if the argument, a constant or a
        scope asked for one.
      initializer: ``f(key, shape, dtype) -> array`` as in ``jax.nn.initializers``, called here when
        the variable is made; a constant; or an array computed in the function. Else the scope's,
        else by dtype: glorot_uniform for floats (of any rank, as in TF1), zeros for integers and
        bools.
      regularizer: Function of the value, kept in the spec. Else the scope's; ``no_regularizer``
        switches it off.
      trainable: Whether it lives in params; if not, in the state of ``transform_with_state``, where
        ``jscope.assign`` can change it. The first request decides, as in TF1.
      collections: Names of collections, kept in the spec.
      constraint: Function of the value, kept in the spec. Else the scope's.
      partitioner: How the variable is laid out, kept in the spec. Else the scope's.
      custom_getter: Replaces the scopes' getters for this request, as in TF1.
      **others: Arguments of TF1's that ask for nothing here, such as ``use_resource``; any other is
        an ArgumentError that says which was meant.

    Returns:
      The array, of the variable's shape and dtype; with a custom getter, whatever it returns.

    Raises:
      NoPassError: (RuntimeError) called outside init, apply and specs.
      InvalidNameError: (ValueError) the name is not valid; NameTypeError if it is no string.
      NameClashError: (ValueError) the name is a scope's, or a component of it is a variable's.
      VariableExistsError: (ValueError) asked for twice where reuse is False.
      VariableNotFoundError: (ValueError) asked for under ``reuse=True`` before it was made, or
        missing from the params given to apply.
      VariableMismatchError: (ValueError) found with another shape or dtype.
      InitializerError: (ValueError) no shape, no default initializer, or one that does not agree.
      StateError: (ValueError) ``trainable=False`` under ``jscope.transform``, or of a variable that
        was made trainable; or a trainable key.
      ArgumentError: (ValueError, TypeError) another argument cannot be used.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def dense(x, units):
      ...     kernel = js.get_variable("kernel", [x.shape[-1], units])
      ...     bias = js.get_variable("bias", [units], initializer=jax.nn.initializers.zeros)
      ...     return x @ kernel + bias
      >>> net = js.transform(lambda x: dense(x, 4))
      >>> net.init(jax.random.key(0), jnp.ones([2, 3]))
      Params({'kernel': float32[3,4], 'bias': float32[4]})
    """
    if others:
        check_others("get_variable", others, _KNOWN, _GONE)
    running = _pass.current("get_variable")
    if type(name) is not str and not isinstance(name, str):
        raise not_a_name(name)
    if not is_name(name):
        check_name(name, "variable")
    settings = running.settings
    asked = Request(
        f"{running.prefix}/{name}" if running.prefix else name,
        shape,
        dtype,
        initializer,
        regularizer,
        settings.reuse,
        trainable,
        collections,
        partitioner,
        constraint,
    )
    getter = None if custom_getter is None else check_getter(custom_getter)
    value: jax.Array = ask(running, asked, getter, inherits=True)
    return value

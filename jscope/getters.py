"""Ready custom getters: ``variable_scope("net", custom_getter=js.getters.cast(jnp.bfloat16))``.

A getter stands between code that asks for variables and the variables: code that somebody else
wrote can be frozen, cast, renamed or adapted without a change. Getters of nested scopes compose,
the innermost is called first. Each here is a few lines; write your own the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jscope import tree
from jscope._variable import CustomGetter, no_regularizer
from jscope.errors import ArgumentError, VariableNotFoundError

__all__ = [
    "cast",
    "freeze",
    "initial_values",
    "low_rank",
    "moving_average",
    "rename",
    "weight_normalization",
]

_Names: TypeAlias = Any


def cast(compute: Any, *, store: Any = jnp.float32) -> CustomGetter:
    """Stores variables of floats in one dtype and hands them out in another.

    Args:
      compute: Dtype of the values that the code gets, such as ``jnp.bfloat16``.
      store: Dtype of the variables in params, whatever float dtype the code asks for.

    Returns:
      A custom getter; integers and bools pass as they are.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("net", custom_getter=js.getters.cast(jnp.bfloat16)):
      ...         return js.get_variable("w", [2])
      >>> net = js.transform(fn)
      >>> params = net.init(0)
      >>> params["net"]["w"].dtype, net.apply(params, None).dtype
      (dtype('float32'), dtype(bfloat16))
    """

    def getter(getter: CustomGetter, name: str, **request: Any) -> Any:
        if not jnp.issubdtype(request["dtype"], jnp.floating):
            return getter(name, **request)
        return getter(name, **{**request, "dtype": store}).astype(compute)

    return getter


def freeze(names: _Names = "") -> CustomGetter:
    """Stops gradients: variables stay in params, and an optimizer gets gradients of zero for them.

    Args:
      names: Which variables: a pattern of ``jscope.tree``, of full names. All by default.

    Returns:
      A custom getter.

    Example:
      >>> import jax
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("base", custom_getter=js.getters.freeze()):
      ...         w = js.get_variable("w", initializer=2.0)
      ...     return w * js.get_variable("v", initializer=3.0)
      >>> net = js.transform(fn)
      >>> gradient = jax.grad(net.apply)(net.init(0), None)
      >>> gradient["base"]["w"].item(), gradient["v"].item()
      (0.0, 2.0)
    """

    def getter(getter: CustomGetter, name: str, **request: Any) -> Any:
        value = getter(name, **request)
        return jax.lax.stop_gradient(value) if _matches(names, name, value) else value

    return getter


def rename(names: Mapping[str, str]) -> CustomGetter:
    r"""Gives variables other names: for checkpoints of another dialect, say.

    Args:
      names: Regular expression -> replacement, as in ``re.sub``, applied to full names in turn.

    Returns:
      A custom getter.

    Example:
      >>> import jscope as js
      >>> slim = js.getters.rename({r"/kernel$": "/weights", r"/bias$": "/biases"})
      >>> def fn():
      ...     with js.variable_scope("conv1", custom_getter=slim):
      ...         js.get_variable("kernel", [2])
      ...         js.get_variable("bias", [2])
      >>> list(js.transform(fn).specs())
      ['conv1/weights', 'conv1/biases']
    """
    compiled = [(re.compile(pattern), new) for pattern, new in dict(names).items()]

    def getter(getter: CustomGetter, name: str, **request: Any) -> Any:
        for pattern, new in compiled:
            name = pattern.sub(new, name)
        return getter(name, **request)

    return getter


def moving_average(averages: Mapping[str, Any]) -> CustomGetter:
    """Reads averages in place of the variables, as TF1 code did with ``ema.average``.

    Args:
      averages: Nested mapping like params, or full name -> array; for example of ``optax.ema`` or
        ``optax.incremental_update``.

    Returns:
      A custom getter. Variables that the averages do not hold are read themselves.

    Raises:
      VariableMismatchError: (ValueError) from the request, if an average has another shape.

    Example:
      >>> import jscope as js
      >>> def fn(averages=None):
      ...     getter = js.getters.moving_average(averages) if averages else None
      ...     with js.variable_scope("net", custom_getter=getter):
      ...         return js.get_variable("w", initializer=2.0)
      >>> net = js.transform(fn)
      >>> net.apply(net.init(0), None, {"net": {"w": 5.0}}).item()
      5.0
    """
    flat = _flat(averages)

    def getter(getter: CustomGetter, name: str, **request: Any) -> Any:
        value = getter(name, **request)
        average = flat.get(name)
        if average is None:
            return value
        average = jnp.asarray(average)
        if average.shape != value.shape:
            raise ArgumentError.make(f"average of {name}", average, f"of shape {value.shape}")
        return average.astype(value.dtype)

    return getter


def initial_values(values: Mapping[str, Any], *, strict: bool = False) -> CustomGetter:
    """Starts variables from given values instead of their initializers, as ELMo's loader did.

    Args:
      values: Nested mapping, or full name -> array.
      strict: Whether every variable must be there.

    Returns:
      A custom getter. Shapes must agree; the dtype asked for is kept.

    Raises:
      VariableNotFoundError: (ValueError) from the request, if strict and a name is missing.
      InitializerError: (ValueError) from the request, if a value has another shape.

    Example:
      >>> import numpy as np
      >>> import jscope as js
      >>> pretrained = {"lm/embedding": np.ones([5, 2], np.float32)}
      >>> def fn():
      ...     with js.variable_scope("lm", custom_getter=js.getters.initial_values(pretrained)):
      ...         js.get_variable("embedding", [5, 2])
      >>> js.transform(fn).init(0)["lm"]["embedding"].sum().item()
      10.0
    """
    flat = _flat(values)

    def getter(getter: CustomGetter, name: str, **request: Any) -> Any:
        if name in flat:
            value = np.asarray(flat[name]).astype(request["dtype"])
            request["initializer"] = value
        elif strict:
            raise VariableNotFoundError.in_values(name, known=flat)
        return getter(name, **request)

    return getter


def weight_normalization(names: _Names = "") -> CustomGetter:
    """Splits a variable into direction and length (Salimans and Kingma 2016): w = g v / |v|.

    Args:
      names: Which variables: a pattern of ``jscope.tree``. Those of less than two axes pass as they
        are, as biases do.

    Returns:
      A custom getter. ``kernel`` of shape [..., units] becomes ``kernel_v`` of that shape and
      ``kernel_g`` [units], which starts at 1.

    Example:
      >>> import jax.numpy as jnp
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("a", custom_getter=js.getters.weight_normalization()):
      ...         return js.get_variable("kernel", [3, 4])
      >>> net = js.transform(fn)
      >>> params = net.init(0)
      >>> params
      Params({'a': {'kernel_v': float32[3,4], 'kernel_g': float32[4]}})
      >>> bool(jnp.allclose(jnp.linalg.norm(net.apply(params, None), axis=0), 1))
      True
    """

    def getter(getter: CustomGetter, name: str, **request: Any) -> Any:
        shape = request["shape"]
        if shape is None or len(shape) < 2 or not _matches(names, name, None):
            return getter(name, **request)
        direction = getter(f"{name}_v", **request)
        one = jax.nn.initializers.ones
        plain = {**request, "regularizer": no_regularizer, "constraint": no_regularizer}
        length = getter(f"{name}_g", **{**plain, "shape": shape[-1:], "initializer": one})
        axes = tuple(range(len(shape) - 1))
        norm = jnp.sqrt(jnp.sum(jnp.square(direction), axes, keepdims=True))
        return direction * (jnp.reshape(length, norm.shape) / norm)

    return getter


def low_rank(
    rank: int, *, scale: float = 1.0, names: _Names = "**/kernel", train_base: bool = False
) -> CustomGetter:
    """Adapts frozen matrices by low-rank ones (LoRA, Hu et al. 2021): w + scale / rank * a b.

    Args:
      rank: Inner size of the product.
      scale: LoRA's alpha.
      names: Which variables: a pattern of ``jscope.tree``. Only matrices, [..., in, out] flattened
        to [any, out], are adapted.
      train_base: Whether gradients reach the adapted variables themselves.

    Returns:
      A custom getter. ``kernel`` [in, out] gets ``kernel_a`` [in, rank], random, and ``kernel_b``
      [rank, out], zeros, beside it, so that nothing changes at first. All other variables are
      frozen unless ``train_base``.

    Raises:
      ArgumentError: (ValueError, TypeError) ``rank`` is not a positive int.

    Example:
      >>> import jscope as js
      >>> def fn():
      ...     with js.variable_scope("a", custom_getter=js.getters.low_rank(2)):
      ...         return js.get_variable("kernel", [8, 4])
      >>> js.transform(fn).init(0)
      Params({'a': {'kernel': float32[8,4], 'kernel_a': float32[8,2], 'kernel_b': float32[2,4]}})
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ArgumentError.make("rank", rank, "an int of 1 or more")

    def getter(getter: CustomGetter, name: str, **request: Any) -> Any:
        base = getter(name, **request)
        if not train_base:
            base = jax.lax.stop_gradient(base)
        if base.ndim < 2 or not _matches(names, name, base):
            return base
        inputs, outputs = base.size // base.shape[-1], base.shape[-1]
        plain = {
            **request,
            "dtype": base.dtype,
            "regularizer": no_regularizer,
            "constraint": no_regularizer,
            "partitioner": None,
        }
        small = jax.nn.initializers.normal(1 / np.sqrt(inputs))
        a = getter(f"{name}_a", **{**plain, "shape": [inputs, rank], "initializer": small})
        zeros = jax.nn.initializers.zeros
        b = getter(f"{name}_b", **{**plain, "shape": [rank, outputs], "initializer": zeros})
        return base + jnp.reshape(a @ b, base.shape) * jnp.asarray(scale / rank, base.dtype)

    return getter


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Full name -> leaf, of a nested mapping or of one that is flat already."""
    if not isinstance(values, Mapping):
        raise ArgumentError.make("argument of a getter", values, "a mapping of names to arrays")
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = tree.flatten(value) if isinstance(value, Mapping) else {"": value}
        flat.update({f"{key}/{name}".rstrip("/"): leaf for name, leaf in inner.items()})
    return flat


def _matches(names: _Names, name: str, value: Any) -> bool:
    found: Callable[..., Any] = tree.select
    return bool(found(tree.unflatten({name: value}), names, allow_empty=True))

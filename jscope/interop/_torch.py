"""Params of PyTorch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jscope._params import Params, PyTree, is_array
from jscope._report import brief, dims, is_shaped
from jscope.errors import ArgumentError, TreeTypeError
from jscope.interop._names import check_mapping, params_under, wrong_kind
from jscope.io._checkpoint import Checkpoint
from jscope.io._convert import kernel_axes
from jscope.tree._names import Item
from jscope.tree._patterns import Pattern, choose

_MOST_AXES = 5  # out, in and three of a window


def from_torch(mapping: Mapping[str, Any], kernels: Pattern | None = None) -> Params:
    """Params of a PyTorch ``state_dict``, or of a file of one: dots become scopes.

    PyTorch calls the scale of a norm, the table of an embedding and the kernel of a layer
    ``weight`` alike, so ``kernels`` tells which are kernels. Those alone are renamed and
    transposed: a linear layer's [out, in] to [in, out], a convolution's [out, in, ...window] to
    [...window, in, out], and with them a transposed convolution's [in, out, ...window] to
    [...window, out, in], all as ``jscope.layers`` have them.

    Args:
      mapping: Dotted names -> tensors of PyTorch, of any dtype and strides, or arrays; read one at
        a time, so it may be a ``jscope.io.Checkpoint``.
      kernels: Pattern of ``jscope.tree`` on the names with slashes, such as ``"**/query/weight"``,
        or with dots, ``"encoder.*.weight"``: what it selects is called ``weight``, and ``kernel``
        in the result.

    Returns:
      Params of copies, as arrays of JAX. Where JAX has no such dtype now, as int64 and float64
      without ``jax_enable_x64``, the array stays one of NumPy, so that no value changes.

    Raises:
      CheckError: (ValueError) ``mapping`` is no mapping of text to tensors or arrays.
      EmptySelectionError: (ValueError) ``kernels``, or one of its patterns, selects nothing.
      ArgumentError: (ValueError, TypeError) ``kernels`` selects what is not called ``weight`` or
        has not two to five axes; or is no pattern.
      NameClashError: (ValueError) one name is a scope of another, as ``a`` of ``a.b``.
      InvalidNameError: (ValueError) a name cannot be one here.

    Example:
      >>> import numpy as np
      >>> import jscope as js
      >>> state_dict = {
      ...     "embed.weight": np.ones([9, 3], np.float32),
      ...     "head.weight": np.ones([2, 3], np.float32),
      ...     "head.bias": np.ones([2], np.float32),
      ... }
      >>> js.interop.from_torch(state_dict, kernels="head/weight")
      Params({'embed': {'weight': float32[9,3]},
              'head': {'kernel': float32[3,2], 'bias': float32[2]}})
    """
    is_path = isinstance(mapping, str | os.PathLike)
    fix = "open the file: jscope.io.open(path)." if is_path else "pass module.state_dict()."
    check_mapping("The state_dict", mapping, fix)
    items = [(_slashed(name), leaf) for name, leaf in _leaves(mapping)]
    taken = [False] * len(items)
    if kernels is not None:
        kernels = _with_slashes(kernels)
        taken = choose(kernels, items, allow_empty=None)
        _check_kernels(kernels, [item for item, kernel in zip(items, taken, strict=True) if kernel])
    names = [
        _kernel(name) if kernel else name for (name, _), kernel in zip(items, taken, strict=True)
    ]
    olds = list(mapping)
    leaves = (_array(old, mapping[old], kernel) for old, kernel in zip(olds, taken, strict=True))
    return params_under(names, leaves, lambda number: f"{olds[number]!r}")


def _leaves(mapping: Mapping[str, Any]) -> list[Item]:
    """Names and leaves, for the tensors of a file their shapes, which cost no reading."""
    if not isinstance(mapping, Checkpoint):
        return list(mapping.items())
    dtypes = mapping.dtypes
    return [(name, jax.ShapeDtypeStruct(x, dtypes[name])) for name, x in mapping.shapes.items()]


def _slashed(name: object) -> str:
    if not isinstance(name, str):
        raise wrong_kind(
            f"The names of a state_dict are text, got {brief(name)}.", "pass module.state_dict()."
        )
    return name.replace(".", "/")


def _with_slashes(pattern: Pattern) -> Pattern:
    """Paths and globs that are written as PyTorch's names are; no name has dots any more."""
    if isinstance(pattern, str):
        return pattern.replace(".", "/")
    if isinstance(pattern, list | tuple | set):
        return [_with_slashes(one) for one in pattern]
    return pattern


def _kernel(name: str) -> str:
    return name.removesuffix("weight") + "kernel"


def _check_kernels(kernels: Pattern, taken: Sequence[Item]) -> None:
    others = [repr(name) for name, _ in taken if name.rpartition("/")[2] != "weight"]
    if others:
        raise _not_kernels(
            kernels, others, "not called 'weight'", "narrow it to kernels, as '**/query/weight'."
        )
    others = [
        f"{name!r} {dims(leaf.shape)}"
        for name, leaf in taken
        if is_shaped(leaf) and not 2 <= len(leaf.shape) <= _MOST_AXES
    ]
    if others:
        raise _not_kernels(
            kernels,
            others,
            "not of two to five axes",
            "leave out what is no kernel: the weight of a norm is its scale.",
        )


def _not_kernels(kernels: Pattern, others: Sequence[str], what: str, fix: str) -> ArgumentError:
    shown = ", ".join(others[:3]) + (f", ... ({len(others)} in all)" if len(others) > 3 else "")
    return ArgumentError(
        f"The pattern of kernels selects what is {what}: {shown}.",
        {"fix": fix},
        argument="kernels",
        value=brief(kernels),
    )


def _array(name: str, leaf: PyTree, kernel: bool) -> jax.Array | np.ndarray:
    """A copy, with the axes of a kernel in their order here."""
    torch = sys.modules.get("torch")  # no tensor of it can be there without it
    if torch is not None and isinstance(leaf, torch.Tensor):
        array = _of_tensor(name, leaf, torch)
    elif is_array(leaf) and leaf.dtype.names is None and not isinstance(leaf, jax.ShapeDtypeStruct):
        array = leaf
    else:
        of_what = f" of {leaf.dtype}" if is_shaped(leaf) else ""
        raise _no_tensor(name, type(leaf).__name__ + of_what)
    if kernel:
        array = array.transpose(kernel_axes(array.ndim))
    # JAX would narrow what it cannot hold with the options that are set now.
    if isinstance(array, jax.Array) or jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype:
        return jnp.array(array)
    return np.array(array, order="C")


def _of_tensor(name: str, tensor: Any, torch: Any) -> np.ndarray:
    """The values of a tensor, in memory that may be its own."""
    try:
        dtype = jnp.dtype(str(tensor.dtype).removeprefix("torch."))
        plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        # By bytes, because NumPy has not all of the dtypes by itself.
        data = plain.reshape(-1).view(torch.uint8).numpy()
    except (TypeError, RuntimeError, NotImplementedError):  # quantized, sparse, of no memory
        raise _no_tensor(
            name, f"{tensor.dtype} of layout {tensor.layout} on {tensor.device}"
        ) from None
    found: np.ndarray = data.view(dtype).reshape(tuple(tensor.shape))
    return found


def _no_tensor(name: str, found: str) -> TreeTypeError:
    return wrong_kind(
        f"The value of {name!r} is no tensor or array of numbers: {found}.",
        "pass the state_dict itself, as checkpoint['model'], and leave out what is no tensor.",
    )

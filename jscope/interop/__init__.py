"""Weights and names of other libraries: Haiku, NNX, PyTorch; and nets inside NumPyro's models.

Flax Linen needs nothing: its trees are nested mappings of names, and ``apply`` takes them as they
are, ``js.Params(variables["params"])`` for params and ``js.Params(variables["batch_stats"])`` for
state. Names that are not the net's own are changed by ``jscope.tree.rename``, or by the map of
``jscope.restore``.
"""

from typing import TYPE_CHECKING

from jscope._hints import watch
from jscope.interop._haiku import from_haiku, to_haiku
from jscope.interop._nnx import from_nnx
from jscope.interop._torch import from_torch

if TYPE_CHECKING:  # below it is imported at its first use, for few need it
    import jscope.interop.numpyro as numpyro

__all__ = ["from_haiku", "from_nnx", "from_torch", "numpyro", "to_haiku"]


def __dir__() -> list[str]:
    return __all__


watch(__name__, {"numpyro": "jscope.interop.numpyro"})

"""Which programs can be computed in parts, on several devices, with the bits of the whole."""

from __future__ import annotations

from jscope._jaxapi import Inspected, Jaxpr

# What computes each element by itself, or moves elements. All else may sum in another order where
# an array is divided: such programs run whole. Random bits are of threefry, as others depend on how
# they are divided: that is asked of the key.
_NAMES = """
abs acos acosh add and asin asinh atan atan2 atanh bitcast_convert_type broadcast_in_dim cbrt
ceil clamp concatenate convert_element_type copy cos cosh digamma div dynamic_slice eq erf
erf_inv erfc exp exp2 expand_dims expm1 floor ge gt integer_pow iota is_finite le lgamma log
log1p logistic lt max min mul ne neg nextafter not or pad pow random_bits random_fold_in
random_gamma random_split reduce_precision rem reshape rev round rsqrt select_n
shift_left shift_right_arithmetic shift_right_logical sign sin sinh slice sqrt square squeeze
stop_gradient sub tan tanh transpose xor
"""
_PER_ELEMENT = frozenset(_NAMES.split())
_CALLS = frozenset(["closed_call", "custom_jvp_call", "jit", "pjit"])


def is_divisible(jaxpr: Jaxpr) -> bool:
    """Whether each element of its results is computed by itself, but for threefry's random bits."""
    return all(map(_is_per_element, jaxpr.eqns))


def _is_per_element(eqn: Inspected) -> bool:
    name = eqn.primitive.name
    if name not in _CALLS:
        return name in _PER_ELEMENT
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    return is_divisible(inner.jaxpr)

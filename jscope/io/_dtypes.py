"""The dtypes of files: numbers of TensorFlow, words of safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np


def is_numpys(dtype: np.dtype[Any]) -> bool:
    """Whether it is a dtype of numbers that NumPy has of itself: none of ml_dtypes, no text."""
    return dtype.kind in "biufc" and dtype.type.__module__ == "numpy"


# TensorFlow

_REFERENCE = 100
"""Added to the number of a dtype where a variable is meant rather than its value."""

# Quantized integers are stored as the integers that they are.
_ARRAYS: dict[int, type[np.generic]] = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    5: np.int16,
    6: np.int8,
    8: np.complex64,
    9: np.int64,
    10: np.bool_,
    11: np.int8,
    12: np.uint8,
    13: np.int32,
    14: ml_dtypes.bfloat16,
    15: np.int16,
    16: np.uint16,
    17: np.uint16,
    18: np.complex128,
    19: np.float16,
    22: np.uint32,
    23: np.uint64,
    24: ml_dtypes.float8_e5m2,
    25: ml_dtypes.float8_e4m3fn,
    26: ml_dtypes.float8_e4m3fnuz,
    27: ml_dtypes.float8_e4m3b11fnuz,
    28: ml_dtypes.float8_e5m2fnuz,
}

_NO_ARRAYS = {
    7: "it is of strings (DT_STRING)",
    20: "it is a resource of a running program (DT_RESOURCE)",
    21: "it is of objects of TensorFlow (DT_VARIANT)",
    29: "it is of four-bit integers (DT_INT4)",
    30: "it is of four-bit integers (DT_UINT4)",
    31: "it is of two-bit integers (DT_INT2)",
    32: "it is of two-bit integers (DT_UINT2)",
    33: "it is of four-bit floats (DT_FLOAT4_E2M1FN)",
}


def tensorflow_dtype(number: int) -> np.dtype[np.generic] | str | None:
    """The dtype of arrays with TensorFlow's number, or why there are none; None for no dtype."""
    if number > _REFERENCE:
        number -= _REFERENCE
    if number in _ARRAYS:
        return np.dtype(_ARRAYS[number])
    if number > 0:
        return _NO_ARRAYS.get(number, f"its dtype is not known here (number {number})")
    return None


# safetensors

SAFETENSORS: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        word: np.dtype(kind)
        for word, kind in {
            "BOOL": np.bool_,
            "U8": np.uint8,
            "I8": np.int8,
            "F8_E5M2": ml_dtypes.float8_e5m2,
            "F8_E4M3": ml_dtypes.float8_e4m3fn,
            "F8_E8M0": ml_dtypes.float8_e8m0fnu,
            "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
            "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
            "U16": np.uint16,
            "I16": np.int16,
            "F16": np.float16,
            "BF16": ml_dtypes.bfloat16,
            "U32": np.uint32,
            "I32": np.int32,
            "F32": np.float32,
            "C64": np.complex64,
            "U64": np.uint64,
            "I64": np.int64,
            "F64": np.float64,
        }.items()
    }
)
"""Word -> dtype."""

SAFETENSORS_WORDS: Mapping[np.dtype[Any], str] = MappingProxyType(
    {dtype: word for word, dtype in SAFETENSORS.items()}
)
"""Dtype -> word."""

SAFETENSORS_BITS: Mapping[str, int] = MappingProxyType({"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6})
"""The words whose elements are no whole bytes, and their bits: NumPy has no array of those."""

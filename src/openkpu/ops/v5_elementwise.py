"""Element by element, with the arithmetic of nncase 1.9 (kmodel V5): binary, unary, quantise, compare, convert.

Every float operation is rounded to float32 on its own, as the runtime's compiler does without fused multiply-add.
Functions that C's library computes (exp, sin, ...) are computed in float64 and rounded, which is what a good library
gives in nearly every case. Source: nncase v1.9.0, ``kernels/cpu/reference``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.operators import BinaryOp, Clamp, UnaryOp
from openkpu.kmodel.operators_v5 import CompareOp
from openkpu.ops.tensor_elementwise import clamp, maximum, minimum

Array = NDArray[Any]


def _divide(a: Array, b: Array) -> Array:
    if a.dtype == np.float32:
        return a / b
    b = np.where(b == 0, b.dtype.type(1), b)  # the runtime would stop here
    quotient = np.abs(a) // np.abs(b)
    result: Array = np.where((a < 0) != (b < 0), -quotient, quotient).astype(a.dtype)
    return result


def _power(a: Array, b: Array) -> Array:
    return np.power(a.astype(np.float32).astype(np.float64), b.astype(np.float32)).astype(np.float32)


_BINARY: Final[dict[BinaryOp, Callable[[Array, Array], Array]]] = {
    BinaryOp.ADD: lambda a, b: a + b,
    BinaryOp.SUB: lambda a, b: a - b,
    BinaryOp.MUL: lambda a, b: a * b,
    BinaryOp.DIV: _divide,
    BinaryOp.MIN: minimum,
    BinaryOp.MAX: maximum,
    BinaryOp.POW: _power,
    BinaryOp.LOGICAL_AND: lambda a, b: ((a != 0) & (b != 0)).astype(a.dtype),
}


def binary(op: BinaryOp, a: Array, b: Array, limits: Clamp) -> Array:
    """``clamp(op(a, b))`` with broadcasting; float32, int32 or int64. Integers are clamped as float32 too."""
    with np.errstate(all="ignore"):
        return clamp(_BINARY[op](a, b).astype(np.float32), limits).astype(a.dtype)


def _through_float64(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda x: function(x.astype(np.float64)).astype(np.float32)


def _erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x.reshape(-1).tolist()], np.float64).astype(np.float32).reshape(x.shape)


_UNARY: Final[dict[UnaryOp, Callable[[Array], Array]]] = {
    UnaryOp.ABS: np.abs,
    UnaryOp.ACOS: _through_float64(np.arccos),
    UnaryOp.ASIN: _through_float64(np.arcsin),
    UnaryOp.CEIL: np.ceil,
    UnaryOp.COS: _through_float64(np.cos),
    UnaryOp.EXP: _through_float64(np.exp),
    UnaryOp.FLOOR: np.floor,
    UnaryOp.LOG: _through_float64(np.log),
    UnaryOp.NEG: lambda x: -x,
    UnaryOp.ROUND: np.rint,
    UnaryOp.RSQRT: lambda x: np.float32(1) / np.sqrt(x),
    UnaryOp.SIGN: lambda x: (x > 0).astype(np.float32) - (x < 0).astype(np.float32),
    UnaryOp.SIN: _through_float64(np.sin),
    UnaryOp.SQRT: np.sqrt,
    UnaryOp.SQUARE: lambda x: x * x,
    UnaryOp.TANH: _through_float64(np.tanh),
    UnaryOp.LOGICAL_NOT: lambda x: (x == 0).astype(np.float32),
    UnaryOp.ERF: _erf,
}
UNARY_OPS: Final = frozenset(_UNARY)


def unary(op: UnaryOp, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``op(x)``, float32."""
    with np.errstate(all="ignore"):
        result: NDArray[np.float32] = _UNARY[op](x)
        return result


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``1 / (1 + exp(-x))``."""
    with np.errstate(all="ignore"):
        result: NDArray[np.float32] = (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)
        return result


def quantize_tensor(x: NDArray[np.float32], multiplier: float, offset: float, dtype: np.dtype[Any]) -> Array:
    """``clamp(rint(x * multiplier + offset))`` to uint8 or int8, halves to even.

    Not a number becomes the greatest value, as on the device; a PC's runtime gives the least.
    """
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    with np.errstate(all="ignore"):
        v = x * np.float32(multiplier) + np.float32(offset)
        result: Array = np.rint(np.nan_to_num(np.clip(v, low, high), nan=high)).astype(dtype)
        return result


def dequantize_tensor(x: Array, multiplier: float, offset: float) -> NDArray[np.float32]:
    """``x * multiplier + offset``."""
    with np.errstate(all="ignore"):
        return x.astype(np.float32) * np.float32(multiplier) + np.float32(offset)


_COMPARE: Final[dict[CompareOp, Callable[[Array, Array], Array]]] = {
    CompareOp.EQUAL: np.equal,
    CompareOp.NOT_EQUAL: np.not_equal,
    CompareOp.GREATER: np.greater,
    CompareOp.GREATER_EQUAL: np.greater_equal,
    CompareOp.LESS: np.less,
    CompareOp.LESS_EQUAL: np.less_equal,
}


def compare(op: CompareOp, a: Array, b: Array) -> NDArray[np.uint8]:
    """``op(a, b)`` as bytes 0 and 1, with broadcasting."""
    return _COMPARE[op](a, b).astype(np.uint8)


def convert(x: Array, dtype: np.dtype[Any]) -> Array:
    """Convert the element type as C does; what is outside the new type's range is undefined there too."""
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def ternary(condition: NDArray[np.float32], a: Array, b: Array) -> Array:
    """``condition ? a : b``, with broadcasting."""
    return np.where(condition != 0, a, b)

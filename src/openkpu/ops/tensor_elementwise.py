"""Tensor operators, element by element: binary and unary float32 functions, nnil, quantise and dequantise.

Source: nncase v0.2.0-beta4, ``neutral_kernels.h`` (host) and ``riscv/neutral_kernels.h`` (device).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.nnil import instructions
from openkpu.kmodel.operators import NO_CLAMP, BinaryOp, Clamp, UnaryOp

F32 = NDArray[np.float32]


def minimum(a: F32, b: F32) -> F32:
    """``b < a ? b : a``, as ``std::min``: a comparison with NaN is false."""
    return np.where(b < a, b, a)


def maximum(a: F32, b: F32) -> F32:
    """``a < b ? b : a``, as ``std::max``."""
    return np.where(a < b, b, a)


def clamp(x: F32, limits: Clamp) -> F32:
    """``x < low ? low : high < x ? high : x``; NaN stays."""
    if limits == NO_CLAMP and not np.isinf(x).any():
        return x
    low, high = np.float32(limits[0]), np.float32(limits[1])
    return np.where(x < low, low, np.where(high < x, high, x))


_BINARY: Final[dict[BinaryOp, Callable[[F32, F32], F32]]] = {
    BinaryOp.ADD: lambda a, b: a + b,
    BinaryOp.SUB: lambda a, b: a - b,
    BinaryOp.MUL: lambda a, b: a * b,
    BinaryOp.DIV: lambda a, b: a / b,
    BinaryOp.MIN: minimum,
    BinaryOp.MAX: maximum,
}


def binary(op: BinaryOp, a: F32, b: F32, limits: Clamp = NO_CLAMP) -> F32:
    """``clamp(op(a, b))`` of float32 arrays that broadcast."""
    with np.errstate(all="ignore"):
        return clamp(_BINARY[op](a, b), limits)


def rounded(function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Callable[[F32], F32]:
    """Compute in float64 and round once, as current C libraries do in ``expf``, ``logf``, ``sinf`` and ``cosf``.

    NumPy's own float32 functions are off by a unit in the last place more often.
    """
    return lambda x: function(x.astype(np.float64)).astype(np.float32)


exp: Final = rounded(np.exp)

_ONE: Final = np.float32(1)
_UNARY: Final[dict[UnaryOp, Callable[[F32], F32]]] = {
    UnaryOp.ABS: np.abs,
    UnaryOp.CEIL: np.ceil,
    UnaryOp.COS: rounded(np.cos),
    UnaryOp.EXP: exp,
    UnaryOp.FLOOR: np.floor,
    UnaryOp.LOG: rounded(np.log),
    UnaryOp.NEG: np.negative,
    UnaryOp.RSQRT: lambda x: np.divide(_ONE, np.sqrt(x), dtype=np.float32),
    UnaryOp.SIN: rounded(np.sin),
    UnaryOp.SQUARE: np.square,
}


def unary(op: UnaryOp, x: F32) -> F32:
    """``op(x)`` of a float32 array; the last bit of cos, exp, log and sin is the C library's affair."""
    with np.errstate(all="ignore"):
        return _UNARY[op](x)


_NNIL_BINARY: Final = {op.name.lower(): function for op, function in _BINARY.items()}
_NNIL_UNARY: Final = {op.value: function for op, function in _UNARY.items()}
_NNIL_CONSTANTS: Final = {"zero": 0.0, "one": 1.0}


def nnil(code: bytes, x: F32) -> F32:
    """Run an nnil function on every element of ``x``."""
    stack: list[Any] = []
    with np.errstate(all="ignore"):
        for name, literal in instructions(code):
            if name == "x":
                stack.append(x)
            elif name == "dup":
                stack.append(stack[-1])
            elif name in ("pop", "ret"):
                top = stack.pop()
            elif name == "literal" or name in _NNIL_CONSTANTS:
                stack.append(np.full_like(x, _NNIL_CONSTANTS.get(name, literal)))
            elif name == "clamp":
                high, low, value = stack.pop(), stack.pop(), stack.pop()
                stack.append(np.where(value < low, low, np.where(high < value, high, value)))
            elif name in _NNIL_BINARY:
                b, a = stack.pop(), stack.pop()
                stack.append(_NNIL_BINARY[name](a, b))
            elif name in _NNIL_UNARY:
                stack.append(_NNIL_UNARY[name](stack.pop()))
    result: F32 = top
    return result


def quantize_device(x: F32, reciprocal: float, zero_point: int) -> NDArray[np.uint8]:
    """``x * reciprocal + zero_point``, halves to even, clamped to 0..255; flat arrays keep their shape.

    The device converts two values at a time; the last of an odd number takes another path, where halves go away from
    zero. Values beyond int32 saturate and NaN becomes 255, as the RISC-V conversion does.
    """
    with np.errstate(all="ignore"):
        v = x * np.float32(reciprocal) + np.float32(zero_point)
    v = np.nan_to_num(np.clip(v, -1, 256), nan=256)
    result: NDArray[np.uint8] = np.clip(np.rint(v), 0, 255).astype(np.uint8)
    if x.size % 2:
        last = float(v.reshape(-1)[-1])
        result.reshape(-1)[-1] = int(np.clip(np.floor(last + 0.5), 0, 255))
    return result


def quantize_simulator(x: F32, reciprocal: float, zero_point: int) -> NDArray[np.uint8]:
    """As the vendor's PC simulator: halves away from zero; NaN and what does not fit int32 becomes 0."""
    with np.errstate(all="ignore"):
        v = x * np.float32(reciprocal) + np.float32(zero_point)
        v = np.where(np.abs(v) < 2.0**31, v, np.float32(0))  # x86 converts the others to the least int
    rounded = np.floor(np.clip(v, -1, 256).astype(np.float64) + 0.5)
    result: NDArray[np.uint8] = np.clip(rounded, 0, 255).astype(np.uint8)
    return result


def dequantize_device(x: NDArray[np.uint8], reciprocal: float, zero_point: int) -> F32:
    """``x * scale + (-zero_point * scale)`` with ``scale = 1 / reciprocal``."""
    with np.errstate(all="ignore"):
        scale = np.float32(1) / np.float32(reciprocal)
        return x * scale + np.float32(-zero_point) * scale


def dequantize_simulator(x: NDArray[np.uint8], reciprocal: float, zero_point: int) -> F32:
    """``(x - zero_point) * scale`` with ``scale = 1 / reciprocal``."""
    with np.errstate(all="ignore"):
        scale = np.float32(1) / np.float32(reciprocal)
        return (x.astype(np.int64) - zero_point).astype(np.float32) * scale

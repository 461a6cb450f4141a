"""Element by element: ADD, QUANTIZED_ADD, LOGISTIC."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.program import QuantizedTerm

QUANTIZED_ADD_GROUP: Final = 8
"""Bytes that QUANTIZED_ADD handles at once: it reads and writes up to 7 bytes past its count."""


def add(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """``a + b``, equal shapes."""
    with np.errstate(all="ignore"):
        return a + b


def carry_shift(value: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """Shift right and round as the runtime's ``kpu_carry_shift``.

    The bit below the result decides: set, the floor moves one away from zero (so negative values may move by up to
    almost 2). This is not the KPU's own rounding, which is half to even.
    """
    if shift == 0:
        return value
    v = value >> np.int64(shift - 1)
    return (v >> 1) + np.where(v & 1, np.where(v < 0, -1, 1), 0)


def quantized_add(
    a: NDArray[np.uint8], b: NDArray[np.uint8], ta: QuantizedTerm, tb: QuantizedTerm, to: QuantizedTerm
) -> NDArray[np.uint8]:
    """Add two uint8 arrays of one shape in 64-bit fixed point.

    ``A = (a + offset) * mul``, ``B`` alike; with equal shifts ``v = (A + B) >> shift``, else each is shifted alone;
    ``clamp(carry_shift(v * mul, shift) + offset, 0, 255)`` with the output's term. Overflow of 64 bits wraps.
    """
    va = (a.astype(np.int64) + ta.offset) * ta.mul
    vb = (b.astype(np.int64) + tb.offset) * tb.mul
    with np.errstate(over="ignore"):
        if ta.shift == tb.shift:
            v = (va + vb) >> np.int64(ta.shift)
        else:
            v = (va >> np.int64(ta.shift)) + (vb >> np.int64(tb.shift))
        v = carry_shift(v * np.int64(to.mul), to.shift) + to.offset
    return np.clip(v, 0, 255).astype(np.uint8)


def logistic(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``1 / (1 + expf(-x))``; any shape."""
    with np.errstate(all="ignore"):
        return np.float32(1) / (np.float32(1) + np.exp(-x))

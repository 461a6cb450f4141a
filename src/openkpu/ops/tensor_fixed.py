"""Tensor operators in fixed point: uint8 binary functions, convolution and matrix product of V4.

Source: nncase v0.2.0-beta4, ``neutral_kernels.h`` and ``mul_and_carry_shift``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.operators import BinaryOp, Pair
from openkpu.kmodel.program import QuantizedTerm
from openkpu.ops.tensor_window import Order, Taps, taps

I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]


def scale_and_shift(value: I32, mul: int, shift: int) -> I32:
    """``(value * mul + 2**(shift-1)) >> shift`` on 64 bits, cut to 32; no rounding for shift 0."""
    v = value.astype(np.int64) * mul
    if shift:
        v = (v + (1 << (shift - 1))) >> np.int64(shift)
    return v.astype(np.int32)


def _finish(value: I32, o: QuantizedTerm) -> U8:
    with np.errstate(over="ignore"):
        shifted = scale_and_shift(value, o.mul, o.shift) + np.int32(o.offset)
    result: U8 = np.clip(shifted, 0, 255).astype(np.uint8)
    return result


def scaled_bytes(t: QuantizedTerm) -> I32:
    """``(x + offset) * mul >> shift`` of each of the 256 bytes."""
    return scale_and_shift((np.arange(256) + t.offset).astype(np.int32), t.mul, t.shift)


def divide_rounded(a: I32, b: I32) -> I32:
    """``(a + b / 2) / b`` as in C: both quotients are cut towards zero; by zero gives -1, as on RISC-V."""
    x, y = a.astype(np.int64), b.astype(np.int64)
    half = np.sign(y) * (np.abs(y) // 2)
    top = (x + half).astype(np.int32).astype(np.int64)
    safe = np.where(y == 0, 1, y)
    quotient = np.sign(top) * np.sign(safe) * (np.abs(top) // np.abs(safe))
    return np.where(y == 0, -1, quotient).astype(np.int32)


def quantized_binary(op: BinaryOp, a: U8, b: U8, ta: QuantizedTerm, tb: QuantizedTerm, to: QuantizedTerm) -> U8:
    """uint8 arrays that broadcast; see ``operators_v4.QuantizedBinary``. Sums and products wrap at 32 bits."""
    va, vb = scaled_bytes(ta)[a], scaled_bytes(tb)[b]
    with np.errstate(over="ignore"):
        if op is BinaryOp.ADD:
            v = va + vb
        elif op is BinaryOp.SUB:
            v = va - vb
        elif op is BinaryOp.MUL:
            v = va * vb
        elif op is BinaryOp.DIV:
            v = divide_rounded(va, vb)
        elif op is BinaryOp.MIN:
            v = np.minimum(va, vb)
        else:
            v = np.maximum(va, vb)
    return _finish(v, to)


def quantized_conv2d(
    x: U8,
    weights: U8,
    bias: I32,
    *,
    groups: int,
    pads: tuple[Pair, Pair],
    stride: Pair,
    dilation: Pair,
    input_offset: int,
    filter_offset: int,
    o: QuantizedTerm,
    order: Order = "channels",
    summed: Taps = taps,
) -> U8:
    """uint8 (n, c, h, w) by (oc, c / groups, kh, kw); int32 sums that wrap, taps outside the picture add nothing."""
    with np.errstate(over="ignore"):
        source = x.astype(np.int32) + np.int32(input_offset)
        filters = weights.astype(np.int32) + np.int32(filter_offset)
        value = summed(source, filters, bias.astype(np.int32), groups, pads, stride, dilation, order)
    return _finish(value, o)


def quantized_matmul(a: U8, b: U8, bias: I32, a_offset: int, b_offset: int, o: QuantizedTerm) -> U8:
    """uint8 (rows, inner) by (inner, columns), int32 sums that wrap."""
    with np.errstate(over="ignore"):
        left, right = a.astype(np.int32) + np.int32(a_offset), b.astype(np.int32) + np.int32(b_offset)
        return _finish(left @ right + bias.astype(np.int32), o)

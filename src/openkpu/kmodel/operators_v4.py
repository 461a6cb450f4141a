"""The operators that only the V4 runtime (nncase 0.2) has; what it shares with V5 is in ``operators``.

Fixed point: ``H(v, s)`` is ``(v + 2**(s-1)) >> s`` on 64 bits, v itself for s = 0, cut to 32 bits. Shapes are
(n, c, h, w), of the ``Nhwc...`` operators (n, h, w, c); no compiler is known that emits the latter, but every runtime
has them. Source: nncase v0.2.0-beta4, ``neutral_kernels.h`` and ``cpu_kernels.h``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.operators import NO_CLAMP, BinaryOp, Clamp, Pair, ReduceOp
from openkpu.kmodel.program import Operand, QuantizedTerm, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedBinary(Step):
    """uint8 with broadcasting: ``H(op(A, B) * o.mul, o.shift) + o.offset``, clamped to 0..255.

    ``A = H((a + a.offset) * a.mul, a.shift)``, B alike; a quotient is ``(A + B / 2) / B``, cut towards zero.
    """

    input_a: Operand
    input_b: Operand
    output: Operand
    op: BinaryOp
    a: QuantizedTerm
    b: QuantizedTerm
    o: QuantizedTerm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantizedConv2D(Step):
    """uint8: ``H(sum * o.mul, o.shift) + o.offset``, clamped to 0..255.

    The int32 sum is of ``(x + input_offset) * (w + filter_offset)`` and the bias. Weights
    are uint8 (oc, ic / groups, kh, kw), the bias is int32 (oc,); taps outside the picture add nothing.
    """

    input: Operand
    output: Operand
    weights: NDArray[np.uint8]
    bias: NDArray[np.int32]
    groups: int
    pads: tuple[Pair, Pair]
    stride: Pair
    dilation: Pair
    input_offset: int
    filter_offset: int
    o: QuantizedTerm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantizedMatMul(Step):
    """uint8 (rows, inner) by (inner, columns), bias int32 (columns,): as QuantizedConv2D."""

    input_a: Operand
    input_b: Operand
    output: Operand
    bias: NDArray[np.int32]
    a_offset: int
    b_offset: int
    o: QuantizedTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLookup(Step):
    """uint8 -> uint8 through 256 bytes that another step writes. A constant table is a ``Requantize``."""

    input: Operand
    table: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class NnilUnary(Step):
    """float32 function of one value as bytecode of a stack machine (``kmodel.nnil``), up to its ``ret``."""

    input: Operand
    output: Operand
    code: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NhwcConv2D(Step):
    """float32 convolution; weights (oc, kh, kw, ic), bias (oc,)."""

    input: Operand
    output: Operand
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    pads: tuple[Pair, Pair]
    stride: Pair
    dilation: Pair
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NhwcDepthwiseConv2D(NhwcConv2D):
    """float32 depthwise convolution; weights (c, kh, kw), bias (c,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NhwcReduceWindow(Step):
    """float32 pooling as ``operators.ReduceWindow``, channels last; sums do not exist here."""

    input: Operand
    output: Operand
    op: ReduceOp
    pads: tuple[Pair, Pair]
    kernel: Pair
    stride: Pair
    dilation: Pair
    init: float
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NhwcQuantizedConv2D(Step):
    """uint8 convolution as QuantizedConv2D, but the offsets are subtracted; weights (oc, kh, kw, ic), bias (oc,)."""

    input: Operand
    output: Operand
    weights: NDArray[np.uint8]
    bias: NDArray[np.int32]
    pads: tuple[Pair, Pair]
    stride: Pair
    dilation: Pair
    input_offset: int
    filter_offset: int
    o: QuantizedTerm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NhwcQuantizedDepthwiseConv2D(NhwcQuantizedConv2D):
    """uint8 depthwise convolution; weights (c, kh, kw), bias (c,)."""

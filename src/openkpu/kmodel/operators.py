"""The tensor operators of the V4 and V5 runtimes (nncase 0.2 and 1.x).

One class stands for the same operator of both versions; where their arithmetic differs (rounding of Quantize, order of
sums), the program's version decides. Shapes are row-major with the batch first, (n, c, h, w) unless said otherwise;
V4's are always four-dimensional. A ``clamp`` (low, high) is fused into an operator and applied last; -FLT_MAX..FLT_MAX
means none. Sources: nncase v0.2.0-beta4 and v1.9.0, ``kernels`` and the op bodies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.program import Operand, Step

FLT_MAX: Final = float(np.finfo(np.float32).max)
NO_CLAMP: Final = (-FLT_MAX, FLT_MAX)

Pair = tuple[int, int]
Clamp = tuple[float, float]


class BinaryOp(Enum):
    """Arithmetic of two tensors; the first six have these numbers in V4 and V5 files."""

    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    MIN = 4
    MAX = 5
    POW = 6
    """From here on V5 only."""
    LOGICAL_AND = 12


class UnaryOp(Enum):
    """Functions of one tensor, by name: V4 and V5 number them differently."""

    ABS = "abs"
    CEIL = "ceil"
    COS = "cos"
    EXP = "exp"
    FLOOR = "floor"
    LOG = "log"
    NEG = "neg"
    RSQRT = "rsqrt"
    SIN = "sin"
    SQUARE = "square"
    SQRT = "sqrt"
    """From here on V5 only."""
    ROUND = "round"
    TANH = "tanh"
    SIGN = "sign"
    ACOS = "acos"
    ASIN = "asin"
    COSH = "cosh"
    SINH = "sinh"
    ERF = "erf"
    LOGICAL_NOT = "logical_not"
    BITWISE_NOT = "bitwise_not"


class ReduceOp(Enum):
    """What a reduction computes (numbers as in V4 and V5 files)."""

    MEAN = 0
    MIN = 1
    MAX = 2
    SUM = 3


class ResizeMode(Enum):
    """How a resize samples (numbers as in V4 and V5 files)."""

    BILINEAR = 0
    NEAREST = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary(Step):
    """float32 ``output = clamp(op(input_a, input_b))`` with broadcasting."""

    input_a: Operand
    input_b: Operand
    output: Operand
    op: BinaryOp
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary(Step):
    """float32 ``output = op(input)``."""

    input: Operand
    output: Operand
    op: UnaryOp


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeTensor(Step):
    """float32 -> uint8 (V5: also int8): ``round(x / scale) + zero_point``, clamped.

    ``scale`` is what one count is worth; V4 files hold its reciprocal, and float64 is exact
    enough to write the same reciprocal back.
    """

    input: Operand
    output: Operand
    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DequantizeTensor(Step):
    """uint8 (V5: also int8) -> float32: ``(q - zero_point) * scale``."""

    input: Operand
    output: Operand
    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatTensors(Step):
    """Put tensors of one element type one after the other along ``axis`` (V4)."""

    inputs: tuple[Operand, ...]
    output: Operand
    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTensor(Step):
    """Copy a tensor, between dense and strided places too."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class TransposeTensor(Step):
    """Dimension i of the output is dimension ``perm[i]`` of the input."""

    input: Operand
    output: Operand
    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PadTensor(Step):
    """Add ``value`` before and after each dimension; negative pads crop.

    V5 also has the modes "reflect", "symmetric" and "edge", and ``interior``: so many values between neighbours of each
    dimension, put there before the other pads (none where it is empty).
    """

    input: Operand
    output: Operand
    pads: tuple[Pair, ...]
    value: float = 0.0
    mode: str = "constant"
    interior: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceTensor(Step):
    """``output = input[begin:end:stride]`` in every dimension; ends are resolved numbers."""

    input: Operand
    output: Operand
    begin: tuple[int, ...]
    end: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce(Step):
    """float32 reduction over ``axes``; the output keeps them with size 1 unless ``keep_dims`` is False."""

    input: Operand
    output: Operand
    op: ReduceOp
    axes: tuple[int, ...]
    init: float
    keep_dims: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceWindow(Step):
    """float32 pooling: ``op`` over windows; (height, width) pairs, ``pads`` ((top, bottom), (left, right))."""

    input: Operand
    output: Operand
    op: ReduceOp
    pads: tuple[Pair, Pair]
    kernel: Pair
    stride: Pair
    dilation: Pair
    init: float
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeImage(Step):
    """Resize height and width, float32 or uint8."""

    input: Operand
    output: Operand
    mode: ResizeMode
    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxTensor(Step):
    """float32 softmax of ``beta * x`` along ``axis``."""

    input: Operand
    output: Operand
    axis: int
    beta: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conv2D(Step):
    """float32 convolution; weights (oc, ic / groups, kh, kw), bias (oc,); ``pads`` ((top, bottom), (left, right))."""

    input: Operand
    output: Operand
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    groups: int
    pads: tuple[Pair, Pair]
    stride: Pair
    dilation: Pair
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conv2DTranspose(Step):
    """float32 transposed convolution; weights (oc, ic / groups, kh, kw). V4's kernel does not add the bias."""

    input: Operand
    output: Operand
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    groups: int
    pads: tuple[Pair, Pair]
    stride: Pair
    dilation: Pair
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatMul(Step):
    """float32 ``clamp(a @ b + bias)``: (rows, inner) by (inner, columns), bias (columns,)."""

    input_a: Operand
    input_b: Operand
    output: Operand
    bias: NDArray[np.float32]
    clamp: Clamp = NO_CLAMP

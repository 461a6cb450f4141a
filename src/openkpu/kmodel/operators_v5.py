"""Tensor operators that only the V5 runtime has (nncase 1.x). Source: nncase v1.9.0, ``kernels/cpu/reference``.

The ones that V4 shares are in ``operators``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from openkpu.kmodel.operators import NO_CLAMP, Clamp, Pair
from openkpu.kmodel.program import Operand, Step


class CompareOp(Enum):
    """Comparison of two tensors (numbers as in the file)."""

    EQUAL = 0
    NOT_EQUAL = 1
    GREATER = 2
    GREATER_EQUAL = 3
    LESS = 4
    LESS_EQUAL = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineQuantize(Step):
    """float32 -> uint8 or int8: ``round(x * multiplier + offset)`` for an offset that is no whole number."""

    input: Operand
    output: Operand
    multiplier: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineDequantize(Step):
    """uint8 or int8 -> float32: ``q * multiplier + offset`` for an offset that is no multiple of the scale."""

    input: Operand
    output: Operand
    multiplier: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchToSpace(Step):
    """Blocks of the batch become neighbours of the last dimensions; ``crops`` are cut off them."""

    input: Operand
    output: Operand
    block: tuple[int, ...]
    crops: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceToBatch(Step):
    """The reverse of BatchToSpace, after padding with 0."""

    input: Operand
    output: Operand
    block: tuple[int, ...]
    pads: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast(Step):
    """Repeat a tensor to the output's shape."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare(Step):
    """uint8, float32, int32 or int64 -> bytes 0 and 1, with broadcasting."""

    input_a: Operand
    input_b: Operand
    output: Operand
    op: CompareOp


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2DFromMemory(Step):
    """Conv2D whose weights (oc, ic / groups, kh, kw) or bias (oc,) another step made."""

    input: Operand
    weights: Operand
    bias: Operand
    output: Operand
    groups: int
    pads: tuple[Pair, Pair]
    stride: Pair
    dilation: Pair
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMulFromMemory(Step):
    """MatMul whose bias another step made."""

    input_a: Operand
    input_b: Operand
    bias: Operand
    output: Operand
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True, slots=True, kw_only=True)
class Convert(Step):
    """Convert the element type as C does (floats are cut off towards 0)."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class CumSum(Step):
    """Running sum along ``axis``; ``exclusive`` leaves out the element itself, ``reverse`` starts at the end."""

    input: Operand
    output: Operand
    axis: int
    exclusive: bool
    reverse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather(Step):
    """Pick slices along ``axis``; indices int32, not negative."""

    input: Operand
    indices: Operand
    output: Operand
    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherNd(Step):
    """Pick slices by tuples of int32 indices; the first ``batch_dims`` dimensions go along."""

    input: Operand
    indices: Operand
    output: Operand
    batch_dims: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherElements(Step):
    """Pick float32 elements along ``axis``; int64 indices of the output's shape, negative ones count from the end."""

    input: Operand
    indices: Operand
    output: Operand
    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HardMax(Step):
    """float32: 1 at the first greatest element along ``axis``, else 0; no 1 where none is above 1.2e-38."""

    input: Operand
    output: Operand
    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm(Step):
    """float32 normalisation over the dimensions from ``axis`` on, with scale and bias of their shape."""

    input: Operand
    scale: Operand
    bias: Operand
    output: Operand
    axis: int
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHot(Step):
    """``on`` where the index (int32) along ``axis`` is met, else ``off``."""

    indices: Operand
    depth: Operand
    off: Operand
    on: Operand
    output: Operand
    axis: int
    negative_from_end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceArg(Step):
    """Index (int32 or int64) of the greatest or least float32 element; ties within 1e-6 count as equal."""

    input: Operand
    output: Operand
    greatest: bool
    axes: tuple[int, ...]
    keep_dims: bool
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceProd(Step):
    """Product over ``axes``, float32 or int32."""

    input: Operand
    output: Operand
    axes: tuple[int, ...]
    keep_dims: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigmoid(Step):
    """float32 ``1 / (1 + exp(-x))``."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class Ternary(Step):
    """float32 ``condition ? input_a : input_b``, with broadcasting; the condition is float32 too."""

    condition: Operand
    input_a: Operand
    input_b: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK(Step):
    """The k greatest or least float32 elements along ``axis`` and their int64 indices, sorted."""

    input: Operand
    output_values: Operand
    output_indices: Operand
    k: int
    axis: int
    largest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Trilu(Step):
    """float32 upper or lower triangle of the last two dimensions, from the k-th diagonal."""

    input: Operand
    output: Operand
    upper: bool
    k: int

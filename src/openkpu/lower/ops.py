"""The operators of a lowered graph, and what memory each works in.

==================== ================== ============================================================================
op                   inputs             attributes and meaning
==================== ================== ============================================================================
KpuConv              x, w, b            depthwise, fn (Expr or None), pool (a key of ``POOLS``), vector
                                        3x3 with one pixel of padding or 1x1, stride 1, then fn, then the pooling.
                                        ``vector``: x is (1, K), run as a 1x1 convolution on a 4x4 map, from its
                                        element ``offset`` on. ``picture``: top, left, height, width of the part of
                                        the result that matters; not set: all of it
KpuConcat            x...               channels side by side in AI RAM; costs nothing
KpuSlice             x                  first, count: some channels of a map in AI RAM, whole lines; costs nothing
KpuMove              x                  bytes to other places, exactly: shift (out(y, x) = in(y + dy, x + dx), 0 or 1
                                        pixel), keep (top, left, height, width of the part to keep, or None), low
                                        (fill with the lowest byte instead of 0.0), pool; picture (top, left, height,
                                        width of the result, or None: 0.0 outside), touched (whether something of the
                                        kept part lies outside the picture)
KpuRows              x...               first (a row of each input), count (rows taken from it), shift (rows by which
                                        they are moved up, 0 or 1; then the last is 0.0): one below the other
CpuMaxPool           x                  kernel, stride, origin (row, column of the first tap; negative = padding),
                                        size (output h, w). With kernel 1x1: crop and strided slice
CpuPad               x                  pads (top, left, bottom, right) with the value 0.0
CpuResize            x                  size (h, w); nearest neighbour, source = floor(o * in / out)
CpuTable             x                  fn; 256-entry table
CpuInterleave        x                  perm, blocks (sy, sx), order: (1, sy, sx, c, h, w) (DCR) or (1, c, sy, sx, h, w)
                                        (CRD) -> (1, c, h, sy, w, sx); V3 only, V4 and V5 have TensorTranspose
CpuGlobalAveragePool x                  (1, C, H, W) -> (1, C)
CpuAveragePool       x                  kernel, stride, pads; mean over the taps inside
CpuFullyConnected    x, w, b            fn: None, relu or relu6; float weights
CpuSoftmax           x                  along the last axis
CpuLogistic          x                  sigmoid
CpuAdd               a, b               float sum
CpuNormalize         x                  axis, p; x over its p-norm along the axis (V3: p 2 along the last)
CpuToHWC             x                  (1, C, H, W) -> (1, H, W, C)
CpuConcat            x...               axis; one after the other in memory
Reshape              x                  shape; no code
==================== ================== ============================================================================

Only in lowerings for V4 and V5, whose runtimes have general tensor operators; everything else is in all three. Inputs
may be constants.

==================== ================== ============================================================================
TensorBinary         a, b               kind (Add, Sub, Mul, Div, Min, Max, Pow), fn (limits or None); broadcasting;
                                        u8 (V4, all but Div and Pow: in whole numbers)
TensorFunction       x                  fn, of which ``graph.basic`` knows a form
TensorConv           x, w, b            strides, pads, dilations, group, fn (limits or None); all as in Conv
TensorConvTranspose  x, w, b            as ConvTranspose, fn (limits or None); V4
TensorMatMul         a, b[, bias]       fn (limits or None)
TensorReduce         x                  kind (MEAN, MAX, MIN, SUM), axes
TensorArg            x                  axis, keepdims, greatest, last (of equal ones); int64 positions; V5
TensorPool           x                  kind (MAX, MEAN), kernel, stride, pads; over the taps inside
TensorSoftmax        x                  axis
TensorPad            x                  pads (begins, ends), value; u8
TensorSlice          x                  begin, end, stride (of every dimension); u8
TensorTranspose      x                  view, perm (up to 4 dimensions, as the runtime sees them), order (the source's)
TensorResize         x                  mode (linear, nearest), align_corners, half_pixel; u8
TensorConcat         x...               axis; u8; tiles (parts of one map, which V3 can put together as well)
==================== ================== ============================================================================
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from openkpu.graph.ir import Node

POOLS: Final[dict[str, tuple[int, int, int]]] = {
    # name: (register value, stride, window)
    "none": (0, 1, 1),
    "max2": (1, 2, 2),
    "mean2": (2, 2, 2),
    "max4": (3, 4, 4),
    "mean4": (4, 4, 4),
    "left_top2": (5, 2, 1),
    "right_top2": (6, 2, 1),
    "left_top4": (7, 4, 1),
    "mean2s1": (8, 1, 2),
    "max2s1": (9, 1, 2),
}
"""Pooling kinds of the KPU by name: register value, stride, window size."""


UNIT_SHIFT: Final = 6
UNIT: Final = 1 << UNIT_SHIFT
"""The weight of a map's own pixel in a layer that moves bytes; its activation divides by it."""
FRAME_WEIGHT: Final = 255 - UNIT
"""The weight of the frame that tells such a layer what to keep."""
MOVING_WEIGHTS: Final = (0, 1, UNIT, FRAME_WEIGHT)
"""The weights of such layers."""


class Domain(Enum):
    """Where an operator wants its input."""

    AI = "uint8 in AI RAM"
    U8 = "uint8 in main RAM"
    F32 = "float32 in main RAM"


MOVEMENT: Final = ("TensorPad", "TensorSlice", "TensorTranspose", "TensorResize", "TensorConcat")
"""Operators that only move values: on uint8 where their ``u8`` is set, else on float32."""

EITHER: Final = (*MOVEMENT, "TensorBinary")
"""Operators that work on uint8 where their ``u8`` is set, else on float32."""

_DOMAINS: Final = {
    "KpuConv": Domain.AI,
    "KpuConcat": Domain.AI,
    "KpuSlice": Domain.AI,
    "KpuMove": Domain.AI,
    "KpuRows": Domain.AI,
    "CpuMaxPool": Domain.U8,
    "CpuPad": Domain.U8,
    "CpuResize": Domain.U8,
    "CpuTable": Domain.U8,
    "CpuInterleave": Domain.U8,
}


def input_domain(node: Node) -> Domain:
    """Return where ``node`` reads its inputs."""
    if node.op == "KpuConv" and node.attrs["vector"]:
        return Domain.U8
    if node.op in EITHER:
        return Domain.U8 if node.attrs["u8"] else Domain.F32
    return _DOMAINS.get(node.op, Domain.F32)


def makes_u8(node: Node) -> bool:
    """Whether the operator's own result is uint8."""
    if node.op in EITHER:
        return bool(node.attrs["u8"])
    cpu = ("CpuMaxPool", "CpuPad", "CpuResize", "CpuTable", "CpuInterleave")
    return node.op.startswith("Kpu") or node.op in cpu

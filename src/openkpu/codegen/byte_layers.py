"""KPU layers that work on bytes as they are: copy, shift, keep a part, pool. No scale is in them, so they are exact.

A part is kept with the help of a *frame*: a map that is 255 inside and 0 outside. It lies in AI RAM before the map,
as its first channels, and the layer adds ``191 * frame`` to ``64 * x``: outside the sum stays below ``191 * 255``
whatever the map holds, and the first segment of the activation table, which is flat, gives the filler there. Inside,
the second takes the 191 * 255 away and divides by 64.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from openkpu.k210 import ACT_START_BITS, ACTIVATION_SEGMENTS
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import ActivationTable, BatchNorm, KpuLayer
from openkpu.lower.layer_registers import shape_registers
from openkpu.lower.ops import FRAME_WEIGHT, UNIT, UNIT_SHIFT

Shape = tuple[int, int, int]

LOWEST_START: Final = -(1 << (ACT_START_BITS - 1))


def move_layer(
    shape: Shape,
    shift: tuple[int, int],
    pool: str,
    filler: int,
    *,
    framed: bool,
    weight_bits: int = 8,
) -> KpuLayer:
    """Return the layer for a map (c, h, w): out(y, x) = in(y + dy, x + dx), then the pooling.

    ``framed``: the frame's channels (as many as share a line) come before the map's. Outside the frame, and where the
    shift brings nothing in, stands ``filler``.
    """
    c, h, w = shape
    k = 1 if shift == (0, 0) else 3
    before = FeatureMapLayout(c, h, w).group if framed else 0
    depthwise = pool == "none" and not framed and c > 1
    weights = np.zeros((c, 1 if depthwise else before + c, k, k), np.int64)
    tap = k // 2 + shift[0], k // 2 + shift[1]
    weights[np.arange(c), 0 if depthwise else before + np.arange(c), tap[0], tap[1]] = UNIT
    if framed:
        weights[:, 0, tap[0], tap[1]] = FRAME_WEIGHT
    # a frame is 0 outside the map, so there the pixel's value does not matter
    outside = 0 if framed else filler
    add = UNIT * outside - (FRAME_WEIGHT * 255 if framed else 0)
    table = _table([LOWEST_START, -1], [0, 1], UNIT_SHIFT, [filler, 0])
    return _layer((before + c, h, w), weights, np.full(c, add), table, pool, depthwise, outside, weight_bits)


def full_layer(shape: Shape, channels: int, weight_bits: int = 8) -> KpuLayer:
    """Return the layer that makes a frame round everything: 255 everywhere, from any map, of which it reads nothing."""
    weights = np.zeros((channels, shape[0], 1, 1), np.int64)
    table = _table([LOWEST_START], [0], 0, [255])
    return _layer(shape, weights, np.zeros(channels, np.int64), table, "none", False, 0, weight_bits)


def narrow_layer(shape: Shape, sides: tuple[bool, bool, bool, bool], weight_bits: int = 8) -> KpuLayer:
    """Return the layer that takes a pixel off a frame at these sides: top, left, bottom, right."""
    c = shape[0]
    weights = np.zeros((c, 1, 3, 3), np.int64)
    weights[:, 0, 1, 1] = 1
    for side, (y, x) in zip(sides, ((0, 1), (1, 0), (2, 1), (1, 2)), strict=True):
        weights[:, 0, y, x] = int(side)
    all_inside = 255 * (1 + sum(sides))
    table = _table([LOWEST_START, all_inside - 128], [0, 0], 0, [0, 255])
    return _layer(shape, weights, np.zeros(c, np.int64), table, "none", c > 1, 0, weight_bits)


def _table(starts: list[int], slopes: list[int], shift: int, results: list[int]) -> ActivationTable:
    """Return a table whose last segment is repeated; of several that begin at one place the last counts."""

    def filled(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values + values[-1:] * (ACTIVATION_SEGMENTS - len(values)), np.int64)

    return ActivationTable(filled(starts), filled(slopes), np.full(ACTIVATION_SEGMENTS, shift), filled(results))


def _layer(
    shape: Shape,
    weights: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    add: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    table: ActivationTable,
    pool: str,
    depthwise: bool,
    outside: int,
    weight_bits: int,
) -> KpuLayer:
    oc, size = len(weights), weight_bits // 8
    registers = shape_registers(shape, weights.shape, pool, depthwise=depthwise, weight_bytes=size, outside=outside)
    unit = BatchNorm(np.ones(oc, np.int64), np.asarray(add, np.int64), np.zeros(oc, np.int64))
    return KpuLayer(registers, weights.astype(f"u{size}"), unit, table)

"""The KPU's arithmetic in NumPy, written to be read as the hardware's specification.

One layer is: convolution -> batch norm -> activation table -> pooling, from AI RAM to AI RAM, with the addresses that
the registers give. ``engine`` computes the same faster and is tested equal to this file on everything.

Everything is integer arithmetic, 64 bits wide, ``>>`` rounds towards minus infinity. The chip holds the results of
convolution and batch norm in 36 bits: a layer that leaves them has no defined meaning (results here wrap at 64 bits),
and a ``Monitor`` counts where it happens.

Sources: the vendor SDK's CPU emulation of the KPU (nncase 0.2), which agrees with photographed output of a real board;
nncase 0.1 for 16-bit weights. The kernel always moves by one pixel: stride 2 is pooling that drops positions.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openkpu.kpu import fmap
from openkpu.kpu.checks import check_ai_ram, check_layer
from openkpu.kpu.layer import ActivationTable, BatchNorm, KpuLayer
from openkpu.kpu.monitor import Monitor
from openkpu.kpu.registers import LayerRegisters

_BLOCK: Final = 1 << 20
"""Positions computed at a time; bounds the memory of one call (about 100 bytes each)."""


class Pool(IntEnum):
    """``pool_type``: what happens to the activated map. S2 = stride 2, and so on."""

    NONE = 0
    MAX_2X2_S2 = 1
    MEAN_2X2_S2 = 2
    MAX_4X4_S4 = 3
    MEAN_4X4_S4 = 4
    LEFT_TOP_S2 = 5
    RIGHT_TOP_S2 = 6
    LEFT_TOP_S4 = 7
    MEAN_2X2_S1 = 8
    MAX_2X2_S1 = 9


class PoolKind(NamedTuple):
    """``op`` is "max", "mean" or "select" (the one pixel at row 0, column ``column`` of each window)."""

    op: str
    size: int
    stride: int
    column: int = 0


POOL_KINDS: Final[dict[Pool, PoolKind]] = {
    Pool.NONE: PoolKind("select", 1, 1),
    Pool.MAX_2X2_S2: PoolKind("max", 2, 2),
    Pool.MEAN_2X2_S2: PoolKind("mean", 2, 2),
    Pool.MAX_4X4_S4: PoolKind("max", 4, 4),
    Pool.MEAN_4X4_S4: PoolKind("mean", 4, 4),
    Pool.LEFT_TOP_S2: PoolKind("select", 2, 2),
    Pool.RIGHT_TOP_S2: PoolKind("select", 2, 2, column=1),
    Pool.LEFT_TOP_S4: PoolKind("select", 4, 4),
    Pool.MEAN_2X2_S1: PoolKind("mean", 2, 1),
    Pool.MAX_2X2_S1: PoolKind("max", 2, 1),
}


def run_layer(layer: KpuLayer, ai_ram: NDArray[np.uint8], *, monitor: Monitor | None = None) -> NDArray[np.uint8]:
    """Run one layer on ``ai_ram`` (uint8, 2 MiB, changed in place) and return the output, dense (oc, oh, ow).

    The input is read whole before anything is written, so the two maps may overlap. Bytes of AI RAM between rows and
    beyond the last channel keep their content. Raises as ``checks.check_layer`` and ``checks.check_ai_ram``.
    """
    check_ai_ram(ai_ram)
    check_layer(layer)
    r = layer.registers
    x = read_input(r, ai_ram)
    oc, oh, ow = layer.output_shape
    y = np.empty((oc, oh, ow), np.uint8)
    step = max(1, _BLOCK // (r.i_col_high * r.i_row_wid))
    for first in range(0, oc, step):
        block = slice(first, min(first + step, oc))
        alu = convolve(r, x[block] if r.depth_wise_layer else x, layer.weights[block])
        if monitor is not None:
            monitor.see_conv(alu)
        bn = batch_normalize(_rows(layer.batch_norm, block), alu)
        if monitor is not None:
            monitor.see_bn(bn)
        y[block] = pool(Pool(r.pool_type), activate(layer.activation, bn, monitor=monitor), oh, ow)
    write_output(r, ai_ram, y)
    return y


def read_input(r: LayerRegisters, ai_ram: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gather the input feature map that the registers name, dense (ic, h, w)."""
    v = fmap.view(
        ai_ram,
        r.image_src_addr,
        r.channel_switch_addr,
        r.row_switch_addr,
        r.coef_group,
        r.i_ch_num,
        r.i_col_high,
        r.i_row_wid,
    )
    return v.reshape(-1, r.i_col_high, r.i_row_wid)[: r.i_ch_num].copy()


def write_output(r: LayerRegisters, ai_ram: NDArray[np.uint8], y: NDArray[np.uint8]) -> None:
    """Scatter the dense output (oc, oh, ow) through the write-back registers."""
    v = fmap.view(
        ai_ram,
        r.image_dst_addr,
        r.wb_channel_switch_addr,
        r.wb_row_switch_addr,
        r.wb_group,
        r.o_ch_num,
        r.o_col_high,
        r.o_row_wid,
    )
    for c in range(r.o_ch_num):
        v[c // r.wb_group, c % r.wb_group] = y[c]


def convolve(r: LayerRegisters, x: NDArray[np.uint8], weights: NDArray[Any]) -> NDArray[np.int64]:
    """Convolution result (oc, h, w) of the input (ic, h, w) at every pixel.

    ``alu = sum(x*w) + (arg_x*sum(x) >> shr_x) + (arg_w*sum(w) >> shr_w) + arg_add*n``: sums over the n input channels
    of the output channel (1 for depthwise) and all taps. A 3x3 kernel sees ``pad_value`` outside the picture.

    Sums are made in float64, whose integers are exact up to 2**53; the largest is 9216 * 255 * 65535 < 2**38.
    """
    oc, n, k, _ = weights.shape
    _, h, w = x.shape
    if k == 3:
        x = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=r.pad_value)
    xf = x.astype(np.float64)
    wf = weights.astype(np.float64)
    dot = np.zeros((oc, h * w))
    sum_x = np.zeros((x.shape[0] if r.depth_wise_layer else 1, h * w))
    for ky in range(k):
        for kx in range(k):
            tap = xf[:, ky : ky + h, kx : kx + w].reshape(-1, h * w)
            if r.depth_wise_layer:
                dot += wf[:, 0, ky, kx, None] * tap
                sum_x += tap
            else:
                dot += wf[:, :, ky, kx] @ tap
                sum_x += tap.sum(axis=0)
    alu = dot.astype(np.int64)
    alu += r.arg_x * sum_x.astype(np.int64) >> r.shr_x
    sum_w = weights.reshape(oc, -1).sum(axis=1, dtype=np.int64)
    alu += ((r.arg_w * sum_w >> r.shr_w) + r.arg_add * n)[:, None]
    return alu.reshape(oc, h, w)


def batch_normalize(bn: BatchNorm, alu: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(alu * mul >> shift) + add`` with each output channel's numbers; ``alu`` is int64 (oc, h, w)."""
    mul, add, shift = (a[:, None, None] for a in (bn.mul, bn.add, bn.shift))
    return np.asarray((alu * mul >> shift) + add)


def activate(table: ActivationTable, bn: NDArray[np.int64], *, monitor: Monitor | None = None) -> NDArray[np.uint8]:
    """The activation table: one linear segment for each value; int64 of any shape -> uint8.

    The segment is the one with the largest index i such that ``bn > x_start[i]`` (the starts need not be sorted);
    where there is none, segment 0 is used and counted.
    ``y = clamp(round((bn - x_start) * y_mul / 2**shift) + bias, 0, 255)``.
    """
    segment = np.full(bn.shape, -1, np.int8)
    for i in range(table.x_start.size):
        segment[bn > table.x_start[i]] = i
    if monitor is not None:
        monitor.see_no_segment(int(np.count_nonzero(segment < 0)))
    segment = np.maximum(segment, 0)
    product = (bn - table.x_start[segment]) * table.y_mul[segment]
    y = round_shift(product, table.shift[segment]) + table.bias[segment]
    return np.asarray(np.clip(y, 0, 255), np.uint8)


def round_shift(p: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """``p / 2**shift``, rounded half to even where p is not negative.

    The quirk: where p is negative the floor is moved *down* when it should be moved up, so that -0.25 becomes -2 and
    -0.75 becomes -1. Only a negative slope, or a value below every segment, can make p negative.
    A shift above 62 acts as 62: p has at most 52 bits, so the result is the same.
    """
    shift = np.minimum(shift, 62)
    floor = p >> shift
    fraction = p - (floor << shift)
    half = np.int64(1) << shift >> 1
    away = (fraction > half) | ((fraction == half) & (floor & 1 == 1))
    return np.where(away & (shift > 0), floor + np.where(p < 0, -1, 1), floor)


def pool(kind: Pool, y: NDArray[np.uint8], oh: int, ow: int) -> NDArray[np.uint8]:
    """Pool (c, h, w) to (c, oh, ow); the output size comes from the registers, not from the stride.

    A window that hangs over the edge of the map: max leaves the outside pixels out (0 if all are), mean takes the
    nearest pixel of the map, select gives 0. The mean is rounded down.
    """
    op, size, stride, column = POOL_KINDS[kind]
    if op == "select":
        return _taps(y, oh, ow, stride, 0, column, outside_is_zero=True)
    taps = ((dy, dx) for dy in range(size) for dx in range(size))
    combine: Callable[..., Any] = np.maximum if op == "max" else np.add
    total = np.zeros((y.shape[0], oh, ow), np.uint16)
    for dy, dx in taps:
        total = combine(total, _taps(y, oh, ow, stride, dy, dx, outside_is_zero=op == "max"))
    return (total if op == "max" else total // (size * size)).astype(np.uint8)


def _taps(
    y: NDArray[np.uint8], oh: int, ow: int, stride: int, dy: int, dx: int, *, outside_is_zero: bool
) -> NDArray[np.uint8]:
    """The pixel (dy, dx) of every window: (c, oh, ow)."""
    _, h, w = y.shape
    rows, columns = np.arange(oh) * stride + dy, np.arange(ow) * stride + dx
    taken = y[:, np.minimum(rows, h - 1)][:, :, np.minimum(columns, w - 1)]
    if outside_is_zero:
        taken[:, rows >= h] = 0
        taken[:, :, columns >= w] = 0
    return taken


def _rows(bn: BatchNorm, block: slice) -> BatchNorm:
    return BatchNorm(bn.mul[block], bn.add[block], bn.shift[block])

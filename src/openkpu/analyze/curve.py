"""A layer's activation table against the function that it stands for, in the model's own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from openkpu.analyze.fit import ChannelFit
from openkpu.graph.elementwise import Expr
from openkpu.kpu.layer import KpuLayer
from openkpu.kpu.reference import POOL_KINDS, Pool, activate, batch_normalize, convolve

POINTS: Final = 160
LEAST_SCALE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Curve:
    """``wanted`` (the function) and ``got`` (the chip's table) over ``x``; ``density`` is how often x occurs (0..1).

    ``starts`` are the x at which the table's segments begin, where they are in sight. ``worst`` is the largest
    difference at an x that occurs, in counts of the output byte.
    """

    function: str
    x: tuple[float, ...]
    wanted: tuple[float, ...]
    got: tuple[float, ...]
    density: tuple[float, ...]
    starts: tuple[float, ...]
    worst: float


def trace_curve(
    fn: Expr, layer: KpuLayer, bytes_in: NDArray[np.uint8], pre: NDArray[np.float32], output: ChannelFit
) -> Curve | None:
    """Trace the table of the channel whose values vary most. ``pre`` are the float values before the function.

    What one unit of the chip's batch norm is worth is fitted on this picture; None where the layer is constant.
    """
    scale_out, offset_out = output.parameters()
    spread = pre.reshape(len(pre), -1).std(1) * (scale_out > LEAST_SCALE)
    c = int(spread.argmax())
    if spread[c] == 0:
        return None
    one = slice(c, c + 1)
    source = bytes_in[one] if layer.registers.depth_wise_layer else bytes_in
    bn = layer.batch_norm
    numbers = type(bn)(bn.mul[one], bn.add[one], bn.shift[one])
    sums = batch_normalize(numbers, convolve(layer.registers, source, layer.weights[one]))[0].astype(np.float64)
    real = pre[c].astype(np.float64)
    kind = POOL_KINDS[Pool(layer.registers.pool_type)]
    if kind.op == "select":
        sums = sums[:: kind.stride, kind.column :: kind.stride][: real.shape[0], : real.shape[1]]
    unit, zero = np.polyfit(sums.reshape(-1), real.reshape(-1), 1)
    if abs(unit) < LEAST_SCALE:
        return None
    low, high = (float(v) for v in np.percentile(real, [0.1, 99.9]))
    margin = 0.15 * (high - low) + LEAST_SCALE
    x = np.linspace(low - margin, high + margin, POINTS)
    units = np.rint((x - zero) / unit).astype(np.int64)
    counts = activate(layer.activation, units).astype(np.float64)
    got = counts * scale_out[c] + offset_out[c]
    wanted = np.clip(fn(x), *sorted((offset_out[c], 255 * scale_out[c] + offset_out[c])))
    density = np.histogram(real, POINTS, (x[0], x[-1]))[0].astype(np.float64)
    met = density > 0
    worst = float(np.abs(wanted - got)[met].max() / scale_out[c]) if met.any() else 0.0
    starts = np.sort(layer.activation.x_start[1:] * unit + zero)
    return Curve(
        str(fn),
        tuple(map(float, x)),
        tuple(map(float, wanted)),
        tuple(map(float, got)),
        tuple(map(float, density / max(density.max(), 1))),
        tuple(float(s) for s in starts if x[0] < s < x[-1]),
        worst,
    )

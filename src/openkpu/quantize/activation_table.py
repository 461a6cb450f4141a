"""Build a layer's activation table: exact for piecewise-linear functions, the best fit for curves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.elementwise import Expr, Piece, X, pieces
from openkpu.k210 import ACT_MUL_BITS, ACT_SHIFT_MAX, ACT_START_BITS, ACTIVATION_SEGMENTS
from openkpu.kpu.layer import ActivationTable
from openkpu.kpu.reference import activate
from openkpu.quantize.segment_fit import Segment, fit

Floats = NDArray[np.float64]
POINTS = 160


@dataclass(frozen=True, slots=True)
class TableFit:
    """A table, and how far it is from the rounded function, in output counts over the calibrated inputs."""

    table: ActivationTable
    worst: float
    mean: float
    segments: int


@dataclass(frozen=True, eq=False)
class Met:
    """The real inputs of a function that calibration met: their span, and some of them as weights for curves."""

    span: tuple[float, float]
    samples: Floats | None = None

    @cached_property
    def points(self) -> tuple[Floats, Floats]:
        """Where a curve is looked at, rising, and how much each point counts."""
        low, high = self.span
        margin = max(1e-9, 0.05 * (high - low))
        x = np.linspace(low - margin, high + margin, POINTS)
        density = np.ones_like(x)
        if self.samples is not None and self.samples.size:
            x = np.unique(np.concatenate([x, np.quantile(self.samples, np.linspace(0, 1, POINTS // 2))]))
            counts, edges = np.histogram(self.samples, 64, (low, high + 1e-12))
            density = np.interp(x, (edges[:-1] + edges[1:]) / 2, counts / max(1, counts.max()), 0, 0)
        # a small even share keeps inputs in bounds that calibration hardly met
        return x, np.gradient(x) * (density + 0.02 * density.mean() + 1e-12)


def build(fn: Expr | None, scale: float, zero_point: int, unit: float, met: Met, *, measured: bool = True) -> TableFit:
    """Return the table for ``y = fn(v / unit) / scale + zero_point``.

    ``unit`` is the number of batch-norm units of the real number 1. Not ``measured``: the distances stay NaN.
    """
    expr = fn or X
    straight = pieces(expr)
    rising = straight is not None and all(p.slope > -1e-9 for p in straight) and len(straight) < ACTIVATION_SEGMENTS
    if straight is not None and rising:
        segments = _from_pieces(straight, scale, zero_point)
    if straight is None or not rising or len(segments) > ACTIVATION_SEGMENTS:
        segments = _from_curve(expr, scale, zero_point, met)
    table = _encode(segments, unit)
    if not measured:
        return TableFit(table, math.nan, math.nan, len(segments))
    grid = np.linspace(*met.span, 2001)
    want = np.clip(expr(grid) / scale + zero_point, 0, 255)
    got = activate(table, np.rint(grid * unit).astype(np.int64))
    error = np.abs(got - want)
    return TableFit(table, float(error.max()), float(error.mean()), len(segments))


def _from_pieces(straight: list[Piece], scale: float, zp: int) -> list[Segment]:
    """Each piece becomes a segment that starts where its line meets a whole output number."""
    result = [Segment(-math.inf, 0.0, 0)]
    ends = [p.start for p in straight[1:]] + [math.inf]
    for p, end in zip(straight, ends, strict=True):
        slope = p.slope / scale  # counts per real unit

        def line(x: float, p: Piece = p) -> float:
            return (p.slope * x + p.offset) / scale + zp

        if p.slope < 1e-9:
            level = int(np.clip(np.rint(p.offset / scale + zp), 0, 255))
            if p.start == -math.inf:
                result = [Segment(-math.inf, 0.0, level)]
            else:
                result.append(Segment(p.start, 0.0, level))
            continue
        low = -p.offset / p.slope - zp * scale / p.slope  # where the line is 0
        if end <= low:
            continue  # below the range all along
        if p.start > -math.inf and line(p.start) >= 255:
            result.append(Segment(p.start, 0.0, 255))
        elif p.start <= low:
            result.append(Segment(low, slope, 0))
        else:
            bias = int(np.clip(np.rint(line(p.start)), 0, 255))
            shift = (bias - line(p.start)) / slope
            if abs(shift) * max(result[-1].slope - slope, 0) > 0.5:
                # flatter than the piece before: a shifted start would meet that one elsewhere, so begin inexactly
                result.append(Segment(p.start, slope, bias))
                bias = math.ceil(line(p.start))
                shift = (bias - line(p.start)) / slope
                if bias > 255 or p.start + shift >= end:
                    continue
            result.append(Segment(p.start + shift, slope, bias))
    return result


def _from_curve(expr: Expr, scale: float, zp: int, met: Met) -> list[Segment]:
    x, weight = met.points
    target = expr(x) / scale + zp
    finite = np.isfinite(target)
    if not finite.all() and finite.any():
        # beside the numbers that the function knows (a root, a logarithm) stands its nearest value
        target = np.interp(x, x[finite], target[finite])
    return fit(x, target, weight)


def _encode(segments: list[Segment], unit: float) -> ActivationTable:
    last = (1 << (ACT_START_BITS - 1)) - 1
    first = -last - 1
    starts, muls, shifts, biases = [], [], [], []
    for s in segments:
        start = first if s.start == -math.inf else int(np.clip(np.rint(s.start * unit), first, last))
        mul, shift = _fixed(s.slope / unit)
        starts.append(start)
        muls.append(mul)
        shifts.append(shift)
        biases.append(s.bias)
    # unused entries stand in front, level like the first segment, so that the search from the top never meets them
    unused = ACTIVATION_SEGMENTS - len(segments)
    starts = [first] * unused + starts
    muls = [0] * unused + muls
    shifts = [0] * unused + shifts
    biases = [biases[0]] * unused + biases
    table = [np.array(v, np.int64) for v in (starts, muls, shifts, biases)]
    return ActivationTable(*table)


def _fixed(slope: float) -> tuple[int, int]:
    """Return (mul, shift) with ``mul / 2**shift`` closest to ``slope >= 0``, mul below 2**15."""
    if slope <= 0:
        return 0, 0
    shift = min(ACT_SHIFT_MAX, 14 - math.floor(math.log2(slope)))
    if shift < 0:
        raise ValueError(f"activation slope {slope} is too steep for 16 bits")
    mul = round(slope * 2**shift)
    if mul >= 1 << (ACT_MUL_BITS - 1):
        shift -= 1
        mul = round(slope * 2**shift)
    return mul, shift

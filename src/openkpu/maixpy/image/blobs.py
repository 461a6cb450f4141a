"""flood_fill and find_blobs. Source: OpenMV's ``draw.c``, ``blob.c`` and ``py_image.c`` in MaixPy-v1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from openkpu.maixpy.image.arguments import Arguments, check, int32
from openkpu.maixpy.image.core import RGB565
from openkpu.maixpy.image.fast_math import cosine, fast_atan2, sine
from openkpu.maixpy.image.operands import MAXIMA, Mask, Operands, get_thresholds
from openkpu.maixpy.image.pixels import pack
from openkpu.maixpy.image.records import Record
from openkpu.maixpy.image.regions import label, similar

_f = np.float32


class Blob(Record):
    """One blob: ``rect()``, ``cx()``, ... as methods, and the first ten fields by index."""

    __slots__ = ()
    FIELDS = ("x", "y", "w", "h", "pixels", "cx", "cy", "rotation", "code", "count")
    NAME = "blob"

    def rect(self) -> tuple[int, int, int, int]:
        """Return (x, y, w, h); w and h are the distance between the outermost pixels, one less than their number."""
        x, y, w, h = self._values[:4]
        return x, y, w, h

    def area(self) -> int:
        """Return w * h."""
        return int(self._values[2] * self._values[3])

    def density(self) -> float:
        """Return pixels / area."""
        return float(_f(self._values[4]) / _f(self.area())) if self.area() else 0.0


@dataclass(slots=True)
class _Found:
    """A blob while it is being merged."""

    x: int
    y: int
    w: int
    h: int
    pixels: int
    cx: int
    cy: int
    rotation: float
    code: int
    count: int = 1

    def blob(self) -> Blob:
        return Blob(tuple(getattr(self, name) for name in Blob.FIELDS))


class Blobs(Operands):
    """Regions of similar colour."""

    __slots__ = ()

    def flood_fill(self, *args: Any, **kw: Any) -> Self:
        """Fill from a point.

        ``flood_fill(x, y, seed_threshold=0.05, floating_threshold=0.05, color, invert=False, clear_background=False,
        mask)``; the mask marks pixels that count as filled before the start.
        """
        self._need_mutable()
        a = Arguments(args, kw, 1)
        (x, y), at = a.integers(0, 2)
        limits = []
        for offset, name in enumerate(("seed_threshold", "floating_threshold")):
            share = _f(a.number(at + offset, name, 0.05))
            check(bool(0 <= share <= 1), f"Error: 0.0 <= {name} <= 1.0!")
            scaled = [int(share * _f(top)) for top in MAXIMA[self._format]]
            limits.append(int(pack(*scaled)) if self._format == RGB565 else scaled[0])
        ink = self._value(self._color(a.get(at + 2, "color")) if a.has(at + 2, "color") else -1)
        invert = bool(a.number(at + 3, "invert", 0))
        clear = bool(a.number(at + 4, "clear_background", 0))
        mask = self._mask(a, at + 5)
        if not (0 <= x < self._w and 0 <= y < self._h):
            return self
        filled = similar(self._format, self._pixels, (x, y), (limits[0], limits[1]), mask) ^ invert
        self._pixels[filled] = ink
        if clear:
            self._pixels[~filled] = 0
        return self._wrote("flood_fill")

    def find_blobs(self, *args: Any, **kw: Any) -> list[Blob]:
        """Find regions within thresholds.

        ``find_blobs(thresholds, invert=False, roi, x_stride=2, y_stride=1, area_threshold=10, pixels_threshold=10,
        merge=False, margin=0, threshold_cb, merge_cb)``
        """
        a = Arguments(args, kw, 1)
        self._need_mutable()
        thresholds = get_thresholds(a.values[0])
        if not thresholds:
            return []
        invert = a.flag(1, "invert")
        roi = a.roi(2, self._w, self._h)
        strides = a.integer(3, "x_stride", 2), a.integer(4, "y_stride", 1)
        check(strides[0] > 0, "x_stride must not be zero.")
        check(strides[1] > 0, "y_stride must not be zero.")
        # The limits are unsigned: a negative one is never reached.
        area, pixels = (a.integer(p, n, 10) % (1 << 32) for p, n in ((5, "area_threshold"), (6, "pixels_threshold")))
        merge, margin = a.flag(7, "merge"), a.integer(8, "margin", 0)
        keep = a.get(9, "threshold_cb") if a.has(9, "threshold_cb") else None
        join = a.get(10, "merge_cb") if a.has(10, "merge_cb") else None
        taken = np.zeros((roi[3], roi[2]), np.bool_)
        view = self._pixels[roi[1] : roi[1] + roi[3], roi[0] : roi[0] + roi[2]]
        found: list[_Found] = []
        for code, threshold in enumerate(thresholds):
            inside = self._within(threshold, invert, view) & ~taken
            blobs, mask = _blobs_of(inside, roi, strides, 1 << code)
            taken |= mask
            for blob in blobs:
                if blob.w * blob.h >= area and blob.pixels >= pixels and (keep is None or keep(blob.blob())):
                    found.append(blob)
        if merge:
            found = _merge(found, margin, join)
        return [b.blob() for b in found]


def _blobs_of(
    inside: Mask, roi: tuple[int, int, int, int], strides: tuple[int, int], code: int
) -> tuple[list[_Found], Mask]:
    """Return the regions that a pixel of the search grid hits, in the order in which the grid finds them, and where."""
    numbers = label(inside)
    h, w = inside.shape
    grid = np.zeros((h, w), np.bool_)
    for row in range(0, h, strides[1]):
        grid[row, (row + roi[1]) % strides[0] :: strides[0]] = True
    order, first = np.unique(numbers[grid & inside], return_index=True)
    if not order.size:
        return [], np.zeros((h, w), np.bool_)
    order = order[np.argsort(first)]
    hit = np.zeros(int(numbers.max()) + 2, np.bool_)  # the last element stands for outside
    hit[order] = True
    y, x = np.nonzero(inside)
    number = numbers[y, x]
    x, y = x + roi[0], y + roi[1]
    powers = {"x": x, "y": y, "xx": x * x, "xy": x * y, "yy": y * y}
    sums = {name: np.bincount(number, weights=v).astype(np.int64) for name, v in powers.items()}
    counts = np.bincount(number)
    start = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sort = np.argsort(number, kind="stable")
    ends = [f.reduceat(v[sort], start) for v in (x, y) for f in (np.minimum, np.maximum)]
    found = [
        _measure(
            int(counts[n]),
            {name: int(v[n]) for name, v in sums.items()},
            (int(ends[0][n]), int(ends[1][n]), int(ends[2][n]), int(ends[3][n])),
            code,
        )
        for n in order.tolist()
    ]
    return found, hit[numbers]


def _measure(count: int, sums: dict[str, int], box: tuple[int, int, int, int], code: int) -> _Found:
    """Make a blob of a region's sums and its box (left, right, top, bottom); second moments wrap at 32 bits."""
    mx, my = sums["x"] // count, sums["y"] // count
    a = int32(sums["xx"] - 2 * mx * sums["x"] + count * mx * mx)
    b = int32(sums["xy"] - (mx * sums["y"] + my * sums["x"]) + count * mx * my)
    c = int32(sums["yy"] - 2 * my * sums["y"] + count * my * my)
    rotation = float(fast_atan2(int32(2 * b), int32(a - c)) / _f(2)) if a != c else 0.0
    return _Found(box[0], box[2], box[1] - box[0], box[3] - box[2], count, mx, my, rotation, code)


def _merge(blobs: list[_Found], margin: int, join: Any) -> list[_Found]:
    """Merge blobs whose rectangles overlap, until none do."""
    merged = True
    while merged:
        merged = False
        waiting, done = blobs, []
        while waiting:
            blob, *others = waiting
            waiting = []
            for other in others:
                if _overlap(blob, other, margin) and (join is None or join(blob.blob(), other.blob())):
                    _unite(blob, other)
                    merged = True
                else:
                    waiting.append(other)
            done.append(blob)
        blobs = done
    return blobs


def _overlap(a: _Found, b: _Found, margin: int) -> bool:
    low, high = -(1 << 15), (1 << 15) - 1
    x, y = (min(max(v - margin, low), high) for v in (b.x, b.y))
    w, h = (min(max(v + margin * 2, 0), high) for v in (b.w, b.h))
    return a.x < x + w and a.y < y + h and x < a.x + a.w and y < a.y + a.h


def _unite(a: _Found, b: _Found) -> None:
    right, bottom = max(a.x + a.w, b.x + b.w), max(a.y + a.h, b.y + b.h)
    a.x, a.y = min(a.x, b.x), min(a.y, b.y)
    a.w, a.h = right - a.x, bottom - a.y
    total = a.pixels + b.pixels
    a.cx, a.cy = ((p * a.pixels + q * b.pixels) // total for p, q in ((a.cx, b.cx), (a.cy, b.cy)))
    y, x = ((f(_f(a.rotation)) * _f(a.pixels) + f(_f(b.rotation)) * _f(b.pixels)) / _f(total) for f in (sine, cosine))
    a.rotation = float(fast_atan2(y, x))
    a.pixels, a.code, a.count = total, a.code | b.code, min(a.count + b.count, 0xFFFF)

"""Shapes as sets of pixels, exactly as the firmware rasterises them. Source: OpenMV's ``draw.c`` in MaixPy-v1.

Every function paints ``value`` into an array (h, w) and clips. Sizes of brushes follow ``thickness``: from -(t // 2) to
(t - 1) // 2, cut to a disc.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_WIDE: Final = 16
"""From this size on brushes are painted one by one."""
_LONGEST: Final = 10_000_000

Pixels = NDArray[Any]
Point = tuple[int, int]


def fill(pixels: Pixels, value: int, left: int, top: int, right: int, bottom: int) -> None:
    """Paint columns left..right and rows top..bottom, ends included; nothing when they are in the wrong order."""
    if right >= left and bottom >= top and right >= 0 and bottom >= 0:
        pixels[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = value


def stamp(pixels: Pixels, value: int, mask: NDArray[np.bool_], left: int, top: int) -> None:
    """Paint where a mask whose corner lies at (left, top) is set."""
    height, width = pixels.shape
    x0, y0 = max(-left, 0), max(-top, 0)
    x1, y1 = min(mask.shape[1], width - left), min(mask.shape[0], height - top)
    if x1 > x0 and y1 > y0:
        part = pixels[top + y0 : top + y1, left + x0 : left + x1]
        np.copyto(part, part.dtype.type(value), where=mask[y0:y1, x0:x1])


def halves(thickness: int) -> tuple[int, int]:
    """Return how far a line of this thickness reaches to either side."""
    return thickness // 2, (thickness - 1) // 2


@lru_cache(maxsize=64)
def disc(first: int, last: int) -> NDArray[np.bool_]:
    """Return the brush of offsets first..last: x*x + y*y <= first*first."""
    offsets = np.arange(first, last + 1)
    return offsets[:, None] ** 2 + offsets**2 <= first * first


def spot(pixels: Pixels, value: int, centre: Point, first: int, last: int) -> None:
    """Paint one disc of any size."""
    x0, y0 = (max(c + first, 0) for c in centre)
    x1, y1 = (min(c + last + 1, n) for c, n in zip(centre, pixels.shape[::-1], strict=True))
    if x1 > x0 and y1 > y0:
        across, down = np.arange(x0, x1) - centre[0], np.arange(y0, y1) - centre[1]
        part = pixels[y0:y1, x0:x1]
        np.copyto(part, part.dtype.type(value), where=down[:, None] ** 2 + across**2 <= first * first)


def rectangle(pixels: Pixels, value: int, box: tuple[int, int, int, int], thickness: int, filled: bool) -> None:
    """Paint the rectangle x, y, w, h: filled, or as a frame that grows to both sides."""
    x, y, w, h = box
    if filled:
        fill(pixels, value, x, y, x + w - 1, y + h - 1)
    elif thickness > 0:
        before, after = halves(thickness)
        x1, y1 = x + w - 1, y + h - 1
        for row in (y, y1):
            fill(pixels, value, x - before, row - before, x1 + after, row + after)
        for column in (x, x1):
            fill(pixels, value, column - before, y - before, column + after, y1 + after)


def line(pixels: Pixels, value: int, start: Point, end: Point, thickness: int) -> None:
    """Paint a line by Bresenham's algorithm with a disc as brush."""
    if thickness <= 0:
        return
    before, after = halves(thickness)
    if thickness == 1 and (start[0] == end[0] or start[1] == end[1]):
        (x0, x1), (y0, y1) = (sorted((start[i], end[i])) for i in (0, 1))
        fill(pixels, value, x0, y0, x1, y1)
    else:
        brush(pixels, value, bresenham(start, end), -before, after)


def bresenham(start: Point, end: Point) -> NDArray[np.int64]:
    """Return the points of a line, (n, 2) of x, y."""
    (x, y), (x1, y1) = start, end
    dx, dy = abs(x1 - x), abs(y1 - y)
    if max(dx, dy) > _LONGEST:
        raise RuntimeError(f"openkpu board: a line of {max(dx, dy)} pixels keeps the board busy for seconds or minutes")
    sx, sy = 1 if x < x1 else -1, 1 if y < y1 else -1
    error = dx if dx > dy else -dy
    error = error // 2 if error >= 0 else -(-error // 2)
    points = [(x, y)]
    while (x, y) != (x1, y1):
        before = error
        if before > -dx:
            error -= dy
            x += sx
        if before < dy:
            error += dx
            y += sy
        points.append((x, y))
    return np.array(points, np.int64)


def brush(pixels: Pixels, value: int, points: NDArray[np.int64], first: int, last: int) -> None:
    """Paint the disc of offsets first..last at every point (n, 2)."""
    height, width = pixels.shape
    if last - first >= _WIDE:
        for x, y in points.tolist():
            spot(pixels, value, (x, y), first, last)
        return
    dy, dx = np.nonzero(disc(first, last))
    x = (points[:, 0, None] + (dx + first)).reshape(-1)
    y = (points[:, 1, None] + (dy + first)).reshape(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    pixels[y[inside], x[inside]] = value


def circle(pixels: Pixels, value: int, centre: Point, radius: int, thickness: int, filled: bool) -> None:
    """Paint a disc, or a ring between two midpoint circles."""
    x, y = centre
    if filled:
        spot(pixels, value, centre, -radius, radius)
    elif thickness > 0:
        for reach, (inner, outer) in ring(radius, thickness):
            for side in (reach, -reach):
                fill(pixels, value, x + inner, y + side, x + outer, y + side)
                fill(pixels, value, x - outer, y + side, x - inner, y + side)
                fill(pixels, value, x + side, y + inner, x + side, y + outer)
                fill(pixels, value, x + side, y - outer, x + side, y - inner)


def ring(radius: int, thickness: int) -> Iterable[tuple[int, tuple[int, int]]]:
    """Yield for each distance from the axis the inner and outer end of the ring's piece, for one eighth."""
    before, after = halves(thickness)
    outer, inner = radius + before, max(radius - after, 0)
    turn, y = inner, 0
    outer_error, inner_error = 1 - outer, 1 - inner
    while outer >= y:
        yield y, (inner, outer)
        y += 1
        if outer_error < 0:
            outer_error += 2 * y + 1
        else:
            outer -= 1
            outer_error += 2 * (y - outer + 1)
        if y > turn:
            inner = y
        elif inner_error < 0:
            inner_error += 2 * y + 1
        else:
            inner -= 1
            inner_error += 2 * (y - inner + 1)

"""Ellipses as sheared axis-parallel ellipses, in the firmware's steps. Source: OpenMV's ``draw.c`` in MaixPy-v1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import divide
from openkpu.maixpy.image.draw import Pixels, Point, brush, fill, halves
from openkpu.maixpy.image.fast_math import cosine, fast_atan, fma, radians, sine, tangent

_f = np.float32


def ellipse(
    pixels: Pixels, value: int, centre: Point, radii: Point, rotation: int, thickness: int, filled: bool
) -> None:
    """Paint an ellipse of radii rx, ry turned by whole degrees (0..359 counter-clockwise on paper, y down)."""
    wide, high = radii[0] * 2, radii[1] * 2
    if wide <= 0 or high <= 0:
        return
    turn = abs(rotation) % 180 if rotation >= 0 else -(abs(rotation) % 180)
    if wide == high or turn == 0:
        shape = (wide // 2, high // 2, _f(1), _f(0))
    elif turn == 90:
        shape = (high // 2, wide // 2, _f(1), _f(0))
    else:
        angle = radians(rotation)
        theta = fast_atan(_f(divide(high, wide)) * -tangent(angle))
        (cos_t, sin_t), (cos_r, sin_r) = ((cosine(a), sine(a)) for a in (theta, angle))
        w, h = _f(wide), _f(high)
        shear_x = fma(w * cos_t, cos_r, -(h * sin_t * sin_r))
        shear_y = fma(w * cos_t, sin_r, h * sin_t * cos_r)
        axis_x = abs(shear_x)
        axis_y = _f(high * wide) / axis_x if axis_x else _f(0)
        shape = (int(axis_x / _f(2)), int(axis_y / _f(2)), shear_x, shear_y)
    width, height, shear_x, shear_y = shape
    if shear_x == 0 or not (filled or thickness > 0):
        return
    outline = np.array(list(_outline(width, height)), np.int64).reshape(-1, 2)
    if filled:
        for x, y in outline.tolist():
            for column in (x, -x):
                middle = centre[1] + int(_f(column) * shear_y / shear_x)
                fill(pixels, value, centre[0] + column, middle - y, centre[0] + column, middle + y)
    else:
        before, after = halves(thickness)
        corners = np.concatenate([outline * sign for sign in ((1, 1), (-1, 1), (1, -1), (-1, -1))])
        brush(pixels, value, _sheared(corners, shear_x, shear_y) + centre, -before, after)


def _sheared(points: NDArray[np.int64], shear_x: Any, shear_y: Any) -> NDArray[np.int64]:
    """Move each point up or down in proportion to its x; truncates towards zero as the firmware's floor does."""
    moved = points.copy()
    moved[:, 1] += np.trunc(points[:, 0].astype(_f) * shear_y / shear_x).astype(np.int64)
    return moved


def _outline(width: int, height: int) -> Iterator[Point]:
    """Yield the points of a quarter of an ellipse: the flat part from the top, then the steep part from the side."""
    a2, b2 = width * width, height * height
    x, y = 0, height
    sigma = 2 * b2 + a2 * (1 - 2 * height)
    while b2 * x <= a2 * y:
        yield x, y
        if sigma >= 0:
            sigma += 4 * a2 * (1 - y)
            y -= 1
        sigma += b2 * (4 * x + 6)
        x += 1
    x, y = width, 0
    sigma = 2 * a2 + b2 * (1 - 2 * width)
    while a2 * y <= b2 * x:
        yield x, y
        if sigma >= 0:
            sigma += 4 * b2 * (1 - x)
            x -= 1
        sigma += a2 * (4 * y + 6)
        y += 1

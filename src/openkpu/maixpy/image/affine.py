"""get_affine_transform and warp_affine_ai. Source: MaixPy-v1 ``affine.c``, ``py_image.c``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import check, get_float, get_int, get_items, positional, type_name
from openkpu.maixpy.image.core import GRAYSCALE, RGB565, ImageCore
from openkpu.maixpy.image.host import warn_once

_f = np.float32
Matrix = NDArray[np.float32]


def get_affine_transform(*args: Any, **kw: Any) -> tuple[float, ...]:
    """Return nine numbers, the rotation, scale and shift that take the points of ``dst`` to those of ``src``.

    ``get_affine_transform(src, dst)``: two lists of up to 10 pairs; coordinates are cut to 16 bits.
    """
    positional(args, kw, 2)
    if not (isinstance(args[0], list) and isinstance(args[1], list)):
        raise OSError("Need input [[x0,y0],[x1,y1],...]\r\n")
    check(len(args[0]) == len(args[1]), "src len must equal with dst len")
    check(len(args[0]) <= 10, "must<=10 points")
    source, target = (
        np.array([[get_int(v) & 0xFFFF for v in get_items(p, 2)] for p in points], _f).reshape(-1, 2) for points in args
    )
    return tuple(float(v) for v in similarity(target, source).reshape(-1))


def similarity(start: Matrix, end: Matrix) -> Matrix:
    """Return the 3x3 similarity transform from points (n, 2) to points (n, 2) by Umeyama's method."""
    n = _f(len(start))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_start, mean_end = (p.sum(axis=0, dtype=_f) / n for p in (start, end))
        a, b = start - mean_start, end - mean_end
        covariance = (b.T @ a) / n
        u, s, v = _svd(covariance)
        rotation = u @ v
        spread = ((a.sum(axis=0, dtype=_f) / n - a) ** 2).sum(axis=0, dtype=_f) / n
        scale = _f(1) / (spread[0] + spread[1]) * (s[0] + s[1])
        matrix = np.eye(3, dtype=_f)
        matrix[:2, 2] = mean_end - scale * (rotation @ mean_start)
        matrix[:2, :2] = rotation * scale
    return matrix


def _svd(m: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Split a 2x2 matrix into u, singular values and v with closed formulas; of points on one line u is noise."""
    a, b, c, d = m.reshape(-1)
    far = np.hypot(float(a - d), float(b + c))
    s0 = _f((far + np.hypot(float(a + d), float(b - c))) / 2)
    s1 = _f(abs(float(s0) - far))
    angle = np.arctan2(float(_f(2) * (a * b + c * d)), float(a * a - b * b + c * c - d * d)) / 2
    sine = _f(np.sin(angle)) if s0 > s1 else _f(0)
    cosine = _f(np.sqrt(float(_f(1) - sine * sine)))
    u0, u2 = (-(a * cosine + b * sine) / s0, -(c * cosine + d * sine) / s0) if s0 else (_f(1), _f(0))
    u1, u3 = ((b * cosine - a * sine) / s1, (d * cosine - c * sine) / s1) if s1 else (-u2, u0)
    u, v = np.array([[u0, u1], [u2, u3]], _f), np.array([[-cosine, -sine], [-sine, cosine]], _f)
    return u, np.array([s0, s1], _f), v


def warp_affine_ai(*args: Any, **kw: Any) -> None:
    """Fill the planes of ``dst`` with those of ``src``, transformed: ``warp_affine_ai(src, dst, transform)``.

    The transform (nine numbers) leads from ``dst`` to ``src``; it is used in 1/256 pixel, bilinear, and pixels from
    outside are 0. The neighbours right and below of the last pixel are whatever lies behind in memory.
    """
    positional(args, kw, 3)
    matrix = [_f(get_float(v)) for v in get_items(args[2], 9)]
    source, target = (_any_image(v) for v in args[:2])
    if source._format != target._format:
        raise ValueError("src_img->bpp != dst_img->bpp")
    if source._ai is None or target._ai is None:
        raise ValueError("only support ai image affine")
    if source._format not in (GRAYSCALE, RGB565):
        raise ValueError("only support grayscale or RGB565 pic")
    channels = 1 if source._format == GRAYSCALE else 3
    planes, result = source.ai_planes(channels), target.ai_planes(channels)
    if planes is not None and result is not None and _warp(planes, result, matrix):
        warn_once(
            source._host, "warp_affine_ai() reads behind the source planes at the border; here it finds zeros there"
        )
    target._history.calls.clear()


def _any_image(value: object) -> ImageCore:
    if not isinstance(value, ImageCore):
        raise TypeError(f"Can't convert {type_name(value)} to Image")
    return value


def _warp(planes: NDArray[np.uint8], result: NDArray[np.uint8], m: list[Any]) -> bool:
    """Warp planes (c, h, w) into ``result`` (c, h2, w2); say whether memory behind the source was needed."""
    channels, h, w = planes.shape
    x = (np.arange(result.shape[2]) * 256).astype(_f)
    y = (np.arange(result.shape[1]) * 256).astype(_f)[:, None]
    at_x, at_y = (
        np.clip(np.trunc(m[3 * i] * x + m[3 * i + 1] * y + m[3 * i + 2] * _f(256)), -(2.0**31), 2.0**31 - 1).astype(
            np.int64
        )
        for i in (0, 1)
    )
    fx, fy, px, py = at_x & 255, at_y & 255, at_x >> 8, at_y >> 8
    inside = (px >= 0) & (px < w) & (py >= 0) & (py < h)
    flat = np.concatenate([planes.reshape(-1).astype(np.int64), np.zeros(w + 2, np.int64)])
    at = np.where(inside, py * w + px, 0)
    for c in range(channels):
        p = at + c * h * w
        total = (256 - fx) * (256 - fy) * flat[p] + fx * (256 - fy) * flat[p + 1]
        total += (256 - fx) * fy * flat[p + w] + fx * fy * flat[p + w + 1]
        result[c] = np.where(inside, total >> 16, 0)
    return bool((inside & ((py == h - 1) & (fy > 0))).any())

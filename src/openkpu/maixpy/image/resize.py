"""Scaling as ``Image.resize`` does it, with all its quirks. Source: MaixPy-v1 ``py_image.c``, ``py_image_resize``.

The arithmetic is float32 in the order of the source. The firmware is built with ``-ffast-math``, so a real board may be
one less or more where the exact value is a whole number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import to_uint8
from openkpu.maixpy.image.pixels import Bytes, Words, fields, pack

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


def resize_words(source: Words, width: int, height: int) -> Words:
    """Scale RGB565 words (h0, w0).

    Same size: a copy. If the width does not grow, or the height shrinks: the nearest pixel to the left and above.
    Otherwise bilinear on the 5/6/5 fields; at the right and lower edge the pixel as it is. At the left and upper edge
    the weights are 1 + f and -f, so that fields leave their range and spill into their neighbours.
    """
    h0, w0 = source.shape
    if (w0, h0) == (width, height):
        return source.copy()
    sx, sy = np.float32(w0) / np.float32(width), np.float32(h0) / np.float32(height)
    if w0 >= width or h0 > height:
        x0, y0 = (_floor(np.arange(n, dtype=np.float32) * s) for n, s in ((width, sx), (height, sy)))
        nearest: Words = source[y0[:, None], x0[None, :]]
        return nearest
    xf, x1 = _centres(width, sx)
    yf, y1 = (a[:, None] for a in _centres(height, sy))
    x2, y2 = np.minimum(x1 + 1, w0 - 1), np.minimum(y1 + 1, h0 - 1)
    right, left = (x1 + 1).astype(np.float32) - xf, xf - x1.astype(np.float32)
    lower, upper = (y1 + 1).astype(np.float32) - yf, yf - y1.astype(np.float32)
    channels = []
    for c in fields(source):
        f = c.astype(np.float32)
        above = right * f[y1, x1] + left * f[y1, x2]
        below = right * f[y2, x1] + left * f[y2, x2]
        channels.append(to_uint8(lower * above + upper * below).astype(np.int32))
    mixed = pack(*channels).astype(np.uint16)
    result: Words = np.where((x1 + 1 >= w0) | (y1 + 1 >= h0), source[y1, x1], mixed)
    return result


def resize_gray(source: Bytes, width: int, height: int) -> tuple[Bytes, bool]:
    """Scale grayscale pixels (h0, w0); also say whether memory behind the image was read (zeros here).

    If the width or the height does not shrink: bilinear, extrapolating at the left and upper edge. Otherwise the mean
    of the pixels [y*s, (y+1)*s] x [x*s, (x+1)*s], ends included, where s is the *vertical* scale in both directions.
    """
    h0, w0 = source.shape
    sx, sy = np.float32(w0) / np.float32(width), np.float32(h0) / np.float32(height)
    if width < w0 and height < h0:
        return _box_mean(source, width, height, sy)
    xf, x0 = _centres(width, sx)
    yf, y0 = (a[:, None] for a in _centres(height, sy))
    x1, y1 = np.where(x0 < w0 - 1, x0 + 1, x0), np.where(y0 < h0 - 1, y0 + 1, y0)
    right, left = (x0 + 1).astype(np.float32) - xf, xf - x0.astype(np.float32)
    lower, upper = (y0 + 1).astype(np.float32) - yf, yf - y0.astype(np.float32)
    f = source.astype(np.float32)
    total = f[y0, x0] * right * lower + f[y0, x1] * left * lower + f[y1, x0] * right * upper + f[y1, x1] * left * upper
    return to_uint8(total), False


def _centres(count: int, scale: Any) -> tuple[Floats, Indices]:
    """Return the source position of each destination pixel's centre and its truncated form."""
    half = np.float32(0.5)
    position = (np.arange(count, dtype=np.float32) + half) * scale - half
    return position, _floor(position)


def _floor(a: Floats) -> Indices:
    return np.trunc(a).astype(np.int64)


def _box_mean(source: Bytes, width: int, height: int, scale: Any) -> tuple[Bytes, bool]:
    """Average windows of the flat memory: a window that is too wide runs on in the next row."""
    w0 = source.shape[1]
    x0, x1 = _window(width, scale)
    y0, y1 = _window(height, scale)
    last_x, last_y = int(x1[-1]), int(y1[-1])
    behind = last_y * w0 + last_x >= source.size
    flat = np.zeros(last_y * w0 + max(last_x, w0) + 1, np.int64)
    keep = min(source.size, flat.size)
    flat[:keep] = source.reshape(-1)[:keep]
    rows = np.lib.stride_tricks.as_strided(flat, (last_y + 1, last_x + 1), (flat.itemsize * w0, flat.itemsize))
    sums = np.zeros((last_y + 2, last_x + 2), np.int64)
    sums[1:, 1:] = rows.cumsum(axis=0).cumsum(axis=1)
    bottom, top = (y1 + 1)[:, None], y0[:, None]
    total = sums[bottom, x1 + 1] - sums[top, x1 + 1] - sums[bottom, x0] + sums[top, x0]
    return (total // ((y1 - y0 + 1)[:, None] * (x1 - x0 + 1))).astype(np.uint8), behind


def _window(count: int, scale: Any) -> tuple[Indices, Indices]:
    """Return the first and the last source index of each destination pixel."""
    edges = _floor(np.arange(count + 1, dtype=np.float32) * scale)
    return edges[:-1], edges[1:]

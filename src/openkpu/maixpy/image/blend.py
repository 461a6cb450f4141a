"""Drawing one image on another. Source: OpenMV's ``draw.c`` with MaixPy's changes (``imlib_draw_image``).

The firmware treats every pixel as an RGB565 word whatever the formats are: a grayscale image drawn on a colour image
comes out in false colours, and of a colour image drawn on a grayscale one the low byte of the word is stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.core import BINARY, RGB565, ImageCore
from openkpu.maixpy.image.pixels import planes_table, words_from_rgb

_f = np.float32


def draw_image(
    target: ImageCore,
    source: ImageCore,
    x: int,
    y: int,
    scales: tuple[float, float],
    alpha: float,
    mask: ImageCore | None,
) -> None:
    """Paint ``source`` scaled by the nearest pixel at (x, y).

    With ``alpha`` below 1 a pixel counts alpha * (R | G | B) / 256, so that black is transparent.
    """
    x0, y0 = max(-x, 0), max(-y, 0)
    columns = _steps(source._w, scales[0], x0, target._w - x)
    rows = _steps(source._h, scales[1], y0, target._h - y)
    if not (columns.size and rows.size):
        return
    place = target._pixels[y + y0 : y + y0 + rows.size, x + x0 : x + x0 + columns.size]
    drawn = source._pixels[rows[:, None], columns[None, :]].astype(np.uint16)
    if alpha != 1:
        drawn = _mix(drawn, place.astype(np.uint16), alpha)
    if target._format != RGB565:
        drawn &= np.uint16(1 if target._format == BINARY else 0xFF)
    if mask is None:
        place[...] = drawn
    else:
        wanted = mask._mask_at(source._w, source._h)[rows[:, None], columns[None, :]]
        np.copyto(place, drawn.astype(place.dtype), where=wanted)


def _steps(count: int, scale: float, first: int, end: int) -> NDArray[np.int64]:
    """Return the source index of the destination pixels from ``first`` up to ``end``."""
    if scale == 0:
        return np.zeros(0, np.int64)
    last = min(float(_f(count) * _f(scale)), end)
    at = (np.arange(first, int(last)).astype(_f) * (_f(1) / _f(scale))).astype(np.int64)
    return np.minimum(at, count - 1)


def _mix(above: NDArray[np.uint16], below: NDArray[np.uint16], alpha: float) -> NDArray[np.uint16]:
    """Mix two arrays of words in 8 bits."""
    table = planes_table()
    upper, lower = table[:, above], table[:, below]
    share = _f(alpha) * ((upper[0] | upper[1] | upper[2]).astype(_f) / _f(256))
    rest = _f(1) - share
    mixed: Any = (upper.astype(_f) * share + lower.astype(_f) * rest).astype(np.uint16)
    return words_from_rgb(*np.minimum(mixed, 255).astype(np.uint8))

"""Resizing of pictures (n, c, h, w) with the arithmetic of nncase 1.9. Source: v1.9.0, ``kernels/kernel_utils.h``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.operators import ResizeMode
from openkpu.ops.tensor_movement import scale

Array = NDArray[Any]


def _bilinear(size: int, out: int, *, align_corners: bool, half: bool) -> tuple[Array, Array, Array]:
    """Position, and the indices of the two neighbours, of each output."""
    at = np.arange(out, dtype=np.float32)
    step = scale(size, out, align_corners)
    position = (at + np.float32(0.5)) * step - np.float32(0.5) if half else at * step
    first = np.maximum(np.floor(position).astype(np.int64), 0)
    second = np.minimum(np.ceil(position).astype(np.int64), size - 1)
    return position, np.minimum(first, size - 1), second


def nearest(size: int, out: int, *, align_corners: bool, half: bool) -> NDArray[np.int64]:
    """The input index of each output of a nearest-neighbour resize."""
    offset = np.float32(0.5 if half else 0)
    scaled = (np.arange(out, dtype=np.float32) + offset) * scale(size, out, align_corners)
    rounded = np.floor(scaled.astype(np.float64) + 0.5) if align_corners else np.floor(scaled)
    return np.clip(rounded.astype(np.int64), 0, size - 1)


def resize(mode: ResizeMode, x: Array, out: tuple[int, int], *, align_corners: bool, half_pixel_centers: bool) -> Array:
    """Resize (n, c, h, w) to ``out`` (height, width); float32 or uint8."""
    h, w = x.shape[2:]
    options = {"align_corners": align_corners, "half": half_pixel_centers}
    if mode is ResizeMode.NEAREST:
        rows, columns = nearest(h, out[0], **options), nearest(w, out[1], **options)
        return x[:, :, rows[:, None], columns]
    y, y0, y1 = _bilinear(h, out[0], **options)
    p, x0, x1 = _bilinear(w, out[1], **options)
    dy = (y - y0.astype(np.float32))[:, None]
    dx = p - x0.astype(np.float32)
    one = np.float32(1)
    weights = ((one - dy) * (one - dx), dy * (one - dx), (one - dy) * dx, dy * dx)
    corners = ((y0, x0), (y1, x0), (y0, x1), (y1, x1))
    total: Array = np.zeros((1,), np.float32)
    with np.errstate(all="ignore"):
        for i, (weight, (r, c)) in enumerate(zip(weights, corners, strict=True)):
            term = x[:, :, r[:, None], c].astype(np.float32) * weight
            total = term if i == 0 else total + term
        if x.dtype == np.uint8:
            total = np.clip(total + np.float32(0.5), 0, 255)
        return total.astype(x.dtype)

"""Tensor operators that move elements: pad, crop, slice, resize. Any element type.

Source: nncase v0.2.0-beta4, ``neutral_kernels.h``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.operators import Pair, ResizeMode


def pad(x: NDArray[Any], pads: tuple[Pair, ...], value: float) -> NDArray[Any]:
    """Add ``value`` before and after each dimension; a negative number crops."""
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, pads, strict=True))
    out = np.full(shape, value, x.dtype)
    inside, source = [], []
    for n, (before, after) in zip(x.shape, pads, strict=True):
        first, stop = max(before, 0), n + before - max(-after, 0)
        stop = max(first, stop)
        inside.append(slice(first, stop))
        source.append(slice(first - before, stop - before))
    out[tuple(inside)] = x[tuple(source)]
    return out


def slice_tensor(
    x: NDArray[Any], begin: tuple[int, ...], end: tuple[int, ...], stride: tuple[int, ...]
) -> NDArray[Any]:
    """``x[begin:end:stride]`` of every dimension, counted as a C loop does (an end of -1 with stride -1 includes 0)."""
    parts = [slice(b, None if e < 0 else e, s) for b, e, s in zip(begin, end, stride, strict=True)]
    return x[tuple(parts)]


def resize(x: NDArray[Any], mode: ResizeMode, height: int, width: int, *, align_corners: bool) -> NDArray[Any]:
    """(n, c, h, w), float32 or uint8, to another height and width.

    Nearest takes ``floor(y * h / height)``. Bilinear weighs the four neighbours of ``y * h / height`` (with
    ``align_corners`` of ``y * (h - 1) / (height - 1)``) in float32 and cuts a uint8 result.
    """
    if mode is ResizeMode.NEAREST:
        rows, columns = (
            np.minimum(np.floor(np.arange(out, dtype=np.float32) * scale(n, out, False)).astype(np.int64), n - 1)
            for n, out in zip(x.shape[2:], (height, width), strict=True)
        )
        return x[:, :, rows[:, None], columns]
    y, x_ = (_positions(n, out, align_corners) for n, out in zip(x.shape[2:], (height, width), strict=True))
    (y0, y1, fy), (x0, x1, fx) = y, x_
    fy, one = fy[:, None], np.float32(1)
    values = x if x.dtype == np.float32 else x.astype(np.float32)
    v0, v1 = values[:, :, y0[:, None], x0], values[:, :, y1[:, None], x0]
    v2, v3 = values[:, :, y0[:, None], x1], values[:, :, y1[:, None], x1]
    with np.errstate(all="ignore"):
        out = v0 * ((one - fy) * (one - fx)) + v1 * (fy * (one - fx))
        out = out + v2 * ((one - fy) * fx) + v3 * (fy * fx)
    return out if x.dtype == np.float32 else out.astype(np.uint8)


def scale(n: int, out: int, align_corners: bool) -> np.float32:
    """Return the distance of two samples in source pixels."""
    if align_corners and out > 1:
        return np.float32(n - 1) / np.float32(out - 1)
    return np.float32(n) / np.float32(out)


def _positions(
    n: int, out: int, align_corners: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Lower and upper neighbour of each sample, and how far it lies above the lower."""
    at = np.arange(out, dtype=np.float32) * scale(n, out, align_corners)
    low = np.minimum(np.floor(at).astype(np.int64), n - 1)
    return low, np.minimum(low + 1, n - 1), (at - low.astype(np.float32)).astype(np.float32)

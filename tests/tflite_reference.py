"""TensorFlow Lite's windowed operators in NumPy, in its own order (N, H, W, C), written from their definition."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def _padded(x: np.ndarray, k: Sequence[int], stride: int, dilation: int, same: bool, value: float) -> np.ndarray:
    if not same:
        return x
    pads = [(0, 0)]
    for n, size in zip(x.shape[1:3], k, strict=True):
        reach = (size - 1) * dilation + 1
        total = max((math.ceil(n / stride) - 1) * stride + reach - n, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, [*pads, (0, 0)], constant_values=value)


def windows(x: np.ndarray, k: Sequence[int], stride: int = 1, dilation: int = 1, same: bool = True, value: float = 0.0):
    """All windows: (N, OH, OW, kh, kw, C)."""
    x = _padded(x, k, stride, dilation, same, value)
    reach = [(size - 1) * dilation + 1 for size in k]
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(1, 2))
    return view[:, ::stride, ::stride, :, ::dilation, ::dilation].transpose(0, 1, 2, 4, 5, 3)


def conv(x: np.ndarray, w: np.ndarray, stride: int = 1, dilation: int = 1, same: bool = True) -> np.ndarray:
    """w is (O, kh, kw, I)."""
    return np.einsum("nyxijc,oijc->nyxo", windows(x, w.shape[1:3], stride, dilation, same), w)


def depthwise(x: np.ndarray, w: np.ndarray, stride: int = 1, same: bool = True) -> np.ndarray:
    """w is (1, kh, kw, C * multiplier)."""
    parts = w.reshape(*w.shape[1:3], x.shape[3], -1)
    y = np.einsum("nyxijc,ijcm->nyxcm", windows(x, w.shape[1:3], stride, 1, same), parts)
    return y.reshape(*y.shape[:3], -1)


def max_pool(x: np.ndarray, size: int, stride: int, same: bool) -> np.ndarray:
    return windows(x, (size, size), stride, 1, same, -np.inf).max((3, 4))


def average_pool(x: np.ndarray, size: int, stride: int, same: bool) -> np.ndarray:
    return np.nanmean(windows(x, (size, size), stride, 1, same, np.nan), (3, 4))


def transpose_conv(x: np.ndarray, w: np.ndarray, size: Sequence[int], stride: int, same: bool) -> np.ndarray:
    """Each input pixel adds its kernel to the output; what falls outside is dropped."""
    out = np.zeros((1, *size, w.shape[0]))
    k = w.shape[1:3]
    pads = [max((math.ceil(n / stride) - 1) * stride + s - n, 0) // 2 if same else 0
            for n, s in zip(size, k, strict=True)]  # fmt: skip
    for y in range(x.shape[1]):
        for z in range(x.shape[2]):
            for i in range(k[0]):
                for j in range(k[1]):
                    oy, oz = y * stride + i - pads[0], z * stride + j - pads[1]
                    if 0 <= oy < size[0] and 0 <= oz < size[1]:
                        out[0, oy, oz] += w[:, i, j] @ x[0, y, z]
    return out


def resize(x: np.ndarray, size: Sequence[int], *, linear: bool, align: bool, half: bool) -> np.ndarray:
    """Nearest: floor, half pixels without the shift back; with aligned corners rounding half up. Linear: as usual."""
    for axis, n in ((1, size[0]), (2, size[1])):
        have = x.shape[axis]
        scale = (have - 1) / (n - 1) if align and n > 1 else have / n
        at = (np.arange(n) + (0.5 if half else 0)) * scale
        if not linear:
            index = np.floor(at + 0.5) if align else np.floor(at)
            x = np.take(x, np.clip(index, 0, have - 1).astype(int), axis)
            continue
        at = np.clip(at - 0.5 if half else at, 0, have - 1)
        low = np.floor(at).astype(int)
        shape = [1] * 4
        shape[axis] = n
        part = (at - low).reshape(shape)
        x = np.take(x, low, axis) * (1 - part) + np.take(x, np.minimum(low + 1, have - 1), axis) * part
    return x

"""What ``KpuMove`` (shift, keep a part, pool, put zeros round the picture) and ``KpuRows`` do to bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def move(a: Mapping[str, Any], x: Bytes, zero_point: int) -> Bytes:
    """Run the operator with the attributes ``a`` on a batch (N, C, H, W)."""
    (dy, dx), keep = a["shift"], a["keep"]
    n, c, h, w = x.shape
    top, left, height, width = keep if keep is not None else (0, 0, h, w)
    placed = np.full((n, c, h, w), 0 if a["low"] else zero_point, np.uint8)
    y0, x0 = max(top - dy, 0), max(left - dx, 0)
    y1, x1 = min(top + height - dy, h), min(left + width - dx, w)
    placed[:, :, y0:y1, x0:x1] = x[:, :, y0 + dy : y1 + dy, x0 + dx : x1 + dx]
    out = pooled(placed, a["pool"])
    if a["picture"] is not None:
        top, left, height, width = a["picture"]
        whole = np.full_like(out, zero_point)
        part = slice(top, top + height), slice(left, left + width)
        whole[:, :, *part] = out[:, :, *part]
        out = whole
    return np.ascontiguousarray(out)


def pooled(x: Bytes, pool: str) -> Bytes:
    """Apply one of the poolings that pick or compare bytes."""
    if pool == "max2s1":
        right = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)))
        return np.maximum(
            np.maximum(right[:, :, :-1, :-1], right[:, :, 1:, :-1]),
            np.maximum(right[:, :, :-1, 1:], right[:, :, 1:, 1:]),
        )
    if pool == "none":
        return x
    h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    x = x[:, :, :h, :w]
    if pool == "max2":
        return np.maximum(
            np.maximum(x[:, :, ::2, ::2], x[:, :, 1::2, ::2]), np.maximum(x[:, :, ::2, 1::2], x[:, :, 1::2, 1::2])
        )
    return x[:, :, ::2, {"left_top2": 0, "right_top2": 1}[pool] :: 2]


def rows(a: Mapping[str, Any], inputs: list[Bytes], zero_point: int) -> Bytes:
    """Take rows of maps (N, C, H, W) and put them one below the other."""
    parts = []
    for x, first, count, shift in zip(inputs, a["first"], a["count"], a["shift"], strict=True):
        part = x[:, :, first + shift : first + count]
        parts.append(np.pad(part, ((0, 0), (0, 0), (0, shift), (0, 0)), constant_values=zero_point))
    return np.concatenate(parts, axis=2)

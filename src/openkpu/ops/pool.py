"""Pooling on the CPU: GLOBAL_AVERAGE_POOL2D, AVERAGE_POOL2D, QUANTIZED_MAX_POOL2D.

Windows count only the taps inside the picture. Pairs (kernel, stride, padding) are (width, height), as in the file.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def global_average_pool(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """(c, n) -> (c,): the sequential float32 sum of each row over n."""
    with np.errstate(all="ignore"):
        # Down the first axis of at least two columns NumPy adds row after row; along the last it would add in pairs.
        rows = np.repeat(x.T, 2, axis=1) if len(x) == 1 else x.T.copy()
        total = np.add.reduce(rows, axis=0, dtype=np.float32)[: len(x)]
        mean: NDArray[np.float32] = np.divide(total, np.float32(x.shape[1]), dtype=np.float32)
        return mean


def _valid(size: int, out: int, tap: int, stride: int, pad: int) -> tuple[slice, slice]:
    """Output positions whose tap ``tap`` falls inside the picture, and the input positions it reads there."""
    first = max(0, -(-(pad - tap) // stride))
    last = min(out, (size - 1 + pad - tap) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = first * stride - pad + tap
    return slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)


def _taps(
    height: int,
    width: int,
    out: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """(output rows and columns, input rows and columns) for every tap of the window, row by row."""
    # Taps that no output position can use are left out: a hostile kernel of 2^32 costs nothing.
    for ky in range(min(kernel[1], height + padding[1])):
        oy, iy = _valid(height, out[1], ky, stride[1], padding[1])
        if oy.stop == 0:
            continue
        for kx in range(min(kernel[0], width + padding[0])):
            ox, ix = _valid(width, out[2], kx, stride[0], padding[0])
            if ox.stop:
                yield (oy, ox), (iy, ix)


def average_pool(
    x: NDArray[np.float32],
    out: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> NDArray[np.float32]:
    """(c, h, w) -> ``out`` (c, oh, ow): mean over the valid taps, summed row by row in float32."""
    total = np.zeros(out, np.float32)
    count = np.zeros(out[1:], np.float32)
    with np.errstate(all="ignore"):
        for (oy, ox), (iy, ix) in _taps(x.shape[1], x.shape[2], out, kernel, stride, padding):
            total[:, oy, ox] += x[:, iy, ix]
            count[oy, ox] += 1
        total /= count
    return total


def quantized_max_pool(
    x: NDArray[np.uint8],
    out: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> NDArray[np.uint8]:
    """uint8 (c, h, w) -> ``out`` (c, oh, ow): maximum over the valid taps, 0 where there is none.

    A negative padding starts inside the picture; with a 1x1 kernel that crops or slices.
    """
    best = np.zeros(out, np.uint8)
    for (oy, ox), (iy, ix) in _taps(x.shape[1], x.shape[2], out, kernel, stride, padding):
        np.maximum(best[:, oy, ox], x[:, iy, ix], out=best[:, oy, ox])
    return best

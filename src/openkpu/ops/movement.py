"""Data movement: TENSORFLOW_FLATTEN, (QUANTIZED_)RESIZE_NEAREST_NEIGHBOR, K210_REMOVE_PADDING.

CONCAT copies byte ranges of the main buffer one after the other and therefore lives in the session.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def flatten(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """(c, h, w) -> (h, w, c), TensorFlow's order."""
    return np.ascontiguousarray(x.transpose(1, 2, 0))


def _nearest(out: int, size: int) -> NDArray[np.intp]:
    """``min(floorf(o * ((float)size / out)), size - 1)`` for o = 0..out-1."""
    scale = np.float32(size) / np.float32(out)
    source = np.floor(np.arange(out, dtype=np.float32) * scale)
    index: NDArray[np.intp] = np.minimum(source, np.float32(size - 1)).astype(np.intp)
    return index


def resize_nearest(x: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """(c, h, w) -> (c, height, width), float32 or uint8. The file's ``align_corners`` has no effect on the device."""
    return x[:, _nearest(height, x.shape[1])[:, None], _nearest(width, x.shape[2])]


def remove_padding(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(c, 4, 4) -> (c,): pixel (0, 0) of each map."""
    return x[:, 0, 0].copy()

"""Between float32 and uint8: QUANTIZE, DEQUANTIZE, CHANNELWISE_DEQUANTIZE, REQUANTIZE."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def quantize(x: NDArray[np.float32], scale: float, bias: float) -> NDArray[np.uint8]:
    """``clamp(roundf((x - bias) * (1 / scale)), 0, 255)``; any shape. ``roundf`` rounds halves away from zero.

    Not a number becomes 255, as the RISC-V float-to-int conversion gives the largest int.
    """
    with np.errstate(all="ignore"):
        v = (x - np.float32(bias)) * (np.float32(1) / np.float32(scale))
    # Values outside the range clamp whatever their rounding; inside, float64 adds the half exactly.
    v = np.nan_to_num(np.clip(v, -1, 256), nan=256).astype(np.float64)
    result: NDArray[np.uint8] = np.clip(np.floor(v + 0.5), 0, 255).astype(np.uint8)
    return result


def dequantize(x: NDArray[np.uint8], scale: float, bias: float) -> NDArray[np.float32]:
    """``x * scale + bias``; any shape."""
    with np.errstate(all="ignore"):
        return x * np.float32(scale) + np.float32(bias)


def channelwise_dequantize(
    x: NDArray[np.uint8], scale: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float32]:
    """``x[c] * scale[c] + bias[c]``; ``x`` has the channels first, ``scale`` and ``bias`` are (c,)."""
    column = (-1,) + (1,) * (x.ndim - 1)
    with np.errstate(all="ignore"):
        return x * scale.astype(np.float32).reshape(column) + bias.astype(np.float32).reshape(column)


def requantize(x: NDArray[np.uint8], table: bytes) -> NDArray[np.uint8]:
    """Look every byte up in ``table`` (256 bytes); any shape."""
    return np.frombuffer(table, np.uint8)[x]

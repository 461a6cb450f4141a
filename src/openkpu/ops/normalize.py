"""Over one vector: SOFTMAX, L2_NORMALIZATION."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_L2_EPSILON: Final = np.float32(1e-10)


def _sum(x: NDArray[np.float32]) -> np.float32:
    """Sequential float32 sum."""
    total: np.float32 = np.add.accumulate(x.reshape(-1), dtype=np.float32)[-1]
    return total


def softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over all elements; any shape.

    The runtime's maximum starts at ``FLT_MIN`` (the smallest positive normal number, not the most negative one), so
    logits that are all negative are not shifted, and below about -104 the result is 0 / 0.
    """
    # fmaxf ignores NaN, as does fmax.
    top = np.fmax(np.finfo(np.float32).tiny, np.fmax.reduce(x, axis=None))
    with np.errstate(all="ignore"):
        e = np.exp(x - top)
        result: NDArray[np.float32] = e / _sum(e)
    return result


def l2_normalize(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``x * (1 / sqrtf(max(sum(x * x), 1e-10)))`` over all elements; any shape."""
    with np.errstate(all="ignore"):
        total = _sum(x * x)
        total = _L2_EPSILON if total < _L2_EPSILON else total
        result: NDArray[np.float32] = x * (np.float32(1) / np.sqrt(total))
    return result

"""FULLY_CONNECTED."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.program import Activation

_BLOCK = 1 << 18  # products held at once


def fully_connected(
    x: NDArray[np.float32], weights: NDArray[np.float32], bias: NDArray[np.float32], activation: Activation
) -> NDArray[np.float32]:
    """(ic,) -> (oc,) with ``weights`` (oc, ic) and ``bias`` (oc,).

    The float32 sum over ic in order, then the bias, then the activation.
    """
    oc, ic = weights.shape
    out = np.empty(oc, np.float32)
    step = max(1, _BLOCK // ic)
    with np.errstate(all="ignore"):
        for first in range(0, oc, step):
            products = weights[first : first + step] * x
            np.add.accumulate(products, axis=1, out=products)
            out[first : first + step] = products[:, -1] + bias[first : first + step]
        if activation is not Activation.LINEAR:
            np.maximum(out, np.float32(0), out=out)
        if activation is Activation.RELU6:
            np.minimum(out, np.float32(6), out=out)
    return out

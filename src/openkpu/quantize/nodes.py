"""Small questions about the operators of a lowered graph that quantisation asks in several places."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.elementwise import Expr, X, clip, is_homogeneous
from openkpu.graph.ir import Node
from openkpu.quantize.params import QParams
from openkpu.quantize.taps import positions

Array = NDArray[Any]
RELU: Final = clip(X, 0, float("inf"))


def apply_taps(node: Node, w: NDArray[Any], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean convolution result of each output channel from the means of the taps (C, k, k)."""
    if node.attrs["depthwise"]:
        return np.asarray((w[:, 0] * means).sum((1, 2)))
    return np.asarray(w.reshape(len(w), -1).astype(np.float64) @ means.reshape(-1))


Reading = tuple[int, int, int, int, int, int]


def reading(node: Node) -> Reading:
    """Return what tells the inputs of a KPU layer's taps apart: the parts of a split layer share them.

    The id of the tensor, the kernel, the step and first column of the positions, the first channel, their number.
    """
    w = node.inputs[1]
    channels = node.inputs[0].shape[1] if node.attrs["depthwise"] else w.shape[1]
    offset = node.attrs["offset"] if node.attrs["vector"] else 0
    return id(node.inputs[0]), w.shape[2], *positions(node.attrs["pool"]), offset, channels


def saturates(fn: Expr | None) -> bool:
    """Whether channels may be scaled apart under this function: homogeneous, or a ReLU with an upper limit."""
    if fn is None or is_homogeneous(fn):
        return True
    return fn.op == "Min" and fn.args[1].op == "const" and fn.args[0] == RELU


def as_map(node: Node, x: Array) -> Array:
    """Return a layer's input as maps (N, C, H, W); of a vector (N, K) the part that the layer reads."""
    if not node.attrs["vector"]:
        return x
    first = node.attrs["offset"]
    return x[:, first : first + node.inputs[1].shape[1]].reshape(len(x), -1, 1, 1)


def make_table(fn: Expr, pin: QParams, pout: QParams) -> bytes:
    """Return the 256-entry table of a function between two uniform quantisations."""
    real = np.arange(256) * pin.scale[0] + pin.bias[0]
    return bytes(
        np.clip(np.rint(fn(real.astype(np.float64)) / pout.scale[0] + pout.zero_point), 0, 255).astype(np.uint8)
    )


def snr(reference: Array, got: Array) -> float:
    """Signal-to-noise ratio in dB: ``10 log10(sum ref^2 / sum (ref - got)^2)``."""
    ref = np.asarray(reference, np.float64).reshape(-1)
    noise = float(((ref - np.asarray(got, np.float64).reshape(-1)) ** 2).sum())
    signal = float((ref**2).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(max(signal, 1e-30) / noise))

"""Small questions about the operators of a lowered graph that quantisation asks in several places."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

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


class Reading(NamedTuple):
    """What tells the inputs of KPU layers' taps apart: the parts of a split layer share them."""

    tensor: int
    """Its id."""
    kernel: int
    step: int
    column: int
    first: int
    channels: int
    picture: tuple[int, int, int, int] | None


def reading(node: Node) -> Reading:
    """Return what the taps of a KPU layer read."""
    w = node.inputs[1]
    channels = node.inputs[0].shape[1] if node.attrs["depthwise"] else w.shape[1]
    offset = node.attrs["offset"] if node.attrs["vector"] else 0
    step, column = positions(node.attrs["pool"])
    return Reading(id(node.inputs[0]), w.shape[2], step, column, offset, channels, node.attrs.get("picture"))


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


def inside(node: Node | None, x: Array) -> Array:
    """Return the part of a layer's input or output maps (N, C, H, W) that belongs to its picture; the rest is nobody's.

    A vector, and what no layer made, is all picture.
    """
    picture = node.attrs.get("picture") if node is not None and node.op == "KpuConv" else None
    if node is None or picture is None:
        return x
    top, left, height, width = picture
    scale = x.shape[2] // node.output.shape[2]
    return x[:, :, top * scale : (top + height) * scale, left * scale : (left + width) * scale]


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

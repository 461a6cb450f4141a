"""Run one operator of a quantised graph on dense arrays, picture by picture, to see what its numbers do.

KPU layers run in the engine, in a scratch AI RAM; the CPU operators are done in NumPy (their exact arithmetic lives in
``ops`` and does not matter for choosing numbers).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.ir import Node
from openkpu.k210 import AI_RAM_BYTES
from openkpu.kpu import engine, fmap
from openkpu.kpu.layer import KpuLayer
from openkpu.lower.byte_move import move

Array = NDArray[Any]


class Scratch:
    """A scratch AI RAM for running single layers."""

    def __init__(self, threads: int = 1) -> None:
        self.ai = np.zeros(AI_RAM_BYTES, np.uint8)
        self.threads = threads

    def run(self, layer: KpuLayer, x: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Run a layer on dense uint8 pictures (N, C, H, W); returns (N, OC, OH, OW)."""
        lines = fmap.FeatureMapLayout(*layer.input_shape).lines
        return engine.run_pictures(layer, self.ai, x, lines, threads=self.threads)


def float_op(node: Node, inputs: list[Array]) -> Array:
    """Run a float CPU operator on a batch (N, ...)."""
    x = inputs[0]
    a = node.attrs
    if node.op == "CpuGlobalAveragePool":
        return np.asarray(x.mean((2, 3), dtype=np.float32))
    if node.op == "CpuFullyConnected":
        y = x @ np.asarray(node.inputs[1].data).T + np.asarray(node.inputs[2].data)
        return np.asarray(a["fn"](y.astype(np.float64)) if a["fn"] is not None else y, np.float32)
    if node.op == "CpuSoftmax":
        e = np.exp(x - x.max(-1, keepdims=True))
        return np.asarray(e / e.sum(-1, keepdims=True), np.float32)
    if node.op == "CpuLogistic":
        return np.asarray(1 / (1 + np.exp(-x.astype(np.float64))), np.float32)
    if node.op == "CpuAdd":
        return np.asarray(x + inputs[1], np.float32)
    if node.op == "CpuNormalize":
        rows = x.reshape(len(x), *node.inputs[0].shape).astype(np.float64)
        norm = np.linalg.norm(rows, a["p"], a["axis"] + 1, keepdims=True)
        return np.asarray(rows / np.maximum(norm, 1e-10), np.float32).reshape(x.shape)
    if node.op == "CpuToHWC":
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    if node.op == "CpuAveragePool":
        return _windows(
            x,
            a["kernel"],
            a["stride"],
            (-a["pads"][0], -a["pads"][1]),
            (node.output.shape[2], node.output.shape[3]),
            np.nanmean,
        )
    raise ValueError(f"no float operator {node.op}")


def u8_op(node: Node, x: NDArray[np.uint8], zero_point: int) -> NDArray[np.uint8]:
    """Run a uint8 operator of the CPU, or a move, on a batch (N, C, H, W)."""
    a = node.attrs
    if node.op == "KpuMove":
        return move(a, x, zero_point)
    if node.op == "CpuMaxPool":
        if tuple(a["kernel"]) == (1, 1) and min(a["origin"]) >= 0:
            (t, le), (sh, sw), (h, w) = a["origin"], a["stride"], a["size"]
            return np.ascontiguousarray(x[:, :, t : t + sh * (h - 1) + 1 : sh, le : le + sw * (w - 1) + 1 : sw])
        return _maximum(x, a["kernel"], a["stride"], a["origin"], a["size"])
    if node.op == "CpuInterleave":
        return np.ascontiguousarray(x.transpose(a["perm"]))
    if node.op == "CpuPad":
        t, le, b, r = a["pads"]
        return np.pad(x, ((0, 0), (0, 0), (t, b), (le, r)), constant_values=zero_point)
    if node.op == "CpuResize":
        h, w = x.shape[2:]
        oh, ow = a["size"]
        return np.ascontiguousarray(x[:, :, np.arange(oh) * h // oh][:, :, :, np.arange(ow) * w // ow])
    raise ValueError(f"no uint8 operator {node.op}")


def _maximum(
    x: NDArray[np.uint8],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    origin: tuple[int, int],
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """Return the maximum of every window; what lies outside the picture is 0, and so never above a value inside."""
    h, w = x.shape[2:]
    before = [max(0, -o) for o in origin]
    ends = [o + s * (n - 1) + k for o, s, n, k in zip(origin, stride, size, kernel, strict=True)]
    after = [max(0, end - length) for end, length in zip(ends, (h, w), strict=True)]
    if any(before) or any(after):
        x = np.pad(x, ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1])))
    top, left = (o + b for o, b in zip(origin, before, strict=True))
    result: NDArray[np.uint8] | None = None
    for i in range(top, top + kernel[0]):
        rows = x[:, :, i : i + stride[0] * (size[0] - 1) + 1 : stride[0]]
        for j in range(left, left + kernel[1]):
            tap = rows[:, :, :, j : j + stride[1] * (size[1] - 1) + 1 : stride[1]]
            result = tap.copy() if result is None else np.maximum(result, tap, out=result)
    assert result is not None
    return result


def _windows(
    x: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    origin: tuple[int, int],
    size: tuple[int, int],
    reduce: Any,
) -> Array:
    """Apply ``reduce`` to the valid taps of every window."""
    h, w = x.shape[2:]
    stack = []
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            ys, xs = origin[0] + i + stride[0] * np.arange(size[0]), origin[1] + j + stride[1] * np.arange(size[1])
            taken = x[:, :, np.clip(ys, 0, h - 1)][:, :, :, np.clip(xs, 0, w - 1)].astype(np.float32)
            outside = ((ys < 0) | (ys >= h))[:, None] | ((xs < 0) | (xs >= w))[None, :]
            taken[:, :, outside] = np.nan
            stack.append(taken)
    return np.asarray(reduce(np.stack(stack), axis=0), np.float32)

"""The float meaning of ``KpuMove`` and ``KpuRows``, as ONNX nodes."""

from __future__ import annotations

import numpy as np

from openkpu.float.export import Emitter
from openkpu.graph.ir import Node

LOWEST = -1e30
"""Stands for the lowest byte, below everything."""


def kpu_move(node: Node, emit: Emitter) -> None:
    """Cut the part out, put it back shifted, pool, and put zeros round the picture."""
    a = node.attrs
    out = node.output.name
    h, w = node.inputs[0].shape[2:]
    (dy, dx), keep = a["shift"], a["keep"]
    top, left, height, width = keep if keep is not None else (0, 0, h, w)
    x, count = node.inputs[0].name, 0

    def pad(x: str, edges: tuple[int, int, int, int], value: float, to: str) -> str:
        """Pad (crop, where negative) top, left, bottom, right."""
        nonlocal count
        count += 1
        t, le, b, r = edges
        pads = emit.const(f"{out}.edges{count}", np.array([0, 0, t, le, 0, 0, b, r], np.int64))
        filler = emit.const(f"{out}.filler{count}", np.array(value, np.float32))
        emit.node("Pad", [x, pads, filler], [to])
        return to

    bottom, right = h - top - height, w - left - width
    x = pad(x, (-top, -left, -bottom, -right), 0.0, emit.temp(out))
    inner = a["pool"] == "none" and a["picture"] is None
    filler = LOWEST if a["low"] else 0.0
    x = pad(x, (top - dy, left - dx, bottom + dy, right + dx), filler, out if inner else emit.temp(out))
    if a["pool"] != "none":
        last = a["picture"] is None
        x = _pool(x, a["pool"], (h, w), out if last else emit.temp(out), out, emit)
    if a["picture"] is not None:
        top, left, height, width = a["picture"]
        oh, ow = node.output.shape[2:]
        bottom, right = oh - top - height, ow - left - width
        x = pad(x, (-top, -left, -bottom, -right), 0.0, emit.temp(out))
        pad(x, (top, left, bottom, right), 0.0, out)


def kpu_rows(node: Node, emit: Emitter) -> None:
    """Rows of one map, or of several, one below the other."""
    out, a = node.output.name, node.attrs
    parts = []
    for t, first, count, shift in zip(node.inputs, a["first"], a["count"], a["shift"], strict=True):
        pads = [0, 0, -first - shift, 0, 0, 0, first + count + shift - t.shape[2], 0]
        edges = emit.const(f"{out}.edges", np.array(pads, np.int64))
        parts.append(out if len(node.inputs) == 1 else emit.temp(out))
        emit.node("Pad", [t.name, edges], [parts[-1]])
    if len(parts) > 1:
        emit.node("Concat", parts, [out], axis=2)


def _pool(x: str, pool: str, size: tuple[int, int], to: str, stem: str, emit: Emitter) -> str:
    if pool == "max2s1":
        emit.node("MaxPool", [x], [to], kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
    elif pool == "max2":
        emit.node("MaxPool", [x], [to], kernel_shape=[2, 2], strides=[2, 2])
    else:
        values = {
            "starts": [0, {"left_top2": 0, "right_top2": 1}[pool]],
            "ends": [n // 2 * 2 for n in size],
            "axes": [2, 3],
            "steps": [2, 2],
        }
        ends = [emit.const(f"{stem}.{n}", np.array(v, np.int64)) for n, v in values.items()]
        emit.node("Slice", [x, *ends], [to])
    return to

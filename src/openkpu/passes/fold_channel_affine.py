"""Fold Mul, Add, Sub and Div by a constant per channel (or number) into the linear layer before it.

before: ``y = Conv(x, w, b) * k``  (k of shape (1, C, 1, 1), (C, 1, 1) or a scalar; likewise +, -, /)
after:  ``y = Conv(x, w * k, b * k)``

Exact: an affine map of each output channel. Without such a layer before it, a map by per-channel constants becomes a
depthwise 1x1 convolution; a map by plain numbers is left to ``fuse_elementwise``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.passes.affine import apply_affine


def fold_channel_affine(graph: Graph) -> None:
    """Rewrite until nothing matches."""
    for node in list(graph.nodes):
        match = _affine(node)
        if match is None:
            continue
        x, k, c = match
        scalar = k.size == 1 and c.size == 1
        p = x.producer
        foldable = p is not None and p.op in ("Conv", "Gemm") and graph.only_reader(x) is not None
        if foldable or not scalar:
            channels = x.shape[1]
            apply_affine(graph, node, x, np.broadcast_to(k, channels), np.broadcast_to(c, channels))
    graph.sort()


def _affine(node: Node) -> tuple[Tensor, NDArray[np.float64], NDArray[np.float64]] | None:
    """Return (x, k, c) where the node computes ``x * k + c`` with one number a channel."""
    if node.op not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    a, b = node.inputs
    if a.is_constant == b.is_constant:
        return None
    x, const = (b, a) if a.is_constant else (a, b)
    values = per_channel(const, x)
    if values is None or len(x.shape) not in (2, 4):
        return None
    one, zero = np.ones(1), np.zeros(1)
    if node.op == "Add":
        return x, one, values
    if node.op == "Mul":
        return x, values, zero
    if node.op == "Sub":
        return (x, one, -values) if const is b else (x, -one, values)
    return (x, 1 / values, zero) if const is b else None


def per_channel(const: Tensor, x: Tensor) -> NDArray[np.float64] | None:
    """Return the constant as (1,) or (channels,) values if it broadcasts along the channels of ``x`` only."""
    data = np.asarray(const.data, np.float64)
    if data.size == 1:
        return data.reshape(1)
    rank = len(x.shape)
    full = (1,) * (rank - data.ndim) + data.shape
    if data.size == x.shape[1] and len(full) == rank and full[1] == x.shape[1]:
        return data.reshape(-1)
    return None

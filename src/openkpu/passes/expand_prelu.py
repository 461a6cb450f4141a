"""Write PRelu (a slope for each channel) with ReLU and a 1x1 convolution, for a chip with one activation table a layer.

before: ``y = PRelu(Conv(x, w, b), a)``
after:  ``y = Conv1x1(Relu(Conv(x, [w; -w], [b; -b])), [I | -diag(a)])``

Exact: ``prelu(v) = relu(v) - a * relu(-v)``. A slope that is the same for all channels becomes LeakyRelu instead,
unless it is negative: a function that falls and rises, as Abs does (slope -1), has no good table, so it is written out.
Of a model that came quantised, both halves get the range of ``v``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.elementwise import BINARY, UNARY
from openkpu.graph.ir import Graph, Node, Scale, Tensor
from openkpu.passes.fold_channel_affine import per_channel


def expand_prelu(graph: Graph) -> None:
    """Rewrite every PRelu with a constant slope; over (1, K) vectors too (as Gemm)."""
    for node in list(graph.nodes):
        x, out = node.inputs[0] if node.inputs else None, node.outputs[0]
        slope = None if x is None or len(x.shape) not in (2, 4) else _slope(graph, node)
        if x is None or slope is None:
            continue
        at = graph.nodes.index(node)
        if np.ptp(slope) < 1e-7 and slope[0] >= 0:
            graph.nodes[at] = Node("LeakyRelu", [x], [out], {"alpha": float(slope[0])}, node.source)
            continue
        c = x.shape[1]
        eye = np.eye(c)
        split = _linear(graph, x, np.concatenate([eye, -eye]), f"{out.name}.split", node.source)
        p = x.producer
        if (
            p is not None
            and p.op in ("Conv", "Gemm")
            and len(graph.consumers(x)) == 1
            and not graph.is_output(x)
            and p.attrs.get("group", 1) == 1
            and all(t.is_constant for t in p.inputs[1:])
        ):
            w, b = p.weights_and_bias()
            p.inputs = [
                p.inputs[0],
                graph.constant(f"{out.name}.w", np.concatenate([w, -w])),
                graph.constant(f"{out.name}.b", np.concatenate([b, -b])),
            ]
            p.outputs = [split.output]
            split.output.producer = p
            new = []
        else:
            new = [split]
        positive = Tensor(f"{out.name}.relu", split.output.shape)
        whole = graph.scales.get(x.name)
        if whole is not None:
            farthest = max(whole.zero_point, 255 - whole.zero_point)
            graph.scales[positive.name] = Scale(whole.scale * farthest / 255, 0)
        relu = Node("Relu", [split.output], [positive], {}, node.source)
        join = _linear(
            graph, positive, np.concatenate([eye, -np.diag(np.broadcast_to(slope, c))], axis=1), "", node.source
        )
        join.outputs = [out]
        out.producer = join
        graph.nodes[at : at + 1] = [*new, relu, join]
    graph.sort()


def _slope(graph: Graph, node: Node) -> NDArray[np.float64] | None:
    """Return the slopes for negative numbers of a node that is to be rewritten; None for other nodes."""
    if node.op == "PRelu" and node.inputs[1].is_constant:
        return per_channel(node.inputs[1], node.inputs[0])
    falls = node.op == "Abs" or (node.op == "LeakyRelu" and node.attrs["alpha"] < 0)
    # inside a longer function of one tensor (x / (1 + |x|)) the whole of it counts
    if not falls or any(u.op in BINARY or u.op in UNARY for u in graph.consumers(node.output)):
        return None
    return np.array([-1.0 if node.op == "Abs" else node.attrs["alpha"]])


def _linear(graph: Graph, x: Tensor, matrix: np.ndarray, name: str, source: tuple[str, ...]) -> Node:
    """Make a 1x1 Conv or a Gemm that applies ``matrix`` (out, in)."""
    n = matrix.shape[0]
    m = matrix.astype(np.float32)
    bias = graph.constant(f"{name}.b", np.zeros(n, np.float32))
    if len(x.shape) == 2:
        return Node("Gemm", [x, graph.constant(f"{name}.w", m), bias], [Tensor(name, (1, n))], {}, source)
    attrs = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
    w = graph.constant(f"{name}.w", m.reshape(*m.shape, 1, 1))
    return Node("Conv", [x, w, bias], [Tensor(name, (1, n, *x.shape[2:]))], attrs, source)

"""Apply ``y = x * k + c`` (a number each channel) inside the producer of ``x``, or as a layer of its own.

Not a pass of its own: the shared piece of ``fold_batch_norm`` and ``fold_channel_affine``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.ir import Graph, Node, Tensor


def apply_affine(graph: Graph, node: Node, x: Tensor, k: NDArray[np.float64], c: NDArray[np.float64]) -> None:
    """Replace ``node``, which computes ``x * k + c`` with k and c of shape (channels,), and drop it from the graph.

    The producer of ``x`` takes it in if that is a linear layer with constant weights and no other reader. Otherwise
    it becomes a depthwise 1x1 convolution, for a vector (1, C) a Gemm with a diagonal.
    """
    p = x.producer
    only_reader = graph.only_reader(x) is not None
    if p is not None and p.op in ("Conv", "Gemm") and only_reader and all(t.is_constant for t in p.inputs[1:]):
        w, b = p.weights_and_bias(np.float64)
        w = w * k.reshape(-1, *[1] * (w.ndim - 1))
        p.inputs = [
            p.inputs[0],
            graph.constant(f"{node.output.name}.w", w.astype(np.float32)),
            graph.constant(f"{node.output.name}.b", (b * k + c).astype(np.float32)),
        ]
        p.outputs = [node.output]
        node.output.producer = p
        p.source += node.source
        graph.nodes.remove(node)
        return
    channels = x.shape[1]
    k, c = np.broadcast_to(k, channels), np.broadcast_to(c, channels)
    at = graph.nodes.index(node)
    if len(x.shape) == 2:
        weights = graph.constant(f"{node.output.name}.w", np.diag(k).astype(np.float32))
        bias = graph.constant(f"{node.output.name}.b", c.astype(np.float32))
        graph.nodes[at] = Node("Gemm", [x, weights, bias], [node.output], {}, node.source)
        return
    conv = Node(
        "Conv",
        [
            x,
            graph.constant(f"{node.output.name}.w", k.reshape(channels, 1, 1, 1).astype(np.float32)),
            graph.constant(f"{node.output.name}.b", c.astype(np.float32)),
        ],
        [node.output],
        {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": channels},
        node.source,
    )
    graph.nodes[at] = conv

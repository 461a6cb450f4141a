"""Write a product of every pixel's channels with a constant matrix as the 1x1 convolution that it is.

before: ``y = Relu(MatMul(Reshape(Transpose(x, to NHWC)), w) + b)`` with one row for each pixel
after:  ``y = rows of Relu(Conv1x1(x, w, b))``

Exact. Keras' Dense on a picture, TensorFlow Lite's FULLY_CONNECTED over one and token-wise layers of PyTorch are
written so. What follows number by number goes along; the reshapes and transposes behind meet those of the next layer.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from openkpu.graph.elementwise import UNARY
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import MIN_SIZE

FUNCTIONS: Final = frozenset((*UNARY, "Relu", "Clip", "LeakyRelu", "Elu", "HardSigmoid", "HardSwish", "Silu", "Mish"))
MOST_POSITIONS: Final = 1 << 22


def matmul_as_conv(graph: Graph) -> None:
    """Rewrite every such product, in order, so that one may follow another."""
    for node in list(graph.nodes):
        if node.op != "MatMul" or len(node.inputs[1].shape) != 2 or node.inputs[1].data is None:
            continue
        x = _picture(node)
        if x is not None:
            _rewrite(graph, node, x)
    graph.sort()


def _picture(node: Node) -> Tensor | None:
    """Return the map whose pixels are the rows of the left side, in order; None if there is none."""
    t = node.inputs[0]
    chain: list[Node] = []
    k, rows = node.inputs[0].shape[-1], int(np.prod(node.inputs[0].shape[:-1]))
    if t.is_constant or k * rows > MOST_POSITIONS:
        return None
    while t.producer is not None and t.producer.op in ("Reshape", "Transpose"):
        chain.insert(0, t.producer)
        t = t.producer.inputs[0]
        _, c, h, w = t.shape if len(t.shape) == 4 else (0, 0, 0, 0)
        if t.shape[:1] != (1,) or (c, h * w) != (k, rows) or min(h, w) < MIN_SIZE:
            continue
        at = np.arange(k * rows).reshape(t.shape)
        for n in chain:
            at = at.reshape(n.output.shape) if n.op == "Reshape" else at.transpose(n.attrs["perm"])
        if (at.reshape(rows, k) == np.arange(k * rows).reshape(k, rows).T).all():
            return t
    return None


def _rewrite(graph: Graph, node: Node, x: Tensor) -> None:
    w = np.asarray(node.inputs[1].data, np.float32).T
    n, (h, wd) = len(w), x.shape[2:]
    bias = np.zeros(n, np.float32)
    taken, end = [node], node.output
    added = graph.only_reader(end)
    if added is not None and added.op == "Add":
        constant = next((t for t in added.inputs if t is not end), end)
        if constant.data is not None and constant.data.size in (1, n) and constant.shape[-1:] in ((n,), (1,), ()):
            bias = np.broadcast_to(np.asarray(constant.data, np.float32).reshape(-1), n)
            taken.append(added)
            end = added.output
    name = node.output.name
    attrs: dict[str, Any] = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
    t = Tensor(f"{end.name}.map", (1, n, h, wd))
    weights = graph.constant(f"{name}.pixel", np.ascontiguousarray(w).reshape(*w.shape, 1, 1))
    source = tuple(s for m in taken for s in m.source)
    made = [Node("Conv", [x, weights, graph.constant(f"{name}.bias", np.array(bias))], [t], attrs, source)]
    while (f := graph.only_reader(end)) is not None and f.op in FUNCTIONS and len(f.inputs) == 1:
        end = f.output
        after = Tensor(f"{end.name}.map", t.shape)
        made.append(Node(f.op, [t], [after], dict(f.attrs), f.source))
        taken.append(f)
        t = after
    flat, turned = Tensor(f"{end.name}.flat", (1, n, h * wd)), Tensor(f"{end.name}.rows", (1, h * wd, n))
    made += [
        Node("Reshape", [t], [flat], {"shape": flat.shape}, source),
        Node("Transpose", [flat], [turned], {"perm": (0, 2, 1)}, source),
        Node("Reshape", [turned], [end], {"shape": end.shape}, source),
    ]
    if end.name in graph.scales:
        graph.scales.setdefault(t.name, graph.scales[end.name])
    at = graph.nodes.index(node)
    graph.nodes[at:at] = made
    graph.nodes = [m for m in graph.nodes if not any(m is old for old in taken)]

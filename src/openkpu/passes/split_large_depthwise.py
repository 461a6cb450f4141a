"""Split a depthwise convolution that is too large, together with the convolution before it, by channels.

before: ``Depthwise(act(Conv(x, w)))`` with 96 channels of 112x112: 1.3 MiB in, 1.3 MiB out, 2 MiB in all
after:  ``Concat(Depthwise(act(Conv(x, w[:48]))), Depthwise(act(Conv(x, w[48:]))))``

Exact: depthwise channels do not mix. MobileNetV2 at 224x224 needs it at its first stride-2 block; each part then
leaves only a quarter of its pixels behind.

A depthwise kernel over 3x3 needs room for copies of a few channels as well (``lower.wide_depthwise``).
"""

from __future__ import annotations

import numpy as np

from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import AI_RAM_BYTES
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.passes.tile_shapes import room_for_copies


def split_large_depthwise(graph: Graph) -> None:
    """Rewrite every match."""
    for node in list(graph.nodes):
        chain = _chain(graph, node)
        if chain is None:
            continue
        conv, between, behind = chain
        parts = _parts(conv, node)
        if parts < 2:
            continue
        channels = node.inputs[0].shape[1]
        step = -(-channels // parts)
        step += -step % 4
        end = behind[-1].output if behind else node.output
        made: list[Node] = []
        ends: list[Tensor] = []
        for first in range(0, channels, step):
            t = conv.inputs[0]
            for n in (conv, *between, node, *behind):
                t = _slice(graph, n, t, slice(first, min(first + step, channels)), made)
            ends.append(t)
        joined = Node("Concat", ends, [end], {"axis": 1}, node.source)
        at = graph.nodes.index(conv)
        old = {id(n) for n in (conv, *between, node, *behind)}
        graph.nodes[at : at + 1] = [*made, joined]
        graph.nodes = [n for n in graph.nodes if id(n) not in old]
    graph.sort()


def _chain(graph: Graph, node: Node) -> tuple[Node, list[Node], list[Node]] | None:
    """Return (dense convolution, functions between, functions behind) of a depthwise convolution that can be split."""
    if not _is_depthwise(node):
        return None
    between: list[Node] = []
    t = node.inputs[0]
    while t.producer is not None and t.producer.op == "Elementwise":
        between.insert(0, t.producer)
        t = t.producer.inputs[0]
    conv = t.producer
    if conv is None or conv.op != "Conv" or conv.attrs["group"] != 1 or not all(i.is_constant for i in conv.inputs[1:]):
        return None
    for n in (conv, *between):
        if graph.only_reader(n.output) is None:
            return None
    behind: list[Node] = []
    t = node.output
    while not graph.is_output(t) and len(users := graph.consumers(t)) == 1 and users[0].op == "Elementwise":
        behind.append(users[0])
        t = users[0].output
    return conv, between, behind


def _is_depthwise(node: Node) -> bool:
    if node.op != "Conv" or not all(t.is_constant for t in node.inputs[1:]):
        return False
    channels = node.inputs[0].shape[1]
    return bool(node.attrs["group"] == channels == node.output.shape[1] and channels > 4)


def _parts(conv: Node, node: Node) -> int:
    """Return into how many parts to split: 1 where everything fits; 0 where no number of parts helps."""
    _, channels, h, w = node.inputs[0].shape
    beside = room_for_copies(node, (h, w))
    source = FeatureMapLayout(*conv.inputs[0].shape[1:]).bytes
    kept = FeatureMapLayout(*node.output.shape[1:]).bytes
    whole = FeatureMapLayout(channels, h, w).bytes
    if 2 * whole + beside <= AI_RAM_BYTES:
        return 1
    for parts in range(2, channels // 4 + 1):
        share = FeatureMapLayout(-(-channels // parts), h, w).bytes
        if source + 2 * share + kept + beside <= AI_RAM_BYTES:
            return parts
    return 0


def _slice(graph: Graph, node: Node, x: Tensor, channels: slice, made: list[Node]) -> Tensor:
    """Append the node for some of its output channels, reading ``x``; returns its output."""
    stem = f"{node.output.name}.{channels.start}"
    n = channels.stop - channels.start
    attrs = dict(node.attrs)
    inputs = [x]
    for i, t in enumerate(node.inputs[1:]):
        inputs.append(graph.constant(f"{stem}.{i}", np.ascontiguousarray(np.asarray(t.data)[channels])))
    if node.op == "Conv" and attrs["group"] != 1:
        attrs["group"] = n
    out = Tensor(stem, (1, n, *node.output.shape[2:]))
    made.append(Node(node.op, inputs, [out], attrs, node.source))
    return out

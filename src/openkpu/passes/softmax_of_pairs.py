"""Write a softmax over two classes as a sigmoid of their difference, taken inside the convolution before it.

before: ``Softmax(Concat(Reshape(Transpose(Conv(x, w))), ...), axis=last)`` where the last axis has 2 entries
after:  ``Concat(Reshape(Transpose(Sigmoid(Conv(x, w')))))`` with ``w'[2i] = w[2i] - w[2i+1]``, ``w'[2i+1] = -w'[2i]``

Exact: ``softmax(a, b) = (sigmoid(a - b), sigmoid(b - a))``, and a function of single values may come before movements.
It serves the heads of SSD-like detectors: the V3 runtime has a softmax over one vector only, and the sigmoid becomes
the activation of the convolution's KPU layer, where the CPU would need 2 us for each value.
"""

from __future__ import annotations

import numpy as np

from openkpu.graph.ir import Graph, Node, Tensor


def softmax_of_pairs(graph: Graph) -> None:
    """Rewrite every matching Softmax over more than one pair."""
    for node in [n for n in graph.nodes if n.op == "Softmax"]:
        x, axis = node.inputs[0], node.attrs["axis"]
        if x.shape[axis] != 2 or int(np.prod(x.shape)) == 2:
            continue
        if axis == len(x.shape) - 1:
            convs = _convs(graph, x)
        elif axis == 1 and len(x.shape) == 4:
            convs = _conv(graph, x)
        else:
            continue
        if convs is None:
            continue
        for conv in convs:
            for i in range(1, len(conv.inputs)):
                w = np.asarray(conv.inputs[i].data)
                d = w[0::2] - w[1::2]
                paired = np.stack([d, -d], axis=1).reshape(w.shape)
                conv.inputs[i] = graph.constant(f"{conv.inputs[i].name}.difference", paired)
            conv.source += node.source
        place = graph.nodes.index(node)
        if x.producer is convs[0]:
            graph.nodes[place] = Node("Sigmoid", [x], [node.output], {}, node.source)
            continue
        for conv in convs:
            _sigmoid_behind(graph, conv)
        last = x.producer
        assert last is not None
        graph.nodes[place] = Node(last.op, last.inputs, [node.output], last.attrs, last.source + node.source)
        graph.nodes.remove(last)
    graph.sort()


def _sigmoid_behind(graph: Graph, conv: Node) -> None:
    """Insert a Sigmoid between a convolution and its only reader."""
    before = conv.output
    reader = graph.consumers(before)[0]
    after = Tensor(f"{before.name}.sigmoid", before.shape)
    graph.nodes.append(Node("Sigmoid", [before], [after], {}, conv.source))
    reader.inputs = [after if t is before else t for t in reader.inputs]


def _convs(graph: Graph, t: Tensor, inner: bool = False) -> list[Node] | None:
    """Return the convolutions whose channels become the pairs of ``t``; None if anything else is in between."""
    p = t.producer
    if p is None or graph.only_reader(t) is None:
        return None
    if p.op == "Concat" and p.attrs["axis"] < len(t.shape) - 1:
        found = [_convs(graph, i) for i in p.inputs]
        return None if any(f is None for f in found) else [n for f in found if f for n in f]
    if p.op == "Reshape" and t.shape[-1] == 2:
        if p.inputs[0].producer is None or p.inputs[0].producer.op != "Transpose":
            return None
        return _convs(graph, p.inputs[0], inner=True)
    if p.op == "Transpose" and tuple(p.attrs["perm"]) == (0, 2, 3, 1) and (inner or t.shape[-1] == 2):
        return _conv(graph, p.inputs[0])
    return None


def _conv(graph: Graph, t: Tensor) -> list[Node] | None:
    """Return the convolution that makes ``t`` for this one reader, if its channels are pairs."""
    conv = t.producer
    good = (
        conv is not None
        and conv.op == "Conv"
        and len(graph.consumers(t)) == 1
        and not graph.is_output(t)
        and t.shape[1] % 2 == 0
        and conv.attrs["group"] == 1
        and all(i.is_constant for i in conv.inputs[1:])
    )
    return [conv] if good and conv is not None else None

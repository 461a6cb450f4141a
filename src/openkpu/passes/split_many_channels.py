"""Split convolutions that read more than 1024 channels into a sum of convolutions over parts of the channels.

before: ``y = Conv(act(Conv(x, v)), w)`` with 1152 channels between
after:  ``y = Conv(act(Conv(x, v[:576])), w[:, :576]) + Conv(act(Conv(x, v[576:])), w[:, 576:])``

Exact: a convolution adds up its input channels. The parts go back through depthwise layers, functions and poolings to
the convolution that makes them, so that nothing has to be sliced; the addition is a layer like any other.
"""

from __future__ import annotations

import numpy as np

from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import MAX_CHANNELS

THROUGH = ("Elementwise", "MaxPool", "AveragePool")


def split_many_channels(graph: Graph) -> None:
    """Rewrite every convolution of a map with too many input channels."""
    split = _Split(graph)
    for node in list(graph.nodes):
        if node.op == "Conv" and _too_many(node):
            split.rewrite(node)
    if split.made:
        graph.nodes = [*split.made, *(n for n in graph.nodes if id(n) not in split.gone)]
        graph.sort()


def _too_many(node: Node) -> bool:
    x, a = node.inputs[0], node.attrs
    constant = all(t.is_constant for t in node.inputs[1:])
    known = a["group"] == 1 or a["group"] == x.shape[1] == node.output.shape[1]
    computed = x.producer is not None  # a picture of so many channels is refused by the lowering
    return bool(computed and x.shape[1] > MAX_CHANNELS and constant and known and node.output.shape[2:] != (1, 1))


class _Split:
    """The parts made so far, by the id of the tensor that they make up."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made: list[Node] = []
        self.gone: set[int] = set()
        self.parts: dict[int, list[Tensor]] = {}

    def rewrite(self, node: Node) -> None:
        """Replace a convolution."""
        out = node.output
        if node.attrs["group"] != 1:
            parts = self.of(out)
            self.made.append(Node("Concat", parts, [out], {"axis": 1}, node.source))
            self.gone.add(id(node))
            return
        sources = self.of(node.inputs[0])
        w, b = node.weights_and_bias()
        total: Tensor | None = None
        first = 0
        for i, x in enumerate(sources):
            count = x.shape[1]
            last = i == len(sources) - 1
            stem = f"{out.name}.channels{first}"
            inputs = [x, self.graph.constant(f"{stem}.w", np.ascontiguousarray(w[:, first : first + count]))]
            if i == 0:
                inputs.append(self.graph.constant(f"{stem}.b", b))
            y = Tensor(stem, out.shape)
            self.made.append(Node("Conv", inputs, [y], dict(node.attrs), node.source))
            if total is None:
                total = y
            else:
                added = out if last else Tensor(f"{stem}.sum", out.shape)
                self.made.append(Node("Add", [total, y], [added], {}, node.source))
                total = added
            first += count
        self.gone.add(id(node))

    def of(self, t: Tensor) -> list[Tensor]:
        """Return the parts of a tensor, as many as needed, each of whole lines of the KPU's memory."""
        if id(t) in self.parts:
            return self.parts[id(t)]
        channels = t.shape[1]
        count = -(-channels // MAX_CHANNELS)
        step = -(-channels // count)
        step += -step % 4
        bounds = [(i, min(i + step, channels)) for i in range(0, channels, step)]
        p = t.producer
        constant = p is not None and all(i.is_constant for i in p.inputs[1:])
        dense = p is not None and p.op == "Conv" and p.attrs["group"] == 1 and constant
        own = p is not None and p.op == "Conv" and p.attrs["group"] == channels == p.inputs[0].shape[1] and constant
        result: list[Tensor] = []
        if p is not None and (dense or own or p.op in THROUGH):
            below = None if dense else self.of(p.inputs[0])
            for i, (first, end) in enumerate(bounds):
                stem = f"{t.name}.channels{first}"
                inputs = [p.inputs[0] if below is None else below[i]]
                for k, c in enumerate(p.inputs[1:]):
                    inputs.append(
                        self.graph.constant(f"{stem}.{k}", np.ascontiguousarray(np.asarray(c.data)[first:end]))
                    )
                attrs = dict(p.attrs)
                if own:
                    attrs["group"] = end - first
                out = Tensor(stem, (1, end - first, *t.shape[2:]))
                self.made.append(Node(p.op, inputs, [out], attrs, p.source))
                result.append(out)
        else:
            for first, end in bounds:
                out = Tensor(f"{t.name}.channels{first}", (1, end - first, *t.shape[2:]))
                attrs = {"starts": (first,), "ends": (end,), "axes": (1,), "steps": (1,)}
                self.made.append(Node("Slice", [t], [out], attrs, p.source if p is not None else ()))
                result.append(out)
        self.parts[id(t)] = result
        return result

"""Fold a zero Pad of H and W into the convolution or pooling after it.

before: ``Conv(Pad(x, zeros), pads=p)``
after:  ``Conv(x, pads=p + the Pad's)``

Exact: both mean zeros outside. For AveragePool only if it counts padding; for MaxPool only behind values that are never
negative, since MaxPool pads with minus infinity.
"""

from __future__ import annotations

from openkpu.graph.ir import Graph, Node, Tensor


def fold_pad(graph: Graph) -> None:
    """Rewrite every Pad that all readers can take in."""
    for node in [n for n in graph.nodes if n.op == "Pad"]:
        x, out = node.inputs[0], node.output
        pads = list(node.attrs["pads"])
        if len(x.shape) != 4 or node.attrs["value"] != 0 or any(pads[i] for i in (0, 1, 4, 5)) or min(pads) < 0:
            continue
        top, left, bottom, right = pads[2], pads[3], pads[6], pads[7]
        readers = graph.consumers(out)
        if graph.is_output(out) or not readers:
            continue
        fits = [
            (r.op == "Conv" and r.inputs[0] is out)
            or (
                r.op == "AveragePool"
                and (r.attrs["count_include_pad"] or not any(r.attrs["pads"]))
                and _below_kernel(r, (top, left, bottom, right))
            )
            or (r.op == "MaxPool" and _never_negative(x) and _below_kernel(r, (top, left, bottom, right)))
            for r in readers
        ]
        if not all(fits):
            continue
        for r in readers:
            t, lft, b, rgt = r.attrs["pads"]
            r.attrs["pads"] = (t + top, lft + left, b + bottom, rgt + right)
            if r.op == "AveragePool":
                r.attrs["count_include_pad"] = 1
            r.inputs[0] = x
            r.source = node.source + r.source
        graph.nodes.remove(node)
    graph.sort()


def _below_kernel(pool: Node, more: tuple[int, int, int, int]) -> bool:
    """Whether every window keeps a pixel of the picture: ONNX wants less padding than the kernel is large."""
    return all(pool.attrs["pads"][i] + more[i] < pool.attrs["kernel"][i % 2] for i in range(4))


def _never_negative(t: Tensor) -> bool:
    p = t.producer
    if p is None:
        return False
    if p.op in ("Relu", "Sigmoid", "HardSigmoid"):
        return True
    return p.op == "Clip" and p.attrs["min"] >= 0

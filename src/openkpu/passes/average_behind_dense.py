"""Take the mean over a whole map behind the matrix product that reads it, where that leaves less to average.

before: ``Gemm(GlobalAveragePool(x), w)``
after:  ``GlobalAveragePool(Conv1x1(x, w))``

Exact: both are linear. The KPU multiplies at every pixel, nearly for nothing, and the CPU averages the few channels of
the result instead of the many of the map. A model that came quantised keeps its order: it has no scales for this one.
"""

from __future__ import annotations

import numpy as np

from openkpu.estimate import price
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import MIN_SIZE


def average_behind_dense(graph: Graph) -> None:
    """Rewrite every pair for which it pays."""
    if graph.scales.keys() - {t.name for t in graph.inputs}:
        return
    for pool in [n for n in graph.nodes if n.op == "GlobalAveragePool"]:
        between = graph.only_reader(pool.output)
        reshapes = []
        while between is not None and between.op == "Reshape":
            reshapes.append(between)
            between = graph.only_reader(between.output)
        if between is not None and _pays(pool, between):
            _swap(graph, pool, reshapes, between)
    graph.sort()


def _pays(pool: Node, dense: Node) -> bool:
    _, c, h, w = pool.inputs[0].shape
    if dense.op not in ("Gemm", "Conv") or not all(t.is_constant for t in dense.inputs[1:]):
        return False
    weights = dense.inputs[1].shape
    if dense.op == "Conv" and (weights[2:] != (1, 1) or dense.attrs["group"] != 1 or any(dense.attrs["pads"])):
        return False
    n = weights[0]
    if weights[1] != c or n >= c or min(h, w) < MIN_SIZE:
        return False
    before = price.cpu_average_us(c, h, w) + min(price.cpu_fully_connected_us(c, n), price.kpu_fully_connected_us(c, n))
    after = price.kpu_layer_us(c, h, w, n, kernel=1, depthwise=False) + price.cpu_average_us(n, h, w)
    return after < before


def _swap(graph: Graph, pool: Node, reshapes: list[Node], dense: Node) -> None:
    x, out = pool.inputs[0], dense.output
    w, b = dense.weights_and_bias()
    n = w.shape[0]
    stem = f"{out.name}.pixels"
    weights = graph.constant(f"{stem}.w", np.ascontiguousarray(w.reshape(n, -1, 1, 1)))
    bias = graph.constant(f"{stem}.b", np.ascontiguousarray(np.broadcast_to(b.reshape(-1), n)))
    attrs = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
    pixels = Tensor(stem, (1, n, *x.shape[2:]))
    source = pool.source + dense.source
    made = [Node("Conv", [x, weights, bias], [pixels], attrs, dense.source)]
    if out.shape == (1, n, 1, 1):
        made.append(Node("GlobalAveragePool", [pixels], [out], {}, source))
    else:
        mean = Tensor(f"{stem}.mean", (1, n, 1, 1))
        made.append(Node("GlobalAveragePool", [pixels], [mean], {}, source))
        made.append(Node("Reshape", [mean], [out], {"shape": out.shape}, source))
    gone = {id(m) for m in (pool, *reshapes, dense)}
    graph.nodes = [m for m in graph.nodes if id(m) not in gone] + made
    graph.sort()

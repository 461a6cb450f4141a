"""The quantisation of tensors that lie beside each other."""

import numpy as np
from graph_builders import Builder

from openkpu.graph.ir import Node, Tensor
from openkpu.quantize.params import from_range
from openkpu.quantize.tensors import Assignment


def _chain(count: int) -> tuple[Assignment, list[Tensor], list[Node]]:
    """Concatenations of one map with one of ``count`` others each, all read by padded convolutions."""
    b = Builder(1, 3, 8, 8)
    first = b.conv(b.x, 2, 3)
    others = [b.conv(b.x, 2, 3) for _ in range(count)]
    concats = [b.op("KpuConcat", [first, o], (1, 4, 8, 8)) for o in others]
    graph = b.graph(*(b.conv(c, 2, 3) for c in concats))
    for node in graph.nodes:
        if node.op == "Conv":
            node.op = "KpuConv"
    return Assignment(graph, set(), None), [first, *others], [c.producer for c in concats]


def test_concatenations_with_a_common_part_have_one_zero_point():
    assignment, maps, concats = _chain(20)
    rng = np.random.default_rng(0)
    ranges = [(-1.0 - rng.random(), 2.0 + rng.random()) for _ in maps]
    result = {id(t): from_range(low, high, 2) for t, (low, high) in zip(maps, ranges, strict=True)}
    assert len({p.zero_point for p in result.values()}) > 5
    assignment._share_zero_points(result)
    for c in concats:
        a, b = (result[id(t)].zero_point for t in c.inputs)
        assert a == b
    for t, (low, high) in zip(maps, ranges, strict=True):
        p = result[id(t)]
        assert (-p.zero_point * p.scale <= low * 0.99).all()
        assert ((255 - p.zero_point) * p.scale >= high * 0.99).all()
        assert (p.scale * 255 < 2 * (high - low)).all()

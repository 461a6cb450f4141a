"""Choices of channels become weights: after the pass the graph computes the same, and the KPU can keep the maps."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builders import Builder
from hypothesis import given
from hypothesis import strategies as st

from openkpu.float.session import FloatSession
from openkpu.graph.elementwise import Expr, X, const
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.lower.export import register_exporters
from openkpu.passes.choose_channels import choose_channels

SIZE = (6, 5)
RELU = Expr("Max", (X, const(0)))


def part(b: Builder, x: Tensor, start: int, end: int, step: int = 1) -> Tensor:
    count = len(range(start, end, step))
    attrs = {"starts": (start,), "ends": (end,), "axes": (1,), "steps": (step,)}
    return b.op("Slice", [x], (1, count, *x.shape[2:]), **attrs)


def gather(b: Builder, x: Tensor, *index: int) -> Tensor:
    positions = Tensor(f"i{b.count}", (len(index),), "int64", np.array(index, np.int64))
    return b.op("Gather", [x, positions], (1, len(index), *x.shape[2:]), axis=1)


def shuffle(b: Builder, x: Tensor, groups: int = 2, *, flat: bool = False) -> Tensor:
    c, h, w = x.shape[1:]
    if flat:
        t = b.transpose(b.reshape(x, groups, c // groups, h * w), 1, 0, 2)
    else:
        t = b.transpose(b.reshape(x, 1, groups, c // groups, h, w), 0, 2, 1, 3, 4)
    return b.reshape(t, *x.shape)


def active(b: Builder, x: Tensor) -> Tensor:
    return b.op("Elementwise", [x], x.shape, fn=RELU)


def same(graph: Graph) -> list[Node]:
    """Run before and after the pass; return the nodes that are left."""
    register_exporters()
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    names = [t.name for t in graph.outputs]
    before = FloatSession(graph).run({"x": x})
    choose_channels(graph)
    graph.validate()
    assert [t.name for t in graph.outputs] == names
    after = FloatSession(graph).run({"x": x})
    for name in names:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-5)
    return graph.nodes


def ops(nodes: list[Node]) -> list[str]:
    return [n.op for n in nodes]


def test_a_layer_in_parts() -> None:
    """A CSP block: both halves of a layer and of what follows from one of them."""
    b = Builder(1, 3, *SIZE)
    t = active(b, b.conv(b.x, 8))
    left, right = part(b, t, 0, 4), part(b, t, 4, 8)
    nodes = same(b.graph(b.conv(b.concat(left, right, b.conv(right, 4)), 4)))
    assert ops(nodes).count("Slice") == 0
    assert [n.output.shape[1] for n in nodes if n.op == "Conv"] == [4, 4, 4, 4]


def test_a_convolution_reads_all_with_zeros() -> None:
    b = Builder(1, 3, *SIZE)
    t = active(b, b.conv(b.x, 8))
    nodes = same(b.graph(b.conv(part(b, t, 2, 6), 5), b.conv(t, 3)))
    assert ops(nodes) == ["Conv", "Elementwise", "Conv", "Conv"]
    assert nodes[2].inputs[1].shape == (5, 8, 3, 3)


def test_colours_in_another_order() -> None:
    b = Builder(1, 3, *SIZE)
    nodes = same(b.graph(b.conv(gather(b, b.x, 2, -2, 0), 4)))
    assert ops(nodes) == ["Conv"]


@pytest.mark.parametrize("flat", [False, True])
def test_a_unit_of_shufflenet(flat: bool) -> None:
    b = Builder(1, 3, *SIZE)
    t = shuffle(b, b.concat(active(b, b.conv(b.x, 4)), active(b, b.conv(b.x, 4))), flat=flat)
    kept, worked = part(b, t, 0, 4), b.depthwise(b.conv(part(b, t, 4, 8), 4, 1))
    nodes = same(b.graph(b.conv(b.concat(kept, worked), 2)))
    assert set(ops(nodes)) == {"Conv", "Elementwise", "Concat"}


def test_a_part_of_a_concat_that_is_one_of_its_maps() -> None:
    b = Builder(1, 3, *SIZE)
    first, second = active(b, b.conv(b.x, 4)), active(b, b.conv(b.x, 6))
    whole = b.concat(first, second)
    nodes = same(b.graph(b.conv(part(b, whole, 5, 9), 3), b.conv(whole, 2)))
    assert [n.inputs[1].shape[1] for n in nodes if n.op == "Conv"][-2:] in ([6, 10], [10, 6])


def test_what_no_layer_reads_stays() -> None:
    """A choice for a head is made where the values go: by moving them."""
    b = Builder(1, 3, *SIZE)
    t = b.conv(b.x, 8)
    nodes = same(b.graph(b.softmax(part(b, t, 0, 2), 1), t))
    assert ops(nodes) == ["Conv", "Slice", "Softmax"]


def test_small_maps_and_other_axes_stay() -> None:
    b = Builder(1, 8, 3, 3)
    assert "Slice" in ops(same(b.graph(b.conv(part(b, b.x, 0, 4), 4))))
    b = Builder(1, 8, *SIZE)
    rows = b.op("Slice", [b.x], (1, 8, 3, 5), starts=(1,), ends=(4,), axes=(2,), steps=(1,))
    turned = b.reshape(b.transpose(b.reshape(b.x, 1, 8, 6, 5), 0, 1, 3, 2), 1, 8, 6, 5)
    assert ops(same(b.graph(b.conv(rows, 4), b.conv(turned, 4)))).count("Transpose") == 1


@given(st.data())
def test_any_order_of_layers(data: st.DataObject) -> None:
    b = Builder(1, 4, *SIZE)
    maps = [b.x]
    kinds = ["slice", "gather", "shuffle", "conv", "relu", "concat", "depthwise", "add", "pool"]
    for kind in data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=9)):
        x = data.draw(st.sampled_from(maps))
        c = x.shape[1]
        if kind == "slice":
            start = data.draw(st.integers(0, c - 1))
            x = part(b, x, start, data.draw(st.integers(start + 1, c)), data.draw(st.sampled_from([1, 1, 2])))
        elif kind == "gather":
            x = gather(b, x, *data.draw(st.lists(st.integers(-c, c - 1), min_size=1, max_size=8)))
        elif kind == "shuffle" and c % 2 == 0:
            x = shuffle(b, x, flat=data.draw(st.booleans()))
        elif kind == "conv":
            x = b.conv(x, data.draw(st.integers(1, 8)), data.draw(st.sampled_from([1, 3])))
        elif kind == "relu":
            x = active(b, x)
        elif kind == "concat":
            x = b.concat(x, data.draw(st.sampled_from(maps)))
        elif kind == "depthwise":
            x = b.depthwise(x)
        elif kind == "add":
            x = b.add(x, data.draw(st.sampled_from([m for m in maps if m.shape == x.shape])))
        elif kind == "pool":
            x = b.op("MaxPool", [x], x.shape, kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
        maps.append(x)
    outputs = {id(t): t for t in (maps[-1], data.draw(st.sampled_from(maps[1:]))) if t is not b.x}
    if outputs:
        same(b.graph(*outputs.values()))

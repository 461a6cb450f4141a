"""Vectors over their length, however it is written, and reductions that are written out."""

import numpy as np
import pytest
from graph_builders import Builder, run_float

from openkpu.passes.write_out_norms import write_out_norms


def norm(b, x, axis, how):
    """The denominator of ``x / |x|``, or its inverse, as exporters write it."""
    kept = tuple(1 if i == axis else d for i, d in enumerate(x.shape))
    total = b.op("ReduceSum", [b.binary("Mul", x, x)], kept, axes=(axis,), keepdims=1)
    return {
        "l2": lambda: b.op("ReduceL2", [x], kept, axes=(axis,), keepdims=1),
        "l1": lambda: b.op("ReduceL1", [x], kept, axes=(axis,), keepdims=1),
        "clipped": lambda: b.op(
            "Expand",
            [b.unary("Clip", b.op("ReduceL2", [x], kept, axes=(axis,), keepdims=1), min=1e-12, max=float("inf"))],
            x.shape,
            shape=x.shape,
        ),
        "root": lambda: b.unary("Sqrt", b.add(total, b.const(1e-10))),
        "squares": lambda: b.unary("Sqrt", b.op("ReduceSumSquare", [x], kept, axes=(axis,), keepdims=1)),
        "power": lambda: b.binary("Pow", total, b.const(0.5)),
        "inverse": lambda: b.unary("Reciprocal", b.unary("Sqrt", b.binary("Max", total, b.const(1e-12)))),
        "inverse power": lambda: b.binary("Pow", b.binary("Max", b.const(1e-12), total), b.const(-0.5)),
    }[how]()


HOW = ["l2", "l1", "clipped", "root", "squares", "power", "inverse", "inverse power"]


@pytest.mark.parametrize("how", HOW)
def test_every_way_to_write_it(how):
    b = Builder(1, 4, 3, 5)
    x = b.conv(b.x, 4, 1)
    y = b.binary("Mul" if "inverse" in how else "Div", x, norm(b, x, 1, how))
    graph = b.graph(y)
    sample = np.random.default_rng(1).normal(size=(1, 4, 3, 5)).astype(np.float32)
    before = run_float(graph, sample)[0]
    write_out_norms(graph)
    graph.validate()
    assert [n.op for n in graph.nodes] == ["Conv", "LpNormalization"]
    assert graph.nodes[-1].attrs == {"axis": 1, "p": 1 if how == "l1" else 2}
    np.testing.assert_allclose(run_float(graph, sample)[0], before, rtol=1e-5)


def test_a_norm_of_something_else_stays():
    b = Builder(1, 4, 3, 5)
    x, other = b.conv(b.x, 4, 1), b.conv(b.x, 4, 1)
    y = b.binary("Div", x, norm(b, other, 1, "root"))
    z = b.binary("Div", x, b.unary("Sqrt", b.add(norm(b, x, 1, "squares"), b.const(0.5))))
    graph = b.graph(y, z)
    write_out_norms(graph)
    assert "LpNormalization" not in [n.op for n in graph.nodes]


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceSumSquare"])
@pytest.mark.parametrize("axes", [(1,), (2, 3), (1, 2, 3)])
def test_reductions_are_written_out(op, axes):
    b = Builder(1, 4, 3, 5)
    x = b.conv(b.x, 4, 1)
    shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    graph = b.graph(b.op(op, [x], shape, axes=axes, keepdims=1))
    sample = np.random.default_rng(1).normal(size=(1, 4, 3, 5)).astype(np.float32)
    before = run_float(graph, sample)[0]
    write_out_norms(graph)
    graph.validate()
    assert op not in [n.op for n in graph.nodes]
    np.testing.assert_allclose(run_float(graph, sample)[0], before, rtol=1e-4)

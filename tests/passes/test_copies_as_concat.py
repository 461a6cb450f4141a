"""Tile and Expand become Concat, with the same result; what is no whole copy stays."""

import numpy as np
import pytest
from graph_builders import Builder

from openkpu.float.session import FloatSession
from openkpu.passes.copies_as_concat import MOST_COPIES, copies_as_concat


@pytest.mark.parametrize("repeats", [(1, 2, 1, 1), (1, 1, 3, 2), (1, 2, 2, 2)])
def test_tile(repeats: tuple[int, ...]) -> None:
    b = Builder(1, 3, 4, 5)
    shape = tuple(d * r for d, r in zip(b.x.shape, repeats, strict=True))
    graph = b.graph(b.op("Tile", [b.x], shape, repeats=repeats))
    x = np.random.default_rng(0).standard_normal(b.x.shape).astype(np.float32)
    copies_as_concat(graph)
    graph.validate()
    assert {n.op for n in graph.nodes} == {"Concat"}
    np.testing.assert_array_equal(FloatSession(graph).run({"x": x})[graph.outputs[0].name], np.tile(x, repeats))


def test_expand() -> None:
    b = Builder(1, 3, 1, 1)
    graph = b.graph(b.op("Expand", [b.x], (1, 3, 4, 2), shape=(1, 3, 4, 2)))
    x = np.random.default_rng(0).standard_normal(b.x.shape).astype(np.float32)
    copies_as_concat(graph)
    graph.validate()
    assert [n.attrs["axis"] for n in graph.nodes] == [2, 3]
    (out,) = FloatSession(graph).run({"x": x}).values()
    np.testing.assert_array_equal(out, np.broadcast_to(x, (1, 3, 4, 2)))


def test_more_dimensions_and_many_copies_stay() -> None:
    b = Builder(1, 3, 1, 1)
    many = b.op("Expand", [b.x], (1, 3, MOST_COPIES + 1, 1), shape=(1, 3, MOST_COPIES + 1, 1))
    deeper = b.op("Expand", [b.x], (2, 1, 3, 1, 1), shape=(2, 1, 3, 1, 1))
    graph = b.graph(many, deeper)
    copies_as_concat(graph)
    assert [n.op for n in graph.nodes] == ["Expand", "Expand"]

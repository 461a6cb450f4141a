"""Graphs with pictures as (1, H, W, C): after the pass they compute the same, without transposes."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builders import Builder
from hypothesis import given
from hypothesis import strategies as st

from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph, Tensor
from openkpu.passes.planar_layout import planar_layout

TO_PLANAR, TO_PLAIN = (0, 3, 1, 2), (0, 2, 3, 1)


def turn(b: Builder, x: Tensor, perm: tuple[int, ...]) -> Tensor:
    return b.op("Transpose", [x], tuple(x.shape[p] for p in perm), perm=perm)


def same(graph: Graph) -> list[str]:
    """Run before and after; the input may have become planar. Returns the operators."""
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    names = [t.name for t in graph.outputs]
    before = FloatSession(graph).run({"x": x})
    planar_layout(graph)
    graph.validate()
    assert [t.name for t in graph.outputs] == names
    after = FloatSession(graph).run({"x": x if graph.inputs[0].shape == x.shape else x.transpose(TO_PLANAR)})
    for name in names:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5, atol=1e-6)
    return [n.op for n in graph.nodes]


def test_functions_before_the_first_transpose() -> None:
    b = Builder(1, 8, 6, 3)
    scaled = b.op("Mul", [b.x, b.const(np.float32(2))], b.x.shape)
    shifted = b.op("Sub", [scaled, b.const([1, 2, 3])], b.x.shape)
    graph = b.graph(b.conv(turn(b, shifted, TO_PLANAR), 4))
    assert same(graph) == ["Mul", "Sub", "Conv"]
    assert graph.inputs[0].shape == (1, 3, 8, 6)


def test_transposes_between_layers_meet() -> None:
    b = Builder(1, 8, 6, 3)
    y = turn(b, b.conv(turn(b, b.x, TO_PLANAR), 4), TO_PLAIN)
    relu = b.op("Relu", [y], y.shape)
    both = b.op("Concat", [relu, y], (1, 8, 6, 8), axis=3)
    padded = b.op("Pad", [both], (1, 10, 7, 8), pads=(0, 1, 0, 0, 0, 1, 1, 0), value=0.0)
    part = b.op("Slice", [padded], (1, 5, 7, 8), starts=(0,), ends=(10,), axes=(1,), steps=(2,))
    soft = b.op("Softmax", [part], part.shape, axis=3)
    graph = b.graph(b.conv(turn(b, soft, TO_PLANAR), 2))
    assert same(graph) == ["Conv", "Relu", "Concat", "Pad", "Slice", "Softmax", "Conv"]


def test_a_reader_in_the_other_order_keeps_its_transpose() -> None:
    b = Builder(1, 8, 6, 3)
    y = turn(b, b.conv(turn(b, b.x, TO_PLANAR), 4), TO_PLAIN)
    relu = b.op("Relu", [y], y.shape)
    flat = b.op("Reshape", [relu], (1, 192), shape=(1, 192))
    graph = b.graph(b.gemm(flat, 5), b.conv(turn(b, relu, TO_PLANAR), 2))
    assert same(graph).count("Transpose") == 1


def test_means_outputs_and_second_inputs() -> None:
    b = Builder(1, 8, 6, 3)
    y = turn(b, b.conv(turn(b, b.x, TO_PLANAR), 4), TO_PLAIN)
    mean = b.op("ReduceMean", [y], (1, 1, 1, 4), axes=(1, 2), keepdims=1)
    gated = b.op("Mul", [y, b.op("Sigmoid", [mean], mean.shape)], y.shape)
    vector = b.op("ReduceMean", [gated], (1, 4), axes=(1, 2), keepdims=0)
    graph = b.graph(turn(b, gated, TO_PLANAR), vector, gated)
    assert same(graph).count("Transpose") == 1


@pytest.mark.parametrize("turned", [False, True])
def test_repeated_rows_and_columns(turned: bool) -> None:
    """Keras' upsampling, and what tf2onnx makes of it."""
    b = Builder(1, 4, 5, 6)
    x = b.conv(b.x, 4)
    if turned:
        spread = b.op("Reshape", [x], (1, 4, 5, 1, 6), shape=(1, 4, 5, 1, 6))
        tile = b.op("Tile", [spread], (1, 4, 5, 2, 6), repeats=(1, 1, 1, 2, 1))
        tile = b.op("Transpose", [tile], (1, 5, 2, 6, 4), perm=(0, 2, 3, 4, 1))
    else:
        plain = turn(b, x, TO_PLAIN)
        spread = b.op("Reshape", [plain], (1, 5, 1, 6, 4), shape=(1, 5, 1, 6, 4))
        tile = b.op("Tile", [spread], (1, 5, 2, 6, 4), repeats=(1, 1, 2, 1, 1))
    rows = b.op("Reshape", [tile], (1, 10, 6, 4), shape=(1, 10, 6, 4))
    spread = b.op("Reshape", [rows], (1, 10, 6, 1, 4), shape=(1, 10, 6, 1, 4))
    tile = b.op("Tile", [spread], (1, 10, 6, 3, 4), repeats=(1, 1, 1, 3, 1))
    columns = b.op("Reshape", [tile], (1, 10, 18, 4), shape=(1, 10, 18, 4))
    assert same(b.graph(b.conv(turn(b, columns, TO_PLANAR), 2))) == ["Conv", "Resize", "Conv"]


def test_repetitions_that_share_a_reshape() -> None:
    """What TensorFlow Lite's converter makes of Keras' upsampling."""
    b = Builder(1, 4, 5, 6)
    plain = turn(b, b.conv(b.x, 4), TO_PLAIN)
    spread = b.op("Reshape", [plain], (1, 5, 1, 6, 4), shape=(1, 5, 1, 6, 4))
    tile = b.op("Tile", [spread], (1, 5, 2, 6, 4), repeats=(1, 1, 2, 1, 1))
    spread = b.op("Reshape", [tile], (1, 10, 6, 1, 4), shape=(1, 10, 6, 1, 4))
    tile = b.op("Tile", [spread], (1, 10, 6, 3, 4), repeats=(1, 1, 1, 3, 1))
    columns = b.op("Reshape", [tile], (1, 10, 18, 4), shape=(1, 10, 18, 4))
    assert same(b.graph(b.conv(turn(b, columns, TO_PLANAR), 2))) == ["Conv", "Resize", "Conv"]


def test_a_resize_by_a_fraction_is_not_joined_with_a_repetition() -> None:
    b = Builder(1, 4, 5, 6)
    attrs = {"mode": "nearest", "coordinate": "asymmetric", "rounding": "floor"}
    plain = turn(b, b.op("Resize", [b.x], (1, 4, 7, 9), **attrs), TO_PLAIN)
    spread = b.op("Reshape", [plain], (1, 7, 1, 9, 4), shape=(1, 7, 1, 9, 4))
    tile = b.op("Tile", [spread], (1, 7, 2, 9, 4), repeats=(1, 1, 2, 1, 1))
    rows = b.op("Reshape", [tile], (1, 14, 9, 4), shape=(1, 14, 9, 4))
    assert same(b.graph(b.conv(turn(b, rows, TO_PLANAR), 2))) == ["Resize", "Resize", "Conv"]


@given(st.lists(st.sampled_from(["relu", "turn", "conv", "add", "scale", "concat", "mean", "back"]), max_size=12))
def test_any_order_of_layers(kinds: list[str]) -> None:
    b = Builder(1, 5, 6, 4)
    t, seen = b.x, []
    planar = False
    for kind in kinds:
        if kind == "turn":
            t, planar = turn(b, t, TO_PLAIN if planar else TO_PLANAR), not planar
        elif kind == "conv" and planar:
            t = b.conv(t, 4)
        elif kind == "add":
            t = b.op("Add", [t, t], t.shape)
        elif kind == "scale":
            t = b.op("Mul", [t, b.const(np.arange(1, t.shape[3] + 1))], t.shape)
        elif kind == "concat":
            n = t.shape[3]
            t = b.op("Concat", [t, t], (*t.shape[:3], 2 * n), axis=3)
            t = b.op("Slice", [t], (*t.shape[:3], n), starts=(1,), ends=(n + 1,), axes=(3,), steps=(1,))
        elif kind == "back":
            seen.append(t)
        else:
            t = b.op("Relu", [t], t.shape)
    outputs = list({id(o): o for o in (*seen, t) if o is not b.x}.values())
    if outputs:
        same(b.graph(*outputs))

"""Functions that fall and then rise are written with two ReLUs: one table a layer cannot hold them."""

import numpy as np
import pytest
from graph_builders import Builder

from openkpu.compiler import compile
from openkpu.float.export import to_onnx
from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph
from openkpu.passes.expand_prelu import expand_prelu

FALLING = [("Abs", {}), ("LeakyRelu", {"alpha": -0.5})]


def graph(op: str, attrs: dict, *, first: bool = True) -> Graph:
    b = Builder(1, 3, 16, 16)
    x = b.conv(b.x, 8) if first else b.x
    return b.graph(b.op(op, [x], x.shape, **attrs))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("op", "attrs"), FALLING)
def test_same_numbers(op: str, attrs: dict, first: bool) -> None:
    g = graph(op, attrs, first=first)
    x = np.random.default_rng(0).standard_normal(g.inputs[0].shape).astype(np.float32)
    name = g.outputs[0].name
    before = FloatSession(g).run(x)[name]
    expand_prelu(g)
    assert [n.op for n in g.nodes] == ["Conv", "Relu", "Conv"]
    np.testing.assert_allclose(FloatSession(g).run(x)[name], before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("op", "attrs"), FALLING)
def test_on_the_chip(op: str, attrs: dict) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16), np.uint8))
    compiled = compile(to_onnx(graph(op, attrs)).SerializeToString(), calibration=pictures)
    assert compiled.report.calibration_snr_db > 30


def test_inside_a_longer_function_it_stays() -> None:
    b = Builder(1, 3, 16, 16)
    x = b.conv(b.x, 8)
    y = b.op("Div", [x, b.op("Add", [b.op("Abs", [x], x.shape), b.const(np.float32(1))], x.shape)], x.shape)
    g = b.graph(y)
    expand_prelu(g)
    assert [n.op for n in g.nodes] == ["Conv", "Abs", "Add", "Div"]

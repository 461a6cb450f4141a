"""Layers one by one: what holds whatever the network, and known curves."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builders import Builder

from openkpu.analyze.match import match
from openkpu.analyze.study import BINS, Study
from openkpu.compiler import compile, input_params
from openkpu.float.export import to_onnx
from openkpu.kmodel.program import KpuConv


@pytest.fixture(scope="module")
def studied():
    b = Builder(1, 3, 16, 16)
    t = b.leaky(b.conv(b.x, 8, 3, stride=(2, 2)))
    t = b.relu(b.depthwise(t))
    graph = b.graph(b.unary("Sigmoid", b.conv(t, 4, 1)))
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (3, 16, 16), np.uint8) for _ in range(6)]
    done = compile(to_onnx(graph).SerializeToString(), calibration=pictures, mean=127.5, std=64.0)
    nodes = match(done.lowered, done.model.steps)
    params = input_params(done.lowered.inputs[0].shape, 127.5, 64.0, None)
    return done, Study(done.lowered, done.model.program, nodes, params).run(pictures), nodes


def test_every_layer_is_there_and_counted(studied):
    done, layers, nodes = studied
    assert [layer.step for layer in layers] == sorted(nodes)
    for layer in layers:
        step = done.model.steps[layer.step]
        assert isinstance(step, KpuConv)
        assert len(layer.histogram) == BINS
        assert sum(layer.histogram) == 6 * np.prod(step.layer.output_shape)
        assert all(0 <= share <= 1 for share in layer.at_limits)


def test_alone_is_not_worse_than_with_all_before_it(studied):
    _, layers, _ = studied
    first, *rest = layers
    assert first.alone_db == pytest.approx(first.accumulated_db)  # the picture's bytes are exact
    assert all(layer.alone_db >= layer.accumulated_db - 0.5 for layer in rest)
    assert all(layer.accumulated_db > 25 for layer in layers)


def test_curves_follow_the_function_where_values_occur(studied):
    _, layers, _ = studied
    curves = {layer.curve.function.split("(")[0]: layer.curve for layer in layers if layer.curve is not None}
    assert len(curves) == 3
    for curve in curves.values():
        assert np.all(np.diff(curve.x) > 0)
        assert max(curve.density) == 1
        assert curve.worst < 4
    sigmoid = next(c for c in (layer.curve for layer in layers) if c is not None and "Sigmoid" in c.function)
    met = np.array(sigmoid.density) > 0
    np.testing.assert_allclose(np.array(sigmoid.wanted)[met], 1 / (1 + np.exp(-np.array(sigmoid.x)[met])), atol=1e-6)
    np.testing.assert_allclose(np.array(sigmoid.got)[met], np.array(sigmoid.wanted)[met], atol=0.02)

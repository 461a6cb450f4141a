"""Products over the channels of every pixel are 1x1 convolutions."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source, run_float

from openkpu.lower.target import V3, V5
from openkpu.passes import canonicalize
from openkpu.passes.matmul_as_conv import matmul_as_conv


def pixels(b, t):
    """A map as rows of channels."""
    _, c, h, w = t.shape
    return b.reshape(b.transpose(t, 0, 2, 3, 1), 1, h * w, c)


def dense(b, t, n, bias=True):
    y = b.op("MatMul", [t, b.const(b.rng.normal(size=(t.shape[-1], n)) * 0.3)], (*t.shape[:-1], n))
    return b.add(y, b.const(b.rng.normal(size=n))) if bias else y


def back(b, t, h, w):
    return b.transpose(b.reshape(t, 1, h, w, t.shape[-1]), 0, 3, 1, 2)


def mixer(b, bias=True):
    t = pixels(b, b.relu(b.conv(b.x, 6, 3)))
    t = b.relu(dense(b, t, 12, bias))
    return b.conv(back(b, dense(b, t, 8, bias), 8, 10), 4, 3)


@pytest.mark.parametrize("bias", [True, False])
def test_layers_over_pixels_in_a_row(bias):
    b = Builder(1, 3, 8, 10)
    graph = b.graph(mixer(b, bias))
    sample = np.random.default_rng(1).normal(size=b.x.shape).astype(np.float32)
    before = run_float(graph, sample)[0]
    matmul_as_conv(graph)
    graph.validate()
    np.testing.assert_allclose(run_float(graph, sample)[0], before, rtol=1e-4, atol=1e-5)
    canonicalize.run(graph)
    assert [n.op for n in graph.nodes] == ["Conv", "Elementwise", "Conv", "Elementwise", "Conv", "Conv"]


@pytest.mark.parametrize("target", [V3, V5])
def test_it_runs_on_the_kpu(target):
    b = Builder(1, 3, 8, 10)
    lowered = lowered_equals_source(b.graph(mixer(b)), target=target)
    assert {n.op for n in lowered.nodes} == {"KpuConv"}


def test_rows_that_are_no_pixels_stay():
    b = Builder(1, 3, 8, 8)
    rows = b.reshape(b.conv(b.x, 4, 3), 1, 64, 4)  # no transpose: a row is part of a channel
    graph = b.graph(dense(b, rows, 5), dense(b, b.reshape(b.conv(b.x, 4, 3), 1, 32, 8), 5))
    matmul_as_conv(graph)
    assert [n.op for n in graph.nodes].count("MatMul") == 2

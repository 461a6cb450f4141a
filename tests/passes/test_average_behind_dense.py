"""The mean goes behind the product where the product has fewer results, and only there."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source, picture, run_float

from openkpu.graph.ir import Scale
from openkpu.passes.average_behind_dense import average_behind_dense


def classifier(c, n, *, dense="gemm", size=8):
    b = Builder(1, 3, size, size)
    mean = b.gap(b.relu(b.conv(b.x, c, 3)))
    y = b.gemm(b.flatten(mean), n) if dense == "gemm" else b.conv(mean, n, 1)
    return b.graph(y)


@pytest.mark.parametrize("dense", ["gemm", "conv"])
def test_before_and_after(dense):
    graph = classifier(32, 4, dense=dense)
    x = picture(graph.inputs[0].shape)
    want = run_float(graph, x)
    average_behind_dense(graph)
    graph.validate()
    assert [n.op for n in graph.nodes][:4] == ["Conv", "Relu", "Conv", "GlobalAveragePool"]
    pool = graph.nodes[3]
    assert pool.inputs[0].shape == (1, 4, 8, 8)
    for a, b in zip(run_float(graph, x), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_more_results_than_channels_stay():
    graph = classifier(8, 40)
    average_behind_dense(graph)
    assert [n.op for n in graph.nodes] == ["Conv", "Relu", "GlobalAveragePool", "Reshape", "Gemm"]


def test_a_mean_with_other_readers_stays():
    b = Builder(1, 3, 8, 8)
    mean = b.gap(b.conv(b.x, 32, 3))
    graph = b.graph(b.conv(mean, 4, 1), mean)
    average_behind_dense(graph)
    assert [n.op for n in graph.nodes] == ["Conv", "GlobalAveragePool", "Conv"]


def test_a_model_that_came_quantised_stays():
    graph = classifier(32, 4)
    graph.scales["t4"] = Scale(0.1, 0)
    average_behind_dense(graph)
    assert graph.nodes[2].op == "GlobalAveragePool"


@pytest.mark.parametrize("size", [7, 9, 10, 12, 14, 15])
def test_means_over_blocks_equal_the_mean(size):
    b = Builder(1, 3, size, size + 3)
    lowered = lowered_equals_source(b.graph(b.gap(b.relu(b.conv(b.x, 64, 3)))))
    cut = next(n for n in lowered.nodes if n.op == "CpuMaxPool")
    assert cut.output.shape[2] * cut.output.shape[3] * 6 < size * (size + 3)


def test_few_channels_are_averaged_at_once():
    b = Builder(1, 3, 8, 8)
    lowered = lowered_equals_source(b.graph(b.gap(b.conv(b.x, 4, 3))))
    assert [n.op for n in lowered.nodes if n.op.startswith("Cpu")] == ["CpuGlobalAveragePool"]

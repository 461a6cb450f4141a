"""Depthwise kernels over 3x3 with many channels: parts of few channels on the KPU."""

import pytest
from graph_builders import Builder, lowered_equals_source

from openkpu.lower.target import V3, V5


@pytest.mark.parametrize("stride", [1, 2])
def test_five_by_five_over_many_channels_runs_on_the_kpu(stride):
    b = Builder(1, 24, 28, 28)
    t = b.relu6(b.conv(b.x, 144, 1))
    t = b.relu6(b.depthwise(t, 5, stride=(stride, stride)))
    lowered = lowered_equals_source(b.graph(b.conv(t, 40, 1)), target=V3)
    assert not [n for n in lowered.nodes if n.op == "TensorConv"]


def test_too_many_weights_stay_on_the_cpu_of_v5():
    b = Builder(1, 24, 7, 7)
    t = b.relu6(b.depthwise(b.relu6(b.conv(b.x, 1000, 1)), 5))
    lowered = lowered_equals_source(b.graph(b.conv(t, 40, 1)), target=V5)
    assert [n.op for n in lowered.nodes].count("TensorConv") == 1

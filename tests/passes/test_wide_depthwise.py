"""Depthwise kernels over 3x3: some channels at a time on the KPU, on the CPU where main RAM has no room for it."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source, picture, run_float
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.lower import lower as lowering
from openkpu.lower.lower import lower
from openkpu.lower.target import V3, V5
from openkpu.passes import canonicalize


def block(channels: int, size: int, stride: int = 1, pads=None, kernel: int = 5):
    b = Builder(1, 24, size, size)
    t = b.relu6(b.conv(b.x, channels, 1))
    t = b.relu6(b.depthwise(t, kernel, stride=(stride, stride), pads=pads))
    return b.graph(b.conv(t, 40, 1))


@pytest.mark.parametrize(("stride", "pads"), [(1, None), (2, None), (2, (1, 1, 2, 2))])
def test_five_by_five_over_many_channels_runs_on_the_kpu(stride, pads):
    lowered = lowered_equals_source(block(144, 28, stride, pads), target=V3)
    assert not [n for n in lowered.nodes if n.op.startswith(("Tensor", "Cpu"))]


@given(
    channels=st.integers(5, 60),
    size=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    kernel=st.tuples(st.integers(1, 7), st.sampled_from([4, 5, 7])),
    stride=st.integers(1, 2),
    layer_us=st.sampled_from([0.0, 400.0]),
)
@settings(max_examples=40)
def test_any_wide_depthwise_kernel(channels, size, kernel, stride, layer_us):
    b = Builder(1, 3, *size)
    t = b.relu6(b.conv(b.x, channels, 1))
    t = b.relu6(b.depthwise(t, kernel, stride=(stride, stride)))
    t = b.relu6(b.depthwise(b.relu6(b.conv(t, channels, 1)), 5))
    graph = b.graph(b.conv(t, 8, 1))
    x = picture(graph.inputs[0].shape)
    want = run_float(graph, x)
    canonicalize.run(graph)
    got = run_float(lower(graph, layer_us=layer_us)[0], x)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(want[0]).max())))


def test_where_layers_are_dear_spare_rows_save_copies():
    graph = block(480, 14)
    canonicalize.run(graph)
    cheap, dear = (lower(graph, layer_us=us)[0] for us in (0.0, 400.0))
    layers = [sum(n.op == "KpuConv" for n in g.nodes) for g in (cheap, dear)]
    assert layers[1] * 4 < layers[0]
    assert [n.op for n in dear.nodes].count("CpuPad") == 1
    x = picture(graph.inputs[0].shape)
    np.testing.assert_allclose(run_float(dear, x)[0], run_float(graph, x)[0], rtol=1e-4, atol=1e-4)


def test_weights_that_main_ram_has_no_room_for_stay_on_the_cpu_of_v5(monkeypatch):
    monkeypatch.setattr(lowering, "SCRATCH_BYTES", 6 << 20)
    lowered = lowered_equals_source(block(480, 7), target=V5)
    assert [n.op for n in lowered.nodes].count("TensorConv") == 1

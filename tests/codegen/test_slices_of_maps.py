"""Some channels of a map in AI RAM: a wide depthwise layer runs bit for bit as planned, in every version."""

import numpy as np
import pytest
from graph_builders import Builder
from target_models import gated_parts, graph_of

from openkpu.compiler import compile
from openkpu.float.export import to_onnx
from openkpu.kmodel.program import KpuConv, Memory
from openkpu.lower.streamed import lower_to_fit
from openkpu.lower.target import V3
from openkpu.passes import canonicalize


def network(channels: int = 72, size: int = 14):
    b = Builder(1, 3, size, size)
    t = b.relu6(b.conv(b.x, channels, 1))
    t = b.relu6(b.depthwise(t, 5))
    return b.graph(b.conv(t, 4, 1))


@pytest.mark.parametrize("target", ["v3", "v4", "v5"])
def test_a_wide_depthwise_layer_is_accurate_and_reads_only_what_was_written(target):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (3, 14, 14), np.uint8) for _ in range(4)]
    compiled = compile(
        to_onnx(network()).SerializeToString(), calibration=pictures, target=target, range_method="minmax"
    )
    assert compiled.report.calibration_snr_db > 30
    compiled.model.run(pictures[0], check=True)
    assert compiled.model.findings == []
    inner = [s for s in compiled.model.steps if isinstance(s, KpuConv)]
    first = inner[0]
    slices = {s.reads[0].start - first.writes[0].start for s in inner[1:]}
    assert len([s for s in slices if 0 < s < first.writes[0].elements * 4]) >= 1


@pytest.mark.parametrize("target", ["v3", "v4"])
@pytest.mark.parametrize("upsampled", [False, True], ids=["two layers", "an upsampled map and a layer"])
def test_a_product_takes_channels_across_the_parts_of_a_concatenation(target, upsampled):
    graph = graph_of((1, 3, 28, 28), lambda b: gated_parts(b, upsampled))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (3, 28, 28), np.uint8) for _ in range(4)]
    compiled = compile(to_onnx(graph).SerializeToString(), calibration=pictures, target=target, range_method="minmax")
    assert compiled.report.calibration_snr_db > 20
    compiled.model.run(pictures[0], check=True)
    assert compiled.model.findings == []
    written = [o for s in compiled.model.steps for o in s.writes if o.memory is Memory.AI]
    if target == "v3":
        read = [s.reads[0] for s in compiled.model.steps if isinstance(s, KpuConv)]
        assert any(r.start < w.start < r.stop < w.stop for r in read for w in written)


def test_a_model_over_main_ram_gets_few_layers_of_limited_size():
    graph = network(480)
    canonicalize.run(graph)
    whole, _ = lower_to_fit(graph, V3, 20)
    small, _ = lower_to_fit(graph, V3, 40, ram=1000)
    count = [sum(n.op == "KpuConv" for n in g.nodes) for g in (whole, small)]
    assert count[1] <= 40 < count[0]
    assert max(int(np.prod(n.inputs[1].shape)) for n in small.nodes if n.op == "KpuConv") <= 512 << 10


def test_weights_of_a_long_vector_come_in_layers_of_limited_size():
    b = Builder(1, 3, 8, 8)
    t = b.relu(b.conv(b.x, 1024, 3))
    graph = b.graph(b.gemm(b.flatten(b.gap(t)), 1000))
    canonicalize.run(graph)
    small, _ = lower_to_fit(graph, V3, 507, ram=1000)
    vectors = [n for n in small.nodes if n.op == "KpuConv" and n.attrs["vector"]]
    assert len(vectors) == 2


@pytest.mark.parametrize("target", ["v3", "v4", "v5"])
def test_a_mean_over_more_channels_than_a_layer_takes(target):
    b = Builder(1, 3, 8, 8)
    graph = b.graph(b.gemm(b.flatten(b.gap(b.relu6(b.conv(b.x, 1280, 3)))), 10))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (3, 8, 8), np.uint8) for _ in range(4)]
    compiled = compile(to_onnx(graph).SerializeToString(), calibration=pictures, target=target, range_method="minmax")
    assert compiled.report.calibration_snr_db > 30
    compiled.model.run(pictures[0], check=True)
    assert compiled.model.findings == []

"""More than 1024 channels: sums of convolutions over parts of them."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source

from openkpu.codegen.build import assemble
from openkpu.compiler import compile
from openkpu.float.export import to_onnx
from openkpu.lower.target import V3, V5


def wide(b, channels, residual):
    t = b.conv(b.x, 8, 3)
    y = b.relu6(b.conv(t, channels, 1))
    y = b.conv(b.relu6(b.depthwise(y, 3)), 8, 1)
    return b.add(y, t) if residual else y


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("channels", [1028, 1152, 2052])
@pytest.mark.parametrize("version", [V3, V5])
def test_parts_are_added_on_the_kpu(version, channels, residual):
    b = Builder(1, 3, 6, 6)
    lowered = lowered_equals_source(b.graph(wide(b, channels, residual)), target=version)
    assert {n.op for n in lowered.nodes} <= {"KpuConv", "KpuConcat"}
    assert max(n.inputs[0].shape[1] for n in lowered.nodes if n.op == "KpuConv") <= 1024


def test_a_wide_depthwise_layer_at_the_end_is_put_together():
    b = Builder(1, 3, 6, 6)
    y = b.depthwise(b.relu(b.conv(b.x, 1100, 1)), 3)
    lowered_equals_source(b.graph(b.gemm(b.flatten(b.gap(y)), 5)), target=V3)


def test_the_versions_agree_on_a_wide_model():
    b = Builder(1, 3, 8, 8)
    graph = b.graph(wide(b, 1152, True))
    x = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8)
    c = compile(to_onnx(graph).SerializeToString(), calibration=list(x), range_method="minmax")
    assert c.report.calibration_snr_db > 30
    want = c.model.run(x[0], check=True)[0]
    assert not c.model.findings
    v5 = assemble(c.lowered, c.quantized, 5)
    from openkpu.api import Model

    np.testing.assert_allclose(Model(v5.program).run(x[0])[0].ravel(), want.ravel(), atol=1e-5)

"""Tiles: the same numbers as the whole map, within the KPU's limits."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source, random_graph
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import openkpu
from openkpu.codegen.build import assemble
from openkpu.compiler import compile
from openkpu.errors import UnsupportedError
from openkpu.float.export import to_onnx
from openkpu.k210 import AI_RAM_BYTES
from openkpu.lower.lower import lower
from openkpu.lower.target import V3, V4, V5
from openkpu.passes import canonicalize, split_into_tiles, tile_shapes


@pytest.fixture
def small_chip(monkeypatch):
    """Tile as for a KPU of 12 KiB whose largest map is 24x20, so that small graphs are split."""
    monkeypatch.setattr(tile_shapes, "AI_RAM_BYTES", 12 << 10)
    monkeypatch.setattr(tile_shapes, "MAX_HEIGHT", 20)
    for module in (tile_shapes, split_into_tiles):
        monkeypatch.setattr(module, "MAX_WIDTH", 24)


def tiles(graph):
    return sum(1 for n in graph.nodes if n.op == "Slice" and n.attrs.get("cut"))


@given(st.data(), st.integers(1, 8))
@settings(max_examples=25)
def test_random_graphs_in_tiles_compute_the_same(data, layers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_shapes, "AI_RAM_BYTES", 12 << 10)
        patch.setattr(tile_shapes, "MAX_HEIGHT", 20)
        patch.setattr(tile_shapes, "MAX_WIDTH", 24)
        patch.setattr(split_into_tiles, "MAX_WIDTH", 24)
        graph = random_graph(lambda v: data.draw(st.sampled_from(list(v))), layers, largest=40)
        try:
            lowered_equals_source(graph, target=V5)
        except UnsupportedError as error:
            assume(error.code != "E215")
            raise


@pytest.mark.usefixtures("small_chip")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_every_window_in_tiles_lowers_to_the_same(kernel, stride):
    b = Builder(1, 3, 41, 53)
    t = b.relu(b.conv(b.x, 8, kernel, stride=(stride, stride)))
    graph = b.graph(b.conv(b.max_pool(b.conv(t, 8, 3)), 4, 3, stride=(2, 2), pads=(0, 0, 1, 1)))
    lowered_equals_source(graph, target=V4)
    assert tiles(graph) >= 2


@pytest.mark.usefixtures("small_chip")
def test_blocks_with_a_sum_stay_in_their_tile():
    b = Builder(1, 4, 36, 44)
    t = b.relu(b.conv(b.x, 8, 3))
    t = b.add(t, b.conv(b.relu6(b.depthwise(b.relu6(b.conv(t, 16, 1)), 3)), 8, 1))
    t = b.conv(b.relu6(b.depthwise(t, 3, stride=(2, 2))), 8, 1)
    graph = b.graph(t)
    lowered = lowered_equals_source(graph, target=V5)
    assert tiles(graph) > 1
    joins = [n for n in lowered.nodes if n.op in ("TensorConcat", "KpuRows") and len(n.inputs) > 1]
    assert len(joins) == len([n for n in graph.nodes if n.op == "Concat"])


def test_what_fits_stays_as_it_was():
    b = Builder(1, 3, 224, 224)
    t = b.relu(b.conv(b.x, 24, 3, stride=(2, 2)))
    graph = b.graph(b.max_pool(b.relu(b.conv(t, 48, 1))))
    canonicalize.run(graph)
    assert not tiles(graph)


def large(height, width):
    """A small detector-like net on a picture of some size."""
    b = Builder(1, 3, height, width)
    t = b.relu(b.conv(b.x, 16, 3))
    t = b.relu(b.conv(t, 16, 3, stride=(2, 2)))
    t = b.max_pool(b.leaky(b.conv(t, 24, 3)))
    return b.graph(b.conv(b.max_pool(t), 6, 1))


@pytest.mark.parametrize(("height", "width"), [(480, 640), (257, 352)])
def test_pictures_over_the_largest_map_run_in_v4_and_v5(height, width):
    graph = large(height, width)
    x = np.random.default_rng(0).integers(0, 256, (2, 3, height, width), np.uint8)
    c = compile(to_onnx(graph).SerializeToString(), calibration=list(x), target="v4", range_method="minmax")
    assert c.report.ai_peak <= AI_RAM_BYTES
    assert c.report.calibration_snr_db > 25
    assert not [d for d in c.report.decisions if d.where == "CPU" and d.op == "Conv"]
    want = c.model.run(x[0], check=True)
    assert not c.model.findings
    v5 = openkpu.load(openkpu.Model(assemble(c.lowered, c.quantized, 5).program).to_bytes())
    for a, b in zip(v5.run(x[0], check=True), want, strict=True):
        np.testing.assert_allclose(a.ravel(), b.ravel(), atol=1e-6 * float(np.abs(b).max()))


def test_v3_tiles_what_its_picture_memory_holds():
    graph = large(256, 512)
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 256, 512), np.uint8)
    c = compile(to_onnx(graph).SerializeToString(), calibration=list(x), target="v3", range_method="minmax")
    want = c.model.run(x[0], check=True)
    assert not c.model.findings
    assert c.report.calibration_snr_db > 25
    v4 = openkpu.Model(assemble(c.lowered, c.quantized, 4).program)
    np.testing.assert_allclose(v4.run(x[0])[0].ravel(), want[0].ravel(), atol=1e-6 * float(np.abs(want[0]).max()))


def test_v3_says_why_a_larger_picture_is_not_possible():
    graph = large(480, 640)
    canonicalize.run(graph)
    with pytest.raises(UnsupportedError, match="E213") as caught:
        lower(graph, target=V3)
    assert "640x480" in caught.value.why
    assert "--target v4" in caught.value.fix


@pytest.mark.usefixtures("small_chip")
def test_tiles_begin_where_there_is_least_to_cut():
    """The picture has 3 channels, the map that does not fit 16: the layer between them runs in the tiles too."""
    b = Builder(1, 3, 40, 52)
    t = b.relu(b.conv(b.relu(b.conv(b.x, 16, 3)), 16, 3))
    graph = b.graph(b.max_pool(t))
    lowered_equals_source(graph, target=V5)
    cuts = [n for n in graph.nodes if n.op == "Slice" and n.attrs.get("cut")]
    assert cuts
    assert all(n.inputs[0] is graph.inputs[0] for n in cuts)

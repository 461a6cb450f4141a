"""Gathering for a report: names, pictures, boxes, advice."""

from __future__ import annotations

import io

import numpy as np
import pytest
from graph_builders import Builder
from PIL import Image

from openkpu.analyze.examine import LEAST_SIDE, SHOWN, examine
from openkpu.compiler import compile
from openkpu.float.export import to_onnx


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A YOLO-like head: one anchor, two classes, on a 4x4 grid."""
    folder = tmp_path_factory.mktemp("detector")
    b = Builder(1, 3, 16, 16)
    graph = b.graph(b.conv(b.relu(b.conv(b.x, 8, 3, stride=(2, 2))), 7, 3, stride=(2, 2)))
    graph.nodes[0].source = ("stem & co",)
    (folder / "m.onnx").write_bytes(to_onnx(graph).SerializeToString())
    pictures = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16), np.uint8)
    compile(folder / "m.onnx", calibration=pictures).save(folder / "m.kmodel")
    return folder, pictures


def test_boxes_names_and_pictures(detector):
    folder, pictures = detector
    found = examine(folder / "m.onnx", folder / "m.kmodel", pictures, anchors=(1.0, 1.0), threshold=0.2)
    assert len(found.pictures) == SHOWN
    assert found.comparison.pictures == 20
    assert any(p.kpu_boxes for p in found.pictures)
    agree = [len(p.kpu_boxes) == len(p.reference_boxes) for p in found.pictures]
    assert sum(agree) >= len(agree) - 2
    image = Image.open(io.BytesIO(found.pictures[0].jpeg))
    assert image.size == found.pictures[0].size == (LEAST_SIDE, LEAST_SIDE)
    named = [s.name for s in found.inspection.steps if s.on_kpu]
    assert [layer.layer for layer in found.layers] == [n for n in named if n]
    assert found.advice


def test_a_layer_that_calibration_did_not_see_is_named(detector, tmp_path):
    """Calibrated on dark pictures, examined on bright ones: layers stand at their upper limit."""
    folder, pictures = detector
    compile(folder / "m.onnx", calibration=pictures // 8, range_method="minmax").save(tmp_path / "dark.kmodel")
    found = examine(folder / "m.onnx", tmp_path / "dark.kmodel", pictures)
    assert any("upper limit" in sentence for sentence in found.advice)

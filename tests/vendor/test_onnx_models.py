"""Real ONNX models import and compute what onnxruntime makes of the file; hostile ones give one clear error."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from openkpu.errors import OpenKPUError
from openkpu.float.data import load_samples
from openkpu.float.session import FloatSession
from openkpu.importers.onnx import load

pytestmark = pytest.mark.vendor


def agrees(path: Path) -> None:
    graph = load(path)
    graph.validate()
    rng = np.random.default_rng(0)
    feeds = {t.name: rng.random(t.shape, dtype=np.float32) for t in graph.inputs}
    got = FloatSession(graph).run(feeds)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    shapes = {i.name: i.shape for i in session.get_inputs()}
    repeats = max((s[0] for s in shapes.values() if isinstance(s[0], int)), default=1)
    wanted = session.run(None, {n: np.repeat(a, repeats, 0) for n, a in feeds.items()})
    for output, reference in zip(session.get_outputs(), wanted, strict=True):
        np.testing.assert_allclose(got[output.name], reference[:1], rtol=1e-4, atol=1e-5)


def test_source_models(vendor: Path) -> None:
    paths = sorted([*vendor.glob("src/*.onnx"), *vendor.glob("v4/compiled/src/*.onnx")])
    assert len(paths) >= 20
    for path in paths:
        agrees(path)


def test_hostile_models(vendor: Path) -> None:
    outcome = {}
    for path in sorted(vendor.glob("hostile/*.onnx")):
        try:
            agrees(path)
            outcome[path.stem] = ""
        except OpenKPUError as error:
            outcome[path.stem] = error.code
    refused = {k: v for k, v in outcome.items() if v}
    assert refused == {
        "bitflip": "E150",
        "custom_op": "E261",
        "dyn_hw": "E260",
        "einsum": "E280",
        "empty": "E150",
        "gridsample": "E280",
        "missing_init": "E152",
        "nan_w": "E264",
        "random": "E150",
        "text": "E150",
        "trunc": "E150",
    }


def test_calibration_files(vendor: Path) -> None:
    for path in sorted(vendor.glob("inputs/*.npz")):
        height, width, channels = map(int, path.stem.rpartition("_")[2].split("x"))
        samples = load_samples(path, (channels, height, width))
        assert len(samples) >= 16
        with np.load(path) as loaded:
            np.testing.assert_array_equal(samples[3].array, loaded["calib"][3].transpose(2, 0, 1))

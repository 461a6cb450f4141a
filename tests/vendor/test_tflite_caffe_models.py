"""Real TensorFlow Lite and Caffe models import, and compute what other programs make of them."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from openkpu.errors import OpenKPUError
from openkpu.float.session import FloatSession
from openkpu.importers.load import load
from openkpu.passes import canonicalize

pytestmark = pytest.mark.vendor


def test_single_operators_compute_what_the_vendors_compiler_does(vendor: Path) -> None:
    """The float outputs of the vendor's own import of the same files, in its order, which is the chip's: C, H, W."""
    folder = vendor / "v4" / "compiled"
    compared = 0
    for path in sorted(folder.glob("src/*.tflite")):
        golden = next((g for g in sorted(folder.glob(f"{path.stem}.npz")) + sorted(folder.glob(f"{path.stem}__*.npz"))
                       if "mean05" not in g.stem), None)  # fmt: skip
        if golden is None:
            continue
        graph = load(path)
        source, result = graph.inputs[0], graph.outputs[0]
        with np.load(golden) as stored:
            x, wanted = stored["input_0"], stored["float_0_0"]
        x = x.astype(np.float32) / 255 if x.dtype == np.uint8 else x
        got = FloatSession(graph).run({source.name: x.reshape(source.shape)})[result.name]
        np.testing.assert_allclose(got.reshape(-1), wanted, rtol=1e-4, atol=1e-5, err_msg=path.stem)
        compared += 1
    assert compared >= 27


def test_transposes_vanish(vendor: Path) -> None:
    """Convolutional networks keep none; SSD heads keep the one that orders their boxes."""
    left = {}
    for path in sorted([*vendor.glob("src/*.tflite"), *vendor.glob("v4/compiled/src/*.tflite")]):
        graph = load(path)
        canonicalize.run(graph)
        left[path.stem] = sum(n.op == "Transpose" for n in graph.nodes)
    assert len(left) >= 30
    assert {k: v for k, v in left.items() if v} == {"face_detection_short_range": 4, "ulffd_landmark": 9}


@pytest.mark.parametrize("name", ["RFB-320.prototxt", "RFB-320.asfound.prototxt", "RFB-320.caffemodel"])
def test_caffe_equals_its_rewrite_as_onnx(vendor: Path, name: str) -> None:
    """The file as found says stride_h and stride_w, the repaired one stride; the caffemodel holds the net itself."""
    x = np.random.default_rng(0).standard_normal((1, 3, 240, 320)).astype(np.float32)
    session = ort.InferenceSession(str(vendor / "src" / "RFB-320.onnx"), providers=["CPUExecutionProvider"])
    wanted = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"input": x}), strict=True))
    graph = load(vendor / "src" / name)
    got = FloatSession(graph).run({"input": x})
    assert {n: a.shape for n, a in got.items()} == {"boxes": (1, 4420, 4), "scores": (1, 4420, 2)}
    for key, reference in wanted.items():
        np.testing.assert_allclose(got[key], reference, rtol=1e-4, atol=1e-5)


def test_hostile_models(vendor: Path) -> None:
    codes = {}
    for name in ("empty.tflite", "random.tflite"):
        with pytest.raises(OpenKPUError) as caught:
            load(vendor / "hostile" / name)
        codes[name] = caught.value.code
    assert codes == {"empty.tflite": "E150", "random.tflite": "E149"}

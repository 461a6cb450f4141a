"""Every vendor V5 file: read and write back byte for byte, run, compare with nncase's simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import openkpu
from openkpu.kmodel import v5
from openkpu.kmodel.v5_extra import V5Extra
from openkpu.runtime.session import Session

pytestmark = pytest.mark.vendor

NAMES = (
    *("face_landmark68_tiny_112", "fer_emotion_64", "mbv1_0.25_224", "mnist_cnn_28", "model_4", "mtcnn_pnet_160x120"),
    *("mtcnn_rnet_24", "ppocr_cls_48x192", "rfb320_onnx", "tiny_face_160", "tinyyolo_digits224", "ulffd_landmark"),
    "yolofastest_like_320x224",
)
SMALL = ("mnist_cnn_28", "fer_emotion_64", "mtcnn_rnet_24", "mtcnn_pnet_160x120", "tiny_face_160", "ppocr_cls_48x192")
VARIANTS = {
    "minist_20210805": "2021-07",
    "mnist_20210807": "2021-07",
    "mnist_20210818": "2021-08-18",
    "mnist_20211020": "2021-10-20",
    "mnist_20221103": "1.6-1.9",
    "mobilenet_v2_20210807": "2021-07",
    "mobilenet_v2_20210818": "2021-10-18",  # the last whose numbers are those of 2021-08-18 for its functions
    "mobilenet_v2_20211020": "2021-10-20",
    "mobilenet_v2_20221109": "1.6-1.9",
}


def compare(vendor: Path, name: str, engine: str, pictures: int) -> None:
    golden = np.load(vendor / "v5" / f"{name}.npz")
    program = v5.read((vendor / "v5" / f"{name}.kmodel").read_bytes())
    session = Session(program, engine=engine)  # type: ignore[arg-type]
    for i in range(pictures):
        outputs = session.run(golden["inputs"][i])
        assert len(outputs) == sum(k.startswith("out") for k in golden.files)
        for k, output in enumerate(outputs):
            # floats too: sums and functions happen to round alike on this simulator and that one
            np.testing.assert_array_max_ulp(output, golden[f"out{k}"][i].reshape(output.shape), maxulp=4)


@pytest.mark.parametrize("name", NAMES)
def test_outputs(vendor: Path, name: str) -> None:
    compare(vendor, name, "native", 3)


@pytest.mark.parametrize("name", SMALL)
def test_outputs_of_the_reference(vendor: Path, name: str) -> None:
    compare(vendor, name, "reference", 1)


def test_rewriting_gives_the_same_bytes(vendor: Path) -> None:
    files = sorted((vendor / "v5").glob("*.kmodel"))
    assert len(files) >= len(NAMES) + 5
    for path in files:
        data = path.read_bytes()
        assert v5.write(v5.read(data)) == data, path.name


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_old_versions_are_recognised_and_run(vendor: Path, name: str) -> None:
    model = openkpu.load(vendor / "v5" / f"v5_nncase_bench_{name}.kmodel")
    assert isinstance(model.program.extra, V5Extra)
    assert model.program.extra.variant == VARIANTS[name]
    if "mnist" in name or "minist" in name:  # their weights are what happens to be in memory: here 0
        (output,) = model.run(np.zeros(model.inputs[0].shape, np.float32))
        assert output.shape == (10,)
        assert not output.any()


def test_yolox_of_2021(vendor: Path) -> None:
    model = openkpu.load(vendor / "v5" / "v5_nncase_yolox_nano_224_20210907.kmodel")
    assert len([s for s in model.steps if type(s).__name__ == "KpuConv"]) == 120
    (output,) = model.run(np.full((3, 224, 224), 114, np.uint8), check=True)
    assert model.findings == []
    assert output.shape == (1029, 85)
    assert output[:, 4].max() < 0.2  # nothing to be seen in a grey picture


@pytest.mark.parametrize("name", SMALL)
def test_vendor_programs_have_no_memory_mistakes(vendor: Path, name: str) -> None:
    golden = np.load(vendor / "v5" / f"{name}.npz")
    model = openkpu.load(vendor / "v5" / f"{name}.kmodel")
    checked = model.run(golden["inputs"][0], check=True)
    assert model.findings == []
    for a, b in zip(checked, model.run(golden["inputs"][0]), strict=True):
        np.testing.assert_array_equal(a, b)

"""Every vendor V3 file: read and write back byte for byte, run, compare with the vendor runtime's golden data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openkpu
from openkpu.kmodel import v3
from openkpu.kmodel.detect import Kind, byteswap, detect
from openkpu.kmodel.program import KpuConv, Step
from openkpu.runtime.session import Session

pytestmark = pytest.mark.vendor

TOLERANCE = 4e-6  # floats on the device are not defined to the bit; this is fused against separate multiply-add
SMALL = ("v3_maixpy_mnist", "v3_nncase010_iris", "v3syn_conv8", "v3syn_conv16", "v3syn_cpu_ops", "v3syn_fc")
LARGE = ("v3_nncase010_yolo20", "v3_sdkdemo_face_detect")


def equal(got: np.ndarray[Any, Any], golden: np.ndarray[Any, Any]) -> bool:
    """Exact for bytes; floats within the tolerance. Golden concatenations are raw bytes."""
    if golden.dtype == np.uint8:
        return np.array_equal(got.reshape(-1).view(np.uint8), golden.reshape(-1))
    return got.dtype == np.float32 and bool(np.abs(got.reshape(-1) - golden.reshape(-1)).max() <= TOLERANCE)


def compare(vendor: Path, name: str, engine: Any, tags: int | None = None) -> int:
    """Run the model on its golden inputs; return how many arrays were compared."""
    golden = np.load(vendor / "v3" / f"{name}.npz")
    session = Session(openkpu.load(vendor / "v3" / f"{name}.kmodel").program, engine=engine)
    compared = 0
    for tag in [k[: -len("_input")] for k in golden.files if k.endswith("_input")][:tags]:
        wrong: list[str] = []

        def see(index: int, step: Step, array: np.ndarray[Any, Any], tag: str = tag, wrong: list[str] = wrong) -> None:
            nonlocal compared
            values = {"kpu" if type(step).__name__ in ("KpuConv", "KpuUpload", "KpuAddPadding") else "main": array}
            if isinstance(step, KpuConv) and step.main_output is not None:
                o = step.main_output
                values["main"] = session.main[o.start : o.stop].copy()
            for memory, value in values.items():
                key = f"{tag}_L{index:03d}_{memory}"
                if key in golden.files:
                    compared += 1
                    if not equal(value, golden[key]):
                        wrong.append(key)

        outputs = session.run(golden[f"{tag}_input"], trace=see)
        for i, output in enumerate(outputs):
            key = f"{tag}_output{i}" + ("_f32" if output.dtype == np.float32 else "")
            compared += 1
            if not equal(output, golden[key]):
                wrong.append(key)
        assert not wrong
    return compared


def test_rewriting_gives_the_same_bytes(vendor: Path) -> None:
    files = sorted((vendor / "v3").glob("v3*.kmodel"))
    assert files
    for path in files:
        data = path.read_bytes()
        if detect(data).kind is Kind.V3_SWAPPED:
            data = byteswap(data)
        assert v3.write(v3.read(data)) == data, path.name


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("name", SMALL)
def test_small_models(vendor: Path, name: str, engine: str) -> None:
    assert compare(vendor, name, engine) >= 4


@pytest.mark.parametrize("name", LARGE)
def test_large_models(vendor: Path, name: str) -> None:
    assert compare(vendor, name, "native") >= 30


def test_large_model_on_the_reference(vendor: Path) -> None:
    assert compare(vendor, "v3_sdkdemo_face_detect", "reference", tags=1) >= 20


@pytest.mark.parametrize("name", [*SMALL, LARGE[0]])
def test_vendor_programs_have_no_memory_mistakes(vendor: Path, name: str) -> None:
    golden = np.load(vendor / "v3" / f"{name}.npz")
    model = openkpu.load(vendor / "v3" / f"{name}.kmodel")
    key = next(k for k in golden.files if k.endswith("_input"))
    checked = model.run(golden[key], check=True)
    assert model.findings == []
    for a, b in zip(checked, model.run(golden[key]), strict=True):
        np.testing.assert_array_equal(a, b)  # the fill of the memories differs, the results do not


def test_byte_swapped_file_loads(vendor: Path) -> None:
    model = openkpu.load(vendor / "v3" / "v3be_maixpy_facedetect_be.kmodel")
    assert model.kind.kind is Kind.V3_SWAPPED
    assert any("swapped" in note for note in model.notes)
    (output,) = model.run(np.zeros((3, 240, 320), np.uint8))
    assert output.shape == (30, 15, 20)


def test_v1_is_recognised_and_refused(vendor: Path) -> None:
    with pytest.raises(openkpu.OpenKPUError, match=r"E101.*kmodel V1"):
        openkpu.load(vendor / "v3" / "v1_sdkdemo_aug_face.kmodel")


@pytest.mark.parametrize(("folder", "kind"), [("v4/real", Kind.V4), ("v4/compiled", Kind.V4), ("v5", Kind.V5)])
def test_newer_versions_are_recognised(vendor: Path, folder: str, kind: Kind) -> None:
    files = sorted((vendor / folder).glob("*.kmodel"))
    assert files
    assert {detect(f.read_bytes()).kind for f in files} == {kind}


def test_packages_and_sources_are_recognised(vendor: Path) -> None:
    assert {detect(f.read_bytes()).kind for f in (vendor / "kfpkg").glob("*.kfpkg")} == {Kind.KFPKG}
    assert {detect(f.read_bytes()).kind for f in (vendor / "src").glob("*.onnx")} == {Kind.ONNX}
    assert {detect(f.read_bytes()).kind for f in (vendor / "src").glob("*.tflite")} == {Kind.TFLITE}

"""Every kind of model file through the command line: TensorFlow Lite, quantised or not, and Caffe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe_builder import declared, layer, pair
from tflite_builder import Model, conv

RNG = np.random.default_rng(8)
W = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)


def tflite(*, quantised: bool) -> bytes:
    m = Model()
    if quantised:
        x = m.input(1, 18, 18, 3, dtype="uint8", scale=1 / 255, zero=0)
        w = m.const(W, scale=[0.01, 0.02, 0.01, 0.02])
        m.op("CONV_2D", [x, w], (1, 18, 18, 4), conv(act=1), dtype="uint8", scale=0.05, zero=0)
    else:
        x = m.input(1, 18, 18, 3)
        m.op("CONV_2D", [x, m.const((W * 0.01).astype(np.float32))], (1, 18, 18, 4), conv(act=1))
    return m.bytes()


@pytest.fixture
def quantised(tmp_path: Path) -> Path:
    path = tmp_path / "quantised.tflite"
    path.write_bytes(tflite(quantised=True))
    return path


def test_a_quantised_model_compiles_without_pictures(
    tmp_path: Path, quantised: Path, pictures: Path, kpu: Callable[..., Any]
) -> None:
    out = tmp_path / "q.kmodel"
    done = kpu("compile", quantised, "-o", out)
    assert done.exit_code == 0, done.output
    assert "it came quantised" in done.output
    found = json.loads(kpu("compile", quantised, "-o", out, "--json").stdout)
    assert (found["calibration_pictures"], found["calibration_snr_db"]) == (0, None)
    compared = json.loads(kpu("compare", quantised, out, "--data", pictures, "--json").stdout)
    assert compared["outputs"][0]["snr_db"] > 30
    assert len(compared["layers"]) == 1


def test_anew_with_pictures(tmp_path: Path, quantised: Path, pictures: Path, kpu: Callable[..., Any]) -> None:
    out = tmp_path / "q.kmodel"
    done = kpu("compile", quantised, "-o", out, "--calibration", pictures, "--json")
    assert json.loads(done.stdout)["calibration_pictures"] == 5


def test_a_float_tflite(tmp_path: Path, pictures: Path, kpu: Callable[..., Any]) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite(quantised=False))
    assert kpu("check", path).exit_code == 0
    refused = kpu("compile", path, "-o", tmp_path / "n.kmodel")
    assert refused.exit_code == 1
    assert "E410" in refused.output
    assert kpu("compile", path, "-o", tmp_path / "n.kmodel", "--calibration", pictures).exit_code == 0


def test_a_caffe_pair(tmp_path: Path, pictures: Path, kpu: Callable[..., Any]) -> None:
    text = declared(1, 3, 18, 18) + layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }")
    path = pair(tmp_path, text, {"l": [W.transpose(0, 3, 1, 2) * 0.01, np.zeros(4)]})
    for source in (path, path.with_suffix(".caffemodel")):
        assert kpu("check", source).exit_code == 0
        done = kpu("compile", source, "-o", tmp_path / "n.kmodel", "--calibration", pictures)
        assert done.exit_code == 0, done.output

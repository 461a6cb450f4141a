"""Files of other kinds are called what they are, with what to do."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_zoo import build, node
from PIL import Image

from openkpu.errors import FileFormatError
from openkpu.importers.load import load


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(zipfile.ZipInfo(name), "content")
    return stream.getvalue()


def picture(form: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, form)
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(3))
    return stream.getvalue()


TORCH = zipped("net/data.pkl", "net/data/0")


@pytest.mark.parametrize(
    ("data", "title", "fix"),
    [
        (TORCH, "PyTorch", "torch.onnx.export"),
        (TORCH[:60], "PyTorch", "torch.onnx.export"),
        (pickle.dumps({"weights": [1.0]}), "pickle", "torch.onnx.export"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "Keras", ".export("),
        (zipped("metadata.json", "config.json", "model.weights.h5"), "Keras", ".export("),
        (b"\x03\0\0\0" + bytes(64), "kmodel", "kpu inspect"),
        (b"LDMK\x04\0\0\0" + bytes(64), "kmodel", "kpu inspect"),
        (picture("PNG"), "picture", "--calibration"),
        (picture("JPEG"), "picture", "--calibration"),
        (arrays(), "NumPy", "--calibration"),
        (zipped("net.onnx"), "zip", "unpack"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html></html>", "web page", "download"),
    ],
)
def test_by_first_bytes(tmp_path: Path, data: bytes, title: str, fix: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(FileFormatError) as caught:
            load(source)
        assert caught.value.code == "E149"
        assert title in caught.value.what
        assert fix in caught.value.fix
    assert caught.value.where == "bytes in memory"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("a.pt", "PyTorch"),
        ("a.PTH", "PyTorch"),
        ("a.tflite", "TensorFlow Lite"),
        ("a.h5", "Keras"),
        ("a.keras", "Keras"),
        ("a.kmodel", "kmodel"),
        ("a.png", "picture"),
        ("a.jpg", "picture"),
    ],
)
def test_by_extension_only_when_it_is_no_onnx(tmp_path: Path, name: str, title: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"solver { net: 'x' }\n" * 20)
    with pytest.raises(FileFormatError, match=title) as caught:
        load(path)
    assert caught.value.code == "E149"
    onnx.save(build([node("Relu", ["x"], name="r")], {"x": (1, 3, 8, 8)}), path)
    assert load(path).inputs[0].shape == (1, 3, 8, 8)

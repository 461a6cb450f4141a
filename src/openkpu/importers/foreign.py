"""What kind of file a model is, by its first bytes or else its extension; for kinds that are no model, what to do.

No ONNX file begins with any of these bytes: as protobuf they would be field number 0, or a field that ModelProto lacks.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import PurePath
from typing import Final, NamedTuple


class Foreign(NamedTuple):
    """A kind of file and what to do."""

    title: str
    fix: str


_TORCH: Final = Foreign(
    "a PyTorch file (.pt, .pth)",
    "in Python, with the model's class and weights loaded: "
    'torch.onnx.export(model.eval(), torch.zeros(1, 3, HEIGHT, WIDTH), "model.onnx")',
)
_PICKLE: Final = Foreign("a Python pickle, probably a PyTorch file", _TORCH.fix)
_TFLITE: Final = Foreign("a damaged TensorFlow Lite file (its mark TFL3 is missing)", "copy or convert the model again")
_KERAS: Final = Foreign(
    "a Keras model or other HDF5 file (.h5, .keras)",
    'in Python: keras.models.load_model(PATH).export("model.onnx", format="onnx"), '
    "or tf.lite.TFLiteConverter.from_keras_model(...)",
)
_KMODEL: Final = Foreign(
    "a kmodel: compiled already",
    "`kpu inspect FILE` and `kpu run FILE PICTURE` take it; "
    "here the model it was made from is needed (ONNX, TFLite, Caffe)",
)
_PICTURE: Final = Foreign("a picture", "give the model first, and pictures to --calibration or --data")
_ZIP: Final = Foreign("a zip file", "unpack it and give the model inside (.onnx, .tflite)")
_ARRAYS: Final = Foreign("a file of NumPy arrays", "give the model first, and arrays to --calibration or --data")
_POINTER: Final = Foreign("a Git LFS pointer: the model itself was not downloaded", "run `git lfs pull`")
_PAGE: Final = Foreign("a web page", "download the model file itself (on GitHub: the button 'raw')")

_HEADS: Final[tuple[tuple[bytes, Foreign], ...]] = (
    (b"\x89HDF\r\n\x1a\n", _KERAS),
    (b"\x89PNG\r\n\x1a\n", _PICTURE),
    (b"\xff\xd8\xff", _PICTURE),
    (b"GIF8", _PICTURE),
    (b"\x93NUMPY", _ARRAYS),
    (b"\x03\0\0\0", _KMODEL),
    (b"\0\0\0\x03", _KMODEL),
    (b"LDMK", _KMODEL),
    (b"KMDL", _KMODEL),
    (b"version https://git-lfs", _POINTER),
    (b"<!DOCTYPE", _PAGE),
    (b"<!doctype", _PAGE),
    (b"<html", _PAGE),
    *((bytes([0x80, protocol]), _PICKLE) for protocol in range(2, 6)),
)
_EXTENSIONS: Final[dict[str, Foreign]] = {
    **dict.fromkeys((".pt", ".pth"), _TORCH),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), _KERAS),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"), _PICTURE),
    ".tflite": _TFLITE,
    ".kmodel": _KMODEL,
}


def is_tflite(data: bytes) -> bool:
    """Whether the bytes are a TensorFlow Lite model."""
    return data[4:8] == b"TFL3"


def is_caffe(data: bytes, where: str) -> bool:
    """Whether a file is one of the two of a Caffe model.

    By its extension; bytes without one by what they begin with: the net's name and layers, which ModelProto of ONNX
    (whose first field is a number) does not have there.
    """
    suffix = PurePath(where).suffix.lower()
    if suffix in (".prototxt", ".caffemodel", ".pbtxt"):
        return by_bytes(data) is None
    return suffix == "" and data[:1] == b"\x0a" and b"Convolution" in data[:65536]


def by_bytes(data: bytes) -> Foreign | None:
    """Say what the bytes of a whole file are, None where they may be ONNX."""
    if data[:4] == b"PK\x03\x04":
        return _zip(data)
    return next((kind for head, kind in _HEADS if data.startswith(head)), None)


def by_extension(name: str) -> Foreign | None:
    """Say what a file that could not be read as ONNX was meant to be."""
    return _EXTENSIONS.get(PurePath(name).suffix.lower())


def _zip(data: bytes) -> Foreign:
    """PyTorch, Keras and NumPy write zips; a cut one has no list of its files, but still their names."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error):
        length = int.from_bytes(data[26:28], "little")
        names = [data[30 : 30 + length].decode("utf-8", "replace")]
    parts = {name.rpartition("/")[2] for name in names}
    if "data.pkl" in parts:
        return _TORCH
    if "model.weights.h5" in parts:
        return _KERAS
    return _ARRAYS if all(part.endswith(".npy") for part in parts) else _ZIP

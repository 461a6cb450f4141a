"""The two files of a Caffe model -> one list of layers with their weights, as they run at inference.

The ``.prototxt`` says what the layers are, the ``.caffemodel`` holds their weights, by the layers' names. A caffemodel
repeats the layers of the net it was trained with, so it can do alone where the size of the input is in it or given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import FileFormatError, UnsupportedError
from openkpu.importers import prototxt, wire
from openkpu.importers.caffe_schema import SCHEMA, V1_NAMES
from openkpu.importers.message import Message
from openkpu.importers.read import read_bytes

MAX_LAYERS: Final = 20_000
TEXT_ENDINGS: Final = (".prototxt", ".pbtxt")
DATA_TYPES: Final = frozenset(
    ("Input", "Data", "ImageData", "MemoryData", "AnnotatedData", "HDF5Data", "WindowData", "DummyData", "Python")
)
TRAINING: Final = frozenset(("Accuracy", "Silence", "HDF5Output", "DetectionEvaluate"))
"""Layers without a meaning at inference; so are all whose name ends in Loss."""


@dataclass(eq=False, slots=True)
class Layer:
    """One layer: its text, and its weights."""

    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    body: Message
    blobs: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass(slots=True)
class CaffeFile:
    """A net: its inputs (name -> shape, None where it is not known), and its layers in order."""

    where: str
    name: str
    inputs: dict[str, tuple[int, ...] | None]
    layers: list[Layer]


def read(data: bytes, path: Path | None) -> CaffeFile:
    """Read a model from one of its files; ``path`` is where ``data`` came from (None: a caffemodel in memory)."""
    if path is None:
        return _net(wire.parse(data, SCHEMA, "Net", "bytes in memory"), None, "bytes in memory", "model")
    if path.suffix.lower() in TEXT_ENDINGS:
        text = prototxt.parse(data.decode("utf-8", "replace"), str(path))
        weights = _beside(path, (".caffemodel",))
        if weights is None:
            raise FileFormatError(
                "E172", "the weights are missing: a .prototxt is only the description of the net", where=str(path),
                why=f"there is no {path.stem}.caffemodel in the same folder",
                fix="put the .caffemodel beside it, under the same name",
            )  # fmt: skip
        return _net(text, _weights(read_bytes(weights), weights), str(path), path.stem)
    net = _weights(data, path)
    description = _beside(path, TEXT_ENDINGS)
    if description is None:
        return _net(net, None, str(path), path.stem)
    text = prototxt.parse(read_bytes(description).decode("utf-8", "replace"), str(description))
    return _net(text, net, str(description), path.stem)


def _beside(path: Path, endings: Sequence[str]) -> Path | None:
    """Return the other file of a pair: the same name, also without a second ending (net.deploy.prototxt)."""
    stem = path.stem
    while True:
        for ending in endings:
            found = path.with_name(stem + ending)
            if found.is_file():
                return found
        shorter = stem.rpartition(".")[0]
        if not shorter:
            return None
        stem = shorter


def _weights(data: bytes, path: Path) -> Message:
    return wire.parse(data, SCHEMA, "Net", str(path))


def _net(net: Message, weights: Message | None, where: str, name: str) -> CaffeFile:
    layers = _layers(net, where)
    held = _layers(weights, where) if weights is not None else layers
    if not layers:
        raise FileFormatError("E172", "the file describes no layers", where=where, fix="this is not a Caffe net")
    blobs = {layer.name: layer for layer in held if layer.body.has("blobs")}
    inputs = _named_inputs(net, where)
    kept = []
    for layer in layers:
        if not _at_inference(layer):
            continue
        source = blobs.get(layer.name)
        if source is not None:
            layer.blobs = [_blob(b, f"layer '{layer.name}'") for b in source.body.messages("blobs")]
        if layer.type in DATA_TYPES and not layer.bottoms:
            inputs |= _data_inputs(layer, where)
        else:
            kept.append(layer)
    return CaffeFile(where, name, inputs, kept)


def _layers(net: Message, where: str) -> list[Layer]:
    bodies = net.messages("layer") or net.messages("layers")
    if len(bodies) > MAX_LAYERS:
        raise UnsupportedError(
            "E159", f"the model has {len(bodies)} layers", where=where, why=f"the limit is {MAX_LAYERS}",
            fix="simplify it",
        )  # fmt: skip
    result = []
    for body in bodies:
        kind, name = body.string("type"), body.string("name")
        kind = V1_NAMES.get(kind.upper().replace("_", ""), kind)
        if body.has("layer"):
            raise UnsupportedError(
                "E291", f"layer '{name}' in Caffe's oldest format", where=where, why="layers { layer { ... } }",
                fix="use Caffe's upgrade_net_proto_text and upgrade_net_proto_binary",
            )  # fmt: skip
        body.where = f"layer '{name}', {body.where}"
        result.append(Layer(name, kind, body.strings("bottom"), body.strings("top"), body))
    return result


def _at_inference(layer: Layer) -> bool:
    """Whether a layer belongs to the net in its test phase and does something there."""
    if layer.type in TRAINING or layer.type.endswith("Loss"):
        return False
    rules = layer.body.messages("include")
    if rules and not any(r.string("phase", "TEST") == "TEST" for r in rules):
        return False
    return not any(r.string("phase") == "TEST" and not r.has("stage") for r in layer.body.messages("exclude"))


def _shape(message: Message) -> tuple[int, ...] | None:
    dims = tuple(message.integers("dim"))
    return dims or None


def _named_inputs(net: Message, where: str) -> dict[str, tuple[int, ...] | None]:
    """Return what ``input:`` with ``input_dim:`` or ``input_shape`` declares."""
    names, dims = net.strings("input"), net.integers("input_dim")
    shapes = [_shape(s) for s in net.messages("input_shape")]
    if dims and len(dims) != 4 * len(names):
        raise FileFormatError(
            "E173", f"{len(dims)} input_dim for {len(names)} input(s)", where=where, why="each needs four",
            fix="correct the prototxt",
        )  # fmt: skip
    shapes = shapes or [tuple(dims[i : i + 4]) for i in range(0, len(dims), 4)]
    return {n: shapes[i] if i < len(shapes) else None for i, n in enumerate(names)}


def _data_inputs(layer: Layer, where: str) -> dict[str, tuple[int, ...] | None]:
    """Return the inputs that a layer of data stands for; labels, which nothing needs, have no known shape."""
    shapes = [_shape(s) for s in layer.body.message("input_param").messages("shape")]
    memory = layer.body.message("memory_data_param")
    crop = layer.body.message("transform_param")
    first: tuple[int, ...] | None = None
    if memory.has("channels"):
        first = (1, memory.integer("channels"), memory.integer("height"), memory.integer("width"))
    elif crop.has("crop_size") or crop.has("crop_h"):
        size = crop.integer("crop_size")
        first = (1, 3, crop.integer("crop_h", size), crop.integer("crop_w", size))
    if len(shapes) == 1:
        shapes *= len(layer.tops)
    return {t: shapes[i] if i < len(shapes) else first if i == 0 else None for i, t in enumerate(layer.tops)}


def _blob(blob: Message, where: str) -> NDArray[np.float32]:
    """Return a blob's numbers in its shape; ``FileFormatError`` E174 if they are not all there."""
    parts: list[Any] = [np.asarray(p, np.float32).reshape(-1) for p in blob.all("data") or blob.all("double_data")]
    flat = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if blob.has("shape"):
        shape = tuple(blob.message("shape").integers("dim"))
    elif any(blob.has(k) for k in ("num", "channels", "height", "width")):
        shape = tuple(blob.integer(k) for k in ("num", "channels", "height", "width"))
    else:
        shape = (flat.size,)
    if min(shape, default=0) < 0 or math.prod(shape) != flat.size:
        raise FileFormatError(
            "E174", "weights are damaged", where=where, why=f"{flat.size} numbers for the shape {shape}",
            fix="copy or download the caffemodel again",
        )  # fmt: skip
    return flat.reshape(shape)

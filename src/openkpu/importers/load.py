"""One door for all kinds of model files: says what a file is, and gives it to the importer for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from openkpu.errors import FileFormatError
from openkpu.graph.ir import Graph
from openkpu.importers import foreign
from openkpu.importers.read import read_bytes


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
) -> Graph:
    """Import a model file (ONNX, TensorFlow Lite, Caffe) as a float graph with batch 1.

    A Caffe model is two files of one name, ``.prototxt`` and ``.caffemodel``: give either one. The kind is told from
    the first bytes, Caffe's from the extension too. ``input_shapes``: input name -> shape in the file's own order of
    dimensions, for open sizes. ``outputs``: end the model at these tensors. ``OpenKPUError`` for everything that is
    wrong: E14x to E18x the file, E26x to E29x what the model does, E510 no such file.
    """
    if isinstance(source, bytes):
        data, where, name, path = source, "bytes in memory", "model", None
    else:
        path = Path(source)
        data, where, name = read_bytes(path), str(path), path.stem
    if not data:
        raise FileFormatError("E150", "the file is empty", where=where, fix="export the model again")
    if foreign.is_tflite(data):
        from openkpu.importers import tflite

        return tflite.load(data, where, name, input_shapes=input_shapes, outputs=outputs)
    if foreign.is_caffe(data, where):
        from openkpu.importers import caffe

        return caffe.load(data, path, input_shapes=input_shapes, outputs=outputs)
    from openkpu.importers import onnx

    # ONNX may keep weights in files beside it, so it gets the path
    return onnx.load(source, input_shapes=input_shapes, outputs=outputs)

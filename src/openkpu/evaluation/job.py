"""What a worker does: run a kmodel, and the float model if there is one, on a few pictures, and say what it found.

A ``Job`` and a ``Shard`` are plain data, so that they can go to another process or another computer; so is the answer.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.evaluation.metrics import Detection

TOP: Final = 5
"""Classes that are kept of each picture."""


@dataclass(frozen=True, slots=True)
class FloatModel:
    """The float model as ONNX, and what a pixel means to it: ``value = pixel * scale[c] + offset[c]``."""

    onnx: bytes
    scale: tuple[float, ...]
    offset: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Boxes:
    """How the output becomes boxes: YOLOv2 (see ``analyze.yolo``)."""

    anchors: tuple[float, ...]
    classes: int | None
    threshold: float
    nms: float


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for all pictures. ``boxes`` None: the output is one value a class."""

    kmodel: bytes
    float_model: FloatModel | None
    boxes: Boxes | None


@dataclass(frozen=True, slots=True)
class Shard:
    """A few pictures: their numbers in the data set, and each one's path, or its file's bytes."""

    numbers: tuple[int, ...]
    pictures: tuple[str | bytes, ...]
    names: tuple[str, ...]


Found = list[int] | list[Detection]
"""The best classes, best first, or the boxes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found on one picture, by the KPU and by the float model."""

    number: int
    kpu: Found
    reference: Found | None


class Worker:
    """A job, loaded. One picture at a time."""

    def __init__(self, job: Job) -> None:
        from openkpu.api import load

        self._model = load(job.kmodel)
        self._boxes = job.boxes
        self._float = _Float(job.float_model) if job.float_model is not None else None

    def run(self, shard: Shard) -> list[Answer]:
        """Return the answers for a shard's pictures. Raises what loading a picture raises."""
        from openkpu.float.data import load_picture

        answers = []
        for number, picture, name in zip(shard.numbers, shard.pictures, shard.names, strict=True):
            pixels = load_picture(picture, self._model.inputs[0].shape, name)
            kpu = self._read(self._model.run(pixels)[0])
            reference = None if self._float is None else self._read(self._float.run(pixels))
            answers.append(Answer(number, kpu, reference))
        return answers

    def _read(self, output: NDArray[Any]) -> Found:
        if self._boxes is None:
            flat = output.reshape(-1).astype(np.float64)
            return [int(i) for i in np.argsort(-flat, kind="stable")[:TOP]]
        from openkpu.analyze.yolo import decode

        b = self._boxes
        planes = output.reshape(output.shape[-3:])
        found = decode(planes, b.anchors, classes=b.classes, threshold=b.threshold, nms=b.nms)
        return [(x.label, x.score, x.left, x.top, x.right, x.bottom) for x in found]


class _Float:
    def __init__(self, model: FloatModel) -> None:
        from openkpu.extras import require

        ort = require("onnxruntime", "onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = ort.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
        column = (1, -1, 1, 1)
        self._scale = np.asarray(model.scale, np.float32).reshape(column)
        self._offset = np.asarray(model.offset, np.float32).reshape(column)

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        values = pixels[None] * self._scale + self._offset
        output: NDArray[Any] = self._session.run(None, {self._session.get_inputs()[0].name: values})[0]
        return output


@functools.lru_cache(maxsize=2)
def worker(job: Job) -> Worker:
    """Return the worker of a job; a process makes it once."""
    return Worker(job)


def run_shard(job: Job, shard: Shard) -> list[Answer]:
    """Load the job if this process has not done so, and run a shard."""
    return worker(job).run(shard)


def split(paths: Sequence[str], numbers: Sequence[int], size: int) -> list[Shard]:
    """Cut the pictures ``numbers`` of a data set into shards of at most ``size``."""
    return [
        Shard(tuple(part), tuple(paths[i] for i in part), tuple(paths[i] for i in part))
        for part in (numbers[k : k + size] for k in range(0, len(numbers), size))
    ]

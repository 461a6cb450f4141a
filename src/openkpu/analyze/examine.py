"""``examine``: everything that a report tells about a model and its kmodel, gathered once."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.analyze.advice import advice
from openkpu.analyze.compare import Comparison, compare
from openkpu.analyze.inspect import Inspection, inspect, summarize
from openkpu.analyze.match import graphs_of, match
from openkpu.analyze.predict import Ranking, is_vector, rank
from openkpu.analyze.profile import Profile, profile
from openkpu.analyze.study import LayerStudy, Study
from openkpu.analyze.yolo import Box, decode
from openkpu.api import Model
from openkpu.errors import InputError
from openkpu.graph.ir import Graph, Node

STUDIED: Final = 8
"""Pictures on which each layer is studied on its own; the comparison uses all."""
SHOWN: Final = 12
"""Pictures that the report shows."""
LEAST_SIDE: Final = 160
"""Smaller pictures are enlarged to this, pixel by pixel, so that they can be looked at."""


@dataclass(frozen=True, slots=True)
class PictureResult:
    """One picture with what both models say: rankings of a vector, or boxes, or neither.

    ``jpeg`` is the picture as the model sees it, ``size`` its (width, height).
    """

    name: str
    jpeg: bytes
    size: tuple[int, int]
    kpu: Ranking | None
    reference: Ranking | None
    kpu_boxes: tuple[Box, ...]
    reference_boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Examination:
    """What a report is made of. ``layers`` is empty where the file is not what this OpenKPU makes of the model."""

    inspection: Inspection
    profile: Profile
    comparison: Comparison
    layers: tuple[LayerStudy, ...]
    pictures: tuple[PictureResult, ...]
    labels: tuple[str, ...] | None
    advice: tuple[str, ...]


def examine(
    model: str | os.PathLike[str],
    kmodel: str | os.PathLike[str],
    data: Any,
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    input_range: tuple[float, float] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    anchors: Sequence[float] | None = None,
    threshold: float = 0.5,
    nms: float = 0.3,
    samples: int | None = None,
    kpu_mhz: float = 400,
    cpu_mhz: float = 400,
    progress: Callable[[str, int, int], None] | None = None,
) -> Examination:
    """Compare, profile and study a kmodel and the float ``model`` it was made from, on pictures ``data``.

    Options are those of ``compare``; ``labels`` name the classes; ``anchors``, ``threshold`` and ``nms`` are those of
    ``yolo.decode``. Errors are those of ``compare`` and ``profile``; ``InputError`` E466 for a model without a picture.
    """
    from openkpu.compiler import pixels
    from openkpu.float.data import load_samples

    found = inspect(kmodel)
    if found.model is None or len(found.model.inputs[0].shape) != 3:
        raise InputError(
            "E466",
            "a report needs a kmodel that takes a picture",
            where=str(kmodel),
            why=found.kind.title if found.model is None else f"its input is {found.model.inputs[0].shape}",
            fix="kpu inspect and kpu profile work for every kmodel",
        )
    options: dict[str, Any] = {"mean": mean, "std": std, "input_range": input_range}
    shapes: dict[str, Any] = {"input_shapes": input_shapes, "outputs": outputs}
    comparison = compare(model, kmodel, data, samples=samples, progress=progress, **options, **shapes)
    float_graph, graph = graphs_of(model, found.model.steps, target=f"v{found.model.version}", **shapes)
    params = pixels(float_graph, mean, std, input_range)
    pictures = [
        (s.name, s.array)
        for s in load_samples(data, graph.inputs[0].shape[1:], limit=samples)
        if s.array.dtype == np.uint8
    ]
    nodes = match(graph, found.model.steps)
    found = _named(found, nodes or {})
    assert found.model is not None
    layers = []
    if nodes and pictures:
        chosen = _spread(pictures, STUDIED)
        layers = Study(graph, found.model.program, nodes, params).run([a for _, a in chosen], progress)
    times = profile(found.model, kpu_mhz=kpu_mhz, cpu_mhz=cpu_mhz)
    shown = _Shown(graph, found, params, labels, anchors, threshold, nms)
    return Examination(
        found,
        times,
        comparison,
        tuple(layers),
        tuple(shown.look(name, array) for name, array in _spread(pictures, SHOWN)),
        None if labels is None else tuple(labels),
        (*_accuracy_advice(comparison, layers), *advice(times)),
    )


def _named(found: Inspection, nodes: Mapping[int, Node]) -> Inspection:
    """Give the steps of KPU layers the names of the source model's layers, which a file does not hold."""
    assert found.model is not None
    names = {i: n.source[-1] if n.source else n.output.name for i, n in nodes.items()}
    program = found.model.program
    steps = tuple(replace(s, name=names[i]) if i in names else s for i, s in enumerate(program.steps))
    model = Model(
        replace(program, steps=steps), kind=found.kind, file_bytes=found.file_bytes, notes=tuple(found.model.notes)
    )
    return replace(found, model=model, steps=summarize(model.program))


def _spread(items: list[Any], n: int) -> list[Any]:
    return items if len(items) <= n else [items[i * len(items) // n] for i in range(n)]


class _Shown:
    """Runs both models on one picture and reads what they say."""

    def __init__(
        self,
        graph: Graph,
        found: Inspection,
        params: Any,
        labels: Sequence[str] | None,
        anchors: Sequence[float] | None,
        threshold: float,
        nms: float,
    ) -> None:
        from openkpu.float.session import FloatSession

        assert found.model is not None
        self._graph, self._chip, self._params, self._labels = graph, found.model, params, labels
        self._yolo = None if anchors is None else (anchors, threshold, nms)
        self._session = FloatSession(graph)

    def look(self, name: str, array: NDArray[np.uint8]) -> PictureResult:
        source = self._graph.inputs[0]
        values = self._session.run({source.name: self._params.dequantize(array.reshape(source.shape))})
        chip = self._chip.run(array)[0]
        reference = values[self._graph.outputs[0].name].reshape(chip.shape)
        jpeg, size = _jpeg(array)
        title = Path(name).name
        if self._yolo is not None:
            boxes = [self._boxes(output) for output in (chip, reference)]
            return PictureResult(title, jpeg, size, None, None, *boxes)
        if not is_vector(chip):
            return PictureResult(title, jpeg, size, None, None, (), ())
        labels = self._labels if self._labels is not None and len(self._labels) == chip.size else None
        return PictureResult(title, jpeg, size, rank(chip, labels, 3), rank(reference, labels, 3), (), ())

    def _boxes(self, output: NDArray[Any]) -> tuple[Box, ...]:
        assert self._yolo is not None
        anchors, threshold, nms = self._yolo
        return tuple(decode(output.reshape(output.shape[-3:]), anchors, threshold=threshold, nms=nms))


def _jpeg(array: NDArray[np.uint8]) -> tuple[bytes, tuple[int, int]]:
    """The picture (c, h, w) as a JPEG file, small ones enlarged."""
    from PIL import Image

    image = Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))
    factor = -(-LEAST_SIDE // min(image.size)) if min(image.size) < LEAST_SIDE else 1
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue(), image.size


def _accuracy_advice(comparison: Comparison, layers: Sequence[LayerStudy]) -> list[str]:
    """Say what costs accuracy, in words."""
    found = list(comparison.warnings)
    weak = sorted((layer for layer in layers if layer.alone_db < 25), key=lambda layer: layer.alone_db)[:3]
    for layer in weak:
        found.append(
            f"{layer.layer} alone reaches only {layer.alone_db:.1f} dB: its values or weights span more than 8 bits "
            "can hold. More typical calibration pictures, or training with smaller weights there, help most."
        )
    for layer in layers:
        if layer.at_limits[1] > 0.01:
            found.append(
                f"{layer.layer} is at its upper limit for {100 * layer.at_limits[1]:.1f} % of its values: the "
                "calibration pictures did not show values as large as these."
            )
    for layer in layers:
        if layer.curve is not None and layer.curve.worst > 6:
            found.append(
                f"The 16 segments of {layer.layer} miss its function by up to {layer.curve.worst:.0f} of 255 counts; "
                "a function with fewer bends fits better."
            )
    return found[:6]

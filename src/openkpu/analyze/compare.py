"""A kmodel against the float model it was made from, on the same pictures: layer by layer and at the outputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openkpu.analyze.accuracy_advice import accuracy_advice
from openkpu.analyze.fit import ChannelFit, Direct, add_result
from openkpu.analyze.match import graphs_of, match
from openkpu.analyze.study import STUDIED, Study
from openkpu.api import Model, load
from openkpu.errors import InputError
from openkpu.kmodel.program import Step

if TYPE_CHECKING:
    from openkpu.graph.ir import Graph, Node
    from openkpu.quantize.params import QParams

FIT_NOTE = (
    "The file does not hold the scale of 8-bit values: for layers, the scale and offset of each channel are fitted "
    "(least squares). Float outputs are compared as they are."
)
UNMATCHED_NOTE = (
    "The KPU layers of the file are not those that this OpenKPU makes of the model (another "
    "compiler, version or option, or another model), so only the outputs are compared."
)
PREPROCESSING_WARNING = (
    "The outputs have next to nothing in common. Most likely mean, std or input range are not those that the kmodel "
    "was compiled with (or it was made from another model): give the same as for compile."
)
UNLIKE_DB = 3.0
"""Below this SNR the error is as large as the values: 8 bits alone do not do that."""
DOUBTFUL_DB = 20.0
"""Above this SNR a different best class is a near tie, not a sign of other pictures."""


@dataclass(frozen=True, slots=True)
class LayerComparison:
    """One KPU layer. ``step`` is its index in the kmodel, ``shape`` (channels, height, width) or (n,).

    ``snr_db`` is accumulated: what arrives there, with all that was lost before; ``alone_db`` what the layer gives on
    the float model's own values (with ``explain``).
    """

    step: int
    layer: str
    shape: tuple[int, ...]
    snr_db: float
    cosine: float
    alone_db: float | None = None


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """One output. ``top1`` counts pictures whose largest value is at the same place (None where it is no vector)."""

    name: str
    shape: tuple[int, ...]
    fitted: bool
    snr_db: float
    cosine: float
    max_error: float | None
    top1: int | None

    @property
    def unlike(self) -> bool:
        """Whether it looks as if the two models had seen different pictures.

        An SNR below 3 dB; or the best class never agrees and no good SNR speaks against it (a fitted one cannot).
        """
        return self.snr_db < UNLIKE_DB or (self.top1 == 0 and (self.fitted or self.snr_db < DOUBTFUL_DB))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer of ``compare``. ``layers`` is empty where the file's layers could not be recognised.

    ``mean`` and ``std`` are what the pictures were normalised with, in pixels 0..255, one number a channel; None where
    the input is no picture.
    """

    model: str
    kmodel: str
    pictures: int
    layers: tuple[LayerComparison, ...]
    outputs: tuple[OutputComparison, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    advice: tuple[str, ...] = ()
    """With ``explain``: what costs accuracy, and what helps."""

    def worst(self, n: int = 3) -> tuple[LayerComparison, ...]:
        """Return the layers with the lowest SNR, worst first."""
        return tuple(sorted(self.layers, key=lambda layer: layer.snr_db)[:n])

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``--json``; an infinite SNR (exact) becomes null there."""
        return {**asdict(self), "worst": [layer.layer for layer in self.worst()]}


def compare(
    model: str | os.PathLike[str] | bytes,
    kmodel: str | os.PathLike[str] | bytes | Model,
    data: Any,
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    input_range: tuple[float, float] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
    samples: int | None = None,
    threads: int = 1,
    explain: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Run the float model and the kmodel on the same pictures and measure how far they are apart.

    ``data`` is what ``compile`` takes as calibration (other pictures tell more); ``mean`` to ``outputs`` are as in
    ``compile`` and must be what the kmodel was compiled with. SNR is 10 log10(sum ref^2 / sum err^2) over all
    pictures. ``explain``: study each layer on its own too (``LayerComparison.alone_db``, ``Comparison.advice``), on up
    to eight of the pictures. ``InputError`` E431 when inputs or outputs do not belong together, E432 when there are no
    pictures.
    """
    from openkpu.compiler import pixels
    from openkpu.float.data import load_samples
    from openkpu.float.session import FloatSession

    chip = kmodel if isinstance(kmodel, Model) else load(kmodel)
    float_graph, graph = graphs_of(
        model, chip.steps, target=f"v{chip.version}", input_shapes=input_shapes, outputs=outputs
    )
    source = graph.inputs[0]
    _same_form(graph, chip)
    params = pixels(float_graph, mean, std, input_range)
    loaded = load_samples(data, source.shape[1:], limit=samples)
    if not loaded:
        raise InputError("E432", "no pictures to compare on", where=str(data), fix="give a folder of pictures")
    nodes = match(graph, chip.steps)
    session = FloatSession(graph, [n.output for n in (nodes or {}).values()], threads=threads)
    fits = {i: ChannelFit(n.output.shape[1]) for i, n in (nodes or {}).items()}
    ends = [
        _Output(t.name, o.shape, o.dtype.numpy == np.uint8) for t, o in zip(graph.outputs, chip.outputs, strict=True)
    ]
    for count, sample in enumerate(loaded, 1):
        array = np.asarray(sample.array)
        values = session.run({source.name: _real(array, source.shape, params)})

        def see(index: int, step: Step, array: NDArray[Any], values: dict[str, NDArray[Any]] = values) -> None:
            if index in fits and nodes is not None:
                add_result(fits[index], nodes[index], array, values)

        chip_outputs = chip.run(_raw(array, params), trace=see if fits else None, threads=threads)
        for end, result in zip(ends, chip_outputs, strict=True):
            end.add(result, values[end.name])
        if progress is not None:
            progress("compare", count, len(loaded))
    layers = tuple(_layer(i, n, fits[i]) for i, n in (nodes or {}).items())
    advice: tuple[str, ...] = ()
    if explain and nodes and params is not None:
        pictures = [_raw(np.asarray(s.array), params).reshape(source.shape[1:]) for s in loaded]
        chosen = pictures[:: max(1, len(pictures) // STUDIED)][:STUDIED]
        studies = Study(graph, chip.program, nodes, params).run(chosen, progress)
        alone = {s.step: s.alone_db for s in studies}
        layers = tuple(replace(v, alone_db=alone.get(v.step)) for v in layers)
        advice = (*accuracy_advice(studies),)
    notes = (FIT_NOTE,) if nodes is not None else (UNMATCHED_NOTE,)
    results = tuple(end.result() for end in ends)
    return Comparison(
        _title(model),
        "model" if isinstance(kmodel, Model) else _title(kmodel),
        len(loaded),
        layers,
        results,
        notes,
        (PREPROCESSING_WARNING,) if any(r.unlike for r in results) else (),
        None if params is None else tuple(float(v) for v in params.zero_point - params.offset / params.scale),
        None if params is None else tuple(float(v) for v in 1 / params.scale),
        advice,
    )


class _Output:
    """Sums of one output over the pictures."""

    def __init__(self, name: str, shape: tuple[int, ...], is_bytes: bool) -> None:
        self.name, self.shape = name, shape
        self.fit = ChannelFit(shape[0]) if is_bytes else Direct()
        self.max_error = 0.0
        self.vector = sum(d > 1 for d in shape) == 1
        self.top1 = 0

    def add(self, value: NDArray[Any], reference: NDArray[Any]) -> None:
        reference = reference.reshape(value.shape)
        self.fit.add(value, reference)
        self.top1 += int(value.argmax() == reference.argmax())
        self.max_error = max(self.max_error, float(np.abs(value - reference).max()))

    def result(self) -> OutputComparison:
        like = self.fit.result()
        fitted = isinstance(self.fit, ChannelFit)
        return OutputComparison(
            self.name,
            self.shape,
            fitted,
            like.snr_db,
            like.cosine,
            None if fitted else self.max_error,
            self.top1 if self.vector else None,
        )


def _layer(index: int, node: Node, fit: ChannelFit) -> LayerComparison:
    like = fit.result()
    name = node.source[-1] if node.source else node.output.name
    return LayerComparison(index, name, node.output.shape[1:], like.snr_db, like.cosine)


def _same_form(graph: Graph, chip: Model) -> None:
    """Refuse files whose inputs or outputs cannot belong to the model."""
    wanted = (graph.inputs[0].shape[1:], *(int(np.prod(t.shape)) for t in graph.outputs))
    given = (chip.inputs[0].shape, *(o.elements for o in chip.outputs))
    if wanted != given:

        def form(values: tuple[Any, ...]) -> str:
            return f"input {values[0]}, values in the outputs {list(values[1:])}"

        raise InputError(
            "E431",
            "the kmodel does not belong to the model",
            where="inputs and outputs",
            why=f"the model has {form(wanted)}; the kmodel has {form(given)}",
            fix="compare a kmodel with the model it was made from, with the same input shapes and outputs",
        )


def _real(array: NDArray[Any], shape: tuple[int, ...], params: QParams | None) -> NDArray[np.float32]:
    """Turn a sample into the float model's input."""
    if params is not None and array.dtype == np.uint8:
        return params.dequantize(array.reshape(shape))
    return np.asarray(array, np.float32).reshape(shape)


def _raw(array: NDArray[Any], params: QParams | None) -> NDArray[Any]:
    """Turn a sample into what the kmodel takes."""
    if params is None or array.dtype == np.uint8:
        return array
    return np.asarray(params.quantize(array[None])[0])


def _title(source: object) -> str:
    return "bytes in memory" if isinstance(source, bytes) else str(source)

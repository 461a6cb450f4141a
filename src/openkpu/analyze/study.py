"""Each KPU layer under the glass: its error alone and with all before it, its values, its activation table.

"Alone" feeds a layer the float model's own values, rounded to the bytes that its input stands for, so that only the
layer itself can lose anything; "accumulated" is what arrives in the running kmodel. The scale of a map is not in the
file: it is fitted, channel by channel, as in ``fit``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.analyze.curve import Curve, trace_curve
from openkpu.analyze.fit import ChannelFit, add_result
from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.kmodel.program import KpuConv, Program, Step
from openkpu.lower.export import pre_name
from openkpu.lower.ops import POOLS
from openkpu.quantize.execute import Scratch
from openkpu.runtime.memories import get
from openkpu.runtime.session import Session

if TYPE_CHECKING:
    from openkpu.quantize.params import QParams

STUDIED: Final = 8
"""Pictures on which each layer is studied on its own; a comparison uses all."""
BINS: Final = 64
"""Bars of a histogram: four byte values each."""


@dataclass(frozen=True, slots=True)
class LayerStudy:
    """One KPU layer. SNRs in dB; ``histogram`` counts output bytes in 64 bins; ``at_limits``: shares of 0 and 255."""

    step: int
    layer: str
    shape: tuple[int, ...]
    accumulated_db: float
    alone_db: float
    histogram: tuple[int, ...]
    at_limits: tuple[float, float]
    curve: Curve | None


class Study:
    """Collects what a set of pictures shows of every layer; ``nodes`` is what ``match`` found."""

    def __init__(self, graph: Graph, program: Program, nodes: dict[int, Node], params: QParams | None) -> None:
        self._source = graph.inputs[0]
        self._program, self._nodes, self._params = program, nodes, params
        watch = [t for n in nodes.values() for t in (n.output, n.inputs[0])]
        # the value of a vector's layer is one number a picture: nothing to draw a curve from
        self._curved = {i for i, n in nodes.items() if n.attrs["fn"] is not None and not n.attrs["vector"]}
        pre = [Tensor(pre_name(nodes[i].output), _pre_shape(nodes[i])) for i in sorted(self._curved)]
        self._session = FloatSession(graph, list({t.name: t for t in [*watch, *pre]}.values()))
        self._inputs = {i: ChannelFit(_channels(s)) for i, s in self._layers()}
        self._outputs = {i: ChannelFit(s.layer.output_shape[0]) for i, s in self._layers()}
        self._histograms = {i: np.zeros(256, np.int64) for i in nodes}
        self._chip = Session(program)

    def _layers(self) -> list[tuple[int, KpuConv]]:
        return [(i, s) for i in self._nodes if isinstance(s := self._program.steps[i], KpuConv)]

    def run(
        self, pictures: Sequence[NDArray[np.uint8]], progress: Callable[[str, int, int], None] | None = None
    ) -> list[LayerStudy]:
        """Study the layers on uint8 pictures (c, h, w)."""
        values = []
        for count, picture in enumerate(pictures, 1):
            values.append(self._session.run({self._source.name: self._real(picture)}))
            self._accumulate(picture, values[-1])
            if progress is not None:
                progress("study", count, 2 * len(pictures))
        alone = {i: ChannelFit(s.layer.output_shape[0]) for i, s in self._layers()}
        curves: dict[int, Curve | None] = {}
        scratch = Scratch()
        for count, seen in enumerate(values, len(pictures) + 1):
            for i, step in self._layers():
                node = self._nodes[i]
                bytes_in = self._bytes(i, node, step, seen)
                out = scratch.run(step.layer, bytes_in[None])[0]
                add_result(alone[i], node, out, seen)
                if i in self._curved and i not in curves:
                    pre = seen[pre_name(node.output)][0]
                    curves[i] = trace_curve(node.attrs["fn"], step.layer, bytes_in, pre, self._outputs[i])
            if progress is not None:
                progress("study", count, 2 * len(pictures))
        return [self._result(i, alone[i], curves.get(i)) for i, _ in self._layers()]

    def _real(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert self._params is not None
        return self._params.dequantize(picture.reshape(self._source.shape))

    def _accumulate(self, picture: NDArray[np.uint8], values: dict[str, NDArray[Any]]) -> None:
        session = self._chip

        def see(index: int, step: Step, array: NDArray[Any]) -> None:
            node = self._nodes.get(index)
            if node is None or not isinstance(step, KpuConv):
                return
            # a layer's output never lies on its input, so the input is still there
            _add_input(self._inputs[index], node, get(session, step.input), values)
            add_result(self._outputs[index], node, array, values)
            shown = array[:, :1, :1] if node.attrs["vector"] else array
            self._histograms[index] += np.bincount(shown.reshape(-1), minlength=256)

        session.run(picture, trace=see)

    def _bytes(self, index: int, node: Node, step: KpuConv, values: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
        """The layer's input as bytes, from the float model's values."""
        scale, offset = self._inputs[index].parameters()
        real = _float_input(node, values)
        safe = np.where(scale == 0, 1, scale)[:, None, None]
        rounded = np.clip(np.rint((real - offset[:, None, None]) / safe), 0, 255).astype(np.uint8)
        if not node.attrs["vector"]:
            return rounded
        spread = np.zeros(step.layer.input_shape, np.uint8)
        spread[:, :1, :1] = rounded
        return spread

    def _result(self, index: int, alone: ChannelFit, curve: Curve | None) -> LayerStudy:
        node, counts = self._nodes[index], self._histograms[index]
        total = max(int(counts.sum()), 1)
        return LayerStudy(
            index,
            node.source[-1] if node.source else node.output.name,
            node.output.shape[1:],
            self._outputs[index].result().snr_db,
            alone.result().snr_db,
            tuple(int(v) for v in counts.reshape(BINS, -1).sum(1)),
            (float(counts[0] / total), float(counts[255] / total)),
            curve,
        )


def _channels(step: KpuConv) -> int:
    return step.layer.input_shape[0]


def _pre_shape(node: Node) -> tuple[int, ...]:
    """Shape of a layer's values before its function, as the float reference shows them: selected, but not pooled."""
    _, stride, window = POOLS[node.attrs["pool"]]
    selects = window == 1 and stride > 1
    return node.output.shape if selects else (1, node.output.shape[1], *node.inputs[0].shape[2:])


def _float_input(node: Node, values: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The float values (c, h, w) that a layer reads; a vector is (c, 1, 1)."""
    value = values[node.inputs[0].name]
    if node.attrs["vector"]:
        first = node.attrs["offset"]
        return value[0, first : first + node.inputs[1].shape[1], None, None]
    return np.asarray(value[0])


def _add_input(fit: ChannelFit, node: Node, array: NDArray[Any], values: dict[str, NDArray[Any]]) -> None:
    real = _float_input(node, values)
    fit.add(array[:, : real.shape[1], : real.shape[2]], real)

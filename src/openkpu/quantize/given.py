"""Quantisation that a model brings along: the numbers of its file are taken as they are, and no pictures are needed.

The file says for every tensor what its 8 bits stand for. What lies between is worked out: copies have the quantisation
of what they copy, parts of a tensor that of the whole. Weights are integers already; they are found again as the grid
that each output channel's float weights lie on (``weights.on_grid``), which no rewrite of the graph hides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
from openkpu.graph.elementwise import pieces
from openkpu.graph.ir import Graph, Node, Scale, Tensor
from openkpu.quantize import domains, weights
from openkpu.quantize.activation_table import Met
from openkpu.quantize.layer import LayerSpec, QuantizedLayer, effective_weights, layer_spec, make_layer
from openkpu.quantize.nodes import make_table
from openkpu.quantize.params import QParams
from openkpu.quantize.result import GIVEN, Quantized, Way
from openkpu.quantize.tensors import inherited, with_zero_point

_PART: Final = re.compile(r"(\.part\d+|\.\d+)+$")
"""How lowering and passes call a part of a tensor."""


def quantize(lowered: Graph, source: Graph, input_params: QParams | None) -> Quantized:
    """Quantise a lowered graph with the ``scales`` of the graph that it was made from.

    ``UnsupportedError`` E293 names tensors whose range the file does not tell.
    """
    return _Given(lowered, source).run(input_params)


def input_params(source: Graph) -> QParams | None:
    """Return what pixel values mean to a model that came quantised; None where its file does not say."""
    t = source.inputs[0]
    scale = source.scales.get(t.name)
    return None if scale is None else QParams.uniform(scale.scale, scale.zero_point, t.shape[1])


class _Given:
    def __init__(self, graph: Graph, source: Graph) -> None:
        self.graph = graph
        self.scales: Mapping[str, Scale] = _spread(source)
        self.users = graph.users()
        self.before = {n.output.name: n.inputs[0].name for n in source.nodes if n.op == "Elementwise"}
        self.missing: list[str] = []
        self.copies: dict[int, QParams] = {}
        """Of maps that were copied to have another quantisation."""

    def run(self, first: QParams | None) -> Quantized:
        """Assign quantisations in order, then make the layers."""
        result = Quantized(Way(GIVEN, 0.0))
        self._keep_borders()
        quantized = domains.quantized(self.graph, self.users)
        for t in self.graph.inputs:
            if id(t) in quantized:
                params = first or self._given(t)
                if params is None:
                    self.missing.append(f"input '{t.name}'")
                else:
                    result.params[id(t)] = params
        joined = self._parts_of_concats()
        for node in self.graph.nodes:
            t = node.output
            if id(t) in quantized and not self.missing:
                found = self._params(node, result.params, joined)
                if found is not None:
                    result.params[id(t)] = found
                elif not domains.inherits(node):
                    self.missing.append(node.label)
        self._refuse()
        for node in self.graph.nodes:
            if node.op == "KpuConv":
                result.layers[id(node)] = self._layer(node, result.params)
            elif node.op == "CpuTable":
                result.tables[id(node)] = self._table(node, result.params)
        self._refuse()
        return result

    def _refuse(self) -> None:
        if self.missing:
            raise UnsupportedError(
                "E293",
                "the model is quantised, but not all of it: ranges are missing in the file",
                where=", ".join(self.missing[:8]),
                why="these tensors have no scale and zero point there",
                fix="give calibration pictures (--calibration): the model is then quantised anew, from its own weights",
            )

    def _given(self, t: Tensor) -> QParams | None:
        scale = self.scales.get(t.name) or self.scales.get(_PART.sub("", t.name))
        if scale is None:
            return None
        return QParams.uniform(scale.scale, scale.zero_point, t.shape[1] if len(t.shape) > 1 else 1)

    def _keep_borders(self) -> None:
        """Give concatenations that a padded convolution reads one zero point: its padding is one byte for all channels.

        Parts with another one are copied by a KPU layer that rounds to the new one, as the file does. The CPU puts
        floats together in place of bytes.
        """
        for node in list(self.graph.nodes):
            if not domains.stands_apart(node) or not domains.reaches_padding(node.output, self.users):
                continue
            own = [self._zero_points(t) for t in node.inputs]
            whole = self._given(node.output)
            wanted = whole.zero_point if whole is not None else min(own[0], default=None)
            if wanted is None or all(zps <= {wanted} for zps in own):
                continue
            if node.op == "TensorConcat":
                node.attrs["u8"] = whole is None
                continue
            for i, t in enumerate(node.inputs):
                if not own[i] <= {wanted} and not (whole is not None and self._is_alone(t)):
                    given = whole or self._given(t)
                    if given is not None:
                        node.inputs[i] = self._copy(node, t, with_zero_point(given, wanted))
        self.users = self.graph.users()

    def _zero_points(self, t: Tensor) -> set[int]:
        given = [self._given(o) for o in domains.origins(t)]
        return {p.zero_point for p in given if p is not None}

    def _is_alone(self, t: Tensor) -> bool:
        """Whether a tensor is made by a layer as a part of another one only."""
        one = len(self.users.get(id(t), [])) == 1 and not self.graph.is_output(t)
        return one and t.producer is not None and t.producer.op == "KpuConv"

    def _copy(self, concat: Node, t: Tensor, params: QParams) -> Tensor:
        """Put a layer before a concatenation that writes a map in another quantisation."""
        c = t.shape[1]
        w = self.graph.constant(f"{t.name}.requantised.weights", np.ones((c, 1, 1, 1), np.float32))
        b = self.graph.constant(f"{t.name}.requantised.bias", np.zeros(c, np.float32))
        out = Tensor(self.graph.fresh(f"{t.name}.requantised"), t.shape)
        attrs = {"depthwise": c > 1, "fn": None, "pool": "none", "vector": False}
        node = Node("KpuConv", [t, w, b], [out], attrs, concat.source)
        self.graph.nodes.insert(self.graph.nodes.index(concat), node)
        n = len(params.scale)
        self.copies[id(out)] = params if n == c else QParams.uniform(float(params.scale[0]), params.zero_point, c)
        return out

    def _parts_of_concats(self) -> dict[int, Tensor]:
        """Return tensors that exist only as a part of another one: they get its quantisation at once."""
        found = {}
        for node in self.graph.nodes:
            if node.op == "KpuConcat" and self._given(node.output) is not None:
                for t in node.inputs:
                    if self._is_alone(t) and id(t) not in self.copies:
                        found[id(t)] = node.output
        return found

    def _params(self, node: Node, params: dict[int, QParams], joined: dict[int, Tensor]) -> QParams | None:
        t = node.output
        if id(t) in self.copies:
            return self.copies[id(t)]
        if domains.inherits(node):
            return inherited(node, params)
        if id(t) in joined:
            whole = self._given(joined[id(t)])
            return None if whole is None else QParams.uniform(float(whole.scale[0]), whole.zero_point, t.shape[1])
        return self._given(t) or (_copied(node, params) if node.op == "KpuConv" else None)

    def _layer(self, node: Node, params: dict[int, QParams]) -> QuantizedLayer:
        spec, qin = layer_spec(node, params)
        qout = params[id(node.output)]
        wq, ws, zero = _integers(spec, qin)
        return make_layer(spec, qin, qout, met=Met(self._span(node, qout)), wq=wq, ws=ws, weight_zero=zero)

    def _span(self, node: Node, qout: QParams) -> tuple[float, float]:
        """Return the range of a layer's values before its function."""
        fn = node.attrs["fn"]
        scale = self.scales.get(self.before.get(node.output.name, "")) if fn is not None else None
        if scale is not None:
            return -scale.zero_point * scale.scale, (255 - scale.zero_point) * scale.scale
        if fn is not None and pieces(fn) is None:
            self.missing.append(f"{node.label} before its function")
        return float(qout.bias.min()), float((qout.bias + 255 * qout.scale).max())

    def _table(self, node: Node, params: dict[int, QParams]) -> bytes:
        pin, pout = params[id(node.inputs[0])], params[id(node.output)]
        if not pin.is_uniform:
            self.missing.append(f"{node.label}, whose input has several scales,")
        return make_table(node.attrs["fn"], pin, pout)


def _spread(source: Graph) -> dict[str, Scale]:
    """Return the graph's scales, and those of tensors that hold the same numbers in another shape or order."""
    scales = dict(source.scales)
    same = [(n.inputs[0].name, n.output.name) for n in source.nodes if n.op in ("Reshape", "Transpose", "MaxPool")]
    for before, after in same:
        if before in scales:
            scales.setdefault(after, scales[before])
    for before, after in reversed(same):
        if after in scales:
            scales.setdefault(before, scales[after])
    return scales


def _copied(node: Node, params: dict[int, QParams]) -> QParams | None:
    """Return the quantisation of a layer that only copies channels (moves, selects, adds empty ones); else None."""
    w, b = np.asarray(node.inputs[1].data), np.asarray(node.inputs[2].data)
    flat = w.reshape(len(w), -1)
    single = ((flat != 0).sum(1) <= 1).all() and np.isin(flat, (0, 1)).all()
    if node.attrs["fn"] is not None or not single or b.any() or node.attrs["vector"]:
        return None
    source = params[id(node.inputs[0])]
    if node.attrs["depthwise"]:
        return source
    channel = np.abs(w).sum((2, 3)).argmax(1)
    return QParams(source.scale[channel], source.zero_point, source.offset[channel])


def _integers(spec: LayerSpec, qin: QParams) -> tuple[NDArray[np.int16], NDArray[np.float64], int]:
    """Return the weights as integers with the scale of each row, and the zero point that brings them to 0..255."""
    we = effective_weights(spec, qin)
    rows: NDArray[Any] = we.reshape(len(we), -1)
    step = weights.on_grid(rows)
    exact = ~np.isnan(step)
    q = np.rint(rows / np.where(exact, step, 1.0)[:, None])
    zero = weights.ZERO_POINT
    if exact.any():
        low, high = q[exact].min(), q[exact].max()
        if (low < -128 or high > 127) and high - low <= 255 and low <= 0 <= high:
            zero = int(-low) if -low > 128 else int(255 - high)
    exact &= (q.min(1) >= -zero) & (q.max(1) <= 255 - zero)
    if not exact.all():
        rest = ~exact
        scale = weights.scales(rows[rest])
        if zero != weights.ZERO_POINT:  # less room on one side
            room = min(zero, 255 - zero)
            scale = np.abs(rows[rest]).max(1) / room
            scale = np.where(scale > 0, scale, 1.0)
        step[rest] = scale
        q[rest] = np.clip(np.rint(rows[rest] / scale[:, None]), -zero, 255 - zero)
    return q.reshape(we.shape).astype(np.int16), step, zero

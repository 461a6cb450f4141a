"""Which real numbers the uint8 values of each tensor stand for."""

from __future__ import annotations

from typing import Final

import numpy as np

from openkpu.errors import UnsupportedError
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.lower.ops import MOVEMENT
from openkpu.quantize import domains, ranges
from openkpu.quantize.moved import moved
from openkpu.quantize.nodes import saturates
from openkpu.quantize.params import QParams, from_range
from openkpu.quantize.result import Way
from openkpu.quantize.statistics import Statistics

MARGIN: Final = 1.25
"""Room for a channel of its own scale over what calibration saw: few pictures underestimate a single channel."""


class Assignment:
    """Assigns the quantisation of the tensors of one graph."""

    def __init__(self, graph: Graph, quantized: set[int], input_params: QParams | None) -> None:
        self.graph = graph
        self.quantized = quantized
        self.input_params = input_params
        self.users = graph.users()

    def assign(self, stats: dict[int, Statistics], way: Way) -> dict[int, QParams]:
        """Return the quantisation of every tensor, by its id, from the statistics of those that have their own."""
        result: dict[int, QParams] = {}
        for t in self.graph.inputs:
            if id(t) in self.quantized:
                low, high = stats[id(t)].extremes
                result[id(t)] = self.input_params or from_range(low, high, t.shape[1])
        for node in self.graph.nodes:
            t = node.output
            if id(t) not in self.quantized or domains.inherits(node):
                continue
            s = stats[id(t)]
            channels = t.shape[1] if len(t.shape) > 1 else 1
            low, high = ranges.METHODS[way.method](s)
            params = from_range(low, high, channels)
            if node.op == "KpuConv" and way.spread > 0 and saturates(node.attrs["fn"]):
                params = self._spread(params, s, self._spread_of(t, way))
            result[id(t)] = params
        self._share_zero_points(result)
        self._share_scales(result)
        self._share_tiles(result)
        for node in self.graph.nodes:
            if domains.inherits(node) and id(node.output) in self.quantized:
                found = inherited(node, result)
                if found is not None:
                    result[id(node.output)] = found
        return result

    def _spread_of(self, t: Tensor, way: Way) -> float:
        """Scaling channels apart is free where only depthwise layers and the CPU read them."""
        readers = [u for u in self._readers(t) if u.op in ("KpuConv", "KpuConcat")]
        free = all(u.op == "KpuConv" and u.attrs["depthwise"] for u in readers)
        return 1.0 if free else way.spread

    def _readers(self, t: Tensor) -> list[Node]:
        """Return the readers of a tensor, or of what it is moved to; of a tile, those of the whole map."""
        readers: list[Node] = []
        for u in self.users.get(id(t), []):
            if u.op in ("KpuMove", "KpuRows"):
                readers += self._readers(u.output)
                continue
            behind = self._readers(u.output) if u.op in ("CpuMaxPool", "TensorConcat", "KpuSlice") else []
            tiled = u.op == "TensorConcat" and u.attrs["tiles"]
            cut = u.op == "CpuMaxPool" and any(v.op == "TensorConcat" for v in self.users.get(id(u.output), []))
            readers += behind if tiled or cut or u.op == "KpuSlice" else [u]
        return readers

    @staticmethod
    def _spread(p: QParams, s: Statistics, spread: float) -> QParams:
        """Give each channel its own scale, between the common one and one that just holds its extremes."""
        zp = p.zero_point
        need = np.zeros_like(p.scale)
        if zp < 255:
            need = np.maximum(need, s.high / (255 - zp))
        if zp > 0:
            need = np.maximum(need, -s.low / zp)
        # a channel that calibration hardly moved keeps a sixteenth of the common range
        ratio = np.clip(need * MARGIN / p.scale, 1 / 16, 1.0)
        return QParams(p.scale * ratio**spread, zp, p.offset)

    def _share_zero_points(self, result: dict[int, QParams]) -> None:
        """Give the parts of a concatenation one zero point where a padded convolution reads it.

        Concatenations that have a part in common share it too: one after the other, each would undo the one before, and
        every change of a zero point costs range.
        """
        for parts in self._padded_together(result):
            zps = {result[id(t)].zero_point for t in parts}
            if len(zps) <= 1:
                continue
            fixed = [t for t in parts if t.producer is None]
            choices = [result[id(fixed[0])].zero_point] if fixed else sorted(zps)
            # a zero point at an end has no room for what lies beyond it; then wrong border pixels are the lesser evil
            below, above = any(zp > 0 for zp in zps), any(zp < 255 for zp in zps)
            choices = [zp for zp in choices if not (zp == 0 and below) and not (zp == 255 and above)]
            if not choices:
                continue

            def waste(zp: int, parts: list[Tensor] = parts) -> float:
                return sum(
                    float(np.mean(with_zero_point(result[id(t)], zp).scale / result[id(t)].scale)) for t in parts
                )

            zp = min(choices, key=waste)
            for t in parts:
                if t.producer is not None:
                    result[id(t)] = with_zero_point(result[id(t)], zp)

    def _padded_together(self, result: dict[int, QParams]) -> list[list[Tensor]]:
        """Return the groups of tensors that padded concatenations join, directly or through a part of both."""
        group_of: dict[int, list[Tensor]] = {}
        for node in self.graph.nodes:
            if not domains.stands_apart(node) or not domains.reaches_padding(node.output, self.users):
                continue
            joined: dict[int, Tensor] = {}
            for t in domains.origins(node.output):
                if id(t) in result:
                    joined |= {id(o): o for o in group_of.get(id(t), [t])}
            group = list(joined.values())
            group_of |= dict.fromkeys(joined, group)
        return list({id(g): g for g in group_of.values()}.values())

    def _share_scales(self, result: dict[int, QParams]) -> None:
        """Give everything that a table reads one scale and zero point: a table knows no channels."""
        for node in self.graph.nodes:
            if not domains.needs_uniform(node, self.users):
                continue
            # bytes that are moved together must mean the same; operands of arithmetic have a scale each
            together = [[t] for t in node.inputs] if node.op == "TensorBinary" else [node.inputs]
            for inputs in together:
                self._share_scale(node, inputs, result)

    def _share_scale(self, node: Node, inputs: list[Tensor], result: dict[int, QParams]) -> None:
        """Give everything that ``inputs`` come from one scale and zero point."""
        parts = {id(t): t for i in inputs for t in domains.origins(i) if id(t) in result}
        params = [result[i] for i in parts]
        if all(p.is_uniform for p in params) and len({(p.scale[0], p.zero_point) for p in params}) == 1:
            return
        if any(t.producer is None for t in parts.values()):
            raise UnsupportedError(
                "E239",
                "a function of the model's input whose channels are scaled differently",
                where=node.label,
                why="it runs as a table of 256 values, the same for all channels",
                fix="put a convolution before it, or give one mean and std for all channels",
            )
        low = min(float((-p.zero_point * p.scale).min()) for p in params)
        high = max(float(((255 - p.zero_point) * p.scale).max()) for p in params)
        for i, p in zip(parts, params, strict=True):
            result[i] = from_range(low, high, len(p.scale))

    def _share_tiles(self, result: dict[int, QParams]) -> None:
        """Give the tiles of one map the same scale for each channel, and one zero point.

        One scale for all channels, if something reads the map as floats: V4 and V5 multiply such maps channel by
        channel, with a second float map beside the first.
        """
        for node in self.graph.nodes:
            if not (node.op == "KpuRows" or (node.op == "TensorConcat" and node.attrs["tiles"])):
                continue
            parts = {id(t): t for i in node.inputs for t in domains.origins(i) if id(t) in result}
            if len(parts) < 2:
                continue
            lowest = min(float((-result[i].zero_point * result[i].scale).min()) for i in parts)
            highest = max(float(((255 - result[i].zero_point) * result[i].scale).max()) for i in parts)
            zp = from_range(lowest, highest, 1).zero_point
            params = [with_zero_point(result[i], zp) for i in parts]
            scale = np.max([p.scale for p in params], axis=0)
            on_kpu = all(domains.wants_u8(u, self.users) for u in self._readers(node.output))
            if self.graph.is_output(node.output) or not on_kpu:
                scale = np.full_like(scale, scale.max())
            for i in parts:
                result[i] = QParams(scale, zp, result[i].offset)


def inherited(node: Node, params: dict[int, QParams]) -> QParams | None:
    """Return the quantisation that an operator's output has from its inputs; None where it has none."""
    source = [params[id(t)] for t in node.inputs if id(t) in params]
    if not source:
        return None
    if node.op == "KpuConcat":
        return QParams.side_by_side(source)
    if node.op == "KpuSlice":
        first = node.attrs["first"]
        return source[0].part(slice(first, first + node.attrs["count"]))
    if node.op in MOVEMENT:
        return moved(source, node)
    if node.op == "CpuInterleave":
        return QParams(
            source[0].scale[:1].repeat(node.output.shape[1]), source[0].zero_point, np.zeros(node.output.shape[1])
        )
    if node.op != "Reshape":
        return source[0]
    return _reshaped(source[0], node) if source[0].is_uniform or domains.keeps_channels(node) else None


def with_zero_point(p: QParams, zp: int) -> QParams:
    """Return the parameters with another zero point that still hold the same range."""
    low, high = -p.zero_point * p.scale, (255 - p.zero_point) * p.scale
    scale = np.maximum(high / max(255 - zp, 1e-9) if zp < 255 else 0, -low / zp if zp else 0)
    return QParams(np.asarray(scale), zp, p.offset)


def _reshaped(p: QParams, node: Node) -> QParams:
    """Carry channel-wise parameters through a Reshape of (1, C, ...) to (1, K)."""
    before, after = node.inputs[0].shape, node.output.shape
    if p.is_uniform or before[:2] == after[:2]:
        channels = after[1] if len(after) > 1 else 1
        uniform = QParams(np.full(channels, p.scale[0]), p.zero_point, np.full(channels, p.offset[0]))
        return uniform if p.is_uniform else p
    repeat = after[1] // before[1]
    return QParams(np.repeat(p.scale, repeat), p.zero_point, np.repeat(p.offset, repeat))

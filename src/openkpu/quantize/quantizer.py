"""Quantise a lowered graph: calibrate once, try the ways to choose ranges, keep the one with the best output SNR.

For one way, the layers are made in execution order, and each runs on the calibration pictures as the chip would, right
after it was made. So the next layer is fitted to what it will really get: its bias is corrected by the difference of
the mean pre-activation between the float model and the quantised one (empirical bias correction).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import MIN_SIZE
from openkpu.lower.byte_move import rows
from openkpu.lower.ops import makes_u8
from openkpu.quantize import domains, fixed, ranges, search, weights
from openkpu.quantize.activation_table import Met
from openkpu.quantize.calibration import CORRECTION_PICTURES, Calibration, calibrate, real_input
from openkpu.quantize.execute import Scratch, float_op, u8_op
from openkpu.quantize.layer import LayerSpec, QuantizedLayer, effective_weights, fine_scales, layer_spec, make_layer
from openkpu.quantize.nodes import as_map, inside, make_table, reading, snr
from openkpu.quantize.params import QParams
from openkpu.quantize.products import PICTURES, balance
from openkpu.quantize.result import CLIPPING_HANDICAP_DB, SPREAD_HANDICAP_DB, Quantized, Way, handicap
from openkpu.quantize.rounding import Correlation, compensated, correlation
from openkpu.quantize.search import Search
from openkpu.quantize.statistics import Statistics
from openkpu.quantize.taps import tap_means
from openkpu.quantize.tensor_runner import TensorRunner, batched
from openkpu.quantize.tensors import Assignment

Array = NDArray[Any]
TRIAL_PICTURES: Final = 6
TRIAL_CORRECTION_PICTURES: Final = 4
TRIALS: Final = 4
SPREADS: Final = (0.5, 1.0, 0.0)
"""How far channels are scaled apart: another than the first where it is clearly better. Scaled alike is best for few
networks, mostly small ones with dense layers, there by up to 3 dB."""


class Quantizer:
    """Quantises one lowered graph; ``input_params`` says what a picture's values mean (None: float input)."""

    def __init__(
        self,
        graph: Graph,
        input_params: QParams | None,
        *,
        weight_bits: int = 8,
        threads: int = 1,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.graph = graph
        self.weight_bits = weight_bits
        self.input_params = input_params
        self.users = graph.users()
        self.threads = threads
        self.progress = progress or (lambda *_: None)
        self.quantized = domains.quantized(graph, self.users)
        source = graph.inputs[0]
        if input_params is not None and len(source.shape) == 4 and min(source.shape[2:]) >= MIN_SIZE:
            self.quantized.add(id(source))  # pictures are uint8 whoever reads them
        self.assignment = Assignment(graph, self.quantized, input_params)
        self._tensors = TensorRunner()
        self._weights: dict[tuple[int, bytes], tuple[NDArray[np.int16], NDArray[np.float64]]] = {}
        self._pre_means: dict[tuple[int, tuple[int, ...]], NDArray[np.float64]] = {}
        self._met: dict[int, Met] = {}
        self._parts: dict[tuple[int, ...], dict[int, Statistics]] = {}

    def calibrate(self, samples: Sequence[Array]) -> Calibration:
        """Run the float graph on the samples (uint8 pictures (C, H, W), or float32 inputs)."""
        balance(self.graph, [real_input(self.graph, self.input_params, s) for s in samples[:PICTURES]])
        return calibrate(
            self.graph,
            self.quantized,
            self.input_params,
            samples,
            threads=self.threads,
            progress=self.progress,
        )

    # -- choosing -------------------------------------------------------------------------------------------------
    def choose(self, c: Calibration, method: str = "auto", target_db: float | None = None) -> Quantized:
        """Return the result of the best way. ``method`` is "auto" or a name of ``ranges.METHODS``.

        ``target_db``: search on (``search``) until the SNR is this high; E416 when it cannot be searched for.

        The ways are compared on pictures that had no part in choosing the numbers; the winner then sees all of them.
        """
        count = len(c.pictures)
        if target_db is not None:
            search.check(target_db, count)
        judged = [int(i) for i in np.linspace(0, count - 1, min(TRIAL_PICTURES, count // 4)).round()]
        fitted = [i for i in range(count) if i not in judged]
        judged = judged or fitted
        known = [i for i in fitted if i < CORRECTION_PICTURES]
        corrected = known[:: max(1, len(known) // TRIAL_CORRECTION_PICTURES)][:TRIAL_CORRECTION_PICTURES]
        tried: dict[Way, float] = {}

        def best_of(best: Way | None, ways: list[Way], least: float) -> Way:
            for way in ways:
                tried[way] = self.quantize(c, way, fitted, corrected, judged).snr_db
                self.progress("quantise", len(tried), TRIALS)
                if best is None or tried[way] > tried[best] + handicap(least, tried[best]):
                    best = way
            assert best is not None
            return best

        least_clipping = "minmax" if method == "auto" else method
        best = best_of(None, [Way(least_clipping, spread) for spread in SPREADS], SPREAD_HANDICAP_DB)
        if method == "auto" and tried[best] < ranges.FAIR_DB:
            best = best_of(best, [replace(best, method=ranges.AUTO)], CLIPPING_HANDICAP_DB)
        searched, found_db = None, tried[best]
        if target_db is not None:
            best, searched = Search(self, c, target_db, fitted, corrected, judged).run(best)
            found_db = searched.after_db
        everything = list(range(count))
        result = self.quantize(c, best, everything, everything[:CORRECTION_PICTURES], [], compensate=True)
        result.snr_db, result.searched = found_db, searched
        if self.weight_bits == 16:
            result.gain_db = found_db - self._with_8_bits(c, best, fitted, corrected, judged)
        result.tried = tried
        self.progress("quantise", TRIALS, TRIALS)
        return result

    def _with_8_bits(
        self, c: Calibration, way: Way, fitted: list[int], corrected: list[int], judged: list[int]
    ) -> float:
        self.weight_bits = 8
        try:
            return self.quantize(c, way, fitted, corrected, judged, compensate=True).snr_db
        finally:
            self.weight_bits = 16

    # -- one way --------------------------------------------------------------------------------------------------
    def quantize(
        self,
        c: Calibration,
        way: Way,
        fitted: Sequence[int],
        corrected: Sequence[int],
        judged: Sequence[int],
        *,
        compensate: bool = False,
    ) -> Quantized:
        """Make every layer in order for one way, running pictures along.

        Indices of pictures: ``fitted`` give the ranges, ``corrected`` run along for the bias correction, ``judged`` run
        along for the SNR (none: it stays -inf).
        """
        feedback = compensate and self.weight_bits == 8 and way.damping < np.inf
        result = Quantized(way, compensated=feedback, weight_bits=self.weight_bits)
        result.params = self.assignment.assign(self._statistics(c, tuple(fitted)), way)
        pictures = c.pictures[[*corrected, *judged]]
        run = len(corrected)
        scratch = Scratch(self.threads)
        q: dict[int, Array] = {}
        f: dict[int, Array] = {}
        source = self.graph.inputs[0]
        if id(source) in self.quantized and self.input_params is not None:
            q[id(source)] = pictures
        else:
            f[id(source)] = pictures
        left = {id(t): len(self.users.get(id(t), [])) for n in self.graph.nodes for t in n.outputs}

        def as_u8(t: Tensor) -> Array:
            if id(t) not in q:
                q[id(t)] = result.params[id(t)].quantize(f[id(t)])
            return q[id(t)]

        def as_float(t: Tensor) -> Array:
            if id(t) not in f:
                f[id(t)] = result.params[id(t)].dequantize(q[id(t)])
            return f[id(t)]

        for node in self.graph.nodes:
            out = node.output
            if node.op == "KpuConv":
                x = as_u8(node.inputs[0])
                x = as_map(node, x)
                layer = self._layer(node, inside(node, x[:run]), c, tuple(corrected), result, measured=not judged)
                result.layers[id(node)] = layer
                if node.attrs["vector"]:
                    padded = np.full((*x.shape[:2], 4, 4), result.params[id(node.inputs[0])].zero_point, np.uint8)
                    padded[:, :, :1, :1] = x
                    q[id(out)] = scratch.run(layer.layer, padded)[:, :, 0, 0]
                else:
                    q[id(out)] = scratch.run(layer.layer, x)
            elif node.op == "KpuConcat":
                q[id(out)] = np.concatenate([as_u8(t) for t in node.inputs], axis=1)
            elif node.op == "KpuSlice":
                first = node.attrs["first"]
                q[id(out)] = as_u8(node.inputs[0])[:, first : first + node.attrs["count"]]
            elif node.op == "KpuRows":
                zero_point = result.params[id(node.inputs[0])].zero_point
                q[id(out)] = rows(node.attrs, [as_u8(t) for t in node.inputs], zero_point)
            elif node.op == "CpuTable":
                pin, pout = result.params[id(node.inputs[0])], result.params[id(out)]
                table = make_table(node.attrs["fn"], pin, pout)
                result.tables[id(node)] = table
                q[id(out)] = np.frombuffer(table, np.uint8)[as_u8(node.inputs[0])]
            elif node.op == "Reshape":
                t = node.inputs[0]
                shape = batched(out.shape, len(pictures))
                if id(t) in q and id(out) in result.params:
                    q[id(out)] = q[id(t)].reshape(shape)
                else:
                    f[id(out)] = as_float(t).reshape(shape)
            elif node.op == "CpuConcat":
                n = len(pictures)
                parts = [as_float(t).reshape(n, *t.shape) for t in node.inputs]
                f[id(out)] = np.concatenate(parts, axis=1 + node.attrs["axis"]).reshape(batched(out.shape, n))
            elif node.op.startswith("Tensor"):
                if node.op == "TensorBinary" and makes_u8(node):
                    q[id(out)] = self._whole(node, [as_u8(t) for t in node.inputs], result.params)
                elif makes_u8(node):
                    zero_point = result.params[id(node.inputs[0])].zero_point
                    q[id(out)] = self._tensors.move(node, [as_u8(t) for t in node.inputs], zero_point)
                else:
                    inputs = [t.data if t.data is not None else as_float(t) for t in node.inputs]
                    f[id(out)] = self._tensors.run(node, inputs)
            elif makes_u8(node):
                q[id(out)] = u8_op(node, as_u8(node.inputs[0]), result.params[id(node.inputs[0])].zero_point)
            else:
                f[id(out)] = float_op(node, [as_float(t) for t in node.inputs if not t.is_constant])
            for t in {id(t): t for t in node.inputs}.values():
                if id(t) in left:
                    left[id(t)] -= 1
                    if left[id(t)] == 0 and not self.graph.is_output(t):
                        q.pop(id(t), None)
                        f.pop(id(t), None)
        result.correlations.clear()
        result.taps.clear()
        result.outputs = [as_float(t) for t in self.graph.outputs]
        if judged:
            pairs = zip(c.outputs, result.outputs, strict=True)
            result.snr_db = min(snr(ref[list(judged)], out[run:]) for ref, out in pairs)
        return result

    def _layer(
        self, node: Node, x: Array, c: Calibration, corrected: tuple[int, ...], result: Quantized, *, measured: bool
    ) -> QuantizedLayer:
        spec, qin = layer_spec(node, result.params)
        qout = result.params[id(node.output)]
        if result.weight_bits == 16:
            we = effective_weights(spec, qin)
            ws = fine_scales(we, qin, qout)
            wq = weights.quantize(we, ws, 16)
        else:
            wq, ws = self._rounded(node, spec, qin)
        if result.compensated:
            inputs = self._correlation(node, x, qin.zero_point, result)
            wq = compensated(effective_weights(spec, qin), ws, inputs, spec.depthwise)
        # what the quantised layer would give on average, and what the float one gives
        key = reading(node)
        if key not in result.taps:
            # outside the picture stands the number for 0: so border pixels that are not exact move no others
            nothing = qin.zero_point - qin.offset / qin.scale
            result.taps[key] = tap_means(x, wq.shape[2], spec.pool, nothing) - qin.zero_point
        got, *sums = weights.weigh(wq, result.taps[key], apart=spec.depthwise)
        if (id(node), corrected) not in self._pre_means:
            self._pre_means[id(node), corrected] = c.pre_mean(node, corrected)
        bias = self._pre_means[id(node), corrected] - ws * got
        if id(node) not in self._met:
            samples = c.pre_samples.get(id(node))
            extremes = c.statistics[id(node.output)].extremes
            span = extremes if samples is None else (float(samples.min()), float(samples.max()))
            self._met[id(node)] = Met(span, samples)
        return make_layer(
            spec, qin, qout, met=self._met[id(node)], wq=wq, ws=ws, sums=(sums[0], sums[1]), bias=bias,
            weight_bits=result.weight_bits, measured=measured,
        )  # fmt: skip

    def _statistics(self, c: Calibration, pictures: tuple[int, ...]) -> dict[int, Statistics]:
        """Return the statistics of some of the pictures; the ways that are compared share them."""
        if pictures not in self._parts:
            self._parts[pictures] = {k: s.of(pictures) for k, s in c.statistics.items()}
        return self._parts[pictures]

    @staticmethod
    def _whole(node: Node, inputs: list[Array], params: dict[int, QParams]) -> Array:
        """Run arithmetic in whole numbers on a batch."""
        kind, (a, b) = node.attrs["kind"], (params[id(t)] for t in node.inputs)
        numbers = fixed.binary_numbers(kind, a, b, params[id(node.output)], node.attrs["fn"])
        shapes = [t.shape for t in node.inputs]
        results = [
            fixed.run_binary(kind, x.reshape(shapes[0]), y.reshape(shapes[1]), numbers)
            for x, y in zip(*inputs, strict=True)
        ]
        return np.stack(results).reshape(batched(node.output.shape, len(results)))

    def _rounded(self, node: Node, spec: LayerSpec, qin: QParams) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """Round to 8 bits; ways that scale the input's channels alike share the search for the scales."""
        largest = qin.scale.max()
        by_channel = qin.scale / largest
        key = (id(node), by_channel.tobytes())
        if key not in self._weights:
            unit = effective_weights(spec, QParams(by_channel, qin.zero_point, qin.offset))
            ws = weights.scales(unit.reshape(len(unit), -1))
            self._weights[key] = weights.quantize(unit, ws), ws
        wq, ws = self._weights[key]
        return wq, ws * largest

    @staticmethod
    def _correlation(node: Node, x: Array, zero_point: int, result: Quantized) -> Correlation:
        depthwise = node.attrs["depthwise"]
        key = (reading(node), depthwise)
        if key not in result.correlations:
            kernel, pool = node.inputs[1].shape[2], node.attrs["pool"]
            result.correlations[key] = correlation(x, kernel, zero_point, pool, depthwise, result.way.damping)
        return result.correlations[key]

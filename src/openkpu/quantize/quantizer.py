"""Quantise a lowered graph: calibrate once, try the ways to choose ranges, keep the one with the best output SNR.

For one way, the layers are made in execution order, and each runs on the calibration pictures as the chip would, right
after it was made. So the next layer is fitted to what it will really get: its bias is corrected by the difference of
the mean pre-activation between the float model and the quantised one (empirical bias correction).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError, UnsupportedError
from openkpu.float.session import FloatSession
from openkpu.graph.elementwise import Expr, X, clip, is_homogeneous
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.quantize import domains, ranges, weights
from openkpu.quantize.execute import Scratch, float_op, u8_op
from openkpu.quantize.layer import LayerSpec, QuantizedLayer, effective_weights, make_layer
from openkpu.quantize.params import QParams, from_range
from openkpu.quantize.rounding import Correlation, compensated, correlation
from openkpu.quantize.statistics import Statistics
from openkpu.quantize.taps import tap_means

Array = NDArray[Any]
RELU: Final = clip(X, 0, float("inf"))
CORRECTION_PICTURES: Final = 16
TRIAL_PICTURES: Final = 6
TRIALS: Final = 7
MARGIN: Final = 1.25
"""Room for a channel of its own scale over what calibration saw: few pictures underestimate a single channel."""
CLIPPING_HANDICAP_DB: Final = 3.0
"""By how much a method that clips must be better than min-max. Pictures held back from calibration often resemble the
others (frames of one video), so they flatter tight ranges; on foreign pictures min-max was best or close to it."""
SPREAD_HANDICAP_DB: Final = 0.5


@dataclass(frozen=True, slots=True)
class Way:
    """One way to choose the numbers.

    The range method, and how far channels are scaled apart (0 not, 1 fully).
    """

    method: str
    spread: float

    def __str__(self) -> str:
        return f"{self.method}, channel spread {self.spread:g}"


@dataclass(slots=True)
class Quantized:
    """The result: layers by the id of their node, parameters by the id of their tensor, and how good it is."""

    way: Way
    layers: dict[int, QuantizedLayer] = field(default_factory=dict)
    params: dict[int, QParams] = field(default_factory=dict)
    tables: dict[int, bytes] = field(default_factory=dict)
    correlations: dict[tuple[int, int, str, int], Correlation] = field(default_factory=dict, repr=False)
    """Of the inputs, by tensor, kernel, pooling and offset: the parts of a split layer share them."""
    compensated: bool = False
    """Whether rounding errors of the weights were made to cancel (``rounding.compensated``)."""
    outputs: list[Array] = field(default_factory=list)
    snr_db: float = float("-inf")
    tried: dict[Way, float] = field(default_factory=dict)
    """The SNR of every way tried, on pictures held back from it."""


@dataclass(slots=True)
class Calibration:
    """What the float model did on the calibration pictures."""

    pictures: NDArray[Any]
    statistics: dict[int, Statistics]
    pre_means: dict[int, list[NDArray[np.float64]]]
    """Mean pre-activation of each channel, layer by layer, picture by picture."""
    pre_samples: dict[int, NDArray[np.float64]]
    outputs: list[Array]


class Quantizer:
    """Quantises one lowered graph; ``input_params`` says what a picture's values mean (None: float input)."""

    def __init__(
        self,
        graph: Graph,
        input_params: QParams | None,
        *,
        threads: int = 1,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.graph = graph
        self.input_params = input_params
        self.users = graph.users()
        self.threads = threads
        self.progress = progress or (lambda *_: None)
        self.quantized = {
            id(t)
            for n in graph.nodes
            for t in (*n.inputs, *n.outputs)
            if not t.is_constant and domains.is_quantized(graph, t, self.users)
        }
        self._weights: dict[tuple[int, bytes], tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    # -- calibration ----------------------------------------------------------------------------------------------
    def calibrate(self, samples: Sequence[Array]) -> Calibration:
        """Run the float graph on the samples (uint8 pictures (C, H, W), or float32 inputs)."""
        if not samples:
            raise InputError(
                "E410",
                "no calibration pictures",
                why="quantisation needs to see typical inputs",
                fix="give a folder with about 32 pictures like those the camera will see",
            )
        convs = [n for n in self.graph.nodes if n.op == "KpuConv"]
        curved = [n for n in convs if n.attrs["fn"] is not None and not _saturates(n.attrs["fn"])]
        own = {
            id(n.output): n.output
            for n in self.graph.nodes
            if id(n.output) in self.quantized and n.op not in domains.INHERIT
        }
        for t in self.graph.inputs:
            if id(t) in self.quantized:
                own[id(t)] = t
        inputs = {id(n.inputs[0]): n.inputs[0] for n in convs}
        pre = {id(n): Tensor(pre_name(n), n.output.shape) for n in curved}
        watch = [t for t in {**own, **inputs}.values() if t.producer is not None] + list(pre.values())
        session = FloatSession(self.graph, watch, threads=self.threads)
        stats = {i: Statistics() for i in own}
        pre_means: dict[int, list[NDArray[np.float64]]] = {id(n): [] for n in convs}
        pre_stats = {id(n): Statistics() for n in curved}
        outputs: list[list[Array]] = [[] for _ in self.graph.outputs]
        for i, sample in enumerate(samples):
            x = self.real_input(sample)
            values = session.run({self.graph.inputs[0].name: x})
            values[self.graph.inputs[0].name] = x
            for key, t in own.items():
                stats[key].add(values[t.name])
            for n in curved:
                pre_stats[id(n)].add(values[pre[id(n)].name])
            for n in convs:
                v = values[n.inputs[0].name]
                v = _as_map(n, v)
                means = tap_means(v, n.inputs[1].shape[2], n.attrs["pool"], 0.0)
                w, b = (np.asarray(t.data, np.float64) for t in n.inputs[1:])
                pre_means[id(n)].append(_apply_taps(n, w, means) + b)
            for store, t in zip(outputs, self.graph.outputs, strict=True):
                store.append(values[t.name])
            self.progress("calibrate", i + 1, len(samples))
        pre_samples = {k: s.values().astype(np.float64) for k, s in pre_stats.items()}
        return Calibration(
            np.concatenate([self.program_input(s) for s in samples]),
            stats,
            pre_means,
            pre_samples,
            [np.stack(o) for o in outputs],
        )

    def real_input(self, sample: Array) -> NDArray[np.float32]:
        """Turn a sample into the float model's input (1, ...)."""
        shape = self.graph.inputs[0].shape
        x = np.asarray(sample)
        if self.input_params is not None and x.dtype == np.uint8:
            return self.input_params.dequantize(x.reshape(shape))
        return x.astype(np.float32).reshape(shape)

    def program_input(self, sample: Array) -> Array:
        """Return what the compiled model gets for a sample, with a leading 1: uint8 pixels, or the real input."""
        source = self.graph.inputs[0]
        if id(source) not in self.quantized or self.input_params is None:
            return self.real_input(sample)
        x = np.asarray(sample).reshape(source.shape)
        return x if x.dtype == np.uint8 else self.input_params.quantize(x)

    # -- choosing -------------------------------------------------------------------------------------------------
    def choose(self, c: Calibration, method: str = "auto") -> Quantized:
        """Return the result of the best way. ``method`` is "auto" or a name of ``ranges.METHODS``.

        The ways are compared on pictures that had no part in choosing the numbers; the winner then sees all of them.
        """
        count = len(c.pictures)
        judged = [int(i) for i in np.linspace(0, count - 1, min(TRIAL_PICTURES, count // 4)).round()]
        fitted = [i for i in range(count) if i not in judged]
        judged = judged or fitted
        corrected = fitted[:: max(1, len(fitted) // TRIAL_PICTURES)][:TRIAL_PICTURES]
        tried: dict[Way, float] = {}

        def best_of(best: Way | None, ways: list[Way], handicap: float) -> Way:
            for way in ways:
                tried[way] = self.quantize(c, way, fitted, corrected, judged).snr_db
                self.progress("quantise", len(tried), TRIALS)
                if best is None or tried[way] > tried[best] + handicap:
                    best = way
            assert best is not None
            return best

        first, *others = [Way(m, 0.5) for m in (ranges.METHODS if method == "auto" else [method])]
        best = best_of(None, [first], 0.0)
        best = best_of(best, others, CLIPPING_HANDICAP_DB)
        best = best_of(best, [replace(best, spread=s) for s in (1.0, 0.0)], SPREAD_HANDICAP_DB)
        everything = list(range(count))
        result = self.quantize(c, best, everything, everything[:CORRECTION_PICTURES], [], compensate=True)
        result.snr_db = tried[best]
        result.tried = tried
        self.progress("quantise", TRIALS, TRIALS)
        return result

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
        result = Quantized(way, compensated=compensate)
        self._activation_params({k: s.of(fitted) for k, s in c.statistics.items()}, way, result)
        pictures = c.pictures[[*corrected, *judged]]
        pre_means = {k: np.mean([m[i] for i in corrected], axis=0) for k, m in c.pre_means.items()}
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
                x = _as_map(node, x)
                layer = self._layer(node, x[:run], c, pre_means[id(node)], result)
                result.layers[id(node)] = layer
                if node.attrs["vector"]:
                    padded = np.full((*x.shape[:2], 4, 4), result.params[id(node.inputs[0])].zero_point, np.uint8)
                    padded[:, :, :1, :1] = x
                    q[id(out)] = scratch.run(layer.layer, padded)[:, :, 0, 0]
                else:
                    q[id(out)] = scratch.run(layer.layer, x)
            elif node.op == "KpuConcat":
                q[id(out)] = np.concatenate([as_u8(t) for t in node.inputs], axis=1)
            elif node.op == "CpuTable":
                pin, pout = result.params[id(node.inputs[0])], result.params[id(out)]
                table = make_table(node.attrs["fn"], pin, pout)
                result.tables[id(node)] = table
                q[id(out)] = np.frombuffer(table, np.uint8)[as_u8(node.inputs[0])]
            elif node.op == "Reshape":
                t = node.inputs[0]
                shape = _batch(out.shape, len(pictures))
                if id(t) in q and id(out) in result.params:
                    q[id(out)] = q[id(t)].reshape(shape)
                else:
                    f[id(out)] = as_float(t).reshape(shape)
            elif node.op == "CpuConcat":
                n = len(pictures)
                parts = [as_float(t).reshape(n, *t.shape) for t in node.inputs]
                f[id(out)] = np.concatenate(parts, axis=1 + node.attrs["axis"]).reshape(_batch(out.shape, n))
            elif domains.makes_u8(node):
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
        result.outputs = [as_float(t) for t in self.graph.outputs]
        if judged:
            pairs = zip(c.outputs, result.outputs, strict=True)
            result.snr_db = min(snr(ref[list(judged)], out[run:]) for ref, out in pairs)
        return result

    def _activation_params(self, stats: dict[int, Statistics], way: Way, result: Quantized) -> None:
        """Fix the quantisation of every tensor from its statistics."""
        for t in self.graph.inputs:
            if id(t) in self.quantized:
                low, high = stats[id(t)].extremes
                result.params[id(t)] = self.input_params or from_range(low, high, t.shape[1])
        for node in self.graph.nodes:
            t = node.output
            if id(t) not in self.quantized or node.op in domains.INHERIT:
                continue
            s = stats[id(t)]
            channels = t.shape[1] if len(t.shape) > 1 else 1
            low, high = ranges.METHODS[way.method](s)
            params = from_range(low, high, channels)
            if node.op == "KpuConv" and way.spread > 0 and _saturates(node.attrs["fn"]):
                params = self._spread(params, s, self._spread_of(t, way))
            result.params[id(t)] = params
        self._share_zero_points(result)
        self._share_scales(result)
        for node in self.graph.nodes:
            t = node.output
            if node.op not in domains.INHERIT or id(t) not in self.quantized:
                continue
            source = [result.params[id(i)] for i in node.inputs if id(i) in result.params]
            if not source:
                continue
            if node.op == "KpuConcat":
                result.params[id(t)] = QParams.side_by_side(source)
            elif node.op == "Reshape":
                if source[0].is_uniform or domains.keeps_channels(node):
                    result.params[id(t)] = _reshaped(source[0], node)
            else:
                result.params[id(t)] = source[0]

    def _spread_of(self, t: Tensor, way: Way) -> float:
        """Scaling channels apart is free where only depthwise layers and the CPU read them."""
        readers = [u for u in self.users.get(id(t), []) if u.op in ("KpuConv", "KpuConcat")]
        free = all(u.op == "KpuConv" and u.attrs["depthwise"] for u in readers)
        return 1.0 if free else way.spread

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

    def _share_zero_points(self, result: Quantized) -> None:
        """Give the parts of a concatenation one zero point where a padded convolution reads it."""
        for node in self.graph.nodes:
            if node.op != "KpuConcat":
                continue
            padded = domains.reaches_padding(node.output, self.users)
            parts = [t for t in domains.origins(node.output) if id(t) in result.params]
            zps = {result.params[id(t)].zero_point for t in parts}
            if not padded or len(zps) <= 1:
                continue
            fixed = [t for t in parts if t.producer is None]
            choices = [result.params[id(fixed[0])].zero_point] if fixed else sorted(zps)
            # a zero point at an end has no room for what lies beyond it; then wrong border pixels are the lesser evil
            below, above = any(zp > 0 for zp in zps), any(zp < 255 for zp in zps)
            choices = [zp for zp in choices if not (zp == 0 and below) and not (zp == 255 and above)]
            if not choices:
                continue

            def waste(zp: int, parts: list[Tensor] = parts) -> float:
                return sum(
                    float(np.mean(_with_zero_point(result.params[id(t)], zp).scale / result.params[id(t)].scale))
                    for t in parts
                )

            zp = min(choices, key=waste)
            for t in parts:
                if t.producer is not None:
                    result.params[id(t)] = _with_zero_point(result.params[id(t)], zp)

    def _share_scales(self, result: Quantized) -> None:
        """Give everything that a table reads one scale and zero point: a table knows no channels."""
        for node in self.graph.nodes:
            if not domains.needs_uniform(node, self.users):
                continue
            parts = {id(t): t for t in domains.origins(node.inputs[0]) if id(t) in result.params}
            params = [result.params[i] for i in parts]
            if all(p.is_uniform for p in params) and len({(p.scale[0], p.zero_point) for p in params}) == 1:
                continue
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
                result.params[i] = from_range(low, high, len(p.scale))

    def _layer(
        self, node: Node, x: Array, c: Calibration, pre_mean: NDArray[np.float64], result: Quantized
    ) -> QuantizedLayer:
        qin, qout = result.params[id(node.inputs[0])], result.params[id(node.output)]
        if node.attrs["vector"]:
            taken = slice(node.attrs["offset"], node.attrs["offset"] + node.inputs[1].shape[1])
            qin = QParams(qin.scale[taken], qin.zero_point, qin.offset[taken])
        w, b = np.asarray(node.inputs[1].data, np.float64), np.asarray(node.inputs[2].data, np.float64)
        vector = node.attrs["vector"]
        shape = (w.shape[1], 4, 4) if vector else node.inputs[0].shape[1:]
        fn = node.attrs["fn"]
        if fn is not None and qout.zero_point == 0 and _saturates(fn) and not is_homogeneous(fn):
            fn = RELU  # the upper limit is the top of the uint8 range
        spec = LayerSpec(
            (shape[0], shape[1], shape[2]),
            w,
            b,
            fn,
            node.attrs["pool"],
            node.attrs["depthwise"],
            node.source[-1] if node.source else node.output.name,
        )
        we = effective_weights(spec, qin)
        key = (id(node), (qin.scale / qin.scale.max()).tobytes())
        if key not in self._weights:
            unit = we / qin.scale.max()
            ws = weights.scales(unit.reshape(len(unit), -1))
            self._weights[key] = weights.quantize(unit, ws), ws
        wq, ws = self._weights[key]
        ws = ws * qin.scale.max()
        if result.compensated:
            wq = compensated(we, ws, self._correlation(node, x, qin.zero_point, result), node.attrs["depthwise"])
        # what the quantised layer would give on average, and what the float one gives
        means = tap_means(x, w.shape[2], node.attrs["pool"], float(qin.zero_point)) - qin.zero_point
        got = ws * _apply_taps(node, wq.astype(np.float64), means)
        bias = pre_mean - got
        s = c.statistics[id(node.output)]
        samples = c.pre_samples.get(id(node))
        span = (float(samples.min()), float(samples.max())) if samples is not None else s.extremes
        return make_layer(spec, qin, qout, span=span, samples=samples, wq=wq, ws=ws, bias=bias)

    @staticmethod
    def _correlation(node: Node, x: Array, zero_point: int, result: Quantized) -> Correlation:
        kernel, pool = node.inputs[1].shape[2], node.attrs["pool"]
        key = (id(node.inputs[0]), kernel + 10 * node.attrs["depthwise"], pool, node.attrs.get("offset", 0))
        if key not in result.correlations:
            result.correlations[key] = correlation(x, kernel, zero_point, pool, node.attrs["depthwise"])
        return result.correlations[key]


def pre_name(node: Node) -> str:
    """Return the name under which the float export shows a layer's value before its function."""
    return f"{node.output.name}.pre"


def make_table(fn: Expr, pin: QParams, pout: QParams) -> bytes:
    """Return the 256-entry table of a function between two uniform quantisations."""
    real = np.arange(256) * pin.scale[0] + pin.bias[0]
    return bytes(
        np.clip(np.rint(fn(real.astype(np.float64)) / pout.scale[0] + pout.zero_point), 0, 255).astype(np.uint8)
    )


def snr(reference: Array, got: Array) -> float:
    """Signal-to-noise ratio in dB: ``10 log10(sum ref^2 / sum (ref - got)^2)``."""
    ref = np.asarray(reference, np.float64).reshape(-1)
    noise = float(((ref - np.asarray(got, np.float64).reshape(-1)) ** 2).sum())
    signal = float((ref**2).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(max(signal, 1e-30) / noise))


def _apply_taps(node: Node, w: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean convolution result of each output channel from the means of the taps (C, k, k)."""
    if node.attrs["depthwise"]:
        return np.asarray((w[:, 0] * means).sum((1, 2)))
    return np.asarray(np.tensordot(w, means, 3))


def _saturates(fn: Expr | None) -> bool:
    """Whether channels may be scaled apart under this function: homogeneous, or a ReLU with an upper limit."""
    if fn is None or is_homogeneous(fn):
        return True
    return fn.op == "Min" and fn.args[1].op == "const" and fn.args[0] == RELU


def _with_zero_point(p: QParams, zp: int) -> QParams:
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


def _batch(shape: tuple[int, ...], n: int) -> tuple[int, ...]:
    """Return the shape of ``n`` values of a shape, whose leading 1 (if it has one) becomes n."""
    return (n, *shape[1:]) if len(shape) > 1 and shape[0] == 1 else (n, *shape)


def _as_map(node: Node, x: Array) -> Array:
    """Return a layer's input as maps (N, C, H, W); of a vector (N, K) the part that the layer reads."""
    if not node.attrs["vector"]:
        return x
    first = node.attrs["offset"]
    return x[:, first : first + node.inputs[1].shape[1]].reshape(len(x), -1, 1, 1)

"""Run the float model on the calibration pictures and remember what quantisation needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError
from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.lower.export import full_name, pre_name
from openkpu.lower.ops import POOLS
from openkpu.quantize import domains
from openkpu.quantize.nodes import Reading, apply_taps, as_map, inside, reading, saturates
from openkpu.quantize.params import QParams
from openkpu.quantize.statistics import Statistics
from openkpu.quantize.taps import tap_means

Array = NDArray[Any]
CORRECTION_PICTURES: Final = 32
"""Of so many pictures the means of what layers read are kept, for the bias correction: with fewer, biases follow
the few that were seen (12 gave 0.3 dB less in the mean over 16 networks, up to 1.9 in one)."""
CURVE_SAMPLES: Final = 16384
"""Values met before a curved function: enough for how often each part of the curve is met."""


@dataclass(slots=True)
class Calibration:
    """What the float model did on the calibration pictures."""

    pictures: NDArray[Any]
    statistics: dict[int, Statistics]
    taps: dict[Reading, NDArray[np.float64]]
    """Mean of what layers read at each tap, picture by picture: (``CORRECTION_PICTURES``, C, k, k)."""
    pre_samples: dict[int, NDArray[np.float64]]
    outputs: list[Array]

    def pre_mean(self, node: Node, pictures: Sequence[int]) -> NDArray[np.float64]:
        """Return the mean of each channel of a KPU layer before its function, over some of the pictures."""
        means = self.taps[reading(node)][list(pictures)].mean(0)
        return apply_taps(node, np.asarray(node.inputs[1].data), means) + np.asarray(node.inputs[2].data, np.float64)


def calibrate(
    graph: Graph,
    quantized: set[int],
    input_params: QParams | None,
    samples: Sequence[Array],
    *,
    threads: int,
    progress: Callable[[str, int, int], None],
) -> Calibration:
    """Run the float graph on the samples (uint8 pictures (C, H, W), or float32 inputs).

    ``quantized`` are the ids of the tensors that exist as uint8.
    """
    if not samples:
        raise InputError(
            "E410",
            "no calibration pictures",
            why="quantisation needs to see typical inputs",
            fix="give a folder with about 32 pictures like those the camera will see",
        )
    convs = [n for n in graph.nodes if n.op == "KpuConv"]
    curved = [n for n in convs if n.attrs["fn"] is not None and not saturates(n.attrs["fn"])]
    own = {id(n.output): n.output for n in graph.nodes if id(n.output) in quantized and not domains.inherits(n)}
    for t in graph.inputs:
        if id(t) in quantized:
            own[id(t)] = t
    inputs = {id(n.inputs[0]): n.inputs[0] for n in convs}
    # a function comes before a pooling of windows, and after one that only picks pixels
    pre = {
        id(n): Tensor(
            pre_name(n.output),
            n.output.shape if POOLS[n.attrs["pool"]][2] == 1 else (*n.output.shape[:2], *n.inputs[0].shape[2:]),
        )
        for n in curved
    }
    # an averaging pooling comes after the KPU's clamp to 8 bits, so the range must hold what it averages
    full = {
        id(n.output): Tensor(full_name(n.output), (*n.output.shape[:2], *n.inputs[0].shape[2:]))
        for n in convs
        if n.attrs["pool"].startswith("mean")
    }
    watch = [t for t in {**own, **inputs}.values() if t.producer is not None] + [*pre.values(), *full.values()]
    session = FloatSession(graph, watch, threads=threads)
    count = len(samples)
    stats = {i: Statistics(_inside_shape(t.producer, full.get(i, t).shape), count) for i, t in own.items()}
    pre_stats = {id(n): Statistics(_inside_shape(n, pre[id(n)].shape), count) for n in curved}
    readers = {reading(n): n for n in convs}
    kept = min(count, CORRECTION_PICTURES)
    taps = {key: np.empty((kept, key.channels, *n.inputs[1].shape[2:])) for key, n in readers.items()}
    nothing = {key: np.zeros(key.channels) for key in readers}
    outputs: list[list[Array]] = [[] for _ in graph.outputs]
    for i, sample in enumerate(samples):
        x = real_input(graph, input_params, sample)
        values = session.run({graph.inputs[0].name: x})
        values[graph.inputs[0].name] = x
        finite = [stats[key].add(inside(t.producer, values[full.get(key, t).name])) for key, t in own.items()]
        finite += [pre_stats[id(n)].add(inside(n, values[pre[id(n)].name])) for n in curved]
        if not (all(finite) and all(np.isfinite(values[t.name]).all() for t in graph.outputs)):
            raise InputError(
                "E417",
                "the float model computes values that are not finite",
                where=f"tensor '{_first_broken(values)}', calibration picture {i + 1}",
                why="NaN or infinity cannot be quantised",
                fix="check the model's weights, and mean and std of the input",
            )
        for key, n in readers.items() if i < kept else ():
            v = inside(n, as_map(n, values[n.inputs[0].name]))
            tap_means(v, n.inputs[1].shape[2], n.attrs["pool"], nothing[key], taps[key][i])
        for store, t in zip(outputs, graph.outputs, strict=True):
            store.append(values[t.name])
        progress("calibrate", i + 1, count)
    pre_samples = {k: thinned(s.values()).astype(np.float64) for k, s in pre_stats.items()}
    return Calibration(
        np.concatenate([program_input(graph, quantized, input_params, s) for s in samples]),
        stats,
        taps,
        pre_samples,
        [np.stack(o) for o in outputs],
    )


def _inside_shape(node: Node | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    return inside(node, np.broadcast_to(np.float32(0), shape)).shape


def _first_broken(values: dict[str, Array]) -> str:
    return next((name for name, v in values.items() if not np.isfinite(v).all()), "between the layers")


def thinned(values: Array) -> Array:
    """Return at most ``CURVE_SAMPLES`` of the values, evenly taken."""
    return values[:: -(-len(values) // CURVE_SAMPLES)]


def real_input(graph: Graph, input_params: QParams | None, sample: Array) -> NDArray[np.float32]:
    """Turn a sample into the float model's input (1, ...)."""
    shape = graph.inputs[0].shape
    x = np.asarray(sample)
    if input_params is not None and x.dtype == np.uint8:
        return input_params.dequantize(x.reshape(shape))
    return x.astype(np.float32).reshape(shape)


def program_input(graph: Graph, quantized: set[int], input_params: QParams | None, sample: Array) -> Array:
    """Return what the compiled model gets for a sample, with a leading 1: uint8 pixels, or the real input."""
    source = graph.inputs[0]
    if id(source) not in quantized or input_params is None:
        return real_input(graph, input_params, sample)
    x = np.asarray(sample).reshape(source.shape)
    return x if x.dtype == np.uint8 else input_params.quantize(x)

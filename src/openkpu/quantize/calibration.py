"""Run the float model on the calibration pictures and remember what quantisation needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError
from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph, Tensor
from openkpu.lower.export import full_name, pre_name
from openkpu.quantize import domains
from openkpu.quantize.nodes import apply_taps, as_map, inside, saturates
from openkpu.quantize.params import QParams
from openkpu.quantize.statistics import Statistics
from openkpu.quantize.taps import tap_means

Array = NDArray[Any]


@dataclass(slots=True)
class Calibration:
    """What the float model did on the calibration pictures."""

    pictures: NDArray[Any]
    statistics: dict[int, Statistics]
    pre_means: dict[int, list[NDArray[np.float64]]]
    """Mean pre-activation of each channel, layer by layer, picture by picture."""
    pre_samples: dict[int, NDArray[np.float64]]
    outputs: list[Array]


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
    pre = {id(n): Tensor(pre_name(n.output), n.output.shape) for n in curved}
    # an averaging pooling comes after the KPU's clamp to 8 bits, so the range must hold what it averages
    full = {
        id(n.output): Tensor(full_name(n.output), (*n.output.shape[:2], *n.inputs[0].shape[2:]))
        for n in convs
        if n.attrs["pool"].startswith("mean")
    }
    watch = [t for t in {**own, **inputs}.values() if t.producer is not None] + [*pre.values(), *full.values()]
    session = FloatSession(graph, watch, threads=threads)
    stats = {i: Statistics() for i in own}
    pre_means: dict[int, list[NDArray[np.float64]]] = {id(n): [] for n in convs}
    pre_stats = {id(n): Statistics() for n in curved}
    outputs: list[list[Array]] = [[] for _ in graph.outputs]
    for i, sample in enumerate(samples):
        x = real_input(graph, input_params, sample)
        values = session.run({graph.inputs[0].name: x})
        values[graph.inputs[0].name] = x
        broken = next((name for name, v in values.items() if not np.isfinite(v).all()), None)
        if broken is not None:
            raise InputError(
                "E417",
                "the float model computes values that are not finite",
                where=f"tensor '{broken}', calibration picture {i + 1}",
                why="NaN or infinity cannot be quantised",
                fix="check the model's weights, and mean and std of the input",
            )
        for key, t in own.items():
            stats[key].add(inside(t.producer, values[full.get(key, t).name]))
        for n in curved:
            pre_stats[id(n)].add(inside(n, values[pre[id(n)].name]))
        for n in convs:
            v = values[n.inputs[0].name]
            v = inside(n, as_map(n, v))
            means = tap_means(v, n.inputs[1].shape[2], n.attrs["pool"], 0.0)
            w, b = (np.asarray(t.data, np.float64) for t in n.inputs[1:])
            pre_means[id(n)].append(apply_taps(n, w, means) + b)
        for store, t in zip(outputs, graph.outputs, strict=True):
            store.append(values[t.name])
        progress("calibrate", i + 1, len(samples))
    pre_samples = {k: s.values().astype(np.float64) for k, s in pre_stats.items()}
    return Calibration(
        np.concatenate([program_input(graph, quantized, input_params, s) for s in samples]),
        stats,
        pre_means,
        pre_samples,
        [np.stack(o) for o in outputs],
    )


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

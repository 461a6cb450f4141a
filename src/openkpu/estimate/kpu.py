"""How long the KPU takes for a layer.

The convolution unit reads one line of AI RAM (64 pixels) a cycle and applies one kernel to it, 1x1 or 3x3 alike: a 3x3
layer does 576 multiply-accumulates a cycle, a 1x1 layer 64. A *pass* is one kernel over one input map of up to 64
pixels width (narrow maps share a line, so a pass covers 2 or 4 input channels; wider maps take several lines a row). A
pass costs a cycle for each of its rows, and some rows to fill and drain the pipeline. When all passes of an output map
are done, the sum goes through batch norm, activation and pooling: again a cycle for each line, and a start.

    compute = lines of a row * passes  * (rows * pass_line  + fill)        passes  = ceil(ic / group) * oc
    output  = lines of a row * outputs * (rows * output_line + start)      outputs = ceil(oc / group)

rows are those of the input: what pooling throws away is computed first. For depthwise layers, passes = outputs. These
cycles are cycles of the KPU's clock. On the bus, which has the CPU's clock, weights arrive at about two bytes a cycle,
in ``loads`` parts. There are two buffers, so the first two parts are waited for and each further part loads while an
earlier one is in use. The CPU starts each layer and takes its interrupt.

Fitted to every published time of a single layer (``measurements``, ``fit``): docs/estimate.md has the residuals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from openkpu.estimate.bar import Estimate
from openkpu.k210 import AI_LINE_BYTES, KPU_LANES, KPU_TAPS, WEIGHT_LOAD_BYTES_8, WEIGHT_LOAD_BYTES_16
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import KpuLayer


@dataclass(frozen=True, slots=True)
class Parameters:
    """The constants of the model, all with a physical meaning."""

    pass_line: float
    """KPU cycles for one line of a pass."""
    fill_1x1: float
    """Rows' worth of cycles that a pass takes to fill and drain, 1x1 kernels."""
    fill_3x3: float
    """The same for 3x3, whose window needs two rows more."""
    output_line: float
    """KPU cycles for one line of an output map: batch norm, activation, pooling, write-back."""
    output_start: float
    """KPU cycles to start the output of a map, for each line of a row."""
    weight_rate: float
    """Bytes of weights a bus cycle."""
    layer_start: float
    """CPU cycles for each layer: twelve registers and an interrupt (V3 runtime)."""
    interpreter: float
    """CPU cycles that the V4 runtime adds."""


FITTED: Final = Parameters(
    pass_line=1.0027,
    fill_1x1=2.681,
    fill_3x3=4.441,
    output_line=1.0542,
    output_start=16.51,
    weight_rate=2.0319,
    layer_start=2465.0,
    interpreter=1072.0,
)
"""What ``fit.fit`` finds on all measurements; a test compares."""

BAR: Final = 0.065
"""Share by which a layer may be off: twice the worst residual when a shape is left out (3.2 %)."""
WEIGHTS_BAR: Final = 0.25
"""The same for layers that wait for their weights most of the time: the worst residual when a whole source is left out.

Only two measurements are of this kind, and both have 16-bit weights.
"""


@dataclass(frozen=True, slots=True)
class Work:
    """What one KPU layer has to do; (c, h, w) is the input map."""

    c: int
    h: int
    w: int
    oc: int
    kernel: int
    depthwise: bool = False
    weight_size: int = 1
    """Bytes of one weight: 1 or 2."""
    loads: int = 0
    """Parts in which the weights come; 0 for as few as possible."""
    batches: int = 1

    @classmethod
    def of(cls, layer: KpuLayer, batches: int = 1) -> Work:
        """Describe a layer of a kmodel."""
        c, h, w = layer.input_shape
        r = layer.registers
        size = layer.weights.itemsize
        return cls(c, h, w, r.o_ch_num, layer.kernel, bool(r.depth_wise_layer), size, r.load_time, batches)

    @property
    def macs(self) -> int:
        """Multiply-accumulates that the chip performs (pooled positions included)."""
        return self.batches * self.h * self.w * self.kernel**2 * self.oc * (1 if self.depthwise else self.c)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return self.kernel**2 * self.oc * (1 if self.depthwise else self.c) * self.weight_size

    @property
    def peak(self) -> int:
        """Most multiply-accumulates a cycle for this kernel."""
        return KPU_LANES * (KPU_TAPS if self.kernel == 3 else 1)

    @property
    def parts(self) -> int:
        """Loads of weights."""
        room = WEIGHT_LOAD_BYTES_8 if self.weight_size == 1 else WEIGHT_LOAD_BYTES_16
        return self.loads or max(1, -(-self.weight_bytes // room))


@dataclass(frozen=True, slots=True)
class LayerTime:
    """Where the time of a layer goes, in microseconds; ``cycles`` is the whole in cycles of the KPU's clock."""

    words: float
    """Passes over the rows: the useful part."""
    fill: float
    """Filling and draining the pipeline, once a pass; large for maps of few rows."""
    output: float
    """Batch norm, activation, pooling, write-back."""
    weights: float
    """Waiting for weights."""
    overhead: float
    """Starting the layer and its interrupt."""
    cycles: float
    time: Estimate

    @property
    def bottleneck(self) -> str:
        """The largest part: compute, fill, output, weights or overhead."""
        parts = {
            "compute": self.words,
            "fill": self.fill,
            "output": self.output,
            "weights": self.weights,
            "overhead": self.overhead,
        }
        return max(parts, key=lambda name: parts[name])


def layer_time(
    work: Work, *, kpu_mhz: float, cpu_mhz: float, interpreted: bool = False, parameters: Parameters = FITTED
) -> LayerTime:
    """Estimate one layer at these clocks; ``interpreted`` for the V4 and V5 runtimes."""
    p = parameters
    i, o = FeatureMapLayout(work.c, work.h, work.w), FeatureMapLayout(work.oc, work.h, work.w)
    lines = -(-work.w // AI_LINE_BYTES)
    outputs = -(-work.oc // o.group)
    passes = outputs if work.depthwise else -(-work.c // i.group) * work.oc
    words = lines * passes * work.h * p.pass_line / kpu_mhz
    fill = lines * passes * (p.fill_3x3 if work.kernel == 3 else p.fill_1x1) / kpu_mhz
    output = lines * outputs * (work.h * p.output_line + p.output_start) / kpu_mhz
    part = (words + fill + output) / work.parts
    load = work.weight_bytes / work.parts / p.weight_rate / cpu_mhz
    waited_for = min(2, work.parts)
    weights = waited_for * load + (work.parts - waited_for) * max(0.0, load - part)
    overhead = (p.layer_start + (p.interpreter if interpreted else 0.0)) / cpu_mhz
    n = work.batches
    us = n * (words + fill + output + weights + overhead)
    bar = WEIGHTS_BAR if weights > words + fill + output else BAR
    return LayerTime(n * words, n * fill, n * output, n * weights, n * overhead, us * kpu_mhz, Estimate.within(us, bar))

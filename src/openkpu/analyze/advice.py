"""What to do about a slow model: where its time goes, why, and the change that helps, in a few sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from openkpu.analyze.profile import Profile, StepProfile
from openkpu.k210 import AI_LINE_BYTES, KPU_TAPS
from openkpu.kpu.fmap import FeatureMapLayout

MUCH: Final = 0.05
"""Share of the whole time from which something is worth a sentence."""
MOST_LAYERS: Final = 4
MOST: Final = 6

_CPU_HELP: Final = {
    "Dequantize": "make the output smaller: fewer channels, or one more pooling before it",
    "ChannelwiseDequantize": "make the output smaller: fewer channels, or one more pooling before it",
    "DequantizeTensor": "keep the value on the KPU: replace the operator after it by one that the KPU runs",
    "Quantize": "keep the value on the KPU: replace the operator before it by one that the KPU runs",
    "QuantizeTensor": "keep the value on the KPU: replace the operator before it by one that the KPU runs",
    "FullyConnected": "a 1x1 convolution on a map of at least 4x4 runs on the KPU",
    "MatMul": "a 1x1 convolution on a map of at least 4x4 runs on the KPU",
    "Softmax": "leave it out if only the order of the classes counts",
    "SoftmaxTensor": "leave it out if only the order of the classes counts",
    "Unary": "leave it to the script, and there to the few values that matter",
    "TransposeTensor": "let the model take and give channels first (NCHW), as the chip has them",
    "QuantizedBinary": "kmodel V3 adds feature maps on the KPU",
    "Binary": "give mean and std to the compiler of kmodel V3, which puts them into the first layer",
    "PadTensor": "pad 1 pixel round 3x3 convolutions, and use sizes that stay even at every stride",
    "QuantizedMaxPool": "use 2x2 pooling with stride 2 on an even size, which the KPU does",
    "GlobalAveragePool": "pool the map to 4x4 or less on the KPU first",
}
"""Step -> the change that helps."""


def advice(p: Profile) -> list[str]:
    """Return the sentences, the most useful first; at least one."""
    found = [*_cpu(p), *_layers(p), *_transfers(p), *_version(p)][:MOST]
    return found or ["The time is spread evenly: fewer channels or a smaller picture are what is left."]


def _share(p: Profile, us: float) -> str:
    return f"{100 * us / p.total.us:.0f} % of the time"


def _layers(p: Profile) -> Iterator[str]:
    """The KPU layers that cost most, alike ones together."""
    groups: dict[tuple[object, ...], list[StepProfile]] = defaultdict(list)
    for s in p.steps:
        if s.work is not None:
            groups[(s.work, s.bottleneck, s.detail)].append(s)
    ranked = sorted(groups.values(), key=lambda g: -sum(s.time.us for s in g))
    reasons: dict[str, list[list[StepProfile]]] = defaultdict(list)
    for group in ranked[:MOST_LAYERS]:
        if sum(s.time.us for s in group) >= MUCH * p.total.us:
            reasons[_reason(group[0])].append(group)
    for reason, alike in reasons.items():
        us = sum(s.time.us for group in alike for s in group)
        yield f"{', '.join(map(_names, alike))}: {_share(p, us)}, {reason}"


def _names(group: list[StepProfile]) -> str:
    names = [s.name or f"step {s.index}" for s in group]
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} more like them"]
    shape = "x".join(map(str, group[0].output_shape))
    return f"{', '.join(names)} ({group[0].detail}, {shape})"


def _reason(s: StepProfile) -> str:
    work = s.work
    assert work is not None
    c, h, w = work.c, work.h, work.w
    group = FeatureMapLayout(c, h, w).group
    pixels = -(-w // AI_LINE_BYTES) * AI_LINE_BYTES // group
    kept = s.output_shape[-1] * s.output_shape[-2] / (h * w)
    if s.bottleneck == "weights":
        return f"waiting for {work.weight_bytes} bytes of weights: fewer channels, or more pixels to use them on"
    if s.bottleneck == "DMA":
        return "most of it bringing the result to main RAM: give the layer fewer output channels or pool it"
    if s.bottleneck == "overhead":
        return "most of it starting the layer: merge small layers"
    if kept < 0.6 and "pick" in s.detail:
        return f"and only {100 * kept:.0f} % of what it computes is kept (the KPU strides afterwards): stride earlier"
    if pixels > 1.25 * w:
        return f"a row of {w} pixels costs as much as one of {pixels}: {_full(w, pixels)}"
    if s.bottleneck == "fill":
        return f"passes over only {h} rows spend more time to start than to compute: fewer channels at this size"
    if work.depthwise:
        return "depthwise: batch norm and activation of every pixel for nine multiplications; nothing is wrong with it"
    if work.kernel == 1:
        return f"1x1: a 3x3 layer of as many channels takes as long and does {KPU_TAPS} times the work"
    return "the KPU runs at full speed: only fewer channels or a smaller picture help"


def _full(w: int, pixels: int) -> str:
    """Widths that fill whole parts of a line: 16, 32 and multiples of 64."""
    below = [full for full in (16, 32, *range(AI_LINE_BYTES, w, AI_LINE_BYTES)) if full < w]
    if not below:
        return f"at this size only fewer channels help, or a map {pixels} pixels wide for the same price"
    return f"a width of {below[-1]} or {pixels} wastes nothing"


def _cpu(p: Profile) -> Iterator[str]:
    """The CPU's work, by kind of step."""
    kinds: dict[str, list[StepProfile]] = defaultdict(list)
    for s in p.steps:
        if s.where == "CPU" and s.index >= 0:
            kinds[s.op].append(s)
    for op, steps in sorted(kinds.items(), key=lambda item: -sum(s.time.us for s in item[1])):
        us = sum(s.time.us for s in steps)
        if us >= MUCH * p.total.us:
            times = f"{len(steps)}x " if len(steps) > 1 else ""
            help_ = _CPU_HELP.get(op, "look for a form of it that the KPU runs: kpu check names the rules")
            yield f"{times}{op} on the CPU: {_share(p, us)}; {help_}"


def _transfers(p: Profile) -> Iterator[str]:
    """The way in."""
    for s in p.steps:
        if s.index < 0 and s.where == "CPU" and s.ai_moved and s.time.us >= MUCH * p.total.us:
            yield (
                f"The CPU copies the input into AI RAM, {_share(p, s.time.us)}: a width that is a multiple of "
                f"{AI_LINE_BYTES} goes in by DMA"
            )


def _version(p: Profile) -> Iterator[str]:
    """What another version of the file would change."""
    if p.version > 3 and p.cpu_share > 0.3:
        yield (
            f"The CPU works {100 * p.cpu_share:.0f} % of the time. The runtime of kmodel V{p.version} is slow at it: "
            "compile the model for V3, which keeps more of it on the KPU"
        )

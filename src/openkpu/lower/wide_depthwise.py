"""Depthwise kernels wider than 3x3: some channels at a time, in the form and the parts that are cheapest.

The 3x3 layer over shifted copies (``wide``) is dense, and for a depthwise kernel nearly all of its weights are zeros:
weights and time grow with the square of the channels, so it is made for a few channels at a time. A 5x5 kernel has a
second form of half the weights: a 1x1 layer writes the map nine times, a depthwise layer shifts the copies, another
applies each copy's taps, and a 1x1 layer adds the nine up. The nine parts of the sum are rounded to 8 bits; copies and
shifts are exact.

Both cost far more bytes than the kernel has. A runtime that has convolutions on the CPU (V4, V5) gets them there when
the file would outgrow main RAM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
from openkpu.estimate import price
from openkpu.estimate.cpu import RUNTIMES
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import AI_RAM_BYTES, MAX_CHANNELS
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.lower import wide
from openkpu.lower.context import Context
from openkpu.lower.view import View

Array = NDArray[Any]
ROUNDED: Final = 3.0
"""By how much the form of four layers must be cheaper where a file need not be streamed: its parts are rounded."""
STEP: Final = 4
"""Channels of a part: multiples of it fill the lines of AI RAM at any width."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many channels at a time, in which form, and what all parts cost."""

    share: int
    ends: int
    """Channels at a time of the first and the last of four layers; 0: one dense layer instead."""
    layers: price.Layers


def plan(ctx: Context, node: Node, x: View, w: Array, pads: tuple[int, ...]) -> Plan:
    """Return the cheapest way; E212 where there is none or the target's CPU is the better place."""
    kernels = wide.copies(node, w, x.size, pads)
    found = _cheapest(node, x, kernels, ctx.layer_us)
    if found is None:
        raise _refuse(node, x, len(kernels), "its copies of a few channels already exceed AI RAM")
    if ctx.target.has("Conv"):
        on_cpu = _cpu_us(ctx.target.version, node, x, w)
        if found.layers.us > on_cpu:
            raise _refuse(node, x, len(kernels), f"{found.layers.us / 1000:.1f} ms, the CPU takes {on_cpu / 1000:.1f}")
        if found.layers.bytes > ctx.room:
            why = f"{found.layers.bytes} bytes of the file, and main RAM has {max(0, ctx.room)} left for such layers"
            raise _refuse(node, x, len(kernels), why)
        ctx.room -= found.layers.bytes
    return found


def _refuse(node: Node, x: View, copies: int, why: str) -> UnsupportedError:
    kernel = "x".join(map(str, node.inputs[1].shape[2:]))
    return UnsupportedError(
        "E212",
        f"depthwise {kernel} convolution with dilation {'x'.join(map(str, node.attrs['dilations']))}",
        where=node.label,
        why=f"on the KPU it takes {copies} shifted copies of {x.channels} channels of {x.width}x{x.height}: {why}",
        fix="replace it by a chain of 3x3 convolutions (two 3x3 see as much as one 5x5)",
    )


def _cheapest(node: Node, x: View, kernels: dict[tuple[int, int], Array], layer_us: float) -> Plan | None:
    c, n = x.channels, len(kernels)
    farthest = max(max(map(abs, shift)) for shift in kernels)
    if farthest > wide.MOST_SHIFTS:
        return None
    result = FeatureMapLayout(node.output.shape[1], *node.output.shape[2:]).bytes
    room = AI_RAM_BYTES - x.layout.bytes - result
    best: Plan | None = None
    least = 0.0
    for share in sorted({*range(STEP, min(c, MAX_CHANNELS // n) + 1, STEP), *([c] if c * n <= MAX_CHANNELS else [])}):
        copies = FeatureMapLayout(n * share, *x.physical).bytes
        parts = [(share, c // share), (c % share, 1)] if c % share else [(share, c // share)]
        for ends in (0, *_ends(share)) if farthest <= 1 < n else (0,):
            if copies * (2 if ends else 1) > room:
                continue
            layers = price.Layers()
            for part, times in parts:
                if ends:
                    layers += price.wide_depthwise_in_four(part, *x.physical, n, ends) * times
                else:
                    layers += price.wide_depthwise(part, *x.physical, n) * times
            cost = layers.cost(layer_us) * (ROUNDED if ends and layer_us == 0 else 1.0)
            if best is None or cost < least:
                best, least = Plan(share, ends, layers), cost
    return best


def _ends(share: int) -> list[int]:
    """Return into how many channels at a time a part may be split for its first and last layers."""
    return [share, *(k for k in range(STEP, share // 2 + 1, STEP) if share % k == 0)]


def _cpu_us(version: int, node: Node, x: View, w: Array) -> float:
    """Return the time of the target's own convolution, with the map's way there and back."""
    r = RUNTIMES[version]
    there, back = int(np.prod(node.inputs[0].shape)), int(np.prod(node.output.shape))
    taps = int(np.prod(w.shape[2:]))
    ns = there * (r.download.ns + r.dequantize.ns) + back * (taps * r.mac.ns + r.quantize.ns + r.upload_bytes.ns)
    return ns / 1000


Last = tuple[slice, tuple[View, Array, tuple[int, ...]]]
"""Some channels, and the operands of the layer that computes them: map, kernel, and the padding that is left."""


def in_four_layers(
    ctx: Context, node: Node, x: View, w: Array, pads: tuple[int, ...], ends: int, stem: str
) -> Iterator[Last]:
    """Emit the first three layers, and yield what the last ones read, ``ends`` channels at a time.

    What a copy's taps can give at most is divided out and multiplied back in the sum, so that all copies use the range
    of their 8 bits.
    """
    kernels = wide.copies(node, w, x.size, pads)
    n = len(kernels)
    blocks = [slice(i, min(i + ends, x.channels)) for i in range(0, x.channels, ends)]
    made: list[Tensor] = []
    for block in blocks:
        c = block.stop - block.start
        name = stem if len(blocks) == 1 else f"{stem}.{block.start}"
        again = np.tile(np.eye(c, dtype=np.float32), (n, 1)).reshape(n * c, c, 1, 1)
        t = ctx.channels(x.tensor, block.start, c, f"{name}.in")
        made.append(ctx.kpu_conv(t, again, np.zeros(n * c, np.float32), f"{name}.copies"))
    t = ctx.concat(made, f"{stem}.copies")
    move: list[Array] = []
    taps: list[Array] = []
    for block in blocks:
        for (down, along), kernel in kernels.items():
            one = np.zeros((block.stop - block.start, 1, 3, 3), np.float32)
            one[:, 0, 1 + down, 1 + along] = 1
            move.append(one)
            taps.append(kernel[block])
    zero = np.zeros(n * x.channels, np.float32)
    t = ctx.kpu_conv(t, np.concatenate(move), zero, f"{stem}.shift", depthwise=True)
    every = np.concatenate(taps)
    most = np.abs(every).sum((1, 2, 3))
    most[most == 0] = 1
    t = ctx.kpu_conv(t, every / most[:, None, None, None], zero, f"{stem}.taps", depthwise=True)
    (centre, _), (oh, ow) = wide.reach(node, w), node.output.shape[2:]
    sh, sw = node.attrs["strides"]
    top, left = centre[0] - pads[0], centre[1] - pads[1]
    if (sh, sw) == (2, 2) and (top % 2 or left % 2):
        # the sum samples even rows and columns
        t = ctx.identity(t, f"{stem}.even", shift=(top % 2, left % 2))
        top, left = top - top % 2, left - left % 2
    place = (top, left, (oh - 1) * sh + 1, (ow - 1) * sw + 1)
    for block in blocks:
        c, first = block.stop - block.start, n * block.start
        total = np.zeros((c, n * c, 1, 1), np.float32)
        for i in range(n):
            total[range(c), range(i * c, (i + 1) * c), 0, 0] = most[first + i * c : first + (i + 1) * c]
        part = ctx.channels(t, first, n * c, f"{stem}.{block.start}.sum")
        yield block, (View(part, *place), total, (0, 0, 0, 0))


def last_layers(ctx: Context, node: Node, x: View, w: Array, pads: tuple[int, ...], stem: str) -> Iterator[Last]:
    """Plan the convolution, emit all of its layers but the last ones, and yield their operands."""
    found = plan(ctx, node, x, w, pads)
    for first in range(0, x.channels, found.share):
        some = slice(first, min(first + found.share, x.channels))
        name = stem if found.share >= x.channels else f"{stem}.from{first}"
        part = View.whole(ctx.channels(x.tensor, first, some.stop - first, f"{name}.in"))
        if not found.ends:
            yield some, wide.gather(ctx, node, part, w[some], pads, name)
            continue
        for block, operands in in_four_layers(ctx, node, part, w[some], pads, found.ends, name):
            yield slice(first + block.start, first + block.stop), operands

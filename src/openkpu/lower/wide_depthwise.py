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

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
from openkpu.estimate import price
from openkpu.estimate.cpu import RUNTIMES
from openkpu.graph.ir import Node
from openkpu.k210 import AI_RAM_BYTES, MAX_CHANNELS
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.lower import wide
from openkpu.lower.context import Context
from openkpu.lower.view import View

Array = NDArray[Any]
STEP: Final = 4
"""Channels of a part: multiples of it fill the lines of AI RAM at any width."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many channels at a time, in which form, and what all parts cost."""

    share: int
    in_four: bool
    layers: price.Layers


def plan(ctx: Context, node: Node, x: View, w: Array) -> Plan:
    """Return the cheapest way; ``UnsupportedError`` E212 where there is none or the target's CPU is the better place."""
    kernels = wide.copies(node, w, x.size)
    found = _cheapest(node, x, kernels)
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


def _cheapest(node: Node, x: View, kernels: dict[tuple[int, int], Array]) -> Plan | None:
    c, n = x.channels, len(kernels)
    farthest = max(max(map(abs, shift)) for shift in kernels)
    if farthest > wide.MOST_SHIFTS:
        return None
    result = FeatureMapLayout(node.output.shape[1], *node.output.shape[2:]).bytes
    room = AI_RAM_BYTES - x.layout.bytes - result
    best: Plan | None = None
    for share in sorted({*range(STEP, min(c, MAX_CHANNELS // n) + 1, STEP), *([c] if c * n <= MAX_CHANNELS else [])}):
        copies = FeatureMapLayout(n * share, *x.physical).bytes
        parts = [share] * (c // share) + ([c % share] if c % share else [])
        for in_four in (False, True):
            if copies * (2 if in_four else 1) > room or (in_four and (farthest > 1 or n == 1)):
                continue
            of = price.wide_depthwise_in_four if in_four else price.wide_depthwise
            layers = sum((of(p, *x.physical, n) for p in parts), price.Layers())
            if best is None or layers.cost < best.layers.cost:
                best = Plan(share, in_four, layers)
    return best


def _cpu_us(version: int, node: Node, x: View, w: Array) -> float:
    """Return the time of the target's own convolution, with the map's way there and back."""
    r = RUNTIMES[version]
    there, back = int(np.prod(node.inputs[0].shape)), int(np.prod(node.output.shape))
    taps = int(np.prod(w.shape[2:]))
    ns = there * (r.download.ns + r.dequantize.ns) + back * (taps * r.mac.ns + r.quantize.ns + r.upload_bytes.ns)
    return ns / 1000


def in_four_layers(
    ctx: Context, node: Node, x: View, w: Array, pads: tuple[int, ...], stem: str
) -> tuple[View, Array, tuple[int, ...]]:
    """Emit the first three layers; returns their map, the 1x1 kernel of the fourth, and the padding that is left.

    What a copy's taps can give at most is divided out and multiplied back in the sum, so that all copies use the range
    of their 8 bits.
    """
    kernels = wide.copies(node, w, x.size)
    c, n, t = x.channels, len(kernels), x.tensor
    again = np.tile(np.eye(c, dtype=np.float32), (n, 1)).reshape(n * c, c, 1, 1)
    zero = np.zeros(n * c, np.float32)
    t = ctx.kpu_conv(t, again, zero, f"{stem}.copies")
    move = np.zeros((n * c, 1, 3, 3), np.float32)
    for i, (down, along) in enumerate(kernels):
        move[i * c : (i + 1) * c, 0, 1 + down, 1 + along] = 1
    t = ctx.kpu_conv(t, move, zero, f"{stem}.shift", depthwise=True)
    taps = np.concatenate(list(kernels.values()))
    most = np.abs(taps).sum((1, 2, 3))
    most[most == 0] = 1
    t = ctx.kpu_conv(t, taps / most[:, None, None, None], zero, f"{stem}.taps", depthwise=True)
    total = np.zeros((c, n * c, 1, 1), np.float32)
    for i in range(n):
        total[range(c), range(i * c, (i + 1) * c), 0, 0] = most[i * c : (i + 1) * c]
    (centre, _), (oh, ow) = wide.reach(node, w), node.output.shape[2:]
    sh, sw = node.attrs["strides"]
    view = View(t, centre[0] - pads[0], centre[1] - pads[1], (oh - 1) * sh + 1, (ow - 1) * sw + 1)
    return view, total, (0, 0, 0, 0)

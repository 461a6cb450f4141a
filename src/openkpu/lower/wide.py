"""Kernels wider than 3x3, and dilated ones, as one 3x3 convolution over shifted copies of the map.

A tap ``o`` pixels away is tap -1 or +1 of a copy that is shifted by ``o``'s other pixels. A shift by one pixel is a
depthwise 3x3 layer with a single tap; the zeros that it brings in are the convolution's own padding, and what it pushes
out no tap of that side reads, so the result is exact. A 5x5 kernel needs 9 maps (the map and 8 copies), a dilated
3x3 one as well, a 7x7 kernel 25.

The 3x3 layer over the copies is dense. Depthwise kernels have a second form: ``wide_depthwise``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
from openkpu.estimate import price
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import MAX_CHANNELS, MIN_SIZE
from openkpu.lower.context import Context
from openkpu.lower.view import View

Array = NDArray[Any]
MOST_SHIFTS = 16
"""Longest shift, in pixels and so in KPU layers; known networks dilate by up to 12."""


def is_wide(w: Array, dilations: tuple[int, int]) -> bool:
    """Whether some tap lies outside the 3x3 window."""
    return any((k - 1) * d > 2 for k, d in zip(w.shape[2:], dilations, strict=True))


def undilated(w: Array, dilations: tuple[int, int]) -> Array:
    """Write a dilated kernel with its zeros."""
    (kh, kw), (dy, dx) = w.shape[2:], dilations
    result = np.zeros((*w.shape[:2], (kh - 1) * dy + 1, (kw - 1) * dx + 1), np.float32)
    result[:, :, ::dy, ::dx] = w
    return result


def settle(ctx: Context, node: Node, x: View, w: Array, stem: str) -> tuple[View, tuple[int, ...]]:
    """Return the picture as a whole map of at least 4x4 with zeros round it, and the padding that is left to do."""
    pads = node.attrs["pads"]
    (top, left), (bottom, right) = reach(node, w)
    # stride 2 takes even rows: with an odd distance of the first window's centre the picture is better in an odd place
    even = (top - pads[0]) % 2 == (left - pads[1]) % 2 == 0
    anywhere = tuple(node.attrs["strides"]) != (1, 1) and even
    if all(p <= r for p, r in zip(pads, (top, left, bottom, right), strict=True)):
        x = x if x.clean or x.is_whole else _cleared(ctx, x, stem, anywhere) or x
        if (x.clean or x.is_whole) and x.step == 1 and min(x.physical) >= MIN_SIZE:
            inside = (x.top, x.left, x.physical[0] - x.top - x.height, x.physical[1] - x.left - x.width)
            return View.whole(x.tensor), tuple(p - n for p, n in zip(pads, inside, strict=True))
    x = ctx.materialize(x, stem)
    if any(p > r for p, r in zip(pads, (top, left, bottom, right), strict=True)):
        # windows centred outside the map would read beyond what the shifted copies hold
        why = f"a wide kernel with padding {pads} beyond 'same'"
        x, pads = ctx.pad(x, pads, stem, why, "use 'same' padding"), (0, 0, 0, 0)
    below, beside = (max(0, MIN_SIZE - n) for n in x.physical)
    if below or beside:
        why = f"the KPU takes maps of at least {MIN_SIZE}x{MIN_SIZE}; this has {x.width}x{x.height}"
        x = ctx.pad(x, (0, 0, below, beside), stem, why, f"keep maps at {MIN_SIZE}x{MIN_SIZE} or more")
        pads = (pads[0], pads[1], pads[2] - below, pads[3] - beside)
    return x, tuple(pads)


def _cleared(ctx: Context, x: View, stem: str, anywhere: bool) -> View | None:
    """Put zeros round a part of a map by pushing what surrounds it out of the map; None where the CPU is faster.

    First it leaves above and to the left, then below and to the right: the picture ends in the lower right corner. A
    picture that was there before has zeros below and to its right after the first half, which is enough where it may be
    ``anywhere``.
    """
    below, beside = x.physical[0] - x.height, x.physical[1] - x.width
    back, forth = max(x.top, x.left), max(below, beside)
    if anywhere and (x.top, x.left) == (below, beside):
        forth = below = beside = 0
    if x.step != 1 or x.is_whole or min(x.physical) < MIN_SIZE:
        return None
    shape = (x.channels, *x.physical)
    us = (back + forth) * price.kpu_layer_us(*shape, x.channels, kernel=3, depthwise=x.channels > 1)
    if us > price.cpu_pool_us(int(np.prod(shape)), x.channels * x.height * x.width, 1, width=x.width):
        return None
    t = x.tensor
    for i in range(back):
        t = ctx.identity(t, f"{stem}.corner", shift=(int(i < x.top), int(i < x.left)))
    for i in range(forth):
        t = ctx.identity(t, f"{stem}.corner", shift=(-int(i < below), -int(i < beside)))
    return replace(x, tensor=t, top=below, left=beside, clean=True)


def reach(node: Node, w: Array) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how far the kernel reaches before and behind its centre: rows and columns."""
    spans = [(k - 1) * d for k, d in zip(w.shape[2:], node.attrs["dilations"], strict=True)]
    before = spans[0] // 2, spans[1] // 2
    return before, (spans[0] - before[0], spans[1] - before[1])


def gather(
    ctx: Context, node: Node, x: View, w: Array, pads: tuple[int, ...], stem: str
) -> tuple[View, Array, tuple[int, ...]]:
    """Return the maps side by side, the dense 3x3 kernel over them, and the padding that is left."""
    (kh, kw), (dy, dx) = w.shape[2:], node.attrs["dilations"]
    centre, behind = reach(node, w)
    t, w = ctx.whole_lines(x.tensor, dense(w) if w.shape[1] < x.channels else w, stem)
    c = t.shape[1]
    kernels = copies(node, w, x.size, pads)
    farthest = max(max(map(abs, shift)) for shift in kernels)
    if len(kernels) * c > MAX_CHANNELS or farthest > MOST_SHIFTS:
        raise UnsupportedError(
            "E212",
            f"{kh}x{kw} convolution with dilation {dy}x{dx}",
            where=node.label,
            why=f"it becomes a 3x3 convolution over {len(kernels)} shifted copies of the map, {c} channels of "
            f"{x.width}x{x.height} become {len(kernels) * c}, limit {MAX_CHANNELS}; the longest shift is {farthest} "
            f"pixels, limit {MOST_SHIFTS}",
            fix="replace it by a chain of 3x3 convolutions (two 3x3 see as much as one 5x5)",
        )
    made: dict[tuple[int, int], Tensor] = {(0, 0): t}
    maps = [_shifted(ctx, made, shift, stem) for shift in kernels]
    left = (pads[0] - centre[0] + 1, pads[1] - centre[1] + 1)
    right = (pads[2] - behind[0] + 1, pads[3] - behind[1] + 1)
    view = View.whole(ctx.concat(maps, f"{stem}.taps"))
    return view, np.concatenate(list(kernels.values()), axis=1), (*left, *right)


def copies(node: Node, w: Array, size: tuple[int, int], pads: tuple[int, ...]) -> dict[tuple[int, int], Array]:
    """Return the 3x3 kernel of every copy of a map of this size, by its shift (rows, columns).

    Where ``pads`` are less than the node's, the map itself has zeros at that side.
    """
    zeros = [a - b for a, b in zip(node.attrs["pads"], pads, strict=True)]
    offsets = [
        _offsets(w.shape[2 + i], node.attrs["dilations"][i], size[i], (zeros[i] > 0, zeros[2 + i] > 0)) for i in (0, 1)
    ]
    kernels: dict[tuple[int, int], Array] = {}
    for i, shift_y, tap_y in offsets[0]:
        for j, shift_x, tap_x in offsets[1]:
            k = kernels.setdefault((shift_y, shift_x), np.zeros((*w.shape[:2], 3, 3), np.float32))
            k[:, :, 1 + tap_y, 1 + tap_x] += w[:, :, i, j]
    return kernels or {(0, 0): np.zeros((*w.shape[:2], 3, 3), np.float32)}


def _offsets(taps: int, dilation: int, size: int, zeros: tuple[bool, bool]) -> list[tuple[int, int, int]]:
    """Return (tap, shift, tap of the shifted copy) of a kernel's rows or columns that do not only meet padding.

    ``zeros``: whether the map's first or last rows are zeros. Then two copies are enough for five taps: what the copy
    that is shifted by one reads beyond the map, or has lost, is such a row.
    """
    centre = (taps - 1) * dilation // 2
    offsets = [(i, i * dilation - centre) for i in range(taps) if abs(i * dilation - centre) < size]
    if not any(zeros) or min(o for _, o in offsets) > -2 or max(map(abs, (o for _, o in offsets))) > 2:
        return [(i, *_split(o)) for i, o in offsets]
    middle = 1 if zeros[0] else -1
    shifts = [int(np.sign(o)) or middle for _, o in offsets]
    return [(i, s, o - s) for (i, o), s in zip(offsets, shifts, strict=True)]


def _split(offset: int) -> tuple[int, int]:
    """Return (shift, tap) of an offset: the tap is -1, 0 or 1 and on the shift's side."""
    tap = int(np.sign(offset))
    return (offset - tap, tap) if abs(offset) > 1 else (0, offset)


def _shifted(ctx: Context, made: dict[tuple[int, int], Tensor], shift: tuple[int, int], stem: str) -> Tensor:
    """Return the copy shifted by (rows, columns), made from one that is a pixel nearer."""
    if shift not in made:
        step = int(np.sign(shift[0])), int(np.sign(shift[1]))
        nearer = _shifted(ctx, made, (shift[0] - step[0], shift[1] - step[1]), stem)
        made[shift] = ctx.identity(nearer, f"{stem}.shift", shift=step)
    return made[shift]


def dense(w: Array) -> Array:
    """Write a depthwise kernel (c, 1, k, k) as a dense one."""
    c = w.shape[0]
    result = np.zeros((c, c, *w.shape[2:]), np.float32)
    result[range(c), range(c)] = w[:, 0]
    return result

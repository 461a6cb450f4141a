"""Kernels wider than 3x3, and dilated ones, as one 3x3 convolution over shifted copies of the map.

A tap ``o`` pixels away is tap -1 or +1 of a copy that is shifted by ``o``'s other pixels. A shift by one pixel is a
depthwise 3x3 layer with a single tap; the zeros that it brings in are the convolution's own padding, and what it pushes
out no tap of that side reads, so the result is exact. A 5x5 kernel needs 9 maps (the map and 8 copies), a dilated
3x3 one as well, a 7x7 kernel 25.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
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


def gather(
    ctx: Context, node: Node, x: View, w: Array, depthwise: bool, stem: str
) -> tuple[View, Array, tuple[int, ...]]:
    """Return the maps side by side, the dense 3x3 kernel over them, and the padding that is left."""
    (dy, dx), pads = node.attrs["dilations"], node.attrs["pads"]
    kh, kw = w.shape[2:]
    centre = (kh - 1) * dy // 2, (kw - 1) * dx // 2
    behind = (kh - 1) * dy - centre[0], (kw - 1) * dx - centre[1]
    x = ctx.materialize(x, stem)
    too_far = pads[0] > centre[0] or pads[1] > centre[1] or pads[2] > behind[0] or pads[3] > behind[1]
    if too_far or min(x.physical) < MIN_SIZE:
        # windows centred outside the map would read beyond what the shifted copies hold
        why = f"a wide kernel with padding {pads} beyond 'same'"
        x, pads = ctx.pad(x, pads, stem, why, "use 'same' padding"), (0, 0, 0, 0)
    t, w = ctx.whole_lines(x.tensor, dense(w) if depthwise else w, stem)
    c = t.shape[1]
    kernels: dict[tuple[int, int], Array] = {}
    for i in range(kh):
        for j in range(kw):
            if abs(i * dy - centre[0]) >= x.height or abs(j * dx - centre[1]) >= x.width:
                continue  # such a tap only ever meets the padding
            shift_y, tap_y = _split(i * dy - centre[0])
            shift_x, tap_x = _split(j * dx - centre[1])
            k = kernels.setdefault((shift_y, shift_x), np.zeros((w.shape[0], c, 3, 3), np.float32))
            k[:, :, 1 + tap_y, 1 + tap_x] += w[:, :, i, j]
    kernels = kernels or {(0, 0): np.zeros((w.shape[0], c, 3, 3), np.float32)}
    farthest = max(max(map(abs, shift)) for shift in kernels)
    if len(kernels) * c > MAX_CHANNELS or min(x.physical) < MIN_SIZE or farthest > MOST_SHIFTS:
        raise UnsupportedError(
            "E212",
            f"{kh}x{kw} convolution with dilation {dy}x{dx}",
            where=node.label,
            why=f"it becomes a 3x3 convolution over {len(kernels)} shifted copies of the map, which must be at "
            f"least 4x4; {c} channels of {x.width}x{x.height} become {len(kernels) * c}, limit {MAX_CHANNELS}; the "
            f"longest shift is {farthest} pixels, limit {MOST_SHIFTS}",
            fix="replace it by a chain of 3x3 convolutions (two 3x3 see as much as one 5x5)",
        )
    made: dict[tuple[int, int], Tensor] = {(0, 0): t}
    maps = [_shifted(ctx, made, shift, stem) for shift in kernels]
    left = (pads[0] - centre[0] + 1, pads[1] - centre[1] + 1)
    right = (pads[2] - behind[0] + 1, pads[3] - behind[1] + 1)
    view = View.whole(ctx.concat(maps, f"{stem}.taps"))
    return view, np.concatenate(list(kernels.values()), axis=1), (*left, *right)


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

"""Pictures inside feature maps, put right by the KPU: shifted, freed of what surrounds them, pooled, sampled.

All of it is exact, byte for byte (``KpuMove``), and a trip through main RAM less. What it costs there and here is
compared; ``None`` means that the KPU cannot, or that the CPU is faster.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from openkpu.estimate import price
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import MAX_CHANNELS, MIN_SIZE
from openkpu.kpu.constraints import LayerShape, ai_ram
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.lower.byte_move import Bytes, move
from openkpu.lower.context import Context
from openkpu.lower.ops import POOLS
from openkpu.lower.view import View

Attributes = dict[str, Any]
Part = tuple[int, int, int, int]

MOST_NARROWINGS = 96
"""Widest margin of a frame, in pixels and so in KPU layers."""
MOST_SHIFTS = 4


def attributes(
    *,
    shift: tuple[int, int] = (0, 0),
    keep: Part | None = None,
    low: bool = False,
    pool: str = "none",
    picture: Part | None = None,
    touched: bool = False,
) -> Attributes:
    """Return the attributes of a ``KpuMove``; see ``lower.ops``."""
    return {"shift": shift, "keep": keep, "low": low, "pool": pool, "picture": picture, "touched": touched}


def emit(ctx: Context, t: Tensor, steps: list[Attributes], stem: str) -> Tensor:
    """Append the moves, one after the other."""
    for a in steps:
        stride = POOLS[a["pool"]][1]
        size = t.shape[2] // stride, t.shape[3] // stride
        ctx.spent += steps_us(t.shape[1], (t.shape[2], t.shape[3]), [a], ctx.target.version) or 0.0
        t = ctx.emit("KpuMove", [t], (1, t.shape[1], *size), stem, **a)
    return t


def steps_us(c: int, size: tuple[int, int], steps: list[Attributes], version: int) -> float | None:
    """Return what the moves of a map (c, *size) cost; None where they do not fit the KPU."""
    total, (h, w) = 0.0, size
    for a in steps:
        for number, keep in enumerate((a["keep"], a["picture"])):
            if number == 1 and keep is None:
                break
            stride = POOLS[a["pool"]][1] if number == 0 else 1
            group = FeatureMapLayout(c, h, w).group
            before = group if keep is not None else 0
            kernel = 3 if a["shift"] != (0, 0) and number == 0 else 1
            pool = a["pool"] if number == 0 else "none"
            depthwise = keep is None and pool == "none" and c > 1
            shape = LayerShape(before + c, (h, w), c, (h // stride, w // stride), pool=pool)
            if before + c > MAX_CHANNELS or ai_ram(shape) is not None:
                return None
            total += price.kpu_layer_us(before + c, h, w, c, kernel=kernel, depthwise=depthwise, version=version)
            if keep is not None:
                margin = max(keep[0], keep[1], h - keep[0] - keep[2], w - keep[1] - keep[3])
                if margin > MOST_NARROWINGS:
                    return None
                full = price.kpu_layer_us(1, h, w, group, kernel=1, depthwise=False, version=version)
                narrow = price.kpu_layer_us(group, h, w, group, kernel=3, depthwise=group > 1, version=version)
                total += full + margin * narrow
            h, w = h // stride, w // stride
    return total


def clean(ctx: Context, v: View, stem: str) -> View | None:
    """Return the picture at its place, with zeros all round; None where cutting it out on the CPU is cheaper."""
    if v.step != 1:
        return None
    key = (id(v.tensor), -1, *v.place)
    if key in ctx.exact:
        return ctx.exact[key]
    steps = [attributes(keep=_part(v))]
    us = steps_us(v.channels, v.physical, steps, ctx.target.version)
    on_cpu = price.cpu_cut_us(
        v.channels * v.physical[0] * v.physical[1], (v.channels, *v.size), version=ctx.target.version
    )
    if us is None or us > on_cpu:
        return None
    _note(ctx, "what surrounds the picture in its map set to zero", us, on_cpu, "cut out")
    result = replace(v, tensor=emit(ctx, v.tensor, steps, f"{stem}.clean"), clean=True)
    ctx.exact[key] = result
    return result


def sampled(ctx: Context, v: View, stem: str) -> View | None:
    """Return a view of step 2 as one of step 1 in a map of half the size."""
    ph, pw = v.physical
    shift = v.top % 2, v.left % 2
    top, left = v.top // 2, v.left // 2
    if v.step != 2 or not ctx.pool_fits(v.physical, "left_top2"):
        return None
    if top + v.height > ph // 2 or left + v.width > pw // 2:
        return None
    steps = [attributes(shift=shift, pool="left_top2")]
    us = steps_us(v.channels, v.physical, steps, ctx.target.version)
    size = v.channels * v.height * v.width
    on_cpu = price.cpu_pool_us(v.channels * ph * pw, size, 1, width=v.width, version=ctx.target.version)
    if us is None or us > on_cpu:
        return None
    _note(ctx, "every second row and column taken", us, on_cpu, "taken")
    return View(emit(ctx, v.tensor, steps, f"{stem}.sampled"), top, left, v.height, v.width)


def shifted(ctx: Context, v: View, to: View, stem: str) -> View | None:
    """Return the picture at the place that another has in a map of the same size; the surroundings stay unknown."""
    dy, dx = v.top - to.top, v.left - to.left
    if v.step != 1 or to.step != 1 or v.physical != to.physical or v.size != to.size or not (dy or dx):
        return None
    count = max(abs(dy), abs(dx))
    steps = []
    for _ in range(count):
        step = int(np.sign(dy)), int(np.sign(dx))
        steps.append(attributes(shift=step))
        dy, dx = dy - step[0], dx - step[1]
    us = steps_us(v.channels, v.physical, steps, ctx.target.version)
    size = v.channels * v.physical[0] * v.physical[1]
    if count > MOST_SHIFTS or us is None:
        return None
    on_cpu = price.cpu_cut_us(size, (v.channels, *v.size), version=ctx.target.version)
    if us > on_cpu:
        return None
    _note(ctx, "one map shifted to the other's place", us, on_cpu, "cut out")
    return to.on(emit(ctx, v.tensor, steps, f"{stem}.shifted"))


def taller(ctx: Context, v: View, oc: int, kernel: int, size: tuple[int, int], stem: str) -> View | None:
    """Return the picture in a map that has one row of zeros more, so that a stride of 2 reaches its last row.

    ``oc``, ``kernel``, ``size`` are those of the layer with the stride: it then works on the whole map.
    """
    (h, w), c, version = v.physical, v.channels, ctx.target.version
    tall = LayerShape(c, (h + 1, w), oc, ((h + 1) // 2, w // 2), pool="left_top2")
    if v.step != 1 or h < 2 * MIN_SIZE or ai_ram(tall) is not None:
        return None
    pieces = (h + 1 - MIN_SIZE, MIN_SIZE)
    rows = sum(price.kpu_rows_us(c, n, w, version=version, layer_us=ctx.layer_us) for n in pieces)
    large = price.kpu_layer_us(c, h + 1, w, oc, kernel=kernel, depthwise=False, version=version)
    small = price.kpu_layer_us(c, *size, oc, kernel=kernel, depthwise=False, version=version)
    on_cpu = price.cpu_pool_us(c * h * w, c * size[0] * size[1], 1, width=size[1], version=version)
    if rows + large - small > on_cpu:
        return None
    ctx.spent += rows
    _note(ctx, "a row of zeros below the map, for the stride", rows + large - small, on_cpu, "sampled")
    attrs = {"first": (0, h - MIN_SIZE), "count": pieces, "shift": (0, 1)}
    t = ctx.emit("KpuRows", [v.tensor, v.tensor], (1, c, h + 1, w), f"{stem}.taller", **attrs)
    whole = v.left == 0 and v.width == w and v.top == 0 and v.height == h
    return replace(v, tensor=t, clean=v.clean or whole)


def max_pool(ctx: Context, v: View, node: Node) -> tuple[float, list[Attributes], View] | None:
    """Return price, moves and resulting place (on the old tensor) of a maximum on the KPU, or None.

    A maximum over k pixels is a chain of maxima over two. Rows before the first come in by shifts, each between two
    of the chain, so that nothing that is needed leaves the map on the other side.
    """
    a = node.attrs
    (k, kw), (s, sw), pads = a["kernel"], a["strides"], a["pads"]
    if v.step != 1 or k != kw or s != sw or s not in (1, 2) or k < 2:
        return None
    oh, ow = node.output.shape[2:]
    first = v.top - pads[0], v.left - pads[1]
    halves = ["max2s1"] * (k % 2) + ["max2"] + ["max2s1"] * ((k - 2) // 2)
    pools = halves if s == 2 else ["max2s1"] * (k - 1)
    halving = pools.index("max2") if s == 2 else len(pools) - 1
    shifts = [(0, 0)] * len(pools)
    dy, dx = (_align(f, s) for f in first)
    places = [halving] if s == 2 else list(range(len(pools) - 1, -1, -2))
    for i in places:
        step = int(np.sign(dy)), int(np.sign(dx))
        shifts[i] = step
        dy, dx = dy - step[0], dx - step[1]
    if dy or dx:
        return None
    begin = tuple((f - _align(f, s)) // s for f in first)
    physical = v.physical[0] // s, v.physical[1] // s
    fits = ctx.pool_fits(v.physical, "max2s1" if s == 1 else "max2")
    if begin[0] + oh > physical[0] or begin[1] + ow > physical[1] or not fits:
        return None
    last = first[0] + (oh - 1) * s + k, first[1] + (ow - 1) * s + k
    around = (
        (first[0] < v.top and v.top > 0)
        or (first[1] < v.left and v.left > 0)
        or (last[0] > v.top + v.height and v.top + v.height < v.physical[0])
        or (last[1] > v.left + v.width and v.left + v.width < v.physical[1])
    )
    steps = [attributes(shift=sh, pool=p, low=True) for sh, p in zip(shifts, pools, strict=True)]
    picture = begin[0], begin[1], oh, ow
    if around:
        steps[0]["keep"] = _part(v)
    same, touched = _try(v, steps, picture, node)
    if not same:
        return None
    if around and picture != (0, 0, *physical):
        steps[-1] |= {"picture": picture, "touched": touched}
    us = steps_us(v.channels, v.physical, steps, ctx.target.version)
    if us is None:
        return None
    result = View(v.tensor, *picture, clean=around)
    return us, steps, result


def _note(ctx: Context, what: str, us: float, on_cpu: float, how: str) -> None:
    ctx.notes.append(f"{what} ({us / 1000:.2f} ms; {how} on the CPU: {on_cpu / 1000:.2f})")


def _align(first: int, stride: int) -> int:
    """Return the shift that brings the first row of a window to a place where windows can begin."""
    if first < 0:
        return first
    return first % stride


def _try(v: View, steps: list[Attributes], picture: Part, node: Node) -> tuple[bool, bool]:
    """Run the moves on one map of random bytes: are they the pooling, and does anything remain outside the picture?"""
    x = np.random.default_rng(0).integers(1, 256, (1, 1, *v.physical), dtype=np.uint8)
    inner: Bytes = x[:, :, v.top : v.top + v.height, v.left : v.left + v.width]
    (k, _), (s, _), pads = node.attrs["kernel"], node.attrs["strides"], node.attrs["pads"]
    top, left, oh, ow = picture
    wide = np.pad(inner, ((0, 0), (0, 0), (pads[0], k * s + k), (pads[1], k * s + k)))
    wanted = np.max([wide[:, :, i : i + oh * s : s, j : j + ow * s : s] for i in range(k) for j in range(k)], axis=0)
    for a in steps:
        x = move(a, x, 0)
    got = x[:, :, top : top + oh, left : left + ow].copy()
    x[:, :, top : top + oh, left : left + ow] = 0
    return bool(got.shape == wanted.shape and (got == wanted).all()), bool(x.any())


def _part(v: View) -> Part:
    return v.top, v.left, v.height, v.width

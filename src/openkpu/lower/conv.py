"""Conv on the KPU: any kernel up to 3x3, any padding, strides, groups, dilation.

The KPU computes output (y, x) from rows y-1..y+1 with one pixel of padding, or takes every second of them (left-top,
right-top). Everything else is expressed through that:

* a smaller kernel is embedded in a 3x3 one; less padding leaves the result as a part of the map (``View``);
* stride 2 samples even rows. Where odd rows are needed (TensorFlow's SAME on even sizes), the map and a copy of it
  shifted by one row go in side by side: rows 2o and 2o+1 come from the map, row 2o+2 from the copy. Odd columns are
  the right-top pooling. Exact, and all on the KPU;
* a depthwise layer has no pooling, so its stride is handed on to the following 1x1 convolution, as shipped V3 files do;
* wider and dilated kernels: shifted copies of the map, each with some of the taps (``wide``);
* groups: a dense kernel with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.graph.elementwise import Expr
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import MAX_CHANNELS, MAX_HEIGHT, MAX_WIDTH, MIN_SIZE
from openkpu.kpu.constraints import LayerShape, broken
from openkpu.lower import decide, moves, wide, wide_depthwise
from openkpu.lower.context import Context
from openkpu.lower.dense import lower_linear
from openkpu.lower.pool import pool_after, pool_for_view
from openkpu.lower.tail import follow
from openkpu.lower.tensor import lower_tensor
from openkpu.lower.view import View

Array = NDArray[Any]
SPARE_SIZE = 16
"""Largest map that is worth a way through main RAM for a spare row."""


@dataclass(frozen=True, slots=True)
class Taps:
    """A convolution over a view: dense or depthwise 3x3/1x1 weights, output o samples map row ``step*o + row``."""

    w: Array
    depthwise: bool
    row: int
    col: int


def lower_conv(ctx: Context, node: Node) -> None:
    """Lower one Conv together with the function and pooling behind it."""
    if not all(t.is_constant for t in node.inputs[1:]):
        raise UnsupportedError(
            "E210",
            "convolution with weights that are computed",
            where=node.label,
            why="the KPU reads its weights from the model file",
            fix="export the model with constant weights",
        )
    x = ctx.map(node.inputs[0])
    if x.size == (1, 1) and x.is_whole and node.output.shape[2:] == (1, 1):
        _as_fully_connected(ctx, node)
        return
    if _may_join_add(ctx, node):
        ctx.deferred[id(node.output)] = node
        return
    _lower_now(ctx, node, _with_spare_row(ctx, node, x))


def _with_spare_row(ctx: Context, node: Node, x: View) -> View:
    """Put a row and a column of zeros before a map that a wide depthwise layer will read, behind this 1x1 layer.

    With room in the map the wide kernel takes 4 copies instead of 9 (``wide.copies``): for a file that must be streamed
    it is worth the way through main RAM, once for all layers of this size.
    """
    reader = ctx.only_user(follow(ctx, node.output, pools=False).end)
    if ctx.layer_us == 0 or not x.is_whole or max(x.size) > SPARE_SIZE or reader is None or reader.op != "Conv":
        return x
    a, kernel = reader.attrs, reader.inputs[1].shape
    if node.inputs[1].shape[2:] != (1, 1) or node.output.shape[2:] != x.size or a["group"] != node.output.shape[1]:
        return x
    if a["group"] != kernel[0] or tuple(kernel[2:]) != (5, 5) or tuple(a["dilations"]) != (1, 1) or max(a["pads"]) > 2:
        return x
    why = "a spare row and column save copies of the map in the wide depthwise layers behind"
    padded = ctx.pad(x, (1, 1, 0, 0), node.output.name, why, "replace 5x5 kernels by 3x3")
    view = View(padded.tensor, 1, 1, x.height, x.width, clean=True)
    ctx.values[id(node.inputs[0])] = view
    return view


def _lower_now(ctx: Context, node: Node, x: View) -> None:
    before = ctx.spent
    tail = follow(ctx, node.output)
    fn = tail.fn
    pool = tail.pool
    a = node.attrs
    w, b = node.weights_and_bias()
    stem = tail.before_pool.name
    out, pool_name = convolve(ctx, node, x, w, b, fn, pool if a["strides"] == (1, 1) or pool is None else None, stem)
    end = tail.before_pool
    user = ctx.only_user(end)
    if out.step == 2 and user is not None and user.op == "Concat":
        out = ctx.materialize(out, stem)  # at once: the other parts need the room
    taken = [n for n in tail.nodes if n is not pool]
    if pool is not None and pool_name is not None:
        ctx.values[id(tail.end)] = pool_after(ctx, out, pool, pool_name, tail.end.name)
        taken.append(pool)
    else:
        ctx.values[id(end)] = out
    ctx.done |= {id(n) for n in taken}
    decide.conv(ctx, node, taken, ctx.spent - before)


def lower_deferred(ctx: Context, t: Tensor) -> None:
    """Lower a convolution that waited for an Add which did not take it in."""
    node = ctx.deferred.pop(id(t), None)
    if node is None:
        return
    origin, ctx.origin = ctx.origin, node.source
    try:
        _lower_now(ctx, node, ctx.map(node.inputs[0]))
    except OpenKPUError as refusal:
        if not lower_tensor(ctx, node, refusal):
            raise
    ctx.origin = origin


def convolve(
    ctx: Context, node: Node, x: View, w: Array, b: Array, fn: Expr | None, pool: Node | None, stem: str
) -> tuple[View, str | None]:
    """Emit the KPU layers of one convolution; returns its view, and the pooling it took in (None if it did not)."""
    a = node.attrs
    w, groups = _regroup(w, a["group"], x.channels)
    depthwise = groups > 1
    _check_limits(node, x)
    pads = tuple(a["pads"])
    if not wide.is_wide(w, a["dilations"]):
        return _convolve(ctx, node, (x, wide.undilated(w, a["dilations"]), b, pads), depthwise, (fn, pool), stem)
    x, pads = wide.settle(ctx, node, x, w, stem)
    if not depthwise:
        x, w, pads = wide.gather(ctx, node, x, w, pads, stem)
        return _convolve(ctx, node, (x, w, b, pads), False, (fn, pool), stem)
    results = []
    for some, (y, v, left) in wide_depthwise.last_layers(ctx, node, x, w, pads, stem):
        name = stem if some == slice(0, x.channels) else f"{stem}.{some.start}"
        results.append(_convolve(ctx, node, (y, v, b[some], left), False, (fn, pool), name))
    view, taken = results[0]
    return view.on(ctx.concat([r.tensor for r, _ in results], stem)), taken


Operands = tuple[View, Array, Array, tuple[int, ...]]
"""A convolution's picture, weights, bias and padding (top, left, bottom, right)."""


def _convolve(
    ctx: Context,
    node: Node,
    operands: Operands,
    depthwise: bool,
    behind: tuple[Expr | None, Node | None],
    stem: str,
) -> tuple[View, str | None]:
    """Emit a convolution with kernels up to 3x3 in the strides of the node; ``behind``: function and pooling."""
    (x, w, b, pads), (fn, pool) = operands, behind
    sh, sw = node.attrs["strides"]
    h, wd = x.size
    oh = (h + pads[0] + pads[2] - w.shape[2]) // sh + 1
    ow = (wd + pads[1] + pads[3] - w.shape[3]) // sw + 1

    if x.step == 2:
        done = None
        if w.shape[2:] == (1, 1) and (sh, sw) == (1, 1) and not any(pads) and not depthwise:
            done = _strided(ctx, x.spread_out(), w, b, fn, (0, 0, 0, 0), (oh, ow), stem)
        if done is not None:
            return done, None
        x = moves.sampled(ctx, x, stem) or ctx.materialize(x, stem)
    last = ((oh - 1) * sh, (ow - 1) * sw)
    if not (x.is_whole or x.clean or _reads_ok(x, w, pads, last)) and _reads_ok(replace(x, clean=True), w, pads, last):
        x = moves.clean(ctx, x, stem) or x
    if min(x.physical) < MIN_SIZE:
        x, pads = _pad_to_fit(ctx, ctx.materialize(x, stem), w, pads, ((oh - 1) * sh, (ow - 1) * sw), stem)
    if (sh, sw) == (2, 2) and not depthwise:
        done = _strided(ctx, x, w, b, fn, pads, (oh, ow), stem)
        if done is not None:
            return done, None
    x, pads = _settle(ctx, x, w, pads, ((oh - 1) * sh, (ow - 1) * sw), stem)
    taps = _embed(w, depthwise, pads[0], pads[1])
    top, left = x.top + taps.row, x.left + taps.col
    one = View(x.tensor, top, left, oh, ow)
    pool_name = None
    if pool is not None and (sh, sw) == (1, 1) and not depthwise:
        pool_name = pool_for_view(ctx, one, pool)
    layer_pool = pool_name.split("+")[0] if pool_name else "none"
    t = ctx.kpu_conv(x.tensor, taps.w, b, stem, fn=fn, pool=layer_pool, depthwise=depthwise)
    if (sh, sw) == (1, 1):
        return View(t, top, left, oh, ow), pool_name
    if (sh, sw) == (2, 2):
        return View(t, top, left, oh, ow, 2), None
    out = ctx.emit(
        "CpuMaxPool",
        [t],
        (1, t.shape[1], oh, ow),
        f"{stem}.slice",
        kernel=(1, 1),
        stride=(sh, sw),
        origin=(top, left),
        size=(oh, ow),
    )
    ctx.on_cpu("stride", t, out, f"the KPU has no stride {sh}x{sw}", "use stride 1, or 2 in both directions")
    return View.whole(out), None


def _strided(
    ctx: Context, x: View, w: Array, b: Array, fn: Expr | None, pads: tuple[int, ...], size: tuple[int, int], stem: str
) -> View | None:
    """Stride 2 inside the KPU; None where its pooling cannot give these pixels."""
    oh, ow = size
    if not ctx.pool_fits(x.physical, "left_top2"):
        return None
    if not _reads_ok(x, w, pads, (2 * (oh - 1), 2 * (ow - 1))):
        return None
    # Some kernels can sit in the 3x3 window in more than one way; choose even origins where possible.
    choice = None
    for row_slack in range(3 - w.shape[2], -1, -1):
        for col_slack in range(3 - w.shape[3], -1, -1):
            row, col = x.top + 1 - pads[0] - row_slack, x.left + 1 - pads[1] - col_slack
            if row < 0 or col < 0:
                continue
            one_by_one = w.shape[2:] == (1, 1)
            centred = one_by_one and (row_slack, col_slack) == (1, 1)
            cost = (row % 2) * 4 + (one_by_one and not centred) * 2 + (col % 2)
            if choice is None or cost < choice[0]:
                choice = (cost, row, col, row_slack, col_slack)
    if choice is None:
        return None
    _, row, col, row_slack, col_slack = choice
    ph, pw = x.physical
    if row // 2 + oh == ph // 2 + 1 and ph % 2 and col // 2 + ow <= pw // 2:
        tall = moves.taller(ctx, x, w.shape[0], 3 if max(w.shape[2:]) > 1 else 1, size, stem)
        if tall is None:
            return None
        x, ph = tall, ph + 1
    if row // 2 + oh > ph // 2 or col // 2 + ow > pw // 2:
        return None
    k = _in_window(w, row_slack, col_slack)
    pool = "right_top2" if col % 2 else "left_top2"
    source = x.tensor
    if row % 2:
        # the window of an odd row reaches one row further down than that of the even row above it
        if 2 * x.channels > MAX_CHANNELS or not x.fills_lines:
            return None
        shifted = ctx.identity(x.tensor, f"{stem}.shift", shift=(1, 0))
        near = np.zeros_like(k)
        near[:, :, 1:] = k[:, :, :2]
        far = np.zeros_like(k)
        far[:, :, 2] = k[:, :, 2]
        source = ctx.concat([x.tensor, shifted], f"{stem}.rows")
        k = np.concatenate([near, far], axis=1)
        row -= 1
    if not k[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]].any():
        k = np.ascontiguousarray(k[:, :, 1:2, 1:2])
    t = ctx.kpu_conv(source, k, b, stem, fn=fn, pool=pool)
    return View(t, row // 2, col // 2, oh, ow)


def _reads_ok(x: View, w: Array, pads: tuple[int, ...], last: tuple[int, int]) -> bool:
    """Whether every tap outside the picture also falls outside the map, where the KPU pads, or on zeros."""
    kh, kw = w.shape[2:]
    ph, pw = x.physical
    if x.clean:
        lowest = min(x.top - pads[0], x.left - pads[1])
        return lowest >= -1 and x.top + last[0] - pads[0] + kh <= ph + 1 and x.left + last[1] - pads[1] + kw <= pw + 1
    low = (x.top == 0 or pads[0] == 0) and (x.left == 0 or pads[1] == 0)
    rows = x.top + last[0] - pads[0] + kh  # first row after the last tap
    cols = x.left + last[1] - pads[1] + kw
    high = (rows <= x.top + x.height or x.top + x.height == ph) and (cols <= x.left + x.width or x.left + x.width == pw)
    return low and high and pads[0] <= 1 and pads[1] <= 1 and rows <= ph + 1 and cols <= pw + 1


def _settle(
    ctx: Context, x: View, w: Array, pads: tuple[int, ...], last: tuple[int, int], stem: str
) -> tuple[View, tuple[int, ...]]:
    """Bring the input into a form whose padding the KPU can give: as it is, cut out, or padded on the CPU."""
    if _reads_ok(x, w, pads, last) and _windows_ok(x, w, pads, last):
        return x, pads
    x = ctx.materialize(x, stem)
    if min(x.physical) >= MIN_SIZE and _reads_ok(x, w, pads, last) and _windows_ok(x, w, pads, last):
        return x, pads
    return _pad_to_fit(ctx, x, w, pads, last, stem)


def _pad_to_fit(
    ctx: Context, x: View, w: Array, pads: tuple[int, ...], last: tuple[int, int], stem: str
) -> tuple[View, tuple[int, ...]]:
    """Pad a whole map on the CPU with the zeros that the taps read and to at least 4x4; no padding is left to do."""
    t, le = pads[0], pads[1]
    b = max(0, last[0] - t + w.shape[2] - x.height)
    r = max(0, last[1] - le + w.shape[3] - x.width)
    b += max(0, MIN_SIZE - (x.height + t + b))
    r += max(0, MIN_SIZE - (x.width + le + r))
    why = f"the KPU pads 1 pixel, on maps of at least {MIN_SIZE}x{MIN_SIZE}; this {x.width}x{x.height} map needs {pads}"
    fix = "pad 1 pixel round 3x3 convolutions, and keep maps at 4x4 or more"
    return ctx.pad(x, (t, le, b, r), stem, why, fix), (0, 0, 0, 0)


def _windows_ok(x: View, w: Array, pads: tuple[int, ...], last: tuple[int, int]) -> bool:
    """Whether the window centres of the first and the last output lie on the map."""
    t = _embed(w, False, pads[0], pads[1])
    row, col = x.top + t.row, x.left + t.col
    return min(row, col) >= 0 and row + last[0] < x.physical[0] and col + last[1] < x.physical[1]


def _embed(w: Array, depthwise: bool, top: int, left: int) -> Taps:
    """Put a kernel into 1x1 or 3x3 form. ``top``, ``left`` are the paddings; the map row of output 0 follows."""
    kh, kw = w.shape[2:]
    if (kh, kw) == (1, 1) and (top, left) == (0, 0):
        return Taps(w, depthwise, 0, 0)
    dy, dx = min(max(1 - top, 0), 3 - kh), min(max(1 - left, 0), 3 - kw)
    return Taps(_in_window(w, dy, dx), depthwise, 1 - top - dy, 1 - left - dx)


def _in_window(w: Array, dy: int, dx: int) -> Array:
    """Put a kernel into a 3x3 one of zeros, its first tap at (dy, dx)."""
    k = np.zeros((*w.shape[:2], 3, 3), np.float32)
    k[:, :, dy : dy + w.shape[2], dx : dx + w.shape[3]] = w
    return k


def _regroup(w: Array, groups: int, channels: int) -> tuple[Array, int]:
    """Return dense or depthwise weights; other groupings become dense with zeros."""
    if groups == 1 or (groups == channels == w.shape[0] and channels > 1):
        return w, groups
    if channels == 1:
        return w, 1
    per_in, per_out = channels // groups, w.shape[0] // groups
    dense = np.zeros((w.shape[0], channels, *w.shape[2:]), np.float32)
    for g in range(groups):
        dense[g * per_out : (g + 1) * per_out, g * per_in : (g + 1) * per_in] = w[g * per_out : (g + 1) * per_out]
    return dense, 1


def _check_limits(node: Node, x: View) -> None:
    """Refuse what no rewrite for V3 can bring onto the KPU. More output channels than it takes are split."""
    s = LayerShape(x.channels, (max(4, x.physical[0]), max(4, x.physical[1])), 1, (4, 4))
    hard = [(r, why) for r, why in broken(s) if r.code in ("R06", "R07")]
    if hard:
        r, why = hard[0]
        raise UnsupportedError(
            "E213",
            "a layer is larger than the KPU takes",
            where=node.label,
            why=f"{r.text} It has {why}.",
            fix=f"{r.remedy} (limits: {MAX_CHANNELS} channels, {MAX_WIDTH}x{MAX_HEIGHT})",
        )


def _may_join_add(ctx: Context, node: Node) -> bool:
    """Whether to wait for the Add behind: a dense stride-1 convolution used by nothing else."""
    user = ctx.only_user(node.output)
    if user is None or user.op not in ("Add",) or any(t.is_constant for t in user.inputs):
        return False
    if node.output.name in ctx.source.scales:
        return False  # the model came quantised: this value has integers of its own
    a = node.attrs
    k = node.inputs[1].shape[2:]
    return bool(
        a["group"] == 1
        and tuple(a["strides"]) == (1, 1)
        and tuple(a["dilations"]) == (1, 1)
        and k == (1, 1)
        and not any(a["pads"])
    )


def _as_fully_connected(ctx: Context, node: Node) -> None:
    """A convolution of a 1x1 map to a 1x1 map is a matrix product with the one tap that meets the pixel."""
    a = node.attrs
    w, b = node.weights_and_bias()
    w, groups = _regroup(w, a["group"], node.inputs[0].shape[1])
    if groups > 1:
        w = wide.dense(w)
    (row, beside_row), (col, beside_col) = (divmod(a["pads"][i], a["dilations"][i]) for i in (0, 1))
    # a dilated or far away kernel may have no tap on the pixel at all
    met = not (beside_row or beside_col) and row < w.shape[2] and col < w.shape[3]
    matrix = w[:, :, row, col] if met else np.zeros(w.shape[:2], np.float32)
    v = ctx.flat(node.inputs[0])
    if len(v.shape) != 2:
        v = ctx.emit("Reshape", [v], (1, v.shape[1]), f"{v.name}.vector", shape=(1, v.shape[1]))
    lower_linear(ctx, node, v, matrix, b)

"""Gemm: on the CPU in float, or on the KPU.

On the KPU it is a convolution. Of a map of up to 3x3 pixels, flattened, it is one 3x3 convolution of the map that they
lie in, and its result one pixel of that map; of such a pixel it is a 1x1 convolution. So several in a row stay in AI
RAM. A vector from main RAM becomes a 4x4 map of which only pixel (0, 0) counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
from openkpu.estimate import price
from openkpu.graph.elementwise import Expr, X, clip
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import MAX_CHANNELS, MAX_WEIGHT_LOADS, MIN_SIZE
from openkpu.kpu.constraints import LayerShape, ai_ram, load_count
from openkpu.lower import decide
from openkpu.lower.context import Context
from openkpu.lower.tail import follow
from openkpu.lower.view import View

PLACES = {1: (0, 0, 3, 3), 3: (0, 0, 1, 1), 2: (1, 1, 1, 1)}
"""Height and width of pictures that one convolution reads whole -> their surroundings in a 4x4 map."""
MOST_WEIGHTS = 2 << 20
"""Bytes of a product's weights as a 3x3 convolution, where those of a 2x2 picture are padded."""
MOST_PARTS = 4
"""Partial sums of one product; each is rounded to 8 bits, so many of them would add up their errors."""

CPU_FUNCTIONS = (None, clip(X, 0, float("inf")), clip(X, 0, 6))
"""The activations of the runtime's float matrix product: none, ReLU, ReLU6."""


def lower_gemm(ctx: Context, node: Node) -> None:
    """Lower Gemm with constant weights on a vector."""
    if not all(t.is_constant for t in node.inputs[1:]):
        raise UnsupportedError(
            "E214",
            "matrix product with a computed right side",
            where=node.label,
            why="kmodel V3 has fully connected layers with constant weights only",
            fix="export the model with constant weights",
        )
    if node.inputs[0].shape[0] == 1 and len(node.inputs[0].shape) == 2 and _in_map(ctx, node):
        return
    x = ctx.flat(node.inputs[0])
    if len(x.shape) == 4 and x.shape == (*node.inputs[0].shape, 1, 1):
        x = ctx.shaped(node.inputs[0])
    if x.shape[0] != 1 or len(x.shape) != 2:
        raise UnsupportedError(
            "E214",
            "matrix product over several rows",
            where=node.label,
            why=f"the input is {'x'.join(map(str, x.shape))}; V3 multiplies one vector",
            fix="write it as a 1x1 convolution",
        )
    if _as_map(ctx, node, x):
        return
    w, b = node.weights_and_bias()
    lower_linear(ctx, node, x, w, np.broadcast_to(b.reshape(-1), w.shape[0]))


def _as_map(ctx: Context, node: Node, x: Tensor) -> bool:
    """Bring a vector to AI RAM as pixels of channels, if it has too many values for channels or a product follows."""
    w, _ = node.weights_and_bias()
    n, k = w.shape
    side = next((s for s in PLACES if k % s**2 == 0 and k // s**2 <= MAX_CHANNELS), 0)
    if side == 0:
        return False
    c = k // side**2
    shape = LayerShape(c, (MIN_SIZE, MIN_SIZE), n, (MIN_SIZE, MIN_SIZE), (side, side))
    if side == 1 and not _feeds_product(ctx, follow(ctx, node.output, pools=False).end):
        return False
    if x.producer is None or max(c, n) > MAX_CHANNELS or load_count(shape) > MAX_WEIGHT_LOADS:
        return False
    if side > 1 and n * c * 9 > MOST_WEIGHTS:
        return False
    version = ctx.target.version
    on_kpu = price.kpu_fully_connected_us(k, n, version)
    if price.cpu_fully_connected_us(k, n, version) <= on_kpu:
        return False
    stem = node.output.name
    pixels = ctx.emit("Reshape", [x], (1, c, side, side), f"{stem}.pixels", shape=(1, c, side, side))
    pads = PLACES[side]
    t = ctx.emit("CpuPad", [pixels], (1, c, MIN_SIZE, MIN_SIZE), f"{stem}.map", pads=pads)
    ctx.spent += on_kpu - price.kpu_layer_us(c, MIN_SIZE, MIN_SIZE, n, kernel=side, depthwise=False, version=version)
    _emit_in_map(ctx, node, View(t, pads[0], pads[1], side, side))
    return True


def _feeds_product(ctx: Context, t: Tensor) -> bool:
    """Whether a vector is read by one more product only, which then finds it in AI RAM."""
    node = ctx.only_user(t)
    if node is None or node.op != "Gemm" or not all(i.is_constant for i in node.inputs[1:]):
        return False
    n, k = node.inputs[1].shape
    return max(n, k) <= MAX_CHANNELS


def _in_map(ctx: Context, node: Node) -> bool:
    """Emit a product with a flattened picture of up to 3x3 pixels as a convolution of its map, if that is cheaper."""
    v = _flattened(ctx, node.inputs[0])
    if v is None:
        return False
    w, _ = node.weights_and_bias()
    n, k = w.shape
    (h, wd), physical = v.size, v.physical
    kernel = 1 if (h, wd) == (1, 1) else 3
    shape = LayerShape(v.channels, physical, n, physical, (kernel, kernel))
    if v.channels * h * wd != k or max(v.channels, n) > MAX_CHANNELS or load_count(shape) > MAX_WEIGHT_LOADS:
        return False
    version = ctx.target.version
    on_kpu = price.kpu_layer_us(v.channels, *physical, n, kernel=kernel, depthwise=False, version=version)
    # either its input must leave the map or, some time, its result
    inputs = price.cpu_cut_us(v.channels * physical[0] * physical[1], (v.channels, h, wd), version=version, back=False)
    results = price.cpu_cut_us(n * physical[0] * physical[1], (n, 1, 1), version=version, back=False)
    otherwise = min(price.cpu_fully_connected_us(k, n, version), price.kpu_fully_connected_us(k, n, version))
    if ai_ram(shape) is not None or on_kpu + results > inputs + otherwise:
        return False
    _emit_in_map(ctx, node, v)
    return True


def _emit_in_map(ctx: Context, node: Node, v: View) -> None:
    """Emit a product with the flattened picture ``v``."""
    w, b = node.weights_and_bias()
    n, (h, wd), physical = w.shape[0], v.size, v.physical
    kernel = 1 if (h, wd) == (1, 1) else 3
    before = ctx.spent
    tail = follow(ctx, node.output, pools=False)
    taps = np.zeros((n, v.channels, kernel, kernel), np.float32)
    # one pixel of the map must be the window's centre
    row, col = (0 if kernel == 1 or size == 1 else 1 for size in (h, wd))
    at = kernel // 2
    taps[:, :, at - row : at - row + h, at - col : at - col + wd] = w.reshape(n, v.channels, h, wd)
    bias = np.ascontiguousarray(np.broadcast_to(b.reshape(-1), n), np.float32)
    t = ctx.kpu_conv(v.tensor, taps, bias, tail.end.name, fn=tail.fn)
    ctx.done |= {id(m) for m in tail.nodes}
    ctx.values[id(tail.end)] = View(t, v.top + row, v.left + col, 1, 1)
    how = f"a {kernel}x{kernel} convolution of the {physical[1]}x{physical[0]} map, of which one pixel counts"
    decide.kpu_rewrite(ctx, node, how, ctx.spent - before)


def _flattened(ctx: Context, t: Tensor) -> View | None:
    """Return the picture in AI RAM whose flattened pixels a vector is."""
    while t.producer is not None and t.producer.op == "Reshape":
        t = t.producer.inputs[0]
    v = ctx.values.get(id(t))
    usable = isinstance(v, View) and v.step == 1 and max(v.size) <= 3 and min(v.physical) >= MIN_SIZE
    made = v.tensor.producer if isinstance(v, View) else None
    if not usable or made is None or made.op not in ("KpuConv", "KpuMove", "KpuConcat"):
        return None
    assert isinstance(v, View)
    return v


def lower_linear(ctx: Context, node: Node, x: Tensor, w: NDArray[Any], b: NDArray[Any]) -> None:
    """Emit ``x @ w.T + b`` for a vector x (1, K), where it is cheaper."""
    n, k = w.shape
    tail = follow(ctx, node.output, pools=False)
    stem = tail.end.name
    ctx.done |= {id(m) for m in tail.nodes}
    on_cpu, on_kpu = (f(k, n, ctx.target.version) for f in (price.cpu_fully_connected_us, price.kpu_fully_connected_us))
    # a model that came quantised has no ranges for partial sums
    parts = 1 if ctx.source.scales.get(node.output.name) or ctx.source.scales.get(stem) else MOST_PARTS
    fits = x.producer is not None and k <= parts * MAX_CHANNELS
    note = f"{k} -> {n}: CPU {on_cpu / 1000:.2f} ms, KPU {on_kpu / 1000:.2f} ms"
    if not fits or on_cpu <= on_kpu:
        fn = tail.fn if tail.fn in CPU_FUNCTIONS else None
        t = _emit(ctx, "CpuFullyConnected", x, w, b, stem if fn is tail.fn else f"{stem}.linear", fn=fn)
        ctx.spent += on_cpu
        decide.on_cpu(ctx, node, note, "", on_cpu, expected=True)
        if fn is not tail.fn and tail.fn is not None:
            t = emit_function(ctx, t, tail.fn, stem)
    else:
        t = _on_kpu(ctx, x, w, b, tail.fn, stem)
        ctx.spent += on_kpu
        decide.kpu_rewrite(ctx, node, f"a 1x1 convolution on a 4x4 map ({note})", on_kpu)
    ctx.values[id(tail.end)] = t


def _on_kpu(ctx: Context, x: Tensor, w: NDArray[Any], b: NDArray[Any], fn: Expr | None, stem: str) -> Tensor:
    """Emit the 1x1 convolutions: several where there are too many inputs (then summed on the CPU) or outputs."""
    n, k = w.shape
    if k <= MAX_CHANNELS:
        return _on_kpu_from(ctx, x, 0, w, b, fn, stem)
    bias = b
    total: Tensor | None = None
    starts = range(0, k, MAX_CHANNELS)
    for first in starts:
        columns = np.ascontiguousarray(w[:, first : first + MAX_CHANNELS])
        part = _on_kpu_from(ctx, x, first, columns, bias, None, f"{stem}.inputs{first}")
        bias = np.zeros_like(b)
        last = first == starts[-1] and fn is None
        total = part if total is None else ctx.emit("CpuAdd", [total, part], (1, n), stem if last else f"{stem}.sum")
    assert total is not None
    return total if fn is None else emit_function(ctx, total, fn, stem)


def _on_kpu_from(
    ctx: Context, x: Tensor, offset: int, w: NDArray[Any], b: NDArray[Any], fn: Expr | None, stem: str
) -> Tensor:
    """Emit the layers for the inputs from ``offset`` on."""
    n, k = w.shape
    limit = MAX_CHANNELS
    while limit > 4 and (
        load_count(LayerShape(k, (4, 4), limit, (4, 4))) > MAX_WEIGHT_LOADS or limit * k > ctx.largest_body
    ):
        limit //= 2
    attrs: dict[str, Any] = {"depthwise": False, "fn": fn, "pool": "none", "vector": True, "offset": offset}
    parts = [
        _emit(ctx, "KpuConv", x, w[i : i + limit], b[i : i + limit], stem if n <= limit else f"{stem}.part{i}", **attrs)
        for i in range(0, n, limit)
    ]
    return parts[0] if len(parts) == 1 else ctx.emit("CpuConcat", parts, (1, n), stem, axis=1)


def emit_function(ctx: Context, t: Tensor, fn: Expr, stem: str) -> Tensor:
    """Apply a function to a flat tensor on the CPU: the runtime's sigmoid where it is one, else a table."""
    if fn == Expr("Sigmoid", (X,)):
        return ctx.emit("CpuLogistic", [t], t.shape, stem)
    return ctx.emit("CpuTable", [t], t.shape, stem, fn=fn)


def _emit(ctx: Context, op: str, x: Tensor, w: NDArray[Any], b: NDArray[Any], stem: str, **attrs: Any) -> Tensor:
    shape = (*w.shape, 1, 1) if op == "KpuConv" else w.shape
    ws = Tensor(ctx.name(f"{stem}.weights"), shape, "float32", np.ascontiguousarray(w, np.float32).reshape(shape))
    bs = Tensor(ctx.name(f"{stem}.bias"), b.shape, "float32", np.ascontiguousarray(b, np.float32))
    return ctx.emit(op, [x, ws, bs], (1, w.shape[0]), stem, **attrs)

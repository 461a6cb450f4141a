"""Gemm: on the CPU in float, or on the KPU as a 1x1 convolution over a 4x4 map of which only pixel (0, 0) counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
from openkpu.estimate import price
from openkpu.graph.elementwise import Expr, X, clip
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import MAX_CHANNELS, MAX_WEIGHT_LOADS
from openkpu.kpu.constraints import LayerShape, load_count
from openkpu.lower import decide
from openkpu.lower.context import Context
from openkpu.lower.tail import follow

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
    x = ctx.flat(node.inputs[0])
    if x.shape[0] != 1 or len(x.shape) != 2:
        raise UnsupportedError(
            "E214",
            "matrix product over several rows",
            where=node.label,
            why=f"the input is {'x'.join(map(str, x.shape))}; V3 multiplies one vector",
            fix="write it as a 1x1 convolution",
        )
    w, b = node.weights_and_bias()
    lower_linear(ctx, node, x, w, np.broadcast_to(b.reshape(-1), w.shape[0]))


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
    while limit > 4 and load_count(LayerShape(k, (4, 4), limit, (4, 4))) > MAX_WEIGHT_LOADS:
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

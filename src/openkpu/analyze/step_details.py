"""What there is to say about one step in one line: kernel, stride, pooling, operator, and its multiply-accumulates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import operators_v5 as v5
from openkpu.kmodel.program import FullyConnected, KpuConv, Pool2D, Step

_POOLS: Final = (
    "",
    "max 2x2",
    "mean 2x2",
    "max 4x4",
    "mean 4x4",
    "pick 2x2",
    "pick right 2x2",
    "pick 4x4",
    "mean 2x2 s1",
    "max 2x2 s1",
)
"""Names of the pooling register's values; "pick" takes one corner, which is how the KPU makes a stride."""


def macs(step: Step) -> int:
    """Multiply-accumulates of a step."""
    if isinstance(step, KpuConv):
        return step.layer.macs * step.batches
    if isinstance(step, FullyConnected):
        return step.weights.size
    if isinstance(step, v5.Conv2DFromMemory):
        return step.output.elements * (step.weights.elements // step.weights.shape[0])
    if isinstance(step, t.MatMul | v4.QuantizedMatMul | v5.MatMulFromMemory):
        return step.output.elements * step.input_a.shape[-1]
    if isinstance(step, t.Conv2DTranspose):
        return step.input.elements * (step.weights.size // step.input.shape[-3])
    if isinstance(step, t.Conv2D | v4.QuantizedConv2D | v4.NhwcConv2D | v4.NhwcQuantizedConv2D):
        taps: int = step.weights.size // step.weights.shape[0]
        return step.output.elements * taps
    return 0


def _kpu(s: KpuConv) -> list[str]:
    r = s.layer.registers
    return [
        f"{s.layer.kernel}x{s.layer.kernel}",
        "depthwise" if r.depth_wise_layer else "",
        _POOLS[r.pool_type] if r.pool_type < len(_POOLS) else f"pool {r.pool_type}",
        "16-bit" if s.layer.weights.itemsize == 2 else "",
        f"batch {s.batches}" if s.batches > 1 else "",
    ]


def _window(s: Any, kernel: tuple[int, ...]) -> list[str]:
    (top, bottom), (left, right) = s.pads
    return [
        f"{kernel[0]}x{kernel[1]}",
        _pair("stride", s.stride),
        _pair("dilation", s.dilation),
        f"pads {top} {bottom} {left} {right}" if any((top, bottom, left, right)) else "",
    ]


def _pair(name: str, pair: tuple[int, int]) -> str:
    return "" if pair == (1, 1) else f"{name} {pair[0]}x{pair[1]}"


def _groups(s: Any) -> str:
    if s.groups == 1:
        return ""
    return "depthwise" if s.groups == s.weights.shape[0] and s.weights.shape[1] == 1 else f"{s.groups} groups"


def _scale(s: Any) -> list[str]:
    return [f"scale {s.scale:.6g}", f"zero point {s.zero_point}"]


def _clamp(s: Any) -> str:
    if all(abs(v) >= t.FLT_MAX for v in s.clamp):  # V5 writes infinities for none
        return ""
    low, high = (f"{v:.6g}" if abs(v) < t.FLT_MAX else "" for v in s.clamp)
    return f"clamp {low}..{high}"


def _slice(s: t.SliceTensor) -> list[str]:
    parts = []
    for begin, end, stride in zip(s.begin, s.end, s.stride, strict=True):
        parts.append(f"{begin}:{end}" + (f":{stride}" if stride != 1 else ""))
    return ["[" + ", ".join(parts) + "]"]


def _sizes(values: Any) -> str:
    return " ".join(str(v) for v in values)


_DETAILS: Final[dict[type[Step], Callable[[Any], list[str]]]] = {
    KpuConv: _kpu,
    FullyConnected: lambda s: [s.activation.name.lower() if s.activation.value else ""],
    t.Binary: lambda s: [s.op.name.lower(), _clamp(s)],
    v4.QuantizedBinary: lambda s: [s.op.name.lower()],
    t.Unary: lambda s: [s.op.value],
    v4.NnilUnary: lambda s: [f"{len(s.code)} bytes of code"],
    t.QuantizeTensor: _scale,
    t.DequantizeTensor: _scale,
    t.ConcatTensors: lambda s: [f"{len(s.inputs)} parts", f"axis {s.axis}"],
    t.TransposeTensor: lambda s: [f"perm {_sizes(s.perm)}"],
    t.PadTensor: lambda s: [f"pads {_sizes(n for pair in s.pads for n in pair)}", f"value {s.value:g}"],
    t.SliceTensor: _slice,
    t.Reduce: lambda s: [s.op.name.lower(), f"axes {_sizes(s.axes)}"],
    t.ReduceWindow: lambda s: [s.op.name.lower(), *_window(s, s.kernel), _clamp(s)],
    v4.NhwcReduceWindow: lambda s: [s.op.name.lower(), *_window(s, s.kernel), _clamp(s)],
    t.ResizeImage: lambda s: [s.mode.name.lower(), "align corners" if s.align_corners else ""],
    t.SoftmaxTensor: lambda s: [f"axis {s.axis}", f"beta {s.beta:g}" if s.beta != 1 else ""],
    t.Conv2D: lambda s: [*_window(s, s.weights.shape[2:]), _groups(s), _clamp(s)],
    t.Conv2DTranspose: lambda s: [*_window(s, s.weights.shape[2:]), _groups(s), _clamp(s)],
    v4.QuantizedConv2D: lambda s: [*_window(s, s.weights.shape[2:]), _groups(s)],
    v4.NhwcConv2D: lambda s: [*_window(s, s.weights.shape[1:3]), _clamp(s)],
    v4.NhwcDepthwiseConv2D: lambda s: [*_window(s, s.weights.shape[1:3]), "depthwise", _clamp(s)],
    v4.NhwcQuantizedConv2D: lambda s: _window(s, s.weights.shape[1:3]),
    v4.NhwcQuantizedDepthwiseConv2D: lambda s: [*_window(s, s.weights.shape[1:3]), "depthwise"],
    t.MatMul: lambda s: [_clamp(s)],
    v5.MatMulFromMemory: lambda s: [_clamp(s)],
    v5.Conv2DFromMemory: lambda s: [*_window(s, s.weights.shape[2:]), _groups(s), _clamp(s)],
    v5.AffineQuantize: lambda s: [f"multiplier {s.multiplier:.6g}", f"offset {s.offset:.6g}"],
    v5.AffineDequantize: lambda s: [f"multiplier {s.multiplier:.6g}", f"offset {s.offset:.6g}"],
    v5.BatchToSpace: lambda s: [f"blocks {_sizes(s.block)}"],
    v5.SpaceToBatch: lambda s: [f"blocks {_sizes(s.block)}"],
    v5.Compare: lambda s: [s.op.name.lower().replace("_", " ")],
    v5.Convert: lambda s: [f"{s.input.dtype.value} to {s.output.dtype.value}"],
    v5.CumSum: lambda s: [f"axis {s.axis}", "exclusive" if s.exclusive else "", "reverse" if s.reverse else ""],
    v5.Gather: lambda s: [f"axis {s.axis}"],
    v5.GatherElements: lambda s: [f"axis {s.axis}"],
    v5.HardMax: lambda s: [f"axis {s.axis}"],
    v5.LayerNorm: lambda s: [f"from axis {s.axis}", f"epsilon {s.epsilon:g}"],
    v5.OneHot: lambda s: [f"axis {s.axis}"],
    v5.ReduceArg: lambda s: ["greatest" if s.greatest else "least", f"axis {s.axes[0]}"],
    v5.ReduceProd: lambda s: [f"axes {_sizes(s.axes)}"],
    v5.TopK: lambda s: [f"{s.k} of axis {s.axis}", "greatest" if s.largest else "least"],
    v5.Trilu: lambda s: ["upper" if s.upper else "lower", f"diagonal {s.k}"],
}


def detail(step: Step) -> str:
    """Return the parameters of a step in words, or ``""``."""
    if isinstance(step, Pool2D):
        return f"{step.kernel[1]}x{step.kernel[0]}, stride {step.stride[1]}x{step.stride[0]}"
    describe = _DETAILS.get(type(step))
    return ", ".join(part for part in describe(step) if part) if describe else ""

"""V5's CPU steps by the native kernels, with their arrays bound once a session: the same bytes as ``v5_steps``.

A session's memories stay where they are, so a step becomes a few native operators that hold views of them.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.k210 import AI_LINE_BYTES
from openkpu.kmodel import operators as o
from openkpu.kmodel import operators_v5 as o5
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Memory, Operand
from openkpu.kpu import fmap
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.ops.v5_resize import nearest
from openkpu.runtime.memories import Memories, get
from openkpu.runtime.v5_steps import dequantize_numbers, quantize_numbers

Array = NDArray[Any]


@functools.cache
def kernels() -> ModuleType | None:
    """The kernels, or None where they are not built."""
    try:
        module: ModuleType = importlib.import_module("openkpu._native").bound
    except (ImportError, AttributeError):
        return None
    return module


def operators(m: Memories, step: p.Step) -> list[Any] | None:
    """Return the native operators that run the step on these memories; None where the NumPy operator has to."""
    native = kernels()
    make = _MAKERS.get(type(step))
    if native is None or make is None or overlapping(step):
        return None
    return make(native, m, step) or None


def overlapping(step: p.Step) -> bool:
    """Whether an output lies on an input: NumPy computes the whole result first, the kernels as they go.

    Where both are the same dense place and as wide, element by element is the same.
    """
    for w in step.writes:
        for r in step.reads:
            if r.memory is not w.memory or r.memory is Memory.AI or r.stop <= w.start or w.stop <= r.start:
                continue
            together = (r.start, r.shape, r.strides, r.dtype.size) == (w.start, w.shape, w.strides, w.dtype.size)
            if not (together and isinstance(step, _ELEMENTWISE)):
                return True
    return False


_ELEMENTWISE: Final = (o.Binary, o.CopyTensor, p.Requantize)


def feature_maps(m: Memories, operand: Operand) -> list[tuple[Array, slice]]:
    """Views of a feature map in AI RAM as (groups, channels of one, h, w), each with its slice of dense channels."""
    *batch, c, h, w = operand.shape
    lay = FeatureMapLayout(c, h, w)
    views = []
    for i in range(batch[0] if batch else 1):
        line = operand.start // AI_LINE_BYTES + i * lay.lines
        v = fmap.view(m.ai, line, lay.channel_lines, lay.row_lines, lay.group, c, h, w)
        whole, rest = divmod(c, lay.group)
        if whole:
            views.append((v[:whole], slice(i * c, i * c + whole * lay.group)))
        if rest:
            views.append((v[whole:, :rest], slice(i * c + whole * lay.group, (i + 1) * c)))
    return views


def transfer(native: ModuleType, m: Memories, s: Any) -> list[Any]:
    """Upload or download."""
    upload = isinstance(s, p.KpuUpload)
    outside, inside = (s.input, s.output) if upload else (s.output, s.input)
    _, _, h, w = (1, *outside.shape)[-4:]
    channels = get(m, outside).reshape(-1, h, w)
    copies = []
    for view, which in feature_maps(m, inside):
        part = channels[which].reshape(view.shape)
        copies.append(native.copy(part, view) if upload else native.copy(view, part))
    return copies


def _spread(x: Array, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(x, shape)


def _binary(native: ModuleType, m: Memories, s: o.Binary) -> list[Any]:
    if s.output.dtype is not DType.F32 or s.op.value > 5:
        return []
    out = get(m, s.output)
    a, b = (_spread(get(m, x), out.shape) for x in (s.input_a, s.input_b))
    return [native.binary(s.op.value, a, b, out, *_limits(s.clamp))]


def _limits(clamp: o.Clamp) -> tuple[float, float]:
    return float(np.float32(clamp[0])), float(np.float32(clamp[1]))


def _pad(native: ModuleType, m: Memories, s: o.PadTensor) -> list[Any]:
    if s.mode != "constant" or s.interior:
        return []
    x, out = get(m, s.input), get(m, s.output)
    kept = tuple(slice(max(0, -b), n - max(0, -a)) for n, (b, a) in zip(x.shape, s.pads, strict=True))
    inner = tuple(slice(max(0, b), n - max(0, a)) for n, (b, a) in zip(out.shape, s.pads, strict=True))
    operators = [native.fill(np.full(1, s.value, out.dtype), out)]
    if out[inner].size:
        operators.append(native.copy(x[kept], out[inner]))
    return operators


def _concat(native: ModuleType, m: Memories, s: o.ConcatTensors) -> list[Any]:
    out, axis = get(m, s.output), s.axis % len(s.output.shape)
    first, copies = 0, []
    for x in s.inputs:
        stop = first + x.shape[axis]
        copies.append(native.copy(get(m, x), out[(slice(None),) * axis + (slice(first, stop),)]))
        first = stop
    return copies


def _slice(native: ModuleType, m: Memories, s: o.SliceTensor) -> list[Any]:
    x = get(m, s.input)
    rows = zip(s.begin, s.end, s.stride, strict=True)
    view = x[tuple(slice(b, None if t < 0 and e < 0 else e, t) for b, e, t in rows)]
    return [native.copy(view, get(m, s.output))]


def _reduce(native: ModuleType, m: Memories, s: o.Reduce) -> list[Any]:
    x, out = get(m, s.input), get(m, s.output)
    if x.dtype != np.float32 or s.op in (o.ReduceOp.MIN, o.ReduceOp.MAX):
        return []
    kept = [i for i in range(x.ndim) if i not in s.axes]
    count = int(np.prod([x.shape[i] for i in s.axes], dtype=np.int64))
    rows = x.transpose([*kept, *sorted(s.axes)])
    return [native.reduce(s.op.value, rows, len(s.axes), out.reshape(-1), s.init, True, float(count))]


def _window(s: Any, kernel: tuple[int, int]) -> list[int]:
    return [*kernel, *s.stride, *s.dilation, s.pads[0][0], s.pads[1][0]]


def _reduce_window(native: ModuleType, m: Memories, s: o.ReduceWindow) -> list[Any]:
    numbers = _window(s, s.kernel)
    return [native.reduce_window(s.op.value, get(m, s.input), get(m, s.output), numbers, s.init, *_limits(s.clamp))]


def _conv(native: ModuleType, m: Memories, s: o.Conv2D | o5.Conv2DFromMemory) -> list[Any]:
    if isinstance(s, o5.Conv2DFromMemory):
        return []  # the kernel wants its weights beforehand
    weights = np.require(s.weights, np.float32, ("C", "A"))
    bias = np.require(s.bias, np.float32, ("C", "A"))
    numbers = _window(s, weights.shape[2:])
    x, out = get(m, s.input), get(m, s.output)
    return [native.conv2d(x, weights, bias, out, s.groups, numbers, *_limits(s.clamp))]


def _matmul(native: ModuleType, m: Memories, s: o.MatMul) -> list[Any]:
    a, b, out = (get(m, x) for x in (s.input_a, s.input_b, s.output))
    if a.ndim != 2 or b.ndim != 2 or out.ndim != 2:
        return []
    return [native.matmul(a, b, np.require(s.bias, np.float32, ("C", "A")), out, *_limits(s.clamp))]


def _resize(native: ModuleType, m: Memories, s: o.ResizeImage) -> list[Any]:
    if s.mode is not o.ResizeMode.NEAREST:
        return []
    x, out = get(m, s.input), get(m, s.output)
    options = {"align_corners": s.align_corners, "half": s.half_pixel_centers}
    rows, columns = (nearest(x.shape[i], out.shape[i], **options) for i in (2, 3))
    return [native.resize_nearest(x, out, rows, columns)]


def _quantize(native: ModuleType, m: Memories, s: Any) -> list[Any]:
    return [native.quantize(get(m, s.input), get(m, s.output), *quantize_numbers(s))]


def _dequantize(native: ModuleType, m: Memories, s: Any) -> list[Any]:
    return [native.dequantize(get(m, s.input), get(m, s.output), *dequantize_numbers(s))]


_MAKERS: Final[dict[type[p.Step], Callable[[ModuleType, Memories, Any], list[Any]]]] = {
    p.KpuUpload: transfer,
    p.KpuDownload: transfer,
    p.Requantize: lambda native, m, s: [native.lookup(get(m, s.input), s.table, get(m, s.output))],
    o.Binary: _binary,
    o.QuantizeTensor: _quantize,
    o5.AffineQuantize: _quantize,
    o.DequantizeTensor: _dequantize,
    o5.AffineDequantize: _dequantize,
    o.CopyTensor: lambda native, m, s: [native.copy(get(m, s.input), get(m, s.output))],
    o.ConcatTensors: _concat,
    o.TransposeTensor: lambda native, m, s: [native.copy(get(m, s.input).transpose(s.perm), get(m, s.output))],
    o.PadTensor: _pad,
    o.SliceTensor: _slice,
    o.Reduce: _reduce,
    o.ReduceWindow: _reduce_window,
    o.Conv2D: _conv,
    o.MatMul: _matmul,
    o.ResizeImage: _resize,
}

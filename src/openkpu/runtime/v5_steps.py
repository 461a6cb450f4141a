"""What each CPU step of V5 does to the memories, in NumPy: operands in, operator, operands out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel import operators as o
from openkpu.kmodel import operators_v5 as o5
from openkpu.kmodel import program as p
from openkpu.kmodel.v5_functions import dequantize_offset, f32
from openkpu.ops import quantize, tensor_movement, tensor_window
from openkpu.ops import v5_elementwise as elementwise
from openkpu.ops import v5_movement as movement
from openkpu.ops import v5_reduce as over
from openkpu.ops import v5_resize as resizing
from openkpu.ops.tensor_elementwise import clamp
from openkpu.runtime.memories import Memories, get, put

Array = NDArray[Any]


def quantize_numbers(s: o.QuantizeTensor | o5.AffineQuantize) -> tuple[float, float]:
    """Multiplier and offset, as the file has them."""
    if isinstance(s, o5.AffineQuantize):
        return s.multiplier, s.offset
    return f32(1 / s.scale), float(s.zero_point)


def dequantize_numbers(s: o.DequantizeTensor | o5.AffineDequantize) -> tuple[float, float]:
    """Multiplier and offset, as the file has them."""
    if isinstance(s, o5.AffineDequantize):
        return s.multiplier, s.offset
    return f32(s.scale), dequantize_offset(s.scale, s.zero_point)


def _unary(function: Callable[[Any, Any], Array]) -> Callable[[Memories, Any], None]:
    """Wrap ``function(step, input) -> output``."""

    def run(m: Memories, s: Any) -> None:
        put(m, s.output, function(s, get(m, s.input)))

    return run


def _binary(function: Callable[[Any, Any, Any], Array]) -> Callable[[Memories, Any], None]:
    """Wrap ``function(step, a, b) -> output``."""

    def run(m: Memories, s: Any) -> None:
        result = function(s, get(m, s.input_a), get(m, s.input_b))
        put(m, s.output, np.broadcast_to(result, s.output.shape))

    return run


def _window(s: Any) -> dict[str, Any]:
    return {"pads": s.pads, "stride": s.stride, "dilation": s.dilation, "limits": s.clamp}


def _conv(s: Any, x: Array, weights: Array, bias: Array) -> Array:
    return tensor_window.conv2d(x, weights, bias, groups=s.groups, **_window(s))


def _matmul(a: Array, b: Array, bias: Array, limits: o.Clamp) -> Array:
    """Row by row in float32: bias, then one product after the other."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    acc = np.empty((*batch, a.shape[-2], b.shape[-1]), np.float32)
    acc[:] = bias
    with np.errstate(all="ignore"):
        for k in range(a.shape[-1]):
            acc += a[..., k, None] * b[..., k, None, :]
        return clamp(acc, limits)


def _top_k(m: Memories, s: o5.TopK) -> None:
    values, indices = over.top_k(get(m, s.input), s.k, s.axis, largest=s.largest)
    put(m, s.output_values, values)
    put(m, s.output_indices, indices)


def _one_hot(m: Memories, s: o5.OneHot) -> None:
    off, on = get(m, s.off)[0], get(m, s.on)[0]
    axis, shape = s.axis, s.output.shape
    value = movement.one_hot(get(m, s.indices), off, on, shape, axis, negative_from_end=s.negative_from_end)
    put(m, s.output, value)


def _resize(s: o.ResizeImage, x: Array) -> Array:
    size = s.output.shape[2], s.output.shape[3]
    corners, half = s.align_corners, s.half_pixel_centers
    return resizing.resize(s.mode, x, size, align_corners=corners, half_pixel_centers=half)


def _picked(function: Callable[[Any, Array, Array], Array]) -> Callable[[Memories, Any], None]:
    """Wrap ``function(step, input, indices) -> output``."""
    return lambda m, s: put(m, s.output, function(s, get(m, s.input), get(m, s.indices)))


_quantize = _unary(lambda s, x: elementwise.quantize_tensor(x, *quantize_numbers(s), s.output.dtype.numpy))
_dequantize = _unary(lambda s, x: elementwise.dequantize_tensor(x, *dequantize_numbers(s)))

STEPS: Final[dict[type[p.Step], Callable[[Memories, Any], None]]] = {
    p.KpuUpload: _unary(lambda s, x: x),
    p.KpuDownload: _unary(lambda s, x: x),
    p.Requantize: _unary(lambda s, x: quantize.requantize(x, s.table)),
    o.Binary: _binary(lambda s, a, b: elementwise.binary(s.op, a, b, s.clamp)),
    o.Unary: _unary(lambda s, x: elementwise.unary(s.op, x)),
    o.QuantizeTensor: _quantize,
    o5.AffineQuantize: _quantize,
    o.DequantizeTensor: _dequantize,
    o5.AffineDequantize: _dequantize,
    o.CopyTensor: _unary(lambda s, x: x.copy()),
    o.ConcatTensors: lambda m, s: put(m, s.output, np.concatenate([get(m, x) for x in s.inputs], s.axis)),
    o.TransposeTensor: _unary(lambda s, x: x.transpose(s.perm).copy()),
    o.PadTensor: _unary(lambda s, x: movement.pad_tensor(x, s.pads, s.value, s.mode, s.interior)),
    o.SliceTensor: _unary(lambda s, x: tensor_movement.slice_tensor(x, s.begin, s.end, s.stride).copy()),
    o.Reduce: _unary(lambda s, x: over.reduce(s.op, x, s.axes, s.init, s.output.shape)),
    o.ReduceWindow: _unary(
        lambda s, x: tensor_window.reduce_window(s.op, x, kernel=s.kernel, init=s.init, **_window(s))
    ),
    o.ResizeImage: _unary(_resize),
    o.SoftmaxTensor: _unary(lambda s, x: over.softmax_tensor(x, s.axis, s.beta)),
    o.Conv2D: _unary(lambda s, x: _conv(s, x, s.weights, s.bias)),
    o5.Conv2DFromMemory: lambda m, s: put(m, s.output, _conv(s, get(m, s.input), get(m, s.weights), get(m, s.bias))),
    o.MatMul: _binary(lambda s, a, b: _matmul(a, b, s.bias, s.clamp).reshape(s.output.shape)),
    o5.MatMulFromMemory: lambda m, s: put(
        m, s.output, _matmul(get(m, s.input_a), get(m, s.input_b), get(m, s.bias), s.clamp)
    ),
    o5.BatchToSpace: _unary(lambda s, x: movement.batch_to_space(x, s.block, s.crops)),
    o5.SpaceToBatch: _unary(lambda s, x: movement.space_to_batch(x, s.block, s.pads)),
    o5.Broadcast: _unary(lambda s, x: np.broadcast_to(x, s.output.shape).copy()),
    o5.Compare: _binary(lambda s, a, b: elementwise.compare(s.op, a, b)),
    o5.Convert: _unary(lambda s, x: elementwise.convert(x, s.output.dtype.numpy)),
    o5.CumSum: _unary(lambda s, x: over.cumulative_sum(x, s.axis, exclusive=s.exclusive, reverse=s.reverse)),
    o5.Gather: _picked(lambda s, x, index: movement.gather(x, index, s.axis)),
    o5.GatherNd: _picked(lambda s, x, index: movement.gather_nd(x, index, s.batch_dims)),
    o5.GatherElements: _picked(lambda s, x, index: movement.gather_elements(x, index, s.axis)),
    o5.HardMax: _unary(lambda s, x: over.hard_max(x, s.axis)),
    o5.LayerNorm: lambda m, s: put(
        m, s.output, over.layer_norm(get(m, s.input), get(m, s.scale), get(m, s.bias), s.axis, s.epsilon)
    ),
    o5.OneHot: _one_hot,
    o5.ReduceArg: _unary(
        lambda s, x: over.reduce_arg(
            x, s.axes[0], s.output.dtype.numpy, s.output.shape, greatest=s.greatest, last=s.last
        )
    ),
    o5.ReduceProd: _unary(lambda s, x: over.reduce_prod(x, s.axes, s.output.shape)),
    o5.Sigmoid: _unary(lambda s, x: elementwise.sigmoid(x)),
    o5.Ternary: lambda m, s: put(
        m, s.output, elementwise.ternary(get(m, s.condition), get(m, s.input_a), get(m, s.input_b))
    ),
    o5.TopK: _top_k,
    o5.Trilu: _unary(lambda s, x: movement.triangle(x, s.k, upper=s.upper)),
}

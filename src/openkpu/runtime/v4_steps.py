"""What each operator of V4 does to the memories: operands in, operator, operands out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import program as p
from openkpu.ops import fast, quantize, tensor_elementwise, tensor_fixed, tensor_movement, tensor_reduce, tensor_window
from openkpu.ops.tensor_window import Taps
from openkpu.runtime.memories import Memories, get, put

StepFunction = Callable[[Memories, Any], None]


Unary = Callable[[Any, NDArray[Any]], NDArray[Any]]
Binary = Callable[[Any, NDArray[Any], NDArray[Any]], NDArray[Any]]


def _unary(function: Unary, native: Unary | None = None) -> StepFunction:
    """Wrap ``function(step, input) -> output``; ``native`` is its fast twin."""

    def run(m: Memories, s: Any) -> None:
        chosen = native if native is not None and m.engine == "native" else function
        put(m, s.output, chosen(s, get(m, s.input)))

    return run


def _binary(function: Binary, native: Binary | None = None) -> StepFunction:
    """Wrap ``function(step, input_a, input_b) -> output``; ``native`` is its fast twin."""

    def run(m: Memories, s: Any) -> None:
        chosen = native if native is not None and m.engine == "native" else function
        put(m, s.output, chosen(s, get(m, s.input_a), get(m, s.input_b)))

    return run


def _quantize(m: Memories, s: t.QuantizeTensor) -> None:
    simulator = m.rounding == "simulator"
    if m.engine == "native":
        put(m, s.output, fast.quantize(get(m, s.input), 1 / s.scale, s.zero_point, simulator=simulator))
        return
    function = tensor_elementwise.quantize_simulator if simulator else tensor_elementwise.quantize_device
    put(m, s.output, function(get(m, s.input), 1 / s.scale, s.zero_point))


def _dequantize(m: Memories, s: t.DequantizeTensor) -> None:
    simulator = m.rounding == "simulator"
    if m.engine == "native":
        put(m, s.output, fast.dequantize(get(m, s.input), 1 / s.scale, s.zero_point, simulator=simulator))
        return
    function = tensor_elementwise.dequantize_simulator if simulator else tensor_elementwise.dequantize_device
    put(m, s.output, function(get(m, s.input), 1 / s.scale, s.zero_point))


def _concat(m: Memories, s: t.ConcatTensors) -> None:
    put(m, s.output, np.concatenate([get(m, o) for o in s.inputs], axis=s.axis))


def _resize(s: t.ResizeImage, x: NDArray[Any]) -> NDArray[Any]:
    h, w = s.output.shape[-2:]
    maps = x.reshape((1,) * (4 - x.ndim) + x.shape)
    return tensor_movement.resize(maps, s.mode, h, w, align_corners=s.align_corners)


def _spread(s: Any, x: NDArray[Any]) -> NDArray[Any]:
    """Repeat a result over the dimensions that neither operand has and the output has."""
    return np.broadcast_to(x, (1,) * (4 - len(s.output.shape)) + s.output.shape)


def four(x: NDArray[Any]) -> NDArray[Any]:
    """Give an array four dimensions."""
    return x.reshape((1,) * (4 - x.ndim) + x.shape)


def _window(s: Any) -> dict[str, Any]:
    return {"pads": s.pads, "stride": s.stride, "dilation": s.dilation}


def _fixed(s: Any, sign: int = 1) -> dict[str, Any]:
    return {"input_offset": sign * s.input_offset, "filter_offset": sign * s.filter_offset, "o": s.o}


def _conv2d(summed: Taps) -> Unary:
    def run(s: t.Conv2D, x: NDArray[Any]) -> NDArray[Any]:
        how = {"groups": s.groups, "limits": s.clamp, "summed": summed, **_window(s)}
        return tensor_window.conv2d(four(x), s.weights, s.bias, **how)

    return run


def _quantized_conv2d(summed: Taps) -> Unary:
    def run(s: v4.QuantizedConv2D, x: NDArray[Any]) -> NDArray[Any]:
        how = {"groups": s.groups, "summed": summed, **_window(s), **_fixed(s)}
        return tensor_fixed.quantized_conv2d(four(x), s.weights, s.bias, **how)

    return run


def _conv2d_transpose(s: t.Conv2DTranspose, x: NDArray[Any]) -> NDArray[Any]:
    shape = four(np.empty(s.output.shape, np.bool_)).shape
    return tensor_window.conv2d_transpose(four(x), s.weights, shape, groups=s.groups, limits=s.clamp, **_window(s))


# -- channels last: the same arithmetic with the loops turned round ------------------------------------------------


def _first(x: NDArray[Any]) -> NDArray[Any]:
    """(n, h, w, c) -> (n, c, h, w)."""
    return four(x).transpose(0, 3, 1, 2)


def _last(x: NDArray[Any]) -> NDArray[Any]:
    """(n, c, h, w) -> (n, h, w, c)."""
    return x.transpose(0, 2, 3, 1)


def _filters(s: Any) -> tuple[NDArray[Any], int]:
    """Return weights as (oc, c / groups, kh, kw), and the groups."""
    if s.weights.ndim == 3:  # depthwise: (c, kh, kw)
        return s.weights[:, None], s.weights.shape[0]
    return s.weights.transpose(0, 3, 1, 2), 1


def _nhwc_conv2d(summed: Taps) -> Unary:
    def run(s: v4.NhwcConv2D, x: NDArray[Any]) -> NDArray[Any]:
        weights, groups = _filters(s)
        how = {"groups": groups, "limits": s.clamp, "summed": summed, **_window(s)}
        return _last(tensor_window.conv2d(_first(x), weights, s.bias, order="window", **how))

    return run


def _nhwc_quantized_conv2d(summed: Taps) -> Unary:
    def run(s: v4.NhwcQuantizedConv2D, x: NDArray[Any]) -> NDArray[Any]:
        weights, groups = _filters(s)
        how = {"groups": groups, "summed": summed, **_window(s), **_fixed(s, -1)}
        return _last(tensor_fixed.quantized_conv2d(_first(x), weights, s.bias, order="window", **how))

    return run


def _reduce_window(s: Any, x: NDArray[Any]) -> NDArray[Any]:
    return tensor_window.reduce_window(s.op, x, kernel=s.kernel, init=s.init, limits=s.clamp, **_window(s))


_TAPS: Final[tuple[Taps, Taps]] = (tensor_window.taps, fast.taps)
"""The reference, and its fast twin."""

STEPS: Final[dict[type[p.Step], StepFunction]] = {
    t.Binary: _binary(lambda s, a, b: _spread(s, tensor_elementwise.binary(s.op, a, b, s.clamp))),
    t.ConcatTensors: _concat,
    t.Conv2D: _unary(*map(_conv2d, _TAPS)),
    t.DequantizeTensor: _dequantize,
    t.MatMul: _binary(
        lambda s, a, b: tensor_reduce.matmul(a, b, s.bias, s.clamp), lambda s, a, b: fast.matmul(a, b, s.bias, s.clamp)
    ),
    t.PadTensor: _unary(lambda s, x: tensor_movement.pad(x, s.pads, s.value)),
    t.QuantizeTensor: _quantize,
    t.Reduce: _unary(
        lambda s, x: tensor_reduce.reduce(s.op, x, s.axes, s.init), lambda s, x: fast.reduce(s.op, x, s.axes, s.init)
    ),
    t.ReduceWindow: _unary(lambda s, x: _reduce_window(s, four(x))),
    t.CopyTensor: _unary(lambda s, x: x.copy()),
    t.ResizeImage: _unary(_resize),
    t.SoftmaxTensor: _unary(lambda s, x: tensor_reduce.softmax(x, s.beta)),
    t.TransposeTensor: _unary(lambda s, x: x.transpose(s.perm).copy()),
    t.SliceTensor: _unary(lambda s, x: tensor_movement.slice_tensor(x, s.begin, s.end, s.stride).copy()),
    t.Unary: _unary(lambda s, x: tensor_elementwise.unary(s.op, x)),
    v4.QuantizedConv2D: _unary(*map(_quantized_conv2d, _TAPS)),
    v4.QuantizedMatMul: _binary(
        lambda s, a, b: tensor_fixed.quantized_matmul(a, b, s.bias, s.a_offset, s.b_offset, s.o)
    ),
    v4.QuantizedBinary: _binary(
        lambda s, a, b: _spread(s, tensor_fixed.quantized_binary(s.op, a, b, s.a, s.b, s.o)),
        lambda s, a, b: _spread(s, fast.quantized_binary(s.op, four(a), four(b), s.a, s.b, s.o)),
    ),
    p.Requantize: _unary(lambda s, x: quantize.requantize(x, s.table)),
    v4.TableLookup: lambda m, s: put(m, s.output, get(m, s.table)[get(m, s.input)]),
    t.Conv2DTranspose: _unary(_conv2d_transpose),
    v4.NnilUnary: _unary(lambda s, x: tensor_elementwise.nnil(s.code, x)),
    v4.NhwcConv2D: _unary(*map(_nhwc_conv2d, _TAPS)),
    v4.NhwcDepthwiseConv2D: _unary(*map(_nhwc_conv2d, _TAPS)),
    v4.NhwcReduceWindow: _unary(lambda s, x: _last(_reduce_window(s, _first(x)))),
    v4.NhwcQuantizedConv2D: _unary(*map(_nhwc_quantized_conv2d, _TAPS)),
    v4.NhwcQuantizedDepthwiseConv2D: _unary(*map(_nhwc_quantized_conv2d, _TAPS)),
    p.KpuUpload: _unary(lambda s, x: x),
}

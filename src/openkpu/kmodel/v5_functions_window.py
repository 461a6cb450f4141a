"""Tensor functions of V5's stackvm over windows and dimensions: pooling, convolution, reductions, products."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from openkpu.kmodel import operators as o
from openkpu.kmodel import operators_v5 as o5
from openkpu.kmodel.program import Step
from openkpu.kmodel.v5_call import Call, TensorFunction, Values, fields_of, function
from openkpu.kmodel.v5_functions import F32, IN_OUT, NUMBERS, U8, pair_fields


def windowed(size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> int:
    """Output size of a window that moves over ``size`` values."""
    return (size + sum(pads) - (kernel - 1) * dilation - 1 + stride) // stride


def reduced(shape: tuple[int, ...], axes: tuple[int, ...], *, keep_dims: bool) -> tuple[int, ...]:
    """The shape after a reduction."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keep_dims or i not in axes) or (1,)


def _read_reduce(c: Call) -> Step:
    dtype, shape = c.dtype("type", *NUMBERS), c["in_shape"]
    axes, keep = c.axes("axes", len(shape)), bool(c["keep_dims"])
    return o.Reduce(
        input=c.operand("in", dtype, shape, c["in_strides"]),
        output=c.operand("out", dtype, reduced(shape, axes, keep_dims=keep), c["out_strides"]),
        op=c.one_of("op", o.ReduceOp),
        axes=axes,
        init=c["init"],
        keep_dims=keep,
    )


def _write_reduce(s: o.Reduce) -> Values:
    return {**fields_of(s), "op": s.op.value, "axes": s.axes, "init": s.init, "keep_dims": s.keep_dims}


def _window(c: Call, kernel: tuple[int, int]) -> tuple[Values, tuple[int, int]]:
    """Pads, stride and dilation, and the output's height and width."""
    shape = c["in_shape"]
    c.need(len(shape) == 4, "a window over a tensor that is not four-dimensional", shape)
    pads = tuple((b, a) for b, a, _ in (c["pad_h"], c["pad_w"]))
    stride, dilation = (c["stride_h"], c["stride_w"]), (c["dilation_h"], c["dilation_w"])
    c.need(min(*kernel, *stride, *dilation) > 0, "a window without extent", f"{kernel} {stride} {dilation}")
    c.need(all(abs(p) < 1 << 16 for pair in pads for p in pair), "pads of no sensible size", pads)
    size = [windowed(shape[2 + i], kernel[i], stride[i], dilation[i], pads[i]) for i in (0, 1)]
    c.need(min(size) > 0, "a window larger than the tensor", f"{kernel} over {shape} with pads {pads}")
    return {"pads": pads, "stride": stride, "dilation": dilation}, (size[0], size[1])


def _read_reduce_window(c: Call) -> Step:
    if c.values.get("count_pads"):
        raise c.unsupported("a mean that counts the padding", "only development versions of November 2021 had it")
    dtype, shape = c.dtype("type", F32), c["in_shape"]
    kernel = (c["kernel_h"], c["kernel_w"])
    window, size = _window(c, kernel)
    return o.ReduceWindow(
        input=c.operand("in", dtype, shape, c["in_strides"]),
        output=c.operand("out", dtype, (*shape[:2], *size), c["out_strides"]),
        op=c.one_of("op", o.ReduceOp),
        kernel=kernel,
        init=c["init"],
        clamp=(c["low"], c["high"]),
        **window,
    )


def _window_fields(s: Any) -> Values:
    (pad_h, pad_w), (low, high) = s.pads, s.clamp
    return {
        "pad_h": (*pad_h, 0),
        "pad_w": (*pad_w, 0),
        "stride_h": s.stride[0],
        "stride_w": s.stride[1],
        "dilation_h": s.dilation[0],
        "dilation_w": s.dilation[1],
        "low": low,
        "high": high,
    }


def _write_reduce_window(s: o.ReduceWindow) -> Values:
    kernel_h, kernel_w = s.kernel
    more = {"op": s.op.value, "kernel_h": kernel_h, "kernel_w": kernel_w, "init": s.init, "count_pads": False}
    return {**fields_of(s), **_window_fields(s), **more}


def _read_conv(c: Call) -> Step:
    dtype, shape, w = c.dtype("type", F32), c["in_shape"], c["weights_shape"]
    c.need(len(w) == 4, "weights that are not four-dimensional", w)
    window, size = _window(c, (w[2], w[3]))
    groups = c["groups"]
    good = groups > 0 and shape[1] == w[1] * groups and w[0] % groups == 0
    c.need(good, "channels, weights and groups that do not fit", f"{shape}, {w}, {groups}")
    weights = c.operand("weights", dtype, w, c["weights_strides"])
    bias = c.operand("bias", dtype, (w[0],), c["bias_strides"])
    common: Values = {
        "input": c.operand("in", dtype, shape, c["in_strides"]),
        "output": c.operand("out", dtype, (shape[0], w[0], *size), c["out_strides"]),
        "groups": groups,
        "clamp": (c["low"], c["high"]),
        **window,
    }
    constant = c.constant(weights), c.constant(bias)
    if constant[0] is None or constant[1] is None:
        return o5.Conv2DFromMemory(weights=weights, bias=bias, **common)
    return o.Conv2D(weights=constant[0], bias=constant[1], **common)


def _write_conv(s: o.Conv2D | o5.Conv2DFromMemory) -> Values:
    return {
        **fields_of(s),
        **_window_fields(s),
        "weights": s.weights,
        "bias": s.bias,
        "weights_shape": s.weights.shape,
        "weights_strides": s.weights,
        "bias_strides": s.bias,
        "groups": s.groups,
    }


def _read_matmul(c: Call) -> Step:
    a, b = c["a_shape"], c["b_shape"]
    good = len(a) >= 2 and len(b) >= 2 and a[-1] == b[-2]
    c.need(good, "matrices that do not fit", f"{a} and {b}")
    for s in (a, b):
        if any(n > 1 for n in s[1:-2]):
            raise c.unsupported("a batch of more than one dimension", str(s))
    batches = {s[0] for s in (a, b) if len(s) > 2} - {1}
    c.need(len(batches) <= 1, "batches that do not fit", f"{a} and {b}")
    batch = max(batches, default=1)
    leading = (batch, *(1,) * max(len(a), len(b)))[: max(len(a), len(b)) - 2]
    out = c.values.get("out_shape") or (*leading, a[-2], b[-1])
    size = np.prod(out, dtype=object) if len(out) >= 2 else 0
    good = size == batch * a[-2] * b[-1] and out[-2:] == (a[-2], b[-1])
    c.need(bool(good), "an output of the wrong shape", f"{out} from {a} and {b}")
    common: Values = {
        "input_a": c.operand("a", F32, a, c.values.get("a_strides")),
        "input_b": c.operand("b", F32, b, c.values.get("b_strides")),
        "output": c.operand("out", F32, out, c.values.get("out_strides")),
        "clamp": (c["low"], c["high"]),
    }
    if any(x.strides is not None for x in (common["input_a"], common["input_b"], common["output"])):
        raise c.unsupported("a product of matrices that are not dense", "the runtime takes them for dense")
    bias = c.operand("bias", F32, (b[-1],))
    constant = c.constant(bias)
    if constant is None:
        return o5.MatMulFromMemory(bias=bias, **common)
    return o.MatMul(bias=constant, **common)


def _write_matmul(s: o.MatMul | o5.MatMulFromMemory) -> Values:
    low, high = s.clamp
    return {**pair_fields(s), "bias": s.bias, "low": low, "high": high}


def _read_resize(c: Call) -> Step:
    dtype, shape, size = c.dtype("type", F32, U8), c["in_shape"], (c["height"], c["width"])
    c.need(len(shape) == 4 and min(size) > 0, "a resize of something else than pictures", f"{shape} to {size}")
    return o.ResizeImage(
        input=c.operand("in", dtype, shape, c["in_strides"]),
        output=c.operand("out", dtype, (*shape[:2], *size), c["out_strides"]),
        mode=c.one_of("mode", o.ResizeMode),
        align_corners=bool(c["align_corners"]),
        half_pixel_centers=bool(c["half_pixel_centers"]),
    )


def _write_resize(s: o.ResizeImage) -> Values:
    height, width = s.output.shape[-2:]
    more = {"align_corners": s.align_corners, "half_pixel_centers": s.half_pixel_centers, "mode": s.mode.value}
    return {**fields_of(s), "height": height, "width": width, **more}


def _read_softmax(c: Call) -> Step:
    source, target = c.same(c.dtype("type", F32))
    c.axis(c["axis"], len(source.shape))
    return o.SoftmaxTensor(input=source, output=target, axis=c["axis"], beta=c["beta"])


WINDOWS: Final[tuple[TensorFunction, ...]] = (
    function(
        "REDUCE",
        "@in @out f:init r:in_shape r:in_strides r:out_strides r:axes",
        o.Reduce,
        read=_read_reduce,
        write=_write_reduce,
    ),
    function(
        "REDUCE_WINDOW2D",
        "@in f:init @out w:pad_h w:pad_w r:in_shape r:in_strides r:out_strides",
        o.ReduceWindow,
        read=_read_reduce_window,
        write=_write_reduce_window,
    ),
    function(
        "CONV2D",
        "@in @weights @bias @out w:pad_h w:pad_w r:in_shape r:in_strides r:weights_shape r:weights_strides "
        "r:bias_strides r:out_strides",
        o.Conv2D,
        o5.Conv2DFromMemory,
        read=_read_conv,
        write=_write_conv,
    ),
    function(
        "MATMUL",
        "@a @b @bias @out r:a_shape r:a_strides r:b_shape r:b_strides r:out_shape r:out_strides",
        o.MatMul,
        o5.MatMulFromMemory,
        read=_read_matmul,
        write=_write_matmul,
    ),
    function(
        "RESIZE_IMAGE",
        "i:height i:width @in @out r:in_shape r:in_strides r:out_strides",
        o.ResizeImage,
        read=_read_resize,
        write=_write_resize,
    ),
    function(
        "SOFTMAX",
        IN_OUT,
        o.SoftmaxTensor,
        read=_read_softmax,
        write=lambda s: {**fields_of(s), "axis": s.axis, "beta": s.beta},
    ),
)

"""The tensor functions of V5's stackvm that K210 models mostly use: instruction <-> step, each declared once.

Sources: nncase v1.9.0, ``runtime/stackvm/ops`` (what a function takes) and ``codegen/stackvm/ops`` (in which order).
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from openkpu.kmodel import operators as o
from openkpu.kmodel import operators_v5 as o5
from openkpu.kmodel.program import DType, Requantize, Step
from openkpu.kmodel.v5_call import Call, TensorFunction, Values, fields_of, function, number

F32, U8, I8 = DType.F32, DType.U8, DType.I8
NUMBERS: Final = (F32, DType.I32, DType.I64)
UNARY_OPS: Final = (
    *("abs", "acos", "asin", "ceil", "cos", "exp", "floor", "log", "neg", "round", "rsqrt", "sign", "sin", "sqrt"),
    *("square", "tanh", "bitwise_not", "logical_not", "erf"),
)
PAD_MODES: Final = ("constant", "reflect", "symmetric", "edge")


def f32(value: float) -> float:
    """The nearest float32."""
    return float(np.float32(value))


def windowed(size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> int:
    """Output size of a window that moves over ``size`` values."""
    return (size + sum(pads) - (kernel - 1) * dilation - 1 + stride) // stride


# -- element by element --------------------------------------------------------------------------------------------


def _read_binary(c: Call) -> Step:
    dtype = c.dtype("type", *NUMBERS)
    a, b = c["a_shape"], c["b_shape"]
    out = c.values.get("out_shape")
    if out is None:  # before nncase 1.4
        try:
            out = np.broadcast_shapes(a, b)
        except ValueError:
            raise c.error("shapes that do not broadcast", f"{a} and {b}") from None
    c.broadcast((a, b), out)
    return o.Binary(
        input_a=c.operand("a", dtype, a, c["a_strides"]),
        input_b=c.operand("b", dtype, b, c["b_strides"]),
        output=c.operand("out", dtype, out, c["out_strides"]),
        op=c.one_of("op", o.BinaryOp),
        clamp=(c["low"], c["high"]),
    )


def pair_fields(s: Any) -> Values:
    """Fields of a function of two operands."""
    return {
        "a": s.input_a,
        "b": s.input_b,
        "out": s.output,
        "a_shape": s.input_a.shape,
        "a_strides": s.input_a,
        "b_shape": s.input_b.shape,
        "b_strides": s.input_b,
        "out_shape": s.output.shape,
        "out_strides": s.output,
    }


def _write_binary(s: o.Binary) -> Values:
    low, high = s.clamp
    return {**pair_fields(s), "type": number(s.output.dtype), "op": s.op.value, "low": low, "high": high}


def _read_unary(c: Call) -> Step:
    c.need(c["op"] < len(UNARY_OPS), "a number without meaning", f"op is {c['op']}")
    name = UNARY_OPS[c["op"]]
    if name == "bitwise_not":
        raise c.unsupported("a function that the runtime does not have", name)
    source, target = c.same(c.dtype("type", F32))
    return o.Unary(input=source, output=target, op=o.UnaryOp(name))


def _write_unary(s: o.Unary) -> Values:
    if s.op.value not in UNARY_OPS:
        raise ValueError(f"V5 has no function {s.op.value}")
    return {**fields_of(s), "op": UNARY_OPS.index(s.op.value)}


def _read_quantize(c: Call) -> Step:
    source, target = c.same(c.dtype("in_type", F32), c.dtype("out_type", U8, I8))
    multiplier, offset = c["multiplier"], c["offset"]
    if multiplier > 0 and float(offset).is_integer() and abs(offset) < 1 << 24 and not _minus_zero(offset):
        scale = 1 / multiplier
        if f32(1 / scale) == multiplier:
            return o.QuantizeTensor(input=source, output=target, scale=scale, zero_point=int(offset))
    return o5.AffineQuantize(input=source, output=target, multiplier=multiplier, offset=offset)


def _minus_zero(value: float) -> bool:
    return struct.pack("<f", value) == b"\0\0\0\x80"


def _types(s: Any) -> Values:
    return {**fields_of(s, "in_type"), "out_type": number(s.output.dtype)}


def _write_quantize(s: o.QuantizeTensor | o5.AffineQuantize) -> Values:
    if isinstance(s, o5.AffineQuantize):
        return {**_types(s), "multiplier": s.multiplier, "offset": s.offset}
    return {**_types(s), "multiplier": f32(1 / s.scale), "offset": float(s.zero_point)}


def dequantize_offset(scale: float, zero_point: int) -> float:
    """What the file has instead of a zero point: ``-zero_point * scale`` in float32."""
    return float(np.float32(-zero_point) * np.float32(scale))


def _read_dequantize(c: Call) -> Step:
    source, target = c.same(c.dtype("in_type", U8, I8), c.dtype("out_type", F32))
    scale, offset = c["multiplier"], c["offset"]
    if scale and abs(offset / scale) < 1 << 24:
        zero_point = round(-offset / scale)
        # -0.0 happens: a zero point of 0 times a scale below 0 is not distinguished here, and written back as it was
        if struct.pack("<f", dequantize_offset(scale, zero_point)) == struct.pack("<f", offset):
            return o.DequantizeTensor(input=source, output=target, scale=scale, zero_point=zero_point)
    return o5.AffineDequantize(input=source, output=target, multiplier=scale, offset=offset)


def _write_dequantize(s: o.DequantizeTensor | o5.AffineDequantize) -> Values:
    if isinstance(s, o5.AffineDequantize):
        return {**_types(s), "multiplier": s.multiplier, "offset": s.offset}
    return {**_types(s), "multiplier": f32(s.scale), "offset": dequantize_offset(s.scale, s.zero_point)}


def _read_lookup(c: Call) -> Step:
    source, target = c.same(c.dtype("type", U8))
    table = c.constant(c.operand("table", U8, (c["length"],)))
    if table is None or len(table) != 256:
        raise c.unsupported("a table that is not constant or has not 256 bytes", f"{c['length']} bytes")
    return Requantize(input=source, output=target, table=table.tobytes())


def _write_lookup(s: Requantize) -> Values:
    return {**fields_of(s), "table": np.frombuffer(s.table, np.uint8), "first": 0, "last": 255, "length": len(s.table)}


# -- movement ------------------------------------------------------------------------------------------------------


def _read_copy(c: Call) -> Step:
    source, target = c.same(c.dtype("type"))
    return o.CopyTensor(input=source, output=target)


def _read_transpose(c: Call) -> Step:
    dtype, shape, perm = c.dtype("type"), c["in_shape"], c["perm"]
    c.need(sorted(perm) == list(range(len(shape))), "a permutation that is none", perm)
    target = c.operand("out", dtype, tuple(shape[p] for p in perm), c["out_strides"])
    return o.TransposeTensor(input=c.operand("in", dtype, shape, c["in_strides"]), output=target, perm=perm)


def _read_pad(c: Call) -> Step:
    dtype, shape, pads = c.dtype("type"), c["in_shape"], c["pads"]
    if dtype.size == 8 or dtype is DType.F16:
        raise c.unsupported("an element type that this function does not take", dtype.value)
    c.need(len(pads) == len(shape), "pads of another rank than the tensor", f"{len(pads)} and {len(shape)}")
    c.need(c["mode"] < len(PAD_MODES), "a number without meaning", f"mode is {c['mode']}")
    mode = PAD_MODES[c["mode"]]
    c.need(all(i >= 0 for _, _, i in pads), "negative interior pads", pads)
    between = tuple(n + (n - 1) * i for n, (_, _, i) in zip(shape, pads, strict=True))
    if mode != "constant":
        most = [
            n - (mode == "reflect") if mode != "edge" else max(b, a) for n, (b, a, _) in zip(between, pads, strict=True)
        ]
        good = all(0 <= b <= m and 0 <= a <= m for m, (b, a, _) in zip(most, pads, strict=True))
        c.need(good, "pads that the mode cannot make", f"{mode} {pads} of {between}")
    out = tuple(n + b + a for n, (b, a, _) in zip(between, pads, strict=True))
    interior = tuple(i for _, _, i in pads) if any(i for _, _, i in pads) else ()
    if interior and any(interior[:-2]):
        raise c.unsupported("interior pads of other dimensions than the last two", str(interior))
    return o.PadTensor(
        input=c.operand("in", dtype, shape, c["in_strides"]),
        output=c.operand("out", dtype, out, c["out_strides"]),
        pads=tuple((b, a) for b, a, _ in pads),
        value=c["value"],
        mode=mode,
        interior=interior,
    )


def _write_pad(s: o.PadTensor) -> Values:
    interior = s.interior or (0,) * len(s.pads)
    pads = tuple((b, a, i) for (b, a), i in zip(s.pads, interior, strict=True))
    value = s.value if s.input.dtype is F32 else int(s.value)
    return {**fields_of(s), "pads": pads, "value": value, "mode": PAD_MODES.index(s.mode)}


def _read_slice(c: Call) -> Step:
    dtype, shape, begin, end, stride = c.dtype("type"), c["in_shape"], c["begin"], c.signed("end"), c.signed("stride")
    c.need(len(begin) == len(end) == len(stride) == len(shape), "a slice of another rank than the tensor", begin)
    for n, b, e, s in zip(shape, begin, end, stride, strict=True):
        good = (s > 0 and b < e <= n) or (s < 0 and -1 <= e < b < n)
        c.need(good, "a slice outside the tensor", f"{b}:{e}:{s} of {n}")
    out = tuple(-(-(e - b) // s) for b, e, s in zip(begin, end, stride, strict=True))
    return o.SliceTensor(
        input=c.operand("in", dtype, shape, c["in_strides"]),
        output=c.operand("out", dtype, out, c["out_strides"]),
        begin=begin,
        end=end,
        stride=stride,
    )


# -- reductions and windows ----------------------------------------------------------------------------------------


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


_IN_OUT: Final = "@in @out r:in_shape r:in_strides r:out_strides"

COMMON: Final[tuple[TensorFunction, ...]] = (
    function(
        "BINARY",
        "@a @b @out r:a_shape r:a_strides r:b_shape r:b_strides r:out_shape r:out_strides",
        o.Binary,
        read=_read_binary,
        write=_write_binary,
    ),
    function("UNARY", _IN_OUT, o.Unary, read=_read_unary, write=_write_unary),
    function(
        "QUANTIZE",
        _IN_OUT + " f:multiplier f:offset",
        o.QuantizeTensor,
        o5.AffineQuantize,
        read=_read_quantize,
        write=_write_quantize,
    ),
    function(
        "DEQUANTIZE",
        _IN_OUT + " f:multiplier f:offset",
        o.DequantizeTensor,
        o5.AffineDequantize,
        read=_read_dequantize,
        write=_write_dequantize,
    ),
    function(
        "LUT1D",
        "@in @table @out s:first s:last r:in_shape r:in_strides r:out_strides",
        Requantize,
        read=_read_lookup,
        write=_write_lookup,
    ),
    function("COPY", _IN_OUT, o.CopyTensor, read=_read_copy, write=fields_of),
    function(
        "TRANSPOSE",
        _IN_OUT + " r:perm",
        o.TransposeTensor,
        read=_read_transpose,
        write=lambda s: {**fields_of(s), "perm": s.perm},
    ),
    function(
        "PAD",
        "@in @out s:value r:in_shape r:in_strides r:out_strides p:pads",
        o.PadTensor,
        read=_read_pad,
        write=_write_pad,
    ),
    function(
        "SLICE",
        _IN_OUT + " r:begin r:end r:stride",
        o.SliceTensor,
        read=_read_slice,
        write=lambda s: {**fields_of(s), "begin": s.begin, "end": s.end, "stride": s.stride},
    ),
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
        _IN_OUT,
        o.SoftmaxTensor,
        read=_read_softmax,
        write=lambda s: {**fields_of(s), "axis": s.axis, "beta": s.beta},
    ),
)

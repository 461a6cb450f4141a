"""Tensor functions of V5's stackvm that work element by element or move tensors: instruction <-> step, declared once.

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


IN_OUT: Final = "@in @out r:in_shape r:in_strides r:out_strides"

ELEMENTS: Final[tuple[TensorFunction, ...]] = (
    function(
        "BINARY",
        "@a @b @out r:a_shape r:a_strides r:b_shape r:b_strides r:out_shape r:out_strides",
        o.Binary,
        read=_read_binary,
        write=_write_binary,
    ),
    function("UNARY", IN_OUT, o.Unary, read=_read_unary, write=_write_unary),
    function(
        "QUANTIZE",
        IN_OUT + " f:multiplier f:offset",
        o.QuantizeTensor,
        o5.AffineQuantize,
        read=_read_quantize,
        write=_write_quantize,
    ),
    function(
        "DEQUANTIZE",
        IN_OUT + " f:multiplier f:offset",
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
    function("COPY", IN_OUT, o.CopyTensor, read=_read_copy, write=fields_of),
    function(
        "TRANSPOSE",
        IN_OUT + " r:perm",
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
        IN_OUT + " r:begin r:end r:stride",
        o.SliceTensor,
        read=_read_slice,
        write=lambda s: {**fields_of(s), "begin": s.begin, "end": s.end, "stride": s.stride},
    ),
)

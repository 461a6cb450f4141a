"""V4's neutral operators: opcode, name, binary structure and the step it decodes to.

Each structure is declared once (``Record``); the ``_read_*`` and ``_fields_*`` functions only say how its fields map to
operands and parameters. A range is (memory type, element type, start, size in bytes), a shape (n, c, h, w). Source:
nncase v0.2.0-beta4, ``neutral_ops_body.h``. The table of all operators is at the end of ``v4_ops_nhwc``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, Final

import numpy as np

from openkpu.kmodel import nnil
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Memory, Operand, QuantizedTerm
from openkpu.kmodel.record import Record
from openkpu.kmodel.v4_body import MAX_NUMBER, Body, Range, range_of, shape4

U8, F32 = DType.U8, DType.F32
Fields = dict[str, Any]

UNARY_OPS: Final = tuple(
    t.UnaryOp(n) for n in ("abs", "ceil", "cos", "exp", "floor", "log", "neg", "rsqrt", "sin", "square")
)
"""unary_op in the file -> function."""


@dataclass(frozen=True, slots=True)
class OpType:
    """One V4 operator, both directions."""

    opcode: int
    name: str
    step: type[p.Step]
    record: Record
    read: Callable[[Body, Fields], p.Step]
    fields: Callable[[Any], Fields]
    tail: Callable[[Any], bytes] = lambda step: b""
    """What follows the structure in the body."""

    def decode(self, body: Body) -> p.Step:
        """Read the body; errors name node and offset."""
        return self.read(body, body.record(self.record))

    def encode(self, step: p.Step) -> bytes:
        """Write the body, without the final padding."""
        return self.record.pack(**self.fields(step)) + self.tail(step)


def _in_out(s: Any) -> Fields:
    return {"in": range_of(s.input), "out": range_of(s.output)}


def number(body: Body, kind: Any, value: int, what: str) -> Any:
    """Return a member of an enumeration by its number; another number is one at which the runtime stops."""
    values = {m.value: m for m in kind}
    if value not in values or values[value] is t.BinaryOp.POW:
        raise body.stops(f"an unknown {what}", f"its number is {value}")
    return values[value]


def table_bytes(*arrays: Any) -> bytes:
    """Concatenate arrays as they lie in a file (little-endian float32, int32 or uint8)."""
    return b"".join(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes() for a in arrays)


# -- element by element --------------------------------------------------------------------------------------------


def _elementwise(body: Body, f: Fields, source: DType, target: DType) -> dict[str, Any]:
    """Operands of an operator that counts its elements by the size of the input's range."""
    operand = body.counted(f["in"], source)
    body.spend(operand.elements)
    return {"input": operand, "output": body.result(f["out"], target, *operand.shape)}


def _scale(body: Body, f: Fields) -> dict[str, Any]:
    if not (isfinite(f["scale"]) and f["scale"] != 0):
        raise body.error("E115", "a scale without meaning", f"it is {f['scale']}")
    return {"scale": 1 / f["scale"], "zero_point": f["zero_point"]}


def _read_quantize(body: Body, f: Fields) -> p.Step:
    return t.QuantizeTensor(**_elementwise(body, f, F32, U8), **_scale(body, f))


def _read_dequantize(body: Body, f: Fields) -> p.Step:
    return t.DequantizeTensor(**_elementwise(body, f, U8, F32), **_scale(body, f))


def _fields_scale(s: Any) -> Fields:
    return _in_out(s) | {"zero_point": s.zero_point, "scale": 1 / s.scale}


def _read_unary(body: Body, f: Fields) -> p.Step:
    if not 0 <= f["op"] < len(UNARY_OPS):
        raise body.stops("an unknown unary function", f"its number is {f['op']}")
    return t.Unary(**_elementwise(body, f, F32, F32), op=UNARY_OPS[f["op"]])


def _read_nnil(body: Body, f: Fields) -> p.Step:
    operands = _elementwise(body, f, F32, F32)
    code = body.rest()
    try:
        code = code[: nnil.length(code)]
    except ValueError as error:
        raise body.error("E134", "a broken nnil function", str(error)) from None
    body.spend(operands["input"].elements * len(code))
    return v4.NnilUnary(**operands, code=code)


def _read_copy(body: Body, f: Fields) -> p.Step:
    dtype = body.dtype(f["in"])
    size = f["in"][3] // 4 * 4  # the runtime copies whole floats
    source = body.counted((*f["in"][:3], size), dtype)
    body.spend(source.elements)
    return t.CopyTensor(input=source, output=body.result(f["out"], dtype, *source.shape))


def _read_table(body: Body, f: Fields) -> p.Step:
    if body.dtype(f["in"]) is not U8:
        raise body.stops("a table lookup of floats", "its input must be uint8")
    operands = _elementwise(body, f, U8, U8)
    table = body.tensor(f["table"], U8, 256)
    if table.memory is not Memory.CONST:
        return v4.TableLookup(**operands, table=table)
    at = body.file.constants[0] + table.start
    body.file.tables.append((body.index, table.start))
    return p.Requantize(**operands, table=body.file.data[at : at + 256])


def _broadcast(body: Body, f: Fields, dtype: DType) -> dict[str, Any]:
    a, b, out = f["a_shape"], f["b_shape"], f["out_shape"]
    if a == b:
        out = a  # the runtime then ignores the output's shape
    for side in (a, b):
        if any(n not in (1, o) for n, o in zip(side, out, strict=True)):
            raise body.error("E115", "shapes that do not broadcast", f"{a} and {b} to {out}")
    operands = {
        "input_a": body.tensor(f["a"], dtype, *a),
        "input_b": body.tensor(f["b"], dtype, *b),
        "output": body.result(f["out"], dtype, *out),
    }
    body.spend(operands["output"].elements)
    return operands | {"op": number(body, t.BinaryOp, f["op"], "binary operator")}


def _fields_broadcast(s: Any) -> Fields:
    shapes = {"a_shape": s.input_a, "b_shape": s.input_b, "out_shape": s.output}
    ranges = {"a": s.input_a, "b": s.input_b, "out": s.output}
    return (
        {name: range_of(o) for name, o in ranges.items()}
        | {name: shape4(o) for name, o in shapes.items()}
        | {"op": s.op.value}
    )


def _read_binary(body: Body, f: Fields) -> p.Step:
    return t.Binary(**_broadcast(body, f, F32), clamp=f["act"])


def _term(body: Body, f: Fields, prefix: str) -> QuantizedTerm:
    term = QuantizedTerm(f[f"{prefix}_offset"], f[f"{prefix}_mul"], f[f"{prefix}_shift"])
    body.within(0, 63, **{f"{prefix}_shift": term.shift})
    return term


def _read_quantized_binary(body: Body, f: Fields) -> p.Step:
    terms = {prefix: _term(body, f, prefix) for prefix in "abo"}
    return v4.QuantizedBinary(**_broadcast(body, f, U8), **terms)


def _fields_quantized_binary(s: Any) -> Fields:
    out = _fields_broadcast(s)
    for prefix in "abo":
        out |= fields_term(getattr(s, prefix), prefix)
    return out


def fields_term(term: QuantizedTerm, prefix: str) -> Fields:
    """Return the fields of a fixed-point term."""
    return {f"{prefix}_offset": term.offset, f"{prefix}_mul": term.mul, f"{prefix}_shift": term.shift}


# -- movement ------------------------------------------------------------------------------------------------------


def _read_concat(body: Body, f: Fields) -> p.Step:
    n, inner, outer = f["n"], f["inner_size"], f["outer_size"]
    body.need(body.position, n * 20, "the list of inputs")
    ranges: list[Range] = [tuple(r) for r in body.array("<u4", n, 4, what="the inputs").tolist()]
    dims: list[int] = body.array("<i4", n, what="the dimensions").tolist()
    body.within(1, MAX_NUMBER, inputs=n)
    dtype = body.dtype(f["out"])
    if inner % dtype.size:
        dtype = U8
    inputs = [body.shaped(r, dtype, outer, d, inner // dtype.size) for r, d in zip(ranges, dims, strict=True)]
    axis = _axis(inputs, dims, outer, inner // dtype.size)
    if axis is None:
        axis = 1
        inputs = [Operand(o.memory, o.start, dtype, (outer, d, inner // dtype.size)) for o, d in zip(inputs, dims, strict=True)]
    shape = list(inputs[0].shape)
    shape[axis] = sum(dims)
    output = body.result(f["out"], dtype, *shape)
    body.spend(output.size)
    body.spend(n * outer)
    return t.ConcatTensors(inputs=tuple(inputs), output=output, axis=axis)


def _axis(inputs: list[Operand], dims: list[int], outer: int, inner: int) -> int | None:
    """Which axis of the inputs' known shapes is concatenated, if there is one."""
    for axis in range(len(inputs[0].shape)):
        other = {o.shape[:axis] + o.shape[axis + 1 :] for o in inputs if len(o.shape) > axis}
        if len(other) == 1 and all(
            len(o.shape) > axis
            and (prod(o.shape[:axis]), o.shape[axis], prod(o.shape[axis + 1 :])) == (outer, d, inner)
            for o, d in zip(inputs, dims, strict=True)
        ):
            return axis
    return None


def _fields_concat(s: Any) -> Fields:
    shape = s.output.shape
    return {
        "out": range_of(s.output),
        "inner_size": prod(shape[s.axis + 1 :]) * s.output.dtype.size,
        "outer_size": prod(shape[: s.axis]),
        "n": len(s.inputs),
    }


def _tail_concat(s: Any) -> bytes:
    rows = [struct.pack("<4I", *range_of(o)) for o in s.inputs]
    return b"".join(rows) + struct.pack(f"<{len(rows)}i", *(o.shape[s.axis] for o in s.inputs))


def _moved(body: Body, f: Fields, shape: tuple[int, ...]) -> dict[str, Any]:
    """Operands of an operator that moves elements of either type; ``shape`` is the output's."""
    dtype = body.dtype(f["in"])
    operands = {"input": body.tensor(f["in"], dtype, *f["in_shape"]), "output": body.result(f["out"], dtype, *shape)}
    body.spend(operands["input"].elements + operands["output"].elements)
    return operands


def _fields_moved(s: Any) -> Fields:
    return _in_out(s) | {"in_shape": shape4(s.input)}


def _read_pad(body: Body, f: Fields) -> p.Step:
    flat = f["paddings"]
    pads = tuple((flat[i], flat[i + 1]) for i in range(0, 8, 2))
    for before, after in pads:
        body.within(-MAX_NUMBER, MAX_NUMBER, before=before, after=after)
    shape = tuple(n + before + after for n, (before, after) in zip(f["in_shape"], pads, strict=True))
    operands = _moved(body, f, shape)
    value = float(f["value"][0]) if operands["input"].dtype is U8 else struct.unpack("<f", bytes(f["value"]))[0]
    return t.PadTensor(**operands, pads=pads, value=value)


def _fields_pad(s: Any) -> Fields:
    if s.mode != "constant":
        raise ValueError(f"padding in the mode {s.mode}")
    raw = struct.pack("<f", s.value)
    if s.input.dtype is U8:
        if s.value not in range(256):
            raise ValueError(f"the value {s.value} of padding is no byte")
        raw = bytes([int(s.value), 0, 0, 0])
    pads = ((0, 0),) * (4 - len(s.pads)) + tuple(s.pads)
    # The runtime goes by the input's type; every compiler leaves the value's type 0.
    return _fields_moved(s) | {"paddings": [n for pair in pads for n in pair], "value_type": 0, "value": tuple(raw)}


def _read_transpose(body: Body, f: Fields) -> p.Step:
    perm = f["perm"]
    if sorted(perm) != [0, 1, 2, 3]:
        raise body.error("E115", "a transposition without meaning", f"perm is {perm}")
    return t.TransposeTensor(**_moved(body, f, tuple(f["in_shape"][i] for i in perm)), perm=perm)


def _fields_transpose(s: Any) -> Fields:
    missing = 4 - len(s.perm)
    return _fields_moved(s) | {"perm": (*range(missing), *(i + missing for i in s.perm))}


def _read_slice(body: Body, f: Fields) -> p.Step:
    shape = []
    for n, begin, end, stride in zip(f["in_shape"], f["begin"], f["end"], f["strides"], strict=True):
        count = len(range(begin, end, stride)) if stride else 0
        if not (stride and count and 0 <= begin < n and 0 <= begin + (count - 1) * stride < n):
            raise body.error(
                "E115", "a slice outside its tensor", f"{begin}:{end}:{stride} of a dimension with {n} elements"
            )
        shape.append(count)
    operands = _moved(body, f, tuple(shape))
    return t.SliceTensor(**operands, begin=f["begin"], end=f["end"], stride=f["strides"])


_MASKS: Final = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


def _fields_slice(s: Any) -> Fields:
    missing = 4 - len(s.begin)
    return (
        _fields_moved(s)
        | {"begin": (0,) * missing + s.begin, "end": (1,) * missing + s.end, "strides": (1,) * missing + s.stride}
        | dict.fromkeys(_MASKS, 0)
    )


def _read_resize(body: Body, f: Fields) -> p.Step:
    n, c, _, _ = f["in_shape"]
    if f["mode"] not in (0, 1):
        raise body.error("E115", "an unknown way to resize", f"mode is {f['mode']}; 0 is bilinear, 1 nearest")
    operands = _moved(body, f, (n, c, f["out_h"], f["out_w"]))
    return t.ResizeImage(**operands, mode=t.ResizeMode(f["mode"]), align_corners=bool(f["align_corners"]))


def _fields_resize(s: Any) -> Fields:
    if s.half_pixel_centers:
        raise ValueError("half_pixel_centers")
    _, _, h, w = shape4(s.output)
    return _fields_moved(s) | {
        "out_h": h,
        "out_w": w,
        "mode": s.mode.value,
        "align_corners": int(s.align_corners),
        "unused": (0, 0, 0),
    }


def _read_upload(body: Body, f: Fields) -> p.Step:
    n, c, h, w = body.sizes(*f["in_shape"])
    target = body.map(f["out"], f["in_shape"])
    source = body.tensor(f["in"], U8, *(target.shape if n == 1 else f["in_shape"]))
    body.spend(source.elements)
    return p.KpuUpload(input=source, output=target)


# -- sums ----------------------------------------------------------------------------------------------------------


def _read_reduce(body: Body, f: Fields) -> p.Step:
    shape, out = f["in_shape"], f["out_shape"]
    if any(o not in (1, n) for n, o in zip(shape, out, strict=True)):
        raise body.error("E115", "a reduction without meaning", f"{shape} becomes {out}")
    source, target = body.tensor(f["in"], F32, *shape), body.result(f["out"], F32, *out)
    op = number(body, t.ReduceOp, f["op"], "reduction")
    if op is t.ReduceOp.MEAN and (f["in"][3], f["out"][3]) != (source.size, target.size):
        raise body.error(
            "E135", "a mean over another number of elements than its shape has", f"ranges of {f['in'][3]}, {f['out'][3]}"
        )
    body.spend(source.elements)
    axes = tuple(i for i, (n, o) in enumerate(zip(shape, out, strict=True)) if n != o)
    body.spend(256 * prod(shape[i] for i in axes))
    return t.Reduce(input=source, output=target, op=op, axes=axes, init=f["init"])


def _fields_reduce(s: Any) -> Fields:
    if not s.keep_dims:
        raise ValueError("a reduction that drops dimensions")
    return _in_out(s) | {"op": s.op.value, "in_shape": shape4(s.input), "out_shape": shape4(s.output), "init": s.init}


def _read_softmax(body: Body, f: Fields) -> p.Step:
    shape = body.sizes(f["outer_size"], f["inner_size"])
    source = body.tensor(f["in"], F32, *shape)
    body.spend(source.elements * 8)
    return t.SoftmaxTensor(input=source, output=body.result(f["out"], F32, *shape), axis=1, beta=f["beta"])


def _fields_softmax(s: Any) -> Fields:
    if s.axis % len(s.input.shape) != len(s.input.shape) - 1:
        raise ValueError("a softmax along another axis than the last")
    inner = s.input.shape[-1]
    return _in_out(s) | {"inner_size": inner, "outer_size": s.input.elements // inner, "beta": s.beta}


def window(body: Body, f: Fields, height: int, width: int) -> tuple[dict[str, Any], int, int]:
    """Check the windows of a convolution or pooling; return its parameters and the output's height and width."""
    pads = f["pad_h"], f["pad_w"]
    out = []
    for axis, size, (before, after) in zip("hw", (height, width), pads, strict=True):
        kernel, stride, dilation = (f[f"{n}_{axis}"] for n in ("filter", "stride", "dilation"))
        body.within(1, MAX_NUMBER, filter=kernel, stride=stride, dilation=dilation)
        body.within(-MAX_NUMBER, MAX_NUMBER, before=before, after=after)
        out.append((size + before + after - ((kernel - 1) * dilation + 1)) // stride + 1)
    body.sizes(*out)
    parameters = {
        "pads": pads,
        "stride": (f["stride_h"], f["stride_w"]),
        "dilation": (f["dilation_h"], f["dilation_w"]),
    }
    return parameters, out[0], out[1]


def fields_window(s: Any, kernel: tuple[int, int]) -> Fields:
    """Return the fields of a convolution's or pooling's window."""
    out: Fields = {"pad_h": s.pads[0], "pad_w": s.pads[1]}
    for name, pair in (("filter", kernel), ("stride", s.stride), ("dilation", s.dilation)):
        out |= {f"{name}_h": pair[0], f"{name}_w": pair[1]}
    return out


WINDOW: Final = (
    "pad_h:i32*2",
    "pad_w:i32*2",
    *(f"{name}_{axis}:i32" for name in ("filter", "stride", "dilation") for axis in "hw"),
)
QUANTIZED: Final = ("input_offset:i32", "filter_offset:i32", "o_mul:i32", "o_shift:i32", "o_offset:i32")


def _read_reduce_window(body: Body, f: Fields) -> p.Step:
    n, c, h, w = f["in_shape"]
    source = body.tensor(f["in"], F32, n, c, h, w)
    parameters, oh, ow = window(body, f, h, w)
    target = body.result(f["out"], F32, n, c, oh, ow)
    body.spend(max(target.elements, 256) * f["filter_h"] * f["filter_w"])
    return t.ReduceWindow(
        input=source,
        output=target,
        op=number(body, t.ReduceOp, f["op"], "reduction"),
        kernel=(f["filter_h"], f["filter_w"]),
        init=f["init"],
        clamp=f["act"],
        **parameters,
    )


def fields_reduce_window(s: Any) -> Fields:
    """Return the fields of a pooling."""
    own = {"op": s.op.value, "in_shape": shape4(s.input), "init": s.init, "act": s.clamp}
    return _in_out(s) | own | fields_window(s, s.kernel)


def _convolution(body: Body, f: Fields, dtype: DType) -> tuple[dict[str, Any], tuple[int, int, int, int]]:
    """Operands and parameters of a convolution, and the shape of its weights."""
    n, c, h, w = f["in_shape"]
    groups, oc = f["groups"], f["out_channels"]
    source = body.tensor(f["in"], dtype, n, c, h, w)
    body.within(1, MAX_NUMBER, groups=groups, out_channels=oc)
    if c % groups or oc % groups:
        raise body.error("E115", "groups that do not divide the channels", f"{c} to {oc} channels in {groups} groups")
    parameters, oh, ow = window(body, f, h, w)
    target = body.result(f["out"], dtype, n, oc, oh, ow)
    taps = c // groups * f["filter_h"] * f["filter_w"]
    body.spend(max(target.elements, 256 * groups) * taps)
    return {"input": source, "output": target, "groups": groups} | parameters, (oc, c // groups, f["filter_h"], f["filter_w"])


def _read_conv2d(body: Body, f: Fields) -> p.Step:
    parameters, shape = _convolution(body, f, F32)
    weights = body.array("<f4", *shape, what="the weights")
    return t.Conv2D(**parameters, weights=weights, bias=body.array("<f4", shape[0], what="the bias"), clamp=f["act"])


def _fields_convolution(s: Any) -> Fields:
    oc, _, kh, kw = s.weights.shape
    own = {"in_shape": shape4(s.input), "groups": s.groups, "out_channels": oc}
    return _in_out(s) | own | fields_window(s, (kh, kw))


def _read_quantized_conv2d(body: Body, f: Fields) -> p.Step:
    parameters, shape = _convolution(body, f, U8)
    bias = body.array("<i4", shape[0], what="the bias")
    weights = body.array("<u1", *shape, what="the weights")
    return v4.QuantizedConv2D(**parameters, bias=bias, weights=weights, **quantized(body, f))


def quantized(body: Body, f: Fields) -> dict[str, Any]:
    """Return the fixed-point parameters of a quantised convolution."""
    offsets = {"input_offset": f["input_offset"], "filter_offset": f["filter_offset"]}
    return offsets | {"o": _term(body, f, "o")}


def fields_quantized(s: Any) -> Fields:
    """Return the fields of a quantised convolution's fixed point."""
    return {"input_offset": s.input_offset, "filter_offset": s.filter_offset} | fields_term(s.o, "o")


def _read_conv2d_transpose(body: Body, f: Fields) -> p.Step:
    n, c, h, w = f["in_shape"]
    out_n, oc, oh, ow = f["out_shape"]
    groups = f["groups"]
    source, target = body.tensor(f["in"], F32, n, c, h, w), body.result(f["out"], F32, out_n, oc, oh, ow)
    body.within(1, MAX_NUMBER, groups=groups)
    if c % groups or oc % groups or n != out_n:
        raise body.error("E115", "a transposed convolution without meaning", f"{f['in_shape']} to {f['out_shape']}")
    parameters, _, _ = window(body, f, oh, ow)
    shape = (oc, c // groups, f["filter_h"], f["filter_w"])
    body.spend(max(source.elements * oc // groups, 256 * c) * shape[2] * shape[3])
    weights = body.array("<f4", *shape, what="the weights")
    bias = body.array("<f4", oc, what="the bias")
    return t.Conv2DTranspose(
        input=source, output=target, groups=groups, weights=weights, bias=bias, clamp=f["act"], **parameters
    )


def _fields_conv2d_transpose(s: Any) -> Fields:
    own = {"in_shape": shape4(s.input), "out_shape": shape4(s.output), "groups": s.groups, "act": s.clamp}
    return _in_out(s) | own | fields_window(s, s.weights.shape[2:])


def _matmul(body: Body, f: Fields, dtype: DType) -> dict[str, Any]:
    rows, inner, columns = body.sizes(f["a_rows"], f["a_cols"], f["b_cols"])
    operands = {
        "input_a": body.tensor(f["a"], dtype, rows, inner),
        "input_b": body.tensor(f["b"], dtype, inner, columns),
        "output": body.result(f["out"], dtype, rows, columns),
    }
    body.spend(max(rows * columns, 256) * inner)
    return operands


def _read_matmul(body: Body, f: Fields) -> p.Step:
    operands = _matmul(body, f, F32)
    return t.MatMul(**operands, bias=body.array("<f4", f["b_cols"], what="the bias"), clamp=f["act"])


def _read_quantized_matmul(body: Body, f: Fields) -> p.Step:
    operands = _matmul(body, f, U8)
    bias = body.array("<i4", f["b_cols"], what="the bias")
    o = _term(body, f, "o")
    return v4.QuantizedMatMul(**operands, bias=bias, a_offset=f["a_offset"], b_offset=f["b_offset"], o=o)


def _fields_matmul(s: Any) -> Fields:
    rows, inner = s.input_a.shape[-2:]
    ranges = {"a": range_of(s.input_a), "b": range_of(s.input_b), "out": range_of(s.output)}
    return ranges | {"a_rows": rows, "a_cols": inner, "b_cols": s.output.shape[-1]}


# -- the table -----------------------------------------------------------------------------------------------------

IN_OUT: Final = ("in:u32*4", "out:u32*4")
_BINARY: Final = ("a:u32*4", "b:u32*4", "out:u32*4", "op:i32", "a_shape:i32*4", "b_shape:i32*4", "out_shape:i32*4")
_CONV: Final = (*IN_OUT, "in_shape:i32*4", "groups:i32", "out_channels:i32", *WINDOW)
_MATMUL: Final = ("a:u32*4", "b:u32*4", "out:u32*4", "a_rows:i32", "a_cols:i32", "b_cols:i32")
_TERMS: Final = tuple(f"{term}_{name}:i32" for term in "abo" for name in ("offset", "mul", "shift"))
_AFFINE: Final = Record(*IN_OUT, "zero_point:i32", "scale:f32")

NEUTRAL: Final = (
    OpType(0x00, "binary", t.Binary, Record(*_BINARY, "act:f32*2"), _read_binary, lambda s: _fields_broadcast(s) | {"act": s.clamp}),
    OpType(
        0x01,
        "concat",
        t.ConcatTensors,
        Record("out:u32*4", "inner_size", "outer_size", "n"),
        _read_concat,
        _fields_concat,
        _tail_concat,
    ),
    OpType(
        0x02,
        "conv2d",
        t.Conv2D,
        Record(*_CONV, "act:f32*2"),
        _read_conv2d,
        lambda s: _fields_convolution(s) | {"act": s.clamp},
        lambda s: table_bytes(s.weights, s.bias),
    ),
    OpType(0x03, "dequantize", t.DequantizeTensor, _AFFINE, _read_dequantize, _fields_scale),
    OpType(
        0x04,
        "matmul",
        t.MatMul,
        Record(*_MATMUL, "act:f32*2"),
        _read_matmul,
        lambda s: _fields_matmul(s) | {"act": s.clamp},
        lambda s: table_bytes(s.bias),
    ),
    OpType(
        0x05,
        "pad",
        t.PadTensor,
        Record(*IN_OUT, "in_shape:i32*4", "paddings:i32*8", "value_type", "value:u8*4"),
        _read_pad,
        _fields_pad,
    ),
    OpType(0x06, "quantize", t.QuantizeTensor, _AFFINE, _read_quantize, _fields_scale),
    OpType(
        0x07,
        "reduce",
        t.Reduce,
        Record(*IN_OUT, "op:i32", "in_shape:i32*4", "out_shape:i32*4", "init:f32"),
        _read_reduce,
        _fields_reduce,
    ),
    OpType(
        0x08,
        "reduce_window2d",
        t.ReduceWindow,
        Record(*IN_OUT, "op:i32", "in_shape:i32*4", *WINDOW, "init:f32", "act:f32*2"),
        _read_reduce_window,
        fields_reduce_window,
    ),
    OpType(0x09, "memory_copy", t.CopyTensor, Record(*IN_OUT), _read_copy, _in_out),
    OpType(
        0x0A,
        "resize_image",
        t.ResizeImage,
        Record(*IN_OUT, "in_shape:i32*4", "out_h:i32", "out_w:i32", "mode:i32", "align_corners:u8", "unused:u8*3"),
        _read_resize,
        _fields_resize,
    ),
    OpType(
        0x0B,
        "softmax",
        t.SoftmaxTensor,
        Record(*IN_OUT, "inner_size:i32", "outer_size:i32", "beta:f32"),
        _read_softmax,
        _fields_softmax,
    ),
    OpType(
        0x0C,
        "transpose",
        t.TransposeTensor,
        Record(*IN_OUT, "in_shape:i32*4", "perm:i32*4"),
        _read_transpose,
        _fields_transpose,
    ),
    OpType(
        0x0D,
        "strided_slice",
        t.SliceTensor,
        Record(
            *IN_OUT, "in_shape:i32*4", "begin:i32*4", "end:i32*4", "strides:i32*4", *(f"{mask}:i32" for mask in _MASKS)
        ),
        _read_slice,
        _fields_slice,
    ),
    OpType(
        0x0E,
        "unary",
        t.Unary,
        Record(*IN_OUT, "op:i32"),
        _read_unary,
        lambda s: _in_out(s) | {"op": UNARY_OPS.index(s.op)},
    ),
    OpType(
        0x0F,
        "quantized_conv2d",
        v4.QuantizedConv2D,
        Record(*_CONV, *QUANTIZED),
        _read_quantized_conv2d,
        lambda s: _fields_convolution(s) | fields_quantized(s),
        lambda s: table_bytes(s.bias, s.weights),
    ),
    OpType(
        0x10,
        "quantized_matmul",
        v4.QuantizedMatMul,
        Record(*_MATMUL, "a_offset:i32", "b_offset:i32", "o_mul:i32", "o_shift:i32", "o_offset:i32"),
        _read_quantized_matmul,
        lambda s: _fields_matmul(s) | {"a_offset": s.a_offset, "b_offset": s.b_offset} | fields_term(s.o, "o"),
        lambda s: table_bytes(s.bias),
    ),
    OpType(
        0x11,
        "quantized_binary",
        v4.QuantizedBinary,
        Record(*_BINARY, *_TERMS),
        _read_quantized_binary,
        _fields_quantized_binary,
    ),
    OpType(
        0x12,
        "table_lookup1d",
        v4.TableLookup,
        Record("in:u32*4", "table:u32*4", "out:u32*4"),
        _read_table,
        lambda s: _in_out(s) | {"table": range_of(s.table)},
    ),
    OpType(
        0x13,
        "conv2d_transpose",
        t.Conv2DTranspose,
        Record(*IN_OUT, "in_shape:i32*4", "out_shape:i32*4", "groups:i32", *WINDOW, "act:f32*2"),
        _read_conv2d_transpose,
        _fields_conv2d_transpose,
        lambda s: table_bytes(s.weights, s.bias),
    ),
    OpType(0x14, "nnil_unary_method", v4.NnilUnary, Record(*IN_OUT), _read_nnil, _in_out, lambda s: bytes(s.code)),
    OpType(
        0x2001, "kpu_upload", p.KpuUpload, Record(*IN_OUT, "in_shape:i32*4"), _read_upload, _fields_moved
    ),
)
"""The operators of the neutral runtime, and the upload to AI RAM."""

"""V4's operators that work element by element."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

from openkpu.kmodel import nnil
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Memory
from openkpu.kmodel.record import Record
from openkpu.kmodel.v4_body import Body, range_of, shape4
from openkpu.kmodel.v4_op import F32, IN_OUT, U8, Fields, OpType, fields_term, in_out, number, term

UNARY_OPS: Final = tuple(
    t.UnaryOp(n) for n in ("abs", "ceil", "cos", "exp", "floor", "log", "neg", "rsqrt", "sin", "square")
)


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
    return in_out(s) | {"zero_point": s.zero_point, "scale": 1 / s.scale}


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


def _read_quantized_binary(body: Body, f: Fields) -> p.Step:
    terms: dict[str, Any] = {prefix: term(body, f, prefix) for prefix in "abo"}
    return v4.QuantizedBinary(**_broadcast(body, f, U8), **terms)


def _fields_quantized_binary(s: Any) -> Fields:
    out = _fields_broadcast(s)
    for prefix in "abo":
        out |= fields_term(getattr(s, prefix), prefix)
    return out


_BINARY: Final = ("a:u32*4", "b:u32*4", "out:u32*4", "op:i32", "a_shape:i32*4", "b_shape:i32*4", "out_shape:i32*4")
_TERMS: Final = tuple(f"{term}_{name}:i32" for term in "abo" for name in ("offset", "mul", "shift"))
_AFFINE: Final = Record(*IN_OUT, "zero_point:i32", "scale:f32")


ELEMENTWISE: Final = (
    OpType(
        0x00,
        "binary",
        t.Binary,
        Record(*_BINARY, "act:f32*2"),
        _read_binary,
        lambda s: _fields_broadcast(s) | {"act": s.clamp},
    ),
    OpType(0x03, "dequantize", t.DequantizeTensor, _AFFINE, _read_dequantize, _fields_scale),
    OpType(0x06, "quantize", t.QuantizeTensor, _AFFINE, _read_quantize, _fields_scale),
    OpType(0x09, "memory_copy", t.CopyTensor, Record(*IN_OUT), _read_copy, in_out),
    OpType(
        0x0E,
        "unary",
        t.Unary,
        Record(*IN_OUT, "op:i32"),
        _read_unary,
        lambda s: in_out(s) | {"op": UNARY_OPS.index(s.op)},
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
        lambda s: in_out(s) | {"table": range_of(s.table)},
    ),
    OpType(0x14, "nnil_unary_method", v4.NnilUnary, Record(*IN_OUT), _read_nnil, in_out, lambda s: bytes(s.code)),
)

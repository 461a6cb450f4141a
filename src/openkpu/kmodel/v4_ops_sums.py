"""V4's operators that sum up along dimensions: reduction, softmax, matrix products."""

from __future__ import annotations

from math import prod
from typing import Any, Final

from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType
from openkpu.kmodel.record import Record
from openkpu.kmodel.v4_body import Body, range_of, shape4
from openkpu.kmodel.v4_op import F32, IN_OUT, U8, Fields, OpType, fields_term, in_out, number, table_bytes, term


def _read_reduce(body: Body, f: Fields) -> p.Step:
    shape, out = f["in_shape"], f["out_shape"]
    if any(o not in (1, n) for n, o in zip(shape, out, strict=True)):
        raise body.error("E115", "a reduction without meaning", f"{shape} becomes {out}")
    source, target = body.tensor(f["in"], F32, *shape), body.result(f["out"], F32, *out)
    op = number(body, t.ReduceOp, f["op"], "reduction")
    if op is t.ReduceOp.MEAN and (f["in"][3], f["out"][3]) != (source.size, target.size):
        raise body.error(
            "E135",
            "a mean over another number of elements than its shape has",
            f"ranges of {f['in'][3]}, {f['out'][3]}",
        )
    body.spend(source.elements)
    axes = tuple(i for i, (n, o) in enumerate(zip(shape, out, strict=True)) if n != o)
    body.spend(256 * prod(shape[i] for i in axes))
    return t.Reduce(input=source, output=target, op=op, axes=axes, init=f["init"])


def _fields_reduce(s: Any) -> Fields:
    if not s.keep_dims:
        raise ValueError("a reduction that drops dimensions")
    return in_out(s) | {"op": s.op.value, "in_shape": shape4(s.input), "out_shape": shape4(s.output), "init": s.init}


def _read_softmax(body: Body, f: Fields) -> p.Step:
    shape = body.sizes(f["outer_size"], f["inner_size"])
    source = body.tensor(f["in"], F32, *shape)
    body.spend(source.elements * 8)
    return t.SoftmaxTensor(input=source, output=body.result(f["out"], F32, *shape), axis=1, beta=f["beta"])


def _fields_softmax(s: Any) -> Fields:
    if s.axis % len(s.input.shape) != len(s.input.shape) - 1:
        raise ValueError("a softmax along another axis than the last")
    inner = s.input.shape[-1]
    return in_out(s) | {"inner_size": inner, "outer_size": s.input.elements // inner, "beta": s.beta}


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
    o = term(body, f, "o")
    return v4.QuantizedMatMul(**operands, bias=bias, a_offset=f["a_offset"], b_offset=f["b_offset"], o=o)


def _fields_matmul(s: Any) -> Fields:
    rows, inner = s.input_a.shape[-2:]
    ranges = {"a": range_of(s.input_a), "b": range_of(s.input_b), "out": range_of(s.output)}
    return ranges | {"a_rows": rows, "a_cols": inner, "b_cols": s.output.shape[-1]}


_MATMUL: Final = ("a:u32*4", "b:u32*4", "out:u32*4", "a_rows:i32", "a_cols:i32", "b_cols:i32")


SUMS: Final = (
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
        0x07,
        "reduce",
        t.Reduce,
        Record(*IN_OUT, "op:i32", "in_shape:i32*4", "out_shape:i32*4", "init:f32"),
        _read_reduce,
        _fields_reduce,
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
        0x10,
        "quantized_matmul",
        v4.QuantizedMatMul,
        Record(*_MATMUL, "a_offset:i32", "b_offset:i32", "o_mul:i32", "o_shift:i32", "o_offset:i32"),
        _read_quantized_matmul,
        lambda s: _fields_matmul(s) | {"a_offset": s.a_offset, "b_offset": s.b_offset} | fields_term(s.o, "o"),
        lambda s: table_bytes(s.bias),
    ),
)

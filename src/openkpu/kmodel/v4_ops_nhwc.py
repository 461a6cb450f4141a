"""V4's five ``cpu_...`` operators, which have the channels last.

No compiler is known that emits them, but every V4 runtime has them. Source: nncase v0.2.0-beta4, ``cpu_ops_body.h``.
"""

from __future__ import annotations

from typing import Any, Final

from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType
from openkpu.kmodel.record import Record
from openkpu.kmodel.v4_body import MAX_NUMBER, Body, range_of, shape4
from openkpu.kmodel.v4_op import F32, IN_OUT, U8, Fields, OpType, number, table_bytes
from openkpu.kmodel.v4_ops_window import (
    QUANTIZED,
    WINDOW,
    fields_quantized,
    fields_reduce_window,
    fields_window,
    quantized,
    window,
)


def _convolution(body: Body, f: Fields, dtype: DType) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Operands and parameters of a convolution, and the shape of its weights; depthwise has no ``out_channels``."""
    n, h, w, c = f["in_shape"]
    oc = f.get("out_channels", c)
    source = body.tensor(f["in"], dtype, n, h, w, c)
    body.within(1, MAX_NUMBER, out_channels=oc)
    parameters, oh, ow = window(body, f, h, w)
    target = body.result(f["out"], dtype, n, oh, ow, oc)
    shape = (oc, f["filter_h"], f["filter_w"], *((c,) if "out_channels" in f else ()))
    body.spend(max(target.elements, 256) * f["filter_h"] * f["filter_w"] * (c if "out_channels" in f else 1))
    return {"input": source, "output": target} | parameters, shape


def _read_conv2d(kind: Any) -> Any:
    def read(body: Body, f: Fields) -> p.Step:
        parameters, shape = _convolution(body, f, F32)
        weights = body.array("<f4", *shape, what="the weights")
        bias = body.array("<f4", shape[0], what="the bias")
        step: p.Step = kind(**parameters, weights=weights, bias=bias, clamp=f["act"])
        return step

    return read


def _read_quantized_conv2d(kind: Any) -> Any:
    def read(body: Body, f: Fields) -> p.Step:
        parameters, shape = _convolution(body, f, U8)
        weights = body.array("<u1", *shape, what="the weights")
        bias = body.array("<i4", shape[0], what="the bias")
        step: p.Step = kind(**parameters, weights=weights, bias=bias, **quantized(body, f))
        return step

    return read


def _fields_depthwise(s: Any) -> Fields:
    own = {"in": range_of(s.input), "out": range_of(s.output), "in_shape": shape4(s.input)}
    return own | fields_window(s, s.weights.shape[1:3])


def _fields_dense(s: Any) -> Fields:
    return _fields_depthwise(s) | {"out_channels": s.weights.shape[0]}


def _read_reduce_window(body: Body, f: Fields) -> p.Step:
    n, h, w, c = f["in_shape"]
    source = body.tensor(f["in"], F32, n, h, w, c)
    parameters, oh, ow = window(body, f, h, w)
    target = body.result(f["out"], F32, n, oh, ow, c)
    body.spend(max(target.elements, 256) * f["filter_h"] * f["filter_w"])
    op = number(body, t.ReduceOp, f["op"], "reduction")
    if op is t.ReduceOp.SUM:
        raise body.stops("a sum over windows with the channels last", "the operator has mean, minimum and maximum only")
    kernel = f["filter_h"], f["filter_w"]
    return v4.NhwcReduceWindow(
        input=source, output=target, op=op, kernel=kernel, init=f["init"], clamp=f["act"], **parameters
    )


_DEPTHWISE: Final = (*IN_OUT, "in_shape:i32*4", *WINDOW)
_DENSE: Final = (*IN_OUT, "in_shape:i32*4", "out_channels:i32", *WINDOW)


def _tail(s: Any) -> bytes:
    return table_bytes(s.weights, s.bias)


NHWC: Final = (
    OpType(
        0x1001,
        "cpu_conv2d",
        v4.NhwcConv2D,
        Record(*_DENSE, "act:f32*2"),
        _read_conv2d(v4.NhwcConv2D),
        lambda s: _fields_dense(s) | {"act": s.clamp},
        _tail,
    ),
    OpType(
        0x1002,
        "cpu_depthwise_conv2d",
        v4.NhwcDepthwiseConv2D,
        Record(*_DEPTHWISE, "act:f32*2"),
        _read_conv2d(v4.NhwcDepthwiseConv2D),
        lambda s: _fields_depthwise(s) | {"act": s.clamp},
        _tail,
    ),
    OpType(
        0x1003,
        "cpu_reduce_window2d",
        v4.NhwcReduceWindow,
        Record(*IN_OUT, "op:i32", "in_shape:i32*4", *WINDOW, "init:f32", "act:f32*2"),
        _read_reduce_window,
        fields_reduce_window,
    ),
    OpType(
        0x1004,
        "cpu_quantized_conv2d",
        v4.NhwcQuantizedConv2D,
        Record(*_DENSE, *QUANTIZED),
        _read_quantized_conv2d(v4.NhwcQuantizedConv2D),
        lambda s: _fields_dense(s) | fields_quantized(s),
        _tail,
    ),
    OpType(
        0x1005,
        "cpu_quantized_depthwise_conv2d",
        v4.NhwcQuantizedDepthwiseConv2D,
        Record(*_DEPTHWISE, *QUANTIZED),
        _read_quantized_conv2d(v4.NhwcQuantizedDepthwiseConv2D),
        lambda s: _fields_depthwise(s) | fields_quantized(s),
        _tail,
    ),
)

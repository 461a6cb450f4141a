"""V4's operators with windows, channels first: convolutions and pooling."""

from __future__ import annotations

from typing import Any, Final

from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType
from openkpu.kmodel.record import Record
from openkpu.kmodel.v4_body import MAX_NUMBER, Body, shape4
from openkpu.kmodel.v4_op import F32, IN_OUT, U8, Fields, OpType, fields_term, in_out, number, table_bytes, term

WINDOW: Final = (
    "pad_h:i32*2",
    "pad_w:i32*2",
    *(f"{name}_{axis}:i32" for name in ("filter", "stride", "dilation") for axis in "hw"),
)
QUANTIZED: Final = ("input_offset:i32", "filter_offset:i32", "o_mul:i32", "o_shift:i32", "o_offset:i32")


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
    return in_out(s) | own | fields_window(s, s.kernel)


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
    return {"input": source, "output": target, "groups": groups} | parameters, (
        oc,
        c // groups,
        f["filter_h"],
        f["filter_w"],
    )


def _read_conv2d(body: Body, f: Fields) -> p.Step:
    parameters, shape = _convolution(body, f, F32)
    weights = body.array("<f4", *shape, what="the weights")
    return t.Conv2D(**parameters, weights=weights, bias=body.array("<f4", shape[0], what="the bias"), clamp=f["act"])


def _fields_convolution(s: Any) -> Fields:
    oc, _, kh, kw = s.weights.shape
    own = {"in_shape": shape4(s.input), "groups": s.groups, "out_channels": oc}
    return in_out(s) | own | fields_window(s, (kh, kw))


def _read_quantized_conv2d(body: Body, f: Fields) -> p.Step:
    parameters, shape = _convolution(body, f, U8)
    bias = body.array("<i4", shape[0], what="the bias")
    weights = body.array("<u1", *shape, what="the weights")
    return v4.QuantizedConv2D(**parameters, bias=bias, weights=weights, **quantized(body, f))


def quantized(body: Body, f: Fields) -> dict[str, Any]:
    """Return the fixed-point parameters of a quantised convolution."""
    offsets = {"input_offset": f["input_offset"], "filter_offset": f["filter_offset"]}
    return offsets | {"o": term(body, f, "o")}


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
    return in_out(s) | own | fields_window(s, s.weights.shape[2:])


_CONV: Final = (*IN_OUT, "in_shape:i32*4", "groups:i32", "out_channels:i32", *WINDOW)


WINDOWS: Final = (
    OpType(
        0x02,
        "conv2d",
        t.Conv2D,
        Record(*_CONV, "act:f32*2"),
        _read_conv2d,
        lambda s: _fields_convolution(s) | {"act": s.clamp},
        lambda s: table_bytes(s.weights, s.bias),
    ),
    OpType(
        0x08,
        "reduce_window2d",
        t.ReduceWindow,
        Record(*IN_OUT, "op:i32", "in_shape:i32*4", *WINDOW, "init:f32", "act:f32*2"),
        _read_reduce_window,
        fields_reduce_window,
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
        0x13,
        "conv2d_transpose",
        t.Conv2DTranspose,
        Record(*IN_OUT, "in_shape:i32*4", "out_shape:i32*4", "groups:i32", *WINDOW, "act:f32*2"),
        _read_conv2d_transpose,
        _fields_conv2d_transpose,
        lambda s: table_bytes(s.weights, s.bias),
    ),
)

"""V3's CPU layer types: number, name, binary structure and the step it decodes to.

Each structure is declared once (``Record``); the ``_read_*`` and ``_fields_*`` functions only say how its fields map to
operands. Shapes in a file are (width, height, channels); steps use (channels, height, width). Addresses are bytes in
the main buffer, KPU addresses are 64-byte lines of AI RAM. Source: kendryte-standalone-sdk ``kpu.c`` and ``kpu.h``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from openkpu.errors import UnsupportedError
from openkpu.k210 import AI_LINE_BYTES
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Operand
from openkpu.kmodel.record import Record
from openkpu.kmodel.v3_body import Body

U8, F32 = DType.U8, DType.F32
Fields = dict[str, Any]

_RANGE: Final = Record("start", "size")


def _count(body: Body, f: Fields, source: DType, target: DType) -> dict[str, Any]:
    """Operands of a layer with in, out and one count; both take the shape of what was written to ``in``."""
    body.spend(f["count"])
    source_operand = body.like(f["in"], f["count"], source)
    return {"input": source_operand, "output": body.main(f["out"], target, *source_operand.shape)}


def _in_out(step: Any) -> Fields:
    return {"in": step.input.start, "out": step.output.start}


def _in_out_count(step: Any) -> Fields:
    return _in_out(step) | {"count": step.input.elements}


def _shape(prefix: str, operand: Operand) -> Fields:
    c, h, w = operand.shape
    return {f"{prefix}_w": w, f"{prefix}_h": h, f"{prefix}_c": c}


# -- element-wise --------------------------------------------------------------------------------------------------


def _binary(body: Body, f: Fields, dtype: DType) -> dict[str, Any]:
    body.spend(f["count"])
    a = body.like(f["in_a"], f["count"], dtype)
    b = body.main(f["in_b"], dtype, *a.shape)
    return {"input_a": a, "input_b": b, "output": body.main(f["out"], dtype, *a.shape)}


def _read_add(body: Body, f: Fields) -> p.Step:
    return p.Add(flags=f["flags"], **_binary(body, f, F32))


def _fields_add(s: Any) -> Fields:
    return {"in_a": s.input_a.start, "in_b": s.input_b.start, "out": s.output.start, "count": s.output.elements}


def _read_quantized_add(body: Body, f: Fields) -> p.Step:
    terms: dict[str, Any] = {t: p.QuantizedTerm(f[f"{t}_offset"], f[f"{t}_mul"], f[f"{t}_shift"]) for t in "abo"}
    if any(not 0 <= t.shift < 64 for t in terms.values()):
        raise body.error(
            "E115", "a shift out of range", f"shifts {[t.shift for t in terms.values()]}, allowed are 0..63"
        )
    return p.QuantizedAdd(flags=f["flags"], **_binary(body, f, U8), **terms)


def _fields_quantized_add(s: Any) -> Fields:
    out = _fields_add(s)
    for t in "abo":
        term = getattr(s, t)
        out |= {f"{t}_offset": term.offset, f"{t}_mul": term.mul, f"{t}_shift": term.shift}
    return out


def _read_quantize(body: Body, f: Fields) -> p.Step:
    return p.Quantize(flags=f["flags"], scale=f["scale"], bias=f["bias"], **_count(body, f, F32, U8))


def _read_dequantize(body: Body, f: Fields) -> p.Step:
    return p.Dequantize(flags=f["flags"], scale=f["scale"], bias=f["bias"], **_count(body, f, U8, F32))


def _fields_affine(s: Any) -> Fields:
    return _in_out_count(s) | {"scale": s.scale, "bias": s.bias}


def _read_requantize(body: Body, f: Fields) -> p.Step:
    operands = _count(body, f, U8, U8)
    return p.Requantize(flags=f["flags"], table=body.array("<u1", 256, what="the table").tobytes(), **operands)


def _read_channelwise(body: Body, f: Fields) -> p.Step:
    c, n = f["channels"], f["channel_size"]
    body.spend(c * n)
    source = body.like(f["in"], c * n, U8)
    if source.shape[0] != c:
        source = body.main(f["in"], U8, c, n)
    params = body.array("<f4", c, 2, what="the channel parameters")
    return p.ChannelwiseDequantize(
        flags=f["flags"],
        input=source,
        output=body.main(f["out"], F32, *source.shape),
        scale=params[:, 0],
        bias=params[:, 1],
    )


def _fields_channelwise(s: Any) -> Fields:
    c = s.input.shape[0]
    return _in_out(s) | {"channels": c, "channel_size": s.input.elements // c}


# -- vectors -------------------------------------------------------------------------------------------------------


def _vector(kind: Any) -> Callable[[Body, Fields], p.Step]:
    def read(body: Body, f: Fields) -> p.Step:
        step: p.Step = kind(flags=f["flags"], **_count(body, f, F32, F32))
        return step

    return read


_ACTIVATIONS: Final = {a.value: a for a in p.Activation}


def _read_fully_connected(body: Body, f: Fields) -> p.Step:
    ic, oc = f["in_ch"], f["out_ch"]
    body.spend(ic * oc)
    source, target = body.main(f["in"], F32, ic), body.main(f["out"], F32, oc)
    if f["act"] not in _ACTIVATIONS:
        raise body.error("E115", "an unknown activation", f"act is {f['act']}; known are {sorted(_ACTIVATIONS)}")
    weights = body.array("<f4", oc, ic, what="the weights")
    bias = body.array("<f4", oc, what="the bias")
    return p.FullyConnected(
        flags=f["flags"], input=source, output=target, weights=weights, bias=bias, activation=_ACTIVATIONS[f["act"]]
    )


def _fields_fully_connected(s: Any) -> Fields:
    oc, ic = s.weights.shape
    return _in_out(s) | {"in_ch": ic, "out_ch": oc, "act": s.activation.value}


# -- pooling and movement ------------------------------------------------------------------------------------------


def _read_gap(body: Body, f: Fields) -> p.Step:
    c, n = f["channels"], f["kernel_size"]
    body.spend(c * n)
    source, target = body.main(f["in"], F32, c, n), body.main(f["out"], F32, c)
    return p.GlobalAveragePool(flags=f["flags"], input=source, output=target)


def _fields_gap(s: Any) -> Fields:
    c = s.input.shape[0]
    return _in_out(s) | {"channels": c, "kernel_size": s.input.elements // c}


_POOL: Final = (
    "flags",
    "in",
    "out",
    "in_w",
    "in_h",
    "in_c",
    "out_w",
    "out_h",
    "out_c",
    "kernel_w",
    "kernel_h",
    "stride_w",
    "stride_h",
    "pad_w:i32",
    "pad_h:i32",
)


MAX_POOL_PADDING: Final = 1 << 12  # sense, not a limit of the device: no feature map is that large


def _pool(body: Body, f: Fields, dtype: DType) -> dict[str, Any]:
    source = body.main(f["in"], dtype, f["in_c"], f["in_h"], f["in_w"])
    target = body.main(f["out"], dtype, f["out_c"], f["out_h"], f["out_w"])
    for axis in "wh":
        size, out, kernel, stride, pad = (f[f"{n}_{axis}"] for n in ("in", "out", "kernel", "stride", "pad"))
        if dtype is U8:
            # The maximum of no taps is 0, and a negative padding is an offset into the picture. But a window that
            # starts beyond the far edge makes the runtime's unsigned arithmetic wrap: it reads outside the picture.
            fits = kernel > 0 and stride > 0 and abs(pad) <= MAX_POOL_PADDING and (out - 1) * stride - pad <= size
        else:
            # The mean of a window without any tap inside would divide by zero. A window may reach beyond the far edge.
            fits = 0 <= pad < kernel and stride > 0 and (out - 1) * stride < size + pad
        if not fits:
            raise body.error(
                "E115",
                "pooling windows outside the picture",
                f"{axis}: input {size}, output {out}, kernel {kernel}, stride {stride}, padding {pad}",
            )
    if f["out_c"] != f["in_c"]:
        raise body.error("E115", "pooling that changes the channels", f"{f['in_c']} become {f['out_c']}")
    taps = 1
    for axis in "wh":
        taps *= max(1, min(f[f"kernel_{axis}"], f[f"in_{axis}"] + f[f"pad_{axis}"]))
    # A tap costs one NumPy call however small the output is; 256 element operations are about as much.
    body.spend(max(target.elements, 256) * taps)
    return {
        "flags": f["flags"],
        "input": source,
        "output": target,
        "kernel": (f["kernel_w"], f["kernel_h"]),
        "stride": (f["stride_w"], f["stride_h"]),
        "padding": (f["pad_w"], f["pad_h"]),
    }


def _fields_pool(s: Any) -> Fields:
    out = _in_out(s) | _shape("in", s.input) | _shape("out", s.output)
    for name, pair in (("kernel", s.kernel), ("stride", s.stride), ("pad", s.padding)):
        out |= {f"{name}_w": pair[0], f"{name}_h": pair[1]}
    return out


def _read_max_pool(body: Body, f: Fields) -> p.Step:
    return p.QuantizedMaxPool(**_pool(body, f, U8))


def _read_average_pool(body: Body, f: Fields) -> p.Step:
    return p.AveragePool(**_pool(body, f, F32), activation=f["act"])


def _fields_average_pool(s: Any) -> Fields:
    return _fields_pool(s) | {"act": s.activation}


def _read_concat(quantized: bool) -> Callable[[Body, Fields], p.Step]:
    def read(body: Body, f: Fields) -> p.Step:
        body.need(body.position, f["n"] * _RANGE.size, "the list of inputs")
        ranges = [body.record(_RANGE) for _ in range(f["n"])]
        inputs = tuple(body.main(r["start"], U8, r["size"]) for r in ranges)
        target = body.main(f["out"], U8, sum(i.elements for i in inputs))
        body.spend(target.elements)
        return p.Concat(flags=f["flags"], inputs=inputs, output=target, quantized=quantized)

    return read


def _fields_concat(s: Any) -> Fields:
    return {"out": s.output.start, "n": len(s.inputs)}


def _tail_concat(s: Any) -> bytes:
    return b"".join(_RANGE.pack(start=i.start, size=i.size) for i in s.inputs)


def _read_flatten(body: Body, f: Fields) -> p.Step:
    c, h, w = f["in_c"], f["in_h"], f["in_w"]
    source, target = body.main(f["in"], F32, c, h, w), body.main(f["out"], F32, h, w, c)
    body.spend(source.elements)
    return p.Flatten(flags=f["flags"], input=source, output=target)


def _fields_flatten(s: Any) -> Fields:
    return _in_out(s) | _shape("in", s.input)


def _read_resize(dtype: DType) -> Callable[[Body, Fields], p.Step]:
    def read(body: Body, f: Fields) -> p.Step:
        source = body.main(f["in"], dtype, f["in_c"], f["in_h"], f["in_w"])
        target = body.main(f["out"], dtype, f["in_c"], f["out_h"], f["out_w"])
        body.spend(target.elements)
        return p.ResizeNearest(flags=f["flags"], input=source, output=target, align_corners=f["align_corners"])

    return read


def _fields_resize(s: Any) -> Fields:
    _, h, w = s.output.shape
    return _fields_flatten(s) | {"out_w": w, "out_h": h, "align_corners": s.align_corners}


# -- between main RAM and AI RAM -----------------------------------------------------------------------------------


def _read_add_padding(body: Body, f: Fields) -> p.Step:
    c = f["channels"]
    return p.KpuAddPadding(flags=f["flags"], input=body.main(f["in"], U8, c), output=body.ai(f["line"], c, 4, 4))


def _fields_add_padding(s: Any) -> Fields:
    return {"in": s.input.start, "line": s.output.start // AI_LINE_BYTES, "channels": s.input.elements}


def _read_remove_padding(body: Body, f: Fields) -> p.Step:
    c = f["channels"]
    source, target = body.main(f["in"], U8, c, 4, 4), body.main(f["out"], U8, c)
    return p.KpuRemovePadding(flags=f["flags"], input=source, output=target)


def _fields_remove_padding(s: Any) -> Fields:
    return _in_out(s) | {"channels": s.output.elements}


def _read_upload(body: Body, f: Fields) -> p.Step:
    c, h, w = f["in_c"], f["in_h"], f["in_w"]
    return p.KpuUpload(flags=f["flags"], input=body.main(f["in"], U8, c, h, w), output=body.ai(f["line"], c, h, w))


def _fields_upload(s: Any) -> Fields:
    return {"in": s.input.start, "line": s.output.start // AI_LINE_BYTES} | _shape("in", s.input)


# -- the table -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerType:
    """One V3 CPU layer type, both directions."""

    number: int
    name: str
    step: type[p.Step]
    record: Record
    read: Callable[[Body, Fields], p.Step]
    fields: Callable[[Any], Fields]
    tail: Callable[[Any], bytes] = lambda step: b""
    """What follows the structure in the body."""

    def decode(self, body: Body) -> p.Step:
        """Read the body; errors name layer and offset."""
        return self.read(body, body.record(self.record))

    def encode(self, step: p.Step) -> bytes:
        """Write the body, without the final padding."""
        return self.record.pack(flags=step.flags, **self.fields(step)) + self.tail(step)


def _f32(*arrays: Any) -> bytes:
    return b"".join(np.ascontiguousarray(a, "<f4").tobytes() for a in arrays)


_BINARY: Final = ("flags", "in_a", "in_b", "out", "count")
_TERMS: Final = tuple(f"{t}_{n}:i32" for t in "abo" for n in ("offset", "mul", "shift"))
_UNARY: Final = Record("flags", "in", "out", "count")
_AFFINE: Final = Record("flags", "in", "out", "count", "scale:f32", "bias:f32")
_CONCAT: Final = Record("flags", "out", "n")
_RESIZE: Final = Record("flags", "in", "out", "in_w", "in_h", "in_c", "out_w", "out_h", "align_corners")

LAYER_TYPES: Final = (
    LayerType(1, "ADD", p.Add, Record(*_BINARY), _read_add, _fields_add),
    LayerType(
        2, "QUANTIZED_ADD", p.QuantizedAdd, Record(*_BINARY, *_TERMS), _read_quantized_add, _fields_quantized_add
    ),
    LayerType(
        5,
        "GLOBAL_AVERAGE_POOL2D",
        p.GlobalAveragePool,
        Record("flags", "in", "out", "kernel_size", "channels"),
        _read_gap,
        _fields_gap,
    ),
    LayerType(8, "QUANTIZED_MAX_POOL2D", p.QuantizedMaxPool, Record(*_POOL), _read_max_pool, _fields_pool),
    LayerType(9, "AVERAGE_POOL2D", p.AveragePool, Record(*_POOL, "act"), _read_average_pool, _fields_average_pool),
    LayerType(11, "QUANTIZE", p.Quantize, _AFFINE, _read_quantize, _fields_affine),
    LayerType(12, "DEQUANTIZE", p.Dequantize, _AFFINE, _read_dequantize, _fields_affine),
    LayerType(13, "REQUANTIZE", p.Requantize, _UNARY, _read_requantize, _in_out_count, lambda s: bytes(s.table)),
    LayerType(14, "L2_NORMALIZATION", p.L2Normalization, _UNARY, _vector(p.L2Normalization), _in_out_count),
    LayerType(15, "SOFTMAX", p.Softmax, _UNARY, _vector(p.Softmax), _in_out_count),
    LayerType(16, "CONCAT", p.Concat, _CONCAT, _read_concat(False), _fields_concat, _tail_concat),
    LayerType(17, "QUANTIZED_CONCAT", p.Concat, _CONCAT, _read_concat(True), _fields_concat, _tail_concat),
    LayerType(
        18,
        "FULLY_CONNECTED",
        p.FullyConnected,
        Record("flags", "in", "out", "in_ch", "out_ch", "act"),
        _read_fully_connected,
        _fields_fully_connected,
        lambda s: _f32(s.weights, s.bias),
    ),
    LayerType(
        20,
        "TENSORFLOW_FLATTEN",
        p.Flatten,
        Record("flags", "in", "out", "in_w", "in_h", "in_c"),
        _read_flatten,
        _fields_flatten,
    ),
    LayerType(22, "RESIZE_NEAREST_NEIGHBOR", p.ResizeNearest, _RESIZE, _read_resize(F32), _fields_resize),
    LayerType(23, "QUANTIZED_RESIZE_NEAREST_NEIGHBOR", p.ResizeNearest, _RESIZE, _read_resize(U8), _fields_resize),
    LayerType(
        24,
        "CHANNELWISE_DEQUANTIZE",
        p.ChannelwiseDequantize,
        Record("flags", "in", "out", "channels", "channel_size"),
        _read_channelwise,
        _fields_channelwise,
        lambda s: _f32(np.stack([s.scale, s.bias], axis=1)),
    ),
    LayerType(25, "LOGISTIC", p.Logistic, _UNARY, _vector(p.Logistic), _in_out_count),
    LayerType(
        10241,
        "K210_ADD_PADDING",
        p.KpuAddPadding,
        Record("flags", "in", "line", "channels"),
        _read_add_padding,
        _fields_add_padding,
    ),
    LayerType(
        10242,
        "K210_REMOVE_PADDING",
        p.KpuRemovePadding,
        Record("flags", "in", "out", "channels"),
        _read_remove_padding,
        _fields_remove_padding,
    ),
    LayerType(
        10243,
        "K210_UPLOAD",
        p.KpuUpload,
        Record("flags", "in", "line", "in_w", "in_h", "in_c"),
        _read_upload,
        _fields_upload,
    ),
)

CONV: Final = 10240
BY_NUMBER: Final = {t.number: t for t in LAYER_TYPES}
BY_NAME: Final = {t.name: t for t in LAYER_TYPES}

NOT_EXECUTED: Final = {
    3: "GLOBAL_MAX_POOL2D",
    4: "QUANTIZED_GLOBAL_MAX_POOL2D",
    6: "QUANTIZED_GLOBAL_AVERAGE_POOL2D",
    7: "MAX_POOL2D",
    10: "QUANTIZED_AVERAGE_POOL2D",
    19: "QUANTIZED_FULLY_CONNECTED",
    21: "QUANTIZED_TENSORFLOW_FLATTEN",
}
"""Types that the format defines and the device runtime stops at (an assertion)."""


def layer_name(number: int) -> str:
    """The name of a layer type, for messages."""
    known = BY_NUMBER.get(number)
    return "K210_CONV" if number == CONV else known.name if known else NOT_EXECUTED.get(number, f"type {number}")


def type_of(step: p.Step) -> LayerType:
    """The V3 layer type of a CPU step; ``UnsupportedError`` (E233) where V3 has none."""
    if isinstance(step, p.Concat):
        return BY_NAME["QUANTIZED_CONCAT" if step.quantized else "CONCAT"]
    if isinstance(step, p.ResizeNearest):
        quantized = step.input.dtype is U8
        return BY_NAME["QUANTIZED_RESIZE_NEAREST_NEIGHBOR" if quantized else "RESIZE_NEAREST_NEIGHBOR"]
    for t in LAYER_TYPES:
        if t.step is type(step):
            return t
    raise UnsupportedError(
        "E233",
        f"kmodel V3 has no layer for {type(step).__name__}",
        where=step.name,
        why="the step exists in newer kmodel versions only",
        fix="Write another kmodel version.",
    )

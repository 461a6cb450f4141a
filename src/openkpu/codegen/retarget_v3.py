"""Rules for V3: the few tensor operations that its runtime has, alone or in groups of steps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np

from openkpu.codegen import retarget_layer, retarget_v3_moves
from openkpu.codegen.bytecode import bytecode
from openkpu.codegen.retarget import F32, U8, Rewriter, Rule, unlimited
from openkpu.codegen.retarget_v3_tools import (
    apart,
    constant,
    flat,
    following,
    only_reader,
    quantize,
)
from openkpu.codegen.tensor_single import SIGMOID
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import operators_v5 as v5
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory, Operand


def _same(r: Rewriter, s: Any) -> None:
    """The same step."""
    r.add(replace(s, **{k: r.at(o) for k in ("input", "output") if isinstance(o := getattr(s, k), Operand)}))


def _upload(r: Rewriter, s: p.KpuUpload) -> None:
    shape = s.output.shape[-3:]
    if math.prod(s.output.shape) != math.prod(shape):
        raise r.refuse("V3 uploads one picture at a time")
    source = replace(flat(r, s.input), shape=shape)
    r.add(p.KpuUpload(input=source, output=replace(s.output, shape=shape)))


# -- uint8 and float ------------------------------------------------------------------------------------------------
def _dequantize(r: Rewriter, s: t.DequantizeTensor) -> None:
    """Alone, with a scale for each channel behind it, or with a maximum that commutes with it."""
    if s.input.dtype is not U8:
        raise r.refuse("V3 has no int8")
    if not (_channelwise(r, s) or _maximum(r, s)):
        r.add(
            p.Dequantize(input=flat(r, s.input), output=flat(r, s.output), scale=s.scale, bias=-s.zero_point * s.scale)
        )


def _channelwise(r: Rewriter, s: t.DequantizeTensor) -> bool:
    """Constants for each channel that are multiplied, divided, added or subtracted behind it join it."""
    scale = np.full(1, s.scale, np.float64)
    bias = np.full(1, -s.zero_point * s.scale, np.float64)
    value, steps, shape = s.output, 1, None
    while True:
        b = following(r, steps)
        if not isinstance(b, t.Binary) or b.op.value > t.BinaryOp.DIV.value or not unlimited(b.clamp):
            break
        if (b.input_a.memory, b.input_a.start) != (value.memory, value.start) or not only_reader(r, value, steps):
            break
        k = constant(r, b.input_b)
        if k is None or not _by_channel(k.shape, b.output.shape):
            break
        by = k.reshape(-1).astype(np.float64)
        if b.op in (t.BinaryOp.MUL, t.BinaryOp.DIV):
            by = by if b.op is t.BinaryOp.MUL else 1 / by
            scale, bias = scale * by, bias * by
        else:
            bias = bias + (by if b.op is t.BinaryOp.ADD else -by)
        value, shape, steps = b.output, b.output.shape, steps + 1
    if shape is None:
        return False
    c = max(scale.size, bias.size)
    n = value.elements // c
    r.taken = steps
    out = replace(r.at(value), shape=(c, n))
    r.add(
        p.ChannelwiseDequantize(
            input=replace(apart(r, flat(r, s.input), out), shape=(c, n)),
            output=out,
            scale=np.broadcast_to(scale, c).astype(np.float32),
            bias=np.broadcast_to(bias, c).astype(np.float32),
        )
    )
    return True


def _by_channel(constant: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a constant has one value for each entry of the first dimension that is not 1, or is one value."""
    if math.prod(constant) == 1 or constant == shape:
        return math.prod(constant) == 1 or all(d == 1 for d in shape[2:])
    full = (1,) * (len(shape) - len(constant)) + tuple(constant)
    axis = next((i for i, d in enumerate(full) if d != 1), 0)
    return full[axis] == shape[axis] and math.prod(full) == full[axis] and math.prod(shape[:axis]) == 1


def _maximum(r: Rewriter, s: t.DequantizeTensor) -> bool:
    """Dequantize, maximum over windows [, quantize with the same numbers]: the maximum of the bytes."""
    w = following(r, 1)
    if not isinstance(w, t.ReduceWindow) or w.op is not t.ReduceOp.MAX or w.input.start != s.output.start:
        return False
    if not unlimited(w.clamp) or w.dilation != (1, 1) or w.input.memory is not s.output.memory or s.scale <= 0:
        return False
    if not only_reader(r, s.output, 1) or w.input.elements != w.input.shape[-3] * w.input.shape[-2] * w.input.shape[-1]:
        return False
    q = following(r, 2)
    back = (
        isinstance(q, t.QuantizeTensor)
        and (q.scale, q.zero_point) == (s.scale, s.zero_point)
        and q.input.start == w.output.start
        and only_reader(r, w.output, 2)
    )
    if w.init > -s.zero_point * s.scale + 1e-6 * abs(s.scale):
        return False
    shape, size = w.input.shape[-3:], w.output.shape[-3:]
    target: Operand
    if back:
        assert isinstance(q, t.QuantizeTensor)
        target = r.at(q.output)
        r.taken = 3
    else:
        r.taken = 2
        target = r.scratch(U8, size)
    (top, _), (left, _) = w.pads
    source = apart(r, flat(r, s.input), target)
    r.add(
        p.QuantizedMaxPool(
            input=replace(source, shape=shape),
            output=replace(target, shape=size),
            kernel=w.kernel[::-1],
            stride=w.stride[::-1],
            padding=(left, top),
        )
    )
    if not back:
        n = (w.output.elements,)
        out = flat(r, w.output)
        bias = -s.zero_point * s.scale
        r.add(p.Dequantize(input=replace(target, shape=n), output=out, scale=s.scale, bias=bias))
    return True


def _affine_dequantize(r: Rewriter, s: v5.AffineDequantize) -> None:
    r.add(p.Dequantize(input=flat(r, s.input), output=flat(r, s.output), scale=s.multiplier, bias=s.offset))


def _requantize(r: Rewriter, s: p.Requantize) -> None:
    r.add(p.Requantize(input=flat(r, s.input), output=flat(r, s.output), table=s.table))


# -- floats ---------------------------------------------------------------------------------------------------------
def _binary(r: Rewriter, s: t.Binary) -> None:
    same = s.input_a.elements == s.input_b.elements == s.output.elements
    constant = Memory.CONST in (s.input_a.memory, s.input_b.memory)
    if s.op is not t.BinaryOp.ADD or not unlimited(s.clamp) or not same or constant:
        raise r.refuse(
            f"V3 adds two computed tensors of one shape; this is {s.op.name.lower()} of {s.input_a.shape} and "
            f"{s.input_b.shape}" + (", one of them constant" if constant else "")
        )
    r.add(p.Add(input_a=flat(r, s.input_a), input_b=flat(r, s.input_b), output=flat(r, s.output)))


def _matmul(r: Rewriter, s: t.MatMul) -> None:
    w = constant(r, s.input_b)
    rows, inner = s.input_a.shape[-2:]
    activations = {t.NO_CLAMP: p.Activation.LINEAR, (0.0, t.FLT_MAX): p.Activation.RELU, (0.0, 6.0): p.Activation.RELU6}
    clamp = (max(s.clamp[0], -t.FLT_MAX), min(s.clamp[1], t.FLT_MAX))
    if w is None or rows != 1 or clamp not in activations:
        raise r.refuse("V3 multiplies one vector by a constant matrix, with no limits, ReLU or ReLU6 behind")
    r.add(
        p.FullyConnected(
            input=flat(r, s.input_a),
            output=flat(r, s.output),
            weights=np.ascontiguousarray(w.reshape(inner, -1).T),
            bias=np.asarray(s.bias, np.float32),
            activation=activations[clamp],
        )
    )


def _reduce(r: Rewriter, s: t.Reduce) -> None:
    axes = {a % len(s.input.shape) for a in s.axes}
    shape = s.input.shape
    first = next((i for i in range(len(shape)) if i in axes and shape[i] != 1), len(shape))
    trailing = all(shape[i] == 1 or i in axes for i in range(first, len(shape)))
    if s.op is not t.ReduceOp.MEAN or not trailing or s.init != 0:
        raise r.refuse(f"V3 averages over the last dimensions only; this is {s.op.name.lower()} over {tuple(axes)}")
    c = math.prod(shape[:first])
    r.add(
        p.GlobalAveragePool(input=replace(flat(r, s.input), shape=(c, s.input.elements // c)), output=flat(r, s.output))
    )


def _window(r: Rewriter, s: t.ReduceWindow) -> None:
    if (
        s.op is not t.ReduceOp.MEAN
        or not unlimited(s.clamp)
        or s.dilation != (1, 1)
        or math.prod(s.input.shape[:-3]) != 1
    ):
        raise r.refuse(f"V3 pools floats by the mean only; this is {s.op.name.lower()}")
    (top, _), (left, _) = s.pads
    r.add(
        p.AveragePool(
            input=replace(flat(r, s.input), shape=s.input.shape[-3:]),
            output=replace(flat(r, s.output), shape=s.output.shape[-3:]),
            kernel=s.kernel[::-1],
            stride=s.stride[::-1],
            padding=(left, top),
        )
    )


def _softmax(r: Rewriter, s: t.SoftmaxTensor) -> None:
    axis = s.axis % len(s.input.shape)
    if any(d != 1 for d in s.input.shape[axis + 1 :]) or s.beta != 1:
        raise r.refuse("V3's softmax works on the innermost dimension, without a factor")
    length = s.input.shape[axis]
    source, out = flat(r, s.input), flat(r, s.output)
    for i in range(s.input.elements // length):
        places = [replace(o, start=o.start + i * length * F32.size, shape=(length,)) for o in (source, out)]
        r.add(p.Softmax(input=places[0], output=places[1]))


def _sigmoid(r: Rewriter, s: v5.Sigmoid) -> None:
    r.add(p.Logistic(input=flat(r, s.input), output=flat(r, s.output)))


def _nnil(r: Rewriter, s: v4.NnilUnary) -> None:
    if not s.code.startswith(bytecode(SIGMOID)):
        raise r.refuse("of functions of floats V3 has the sigmoid only")
    r.add(p.Logistic(input=flat(r, s.input), output=flat(r, s.output)))


def _unary(r: Rewriter, s: t.Unary) -> None:
    raise r.refuse(f"of functions of floats V3 has the sigmoid only; this is {s.op.value}")


V3_RULES: Final[dict[type[p.Step], Rule]] = {
    **retarget_v3_moves.RULES,
    p.KpuConv: retarget_layer.conv,
    p.KpuDownload: retarget_layer.download,
    p.KpuUpload: _upload,
    p.KpuAddPadding: _same,
    p.KpuRemovePadding: _same,
    p.Requantize: _requantize,
    t.DequantizeTensor: _dequantize,
    t.QuantizeTensor: quantize,
    t.Binary: _binary,
    t.Unary: _unary,
    t.MatMul: _matmul,
    t.Reduce: _reduce,
    t.ReduceWindow: _window,
    t.SoftmaxTensor: _softmax,
    v4.NnilUnary: _nnil,
    v5.Sigmoid: _sigmoid,
    v5.AffineDequantize: _affine_dequantize,
}

"""Rules for V4 and V5: what becomes of the steps that only V3 has."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from openkpu.codegen.retarget import F32, U8, Rewriter, Rule
from openkpu.codegen.retarget_tools import affine, flat, four_dims, function
from openkpu.codegen.tensor_single import SIGMOID
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Operand

NEAR: Final = 1e-4
"""How near to a whole number a zero point must be: 1/40 of the smallest rounding step of a uint8 scale in a V3 file."""
GROW: Final = ((0, 0), (0, 0), (0, 3), (0, 3))


def _add_padding(r: Rewriter, s: p.KpuAddPadding) -> None:
    k = s.input.elements
    wide = r.scratch(U8, (1, k, 4, 4))
    r.add(t.PadTensor(input=replace(r.at(s.input), shape=(1, k, 1, 1)), output=wide, pads=GROW, value=0.0))
    r.add(p.KpuUpload(input=replace(wide, shape=(k, 4, 4)), output=s.output))


def _remove_padding(r: Rewriter, s: p.KpuRemovePadding) -> None:
    n = s.output.elements
    r.add(
        t.PadTensor(
            input=replace(r.at(s.input), shape=(1, n, 4, 4)),
            output=replace(r.at(s.output), shape=(1, n, 1, 1)),
            pads=tuple((-a, -b) for a, b in GROW),
            value=0.0,
        )
    )


def _add(r: Rewriter, s: p.Add) -> None:
    r.add(
        t.Binary(
            input_a=flat(r.at(s.input_a)),
            input_b=flat(r.at(s.input_b)),
            output=flat(r.at(s.output)),
            op=t.BinaryOp.ADD,
        )
    )


def _global_average_pool(r: Rewriter, s: p.GlobalAveragePool) -> None:
    c = s.output.elements
    n = s.input.elements // c
    r.add(
        t.Reduce(
            input=replace(r.at(s.input), shape=(1, c, 1, n)),
            output=replace(r.at(s.output), shape=(1, c, 1, 1)),
            op=t.ReduceOp.MEAN,
            axes=(2, 3),
            init=0.0,
        )
    )


def _pads(s: p.Pool2D) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return ((top, bottom), (left, right)) that give the output's size."""
    found = []
    for axis in (1, 0):
        before, k, stride = s.padding[axis], s.kernel[axis], s.stride[axis]
        have, want = s.input.shape[2 - axis], s.output.shape[2 - axis]
        found.append((before, (want - 1) * stride + k - have - before))
    return found[0], found[1]


def _pool(r: Rewriter, s: p.Pool2D, op: t.ReduceOp, source: Operand, out: Operand) -> None:
    r.add(
        t.ReduceWindow(
            input=replace(source, shape=(1, *s.input.shape)),
            output=replace(out, shape=(1, *s.output.shape)),
            op=op,
            pads=_pads(s),
            kernel=s.kernel[::-1],
            stride=s.stride[::-1],
            dilation=(1, 1),
            init=0.0,
        )
    )


def _average_pool(r: Rewriter, s: p.AveragePool) -> None:
    _pool(r, s, t.ReduceOp.MEAN, r.at(s.input), r.at(s.output))


def _max_pool(r: Rewriter, s: p.QuantizedMaxPool) -> None:
    """A slice where windows are pixels of the picture; else through float, the bytes as they are."""
    (top, bottom), (left, right) = _pads(s)
    c, h, w = s.input.shape
    if s.kernel == (1, 1) and max(top, left, bottom, right) <= 0:
        r.add(
            t.SliceTensor(
                input=replace(r.at(s.input), shape=(1, c, h, w)),
                output=replace(r.at(s.output), shape=(1, *s.output.shape)),
                begin=(0, 0, -top, -left),
                end=(1, c, h + bottom, w + right),
                stride=(1, 1, s.stride[1], s.stride[0]),
            )
        )
        return
    counts, most = r.scratch(F32, (s.input.elements,)), r.scratch(F32, (s.output.elements,))
    r.add(t.DequantizeTensor(input=flat(r.at(s.input)), output=counts, scale=1.0, zero_point=0))
    _pool(r, s, t.ReduceOp.MAX, counts, most)
    r.add(t.QuantizeTensor(input=most, output=flat(r.at(s.output)), scale=1.0, zero_point=0))


def _quantize(r: Rewriter, s: p.Quantize) -> None:
    zero_point = -s.bias / s.scale
    source = flat(r.at(s.input))
    if abs(zero_point - round(zero_point)) > NEAR:
        shifted = r.scratch(F32, source.shape)
        by = r.constant(np.full(1, -s.bias, np.float32))
        r.add(t.Binary(input_a=source, input_b=by, output=shifted, op=t.BinaryOp.ADD))
        source, zero_point = shifted, 0.0
    r.add(t.QuantizeTensor(input=source, output=flat(r.at(s.output)), scale=s.scale, zero_point=round(zero_point)))


def _dequantize(r: Rewriter, s: p.Dequantize) -> None:
    zero_point = -s.bias / s.scale if s.scale else 0.5
    if abs(zero_point - round(zero_point)) <= NEAR:
        r.add(
            t.DequantizeTensor(
                input=flat(r.at(s.input)), output=flat(r.at(s.output)), scale=s.scale, zero_point=round(zero_point)
            )
        )
        return
    n = s.output.elements
    scale, bias = np.array([s.scale], np.float32), np.array([s.bias], np.float32)
    affine(r, s.input, s.output, (1, 1, 1, n), scale.reshape(1, 1, 1, 1), bias.reshape(1, 1, 1, 1))


def _channelwise(r: Rewriter, s: p.ChannelwiseDequantize) -> None:
    c = s.scale.size
    n = s.input.elements // c
    affine(r, s.input, s.output, (1, c, 1, n), s.scale.reshape(1, c, 1, 1), s.bias.reshape(1, c, 1, 1))


def _requantize(r: Rewriter, s: p.Requantize) -> None:
    r.add(p.Requantize(input=flat(r.at(s.input)), output=flat(r.at(s.output)), table=s.table))


def _l2(r: Rewriter, s: p.L2Normalization) -> None:
    n = s.input.elements
    shape, one = (1, 1, 1, n), (1, 1, 1, 1)
    source, out = replace(r.at(s.input), shape=shape), replace(r.at(s.output), shape=shape)
    squares, total, factor = r.scratch(F32, shape), r.scratch(F32, one), r.scratch(F32, one)
    least = r.constant(np.full(one, 1e-10, np.float32))
    r.add(t.Unary(input=source, output=squares, op=t.UnaryOp.SQUARE))
    r.add(t.Reduce(input=squares, output=total, op=t.ReduceOp.SUM, axes=(3,), init=0.0))
    at_least = r.scratch(F32, one)
    r.add(t.Binary(input_a=total, input_b=least, output=at_least, op=t.BinaryOp.MAX))
    r.add(t.Unary(input=at_least, output=factor, op=t.UnaryOp.RSQRT))
    r.add(t.Binary(input_a=source, input_b=factor, output=out, op=t.BinaryOp.MUL))


def _softmax(r: Rewriter, s: p.Softmax) -> None:
    shape = (1, 1, 1, s.input.elements)
    r.add(
        t.SoftmaxTensor(input=replace(r.at(s.input), shape=shape), output=replace(r.at(s.output), shape=shape), axis=3)
    )


def _logistic(r: Rewriter, s: p.Logistic) -> None:
    function(r, s.input, s.output, SIGMOID)


def _concat(r: Rewriter, s: p.Concat) -> None:
    """V3 copies bytes whatever they are; the other runtimes' tensors have types."""
    operands = [r.at(o) for o in (*s.inputs, s.output)]
    if not s.quantized and all(o.start % F32.size == o.size % F32.size == 0 for o in operands):
        operands = [replace(o, dtype=F32, shape=(o.size // F32.size,)) for o in operands]
    *inputs, out = operands
    if r.version == 4:
        parts = tuple(replace(o, shape=(1, o.elements, 1, 1)) for o in inputs)
        r.add(t.ConcatTensors(inputs=parts, output=replace(out, shape=(1, out.elements, 1, 1)), axis=1))
        return
    at = out.start
    for o in inputs:
        r.add(t.CopyTensor(input=o, output=replace(out, start=at, shape=o.shape)))
        at += o.size


def _fully_connected(r: Rewriter, s: p.FullyConnected) -> None:
    n, k = s.weights.shape
    limits = {p.Activation.RELU: (0.0, t.FLT_MAX), p.Activation.RELU6: (0.0, 6.0)}
    r.add(
        t.MatMul(
            input_a=replace(r.at(s.input), shape=(1, k)),
            input_b=r.constant(np.ascontiguousarray(s.weights.T)),
            output=replace(r.at(s.output), shape=(1, n)),
            bias=s.bias,
            clamp=limits.get(s.activation, t.NO_CLAMP),
        )
    )


def _flatten(r: Rewriter, s: p.Flatten) -> None:
    c, h, w = s.input.shape
    r.add(
        t.TransposeTensor(
            input=replace(r.at(s.input), shape=(1, c, h, w)),
            output=replace(r.at(s.output), shape=(1, h, w, c)),
            perm=(0, 2, 3, 1),
        )
    )


def _resize(r: Rewriter, s: p.ResizeNearest) -> None:
    r.add(t.ResizeImage(input=four_dims(r.at(s.input)), output=four_dims(r.at(s.output)), mode=t.ResizeMode.NEAREST))


RULES: Final[dict[type[p.Step], Rule]] = {
    p.KpuAddPadding: _add_padding,
    p.KpuRemovePadding: _remove_padding,
    p.Add: _add,
    p.GlobalAveragePool: _global_average_pool,
    p.AveragePool: _average_pool,
    p.QuantizedMaxPool: _max_pool,
    p.Quantize: _quantize,
    p.Dequantize: _dequantize,
    p.ChannelwiseDequantize: _channelwise,
    p.Requantize: _requantize,
    p.L2Normalization: _l2,
    p.Softmax: _softmax,
    p.Logistic: _logistic,
    p.Concat: _concat,
    p.FullyConnected: _fully_connected,
    p.Flatten: _flatten,
    p.ResizeNearest: _resize,
}

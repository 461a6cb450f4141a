"""Rules for V4 and V5: what their tensor operators make of each step."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.codegen import retarget_layer
from openkpu.codegen.bytecode import bytecode
from openkpu.codegen.retarget import F32, U8, Rewriter, Rule, unlimited, whole
from openkpu.codegen.tensor_steps import SIGMOID, four
from openkpu.graph.basic import basic
from openkpu.graph.elementwise import Expr, const
from openkpu.kmodel import nnil
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import operators_v5 as v5
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory, Operand

NEAR: Final = 1e-4
"""How near to a whole number a zero point must be: 1/40 of the smallest rounding step of a uint8 scale in a V3 file."""
GROW: Final = ((0, 0), (0, 0), (0, 3), (0, 3))


@cache
def tensor_rules(version: int) -> dict[type[p.Step], Rule]:
    """Return the rules of V4 or V5."""
    rules: dict[type[p.Step], Rule] = dict(_RULES)
    if version == 4:
        rules |= dict.fromkeys(
            (
                v4.QuantizedBinary,
                v4.QuantizedConv2D,
                v4.QuantizedMatMul,
                v4.TableLookup,
                v4.NnilUnary,
                t.Conv2DTranspose,
            ),
            same,
        )
        rules[t.CopyTensor] = _copy_v4
        rules |= {v5.Conv2DFromMemory: _constants, v5.MatMulFromMemory: _product}
        rules[v5.AffineDequantize] = _affine_dequantize
        rules[v5.Sigmoid] = lambda r, s: _function(r, s.input, s.output, SIGMOID)
    else:
        rules |= dict.fromkeys(_V5_ONLY, same)
        rules |= {v4.NnilUnary: _chain, t.ConcatTensors: _copies}
    return rules


def _flat(o: Operand) -> Operand:
    """See an operand as a vector: V5 wants the same shape on both sides of a function of single values."""
    return replace(o, shape=(o.elements,))


def _constants(r: Rewriter, s: v5.Conv2DFromMemory) -> None:
    """V4 has the weights in the operator, so they must be constants."""
    w, bias = (constant(r, o) for o in (s.weights, s.bias))
    if w is None or bias is None:
        raise r.refuse("V4's convolutions have constant weights")
    own = {f.name: getattr(s, f.name) for f in fields(t.Conv2D) if hasattr(s, f.name)}
    own |= {"input": read(r, s.input), "output": _dense(r, r.at(s.output)), "weights": w, "bias": bias}
    r.add(t.Conv2D(**own))


def _product(r: Rewriter, s: v5.MatMulFromMemory) -> None:
    bias = constant(r, s.bias)
    if bias is None:
        raise r.refuse("V4's matrix product has a constant bias")
    a, b, out = read(r, s.input_a), read(r, s.input_b), _dense(r, r.at(s.output))
    r.add(t.MatMul(input_a=a, input_b=b, output=out, bias=bias, clamp=s.clamp))


def constant(r: Rewriter, o: Operand) -> NDArray[np.float32] | None:
    """Return what a constant operand holds."""
    if o.memory is not Memory.CONST or o.dtype is not F32:
        return None
    return np.frombuffer(r.source.constants, np.float32, o.elements, o.start).reshape(o.shape)


def _affine_dequantize(r: Rewriter, s: v5.AffineDequantize) -> None:
    shape, one = (1, 1, 1, s.output.elements), (1, 1, 1, 1)
    scale, bias = (np.full(one, v, np.float32) for v in (s.multiplier, s.offset))
    _affine(r, s.input, s.output, shape, scale, bias)


def _four(o: Operand) -> Operand:
    """See an operand with four dimensions."""
    if o.strides is not None and len(o.shape) != 4:
        return o
    return replace(o, shape=four(o.shape)) if len(o.shape) <= 4 or o.shape[0] == 1 else o


def same(r: Rewriter, s: p.Step) -> None:
    """The same operator; V4 wants dense tensors of up to four dimensions."""
    changes: dict[str, Any] = {}
    for name in ("input", "input_a", "input_b", "table"):
        if isinstance(o := getattr(s, name, None), Operand):
            changes[name] = read(r, o)
    if isinstance(o := getattr(s, "output", None), Operand):
        changes["output"] = _dense(r, r.at(o))
    clamp = getattr(s, "clamp", None)
    if clamp is not None and unlimited(clamp):
        changes["clamp"] = t.NO_CLAMP
    r.add(replace(s, **changes, flags=0))


def read(r: Rewriter, o: Operand) -> Operand:
    """Return an operand to read; for V4 a view is cut out first."""
    o = r.at(o)
    parent = whole(o) if r.version == 4 else None
    if parent is None:
        return _dense(r, o)
    _dense(r, parent)
    if parent.memory is Memory.MAIN:
        r.main_bytes = max(r.main_bytes, parent.stop)
    cut = r.scratch(o.dtype, o.shape)
    zeros, ones = (0,) * len(o.shape), (1,) * len(o.shape)
    r.add(t.SliceTensor(input=parent, output=cut, begin=zeros, end=o.shape, stride=ones))
    return cut


def _dense(r: Rewriter, o: Operand) -> Operand:
    if r.version == 4 and (o.strides is not None or o.dtype not in (U8, F32)):
        kind = "results in views that are not dense" if o.strides is not None else f"tensors of {o.dtype.value}"
        raise r.refuse(f"V4 has no {kind}")
    if r.version == 4 and len(o.shape) > 4 and any(d != 1 for d in o.shape[:-4]):
        raise r.refuse(f"V4 has tensors of up to 4 dimensions; this is {'x'.join(map(str, o.shape))}")
    return o


def _tensor(r: Rewriter, s: Any) -> None:
    """An operator of both versions, if all its options exist in the target."""
    if r.version == 4:
        if isinstance(s, t.Binary) and s.op.value > t.BinaryOp.MAX.value:
            raise r.refuse(f"V4 has no operation {s.op.name.lower()}")
        if isinstance(s, t.Unary) and s.op not in V4_UNARY:
            raise r.refuse(f"V4 has no function {s.op.value}")
        if isinstance(s, t.PadTensor) and (s.mode != "constant" or any(s.interior)):
            raise r.refuse("V4 pads with a constant only")
        if isinstance(s, t.ResizeImage) and s.half_pixel_centers:
            raise r.refuse("V4's resize does not know half-pixel centres")
        if isinstance(s, t.SoftmaxTensor):
            _softmax_tensor(r, s)
            return
    same(r, s)


_V5_ONLY: Final = tuple(
    c for c in vars(v5).values() if isinstance(c, type) and issubclass(c, p.Step) and c is not p.Step
)
V4_UNARY: Final = tuple(t.UnaryOp)[:10]


def _softmax_tensor(r: Rewriter, s: t.SoftmaxTensor) -> None:
    """V4's works on the innermost dimension; another is written out with reductions."""
    shape, axis = s.input.shape, s.axis % len(s.input.shape)
    source, out = read(r, s.input), _dense(r, r.at(s.output))
    if all(d == 1 for d in shape[axis + 1 :]):
        rows = (1, 1, s.input.elements // shape[axis], shape[axis])
        r.add(replace(s, input=replace(source, shape=rows), output=replace(out, shape=rows), axis=3))
        return
    if s.beta != 1:
        raise r.refuse("V4 has no factor in a softmax over another than the innermost dimension")
    view = (1, math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    kept = (*view[:2], 1, view[3])
    source, out = replace(source, shape=view), replace(out, shape=view)
    most, less, grown, total = (r.scratch(F32, x) for x in (kept, view, view, kept))
    r.add(t.Reduce(input=source, output=most, op=t.ReduceOp.MAX, axes=(2,), init=-t.FLT_MAX))
    r.add(t.Binary(input_a=source, input_b=most, output=less, op=t.BinaryOp.SUB))
    r.add(t.Unary(input=less, output=grown, op=t.UnaryOp.EXP))
    r.add(t.Reduce(input=grown, output=total, op=t.ReduceOp.SUM, axes=(2,), init=0.0))
    r.add(t.Binary(input_a=grown, input_b=total, output=out, op=t.BinaryOp.DIV))


def _copy_v4(r: Rewriter, s: t.CopyTensor) -> None:
    """V4's copy moves whole floats; bytes are copied as a concatenation of one part."""
    source, out = read(r, s.input), _dense(r, r.at(s.output))
    if source.dtype is F32:
        r.add(t.CopyTensor(input=source, output=out))
        return
    shape = (1, source.elements, 1, 1)
    r.add(t.ConcatTensors(inputs=(replace(source, shape=shape),), output=replace(out, shape=shape), axis=1))


def _concat_tensors(r: Rewriter, s: t.ConcatTensors) -> None:
    r.add(replace(s, inputs=tuple(read(r, o) for o in s.inputs), output=_dense(r, r.at(s.output))))


def _copies(r: Rewriter, s: t.ConcatTensors) -> None:
    out = r.at(s.output)
    strides = np.cumprod((1, *out.shape[:0:-1]))[::-1].tolist()
    at = 0
    for o in s.inputs:
        place = replace(
            out, start=out.start + at * strides[s.axis] * out.dtype.size, shape=o.shape, strides=tuple(strides)
        )
        r.add(t.CopyTensor(input=r.at(o), output=place))
        at += o.shape[s.axis]


def _chain(r: Rewriter, s: v4.NnilUnary) -> None:
    """Bytecode as unary and binary operators."""
    stack: list[Expr] = []
    for name, literal in nnil.instructions(s.code):
        if name == "x":
            stack.append(Expr("x"))
        elif name in ("zero", "one", "literal"):
            stack.append(const({"zero": 0.0, "one": 1.0}.get(name, literal)))
        elif name == "dup":
            stack.append(stack[-1])
        elif name == "pop":
            stack.pop()
        elif name == "clamp":
            high, low, x = stack.pop(), stack.pop(), stack.pop()
            stack.append(Expr("Min", (Expr("Max", (x, low)), high)))
        elif name not in ("nop", "ret"):
            takes = 2 if name in ("add", "sub", "mul", "div", "min", "max") else 1
            args = tuple(stack[-takes:])
            del stack[-takes:]
            stack.append(Expr(name.capitalize(), args))
    _function(r, s.input, s.output, stack[-1])


def _function(r: Rewriter, source: Operand, out: Operand, fn: Expr) -> None:
    """Apply a function to floats."""
    source, out = r.at(source), r.at(out)
    n = (source.elements,)
    source, out = replace(source, shape=n), replace(out, shape=n)
    if r.version == 4:
        r.add(v4.NnilUnary(input=source, output=out, code=bytecode(fn)))
        return
    if fn == SIGMOID:
        r.add(v5.Sigmoid(input=source, output=out))
        return
    form = basic(fn) or fn
    made: dict[Expr, Operand] = {}

    def value(e: Expr) -> Operand:
        if e.op == "x":
            return source
        if e.op == "const":
            return r.constant(np.array([e.value], np.float32))
        if e not in made:
            args = [value(a) for a in e.args]
            made[e] = out if e is form else r.scratch(F32, n)
            if len(args) == 1:
                r.add(t.Unary(input=args[0], output=made[e], op=t.UnaryOp[e.op.upper()]))
            else:
                op = t.BinaryOp[e.op.upper()]
                r.add(t.Binary(input_a=args[0], input_b=args[1], output=made[e], op=op))
        return made[e]

    last = value(form)
    if last is not out:
        r.add(t.CopyTensor(input=last, output=out))


# -- from V3 --------------------------------------------------------------------------------------------------------
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
            input_a=_flat(r.at(s.input_a)),
            input_b=_flat(r.at(s.input_b)),
            output=_flat(r.at(s.output)),
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
    r.add(t.DequantizeTensor(input=_flat(r.at(s.input)), output=counts, scale=1.0, zero_point=0))
    _pool(r, s, t.ReduceOp.MAX, counts, most)
    r.add(t.QuantizeTensor(input=most, output=_flat(r.at(s.output)), scale=1.0, zero_point=0))


def _quantize(r: Rewriter, s: p.Quantize) -> None:
    zero_point = -s.bias / s.scale
    source = _flat(r.at(s.input))
    if abs(zero_point - round(zero_point)) > NEAR:
        shifted = r.scratch(F32, source.shape)
        by = r.constant(np.full(1, -s.bias, np.float32))
        r.add(t.Binary(input_a=source, input_b=by, output=shifted, op=t.BinaryOp.ADD))
        source, zero_point = shifted, 0.0
    r.add(t.QuantizeTensor(input=source, output=_flat(r.at(s.output)), scale=s.scale, zero_point=round(zero_point)))


def _dequantize(r: Rewriter, s: p.Dequantize) -> None:
    zero_point = -s.bias / s.scale if s.scale else 0.5
    if abs(zero_point - round(zero_point)) <= NEAR:
        r.add(
            t.DequantizeTensor(
                input=_flat(r.at(s.input)), output=_flat(r.at(s.output)), scale=s.scale, zero_point=round(zero_point)
            )
        )
        return
    n = s.output.elements
    scale, bias = np.array([s.scale], np.float32), np.array([s.bias], np.float32)
    _affine(r, s.input, s.output, (1, 1, 1, n), scale.reshape(1, 1, 1, 1), bias.reshape(1, 1, 1, 1))


def _channelwise(r: Rewriter, s: p.ChannelwiseDequantize) -> None:
    c = s.scale.size
    n = s.input.elements // c
    _affine(r, s.input, s.output, (1, c, 1, n), s.scale.reshape(1, c, 1, 1), s.bias.reshape(1, c, 1, 1))


def _affine(r: Rewriter, source: Operand, out: Operand, shape: tuple[int, ...], scale: Any, bias: Any) -> None:
    """``scale * q + bias``."""
    counts, scaled = r.scratch(F32, shape), r.scratch(F32, shape)
    r.add(t.DequantizeTensor(input=replace(r.at(source), shape=shape), output=counts, scale=1.0, zero_point=0))
    r.add(t.Binary(input_a=counts, input_b=r.constant(scale), output=scaled, op=t.BinaryOp.MUL))
    target = replace(r.at(out), shape=shape)
    r.add(t.Binary(input_a=scaled, input_b=r.constant(bias), output=target, op=t.BinaryOp.ADD))


def _requantize(r: Rewriter, s: p.Requantize) -> None:
    r.add(p.Requantize(input=_flat(r.at(s.input)), output=_flat(r.at(s.output)), table=s.table))


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
    _function(r, s.input, s.output, SIGMOID)


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
    r.add(t.ResizeImage(input=_four(r.at(s.input)), output=_four(r.at(s.output)), mode=t.ResizeMode.NEAREST))


_RULES: Final[dict[type[p.Step], Rule]] = {
    p.KpuConv: retarget_layer.conv,
    p.KpuUpload: same,
    p.KpuDownload: retarget_layer.download,
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
    t.Binary: _tensor,
    t.Unary: _tensor,
    t.QuantizeTensor: _tensor,
    t.DequantizeTensor: _tensor,
    t.ConcatTensors: _concat_tensors,
    t.CopyTensor: same,
    t.TransposeTensor: _tensor,
    t.PadTensor: _tensor,
    t.SliceTensor: _tensor,
    t.Reduce: _tensor,
    t.ReduceWindow: _tensor,
    t.ResizeImage: _tensor,
    t.SoftmaxTensor: _tensor,
    t.Conv2D: _tensor,
    t.MatMul: _tensor,
}

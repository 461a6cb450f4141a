"""Rules for V4 and V5: what their tensor operators make of each step."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.codegen import retarget_from_v3, retarget_layer
from openkpu.codegen.retarget import F32, U8, Rewriter, Rule, unlimited, whole
from openkpu.codegen.retarget_tools import affine, function
from openkpu.codegen.retarget_whole import in_floats
from openkpu.codegen.tensor_single import SIGMOID
from openkpu.graph.elementwise import Expr, const
from openkpu.kmodel import nnil
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import operators_v5 as v5
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory, Operand


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
        rules[v5.Sigmoid] = lambda r, s: function(r, s.input, s.output, SIGMOID)
    else:
        rules |= dict.fromkeys(_V5_ONLY, same)
        rules |= {v4.NnilUnary: _chain, v4.QuantizedBinary: in_floats, t.ConcatTensors: _copies}
    return rules


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
    affine(r, s.input, s.output, shape, scale, bias)


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
    function(r, s.input, s.output, stack[-1])


_RULES: Final[dict[type[p.Step], Rule]] = {
    **retarget_from_v3.RULES,
    p.KpuConv: retarget_layer.conv,
    p.KpuUpload: same,
    p.KpuDownload: retarget_layer.download,
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

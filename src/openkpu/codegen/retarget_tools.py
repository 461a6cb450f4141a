"""What the rules for V4 and V5 share: functions of floats, scales of channels, shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from openkpu.codegen.bytecode import bytecode
from openkpu.codegen.retarget import F32, Rewriter
from openkpu.codegen.tensor_single import SIGMOID, four
from openkpu.graph.basic import basic
from openkpu.graph.elementwise import Expr
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import operators_v5 as v5
from openkpu.kmodel.program import Operand


def flat(o: Operand) -> Operand:
    """See an operand as a vector: V5 wants the same shape on both sides of a function of single values."""
    return replace(o, shape=(o.elements,))


def four_dims(o: Operand) -> Operand:
    """See an operand with four dimensions."""
    if o.strides is not None and len(o.shape) != 4:
        return o
    return replace(o, shape=four(o.shape)) if len(o.shape) <= 4 or o.shape[0] == 1 else o


def function(r: Rewriter, source: Operand, out: Operand, fn: Expr) -> None:
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


def affine(r: Rewriter, source: Operand, out: Operand, shape: tuple[int, ...], scale: Any, bias: Any) -> None:
    """``scale * q + bias``."""
    counts, scaled = r.scratch(F32, shape), r.scratch(F32, shape)
    r.add(t.DequantizeTensor(input=replace(r.at(source), shape=shape), output=counts, scale=1.0, zero_point=0))
    r.add(t.Binary(input_a=counts, input_b=r.constant(scale), output=scaled, op=t.BinaryOp.MUL))
    target = replace(r.at(out), shape=shape)
    r.add(t.Binary(input_a=scaled, input_b=r.constant(bias), output=target, op=t.BinaryOp.ADD))

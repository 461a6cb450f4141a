"""V4's arithmetic in whole numbers for V5, which has it in float only.

The bytes become floats as they are, so products are exact, and sums up to float32's last bits; the result is rounded as
V4 rounds it, half up.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openkpu.codegen.retarget import F32, Rewriter
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel.program import Operand


def in_floats(r: Rewriter, s: v4.QuantizedBinary) -> None:
    """Write one operator; ``convert`` compares the outputs afterwards."""
    ratios = [term.mul * 2.0**-term.shift for term in (s.a, s.b, s.o)]
    operands = []
    for o, term in ((s.input_a, s.a), (s.input_b, s.b)):
        counts = r.scratch(F32, o.shape)
        r.add(t.DequantizeTensor(input=r.at(o), output=counts, scale=1.0, zero_point=-term.offset))
        operands.append(counts)
    if s.op in (t.BinaryOp.MUL, t.BinaryOp.DIV):
        factor = (ratios[0] * ratios[1] if s.op is t.BinaryOp.MUL else ratios[0] / ratios[1]) * ratios[2]
    else:
        factor = 1.0
        operands = [_times(r, o, ratio * ratios[2]) for o, ratio in zip(operands, ratios[:2], strict=True)]
    result = r.scratch(F32, s.output.shape)
    r.add(t.Binary(input_a=operands[0], input_b=operands[1], output=result, op=s.op))
    result = _times(r, result, factor)
    rounded, whole = r.scratch(F32, result.shape), r.scratch(F32, result.shape)
    half = r.constant(np.array([0.5], np.float32))
    r.add(t.Binary(input_a=result, input_b=half, output=rounded, op=t.BinaryOp.ADD))
    n = (result.elements,)
    r.add(t.Unary(input=replace(rounded, shape=n), output=replace(whole, shape=n), op=t.UnaryOp.FLOOR))
    out = replace(r.at(s.output), shape=n)
    r.add(t.QuantizeTensor(input=replace(whole, shape=n), output=out, scale=1.0, zero_point=s.o.offset))


def _times(r: Rewriter, x: Operand, factor: float) -> Operand:
    if factor == 1:
        return x
    out = r.scratch(F32, x.shape)
    by = r.constant(np.array([factor], np.float32))
    r.add(t.Binary(input_a=x, input_b=by, output=out, op=t.BinaryOp.MUL))
    return out

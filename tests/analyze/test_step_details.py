"""What inspect says of a step beside its name."""

import math
from dataclasses import replace

from openkpu.analyze.step_details import detail
from openkpu.kmodel.operators import Binary, BinaryOp
from openkpu.kmodel.program import DType, Memory, Operand

X = Operand(Memory.MAIN, 0, DType.F32, (1, 4))
DIV = Binary(input_a=X, input_b=X, output=X, op=BinaryOp.DIV)


def test_a_clamp_is_shown_where_there_is_one():
    assert detail(DIV) == "div"
    assert detail(replace(DIV, clamp=(-math.inf, math.inf))) == "div"
    assert detail(replace(DIV, clamp=(0.0, 6.0))) == "div, clamp 0..6"
    assert detail(replace(DIV, clamp=(0.0, math.inf))) == "div, clamp 0.."

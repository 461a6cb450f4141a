"""The table of all V4 operators. Those of the KPU and of V4's constant tables have extra parameters: see ``v4``."""

from __future__ import annotations

from typing import Final

from openkpu.errors import UnsupportedError
from openkpu.kmodel import program as p
from openkpu.kmodel.v4_op import OpType
from openkpu.kmodel.v4_ops_elementwise import ELEMENTWISE
from openkpu.kmodel.v4_ops_movement import MOVEMENT
from openkpu.kmodel.v4_ops_nhwc import NHWC
from openkpu.kmodel.v4_ops_sums import SUMS
from openkpu.kmodel.v4_ops_window import WINDOWS

OP_TYPES: Final = (*ELEMENTWISE, *MOVEMENT, *SUMS, *WINDOWS, *NHWC)
BY_OPCODE: Final = {o.opcode: o for o in OP_TYPES}
BY_STEP: Final = {o.step: o for o in OP_TYPES}
KPU_CONV2D: Final = 0x2002


def op_name(opcode: int) -> str:
    """The name of an operator, for messages."""
    known = BY_OPCODE.get(opcode)
    return "kpu_conv2d" if opcode == KPU_CONV2D else known.name if known else f"opcode 0x{opcode:x}"


def type_of(step: p.Step) -> OpType:
    """The V4 operator of a step; ``UnsupportedError`` (E233) where V4 has none."""
    known = BY_STEP.get(type(step))
    if known is None:
        raise UnsupportedError(
            "E233",
            f"kmodel V4 has no operator for {type(step).__name__}",
            where=step.name,
            why="the step exists in other kmodel versions only",
            fix="Write another kmodel version.",
        )
    return known

"""What a user should know about a V4 file: where the chip or its firmware does something else than one would expect."""

from __future__ import annotations

from typing import Final

from openkpu.kmodel import operators as t
from openkpu.kmodel.program import DType, KpuConv, Operand, Program
from openkpu.kmodel.v4 import V4Extra

MAX_CALLS: Final = 6


def notes(program: Program) -> list[str]:
    """Return one sentence each."""
    found = []
    short = []
    for index, step in enumerate(program.steps):
        if isinstance(step, KpuConv):
            r = step.layer.registers
            if not r.depth_wise_layer and r.load_time * r.o_ch_num_coef < r.o_ch_num:
                short.append(str(index))
        if isinstance(step, t.Conv2DTranspose) and step.bias.any():
            found.append(f"Node {index} (conv2d_transpose) has a bias, which the device's runtime does not add.")
    if short:
        found.append(
            f"The registers of node {', '.join(short)} load the weights of a part of the channels only (more than 64 "
            "loads do not fit the register); the chip computes something else than this simulation."
        )
    extra = program.extra
    if isinstance(extra, V4Extra):
        if extra.gaps:
            found.append(
                "Weights and tables do not start at multiples of 256 bytes, as a compiler before 0.2.0-beta1 left them."
            )
        if extra.trailing:
            found.append(f"{len(extra.trailing)} bytes follow the model in the file; they are not part of it.")
    if any(o.dtype is DType.F32 for o in program.inputs):
        found.append("The input takes floats; MaixPy copies the picture's bytes there, which are no floats.")
    calls = "; ".join(_set_outputs(i, o) for i, o in enumerate(program.outputs[:MAX_CALLS]))
    if len(program.outputs) > MAX_CALLS:
        calls += " and so on"
    found.append(f"MaixPy does not know the outputs' shapes: call {calls} before kpu.forward.")
    return found


def _set_outputs(index: int, o: Operand) -> str:
    """MaixPy's call; what it takes is width, height, channels, with the outputs counted as floats."""
    *_, c, h, w = (1, 1, *o.shape)
    return f"kpu.set_outputs(task, {index}, {w}, {h}, {c * (o.shape[0] if len(o.shape) == 4 else 1)})"

"""What a user should know about a V5 file: who can load it, and where boards and this simulation may differ."""

from __future__ import annotations

from openkpu.kmodel.operators import Conv2D, MatMul
from openkpu.kmodel.operators_v5 import Conv2DFromMemory, MatMulFromMemory
from openkpu.kmodel.program import KpuConv, Program
from openkpu.kmodel.v5_extra import V5Extra

_FLOAT_LAYERS = (Conv2D, Conv2DFromMemory, MatMul, MatMulFromMemory)


def notes(program: Program) -> list[str]:
    """Return one sentence each."""
    found = [
        "No released MaixPy or CanMV firmware loads V5: it needs a program built with the nncase runtime of the "
        "compiler's own version, for instance with the SDK's branch develop."
    ]
    if isinstance(program.extra, V5Extra):
        found.append(f"The numbers of its tensor functions are those of {program.extra.made_by}.")
        if trailing := program.extra.skeleton.trailing:
            found.append(f"{len(trailing)} bytes follow the model in the file; they are not part of it.")
    kpu = sum(isinstance(s, KpuConv) for s in program.steps)
    floats = [i for i, s in enumerate(program.steps) if isinstance(s, _FLOAT_LAYERS)]
    if floats and not kpu:
        found.append(
            "Not one layer runs on the KPU: the model was compiled without quantisation, all of it runs on the CPU."
        )
    elif floats:
        count = "1 layer multiplies" if len(floats) == 1 else f"{len(floats)} layers multiply"
        found.append(
            f"{count} float matrices on the CPU (step {', '.join(map(str, floats))}), which is slow on the chip."
        )
    return found

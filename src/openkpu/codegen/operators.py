"""The operators of a lowered graph: KPU layers are run here, those of the CPU are left to the version's dialect."""

from __future__ import annotations

from openkpu.codegen import moves
from openkpu.codegen.assemble import U8, Assembler
from openkpu.graph.ir import Node, Tensor
from openkpu.kmodel.program import Memory
from openkpu.lower.ops import Domain


def run(asm: Assembler, node: Node) -> None:
    """Append the steps of one operator."""
    if node.op in ("Reshape", "KpuConcat", "KpuSlice"):
        return  # the same bytes seen in another shape; a placement that happens when somebody reads it
    if node.op == "KpuRows":
        moves.kpu_rows(asm, node)
    elif node.op == "KpuMove":
        ai = _ai_readers(asm, node.output)
        moves.kpu_move(asm, node, ai=ai, main=not ai or asm.wanted_in_main(node.output))
    elif node.op != "KpuConv":
        asm.steps.operator(asm, node)
    elif node.attrs["vector"]:
        _vector_layer(asm, node)
    else:
        t = node.output
        ai = _ai_readers(asm, t)
        main = not ai or asm.wanted_in_main(t)
        asm.steps.layer(asm, asm.q.layers[id(node)].layer, asm.get(node.inputs[0], Domain.AI), t, ai=ai, main=main)


def _ai_readers(asm: Assembler, t: Tensor) -> bool:
    return any(
        u.op in ("KpuMove", "KpuRows")
        or (u.op == "KpuConv" and not u.attrs["vector"])
        or (u.op in ("KpuConcat", "KpuSlice") and _ai_readers(asm, u.output))
        for u in asm.users.get(id(t), [])
    )


def _vector_layer(asm: Assembler, node: Node) -> None:
    t = node.output
    source = asm.get(node.inputs[0], Domain.U8)
    out = asm.buffer(Memory.MAIN, U8, t.shape[1:], t)
    asm.steps.vector_layer(asm, node, asm.q.layers[id(node)].layer, source, out)
    asm.forms[id(t), Domain.U8] = out

"""The program of a quantised graph for kmodel V3."""

from __future__ import annotations

from dataclasses import dataclass

from openkpu.codegen import plan
from openkpu.codegen.assemble import Assembler
from openkpu.codegen.operators import HANDLERS
from openkpu.codegen.plan import MemoryPlan
from openkpu.graph.ir import Graph, Tensor
from openkpu.kmodel.program import Program
from openkpu.lower.ops import Domain
from openkpu.quantize.result import Quantized


@dataclass(frozen=True, slots=True)
class Assembled:
    """The program, its memory plan, and for each step the lowered tensor that it makes (None: a helper step)."""

    program: Program
    plan: MemoryPlan
    tensors: tuple[Tensor | None, ...]


def assemble(graph: Graph, quantized: Quantized) -> Assembled:
    """Make the steps in execution order, place their buffers, and build the program."""
    asm = Assembler(graph, quantized)
    asm.take_input(graph.inputs[0])
    for node in graph.nodes:
        asm.current = node
        if node.op != "Reshape":
            HANDLERS[node.op](asm, node)
        asm.finished.add(id(node))
    asm.current = None
    outputs = [asm.get(t, Domain.F32) for t in graph.outputs]
    for a in asm.actions:
        a.reads, a.writes = asm.expand(a.reads), asm.expand(a.writes)
    memory = plan.place(asm.actions, asm.inputs, outputs)
    asm.settle()
    steps = tuple(a.make() for a in asm.actions)
    shapes = [t.shape[1:] if len(t.shape) > 1 and t.shape[0] == 1 else t.shape for t in graph.outputs]
    program = Program(
        version=3,
        inputs=tuple(b.operand() for b in asm.inputs),
        outputs=tuple(b.operand(tuple(s)) for b, s in zip(outputs, shapes, strict=True)),
        steps=steps,
        main_bytes=max(memory.main.peak, 8),
    )
    return Assembled(program, memory, tuple(asm.made))

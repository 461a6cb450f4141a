"""The program of a quantised graph, for one kmodel version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openkpu.codegen import operators, plan
from openkpu.codegen.assemble import Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.codegen.dialect import dialect
from openkpu.codegen.plan import MemoryPlan
from openkpu.graph.ir import Graph, Tensor
from openkpu.kmodel import operators as t
from openkpu.kmodel.program import Memory, Program
from openkpu.lower.ops import Domain
from openkpu.quantize.result import Quantized

ALIGN = 8
"""Constants and the buffers of V5's caller start at multiples of this."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """The program, its memory plan, and for each step the lowered tensor that it makes (None: a helper step)."""

    program: Program
    plan: MemoryPlan
    tensors: tuple[Tensor | None, ...]


def assemble(graph: Graph, quantized: Quantized, version: int = 3) -> Assembled:
    """Make the steps in execution order, place their buffers, and build the program."""
    asm = Assembler(graph, quantized, dialect(version))
    asm.steps.take_input(asm, graph.inputs[0])
    for node in graph.nodes:
        asm.current = node
        operators.run(asm, node)
        asm.finished.add(id(node))
    asm.current = None
    outputs = [asm.get(o, Domain.F32) for o in graph.outputs]
    if version == 5:
        outputs = _into_output_memory(asm, outputs)
    for a in asm.actions:
        a.reads, a.writes = asm.expand(a.reads), asm.expand(a.writes)
    constants = _place_constants(asm.constants)
    memory = plan.place(asm.actions, asm.inputs, asm.expand(outputs))
    asm.settle()
    input_bytes = _place(b for b in asm.inputs if b.memory is Memory.INPUT)
    output_bytes = _place(b for b in outputs if b.memory is Memory.OUTPUT)
    steps = tuple(a.make() for a in asm.actions)
    shapes = [o.shape[1:] if len(o.shape) > 1 and o.shape[0] == 1 else o.shape for o in graph.outputs]
    program = Program(
        version=version,
        inputs=tuple(b.operand() for b in asm.inputs),
        outputs=tuple(b.operand(tuple(s)) for b, s in zip(outputs, shapes, strict=True)),
        steps=steps,
        main_bytes=max(memory.main.peak, 8),
        constants=constants,
        input_bytes=input_bytes,
        output_bytes=output_bytes,
    )
    return Assembled(program, memory, tuple(asm.made))


def _into_output_memory(asm: Assembler, outputs: Sequence[Buffer]) -> list[Buffer]:
    """Let what makes an output write it into the caller's memory; copy what cannot be moved there."""
    found: list[Buffer] = []
    for b in outputs:
        if b.memory is not Memory.MAIN or any(b is o for o in found) or any(b is i for i in asm.inputs):
            copy = Buffer(Memory.OUTPUT, b.dtype, b.shape, b.name)
            asm.act(lambda b=b, c=copy: t.CopyTensor(input=b.operand(), output=c.operand()), [b], [copy])  # type: ignore[misc]
            b = copy
        b.memory = Memory.OUTPUT
        found.append(b)
    return found


def _place_constants(constants: Sequence[Buffer]) -> bytes:
    """Give the constants their addresses; return the constant area."""
    area = bytearray()
    for b in constants:
        area += bytes(-len(area) % ALIGN)
        b.start = len(area)
        area += b.data
    return bytes(area)


def _place(buffers: Iterable[Buffer]) -> int:
    """Put buffers one after the other; return the bytes that they take."""
    end = 0
    for b in buffers:
        b.start = end
        end += b.size
    return end

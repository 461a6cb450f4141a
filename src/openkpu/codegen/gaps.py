"""Room for new values among those of an existing program, which stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openkpu.k210 import AI_LINE_BYTES
from openkpu.kmodel.program import KpuConv, Memory, Operand, Program

FOREVER = 1 << 30
ROUND = 8
"""Values in main RAM take whole groups of 8 bytes: the DMA writes so many."""


@dataclass(slots=True)
class Held:
    """Bytes that hold a value from one step to another (-1: from before the first)."""

    memory: Memory
    start: int
    stop: int
    first: int
    last: int


def held(program: Program) -> list[Held]:
    """Return where values lie and for how long: to the last read before they are overwritten as a whole."""
    every: list[Held] = []
    current: list[Held] = []

    def write(o: Operand, step: int) -> None:
        h = Held(o.memory, o.start, o.stop + -o.stop % ROUND, step, step)
        current[:] = [c for c in current if c.memory is not h.memory or c.start < h.start or c.stop > h.stop]
        current.append(h)
        every.append(h)

    def read(o: Operand, step: int) -> None:
        for c in current:
            if c.memory is o.memory and c.start < o.stop and o.start < c.stop:
                c.last = step

    for o in program.inputs:
        write(o, -1)
    for i, step in enumerate(program.steps):
        for o in step.reads:
            read(o, i)
        for o in step.writes:
            write(o, i)
            if isinstance(step, KpuConv) and o.memory is Memory.AI:
                current[-1].last = i
    for o in program.outputs:
        read(o, FOREVER)
    return every


def is_read(program: Program, o: Operand, after: int) -> bool:
    """Whether a step behind ``after``, or the caller, reads bytes of this value before something overwrites them."""
    left = [(o.start, o.stop)]

    def meets(x: Operand) -> bool:
        return x.memory is o.memory and any(low < x.stop and x.start < high for low, high in left)

    for step in program.steps[after + 1 :]:
        if any(meets(x) for x in step.reads):
            return True
        for x in step.writes:
            if x.memory is o.memory:
                left = [
                    part
                    for low, high in left
                    for part in ((low, min(high, x.start)), (max(low, x.stop), high))
                    if part[0] < part[1]
                ]
    return any(meets(x) for x in program.outputs)


def gap(values: Sequence[Held], memory: Memory, size: int, first: int, last: int) -> int:
    """Return the lowest address where ``size`` bytes are free from step ``first`` to ``last``."""
    align = AI_LINE_BYTES if memory is Memory.AI else ROUND
    busy = sorted((h.start, h.stop) for h in values if h.memory is memory and h.first <= last and first <= h.last)
    start = 0
    for low, high in busy:
        if start + size <= low:
            break
        start = max(start, high + -high % align)
    return start

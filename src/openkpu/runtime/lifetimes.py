"""Which values a program holds, where, from which step to which: the basis of every picture and figure of its memory.

Files do not say which bytes are one value. It follows from the steps: a step's result lives from that step to the last
one that reads a byte of it before somebody else writes there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openkpu.kmodel.program import Memory, Operand, Program


@dataclass(slots=True)
class Value:
    """What one step left in a memory.

    ``born`` is the step that wrote it, -1 for an input of the model. ``readers`` are the steps that read it, in order;
    the number of steps stands for the caller, who reads the outputs.
    """

    operand: Operand
    born: int
    readers: list[int] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The last step that needs it; the step that wrote it if none does."""
        return self.readers[-1] if self.readers else self.born


def values(program: Program) -> list[Value]:
    """Return every value in the order in which they are written, the inputs first, constants left out."""
    found = [Value(o, -1) for o in program.inputs]
    for index, step in enumerate(program.steps):
        for operand in step.reads:
            _read(found, operand, index)
        found += [Value(o, index) for o in step.writes]
    for operand in program.outputs:
        _read(found, operand, len(program.steps))
    return found


def _read(found: list[Value], operand: Operand, index: int) -> None:
    """Note a reader at every value that still has bytes of the operand, the newest first."""
    if operand.memory is Memory.CONST:
        return
    missing = [(operand.start, operand.stop)]
    for value in reversed(found):
        o = value.operand
        if o.memory is not operand.memory:
            continue
        rest = [
            piece for a, b in missing for piece in ((a, min(b, o.start)), (max(a, o.stop), b)) if piece[0] < piece[1]
        ]
        if rest != missing:
            if index not in value.readers[-1:]:
                value.readers.append(index)
            missing = rest
        if not missing:
            return


def used_at(found: list[Value], memory: Memory, steps: int) -> list[int]:
    """Return for each step the bytes of ``memory`` that values occupy while it runs (padding of rows included)."""
    spans: list[list[tuple[int, int]]] = [[] for _ in range(steps)]
    for v in found:
        if v.operand.memory is memory:
            for index in range(max(v.born, 0), min(v.last, steps - 1) + 1):
                spans[index].append((v.operand.start, v.operand.stop))
    return [_union(s) for s in spans]


def _union(spans: list[tuple[int, int]]) -> int:
    total = end = 0
    for start, stop in sorted(spans):
        total += max(0, stop - max(start, end))
        end = max(end, stop)
    return total

"""Which work of the CPU every model pays, and which its design could change.

*Copies*: the picture's way into the chip, and turning the results into floats, as the firmware hands them out.
*Operators*: everything else that the CPU does, with the transfers and conversions in the middle of the model that only
these operators need. A reordering or a cut between the conversion and the output is an operator too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from openkpu.estimate.bar import NOTHING, Estimate, total
from openkpu.estimate.steps import input_cost, step_cost
from openkpu.k210 import CPU_HZ, KPU_HZ
from openkpu.kmodel import operators as ops
from openkpu.kmodel import operators_v5 as v5
from openkpu.kmodel import program as v3
from openkpu.kmodel.program import KpuConv, Memory, Operand, Program

CONVERSIONS: Final = (
    v3.Dequantize, v3.ChannelwiseDequantize, v3.KpuDownload, ops.DequantizeTensor, v5.AffineDequantize, v5.Convert,
)  # fmt: skip
"""Steps that turn results into what the caller gets."""
MOVEMENTS: Final = (
    v3.Flatten, v3.Concat, v3.KpuRemovePadding, ops.ConcatTensors, ops.CopyTensor, ops.TransposeTensor,
    ops.SliceTensor, ops.PadTensor,
)  # fmt: skip
"""Steps that may come after: the values stay the same."""

Span = tuple[Memory, int, int]
"""A memory, the first byte and the one after the last."""


@dataclass(frozen=True, slots=True)
class CpuSplit:
    """The CPU's time of a forward pass."""

    copies: Estimate
    operators: Estimate
    whole: Estimate
    """Of the forward pass, the KPU's part included."""

    @property
    def operators_share(self) -> float:
        """Share of the forward pass."""
        return self.operators.us / self.whole.us if self.whole.us else 0.0


def copies(program: Program) -> set[int]:
    """Return the numbers of the steps that only turn results into the outputs' form."""
    wanted: list[Span] = [_span(o) for o in program.outputs]
    found: set[int] = set()
    for i in range(len(program.steps) - 1, -1, -1):
        step = program.steps[i]
        writes = [_span(o) for o in step.writes]
        if not any(_overlap(a, b) for a in writes for b in wanted):
            continue
        wanted = [rest for a in wanted for rest in _without(a, writes)]
        scaling = isinstance(step, ops.Binary) and any(o.memory is Memory.CONST for o in step.reads)
        if isinstance(step, CONVERSIONS) or scaling:
            found.add(i)
        if scaling or isinstance(step, (*CONVERSIONS, *MOVEMENTS)):
            wanted += [_span(o) for o in step.reads if o.memory is not Memory.CONST]
    return found


def split(program: Program, *, kpu_mhz: float = KPU_HZ / 1e6, cpu_mhz: float = CPU_HZ / 1e6) -> CpuSplit:
    """Price a forward pass and split the CPU's part."""
    inputs = [input_cost(o, program.version, cpu_mhz=cpu_mhz) for o in program.inputs]
    times = [step_cost(s, program.version, kpu_mhz=kpu_mhz, cpu_mhz=cpu_mhz).time for s in program.steps]
    only = copies(program)
    on_cpu = [i for i, s in enumerate(program.steps) if not isinstance(s, KpuConv)]
    return CpuSplit(
        _sum([c.time for c in inputs if c.who == "CPU"] + [times[i] for i in on_cpu if i in only]),
        _sum([times[i] for i in on_cpu if i not in only]),
        _sum([*(c.time for c in inputs), *times]),
    )


def _sum(times: Sequence[Estimate]) -> Estimate:
    return total(list(times)) if times else NOTHING


def _span(o: Operand) -> Span:
    return o.memory, o.start, o.stop


def _overlap(a: Span, b: Span) -> bool:
    return a[0] is b[0] and a[1] < b[2] and b[1] < a[2]


def _without(a: Span, written: list[Span]) -> list[Span]:
    """Return what is left of a span whose bytes were looked for before these were written."""
    parts = [a]
    for b in written:
        parts = [
            rest
            for p in parts
            for rest in (
                [p] if not _overlap(p, b) else [s for s in ((p[0], p[1], b[1]), (p[0], b[2], p[2])) if s[1] < s[2]]
            )
        ]
    return parts

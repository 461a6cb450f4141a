"""What a program needs of the chip's memories."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from openkpu.kmodel.program import KpuConv, Memory, Program, Step
from openkpu.runtime.lifetimes import used_at, values


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of each memory that a program needs."""

    main_bytes: int
    """Scratch buffer in main RAM, and V5's input and output buffers."""
    file_bytes: int
    """The kmodel file, which also lies in main RAM while it runs (unless streamed from flash)."""
    ai_peak: int
    """Most bytes of AI RAM that are in use during any one step (live feature maps, padding of rows included)."""
    ai_low: int
    """Lowest byte address of AI RAM that is used; 0 when none is."""
    ai_high: int
    """First byte address of AI RAM above everything that is used; 0 when none is."""
    weights_bytes: int
    """Weights and other constants of all steps."""


def memory_use(program: Program, file_bytes: int) -> MemoryUse:
    """Measure a program; ``file_bytes`` is the size of its file."""
    found = values(program)
    maps = [v.operand for v in found if v.operand.memory is Memory.AI]
    # The arrays of steps that came from a V5 file are parts of its constants.
    once = program.version == 5 and program.extra is not None
    steps = [s for s in program.steps if isinstance(s, KpuConv) or not once]
    return MemoryUse(
        main_bytes=program.main_bytes + program.input_bytes + program.output_bytes,
        file_bytes=file_bytes,
        ai_peak=max(used_at(found, Memory.AI, len(program.steps)), default=0),
        ai_low=min((o.start for o in maps), default=0),
        ai_high=max((o.stop for o in maps), default=0),
        weights_bytes=sum(constant_bytes(s) for s in steps) + len(program.constants),
    )


def constant_bytes(step: Step) -> int:
    """Weights and other arrays that belong to one step, in bytes."""
    if isinstance(step, KpuConv):
        return step.layer.weights.nbytes + step.layer.batch_norm.mul.size * 8 + 16 * 9
    values = (getattr(step, f.name) for f in fields(step))
    return sum(v.nbytes for v in values if isinstance(v, np.ndarray))

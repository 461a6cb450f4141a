"""How a session runs its program when nobody watches: the steps that matter, in as few calls as possible.

Every step becomes one or more actions with the bytes that they read and write. Actions whose bytes nobody reads later are
left out, and native ones that follow each other become one call. What stays in the memories besides the outputs may so
differ from a run step by step; what any remaining step reads never does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.program import Memory, Operand, Program, Step
from openkpu.runtime import boxes, steps, v5_native
from openkpu.runtime.memories import Memories, get
from openkpu.runtime.v5_fusion import BYTES, Knowledge, Move, moves

Array = NDArray[Any]
Run = Callable[[], object]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Action:
    """``make`` gives what runs it; ``reads`` and ``writes`` are spans of addresses. ``fills``: every byte is written."""

    make: Callable[[], list[Any]]
    reads: list[Span]
    writes: list[Span]
    fills: bool = False


def operand_view(m: Memories, operand: Operand) -> Array:
    """An operand's memory: its elements, or of a feature map all bytes from the first to the last."""
    return m.ai[operand.start : operand.stop] if operand.memory is Memory.AI else get(m, operand)


def build(m: Memories, program: Program, whole: list[Callable[[], list[Any]]]) -> list[Run]:
    """Return what to call in turn. ``whole[i]`` gives what runs step i; native operators have a ``run`` method."""
    native = v5_native.kernels()
    if native is None or program.version != 5:
        return _calls(native, [run for make in whole for run in make()])
    known, actions = Knowledge(), list[Action]()
    for operand in program.inputs:
        known.learn(operand_view(m, operand))
    for step, make in zip(program.steps, whole, strict=True):
        actions += _actions(native, known, m, step, make)
    outputs = [boxes.extent(operand_view(m, operand)) for operand in program.outputs]
    return _calls(native, [run for action in _needed(actions, outputs) for run in action.make()])


def _actions(
    native: ModuleType, known: Knowledge, m: Memories, step: Step, make: Callable[[], list[Any]]
) -> list[Action]:
    reads = [operand_view(m, x) for x in step.reads]
    writes = [operand_view(m, x) for x in step.writes]
    found = moves(known, m, step)
    actions = None if found is None else _by_moves(native, reads, found)
    if actions is None:
        fills = all(w.flags.c_contiguous and x.memory is not Memory.AI for w, x in zip(writes, step.writes, strict=True))
        actions = [Action(make, [*map(boxes.extent, reads)], [*map(boxes.extent, writes)], fills)]
    for w in writes:
        known.forget(w)
    if found is None:
        for w, operand in zip(writes, step.writes, strict=True):
            if operand.memory is not Memory.AI:
                known.learn(w)
        return actions
    for move in found:
        kept = (s for s in move.sources if not any(boxes.overlap(s.array, w) for w in writes))
        known.learn(move.target, kept)
    return actions


def _by_moves(native: ModuleType, reads: list[Array], found: list[Move]) -> list[Action] | None:
    """The actions of a step by its moves, or None where running the step itself is as good, or needed."""
    sources = [move.sources[0].array if move.sources else move.quantize[0] if move.quantize else None for move in found]
    if any(s is None or boxes.overlap(s, move.target) for s in sources for move in found):
        return None
    if all(any(boxes.overlap(s, r) for r in reads) for s in sources if s is not None):
        return None
    makers = [_maker(native, move) for move in found]
    if any(make is None for make in makers):
        return None
    return [
        Action(make, [boxes.extent(source)], [boxes.extent(move.target)], move.target.flags.c_contiguous)
        for make, source, move in zip(makers, sources, found, strict=True)
        if make is not None and source is not None
    ]


def _maker(native: ModuleType, move: Move) -> Callable[[], list[Any]] | None:
    """What makes the native operator of a move; None where there is none."""
    target = move.target.squeeze()
    if move.quantize is not None:
        floats, multiplier, offset = move.quantize
        return lambda: [native.quantize(floats.squeeze(), target, multiplier, offset)]
    source = move.sources[0]
    array = source.array.squeeze()
    if target.ndim > 8:
        return None
    if source.table is None or (source.table.dtype == np.uint8 and np.array_equal(source.table, BYTES)):
        return lambda: [native.copy(array, target)]
    if source.table.dtype == np.uint8:
        table = source.table.tobytes()
        return lambda: [native.lookup(array, table, target)]
    if source.line is not None:
        multiplier, offset = source.line
        return lambda: [native.dequantize(array, target, multiplier, offset)]
    return None


def _needed(actions: list[Action], outputs: list[Span]) -> list[Action]:
    """The actions that write something that a later one, or the caller, reads."""
    live = sorted(outputs)
    kept = []
    for action in reversed(actions):
        if not any(low < stop and first < high for low, high in action.writes for first, stop in live):
            continue
        kept.append(action)
        if action.fills:
            for span in action.writes:
                live = _without(live, span)
        live += action.reads
    return kept[::-1]


def _without(spans: list[Span], gone: Span) -> list[Span]:
    low, high = gone
    return [piece for a, b in spans for piece in ((a, min(b, low)), (max(a, high), b)) if piece[0] < piece[1]]


def _calls(native: ModuleType | None, runs: list[Any]) -> list[Run]:
    """Native operators in a row as one."""
    calls: list[Run] = []
    row: list[Any] = []

    def close() -> None:
        if row and native is not None:
            calls.append(native.sequence(list(row)).run)
        row.clear()

    for run in runs:
        if native is not None and isinstance(run, native.Operator):
            row.append(run)
        else:
            close()
            calls.append(run)
    close()
    return calls

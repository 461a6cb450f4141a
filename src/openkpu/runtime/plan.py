"""How a session runs its program when nobody watches: the steps that matter, in as few calls as possible.

Every step becomes one or more actions with the bytes that they read and write. Actions whose bytes nobody reads later
are left out, and native ones that follow each other become one call. What stays in the memories besides the outputs may
so differ from a run step by step; what any remaining step reads never does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from openkpu.kmodel.program import KpuConv, Memory, Operand, Program, Step
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.runtime import boxes, v5_native
from openkpu.runtime.memories import Memories, get
from openkpu.runtime.v5_fusion import BYTES, Knowledge, Move, Source, moves

Array = NDArray[Any]
Run = Callable[[], object]
Make = Callable[[], list[Any]]

MAX_RANK: Final = 8
"""Dimensions that the native operators take."""


@dataclass(frozen=True, slots=True)
class Action:
    """``make`` gives what runs it. It reads and writes all elements of the arrays; if ``kept`` it runs in any case."""

    make: Make
    reads: list[Array]
    writes: list[Array]
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to call in turn, and which memories, of all but the constants, have to be filled before."""

    calls: list[Run]
    filled: list[Array]


def build(m: Memories, program: Program, whole: list[Make]) -> Plan:
    """Plan a session's runs. ``whole[i]`` gives what runs step i; native operators have a ``run`` method."""
    native = v5_native.kernels()
    memories = [m.ai, m.main, m.ram(Memory.INPUT), m.ram(Memory.OUTPUT)]
    if native is None or program.version != 5:
        return Plan(_calls(native, [run for make in whole for run in make()]), memories)
    known, actions = Knowledge(), list[Action]()
    for operand in program.inputs:
        for array in _views(m, operand):
            known.forget(array)
            known.learn(array)
    for step, make in zip(program.steps, whole, strict=True):
        actions += _actions(native, known, m, step, make)
    inputs, outputs = (
        [array for operand in operands for array in _views(m, operand)]
        for operands in (program.inputs, program.outputs)
    )
    kept, stale = _needed(actions, inputs, outputs, memories)
    return Plan(_calls(native, [run for action in kept for run in action.make()]), stale)


def _views(m: Memories, operand: Operand) -> list[Array]:
    """An operand's elements where they are."""
    if operand.memory is Memory.AI:
        return [view for view, _ in v5_native.feature_maps(m, operand)]
    return [get(m, operand)]


def _actions(native: ModuleType, known: Knowledge, m: Memories, step: Step, make: Make) -> list[Action]:
    if isinstance(step, KpuConv):
        # Its registers may name other places than those of maps in the usual layout.
        r = step.layer.registers
        reads_usual = _usual(step.layer.input_shape, r.coef_group, r.row_switch_addr, r.channel_switch_addr)
        target = (r.wb_group, r.wb_row_switch_addr, r.wb_channel_switch_addr)
        writes_usual = _usual(step.layer.output_shape, *target) and step.main_output is None
        writes = _views(m, step.output) if writes_usual else [m.ai]
        for w in writes if writes_usual else [m.ai, m.main, m.ram(Memory.INPUT), m.ram(Memory.OUTPUT)]:
            known.forget(w)
        return [
            Action(make, _views(m, step.input) if reads_usual else [m.ai], writes if writes_usual else [], kept=True)
        ]
    reads, writes = ([array for x in operands for array in _views(m, x)] for operands in (step.reads, step.writes))
    found = moves(known, m, step)
    actions = None if found is None else _by_moves(native, reads, found)
    for w in writes:
        known.forget(w)
    if found is None:
        for w in writes:
            known.learn(w)
    else:
        for move in found:
            known.learn(move.target, (s for s in move.sources if not any(boxes.overlap(s.array, w) for w in writes)))
    return actions or [Action(make, reads, writes)]


def _usual(shape: tuple[int, int, int], group: int, row_lines: int, channel_lines: int) -> bool:
    """Whether registers describe a feature map as it usually lies."""
    layout = FeatureMapLayout(*shape)
    return (group, row_lines, channel_lines) == (layout.group, layout.row_lines, layout.channel_lines)


def _by_moves(native: ModuleType, reads: list[Array], found: list[Move]) -> list[Action] | None:
    """The actions of a step by its moves, or None where running the step itself is as good, or needed."""
    actions, gained = [], False

    def apart(array: Array) -> bool:
        """Not where the step writes: an action could find what another has left there."""
        return not any(boxes.overlap(array, move.target) for move in found)

    for move in found:
        sources = [s for s in move.sources if apart(s.array)]
        if sources:
            array, make = sources[0].array, _maker(native, sources[0], move.target)
        elif move.quantize is not None and apart(move.quantize[0]):
            array, *numbers = move.quantize
            make = _quantizer(native, array, move.target, *numbers)
        else:
            return None
        if make is None:
            return None
        gained = gained or not any(boxes.overlap(array, r) for r in reads)
        actions.append(Action(make, [array], [move.target]))
    return actions if gained else None


def _quantizer(native: ModuleType, floats: Array, target: Array, multiplier: float, offset: float) -> Make | None:
    floats, target = floats.squeeze(), target.squeeze()
    if target.ndim > MAX_RANK:
        return None
    return lambda: [native.quantize(floats, target, multiplier, offset)]


def _maker(native: ModuleType, source: Source, target: Array) -> Make | None:
    """What makes the native operator that moves a source; None where there is none."""
    array, target, table = source.array.squeeze(), target.squeeze(), source.table
    if target.ndim > MAX_RANK:
        return None
    if table is None or (table.dtype == np.uint8 and np.array_equal(table, BYTES)):
        return lambda: [native.copy(array, target)]
    if table.dtype == np.uint8:
        return lambda: [native.lookup(array, table.tobytes(), target)]
    if (line := source.line) is not None:
        return lambda: [native.dequantize(array, target, *line)]
    return None


def _needed(
    actions: list[Action], inputs: list[Array], outputs: list[Array], memories: list[Array]
) -> tuple[list[Action], list[Array]]:
    """The actions whose results a later one, or the caller, reads; the memories that are read before written."""
    live = [(boxes.address(memory), np.zeros(memory.size, np.bool_)) for memory in memories]

    def marks(array: Array) -> Array | None:
        """The marks of an array's bytes; None for constants."""
        where = boxes.address(array)
        for first, flags in live:
            if first <= where < first + flags.size:
                if array.flags.c_contiguous:
                    return flags[where - first : where - first + array.nbytes]
                shape, strides = (*array.shape, array.itemsize), (*array.strides, 1)
                return as_strided(flags[where - first :], shape, strides)
        return None

    def mark(arrays: list[Array], value: bool) -> None:
        for array in arrays:
            if (flags := marks(array)) is not None:
                flags[...] = value

    mark(outputs, True)
    kept = []
    for action in reversed(actions):
        if not (action.kept or any(flags.any() for w in action.writes if (flags := marks(w)) is not None)):
            continue
        kept.append(action)
        mark(action.writes, False)
        mark(action.reads, True)
    mark(inputs, False)
    stale = [memory for memory in memories if (flags := marks(memory)) is not None and flags.any()]
    return kept[::-1], stale


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

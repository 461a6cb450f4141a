"""Runs a Program on a simulated K210, step by step, at the real addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError, MemoryLimitError, UnsupportedError
from openkpu.k210 import AI_LINE_BYTES, AI_RAM_BYTES, MAIN_RAM_BYTES
from openkpu.kmodel.program import KpuConv, Memory, Operand, Program, Step
from openkpu.kpu import engine as native
from openkpu.kpu import reference
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import KpuLayer
from openkpu.kpu.monitor import Monitor
from openkpu.runtime import plan, steps
from openkpu.runtime.checks import Checker, Finding
from openkpu.runtime.memories import Engine, Rounding, get, put

Run = Callable[[], object]
Trace = Callable[[int, Step, NDArray[Any]], None]
"""``trace(index, step, array)`` gets a copy of each step's result, a KPU layer's as uint8 (c, h, w) from AI RAM."""

MAX_MAIN_BYTES: Final = 64 * 1024 * 1024  # ten times what the chip has
SLACK: Final = 8
"""Bytes after the main buffer: DMA and QUANTIZED_ADD work on whole groups of 8 and may touch up to 7 more."""

CHECK_FILL: Final = 0xA5
"""What the memories hold before a checked run, so that uninitialised reads do not look right by chance."""


class Session:
    """Simulated memories and the program that runs in them. One run at a time; make a session for each thread.

    ``engine`` "native" uses the fast kernels, "reference" the NumPy specification; both give the same bytes.
    ``threads`` is for the native kernels. With ``check`` every run also looks for memory mistakes and 36-bit overflow,
    in ``findings``; the KPU then runs on the reference, which is much slower. ``fill`` is the byte that the memories
    hold before a run (None: 0, or ``CHECK_FILL`` with ``check``); on the board it is whatever ran before, and a correct
    program's results do not depend on it. ``rounding`` is for V4's quantise and dequantise, which round differently on
    the chip and in the vendor's simulator on a PC (which made the vendor's reference outputs). ``main`` is the main
    buffer of another session with a program of the same ``main_bytes``, to share it.

    ``UnsupportedError`` (E238) when the program has a step the simulator does not know; ``MemoryLimitError`` (E310,
    E312) when it asks for absurd memories or an operand leaves them; ``InputError`` (E413) for an unknown engine or
    rounding.
    """

    def __init__(
        self,
        program: Program,
        *,
        engine: Engine = "native",
        threads: int = 1,
        check: bool = False,
        fill: int | None = None,
        rounding: Rounding = "device",
        main: NDArray[np.uint8] | None = None,
    ) -> None:
        if engine not in ("native", "reference"):
            raise InputError(
                "E413",
                f"there is no engine {engine!r}",
                where="argument engine",
                why="known are 'native' and 'reference'",
                fix="use engine='native'",
            )
        if rounding not in ("device", "simulator"):
            raise InputError(
                "E413",
                f"there is no rounding {rounding!r}",
                where="argument rounding",
                why="known are 'device' and 'simulator'",
                fix="use rounding='device'",
            )
        _validate(program)
        self.program = program
        self.engine: Engine = engine
        self.rounding: Rounding = rounding
        self.threads = threads
        self.check = check
        self.fill = (CHECK_FILL if check else 0) if fill is None else fill
        self.findings: list[Finding] = []
        """What the last checked run found, in order of execution."""
        self.ai: NDArray[np.uint8] = np.empty(AI_RAM_BYTES, np.uint8)
        self.main: NDArray[np.uint8] = np.empty(program.main_bytes + SLACK, np.uint8) if main is None else main
        self._ram: dict[Memory, NDArray[np.uint8]] = {
            Memory.MAIN: self.main,
            Memory.CONST: np.frombuffer(program.constants, np.uint8),
            Memory.INPUT: np.zeros(program.input_bytes, np.uint8),
            Memory.OUTPUT: np.zeros(program.output_bytes, np.uint8),
        }
        self._layers = {i: _layers(s) for i, s in enumerate(program.steps) if isinstance(s, KpuConv)}
        self._steps: list[list[Run]] = []  # what runs each step, once somebody has watched
        self._plan: plan.Plan | None = None  # what runs all steps, once nobody has

    def _bind(self, index: int) -> list[Any]:
        """What runs a step on these memories in turn: native operators, or functions."""
        step = self.program.steps[index]
        if not isinstance(step, KpuConv):
            return steps.bind(self, step, self.program.version)
        layers = self._layers[index]
        return [
            native.bound_layer(layer, self.ai, threads=self.threads, out=out)
            for layer, out in zip(layers, self._outs(step, layers), strict=True)
        ]

    def ram(self, memory: Memory) -> NDArray[np.uint8]:
        """Return a memory's bytes; not for AI RAM, whose operands have a layout of their own."""
        return self._ram[memory]

    def run(self, *arrays: NDArray[Any], trace: Trace | None = None) -> list[NDArray[Any]]:
        """Run the program once; return copies of its outputs, typed and shaped as ``program.outputs`` says.

        With a ``trace`` every step runs as it is. Without one a V5 program's steps that only move bytes may be joined,
        and the memories then need not hold the values in between afterwards (``plan`` says how).

        ``arrays`` are the inputs in order: uint8 (c, h, w), or float32 (n,) where the program takes floats; a leading
        1 (batch) is accepted. ``InputError`` E420 (number), E421 (dtype), E422 (shape).
        """
        inputs = check_inputs(self.program, arrays)
        watched = trace is not None or self.check or self.engine == "reference"
        if not watched and self._plan is None:
            self._plan = plan.build(
                self, self.program, [partial(self._bind, i) for i in range(len(self.program.steps))]
            )
        everything = [self.ai, self.main, self._ram[Memory.INPUT], self._ram[Memory.OUTPUT]]
        for memory in everything if watched or self._plan is None else self._plan.filled:
            memory.fill(self.fill)
        checker = Checker(self.program) if self.check else None
        for operand, array in zip(self.program.inputs, inputs, strict=True):
            put(self, operand, array)
        if self._plan is not None and not watched:
            for call in self._plan.calls:
                call()
        elif self.engine == "native" and trace is not None and not self.check:
            self._run_watched(trace)
        else:
            self._run_checked(checker, trace)
        if checker is not None:
            checker.finish()
            self.findings = checker.findings
        return [get(self, operand).copy() for operand in self.program.outputs]

    def _run_watched(self, trace: Trace) -> None:
        """Run step by step, every step whole."""
        if not self._steps:
            self._steps = [[getattr(run, "run", run) for run in self._bind(i)] for i in range(len(self.program.steps))]
        for index, (step, runs) in enumerate(zip(self.program.steps, self._steps, strict=True)):
            for run in runs:
                run()
            trace(index, step, steps.result(self, step))

    def _run_checked(self, checker: Checker | None, trace: Trace | None) -> None:
        """Run step by step with the specification, or with the eyes of a checker."""
        for index, step in enumerate(self.program.steps):
            if checker is not None:
                checker.before(index, step)
            if isinstance(step, KpuConv):
                monitor = Monitor() if checker is not None else None
                self._run_kpu(index, step, monitor)
                if checker is not None and monitor is not None:
                    checker.kpu(index, step, monitor)
            else:
                steps.run_cpu(self, step, self.program.version)
            if checker is not None:
                checker.after(index, step)
            if trace is not None:
                trace(index, step, steps.result(self, step))

    def _run_kpu(self, index: int, step: KpuConv, monitor: Monitor | None) -> None:
        layers = self._layers[index]
        for layer, out in zip(layers, self._outs(step, layers), strict=True):
            dense = reference.run_layer(layer, self.ai, monitor=monitor)
            if out is not None:
                out[:] = dense

    def _outs(self, step: KpuConv, layers: tuple[KpuLayer, ...]) -> list[NDArray[np.uint8] | None]:
        """Where each picture's result goes in main RAM."""
        # The DMA writes ceil(n / 8) * 8 bytes of main RAM; the tail bytes are undefined and stay as they are here.
        if step.main_output is None:
            return [None] * len(layers)
        return list(get(self, step.main_output).reshape(len(layers), *step.layer.output_shape))


def _layers(step: KpuConv) -> tuple[KpuLayer, ...]:
    """Return the layer for each picture of the batch, at its own addresses."""
    if step.batches == 1:
        return (step.layer,)
    r = step.layer.registers
    source, target = (
        FeatureMapLayout(*s).bytes // AI_LINE_BYTES for s in (step.layer.input_shape, step.layer.output_shape)
    )
    moved = (
        replace(r, image_src_addr=r.image_src_addr + i * source, image_dst_addr=r.image_dst_addr + i * target)
        for i in range(step.batches)
    )
    return tuple(replace(step.layer, registers=m) for m in moved)


def _validate(program: Program) -> None:
    """Refuse a program that could not run: unknown steps, operands outside the memories."""
    if program.main_bytes > MAX_MAIN_BYTES:
        raise MemoryLimitError(
            "E310",
            "the model wants more main memory than the chip could ever have",
            where="main buffer",
            why=f"{program.main_bytes} bytes; the K210 has {MAIN_RAM_BYTES}",
            fix="Use a smaller model or check the file.",
        )
    for index, step in enumerate(program.steps):
        if not steps.runnable(step, program.version):
            raise UnsupportedError(
                "E238",
                f"the simulator has no step {type(step).__name__}",
                where=f"step {index}",
                why="it is not part of what the K210 runtimes execute",
                fix="Remove the step.",
            )
        for name, operand in step.operands():
            _inside(operand, program, f"step {index} ({type(step).__name__}), {name}")
    for i, operand in enumerate(program.inputs):
        _inside(operand, program, f"input {i}")
    for i, operand in enumerate(program.outputs):
        _inside(operand, program, f"output {i}")


def _inside(operand: Operand, program: Program, where: str) -> None:
    size = {
        Memory.AI: AI_RAM_BYTES,
        Memory.MAIN: program.main_bytes,
        Memory.CONST: len(program.constants),
        Memory.INPUT: program.input_bytes,
        Memory.OUTPUT: program.output_bytes,
    }[operand.memory]
    if operand.start < 0 or operand.stop > size or min(operand.shape, default=1) < 1:
        raise MemoryLimitError(
            "E312",
            "an operand does not lie in its memory",
            where=where,
            why=f"bytes {operand.start}..{operand.stop} of {operand.memory.value} memory, which has {size}",
            fix="This is a mistake of whatever built the program.",
        )


def check_inputs(program: Program, arrays: tuple[NDArray[Any], ...]) -> list[NDArray[Any]]:
    """Check the caller's arrays against ``program.inputs``; return them with the operands' shapes."""
    wanted = program.inputs
    if len(arrays) != len(wanted):
        raise InputError(
            "E420",
            f"the model takes {len(wanted)} input array(s), {len(arrays)} were given",
            where="arguments of run",
            why="; ".join(f"{o.dtype.value} {o.shape}" for o in wanted),
            fix="Give one array for each input.",
        )
    checked = []
    for i, (o, given) in enumerate(zip(wanted, arrays, strict=True)):
        a = np.asarray(given)
        if a.dtype != o.dtype.numpy:
            raise InputError(
                "E421",
                f"input {i} is {a.dtype}, the model takes {o.dtype.value}",
                where=f"input {i}",
                why=f"{o.dtype.value} {o.shape} is what the device reads there",
                fix=f"Convert it: array.astype(np.{o.dtype.value}), after scaling where that is needed.",
            )
        shape = a.shape[1:] if a.ndim == len(o.shape) + 1 and a.shape[0] == 1 else a.shape
        shape = (1,) * (len(o.shape) - len(shape)) + shape  # a vector where V4 says (1, 1, n)
        if shape != o.shape:
            hwc = len(o.shape) == 3 and shape == (o.shape[1], o.shape[2], o.shape[0])
            fix = "Bring the channels first: array.transpose(2, 0, 1)." if hwc else "Resize or crop it first."
            raise InputError(
                "E422",
                f"input {i} has shape {a.shape}, the model takes {o.shape}",
                where=f"input {i}",
                why="(channels, height, width)" if len(o.shape) == 3 else "one vector",
                fix=fix,
            )
        checked.append(a.reshape(o.shape))
    return checked

"""How long a kmodel takes on the chip, step by step, with error bars: where each runs, why it takes its time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from openkpu.analyze.inspect import StepSummary, operand, summarize
from openkpu.api import Model, load
from openkpu.errors import InputError
from openkpu.estimate.bar import Estimate, total
from openkpu.estimate.devices import camera_period, flash_stream, lcd_transfer
from openkpu.estimate.kpu import LayerTime, Work
from openkpu.estimate.roles import copies
from openkpu.estimate.steps import input_cost, step_cost
from openkpu.k210 import AI_RAM_BYTES, CPU_HZ, KPU_HZ, LEAST_MHZ, MAIN_RAM_BYTES, MOST_MHZ
from openkpu.kmodel.program import KpuConv, Memory, Operand, Step
from openkpu.runtime.memory import MemoryUse, constant_bytes

COLUMNS: Final = (
    "index",
    "where",
    "op",
    "name",
    "input",
    "output",
    "detail",
    "macs",
    "cycles",
    "ms",
    "low_ms",
    "high_ms",
    "share",
    "utilisation",
    "bottleneck",
    "basis",
    "main_moved",
    "ai_moved",
    "weights_bytes",
    "main_used",
    "ai_used",
    "role",
)
"""Columns of the CSV file and keys of a step in JSON."""


@dataclass(frozen=True, slots=True)
class StepProfile:
    """One step. ``index`` is -1 for the input's way into the chip. Shapes as in ``StepSummary``."""

    index: int
    where: str
    """KPU, CPU or DMA."""
    op: str
    name: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    detail: str
    macs: int
    cycles: int
    """Of the clock of the part that does it: the KPU's, or the CPU's."""
    time: Estimate
    utilisation: float | None
    """KPU only: share of what the convolution unit could do in this time (576 MACs a cycle for 3x3, 64 for 1x1)."""
    bottleneck: str
    """compute, fill, output, weights, overhead, DMA or CPU: the largest part of the time."""
    basis: str
    """How the time is known: fitted (KPU), measured, derived or inferred (CPU)."""
    main_moved: int
    """Bytes read and written in main RAM, weights included."""
    ai_moved: int
    """Bytes read and written in AI RAM, each feature map once."""
    weights_bytes: int
    main_used: int
    """Bytes of the scratch buffer in main RAM that hold something needed during the step."""
    ai_used: int
    """The same of AI RAM."""
    layer: LayerTime | None = None
    work: Work | None = None
    role: str = "operator"
    """copy: the input's way in, or an output's conversion, which every model pays; else operator."""

    def as_dict(self, whole_us: float) -> dict[str, Any]:
        """Return the ``COLUMNS`` as plain data; ``whole_us`` is the time of all steps."""
        values = (
            self.index,
            self.where,
            self.op,
            self.name,
            list(self.input_shape),
            list(self.output_shape),
            self.detail,
            self.macs,
            self.cycles,
            _ms(self.time.us),
            _ms(self.time.low),
            _ms(self.time.high),
            round(self.time.us / whole_us, 5) if whole_us else 0.0,
            None if self.utilisation is None else round(self.utilisation, 5),
            self.bottleneck,
            self.basis,
            self.main_moved,
            self.ai_moved,
            self.weights_bytes,
            self.main_used,
            self.ai_used,
            self.role,
        )
        return dict(zip(COLUMNS, values, strict=True))


@dataclass(frozen=True, slots=True)
class Profile:
    """The answer of ``profile``; ``steps`` start with the input's way into the chip."""

    version: int
    kpu_mhz: float
    cpu_mhz: float
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    memory: MemoryUse
    steps: tuple[StepProfile, ...]

    @property
    def total(self) -> Estimate:
        """A forward pass, from the picture in main RAM to the result in main RAM."""
        return total([s.time for s in self.steps])

    @property
    def fps(self) -> float:
        """Forward passes a second, nothing else running."""
        return 1e6 / self.total.us if self.total.us else 0.0

    @property
    def kpu(self) -> Estimate:
        """The KPU layers, and bringing their results to main RAM."""
        return total([s.time for s in self.steps if s.where == "KPU"])

    @property
    def cpu(self) -> Estimate:
        """Everything that the CPU does."""
        return total([s.time for s in self.steps if s.where == "CPU"])

    @property
    def cpu_share(self) -> float:
        """Share of the time in which the CPU works and the KPU waits."""
        return self.cpu.us / self.total.us if self.total.us else 0.0

    @property
    def cpu_copies(self) -> Estimate:
        """The CPU's work for the input's way in and the outputs' form, which every model pays."""
        return total([s.time for s in self.steps if s.where == "CPU" and s.role == "copy"])

    @property
    def cpu_operators(self) -> Estimate:
        """The CPU's work for operators of the model, with the transfers and conversions that they need."""
        return total([s.time for s in self.steps if s.where == "CPU" and s.role == "operator"])

    @property
    def operators_share(self) -> float:
        """Share of the time that operators on the CPU take: what the model's design could change."""
        return self.cpu_operators.us / self.total.us if self.total.us else 0.0

    @property
    def segments(self) -> int:
        """Uninterrupted stretches on the KPU."""
        kpu = [s.op == KpuConv.__name__ for s in self.steps]
        return sum(now and not before for before, now in zip([False, *kpu], kpu, strict=False))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all steps."""
        return sum(s.macs for s in self.steps)

    @property
    def beside(self) -> dict[str, Estimate]:
        """What else takes time in a script: the same pass streamed from flash (V3, V4), the display, the camera."""
        found: dict[str, Estimate] = {}
        if self.version in (3, 4):
            found["flash"] = flash_stream(self.memory.file_bytes, self.total)
            found["flash_dual"] = flash_stream(self.memory.file_bytes, self.total, dual=True)
        return {**found, "display": lcd_transfer(), "camera": camera_period()}

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        whole = self.total
        return {
            "version": self.version,
            "kpu_mhz": self.kpu_mhz,
            "cpu_mhz": self.cpu_mhz,
            "ms": _ms(whole.us),
            "low_ms": _ms(whole.low),
            "high_ms": _ms(whole.high),
            "fps": round(self.fps, 3),
            "kpu_ms": _ms(self.kpu.us),
            "cpu_ms": _ms(self.cpu.us),
            "cpu_share": round(self.cpu_share, 5),
            "cpu_copies_ms": _ms(self.cpu_copies.us),
            "cpu_operators_ms": _ms(self.cpu_operators.us),
            "operators_share": round(self.operators_share, 5),
            "segments": self.segments,
            "macs": self.macs,
            "beside_ms": {name: _ms(t.us) for name, t in self.beside.items()},
            "inputs": [operand(o) for o in self.inputs],
            "outputs": [operand(o) for o in self.outputs],
            "memory": {**asdict(self.memory), "main_ram_bytes": MAIN_RAM_BYTES, "ai_ram_bytes": AI_RAM_BYTES},
            "steps": [s.as_dict(whole.us) for s in self.steps],
        }


def profile(
    model: Model | str | os.PathLike[str] | bytes, *, kpu_mhz: float = KPU_HZ / 1e6, cpu_mhz: float = CPU_HZ / 1e6
) -> Profile:
    """Estimate what a kmodel takes on the chip at these clocks.

    ``model``: a loaded or compiled model, a path, or the bytes of a file (as ``load`` takes them, with its errors).
    ``InputError`` E443 when a clock is not one that the chip can have. docs/estimate.md says how good the numbers are.
    """
    _check_clock("KPU", kpu_mhz)
    _check_clock("CPU", cpu_mhz)
    if not isinstance(model, Model):
        model = load(model)
    steps = [_input(o, model.version, cpu_mhz) for o in model.inputs if o.memory is not Memory.INPUT]
    summaries = summarize(model.program)
    only = copies(model.program)
    steps += [_step(s, about, model.version, kpu_mhz, cpu_mhz) for s, about in zip(model.steps, summaries, strict=True)]
    steps = [replace(s, role="copy") if s.index < 0 or s.index in only else s for s in steps]
    return Profile(model.version, kpu_mhz, cpu_mhz, model.inputs, model.outputs, model.memory, tuple(steps))


def csv_rows(p: Profile) -> Iterator[list[str]]:
    """Yield the header and a row for each step; shapes are written as ``3x224x224``."""
    yield list(COLUMNS)
    for step in p.steps:
        row = step.as_dict(p.total.us)
        yield ["x".join(map(str, v)) if isinstance(v, list) else "" if v is None else str(v) for v in row.values()]


def _check_clock(what: str, mhz: float) -> None:
    if not LEAST_MHZ <= mhz <= MOST_MHZ:  # false for NaN too
        raise InputError(
            "E443",
            f"the {what} cannot run at {mhz:g} MHz",
            where=f"--{what.lower()}-mhz",
            why=f"the chip's clocks lie between {LEAST_MHZ} and {MOST_MHZ} MHz",
            fix="400 is normal; up to 500 (KPU) and 600 (CPU) boards are usually stable",
        )


def _input(o: Operand, version: int, cpu_mhz: float) -> StepProfile:
    cost = input_cost(o, version, cpu_mhz=cpu_mhz)
    time, who = cost.time, cost.who
    in_ai = o.memory is Memory.AI
    main = o.elements * o.dtype.size
    return StepProfile(
        -1,
        who,
        "Input",
        "",
        o.shape,
        o.shape,
        "rows by DMA" if who == "DMA" else "copied row by row" if in_ai else "copied",
        0,
        round(time.us * cpu_mhz),
        time,
        None,
        "DMA" if in_ai else "CPU",
        cost.basis,
        main if in_ai else 2 * main,
        o.size if in_ai else 0,
        0,
        0 if in_ai else main,
        o.size if in_ai else 0,
    )


def _step(step: Step, about: StepSummary, version: int, kpu_mhz: float, cpu_mhz: float) -> StepProfile:
    cost = step_cost(step, version, kpu_mhz=kpu_mhz, cpu_mhz=cpu_mhz)
    weights = constant_bytes(step)
    ai = sum(o.size for o in (*step.reads, *step.writes) if o.memory is Memory.AI)
    main = sum(o.elements * o.dtype.size for o in (*step.reads, *step.writes) if o.memory is not Memory.AI)
    used = None
    if cost.work is not None and cost.layer is not None:
        used = cost.work.macs / (cost.time.us * kpu_mhz * cost.work.peak)
    return StepProfile(
        about.index,
        "KPU" if cost.work is not None else "CPU",
        about.op,
        about.name,
        about.input_shape,
        about.output_shape,
        about.detail,
        about.macs,
        round(cost.time.us * (kpu_mhz if cost.work is not None else cpu_mhz)),
        cost.time,
        used,
        cost.bottleneck,
        cost.basis,
        main + weights,
        ai,
        weights,
        about.main_bytes,
        about.ai_bytes,
        cost.layer,
        cost.work,
    )


def _ms(us: float) -> float:
    return round(us / 1000, 4)

"""What is in a file: its kind, which firmware loads it, and for a kmodel that can be read every step with its costs."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from openkpu.analyze.step_details import detail, macs
from openkpu.api import Model, load, read_file
from openkpu.errors import InputError, OpenKPUError
from openkpu.k210 import AI_LINE_BYTES, AI_RAM_BYTES, MAIN_RAM_BYTES
from openkpu.kmodel.detect import FileKind, Kind, detect
from openkpu.kmodel.program import DType, KpuConv, Memory, Operand, Program, Step
from openkpu.runtime.lifetimes import used_at, values
from openkpu.runtime.memory import constant_bytes

if TYPE_CHECKING:
    from openkpu.runtime.checks import Finding

_RECOGNISED: Final = (Kind.V1, Kind.V4_SWAPPED, Kind.ENCRYPTED, Kind.KFPKG, Kind.ONNX, Kind.TFLITE)
"""Kinds that are something useful although they cannot be loaded."""


@dataclass(frozen=True, slots=True)
class StepSummary:
    """One step. Shapes are (channels, height, width) or (n,)."""

    index: int
    op: str
    name: str
    on_kpu: bool
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    detail: str
    """Kernel, depthwise, pooling."""
    place: str
    """Where the result lies: ``AI first..last`` in lines of 64 bytes, ``main first..last`` in bytes."""
    weights_bytes: int
    macs: int
    ai_bytes: int
    """Bytes of AI RAM that live values occupy while the step runs, padding of rows included."""
    main_bytes: int
    """Bytes of the scratch buffer that live values occupy while the step runs."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The answer of ``inspect``. ``model`` and ``steps`` are there where the file could be read as a kmodel."""

    file: str
    file_bytes: int
    kind: FileKind
    model: Model | None
    steps: tuple[StepSummary, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        data: dict[str, Any] = {
            "file": self.file,
            "file_bytes": self.file_bytes,
            "kind": self.kind.kind.value,
            "version": self.kind.version,
            "title": self.kind.title,
            "advice": self.kind.advice,
            "firmware": [asdict(f) for f in self.kind.firmware],
            "model": None,
        }
        if self.model is None:
            return data
        memory = self.model.memory
        kpu = [s for s in self.steps if s.on_kpu]
        data["model"] = {
            "inputs": [operand(o) for o in self.model.inputs],
            "outputs": [operand(o) for o in self.model.outputs],
            "memory": {**asdict(memory), "main_ram_bytes": MAIN_RAM_BYTES, "ai_ram_bytes": AI_RAM_BYTES},
            "kpu_layers": len(kpu),
            "cpu_steps": len(self.steps) - len(kpu),
            "macs": sum(s.macs for s in self.steps),
            "kpu_macs": sum(s.macs for s in kpu),
            "notes": self.model.notes,
            "steps": [asdict(s) for s in self.steps],
        }
        return data


def operand(o: Operand) -> dict[str, Any]:
    """Describe an input or output as plain data; ``start`` is a byte address."""
    return {"dtype": o.dtype.value, "shape": list(o.shape), "memory": o.memory.value, "start": o.start}


def inspect(path: str | os.PathLike[str]) -> Inspection:
    """Look into any file.

    A kmodel that can be read is decoded; one of another version, an encrypted one, a kfpkg or a source model is only
    named. Anything else raises what ``load`` raises.
    """
    data = read_file(Path(path))
    kind = detect(data)
    known = kind.kind in _RECOGNISED or (kind.kind is Kind.OTHER_KMODEL and kind.version is not None)
    if known:
        return Inspection(str(path), len(data), kind, None, ())
    try:
        model = load(data)
    except OpenKPUError as error:
        raise type(error)(
            error.code, error.what, where=_located(path, error.where), why=error.why, fix=error.fix
        ) from error
    return Inspection(str(path), len(data), kind, model, summarize(model.program))


def _located(path: str | os.PathLike[str], where: str) -> str:
    return str(path) if where in ("", "bytes in memory") else f"{path}, {where}"


def checked(found: Inspection) -> list[Finding]:
    """Run the model once on noise in the checking mode; return the memory mistakes and overflows that it makes.

    ``InputError`` E430 when the file is not a kmodel that can run.
    """
    if found.model is None:
        raise InputError(
            "E430",
            f"this file cannot be checked: {found.kind.title}",
            where=found.file,
            why="the checking mode runs kmodel V3, V4 and V5",
            fix=found.kind.advice,
        )
    rng = np.random.default_rng(0)
    noise = [
        rng.integers(0, 256, o.shape, np.uint8)
        if o.dtype is DType.U8
        else rng.standard_normal(o.shape).astype(np.float32)
        for o in found.model.inputs
    ]
    found.model.run(*noise, check=True)
    return found.model.findings


def summarize(program: Program) -> tuple[StepSummary, ...]:
    """Describe each step."""
    found, n = values(program), len(program.steps)
    used = zip(used_at(found, Memory.AI, n), used_at(found, Memory.MAIN, n), strict=True)
    return tuple(_summary(i, s, ai, main) for i, (s, (ai, main)) in enumerate(zip(program.steps, used, strict=True)))


def _summary(index: int, step: Step, ai_bytes: int, main_bytes: int) -> StepSummary:
    result = step.writes[-1] if isinstance(step, KpuConv) else step.writes[0]
    inputs = step.reads
    shape = inputs[0].shape if len(inputs) == 1 else (sum(o.elements for o in inputs),)
    if len(inputs) > 1 and all(o.shape == inputs[0].shape for o in inputs):
        shape = inputs[0].shape
    return StepSummary(
        index,
        type(step).__name__,
        step.name,
        isinstance(step, KpuConv),
        shape,
        result.shape,
        detail(step),
        _place(result),
        constant_bytes(step),
        macs(step),
        ai_bytes,
        main_bytes,
    )


def _place(o: Operand) -> str:
    if o.memory is Memory.AI:
        return f"AI {o.start // AI_LINE_BYTES}..{-(-o.stop // AI_LINE_BYTES) - 1}"
    return f"{o.memory.value} {o.start}..{o.stop - 1}"

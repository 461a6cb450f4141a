"""What the test compares: the outputs of the whole model, and with kmodel V3 the result of every layer a board shows.

``kpu.set_layers(task, n)`` ends a V3 model after n layers and lets the script read what the last of them made. A KPU
layer whose result normally stays in AI RAM then also writes it to main RAM, to the address in its body.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.board.model_file import ModelFile
from openkpu.errors import InputError
from openkpu.kmodel.program import Concat, DType, KpuConv, Memory, Operand, Program, Step
from openkpu.kmodel.v3_layers import layer_name
from openkpu.maixpy.kpu.codes import SET_LAYERS
from openkpu.runtime.session import Session

TOLERANCE: Final = 2.0**-14
"""Floats may differ by this part of the layer's largest value: the chip fuses multiply and add, and its exp differs."""
ROUNDED_TOLERANCE: Final = 2.0**-6
"""The same for floats that were computed from bytes that were rounded from floats: two steps of 8 bits."""
TAIL: Final = 8
"""The KPU writes whole groups of 8 bytes."""
MAX_OUTPUTS: Final = 16


class How(IntEnum):
    """How a result is compared."""

    BYTES = 0
    """Every byte is equal."""
    FLOATS = 1
    """Float32, within the tolerance."""
    ROUNDED = 2
    """Bytes that were computed from floats: they may differ by up to 2, where a float was rounded the other way."""


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One comparison. ``layers`` is the argument of set_layers, 0 for the whole model with output ``output``."""

    layers: int
    output: int
    how: How
    name: str
    shape: tuple[int, int, int]
    """(c, h, w), to name a place; (n, 1, 1) for a vector."""
    expected: bytes
    rounded: bool = False
    """Whether floats were rounded to bytes on the way to it."""

    @property
    def tolerance(self) -> float:
        """The largest difference of floats that counts as equal."""
        if self.how is not How.FLOATS:
            return 0.0
        part = ROUNDED_TOLERANCE if self.rounded else TOLERANCE
        values = np.abs(np.frombuffer(self.expected, "<f4"))
        finite = values[np.isfinite(values)]
        return float(np.float32(max(1e-6, part * float(finite.max(initial=0.0)))))


@dataclass(frozen=True, slots=True)
class Missing:
    """A layer that the test does not compare."""

    layer: int
    name: str
    why: str

    def __str__(self) -> str:
        return f"layer {self.layer} ({self.name}): {self.why}"


def run(program: Program, file: ModelFile, array: NDArray[Any]) -> tuple[list[Check], list[Missing]]:
    """Run the model on the simulator; return the comparisons (whole model first, then layers) and what has none.

    E473 when MaixPy cannot show the outputs.
    """
    results: list[NDArray[Any]] = []
    outputs = Session(program).run(array, trace=lambda i, step, result: results.append(result))
    exactness = _exactness(program)
    checks = []
    for i, (operand, values) in enumerate(zip(program.outputs, outputs, strict=True)):
        rounded = _worst(exactness[-1], operand) is _Exactness.ROUNDED
        checks.append(Check(0, i, _how(values, rounded), f"output {i}", _shape(values), _bytes(values), rounded))
    if program.version == 4:
        for check in checks:
            v4_shape(check)
    if len(checks) > MAX_OUTPUTS:
        raise _unreadable(f"the model has {len(checks)} outputs; MaixPy shows {MAX_OUTPUTS}")
    if program.version != 3:
        return checks, []
    missing = []
    for i, (step, result, (number, _)) in enumerate(zip(program.steps, results, file.layers, strict=True)):
        name = _title(step, number, result)
        if number not in SET_LAYERS:
            missing.append(Missing(i, name, "set_layers cannot end a model after this type of layer"))
            continue
        if isinstance(step, KpuConv) and step.layer.registers.dma_total_byte != result.size:
            missing.append(Missing(i, name, "its registers do not tell the chip how many bytes to write to main RAM"))
            continue
        rounded = _worst(exactness[i], _result_of(step)) is _Exactness.ROUNDED
        checks.append(Check(i + 1, 0, _how(result, rounded), name, _shape(result), _bytes(result), rounded))
    return checks, missing


def main_bytes_for(check: Check, program: Program, file: ModelFile) -> int:
    """Bytes of scratch buffer that the model needs so that this layer's result can be read."""
    if check.layers == 0:
        return program.main_bytes
    step = program.steps[check.layers - 1]
    if not isinstance(step, KpuConv) or step.main_output is not None:
        return program.main_bytes
    start = file.conv_outputs[check.layers - 1] or 0
    return -(-(start + len(check.expected)) // TAIL) * TAIL


def v4_shape(check: Check) -> tuple[int, int, int]:
    """(w, h, ch) for set_outputs, whose product must be a quarter of the bytes; E473 when there is none."""
    quarter, rest = divmod(len(check.expected), 4)
    c, h, w = check.shape
    if check.how is How.FLOATS and max(c, h, w) < 1 << 16:
        return w, h, c
    if not rest and quarter:
        for rows in range(1, 1 << 16):
            if quarter % rows == 0 and quarter // rows < 1 << 16:
                return quarter // rows, rows, 1
    raise _unreadable(f"{check.name} has {len(check.expected)} bytes; kpu.set_outputs takes only multiples of 4")


def _unreadable(why: str) -> InputError:
    return InputError(
        "E473",
        "MaixPy cannot show the outputs of this model",
        where="kpu.set_outputs",
        why=why,
        fix="Let the model end in floats (a dequantised output), or compile it to kmodel V3.",
    )


def _how(values: NDArray[Any], rounded: bool) -> How:
    if values.dtype == np.float32:
        return How.FLOATS
    return How.ROUNDED if rounded else How.BYTES


def _bytes(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _shape(values: NDArray[Any]) -> tuple[int, int, int]:
    if values.ndim == 3:
        c, h, w = values.shape
        return c, h, w
    return values.size, 1, 1


def _title(step: Step, number: int, result: NDArray[Any]) -> str:
    kernel = ""
    if isinstance(step, KpuConv):
        kernel = " 3x3" if step.layer.registers.kernel_type else " 1x1"
    return f"{layer_name(number)}{kernel} {'x'.join(map(str, result.shape))}"


def _result_of(step: Step) -> Operand:
    return step.output if isinstance(step, KpuConv) else step.writes[0]


class _Exactness(IntEnum):
    """What a board's last bits may do to a value."""

    EXACT = 0
    FLOAT = 1
    """A float operation made it: its last bits may differ."""
    ROUNDED = 2
    """Such a float was rounded to a byte on the way: it may have gone to the neighbour."""


_Areas = list[tuple[Operand, _Exactness]]


def _worst(areas: _Areas, *operands: Operand) -> _Exactness:
    return max(
        (e for o in operands for a, e in areas if a.memory is o.memory and a.start < o.stop and o.start < a.stop),
        default=_Exactness.EXACT,
    )


def _exactness(program: Program) -> list[_Areas]:
    """Return, for the time after each step, the areas of the memories that are not exact."""
    now: _Areas = []
    out = []
    for step in program.steps:
        made = _worst(now, *step.reads)
        if not isinstance(step, Concat):  # it moves bytes, whatever they are
            floats = any(o.dtype is DType.F32 and o.memory is not Memory.CONST for o in (*step.reads, *step.writes))
            made = max(made, _Exactness.FLOAT if floats else _Exactness.EXACT)
            if made and any(o.dtype is DType.U8 for o in step.writes):
                made = _Exactness.ROUNDED
        for o in step.writes:
            now = [(a, e) for a, e in now if not (a.memory is o.memory and o.start <= a.start and a.stop <= o.stop)]
        if made:
            now = [*now, *((o, made) for o in step.writes)]
        out.append(now)
    return out

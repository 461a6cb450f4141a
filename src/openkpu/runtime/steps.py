"""Which function runs which step, for each kmodel version."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final

from numpy.typing import NDArray

from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Memory, Operand
from openkpu.runtime.memories import Memories, get

_NATIVE: Final = {3: "openkpu.runtime.v3_native", 5: "openkpu.runtime.v5_native"}
"""Modules with the steps of a version that have native kernels."""

StepFunction = Callable[[Memories, Any], None]


@cache
def table(version: int) -> Mapping[type[p.Step], StepFunction]:
    """Return step type -> function of a kmodel version's runtime; empty for a version without one."""
    if version == 3:
        from openkpu.runtime.v3_steps import STEPS

        return STEPS
    if version == 4:
        from openkpu.runtime.v4_steps import STEPS as V4_STEPS

        return V4_STEPS
    if version == 5:
        from openkpu.runtime.v5_steps import STEPS as V5_STEPS

        return V5_STEPS
    return {}


def runnable(step: p.Step, version: int) -> bool:
    """Whether the simulator has this step in this version."""
    return isinstance(step, p.KpuConv) or type(step) in table(version)


def run_cpu(m: Memories, step: p.Step, version: int) -> None:
    """Run one CPU step on the memories."""
    table(version)[type(step)](m, step)


def bind(m: Memories, step: p.Step, version: int) -> list[Any]:
    """Return what runs a CPU step on these memories in turn: native operators, or a function of no arguments."""
    if version in _NATIVE:
        module = importlib.import_module(_NATIVE[version])
        if (operators := module.operators(m, step)) is not None:
            found: list[Any] = operators
            return found
    return [partial(run_cpu, m, step, version)]


def result(m: Memories, step: p.Step) -> NDArray[Any]:
    """A copy of what the step produced: a KPU layer's feature map, else its (first) output, typed.

    Of KpuAddPadding it is the (c,) bytes written, the other 15 pixels of each map being stale.
    """
    if isinstance(step, p.KpuAddPadding):
        padded: NDArray[Any] = get(m, step.output)[:, 0, 0].copy()
        return padded
    operand = step.output if isinstance(step, p.KpuConv) else step.writes[0]
    if isinstance(step, p.Concat) and not step.quantized and operand.size % 4 == 0:
        operand = Operand(Memory.MAIN, operand.start, DType.F32, (operand.size // 4,))
    return get(m, operand).copy()

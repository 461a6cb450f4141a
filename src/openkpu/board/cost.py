"""What a program costs on the chip, step by step, in microseconds at the default clocks."""

from __future__ import annotations

from typing import Final

from openkpu.estimate import devices
from openkpu.estimate.bar import Estimate, total
from openkpu.estimate.steps import input_cost, step_cost
from openkpu.k210 import CPU_HZ, KPU_HZ
from openkpu.kmodel.program import Program

_KPU_MHZ: Final = KPU_HZ / 1e6
_CPU_MHZ: Final = CPU_HZ / 1e6
REGION_EXP_US: Final = 1.1
"""An exponential in ``run_yolo2``. Fitted to one figure: boards take 24 ms for it with the face model (1500 boxes of 6
exponentials; neucrack.com/p/313), of which the network takes 13.9 by the estimate of its layers."""


def program_us(program: Program) -> list[float]:
    """Return the time of every step; the way of the inputs into the chip is counted to the first."""
    times = [step_cost(s, program.version, kpu_mhz=_KPU_MHZ, cpu_mhz=_CPU_MHZ).time.us for s in program.steps]
    if times:
        times[0] += sum(input_cost(o, program.version, cpu_mhz=_CPU_MHZ).time.us for o in program.inputs)
    return times


def region_us(boxes: int, classes: int) -> float:
    """Return the time of the YOLOv2 region layer: sigmoid of x, y and objectness, exp of the sizes, softmax."""
    return boxes * (5 + classes) * REGION_EXP_US


def stream_us(file_bytes: int, times: list[float], *, dual: bool, spi_hz: int) -> float:
    """Return what reading the file from flash adds to a run whose steps take ``times``; ``dual``: with two buffers."""
    forward = total([Estimate(t, t, t) for t in times])
    mhz = max(spi_hz, 1) / 1e6
    return devices.flash_stream(file_bytes, forward, spi_mhz=mhz, dual=dual).us - forward.us

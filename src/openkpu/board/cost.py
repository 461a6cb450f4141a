"""What a program costs on the chip, step by step, in microseconds at the default clocks."""

from __future__ import annotations

from openkpu.estimate import price
from openkpu.kmodel.program import (
    AveragePool,
    FullyConnected,
    KpuConv,
    KpuUpload,
    Memory,
    Operand,
    Pool2D,
    Program,
    Quantize,
    Step,
)


def step_us(step: Step) -> float:
    """Return the estimated time of one step."""
    if isinstance(step, KpuConv):
        c, h, w = step.layer.input_shape
        oc, oh, ow = step.layer.output_shape
        r = step.layer.registers
        us = price.kpu_layer_us(
            c,
            h,
            w,
            oc,
            kernel=3 if r.kernel_type else 1,
            depthwise=bool(r.depth_wise_layer),
            out_pixels=oh * ow,
            weight_bytes=step.layer.weights.itemsize,
        )
        return us + (0 if step.main_output is None else step.main_output.elements * price.DOWNLOAD_NS / 1000)
    if isinstance(step, FullyConnected):
        return price.cpu_fully_connected_us(step.weights.shape[1], step.weights.shape[0])
    elements = sum(o.elements for o in step.writes)
    if isinstance(step, KpuUpload):
        return elements * price.UPLOAD_NS / 1000
    if isinstance(step, Quantize):
        return elements * price.QUANTIZE_NS / 1000
    if isinstance(step, AveragePool | Pool2D):
        return elements * step.kernel[0] * step.kernel[1] * price.POOL_TAP_NS / 1000
    return elements * price.DEQUANTIZE_NS / 1000


def program_us(program: Program) -> list[float]:
    """Return the time of every step, the upload of an input picture counted to the first."""
    times = [step_us(s) for s in program.steps]
    if times:
        times[0] += sum(upload_us(o) for o in program.inputs)
    return times


def upload_us(operand: Operand) -> float:
    """Return the time to bring an input to AI RAM: by DMA for free where rows are multiples of 64, else by the CPU."""
    if operand.memory is not Memory.AI or operand.shape[-1] % 64 == 0:
        return 0.0
    return operand.elements * price.UPLOAD_NS / 1000

"""The cost of every kind of step: a table from step type to what it does, in units of the runtime's rates.

A new step type is one line in ``_PARTS``: a function that yields (rate, units) pairs. KPU layers are priced by ``kpu``.
A type that is not in the table gets a guess with a wide bar, so that a profile never fails for want of a price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from openkpu.estimate.bar import NOTHING, Estimate, total
from openkpu.estimate.cpu import RUNTIMES, Rate, Runtime
from openkpu.estimate.kpu import LayerTime, Work, layer_time
from openkpu.k210 import AI_LINE_BYTES, CPU_HZ, KPU_HZ
from openkpu.kmodel import operators as ops
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import operators_v5 as v5
from openkpu.kmodel import program as v3
from openkpu.kmodel.nnil import instructions
from openkpu.kmodel.program import KpuConv, Memory, Operand, Program, Step

Part = tuple[Rate, float]
"""A rate and how many of its units."""

GUESS: Final = Rate(300, 4.0, "inferred", "nothing is known about this operator; typical of the others")


@dataclass(frozen=True, slots=True)
class StepCost:
    """The cost of one step. ``layer`` and ``work`` only for KPU layers."""

    time: Estimate
    bottleneck: str
    """compute, fill, output, weights, overhead, DMA (bytes between the RAMs) or CPU."""
    basis: str
    """How well it is known: fitted (the KPU), measured, derived or inferred."""
    layer: LayerTime | None = None
    work: Work | None = None
    download: Estimate = NOTHING
    """The part of a KPU layer that brings its result to main RAM."""


def step_cost(step: Step, version: int, *, kpu_mhz: float, cpu_mhz: float) -> StepCost:
    """Price a step of a kmodel of this version at these clocks (MHz)."""
    runtime = RUNTIMES[version]
    if isinstance(step, KpuConv):
        return _kpu(step, runtime, version, kpu_mhz, cpu_mhz)
    parts = list(_parts(step)(step, runtime))
    times = [rate.time(units, cpu_mhz) for rate, units in parts]
    largest = max(range(len(parts)), key=lambda i: times[i].us)
    time = total([*times, runtime.step.time(1, cpu_mhz)])
    moves = isinstance(step, v3.KpuUpload | v3.KpuDownload | v3.KpuAddPadding)
    return StepCost(time, "DMA" if moves else "CPU", parts[largest][0].basis)


@dataclass(frozen=True, slots=True)
class InputCost:
    """What it costs to bring an input to its place, and who does it: ``DMA`` or ``CPU``."""

    time: Estimate
    who: str
    basis: str


def input_cost(target: Operand, version: int, *, cpu_mhz: float) -> InputCost:
    """Price bringing the caller's input to where the program takes it; V5 takes it where it is."""
    runtime = RUNTIMES[version]
    size = target.elements * target.dtype.size
    if target.memory is Memory.INPUT:
        return InputCost(NOTHING, "CPU", "measured")
    rate, who = runtime.copy, "CPU"
    if target.memory is Memory.AI:
        lines = target.shape[-1] % AI_LINE_BYTES == 0
        rate, who = (runtime.input_dma, "DMA") if lines else (upload_rate(runtime, target.shape[-1]), "CPU")
    return InputCost(rate.time(size, cpu_mhz), who, rate.basis)


def program_time(program: Program, *, kpu_mhz: float = KPU_HZ / 1e6, cpu_mhz: float = CPU_HZ / 1e6) -> Estimate:
    """Price a forward pass: the inputs' way into the chip and every step."""
    inputs = [input_cost(o, program.version, cpu_mhz=cpu_mhz).time for o in program.inputs]
    steps = [step_cost(s, program.version, kpu_mhz=kpu_mhz, cpu_mhz=cpu_mhz).time for s in program.steps]
    return total([*inputs, *steps])


def upload_rate(runtime: Runtime, width: int) -> Rate:
    """The rate of an upload step: by lines or words where rows allow it."""
    if width % AI_LINE_BYTES == 0:
        return runtime.upload_lines
    return runtime.upload_words if width % 8 == 0 else runtime.upload_bytes


def _kpu(step: KpuConv, runtime: Runtime, version: int, kpu_mhz: float, cpu_mhz: float) -> StepCost:
    work = Work.of(step.layer, step.batches)
    layer = layer_time(work, kpu_mhz=kpu_mhz, cpu_mhz=cpu_mhz, interpreted=version > 3)
    if step.main_output is None:
        return StepCost(layer.time, layer.bottleneck, "fitted", layer, work)
    download = runtime.download.time(step.main_output.elements, cpu_mhz)
    slower = download.us > layer.time.us
    return StepCost(
        layer.time + download,
        "DMA" if slower else layer.bottleneck,
        runtime.download.basis if slower else "fitted",
        layer,
        work,
        download,
    )


def _parts(step: Step) -> Callable[[Any, Runtime], Iterator[Part]]:
    """Find the entry of a step's type, or of the type it comes from."""
    for kind in type(step).__mro__:
        if kind in _PARTS:
            return _PARTS[kind]
    return _guess


def known(kind: type[Step]) -> bool:
    """Whether steps of this type have a price of their own."""
    return kind is KpuConv or any(base in _PARTS for base in kind.__mro__)


def _guess(s: Step, r: Runtime) -> Iterator[Part]:
    yield GUESS, max([o.elements for o in (*s.reads, *s.writes)], default=0)


def _each(rate: str) -> Callable[[Any, Runtime], Iterator[Part]]:
    """So much for each element of the output."""

    def parts(s: Any, r: Runtime) -> Iterator[Part]:
        yield getattr(r, rate), s.output.elements

    return parts


def _each_byte(rate: str) -> Callable[[Any, Runtime], Iterator[Part]]:
    """So much for each byte of the output."""

    def parts(s: Any, r: Runtime) -> Iterator[Part]:
        yield getattr(r, rate), s.output.elements * s.output.dtype.size

    return parts


def _concat(s: v3.Concat, r: Runtime) -> Iterator[Part]:
    yield r.copy, s.output.elements * s.output.dtype.size
    yield r.piece, len(s.inputs)


def _upload(s: v3.KpuUpload, r: Runtime) -> Iterator[Part]:
    yield upload_rate(r, s.output.shape[-1]), s.output.elements


def _add_padding(s: v3.KpuAddPadding, r: Runtime) -> Iterator[Part]:
    yield r.pad, s.input.elements


def _pool(s: v3.Pool2D | ops.ReduceWindow | v4.NhwcReduceWindow, r: Runtime) -> Iterator[Part]:
    yield r.pool_output, s.output.elements
    yield r.pool_tap, s.output.elements * prod(s.kernel)


def _average(s: Any, r: Runtime) -> Iterator[Part]:
    yield r.average, s.input.elements


def _normalize(s: v3.L2Normalization, r: Runtime) -> Iterator[Part]:
    yield r.average, s.input.elements
    yield r.binary, s.output.elements


def _binary(s: ops.Binary, r: Runtime) -> Iterator[Part]:
    same = s.input_a.shape == s.input_b.shape
    yield (r.exp if s.op is ops.BinaryOp.POW else r.binary if same else r.broadcast), s.output.elements


def _quantized_binary(s: v4.QuantizedBinary, r: Runtime) -> Iterator[Part]:
    same = s.input_a.shape == s.input_b.shape
    yield (r.quantized_add if same else r.quantized_broadcast), s.output.elements


_SIMPLE: Final = (
    ops.UnaryOp.ABS,
    ops.UnaryOp.CEIL,
    ops.UnaryOp.FLOOR,
    ops.UnaryOp.NEG,
    ops.UnaryOp.SQUARE,
    ops.UnaryOp.ROUND,
    ops.UnaryOp.SIGN,
    ops.UnaryOp.SQRT,
    ops.UnaryOp.RSQRT,
)


def _unary(s: ops.Unary, r: Runtime) -> Iterator[Part]:
    yield (r.unary if s.op in _SIMPLE else r.exp), s.output.elements


def _resize(s: ops.ResizeImage, r: Runtime) -> Iterator[Part]:
    yield (r.resize if s.mode is ops.ResizeMode.NEAREST else r.bilinear), s.output.elements


def _fully_connected(s: v3.FullyConnected, r: Runtime) -> Iterator[Part]:
    yield r.mac, s.weights.size


def _conv(s: ops.Conv2D | v5.Conv2DFromMemory, r: Runtime) -> Iterator[Part]:
    yield r.mac, s.output.elements * prod(s.weights.shape[1:])


def _conv_transpose(s: ops.Conv2DTranspose, r: Runtime) -> Iterator[Part]:
    yield r.mac, s.input.elements * s.weights.size / max(1, s.weights.shape[1] * s.groups)


def _matmul(s: ops.MatMul | v4.QuantizedMatMul | v5.MatMulFromMemory, r: Runtime) -> Iterator[Part]:
    yield r.mac, s.input_a.elements * s.input_b.shape[-1]


def _nnil(s: v4.NnilUnary, r: Runtime) -> Iterator[Part]:
    slow = {f.value for f in ops.UnaryOp if f not in _SIMPLE}
    for name, _ in instructions(s.code):  # each is a turn of the interpreter's loop
        yield (r.exp if name in slow else r.unary), s.output.elements


def _sort(s: v5.TopK, r: Runtime) -> Iterator[Part]:
    yield r.average, s.input.elements * max(1, s.k).bit_length()  # a heap of the best k


def _layer_norm(s: v5.LayerNorm, r: Runtime) -> Iterator[Part]:
    yield r.average, 2 * s.input.elements
    yield r.binary, 4 * s.input.elements


_PARTS: Final[dict[type[Step], Callable[[Any, Runtime], Iterator[Part]]]] = {
    # AI RAM and back
    v3.KpuUpload: _upload,
    v3.KpuDownload: _each("download"),
    v3.KpuAddPadding: _add_padding,
    v3.KpuRemovePadding: _each("slice"),
    # V3
    v3.Add: _each("binary"),
    v3.QuantizedAdd: _each("quantized_add"),
    v3.GlobalAveragePool: _average,
    v3.Pool2D: _pool,
    v3.Quantize: _each("quantize"),
    v3.Dequantize: _each("dequantize"),
    v3.ChannelwiseDequantize: _each("dequantize"),
    v3.Requantize: _each("table"),
    v3.L2Normalization: _normalize,
    v3.Softmax: _each("exp"),
    v3.Logistic: _each("exp"),
    v3.Concat: _concat,
    v3.FullyConnected: _fully_connected,
    v3.Flatten: _each("transpose"),
    v3.ResizeNearest: _each("resize"),
    # V4 and V5
    ops.Binary: _binary,
    ops.Unary: _unary,
    ops.QuantizeTensor: _each("quantize"),
    ops.DequantizeTensor: _each("dequantize"),
    ops.ConcatTensors: _each_byte("copy"),
    ops.CopyTensor: _each_byte("copy"),
    ops.TransposeTensor: _each("transpose"),
    ops.PadTensor: _each("pad"),
    ops.SliceTensor: _each("slice"),
    ops.Reduce: _average,
    ops.ReduceWindow: _pool,
    ops.ResizeImage: _resize,
    ops.SoftmaxTensor: _each("exp"),
    ops.Conv2D: _conv,
    ops.Conv2DTranspose: _conv_transpose,
    ops.MatMul: _matmul,
    # V4 only
    v4.QuantizedBinary: _quantized_binary,
    v4.QuantizedConv2D: _conv,
    v4.QuantizedMatMul: _matmul,
    v4.TableLookup: _each("table"),
    v4.NnilUnary: _nnil,
    v4.NhwcConv2D: _conv,
    v4.NhwcQuantizedConv2D: _conv,
    v4.NhwcReduceWindow: _pool,
    # V5 only
    v5.AffineQuantize: _each("quantize"),
    v5.AffineDequantize: _each("dequantize"),
    v5.Convert: _each("dequantize"),
    v5.Compare: _each("binary"),
    v5.Ternary: _each("binary"),
    v5.Sigmoid: _each("exp"),
    v5.Conv2DFromMemory: _conv,
    v5.MatMulFromMemory: _matmul,
    v5.BatchToSpace: _each("transpose"),
    v5.SpaceToBatch: _each("transpose"),
    v5.Broadcast: _each("pad"),
    v5.Gather: _each("slice"),
    v5.GatherNd: _each("slice"),
    v5.GatherElements: _each("slice"),
    v5.OneHot: _each("pad"),
    v5.Trilu: _each("pad"),
    v5.CumSum: _average,
    v5.HardMax: _average,
    v5.ReduceArg: _average,
    v5.ReduceProd: _average,
    v5.TopK: _sort,
    v5.LayerNorm: _layer_norm,
}
"""What each step type does."""

"""What ``compile`` returns: the model and the report of how it was made."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from openkpu.api import Model
from openkpu.codegen.build import Assembled
from openkpu.estimate.bar import Estimate
from openkpu.estimate.roles import split
from openkpu.graph.ir import Graph, Tensor
from openkpu.k210 import MAIN_RAM_BYTES
from openkpu.kmodel.firmware import Firmware
from openkpu.kmodel.program import KpuConv
from openkpu.kmodel.streaming import Streaming, streaming
from openkpu.lower.context import Decision
from openkpu.quantize.params import QParams
from openkpu.quantize.result import Quantized
from openkpu.quantize.search import Searched


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One KPU layer of the result: its numbers and how well its activation table fits."""

    name: str
    tensor: str
    conv_bits: int
    bn_bits: int
    segments: int
    table_worst: float
    table_mean: float


@dataclass(frozen=True, slots=True)
class Report:
    """What the compiler did. Bytes, seconds, microseconds, dB."""

    model: str
    target: str
    decisions: tuple[Decision, ...]
    layers: tuple[LayerReport, ...]
    way: str
    calibration_pictures: int
    calibration_snr_db: float | None
    ai_peak: int
    ai_bound: int
    main_peak: int
    main_bound: int
    file_bytes: int
    kpu_layers: int
    kpu_segments: int
    time: Estimate
    """A forward pass on the chip at 400 MHz."""
    cpu_copies: Estimate
    """Of ``time``, the CPU's work for the input's way in and the outputs' form; see ``estimate.roles``."""
    cpu_operators: Estimate
    """Of ``time``, the CPU's work for operators."""
    seconds: float
    warnings: tuple[str, ...]
    searched: Searched | None = None
    """What ``target_snr`` had tried."""
    weight_bits: int = 8
    weight_gain_db: float | None = None
    """What 16-bit weights gain in SNR."""
    firmware: str | None = None
    firmware_bytes_left: int | None = None
    """Main RAM that remains on the firmware with the model loaded, camera and display on; negative: it does not fit."""
    streaming: Streaming | None = None
    """V3: what ``kpu.load_flash`` needs, which keeps the file in flash."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return asdict(self)


@dataclass(slots=True)
class Compiled:
    """A compiled model: ``model`` runs it, ``save`` writes it, ``report`` tells about it.

    ``lowered`` and ``tensors`` (one for each step, None for helper steps) tie the steps to the float graph, for
    comparing layer by layer.
    """

    model: Model
    report: Report
    lowered: Graph
    tensors: tuple[Tensor | None, ...]
    quantized: Quantized
    input_params: QParams | None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the kmodel (to a temporary name, then rename)."""
        self.model.save(path)


def result_warnings(assembled: Assembled, model: Model, data: bytes, board: Firmware | None) -> list[str]:
    """Say what may go wrong on the chip, or with the numbers."""
    found = []
    size = len(data)
    buffers = model.program.input_bytes + model.program.output_bytes
    scratch = assembled.plan.main.peak + buffers
    way_round = _way_round(model, data)
    if size + scratch > MAIN_RAM_BYTES:
        found.append(
            f"file ({size} bytes) and scratch ({scratch} bytes) together exceed the chip's {MAIN_RAM_BYTES} bytes of "
            f"main RAM: {way_round}"
        )
    elif board is not None and board.need(size, scratch) > board.free:
        found.append(
            f"file and scratch need {board.need(size, scratch)} bytes of main RAM, and {board.title} leaves "
            f"{board.free} with camera and display on: {way_round}, or use a smaller firmware build"
        )
    if board is not None and size > board.limit:
        found.append(f"{board.title} refuses files over {board.limit} bytes; this has {size}")
    return found


def _way_round(model: Model, data: bytes) -> str:
    """Say what helps a file that main RAM cannot hold beside its scratch buffer."""
    if model.version != 3:
        return "compile it for V3, which MaixPy can stream from flash (kpu.load_flash)"
    needs = streaming(data)
    if needs.problem:
        return f"and it cannot be streamed from flash either: {needs.problem}"
    one, two = (f"{needs.ram_bytes(dual=dual) / 1024:.0f} KiB" for dual in (False, True))
    return (
        "stream it from flash: pack it as FILE@0x300000:be (kpu pack), then "
        "kpu.load_flash(0x300000, 1, 0xC000, 60000000) "
        f"needs {two} of main RAM for the model, with 0 for the second argument {one}"
    )


def make_report(
    graph: Graph,
    lowered: Graph,
    decisions: list[Decision],
    quantized: Quantized,
    assembled: Assembled,
    model: Model,
    data: bytes,
    pictures: int,
    seconds: float,
    warnings: list[str],
    board: Firmware | None,
) -> Report:
    """Put the report together; ``data`` is the file."""
    layers = []
    for n in lowered.nodes:
        if n.op == "KpuConv":
            q = quantized.layers[id(n)]
            layers.append(
                LayerReport(
                    n.source[-1] if n.source else n.output.name,
                    n.output.name,
                    q.conv_bits,
                    q.bn_bits,
                    q.fit.segments,
                    q.fit.worst,
                    q.fit.mean,
                )
            )
    on_kpu = [isinstance(s, KpuConv) for s in model.steps]
    segments = sum(1 for i, k in enumerate(on_kpu) if k and (i == 0 or not on_kpu[i - 1]))
    size = len(data)
    cpu = split(model.program)
    return Report(
        graph.name,
        f"v{model.version}",
        tuple(decisions),
        tuple(layers),
        str(quantized.way),
        pictures,
        quantized.snr_db if pictures else None,
        assembled.plan.ai.peak,
        assembled.plan.ai.bound,
        assembled.plan.main.peak,
        assembled.plan.main.bound,
        size,
        sum(on_kpu),
        segments,
        cpu.whole,
        cpu.copies,
        cpu.operators,
        seconds,
        tuple(warnings),
        searched=quantized.searched,
        weight_bits=quantized.weight_bits,
        weight_gain_db=quantized.gain_db,
        firmware=board.name if board is not None else None,
        streaming=streaming(data) if model.version == 3 else None,
        firmware_bytes_left=None if board is None else board.free - board.need(size, assembled.plan.main.peak),
    )

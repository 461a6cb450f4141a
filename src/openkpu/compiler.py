"""``compile`` and ``check``: from a model file to a kmodel, and what would become of each layer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.api import Model
from openkpu.codegen.build import Assembled, assemble
from openkpu.errors import InputError, UnsupportedError
from openkpu.estimate.bar import Estimate
from openkpu.estimate.roles import split
from openkpu.extras import require
from openkpu.graph.ir import Graph, Tensor, text
from openkpu.k210 import DOCUMENTED_HEIGHT, DOCUMENTED_WIDTH, MAIN_RAM_BYTES
from openkpu.kmodel.firmware import Firmware, choose_version
from openkpu.kmodel.firmware import find as find_firmware
from openkpu.kmodel.program import KpuConv
from openkpu.kmodel.streaming import Streaming, most_layers, streaming
from openkpu.lower import target as targets
from openkpu.lower.context import Decision
from openkpu.lower.lower import lower
from openkpu.lower.streamed import lower_to_fit
from openkpu.passes import canonicalize
from openkpu.quantize import given, ranges, search
from openkpu.quantize.params import QParams
from openkpu.quantize.quantizer import Quantizer
from openkpu.quantize.result import Quantized
from openkpu.quantize.search import Searched

Progress = Callable[[str, int, int], None]


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


def compile(
    path: str | os.PathLike[str] | bytes,
    *,
    calibration: Any = None,
    target: str | None = None,
    firmware: str | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    input_range: tuple[float, float] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
    range_method: str = "auto",
    weight_bits: int = 8,
    target_snr: float | None = None,
    samples: int | None = None,
    threads: int = 1,
    dump: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Compiled:
    """Compile a model (ONNX, TensorFlow Lite, Caffe) to a kmodel.

    ``target``: "v3" (the default; every firmware loads it), "v4" or "v5". ``firmware``: maixpy, maixpy-min, maixpy-v4,
    canmv or sdk; it chooses the version that this firmware runs best, and the report says whether the model fits.

    ``calibration``: a folder of pictures, an .npy/.npz file, or uint8 arrays (C, H, W); see ``float.data``. A model
    that came quantised (TensorFlow Lite, int8 or uint8) needs none: without it, its own numbers are taken as they are,
    and its input is the picture's bytes unless ``mean``, ``std`` or ``input_range`` say otherwise.
    ``mean``, ``std``: the model's input is ``(pixel - mean) / std``, pixels 0..255, one number or one a channel.
    ``input_range``: the other way to say it: pixels 0..255 become low..high (default 0..1).
    ``input_shapes`` fixes open dimensions, ``outputs`` ends the model at named tensors. ``range_method``: "auto" (the
    best output SNR on the calibration pictures) or one of minmax, percentile, mse, kl. ``weight_bits``: 8, or 16 for a
    V3 file whose KPU weights all have 16 bits: twice the size, rounding of the weights out of the way.
    ``target_snr``: go on trying (``quantize.search``) until the output SNR on held-back calibration pictures is this
    many dB or nothing helps; the report has every trial. ``dump``: folder for the graph
    as text after every pass. Two runs give the same bytes. Errors are ``OpenKPUError`` with the layer's name.
    """
    begin = time.perf_counter()
    target, board = choose(target, firmware)
    version = targets.target(target)
    if range_method not in ("auto", *ranges.METHODS):
        raise InputError(
            "E411", f"unknown range method '{range_method}'", fix=f"use auto or one of {', '.join(ranges.METHODS)}"
        )
    _check_weights(weight_bits, version.version, calibration is not None)
    from openkpu.float.data import load_samples

    where = Path(dump) if dump is not None else None
    graph, lowered, decisions = front_end(
        path,
        target=target,
        input_shapes=input_shapes,
        outputs=outputs,
        dump=where,
        anew=calibration is not None,
        ram=MAIN_RAM_BYTES if board is None else board.free,
    )
    source = lowered.inputs[0]
    params = pixels(graph, mean, std, input_range)
    pictures = 0
    if calibration is None:
        if not graph.scales:
            raise _no_pictures()
        if target_snr is not None:
            search.check(target_snr, 0)
        quantized = given.quantize(lowered, graph, params)
    else:
        loaded = load_samples(calibration, source.shape[1:], limit=samples)
        pictures = len(loaded)
        quantizer = Quantizer(lowered, params, weight_bits=weight_bits, threads=threads, progress=progress)
        # NumPy's matrix products add in another order with another number of threads; with one, the cores do not matter
        with require("threadpoolctl", "onnx").threadpool_limits(limits=1, user_api="blas"):
            calibrated = quantizer.calibrate([s.array for s in loaded])
            quantized = quantizer.choose(calibrated, range_method, target_snr)
    assembled = assemble(lowered, quantized, version.version)
    model = Model(assembled.program)
    if where is not None:
        (where / "99_lowered.txt").write_text(text(lowered))
    seconds = time.perf_counter() - begin
    warnings = [*_input_warnings(source.shape, mean, std), *_result_warnings(assembled, model, board)]
    if weight_bits == 16:
        warnings.append("no shipped model is known that uses 16-bit weights: try the file on a board early")
    if 0 < pictures < 8:
        warnings.append(f"only {pictures} calibration picture(s): about 32 typical ones give reliable ranges")
    report = _report(graph, lowered, decisions, quantized, assembled, model, pictures, seconds, warnings, board)
    return Compiled(model, report, lowered, assembled.tensors, quantized, params)


def check(
    path: str | os.PathLike[str] | bytes,
    *,
    target: str | None = None,
    firmware: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
) -> list[Decision]:
    """Return where each layer of a float model would run, and why. Needs no calibration pictures.

    ``target``, ``firmware`` as in ``compile``. A layer that the kmodel version cannot express is in the list too, with
    ``where`` "not possible".
    """
    version = targets.target(choose(target, firmware)[0])
    graph = _import(path, input_shapes, outputs)
    canonicalize.run(graph, version=version.version)
    return lower(graph, target=version, refused=[])[1]


def choose(target: str | None, firmware: str | None) -> tuple[str, Firmware | None]:
    """Return the target to compile for, and the firmware if one is named."""
    if firmware is None:
        return target or "v3", None
    board = find_firmware(firmware)
    if target is not None:
        targets.target(target)
    return f"v{choose_version(board, target)}", board


def front_end(
    path: str | os.PathLike[str] | bytes,
    *,
    target: str = "v3",
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
    dump: Path | None = None,
    anew: bool = False,
    ram: int = MAIN_RAM_BYTES,
) -> tuple[Graph, Graph, list[Decision]]:
    """Import, canonicalize and lower a model; returns the float graph, the lowered graph and the decisions.

    ``anew``: a model that came quantised is to be quantised again, so of its own ranges only the input's counts.
    ``ram``: bytes of main RAM that file and scratch may take before the file has to be streamed from flash.
    """
    graph = _import(path, input_shapes, outputs)
    if anew:
        first = graph.inputs[0].name
        graph.scales = {first: graph.scales[first]} if first in graph.scales else {}
    canonicalize.run(graph, dump, version=targets.target(target).version)
    lowered, decisions = lower_to_fit(graph, targets.target(target), most_layers(len(graph.outputs)), ram)
    return graph, lowered, decisions


def _import(
    path: str | os.PathLike[str] | bytes,
    input_shapes: Mapping[str, Sequence[int]] | None,
    outputs: Sequence[str] | None,
) -> Graph:
    from openkpu.importers.load import load

    graph = load(path, input_shapes=input_shapes, outputs=outputs)
    if len(graph.inputs) != 1:
        names = ", ".join(f"'{t.name}'" for t in graph.inputs)
        raise UnsupportedError(
            "E202",
            f"a model with {len(graph.inputs)} inputs",
            where=names,
            why="OpenKPU compiles models with one input",
            fix="make the other inputs constants, or split the model",
        )
    return graph


def _check_weights(bits: int, version: int, pictures: bool) -> None:
    if bits not in (8, 16):
        why, fix = "the KPU's weights have 8 or 16 bits", "use 8, the normal case, or 16"
    elif bits == 16 and version != 3:
        why, fix = f"kmodel V{version} has 8-bit weights only; V3 has both", "compile for v3"
    elif bits == 16 and not pictures:
        why, fix = (
            "a model that came quantised keeps its own 8-bit weights",
            "give calibration pictures (--calibration)",
        )
    else:
        return
    raise InputError("E414", f"{bits}-bit weights", where="--weights", why=why, fix=fix)


def _no_pictures() -> InputError:
    return InputError(
        "E410",
        "no calibration pictures",
        why="the model is a float one, and quantisation needs to see typical inputs",
        fix="give a folder with about 32 pictures like those the camera will see (--calibration)",
    )


def pixels(
    graph: Graph,
    mean: Sequence[float] | float | None,
    std: Sequence[float] | float | None,
    input_range: tuple[float, float] | None,
) -> QParams | None:
    """Return what pixels mean to a model: as the caller says, else as its file says, else 0..1; None: no picture."""
    shape = graph.inputs[0].shape
    if len(shape) != 4:
        return None
    own = given.input_params(graph) if mean is None and std is None and input_range is None else None
    return own or input_params(shape, mean, std, input_range)


def input_params(
    shape: tuple[int, ...],
    mean: Sequence[float] | float | None,
    std: Sequence[float] | float | None,
    input_range: tuple[float, float] | None,
) -> QParams:
    """Return what a pixel value of the uint8 picture means to the float model.

    The pixels go into the KPU as they are; mean and std become part of the first layer's numbers. Pixels outside the
    picture stand for the model's 0.0, that is the mean: the nearest whole number for all channels.
    """
    channels = shape[1]
    if input_range is not None:
        if mean is not None or std is not None:
            raise InputError(
                "E412",
                "input_range together with mean or std",
                why="both say how pixels are scaled",
                fix="give one of them",
            )
        low, high = input_range
        if not (np.isfinite([low, high]).all() and high > low):
            raise InputError(
                "E412", f"input_range {low}..{high}", why="it must be finite and rising", fix="e.g. (0, 1)"
            )
        std = 255.0 / (high - low)
        mean = -low * std
    elif mean is None and std is None:
        mean, std = 0.0, 255.0
    m = _per_channel("mean", 0.0 if mean is None else mean, channels)
    s = _per_channel("std", 1.0 if std is None else std, channels)
    if (s <= 0).any():
        raise InputError("E412", f"std {s.tolist()}", why="every std must be above 0", fix="check the preprocessing")
    zero_point = int(np.clip(np.rint(m.mean()), 0, 255))
    scale = 1 / s
    return QParams(scale, zero_point, scale * (zero_point - m))


def _per_channel(name: str, value: Sequence[float] | float, channels: int) -> NDArray[np.float64]:
    a = np.atleast_1d(np.asarray(value, np.float64))
    if a.size not in (1, channels) or not np.isfinite(a).all():
        raise InputError(
            "E412",
            f"{name} {a.tolist()}",
            why=f"the model has {channels} input channel(s)",
            fix=f"give one finite number, or {channels}",
        )
    return np.broadcast_to(a, channels).astype(np.float64)


def _input_warnings(
    shape: tuple[int, ...], mean: Sequence[float] | float | None, std: Sequence[float] | float | None
) -> list[str]:
    """Say what looks wrong about the input."""
    found = []
    if mean is not None and std is not None:
        m, s = np.atleast_1d(np.asarray(mean, np.float64)), np.atleast_1d(np.asarray(std, np.float64))
        if (s < 1).all() and (m > 0).all() and (m < 1).all():
            found.append(
                f"mean {m.tolist()} and std {s.tolist()} are taken in pixel values 0..255; for a model that divides "
                f"pixels by 255 first, give {np.round(m * 255, 3).tolist()} and {np.round(s * 255, 3).tolist()}"
            )
    if len(shape) == 4 and (shape[3] > DOCUMENTED_WIDTH or shape[2] > DOCUMENTED_HEIGHT):
        found.append(
            f"the picture of {shape[3]}x{shape[2]} is larger than the {DOCUMENTED_WIDTH}x{DOCUMENTED_HEIGHT} that the "
            "chip's documents promise; the vendor's compilers use the KPU for it all the same"
        )
    return found


def _result_warnings(assembled: Assembled, model: Model, board: Firmware | None) -> list[str]:
    """Say what may go wrong on the chip, or with the numbers."""
    found = []
    size = len(model.to_bytes())
    buffers = model.program.input_bytes + model.program.output_bytes
    scratch = assembled.plan.main.peak + buffers
    way_round = _way_round(model)
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


def _way_round(model: Model) -> str:
    """Say what helps a file that main RAM cannot hold beside its scratch buffer."""
    if model.version != 3:
        return "compile it for V3, which MaixPy can stream from flash (kpu.load_flash)"
    needs = streaming(model.to_bytes())
    if needs.problem:
        return f"and it cannot be streamed from flash either: {needs.problem}"
    one, two = (f"{needs.ram_bytes(dual=dual) / 1024:.0f} KiB" for dual in (False, True))
    return (
        "stream it from flash: pack it as FILE@0x300000:be (kpu pack), then "
        "kpu.load_flash(0x300000, 1, 0xC000, 60000000) "
        f"needs {two} of main RAM for the model, with 0 for the second argument {one}"
    )


def _report(
    graph: Graph,
    lowered: Graph,
    decisions: list[Decision],
    quantized: Quantized,
    assembled: Assembled,
    model: Model,
    pictures: int,
    seconds: float,
    warnings: list[str],
    board: Firmware | None,
) -> Report:
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
    size = len(model.to_bytes())
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
        streaming=streaming(model.to_bytes()) if model.version == 3 else None,
        firmware_bytes_left=None if board is None else board.free - board.need(size, assembled.plan.main.peak),
    )

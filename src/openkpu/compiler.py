"""``compile`` and ``check``: from a model file to a kmodel, and what would become of each layer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openkpu.api import Model
from openkpu.codegen.build import assemble
from openkpu.compiled import Compiled, Report, make_report, result_warnings
from openkpu.errors import InputError, UnsupportedError
from openkpu.extras import require
from openkpu.graph.ir import Graph, text
from openkpu.k210 import MAIN_RAM_BYTES
from openkpu.kmodel.firmware import Firmware, choose_version
from openkpu.kmodel.firmware import find as find_firmware
from openkpu.kmodel.streaming import most_layers
from openkpu.lower import target as targets
from openkpu.lower.context import Decision
from openkpu.lower.lower import lower
from openkpu.lower.streamed import lower_to_fit
from openkpu.passes import canonicalize
from openkpu.quantize import given, ranges, search
from openkpu.quantize.pixels import input_params, input_warnings, pixels
from openkpu.quantize.quantizer import Quantizer

__all__ = ["Compiled", "Report", "check", "choose", "compile", "front_end", "input_params", "pixels"]

Progress = Callable[[str, int, int], None]


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
    data = model.to_bytes()
    seconds = time.perf_counter() - begin
    warnings = [*input_warnings(source.shape, mean, std), *result_warnings(assembled, model, data, board)]
    if weight_bits == 16:
        warnings.append("no shipped model is known that uses 16-bit weights: try the file on a board early")
    if 0 < pictures < 8:
        warnings.append(f"only {pictures} calibration picture(s): about 32 typical ones give reliable ranges")
    report = make_report(
        graph, lowered, decisions, quantized, assembled, model, data, pictures, seconds, warnings, board
    )
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

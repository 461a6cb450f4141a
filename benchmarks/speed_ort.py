"""Simulation speed: OpenKPU's bit-exact KPU against onnxruntime's static int8, same network, one thread each, same run.

    python benchmarks/speed_ort.py [--pictures DIR] [--rounds N] [--width W] [--json FILE] [--only-ort]

The network is MobileNetV1 (width 0.75, 224x224) from `models.py`. onnxruntime gets it in static int8: QDQ format, uint8
asymmetric activations, int8 symmetric per-channel weights, min-max over the same 32 calibration pictures.
The two are timed alternately, one inference each a round, pinned to one core, so that a busy machine slows both alike.
onnxruntime receives a normalised float picture (normalisation is not timed), OpenKPU the uint8 picture.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import onnxruntime as ort
from jobs import Array, one_thread
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.table import Table

WARM_UP = 5


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds the calibration pictures to onnxruntime one by one."""

    def __init__(self, pictures: Array) -> None:
        self._feeds: Iterator[dict[str, Array]] = iter([{"input": models.normalised(p[None])} for p in pictures])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def onnxruntime_int8(model: Path, calibration: Array, folder: Path) -> Path:
    """Quantise ``model``; returns the int8 file."""
    prepared, quantised = folder / "prepared.onnx", folder / "int8.onnx"
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(quantised),
        Reader(calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    return quantised


def interleaved(rounds: int, **tasks: Callable[[], Any]) -> dict[str, list[float]]:
    """Milliseconds of every round of every task; the tasks take turns."""
    for task in tasks.values():
        for _ in range(WARM_UP):
            task()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            begin = time.perf_counter()
            task()
            times[name].append((time.perf_counter() - begin) * 1e3)
    return times


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder of calibration pictures (default: seeded noise)")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--width", type=float, default=0.75)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only-ort", action="store_true", help="measure onnxruntime alone")
    args = parser.parse_args()
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    console = Console()

    count = models.CALIBRATION_PICTURES + 1
    pictures = models.folder_pictures(args.pictures, count) if args.pictures else models.noise_pictures(count)
    calibration, picture = pictures[:-1], pictures[-1]
    tasks: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "mobilenet.onnx"
        onnx.save(models.mobilenet_v1(args.width, calibration), path)
        quantised = onnxruntime_int8(path, calibration, folder)
        session = ort.InferenceSession(str(quantised), one_thread(), providers=["CPUExecutionProvider"])
        feed = {"input": models.normalised(picture[None])}
        tasks["onnxruntime int8"] = lambda: session.run(None, feed)
        if not args.only_ort:
            import openkpu

            mean = std = [models.MEAN] * 3
            model = openkpu.compile(path, calibration=calibration, target="v3", mean=mean, std=std).model
            tasks["OpenKPU"] = lambda: model.run(picture, threads=1)
        exact = ort.InferenceSession(str(path), one_thread(), providers=["CPUExecutionProvider"])
        reference = exact.run(None, feed)[0].ravel()
        outputs = {name: np.ravel(task()[0]) for name, task in tasks.items()}
        times = interleaved(args.rounds, **tasks)

    medians = {name: statistics.median(values) for name, values in times.items()}
    table = Table(title=f"MobileNetV1-{args.width:g} 224x224, one thread, core {core}, {args.rounds} rounds in turn")
    for column in ("", "median ms", "best ms", "cosine to float"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in times.items():
        cosine = float(reference @ outputs[name] / (np.linalg.norm(reference) * np.linalg.norm(outputs[name])))
        table.add_row(name, f"{medians[name]:.2f}", f"{min(values):.2f}", f"{cosine:.4f}")
    console.print(table)
    record: dict[str, Any] = {
        "processor": processor(),
        "onnxruntime": ort.__version__,
        "width": args.width,
        "rounds": args.rounds,
        "median_ms": medians,
        "best_ms": {name: min(values) for name, values in times.items()},
    }
    if "OpenKPU" in medians:
        record["ratio"] = medians["onnxruntime int8"] / medians["OpenKPU"]
        console.print(f"OpenKPU runs at {record['ratio']:.2f} x the speed of onnxruntime int8 (medians).")
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

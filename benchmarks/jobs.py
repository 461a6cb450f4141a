"""What the comparisons measure: a model, its pictures and normalisation; the float reference; the accuracy figures."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Job:
    """One model to compile and judge.

    ``data`` is an .npz with ``calib`` and ``eval``: uint8 (N, ...) in the layout of the model's input, disjoint.
    ``mean`` and ``std`` have one number a channel, in picture units: the model expects ``(picture - mean) / std``.
    ``model`` is an ONNX or TFLite file, or a caffemodel with its prototxt of the same name beside it. ``data`` may hold
    the float model's outputs for ``eval`` too (``ref0``, ``ref1``, ...), as another program computed them.
    """

    name: str
    model: Path
    data: Path
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: str = "NCHW"

    def pictures(self, key: str) -> Array:
        """The ``calib`` or ``eval`` pictures, uint8, in the model's layout."""
        with np.load(self.data) as data:
            return np.ascontiguousarray(data[key])

    def nchw(self, pictures: Array) -> Array:
        """The same pictures as (N, C, H, W)."""
        return pictures if self.layout == "NCHW" else np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the worker in the other interpreter."""
        return {
            "name": self.name,
            "model": str(self.model.resolve()),
            "data": str(self.data.resolve()),
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": self.layout,
        }


def load_jobs(path: Path, work: Path) -> list[Job]:
    """Jobs from a JSON list of `Job` fields, or from the INVENTORY.tsv of a folder of vendor files."""
    if path.suffix == ".json":
        return [
            Job(
                e["name"], Path(e["model"]), Path(e["data"]), tuple(e["mean"]), tuple(e["std"]), e.get("layout", "NCHW")
            )
            for e in json.loads(path.read_text())
        ]
    with path.open(newline="") as file:
        return [_inventory_job(row, path.parent.parent, work) for row in csv.DictReader(file, delimiter="\t")]


def _inventory_job(row: dict[str, str], folder: Path, work: Path) -> Job:
    """Take the pictures from where the vendor folder keeps them.

    `inputs/SET_HxWxC.npz` calibrates; the pictures in `v5/NAME.npz` evaluate or, where that file does not exist, the
    last quarter of the calibration set, which then does not calibrate.
    """
    model = folder / "src" / row["path"]
    _, channels, height, width = (int(n) for n in row["input(NCHW)"].split("x"))
    layout = _layout(model, channels)
    with np.load(folder / "inputs" / f"{row['eval_set']}_{height}x{width}x{channels}.npz") as data:
        calibration = data["calib"]
    if layout == "NCHW":
        calibration = calibration.transpose(0, 3, 1, 2)
    golden = folder / "v5" / f"{row['name']}.npz"
    references: dict[str, Array] = {}
    if golden.exists():
        with np.load(golden) as data:
            evaluation = data["inputs"]
            references = {key: data[key] for key in data.files if key.startswith("ref")}
    else:
        cut = len(calibration) * 3 // 4
        calibration, evaluation = calibration[:cut], calibration[cut:]
    work.mkdir(parents=True, exist_ok=True)
    target = work / f"{row['name']}.npz"
    pictures = {"calib": np.ascontiguousarray(calibration), "eval": np.ascontiguousarray(evaluation)}
    np.savez(target, **pictures, **(references if model.suffix != ".onnx" else {}))
    mean, std = (tuple(float(v) for v in json.loads(row[key])) for key in ("mean(0-255)", "std(0-255)"))
    return Job(row["name"], model, target, mean, std, layout)


def _layout(model: Path, channels: int) -> str:
    """NCHW or NHWC: the order of the model's input."""
    if model.suffix != ".onnx":
        return "NHWC" if model.suffix == ".tflite" else "NCHW"
    shape = onnx.load(model).graph.input[0].type.tensor_type.shape.dim
    return "NCHW" if shape[1].dim_value == channels else "NHWC"


def reference(job: Job) -> dict[str, Array]:
    """Float outputs for the ``eval`` pictures: name -> float32 (N, ...).

    By onnxruntime for ONNX; for the others those that ``data`` holds, else what OpenKPU's own import computes (its
    tests compare that with other programs).
    """
    with np.load(job.data) as data:
        stored = {key: data[key] for key in sorted(data.files) if key.startswith("ref")}
    if stored:
        return stored
    pictures = job.pictures("eval").astype(np.float32)
    channel = (1, -1, 1, 1) if job.layout == "NCHW" else (1, 1, 1, -1)
    normal = ((pictures - np.reshape(job.mean, channel)) / np.reshape(job.std, channel)).astype(np.float32)
    if job.model.suffix != ".onnx":
        return _imported(job, normal)
    session = ort.InferenceSession(str(job.model), one_thread(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    feed = session.get_inputs()[0].name
    runs = [session.run(names, {feed: x[None]}) for x in normal]
    return {name: np.concatenate([run[i] for run in runs]) for i, name in enumerate(names)}


def _imported(job: Job, normal: Array) -> dict[str, Array]:
    from openkpu.float.session import FloatSession
    from openkpu.importers.load import load

    graph = load(job.model)
    source, session = graph.inputs[0], FloatSession(graph)
    runs = [session.run({source.name: x[None]}) for x in job.nchw(normal)]
    outputs = {t.name: np.concatenate([run[t.name] for run in runs]) for t in graph.outputs}
    if job.model.suffix != ".tflite":
        return outputs
    return {name: np.moveaxis(o, 1, -1) if o.ndim == 4 else o for name, o in outputs.items()}


def one_thread() -> ort.SessionOptions:
    """Session options: one thread, warnings off."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


@dataclass(frozen=True)
class Score:
    """How near one output is to the float reference."""

    snr_db: float
    cos_mean: float
    cos_min: float


def score(expected: Array, got: Array) -> Score:
    """Compare (N, ...) outputs of equal element count: SNR over all pictures together, cosine a picture."""
    ref = expected.reshape(len(expected), -1).astype(np.float64)
    if got.size != ref.size:
        raise ValueError(f"an output has {got.size} elements where the reference has {ref.size}")
    out = got.reshape(ref.shape).astype(np.float64)
    noise = float(np.square(ref - out).sum())
    signal = float(np.square(ref).sum())
    snr = float("inf") if noise == 0 else 10 * float(np.log10(signal / noise)) if signal > 0 else float("-inf")
    norms = np.linalg.norm(ref, axis=1) * np.linalg.norm(out, axis=1)
    cosines = np.divide((ref * out).sum(axis=1), norms, out=np.zeros(len(ref)), where=norms > 0)
    return Score(snr, float(cosines.mean()), float(cosines.min()))

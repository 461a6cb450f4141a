"""What one compiler made of a model; nncase 1.9's side is run in its own interpreter and kept for the next time."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jobs import Array, Job

WORKER = Path(__file__).with_name("nncase_worker.py")
NNCASE_TIMEOUT_S = 900


@dataclass
class Result:
    """What one compiler made of a model. ``segments`` are uninterrupted stretches of work on the KPU."""

    outputs: list[Array] = field(default_factory=list, repr=False)
    target: str | None = None
    compile_s: float | None = None
    compile_cpu_s: float | None = None
    scratch_bytes: int | None = None
    segments: int | None = None
    kmodel_bytes: int | None = None
    chip_ms: float | None = None
    """Estimated by ``openkpu.profile``, for both compilers."""
    cpu_share: float | None = None
    operators_share: float | None = None
    """The part of ``cpu_share`` that is operators, not the input's way in or the outputs' form."""
    error: str = ""


def run_nncase(job: Job, python: str, out: Path) -> Result:
    """Compile and simulate with nncase in its own process, unless ``out`` holds what it made of the same job before."""
    out.mkdir(parents=True, exist_ok=True)
    out = out.resolve()
    key, stamp = _fingerprint(job), out / "key.txt"
    if not stamp.exists() or stamp.read_text() != key:
        for name in ("result.json", "outputs.npz", "model.kmodel", "log.txt", "error.txt", "key.txt"):
            (out / name).unlink(missing_ok=True)
        request = out / "job.json"
        request.write_text(json.dumps({**job.as_dict(), "out": str(out)}))
        command = [str(Path(python).absolute()), str(WORKER.resolve()), str(request)]
        try:
            # in its own folder, because nncase leaves kmodel_info.txt in the current one
            done = subprocess.run(command, capture_output=True, text=True, timeout=NNCASE_TIMEOUT_S, cwd=out)
            error = "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"
        except subprocess.TimeoutExpired:
            error = f"no end after {NNCASE_TIMEOUT_S} s"
        (out / "error.txt").write_text(error)
        stamp.write_text(key)
    return read_nncase(out)


def _fingerprint(job: Job) -> str:
    """What nncase's result depends on: the model, the pictures, how they are scaled, the worker."""
    digest = hashlib.sha256()
    for path in (job.model, job.model.with_suffix(".prototxt"), job.data, WORKER):
        digest.update(path.read_bytes() if path.exists() else b"none")
    digest.update(repr((job.mean, job.std, job.layout)).encode())
    return digest.hexdigest()


def read_nncase(out: Path) -> Result:
    """The result that a worker left in its directory."""
    path, error = out / "result.json", (out / "error.txt").read_text()
    if not path.exists():
        return Result(error=error)
    figures: dict[str, Any] = json.loads(path.read_text())
    result = Result(
        target="v5",
        compile_s=figures.get("compile_s"),
        compile_cpu_s=figures.get("compile_cpu_s"),
        scratch_bytes=figures.get("memory", {}).get("data"),
        kmodel_bytes=figures.get("kmodel_bytes"),
    )
    if (out / "model.kmodel").exists():
        _profile(result, (out / "model.kmodel").read_bytes())
    if figures["stage"] == "done":
        with np.load(out / "outputs.npz") as data:
            result.outputs = [data[f"out{i}"] for i in range(len(data.files))]
    else:
        result.compile_s = result.compile_cpu_s = None
        log = (out / "log.txt").read_text(errors="replace").strip().splitlines()
        last = log[-1] if log else "nothing printed"
        said = figures.get("error", f"{error} after stage {figures['stage']!r}: {last}")
        result.error = said.splitlines()[0][:200]
    return result


def _profile(result: Result, kmodel: bytes) -> None:
    """Fill in segments, time and CPU share; a file that OpenKPU cannot read says so in place of them."""
    import openkpu

    try:
        about = openkpu.profile(kmodel)
    except openkpu.OpenKPUError as error:
        result.error = f"not profiled: {error.code} {error.what}"
        return
    result.segments, result.chip_ms = about.segments, about.total.us / 1000
    result.cpu_share, result.operators_share = about.cpu_share, about.operators_share

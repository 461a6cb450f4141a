"""OpenKPU against nncase 1.9, model by model, in the same run: accuracy, compile time, scratch memory, KPU segments.

    export OPENKPU_NNCASE_PYTHON=.cache/nncase-venv/bin/python
    python benchmarks/compare_nncase.py JOBS [--only NAME ...] [--out PREFIX]

JOBS is `mobilenet` (the network that `models.py` makes, on seeded noise), a JSON list (fields of `jobs.Job`) or the
INVENTORY.tsv of a folder of vendor files. Both compilers get the
same calibration pictures and are judged on the same others, against the float model in onnxruntime. Both run on the
same core. A model for which a compiler fails keeps its row, with the error.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jobs import Array, Job, Score, load_jobs, reference, score
from models import CALIBRATION_PICTURES, mobilenet_job, noise_pictures
from rich.console import Console
from rich.progress import track
from rich.table import Table

WORKER = Path(__file__).with_name("nncase_worker.py")
NNCASE_TIMEOUT_S = 900


@dataclass
class Result:
    """What one compiler made of a model. ``segments`` are uninterrupted stretches of work on the KPU."""

    outputs: list[Array] = field(default_factory=list, repr=False)
    compile_s: float | None = None
    compile_cpu_s: float | None = None
    scratch_bytes: int | None = None
    segments: int | None = None
    kmodel_bytes: int | None = None
    error: str = ""


def run_nncase(job: Job, python: str, out: Path) -> Result:
    """Compile and simulate with nncase in its own process."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("result.json", "outputs.npz", "model.kmodel"):
        (out / name).unlink(missing_ok=True)
    out = out.resolve()
    request = out / "job.json"
    request.write_text(json.dumps({**job.as_dict(), "out": str(out)}))
    try:
        command = [str(Path(python).absolute()), str(WORKER.resolve()), str(request)]
        # in its own folder, because nncase leaves kmodel_info.txt in the current one
        done = subprocess.run(command, capture_output=True, text=True, timeout=NNCASE_TIMEOUT_S, cwd=out)
    except subprocess.TimeoutExpired:
        return Result(error=f"no end after {NNCASE_TIMEOUT_S} s")
    return read_nncase(out, done.returncode, done.stderr)


def read_nncase(out: Path, returncode: int, stderr: str = "") -> Result:
    """The result that a worker left in its directory."""
    path = out / "result.json"
    if not path.exists():
        return Result(error=f"exit code {returncode}: {stderr.strip()[-300:]}")
    figures: dict[str, Any] = json.loads(path.read_text())
    result = Result(
        compile_s=figures.get("compile_s"),
        compile_cpu_s=figures.get("compile_cpu_s"),
        scratch_bytes=figures.get("memory", {}).get("data"),
        kmodel_bytes=figures.get("kmodel_bytes"),
    )
    if (out / "model.kmodel").exists():
        result.segments = v5_segments((out / "model.kmodel").read_bytes())
    if figures["stage"] == "done":
        with np.load(out / "outputs.npz") as data:
            result.outputs = [data[f"out{i}"] for i in range(len(data.files))]
    else:
        result.compile_s = None
        log = (out / "log.txt").read_text(errors="replace").strip().splitlines()
        last = log[-1] if log else "nothing printed"
        result.error = figures.get("error", f"exit code {returncode} after stage {figures['stage']!r}: {last}")
    return result


def v5_segments(kmodel: bytes) -> int:
    """KPU excursions of a V5 file: the functions of its `k210` modules, one for each stretch on the KPU."""
    header = struct.Struct("<16s8I")
    _, _, offset, _, _, modules = struct.unpack_from("<6I", kmodel)
    count = 0
    for _ in range(modules):
        kind, _, _, size, _, _, _, functions, _ = header.unpack_from(kmodel, offset)
        count += functions if kind.rstrip(b"\0") == b"k210" else 0
        offset += size
    return count


def compile_openkpu(job: Job, kmodel: Path | None = None) -> Result:
    """Compile and simulate with OpenKPU in this process."""
    import openkpu

    calibration = job.nchw(job.pictures("calib"))
    wall, cpu = time.perf_counter(), time.process_time()
    compiled = openkpu.compile(job.onnx, calibration=calibration, target="v3", mean=list(job.mean), std=list(job.std))
    result = Result(compile_s=time.perf_counter() - wall, compile_cpu_s=time.process_time() - cpu)
    model = compiled.model
    runs = [model.run(picture) for picture in job.nchw(job.pictures("eval"))]
    result.outputs = [np.stack([run[i] for run in runs]) for i in range(len(runs[0]))]
    result.scratch_bytes = model.program.main_bytes
    result.segments = v3_segments(model.steps)
    result.kmodel_bytes = len(model.to_bytes())
    if kmodel is not None:
        compiled.save(kmodel)
    return result


def v3_segments(steps: tuple[object, ...]) -> int:
    """Runs of consecutive KPU layers; an upload from main RAM begins one."""
    from openkpu.kmodel.program import KpuConv

    on_kpu = [isinstance(step, KpuConv) for step in steps]
    return sum(now and not before for before, now in zip([False, *on_kpu], on_kpu, strict=False))


def try_openkpu(job: Job) -> Result:
    """`compile_openkpu`; a model that fails becomes a row with its error, the others go on."""
    try:
        return compile_openkpu(job)
    except Exception as error:
        return Result(error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


@dataclass
class Row:
    """One output of one model."""

    model: str
    output: str
    nncase: Score | None
    openkpu: Score | None
    nncase_run: Result
    openkpu_run: Result

    @property
    def gain_db(self) -> float | None:
        """Output SNR of OpenKPU minus that of nncase."""
        return self.openkpu.snr_db - self.nncase.snr_db if self.nncase and self.openkpu else None


def rows_of(job: Job, nncase: Result, ours: Result, expected: dict[str, Array]) -> list[Row]:
    """Score every output of both; outputs correspond by order."""

    def scores(result: Result) -> list[Score | None]:
        if not result.outputs:
            return [None] * len(expected)
        return [score(ref, out) for ref, out in zip(expected.values(), result.outputs, strict=True)]

    return [
        Row(job.name, name, theirs, mine, nncase, ours)
        for name, theirs, mine in zip(expected, scores(nncase), scores(ours), strict=True)
    ]


def number(value: float | None, pattern: str = ".1f") -> str:
    return "-" if value is None else format(value, pattern)


def table_of(rows: list[Row]) -> Table:
    """The table for the terminal."""
    table = Table(title="OpenKPU / nncase 1.9, same calibration pictures, same core")
    table.add_column("model")
    table.add_column("output", max_width=16, overflow="ellipsis")
    for title in ("SNR dB", "gain dB", "cos min", "compile s", "scratch KiB", "KPU segments"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("error", max_width=44)

    def pair(mine: float | None, theirs: float | None, pattern: str, scale: float = 1.0) -> str:
        shown = [number(v if v is None else v / scale, pattern) for v in (mine, theirs)]
        return " / ".join(shown)

    previous = None
    for row in rows:
        a, b, first = row.openkpu_run, row.nncase_run, row.model != previous
        mine, theirs = row.openkpu, row.nncase
        previous = row.model
        table.add_row(
            row.model if first else "",
            row.output,
            pair(mine.snr_db if mine else None, theirs.snr_db if theirs else None, ".1f"),
            number(row.gain_db, "+.1f"),
            pair(mine.cos_min if mine else None, theirs.cos_min if theirs else None, ".4f"),
            pair(a.compile_s, b.compile_s, ".2f") if first else "",
            pair(a.scratch_bytes, b.scratch_bytes, ".0f", 1024) if first else "",
            pair(a.segments, b.segments, ".0f") if first else "",
            " | ".join(f"{who}: {r.error}" for who, r in (("OpenKPU", a), ("nncase", b)) if r.error and first),
        )
    return table


def summary(rows: list[Row]) -> dict[str, float | int]:
    """Figures over all outputs that both produced."""
    gains = [row.gain_db for row in rows if row.gain_db is not None]
    times = {
        row.model: row.nncase_run.compile_s / row.openkpu_run.compile_s
        for row in rows
        if row.nncase_run.compile_s and row.openkpu_run.compile_s
    }
    out: dict[str, float | int] = {"outputs_compared": len(gains)}
    if gains:
        out |= {"gain_db_median": statistics.median(gains), "gain_db_worst": min(gains)}
        out["outputs_below"] = sum(gain < 0 for gain in gains)
    if times:
        out["compile_speedup_median"] = statistics.median(times.values())
        out["compile_speedup_worst"] = min(times.values())
    return out


def flat(row: Row) -> dict[str, Any]:
    """One row as plain values."""
    record: dict[str, Any] = {"model": row.model, "output": row.output, "gain_db": row.gain_db}
    for who, points, run in (("openkpu", row.openkpu, row.openkpu_run), ("nncase", row.nncase, row.nncase_run)):
        for key in ("snr_db", "cos_mean", "cos_min"):
            record[f"{who}_{key}"] = asdict(points)[key] if points else None
        for key in ("compile_s", "compile_cpu_s", "scratch_bytes", "segments", "kmodel_bytes", "error"):
            record[f"{who}_{key}"] = getattr(run, key)
    return record


def write(rows: list[Row], prefix: Path) -> None:
    """PREFIX.tsv and PREFIX.json."""
    records = [flat(row) for row in rows]
    prefix.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(records[0])]
    lines += ["\t".join("" if v is None else str(v).replace("\t", " ") for v in record.values()) for record in records]
    prefix.with_suffix(".tsv").write_text("\n".join(lines) + "\n")
    prefix.with_suffix(".json").write_text(json.dumps({"summary": summary(rows), "rows": records}, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", metavar="JOBS")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, metavar="PREFIX", help="write PREFIX.tsv and PREFIX.json")
    parser.add_argument("--work", type=Path, help="keep nncase's files here (default: a temporary folder)")
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 190)
    python = os.environ.get("OPENKPU_NNCASE_PYTHON", "")
    if not python:
        console.print("Set OPENKPU_NNCASE_PYTHON to a Python 3.10 that has nncase 1.9 (see benchmarks/README.md).")
        return 2
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children inherit it
    import openkpu

    if not hasattr(openkpu, "compile"):
        console.print("This OpenKPU has no compiler.")
        return 2
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        if args.jobs == "mobilenet":
            jobs = [mobilenet_job(work, noise_pictures(CALIBRATION_PICTURES + 8))]
        else:
            jobs = load_jobs(Path(args.jobs), work)
        jobs = [job for job in jobs if not args.only or job.name in args.only]
        if not jobs:
            console.print("No such model.")
            return 2
        for job in track(jobs, description="compiling", console=console, transient=True):
            nncase = run_nncase(job, python, work / job.name)
            rows += rows_of(job, nncase, try_openkpu(job), reference(job))
    console.print(table_of(rows))
    console.print(summary(rows))
    if args.out:
        write(rows, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""OpenKPU against nncase 1.9, model by model: accuracy, compile time, memory, time on the chip, work left to the CPU.

    export OPENKPU_NNCASE_PYTHON=.cache/nncase-venv/bin/python
    python benchmarks/compare_nncase.py JOBS [--only NAME ...] [--target v3|v4|v5] [--out PREFIX] [--work DIR]

JOBS is `mobilenet` (the network that `models.py` makes, on seeded noise), a JSON list (fields of `jobs.Job`) or the
INVENTORY.tsv of a folder of vendor files (ONNX, TFLite, Caffe). Both compilers get the same calibration pictures and
are judged on the same others, against the float model. Both run on the same core. A model for which a compiler fails
keeps its row, with the error. OpenKPU takes the first of V3, V4, V5 that can express the model, or ``--target``.
What nncase made is kept in DIR (default: build/nncase) and made anew only when the model or its pictures change.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jobs import Array, Job, Score, load_jobs, reference, score
from models import CALIBRATION_PICTURES, mobilenet_job, noise_pictures
from results import Result, run_nncase
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

TARGETS = ("v3", "v4", "v5")
CPU_SHARE_LIMIT = 0.1


def compile_openkpu(job: Job, target: str, options: dict[str, Any]) -> Result:
    """Compile and simulate with OpenKPU in this process."""
    import openkpu

    calibration = job.nchw(job.pictures("calib"))
    mean, std = list(job.mean), list(job.std)
    compiler = openkpu.compile  # imports it
    wall, cpu = time.perf_counter(), time.process_time()
    compiled = compiler(job.model, calibration=calibration, target=target, mean=mean, std=std, **options)
    result = Result(target=target, compile_s=time.perf_counter() - wall, compile_cpu_s=time.process_time() - cpu)
    model = compiled.model
    runs = [model.run(picture) for picture in job.nchw(job.pictures("eval"))]
    result.outputs = [np.stack([run[i] for run in runs]) for i in range(len(runs[0]))]
    if job.model.suffix == ".tflite":
        # a map leaves the KPU as (C, H, W); the source has the channels last
        maps = [len(t.shape) == 4 for t in compiled.lowered.outputs]
        shapes = [t.shape for t in compiled.lowered.outputs]
        result.outputs = [
            np.moveaxis(o.reshape(len(o), *shape[1:]), 1, -1) if is_map else o
            for o, shape, is_map in zip(result.outputs, shapes, maps, strict=True)
        ]
    about = openkpu.profile(model)
    result.scratch_bytes = model.program.main_bytes
    result.segments, result.chip_ms = about.segments, about.total.us / 1000
    result.cpu_share, result.operators_share = about.cpu_share, about.operators_share
    result.kmodel_bytes = len(model.to_bytes())
    return result


def try_openkpu(job: Job, targets: tuple[str, ...], options: dict[str, Any]) -> Result:
    """`compile_openkpu` for the first target that can express the model; a failure becomes a row with its error."""
    from openkpu.errors import MemoryLimitError, UnsupportedError

    failed = Result(error="no target")
    for target in targets:
        try:
            return compile_openkpu(job, target, options)
        except (MemoryLimitError, UnsupportedError) as error:
            failed = Result(target=target, error=f"{target}: {str(error).splitlines()[0]}")
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else ""
            return Result(target=target, error=f"{target}: {type(error).__name__}: {text}")
    return failed


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


def pair(mine: float | None, theirs: float | None, pattern: str, scale: float = 1.0) -> str:
    shown = [number(v if v is None else v / scale, pattern) for v in (mine, theirs)]
    return " / ".join(shown)


def table_of(rows: list[Row]) -> Table:
    """The table for the terminal; every pair is OpenKPU / nncase."""
    table = Table(title="OpenKPU / nncase 1.9, same calibration pictures, same core")
    table.add_column("model")
    table.add_column("to")
    table.add_column("output", max_width=12, overflow="ellipsis")
    titles = ("SNR dB", "gain dB", "compile CPU s", "scratch KiB", "segments", "chip ms", "CPU %", "of it ops %")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("error", max_width=40)
    previous = None
    for row in rows:
        a, b, first = row.openkpu_run, row.nncase_run, row.model != previous
        mine, theirs = row.openkpu, row.nncase
        previous = row.model
        figures = (
            pair(a.compile_cpu_s, b.compile_cpu_s, ".2f"),
            pair(a.scratch_bytes, b.scratch_bytes, ".0f", 1024),
            pair(a.segments, b.segments, ".0f"),
            pair(a.chip_ms, b.chip_ms, ".1f"),
            pair(a.cpu_share, b.cpu_share, ".0f", 0.01),
            pair(a.operators_share, b.operators_share, ".0f", 0.01),
        )
        table.add_row(
            row.model if first else "",
            (a.target or "-") if first else "",
            row.output,
            pair(mine.snr_db if mine else None, theirs.snr_db if theirs else None, ".1f"),
            number(row.gain_db, "+.1f"),
            *(figures if first else [""] * len(figures)),
            escape(" | ".join(f"{who}: {r.error}" for who, r in (("OpenKPU", a), ("nncase", b)) if r.error and first)),
        )
    return table


@dataclass(frozen=True)
class Criterion:
    """One thing to reach: ``value`` as measured, ``missed`` the models that miss it."""

    text: str
    value: str
    reached: bool
    missed: tuple[str, ...] = ()


def criteria(rows: list[Row]) -> list[Criterion]:
    """Judge the whole: SNR, scratch memory, segments, compile time, time on the chip, CPU share."""
    gains = {f"{row.model}/{row.output}": row.gain_db for row in rows if row.gain_db is not None}
    runs = {row.model: (row.openkpu_run, row.nncase_run) for row in rows}
    refused = [name for name, (mine, _) in runs.items() if not mine.outputs]
    found = [Criterion("every model compiles", f"{len(runs) - len(refused)} of {len(runs)}", not refused, (*refused,))]
    if gains:
        below = [f"{name} {gain:+.1f}" for name, gain in gains.items() if gain < 0]
        middle = statistics.median(gains.values())
        found.append(
            Criterion("SNR below nncase's on no output", f"{len(below)} of {len(gains)}", not below, (*below,))
        )
        found.append(Criterion("SNR gain, median, 4 dB or more", f"{middle:+.1f} dB", middle >= 4))

    def ratio(key: str, text: str, most: float, *, every: bool) -> None:
        pairs = {n: (getattr(a, key), getattr(b, key)) for n, (a, b) in runs.items()}
        ratios = {n: a / b for n, (a, b) in pairs.items() if a is not None and b}
        if ratios:
            over = [f"{n} {r:.2f}" for n, r in ratios.items() if r > most]
            middle = statistics.median(ratios.values())
            shown = f"median {middle:.2f}, worst {max(ratios.values()):.2f}"
            found.append(Criterion(text, shown, not over if every else middle <= most, (*over,)))

    ratio("scratch_bytes", "scratch a quarter or less, median", 0.25, every=False)
    ratio("segments", "KPU segments, none more", 1.0, every=True)
    ratio("compile_cpu_s", "compile time a third or less, median (CPU seconds)", 1 / 3, every=False)
    ratio("chip_ms", "estimated time on the chip, none longer", 1.0, every=True)
    shares = {n: a.operators_share for n, (a, _) in runs.items() if a.operators_share is not None}
    high = [f"{n} {s:.0%}" for n, s in shares.items() if s >= CPU_SHARE_LIMIT]
    if shares:
        shown = f"median {statistics.median(shares.values()):.0%}, worst {max(shares.values()):.0%}"
        found.append(Criterion("operators on the CPU under 10 % of the time", shown, not high, (*high,)))
    return found


def criteria_table(rows: list[Row]) -> Table:
    """The criteria for the terminal."""
    table = Table(title="What counts")
    for title in ("criterion", "measured", "", "missed by"):
        table.add_column(title)
    for c in criteria(rows):
        table.add_row(c.text, c.value, "yes" if c.reached else "no", ", ".join(c.missed))
    return table


def flat(row: Row) -> dict[str, Any]:
    """One row as plain values."""
    record: dict[str, Any] = {"model": row.model, "output": row.output, "gain_db": row.gain_db}
    for who, points, run in (("openkpu", row.openkpu, row.openkpu_run), ("nncase", row.nncase, row.nncase_run)):
        for key in ("snr_db", "cos_mean", "cos_min"):
            record[f"{who}_{key}"] = asdict(points)[key] if points else None
        for key, value in asdict(run).items():
            if key != "outputs":
                record[f"{who}_{key}"] = value
    return record


def write(rows: list[Row], prefix: Path) -> None:
    """PREFIX.tsv and PREFIX.json."""
    records = [flat(row) for row in rows]
    prefix.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(records[0])]
    lines += ["\t".join("" if v is None else str(v).replace("\t", " ") for v in record.values()) for record in records]
    prefix.with_suffix(".tsv").write_text("\n".join(lines) + "\n")
    whole = {"criteria": [asdict(c) for c in criteria(rows)], "rows": records}
    prefix.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", metavar="JOBS")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--target", choices=TARGETS, help="compile for this version only")
    parser.add_argument("--out", type=Path, metavar="PREFIX", help="write PREFIX.tsv and PREFIX.json")
    parser.add_argument("--work", type=Path, default=Path("build/nncase"), help="keeps nncase's results and pictures")
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 190)
    python = os.environ.get("OPENKPU_NNCASE_PYTHON", "")
    if not python:
        console.print("Set OPENKPU_NNCASE_PYTHON to a Python 3.10 that has nncase 1.9 (see benchmarks/README.md).")
        return 2
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children inherit it
    work: Path = args.work
    if args.jobs == "mobilenet":
        jobs = [mobilenet_job(work, noise_pictures(CALIBRATION_PICTURES + 8))]
    else:
        jobs = load_jobs(Path(args.jobs), work)
    jobs = [job for job in jobs if not args.only or job.name in args.only]
    if not jobs:
        console.print("No such model.")
        return 2
    rows: list[Row] = []
    targets = (args.target,) if args.target else TARGETS
    for job in track(jobs, description="compiling", console=console, transient=True):
        nncase = run_nncase(job, python, work / job.name)
        rows += rows_of(job, nncase, try_openkpu(job, targets, {}), reference(job))
        if args.out:
            write(rows, args.out)  # what was measured stays if the next model takes too long
    console.print(table_of(rows))
    console.print(criteria_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

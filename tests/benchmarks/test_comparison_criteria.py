"""The benchmark's verdicts, and how it keeps nncase's results."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The scripts import each other by plain names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import compare_nncase
    import results

    yield compare_nncase, results
    for name in ("compare_nncase", "results", "jobs", "models"):
        sys.modules.pop(name, None)


SHARE = "operators on the CPU under 10 % of the time"


def row(compare, results, name, mine, theirs, **changes):
    score = compare.Score
    ours = {"outputs": [np.zeros(1)], "compile_cpu_s": 1.0, "scratch_bytes": 10, "segments": 1, "operators_share": 0.05}
    run = results.Result(**(ours | {"chip_ms": 1.0} | changes))
    other = results.Result(compile_cpu_s=4.0, scratch_bytes=100, segments=2, chip_ms=10.0, operators_share=0.9)
    return compare.Row(name, "y", score(theirs, 1, 1), None if mine is None else score(mine, 1, 1), other, run)


def verdicts(compare, rows):
    return {c.text.split(",")[0]: c for c in compare.criteria(rows)}


def test_all_reached(benchmark):
    compare, results = benchmark
    rows = [row(compare, results, name, 30.0, 25.0) for name in "ab"]
    assert all(c.reached for c in compare.criteria(rows))
    assert len(compare.criteria(rows)) == 8


def test_what_misses_is_named(benchmark):
    compare, results = benchmark
    rows = [
        row(compare, results, "good", 30.0, 25.0),
        row(compare, results, "worse", 24.0, 25.0, operators_share=0.4, segments=3, chip_ms=20.0),
        row(compare, results, "refused", None, 25.0, outputs=[], operators_share=None, compile_cpu_s=None),
    ]
    found = verdicts(compare, rows)
    assert found["every model compiles"].missed == ("refused",)
    assert found["SNR below nncase's on no output"].missed == ("worse/y -1.0",)
    assert found["KPU segments"].missed == ("worse 1.50",)
    assert found["estimated time on the chip"].missed == ("worse 2.00",)
    assert found[SHARE].missed == ("worse 40%",)
    assert not any(found[k].reached for k in ("every model compiles", "KPU segments", SHARE))


def test_nncase_runs_once_for_a_job(benchmark, tmp_path):
    _, results = benchmark
    import jobs

    (tmp_path / "net.onnx").write_bytes(b"model")
    np.savez(tmp_path / "net.npz", calib=np.zeros((1, 1, 4, 4), np.uint8), eval=np.zeros((1, 1, 4, 4), np.uint8))
    job = jobs.Job("net", tmp_path / "net.onnx", tmp_path / "net.npz", (0.0,), (1.0,))
    log = tmp_path / "calls"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho call >> {log}\necho 'no [/nncase] here' >&2\nexit 3\n")
    python.chmod(0o755)
    first = results.run_nncase(job, str(python), tmp_path / "work")
    assert "exit code 3" in first.error
    assert results.run_nncase(job, str(python), tmp_path / "work").error == first.error
    assert log.read_text().count("call") == 1
    (tmp_path / "net.onnx").write_bytes(b"another")
    results.run_nncase(job, str(python), tmp_path / "work")
    assert log.read_text().count("call") == 2

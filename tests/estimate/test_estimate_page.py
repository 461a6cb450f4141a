"""docs/estimate.md holds the numbers that the benchmark prints."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "fit_estimate.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_page_is_current():
    done = run("--check")
    assert done.returncode == 0, done.stderr


def test_the_benchmark_prints_every_residual():
    text = run().stdout
    for part in ("face-detect layer 22", "slim-320", "pass_line", "shape left out"):
        assert (part in text) == (part != "face-detect layer 22")
    assert text.count("16-bit 3x3 128->128") == 10

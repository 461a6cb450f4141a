"""Time of one run of kmodels, one thread, and beside it another simulator's where there is a command for it.

python benchmarks/kmodel_speed.py FILE... [--rounds 5] [--other COMMAND]

COMMAND is called as ``COMMAND FILE INPUT``, where INPUT is a file with the raw bytes of the model's only input; it runs
the model and prints the milliseconds of one run as the last word of its output. Rounds alternate between the two, and
the fastest run of each counts.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import openkpu
from openkpu.kmodel.program import DType
from openkpu.runtime.session import Session

RUNS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--other", default="", help="command of another simulator")
    options = parser.parse_args()
    for path in options.files:
        program = openkpu.load(path).program
        session = Session(program)
        (source,) = program.inputs
        rng = np.random.default_rng(0)
        data = rng.integers(0, 256, source.shape).astype(np.uint8)
        if source.dtype is DType.F32:
            data = rng.standard_normal(source.shape).astype(np.float32)
        ours = other = float("inf")
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder, "input")
            raw.write_bytes(data.tobytes())
            for _ in range(options.rounds):
                for _ in range(RUNS):
                    start = time.perf_counter()
                    session.run(data)
                    ours = min(ours, (time.perf_counter() - start) * 1e3)
                if options.other:
                    command = [*shlex.split(options.other), str(path), str(raw)]
                    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                    other = min(other, float(text.split()[-1]))
        beside = f"  other {other:8.2f} ms  {other / ours:5.0f} times" if options.other else ""
        print(f"{path.stem:28} {len(program.steps):4} steps  {ours:7.2f} ms{beside}")


if __name__ == "__main__":
    main()

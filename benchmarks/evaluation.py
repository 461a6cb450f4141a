"""How well does ``kpu eval`` use several cores, and does a killed worker change anything?

    python benchmarks/evaluation.py [PICTURES]

Makes PICTURES (10,000) JPEG files from the garments of examples/mobilenet, compiles that network, and evaluates it with
one process, with two, and with two of which one is killed on the way. Prints the times of one run, their ratio, and
whether all three results are equal.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import openkpu
from openkpu import sidecar
from openkpu.evaluation.results import Evaluation

EXAMPLE = Path(__file__).parents[1] / "examples" / "mobilenet"


def pictures(folder: Path, count: int) -> None:
    """Write jittered copies of the example's pictures, a folder for each class."""
    rng = np.random.default_rng(0)
    sources = sorted((EXAMPLE / "pictures").glob("*.png"))
    for i in range(count):
        source = sources[i % len(sources)]
        image = Image.open(source).convert("RGB").resize((160, 160))
        x, y = rng.integers(0, 24, 2)
        target = folder / source.name.rsplit("_", 1)[0]
        target.mkdir(parents=True, exist_ok=True)
        image.crop((x, y, x + 136, y + 136)).save(target / f"{i:05d}.jpg", quality=90)


def without_time(result: Evaluation) -> dict[str, object]:
    return {k: v for k, v in result.as_dict().items() if k not in ("seconds", "resumed")}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    beside = sidecar.find(EXAMPLE / "mobilenet.onnx")
    assert beside is not None
    assert beside.labels is not None
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        pictures(root / "data", count)
        kmodel = root / "mobilenet.kmodel"
        openkpu.compile(
            EXAMPLE / "mobilenet.onnx", calibration=EXAMPLE / "calibration", mean=beside.mean, std=beside.std
        ).save(kmodel)

        def run(jobs: int, *, kill: bool = False) -> tuple[float, Evaluation]:
            killed = not kill

            def progress(_stage: str, done: int, total: int) -> None:
                nonlocal killed
                if not killed and done > total // 3:
                    killed = True
                    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

            begin = time.perf_counter()
            result = openkpu.evaluate(kmodel, root / "data", labels=beside.labels, jobs=jobs, progress=progress)
            return time.perf_counter() - begin, result

        one, first = run(1)
        two, second = run(2)
        three, third = run(2, kill=True)
    print(f"{count} pictures, top-1 {100 * first.kpu:.1f} %")
    print(f"1 process {one:.1f} s, 2 processes {two:.1f} s: {one / two:.2f} times as fast")
    print(f"2 processes, one killed: {three:.1f} s")
    same = without_time(first) == without_time(second) == without_time(third)
    print("all three results are equal" if same else "THE RESULTS DIFFER")
    sys.exit(not same)


if __name__ == "__main__":
    main()

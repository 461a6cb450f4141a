"""Worker for ``test_v5_nncase``: runs kmodels in nncase's own simulator, in a Python that has it.

    python nncase_run.py JOBS.json
    python nncase_run.py MODEL.kmodel INPUT

JOBS is a list of [kmodel, inputs.npz, outputs.npz]; arrays are named 0, 1, ... Prints one JSON line a job: the seconds
of the fastest of three runs, or the error. The other form takes the raw bytes of the only input and prints the
milliseconds, for ``benchmarks/kmodel_speed.py --other``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401  before nncase, which breaks it otherwise

import nncase  # isort: skip


def load(kmodel: str) -> nncase.Simulator:
    simulator = nncase.Simulator()
    simulator.load_model(Path(kmodel).read_bytes())
    return simulator


def fastest(simulator: nncase.Simulator) -> float:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        simulator.run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def run(kmodel: str, inputs: str, outputs: str) -> float:
    simulator = load(kmodel)
    arrays = np.load(inputs)
    for i in range(len(arrays.files)):
        shape = simulator.get_input_tensor(i).to_numpy().shape  # the file's, with the batch that our arrays leave out
        simulator.set_input_tensor(i, nncase.RuntimeTensor.from_numpy(arrays[str(i)].reshape(shape)))
    seconds = fastest(simulator)
    results = [simulator.get_output_tensor(i).to_numpy() for i in range(simulator.outputs_size)]
    np.savez(outputs, **{str(i): r for i, r in enumerate(results)})
    return seconds


def one(kmodel: str, source: str) -> None:
    simulator = load(kmodel)
    have = simulator.get_input_tensor(0).to_numpy()
    picture = np.fromfile(source, have.dtype).reshape(have.shape)
    simulator.set_input_tensor(0, nncase.RuntimeTensor.from_numpy(picture))
    print(f"{fastest(simulator) * 1e3:.2f}")


def batch(path: str) -> None:
    for job in json.loads(Path(path).read_text()):
        try:
            print(json.dumps({"seconds": run(*job)}), flush=True)
        except RuntimeError as error:
            print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        one(*sys.argv[1:])
    else:
        batch(sys.argv[1])

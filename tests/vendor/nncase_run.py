"""Worker for ``test_v5_nncase``: runs kmodels in nncase's own simulator, in a Python that has it.

    python nncase_run.py JOBS.json

JOBS is a list of [kmodel, inputs.npz, outputs.npz]; arrays are named 0, 1, ... Prints one JSON line a job: the seconds
of the fastest of three runs, or the error.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401  before nncase, which breaks it otherwise

import nncase  # isort: skip


def run(kmodel: str, inputs: str, outputs: str) -> float:
    simulator = nncase.Simulator()
    simulator.load_model(Path(kmodel).read_bytes())
    arrays = np.load(inputs)
    for i in range(len(arrays.files)):
        simulator.set_input_tensor(i, nncase.RuntimeTensor.from_numpy(arrays[str(i)]))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        simulator.run()
        seconds.append(time.perf_counter() - start)
    results = [simulator.get_output_tensor(i).to_numpy() for i in range(simulator.outputs_size)]
    np.savez(outputs, **{str(i): r for i, r in enumerate(results)})
    return min(seconds)


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text()):
        try:
            print(json.dumps({"seconds": run(*job)}), flush=True)
        except RuntimeError as error:
            print(json.dumps({"error": str(error)}), flush=True)

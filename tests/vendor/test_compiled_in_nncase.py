"""V5 files that the compiler makes, in nncase 1.9's own simulator: byte for byte the outputs of ours.

Needs a Python with nncase (``make nncase-env``); ``OPENKPU_NNCASE_PYTHON`` names it.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from target_models import MODELS, ONLY, REDUCED, SHARED, graph_of

from openkpu.compiler import compile
from openkpu.float.export import to_onnx
from openkpu.lower.target import V5

WORKER = Path(__file__).with_name("nncase_run.py")
V5_ONLY = {n: m for n, (v, m) in ONLY.items() if v is V5}
ALL = SHARED | REDUCED
NAMES = [*ALL, *(n for n in MODELS if n != "a wide depthwise kernel"), *V5_ONLY]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Compile every model, run all in one process of nncase: name -> (ours, nncase's)."""
    python = os.environ.get("OPENKPU_NNCASE_PYTHON", "")
    if not python or not Path(python).is_file():
        pytest.skip("no Python with nncase (make nncase-env, then set OPENKPU_NNCASE_PYTHON)")
    folder = tmp_path_factory.mktemp("nncase")
    jobs, ours = [], {}
    for i, name in enumerate(NAMES):
        graph = graph_of(*ALL[name]) if name in ALL else graph_of((1, 3, 8, 8), (MODELS | V5_ONLY)[name])
        x = list(np.random.default_rng(0).integers(0, 256, (2, *graph.inputs[0].shape[1:]), np.uint8))
        data = to_onnx(graph).SerializeToString()
        options = {"mean": 127.5, "std": 64.0, "target": "v5", "range_method": "minmax"}
        model = compile(data, calibration=x, **options).model
        files = [str(folder / f"{i}.{end}") for end in ("kmodel", "in.npz", "out.npz")]
        model.save(files[0])
        np.savez(files[1], **{"0": x[1].reshape(model.inputs[0].shape)})
        jobs.append(files)
        ours[name] = model.run(x[1])
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run([python, WORKER, folder / "jobs.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.strip().splitlines()
    found = {}
    for name, files, line in zip(NAMES, jobs, lines, strict=True):
        theirs = np.load(files[2]) if Path(files[2]).exists() else None
        found[name] = (ours[name], theirs, line)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_nncase_computes_the_same(results, name):
    ours, theirs, line = results[name]
    assert theirs is not None, line
    for i, want in enumerate(ours):
        got = theirs[str(i)].ravel()
        largest = max(1e-30, float(np.abs(want).max()))
        np.testing.assert_allclose(got, want.ravel(), rtol=0, atol=2e-6 * largest)

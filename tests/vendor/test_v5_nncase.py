"""V5 files of ours run in nncase 1.9's own simulator, and give what ours gives.

Needs a Python 3.10 with nncase: `make nncase-env` prepares one and says how OPENKPU_NNCASE_PYTHON names it.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import v5_builders
from numpy.typing import NDArray

from openkpu.kmodel import v5
from openkpu.kmodel.program import Program
from openkpu.runtime.session import Session

PYTHON = os.environ.get("OPENKPU_NNCASE_PYTHON")
WORKER = Path(__file__).with_name("nncase_run.py")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="OPENKPU_NNCASE_PYTHON is not set (make nncase-env)")
EXACT = 0
LIBRARY = 4
"""Units in the last place for functions of the C library (softmax, sigmoid) and for convolutions, summed otherwise."""


def nncase(folder: Path, programs: list[tuple[bytes, list[NDArray[np.generic]]]]) -> list[list[NDArray[np.generic]]]:
    """Run all programs in one process; return their outputs."""
    jobs = []
    for i, (data, inputs) in enumerate(programs):
        paths = [str(folder / f"{i}.{end}") for end in ("kmodel", "in.npz", "out.npz")]
        Path(paths[0]).write_bytes(data)
        np.savez(paths[1], **{str(k): a for k, a in enumerate(inputs)})  # type: ignore[arg-type]
        jobs.append(paths)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    assert PYTHON is not None
    command = [PYTHON, str(WORKER), str(folder / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line in lines if "error" in line] == []
    assert len(lines) == len(jobs), done.stderr[-500:]
    results = [np.load(job[2]) for job in jobs]
    return [[r[k] for k in r.files] for r in results]


def equal(program: Program, inputs: list[NDArray[np.generic]], results: list[NDArray[np.generic]], ulp: int) -> None:
    ours = Session(program).run(*inputs)
    assert len(ours) == len(results)
    for a, r in zip(ours, results, strict=True):
        if ulp and a.dtype == np.float32:
            np.testing.assert_array_max_ulp(a, r.reshape(a.shape), maxulp=ulp)
        else:
            np.testing.assert_array_equal(a, r.reshape(a.shape))


def test_every_operator(tmp_path: Path) -> None:
    inputs = v5_builders.arrays()
    cases = [(kind, v5_builders.program([kind], seed)) for kind in v5_builders.MAKERS for seed in range(4)]
    results = nncase(tmp_path, [(v5.write(p), list(inputs)) for _, p in cases])
    for (kind, program), result in zip(cases, results, strict=True):
        ulp = LIBRARY if kind in ("conv", "softmax", "sigmoid", "layer_norm") else EXACT
        equal(program, list(inputs), result, ulp)


def test_long_programs(tmp_path: Path) -> None:
    inputs = v5_builders.arrays(1)
    kinds = [k for k in v5_builders.MAKERS if k not in ("conv", "softmax", "sigmoid", "layer_norm")]
    programs = [v5_builders.program(list(np.random.default_rng(s).permutation(kinds)), s) for s in range(4)]
    results = nncase(tmp_path, [(v5.write(p), list(inputs)) for p in programs])
    for program, result in zip(programs, results, strict=True):
        equal(program, list(inputs), result, EXACT)


@pytest.mark.vendor
@pytest.mark.parametrize("name", ["mnist_cnn_28", "mtcnn_rnet_24", "tiny_face_160"])
def test_vendor_models_laid_out_anew(vendor: Path, tmp_path: Path, name: str) -> None:
    program = v5.read((vendor / "v5" / f"{name}.kmodel").read_bytes())
    ours = v5.write(replace(program, extra=None))
    picture = np.load(vendor / "v5" / f"{name}.npz")["inputs"][0]
    (result,) = nncase(tmp_path, [(ours, [picture[None]])])
    equal(program, [picture], result, LIBRARY)

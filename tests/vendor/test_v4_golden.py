"""Every vendor V4 file: read and write back byte for byte, run, compare every node with the vendor's simulator."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openkpu
from openkpu.kmodel import v4
from openkpu.kmodel.program import DType, Program, Step
from openkpu.runtime.session import Session

pytestmark = pytest.mark.vendor

TOLERANCE = 1e-4  # of floats whose sums may run in another order; nearly all are exact
REAL = ("iris", "mask_detect", "slim320", "ulffd_landmark", "yolo20")
SMALL_REAL = ("iris", "mask_detect")

Array = np.ndarray[Any, Any]


def equal(got: Array, golden: Array) -> bool:
    """Exact for bytes, floats within the tolerance."""
    a, b = got.reshape(-1), golden.reshape(-1)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == np.uint8:
        return bool(np.array_equal(a, b))
    return bool(np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def compare(program: Program, given: Array, nodes: dict[int, Array], outputs: list[Array], **how: Any) -> int:
    """Run with the simulator's rounding and compare; return how many arrays were compared."""
    session = Session(program, rounding="simulator", **how)
    wrong: list[str] = []
    seen = 0

    def see(index: int, step: Step, array: Array) -> None:
        nonlocal seen
        if index in nodes:
            seen += 1
            if not equal(array, nodes[index]):
                wrong.append(f"node {index} ({type(step).__name__})")

    got = session.run(given.reshape(program.inputs[0].shape), trace=see)
    for index, (ours, golden) in enumerate(zip(got, outputs, strict=True)):
        if not equal(ours, golden):
            wrong.append(f"output {index}")
    assert not wrong
    assert seen == len(nodes)
    return seen + len(got)


def real(vendor: Path, name: str, **how: Any) -> int:
    """Compare a shipped model on all its inputs; return how many arrays were compared."""
    program = openkpu.load(vendor / "v4" / "real" / f"{name}.kmodel").program
    compared = 0
    for path in sorted((vendor / "v4" / "real").glob(f"{name}.*.npz")):
        if path.name.endswith(".nodes.npz"):
            continue
        golden = np.load(path)
        nodes_path = path.with_suffix("").with_suffix(path.with_suffix("").suffix + ".nodes.npz")
        nodes = {}
        if nodes_path.exists():
            file = np.load(nodes_path)
            nodes = {int(k[5:]): file[k] for k in file.files if k.startswith("node_")}
        outputs = [golden[f"output{i}"] for i in range(len(program.outputs))]
        compared += compare(program, golden["input0"], nodes, outputs, **how)
    return compared


def test_rewriting_gives_the_same_bytes(vendor: Path) -> None:
    files = sorted((vendor / "v4").glob("*/*.kmodel"))
    assert len(files) > 10
    for path in files:
        data = path.read_bytes()
        program = v4.read(data)
        assert v4.write(program) == data, path.name
        # Everything in these files has a meaning that is declared; nothing is kept as bytes that just differ.
        assert isinstance(program.extra, v4.V4Extra)
        assert program.extra.leftovers == (), path.name


@pytest.mark.parametrize("name", REAL)
def test_shipped_models(vendor: Path, name: str) -> None:
    assert real(vendor, name) >= 5


@pytest.mark.parametrize("name", SMALL_REAL)
def test_small_shipped_models_on_the_reference(vendor: Path, name: str) -> None:
    assert real(vendor, name, engine="reference") >= 5


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_compiled_models(vendor: Path, engine: str) -> None:
    compared = 0
    for path in sorted((vendor / "v4" / "compiled").glob("*.kmodel")):
        if engine == "reference" and path.name.startswith("ex_"):
            continue  # the large ones
        golden = np.load(path.with_suffix(".npz"))
        program = openkpu.load(path).program
        for i in (0, 1):
            nodes = {int(k[6:]): golden[k] for k in golden.files if k.startswith("node0_")} if i == 0 else {}
            outputs = [golden[f"output_{i}_{j}"] for j in range(len(program.outputs))]
            compared += compare(program, golden[f"input_{i}"], nodes, outputs, engine=engine)
    assert compared > 200


def test_hashes_of_nodes_without_arrays(vendor: Path) -> None:
    """Of the large compiled models the goldens hold the SHA-256 of every node's output."""
    checked = 0
    for name in ("ex_rfb320", "ex_ulffd"):
        golden = np.load(vendor / "v4" / "compiled" / f"{name}.npz")
        program = openkpu.load(vendor / "v4" / "compiled" / f"{name}.kmodel").program
        for i in (0, 1):
            hashes: list[str] = []
            session = Session(program, rounding="simulator")
            session.run(
                golden[f"input_{i}"].reshape(program.inputs[0].shape),
                trace=lambda index, step, a, hashes=hashes: hashes.append(hashlib.sha256(a.tobytes()).hexdigest()),  # type: ignore[misc]
            )
            assert hashes == golden[f"node_sha_{i}"].tolist()
            checked += len(hashes)
    assert checked > 300


@pytest.mark.parametrize("name", SMALL_REAL)
def test_vendor_programs_have_no_memory_mistakes(vendor: Path, name: str) -> None:
    golden = np.load(vendor / "v4" / "real" / f"{name}.rand.npz")
    model = openkpu.load(vendor / "v4" / "real" / f"{name}.kmodel")
    given = golden["input0"].reshape(model.inputs[0].shape)
    checked = model.run(given, check=True)
    assert [f for f in model.findings if f.kind not in ("segment",)] == []
    for a, b in zip(checked, model.run(given), strict=True):
        np.testing.assert_array_equal(a, b)


def test_compiled_programs_have_no_memory_mistakes(vendor: Path) -> None:
    for name in ("t_cnn", "t_concat_range_ab", "t_mul", "t_residual__noqbin", "t_softmax", "t_conv_then_relu6"):
        model = openkpu.load(vendor / "v4" / "compiled" / f"{name}.kmodel")
        o = model.inputs[0]
        model.run(np.random.default_rng(0).integers(0, 256, o.shape).astype(np.uint8), check=True)
        assert [f for f in model.findings if f.kind not in ("segment",)] == [], name


def test_outputs_have_shapes(vendor: Path) -> None:
    shapes = {
        name: [(o.dtype, o.shape) for o in openkpu.load(vendor / "v4" / "real" / f"{name}.kmodel").outputs]
        for name in REAL
    }
    assert shapes["yolo20"] == [(DType.F32, (125, 7, 10))]
    assert shapes["ulffd_landmark"] == [
        (DType.F32, (1, 3160, 4)),
        (DType.F32, (1, 3160, 10)),
        (DType.F32, (1, 3160, 2)),
    ]


def test_device_rounding_differs_by_at_most_one_count(vendor: Path) -> None:
    """Quantise rounds halves elsewhere on the chip; here on real data."""
    model = openkpu.load(vendor / "v4" / "real" / "slim320.kmodel")
    given = np.load(vendor / "v4" / "real" / "slim320.rand.npz")["input0"].reshape(model.inputs[0].shape)
    found: dict[str, list[Array]] = {"device": [], "simulator": []}
    for rounding, arrays in found.items():
        model.run(
            given,
            rounding=rounding,  # type: ignore[arg-type]
            trace=lambda i, s, a, arrays=arrays: arrays.append(a) if type(s).__name__ == "QuantizeTensor" else None,  # type: ignore[misc]
        )
    assert len(found["device"]) == len(found["simulator"]) > 0
    for a, b in zip(found["device"], found["simulator"], strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_inspection_shows_every_step(vendor: Path) -> None:
    from openkpu.analyze.inspect import inspect

    found = inspect(vendor / "v4" / "real" / "ulffd_landmark.kmodel")
    assert found.model is not None
    assert len(found.steps) == 99
    details = {s.op: s.detail for s in found.steps}
    assert details["PadTensor"] == "pads 0 0 0 0 0 1 0 0, value 0"
    assert details["TransposeTensor"] == "perm 0 2 3 1"
    assert sum(s.macs for s in found.steps) > 2 * 10**8
    assert any("kpu.set_outputs(task, 0, 4, 3160, 1)" in note for note in found.model.notes)

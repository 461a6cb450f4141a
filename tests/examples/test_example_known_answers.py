"""The example models pass their known-answer test on the virtual board, with a picture of theirs."""

from __future__ import annotations

from pathlib import Path

import kat_bench as k
import pytest

import openkpu

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(("name", "picture"), [("digits", "7_0910.png"), ("mobilenet", "coat_0010.png")])
def test_compiled_examples_equal_the_simulator(name: str, picture: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'openkpu[onnx]'")
    folder = EXAMPLES / name
    compiled = openkpu.compile(folder / f"{name}.onnx", calibration=folder / "calibration")
    data = compiled.model.to_bytes()
    test = k.with_test(data, str(folder / "pictures" / picture))
    lines = k.run(test)
    assert lines[-1].startswith("PASS")
    assert test.layers + len(test.missing) == len(openkpu.load(data).steps)
    assert test.layers > len(test.missing)

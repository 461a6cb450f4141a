"""Files straight from torch.onnx.export (made by data/make_torch_models.py) import and compute the same."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_zoo import ops, run

from openkpu.float.session import FloatSession
from openkpu.importers.onnx import load

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("name", ["torch_script", "torch_dynamo"])
@pytest.mark.parametrize("size", [(32, 32), (28, 30)])
def test_export(name: str, size: tuple[int, int]) -> None:
    if name == "torch_dynamo" and size != (32, 32):
        pytest.skip("this file has a fixed picture size")
    graph = load(DATA / f"{name}.onnx", input_shapes={"image": (1, 3, *size)})
    x = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
    got = FloatSession(graph).run(x)
    for output, wanted in zip(("scores", "boxes"), run(onnx.load(DATA / f"{name}.onnx"), {"image": x}), strict=True):
        np.testing.assert_allclose(got[output], wanted, rtol=1e-4, atol=1e-5)
    left = {"Shape", "Gather", "Cast", "Unsqueeze", "Constant", "Identity", "Squeeze", "Flatten", "ReduceMean"}
    assert not left & set(ops(graph))

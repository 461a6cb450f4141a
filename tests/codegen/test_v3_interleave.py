"""V3 puts channels between the pixels: DepthToSpace and transposed convolutions, from the file's bytes."""

import numpy as np
import pytest
from graph_builders import Builder, run_float
from hypothesis import given, settings
from hypothesis import strategies as st
from target_models import graph_of, interleaved, transposed

import openkpu
from openkpu.compiler import compile
from openkpu.convert import convert
from openkpu.float.export import to_onnx
from openkpu.graph.ir import Graph
from openkpu.kmodel import program as p

MEAN, STD = 127.5, 64.0


def check(graph: Graph, least_db: float = 25.0):
    """Compile for V3, run from bytes in the checking mode, compare with the quantiser's prediction and the float."""
    x = list(np.random.default_rng(0).integers(0, 256, (3, *graph.inputs[0].shape[1:]), np.uint8))
    c = compile(to_onnx(graph).SerializeToString(), calibration=x, mean=MEAN, std=STD, range_method="minmax")
    model = openkpu.load(c.model.to_bytes())
    for i, picture in enumerate(x):
        (got,) = model.run(picture, check=True)
        predicted = c.quantized.outputs[0][i].reshape(got.shape)
        np.testing.assert_allclose(got, predicted, atol=1e-4 * float(np.abs(got).max()))
        want = run_float(graph, ((picture - MEAN) / STD).astype(np.float32)[None])[0].reshape(got.shape)
        noise = float(((got - want) ** 2).sum())
        assert 10 * np.log10(float((want**2).sum()) / max(noise, 1e-30)) > least_db
    assert not model.findings
    return c


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode):
    c = check(graph_of((1, 3, 8, 8), lambda b: interleaved(b, mode)))
    kinds = [type(s) for s in c.model.steps]
    assert kinds.count(p.Flatten) == 1
    assert kinds.count(p.Concat) == 2


@pytest.mark.parametrize("group", [1, 2])
def test_transposed_convolution(group):
    check(graph_of((1, 3, 8, 8), lambda b: b.conv(b.relu(transposed(b, group)), 4, 3)))


@given(st.integers(2, 3), st.integers(1, 5), st.integers(4, 9), st.integers(4, 9), st.sampled_from(("DCR", "CRD")))
@settings(max_examples=12, deadline=None)
def test_any_size(s, c, h, w, mode):
    b = Builder(1, 3, h, w)
    t = b.op(
        "DepthToSpace", [b.conv(b.x, c * s * s, 3)], (1, c, h * s, w * s), blocksize=s, mode=mode
    )  # fmt: skip
    check(b.graph(b.conv(t, 3, 3)))


def test_v4_and_v5_take_the_converted_file():
    model = check(graph_of((1, 3, 8, 8), interleaved)).model
    for version in ("v4", "v5"):
        assert convert(model, version).is_same

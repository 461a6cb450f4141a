"""Arithmetic of uint8 tensors in whole numbers: that of the V4 runtime, and near what real numbers give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_models import graph_of, squeeze_excite

import openkpu
from openkpu.compiler import compile
from openkpu.float.export import to_onnx
from openkpu.graph.elementwise import X, clip
from openkpu.kmodel import operators as t
from openkpu.kmodel.operators_v4 import QuantizedBinary
from openkpu.kmodel.program import QuantizedTerm
from openkpu.lower.lower import lower
from openkpu.lower.target import V4, V5
from openkpu.ops.tensor_fixed import quantized_binary
from openkpu.passes import canonicalize
from openkpu.quantize.fixed import binary_numbers, run_binary
from openkpu.quantize.params import QParams

KINDS = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Min": np.minimum, "Max": np.maximum}
params = st.builds(
    lambda e, m, z: QParams.uniform(m * 2.0**e, z, 1), st.integers(-12, 6), st.floats(1, 2), st.integers(0, 255)
)


def real(q, p):
    return p.scale[0] * (q.astype(np.float64) - p.zero_point)


@given(st.sampled_from(sorted(KINDS)), params, params, params, st.integers(0, 1 << 30))
@settings(max_examples=200)
def test_numbers(kind, a, b, out, seed):
    """The quantiser's arithmetic is the runtime's, and within half a count of the real result."""
    x, y = np.random.default_rng(seed).integers(0, 256, (2, 500)).astype(np.uint8)
    n = binary_numbers(kind, a, b, out, None)
    got = run_binary(kind, x, y, n)
    terms = [QuantizedTerm(v.offset, v.mul, v.shift) for v in (n.a, n.b, n.o)]
    ratio = (a.scale[0] + b.scale[0] + a.scale[0] * b.scale[0]) / out.scale[0]
    if ratio < 2**20:  # beyond that the runtime's 32 bits overflow; ranges from calibration are never so far apart
        np.testing.assert_array_equal(got, quantized_binary(t.BinaryOp[kind.upper()], x, y, *terms))
    exact = KINDS[kind](real(x, a), real(y, b)) / out.scale[0] + out.zero_point
    wanted = np.clip(exact, 0, 255)
    assert np.abs(got - wanted).max() <= 0.5 + 1e-6 + 1.3e-4 * ratio  # both factors are whole numbers, up to 2**20


def test_limits_inside_the_range_take_a_table():
    scale, out = QParams.uniform(0.1, 128, 1), QParams.uniform(0.1, 100, 1)
    n = binary_numbers("Add", scale, scale, out, clip(X, 0, 6))
    assert (n.low, n.high) == (100, 160)
    assert n.table is not None
    assert n.table[0] == 100
    assert n.table[255] == 160
    from_zero = QParams.uniform(6 / 255, 0, 1)
    assert binary_numbers("Add", scale, scale, from_zero, clip(X, 0, 6)).table is None


def compiled(graph, target):
    x = list(np.random.default_rng(0).integers(0, 256, (4, *graph.inputs[0].shape[1:]), np.uint8))
    return compile(to_onnx(graph).SerializeToString(), calibration=x, mean=127.5, std=64.0, target=target), x


def largest(b, op="Max"):
    return b.conv(b.binary(op, b.conv(b.x, 4, 3), b.conv(b.x, 4, 1)), 4, 3)


BETWEEN_LAYERS = {
    "squeeze and excite": squeeze_excite,
    "maximum": largest,
    "minimum": lambda b: largest(b, "Min"),
    "limits behind": lambda b: b.conv(b.relu6(b.binary("Max", b.conv(b.x, 4, 3), b.conv(b.x, 4, 1))), 4, 3),
}


@pytest.mark.parametrize("name", BETWEEN_LAYERS)
def test_v4_stays_in_whole_numbers_between_layers(name):
    c, x = compiled(graph_of((1, 3, 8, 8), BETWEEN_LAYERS[name]), "v4")
    kinds = [type(s) for s in c.model.steps]
    assert QuantizedBinary in kinds
    again = openkpu.load(c.model.to_bytes())
    for picture in x:
        for a, b in zip(again.run(picture, check=True), c.model.run(picture), strict=True):
            np.testing.assert_array_equal(a.ravel(), b.ravel())
    assert not again.findings


def test_results_that_only_floats_read_stay_floats():
    graph = graph_of((1, 3, 8, 8), lambda b: b.binary("Mul", b.conv(b.x, 4, 3), b.conv(b.x, 4, 1)))
    c, _ = compiled(graph, "v4")
    assert QuantizedBinary not in [type(s) for s in c.model.steps]


@pytest.mark.parametrize(("version", "whole"), [(V4, True), (V5, False)])
def test_only_v4_has_whole_numbers(version, whole):
    graph = graph_of((1, 3, 8, 8), largest)
    canonicalize.run(graph)
    lowered, _ = lower(graph, target=version)
    (node,) = [n for n in lowered.nodes if n.op == "TensorBinary"]
    assert node.attrs["u8"] is whole


def test_a_quotient_stays_in_floats():
    graph = graph_of(
        (1, 3, 8, 8), lambda b: b.conv(b.binary("Div", b.conv(b.x, 4, 3), b.unary("Exp", b.conv(b.x, 4, 1))), 4, 3)
    )
    canonicalize.run(graph)
    lowered, _ = lower(graph, target=V4)
    (node,) = [n for n in lowered.nodes if n.op == "TensorBinary"]
    assert not node.attrs["u8"]

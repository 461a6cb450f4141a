"""Operators that V3 lacks: in V4 and V5 they run on the CPU, with the float meaning of the source."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source
from target_models import CASES, EVERYWHERE, MODELS, ONLY, attention, interleaved, squeeze_excite, variance

from openkpu.errors import UnsupportedError
from openkpu.lower.lower import lower
from openkpu.lower.target import V3, V4, V5, elsewhere, target
from openkpu.lower.tensor import simplify_transpose
from openkpu.passes import canonicalize


def graph(make):
    b = Builder(1, 3, 8, 8)
    return b.graph(make(b))


@pytest.mark.parametrize(("version", "name", "make"), CASES, ids=[f"{n}-{v.name}" for v, n, _ in CASES])
def test_the_lowered_graph_means_the_same(version, name, make):
    lowered_equals_source(graph(make), target=version)


@pytest.mark.parametrize("name", [n for n in MODELS if n not in EVERYWHERE])
def test_v3_refuses_and_names_the_versions_that_have_it(name):
    g = graph(MODELS[name])
    canonicalize.run(g)
    with pytest.raises(UnsupportedError) as caught:
        lower(g)
    text = str(caught.value)
    assert "kmodel V4 and V5 have it: --target v4" in text
    assert caught.value.where


@pytest.mark.parametrize("op", ["Sin", "Cos", "Round", "Sign", "ThresholdedRelu"])
def test_rare_functions_are_activations_in_every_version(op):
    attrs = {"alpha": 0.5} if op == "ThresholdedRelu" else {}
    lowered_equals_source(graph(lambda b: b.conv(b.unary(op, b.conv(b.x, 4, 3), **attrs), 4, 3)), target=V3)


def test_half_pixel_is_refused_where_the_runtime_resizes_otherwise():
    g = graph(ONLY["bilinear, half pixel"][1])
    canonicalize.run(g)
    with pytest.raises(UnsupportedError, match="E221") as caught:
        lower(g, target=V4)
    assert "Resize_" in caught.value.where


def test_what_no_version_has_is_refused_by_name():
    b = Builder(1, 3, 8, 8)
    g = b.graph(b.op("GridSample", [b.conv(b.x, 4)], (1, 4, 8, 8)))
    canonicalize.run(g)
    with pytest.raises(UnsupportedError, match="E200") as caught:
        lower(g, target=V5)
    assert "GridSample_" in caught.value.where
    assert "--target" not in str(caught.value)


def test_the_square_in_a_variance_is_taken_of_floats():
    """On the KPU it would be squared in 8 bits, and the map would go there and come back."""
    g = graph(variance)
    canonicalize.run(g)
    lowered, _ = lower(g, target=V4)
    assert [n.op for n in lowered.nodes].count("KpuConv") == 2
    (square,) = [n for n in lowered.nodes if n.op == "TensorFunction"]
    assert str(square.attrs["fn"]) == "Mul(x, x)"


def test_a_movement_between_kpu_layers_moves_bytes():
    g = graph(interleaved)
    canonicalize.run(g)
    lowered, _ = lower(g, target=V4)
    (move,) = [n for n in lowered.nodes if n.op == "TensorTranspose"]
    assert move.attrs["u8"]


def test_a_movement_before_floats_moves_floats():
    g = graph(attention)
    canonicalize.run(g)
    lowered, _ = lower(g, target=V4)
    (move,) = [n for n in lowered.nodes if n.op == "TensorTranspose"]
    assert not move.attrs["u8"]


def test_the_decision_says_why_it_is_on_the_cpu():
    g = graph(squeeze_excite)
    canonicalize.run(g)
    _, decisions = lower(g, target=V4)
    (mul,) = [d for d in decisions if d.op == "Mul"]
    assert mul.where == "CPU"
    assert mul.why
    assert mul.microseconds > 0


@pytest.mark.parametrize(
    ("shape", "perm", "view", "order"),
    [
        ((1, 2, 4, 8, 8), (0, 2, 1, 3, 4), (2, 4, 64), (1, 0, 2)),
        ((1, 4, 8, 8), (0, 2, 3, 1), (4, 64), (1, 0)),
        ((2, 3, 4), (0, 1, 2), (24,), (0,)),
        ((1, 5, 1, 7), (3, 0, 2, 1), (5, 7), (1, 0)),
    ],
)
def test_transposes_are_written_with_few_dimensions(shape, perm, view, order):
    assert simplify_transpose(shape, perm) == (view, order)
    x = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(x.transpose(perm).ravel(), x.reshape(view).transpose(order).ravel())


def test_targets_by_name():
    assert target("v5") is V5
    with pytest.raises(UnsupportedError, match="E201"):
        target("v6")
    assert elsewhere("Mul", V3) == "kmodel V4 and V5 have it: --target v4"
    assert elsewhere("Mul", V5) == "kmodel V4 has it: --target v4"
    assert elsewhere("GridSample", V3) == ""

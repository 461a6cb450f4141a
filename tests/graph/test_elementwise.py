import math

import numpy as np
import pytest
from graph_builders import Builder, run_float
from hypothesis import given
from hypothesis import strategies as st

from openkpu.graph.elementwise import (
    Expr,
    X,
    clip,
    const,
    from_op,
    is_falling,
    is_homogeneous,
    linear_kinks,
    pieces,
)
from openkpu.lower.export import register_exporters

V = np.linspace(-9, 9, 361)
SIGMOID = 1 / (1 + np.exp(-V))

FUNCTIONS = {
    "Relu": ({}, np.maximum(V, 0)),
    "Clip": ({"min": -1.0, "max": 6.0}, np.clip(V, -1, 6)),
    "LeakyRelu": ({"alpha": 0.1}, np.where(V > 0, V, 0.1 * V)),
    "Elu": ({"alpha": 1.5}, np.where(V > 0, V, 1.5 * (np.exp(V) - 1))),
    "HardSigmoid": ({"alpha": 0.2, "beta": 0.5}, np.clip(0.2 * V + 0.5, 0, 1)),
    "HardSwish": ({}, V * np.clip(V + 3, 0, 6) / 6),
    "Silu": ({}, V * SIGMOID),
    "Mish": ({}, V * np.tanh(np.log1p(np.exp(V)))),
    "Sigmoid": ({}, SIGMOID),
    "Tanh": ({}, np.tanh(V)),
    "Softplus": ({}, np.log1p(np.exp(V))),
    "Exp": ({}, np.exp(V)),
    "Erf": ({}, np.array([math.erf(v) for v in V])),
    "Abs": ({}, np.abs(V)),
    "Neg": ({}, -V),
    "Floor": ({}, np.floor(V)),
    "Ceil": ({}, np.ceil(V)),
}


@pytest.mark.parametrize("op", FUNCTIONS)
def test_formula_and_export(op):
    attrs, want = FUNCTIONS[op]
    fn = from_op(op, attrs)
    assert fn is not None
    np.testing.assert_allclose(fn(V), want, atol=1e-6, rtol=1e-6)
    register_exporters()
    b = Builder(1, V.size)
    y = run_float(b.graph(b.unary("Elementwise", b.x, fn=fn)), V[None])[0]
    np.testing.assert_allclose(y[0], want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("op", "f"), [("Log", np.log), ("Sqrt", np.sqrt), ("Reciprocal", lambda v: 1 / v)])
def test_functions_of_positive_numbers(op, f):
    v = np.linspace(0.1, 5, 50)
    fn = from_op(op, {})
    assert fn is not None
    np.testing.assert_allclose(fn(v), f(v))


@pytest.mark.parametrize(
    ("op", "attrs", "want"),
    [
        ("Relu", {}, [(-math.inf, 0, 0), (0, 1, 0)]),
        ("Clip", {"min": 0.0, "max": 6.0}, [(-math.inf, 0, 0), (0, 1, 0), (6, 0, 6)]),
        ("Clip", {"min": -math.inf, "max": 2.0}, [(-math.inf, 1, 0), (2, 0, 2)]),
        ("Clip", {"min": -math.inf, "max": math.inf}, [(-math.inf, 1, 0)]),
        ("LeakyRelu", {"alpha": 0.1}, [(-math.inf, 0.1, 0), (0, 1, 0)]),
        ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}, [(-math.inf, 0, 0), (-2.5, 0.2, 0.5), (2.5, 0, 1)]),
        ("Abs", {}, [(-math.inf, -1, 0), (0, 1, 0)]),
        ("Neg", {}, [(-math.inf, -1, 0)]),
    ],
)
def test_pieces(op, attrs, want):
    fn = from_op(op, attrs)
    assert fn is not None
    found = pieces(fn)
    assert found is not None
    np.testing.assert_allclose([(p.start, p.slope, p.offset) for p in found], want, atol=1e-6)


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "HardSwish", "Silu", "Mish", "Softplus", "Exp", "Floor"])
def test_curves_have_no_pieces(op):
    fn = from_op(op, {})
    assert fn is not None
    assert pieces(fn) is None
    assert linear_kinks(fn) is None


def test_a_written_out_hardswish_is_curved():
    gate = clip(Expr("Add", (X, const(3))), 0, 6)
    assert pieces(Expr("Div", (Expr("Mul", (X, gate)), const(6)))) is None
    assert pieces(Expr("Div", (gate, const(6)))) is not None


def test_composition():
    fn = clip(Expr("Sub", (clip(X, 0, math.inf), const(1))), -math.inf, 2)
    found = pieces(fn)
    assert found is not None
    np.testing.assert_allclose([p.start for p in found], [-math.inf, 0, 3])
    inner = Expr("Mul", (X, const(2)))
    np.testing.assert_allclose(fn.substitute(inner)(V), np.minimum(np.maximum(2 * V, 0) - 1, 2))
    assert str(fn) == "Min(Sub(Max(x, 0), 1), 2)"


@given(st.lists(st.tuples(st.floats(-4, 4), st.floats(-3, 3)), min_size=1, max_size=5))
def test_pieces_of_any_hinges_meet_the_function(hinges):
    fn = X
    for at, slope in hinges:
        hinge = clip(Expr("Sub", (X, const(at))), 0, math.inf)
        fn = Expr("Add", (fn, Expr("Mul", (hinge, const(slope)))))
    found = pieces(fn)
    assert found is not None
    index = np.searchsorted([p.start for p in found], V, side="right") - 1
    y = [found[i].slope * v + found[i].offset for i, v in zip(index, V, strict=True)]
    np.testing.assert_allclose(y, fn(V), atol=1e-4)


@pytest.mark.parametrize(
    ("op", "attrs", "want"),
    [
        ("Relu", {}, True),
        ("LeakyRelu", {"alpha": 0.2}, True),
        ("Abs", {}, True),
        ("Neg", {}, True),
        ("Clip", {"min": 0.0, "max": 6.0}, False),
        ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}, False),
        ("Sigmoid", {}, False),
    ],
)
def test_homogeneous(op, attrs, want):
    fn = from_op(op, attrs)
    assert fn is not None
    assert is_homogeneous(fn) is want
    assert is_homogeneous(X)


def test_what_is_not_element_wise():
    assert from_op("Conv", {}) is None
    assert from_op("Softmax", {"axis": 1}) is None


def test_falling_functions_are_known():
    relu = from_op("Relu", {})
    sigmoid = from_op("Sigmoid", {})
    assert not is_falling(relu)
    assert not is_falling(from_op("Abs", {}))
    assert not is_falling(from_op("HardSwish", {}))
    assert is_falling(from_op("Neg", {}))
    assert is_falling(Expr("Sub", (const(1.0), sigmoid)))
    assert is_falling(Expr("Sub", (relu, X)))

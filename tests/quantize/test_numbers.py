"""Ranges, weights, tap means, segments and activation tables: each against a direct computation."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.graph.elementwise import Expr, X, clip, const, from_op
from openkpu.lower.ops import POOLS
from openkpu.quantize import ranges, weights
from openkpu.quantize.activation_table import Met, build
from openkpu.quantize.params import QParams, from_range
from openkpu.quantize.segment_fit import fit
from openkpu.quantize.statistics import Statistics
from openkpu.quantize.taps import tap_means

UNIT_BITS = 16


# -- parameters and ranges ------------------------------------------------------------------------------------------
@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_a_range_holds_both_ends_and_zero(a, b):
    low, high = min(a, b), max(a, b)
    p = from_range(low, high, 2)
    ends = p.dequantize(np.array([[0, 0], [255, 255]], np.uint8))[:, 0]
    step = p.scale[0]
    assert ends[0] <= min(low, 0) + 0.51 * step
    assert ends[1] >= max(high, 0) - 0.51 * step
    assert p.dequantize(np.full((1, 2), p.zero_point, np.uint8))[0, 0] == pytest.approx(0, abs=1e-3 * step)
    assert ends[1] - ends[0] <= max((max(high, 0) - min(low, 0)) * 1.02, 1.0) + 1e-6


@given(st.integers(0, 255), st.floats(1e-4, 10), st.floats(-3, 3))
def test_quantize_and_dequantize(zp, scale, offset):
    p = QParams(np.array([scale, 2 * scale]), zp, np.array([offset, 0]))
    q = np.arange(256, dtype=np.uint8)[:, None].repeat(2, 1)
    np.testing.assert_array_equal(p.quantize(p.dequantize(q)), q)
    wide = QParams.side_by_side([p, QParams.uniform(scale, 255 - zp, 1)])
    np.testing.assert_allclose(wide.bias, [*p.bias, -scale * (255 - zp)], atol=1e-6)


def statistics(*pictures):
    arrays = [np.asarray(x, np.float32) for x in pictures]
    s = Statistics(arrays[0].shape, len(arrays))
    assert all(s.add(x) for x in arrays)
    return s


def test_statistics_know_channels_and_pictures():
    s = statistics([[[[1, 2]], [[-3, 4]]]], [[[[0, 9]], [[5, 6]]]])
    np.testing.assert_array_equal(s.low, [0, -3])
    np.testing.assert_array_equal(s.high, [9, 6])
    assert s.extremes == (-3, 9)
    assert s.of([0]).extremes == (-3, 4)
    assert sorted(s.values()) == [-3, 0, 1, 2, 4, 5, 6, 9]


@pytest.mark.parametrize("method", ranges.METHODS)
@pytest.mark.parametrize("kind", ["normal", "positive", "outlier", "constant", "nearly constant", "zero", "negative"])
def test_ranges_lie_within_the_extremes(method, kind):
    x = np.random.default_rng(0).normal(size=(1, 2, 40, 40))
    x = {
        "normal": x,
        "positive": np.abs(x),
        "outlier": np.where(x > 3, 50, x),
        "constant": np.full_like(x, 3),
        "nearly constant": 3 + 1e-7 * x,
        "zero": 0 * x,
        "negative": -np.abs(x),
    }[kind]
    s = statistics(x)
    low, high = ranges.METHODS[method](s)
    assert s.extremes[0] <= low <= high <= s.extremes[1]
    if method == "mse":
        values = s.values().astype(np.float64)

        def error(a, b):
            p = from_range(a, b, 1)
            return float(((p.dequantize(p.quantize(values[:, None]))[:, 0] - values) ** 2).mean())

        assert error(low, high) <= error(*s.extremes) * 1.02 + 1e-12


def test_clipping_methods_leave_an_outlier_out():
    x = np.random.default_rng(0).normal(size=(1, 1, 100, 100))
    x[0, 0, 0, 0] = 500
    for method in ("percentile", "kl"):
        assert ranges.METHODS[method](statistics(x))[1] < 450


# -- weights --------------------------------------------------------------------------------------------------------
@given(st.integers(0, 2**32 - 1))
def test_weights_are_no_worse_than_plain_rounding(seed):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(5, 27)) * rng.uniform(1e-3, 10, (5, 1))
    s = weights.scales(w)
    q = weights.quantize(w, s)
    assert q.min() >= -128
    assert q.max() <= 127
    plain = np.maximum(w.max(1) / 127, -w.min(1) / 128)
    error = ((q * s[:, None] - w) ** 2).sum(1)
    assert (error <= ((weights.quantize(w, plain) * plain[:, None] - w) ** 2).sum(1) * (1 + 1e-3)).all()


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.booleans())
def test_rows_of_one_weight_are_exact(values, negative):
    w = np.diag(values) * (-1 if negative else 1)
    s = weights.scales(w)
    np.testing.assert_allclose(weights.quantize(w, s) * s[:, None], w, rtol=1e-6)


def test_rows_of_two_weights_are_nearly_exact_and_zero_rows_stay_zero():
    w = np.array([[1.0, 0.3], [1.0, -0.71], [0.0, 0.0], [0.5, 0.5]])
    s = weights.scales(w)
    error = np.abs(weights.quantize(w, s) * s[:, None] - w).max(1)
    assert (error <= 0.002).all()
    assert error[2] == 0
    assert error[3] < 1e-7
    assert (s > 0).all()


# -- tap means ------------------------------------------------------------------------------------------------------
@given(
    n=st.integers(1, 2),
    c=st.integers(1, 3),
    h=st.integers(4, 9),
    w=st.integers(4, 9),
    kernel=st.sampled_from([1, 3]),
    pool=st.sampled_from(sorted(POOLS)),
    per_channel=st.booleans(),
    u8=st.booleans(),
)
@settings(max_examples=120)
def test_tap_means(n, c, h, w, kernel, pool, per_channel, u8):
    rng = np.random.default_rng(h * 100 + w)
    x = rng.integers(0, 256, (n, c, h, w), np.uint8) if u8 else rng.normal(size=(n, c, h, w)).astype(np.float32)
    pad = rng.normal(size=c) if per_channel else 7.0
    _, stride, window = POOLS[pool]
    step, left = (stride, int(pool == "right_top2")) if window == 1 else (1, 0)
    r = kernel // 2
    padded = np.empty((n, c, h + 2 * r, w + 2 * r))
    padded[:] = np.reshape(pad, (1, -1, 1, 1))
    padded[:, :, r : r + h, r : r + w] = x
    rows = np.arange(h // step) * step if step > 1 else np.arange(h)
    cols = np.arange(w // step) * step + left if step > 1 else np.arange(w)
    if kernel == 1:
        rows, cols = np.arange(0, h, step), np.arange(left, w, step)
    want = [[padded[:, :, rows + i][:, :, :, cols + j].mean((0, 2, 3)) for j in range(kernel)] for i in range(kernel)]
    np.testing.assert_allclose(tap_means(x, kernel, pool, pad), np.moveaxis(np.array(want), 2, 0), atol=1e-4)


# -- segments -------------------------------------------------------------------------------------------------------
def cost_of(segments, x, target, weight):
    y = np.empty_like(x)
    for s in segments:
        take = x > s.start
        y[take] = s.bias + s.slope * (x[take] - (s.start if s.start > -math.inf else 0))
    return float((weight * (y - target) ** 2).sum() / weight.sum())


def brute_force(x, target, weight):
    """The least cost over all places of the borders, with the same choice of whole starts."""
    n, best = len(x), math.inf
    for count in range(n):
        for borders in combinations(range(n), count):
            ends = [*borders[1:], n]
            head = borders[0] if borders else n
            total = (
                min((float((weight[:head] * (target[:head] - level) ** 2).sum()) for level in range(256)), default=0)
                if head
                else 0.0
            )
            for i, j in zip(borders, ends, strict=False):
                a = max(i - 1, 0)
                part = slice(i, j)
                dx, t, w = x[part] - x[a], target[part], weight[part]
                options = []
                for bias in np.clip(np.floor(target[a]) + np.array([-1, 0, 1, 2]), 0, 255):
                    square = float((w * dx * dx).sum())
                    m = max(float((w * dx * (t - bias)).sum()) / square, 0) if square > 0 else 0
                    options.append(float((w * (bias + m * dx - t) ** 2).sum()))
                total += min(options)
            best = min(best, total)
    return best / weight.sum()


@given(st.lists(st.floats(0, 255), min_size=3, max_size=7), st.integers(0, 1000))
@settings(max_examples=40)
def test_segments_are_optimal(target, seed):
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.5, 2, len(target)))
    t, w = np.array(target), rng.uniform(0.1, 1, len(target))
    found = fit(x, t, w)
    assert found[0].start == -math.inf
    assert found[0].slope == 0
    assert all(s.slope >= 0 and 0 <= s.bias <= 255 for s in found)
    assert cost_of(found, x, t, w) <= brute_force(x, t, w) + 1e-6


# -- tables ---------------------------------------------------------------------------------------------------------
def table(fn, low, high, out_low, out_high, samples=None):
    p = from_range(out_low, out_high, 1)
    scale = float(p.scale[0])
    return build(fn, scale, p.zero_point, 2.0**UNIT_BITS / scale, Met((low, high), samples))


EXACT = {
    "linear": (None, -3, 5),
    "relu": (clip(X, 0, math.inf), -3, 5),
    "relu6": (clip(X, 0, 6), -3, 8),
    "leaky": (from_op("LeakyRelu", {"alpha": 0.1}), -7, 5),
    "hard sigmoid": (from_op("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}), -5, 5),
    "relu6 + x": (Expr("Add", (clip(X, 0, 6), X)), -4, 5),
}


@pytest.mark.parametrize("name", EXACT)
def test_piecewise_linear_functions_are_exact(name):
    fn, low, high = EXACT[name]
    y = (fn or X)(np.linspace(low, high, 500))
    assert table(fn, low, high, y.min(), y.max()).worst <= 0.52


@given(
    st.lists(st.tuples(st.integers(-24, 24), st.integers(0, 24)), min_size=1, max_size=4, unique_by=lambda h: h[0]),
    st.floats(0.3, 1),
)
def test_any_rising_hinges_are_within_a_count(hinges, keep):
    fn, total = Expr("Mul", (X, const(0.2))), 0.2
    for at, slope in sorted(hinges):
        hinge = clip(Expr("Sub", (X, const(at / 8))), 0, math.inf)
        fn, total = Expr("Add", (fn, Expr("Mul", (hinge, const(slope / 8 - total))))), slope / 8
    fn = clip(fn, -4, 7)
    y = fn(np.linspace(-5, 5, 500))
    assert table(fn, -5, 5, y.min() * keep, y.max() * keep).worst <= 1.01


@pytest.mark.parametrize(
    ("op", "attrs", "bound"),
    [
        ("Sigmoid", {}, 2.0),
        ("Tanh", {}, 2.0),
        ("HardSwish", {}, 2.5),
        ("Mish", {}, 2.5),
        ("Silu", {}, 2.5),
        ("Elu", {"alpha": 1.0}, 1.2),
        ("Softplus", {}, 1.2),
    ],
)
def test_curves_are_close(op, attrs, bound):
    fn = from_op(op, attrs)
    assert fn is not None
    y = fn(np.linspace(-6, 6, 500))
    found = table(fn, -6, 6, y.min(), y.max(), np.random.default_rng(0).uniform(-6, 6, 4000))
    assert found.segments <= 16
    assert found.worst <= bound
    assert found.mean <= 0.45

"""The native loops of quantisation against their twins in NumPy."""

from contextlib import ExitStack
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.lower.ops import POOLS
from openkpu.quantize import layer, native, ranges, rounding, segment_fit, statistics, taps, weights

pytestmark = pytest.mark.skipif(native.loops() is None, reason="the native module is not built")
MODULES = (layer, ranges, rounding, segment_fit, statistics, taps, weights)


def both(function):
    """What the native loops give, and what NumPy gives."""
    fast = function()
    with ExitStack() as stack:
        for module in MODULES:
            stack.enter_context(mock.patch.object(module, "loops", return_value=None))
        return fast, function()


@st.composite
def maps(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(4, 19)), draw(st.integers(4, 19)))
    if draw(st.booleans()):
        return rng.integers(0, 256, shape, np.uint8)
    return (rng.normal(size=shape) * 10).astype(np.float32)


@given(maps(), st.sampled_from([1, 3]), st.sampled_from(sorted(POOLS)))
@settings(max_examples=120)
def test_tap_means(x, kernel, pool):
    pad = np.arange(x.shape[1]) * 0.25
    fast, plain = both(lambda: taps.tap_means(x, kernel, pool, pad))
    np.testing.assert_allclose(fast, plain, rtol=1e-12, atol=1e-12)


@given(maps(), st.sampled_from([1, 3]), st.sampled_from(sorted(POOLS)), st.integers(1, 60))
@settings(max_examples=120)
def test_windows(x, kernel, pool, most):
    with mock.patch.object(rounding, "MOST_COLUMNS", most):
        fast, plain = both(lambda: rounding._windows(x.astype(np.uint8), kernel, 7, pool))
    np.testing.assert_allclose(fast, plain, rtol=1e-6, atol=1e-4)


@given(maps())
def test_statistics(x):
    def look():
        s = statistics.Statistics((1, *x.shape[1:]), len(x))
        assert all(s.add(picture.astype(np.float32)) for picture in x)
        return s.low, s.high, s.values()

    for fast, plain in zip(*both(look), strict=True):
        np.testing.assert_array_equal(fast, plain)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 8, 20])
def test_statistics_see_what_is_not_finite(value, place):
    x = np.zeros((1, 3, 7), np.float32)
    x.reshape(-1)[place] = value
    fast, plain = both(lambda: statistics.Statistics(x.shape, 1).add(x))
    assert fast is plain is False


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1, 4, 9, 37]))
def test_weight_scales_and_products(seed, rows, n):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(rows, n)) * rng.uniform(0, 2, (rows, 1)) * (rng.random((rows, n)) < 0.7)
    fast, plain = both(lambda: weights.scales(w))
    np.testing.assert_allclose(fast, plain, rtol=1e-12)
    q = weights.quantize(w, plain)
    for means, apart in ((rng.normal(size=n), False), (rng.normal(size=(rows, n)), True)):
        for a, b in zip(*both(lambda m=means, o=apart: weights.weigh(q, m, apart=o)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([1, 9, 40, 70]), st.booleans())
@settings(max_examples=40)
def test_feedback(seed, d, depthwise):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3 if depthwise else 1, d, d + 3))
    factor = rounding._factor(x @ x.transpose(0, 2, 1), 0.05)
    w = rng.uniform(-120, 120, (3, 1, d) if depthwise else (1, 4, d)).astype(np.float32)
    fast, plain = both(lambda: rounding._feedback(w, factor))
    # the same operations in the same order
    np.testing.assert_array_equal(fast, plain)


@given(st.integers(0, 10**6), st.integers(2, 60))
@settings(max_examples=40)
def test_segments(seed, n):
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.1, 2, n))
    target, weight = 128 + 100 * np.sin(x / 4 * rng.uniform(0.1, 1)), rng.uniform(0.1, 1, n)
    fast, plain = both(lambda: segment_fit.fit(x, target, weight))
    assert fast == plain


@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 300))
def test_largest_and_histogram(seed, n, count):
    v = np.random.default_rng(seed).normal(size=n).astype(np.float32)
    fast, plain = both(lambda: ranges._largest(v, min(n, count)))
    np.testing.assert_array_equal(fast, plain)
    fast, plain = both(lambda: ranges._histogram(v, -1.0, 2.5))
    np.testing.assert_array_equal(fast, plain)
    assert fast.sum() == n
    share = count / 301
    assert ranges._tail(v, share) == pytest.approx(np.quantile(v.astype(np.float64), 1 - share), abs=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([2.0**16, 2.0**9]))
@settings(max_examples=60)
def test_batch_norm(seed, n, units):
    rng = np.random.default_rng(seed)
    scale, out = 10 ** rng.uniform(-7, 3, n), 10 ** rng.uniform(-4, 2, n)
    scale[rng.random(n) < 0.2] = 2.0 ** -float(rng.integers(0, 20))
    sums = rng.integers(0, 10**6, n), -rng.integers(0, 10**6, n)
    (fast, fast_sizes), (plain, plain_sizes) = both(
        lambda: layer.batch_norm(scale, out, rng.normal(size=n) * 0 + 1.5, sums, units, 77)
    )
    assert fast_sizes == plain_sizes
    for name in ("mul", "add", "shift"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(plain, name))


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_costs_of_clipping(seed):
    rng = np.random.default_rng(seed)
    counts, edges = np.histogram(rng.normal(size=5000) * 3 + rng.normal(), 512)
    centers = (edges[1:] + edges[:-1]) / 2
    counts = counts.astype(np.float64)
    low, high = sorted(rng.choice(centers, 2, replace=False))
    for cost in (ranges._squared_error, ranges._divergence):
        fast, plain = both(lambda c=cost: c(counts, centers, float(low), float(high)))
        assert fast == pytest.approx(plain, rel=1e-9)

"""The scales of weights, and the factors of error feedback, against plain computations."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.quantize import rounding, weights


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_rows_with_few_weights_get_the_best_of_96_scales(seed):
    rng = np.random.default_rng(seed)
    w = np.zeros((5, 12), np.float32)
    for row in w:
        row[rng.permutation(12)[: rng.integers(1, 5)]] = rng.choice([0.5, 1.0, -0.25, rng.normal()])
    top = np.maximum(w.max(1) / 127, -w.min(1) / 128).astype(np.float64)

    def error(row, scale):
        return float(((np.clip(np.rint(row / np.float32(scale)), -128, 127) * np.float32(scale) - row) ** 2).sum())

    for row, base, scale in zip(w, top, weights.scales(w), strict=True):
        assert error(row, scale) <= min(error(row, base * 127 / k) for k in range(127, 31, -1)) * (1 + 1e-5) + 1e-12


def test_an_identity_is_exact():
    w = np.eye(7, 63, dtype=np.float32) * 0.3
    q = weights.quantize(w, weights.scales(w))
    np.testing.assert_allclose(q * weights.scales(w)[:, None], w, rtol=1e-6)


@given(st.integers(0, 10**6), st.sampled_from([1, 9, 64, 65, 200]))
@settings(max_examples=20)
def test_factors_take_the_second_moments_apart(seed, d):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, d, d + 5))
    h = x @ x.transpose(0, 2, 1)
    factor = rounding._factor(h, 0.05).astype(np.float64)
    assert np.array_equal(factor, np.triu(factor))
    np.testing.assert_allclose(np.einsum("bii->bi", factor), 1)
    damped = h + np.eye(d) * (0.05 * np.einsum("bii->bi", h).mean(1) + 1e-6)[:, None, None]
    # damped = factor @ diagonal @ factor.T
    rest = np.linalg.solve(factor, damped)
    rest = np.linalg.solve(factor, rest.transpose(0, 2, 1))
    diagonal = np.einsum("bii->bi", rest)
    assert (diagonal > 0).all()
    size = np.sqrt(diagonal[:, :, None] * diagonal[:, None, :])
    np.testing.assert_allclose((rest - np.eye(d) * diagonal[:, None, :]) / size, 0, atol=1e-4)

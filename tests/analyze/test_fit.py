import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from openkpu.analyze.fit import ChannelFit, Direct


def fitted(value, reference):
    """The same by numpy's least squares, in one go."""
    out = np.empty(reference.shape)
    for c in range(len(value)):
        u, r = value[c].ravel().astype(float), reference[c].ravel().astype(float)
        a = np.stack([u, np.ones_like(u)], 1)
        out[c] = (a @ np.linalg.lstsq(a, r, rcond=None)[0]).reshape(value[c].shape)
    return out


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 5))
def test_equals_least_squares(seed, noise):
    rng = np.random.default_rng(seed)
    u = rng.integers(0, 256, (3, 6, 5), np.uint8)
    r = u * np.array([0.1, 2.0, -0.5])[:, None, None] + rng.normal(0, noise, u.shape) + 7
    fit = ChannelFit(3)
    for half in (slice(0, 3), slice(3, 6)):  # added in two pictures
        fit.add(u[:, half], r[:, half])
    like, best = fit.result(), fitted(u, r)
    assert like.snr_db == pytest.approx(10 * np.log10((r**2).sum() / ((r - best) ** 2).sum()), abs=1e-3)
    assert like.cosine == pytest.approx((r * best).sum() / np.sqrt((r**2).sum() * (best**2).sum()), abs=1e-6)


@given(arrays(np.uint8, (2, 9)), st.floats(0.01, 10), st.floats(-10, 10))
def test_a_pure_scale_and_offset_is_no_error(u, scale, offset):
    fit = ChannelFit(2)
    fit.add(u, u * scale + offset)
    assert fit.result().snr_db > 90


def test_a_constant_channel_gets_an_offset_only():
    fit = ChannelFit(1)
    fit.add(np.full((1, 4), 9, np.uint8), np.array([[1.0, 1.0, 3.0, 3.0]]))
    assert fit.result().snr_db == pytest.approx(10 * math.log10(20 / 4))


def test_direct_comparison():
    d = Direct()
    d.add(np.array([3.0, 4.0]), np.array([3.0, 5.0]))
    assert d.result().snr_db == pytest.approx(10 * math.log10(34))
    assert d.result().cosine == pytest.approx(29 / math.sqrt(34 * 25))
    same = Direct()
    same.add(np.ones(3), np.ones(3))
    assert same.result().snr_db == math.inf
    silent = Direct()
    silent.add(np.ones(3), np.zeros(3))
    assert silent.result().snr_db == -math.inf

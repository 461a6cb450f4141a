"""Blocks cover every pixel of a side exactly once, through two layers that know nothing outside the map."""

import numpy as np
import pytest

from openkpu.passes.block_means import blocks


def layer(x, taps):
    """A row of pixels through a layer with three taps; outside are zeros."""
    wide = np.pad(x, 1)
    return taps[0] * wide[:-2] + taps[1] * wide[1:-1] + taps[2] * wide[2:]


@pytest.mark.parametrize("n", range(4, 130))
def test_every_pixel_counts_once(n):
    b = blocks(n)
    weights = []
    for pixel in np.eye(n):
        y = layer(layer(pixel, b.taps[0]), b.taps[1])
        weights.append(sum(y[b.first + b.stride * i] for i in range(b.count)))
    assert weights == [1] * n
    assert b.count <= -(-n // 3)


def test_small_sides_have_none():
    assert blocks(3) is None

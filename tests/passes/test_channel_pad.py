"""Zeros beside the channels become a 1x1 convolution; other pads stay."""

import numpy as np
import pytest
from graph_builders import Builder

from openkpu.float.session import FloatSession
from openkpu.passes.channel_pad import channel_pad


@pytest.mark.parametrize("pads", [(0, 0, 0, 0, 0, 4, 0, 0), (0, 2, 0, 0, 0, 1, 0, 0)])
def test_same_numbers(pads: tuple[int, ...]) -> None:
    b = Builder(1, 3, 5, 6)
    g = b.graph(b.op("Pad", [b.x], (1, 3 + pads[1] + pads[5], 5, 6), pads=pads, value=0.0))
    x = np.random.default_rng(0).standard_normal((1, 3, 5, 6)).astype(np.float32)
    name = g.outputs[0].name
    before = FloatSession(g).run(x)[name]
    channel_pad(g)
    assert [n.op for n in g.nodes] == ["Conv"]
    np.testing.assert_array_equal(FloatSession(g).run(x)[name], before)


@pytest.mark.parametrize(("pads", "value"), [((0, 0, 1, 0, 0, 4, 0, 0), 0.0), ((0, 0, 0, 0, 0, 4, 0, 0), 1.0)])
def test_other_pads_stay(pads: tuple[int, ...], value: float) -> None:
    b = Builder(1, 3, 5, 6)
    g = b.graph(b.op("Pad", [b.x], (1, 7, 5 + pads[2], 6), pads=pads, value=value))
    channel_pad(g)
    assert [n.op for n in g.nodes] == ["Pad"]

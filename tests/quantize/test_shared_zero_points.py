"""Parts of concatenations that padded convolutions read have one zero point, and keep their accuracy."""

import numpy as np
import pytest
from graph_builders import Builder

from openkpu.compiler import compile
from openkpu.float.export import to_onnx


def snr(channels, make, target, mean=127.5):
    b = Builder(1, channels, 8, 8)
    graph = b.graph(make(b))
    x = list(np.random.default_rng(0).integers(0, 256, (4, channels, 8, 8), np.uint8))
    model = to_onnx(graph).SerializeToString()
    c = compile(model, calibration=x, mean=mean, std=64.0, target=target)
    return c, c.report.calibration_snr_db


@pytest.mark.parametrize("target", ["v3", "v4", "v5"])
def test_a_map_twice_in_a_concatenation(target):
    """V4 and V5 copy such maps on the CPU: the padding of the layer behind is the zero point of all of them."""

    def make(b):
        a, other = b.relu(b.conv(b.x, 5)), b.conv(b.x, 3)
        return b.conv(b.concat(a, other, a), 4)

    assert snr(3, make, target)[1] > 30
    assert snr(3, lambda b: b.conv(b.concat(b.x, b.conv(b.x, 3), b.x), 4), target)[1] > 30


@pytest.mark.parametrize("target", ["v3", "v4", "v5"])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_picture_without_values_below_0_beside_a_map_of_both_signs(channels, target):
    """The zero point of the picture is at the end of its range, where the other map has no room."""
    _, db = snr(channels, lambda b: b.conv(b.concat(b.x, b.conv(b.x, channels)), 4), target, mean=0.0)
    assert db > 30


def test_a_map_in_many_concatenations_is_changed_once():
    """Every change of a zero point costs some of the scale; a wide depthwise kernel makes a concatenation a part."""

    def make(b):
        return b.conv(b.relu(b.depthwise(b.conv(b.x, 96, 1), 5)), 3, 1)

    c, db = snr(3, make, "v3")
    widest = c.quantized.params[id(c.lowered.nodes[0].output)].scale.max()
    assert 255 * widest < 20  # values around +-3
    assert db > 20

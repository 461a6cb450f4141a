"""A KPU layer that copies its input byte for byte."""

from __future__ import annotations

import numpy as np

from openkpu.kpu.layer import KpuLayer
from openkpu.quantize.activation_table import Met
from openkpu.quantize.layer import LayerSpec, make_layer
from openkpu.quantize.params import QParams


def identity_layer(shape: tuple[int, ...], weight_bits: int = 8) -> KpuLayer:
    """Return the layer for uint8 maps (c, h, w); depthwise where there is more than one channel."""
    c, h, w = shape
    same = QParams.uniform(1.0, 0, c)
    spec = LayerSpec((c, h, w), np.ones((c, 1, 1, 1)), np.zeros(c), None, "none", c > 1, "copy")
    return make_layer(spec, same, same, met=Met((0.0, 255.0)), weight_bits=weight_bits).layer

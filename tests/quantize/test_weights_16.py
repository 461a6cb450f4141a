"""Weights of 16 bits: the layer, its registers, the whole file."""

import numpy as np
import pytest
from graph_builders import Builder
from hypothesis import given, settings
from hypothesis import strategies as st

import openkpu
from openkpu.compiler import compile
from openkpu.errors import InputError
from openkpu.float.export import to_onnx
from openkpu.k210 import ACCUMULATOR_BITS, WEIGHT_LOAD_BYTES_16
from openkpu.kmodel.program import KpuConv
from openkpu.quantize.activation_table import Met
from openkpu.quantize.execute import Scratch
from openkpu.quantize.layer import LayerSpec, make_layer
from openkpu.quantize.params import QParams, from_range

PICTURES = list(np.random.default_rng(1).integers(0, 256, (16, 3, 12, 12), np.uint8))


def network() -> bytes:
    b = Builder(1, 3, 12, 12)
    y = b.conv(b.conv(b.x, 8, 3), 5, 3)
    return to_onnx(b.graph(y)).SerializeToString()


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([1, 3]), st.integers(0, 255))
@settings(max_examples=40)
def test_a_layer_is_exact_but_for_the_rounding_of_its_output(seed, depthwise, k, zero_point):
    rng = np.random.default_rng(seed)
    c = int(rng.integers(1, 40))
    oc = c if depthwise else int(rng.integers(1, 8))
    w = rng.normal(size=(oc, 1 if depthwise else c, k, k)) * 10 ** rng.uniform(-3, 1, (oc, 1, 1, 1))
    spec = LayerSpec((c, 5, 6), w, rng.normal(size=oc), None, "none", depthwise and c > 1, "it")
    if spec.depthwise != depthwise:
        return
    qin = QParams.uniform(0.02, zero_point, c)
    x = rng.integers(0, 256, (2, c, 5, 6), np.uint8)
    real = np.pad(qin.dequantize(x).astype(np.float64), ((0, 0), (0, 0), (k // 2,) * 2, (k // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(real, (k, k), (2, 3))
    y = np.einsum("nchwij,cij->nchw" if depthwise else "nchwij,ocij->nohw", windows, w[:, 0] if depthwise else w)
    y += spec.b[:, None, None]
    qout = from_range(float(y.min()), float(y.max()), oc)
    made = make_layer(spec, qin, qout, met=Met((float(y.min()), float(y.max()))), weight_bits=16)
    assert made.layer.weights.dtype == np.uint16
    assert max(made.conv_bits, made.bn_bits) <= ACCUMULATOR_BITS
    want = np.clip(y / qout.scale[:, None, None] + qout.zero_point, 0, 255)
    assert np.abs(Scratch().run(made.layer, x) - want).max() < 0.6


def test_a_load_brings_as_many_channels_as_with_8_bits():
    spec = LayerSpec((512, 4, 4), np.ones((64, 512, 3, 3)), np.zeros(64), None, "none", False, "wide")
    q = QParams.uniform(0.1, 0, 512)
    made = {
        bits: make_layer(spec, q, QParams.uniform(9.0, 0, 64), met=Met((0, 9)), weight_bits=bits) for bits in (8, 16)
    }
    r8, r16 = (made[bits].layer.registers for bits in (8, 16))
    assert r16.o_ch_num_coef == r8.o_ch_num_coef
    assert r16.load_time == r8.load_time
    assert r16.para_size == 2 * r8.para_size <= WEIGHT_LOAD_BYTES_16


def test_a_file_has_16_bits_throughout_and_says_what_they_gain(tmp_path):
    compiled = compile(network(), calibration=PICTURES, mean=127.5, std=64.0, weight_bits=16)
    layers = [s.layer for s in compiled.model.steps if isinstance(s, KpuConv)]
    assert layers
    assert all(layer.weights.dtype == np.uint16 for layer in layers)
    assert compiled.report.weight_bits == 16
    assert compiled.report.weight_gain_db is not None
    assert any("16-bit" in w for w in compiled.report.warnings)
    path = tmp_path / "net.kmodel"
    compiled.save(path)
    again = openkpu.load(path)
    for a, b in zip(again.run(PICTURES[0], engine="reference"), compiled.model.run(PICTURES[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    small = compile(network(), calibration=PICTURES, mean=127.5, std=64.0)
    assert small.report.weight_gain_db is None
    assert len(small.model.to_bytes()) < path.stat().st_size
    assert openkpu.profile(again).total.us >= openkpu.profile(small.model).total.us


def test_v5_has_no_16_bit_weights():
    with pytest.raises(InputError) as caught:
        compile(network(), calibration=PICTURES, target="v5", weight_bits=16)
    assert caught.value.code == "E414"
    assert "V5" in caught.value.why

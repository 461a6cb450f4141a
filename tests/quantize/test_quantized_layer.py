"""A quantised layer against float arithmetic, its fields, and the proof that it stays in 36 bits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.errors import UnsupportedError
from openkpu.graph.elementwise import X, clip
from openkpu.kpu import engine, fmap
from openkpu.kpu.monitor import Monitor
from openkpu.quantize.activation_table import Met
from openkpu.quantize.execute import Scratch
from openkpu.quantize.layer import LayerSpec, batch_norm, make_layer
from openkpu.quantize.params import QParams, from_range

RELU = clip(X, 0, float("inf"))


def reference(spec: LayerSpec, x: np.ndarray) -> np.ndarray:
    """The layer in float64 on real inputs (C, H, W), before pooling."""
    k = spec.w.shape[2]
    r = k // 2
    padded = np.pad(x, ((0, 0), (r, r), (r, r)))
    _, h, w = x.shape
    out = np.zeros((len(spec.w), h, w))
    for i in range(k):
        for j in range(k):
            part = padded[:, i : i + h, j : j + w]
            taps = spec.w[:, :, i, j]
            out += taps[:, 0, None, None] * part if spec.depthwise else np.tensordot(taps, part, 1)
    out += spec.b[:, None, None]
    return spec.fn(out) if spec.fn is not None else out


@st.composite
def layers(draw):
    depthwise = draw(st.booleans())
    c = draw(st.integers(1, 6))
    oc = c if depthwise else draw(st.integers(1, 6))
    k = draw(st.sampled_from([1, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    w = rng.normal(size=(oc, 1 if depthwise else c, k, k)) * rng.uniform(0.01, 3, (oc, 1, 1, 1))
    spec = LayerSpec((c, 5, 6), w, rng.normal(size=oc), draw(st.sampled_from([None, RELU])), "none", depthwise, "it")
    qin = QParams(rng.uniform(0.01, 0.05, c), draw(st.integers(0, 255)), np.zeros(c))
    x = rng.integers(0, 256, (3, c, 5, 6), np.uint8)
    y = np.stack([reference(spec, p) for p in qin.dequantize(x).astype(np.float64)])
    qout = from_range(float(y.min()), float(y.max()), oc)
    scale = qout.scale * rng.uniform(0.5, 1, oc) if draw(st.booleans()) else qout.scale
    return spec, qin, QParams(scale, qout.zero_point, qout.offset), x, y


@given(layers())
@settings(max_examples=60)
def test_layer_equals_float_arithmetic(case):
    spec, qin, qout, x, y = case
    made = make_layer(spec, qin, qout, met=Met((float(y.min()), float(y.max()))))
    got = Scratch().run(made.layer, x)
    want = np.clip(y / qout.scale[:, None, None] + qout.zero_point, 0, 255)
    # the inputs' counts times half a weight step, summed, and the rounding of the output
    steps = np.abs(spec.w).reshape(len(spec.w), -1)
    slack = (steps.max(1) / 127 * np.sqrt(steps.shape[1]) * 255 * qin.scale.max() / qout.scale)[:, None, None]
    assert (np.abs(got - want) <= 1.01 + slack).all()


@given(layers(), st.integers(0, 100))
@settings(max_examples=40)
def test_no_input_leaves_the_proven_bits(case, seed):
    spec, qin, qout, _, y = case
    made = make_layer(spec, qin, qout, met=Met((float(y.min()), float(y.max()))))
    rng = np.random.default_rng(seed)
    ai = np.zeros(1 << 21, np.uint8)
    monitor = Monitor()
    for x in (rng.integers(0, 256, spec.shape, np.uint8), rng.choice(np.array([0, 255], np.uint8), spec.shape)):
        fmap.store(ai, 0, x)
        placed = replace(made.layer, registers=replace(made.layer.registers, image_dst_addr=1024))
        engine.run_layer(placed, ai, monitor=monitor)
    assert monitor.clean
    for low, high, bits in (
        (monitor.conv_min, monitor.conv_max, made.conv_bits),
        (monitor.bn_min, monitor.bn_max, made.bn_bits),
    ):
        assert low is not None
        assert high is not None
        assert -(1 << (bits - 1)) <= low <= high < 1 << (bits - 1)
    assert max(made.conv_bits, made.bn_bits) <= 36


@given(st.lists(st.floats(1e-6, 2**23 - 2), min_size=1, max_size=8))
def test_batch_norm_numbers(gains):
    gain = np.array(gains)
    nothing = np.zeros(len(gain), np.int64)
    bn, sizes = batch_norm(gain, np.ones_like(gain), gain, (nothing, nothing), 1.0, 0)
    mul, shift = bn.mul, bn.shift
    assert sizes.gain == gain.max()
    np.testing.assert_array_equal(bn.add, np.rint(gain))
    assert mul.min() >= 0
    assert mul.max() < 2**23
    assert shift.min() >= 0
    assert shift.max() <= 15
    np.testing.assert_allclose(mul / 2.0**shift, gain, rtol=2.0**-22, atol=2.0**-16)


def test_identity_copies_every_byte():
    same = QParams.uniform(0.02, 13, 4)
    spec = LayerSpec((4, 8, 8), np.ones((4, 1, 1, 1)), np.zeros(4), None, "none", True, "copy")
    x = np.arange(256, dtype=np.uint8).reshape(1, 4, 8, 8)
    made = make_layer(spec, same, same, met=Met((-0.26, 4.84)))
    np.testing.assert_array_equal(Scratch().run(made.layer, x), x)


def test_numbers_out_of_all_proportion_are_refused():
    spec = LayerSpec((1, 4, 4), np.ones((1, 1, 1, 1)), np.array([1e12]), None, "none", False, "huge")
    p = QParams.uniform(1e-3, 0, 1)
    with pytest.raises(UnsupportedError) as caught:
        make_layer(spec, p, p, met=Met((0, 1)))
    assert caught.value.code == "E230"
    assert "huge" in caught.value.where

"""Each operator against the runtime's C loop, written out element by element in float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openkpu.kmodel.program import Activation, QuantizedTerm
from openkpu.ops import elementwise, fully_connected, movement, normalize, pool, quantize

F = np.float32
floats = st.floats(-1000, 1000, width=32)
vector = hnp.arrays(np.float32, st.integers(1, 40), elements=floats)
i32 = st.integers(-(2**31), 2**31 - 1)


@given(vector, st.floats(0.0078125, 10, width=32), floats)
def test_quantize(x: np.ndarray, scale: float, bias: float) -> None:
    inverse = F(1) / F(scale)
    want = []
    for value in x:
        v = float((value - F(bias)) * inverse)
        want.append(min(255, max(0, math.copysign(math.floor(abs(v) + 0.5), v))))
    np.testing.assert_array_equal(quantize.quantize(x, scale, bias), np.array(want, np.uint8))


def test_quantize_rounds_halves_away_from_zero_and_survives_nan() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, 254.5, 255.5, 1e30, -1e30, np.nan, np.inf, -np.inf], F)
    want = [1, 2, 3, 0, 255, 255, 255, 0, 255, 255, 0]
    np.testing.assert_array_equal(quantize.quantize(x, 1.0, 0.0), want)


def test_quantize_just_below_a_half() -> None:
    below = np.nextafter(F(0.5), F(0))
    assert quantize.quantize(np.array([below], F), 1.0, 0.0)[0] == 0


def test_dequantize() -> None:
    x = np.arange(256, dtype=np.uint8)
    want = [F(v) * F(0.1) + F(-3.3) for v in range(256)]
    np.testing.assert_array_equal(quantize.dequantize(x, 0.1, -3.3), np.array(want, F))
    scale, bias = np.array([0.5, 2], F), np.array([1, -1], F)
    got = quantize.channelwise_dequantize(x[:6].reshape(2, 3), scale, bias)
    np.testing.assert_array_equal(got, np.array([[1, 1.5, 2], [5, 7, 9]], F))


@given(st.binary(min_size=256, max_size=256), st.binary(min_size=1))
def test_requantize(table: bytes, data: bytes) -> None:
    got = quantize.requantize(np.frombuffer(data, np.uint8), table)
    assert got.tobytes() == bytes(table[v] for v in data)


def _carry(value: int, shift: int) -> int:
    """The runtime's kpu_carry_shift on Python integers."""
    if shift == 0:
        return value
    value >>= shift - 1
    if value & 1:
        return (value >> 1) - 1 if value < 0 else (value >> 1) + 1
    return value >> 1


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20), st.integers(0, 62))
def test_carry_shift(values: list[int], shift: int) -> None:
    got = elementwise.carry_shift(np.array(values, np.int64), shift)
    assert got.tolist() == [_carry(v, shift) for v in values]


shifts = st.integers(0, 40)
terms = st.builds(QuantizedTerm, st.integers(-500, 500), i32, shifts)


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8), terms, terms, terms, st.booleans())
def test_quantized_add(a: bytes, b: bytes, ta: QuantizedTerm, tb: QuantizedTerm, to: QuantizedTerm, same: bool) -> None:
    if same:
        tb = QuantizedTerm(tb.offset, tb.mul, ta.shift)
    want = []
    for x, y in zip(a, b, strict=True):
        va, vb = (x + ta.offset) * ta.mul, (y + tb.offset) * tb.mul
        v = (va + vb) >> ta.shift if ta.shift == tb.shift else (va >> ta.shift) + (vb >> tb.shift)
        assume(abs(v * to.mul) < 2**63)
        want.append(min(255, max(0, _carry(v * to.mul, to.shift) + to.offset)))
    got = elementwise.quantized_add(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8), ta, tb, to)
    assert got.tolist() == want


def test_add_and_logistic() -> None:
    x = np.array([-200, -1, 0, 1, 200], F)
    np.testing.assert_array_equal(elementwise.add(x, x), x * 2)
    np.testing.assert_allclose(elementwise.logistic(x), 1 / (1 + np.exp(-x.astype(np.float64))), atol=1e-7)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=floats))
def test_global_average_pool_sums_in_order(x: np.ndarray) -> None:
    want = []
    for row in x:
        total = F(0)
        for v in row:
            total = total + v
        want.append(total / F(x.shape[1]))
    np.testing.assert_array_equal(pool.global_average_pool(x), np.array(want, F))


Pair = tuple[int, int]
Shape = tuple[int, int, int]


@st.composite
def windows(draw: st.DrawFn) -> tuple[Shape, Shape, Pair, Pair, Pair]:
    """Input (c, h, w), output (c, oh, ow), kernel, stride, padding (width, height); all windows touch the picture."""
    c, h, w = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    result = []
    for size in (w, h):
        kernel = draw(st.integers(1, 5))
        pad = draw(st.integers(0, kernel - 1))
        stride = draw(st.integers(1, 4))
        result.append((kernel, stride, pad, draw(st.integers(1, (size + pad - 1) // stride + 1))))
    (kw, sw, pw, ow), (kh, sh, ph, oh) = result
    return (c, h, w), (c, oh, ow), (kw, kh), (sw, sh), (pw, ph)


@given(windows(), st.integers(0, 99))
def test_windows(window: tuple, seed: int) -> None:
    (c, h, w), out, (kw, kh), (sw, sh), (pw, ph) = window
    x = np.random.default_rng(seed).integers(0, 256, (c, h, w)).astype(np.uint8)
    mean, best = np.empty(out, F), np.empty(out, np.uint8)
    for i, oy, ox in np.ndindex(*out):
        total, count, top = F(0), F(0), 0
        for ky in range(kh):
            for kx in range(kw):
                y, z = oy * sh - ph + ky, ox * sw - pw + kx
                if 0 <= y < h and 0 <= z < w:
                    total, count, top = total + F(x[i, y, z]), count + F(1), max(top, int(x[i, y, z]))
        mean[i, oy, ox], best[i, oy, ox] = total / count, top
    args = (out, (kw, kh), (sw, sh), (pw, ph))
    np.testing.assert_array_equal(pool.average_pool(x.astype(F), *args), mean)
    np.testing.assert_array_equal(pool.quantized_max_pool(x, *args), best)


@given(vector)
def test_softmax(x: np.ndarray) -> None:
    top = max(F(np.finfo(F).tiny), x.max())
    assume(x.max() > -80)  # below, the runtime divides 0 by 0
    e = np.exp(x - top)
    total = F(0)
    for v in e:
        total = total + v
    np.testing.assert_array_equal(normalize.softmax(x), e / total)


def test_softmax_does_not_shift_negative_logits() -> None:
    assert np.isnan(normalize.softmax(np.full(3, -200, F))).all()
    np.testing.assert_allclose(normalize.softmax(np.full(4, -50, F)), 0.25, rtol=1e-6)


@given(vector)
def test_l2_normalize(x: np.ndarray) -> None:
    total = F(0)
    for v in x:
        total = total + v * v
    want = x * (F(1) / np.sqrt(max(total, F(1e-10))))
    np.testing.assert_array_equal(normalize.l2_normalize(x), want)


@pytest.mark.parametrize("activation", list(Activation))
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_fully_connected(activation: Activation, ic: int, oc: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, b = rng.normal(size=ic).astype(F), rng.normal(size=(oc, ic)).astype(F), rng.normal(size=oc).astype(F)
    want = []
    for o in range(oc):
        total = F(0)
        for i in range(ic):
            total = total + x[i] * w[o, i]
        total = total + b[o]
        total = total if activation is Activation.LINEAR else max(total, F(0))
        want.append(min(total, F(6)) if activation is Activation.RELU6 else total)
    np.testing.assert_array_equal(fully_connected.fully_connected(x, w, b, activation), np.array(want, F))


def test_fully_connected_in_blocks() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=2000).astype(F), rng.normal(size=(300, 2000)).astype(F)
    got = fully_connected.fully_connected(x, w, np.zeros(300, F), Activation.LINEAR)
    np.testing.assert_array_equal(got, np.add.accumulate(w * x, axis=1)[:, -1])


@given(*[st.integers(1, 12)] * 4)
def test_resize_nearest(h: int, w: int, oh: int, ow: int) -> None:
    x = np.arange(2 * h * w, dtype=np.uint8).reshape(2, h, w)
    rows = [min(math.floor(F(y) * (F(h) / F(oh))), h - 1) for y in range(oh)]
    columns = [min(math.floor(F(c) * (F(w) / F(ow))), w - 1) for c in range(ow)]
    got = movement.resize_nearest(x, oh, ow)
    np.testing.assert_array_equal(got, [[[x[c, r, k] for k in columns] for r in rows] for c in range(2)])


def test_negative_padding_crops() -> None:
    x = np.arange(36, dtype=np.uint8).reshape(1, 6, 6)
    got = pool.quantized_max_pool(x, (1, 2, 3), (1, 1), (2, 2), (-1, -2))
    np.testing.assert_array_equal(got, x[:, 2::2, 1::2])


def test_movements() -> None:
    x = np.arange(24, dtype=F).reshape(2, 3, 4)
    flat = movement.flatten(x)
    assert flat.shape == (3, 4, 2)
    assert flat[1, 2, 1] == x[1, 1, 2]
    padded = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    assert movement.remove_padding(padded).tolist() == [0, 16, 32]

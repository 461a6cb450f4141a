"""Models that came quantised: their integers reach the chip, and its results are those of integer arithmetic.

The reference is TensorFlow Lite's: ``clamp(round(sum((x - zx) * (w - zw) + b) * sx * sw / sy) + zy)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tflite_reference as ref
from hypothesis import given
from hypothesis import strategies as st
from tflite_builder import Model, conv, depthwise, pool

import openkpu
from openkpu.compiler import Compiled, compile
from openkpu.errors import InputError, UnsupportedError
from openkpu.kmodel.program import KpuConv
from openkpu.quantize import weights

PIXELS = np.random.default_rng(6).integers(0, 256, (3, 12, 10), np.uint8)
SX, ZX, SY = 0.0078, 0, 0.05
RNG = np.random.default_rng()


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """The same random numbers whatever tests ran before."""
    RNG.bit_generator.state = np.random.default_rng(7).bit_generator.state


def signed() -> np.ndarray:
    """The picture as int8, (1, H, W, C)."""
    return (PIXELS.transpose(1, 2, 0)[None].astype(np.int64) - 128).astype(np.int8)


def requantised(acc: np.ndarray, factor: Any, zero: int, low: int, high: int) -> np.ndarray:
    return np.clip(np.floor(acc * factor + 0.5) + zero, low, high)


def run(c: Compiled) -> np.ndarray:
    return np.asarray(c.model.run(PIXELS)[0])


def close(got: np.ndarray, wanted: np.ndarray, *, equal: float = 0.97) -> None:
    """Integers that differ by at most one, and hardly ever."""
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= 1.01
    assert np.mean(np.abs(got - wanted) < 0.01) >= equal


def int8_conv(
    m: Model, x: int, q: np.ndarray, ws: np.ndarray, b: np.ndarray, shape: tuple[int, ...], **how: Any
) -> int:
    w = m.const(q, scale=ws, axis=0)
    bias = m.const(b, "int32", scale=SX * ws)
    return m.op("CONV_2D", [x, w, bias], shape, conv(how.pop("stride", 1), act=how.pop("act", 0)), dtype="int8", **how)


@pytest.mark.parametrize("act", [0, 1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_int8_with_a_scale_for_each_channel(stride: int, act: int) -> None:
    q = RNG.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    ws, b = RNG.uniform(0.001, 0.02, 8).astype(np.float32), RNG.integers(-900, 900, 8)
    zy = -10 if act == 0 else -128
    m = Model()
    x = m.input(1, 12, 10, 3, dtype="int8", scale=SX, zero=ZX)
    acc = ref.conv(signed().astype(np.int64) - ZX, q.astype(np.int64), stride) + b
    int8_conv(m, x, q, ws, b, acc.shape, stride=stride, act=act, scale=SY, zero=zy)
    c = compile(m.bytes())
    high = min(127, zy + round(6 / SY)) if act == 3 else 127
    wanted = requantised(acc, SX * ws / SY, zy, zy if act else -128, high)
    close(run(c) / SY + zy, wanted[0].transpose(2, 0, 1))
    assert c.report.calibration_pictures == 0
    assert c.report.calibration_snr_db is None
    if stride == 1:
        (layer,) = (s.layer for s in c.model.steps if isinstance(s, KpuConv))
        np.testing.assert_array_equal(
            layer.weights.astype(np.int64) + layer.registers.arg_x, q.astype(np.int64).transpose(0, 3, 1, 2)
        )


@pytest.mark.parametrize("zero", [128, 90, 180, 0, 255])
def test_convolution_uint8_with_any_zero_point_of_the_weights(zero: int) -> None:
    q = RNG.integers(0, 256, (8, 3, 3, 3)).astype(np.uint8)
    q[0, 0, 0, :2] = 0, 255
    m = Model()
    x = m.input(1, 12, 10, 3, dtype="uint8", scale=SX, zero=130)
    b = RNG.integers(-900, 900, 8)
    acc = ref.conv(PIXELS.transpose(1, 2, 0)[None].astype(np.int64) - 130, q.astype(np.int64) - zero) + b
    sy = float(np.abs(acc).max() * SX * 0.004 / 120)
    operands = [x, m.const(q, scale=0.004, zero=zero), m.const(b, "int32", scale=SX * 0.004)]
    m.op("CONV_2D", operands, acc.shape, conv(), dtype="uint8", scale=sy, zero=128)
    c = compile(m.bytes())
    wanted = requantised(acc, SX * 0.004 / sy, 128, 0, 255)
    close(run(c) / sy + 128, wanted[0].transpose(2, 0, 1))
    (layer,) = (s.layer for s in c.model.steps if isinstance(s, KpuConv))
    np.testing.assert_array_equal(
        layer.weights.astype(np.int64) + layer.registers.arg_x, q.astype(np.int64).transpose(0, 3, 1, 2) - zero
    )


def network() -> tuple[Model, np.ndarray]:
    """Convolution, depthwise, residual sum, pooling, mean, fully connected; and its integer outputs."""
    m = Model()
    x = m.input(1, 12, 10, 3, dtype="int8", scale=SX, zero=ZX)
    value = signed().astype(np.int64) - ZX

    def weights_of(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        channels = shape[3] if shape[0] == 1 else shape[0]
        return RNG.integers(-127, 128, shape).astype(np.int8), RNG.uniform(0.002, 0.01, channels).astype(np.float32)

    q1, s1 = weights_of(8, 3, 3, 3)
    y1 = requantised(ref.conv(value, q1.astype(np.int64)), SX * s1 / 0.02, -128, -128, 127)
    a = int8_conv(m, x, q1, s1, np.zeros(8, np.int64), y1.shape, act=1, scale=0.02, zero=-128)
    q2, s2 = weights_of(1, 3, 3, 8)
    y2 = requantised(ref.depthwise(y1 + 128, q2.astype(np.int64)), 0.02 * s2 / 0.03, 4, -128, 127)
    b = m.op("DEPTHWISE_CONV_2D", [a, m.const(q2, scale=s2, axis=3), m.const(np.zeros(8), "int32", scale=0.02 * s2)],
             y2.shape, depthwise(), dtype="int8", scale=0.03, zero=4)  # fmt: skip
    y3 = np.clip(np.floor(((y1 + 128) * 0.02 + (y2 - 4) * 0.03) / 0.04 + 0.5) - 20, -128, 127)
    s = m.op("ADD", [a, b], y3.shape, {}, dtype="int8", scale=0.04, zero=-20)
    y4 = ref.max_pool(y3, 2, 2, False)
    p = m.op("MAX_POOL_2D", [s], y4.shape, pool(2, 2), dtype="int8", scale=0.04, zero=-20)
    y5 = np.floor((y4 + 20).mean((1, 2)) * 0.04 / 0.03 + 0.5) - 9
    g = m.op(
        "MEAN", [p, m.const(np.array([1, 2], np.int32))], y5.shape, {0: ("u8", 0)}, dtype="int8", scale=0.03, zero=-9
    )
    qf = RNG.integers(-127, 128, (5, 8)).astype(np.int8)
    y6 = requantised((y5 + 9) @ qf.T.astype(np.int64), 0.03 * 0.01 / 0.1, 7, -128, 127)
    m.op("FULLY_CONNECTED", [g, m.const(qf, scale=0.01)], y6.shape, {0: ("i8", 0)}, dtype="int8", scale=0.1, zero=7)
    return m, y6


def test_a_network_needs_no_pictures() -> None:
    m, wanted = network()
    c = compile(m.bytes())
    got = np.clip(run(c) / 0.1 + 7, -128, 127)  # the CPU does not saturate
    assert np.abs(got - wanted[0]).max() <= 1.5  # a few layers of rounding
    assert compile(m.bytes()).model.to_bytes() == c.model.to_bytes()


def test_pictures_quantise_it_anew() -> None:
    m, _ = network()
    c = compile(m.bytes(), calibration=[PIXELS] * 4)
    assert c.report.calibration_pictures == 4
    assert "its own" not in c.report.way
    assert "its own" not in str(compile(m.bytes()).report.warnings)
    result = openkpu.compare(m.bytes(), compile(m.bytes()).model, [PIXELS] * 2)
    assert result.outputs[0].cosine > 0.95  # the float model does not saturate as the integers do
    assert result.mean == (128.0,) * 3


def test_a_function_between_layers_takes_its_range_from_the_file() -> None:
    q = RNG.integers(-127, 128, (4, 1, 1, 3)).astype(np.int8)
    m = Model()
    x = m.input(1, 12, 10, 3, dtype="int8", scale=SX, zero=ZX)
    ws = np.full(4, 0.02, np.float32)
    y = int8_conv(m, x, q, ws, np.zeros(4, np.int64), (1, 12, 10, 4), scale=0.06, zero=0)
    m.op("LOGISTIC", [y], (1, 12, 10, 4), dtype="int8", scale=1 / 256, zero=-128)
    real = ref.conv(signed().astype(np.int64), q.astype(np.int64)) * SX * 0.02
    wanted = np.clip(np.floor(256 / (1 + np.exp(-np.clip(real, -7.68, 7.62))) + 0.5), 0, 255)
    got = run(compile(m.bytes())) * 256
    assert np.abs(got - wanted[0].transpose(2, 0, 1)).max() <= 4


def test_a_slope_for_each_channel() -> None:
    """It becomes a layer in between, whose range follows from that of its input."""
    m = Model()
    x = m.input(1, 12, 10, 3, dtype="int8", scale=SX, zero=ZX)
    q = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    y = int8_conv(m, x, q, np.full(4, 0.01, np.float32), np.zeros(4, np.int64), (1, 12, 10, 4), scale=0.05)
    slope = np.array([-30, 20, 90, 7])
    m.op("PRELU", [y, m.const(slope.astype(np.int8), scale=0.01)], (1, 12, 10, 4), dtype="int8", scale=0.05)
    c = compile(m.bytes())
    acc = ref.conv(signed().astype(np.int64), q.astype(np.int64)) * 0.01 * SX / 0.05
    v = np.clip(np.floor(acc + 0.5), -128, 127)
    wanted = np.clip(np.where(v > 0, v, v * slope * 0.01), -128, 127)[0].transpose(2, 0, 1)
    assert np.abs(run(c) / 0.05 - wanted).max() <= 1.6  # two roundings
    assert c.report.calibration_pictures == 0


def test_sizes_without_pictures() -> None:
    m = Model()
    x = m.input(1, 12, 10, 3, dtype="int8", scale=SX, zero=ZX)
    q = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    y = int8_conv(m, x, q, np.full(4, 0.01, np.float32), np.zeros(4, np.int64), (1, 12, 10, 4), scale=0.05)
    m.op("ABS", [y], (1, 12, 10, 4), dtype="int8", scale=0.05, zero=-128)
    acc = ref.conv(signed().astype(np.int64), q.astype(np.int64)) * 0.01 * SX / 0.05
    wanted = np.abs(np.clip(np.floor(acc + 0.5), -128, 127))[0].transpose(2, 0, 1)
    assert np.abs(run(compile(m.bytes())) / 0.05 - wanted).max() <= 1.6


def test_ranges_that_the_file_does_not_tell() -> None:
    m = Model()
    x = m.input(1, 12, 10, 3, dtype="int8", scale=SX, zero=ZX)
    q = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    y = int8_conv(m, x, q, np.full(4, 0.01, np.float32), np.zeros(4, np.int64), (1, 12, 10, 4))
    w = m.const(RNG.integers(-127, 128, (4, 3, 3, 4)).astype(np.int8), scale=np.full(4, 0.01, np.float32), axis=0)
    m.op("CONV_2D", [y, w], (1, 12, 10, 4), conv(), dtype="int8", scale=0.05)
    with pytest.raises(UnsupportedError, match="calibration") as caught:
        compile(m.bytes())
    assert caught.value.code == "E293"
    assert compile(m.bytes(), calibration=[PIXELS] * 4).report.kpu_layers >= 2


def test_a_float_model_still_needs_pictures() -> None:
    m = Model()
    x = m.input(1, 12, 10, 3)
    m.op("CONV_2D", [x, m.const(RNG.standard_normal((4, 3, 3, 3)).astype(np.float32))], (1, 12, 10, 4), conv())
    with pytest.raises(InputError) as caught:
        compile(m.bytes())
    assert caught.value.code == "E410"


def test_a_float_input_before_quantize_is_the_pictures_bytes() -> None:
    q = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    m = Model()
    x = m.input(1, 12, 10, 3)
    first = m.op("QUANTIZE", [x], (1, 12, 10, 3), dtype="int8", scale=1 / 255, zero=-128)
    ws = np.full(4, 0.01, np.float32)
    b = np.zeros(4, np.int64)
    w, bias = m.const(q, scale=ws, axis=0), m.const(b, "int32", scale=ws / 255)
    y = m.op("CONV_2D", [first, w, bias], (1, 12, 10, 4), conv(), dtype="int8", scale=SY)
    m.op("DEQUANTIZE", [y], (1, 12, 10, 4))
    acc = ref.conv(signed().astype(np.int64) + 128, q.astype(np.int64))
    close(run(compile(m.bytes())) / SY, requantised(acc, 0.01 / 255 / SY, 0, -128, 127)[0].transpose(2, 0, 1))


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.floats(1e-6, 10), st.integers(1, 255))
def test_weights_on_a_grid_are_recognised(seed: int, columns: int, step: float, most: int) -> None:
    rng = np.random.default_rng(seed)
    q = rng.integers(-most, most + 1, (4, columns))
    w = (q * np.float32(step)).astype(np.float32)
    found = weights.on_grid(w)
    assert not np.isnan(found).any()
    back = np.rint(w / found[:, None]) * found[:, None]
    np.testing.assert_allclose(back, w, rtol=1e-5, atol=1e-9)
    assert np.abs(np.rint(w / found[:, None])).max() <= 255


def test_other_weights_are_on_no_grid() -> None:
    assert np.isnan(weights.on_grid(RNG.standard_normal((50, 27)))).all()

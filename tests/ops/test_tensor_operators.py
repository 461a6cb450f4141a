"""Known answers of the tensor operators, worked out by hand from the runtime's C loops, and the native twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import v4_builders
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.kmodel.operators import FLT_MAX, NO_CLAMP, BinaryOp, ReduceOp, ResizeMode, UnaryOp
from openkpu.kmodel.program import QuantizedTerm
from openkpu.ops import fast, tensor_elementwise, tensor_fixed, tensor_movement, tensor_reduce, tensor_window
from openkpu.runtime.session import Session

NAN, INF = float("nan"), float("inf")
Array = np.ndarray[Any, Any]


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def u8(*values: int) -> Array:
    return np.array(values, np.uint8)


def test_binary_clamps_and_broadcasts() -> None:
    a, b = f32(1, 2, 3, 4).reshape(1, 2, 1, 2), f32(10).reshape(1, 1, 1, 1)
    assert tensor_elementwise.binary(BinaryOp.SUB, a, b).tolist() == [[[[-9, -8]], [[-7, -6]]]]
    assert tensor_elementwise.binary(BinaryOp.MUL, a, b, (15, 35)).reshape(-1).tolist() == [15, 20, 30, 35]
    assert (
        tensor_elementwise.binary(BinaryOp.DIV, a, b * 0).reshape(-1).tolist() == [FLT_MAX] * 4
    )  # the clamp "none" still clamps


def test_minimum_and_maximum_with_nan_are_those_of_cpp() -> None:
    a, b = f32(NAN, 1), f32(1, NAN)
    for op in (BinaryOp.MIN, BinaryOp.MAX):
        first, second = tensor_elementwise.binary(op, a, b)
        assert np.isnan(first)
        assert second == 1


@pytest.mark.parametrize(
    ("op", "x", "y"),
    [
        (UnaryOp.ABS, -2.5, 2.5),
        (UnaryOp.CEIL, -1.5, -1),
        (UnaryOp.FLOOR, -1.5, -2),
        (UnaryOp.NEG, 3, -3),
        (UnaryOp.RSQRT, 4, 0.5),
        (UnaryOp.SQUARE, -3, 9),
        (UnaryOp.EXP, 0, 1),
        (UnaryOp.LOG, 1, 0),
        (UnaryOp.COS, 0, 1),
        (UnaryOp.SIN, 0, 0),
    ],
)
def test_unary(op: UnaryOp, x: float, y: float) -> None:
    result = tensor_elementwise.unary(op, f32(x))
    assert result.dtype == np.float32
    assert result.tolist() == [y]


def test_nnil_leaky_relu() -> None:
    code = bytes.fromhex("03 06 cdcccc3d 42 03 45 a0")  # max(x * 0.1, x)
    np.testing.assert_array_equal(
        tensor_elementwise.nnil(code, f32(-2, 0, 5)), f32(np.float32(-2) * np.float32(0.1), 0, 5)
    )


def test_quantize_halves() -> None:
    x = f32(0.5, 1.5, 2.5, -0.5, 254.5, 300, -7, 2.5)
    assert tensor_elementwise.quantize_simulator(x, 1, 0).tolist() == [1, 2, 3, 0, 255, 255, 0, 3]
    assert tensor_elementwise.quantize_device(x, 1, 0).tolist() == [0, 2, 2, 0, 254, 255, 0, 2]
    # the last of an odd number of values is rounded by another instruction on the device
    assert tensor_elementwise.quantize_device(x[:-1], 1, 0).tolist() == [0, 2, 2, 0, 254, 255, 0]
    assert tensor_elementwise.quantize_device(f32(2.5, 2.5, 2.5), 1, 0).tolist() == [2, 2, 3]


def test_quantize_of_what_fits_no_integer() -> None:
    x = f32(NAN, INF, -INF, 3e9, -3e9, 0)
    assert tensor_elementwise.quantize_simulator(x, 1, 7).tolist() == [0, 0, 0, 0, 0, 7]
    assert tensor_elementwise.quantize_device(x, 1, 7).tolist() == [255, 255, 0, 255, 0, 7]


def test_dequantize() -> None:
    x = u8(0, 3, 255)
    assert tensor_elementwise.dequantize_simulator(x, 2, 3).tolist() == [-1.5, 0, 126]
    assert tensor_elementwise.dequantize_device(x, 2, 3).tolist() == [-1.5, 0, 126]
    # the two orders of rounding differ in the last bit
    q, s = np.arange(256, dtype=np.uint8), 1 / 0.1
    assert (tensor_elementwise.dequantize_simulator(q, s, 77) != tensor_elementwise.dequantize_device(q, s, 77)).any()


def test_scale_and_shift_rounds_half_up() -> None:
    v = np.array([-3, -1, 1, 3, 5], np.int32)
    assert tensor_fixed.scale_and_shift(v, 1, 1).tolist() == [-1, 0, 1, 2, 3]
    assert tensor_fixed.scale_and_shift(v, 7, 0).tolist() == [-21, -7, 7, 21, 35]
    assert tensor_fixed.scale_and_shift(np.array([1 << 30], np.int32), 4, 0).tolist() == [0]  # cut to 32 bits


def test_divide_rounded() -> None:
    a, b = np.array([7, -7, 7, -7, 5], np.int32), np.array([2, 2, -2, -3, 0], np.int32)
    # (7 + 1) / 2, (-7 + 1) / 2, (7 - 1) / -2, (-7 - 1) / -3, by zero
    assert tensor_fixed.divide_rounded(a, b).tolist() == [4, -3, -3, 2, -1]


@pytest.mark.parametrize(
    ("op", "result"),
    [
        (BinaryOp.ADD, [30, 230]),
        (BinaryOp.SUB, [0, 190]),
        (BinaryOp.MUL, [200, 255]),
        (BinaryOp.DIV, [1, 11]),
        (BinaryOp.MIN, [10, 20]),
        (BinaryOp.MAX, [20, 210]),
    ],
)
def test_quantized_binary(op: BinaryOp, result: list[int]) -> None:
    a, b = u8(10, 210).reshape(1, 1, 1, 2), u8(15).reshape(1, 1, 1, 1)
    same, twenty = QuantizedTerm(0, 1, 0), QuantizedTerm(5, 2, 1)  # ((15 + 5) * 2 + 1) >> 1 = 20
    for function in (tensor_fixed.quantized_binary, fast.quantized_binary):
        assert function(op, a, b, same, twenty, same).reshape(-1).tolist() == result
        # a constant on the other side, and as many elements as the constant is repeated for
        both = np.broadcast_to(b, a.shape)
        assert function(op, a, both, same, twenty, same).reshape(-1).tolist() == result


def test_conv2d_by_hand() -> None:
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    weights, bias = np.ones((1, 1, 3, 3), np.float32), f32(0.5)
    how: dict[str, Any] = {"groups": 1, "stride": (2, 2), "dilation": (1, 1)}
    for summed in (tensor_window.taps, fast.taps):
        got = tensor_window.conv2d(x, weights, bias, pads=((1, 1), (1, 1)), summed=summed, **how)
        assert got.tolist() == [[[[8.5, 12.5], [20.5, 24.5]]]]
        # a negative padding crops: windows of the inner pixel only
        got = tensor_window.conv2d(x, weights[..., :1, :1], bias, pads=((-1, -1), (-1, -1)), summed=summed, **how)
        assert got.tolist() == [[[[4.5]]]]


def test_float_sums_run_in_the_order_of_the_loops() -> None:
    """1e8 + 1 - 1e8 is 0 in float32 and 1 in any better order."""
    x = f32(1e8, 1, -1e8).reshape(1, 3, 1, 1)
    weights, bias = np.ones((1, 3, 1, 1), np.float32), f32(0)
    for summed in (tensor_window.taps, fast.taps):
        how: dict[str, Any] = {
            "groups": 1,
            "pads": ((0, 0), (0, 0)),
            "stride": (1, 1),
            "dilation": (1, 1),
            "summed": summed,
        }
        assert tensor_window.conv2d(x, weights, bias, **how).item() == 0
    assert (
        tensor_reduce.reduce(ReduceOp.SUM, x, (1,), 0.0).item() == fast.reduce(ReduceOp.SUM, x, (1,), 0.0).item() == 0
    )
    a, ones = x.reshape(1, 3), np.ones((3, 1), np.float32)
    assert tensor_reduce.matmul(a, ones, bias).item() == fast.matmul(a, ones, bias).item() == 0


def test_conv2d_transpose_leaves_the_bias_out() -> None:
    x = f32(1, 2, 3, 4).reshape(1, 1, 2, 2)
    weights = f32(1, 10, 100, 1000).reshape(1, 1, 2, 2)
    got = tensor_window.conv2d_transpose(
        x, weights, (1, 1, 4, 4), groups=1, pads=((0, 0), (0, 0)), stride=(2, 2), dilation=(1, 1)
    )
    rows = [[1, 10, 2, 20], [100, 1000, 200, 2000], [3, 30, 4, 40], [300, 3000, 400, 4000]]
    assert got.tolist() == [[rows]]


def test_pooling_divides_by_the_valid_taps() -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    how: dict[str, Any] = {"kernel": (2, 2), "pads": ((1, 0), (1, 0)), "stride": (1, 1), "dilation": (1, 1)}
    assert tensor_window.reduce_window(ReduceOp.MEAN, x, init=0, **how).tolist() == [[[[0, 0.5], [1, 1.5]]]]
    assert tensor_window.reduce_window(ReduceOp.MAX, x, init=2, **how).tolist() == [[[[2, 2], [2, 3]]]]
    assert tensor_window.reduce_window(ReduceOp.MIN, x, init=FLT_MAX, **how).tolist() == [[[[0, 0], [0, 0]]]]
    assert tensor_window.reduce_window(ReduceOp.SUM, x, init=1, limits=(2, 5), **how).tolist() == [[[[2, 2], [3, 5]]]]


def test_pad_crops_and_fills() -> None:
    x = np.arange(1, 7, dtype=np.uint8).reshape(1, 1, 2, 3)
    assert tensor_movement.pad(x, ((0, 0), (0, 0), (1, -1), (-1, 2)), 9).tolist() == [[[[9, 9, 9, 9], [2, 3, 9, 9]]]]
    # a crop larger than the tensor leaves padding only
    assert tensor_movement.pad(x, ((0, 0), (0, 0), (0, 0), (-4, 2)), 9).tolist() == [[[[9], [9]]]]


def test_slice_with_a_negative_stride() -> None:
    x = np.arange(5).reshape(1, 1, 1, 5)
    got = tensor_movement.slice_tensor(x, (0, 0, 0, 4), (1, 1, 1, -1), (1, 1, 1, -2))
    assert got.reshape(-1).tolist() == [4, 2, 0]


def test_resize() -> None:
    x = f32(0, 10, 20, 30).reshape(1, 1, 2, 2)
    nearest = tensor_movement.resize(x, ResizeMode.NEAREST, 3, 3, align_corners=False)
    assert nearest.tolist() == [[[[0, 0, 10], [0, 0, 10], [20, 20, 30]]]]
    corners = tensor_movement.resize(x, ResizeMode.BILINEAR, 3, 3, align_corners=True)
    assert corners.tolist() == [[[[0, 5, 10], [10, 15, 20], [20, 25, 30]]]]
    asymmetric = tensor_movement.resize(x, ResizeMode.BILINEAR, 4, 4, align_corners=False)
    assert asymmetric[0, 0, 0].tolist() == [0, 5, 10, 10]
    cut = tensor_movement.resize(u8(0, 3).reshape(1, 1, 1, 2), ResizeMode.BILINEAR, 1, 4, align_corners=False)
    assert cut.reshape(-1).tolist() == [0, 1, 3, 3]  # 1.5 is cut


def test_reduce() -> None:
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 2, 2, 2)
    for reduce in (tensor_reduce.reduce, fast.reduce):
        assert reduce(ReduceOp.SUM, x, (1,), 0.5).tolist() == [[[[6.5, 8.5], [10.5, 12.5]]]]
        assert reduce(ReduceOp.MEAN, x, (2, 3), 0).tolist() == [[[[2.5]], [[6.5]]]]
        assert reduce(ReduceOp.MAX, x, (0, 1, 2, 3), 4).item() == 8
        assert reduce(ReduceOp.MIN, x, (3,), 4).reshape(-1).tolist() == [1, 3, 4, 4]


def test_softmax() -> None:
    got = tensor_reduce.softmax(f32(0, np.log(3)).reshape(1, 2), 1.0)
    np.testing.assert_allclose(got, [[0.25, 0.75]], rtol=1e-6)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["device", "simulator"]))
def test_native_twins_give_the_same_bits(seed: int, rounding: Any) -> None:
    """Every operator with random shapes, parameters and values, some of them NaN and infinite."""
    program = v4_builders.every_operator(seed)
    rng = np.random.default_rng(seed)
    inputs = []
    for o in program.inputs:
        if o.dtype.numpy == np.uint8:
            inputs.append(rng.integers(0, 256, o.shape).astype(np.uint8))
            continue
        x = (rng.normal(size=o.shape) * 10.0 ** rng.integers(-3, 12)).astype(np.float32)
        if rng.random() < 0.3:
            x.reshape(-1)[rng.integers(0, x.size, 3)] = rng.choice(f32(NAN, INF, -INF, 0.5), 3)
        inputs.append(x)
    results = [Session(program, engine=engine, rounding=rounding).run(*inputs) for engine in ("native", "reference")]  # type: ignore[arg-type]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_the_native_module_the_reference_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    program = v4_builders.every_operator(5)
    rng = np.random.default_rng(5)
    inputs = [rng.integers(0, 4, o.shape).astype(o.dtype.numpy) for o in program.inputs]
    results = [Session(program).run(*inputs)]
    monkeypatch.setattr(fast, "native", lambda: None)
    results.append(Session(program).run(*inputs))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_clamp_is_the_whole_range() -> None:
    assert NO_CLAMP == (-FLT_MAX, FLT_MAX)

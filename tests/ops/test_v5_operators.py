"""V5's tensor operators against plain loops, written as the runtime's kernels are."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from openkpu.errors import UnsupportedError
from openkpu.kmodel.operators import NO_CLAMP, BinaryOp, ReduceOp, ResizeMode, UnaryOp
from openkpu.ops import v5_elementwise, v5_movement, v5_reduce, v5_resize

F = np.float32
RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return RNG.standard_normal(shape).astype(F)


def test_quantize_rounds_halves_to_even_and_saturates() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, 254.5, 255.5, 1e30, -1e30, np.inf, -np.inf, np.nan], F)
    got = v5_elementwise.quantize_tensor(x, 1.0, 0.0, np.dtype(np.uint8))
    assert got.tolist() == [0, 2, 2, 0, 254, 255, 255, 0, 255, 0, 255]
    got = v5_elementwise.quantize_tensor(x[:4], 1.0, -10.0, np.dtype(np.int8))
    assert got.tolist() == [-10, -8, -8, -10]


def test_dequantize() -> None:
    got = v5_elementwise.dequantize_tensor(np.array([0, 3, 255], np.uint8), 0.5, -1.0)
    assert got.tolist() == [-1.0, 0.5, 126.5]


def test_binary_on_numbers_with_corners() -> None:
    a, b = np.array([1, np.nan, 1, np.inf], F), np.array([2, 2, np.nan, 0], F)
    assert v5_elementwise.binary(BinaryOp.MAX, a[:3], b[:3], NO_CLAMP).tolist()[::2] == [2, 1]
    assert np.isnan(v5_elementwise.binary(BinaryOp.MAX, a, b, NO_CLAMP)[1])
    assert v5_elementwise.binary(BinaryOp.ADD, a[3:], b[3:], NO_CLAMP).tolist() == [float(np.finfo(F).max)]
    assert v5_elementwise.binary(BinaryOp.ADD, a[:1], b[:1], (0.0, 2.5)).tolist() == [2.5]
    whole = np.array([7, -7, 5], np.int32), np.array([2, 2, 0], np.int32)
    assert v5_elementwise.binary(BinaryOp.DIV, *whole, NO_CLAMP).tolist() == [3, -3, 5]
    assert v5_elementwise.binary(BinaryOp.POW, np.array([2], F), np.array([10], F), NO_CLAMP).tolist() == [1024]
    assert v5_elementwise.binary(BinaryOp.LOGICAL_AND, a[:1], np.array([0], F), NO_CLAMP).tolist() == [0]


@pytest.mark.parametrize(
    ("op", "x", "y"),
    [
        (UnaryOp.ROUND, 2.5, 2.0),
        (UnaryOp.SIGN, -3.0, -1.0),
        (UnaryOp.RSQRT, 4.0, 0.5),
        (UnaryOp.LOGICAL_NOT, 0.0, 1.0),
        (UnaryOp.ERF, 0.5, 0.5204998778),
        (UnaryOp.TANH, 0.5, 0.4621171573),
        (UnaryOp.ACOS, 0.5, 1.0471975512),
        (UnaryOp.ASIN, 0.5, 0.5235987756),
        (UnaryOp.EXP, 1.0, 2.7182818285),
        (UnaryOp.LOG, 2.0, 0.6931471806),
        (UnaryOp.SQUARE, 3.0, 9.0),
        (UnaryOp.ABS, -3.0, 3.0),
    ],
)
def test_unary(op: UnaryOp, x: float, y: float) -> None:
    assert v5_elementwise.unary(op, np.array([x], F)).tolist() == [float(F(y))]


def test_every_unary_function_of_the_runtime_is_there() -> None:
    from openkpu.kmodel.v5_functions import UNARY_OPS

    assert {op.value for op in v5_elementwise.UNARY_OPS} == set(UNARY_OPS) - {"bitwise_not"}


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 2), (0, 1, 2)])
def test_reduce_adds_one_after_the_other(axes: tuple[int, ...]) -> None:
    x = floats(5, 17, 9)
    out = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    total = np.full(out, F(0.25))
    for index in product(*map(range, x.shape)):
        at = tuple(0 if i in axes else n for i, n in enumerate(index))
        total[at] = F(total[at] + x[index])
    np.testing.assert_array_equal(v5_reduce.reduce(ReduceOp.SUM, x, axes, 0.25, out), total)
    count = F(x.size // total.size)
    np.testing.assert_array_equal(v5_reduce.reduce(ReduceOp.MEAN, x, axes, 0.25, out), total / count)
    np.testing.assert_array_equal(v5_reduce.reduce(ReduceOp.MAX, x, axes, 0, out), x.max(axes, keepdims=True))
    np.testing.assert_array_equal(v5_reduce.reduce(ReduceOp.MIN, x, axes, 0, out), x.min(axes, keepdims=True))


def test_reduce_of_whole_numbers_cuts_the_mean() -> None:
    x = np.array([[1, 2, 4], [-1, -2, -4]], np.int64)
    assert v5_reduce.reduce(ReduceOp.MEAN, x, (1,), 0, (2,)).tolist() == [2, -2]


def test_resize_bilinear_by_hand() -> None:
    x = np.array([[0, 10], [20, 30]], F).reshape(1, 1, 2, 2)
    got = v5_resize.resize(ResizeMode.BILINEAR, x, (3, 3), align_corners=True, half_pixel_centers=False)
    assert got[0, 0].tolist() == [[0, 5, 10], [10, 15, 20], [20, 25, 30]]
    half = v5_resize.resize(ResizeMode.BILINEAR, x, (4, 4), align_corners=False, half_pixel_centers=True)
    assert half[0, 0, 1].tolist() == [5, 7.5, 12.5, 15]
    whole = v5_resize.resize(
        ResizeMode.BILINEAR, x.astype(np.uint8), (3, 3), align_corners=True, half_pixel_centers=False
    )
    assert whole[0, 0, 0].tolist() == [0, 5, 10]


def test_resize_nearest_by_hand() -> None:
    assert v5_resize.nearest(3, 6, align_corners=False, half=False).tolist() == [0, 0, 1, 1, 2, 2]
    assert v5_resize.nearest(5, 3, align_corners=True, half=False).tolist() == [0, 2, 4]
    assert v5_resize.nearest(4, 3, align_corners=False, half=True).tolist() == [0, 2, 3]


def test_interior_pads() -> None:
    x = np.array([[1, 2], [3, 4]], F)
    got = v5_movement.pad_tensor(x, ((1, 0), (0, 1)), 9, "constant", (0, 2))
    assert got.tolist() == [[9, 9, 9, 9, 9], [1, 9, 9, 2, 9], [3, 9, 9, 4, 9]]


def test_blocks_there_and_back() -> None:
    x = floats(2, 3, 4, 6)
    there = v5_movement.space_to_batch(x, (2, 3), ((0, 0), (0, 0)))
    assert there.shape == (12, 3, 2, 2)
    np.testing.assert_array_equal(there[0], x[0, :, ::2, ::3])
    np.testing.assert_array_equal(v5_movement.batch_to_space(there, (2, 3), ((0, 0), (0, 0))), x)


def test_gather_of_three_kinds() -> None:
    x = floats(3, 4, 5)
    index = np.array([[2, 0], [1, 1]], np.int32)
    np.testing.assert_array_equal(v5_movement.gather(x, index, 1), np.take(x, index, 1))
    np.testing.assert_array_equal(v5_movement.gather_nd(x, index, 0), x[[2, 1], [0, 1]])
    batched = v5_movement.gather_nd(x, np.array([[[3]], [[0]], [[1]]], np.int32), 1)
    np.testing.assert_array_equal(batched[:, 0], x[[0, 1, 2], [3, 0, 1]])
    elements = v5_movement.gather_elements(x, np.full((3, 4, 1), -1, np.int64), 2)
    np.testing.assert_array_equal(elements, x[:, :, 4:])


def test_indices_outside_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="E248"):
        v5_movement.gather(floats(3), np.array([3], np.int32), 0)


def test_one_hot() -> None:
    got = v5_movement.one_hot(np.array([0, -1], np.int32), 2, 5, (2, 3), 1, negative_from_end=True)
    assert got.tolist() == [[5, 2, 2], [2, 2, 5]]
    got = v5_movement.one_hot(np.array([0, -1], np.int32), 2, 5, (3, 2), 0, negative_from_end=False)
    assert got.tolist() == [[5, 2], [2, 2], [2, 2]]


def test_top_k_prefers_the_early_ones_and_sorts_equals_by_index() -> None:
    x = np.array([3, 5, 5, 1, 5], F)
    values, indices = v5_reduce.top_k(x, 2, 0, largest=True)
    assert (values.tolist(), indices.tolist()) == ([5, 5], [2, 1])
    values, indices = v5_reduce.top_k(-x, 2, 0, largest=False)
    assert (values.tolist(), indices.tolist()) == ([-5, -5], [1, 2])


def test_arguments_of_extremes() -> None:
    x = np.array([1, 4, 4, 2], F)
    for last, index in ((False, 1), (True, 2)):
        got = v5_reduce.reduce_arg(x, 0, np.dtype(np.int64), (1,), greatest=True, last=last)
        assert got.tolist() == [index]
    assert v5_reduce.reduce_arg(x, 0, np.dtype(np.int32), (1,), greatest=False, last=False).tolist() == [0]


def test_running_sums() -> None:
    x = np.array([1, 2, 3], np.int32)
    cases = {(False, False): [1, 3, 6], (True, False): [0, 1, 3], (False, True): [6, 5, 3], (True, True): [5, 3, 0]}
    for (exclusive, reverse), want in cases.items():
        assert v5_reduce.cumulative_sum(x, 0, exclusive=exclusive, reverse=reverse).tolist() == want


def test_hard_max_marks_positive_numbers_only() -> None:
    x = np.array([[1, 3, 3], [-1, -2, -3]], F)
    assert v5_reduce.hard_max(x, 1).tolist() == [[0, 1, 0], [0, 0, 0]]


def test_softmax_and_layer_norm() -> None:
    x = floats(4, 7)
    got = v5_reduce.softmax_tensor(x, 1, 0.5)
    want = np.exp(x.astype(np.float64) / 2)
    np.testing.assert_allclose(got, want / want.sum(1, keepdims=True), rtol=1e-6)
    scale, bias = floats(7), floats(7)
    got = v5_reduce.layer_norm(x, scale, bias, 1, 1e-5)
    d = x.astype(np.float64)
    want = (d - d.mean(1, keepdims=True)) / np.sqrt(d.var(1, keepdims=True) + 1e-5) * scale + bias
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_triangles_and_products() -> None:
    x = np.arange(1, 10, dtype=F).reshape(3, 3)
    assert v5_movement.triangle(x, 1, upper=True).tolist() == [[0, 2, 3], [0, 0, 6], [0, 0, 0]]
    assert v5_movement.triangle(x, 0, upper=False).tolist() == [[1, 0, 0], [4, 5, 0], [7, 8, 9]]
    assert v5_reduce.reduce_prod(x, (1,), (3,)).tolist() == [6, 120, 504]

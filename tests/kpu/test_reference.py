"""Known answers, computed by hand from the specification."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kpu_cases import identity_table, registers
from numpy.typing import NDArray

from openkpu.errors import InputError, MemoryLimitError, OpenKPUError, UnsupportedError
from openkpu.k210 import AI_RAM_BYTES
from openkpu.kpu import fmap, reference
from openkpu.kpu.layer import ActivationTable, BatchNorm, KpuLayer
from openkpu.kpu.monitor import Monitor
from openkpu.kpu.reference import Pool

I64 = np.int64


def unit_norm(channels: int) -> BatchNorm:
    return BatchNorm(np.ones(channels, I64), np.zeros(channels, I64), np.zeros(channels, I64))


def layer(x: NDArray[np.uint8], weights: NDArray[Any], **more: int) -> tuple[KpuLayer, NDArray[np.uint8]]:
    """A layer with unit batch norm and y = clamp(x), and AI RAM with ``x`` at line 0."""
    oc = weights.shape[0]
    r = registers(*x.shape, oc, kernel_type=weights.shape[2] // 2, **more)
    ram = np.zeros(AI_RAM_BYTES, np.uint8)
    fmap.store(ram, 0, x)
    return KpuLayer(r, weights, unit_norm(oc), identity_table()), ram


def ramp_image(h: int, w: int) -> NDArray[np.uint8]:
    return np.arange(h * w, dtype=np.uint8).reshape(1, h, w)


# -- convolution ------------------------------------------------------------------------------------------------------


def test_1x1_dense_sums_channels() -> None:
    x = np.array([[[1, 2]], [[3, 4]]], np.uint8)
    w = np.array([[2, 5], [1, 0]], np.uint8).reshape(2, 2, 1, 1)
    one, ram = layer(x, w)
    assert reference.run_layer(one, ram).tolist() == [[[2 + 15, 4 + 20]], [[1, 2]]]


def test_3x3_pads_with_pad_value_all_round() -> None:
    one, ram = layer(np.full((1, 2, 2), 10, np.uint8), np.ones((1, 1, 3, 3), np.uint8), pad_value=3)
    assert reference.run_layer(one, ram).tolist() == [[[40 + 15, 55], [55, 55]]]


def test_3x3_is_correlation_not_convolution() -> None:
    w = np.zeros((1, 1, 3, 3), np.uint8)
    w[0, 0, 0, 2] = 1  # up and right
    one, ram = layer(ramp_image(3, 3), w, pad_value=99)
    assert reference.run_layer(one, ram)[0].tolist() == [[99, 99, 99], [1, 2, 99], [4, 5, 99]]


def test_depthwise_keeps_channels_apart() -> None:
    w = np.array([2, 3], np.uint8).reshape(2, 1, 1, 1)
    one, ram = layer(np.array([[[1, 2]], [[3, 4]]], np.uint8), w, depth_wise_layer=1)
    assert reference.run_layer(one, ram).tolist() == [[[2, 4]], [[9, 12]]]


def test_argument_terms() -> None:
    """x = 5, 7; w = 2, 3: 31 + (-3 * 12 >> 2) + (-5 * 5 >> 3) + 9 * 2 = 31 - 9 - 4 + 18."""
    x = np.array([[[5]], [[7]]], np.uint8)
    r = registers(2, 1, 1, 1, arg_x=-3, shr_x=2, arg_w=-5, shr_w=3, arg_add=9)
    assert reference.convolve(r, x, np.array([2, 3], np.uint8).reshape(1, 2, 1, 1)).tolist() == [[[36]]]
    odd = replace(r, shr_x=3, arg_w=0)  # -36 >> 3 = -5: towards minus infinity
    assert reference.convolve(odd, x, np.array([2, 3], np.uint8).reshape(1, 2, 1, 1)).tolist() == [[[31 - 5 + 18]]]


def test_arg_add_counts_one_channel_when_depthwise() -> None:
    r = registers(2, 1, 1, 2, depth_wise_layer=1, arg_x=1, arg_add=100)
    x = np.array([[[5]], [[7]]], np.uint8)
    assert reference.convolve(r, x, np.ones((2, 1, 1, 1), np.uint8)).ravel().tolist() == [110, 114]


def test_sum_of_inputs_includes_the_padding() -> None:
    r = registers(1, 1, 1, 1, kernel_type=1, pad_value=2, arg_x=1)
    assert reference.convolve(r, np.full((1, 1, 1), 7, np.uint8), np.zeros((1, 1, 3, 3), np.uint8)).item() == 23


def test_16_bit_weights_at_the_limit() -> None:
    x, w = np.full((1024, 1, 1), 255, np.uint8), np.full((1, 1024, 3, 3), 65535, np.uint16)
    r = registers(1024, 1, 1, 1, kernel_type=1, pad_value=255, arg_x=-(1 << 23), arg_w=(1 << 23) - 1)
    total_x, total_w = 9216 * 255, 9216 * 65535
    expected = 255 * 65535 * 9216 - (total_x << 23) + total_w * ((1 << 23) - 1)
    assert reference.convolve(r, x, w).item() == expected


# -- batch norm -------------------------------------------------------------------------------------------------------


def test_batch_norm_shifts_towards_minus_infinity() -> None:
    bn = BatchNorm(np.array([3, -3], I64), np.array([10, 10], I64), np.array([1, 1], I64))
    alu = np.array([[[5]], [[5]]], I64)
    assert reference.batch_normalize(bn, alu).ravel().tolist() == [7 + 10, -8 + 10]


# -- activation -------------------------------------------------------------------------------------------------------


def table(start: int = 0, mul: int = 1, shift: int = 0, bias: int = 0) -> ActivationTable:
    """One segment, 15; the others start at the bottom with slope 0 and bias 7."""
    starts, muls = np.full(16, -(1 << 35), I64), np.zeros(16, I64)
    shifts, biases = np.zeros(16, I64), np.full(16, 7, I64)
    starts[15], muls[15], shifts[15], biases[15] = start, mul, shift, bias
    return ActivationTable(starts, muls, shifts, biases)


def activate(t: ActivationTable, *values: int) -> list[int]:
    return [int(v) for v in reference.activate(t, np.array(values, I64))]


def test_round_half_to_even() -> None:
    """In quarters: 0.25 0.5 0.75 1 1.25 1.5 1.75 2 2.5 3.5."""
    assert activate(table(shift=2), 1, 2, 3, 4, 5, 6, 7, 8, 10, 14) == [0, 0, 1, 1, 1, 2, 2, 2, 2, 4]


def test_the_quirk_of_negative_products() -> None:
    """-0.25 -0.5 -0.75 -1 -1.25 -1.5 -1.75 -2.5: floors move down where they should move up."""
    t = table(mul=-1, shift=2, bias=10)
    assert activate(t, 1, 2, 3, 4, 5, 6, 7, 10) == [8, 8, 9, 9, 7, 8, 8, 6]


def test_segment_needs_strictly_greater() -> None:
    assert activate(table(start=100, bias=50), 100, 101) == [7, 51]


def test_highest_index_wins_in_any_order() -> None:
    starts = np.arange(16, dtype=I64)[::-1] * 10  # 150, 140 .. 0: every value above 0 takes segment 15
    t = ActivationTable(starts, np.zeros(16, I64), np.zeros(16, I64), np.arange(16, dtype=I64))
    assert activate(t, 1, 149, 200) == [15, 15, 15]
    equal = ActivationTable(np.zeros(16, I64), np.zeros(16, I64), np.zeros(16, I64), np.arange(16, dtype=I64))
    assert activate(equal, 5) == [15]


def test_no_segment_uses_segment_0_and_is_counted() -> None:
    starts = np.full(16, 1000, I64)
    t = ActivationTable(starts, np.ones(16, I64), np.zeros(16, I64), np.full(16, 200, I64))
    monitor = Monitor()
    got = reference.activate(t, np.array([900, 1010], I64), monitor=monitor)
    assert got.tolist() == [100, 210]
    assert monitor.no_segment == 1
    assert not monitor.clean


def test_clamps_after_the_bias() -> None:
    assert activate(table(bias=200), 50, 55, 56, 10**9) == [250, 255, 255, 255]
    assert activate(table(mul=-1, bias=3), 2, 3, 4) == [1, 0, 0]


@pytest.mark.parametrize("shift", [31, 32, 33, 40, 62, 63, 64, 255])
def test_long_shifts(shift: int) -> None:
    """The largest product is below 2**52: from shift 53 on a positive one gives 0, a negative one -2 (the quirk)."""
    t = table(start=-(1 << 35), mul=32767, shift=shift, bias=5)
    product = (2**36 - 1) * 32767
    expected = 5 + int(np.rint(product / 2.0**shift)) if shift < 53 else 5
    assert activate(t, (1 << 35) - 1) == [min(expected, 255)]
    small = table(start=0, mul=-1, shift=shift, bias=5)
    assert activate(small, 1) == [3]


# -- pooling ----------------------------------------------------------------------------------------------------------

IMAGE = np.array(
    [[1, 2, 3, 4, 5], [6, 9, 8, 7, 0], [11, 12, 13, 14, 15], [20, 19, 18, 16, 17], [21, 22, 24, 23, 25]], np.uint8
)[None]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Pool.NONE, IMAGE[0].tolist()),
        (Pool.MAX_2X2_S2, [[9, 8], [20, 18]]),
        (Pool.MEAN_2X2_S2, [[4, 5], [15, 15]]),  # 18/4, 22/4, 62/4, 61/4, rounded down
        (Pool.MAX_4X4_S4, [[20]]),
        (Pool.MEAN_4X4_S4, [[163 // 16]]),
        (Pool.LEFT_TOP_S2, [[1, 3], [11, 13]]),
        (Pool.RIGHT_TOP_S2, [[2, 4], [12, 14]]),
        (Pool.LEFT_TOP_S4, [[1]]),
        (
            Pool.MEAN_2X2_S1,
            [[4, 5, 5, 4, 2], [9, 10, 10, 9, 7], [15, 15, 15, 15, 16], [20, 20, 20, 20, 21], [21, 23, 23, 24, 25]],
        ),
        (
            Pool.MAX_2X2_S1,
            [[9, 9, 8, 7, 5], [12, 13, 14, 15, 15], [20, 19, 18, 17, 17], [22, 24, 24, 25, 25], [22, 24, 24, 25, 25]],
        ),
    ],
)
def test_pool(kind: Pool, expected: list[list[int]]) -> None:
    size = len(expected)
    assert reference.pool(kind, IMAGE, size, size)[0].tolist() == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Pool.MAX_2X2_S2, [9, 8, 5, 0]),
        (Pool.MEAN_2X2_S2, [4, 5, 2, 2]),
        (Pool.LEFT_TOP_S2, [1, 3, 5, 0]),
        (Pool.RIGHT_TOP_S2, [2, 4, 0, 0]),
        (Pool.MAX_4X4_S4, [20, 17, 0, 0]),
    ],
)
def test_output_size_comes_from_the_registers(kind: Pool, expected: list[int]) -> None:
    assert reference.pool(kind, IMAGE, 1, 4)[0, 0].tolist() == expected


@pytest.mark.parametrize("width", [3, 16, 17, 32, 33, 64, 65, 130])
def test_row_layouts(width: int) -> None:
    """Each of the layouts on both sides; bytes that belong to no pixel keep their content."""
    rng = np.random.default_rng(width)
    x = rng.integers(0, 256, (6, 3, width), np.uint8)
    w = np.zeros((5, 6, 1, 1), np.uint8)
    w[np.arange(5), np.arange(1, 6)] = 1
    one, ram = layer(x, w)
    ram[16384 * 64 :] = 170
    expected = ram.copy()
    fmap.store(expected, 16384, x[1:])
    y = reference.run_layer(one, ram)
    np.testing.assert_array_equal(y, x[1:])
    np.testing.assert_array_equal(ram, expected)


def test_addresses_come_from_the_registers_not_the_width() -> None:
    """Width 4 with one channel a line and two lines a row; on the output the channels' lines alternate."""
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    w = np.eye(2, dtype=np.uint8).reshape(2, 2, 1, 1)
    one, ram = layer(x, w)
    r = replace(
        one.registers,
        coef_group=1,
        row_switch_addr=2,
        channel_switch_addr=7,
        wb_group=1,
        wb_row_switch_addr=2,
        wb_channel_switch_addr=1,
    )
    ram[:] = 0
    for c in range(2):
        for y in range(3):
            ram[(7 * c + 2 * y) * 64 :][:4] = x[c, y]
    reference.run_layer(KpuLayer(r, w, one.batch_norm, one.activation), ram)
    for c in range(2):
        for y in range(3):
            assert ram[(16384 + c + 2 * y) * 64 :][:4].tolist() == x[c, y].tolist()


def test_blocks_of_output_channels_join() -> None:
    """More positions than one block holds."""
    x = np.random.default_rng(3).integers(0, 256, (1, 512, 700), np.uint8)
    one, ram = layer(x, np.arange(1, 8, dtype=np.uint8).reshape(7, 1, 1, 1), pool_type=7, dst=6000)
    y = reference.run_layer(one, ram)
    expected = np.minimum(x[0, ::4, ::4].astype(int) * np.arange(1, 8)[:, None, None], 255)
    np.testing.assert_array_equal(y, expected[:, :128, :175])


# -- monitor ----------------------------------------------------------------------------------------------------------


def test_monitor_counts_36_bit_overflow() -> None:
    x = np.array([[[0, 1, 2]]], np.uint8)
    one, ram = layer(x, np.ones((1, 1, 1, 1), np.uint8), arg_add=(1 << 35) - 2)
    monitor = Monitor()
    reference.run_layer(one, ram, monitor=monitor)
    assert (monitor.values, monitor.conv_overflow, monitor.bn_overflow) == (3, 1, 1)
    assert (monitor.conv_min, monitor.conv_max) == ((1 << 35) - 2, 1 << 35)


def test_monitor_is_clean_on_an_ordinary_layer() -> None:
    one, ram = layer(IMAGE, np.ones((1, 1, 1, 1), np.uint8))
    monitor = Monitor()
    reference.run_layer(one, ram, monitor=monitor)
    assert monitor.clean
    assert (monitor.bn_min, monitor.bn_max, monitor.values) == (0, 25, 25)


# -- hostile registers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "code", "word"),
    [
        ({"full_add": 1}, UnsupportedError, "E240", "full_add"),
        ({"bypass_conv": 1}, UnsupportedError, "E240", "bypass_conv"),
        ({"first_stride": 1}, UnsupportedError, "E240", "first_stride"),
        ({"ram_flag": 1}, UnsupportedError, "E240", "ram_flag"),
        ({"pad_type": 1}, UnsupportedError, "E240", "pad_type"),
        ({"pool_type": 10}, UnsupportedError, "E241", "pool_type = 10"),
        ({"kernel_type": 2}, UnsupportedError, "E241", "kernel_type = 2"),
        ({"coef_group": 0}, UnsupportedError, "E241", "coef_group = 0"),
        ({"wb_group": 3}, UnsupportedError, "E241", "wb_group = 3"),
        ({"i_ch_num": 2}, UnsupportedError, "E242", "weights"),
        ({"depth_wise_layer": 1, "o_ch_num": 2}, UnsupportedError, "E242", "o_ch_num = 2"),
        ({"o_ch_num": 2}, UnsupportedError, "E242", "weights"),
        ({"image_src_addr": 32767}, MemoryLimitError, "E340", "input"),
        ({"image_dst_addr": 32767}, MemoryLimitError, "E340", "output"),
        ({"wb_row_switch_addr": 0}, MemoryLimitError, "E341", "wb_row_switch_addr = 0"),
    ],
)
def test_what_cannot_run_is_named(change: dict[str, int], error: type[OpenKPUError], code: str, word: str) -> None:
    one, ram = layer(IMAGE, np.ones((1, 1, 1, 1), np.uint8))
    bad = KpuLayer(replace(one.registers, **change), one.weights, one.batch_norm, one.activation)
    before = ram.copy()
    with pytest.raises(error, match=word) as e:
        reference.run_layer(bad, ram)
    assert e.value.code == code
    np.testing.assert_array_equal(ram, before)


def test_a_map_of_more_bytes_than_ai_ram_is_refused() -> None:
    """Channels that all lie at one address would need 512 MiB of work space."""
    one, ram = layer(IMAGE, np.ones((1, 1, 1, 1), np.uint8))
    r = replace(one.registers, i_ch_num=1024, i_row_wid=1024, i_col_high=512, channel_switch_addr=0, row_switch_addr=0)
    with pytest.raises(MemoryLimitError, match="input"):
        reference.run_layer(KpuLayer(r, np.zeros((1, 1024, 1, 1), np.uint8), one.batch_norm, one.activation), ram)


def test_an_input_that_overlaps_itself_may_be_read() -> None:
    one, ram = layer(IMAGE, np.ones((1, 1, 1, 1), np.uint8))
    r = replace(one.registers, row_switch_addr=0)
    y = reference.run_layer(KpuLayer(r, one.weights, one.batch_norm, one.activation), ram)
    np.testing.assert_array_equal(y, np.repeat(IMAGE[:, :1], 5, axis=1))


def test_wrong_ai_ram() -> None:
    one, ram = layer(IMAGE, np.ones((1, 1, 1, 1), np.uint8))
    with pytest.raises(InputError, match="E440"):
        reference.run_layer(one, ram[:-1])

from __future__ import annotations

from dataclasses import replace

import numpy as np
import program_builders as build
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kpu_cases import identity_table, registers

from openkpu.k210 import AI_RAM_BYTES
from openkpu.kpu import engine, reference
from openkpu.kpu.layer import ACTIVATION_BYTES, ActivationTable, BatchNorm, KpuLayer


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_batch_norm_decode_encode(words: list[int]) -> None:
    raw = np.array(words, np.uint64)
    np.testing.assert_array_equal(BatchNorm.decode(raw).encode(), raw)


def test_batch_norm_fields() -> None:
    raw = np.array([(0x1000000 - 2) | (0x100000000 - 3) << 24 | 15 << 56], np.uint64)
    bn = BatchNorm.decode(raw)
    assert (bn.mul[0], bn.add[0], bn.shift[0], bn.unused) == (-2, -3, 15, None)


@given(st.binary(min_size=ACTIVATION_BYTES, max_size=ACTIVATION_BYTES))
def test_activation_table_decode_encode(data: bytes) -> None:
    # the words hold 8 + 16 + 36 bits; the 4 above mean nothing and are kept
    assert ActivationTable.decode(data).encode() == data


def test_activation_table_fields() -> None:
    data = bytearray(ACTIVATION_BYTES)
    data[:8] = (20 | (0x10000 - 7) << 8 | ((1 << 36) - 9) << 24).to_bytes(8, "little")
    data[128 + 15] = 200
    t = ActivationTable.decode(bytes(data))
    assert (t.shift[0], t.y_mul[0], t.x_start[0], t.bias[0], t.bias[15]) == (20, -7, -9, 0, 200)


@pytest.mark.parametrize(("name", "value"), [("mul", 1 << 23), ("add", -(1 << 31) - 1), ("shift", 16)])
def test_batch_norm_refuses_what_does_not_fit(name: str, value: int) -> None:
    values = {n: np.array([0], np.int64) for n in ("mul", "add", "shift")}
    values[name][0] = value
    with pytest.raises(ValueError, match=f"norm_{name}"):
        BatchNorm(**values).encode()


def test_shapes_and_macs() -> None:
    norm = BatchNorm(*(np.ones(6, np.int64) for _ in range(3)))
    dense = KpuLayer(
        registers(4, 8, 10, 6, pool_type=1, kernel_type=1), np.zeros((6, 4, 3, 3), np.uint8), norm, identity_table()
    )
    assert (dense.input_shape, dense.output_shape, dense.kernel) == ((4, 8, 10), (6, 4, 5), 3)
    assert dense.macs == 80 * 9 * 4 * 6
    depthwise = KpuLayer(
        registers(6, 8, 10, 6, depth_wise_layer=1), np.zeros((6, 1, 1, 1), np.uint8), norm, identity_table()
    )
    assert (depthwise.kernel, depthwise.macs) == (1, 80 * 6)


def test_a_changed_layer_is_not_run_with_the_old_numbers() -> None:
    """The engine keeps a packed form beside the layer; a copy with other weights must not inherit it."""
    layer = build.kpu_layer(0, 64, 3, 4, 8, 8, k=3)
    rng = np.random.default_rng(0)
    ram = rng.integers(0, 256, AI_RAM_BYTES, np.uint8)
    engine.run_layer(layer, ram.copy())
    changed = replace(layer, weights=layer.weights ^ 0x55)
    want, got = ram.copy(), ram.copy()
    reference.run_layer(changed, want)
    engine.run_layer(changed, got)
    np.testing.assert_array_equal(got, want)

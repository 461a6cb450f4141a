from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openkpu.k210 import AI_LINES, AI_RAM_BYTES
from openkpu.kpu import fmap
from openkpu.kpu.fmap import FeatureMapLayout

WIDTHS = st.one_of(st.integers(1, 16), st.integers(17, 32), st.integers(33, 320))


@pytest.mark.parametrize(
    ("shape", "group", "row", "lines"),
    [
        ((5, 7, 7), 4, 1, 14),
        ((4, 4, 16), 4, 1, 4),
        ((5, 28, 17), 2, 1, 84),
        ((3, 10, 32), 2, 1, 20),
        ((3, 10, 33), 1, 1, 30),
        ((3, 10, 64), 1, 1, 30),
        ((3, 10, 65), 1, 2, 60),
        ((2, 240, 320), 1, 5, 2400),
    ],
)
def test_layout(shape: tuple[int, int, int], group: int, row: int, lines: int) -> None:
    lay = FeatureMapLayout(*shape)
    assert (lay.group, lay.row_lines, lay.lines, lay.bytes) == (group, row, lines, lines * 64)


@pytest.mark.parametrize(
    ("width", "byte"),
    [
        (7, 3 * 64 + 1 * 5 * 64 + 2 * 16 + 3 * 64 + 4),  # channel 6 = group 1, slot 2 of 16 bytes
        (20, 3 * 64 + 3 * 5 * 64 + 0 * 32 + 3 * 64 + 4),  # group 3, slot 0 of 32 bytes
        (70, 3 * 64 + 6 * 10 * 64 + 3 * 128 + 4),
    ],
)  # two lines a row
def test_address_of_one_byte(width: int, byte: int) -> None:
    a = np.zeros((7, 5, width), np.uint8)
    a[6, 3, 4] = 9
    ram = np.zeros(AI_RAM_BYTES, np.uint8)
    fmap.store(ram, 3, a)
    assert np.flatnonzero(ram).tolist() == [byte]


@given(st.integers(1, 9), st.integers(1, 12), WIDTHS, st.integers(0, 2000), st.integers(0, 2**32 - 1))
def test_store_then_load(channels: int, height: int, width: int, line: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (channels, height, width), np.uint8)
    ram = rng.integers(0, 256, AI_RAM_BYTES, np.uint8)
    before = ram.copy()
    fmap.store(ram, line, a)
    np.testing.assert_array_equal(fmap.load(ram, line, channels, height, width), a)
    changed = np.flatnonzero(ram != before)
    assert changed.size <= a.size
    if changed.size:
        lay = FeatureMapLayout(channels, height, width)
        assert changed[0] >= line * 64
        assert changed[-1] < line * 64 + lay.bytes


def test_outside_of_ai_ram() -> None:
    ram = np.zeros(AI_RAM_BYTES, np.uint8)
    fmap.store(ram, AI_LINES - 4, np.ones((4, 4, 16), np.uint8))
    assert ram[-256:].all()
    with pytest.raises(IndexError, match="AI RAM"):
        fmap.load(ram, AI_LINES - 3, 4, 4, 16)

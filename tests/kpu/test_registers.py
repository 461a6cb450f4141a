from __future__ import annotations

import struct
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openkpu.kpu.registers import BYTES, LayerRegisters


@given(st.binary(min_size=BYTES, max_size=BYTES))
def test_decode_encode_is_the_identity(data: bytes) -> None:
    assert LayerRegisters.decode(data).encode() == data


def test_fields_do_not_overlap() -> None:
    taken = [0] * 12
    for f in fields(LayerRegisters):
        if f.metadata:
            mask = ((1 << f.metadata["width"]) - 1) << f.metadata["low"]
            assert not taken[f.metadata["word"]] & mask, f.name
            assert mask < 1 << 64, f.name
            taken[f.metadata["word"]] |= mask


def test_known_words() -> None:
    """Values placed by hand at the bit positions of the SDK's kpu.h."""
    words = [0] * 12
    words[0] = 1 << 3
    words[1] = 0x123 | 0x456 << 32
    words[2] = 23 | 47 << 32 | 11 << 48
    words[3] = 319 | 239 << 10 | 159 << 32 | 119 << 42
    words[4] = 1 | 5 << 4 | 1 << 10 | 15 << 16 | 0xAB << 24
    words[7] = 1200 | 5 << 16 | 4 << 28 | 1 << 31
    words[9] = 15 | 7 << 4 | (0x1000000 - 3) << 8 | (0x1000000 - 4194304) << 32
    words[10] = (1 << 40) - 5
    r = LayerRegisters.decode(struct.pack("<12Q", *words))
    assert (r.depth_wise_layer, r.image_src_addr, r.image_dst_addr) == (1, 0x123, 0x456)
    assert (r.i_ch_num, r.o_ch_num, r.o_ch_num_coef) == (24, 48, 12)
    assert (r.i_row_wid, r.i_col_high, r.o_row_wid, r.o_col_high) == (320, 240, 160, 120)
    assert (r.kernel_type, r.pool_type, r.load_para, r.dma_burst_size, r.pad_value) == (1, 5, 1, 15, 0xAB)
    assert (r.channel_switch_addr, r.row_switch_addr, r.coef_group, r.load_act) == (1200, 5, 4, 1)
    assert (r.shr_w, r.shr_x, r.arg_w, r.arg_x, r.arg_add) == (15, 7, -3, -4194304, -5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("i_ch_num", 1025),
        ("i_ch_num", 0),
        ("arg_x", 1 << 23),
        ("arg_w", -(1 << 23) - 1),
        ("pool_type", 16),
        ("image_src_addr", -1),
    ],
)
def test_encode_names_what_does_not_fit(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        replace(LayerRegisters(), **{name: value}).encode()

"""The 12 layer-argument words of a KPU layer <-> a frozen dataclass.

One declaration is the reader, the writer and the documentation. Names are those of the vendor's ``kpu.h``
(kendryte-standalone-sdk, ``kpu_layer_argument_t``). Fields that the hardware stores as *n - 1* are held here as *n*.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, fields
from typing import Any, Final

WORDS: Final = 12
BYTES: Final = WORDS * 8


def _bits(word: int, low: int, width: int, doc: str, *, signed: bool = False, plus: int = 0, default: int = 0) -> Any:
    """Declare a bit field: ``width`` bits of ``word`` from bit ``low``; the stored number is value - ``plus``."""
    meta = {"word": word, "low": low, "width": width, "signed": signed, "plus": plus, "doc": doc}
    return field(default=default, metadata=meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRegisters:
    """One KPU layer's arguments. ``reserved`` keeps undeclared bits, so that decode + encode is the identity."""

    # word 0: interrupt_enabe
    int_en: int = _bits(0, 0, 1, "raise an interrupt when the layer is done")
    ram_flag: int = _bits(0, 1, 1, "unused by every known file")
    full_add: int = _bits(0, 2, 1, "unused by every known file")
    depth_wise_layer: int = _bits(0, 3, 1, "1 = depthwise convolution")
    # word 1: image_addr
    image_src_addr: int = _bits(1, 0, 15, "input feature map, in 64-byte lines of AI RAM")
    image_dst_addr: int = _bits(1, 32, 15, "output feature map, in 64-byte lines of AI RAM")
    # word 2: image_channel_num
    i_ch_num: int = _bits(2, 0, 10, "input channels", plus=1, default=1)
    o_ch_num: int = _bits(2, 32, 10, "output channels", plus=1, default=1)
    o_ch_num_coef: int = _bits(2, 48, 10, "output channels per weight load", plus=1, default=1)
    # word 3: image_size
    i_row_wid: int = _bits(3, 0, 10, "input width", plus=1, default=1)
    i_col_high: int = _bits(3, 10, 9, "input height", plus=1, default=1)
    o_row_wid: int = _bits(3, 32, 10, "output width, after pooling", plus=1, default=1)
    o_col_high: int = _bits(3, 42, 9, "output height, after pooling", plus=1, default=1)
    # word 4: kernel_pool_type_cfg
    kernel_type: int = _bits(4, 0, 3, "0 = 1x1, 1 = 3x3")
    pad_type: int = _bits(4, 3, 1, "0 = pad with pad_value")
    pool_type: int = _bits(4, 4, 4, "see reference.Pool")
    first_stride: int = _bits(4, 8, 1, "stride 2 on the input; no known file uses it")
    bypass_conv: int = _bits(4, 9, 1, "skip the convolution; no known file uses it")
    load_para: int = _bits(4, 10, 1, "load batch-norm parameters", default=1)
    dma_burst_size: int = _bits(4, 16, 8, "burst length - 1", default=15)
    pad_value: int = _bits(4, 24, 8, "value of the pixels outside the picture (3x3 only)")
    bwsx_base_addr: int = _bits(4, 32, 32, "batch-norm parameters; the runtime fills it in")
    # word 5: kernel_load_cfg
    load_coor: int = _bits(5, 0, 1, "load weights", default=1)
    load_time: int = _bits(5, 1, 6, "number of weight loads", plus=1, default=1)
    para_size: int = _bits(5, 15, 17, "bytes of one weight load")
    para_start_addr: int = _bits(5, 32, 32, "weights; the runtime fills it in")
    # word 6: kernel_offset
    coef_column_offset: int = _bits(6, 0, 4, "0 in every known file")
    coef_row_offset: int = _bits(6, 4, 12, "0 in every known file")
    # word 7: kernel_calc_type_cfg
    channel_switch_addr: int = _bits(7, 0, 15, "input: lines from one channel group to the next")
    row_switch_addr: int = _bits(7, 16, 4, "input: lines from one row to the next")
    coef_size: int = _bits(7, 20, 8, "0 in every known file")
    coef_group: int = _bits(7, 28, 3, "input: channels that share a line (1, 2 or 4)", default=1)
    load_act: int = _bits(7, 31, 1, "load the activation table", default=1)
    active_addr: int = _bits(7, 32, 32, "activation table; the runtime fills it in")
    # word 8: write_back_cfg
    wb_channel_switch_addr: int = _bits(8, 0, 15, "output: lines from one channel group to the next")
    wb_row_switch_addr: int = _bits(8, 16, 4, "output: lines from one row to the next")
    wb_group: int = _bits(8, 20, 3, "output: channels that share a line (1, 2 or 4)", default=1)
    # word 9: conv_value
    shr_w: int = _bits(9, 0, 4, "right shift of arg_w * sum(w)")
    shr_x: int = _bits(9, 4, 4, "right shift of arg_x * sum(x)")
    arg_w: int = _bits(9, 8, 24, "multiplies the sum of the weights", signed=True)
    arg_x: int = _bits(9, 32, 24, "multiplies the sum of the inputs", signed=True)
    # word 10: conv_value2
    arg_add: int = _bits(10, 0, 40, "added once for each input channel", signed=True)
    # word 11: dma_parameter
    send_data_out: int = _bits(11, 0, 1, "also write the result to main memory; the runtime fills it in")
    channel_byte_num: int = _bits(11, 16, 16, "output bytes of one channel", plus=1, default=1)
    dma_total_byte: int = _bits(11, 32, 32, "output bytes in all", plus=1, default=1)

    reserved: tuple[int, ...] = (0,) * WORDS

    @classmethod
    def decode(cls, data: bytes) -> LayerRegisters:
        """Read 96 little-endian bytes."""
        words = struct.unpack(f"<{WORDS}Q", data)
        values: dict[str, Any] = {}
        rest = list(words)
        for f in _FIELDS:
            meta = f.metadata
            mask = (1 << meta["width"]) - 1
            raw = words[meta["word"]] >> meta["low"] & mask
            rest[meta["word"]] &= ~(mask << meta["low"])
            if meta["signed"] and raw >> (meta["width"] - 1):
                raw -= mask + 1
            values[f.name] = raw + meta["plus"]
        return cls(**values, reserved=tuple(rest))

    def encode(self) -> bytes:
        """Write 96 little-endian bytes; ``ValueError`` names a field whose value does not fit its bits."""
        words = list(self.reserved)
        for f in _FIELDS:
            meta = f.metadata
            raw = getattr(self, f.name) - meta["plus"]
            low = -(1 << (meta["width"] - 1)) if meta["signed"] else 0
            high = (1 << (meta["width"] - (1 if meta["signed"] else 0))) - 1
            if not low <= raw <= high:
                raise ValueError(
                    f"{f.name} = {raw + meta['plus']} is outside {low + meta['plus']}..{high + meta['plus']}"
                )
            words[meta["word"]] |= (raw & ((1 << meta["width"]) - 1)) << meta["low"]
        return struct.pack(f"<{WORDS}Q", *words)


_FIELDS: Final = tuple(f for f in fields(LayerRegisters) if f.metadata)

"""The registers of a KPU layer that follow from its shape: sizes, the layout of both maps, weight loads."""

from __future__ import annotations

from openkpu.kpu.constraints import LayerShape, channels_per_load, load_count
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.registers import LayerRegisters
from openkpu.lower.ops import POOLS


def shape_registers(
    shape: tuple[int, int, int],
    weights: tuple[int, ...],
    pool: str,
    *,
    depthwise: bool,
    weight_bytes: int,
    outside: int,
    weight_zero: int = 0,
) -> LayerRegisters:
    """Return the registers of a layer, without its addresses; both maps lie in AI RAM as ``FeatureMapLayout`` says.

    ``shape`` is the input's (c, h, w), ``weights`` the shape (oc, ic or 1, k, k), ``pool`` a key of ``POOLS``.
    ``outside`` is the byte that stands for pixels outside the map, and for 0 inside; ``weight_zero`` the number that
    stands for the weight 0.
    """
    c, h, w = shape
    oc, _, k, _ = weights
    kind, stride, _ = POOLS[pool]
    oh, ow = h // stride, w // stride
    about = LayerShape(
        c, (h, w), oc, (oh, ow), (k, k), groups=c if depthwise else 1, pool=pool, weight_bytes=weight_bytes
    )
    per_load = channels_per_load(about)
    source, result = FeatureMapLayout(c, h, w), FeatureMapLayout(oc, oh, ow)
    return LayerRegisters(
        depth_wise_layer=int(depthwise),
        i_ch_num=c,
        o_ch_num=oc,
        o_ch_num_coef=per_load,
        i_row_wid=w,
        i_col_high=h,
        o_row_wid=ow,
        o_col_high=oh,
        kernel_type=int(k == 3),
        pool_type=kind,
        pad_value=outside,
        load_time=1 if depthwise else load_count(about),
        para_size=weights[1] * k * k * per_load * weight_bytes,
        channel_switch_addr=source.channel_lines,
        row_switch_addr=source.row_lines,
        coef_group=source.group,
        wb_channel_switch_addr=result.channel_lines,
        wb_row_switch_addr=result.row_lines,
        wb_group=result.group,
        arg_x=-weight_zero,
        arg_w=-outside,
        arg_add=weight_zero * outside * k * k,
        # 16 bits, which only a DMA to main RAM reads; of larger maps the vendor's compilers write the low bits too
        channel_byte_num=(oh * ow - 1) % (1 << 16) + 1,
        dma_total_byte=oh * ow * oc,
    )

"""Small valid programs for tests."""

from __future__ import annotations

import numpy as np

from openkpu.kmodel.program import DType, FullyConnected, KpuConv, Memory, Operand, Program, Step
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import ActivationTable, BatchNorm, KpuLayer
from openkpu.kpu.registers import LayerRegisters

STRIDES = (1, 2, 2, 4, 4, 2, 2, 4, 1, 1)


def main(start: int, dtype: DType, *shape: int) -> Operand:
    return Operand(Memory.MAIN, start, dtype, shape)


def ai(line: int, *shape: int) -> Operand:
    return Operand(Memory.AI, line * 64, DType.U8, shape)


def kpu_layer(
    src: int,
    dst: int,
    ic: int,
    oc: int,
    h: int,
    w: int,
    *,
    k: int = 1,
    depthwise: bool = False,
    pool: int = 0,
    dtype: type = np.uint8,
    seed: int = 0,
    bn_mul: int = 1,
    bn_add: int = 0,
) -> KpuLayer:
    """A layer whose activation is a clamp to 0..255 of batch norm / 2**11."""
    rng = np.random.default_rng(seed)
    oh, ow = h // STRIDES[pool], w // STRIDES[pool]
    i, o = FeatureMapLayout(ic, h, w), FeatureMapLayout(oc, oh, ow)
    registers = LayerRegisters(
        depth_wise_layer=int(depthwise),
        image_src_addr=src,
        image_dst_addr=dst,
        i_ch_num=ic,
        o_ch_num=oc,
        o_ch_num_coef=oc,
        i_row_wid=w,
        i_col_high=h,
        o_row_wid=ow,
        o_col_high=oh,
        kernel_type=int(k == 3),
        pool_type=pool,
        channel_switch_addr=i.channel_lines,
        row_switch_addr=i.row_lines,
        coef_group=i.group,
        wb_channel_switch_addr=o.channel_lines,
        wb_row_switch_addr=o.row_lines,
        wb_group=o.group,
        channel_byte_num=oh * ow,
        dma_total_byte=oc * oh * ow,
    )
    weights = rng.integers(0, np.iinfo(dtype).max, (oc, 1 if depthwise else ic, k, k), dtype, endpoint=True)
    start = np.linspace(-(1 << 30), -1, 16).astype(np.int64)
    start[0], start[15] = -(1 << 35), 0
    table = ActivationTable(
        start, np.where(np.arange(16) == 15, 1, 0), np.where(np.arange(16) == 15, 11, 0), np.zeros(16, np.int64)
    )
    bn = BatchNorm(np.full(oc, bn_mul, np.int64), np.full(oc, bn_add, np.int64), np.zeros(oc, np.int64))
    return KpuLayer(registers, weights, bn, table)


def conv(
    src: int,
    dst: int,
    ic: int,
    oc: int,
    h: int,
    w: int,
    *,
    to_main: int | None = None,
    name: str = "",
    **options: object,
) -> KpuConv:
    layer = kpu_layer(src, dst, ic, oc, h, w, **options)  # type: ignore[arg-type]
    output = None if to_main is None else main(to_main, DType.U8, *layer.output_shape)
    return KpuConv(layer=layer, main_output=output, name=name)


def fully_connected(source: int, target: int, ic: int, oc: int, seed: int = 0) -> FullyConnected:
    rng = np.random.default_rng(seed)
    return FullyConnected(
        input=main(source, DType.F32, ic),
        output=main(target, DType.F32, oc),
        weights=rng.normal(size=(oc, ic)).astype(np.float32),
        bias=rng.normal(size=oc).astype(np.float32),
    )


def program(*steps: Step, outputs: tuple[Operand, ...] | None = None, main_bytes: int | None = None) -> Program:
    """A V3 program; the output is by default the last step's last main operand."""
    if outputs is None:
        outputs = tuple(o for o in steps[-1].writes if o.memory is Memory.MAIN)
    if main_bytes is None:
        ends = [o.stop for s in steps for _, o in s.operands() if o.memory is Memory.MAIN]
        main_bytes = -(-max(ends, default=0) // 8) * 8
    return Program(version=3, inputs=(steps[0].reads[0],), outputs=outputs, steps=steps, main_bytes=main_bytes)

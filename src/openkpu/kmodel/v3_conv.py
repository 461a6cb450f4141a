"""V3's K210_CONV body: registers, weights, batch norm and activation table of one KPU layer.

Payload in this order, aligned by file offset: argument (24 bytes), registers (8), weights (128), batch norm (128),
activation table (256). The four offsets in the argument count from the start of the file.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.kmodel.program import DType, KpuConv
from openkpu.kmodel.record import Record
from openkpu.kmodel.v3_body import Body
from openkpu.kpu import registers
from openkpu.kpu.checks import check_layer
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import ACTIVATION_BYTES, ActivationTable, BatchNorm, KpuLayer
from openkpu.kpu.registers import LayerRegisters

ARGUMENT: Final = Record("flags", "main_mem_out", "layer_offset", "weights_offset", "bn_offset", "act_offset")
MAIN_MEM_OUT: Final = 1  # KLF_MAIN_MEM_OUT, the only flag the runtime reads, and only here
REGISTERS_ALIGN: Final = 8
WEIGHTS_ALIGN: Final = 128
BN_ALIGN: Final = 128
ACT_ALIGN: Final = 256

_STRIDES: Final = (1, 2, 2, 4, 4, 2, 2, 4, 1, 1)  # of the ten pooling kinds, see kpu.reference.Pool


def unusual(r: LayerRegisters, *, main_output: bool) -> str:
    """Say which identity, true in every known file, the registers of a layer break, or ``""``.

    What the chip does then is not known. (``kpu.checks`` has the rules without which a layer means nothing at all.)
    """
    stride = _STRIDES[r.pool_type]
    if (r.o_row_wid, r.o_col_high) != (r.i_row_wid // stride, r.i_col_high // stride):
        return (
            f"the output is {r.o_row_wid}x{r.o_col_high}, but pooling {r.pool_type} of "
            f"{r.i_row_wid}x{r.i_col_high} gives {r.i_row_wid // stride}x{r.i_col_high // stride}"
        )
    for side, lay, have in (
        (
            "input",
            FeatureMapLayout(r.i_ch_num, r.i_col_high, r.i_row_wid),
            (r.coef_group, r.row_switch_addr, r.channel_switch_addr),
        ),
        (
            "output",
            FeatureMapLayout(r.o_ch_num, r.o_col_high, r.o_row_wid),
            (r.wb_group, r.wb_row_switch_addr, r.wb_channel_switch_addr),
        ),
    ):
        want = (lay.group, lay.row_lines, lay.channel_lines)
        if have != want:
            return f"the {side} map has (group, row, channel) switches {have}, its size gives {want}"
    elements = r.o_ch_num * r.o_col_high * r.o_row_wid
    if main_output and r.dma_total_byte != elements:
        return f"dma_total_byte is {r.dma_total_byte}, the output has {elements} bytes"
    return ""


def decode(body: Body) -> KpuConv:
    """Read a K210_CONV body."""
    arg = body.record(ARGUMENT)
    body.need(arg["layer_offset"], registers.BYTES, "the register block")
    r = LayerRegisters.decode(body.file.data[arg["layer_offset"] : arg["layer_offset"] + registers.BYTES])
    body.ai(r.image_src_addr, r.i_ch_num, r.i_col_high, r.i_row_wid)
    body.ai(r.image_dst_addr, r.o_ch_num, r.o_col_high, r.o_row_wid)
    k = 3 if r.kernel_type == 1 else 1
    ic = 1 if r.depth_wise_layer else r.i_ch_num
    weights = body.array(
        "<u1" if body.file.eight_bit else "<u2", r.o_ch_num, ic, k, k, offset=arg["weights_offset"], what="the weights"
    )
    bn = BatchNorm.decode(body.array("<u8", r.o_ch_num, offset=arg["bn_offset"], what="the batch-norm table"))
    act = body.array("<u1", ACTIVATION_BYTES, offset=arg["act_offset"], what="the activation table")
    layer = KpuLayer(r, weights, bn, ActivationTable.decode(act.tobytes()))
    try:
        check_layer(layer)
    except OpenKPUError as error:
        error.where = body.where
        raise
    body.spend(layer.macs // 8)  # the KPU and its simulation do many at once
    problem = unusual(r, main_output=bool(arg["flags"] & MAIN_MEM_OUT))
    if problem:
        raise UnsupportedError(
            "E232",
            "a KPU layer with registers that no known file has",
            where=body.where,
            why=problem,
            fix="The file is damaged, or uses a feature that nobody has documented.",
        )
    main = body.main(arg["main_mem_out"], DType.U8, *layer.output_shape) if arg["flags"] & MAIN_MEM_OUT else None
    return KpuConv(flags=arg["flags"], layer=layer, main_output=main)


def _align(position: int, to: int) -> int:
    return -(-position // to) * to


def encode(step: KpuConv, position: int) -> bytes:
    """Write the body for file offset ``position``, which decides the padding.

    ``ValueError`` names a field that does not fit.
    """
    layer = step.layer
    weights = np.ascontiguousarray(layer.weights, layer.weights.dtype.newbyteorder("<")).tobytes()
    bn = layer.batch_norm.encode().astype("<u8").tobytes()
    at_registers = _align(position + ARGUMENT.size, REGISTERS_ALIGN)
    at_weights = _align(at_registers + registers.BYTES, WEIGHTS_ALIGN)
    at_bn = _align(at_weights + len(weights), BN_ALIGN)
    at_act = _align(at_bn + len(bn), ACT_ALIGN)
    flags = step.flags & ~MAIN_MEM_OUT | (MAIN_MEM_OUT if step.main_output else 0)
    main_mem_out = step.main_output.start if step.main_output else 0
    out = bytearray(
        ARGUMENT.pack(
            flags=flags,
            main_mem_out=main_mem_out,
            layer_offset=at_registers,
            weights_offset=at_weights,
            bn_offset=at_bn,
            act_offset=at_act,
        )
    )
    for at, part in (
        (at_registers, layer.registers.encode()),
        (at_weights, weights),
        (at_bn, bn),
        (at_act, layer.activation.encode()),
    ):
        out += bytes(at - position - len(out)) + part
    return bytes(out)

"""V4's kpu_conv2d body: place of the result in main RAM, batch, registers, then batch norm, activations, weights.

Before each of the three lies a gap whose length the registers hold where the driver later puts the address. Compilers
since 0.2.0-beta1 choose it so that the part starts at a multiple of 256 in the file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.kmodel.program import DType, KpuConv
from openkpu.kmodel.record import Record
from openkpu.kmodel.v3_conv import unusual
from openkpu.kmodel.v4_body import Body, range_of
from openkpu.kpu import registers
from openkpu.kpu.checks import check_layer
from openkpu.kpu.layer import ACTIVATION_BYTES, ActivationTable, BatchNorm, KpuLayer
from openkpu.kpu.registers import LayerRegisters

ARGUMENT: Final = Record("main_output:u32*4", "batches:i32", "reserved0:i32")
ALIGN: Final = 256
MAX_BATCHES: Final = 1 << 10

Gaps = tuple[int, int, int]
"""Bytes before batch norm, activation table and weights."""


def decode(body: Body) -> tuple[KpuConv, Gaps]:
    """Read a kpu_conv2d body."""
    arg = body.record(ARGUMENT)
    body.need(body.position, registers.BYTES, "the register block")
    raw = LayerRegisters.decode(body.file.data[body.position : body.position + registers.BYTES])
    body.position += registers.BYTES
    gaps: Gaps = (raw.bwsx_base_addr, raw.active_addr, raw.para_start_addr)
    r = _with_gaps(raw, (0, 0, 0))
    body.within(1, MAX_BATCHES, batches=arg["batches"])
    body.maps(r.image_src_addr, arg["batches"], r.i_ch_num, r.i_col_high, r.i_row_wid)
    body.maps(r.image_dst_addr, arg["batches"], r.o_ch_num, r.o_col_high, r.o_row_wid)
    k = 3 if r.kernel_type == 1 else 1
    ic = 1 if r.depth_wise_layer else r.i_ch_num
    body.position += gaps[0]
    bn = BatchNorm.decode(body.array("<u8", r.o_ch_num, what="the batch-norm table"))
    body.position += gaps[1]
    act = body.array("<u1", ACTIVATION_BYTES, what="the activation table")
    body.position += gaps[2]
    weights = body.array("<u1", r.o_ch_num, ic, k, k, what="the weights")
    layer = KpuLayer(r, weights, bn, ActivationTable.decode(act.tobytes()))
    try:
        check_layer(layer)
    except OpenKPUError as error:
        raise body.relocate(error) from None
    body.spend(layer.macs // 8 * arg["batches"])  # the KPU and its simulation do many at once
    problem = unusual(r, main_output=False)  # no DMA here: the runtime copies the result itself
    if problem:
        raise UnsupportedError(
            "E232",
            "a KPU layer with registers that no known file has",
            where=body.where,
            why=problem,
            fix="The file is damaged, or uses a feature that nobody has documented.",
        )
    shape = layer.output_shape if arg["batches"] == 1 else (arg["batches"], *layer.output_shape)
    main = body.result(arg["main_output"], DType.U8, *shape) if arg["main_output"][3] else None
    return KpuConv(layer=layer, main_output=main, batches=arg["batches"]), gaps


def _with_gaps(r: LayerRegisters, gaps: Gaps) -> LayerRegisters:
    return replace(r, bwsx_base_addr=gaps[0], active_addr=gaps[1], para_start_addr=gaps[2])


def encode(step: KpuConv, position: int, gaps: Gaps | None) -> bytes:
    """Write the body for file offset ``position``, which decides the gaps unless they are given.

    ``ValueError`` names a field that does not fit.
    """
    layer = step.layer
    if layer.weights.dtype.itemsize != 1:
        raise UnsupportedError(
            "E235",
            "a KPU layer with 16-bit weights",
            where=step.name or "a KPU layer",
            why="kmodel V4 has 8-bit weights only",
            fix="Use 8-bit weights, or write kmodel V3.",
        )
    parts = (
        layer.batch_norm.encode().astype("<u8").tobytes(),
        layer.activation.encode(),
        np.ascontiguousarray(layer.weights).tobytes(),
    )
    if gaps is None:
        gaps = natural_gaps(position, tuple(len(p) for p in parts))
    main = range_of(step.main_output) if step.main_output is not None else (0, 0, 0, 0)
    out = (
        ARGUMENT.pack(main_output=main, batches=step.batches, reserved0=0) + _with_gaps(layer.registers, gaps).encode()
    )
    for gap, part in zip(gaps, parts, strict=True):
        out += bytes(gap) + part
    return out


def natural_gaps(position: int, sizes: tuple[int, ...]) -> Gaps:
    """Return the gaps that put parts of these sizes at multiples of 256, for a body at file offset ``position``."""
    at = position + ARGUMENT.size + registers.BYTES
    gaps = []
    for size in sizes:
        gaps.append(-at % ALIGN)
        at += gaps[-1] + size
    return gaps[0], gaps[1], gaps[2]


def gaps_of(step: KpuConv, position: int) -> Gaps:
    """Return the gaps that ``encode`` chooses for a body at file offset ``position``."""
    oc = step.layer.registers.o_ch_num
    return natural_gaps(position, (oc * 8, ACTIVATION_BYTES, step.layer.weights.size))

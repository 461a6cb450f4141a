"""V3 steps of operators on uint8 maps in main RAM: windows, parts, tables, tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from openkpu.codegen.assemble import U8, Assembler, byte_count
from openkpu.codegen.buffers import Buffer
from openkpu.graph.ir import Node
from openkpu.k210 import MIN_SIZE
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory
from openkpu.lower.ops import Domain

LEAST_ROW: Final = 3
"""Pixels of a row from which copying it is faster than the runtime's pooling, pixel by pixel."""


def _u8(asm: Assembler, node: Node) -> tuple[Buffer, Buffer]:
    """Return input and new output of a uint8 operator in main RAM."""
    source = asm.get(node.inputs[0], Domain.U8)
    out = asm.buffer(Memory.MAIN, U8, node.output.shape[1:], node.output)
    asm.forms[id(node.output), Domain.U8] = out
    return source, out


def max_pool(asm: Assembler, node: Node) -> None:
    """Maximum, crop or strided slice: the runtime's pooling with a (possibly negative) padding."""
    a = node.attrs
    source, out = _u8(asm, node)
    shape, size = node.inputs[0].shape[1:], node.output.shape[1:]
    kernel, stride, origin = a["kernel"][::-1], a["stride"][::-1], a["origin"][::-1]
    if shape[1:] == (MIN_SIZE, MIN_SIZE) and size[1:] == kernel == (1, 1) and origin == (0, 0):
        asm.act(
            lambda: p.KpuRemovePadding(input=source.operand(shape), output=out.operand((size[0],))),
            [source],
            [out],
            node.output,
        )
        return
    if kernel == stride == (1, 1) and min(origin) >= 0 and (size[2] >= LEAST_ROW or size[2] == shape[2]):
        _cut(asm, node, source, out)
        return
    asm.act(
        lambda: p.QuantizedMaxPool(
            input=source.operand(shape),
            output=out.operand(size),
            kernel=kernel,
            stride=stride,
            padding=(-origin[0], -origin[1]),
        ),
        [source],
        [out],
        node.output,
    )


def _cut(asm: Assembler, node: Node, source: Buffer, out: Buffer) -> None:
    """Copy the rows of a part one after the other; where they are whole, those of a channel together."""
    c, h, w = node.inputs[0].shape[1:]
    (top, left), (oh, ow) = node.attrs["origin"], node.attrs["size"]
    if ow == w:
        starts, count = [(i * h + top) * w for i in range(c)], oh * w
    else:
        starts, count = [((i * h) + top + y) * w + left for i in range(c) for y in range(oh)], ow
    asm.act(
        lambda: p.Concat(
            inputs=tuple(source.part(first, count) for first in starts),
            output=out.operand((byte_count(out),)),
            quantized=True,
        ),
        [source],
        [out],
        node.output,
    )


def pad(asm: Assembler, node: Node) -> None:
    """With zero point 0 the runtime's pooling pads (one pixel at the far edges); else rows are gathered.

    Values that become one pixel of a 4x4 map each go to AI RAM by the runtime's own step for it.
    """
    t = node.output
    pixels = node.inputs[0].shape[2:] == (1, 1) and node.attrs["pads"] == (0, 0, MIN_SIZE - 1, MIN_SIZE - 1)
    if pixels and all(u.op == "KpuConv" for u in asm.graph.consumers(t)) and not asm.graph.is_output(t):
        values = asm.get(node.inputs[0], Domain.U8)
        spread = asm.buffer(Memory.AI, U8, t.shape[1:], t)
        asm.forms[id(t), Domain.AI] = spread
        k = t.shape[1]
        asm.act(lambda: p.KpuAddPadding(input=values.part(0, k), output=spread.operand()), [values], [spread], t)
        return
    source, out = _u8(asm, node)
    shape, size = node.inputs[0].shape[1:], node.output.shape[1:]
    top, left, bottom, right = node.attrs["pads"]
    zp = asm.params(node.inputs[0]).zero_point
    # A window that starts beyond the far edge makes the device runtime read outside the picture.
    if zp == 0 and right <= 1 and bottom <= 1:
        asm.act(
            lambda: p.QuantizedMaxPool(
                input=source.operand(shape),
                output=out.operand(size),
                kernel=(1, 1),
                stride=(1, 1),
                padding=(left, top),
            ),
            [source],
            [out],
            node.output,
        )
        return
    width = size[2]
    n = min(byte_count(source), max(top * width + left, right + left, right + bottom * width, 1))
    filler = Buffer(Memory.MAIN, U8, (n,), f"{out.name}.filler")
    table = bytes([zp]) * 256
    asm.act(
        lambda: p.Requantize(input=source.operand((n,)), output=filler.operand((n,)), table=table),
        [source],
        [filler],
    )

    def make() -> p.Step:
        pieces: list[p.Operand] = []

        def fill(count: int) -> None:
            while count > 0:
                pieces.append(p.Operand(Memory.MAIN, filler.start, U8, (min(count, n),)))
                count -= n

        c, h, w = shape
        for i in range(c * h):
            y = i % h
            fill(left + (top * width if y == 0 else 0))
            pieces.append(p.Operand(Memory.MAIN, source.start + i * w, U8, (w,)))
            fill(right + (bottom * width if y == h - 1 else 0))
        return p.Concat(inputs=tuple(pieces), output=out.operand((byte_count(out),)), quantized=True)

    asm.act(make, [source, filler], [out], node.output)


def table(asm: Assembler, node: Node) -> None:
    """A function by table."""
    source, out = _u8(asm, node)
    n, table = int(np.prod(node.output.shape)), asm.q.tables[id(node)]
    asm.act(
        lambda: p.Requantize(input=source.operand((n,)), output=out.operand((n,)), table=table),
        [source],
        [out],
        node.output,
    )


def tiles(asm: Assembler, node: Node) -> None:
    """Gather the tiles of a map row by row (whole columns of rows where a tile is as wide as the map)."""
    parts = [asm.get(t, Domain.U8) for t in node.inputs]
    out = asm.buffer(Memory.MAIN, U8, node.output.shape[1:], node.output)
    asm.forms[id(node.output), Domain.U8] = out
    axis = node.attrs["axis"]
    count = int(np.prod(node.output.shape[:axis]))

    def make() -> p.Step:
        pieces = [
            b.part(i * size, size)
            for i in range(count)
            for b, size in ((b, int(np.prod(t.shape)) // count) for b, t in zip(parts, node.inputs, strict=True))
        ]
        return p.Concat(inputs=tuple(pieces), output=out.operand((byte_count(out),)), quantized=True)

    asm.act(make, parts, [out], node.output)


HANDLERS: Final[dict[str, Callable[[Assembler, Node], None]]] = {
    "CpuMaxPool": max_pool,
    "CpuPad": pad,
    "CpuTable": table,
    "TensorConcat": tiles,
}

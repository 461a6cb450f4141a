"""V3 steps that put channels between the pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from openkpu.codegen.assemble import F32, U8, Assembler, byte_count
from openkpu.codegen.buffers import Buffer
from openkpu.graph.ir import Node
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory
from openkpu.lower.ops import Domain


def interleave(asm: Assembler, node: Node) -> None:
    """Put channels between the pixels: channels in the order (sx, c, sy), columns by the runtime's Flatten, then rows.

    Flatten works on floats; the bytes go through them as they are.
    """
    (sy, sx), order = node.attrs["blocks"], node.attrs["order"]
    _, c, h, _, w, _ = node.output.shape
    source = asm.get(node.inputs[0], Domain.U8)
    out = asm.buffer(Memory.MAIN, U8, node.output.shape[1:], node.output)
    asm.forms[id(node.output), Domain.U8] = out
    number = np.arange(sy * sx * c)
    if order == "DCR":
        channels = number.reshape(sy, sx, c).transpose(1, 2, 0).reshape(-1).tolist()
    else:
        channels = number.reshape(c, sy, sx).transpose(2, 0, 1).reshape(-1).tolist()
    size, pixels = byte_count(out), h * w

    def scratch(name: str, dtype: p.DType = U8) -> Buffer:
        return Buffer(Memory.MAIN, dtype, (size,), f"{out.name}.{name}")

    def copies(x: Buffer, y: Buffer, order: list[int], length: int, last: bool) -> None:
        def make() -> p.Step:
            pieces = tuple(x.part(i * length, length) for i in order)
            return p.Concat(inputs=pieces, output=y.operand((size,)), quantized=True)

        asm.act(make, [x], [y], node.output if last else None)

    ordered = source
    if channels != number.tolist():
        ordered = scratch("ordered")
        copies(source, ordered, channels, pixels, False)
    wide = ordered
    if sx > 1:
        counts, turned, wide = scratch("counts", F32), scratch("turned", F32), scratch("columns")
        n, rows = (size,), c * sy * h
        asm.act(
            lambda: p.Dequantize(input=ordered.operand(n), output=counts.operand(n), scale=1.0, bias=0.0),
            [ordered],
            [counts],
        )
        asm.act(
            lambda: p.Flatten(input=counts.operand((sx, rows, w)), output=turned.operand((rows, w, sx))),
            [counts],
            [turned],
        )
        asm.act(
            lambda: p.Quantize(input=turned.operand(n), output=wide.operand(n), scale=1.0, bias=0.0), [turned], [wide]
        )
    lines = np.arange(c * sy * h).reshape(c, sy, h).transpose(0, 2, 1).reshape(-1).tolist()
    copies(wide, out, lines, w * sx, True)


HANDLERS: Final[dict[str, Callable[[Assembler, Node], None]]] = {
    "CpuInterleave": interleave,
}

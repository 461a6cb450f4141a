"""V3: maps in main RAM taken row by row into the lines of AI RAM, and rows that stand for several.

The runtime uploads a map whose width is no multiple of 8 byte by byte. It is faster to copy the rows into lines of 64
bytes first, as they lie in AI RAM, and to upload the lines: eight bytes at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from openkpu.codegen.assemble import U8, Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.graph.ir import Tensor
from openkpu.k210 import AI_LINE_BYTES
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory, Operand
from openkpu.kpu.fmap import FeatureMapLayout


@dataclass(frozen=True, slots=True)
class Rows:
    """A map (c, h, w) of which every row of ``source`` stands for ``times`` rows."""

    source: Buffer
    shape: tuple[int, int, int]
    times: int = 1

    def first(self, channel: int, row: int) -> int:
        """Return where a row of the map begins in the source."""
        _, h, w = self.shape
        return (channel * (h // self.times) + row // self.times) * w


def to_main(asm: Assembler, rows: Rows, out: Buffer, t: Tensor | None) -> None:
    """Write the map itself to main RAM."""
    c, h, w = rows.shape
    asm.act(
        lambda: p.Concat(
            inputs=tuple(rows.source.part(rows.first(i, y), w) for i in range(c) for y in range(h)),
            output=out.operand((c * h * w,)),
            quantized=True,
        ),
        [rows.source],
        [out],
        t,
    )


def to_lines(asm: Assembler, rows: Rows, out: Buffer) -> None:
    """Copy the rows into lines and upload these. What stands behind a row in its line does not matter."""
    c, h, w = rows.shape
    lay = FeatureMapLayout(c, h, w)
    lines = Buffer(Memory.MAIN, U8, (lay.lines, AI_LINE_BYTES), f"{out.name}.lines")
    slot = lay.row_lines * AI_LINE_BYTES // lay.group
    size = c * (h // rows.times) * w

    def make() -> p.Step:
        pieces: list[Operand] = []
        for group in range(-(-c // lay.group)):
            for y in range(h):
                for channel in range(group * lay.group, (group + 1) * lay.group):
                    first = rows.first(min(channel, c - 1), y)
                    count = min(slot, size - first)
                    pieces.append(rows.source.part(first, count))
                    if count < slot:  # the map's last row: no more bytes follow
                        pieces.append(rows.source.part(0, slot - count))
        return p.Concat(inputs=tuple(pieces), output=lines.operand((lay.bytes,)), quantized=True)

    asm.act(make, [rows.source], [lines])
    whole = (1, lay.lines, AI_LINE_BYTES)
    asm.act(
        lambda: p.KpuUpload(input=lines.operand(whole), output=Operand(Memory.AI, out.start, U8, whole)),
        [lines],
        [out],
    )

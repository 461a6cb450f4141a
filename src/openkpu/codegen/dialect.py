"""What the assembler asks of a kmodel version: one method for each thing it needs done, which appends the steps.

The graph, its numbers and the order of the work are the same for all versions; a dialect only knows with which steps of
its version's runtime a thing is done. Sources and results are buffers that the assembler made: uint8 or float32 in main
RAM unless said otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from openkpu.codegen.buffers import Buffer
from openkpu.errors import UnsupportedError
from openkpu.graph.ir import Node, Tensor
from openkpu.kpu.layer import KpuLayer
from openkpu.quantize.params import QParams

if TYPE_CHECKING:
    from openkpu.codegen.assemble import Assembler


class Dialect(Protocol):
    """The steps of one kmodel version."""

    version: int

    def take_input(self, asm: Assembler, t: Tensor) -> None:
        """Make the buffer of the model's input and note the form that it has."""

    def layer(self, asm: Assembler, layer: KpuLayer, source: Buffer, t: Tensor, *, ai: bool, main: bool) -> None:
        """Run a KPU layer for tensor ``t`` and note the forms of the result; ``ai``, ``main``: where it is wanted."""

    def fetch(self, asm: Assembler, t: Tensor, out: Buffer) -> None:
        """Bring a map that exists in AI RAM only to main RAM."""

    def make_map(self, asm: Assembler, t: Tensor, out: Buffer) -> bool:
        """Make a map in AI RAM in a way of its own; False where its bytes in main RAM are uploaded."""

    def upload(self, asm: Assembler, source: Buffer, out: Buffer) -> None:
        """Bring uint8 in main RAM to AI RAM."""

    def dequantize(self, asm: Assembler, source: Buffer, out: Buffer, q: QParams, t: Tensor) -> None:
        """Turn uint8 into float32."""

    def quantize(self, asm: Assembler, source: Buffer, out: Buffer, q: QParams) -> None:
        """Turn float32 into uint8 of one scale."""

    def side_by_side(self, asm: Assembler, parts: list[Buffer], out: Buffer) -> None:
        """Put whole maps one after the other in main RAM, uint8."""

    def vector_layer(self, asm: Assembler, node: Node, layer: KpuLayer, source: Buffer, out: Buffer) -> None:
        """Run a layer on pixel (0, 0) of a 4x4 map, from a vector to a vector, both uint8 in main RAM."""

    def operator(self, asm: Assembler, node: Node) -> None:
        """Run an operator of the CPU and note the form of its result."""


def dialect(version: int) -> Dialect:
    """Return the dialect of a kmodel version."""
    if version == 3:
        from openkpu.codegen.v3_steps import V3Steps

        return V3Steps()
    if version == 4:
        from openkpu.codegen.v4_steps import V4Steps

        return V4Steps()
    if version == 5:
        from openkpu.codegen.v5_steps import V5Steps

        return V5Steps()
    raise UnsupportedError("E201", f"there is no kmodel V{version}", fix="use V3, V4 or V5")

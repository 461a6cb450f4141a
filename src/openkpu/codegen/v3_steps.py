"""The steps of the V3 runtime: the ways between memories here, operators in ``v3_bytes`` and ``v3_floats``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from openkpu.codegen import v3_bytes, v3_floats, v3_interleave, v3_rows
from openkpu.codegen.assemble import F32, U8, Assembler, byte_count
from openkpu.codegen.buffers import Buffer
from openkpu.codegen.identity import identity_layer
from openkpu.codegen.v3_rows import Rows
from openkpu.errors import UnsupportedError
from openkpu.estimate import price
from openkpu.estimate.cpu import V3
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import MIN_SIZE
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory
from openkpu.kpu.layer import KpuLayer
from openkpu.lower.ops import Domain
from openkpu.quantize.params import QParams

WORD: Final = 8
"""Widths that are multiples of it are uploaded so many bytes at a time."""


class V3Steps:
    """Dialect of kmodel V3."""

    version = 3

    def __init__(self) -> None:
        self.rows: dict[int, Rows] = {}
        """Maps that exist only as rows of others, by the id of their tensor."""

    def take_input(self, asm: Assembler, t: Tensor) -> None:
        """A picture goes to AI RAM; a float vector to main RAM."""
        if id(t) in asm.q.params and len(t.shape) == 4:
            if min(t.shape[2:]) < MIN_SIZE:
                raise UnsupportedError(
                    "E231",
                    f"an input picture of {t.shape[3]}x{t.shape[2]}",
                    where=f"input '{t.name}'",
                    why=f"the KPU reads pictures of at least {MIN_SIZE}x{MIN_SIZE}",
                    fix="pad the picture before the model, and export the model for the padded size",
                )
            b = asm.buffer(Memory.AI, U8, t.shape[1:], t)
            asm.forms[id(t), Domain.AI] = b
        else:
            b = asm.buffer(Memory.MAIN, F32, t.shape[1:], t)
            asm.forms[id(t), Domain.F32] = b
        asm.inputs.append(b)
        first = next((n for n in asm.graph.nodes if n.op != "Reshape"), None)
        if b.memory is Memory.MAIN and (first is None or first.op != "CpuFullyConnected"):
            raise UnsupportedError(
                "E231",
                "a float input that is not read by a fully connected layer first",
                where=f"input '{t.name}'",
                why="kmodel V3 starts with a KPU layer on a uint8 picture or with a fully connected layer on floats",
                fix="begin the model with a convolution (or, for a vector, with a fully connected layer)",
            )

    def layer(self, asm: Assembler, layer: KpuLayer, source: Buffer, t: Tensor, *, ai: bool, main: bool) -> None:
        """Where only main RAM wants the result, it goes there directly."""
        target = asm.buffer(Memory.AI, U8, t.shape[1:], t)
        if ai:
            asm.forms[id(t), Domain.AI] = target
            asm.conv(layer, source, target, None, t)
        else:
            out = asm.buffer(Memory.MAIN, U8, t.shape[1:], t)
            asm.forms[id(t), Domain.U8] = out
            asm.conv(layer, source, target, out, t)

    def fetch(self, asm: Assembler, t: Tensor, out: Buffer) -> None:
        """Run the layer that made the map once more, with its output to main RAM; copy what no convolution made.

        A map that exists as rows of another is written out. No shipped model reads the AI-RAM copy of a layer that
        also writes main RAM, so it is not known to be whole.
        """
        if id(t) in self.rows:
            v3_rows.to_main(asm, self.rows[id(t)], out, t)
            return
        node = t.producer if t.producer is not None and t.producer.op == "KpuConv" else None
        layer = identity_layer(t.shape[1:], asm.q.weight_bits) if node is None else asm.q.layers[id(node)].layer
        source = asm.get(t if node is None else node.inputs[0], Domain.AI)
        asm.conv(layer, source, asm.buffer(Memory.AI, U8, t.shape[1:], t), out, None)

    def upload(self, asm: Assembler, source: Buffer, out: Buffer) -> None:
        """One step, or rows into lines first where that is faster."""
        c, h, w = out.shape
        if w % WORD and price.lines_ns(w) < V3.upload_bytes.ns:
            v3_rows.to_lines(asm, v3_rows.Rows(source, (c, h, w)), out)
            return
        asm.act(lambda: p.KpuUpload(input=source.operand(out.shape), output=out.operand()), [source], [out])

    def make_map(self, asm: Assembler, t: Tensor, out: Buffer) -> bool:
        """Bring rows of another map into lines at once."""
        rows = self.rows.get(id(t))
        if rows is None or rows.shape[2] % WORD == 0:
            return False
        v3_rows.to_lines(asm, rows, out)
        return True

    def dequantize(self, asm: Assembler, source: Buffer, out: Buffer, q: QParams, t: Tensor) -> None:
        """With one scale, or one for each channel."""
        n = int(np.prod(t.shape))
        if q.is_uniform:
            scale, bias = float(q.scale[0]), float(q.bias[0])
            asm.act(
                lambda: p.Dequantize(input=source.operand((n,)), output=out.operand((n,)), scale=scale, bias=bias),
                [source],
                [out],
            )
            return
        c = t.shape[1]
        scales, biases = q.scale.astype(np.float32), q.bias.astype(np.float32)
        asm.act(
            lambda: p.ChannelwiseDequantize(
                input=source.operand((c, n // c)), output=out.operand((c, n // c)), scale=scales, bias=biases
            ),
            [source],
            [out],
        )

    def quantize(self, asm: Assembler, source: Buffer, out: Buffer, q: QParams) -> None:
        """One step."""
        n, scale, bias = byte_count(out), float(q.scale[0]), float(q.bias[0])
        asm.act(
            lambda: p.Quantize(input=source.operand((n,)), output=out.operand((n,)), scale=scale, bias=bias),
            [source],
            [out],
        )

    def side_by_side(self, asm: Assembler, parts: list[Buffer], out: Buffer) -> None:
        """Copies."""
        asm.act(
            lambda: p.Concat(
                inputs=tuple(b.operand((byte_count(b),)) for b in parts),
                output=out.operand((byte_count(out),)),
                quantized=True,
            ),
            parts,
            [out],
        )

    def vector_layer(self, asm: Assembler, node: Node, layer: KpuLayer, source: Buffer, out: Buffer) -> None:
        """With the runtime's own steps for it."""
        x, t = node.inputs[0], node.output
        k, n = layer.registers.i_ch_num, layer.registers.o_ch_num
        spread = Buffer(Memory.AI, U8, (k, 4, 4), f"{x.name}.4x4")
        first = node.attrs["offset"]
        asm.act(
            lambda: p.KpuAddPadding(input=source.part(first, k), output=spread.operand()),
            [source],
            [spread],
        )
        target = Buffer(Memory.AI, U8, (n, 4, 4), f"{t.name}.4x4")
        wide = Buffer(Memory.MAIN, U8, (n, 4, 4), f"{t.name}.4x4")
        asm.conv(layer, spread, target, wide, None)
        asm.act(lambda: p.KpuRemovePadding(input=wide.operand(), output=out.operand()), [wide], [out], t)

    def operator(self, asm: Assembler, node: Node) -> None:
        """One handler each."""
        HANDLERS[node.op](asm, node)


def resize(asm: Assembler, node: Node) -> None:
    """Nearest neighbour."""
    c, h, w = node.inputs[0].shape[1:]
    oh, ow = node.attrs["size"]
    source = asm.get(node.inputs[0], Domain.U8)
    times = oh // h if oh % h == 0 else 1
    if times == 1:
        out = asm.forms[id(node.output), Domain.U8] = asm.buffer(Memory.MAIN, U8, (c, oh, ow), node.output)
    elif ow == w:
        out = source
    else:  # the runtime takes as long for each pixel; rows are repeated by copying them
        out = Buffer(Memory.MAIN, U8, (c, h, ow), f"{node.output.name}.columns")
    if out is not source:
        made = out.shape
        whole = node.output if times == 1 else None
        asm.act(
            lambda: p.ResizeNearest(input=source.operand((c, h, w)), output=out.operand(made)), [source], [out], whole
        )
    if times > 1:
        assert isinstance(asm.steps, V3Steps)
        asm.steps.rows[id(node.output)] = Rows(out, (c, oh, ow), times)


HANDLERS: Final[dict[str, Callable[[Assembler, Node], None]]] = {
    "CpuResize": resize,
    **v3_bytes.HANDLERS,
    **v3_floats.HANDLERS,
    **v3_interleave.HANDLERS,
}

"""What the dialects of V4 and V5 share: CPU operators as tensor operators (``kmodel.operators``).

The numbers are those of the V3 program of the same graph. Where the runtimes have no uint8 kernel (maximum over
windows), the bytes go through float as they are, which is exact.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from openkpu.codegen import tensor_general, tensor_shared
from openkpu.codegen.assemble import F32, U8, Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.codegen.tensor_single import elements
from openkpu.graph.elementwise import Expr
from openkpu.graph.ir import Node, Tensor
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory, Operand
from openkpu.kpu.layer import KpuLayer
from openkpu.quantize.params import QParams

SIDE: Final = 4
"""Height and width of the map that holds a vector in its pixel (0, 0)."""


class TensorSteps:
    """Common part of the dialects of V4 and V5."""

    version: int

    # -- between memories -----------------------------------------------------------------------------------------
    def make_map(self, asm: Assembler, tensor: Tensor, out: Buffer) -> bool:
        """No map has a way of its own."""
        return False

    def upload(self, asm: Assembler, source: Buffer, out: Buffer) -> None:
        """One step."""
        asm.act(lambda: p.KpuUpload(input=source.operand(out.shape), output=out.operand()), [source], [out])

    def dequantize(self, asm: Assembler, source: Buffer, out: Buffer, q: QParams, tensor: Tensor) -> None:
        """With one scale in one step; scales of channels are multiplied in by a step of their own."""
        n = int(np.prod(tensor.shape))
        flat = not q.is_uniform or q.offset.any()
        scale, zero_point = (1.0, q.zero_point) if flat else (float(q.scale[0]), q.zero_point)
        counts = Buffer(Memory.MAIN, F32, out.shape, f"{out.name}.counts") if flat else out
        asm.act(
            lambda: t.DequantizeTensor(
                input=source.operand((n,)), output=counts.operand((n,)), scale=scale, zero_point=zero_point
            ),
            [source],
            [counts],
        )
        if not flat:
            return
        c = tensor.shape[1]
        shape = (1, c, 1, n // c)
        by_channel = (1, c, 1, 1)
        scales = asm.constant(q.scale.astype(np.float32).reshape(by_channel), f"{out.name}.scales")
        scaled = Buffer(Memory.MAIN, F32, out.shape, f"{out.name}.scaled") if q.offset.any() else out
        self.binary(asm, t.BinaryOp.MUL, (counts, shape), (scales, by_channel), (scaled, shape), None)
        if scaled is not out:
            offsets = asm.constant(q.offset.astype(np.float32).reshape(by_channel), f"{out.name}.offsets")
            self.binary(asm, t.BinaryOp.ADD, (scaled, shape), (offsets, by_channel), (out, shape), None)

    def quantize(self, asm: Assembler, source: Buffer, out: Buffer, q: QParams) -> None:
        """One step."""
        n, scale, zero_point = elements(out.shape), float(q.scale[0]), q.zero_point
        asm.act(
            lambda: t.QuantizeTensor(
                input=source.operand((n,)), output=out.operand((n,)), scale=scale, zero_point=zero_point
            ),
            [source],
            [out],
        )

    def side_by_side(self, asm: Assembler, parts: list[Buffer], out: Buffer) -> None:
        """Concatenate maps by channels."""
        self.concatenate(asm, [(b, (1, *b.shape)) for b in parts], (out, (1, *out.shape)), 1, None)

    def vector_layer(self, asm: Assembler, node: Node, layer: KpuLayer, source: Buffer, out: Buffer) -> None:
        """Pad the vector to 4x4 maps, run the layer, cut pixel (0, 0) out."""
        x, tensor = node.inputs[0], node.output
        k, n = layer.registers.i_ch_num, layer.registers.o_ch_num
        first = node.attrs["offset"]
        spread = Buffer(Memory.MAIN, U8, (k, SIDE, SIDE), f"{x.name}.4x4")
        grow = ((0, 0), (0, 0), (0, SIDE - 1), (0, SIDE - 1))

        def vector() -> Operand:
            return Operand(source.memory, source.start + first, U8, (1, k, 1, 1))

        asm.act(
            lambda: t.PadTensor(input=vector(), output=spread.operand((1, k, SIDE, SIDE)), pads=grow, value=0.0),
            [source],
            [spread],
        )
        maps = Buffer(Memory.AI, U8, (k, SIDE, SIDE), f"{x.name}.4x4")
        self.upload(asm, spread, maps)
        target = Buffer(Memory.AI, U8, (n, SIDE, SIDE), f"{tensor.name}.4x4")
        wide = Buffer(Memory.MAIN, U8, (n, SIDE, SIDE), f"{tensor.name}.4x4")
        self.into_main(asm, layer, maps, target, wide)
        shrink = tuple((-a, -b) for a, b in grow)
        asm.act(
            lambda: t.PadTensor(
                input=wide.operand((1, n, SIDE, SIDE)), output=out.operand((1, n, 1, 1)), pads=shrink, value=0.0
            ),
            [wide],
            [out],
            tensor,
        )

    def into_main(self, asm: Assembler, layer: KpuLayer, source: Buffer, target: Buffer, main: Buffer) -> None:
        """Run a layer whose result is wanted in main RAM only."""
        raise NotImplementedError

    # -- operators ------------------------------------------------------------------------------------------------
    def operator(self, asm: Assembler, node: Node) -> None:
        """One handler each."""
        (tensor_shared.HANDLERS | tensor_general.HANDLERS)[node.op](self, asm, node)

    def function(self, asm: Assembler, source: Buffer, out: Buffer, fn: Expr, tensor: Tensor) -> None:
        """Apply a function to floats."""
        raise NotImplementedError

    def softmax(
        self, asm: Assembler, source: Buffer, out: Buffer, shape: tuple[int, ...], axis: int, tensor: Tensor
    ) -> None:
        """Softmax of float32 ``shape`` along ``axis``."""
        asm.act(
            lambda: t.SoftmaxTensor(input=source.operand(shape), output=out.operand(shape), axis=axis),
            [source],
            [out],
            tensor,
        )

    def concatenate(
        self,
        asm: Assembler,
        parts: list[tuple[Buffer, tuple[int, ...]]],
        out: tuple[Buffer, tuple[int, ...]],
        axis: int,
        tensor: Tensor | None,
    ) -> None:
        """Put tensors one after the other along an axis; buffers with the shapes to see them with."""
        asm.act(
            lambda: t.ConcatTensors(
                inputs=tuple(b.operand(s) for b, s in parts), output=out[0].operand(out[1]), axis=axis
            ),
            [b for b, _ in parts],
            [out[0]],
            tensor,
        )

    def binary(
        self,
        asm: Assembler,
        op: t.BinaryOp,
        a: tuple[Buffer, tuple[int, ...]],
        b: tuple[Buffer, tuple[int, ...]],
        out: tuple[Buffer, tuple[int, ...]],
        tensor: Tensor | None,
        clamp: tuple[float, float] = t.NO_CLAMP,
    ) -> None:
        """Float arithmetic of two tensors; buffers with the shapes to see them with."""
        asm.act(
            lambda: t.Binary(
                input_a=a[0].operand(a[1]),
                input_b=b[0].operand(b[1]),
                output=out[0].operand(out[1]),
                op=op,
                clamp=clamp,
            ),
            [a[0], b[0]],
            [out[0]],
            tensor,
        )

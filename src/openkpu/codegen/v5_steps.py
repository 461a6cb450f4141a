"""The steps of the V5 runtime (nncase 1.x): k210 functions and the stack machine's tensor operators."""

from __future__ import annotations

from openkpu.codegen import unary_steps
from openkpu.codegen.assemble import F32, U8, Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.codegen.tensor_single import SIGMOID, elements
from openkpu.codegen.tensor_steps import TensorSteps
from openkpu.graph.elementwise import Expr
from openkpu.graph.ir import Tensor
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.operators_v5 import Sigmoid
from openkpu.kmodel.program import Memory, Operand
from openkpu.kpu.layer import KpuLayer
from openkpu.lower.ops import Domain


class V5Steps(TensorSteps):
    """Dialect of kmodel V5."""

    version = 5

    def take_input(self, asm: Assembler, tensor: Tensor) -> None:
        """The caller's buffer; a picture is uploaded from there when the KPU reads it."""
        quantized = id(tensor) in asm.q.params
        b = asm.buffer(Memory.INPUT, U8 if quantized else F32, tensor.shape[1:], tensor)
        asm.forms[id(tensor), Domain.U8 if quantized else Domain.F32] = b
        asm.inputs.append(b)

    def layer(self, asm: Assembler, layer: KpuLayer, source: Buffer, tensor: Tensor, *, ai: bool, main: bool) -> None:
        """To AI RAM, and from there to main RAM at once, so that the layers stay together in one function."""
        target = asm.buffer(Memory.AI, U8, tensor.shape[1:], tensor)
        asm.forms[id(tensor), Domain.AI] = target
        asm.conv(layer, source, target, None, tensor)
        if main:
            out = asm.forms[id(tensor), Domain.U8] = asm.buffer(Memory.MAIN, U8, tensor.shape[1:], tensor)
            self._download(asm, target, out)

    def fetch(self, asm: Assembler, tensor: Tensor, out: Buffer) -> None:
        """Download it."""
        self._download(asm, asm.get(tensor, Domain.AI), out)

    def into_main(self, asm: Assembler, layer: KpuLayer, source: Buffer, target: Buffer, main: Buffer) -> None:
        """Run and download."""
        asm.conv(layer, source, target, None, None)
        self._download(asm, target, main)

    def function(self, asm: Assembler, source: Buffer, out: Buffer, fn: Expr, tensor: Tensor) -> None:
        """As a chain of unary and binary operators; the sigmoid has one of its own."""
        if fn == SIGMOID:
            n = elements(out.shape)
            asm.act(lambda: Sigmoid(input=source.operand((n,)), output=out.operand((n,))), [source], [out], tensor)
            return
        unary_steps.run(asm, source, out, fn, tensor)

    def concatenate(
        self,
        asm: Assembler,
        parts: list[tuple[Buffer, tuple[int, ...]]],
        out: tuple[Buffer, tuple[int, ...]],
        axis: int,
        tensor: Tensor | None,
    ) -> None:
        """The stack machine has no concatenation: each part is copied into its place."""
        buffer, shape = out
        strides = [1]
        for d in reversed(shape[1:]):
            strides.insert(0, strides[0] * d)
        at = 0
        for i, (part, size) in enumerate(parts):
            first = at * strides[axis]
            at += size[axis]

            def make(part: Buffer = part, size: tuple[int, ...] = size, first: int = first) -> p.Step:
                start = buffer.start + first * buffer.dtype.size
                place = Operand(buffer.memory, start, buffer.dtype, size, tuple(strides))
                return t.CopyTensor(input=part.operand(size), output=place)

            asm.act(make, [part], [buffer], tensor if i == len(parts) - 1 else None)

    def _download(self, asm: Assembler, source: Buffer, out: Buffer) -> None:
        asm.act(lambda: p.KpuDownload(input=source.operand(), output=out.operand()), [source], [out])

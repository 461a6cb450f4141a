"""The steps of the V4 runtime (nncase 0.2)."""

from __future__ import annotations

from openkpu.codegen.assemble import F32, U8, Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.codegen.bytecode import bytecode
from openkpu.codegen.identity import identity_layer
from openkpu.codegen.tensor_single import elements
from openkpu.codegen.tensor_steps import TensorSteps
from openkpu.graph.elementwise import Expr
from openkpu.graph.ir import Tensor
from openkpu.k210 import MIN_SIZE
from openkpu.kmodel import operators as t
from openkpu.kmodel.operators_v4 import NnilUnary
from openkpu.kmodel.program import Memory
from openkpu.kpu.layer import KpuLayer
from openkpu.lower.ops import Domain


class V4Steps(TensorSteps):
    """Dialect of kmodel V4."""

    version = 4

    def take_input(self, asm: Assembler, tensor: Tensor) -> None:
        """A picture that only the KPU reads goes to AI RAM, as in the vendor's files; anything else to main RAM."""
        quantized = id(tensor) in asm.q.params
        if (
            quantized
            and len(tensor.shape) == 4
            and min(tensor.shape[2:]) >= MIN_SIZE
            and not asm.wanted_in_main(tensor)
        ):
            memory, dtype, domain = Memory.AI, U8, Domain.AI
        else:
            memory, dtype, domain = Memory.MAIN, U8 if quantized else F32, Domain.U8 if quantized else Domain.F32
        b = asm.forms[id(tensor), domain] = asm.buffer(memory, dtype, tensor.shape[1:], tensor)
        asm.inputs.append(b)

    def layer(self, asm: Assembler, layer: KpuLayer, source: Buffer, tensor: Tensor, *, ai: bool, main: bool) -> None:
        """One step writes both places: the runtime runs the layer to AI RAM and copies from there."""
        target = asm.buffer(Memory.AI, U8, tensor.shape[1:], tensor)
        asm.forms[id(tensor), Domain.AI] = target
        out = asm.buffer(Memory.MAIN, U8, tensor.shape[1:], tensor) if main else None
        if out is not None:
            asm.forms[id(tensor), Domain.U8] = out
        asm.conv(layer, source, target, out, tensor)

    def fetch(self, asm: Assembler, tensor: Tensor, out: Buffer) -> None:
        """Where main RAM wants a map, the layer that makes it writes it there; rows from several layers are copied."""
        if tensor.producer is not None and tensor.producer.op == "KpuRows":
            copy = asm.buffer(Memory.AI, U8, tensor.shape[1:], tensor)
            asm.conv(identity_layer(tensor.shape[1:]), asm.get(tensor, Domain.AI), copy, out, None)
            return
        raise RuntimeError(f"'{tensor.name}' was not written to main RAM by its layer")

    def into_main(self, asm: Assembler, layer: KpuLayer, source: Buffer, target: Buffer, main: Buffer) -> None:
        """One step."""
        asm.conv(layer, source, target, main, None)

    def function(self, asm: Assembler, source: Buffer, out: Buffer, fn: Expr, tensor: Tensor) -> None:
        """As bytecode of the runtime's stack machine."""
        n, code = elements(out.shape), bytecode(fn)
        asm.act(
            lambda: NnilUnary(input=source.operand((n,)), output=out.operand((n,)), code=code), [source], [out], tensor
        )

    def softmax(
        self, asm: Assembler, source: Buffer, out: Buffer, shape: tuple[int, ...], axis: int, tensor: Tensor
    ) -> None:
        """The runtime's softmax knows the innermost values only; another axis is written out with reductions."""
        if all(d == 1 for d in shape[axis + 1 :]):
            rows = (1, 1, elements(shape[:axis]), shape[axis])
            super().softmax(asm, source, out, rows, 3, tensor)
            return
        kept = tuple(1 if i == axis else d for i, d in enumerate(shape))

        def scratch(name: str, of: tuple[int, ...]) -> Buffer:
            return Buffer(Memory.MAIN, F32, of, f"{out.name}.{name}")

        most, less, grown, total = (
            scratch(n, s) for n, s in (("most", kept), ("less", shape), ("exp", shape), ("sum", kept))
        )
        for op, x, y in ((t.ReduceOp.MAX, source, most), (t.ReduceOp.SUM, grown, total)):
            init = -t.FLT_MAX if op is t.ReduceOp.MAX else 0.0
            asm.act(
                lambda op=op, x=x, y=y, init=init: t.Reduce(  # type: ignore[misc]
                    input=x.operand(shape), output=y.operand(kept), op=op, axes=(axis,), init=init
                ),
                [x],
                [y],
            )
            if op is t.ReduceOp.MAX:
                self.binary(asm, t.BinaryOp.SUB, (source, shape), (most, kept), (less, shape), None)
                asm.act(
                    lambda: t.Unary(input=less.operand(shape), output=grown.operand(shape), op=t.UnaryOp.EXP),
                    [less],
                    [grown],
                )
        self.binary(asm, t.BinaryOp.DIV, (grown, shape), (total, kept), (out, shape), tensor)

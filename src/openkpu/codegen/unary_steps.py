"""Functions of one float as a chain of V5's unary and binary operators."""

from __future__ import annotations

import numpy as np

from openkpu.codegen.assemble import F32, Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.graph.basic import basic
from openkpu.graph.elementwise import Expr
from openkpu.graph.ir import Tensor
from openkpu.kmodel import operators as t
from openkpu.kmodel.program import Memory


def run(asm: Assembler, source: Buffer, out: Buffer, fn: Expr, tensor: Tensor) -> None:
    """Append the steps. ``ValueError`` when the runtime has no form of the function."""
    form = basic(fn)
    if form is None:
        raise ValueError(f"the function {fn} has no form in the V5 runtime")
    n = int(np.prod(out.shape))
    made: dict[Expr, Buffer] = {}

    def value(e: Expr) -> Buffer:
        if e.op == "x":
            return source
        if e.op == "const":
            return asm.constant(np.array([e.value], np.float32), f"{out.name}.number")
        if e not in made:
            args = [value(a) for a in e.args]
            target = out if e is form else Buffer(Memory.MAIN, F32, out.shape, f"{out.name}.{e.op.lower()}")
            _step(asm, e, args, target, n, tensor if e is form else None)
            made[e] = target
        return made[e]

    last = value(form)
    if last is not out:  # the identity, or a number
        asm.act(lambda: t.CopyTensor(input=last.operand((n,)), output=out.operand((n,))), [last], [out], tensor)


def _step(asm: Assembler, e: Expr, args: list[Buffer], target: Buffer, n: int, tensor: Tensor | None) -> None:
    def shape(b: Buffer) -> tuple[int, ...]:
        return (1,) if b.memory is Memory.CONST else (n,)

    if len(args) == 1:
        op = t.UnaryOp[e.op.upper()]
        asm.act(
            lambda: t.Unary(input=args[0].operand((n,)), output=target.operand((n,)), op=op), args, [target], tensor
        )
        return
    kind = t.BinaryOp[e.op.upper()]
    asm.act(
        lambda: t.Binary(
            input_a=args[0].operand(shape(args[0])),
            input_b=args[1].operand(shape(args[1])),
            output=target.operand((n,)),
            op=kind,
        ),
        args,
        [target],
        tensor,
    )

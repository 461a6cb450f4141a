"""Single tensor steps, and how their operands are seen."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from openkpu.codegen.assemble import F32, U8, Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.graph.elementwise import Expr, limits
from openkpu.graph.ir import Node, Tensor
from openkpu.kmodel import operators as t
from openkpu.kmodel.program import Memory
from openkpu.lower.ops import Domain

LOWEST: Final = -t.FLT_MAX
SIGMOID: Final = Expr("Sigmoid", (Expr("x"),))


def elements(shape: tuple[int, ...]) -> int:
    """Number of elements of a shape."""
    return int(np.prod(shape))


def four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return a shape with exactly four dimensions."""
    while len(shape) > 4 and shape[0] == 1:
        shape = shape[1:]
    n, c, h, w = (1,) * (4 - len(shape)) + tuple(shape)
    return n, c, h, w


def result(asm: Assembler, node: Node, domain: Domain) -> Buffer:
    """Make the buffer of an operator's result."""
    out = asm.buffer(Memory.MAIN, U8 if domain is Domain.U8 else F32, node.output.shape[1:], node.output)
    asm.forms[id(node.output), domain] = out
    return out


def domain_of(node: Node) -> Domain:
    """Return where a movement reads and writes."""
    return Domain.U8 if node.attrs.get("u8") else Domain.F32


def operand(asm: Assembler, tensor: Tensor, domain: Domain) -> Buffer:
    """Return the buffer of an input, which may be a constant."""
    if tensor.data is not None:
        return asm.constant(np.asarray(tensor.data, np.float32), tensor.name)
    return asm.get(tensor, domain)


def limits_of(fn: Expr | None) -> tuple[float, float]:
    """Return the limits of an activation that is only limits."""
    if fn is None:
        return t.NO_CLAMP
    low, high = limits(fn) or (-np.inf, np.inf)
    return max(float(low), -t.FLT_MAX), min(float(high), t.FLT_MAX)


def around(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """See a shape as what lies before, along and behind an axis."""
    return (elements(shape[:axis]), shape[axis], 1, elements(shape[axis + 1 :]))


def pad_step(
    asm: Assembler, source: Buffer, out: Buffer, node: Node, pads: tuple[tuple[int, int], ...], value: float
) -> None:
    """Pad, or crop where a padding is negative."""
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    asm.act(
        lambda: t.PadTensor(input=source.operand(shape), output=out.operand(size), pads=pads, value=value),
        [source],
        [out],
        node.output,
    )


def resize_step(
    asm: Assembler,
    source: Buffer,
    out: Buffer,
    node: Node,
    mode: t.ResizeMode,
    align_corners: bool = False,
    half_pixel: bool = False,
) -> None:
    """Resize height and width."""
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    asm.act(
        lambda: t.ResizeImage(
            input=source.operand(shape),
            output=out.operand(size),
            mode=mode,
            align_corners=align_corners,
            half_pixel_centers=half_pixel,
        ),
        [source],
        [out],
        node.output,
    )


def transpose_step(asm: Assembler, node: Node, domain: Domain, shape: tuple[int, ...], perm: tuple[int, ...]) -> None:
    """Reorder the dimensions of ``shape``."""
    source = asm.get(node.inputs[0], domain)
    out = result(asm, node, domain)
    turned = tuple(shape[i] for i in perm)
    asm.act(
        lambda: t.TransposeTensor(input=source.operand(shape), output=out.operand(turned), perm=tuple(perm)),
        [source],
        [out],
        node.output,
    )


def slice_step(
    asm: Assembler,
    source: Buffer,
    out: Buffer,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    begin: tuple[int, ...],
    end: tuple[int, ...],
    stride: tuple[int, ...],
    tensor: Tensor | None,
) -> None:
    """Take ``begin:end:stride`` in every dimension."""
    asm.act(
        lambda: t.SliceTensor(
            input=source.operand(shape), output=out.operand(size), begin=begin, end=end, stride=stride
        ),
        [source],
        [out],
        tensor,
    )


def reduce_step(
    asm: Assembler,
    op: t.ReduceOp,
    source: Buffer,
    out: Buffer,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    axes: tuple[int, ...],
    tensor: Tensor | None,
) -> None:
    """Reduce over axes, which stay with size 1."""
    init = {t.ReduceOp.MAX: LOWEST, t.ReduceOp.MIN: t.FLT_MAX}.get(op, 0.0)
    asm.act(
        lambda: t.Reduce(input=source.operand(shape), output=out.operand(size), op=op, axes=axes, init=init),
        [source],
        [out],
        tensor,
    )


def window_step(
    asm: Assembler,
    op: t.ReduceOp,
    source: Buffer,
    out: Buffer,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: Any,
    init: float,
    tensor: Tensor | None,
) -> None:
    """Pool over windows."""
    asm.act(
        lambda: t.ReduceWindow(
            input=source.operand(shape),
            output=out.operand(size),
            op=op,
            pads=pads,
            kernel=(kernel[0], kernel[1]),
            stride=(stride[0], stride[1]),
            dilation=(1, 1),
            init=init,
        ),
        [source],
        [out],
        tensor,
    )

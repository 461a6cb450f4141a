"""The operators that only V4 and V5 have: one handler each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from openkpu.codegen import tensor_shared as shared
from openkpu.codegen.assemble import F32, U8, Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.codegen.tensor_single import (
    LOWEST,
    around,
    domain_of,
    elements,
    four,
    limits_of,
    operand,
    pad_step,
    reduce_step,
    resize_step,
    result,
    slice_step,
    transpose_step,
    window_step,
)
from openkpu.graph.ir import Node
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.operators_v4 import QuantizedBinary
from openkpu.kmodel.operators_v5 import ReduceArg
from openkpu.kmodel.program import Memory, Operand
from openkpu.lower.ops import Domain
from openkpu.quantize.fixed import binary_numbers

if TYPE_CHECKING:
    from openkpu.codegen.tensor_steps import TensorSteps


SMALLEST: Final = 1e-10
"""The least sum of squares that a vector is divided by, as in V3's runtime."""


def binary(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Arithmetic with broadcasting, in whole numbers (V4) or in float."""
    if node.attrs["u8"]:
        whole_binary(asm, node)
        return
    a, b = (operand(asm, x, Domain.F32) for x in node.inputs)
    out = result(asm, node, Domain.F32)
    shapes = [four(x.shape) for x in (*node.inputs, node.output)]
    op, clamp = t.BinaryOp[node.attrs["kind"].upper()], limits_of(node.attrs["fn"])
    self.binary(asm, op, (a, shapes[0]), (b, shapes[1]), (out, shapes[2]), node.output, clamp)


def whole_binary(asm: Assembler, node: Node) -> None:
    """Arithmetic in whole numbers; a table behind where the limits of the result are inside its 0..255."""
    a, b = (asm.get(x, Domain.U8) for x in node.inputs)
    out = result(asm, node, Domain.U8)
    shapes = [four(x.shape) for x in (*node.inputs, node.output)]
    pa, pb, po = (asm.params(x) for x in (*node.inputs, node.output))
    numbers = binary_numbers(node.attrs["kind"], pa, pb, po, node.attrs["fn"])
    a_term, b_term, o_term = (p.QuantizedTerm(n.offset, n.mul, n.shift) for n in (numbers.a, numbers.b, numbers.o))
    table, op = numbers.table, t.BinaryOp[node.attrs["kind"].upper()]
    free = out if table is None else Buffer(Memory.MAIN, U8, out.shape, f"{out.name}.free")
    asm.act(
        lambda: QuantizedBinary(
            input_a=a.operand(shapes[0]),
            input_b=b.operand(shapes[1]),
            output=free.operand(shapes[2]),
            op=op,
            a=a_term,
            b=b_term,
            o=o_term,
        ),
        [a, b],
        [free],
        node.output if table is None else None,
    )
    if table is not None:
        n = elements(node.output.shape)
        asm.act(
            lambda: p.Requantize(input=free.operand((n,)), output=out.operand((n,)), table=table),
            [free],
            [out],
            node.output,
        )


def function(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """A function of one float."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    self.function(asm, source, out, node.attrs["fn"], node.output)


def conv2d(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float convolution of any kind."""
    a = node.attrs
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    w, bias = (np.asarray(x.data, np.float32) for x in node.inputs[1:])
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    top, left, bottom, right = a["pads"]
    asm.act(
        lambda: t.Conv2D(
            input=source.operand(shape),
            output=out.operand(size),
            weights=w,
            bias=bias,
            groups=a["group"],
            pads=((top, bottom), (left, right)),
            stride=tuple(a["strides"]),
            dilation=tuple(a["dilations"]),
            clamp=limits_of(a["fn"]),
        ),
        [source],
        [out],
        node.output,
    )


def conv2d_transpose(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float transposed convolution; the runtime leaves the bias out, so it is added behind."""
    a = node.attrs
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    w, bias = (np.asarray(x.data, np.float32) for x in node.inputs[1:])
    groups = a["group"]
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    # ONNX has (ic, oc / groups, kh, kw); the runtime walks [oc][ic / groups]
    ic, per_out = w.shape[:2]
    weights = w.reshape(groups, ic // groups, per_out, *w.shape[2:]).transpose(0, 2, 1, 3, 4)
    weights = np.ascontiguousarray(weights.reshape(groups * per_out, ic // groups, *w.shape[2:]))
    top, left, bottom, right = a["pads"]
    clamp = limits_of(a["fn"])
    bare = out if not bias.any() else Buffer(Memory.MAIN, F32, size[1:], f"{out.name}.product")
    asm.act(
        lambda: t.Conv2DTranspose(
            input=source.operand(shape),
            output=bare.operand(size),
            weights=weights,
            bias=np.zeros_like(bias),
            groups=groups,
            pads=((top, bottom), (left, right)),
            stride=tuple(a["strides"]),
            dilation=tuple(a["dilations"]),
            clamp=clamp if bare is out else t.NO_CLAMP,
        ),
        [source],
        [bare],
        node.output if bare is out else None,
    )
    if bare is not out:
        by_channel = (1, len(bias), 1, 1)
        offsets = asm.constant(bias.reshape(by_channel), node.inputs[2].name)
        self.binary(asm, t.BinaryOp.ADD, (bare, size), (offsets, by_channel), (out, size), node.output, clamp)


def matmul(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float matrix product, one step for each pair of matrices."""
    x, y = node.inputs[:2]
    a, b = (operand(asm, i, Domain.F32) for i in (x, y))
    out = result(asm, node, Domain.F32)
    rows, inner = x.shape[-2:]
    columns = y.shape[-1]
    bias = np.zeros(columns, np.float32) if len(node.inputs) < 3 else np.asarray(node.inputs[2].data, np.float32)
    batch = node.output.shape[:-2]
    clamp = limits_of(node.attrs["fn"])
    starts_a = np.broadcast_to(np.arange(elements(x.shape[:-2])).reshape(x.shape[:-2]), batch).reshape(-1)
    starts_b = np.broadcast_to(np.arange(elements(y.shape[:-2])).reshape(y.shape[:-2]), batch).reshape(-1)
    for i, (ia, ib) in enumerate(zip(starts_a.tolist(), starts_b.tolist(), strict=True)):

        def make(i: int = i, ia: int = ia, ib: int = ib) -> p.Step:
            return t.MatMul(
                input_a=_matrix(a, ia, rows, inner),
                input_b=_matrix(b, ib, inner, columns),
                output=_matrix(out, i, rows, columns),
                bias=bias,
                clamp=clamp,
            )

        asm.act(make, [a, b], [out], node.output if i == len(starts_a) - 1 else None)


def _matrix(b: Buffer, index: int, rows: int, columns: int) -> Operand:
    return Operand(b.memory, b.start + index * rows * columns * F32.size, F32, (rows, columns))


def reduce(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float reduction over some axes."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    shape = four(node.inputs[0].shape)
    shift = 4 - len(node.inputs[0].shape)
    axes = tuple(a + shift for a in node.attrs["axes"])
    kept = tuple(1 if i in axes else d for i, d in enumerate(shape))
    reduce_step(asm, t.ReduceOp[node.attrs["kind"]], source, out, shape, kept, axes, node.output)


def arg(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Positions of the largest or smallest values (V5)."""
    a, x = node.attrs, node.inputs[0]
    source = asm.get(x, Domain.F32)
    out = Buffer(Memory.MAIN, p.DType.I64, node.output.shape[1:], node.output.name)
    asm.forms[id(node.output), Domain.F32] = out
    shape = around(x.shape, a["axis"])
    kept = (shape[0], 1, 1, shape[3])
    asm.act(
        lambda: ReduceArg(
            input=source.operand(shape),
            output=out.operand(kept),
            greatest=a["greatest"],
            axes=(1,),
            keep_dims=True,
            last=a["last"],
        ),
        [source],
        [out],
        node.output,
    )


def normalize(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """The sum of squares or sizes along an axis, kept from 0, and what it takes to divide by the norm."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    shape = around(node.output.shape, node.attrs["axis"])
    kept = (shape[0], 1, 1, shape[3])
    least = asm.constant(np.full((1, 1, 1, 1), SMALLEST, np.float32), f"{out.name}.least")

    def scratch(name: str, of: tuple[int, ...]) -> Buffer:
        return Buffer(Memory.MAIN, F32, of, f"{out.name}.{name}")

    def unary(op: t.UnaryOp, x: Buffer, y: Buffer) -> None:
        n = (elements(y.shape),)
        asm.act(lambda: t.Unary(input=x.operand(n), output=y.operand(n), op=op), [x], [y])

    terms, total, norm = scratch("terms", shape), scratch("total", kept), scratch("norm", kept)
    unary(t.UnaryOp.SQUARE if node.attrs["p"] == 2 else t.UnaryOp.ABS, source, terms)
    reduce_step(asm, t.ReduceOp.SUM, terms, total, shape, kept, (1,), None)
    self.binary(asm, t.BinaryOp.MAX, (total, kept), (least, (1, 1, 1, 1)), (norm, kept), None)
    if node.attrs["p"] == 1:
        self.binary(asm, t.BinaryOp.DIV, (source, shape), (norm, kept), (out, shape), node.output)
        return
    factor = scratch("factor", kept)
    unary(t.UnaryOp.RSQRT, norm, factor)
    self.binary(asm, t.BinaryOp.MUL, (source, shape), (factor, kept), (out, shape), node.output)


def pool(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float maximum or mean over windows."""
    a = node.attrs
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    top, left, bottom, right = a["pads"]
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    op = t.ReduceOp[a["kind"]]
    init = LOWEST if op is t.ReduceOp.MAX else 0.0
    pads = ((top, bottom), (left, right))
    window_step(asm, op, source, out, shape, size, a["kernel"], a["stride"], pads, init, node.output)


def tensor_pad(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Pad any axes with a value."""
    domain = domain_of(node)
    source = asm.get(node.inputs[0], domain)
    out = result(asm, node, domain)
    value = float(node.attrs["value"])
    if domain is Domain.U8:
        value = float(asm.params(node.inputs[0]).zero_point)
    begins, ends = node.attrs["pads"]
    shift = 4 - len(begins)
    pads = ((0, 0),) * shift + tuple(zip(begins, ends, strict=True))
    pad_step(asm, source, out, node, pads, value)


def tensor_slice(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """``x[begin:end:stride]`` in every dimension."""
    domain, a = domain_of(node), node.attrs
    source = asm.get(node.inputs[0], domain)
    out = result(asm, node, domain)
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    shift = 4 - len(a["begin"])
    begin, end, stride = ((i,) * shift + tuple(a[k]) for i, k in ((0, "begin"), (1, "end"), (1, "stride")))
    slice_step(asm, source, out, shape, size, begin, end, stride, node.output)


def tensor_transpose(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Any order of up to four dimensions."""
    transpose_step(asm, node, domain_of(node), node.attrs["view"], node.attrs["perm"])


def tensor_resize(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Bilinear, or nearest neighbour by the runtime's other rules."""
    domain = domain_of(node)
    source = asm.get(node.inputs[0], domain)
    out = result(asm, node, domain)
    mode = t.ResizeMode.BILINEAR if node.attrs["mode"] == "linear" else t.ResizeMode.NEAREST
    resize_step(asm, source, out, node, mode, node.attrs["align_corners"], node.attrs["half_pixel"])


def tensor_softmax(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Along any axis."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    axis, shape = node.attrs["axis"], node.output.shape
    self.softmax(asm, source, out, around(shape, axis), 1, node.output)


HANDLERS: Final[dict[str, Callable[[Any, Assembler, Node], None]]] = {
    "TensorBinary": binary,
    "TensorFunction": function,
    "TensorConv": conv2d,
    "TensorConvTranspose": conv2d_transpose,
    "TensorMatMul": matmul,
    "TensorReduce": reduce,
    "TensorArg": arg,
    "TensorPool": pool,
    "CpuNormalize": normalize,
    "TensorPad": tensor_pad,
    "TensorSlice": tensor_slice,
    "TensorTranspose": tensor_transpose,
    "TensorResize": tensor_resize,
    "TensorConcat": shared.concat,
    "TensorSoftmax": tensor_softmax,
}

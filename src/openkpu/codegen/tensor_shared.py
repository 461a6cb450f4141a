"""The CPU operators that V3 has too, as tensor steps of V4 and V5: one handler each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from openkpu.codegen.assemble import F32, Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.codegen.tensor_single import (
    SIGMOID,
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
from openkpu.kmodel.program import Memory
from openkpu.lower.ops import Domain
from openkpu.quantize.params import QParams

if TYPE_CHECKING:
    from openkpu.codegen.tensor_steps import TensorSteps


def max_pool(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """A slice, where the window is one pixel; else the maximum in float, of the bytes as they are."""
    a = node.attrs
    source = asm.get(node.inputs[0], Domain.U8)
    out = result(asm, node, Domain.U8)
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    kernel, stride, origin = a["kernel"], a["stride"], a["origin"]
    if tuple(kernel) == (1, 1) and min(origin) >= 0:
        ends = [o + s * (n - 1) + 1 for o, s, n in zip(origin, stride, size[2:], strict=True)]
        slice_step(asm, source, out, shape, size, (0, 0, *origin), (*shape[:2], *ends), (1, 1, *stride), node.output)
        return
    counts = Buffer(Memory.MAIN, F32, shape[1:], f"{out.name}.counts")
    most = Buffer(Memory.MAIN, F32, size[1:], f"{out.name}.most")
    same = QParams.uniform(1.0, 0, 1)
    self.dequantize(asm, source, counts, same, node.inputs[0])
    pads = tuple(
        (-o, s * (n - 1) + k - d + o) for o, s, n, k, d in zip(origin, stride, size[2:], kernel, shape[2:], strict=True)
    )
    window_step(asm, t.ReduceOp.MAX, counts, most, shape, size, kernel, stride, pads, 0.0, None)
    n = elements(size)
    asm.act(
        lambda: t.QuantizeTensor(input=most.operand((n,)), output=out.operand((n,)), scale=1.0, zero_point=0),
        [most],
        [out],
        node.output,
    )


def pad(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """With the zero point as the value: the vendor's V4 compiler forgot it, the runtime reads it."""
    source = asm.get(node.inputs[0], Domain.U8)
    out = result(asm, node, Domain.U8)
    top, left, bottom, right = node.attrs["pads"]
    pads = ((0, 0), (0, 0), (top, bottom), (left, right))
    pad_step(asm, source, out, node, pads, float(asm.params(node.inputs[0]).zero_point))


def resize(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Nearest neighbour on uint8."""
    source = asm.get(node.inputs[0], Domain.U8)
    out = result(asm, node, Domain.U8)
    resize_step(asm, source, out, node, t.ResizeMode.NEAREST)


def table(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """A function by table."""
    source = asm.get(node.inputs[0], Domain.U8)
    out = result(asm, node, Domain.U8)
    n, values = elements(node.output.shape), asm.q.tables[id(node)]
    asm.act(
        lambda: p.Requantize(input=source.operand((n,)), output=out.operand((n,)), table=values),
        [source],
        [out],
        node.output,
    )


def global_average_pool(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Mean of each channel."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    shape = four(node.inputs[0].shape)
    reduce_step(asm, t.ReduceOp.MEAN, source, out, shape, (*shape[:2], 1, 1), (2, 3), node.output)


def average_pool(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Mean of windows over the taps inside."""
    a = node.attrs
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    top, left, bottom, right = a["pads"]
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    pads = ((top, bottom), (left, right))
    window_step(asm, t.ReduceOp.MEAN, source, out, shape, size, a["kernel"], a["stride"], pads, 0.0, node.output)


def fully_connected(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Matrix product with constant weights."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    w, bias = (np.asarray(x.data, np.float32) for x in node.inputs[1:])
    weights = asm.constant(np.ascontiguousarray(w.T), node.inputs[1].name)
    n, k = w.shape
    clamp = limits_of(node.attrs["fn"])
    asm.act(
        lambda: t.MatMul(
            input_a=source.operand((1, k)),
            input_b=weights.operand(),
            output=out.operand((1, n)),
            bias=bias,
            clamp=clamp,
        ),
        [source, weights],
        [out],
        node.output,
    )


def softmax(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Over the last ``length`` values of each vector."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    length = node.attrs["length"]
    shape = (1, 1, elements(node.output.shape) // length, length)
    self.softmax(asm, source, out, shape, 3, node.output)


def logistic(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Sigmoid."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    self.function(asm, source, out, SIGMOID, node.output)


def add(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float sum of two tensors of one shape."""
    a, b = (asm.get(x, Domain.F32) for x in node.inputs)
    out = result(asm, node, Domain.F32)
    shape = four(node.output.shape) if len(node.output.shape) <= 4 else (elements(node.output.shape),)
    self.binary(asm, t.BinaryOp.ADD, (a, shape), (b, shape), (out, shape), node.output)


def to_hwc(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """CHW -> HWC."""
    transpose_step(asm, node, Domain.F32, four(node.inputs[0].shape), (0, 2, 3, 1))


def concat(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """One after the other along an axis; all dimensions before it count as one, all behind it too."""
    domain, axis = domain_of(node), node.attrs["axis"]
    if self.version == 4 and elements(node.output.shape[:axis]) == 1 and not any(t.is_constant for t in node.inputs):
        whole = asm.in_place([asm.get(t, domain) for t in node.inputs], node.output.name)
        if whole is not None:
            asm.forms[id(node.output), domain] = whole
            return
    parts = [(operand(asm, x, domain), around(x.shape, axis)) for x in node.inputs]
    out = result(asm, node, domain)
    self.concatenate(asm, parts, (out, around(node.output.shape, axis)), 1, node.output)


HANDLERS: Final[dict[str, Callable[[Any, Assembler, Node], None]]] = {
    "CpuMaxPool": max_pool,
    "CpuPad": pad,
    "CpuResize": resize,
    "CpuTable": table,
    "CpuGlobalAveragePool": global_average_pool,
    "CpuAveragePool": average_pool,
    "CpuFullyConnected": fully_connected,
    "CpuSoftmax": softmax,
    "CpuLogistic": logistic,
    "CpuAdd": add,
    "CpuToHWC": to_hwc,
    "CpuConcat": concat,
}

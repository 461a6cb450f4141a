"""V3 steps of operators on floats: means, matrix products, vectors, sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from openkpu.codegen.assemble import F32, U8, Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.graph.ir import Node
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory
from openkpu.lower.dense import CPU_FUNCTIONS
from openkpu.lower.ops import Domain

ACTIVATIONS: Final = (p.Activation.LINEAR, p.Activation.RELU, p.Activation.RELU6)


def _f32(asm: Assembler, node: Node) -> tuple[Buffer, Buffer]:
    """Return input and new output of a float operator."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = asm.buffer(Memory.MAIN, F32, node.output.shape[1:], node.output)
    asm.forms[id(node.output), Domain.F32] = out
    return source, out


def global_average_pool(asm: Assembler, node: Node) -> None:
    """Mean of each channel."""
    source, out = _f32(asm, node)
    _, c, h, w = node.inputs[0].shape
    asm.act(
        lambda: p.GlobalAveragePool(input=source.operand((c, h * w)), output=out.operand((c,))),
        [source],
        [out],
        node.output,
    )


def average_pool(asm: Assembler, node: Node) -> None:
    """Mean of windows."""
    source, out = _f32(asm, node)
    a = node.attrs
    shape, size = node.inputs[0].shape[1:], node.output.shape[1:]
    asm.act(
        lambda: p.AveragePool(
            input=source.operand(shape),
            output=out.operand(size),
            kernel=a["kernel"][::-1],
            stride=a["stride"][::-1],
            padding=(a["pads"][1], a["pads"][0]),
        ),
        [source],
        [out],
        node.output,
    )


def fully_connected(asm: Assembler, node: Node) -> None:
    """Float matrix product."""
    source, out = _f32(asm, node)
    w, b = (np.asarray(t.data, np.float32) for t in node.inputs[1:])
    kind = ACTIVATIONS[CPU_FUNCTIONS.index(node.attrs["fn"])]
    asm.act(
        lambda: p.FullyConnected(
            input=source.operand((w.shape[1],)),
            output=out.operand((w.shape[0],)),
            weights=w,
            bias=b,
            activation=kind,
        ),
        [source],
        [out],
        node.output,
    )


def softmax(asm: Assembler, node: Node) -> None:
    """One step for each vector."""
    _vectors(asm, node, node.attrs["length"], p.Softmax)


def normalize(asm: Assembler, node: Node) -> None:
    """One step for each vector along the last dimension that is not 1."""
    _vectors(asm, node, node.output.shape[node.attrs["axis"]], p.L2Normalization)


def _vectors(asm: Assembler, node: Node, length: int, kind: type[p.Softmax] | type[p.L2Normalization]) -> None:
    source, out = _f32(asm, node)
    count = int(np.prod(node.output.shape)) // length
    for i in range(count):

        def make(i: int = i) -> p.Step:
            def part(b: Buffer) -> p.Operand:
                return p.Operand(Memory.MAIN, b.start + 4 * i * length, F32, (length,))

            return kind(input=part(source), output=part(out))

        asm.act(make, [source], [out], node.output if i == count - 1 else None)


def logistic(asm: Assembler, node: Node) -> None:
    """Sigmoid of any number of values."""
    source, out = _f32(asm, node)
    n = int(np.prod(node.output.shape))
    asm.act(lambda: p.Logistic(input=source.operand((n,)), output=out.operand((n,))), [source], [out], node.output)


def add(asm: Assembler, node: Node) -> None:
    """Float sum."""
    a, b = (asm.get(t, Domain.F32) for t in node.inputs)
    out = asm.buffer(Memory.MAIN, F32, node.output.shape[1:], node.output)
    asm.forms[id(node.output), Domain.F32] = out
    n = int(np.prod(node.output.shape))
    asm.act(
        lambda: p.Add(input_a=a.operand((n,)), input_b=b.operand((n,)), output=out.operand((n,))),
        [a, b],
        [out],
        node.output,
    )


def to_hwc(asm: Assembler, node: Node) -> None:
    """CHW -> HWC."""
    source, out = _f32(asm, node)
    c, h, w = node.inputs[0].shape[1:]
    asm.act(
        lambda: p.Flatten(input=source.operand((c, h, w)), output=out.operand((h, w, c))),
        [source],
        [out],
        node.output,
    )


def concat(asm: Assembler, node: Node) -> None:
    """Floats one after the other: made there where possible, else copied."""
    parts = [asm.get(t, Domain.F32) for t in node.inputs]
    whole = asm.in_place(parts, node.output.name)
    if whole is not None:
        asm.forms[id(node.output), Domain.F32] = whole
        return
    out = asm.buffer(Memory.MAIN, F32, node.output.shape[1:], node.output)
    asm.forms[id(node.output), Domain.F32] = out
    sizes = [4 * int(np.prod(t.shape)) for t in node.inputs]

    def make() -> p.Step:
        return p.Concat(
            inputs=tuple(b.operand((n,), U8) for b, n in zip(parts, sizes, strict=True)),
            output=out.operand((sum(sizes),), U8),
        )

    asm.act(make, parts, [out], node.output)


HANDLERS: Final[dict[str, Callable[[Assembler, Node], None]]] = {
    "CpuGlobalAveragePool": global_average_pool,
    "CpuAveragePool": average_pool,
    "CpuFullyConnected": fully_connected,
    "CpuSoftmax": softmax,
    "CpuLogistic": logistic,
    "CpuAdd": add,
    "CpuToHWC": to_hwc,
    "CpuConcat": concat,
    "CpuNormalize": normalize,
}

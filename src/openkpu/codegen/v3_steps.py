"""The steps of the V3 runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from openkpu.codegen import v3_more, v3_rows
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
from openkpu.lower.dense import CPU_FUNCTIONS
from openkpu.lower.ops import Domain
from openkpu.quantize.params import QParams

LEAST_ROW: Final = 3
"""Pixels of a row from which copying it is faster than the runtime's pooling, pixel by pixel."""
WORD: Final = 8
"""Widths that are multiples of it are uploaded so many bytes at a time."""
ACTIVATIONS: Final = (p.Activation.LINEAR, p.Activation.RELU, p.Activation.RELU6)


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


def _u8(asm: Assembler, node: Node) -> tuple[Buffer, Buffer]:
    """Return input and new output of a uint8 operator in main RAM."""
    source = asm.get(node.inputs[0], Domain.U8)
    out = asm.buffer(Memory.MAIN, U8, node.output.shape[1:], node.output)
    asm.forms[id(node.output), Domain.U8] = out
    return source, out


def _f32(asm: Assembler, node: Node) -> tuple[Buffer, Buffer]:
    """Return input and new output of a float operator."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = asm.buffer(Memory.MAIN, F32, node.output.shape[1:], node.output)
    asm.forms[id(node.output), Domain.F32] = out
    return source, out


def max_pool(asm: Assembler, node: Node) -> None:
    """Maximum, crop or strided slice: the runtime's pooling with a (possibly negative) padding."""
    a = node.attrs
    source, out = _u8(asm, node)
    shape, size = node.inputs[0].shape[1:], node.output.shape[1:]
    kernel, stride, origin = a["kernel"][::-1], a["stride"][::-1], a["origin"][::-1]
    if shape[1:] == (MIN_SIZE, MIN_SIZE) and size[1:] == kernel == (1, 1) and origin == (0, 0):
        asm.act(
            lambda: p.KpuRemovePadding(input=source.operand(shape), output=out.operand((size[0],))),
            [source],
            [out],
            node.output,
        )
        return
    if kernel == stride == (1, 1) and min(origin) >= 0 and (size[2] >= LEAST_ROW or size[2] == shape[2]):
        _cut(asm, node, source, out)
        return
    asm.act(
        lambda: p.QuantizedMaxPool(
            input=source.operand(shape),
            output=out.operand(size),
            kernel=kernel,
            stride=stride,
            padding=(-origin[0], -origin[1]),
        ),
        [source],
        [out],
        node.output,
    )


def _cut(asm: Assembler, node: Node, source: Buffer, out: Buffer) -> None:
    """Copy the rows of a part one after the other; where they are whole, those of a channel together."""
    c, h, w = node.inputs[0].shape[1:]
    (top, left), (oh, ow) = node.attrs["origin"], node.attrs["size"]
    if ow == w:
        starts, count = [(i * h + top) * w for i in range(c)], oh * w
    else:
        starts, count = [((i * h) + top + y) * w + left for i in range(c) for y in range(oh)], ow
    asm.act(
        lambda: p.Concat(
            inputs=tuple(source.part(first, count) for first in starts),
            output=out.operand((byte_count(out),)),
            quantized=True,
        ),
        [source],
        [out],
        node.output,
    )


def pad(asm: Assembler, node: Node) -> None:
    """With zero point 0 the runtime's pooling pads (one pixel at the far edges); else rows are gathered.

    Values that become one pixel of a 4x4 map each go to AI RAM by the runtime's own step for it.
    """
    t = node.output
    pixels = node.inputs[0].shape[2:] == (1, 1) and node.attrs["pads"] == (0, 0, MIN_SIZE - 1, MIN_SIZE - 1)
    if pixels and all(u.op == "KpuConv" for u in asm.graph.consumers(t)) and not asm.graph.is_output(t):
        values = asm.get(node.inputs[0], Domain.U8)
        spread = asm.buffer(Memory.AI, U8, t.shape[1:], t)
        asm.forms[id(t), Domain.AI] = spread
        k = t.shape[1]
        asm.act(lambda: p.KpuAddPadding(input=values.part(0, k), output=spread.operand()), [values], [spread], t)
        return
    source, out = _u8(asm, node)
    shape, size = node.inputs[0].shape[1:], node.output.shape[1:]
    top, left, bottom, right = node.attrs["pads"]
    zp = asm.params(node.inputs[0]).zero_point
    # A window that starts beyond the far edge makes the device runtime read outside the picture.
    if zp == 0 and right <= 1 and bottom <= 1:
        asm.act(
            lambda: p.QuantizedMaxPool(
                input=source.operand(shape),
                output=out.operand(size),
                kernel=(1, 1),
                stride=(1, 1),
                padding=(left, top),
            ),
            [source],
            [out],
            node.output,
        )
        return
    width = size[2]
    n = min(byte_count(source), max(top * width + left, right + left, right + bottom * width, 1))
    filler = Buffer(Memory.MAIN, U8, (n,), f"{out.name}.filler")
    table = bytes([zp]) * 256
    asm.act(
        lambda: p.Requantize(input=source.operand((n,)), output=filler.operand((n,)), table=table),
        [source],
        [filler],
    )

    def make() -> p.Step:
        pieces: list[p.Operand] = []

        def fill(count: int) -> None:
            while count > 0:
                pieces.append(p.Operand(Memory.MAIN, filler.start, U8, (min(count, n),)))
                count -= n

        c, h, w = shape
        for i in range(c * h):
            y = i % h
            fill(left + (top * width if y == 0 else 0))
            pieces.append(p.Operand(Memory.MAIN, source.start + i * w, U8, (w,)))
            fill(right + (bottom * width if y == h - 1 else 0))
        return p.Concat(inputs=tuple(pieces), output=out.operand((byte_count(out),)), quantized=True)

    asm.act(make, [source, filler], [out], node.output)


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


def table(asm: Assembler, node: Node) -> None:
    """A function by table."""
    source, out = _u8(asm, node)
    n, table = int(np.prod(node.output.shape)), asm.q.tables[id(node)]
    asm.act(
        lambda: p.Requantize(input=source.operand((n,)), output=out.operand((n,)), table=table),
        [source],
        [out],
        node.output,
    )


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
    source, out = _f32(asm, node)
    length = node.attrs["length"]
    count = int(np.prod(node.output.shape)) // length
    for i in range(count):

        def make(i: int = i) -> p.Step:
            def part(b: Buffer) -> p.Operand:
                return p.Operand(Memory.MAIN, b.start + 4 * i * length, F32, (length,))

            return p.Softmax(input=part(source), output=part(out))

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


def tiles(asm: Assembler, node: Node) -> None:
    """Gather the tiles of a map row by row (whole columns of rows where a tile is as wide as the map)."""
    parts = [asm.get(t, Domain.U8) for t in node.inputs]
    out = asm.buffer(Memory.MAIN, U8, node.output.shape[1:], node.output)
    asm.forms[id(node.output), Domain.U8] = out
    axis = node.attrs["axis"]
    count = int(np.prod(node.output.shape[:axis]))

    def make() -> p.Step:
        pieces = [
            b.part(i * size, size)
            for i in range(count)
            for b, size in ((b, int(np.prod(t.shape)) // count) for b, t in zip(parts, node.inputs, strict=True))
        ]
        return p.Concat(inputs=tuple(pieces), output=out.operand((byte_count(out),)), quantized=True)

    asm.act(make, parts, [out], node.output)


HANDLERS: Final[dict[str, Callable[[Assembler, Node], None]]] = {
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
    "TensorConcat": tiles,
    **v3_more.HANDLERS,
}

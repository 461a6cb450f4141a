"""Turn a quantised graph into actions, bringing every tensor into the memory and form that its readers want.

A tensor can exist in up to three forms: a feature map in AI RAM, uint8 in main RAM, float32 in main RAM. Each form is
made once, when the first reader asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from openkpu.codegen import plan
from openkpu.codegen.buffers import Action, Body, Buffer
from openkpu.codegen.identity import identity_layer
from openkpu.codegen.plan import MemoryPlan
from openkpu.errors import UnsupportedError
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import AI_LINE_BYTES
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Memory
from openkpu.kpu.layer import KpuLayer
from openkpu.lower.ops import Domain
from openkpu.quantize.params import QParams
from openkpu.quantize.quantizer import Quantized
from openkpu.schedule.allocate import Piece, conflict

U8, F32 = DType.U8, DType.F32
FOREVER = 1 << 30
ACTIVATIONS = (p.Activation.LINEAR, p.Activation.RELU, p.Activation.RELU6)


@dataclass(frozen=True, slots=True)
class Assembled:
    """The program, its memory plan, and for each step the lowered tensor that it makes (None: a helper step)."""

    program: p.Program
    plan: MemoryPlan
    tensors: tuple[Tensor | None, ...]


class Assembler:
    """Builds the actions of one graph."""

    def __init__(self, graph: Graph, quantized: Quantized) -> None:
        self.graph = graph
        self.q = quantized
        self.actions: list[Action] = []
        self.made: list[Tensor | None] = []
        self.forms: dict[tuple[int, Domain], Buffer] = {}
        self.users = graph.users()
        self.inputs: list[Buffer] = []
        self.current: Node | None = None

    # -- actions --------------------------------------------------------------------------------------------------
    def act(
        self, make: Callable[[], p.Step], reads: list[Buffer], writes: list[Buffer], tensor: Tensor | None = None
    ) -> None:
        """Append an action; steps get the source layer's name."""
        node = self.current
        name = (node.source[-1] if node.source else node.output.name) if node is not None else ""
        self.actions.append(Action(reads, writes, lambda: replace(make(), name=name), name))
        self.made.append(tensor)

    def buffer(self, memory: Memory, dtype: DType, shape: tuple[int, ...], t: Tensor) -> Buffer:
        """Make a buffer for a tensor."""
        return Buffer(memory, dtype, shape, t.name)

    def params(self, t: Tensor) -> QParams:
        """Return a tensor's quantisation."""
        return self.q.params[id(t)]

    def root(self, t: Tensor) -> Tensor:
        """Return the tensor whose bytes these are: behind Reshapes."""
        while t.producer is not None and t.producer.op == "Reshape":
            t = t.producer.inputs[0]
        return t

    # -- forms ----------------------------------------------------------------------------------------------------
    def get(self, tensor: Tensor, domain: Domain) -> Buffer:
        """Return the buffer that holds a tensor in a form, making it where needed."""
        t = self.root(tensor)
        key = (id(t), domain)
        if key not in self.forms:
            if domain is Domain.F32:
                self.forms[key] = self._to_float(t)
            elif domain is Domain.U8:
                self.forms[key] = self._to_u8(t, tensor)
            else:
                self.forms[key] = self._to_ai(t)
        return self.forms[key]

    def _to_float(self, t: Tensor) -> Buffer:
        source = self.get(t, Domain.U8)
        out = self.buffer(Memory.MAIN, F32, t.shape[1:], t)
        q = self.params(t)
        n = int(np.prod(t.shape))
        if q.is_uniform:
            scale, bias = float(q.scale[0]), float(q.bias[0])
            self.act(
                lambda: p.Dequantize(input=source.operand((n,)), output=out.operand((n,)), scale=scale, bias=bias),
                [source],
                [out],
            )
        else:
            c = t.shape[1]
            scales, biases = q.scale.astype(np.float32), q.bias.astype(np.float32)
            self.act(
                lambda: p.ChannelwiseDequantize(
                    input=source.operand((c, n // c)), output=out.operand((c, n // c)), scale=scales, bias=biases
                ),
                [source],
                [out],
            )
        return out

    def _to_u8(self, t: Tensor, seen: Tensor) -> Buffer:
        out = self.buffer(Memory.MAIN, U8, t.shape[1:], t)
        node = t.producer
        if (id(t), Domain.F32) in self.forms:
            source = self.forms[id(t), Domain.F32]
            q = self.q.params.get(id(t)) or self.params(seen)
            n = int(np.prod(t.shape))
            scale, bias = float(q.scale[0]), float(q.bias[0])
            self.act(
                lambda: p.Quantize(input=source.operand((n,)), output=out.operand((n,)), scale=scale, bias=bias),
                [source],
                [out],
            )
            return out
        if node is None:
            layer = identity_layer(t.shape[1:])
            self._conv(layer, self.get(t, Domain.AI), self.buffer(Memory.AI, U8, t.shape[1:], t), out, None)
            return out
        if node.op == "KpuConcat":
            parts = [self.get(i, Domain.U8) for i in node.inputs]
            self.act(
                lambda: p.Concat(
                    inputs=tuple(b.operand((_bytes(b),)) for b in parts),
                    output=out.operand((_bytes(out),)),
                    quantized=True,
                ),
                parts,
                [out],
            )
            return out
        # A layer's result is in AI RAM and wanted in main RAM too. No shipped model reads the AI-RAM copy of a layer that
        # also writes main RAM, so it is not known to be whole; the layer runs once more instead.
        self._conv(
            self.q.layers[id(node)].layer,
            self.get(node.inputs[0], Domain.AI),
            self.buffer(Memory.AI, U8, t.shape[1:], t),
            out,
            None,
        )
        return out

    def _to_ai(self, t: Tensor) -> Buffer:
        node = t.producer
        if node is None and self.q.params.get(id(t)) is not None and len(t.shape) == 4 and not self.actions:
            raise UnsupportedError("E231", "the model's input is not a picture", where=f"input '{t.name}'")
        if node is not None and node.op == "KpuConcat":
            return self._side_by_side(node)
        source = self.get(t, Domain.U8)
        shape = t.shape[1:]
        out = self.buffer(Memory.AI, U8, shape, t)
        self.act(lambda: p.KpuUpload(input=source.operand(shape), output=out.operand()), [source], [out])
        return out

    def _side_by_side(self, node: Node) -> Buffer:
        """Bring the parts next to each other in AI RAM; a part that cannot move there is copied by a KPU layer."""
        whole = Buffer(Memory.AI, U8, node.output.shape[1:], node.output.name)
        parts = [self.get(t, Domain.AI) for t in node.inputs]
        for i, part in enumerate(parts):
            first = self.expand([parts[0]])[0]
            distance = sum(b.size for b in parts[:i])
            if i == 0:
                first.body = first.body or Body([first])
            elif not self._join(first, part, distance):
                assert first.body is not None
                copy = Buffer(Memory.AI, U8, part.shape, f"{part.name}.copy", first.body, first.offset + distance)
                self._conv(identity_layer(part.shape), part, copy, None, None)
                first.body.members.append(copy)
                parts[i] = copy
        self.aliases[id(whole)] = parts
        return whole

    def _join(self, first: Buffer, part: Buffer, distance: int) -> bool:
        """Put a buffer, with everything that already lies beside it, ``distance`` bytes behind ``first``.

        False, and nothing changed, if anything would collide.
        """
        body = first.body
        assert body is not None
        anchor = self.expand([part])[0]
        shift = first.offset + distance - anchor.offset
        if anchor.body is body:
            return shift == 0
        moved = anchor.body.members if anchor.body is not None else [anchor]
        places = [(m, m.offset) for m in body.members] + [(m, m.offset + shift) for m in moved]
        life = self._life_so_far()
        if conflict([Piece(o, m.size, *life.get(id(m), (0, FOREVER))) for m, o in places]) is not None:
            return False
        lowest = min(o for _, o in places)
        body.members = [m for m, _ in places]
        for m, o in places:
            m.body, m.offset = body, o - lowest
        return True

    def _life_so_far(self) -> dict[int, tuple[int, int]]:
        """Lifetimes as far as known; a tensor with readers to come lives on."""
        life: dict[int, tuple[int, int]] = {}
        for i, a in enumerate(self.actions):
            for b in (*self.expand(a.writes), *self.expand(a.reads)):
                first, _ = life.get(id(b), (i, i))
                life[id(b)] = (first, i)
        now = len(self.actions)
        for (key, _), b in self.forms.items():
            if self._needed_later(key):
                for m in self.expand([b]):
                    first, _ = life.get(id(m), (-1, now))
                    life[id(m)] = (first, FOREVER)
        for b in self.inputs:
            life.setdefault(id(b), (-1, now))
        return life

    def _needed_later(self, tensor_id: int) -> bool:
        for u in self.users.get(tensor_id, []):
            if id(u) not in self.finished or (u.op in ("KpuConcat", "Reshape") and self._needed_later(id(u.output))):
                return True
        return False

    def expand(self, buffers: list[Buffer]) -> list[Buffer]:
        """Replace a concatenation's buffer by its parts."""
        found: list[Buffer] = []
        for b in buffers:
            found += self.expand(self.aliases[id(b)]) if id(b) in self.aliases else [b]
        return found

    # -- nodes ----------------------------------------------------------------------------------------------------
    def run(self) -> Assembled:
        """Make the program."""
        self.aliases: dict[int, list[Buffer]] = {}
        self.finished: set[int] = set()
        (source,) = self.graph.inputs
        self._input(source)
        for node in self.graph.nodes:
            self.current = node
            if node.op != "Reshape":
                HANDLERS[node.op](self, node)
            self.finished.add(id(node))
        self.current = None
        outputs = [self.get(t, Domain.F32) for t in self.graph.outputs]
        for a in self.actions:
            a.reads, a.writes = self.expand(a.reads), self.expand(a.writes)
        memory = plan.place(self.actions, self.inputs, outputs)
        for b in self.whole_buffers():
            first = self.expand([b])[0]
            b.start = first.start
        steps = tuple(a.make() for a in self.actions)
        shapes = [t.shape[1:] if len(t.shape) > 1 and t.shape[0] == 1 else t.shape for t in self.graph.outputs]
        program = p.Program(
            version=3,
            inputs=tuple(b.operand() for b in self.inputs),
            outputs=tuple(b.operand(tuple(s)) for b, s in zip(outputs, shapes, strict=True)),
            steps=steps,
            main_bytes=max(memory.main.peak, 8),
        )
        return Assembled(program, memory, tuple(self.made))

    def whole_buffers(self) -> list[Buffer]:
        """Concatenations' buffers, which have no place of their own."""
        return [b for b in self.forms.values() if id(b) in self.aliases]

    def _input(self, t: Tensor) -> None:
        """A picture goes to AI RAM; a float vector to main RAM."""
        if id(t) in self.q.params and len(t.shape) == 4:
            b = self.buffer(Memory.AI, U8, t.shape[1:], t)
            self.forms[id(t), Domain.AI] = b
        else:
            b = self.buffer(Memory.MAIN, F32, t.shape[1:], t)
            self.forms[id(t), Domain.F32] = b
        self.inputs.append(b)
        first = next((n for n in self.graph.nodes if n.op != "Reshape"), None)
        if b.memory is Memory.MAIN:
            if first is None or first.op != "CpuFullyConnected":
                raise UnsupportedError(
                    "E231",
                    "a float input that is not read by a fully connected layer first",
                    where=f"input '{t.name}'",
                    why="kmodel V3 starts with a KPU layer on a uint8 picture or "
                    "with a fully connected layer on floats",
                    fix="give the model a picture (1, C, H, W)",
                )

    def _conv(
        self,
        layer: KpuLayer,
        source: Buffer,
        target: Buffer,
        main: Buffer | None,
        tensor: Tensor | None,
        main_shape: tuple[int, ...] | None = None,
    ) -> None:
        def make() -> p.Step:
            registers = replace(
                layer.registers,
                image_src_addr=source.start // AI_LINE_BYTES,
                image_dst_addr=target.start // AI_LINE_BYTES,
            )
            out = main.operand(main_shape or layer.output_shape) if main is not None else None
            return p.KpuConv(
                layer=replace(layer, registers=registers, cache={}), main_output=out, flags=int(main is not None)
            )

        self.act(make, [source], [target] + ([main] if main is not None else []), tensor)

    def kpu_conv(self, node: Node) -> None:
        """A KPU layer; where only main RAM wants its result, it goes there directly."""
        layer = self.q.layers[id(node)].layer
        t = node.output
        if node.attrs["vector"]:
            self._vector_conv(node, layer)
            return
        source = self.get(node.inputs[0], Domain.AI)
        target = self.buffer(Memory.AI, U8, t.shape[1:], t)
        if self._ai_readers(t):
            self.forms[id(t), Domain.AI] = target
            self._conv(layer, source, target, None, t)
        else:
            out = self.buffer(Memory.MAIN, U8, t.shape[1:], t)
            self.forms[id(t), Domain.U8] = out
            self._conv(layer, source, target, out, t)

    def _ai_readers(self, t: Tensor) -> bool:
        return any(
            (u.op == "KpuConv" and not u.attrs["vector"]) or (u.op == "KpuConcat" and self._ai_readers(u.output))
            for u in self.users.get(id(t), [])
        )

    def _vector_conv(self, node: Node, layer: KpuLayer) -> None:
        x, t = node.inputs[0], node.output
        source = self.get(x, Domain.U8)
        k, n = layer.registers.i_ch_num, layer.registers.o_ch_num
        first = node.attrs["offset"]
        spread = Buffer(Memory.AI, U8, (k, 4, 4), f"{x.name}.4x4")
        self.act(lambda: p.KpuAddPadding(input=_from(source, first, k), output=spread.operand()), [source], [spread])
        target = Buffer(Memory.AI, U8, (n, 4, 4), f"{t.name}.4x4")
        wide = Buffer(Memory.MAIN, U8, (n, 4, 4), f"{t.name}.4x4")
        self._conv(layer, spread, target, wide, None)
        out = self.buffer(Memory.MAIN, U8, (n,), t)
        self.act(lambda: p.KpuRemovePadding(input=wide.operand(), output=out.operand()), [wide], [out], t)
        self.forms[id(t), Domain.U8] = out

    def kpu_concat(self, node: Node) -> None:
        """Placement only; happens when somebody reads it."""

    def u8(self, node: Node) -> tuple[Buffer, Buffer]:
        """Return input and new output of a uint8 operator in main RAM."""
        source = self.get(node.inputs[0], Domain.U8)
        out = self.buffer(Memory.MAIN, U8, node.output.shape[1:], node.output)
        self.forms[id(node.output), Domain.U8] = out
        return source, out

    def f32(self, node: Node) -> tuple[Buffer, Buffer]:
        """Return input and new output of a float operator."""
        source = self.get(node.inputs[0], Domain.F32)
        out = self.buffer(Memory.MAIN, F32, node.output.shape[1:], node.output)
        self.forms[id(node.output), Domain.F32] = out
        return source, out

    def max_pool(self, node: Node) -> None:
        """Maximum, crop or strided slice: the runtime's pooling with a (possibly negative) padding."""
        a = node.attrs
        source, out = self.u8(node)
        shape, size = node.inputs[0].shape[1:], node.output.shape[1:]
        kernel, stride, origin = a["kernel"][::-1], a["stride"][::-1], a["origin"][::-1]
        self.act(
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

    def pad(self, node: Node) -> None:
        """With zero point 0 the runtime's pooling pads (one pixel at the far edges); else rows are gathered."""
        source, out = self.u8(node)
        shape, size = node.inputs[0].shape[1:], node.output.shape[1:]
        top, left, bottom, right = node.attrs["pads"]
        zp = self.params(node.inputs[0]).zero_point
        # A window that starts beyond the far edge makes the device runtime read outside the picture.
        if zp == 0 and right <= 1 and bottom <= 1:
            self.act(
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
        n = min(_bytes(source), max(top * width + left, right + left, right + bottom * width, 1))
        filler = Buffer(Memory.MAIN, U8, (n,), f"{out.name}.filler")
        table = bytes([zp]) * 256
        self.act(
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
            return p.Concat(inputs=tuple(pieces), output=out.operand((_bytes(out),)), quantized=True)

        self.act(make, [source, filler], [out], node.output)

    def resize(self, node: Node) -> None:
        """Nearest neighbour."""
        source, out = self.u8(node)
        shape, size = node.inputs[0].shape[1:], node.output.shape[1:]
        self.act(
            lambda: p.ResizeNearest(input=source.operand(shape), output=out.operand(size)), [source], [out], node.output
        )

    def table(self, node: Node) -> None:
        """A function by table."""
        source, out = self.u8(node)
        n, table = int(np.prod(node.output.shape)), self.q.tables[id(node)]
        self.act(
            lambda: p.Requantize(input=source.operand((n,)), output=out.operand((n,)), table=table),
            [source],
            [out],
            node.output,
        )

    def global_average_pool(self, node: Node) -> None:
        """Mean of each channel."""
        source, out = self.f32(node)
        _, c, h, w = node.inputs[0].shape
        self.act(
            lambda: p.GlobalAveragePool(input=source.operand((c, h * w)), output=out.operand((c,))),
            [source],
            [out],
            node.output,
        )

    def average_pool(self, node: Node) -> None:
        """Mean of windows."""
        source, out = self.f32(node)
        a = node.attrs
        shape, size = node.inputs[0].shape[1:], node.output.shape[1:]
        self.act(
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

    def fully_connected(self, node: Node) -> None:
        """Float matrix product."""
        from openkpu.lower.dense import CPU_FUNCTIONS

        source, out = self.f32(node)
        w, b = (np.asarray(t.data, np.float32) for t in node.inputs[1:])
        kind = ACTIVATIONS[CPU_FUNCTIONS.index(node.attrs["fn"])]
        self.act(
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

    def softmax(self, node: Node) -> None:
        """One step for each vector."""
        source, out = self.f32(node)
        length = node.attrs["length"]
        count = int(np.prod(node.output.shape)) // length
        for i in range(count):

            def make(i: int = i) -> p.Step:
                def part(b: Buffer) -> p.Operand:
                    return p.Operand(Memory.MAIN, b.start + 4 * i * length, F32, (length,))

                return p.Softmax(input=part(source), output=part(out))

            self.act(make, [source], [out], node.output if i == count - 1 else None)

    def unary_float(self, step: Any) -> Callable[[Node], None]:
        """Return the handler of a float operator with a flat input and output."""

        def handle(node: Node) -> None:
            source, out = self.f32(node)
            n = int(np.prod(node.output.shape))
            self.act(lambda: step(input=source.operand((n,)), output=out.operand((n,))), [source], [out], node.output)

        return handle

    def add(self, node: Node) -> None:
        """Float sum."""
        a, b = (self.get(t, Domain.F32) for t in node.inputs)
        out = self.buffer(Memory.MAIN, F32, node.output.shape[1:], node.output)
        self.forms[id(node.output), Domain.F32] = out
        n = int(np.prod(node.output.shape))
        self.act(
            lambda: p.Add(input_a=a.operand((n,)), input_b=b.operand((n,)), output=out.operand((n,))),
            [a, b],
            [out],
            node.output,
        )

    def to_hwc(self, node: Node) -> None:
        """CHW -> HWC."""
        source, out = self.f32(node)
        c, h, w = node.inputs[0].shape[1:]
        self.act(
            lambda: p.Flatten(input=source.operand((c, h, w)), output=out.operand((h, w, c))),
            [source],
            [out],
            node.output,
        )

    def concat(self, node: Node) -> None:
        """Copy floats one after the other."""
        parts = [self.get(t, Domain.F32) for t in node.inputs]
        out = self.buffer(Memory.MAIN, F32, node.output.shape[1:], node.output)
        self.forms[id(node.output), Domain.F32] = out
        sizes = [4 * int(np.prod(t.shape)) for t in node.inputs]

        def make() -> p.Step:
            return p.Concat(
                inputs=tuple(b.operand((n,), U8) for b, n in zip(parts, sizes, strict=True)),
                output=out.operand((sum(sizes),), U8),
            )

        self.act(make, parts, [out], node.output)


HANDLERS: dict[str, Callable[[Assembler, Node], None]] = {
    "KpuConv": Assembler.kpu_conv,
    "KpuConcat": Assembler.kpu_concat,
    "CpuMaxPool": Assembler.max_pool,
    "CpuPad": Assembler.pad,
    "CpuResize": Assembler.resize,
    "CpuTable": Assembler.table,
    "CpuGlobalAveragePool": Assembler.global_average_pool,
    "CpuAveragePool": Assembler.average_pool,
    "CpuFullyConnected": Assembler.fully_connected,
    "CpuSoftmax": Assembler.softmax,
    "CpuLogistic": lambda a, n: a.unary_float(p.Logistic)(n),
    "CpuAdd": Assembler.add,
    "CpuToHWC": Assembler.to_hwc,
    "CpuConcat": Assembler.concat,
}


def _bytes(b: Buffer) -> int:
    """Bytes of the values, without the rounding to 8."""
    return int(np.prod(b.shape)) * b.dtype.size


def _from(b: Buffer, first: int, count: int) -> p.Operand:
    """Return ``count`` bytes of a uint8 buffer from element ``first`` on."""
    return p.Operand(Memory.MAIN, b.start + first, U8, (count,))

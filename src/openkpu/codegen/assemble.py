"""Turn a quantised graph into actions, bringing every tensor into the memory and form that its readers want.

A tensor can exist in up to three forms: a feature map in AI RAM, uint8 in main RAM, float32 in main RAM. Each form is
made once, when the first reader asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from openkpu.codegen.buffers import Action, Body, Buffer
from openkpu.codegen.identity import identity_layer
from openkpu.errors import UnsupportedError
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import AI_LINE_BYTES, MIN_SIZE
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Memory
from openkpu.kpu.layer import KpuLayer
from openkpu.lower.ops import Domain
from openkpu.quantize.params import QParams
from openkpu.quantize.result import Quantized
from openkpu.schedule.allocate import Piece, conflict

U8, F32 = DType.U8, DType.F32
FOREVER = 1 << 30
ACTIVATIONS = (p.Activation.LINEAR, p.Activation.RELU, p.Activation.RELU6)


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
        self.aliases: dict[int, list[Buffer]] = {}
        """The parts of a concatenation, by the id of the buffer that stands for the whole."""
        self.finished: set[int] = set()
        self.pending: list[Buffer] = []
        """Copies that belong to the concatenation being made."""

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
        if domain is Domain.AI and t.shape != tensor.shape:
            t = tensor  # a map of another shape lies differently in AI RAM
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
            self.conv(layer, self.get(t, Domain.AI), self.buffer(Memory.AI, U8, t.shape[1:], t), out, None)
            return out
        if node.op == "KpuConcat":
            parts = [self.get(i, Domain.U8) for i in node.inputs]
            self.act(
                lambda: p.Concat(
                    inputs=tuple(b.operand((byte_count(b),)) for b in parts),
                    output=out.operand((byte_count(out),)),
                    quantized=True,
                ),
                parts,
                [out],
            )
            return out
        # A layer's result is in AI RAM and wanted in main RAM too. No shipped model reads the AI-RAM copy of a layer
        # that also writes main RAM, so it is not known to be whole; the layer runs once more instead.
        self.conv(
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
        placed = self._place(parts)
        if placed is None:  # the first part has another neighbour already
            placed = self._place(parts, copy_all=True)
        assert placed is not None
        self.aliases[id(whole)] = placed
        self.pending = []
        return whole

    def _place(self, parts: list[Buffer], *, copy_all: bool = False) -> list[Buffer] | None:
        """Put the parts, or copies where they cannot move, into one body; None if even a copy finds no place."""
        placed: list[Buffer] = []
        for original in parts:
            part, distance = original, sum(b.size for b in placed)
            if copy_all or (placed and not self._join(placed[0], part, distance)):
                part = Buffer(Memory.AI, U8, original.shape, f"{original.name}.copy")
                if placed and not self._join(placed[0], part, distance):
                    return None
                self.conv(identity_layer(original.shape), original, part, None, None)
                self.pending.append(part)
            placed.append(part)
        return placed

    def _join(self, first: Buffer, part: Buffer, distance: int) -> bool:
        """Put a buffer, with everything that already lies beside it, ``distance`` bytes behind ``first``.

        False, and nothing changed, if anything would collide.
        """
        first = self.expand([first])[0]
        body = first.body = first.body or Body([first])
        anchor = self.expand([part])[0]
        shift = first.offset + distance - anchor.offset
        if anchor.body is body:
            return shift == 0
        moved = anchor.body.members if anchor.body is not None else [anchor]
        places = [(m, m.offset) for m in body.members] + [(m, m.offset + shift) for m in moved]
        life = self._life_so_far()
        unwritten = (len(self.actions), FOREVER)
        if conflict([Piece(o, m.size, *life.get(id(m), unwritten)) for m, o in places]) is not None:
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
        for b in self.pending:
            life[id(b)] = (life.get(id(b), (now, now))[0], FOREVER)
        for b in self.inputs:
            life.setdefault(id(b), (-1, now))
        return life

    def _needed_later(self, tensor_id: int) -> bool:
        """Whether a tensor has readers to come; so has the input of a layer that will run once more for main RAM."""
        if any(id(t) == tensor_id for t in self.graph.outputs):
            return True
        for u in self.users.get(tensor_id, []):
            if id(u) not in self.finished or (u.op in ("KpuConcat", "Reshape") and self._needed_later(id(u.output))):
                return True
            once_more = u.op == "KpuConv" and (id(u.output), Domain.U8) not in self.forms
            if once_more and self._wanted_in_main(u.output):
                return True
        return False

    def _wanted_in_main(self, t: Tensor) -> bool:
        """Whether anything reads the tensor, or a concatenation with it, in main RAM."""
        if self.graph.is_output(t):
            return True
        for u in self.users.get(id(t), []):
            layer = u.op == "KpuConv" and not u.attrs["vector"]
            if not layer and (u.op != "KpuConcat" or self._wanted_in_main(u.output)):
                return True
        return False

    def expand(self, buffers: list[Buffer]) -> list[Buffer]:
        """Replace a concatenation's buffer by its parts."""
        found: list[Buffer] = []
        for b in buffers:
            found += self.expand(self.aliases[id(b)]) if id(b) in self.aliases else [b]
        return found

    def take_input(self, t: Tensor) -> None:
        """A picture goes to AI RAM; a float vector to main RAM."""
        if id(t) in self.q.params and len(t.shape) == 4:
            if min(t.shape[2:]) < MIN_SIZE:
                raise UnsupportedError(
                    "E231",
                    f"an input picture of {t.shape[3]}x{t.shape[2]}",
                    where=f"input '{t.name}'",
                    why=f"the KPU reads pictures of at least {MIN_SIZE}x{MIN_SIZE}",
                    fix="pad the picture before the model, and export the model for the padded size",
                )
            b = self.buffer(Memory.AI, U8, t.shape[1:], t)
            self.forms[id(t), Domain.AI] = b
        else:
            b = self.buffer(Memory.MAIN, F32, t.shape[1:], t)
            self.forms[id(t), Domain.F32] = b
        self.inputs.append(b)
        first = next((n for n in self.graph.nodes if n.op != "Reshape"), None)
        if b.memory is Memory.MAIN and (first is None or first.op != "CpuFullyConnected"):
            raise UnsupportedError(
                "E231",
                "a float input that is not read by a fully connected layer first",
                where=f"input '{t.name}'",
                why="kmodel V3 starts with a KPU layer on a uint8 picture or with a fully connected layer on floats",
                fix="begin the model with a convolution (or, for a vector, with a fully connected layer)",
            )

    def conv(
        self,
        layer: KpuLayer,
        source: Buffer,
        target: Buffer,
        main: Buffer | None,
        tensor: Tensor | None,
    ) -> None:
        """A KPU layer from one feature map to another, and to main RAM where ``main`` is given."""

        def make() -> p.Step:
            registers = replace(
                layer.registers,
                image_src_addr=source.start // AI_LINE_BYTES,
                image_dst_addr=target.start // AI_LINE_BYTES,
            )
            out = main.operand(layer.output_shape) if main is not None else None
            return p.KpuConv(
                layer=replace(layer, registers=registers, cache={}), main_output=out, flags=int(main is not None)
            )

        self.act(make, [source], [target] + ([main] if main is not None else []), tensor)

    def settle(self) -> None:
        """After placement: give the buffers that stand for a concatenation the address of their first part."""
        for b in self.forms.values():
            if id(b) in self.aliases:
                b.start = self.expand([b])[0].start


def byte_count(b: Buffer) -> int:
    """Bytes of the values, without the rounding to 8."""
    return int(np.prod(b.shape)) * b.dtype.size

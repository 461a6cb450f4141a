"""Turn a quantised graph into actions, bringing every tensor into the memory and form that its readers want.

A tensor can exist in up to three forms: a feature map in AI RAM, uint8 in main RAM, float32 in main RAM. Each form is
made once, when the first reader asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.codegen.buffers import Action, Body, Buffer
from openkpu.codegen.dialect import Dialect
from openkpu.codegen.identity import identity_layer
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import AI_LINE_BYTES
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Memory
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import KpuLayer
from openkpu.lower.ops import Domain
from openkpu.quantize.params import QParams
from openkpu.quantize.result import Quantized
from openkpu.schedule.allocate import Piece, conflict

U8, F32 = DType.U8, DType.F32
FOREVER = 1 << 30


class Assembler:
    """Builds the actions of one graph."""

    def __init__(self, graph: Graph, quantized: Quantized, steps: Dialect) -> None:
        self.graph = graph
        self.q = quantized
        self.steps = steps
        self.actions: list[Action] = []
        self.life: dict[int, tuple[int, int]] = {}
        """First and last action so far of each buffer, by its id."""
        self.made: list[Tensor | None] = []
        self.forms: dict[tuple[int, Domain], Buffer] = {}
        self.users = graph.users()
        self._in_main: dict[int, bool] = {}
        self.inputs: list[Buffer] = []
        self.constants: list[Buffer] = []
        self.current: Node | None = None
        self.aliases: dict[int, list[Buffer]] = {}
        """The parts of a concatenation, by the id of the buffer that stands for the whole."""
        self.slices: dict[int, tuple[Buffer, int]] = {}
        """The map and the byte in it at which a slice of its channels begins, by the id of the slice's buffer."""
        self.wholes: list[Buffer] = []
        """The buffers that stand for such a whole."""
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
        for b in (*self.expand(writes), *self.expand(reads)):
            first, _ = self.life.get(id(b), (len(self.actions), 0))
            self.life[id(b)] = (first, len(self.actions))
        self.actions.append(Action(reads, writes, lambda: replace(make(), name=name), name))
        self.made.append(tensor)

    def buffer(self, memory: Memory, dtype: DType, shape: tuple[int, ...], t: Tensor) -> Buffer:
        """Make a buffer for a tensor."""
        return Buffer(memory, dtype, shape, t.name)

    def constant(self, array: NDArray[Any], name: str) -> Buffer:
        """Return the buffer of a constant, uint8 or float32; equal constants share one."""
        data = np.ascontiguousarray(array).tobytes()
        dtype = DType(array.dtype.name)
        for b in self.constants:
            if b.data == data and b.dtype is dtype and b.shape == array.shape:
                return b
        b = Buffer(Memory.CONST, dtype, array.shape, name, data=data)
        self.constants.append(b)
        return b

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
        self.steps.dequantize(self, source, out, self.params(t), t)
        return out

    def _to_u8(self, t: Tensor, seen: Tensor) -> Buffer:
        out = self.buffer(Memory.MAIN, U8, t.shape[1:], t)
        node = t.producer
        if (id(t), Domain.F32) in self.forms:
            self.steps.quantize(self, self.forms[id(t), Domain.F32], out, self.q.params.get(id(t)) or self.params(seen))
        elif node is not None and node.op == "KpuConcat":
            parts = [self.get(i, Domain.U8) for i in node.inputs]
            whole = self.in_place(parts, out.name) if self.steps.version < 5 else None
            if whole is not None:
                return whole
            self.steps.side_by_side(self, parts, out)
        else:
            self.steps.fetch(self, t, out)
        return out

    def _to_ai(self, t: Tensor) -> Buffer:
        node = t.producer
        if node is not None and node.op == "KpuConcat":
            return self._side_by_side(node)
        if node is not None and node.op == "KpuSlice":
            return self._slice(node)
        source = self.get(t, Domain.U8)
        shape = t.shape[1:]
        out = self.buffer(Memory.AI, U8, shape, t)
        self.steps.upload(self, source, out)
        return out

    def _slice(self, node: Node) -> Buffer:
        """Some channels of a map: the same bytes."""
        whole = self.get(node.inputs[0], Domain.AI)
        first = FeatureMapLayout(node.attrs["first"], *node.output.shape[2:]).bytes if node.attrs["first"] else 0
        if id(whole) in self.slices:
            whole, before = self.slices[id(whole)]
            first += before
        part = Buffer(Memory.AI, U8, node.output.shape[1:], node.output.name)
        self.slices[id(part)] = whole, first
        return part

    def _side_by_side(self, node: Node) -> Buffer:
        """Bring the parts next to each other in AI RAM; a part that cannot move there is copied by a KPU layer."""
        return self.beside(*(self.get(t, Domain.AI) for t in node.inputs), name=node.output.name)

    def beside(self, *parts: Buffer, name: str = "") -> Buffer:
        """Return the buffer that stands for maps next to each other, after bringing them there (or copies)."""
        whole = Buffer(
            Memory.AI, U8, (sum(b.shape[0] for b in parts), *parts[0].shape[1:]), name or f"{parts[-1].name}.beside"
        )
        self.wholes.append(whole)
        placed = self._place(list(parts))
        if placed is None:  # the first part has another neighbour already
            placed = self._place(list(parts), copy_all=True)
        assert placed is not None
        self.aliases[id(whole)] = placed
        self.pending = []
        return whole

    def in_place(self, parts: list[Buffer], name: str) -> Buffer | None:
        """Let buffers in main RAM be made one behind the other; returns the one that stands for all of them.

        None where they must be copied: one is the model's input, has another place already, or does not end at 8 bytes.
        """
        free = all(
            b.memory is Memory.MAIN
            and b.body is None
            and id(b) not in self.aliases
            and all(b is not i for i in self.inputs)
            for b in parts
        )
        sizes = [byte_count(b) for b in parts]
        if not free or len({id(b) for b in parts}) < len(parts) or any(n % 8 for n in sizes[:-1]):
            return None
        body, at = Body(list(parts)), 0
        for b, size in zip(parts, sizes, strict=True):
            b.body, b.offset = body, at
            at += size
        whole = Buffer(Memory.MAIN, parts[0].dtype, (at // parts[0].dtype.size,), name)
        self.wholes.append(whole)
        self.aliases[id(whole)] = list(parts)
        return whole

    def _place(self, parts: list[Buffer], *, copy_all: bool = False) -> list[Buffer] | None:
        """Put the parts, or copies where they cannot move, into one body; None if even a copy finds no place."""
        placed: list[Buffer] = []
        for original in parts:
            part, distance = original, sum(b.size for b in placed)
            fixed = id(part) in self.slices
            if copy_all or fixed or (placed and not self._join(placed[0], part, distance)):
                part = Buffer(Memory.AI, U8, original.shape, f"{original.name}.copy")
                if placed and not self._join(placed[0], part, distance):
                    return None
                self.conv(identity_layer(original.shape, self.q.weight_bits), original, part, None, None)
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
        life = self._life_so_far({id(m) for m, _ in places})
        unwritten = (len(self.actions), FOREVER)
        if conflict([Piece(o, m.size, *life.get(id(m), unwritten)) for m, o in places]) is not None:
            return False
        lowest = min(o for _, o in places)
        body.members = [m for m, _ in places]
        for m, o in places:
            m.body, m.offset = body, o - lowest
        return True

    def _life_so_far(self, buffers: set[int]) -> dict[int, tuple[int, int]]:
        """Lifetimes of some buffers as far as known; a tensor with readers to come lives on."""
        life = {i: self.life[i] for i in buffers if i in self.life}
        now = len(self.actions)
        for (key, _), b in self.forms.items():
            parts = [id(m) for m in self.expand([b])] if id(b) in self.aliases else [id(b)]
            if any(i in buffers for i in parts) and self._needed_later(key):
                for i in parts:
                    life[i] = (life.get(i, (-1, now))[0], FOREVER)
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
            if id(u) not in self.finished or (
                u.op in ("KpuConcat", "KpuSlice", "Reshape") and self._needed_later(id(u.output))
            ):
                return True
            once_more = u.op == "KpuConv" and (id(u.output), Domain.U8) not in self.forms
            if once_more and self.wanted_in_main(u.output):
                return True
        return False

    def wanted_in_main(self, t: Tensor) -> bool:
        """Whether anything reads the tensor, or a concatenation with it, in main RAM."""
        if self.graph.is_output(t):
            return True
        for u in self.users.get(id(t), []):
            layer = u.op in ("KpuMove", "KpuRows") or (u.op == "KpuConv" and not u.attrs["vector"])
            if not layer and (u.op not in ("KpuConcat", "KpuSlice") or self.wanted_in_main(u.output)):
                return True
        return False

    def expand(self, buffers: list[Buffer]) -> list[Buffer]:
        """Replace a concatenation's buffer by its parts, and a slice by the map that it is of."""
        found: list[Buffer] = []
        for b in buffers:
            if id(b) in self.slices:
                b = self.slices[id(b)][0]
            found += self.expand(self.aliases[id(b)]) if id(b) in self.aliases else [b]
        return found

    def conv(
        self,
        layer: KpuLayer,
        source: Buffer,
        target: Buffer,
        main: Buffer | None,
        tensor: Tensor | None,
        *,
        source_line: int = 0,
        target_line: int = 0,
    ) -> None:
        """A KPU layer from one feature map to another, and to main RAM where ``main`` is given.

        ``source_line``, ``target_line``: the line of each map where the layer's own maps begin.
        """

        def make() -> p.Step:
            registers = replace(
                layer.registers,
                image_src_addr=source.start // AI_LINE_BYTES + source_line,
                image_dst_addr=target.start // AI_LINE_BYTES + target_line,
            )
            out = main.operand(layer.output_shape) if main is not None else None
            return p.KpuConv(layer=replace(layer, registers=registers), main_output=out, flags=int(main is not None))

        self.act(make, [source], [target] + ([main] if main is not None else []), tensor)

    def settle(self) -> None:
        """After placement: give concatenations the address of their first part, and slices their place in the map."""
        for b in self.wholes:
            b.start = self.expand([b])[0].start
        for b in self.forms.values():
            if id(b) in self.slices:
                whole, first = self.slices[id(b)]
                b.start = whole.start + first


def byte_count(b: Buffer) -> int:
    """Bytes of the values, without the rounding to 8."""
    return int(np.prod(b.shape)) * b.dtype.size

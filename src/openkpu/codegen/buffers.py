"""Buffers and steps before they have addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from openkpu.kmodel.program import DType, Memory, Operand, Step
from openkpu.kpu.fmap import FeatureMapLayout


@dataclass(eq=False, slots=True)
class Buffer:
    """A piece of memory without an address. In AI RAM ``shape`` is (c, h, w).

    ``body`` and ``offset`` say where it lies inside a set of buffers that must stay together.
    """

    memory: Memory
    dtype: DType
    shape: tuple[int, ...]
    name: str
    body: Body | None = None
    offset: int = 0
    start: int = -1
    data: bytes = field(default=b"", repr=False)
    """What a constant holds."""

    @property
    def size(self) -> int:
        """Bytes to reserve: whole lines in AI RAM, whole groups of 8 bytes in main RAM (DMA writes 8 at a time)."""
        if self.memory is Memory.AI:
            c, h, w = self.shape
            return FeatureMapLayout(c, h, w).bytes
        n = self.dtype.size
        for d in self.shape:
            n *= d
        return n + -n % 8

    def operand(self, shape: tuple[int, ...] | None = None, dtype: DType | None = None) -> Operand:
        """Return the operand at the buffer's address, possibly seen with another shape."""
        return Operand(self.memory, self.start, dtype or self.dtype, self.shape if shape is None else shape)

    def part(self, first: int, count: int) -> Operand:
        """Return ``count`` elements from number ``first`` on."""
        return Operand(self.memory, self.start + first * self.dtype.size, self.dtype, (count,))


@dataclass(eq=False, slots=True)
class Body:
    """Buffers with fixed distances to each other."""

    members: list[Buffer] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Action:
    """A step to be: what it reads and writes, and how to make it once all addresses are known."""

    reads: list[Buffer]
    writes: list[Buffer]
    make: Callable[[], Step]
    name: str

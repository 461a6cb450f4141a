"""A heap as the firmware has it: one range of addresses, first fit, and a note on who holds what."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """A piece in use."""

    start: int
    size: int
    """Bytes with alignment and the allocator's own header."""
    asked: int
    what: str


class Heap:
    """First-fit allocator over ``size`` bytes from address ``start``.

    A block takes a multiple of ``align`` bytes, ``header`` of them the allocator's own. It shows the fragmentation that
    first fit gives; the addresses are not the chip's to the byte.
    """

    def __init__(self, start: int, size: int, *, align: int, header: int) -> None:
        self.start = start
        self.size = size
        self._align = align
        self._header = header
        self._blocks: list[Block] = []

    def allocate(self, size: int, what: str) -> int | None:
        """Return the address of ``size`` free bytes, now in use; None when no gap is large enough."""
        need = -(-(size + self._header) // self._align) * self._align
        position = self.start
        for index, block in enumerate(self._blocks):
            if block.start - position >= need:
                return self._use(index, position, need, size, what)
            position = block.start + block.size
        if self.start + self.size - position < need:
            return None
        return self._use(len(self._blocks), position, need, size, what)

    def _use(self, index: int, position: int, need: int, size: int, what: str) -> int:
        self._blocks.insert(index, Block(position, need, size, what))
        return position + self._header

    def release(self, address: int) -> None:
        """Free a block by the address that ``allocate`` returned."""
        start = address - self._header
        index = bisect_left(self._blocks, start, key=lambda b: b.start)
        if index == len(self._blocks) or self._blocks[index].start != start:
            raise ValueError(f"no block at {address:#x}")
        del self._blocks[index]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What is in use, by address."""
        return tuple(self._blocks)

    @property
    def used(self) -> int:
        """Bytes in use."""
        return sum(b.size for b in self._blocks)

    @property
    def free(self) -> int:
        """Bytes not in use, in all gaps together."""
        return self.size - self.used

    @property
    def largest(self) -> int:
        """The most bytes that ``allocate`` could give at once now."""
        gaps, position = [], self.start
        for block in self._blocks:
            gaps.append(block.start - position)
            position = block.start + block.size
        gaps.append(self.start + self.size - position)
        return max(0, max(gaps) // self._align * self._align - self._header)

"""Reading and checking one V4 node body: memory ranges, shapes and parameters against the file and the memories.

The runtime checks nothing; here everything is checked before any array is made. A memory range has an element type and
a size of its own. Most kernels ignore both and go by the shape, so only those that count by them look at them here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Final

from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.k210 import AI_LINE_BYTES
from openkpu.kmodel.program import DType, Memory, Operand
from openkpu.kmodel.v3_body import Body as V3Body
from openkpu.kmodel.v3_body import FileContext as V3FileContext
from openkpu.kpu.fmap import FeatureMapLayout

MEMORIES: Final = (Memory.CONST, Memory.MAIN, Memory.AI)
"""memory_type in the file -> memory."""
DTYPES: Final = (DType.F32, DType.U8)
"""datatype in the file -> element type."""
MAX_NUMBER: Final = 1 << 16
"""Sense, not a limit of the device: no kernel, stride, padding or dimension is larger."""

Range = tuple[int, int, int, int]
"""A memory range as in the file: memory type, element type, start, size in bytes."""


def range_of(o: Operand) -> Range:
    """Return an operand's memory range."""
    return MEMORIES.index(o.memory), DTYPES.index(o.dtype), o.start, o.size


def shape4(o: Operand) -> tuple[int, ...]:
    """Return an operand's shape with four dimensions; ``ValueError`` when it has more."""
    if len(o.shape) > 4:
        raise ValueError(f"a tensor of {len(o.shape)} dimensions: {o.shape}")
    return (1,) * (4 - len(o.shape)) + o.shape


def without_batch(o: Operand) -> Operand:
    """Drop a first dimension of 1 from four, as the caller sees inputs and outputs."""
    if len(o.shape) == 4 and o.shape[0] == 1:
        return Operand(o.memory, o.start, o.dtype, o.shape[1:])
    return o


@dataclass(slots=True)
class FileContext(V3FileContext):
    """What all bodies of a file share while it is read."""

    constants: tuple[int, int] = (0, 0)
    """File offsets of the constant area."""
    last: dict[tuple[Memory, int], Operand] = field(default_factory=dict)
    """(memory, start) -> the operand last written there, for the shapes that bodies do not state."""
    tables: list[tuple[int, int]] = field(default_factory=list)
    """(step, start in the constant area) of every table."""


@dataclass(slots=True)
class Body(V3Body):
    """One node body: a cursor over ``data[position:stop]``."""

    file: FileContext

    @property
    def where(self) -> str:
        """Node and file offset, for messages."""
        return f"node {self.index} ({self.name}), file offset {self.start}"

    def rest(self) -> bytes:
        """Return the bytes from the cursor to the end of the body."""
        return self.file.data[self.position : self.stop]

    def stops(self, what: str, why: str) -> UnsupportedError:
        """Build the error for a value at which the device's runtime stops."""
        return UnsupportedError(
            "E250",
            what,
            where=self.where,
            why=f"{why}; the device's runtime gives up there, and MaixPy's kpu.forward then never returns",
            fix="Compile the model again without it, or get the file again if it is damaged.",
        )

    def dtype(self, r: Range) -> DType:
        """Return the element type that a range states."""
        if r[1] >= len(DTYPES):
            raise self.error("E131", "an unknown element type", f"datatype is {r[1]}; 0 is float32, 1 uint8")
        return DTYPES[r[1]]

    def tensor(self, r: Range, dtype: DType, *shape: int, output: bool = False) -> Operand:
        """Make an operand of the CPU: in main RAM or, for reading, in the constants."""
        memory, _, start, _ = r
        if memory >= len(MEMORIES):
            raise self.error("E130", "an unknown memory", f"memory_type is {memory}; known are 0, 1 and 2")
        place = MEMORIES[memory]
        if place is Memory.AI or (output and place is Memory.CONST):
            what = "in AI RAM" if place is Memory.AI else "into the constants of the file"
            raise UnsupportedError(
                "E252",
                f"a CPU operator that works directly {what}",
                where=self.where,
                why="no known file does that, and what it would mean is not defined",
                fix="The file is damaged: get it again.",
            )
        self.sizes(*shape)
        if place is Memory.MAIN:
            return self.main(start, dtype, *shape)
        operand = Operand(place, start, dtype, shape)
        first, stop = self.file.constants
        if operand.stop > stop - first:
            raise self.error(
                "E132", "a tensor lies outside the constants", f"bytes {start}..{operand.stop} of {stop - first}"
            )
        return operand

    def result(self, r: Range, dtype: DType, *shape: int) -> Operand:
        """Make an operand that the CPU writes."""
        return self.tensor(r, dtype, *shape, output=True)

    def counted(self, r: Range, dtype: DType) -> Operand:
        """Make an operand whose number of elements is the range's size, shaped as what was last written there."""
        flat = self.tensor(r, dtype, r[3] // dtype.size)
        last = self.file.last.get((flat.memory, flat.start))
        return Operand(flat.memory, flat.start, dtype, last.shape) if last and last.elements == flat.elements else flat

    def shaped(self, r: Range, dtype: DType, *shape: int) -> Operand:
        """Make an operand of a shape without a batch, shaped as what was last written there where that is the same."""
        flat = self.tensor(r, dtype, *shape)
        last = self.file.last.get((flat.memory, flat.start))
        return Operand(flat.memory, flat.start, dtype, last.shape) if last and last.elements == flat.elements else flat

    def map(self, r: Range, shape: Iterable[int]) -> Operand:
        """Make a feature map in AI RAM from a range and (n, c, h, w)."""
        n, c, h, w = self.sizes(*shape)
        if r[0] != MEMORIES.index(Memory.AI) or r[2] % AI_LINE_BYTES:
            raise self.error(
                "E133",
                "a feature map that is not at a line of AI RAM",
                f"memory_type is {r[0]} (2 is AI RAM), the start {r[2]}; lines have {AI_LINE_BYTES} bytes",
            )
        return self.maps(r[2] // AI_LINE_BYTES, n, c, h, w)

    def maps(self, line: int, n: int, c: int, h: int, w: int) -> Operand:
        """Make ``n`` feature maps one after the other from line ``line`` on."""
        self.sizes(n, c, h, w)
        self.ai(line, c, h, w)
        if n > 1:
            self.ai(line + (n - 1) * FeatureMapLayout(c, h, w).lines, c, h, w)
        return Operand(Memory.AI, line * AI_LINE_BYTES, DType.U8, (c, h, w) if n == 1 else (n, c, h, w))

    def sizes(self, *shape: int) -> tuple[int, ...]:
        """Check the dimensions of a shape."""
        if min(shape) < 1 or prod(shape) > 1 << 28:
            raise self.error("E113", "a tensor without elements, or an absurdly large one", f"its shape is {shape}")
        return shape

    def within(self, low: int, high: int, **values: int) -> None:
        """Check parameters against the range that makes sense."""
        for name, value in values.items():
            if not low <= value <= high:
                raise self.error("E115", "a parameter without meaning", f"{name} is {value}, not in {low}..{high}")

    def relocate(self, error: OpenKPUError) -> OpenKPUError:
        """Put node and file offset into an error of the KPU's checks."""
        error.where = self.where
        return error

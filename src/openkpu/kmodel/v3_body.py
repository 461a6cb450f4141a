"""Reading and checking one V3 layer body.

Everything that a body says (offsets, addresses, counts) is checked here, against the file, the main buffer and AI RAM,
before any array is made. Arrays are read-only views of the file, so a hostile count cannot allocate memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import FileFormatError, MemoryLimitError, UnsupportedError
from openkpu.k210 import AI_LINE_BYTES, AI_LINES
from openkpu.kmodel.program import DType, Memory, Operand
from openkpu.kmodel.record import Record
from openkpu.kpu.fmap import FeatureMapLayout

MAX_WORK = 1 << 32
"""Most element operations all layers of a program may take; the chip would need more than 10 s for that."""


@dataclass(slots=True)
class FileContext:
    """What all bodies of a file share while it is read."""

    data: bytes
    eight_bit: bool
    main_bytes: int
    known: dict[int, Operand] = field(default_factory=dict)
    """Start address -> the operand last written there, for the shapes that bodies do not state."""
    work: int = 0
    """Element operations of the layers so far."""


@dataclass(slots=True)
class Body:
    """One layer body: a cursor over ``data[position:stop]``."""

    file: FileContext
    index: int
    name: str
    start: int
    position: int
    stop: int

    @property
    def where(self) -> str:
        """Layer and file offset, for messages."""
        return f"layer {self.index} ({self.name}), file offset {self.start}"

    def error(self, code: str, what: str, why: str) -> FileFormatError:
        """Build the error for a damaged body."""
        return FileFormatError(code, what, where=self.where, why=why, fix="The file is damaged: get it again.")

    def need(self, offset: int, size: int, what: str) -> None:
        """Check that ``size`` bytes at file offset ``offset`` lie in this body."""
        if offset < self.start or size < 0 or offset + size > self.stop:
            raise self.error(
                "E112",
                f"{what} lies outside its layer body",
                f"bytes {offset}..{offset + size} are needed, the body is {self.start}..{self.stop}",
            )

    def record(self, record: Record) -> dict[str, Any]:
        """Read a structure at the cursor."""
        self.need(self.position, record.size, "the layer's argument")
        values = record.unpack(self.file.data, self.position)
        self.position += record.size
        return values

    def array(self, dtype: str, *shape: int, offset: int | None = None, what: str = "an array") -> NDArray[Any]:
        """Return a read-only view of the file, at the cursor (which moves) or at file offset ``offset``."""
        count = 1
        for n in shape:
            count *= n
        at = self.position if offset is None else offset
        size = count * np.dtype(dtype).itemsize
        self.need(at, size, what)
        if offset is None:
            self.position += size
        return np.frombuffer(self.file.data, dtype, count, at).reshape(shape)

    def main(self, address: int, dtype: DType, *shape: int) -> Operand:
        """Make an operand in main RAM; it must have elements and lie inside the main buffer."""
        operand = Operand(Memory.MAIN, address, dtype, shape)
        if operand.elements == 0:
            raise self.error("E113", "a tensor without elements", f"its shape is {shape}")
        if operand.stop > self.file.main_bytes:
            raise self.error(
                "E114",
                "a tensor lies outside the main buffer",
                f"bytes {address}..{operand.stop}, the buffer has {self.file.main_bytes}",
            )
        return operand

    def like(self, address: int, count: int, dtype: DType) -> Operand:
        """Make an operand of ``count`` elements, with the shape that was last written to that address if it fits."""
        flat = self.main(address, dtype, count)
        last = self.file.known.get(address)
        return Operand(Memory.MAIN, address, dtype, last.shape) if last and last.elements == count else flat

    def ai(self, line: int, channels: int, height: int, width: int) -> Operand:
        """Make a feature-map operand in AI RAM from line ``line`` on."""
        if not (channels and height and width):
            raise self.error("E113", "a feature map without elements", f"its shape is {(channels, height, width)}")
        lines = FeatureMapLayout(channels, height, width).lines
        if line + lines > AI_LINES:
            raise MemoryLimitError(
                "E311",
                "a feature map lies outside AI RAM",
                where=self.where,
                why=f"lines {line}..{line + lines}, AI RAM has {AI_LINES}",
                fix="The file is damaged, or was made for another chip.",
            )
        return Operand(Memory.AI, line * AI_LINE_BYTES, DType.U8, (channels, height, width))

    def spend(self, elements: int) -> None:
        """Count the work of a layer; refuse a file that would run for hours."""
        self.file.work += elements
        if self.file.work > MAX_WORK:
            raise UnsupportedError(
                "E236",
                "the model does not end in a sensible time",
                where=self.where,
                why=f"{self.file.work} element operations up to here, the limit is {MAX_WORK}",
                fix="The file is damaged: get it again.",
            )

"""Reading FlatBuffers from files that nobody vouches for: every offset is checked, and so is the sum of what is read.

A table is a position in the file, with a signed distance back to its vtable: two bytes with the vtable's size, two with
the table's, then two for each field with its distance from the table, 0 where the field is not there. A vector is a
count and that many elements. Everything is little-endian. Source: flatbuffers.dev, "FlatBuffer Internals".
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import FileFormatError

_CODES: Final = {"i8": "b", "u8": "B", "u16": "H", "i32": "i", "u32": "I", "u64": "Q", "f32": "f"}
_FORMATS: Final = {name: struct.Struct(f"<{code}") for name, code in _CODES.items()}


class FlatBuffer:
    """The bytes of a file. ``where`` is how messages call it."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        # vectors may overlap, so a small file could ask for a lot of reading; a real one reads each byte about once
        self._left = 8 * len(data) + 65536

    def number(self, kind: str, at: int, what: str) -> Any:
        """Return the number of ``kind`` (i8 ... u64, f32) at a byte offset."""
        form = _FORMATS[kind]
        if not 0 <= at <= len(self.data) - form.size:
            raise self.damaged(what, f"offset {at} lies outside the {len(self.data)} bytes")
        return form.unpack_from(self.data, at)[0]

    def span(self, at: int, size: int, what: str) -> None:
        """Check that ``size`` bytes at ``at`` lie in the file, and count them as read."""
        if at < 0 or size < 0 or at + size > len(self.data):
            raise self.damaged(what, f"{size} bytes at offset {at} reach beyond the {len(self.data)} bytes of the file")
        self._left -= size
        if self._left < 0:
            raise self.damaged(what, "its parts overlap: reading all of them would never end")

    def root(self) -> Table:
        """Return the table that the file begins with."""
        return Table(self, self.number("u32", 0, "the file"), "the model")

    def damaged(self, what: str, why: str) -> FileFormatError:
        """Return the error for an impossible file."""
        return FileFormatError(
            "E161",
            f"the TensorFlow Lite file is cut off or damaged at {what}",
            where=self.where,
            why=why,
            fix="copy or convert the model again",
        )


class Table:
    """One table; ``what`` names it in messages. Fields go by their number in the schema."""

    def __init__(self, buffer: FlatBuffer, at: int, what: str) -> None:
        self.buffer = buffer
        self.at = at
        self.what = what
        self._vtable = at - buffer.number("i32", at, what)
        size = buffer.number("u16", self._vtable, what)
        buffer.span(self._vtable, size, what)
        self._fields = max(0, size - 4) // 2

    def _field(self, field: int) -> int:
        """Return the offset of a field, 0 if it is not there."""
        if field >= self._fields:
            return 0
        distance = int(self.buffer.number("u16", self._vtable + 4 + 2 * field, self.what))
        return self.at + distance if distance else 0

    def number(self, field: int, kind: str, default: float = 0) -> Any:
        """Return a number."""
        at = self._field(field)
        return self.buffer.number(kind, at, self.what) if at else default

    def integer(self, field: int, kind: str = "i32", default: int = 0) -> int:
        """Return a whole number."""
        return int(self.number(field, kind, default))

    def flag(self, field: int) -> bool:
        """Return a truth value."""
        return bool(self.number(field, "u8"))

    def has(self, field: int) -> bool:
        """Whether the field is there."""
        return bool(self._field(field))

    def table(self, field: int, what: str) -> Table | None:
        """Return a table, None if it is not there."""
        at = self._field(field)
        return Table(self.buffer, at + self.buffer.number("u32", at, what), what) if at else None

    def vector(self, field: int, size: int, what: str) -> tuple[int, int]:
        """Return offset and count of a vector of elements of ``size`` bytes; (0, 0) if it is not there."""
        at = self._field(field)
        if not at:
            return 0, 0
        begin = at + self.buffer.number("u32", at, what)
        count = self.buffer.number("u32", begin, what)
        self.buffer.span(begin + 4, count * size, what)
        return begin + 4, count

    def array(self, field: int, dtype: str, what: str) -> NDArray[Any]:
        """Return a vector of numbers of a NumPy type; empty if it is not there."""
        kind = np.dtype(dtype).newbyteorder("<")
        begin, count = self.vector(field, kind.itemsize, what)
        return np.frombuffer(self.buffer.data, kind, count, begin)

    def string(self, field: int, what: str) -> str:
        """Return a string; empty if it is not there."""
        begin, count = self.vector(field, 1, what)
        return self.buffer.data[begin : begin + count].decode("utf-8", "replace")

    def tables(self, field: int, what: str) -> list[Table]:
        """Return a vector of tables."""
        begin, count = self.vector(field, 4, what)
        places = (begin + 4 * i for i in range(count))
        return [Table(self.buffer, p + self.buffer.number("u32", p, what), f"{what} {i}") for i, p in enumerate(places)]

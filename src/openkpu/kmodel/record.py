"""Fixed binary structures: one declaration is the reader, the writer and the documentation."""

from __future__ import annotations

import struct
from typing import Any, Final

_FORMAT: Final = {"u32": "I", "i32": "i", "f32": "f", "u8": "B"}


class Record:
    """A little-endian structure without padding, declared as ``"name"`` (u32) or ``"name:kind"``.

    Kinds: ``u32``, ``i32``, ``f32``, ``u8``; ``i32*4`` is an array, whose value is a tuple.
    """

    def __init__(self, *declarations: str) -> None:
        pairs = [d.partition(":") for d in declarations]
        self.names: Final = tuple(name for name, _, _ in pairs)
        kinds = [(kind or "u32").partition("*") for _, _, kind in pairs]
        self._counts: Final = tuple(int(count) if count else None for _, _, count in kinds)
        self._struct: Final = struct.Struct("<" + "".join(count + _FORMAT[kind] for kind, _, count in kinds))
        self.size: Final = self._struct.size

    def unpack(self, data: bytes, offset: int) -> dict[str, Any]:
        """Read the structure at ``offset``; the caller has checked that ``size`` bytes are there."""
        flat = self._struct.unpack_from(data, offset)
        values: dict[str, Any] = {}
        at = 0
        for name, count in zip(self.names, self._counts, strict=True):
            values[name] = flat[at] if count is None else flat[at : at + count]
            at += 1 if count is None else count
        return values

    def pack(self, **values: Any) -> bytes:
        """Write the structure; ``struct.error`` when a value does not fit, ``KeyError`` when one is missing."""
        if values.keys() - set(self.names):
            raise KeyError(f"no such fields: {sorted(values.keys() - set(self.names))}")
        flat: list[Any] = []
        for name, count in zip(self.names, self._counts, strict=True):
            flat += [values[name]] if count is None else values[name]
        return self._struct.pack(*flat)

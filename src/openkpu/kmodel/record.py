"""Fixed binary structures: one declaration is the reader, the writer and the documentation."""

from __future__ import annotations

import struct
from typing import Any, Final

_FORMAT: Final = {"u32": "I", "i32": "i", "f32": "f"}


class Record:
    """A little-endian structure without padding, declared as ``"name"`` (u32) or ``"name:kind"``.

    Kinds: ``u32``, ``i32``, ``f32``.
    """

    def __init__(self, *declarations: str) -> None:
        pairs = [d.partition(":") for d in declarations]
        self.names: Final = tuple(name for name, _, _ in pairs)
        self._struct: Final = struct.Struct("<" + "".join(_FORMAT[kind or "u32"] for _, _, kind in pairs))
        self.size: Final = self._struct.size

    def unpack(self, data: bytes, offset: int) -> dict[str, Any]:
        """Read the structure at ``offset``; the caller has checked that ``size`` bytes are there."""
        return dict(zip(self.names, self._struct.unpack_from(data, offset), strict=True))

    def pack(self, **values: Any) -> bytes:
        """Write the structure; ``struct.error`` when a value does not fit, ``KeyError`` when one is missing."""
        if values.keys() - set(self.names):
            raise KeyError(f"no such fields: {sorted(values.keys() - set(self.names))}")
        return self._struct.pack(*(values[name] for name in self.names))

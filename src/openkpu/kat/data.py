"""The test's data in flash: a table of the comparisons, the input, and as much of the expected results as has room.

Everything is little-endian. A record of the table has the argument of ``set_layers`` (0: the whole model), the number
of the output, how to compare, the size in bytes, the CRC-32 of all bytes, where the bytes themselves are (counted from
the start of the data; ``ABSENT`` if they are not there), the tolerance of floats, the shape (c, h, w), and a name.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from openkpu.kat.checks import Check, How, Missing

RECORD: Final = "<HBBIIIfHHH30s"
RECORD_BYTES: Final = struct.calcsize(RECORD)
ABSENT: Final = 0xFFFFFFFF
ALIGN: Final = 8
_LARGEST: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Data:
    """What goes into flash."""

    content: bytes
    checks: int
    """Records in the table."""
    input_offset: int
    whole: int
    """Comparisons whose expected bytes are in flash; the others have their checksum only."""
    dropped: tuple[Missing, ...]
    """Comparisons that need the bytes, for which there is no room."""


def build(checks: Sequence[Check], stored: bytes, budget: int) -> Data:
    """Lay out table, input and expected bytes; of the latter at most ``budget`` bytes.

    Floats and what was computed from them come first, since a checksum cannot compare them; then the outputs of the
    whole model, then the layers from the first on.
    """
    order = sorted(checks, key=lambda c: (c.how is How.BYTES, c.layers))
    kept: set[int] = set()
    left = budget
    for check in order:
        if len(check.expected) <= left:
            kept.add(id(check))
            left -= _aligned(len(check.expected))
    dropped = [c for c in checks if c.how is not How.BYTES and id(c) not in kept]
    table = [c for c in checks if c not in dropped]
    input_offset = _aligned(len(table) * RECORD_BYTES)
    position = _aligned(input_offset + len(stored))
    records, blobs = [], []
    for check in table:
        offset = ABSENT
        if id(check) in kept:
            offset = position
            blobs.append((position, check.expected))
            position += _aligned(len(check.expected))
        records.append(_record(check, offset))
    content = bytearray(position)
    for at, blob in ((0, b"".join(records)), (input_offset, stored), *blobs):
        content[at : at + len(blob)] = blob
    why = "there is no room in flash for what it should give, and floats need more than a checksum"
    return Data(
        bytes(content),
        len(table),
        input_offset,
        len(blobs),
        tuple(Missing(c.layers - 1, c.name, why) for c in dropped),
    )


def _record(check: Check, offset: int) -> bytes:
    c, h, w = check.shape if max(check.shape) <= _LARGEST else (0, 0, 0)
    crc = zlib.crc32(check.expected)
    name = check.name.encode()[:30]
    size = len(check.expected)
    fields = (check.layers, check.output, check.how, size, crc, offset, check.tolerance, c, h, w, name)
    return struct.pack(RECORD, *fields)


def _aligned(position: int) -> int:
    return -(-position // ALIGN) * ALIGN

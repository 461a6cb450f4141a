"""The program at address 0: the frame that the boot ROM checks, and what a MaixPy firmware says of itself.

A framed program is one byte of flags (bit 0: encrypted with the chip's AES key; bit 1: read over two data lines), the
length as u32 little-endian, the program, and the SHA-256 of all that. The ROM starts the program only when the hash is
right. Source: what the vendor's flashing tools write.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

FLAG_AES: Final = 1
FLAG_DIO: Final = 2
HEAD_BYTES: Final = 5
HASH_BYTES: Final = 32
_V4_TEXT: Final = b"only support kmodel V3/V4 now"
_V3_TEXT: Final = b"only support kmodel V3"


@dataclass(frozen=True, slots=True)
class Framed:
    """A program with its frame, as found in flash."""

    data: bytes
    aes: bool
    dio: bool
    intact: bool
    """The hash is right, so that the ROM starts it."""


def frame(data: bytes, *, dio: bool = True) -> bytes:
    """Return the program as it must lie in flash (not encrypted)."""
    framed = struct.pack("<BI", FLAG_DIO if dio else 0, len(data)) + data
    return framed + hashlib.sha256(framed).digest()


def unframe(stored: bytes | bytearray) -> Framed | None:
    """Take the frame off what lies at address 0; ``None`` where there is no frame (erased flash, other data)."""
    if len(stored) < HEAD_BYTES + HASH_BYTES:
        return None
    flags, length = struct.unpack_from("<BI", stored)
    end = HEAD_BYTES + length
    if flags & ~(FLAG_AES | FLAG_DIO) or length == 0 or end + HASH_BYTES > len(stored):
        return None
    intact = hashlib.sha256(stored[:end]).digest() == stored[end : end + HASH_BYTES]
    return Framed(bytes(stored[HEAD_BYTES:end]), bool(flags & FLAG_AES), bool(flags & FLAG_DIO), intact)


def is_framed(data: bytes) -> bool:
    """Whether a file already starts with an intact frame, as a flash image does."""
    found = unframe(data)
    return found is not None and found.intact


def kmodel_versions(program: bytes) -> tuple[int, ...] | None:
    """Return the kmodel versions that a MaixPy firmware loads, by its own error message; ``None`` where it has none."""
    if _V4_TEXT in program:
        return (3, 4)
    return (3,) if _V3_TEXT in program else None

"""What lies where in the 16 MiB of flash of a MaixPy board, and what must not lie on what.

Sources: the build configurations of MaixPy (file system at 0xD00000, 3 MiB, in all of them) and the addresses that
public scripts load models from (0x300000 is by far the most common).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from openkpu.errors import MemoryLimitError
from openkpu.flash.firmware import frame
from openkpu.kmodel.detect import byteswap

FLASH_BYTES: Final = 16 * 1024 * 1024
BLOCK_BYTES: Final = 64 * 1024  # what the flash program on the board erases and writes at a time
ERASED: Final = 0xFF
MODEL_ADDRESS: Final = 0x300000
FILE_SYSTEM_ADDRESS: Final = 0xD00000
FILE_SYSTEM_BYTES: Final = 0x300000
LARGEST_FIRMWARE: Final = 0x300000
"""Where models usually start: MaixPy builds are 0.8 to 3 MB."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file and where it goes."""

    name: str
    address: int
    data: bytes
    """The file's own bytes."""
    sha256_prefix: bool = False
    """A program: stored with the frame that the boot ROM checks."""
    reverse4: bool = False
    """Stored with every 32-bit word byte-swapped (an extension of some packages)."""
    dio: bool = True
    """For a program: the boot ROM reads it over two data lines, which every board's flash can, instead of four."""

    @property
    def stored(self) -> bytes:
        """The bytes that lie in flash from ``address`` on."""
        data = byteswap(self.data) if self.reverse4 else self.data
        return frame(data, dio=self.dio) if self.sha256_prefix else data

    @property
    def size(self) -> int:
        """Bytes in flash."""
        return len(self.stored)

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.size


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two things on the same addresses ``start`` to ``end`` (exclusive)."""

    first: str
    second: str
    start: int
    end: int

    def __str__(self) -> str:
        size = self.end - self.start
        return f"{self.first} and {self.second} share {size} bytes, 0x{self.start:06x} to 0x{self.end - 1:06x}"


def overlaps(parts: Iterable[Part]) -> list[Overlap]:
    """Return every pair of parts that share addresses, in the order of the addresses."""
    spans = [(p.address, p.end, p.name) for p in parts]
    found = [
        Overlap(a[2], b[2], max(a[0], b[0]), min(a[1], b[1]))
        for a, b in combinations(spans, 2)
        if max(a[0], b[0]) < min(a[1], b[1])
    ]
    return sorted(found, key=lambda o: (o.start, o.end))


def warnings(parts: Sequence[Part]) -> Iterator[str]:
    """Yield what is legal but probably not meant: the file system overwritten, a model where firmware usually is."""
    end = FILE_SYSTEM_ADDRESS + FILE_SYSTEM_BYTES
    has_firmware = any(p.address == 0 for p in parts)
    for p in parts:
        size = p.size
        if p.address < end and p.address + size > FILE_SYSTEM_ADDRESS and size:
            yield (
                f"{p.name} lies in the file system of MaixPy (/flash, 0x{FILE_SYSTEM_ADDRESS:06x} to the end): "
                "scripts that save files, or a format at boot, will overwrite it"
            )
        if not has_firmware and 0 < p.address < LARGEST_FIRMWARE:
            yield (
                f"{p.name} lies below 0x{LARGEST_FIRMWARE:06x}, where a MaixPy firmware of more than "
                f"{p.address // 1024} KiB is: it would destroy that firmware"
            )


def aligned(address: int) -> int:
    """Return the next multiple of a block of 64 KiB."""
    return -(-address // BLOCK_BYTES) * BLOCK_BYTES


def free_address(parts: Iterable[Part], size: int, start: int = MODEL_ADDRESS) -> int:
    """Return the first block from ``start`` on with ``size`` free bytes below the file system; E320 if none."""
    taken = sorted((p.address, p.end) for p in parts)
    at = aligned(start)
    for first, last in taken:
        if first < at + size and last > at:
            at = aligned(last)
    if at + size > FILE_SYSTEM_ADDRESS:
        raise MemoryLimitError(
            "E320",
            "there is no free place for this file in flash",
            why=f"{size} bytes are needed between 0x{start:06x} and the file system at 0x{FILE_SYSTEM_ADDRESS:06x}",
            fix="Use smaller models, give addresses yourself (FILE@ADDRESS), or put models on the SD card.",
        )
    return at


def check_fits(name: str, address: int, size: int) -> None:
    """Raise E322 unless ``size`` bytes from ``address`` on are inside the flash."""
    if address < 0 or address + size > FLASH_BYTES:
        raise MemoryLimitError(
            "E322",
            f"{name} does not fit into the flash",
            where=f"address {address:#x}",
            why=f"it would end at {address + size:#x}; the flash has 16 MiB and ends at {FLASH_BYTES:#x}",
            fix="Check the address and the size of the file.",
        )


def check_apart(parts: Iterable[Part]) -> None:
    """Raise E321 when two parts share addresses."""
    found = overlaps(parts)
    if found:
        raise MemoryLimitError(
            "E321",
            f"{found[0].first} and {found[0].second} overlap in flash",
            where=f"0x{found[0].start:06x} to 0x{found[0].end - 1:06x}",
            why="; ".join(str(o) for o in found) + ": the file written last would destroy the other",
            fix="Give other addresses (FILE@ADDRESS), or leave them out and let free places be chosen.",
        )

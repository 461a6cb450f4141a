"""The flash of a board: 16 MiB that start erased, with names for what was written where."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Final

from openkpu.api import read_file
from openkpu.errors import FileFormatError, SetupError
from openkpu.flash import flash_list, kfpkg
from openkpu.flash.firmware import Framed, is_framed, unframe
from openkpu.flash.layout import BLOCK_BYTES, ERASED, FLASH_BYTES, MODEL_ADDRESS, Part, check_fits, warnings
from openkpu.flash.layout import overlaps as _overlaps
from openkpu.kmodel.detect import Kind, detect

KMODELS: Final = (
    Kind.V1,
    Kind.V3,
    Kind.V3_SWAPPED,
    Kind.V4,
    Kind.V4_SWAPPED,
    Kind.V5,
    Kind.OTHER_KMODEL,
    Kind.ENCRYPTED,
)
_ERASED_BYTE: Final = bytes([ERASED])
_ADDRESS_IN_NAME: Final = re.compile(r"(?:^|[_@-])(0[xX][0-9a-fA-F]{1,7})(?![0-9a-zA-Z])")


class FlashImage:
    """16 MiB of flash. Erased bytes are 0xFF. ``parts`` lists what was written under a name, in order."""

    def __init__(self) -> None:
        self._data: Final = bytearray([ERASED]) * FLASH_BYTES
        self._end = 0
        self.parts: list[Part] = []

    def __len__(self) -> int:
        return FLASH_BYTES

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes from ``address`` on; E322 outside the flash."""
        check_fits("a read", address, max(size, 0))
        return bytes(self._data[address : address + size])

    def read_words(self, address: int, count: int) -> tuple[int, ...]:
        """Return ``count`` little-endian 32-bit words from the byte address on; E322 outside the flash."""
        return struct.unpack(f"<{count}I", self.read(address, 4 * count))

    def write(self, address: int, data: bytes, name: str = "") -> None:
        """Put ``data`` at ``address``, over what was there; with a name it is listed as a part. E322 outside."""
        if name:
            self.add(Part(name, address, bytes(data)))
        else:
            self._put("a write", address, data)

    def add(self, part: Part) -> None:
        """Put a part where it belongs, over what was there; E322 outside the flash."""
        self._put(part.name, part.address, part.stored)
        self.parts.append(part)

    def _put(self, name: str, address: int, data: bytes) -> None:
        check_fits(name, address, len(data))
        self._data[address : address + len(data)] = data
        if data:
            self._end = max(self._end, address + len(data))

    def erase(self, address: int = 0, size: int = FLASH_BYTES) -> None:
        """Set bytes to 0xFF; E322 outside the flash. Parts that lay there completely are forgotten."""
        check_fits("an erase", address, size)
        self._data[address : address + size] = bytes([ERASED]) * size
        self.parts = [p for p in self.parts if p.address < address or p.end > address + size]

    @property
    def findings(self) -> list[str]:
        """What is wrong with the layout: parts on one another, on the file system, where firmware usually is."""
        return [str(o) for o in _overlaps(self.parts)] + list(warnings(self.parts))

    @property
    def firmware(self) -> Framed | None:
        """The program at address 0, if there is one with the frame of the boot ROM."""
        return unframe(self._data)

    def part_at(self, address: int) -> Part | None:
        """Return the part written last that covers ``address``."""
        return next((p for p in reversed(self.parts) if p.address <= address < p.end), None)

    def to_bytes(self, *, whole: bool = False) -> bytes:
        """Return the content from address 0 to the last byte that was ever written, or all 16 MiB."""
        return bytes(self._data[: FLASH_BYTES if whole else self._end])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FlashImage:
        """Build the flash that results from flashing a file or a folder.

        A kfpkg goes where it says; a kmodel to the address in its name (``face_0x400000.kmodel``) or to 0x300000; a
        flash image or a firmware to address 0, the latter with its frame. A folder is an unpacked kfpkg (with
        ``flash-list.json``), or files with addresses in their names. E510, E12x and E322 say what is wrong.
        """
        image = cls()
        source = Path(path)
        parts = folder_parts(source) if source.is_dir() else file_parts(source.name, read_file(source))
        for part in parts:
            image.add(part)
        return image


def file_parts(name: str, data: bytes, address: int | None = None) -> list[Part]:
    """Return the parts that one file brings; ``address`` overrules what a kmodel's name or kind implies."""
    kind = detect(data).kind
    if kind is Kind.KFPKG or data[:4] == b"PK\x03\x04":
        parts = list(kfpkg.read(data).parts)
        if not parts:
            raise FileFormatError(
                "E125",
                f"{name} holds nothing to flash",
                where=name,
                why="its table of files is empty",
                fix="Pack it again with kpu pack.",
            )
        return parts
    if kind in KMODELS:
        named = address_in(name) if address is None else address
        return [Part(name, MODEL_ADDRESS if named is None else named, data)]
    at = address_in(name) or 0 if address is None else address
    if at != 0 and data:
        return [Part(name, at, data)]
    if kind in (Kind.EMPTY, Kind.TEXT, Kind.ONNX, Kind.TFLITE, Kind.ZIP) or data[:4] == b"\x7fELF":
        what = "a program in ELF format" if data[:4] == b"\x7fELF" else detect(data).title
        raise FileFormatError(
            "E125",
            f"{name} is nothing that a board starts from address 0",
            where=name,
            why=f"it is {what}",
            fix="Give a kfpkg, a kmodel, a firmware as plain .bin, or an address other than 0 for data.",
        )
    if is_framed(data) or not data[:BLOCK_BYTES].strip(_ERASED_BYTE):
        return image_parts(name, data)
    return [Part(name, 0, data, sha256_prefix=True)]


def image_parts(name: str, data: bytes) -> list[Part]:
    """Cut an image of the flash into the runs of blocks that hold something; erased blocks of 64 KiB are left out."""
    blocks = [data[i : i + BLOCK_BYTES] for i in range(0, len(data), BLOCK_BYTES)]
    used = [bool(b.strip(_ERASED_BYTE)) for b in blocks]
    starts = [i for i, u in enumerate(used) if u and (i == 0 or not used[i - 1])]
    runs = [(i, next((j for j in range(i, len(used)) if not used[j]), len(used))) for i in starts]
    return [
        Part(f"{name}[0x{i * BLOCK_BYTES:06x}]", i * BLOCK_BYTES, data[i * BLOCK_BYTES : j * BLOCK_BYTES])
        for i, j in runs
    ]


def address_in(name: str) -> int | None:
    """Return the address in a name such as ``face_at_0x300000.kmodel``."""
    found = _ADDRESS_IN_NAME.findall(name)
    return int(found[-1], 16) if found else None


def folder_parts(folder: Path) -> list[Part]:
    """Return the parts in a folder: an unpacked kfpkg, or files with addresses in their names."""
    table = folder / flash_list.NAME
    if table.is_file():
        parts = []
        for e in flash_list.parse(read_file(table)):
            file = folder / e.bin
            if not file.resolve().is_relative_to(folder.resolve()):
                raise FileFormatError(
                    "E122",
                    "the folder's table lists a file outside the folder",
                    where=f"{table}: {e.bin}",
                    why="a name must be a plain path inside the folder",
                    fix=f"Correct {flash_list.NAME}.",
                )
            parts.append(Part(e.bin, e.address, read_file(file), e.sha256_prefix, e.reverse4))
        return parts
    named = sorted(p for p in folder.iterdir() if p.is_file() and _ADDRESS_IN_NAME.search(p.name))
    if not named:
        raise SetupError(
            "E510",
            f"the folder {folder} has nothing to flash",
            where=str(folder),
            why=f"it has no {flash_list.NAME}, and no file has an address in its name",
            fix="Name the files with their addresses (face_0x300000.kmodel), or give a kfpkg.",
        )
    return [part for p in named for part in file_parts(p.name, read_file(p))]

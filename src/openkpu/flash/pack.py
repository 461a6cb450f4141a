"""Put files in place: which address each gets, what is swapped, what will not work on the board.

A file without an address, neither given nor in its name (``face_0x500000.kmodel``), goes to the first free block of 64
KiB from 0x300000 on, where MaixPy's examples look for a model: the flash program on the board works in blocks of this
size, so no two such files ever share one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from openkpu.api import read_file
from openkpu.errors import FileFormatError
from openkpu.flash import kfpkg
from openkpu.flash.firmware import is_framed, kmodel_versions, unframe
from openkpu.flash.image import KMODELS, FlashImage, address_in
from openkpu.flash.kfpkg import Package, safe_name
from openkpu.flash.layout import Part, check_apart, check_fits, free_address, overlaps, warnings
from openkpu.k210 import MAIN_RAM_BYTES
from openkpu.kmodel.detect import FileKind, Kind, byteswap, detect

# The arguments of MaixPy's own example: two buffers, 48 KiB a chunk, 60 MHz.
_STREAM_ARGUMENTS: Final = "1, 0xC000, 60000000"


@dataclass(frozen=True, slots=True)
class Request:
    """A file to pack; without an address the one in its name counts, or a free place is chosen."""

    path: Path
    address: int | None = None
    big_endian: bool = False
    """Swap the bytes of every word, as ``kpu.load_flash`` wants it."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One line of the layout."""

    part: Part
    kind: FileKind
    title: str
    maixpy: str
    """How a MaixPy script loads it; empty where it does not."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return {
            "name": self.part.name,
            "address": self.part.address,
            "bytes": self.part.size,
            "end": self.part.end,
            "kind": self.kind.kind.value,
            "title": self.title,
            "sha256_prefix": self.part.sha256_prefix,
            "maixpy": self.maixpy,
        }


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything in its place."""

    package: Package
    placed: tuple[Placed, ...]
    """In the order of the addresses."""
    warnings: tuple[str, ...]

    def to_kfpkg(self) -> bytes:
        """Return the flash package."""
        return kfpkg.write(self.package)

    def to_image(self) -> bytes:
        """Return the flash from address 0 to the end of the last file; gaps are erased (0xFF)."""
        image = FlashImage()
        for part in self.package.parts:
            image.add(part)
        return image.to_bytes()


def plan(
    requests: Sequence[Request],
    firmware: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
) -> Layout:
    """Read the files and give each its place.

    A kfpkg among them brings all its files. ``force``: overlapping files are a warning, not E321.
    E510, E125-E127 for files that cannot be used, E320-E322 for places.
    """
    parts = [] if firmware is None else [_firmware(Path(firmware))]
    free: list[Part] = []
    extras: dict[str, bytes] = {}
    for request in requests:
        data = read_file(request.path)
        kind = detect(data)
        if kind.kind is Kind.KFPKG and request.address is None and not request.big_endian:
            package = kfpkg.read(data)
            parts += (replace(p, name=safe_name(p.name)) for p in package.parts)
            extras |= {safe_name(name): content for name, content in package.extras.items()}
        else:
            if request.address is None:
                request = replace(request, address=address_in(request.path.name))
            (free if request.address is None else parts).append(_file(request, data, kind))
    for part in free:  # files with an address came first, the others go around them, in the order given
        parts.append(replace(part, address=free_address(parts, part.size)))
    placed = _unique(parts)
    for p in placed:
        check_fits(p.name, p.address, p.size)
    if not force:
        check_apart(placed)
    for p in placed:
        extras.pop(p.name, None)
    return describe(Package(tuple(sorted(placed, key=lambda p: p.address)), extras))


def describe(package: Package) -> Layout:
    """Say of every part what it is and how a script loads it, and of the whole what will not work."""
    other = any(p.address == 0 and (code := _program(p)) and kmodel_versions(code) is None for p in package.parts)
    parts = sorted(package.parts, key=lambda p: p.address)
    placed = tuple(_placed(p, maixpy=not other) for p in parts)
    notes = [*map(str, overlaps(package.parts)), *warnings(package.parts), *_compatibility(placed)]
    return Layout(package, placed, tuple(notes))


def _firmware(path: Path) -> Part:
    data = read_file(path)
    kind = detect(data)
    if is_framed(data) or kind.kind is not Kind.UNKNOWN or data[:4] == b"\x7fELF":
        what = "it has the boot ROM's frame already (a flash image?)" if is_framed(data) else f"it is {kind.title}"
        if data[:4] == b"\x7fELF":
            what = "it is a program in ELF format"
        raise FileFormatError(
            "E125",
            f"{path.name} is no firmware",
            where=str(path),
            why=what,
            fix="Give the plain .bin of the firmware (maixpy.bin); other files go after it as FILE@ADDRESS.",
        )
    return Part(safe_name(path.name), 0, data, sha256_prefix=True)


def _file(request: Request, data: bytes, kind: FileKind) -> Part:
    name = safe_name(request.path.name)
    if not data:
        raise FileFormatError(
            "E125", f"{request.path.name} is empty", where=str(request.path), why="0 bytes", fix="Check the file."
        )
    if request.big_endian:
        name, data = _swapped(request.path, kind, data), byteswap(data)
    if request.address is None and kind.kind not in KMODELS:
        raise FileFormatError(
            "E127",
            f"where should {request.path.name} go?",
            where=str(request.path),
            why=f"it is {kind.title}; only models get a place by themselves",
            fix=f"Write {request.path.name}@ADDRESS, for instance @0xa00000, or use --firmware for a firmware.",
        )
    return Part(name, request.address or 0, data)


def _swapped(path: Path, kind: FileKind, data: bytes) -> str:
    """Return the name of the swapped file; E126 for everything but a V3 kmodel."""
    if kind.kind is not Kind.V3:
        why = f"it is {kind.title}; kpu.load_flash streams kmodel V3 only"
        fix = "Pack it without :be and use kpu.load."
        if kind.kind is Kind.V3_SWAPPED:
            why, fix = "its words are swapped already", "Leave out :be."
        raise FileFormatError(
            "E126", f"{path.name} cannot be swapped for kpu.load_flash", where=str(path), why=why, fix=fix
        )
    name = Path(safe_name(path.name))
    return f"{name.stem}_be{name.suffix}"


def _unique(parts: list[Part]) -> list[Part]:
    """Give files of one name names that differ, by their addresses."""
    names = [p.name for p in parts]
    found = []
    for p in parts:
        name = Path(p.name)
        twice = names.count(p.name) > 1
        found.append(replace(p, name=f"{name.stem}_0x{p.address:06x}{name.suffix}") if twice else p)
    return found


def _placed(part: Part, *, maixpy: bool) -> Placed:
    """Describe one part by its bytes as they will lie in flash (without the frame of a program)."""
    kind = detect(byteswap(part.data) if part.reverse4 else part.data)
    line = ""
    if maixpy and kind.kind in (Kind.V3, Kind.V4, Kind.ENCRYPTED):
        line = f"kpu.load(0x{part.address:06x})"
    elif maixpy and kind.kind is Kind.V3_SWAPPED:
        line = f"kpu.load_flash(0x{part.address:06x}, {_STREAM_ARGUMENTS})"
    return Placed(part, kind, _title(part, kind), line)


def _title(part: Part, kind: FileKind) -> str:
    program = _program(part)
    if program is None:
        return (
            "data"
            if kind.kind is Kind.UNKNOWN
            else kind.title.partition(" with every")[0]
            + (", words swapped" if kind.kind in (Kind.V3_SWAPPED, Kind.V4_SWAPPED) else "")
        )
    versions = kmodel_versions(program)
    if versions is None:
        return "program"
    return f"MaixPy, loads kmodel {' and '.join(f'V{v}' for v in versions)}"


def _program(part: Part) -> bytes | None:
    """Return the program of a part that is one, without its frame."""
    if part.sha256_prefix:
        return part.data
    framed = unframe(part.data) if part.address == 0 else None
    return framed.data if framed is not None and framed.intact else None


def _compatibility(placed: Sequence[Placed]) -> list[str]:
    """Say which models will not load: never, or not with this firmware, or not with this much memory."""
    programs = [p for p in placed if p.part.address == 0 and _program(p.part) is not None]
    versions = kmodel_versions(_program(programs[0].part) or b"") if programs else None
    notes = []
    for p in placed:
        name, kind = p.part.name, p.kind
        if kind.kind in (Kind.V1, Kind.V4_SWAPPED, Kind.V5, Kind.OTHER_KMODEL):
            notes.append(f"{name} is {kind.title}. {kind.advice}")
        elif versions is not None and kind.version is not None and kind.version not in versions:
            loads = " and ".join(f"V{v}" for v in versions)
            notes.append(
                f"{name} is a kmodel V{kind.version}, and {programs[0].part.name} loads {loads} only: kpu.load will "
                "say error 2002. Use another firmware, or compile the source model to V3"
            )
        elif kind.kind is Kind.ENCRYPTED:
            notes.append(f"{name} is an {kind.title}: it loads only on the board that it was encrypted for")
        elif kind.kind in (Kind.V3, Kind.V4) and p.part.size > MAIN_RAM_BYTES:
            notes.append(
                f"{name} has {p.part.size} bytes, more than the {MAIN_RAM_BYTES} of main RAM: kpu.load cannot load it. "
                "Pack a kmodel V3 with :be and stream it with kpu.load_flash"
            )
    return notes

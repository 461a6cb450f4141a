"""Flash packages (``.kfpkg``): a zip of ``flash-list.json`` and the files it lists.

Reading trusts nothing: names that leave the folder, members that unpack to more than a flash holds, missing members,
damaged data and addresses outside the flash are errors before anything is used. Writing gives the same bytes for the
same parts.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from openkpu.errors import FileFormatError
from openkpu.flash import flash_list
from openkpu.flash.layout import FLASH_BYTES, Overlap, Part, check_fits, overlaps

MAX_MEMBERS: Final = 2000
_MAX_TOTAL: Final = 4 * FLASH_BYTES
_TIMESTAMP: Final = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold


@dataclass(frozen=True, slots=True)
class Package:
    """The content of a flash package."""

    parts: tuple[Part, ...]
    """In the order in which they are written."""
    extras: Mapping[str, bytes] = field(default_factory=dict)
    """Files that travel along and are not flashed, such as a script or a licence."""

    @property
    def overlaps(self) -> list[Overlap]:
        """Parts that share addresses."""
        return overlaps(self.parts)


def read(data: bytes) -> Package:
    """Open a package; ``FileFormatError`` E120-E124 or ``MemoryLimitError`` E322 say what is wrong with it."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise FileFormatError(
            "E120",
            "this is not a flash package",
            why=f"a kfpkg is a zip file, and the zip cannot be opened: {error}",
            fix="Copy or download it again; kpu inspect FILE says what the file is.",
        ) from None
    with archive:
        members = _members(archive)
        if flash_list.NAME not in members:
            raise FileFormatError(
                "E120",
                "this is not a flash package",
                where=", ".join(list(members)[:8]),
                why=f"it is a zip file without {flash_list.NAME} at its top",
                fix="If the package is inside this zip, unpack it first.",
            )
        budget = _MAX_TOTAL
        entries = flash_list.parse(_content(archive, members[flash_list.NAME], budget))
        contents: dict[str, bytes] = {}
        for name, info in members.items():
            if name != flash_list.NAME:
                contents[name] = _content(archive, info, budget)
                budget -= len(contents[name])
    parts = []
    for e in entries:
        name = e.bin.replace("\\", "/").removeprefix("./")
        if name not in contents:
            raise FileFormatError(
                "E123",
                f"the package lists {e.bin}, but does not hold it",
                where=flash_list.NAME,
                why=f"it holds {', '.join(list(contents)[:8]) or 'nothing else'}",
                fix="Get the package again, or pack the files anew with kpu pack.",
            )
        part = Part(name, e.address, contents[name], e.sha256_prefix, e.reverse4)
        check_fits(name, e.address, part.size)
        parts.append(part)
    listed = {p.name for p in parts}
    return Package(tuple(parts), {n: d for n, d in contents.items() if n not in listed})


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files in the zip by their names, after a look at every name."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist()[: MAX_MEMBERS + 1]:
        name = info.filename.replace("\\", "/").removeprefix("./")
        path = PurePosixPath(name)
        unsafe = not name or path.is_absolute() or ".." in path.parts or ":" in name or not name.isprintable()
        if unsafe or len(name) > 200:
            raise _unsafe(info.filename[:80], "a name must be a plain path inside the package")
        if info.is_dir():
            continue
        if name in found:
            raise _unsafe(name, "the name is there twice")
        found[name] = info
    if len(found) > MAX_MEMBERS:
        raise _unsafe("", f"it holds more than {MAX_MEMBERS} files")
    return found


def _unsafe(name: str, why: str) -> FileFormatError:
    return FileFormatError(
        "E122",
        "the package has a member that cannot be accepted",
        where=name,
        why=why,
        fix="Do not use this package: get it from its author again.",
    )


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: int) -> bytes:
    """Unpack one member, never more than a flash holds."""
    limit = min(FLASH_BYTES, budget)
    if info.file_size > limit:
        raise _unsafe(info.filename, f"it unpacks to {info.file_size} bytes; a board's flash has {FLASH_BYTES}")
    if info.flag_bits & 1:
        raise _unsafe(info.filename, "it is encrypted with a password")
    try:
        with archive.open(info) as stream:
            data = stream.read(limit + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise FileFormatError(
            "E124",
            f"{info.filename} in the package is damaged",
            where=info.filename,
            why=str(error) or type(error).__name__,
            fix="Copy or download the package again.",
        ) from None
    if len(data) != info.file_size:
        raise _unsafe(info.filename, f"it unpacks to more than the {info.file_size} bytes that the zip states")
    return data


def write(package: Package) -> bytes:
    """Return the package as a file. The same content always gives the same bytes.

    E122 for two files of one name, or a name that a zip cannot hold safely; E322 for a part outside the flash.
    """
    names = [*(p.name for p in package.parts), *package.extras]
    for name in names:
        if name != safe_name(name) or names.count(name) > 1 or name == flash_list.NAME:
            raise _unsafe(name, "names in a package are plain, and each is there once")
    for p in package.parts:
        check_fits(p.name, p.address, p.size)
    table = flash_list.render([flash_list.Entry(p.address, p.name, p.sha256_prefix, p.reverse4) for p in package.parts])
    files = [(flash_list.NAME, table.encode()), *((p.name, p.data) for p in package.parts), *package.extras.items()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            info = zipfile.ZipInfo(name, _TIMESTAMP)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # the same on every system
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, compresslevel=9)
    return buffer.getvalue()


def safe_name(name: str) -> str:
    """Return the last part of a path with only letters, digits and ``._+-``, which every tool's file system takes."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return re.sub(r"[^\w.+-]", "_", last).lstrip(".") or "file"

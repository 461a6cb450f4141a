"""The bytes of a model file, within a bound."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from openkpu.errors import FileFormatError, OpenKPUError, SetupError

MAX_BYTES: Final = 512 << 20  # the largest flash of a K210 board holds 16 MiB, at most 64 MiB of float weights


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    ``SetupError`` E510: no such file; ``FileFormatError`` E158: larger than ``MAX_BYTES``.
    """
    try:
        if not path.is_file():
            why = "it is a folder" if path.is_dir() else "nothing has this name"
            raise SetupError("E510", f"there is no file {path}", where=str(path), why=why, fix="check the path")
        if path.stat().st_size > MAX_BYTES:
            raise too_large(path.stat().st_size, str(path))
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise SetupError(
            "E510", f"the file {path} cannot be read", where=str(path), why=str(error), fix="check the path"
        ) from error


def too_large(size: int, where: str) -> OpenKPUError:
    """Return the error for a model that no board could hold."""
    return FileFormatError(
        "E158",
        "the model is too large for this chip",
        where=where,
        why=f"{size} bytes; the limit is {MAX_BYTES}",
        fix="check the path; a K210 board has 16 MiB of flash at most",
    )

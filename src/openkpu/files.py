"""Writing files so that nobody ever sees half of one, and nothing is lost when writing fails."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from openkpu.errors import SetupError


def write_file(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file under a temporary name in the same folder, then rename it; text is written as UTF-8.

    ``SetupError`` E511 when that fails; a file that was there before is then untouched.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(temporary, target)
    except OSError as error:
        with suppress(OSError):  # the folder may be no folder
            temporary.unlink()
        raise _unwritable(f"the file {target} cannot be written", target, str(error)) from error


def check_writable(path: str | os.PathLike[str], *sources: str | os.PathLike[str]) -> None:
    """Raise ``SetupError`` E511 when ``write_file`` could not write there; leaves nothing behind.

    For use before long work whose result goes there. ``sources`` are the files that it reads: none may be replaced.
    """
    target = Path(path)
    folder = target.parent
    try:
        if target.exists() and any(os.path.exists(s) and os.path.samefile(target, s) for s in sources):
            raise SetupError(
                "E511",
                f"{target} would be replaced by the result",
                where=str(target),
                why="it is the file that is read, and nothing else may hold what is in it",
                fix="Give the result another name.",
            )
        if not folder.is_dir():
            why = "it is not a folder" if folder.exists() else "nothing has this name"
            raise _unwritable(f"there is no folder {folder}", target, why)
        if target.exists() and not target.is_file():
            raise _unwritable(f"{target} cannot be written", target, "it is a folder or a device, not a file")
        with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell: root, read-only file systems
            pass
    except (OSError, ValueError) as error:
        raise _unwritable(f"no file can be written into the folder {folder}", target, str(error)) from error


def _unwritable(what: str, target: Path, why: str) -> SetupError:
    return SetupError("E511", what, where=str(target), why=why, fix="Check the folder and its permissions.")

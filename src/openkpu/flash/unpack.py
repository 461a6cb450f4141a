"""Take a flash package apart into a folder, which can be flashed or packed again."""

from __future__ import annotations

import os
from pathlib import Path

from openkpu.errors import SetupError
from openkpu.files import write_file
from openkpu.flash import flash_list
from openkpu.flash.kfpkg import Package


def extract(package: Package, folder: str | os.PathLike[str], *, force: bool = False) -> list[Path]:
    """Write every file of the package and a clean ``flash-list.json`` into ``folder``; return their paths.

    Nothing is swapped or framed: files come out as they are in the package. A file that is there with another content
    is E511 unless ``force``; nothing is written then.
    """
    root = Path(folder)
    table = flash_list.render([flash_list.Entry(p.address, p.name, p.sha256_prefix, p.reverse4) for p in package.parts])
    files = {p.name: p.data for p in package.parts} | dict(package.extras) | {flash_list.NAME: table.encode()}
    targets = {root / name: data for name, data in files.items()}
    for target, data in targets.items():
        if not force and target.exists() and not (target.is_file() and target.read_bytes() == data):
            raise SetupError(
                "E511",
                f"{target} exists and is something else",
                where=str(target),
                why="files are not overwritten by accident",
                fix="Give another folder with -o, or --force to overwrite.",
            )
    for target, data in targets.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(
                "E511",
                f"the folder {target.parent} cannot be made",
                where=str(target.parent),
                why=str(error),
                fix="Check the folder and its permissions, or give another with -o.",
            ) from error
        write_file(target, data)
    return list(targets)

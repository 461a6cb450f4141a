"""The editor stubs of MaixPy's modules, and how they get into a project."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from openkpu.errors import SetupError


def copy_stubs(folder: Path) -> list[str]:
    """Copy all stubs into a folder (made if missing) and return their names; ``SetupError`` E511 when that fails."""
    names = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for item in resources.files("openkpu.maixpy").joinpath("stubs").iterdir():
            if item.name.endswith(".pyi"):
                (folder / item.name).write_text(item.read_text("utf-8"), "utf-8")
                names.append(item.name)
    except OSError as error:
        raise SetupError(
            "E511", f"stubs cannot be written to {folder}", where=str(folder), why=str(error), fix="Check the folder."
        ) from error
    return sorted(names)

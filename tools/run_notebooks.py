"""Run the notebooks: every code cell in order, in a process and a temporary folder for each notebook.

``python tools/run_notebooks.py [FILE...]`` (default: all of ``notebooks/``) stops at the first failure, exit code 1. It
needs no Jupyter: a cell is plain Python, without magics. Notebooks are kept without outputs, so that they always show
what this version computes; one that has outputs is a failure too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "notebooks"


def source(cell: dict[str, Any]) -> str:
    """The text of a cell, which a notebook holds as a text or as a list of lines."""
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


def code_cells(file: Path) -> list[str]:
    """The code of a notebook, cell by cell; ``ValueError`` when it is no notebook, has outputs or magics."""
    notebook = json.loads(file.read_text("utf-8"))
    if notebook.get("nbformat") != 4:
        raise ValueError("it is no notebook of format 4")
    found = []
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] != "code":
            continue
        if cell.get("outputs") or cell.get("execution_count") is not None:
            raise ValueError(f"cell {number} has outputs: clear them")
        text = source(cell)
        if any(line.lstrip().startswith(("%", "!")) for line in text.splitlines()):
            raise ValueError(f"cell {number} has a magic: use plain Python")
        found.append(text)
    return found


def program(cells: list[str], name: str) -> str:
    """One program of all cells, whose tracebacks name the cell."""
    return "\n".join(
        ["scope = {'__name__': '__main__'}"]
        + [f"exec(compile({text!r}, {f'{name}, code cell {i}'!r}, 'exec'), scope)" for i, text in enumerate(cells, 1)]
    )


def run(file: Path) -> bool:
    """Run one notebook where ``examples`` is; prints what failed."""
    try:
        cells = code_cells(file)
    except (OSError, ValueError, KeyError) as error:
        print(f"FAILED {file.name}: {error}")
        return False
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / "examples").symlink_to(ROOT / "examples")
        script = Path(temporary) / "cells.py"
        script.write_text(program(cells, file.name), "utf-8")
        done = subprocess.run(
            [sys.executable, script.name],
            cwd=temporary,
            env={**os.environ, "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    print(f"{'ok    ' if done.returncode == 0 else 'FAILED'} {file.name}, {len(cells)} cells", flush=True)
    if done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode == 0


def main() -> int:
    """Run the notebooks named on the command line, or all."""
    files = [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb"))
    if not files:
        print(f"no notebooks in {FOLDER}")
        return 1
    return 0 if all(run(file) for file in files) else 1


if __name__ == "__main__":
    sys.exit(main())

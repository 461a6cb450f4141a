"""Run what a page shows: every command of its ``sh`` blocks, then every ``python`` block, in order.

``python tools/run_readme.py FILE...`` stops at the first failure with exit code 1. They run in a temporary folder that
shows the repository's examples, so that nothing is left behind. `make` targets are not run again (CI runs them itself)
but must exist.

An ``output`` block shows what the commands print: each of its lines must be a line of what they printed, spaces aside;
a line that is only ``...`` stands for others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

from readme_blocks import blocks, commands

ROOT: Final = Path(__file__).parents[1]
PLAIN: Final = {"COLUMNS": "100", "NO_COLOR": "1", "PYTHONUTF8": "1"}
"""What pages show is printed without colours, 100 cells wide."""
SHOWN: Final = ("examples", "Makefile", "pyproject.toml")


def run(command: list[str], shown: str, folder: Path, printed: list[str] | None = None) -> bool:
    """Run one command in ``folder``; prints it, and its output where it fails. ``printed`` gets its lines."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **PLAIN, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if printed is not None:
        printed += map(squeezed, done.stdout.splitlines())
    print(f"{'ok    ' if done.returncode == 0 else 'FAILED'} {shown}", flush=True)
    if done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode == 0


def squeezed(line: str) -> str:
    """A line with single spaces."""
    return " ".join(line.split())


def missing(file: Path, printed: list[str]) -> list[str]:
    """The lines of ``output`` blocks that no command printed."""
    shown = [squeezed(x) for b in blocks(file) if b.language == "output" for x in b.text.splitlines()]
    return [x for x in shown if x and x != "..." and x not in printed]


def check(file: Path, folder: Path) -> bool:
    """Run one file's commands, then its Python blocks; False at the first failure."""
    printed: list[str] = []
    for command in commands(file):
        words = command.split()
        line = f"make --dry-run {' '.join(words[1:])}" if words[0] == "make" else command
        if not run(["bash", "-euo", "pipefail", "-c", line], command, folder, printed):
            return False
    if lost := missing(file, printed):
        print("FAILED these lines are shown, but no command printed them:", *lost, sep="\n  ")
        return False
    for block in blocks(file):
        if block.language == "python" and not run(
            [sys.executable, "-c", block.text], f"Python, line {block.line}", folder
        ):
            return False
    return True


def main() -> int:
    """Check every file named on the command line."""
    for name in sys.argv[1:]:
        print(f"{name}:")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for part in SHOWN:
                (folder / part).symlink_to(ROOT / part)
            if not check(ROOT / name, folder):
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

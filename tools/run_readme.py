"""Run what a page shows: every command of its ``sh`` blocks, then every ``python`` block, in order.

``python tools/run_readme.py FILE...`` stops at the first failure with exit code 1. They run in a temporary folder that
shows the repository's examples, so that nothing is left behind. `make` targets are not run again (CI runs them itself)
but must exist.
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
SHOWN: Final = ("examples", "Makefile", "pyproject.toml")


def run(command: list[str], shown: str, folder: Path) -> bool:
    """Run one command in ``folder``; prints it, and its output where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    print(f"{'ok    ' if done.returncode == 0 else 'FAILED'} {shown}", flush=True)
    if done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode == 0


def check(file: Path, folder: Path) -> bool:
    """Run one file's commands, then its Python blocks; False at the first failure."""
    for command in commands(file):
        words = command.split()
        line = f"make --dry-run {' '.join(words[1:])}" if words[0] == "make" else command
        if not run(["bash", "-euo", "pipefail", "-c", line], command, folder):
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

"""Draw docs/session.svg: a terminal session of the real commands with their real output.

Runs the commands in a pseudo terminal of 100 columns. The result is committed; times in it are those of the machine
that drew it.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

ROOT: Final = Path(__file__).parents[1]
COLUMNS: Final = 100
CELL: Final = 12.2  # width of a character in rich's SVG
_TEXT: Final = re.compile(r'(<text [^>]*?x=")([\d.]+)(" [^>]*?textLength=")([\d.]+)("[^>]*>)(.*?)</text>')
COMMANDS: Final = (
    "kpu check digits.onnx",
    "kpu compile mobilenet.onnx --calibration calibration -o mobilenet.kmodel",
    "kpu run mobilenet.kmodel coat_0010.png --labels model.json",
)


def output_of(command: str, folder: Path) -> str:
    """Run a command in a pseudo terminal and return what it wrote there, escape codes included."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {
        "PATH": path, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "PYTHONUTF8": "1",
    }  # fmt: skip
    master, slave = pty.openpty()
    # stderr, with its progress bars, stays out of the picture
    with subprocess.Popen(command.split(), cwd=folder, env=env, stdout=slave, stderr=subprocess.DEVNULL) as process:
        os.close(slave)
        data = b""
        try:
            while chunk := os.read(master, 65536):
                data += chunk
        except OSError:  # Linux: the other end was closed
            pass
        os.close(master)
    if process.returncode:
        raise SystemExit(f"{command} failed:\n{data.decode()}")
    return data.decode().replace("\r\n", "\n")


def without_outer_spaces(m: re.Match[str]) -> str:
    """Move a piece of text instead of starting it with spaces, which some renderers drop."""
    space = "&#160;"
    text = m[6]
    while text.startswith(space):
        text = text[len(space) :]
    before = (len(m[6]) - len(text)) // len(space)
    while text.endswith(space):
        text = text[: -len(space)]
    outer = (len(m[6]) - len(text)) // len(space)
    if not text:
        return ""
    return f"{m[1]}{float(m[2]) + before * CELL:.1f}{m[3]}{float(m[4]) - outer * CELL:.1f}{m[5]}{text}</text>"


def main() -> None:
    """Lay the examples' files side by side, run the session, write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "examples/digits/digits.onnx", folder)
        example = ROOT / "examples/mobilenet"
        shutil.copytree(example / "calibration", folder / "calibration")
        for file in ("mobilenet.onnx", "model.json", "pictures/coat_0010.png"):
            shutil.copy(example / file, folder)
        for i, command in enumerate(COMMANDS):
            console.print(Text(("\n" if i else "") + "$ ", "bold green") + Text(command, "bold"))
            console.print(Text.from_ansi(output_of(command, folder).rstrip("\n")), soft_wrap=True)
    svg = console.export_svg(title="kpu", unique_id="session")
    svg = re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)  # no fonts from elsewhere
    svg = _TEXT.sub(without_outer_spaces, svg)
    svg = "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
    (ROOT / "docs" / "session.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    main()

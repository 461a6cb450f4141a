"""Fenced blocks of a Markdown file: what the README promises, so that it can be run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FENCE: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text and the line of its first line."""

    language: str
    text: str
    line: int


def blocks(file: Path) -> list[Block]:
    """Return the fenced blocks of a file that name their language."""
    text = file.read_text("utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in _FENCE.finditer(text)]


def commands(file: Path) -> list[str]:
    """Return the commands of all ``sh`` blocks: one a line, joined after a backslash, without comments."""
    lines = "".join(b.text for b in blocks(file) if b.language == "sh").replace("\\\n", " ").splitlines()
    return [" ".join(line.split("  #")[0].split()) for line in lines if line.strip() and not line.startswith("#")]

"""Where reports go: a terminal with colours, or a plain file or pipe.

Colours only on a terminal, never with NO_COLOR set or TERM=dumb. On a pipe the width is 120 unless COLUMNS says
otherwise, so that a report's lines do not depend on how the other end looks. The few escape codes are written
directly: a library for them would double the time of ``kpu inspect``.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Any, Final, TextIO

from openkpu.report.table import Cell, Column, lay_out

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_PLAIN: Final = {"…": "~", "→": "->", "·": "-", "█": "#", "✓": "ok", "±": "+-", "�": "?"}


class Printer:
    """Prints a report's parts in one look. ``width`` is in columns, ``ascii_only`` tells whether bars use ``#``."""

    def __init__(self, stream: TextIO | None = None, *, width: int | None = None, color: bool | None = None) -> None:
        self.stream = sys.stdout if stream is None else stream
        terminal = self.stream.isatty()
        if width is None:
            width = _columns() or (shutil.get_terminal_size().columns if terminal else 120)
        self.width: int = max(40, width)
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self.color: bool = (terminal and not plain) if color is None else color
        self.encoding: str = self.stream.encoding or "utf-8"
        self.ascii_only: bool = not self.encoding.lower().replace("-", "").startswith("utf")

    def line(self, *cells: Cell) -> None:
        """Print one line of styled pieces; a piece is text or (text, style)."""
        pieces = [(c, "") if isinstance(c, str) else c for c in cells]
        while pieces and not pieces[-1][0].rstrip():
            pieces.pop()
        if pieces:
            pieces[-1] = (pieces[-1][0].rstrip(), pieces[-1][1])
        self.stream.write("".join(self._styled(self._encodable(t), style) for t, style in pieces) + "\n")

    def _styled(self, text: str, style: str) -> str:
        if not self.color or not style or not text:
            return text
        return f"\x1b[{';'.join(_CODES[s] for s in style.split())}m{text}\x1b[0m"

    def heading(self, text: str, after: str = "") -> None:
        """Print a blank line and a heading."""
        self.line("")
        self.line((text, "bold"), (f"  {after}" if after else "", "dim"))

    def pairs(self, rows: Iterable[tuple[str, Cell | list[Cell]]], *, indent: int = 2) -> None:
        """Print ``label  value`` lines with the values aligned; long plain values are wrapped under themselves."""
        rows = list(rows)
        gutter = max((len(label) for label, _ in rows), default=0) + 2
        for label, value in rows:
            lead: Cell = (" " * indent + label.ljust(gutter), "dim")
            if isinstance(value, list):
                self.line(lead, *value)
                continue
            text, style = (value, "") if isinstance(value, str) else value
            parts = self._wrap(text, indent + gutter) or [""]
            self.line(lead, (parts[0], style))
            for part in parts[1:]:
                self.line(" " * (indent + gutter), (part, style))

    def paragraph(self, text: str, *, indent: int = 0, mark: str = "", style: str = "") -> None:
        """Print wrapped text; ``mark`` stands before the first line and the others line up behind it."""
        lead = " " * indent + mark
        for i, part in enumerate(self._wrap(text, len(lead)) or [""]):
            self.line((lead if i == 0 else " " * len(lead), style), (part, style))

    def table(self, columns: list[Column], rows: list[list[Cell]], *, indent: int = 2) -> None:
        """Print a table that fits the width."""
        for cells in lay_out(columns, rows, self.width - indent):
            self.line(" " * indent, *cells)

    def _wrap(self, text: str, used: int) -> list[str]:
        """Wrap to what is left of the width (at most 110 characters); words longer than that stay whole."""
        room = max(30, min(self.width, 110) - used)
        return [
            p
            for line in text.splitlines()
            for p in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)
        ]

    def _encodable(self, text: str) -> str:
        """Return text that the stream can hold; control codes from a file's names become a mark."""
        if not text.isprintable():
            text = "".join(c if c.isprintable() else "�" for c in text)
        if not self.ascii_only or text.isascii():
            return text
        for mark, plain in _PLAIN.items():
            text = text.replace(mark, plain)
        return text.encode(self.encoding, "replace").decode(self.encoding)


def _columns() -> int | None:
    value = os.environ.get("COLUMNS", "")
    return int(value) if value.isascii() and value.isdigit() and int(value) > 0 else None


def print_json(data: Any, stream: TextIO | None = None) -> None:
    """Print strict JSON: infinities and NaN become null, NumPy numbers plain ones."""
    import json

    file = sys.stdout if stream is None else stream
    file.write(json.dumps(_plain(data), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)

"""Where reports go: a terminal with colours, or a plain file or pipe.

Colours only on a terminal and never with NO_COLOR set. On a pipe the width is 120 unless COLUMNS says otherwise, so that
a report's lines do not depend on how the other end looks.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from openkpu.report.table import Cell, Column, lay_out

if TYPE_CHECKING:
    from rich.console import Console


class Printer:
    """Prints a report's parts in one look. ``width`` is the number of columns, ``ascii_only`` whether bars use ``#``."""

    def __init__(self, stream: TextIO | None = None, *, width: int | None = None, color: bool | None = None) -> None:
        from rich.console import Console

        file = sys.stdout if stream is None else stream
        if width is None and not file.isatty():
            width = _columns() or 120
        self.console: Console = Console(
            file=file, width=width, highlight=False, markup=False, emoji=False, force_terminal=color,
            no_color=True if color is False else None)
        self.width = max(40, self.console.width)
        self.ascii_only = not self.console.encoding.lower().startswith("utf")

    def line(self, *cells: Cell) -> None:
        """Print one line of styled pieces; a piece is text or (text, style)."""
        from rich.text import Text

        text = Text()
        for cell in cells:
            t, style = (cell, "") if isinstance(cell, str) else cell
            text.append(self._encodable(t), style)
        text.rstrip()
        self.console.print(text, soft_wrap=True)

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
        return [p for line in text.splitlines()
                for p in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)]

    def _encodable(self, text: str) -> str:
        text = "".join(c if c.isprintable() or c == "\n" else "�" for c in text)  # no control codes from a file's names
        if not self.ascii_only:
            return text
        for mark, plain in (("…", "~"), ("→", "->"), ("·", "-"), ("█", "#"), ("✓", "ok"), ("�", "?")):
            text = text.replace(mark, plain)
        return text.encode(self.console.encoding, "replace").decode(self.console.encoding)


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

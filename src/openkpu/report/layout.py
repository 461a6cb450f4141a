"""What lies where in flash: a map of the 16 MiB, a table of the files, what will not work, how a script loads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from openkpu.flash.layout import FILE_SYSTEM_ADDRESS, FLASH_BYTES
from openkpu.report import words
from openkpu.report.console import Printer
from openkpu.report.table import Cell, Column

if TYPE_CHECKING:
    from openkpu.flash.pack import Layout, Placed

_CELLS: Final = 64
_CELL_BYTES: Final = FLASH_BYTES // _CELLS
_FREE: Final = "·"
_FILE_SYSTEM: Final = "s"
_MARKS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STYLES: Final = ("cyan", "green", "yellow", "red")


def mark(i: int) -> tuple[str, str]:
    """Return the letter and colour of the i-th file."""
    return _MARKS[i % len(_MARKS)], _STYLES[i % len(_STYLES)]


def show(layout: Layout, printer: Printer) -> None:
    """Print map, table, warnings and the lines for a script."""
    printer.heading("Flash", f"16 MiB; one mark is {_CELL_BYTES // 1024} KiB, s the file system of MaixPy (/flash)")
    printer.line("  ", *_map(layout.placed))
    printer.line("")
    _table(layout.placed, printer)
    loads = [(p.part.name, p.maixpy) for p in layout.placed if p.maixpy]
    if loads:
        printer.heading("In MaixPy")
        printer.pairs([(name, (line, words.ACCENT)) for name, line in loads])
    if layout.warnings:
        printer.heading("Look out")
        for warning in layout.warnings:
            printer.paragraph(warning, indent=2, mark="! ", style=words.WARN)


def _map(placed: tuple[Placed, ...]) -> list[Cell]:
    cells: list[Cell] = []
    for i in range(_CELLS):
        start, end = i * _CELL_BYTES, (i + 1) * _CELL_BYTES
        here = [k for k, p in enumerate(placed) if p.part.address < end and p.part.end > start]
        if here:
            cells.append(mark(here[-1]))
        else:
            cells.append((_FILE_SYSTEM if start >= FILE_SYSTEM_ADDRESS else _FREE, words.DIM))
    return cells


def _table(placed: tuple[Placed, ...], printer: Printer) -> None:
    columns = [
        Column(""),
        Column("address"),
        Column("last byte", optional=1),
        Column("bytes", right=True),
        Column("file", flexible=True, least=28),
        Column("what it is", flexible=True, least=24),
    ]
    rows: list[list[Cell]] = []
    for i, p in enumerate(placed):
        letter, style = mark(i)
        last = f"0x{max(p.part.end - 1, p.part.address):06x}"
        rows.append(
            [(letter, style), f"0x{p.part.address:06x}", (last, words.DIM), f"{p.part.size:,}", p.part.name, p.title]
        )
    printer.table(columns, rows)


def files(layout: Layout) -> list[dict[str, Any]]:
    """Return the table as plain data."""
    return [p.as_dict() for p in layout.placed]

"""``kpu flash``: what was done, or how far it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openkpu.report import words
from openkpu.report.console import Printer

if TYPE_CHECKING:
    from openkpu.flash.flasher import Result


def show(result: Result, printer: Printer, *, sram: bool = False) -> None:
    """Print the outcome."""
    where = "SRAM" if sram else "flash"
    printer.heading("Done")
    rate = result.bytes_written / result.seconds if result.seconds > 0 else 0
    speed = f"{words.size(result.bytes_written)} in {result.seconds:.1f} s, {words.size(round(rate))}/s"
    rows = [
        ("board", f"{result.board} on {result.port}"),
        (where, f"{speed}, at {result.baud} baud"),
    ]
    if result.erased:
        rows.append(("erased", "the whole chip, before"))
    if not sram:
        rows.append(("checked", _checked(result)))
    rows.append(("started", "the program in SRAM" if sram else "yes" if result.restarted else "press RESET"))
    printer.pairs(rows)
    for note in result.notes:
        printer.paragraph(note, indent=2, mark="! ", style=words.WARN)


def _checked(result: Result) -> str:
    if result.verified:
        return "read back by MaixPy: the CRC-32 of every file is right"
    return "the CRC-32 of every block was right when it arrived (--verify also reads back, through MaixPy)"


def interrupted(result: Result, printer: Printer) -> None:
    """Say after Ctrl-C what state the board is in."""
    printer.line("")
    if not result.touched:
        printer.paragraph("Interrupted before anything was written: the flash is as it was.", style="bold red")
        return
    done = f"{result.bytes_written:,} of {result.bytes_total:,} bytes"
    before = "the chip was erased, and " if result.erased else ""
    printer.paragraph(f"Interrupted: {before}{done} were written; the file in progress is damaged.", style="bold red")
    if result.written:
        printer.paragraph("Complete: " + ", ".join(w["name"] for w in result.written))
    printer.paragraph("Run the same command again; the bootloader is in ROM and cannot be damaged.")

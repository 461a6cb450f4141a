"""Does it fit? A model's memory bill on every MaixPy build, in one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openkpu.board.budget import Bill, bill
from openkpu.board.firmware import PROFILES
from openkpu.report import words
from openkpu.report.console import Printer
from openkpu.report.table import Cell, Column

if TYPE_CHECKING:
    from openkpu.api import Model


def bills(model: Model) -> list[Bill]:
    """Return the bill of every MaixPy build that loads the model's version, with camera and display on."""
    return [bill(f, model) for f in PROFILES.values() if model.version == 3 or (model.version == 4 and f.v4)]


def as_dict(model: Model) -> list[dict[str, Any]]:
    """Return plain data for ``--json``."""
    return [b.as_dict() for b in bills(model)]


def show(model: Model, printer: Printer) -> None:
    """Print a line for each build, and what would help where it does not fit."""
    found = bills(model)
    if not found:
        return
    printer.heading("Fits MaixPy?", "main RAM with camera, display and a GC heap of 512 KiB")
    rows: list[list[Cell]] = []
    for b in found:
        left = b.left
        fits: Cell = ("fits", words.GOOD) if b.fits else ("no", words.BAD)
        note = f"{words.size(left)} to spare" if b.fits else f"{words.size(-left)} too much"
        about = "about " if b.firmware.approximate else ""
        rows.append([b.firmware.name, fits, note, (f"{about}{words.size(b.firmware.footprint)} firmware", words.DIM)])
    printer.table([Column("build"), Column(""), Column("room"), Column("of 6 MiB", optional=1)], rows)
    worst = next((b for b in found if not b.fits), None)
    for sentence in worst.advice if worst is not None else ():
        printer.paragraph(sentence, indent=2, mark="- ", style=words.DIM)

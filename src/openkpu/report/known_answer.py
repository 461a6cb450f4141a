"""What a known-answer test compares, and what to do with it on the board."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from openkpu.report import words
from openkpu.report.console import Printer

if TYPE_CHECKING:
    from openkpu.kat.known_answer import KnownAnswer


def show(test: KnownAnswer, printer: Printer) -> None:
    """Print what is compared and what is not."""
    layers = f" and {words.plural(test.layers, 'layer')}" if test.layers else ""
    printer.heading("Known-answer test")
    printer.pairs(
        [
            ("model", test.model),
            ("input", test.input),
            ("compares", f"{words.plural(test.outputs, 'output')} of the whole model{layers}"),
            ("fits beside", f"firmware {test.firmware}, without camera and display"),
        ]
    )
    for note in test.notes:
        printer.paragraph(note, indent=2, mark="! ", style=words.WARN)


def show_steps(script: str, package: str, printer: Printer) -> None:
    """Print what to do on the board, and how to try it without one."""
    printer.line(f"  then run {script} on the board: open it in MaixPy IDE, or put it on the SD card as main.py.")
    printer.line("  Its last line is PASS, or FAIL with the first layer that differs. Without a board:")
    printer.line(f"  {shlex.join(['kpu', 'board', script, '--flash', package])}")

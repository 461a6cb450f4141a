"""An error as a compact block: code, what, where, why, fix."""

from __future__ import annotations

from openkpu.errors import OpenKPUError
from openkpu.report.console import Printer


def show(error: OpenKPUError, printer: Printer) -> None:
    """Print one error."""
    printer.paragraph(error.what, mark=f"error {error.code}: ", style="bold red")
    rows = (("where", error.where), ("why", error.why), ("fix", error.fix))
    printer.pairs([(label, text) for label, text in rows if text])

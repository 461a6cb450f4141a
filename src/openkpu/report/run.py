"""``kpu run``: classes with bars, boxes, or the numbers of each output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openkpu.report import words
from openkpu.report.console import Printer

if TYPE_CHECKING:
    from openkpu.runtime.checks import Finding


def show_findings(findings: Sequence[Finding], printer: Printer) -> None:
    """Print what the checking mode found."""
    if not findings:
        printer.line("")
        printer.line(("✓ ", words.GOOD), "checked: no memory mistake, no overflow")
        return
    printer.heading("Findings", words.plural(len(findings), "finding"))
    for f in findings:
        printer.paragraph(f.message, indent=2, mark=f"step {f.step} {f.layer} [{f.kind}]: ", style=words.BAD)

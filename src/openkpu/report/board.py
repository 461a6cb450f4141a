"""A script's run on the virtual board: its output as it comes, the board's explanations apart from it, a summary."""

from __future__ import annotations

import sys
from typing import Final

from openkpu.board.events import Event
from openkpu.board.result import Result
from openkpu.errors import OpenKPUError
from openkpu.report import errors
from openkpu.report.console import Printer

PREFIX: Final = "board: "


class Live:
    """Prints events: the script's text to stdout, notes to stderr with a prefix."""

    def __init__(self) -> None:
        self._err = Printer(sys.stderr)

    def __call__(self, event: Event) -> None:
        """Print one event, if it is for people."""
        if event.kind == "text":
            sys.stdout.write(event.fields["text"])
            sys.stdout.flush()
        elif event.kind == "note":
            for line in event.fields["text"].splitlines():
                self._err.line((PREFIX + line, "yellow"))


def finish(result: Result) -> None:
    """Say on stderr how it ended."""
    printer = Printer(sys.stderr)
    if result.error is not None:
        errors.show(result.error, printer)
    parts = [
        f"{result.snapshots} snapshots, {result.displays} displays in {result.chip_us / 1e6:.3g} s of the board's time"
    ]
    if result.fps:
        parts.append(f"{result.fps:.3g} frames a second")
    if result.runs:
        parts.append(f"{result.runs} model runs of {result.run_us / result.runs / 1000:.3g} ms")
    printer.line((PREFIX + "; ".join(parts), "dim"))


def outcome(result: Result | OpenKPUError) -> None:
    """Say on stderr how a run ended, or why there was none."""
    if isinstance(result, Result):
        finish(result)
    else:
        errors.show(result, Printer(sys.stderr))


def address(url: str) -> None:
    """Say on stderr where the page is."""
    Printer(sys.stderr).line((PREFIX + "the page is at ", "yellow"), (url, "bold"), ("  (Ctrl-C ends)", "dim"))

"""``kpu compile``: the card that a compilation ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openkpu.k210 import AI_RAM_BYTES, MAIN_RAM_BYTES
from openkpu.report import check, words
from openkpu.report.console import Printer
from openkpu.report.table import Cell

if TYPE_CHECKING:
    from openkpu.compiler import Report


def as_dict(report: Report, output: str, sidecar: str | None) -> dict[str, Any]:
    """Return plain data for ``--json``."""
    totals = {**check.totals(report.decisions, report.target), "microseconds": report.time.us}
    return {"output": output, "sidecar": sidecar, **report.as_dict(), **totals}


def show(report: Report, printer: Printer, *, output: str, notes: Sequence[str], next_commands: Sequence[str]) -> None:
    """Print the card."""
    cpu = [d for d in report.decisions if d.where == "CPU"]
    segments = words.plural(report.kpu_segments, "segment")
    printer.line("")
    printer.line(
        (output, "bold"), f"  {words.size(report.file_bytes)}  ", (f"kmodel {report.target.upper()}", words.ACCENT)
    )
    printer.pairs(
        [
            ("KPU", f"{words.plural(report.kpu_layers, 'layer')} in {segments}"),
            (
                "CPU",
                f"{words.plural(len(cpu), 'layer')}: {', '.join(dict.fromkeys(d.op for d in cpu))}"
                if cpu
                else "nothing",
            ),
            ("AI RAM", _peak(report.ai_peak, report.ai_bound, AI_RAM_BYTES)),
            (
                "scratch",
                _peak(report.main_peak, report.main_bound, MAIN_RAM_BYTES) if report.main_peak else "none",
            ),
            *_firmware(report),
            *_streaming(report),
            ("accuracy", _accuracy(report)),
            ("ranges", report.way),
            *_search(report),
            *_weights(report),
            ("on the chip", _time(report)),
            ("", (words.cpu_split(report.cpu_copies.us, report.cpu_operators.us, report.time.us), words.DIM)),
            ("compiled in", f"{report.seconds:.1f} s"),
        ]
    )
    for note in notes:
        printer.paragraph(note, indent=2, mark="note: ", style=words.DIM)
    for warning in report.warnings:
        printer.paragraph(warning, indent=2, mark="warning: ", style=words.WARN)
    if next_commands:
        printer.heading("Next")
        for command in next_commands:
            printer.line("  ", (command, words.ACCENT))


def _peak(peak: int, bound: int, limit: int) -> list[Cell]:
    proof: Cell = (
        ("optimal", words.GOOD) if peak <= bound else (f"{words.size(peak - bound)} over the least possible", words.DIM)
    )
    return [f"{words.size(peak)} ({words.percent(peak, limit)} of {words.size(limit)}), ", proof]


def _firmware(report: Report) -> list[tuple[str, list[Cell]]]:
    """Return the line about the firmware, if one was named."""
    left = report.firmware_bytes_left
    if report.firmware is None or left is None:
        return []
    fits: Cell = (f"fits, {words.size(left)} to spare", words.GOOD) if left >= 0 else (
        f"does not fit, {words.size(-left)} too much", words.WARN
    )  # fmt: skip
    return [("firmware", [f"{report.firmware}: ", fits])]


def _streaming(report: Report) -> list[tuple[str, list[Cell]]]:
    """Return the line about streaming, where main RAM cannot hold file and scratch."""
    s = report.streaming
    if s is None or (report.file_bytes + report.main_peak <= MAIN_RAM_BYTES and (report.firmware_bytes_left or 0) >= 0):
        return []
    if s.problem:
        return [("from flash", [(f"not possible: {s.problem}", words.WARN)])]
    one, two = (words.size(s.ram_bytes(dual=dual)) for dual in (False, True))
    return [("from flash", [f"kpu.load_flash needs {one} of main RAM with one buffer, {two} with two"])]


def _search(report: Report) -> list[tuple[str, list[Cell]]]:
    """Return the line about the search, if there was one."""
    s = report.searched
    if s is None:
        return []
    end: Cell = ("reached", words.GOOD) if s.reached else ("not reached", words.WARN)
    steps = f"{words.decibels(s.before_db)} -> {words.decibels(s.after_db)} in {words.plural(len(s.trials), 'trial')}; "
    return [("search", [f"{steps}{words.decibels(s.target_db)} wished, ", end])]


def _weights(report: Report) -> list[tuple[str, list[Cell]]]:
    """Return the line about 16-bit weights, if the file has them."""
    if report.weight_bits == 8 or report.weight_gain_db is None:
        return []
    small = report.weight_gain_db < 1
    verdict: Cell = (", not worth twice the size", words.WARN) if small else ""
    return [("weights", [f"16 bits: {report.weight_gain_db:+.1f} dB against 8 bits", verdict])]


def _time(report: Report) -> list[Cell]:
    t = report.time
    between = f"{words.milliseconds(t.low).removesuffix(' ms')} and {words.milliseconds(t.high)}"
    return [f"about {words.milliseconds(t.us)} a picture", (f", estimated between {between}", words.DIM)]


def _accuracy(report: Report) -> list[Cell]:
    if report.calibration_snr_db is None:
        return ["that of the quantised model; `kpu compare` measures it on pictures"]
    return [
        (words.decibels(report.calibration_snr_db), words.snr_style(report.calibration_snr_db)),
        f" output SNR against float on {words.plural(report.calibration_pictures, 'picture')}",
    ]

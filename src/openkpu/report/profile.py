"""``kpu profile``: where the time goes, as a table with bars, with totals and advice; CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

from openkpu.analyze.advice import advice
from openkpu.analyze.profile import csv_rows
from openkpu.estimate.devices import FLASH_MHZ, LCD_MHZ
from openkpu.report import bills, words
from openkpu.report.console import Printer
from openkpu.report.table import Cell, Column

if TYPE_CHECKING:
    from openkpu.analyze.profile import Profile, StepProfile
    from openkpu.api import Model
    from openkpu.estimate.bar import Estimate

WHY_STYLE: Final = {
    "compute": words.GOOD,
    "fill": words.WARN,
    "output": words.DIM,
    "weights": words.WARN,
    "overhead": words.WARN,
    "DMA": words.WARN,
    "CPU": words.BAD,
}
"""Colour of each bottleneck."""

BAR: Final = 10


def csv_text(p: Profile) -> str:
    """The profile as CSV (RFC 4180), a row for each step."""
    out = io.StringIO(newline="")
    csv.writer(out).writerows(csv_rows(p))
    return out.getvalue()


def show(
    p: Profile, model: Model, printer: Printer, *, title: str, sort: str = "order", top: int | None = None
) -> None:
    """Print the report of ``model``; ``sort``: order or ms; ``top``: only so many steps."""
    printer.line(
        (title, "bold"),
        f"  kmodel V{p.version}  ",
        (f"KPU {p.kpu_mhz:g} MHz, CPU {p.cpu_mhz:g} MHz", words.ACCENT),
    )
    _card(p, printer)
    _steps(p, printer, sort, top)
    _beside(p, printer)
    bills.show(model, printer)
    printer.heading("What to do")
    for line in advice(p):
        printer.paragraph(line, indent=2, mark="- ")
    printer.line("")
    printer.paragraph(
        "Estimated, not measured. KPU times are fitted to measurements and true within a few percent; those of the CPU "
        "are known less well, and the range says how much. docs/estimate.md",
        style=words.DIM,
    )


def _card(p: Profile, printer: Printer) -> None:
    whole = p.total
    segments = words.plural(p.segments, "segment")
    layers = sum(s.work is not None for s in p.steps)
    printer.pairs(
        [
            (
                "forward",
                [
                    (words.milliseconds(whole.us), "bold"),
                    (f"  between {_range(whole)}", words.DIM),
                    f"  {p.fps:,.0f} frames/s" if p.fps >= 100 else f"  {p.fps:.3g} frames/s",
                ],
            ),
            ("KPU", f"{words.milliseconds(p.kpu.us)}, {words.plural(layers, 'layer')} in {segments}"),
            (
                "CPU",
                (
                    f"{words.milliseconds(p.cpu.us)}, {words.percent(p.cpu.us, whole.us)} of the time",
                    words.GOOD if p.cpu_share <= 0.2 else words.WARN if p.cpu_share <= 0.5 else words.BAD,
                ),
            ),
            ("", (words.cpu_split(p.cpu_copies.us, p.cpu_operators.us, whole.us), words.DIM)),
            ("MACs", f"{words.count(p.macs)}, {p.macs / max(whole.us, 1e-9) / 1000:.1f} G/s"),
        ]
    )


def _range(t: Estimate) -> str:
    return f"{words.milliseconds(t.low).removesuffix(' ms')} and {words.milliseconds(t.high)}"


def _steps(p: Profile, printer: Printer, sort: str, top: int | None) -> None:
    steps = sorted(p.steps, key=lambda s: -s.time.us) if sort == "ms" else list(p.steps)
    shown = steps if top is None else sorted(sorted(steps, key=lambda s: -s.time.us)[:top], key=steps.index)
    left = [s for s in steps if s not in shown]
    printer.heading("Steps", "use = share of the multipliers that work")
    longest = max(s.time.us for s in shown)
    named = any(s.name for s in shown)
    columns = [
        Column("#", right=True),
        Column("step", flexible=True, least=8),
        *([Column("layer", flexible=True, names=True)] if named else []),
        Column("output"),
        Column("kernel, pool", optional=2),
        Column("ms", right=True),
        Column("", right=False),
        Column("±", right=True, optional=3),
        Column("use", right=True, optional=1),
        Column("why"),
        Column("MACs", right=True, optional=4),
        Column("main RAM", right=True, optional=6),
        Column("AI RAM", right=True, optional=5),
    ]
    rows = [_row(s, longest, named, printer) for s in shown]
    printer.table(columns, rows)
    if left:
        us = sum(s.time.us for s in left)
        printer.line("  ", (f"and {words.plural(len(left), 'step')} with {words.milliseconds(us)} together", words.DIM))
    printer.line(
        "  ",
        ("total ", "bold"),
        (words.milliseconds(p.total.us), "bold"),
        (f", {words.plural(len(p.steps), 'row')}", words.DIM),
    )


def _beside(p: Profile, printer: Printer) -> None:
    printer.heading("Beside the model")
    texts = {
        "flash": f"kpu.load_flash, one buffer, SPI at {FLASH_MHZ:g} MHz: the pass takes {{}} instead",
        "flash_dual": "kpu.load_flash, two buffers: {}",
        "display": f"lcd.display of 320x240, SPI at {LCD_MHZ:g} MHz: {{}}",
        "camera": "sensor.snapshot waits for the next picture: one every {} or so",
    }
    for name, t in p.beside.items():
        printer.paragraph(texts[name].format(words.milliseconds(t.us)), indent=2, mark="- ", style=words.DIM)


def _row(s: StepProfile, longest: float, named: bool, printer: Printer) -> list[Cell]:
    style = words.GOOD if s.where == "KPU" else words.WARN if s.where == "DMA" else words.BAD
    spread = max(s.time.high - s.time.us, s.time.us - s.time.low) / s.time.us if s.time.us else 0.0
    return [
        "in" if s.index < 0 else str(s.index),
        (s.op.removesuffix("Tensor"), style),
        *([s.name] if named else []),
        words.shape(s.output_shape),
        s.detail,
        f"{s.time.us / 1000:.3f}",
        (words.bar(s.time.us / longest if longest else 0, BAR, ascii_only=printer.ascii_only), style),
        (f"{100 * spread:.0f} %", words.DIM),
        "" if s.utilisation is None else f"{100 * s.utilisation:.0f} %",
        (s.bottleneck, WHY_STYLE[s.bottleneck]),
        words.count(s.macs) if s.macs else "",
        words.size(s.main_used) if s.main_used else "",
        words.size(s.ai_used) if s.ai_used else "",
    ]

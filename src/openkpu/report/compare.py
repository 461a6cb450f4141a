"""``kpu compare``: how far the kmodel is from the float model, layer by layer and at the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openkpu.report import words
from openkpu.report.console import Printer
from openkpu.report.table import Cell, Column

if TYPE_CHECKING:
    from openkpu.analyze.compare import Comparison

FULL = 60.0
"""An SNR of so many dB fills a bar."""


def show(c: Comparison, printer: Printer) -> None:
    """Print both tables, the worst layers and the notes."""
    printer.line((c.model, "bold"), " and ", (c.kmodel, "bold"), f" on {words.plural(c.pictures, 'picture')}")
    if c.mean is not None and c.std is not None:
        printer.paragraph(f"input: (pixel - {_numbers(c.mean)}) / {_numbers(c.std)}, pixels 0..255", style=words.DIM)
    for warning in c.warnings:
        printer.line("")
        printer.paragraph(warning, mark="warning: ", style=f"{words.HEAD} {words.BAD}")
    if c.layers:
        printer.heading("Layers", f"SNR against float, the bar ends at {FULL:.0f} dB")
        worst = {layer.step for layer in c.worst()} if len(c.layers) > 3 else set()
        alone = any(v.alone_db is not None for v in c.layers)
        columns = [
            Column("step", right=True),
            Column("layer", flexible=True, names=True),
            Column("shape", optional=1),
            Column("SNR", right=True),
            Column(""),
            *([Column("alone", right=True)] if alone else []),
            Column("cosine", right=True),
            Column(""),
        ]
        rows: list[list[Cell]] = [
            [
                str(v.step),
                v.layer,
                (words.shape(v.shape), words.DIM),
                *_likeness(v.snr_db, v.cosine, printer, [_alone(v.alone_db)] if alone else []),
                ("worst", words.DIM) if v.step in worst else "",
            ]
            for v in c.layers
        ]
        printer.table(columns, rows)
    printer.heading("Outputs")
    columns = [
        Column("output", flexible=True),
        Column("shape", optional=1),
        Column("SNR", right=True),
        Column(""),
        Column("cosine", right=True),
        Column("largest error", right=True),
        Column("same top-1", right=True),
    ]
    rows = [
        [
            o.name,
            (words.shape(o.shape), words.DIM),
            *_likeness(o.snr_db, o.cosine, printer),
            "fitted" if o.max_error is None else f"{o.max_error:.4g}",
            "" if o.top1 is None else (f"{o.top1} of {c.pictures}", words.GOOD if o.top1 == c.pictures else words.WARN),
        ]
        for o in c.outputs
    ]
    printer.table(columns, rows)
    if len(c.layers) > 3:
        printer.line("")
        short = words.shorten_names([v.layer for v in c.worst()], 36)
        names = ", ".join(f"{n} ({words.decibels(v.snr_db)})" for n, v in zip(short, c.worst(), strict=True))
        printer.paragraph(names, mark="Worst layers: ")
    if c.advice:
        printer.heading("What helps")
        for sentence in c.advice:
            printer.paragraph(sentence, indent=2, mark="- ")
    for note in c.notes:
        printer.paragraph(note, style=words.DIM)


def _numbers(values: tuple[float, ...]) -> str:
    """Write one number where all channels share it."""
    shown = [f"{v:.6g}" for v in values]
    return shown[0] if len(set(shown)) == 1 else f"[{', '.join(shown)}]"


def _alone(db: float | None) -> Cell:
    return "" if db is None else (words.decibels(db), words.snr_style(db))


def _likeness(db: float, cosine: float, printer: Printer, beside: Sequence[Cell] = ()) -> list[Cell]:
    style = words.snr_style(db)
    return [
        (words.decibels(db), style),
        (words.bar(db / FULL, 15, ascii_only=printer.ascii_only), style),
        *beside,
        f"{cosine:.5f}",
    ]

"""``kpu run``: classes with bars, boxes, or the numbers of each output; and what the checking mode found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from openkpu.report import words
from openkpu.report.console import Printer
from openkpu.report.table import Cell, Column

if TYPE_CHECKING:
    from openkpu.analyze.predict import Prediction, Ranking
    from openkpu.analyze.yolo import Box
    from openkpu.runtime.checks import Finding

FEW = 3
"""Up to so many inputs are shown in full, more get a line each."""

Labels = Sequence[str] | None


def as_dict(
    file: str,
    results: Sequence[Prediction],
    readings: Sequence[Sequence[Ranking | None]],
    boxes: Sequence[Sequence[Box]] | None,
    labels: Labels,
    *,
    checked: bool,
) -> dict[str, Any]:
    """Return plain data for ``--json``."""
    inputs = []
    for i, (p, rankings) in enumerate(zip(results, readings, strict=True)):
        item: dict[str, Any] = {
            "name": p.name,
            "seconds": p.seconds,
            "outputs": [
                {
                    "dtype": str(a.dtype),
                    "shape": list(a.shape),
                    "min": float(a.min()),
                    "max": float(a.max()),
                    "mean": float(a.mean()),
                    "kind": r.kind if r else "array",
                    "top": [asdict(e) for e in r.entries] if r else [],
                }
                for a, r in zip(p.outputs, rankings, strict=True)
            ],
        }
        if boxes is not None:
            item["boxes"] = [{**asdict(b), "name": _name(b.label, labels)} for b in boxes[i]]
        if checked:
            item["findings"] = [asdict(f) for f in p.findings]
        inputs.append(item)
    return {"file": file, "inputs": inputs}


def show(
    results: Sequence[Prediction],
    readings: Sequence[Sequence[Ranking | None]],
    boxes: Sequence[Sequence[Box]] | None,
    labels: Labels,
    size: tuple[int, int] | None,
    printer: Printer,
) -> None:
    """Print the results; ``size`` is the (width, height) that boxes are shown in."""
    single = all(len(r) == 1 and r[0] is not None for r in readings)
    if single and boxes is None and len(results) > FEW:
        _lines(results, readings, printer)
        return
    for i, (p, rankings) in enumerate(zip(results, readings, strict=True)):
        if i:
            printer.line("")
        printer.line(
            (words.middle(p.name, printer.width - 27), "bold"),
            (f"  {p.seconds * 1000:.3g} ms on this computer", words.DIM),
        )
        if boxes is not None:
            _boxes(boxes[i], labels, size, printer)
            continue
        for k, (array, ranking) in enumerate(zip(p.outputs, rankings, strict=True)):
            if ranking is not None:
                _ranking(ranking, printer, f"output {k}" if len(rankings) > 1 else "")
            else:
                printer.line(
                    "  ",
                    (f"output {k}", words.DIM),
                    f"  {array.dtype} {words.shape(array.shape)}  ",
                    f"min {array.min():.4g}  max {array.max():.4g}  mean {array.mean():.4g}",
                )


def _names(results: Sequence[Prediction]) -> list[str]:
    """Return the names of the inputs without the folder that all share."""
    folders = {os.path.dirname(p.name) for p in results}
    return [os.path.basename(p.name) if len(folders) == 1 else p.name for p in results]


def _ranking(ranking: Ranking, printer: Printer, title: str) -> None:
    if title:
        printer.line("  ", (title, words.DIM))
    # Labels and bars share what the margins, the percentages and the values leave; the bar is the first to shrink.
    shared = printer.width - (13 if ranking.kind == "probabilities" else 24)
    longest = max(words.cells(e.label) for e in ranking.entries)
    room = min(30, max(4, shared - longest))
    width = min(longest, shared - room)
    for place, e in enumerate(ranking.entries):
        style = words.GOOD if place == 0 else words.DIM
        value: Cell = "" if ranking.kind == "probabilities" else (f"  {e.value:9.4g}", words.DIM)
        printer.line(
            "  ",
            (words.pad(words.middle(e.label, width), width), "bold" if place == 0 else ""),
            "  ",
            (words.bar(e.share, room, ascii_only=printer.ascii_only), style),
            f" {100 * e.share:5.1f} %",
            value,
        )
    if ranking.kind == "scores":
        printer.paragraph("the output is scores; the bars show their softmax", indent=2, style=words.DIM)


def _lines(results: Sequence[Prediction], readings: Sequence[Sequence[Ranking | None]], printer: Printer) -> None:
    columns = [
        Column("input", flexible=True),
        Column("first", flexible=True, least=8),
        Column("", right=True),
        Column(""),
        Column("second", flexible=True, least=8, optional=1),
        Column("", right=True, optional=1),
    ]
    rows: list[list[Cell]] = []
    for name, rankings in zip(_names(results), readings, strict=True):
        r = rankings[0]
        if r is None:
            continue
        first, second = r.entries[0], r.entries[1] if len(r.entries) > 1 else None
        rows.append(
            [
                name,
                (first.label, "bold"),
                f"{100 * first.share:.1f} %",
                (words.bar(first.share, 12, ascii_only=printer.ascii_only), words.GOOD),
                (second.label, words.DIM) if second else "",
                (f"{100 * second.share:.1f} %", words.DIM) if second else "",
            ]
        )
    printer.table(columns, rows, indent=0)
    mean = sum(p.seconds for p in results) / len(results)
    printer.line((f"{len(results)} inputs, {mean * 1000:.3g} ms each on this computer", words.DIM))


def _boxes(boxes: Sequence[Box], labels: Labels, size: tuple[int, int] | None, printer: Printer) -> None:
    if not boxes:
        printer.line("  ", ("no box above the threshold", words.DIM))
        return
    columns = [
        Column("class", flexible=True),
        Column("score", right=True),
        Column(""),
        Column("left", right=True),
        Column("top", right=True),
        Column("right", right=True),
        Column("bottom", right=True),
    ]
    rows: list[list[Cell]] = []
    for b in boxes:
        corners = b.pixels(*size) if size is not None else (b.left, b.top, b.right, b.bottom)
        place: list[Cell] = [str(v) if isinstance(v, int) else f"{v:.3f}" for v in corners]
        rows.append(
            [
                (_name(b.label, labels), "bold"),
                f"{100 * b.score:.1f} %",
                (words.bar(b.score, 12, ascii_only=printer.ascii_only), words.GOOD),
                *place,
            ]
        )
    printer.table(columns, rows)
    if len(boxes) > 10:
        printer.paragraph(
            f"{len(boxes)} boxes: MaixPy has room for 10 and overwrites memory beyond; raise the threshold.",
            indent=2,
            mark="warning: ",
            style=words.WARN,
        )


def _name(label: int, labels: Labels) -> str:
    return labels[label] if labels is not None and label < len(labels) else str(label)


def show_findings(findings: Sequence[Finding], printer: Printer) -> None:
    """Print what the checking mode found."""
    if not findings:
        printer.line("")
        printer.line(("✓ ", words.GOOD), "checked: no memory mistake, no overflow")
        return
    printer.heading("Findings", words.plural(len(findings), "finding"))
    for f in findings:
        printer.paragraph(f.message, indent=2, mark=f"step {f.step} {f.layer} [{f.kind}]: ", style=words.BAD)

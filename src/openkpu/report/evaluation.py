"""``kpu eval``: the figure, what the float model reaches, the classes that suffer, and who is taken for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from openkpu.report import words
from openkpu.report.console import Printer
from openkpu.report.table import Cell, Column

if TYPE_CHECKING:
    from openkpu.evaluation.results import ClassResult, Evaluation

TITLES: Final = {
    "top1": "right class",
    "top5": "right class among the best 5",
    "map": "mean average precision, IoU 0.5",
    "map50-95": "mean average precision, IoU 0.5 to 0.95",
}
MOST_CLASSES: Final = 12
"""Classes shown; of more, those that lose most."""
MOST_CONFUSIONS: Final = 5


def show(result: Evaluation, printer: Printer) -> None:
    """Print everything about one evaluation."""
    title = TITLES[result.metric]
    on = f"  on {words.plural(result.pictures, 'picture')} of "
    room = max(8, (printer.width - len(on)) // 2)
    printer.line((words.middle(result.kmodel, room), "bold"), on + words.middle(result.data, room))
    printer.heading(title[0].upper() + title[1:])
    _bar("KPU", result.kpu, words.GOOD, _interval(result), printer)
    if result.reference is not None:
        _bar("float", result.reference, words.DIM, "", printer)
        cost = 100 * (result.reference - result.kpu)
        text = f"8 bits cost {cost:.1f} points" if cost > 0.05 else "8 bits cost nothing measurable"
        if result.agreement is not None:
            text += f"; both have the same best class on {words.percent(result.agreement, 1)} of the pictures"
        printer.paragraph(text, indent=2, style=words.DIM)
    _classes(result, printer)
    _confusions(result, printer)
    printer.line("")
    rate = (result.pictures - result.resumed) / max(result.seconds, 1e-9)
    done = f"{result.seconds:.1f} s, {rate:.0f} pictures/s"
    if result.resumed:
        done += f"; {words.plural(result.resumed, 'picture')} taken from the record"
    printer.line((done, words.DIM))
    for note in result.notes:
        printer.paragraph(note, mark="note: ", style=words.WARN)


def _interval(result: Evaluation) -> str:
    if result.interval is None:
        return ""
    low, high = result.interval
    return f"95 % interval {100 * low:.1f} .. {100 * high:.1f} %"


def _bar(label: str, value: float, style: str, note: str, printer: Printer) -> None:
    bar = words.bar(value, min(24, printer.width - 51), ascii_only=printer.ascii_only)
    printer.line("  ", (label.ljust(7), words.DIM), (bar, style), f" {100 * value:5.1f} %  ", (note, words.DIM))


def _classes(result: Evaluation, printer: Printer) -> None:
    rows = result.classes
    if len(rows) < 2:
        return

    def loss(c: ClassResult) -> float:
        return c.kpu if c.reference is None else c.kpu - c.reference

    shown = list(rows)
    after = ""
    if len(rows) > MOST_CLASSES:
        shown = sorted(rows, key=loss)[:MOST_CLASSES]
        what = "lowest" if rows[0].reference is None else "that lose most"
        after = f"the {MOST_CLASSES} {what} of {len(rows)}"
    printer.heading("Classes", after)
    columns = [
        Column("class", flexible=True, least=10),
        Column("count", right=True),
        Column("KPU", right=True),
        Column(""),
        Column("float", right=True),
    ]
    table: list[list[Cell]] = [
        [
            c.label,
            (str(c.count), words.DIM),
            f"{100 * c.kpu:.1f} %",
            (words.bar(c.kpu, 12, ascii_only=printer.ascii_only), words.GOOD),
            ("" if c.reference is None else f"{100 * c.reference:.1f} %", words.DIM),
        ]
        for c in shown
    ]
    if rows[0].reference is None:
        columns.pop()
        for row in table:
            row.pop()
    printer.table(columns, table)


def _confusions(result: Evaluation, printer: Printer) -> None:
    """Which classes are most often taken for which."""
    if not result.confusion:
        return
    # one row of the matrix for each label; a label without pictures is not among ``classes``
    labels = {i: str(i) for i in range(len(result.confusion[0]))}
    present = [i for i, row in enumerate(result.confusion) if any(row)]
    labels |= dict(zip(present, (c.label for c in result.classes), strict=True))
    pairs = sorted(
        ((n, i, k) for i, row in enumerate(result.confusion) for k, n in enumerate(row) if i != k and n),
        key=lambda p: (-p[0], p[1], p[2]),
    )
    if not pairs:
        return
    printer.heading("Most often mistaken")
    for n, i, k in pairs[:MOST_CONFUSIONS]:
        room = (printer.width - 24) // 2
        pair = f"{words.middle(labels[i], room)} for {words.middle(labels[k], room)}"
        printer.line("  ", pair, (f"  {words.plural(n, 'time')}", words.DIM))

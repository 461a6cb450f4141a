"""``kpu inspect``: what a file is, which firmware loads it, what it needs, and its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openkpu.k210 import AI_RAM_BYTES, MAIN_RAM_BYTES
from openkpu.report import words
from openkpu.report.console import Printer
from openkpu.report.table import Cell, Column

if TYPE_CHECKING:
    from openkpu.analyze.inspect import Inspection, StepSummary
    from openkpu.api import Model
    from openkpu.kmodel.program import Operand
    from openkpu.runtime.memory import MemoryUse


def show(found: Inspection, printer: Printer, *, steps: bool = True) -> None:
    """Print everything about one file."""
    printer.line((found.file, "bold"), f"  {words.size(found.file_bytes)}  ", (found.kind.title, words.ACCENT))
    if found.kind.firmware:
        printer.heading("Firmware")
        width = max(len(f.name) for f in found.kind.firmware) + 2
        for f in found.kind.firmware:
            mark = ("loads", words.GOOD) if f.loads else ("no   ", words.BAD)
            printer.line("  ", (f.name.ljust(width), words.DIM), mark, f"  {f.note}" if f.note else "")
    if found.model is not None:
        _model(found.model, found.steps, printer)
        if steps:
            _steps(found.steps, printer)
        if found.model.notes:
            printer.heading("Notes")
            for note in found.model.notes:
                printer.paragraph(note, indent=2, mark="- ")
    printer.heading("What to do")
    printer.paragraph(found.kind.advice, indent=2)


def _model(model: Model, steps: tuple[StepSummary, ...], printer: Printer) -> None:
    kpu = [s for s in steps if s.on_kpu]
    macs, kpu_macs = sum(s.macs for s in steps), sum(s.macs for s in kpu)
    printer.heading("Model")
    printer.pairs(
        [
            *((_numbered("input", i, model.inputs), _operand(o)) for i, o in enumerate(model.inputs)),
            *((_numbered("output", i, model.outputs), _operand(o)) for i, o in enumerate(model.outputs)),
            ("steps", f"{words.plural(len(kpu), 'KPU layer')}, {words.plural(len(steps) - len(kpu), 'CPU step')}"),
            ("MACs", f"{words.count(macs)}, {words.percent(kpu_macs, macs)} of them on the KPU"),
        ]
    )
    _memory(model.memory, printer)


def _memory(m: MemoryUse, printer: Printer) -> None:
    printer.heading("Memory")
    main = m.file_bytes + m.main_bytes
    rows = (
        ("file", m.file_bytes, f"of it weights {words.size(m.weights_bytes)}", None),
        ("scratch", m.main_bytes, "main RAM for results of CPU steps", None),
        (
            "main RAM",
            main,
            f"file and scratch, of {words.size(MAIN_RAM_BYTES)} shared with the firmware",
            MAIN_RAM_BYTES,
        ),
        ("AI RAM", m.ai_peak, f"most at any step, of {words.size(AI_RAM_BYTES)}", AI_RAM_BYTES),
    )
    for label, used, note, limit in rows:
        cells: list[Cell] = [("  " + label.ljust(10), words.DIM), words.size(used).rjust(10), "  "]
        if limit is None:
            cells.append((" " * 18 + note, words.DIM))
        else:
            share = used / limit
            style = words.GOOD if share <= 0.75 else words.WARN if share <= 1 else words.BAD
            cells += [
                (words.bar(share, 10, ascii_only=printer.ascii_only), style),
                f" {words.percent(used, limit).rjust(5)}  ",
                (note, words.DIM),
            ]
        printer.line(*cells)


def _title(op: str) -> str:
    """Leave out of a step's name what a narrow column has no room for."""
    return op.removesuffix("Tensors").removesuffix("Tensor")


def _steps(steps: tuple[StepSummary, ...], printer: Printer) -> None:
    printer.heading(
        "Steps",
        "place: lines of 64 bytes in AI RAM, bytes of the scratch buffer; AI RAM, main RAM: in use at that step",
    )
    named = any(s.name for s in steps)
    columns = [
        Column("#", right=True),
        Column("step", flexible=True, least=13),
        Column("layer", flexible=True, names=True),
        Column("input"),
        Column(""),
        Column("output"),
        Column("kernel, pool", optional=1),
        Column("result in"),
        Column("AI RAM", right=True, optional=5),
        Column("main RAM", right=True, optional=4),
        Column("weights", right=True, optional=2),
        Column("MACs", right=True, optional=3),
    ]
    rows: list[list[Cell]] = []
    for s in steps:
        style = words.GOOD if s.on_kpu else words.WARN
        rows.append(
            [
                str(s.index),
                (_title(s.op), style),
                s.name,
                words.shape(s.input_shape),
                ("→", words.DIM),
                words.shape(s.output_shape),
                s.detail,
                (s.place, words.DIM),
                words.size(s.ai_bytes) if s.ai_bytes else "",
                words.size(s.main_bytes) if s.main_bytes else "",
                words.size(s.weights_bytes) if s.weights_bytes else "",
                words.count(s.macs) if s.macs else "",
            ]
        )
    if not named:
        columns.pop(2)
        for row in rows:
            row.pop(2)
    printer.table(columns, rows)


def _numbered(word: str, i: int, all_of_them: tuple[Operand, ...]) -> str:
    return word if len(all_of_them) == 1 else f"{word} {i}"


def _operand(o: Operand) -> str:
    kind = "channels x height x width" if len(o.shape) == 3 else "values"
    return f"{o.dtype.value} {words.shape(o.shape)} ({kind})"

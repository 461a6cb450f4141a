"""``kpu check``: where each layer of a float model would run, why, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from openkpu.k210 import KPU_HZ
from openkpu.report import words
from openkpu.report.console import Printer
from openkpu.report.table import Cell, Column

if TYPE_CHECKING:
    from openkpu.kmodel.firmware import Firmware
    from openkpu.lower.context import Decision

PLACES = tuple(words.PLACE_STYLE)


def as_dict(
    file: str, decisions: Sequence[Decision], *, target: str = "v3", firmware: Firmware | None = None
) -> dict[str, Any]:
    """Return plain data for ``--json``; times in microseconds."""
    board = (
        None if firmware is None else {"name": firmware.name, "free_bytes": firmware.free, "source": firmware.source}
    )
    layers = [asdict(d) for d in decisions]
    return {"file": file, "target": target, "firmware": board, "layers": layers, **totals(decisions, target)}


def totals(decisions: Sequence[Decision], target: str = "v3") -> dict[str, Any]:
    """Count and time by place."""
    by_place = {place: [d for d in decisions if d.where == place] for place in PLACES}
    time = sum(d.microseconds for d in decisions)
    return {
        "counts": {place: len(group) for place, group in by_place.items()},
        "microseconds": time,
        "cpu_microseconds": sum(d.microseconds for d in by_place["CPU"]),
        "verdict": verdict(decisions, target),
    }


def verdict(decisions: Sequence[Decision], target: str = "v3") -> str:
    """Say in one sentence how well the model suits the chip."""
    impossible = [d for d in decisions if d.where == "not possible"]
    if impossible:
        return (
            f"does not compile to kmodel {target.upper()}: {words.plural(len(impossible), 'layer')} not possible, "
            f"the first is '{impossible[0].layer}'"
        )
    inner = [d for d in decisions if d.where == "CPU" and d.how != "as usual"]
    time = sum(d.microseconds for d in decisions)
    cpu = sum(d.microseconds for d in inner)
    if not decisions:
        return "there is nothing to run in this model"
    if not inner:
        return "fits the KPU: every layer that can run there does"
    names = words.plural(len(inner), "layer")
    worst = max(inner, key=lambda d: d.microseconds)
    if cpu < 0.1 * time:
        return f"fits the KPU; what runs on the CPU costs little ({names})"
    if len(inner) == 1:
        return f"one layer on the CPU takes {words.percent(cpu, time)} of the time: '{worst.layer}'"
    return f"{names} on the CPU take {words.percent(cpu, time)} of the time, most of it '{worst.layer}'"


def show(
    file: str,
    decisions: Sequence[Decision],
    printer: Printer,
    *,
    everything: bool = True,
    target: str = "v3",
    firmware: Firmware | None = None,
) -> None:
    """Print the table of layers, the reasons, the totals and the verdict."""
    printer.line((file, "bold"), (f"  for kmodel {target.upper()}", words.ACCENT))
    if firmware is not None:
        free = (
            f"; it leaves {words.size(firmware.free)} of main RAM for the file and its scratch"
            if firmware.python
            else ""
        )
        printer.paragraph(f"{firmware.title}: {firmware.why}{free}", indent=2, style=words.DIM)
    time = sum(d.microseconds for d in decisions)
    slowest = max((d.microseconds for d in decisions), default=0)
    columns = [
        Column("layer", flexible=True, names=True),
        Column("operators", flexible=True),
        Column("shape", optional=2, least=20),
        Column("runs on"),
        Column("time", right=True),
        Column("", optional=1),
    ]
    rows: list[list[Cell]] = []
    for d in decisions:
        style = words.PLACE_STYLE.get(d.where, "")
        share = d.microseconds / slowest if slowest else 0
        place = "KPU, rewritten" if d.where == "KPU after a rewrite" else d.where
        rows.append(
            [
                d.layer,
                d.op,
                (d.shape.replace("->", "→"), words.DIM),
                (place, style),
                words.milliseconds(d.microseconds) if d.microseconds else "",
                (words.bar(share, 10, ascii_only=printer.ascii_only), style),
            ]
        )
    printer.heading("Layers")
    printer.table(columns, rows)
    if everything:
        _reasons(decisions, printer)
    printer.heading("Sum")
    result = totals(decisions, target)
    for place in PLACES:
        n = result["counts"][place]
        if n:
            us = sum(d.microseconds for d in decisions if d.where == place)
            printer.line(
                "  ",
                (place.ljust(20), words.PLACE_STYLE[place]),
                f"{words.plural(n, 'layer'):>11}",
                f"{words.milliseconds(us):>10}",
                (f"{words.percent(us, time):>7}", words.DIM),
            )
    printer.line(
        "  ",
        ("together".ljust(20), words.HEAD),
        f"{words.plural(len(decisions), 'layer'):>11}",
        f"{words.milliseconds(time):>10}",
        (f"   estimated, at {KPU_HZ // 1_000_000} MHz", words.DIM),
    )
    printer.line("")
    printer.paragraph(
        "kpu profile, on the compiled file, also counts the way of the picture into the chip and of the results out.",
        indent=2,
        style=words.DIM,
    )
    printer.line("")
    bad = any(d.where == "not possible" or (d.where == "CPU" and d.how != "as usual") for d in decisions)
    printer.paragraph(result["verdict"], mark="Verdict: ", style=words.WARN if bad else words.GOOD)


def _reasons(decisions: Sequence[Decision], printer: Printer) -> None:
    """Print the rule, the change and the alternative of every layer that does not simply run on the KPU."""
    groups: dict[tuple[str, ...], list[Decision]] = {}
    for d in decisions:
        if d.where != "KPU" and (d.how or d.why or d.fix):
            groups.setdefault((d.where, d.how, d.why, d.fix, d.alternative), []).append(d)
    short = dict(zip(map(id, decisions), words.shorten_names([d.layer for d in decisions], 36), strict=True))
    if groups:
        printer.heading("Why, and what to change")
    for (place, how, why, fix, alternative), group in groups.items():
        names = ", ".join(short[id(d)] for d in group[:3]) + (f" and {len(group) - 3} more" if len(group) > 3 else "")
        printer.paragraph(names, indent=2, mark=f"{place}: ", style=words.PLACE_STYLE.get(place, ""))
        printer.pairs(
            [
                (label, text)
                for label, text in (
                    ("how", "" if how == "as usual" else how),
                    ("why", why),
                    ("change", fix),
                    ("else", alternative),
                )
                if text
            ],
            indent=4,
        )

"""``kpu convert``: what became of the file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from openkpu.kmodel.program import KpuConv
from openkpu.report import words
from openkpu.report.console import Printer

if TYPE_CHECKING:
    from openkpu.api import Model
    from openkpu.convert import Converted


def as_dict(source: Model, converted: Converted, file: str, output: str) -> dict[str, Any]:
    """Return plain data for ``--json``."""
    return {
        "file": file,
        "output": output,
        "from": converted.source_version,
        "to": converted.model.version,
        "values_compared": converted.values,
        "values_differing": converted.differing,
        "largest_difference": converted.largest_difference,
        "before": _numbers(source),
        "after": _numbers(converted.model),
    }


def _numbers(model: Model) -> dict[str, Any]:
    use = model.memory
    return {
        "steps": len(model.steps),
        "kpu_layers": sum(isinstance(s, KpuConv) for s in model.steps),
        "file_bytes": use.file_bytes,
        "main_bytes": use.main_bytes,
        "ai_peak": use.ai_peak,
    }


def show(source: Model, converted: Converted, printer: Printer, output: str) -> None:
    """Print the card."""
    before, after = _numbers(source), _numbers(converted.model)
    printer.line("")
    printer.line(
        (output, "bold"),
        f"  {words.size(after['file_bytes'])}  ",
        (f"kmodel V{converted.source_version} -> V{converted.model.version}", words.ACCENT),
    )
    same = (
        "bit for bit" if converted.differing == 0 else f"up to {converted.largest_difference:.1e} of the largest value"
    )
    cpu = Counter(type(s).__name__ for s in converted.model.steps if not isinstance(s, KpuConv))
    printer.pairs(
        [
            ("outputs", [("the same", words.GOOD), f" {same}, {converted.values} values on noise"]),
            ("steps", f"{before['steps']} -> {after['steps']}, {after['kpu_layers']} of them KPU layers"),
            ("on the CPU", ", ".join(f"{n} {name}" for name, n in cpu.most_common(8)) or "nothing"),
            ("scratch", f"{words.size(before['main_bytes'])} -> {words.size(after['main_bytes'])}"),
            ("file", f"{words.size(before['file_bytes'])} -> {words.size(after['file_bytes'])}"),
        ]
    )

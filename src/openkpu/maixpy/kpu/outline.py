"""What a watcher wants to know of a model's steps: where each runs, what comes out, how full the AI RAM is."""

from __future__ import annotations

from typing import Any, Final

from openkpu.kmodel.program import KpuConv, KpuDownload, KpuUpload, Memory, Program
from openkpu.runtime.lifetimes import used_at, values

NOTHING: Final[dict[str, Any]] = {"kinds": [], "shapes": [], "ai": []}


def outline(program: Program | None) -> dict[str, Any]:
    """Return a list with a value for each step: kinds ("kpu", "dma", "cpu"), shapes (of the result), ai (bytes)."""
    if program is None:
        return NOTHING
    return {
        "kinds": [_kind(s) for s in program.steps],
        "shapes": [next((list(o.shape) for o in s.writes), []) for s in program.steps],
        "ai": used_at(values(program), Memory.AI, len(program.steps)),
    }


def _kind(step: object) -> str:
    return "kpu" if isinstance(step, KpuConv) else "dma" if isinstance(step, KpuUpload | KpuDownload) else "cpu"

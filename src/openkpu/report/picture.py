"""A program as one picture (SVG): steps from top to bottom, the flow of data beside them, and both memories over time.

Time runs downwards, one row a step. On the left the steps, with a line from each result to every step that reads it; on
the right AI RAM and main RAM, where every value is a rectangle: as wide as its bytes, as high as its life. The picture
needs nothing from outside, follows the reader's light or dark scheme, and names everything on a pointed-at shape.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

from openkpu.errors import InputError
from openkpu.files import write_file
from openkpu.k210 import AI_RAM_BYTES
from openkpu.kmodel.program import Memory
from openkpu.report import words
from openkpu.runtime.lifetimes import Value, values

if TYPE_CHECKING:
    from openkpu.analyze.inspect import Inspection, StepSummary
    from openkpu.kmodel.program import Program

ROW: Final = 22
TOP: Final = 96
LANE: Final = 9
MOST_LANES: Final = 16
"""Lines that run beside the steps at most; further ones share the outermost place."""
CHARACTER: Final = 6.7  # width of one character of the step texts
AI_WIDTH: Final = 300
MAIN_WIDTH: Final = 170
GAP: Final = 34

STYLE: Final = """
svg{--page:#fff;--text:#1f2328;--soft:#66707b;--line:#d0d7de;--kpu:#1a7f5a;--kpu-fill:#d9f2e6;--cpu:#b35900;
--cpu-fill:#ffe9d1;--move:#57606a;--move-fill:#eaeef2;--flow:#8c959f;background:var(--page)}
@media(prefers-color-scheme:dark){svg{--page:#0d1117;--text:#e6edf3;--soft:#8b949e;--line:#30363d;--kpu:#56d3a0;
--kpu-fill:#12352a;--cpu:#f0a35a;--cpu-fill:#3d2a14;--move:#9aa4af;--move-fill:#21262d;--flow:#6e7681}}
text{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:var(--text)}
.title{font:600 16px system-ui,'Segoe UI',Roboto,sans-serif}.soft{fill:var(--soft)}.head{font-weight:600}
.flow{fill:none;stroke:var(--flow);stroke-width:1.3}.grid{stroke:var(--line)}
.kpu{fill:var(--kpu-fill);stroke:var(--kpu)}.cpu{fill:var(--cpu-fill);stroke:var(--cpu)}
.move{fill:var(--move-fill);stroke:var(--move)}rect:hover{stroke-width:2.5}
""".strip()

_MOVES: Final = ("Upload", "Download", "Padding", "Concat", "Copy", "Transpose", "Slice", "Flatten", "PadTensor")


def save(found: Inspection, path: str | os.PathLike[str]) -> None:
    """Write the picture of an inspected kmodel; ``InputError`` E435 when the file is none that could be opened."""
    if found.model is None:
        raise InputError(
            "E435",
            f"there is no program to draw: {found.kind.title}",
            where=found.file,
            why="a picture shows the steps of a kmodel",
            fix=found.kind.advice,
        )
    write_file(path, draw(os.path.basename(found.file), found.model.program, found.steps))


def kind(op: str) -> str:
    """Return the style of a step: ``kpu``, ``move`` (only moves bytes) or ``cpu``."""
    if op == "KpuConv":
        return "kpu"
    return "move" if any(word in op for word in _MOVES) else "cpu"


def draw(title: str, program: Program, steps: Sequence[StepSummary]) -> str:
    """Return the SVG text of a program; ``steps`` are its summaries (``analyze.inspect.summarize``)."""
    found = values(program)
    flow = _Flow(found, len(steps))
    texts = _step_texts(steps)
    left = 20 + LANE * (flow.lanes + 1)
    boxes = left + 38
    box_width = max((len(t.left) for t in texts), default=8) * CHARACTER + 16
    notes = boxes + box_width + 12
    ai = notes + max((len(t.right) for t in texts), default=8) * CHARACTER + GAP
    main = ai + AI_WIDTH + GAP
    has_main = program.main_bytes > 0 and any(v.operand.memory is Memory.MAIN for v in found)
    width = (main + MAIN_WIDTH if has_main else ai + AI_WIDTH) + 24
    height = TOP + ROW * len(steps) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" role="img" aria-label={quoteattr(title)}>',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="20" y="30">{escape(title)}</text>',
        f'<text class="soft" x="20" y="50">{escape(_subtitle(program, steps))}</text>',
        *_legend(20, 66),
        *flow.lines(left),
        *_rows(steps, texts, left, boxes, box_width, notes),
        *_memory("AI RAM", found, Memory.AI, AI_RAM_BYTES, ai, AI_WIDTH, steps),
    ]
    if has_main:
        parts += _memory("main RAM (scratch)", found, Memory.MAIN, program.main_bytes, main, MAIN_WIDTH, steps)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _y(step: int) -> float:
    """Top of a step's row; the inputs stand half a row above the first."""
    return TOP + ROW * step


def _subtitle(program: Program, steps: Sequence[StepSummary]) -> str:
    kpu = sum(s.on_kpu for s in steps)
    ends = [f"{o.dtype.value} {words.shape(o.shape)}" for o in (*program.inputs, *program.outputs)]
    n = len(program.inputs)
    return (
        f"{', '.join(ends[:n])} → {', '.join(ends[n:])}   ·   {words.plural(kpu, 'KPU layer')}, "
        f"{words.plural(len(steps) - kpu, 'CPU step')}   ·   {words.count(sum(s.macs for s in steps))} MACs"
    )


def _legend(x: float, y: float) -> Iterator[str]:
    for style, label in (("kpu", "KPU"), ("cpu", "CPU"), ("move", "CPU, moves bytes only")):
        yield f'<rect class="{style}" x="{x:.0f}" y="{y}" width="12" height="12" rx="2"/>'
        yield f'<text class="soft" x="{x + 17:.0f}" y="{y + 10}">{label}</text>'
        x += 17 + len(label) * CHARACTER + 18


@dataclass(frozen=True, slots=True)
class _Texts:
    left: str
    right: str


def _step_texts(steps: Sequence[StepSummary]) -> list[_Texts]:
    names = words.shorten_names([s.name for s in steps], 34)
    return [
        _Texts(
            f"{s.op}  {s.detail}" if s.detail else s.op,
            "  ".join(t for t in (f"{words.shape(s.input_shape)} → {words.shape(s.output_shape)}", name) if t),
        )
        for s, name in zip(steps, names, strict=True)
    ]


def _rows(
    steps: Sequence[StepSummary], texts: Sequence[_Texts], left: float, boxes: float, box_width: float, notes: float
) -> Iterator[str]:
    for s, t in zip(steps, texts, strict=True):
        y = _y(s.index)
        about = (
            f"{s.index}: {s.op} {s.name} {s.detail}\n{words.count(s.macs)} MACs, weights {words.size(s.weights_bytes)}"
        )
        yield f'<text class="soft" x="{left + 30:.0f}" y="{y + 15}" text-anchor="end">{s.index}</text>'
        yield (
            f'<g><title>{escape(about)}</title><rect class="{kind(s.op)}" x="{boxes:.0f}" y="{y + 2}" '
            f'width="{box_width:.0f}" height="{ROW - 4}" rx="4"/>'
            f'<text x="{boxes + 8:.0f}" y="{y + 15}">{escape(t.left)}</text></g>'
        )
        yield f'<text class="soft" x="{notes:.0f}" y="{y + 15}">{escape(t.right)}</text>'


class _Flow:
    """Lines from results to the steps that read them; each runs in a lane of its own while it is under way."""

    def __init__(self, found: Sequence[Value], steps: int) -> None:
        self._steps = steps
        self._arcs: list[tuple[int, int, int]] = []
        free: list[int] = []
        for v in sorted((v for v in found if v.readers), key=lambda v: (v.born, v.last)):
            start, stop = v.born, v.last
            lane = next((i for i, end in enumerate(free) if end <= start), len(free))
            if lane == len(free):
                free.append(stop)
            free[lane] = stop
            self._arcs += [(start, reader, min(lane, MOST_LANES - 1)) for reader in v.readers]
        self.lanes = min(len(free), MOST_LANES)

    def lines(self, right: float) -> Iterator[str]:
        """Draw them; ``right`` is where the steps begin."""
        end = right + 4
        for start, stop, lane in self._arcs:
            y1 = _y(start) + ROW / 2 + 3 if start >= 0 else _y(0) - 8
            y2 = _y(stop) + ROW / 2 - 3 if stop < self._steps else _y(self._steps) + 8
            x = right - LANE * (lane + 1)
            yield (
                f'<path class="flow" d="M{end:.0f} {y1:.0f}C{x:.0f} {y1:.0f} {x:.0f} {y1:.0f} {x:.0f} {y1 + 7:.0f}'
                f'V{max(y2 - 7, y1 + 7):.0f}C{x:.0f} {y2:.0f} {x:.0f} {y2:.0f} {end:.0f} {y2:.0f}l-4 -3m4 3l-4 3"/>'
            )


def _memory(
    title: str,
    found: Sequence[Value],
    memory: Memory,
    size: int,
    x: float,
    width: float,
    steps: Sequence[StepSummary],
) -> Iterator[str]:
    bottom = _y(len(steps))
    yield f'<text class="head" x="{x:.0f}" y="{TOP - 26}">{title}</text>'
    for i in range(5):
        at = x + width * i / 4
        yield f'<path class="grid" d="M{at:.1f} {TOP - 6}V{bottom}"/>'
        if i % 4 == 0 or (i == 2 and width >= AI_WIDTH):
            anchor, label = ("start", "middle", "end")[i // 2], words.size(size * i // 4)
            yield f'<text class="soft" x="{at:.1f}" y="{TOP - 11}" text-anchor="{anchor}">{label}</text>'
    for v in found:
        if v.operand.memory is not memory:
            continue
        o, first, last = v.operand, max(v.born, 0), min(v.last, len(steps) - 1)
        maker = steps[v.born] if v.born >= 0 else None
        name = f"{v.born}: {maker.name or maker.op}" if maker is not None else "input"
        readers = ", ".join("output" if r == len(steps) else str(r) for r in v.readers) or "nobody"
        about = f"{name}\n{o.dtype.value} {words.shape(o.shape)}, {words.size(o.size)} at {o.start}\nread by {readers}"
        top, height = _y(first) + 1, ROW * (last - first + 1) - 2
        yield (
            f'<rect class="{kind(maker.op) if maker is not None else "move"}" x="{x + width * o.start / size:.1f}" '
            f'y="{top}" width="{max(width * o.size / size, 1):.1f}" height="{height}" rx="2">'
            f"<title>{escape(about)}</title></rect>"
        )

"""The memory bill of a MaixPy board: who takes how much of the 6 MiB, and whether a model fits.

Everything but the KPU's feature maps lives in main RAM: the firmware, its GC heap (the script's objects and images),
and the system heap with the buffers of camera and display and the models. The sizes of buffers and models are the sizes
that the firmware passes to ``malloc``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from openkpu.api import Model
from openkpu.board.firmware import PROFILES, Firmware, find
from openkpu.k210 import MAIN_RAM_BYTES
from openkpu.kmodel.firmware import GC_HEAP_BYTES
from openkpu.kmodel.streaming import SLACK, TABLES_BYTES

GC_HEAP_FALLBACK: Final = 128 * 1024
"""What the firmware takes when the configured GC heap does not fit."""
GC_HEAP_SMALL: Final = 256 * 1024
LCD_SIZE: Final = (320, 240)
MALLOC_HEADER: Final = 16
"""What each block of the system heap costs beside its content (newlib, 64 bit)."""
MALLOC_ALIGN: Final = 16

MODEL_ALIGN_SLACK: Final = 256
MODEL_CONTEXT: Final = 192
MODEL_HANDLE: Final = 1
V4_CONTEXT: Final = 288
STREAM_HEADER: Final = TABLES_BYTES + SLACK

Stream = Literal["", "single", "dual"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill."""

    what: str
    bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What decides how much main RAM a model takes."""

    version: int
    file_bytes: int
    main_bytes: int
    largest_body: int = 0
    """Bytes of the largest layer body; for streaming only."""
    stream: Stream = ""
    """How ``load_flash`` streams it: with one buffer or two; empty for ``load``."""

    def lines(self) -> list[Line]:
        """The blocks that the firmware allocates, in its order."""
        out = [Line("model: bookkeeping", MODEL_HANDLE + MODEL_CONTEXT)]
        if self.stream:
            out.append(Line("model: header for streaming", STREAM_HEADER))
        else:
            out.append(Line("model: the file", self.file_bytes + MODEL_ALIGN_SLACK))
        if self.version == 4:
            out.append(Line("model: V4 runtime", V4_CONTEXT))
        out.append(Line("model: scratch buffer (main_mem)", self.main_bytes))
        if self.stream:
            for i in range(2 if self.stream == "dual" else 1):
                out.append(Line(f"model: layer buffer {i + 1}", self.largest_body + MODEL_ALIGN_SLACK))
        return out


@dataclass(frozen=True, slots=True)
class Bill:
    """Main RAM, line by line."""

    firmware: Firmware
    lines: tuple[Line, ...]
    advice: tuple[str, ...] = ()
    """What would make it fit, best first; empty when it fits."""

    @property
    def total(self) -> int:
        """Bytes of all lines."""
        return sum(line.bytes for line in self.lines)

    @property
    def left(self) -> int:
        """Bytes that remain of main RAM; negative when it does not fit."""
        return MAIN_RAM_BYTES - self.total

    @property
    def fits(self) -> bool:
        """Whether all lines together fit into main RAM."""
        return self.left >= 0

    def as_dict(self) -> dict[str, Any]:
        """The bill as plain data, for ``--json``."""
        return {
            "firmware": self.firmware.name,
            "footprint_source": self.firmware.source,
            "approximate": self.firmware.approximate,
            "ram": MAIN_RAM_BYTES,
            "lines": [{"what": x.what, "bytes": x.bytes, "note": x.note} for x in self.lines],
            "total": self.total,
            "left": self.left,
            "fits": self.fits,
            "advice": list(self.advice),
        }

    def text(self) -> list[str]:
        """The bill as lines of text with the numbers aligned."""
        rows = [("main RAM", MAIN_RAM_BYTES, "")] + [(x.what, -x.bytes, x.note) for x in self.lines]
        rows.append(("left" if self.fits else "missing", abs(self.left), ""))
        wide = max(len(what) for what, _, _ in rows)
        out = [f"{what.ljust(wide)}  {n:>11,} B{'  ' + note if note else ''}" for what, n, note in rows]
        out.insert(len(out) - 1, "-" * (wide + 15))
        return out


def block(size: int) -> int:
    """Bytes of the system heap that ``malloc(size)`` takes."""
    return -(-(size + MALLOC_HEADER) // MALLOC_ALIGN) * MALLOC_ALIGN


def camera_lines(width: int, height: int, *, dual: bool = False) -> list[Line]:
    """The frame buffers that ``sensor.set_framesize`` allocates."""
    pixels = -(-width * height * 2 // 128) * 128
    planes = -(-width * height * 3 // 64) * 64
    one = [
        Line(f"camera {width}x{height}: RGB565", pixels),
        Line(f"camera {width}x{height}: planes for the KPU", planes),
    ]
    return one * (2 if dual else 1)


def lcd_line(width: int = LCD_SIZE[0], height: int = LCD_SIZE[1]) -> Line:
    """The buffer of the display."""
    return Line(f"display {width}x{height}", width * height * 2)


def bill(
    firmware: str | Firmware = "full",
    model: Model | ModelCost | None = None,
    *,
    camera: bool = True,
    lcd: bool = True,
    gc_heap: int = GC_HEAP_BYTES,
    framesize: tuple[int, int] = (320, 240),
    dual_buff: bool = False,
) -> Bill:
    """Return what a board with this firmware spends, without running anything.

    ``model`` is a loaded kmodel or its costs. ``BoardError`` E600 when there is no such firmware.
    """
    build = find(firmware) if isinstance(firmware, str) else firmware
    cost = model
    if isinstance(model, Model):
        cost = ModelCost(model.version, model.memory.file_bytes, model.memory.main_bytes)
    lines = [Line(f"firmware {build.name}", build.footprint, "approximate" if build.approximate else "")]
    lines.append(Line("GC heap (script and images)", block(gc_heap)))
    parts: list[Line] = []
    if camera:
        parts += camera_lines(*framesize, dual=dual_buff)
    if lcd:
        parts.append(lcd_line())
    if isinstance(cost, ModelCost):
        parts += cost.lines()
    lines += [Line(x.what, block(x.bytes), x.note) for x in parts]
    out = Bill(build, tuple(lines))
    if out.fits:
        return out
    return Bill(build, out.lines, tuple(advice(build, out, cost if isinstance(cost, ModelCost) else None)))


def advice(build: Firmware, spent: Bill, cost: ModelCost | None) -> Iterable[str]:
    """Yield what would make a bill that does not fit fit, each with what it brings."""
    missing = -spent.left
    gc = next((x.bytes for x in spent.lines if x.what.startswith("GC heap")), 0)
    saved = gc - block(GC_HEAP_SMALL)
    if saved > 0:
        enough = "enough" if saved >= missing else "not enough alone"
        yield f"Maix.utils.gc_heap_size({GC_HEAP_SMALL}), then machine.reset(): frees {saved:,} B ({enough})"
    needs_v4 = cost is not None and cost.version == 4
    for other in PROFILES.values():
        gain = build.footprint - other.footprint
        if gain > 0 and (other.v4 or not needs_v4):
            enough = "enough" if gain >= missing else "not enough alone"
            yield f"firmware {other.name}: frees {gain:,} B ({enough})"
    second = [x for x in spent.lines if x.what.startswith("camera")]
    if len(second) > 2:
        gain = sum(x.bytes for x in second[2:])
        enough = "enough" if gain >= missing else "not enough alone"
        yield f"sensor.reset() without dual_buff: frees {gain:,} B ({enough})"
    if cost is not None and not cost.stream and cost.version == 3:
        yield "kpu.load_flash with the model byte-swapped: only the largest layer stays in RAM"
    yield f"a model that is {missing:,} B smaller (file and scratch buffer together)"

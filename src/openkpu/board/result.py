"""What came of a script's run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import BoardError

KEPT_FRAMES: Final = 1000
"""How many frames a result keeps."""


@dataclass(slots=True)
class Result:
    """What came of a run."""

    code: int = 0
    """Exit code: 0, 1 after an exception or when the board stopped, 130 after Ctrl-C, or what sys.exit said."""
    how: str = ""
    """How it ended: end, exit, frames (as many as wanted), exception, interrupt, halt (the board stopped), died."""
    text: str = ""
    """The script's output."""
    notes: list[str] = field(default_factory=list)
    """What the board explained."""
    error: BoardError | None = None
    """Why the board stopped."""
    traceback: str = ""
    """The traceback of an exception that nobody caught, as MicroPython prints it."""
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    """What the display showed, RGB888 (h, w, 3), at most ``KEPT_FRAMES`` of it, when asked for."""
    snapshots: int = 0
    displays: int = 0
    chip_us: float = 0.0
    """Microseconds of the board's time."""
    runs: int = 0
    """How often a model ran."""
    run_us: float = 0.0
    """Microseconds that models took."""
    written: list[str] = field(default_factory=list)
    """Files that the script wrote, as it names them."""
    memory: dict[str, int] = field(default_factory=dict)
    """The heaps at the end."""

    @property
    def ok(self) -> bool:
        """Whether the script ended without an error."""
        return self.code == 0

    @property
    def fps(self) -> float:
        """Snapshots a second of the board's time, over the whole run; 0 without any."""
        return self.snapshots / self.chip_us * 1e6 if self.chip_us and self.snapshots else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Everything but the frames, as plain data for ``--json``."""
        return {
            "code": self.code,
            "how": self.how,
            "text": self.text,
            "notes": self.notes,
            "error": None if self.error is None else self.error.as_dict(),
            "traceback": self.traceback,
            "snapshots": self.snapshots,
            "displays": self.displays,
            "chip_ms": self.chip_us / 1000,
            "fps": self.fps,
            "model_runs": self.runs,
            "model_ms": self.run_us / self.runs / 1000 if self.runs else None,
            "written": self.written,
            "memory": self.memory,
        }

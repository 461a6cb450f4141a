"""How a virtual board is set up: everything that the process of a script must know."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from openkpu.kmodel.firmware import GC_HEAP_BYTES


@dataclass(frozen=True, slots=True)
class BoardConfig:
    """Plain data only; it travels to the script's process as JSON."""

    script: str
    firmware: str = "full"
    sd: str | None = None
    """Folder of the SD card; None: no card."""
    sd_overlay: str | None = None
    """Folder that takes what the script writes to /sd; None: it goes to ``sd``."""
    flash_folder: str = ""
    """Folder of /flash."""
    flash: tuple[str, ...] = ()
    """What is burnt: FILE or FILE@ADDRESS."""
    camera: str | tuple[str, ...] | None = None
    camera_fixed: bool = False
    """Whether set_hmirror and set_vflip always flip, instead of compensating for how the camera is mounted."""
    frames: int | None = None
    """End the script after so many snapshots (or displays, when it takes none)."""
    seed: int = 0
    real_time: bool = False
    gc_heap: int = GC_HEAP_BYTES
    send_frames: bool = True
    """Whether the display's pixels are sent with each frame."""
    send_camera: bool = False
    """Whether camera pictures are sent."""
    send_bill: bool = False
    """Whether the lines of the memory bill are sent with ``memory`` when main RAM changes."""
    paced: bool | None = None
    """Whether the script runs no faster than on the chip; None: nobody can pause it or change that."""
    pins: dict[str, int] = field(default_factory=dict)
    """Level of input pins by their number on the chip ("16": the BOOT key); the others are high."""
    presses: tuple[tuple[int, float], ...] = ()
    """Keys that are pressed: (pin, second of the board's time); each stays down for ``pins.PRESS_US``."""
    resets: int = 0
    """How often the script has already reset the board."""

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)), "utf-8")

    @classmethod
    def load(cls, path: Path) -> BoardConfig:
        """Read what ``save`` wrote."""
        values = json.loads(path.read_text("utf-8"))
        values["flash"] = tuple(values["flash"])
        values["presses"] = tuple((int(pin), float(at)) for pin, at in values["presses"])
        if isinstance(values["camera"], list):
            values["camera"] = tuple(values["camera"])
        return cls(**values)

"""Firmware that runs kmodels on a K210 board: the versions each loads, and the main RAM each leaves for a model.

The table of ``detect`` says what happens to one file on every firmware; here is what a compiler needs to know of one.
Footprints are the addresses at which the heap of a running firmware starts, as its boot log prints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from openkpu.errors import UnsupportedError
from openkpu.k210 import MAIN_RAM_BYTES

GC_HEAP_BYTES: Final = 512 * 1024  # MaixPy's default, CONFIG_MAIXPY_GC_HEAP_SIZE
CAMERA_BYTES: Final = 320 * 240 * 2 + 320 * 240 * 3  # QVGA: RGB565 for the display and planes for the KPU
DISPLAY_BYTES: Final = 320 * 240 * 2
LOAD_SLACK: Final = 256  # kpu.load allocates so much more, to align the file


@dataclass(frozen=True, slots=True)
class Firmware:
    """A firmware or runtime as ``--firmware`` names it."""

    name: str
    title: str
    versions: tuple[int, ...]
    """kmodel versions that it loads, the one to prefer first."""
    footprint: int
    """Bytes of main RAM that it takes itself; 0 where no figure is known."""
    python: bool
    """Whether it keeps MicroPython's heap, camera and display buffers beside the model."""
    source: str
    """Where the footprint is from."""
    limit: int = MAIN_RAM_BYTES
    """Largest model file that it accepts."""
    why: str = ""
    """Why the first version is preferred."""

    @property
    def free(self) -> int:
        """Bytes of main RAM for a model and its scratch, with camera and display on."""
        beside = GC_HEAP_BYTES + CAMERA_BYTES + DISPLAY_BYTES if self.python else 0
        return MAIN_RAM_BYTES - self.footprint - beside

    def need(self, file_bytes: int, scratch_bytes: int) -> int:
        """Bytes of main RAM that a loaded model takes: the file, what aligns it, and its scratch buffer."""
        return file_bytes + LOAD_SLACK + scratch_bytes


_V3_BEST: Final = "every MaixPy loads V3 from flash too (load_flash), and its CPU operators are the fastest"
FIRMWARE: Final = {
    f.name: f
    for f in (
        Firmware("maixpy", "MaixPy, the full build", (3, 4), 3_133_568, True,
                 "boot log of v0.6.2-15: gc heap at 0x802fd080", why=_V3_BEST),
        Firmware("maixpy-min", "MaixPy, the minimum build", (3,), 825_424, True,
                 "boot log of v0.5.1-136: gc heap at 0x800c9850", why="it loads nothing else"),
        Firmware("maixpy-v4", "MaixPy, minimum with kmodel V4 support", (3, 4), 1_600_000, True,
                 "about 1.6 MB, said by the author of aXeleRate of such a build", why=_V3_BEST),
        Firmware("canmv", "CanMV 1.0.5 to 1.0.7", (3, 4), 0, False,
                 "its footprint is not known; it refuses files over 5 MB", limit=5 * 1024 * 1024,
                 why="its runtime of V3 is the same as MaixPy's"),
        Firmware("sdk", "kendryte-standalone-sdk", (3, 4, 5), 0, False,
                 "your program takes what it takes", why="every release runs V3; V5 needs the branch develop"),
    )
}  # fmt: skip
"""Name -> firmware."""


def find(name: str) -> Firmware:
    """Return the firmware of that name; ``UnsupportedError`` E204 when there is none."""
    found = FIRMWARE.get(name)
    if found is None:
        raise UnsupportedError(
            "E204",
            f"there is no firmware {name!r}",
            where="option firmware",
            why="known are " + ", ".join(f"{f.name} ({f.title})" for f in FIRMWARE.values()),
            fix="use one of them",
        )
    return found


def choose_version(firmware: Firmware, target: str | None) -> int:
    """Return the kmodel version to write for a firmware; E203 when it does not load the one that is asked for."""
    if target is None:
        return firmware.versions[0]
    version = int(target.removeprefix("v")) if target.removeprefix("v").isdigit() else 0
    if version in firmware.versions:
        return version
    others = [f.name for f in FIRMWARE.values() if version in f.versions]
    raise UnsupportedError(
        "E203",
        f"{firmware.title} does not load kmodel V{version}",
        where="options target and firmware",
        why=f"it loads {_versions(firmware.versions)}; V{version} is loaded by {', '.join(others) or 'no firmware'}",
        fix=f"leave the target out, or use --target v{firmware.versions[0]}",
    )


def _versions(versions: tuple[int, ...]) -> str:
    return " and ".join(f"V{v}" for v in sorted(versions))

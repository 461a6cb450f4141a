"""The MaixPy firmware builds: how much RAM each takes, and which models it loads.

The footprint is the address at which the heap of the running firmware starts, as its boot log prints it
(``gc heap=0x8...``), minus the start of RAM. It belongs to one build: yours prints its own, which ``NAME:BYTES`` takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from openkpu.errors import BoardError
from openkpu.kmodel import firmware as known


@dataclass(frozen=True, slots=True)
class Firmware:
    """One firmware build."""

    name: str
    title: str
    footprint: int
    """Bytes of main RAM that the firmware itself takes: code, data, stack."""
    v4: bool
    """Whether it loads kmodel V4 beside V3."""
    full: bool
    """Whether it has all image functions (a build without them drops find_*, statistics, filters, ...)."""
    source: str
    """Where the footprint is from."""
    approximate: bool = False
    """Whether the footprint is somebody's round figure instead of a boot log."""


PROFILES: Final[dict[str, Firmware]] = {
    f.name: f
    for f in (
        Firmware(
            "full",
            "maixpy_k210, the full build v0.5.0 (V3 and V4)",
            3_128_320,
            True,
            True,
            "a user's v0.5.0 reports 2052 KB of free system heap with camera and display on",
            approximate=True,
        ),
        Firmware(
            "full-v0.6.2",
            "maixpy_k210, the full build v0.6.2-15 (V3 and V4)",
            known.FULL_BYTES,
            True,
            True,
            known.FULL_SOURCE,
        ),
        Firmware(
            "minimum",
            "minimum build (V3 only, no IDE, few image functions)",
            known.MINIMUM_BYTES,
            False,
            False,
            known.MINIMUM_SOURCE,
        ),
        Firmware(
            "minimum-v4",
            "minimum_with_kmodel_v4_support (V3 and V4)",
            known.MINIMUM_V4_BYTES,
            True,
            False,
            known.MINIMUM_V4_SOURCE,
            approximate=True,
        ),
    )
}
"""Name -> build."""

_ALIASES: Final = {
    "maixpy": "full-v0.6.2",  # the names that kpu compile --firmware takes
    "maixpy-min": "minimum",
    "maixpy-v4": "minimum-v4",
    "maixpy_k210": "full",
    "minimum_with_kmodel_v4_support": "minimum-v4",
    "openmv_kmodel_v4_with_ide_support": "minimum-v4",
}
MAX_FOOTPRINT: Final = 5 * 1024 * 1024


def find(name: str) -> Firmware:
    """Return the build called ``name``; ``NAME:BYTES`` is that build with another footprint.

    ``BoardError`` E600 when there is none of that name.
    """
    base, _, number = name.partition(":")
    found = PROFILES.get(_ALIASES.get(base, base))
    if found is None:
        raise BoardError(
            "E600",
            f"there is no firmware profile {base!r}",
            where="option firmware",
            why="known are: " + ", ".join(f"{f.name} ({f.title})" for f in PROFILES.values()),
            fix="Use one of them; NAME:BYTES gives the footprint that your own build prints at boot.",
        )
    if not number:
        return found
    if not number.isascii() or not number.isdigit() or not 0 < int(number) <= MAX_FOOTPRINT:
        raise BoardError(
            "E600",
            f"{number!r} is no firmware footprint",
            where="option firmware",
            why=f"a number of bytes from 1 to {MAX_FOOTPRINT} is needed",
            fix=f"For example {base}:{found.footprint}.",
        )
    return replace(found, footprint=int(number), source="given by you", approximate=False)

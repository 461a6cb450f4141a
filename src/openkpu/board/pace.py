"""Holds a script back for people who watch it: pause, and no faster than on the chip."""

from __future__ import annotations

import threading
import time
from typing import Final

LEAST_S: Final = 0.002
"""Shorter waits are saved up: sleeping is not more exact than that."""
LATE_S: Final = 0.1
"""A script that is this late does not catch up: what it lost is lost."""
SLICE_US: Final = 20_000.0
"""Longest sleep in one piece, so that keys that are pressed during a sleep have their effect."""


class Pace:
    """The script's thread asks it; another thread pauses and resumes."""

    def __init__(self, paced: bool) -> None:
        self._paced = paced
        self._going = threading.Event()
        self._going.set()
        self._woken = threading.Event()
        self._origin: float | None = None

    def pause(self, on: bool) -> None:
        """Pause or go on."""
        if on:
            self._going.clear()
        else:
            self._origin = None
            self._going.set()
        self._woken.set()

    def set_paced(self, on: bool) -> None:
        """Run no faster than on the chip, or as fast as this computer can."""
        self._paced = on
        self._origin = None
        self._woken.set()

    def hold(self) -> None:
        """Wait while paused."""
        self._going.wait()

    def keep(self, us: float) -> None:
        """Wait while paused, then until ``us`` of the chip's time have passed here too."""
        self._going.wait()
        if not self._paced:
            return
        now = time.monotonic()
        if self._origin is None:
            self._origin = now - us / 1e6
        ahead = self._origin + us / 1e6 - now
        if ahead > LEAST_S:
            self._woken.clear()
            self._woken.wait(ahead)
            self._going.wait()
        elif ahead < -LATE_S:
            self._origin = now - us / 1e6

"""The board's time: simulated chip time, or this computer's.

Chip time passes where the firmware spends it: in KPU layers and CPU operators (``cost``), waiting for the camera, in
the transfer to the display, in sleeps. The interpreter's own work and drawing cost nothing, except that asking for the
time takes ``ASK_US``, so that loops that wait for a moment end. The same script gives the same times everywhere.
"""

from __future__ import annotations

import time
from typing import Final

from openkpu.board.pace import Pace

ASK_US: Final = 10.0
"""What a call of ticks_ms() and its like costs; nobody has published the real figure."""
FRAME_US: Final = 1_000_000 / 30
"""One camera frame: 30 a second, as the sensor drivers set it up."""
BLANK_US: Final = FRAME_US / 10
"""The part of it in which the camera sends no picture; a typical share, the data sheets differ by mode."""


class Clock:
    """Microseconds since the board started."""

    def __init__(self, *, real: bool = False, pace: Pace | None = None) -> None:
        self.real = real
        self.pace = pace
        self._began = time.monotonic()
        self._us = 0.0
        self._handed_out = -1

    @property
    def us(self) -> float:
        """Now."""
        return (time.monotonic() - self._began) * 1e6 if self.real else self._us

    def ask(self) -> float:
        """Return now, as a script sees it that asks for the time."""
        self.spend(ASK_US)
        return self.us

    def spend(self, us: float) -> None:
        """Let the chip work for ``us``; with real time that work takes what it takes on this computer."""
        if not self.real:
            self._us += us
        self._keep_pace()

    def _keep_pace(self) -> None:
        if self.pace is not None:
            self.pace.hold() if self.real else self.pace.keep(self._us)

    def sleep(self, us: float) -> None:
        """Sleep, in whichever time."""
        if us <= 0:
            return
        if self.real:
            time.sleep(us / 1e6)
            self._keep_pace()
        else:
            self.spend(us)

    def wait_for_frame(self, *, dual: bool) -> None:
        """Wait for the next camera frame.

        With one buffer the camera starts to fill it at the first frame that begins after the call, and the call
        returns at that frame's last row: a script that works longer than the pause between frames gets every second
        frame at best. With two buffers a frame that came in meanwhile is there at once.
        """
        now = self.us
        if dual:
            done = int((now + BLANK_US) // FRAME_US) - 1  # the last frame that is complete
            if done <= self._handed_out:
                done = self._handed_out + 1
            self._handed_out = done
            self.sleep((done + 1) * FRAME_US - BLANK_US - now)
            return
        begin = -(-now // FRAME_US) * FRAME_US
        self.sleep(begin + FRAME_US - BLANK_US - now)

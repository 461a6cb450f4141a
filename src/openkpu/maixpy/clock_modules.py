"""The module ``time`` (also ``utime``), on the board's clock."""

from __future__ import annotations

import calendar
import time as host_time
import types
from typing import Any, Final

from openkpu.board.device import Device
from openkpu.maixpy import mp

PERIOD: Final = 1 << 30
"""Where ticks wrap around."""
CPU_MHZ: Final = 400
EPOCH: Final = 946_684_800
"""1 January 2000, from which this firmware counts, in seconds of 1970's count."""


class clock:  # noqa: N801
    """Frames per second. ``bind`` makes the class for one board."""

    _device: Device

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again."""
        self._start, self._ticks, self._frames = 0, 0, 0

    def _now(self) -> int:
        return int(self._device.clock.ask() / 1000)

    def tick(self) -> None:
        """A frame begins."""
        self._start = self._now()

    def fps(self) -> float:
        """A frame ends; frames a second so far (it starts again every two seconds)."""
        self._frames += 1
        self._ticks += self._now() - self._start
        value = mp.f32(1000 * self._frames / self._ticks) if self._ticks else float("inf")
        if self._ticks >= 2000:
            self._frames = self._ticks = 0
        return value

    def avg(self) -> float:
        """A frame ends; mean milliseconds of a frame."""
        self._frames += 1
        self._ticks += self._now() - self._start
        return mp.f32(self._ticks / self._frames)

    def __repr__(self) -> str:
        return f"t_start:{self._start} t_ticks:{self._ticks} t_frame:{self._frames}\n"


class Functions:
    """The module's functions; every public method is one."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._offset = 0.0

    def _us(self) -> int:
        us = self._device.clock.ask()
        self._device.poll()
        return int(us)

    def _pause(self, us: float) -> None:
        self._device.pause(us)

    def sleep(self, *args: Any) -> None:
        """Sleep seconds."""
        mp.positional(args, 1, 1)
        self._pause(mp.need_float(args[0]) * 1e6)

    def sleep_ms(self, *args: Any) -> None:
        """Sleep milliseconds."""
        mp.positional(args, 1, 1)
        self._pause(mp.need_int(args[0]) * 1e3)

    def sleep_us(self, *args: Any) -> None:
        """Sleep microseconds."""
        mp.positional(args, 1, 1)
        self._pause(mp.need_int(args[0]))

    def ticks_ms(self) -> int:
        """Milliseconds since the start, modulo 2**30."""
        return self._us() // 1000 % PERIOD

    ticks = ticks_ms

    def ticks_us(self) -> int:
        """Microseconds since the start, modulo 2**30."""
        return self._us() % PERIOD

    def ticks_cpu(self) -> int:
        """Cycles of the CPU since the start, modulo 2**30."""
        return self._us() * CPU_MHZ % PERIOD

    def ticks_add(self, *args: Any) -> int:
        """A point in time so many ticks later."""
        mp.positional(args, 2, 2)
        return (mp.need_int(args[0]) + mp.need_int(args[1])) % PERIOD

    def ticks_diff(self, *args: Any) -> int:
        """From the second to the first, in ticks, signed."""
        mp.positional(args, 2, 2)
        half = PERIOD // 2
        return (mp.need_int(args[0]) - mp.need_int(args[1]) + half) % PERIOD - half

    def time(self) -> int:
        """Seconds of the real-time clock, which starts at 1 January 2000."""
        return int(self._us() / 1e6 + self._offset)

    def localtime(self, *args: Any) -> tuple[int, ...]:
        """(year, month, day, hour, minute, second, weekday, day of the year)."""
        mp.positional(args, 0, 1)
        seconds = self.time() if not args or args[0] is None else mp.need_int(args[0])
        t = host_time.gmtime(seconds + EPOCH)
        return (t.tm_year, t.tm_mon, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, t.tm_wday, t.tm_yday)

    def mktime(self, *args: Any) -> int:
        """The reverse of localtime."""
        mp.positional(args, 1, 1)
        t = mp.need_array(args[0])
        if not 8 <= len(t) <= 9:
            raise TypeError(f"mktime needs a tuple of length 8 or 9 ({len(t)} given)")
        return calendar.timegm(tuple(mp.need_int(v) for v in t[:6])) - EPOCH

    def set_time(self, *args: Any) -> bool:
        """Set the real-time clock: (year, month, day, hour, minute, second)."""
        mp.positional(args, 1, 1)
        t = tuple(mp.need_int(v) for v in mp.need_array(args[0])[:6])
        self._offset = calendar.timegm(t) - EPOCH - self._device.clock.us / 1e6
        return True


def build(device: Device) -> types.ModuleType:
    """Make the module for one board."""
    f = Functions(device)
    members: dict[str, Any] = {n: getattr(f, n) for n in dir(f) if not n.startswith("_")}
    members["clock"] = type("clock", (clock,), {"_device": device})
    return mp.module("utime", "The board's time.", members)

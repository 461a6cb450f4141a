"""The 48 pins: what is connected to each, the level that keys and watchers give to inputs, and interrupts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

PIN_COUNT: Final = 48
BOOT_KEY: Final = 16
PRESS_US: Final = 100_000.0
"""How long a key stays down."""


@dataclass(slots=True)
class Pins:
    """Levels by pin. Inputs are high unless a watcher or a key pulls them down; keys connect to ground."""

    fixed: dict[str, int] = field(default_factory=dict)
    presses: tuple[tuple[int, float], ...] = ()
    functions: dict[int, int] = field(default_factory=dict)
    """Pin -> function number (FPIOA)."""
    watches: dict[int, Callable[[int, int], None]] = field(default_factory=dict)
    """Pin -> what to call with (old, new level) when it changes."""
    read: set[int] = field(default_factory=set)
    """Pins that the script reads; the watcher was told."""
    _sent: dict[int, int] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)

    def level(self, pin: int, now: float) -> int:
        """The level that the world gives to a pin."""
        if pin in self._sent:
            return self._sent[pin]
        if any(p == pin and 0 <= now - at * 1e6 < PRESS_US for p, at in self.presses):
            return 0
        return self.fixed.get(str(pin), 1)

    def set(self, pin: int, level: int) -> None:
        """A watcher presses (0) or releases (1) a key."""
        self._sent[pin] = int(bool(level))

    def pin_of(self, function: int) -> int | None:
        """The pin that a function is connected to."""
        return next((pin for pin, f in sorted(self.functions.items()) if f == function), None)

    def next_change(self, now: float) -> float:
        """When a key is pressed or released next; 0 for never."""
        moments = [m for _, at in self.presses for m in (at * 1e6, at * 1e6 + PRESS_US) if m > now]
        return min(moments, default=0.0)

    def poll(self, now: float) -> None:
        """Call the interrupts of pins whose level changed."""
        for pin, call in list(self.watches.items()):
            new = self.level(pin, now)
            old = self._last.get(pin, 1)
            self._last[pin] = new
            if old != new:
                call(old, new)

"""What every open page shows: the newest value of each thing, and the end of the console.

Nothing is queued. A page that is slow, or asleep, gets the newest picture when it is ready again and misses those in
between; a page that opens late gets everything that is current. So no page ever holds the script back, and memory is
bounded by one value for each thing and ``LOG_CHARS``.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from openkpu.board.events import Event

LOG_CHARS: Final = 400_000
"""How much of the console is kept for pages that open or come back."""
PIECE_CHARS: Final = 4096
BATCH_CHARS: Final = 100_000
"""The most console text in one message."""
FIRST: Final = ("hello", "state")
"""These go before everything else."""


@dataclass(slots=True)
class _Slot:
    event: Event
    version: int
    puts: int


@dataclass(slots=True)
class Cursor:
    """What one page has seen."""

    versions: dict[str, int] = field(default_factory=dict)
    puts: dict[str, int] = field(default_factory=dict)
    position: int = 0
    """Characters of the console, counted from the start."""
    dropped: int = 0
    """Pictures of the display that it missed."""


class Hub:
    """The script's side puts, each page's thread waits with a ``Cursor`` of its own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._slots: dict[str, _Slot] = {}
        self._log: deque[tuple[int, str, str]] = deque()
        self._end = 0
        self._versions = 0
        self.closed = False

    def put(self, name: str, data: bytes = b"", /, **fields: Any) -> None:
        """Replace a value."""
        with self._changed:
            self._versions += 1
            old = self._slots.get(name)
            self._slots[name] = _Slot(Event(name, fields, data), self._versions, 1 if old is None else old.puts + 1)
            self._changed.notify_all()

    def say(self, style: str, text: str) -> None:
        """Add to the console; ``style`` is who speaks: text, note, error, info."""
        if not text:
            return
        with self._changed:
            start, last_style, last = self._log[-1] if self._log else (0, "", "")
            if last_style == style and len(last) + len(text) <= PIECE_CHARS:
                self._log[-1] = (start, style, last + text)
            else:
                for at in range(0, len(text), PIECE_CHARS):
                    self._log.append((self._end + at, style, text[at : at + PIECE_CHARS]))
            self._end += len(text)
            while self._end - self._log[0][0] > LOG_CHARS and len(self._log) > 1:
                self._log.popleft()
            self._changed.notify_all()

    def forget(self, *keep: str) -> None:
        """Drop all values but some, when a run begins; the console stays."""
        with self._changed:
            self._slots = {name: slot for name, slot in self._slots.items() if name in keep}

    def close(self) -> None:
        """Let every page go."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def wait(self, cursor: Cursor, timeout: float) -> list[Event]:
        """Return what is new for a page, at once or when something comes; nothing after ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._news(cursor), timeout)
            names = [n for n, s in self._slots.items() if cursor.versions.get(n) != s.version]
            names.sort(key=lambda n: FIRST.index(n) if n in FIRST else len(FIRST))
            events = []
            for name in names:
                slot = self._slots[name]
                events.append(slot.event)
                if name == "frame" and name in cursor.puts:
                    cursor.dropped += max(0, slot.puts - cursor.puts[name] - 1)
                cursor.versions[name], cursor.puts[name] = slot.version, slot.puts
            if log := self._log_after(cursor):
                events.append(log)
            return events

    def _news(self, cursor: Cursor) -> bool:
        seen = cursor.versions
        return cursor.position < self._end or any(seen.get(n) != s.version for n, s in self._slots.items())

    def _log_after(self, cursor: Cursor) -> Event | None:
        if cursor.position >= self._end:
            return None
        first = self._log[0][0]
        skipped = max(0, first - cursor.position)
        position = max(first, cursor.position)
        pieces: list[tuple[str, str]] = []
        size = 0
        for start, style, text in self._log:
            if start + len(text) > position and size < BATCH_CHARS:
                part = text[position - start :]
                pieces.append((style, part))
                position += len(part)
                size += len(part)
        cursor.position = position
        return Event("log", {"pieces": pieces, "skipped": skipped})

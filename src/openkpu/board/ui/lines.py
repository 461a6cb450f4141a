"""Standard input for a script whose console is a page: each line comes from there."""

from __future__ import annotations

import io
import queue
from collections.abc import Callable


class Lines(io.StringIO):
    """``readline`` waits for the page; ``asking`` is called with whether it waits."""

    def __init__(self, asking: Callable[[bool], None]) -> None:
        super().__init__()
        self._asking = asking
        self._lines: queue.Queue[str] = queue.Queue()

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        """Wait for the next line."""
        self._asking(True)
        line = self._lines.get()
        self._asking(False)
        return line

    def put(self, line: str) -> None:
        """Give a line."""
        self._lines.put(line + "\n")

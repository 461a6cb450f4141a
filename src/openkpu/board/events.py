"""The stream of events between the process of a script and whoever watches it.

One event is a JSON object with ``kind``, and bytes where there are pixels. On the wire: two big-endian u32 (length of
the JSON, length of the bytes), then both. The same framing carries commands to the script's process.

Events: ``start`` (the board is on: ``script firmware resets``), ``text`` (the script's output), ``note`` (the board
explains), ``frame`` (the display, RGB888 bytes, ``w h n us``), ``camera`` (the picture that the camera gave, likewise,
and ``frame``, the size before windowing; when asked for), ``memory`` (bytes of both heaps; the ``bill`` when
asked for), ``model`` (loaded: ``id name bytes main``, and lists with a value for each step: ``steps us kinds shapes
ai``), ``run`` (a model ran: ``id start us layers``), ``unload``, ``pin`` (an output changed), ``input`` (the script
reads a pin for the first time), ``ask`` (the script reads a line), ``reset``, ``halt`` (the board stopped: an error),
``end``.

Commands: ``line`` (text for a script that asked), ``pin`` (the level of an input), ``picture`` (RGB888 bytes for a
camera that is ``live``), ``camera`` (``live``: use those pictures), ``pause`` and ``pace`` (``on``; both only when the
run is watched), ``interrupt`` (Ctrl-C).
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

_HEAD: Final = struct.Struct(">II")
MAX_JSON: Final = 1 << 24
MAX_DATA: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Event:
    """One event or command."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    data: bytes = b""


class Sender:
    """Writes events; safe to use from several threads."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, kind: str, data: bytes = b"", /, **fields: Any) -> None:
        """Send one event and flush."""
        text = json.dumps({"kind": kind, **fields}).encode()
        with self._lock:
            self._stream.write(_HEAD.pack(len(text), len(data)) + text)
            if data:
                self._stream.write(data)
            self._stream.flush()


def receive(stream: BinaryIO) -> Iterator[Event]:
    """Yield events until the other end closes. A stream that is cut off inside an event just ends."""
    while len(head := stream.read(_HEAD.size)) == _HEAD.size:
        size, extra = _HEAD.unpack(head)
        if size > MAX_JSON or extra > MAX_DATA:
            return
        text, data = stream.read(size), stream.read(extra) if extra else b""
        if len(text) < size or len(data) < extra:
            return
        fields = json.loads(text)
        yield Event(fields.pop("kind"), fields, data)

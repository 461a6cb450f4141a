"""What the ``image`` module needs from the board it runs on, and the memory that one board's images share.

``Host`` is the whole interface; the virtual board implements it, the tests use a small one. ``Context`` is what the
firmware keeps in static variables (the loaded font) plus which explanations were already given.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Protocol

MEMORY_TEXT = (
    "Out of normal MicroPython Heap Memory! Please reduce the resolution of the image you are running this algorithm "
    "on to bypass this issue!"
)
"""The firmware's MemoryError when an image does not fit the GC heap (MaixPy-v1 ``xalloc.c``)."""


class Host(Protocol):
    """The board as the image module sees it."""

    @property
    def lcd_size(self) -> tuple[int, int]:
        """Width and height of an image made without arguments (320, 240)."""

    @property
    def full_firmware(self) -> bool:
        """Whether the firmware has everything; False for the minimum builds."""

    def allocate(self, count: int, what: str) -> object:
        """Take bytes from the GC heap for ``what``; raise ``MemoryError(MEMORY_TEXT)`` when they do not fit."""

    def free(self, handle: object) -> None:
        """Give back what ``allocate`` returned."""

    def print(self, text: str) -> None:
        """Show ``text`` as the firmware's own output; line ends are part of the text."""

    def warn(self, text: str) -> None:
        """Explain something that the firmware is silent about; not part of its output."""

    def open(self, path: str) -> bytes:
        """Read a file of the board; ``OSError(2)`` when there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Write a file of the board; ``OSError`` with the firmware's number."""

    def read_flash(self, address: int, count: int) -> bytes:
        """Read ``count`` bytes of the flash chip."""


class Block:
    """Bytes taken from the GC heap; they go back when the last image that uses them is gone."""

    __slots__ = ("__weakref__",)

    def __init__(self, host: Host, count: int, what: str) -> None:
        handle = host.allocate(count, what)
        weakref.finalize(self, host.free, handle).atexit = False


@dataclass(slots=True)
class Font:
    """The font that ``draw_string`` uses: the built-in 8x12 ASCII one, or a loaded UTF-8 font."""

    width: int = 8
    height: int = 12
    data: bytes | None = None
    """A font file, indexed by code point; None for the built-in font and for fonts in flash."""
    flash_address: int = 0
    """Where a font in flash starts; 0 otherwise."""

    @property
    def built_in(self) -> bool:
        """Whether it is the 8x12 ASCII font of the firmware."""
        return self.data is None and not self.flash_address


@dataclass(slots=True, weakref_slot=True)
class Context:
    """The state that all images of one board share."""

    font: Font = field(default_factory=Font)
    said: set[str] = field(default_factory=set)


_contexts: weakref.WeakKeyDictionary[Host, Context] = weakref.WeakKeyDictionary()


def context_of(host: Host) -> Context:
    """Return the shared state of a board; it lives as long as the board."""
    context = _contexts.get(host)
    if context is None:
        context = _contexts[host] = Context()
    return context


def warn_once(host: Host, text: str) -> None:
    """Give an explanation, unless this board has given it before."""
    said = context_of(host).said
    if text not in said:
        said.add(text)
        host.warn(text)

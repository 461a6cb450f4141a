"""A small board for the tests of the image module: it counts the GC heap and remembers what is printed."""

from __future__ import annotations

import gc
from types import ModuleType
from typing import Any

import numpy as np

from openkpu.maixpy.image import MEMORY_TEXT, Image, build


class Board:
    """Implements ``Host``."""

    lcd_size = (320, 240)

    def __init__(self, full: bool = True, heap: int = 1 << 24) -> None:
        self.full_firmware = full
        self.heap = heap
        self.files: dict[str, bytes] = {}
        self.flash = bytes(64)
        self.printed: list[str] = []
        self.warned: list[str] = []
        self._taken: dict[int, int] = {}

    @property
    def used(self) -> int:
        gc.collect()
        return sum(self._taken.values())

    def allocate(self, count: int, what: str) -> int:
        if sum(self._taken.values()) + count > self.heap:
            raise MemoryError(MEMORY_TEXT)
        handle = max(self._taken, default=0) + 1
        self._taken[handle] = count
        return handle

    def free(self, handle: object) -> None:
        assert isinstance(handle, int)
        del self._taken[handle]

    def print(self, text: str) -> None:
        self.printed.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def open(self, path: str) -> bytes:
        if path not in self.files:
            raise OSError(2)
        return self.files[path]

    def write(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def read_flash(self, address: int, count: int) -> bytes:
        return self.flash[address : address + count].ljust(count, b"\xff")

    def module(self) -> ModuleType:
        return build(self)


def rgb565(words: Any, host: Board | None = None) -> Image:
    """An RGB565 image of words (h, w)."""
    return Image(host or Board(), "rgb565", np.array(words, np.uint16))


def gray(values: Any, host: Board | None = None) -> Image:
    """A grayscale image of values (h, w)."""
    return Image(host or Board(), "grayscale", np.array(values, np.uint8))


def bits(values: Any, host: Board | None = None) -> Image:
    """A binary image of values (h, w)."""
    return Image(host or Board(), "binary", np.array(values, np.uint8))


def blank(width: int, height: int) -> Image:
    """A black grayscale image."""
    return gray(np.zeros((height, width)))


def shape(image: Image) -> list[str]:
    """What is not black, as text."""
    return ["".join(".#"[int(v != 0)] for v in row) for row in image._pixels]

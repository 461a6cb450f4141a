"""Conversions between formats and between the two memories. Source: MaixPy-v1 ``py_image.c``."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import Arguments, check, divide, get_int, positional, to_uint8
from openkpu.maixpy.image.core import BINARY, GRAYSCALE, NEVER_FILLED, RGB565, ImageCore
from openkpu.maixpy.image.pixels import planes_from_words, rainbow_table, words_from_rgb, words_of_gray

_GRAY_ONLY = "only support grayscale now\r\n"


class Convert(ImageCore):
    """What changes the format, or copies pixels to planes and back."""

    __slots__ = ()

    def to_bitmap(self, *args: Any, **kw: Any) -> Self:
        """Return the image in black and white (gray > 127); with ``copy=1`` in memory of its own."""
        self._need_mutable()
        copy = Arguments(args, kw).flag(0, "copy")
        bits = (self._gray() > 127).astype(np.uint8)
        if self._format != BINARY and not copy:
            check(self._w >= (4 if self._format == GRAYSCALE else 2), "Can't convert to bitmap in place!")
            return self._bits_in_place(bits, "to_bitmap")
        return self._converted(bits, BINARY, "to_bitmap") if copy else self._alias()

    def to_grayscale(self, *args: Any, **kw: Any) -> Self:
        """Convert the image itself to grayscale (its planes stay as they are); with ``copy=1`` return a new image."""
        self._need_mutable()
        copy = Arguments(args, kw).flag(0, "copy")
        if self._format == BINARY:
            check(self._w == 1 or copy, "Can't convert to grayscale in place!")
        gray = self._gray()
        if copy:
            return self._converted(gray, GRAYSCALE, "to_grayscale")
        if self._format != GRAYSCALE:
            if self._format == RGB565:
                self._pixels = self._pixels.reshape(-1).view(np.uint8)[: self._w * self._h].reshape(self._h, self._w)
            self._pixels[...] = gray
            self._format = GRAYSCALE
            self._wrote("to_grayscale")
        return self._alias()

    def to_rgb565(self, *args: Any, **kw: Any) -> Self:
        """Return the image in RGB565; a grayscale one needs ``copy=1``."""
        self._need_mutable()
        copy = Arguments(args, kw).flag(0, "copy")
        self._check_room(copy, "Can't convert to grayscale in place!", "Can't convert to rgb565 in place!")
        words = self._pixels if self._format == RGB565 else words_of_gray().take(self._gray())
        return self._coloured(words, copy, "to_rgb565")

    def to_rainbow(self, *args: Any, **kw: Any) -> Self:
        """Return the image in the colours of a thermal camera; a grayscale one needs ``copy=1``."""
        self._need_mutable()
        copy = Arguments(args, kw).flag(0, "copy")
        self._check_room(copy, "Can't convert to rainbow in place!", "Can't convert to rainbow in place!")
        return self._coloured(rainbow_table().take(self._gray()), copy, "to_rainbow")

    def _check_room(self, copy: bool, binary: str, gray: str) -> None:
        if self._format == BINARY:
            check(self._w == 1 or copy, binary)
        elif self._format == GRAYSCALE:
            check(copy, gray)

    def _coloured(self, words: NDArray[np.uint16], copy: bool, call: str) -> Self:
        if copy:
            return self._converted(words, RGB565, call)
        if self._format != RGB565:  # a binary image one pixel wide
            return self._alias(RGB565, words)
        if words is not self._pixels:
            self._pixels[...] = words
            self._wrote(call)
        return self._alias()

    def _converted(self, pixels: NDArray[Any], kind: str, call: str) -> Self:
        """Return a new image; the firmware allocates its planes, too, but does not fill them."""
        image = self._of_pixels(pixels, kind)
        image._blocks.append(self._allocate(self._w * self._h * 3, "planes of a converted image"))
        image._ai = np.zeros((3, self._h, self._w), np.uint8)
        image._history.note(f"{call}(copy=1){NEVER_FILLED}")
        return image

    def _bits_in_place(self, bits: NDArray[np.uint8], call: str) -> Self:
        """Write bits over the pixels: the image itself keeps its format and shows them as noise."""
        image = self._alias(BINARY, bits)
        raw = np.frombuffer(image._raw(), np.uint8)
        memory = self._pixels.reshape(-1).view(np.uint8)
        memory[: raw.size] = raw[: memory.size]
        self._wrote(call)
        return image

    # -- pixels and planes ------------------------------------------------------------------------------------------
    def pix_to_ai(self, *args: Any, **kw: Any) -> None:
        """Fill the planes, which the KPU reads, from the pixels; allocates them in the GC heap the first time."""
        positional(args, kw, 0)
        w, h = self._w, self._h
        if self._format == GRAYSCALE:
            if self._ai is None or self._unpaid:
                self._blocks.append(self._allocate(w * h, "plane"))
                self._ai = np.empty((h, w), np.uint8)
            plane = self._ai if self._ai.ndim == 2 else self._ai[0]
            plane[...] = self._pixels
        elif self._format == RGB565:
            if self._ai is None or self._ai.ndim != 3 or self._unpaid:
                self._blocks.append(self._allocate((w + 63) // 64 * 64 * h * 3, "planes"))
                self._ai = np.empty((3, h, w), np.uint8)
            planes_from_words(self._pixels, self._ai)
        else:
            self._host.print(_GRAY_ONLY)
            return
        self._unpaid = False
        self._history.calls.clear()

    def ai_to_pix(self, *args: Any, **kw: Any) -> None:
        """Fill the pixels from the planes, rounded to 5/6/5 bits; nothing happens without planes."""
        positional(args, kw, 0)
        if self._ai is None:
            return
        if self._format == GRAYSCALE:
            self._pixels[...] = self._ai if self._ai.ndim == 2 else self._ai[0]
        elif self._format == RGB565 and self._ai.ndim == 3:
            self._pixels[...] = words_from_rgb(*self._ai)
        else:
            self._host.print(_GRAY_ONLY)
            return
        self._history.calls.clear()

    # -- gray levels ------------------------------------------------------------------------------------------------
    def strech_char(self, *args: Any, **kw: Any) -> None:
        """Stretch the levels above the mean to 0..255 in a grayscale image; ``de_dark`` dims it towards the corners."""
        positional(args, kw, 1)
        dim = get_int(args[0])
        if self._format != GRAYSCALE:
            self._host.print(_GRAY_ONLY)
            return
        w, h, p = self._w, self._h, self._pixels
        gate = int(p.sum(dtype=np.int64)) // w // h
        top = int(p.max(initial=0))
        levels = np.array([min(max(divide((v - gate) * 255, top - gate), 0), 255) for v in range(256)], np.int32)
        stretched = levels.take(p)
        if dim:
            y, x = np.arange(h)[:, None] - h // 2, np.arange(w) - w // 2
            r2 = (x * x + y * y).astype(np.float32)
            fall = np.float32(32) * r2 * r2 / np.float32(w) / np.float32(w) / np.float32(h) / np.float32(h)
            stretched = np.trunc(stretched.astype(np.float32) / (np.float32(1) + fall)).astype(np.int32)
        p[...] = stretched
        self._wrote("strech_char")

    def stretch(self, *args: Any, **kw: Any) -> None:
        """Map the levels inside a grayscale image's border linearly to min..max, by a whole factor of at most 5."""
        positional(args, kw, 2)
        low, high = (get_int(v) for v in args)
        if self._format != GRAYSCALE:
            self._host.print(_GRAY_ONLY)
            return
        p = self._pixels
        first = p.reshape(-1)[self._w + 1 : self._w + 2]
        inner = np.concatenate([first, p[1:-1, 1:-1].reshape(-1)])
        if not inner.size or inner.max() == inner.min():
            return
        scale = min(divide(high - low, int(inner.max()) - int(inner.min())), 5)
        p[...] = to_uint8((p.astype(np.float32) - np.float32(inner.min())) * np.float32(scale) + np.float32(low))
        self._wrote("stretch")

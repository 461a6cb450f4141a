"""Size, format, single pixels, indexing, bytes and the printed form of an image. Source: MaixPy-v1 ``py_image.c``."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from openkpu.maixpy.image.arguments import Arguments, check, check_count, get_int, get_items, type_name
from openkpu.maixpy.image.core import BAYER, BINARY, GRAYSCALE, JPEG, RGB565, ImageCore, packed_size
from openkpu.maixpy.image.pixels import planes_table, rgb_of, word_of, words_of_gray

FORMATS = {BAYER: 1, RGB565: 2, GRAYSCALE: 4, JPEG: 5}
"""The numbers of ``sensor.BAYER``, ``RGB565``, ``GRAYSCALE`` and ``JPEG``; a binary image has none."""
_STEP = "only slices with step=1 (aka None) are supported"


class Access(ImageCore):
    """What reads and writes an image pixel by pixel."""

    __slots__ = ()
    __iter__ = None

    def __del__(self) -> None:
        """Give the pixels' memory back; scripts also call this by name."""
        self._blocks = []

    def __repr__(self) -> str:
        kind, size = self._format, self.size()
        if kind == BINARY:
            size //= 4
        elif kind == BAYER:  # the firmware takes the number of the format for the size of a file
            kind, size = JPEG, 3
        return f'{{"w":{self._w}, "h":{self._h}, "type"="{kind}", "size":{size}}}'

    def __bytes__(self) -> bytes:
        return self._raw()

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self._raw())

    def width(self) -> int:
        """Return the width in pixels."""
        return self._w

    def height(self) -> int:
        """Return the height in pixels."""
        return self._h

    def format(self) -> int | None:
        """Return the number of the pixel format, None for a binary image."""
        return FORMATS.get(self._format)

    def size(self) -> int:
        """Return the bytes of the packed pixels."""
        return self._pixels.size if self._format == JPEG else packed_size(self._w, self._h, self._format)

    def to_bytes(self, *_: Any, **__: Any) -> bytearray:
        """Return the packed memory (on the board it is the memory itself, here a copy).

        Of a binary image the firmware returns the first quarter only: it counts words where it means bytes.
        """
        raw = self._raw()
        return bytearray(raw[: len(raw) // 4] if self._format == BINARY else raw)

    def get_pixel(self, *args: Any, **kw: Any) -> int | tuple[int, int, int] | None:
        """Return the pixel at x, y: (r, g, b) for RGB565 unless ``rgbtuple=0``, None outside."""
        self._need_mutable(also_bayer=True)
        a = Arguments(args, kw, 1)
        (x, y), at = a.integers(0, 2)
        as_tuple = a.flag(at, "rgbtuple", self._format == RGB565)
        if not (0 <= x < self._w and 0 <= y < self._h):
            return None
        p = int(self._pixels[y, x])
        if not as_tuple:
            return p
        if self._format != RGB565:
            p = int(words_of_gray()[p * 255 if self._format == BINARY else p])
        return rgb_of(p)

    def set_pixel(self, *args: Any, **kw: Any) -> Self:
        """Set the pixel at x, y to a colour (default white); outside nothing happens."""
        self._need_mutable(also_bayer=True)
        a = Arguments(args, kw, 1)
        (x, y), at = a.integers(0, 2)
        color = self._color(a.get(at, "color")) if a.has(at, "color") else -1
        if 0 <= x < self._w and 0 <= y < self._h:
            self._pixels[y, x] = self._value(color)
            self._wrote("set_pixel")
        return self

    def __getitem__(self, index: Any) -> Any:
        flat = self._pixels.reshape(-1)
        if isinstance(index, slice):
            part = flat[self._slice(index, flat.size)]
            if self._format == RGB565:
                return tuple(map(tuple, planes_table()[:, part].T.tolist()))
            return tuple(part.tolist())
        p = int(flat[self._index(index, flat.size)])
        return rgb_of(p) if self._format == RGB565 else p

    def __setitem__(self, index: Any, value: Any) -> None:
        flat = self._pixels.reshape(-1)
        if isinstance(index, slice):
            where = self._slice(index, flat.size)
            if isinstance(value, list):
                check(len(value) == where.stop - where.start, "cannot grow or shrink image")
                flat[where] = np.array([self._element(v) for v in value], flat.dtype)
            else:
                flat[where] = self._element(value)
        else:
            flat[self._index(index, flat.size)] = self._element(value)
        self._wrote("image[...] =")

    def _element(self, value: object) -> int:
        """Turn an assigned element into a pixel value; unlike colours elsewhere RGB565 takes (r, g, b) only."""
        if self._format != RGB565:
            return self._value(get_int(value))
        r, g, b = (get_int(v) for v in get_items(value, 3))
        if not (0 <= r <= 255 and 0 <= g <= 255 and 0 <= b <= 255):
            self._unsure("image[i] = (r, g, b) outside 0..255 reads past a table on the board; here the values are cut")
        return word_of(*(min(max(v, 0), 255) for v in (r, g, b)))

    def _index(self, index: object, count: int) -> int:
        if not isinstance(index, int):
            raise TypeError(f"Image indices must be integers, not {type_name(index)}")
        at = index + count if index < 0 else index
        if not 0 <= at < count:
            raise IndexError("Image index out of range")
        return at

    def _slice(self, index: slice, count: int) -> slice:
        check(index.step is None or index.step == 1, _STEP)
        start, stop, _ = index.indices(count)
        return slice(start, max(start, stop))

    def dump_roi(self, *args: Any, **kw: Any) -> None:
        """Print the bytes of the pixels of a region x, y, w, h in hexadecimal."""
        self._need_mutable()
        check_count(len(args) + 1, 2)
        (x0, y0, w, h), _ = Arguments(args, kw, 1).integers(0, 4)
        raw = self._raw()
        for y in range(y0, y0 + h):
            line = ""
            for x in range(x0, x0 + w):
                at = 2 * self._w * y + 2 * x
                pair = raw[at : at + 2] if 0 <= at <= len(raw) - 2 else b"\0\0"
                line += f"0x{pair[0]:02x} 0x{pair[1]:02x}; " + ("\n" if (x - x0) % 8 == 7 else "")
            self._host.print(line + "\n")
        self._host.print("\n")

"""The two memories of an image, who pays for them, and whether they still show the same picture.

Packed pixels are what scripts draw on and the display shows; the planes (``pix_ai``, uint8 R, G, B) are all that the
KPU reads. Only a few calls write the planes, so the image remembers which calls changed its pixels since.
Source: MaixPy-v1 ``imdefs.h``, ``py_image.c``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import check, get_items, type_name
from openkpu.maixpy.image.arguments import get_int as to_int
from openkpu.maixpy.image.host import MEMORY_TEXT, Block, Host, warn_once
from openkpu.maixpy.image.pixels import Bytes, gray_table, planes_from_words, planes_table, word_of, words_from_rgb

BINARY, GRAYSCALE, RGB565, BAYER, JPEG = "binary", "grayscale", "rgb565", "bayer", "jpeg"
MUTABLE: Final = frozenset((BINARY, GRAYSCALE, RGB565))
NEVER_FILLED: Final = " (the new image's planes were never filled)"


class History:
    """The calls that changed the pixels since pixels and planes last showed the same."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls: list[str] = []

    def note(self, call: str) -> None:
        """Remember that a call wrote pixels."""
        if call not in self.calls:
            self.calls.append(call)


def packed_size(width: int, height: int, kind: str) -> int:
    """Return the bytes of the packed pixels; a binary image has rows of whole 32-bit words."""
    if kind == BINARY:
        return (width + 31) // 32 * 4 * height
    return width * height * (2 if kind == RGB565 else 1)


class ImageCore:
    """The state of an image. The arrays are shared where the firmware shares memory.

    ``_pixels``: uint16 words (h, w) for rgb565, uint8 (h, w) for grayscale and bayer, uint8 0 or 1 (h, w) for binary,
    the bytes of the file (n,) for jpeg. ``_ai``: uint8 (3, h, w), or (h, w) when only one plane was ever made (then
    of a camera's grayscale frame it is the very array of the pixels), or None.
    """

    __slots__ = ("__weakref__", "_ai", "_blocks", "_format", "_h", "_history", "_host", "_pixels", "_unpaid", "_w")

    _host: Host
    _w: int
    _h: int
    _pixels: NDArray[Any]
    _ai: Bytes | None

    def __init__(
        self,
        host: Host,
        kind: str,
        pixels: NDArray[Any],
        *,
        size: tuple[int, int] | None = None,
        ai: Bytes | None = None,
        blocks: Iterable[Block] = (),
        history: History | None = None,
    ) -> None:
        self._host = host
        self._format = kind
        self._w, self._h = size or (pixels.shape[1], pixels.shape[0])
        self._pixels = pixels
        self._ai = ai
        self._unpaid = False  # planes of a copy, which the firmware neither allocates nor clears
        self._blocks = list(blocks)
        self._history = history or History()

    # -- made by the board ------------------------------------------------------------------------------------------
    @classmethod
    def from_rgb888(cls, host: Host, rgb: Bytes) -> Self:
        """Make a camera frame from uint8 (h, w, 3): the planes keep 8 bits, the packed pixels are rounded to 5/6/5."""
        height, width = rgb.shape[:2]
        image = cls(host, RGB565, np.empty((height, width), np.uint16), ai=np.empty((3, height, width), np.uint8))
        image.load_rgb888(rgb)
        return image

    @classmethod
    def from_gray(cls, host: Host, gray: Bytes) -> Self:
        """Make a grayscale camera frame from uint8 (h, w); pixels and plane are the same memory, as on the board."""
        memory = np.ascontiguousarray(gray, np.uint8).copy()
        return cls(host, GRAYSCALE, memory, ai=memory)

    @classmethod
    def fmap_view(cls, host: Host, array: Bytes) -> Self:
        """Make a grayscale image of one channel of a feature map, uint8 (h, w), without copying it."""
        return cls(host, GRAYSCALE, array)

    def load_rgb888(self, rgb: Bytes) -> None:
        """Fill both memories of a camera frame with the next picture of the same size, uint8 (h, w, 3)."""
        if self._ai is None or self._ai.shape != (3, *rgb.shape[:2]) or self._format != RGB565:
            raise ValueError("only an RGB565 image with planes of the picture's size can be filled")
        self._ai[...] = rgb.transpose(2, 0, 1)
        self._pixels[...] = words_from_rgb(*self._ai)
        self._history.calls.clear()

    # -- read by the board ------------------------------------------------------------------------------------------
    def to_rgb888(self) -> Bytes:
        """Return what a display shows of the packed pixels, uint8 (h, w, 3)."""
        if self._format == RGB565:
            planes = np.empty((3, self._h, self._w), np.uint8)
            planes_from_words(self._pixels, planes)
            return np.ascontiguousarray(planes.transpose(1, 2, 0))
        if self._format not in (BINARY, GRAYSCALE, BAYER):
            raise ValueError("a JPEG image has no pixels")
        gray = self._pixels * np.uint8(255) if self._format == BINARY else self._pixels
        return np.repeat(gray[:, :, None], 3, axis=2)

    def ai_planes(self, channels: int) -> Bytes | None:
        """Return the first planes that the KPU reads, uint8 (channels, h, w); None when there are not so many."""
        if self._ai is None:
            return None
        planes = self._ai if self._ai.ndim == 3 else self._ai[None]
        return planes[:channels] if planes.shape[0] >= channels else None

    def ai_is_stale(self) -> str:
        """Name the calls after which the planes no longer show the pixels, or return an empty string."""
        if self._ai is None or self._ai is self._pixels:
            return ""
        return ", ".join(self._history.calls)

    # -- for the methods --------------------------------------------------------------------------------------------
    def _wrote(self, call: str) -> Self:
        """Remember that a call changed the pixels; returns the image, as most methods do."""
        self._history.note(call + "()")
        return self

    def _need_mutable(self, also_bayer: bool = False) -> None:
        check(self._format in MUTABLE or (also_bayer and self._format == BAYER), "Image format is not supported!")

    def _allocate(self, count: int, what: str) -> Block:
        if count <= 0:  # the firmware's heap has no empty blocks
            raise MemoryError(MEMORY_TEXT)
        return Block(self._host, count, what)

    def _new(self, width: int, height: int, kind: str | None = None) -> Self:
        """Make a zeroed image in the GC heap, without planes; an impossible size raises as the heap does."""
        kind = kind or self._format
        block = self._allocate(packed_size(width, height, kind), f"image {width}x{height} {kind}")
        dtype = np.uint16 if kind == RGB565 else np.uint8
        return type(self)(self._host, kind, np.zeros((height, width), dtype), blocks=[block])

    def _of_pixels(self, pixels: NDArray[Any], kind: str | None = None) -> Self:
        """Make an image in the GC heap that holds these pixels, without planes."""
        image = self._new(pixels.shape[1], pixels.shape[0], kind)
        image._pixels[...] = pixels
        return image

    def _alias(self, kind: str | None = None, pixels: NDArray[Any] | None = None) -> Self:
        """Make a second image object over the same memories, as conversions in place return."""
        return type(self)(
            self._host,
            kind or self._format,
            self._pixels if pixels is None else pixels,
            size=(self._w, self._h),
            ai=self._ai,
            blocks=self._blocks,
            history=self._history,
        )

    def _shrink(self, width: int, height: int, pixels: NDArray[Any]) -> None:
        """Give the image a new shape in the memory that it has; the planes' memory is read with the new shape too."""
        same = self._ai is self._pixels
        self._pixels = _reshape(self._pixels, (height, width))
        self._pixels[...] = pixels
        if same:
            self._ai = self._pixels
        elif self._ai is not None:
            self._ai = _reshape(self._ai, (*self._ai.shape[:-2], height, width))
        self._w, self._h = width, height

    def _value(self, color: int) -> int:
        """Cut a colour to what one pixel holds."""
        return color & {BINARY: 1, RGB565: 0xFFFF}.get(self._format, 0xFF)

    def _to_gray(self, word: int) -> int:
        return int(gray_table(self._host.full_firmware)[word & 0xFFFF])

    def _color(self, value: object) -> int:
        """Turn a colour argument into a pixel value: an integer as it is, (r, g, b) converted to the image's format."""
        if isinstance(value, int):
            return to_int(value)
        r, g, b = (min(max(to_int(v), 0), 255) for v in get_items(value, 3))
        word = word_of(r, g, b)
        if self._format == BINARY:
            return int(self._to_gray(word) > 127)
        return self._to_gray(word) if self._format == GRAYSCALE else word

    def _gray(self) -> Bytes:
        """Return the pixels in grayscale, uint8 (h, w); for a grayscale image its own memory."""
        if self._format == RGB565:
            return gray_table(self._host.full_firmware).take(self._pixels)
        return self._pixels * np.uint8(255) if self._format == BINARY else self._pixels

    def _mask_at(self, width: int, height: int) -> NDArray[np.bool_]:
        """Read the image as a mask of the given size, bool (h, w); outside the image it is False."""
        mask = np.zeros((height, width), np.bool_)
        part = self._gray()[:height, :width] > 127
        mask[: part.shape[0], : part.shape[1]] = part
        return mask

    def _raw(self) -> bytes:
        """Return the packed memory as it lies on the chip."""
        if self._format == BINARY:
            padded = np.zeros((self._h, (self._w + 31) // 32 * 32), np.uint8)
            padded[:, : self._w] = self._pixels
            return np.packbits(padded, axis=1, bitorder="little").tobytes()
        little = self._pixels.astype("<u2", copy=False) if self._format == RGB565 else self._pixels
        return little.tobytes()

    def _unsure(self, text: str) -> None:
        """Tell once where the board would do something undefined."""
        warn_once(self._host, text)


def get_image(value: object) -> ImageCore:
    """Return an image argument that can be drawn on or read; the firmware's errors otherwise."""
    if not isinstance(value, ImageCore):
        raise TypeError(f"Can't convert {type_name(value)} to Image")
    value._need_mutable()
    return value


def rgb_table() -> Bytes:
    """Return R8, G8, B8 of every word as rows, uint8 (65536, 3)."""
    return planes_table().T


def _reshape(memory: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Read the start of a memory with another, smaller shape."""
    return memory.reshape(-1)[: int(np.prod(shape))].reshape(shape)

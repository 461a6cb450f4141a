"""Copies of an image and of its parts: copy, crop, cut, resize and the poolings. Source: MaixPy-v1 ``py_image.c``."""

from __future__ import annotations

from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import Arguments, check, get_int, positional
from openkpu.maixpy.image.core import BINARY, GRAYSCALE, NEVER_FILLED, RGB565, ImageCore, get_image, packed_size
from openkpu.maixpy.image.pixels import fields, pack
from openkpu.maixpy.image.resize import resize_gray, resize_words

_Copy = TypeVar("_Copy", bound=ImageCore)
_FRAME_BUFFER = 640 * 480 * 2
"""Bytes of the largest frame buffer that a board can hold beside the rest (VGA)."""
_POOL_BINARY = "openkpu board: pooling of a binary image is not simulated (the firmware reads it as RGB565)"


class Copying(ImageCore):
    """What makes an image of another size."""

    __slots__ = ()

    def copy(self, *args: Any, **kw: Any) -> Self:
        """Copy a region, scaled by the nearest pixel: ``copy(roi, x_scale, y_scale, copy_to_fb)``.

        The planes of the copy are undefined; ``pix_to_ai()`` fills them.
        """
        return self._copy(Arguments(args, kw), in_place=False)

    def crop(self, *args: Any, **kw: Any) -> Self:
        """Cut the image itself down to a region: ``crop(roi, x_scale, y_scale, copy)``; with ``copy=1`` a new image."""
        return self._copy(Arguments(args, kw), in_place=True)

    def _copy(self, a: Arguments, in_place: bool) -> Self:
        self._need_mutable()
        x, y, w, h = a.roi(0, self._w, self._h)
        scales = []
        for position, name in ((1, "x_scale"), (2, "y_scale")):
            scales.append(np.float32(a.number(position, name, 1.0)))
            check(bool(scales[-1] >= 0), f"Error: 0.0 <= {name}!")
        other: ImageCore | None = self if in_place else None
        to_frame_buffer = False
        name = "copy" if in_place else "copy_to_fb"
        if a.has(3, name):
            target = a.get(3, name)
            if not isinstance(target, int):
                other = get_image(target)
            elif in_place and target:
                other = None
            else:
                to_frame_buffer = bool(target) and not in_place
        width, height = (int(np.float32(n) * s) for n, s in ((w, scales[0]), (h, scales[1])))
        check(width >= 1, "Output image width is 0!")
        check(height >= 1, "Output image height is 0!")
        room = packed_size(width, height, self._format)
        if to_frame_buffer:
            check(room <= _FRAME_BUFFER, "The new image won't fit in the main frame buffer!")
        if other is not None:
            limit = packed_size(other._w, other._h, other._format)
            check(room <= limit, "The new image won't fit in the target frame buffer!")
        image = None if other is not None or to_frame_buffer else self._new(width, height)
        columns, rows = (
            (np.arange(n, dtype=np.float32) * (np.float32(1) / s)).astype(np.int64) + first
            for n, s, first in ((width, scales[0], x), (height, scales[1], y))
        )
        pixels = self._pixels[np.minimum(rows, self._h - 1)[:, None], np.minimum(columns, self._w - 1)[None, :]]
        if other is None:
            image = image or type(self)(self._host, self._format, np.zeros((height, width), pixels.dtype))
            image._pixels[...] = pixels
            return _without_planes(image, "crop()" if in_place else "copy()")
        _replace(other, self._format, pixels)
        other._wrote("crop" if in_place else "copy")
        return type(self)(
            self._host, self._format, other._pixels, ai=other._ai, blocks=other._blocks, history=other._history
        )

    def cut(self, *args: Any, **kw: Any) -> Self | None:
        """Copy the rectangle x, y, w, h; what lies right of or below the image stays empty."""
        positional(args, kw, 3, 4)
        x, y, w, h = (get_int(v) for v in (*args, None)[:4])
        if self._format not in (GRAYSCALE, RGB565):
            self._host.print("pixel format not support!\r\n")
            return None
        image = self._new(w, h)
        right, bottom = min(x + w, self._w), min(y + h, self._h)
        if right - x < w or bottom - y < h or x < 0 or y < 0:
            self._unsure("cut() outside the image: the board leaves or copies undefined memory there; here it is zero")
        if right > x and bottom > y:
            # Rows lie one behind another, so what is left of a row is the end of the row above.
            at = np.arange(y, bottom)[:, None] * self._w + np.arange(x, right)
            image._pixels[: bottom - y, : right - x] = np.where(at < 0, 0, self._pixels.reshape(-1)[np.maximum(at, 0)])
        return image

    def resize(self, *args: Any, **kw: Any) -> Self | None:
        """Return the image scaled to w, h, without planes."""
        positional(args, kw, 2)
        w, h = (get_int(v) for v in args)
        if self._format not in (GRAYSCALE, RGB565):
            self._host.print("only support grayscale, 565 zoom out now\r\n")
            return None
        image = self._new(w, h)
        if self._format == RGB565:
            image._pixels[...] = resize_words(self._pixels, w, h)
        else:
            image._pixels[...], behind = resize_gray(self._pixels, w, h)
            if behind:
                self._unsure("resize() to a smaller grayscale image reads behind the source; here it finds zeros there")
        return image

    def mean_pool(self, *args: Any, **kw: Any) -> Self:
        """Shrink the image itself to the means of blocks of x_div by y_div pixels."""
        positional(args, kw, 2)
        pooled = self._mean_blocks(*self._divisors(args))
        self._shrink(pooled.shape[1], pooled.shape[0], pooled)
        return self._wrote("mean_pool")

    def mean_pooled(self, *args: Any, **kw: Any) -> Self:
        """Return a new image of the means of blocks of x_div by y_div pixels."""
        positional(args, kw, 2)
        return _without_planes(self._of_pixels(self._mean_blocks(*self._divisors(args))), "mean_pooled()")

    def midpoint_pool(self, *args: Any, **kw: Any) -> Self:
        """Shrink the image itself: each block becomes min * (1 - bias) + max * bias."""
        pooled = self._midpoint_blocks(Arguments(args, kw, 2))
        self._shrink(pooled.shape[1], pooled.shape[0], pooled)
        return self._wrote("midpoint_pool")

    def midpoint_pooled(self, *args: Any, **kw: Any) -> Self:
        """Return a new image whose pixels are min * (1 - bias) + max * bias of each block."""
        return _without_planes(self._of_pixels(self._midpoint_blocks(Arguments(args, kw, 2))), "midpoint_pooled()")

    def _divisors(self, args: tuple[Any, ...]) -> tuple[int, int]:
        self._need_mutable()
        x_div = get_int(args[0])
        check(x_div >= 1, "Width divisor must be greater than >= 1")
        check(x_div <= self._w, "Width divisor must be less than <= img width")
        y_div = get_int(args[1])
        check(y_div >= 1, "Height divisor must be greater than >= 1")
        check(y_div <= self._h, "Height divisor must be less than <= img height")
        if self._format == BINARY:
            raise RuntimeError(_POOL_BINARY)
        return x_div, y_div

    def _blocks_of(self, x_div: int, y_div: int) -> list[NDArray[np.int32]]:
        """Return each channel as blocks (oh, y_div, ow, x_div)."""
        oh, ow = self._h // y_div, self._w // x_div
        used = self._pixels[: oh * y_div, : ow * x_div]
        channels = fields(used) if self._format == RGB565 else (used.astype(np.int32),)
        return [c.reshape(oh, y_div, ow, x_div) for c in channels]

    def _joined(self, channels: list[NDArray[np.int32]]) -> NDArray[Any]:
        return (pack(*channels) if self._format == RGB565 else channels[0]).astype(self._pixels.dtype)

    def _mean_blocks(self, x_div: int, y_div: int) -> NDArray[Any]:
        return self._joined([c.sum(axis=(1, 3)) // (x_div * y_div) for c in self._blocks_of(x_div, y_div)])

    def _midpoint_blocks(self, a: Arguments) -> NDArray[Any]:
        blocks = self._blocks_of(*self._divisors(a.values))
        bias = int(np.clip(np.float32(a.number(2, "bias", 0.5)) * np.float32(256), 0, 256))
        return self._joined([c.min(axis=(1, 3)) * (256 - bias) + c.max(axis=(1, 3)) * bias >> 8 for c in blocks])


def _without_planes(image: _Copy, call: str) -> _Copy:
    """Give a copy the planes that the firmware forgets to set: here empty ones that count as stale."""
    image._ai = np.zeros((3, image._h, image._w), np.uint8)
    image._unpaid = True
    image._history.note(call + NEVER_FILLED)
    return image


def _replace(image: ImageCore, kind: str, pixels: NDArray[Any]) -> None:
    """Put other pixels into an image's memory."""
    if image._format == kind:
        image._shrink(pixels.shape[1], pixels.shape[0], pixels)
        return
    image._pixels, image._format, (image._h, image._w) = pixels, kind, pixels.shape
    if image._ai is not None:
        planes = image._ai.reshape(-1)
        count = planes.size // pixels.size
        image._ai = planes[: count * pixels.size].reshape(count, *pixels.shape) if count else None

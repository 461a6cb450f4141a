"""What the arithmetic, binary and filter methods share: channels, the second operand, masks, windows.

Source: OpenMV's ``imlib.c`` (``imlib_image_operation``) and ``py_helper.c`` in MaixPy-v1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import Arguments, check, get_int, get_items
from openkpu.maixpy.image.bmp import read_bmp
from openkpu.maixpy.image.core import BINARY, GRAYSCALE, RGB565, ImageCore, get_image
from openkpu.maixpy.image.pixels import fields, lab_table, pack, yuv_table

Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]
MAXIMA: Final = {BINARY: (1,), GRAYSCALE: (255,), RGB565: (31, 63, 31)}
"""The largest value of each channel of a format."""
_BLOCK: Final = 1 << 22
"""Neighbours that are held in memory at once."""
Threshold = tuple[int, int, int, int, int, int]
"""L (or gray) from, to, A from, to, B from, to; ends included."""


class Operands(ImageCore):
    """Helpers of the methods that compute with whole images."""

    __slots__ = ()

    def _split(self, pixels: NDArray[Any]) -> list[Ints]:
        """Return the channels of pixels in this image's format."""
        return list(fields(pixels)) if self._format == RGB565 else [pixels.astype(np.int32)]

    def _join(self, channels: Sequence[Ints]) -> NDArray[Any]:
        """Put channels back together; too large ones spill over as on the board."""
        return (pack(*channels) if self._format == RGB565 else channels[0]).astype(self._pixels.dtype)

    def _operand(self, value: object) -> NDArray[Any]:
        """Return the pixels of the second operand: an image, a BMP file, or a colour (shape () then)."""
        if isinstance(value, str | bytes):
            path = value if isinstance(value, str) else value.decode()
            kind, pixels = read_bmp(self._host.open(path))
            check((kind, pixels.shape) == (self._format, self._pixels.shape), "Images not equal!")
            return pixels
        if isinstance(value, ImageCore):
            other = get_image(value)
            check((other._format, other._w, other._h) == (self._format, self._w, self._h), "Images not equal!")
            return other._pixels
        return np.array(self._value(self._color(value)), self._pixels.dtype)

    def _mask(self, a: Arguments, position: int) -> Mask | None:
        """Return the ``mask`` argument in this image's size."""
        return get_image(a.get(position, "mask"))._mask_at(self._w, self._h) if a.has(position, "mask") else None

    def _put(self, pixels: NDArray[Any], mask: Mask | None, call: str) -> Self:
        """Store a result where the mask is set."""
        if mask is None:
            self._pixels[...] = pixels
        else:
            np.copyto(self._pixels, pixels, where=mask)
        return self._wrote(call)

    def _luma(self, pixels: NDArray[Any]) -> Ints:
        """Return what adaptive thresholds compare: Y - 128 of RGB565, else the value."""
        if self._format == RGB565:
            return yuv_table(self._host.full_firmware)[:, 0].take(pixels).astype(np.int32)
        return pixels.astype(np.int32)

    def _within(self, threshold: Threshold, invert: bool, pixels: NDArray[Any] | None = None) -> Mask:
        """Say which pixels lie within a threshold, or outside it."""
        pixels = self._pixels if pixels is None else pixels
        if self._format == RGB565:
            lab = lab_table(self._host.full_firmware)
            inside = np.ones(65536, np.bool_)
            for channel in range(3):
                low, high = threshold[2 * channel : 2 * channel + 2]
                inside &= (lab[:, channel] >= low) & (lab[:, channel] <= high)
            hit: Mask = inside.take(pixels)
        else:
            hit = (pixels >= threshold[0]) & (pixels <= threshold[1])
        return ~hit if invert else hit


def get_thresholds(value: object) -> list[Threshold]:
    """Read a list of thresholds; missing ends are open, reversed ones are put in order, empty ones left out."""
    result: list[Threshold] = []
    for item in get_items(value):
        numbers = [get_int(v) for v in get_items(item)]
        if numbers:
            limits = ((0, 255), (-128, 127), (-128, 127))
            ends: list[int] = []
            for channel, (low, high) in enumerate(limits):
                pair = [
                    min(max(numbers[at], low), high) if len(numbers) > at else default
                    for at, default in ((2 * channel, low), (2 * channel + 1, high))
                ]
                ends += sorted(pair)
            result.append((ends[0], ends[1], ends[2], ends[3], ends[4], ends[5]))
    return result


def get_ksize(value: object) -> int:
    """Read the half size of a kernel."""
    size = get_int(value)
    check(size >= 0, "KernelSize must be >= 0!")
    return size


def by_rows(channel: Ints, ksize: int, rule: Callable[[list[Ints]], Ints]) -> Ints:
    """Compute from all neighbours of every pixel, as many rows at once as memory allows.

    ``rule`` gets the neighbours of some rows, each (rows, w), and returns (rows, w).
    """
    h, w = channel.shape
    step = max(1, _BLOCK // ((2 * ksize + 1) ** 2 * w))
    padded = np.pad(channel, ksize, mode="edge")
    parts = []
    for first in range(0, h, step):
        block = padded[first : first + step + 2 * ksize]
        rows = min(step, h - first)
        spans = [(y, x) for y in range(2 * ksize + 1) for x in range(2 * ksize + 1)]
        parts.append(rule([block[y : y + rows, x : x + w] for y, x in spans]))
    return np.concatenate(parts)


def window_sum(channel: Ints, ksize: int) -> Ints:
    """Return the sum of every pixel's neighbourhood, itself included."""
    h, w = channel.shape
    size = 2 * ksize + 1
    sums = np.pad(np.pad(channel, ksize, mode="edge").cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    total = sums[size:, size:] - sums[:h, size:] - sums[size:, :w] + sums[:h, :w]
    result: Ints = total.astype(np.int32)
    return result

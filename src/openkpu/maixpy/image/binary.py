"""Thresholds, bit operations and morphology. Source: OpenMV's ``binary.c`` in MaixPy-v1."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import Arguments, check, positional
from openkpu.maixpy.image.convert import Convert
from openkpu.maixpy.image.core import BINARY, GRAYSCALE, RGB565, get_image
from openkpu.maixpy.image.operands import Mask, Operands, get_ksize, get_thresholds, window_sum

_ON = {BINARY: 1, GRAYSCALE: 255, RGB565: 0xFFFF}


class Binary(Operands, Convert):
    """binary, invert, the b_ operations, erode, dilate, open, close, top_hat, black_hat."""

    __slots__ = ()

    def binary(self, *args: Any, **kw: Any) -> Self:
        """Make pixels within thresholds white, others black: ``binary(list, invert, zero, mask, to_bitmap, copy)``.

        With ``zero`` the pixels within thresholds become black and the others stay.
        """
        a = Arguments(args, kw, 1)
        self._need_mutable()
        thresholds = get_thresholds(a.values[0])
        invert, zero = a.flag(1, "invert"), a.flag(2, "zero")
        mask = self._mask(a, 3)
        to_bitmap, copy = a.flag(4, "to_bitmap"), a.flag(5, "copy")
        if to_bitmap and not copy and self._format != BINARY:
            check(self._w >= (4 if self._format == GRAYSCALE else 2), "Can't convert to bitmap in place!")
        hit = np.zeros(self._pixels.shape, np.bool_)
        for threshold in thresholds:
            hit |= self._within(threshold, invert)
        kind = BINARY if to_bitmap else self._format
        old = (self._gray() > 127).astype(np.uint8) if to_bitmap else self._pixels
        inside = hit if mask is None else hit & mask
        if zero:
            pixels = np.where(inside, 0, old)
        else:
            pixels = np.where(hit, _ON[kind], 0)
            if mask is not None:
                pixels = np.where(mask, pixels, old)
        return self._result(pixels.astype(old.dtype), kind, copy)

    def _result(self, pixels: NDArray[Any], kind: str, copy: bool) -> Self:
        if copy:
            return self._converted(pixels, kind, "binary")
        if kind != self._format:
            return self._bits_in_place(pixels, "binary")
        self._put(pixels, None, "binary")
        return self._alias()

    def invert(self, *args: Any, **kw: Any) -> Self:
        """Flip every bit."""
        positional(args, kw, 0)
        self._need_mutable()
        flipped = 1 - self._pixels if self._format == BINARY else ~self._pixels
        return self._put(flipped, None, "invert")

    def b_and(self, *args: Any, **kw: Any) -> Self:
        """Check the arguments and do nothing: the firmware's bit operations are commented out."""
        return self._no_operation(args, kw, "b_and")

    def b_nand(self, *args: Any, **kw: Any) -> Self:
        """Do nothing, see ``b_and``."""
        return self._no_operation(args, kw, "b_nand")

    def b_or(self, *args: Any, **kw: Any) -> Self:
        """Do nothing, see ``b_and``."""
        return self._no_operation(args, kw, "b_or")

    def b_nor(self, *args: Any, **kw: Any) -> Self:
        """Do nothing, see ``b_and``."""
        return self._no_operation(args, kw, "b_nor")

    def b_xor(self, *args: Any, **kw: Any) -> Self:
        """Do nothing, see ``b_and``."""
        return self._no_operation(args, kw, "b_xor")

    def b_xnor(self, *args: Any, **kw: Any) -> Self:
        """Do nothing, see ``b_and``."""
        return self._no_operation(args, kw, "b_xnor")

    nand, nor, xor, xnor = b_nand, b_nor, b_xor, b_xnor

    def _no_operation(self, args: tuple[Any, ...], kw: dict[str, Any], name: str) -> Self:
        a = Arguments(args, kw, 1)
        self._need_mutable()
        self._mask(a, 1)
        if not isinstance(a.values[0], str):
            get_image(a.values[0]) if isinstance(a.values[0], Operands) else self._color(a.values[0])
        self._unsure(f"{name}() changes nothing: bit operations between images are switched off in MaixPy's firmware")
        return self

    # -- morphology -------------------------------------------------------------------------------------------------
    def erode(self, *args: Any, **kw: Any) -> Self:
        """Clear white pixels with less than ``threshold`` white neighbours: ``erode(ksize, threshold, mask)``."""
        a, ksize = self._kernel(args, kw)
        return self._erode(ksize, a.integer(1, "threshold", _around(ksize)), self._mask(a, 2))._wrote("erode")

    def dilate(self, *args: Any, **kw: Any) -> Self:
        """Set black pixels with more than ``threshold`` white neighbours: ``dilate(ksize, threshold=0, mask)``."""
        a, ksize = self._kernel(args, kw)
        return self._dilate(ksize, a.integer(1, "threshold", 0), self._mask(a, 2))._wrote("dilate")

    def open(self, *args: Any, **kw: Any) -> Self:
        """Erode, then dilate: ``open(ksize, threshold=0, mask)``."""
        self._open(*self._morphology(args, kw))
        return self._wrote("open")

    def close(self, *args: Any, **kw: Any) -> Self:
        """Dilate, then erode: ``close(ksize, threshold=0, mask)``."""
        self._close(*self._morphology(args, kw))
        return self._wrote("close")

    def top_hat(self, *args: Any, **kw: Any) -> Self:
        """Keep what ``open`` removes: ``top_hat(ksize, threshold=0, mask)``."""
        return self._hat(self._open, self._morphology(args, kw), "top_hat")

    def black_hat(self, *args: Any, **kw: Any) -> Self:
        """Keep what ``close`` adds: ``black_hat(ksize, threshold=0, mask)``."""
        return self._hat(self._close, self._morphology(args, kw), "black_hat")

    def _kernel(self, args: tuple[Any, ...], kw: dict[str, Any]) -> tuple[Arguments, int]:
        a = Arguments(args, kw, 1)
        ksize = get_ksize(a.values[0])
        self._need_mutable()
        return a, ksize

    def _morphology(self, args: tuple[Any, ...], kw: dict[str, Any]) -> tuple[int, int, Mask | None]:
        a, ksize = self._kernel(args, kw)
        return ksize, a.integer(1, "threshold", 0), self._mask(a, 2)

    def _open(self, ksize: int, threshold: int, mask: Mask | None) -> None:
        self._erode(ksize, _around(ksize) - threshold, mask)._dilate(ksize, threshold, mask)

    def _close(self, ksize: int, threshold: int, mask: Mask | None) -> None:
        self._dilate(ksize, threshold, mask)._erode(ksize, _around(ksize) - threshold, mask)

    def _hat(self, change: Any, arguments: tuple[int, int, Mask | None], call: str) -> Self:
        before = self._pixels.copy()
        change(*arguments)
        pairs = zip(self._split(before), self._split(self._pixels), strict=True)
        difference = self._join([np.abs(x - y) for x, y in pairs])
        self._pixels[...] = before
        return self._put(difference, arguments[2], call)

    def _erode(self, ksize: int, threshold: int, mask: Mask | None) -> Self:
        white = self._gray() > 127
        neighbours = window_sum(white.astype(np.int32), ksize) - 1
        return self._paint(white & (neighbours < threshold), 0, mask)

    def _dilate(self, ksize: int, threshold: int, mask: Mask | None) -> Self:
        white = self._gray() > 127
        return self._paint(~white & (window_sum(white.astype(np.int32), ksize) > threshold), _ON[self._format], mask)

    def _paint(self, where: Mask, value: int, mask: Mask | None) -> Self:
        self._pixels[where if mask is None else where & mask] = value
        return self


def _around(ksize: int) -> int:
    return (2 * ksize + 1) ** 2 - 1


for _name, _method in (("and", Binary.b_and), ("or", Binary.b_or)):  # names that Python's grammar keeps for itself
    setattr(Binary, _name, _method)

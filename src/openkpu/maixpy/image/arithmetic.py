"""Arithmetic between images, channel by channel in 5/6/5 or 8 bits. Source: OpenMV's ``mathop.c`` in MaixPy-v1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from openkpu.maixpy.image.arguments import Arguments, check, positional
from openkpu.maixpy.image.core import BINARY
from openkpu.maixpy.image.fast_math import fast_pow, fma
from openkpu.maixpy.image.operands import MAXIMA, Ints, Operands

_f = np.float32
Rule = Callable[[Ints, Ints, int], Ints]
"""(own channel, other channel, largest value) -> new channel."""


class Arithmetic(Operands):
    """add, sub, mul, div, min, max, difference, blend, negate, replace, gamma_corr."""

    __slots__ = ()

    def _combine(self, a: Arguments, mask_at: int, call: str, rule: Rule) -> Self:
        mask = self._mask(a, mask_at)
        other = self._split(self._operand(a.values[0]))
        own = self._split(self._pixels)
        result = [rule(x, y, top) for x, y, top in zip(own, other, MAXIMA[self._format], strict=True)]
        return self._put(self._join(result), mask, call)

    def _begin(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Arguments:
        a = Arguments(args, kw, 1)
        self._need_mutable()
        return a

    def add(self, *args: Any, **kw: Any) -> Self:
        """Add an image, BMP file or colour, up to the largest value: ``add(other, mask)``."""
        return self._combine(self._begin(args, kw), 1, "add", lambda x, y, top: np.minimum(x + y, top))

    def sub(self, *args: Any, **kw: Any) -> Self:
        """Subtract, down to 0: ``sub(other, reverse=False, mask)``."""
        a = self._begin(args, kw)
        sign = -1 if a.flag(1, "reverse") else 1
        return self._combine(a, 2, "sub", lambda x, y, top: np.maximum(sign * (x - y), 0))

    def mul(self, *args: Any, **kw: Any) -> Self:
        """Multiply as fractions of the largest value: ``mul(other, invert=False, mask)``."""
        a = self._begin(args, kw)
        invert = a.flag(1, "invert")

        def rule(x: Ints, y: Ints, top: int) -> Ints:
            share = _f(1) / _f(top)
            if not invert:
                return ((x * y).astype(_f) * share).astype(np.int32)
            product = (_f(top) - x.astype(_f)) * (_f(top) - y.astype(_f))
            inverted: Ints = fma(-product, share, _f(top)).astype(np.int32)
            return inverted

        return self._combine(a, 2, "mul", rule)

    def div(self, *args: Any, **kw: Any) -> Self:
        """Divide, as fractions of the largest value; a division by 0 gives 0: ``div(other, invert=0, mod=0, mask)``."""
        a = self._begin(args, kw)
        invert, mod = a.flag(1, "invert"), a.flag(2, "mod")

        def rule(x: Ints, y: Ints, top: int) -> Ints:
            upper, lower = (y, x) if invert else (x, y)
            safe = np.maximum(lower, 1)
            result = upper * top % safe if mod else upper * top // safe
            return np.minimum(np.where(lower == 0, 0, result), top).astype(np.int32)

        return self._combine(a, 3, "div", rule)

    def min(self, *args: Any, **kw: Any) -> Self:
        """Take the smaller value: ``min(other, mask)``."""
        return self._combine(self._begin(args, kw), 1, "min", lambda x, y, top: np.minimum(x, y))

    def max(self, *args: Any, **kw: Any) -> Self:
        """Take the larger value: ``max(other, mask)``."""
        return self._combine(self._begin(args, kw), 1, "max", lambda x, y, top: np.maximum(x, y))

    def difference(self, *args: Any, **kw: Any) -> Self:
        """Take the distance: ``difference(other, mask)``."""
        return self._combine(self._begin(args, kw), 1, "difference", lambda x, y, top: np.abs(x - y))

    def blend(self, *args: Any, **kw: Any) -> Self:
        """Mix: ``blend(other, alpha=128, mask)``; 256 keeps the image as it is."""
        a = self._begin(args, kw)
        alpha = _f(a.integer(1, "alpha", 128)) / _f(256)
        check(bool(0 <= alpha <= 1), "Error: 0 <= alpha <= 256!")
        beta = _f(1) - alpha
        return self._combine(
            a, 2, "blend", lambda x, y, top: (x.astype(_f) * alpha + y.astype(_f) * beta).astype(np.int32)
        )

    def negate(self, *args: Any, **kw: Any) -> Self:
        """Turn every value v into largest - v."""
        positional(args, kw, 0)
        self._need_mutable()
        channels = zip(self._split(self._pixels), MAXIMA[self._format], strict=True)
        return self._put(self._join([top - c for c, top in channels]), None, "negate")

    def replace(self, *args: Any, **kw: Any) -> Self:
        """Replace the pixels: ``replace(other=itself, hmirror=0, vflip=0, transpose=0, mask)``."""
        a = Arguments(args, kw)
        self._need_mutable()
        mirror, flip, transpose = a.flag(1, "hmirror"), a.flag(2, "vflip"), a.flag(3, "transpose")
        mask = self._mask(a, 4)
        if transpose and self._format == BINARY:
            grows = (self._h + 31) // 32 * self._w > (self._w + 31) // 32 * self._h
            check(not grows, "Unable to transpose the image because it would grow in size!")
        pixels = np.broadcast_to(self._operand(a.values[0] if a.values else self), self._pixels.shape)
        pixels = pixels[:: -1 if flip else 1, :: -1 if mirror else 1].copy()
        if mask is not None and mirror:
            mask = mask[:, ::-1]
        if transpose:
            pixels = pixels.T
            if mask is not None:
                pixels = np.where(mask.T, pixels, self._pixels.reshape(pixels.shape))
            self._shrink(self._h, self._w, pixels.copy())
            return self._wrote("replace")
        return self._put(pixels, mask, "replace")

    assign = set = replace

    def gamma_corr(self, *args: Any, **kw: Any) -> Self:
        """Bend the levels: ``gamma_corr(gamma=1.0, contrast=1.0, brightness=0.0)``."""
        a = Arguments(args, kw)
        self._need_mutable()
        gamma = _f(a.number(0, "gamma", 1.0))
        contrast, brightness = _f(a.number(1, "contrast", 1.0)), _f(a.number(2, "brightness", 0.0))
        exponent = _f(1) / gamma if gamma else _f(0)
        channels = []
        for channel, top in zip(self._split(self._pixels), MAXIMA[self._format], strict=True):
            level = np.arange(top + 1, dtype=_f) * (_f(1) / _f(top))
            with np.errstate(over="ignore", invalid="ignore"):
                bent = fma(fast_pow(level, exponent), contrast, brightness) * _f(top)
            limited = np.clip(np.nan_to_num(np.trunc(bent), nan=top), 0, top)  # no number becomes the largest
            channels.append(limited.astype(np.int32).take(channel))
        return self._put(self._join(channels), None, "gamma_corr")

"""Filters over square neighbourhoods. Source: OpenMV's ``filter.c`` and ``py_image.c`` in MaixPy-v1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from openkpu.maixpy.image.arguments import Arguments, check, get_int, get_items
from openkpu.maixpy.image.core import BINARY, RGB565
from openkpu.maixpy.image.fast_math import fma
from openkpu.maixpy.image.operands import MAXIMA, Ints, Operands, by_rows, get_ksize, window_sum
from openkpu.maixpy.image.pixels import gray_table, words_from_yuv, yuv_table

_f = np.float32


class Filters(Operands):
    """mean, median, mode, midpoint, morph, gaussian, laplacian, histeq.

    All take ``threshold``, ``offset``, ``invert`` and ``mask``: with a threshold a pixel becomes white where the
    filtered value minus the offset is below it.
    """

    __slots__ = ()

    def mean(self, *args: Any, **kw: Any) -> Self:
        """Average: ``mean(ksize, threshold=False, offset=0, invert=False, mask)``."""
        a, k = self._filter(args, kw)
        share = _f(1) / _f((2 * k + 1) ** 2)
        return self._filtered(a, 1, "mean", lambda c, top: (window_sum(c, k).astype(_f) * share).astype(np.int32))

    def median(self, *args: Any, **kw: Any) -> Self:
        """Take the value at a rank: ``median(ksize, percentile=0.5, threshold, offset, invert, mask)``."""
        a, k = self._filter(args, kw)
        percentile = _f(a.number(1, "percentile", 0.5))
        check(bool(0 <= percentile <= 1), "Error: 0 <= percentile <= 1!")
        rank = int(percentile * _f((2 * k + 1) ** 2 - 1))

        def ranked(near: list[Ints]) -> Ints:
            result: Ints = np.partition(np.stack(near).astype(np.int16), rank, axis=0)[rank].astype(np.int32)
            return result

        return self._filtered(a, 2, "median", lambda c, top: by_rows(c, k, ranked))

    def mode(self, *args: Any, **kw: Any) -> Self:
        """Take the most frequent value, of several the first to get there: ``mode(ksize, threshold, offset, ...)``."""
        a, k = self._filter(args, kw)
        return self._filtered(a, 1, "mode", lambda c, top: by_rows(c, k, _most_frequent))

    def midpoint(self, *args: Any, **kw: Any) -> Self:
        """Mix the extremes: ``midpoint(ksize, bias=0.5, threshold, offset, invert, mask)``."""
        a, k = self._filter(args, kw)
        bias = _f(a.number(1, "bias", 0.5))
        check(bool(0 <= bias <= 1), "Error: 0 <= bias <= 1!")

        def mixed(near: list[Ints]) -> Ints:
            low, high = np.min(near, axis=0).astype(_f), np.max(near, axis=0).astype(_f)
            result: Ints = fma(low, _f(1) - bias, high * bias).astype(np.int32)
            return result

        return self._filtered(a, 2, "midpoint", lambda c, top: by_rows(c, k, mixed))

    def morph(self, *args: Any, **kw: Any) -> Self:
        """Convolve: ``morph(ksize, kernel, mul=1/sum, add=0, threshold, offset, invert, mask)``."""
        a, k = self._filter(args, kw, 2)
        kernel = [get_int(v) for v in get_items(a.values[1], (2 * k + 1) ** 2)]
        return self._convolved(a, k, kernel, sum(kernel) or 1, "morph")

    def gaussian(self, *args: Any, **kw: Any) -> Self:
        """Blur: ``gaussian(ksize, unsharp=False, mul, add, threshold, offset, invert, mask)``."""
        a, k = self._filter(args, kw)
        kernel, total = _pascal(k)
        if a.flag(1, "unsharp"):
            kernel[len(kernel) // 2] -= total * 2
            total = -total
        return self._convolved(a, k, kernel, total, "gaussian")

    blur = gaussian_blur = gaussian

    def laplacian(self, *args: Any, **kw: Any) -> Self:
        """Find edges: ``laplacian(ksize, sharpen=False, mul, add, threshold, offset, invert, mask)``."""
        a, k = self._filter(args, kw)
        kernel, total = _pascal(k)
        kernel = [-v for v in kernel]
        middle = len(kernel) // 2
        kernel[middle] += total
        total = kernel[middle]
        if a.flag(1, "sharpen"):
            kernel[middle] += total
        return self._convolved(a, k, kernel, total, "laplacian")

    def histeq(self, *args: Any, **kw: Any) -> Self:
        """Spread the levels evenly: ``histeq(adaptive=False, clip_limit=-1, mask)``."""
        a = Arguments(args, kw)
        self._need_mutable()
        if a.flag(0, "adaptive"):
            raise RuntimeError("openkpu board: image.histeq(adaptive=True) is not simulated")
        mask = self._mask(a, 2)
        if self._format == RGB565:
            full = self._host.full_firmware
            levels, top = gray_table(full).take(self._pixels), 255
        else:
            levels, top = self._pixels, MAXIMA[self._format][0]
        below = np.bincount(levels.reshape(-1), minlength=top + 1).cumsum()
        even = (_f(top) / _f(self._w * self._h) * below.astype(_f)).astype(np.int64).take(levels)
        if self._format == RGB565:
            yuv = yuv_table(full)[self._pixels]
            return self._put(words_from_yuv(even & 0xFF, yuv[..., 1], yuv[..., 2]), mask, "histeq")
        return self._put((even & (1 if self._format == BINARY else 0xFF)).astype(np.uint8), mask, "histeq")

    # -- shared -----------------------------------------------------------------------------------------------------
    def _filter(self, args: tuple[Any, ...], kw: dict[str, Any], required: int = 1) -> tuple[Arguments, int]:
        a = Arguments(args, kw, required)
        self._need_mutable()
        return a, get_ksize(a.values[0])

    def _convolved(self, a: Arguments, ksize: int, kernel: list[int], total: int, call: str) -> Self:
        scale = _f(a.number(2, "mul", 0)) if a.has(2, "mul") else (_f(1) / _f(total) if total else _f(np.inf))
        add = int(a.number(3, "add", 0.0))

        def rule(c: Ints, top: int) -> Ints:
            total = np.zeros(c.shape, np.int64)
            padded = np.pad(c, ksize, mode="edge")
            size = 2 * ksize + 1
            for at, weight in enumerate(kernel):
                if weight:
                    y, x = divmod(at, size)
                    total += weight * padded[y : y + c.shape[0], x : x + c.shape[1]]
            with np.errstate(invalid="ignore"):
                scaled = np.nan_to_num(total.astype(_f) * scale, nan=0)
            result: Ints = np.clip(np.trunc(scaled) + add, 0, top).astype(np.int32)
            return result

        return self._filtered(a, 4, call, rule)

    def _filtered(self, a: Arguments, position: int, call: str, rule: Callable[[Ints, int], Ints]) -> Self:
        """Run a rule on every channel; ``position`` is that of the argument ``threshold``."""
        threshold = a.flag(position, "threshold")
        offset = a.integer(position + 1, "offset", 0)
        invert = a.flag(position + 2, "invert")
        mask = self._mask(a, position + 3)
        channels = zip(self._split(self._pixels), MAXIMA[self._format], strict=True)
        pixels = self._join([rule(c, top) for c, top in channels])
        if threshold:
            level = self._luma(pixels).astype(np.int64) - offset
            if self._format == BINARY:  # compared without sign
                level = level % (1 << 32)
            white = (level < self._luma(self._pixels)) ^ invert
            on = {BINARY: 1, RGB565: 0xFFFF}.get(self._format, 255)
            pixels = np.where(white, on, 0).astype(pixels.dtype)
        return self._put(pixels, mask, call)


def _pascal(ksize: int) -> tuple[list[int], int]:
    """Return the square kernel of binomial coefficients and its sum."""
    row = [1]
    for i in range(2 * ksize):
        row.append(row[i] * (2 * ksize - i) // (i + 1))
    kernel = [x * y for x in row for y in row]
    return kernel, sum(kernel)


def _most_frequent(near: list[Ints]) -> Ints:
    """Return the value whose count first exceeds all counts before, in the order of the neighbours."""
    best = np.zeros(near[0].shape, np.int32)
    mode = np.zeros(near[0].shape, np.int32)
    for i, value in enumerate(near):
        count = np.ones(value.shape, np.int32)
        for earlier in near[:i]:
            count += earlier == value
        more = count > best
        best[more] = count[more]
        mode[more] = value[more]
    return mode

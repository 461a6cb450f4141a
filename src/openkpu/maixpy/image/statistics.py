"""Histograms and what is computed from them. Source: OpenMV's ``stats.c`` and ``py_image.c`` in MaixPy-v1.

RGB565 images have three histograms in CIELAB: L 0..100, A and B -128..127. Everything is float32.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import Arguments, check, divide, get_float
from openkpu.maixpy.image.core import BINARY, GRAYSCALE, RGB565
from openkpu.maixpy.image.fast_math import fma
from openkpu.maixpy.image.operands import Operands, get_thresholds
from openkpu.maixpy.image.pixels import lab_table
from openkpu.maixpy.image.records import Record

_f = np.float32
Bins = NDArray[np.float32]
RANGES: Final = {BINARY: ((0, 1),), GRAYSCALE: ((0, 255),), RGB565: ((0, 100), (-128, 127), (-128, 127))}
"""The least and the largest value of each histogram of a format."""
_STATISTICS: Final = ("mean", "median", "mode", "stdev", "min", "max", "lq", "uq")


class _OfFormat(Record):
    """Values of one or three channels, printed with or without the channels' letters."""

    __slots__ = ("_channels",)
    PLAIN: tuple[str, ...] = ()

    def __init__(self, values: tuple[Any, ...], channels: int) -> None:
        super().__init__(values + (0,) * (3 * len(self.PLAIN) - len(values)))
        self._channels = channels

    def __repr__(self) -> str:
        names = self.PLAIN if self._channels == 1 else tuple(f"{c}_{n}" for c in "lab" for n in self.PLAIN)
        pairs = zip(names, self._values, strict=False)
        return "{" + ", ".join(f'"{name}":{value}' for name, value in pairs) + "}"


def _with_letters(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{c}_{n}" for c in "lab" for n in names)


class Statistics(_OfFormat):
    """What ``get_statistics`` returns: mean, median, mode, stdev, min, max, quartiles of each channel."""

    __slots__ = ()
    NAME = "statistics"
    PLAIN = _STATISTICS
    FIELDS = _with_letters(_STATISTICS)


class Percentile(_OfFormat):
    """What ``get_percentile`` returns."""

    __slots__ = ()
    NAME = "percentile"
    PLAIN = ("value",)
    FIELDS = _with_letters(("value",))

    def __repr__(self) -> str:
        if self._channels == 1:
            return super().__repr__()
        return '{{"l_value:{}", "a_value":{}, "b_value":{}}}'.format(*self._values)  # the quote is the firmware's


class OtsuThreshold(Percentile):
    """What ``get_threshold`` returns."""

    __slots__ = ()
    NAME = "threshold"


for _type in (Statistics, Percentile, OtsuThreshold):
    for _at, _name in enumerate(_type.PLAIN):
        setattr(_type, _name, getattr(_type, _type.FIELDS[_at]))


class Histogram(Record):
    """What ``get_histogram`` returns: the share of the pixels in each bin."""

    __slots__ = ("_format",)
    NAME = "histogram"
    FIELDS = ("l_bins", "a_bins", "b_bins")

    def __init__(self, kind: str, bins: list[Bins]) -> None:
        lists = [[float(v) for v in b] for b in bins]
        super().__init__(tuple(lists + [[]] * (3 - len(lists))))
        self._format = kind

    def __repr__(self) -> str:
        names = self.FIELDS if self._format == RGB565 else ("bins",)
        parts = [f'"{n}":[{", ".join(_short(v) for v in b)}]' for n, b in zip(names, self._values, strict=False)]
        return "{" + ", ".join(parts) + "}"

    def bins(self) -> list[float]:
        """Return the bins of the first channel."""
        values: list[float] = self._values[0]
        return values

    def _channels(self) -> list[tuple[Bins, tuple[int, int]]]:
        return [(np.array(b, _f), r) for b, r in zip(self._values, RANGES[self._format], strict=False)]

    def get_percentile(self, percentile: float) -> Percentile:
        """Return the value below which a share 0..1 of the pixels lies."""
        share = _f(get_float(percentile))
        values = [_percentile(bins, limits, share) for bins, limits in self._channels()]
        return Percentile(tuple(values), len(values))

    def get_threshold(self) -> OtsuThreshold:
        """Return Otsu's threshold."""
        values = [_wrapped(divide(_otsu(b) * (high - low), len(b) - 1), low) for b, (low, high) in self._channels()]
        return OtsuThreshold(tuple(values), len(values))

    def get_statistics(self) -> Statistics:
        """Return the statistics."""
        values = [v for bins, limits in self._channels() for v in _statistics(bins, limits)]
        return Statistics(tuple(values), len(values) // len(_STATISTICS))

    get_stats = statistics = get_statistics


class Histograms(Operands):
    """get_histogram and get_statistics."""

    __slots__ = ()

    def get_histogram(self, *args: Any, **kw: Any) -> Histogram:
        """Count colours: ``get_histogram(thresholds, invert=False, roi, bins, l_bins, a_bins, b_bins)``."""
        a = Arguments(args, kw)
        self._need_mutable()
        thresholds = get_thresholds(a.get(0, "thresholds")) if a.has(0, "thresholds") else []
        invert = a.flag(1, "invert")
        x, y, w, h = a.roi(2, self._w, self._h)
        ranges = RANGES[self._format]
        counts = []
        for name, (low, high) in zip("lab", ranges, strict=False):
            bins = a.integer(len(args), "bins", high - low + 1)
            check(bins >= 2, "bins must be >= 2")
            counts.append(a.integer(len(args), f"{name}_bins", bins))
            check(counts[-1] >= 2, f"{name}_bins must be >= 2")
        pixels = self._pixels[y : y + h, x : x + w].reshape(-1)
        # A pixel counts once for every threshold that it meets.
        seen = [pixels[self._within(t, invert, pixels)] for t in thresholds]
        return Histogram(self._format, self._bins(np.concatenate(seen) if seen else pixels, counts, w * h))

    get_hist = histogram = get_histogram

    def get_statistics(self, *args: Any, **kw: Any) -> Statistics:
        """Return the statistics of ``get_histogram`` with the same arguments."""
        return self.get_histogram(*args, **kw).get_statistics()

    get_stats = statistics = get_statistics

    def _bins(self, pixels: NDArray[Any], counts: list[int], area: int) -> list[Bins]:
        channels: list[NDArray[Any]] = [pixels]
        if self._format == RGB565:
            lab = lab_table(self._host.full_firmware)
            channels = [lab[:, c].take(pixels) for c in range(3)]
        share = _f(1) / _f(area)
        result = []
        for channel, count, (low, high) in zip(channels, counts, RANGES[self._format], strict=True):
            scale = _f(count - 1) * (_f(1) / _f(high - low))
            at = ((channel.astype(np.int32) - low).astype(_f) * scale).astype(np.int64)
            result.append((np.bincount(at, minlength=count).astype(_f) * share).astype(_f))
        return result


def _short(value: float) -> str:
    """Print a float as MicroPython does with 32 bits: about seven digits, always with a point."""
    text = f"{value:.7g}"
    return text if any(c in text for c in ".en") else text + ".0"


def _percentile(bins: Bins, limits: tuple[int, int], share: Any) -> int:
    scale = _f(limits[1] - limits[0]) / _f(len(bins) - 1)
    below = _f(0)
    for i, part in enumerate(bins):
        if below < share <= below + part:
            return int(fma(_f(i), scale, _f(limits[0])))
        below = below + part
    return 0


def _wrapped(value: int, low: int) -> int:
    """Store a value in 8 bits: the firmware forgets to add the least value of A and B, so that theirs overflow."""
    return (value - low) % 256 + low if low else value % 256


def _otsu(bins: Bins) -> int:
    """Return the bin that separates best."""
    count = np.cumsum(bins, dtype=_f)
    weighted = np.cumsum(np.arange(len(bins), dtype=_f) * bins, dtype=_f)
    c, w = count[:-1], weighted[:-1]
    apart = (c != 0) & (c != 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(apart, (c * weighted[-1] - w) ** 2 / (c * (_f(1) - c)), _f(0))
    best = int(np.argmax(variance))
    return best if variance[best] > 0 else 0


def _statistics(bins: Bins, limits: tuple[int, int]) -> tuple[int, ...]:
    """Return mean, median, mode, stdev, min, max, lq, uq of one histogram."""
    low, high = limits
    scale = _f(high - low) / _f(len(bins) - 1)
    result = dict.fromkeys(_STATISTICS, 0)
    mean = square = below = most = _f(0)
    empty = True
    for i, part in enumerate(bins):
        exact = fma(_f(i), scale, _f(low))
        value = int(exact)
        mean = fma(exact, part, mean)
        square = fma(exact * exact, part, square)
        for name, share in (("lq", 0.25), ("median", 0.5), ("uq", 0.75)):
            if below < share <= below + part:
                result[name] = value
        if part > most:
            most = part
            result["mode"] = value
        if part > 0:
            if empty:
                result["min"], empty = value, False
            result["max"] = value
        below = below + part
    result["mean"] = int(mean)
    spread = fma(-mean, mean, square)
    result["stdev"] = int(np.sqrt(spread)) if spread > 0 else 0
    return tuple(result[name] for name in _STATISTICS)

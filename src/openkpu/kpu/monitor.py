"""What a KPU layer did out of range, counted while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from openkpu.k210 import ACCUMULATOR_BITS

_LOW: Final = -(1 << (ACCUMULATOR_BITS - 1))
_HIGH: Final = (1 << (ACCUMULATOR_BITS - 1)) - 1


@dataclass(slots=True)
class Monitor:
    """Counters over every position that the KPU computes, those that a pool drops included.

    The chip holds the convolution result and the batch-norm result in signed 36 bits; the vendor's simulator asserts
    it, and what the chip does beyond is not known. ``*_min`` and ``*_max`` are the extremes (None before anything ran).
    """

    values: int = 0
    """Results looked at."""
    conv_overflow: int = 0
    """Convolution results outside signed 36 bits."""
    bn_overflow: int = 0
    """Batch-norm results outside signed 36 bits."""
    no_segment: int = 0
    """Results below every segment of the activation table (segment 0 was used)."""
    conv_min: int | None = None
    conv_max: int | None = None
    bn_min: int | None = None
    bn_max: int | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing was out of range."""
        return not (self.conv_overflow or self.bn_overflow or self.no_segment)

    def see_conv(self, alu: NDArray[np.int64]) -> None:
        """Account for convolution results."""
        self.values += alu.size
        self.conv_overflow += _outside(alu)
        self.conv_min, self.conv_max = _extend(self.conv_min, self.conv_max, alu)

    def see_bn(self, bn: NDArray[np.int64]) -> None:
        """Account for batch-norm results."""
        self.bn_overflow += _outside(bn)
        self.bn_min, self.bn_max = _extend(self.bn_min, self.bn_max, bn)

    def see_no_segment(self, count: int) -> None:
        """Account for ``count`` results that matched no segment."""
        self.no_segment += count


def _outside(a: NDArray[np.int64]) -> int:
    return int(np.count_nonzero((a < _LOW) | (a > _HIGH)))


def _extend(low: int | None, high: int | None, a: NDArray[np.int64]) -> tuple[int | None, int | None]:
    if not a.size:
        return low, high
    a_low, a_high = int(a.min()), int(a.max())
    return (a_low if low is None else min(low, a_low)), (a_high if high is None else max(high, a_high))

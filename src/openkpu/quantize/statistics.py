"""What calibration remembers of a tensor: extremes of each channel and a sample of the values, picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.quantize.native import loops

SAMPLES_PER_PICTURE = 4096

Floats = NDArray[np.float32]


class Statistics:
    """Statistics of a float tensor of a shape (1, C, ...) over the calibration pictures."""

    def __init__(self, shape: tuple[int, ...], pictures: int) -> None:
        channels = shape[1] if len(shape) > 1 else 1
        size = int(np.prod(shape))
        self._step = -(-size // SAMPLES_PER_PICTURE) | 1  # odd: it walks through all columns of even-sized maps
        self._lows, self._highs = (np.empty((pictures, channels), np.float32) for _ in range(2))
        self._samples = np.empty((pictures, -(-size // self._step)), np.float32)
        self._count = 0
        self._part: list[int] | None = None

    def add(self, x: Floats) -> bool:
        """Take in the next picture's values; returns whether all are finite."""
        i = self._count
        self._count = i + 1
        native = loops()
        if native is not None:
            values = np.ascontiguousarray(x).reshape(-1)
            return bool(native.observe(values, self._step, i, self._lows, self._highs, self._samples))
        flat = x.reshape(self._lows.shape[1], -1)
        self._lows[i], self._highs[i] = flat.min(1), flat.max(1)
        self._samples[i] = x.reshape(-1)[:: self._step]
        return bool(np.isfinite(self._lows[i]).all() and np.isfinite(self._highs[i]).all())

    def of(self, pictures: Sequence[int]) -> Statistics:
        """Return the statistics of some of the pictures."""
        part = Statistics.__new__(Statistics)
        part.__dict__.update({k: v for k, v in self.__dict__.items() if k.startswith("_")})
        part._part = list(pictures)
        return part

    @property
    def _rows(self) -> slice | list[int]:
        return slice(0, self._count) if self._part is None else self._part

    @cached_property
    def low(self) -> NDArray[np.float64]:
        """Least value of each channel."""
        return np.asarray(self._lows[self._rows].min(0), np.float64)

    @cached_property
    def high(self) -> NDArray[np.float64]:
        """Greatest value of each channel."""
        return np.asarray(self._highs[self._rows].max(0), np.float64)

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """Least and greatest value seen."""
        return float(self.low.min()), float(self.high.max())

    def values(self) -> Floats:
        """All sampled values."""
        found: NDArray[Any] = self._samples[self._rows]
        return found.reshape(-1)

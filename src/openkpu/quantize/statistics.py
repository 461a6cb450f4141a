"""What calibration remembers of a tensor: extremes of each channel and a sample of the values, picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SAMPLES_PER_PICTURE = 4096


@dataclass(slots=True)
class Statistics:
    """Statistics of a float tensor (1, C, ...) over the calibration pictures."""

    lows: list[NDArray[np.float32]] = field(default_factory=list)
    highs: list[NDArray[np.float32]] = field(default_factory=list)
    samples: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, x: NDArray[np.float32]) -> None:
        """Take in one picture's values."""
        flat = x.reshape(x.shape[1], -1) if x.ndim > 1 else x.reshape(1, -1)
        self.lows.append(flat.min(1))
        self.highs.append(flat.max(1))
        step = -(-x.size // SAMPLES_PER_PICTURE) | 1  # odd, so that it walks through all columns of even-sized maps
        self.samples.append(x.reshape(-1)[::step].copy())

    def of(self, pictures: Sequence[int]) -> Statistics:
        """Return the statistics of some of the pictures."""
        return Statistics(*([part[i] for i in pictures] for part in (self.lows, self.highs, self.samples)))

    @property
    def low(self) -> NDArray[np.float64]:
        """Least value of each channel."""
        return np.asarray(np.min(self.lows, axis=0), np.float64)

    @property
    def high(self) -> NDArray[np.float64]:
        """Greatest value of each channel."""
        return np.asarray(np.max(self.highs, axis=0), np.float64)

    @property
    def extremes(self) -> tuple[float, float]:
        """Least and greatest value seen."""
        return float(self.low.min()), float(self.high.max())

    def values(self) -> NDArray[np.float32]:
        """All sampled values."""
        return np.concatenate(self.samples)

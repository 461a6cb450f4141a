"""What calibration remembers of a tensor: extremes, per-channel extremes and means, and a sample of its values."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SAMPLES_PER_PICTURE = 8192


@dataclass(slots=True)
class Statistics:
    """Running statistics of a float tensor (1, C, ...) over the calibration pictures."""

    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    total: NDArray[np.float64] | None = None
    count: int = 0
    samples: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, x: NDArray[np.float32]) -> None:
        """Take in one picture's values."""
        flat = x.reshape(x.shape[1], -1) if x.ndim > 1 else x.reshape(1, -1)
        low, high = flat.min(1).astype(np.float64), flat.max(1).astype(np.float64)
        mean = flat.mean(1, dtype=np.float64)
        if self.low is None or self.high is None or self.total is None:
            self.low, self.high, self.total = low, high, mean
        else:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
            self.total = self.total + mean
        self.count += 1
        step = -(-x.size // SAMPLES_PER_PICTURE) | 1  # odd, so that it walks through all columns of even-sized maps
        self.samples.append(x.reshape(-1)[::step].copy())

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each channel."""
        assert self.total is not None
        return np.asarray(self.total / self.count)

    @property
    def extremes(self) -> tuple[float, float]:
        """Least and greatest value seen."""
        assert self.low is not None
        assert self.high is not None
        return float(self.low.min()), float(self.high.max())

    def values(self) -> NDArray[np.float32]:
        """All sampled values."""
        return np.concatenate(self.samples)

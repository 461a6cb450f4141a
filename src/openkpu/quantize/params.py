"""How a uint8 tensor stands for real numbers: ``real = scale[c] * (q - zero_point) + offset[c]``.

The scale may differ from channel to channel: a KPU layer can scale each output channel through batch norm, and the
next layer's weights take the factor in. ``offset`` is 0 except at the model's input, where a mean that is not a whole
number cannot be the zero point, and in concatenations, whose parts share one zero point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class QParams:
    """Quantisation of one tensor; ``scale`` and ``offset`` are float64 (channels,)."""

    scale: Floats
    zero_point: int
    offset: Floats

    @classmethod
    def uniform(cls, scale: float, zero_point: int, channels: int) -> QParams:
        """One scale for all channels, no offset."""
        return cls(np.full(channels, float(scale)), zero_point, np.zeros(channels))

    @property
    def is_uniform(self) -> bool:
        """Whether all channels share scale and offset."""
        return bool(np.ptp(self.scale) == 0 and np.ptp(self.offset) == 0)

    @property
    def bias(self) -> Floats:
        """``real = scale * q + bias``, float64 (channels,)."""
        return np.asarray(self.offset - self.scale * self.zero_point)

    def dequantize(self, q: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn uint8 (N, C, ...) into float32."""
        if self.is_uniform:  # whatever the axes are
            return np.asarray(q * np.float32(self.scale[0]) + np.float32(self.bias[0]), np.float32)
        shape = (1, -1, *[1] * (q.ndim - 2))
        scale, bias = self.scale.astype(np.float32).reshape(shape), self.bias.astype(np.float32).reshape(shape)
        return np.asarray(q * scale + bias, np.float32)

    def quantize(self, x: NDArray[Any]) -> NDArray[np.uint8]:
        """Turn real numbers (N, C, ...) into uint8, rounding to nearest and clamping."""
        if self.is_uniform:
            return np.asarray(np.clip(np.rint((x - self.bias[0]) / self.scale[0]), 0, 255).astype(np.uint8))
        shape = (1, -1, *[1] * (x.ndim - 2))
        return np.clip(np.rint((x - self.bias.reshape(shape)) / self.scale.reshape(shape)), 0, 255).astype(np.uint8)

    def part(self, channels: slice) -> QParams:
        """Describe some of the channels."""
        return QParams(self.scale[channels], self.zero_point, self.offset[channels])

    @classmethod
    def side_by_side(cls, parts: list[QParams]) -> QParams:
        """Describe concatenated parts with one zero point; differences go to the offset."""
        zp = parts[0].zero_point
        offsets = [p.offset + p.scale * (zp - p.zero_point) for p in parts]
        return cls(np.concatenate([p.scale for p in parts]), zp, np.concatenate(offsets))


def from_range(low: float, high: float, channels: int) -> QParams:
    """Return the asymmetric parameters for [low, high]; 0 is always inside and exactly representable."""
    low, high = min(0.0, low), max(0.0, high)
    if high - low < 1e-12:
        high = low + 1.0
    step = (high - low) / 255
    # an end within half a step of 0 counts as 0; otherwise both ends stay inside: of the two zero points beside the
    # exact one, the one with the finer scale
    if -low < step / 2:
        return QParams.uniform(high / 255, 0, channels)
    if high < step / 2:
        return QParams.uniform(-low / 255, 255, channels)
    below = min(max(int(-low / step), 1), 253)
    scale, zero_point = min((max(high / (255 - zp), -low / zp), zp) for zp in (below, below + 1))
    return QParams.uniform(scale, zero_point, channels)
